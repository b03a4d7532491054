"""rq-scheduler: jobs at a time, at intervals, by a crontab. No process is needed for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from ..app import App
from ._call import CALL, Call
from ._common import aware, documents, fresh_id, set_next_run
from ._unsupported import Unsupported
from .rq.job import Job
from .rq.queue import Queue
from .rq.words import job_words

__all__ = ["ScheduledJob", "Scheduler"]


class ScheduledJob:
    """A schedule, as rq-scheduler's jobs are seen: its id is the schedule's name."""

    def __init__(self, id: str, row: Mapping[str, Any] | None = None) -> None:
        self.id = id
        row = row or {}
        args = row.get("args")
        self.func_name = (
            args.get("function") if row.get("handler") == CALL and isinstance(args, dict) else row.get("handler")
        )
        self.description = row.get("description")
        self.next_run = datetime.fromisoformat(row["next_run"]) if row.get("next_run") else None
        self.meta = {"repeat": row.get("repeats")} if row.get("repeats", -1) >= 0 else {}

    def delete(self) -> bool:
        """Deletes it."""
        app = App.current()
        return bool(app.value(app.calls.unschedule(self.id, app.current_tenant())))

    cancel = delete

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ScheduledJob) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"ScheduledJob({self.id!r})"


class Scheduler:
    """Jobs of a queue at their times."""

    def __init__(
        self,
        queue_name: str = "default",
        queue: Queue | None = None,
        interval: int = 60,
        connection: Any = None,
        **words: Any,
    ) -> None:
        for word, value in words.items():
            if word != "name" and value is not None:
                raise Unsupported(
                    f"Scheduler takes no {word} here", hint="There are: queue_name, queue, interval, connection."
                )
        self.queue = queue if queue is not None else Queue(queue_name, connection=connection)

    def enqueue_at(self, scheduled_time: datetime, func: Any, *args: Any, **kwargs: Any) -> Job:
        """Not before that; a moment without a time zone is in UTC."""
        return self.queue.enqueue_at(aware(scheduled_time), func, *args, **_renamed(kwargs))

    def enqueue_in(self, time_delta: timedelta, func: Any, *args: Any, **kwargs: Any) -> Job:
        """Not before so much has passed."""
        return self.queue.enqueue_in(time_delta, func, *args, **_renamed(kwargs))

    def schedule(
        self,
        scheduled_time: datetime,
        func: Any,
        args: Any = None,
        kwargs: Any = None,
        interval: int | None = None,
        repeat: int | None = None,
        id: str | None = None,
        queue_name: str | None = None,
        **said: Any,
    ) -> Any:
        """At this time, and then every so many seconds, `repeat` times in all; without interval once."""
        if interval is None:
            if repeat:
                raise ValueError("Can't repeat a job without interval argument")
            queue = Queue(queue_name) if queue_name else self.queue
            job_id = {"job_id": id} if id is not None else {}
            return queue.enqueue_at(
                aware(scheduled_time), func, args=args or (), kwargs=kwargs or {}, **_renamed({**said, **job_id})
            )
        rule = f"{int(interval)} second" + ("s" if int(interval) != 1 else "")
        start = aware(scheduled_time)
        return self._make(func, args, kwargs, rule, repeat, id, queue_name, said, start_at=start)

    def cron(
        self,
        cron_string: str,
        func: Any,
        args: Any = None,
        kwargs: Any = None,
        repeat: int | None = None,
        queue_name: str | None = None,
        id: str | None = None,
        use_local_timezone: bool = False,
        **said: Any,
    ) -> ScheduledJob:
        """By a crontab, in UTC; use_local_timezone: in the tenant's zone."""
        tz = None if use_local_timezone else "UTC"
        return self._make(func, args, kwargs, cron_string, repeat, id, queue_name, said, tz=tz)

    def _make(
        self,
        func: Any,
        args: Any,
        kwargs: Any,
        rule: str,
        repeat: int | None,
        id: str | None,
        queue_name: str | None,
        said: dict[str, Any],
        **words: Any,
    ) -> ScheduledJob:
        said = _renamed(said)
        if said.get("depends_on"):
            raise Unsupported(
                "a schedule takes no depends_on here",
                hint="A schedule may come after others: tenant_q.Schedule(…, after=[…]).",
            )
        call = Call(func, tuple(args or ()), dict(kwargs or {}))
        queue = Queue(queue_name) if queue_name else self.queue
        member = call.member(**job_words({**said, "description": None}, queue))
        handler, document = member.pop("handler"), member.pop("args", None)
        member.pop("name", None)
        name = str(id) if id is not None else f"{call.name} {fresh_id().hex}"
        app = App.current()
        start = words.pop("start_at", None)
        given = {
            "name": name,
            "handler": handler,
            "rule": rule,
            "args": document,
            "repeats": repeat,
            "task": member or None,
            "description": said.get("description"),
            "start_at": None if start is None else start.isoformat(),
            # The same id again is the same job, at another time.
            "on_conflict": "replace",
            "tenant": app.current_tenant(),
            **words,
        }
        app.run(app.calls.schedule(given))
        if start is not None and start < datetime.now(UTC) - timedelta(seconds=1):
            set_next_run(app, name, start.isoformat(), app.current_tenant())
        return next(iter(self._rows(name)))

    def _rows(self, name: str | None = None) -> Iterator[ScheduledJob]:
        app = App.current()
        where, params = ("WHERE x.name = %s", [name]) if name is not None else ("", [])
        sql = f"SELECT pg_catalog.to_jsonb(x) FROM {app.calls.at}tq_schedules AS x {where} ORDER BY x.next_run, x.name"
        for row in documents(app, sql, params):
            yield ScheduledJob(row["name"], row)

    def cancel(self, job: Any) -> None:
        """Deletes a schedule, or cancels a job that waits for its time."""
        if isinstance(job, Job):
            job.cancel()
            return
        app = App.current()
        name = job.id if isinstance(job, ScheduledJob) else str(job)
        if not app.value(app.calls.unschedule(name, app.current_tenant())) and Job.exists(name):
            Job.fetch(name).cancel()

    def change_execution_time(self, job: Any, date_time: datetime) -> None:
        """Lets it fire then, for once; a job runs then."""
        app, moment = App.current(), aware(date_time).isoformat()
        if isinstance(job, Job):
            app.value(app.calls.update(job.uuid, {"run_at": moment}, app.current_tenant()))
        else:
            set_next_run(app, job.id if isinstance(job, ScheduledJob) else str(job), moment, app.current_tenant())

    def get_jobs(
        self, until: Any = None, with_times: bool = False, offset: int | None = None, length: int | None = None
    ) -> list[Any]:
        """The schedules; until: those that fire by then, a moment, or a length of time from now."""
        if isinstance(until, (int, timedelta)):
            until = datetime.now(UTC) + (until if isinstance(until, timedelta) else timedelta(seconds=until))
        found = [
            each
            for each in self._rows()
            if until is None or (each.next_run is not None and each.next_run <= aware(until))
        ]
        found = found[offset or 0 :][: length if length is not None else len(found)]
        return [(each, each.next_run) for each in found] if with_times else found

    def count(self, until: Any = None) -> int:
        """How many there are."""
        return len(self.get_jobs(until))

    def __contains__(self, job: Any) -> bool:
        name = job.id if hasattr(job, "id") else str(job)
        if isinstance(job, Job):
            return job.is_scheduled
        return any(True for _ in self._rows(name))

    def run(self, burst: bool = False) -> None:
        """Not here: the server's own scheduler does it."""
        raise Unsupported(
            "Scheduler.run()",
            hint="Nothing has to run: the server's scheduler fires schedules. Take the process out of the deployment.",
        )


def _renamed(said: Mapping[str, Any]) -> dict[str, Any]:
    """rq-scheduler's keywords as RQ's."""
    names = {"timeout": "job_timeout", "id": "job_id"}
    prefixed = {
        key.removeprefix("job_") if key in ("job_ttl", "job_result_ttl", "job_description") else key: value
        for key, value in said.items()
    }
    return {names.get(key, key): value for key, value in prefixed.items() if value is not None}
