"""procrastinate's jobs, and what is asked about them."""

from __future__ import annotations

import enum
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn
from uuid import UUID

from ...app import App as TenantApp
from ...context import Context
from ...errors import TaskNotKept
from ...result import Result, TaskRow
from ...task import registry
from .._common import documents, look
from .._unsupported import Unsupported

if TYPE_CHECKING:
    from .app import App
    from .tasks import Task

__all__ = ["Job", "JobContext", "JobId", "JobManager", "Status"]


class Status(enum.Enum):
    """What a job is."""

    TODO = "todo"
    DOING = "doing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    ABORTING = "aborting"
    ABORTED = "aborted"


_STATUS = {
    "running": Status.DOING,
    "done": Status.SUCCEEDED,
    "failed": Status.FAILED,
    "quarantined": Status.FAILED,
    "cancelled": Status.CANCELLED,
    "expired": Status.CANCELLED,
}


class JobId(int):
    """The id of a job: a task's UUID, as a number of 128 bits. Keep it in a uuid column: `id.uuid`."""

    @property
    def uuid(self) -> UUID:
        """The task's id."""
        return UUID(int=self)

    @property
    def result(self) -> Result:
        """The task, as tenant_q has it."""
        return Result.of(self.uuid)

    @classmethod
    def of(cls, id: Any) -> JobId:
        """Of a UUID."""
        return cls((id if isinstance(id, UUID) else UUID(str(id))).int)

    def __repr__(self) -> str:
        return f"JobId({self.uuid})"


def _kwargs_of(row: TaskRow) -> dict[str, Any]:
    known = registry.get(row.handler)
    whole = None if known is None else known.signature.whole
    if whole is not None and not (isinstance(row.args, dict) and list(row.args) == [whole]):
        return {whole: row.args}
    return row.args if isinstance(row.args, dict) else {}


@dataclass
class Job:
    """A job."""

    id: JobId | None
    status: str | None
    queue: str
    priority: int
    lock: str | None
    queueing_lock: str | None
    task_name: str
    task_kwargs: dict[str, Any] = field(default_factory=dict)
    scheduled_at: datetime | None = None
    attempts: int = 0

    @classmethod
    def of(cls, row: TaskRow) -> Job:
        """Of a task's row."""
        return cls(
            JobId.of(row.id),
            _STATUS.get(row.state, Status.TODO).value,
            row.queue or "default",
            row.priority or 0,
            None,
            None,
            row.handler,
            _kwargs_of(row),
            row.run_at if row.state in ("delayed", "retrying") else None,
            row.attempt,
        )

    @classmethod
    def running(cls, context: Context, kwargs: dict[str, Any]) -> Job:
        """Of the task that runs. attempts: those before this one."""
        return cls(
            JobId.of(context.id),
            Status.DOING.value,
            context.queue,
            0,
            None,
            None,
            context.handler,
            kwargs,
            context.scheduled_for,
            context.attempt - 1,
        )

    @property
    def call_string(self) -> str:
        """For people."""
        return (
            f"{self.task_name}[{self.id}]({', '.join(f'{name}={value!r}' for name, value in self.task_kwargs.items())})"
        )


class JobContext:
    """What a task with pass_context gets."""

    def __init__(self, app: App, task: Task, context: Context, kwargs: dict[str, Any]) -> None:
        self.app = app
        self.task = task
        self.job = Job.running(context, kwargs)
        #: tenant_q's context: progress(), commit(), tenant …
        self.context = context
        self.start_timestamp = time.time()
        self.worker_name: str | None = None
        self.worker_queues: list[str] | None = None
        self.additional_context: dict[str, Any] = {}

    def should_abort(self) -> bool:
        """Whether it was cancelled, or its time is over."""
        return self.context.cancelled


def _id(job_id: int) -> UUID:
    return UUID(int=int(job_id))


class JobManager:
    """What is asked about jobs, and done to them, by their ids."""

    def get_job_status(self, job_id: int, connection: Any = None) -> Status:
        """Raises `TaskNotKept` of one that is not there."""
        row = look(_id(job_id))
        if row is None:
            raise TaskNotKept(
                f"there is no job {job_id}", hint="It was never committed in this tenant, or is not kept any more."
            )
        return _STATUS.get(row.state, Status.TODO)

    async def get_job_status_async(self, job_id: int, connection: Any = None) -> Status:
        """`get_job_status` from a coroutine."""
        row = await Result.of(_id(job_id)).afetch()
        return _STATUS.get(row.state, Status.TODO)

    def cancel_job_by_id(
        self, job_id: int, abort: bool = False, delete_job: bool = False, connection: Any = None
    ) -> bool:
        """Cancels it if it waits; abort: also one that runs; delete_job: nothing of it is kept. Whether there was
        anything to cancel."""
        app = TenantApp.current()
        done = bool(app.value(app.calls.cancel(_id(job_id), abort, app.current_tenant())))
        if done and delete_job:
            app.value(app.calls.delete(_id(job_id), app.current_tenant()))
        return done

    async def cancel_job_by_id_async(
        self, job_id: int, abort: bool = False, delete_job: bool = False, connection: Any = None
    ) -> bool:
        """`cancel_job_by_id` from a coroutine."""
        app = TenantApp.current()
        calls = await app.acalls()
        done = bool(await app.avalue(calls.cancel(_id(job_id), abort, app.current_tenant())))
        if done and delete_job:
            await app.avalue(calls.delete(_id(job_id), app.current_tenant()))
        return done

    def retry_job_by_id(
        self,
        job_id: int,
        retry_at: datetime | None = None,
        priority: int | None = None,
        queue: str | None = None,
        lock: str | None = None,
    ) -> None:
        """Runs a finished one again."""
        if lock is not None:
            raise Unsupported("retry_job_by_id() takes no lock here", hint="A task keeps its lock.")
        Result.of(_id(job_id)).requeue(run_at=retry_at)
        if priority is not None or queue is not None:
            Result.of(_id(job_id)).update(priority=priority, queue=queue)

    def list_jobs(
        self,
        id: int | None = None,
        queue: str | None = None,
        task: str | None = None,
        status: str | None = None,
        lock: str | None = None,
        queueing_lock: str | None = None,
        worker_id: int | None = None,
    ) -> list[Job]:
        """Jobs of which all this is so, in the order in which they were enqueued."""
        for word, value in (("lock", lock), ("queueing_lock", queueing_lock), ("worker_id", worker_id)):
            if value is not None:
                raise Unsupported(
                    f"list_jobs() takes no {word} here",
                    hint="tq_why(id) says what a task waits for; tq_running and tq_workers who runs it.",
                )
        app = TenantApp.current()
        where, params = ["true"], []
        for clause, value in (
            ("x.id = %s::uuid", None if id is None else str(_id(id))),
            ("COALESCE(x.queue, 'default') = %s", queue),
            ("x.handler = %s", task),
        ):
            if value is not None:
                where.append(clause)
                params.append(value)
        parts = [
            f"SELECT pg_catalog.to_jsonb(x) AS d, x.id FROM {app.calls.at}{view} AS x WHERE {' AND '.join(where)}"
            for view in ("tq_tasks", "tq_results")
        ]
        rows = documents(app, f"SELECT a.d FROM ({' UNION ALL '.join(parts)}) AS a ORDER BY a.id", params * 2)
        jobs = [Job.of(TaskRow.of(row)) for row in rows]
        return [job for job in jobs if status is None or job.status == status]

    def delete_old_jobs(self, nb_hours: int, queue: str | None = None, **words: Any) -> NoReturn:
        """Not here: results go by themselves."""
        raise Unsupported(
            "delete_old_jobs()",
            hint="tq_set_tenant(result_ttl => …, failure_ttl => …) says how long results are kept; tq_purge('1"
            " hour') lets them go now.",
        )

    def get_stalled_jobs(self, *args: Any, **words: Any) -> NoReturn:
        """Not here: there are none."""
        raise Unsupported(
            "get_stalled_jobs()",
            hint="No job stalls: when its worker dies it runs again, within two seconds. tq_problems has what"
            " needs a hand.",
        )
