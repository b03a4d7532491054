"""Runs the site and its worker, or its tests: run.py [--port N] [--tour] | run.py test.

From the environment: how a superuser connects (PGHOST, PGPORT, PGUSER, PGPASSWORD), of a server that preloads tenant_q.
Role and database `billing` are made where they aren't there. --tour walks through the site, and ends.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

HERE = Path(__file__).resolve().parent
MANAGE = [sys.executable, "-B", "manage.py"]


def prepare(name: str, password: str) -> dict[str, str]:
    """The role and the database, as a superuser; the environment of the site."""
    with psycopg.connect(dbname="postgres", autocommit=True) as server:
        who, secret = sql.Identifier("billing"), sql.Literal(password)
        known = server.execute("SELECT 1 FROM pg_roles WHERE rolname = 'billing'").fetchone()
        word = sql.SQL("ALTER" if known else "CREATE")
        server.execute(sql.SQL("{} ROLE {} LOGIN CREATEDB PASSWORD {}").format(word, who, secret))
        if not server.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
            server.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(name), who))
    with psycopg.connect(dbname=name, autocommit=True) as inside:
        inside.execute("CREATE EXTENSION IF NOT EXISTS tenant_q")
    return {**os.environ, "PGDATABASE": name, "PGUSER": "billing", "PGPASSWORD": password}


def manage(site: dict[str, str], *arguments: str) -> None:
    """A command of the site; raises what it ends with."""
    subprocess.run([*MANAGE, *arguments], cwd=HERE, env=site, check=True)


def free_port() -> int:
    with socket.socket() as any_port:
        any_port.bind(("127.0.0.1", 0))
        port: int = any_port.getsockname()[1]
        return port


def stop(process: subprocess.Popen[Any]) -> int:
    """As a service manager does; its status."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    return process.wait(60)


def serve(port: int, walk: bool, database: str, log: Path | None) -> int:
    """Until it is told to end. 1 = something has ended by itself, or not well."""
    over = threading.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda *_: over.set())
    password = os.environ.get("SITE_PASSWORD") or secrets.token_hex(8)
    site = prepare(database, password)
    books = tempfile.NamedTemporaryFile(prefix="billing-provider.", suffix=".json")
    site["SITE_PROVIDER"] = books.name
    manage(site, "migrate_schemas", "--verbosity=0")
    manage(site, "begin")
    manage(site, "tq_sync")
    with ExitStack() as stack:
        to = stack.enter_context(log.open("w")) if log else None
        worker = subprocess.Popen([*MANAGE, "tq_worker", "--processes", "2"], cwd=HERE, env=site, stdout=to, stderr=to)
        stack.callback(stop, worker)
        address = f"127.0.0.1:{port}"
        web = subprocess.Popen([*MANAGE, "runserver", "--noreload", address], cwd=HERE, env=site, stdout=to, stderr=to)
        stack.callback(web.kill)
        while not _answers(port):
            if web.poll() is not None or worker.poll() is not None or over.wait(0.1):
                return 1
        print(
            json.dumps(
                {"address": f"http://localhost:{port}/", "database": database, "user": "billing", "password": password}
            ),
            flush=True,
        )
        if walk:
            from tour import tour

            for company in ("Acme", "Globex Corporation"):
                tour(
                    port,
                    company,
                    lambda schema, name: fire(database, schema, name),
                    lambda text: print(text, flush=True),
                )
            charges = [each["amount"] for each in json.loads(Path(books.name).read_text()).values()]
            if sorted(charges) != ["0.50", "0.50", "12.50", "12.50", "7.00", "7.00"]:
                raise AssertionError(f"the provider has charged {charges}")
            print("the provider has charged each invoice once", flush=True)
        else:
            while not over.wait(0.5):
                if web.poll() is not None or worker.poll() is not None:
                    return 1
        return stop(worker)


def fire(database: str, schema: str, name: str) -> None:
    """Lets a schedule be due now, as an administrator may."""
    with psycopg.connect(dbname=database, autocommit=True) as connection:
        connection.execute("SELECT tq_fire(%s, tenant => %s)", [name, schema])


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


def test(database: str) -> int:
    """The site's own tests, for which a superuser makes a template of databases with the extension."""
    site = prepare(database, secrets.token_hex(8))
    superuser = psycopg.conninfo.make_conninfo(
        user=os.environ.get("PGUSER", "postgres"), password=os.environ.get("PGPASSWORD", "")
    )
    manage(site, "tq_test_template", "--name", "template_billing", "--dsn", superuser)
    return subprocess.run([*MANAGE, "test"], cwd=HERE, env=site, check=False).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="?", choices=["test"])
    parser.add_argument("--port", type=int)
    parser.add_argument("--tour", action="store_true")
    parser.add_argument("--database", default="billing")
    parser.add_argument("--log", type=Path)
    said = parser.parse_args()
    os.environ.setdefault("PGUSER", "postgres")
    if said.what == "test":
        return test(said.database)
    return serve(said.port or free_port(), said.tour, said.database, said.log)


if __name__ == "__main__":
    sys.exit(main())
