"""How workers begin and end, and what others hear of them."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import psycopg
import pytest

from .conftest import Place, environ_of, wait_for


def test_a_stop_lets_tasks_end_and_costs_nothing(place: Place) -> None:
    worker = place.worker("-p", "2").ready()
    ids = [place.enqueue("note", n, 1.0) for n in range(6)]
    wait_for(lambda: len(worker.tasks()) >= 2)
    assert worker.stop() == 0
    assert not place.running()
    done = [id for id in ids if place.state(id) == "done"]
    assert 2 <= len(done) < 6
    assert len(place.effects()) == len(done)
    place.worker("-p", "2").ready()
    for id in ids:
        assert place.ended(id)["attempt"] == 1
    assert place.effects() == list(range(6))


def test_what_does_not_end_within_stop_grace_goes_back(place: Place) -> None:
    worker = place.worker("--stop-grace", "100ms").ready()
    id = place.enqueue("note", 1, 300)
    wait_for(lambda: id in worker.tasks())
    begin = time.monotonic()
    assert worker.stop() == 0
    assert time.monotonic() - begin < 60
    assert place.effects() == []
    assert place.fetch(id)["attempt"] == 0
    assert place.state(id) not in ("done", "failed")


def test_what_keeps_the_gil_goes_back_too(place: Place) -> None:
    worker = place.worker("--stop-grace", "100ms").ready()
    id = place.enqueue("keeps_gil", timeout="1 hour")
    wait_for(lambda: id in worker.tasks())
    assert worker.stop() == 0
    assert place.fetch(id)["attempt"] == 0


def test_a_second_signal_ends_it_at_once(place: Place) -> None:
    worker = place.worker("--stop-grace", "1h").ready()
    id = place.enqueue("note", 1, 300)
    wait_for(lambda: id in worker.tasks())
    worker.process.send_signal(signal.SIGTERM)
    worker.wait_for_line("stops: SIGTERM")
    assert worker.stop() == 1
    assert place.fetch(id)["attempt"] == 0
    place.worker().ready()
    wait_for(lambda: id in place.running(), saying="it runs elsewhere")


def test_probes(place: Place, tmp_path: pathlib.Path) -> None:
    file = tmp_path / "health"
    worker = place.worker("--health-file", str(file)).ready()
    status, facts = worker.ask("/ready")
    assert (status, facts["ready"], facts["connected"]) == (200, True, True)
    assert facts["pid"] == worker.process.pid
    assert worker.ask("/live")[0] == 200
    assert worker.ask("/other")[0] == 404
    wait_for(file.exists)
    before = file.stat().st_mtime_ns
    wait_for(lambda: file.stat().st_mtime_ns > before)
    place.enqueue("note", 1, 300)
    wait_for(place.running)
    worker.process.send_signal(signal.SIGTERM)
    wait_for(lambda: worker.ask("/ready")[0] == 503)


def test_systemd_hears_of_it(place: Place, tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(path)
        systemd.settimeout(60)
        environ = {**place.environ, "NOTIFY_SOCKET": path, "WATCHDOG_USEC": "600000"}
        worker = place.worker(environ=environ)
        heard = systemd.recv(4096).decode()
        while "READY=1" not in heard:
            heard = systemd.recv(4096).decode()
        assert f"MAINPID={worker.process.pid}" in heard
        while "WATCHDOG=1" not in heard:
            heard = systemd.recv(4096).decode()
        worker.process.send_signal(signal.SIGTERM)
        while "STOPPING=1" not in heard:
            heard = systemd.recv(4096).decode()
        assert worker.process.wait(60) == 0


def test_lines_of_the_log_are_json(place: Place) -> None:
    worker = place.worker("--log-format", "json").ready()
    id = place.enqueue("note", 1)
    place.ended(id)
    line = json.loads(worker.wait_for_line(id))
    assert (line["level"], line["message"], line["handler"], line["tenant"]) == (
        "info",
        "done",
        "worked.note",
        place.tenant,
    )
    failed = place.enqueue("sleeps")
    place.ended(failed, "failed")
    line = next(each for each in map(json.loads, worker.lines) if each.get("task") == failed and "traceback" in each)
    assert "time.sleep(300)" in line["traceback"]


SOURCE = """
import os
from tenant_q import App, task
app = App(os.environ.get("WORKED_DATABASE", ""), tenant=os.environ["WORKED_TENANT"])

@task
def answer() -> int:
    return {}
"""


def test_reload(place: Place, tmp_path: pathlib.Path) -> None:
    file = tmp_path / "changing.py"
    file.write_text(SOURCE.format(1))
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    environ = environ_of(place.tenant, PYTHONPATH=path, PYTHONDONTWRITEBYTECODE="1")
    place.sync("changing:app", environ)
    worker = place.worker("--reload", app="changing:app", environ=environ).ready()
    assert place.ended(place.enqueue("changing.answer"))["result"] == 1
    file.write_text(SOURCE.format("22"))
    worker.wait_for_line("has changed")
    wait_for(lambda: place.ended(place.enqueue("changing.answer"))["result"] == 22)
    file.write_text(SOURCE.format("(("))
    worker.wait_for_line("waits for a change")
    file.write_text(SOURCE.format("3333"))
    wait_for(lambda: place.ended(place.enqueue("changing.answer"))["result"] == 3333)
    assert worker.stop() == 0


# What it can't begin with.


def _fails(place: Place, *arguments: str, **environ: str) -> str:
    command = [sys.executable, "-m", "tenant_q", "worker", "-p", "1", *arguments]
    ran = subprocess.run(
        command, env={**place.environ, **environ}, capture_output=True, text=True, timeout=120, check=False
    )
    assert ran.returncode == 2, ran.stderr
    return ran.stderr


@pytest.mark.parametrize(
    ("app", "says"),
    [
        ("nowhere:app", ["no module nowhere", "HINT: Start it in the folder"]),
        ("worked:empty", ["has no App called empty", "HINT: Say module:name"]),
        ("worked:other", ["has no App called other"]),
        ("json:dumps", ["can't be loaded"]),
    ],
)
def test_an_app_that_is_none(place: Place, app: str, says: list[str]) -> None:
    said = _fails(place, app)
    assert all(each in said for each in says), said


def test_a_task_that_is_not_offered(place: Place) -> None:
    said = _fails(place, "worked:app", "--handlers", "worked.nonsense")
    assert "no task worked.nonsense" in said
    assert "worked.note" in said


def test_an_option_that_makes_no_sense(place: Place) -> None:
    assert "processes is 0" in _fails(place, "worked:app", "-p", "0")
    assert "is no size" in _fails(place, "worked:app", "--max-memory", "much")


def test_a_database_without_the_extension(place: Place, db: psycopg.Connection) -> None:
    name = f"without_{place.tenant}"
    db.execute(f"CREATE DATABASE {name}")
    try:
        said = _fails(place, "worked:app", WORKED_DATABASE=f"dbname={name}")
        assert "hasn't the extension tenant_q" in said
        assert "HINT: CREATE EXTENSION" in said
        db.execute("SELECT 1")
        with psycopg.connect(dbname=name, autocommit=True) as there:
            there.execute("CREATE EXTENSION tenant_q")
            there.execute("CREATE OR REPLACE FUNCTION tenant_q.protocol() RETURNS int LANGUAGE sql AS 'SELECT 2'")
        said = _fails(place, "worked:app", WORKED_DATABASE=f"dbname={name}")
        assert "version 2 of the workers' protocol" in said
        assert "HINT: Install the django-tenant-q" in said
    finally:
        db.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_a_role_without_any_right(place: Place, db: psycopg.Connection) -> None:
    """It may connect, and gets nothing to do."""
    name = f"r_{place.tenant}"
    db.execute(f"CREATE ROLE {name} LOGIN")
    try:
        worker = place.worker("--burst", environ={**place.environ, "WORKED_DATABASE": f"user={name}"})
        id = place.enqueue("note", 1)
        worker.process.wait(90)
        assert place.state(id) not in ("done", "failed")
    finally:
        place.close()
        db.execute(f"DROP ROLE {name}")


def test_a_role_that_there_is_not(place: Place) -> None:
    said = _fails(place, "worked:app", WORKED_DATABASE="user=nobody_at_all")
    assert "can't connect" in said
    assert "--control" in said


def test_the_command_line(place: Place) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "tenant_q", *arguments]
        return subprocess.run(command, env=place.environ, capture_output=True, text=True, check=False)

    assert (run("sync", "worked:app", "--check").returncode, run("sync", "worked:app", "--check").stdout) == (
        0,
        "everything is declared\n",
    )
    place.worker("--name", f"w-{place.tenant}").ready()
    wait_for(lambda: f"w-{place.tenant}" in run("info", "worked:app").stdout)
    facts = json.loads(run("info", "worked:app", "--json").stdout)
    assert "worked.note" in [each["name"] for each in facts["tasks"]]
    assert facts["protocol"] == facts["protocol_of_this_package"]
