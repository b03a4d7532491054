"""A taken task, to its end: with its effects, or not at all; and what is said of it."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from tenant_q import App, Backoff, Cancelled, Context, Fail, Retry, current, errors
from tenant_q.context import Taken
from tenant_q.execute import Outcome, error_document, execute
from tenant_q.task import Registry

from . import named
from . import wire as wires

Take = Callable[..., list[Taken]]


@pytest.fixture(autouse=True)
def notes(db: psycopg.Connection, tenant: str) -> None:
    db.execute(f'CREATE TABLE "{tenant}".note (x int, UNIQUE (x) DEFERRABLE INITIALLY DEFERRED)')


@pytest.fixture
def written(db: psycopg.Connection, tenant: str) -> Callable[[], list[int]]:
    return lambda: [row[0] for row in db.execute(f'SELECT x FROM "{tenant}".note ORDER BY x').fetchall()]


def write(app: App, x: int) -> None:
    app.execute("INSERT INTO note VALUES (%s)", [x])


def run(app: App, take: Take) -> Outcome:
    [taken] = take(1)
    return execute(app, taken)


def test_effects_and_end_are_committed_together(app: App, take: Take, written: Any) -> None:
    @app.task(name="f")
    def f(x: int) -> Decimal:
        write(app, x)
        return Decimal("1.50")

    app.sync()
    result = f.enqueue(3)
    outcome = run(app, take)
    assert (outcome.kind, outcome.error, outcome.exception) == ("done", None, None)
    assert outcome.duration > 0
    assert (result.state, result.get(), written()) == ("done", Decimal("1.50"), [3])


def test_a_function_that_does_nothing_in_the_database_ends_too(app: App, take: Take) -> None:
    f = app.task(name="f")(lambda x: {"got": x})
    app.sync()
    result = f.enqueue([1, {"a": None}])
    assert run(app, take).kind == "done"
    assert result.get() == {"got": [1, {"a": None}]}


def test_what_it_enqueues_is_part_of_its_transaction(app: App, take: Take) -> None:
    @app.task(name="f", max_attempts=1)
    def f(bad: bool) -> str:
        made = g.enqueue(1)
        if bad:
            raise ValueError("no")
        return str(made.id)

    g = app.task(name="g")(lambda x: x)
    app.sync()
    result = f.enqueue(False)
    assert run(app, take).kind == "done"
    [taken] = take(1)
    assert (taken.handler, taken.id) == ("g", result.get())
    execute(app, taken)
    f.enqueue(True)
    assert run(app, take).kind == "failed"
    assert take(1, "0") == []


def test_an_error_rolls_back_and_is_kept(app: App, take: Take, written: Any) -> None:
    class Declined(Exception): ...

    @app.task(name="f", max_attempts=2, retry=Backoff("fixed", base=60))
    def f(x: int) -> None:
        write(app, x)
        raise Declined("card declined")

    app.sync()
    result = f.enqueue(3)
    outcome = run(app, take)
    assert (outcome.kind, written()) == ("retrying", [])
    assert 50 < (outcome.run_at - datetime.now(UTC)).total_seconds() < 70
    assert isinstance(outcome.exception, Declined)
    row = result.fetch()
    assert (row.state, row.error["message"]) == ("retrying", "card declined")
    assert outcome.error["class"].endswith("test_an_error_rolls_back_and_is_kept._locals_.Declined")
    [attempt] = result.attempts()
    assert (attempt.attempt, attempt.message) == (1, "card declined")
    trace = outcome.error["traceback"]
    assert "raise Declined" in trace
    assert "tenant_q/execute.py" not in trace
    with pytest.raises(errors.ResultTimeout):
        result.get()


def test_the_last_attempt_fails_for_good(app: App, take: Take) -> None:
    @app.task(name="f", max_attempts=1)
    def f() -> None:
        raise psycopg.errors.RaiseException("no such order")

    app.sync()
    result = f.enqueue()
    assert run(app, take).kind == "failed"
    with pytest.raises(errors.TaskFailed, match="no such order") as caught:
        result.get()
    assert caught.value.state == "failed"
    assert caught.value.error["class"] == "psycopg.errors.RaiseException"
    assert result.get(propagate=False)["message"] == "no such order"


def test_an_error_of_the_database_keeps_its_sqlstate(app: App, take: Take, written: Any) -> None:
    @app.task(name="f", max_attempts=1)
    def f() -> None:
        app.execute("SELECT 1/0")

    app.sync()
    result = f.enqueue()
    assert run(app, take).kind == "failed"
    assert result.error["sqlstate"] == "22012"


def test_a_swallowed_error_of_the_database_is_a_failure(app: App, take: Take, written: Any) -> None:
    @app.task(name="f", max_attempts=1)
    def f() -> None:
        write(app, 1)
        try:
            app.execute("SELECT 1/0")
        except psycopg.Error:
            pass

    app.sync()
    result = f.enqueue()
    assert run(app, take).kind == "failed"
    assert (result.error["sqlstate"], written()) == ("25P02", [])


def test_in_a_savepoint_it_may_be_swallowed(app: App, take: Take, written: Any) -> None:
    @app.task(name="f")
    def f() -> None:
        write(app, 1)
        try:
            with app.atomic():
                write(app, 2)
                app.execute("SELECT 1/0")
        except psycopg.Error:
            write(app, 3)

    app.sync()
    f.enqueue()
    assert run(app, take).kind == "done"
    assert written() == [1, 3]


def test_a_deferred_constraint_that_fails_at_commit_is_a_failure(app: App, take: Take, written: Any) -> None:
    @app.task(name="f", max_attempts=1)
    def f() -> None:
        write(app, 1)
        write(app, 1)

    app.sync()
    result = f.enqueue()
    assert run(app, take).kind == "failed"
    assert (result.error["sqlstate"], written()) == ("23505", [])


def test_a_serialization_failure_at_commit_is_a_failure_that_is_tried_again(
    app: App, take: Take, written: Any, db: psycopg.Connection, tenant: str
) -> None:
    @app.task(name="f", max_attempts=2)
    def f() -> None:
        app.execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
        [(n,)] = app.execute("SELECT count(*) FROM note")
        if n == 0:  # another one reads and writes the same meanwhile
            with psycopg.connect() as other:
                other.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
                other.execute(f'SELECT count(*) FROM "{tenant}".note')
                write(app, 1)
                other.execute(f'INSERT INTO "{tenant}".note VALUES (2)')
                other.commit()

    app.sync()
    f.enqueue()
    outcome = run(app, take)
    assert (outcome.kind, outcome.error["sqlstate"], written()) == ("retrying", "40001", [2])


@pytest.mark.parametrize(
    ("raised", "states", "message"),
    [
        (lambda: Retry(60, "later"), ("retrying", "retrying"), "later"),
        (lambda: Retry(timedelta(minutes=1)), ("retrying", "retrying"), "another attempt was asked for"),
        (lambda: Retry("1 minute", "bank closed", count=False), ("released", "delayed"), None),
        (lambda: Fail("no such order"), ("failed", "failed"), "no such order"),
        (lambda: SystemExit(3), ("retrying", "retrying"), "3"),
    ],
)
def test_what_a_task_says_itself(app: App, take: Take, written: Any, raised: Any, states: Any, message: Any) -> None:
    @app.task(name="f", max_attempts=3, retry_on=("only.this",) if states[0] == "x" else None)
    def f() -> None:
        write(app, 1)
        raise raised()

    app.sync()
    result = f.enqueue()
    outcome = run(app, take)
    row = result.fetch()
    assert (outcome.kind, row.state, written()) == (*states, [])
    if message:
        assert row.error["message"] == message
    if states[0] in ("retrying", "released") and outcome.run_at:
        assert row.run_at > datetime.now(UTC)
    if states[0] == "released":
        assert row.attempt == 0
        assert row.run_at > datetime.now(UTC) + timedelta(seconds=30)


def test_the_contexts_words_do_the_same(app: App, take: Take) -> None:
    @app.task(name="f", takes_context=True)
    def f(ctx: Context, how: str) -> None:
        if how == "retry":
            ctx.retry(60, "again")
        ctx.fail("never")

    app.sync()
    again, never = f.enqueue("retry"), f.enqueue("fail")
    assert [execute(app, taken).kind for taken in take(2)] == ["retrying", "failed"]
    assert (again.error["message"], never.error["message"]) == ("again", "never")


class Declined(Exception): ...


class Broke(Declined): ...


@pytest.mark.parametrize(
    ("words", "raised", "kind"),
    [
        ({"retry_on": (Declined,)}, Declined(), "retrying"),
        ({"retry_on": (Declined,)}, Broke(), "retrying"),
        ({"retry_on": (Declined,)}, ValueError(), "failed"),
        ({"retry_on": Declined}, KeyError(), "failed"),
        ({"retry_on": ("test_execute.",)}, ValueError(), "failed"),
        ({"retry_on": (LookupError,)}, KeyError("x"), "retrying"),
        ({"retry_on": (Declined,)}, Retry(), "retrying"),
        ({"never_on": (Declined,)}, Declined(), "failed"),
        ({"never_on": (Declined,)}, Broke(), "failed"),
        ({"never_on": (Declined,)}, ValueError(), "retrying"),
        ({"never_on": ("ValueError",)}, ValueError(), "failed"),
        ({"retry": Backoff("fixed", base=1, never_on=Declined)}, Broke(), "failed"),
        ({"retry": Backoff("fixed", base=1, retry_on=Declined)}, Broke(), "retrying"),
        ({"retry_if": lambda error: "again" in str(error)}, ValueError("again"), "retrying"),
        ({"retry_if": lambda error: "again" in str(error)}, ValueError("no"), "failed"),
        ({"never_on": (Broke,), "retry_on": (Declined,)}, Broke(), "failed"),
    ],
    ids=named,
)
def test_which_errors_are_tried_again(app: App, take: Take, words: Any, raised: BaseException, kind: str) -> None:
    @app.task(name="f", max_attempts=5, **words)
    def f() -> None:
        raise raised

    app.sync()
    f.enqueue()
    assert run(app, take).kind == kind


def test_arguments_that_do_not_fit_fail_for_good(app: App, take: Take, db: psycopg.Connection, tenant: str) -> None:
    f = app.task(name="f", max_attempts=5)(lambda x: x)
    g = app.task(name="g", max_attempts=5)(_annotated)
    app.sync()
    db.execute("SELECT tq_async('g', '{\"when\": \"yesterday\"}', tenant => %s)", [tenant])
    outcome = run(app, take)
    assert outcome.kind == "failed"
    assert "g: argument when" in outcome.error["message"]
    assert (f.name, g.name) == ("f", "g")


def _annotated(when: datetime) -> None: ...


def test_an_error_of_ours_from_inside_the_function_is_tried_again(app: App, take: Take) -> None:
    @app.task(name="f", max_attempts=5)
    def f() -> None:
        f.enqueue(object())  # type: ignore[call-arg]

    app.sync()
    f.enqueue()
    outcome = run(app, take)
    assert (outcome.kind, outcome.error["class"]) == ("retrying", "tenant_q.errors.ArgumentsDoNotFit")


def test_a_result_that_cannot_travel_fails_for_good(app: App, take: Take, written: Any) -> None:
    @app.task(name="f", max_attempts=5)
    def f() -> object:
        write(app, 1)
        return object()

    app.sync()
    result = f.enqueue()
    assert run(app, take).kind == "failed"
    assert written() == []
    assert "f: result is of the type builtins.object" in result.error["message"]


def test_a_task_that_this_process_has_not_goes_back(app: App, take: Take) -> None:
    f = app.task(name="f")(lambda: None)
    app.sync()
    result = f.enqueue()
    app.registry.discard("f")
    outcome = run(app, take)
    assert outcome.kind == "released"
    row = result.fetch()
    assert (row.state, row.attempt) == ("delayed", 0)


def test_renamed_tasks_are_found_by_their_aliases(app: App, take: Take) -> None:
    app.task(name="new", aliases=["old"])(lambda x: x)
    app.sync()
    id = app.value(app.calls.enqueue("old", "5", {}, app.current_tenant()))
    assert run(app, take).kind == "done"
    assert errors and id


@pytest.mark.parametrize("begun", [True, False])
def test_a_cancelled_task_leaves_nothing(app: App, take: Take, written: Any, begun: bool) -> None:
    @app.task(name="f")
    def f() -> str:
        if begun:
            write(app, 1)
        with psycopg.connect(autocommit=True) as other, app.using(other):
            assert result.cancel()
        return "done"

    app.sync()
    result = f.enqueue()
    outcome = run(app, take)
    assert (outcome.kind, written(), result.state) == ("lost", [], "cancelled")


def test_an_attempt_that_fails_after_a_cancel_is_lost(app: App, take: Take, written: Any) -> None:
    @app.task(name="f")
    def f() -> str:
        write(app, 1)
        with psycopg.connect(autocommit=True) as other, app.using(other):
            assert result.cancel()
        raise ValueError

    app.sync()
    result = f.enqueue()
    assert (run(app, take).kind, written(), result.state) == ("lost", [], "cancelled")


def test_check_ends_what_was_cancelled(app: App, take: Take, written: Any) -> None:
    @app.task(name="f", takes_context=True, max_attempts=1)
    def f(ctx: Context, what: str) -> None:
        write(app, 1)
        assert not ctx.cancelled
        ctx.check()
        ctx.tell(what)
        assert (ctx.cancelled, ctx.news) == (True, what)
        try:
            ctx.progress(0.5)
        except Exception:
            pytest.fail("Cancelled is no Exception")

    app.sync()
    timeout, drain = f.enqueue("timeout"), f.enqueue("drain")
    assert [execute(app, taken).kind for taken in take(2)] == ["failed", "released"]
    assert (timeout.state, drain.state, written()) == ("failed", "queued", [])
    assert timeout.error["message"] == "the task's time is over"
    assert str(Cancelled()) == "the task was cancelled"


def test_a_keyboard_interrupt_gives_the_task_back(app: App, take: Take, written: Any) -> None:
    @app.task(name="f")
    def f() -> None:
        write(app, 1)
        raise KeyboardInterrupt

    app.sync()
    result = f.enqueue()
    with pytest.raises(KeyboardInterrupt):
        run(app, take)
    row = result.fetch()
    assert (row.state, row.attempt, written()) == ("queued", 0, [])


# A connection that is lost.


@pytest.fixture
def wire() -> Any:
    with wires.wire() as made:
        yield made


@pytest.fixture
def far(wire: Any, tenant: str) -> Any:
    """An App behind a wire that can be cut."""
    made = App(
        f"host=127.0.0.1 port={wire.port} sslmode=disable gssencmode=disable", tenant=tenant, registry=Registry()
    )
    yield made
    made.close_connections()


@pytest.mark.parametrize("deliver", [True, False], ids=["committed", "not committed"])
@pytest.mark.parametrize("begun", [True, False], ids=["with effects", "without"])
def test_a_connection_that_is_lost_in_commit_repeats_nothing(
    app: App, far: App, wire: Any, take: Take, written: Any, deliver: bool, begun: bool
) -> None:
    calls = []

    @far.task(name="f")
    def f(x: int) -> int:
        calls.append(x)
        if begun:
            write(far, x)
        if len(calls) == 1:
            wire.deliver = deliver
            wire.word = b"COMMIT" if begun else b"tq_finish"
        return x

    far.sync()
    far.close_connections()  # so that tq_finish isn't a prepared statement, known by its name alone
    result = f.enqueue(3)
    [taken] = take(1)
    outcome = execute(far, taken)
    assert (outcome.kind, calls, wire.cuts) == ("unknown", [3], 1)
    assert isinstance(outcome.exception, errors.ConnectionLost)
    # Whoever holds the claim may release it: where it was committed that changes nothing.
    release = app.calls.release(taken.claim)
    if deliver:
        with pytest.raises(psycopg.Error) as caught:
            take.connection.execute(release.sql, release.params)
        assert caught.value.sqlstate == "TQ007"
        assert (result.get(), written()) == (3, [3] if begun else [])
    else:
        take.connection.execute(release.sql, release.params)
        assert (result.state, written()) == ("queued", [])
        [taken] = take(1)
        assert (taken.attempt, execute(far, taken).kind) == (1, "done")
        assert written() == ([3] if begun else [])


def test_a_connection_that_is_lost_before_is_a_failure(far: App, wire: Any, take: Take, written: Any) -> None:
    @far.task(name="f", max_attempts=2)
    def f(x: int) -> None:
        write(far, x)
        wire.deliver, wire.word = False, b"pg_sleep"
        far.execute("SELECT pg_sleep(0)")

    far.sync()
    result = f.enqueue(3)
    [taken] = take(1)
    outcome = execute(far, taken)
    assert (outcome.kind, wire.cuts, written()) == ("retrying", 1, [])
    assert (outcome.error["class"], result.state) == ("psycopg.OperationalError", "retrying")


def test_a_failure_that_could_not_be_told_is_told_by_a_new_connection(far: App, wire: Any, take: Take) -> None:
    @far.task(name="f", max_attempts=2)
    def f() -> None:
        wire.deliver, wire.word = False, b"tq_give_up"
        raise ValueError("no")

    far.sync()
    far.close_connections()
    result = f.enqueue()
    [taken] = take(1)
    assert (execute(far, taken).kind, wire.cuts) == ("retrying", 1)
    assert result.error["message"] == "no"


def test_a_server_that_ends_the_session_before_commit_is_a_failure(
    app: App, take: Take, written: Any, server: psycopg.Connection
) -> None:
    @app.task(name="f", max_attempts=2)
    def f(x: int) -> None:
        write(app, x)
        [(pid,)] = app.execute("SELECT pg_backend_pid()")
        server.execute("SELECT pg_terminate_backend(%s, 10000)", [pid])

    app.sync()
    f.enqueue(3)
    outcome = run(app, take)
    assert (outcome.kind, outcome.error["class"], written()) == ("retrying", "psycopg.OperationalError", [])


def test_a_session_that_was_ended_between_two_tasks_costs_none(
    app: App, take: Take, server: psycopg.Connection
) -> None:
    f = app.task(name="f")(lambda: None)
    app.sync()
    for _ in range(3):
        [(pid,)] = app.execute("SELECT pg_backend_pid()")
        f.enqueue()
        server.execute("SELECT pg_terminate_backend(%s, 10000)", [pid])
        assert run(app, take).kind == "done"


# atomic=False.


def test_commit_ends_the_task_with_its_effects(app: App, take: Take, written: Any) -> None:
    @app.task(name="f", atomic=False, takes_context=True)
    def f(ctx: Context, x: int) -> str:
        assert app.execute("SELECT current_schema()") == [(ctx.tenant,)]
        ctx.execute("INSERT INTO note VALUES (%s)", [x])  # a transaction of its own
        assert written() == [x]
        with ctx.commit(result="ch_1"):
            write(app, x + 1)
            assert written() == [x]
        assert result.state == "done"
        assert ctx.committed
        return "not the result"

    app.sync()
    result = f.enqueue(3)
    assert run(app, take).kind == "done"
    assert (result.get(), written()) == ("ch_1", [3, 4])


def test_the_result_may_be_known_only_in_the_block(app: App, take: Take) -> None:
    @app.task(name="f", atomic=False, takes_context=True)
    def f(ctx: Context) -> Decimal:
        with ctx.commit() as end:
            end.result = Decimal("0.10")
        return Decimal(0)

    app.sync()
    result = f.enqueue()
    assert run(app, take).kind == "done"
    assert result.get() == Decimal("0.10")


def test_without_commit_the_functions_end_is_the_tasks(app: App, take: Take) -> None:
    f = app.task(name="f", atomic=False)(lambda x: x)
    app.sync()
    result = f.enqueue(5)
    assert run(app, take).kind == "done"
    assert result.get() == 5


def test_commit_that_fails_is_an_attempt_that_failed(app: App, take: Take, written: Any) -> None:
    @app.task(name="f", atomic=False, takes_context=True, max_attempts=1)
    def f(ctx: Context) -> None:
        with ctx.commit():
            write(app, 1)
            raise ValueError("no")

    app.sync()
    result = f.enqueue()
    assert (run(app, take).kind, written(), result.state) == ("failed", [], "failed")


def test_commit_may_be_tried_again(app: App, take: Take, written: Any) -> None:
    @app.task(name="f", atomic=False, takes_context=True)
    def f(ctx: Context) -> None:
        for x in (1, 2):
            try:
                with ctx.commit(result=x):
                    write(app, x)
                    if x == 1:
                        raise ValueError
            except ValueError:
                continue

    app.sync()
    result = f.enqueue()
    assert (run(app, take).kind, written(), result.get()) == ("done", [2], 2)


def test_what_is_raised_after_the_commit_is_only_logged(app: App, take: Take, caplog: pytest.LogCaptureFixture) -> None:
    @app.task(name="f", atomic=False, takes_context=True)
    def f(ctx: Context) -> None:
        with ctx.commit(result=1):
            pass
        raise ValueError("too late")

    app.sync()
    result = f.enqueue()
    with caplog.at_level(logging.ERROR, "tenant_q.tasks"):
        assert run(app, take).kind == "done"
    assert result.get() == 1
    assert "too late" in caplog.text


def test_commit_of_a_cancelled_task_leaves_nothing(app: App, take: Take, written: Any) -> None:
    seen = []

    @app.task(name="f", atomic=False, takes_context=True)
    def f(ctx: Context) -> None:
        with psycopg.connect(autocommit=True) as other, app.using(other):
            assert result.cancel()
        try:
            with ctx.commit():
                write(app, 1)
        except errors.ClaimLost as error:
            seen.append(error.sqlstate)

    app.sync()
    result = f.enqueue()
    assert (run(app, take).kind, written(), result.state, seen) == ("lost", [], "cancelled", ["TQ007"])


def test_commit_belongs_to_tasks_that_are_not_atomic_and_is_called_once(app: App, take: Take) -> None:
    said = []

    @app.task(name="atomic", takes_context=True)
    def atomic(ctx: Context) -> None:
        try:
            with ctx.commit():
                pass
        except errors.NotReady as error:
            said.append(error.hint)

    @app.task(name="twice", takes_context=True, atomic=False)
    def twice(ctx: Context) -> None:
        with ctx.commit():
            pass
        try:
            with ctx.commit():
                pass
        except errors.NotReady as error:
            said.append(error.hint)

    app.sync()
    atomic.enqueue()
    twice.enqueue()
    assert [execute(app, taken).kind for taken in take(2)] == ["done", "done"]
    assert ["atomic=False" in said[0], "once" in said[1]] == [True, True]


def test_a_lost_connection_in_commit_of_its_own(app: App, far: App, wire: Any, take: Take, written: Any) -> None:
    @far.task(name="f", atomic=False, takes_context=True)
    def f(ctx: Context) -> None:
        with ctx.commit():
            write(far, 1)
            wire.deliver, wire.word = True, b"COMMIT"

    far.sync()
    result = f.enqueue()
    [taken] = take(1)
    assert execute(far, taken).kind == "unknown"
    assert (result.state, written()) == ("done", [1])


def test_what_swallows_the_loss_is_still_unknown(app: App, far: App, wire: Any, take: Take, written: Any) -> None:
    @far.task(name="f", atomic=False, takes_context=True)
    def f(ctx: Context) -> None:
        try:
            with ctx.commit():
                write(far, 1)
                wire.deliver, wire.word = False, b"COMMIT"
        except errors.ConnectionLost:
            pass

    far.sync()
    f.enqueue()
    [taken] = take(1)
    assert execute(far, taken).kind == "unknown"
    assert written() == []


# What it knows of itself.


def test_the_context_knows_the_task(app: App, take: Take, db: psycopg.Connection, tenant: str) -> None:
    seen: dict[str, Any] = {}

    @app.task(name="f", takes_context=True, max_attempts=4, timeout=100)
    def f(ctx: Context, x: int) -> None:
        assert current() is ctx
        for name in (
            "id",
            "tenant",
            "handler",
            "attempt",
            "max_attempts",
            "meta",
            "queue",
            "name",
            "schedule",
            "deadline",
        ):
            seen[name] = getattr(ctx, name)
        seen["left"] = ctx.time_left()
        ctx.progress(0.25, {"rows": 1})
        with psycopg.connect(autocommit=True) as other, app.using(other):
            seen["progress"] = result.progress
            seen["running"] = result.state

    app.sync()
    result = f.options(meta={"a": 1}, queue="q", name="n").enqueue(x=1)
    assert current() is None
    assert run(app, take).kind == "done"
    assert current() is None
    assert seen["deadline"] > datetime.now(UTC)
    assert timedelta(0) < seen.pop("left") <= timedelta(seconds=100)
    seen.pop("deadline")
    assert seen == {
        "id": result.id,
        "tenant": tenant,
        "handler": "f",
        "attempt": 1,
        "max_attempts": 4,
        "meta": {"a": 1},
        "queue": "q",
        "name": "n",
        "schedule": None,
        "progress": (0.25, {"rows": 1}),
        "running": "running",
    }
    assert result.progress is None


def test_names_are_looked_up_in_the_tenant_and_nothing_stays(
    app: App, take: Take, tenant: str, make_tenant: Any
) -> None:
    other = make_tenant()

    @app.task(name="f")
    def f() -> list[str]:
        return app.execute("SELECT current_schemas(false)")[0][0]

    app.sync()
    app.sync(tenant=other)
    results = [f.enqueue(), f.options(tenant=other).enqueue()]
    execute(app, take(1)[0])
    call = app.calls.take(1, None, None, [other], "5 seconds")
    [(text,)] = take.connection.execute(call.sql, call.params).fetchall()
    execute(app, Taken.of(json.loads(text)))
    assert [each.get() for each in results] == [[tenant, "public"], [other, "public"]]
    assert tenant not in app.execute("SELECT current_setting('search_path')")[0][0]


def test_outside_of_its_transaction_the_connection_is_not_handed_out(app: App, take: Take) -> None:
    @app.task(name="f", atomic=False)
    def f() -> str:
        with pytest.raises(errors.NoTenant, match="no transaction"):
            app.connection()
        with app.atomic():
            return app.connection().execute("SELECT current_schema()").fetchone()[0]

    app.sync()
    result = f.enqueue()
    assert run(app, take).kind == "done"
    assert result.get() == result.tenant


def test_a_function_of_the_tenants_does_not_stand_in_for_the_extensions(
    app: App, take: Take, db: psycopg.Connection, tenant: str
) -> None:
    db.execute(
        f'CREATE FUNCTION "{tenant}".tq_finish(uuid, jsonb) RETURNS void'
        " LANGUAGE plpgsql AS 'BEGIN RAISE ''hijacked''; END'"
    )

    @app.task(name="f")
    def f() -> None:
        write(app, 1)

    app.sync()
    f.enqueue()
    assert run(app, take).kind == "done"


def test_coroutines_run_in_the_tasks_transaction(app: App, take: Take, written: Any) -> None:
    @app.task(name="f", takes_context=True, max_attempts=1)
    async def f(ctx: Context, x: int) -> int:
        await asyncio.sleep(0)
        await ctx.aexecute("INSERT INTO note VALUES (%s)", [x])
        assert current() is ctx
        await f.options(delay=3600).aenqueue(x + 1)
        if x < 0:
            raise ValueError("negative")
        return x

    app.sync()
    good, bad = f.enqueue(1), f.enqueue(-1)
    assert [execute(app, taken).kind for taken in take(2)] == ["done", "failed"]
    assert (good.get(), bad.state, written()) == (1, "failed", [1])


def test_threads_have_connections_of_their_own(app: App, take: Take, written: Any) -> None:
    barrier = threading.Barrier(3, timeout=20)

    @app.task(name="f")
    def f(x: int) -> int:
        write(app, x)
        barrier.wait()
        return app.execute("SELECT pg_backend_pid()")[0][0]

    app.sync()
    results = f.enqueue_many([1, 2, 3])
    kinds: list[str] = []

    def work(taken: Taken) -> None:
        kinds.append(execute(app, taken).kind)
        app.close_connections()

    threads = [threading.Thread(target=work, args=[taken]) for taken in take(3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert kinds == ["done"] * 3
    assert len({each.get() for each in results}) == 3
    assert written() == [1, 2, 3]


def test_chunks_of_an_iteration_are_one_transaction(app: App, take: Take, written: Any) -> None:
    from tenant_q import iterate

    @app.task(name="f", max_attempts=1)
    def f(x: int) -> int | None:
        write(app, x)
        if x == 13:
            raise ValueError("unlucky")
        return x * 2 if x % 2 else None

    app.sync()
    good = iterate(f, [1, 2, 3], chunk=2).enqueue()
    assert [execute(app, taken).kind for taken in take(10)] == ["done", "done"]
    assert (good.get(timeout=5), written()) == ([2, None, 6], [1, 2, 3])
    bad = iterate(f, [12, 13], chunk=2).enqueue()
    assert [execute(app, taken).kind for taken in take(10)] == ["failed"]
    assert (bad.wait(5).state, written()) == ("failed", [1, 2, 3])


# Errors as documents.


def test_errors_become_documents_that_postgresql_can_keep() -> None:
    document = error_document(ValueError("a\x00b\ud800"))
    assert (document["message"], document["class"]) == ("a\\x00b\\ud800", "ValueError")
    assert error_document(ValueError())["message"] == "ValueError"
    long = error_document(ValueError("x" * 100_000))
    assert len(long["message"]) == 8_001
    assert len(long["traceback"]) <= 8_001
    ours = error_document(errors.NotReady("m", sqlstate="55000", detail="d", hint="h"))
    assert {k: ours[k] for k in ("message", "sqlstate", "detail", "hint")} == {
        "message": "m",
        "sqlstate": "55000",
        "detail": "d",
        "hint": "h",
    }
    assert "sqlstate" not in error_document(ValueError())


def test_causes_are_in_the_traceback() -> None:
    try:
        try:
            raise KeyError("first")
        except KeyError as error:
            raise ValueError("second") from error
    except ValueError as error:
        text = error_document(error)["traceback"]
    assert "first" in text
    assert "direct cause" in text
