"""The commands of manage.py, in processes of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import psycopg
import pytest
from conftest_site import SITE, SRC, wait_until

from tenant_q import errors


def test_sync_says_what_it_does(acme, globex, manage, query):
    assert "tasks are declared" in manage("tq_sync", "--check")
    with acme:
        query("SELECT tq_unregister('shop.tasks.note')")
    said = manage("tq_sync", "--check", fails=True)
    assert "acme: 1 would be new or changed" in said and "globex" not in said
    assert "acme: 1 were new or changed" in manage("tq_sync")
    assert "tasks are declared" in manage("tq_sync", "--check", "--prune")
    with globex:
        query("SELECT tq_unregister('shop.tasks.note')")
    assert "globex: 1 were" in manage("tq_sync", "--tenant", "globex")


def test_what_is_declared(acme, app, query):
    [row] = query("SELECT guarantee, queue, priority FROM tq_handlers WHERE handler = 'shop.jobs.answer'")
    assert row == ("by_worker", "mail", 7)
    [row] = query("SELECT max_attempts FROM tq_handlers WHERE handler = 'shop.jobs.raises'")
    assert row == (1,)
    assert query("SELECT rule, handler FROM tq_schedules WHERE name = 'shop.tasks.digest'") == [
        ("0 7 * * *", "shop.tasks.digest")
    ]


@pytest.mark.long
def test_prune_takes_what_is_gone(acme, app, query, manage):
    from tenant_q.calls import many_literal
    from tenant_q.declare import documents

    _, own = documents(app)
    own["handlers"].append({"handler": "shop.tasks.gone", "external": True})
    app.run(app.calls.register_many(many_literal(own), False, "acme"))
    assert "tasks are declared" in manage("tq_sync", "--check")
    assert "acme: 1 were" in manage("tq_sync", "--prune")
    assert query("SELECT count(*) FROM tq_handlers WHERE handler = 'shop.tasks.gone'") == [(0,)]


@pytest.mark.long
def test_drain(acme, globex, manage):
    from shop.models import Order
    from shop.tasks import fails_after_writing, invoice

    for tenant in (acme, globex):
        with tenant:
            invoice.enqueue(Order.objects.create(total=1).pk)
    with acme:
        fails_after_writing.options(max_attempts=1).enqueue(1)
    said = manage("tq_drain", "-v", "2")
    assert "acme: shop.tasks.invoice done" in said and "globex: shop.tasks.invoice done" in said
    assert "ValueError: no" in said and "3 attempts, 1 failed for good" in said
    with acme:
        invoice.enqueue(1)
    assert "0 attempts" in manage("tq_drain", "--tenant", "globex")
    assert "1 attempts" in manage("tq_drain", "--tenant", "acme", "--max", "1")


def test_info(acme, manage):
    from shop.tasks import invoice

    invoice.enqueue(1)
    found = json.loads(manage("tq_info", "--json"))
    assert found["tenants"] == 2 and found["queued"] >= 1 and found["protocol"] == 1
    assert "shop.tasks.invoice" in found["tasks"] and found["not_attached"] == []
    assert "shop.tasks.invoice" in manage("tq_info")


@pytest.mark.long
def test_no_extension(manage, server):
    server.execute("CREATE DATABASE site_bare OWNER site")
    try:
        for command in (["tq_info"], ["tq_sync"]):
            said = manage(*command, fails=True, SITE_DATABASE="site_bare")
            assert "no extension tenant_q" in said and "CREATE EXTENSION" in said and "Traceback" not in said
        said = manage("check", "--database", "default", SITE_DATABASE="site_bare")
        assert "tenant_q.W010" in said
        # The first migration may come before the extension.
        assert "then manage.py tq_sync" in manage("migrate_schemas", "--shared", SITE_DATABASE="site_bare")
    finally:
        server.execute("DROP DATABASE site_bare WITH (FORCE)")


def test_worker_until_nothing_is_due(acme, globex, manage):
    from shop.models import Order
    from shop.tasks import counts_async, invoice, where

    results = []
    for tenant in (acme, globex):
        with tenant:
            results.append(
                (tenant, where.enqueue(), invoice.enqueue(Order.objects.create(total=1).pk), counts_async.enqueue())
            )
    manage("tq_worker", "--burst", "--processes", "1")
    for tenant, place, bill, count in results:
        with tenant:
            assert place.get()["schema"] == tenant.schema_name
            assert place.get()["tenant"] == tenant.name
            assert bill.state == "done" and Order.objects.filter(invoiced=True).count() == 1
            assert count.get() == 2


@pytest.mark.long
def test_worker_ends_gracefully(acme, query):
    from shop.tasks import where

    worker = subprocess.Popen(
        [sys.executable, "-B", "manage.py", "tq_worker", "--processes", "1", "--name", "graceful"],
        cwd=SITE,
        env={**os.environ, "PYTHONPATH": str(SRC)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        result = where.enqueue()
        assert result.get(60)["schema"] == "acme"
        wait_until(query, "SELECT count(*) = 1 FROM tq_workers WHERE name = 'graceful' AND state = 'waiting'")
        worker.send_signal(signal.SIGTERM)
        said, _ = worker.communicate(timeout=60)
        assert worker.returncode == 0, said
    finally:
        worker.kill()
        worker.wait()


@pytest.mark.long
def test_worker_of_one_schema_and_bad_words(manage):
    said = manage("tq_worker", "--handlers", "shop.tasks.nowhere", "--burst", fails=True)
    assert "shop.tasks.nowhere" in said


@pytest.mark.long
def test_template(manage, server):
    name = "template_of_site"
    try:
        said = manage("tq_test_template", "--name", name, "--user", "postgres")
        assert f"{{'TEMPLATE': '{name}'}}" in said
        manage("tq_test_template", "--name", name, "--user", "postgres")
        manage("tq_test_template", "--name", name, "--dsn", "user=postgres", "--replace")
        with psycopg.connect(dbname=name) as inside:
            assert inside.execute("SELECT 1 FROM pg_extension WHERE extname = 'tenant_q'").fetchone()
        assert "may be dropped" in manage("tq_test_template", "--name", "test_x", fails=True)
        assert "permission denied" in manage("tq_test_template", "--name", "template_b", fails=True)
    finally:
        for each in (name, "template_b"):
            if server.execute("SELECT 1 FROM pg_database WHERE datname = %s", [each]).fetchone():
                server.execute(f"ALTER DATABASE {each} IS_TEMPLATE false")
                server.execute(f"DROP DATABASE {each}")


@pytest.mark.long
def test_tests_of_a_site(manage, server):
    """tests.py of the site: TestCase, TransactionTestCase, immediate, in one process and in two."""
    name = "template_of_site"
    manage("tq_test_template", "--name", name, "--user", "postgres")
    try:
        said = manage("test", SITE_TEMPLATE=name)
        assert "OK" in said and "Ran 7 tests" in said
        said = manage("test", "--parallel", "2", SITE_TEMPLATE=name)
        assert "OK" in said and "Ran 7 tests" in said
    finally:
        server.execute(f"ALTER DATABASE {name} IS_TEMPLATE false")
        server.execute(f"DROP DATABASE {name}")


def test_the_app_without_django_set_up(site):
    """What `python -m tenant_q worker tenant_q.django.site:app` imports."""
    done = subprocess.run(
        [
            sys.executable,
            "-B",
            "-c",
            "from tenant_q.django.site import app; app.load_tasks(); print('shop.tasks.invoice' in app.registry)",
        ],
        cwd=SITE,
        env={**os.environ, "PYTHONPATH": str(SRC)},
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "True", done.stderr


def test_without_installed_apps():
    from django.apps import apps
    from django.core.exceptions import ImproperlyConfigured

    from tenant_q.django.app import get_app

    with apps_without(apps), pytest.raises(ImproperlyConfigured, match=r"tenant_q\.django"):
        get_app()
    assert issubclass(errors.NotInstalled, errors.TenantQError)


def apps_without(apps):
    from contextlib import contextmanager

    @contextmanager
    def without():
        config = apps.app_configs.pop("tenant_q")
        try:
            yield
        finally:
            apps.app_configs["tenant_q"] = config

    return without()
