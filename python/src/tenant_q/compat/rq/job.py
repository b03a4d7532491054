"""RQ's jobs."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from ...app import App
from ...context import current
from ...options import CallOptions
from ...result import Result, TaskRow
from .._call import CALL, arguments_of_row, resolve, return_value
from .._common import as_uuid, find, look, trace_of, wait_for
from .exceptions import InvalidJobOperation, NoSuchJobError
from .words import Callback, Dependency, Repeat, Retry

__all__ = [
    "Callback",
    "Dependency",
    "Job",
    "JobStatus",
    "Repeat",
    "Retry",
    "cancel_job",
    "get_current_job",
    "requeue_job",
]


class JobStatus(enum.StrEnum):
    """What a job is."""

    CREATED = "created"
    QUEUED = "queued"
    FINISHED = "finished"
    FAILED = "failed"
    STARTED = "started"
    DEFERRED = "deferred"
    SCHEDULED = "scheduled"
    STOPPED = "stopped"
    CANCELED = "canceled"


_STATUS = {
    "queued": JobStatus.QUEUED,
    "held": JobStatus.QUEUED,
    "running": JobStatus.STARTED,
    "deferred": JobStatus.DEFERRED,
    "delayed": JobStatus.SCHEDULED,
    "retrying": JobStatus.SCHEDULED,
    "done": JobStatus.FINISHED,
    "failed": JobStatus.FAILED,
    "quarantined": JobStatus.FAILED,
    "cancelled": JobStatus.CANCELED,
    "expired": JobStatus.CANCELED,
}


class JobResult:
    """One run of a job, as `latest_result()` has it."""

    def __init__(self, row: TaskRow) -> None:
        self.return_value = return_value(row) if row.state == "done" else None
        self.exc_string = None if row.state == "done" else _trace(row)
        self.created_at = row.finished_at
        self.type = 1 if row.state == "done" else 2


class Job:
    """A job, by its id: a task's UUID, or the job_id that it was enqueued with, of which the newest is meant."""

    def __init__(self, id: str, connection: Any = None, *, uuid: UUID | None = None) -> None:
        self._id = str(id)
        self._uuid = uuid if uuid is not None else as_uuid(id)
        self._row: TaskRow | None = None
        self._meta: dict[str, Any] | None = None
        #: of one that was run where it was enqueued
        self._local: tuple[JobStatus, Any, str | None] | None = None

    @classmethod
    def of(cls, row: TaskRow) -> Job:
        """Of a task's row."""
        own = _own(row)
        made = cls(row.name if row.name and not own.get("plain") and _named(row) else str(row.id), uuid=row.id)
        made._row = row
        return made

    # Finding.

    @classmethod
    def fetch(cls, id: str, connection: Any = None, serializer: Any = None) -> Job:
        """The job of this id; raises `NoSuchJobError`."""
        made = cls(id)
        made._row = made._look()
        return made

    @classmethod
    def fetch_many(cls, job_ids: Iterable[str], connection: Any = None, serializer: Any = None) -> list[Job | None]:
        """The jobs of these ids; None for those that there aren't."""
        found: list[Job | None] = []
        for id in job_ids:
            try:
                found.append(cls.fetch(id))
            except NoSuchJobError:
                found.append(None)
        return found

    @classmethod
    def exists(cls, job_id: str, connection: Any = None) -> bool:
        """Whether there is one of this id."""
        return find(job_id) is not None

    def _look(self) -> TaskRow:
        if self._uuid is None or (row := look(self._uuid)) is None:
            self._uuid = find(self._id)
            row = None if self._uuid is None else look(self._uuid)
        if row is None:
            raise NoSuchJobError(
                f"there is no job {self._id}",
                hint="It was never committed in this tenant, or is not kept any more: result_ttl.",
            )
        self._row = row
        return row

    @property
    def row(self) -> TaskRow:
        """The task, as it was when it was last asked for."""
        return self._row if self._row is not None else self._look()

    @property
    def uuid(self) -> UUID:
        """The task's id."""
        return self._uuid if self._uuid is not None else self._look().id

    @property
    def id(self) -> str:
        """The id."""
        return self._id

    def refresh(self) -> None:
        """Asks for it anew."""
        self._meta = None
        self._look()

    # What it is.

    def get_status(self, refresh: bool = True) -> JobStatus:
        """Its status. One that waits for another attempt is scheduled; one that has expired canceled."""
        if self._local is not None:
            return self._local[0]
        return _STATUS.get((self._look() if refresh else self.row).state, JobStatus.QUEUED)

    def _is(self, status: JobStatus) -> bool:
        return self.get_status() is status

    @property
    def is_finished(self) -> bool:
        """Whether it has ended well."""
        return self._is(JobStatus.FINISHED)

    @property
    def is_failed(self) -> bool:
        """Whether it has failed for good."""
        return self._is(JobStatus.FAILED)

    @property
    def is_queued(self) -> bool:
        """Whether it waits for its turn."""
        return self._is(JobStatus.QUEUED)

    @property
    def is_started(self) -> bool:
        """Whether it runs."""
        return self._is(JobStatus.STARTED)

    @property
    def is_deferred(self) -> bool:
        """Whether it waits for other jobs."""
        return self._is(JobStatus.DEFERRED)

    @property
    def is_scheduled(self) -> bool:
        """Whether it waits for its time."""
        return self._is(JobStatus.SCHEDULED)

    @property
    def is_canceled(self) -> bool:
        """Whether it was cancelled."""
        return self._is(JobStatus.CANCELED)

    is_stopped = is_canceled

    def return_value(self, refresh: bool = False) -> Any:
        """What it has returned; None while it has not ended well."""
        if self._local is not None:
            return self._local[1]
        row = self._look() if refresh or self._row is None or not self._row.finished else self._row
        return return_value(row) if row.state == "done" else None

    @property
    def result(self) -> Any:
        """`return_value()`"""
        return self.return_value()

    def latest_result(self, timeout: float = 0) -> JobResult | None:
        """Its result, once it has ended within so many seconds; None = it hasn't."""
        row = wait_for(self.uuid, timeout) if timeout else self._look()
        return JobResult(row) if row is not None and row.finished else None

    def results(self) -> list[JobResult]:
        """The last result alone is kept."""
        found = self.latest_result()
        return [found] if found is not None else []

    @property
    def exc_info(self) -> str | None:
        """The traceback of its last error."""
        if self._local is not None:
            return self._local[2]
        return _trace(self._look())

    @property
    def func_name(self) -> str:
        """The function's name."""
        row = self.row
        return str(row.args.get("function")) if row.handler == CALL and isinstance(row.args, dict) else row.handler

    @property
    def func(self) -> Callable[..., Any]:
        """The function."""
        return resolve(self.func_name)

    def _arguments(self) -> tuple[list[Any], dict[str, Any]]:
        return arguments_of_row(self.row)[1:]

    @property
    def args(self) -> tuple[Any, ...]:
        """Positional arguments."""
        return tuple(self._arguments()[0])

    @property
    def kwargs(self) -> dict[str, Any]:
        """Named arguments."""
        return self._arguments()[1]

    @property
    def description(self) -> str:
        """In words: what was said, or the call."""
        args, kwargs = self._arguments()
        given = [*map(repr, args), *(f"{name}={value!r}" for name, value in kwargs.items())]
        return str(_own(self.row).get("description") or f"{self.func_name}({', '.join(given)})")

    @property
    def origin(self) -> str:
        """Its queue."""
        return self.row.queue or "default"

    @property
    def created_at(self) -> datetime | None:
        """When it was enqueued."""
        return self.row.created_at

    enqueued_at = created_at

    @property
    def started_at(self) -> datetime | None:
        """When its last run began."""
        return self.row.started_at

    @property
    def ended_at(self) -> datetime | None:
        """When it ended."""
        return self.row.finished_at

    @property
    def retries_left(self) -> int | None:
        """Attempts that it may still have; None = it was enqueued without Retry."""
        row = self.row
        return None if row.max_attempts <= 1 else max(row.max_attempts - max(row.attempt, 1), 0)

    # Meta.

    @property
    def meta(self) -> dict[str, Any]:
        """A document of one's own; `save_meta()` writes it."""
        if self._meta is None:
            self._meta = self.get_meta()
        return self._meta

    @meta.setter
    def meta(self, value: dict[str, Any]) -> None:
        self._meta = value

    def get_meta(self, refresh: bool = True) -> dict[str, Any]:
        """As it was written last."""
        row = self._look() if refresh else self.row
        if row.state == "running":
            progress = Result(App.current(), row.id, row.tenant).progress
            if progress is not None and isinstance(progress[1], dict) and "rq" in progress[1]:
                return dict(progress[1]["rq"])
        meta = row.meta if isinstance(row.meta, dict) else {}
        return {key: value for key, value in meta.items() if key != "rq"}

    def save_meta(self) -> None:
        """Writes it: of a job that waits, and, up to 256 bytes, of the one that runs, as long as it runs."""
        here = current()
        if here is not None and here.id == self.uuid:
            here.progress(0.0, {"rq": self.meta})
            return
        row = self._look()
        own = _own(row)
        words = CallOptions.of(meta={**self.meta, **({"rq": own} if own else {})}).values
        app = App.current()
        if not app.value(app.calls.update(row.id, words, row.tenant)):
            raise InvalidJobOperation(
                f"the meta of the job {self.id} can't be changed",
                detail=f"It is {row.state}.",
                hint="It can while it waits; and by itself while it runs.",
            )

    save = save_meta

    # Doing something to it.

    def cancel(
        self, pipeline: Any = None, enqueue_dependents: bool = False, remove_from_dependencies: bool = False
    ) -> None:
        """Cancels it if it waits, and with it what depends on it, unless that allows for failures."""
        from .._unsupported import refuse

        refuse(
            {
                "pipeline": pipeline,
                "enqueue_dependents": enqueue_dependents,
                "remove_from_dependencies": remove_from_dependencies,
            },
            {
                "pipeline": "What is done in one transaction is done together: atomic().",
                "enqueue_dependents": "Dependency(…, allow_failure=True) of what depends on it.",
                "remove_from_dependencies": "Dependency(…, allow_failure=True) of what depends on it.",
            },
            "cancel()",
        )
        if not self._cancel(False) and self._look().state == "cancelled":
            raise InvalidJobOperation(f"Cannot cancel already canceled job: {self.id}")

    def _cancel(self, running: bool) -> bool:
        app = App.current()
        return bool(app.value(app.calls.cancel(self.uuid, running, app.current_tenant())))

    def delete(self, pipeline: Any = None, remove_from_queue: bool = True, delete_dependents: bool = False) -> None:
        """Cancels it if it waits, and deletes it."""
        app = App.current()
        self._cancel(False)
        app.value(app.calls.delete(self.uuid, app.current_tenant()))

    def requeue(self, at_front: bool = False) -> Job:
        """Runs it again."""
        app = App.current()
        if not app.value(app.calls.requeue(self.uuid, None, None, True, app.current_tenant())):
            raise InvalidJobOperation(f"the job {self.id} can't be requeued", hint="It has not ended, or is not kept.")
        if at_front:
            app.value(app.calls.update(self.uuid, {"priority": 32767}, app.current_tenant()))
        return self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Job) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"Job({self.id!r})"


def _own(row: TaskRow) -> dict[str, Any]:
    meta = row.meta if isinstance(row.meta, dict) else {}
    own = meta.get("rq")
    return own if isinstance(own, dict) else {}


def _named(row: TaskRow) -> bool:
    """Whether its name is a job_id, and not its function's."""
    function = row.args.get("function") if isinstance(row.args, dict) else None
    return row.name not in (function, row.schedule)


def _trace(row: TaskRow) -> str | None:
    error = row.error
    return None if not error else trace_of(error) or str(error.get("message"))


def get_current_job(connection: Any = None, job_class: Any = None) -> Job | None:
    """The job that runs."""
    here = current()
    if here is None:
        return None
    function = here.taken.args.get("function") if isinstance(here.taken.args, dict) else None
    named = here.name if here.name not in (None, function, here.schedule) else None
    return Job(named or str(here.id), uuid=here.id)


def cancel_job(job_id: str, connection: Any = None, serializer: Any = None, enqueue_dependents: bool = False) -> None:
    """Cancels the job of this id."""
    Job.fetch(job_id).cancel(enqueue_dependents=enqueue_dependents)


def requeue_job(job_id: str, connection: Any = None, serializer: Any = None) -> Job:
    """Runs the job of this id again."""
    return Job.fetch(job_id).requeue()
