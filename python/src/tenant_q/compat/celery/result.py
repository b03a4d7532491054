"""Celery's results."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from ...app import App
from ...errors import TaskFailed, TaskNotKept
from ...result import Result, TaskRow
from .._call import return_value
from .._common import as_uuid, find, fresh_id, look, raised, trace_of, wait_for
from .exceptions import Ignore, Reject, Retry, TaskRevokedError, TimeoutError

if TYPE_CHECKING:
    from .task import Task

__all__ = ["AsyncResult", "EagerResult", "GroupResult", "ResultSet"]

_STATES = {
    "done": "SUCCESS",
    "failed": "FAILURE",
    "quarantined": "FAILURE",
    "cancelled": "REVOKED",
    "expired": "REVOKED",
    "running": "STARTED",
    "retrying": "RETRY",
}


class AsyncResult:
    """A task by its id: state, get() and what else Celery has. A task that waits is PENDING, as is one that nobody
    knows."""

    def __init__(
        self,
        id: str,
        backend: Any = None,
        task_name: str | None = None,
        app: Any = None,
        parent: Any = None,
        *,
        tenant: str | None = None,
    ) -> None:
        self.id = str(id)
        self.parent = parent
        self.ignored = False
        self._tenant = tenant
        self._uuid = as_uuid(id)

    @property
    def task_id(self) -> str:
        """The id."""
        return self.id

    @contextmanager
    def _in_tenant(self) -> Iterator[App]:
        app = App.current()
        if self._tenant is None or self._tenant == app.current_tenant():
            yield app
            return
        with app.tenant(self._tenant):
            yield app

    def _found(self) -> UUID | None:
        if self._uuid is None:
            self._uuid = find(self.id)
        return self._uuid

    def _row(self) -> TaskRow | None:
        with self._in_tenant():
            id = self._found()
            return None if id is None else look(id)

    @property
    def state(self) -> str:
        """PENDING, STARTED, RETRY, SUCCESS, FAILURE, REVOKED; while it runs, what update_state() has said."""
        row = self._row()
        said = self._said(row)
        return str(said["state"]) if said is not None else _state(row)

    status = state

    def _said(self, row: TaskRow | None) -> dict[str, Any] | None:
        if row is None or row.state != "running":
            return None
        with self._in_tenant() as app:
            progress = Result(app, row.id, row.tenant).progress
        note = progress[1] if progress is not None else None
        return note if isinstance(note, dict) and isinstance(note.get("state"), str) else None

    @property
    def result(self) -> Any:
        """What it has returned; of one that failed its exception; while it runs, what update_state() has said; else
        None."""
        row = self._row()
        said = self._said(row)
        if said is not None:
            return said.get("meta")
        if row is None or not row.finished:
            return None
        return return_value(row) if row.state == "done" else _error(row)

    info = result

    @property
    def traceback(self) -> str | None:
        """Of the last error."""
        row = self._row()
        return None if row is None else trace_of(row.error)

    def ready(self) -> bool:
        """Whether it has ended."""
        row = self._row()
        return row is not None and row.finished

    def successful(self) -> bool:
        """Whether it has ended well."""
        return _state(self._row()) == "SUCCESS"

    def failed(self) -> bool:
        """Whether it has failed for good."""
        return _state(self._row()) == "FAILURE"

    def get(self, timeout: float | None = None, propagate: bool = True, **words: Any) -> Any:
        """What it has returned, when it has ended. timeout: seconds, None = for ever; propagate: raises what the task
        has raised. Raises
        `TimeoutError`, and `TaskNotKept` of one that nobody knows."""
        if self.ignored:
            return None
        until = None if timeout is None else time.monotonic() + timeout
        if propagate and self.parent is not None:
            self._parent_first(until)
        with self._in_tenant():
            id = self._found()
            row = None if id is None else wait_for(id, None if until is None else max(until - time.monotonic(), 0.0))
            if row is None:
                raise self._none(id, timeout)
        if row.state == "done":
            value = return_value(row)
            callback = words.get("callback")
            if callback is not None:
                callback(self.id, value)
            return value
        error = _error(row)
        if propagate:
            raise error
        return error

    wait = get

    def _parent_first(self, until: float | None) -> None:
        """Of a chain whose step before hasn't ended well that one's error is raised."""
        row = self._row()
        if row is not None and row.state == "done":
            return
        left = None if until is None else max(until - time.monotonic(), 0.0)
        self.parent.get(timeout=left)

    def _none(self, id: UUID | None, timeout: float | None) -> Exception:
        if id is not None and look(id) is not None:
            return TimeoutError(f"the task {self.id} has not ended within {timeout} seconds")
        return TaskNotKept(
            f"the task {self.id} is neither waiting nor kept",
            hint="It was never committed in this tenant, or its result was let go: result_ttl, ignore_result.",
        )

    def maybe_throw(self, propagate: bool = True, callback: Any = None) -> Any:
        """Raises its exception, if it has ended badly."""
        return self.get(timeout=0, propagate=propagate) if self.ready() else None

    maybe_reraise = maybe_throw

    def revoke(
        self,
        connection: Any = None,
        terminate: bool = False,
        signal: Any = None,
        wait: bool = False,
        timeout: Any = None,
    ) -> None:
        """Cancels it; terminate: one that runs as well."""
        with self._in_tenant() as app:
            id = self._found()
            if id is not None:
                app.value(app.calls.cancel(id, terminate, app.current_tenant()))

    def forget(self) -> None:
        """Lets its result go."""
        with self._in_tenant() as app:
            id = self._found()
            if id is not None:
                app.value(app.calls.delete(id, app.current_tenant()))

    @property
    def date_done(self) -> datetime | None:
        """When it ended."""
        row = self._row()
        return None if row is None else row.finished_at

    @property
    def name(self) -> str | None:
        """The task's name."""
        row = self._row()
        return None if row is None else row.handler

    @property
    def args(self) -> Any:
        """Positional arguments."""
        return self._shown(0)

    @property
    def kwargs(self) -> Any:
        """Named arguments."""
        return self._shown(1)

    def _shown(self, which: int) -> Any:
        from .app import current_app

        row = self._row()
        task = None if row is None else current_app().tasks.get(row.handler)
        return None if row is None or task is None else task._form.shown(row.args)[which]

    @property
    def retries(self) -> int | None:
        """How often it was tried again."""
        row = self._row()
        return None if row is None else max(row.attempt - 1, 0)

    @property
    def queue(self) -> str | None:
        """Its queue."""
        row = self._row()
        return None if row is None else row.queue

    def __str__(self) -> str:
        return self.id

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.id}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AsyncResult) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)


def _state(row: TaskRow | None) -> str:
    return "PENDING" if row is None else _STATES.get(row.state, "PENDING")


def _error(row: TaskRow) -> Exception:
    if row.state in ("cancelled", "expired"):
        return TaskRevokedError(row.state if row.state == "expired" else "revoked")
    error = raised(row.error, TaskFailed, row.reason or row.state)
    if isinstance(error, TaskFailed):
        error.error, error.state = row.error, row.state
    return error


class ResultSet:
    """Several results."""

    def __init__(self, results: Iterable[Any]) -> None:
        self.results = list(results)

    def ready(self) -> bool:
        """Whether all have ended."""
        return all(each.ready() for each in self.results)

    def successful(self) -> bool:
        """Whether all have ended well."""
        return all(each.successful() for each in self.results)

    def failed(self) -> bool:
        """Whether one has failed."""
        return any(each.failed() for each in self.results)

    def waiting(self) -> bool:
        """Whether one has not ended."""
        return any(not each.ready() for each in self.results)

    def completed_count(self) -> int:
        """How many have ended well."""
        return sum(1 for each in self.results if each.successful())

    def get(self, timeout: float | None = None, propagate: bool = True, **words: Any) -> list[Any]:
        """What each has returned, in order."""
        until = None if timeout is None else time.monotonic() + timeout
        return [
            each.get(
                timeout=None if until is None else max(until - time.monotonic(), 0.0), propagate=propagate, **words
            )
            for each in self.results
        ]

    join = get
    join_native = get

    def revoke(self, connection: Any = None, terminate: bool = False, **words: Any) -> None:
        """Cancels them."""
        for each in self.results:
            each.revoke(terminate=terminate)

    def forget(self) -> None:
        """Lets their results go."""
        for each in self.results:
            each.forget()

    def __iter__(self) -> Iterator[Any]:
        return iter(self.results)

    def __len__(self) -> int:
        return len(self.results)

    def __getitem__(self, n: int) -> Any:
        return self.results[n]


class GroupResult(ResultSet):
    """Results of a group; its id is that of the flow."""

    def __init__(self, id: str | None = None, results: Iterable[Any] = (), parent: Any = None, **words: Any) -> None:
        super().__init__(results)
        self.id = id
        self.parent = parent

    @property
    def children(self) -> list[Any]:
        """The results."""
        return self.results

    def save(self, backend: Any = None) -> GroupResult:
        """It is kept anyway."""
        return self

    @classmethod
    def restore(cls, id: str, backend: Any = None, app: Any = None) -> GroupResult | None:
        """Of the id of a group's flow; None = it is not kept."""
        from .._common import documents

        here, flow = App.current(), as_uuid(id)
        if flow is None:
            return None
        at = here.calls.at
        sql = " UNION ALL ".join(
            f"SELECT pg_catalog.jsonb_build_array(x.meta #> '{{celery,n}}', x.id) FROM {at}{view} AS x WHERE"
            " x.group_id = %s"
            for view in ("tq_tasks", "tq_results")
        )
        found = sorted(documents(here, sql, [flow.hex, flow.hex]))
        return cls(id, [AsyncResult(each) for _, each in found]) if found else None

    def __repr__(self) -> str:
        return f"<GroupResult: {self.id} [{', '.join(str(each.id) for each in self.results)}]>"


class EagerResult(AsyncResult):
    """What was called where it was to be enqueued."""

    def __init__(self, id: str, value: Any, state: str, trace: str | None = None) -> None:
        super().__init__(id)
        self._value = value
        self._ended = state
        self._trace = trace

    @property
    def state(self) -> str:
        return self._ended

    status = state

    @property
    def result(self) -> Any:
        return self._value

    info = result

    @property
    def traceback(self) -> str | None:
        return self._trace

    def ready(self) -> bool:
        return True

    def successful(self) -> bool:
        return self._ended == "SUCCESS"

    def failed(self) -> bool:
        return self._ended == "FAILURE"

    def get(self, timeout: float | None = None, propagate: bool = True, **words: Any) -> Any:
        if self._ended == "FAILURE" and propagate:
            raise self._value
        return self._value

    wait = get

    def revoke(self, *args: Any, **words: Any) -> None:
        self._ended = "REVOKED"

    def forget(self) -> None:
        """Nothing is kept."""


def eager_of(call: Callable[[], Any], id: str | None = None, throw: bool = False) -> EagerResult:
    """The result of a call here and now."""
    id = id or str(fresh_id())
    try:
        return EagerResult(id, call(), "SUCCESS")
    except Exception as error:
        if throw:
            raise
        return EagerResult(id, error, "FAILURE", traceback.format_exc())


def run_eagerly(
    task: Task,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    throw: bool | None,
    task_id: str | None,
    retries: int,
    options: Mapping[str, Any],
) -> EagerResult:
    """Calls a task here and now, again where it retries."""
    from .task import Request

    throw = task.app.conf.task_eager_propagates if throw is None else throw
    id = task_id or str(fresh_id())
    task._form.plain.bind(*args, **kwargs)

    def call() -> Any:
        attempt = retries
        while True:
            request = Request(
                id=id,
                args=args,
                kwargs=kwargs,
                retries=attempt,
                is_eager=True,
                called_directly=False,
                headers=options.get("headers"),
                task=task.name,
            )
            try:
                with task.running(request):
                    value = task._call(args, kwargs)
                    task.on_success(value, id, args, kwargs)
                    return value
            except Retry:
                attempt += 1
            except (Ignore, Reject):
                return None
            except Exception as error:
                task.on_failure(error, id, args, kwargs, None)
                raise

    return eager_of(call, id, throw)
