"""A task that was enqueued, seen from outside."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from . import codec
from .errors import ResultTimeout, TaskFailed, TaskNotKept
from .options import CallOptions

if TYPE_CHECKING:
    from .app import App
    from .calls import Call

__all__ = ["Attempt", "Fanout", "Reason", "Result", "TaskRow"]

#: states in which nothing happens any more
FINAL = frozenset({"done", "failed", "cancelled", "expired", "quarantined"})


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRow:
    """A task as tq_fetch shows it."""

    id: UUID
    tenant: str
    handler: str
    state: str
    reason: str | None
    attempt: int
    max_attempts: int
    name: str | None
    queue: str | None
    priority: int | None
    run_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    created_at: datetime | None
    schedule: str | None
    scheduled_for: datetime | None
    group_id: str | None
    enqueued_by: str | None
    parent_id: UUID | None
    error: dict[str, Any] | None
    result: Any
    args: Any
    meta: Any

    @property
    def finished(self) -> bool:
        """Whether nothing happens to it any more."""
        return self.state in FINAL

    @classmethod
    def of(cls, document: dict[str, Any]) -> TaskRow:
        """Of the row as a JSON document."""
        values = {name: document.get(name) for name in cls.__dataclass_fields__}
        for name in ("run_at", "started_at", "finished_at", "created_at", "scheduled_for"):
            values[name] = _moment(values[name])
        for name in ("id", "parent_id"):
            values[name] = UUID(values[name]) if values[name] else None
        return cls(**values)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What happened in one attempt: a row of tq_attempts."""

    attempt: int
    outcome: str
    started_at: datetime | None
    duration: str | None
    pid: int | None
    sqlstate: str | None
    message: str | None
    detail: str | None
    context: str | None

    @classmethod
    def of(cls, document: dict[str, Any]) -> Attempt:
        """Of the row as a JSON document."""
        values = {name: document.get(name) for name in cls.__dataclass_fields__}
        values["started_at"] = _moment(values["started_at"])
        return cls(**values)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a task doesn't run: a row of tq_why."""

    reason: str
    detail: str | None
    hint: str | None


def _moment(value: Any) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        return datetime.fromisoformat(value)
    except ValueError:  # infinity
        return None


class Unset:
    """No default was given."""


_UNSET = Unset()


class Result:
    """A task by its id: `task.enqueue()` returns it, `Result.of(id)` makes one.

    `state`, `error` and what else a task has are asked of the server each time; `fetch()` has all at once.
    """

    __slots__ = ("_app", "_row", "handler", "id", "tenant")

    def __init__(self, app: App | None, id: UUID, tenant: str | None, handler: str | None = None) -> None:
        self._app = app
        #: of the task
        self.id = id
        #: its schema; None = the first one of search_path
        self.tenant = tenant
        #: what it calls; None = not known yet
        self.handler = handler
        self._row: TaskRow | None = None

    @classmethod
    def of(cls, id: UUID | str, *, tenant: str | None = None, app: App | None = None) -> Result:
        """The task of this id, as it was kept by somebody."""
        from .app import App

        app = app or App.current()
        return cls(app, id if isinstance(id, UUID) else UUID(id), tenant or app.current_tenant())

    @classmethod
    def find(cls, name: str, *, tenant: str | None = None, app: App | None = None) -> Result | None:
        """The newest task of this name; None = there is none."""
        from .app import App

        app = app or App.current()
        tenant = tenant or app.current_tenant()
        found = app.value(app.calls.find(name, tenant))
        return None if found is None else cls(app, found if isinstance(found, UUID) else UUID(str(found)), tenant)

    def __repr__(self) -> str:
        return f"<Result {self.handler or ''} {self.id}{' of ' + self.tenant if self.tenant else ''}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Result) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    @property
    def app(self) -> App:
        """Who asks the server."""
        if self._app is None:
            from .app import App

            self._app = App.current()
        return self._app

    # The whole task.

    def _fetch_call(self, wait: float = 0) -> Call:
        return self.app.calls.fetch(self.id, codec.interval_text(float(wait)), self.tenant)

    def _keep(self, rows: list[tuple[Any, ...]]) -> TaskRow | None:
        self._row = TaskRow.of(codec.loads(rows[0][0])) if rows else None
        if self._row is not None:
            self.handler = self._row.handler
        return self._row

    def _known(self, row: TaskRow | None) -> TaskRow:
        if row is None:
            raise TaskNotKept(
                f"the task {self.id} is neither waiting nor kept",
                sqlstate="P0002",
                detail=f"It was looked for in the tenant {self.tenant}." if self.tenant else None,
                hint="It was never committed there, or its result was let go: result_ttl and save say how long.",
            )
        return row

    def fetch(self) -> TaskRow:
        """The task as it is now. Raises `TaskNotKept`."""
        return self._known(self._keep(self.app.run(self._fetch_call())))

    async def afetch(self) -> TaskRow:
        """`fetch` from a coroutine."""
        await self.app.acalls()
        return self._known(self._keep(await self.app.arun(self._fetch_call())))

    @property
    def state(self) -> str:
        """deferred, delayed, queued, running, retrying, held; of finished ones done, failed, cancelled, expired,
        quarantined."""
        return self.fetch().state

    @property
    def reason(self) -> str | None:
        """Why it doesn't run, or hasn't ended well, in one line."""
        return self.fetch().reason

    @property
    def args(self) -> Any:
        """What it was called with, as a document."""
        return self.fetch().args

    @property
    def error(self) -> dict[str, Any] | None:
        """Its last error: message, class, context (its traceback), sqlstate …"""
        return self.fetch().error

    @property
    def finished(self) -> bool:
        """Whether nothing happens to it any more."""
        return self.fetch().finished

    @property
    def progress(self) -> tuple[float, Any] | None:
        """How far it says that it is, while it runs: a fraction and a note; None = it says nothing, or doesn't run."""
        rows = self.app.run(self.app.calls.running(self.id))
        return _progress(rows)

    async def aprogress(self) -> tuple[float, Any] | None:
        """`progress` from a coroutine."""
        calls = await self.app.acalls()
        return _progress(await self.app.arun(calls.running(self.id)))

    def attempts(self) -> list[Attempt]:
        """What happened, attempt by attempt."""
        return _attempts(self.app.run(self.app.calls.attempts(self.id, self.tenant)))

    async def aattempts(self) -> list[Attempt]:
        """`attempts` from a coroutine."""
        calls = await self.app.acalls()
        return _attempts(await self.app.arun(calls.attempts(self.id, self.tenant)))

    def why(self) -> list[Reason]:
        """Why it doesn't run: every reason, the decisive one first."""
        return _reasons(self.app.run(self.app.calls.why(self.id, self.tenant)))

    async def awhy(self) -> list[Reason]:
        """`why` from a coroutine."""
        calls = await self.app.acalls()
        return _reasons(await self.app.arun(calls.why(self.id, self.tenant)))

    # Its end.

    def wait(self, timeout: float | timedelta | None = None) -> TaskRow:
        """Waits for its end; None = for ever. Raises `ResultTimeout`, `TaskNotKept`; and `NotReady` inside a task, or
        where the very transaction has enqueued it."""
        until = _until(timeout)
        while True:
            left = _left(until)
            row = self._known(self._keep(self.app.run(self._fetch_call(min(left, 10.0)))))
            if row.finished:
                return row
            if _left(until) <= 0:
                raise self._late(row, timeout)

    async def await_(self, timeout: float | timedelta | None = None) -> TaskRow:
        """`wait` from a coroutine: it asks again and again, less often as time goes by, and keeps no connection
        meanwhile."""
        until = _until(timeout)
        pause = 0.01
        while True:
            row = await self.afetch()
            if row.finished:
                return row
            left = _left(until)
            if left <= 0:
                raise self._late(row, timeout)
            await asyncio.sleep(min(pause, left))
            pause = min(pause * 1.5, 0.5)

    def _late(self, row: TaskRow, timeout: Any) -> ResultTimeout:
        return ResultTimeout(
            f"the task {self.id} has not ended" + (f" within {timeout}" if timeout else ""),
            detail=f"It is {row.state}" + (f": {row.reason}." if row.reason else "."),
            hint="Result.why() says what it waits for.",
        )

    def get(self, timeout: float | timedelta | None = 0, *, propagate: bool = True, default: Any = _UNSET) -> Any:
        """What the function has returned, as its annotation says.

        timeout: how long to wait; 0 = not at all, None = for ever
        propagate: True = a task that hasn't ended well raises `TaskFailed`; False = returns its error, as a document
        default: returned in place of `ResultTimeout`
        """
        try:
            row = self.wait(timeout)
        except ResultTimeout:
            if default is _UNSET:
                raise
            return default
        return self._outcome(row, propagate)

    async def aget(
        self, timeout: float | timedelta | None = 0, *, propagate: bool = True, default: Any = _UNSET
    ) -> Any:
        """`get` from a coroutine."""
        try:
            row = await self.await_(timeout)
        except ResultTimeout:
            if default is _UNSET:
                raise
            return default
        return self._outcome(row, propagate)

    def _outcome(self, row: TaskRow, propagate: bool) -> Any:
        if row.state == "done":
            task = self.app.registry.get(row.handler)
            return row.result if task is None else task.signature.decode_result(row.result)
        if not propagate:
            return row.error or {"message": row.reason or row.state}
        said = row.error or {}
        error = TaskFailed(
            f"the task {self.id} is {row.state}: {said.get('message') or row.reason or 'no reason is kept'}",
            sqlstate=said.get("sqlstate"),
            detail=said.get("detail"),
            hint=said.get("hint"),
        )
        error.error, error.state = row.error, row.state
        raise error

    # Doing something to it.

    def cancel(self, *, running: bool = True) -> bool:
        """Cancels it; False = there is nothing to cancel. running: one that runs is interrupted, and its effects roll
        back."""
        return bool(self.app.value(self.app.calls.cancel(self.id, running, self.tenant)))

    async def acancel(self, *, running: bool = True) -> bool:
        """`cancel` from a coroutine."""
        calls = await self.app.acalls()
        return bool(await self.app.avalue(calls.cancel(self.id, running, self.tenant)))

    def _requeue_call(self, run_at: datetime | None, args: Any, reset_attempts: bool) -> Call:
        at = CallOptions.of(run_at=run_at).values.get("run_at")
        text = None if args is None else codec.dumps(args, Any, "args")
        return self.app.calls.requeue(self.id, at, text, reset_attempts, self.tenant)

    def requeue(self, *, run_at: datetime | None = None, args: Any = None, reset_attempts: bool = True) -> bool:
        """Runs a finished or quarantined one again under the same id; False = it is unknown, or unfinished anyway."""
        return bool(self.app.value(self._requeue_call(run_at, args, reset_attempts)))

    async def arequeue(self, *, run_at: datetime | None = None, args: Any = None, reset_attempts: bool = True) -> bool:
        """`requeue` from a coroutine."""
        await self.app.acalls()
        return bool(await self.app.avalue(self._requeue_call(run_at, args, reset_attempts)))

    def update(self, **words: Any) -> bool:
        """Changes one that waits: run_at, queue, priority, expires … as tq_update has them; False = it doesn't wait."""
        return bool(self.app.value(self.app.calls.update(self.id, CallOptions.of(**words).values, self.tenant)))

    def delete(self) -> bool:
        """Deletes a finished one with its result; False = it is unknown, or not finished."""
        return bool(self.app.value(self.app.calls.delete(self.id, self.tenant)))


def _progress(rows: list[tuple[Any, ...]]) -> tuple[float, Any] | None:
    if not rows:
        return None
    row = codec.loads(rows[0][0])
    return None if row.get("progress") is None else (float(row["progress"]), row.get("note"))


def _attempts(rows: Iterable[tuple[Any, ...]]) -> list[Attempt]:
    return [Attempt.of(codec.loads(row[0])) for row in rows]


def _reasons(rows: Iterable[tuple[Any, ...]]) -> list[Reason]:
    return [Reason(each["reason"], each["detail"], each["hint"]) for each in (codec.loads(row[0]) for row in rows)]


def _until(timeout: float | timedelta | None) -> float | None:
    if timeout is None:
        return None
    return time.monotonic() + (timeout.total_seconds() if isinstance(timeout, timedelta) else timeout)


def _left(until: float | None) -> float:
    return 3600.0 if until is None else max(until - time.monotonic(), 0.0)


@dataclass(frozen=True, slots=True)
class Fanout:
    """A call in many tenants: a line of tq_fanouts."""

    app: App
    #: of the fan-out
    id: UUID
    #: what each tenant calls
    handler: str

    def tenants(self) -> list[dict[str, Any]]:
        """What became of it in each tenant: rows of tq_fanout_tenants."""
        return [codec.loads(row[0]) for row in self.app.run(self.app.calls.fanout_tenants(self.id))]
