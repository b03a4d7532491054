"""procrastinate, beyond the small app."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import tenant_q.compat.procrastinate as procrastinate
from tenant_q import App as TenantApp
from tenant_q import Result
from tenant_q.compat import Unsupported
from tenant_q.compat.procrastinate.exceptions import (
    AlreadyEnqueued,
    TaskAlreadyRegistered,
    TaskNotFound,
    UnboundTaskError,
)
from tenant_q.errors import ArgumentsDoNotFit
from tenant_q.schedules import _declared

app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo="ignored"))
log: list[Any] = []


@app.task(name="p.say")
def say(text: Any) -> Any:
    log.append(text)
    return text


@app.task(name="p.all", queue="mail", priority=4, lock="l", queueing_lock="q", retry=2, aliases=["p.old"])
def everything() -> None:
    log.append("everything")


@app.task(name="p.retries", retry=5)
def retries() -> None:
    log.append("try")
    raise RuntimeError("again")


@app.task(name="p.context", pass_context=True)
async def context(ctx: procrastinate.JobContext, n: int = 1) -> list[Any]:
    return [ctx.task.name, ctx.job.task_kwargs, ctx.should_abort(), ctx.app is app, n]


@app.periodic(cron="0 3 1 1 *")
@app.periodic(cron="5 3 1 1 * */10", periodic_id="often", queue="night")
@app.task(name="p.periodic")
def periodic(timestamp: int) -> int:
    return timestamp


@pytest.fixture(autouse=True)
def _clean() -> None:
    log.clear()


def row(id: procrastinate.JobId) -> Any:
    return Result.of(id.uuid).fetch()


def test_every_option_is_a_word_of_tenant_q(shims: TenantApp) -> None:
    found = row(everything.defer())
    assert (found.queue, found.priority, found.max_attempts) == ("mail", 4, 3)
    assert everything.made.handler_document()["aliases"] == ["p.old"]
    with pytest.raises(AlreadyEnqueued, match="q waits already"):
        everything.defer()
    with pytest.raises(AlreadyEnqueued):
        everything.batch_defer({}, {})
    other = row(everything.configure(queueing_lock="r", queue="x", priority=1, schedule_in={"hours": 1}).defer())
    assert (other.queue, other.priority, other.state) == ("x", 1, "delayed")
    at = datetime(2100, 1, 1, tzinfo=UTC)
    assert row(say.configure(schedule_at=at, task_kwargs={"text": "t"}).defer()).run_at == at
    assert row(app.configure_task("p.old", queueing_lock="s").defer()).handler == "p.all"


def test_falsy_arguments_arrive(shims: TenantApp, run: Callable[[], None]) -> None:
    for value in (0, "", [], {}, False):
        id = say.defer(text=value)
        run()
        assert id.result.get() == value
    assert log == [0, "", [], {}, False]


def test_unsupported_keywords(shims: TenantApp, tenant: str) -> None:
    for call in (
        lambda: app.task(task_middleware=[print])(lambda: 1),
        lambda: say.configure(connection=object()),
        lambda: say.configure(nobody=1),
        lambda: procrastinate.RetryDecision(retry_in={"seconds": 1}, priority=5),
        lambda: procrastinate.RetryDecision(retry_in={"seconds": 1}, queue="x"),
        lambda: procrastinate.RetryDecision(retry_in={"seconds": 1}, lock="x"),
        lambda: app.run_worker(),
        lambda: app.run_worker(wait=False, queues=["x"]),
        lambda: app.job_manager.delete_old_jobs(1),
        lambda: app.job_manager.get_stalled_jobs(),
        lambda: app.job_manager.list_jobs(lock="x"),
        lambda: app.job_manager.list_jobs(queueing_lock="x"),
        lambda: app.job_manager.list_jobs(worker_id=1),
        lambda: app.job_manager.retry_job_by_id(1, lock="x"),
        lambda: app.open(object()),
    ):
        with pytest.raises(Unsupported) as caught:
            call()
        assert caught.value.hint
    with pytest.raises(ArgumentsDoNotFit):
        say.defer()
    with pytest.raises(ArgumentsDoNotFit):
        say.defer(text=1, more=2)
    with pytest.raises(ValueError):
        say.configure(schedule_at=datetime.now(UTC), schedule_in={"seconds": 1})
    with pytest.raises(TaskNotFound):
        app.configure_task("p.nobody", allow_unknown=False)
    assert shims.execute("SELECT tq_queue_size(tenant => %s)", [tenant])[0][0] == 0


def test_priorities(shims: TenantApp, run: Callable[[], None]) -> None:
    for priority in (5, 7, 6):
        say.configure(priority=priority).defer(text=priority)
    run()
    assert log == [7, 6, 5]


def test_queueing_locks_and_locks(shims: TenantApp, run: Callable[[], None]) -> None:
    say.configure(queueing_lock="a").defer(text=1)
    say.configure(queueing_lock="b").defer(text=2)
    with pytest.raises(AlreadyEnqueued):
        say.configure(queueing_lock="a").defer(text=3)
    say.configure(lock="x", schedule_in={"hours": 1}).defer(text=4)
    say.configure(lock="x").defer(text=5)
    run()
    assert sorted(log) == [1, 2, 5]
    say.configure(queueing_lock="a").defer(text=6)


def test_retry_5_makes_6_attempts(shims: TenantApp, run: Callable[[], None]) -> None:
    id = retries.defer()
    run()
    assert (log, app.job_manager.get_job_status(id)) == (["try"] * 6, procrastinate.Status.FAILED)


@pytest.mark.parametrize(
    ("strategy", "waits"),
    [
        (procrastinate.RetryStrategy(max_attempts=3, wait=7), [7, 7, 7, None]),
        (procrastinate.RetryStrategy(max_attempts=3, linear_wait=11), [0, 11, 22, None]),
        (procrastinate.RetryStrategy(max_attempts=3, exponential_wait=2), [2, 4, 8, None]),
        (
            procrastinate.RetryStrategy(wait=1, linear_wait=2, exponential_wait=3),
            [1 + 3, 1 + 2 + 9, 1 + 4 + 27, 1 + 6 + 81],
        ),
    ],
)
def test_the_server_waits_as_the_strategy_says(shims: TenantApp, strategy: Any, waits: list[int | None]) -> None:
    from tenant_q.compat.procrastinate.retry import policy

    words, own = policy(strategy)
    assert own is None
    assert [strategy.get_schedule_in(exception=ValueError(), attempts=n) for n in range(4)] == waits
    assert words["max_attempts"] == (0 if strategy.max_attempts is None else 4)
    document = words["retry"].document()
    assert document["kind"] == "procrastinate"
    assert (document["base"], document.get("linear"), document.get("factor")) == (
        strategy.wait, strategy.linear_wait or None, strategy.exponential_wait or None,
    )  # fmt: skip


def test_jobs(shims: TenantApp, run: Callable[[], None]) -> None:
    jobs = app.job_manager
    id = say.configure(schedule_in={"hours": 1}).defer(text="x")
    [job] = jobs.list_jobs(id=id)
    assert (job.id, job.status, job.task_name, job.task_kwargs, job.attempts) == (id, "todo", "p.say", {"text": "x"}, 0)
    assert job.call_string == f"p.say[{id}](text='x')"
    assert jobs.cancel_job_by_id(id, delete_job=True) is True
    assert jobs.list_jobs(id=id) == []
    assert jobs.cancel_job_by_id(id) is False
    done = say.defer(text="y")
    run()
    assert jobs.list_jobs(status="succeeded", task="p.say", queue="default")[0].id == done
    jobs.retry_job_by_id(done, datetime.now(UTC) + timedelta(hours=1), priority=3)
    assert (row(done).state, row(done).priority) == ("delayed", 3)


def test_async(shims: TenantApp, run: Callable[[], None]) -> None:
    async def deferred() -> Any:
        async with app.open_async() as opened:
            assert opened is app
            one = await context.defer_async(n=4)
            more = await context.batch_defer_async({"n": 5}, {})
            status = await app.job_manager.get_job_status_async(one)
            gone = await app.job_manager.cancel_job_by_id_async(more[1])
            return one, more[0], status, gone

    one, more, status, gone = asyncio.run(deferred())
    app.run_worker(wait=False)
    assert (status, gone) == (procrastinate.Status.TODO, True)
    assert one.result.get() == ["p.context", {"n": 4}, False, True, 4]
    assert more.result.get()[-1] == 5
    assert asyncio.run(context.func(procrastinate.JobContext(app, context, _outside(shims), {}), 2))[-1] == 2


def _outside(shims: TenantApp) -> Any:
    from tenant_q.context import Context

    return Context.outside(shims, "p.context")


def test_periodic(shims: TenantApp, tenant: str, run: Callable[[], None]) -> None:
    daily, often = _declared["p.periodic"], _declared["p.periodic often"]
    assert (daily.rule, daily.words["tz"], daily.words["deadline"], often.rule, often.task) == (
        "0 3 1 1 *", "UTC", "600 seconds", "*/10 5 3 1 1 *", {"queue": "night"},
    )  # fmt: skip
    id = shims.execute("SELECT tq_fire('p.periodic', %s)", [tenant])[0][0]
    run()
    found = Result.of(id)
    assert found.get() == int(found.fetch().scheduled_for.timestamp())
    with pytest.raises(TaskAlreadyRegistered):
        app.periodic(cron="0 4 * * *")(periodic)


def test_blueprints(shims: TenantApp, run: Callable[[], None]) -> None:
    blueprint = procrastinate.Blueprint()

    @blueprint.task(name="inner")
    def inner(n: int) -> int:
        return n

    with pytest.raises(UnboundTaskError):
        inner.defer(n=1)
    app.add_tasks_from(blueprint, namespace="p.blue")
    app.add_task_alias(inner, "p.alias")
    shims.sync()
    id = inner.defer(n=3)
    run()
    assert (id.result.get(), row(id).handler, app.tasks["p.blue:inner"] is inner) == (3, "p.blue:inner", True)
    assert row(app.configure_task("p.alias").defer(n=1)).handler in ("p.alias", "p.blue:inner")
