"""What may be said of a task: when it is declared (`TaskOptions`, words of tq_register) and when it is enqueued
(`CallOptions`, words of tq_async).

Lengths of time are seconds, timedeltas, or PostgreSQL's words ('5 minutes', '1 month').
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeAlias
from uuid import UUID

from . import codec
from .errors import InvalidOption, NaiveDatetime, Retry

__all__ = ["Backoff", "CallOptions", "ErrorNames", "Length", "TaskOptions", "call_word", "class_name"]

#: a length of time: seconds, a timedelta, or PostgreSQL's words
Length: TypeAlias = "timedelta | int | float | str"
#: errors: exception classes, names of classes, or first characters of names or SQLSTATEs
ErrorNames: TypeAlias = "type[BaseException] | str | Iterable[type[BaseException] | str]"


_NAME = re.compile(r"[A-Za-z0-9_.]+")


def class_name(kind: type[BaseException]) -> str:
    """How an exception's class is called in retry_on, never_on and in a task's error: module.qualname, of built-in ones
    the name alone; what can't be in a name there, such as <locals>, is _."""
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return name if _NAME.fullmatch(name) else re.sub(r"[^A-Za-z0-9_.]", "_", name)


def error_classes(given: ErrorNames | None) -> tuple[type[BaseException] | str, ...]:
    if given is None:
        return ()
    if isinstance(given, (str, type)):
        given = (given,)
    found = tuple(given)
    for each in found:
        if not (isinstance(each, str) or (isinstance(each, type) and issubclass(each, BaseException))):
            raise InvalidOption(f"{each!r} is no exception class and no name of one")
    return found


def error_names(given: Iterable[type[BaseException] | str]) -> list[str]:
    return [each if isinstance(each, str) else class_name(each) for each in given]


def _seconds(value: Length, what: str) -> float:
    if isinstance(value, str):
        try:
            return codec.parse_duration(value).total_seconds()
        except ValueError as error:
            raise InvalidOption(f"{what}: {error}") from None
    return value.total_seconds() if isinstance(value, timedelta) else float(value)


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before another attempt: tq_backoff, with the same words and meanings.

    kind: fixed, linear, exponential, list, celery, dramatiq, rq or procrastinate
    """

    kind: str = "exponential"
    base: Length | None = None
    factor: float | None = None
    cap: Length | None = None
    jitter: float | None = None
    delays: Iterable[Length] | None = None
    retry_on: ErrorNames | None = None
    never_on: ErrorNames | None = None
    linear: Length | None = None

    def document(self) -> dict[str, Any]:
        """As tq_backoff returns it."""
        found: dict[str, Any] = {"kind": self.kind}
        for name in ("base", "cap", "linear"):
            value = getattr(self, name)
            if value is not None:
                found[name] = _seconds(value, name)
        for name in ("factor", "jitter"):
            value = getattr(self, name)
            if value is not None:
                found[name] = float(value)
        if self.delays is not None:
            found["delays"] = [_seconds(each, "delays") for each in self.delays]
        for name in ("retry_on", "never_on"):
            names = error_names(error_classes(getattr(self, name)))
            if names:
                found[name] = names
        return found


# Words, what they are called in SQL, and what becomes of their values.


def _near(word: str, words: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, words, n=1)
    return f"Did you mean {near[0]}?" if near else "There are: " + ", ".join(words) + "."


def _length(word: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float, str, timedelta)):
        raise InvalidOption(
            f"{word} is {value!r}", hint="Pass seconds, a timedelta, or PostgreSQL's words: '5 minutes'."
        )
    return codec.interval_text(value)


def _moment(word: str, value: Any) -> str:
    if isinstance(value, datetime):
        if value.utcoffset() is None:
            raise NaiveDatetime(
                f"{word} is a datetime without a time zone: {value.isoformat()}",
                hint="Pass one that is aware: datetime.now(timezone.utc), django.utils.timezone.now(); or delay.",
            )
        return value.isoformat()
    if isinstance(value, str):
        return value
    raise InvalidOption(f"{word} is {value!r}", hint="Pass an aware datetime; a length of time is delay.")


def _retry(word: str, value: Any) -> dict[str, Any]:
    if isinstance(value, Backoff):
        return value.document()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (int, float, timedelta)) and not isinstance(value, bool):
        return Backoff("fixed", base=value).document()
    raise InvalidOption(f"{word} is {value!r}", hint="Pass Backoff('exponential', base=10), or seconds.")


def _whole(word: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidOption(f"{word} is {value!r}, and not a whole number")
    return int(value)


def _truth(word: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise InvalidOption(f"{word} is {value!r}, and neither True nor False")
    return value


def _text(word: str, value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidOption(f"{word} is {value!r}, and not text")
    return str(value)


def _handler(word: str, value: Any) -> str:
    name = getattr(value, "name", value)
    if not isinstance(name, str):
        raise InvalidOption(f"{word} is {value!r}", hint="Pass a task, or a handler's name.")
    return name


def _id(word: str, value: Any) -> str:
    value = getattr(value, "id", value)
    try:
        return str(value if isinstance(value, UUID) else UUID(str(value)))
    except ValueError:
        raise InvalidOption(f"{word} is {value!r}, and not a UUID") from None


def _ids(word: str, value: Any) -> list[str]:
    if isinstance(value, (str, UUID)) or hasattr(value, "id"):
        value = [value]
    return [_id(word, each) for each in value]


def _document(word: str, value: Any) -> Any:
    return codec.encode(value, Any, word)


_Convert: TypeAlias = Callable[[str, Any], Any]

#: word → how its value is made what SQL takes
_CALL_WORDS: dict[str, _Convert] = {
    "name": _text,
    "group_id": _text,
    "queue": _text,
    "priority": _whole,
    "run_at": _moment,
    "delay": _length,
    "timeout": _length,
    "max_attempts": _whole,
    "retry": _retry,
    "expires": _length,
    "lock": _text,
    "limit_key": _text,
    "unique_key": _text,
    "unique_until": _text,
    "on_conflict": _text,
    "depends_on": _ids,
    "depends_mode": _text,
    "allow_failure": _truth,
    "on_success": _handler,
    "on_failure": _handler,
    "hook": _handler,
    "save": _truth,
    "result_ttl": _length,
    "meta": _document,
    "id": _id,
    "tenant": _text,
}
_SAME = {"queue_name": "queue", "run_after": "run_at", "group": "group_id"}


def call_word(word: str) -> str:
    """The word of tq_async that is meant; raises `InvalidOption` with the nearest one."""
    found = _SAME.get(word, word)
    if found not in _CALL_WORDS:
        raise InvalidOption(f"there is no option {word}", hint=_near(word, [*_CALL_WORDS, *_SAME]))
    return found


class CallOptions:
    """What one enqueuing says. `values` has SQL's words, and values as SQL and JSON take them; None is left out."""

    __slots__ = ("values",)

    def __init__(self, values: dict[str, Any] | None = None) -> None:
        self.values: dict[str, Any] = values or {}

    @classmethod
    def of(cls, **words: Any) -> CallOptions:
        """Of Python's words; raises `InvalidOption`. queue_name, run_after and group are other names of queue, run_at
        and group_id."""
        values: dict[str, Any] = {}
        for word, value in words.items():
            found = call_word(word)
            if value is not None:
                values[found] = _CALL_WORDS[found](word, value)
        if "delay" in values and "run_at" in values:
            raise InvalidOption("both delay and run_at are given", hint="Say one of them.")
        return cls(values)

    def over(self, other: CallOptions) -> CallOptions:
        """These, and of `other` what these don't say."""
        if not other.values:
            return self
        if not self.values:
            return other
        values = other.values | self.values
        if "delay" in self.values:
            values.pop("run_at", None)
        elif "run_at" in self.values:
            values.pop("delay", None)
        return CallOptions(values)

    @property
    def tenant(self) -> str | None:
        """The tenant that it is for, if it says so."""
        return self.values.get("tenant")

    def document(self) -> dict[str, Any]:
        """As a member of a flow, of tq_async_many or as `task` of a schedule says it: without the tenant."""
        return {word: value for word, value in self.values.items() if word != "tenant"}

    def __bool__(self) -> bool:
        return bool(self.values)

    def __repr__(self) -> str:
        return f"CallOptions({', '.join(f'{word}={value!r}' for word, value in self.values.items())})"


#: keys: text, with {parameter} for an argument, or a function of the arguments
Key: TypeAlias = "str | Callable[..., str | None]"


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskOptions:
    """What a declaration says: of the handler (words of tq_register), of each of its tasks (lock, limit_key, unique_key
    …: words of tq_async that enqueuing in Python adds), and how its function is run (atomic, takes_context,
    retry_if)."""

    queue: str | None = None
    priority: int | None = None
    timeout: Length | None = None
    max_attempts: int | None = None
    retry: Backoff | Mapping[str, Any] | Length | None = None
    retry_on: ErrorNames | None = None
    never_on: ErrorNames | None = None
    retry_if: Callable[[BaseException], bool] | None = None
    expires: Length | None = None
    max_running: int | None = None
    rate: str | None = None
    limit_key: Key | None = None
    lock: Key | None = None
    unique_key: Key | None = None
    unique_until: str | None = None
    on_conflict: str | None = None
    save: bool | None = None
    result_ttl: Length | None = None
    run_as: str | None = None
    aliases: tuple[str, ...] = ()
    shared: bool | None = None
    atomic: bool = True
    takes_context: bool = False
    on_success: Any = None
    on_failure: Any = None
    hook: Any = None

    def policy(self) -> dict[str, Any] | None:
        """The retry policy as the handler is declared with, retry_on and never_on of the task included."""
        found = None if self.retry is None else _retry("retry", self.retry)
        for name, given in (("retry_on", self.retry_on), ("never_on", self.never_on)):
            names = error_names(error_classes(given))
            if names:
                found = found if found is not None else Backoff().document()
                found[name] = list(dict.fromkeys([*found.get(name, []), *names]))
        if found is not None and found.get("retry_on"):
            # Who raises Retry asks for another attempt whatever the list says.
            found["retry_on"] = list(dict.fromkeys([*found["retry_on"], class_name(Retry)]))
        return found

    def listed(self, which: str) -> tuple[type[BaseException] | str, ...]:
        """retry_on or never_on of the task and of its policy together, classes as they were given."""
        own = error_classes(getattr(self, which))
        if isinstance(self.retry, Backoff):
            own += error_classes(getattr(self.retry, which))
        elif isinstance(self.retry, Mapping):
            own += error_classes(self.retry.get(which))
        return own

    def handler_document(self) -> dict[str, Any]:
        """What tq_register is told: words that aren't said are left out."""
        said: dict[str, tuple[Any, _Convert]] = {
            "queue": (self.queue, _text),
            "priority": (self.priority, _whole),
            "timeout": (self.timeout, _length),
            "max_attempts": (self.max_attempts, _whole),
            "expires": (self.expires, _length),
            "max_running": (self.max_running, _whole),
            "rate": (self.rate, _text),
            "run_as": (self.run_as, _text),
            "save": (self.save, _truth),
            "result_ttl": (self.result_ttl, _length),
        }
        found = {word: convert(word, value) for word, (value, convert) in said.items() if value is not None}
        policy = self.policy()
        if policy is not None:
            found["retry"] = policy
        if self.aliases:
            found["aliases"] = list(self.aliases)
        return found

    def per_task(self) -> dict[str, Any]:
        """Words of tq_async that each of its tasks is enqueued with, but for keys that its arguments decide."""
        words = ("unique_until", "on_conflict", "on_success", "on_failure", "hook", "lock", "limit_key", "unique_key")
        given = {word: getattr(self, word) for word in words}
        return {
            w: v
            for w, v in given.items()
            if v is not None and not (callable(v) and w in _KEYS) and not _is_template(w, v)
        }

    def keys(self) -> dict[str, Key]:
        """Keys that its arguments decide."""
        given = {word: getattr(self, word) for word in _KEYS}
        return {w: v for w, v in given.items() if v is not None and (callable(v) or _is_template(w, v))}


_KEYS = ("lock", "limit_key", "unique_key")


def _is_template(word: str, value: Any) -> bool:
    return word in _KEYS and isinstance(value, str) and "{" in value


#: words of @task → words of TaskOptions
TASK_WORDS = {"queue_name": "queue"}


def task_options(**words: Any) -> TaskOptions:
    """Of the words of @task; raises `InvalidOption` with the nearest one."""
    values: dict[str, Any] = {}
    known = list(TaskOptions.__dataclass_fields__)
    for word, value in words.items():
        found = TASK_WORDS.get(word, word)
        if found not in known:
            raise InvalidOption(f"a task has no option {word}", hint=_near(word, [*known, *TASK_WORDS, "name"]))
        values[found] = value
    if isinstance(values.get("aliases"), (list, set, frozenset)):
        values["aliases"] = tuple(values["aliases"])
    elif isinstance(values.get("aliases"), str):
        values["aliases"] = (values["aliases"],)
    options = TaskOptions(**values)
    options.handler_document()  # what makes no sense is said where it is written
    CallOptions.of(**options.per_task())
    options.listed("retry_on"), options.listed("never_on")
    return options
