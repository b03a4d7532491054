"""What a task that runs knows of itself: `current()`, and the first argument of a function with takes_context."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NoReturn
from uuid import UUID, uuid4

from . import codec
from .errors import Cancelled, ClaimLost, ConnectionLost, Fail, NotReady, Retry
from .options import Length

if TYPE_CHECKING:
    from .app import App

__all__ = ["Committing", "Context", "Taken", "current"]


def _moment(value: Any) -> datetime | None:
    return datetime.fromisoformat(value) if isinstance(value, str) else value


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A task that a worker has taken: a row of tq_take. What it says is input, as from a form: the tenant's owner may
    have written it."""

    claim: str
    tenant: str
    id: str
    handler: str
    args: Any = None
    attempt: int = 1
    max_attempts: int = 0
    deadline: str | None = None
    queue: str = "default"
    name: str | None = None
    meta: Any = None
    schedule: str | None = None
    scheduled_for: str | None = None
    created_at: str | None = None
    shared: bool = False
    each: bool = False

    @classmethod
    def of(cls, document: dict[str, Any]) -> Taken:
        """Of the row as a JSON document; what a newer server adds is left out."""
        return cls(**{key: value for key, value in document.items() if key in _TAKEN})

    def document(self) -> dict[str, Any]:
        """The row as a JSON document."""
        return {name: getattr(self, name) for name in _TAKEN}


_TAKEN = tuple(Taken.__dataclass_fields__)

#: whether tasks run inside of a test's transaction: claims of tq_drain_take are known to nobody else
_draining: ContextVar[bool] = ContextVar("tenant_q.draining", default=False)
_current: ContextVar[Context | None] = ContextVar("tenant_q.current", default=None)


def current() -> Context | None:
    """The task that runs here; None outside of one."""
    return _current.get()


class Committing:
    """What `Context.commit()` gives: `result` may be set until its block ends."""

    __slots__ = ("result",)

    def __init__(self, result: Any) -> None:
        self.result = result


class Context:
    """The task that runs."""

    __slots__ = ("_news", "app", "committed", "committing", "encode_result", "running", "taken", "unsure")

    def __init__(self, app: App, taken: Taken) -> None:
        #: who runs it
        self.app = app
        #: all that is known of it
        self.taken = taken
        #: whether commit() has ended the task
        self.committed = False
        #: whether commit() is at it
        self.committing = False
        #: what commit() has raised where the claim was gone, or the connection lost during COMMIT: then nobody else
        #: ends it
        self.unsure: ClaimLost | ConnectionLost | None = None
        #: whether the function is being called: only then may the task be interrupted
        self.running = False
        #: how results become JSON text
        self.encode_result: Any = lambda value: None if value is None else codec.dumps(value, Any, "the result")
        self._news: str | None = None

    @classmethod
    def outside(cls, app: App, handler: str) -> Context:
        """One for a function that is called as a function, outside of a worker: it has no claim, and commit() only
        commits."""
        return cls(app, Taken(claim="", tenant=app.current_tenant() or "", id=str(uuid4()), handler=handler))

    @property
    def id(self) -> UUID:
        """Of the task; each attempt has the same: the idempotency key for whatever is outside of the database."""
        return UUID(self.taken.id)

    @property
    def tenant(self) -> str:
        """The schema."""
        return self.taken.tenant

    @property
    def handler(self) -> str:
        """The task's registered name."""
        return self.taken.handler

    @property
    def attempt(self) -> int:
        """From 1."""
        return self.taken.attempt

    @property
    def max_attempts(self) -> int:
        """0 = any number."""
        return self.taken.max_attempts

    @property
    def deadline(self) -> datetime | None:
        """Until when the attempt must have ended; None = it has no timeout."""
        return _moment(self.taken.deadline)

    @property
    def schedule(self) -> str | None:
        """The schedule that has made it."""
        return self.taken.schedule

    @property
    def scheduled_for(self) -> datetime | None:
        """The fire time that it is for."""
        return _moment(self.taken.scheduled_for)

    @property
    def created_at(self) -> datetime | None:
        """When it was enqueued."""
        return _moment(self.taken.created_at)

    @property
    def meta(self) -> Any:
        """What was passed along with it."""
        return self.taken.meta

    @property
    def queue(self) -> str:
        """'default' where the task is in none."""
        return self.taken.queue

    @property
    def name(self) -> str | None:
        """As the task was named."""
        return self.taken.name

    # Saying something.

    def progress(self, fraction: float, note: Any = None) -> None:
        """How far it is, 0 to 1: seen in tq_running at once. note: up to 256 bytes."""
        self.check()
        if self.taken.claim and not _draining.get():
            text = None if note is None else codec.dumps(note, Any, "note")
            self.app.say(lambda calls: calls.progress(fraction, text, self.taken.claim))

    def retry(self, delay: Length | None = None, message: str | None = None, *, count: bool = True) -> NoReturn:
        """Ends this attempt: its effects roll back, and the task is tried again. count=False puts it off without an
        attempt."""
        raise Retry(delay, message, count=count)

    def fail(self, message: str) -> NoReturn:
        """Ends the task as failed, without further attempts; its effects roll back."""
        raise Fail(message)

    @contextmanager
    def commit(self, result: Any = None) -> Iterator[Committing]:
        """For atomic=False: a transaction in which effects and the end of the task go together. What comes after it is
        not part of the task any more. The result may be set in the block: `with ctx.commit() as end: end.result =
        …`."""
        if self.committed:
            raise NotReady("the task has been committed already", hint="Call commit() once, last.")
        if self.committing or self.app.in_run():
            raise NotReady(
                "commit() inside of the task's transaction",
                hint="Declare the task with atomic=False; otherwise the function's end is the commit.",
            )
        end = Committing(result)
        self.committing = True
        try:
            with self.app.atomic():
                yield end
                if self.taken.claim:
                    self.app.finish(self.taken.claim, self.encode_result(end.result))
            self.committed = True
        except (ClaimLost, ConnectionLost) as error:
            self.unsure = error
            raise
        finally:
            self.committing = False

    # Hearing something.

    @property
    def cancelled(self) -> bool:
        """Whether somebody has cancelled it, its time is over, or the worker wants it to end."""
        return self._news is not None

    @property
    def news(self) -> str | None:
        """cancel, timeout, drain or lost; None = nothing was heard."""
        return self._news

    def tell(self, what: str) -> None:
        """For workers: what tq_watch has said."""
        self._news = what

    def check(self) -> None:
        """Raises `Cancelled` where the task is to end: call it now and then in a long loop."""
        if self._news is not None:
            raise Cancelled(self._news)

    # The database.

    def execute(self, sql: str, params: Sequence[Any] | None = None) -> list[Any]:
        """A statement in the task's transaction, with its tenant first on search_path: its rows."""
        return self.app.execute(sql, params)

    async def aexecute(self, sql: str, params: Sequence[Any] | None = None) -> list[Any]:
        """The same in an `async def` task: in the same transaction."""
        return await self.app.aexecute(sql, params)

    def time_left(self) -> timedelta | None:
        """Until the deadline; None = it has none."""
        deadline = self.deadline
        return None if deadline is None else deadline - datetime.now(deadline.tzinfo)

    def __repr__(self) -> str:
        return f"<Context {self.handler} {self.taken.id} of {self.tenant}, attempt {self.attempt}>"
