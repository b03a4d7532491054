"""The site beside this file, with a database of its own in which two tenants are."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from conftest_site import SITE, SRC  # noqa: E402

DATABASE = f"site_{secrets.token_hex(4)}"

sys.path.insert(0, str(SITE))
os.environ |= {"DJANGO_SETTINGS_MODULE": "config.settings", "SITE_DATABASE": DATABASE, "SITE_ELSEWHERE": "postgres"}


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "long: takes some seconds, and is the same with each Python and Django")


def _server() -> psycopg.Connection:
    return psycopg.connect(autocommit=True)


@pytest.fixture(scope="session", autouse=True)
def site() -> Iterator[None]:
    """The database, migrated, with the tenants acme and globex."""
    if not os.environ.get("PGHOST"):
        pytest.fail("these tests need a server with tenant_q: set PGHOST, PGPORT, PGUSER and PGDATABASE", pytrace=False)
    with _server() as server:
        if not server.execute("SELECT 1 FROM pg_roles WHERE rolname = 'site'").fetchone():
            server.execute("CREATE ROLE site LOGIN CREATEDB")
        server.execute(f"CREATE DATABASE {DATABASE} OWNER site")
    with psycopg.connect(dbname=DATABASE, autocommit=True) as inside:
        inside.execute("CREATE EXTENSION tenant_q")
    import django

    django.setup()
    from customers.models import Client, Domain
    from django.core.management import call_command
    from django.db import connections

    call_command("migrate_schemas", shared=True, verbosity=0)
    for name in ("acme", "globex"):
        Client(schema_name=name, name=name.title()).save(verbosity=0)
        Domain.objects.create(domain=f"{name}.example", tenant=Client.objects.get(schema_name=name))
    yield
    connections.close_all()
    with _server() as server:
        server.execute(f"DROP DATABASE {DATABASE} WITH (FORCE)")


@pytest.fixture
def acme(site: None) -> Iterator[Any]:
    """In the tenant acme, whose tasks and orders are gone at the end."""
    yield from _tenant("acme")


@pytest.fixture
def globex(site: None) -> Iterator[Any]:
    """In the tenant globex."""
    yield from _tenant("globex")


def _tenant(name: str) -> Iterator[Any]:
    from customers.models import Client
    from django.db import connection
    from shop import jobs, tasks
    from shop.models import Order

    tenant, before = Client.objects.get(schema_name=name), connection.schema_name
    with tenant:
        yield tenant
        assert connection.schema_name == name, "a test has left another tenant behind"
    assert connection.schema_name == before
    with tenant, connection.cursor() as cursor:
        Order.objects.all().delete()
        cursor.execute("DELETE FROM tq_task; DELETE FROM tq_result")
    tasks.seen.clear()
    jobs.seen.clear()


@pytest.fixture
def app(site: None) -> Any:
    """The site's App."""
    from tenant_q.django.app import get_app

    return get_app()


@pytest.fixture
def work(app: Any) -> Callable[..., list[Any]]:
    """Runs what is due and committed, of the current tenant: what a worker does, in this process."""
    from tenant_q.django.testing import run_pending

    return run_pending


@pytest.fixture
def query() -> Callable[..., list[Any]]:
    """A statement by Django's connection: its rows."""

    def run(sql: str, *values: Any) -> list[Any]:
        from django.db import connection

        with connection.cursor() as cursor:
            cursor.execute(sql, values)
            return cursor.fetchall() if cursor.description else []

    return run


@pytest.fixture
def manage(site: None) -> Callable[..., str]:
    """`manage.py` in a process of its own: what it says. fails: it must end with an error."""

    def run(*arguments: str, fails: bool = False, cwd: Path = SITE, **environment: str) -> str:
        done = subprocess.run(
            [sys.executable, "-B", "manage.py", *arguments],
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": str(SRC), **environment},
            capture_output=True,
            text=True,
            timeout=60,
        )
        said = done.stdout + done.stderr
        assert (done.returncode != 0) == fails, said
        return said

    return run


@pytest.fixture
def settings_with() -> Any:
    """In the block the database default has these settings, by a new connection."""
    from contextlib import contextmanager

    from django.db import connection

    @contextmanager
    def changed(**words: Any) -> Iterator[None]:
        before = {name: connection.settings_dict.get(name) for name in words}
        connection.close()
        connection.settings_dict.update(words)
        try:
            yield
        finally:
            connection.close()
            connection.settings_dict.update(before)

    return changed
