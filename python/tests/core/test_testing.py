"""What tests of applications use: drain, run_pending, immediate mode, fixtures of pytest."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib.metadata import entry_points
from typing import Any

import psycopg
import psycopg2
import pytest

from tenant_q import App, Backoff, Context, Retry, errors
from tenant_q.testing import drain, immediate, run_pending

pytest_plugins = ["pytester"]


@pytest.fixture(autouse=True)
def note(db: psycopg.Connection, tenant: str) -> Callable[[], list[int]]:
    db.execute(f'CREATE TABLE "{tenant}".note (x int)')
    return lambda: [row[0] for row in db.execute(f'SELECT x FROM "{tenant}".note ORDER BY x').fetchall()]


@pytest.fixture
def f(app: App) -> Any:
    @app.task(name="f", max_attempts=2, retry=Backoff("fixed", base=60))
    def f(x: int) -> int:
        app.execute("INSERT INTO note VALUES (%s)", [x])
        if x < 0:
            raise ValueError(f"negative: {x}")
        if x > 1:
            f.enqueue(x - 1)
        return x

    app.sync()
    return f


def test_drain_runs_all_inside_of_the_transaction(app: App, f: Any, note: Any, tenant: str) -> None:
    with pytest.raises(RuntimeError), app.atomic():
        path = app.execute("SHOW search_path")
        result = f.enqueue(3)
        assert [(ran.handler, ran.state) for ran in drain()] == [("f", "done")] * 3
        assert result.get() == 3
        assert app.execute(f'SELECT count(*) FROM "{tenant}".note') == [(3,)]
        assert app.execute("SHOW search_path") == path
        raise RuntimeError
    assert note() == []
    assert run_pending() == []


def test_drain_says_what_failed_and_goes_on(app: App, f: Any, tenant: str) -> None:
    with app.atomic():
        bad, good = f.enqueue(-1), f.enqueue(1)
        ran = drain()
        assert {r.id: r.state for r in ran} == {str(bad.id): "retrying", str(good.id): "done"}
        [failed] = [r for r in ran if r.exception]
        assert failed.error["message"] == "negative: -1"
        assert app.execute(f'SELECT x FROM "{tenant}".note') == [(1,)]
        assert [r.state for r in drain(as_of=datetime.now(UTC) + timedelta(hours=1))] == ["failed"]
        with pytest.raises(errors.TaskFailed):
            bad.get()


def test_drain_may_pass_the_exception_on(app: App, f: Any) -> None:
    with app.atomic():
        f.enqueue(-1)
        with pytest.raises(ValueError, match="negative"):
            drain(propagate=True)


def test_drain_stops_at_n_and_takes_what_is_due_by_then(app: App, f: Any) -> None:
    with app.atomic():
        f.options(delay="1 day").enqueue(1)
        f.enqueue(9)
        assert len(drain(n=4)) == 4
        assert len(drain()) == 5
        assert len(drain(as_of=datetime.now(UTC) + timedelta(days=2))) == 1
    with pytest.raises(errors.NaiveDatetime):
        drain(as_of=datetime(2030, 1, 1))


def test_drain_without_a_transaction_commits(app: App, f: Any, note: Any) -> None:
    f.enqueue(2)
    assert len(drain()) == 2
    assert note() == [1, 2]


def test_drain_in_a_connection_of_ones_own(app: App, f: Any, note: Any) -> None:
    with psycopg.connect() as own, app.using(own):
        result = f.enqueue(2)
        f.enqueue(-1)
        assert sorted(ran.state for ran in drain()) == ["done", "done", "retrying"]
        assert result.get() == 2
        own.rollback()
    assert note() == []


def test_drain_with_psycopg2(app: App, f: Any, note: Any) -> None:
    own = psycopg2.connect("")
    with app.using(own):
        result = f.enqueue(2)
        f.enqueue(-1)
        assert sorted(ran.state for ran in drain()) == ["done", "done", "retrying"]
        assert result.get() == 2
    own.rollback()
    own.close()
    assert note() == []


def test_drain_of_tasks_that_commit_themselves(app: App, note: Any) -> None:
    @app.task(name="g", atomic=False, takes_context=True)
    def g(ctx: Context, x: int) -> None:
        ctx.execute("INSERT INTO note VALUES (%s)", [x])
        ctx.progress(0.5)
        with ctx.commit(result="ok"):
            ctx.execute("INSERT INTO note VALUES (%s)", [x + 1])

    app.sync()
    with pytest.raises(RuntimeError), app.atomic():
        result = g.enqueue(1)
        assert [ran.state for ran in drain()] == ["done"]
        assert result.get() == "ok"
        raise RuntimeError
    assert note() == []


def test_drain_of_coroutines(app: App, note: Any) -> None:
    @app.task(name="g")
    async def g(x: int) -> list[Any]:
        return await app.aexecute("INSERT INTO note VALUES (%s) RETURNING x", [x])

    app.sync()
    with app.atomic():
        result = g.enqueue(1)
        assert [ran.state for ran in drain()] == ["done"]
        assert result.get() == [[1]]
    assert note() == [1]


def test_run_pending_commits_each(app: App, f: Any, note: Any) -> None:
    f.enqueue(3)
    f.enqueue(-1)
    assert sorted(ran.state for ran in run_pending()) == ["done", "done", "done", "retrying"]
    assert note() == [1, 2, 3]
    with pytest.raises(ValueError, match="negative"):
        f.options(max_attempts=1).enqueue(-1)
        run_pending(propagate=True)


def test_run_pending_leaves_other_tenants_and_handlers_alone(app: App, f: Any, make_tenant: Any) -> None:
    other = make_tenant()
    app.sync(tenant=other)
    result = f.options(tenant=other).enqueue(1)
    assert run_pending() == []
    assert result.state == "queued"
    [ran] = run_pending(tenant=other)
    assert (ran.state, ran.exception.sqlstate) == ("retrying", "42P01")  # it has no table note


def test_immediate_mode_needs_no_server() -> None:
    from tenant_q.task import Registry

    app = App("host=/nowhere", tenant="acme", registry=Registry())

    @app.task(name="double", takes_context=True)
    def double(ctx: Context, x: int, when: datetime | None = None) -> int:
        assert (ctx.tenant, ctx.attempt, ctx.meta) == ("acme", 1, {"k": 1})
        if x < 0:
            raise ValueError("negative")
        if x == 0:
            raise Retry(5)
        ctx.progress(1.0)
        return x * 2

    double = double.options(meta={"k": 1})
    with immediate(app):
        result = double.enqueue(2, datetime.now(UTC))
        assert (result.get(), result.state, result.tenant, result.finished) == (4, "done", "acme", True)
        assert [each.get() for each in double.enqueue_many([1, 2])] == [2, 4]
        failed = double.enqueue(-1)
        assert (failed.state, failed.error["message"], failed.error["class"]) == ("failed", "negative", "ValueError")
        with pytest.raises(errors.TaskFailed, match="negative"):
            failed.get()
        again = double.enqueue(0)
        assert again.state == "retrying"
        with pytest.raises(errors.ResultTimeout):
            again.get()
        with pytest.raises(errors.ArgumentsDoNotFit):
            double.enqueue()
        with pytest.raises(errors.CannotTravel):
            double.enqueue(object())
    with immediate(app, propagate=True), pytest.raises(ValueError, match="negative"):
        double.enqueue(-1)


def test_immediate_mode_calls_hooks(app: App) -> None:
    seen = []
    f = app.task(name="f")(lambda x: 1 // x)
    told = app.task(name="told")(lambda task: seen.append((task["state"], task["result"])))
    with immediate(app):
        f.options(on_success=told, on_failure=told).enqueue(1)
        f.options(hook=told).enqueue(0)
    assert seen == [("done", 1), ("failed", None)]


def test_the_plugin(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        from tenant_q import App, task

        app = App("host=/nowhere", tenant="acme")

        @task(name="plugin.double")
        def double(x: int) -> int:
            if x < 0:
                raise ValueError
            return x * 2

        def test_fixture(tenant_q_immediate):
            assert double.enqueue(2).get() == 4
            with pytest.raises(ValueError):
                double.enqueue(-1)

        @pytest.mark.tenant_q(immediate=True)
        def test_marker():
            assert double.enqueue(2).get() == 4

        def test_fixtures(tenant_q_drain, tenant_q_run_pending):
            assert (tenant_q_drain.__name__, tenant_q_run_pending.__name__) == ("drain", "run_pending")
        """
    )
    # Where the package isn't installed, but on the path, nobody else loads it.
    installed = any(each.name == "tenant_q" for each in entry_points(group="pytest11"))
    by_hand = () if installed else ("-p", "tenant_q.testing.plugin")
    run = pytester.runpytest_subprocess("-q", "-p", "no:cacheprovider", "--strict-markers", *by_hand)
    run.assert_outcomes(passed=3)
