"""Enqueuing against a real server: every word arrives, in the caller's transaction, by the drivers that there are."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import psycopg2
import pytest

from tenant_q import App, Backoff, Context, Result, errors
from tenant_q.task import Registry

SOON = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=3)


@pytest.fixture
def add(app: App) -> Any:
    @app.task(name="add")
    def add(a: int, b: int = 2) -> int:
        return a + b

    app.sync()
    return add


def row_of(db: psycopg.Connection, tenant: str, id: UUID) -> dict[str, Any]:
    found = db.execute("SELECT to_jsonb(x) FROM tq_fetch(%s, tenant => %s) AS x", [id, tenant]).fetchone()
    assert found is not None
    return found[0]


def count(db: psycopg.Connection, tenant: str) -> int:
    return db.execute("SELECT tq_queue_size(tenant => %s)", [tenant]).fetchone()[0]


def test_arguments_arrive_by_name(app: App, add: Any, db: psycopg.Connection, tenant: str) -> None:
    result = add.enqueue(1, b=3)
    row = row_of(db, tenant, result.id)
    assert (row["handler"], row["args"], row["state"]) == ("add", {"a": 1, "b": 3}, "queued")
    assert (result.tenant, result.handler, result.state, result.args) == (tenant, "add", "queued", {"a": 1, "b": 3})


def test_every_word_arrives(app: App, add: Any, db: psycopg.Connection, tenant: str) -> None:
    first = add.enqueue(1)
    id = uuid4()
    result = add.options(
        id=id,
        name="mine",
        group_id="g",
        queue="slow",
        priority=7,
        run_at=SOON,
        timeout=timedelta(minutes=2),
        max_attempts=9,
        retry=Backoff("fixed", base=5),
        expires="1 day",
        lock="l",
        limit_key="k",
        unique_key="u",
        unique_until="started",
        on_conflict="skip",
        depends_on=[first],
        depends_mode="any",
        allow_failure=True,
        on_success=add,
        on_failure="add",
        hook=add,
        save=True,
        result_ttl=3600,
        meta={"who": ["me"]},
    ).enqueue(2)
    assert result.id == id
    row = row_of(db, tenant, id)
    expected = {
        "name": "mine",
        "group_id": "g",
        "queue": "slow",
        "priority": 7,
        "max_attempts": 9,
        "meta": {"who": ["me"]},
    }
    assert {word: row[word] for word in expected} == expected
    assert datetime.fromisoformat(row["run_at"]) == SOON
    raw = db.execute(f'SELECT to_jsonb(t) FROM "{tenant}".tq_task t WHERE id = %s', [id]).fetchone()[0]
    text = str(raw)
    for said in ("'l'", "'k'", "'u'"):
        assert said in text, text
    assert result.state == "delayed"
    assert add.options(unique_key="u", on_conflict="skip").enqueue(5).id == id


def test_djangos_words_are_others_names(app: App, add: Any, db: psycopg.Connection, tenant: str) -> None:
    result = add.using(priority=3, queue_name="mail", run_after=SOON).enqueue(1)
    row = row_of(db, tenant, result.id)
    assert (row["priority"], row["queue"], datetime.fromisoformat(row["run_at"])) == (3, "mail", SOON)


def test_what_is_said_last_counts_and_the_task_itself_stays_as_it_is(app: App, add: Any) -> None:
    later = add.options(delay=60, priority=1)
    again = later.options(run_at=SOON)
    assert again.said.values == {"run_at": SOON.isoformat(), "priority": 1}
    assert later.said.values == {"delay": "60 seconds", "priority": 1}
    assert add.said.values == {}


@pytest.mark.parametrize(
    ("words", "kind", "says"),
    [
        ({"dely": 1}, errors.InvalidOption, "Did you mean delay"),
        ({"delay": "1", "run_at": SOON}, errors.InvalidOption, "both delay and run_at"),
        ({"run_at": datetime(2030, 1, 1)}, errors.NaiveDatetime, "time zone"),
        ({"run_at": 5}, errors.InvalidOption, "aware datetime"),
        ({"delay": SOON}, errors.InvalidOption, "seconds"),
        ({"priority": "high"}, errors.InvalidOption, "whole number"),
        ({"priority": True}, errors.InvalidOption, "whole number"),
        ({"save": 1}, errors.InvalidOption, "True nor False"),
        ({"id": "x"}, errors.InvalidOption, "UUID"),
        ({"depends_on": ["x"]}, errors.InvalidOption, "UUID"),
        ({"retry": "often"}, errors.InvalidOption, "Backoff"),
        ({"hook": 5}, errors.InvalidOption, "handler"),
        ({"meta": object()}, errors.CannotTravel, "meta"),
    ],
)
def test_options_that_make_no_sense_are_refused_at_once(
    app: App, add: Any, words: dict[str, Any], kind: type[Exception], says: str
) -> None:
    with pytest.raises(kind, match=says):
        add.options(**words)


@pytest.mark.parametrize(
    ("words", "args", "kind", "sqlstate"),
    [
        ({"delay": "soon"}, (1,), errors.ArgumentsDoNotFit, "22007"),
        ({"on_conflict": "maybe"}, (1,), errors.DoesNotFit, "22023"),
        ({"priority": 100_000}, (1,), errors.DoesNotFit, "22023"),
        ({"hook": "nobody"}, (1,), errors.UnknownTask, "42704"),
        ({"tenant": "nowhere"}, (1,), errors.UnknownTenant, "3F000"),
        ({"tenant": "pg_catalog"}, (1,), errors.NotReady, None),
        ({"unique_key": "taken"}, (1,), errors.UniqueKeyTaken, "23505"),
        ({"meta": {"x": "y" * 20_000_000}}, (1,), errors.TooLarge, "54000"),
    ],
)
def test_what_the_server_refuses_is_an_error_of_the_package(
    app: App,
    add: Any,
    db: psycopg.Connection,
    tenant: str,
    words: dict[str, Any],
    args: Any,
    kind: type[errors.TenantQError],
    sqlstate: str | None,
) -> None:
    add.options(unique_key="taken").enqueue(1)
    with pytest.raises(kind) as caught:
        add.options(**words).enqueue(*args)
    assert sqlstate is None or caught.value.sqlstate == sqlstate
    assert caught.value.message
    assert isinstance(caught.value.__cause__, psycopg.Error)
    assert count(db, tenant) == 1


def test_a_task_that_is_not_declared_is_named(app: App, db: psycopg.Connection, tenant: str) -> None:
    @app.task(name="late")
    def late() -> None: ...

    with pytest.raises(errors.UnknownTask, match='"late" is not registered in tenant'):
        late.enqueue()


def test_a_schema_that_is_not_attached_is_refused(app: App, add: Any, make_tenant: Callable[..., str]) -> None:
    bare = make_tenant(attach=False)
    with pytest.raises(errors.NotReady, match="is not attached"):
        add.options(tenant=bare).enqueue(1)
    with app.tenant(bare), pytest.raises(errors.NotReady, match="is not attached"):
        add.enqueue(1)


def test_nothing_is_enqueued_where_arguments_do_not_bind_or_travel(
    app: App, add: Any, db: psycopg.Connection, tenant: str
) -> None:
    with pytest.raises(errors.ArgumentsDoNotFit):
        add.enqueue()
    with pytest.raises(errors.CannotTravel):
        add.enqueue(object())
    with pytest.raises(errors.ArgumentsDoNotFit) as caught:
        add.enqueue("x")  # text that is no number, which the server says
    assert caught.value.sqlstate == "22P02"
    assert count(db, tenant) == 0


def test_no_right_is_an_error(app: App, add: Any, server: psycopg.Connection, tenant: str) -> None:
    role = f"r_{tenant}"
    server.execute(f'CREATE ROLE "{role}"')
    try:
        server.execute(f'GRANT USAGE ON SCHEMA "{tenant}" TO "{role}"')
        with psycopg.connect(autocommit=True) as other:
            other.execute(f'SET ROLE "{role}"')
            with app.using(other), pytest.raises(errors.NotAllowed) as caught:
                add.enqueue(1)
        assert caught.value.sqlstate == "42501"
    finally:
        server.execute(f'DROP OWNED BY "{role}"')
        server.execute(f'DROP ROLE "{role}"')


def test_it_is_the_callers_transaction(app: App, add: Any, db: psycopg.Connection, tenant: str) -> None:
    with pytest.raises(RuntimeError), app.atomic():
        add.enqueue(1)
        raise RuntimeError
    assert count(db, tenant) == 0
    with app.atomic():
        add.enqueue(1)
        with pytest.raises(RuntimeError), app.atomic():
            add.enqueue(2)
            raise RuntimeError
        assert count(db, tenant) == 0
    assert count(db, tenant) == 1


def test_a_connection_of_ones_own(app: App, add: Any, db: psycopg.Connection, tenant: str) -> None:
    with psycopg.connect() as own:
        with app.using(own):
            add.enqueue(1)
        assert count(db, tenant) == 0
        own.rollback()
        with app.using(own), app.atomic():
            add.enqueue(1)
        own.commit()
    assert count(db, tenant) == 1


def test_a_connection_with_rows_of_another_shape(app: App, add: Any, db: psycopg.Connection, tenant: str) -> None:
    from psycopg.rows import class_row, dict_row, namedtuple_row

    fresh = App(tenant=tenant, registry=app.registry)  # which looks up where the extension is by this connection
    for factory in (dict_row, namedtuple_row):
        with psycopg.connect(autocommit=True, row_factory=factory) as own, fresh.using(own):
            result = fresh.enqueue(add, {"a": 1}, add.said)
            assert result.fetch().state == "queued"
    assert class_row


def test_psycopg2(app: App, add: Any, db: psycopg.Connection, tenant: str) -> None:
    own = psycopg2.connect("")
    try:
        with app.using(own):
            words = {"delay": 60, "meta": {"a": ["é"]}, "id": uuid4(), "retry": Backoff("fixed"), "priority": 1}
            result = add.options(**words).enqueue(1)
            other = add.options(depends_on=[result]).enqueue(2)
            assert other.fetch().state == "deferred"
            many = add.enqueue_many([1, {"a": 2}])
            assert [each.args for each in many] == [{"a": 1}, {"a": 2}]
            assert many[0].cancel()
            assert result.fetch().meta == {"a": ["é"]}
            with pytest.raises(errors.ResultTimeout):
                result.get()
        assert count(db, tenant) == 0
        own.commit()
        assert count(db, tenant) == 3
        with app.using(own), pytest.raises(errors.UnknownTenant) as caught:
            add.options(tenant="nowhere").enqueue(1)
        assert caught.value.hint
        own.rollback()
        with app.using(own), pytest.raises(RuntimeError), app.atomic():
            add.enqueue(1)
            raise RuntimeError
        assert count(db, tenant) == 3
    finally:
        own.close()


def test_many_at_once(app: App, add: Any, db: psycopg.Connection, tenant: str) -> None:
    results = add.options(queue="bulk").enqueue_many([(1, 2), {"a": 3}, 4])
    assert [row_of(db, tenant, r.id)["args"] for r in results] == [{"a": 1, "b": 2}, {"a": 3}, {"a": 4}]
    assert {r.fetch().queue for r in results} == {"bulk"}
    assert add.enqueue_many([]) == []
    with pytest.raises(errors.TenantQError):
        add.enqueue_many([1, "x"])
    with pytest.raises(errors.ArgumentsDoNotFit):
        add.enqueue_many([1, (1, 2, 3)])
    assert count(db, tenant) == 3


def test_keys_that_arguments_decide(app: App, db: psycopg.Connection, tenant: str) -> None:
    @app.task(
        name="sync", unique_key="sync-{customer}-{deep}", on_conflict="skip", lock=lambda customer, deep: f"c{customer}"
    )
    def sync(customer: int, deep: bool = False) -> None: ...

    app.sync()
    first = sync.enqueue(1)
    assert sync.enqueue(customer=1).id == first.id
    assert sync.enqueue(1, deep=True).id != first.id
    assert sync.enqueue_many([1, 2])[0].id == first.id
    assert sync.options(unique_key="other").enqueue(1).id != first.id
    raw = db.execute(f'SELECT to_jsonb(t)::text FROM "{tenant}".tq_task t WHERE id = %s', [first.id]).fetchone()[0]
    assert '"c1"' in raw
    assert "sync-1-False" in raw

    with pytest.raises(errors.InvalidOption, match="don't fill"):
        app.task(name="wrong", lock="x-{nothing}")(lambda a: None).enqueue(1)


def test_the_tenant_is_that_of_the_app_or_of_the_block_or_what_is_said(
    app: App, add: Any, make_tenant: Callable[..., str], tenant: str
) -> None:
    other = make_tenant()
    app.sync(tenant=other)
    assert add.enqueue(1).tenant == tenant
    with app.tenant(other):
        assert app.current_tenant() == other
        assert add.enqueue(1).tenant == other
        assert add.options(tenant=tenant).enqueue(1).tenant == tenant
    assert add.options(tenant=other).enqueue(1).fetch().tenant == other
    app.tenant_of = lambda: other
    assert add.enqueue(1).fetch().tenant == other
    app.tenant_of = None
    with psycopg.connect(options=f"-c search_path={other},public", autocommit=True) as own, app.using(own):
        result = add.enqueue(1)
        assert (result.tenant, result.fetch().tenant) == (None, other)


def test_in_all_tenants(app: App, add: Any, make_tenant: Callable[..., str], tenant: str) -> None:
    other = make_tenant()
    app.sync(tenant=other)
    fanout = add.options(priority=3).enqueue_all(5, tenants=[tenant, other], stagger="1 minute")
    assert fanout.handler == "add"
    assert {line["tenant"] for line in fanout.tenants()} <= {tenant, other}
    with pytest.raises(errors.UnknownTask, match="nowhere"):
        add.enqueue_all(5, tenants=["nowhere"])


def test_coroutines(app: App, add: Any, db: psycopg.Connection, tenant: str) -> None:
    async def all_of_it() -> None:
        async with app.aclosing():
            result = await add.options(meta={"a": 1}).aenqueue(1)
            assert (await result.afetch()).state == "queued"
            assert [r.args for r in await add.aenqueue_many([1, 2])] == [{"a": 1}, {"a": 2}]
            assert await result.acancel()
            assert await result.arequeue()
            assert await result.aattempts() == []
            assert [each.reason for each in await result.awhy()] == ["queued"]
            assert await result.aprogress() is None
            with pytest.raises(errors.UnknownTenant):
                await add.options(tenant="nowhere").aenqueue(1)
            async with await psycopg.AsyncConnection.connect() as own:
                with app.using(own):
                    await add.aenqueue(7)
                await own.rollback()

    asyncio.run(all_of_it())
    assert count(db, tenant) == 3


def test_a_database_without_the_extension(server: psycopg.Connection) -> None:
    server.execute("DROP DATABASE IF EXISTS tenant_q_none")
    server.execute("CREATE DATABASE tenant_q_none TEMPLATE template0")
    try:
        bare = App("dbname=tenant_q_none", tenant="acme", registry=Registry())
        with pytest.raises(errors.NotInstalled, match="CREATE EXTENSION tenant_q"):
            bare.task(name="f")(lambda: None).enqueue()
        with pytest.raises(errors.NotInstalled, match="CREATE EXTENSION tenant_q"):
            bare.check_protocol()
        bare.close_connections()
    finally:
        server.execute("DROP DATABASE tenant_q_none WITH (FORCE)")


def test_an_extension_in_a_schema_of_its_own(server: psycopg.Connection) -> None:
    server.execute("DROP DATABASE IF EXISTS tenant_q_else")
    server.execute("CREATE DATABASE tenant_q_else TEMPLATE template0")
    try:
        with psycopg.connect(dbname="tenant_q_else", autocommit=True) as there:
            there.execute('CREATE SCHEMA "Q%s"; CREATE EXTENSION tenant_q SCHEMA "Q%s"; CREATE SCHEMA acme')
        elsewhere = App("dbname=tenant_q_else", tenant="acme", registry=Registry())
        elsewhere.run(elsewhere.calls.attach("acme"))
        f = elsewhere.task(name="f")(lambda: 5)
        elsewhere.sync()
        assert f.enqueue().fetch().state == "queued"
        from tenant_q.testing import drain

        with elsewhere.atomic():
            result = f.enqueue()
            assert [ran.state for ran in drain(elsewhere)] == ["done", "done"]
            assert result.get() == 5
        elsewhere.close_connections()
    finally:
        server.execute("DROP DATABASE tenant_q_else WITH (FORCE)")


def test_the_protocol_is_checked(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    app.check_protocol()
    monkeypatch.setattr("tenant_q.app.PROTOCOL", 2)
    with pytest.raises(errors.WrongProtocol, match="version 1 .* version 2"):
        app.check_protocol()


def test_a_task_is_a_function_too(app: App) -> None:
    @app.task(name="f", takes_context=True)
    def f(ctx: Context, a: int) -> tuple[str, int]:
        """Doc."""
        return ctx.handler, a

    assert f(3) == ("f", 3)
    assert f.__doc__ == "Doc."
    assert f.__wrapped__(Context.outside(app, "g"), 3) == ("g", 3)


def test_results_by_id_and_by_name(app: App, add: Any, tenant: str) -> None:
    made = add.options(name="nightly").enqueue(1)
    assert Result.of(str(made.id)).fetch().name == "nightly"
    assert Result.find("nightly") == made
    assert Result.find("daily") is None
    with pytest.raises(errors.TaskNotKept, match="neither waiting nor kept"):
        Result.of(uuid4()).fetch()


def test_a_forked_process_has_a_connection_of_its_own(app: App, add: Any, tenant: str) -> None:
    script = f"""
import os
from tenant_q import App
app = App(tenant={tenant!r})
add = app.task(name="add")(lambda a, b: None)
one = app.execute("SELECT pg_backend_pid()")
child = os.fork()
if child == 0:
    assert app.execute("SELECT pg_backend_pid()") != one
    add.enqueue(1, 2)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert app.execute("SELECT pg_backend_pid()") == one
add.enqueue(3, 4)
"""
    subprocess.run([sys.executable, "-c", script], check=True)
    assert app.value(app.calls.queue_size(None, tenant)) == 2
