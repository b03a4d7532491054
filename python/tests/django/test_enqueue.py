"""Enqueuing: in Django's transaction, in the connection's tenant, and nowhere else."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import psycopg
import pytest
from asgiref.sync import async_to_sync
from conftest_site import wait_until

from tenant_q import chain, errors


def test_a_task_is_enqueued_in_the_tenant_of_the_connection(acme, query):
    from shop.tasks import where

    result = where.enqueue()
    assert result.tenant == "acme" and result.state == "queued"
    assert query("SELECT tenant FROM tq_tasks WHERE id = %s", result.id) == [("acme",)]


def test_it_commits_and_rolls_back_with_atomic(acme, query):
    from django.db import transaction
    from shop.tasks import invoice

    with pytest.raises(KeyError), transaction.atomic():
        invoice.enqueue(1)
        raise KeyError
    assert query("SELECT count(*) FROM tq_tasks") == [(0,)]
    with transaction.atomic():
        invoice.enqueue(1)
    assert query("SELECT count(*) FROM tq_tasks") == [(1,)]


def test_atomic_requests(site, work, query, settings_with):
    from django.db import connection
    from django.test import Client as Browser
    from shop.models import Order

    browser = Browser(HTTP_HOST="acme.example", raise_request_exception=False)
    with settings_with(ATOMIC_REQUESTS=True):
        assert browser.get("/buy/5/").status_code == 200
        from customers.models import Client

        connection.set_schema_to_public()
        with Client.objects.get(schema_name="acme"):
            assert [ran.state for ran in work()] == ["done"]
            assert Order.objects.get().invoiced
    connection.set_schema_to_public()


def test_public_is_refused_and_nothing_is_enqueued(site, query):
    from shop.tasks import invoice

    with pytest.raises(errors.NoTenant, match="is no tenant") as caught:
        invoice.enqueue(1)
    assert "enqueue_all" in caught.value.hint


def test_a_tenant_may_be_named_from_public(acme, query):
    from django.db import connection
    from shop.tasks import invoice

    connection.set_schema_to_public()
    result = invoice.options(tenant="acme").enqueue(1)
    assert result.tenant == "acme" and result.state == "queued"
    connection.set_tenant(acme)


def test_a_schema_that_is_not_attached_is_refused(site, query):
    from django.db import connection
    from shop.tasks import invoice

    query("CREATE SCHEMA bare")
    try:
        connection.set_schema("bare")
        with pytest.raises(errors.NotReady, match="not attached") as caught:
            invoice.enqueue(1)
        assert "tq_attach" in caught.value.hint
    finally:
        connection.set_schema_to_public()
        query("DROP SCHEMA bare")


def test_arguments_come_as_they_are_annotated(acme, work):
    from shop.tasks import typed

    result = typed.enqueue(date(2026, 5, 1), Decimal("1.10"))
    assert [ran.state for ran in work()] == ["done"]
    assert result.get() == Decimal("2.20")


def test_models_are_refused_with_advice(acme, query):
    from shop.models import Order
    from shop.tasks import invoice

    order = Order.objects.create(total=1)
    with pytest.raises(errors.ModelCannotTravel, match=r"pass its key|Pass its key"):
        invoice.enqueue(order)
    with pytest.raises(errors.ModelCannotTravel):
        invoice.enqueue(Order.objects.all())
    assert query("SELECT count(*) FROM tq_tasks") == [(0,)]


def test_a_task_that_is_not_declared(acme, app):
    from tenant_q.task import Task

    def unheard(n: int) -> None: ...

    unknown = Task(unheard, name="shop.tasks.unheard", app=app)
    app.registry.add(unknown)
    try:
        with pytest.raises(errors.UnknownTask) as caught:
            unknown.enqueue(1)
        assert "manage.py tq_sync" in caught.value.hint
    finally:
        app.registry.discard("shop.tasks.unheard")


def test_aenqueue_knows_the_tenant(acme):
    from shop.tasks import invoice

    # What is synchronous in a coroutine is done in the thread that has called it.
    result = async_to_sync(invoice.aenqueue)(1)
    assert result.tenant == "acme" and result.state == "queued"
    assert async_to_sync(result.afetch)().handler == "shop.tasks.invoice"
    many = async_to_sync(invoice.aenqueue_many)([1, 2])
    assert {each.tenant for each in many} == {"acme"}
    flow = async_to_sync(chain(invoice.s(1), invoice.s(2)).aenqueue)()
    assert flow.tenant == "acme" and flow.state == "deferred"


def test_outside_of_djangos_thread_a_coroutine_is_refused(acme):
    from shop.tasks import invoice

    async def sync_call():
        invoice.enqueue(1)

    # The event loop's thread has a connection of its own, which is of no tenant.
    with pytest.raises(errors.NoTenant, match="aenqueue"):
        async_to_sync(sync_call)()


def test_many_at_once(acme, work):
    from shop.models import Order
    from shop.tasks import invoice

    orders = [Order.objects.create(total=n) for n in range(3)]
    results = invoice.enqueue_many([order.pk for order in orders])
    assert len(results) == 3
    assert [ran.state for ran in work()] == ["done"] * 3
    assert Order.objects.filter(invoiced=True).count() == 3


def test_for_all_tenants(acme, globex, query):
    from django.db import connection
    from shop.tasks import digest

    connection.set_schema_to_public()
    with pytest.raises(errors.NotAllowed):
        digest.enqueue_all()
    with psycopg.connect(dbname=connection.settings_dict["NAME"], autocommit=True) as root:
        root.execute("GRANT EXECUTE ON FUNCTION tq_async_all TO site")
    fanout = digest.enqueue_all()
    for tenant in (acme, globex):
        with tenant:
            wait_until(query, "SELECT count(*) = 1 FROM tq_tasks WHERE handler = 'shop.tasks.digest'")
    assert {each["tenant"] for each in fanout.tenants()} == {"acme", "globex"}
    connection.set_tenant(globex)


def test_another_alias_is_refused(acme, app):
    from django.db import connections

    from tenant_q.django import OtherDatabase

    with pytest.raises(OtherDatabase, match="not in elsewhere"), app.using(connections["elsewhere"]):
        pass
    with pytest.raises(OtherDatabase), app.using("elsewhere"):
        pass
    with app.using("default"):
        from shop.tasks import invoice

        assert invoice.enqueue(1).state == "queued"


def test_a_connection_of_ones_own(acme, app, query):
    from shop.tasks import invoice

    with psycopg.connect(app.worker_conninfo()) as own:
        with app.using(own):
            invoice.enqueue(1)
        assert query("SELECT count(*) FROM tq_tasks") == [(0,)]
        own.commit()
    assert query("SELECT count(*) FROM tq_tasks") == [(1,)]
