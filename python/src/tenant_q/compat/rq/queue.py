"""RQ's queues."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from ...app import App
from ...errors import UniqueKeyTaken
from ...result import TaskRow
from ...task import task as register
from .._call import CALL, Call, resolve
from .._common import aware, documents, fresh_id, raised
from .._unsupported import Unsupported
from .exceptions import DuplicateJobError, NoSuchJobError
from .job import Job, JobStatus
from .words import CALLBACK, JOB_WORDS, Repeat, job_words, split

__all__ = ["EnqueueData", "Queue"]


@dataclass
class EnqueueData:
    """A job of `enqueue_many`."""

    func: Any
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    said: dict[str, Any] = field(default_factory=dict)


class Queue:
    """A queue: a label of tasks, which tq_worker --queues, tq_set_queue and tq_pause go by. `connection` and what
    else says where Redis
    is are not looked at."""

    def __init__(
        self,
        name: str = "default",
        connection: Any = None,
        default_timeout: Any = None,
        is_async: bool = True,
        **words: Any,
    ) -> None:
        for word in ("job_class", "serializer", "death_penalty_class"):
            if words.pop(word, None) is not None:
                raise Unsupported(
                    f"Queue takes no {word} here",
                    hint="Arguments and results are JSON; what is around a run is a tenant_q.Middleware.",
                )
        words.pop("autocommit", None)
        words.pop("commit_mode", None)
        if words:
            raise Unsupported(
                f"Queue has no {next(iter(words))}", hint="There are: name, connection, default_timeout, is_async."
            )
        self.name = name
        self.connection = connection
        self._default_timeout = default_timeout
        self._is_async = is_async

    # Enqueuing.

    def enqueue(self, f: Any, *args: Any, **kwargs: Any) -> Job:
        """Enqueues a call of a function, given itself or by its dotted name. RQ's keywords (job_timeout, result_ttl,
        ttl, depends_on,
        job_id, at_front, meta, retry, repeat, on_success, on_failure, on_stopped, description, unique) are the
        job's."""
        args, kwargs, said = split(args, kwargs)
        return self._put(f, args, kwargs, said)

    def enqueue_call(self, func: Any, args: Any = None, kwargs: Any = None, **said: Any) -> Job:
        """The same, with what the function gets apart."""
        _known(said)
        return self._put(func, tuple(args or ()), dict(kwargs or {}), said)

    def enqueue_at(self, datetime: datetime, f: Any, *args: Any, **kwargs: Any) -> Job:
        """Not before that; a moment without a time zone is this machine's."""
        args, kwargs, said = split(args, kwargs)
        return self._put(f, args, kwargs, said, run_at=aware(datetime, None))

    def enqueue_in(self, time_delta: timedelta, func: Any, *args: Any, **kwargs: Any) -> Job:
        """Not before so much has passed."""
        args, kwargs, said = split(args, kwargs)
        return self._put(func, args, kwargs, said, delay=time_delta)

    @classmethod
    def prepare_data(cls, func: Any, args: Any = None, kwargs: Any = None, **said: Any) -> EnqueueData:
        """A job of `enqueue_many`."""
        _known(said)
        return EnqueueData(func, tuple(args or ()), dict(kwargs or {}), said)

    def enqueue_many(
        self, job_datas: Iterable[EnqueueData], pipeline: Any = None, group_id: str | None = None
    ) -> list[Job]:
        """Enqueues all of them or none, in one statement."""
        datas = list(job_datas)
        if not self._is_async:
            return [self._put(each.func, each.args, each.kwargs, each.said) for each in datas]
        members = []
        for each in datas:
            said = {**each.said, "pipeline": pipeline, "group_id": group_id}
            members.append(Call(each.func, each.args, each.kwargs).member(**job_words(said, self)))
        if not members:
            return []
        from ...calls import many_literal

        app = App.current()
        rows = app.run(app.calls.enqueue_many(many_literal(members), app.current_tenant()))
        return [_job(row[0], each.said) for row, each in zip(rows, datas, strict=True)]

    def _put(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], said: dict[str, Any], **when: Any) -> Job:
        words = {**job_words(said, self), **when}
        call = Call(func, args, kwargs)
        if not self._is_async:
            return self._run(call, said, args, kwargs)
        try:
            return _job(call.enqueue(**words).id, said)
        except UniqueKeyTaken as error:
            if not said.get("unique"):
                raise
            raise DuplicateJobError(
                f"there is a job {said['job_id']} already", sqlstate=error.sqlstate, detail=error.detail
            ) from None

    def _run(self, call: Call, said: Mapping[str, Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Job:
        """is_async=False: here and now. Nobody else knows of it."""
        job = _job(fresh_id(), said)
        value: Any = None
        try:
            with App.current().atomic():
                value = call.task.function(**call.document) if call.is_call else call.task(*args, **kwargs)
        except Exception:
            job._local = (JobStatus.FAILED, None, traceback.format_exc())
        else:
            job._local = (JobStatus.FINISHED, value, None)
        return job

    # Looking.

    def _ids(self, what: str, where: str, view: str) -> list[UUID]:
        at = App.current().calls.at
        sql = f"SELECT x.{what} FROM {at}{view} AS x WHERE COALESCE(x.queue, 'default') = %s AND {where} ORDER BY x.id"
        return [
            each if isinstance(each, UUID) else UUID(str(each)) for each in documents(App.current(), sql, [self.name])
        ]

    def get_job_ids(self, offset: int = 0, length: int = -1) -> list[str]:
        """Ids of the jobs that wait for their turn."""
        found = [str(id) for id in self._ids("id", "x.state = 'queued'", "tq_tasks")]
        return found[offset:] if length < 0 else found[offset : offset + length]

    @property
    def job_ids(self) -> list[str]:
        """Ids of the jobs that wait for their turn."""
        return self.get_job_ids()

    def get_jobs(self, offset: int = 0, length: int = -1) -> list[Job]:
        """The jobs that wait for their turn."""
        return [job for job in Job.fetch_many(self.get_job_ids(offset, length)) if job is not None]

    @property
    def jobs(self) -> list[Job]:
        """The jobs that wait for their turn."""
        return self.get_jobs()

    @property
    def count(self) -> int:
        """How many wait for their turn."""
        return len(self.get_job_ids())

    def __len__(self) -> int:
        return self.count

    def is_empty(self) -> bool:
        """Whether none waits for its turn."""
        return self.count == 0

    def empty(self) -> int:
        """Cancels those that wait for their turn; how many."""
        app = App.current()
        return sum(
            bool(app.value(app.calls.cancel(UUID(id), False, app.current_tenant()))) for id in self.get_job_ids()
        )

    def fetch_job(self, job_id: str) -> Job | None:
        """The job of this id; None = there is none."""
        try:
            return Job.fetch(job_id)
        except NoSuchJobError:
            return None

    def _registry(self, states: tuple[str, ...], finished: bool) -> JobRegistry:
        return JobRegistry(self, states, finished)

    @property
    def failed_job_registry(self) -> JobRegistry:
        """Jobs that have failed."""
        return self._registry(("failed", "quarantined"), True)

    @property
    def finished_job_registry(self) -> JobRegistry:
        """Jobs that have ended well."""
        return self._registry(("done",), True)

    @property
    def canceled_job_registry(self) -> JobRegistry:
        """Jobs that were cancelled."""
        return self._registry(("cancelled", "expired"), True)

    @property
    def started_job_registry(self) -> JobRegistry:
        """Jobs that run."""
        return self._registry(("running",), False)

    @property
    def deferred_job_registry(self) -> JobRegistry:
        """Jobs that wait for others."""
        return self._registry(("deferred",), False)

    @property
    def scheduled_job_registry(self) -> JobRegistry:
        """Jobs that wait for their time."""
        return self._registry(("delayed", "retrying"), False)

    def __repr__(self) -> str:
        return f"Queue({self.name!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Queue) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)


class JobRegistry:
    """Jobs of a queue in some states."""

    def __init__(self, queue: Queue, states: tuple[str, ...], finished: bool) -> None:
        self._queue = queue
        self._where = "x.state IN (" + ", ".join(f"'{state}'" for state in states) + ")"
        self._view = "tq_results" if finished else "tq_tasks"

    def get_job_ids(self, start: int = 0, end: int = -1) -> list[str]:
        """Their ids."""
        found = [str(id) for id in self._queue._ids("id", self._where, self._view)]
        return found[start:] if end < 0 else found[start : end + 1]

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.get_job_ids())

    def __len__(self) -> int:
        return self.count

    def __contains__(self, job: Any) -> bool:
        return str(job.uuid if isinstance(job, Job) else job) in self.get_job_ids()

    def requeue(self, job_or_id: Any, at_front: bool = False) -> Job:
        """Runs one of them again."""
        return (job_or_id if isinstance(job_or_id, Job) else Job.fetch(job_or_id)).requeue(at_front)

    def remove(self, job: Any, delete_job: bool = False) -> None:
        """Deletes one of them."""
        (job if isinstance(job, Job) else Job.fetch(job)).delete()


def _known(said: Mapping[str, Any]) -> None:
    for word in said:
        if word not in JOB_WORDS:
            raise Unsupported(f"a job has no {word}", hint="There are: " + ", ".join(JOB_WORDS) + ".")


def _job(id: Any, said: Mapping[str, Any]) -> Job:
    uuid = id if isinstance(id, UUID) else UUID(str(id))
    return Job(str(said["job_id"]) if said.get("job_id") is not None else str(uuid), uuid=uuid)


def _called_back(task: Any) -> None:
    """Calls the callbacks that the task of the document was enqueued with; and enqueues it again, where it is to be
    repeated."""
    row = TaskRow.of(task)
    meta = row.meta if isinstance(row.meta, dict) else {}
    own = meta.get("rq")
    own = own if isinstance(own, dict) else {}
    job = Job.of(row)
    if row.state == "done":
        if own.get("on_success"):
            resolve(str(own["on_success"]))(job, None, job.return_value())
        if isinstance(own.get("repeat"), dict):
            _repeat(row, own, own["repeat"])
    elif row.state in ("cancelled", "expired"):
        if own.get("on_stopped"):
            resolve(str(own["on_stopped"]))(job, None)
    elif own.get("on_failure"):
        error = raised(row.error, RuntimeError, row.reason or row.state)
        resolve(str(own["on_failure"]))(job, None, type(error), error, None)


def _repeat(row: TaskRow, own: dict[str, Any], repeat: dict[str, Any]) -> None:
    done = int(repeat.get("done", 0))
    if done >= int(repeat["times"]) or row.handler != CALL:
        return
    meta = {**row.meta, "rq": {**own, "repeat": {**repeat, "done": done + 1}}}
    call = Call.of_document(row.args)
    call.enqueue(
        delay=float(Repeat.get_interval(done, repeat["intervals"])),
        meta=meta,
        name=row.name,
        queue=None if row.queue in (None, "default") else row.queue,
        priority=row.priority,
        max_attempts=row.max_attempts,
        hook=CALLBACK,
    )


register(name=CALLBACK)(_called_back)
