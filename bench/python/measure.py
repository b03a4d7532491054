"""Measures the three, one after the other (README.md)."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg

HERE = pathlib.Path(__file__).parent
BIN = pathlib.Path(sys.executable).parent
ROUNDS = 200


@contextlib.contextmanager
def processes(*commands: list[str], environ: dict[str, str]) -> Iterator[None]:
    """Workers, until the block ends."""
    begun = [
        subprocess.Popen(
            each, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        for each in commands
    ]
    try:
        yield
    finally:
        for each in begun:
            each.send_signal(signal.SIGTERM)
        for each in begun:
            try:
                each.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(each.pid, signal.SIGKILL)
                each.wait()


class System:
    """What is to be known of one of them."""

    name = ""
    database = ""
    #: the times at which tasks ended
    ends = ""
    count = ""

    def __init__(self) -> None:
        with psycopg.connect(autocommit=True) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {self.database} WITH (FORCE)")
            connection.execute(f"CREATE DATABASE {self.database}")
        self.set_up()
        self.db = psycopg.connect(dbname=self.database, autocommit=True)
        self.opened()

    def opened(self) -> None:
        """The connection that looks."""

    def set_up(self) -> None:
        """The tables."""

    def enqueue(self, n: int) -> None:
        """So many that do nothing."""
        raise NotImplementedError

    def stamp(self) -> None:
        """One that notes when it was begun."""
        raise NotImplementedError

    def workers(self) -> list[list[str]]:
        """Two processes' worth."""
        raise NotImplementedError

    def close(self) -> None:
        self.db.close()
        with psycopg.connect(autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {self.database} WITH (FORCE)")


class TenantQ(System):
    name, database = "tenant_q", "bench_tenant_q"
    ends = "SELECT extract(epoch FROM finished_at)::float8 FROM tq_results WHERE state = 'done'"
    count = "SELECT count(*) FROM tq_results WHERE state = 'done'"

    def set_up(self) -> None:
        with psycopg.connect(dbname=self.database, autocommit=True) as connection:
            connection.execute("CREATE EXTENSION tenant_q")
            connection.execute("CREATE SCHEMA bench")
            connection.execute("SELECT tq_attach('bench')")
        import tenant_q_side

        self.side = tenant_q_side
        self.side.app.sync()

    def opened(self) -> None:
        self.db.execute("SET search_path = bench, public")

    def enqueue(self, n: int) -> None:
        self.side.nothing.enqueue_many(() for _ in range(n))

    def stamp(self) -> None:
        self.side.stamp.enqueue()

    def workers(self) -> list[list[str]]:
        command = [sys.executable, "-m", "tenant_q", "worker", "tenant_q_side:app", "-p", "2", "--log-level", "warning"]
        return [command]

    def close(self) -> None:
        self.side.app.close_connections()
        super().close()


class Procrastinate(System):
    name, database = "procrastinate", "bench_procrastinate"
    ends = "SELECT extract(epoch FROM at)::float8 FROM procrastinate_events WHERE type = 'succeeded'"
    count = "SELECT count(*) FROM procrastinate_jobs WHERE status = 'succeeded'"

    def set_up(self) -> None:
        import procrastinate_side

        self.app = procrastinate_side.app
        self.app.open()
        self.app.schema_manager.apply_schema()

    def enqueue(self, n: int) -> None:
        self.app.tasks["nothing"].batch_defer(*({} for _ in range(n)))

    def stamp(self) -> None:
        self.app.tasks["stamp"].defer()

    def workers(self) -> list[list[str]]:
        return [[str(BIN / "procrastinate"), "--app", "procrastinate_side.app", "worker", "--concurrency", "1"]] * 2

    def close(self) -> None:
        self.app.close()
        super().close()


class DjangoQ(System):
    name, database = "django-q2", "bench_django_q"
    ends = "SELECT extract(epoch FROM stopped)::float8 FROM django_q_task"
    count = "SELECT count(*) FROM django_q_task"

    def set_up(self) -> None:
        os.environ["DJANGO_SETTINGS_MODULE"] = "django_q_side"
        from django.core.management import call_command

        import django

        django.setup()
        call_command("migrate", verbosity=0)
        from django_q.tasks import async_task

        self.async_task = async_task

    def enqueue(self, n: int) -> None:
        from django.db import transaction

        with transaction.atomic():
            for _ in range(n):
                self.async_task("django_q_side.nothing")

    def stamp(self) -> None:
        self.async_task("django_q_side.stamp")

    def workers(self) -> list[list[str]]:
        return [[sys.executable, "-m", "django", "qcluster"]]

    def close(self) -> None:
        from django.db import connections

        connections.close_all()
        super().close()


def wait_for(what: Callable[[], bool], seconds: float, every: float) -> None:
    """Until that is so."""
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(every)


def rate(system: System, n: int, environ: dict[str, str]) -> float:
    """Tasks a second."""
    system.enqueue(n)

    def done() -> bool:
        row: Any = system.db.execute(system.count).fetchone()
        return bool(row[0] >= n)

    with processes(*system.workers(), environ=environ):
        wait_for(done, 900, 1.0)
    ends = sorted(at for (at,) in system.db.execute(system.ends))
    tenth = len(ends) // 10
    return (len(ends) - 2 * tenth) / (ends[-tenth - 1] - ends[tenth])


def latency(system: System, stamps: pathlib.Path, environ: dict[str, str]) -> tuple[float, float]:
    """Milliseconds: the middle one, and that which 99 of 100 are within."""
    took: list[float] = []

    def begun() -> list[float]:
        return [float(line) for line in stamps.read_text().split("\n") if line]

    with processes(*system.workers(), environ=environ):
        for n in range(ROUNDS + 20):
            at = time.time()
            system.stamp()
            wait_for(lambda n=n: len(begun()) > n, 120, 0.002)  # type: ignore[misc]
            if n >= 20:
                took.append((begun()[n] - at) * 1000)
            time.sleep(0.02)
    took.sort()
    return statistics.median(took), took[int(len(took) * 0.99)]


def main() -> None:
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    only = sys.argv[2:]
    print(f"load of the machine at the begin: {os.getloadavg()[0]:.1f}, processors: {os.cpu_count()}", flush=True)
    print(f"{'':15} {'tasks/s':>9} {'p50 ms':>9} {'p99 ms':>9}", flush=True)
    for kind, tasks in ((TenantQ, n), (Procrastinate, min(n, 5000)), (DjangoQ, min(n, 1000))):
        if only and kind.name not in only:
            continue
        with tempfile.TemporaryDirectory() as folder:
            stamps = pathlib.Path(folder) / "stamps"
            stamps.touch()
            environ = {
                **os.environ,
                "PYTHONPATH": str(HERE),
                "BENCH_STAMPS": str(stamps),
                "DJANGO_SETTINGS_MODULE": "django_q_side",
            }
            system = kind()
            try:
                fast = rate(system, tasks, environ)
                middle, most = latency(system, stamps, environ)
            finally:
                system.close()
            print(f"{system.name:15} {fast:9.0f} {middle:9.1f} {most:9.1f}", flush=True)


if __name__ == "__main__":
    main()
