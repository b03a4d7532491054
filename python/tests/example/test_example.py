"""examples/django-tenants, driven from end to end: the site, its worker, and its own tests."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

pytest.importorskip("django_tenants")

EXAMPLE = Path(__file__).parents[3] / "examples" / "django-tenants"


@pytest.fixture
def database() -> Iterator[str]:
    """A name for one, which is dropped at the end."""
    if not os.environ.get("PGHOST"):
        pytest.fail("these tests need a server with tenant_q: set PGHOST, PGPORT, PGUSER and PGDATABASE", pytrace=False)
    name = f"example_{secrets.token_hex(4)}"
    yield name
    with psycopg.connect(autocommit=True) as server:
        server.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def run(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-B", str(EXAMPLE / "run.py"), *arguments],
        env={name: value for name, value in os.environ.items() if not name.startswith("DJANGO_SETTINGS")},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_walk_through_the_site(database: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    try:
        said = run("--tour", "--database", database, "--log", str(log))
    except AssertionError as error:
        raise AssertionError(f"{error}\n{log.read_text() if log.exists() else ''}") from None
    assert "the provider has charged each invoice once" in said
    assert "has stopped" in log.read_text()


def test_the_sites_own_tests_pass(database: str) -> None:
    said = run("test", "--database", database)
    assert "Ran 7 tests" in said and "\nOK" in said, said
