"""RQ, rq-scheduler and django-rq, beyond the small app."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tenant_q import App
from tenant_q.compat import Unsupported
from tenant_q.compat.rq import Callback, Dependency, Job, Queue, Repeat, Retry, cancel_job, get_current_job, requeue_job
from tenant_q.compat.rq.command import send_stop_job_command
from tenant_q.compat.rq.exceptions import DuplicateJobError, InvalidJobOperation, NoSuchJobError
from tenant_q.compat.rq_scheduler import Scheduler
from tenant_q.errors import NotAllowed

from . import functions

queue = Queue("mail")


def meta_saved(n: int) -> Any:
    job = get_current_job()
    job.meta["done"] = n
    job.save_meta()
    return Job.fetch(job.id).get_meta()


def again(times: int) -> Any:
    functions.told.append("again")
    return Retry(max=times) if len(functions.told) < 3 else len(functions.told)


@pytest.fixture(autouse=True)
def _allowed() -> None:
    from tenant_q.compat import allow

    allow(meta_saved, again)
    functions.told.clear()


def test_every_option_is_a_word_of_tenant_q(shims: App) -> None:
    job = queue.enqueue(
        functions.add, 1, job_timeout="1m", ttl=60, result_ttl=500, job_id="j", at_front=True, meta={"k": 1},
        description="d", retry=Retry(max=3, interval=[10, 30]), on_success=functions.worked,
    )  # fmt: skip
    row = job.row
    assert (row.queue, row.name, row.priority, row.max_attempts, job.meta, job.description) == (
        "mail",
        "j",
        32767,
        4,
        {"k": 1},
        "d",
    )
    assert (job.retries_left, job.origin, job.enqueued_at is not None) == (3, "mail", True)
    assert Queue().enqueue(functions.add, 1).row.queue == "default"
    assert Queue().enqueue(functions.add, 1).row.max_attempts == 1
    naive = datetime(2100, 1, 1, 12)
    assert queue.enqueue_at(naive, functions.add, 1).row.run_at == naive.astimezone()


@pytest.mark.parametrize("word", ["failure_ttl", "rate_limit", "webhooks", "pipeline"])
def test_unsupported_keywords(shims: App, tenant: str, word: str) -> None:
    with pytest.raises(Unsupported) as caught:
        queue.enqueue(functions.add, 1, **{word: 5})
    assert caught.value.hint
    assert shims.execute("SELECT tq_queue_size(tenant => %s)", [tenant])[0][0] == 0


def test_what_else_is_unsupported(shims: App) -> None:
    for call in (
        lambda: Retry(1, enqueue_at_front=True),
        lambda: Dependency(["x"], enqueue_at_front=True),
        lambda: Callback(functions.worked, timeout=5),
        lambda: Queue("x", serializer="json"),
        lambda: Queue("x", nobody=1),
        lambda: queue.enqueue_call(functions.add, (1,), nobody=1),
        lambda: queue.enqueue(functions.add, 1, job_timeout="soon"),
        lambda: queue.enqueue(functions.add, 1).cancel(enqueue_dependents=True),
        lambda: Scheduler("x", job_class=object),
        lambda: Scheduler("x").run(),
        lambda: Scheduler("x").schedule(datetime.now(), functions.add, (1,), interval=60, depends_on="x"),
    ):
        with pytest.raises(Unsupported):
            call()
    with pytest.raises(NotAllowed):
        queue.enqueue("os.system", "true")


@pytest.mark.parametrize(
    "make",
    [
        lambda: Retry(0),
        lambda: Retry(1, -5),
        lambda: Retry(1, [1, -5]),
        lambda: Repeat(0),
        lambda: Repeat(1, -5),
        lambda: Repeat(1, [1, -1]),
    ],
)
def test_values_that_make_no_sense(make: Callable[[], object]) -> None:
    with pytest.raises(ValueError):
        make()
    assert [Repeat.get_interval(n, [5, 10, 15]) for n in range(4)] == [5, 10, 15, 15]


def test_unique_jobs(shims: App, run: Callable[[], None]) -> None:
    first = queue.enqueue(functions.add, 1, job_id="one", unique=True)
    run()
    with pytest.raises(DuplicateJobError):
        queue.enqueue(functions.add, 2, job_id="one", unique=True)
    first.delete()
    assert queue.enqueue(functions.add, 2, job_id="one", unique=True).id == "one"
    with pytest.raises(ValueError):
        queue.enqueue(functions.add, 2, unique=True)
    with pytest.raises(ValueError):
        queue.enqueue(functions.add, 2, job_id="x", unique=True, depends_on=[first])


def test_dependents(shims: App, run: Callable[[], None]) -> None:
    bad = queue.enqueue(functions.broken)
    strict, forgiving = (
        queue.enqueue(functions.add, 1, depends_on=bad),
        queue.enqueue(functions.add, 2, depends_on=Dependency(bad, allow_failure=True)),
    )
    cancelled = queue.enqueue_in(timedelta(hours=1), functions.add, 1)
    behind = queue.enqueue(functions.add, 3, depends_on=cancelled)
    two = queue.enqueue(functions.add, 4, depends_on=[queue.enqueue(functions.add, 1), queue.enqueue(functions.add, 2)])
    cancelled.cancel()
    run()
    run()
    assert (strict.get_status(), forgiving.return_value(True), two.return_value(True)) == ("canceled", 3, 5)
    assert behind.get_status() == "canceled"


def test_a_failed_job_is_tried_as_often_as_retry_says(shims: App, run: Callable[[], None]) -> None:
    plain, retried = queue.enqueue(functions.broken), queue.enqueue(functions.broken, retry=Retry(max=2))
    run()
    assert (plain.row.attempt if plain.refresh() is None else 0, Job.fetch(retried.id).row.attempt) == (1, 3)
    returned = queue.enqueue(again, 5, retry=Retry(max=5))
    run()
    assert returned.return_value(True) == 3
    functions.told.clear()
    short = queue.enqueue(again, 1, retry=Retry(max=5))
    run()
    assert (short.is_failed, len(functions.told)) == (True, 2)


def test_callbacks(shims: App, run: Callable[[], None]) -> None:
    queue.enqueue(functions.add, 1, job_id="ok", on_success=Callback("tests.compat.functions.worked"))
    queue.enqueue(functions.broken, on_failure=functions.failed, retry=Retry(max=1))
    waiting = queue.enqueue_in(timedelta(hours=1), functions.add, 1, job_id="gone", on_stopped=functions.stopped)
    send_stop_job_command(None, waiting.id)
    run()
    assert sorted(map(str, functions.told)) == sorted(
        map(str, [("worked", "ok", 2), ("failed", ValueError, "no luck"), ("stopped", "gone")])
    )


def test_repeat(shims: App, run: Callable[[], None]) -> None:
    job = queue.enqueue(functions.heard, 1, job_id="r", repeat=Repeat(times=2))
    bad = queue.enqueue(functions.broken, job_id="bad", repeat=Repeat(times=2))
    run()
    assert len(functions.told) == 3
    assert Job.fetch("r").uuid != job.uuid, "each run is a task of its own; the newest is found"
    assert Job.fetch("bad").uuid == bad.uuid


def test_jobs(shims: App, run: Callable[[], None]) -> None:
    job = queue.enqueue(meta_saved, 7, meta={"start": 1})
    assert (job.func is meta_saved, job.args, queue.job_ids, len(queue), queue.jobs) == (True, (7,), [job.id], 1, [job])
    job.meta["more"] = 2
    job.save_meta()
    assert Job.fetch(job.id).meta == {"start": 1, "more": 2}
    run()
    assert job.return_value(True)["done"] == 7
    with pytest.raises(InvalidJobOperation):
        job.save_meta()
    bad = queue.enqueue(functions.broken)
    run()
    assert bad.id in queue.failed_job_registry
    assert "no luck" in bad.exc_info
    assert requeue_job(bad.id).get_status() == "queued"
    run()
    assert (len(bad.results()), queue.failed_job_registry.count, queue.finished_job_registry.count) == (1, 1, 1)
    queue.failed_job_registry.remove(bad)
    assert not Job.exists(bad.id)
    with pytest.raises(NoSuchJobError):
        Job.fetch("nobody")
    later = queue.enqueue_in(timedelta(hours=1), functions.add, 1)
    assert queue.scheduled_job_registry.get_job_ids() == [later.id]
    cancel_job(later.id)
    with pytest.raises(InvalidJobOperation):
        later.cancel()
    queue.enqueue_many([Queue.prepare_data(functions.add, (n,)) for n in range(3)], group_id="g")
    assert (queue.count, queue.empty(), queue.is_empty()) == (3, 3, True)
    kept, gone = queue.enqueue(functions.add, 1, result_ttl=-1), queue.enqueue(functions.add, 1, result_ttl=0)
    run()
    assert (Job.exists(kept.id), Job.exists(gone.id)) == (True, False)


def test_scheduler(shims: App, tenant: str, run: Callable[[], None]) -> None:
    scheduler = Scheduler(queue=queue)
    moment = datetime(2100, 1, 1, 12)
    once = scheduler.enqueue_at(moment, functions.add, 1, b=2)
    assert once.row.run_at == moment.replace(tzinfo=UTC)
    assert once in scheduler
    scheduler.change_execution_time(once, datetime(2100, 1, 2))
    assert Job.fetch(once.id).row.run_at == datetime(2100, 1, 2, tzinfo=UTC)
    scheduler.cancel(once)
    assert once.get_status() == "canceled"
    often = scheduler.schedule(moment, functions.add, (5,), {"b": 6}, interval=60, repeat=10, id="often", timeout=30)
    nightly = scheduler.cron("0 2 * * *", functions.add, (1,), id="nightly", queue_name="night", meta={"k": 1})
    assert (often.next_run, often.meta, nightly.func_name) == (
        moment.replace(tzinfo=UTC),
        {"repeat": 10},
        "tests.compat.functions.add",
    )
    assert (nightly.next_run.hour, nightly.next_run.minute) == (2, 0)
    assert [each.id for each in scheduler.get_jobs() if each.id in ("nightly", "often")] == ["nightly", "often"]
    assert "often" not in [each.id for each in scheduler.get_jobs(until=timedelta(days=2))]
    assert (often, often.next_run) in scheduler.get_jobs(with_times=True)
    assert ("often" in scheduler, "nobody" in scheduler, scheduler.count() >= 2) == (True, False, True)
    id = shims.execute("SELECT tq_fire('often', %s)", [tenant])[0][0]
    run()
    job = Job.fetch(str(id))
    assert (job.return_value(), job.origin) == (11, "mail")
    scheduler.cancel(often)
    nightly.delete()
    assert ("often" in scheduler, "nightly" in scheduler) == (False, False)
    with pytest.raises(ValueError):
        scheduler.schedule(moment, functions.add, (1,), repeat=3)
    single = scheduler.schedule(moment, functions.add, (1,), id="single")
    assert (single.id, single.is_scheduled) == ("single", True)


def test_is_async_false_runs_here(shims: App, tenant: str) -> None:
    here = Queue("here", is_async=False)
    assert (here.enqueue(functions.add, 1).result, here.enqueue(functions.broken).is_failed) == (2, True)
    assert "no luck" in here.enqueue(functions.broken).exc_info
    assert shims.execute("SELECT tq_queue_size(tenant => %s)", [tenant])[0][0] == 0
