"""What tests of all folders share: the server that libpq's environment variables (PGHOST, PGPORT, PGUSER, PGDATABASE)
name, and tenants in it. Each test has tenants of its own, so that tests can run beside each other."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import psycopg
import pytest

from tenant_q import App
from tenant_q.context import Taken
from tenant_q.task import Registry


@pytest.fixture(scope="session")
def server() -> Iterator[psycopg.Connection]:
    """A connection of a superuser in autocommit, for the whole session; the extension is there."""
    if not os.environ.get("PGHOST"):
        pytest.fail("these tests need a server with tenant_q: set PGHOST, PGPORT, PGUSER and PGDATABASE", pytrace=False)
    with psycopg.connect(autocommit=True) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS tenant_q")
        yield connection


@pytest.fixture
def db(server: psycopg.Connection) -> Iterator[psycopg.Connection]:
    """A connection of one's own in autocommit."""
    with psycopg.connect(autocommit=True) as connection:
        yield connection


def _drop(server: psycopg.Connection, name: str) -> None:
    """A session that a test has cut off may be at its tables still: then one of both is the victim of a deadlock."""
    for _ in range(5):
        try:
            server.execute(f'DROP SCHEMA IF EXISTS "{name}" CASCADE')
        except psycopg.errors.DeadlockDetected:
            continue
        return
    raise AssertionError(f"the schema {name} can't be dropped: something holds its tables")


@pytest.fixture
def make_tenant(server: psycopg.Connection) -> Iterator[Callable[..., str]]:
    """Makes tenants, attached and empty, and drops them at the end: make_tenant() → the schema's name."""
    with ExitStack() as gone:

        def make(prefix: str = "t", *, attach: bool = True) -> str:
            name = f"{prefix}_{secrets.token_hex(5)}"
            server.execute(f'CREATE SCHEMA "{name}"')
            gone.callback(_drop, server, name)
            if attach:
                server.execute("SELECT tq_attach(%s)", [name])
            return name

        yield make


@pytest.fixture
def tenant(make_tenant: Callable[..., str]) -> str:
    """The name of an attached, empty schema."""
    return make_tenant()


@pytest.fixture
def app(tenant: str) -> Iterator[App]:
    """An App of this tenant, which is the current one in the test, with a registry of its own:
    `@app.task(name='…')`."""
    made = App(tenant=tenant, registry=Registry())
    with made.active():
        yield made
    made.close_loop()
    made.connections.close_all()


@pytest.fixture
def take(app: App, tenant: str) -> Iterator[Callable[..., list[Taken]]]:
    """Takes what is due in the tenant, by a session that lives as long as the test: take(n) → [Taken]. Its attribute
    `connection` is that session's."""
    connection = app.connect()

    def taken(n: int = 100, wait: str = "5 seconds") -> list[Taken]:
        call = app.calls.take(n, None, None, [tenant], wait, "test")
        return [Taken.of(json.loads(row[0])) for row in connection.execute(call.sql, call.params).fetchall()]

    taken.connection = connection  # type: ignore[attr-defined]
    yield taken
    connection.close()
