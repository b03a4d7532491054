"""procrastinate's App and Blueprint."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any

from ...app import App as TenantApp
from ...schedules import Schedule, before_declaring
from .._unsupported import Unsupported, refuse
from .exceptions import TaskAlreadyRegistered, TaskNotFound
from .jobs import JobManager
from .tasks import JobDeferrer, Task, call_words

__all__ = ["App", "BaseConnector", "Blueprint", "PsycopgConnector", "SyncPsycopgConnector"]


class BaseConnector:
    """Where the database is, for an App of tenant_q, if there is none yet. What else is said of connections is not
    looked at."""

    def __init__(self, *, conninfo: str | None = None, **words: Any) -> None:
        self.conninfo = conninfo


class PsycopgConnector(BaseConnector):
    """`BaseConnector`"""


class SyncPsycopgConnector(BaseConnector):
    """`BaseConnector`"""


class Blueprint:
    """Tasks that an App takes later: `app.add_tasks_from(blueprint, namespace='…')`."""

    def __init__(self) -> None:
        self.tasks: dict[str, Task] = {}
        self._periodic: list[tuple[Task, str, str, dict[str, Any]]] = []

    def _app(self) -> App | None:
        return None

    def task(self, _func: Callable[..., Any] | None = None, **options: Any) -> Any:
        """`@app.task`, or `@app.task(queue='mail', retry=5, lock='x', queueing_lock='y', pass_context=True, …)`."""

        def make(function: Callable[..., Any]) -> Task:
            made = Task(function, options, self._app())
            self.tasks[made.name] = made
            return made

        return make if _func is None else make(_func)

    def periodic(self, *, cron: str, periodic_id: str = "", **configure_kwargs: Any) -> Callable[[Task], Task]:
        """Above `@app.task`: a job at each fire time of the crontab, in UTC, whose argument timestamp is that time."""
        call_words(configure_kwargs)

        def make(task: Task) -> Task:
            if any(each is task and id == periodic_id for each, _, id, _ in self._periodic):
                raise TaskAlreadyRegistered(
                    f"the task {task.name} is periodic already with the periodic_id {periodic_id!r}",
                    hint="Give one of them another periodic_id.",
                )
            self._periodic.append((task, cron, periodic_id, configure_kwargs))
            app = self._app()
            if app is not None:
                app.declare_periodic(task, cron, periodic_id, configure_kwargs)
            return task

        return make

    def add_task_alias(self, task: Task, alias: str) -> None:
        """A further name of a task."""
        task.aliases.append(alias)
        if task.app is not None:
            task.bind(task.app)


class App(Blueprint):
    """An App of procrastinate's. Where jobs go is tenant_q.App's matter: with Django nothing has to be said; without
    it one is made, or
    `open()` makes it of the connector's conninfo."""

    def __init__(
        self,
        *,
        connector: Any = None,
        import_paths: Iterable[str] | None = None,
        worker_defaults: Mapping[str, Any] | None = None,
        periodic_defaults: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.connector = connector
        self.import_paths = list(import_paths or ())
        self.worker_defaults = dict(worker_defaults or {})
        self.periodic_defaults = dict(periodic_defaults or {})
        self.job_manager = JobManager()
        before_declaring.append(self.perform_import_paths)

    def _app(self) -> App:
        return self

    def declare_periodic(self, task: Task, cron: str, periodic_id: str, options: Mapping[str, Any]) -> None:
        """Makes the schedule of a periodic task."""
        task.make_periodic()
        fields = cron.split()
        # croniter has seconds last, and tenant_q first.
        rule = " ".join([fields[5], *fields[:5]] if len(fields) == 6 else fields)
        name = f"{task.name} {periodic_id}".strip()
        Schedule(
            name,
            task.made,
            rule,
            dict(options.get("task_kwargs") or {}) or None,
            task=call_words(options),
            tz="UTC",
            catch_up="all",
            deadline=self.periodic_defaults.get("max_delay", 600),
        )

    def add_tasks_from(self, blueprint: Blueprint, *, namespace: str) -> None:
        """Takes the tasks of a Blueprint; their names begin with the namespace."""
        for task in list(blueprint.tasks.values()):
            task.bind(self, namespace)
        for task, cron, periodic_id, options in blueprint._periodic:
            self.declare_periodic(task, cron, periodic_id, options)

    def configure_task(self, name: str, *, allow_unknown: bool = True, **options: Any) -> JobDeferrer:
        """A task by its name, which need not be in this process."""
        known = self.tasks.get(name)
        if known is None and not allow_unknown:
            raise TaskNotFound(f"there is no task {name}", hint="Import the module that has it.")
        return JobDeferrer(name if known is None else known.name, options, known)

    def perform_import_paths(self) -> None:
        """Imports what has tasks."""
        for path in self.import_paths:
            importlib.import_module(path)

    # Opening and closing: connections are tenant_q.App's.

    def open(self, pool_or_engine: Any = None) -> App:
        """Makes a tenant_q.App of the connector's conninfo, if there is none."""
        refuse(
            {"pool_or_engine": pool_or_engine},
            {"pool_or_engine": "with tenant_q.App.current().using(connection): task.defer(…)"},
            "open()",
        )
        if TenantApp._active.get() is None and TenantApp._latest is None:
            TenantApp(getattr(self.connector, "conninfo", None))
        return self

    def open_async(self, pool: Any = None) -> App:
        """`open`, for `await` and `async with`."""
        return self.open(pool)

    def close(self) -> None:
        """Closes this thread's connection."""
        TenantApp.current().close_connections()

    async def close_async(self) -> None:
        """Closes this event loop's connection."""
        await TenantApp.current().connections.close_loop()

    def __enter__(self) -> App:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __await__(self) -> Any:
        yield from ()
        return self

    async def __aenter__(self) -> App:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close_async()

    def check_connection(self) -> bool:
        """Whether the database has tenant_q."""
        TenantApp.current().check_protocol()
        return True

    # Workers.

    def run_worker(self, *, wait: bool = True, **words: Any) -> None:
        """wait=False: runs what is due, here and now. A worker that stays is a process of its own."""
        for word in words:
            if word not in ("name", "install_signal_handlers", "concurrency", "listen_notify"):
                raise Unsupported(
                    f"run_worker() takes no {word} here",
                    hint="python -m tenant_q worker module:app, or manage.py tq_worker, which have --queues"
                    " and --processes.",
                )
        if wait:
            raise Unsupported(
                "run_worker() that waits",
                hint="python -m tenant_q worker module:app, or manage.py tq_worker; run_worker(wait=False)"
                " runs what is due.",
            )
        from ...testing import run_pending

        run_pending()

    async def run_worker_async(self, *, wait: bool = True, **words: Any) -> None:
        """`run_worker` from a coroutine."""
        import asyncio

        await asyncio.to_thread(self.run_worker, wait=wait, **words)

    def with_connector(self, connector: Any) -> App:
        """The same App: connectors are not looked at once it is open."""
        return self
