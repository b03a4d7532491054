"""Tasks that workers run, and how they are ended."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from .conftest import Place, wait_for


def test_results_and_effects(place: Place) -> None:
    place.worker("-p", "2").ready()
    ids = [place.enqueue("note", n) for n in range(50)]
    assert [place.ended(id)["result"] for id in ids] == list(range(50))
    assert place.effects() == list(range(50))


def test_a_large_task_arrives(place: Place) -> None:
    place.worker().ready()
    sizes = [10, 31_900, 32_100, 500_000]
    ids = [place.enqueue("long_text", "ä" * size) for size in sizes]
    assert [place.ended(id)["result"] for id in ids] == sizes


@pytest.mark.parametrize("task", ["sleeps", "sleeps_in_sql", "sleeps_async", "keeps_gil"])
def test_a_timeout_ends_it(place: Place, task: str) -> None:
    worker = place.worker().ready()
    first = worker.children()
    id = place.enqueue(task)
    found = place.ended(id, "failed")
    assert "time is over" in found["error"]["message"]
    after = place.enqueue("who")
    process = place.ended(after)["result"]
    assert (process in first) == (task != "keeps_gil")
    assert worker.count("timeouts") == 1


@pytest.mark.parametrize("threads", ["1", "3"])
def test_cancel_ends_it(place: Place, threads: str) -> None:
    worker = place.worker("--threads", threads).ready()
    id = place.enqueue("sleeps_in_sql", timeout="1 hour")
    wait_for(lambda: id in place.running())
    wait_for(lambda: any(each["tasks"] for each in worker.ask()[1]["children"]))
    place.db.execute("SELECT tq_cancel(%s::uuid, true, %s)", [id, place.tenant])
    wait_for(lambda: not any(each["tasks"] for each in worker.ask()[1]["children"]), saying="the end of the task")
    assert place.state(id) in (None, "cancelled")
    assert place.ended(place.enqueue("who"))["result"] in worker.children()


def test_cancel_is_asked_for(place: Place) -> None:
    worker = place.worker("--threads", "2").ready()
    id = place.enqueue("asks")
    wait_for(lambda: id in worker.tasks())
    place.db.execute("SELECT tq_cancel(%s::uuid, true, %s)", [id, place.tenant])
    wait_for(lambda: not place.running())
    assert place.ended(place.enqueue("who"))["result"] in worker.children()


def test_a_process_of_a_task_ends_with_it(place: Place) -> None:
    place.worker().ready()
    before = _sleepers()
    id = place.enqueue("starts_process", timeout="1 second")
    wait_for(lambda: len(_sleepers()) > len(before), saying="the process")
    place.ended(id, "failed")
    wait_for(lambda: _sleepers() == before, saying="its end")


def _sleepers() -> set[str]:
    found = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if file.read() == b"sleep\x00301\x00":
                    found.add(pid)
        except OSError:
            pass
    return found


def test_a_dead_process_costs_no_attempt(place: Place, tmp_path: Any) -> None:
    worker = place.worker().ready()
    id = place.enqueue("dies", str(tmp_path / "marker"))
    found = place.ended(id)
    assert found["result"] == "lives"
    assert worker.count("crashed") == 1
    rows = place.db.execute("SELECT to_jsonb(x) FROM tq_attempts(%s::uuid, %s) AS x", [id, place.tenant]).fetchall()
    assert "crashed" in str(rows) or len(rows) <= 1


def test_what_always_kills_its_process_is_quarantined(place: Place) -> None:
    place.worker("-p", "2").ready()
    id = place.enqueue("dies_always")
    others = [place.enqueue("note", n) for n in range(20)]
    place.ended(id, "quarantined")
    for each in others:
        place.ended(each)
    assert place.effects() == list(range(20))


def test_of_several_threads_the_one_that_kills_is_found(place: Place) -> None:
    place.worker("--threads", "4").ready()
    id = place.enqueue("dies_always")
    others = [place.enqueue("note", n, 0.2) for n in range(12)]
    place.ended(id, "quarantined")
    for each in others:
        place.ended(each)
    assert place.effects() == list(range(12))


def test_a_process_is_replaced_after_max_tasks(place: Place) -> None:
    worker = place.worker("--max-tasks", "5").ready()
    ids = [place.enqueue("who") for _ in range(23)]
    processes = [place.ended(id)["result"] for id in ids]
    assert all(processes.count(each) <= 5 for each in processes)
    assert worker.count("spawned") >= 5


def test_a_process_is_replaced_after_it_has_grown(place: Place) -> None:
    place.worker("--max-memory", "150M").ready()
    ids = [place.enqueue("eats", 200_000_000) for _ in range(3)]
    processes = [place.ended(id)["result"] for id in ids]
    assert len(set(processes)) == 3


def test_what_waits_behind_a_long_one_goes_to_others(place: Place) -> None:
    worker = place.worker("-p", "2").ready()
    for id in [place.enqueue("nothing") for _ in range(300)]:
        place.ended(id)
    wait_for(lambda: len(worker.children()) == 2)
    long = place.enqueue("waits", 1)
    ids = [place.enqueue("who") for _ in range(60)]
    for id in ids:
        place.ended(id)
    assert place.state(long) not in ("done", "failed")
    assert worker.stop(signal.SIGKILL) == -signal.SIGKILL


def test_two_workers_do_what_they_offer(place: Place) -> None:
    one = place.worker("--handlers", "worked.note").ready()
    other = place.worker("--handlers", "worked.who").ready()
    notes = [place.enqueue("note", n) for n in range(10)]
    whos = [place.enqueue("who") for _ in range(10)]
    for id in notes:
        place.ended(id)
    assert {place.ended(id)["result"] for id in whos} <= set(other.children())
    pids = {pid for (pid,) in place.db.execute(f'SELECT pid FROM "{place.tenant}".effect')}
    assert pids <= set(one.children())


def test_memory_stays(place: Place) -> None:
    """Over many tasks, neither the supervisor nor a child grows."""
    worker = place.worker().ready()
    [child] = worker.children()

    def run(n: int) -> None:
        sql = "SELECT count(tq_async('worked.nothing', tenant => %s)) FROM generate_series(1, %s)"
        done = worker.count("done")
        place.db.execute(sql, [place.tenant, n])
        wait_for(lambda: worker.count("done") >= done + n, 180, saying="all")

    run(2000)
    before = [_resident(child), _resident(worker.process.pid)]
    run(int(os.environ.get("TENANT_Q_MANY", "4000")))
    grown = [_resident(child) - before[0], _resident(worker.process.pid) - before[1]]
    assert max(grown) < 3 << 20, grown


def _resident(pid: int) -> int:
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_burst_ends_when_nothing_is_due(place: Place) -> None:
    ids = [place.enqueue("note", n) for n in range(40)]
    later = place.enqueue("note", 99, delay="1 hour")
    worker = place.worker("--burst", "-p", "2")
    assert worker.process.wait(90) == 0, worker.log
    assert [place.state(id) for id in ids] == ["done"] * 40
    assert place.state(later) not in ("done", "failed")
    assert place.effects() == list(range(40))
