"""The supervisor's connection: it takes tasks, waits for them, says that the worker lives, and hears what has become of
them."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from dataclasses import dataclass
from typing import Any

import psycopg
import psycopg.conninfo

from .. import errors
from ..calls import FIND_EXTENSION, PROTOCOL, Call, Calls

__all__ = ["Control", "Lost", "Row"]

log = logging.getLogger("tenant_q.worker")

#: noticed without anybody's saying so: a cable that is cut. Within the lease, after which the server starts again what
#: was taken
_KEEPALIVE = {
    "application_name": "tenant_q worker",
    "connect_timeout": "10",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
}


class Lost(Exception):
    """The connection is gone, and with it all that was taken."""


@dataclass(frozen=True, slots=True)
class Row:
    """A task that was taken."""

    claim: str
    id: str
    handler: str
    tenant: str
    #: seconds until its deadline
    left: float | None
    #: all of it, JSON
    body: bytes


class Control:
    """One connection, in autocommit. Raises `Lost` when it is gone, and `TenantQError` where another one wouldn't
    help."""

    def __init__(self, conninfo: str, handlers: list[str], queues: Any, tenants: Any, name: str) -> None:
        said = psycopg.conninfo.conninfo_to_dict(conninfo)
        self.conninfo = psycopg.conninfo.make_conninfo(
            conninfo, **{word: value for word, value in _KEEPALIVE.items() if word not in said}
        )
        self.handlers, self.queues, self.tenants, self.name = handlers, queues, tenants, name
        self.connection: psycopg.AsyncConnection[Any] | None = None
        self.calls = Calls()
        self.lease, self.grace = 60.0, 10.0
        self.backend = 0
        self._waits = False
        self._cancelling: asyncio.Task[None] | None = None

    # Connecting.

    async def connect(self) -> None:
        """Raises `Lost` where trying again may help."""
        try:
            connection = await psycopg.AsyncConnection.connect(self.conninfo, autocommit=True)
        except psycopg.OperationalError as error:
            if _is_refusal(str(error)):
                raise errors.NotAllowed(
                    f"the worker can't connect: {error}".strip(),
                    hint="The App says where its database is, or --control does for the worker's own connection.",
                ) from error
            raise Lost(str(error).strip()) from error
        connection.add_notice_handler(_log_notice)
        self.connection = connection
        try:
            await self._check(connection)
        except BaseException:
            await self.close()
            raise

    async def _check(self, connection: psycopg.AsyncConnection[Any]) -> None:
        found = await self._rows(Call(FIND_EXTENSION, []))
        if not found:
            raise errors.NotInstalled(
                f"the database {connection.info.dbname} hasn't the extension tenant_q",
                hint="CREATE EXTENSION tenant_q there, or tell the App another database.",
            )
        self.calls = Calls(found[0][0])
        try:
            [(protocol,)] = await self._rows(self.calls.protocol())
        except psycopg.Error as error:
            raise errors.WrongProtocol(
                f"tenant_q {found[0][1]} in this database has no workers yet",
                hint="ALTER EXTENSION tenant_q UPDATE, after the server's package was updated and it was restarted.",
            ) from error
        if protocol != PROTOCOL:
            raise errors.WrongProtocol(
                f"tenant_q {found[0][1]} in this database speaks version {protocol} of the workers' protocol, and"
                f" this package version {PROTOCOL}",
                hint="Install the django-tenant-q that goes with it."
                if protocol > PROTOCOL
                else "ALTER EXTENSION tenant_q UPDATE, after the server's package was updated and it was restarted.",
            )
        self.backend = connection.info.backend_pid
        await self._refuse_pooler()
        [(lease, grace)] = await self._rows(
            Call(
                "SELECT pg_catalog.max(setting::float8) FILTER (WHERE name = 'tenant_q.worker_lease') / 1000,"
                " pg_catalog.max(setting::float8) FILTER (WHERE name = 'tenant_q.worker_grace') / 1000"
                " FROM pg_catalog.pg_settings WHERE name LIKE 'tenant_q.worker_%%'",
                [],
            )
        )
        if lease is None:
            raise errors.NotInstalled(
                "the server doesn't preload tenant_q",
                hint="Put it into shared_preload_libraries, and restart the server.",
            )
        self.lease, self.grace = lease, grace

    async def _refuse_pooler(self) -> None:
        for _ in range(2):
            [(pid,)] = await self._rows(Call("SELECT pg_catalog.pg_backend_pid()", []))
            if pid != self.backend:
                raise errors.PooledConnection(
                    "the worker's connection goes through a pooler",
                    detail=f"It was given backend {self.backend}, and statements run in backend {pid}. What a worker"
                    " has taken would outlive it there.",
                    hint="Tell it where the server itself is: --control 'host=… port=5432'. Tasks may go through the"
                    " pooler.",
                )

    async def close(self) -> None:
        """Ends the session, and with it whatever it has taken."""
        connection, self.connection = self.connection, None
        if connection is not None:
            try:
                await connection.close()
            except Exception:
                pass

    async def _hang_up(self, answer: asyncio.Future[Any]) -> None:
        """Ends the connection from here: no cancel is tried, for which the lease hasn't the time."""
        connection = self.connection
        if connection is not None and not connection.closed:
            try:
                with socket.socket(fileno=os.dup(connection.fileno())) as end:
                    end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        done, _ = await asyncio.wait([answer], timeout=1.0)
        if done:
            answer.exception()
        else:
            answer.cancel()
        await self.close()

    # Talking.

    async def _rows(self, call: Call) -> list[Any]:
        if self.connection is None:
            raise Lost("the connection is closed")
        cursor = await self.connection.execute(call.sql, call.params)
        return await cursor.fetchall() if cursor.description is not None else []

    async def _do(self, call: Call, within: float | None = None) -> list[Any]:
        """A call of the extension, as one statement in autocommit."""
        cancelling = self._cancelling
        if cancelling is not None:
            await asyncio.wait([cancelling])
            self._cancelling = None
        answer = asyncio.ensure_future(self._rows(call))
        done, _ = await asyncio.wait([answer], timeout=within or self.patience)
        if not done:
            await self._hang_up(answer)
            raise Lost("the server doesn't answer")
        try:
            return await answer
        except psycopg.errors.QueryCanceled:
            raise
        except psycopg.Error as error:
            await self._give_way(error)
            raise errors.translate(error) or error from error

    @property
    def patience(self) -> float:
        """Seconds that the server has for an answer: the lease must not run out meanwhile."""
        return max(1.0, self.lease / 3)

    async def _give_way(self, error: psycopg.Error) -> None:
        connection = self.connection
        state = error.sqlstate or ""
        if connection is None or connection.closed or connection.broken or state[:3] == "57P" or state[:2] == "08":
            await self.close()
            raise Lost(str(error).strip()) from error

    async def _again(self, call: Call) -> list[Any]:
        """What a cancel that came too late has ended is said again."""
        try:
            return await self._do(call)
        except psycopg.errors.QueryCanceled:
            return await self._do(call)

    async def take(self, n: int) -> list[Row]:
        """At most so many tasks."""
        at = self.calls.at
        call = Call(
            "SELECT x.claim::text, x.id::text, x.handler, x.tenant,"
            " EXTRACT(EPOCH FROM x.deadline - pg_catalog.clock_timestamp())::float8,"
            f" pg_catalog.to_jsonb(x)::text FROM {at}tq_take(%s::integer, %s::text[],"
            " %s::text[], %s::text[], '0'::interval, %s::text) AS x",
            [min(n, 1000), self.handlers, self.queues, self.tenants, self.name],
        )
        return [Row(c, i, h, t, left, body.encode()) for c, i, h, t, left, body in await self._again(call)]

    async def wait(self, seconds: float) -> None:
        """Until something may be taken, or told; ended by `call_back`."""
        call = self.calls.wait_for_tasks(f"{seconds} seconds", self.handlers, self.queues, self.tenants)
        self._waits = True
        try:
            await self._do(call, seconds + self.patience)
        except psycopg.errors.QueryCanceled:
            pass
        finally:
            self._waits = False

    def call_back(self) -> None:
        """Ends `wait`."""
        connection = self.connection
        if self._waits and connection is not None and self._cancelling is None:
            self._cancelling = asyncio.get_running_loop().create_task(_cancel(connection, min(5.0, self.lease / 6)))

    async def watch(self, claims: list[str] | None = None) -> list[tuple[str, str]]:
        """Says that the worker lives: claim and what has happened to it. claims: all that it has, so that it hears of
        those that aren't its any more, too."""
        return [tuple(row) for row in await self._again(self.calls.watch("0", claims))]

    async def release(self, claim: str, *, delay: str | None = None, reason: str, crashed: bool = False) -> bool:
        """Gives a task back; False: it wasn't ours any more."""
        return await self._end(self.calls.release(claim, delay, reason, crashed))

    async def give_up(self, claim: str, error: str) -> bool:
        """An attempt has failed; False: it wasn't ours any more."""
        return await self._end(self.calls.give_up(claim, error))

    async def _end(self, call: Call) -> bool:
        try:
            await self._again(call)
        except errors.ClaimLost:
            return False
        return True


#: what a server says that takes connections again later
_LATER = (
    "starting up",
    "shutting down",
    "too many",
    "connection slots",
    "recovery",
    "not accepting",
    "not yet accepting",
)


def _is_refusal(message: str) -> bool:
    """Whether a server is there that says no: a role or database that there isn't, a wrong password. (libpq keeps the
    SQLSTATE of that to itself. In another language than English it is tried again, and logged.)"""
    return "FATAL" in message and not any(each in message for each in _LATER)


async def _cancel(connection: psycopg.AsyncConnection[Any], seconds: float) -> None:
    try:
        await connection.cancel_safe(timeout=seconds)
    except Exception as error:
        log.debug("the wait couldn't be cancelled: %s", error)


def _log_notice(diagnostic: Any) -> None:
    level = logging.WARNING if diagnostic.severity_nonlocalized == "WARNING" else logging.INFO
    log.log(level, "the server says: %s", diagnostic.message_primary)
