"""Celery's tasks, on tasks of tenant_q."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import UUID

from ... import errors
from ...app import App as TenantApp
from ...context import current
from ...options import Backoff, task_options
from ...task import Task as TenantTask
from ...task import registry
from .._common import seconds
from .._unsupported import Unsupported
from .calls import CallForm, form_of, reshape
from .exceptions import Ignore, MaxRetriesExceededError, Reject, Retry
from .soft_limit import soft_limit

if TYPE_CHECKING:
    from .app import Celery
    from .canvas import Signature
    from .result import AsyncResult, EagerResult

__all__ = ["Request", "Task"]

#: keywords that say what is so anyway, or what nothing depends on
_NO_EFFECT = (
    "acks_late", "acks_on_failure", "acks_on_failure_or_timeout", "acks_on_timeout", "add_to_parent", "lazy",
    "pydantic", "reject_on_worker_lost", "send_events", "shared", "store_errors_even_if_ignored", "track_started",
    "trail", "typing", "resultrepr_maxsize", "retry_on_worker_lost", "abstract",
)  # fmt: skip
#: keywords that tenant_q has another word for
_COUNTERPARTS = {
    "backend": "Results are in the database: save=… and result_ttl=… say for how long.",
    "compression": "PostgreSQL compresses large arguments itself.",
    "Strategy": "Workers are tq_worker's.",
    "Request": "What is around a run is a middleware: tenant_q.Middleware.",
    "serializer": "Arguments and results are JSON, by the function's annotations: dates, decimals, UUIDs,"
    " dataclasses come back as they were.",
    "exchange": "A task names its queue: queue=….",
    "routing_key": "A task names its queue: queue=….",
    "request_stack": "tenant_q.current() is the task that runs.",
}
#: keywords of tenant_q's @task that may be said as well
_OURS = (
    "atomic", "lock", "unique_key", "unique_until", "on_conflict", "limit_key", "max_running", "result_ttl", "run_as",
    "aliases", "retry_if",
)  # fmt: skip

_eager: ContextVar[Request | None] = ContextVar("tenant_q.celery.request", default=None)


class Request:
    """The task that runs, as `self.request` has it."""

    def __init__(self, **values: Any) -> None:
        self.id: str | None = None
        self.args: Any = None
        self.kwargs: Any = None
        self.retries = 0
        self.is_eager = False
        self.called_directly = True
        self.headers: dict[str, Any] | None = None
        self.delivery_info: dict[str, Any] = {}
        self.hostname: str | None = None
        self.task: str | None = None
        self.eta: Any = None
        self.expires: Any = None
        self.group: str | None = None
        self.group_index: int | None = None
        self.root_id: str | None = None
        self.parent_id: str | None = None
        self.timelimit: tuple[Any, Any] = (None, None)
        self.ignore_result = False
        self.tenant: str | None = None
        self.__dict__.update(values)

    @property
    def correlation_id(self) -> str | None:
        """The id."""
        return self.id

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute."""
        return getattr(self, name, default)


class Task:
    """A task. Its options are attributes of the class, or keywords of the decorator."""

    name: str = ""
    max_retries: int | None = 3
    default_retry_delay: float = 180
    autoretry_for: tuple[type[BaseException], ...] = ()
    dont_autoretry_for: tuple[type[BaseException], ...] = ()
    retry_kwargs: ClassVar[dict[str, Any]] = {}
    retry_backoff: int | bool = False
    retry_backoff_max: int = 600
    retry_jitter: bool = True
    ignore_result: bool | None = None
    rate_limit: str | None = None
    time_limit: float | None = None
    soft_time_limit: float | None = None
    queue: str | None = None
    priority: int | None = None
    expires: Any = None
    throws: tuple[type[BaseException], ...] = ()
    abstract = True
    app: Celery

    MaxRetriesExceededError = MaxRetriesExceededError

    def __init__(self) -> None:
        self._bound = False
        self._function: Callable[..., Any] = self.run
        self._made: TenantTask[..., Any] | None = None
        self._form: CallForm

    @classmethod
    def made_of(cls, app: Celery, function: Callable[..., Any] | None, name: str, options: Mapping[str, Any]) -> Task:
        """A task of a function; None = of the class's `run`."""
        words = dict(options)
        base = words.pop("base", None) or cls
        made: Task = base()
        made.app = app
        made.name = name
        made._bound = bool(words.pop("bind", False))
        if function is not None:
            made._function = function
            made.__dict__["__wrapped__"] = function
            made.__doc__ = function.__doc__
            made.__dict__["__name__"] = getattr(function, "__name__", name)
            made.__module__ = function.__module__
        ours = {word: words.pop(word) for word in _OURS if word in words}
        made._take(words)
        made._register(ours)
        return made

    def _take(self, words: dict[str, Any]) -> None:
        for word, value in words.items():
            if word in _NO_EFFECT:
                continue
            if word in _COUNTERPARTS and not (word == "serializer" and value in (None, "json")) and value is not None:
                raise Unsupported(f"a task takes no {word} here", hint=_COUNTERPARTS[word])
            if word in _COUNTERPARTS:
                continue
            # What else there is is an attribute of the task, as in Celery.
            setattr(self, word, value)
        for word in ("autoretry_for", "dont_autoretry_for", "throws"):
            value = getattr(self, word)
            if isinstance(value, type):
                setattr(self, word, (value,))

    def _register(self, ours: dict[str, Any]) -> None:
        self._form = form_of(self._function, self.name, bound=self._bound)
        entry = self._form.entry(self._run_here)
        conf = self.app.conf
        words: dict[str, Any] = {
            "queue": self.queue,
            "priority": self.priority if self.priority is not None else conf.task_default_priority,
            "timeout": self.time_limit if self.time_limit is not None else conf.task_time_limit,
            "rate": self.rate_limit or conf.task_default_rate_limit,
            "max_attempts": 0 if self._most_retries() is None else (self._most_retries() or 0) + 1,
            # All other errors are final, as in Celery: whether there is another attempt self.retry() says.
            "retry": Backoff("fixed", base=self.default_retry_delay, retry_on=(Retry,)),
            **ours,
        }
        if self._ignores():
            words["save"] = False
        declared = task_options(**{word: value for word, value in words.items() if value is not None})
        self._made = TenantTask(entry, name=self.name, declared=declared)
        self._made.is_async = False
        registry.add(self._made)
        self.app.tasks[self.name] = self

    def _ignores(self) -> bool:
        return bool(self.app.conf.task_ignore_result if self.ignore_result is None else self.ignore_result)

    def _most_retries(self) -> int | None:
        given: int | None = self.retry_kwargs.get("max_retries", self.max_retries)
        return given

    @property
    def made(self) -> TenantTask[..., Any]:
        """The task of tenant_q that it is."""
        assert self._made is not None
        return self._made

    # To be overridden.

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """The task's body, of a task that is a class."""
        raise NotImplementedError("a task that is a class has a method run")

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        """Before the function, in its transaction."""

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        """After the function, in its transaction."""

    def on_retry(self, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Where self.retry() has been called, in the transaction that is about to roll back."""

    def on_failure(self, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """When the task has failed for good: in a task of its own, after it."""

    def after_return(self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """After on_success and on_failure."""

    def hears_failure(self) -> bool:
        """Whether it wants to be told when it has failed for good."""
        kind = type(self)
        return kind.on_failure is not Task.on_failure or kind.after_return is not Task.after_return

    # Running.

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._function(self, *args, **kwargs) if self._bound else self._function(*args, **kwargs)

    @property
    def request(self) -> Request:
        """The task that runs."""
        eager = _eager.get()
        if eager is not None:
            return eager
        context = current()
        if context is None or not context.taken.claim:
            return Request()
        meta = context.meta if isinstance(context.meta, dict) else {}
        args, kwargs = self._form.shown(context.taken.args)
        return Request(
            id=str(context.id),
            args=args,
            kwargs=kwargs,
            retries=context.attempt - 1,
            called_directly=False,
            headers=meta.get("headers"),
            delivery_info={"routing_key": context.queue, "exchange": ""},
            task=self.name,
            root_id=str(context.id),
            timelimit=(self.time_limit, self.soft_time_limit),
            ignore_result=self._ignores(),
            tenant=context.tenant,
        )

    def _run_here(self, args: list[Any], kwargs: dict[str, Any], shape: Any) -> Any:
        """What the worker calls."""
        if shape is not None and args:
            args = [reshape(args[0], shape), *args[1:]]
        id = self.request.id or ""
        limit = self.soft_time_limit if self.soft_time_limit is not None else self.app.conf.task_soft_time_limit
        try:
            self.before_start(id, args, kwargs)
            with soft_limit(limit):
                value = self._call(args, kwargs)
        except Ignore:
            return None
        except Reject as error:
            if error.requeue:
                raise errors.Retry(0, error.message, count=False) from error
            raise errors.Fail(error.message) from error
        except Retry as error:
            self.on_retry(error, id, args, kwargs, None)
            raise
        self.on_success(value, id, args, kwargs)
        self.after_return("SUCCESS", value, id, args, kwargs, None)
        return value

    def _call(self, args: Iterable[Any], kwargs: Mapping[str, Any]) -> Any:
        retrying = tuple(self.autoretry_for)
        try:
            if inspect.iscoroutinefunction(self._function):
                app = TenantApp.current()
                given = (self, *args) if self._bound else tuple(args)
                return app.run_async(self._function, *given, **kwargs)
            return self(*args, **kwargs)
        except (Ignore, Reject, errors.Retry, errors.Fail):
            raise
        except retrying as error:
            if isinstance(error, tuple(self.dont_autoretry_for)):
                raise
            words = dict(self.retry_kwargs)
            if self.retry_backoff:
                words["countdown"] = self._backoff()
            raise self.retry(exc=error, throw=False, **words) from error

    def _backoff(self) -> int:
        longest = min(int(self.retry_backoff_max), int(self.retry_backoff) * 2**self.request.retries)
        return random.randrange(longest + 1) if self.retry_jitter else longest

    def retry(
        self,
        args: Any = None,
        kwargs: Any = None,
        exc: BaseException | None = None,
        throw: bool = True,
        eta: datetime | None = None,
        countdown: float | None = None,
        max_retries: int | None = None,
        **options: Any,
    ) -> BaseException:
        """Raises Retry: the attempt's effects roll back, and the task is tried again; or, where it was tried as often
        as it may, `exc`."""
        if args is not None or kwargs is not None:
            raise Unsupported(
                "retry() takes no args and kwargs here",
                hint="An attempt has the task's arguments: enqueue another task, task.apply_async(args), and return.",
            )
        if options:
            raise Unsupported(
                f"retry() takes no {next(iter(options))} here",
                hint="A task keeps its options in all of its attempts; Result.update() changes one that waits.",
            )
        request = self.request
        most = self.max_retries if max_retries is None else max_retries
        if request.called_directly:
            if exc is not None:
                raise exc
            raise Unsupported(
                "retry() in a task that was called as a function",
                hint="Enqueue it: task.delay(…), or task.apply(…) here.",
            )
        if most is not None and request.retries >= most:
            if exc is not None:
                return self._out(exc, throw)
            return self._out(
                MaxRetriesExceededError(
                    f"Can't retry {self.name}[{request.id}] args:{request.args} kwargs:{request.kwargs}"
                ),
                throw,
            )
        declared = self._most_retries()
        if declared is not None and request.retries >= declared and not request.is_eager:
            raise Unsupported(
                f"retry(max_retries={most}) of a task with max_retries={declared}",
                hint=f"The task itself says how often at most: @task(max_retries={most}).",
            )
        delay = float(self.default_retry_delay if countdown is None else countdown)
        if eta is not None:
            delay = max((self.app.aware(eta) - datetime.now(UTC)).total_seconds(), 0.0)
        return self._out(Retry(exc=exc, when=eta if eta is not None else delay, delay=delay), throw)

    @staticmethod
    def _out(error: BaseException, throw: bool) -> BaseException:
        if throw:
            raise error
        return error

    def update_state(
        self, task_id: str | None = None, state: str | None = None, meta: Any = None, **words: Any
    ) -> None:
        """Says how far it is: seen as the state and the info of its AsyncResult while it runs, and in tq_running. Up
        to 256 bytes."""
        context = current()
        if context is None or (task_id is not None and str(context.id) != task_id):
            raise Unsupported(
                "update_state() of another task than the one that runs", hint="A task says of itself how far it is."
            )
        fraction = 0.0
        if isinstance(meta, dict) and isinstance(meta.get("current"), (int, float)) and meta.get("total"):
            fraction = min(max(float(meta["current"]) / float(meta["total"]), 0.0), 1.0)
        context.progress(fraction, {"state": state or "PROGRESS", "meta": meta})

    def replace(self, sig: Any) -> None:
        """Not here: a task doesn't become another one."""
        raise Unsupported("replace()", hint="Enqueue the other one, and return; or make it a step of the chain.")

    # Enqueuing.

    def delay(self, *args: Any, **kwargs: Any) -> AsyncResult:
        """Enqueues a call."""
        found: AsyncResult = self.apply_async(args, kwargs)
        return found

    def apply_async(
        self,
        args: Any = None,
        kwargs: Any = None,
        task_id: str | None = None,
        link: Any = None,
        link_error: Any = None,
        **options: Any,
    ) -> Any:
        """Enqueues a call: countdown, eta, expires, queue, priority, task_id, link, link_error, headers, time_limit,
        ignore_result, shadow."""
        return self.signature(args, kwargs).apply_async(task_id=task_id, link=link, link_error=link_error, **options)

    def apply(
        self,
        args: Any = None,
        kwargs: Any = None,
        throw: bool | None = None,
        task_id: str | None = None,
        retries: int = 0,
        **options: Any,
    ) -> EagerResult:
        """Calls it here and now, retries included; throw: raises what it raises."""
        from .result import run_eagerly

        return run_eagerly(self, tuple(args or ()), dict(kwargs or {}), throw, task_id, retries, options)

    @contextmanager
    def running(self, request: Request) -> Iterator[None]:
        """Makes this the request in the block."""
        token = _eager.set(request)
        try:
            yield
        finally:
            _eager.reset(token)

    def s(self, *args: Any, **kwargs: Any) -> Signature:
        """The call for later."""
        return self.signature(args, kwargs)

    def si(self, *args: Any, **kwargs: Any) -> Signature:
        """The call for later, which takes nothing from the step before."""
        return self.signature(args, kwargs, immutable=True)

    def signature(self, args: Any = None, kwargs: Any = None, options: Any = None, **words: Any) -> Signature:
        """The call for later, with options."""
        from .canvas import Signature

        immutable = bool(words.pop("immutable", False))
        return Signature(self, tuple(args or ()), dict(kwargs or {}), {**(options or {}), **words}, immutable=immutable)

    subtask = signature

    def map(self, it: Iterable[Any]) -> Signature:
        """One task that calls it with each."""
        from .canvas import xmap

        return xmap(self, [[each] for each in it])

    def starmap(self, it: Iterable[Any]) -> Signature:
        """One task that calls it with each of the tuples."""
        from .canvas import xmap

        return xmap(self, [list(each) for each in it])

    def chunks(self, it: Iterable[Any], n: int) -> Any:
        """A group of tasks that call it with n of the tuples each."""
        from .canvas import chunks

        return chunks(self, it, n)

    def AsyncResult(self, task_id: str, **words: Any) -> AsyncResult:
        """The task of this id."""
        from .result import AsyncResult

        return AsyncResult(task_id)

    def __repr__(self) -> str:
        return f"<@task: {self.name}>"


def moment_after(delay: Any) -> datetime:
    """Now and so much."""
    return datetime.now(UTC) + timedelta(seconds=seconds(delay))


def id_of(text: str) -> UUID | None:
    """A UUID, if the text is one."""
    try:
        return UUID(text)
    except ValueError:
        return None
