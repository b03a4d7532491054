"""What is around a task's call, and what its transaction is."""

from __future__ import annotations

import threading

import pytest

from tenant_q import errors


@pytest.fixture
def order(acme):
    from shop.models import Order

    return Order.objects.create(total=1)


def test_the_tenant_the_zone_and_the_language_are_the_tasks(acme, work):
    from customers.models import Client
    from django.db import connection
    from django.utils import timezone, translation
    from shop.tasks import where

    Client.objects.filter(pk=acme.pk).update(time_zone="America/Lima", language="de")
    try:
        result, again = where.enqueue(), where.enqueue()
        assert [ran.state for ran in work()] == ["done", "done"]
        found = result.get()
        assert found == {
            "schema": "acme",
            "path": "acme, public",
            "name": "acme",
            "tenant": "Acme",
            "model": "Client",
            "zone": "America/Lima",
            "language": "de",
            "atomic": True,
        }
        # What the first has activated is not the second's.
        assert again.get() == found
    finally:
        Client.objects.filter(pk=acme.pk).update(time_zone="", language="")
    assert timezone.get_current_timezone_name() == "Europe/Berlin" and translation.get_language() == "en"
    assert connection.tenant is acme


def test_a_worker_is_in_public_between_tasks(acme, app, work):
    from django.db import connection
    from shop.tasks import leaves_tenant, where

    leaves_tenant.enqueue()
    result = where.enqueue()
    connection.set_schema_to_public()
    assert [ran.state for ran in work(tenant="acme")] == ["done", "done"]
    assert connection.schema_name == "public"
    connection.set_tenant(acme)
    assert result.get()["schema"] == "acme"


def test_a_tenant_without_a_row(acme, app, query, work):
    """Its tasks fail where they ask for it, in no other schema."""
    from customers.models import Client
    from shop.tasks import where

    Client.objects.filter(pk=acme.pk).update(schema_name="renamed")
    try:
        result = where.options(max_attempts=1).enqueue()
        [ran] = work()
        assert ran.state == "failed" and isinstance(ran.exception, errors.UnknownTenant)
        assert result.error["class"] == "tenant_q.errors.UnknownTenant"
    finally:
        Client.objects.filter(pk=acme.pk).update(schema_name="acme")


def test_the_functions_effects_and_the_end_are_one(order, work):
    from shop.tasks import fails_after_writing, invoice

    result = fails_after_writing.options(max_attempts=1).enqueue(order.pk)
    done = invoice.enqueue(order.pk)
    assert sorted(ran.state for ran in work()) == ["done", "failed"]
    order.refresh_from_db()
    assert order.note == "" and order.invoiced
    assert result.error["class"] == "ValueError" and done.get() == f"invoice of order {order.pk}"


def test_a_claim_that_is_lost_takes_the_effects_with_it(order, app, query):
    import json
    from contextlib import closing

    from shop.tasks import note

    from tenant_q.context import Taken
    from tenant_q.execute import execute

    result = note.enqueue(order.pk, "must not stay")
    with closing(app.connect()) as taker:
        call = app.calls.take(1, None, None, ["acme"])
        taken = Taken.of(json.loads(taker.execute(call.sql, call.params).fetchone()[0]))
        assert result.cancel()
        assert execute(app, taken).kind == "lost"
    order.refresh_from_db()
    assert order.note == ""


def test_atomic_false_commits_where_it_says(order, work):
    from shop.tasks import pays

    result = pays.enqueue(order.pk)
    assert [ran.state for ran in work()] == ["done"]
    order.refresh_from_db()
    assert order.note == "paid" and result.get() == {"charge": str(result.id)}


def test_durable_says_what_to_do(order, work):
    from shop.tasks import durable

    durable.options(max_attempts=1).enqueue(order.pk)
    [ran] = work()
    assert ran.state == "failed" and "atomic=False" in ran.error["hint"], ran.error


def test_marked_for_rollback_is_no_success(order, work):
    from shop.tasks import marks_for_rollback

    marks_for_rollback.options(max_attempts=1).enqueue(order.pk)
    [ran] = work()
    assert ran.state == "failed" and "TransactionManagementError" in ran.error["class"]
    order.refresh_from_db()
    assert order.note == ""


def test_on_commit_runs_after_the_end(order, work):
    from shop.tasks import seen, with_hook

    with_hook.enqueue(order.pk)
    assert [ran.state for ran in work()] == ["done"]
    assert seen == [order.pk]


def test_an_on_commit_that_fails_changes_nothing_of_the_end(order, work, caplog):
    from shop.tasks import with_hook

    result = with_hook.enqueue(order.pk, True)
    assert [ran.state for ran in work()] == ["done"]
    assert result.state == "done" and "on_commit" in caplog.text


def test_another_database_is_not_written(acme, work):
    from shop.tasks import writes_elsewhere, writes_elsewhere_outside

    writes_elsewhere.options(max_attempts=1).enqueue()
    [ran] = work()
    assert ran.state == "failed" and "OtherDatabase" in ran.error["class"], ran.error
    result = writes_elsewhere_outside.enqueue()
    assert [ran.state for ran in work()] == ["done"] and result.get() == 1


def test_async_tasks_run_in_the_transaction(acme, work):
    from shop.models import Order
    from shop.tasks import counts_async, fails_async, seen

    result = counts_async.enqueue()
    failed = fails_async.options(max_attempts=1).enqueue()
    assert sorted(ran.state for ran in work()) == ["done", "failed"]
    assert result.get() == 1 and failed.state == "failed"
    assert Order.objects.count() == 1
    assert seen != [threading.get_ident()]


def test_async_tasks_say_how_far_they_are_and_enqueue(acme, app, work):
    from shop.models import Order
    from shop.tasks import says_how_far, seen

    says_how_far.enqueue()
    assert [ran.handler for ran in work()] == ["shop.tasks.says_how_far", "shop.tasks.note"]
    assert seen == [[(0.5,)]]
    assert Order.objects.get().note == "by a coroutine"
    app.close_connections()


def test_tasks_of_tasks(order, work):
    from shop.tasks import enqueues

    enqueues.enqueue(order.pk)
    assert [ran.handler for ran in work()] == ["shop.tasks.enqueues", "shop.tasks.note"]
    order.refresh_from_db()
    assert order.note == "by a task"


def test_a_lost_connection_is_another_attempt(order, app, work, server):
    """The session is ended between two tasks: the next one gets a new one."""
    from django.db import connection
    from shop.tasks import note

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        [pid] = cursor.fetchone()
    result = note.enqueue(order.pk, "after the loss")
    assert server.execute("SELECT pg_terminate_backend(%s, 5000)", [pid]).fetchone() == (True,)
    tenant = connection.tenant
    states = [ran.state for ran in work(n=2, wait=3)]
    connection.set_tenant(tenant)
    assert states[-1] == "done", states
    assert result.state == "done"


@pytest.mark.parametrize(
    "words", [{"CONN_MAX_AGE": 0}, {"CONN_MAX_AGE": 60, "CONN_HEALTH_CHECKS": True}, {"CONN_MAX_AGE": None}]
)
def test_conn_max_age(order, work, settings_with, words):
    """A worker keeps its connection from task to task."""
    from django.db import connection
    from shop.tasks import note

    with settings_with(**words):
        for text in ("a", "b", "c"):
            note.enqueue(order.pk, text)
        connection.ensure_connection()
        raw = connection.connection
        assert [ran.state for ran in work()] == ["done"] * 3
        assert connection.connection is raw


def test_djangos_pool(order, acme, work):
    """Connections come from the pool, and go back to it after each task."""
    from django.db import connection
    from shop.tasks import note

    connection.close()
    connection.settings_dict["OPTIONS"]["pool"] = {"min_size": 1, "max_size": 2}
    try:
        results = [note.enqueue(order.pk, text) for text in ("a", "b")]
        assert [ran.state for ran in work()] == ["done"] * 2
        assert {result.state for result in results} == {"done"}
        assert connection.pool.get_stats()["pool_size"] <= 2
    finally:
        connection.close()
        connection.close_pool()
        del connection.settings_dict["OPTIONS"]["pool"]


def test_what_the_server_says_is_logged(acme, app, caplog):
    caplog.set_level("INFO", "tenant_q.server")
    assert app.value(app.calls.attach("acme")) is False
    assert "attached already" in caplog.text
    caplog.clear()
    from django.db import connection

    connection.close()  # and of a connection opened anew once
    app.value(app.calls.attach("acme"))
    assert caplog.text.count("attached already") == 1


def test_a_connection_lost_during_commit_is_an_unknown_outcome(order, work, query):
    """The server ends the session in the middle of COMMIT: nothing is said of the task, and nothing repeated."""
    from django.db import connection
    from shop.tasks import note

    query(
        "CREATE FUNCTION dies() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$;"
        "CREATE CONSTRAINT TRIGGER dies AFTER UPDATE ON shop_order DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION dies()"
    )
    try:
        note.enqueue(order.pk, "perhaps")
        tenant = connection.tenant
        [ran] = work(n=1)
        connection.set_tenant(tenant)
        assert ran.state == "unknown" and isinstance(ran.exception, errors.ConnectionLost), ran
    finally:
        connection.close()
        query("DROP TRIGGER dies ON shop_order; DROP FUNCTION dies()")
    order.refresh_from_db()
    assert order.note == ""


def test_middleware_of_the_settings(acme, site):
    from django.test import override_settings

    from tenant_q import App
    from tenant_q.django import DjangoApp

    latest = App._latest
    try:
        with override_settings(TENANT_Q={"MIDDLEWARE": ["tenant_q.Middleware"], "SHARED": True}):
            made = DjangoApp()
        assert [type(each).__name__ for each in made.middleware] == ["Around", "Middleware"] and made.shared
    finally:
        App._latest = latest
