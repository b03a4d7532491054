"""What a deploy declares: handlers and schedules, idempotent, checked, pruned."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import psycopg
import pytest

from tenant_q import App, Backoff, Retry, Schedule, errors, schedule
from tenant_q.declare import documents
from tenant_q.options import class_name
from tenant_q.schedules import before_declaring
from tenant_q.task import Registry
from tenant_q.testing import drain


def handlers(db: psycopg.Connection, tenant: str) -> dict[str, dict[str, Any]]:
    with db.transaction():
        db.execute(f'SET LOCAL search_path TO "{tenant}", public')
        rows = db.execute("SELECT to_jsonb(h) FROM tq_handlers h WHERE NOT shared").fetchall()
        return {row[0]["handler"]: row[0] for row in rows}


def schedules(db: psycopg.Connection, tenant: str) -> dict[str, dict[str, Any]]:
    with db.transaction():
        db.execute(f'SET LOCAL search_path TO "{tenant}", public')
        return {row[0]["name"]: row[0] for row in db.execute("SELECT to_jsonb(s) FROM tq_schedules s").fetchall()}


class Flaky(Exception): ...


def test_every_word_of_a_declaration_arrives(app: App, db: psycopg.Connection, tenant: str) -> None:
    app.task(
        name="f",
        queue_name="mail",
        priority=5,
        timeout="2 minutes",
        max_attempts=7,
        retry=Backoff("exponential", base=timedelta(seconds=10), factor=3, cap="1 hour", jitter=0),
        retry_on=(Flaky, "stripe.error."),
        never_on=Flaky,
        expires=86400,
        max_running=2,
        rate="10/m",
        save=False,
        result_ttl=timedelta(days=2),
        aliases=("g", "h"),
    )(lambda a: None)
    assert app.sync() == 1
    found = handlers(db, tenant)["f"]
    expected = {
        "queue": "mail",
        "priority": 5,
        "timeout": "00:02:00",
        "max_attempts": 7,
        "expires": "24:00:00",
        "max_running": 2,
        "rate": "10/m bucket",
        "save": False,
        "result_ttl": "2 days",
        "aliases": ["g", "h"],
        "guarantee": "by_worker",
        "status": "ok",
    }
    assert {word: found[word] for word in expected} == expected
    assert found["retry"] == {
        "kind": "exponential",
        "base": 10.0,
        "factor": 3.0,
        "cap": 3600.0,
        "jitter": 0.0,
        "retry_on": [class_name(Flaky), "stripe.error.", class_name(Retry)],
        "never_on": [class_name(Flaky)],
    }


@pytest.mark.parametrize(
    ("words", "sql"),
    [
        ({"kind": "fixed", "base": 5}, "'fixed', '5 seconds'"),
        ({"kind": "linear", "base": "1 minute", "factor": 2}, "'linear', '1 minute', 2"),
        ({}, "'exponential'"),
        ({"kind": "exponential", "cap": 60, "jitter": 0.5}, "'exponential', cap => '1 minute', jitter => 0.5"),
        ({"kind": "list", "delays": [1, "1 minute"]}, "'list', delays => '{1 second,1 minute}'"),
        ({"kind": "celery", "factor": 2}, "'celery', factor => 2"),
        ({"kind": "dramatiq", "base": 1}, "'dramatiq', '1 second'"),
        ({"kind": "rq", "delays": [10, 30]}, "'rq', delays => '{10 seconds,30 seconds}'"),
        ({"kind": "procrastinate", "linear": 3}, "'procrastinate', linear => '3 seconds'"),
        (
            {"kind": "fixed", "retry_on": "40", "never_on": [ValueError]},
            "'fixed', retry_on => '{40}', never_on => '{ValueError}'",
        ),
    ],
)
def test_backoff_is_what_tq_backoff_says(db: psycopg.Connection, words: dict[str, Any], sql: str) -> None:
    [(expected,)] = db.execute(f"SELECT tq_backoff({sql})").fetchall()
    assert Backoff(**words).document() == expected


def test_what_is_so_already_is_not_written(app: App, db: psycopg.Connection, tenant: str) -> None:
    f = app.task(name="f", timeout=60)(lambda a, b=1: None)
    Schedule("daily", f, "0 7 * * *", (1,), tz="Europe/Berlin", app=app)
    assert app.sync(check=True) == 2
    assert (handlers(db, tenant), schedules(db, tenant)) == ({}, {})
    assert app.sync() == 2
    assert (app.sync(check=True), app.sync(), app.sync(prune=True)) == (0, 0, 0)


def test_prune_takes_what_is_declared_no_more(app: App, db: psycopg.Connection, tenant: str) -> None:
    f = app.task(name="f")(lambda: None)
    app.task(name="g")(lambda: None)
    Schedule("daily", f, "0 7 * * *", app=app)
    app.sync()
    db.execute("SELECT tq_register('by_hand', external => true, tenant => %s)", [tenant])
    app.registry.discard("g")
    app.schedules.clear()
    assert app.sync() == 0
    assert (app.sync(prune=True, check=True), app.sync(prune=True)) == (2, 2)
    assert (set(handlers(db, tenant)), schedules(db, tenant)) == ({"f", "by_hand"}, {})


def test_every_word_of_a_schedule_arrives(app: App, db: psycopg.Connection, tenant: str) -> None:
    f = app.task(name="f", lock="l-{customer}")(_scheduled)
    start = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
    Schedule("first", f, "@daily", ("eu",), time_arg="day", app=app)
    Schedule(
        "f",
        f,
        "*/5 * * * *",
        {"customer": "us"},
        tz="Europe/Berlin",
        start_at=start,
        until=start + timedelta(days=9),
        repeats=4,
        catch_up="all",
        catch_up_limit=3,
        deadline=3600,
        overlap="skip",
        jitter=timedelta(minutes=1),
        active_hours="09:00-17:00",
        time_arg="day",
        after="first",
        after_outcome="any",
        enabled=False,
        tags=["a", "b"],
        description="d",
        task={"priority": 3, "queue_name": "slow"},
        app=app,
    )
    app.sync()
    found = schedules(db, tenant)["f"]
    raw = db.execute(f'SELECT to_jsonb(s) FROM "{tenant}".tq_schedule s WHERE name = %s', ["f"]).fetchone()[0]
    assert raw["args"] == {"customer": "us"}
    assert (found["rule"], found["tz"], found["handler"]) == ("*/5 * * * *", "Europe/Berlin", "f")
    assert (raw["repeats"], raw["catch_up_limit"], raw["time_arg"]) == (4, 3, "day")
    assert raw["options"] == {"after": ["first"], "active_hours": "09:00-17:00", "after_outcome": "any"}
    assert (raw["tags"], raw["description"], raw["enabled"], raw["overlap"]) == (["a", "b"], "d", False, "skip")
    assert (raw["deadline"], raw["jitter"], datetime.fromisoformat(raw["start_at"])) == ("01:00:00", "00:01:00", start)
    assert raw["task"] == {"priority": 3, "queue": "slow", "lock": "l-us"}


def _scheduled(customer: str, day: date) -> list[Any]:
    return [customer, day]


def test_a_schedules_task_gets_its_arguments_and_the_time(app: App) -> None:
    f = app.task(name="f")(_scheduled)
    Schedule("f", f, "@daily", "eu", time_arg="day", app=app)
    app.sync()
    with app.atomic():
        app.run(app.calls.fire("f", app.current_tenant()))
        [ran] = drain(app)
        assert (ran.state, ran.taken.schedule, ran.taken.args["customer"]) == ("done", "f", "eu")
        assert date.fromisoformat(ran.taken.args["day"][:10])


def test_the_decorator(app: App, db: psycopg.Connection, tenant: str) -> None:
    @schedule("0 7 * * *", 5, tz="UTC")
    @schedule("monday at 10:30", 6, name="weekly")
    @app.task(name="digest")
    def digest(n: int) -> None: ...

    assert app.sync() == 3
    assert {name: s["rule"] for name, s in schedules(db, tenant).items()} == {
        "digest": "0 7 * * *",
        "weekly": "monday at 10:30",
    }
    with pytest.raises(errors.InvalidOption, match="above @task"):
        schedule("@daily")(lambda: None)  # type: ignore[type-var]


@pytest.mark.parametrize(
    ("words", "kind", "says"),
    [
        ({"args": (1, 2)}, errors.ArgumentsDoNotFit, "too many"),
        ({"args": object()}, errors.CannotTravel, "f: argument a"),
        ({"overlp": "skip"}, errors.InvalidOption, "Did you mean overlap"),
        ({"start_at": datetime(2030, 1, 1)}, errors.NaiveDatetime, "time zone"),
        ({"stagger": 5}, errors.InvalidOption, "everywhere"),
        ({"task": {"prio": 1}}, errors.InvalidOption, "Did you mean priority"),
    ],
)
def test_schedules_that_make_no_sense_are_refused_where_they_are_written(
    app: App, words: dict[str, Any], kind: type[Exception], says: str
) -> None:
    f = app.task(name="f")(lambda a: None)
    with pytest.raises(kind, match=says):
        Schedule("s", f, "@daily", **{"args": 1, "app": app, **words})
    assert app.schedules == {}


def test_a_rule_that_the_server_refuses_declares_nothing(app: App, db: psycopg.Connection, tenant: str) -> None:
    f = app.task(name="f")(lambda: None)
    Schedule("s", f, "99 * * * *", app=app)
    with pytest.raises(errors.DoesNotFit) as caught:
        app.sync()
    assert caught.value.sqlstate == "22023"
    assert handlers(db, tenant) == {}


def test_two_schedules_of_one_name_are_an_error(app: App) -> None:
    f = app.task(name="f")(lambda: None)
    Schedule("s", f, "@daily", app=app)
    Schedule("s", f, "@daily", app=app)
    with pytest.raises(errors.DuplicateTask, match="two schedules of the name s"):
        Schedule("s", f, "@hourly", app=app)


def test_shared_handlers_are_declared_once(server: psycopg.Connection, make_tenant: Callable[..., str]) -> None:
    one, other = make_tenant(), make_tenant()
    app = App(shared=True, registry=Registry())
    name = f"shared.{one}"
    f = app.task(name=name)(lambda x: x)
    try:
        assert app.sync() == 1
        assert app.sync() == 0
        for tenant in (one, other):
            assert f.options(tenant=tenant).enqueue(1).fetch().tenant == tenant
        own = app.task(name="own", shared=False)(lambda: None)
        shared, mine = documents(app)
        assert [h["handler"] for h in shared["handlers"]] == [name]
        assert ([h["handler"] for h in mine["handlers"]], own.name) == (["own"], "own")
        assert app.sync(tenant=one) == 1
    finally:
        for tenant in (one, other):
            server.execute(f'DROP SCHEMA "{tenant}" CASCADE')
            server.execute(f'CREATE SCHEMA "{tenant}"')
        server.execute("SELECT tq_unregister(%s, shared => true)", [name])
        app.close_connections()


def test_schedules_of_all_tenants(server: psycopg.Connection, app: App) -> None:
    f = app.task(name="f")(lambda: None)
    name = f"all-{app.current_tenant()}"
    Schedule(name, f, "0 2 * * *", everywhere=True, stagger="30 minutes", tenants=[app.current_tenant()], app=app)
    try:
        assert app.sync(check=True) >= 1
        app.sync()
        [(count,)] = server.execute("SELECT count(*) FROM tenant_q.schedule_all WHERE name = %s", [name]).fetchall()
        assert count == 1
        app.sync()
    finally:
        server.execute("SELECT tq_unschedule_all(%s)", [name])


def test_what_is_put_off_until_then_is_done_once(app: App) -> None:
    before_declaring.append(lambda: app.task(name="late")(lambda: None))
    assert [h["handler"] for h in documents(app)[1]["handlers"]] == ["late"]
    assert before_declaring == []
    assert [h["handler"] for h in documents(app)[1]["handlers"]] == ["late"]
