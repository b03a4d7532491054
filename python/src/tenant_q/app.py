"""The place where tasks are enqueued and run: a database, whose connections are used, and which tenant it is for."""

from __future__ import annotations

import asyncio
import importlib
import json
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar, copy_context
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar
from uuid import UUID

import psycopg
import psycopg.conninfo

from . import errors
from .calls import FIND_EXTENSION, PROTOCOL, Call, Calls, many_literal
from .connections import Connections, Inside, Run, rows_of, tell_notice
from .context import Taken
from .middleware import Enqueue, around_enqueue
from .options import CallOptions
from .result import Fanout, Result
from .task import Registry, Task, registry, task

if TYPE_CHECKING:
    from .flows import Flow
    from .schedules import Schedule

__all__ = ["App"]

T = TypeVar("T")


class App:
    """Tasks of one database.

    database: where it is, as libpq takes it; None = libpq's environment variables
    tenant: the schema that tasks are enqueued in: a name, a function that returns one, or None: the first one of
    search_path
    shared: whether handlers are declared for all tenants, where the task doesn't say
    middleware: around enqueuing and running (`tenant_q.middleware`)
    schema: where the extension is; None = is looked up
    modules: modules that have tasks, imported by `load_tasks()`
    options: of psycopg.connect

    What is made last is `App.current()`.
    """

    _latest: ClassVar[App | None] = None
    _active: ClassVar[ContextVar[App | None]] = ContextVar("tenant_q.app", default=None)

    def __init__(
        self,
        database: str | None = None,
        *,
        tenant: str | Callable[[], str | None] | None = None,
        shared: bool = False,
        middleware: Iterable[Any] = (),
        schema: str | None = None,
        modules: Iterable[str] = (),
        registry: Registry = registry,
        **options: Any,
    ) -> None:
        self.tenant_of = tenant
        self.shared = shared
        self.middleware: list[Any] = list(middleware)
        self.modules = list(modules)
        self.registry = registry
        self.schedules: dict[str, Schedule] = {}
        self.connections = Connections(database, {"application_name": "tenant_q", **options})
        self._calls: Calls | None = Calls(schema) if schema else None
        self._own: ContextVar[Any] = ContextVar("tenant_q.connection", default=None)
        self._run: ContextVar[Run | None] = ContextVar("tenant_q.run", default=None)
        self._tenant: ContextVar[str | None] = ContextVar("tenant_q.tenant", default=None)
        self._inside: ContextVar[Any] = ContextVar("tenant_q.inside", default=None)
        self._entered: ContextVar[bool] = ContextVar("tenant_q.entered", default=False)
        self._immediate: ContextVar[Callable[[Enqueue], Result] | None] = ContextVar("tenant_q.immediate", default=None)
        self._loops = threading.local()
        App._latest = self

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self.registry)} tasks>"

    # Which App.

    @classmethod
    def current(cls) -> App:
        """The one that enqueues: of `with app.active():`, else what was made last. Raises `NoApp`."""
        found = App._active.get() or App._latest
        if found is None:
            raise errors.NoApp(
                "there is no App that could do this",
                hint="Make one, app = App('postgresql://…'), before tasks are enqueued; with Django:"
                " INSTALLED_APPS += ['tenant_q.django'].",
            )
        return found

    @contextmanager
    def active(self) -> Iterator[App]:
        """Makes it the current one in the block."""
        token = App._active.set(self)
        try:
            yield self
        finally:
            App._active.reset(token)

    def task(self, function: Callable[..., Any] | None = None, /, **words: Any) -> Any:
        """`@task`, of this App: `@app.task`, or `@app.task(queue='mail')`."""
        make: Callable[..., Any] = task(app=self, **words)
        return make if function is None else make(function)

    def load_tasks(self) -> None:
        """Imports what has tasks."""
        from .schedules import prepare

        for module in self.modules:
            importlib.import_module(module)
        prepare()

    # Which tenant.

    def current_tenant(self) -> str | None:
        """The one that tasks are enqueued in; None = the first schema of the connection's search_path."""
        found = self._tenant.get()
        if found is not None:
            return found
        return self.tenant_of() if callable(self.tenant_of) else self.tenant_of

    @contextmanager
    def tenant(self, name: str) -> Iterator[None]:
        """Enqueues in this tenant in the block."""
        token = self._tenant.set(name)
        try:
            yield
        finally:
            self._tenant.reset(token)

    def search_path(self, tenant: str) -> list[str]:
        """In which schemas a task's names are looked up."""
        return (
            [tenant, "public"]
            if self._calls is None or self._calls.schema == "public"
            else [tenant, "public", self._calls.schema]
        )

    # The database. What another framework's connections need is overridden from here…

    def execute(self, sql: str, params: Sequence[Any] | None = None) -> list[Any]:
        """A statement in the caller's connection and transaction: its rows. In a task that is the task's transaction,
        with its tenant first on search_path; elsewhere a connection of this thread's in autocommit, or that of
        `using`."""
        own = self._own.get()
        if own is not None:
            return rows_of(own, sql, params)
        run = self._run.get()
        if run is not None:
            return rows_of(run.begin(), sql, params)
        inside = self._inside.get()
        if self._entered.get():  # in a task with atomic=False: a transaction of its own
            with self.atomic():
                return self.execute(sql, params)
        if inside is not None:
            return rows_of(inside, sql, params)
        return rows_of(self.connections.here(), sql, params)

    async def aexecute(self, sql: str, params: Sequence[Any] | None = None) -> list[Any]:
        """`execute` from a coroutine."""
        own = self._own.get()
        if isinstance(own, psycopg.AsyncConnection):
            cursor = await own.execute(sql, params)
            return await cursor.fetchall() if cursor.description is not None else []
        if own is not None or any(each.get() for each in (self._run, self._entered, self._inside)):
            return self.execute(sql, params)
        connection = await self.connections.of_loop()
        cursor = await connection.execute(sql, params)
        return await cursor.fetchall() if cursor.description is not None else []

    def connection(self) -> Any:
        """The connection of psycopg that `execute` uses; in a task, in its transaction."""
        own = self._own.get()
        if own is not None:
            return own
        run = self._run.get()
        if run is not None:
            return run.begin()
        if self._entered.get():
            raise errors.NoTenant(
                "this task has no transaction, and its tenant is set in transactions alone",
                hint="Use `with app.atomic():`, or `with context.commit():`, around what needs the connection.",
            )
        return self.connections.here()

    @contextmanager
    def using(self, connection: Any) -> Iterator[None]:
        """Enqueues by a connection of one's own in the block, in its transaction: psycopg 3's (an AsyncConnection for
        the a… calls), or psycopg2's."""
        token = self._own.set(connection)
        try:
            yield
        finally:
            self._own.reset(token)

    @contextmanager
    def enter(self, taken: Taken) -> Iterator[None]:
        """Around a worker's call: its tenant, and what else goes with that."""
        tenant, entered = self._tenant.set(taken.tenant), self._entered.set(True)
        own = self._own.set(None)
        try:
            yield
        finally:
            self._own.reset(own)
            self._entered.reset(entered)
            self._tenant.reset(tenant)

    def in_run(self) -> bool:
        """Whether a task's transaction is open here."""
        return self._run.get() is not None

    @contextmanager
    def atomic(self) -> Iterator[None]:
        """A transaction: in a worker, that in which the function and the end of its task are one. In another one a
        savepoint."""
        outer, own, inside = self._run.get(), self._own.get(), self._inside.get()
        if outer is not None or own is not None:
            with self._savepoint(own if outer is None else outer.begin()):
                yield
            return
        tenant = self._tenant.get()
        run = Run(self, tenant) if inside is None else Inside(self, tenant, inside)
        token = self._run.set(run)
        try:
            try:
                yield
                run.commit()
            except BaseException:
                run.rollback()
                raise
        except Exception as error:
            if errors.sqlstate_of(error) == "TQ007" and not isinstance(error, errors.TenantQError):
                raise errors.translate(error) or error from error
            raise
        finally:
            self._run.reset(token)

    @staticmethod
    @contextmanager
    def _savepoint(connection: Any) -> Iterator[None]:
        """A transaction of a connection, or where it is in one a savepoint."""
        if hasattr(connection, "transaction"):  # psycopg 3
            with connection.transaction():
                yield
            return
        if connection.get_transaction_status() == 0 and not connection.autocommit:
            with connection:
                yield
            return
        idle = connection.get_transaction_status() == 0
        begin, commit, rollback = (
            ("BEGIN", "COMMIT", "ROLLBACK")
            if idle
            else (
                "SAVEPOINT tenant_q_atomic",
                "RELEASE SAVEPOINT tenant_q_atomic",
                "ROLLBACK TO SAVEPOINT tenant_q_atomic",
            )
        )
        rows_of(connection, begin, None)
        try:
            yield
        except BaseException:
            rows_of(connection, rollback, None)
            raise
        rows_of(connection, commit, None)

    @contextmanager
    def inside(self) -> Iterator[None]:
        """For tests: in the block tasks run inside of the transaction that is open here, a savepoint each. Where none
        is open, in one that is committed at the end of the block."""
        outer, own = self._run.get(), self._own.get()
        if outer is None and own is None:
            with self.atomic(), self.inside():
                yield
            return
        connection = own if outer is None else outer.begin()
        path = rows_of(connection, "SELECT pg_catalog.current_setting('search_path')", None)
        tokens = self._inside.set(connection), self._run.set(None), self._own.set(None)
        try:
            yield
        finally:
            self._own.reset(tokens[2])
            self._run.reset(tokens[1])
            self._inside.reset(tokens[0])
        rows_of(connection, "SELECT pg_catalog.set_config('search_path', %s, true)", [_tuple(path[0])[0]])

    def finish(self, claim: str, result: str | None) -> None:
        """Ends the task in the open transaction of `atomic`: the last thing done in it. result is JSON text. Raises
        `ClaimLost`, here or when the transaction ends."""
        run = self._run.get()
        call = self.calls.finish(claim, result)
        if run is None:
            self.run(call)
        else:
            run.finish(call)

    def say(self, make: Callable[[Calls], Call]) -> list[Any]:
        """A call of a worker's that belongs to no transaction (progress, give_up, release): outside of the task's where
        none is begun."""
        call = make(self.calls)
        run = self._run.get()
        try:
            if run is not None and run.begun:
                return rows_of(run.begin(), call.sql, call.params)
            inside = self._inside.get()
            return rows_of(self.connections.here() if inside is None else inside, call.sql, call.params)
        except Exception as error:
            raise errors.translate(error) or error from error

    def close_connections(self) -> None:
        """Closes this thread's."""
        self.connections.close()

    def run_async(self, function: Callable[..., Coroutine[Any, Any, T]], *args: Any, **kwargs: Any) -> T:
        """Runs an `async def` task in this thread, in the task's transaction."""
        runner = getattr(self._loops, "runner", None)
        if runner is None:
            runner = self._loops.runner = asyncio.Runner()
        found: T = runner.run(function(*args, **kwargs), context=copy_context())
        return found

    def close_loop(self) -> None:
        """Closes this thread's event loop, if `run_async` has made one."""
        runner = getattr(self._loops, "runner", None)
        self._loops.runner = None
        if runner is not None:
            runner.close()

    def interrupter(self) -> Callable[[], None]:
        """A function that other threads may call: it cancels the statement that runs in this thread's connection, and
        what `run_async` runs here."""
        of_thread, loops = self.connections.of_thread(), self._loops.__dict__

        def interrupt() -> None:
            connection = of_thread.get("connection")
            if connection is not None and not connection.closed:
                connection.cancel()
            runner = loops.get("runner")
            if runner is not None:
                loop = runner.get_loop()
                loop.call_soon_threadsafe(lambda: [task.cancel() for task in asyncio.all_tasks(loop)])

        return interrupt

    def worker_conninfo(self) -> str:
        """Where the database is, for the worker's own connection."""
        known = {each.keyword.decode() for each in psycopg.pq.Conninfo.get_defaults()}
        options = {name: value for name, value in self.connections.options.items() if name in known}
        return psycopg.conninfo.make_conninfo(self.connections.conninfo, **options)

    # …to here.

    def connect(self) -> psycopg.Connection[Any]:
        """A new connection in autocommit: what takes tasks needs one of its own."""
        made = psycopg.connect(self.connections.conninfo, autocommit=True, **self.connections.options)
        made.add_notice_handler(tell_notice)
        return made

    @property
    def calls(self) -> Calls:
        """The extension's calls, where it is in this database. Raises `NotInstalled`."""
        if self._calls is None:
            self._calls = self._found(self.execute(FIND_EXTENSION))
        return self._calls

    async def acalls(self) -> Calls:
        """`calls` from a coroutine."""
        if self._calls is None:
            self._calls = self._found(await self.aexecute(FIND_EXTENSION))
        return self._calls

    def _found(self, rows: Sequence[Any]) -> Calls:
        if not rows:
            raise errors.NotInstalled(
                "this database has no extension tenant_q",
                hint="CREATE EXTENSION tenant_q; in the database that the App is of.",
            )
        row = rows[0]
        return Calls(row["nspname"] if isinstance(row, Mapping) else row[0])

    def check_protocol(self) -> None:
        """Raises `NotInstalled`, or `WrongProtocol` where the extension speaks another version of it."""
        self.calls  # noqa: B018 raises
        try:
            version = self.value(Call("SELECT tenant_q.protocol()", []))
        except errors.NotInstalled:
            version = 0
        if version != PROTOCOL:
            raise errors.WrongProtocol(
                f"the extension speaks version {version} of the workers' protocol, and this package version {PROTOCOL}",
                hint="ALTER EXTENSION tenant_q UPDATE, or install the django-tenant-q that goes with it.",
            )

    def run(self, call: Call) -> list[tuple[Any, ...]]:
        """A call of the extension: its rows. The server's errors become those of `tenant_q.errors`."""
        try:
            return [_tuple(row) for row in self.execute(call.sql, call.params)]
        except Exception as error:
            raise errors.translate(error) or error from error

    async def arun(self, call: Call) -> list[tuple[Any, ...]]:
        """`run` from a coroutine."""
        try:
            return [_tuple(row) for row in await self.aexecute(call.sql, call.params)]
        except Exception as error:
            raise errors.translate(error) or error from error

    def value(self, call: Call) -> Any:
        """The one value of a call."""
        return self.run(call)[0][0]

    async def avalue(self, call: Call) -> Any:
        """`value` from a coroutine."""
        return (await self.arun(call))[0][0]

    # Enqueuing.

    def _request(self, of: Task[..., Any], args: Any, options: CallOptions) -> Enqueue:
        return Enqueue(of.name, of, args, dict(options.values), options.tenant or self.current_tenant())

    def enqueue(self, of: Task[..., Any], args: Any, options: CallOptions) -> Result:
        """Enqueues a task whose arguments are bound already: `task.enqueue` does both."""
        if self.middleware or self._immediate.get() is not None:
            return self._enqueue_around(self._request(of, args, options))
        tenant = options.values.get("tenant") or self.current_tenant()
        call = self.calls.enqueue(of.name, None if args is None else many_literal(args), options.values, tenant)
        return Result(self, _uuid(self.value(call)), tenant, of.name)

    def _enqueue_around(self, request: Enqueue) -> Result:
        with around_enqueue(self.middleware, [request]):
            immediate = self._immediate.get()
            if immediate is not None:
                result = immediate(request)
                request.id = result.id
                return result
            request.id = _uuid(self.value(self._enqueue_call(self.calls, request)))
            return Result(self, request.id, request.tenant, request.handler)

    @staticmethod
    def _enqueue_call(calls: Calls, request: Enqueue) -> Call:
        args = None if request.args is None else many_literal(request.args)
        return calls.enqueue(request.handler, args, request.words, request.tenant)

    async def aenqueue(self, of: Task[..., Any], args: Any, options: CallOptions) -> Result:
        """`enqueue` from a coroutine."""
        request = self._request(of, args, options)
        with around_enqueue(self.middleware, [request]):
            immediate = self._immediate.get()
            if immediate is not None:
                result = await asyncio.to_thread(immediate, request)
                request.id = result.id
                return result
            request.id = _uuid(await self.avalue(self._enqueue_call(await self.acalls(), request)))
        return Result(self, request.id, request.tenant, of.name)

    def _many(self, of: Task[..., Any], members: Sequence[dict[str, Any]]) -> list[Enqueue]:
        tenant = of.said.tenant or self.current_tenant()
        words = [{k: v for k, v in member.items() if k not in ("handler", "args")} for member in members]
        return [Enqueue(of.name, of, m.get("args"), w, tenant) for m, w in zip(members, words, strict=True)]

    @staticmethod
    def _many_text(requests: Sequence[Enqueue]) -> str:
        tasks = []
        for request in requests:
            member = {"handler": request.handler, **request.words}
            if request.args is not None:
                member["args"] = request.args
            tasks.append(member)
        return json.dumps(tasks, ensure_ascii=False, separators=(",", ":"))

    def _many_results(self, of: Task[..., Any], requests: Sequence[Enqueue], rows: Sequence[Any]) -> list[Result]:
        results = []
        for request, row in zip(requests, rows, strict=True):
            request.id = _uuid(row[0])
            results.append(Result(self, request.id, request.tenant, of.name))
        return results

    def enqueue_many(self, of: Task[..., Any], members: Sequence[dict[str, Any]]) -> list[Result]:
        """Enqueues members of tq_async_many: `task.enqueue_many` makes them."""
        requests = self._many(of, members)
        if not requests:
            return []
        with around_enqueue(self.middleware, requests):
            immediate = self._immediate.get()
            if immediate is not None:
                return [immediate(request) for request in requests]
            call = self.calls.enqueue_many(self._many_text(requests), requests[0].tenant)
            return self._many_results(of, requests, self.run(call))

    async def aenqueue_flow(self, flow: Flow) -> Result:
        """Behind `Flow.aenqueue`."""
        return await flow.enqueue_here(self)

    async def aenqueue_many(self, of: Task[..., Any], members: Sequence[dict[str, Any]]) -> list[Result]:
        """`enqueue_many` from a coroutine."""
        requests = self._many(of, members)
        if not requests:
            return []
        with around_enqueue(self.middleware, requests):
            immediate = self._immediate.get()
            if immediate is not None:
                return [await asyncio.to_thread(immediate, request) for request in requests]
            call = (await self.acalls()).enqueue_many(self._many_text(requests), requests[0].tenant)
            return self._many_results(of, requests, await self.arun(call))

    def enqueue_all(
        self,
        of: Task[..., Any],
        args: Any,
        options: CallOptions,
        *,
        tenants: Iterable[str] | None = None,
        stagger: Any = None,
    ) -> Fanout:
        """Enqueues a call in each of these tenants, or in all: tq_async_all."""
        from .codec import interval_text

        words = options.document()
        with around_enqueue(self.middleware, [request := Enqueue(of.name, of, args, words, None)]):
            call = self.calls.enqueue_all(
                of.name,
                None if args is None else many_literal(args),
                tenants,
                None if stagger is None else interval_text(stagger),
                many_literal(request.words) if request.words else None,
            )
            request.id = _uuid(self.value(call))
        return Fanout(self, request.id, of.name)

    # Declaring.

    def sync(self, *, check: bool = False, prune: bool = False, tenant: str | None = None) -> int:
        """Declares the tasks and schedules of this process to the server; how many were new or changed. check: only
        tells how many would be. prune: what it has declared before, and isn't there any more, goes."""
        from .declare import sync

        return sync(self, check=check, prune=prune, tenant=tenant)

    @asynccontextmanager
    async def aclosing(self) -> AsyncIterator[App]:
        """Closes this event loop's connection at the end of the block."""
        try:
            yield self
        finally:
            await self.connections.close_loop()


def _tuple(row: Any) -> tuple[Any, ...]:
    """A row as a tuple, whatever the connection's row factory makes of it."""
    if type(row) is tuple:
        return row
    return tuple(row.values()) if isinstance(row, Mapping) else tuple(row)


def _uuid(value: Any) -> UUID:
    return value if isinstance(value, UUID) else UUID(str(value))
