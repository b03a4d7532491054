"""The App of a Django site: Django's connections, the site's tenants, Django's transactions."""

from __future__ import annotations

import asyncio
import logging
import re
import select
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import psycopg
from asgiref.sync import async_to_sync, sync_to_async
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import Error, close_old_connections, connections, transaction
from django.utils import timezone, translation
from django.utils.module_loading import autodiscover_modules, import_string

from .. import errors
from ..app import App
from ..calls import Call, Calls
from ..connections import Connections, rows_of
from ..context import Taken
from ..flows import Flow
from ..middleware import Enqueue
from ..options import CallOptions
from ..result import Result
from ..task import Task
from . import conf, tenants
from .running import Around

__all__ = ["DjangoApp", "OtherDatabase", "get_app"]

T = TypeVar("T")

log = logging.getLogger("tenant_q.django")

#: statements that change something
_WRITES = re.compile(r"\s*(?:INSERT|UPDATE|DELETE|MERGE|TRUNCATE|COPY|CREATE|ALTER|DROP|CALL|DO)\b", re.IGNORECASE)

#: of Django's parameters of a connection those that libpq has no use for
_NOT_LIBPQ = frozenset(
    {"assume_role", "context", "cursor_factory", "isolation_level", "pool", "prepare_threshold", "server_side_binding"}
)


class OtherDatabase(errors.TenantQError, RuntimeError):
    """Something was to be done in another database than the tasks', which no transaction would hold together."""


class _Settings(Connections):
    """Where the alias is that workers take by: as the settings say at the time, which tests change."""

    def __init__(self) -> None:
        super().__init__("", {})

    @property
    def conninfo(self) -> str:
        return psycopg.conninfo.make_conninfo("", **_libpq(conf.get("CONTROL") or conf.database()))

    @conninfo.setter
    def conninfo(self, value: str) -> None:
        pass


def _libpq(alias: str) -> dict[str, Any]:
    """The parameters of an alias as libpq knows them."""
    connection = connections[alias]
    if connection.vendor != "postgresql":
        raise errors.InvalidOption(f"the database {alias} is {connection.vendor}, and not PostgreSQL")
    params: Mapping[str, Any] = connection.get_connection_params()
    found = {key: value for key, value in params.items() if key not in _NOT_LIBPQ and value is not None}
    if "database" in found:  # as psycopg2 calls it
        found["dbname"] = found.pop("database")
    found.setdefault("application_name", "tenant_q")
    return found


class DjangoApp(App):
    """Tasks of a Django site. `tenant_q.django` makes one when Django starts; `App.current()` is it."""

    def __init__(self, **words: Any) -> None:
        words.setdefault("shared", bool(conf.get("SHARED")))
        super().__init__(None, **words)
        self.connections = _Settings()
        self._taken: ContextVar[Taken | None] = ContextVar("tenant_q.django.taken", default=None)
        self._open: ContextVar[bool] = ContextVar("tenant_q.django.open", default=False)
        self._loaded = False
        self._side: psycopg.Connection[Any] | None = None
        self._side_lock = threading.Lock()
        self.middleware.append(Around(self))
        for each in conf.get("MIDDLEWARE"):
            found = import_string(each) if isinstance(each, str) else each
            self.middleware.append(found() if isinstance(found, type) else found)
        if conf.get("IMMEDIATE"):
            from ..testing.immediate import _call

            self._immediate: ContextVar[Callable[[Enqueue], Result] | None] = ContextVar(
                "tenant_q.immediate", default=lambda request: _call(self, request, True)
            )

    @property
    def alias(self) -> str:
        """Of the tenants' database."""
        return conf.database()

    @property
    def _connection(self) -> Any:
        return connections[self.alias]

    def load_tasks(self) -> None:
        """Imports what the installed apps have under the names of MODULES."""
        if not self._loaded:
            for name in conf.get("MODULES"):
                autodiscover_modules(name)
            self._loaded = True
        super().load_tasks()

    # Which tenant.

    def current_tenant(self) -> str:
        """The one of Django's connection, or of `app.tenant(…)`. Raises `NoTenant` in the schema that all share."""
        said = self._tenant.get()
        if said is not None:
            return said
        taken = self._taken.get()
        return tenants.current(self.alias, public=taken is not None and taken.tenant == tenants.public_name())

    def search_path(self, tenant: str) -> list[str]:
        return tenants.search_path(tenant)

    # The database.

    def run(self, call: Call) -> list[tuple[Any, ...]]:
        try:
            return super().run(call)
        except errors.UnknownTask as error:
            found = re.match(r'handler "(.+)" is not registered', error.message)
            if found and found[1] in self.registry:
                error.hint = "manage.py tq_sync declares the tasks of this site in every tenant; so do migrations."
            raise

    def execute(self, sql: str, params: Sequence[Any] | None = None) -> list[Any]:
        """A statement by Django's connection, in its transaction: its rows."""
        own = self._own.get()
        if own is not None:
            return rows_of(own, sql, params)
        with self._connection.cursor() as cursor:
            cursor.execute(sql, params)
            return list(cursor.fetchall()) if cursor.description is not None else []

    def _raw(self, call: Call) -> list[Any]:
        """A call by Django's connection without what its cursors do first (django-tenants: SET search_path)."""
        connection = self._connection
        connection.ensure_connection()
        with connection.wrap_database_errors:
            return rows_of(connection.connection, call.sql, call.params)

    async def aexecute(self, sql: str, params: Sequence[Any] | None = None) -> list[Any]:
        """`execute` from a coroutine, by the connection of Django's synchronous thread."""
        own = self._own.get()
        if isinstance(own, psycopg.AsyncConnection):
            return await super().aexecute(sql, params)
        return list(await sync_to_async(self.execute, thread_sensitive=True)(sql, params))

    async def acalls(self) -> Calls:
        if self._calls is None:
            await sync_to_async(lambda: self.calls, thread_sensitive=True)()
        return self.calls

    async def aenqueue(self, of: Task[..., Any], args: Any, options: CallOptions) -> Result:
        """In Django's synchronous thread, whose connection knows the tenant."""
        if isinstance(self._own.get(), psycopg.AsyncConnection):
            return await super().aenqueue(of, args, options)
        found: Result = await sync_to_async(self.enqueue, thread_sensitive=True)(of, args, options)
        return found

    async def aenqueue_flow(self, flow: Flow) -> Result:
        if isinstance(self._own.get(), psycopg.AsyncConnection):
            return await super().aenqueue_flow(flow)
        found: Result = await sync_to_async(flow.enqueue, thread_sensitive=True)()
        return found

    async def aenqueue_many(self, of: Task[..., Any], members: Sequence[dict[str, Any]]) -> list[Result]:
        if isinstance(self._own.get(), psycopg.AsyncConnection):
            return await super().aenqueue_many(of, members)
        found: list[Result] = await sync_to_async(self.enqueue_many, thread_sensitive=True)(of, members)
        return found

    def connection(self) -> Any:
        """Django's connection of the tasks' database."""
        return self._own.get() or self._connection

    @contextmanager
    def using(self, connection: Any) -> Iterator[None]:
        """Enqueues by a connection of psycopg in the block. Of Django's connections there is one only that knows
        tasks."""
        if isinstance(connection, str):
            connection = connections[connection]
        alias = getattr(connection, "alias", None)
        if alias is None:
            with super().using(connection):
                yield
            return
        if alias != self.alias:
            raise OtherDatabase(
                f"tasks are in the database {self.alias}, not in {alias}",
                detail="Enqueued by another connection they would be committed apart from what they are about.",
                hint="TENANT_Q = {'DATABASE': '…'} says which alias the tenants' database has.",
            )
        yield

    @contextmanager
    def enter(self, taken: Taken) -> Iterator[None]:
        """Around a worker's call: the tenant's object in the connection, the time zone, the language. What goes wrong
        here is the task's error: see `Around.run`."""
        connection = self._connection
        in_test = connection.in_atomic_block
        if not in_test:
            self._refresh(connection)
        token, own, entered = self._taken.set(taken), self._own.set(None), self._entered.set(True)
        said = self._tenant.set(None)
        try:
            with ExitStack() as stack:
                failure: BaseException | None = None
                try:
                    stack.enter_context(tenants.inside(self.alias, taken.tenant))
                    self._locale(stack)
                except Exception as error:
                    failure = error
                stack.enter_context(Around.failing(failure))
                yield
        finally:
            self._tenant.reset(said)
            self._entered.reset(entered)
            self._own.reset(own)
            self._taken.reset(token)
            if not in_test:
                self._refresh(connection)

    def _locale(self, stack: ExitStack) -> None:
        zone, language = conf.get("TIME_ZONE"), conf.get("LANGUAGE")
        tenant = getattr(self._connection, "tenant", None)
        stack.enter_context(timezone.override((_of_tenant(zone, tenant) if zone else None) or None))
        stack.enter_context(
            translation.override((_of_tenant(language, tenant) if language else None) or settings.LANGUAGE_CODE)
        )

    @staticmethod
    def _refresh(connection: Any) -> None:
        """Between calls: connections that are broken or too old are closed. CONN_MAX_AGE = 0 is meant for requests; a
        worker's connection to the tasks' database is kept, unless a pool keeps it."""
        pooled = connection.settings_dict.get("OPTIONS", {}).get("pool")
        if connection.settings_dict.get("CONN_MAX_AGE") == 0 and not pooled:
            connection.close_at = None
        if connection.connection is not None and _has_news(connection.connection):
            connection.errors_occurred = True  # so that Django looks whether it can be used
        close_old_connections()

    def in_run(self) -> bool:
        return self._open.get()

    @contextmanager
    def atomic(self) -> Iterator[None]:
        """`transaction.atomic()` of the tasks' database. In a task other databases are read only meanwhile: what is
        written there is in no transaction with the end of the task."""
        own = self._own.get()
        if own is not None:
            with self._savepoint(own):
                yield
            return
        alias = self.alias
        connection = connections[alias]
        outermost = not connection.in_atomic_block
        token = self._open.set(self._taken.get() is not None)
        committed: list[bool] = []
        try:
            with ExitStack() as stack:
                if self._taken.get() is not None:
                    self._guard(stack, alias)
                block = transaction.atomic(using=alias)
                block.__enter__()
                try:
                    if outermost:
                        transaction.on_commit(lambda: committed.append(True), using=alias)
                    yield
                    if connection.needs_rollback:
                        raise transaction.TransactionManagementError(
                            "an error in an atomic block was caught inside of it, or set_rollback(True) was called:"
                            " nothing of the transaction can be committed, the end of the task neither"
                        )
                except BaseException as error:
                    block.__exit__(type(error), error, error.__traceback__)
                    raise
                self._leave(block, connection, committed)
        finally:
            self._open.reset(token)

    @staticmethod
    def _leave(block: Any, connection: Any, committed: list[bool]) -> None:
        """Commits. Raises `ConnectionLost` where nobody knows whether it was done."""
        raw = connection.connection
        try:
            block.__exit__(None, None, None)
        except Exception as error:
            if committed:
                # The task has ended: what on_commit() called is no part of it.
                log.exception("a function of transaction.on_commit() has failed after the commit")
                return
            if isinstance(error, Error) and (errors.sqlstate_of(error) is None or getattr(raw, "closed", False)):
                raise errors.ConnectionLost(
                    "the connection was lost during COMMIT",
                    detail=str(error).strip(),
                    hint="Whether it was committed the server knows: nothing is repeated here.",
                ) from error
            raise

    @staticmethod
    def _guard(stack: ExitStack, alias: str) -> None:
        def refuse(execute: Any, sql: Any, params: Any, many: Any, context: Any) -> Any:
            other = context["connection"].alias
            if not _WRITES.match(str(sql)):
                return execute(sql, params, many, context)
            raise OtherDatabase(
                f"a task writes into the database {other}, and its transaction is one of {alias}",
                detail="What it writes there would stay where the task fails, and be done again with it.",
                hint="Declare the task with atomic=False, and make what it does elsewhere repeatable; the task's id is"
                " the same in each attempt.",
            )

        for other in connections:
            if other != alias:
                stack.enter_context(connections[other].execute_wrapper(refuse))

    @contextmanager
    def inside(self) -> Iterator[None]:
        """For tests: in the block tasks run inside of the transaction that is open, a savepoint each."""
        with ExitStack() as stack:
            if not self._connection.in_atomic_block:
                stack.enter_context(transaction.atomic(using=self.alias))
            yield

    def finish(self, claim: str, result: str | None) -> None:
        connection = self._connection
        if connection.in_atomic_block and connection.needs_rollback:
            connection.validate_no_broken_transaction()
        try:
            self._raw(self.calls.finish(claim, result))
        except Exception as error:
            if errors.sqlstate_of(error) == "TQ007":
                raise errors.translate(error) or error from error
            raise

    def say(self, make: Callable[[Calls], Call]) -> list[Any]:
        try:
            if _in_loop():  # of an `async def` task: Django's connections are other threads' business
                return self._aside(make(self._calls or Calls()))
            connection = self._connection
            if not connection.in_atomic_block:
                connection.close_if_unusable_or_obsolete()
            return self._raw(make(self.calls))
        except Exception as error:
            raise errors.translate(error) or error from error

    def _aside(self, call: Call) -> list[Any]:
        """A call by a connection that is for this alone."""
        with self._side_lock:
            if self._side is None or self._side.closed:
                self._side = self.connect()
            return rows_of(self._side, call.sql, call.params)

    def close_connections(self) -> None:
        super().close_connections()
        with self._side_lock:
            if self._side is not None:
                self._side.close()
        for connection in connections.all(initialized_only=True):
            if not connection.in_atomic_block:
                connection.close()

    def run_async(self, function: Callable[..., Coroutine[Any, Any, T]], *args: Any, **kwargs: Any) -> T:
        """Runs an `async def` task: Django's asynchronous ORM does its work in this thread, in the task's
        transaction."""
        begun: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any] | None]] = []

        async def run() -> T:
            begun.append((asyncio.get_running_loop(), asyncio.current_task()))
            return await function(*args, **kwargs)

        try:
            found: T = async_to_sync(run)()
        except BaseException:
            # This thread was interrupted: what it waits for runs in another one.
            for loop, task in begun:
                if task is not None and not task.done():
                    loop.call_soon_threadsafe(task.cancel)
            raise
        return found

    def interrupter(self) -> Callable[[], None]:
        """A function that other threads may call: it cancels the statement that runs in this thread's connection."""
        connection = self._connection

        def cancel() -> None:
            raw = connection.connection
            if raw is not None:
                raw.cancel()

        return cancel

    def worker_conninfo(self) -> str:
        """Where workers take: the alias CONTROL, else the tasks' own."""
        return self.connections.conninfo

    def sync(self, *, check: bool = False, prune: bool = False, tenant: str | None = None) -> int:
        """Declares the site's tasks and schedules, in `tenant`, or in all tenants of the site."""
        from .declaring import sync_all, sync_tenant

        if tenant is not None:
            return sync_tenant(self, tenant, check=check, prune=prune)
        return sum(changed for _, changed in sync_all(self, check=check, prune=prune))


def _of_tenant(of: Any, tenant: Any) -> Any:
    """The value of a tenant's attribute, or of a function of the tenant, by its path."""
    if callable(of):
        return of(tenant)
    if "." in of:
        return import_string(of)(tenant)
    return getattr(tenant, of, None)


def _has_news(raw: Any) -> bool:
    """Whether the server has said something that nobody has asked for: its end, mostly."""
    try:
        return bool(select.select([raw], [], [], 0)[0])
    except (OSError, ValueError, psycopg.Error):
        return True


def _in_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def get_app() -> DjangoApp:
    """The site's."""
    from django.apps import apps

    try:
        found = apps.get_app_config("tenant_q").app
    except LookupError:
        raise ImproperlyConfigured("INSTALLED_APPS lacks 'tenant_q.django'") from None
    assert isinstance(found, DjangoApp)
    return found
