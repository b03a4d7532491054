"""What RQ says of a job, as words of tenant_q."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from ... import errors
from ...options import Backoff
from .._call import Again, name_of, resolve
from .._common import find
from .._unsupported import Unsupported, refuse
from .exceptions import InvalidJobDependency

__all__ = ["CALLBACK", "JOB_WORDS", "Callback", "Dependency", "Repeat", "Retry", "job_words", "split"]

#: the handler that calls callbacks
CALLBACK = "tenant_q.callback"
#: what stands for "for ever"
_FOR_EVER = timedelta(days=36500)

JOB_WORDS = (
    "job_timeout", "timeout", "description", "result_ttl", "ttl", "failure_ttl", "depends_on", "job_id", "at_front",
    "meta", "retry", "repeat", "on_success", "on_failure", "on_stopped", "rate_limit", "webhooks", "pipeline", "unique",
    "group_id",
)  # fmt: skip
_COUNTERPARTS = {
    "failure_ttl": "How long failures are kept is the tenant's: tq_set_tenant(failure_ttl => …), a year where"
    " nothing is said.",
    "rate_limit": "tq_set_limit('key', rate => '10/m'), and limit_key='key' of a tenant_q.task.",
    "webhooks": "Call it by on_success and on_failure.",
    "pipeline": "What is enqueued in one transaction is enqueued together: atomic(), or Queue.enqueue_many().",
}


class Retry(Again):
    """How often a job that fails is tried again, and after how many seconds each. A job that was enqueued with one
    may return one."""

    def __init__(self, max: int, interval: int | Iterable[int] = 0, enqueue_at_front: bool = False) -> None:
        if max < 1:
            raise ValueError("max: please enter a value greater than 0")
        self.max = max
        self.intervals = [interval] if isinstance(interval, int) else list(interval)
        if any(each < 0 for each in self.intervals):
            raise ValueError("interval: negative numbers are not allowed")
        refuse(
            {"enqueue_at_front": enqueue_at_front},
            {
                "enqueue_at_front": "An attempt has its task's priority: at_front=True of the job, or priority"
                " of a tenant_q.task."
            },
            "Retry",
        )

    def words(self) -> dict[str, Any]:
        """As words of `Task.options`."""
        return {"max_attempts": self.max + 1, "retry": Backoff("rq", delays=self.intervals)}

    def error(self, attempt: int) -> Exception:
        if attempt > self.max:
            return errors.Fail(f"it was tried {attempt} times, as often as the Retry that it has returned lets it")
        return errors.Retry(self.intervals[min(attempt, len(self.intervals)) - 1], "the job has returned a Retry")


class Repeat:
    """How often a job that has ended well is run again, and after how many seconds each."""

    def __init__(self, times: int, interval: int | Iterable[int] = 0) -> None:
        if times < 1:
            raise ValueError("times: please enter a value greater than 0")
        self.times = times
        self.intervals = [interval] if isinstance(interval, int) else list(interval)
        if any(each < 0 for each in self.intervals):
            raise ValueError("interval: negative numbers are not allowed")

    @staticmethod
    def get_interval(count: int, intervals: Sequence[int]) -> int:
        """Of the run of this number, from 0; the last one again and again."""
        return intervals[min(count, len(intervals) - 1)]


class Callback:
    """A function that is called when a job has ended."""

    def __init__(self, func: str | Callable[..., Any], timeout: Any = None) -> None:
        if not isinstance(func, str) and not callable(func):
            raise ValueError("Callback `func` must be a string or function")
        refuse(
            {"timeout": timeout},
            {"timeout": "A callback is a task of its own, with the timeout of the tenant's tasks."},
            "Callback",
        )
        self.func = func

    @property
    def name(self) -> str:
        """The function's name."""
        return name_of(self.func)


class Dependency:
    """Jobs that another one waits for."""

    def __init__(self, jobs: Any, allow_failure: bool = False, enqueue_at_front: bool = False) -> None:
        self.dependencies = list(jobs) if isinstance(jobs, (list, tuple)) else [jobs]
        if not self.dependencies:
            raise ValueError("jobs: cannot be empty.")
        self.allow_failure = allow_failure
        refuse(
            {"enqueue_at_front": enqueue_at_front},
            {"enqueue_at_front": "Say at_front=True of the job itself."},
            "Dependency",
        )


def split(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any], dict[str, Any]]:
    """What enqueue() is given, as arguments and keywords of the function, and what is said of the job."""
    own = dict(kwargs)
    said = {word: own.pop(word) for word in JOB_WORDS if word in own and word != "timeout"}
    if "args" in own or "kwargs" in own:
        if args:
            raise TypeError("extra positional arguments cannot be used when using explicit args and kwargs")
        return tuple(own.pop("args", None) or ()), dict(own.pop("kwargs", None) or {}), said
    return args, own, said


def length(given: Any) -> Any:
    """RQ's lengths of time: seconds, '10m', -1 for ever."""
    if isinstance(given, str):
        found = re.fullmatch(r"(\d+)([hms]?)", given.strip().lower())
        if not found:
            raise Unsupported(f"{given!r} is no length of time", hint="Pass seconds, or '1h', '30m', '10s'.")
        return int(found[1]) * {"h": 3600, "m": 60, "s": 1, "": 1}[found[2]]
    return _FOR_EVER if given == -1 else given


def job_words(said: Mapping[str, Any], queue: Any) -> dict[str, Any]:
    """Words of `Task.options`."""
    refuse({**said, "failure_ttl": True if said.get("failure_ttl") is not None else None}, _COUNTERPARTS, "enqueue()")
    words: dict[str, Any] = {"max_attempts": 1}
    if queue.name != "default":
        words["queue"] = queue.name
    timeout = said.get("job_timeout", said.get("timeout"))
    timeout = queue._default_timeout if timeout is None else timeout
    if timeout is not None:
        words["timeout"] = length(timeout)
    if said.get("result_ttl") is not None:
        words.update({"save": False} if said["result_ttl"] == 0 else {"result_ttl": length(said["result_ttl"])})
    if said.get("ttl") is not None and said["ttl"] != -1:
        words["expires"] = length(said["ttl"])
    if said.get("at_front"):
        words["priority"] = 32767
    if said.get("retry") is not None:
        retry = said["retry"]
        words.update((retry if isinstance(retry, Retry) else Retry(int(retry))).words())
    if said.get("group_id"):
        words["group_id"] = said["group_id"]
    _identity(said, words)
    _depends(said.get("depends_on"), words)
    _meta(said, words)
    return words


def _identity(said: Mapping[str, Any], words: dict[str, Any]) -> None:
    id = said.get("job_id")
    if id is not None:
        words["name"] = str(id)
    if said.get("unique"):
        if id is None:
            raise ValueError("unique=True requires an explicit job_id")
        if said.get("depends_on"):
            raise ValueError("unique=True is not supported with depends_on")
        words.update(unique_key=str(id), unique_until="deleted")


def _depends(given: Any, words: dict[str, Any]) -> None:
    if not given:
        return
    ids = []
    for each in given if isinstance(given, (list, tuple)) else [given]:
        if isinstance(each, Dependency):
            words["allow_failure"] = words.get("allow_failure", True) and each.allow_failure
        for job in each.dependencies if isinstance(each, Dependency) else [each]:
            id = getattr(job, "uuid", None) or find(job)
            if id is None:
                raise InvalidJobDependency(
                    f"there is no job {job}", hint="It is not kept any more: enqueue without it, if it has ended well."
                )
            ids.append(id)
    words["depends_on"] = ids


def _meta(said: Mapping[str, Any], words: dict[str, Any]) -> None:
    own: dict[str, Any] = {}
    if said.get("description") is not None:
        own["description"] = str(said["description"])
    for word in ("on_success", "on_failure", "on_stopped"):
        callback = said.get(word)
        if callback is not None:
            name = callback.name if isinstance(callback, Callback) else name_of(callback)
            resolve(name)
            own[word] = name
            words["on_success" if word == "on_success" else "on_failure"] = CALLBACK
    if "on_stopped" in own:
        # Told of every end: a cancelled job is no failed one.
        words.pop("on_success", None), words.pop("on_failure", None)
        words["hook"] = CALLBACK
    repeat = said.get("repeat")
    if repeat is not None:
        own["repeat"] = {"times": repeat.times, "intervals": repeat.intervals, "done": 0}
        if "hook" not in words:
            words["on_success"] = CALLBACK
    meta = dict(said.get("meta") or {})
    if own:
        meta["rq"] = own
    if meta:
        words["meta"] = meta
