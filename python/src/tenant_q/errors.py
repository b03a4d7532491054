"""Every exception that the package raises, and which SQLSTATE of the server becomes which.

All are `TenantQError`. What came from the server keeps `sqlstate`, `detail` and `hint`; what the package itself refuses
has them where they say something. `str()` of an error is its message, its detail and its hint: what happened, about
what, and what to do.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

__all__ = [
    "ArgumentsDoNotFit",
    "Cancelled",
    "CannotTravel",
    "ClaimLost",
    "ConnectionLost",
    "DependencyFailed",
    "DoesNotFit",
    "DuplicateTask",
    "Fail",
    "InTransaction",
    "InvalidOption",
    "ModelCannotTravel",
    "NaiveDatetime",
    "NameTaken",
    "NoApp",
    "NoTenant",
    "NotAllowed",
    "NotInstalled",
    "NotReady",
    "OverLimit",
    "PooledConnection",
    "Refused",
    "ResultTimeout",
    "Retry",
    "StillNeeded",
    "Superseded",
    "TaskFailed",
    "TaskNotKept",
    "TenantQError",
    "TooLarge",
    "UniqueKeyTaken",
    "UnknownTask",
    "UnknownTenant",
    "WrongProtocol",
    "by_sqlstate",
    "driver_error",
    "sqlstate_of",
    "translate",
]


class TenantQError(Exception):
    """What all errors of the package are."""

    def __init__(
        self, message: str, *, sqlstate: str | None = None, detail: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message)
        #: what went wrong, in one line
        self.message = message
        #: as PostgreSQL names the kind of error; None where it didn't come from the server
        self.sqlstate = sqlstate
        #: the facts
        self.detail = detail
        #: the way out
        self.hint = hint

    def __str__(self) -> str:
        parts = [self.message]
        if self.detail:
            parts.append(f"DETAIL: {self.detail}")
        if self.hint:
            parts.append(f"HINT: {self.hint}")
        return "\n".join(parts)


# What is wrong with the code or with what it is given: found before anything is sent, or by the server before anything
# is written.


class DoesNotFit(TenantQError, ValueError):
    """A value that makes no sense: of an option, a rule, a filter."""


class InvalidOption(DoesNotFit):
    """An option that there isn't, or one that can't be what it is given as."""


class ArgumentsDoNotFit(TenantQError, TypeError):
    """The arguments don't bind to the task's function, or aren't what its annotations say. Nothing was enqueued."""


class CannotTravel(TenantQError, TypeError):
    """A value that can't be written as JSON and come back as it was. Nothing was enqueued."""


class NaiveDatetime(CannotTravel):
    """A datetime without a time zone: it would mean another moment elsewhere."""


class ModelCannotTravel(CannotTravel):
    """A model's instance or a query set: what the row says may have changed when the task runs."""


class DuplicateTask(TenantQError, ValueError):
    """Two functions of one task's name, or of one alias."""


class UnknownTask(TenantQError, LookupError):
    """No task of this name: not in this process, or not registered in the tenant (42704)."""


class NoApp(TenantQError, RuntimeError):
    """There is no `App` yet that could do the work."""


class NoTenant(TenantQError, RuntimeError):
    """It isn't said for which tenant, and would be done in a schema by accident."""


# What the server says.


class NotInstalled(TenantQError, RuntimeError):
    """The database hasn't the extension tenant_q, or its server doesn't preload it."""


class WrongProtocol(TenantQError, RuntimeError):
    """The extension speaks another version of the workers' protocol than this package."""


class PooledConnection(TenantQError, RuntimeError):
    """A connection that takes tasks goes through a pooler that shares sessions."""


class UnknownTenant(TenantQError, LookupError):
    """There is no schema of this name (3F000)."""


class NotReady(TenantQError, RuntimeError):
    """The schema isn't attached, is paused or not ready, or this can't be done here (55000)."""


class NotAllowed(TenantQError, PermissionError):
    """The role has not the right that this takes (42501)."""


class UniqueKeyTaken(TenantQError, ValueError):
    """Another unfinished task has the unique_key (23505)."""


class TooLarge(TenantQError, ValueError):
    """Arguments, a result or a name that are too large (54000)."""


class OverLimit(TenantQError, RuntimeError):
    """A quota of the tenant, or tenant_q.max_claims, is used up (53400)."""


class InTransaction(TenantQError, RuntimeError):
    """What can't be called inside a transaction, or after it has written something (25001, 2D000)."""


class NameTaken(TenantQError, ValueError):
    """Something of this name is there already (42710)."""


class StillNeeded(TenantQError, ValueError):
    """Something else depends on what was to go (2BP01)."""


class TaskFailed(TenantQError):
    """The task that was asked for hasn't ended well (TQ002). `error` is its error as a document."""

    #: message, class, context (the traceback), sqlstate … of the task's error
    error: dict[str, Any] | None = None
    #: failed, cancelled, expired or quarantined
    state: str | None = None


class TaskNotKept(TenantQError, LookupError):
    """The task is neither waiting nor kept: never there, or its result was let go (P0002)."""


class DependencyFailed(TenantQError):
    """What a task waited for hasn't ended well (TQ004)."""


class Refused(TenantQError):
    """A listener of the tenant refused it (TQ005)."""


class Superseded(TenantQError):
    """A newer task of the same unique_key does the work (TQ006)."""


class ClaimLost(TenantQError):
    """The task isn't this worker's any more: cancelled, changed, or given to another one (TQ007)."""


class ConnectionLost(TenantQError, ConnectionError):
    """The connection ended during COMMIT: whether it was done only the server knows. Nothing is repeated."""


class ResultTimeout(TenantQError, TimeoutError):
    """The task hasn't ended within the time that `wait` and `get` were given."""


# What a task's function raises to say how its attempt ends.


class Retry(Exception):
    """Raised in a task: its effects roll back, and it is tried again.

    delay: until then, seconds, a timedelta or PostgreSQL's words; None = as its policy says
    message: noted of the attempt
    count: False = puts it off, without an attempt
    """

    def __init__(self, delay: Any = None, message: str | None = None, *, count: bool = True) -> None:
        super().__init__(message or "another attempt was asked for")
        self.delay = delay
        self.message = message
        self.count = count


class Fail(Exception):
    """Raised in a task: its effects roll back, and it has failed for good."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Cancelled(BaseException):
    """Raised in a task that was cancelled, or whose time is over, where it asks by `check()`. No `Exception`, so that
    nothing swallows it."""

    def __init__(self, what: str = "cancel") -> None:
        super().__init__({"cancel": "the task was cancelled", "timeout": "the task's time is over"}.get(what, what))
        #: cancel, timeout, drain or lost
        self.what = what


#: SQLSTATE of an error of one of the extension's functions → its class. Of what isn't here the first two characters
#: decide, then `DoesNotFit`.
by_sqlstate: dict[str, type[TenantQError]] = {
    "TQ002": TaskFailed,
    "TQ004": DependencyFailed,
    "TQ005": Refused,
    "TQ006": Superseded,
    "TQ007": ClaimLost,
    "42704": UnknownTask,
    "42501": NotAllowed,
    "42710": NameTaken,
    "42883": NotInstalled,
    "42P02": ArgumentsDoNotFit,
    "54023": ArgumentsDoNotFit,
    "22P02": ArgumentsDoNotFit,
    "22007": ArgumentsDoNotFit,
    "22008": ArgumentsDoNotFit,
    "22003": ArgumentsDoNotFit,
    "23505": UniqueKeyTaken,
    "25001": InTransaction,
    "2D000": InTransaction,
    "2BP01": StillNeeded,
    "3F000": UnknownTenant,
    "53400": OverLimit,
    "54000": TooLarge,
    "55000": NotReady,
    "P0002": TaskNotKept,
    "22023": DoesNotFit,
    "22004": DoesNotFit,
    "0A000": DoesNotFit,
}


def sqlstate_of(error: BaseException) -> str | None:
    """The SQLSTATE of a driver's error, of psycopg 3 or psycopg2, or of the one that a wrapper (Django's) was raised
    from."""
    for found in _chain(error):
        state = getattr(found, "sqlstate", None) or getattr(found, "pgcode", None)
        if isinstance(state, str):
            return state
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    at: BaseException | None = error
    while at is not None and id(at) not in seen:
        seen.add(id(at))
        yield at
        at = at.__cause__


def driver_error(error: BaseException) -> BaseException | None:
    """The error of psycopg 3 or psycopg2 that this one is or was raised from."""
    return next(
        (e for e in _chain(error) if hasattr(e, "diag") and (hasattr(e, "sqlstate") or hasattr(e, "pgcode"))), None
    )


def translate(error: BaseException) -> TenantQError | None:
    """What the package raises for a driver's error of a call of its own; None = the error itself is what there is to
    say."""
    found = driver_error(error)
    state = sqlstate_of(error) if found is not None else None
    if found is None or state is None:
        return None
    kind = by_sqlstate.get(state)
    if kind is None:
        return None
    diag: Any = found.diag  # type: ignore[attr-defined]
    message = diag.message_primary or str(found)
    hint = diag.message_hint
    if kind is NotInstalled:  # PostgreSQL's own hint is about casts
        hint = "CREATE EXTENSION tenant_q in this database; where it is an older one, ALTER EXTENSION tenant_q UPDATE."
    return kind(message, sqlstate=state, detail=diag.message_detail, hint=hint)
