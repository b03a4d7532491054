"""Celery's app: where tasks and settings are."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

from ...result import TaskRow
from ...schedules import Schedule, before_declaring
from ...task import task as register
from .._common import aware, trace_of
from .._unsupported import refuse
from .calls import reshape
from .canvas import Signature
from .conf import Conf
from .exceptions import NotRegistered
from .options import LINK, call_words
from .result import AsyncResult, GroupResult, _error
from .schedules import rule_of
from .task import Request, Task

__all__ = ["Celery", "CeleryApp", "TenantTask", "current_app", "current_task", "shared_task"]

#: what a Celery app is made with, and nothing here depends on
_NOTHING = (
    "broker",
    "backend",
    "loader",
    "amqp",
    "events",
    "log",
    "control",
    "set_as_current",
    "fixups",
    "autofinalize",
    "strict_typing",
    "config_source_silent",
    "broker_connection_retry_on_startup",
    "changes",
    "result_backend",
)


class _Hook:
    """on_after_configure and its kin: what is connected is called when schedules are declared."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    def connect(self, receiver: Callable[..., Any] | None = None, **words: Any) -> Any:
        """Of a decorator too."""
        if receiver is None:
            return self.connect
        self._app._setups.append(receiver)
        before_declaring.append(self._app.finalize)
        return receiver


class Celery:
    """An app of Celery's: `@app.task`, `app.conf`, `app.send_task()`. Where tasks go is `tenant_q.App`'s matter: with
    Django nothing has to
    be said, without it an App is made beside it."""

    task_cls: Any = Task
    #: whether schedules are made for all tenants, where they don't say
    everywhere = False

    def __init__(self, main: str | None = None, **words: Any) -> None:
        self.main = main
        #: tasks by name
        self.tasks: dict[str, Task] = {}
        self._setups: list[Callable[..., Any]] = []
        self._modules: list[str] = []
        self._schedules: dict[str, Schedule] = {}
        self.on_after_configure = self.on_after_finalize = _Hook(self)
        self.conf = Conf(self._changed)
        include = words.pop("include", None) or ()
        source, namespace = words.pop("config_source", None), words.pop("namespace", None)
        task_cls = words.pop("task_cls", None)
        if task_cls is not None:
            self.task_cls = task_cls if not isinstance(task_cls, str) else _import(task_cls)
        for word in _NOTHING:
            words.pop(word, None)
        tasks = words.pop("tasks", None)
        refuse(
            {"tasks": tasks},
            {"tasks": "Tasks are registered by @app.task; tenant_q.App(registry=…) has a registry of its own."},
            "Celery()",
        )
        self.conf.update(words)
        self._modules.extend([include] if isinstance(include, str) else include)
        if source is not None:
            self.conf.read(source, namespace)
        _apps.append(self)
        before_declaring.append(self.finalize)
        for function, options in _shared:
            self._make(function, options)

    # Settings.

    def _changed(self, name: str, value: Any) -> None:
        if name == "beat_schedule":
            # Its tasks may be defined after it.
            before_declaring.append(self.finalize)
        elif name in ("include", "imports"):
            self._modules.extend([value] if isinstance(value, str) else value)

    def config_from_object(
        self, obj: Any, silent: bool = False, force: bool = False, namespace: str | None = None
    ) -> None:
        """Reads settings of a module, an object or a dict: 'django.conf:settings' with namespace='CELERY'."""
        self.conf.read(obj, namespace)

    def autodiscover_tasks(self, packages: Any = None, related_name: str | None = "tasks", force: bool = False) -> None:
        """Modules that have tasks: imported when a worker loads its tasks, or by `finalize()`."""
        before_declaring.append(self.finalize)
        found = packages() if callable(packages) else packages or ()
        self._modules.extend(
            f"{each}.{related_name}" if related_name else each
            for each in ([found] if isinstance(found, str) else found)
        )

    def finalize(self, auto: bool = False) -> None:
        """Imports what has tasks, and calls what is connected to on_after_configure."""
        for module in self._modules:
            with suppress(_Missing):
                _import_module(module)
        setups, self._setups = self._setups, []
        for each in setups:
            each(self)
        if self.conf.beat_schedule:
            self._declare(self.conf.beat_schedule)

    def set_current(self) -> None:
        """Makes it `current_app`."""
        _apps.remove(self)
        _apps.append(self)

    set_default = set_current

    def aware(self, moment: datetime) -> datetime:
        """A moment without a zone is in that of the app, or UTC."""
        return aware(moment, self.conf.zone)

    def now(self) -> datetime:
        """Now, in the app's zone."""
        return datetime.now(self.conf.zone)

    @property
    def current_task(self) -> Task | None:
        """The task that runs."""
        return current_task()

    # Tasks.

    def task(self, *args: Any, **options: Any) -> Any:
        """`@app.task`, or `@app.task(bind=True, max_retries=5, …)`."""
        if len(args) == 1 and callable(args[0]):
            return self._make(args[0], options)
        return lambda function: self._make(function, options)

    def _make(self, function: Callable[..., Any], options: Mapping[str, Any]) -> Task:
        words = dict(options)
        name = words.pop("name", None) or self.gen_task_name(function.__name__, function.__module__)
        if name in self.tasks:
            return self.tasks[name]
        base = words.pop("base", None) or self.task_cls
        return Task.made_of(self, function, name, {**words, "base": base})

    def gen_task_name(self, name: str, module: str) -> str:
        """module.name; of a program the app's name in place of __main__."""
        if module == "__main__" and self.main:
            module = self.main
        return f"{module}.{name}" if module else name

    def register_task(self, task: Any, **options: Any) -> Task:
        """Of a task that is a class, or an instance of it."""
        kind = task if isinstance(task, type) else type(task)
        name = getattr(task, "name", "") or self.gen_task_name(kind.__name__, kind.__module__)
        return Task.made_of(self, None, name, {**options, "base": kind})

    def signature(self, *args: Any, **words: Any) -> Any:
        """`signature`."""
        from .canvas import signature

        return signature(*args, **words)

    def send_task(self, name: str, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """Enqueues a task by its name, which need not be in this process."""
        known = self.tasks.get(name)
        return Signature(known if known is not None else name, args, kwargs).apply_async(**options)

    def AsyncResult(self, id: str, **words: Any) -> AsyncResult:
        """The task of this id."""
        return AsyncResult(id)

    GroupResult = GroupResult

    # Schedules.

    def add_periodic_task(
        self, schedule: Any, sig: Any, args: Any = (), kwargs: Any = None, name: str | None = None, **opts: Any
    ) -> str:
        """Calls a signature by a schedule; its name."""
        made = sig.clone() if isinstance(sig, Signature) else Signature(sig)
        entry = {
            "task": made.name,
            "schedule": schedule,
            "args": (*made.args, *(args or ())),
            "kwargs": {**made.kwargs, **(kwargs or {})},
            "options": {**made.options, **opts},
        }
        name = name or repr(made)
        self._declare({name: entry})
        return name

    def _declare(self, entries: Mapping[str, Mapping[str, Any]]) -> None:
        from ...schedules import _declared

        for name, entry in entries.items():
            old = self._schedules.get(name)
            if old is not None and _declared.get(name) is old:
                del _declared[name]
            self._schedules[name] = self._schedule(name, dict(entry))

    def _schedule(self, name: str, entry: dict[str, Any]) -> Schedule:
        tenants = entry.pop("tenant_schemas", None)
        rule, words = rule_of(entry.pop("schedule"))
        refuse(
            {"relative": entry.pop("relative", False)},
            {"relative": "A crontab fires at round times: crontab(minute='*/15')."},
            "beat_schedule",
        )
        task, args, kwargs = entry["task"], tuple(entry.get("args") or ()), dict(entry.get("kwargs") or {})
        options = dict(entry.get("options") or {})
        said, meta = call_words(self, task, options)
        if meta:
            said["meta"] = meta
        tenant = said.pop("tenant", None)
        if tenant is not None:
            tenants = [tenant]
        everywhere = self.everywhere or tenants is not None
        sig = Signature(self.tasks.get(task, task), args, kwargs)
        member = sig.member()
        arguments = member.get("args")
        return Schedule(
            name,
            task,
            rule,
            arguments,
            task=said,
            everywhere=everywhere,
            tz=self.conf.zone_name if "day_and" in words else None,
            **({"tenants": tenants} if tenants is not None else {}),
            **words,
        )


def _import(name: str) -> Any:
    module, _, attribute = name.replace(":", ".").rpartition(".")
    return getattr(importlib.import_module(module), attribute)


class _Missing(ImportError):
    """The module isn't there."""


def _import_module(name: str) -> None:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            raise _Missing(name) from None
        raise


class TenantTask(Task):
    """tenant_schemas_celery's task: every task is its tenant's here. `get_tenant_for_schema` and the cache of it are
    tenant_q.django's."""

    tenant_cache_seconds: int | None = None
    tenant_databases: Any = None


class CeleryApp(Celery):
    """tenant_schemas_celery's app: its beat_schedule is every tenant's, or that of `tenant_schemas`."""

    task_cls = TenantTask
    everywhere = True


_apps: list[Celery] = []
_shared: list[tuple[Callable[..., Any], dict[str, Any]]] = []


def current_app() -> Celery:
    """The app that was made last; one without settings, where there is none."""
    return _apps[-1] if _apps else Celery("default")


def current_task() -> Task | None:
    """The task that runs."""
    from ...context import current

    context = current()
    return None if context is None else current_app().tasks.get(context.handler)


def shared_task(*args: Any, **options: Any) -> Any:
    """`@shared_task`: a task of whichever app there is."""

    def make(function: Callable[..., Any]) -> Task:
        _shared.append((function, options))
        return current_app()._make(function, options)

    if len(args) == 1 and callable(args[0]):
        return make(args[0])
    return make


def _linked(task: Any) -> None:
    """Calls what is linked to the task of the document: with its result, or with what is known of its failure."""
    row = TaskRow.of(task)
    meta = row.meta if isinstance(row.meta, dict) else {}
    said: dict[str, Any] = meta["celery"] if isinstance(meta.get("celery"), dict) else {}
    if row.state == "done":
        for each in said.get("link") or ():
            made = Signature.of(each)
            made.apply_async(() if made.immutable else (reshape(row.result, said.get("shape")),))
        return
    request = Request(
        id=str(row.id),
        task=row.handler,
        retries=max(row.attempt - 1, 0),
        called_directly=False,
        headers=meta.get("headers"),
    )
    error = _error(row)
    trace = trace_of(row.error)
    for each in said.get("link_error") or ():
        _errback(Signature.of(each), request, error, trace)
    known = current_app().tasks.get(row.handler)
    if known is not None and known.hears_failure():
        args, kwargs = known._form.arguments(row.args)
        with known.running(request):
            known.on_failure(error, str(row.id), args, kwargs, trace)
            known.after_return("FAILURE", error, str(row.id), args, kwargs, trace)


def _errback(made: Signature, request: Request, error: Exception, trace: Any) -> None:
    """As Celery does: with request, exception and traceback where the function takes them, else with the failed
    task's id, as a task."""
    try:
        called = made.type
    except NotRegistered:
        made.apply_async(() if made.immutable else (request.id,))
        return
    try:
        called._form.plain.bind(request, error, trace, *made.args, **made.kwargs)
    except TypeError:
        made.apply_async(() if made.immutable else (request.id,))
        return
    called(request, error, trace, *made.args, **made.kwargs)


register(name=LINK)(_linked)
