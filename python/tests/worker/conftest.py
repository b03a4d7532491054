"""Real workers on a real server. Tests wait for what is published (results, views, probes), up to a time that is only
there to end a test that fails."""

from __future__ import annotations

import json
import os
import pathlib
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import IO, Any

import psycopg
import pytest

HERE = pathlib.Path(__file__).parent
LONG = 90.0


def wait_for(what: Callable[[], Any], seconds: float = LONG, *, saying: str = "") -> Any:
    """Its value as soon as that is true."""
    end = time.monotonic() + seconds
    while True:
        found = what()
        if found:
            return found
        if time.monotonic() > end:
            pytest.fail(f"waited for {saying or what} in vain; it is {found!r}")
        time.sleep(0.02)


class Worker:
    """A worker's process, and what may be asked of it."""

    def __init__(self, arguments: list[str], environ: dict[str, str], app: str) -> None:
        self.port: int | None = None
        self.lines: list[str] = []
        self.has_line = threading.Condition()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tenant_q", "worker", app, "--health-port", "0", *arguments],
            env=environ,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
        )
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as lines:
            self._read_lines(lines)

    def _read_lines(self, lines: IO[str]) -> None:
        for line in lines:
            with self.has_line:
                self.lines.append(line.rstrip("\n"))
                if self.port is None and "http://" in line:
                    self.port = int(line.split("http://")[1].split("/")[0].rsplit(":", 1)[1])
                self.has_line.notify_all()

    @property
    def log(self) -> str:
        """All that it has written."""
        return "\n".join(self.lines)

    def wait_for_line(self, text: str, seconds: float = LONG) -> str:
        """The first line with this text."""
        end = time.monotonic() + seconds
        with self.has_line:
            while True:
                for line in self.lines:
                    if text in line:
                        return line
                if not self.has_line.wait(end - time.monotonic()):
                    pytest.fail(f"no line with {text!r} in:\n{self.log}")

    def ask(self, path: str = "/live") -> tuple[int, dict[str, Any]]:
        """A probe: status and facts; (0, {}) where nobody answers."""
        if self.port is None:
            return 0, {}
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())
        except OSError:
            return 0, {}

    def ready(self, seconds: float = LONG) -> Worker:
        """Waits until it takes tasks."""

        def is_ready() -> bool:
            if self.process.poll() is not None:
                pytest.fail(f"the worker has ended with {self.process.returncode}:\n{self.log}")
            return self.ask("/ready")[0] == 200

        wait_for(is_ready, seconds, saying=f"a worker that is ready:\n{self.log}")
        return self

    def children(self) -> list[int]:
        """Processes that are ready."""
        return [each["pid"] for each in self.ask()[1].get("children", ()) if each["ready"] and not each["retiring"]]

    def tasks(self) -> list[str]:
        """Ids of what its children have."""
        return [id for child in self.ask()[1]["children"] for id in child["tasks"]]

    def count(self, what: str) -> int:
        """One of its counters."""
        return int(self.ask()[1]["counts"][what])

    def stop(self, how: int = signal.SIGTERM, seconds: float = LONG) -> int:
        """Its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            pytest.fail(f"the worker doesn't stop:\n{self.log}")


class Place:
    """A tenant with its tasks declared and a table for effects."""

    def __init__(self, connection: psycopg.Connection[Any], tenant: str, environ: dict[str, str]) -> None:
        self.db, self.tenant, self.environ = connection, tenant, environ
        self.workers: list[Worker] = []
        connection.execute(f'CREATE TABLE "{tenant}".effect (n int, pid int)')
        self.sync()

    def sync(self, app: str = "worked:app", environ: dict[str, str] | None = None) -> None:
        """Declares the tasks."""
        command = [sys.executable, "-m", "tenant_q", "sync", app]
        ran = subprocess.run(command, env=environ or self.environ, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr

    def worker(self, *arguments: str, app: str = "worked:app", environ: dict[str, str] | None = None) -> Worker:
        """Starts one, for this tenant."""
        made = Worker(["--tenants", self.tenant, "-p", "1", *arguments], environ or self.environ, app)
        self.workers.append(made)
        return made

    def enqueue(self, task: str, *args: Any, **words: Any) -> str:
        """Its id."""
        more = "".join(f", {word} => %s" for word in words)
        handler = task if "." in task else f"worked.{task}"
        found = self.db.execute(
            f"SELECT tq_async(%s, %s::jsonb, tenant => %s{more})",
            [handler, json.dumps(args), self.tenant, *words.values()],
        ).fetchone()
        assert found is not None
        return str(found[0])

    def fetch(self, id: str) -> dict[str, Any]:
        """All about a task."""
        found = self.db.execute(
            "SELECT to_jsonb(x) FROM tq_fetch(%s::uuid, '0', %s) AS x", [id, self.tenant]
        ).fetchone()
        return found[0] if found else {}

    def state(self, id: str) -> str | None:
        return self.fetch(id).get("state")

    def ended(self, id: str, state: str = "done", seconds: float = LONG) -> dict[str, Any]:
        """Waits for its end: all about it."""
        ends = ("done", "failed", "cancelled", "expired", "quarantined")
        wait_for(lambda: self.state(id) in ends, seconds, saying=f"the end of {id}: {self.logs()}")
        found = self.fetch(id)
        assert found["state"] == state, (found, self.logs())
        return found

    def effects(self) -> list[int]:
        """Which were done, each as often as it was."""
        return [n for (n,) in self.db.execute(f'SELECT n FROM "{self.tenant}".effect ORDER BY n')]

    def running(self) -> list[str]:
        """Ids of tasks that a worker has."""
        sql = "SELECT id::text FROM tq_running WHERE tenant = %s"
        return [id for (id,) in self.db.execute(sql, [self.tenant])]

    def logs(self) -> str:
        """Of all workers."""
        return "\n".join(each.log for each in self.workers)

    def close(self) -> None:
        """Ends the workers."""
        for each in self.workers:
            if each.process.poll() is None:
                each.process.kill()
            each.process.wait()
            each.reader.join()


def environ_of(tenant: str, **more: str) -> dict[str, str]:
    """For a worker's process."""
    path = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, "WORKED_TENANT": tenant, **more}


@pytest.fixture
def place(db: psycopg.Connection[Any], tenant: str) -> Iterator[Place]:
    """A tenant of the tests' server."""
    made = Place(db, tenant, environ_of(tenant))
    yield made
    made.close()


class OwnServer:
    """A server that a test may restart."""

    def __init__(self, data: pathlib.Path, bin: str, library: str) -> None:
        self.data, self.bin = data, bin
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.conninfo = f"host=127.0.0.1 port={self.port} user=postgres dbname=postgres"

    def _as_postgres(self) -> dict[str, Any]:
        return {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}

    def make(self) -> None:
        self.data.parent.chmod(0o755)
        if os.geteuid() == 0:
            import shutil

            shutil.chown(self.data, "postgres", "postgres")
        command = [
            f"{self.bin}/initdb",
            "-D",
            str(self.data),
            "-A",
            "trust",
            "-U",
            "postgres",
            "--no-sync",
            "-E",
            "UTF8",
        ]
        subprocess.run(command, check=True, capture_output=True, **self._as_postgres())
        with open(self.data / "postgresql.conf", "a") as file:
            file.write(
                f"port = {self.port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = ''\nfsync = off\n"
                "shared_preload_libraries = 'tenant_q'\ntenant_q.max_crashes = 100\n"
            )
        self.control("start")

    def control(self, *what: str) -> None:
        """pg_ctl."""
        command = [f"{self.bin}/pg_ctl", "-D", str(self.data), "-w", "-l", str(self.data / "log"), *what]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **self._as_postgres())

    def connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.conninfo, autocommit=True)


@pytest.fixture(scope="session")
def own_server(server: psycopg.Connection[Any]) -> Iterator[OwnServer]:
    """A server of these tests alone, of the programs of the one that is there."""
    import tempfile

    row = server.execute("SELECT setting FROM pg_config WHERE name = 'BINDIR'").fetchone()
    assert row is not None
    with tempfile.TemporaryDirectory(prefix="tenant_q_") as folder:
        data = pathlib.Path(folder) / "data"
        data.mkdir()
        made = OwnServer(data, row[0], "tenant_q")
        made.make()
        try:
            with made.connect() as connection:
                connection.execute("CREATE EXTENSION tenant_q")
            yield made
        finally:
            made.control("stop", "-m", "immediate")


@pytest.fixture
def own_place(own_server: OwnServer) -> Iterator[Place]:
    """A tenant of that server."""
    name = f"t_{secrets.token_hex(5)}"
    with own_server.connect() as connection:
        connection.execute(f"CREATE SCHEMA {name}")
        connection.execute("SELECT tq_attach(%s)", [name])
        made = Place(connection, name, environ_of(name, WORKED_DATABASE=own_server.conninfo))
        yield made
        made.close()
