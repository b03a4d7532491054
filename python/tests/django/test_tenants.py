"""How schemas become tenants: by migrations, by signals, as clones; sites of one schema; django-tenant-schemas."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
from conftest_site import SITE, SRC

from tenant_q import errors


@pytest.fixture
def make(site, query):
    """Makes tenants of the site, and drops them at the end."""
    from customers.models import Client
    from django.db import connection

    made = []

    def new(name):
        tenant = Client(schema_name=name, name=name.title())
        tenant.save(verbosity=0)
        made.append(tenant)
        return tenant

    yield new
    before = connection.tenant
    connection.set_schema_to_public()
    for tenant in made:
        tenant.delete(force_drop=True)
    connection.set_tenant(before)


def attached(query, name):
    return query("SELECT status FROM tq_tenants WHERE tenant = %s", name)


def test_a_new_tenant_is_attached_and_knows_the_tasks(make, query, work):
    from shop.tasks import where

    with make("fresh"):
        assert attached(query, "fresh") == [("on",)]
        result = where.enqueue()
        assert [ran.state for ran in work()] == ["done"]
        assert result.get()["tenant"] == "Fresh"


def test_migrations_attach_what_is_not(make, query, manage):
    with make("loose") as tenant:
        query("SELECT tq_detach('loose', drop_data => true)")
        assert attached(query, "loose") == []
    assert "not attached, and left out: loose" in manage("tq_sync")
    assert "tenant_q.W012" in manage("check", "--database", "default")
    manage("migrate_schemas", "--schema=loose", SITE_TASKS='{"ATTACH": false}')
    with tenant:
        assert attached(query, "loose") == []
    manage("migrate_schemas", "--schema=loose")
    with tenant:
        assert attached(query, "loose") == [("on",)]
        assert query("SELECT count(*) FROM tq_handlers WHERE handler = 'shop.tasks.where'") == [(1,)]


def test_tables_that_somebody_left_are_not_taken_over(make, query, app):
    """A restored schema: a person says what is to become of its tasks."""
    from tenant_q.django import declaring

    with make("restored"):
        query("SELECT tq_detach('restored')")
        with pytest.raises(errors.NotReady, match="isn't attached") as caught:
            declaring.attach(app, "restored")
        assert "adopt => true" in caught.value.hint


@pytest.mark.long
def test_a_clone_does_not_run_its_bases_tasks(acme, make, query, site):
    """TENANT_BASE_SCHEMA: no migration runs in it, its tables are copies."""
    from django.test import override_settings
    from shop.tasks import invoice

    invoice.options(delay="1 day").enqueue(1)
    from django.db import connection

    connection.set_schema_to_public()
    with override_settings(TENANT_BASE_SCHEMA="acme", TENANT_CREATION_FAKES_MIGRATIONS=True):
        clone = make("cloned")
    with clone:
        assert attached(query, "cloned") == [("on",)]
        assert query("SELECT count(*) FROM tq_tasks") == [(0,)]
        assert query("SELECT count(*) FROM tq_handlers WHERE handler = 'shop.tasks.where'") == [(1,)]
    connection.set_tenant(acme)
    assert query("SELECT count(*) FROM tq_tasks") == [(1,)]


def test_the_operation(make, query):
    from django.db import ProgrammingError, connection
    from django.db.migrations.writer import OperationWriter

    from tenant_q.django import AttachTenant

    operation = AttachTenant()
    with make("operated"):
        with connection.schema_editor() as editor:
            operation.database_backwards("shop", editor, None, None)
        assert attached(query, "operated") == []
        with pytest.raises(ProgrammingError, match="adopt => true"), connection.schema_editor() as editor:
            operation.database_forwards("shop", editor, None, None)
        with connection.schema_editor() as editor:
            AttachTenant(adopt=True).database_forwards("shop", editor, None, None)
            operation.database_forwards("shop", editor, None, None)  # and again
        assert attached(query, "operated") == [("on",)]
        with connection.schema_editor() as editor:
            AttachTenant(drop_data=True).database_backwards("shop", editor, None, None)
        with connection.schema_editor() as editor:
            operation.database_forwards("shop", editor, None, None)
    # In the schema that all share there is nothing to do.
    connection.set_schema_to_public()
    with connection.schema_editor() as editor:
        operation.database_forwards("shop", editor, None, None)
    assert attached(query, "public") == []
    with connection.schema_editor(collect_sql=True) as editor:
        connection.set_schema("acme")
        operation.database_forwards("shop", editor, None, None)
        connection.set_schema_to_public()
    assert "tq_attach('acme'" in editor.collected_sql[0]
    assert operation.describe() and operation.migration_name_fragment == "attach_tenant"
    assert "AttachTenant(" in OperationWriter(AttachTenant(adopt=True)).serialize()[0]
    assert operation.deconstruct() == ("AttachTenant", [], {})


def test_no_migration_is_missing(manage):
    assert "No changes detected" in manage("makemigrations", "--check")


def test_a_tenant_pauses_while_it_is_migrated(acme, query, site):
    from django.test import override_settings
    from django_tenants.signals import schema_migrated, schema_pre_migration

    with override_settings(TENANT_Q={"PAUSE": {"drain": 1, "duration": 60}}):
        schema_pre_migration.send(None, schema_name="acme")
        assert attached(query, "acme") == [("paused",)]
        schema_migrated.send(None, schema_name="acme")
        assert attached(query, "acme") == [("on",)]
        schema_pre_migration.send(None, schema_name="nobody")
    schema_pre_migration.send(None, schema_name="acme")
    assert attached(query, "acme") == [("on",)]


def test_public_may_be_a_tenant(site, app, query, server):
    import psycopg
    from django.db import connection
    from django.test import override_settings
    from shop.tasks import digest

    from tenant_q.django.tenants import tenant_names
    from tenant_q.django.testing import declare, run_pending

    database = connection.settings_dict["NAME"]
    with psycopg.connect(dbname=database, autocommit=True) as root:
        root.execute("ALTER SCHEMA public OWNER TO site")
    with override_settings(TENANT_Q={"PUBLIC": True}):
        declare("public")
        try:
            assert "public" in tenant_names("default")
            result = digest.enqueue()
            assert [ran.state for ran in run_pending()] == ["done"]
            assert result.tenant == "public" and connection.schema_name == "public"
        finally:
            query("SELECT tq_detach('public', drop_data => true)")
    with pytest.raises(errors.NoTenant):
        digest.enqueue()


ONE_SCHEMA = """
import os, sys
from django.conf import settings
settings.configure(
    SECRET_KEY="x", USE_TZ=True, INSTALLED_APPS=["django.contrib.contenttypes", "tenant_q.django"],
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", "NAME": os.environ["SITE_DATABASE"],
                           "USER": "site", "HOST": os.environ["PGHOST"], "PORT": os.environ.get("PGPORT", "")}},
    TENANT_Q=eval(os.environ["SITE_TASKS"]),
)
import django
django.setup()
from django.core import checks
from django.core.management import call_command
from django.db import connection, transaction
from tenant_q import errors, task
from tenant_q.django.testing import drain, run_pending
@task(name="one.add")
def add(a: int, b: int) -> list:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_schema()")
        return [a + b, cursor.fetchone()[0]]
"""


def one_schema(body, tasks, before=""):
    done = subprocess.run(
        [sys.executable, "-B", "-c", before + ONE_SCHEMA + body],
        env={**os.environ, "PYTHONPATH": str(SRC), "SITE_DATABASE": "site_one", "SITE_TASKS": repr(tasks)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def one(site, server):
    import psycopg

    server.execute("CREATE DATABASE site_one OWNER site")
    with psycopg.connect(dbname="site_one", autocommit=True) as root:
        root.execute("CREATE EXTENSION tenant_q; ALTER SCHEMA public OWNER TO site")
    yield
    server.execute("DROP DATABASE site_one WITH (FORCE)")


def test_a_site_of_one_schema(one):
    said = one_schema(
        """
assert not checks.run_checks(), checks.run_checks()
call_command("migrate", verbosity=0)  # attaches it, and declares
result = add.enqueue(1, 2)
print([ran.state for ran in run_pending()], result.get())
with transaction.atomic():
    add.enqueue(3, 4)
    print([ran.state for ran in drain()])
    transaction.set_rollback(True)
call_command("tq_sync", "--check")
""",
        {"TENANT": "public"},
    )
    assert said.splitlines()[:2] == ["['done'] [3, 'public']", "['done']"], said
    assert "1 tasks are declared" in said


@pytest.mark.long
def test_a_site_of_one_schema_that_says_nothing(one):
    said = one_schema(
        """
print([each.id for each in checks.run_checks()])
call_command("migrate", verbosity=0)
try:
    add.enqueue(1, 2)
except errors.NoTenant as error:
    print(error.hint)
""",
        {},
    )
    assert "tenant_q.W003" in said and "TENANT_Q = {'TENANT': 'public'}" in said


@pytest.mark.long
def test_psycopg2(one):
    """Where Django uses psycopg2, so do tasks; what takes is psycopg 3's."""
    body = """
from django.db.backends.postgresql.psycopg_any import is_psycopg3
assert not is_psycopg3
call_command("migrate", verbosity=0)
import logging
logging.basicConfig(level="INFO", format="%(name)s %(message)s", stream=sys.stdout)
logging.getLogger("django").setLevel("WARNING")
from tenant_q.django.app import get_app
get_app().value(get_app().calls.attach("public"))
result = add.enqueue(1, 2)
print([ran.state for ran in run_pending()], result.get())
with transaction.atomic():
    add.enqueue_many([(3, 4)])
    print([ran.state for ran in drain()])
    transaction.set_rollback(True)
"""
    hide = """
import sys
from importlib.util import find_spec
hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == "psycopg"}
sys.modules["psycopg"] = None
import django.db.backends.postgresql.base
del sys.modules["psycopg"]
sys.modules.update(hidden)
"""
    said = one_schema(body, {"TENANT": "public"}, before="import psycopg\n" + hide)
    assert "['done'] [3, 'public']" in said and said.rstrip().endswith("['done']"), said
    assert "tenant_q.server" in said and "attached already" in said, said


def test_models_are_read_only(acme, query, work):
    from shop.tasks import invoice

    from tenant_q.django.models import FinishedTask, Problem, RunningTask, Schedule, Tenant, UnfinishedTask, Worker

    result = invoice.options(name="looked at").enqueue(1)
    [row] = UnfinishedTask.objects.filter(name="looked at")
    assert (row.pk, row.state, row.args, row.tenant) == (result.id, "queued", {"order_id": 1}, "acme")
    assert "looked at" in str(row) and row.handle == result
    for refused in (
        row.delete,
        row.save,
        UnfinishedTask.objects.all().delete,
        lambda: UnfinishedTask.objects.update(name="x"),
    ):
        with pytest.raises(errors.NotReady, match="read only"):
            refused()
    assert row.handle.cancel()
    assert [each.state for each in FinishedTask.objects.filter(pk=result.id)] == ["cancelled"]
    schedule = Schedule.objects.get(pk="shop.tasks.digest")
    assert (schedule.rule, schedule.tags) == ("0 7 * * *", ["daily"])
    assert {"acme", "globex"} <= set(Tenant.objects.values_list("tenant", flat=True))
    assert list(RunningTask.objects.all()) == []
    assert {each.kind for each in Worker.objects.all()} <= {"launcher", "scheduler", "executor", "external"}
    list(Problem.objects.all())
    assert UnfinishedTask.objects.count() == 0


@pytest.mark.skipif(find_spec("tenant_schemas") is None, reason="django-tenant-schemas is tried on one Python")
def test_django_tenant_schemas(site, server):
    import psycopg

    server.execute("CREATE DATABASE site_old OWNER site")
    try:
        with psycopg.connect(dbname="site_old", autocommit=True) as root:
            root.execute("CREATE EXTENSION tenant_q")
        done = subprocess.run(
            [sys.executable, "-B", str(SITE.parent / "site_old" / "run.py")],
            env={**os.environ, "PYTHONPATH": str(SRC), "SITE_DATABASE": "site_old"},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.splitlines() == [
            "['done'] ['old', 'old.example', 'old']",
            "afterwards old",
            "refused in public",
        ]
    finally:
        server.execute("DROP DATABASE site_old WITH (FORCE)")
