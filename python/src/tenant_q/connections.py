"""The connections of an `App` with psycopg 3: one a thread, or the caller's own; and the transaction in which a task
runs."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import select
import threading
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import pq

from .calls import Call, quote
from .errors import ConnectionLost

if TYPE_CHECKING:
    from .app import App

__all__ = ["Connections", "Inside", "Run", "rows_of"]


#: what the server says beside results: notices and warnings
log = logging.getLogger("tenant_q.server")

_LEVELS = {"WARNING": logging.WARNING, "NOTICE": logging.INFO, "INFO": logging.INFO}


def tell_notice(notice: psycopg.errors.Diagnostic) -> None:
    """Logs what the server says beside a result."""
    level = _LEVELS.get(notice.severity_nonlocalized or "", logging.DEBUG)
    parts = (notice.message_primary, notice.message_detail, notice.message_hint)
    log.log(level, "%s", "; ".join(each for each in parts if each))


def rows_of(connection: Any, sql: str, params: Sequence[Any] | None) -> list[Any]:
    """A statement on a connection of psycopg 3 or psycopg2: its rows, as tuples or whatever the connection makes of
    them."""
    cursor = connection.cursor()
    try:
        cursor.execute(sql, params)
        return cursor.fetchall() if cursor.description is not None else []
    finally:
        cursor.close()


def is_gone(connection: psycopg.Connection[Any]) -> bool:
    """Whether the server has ended the session meanwhile, as far as that has arrived here: asks the socket alone."""
    if connection.closed:
        return True
    pgconn = connection.pgconn
    poll = select.poll()
    poll.register(pgconn.socket, select.POLLIN)
    # What the server says at last comes before the end.
    while poll.poll(0):
        try:
            pgconn.consume_input()
        except psycopg.OperationalError:
            return True
        if pgconn.status != pq.ConnStatus.OK:
            return True
    return False


class Connections:
    """A connection for each thread, and one for each event loop."""

    def __init__(self, conninfo: str | None, options: dict[str, Any]) -> None:
        self.conninfo = conninfo or ""
        self.options = options
        self._local = threading.local()
        self._all: weakref.WeakSet[psycopg.Connection[Any]] = weakref.WeakSet()
        self._loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, psycopg.AsyncConnection[Any]] = (
            weakref.WeakKeyDictionary()
        )
        self._lock = threading.Lock()
        self._process = os.getpid()

    def here(self) -> psycopg.Connection[Any]:
        """This thread's, opened anew where it was lost."""
        if self._process != os.getpid():
            self._forget()
        found: psycopg.Connection[Any] | None = getattr(self._local, "connection", None)
        if found is None or is_gone(found):
            if found is not None:
                found.close()
            found = self._local.connection = psycopg.connect(self.conninfo, autocommit=True, **self.options)
            found.add_notice_handler(tell_notice)
            with self._lock:
                self._all.add(found)
        return found

    def _forget(self) -> None:
        """In a process that was forked: what was opened before is the other one's."""
        self._local = threading.local()
        self._all = weakref.WeakSet()
        self._loops = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()
        self._process = os.getpid()

    def of_thread(self) -> dict[str, Any]:
        """What this thread has, for other threads to look at: "connection", if there is one."""
        return self._local.__dict__

    async def of_loop(self) -> psycopg.AsyncConnection[Any]:
        """This event loop's."""
        loop = asyncio.get_running_loop()
        found = self._loops.get(loop)
        if found is None or found.closed:
            found = self._loops[loop] = await psycopg.AsyncConnection.connect(
                self.conninfo, autocommit=True, **self.options
            )
            found.add_notice_handler(tell_notice)
        return found

    async def close_loop(self) -> None:
        """Closes this event loop's."""
        found = self._loops.pop(asyncio.get_running_loop(), None)
        if found is not None:
            await found.close()

    def close(self) -> None:
        """Closes this thread's."""
        found = getattr(self._local, "connection", None)
        self._local.connection = None
        if found is not None:
            found.close()

    def close_all(self) -> None:
        """Closes those of all threads."""
        with self._lock:
            for each in list(self._all):
                each.close()
        self._local.connection = None


class Run:
    """The transaction of a task, begun when it is first used: a function that does nothing in the database costs one
    round trip, its task's end."""

    __slots__ = ("app", "begun", "connection", "ending", "tenant")

    def __init__(self, app: App, tenant: str | None) -> None:
        self.app = app
        self.tenant = tenant
        self.begun = False
        self.connection: psycopg.Connection[Any] | None = None
        #: tq_finish, sent together with COMMIT
        self.ending: Call | None = None

    def begin(self) -> psycopg.Connection[Any]:
        """The connection, in the transaction."""
        connection = self.connection
        if connection is None:
            connection = self.connection = self.app.connections.here()
        if not self.begun:
            path = ""
            if self.tenant is not None:
                path = "; SET LOCAL search_path TO " + ", ".join(
                    quote(each) for each in self.app.search_path(self.tenant)
                )
            connection.execute("BEGIN" + path, prepare=False)
            self.begun = True
        return connection

    def commit(self) -> None:
        """Sends the end of the task, if there is one, and COMMIT. Raises `ConnectionLost` where nobody knows whether it
        was done."""
        if not self.begun:
            if self.ending is not None:
                self._alone(self.ending)
            return
        connection = self.connection
        assert connection is not None
        if is_gone(connection):
            raise psycopg.OperationalError("the connection was lost before the transaction was committed")
        if self.ending is None:
            self._commit(connection)
            return
        # In one message: a round trip, which costs a third of what the same costs as a pipeline.
        escape = pq.Escaping(connection.pgconn).escape_literal
        encoding = connection.info.encoding
        literals = [
            "NULL" if each is None else bytes(escape(each.encode(encoding))).decode(encoding)
            for each in self.ending.params
        ]
        try:
            connection.execute(self.ending.sql % tuple(literals) + "; COMMIT", prepare=False)
        except psycopg.OperationalError as error:
            if (lost := self._lost(connection, error)) is not None:
                raise lost from error
            raise
        self.begun = False

    def _alone(self, call: Call) -> None:
        connection = self.app.connections.here()
        try:
            connection.execute(call.sql, call.params)
        except psycopg.OperationalError as error:
            if (lost := self._lost(connection, error)) is not None:
                raise lost from error
            raise

    def _commit(self, connection: psycopg.Connection[Any]) -> None:
        try:
            cursor = connection.execute("COMMIT")
        except psycopg.OperationalError as error:
            if (lost := self._lost(connection, error)) is not None:
                raise lost from error
            raise
        self.begun = False
        if cursor.statusmessage == "ROLLBACK":
            raise psycopg.errors.InFailedSqlTransaction("the transaction had failed before, and was rolled back")

    @staticmethod
    def _lost(connection: psycopg.Connection[Any], error: psycopg.Error) -> ConnectionLost | None:
        if not connection.closed and error.sqlstate is not None:
            return None
        return ConnectionLost(
            "the connection was lost while the transaction was being committed",
            detail=f"{error}".strip(),
            hint="Whether it was committed the server knows: nothing is repeated here.",
        )

    def finish(self, call: Call) -> None:
        """The end of the task: kept for `commit`."""
        self.ending = call

    def rollback(self) -> None:
        """Takes everything back; of a connection that is lost the server has."""
        connection, begun = self.connection, self.begun
        self.begun = False
        if not begun or connection is None or connection.closed:
            return
        try:
            connection.execute("ROLLBACK")
        except psycopg.OperationalError:
            connection.close()


class Inside(Run):
    """A task's transaction inside of another one: a savepoint, for tests that roll everything back."""

    __slots__ = ("name",)

    _count = itertools.count()

    def __init__(self, app: App, tenant: str | None, connection: Any) -> None:
        super().__init__(app, tenant)
        self.connection = connection
        self.name = f"tenant_q_{next(self._count)}"

    def _do(self, sql: str, params: Sequence[Any] | None = None) -> list[Any]:
        return rows_of(self.connection, sql, params)

    def begin(self) -> Any:
        if not self.begun:
            self._do(f"SAVEPOINT {self.name}")
            self.begun = True
            if self.tenant is not None:
                path = ", ".join(quote(each) for each in self.app.search_path(self.tenant))
                self._do(f"SET LOCAL search_path TO {path}")
        return self.connection

    def finish(self, call: Call) -> None:
        self.begin()
        self._do(call.sql, call.params)

    def commit(self) -> None:
        if self.begun:
            self._do(f"RELEASE SAVEPOINT {self.name}")
            self.begun = False

    def rollback(self) -> None:
        if self.begun:
            self._do(f"ROLLBACK TO SAVEPOINT {self.name}")
            self._do(f"RELEASE SAVEPOINT {self.name}")
            self.begun = False
