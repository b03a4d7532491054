"""Whatever is killed at whatever moment: nothing is lost, nothing is done twice."""

from __future__ import annotations

import os
import random
import signal
import socket
import threading
from typing import Any

from .conftest import OwnServer, Place, Worker, environ_of, wait_for

KILLS = int(os.environ.get("TENANT_Q_KILLS", "100"))


def _more(place: Place, first: int, n: int) -> None:
    place.db.execute(
        "SELECT count(tq_async('worked.note', jsonb_build_array(x, 0.01), tenant => %s))"
        " FROM generate_series(%s::int, %s::int) AS x",
        [place.tenant, first, first + n - 1],
    )


def _left(place: Place) -> int:
    row = place.db.execute("SELECT tq_queue_size(NULL, %s)", [place.tenant]).fetchone()
    assert row is not None
    return int(row[0])


def _is_all_done(place: Place) -> bool:
    """What runs isn't in the queue any more."""
    return _left(place) == 0 and not place.running() and _left(place) == 0


def _kill(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def test_kill_9_of_children_and_parents(own_place: Place) -> None:
    """Two workers of two processes; each kill hits one that has done something since the one before."""
    place, chance = own_place, random.Random(20260101)
    workers = [place.worker("-p", "2").ready() for _ in range(2)]
    enqueued = kills = parents = 0
    while kills < KILLS:
        if _left(place) < 100:
            _more(place, enqueued, 300)
            enqueued += 300
        n = chance.randrange(2)
        before = len(place.effects())
        wait_for(lambda before=before: len(place.effects()) > before, saying=f"work: {workers[n].log[-2000:]}")
        if chance.random() < 0.25:
            assert _kill(workers[n].process.pid)
            parents += 1
            workers[n].process.wait()
            workers[n] = place.worker("-p", "2")
            kills += 1
        else:
            children = workers[n].children()
            kills += bool(children) and _kill(chance.choice(children))
    wait_for(lambda: _is_all_done(place), 180, saying="the end of all")
    assert place.effects() == list(range(enqueued))
    assert parents > 0
    assert [worker.stop() for worker in workers] == [0, 0]


def test_children_end_with_their_parent(place: Place) -> None:
    worker = place.worker("-p", "2").ready()
    wait_for(lambda: len(worker.children()) == 2)
    children = worker.children()
    id = place.enqueue("keeps_gil", timeout="1 hour")
    wait_for(lambda: id in worker.tasks())
    worker.stop(signal.SIGKILL)
    wait_for(lambda: not any(_lives(pid) for pid in children))
    # Uncounted, when the server has noticed it.
    wait_for(lambda: place.fetch(id)["attempt"] == 0)


def _lives(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_a_restart_of_the_server(own_place: Place, own_server: OwnServer) -> None:
    place = own_place
    worker = place.worker("-p", "2").ready()
    for round in range(3):
        _more(place, round * 200, 200)
        wait_for(lambda round=round: len(place.effects()) > round * 200 + 20)
        own_server.control("restart", "-m", "immediate" if round % 2 else "fast")
        place.db.close()
        place.db = own_server.connect()
        wait_for(lambda: _is_all_done(place), saying="all to be done after the restart")
        assert place.effects() == list(range((round + 1) * 200))
    worker.ready()
    place.db.close()
    assert worker.stop() == 0


def test_the_end_of_its_session(place: Place) -> None:
    """What it had taken isn't its any more, and is interrupted before it runs elsewhere."""
    worker = place.worker("--name", place.tenant).ready()
    [child] = worker.children()
    id = place.enqueue("note", 1, 2.0)
    wait_for(lambda: id in place.running())
    place.db.execute("SELECT pg_terminate_backend(pid) FROM tq_workers WHERE name = %s AND pid > 0", [place.tenant])
    worker.wait_for_line("the connection is lost")
    place.ended(id)
    assert place.effects() == [1]
    assert worker.children() == [child]
    assert worker.stop() == 0


class Proxy:
    """Stands between a worker and the server: the cable."""

    def __init__(self, to: tuple[str, int]) -> None:
        self.to = to
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.forwards = threading.Event()
        self.forwards.set()
        self.accepts = True
        self.sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                one, _ = self.listener.accept()
            except OSError:
                return
            if not self.accepts:
                one.close()
                continue
            other = socket.create_connection(self.to)
            self.sockets += [one, other]
            for a, b in ((one, other), (other, one)):
                threading.Thread(target=self._copy, args=(a, b, self.forwards), daemon=True).start()

    @staticmethod
    def _copy(a: socket.socket, b: socket.socket, forwards: threading.Event) -> None:
        try:
            while data := a.recv(65536):
                forwards.wait()
                b.sendall(data)
        except OSError:
            pass
        for each in (a, b):
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def cut(self) -> None:
        """Nothing comes through any more, and nobody is told."""
        self.forwards.clear()

    def mend(self) -> None:
        """For new connections; the old ones stay cut."""
        self.forwards = threading.Event()
        self.forwards.set()

    def close(self) -> None:
        self.listener.close()
        for each in self.sockets:
            each.close()


def test_a_cable_that_is_cut(own_place: Place, own_server: OwnServer) -> None:
    """The worker gives up what it has before the server starts it again; a stranger to the connection sees one
    effect."""
    place = own_place
    place.db.execute("ALTER SYSTEM SET tenant_q.worker_lease = '12s'")
    place.db.execute("SELECT pg_reload_conf()")
    proxy = Proxy(("127.0.0.1", own_server.port))
    try:
        worker = place.worker("--control", f"host=127.0.0.1 port={proxy.port} user=postgres dbname=postgres").ready()
        id = place.enqueue("note", 1, 30.0)
        wait_for(lambda: id in worker.tasks())
        proxy.cut()
        worker.wait_for_line("the connection is lost")
        worker.wait_for_line("lost: is interrupted")
        assert id in place.running(), "the server has started nothing anew so far"
        proxy.mend()
        wait_for(lambda: id not in place.running() or place.fetch(id)["attempt"] == 0)
        place.ended(id, seconds=150)
        assert place.effects() == [1]
        assert worker.stop() == 0
    finally:
        proxy.close()
        place.db.execute("ALTER SYSTEM RESET tenant_q.worker_lease")
        place.db.execute("SELECT pg_reload_conf()")


def test_a_pooler_is_refused(place: Place) -> None:
    """One that gives the client another key than the backend's, as poolers do."""
    row = place.db.execute("SELECT setting FROM pg_settings WHERE name = 'port'").fetchone()
    assert row is not None
    pooler = Pooler(("127.0.0.1", int(row[0])))
    try:
        worker = Worker(
            ["-p", "1", "--control", f"host=127.0.0.1 port={pooler.port} sslmode=disable gssencmode=disable"],
            environ_of(place.tenant),
            "worked:app",
        )
        place.workers.append(worker)
        assert worker.process.wait(60) == 2
        worker.reader.join()
        assert "goes through a pooler" in worker.log
        assert "--control" in worker.log
    finally:
        pooler.close()


class Pooler(Proxy):
    """Changes the process id in BackendKeyData."""

    @staticmethod
    def _copy(a: socket.socket, b: socket.socket, forwards: Any) -> None:
        key = b"K\x00\x00\x00\x0c"
        try:
            while data := a.recv(65536):
                at = data.find(key)
                if at >= 0:
                    data = data[: at + 5] + b"\x00\x00\x00\x07" + data[at + 9 :]
                b.sendall(data)
        except OSError:
            pass
