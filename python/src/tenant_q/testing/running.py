"""Tasks that are run by the test itself, in its thread."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ..app import App
from ..codec import interval_text
from ..context import Context, Taken, _draining
from ..errors import NaiveDatetime
from ..execute import Outcome, execute

__all__ = ["Ran", "drain", "run_pending"]


@dataclass(frozen=True, slots=True)
class Ran:
    """An attempt that was run."""

    taken: Taken
    outcome: Outcome

    @property
    def handler(self) -> str:
        """What was called."""
        return self.taken.handler

    @property
    def id(self) -> str:
        """Of the task."""
        return self.taken.id

    @property
    def state(self) -> str:
        """done, retrying, failed, released, lost or unknown."""
        return self.outcome.kind

    @property
    def error(self) -> dict[str, Any] | None:
        """message, class and traceback of what went wrong."""
        return self.outcome.error

    @property
    def exception(self) -> BaseException | None:
        """What the function has raised."""
        return self.outcome.exception


def _one(app: App, document: str, propagate: bool) -> Ran:
    taken = Taken.of(json.loads(document))
    ran = Ran(taken, execute(app, taken, context=Context(app, taken)))
    if propagate and ran.exception is not None and ran.state != "released":
        raise ran.exception
    return ran


@contextmanager
def _drains() -> Iterator[None]:
    token = _draining.set(True)
    try:
        yield
    finally:
        _draining.reset(token)


def drain(
    app: App | None = None,
    *,
    n: int | None = 1000,
    as_of: datetime | None = None,
    tenant: str | None = None,
    propagate: bool = False,
) -> list[Ran]:
    """Runs due tasks inside of the open transaction, a savepoint each, those included that they enqueue, until nothing
    is due.

    n: attempts at most; None = any number
    as_of: tasks and retries due by then are run too; an aware datetime
    tenant: None = the App's, else the first schema of search_path
    propagate: the first exception of a task goes on to the test
    """
    app = app or App.current()
    if as_of is not None and as_of.utcoffset() is None:
        raise NaiveDatetime("as_of is a datetime without a time zone", hint="Pass datetime.now(timezone.utc) + ….")
    moment = None if as_of is None else as_of.isoformat()
    tenant = tenant or app.current_tenant()
    ran: list[Ran] = []
    with app.inside(), _drains():
        while n is None or len(ran) < n:
            # One at a time: what a task enqueues of a higher priority comes before what waits already, as it does in a
            # worker.
            rows = app.run(app.calls.drain_take(1, moment, tenant))
            if not rows:
                break
            ran.append(_one(app, rows[0][0], propagate))
    return ran


def run_pending(
    app: App | None = None,
    *,
    n: int | None = None,
    wait: float = 0,
    tenant: str | None = None,
    propagate: bool = False,
) -> list[Ran]:
    """Runs committed tasks that are due, each in a transaction of its own, as a worker does, until nothing has been due
    for as long as `wait`. For tests that commit, and for scripts. The parameters are those of `drain`."""
    app = app or App.current()
    tenant = tenant or app.current_tenant()
    ran: list[Ran] = []
    calls = app.calls
    with closing(app.connect()) as taker:
        while n is None or len(ran) < n:
            call = calls.take(
                1,
                app.registry.names() or [""],
                None,
                tenant and [tenant],
                interval_text(float(wait)),
                "tenant_q.testing",
            )
            rows = taker.execute(call.sql, call.params).fetchall()
            if not rows:
                break
            ran.append(_one(app, rows[0][0], propagate))
    return ran
