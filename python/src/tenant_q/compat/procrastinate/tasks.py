"""procrastinate's tasks, on tasks of tenant_q."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from ... import errors
from ...calls import many_literal
from ...codec import encode
from ...context import Context, current
from ...errors import UniqueKeyTaken
from ...options import CallOptions, task_options
from ...task import Task as TenantTask
from ...task import registry
from .._unsupported import Unsupported
from .exceptions import AlreadyEnqueued, TaskAlreadyRegistered, UnboundTaskError
from .jobs import JobContext, JobId
from .retry import JobRetry, policy

if TYPE_CHECKING:
    from ...app import App as TenantApp
    from .app import App

__all__ = ["JobDeferrer", "Task"]

#: what `timestamp` is where nobody has said it: it can't be written as JSON, so that null stands for it
_FIRE_TIME = object()
_CONFIGURE = ("lock", "queueing_lock", "task_kwargs", "schedule_at", "schedule_in", "queue", "priority", "connection")


def call_words(options: Mapping[str, Any]) -> dict[str, Any]:
    """What configure() says, as words of `Task.options`."""
    for word in options:
        if word not in _CONFIGURE:
            raise Unsupported(f"configure() has no {word}", hint="There are: " + ", ".join(_CONFIGURE) + ".")
    if options.get("connection") is not None:
        raise Unsupported(
            "configure() takes no connection here", hint="with tenant_q.App.current().using(connection): task.defer(…)"
        )
    words: dict[str, Any] = {}
    if options.get("lock") is not None:
        words["lock"] = options["lock"]
    if options.get("queueing_lock") is not None:
        words.update(unique_key=options["queueing_lock"], unique_until="started")
    if options.get("priority") is not None:
        words["priority"] = options["priority"]
    if options.get("queue") is not None:
        words["queue"] = options["queue"]
    at, length = options.get("schedule_at"), options.get("schedule_in")
    if at is not None and length is not None:
        raise ValueError("Cannot set both schedule_at and schedule_in")
    if at is not None:
        words["run_at"] = at
    if length is not None:
        words["delay"] = timedelta(**length)
    return words


class JobDeferrer:
    """A task of which something is said, or a name."""

    def __init__(self, name: str, options: Mapping[str, Any], task: Task | None) -> None:
        self._name = name
        self._task = task
        self._kwargs = dict(options.get("task_kwargs") or {})
        self._words = call_words(options)

    def _member(self, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        given = {**self._kwargs, **kwargs}
        if self._task is not None:
            task = self._task.made
            document, said = task.signature.bind((), given), task.options(**self._words).call_options((), given)
        else:
            known = registry.get(self._name)
            said = CallOptions.of(**self._words)
            document = (
                known.signature.bind((), given)
                if known is not None
                else encode(given, Any, f"an argument of {self._name}")
            )
        return {"handler": self._name, **({} if document is None else {"args": document}), **said.values}

    def _call(self, app: TenantApp, calls: Any, kwargs: Mapping[str, Any]) -> Any:
        member = self._member(kwargs)
        handler, document = member.pop("handler"), member.pop("args", None)
        return calls.enqueue(
            handler, None if document is None else many_literal(document), member, app.current_tenant()
        )

    def _many(self, app: TenantApp, calls: Any, all_kwargs: tuple[Mapping[str, Any], ...]) -> Any:
        return calls.enqueue_many(many_literal([self._member(each) for each in all_kwargs]), app.current_tenant())

    def _taken(self, error: UniqueKeyTaken) -> AlreadyEnqueued:
        return AlreadyEnqueued(
            f"a job with the queueing_lock"
            f" {self._words.get('unique_key') or (self._task.queueing_lock if self._task else None)} waits"
            " already",
            sqlstate=error.sqlstate,
            detail=error.detail,
            hint="Catch AlreadyEnqueued; or @tenant_q.task(unique_key=…, on_conflict='skip') says that it is no error.",
        )

    def defer(self, **task_kwargs: Any) -> JobId:
        """Enqueues a job; its id."""
        app = _tenant_app()
        try:
            return JobId.of(app.value(self._call(app, app.calls, task_kwargs)))
        except UniqueKeyTaken as error:
            raise self._taken(error) from None

    async def defer_async(self, **task_kwargs: Any) -> JobId:
        """`defer` from a coroutine."""
        app = _tenant_app()
        try:
            return JobId.of(await app.avalue(self._call(app, await app.acalls(), task_kwargs)))
        except UniqueKeyTaken as error:
            raise self._taken(error) from None

    def batch_defer(self, *task_kwargs: Mapping[str, Any]) -> list[JobId]:
        """Enqueues a job for each of the arguments, all or none."""
        if not task_kwargs:
            return []
        app = _tenant_app()
        try:
            return [JobId.of(row[0]) for row in app.run(self._many(app, app.calls, task_kwargs))]
        except UniqueKeyTaken as error:
            raise self._taken(error) from None

    async def batch_defer_async(self, *task_kwargs: Mapping[str, Any]) -> list[JobId]:
        """`batch_defer` from a coroutine."""
        if not task_kwargs:
            return []
        app = _tenant_app()
        try:
            return [JobId.of(row[0]) for row in await app.arun(self._many(app, await app.acalls(), task_kwargs))]
        except UniqueKeyTaken as error:
            raise self._taken(error) from None


def _tenant_app() -> TenantApp:
    from ...app import App

    return App.current()


class Task:
    """A task."""

    def __init__(self, function: Callable[..., Any], options: Mapping[str, Any], app: App | None) -> None:
        words = dict(options)
        self.func = function
        self.app = app
        self.name: str = words.pop("name", None) or f"{function.__module__}.{function.__qualname__}"
        self.aliases: list[str] = list(words.pop("aliases", None) or ())
        self.retry = words.pop("retry", False)
        self.pass_context: bool = words.pop("pass_context", False)
        self.queue: str = words.pop("queue", "default")
        self.priority: int = words.pop("priority", 0)
        self.lock: str | None = words.pop("lock", None)
        self.queueing_lock: str | None = words.pop("queueing_lock", None)
        if words.pop("task_middleware", None):
            raise Unsupported(
                "a task takes no task_middleware here",
                hint="What is around a run is tenant_q.App(middleware=[…]), tenant_q.Middleware.",
            )
        #: words of tenant_q's @task may be said as well
        self._ours = words
        self._periodic = False
        self._made: TenantTask[..., Any] | None = None
        functools.update_wrapper(self, function)
        if app is not None:
            self.bind(app)

    def bind(self, app: App, namespace: str | None = None) -> None:
        """Registers it."""
        self.app = app
        if namespace is not None:
            self.name = f"{namespace}:{self.name}"
            self.aliases = [f"{namespace}:{each}" for each in self.aliases]
        policy_words, self._strategy = policy(self.retry)
        words: dict[str, Any] = {**policy_words, "aliases": tuple(self.aliases), **self._ours}
        for word, value in (
            ("queue", self.queue if self.queue != "default" else None),
            ("priority", self.priority or None),
            ("lock", self.lock),
        ):
            if value is not None:
                words[word] = value
        if self.queueing_lock is not None:
            words.update(unique_key=self.queueing_lock, unique_until="started")
        try:
            self._made = TenantTask(self._entry(), name=self.name, declared=task_options(**words))
            registry.add(self._made)
        except errors.DuplicateTask as error:
            raise TaskAlreadyRegistered(
                error.message, detail=error.detail, hint="Give one of them another name: @app.task(name='…')."
            ) from None
        app.tasks[self.name] = self
        for alias in self.aliases:
            app.tasks[alias] = self

    @property
    def made(self) -> TenantTask[..., Any]:
        """The task of tenant_q that it is."""
        if self._made is None:
            raise UnboundTaskError(
                f"the task {self.name} is of a Blueprint that no App has",
                hint="app.add_tasks_from(blueprint, namespace='…')",
            )
        return self._made

    def make_periodic(self) -> None:
        """Its parameter timestamp gets the fire time."""
        if not self._periodic and self.app is not None:
            self._periodic = True
            self.bind(self.app)

    def _entry(self) -> Callable[..., Any]:
        """The function that tenant_q calls: without the context, and with the strategy of one's own around it."""
        function = self.func
        signature = inspect.signature(function)
        parameters = list(signature.parameters.values())[1 if self.pass_context else 0 :]
        if self._periodic:
            parameters = [
                p.replace(default=_FIRE_TIME) if p.name == "timestamp" and p.default is p.empty else p
                for p in parameters
            ]
            parameters.sort(key=lambda p: (p.kind, p.default is not p.empty))
        names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]

        def given(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
            kwargs = {**dict(zip(names, args, strict=False)), **kwargs}
            here = current()
            if self._periodic and kwargs.get("timestamp", _FIRE_TIME) is _FIRE_TIME:
                moment = (
                    here.scheduled_for if here is not None and here.scheduled_for is not None else datetime.now(UTC)
                )
                kwargs["timestamp"] = int(moment.timestamp())
            return self._context(here, kwargs), kwargs

        async def awaited(*args: Any, **kwargs: Any) -> Any:
            first, named = given(args, kwargs)
            try:
                return await function(*first, **named)
            except Exception as error:
                self._decide(error, named)
                raise

        def called(*args: Any, **kwargs: Any) -> Any:
            first, named = given(args, kwargs)
            try:
                return function(*first, **named)
            except Exception as error:
                self._decide(error, named)
                raise

        entry: Callable[..., Any] = awaited if inspect.iscoroutinefunction(function) else called
        functools.update_wrapper(entry, function)
        entry.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        return entry

    def _context(self, here: Context | None, kwargs: dict[str, Any]) -> list[Any]:
        if not self.pass_context:
            return []
        assert self.app is not None
        return [JobContext(self.app, self, here or Context.outside(_tenant_app(), self.name), kwargs)]

    def _decide(self, error: Exception, kwargs: dict[str, Any]) -> None:
        """Raises JobRetry where a strategy of one's own wants another attempt."""
        here = current()
        if self._strategy is None or here is None or isinstance(error, (errors.Retry, errors.Fail)):
            return
        from .jobs import Job

        decision = self._strategy.get_retry_decision(exception=error, job=Job.running(here, kwargs))
        if decision is not None:
            raise JobRetry(decision.delay(), str(error) or type(error).__name__) from error

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.func(*args, **kwargs)

    def configure(self, **options: Any) -> JobDeferrer:
        """The same task, of whose next jobs this is said: lock, queueing_lock, task_kwargs, schedule_at, schedule_in,
        queue, priority."""
        return JobDeferrer(self.made.name, options, self)

    def defer(self, **task_kwargs: Any) -> JobId:
        """Enqueues a job; its id. Raises `AlreadyEnqueued`."""
        return self.configure().defer(**task_kwargs)

    async def defer_async(self, **task_kwargs: Any) -> JobId:
        """`defer` from a coroutine."""
        return await self.configure().defer_async(**task_kwargs)

    def batch_defer(self, *task_kwargs: Mapping[str, Any]) -> list[JobId]:
        """Enqueues a job for each of the arguments, all or none."""
        return self.configure().batch_defer(*task_kwargs)

    async def batch_defer_async(self, *task_kwargs: Mapping[str, Any]) -> list[JobId]:
        """`batch_defer` from a coroutine."""
        return await self.configure().batch_defer_async(*task_kwargs)

    def __repr__(self) -> str:
        return f"<Task {self.name}>"
