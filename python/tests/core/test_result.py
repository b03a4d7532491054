"""Results: waited for, propagated, and what may be done to a task."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from tenant_q import App, Backoff, Result, errors
from tenant_q.testing import run_pending


@pytest.fixture
def f(app: App) -> Any:
    @app.task(name="f", max_attempts=1)
    def f(day: date) -> list[date]:
        if day.year < 2000:
            raise ValueError("too old")
        return [day, day + timedelta(days=1)]

    app.sync()
    return f


def test_results_have_the_annotated_type(app: App, f: Any) -> None:
    result = f.enqueue(date(2024, 2, 28))
    run_pending(app)
    assert result.get() == [date(2024, 2, 28), date(2024, 2, 29)]
    assert result.finished
    row = result.fetch()
    assert row.result == ["2024-02-28", "2024-02-29"]
    assert isinstance(row.finished_at, datetime)
    [attempt] = result.attempts()
    assert (attempt.outcome, attempt.attempt) == ("done", 1)


def test_nothing_is_a_result_too(app: App) -> None:
    g = app.task(name="g")(lambda: None)
    app.sync()
    result = g.enqueue()
    assert result.get(default="not yet") == "not yet"
    run_pending(app)
    assert result.get(default="not yet") is None


def test_an_unfinished_task_is_a_timeout(app: App, f: Any) -> None:
    result = f.enqueue(date(2024, 1, 1))
    with pytest.raises(errors.ResultTimeout, match=r"It is queued") as caught:
        result.get()
    assert isinstance(caught.value, TimeoutError)
    with pytest.raises(errors.ResultTimeout):
        result.wait(timedelta(milliseconds=50))
    assert asyncio.run(_aget(app, result, default=5)) == 5


async def _aget(app: App, result: Result, **words: Any) -> Any:
    async with app.aclosing():
        return await result.aget(**words)


@pytest.mark.parametrize("coroutine", [False, True])
def test_waiting_ends_with_the_task(app: App, f: Any, coroutine: bool) -> None:
    result = f.enqueue(date(2024, 1, 1))
    waits = threading.Event()
    got = []

    def wait() -> None:
        waits.set()
        got.append(asyncio.run(_aget(app, result, timeout=30)) if coroutine else result.get(timeout=30))
        app.close_connections()

    thread = threading.Thread(target=wait)
    thread.start()
    assert waits.wait(10)
    run_pending(app)
    thread.join(timeout=30)
    assert got == [[date(2024, 1, 1), date(2024, 1, 2)]]


def test_a_failure_is_propagated_or_not(app: App, f: Any) -> None:
    result = f.enqueue(date(1999, 1, 1))
    run_pending(app)
    with pytest.raises(errors.TaskFailed, match="too old") as caught:
        result.get()
    assert (caught.value.state, caught.value.error["class"]) == ("failed", "ValueError")
    assert "raise ValueError" in caught.value.error["context"]
    assert result.get(propagate=False)["message"] == "too old"
    assert result.reason == "too old"


def test_cancelled_tasks_have_no_result(app: App, f: Any) -> None:
    result = f.enqueue(date(2024, 1, 1))
    assert result.cancel()
    assert not result.cancel()
    with pytest.raises(errors.TaskFailed, match="is cancelled") as caught:
        result.get()
    assert caught.value.state == "cancelled"
    assert asyncio.run(_acancel(app, result)) is False


async def _acancel(app: App, result: Result) -> bool:
    async with app.aclosing():
        return await result.acancel(running=False)


def test_requeue_update_and_delete(app: App, f: Any) -> None:
    result = f.enqueue(date(1999, 1, 1))
    run_pending(app)
    assert result.requeue(args={"day": date(2024, 1, 1)}, run_at=datetime.now(UTC) + timedelta(hours=1))
    assert result.state == "delayed"
    assert result.update(run_at=datetime.now(UTC), priority=4)
    assert result.fetch().priority == 4
    run_pending(app)
    assert result.get() == [date(2024, 1, 1), date(2024, 1, 2)]
    assert result.delete()
    assert not result.delete()
    with pytest.raises(errors.TaskNotKept):
        result.get()


def test_in_the_transaction_that_enqueues_it_cannot_be_waited_for(app: App, f: Any) -> None:
    with app.atomic():
        result = f.enqueue(date(2024, 1, 1))
        assert result.state == "queued"
        with pytest.raises(errors.ResultTimeout):
            result.get()
        with pytest.raises(errors.NotReady), app.atomic():
            result.get(timeout=5)


def test_results_are_equal_by_id(app: App, f: Any, tenant: str) -> None:
    id = uuid4()
    assert Result.of(id) == Result.of(str(id), tenant="other")
    assert len({Result.of(id), Result.of(id)}) == 1
    assert str(id) in repr(Result.of(id))
    with pytest.raises(ValueError):
        Result.of("x")


def test_a_retrying_task_says_when_and_why(app: App, db: psycopg.Connection) -> None:
    g = app.task(name="g", max_attempts=3, retry=Backoff("fixed", base=3600))(_raises)
    app.sync()
    result = g.enqueue()
    run_pending(app)
    row = result.fetch()
    assert (row.state, row.attempt, row.max_attempts) == ("retrying", 1, 3)
    assert row.run_at > datetime.now(UTC) + timedelta(minutes=30)
    assert [reason.reason for reason in result.why()] == ["retrying"]


def _raises() -> None:
    raise ValueError("no")


def test_results_are_kept_where_nothing_says_otherwise_and_not_with_save_false(app: App, f: Any) -> None:
    result = f.options(save=False).enqueue(date(2024, 1, 1))
    run_pending(app)
    with pytest.raises(errors.TaskNotKept, match="result_ttl"):
        result.get()
