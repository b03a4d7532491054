"""The backend for Django's tasks: `TASKS = {"default": {"BACKEND": "tenant_q.django.Backend"}}`.

A function under Django's `@task` becomes a handler of its `module.qualname`. Besides Django's own words the decorator
takes those of `tenant_q.task` (timeout, max_attempts, retry_on, lock, …) where Django passes them on: from 6.1, and in
the package django-tasks. For all tasks of a backend its OPTIONS say them: `"OPTIONS": {"max_attempts": 1}`.
"""

from __future__ import annotations

import functools
import inspect
import json
import os
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any
from uuid import UUID

from django.core import checks
from django.utils import timezone
from django.utils.module_loading import import_string

from .. import errors
from ..context import Context
from ..execute import Outcome
from ..options import CallOptions, task_options
from ..result import Attempt, Result, TaskRow
from ..signature import REST, TaskSignature
from ..task import Task, registry
from . import _tasks as dj
from .app import get_app

__all__ = ["Backend", "TenantTask", "TenantTaskContext", "handler_of"]

#: in a task's meta: how many of its arguments were given by position, where some were given by name
_POSITIONAL = "tenant_q.positional"

_STATUS = {
    "done": "SUCCESSFUL",
    "running": "RUNNING",
    "failed": "FAILED",
    "cancelled": "FAILED",
    "expired": "FAILED",
    "quarantined": "FAILED",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantTask(dj.DjangoTask):  # type: ignore[misc]
    """Django's `Task` with what may be said of a task of tenant_q beyond it."""

    timeout: Any = None
    max_attempts: int | None = None
    retry: Any = None
    retry_on: Any = None
    never_on: Any = None
    retry_if: Any = None
    expires: Any = None
    max_running: int | None = None
    rate: str | None = None
    limit_key: Any = None
    lock: Any = None
    unique_key: Any = None
    unique_until: str | None = None
    on_conflict: str | None = None
    save: bool | None = None
    result_ttl: Any = None
    run_as: str | None = None
    aliases: tuple[str, ...] = ()
    shared: bool | None = None
    atomic: bool = True
    on_success: Any = None
    on_failure: Any = None
    hook: Any = None

    def __post_init__(self) -> None:
        dj.DjangoTask.__post_init__(self)
        handler_of(self)


#: what a task may say beyond Django's words, and what it is where nothing is said
_WORDS = {
    each.name: each.default for each in fields(TenantTask) if each.name not in {f.name for f in fields(dj.DjangoTask)}
}


class Signature(TaskSignature):
    """Of a function that Django's `@task` has: results are what JSON has, as Django says."""

    __slots__ = ()

    def encode_result(self, value: Any) -> str | None:
        return None if value is None else json.dumps(dj.normalize(value), ensure_ascii=False, separators=(",", ":"))

    def decode_result(self, value: Any) -> Any:
        return value


class OfDjango(Task[..., Any]):
    """The handler of a task of Django's."""

    def __init__(self, task: Any) -> None:
        words = {word: value for word, value in task.get_backend().options.items() if word in _WORDS}
        words |= {word: getattr(task, word) for word in _WORDS if getattr(task, word, _WORDS[word]) != _WORDS[word]}
        declared = task_options(
            queue=_queue(task), priority=task.priority or None, takes_context=task.takes_context, **words
        )
        function = _with_django_context(task.func) if task.takes_context else task.func
        super().__init__(function, name=task.module_path, declared=declared)
        self.signature = Signature(function, self.name, takes_context=task.takes_context)
        #: as it was declared
        self.of_django = task


def _queue(task: Any) -> str | None:
    return None if task.queue_name == dj.DEFAULT_TASK_QUEUE_NAME else str(task.queue_name)


def _with_django_context(function: Any) -> Any:
    @functools.wraps(function)
    def call(context: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(context, Context):
            context = TenantTaskContext(task_result=_result_of_taken(context), tenant_q=context)
        return function(context, *args, **kwargs)

    return call


def handler_of(task: Any) -> OfDjango:
    """The handler of a task of Django's; the same for all that `using()` has made of it."""
    known = registry.get(task.module_path)
    if isinstance(known, OfDjango) and inspect.unwrap(known.of_django.func) is inspect.unwrap(task.func):
        return known
    made = OfDjango(task)
    registry.add(made)
    return made


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantTaskContext(dj.TaskContext):  # type: ignore[misc]
    """Django's `TaskContext`, with all that a `tenant_q.Context` has: progress, retry, fail, commit, check, tenant …"""

    tenant_q: Context

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "tenant_q":
            raise AttributeError(name)
        return getattr(self.tenant_q, name)


class Backend(dj.BaseTaskBackend):  # type: ignore[misc]
    """Tasks in the tenant's schema: enqueued by the transaction that is open, run by `manage.py tq_worker`."""

    task_class = TenantTask
    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    def enqueue(self, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Enqueues it in the current tenant and transaction. Raises InvalidTask, TypeError for what isn't JSON, and
        what `tenant_q.errors` has."""
        self.validate_task(task)
        of = handler_of(task)
        args, kwargs = _plain(args), _plain(kwargs)
        result = get_app().enqueue(of, of.signature.bind(tuple(args), kwargs), _options(task, of, args, kwargs))
        if result._row is not None:  # it was called at once
            found = self._of_row(result._row, [], task)
        else:
            found = _task_result(task, str(result.id), "READY", args, kwargs, self.alias, enqueued_at=timezone.now())
        dj.task_enqueued.send(type(self), task_result=found)
        return found

    def get_result(self, result_id: Any) -> Any:
        """The task of this id in the current tenant, its attempts and its result. Raises TaskResultDoesNotExist; and
        TaskResultMismatch where it is none of Django's."""
        app = get_app()
        try:
            result = Result(app, UUID(str(result_id)), app.current_tenant())
            row = result.fetch()
        except (ValueError, errors.TaskNotKept):
            raise dj.TaskResultDoesNotExist(result_id) from None
        attempts = result.attempts() if row.attempt else []
        return self._of_row(row, attempts, _task_of(row))

    def check(self, **kwargs: Any) -> list[checks.CheckMessage]:
        from django.apps import apps

        found: list[checks.CheckMessage] = []
        if not apps.is_installed("tenant_q.django"):
            found.append(
                checks.Error(
                    f"TASKS[{self.alias!r}] is tenant_q.django.Backend, and INSTALLED_APPS lacks 'tenant_q.django'.",
                    id="tenant_q.E004",
                )
            )
        for word in sorted(set(self.options) - set(_WORDS)):
            found.append(
                checks.Error(
                    f"TASKS[{self.alias!r}]['OPTIONS'] has no {word!r}.",
                    hint="There are: " + ", ".join(_WORDS) + ".",
                    id="tenant_q.E006",
                )
            )
        return found

    def _of_row(self, row: TaskRow, attempts: Sequence[Attempt], task: Any) -> Any:
        args, kwargs = _arguments(handler_of(task).signature, row.args, row.meta)
        begun = [at for at in (*(each.started_at for each in attempts), row.started_at) if at is not None]
        found = _task_result(
            task,
            str(row.id),
            _STATUS.get(row.state, "READY"),
            args,
            kwargs,
            self.alias,
            enqueued_at=row.created_at,
            started_at=min(begun, default=None),
            last_attempted_at=max(begun, default=None),
            finished_at=row.finished_at,
            errors=_errors(row, attempts),
            worker_ids=[str(each.pid or "") for each in attempts] + [""] * (row.attempt - len(attempts)),
        )
        if row.state == "done":
            object.__setattr__(found, "_return_value", row.result)
        return found


def _plain(value: Any) -> Any:
    """Arguments as Django takes them: what JSON has. Raises a TypeError that says what to do."""
    try:
        return dj.normalize(value)
    except TypeError as error:
        from .. import codec

        hint = (
            "Django's tasks take text, numbers, booleans, None, lists and dicts of these; functions under"
            " @tenant_q.task dates, decimals, UUIDs and dataclasses, too."
        )
        try:
            codec.encode(value, Any, "an argument")
        except errors.CannotTravel as refused:
            raise type(refused)(f"{error}: {refused.message}", detail=refused.detail, hint=refused.hint) from None
        raise errors.CannotTravel(str(error), hint=hint) from None


def _options(task: Any, of: OfDjango, args: Sequence[Any], kwargs: Mapping[str, Any]) -> CallOptions:
    words: dict[str, Any] = {}
    if task.priority != of.of_django.priority:
        words["priority"] = int(task.priority)
    if task.queue_name != of.of_django.queue_name:
        words["queue"] = task.queue_name
    if task.run_after is not None:
        at = task.run_after
        words["run_at"] = at if timezone.is_aware(at) else timezone.make_aware(at)
    if kwargs:
        words["meta"] = {_POSITIONAL: len(args)}
    return CallOptions.of(**words).over(of.call_options(tuple(args), kwargs))


def _arguments(signature: TaskSignature, document: Any, meta: Any) -> tuple[list[Any], dict[str, Any]]:
    """Which arguments a document was made of."""
    given = meta.get(_POSITIONAL) if isinstance(meta, dict) else None
    if signature.whole is not None and not (isinstance(document, dict) and signature.whole in document):
        if document is None and given is None:
            return [], {}
        document = {signature.whole: document}
    if document is None:
        return [], {}
    if not isinstance(document, dict):
        return list(document) if isinstance(document, list) else [document], {}
    rest = dict(document)
    names = signature._positional if given is None else signature._positional[:given]
    args = [rest.pop(name) for name in names if name in rest]
    args += rest.pop(REST, None) or []
    return args, rest


def _task_result(
    task: Any, id: str, status: str, args: Sequence[Any], kwargs: Mapping[str, Any], backend: str, **more: Any
) -> Any:
    values: dict[str, Any] = {
        "enqueued_at": None,
        "started_at": None,
        "last_attempted_at": None,
        "finished_at": None,
        "errors": [],
        "worker_ids": [],
    }
    return dj.TaskResult(
        task=task,
        id=id,
        status=dj.TaskResultStatus[status],
        args=list(args),
        kwargs=dict(kwargs),
        backend=backend,
        **(values | more),
    )


def _task_of(row: TaskRow) -> Any:
    """The task of Django's that a row is of, as it was enqueued."""
    found = getattr(registry.get(row.handler), "of_django", None)
    if found is None:
        try:
            found = import_string(row.handler)
        except ImportError:
            found = None
        if not isinstance(found, dj.DjangoTask):
            raise dj.TaskResultMismatch(f"{row.handler} is no task of Django's")
    run_after = row.run_at if row.state == "delayed" and not row.attempt else None
    try:
        return found.using(
            priority=found.priority if row.priority is None else row.priority,
            queue_name=row.queue or dj.DEFAULT_TASK_QUEUE_NAME,
            run_after=run_after,
        )
    except dj.InvalidTask:  # enqueued by somebody with other words
        return found


_LAST_LINE = re.compile(r"^([A-Za-z_][\w.]*)(?::|$)", re.MULTILINE)


def _class_path(name: str | None, traceback: str) -> str:
    if not name:
        last = _LAST_LINE.findall(traceback)
        name = last[-1] if last else "Exception"
    return name if "." in name else f"builtins.{name}"


def _errors(row: TaskRow, attempts: Sequence[Attempt]) -> list[Any]:
    """An error for each attempt that has failed."""
    last = row.error or {}
    found = []
    failed = [each for each in attempts if each.outcome not in ("done", "running")]
    for n, each in enumerate(failed):
        traceback = each.context or each.message or ""
        name = last.get("class") if n == len(failed) - 1 else None
        found.append(dj.TaskError(exception_class_path=_class_path(name, traceback), traceback=traceback))
    if not found and row.error:
        traceback = last.get("context") or last.get("traceback") or last.get("message") or ""
        found.append(dj.TaskError(exception_class_path=_class_path(last.get("class"), traceback), traceback=traceback))
    return found


# In the worker.


def _result_of_taken(context: Context, **more: Any) -> Any:
    taken = context.taken
    task = registry.get(taken.handler)
    assert isinstance(task, OfDjango)
    args, kwargs = _arguments(task.signature, taken.args, taken.meta)
    worker = f"{socket.gethostname()}:{os.getpid()}"
    now = timezone.now()
    values: dict[str, Any] = {
        "enqueued_at": context.created_at,
        "started_at": now,
        "last_attempted_at": now,
        "worker_ids": [worker] * taken.attempt,
    }
    return _task_result(
        task.of_django, taken.id, more.pop("status", "RUNNING"), args, kwargs, task.of_django.backend, **(values | more)
    )


def tell_started(context: Context) -> None:
    """Sends task_started."""
    dj.task_started.send_robust(Backend, task_result=_result_of_taken(context))


def tell_finished(context: Context, outcome: Outcome, error: BaseException | None) -> None:
    """Sends task_finished: after the end was committed."""
    document = outcome.error or {}
    failures = []
    if outcome.kind == "failed":
        traceback = document.get("traceback", "")
        failures.append(
            dj.TaskError(exception_class_path=_class_path(document.get("class"), traceback), traceback=traceback)
        )
    status = "SUCCESSFUL" if outcome.kind == "done" else "FAILED"
    found = _result_of_taken(context, status=status, finished_at=timezone.now(), errors=failures)
    if error is None:
        dj.task_finished.send_robust(Backend, task_result=found)
        return
    try:
        raise error
    except BaseException:  # receivers find it in sys.exc_info()
        dj.task_finished.send_robust(Backend, task_result=found)
