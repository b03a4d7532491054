"""Runs the blocks of docs/django-sql.md in the site beside this file, and looks after each section whether what it says is so.

Blocks are taken in their order. One whose first line is a comment with a path is a file of the site, "added" behind it: of
one that is there; files are written before anything runs. Of the others `sh` is run in the site's directory, `sql` by psql
as a superuser, and `python` here, all in one namespace. A section that has blocks and no check fails, and so does a check
without its section.

From the environment: PGHOST, a server with the extension preloaded, and PSQL.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

HERE = Path(__file__).parent
TEXT = (HERE.parent.parent / "docs" / "django-sql.md").read_text()
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# (\S+\.py)(, added)?\n")

site = Path(tempfile.mkdtemp(prefix="tq_django.")) / "site"
shutil.copytree(HERE / "site", site, ignore=shutil.ignore_patterns("__pycache__"))
sections = {part.partition("\n")[0]: part for part in TEXT.split("\n## ")[1:]}
names = {}
checks = {}


def check(section):
    def note(function):
        checks[section] = function
        return function

    return note


def write_files():
    for kind, block in BLOCK.findall(TEXT):
        if kind == "python" and (path := FILE.match(block)):
            file = site / path[1]
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("a" if path[2] else "w") as to:
                to.write("\n" * 2 * bool(path[2]) + block[path.end() :])


def shell(command):
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-eu"], input=command, cwd=site, env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def psql(sql, database="site"):
    command = [os.environ["PSQL"], "-X", "-q", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database]
    done = subprocess.run(command, input=sql, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{sql}\n{done.stderr}"


def run_python(block):
    set_up()
    exec(compile(block, "docs/django-sql.md", "exec"), names)


def set_up():
    """From here on this process is one of the site's."""
    if "django.setup" in names:
        return
    sys.path.insert(0, str(site))
    os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
    import django

    django.setup()
    from psycopg.types.json import Jsonb

    names.update({"django.setup": True, "connection": django.db.connection, "Jsonb": Jsonb})


def query(sql, *values):
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return cursor.fetchall()


def wait_until(sql, *values):
    """Until the statement says true."""
    import time

    deadline = time.monotonic() + 60
    while not query(sql, *values)[0][0]:
        assert time.monotonic() < deadline, sql
        time.sleep(0.02)


def tenant(name):
    from customers.models import Client

    return Client.objects.get(schema_name=name)


def run_section(title):
    for kind, block in BLOCK.findall(sections[title]):
        if kind == "sh":
            names["said"] = shell(block)
        elif kind == "sql":
            psql(block)
        elif not FILE.match(block):
            run_python(block)
    checks[title]()


@check("Once")
def once():
    psql("SELECT 1 / count(*) FROM pg_extension WHERE extname = 'tenant_q'")


@check("Tenants and handlers: a migration")
def by_migration():
    set_up()
    from customers.models import Client, Domain

    for name in ["acme", "globex", "gone"]:
        client = Client(schema_name=name, name=name)
        client.save(verbosity=0)
        Domain.objects.create(tenant=client, domain=f"{name}.example")
    assert query("SELECT tenant, status FROM tq_tenants ORDER BY 1") == [("acme", "on"), ("globex", "on"), ("gone", "on")]
    with tenant("acme"):
        assert query("SELECT handler, function, status FROM tq_handlers") == [
            ("send_invoice", "acme.send_invoice(bigint)", "ok")
        ]
    shell("python manage.py migrate_schemas")
    shell("python manage.py migrate_schemas --schema=gone shop 0001")
    assert query("SELECT count(*) FROM tq_tenants WHERE tenant = 'gone'") == [(0,)]
    assert query("SELECT to_regclass('gone.tq_task'), to_regproc('gone.send_invoice')") == [(None, None)]
    shell("python manage.py migrate_schemas --schema=gone")
    assert query("SELECT count(*) FROM tq_tenants WHERE tenant = 'gone'") == [(1,)]
    tenant("gone").delete(force_drop=True)
    assert query("SELECT count(*) FROM tq_tenants WHERE tenant = 'gone'") == [(0,)]


@check("Tenants and handlers: a signal")
def by_signal():
    from customers.models import Client
    from django.test import override_settings

    with tenant("acme"):
        query("SELECT tq_async('send_invoice', '[1]', delay => '1 day', tenant => 'acme')")
        query("SELECT tq_schedule('nightly', 'send_invoice', '0 2 * * *', '[1]', tenant => 'acme')")
    with override_settings(TENANT_BASE_SCHEMA="acme", TENANT_CREATION_FAKES_MIGRATIONS=True):
        Client(schema_name="cloned", name="A clone").save(verbosity=0)
    with tenant("cloned"):
        assert query("SELECT status FROM tq_tenants WHERE tenant = 'cloned'") == [("on",)]
        assert query("SELECT count(*) FROM tq_tasks") == [(0,)]
        assert query("SELECT name, problem FROM tq_schedules") == [("nightly", None)]
        assert query("SELECT handler, function, status FROM tq_handlers") == [
            ("send_invoice", "cloned.send_invoice(bigint)", "ok")
        ]
    with tenant("acme"):
        assert query("SELECT tasks FROM tq_cancel_all(everything => true)") == [(1,)]
        query("SELECT tq_unschedule('nightly')")
    # A schema that somebody else has made, without tables of ours.
    psql("CREATE SCHEMA foreign_made AUTHORIZATION site; CREATE FUNCTION foreign_made.send_invoice(o bigint) RETURNS text"
         " LANGUAGE sql AS 'SELECT NULL::text'; ALTER FUNCTION foreign_made.send_invoice OWNER TO site")
    from shop.tenants import attach

    attach(None, Client(schema_name="foreign_made"))
    assert query("SELECT status FROM tq_tenants WHERE tenant = 'foreign_made'") == [("on",)]


@check("Calls")
def calls():
    import uuid

    assert isinstance(names["id"], uuid.UUID)
    assert names["answer"] == f"invoice of order {names['order'].pk}", names["answer"]
    with tenant("acme"):
        names["order"].refresh_from_db()
        assert names["order"].invoiced
        assert query("SELECT state, meta FROM tq_tasks WHERE id = %s", names["later"]) == [("delayed", '{"user": 7}')]
        assert names["result"](names["later"]) is None


@check("No on_commit")
def no_on_commit():
    from django.db import DatabaseError, transaction
    from shop.models import Order

    with tenant("acme"):
        wait_until("SELECT count(*) = 1 FROM tq_results WHERE name = 'together' AND state = 'done'")
        try:
            with transaction.atomic():
                order = Order.objects.create(total=1)
                names["enqueue"]("send_invoice", {"order_id": order.pk}, name="never")
                raise KeyError
        except KeyError:
            pass
        assert query("SELECT count(*) FROM tq_results WHERE name = 'never'") == [(0,)]
        assert query("SELECT count(*) FROM tq_tasks WHERE name = 'never'") == [(0,)]
        try:
            with transaction.atomic():
                names["result"](names["enqueue"]("send_invoice", [1]), wait="5 seconds")
        except DatabaseError as error:
            assert error.__cause__.sqlstate == "55000", error
        else:
            raise AssertionError("it has waited for itself")


@check("Errors")
def errors():
    from django.db import DatabaseError, transaction
    import django.db.utils

    assert names["sqlstate"] == "42P02" and names["hint"].startswith("Write args"), names["hint"]
    rows = re.findall(r"^\| ([0-9A-Z, ]{5,}) \|.*\| `(\w+)` \|$", sections["Errors"], re.MULTILINE)
    assert len(rows) == 6, rows
    for codes, name in rows:
        for code in codes.split(", "):
            try:
                with transaction.atomic():
                    query(f"DO $$ BEGIN RAISE 'x' USING ERRCODE = '{code}'; END $$")
            except DatabaseError as error:
                assert type(error) is getattr(django.db.utils, name), (code, type(error))
                assert error.__cause__.sqlstate == code
    with tenant("acme"):
        for call, code in [
            ("tq_async('send_invoic')", "42704"),
            ("tq_async('send_invoice', tenant => 'nobody')", "3F000"),
            ("tq_async('send_invoice', '[\"x\"]')", "22P02"),
            ("tq_async('send_invoice', '[1]', priority => 99999)", "22023"),
            ("tq_async('send_invoice', '[1]', tenant => 'public')", "55000"),
            ("tq_result('01900000-0000-7000-8000-000000000001')", "P0002"),
        ]:
            assert said(call) == code, call
        id = names["enqueue"]("send_invoice", [0])
        wait_until("SELECT count(*) = 1 FROM tq_results WHERE id = %s", id)
        assert said(f"tq_result('{id}')") == "TQ002"


def said(call):
    """The SQLSTATE of its error."""
    from django.db import DatabaseError, transaction

    try:
        with transaction.atomic():
            query(f"SELECT {call}")
    except DatabaseError as error:
        return error.__cause__.sqlstate


@check("Notices")
def notices():
    import unittest

    with unittest.TestCase().assertLogs("postgresql", "INFO") as log:
        assert query("SELECT tq_attach('acme')") == [(False,)]
    assert "attached already" in log.output[0], log.output


@check("Models and admin")
def models_and_admin():
    from django.contrib.auth.models import User
    from django.test import Client as Browser
    from shop.models import Result

    assert names["texts"] and all(text.startswith("invoice of order") for text in names["texts"]), names["texts"]
    shell("python manage.py makemigrations --check")
    with tenant("acme"):
        user = User.objects.create_superuser("root", password="root")
        failed = Result.objects.get(state="failed")
        assert failed.error["sqlstate"] == "TQ003" and failed.args == [0], failed.error
    browser = Browser(HTTP_HOST="acme.example")
    with tenant("acme"):
        browser.force_login(user)
    for path in ["task/", "result/", f"result/{failed.pk}/change/", "result/?state=failed&q=together", "task/?o=-3"]:
        page = browser.get(f"/admin/shop/{path}")
        assert page.status_code == 200, (path, page.status_code)
    act(browser, "result", "requeue", failed.pk)
    with tenant("acme"):
        wait_until("SELECT cardinality(ARRAY(SELECT outcome FROM tq_attempts(%s))) = 2", failed.pk)
    act(browser, "task", "cancel", names["later"])
    with tenant("acme"):
        assert query("SELECT state FROM tq_results WHERE id = %s", names["later"]) == [("cancelled",)]
    # Another tenant's are not to be seen.
    browser = Browser(HTTP_HOST="globex.example")
    with tenant("globex"):
        browser.force_login(User.objects.create_superuser("root", password="root"))
    assert b"0 results" in browser.get("/admin/shop/result/").content


def act(browser, model, action, id):
    page = browser.post(f"/admin/shop/{model}/", {"action": action, "_selected_action": [str(id)]})
    assert page.status_code == 302, (page.status_code, page.content[:2000])


@check("public as a tenant")
def public():
    assert names["clients"] == 3, names["clients"]
    assert query("SELECT status FROM tq_tenants WHERE tenant = 'public'") == [("on",)]
    wait_until("SELECT current_setting('tenant_q.exclude_schemas') = ''")


@check("Migrations while tasks run")
def migrations():
    import threading

    from django.db import connections
    from shop.migrating import pause, resume

    with tenant("acme"):
        with names["connection"].cursor() as cursor:
            cursor.execute(
                "CREATE TABLE door (); CREATE FUNCTION long() RETURNS text LANGUAGE plpgsql AS $$ BEGIN"
                " WHILE NOT EXISTS (SELECT FROM door) LOOP PERFORM pg_sleep(0.02); END LOOP; RETURN 'out'; END $$;"
                " SELECT tq_register('long')"
            )
        id = names["enqueue"]("long")
        wait_until("SELECT count(*) = 1 FROM tq_running WHERE id = %s", id)
        paused = threading.Event()

        def in_other_session():
            pause(None, "acme")
            paused.set()
            connections.close_all()

        thread = threading.Thread(target=in_other_session)
        thread.start()
        wait_until(
            "SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE %s AND state = 'active' AND pid <> pg_backend_pid()",
            "SELECT tq_pause(%",
        )
        assert not paused.is_set(), "the pause has not waited for what runs"
        with names["connection"].cursor() as cursor:
            cursor.execute("INSERT INTO door DEFAULT VALUES")
        thread.join()
        assert names["result"](id) == "out"
        assert query("SELECT status FROM tq_tenants WHERE tenant = 'acme'") == [("paused",)]
        waiting = names["enqueue"]("long")
        resume(None, "acme")
        assert names["result"](waiting, wait="20 seconds") == "out"
    pause(None, "of_nobody")
    shell("python manage.py migrate_schemas")
    assert query("SELECT DISTINCT status FROM tq_tenants") == [("on",)]
    # A migration that fails leaves a pause behind that ends by itself.
    (site / "shop/migrations/0009_bad.py").write_text(
        "from django.db import migrations\n\n\nclass Migration(migrations.Migration):\n"
        "    dependencies = [('shop', '0003_task_models')]\n    operations = [migrations.RunSQL('SELECT 1 / 0')]\n"
    )
    try:
        shell("python manage.py migrate_schemas --schema=globex")
    except AssertionError as error:
        assert "division by zero" in str(error), error
    else:
        raise AssertionError("a bad migration has run")
    (site / "shop/migrations/0009_bad.py").unlink()
    psql("SELECT 1 / count(*) FROM tenant_q.pause WHERE tenant = 'globex' AND until BETWEEN now() AND now() + interval '15 min'")
    resume(None, "globex")


@check("Tests")
def tests():
    assert "Ran 2 tests" in names["said"] and "OK" in names["said"], names["said"]
    assert "Ran 2 tests" in shell("python manage.py test --parallel 2")
    assert query("SELECT count(*) FROM pg_database WHERE datname LIKE 'test%%'") == [(0,)]


def main():
    psql("CREATE ROLE site LOGIN CREATEDB", "postgres")
    psql("CREATE DATABASE site OWNER site", "postgres")
    write_files()
    passed = failed = 0
    with_blocks = [title for title, text in sections.items() if BLOCK.search(text)]
    for title in [*with_blocks, *(title for title in checks if title not in with_blocks)]:
        try:
            run_section(title)
        except (Exception, SystemExit):
            failed += 1
            print(f"FAILED  django: {title}\n{traceback.format_exc()}")
            # What follows stands on it.
            break
        passed += 1
        print(f"ok      django: {title}", flush=True)
    print(f"django: {passed} passed, {failed} failed")
    shutil.rmtree(site.parent)
    sys.exit(bool(failed))


main()
