"""The supervising process: it takes tasks for its children, hears for them, and looks after them. No code of the
application runs in it, so that nothing keeps it from its sign of life.

One coroutine, `_pump`, talks to the server; `_tick` looks at clocks; what children say comes in between. Whatever has
to be said to the server by somebody else is an order, which the pump carries out.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import signal
import time
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from .. import errors
from . import health
from .children import Child, Held, signal_name
from .control import Control, Lost
from .logs import set_up
from .notify import Systemd
from .options import WorkerOptions
from .reload import Files

__all__ = ["Supervisor", "run"]

log = logging.getLogger("tenant_q.worker")

#: seconds between two looks at the clocks
TICK = 0.25
#: between two signs of life of a worker that has tasks, and so until a cancel is heard of at most
WATCH = 0.5
#: between two questions whether what it has is its still
ASK_FOR_LOST = 5.0
#: one wait for tasks
WAIT = 5.0
#: of work that one thread may have in store, seconds; and in tasks
STORE, MOST_STORED = 0.03, 48
#: a child that says nothing for so long gives back what it has in store
SILENCE = 0.1
#: what was taken and finds no child goes back to the server after so long
UNPLACED = 1.0
#: who is told that the claim is lost has so long
LOST_GRACE = 2.0

_TIMEOUT = {
    "message": "the task's time is over, and its process was ended",
    "class": "tenant_q.errors.Cancelled",
    "sqlstate": "57014",
}

Order = Callable[[Control], Coroutine[Any, Any, Any]]


class Supervisor:
    """A worker. `main()` is its life."""

    def __init__(self, options: WorkerOptions) -> None:
        self.options = options
        self.control: Control | None = None
        self.children: dict[int, Child] = {}
        self.pending: deque[Held] = deque()
        self.orders: deque[Order] = deque()
        self.event = asyncio.Event()
        self.systemd = Systemd()
        self.files = Files()
        #: tasks of which one may have ended a process that had several: they are run alone
        self.suspects: set[str] = set()
        #: seconds of a task, the long ones above all
        self.slow = 1.0
        self.count = dict.fromkeys(("taken", "done", "failed", "released", "lost", "crashed", "timeouts", "spawned"), 0)
        self.was_ready = False
        self.stopping = False
        self.at_once = False
        self.stop_at = 0.0
        self.watched = 0.0
        self.asked = 0.0
        self.contact = 0.0
        #: not before then a child is started; and how long until then next time
        self.spawn_at, self.spawn_wait = 0.0, 0.0
        #: the application can't be loaded: nothing is started until one of its files changes
        self.broken = False
        self.fatal: errors.TenantQError | None = None
        self._number = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self._starting = 0
        self._http: asyncio.Server | None = None

    # Its life.

    async def main(self) -> int:
        """0 after a graceful stop."""
        loop = asyncio.get_running_loop()
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(each, self.stop, each.name)
        loop.add_signal_handler(signal.SIGHUP, self.replace_all, "SIGHUP")
        if self.options.health_port is not None:
            self._http = await health.serve(self.options.health_host, self.options.health_port, self.facts)
            port = self._http.sockets[0].getsockname()[1]
            log.info("answers probes at http://%s:%s/ready", self.options.health_host, port)
        ticker = asyncio.create_task(self._tick_for_ever())
        try:
            await self._begin()
            await self._pump()
            await self._end_children()
        finally:
            self.stopping = True
            ticker.cancel()
            for child in self.children.values():
                child.kill()
            if self.control is not None:
                await self.control.close()
            if self._http is not None:
                self._http.close()
        log.info("has stopped", extra={"worker": self.options.name})
        return 1 if self.at_once else 0

    async def _begin(self) -> None:
        """Until a child is ready, and the server there."""
        self.keep_up()
        while not any(child.ready for child in self.children.values()):
            await self._next_event(None)
            if self.fatal is not None:
                raise self.fatal
            if self.stopping:
                return
        await self._connect()

    async def _connect(self) -> None:
        """Tries until it is connected, or is to stop and has nothing to say."""
        control = self.control
        if control is None:
            child = next(child for child in self.children.values() if child.ready)
            options = self.options
            conninfo = options.control or child.names[0]
            control = Control(conninfo, child.names[1:], options.queues, options.tenants, options.name or "")
            self.control = control
        wait = 0.1
        while control.connection is None and not (self.stopping and not self.busy()):
            try:
                await control.connect()
                break
            except Lost as error:
                log.error("can't connect, tries again in %.1f s: %s", wait, error)
            except errors.TenantQError as error:
                if not self.was_ready:
                    raise
                log.error("can't work, tries again in %.1f s: %s", wait, error)
            await self._next_event(wait * random.uniform(0.8, 1.2))
            wait = min(wait * 2, 10.0)
        if control.connection is None:
            return
        self.contact = time.monotonic()
        log.info(
            "works, offers %s tasks",
            len(control.handlers),
            extra={"worker": self.options.name, "child": self.options.processes},
        )
        if not self.was_ready:
            self.was_ready = True
            self.systemd.tell(READY=1, MAINPID=os.getpid(), STATUS="takes tasks")

    async def _next_event(self, seconds: float | None) -> None:
        try:
            await asyncio.wait_for(self.event.wait(), seconds)
        except TimeoutError:
            pass
        self.event.clear()

    async def _end_children(self) -> None:
        """They have nothing to do any more."""
        for child in self.children.values():
            child.close()
        end = time.monotonic() + (0.0 if self.at_once else 5.0)
        while self.children:
            await self._next_event(0.1)
            if time.monotonic() > end:
                for child in self.children.values():
                    child.kill()

    # Talking to the server.

    async def _pump(self) -> None:
        while True:
            control = self.control
            if control is None or control.connection is None:
                if control is not None and not (self.stopping and not self.busy()):
                    await self._connect()
                if control is None or control.connection is None:
                    return
            try:
                if await self._turn(control):
                    return
            except Lost as error:
                self._lose(error)
            except errors.TenantQError as error:
                log.error("%s", error)
                await self._next_event(1.0)

    async def _turn(self, control: Control) -> bool:
        """One round: says what is to be said, takes, waits. True: it is over."""
        self.contact = time.monotonic()
        while self.orders:
            order = self.orders.popleft()
            await order(control)
        self.hand_out()
        busy = self.busy()
        if self.stopping and not busy:
            return not self.orders
        if busy and time.monotonic() - self.watched >= WATCH:
            await self._watch(control)
        n = self.wanted()
        if not n:
            await self._next_event(WATCH)
            return False
        rows = await control.take(n)
        now = time.monotonic()
        for row in rows:
            self.pending.append(Held(row, None if row.left is None else now + row.left, since=now))
        if rows:
            self.count["taken"] += len(rows)
            if self.stopping:
                self._give_back_pending("the worker stops")
            return False
        if self.options.burst and not self.busy():
            self.stop("nothing is due")
        if not (self.stopping or self.orders):
            self.event.clear()
            await control.wait(min(WAIT, control.lease / 4))
            if self.busy():
                await self._watch(control)
        return False

    async def _watch(self, control: Control) -> None:
        now = self.watched = time.monotonic()
        claims: list[str] | None = None
        if now - self.asked >= ASK_FOR_LOST:
            self.asked = now
            claims = [held.row.claim for held in self.pending]
            claims += [claim for child in self.children.values() for claim in child.held]
        for claim, what in await control.watch(claims or None):
            self.hear_news(claim, what)

    def order(self, order: Order) -> None:
        """Has the pump say something to the server, soon."""
        self.orders.append(order)
        self.call()

    def call(self) -> None:
        """Calls the pump back from whatever it waits for."""
        self.event.set()
        if self.control is not None:
            self.control.call_back()

    def release(self, held: Held, reason: str, *, crashed: bool = False, delay: str | None = None) -> None:
        """Gives a task back to the server."""
        claim = held.row.claim
        self.count["released"] += 1

        async def tell(control: Control) -> None:
            await control.release(claim, reason=reason, crashed=crashed, delay=delay)

        self.order(tell)

    def give_up(self, held: Held, error: dict[str, Any]) -> None:
        """An attempt has failed."""
        claim, text = held.row.claim, json.dumps(error)
        self.count["failed"] += 1

        async def tell(control: Control) -> None:
            await control.give_up(claim, text)

        self.order(tell)

    def _lose(self, error: BaseException) -> None:
        """The connection is gone, and what was taken isn't ours any more: it must have ended before the server starts
        it again."""
        log.error("the connection is lost, and with it what was taken: %s", error)
        self.orders.clear()
        self.count["lost"] += len(self.pending)
        self.pending.clear()
        for child in self.children.values():
            self.count["lost"] += len(child.take_back()) + len(child.held)
            for held in child.held.values():
                self.end_soon(child, held, "lost", LOST_GRACE)

    # Handing out.

    def busy(self) -> bool:
        """Whether something is taken, or to be said."""
        return bool(self.pending or self.orders) or any(child.held for child in self.children.values())

    def _store(self) -> int:
        """How many tasks a child may have in store: none, unless all are short."""
        return min(MOST_STORED, int(STORE / self.slow)) if self.options.look_ahead else 0

    def _room(self, child: Child, store: int) -> int:
        if not child.ready or child.retiring or child.alone:
            return 0
        room = self.options.threads + store - len(child.held)
        return min(room, self.options.max_tasks - child.given) if self.options.max_tasks else room

    def wanted(self) -> int:
        """How many tasks to take now. What is in store is filled up when half of it is gone."""
        if self.stopping:
            return 0
        store = self._store()
        room, idle = -len(self.pending), False
        for child in self.children.values():
            some = self._room(child, store)
            if some > 0:
                room += some
                idle = idle or len(child.held) < self.options.threads
        return room if room > 0 and (idle or room * 2 >= store * self.options.processes) else 0

    def hand_out(self) -> None:
        """Gives what was taken to children that have room."""
        pending = self.pending
        if not pending or self.stopping:
            return
        store = self._store()
        kept: list[Held] = []
        while pending:
            held = pending.popleft()
            child = self._child_for(held, store)
            if child is None or not child.give(held):
                kept.append(held)
                if held.row.id not in self.suspects:
                    break
            elif self.options.max_tasks and child.given >= self.options.max_tasks:
                self.retire(child)
        pending.extendleft(reversed(kept))

    def _child_for(self, held: Held, store: int) -> Child | None:
        best: Child | None = None
        suspect = held.row.id in self.suspects
        for child in self.children.values():
            if self._room(child, store) > 0 and (best is None or len(child.held) < len(best.held)):
                best = child
        if best is not None and suspect:
            if best.held:
                return None
            best.alone = True
        return best

    def take_back(self, child: Child) -> None:
        """What a child hasn't begun can be given to others."""
        back = child.take_back()
        for held in back:
            held.since = time.monotonic()
        self.pending.extendleft(reversed(back))

    def _give_back_pending(self, reason: str) -> None:
        while self.pending:
            self.release(self.pending.popleft(), reason)

    # Hearing.

    def hear(self, child: Child, message: list[Any]) -> None:
        """What a child says."""
        kind = message[0]
        if kind == "end":
            self._hear_end(child, *message[1:])
        elif kind == "names":
            child.names.extend(message[1])
        elif kind == "files":
            self.files.add(message[1])
        elif kind == "ready":
            self._hear_ready(child, message[1])
        elif kind == "failed":
            child.failure = message[1]

    def _hear_ready(self, child: Child, facts: dict[str, Any]) -> None:
        child.ready = True
        self.spawn_wait = 0.0
        log.debug("a process is ready", extra={"child": child.pid})
        child.names.insert(0, facts["database"])
        if self.control is not None:
            self.control.handlers = child.names[1:]
        self.call()

    def _hear_end(
        self, child: Child, claim: str, kind: str, seconds: float, error: dict[str, Any] | None, full: bool
    ) -> None:
        held = child.held.pop(claim, None)
        if seconds > self.slow:
            self.slow = seconds
        else:
            self.slow += (seconds - self.slow) * 0.1
        self.slow = max(self.slow, 1e-6)
        if held is not None:
            self.suspects.discard(held.row.id)
            self.count["failed" if kind == "retrying" else kind if kind in self.count else "lost"] += 1
            if kind == "unknown":
                self._tell_unknown(held, error)
        if full and not child.retiring:
            log.info("a process has grown too big and is replaced", extra={"child": child.pid})
            self.retire(child)
        if not child.held:
            child.alone = False
            if child.retiring:
                child.close()
        if self.pending:
            self.hand_out()
        if self.stopping or self.wanted():
            self.event.set()

    def _tell_unknown(self, held: Held, error: dict[str, Any] | None) -> None:
        """Where the end of a task was committed, what is said here changes nothing."""
        if held.told == "timeout":
            self.give_up(held, _TIMEOUT)
        elif held.told is not None or error is None or error.get("class") == "tenant_q.errors.ConnectionLost":
            self.release(held, "the connection was lost", delay="1 second")
        else:
            self.give_up(held, error)

    def hear_news(self, claim: str, what: str) -> None:
        """What the server says of a task: cancel, timeout, drain or lost. One that isn't here any more has ended."""
        for held in self.pending:
            if held.row.claim == claim:
                self.pending.remove(held)
                self.release(held, f"heard {what} before it was begun")
                return
        for child in self.children.values():
            held_there = child.held.get(claim)
            if held_there is not None:
                self._end_there(child, held_there, what)
                return

    def _end_there(self, child: Child, held: Held, what: str) -> None:
        self.take_back(child)
        if held in self.pending:
            self.pending.remove(held)
            self.release(held, f"heard {what} before it was begun")
        elif what == "drain":
            child.tell(held.row.claim, what, False)
        else:
            self.end_soon(child, held, what, LOST_GRACE if what == "lost" else None)

    # Ending.

    def end_soon(self, child: Child, held: Held, what: str, grace: float | None = None) -> None:
        """Tells a task to end, interrupts it, and in the end ends its process."""
        if held.told is not None:
            return
        held.told = what
        if what == "timeout":
            self.count["timeouts"] += 1
        most = self.control.grace / 2 if self.control is not None else 5.0
        held.kill_at = time.monotonic() + (min(5.0, most) if grace is None else grace)
        log.warning("%s: is interrupted", what, extra={"handler": held.row.handler, "task": held.row.id})
        child.tell(held.row.claim, "drain" if what == "stop" else what, True)

    def stop(self, why: str) -> None:
        """Takes no more, and ends when what runs has ended; called again, at once."""
        if self.stopping:
            if not self.at_once:
                log.warning("stops at once: %s", why)
            self.at_once = True
            for child in self.children.values():
                self._stop_tasks(child)
                child.kill()
            self.call()
            return
        log.info("stops: %s", why, extra={"worker": self.options.name})
        self.stopping = True
        self.stop_at = time.monotonic() + self.options.stop_grace
        self.systemd.tell(STOPPING=1, STATUS="stops")
        for child in self.children.values():
            self.take_back(child)
        self._give_back_pending("the worker stops")
        self.call()

    def _stop_tasks(self, child: Child) -> None:
        for held in child.held.values():
            self.end_soon(child, held, "stop")

    def retire(self, child: Child, grace: float | None = None) -> None:
        """It gets no more tasks, ends when it has done what it has, and another one is started."""
        if child.retiring:
            return
        child.retiring = True
        child.end_at = None if grace is None else time.monotonic() + grace
        self.take_back(child)
        if not child.held:
            child.close()
        self.keep_up()

    def replace_all(self, why: str) -> None:
        """Replaces all children: their source has changed."""
        log.info("replaces its processes: %s", why)
        self.broken = False
        self.spawn_at = self.spawn_wait = 0.0
        for child in list(self.children.values()):
            if not child.ready:
                child.kill()
            self.retire(child, self.options.stop_grace)
        self.keep_up()

    # Children.

    def keep_up(self) -> None:
        """Starts as many children as there are to be."""
        if self.stopping or self.broken or time.monotonic() < self.spawn_at:
            return
        lacking = self.options.processes - self._starting
        lacking -= sum(not child.retiring for child in self.children.values())
        for _ in range(lacking):
            self._starting += 1
            self._number += 1
            self._run(self._raise_child(self._number))

    def _run(self, what: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.get_running_loop().create_task(what)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _raise_child(self, number: int) -> None:
        """From its birth to its end."""
        try:
            child = await Child.start(number, self.options, self.hear)
        except OSError as error:
            log.error("can't start a process: %s", error)
            self.spawn_at = time.monotonic() + 1
            return
        finally:
            self._starting -= 1
        self.count["spawned"] += 1
        self.children[number] = child
        if self.stopping:
            child.kill()
        status = await child.process.wait()
        child.read(self.hear)
        del self.children[number]
        self._bury(child, status)
        self.event.set()

    def _bury(self, child: Child, status: int) -> None:
        """What it leaves."""
        self.take_back(child)
        child.forget()
        how = signal_name(status)
        if not child.ready:
            self._failed_to_begin(child, how)
        elif not (child.closed or child.killed):
            log.error("a process has died: %s", how, extra={"child": child.pid, "status": status})
            if not child.given and time.monotonic() - child.started < 5:
                self._slow_down()
        alone = len(child.held) == 1
        for held in child.held.values():
            self._leave(child, held, how, alone)
        child.held.clear()
        if self.stopping:
            self._give_back_pending("the worker stops")
        self.keep_up()
        self.call()

    def _leave(self, child: Child, held: Held, how: str, alone: bool) -> None:
        """A task whose process has ended while it ran."""
        if held.told == "timeout":
            self.give_up(held, _TIMEOUT)
        elif held.told == "stop":
            self.release(held, "the worker stops")
        elif held.told is not None or child.killed:
            self.release(held, f"its process was ended ({held.told or 'for another task'})")
        elif alone:
            self.count["crashed"] += 1
            self.release(held, f"its process has died: {how}", crashed=True)
        else:  # nobody knows which of them it was: each is run alone next
            self.suspects.add(held.row.id)
            self.release(held, f"its process has died with several tasks: {how}")

    def _failed_to_begin(self, child: Child, how: str) -> None:
        if child.killed or self.stopping:
            return
        failure = child.failure or {"class": "", "message": how, "said": f"a process has died as it began: {how}"}
        if self.options.reload:
            self.broken = bool(child.failure)
            log.error("the application can't be loaded, waits for a change\n%s", failure["said"].rstrip())
        elif not self.was_ready and not any(each.ready for each in self.children.values()):
            kind = getattr(errors, failure["class"], None)
            if isinstance(kind, type) and issubclass(kind, errors.TenantQError):
                self.fatal = kind(failure["message"])
            else:
                self.fatal = errors.NoApp(
                    f"{self.options.app} can't be loaded: {failure['message']}", detail=failure["said"].rstrip()
                )
        else:
            log.error("the application can't be loaded\n%s", failure["said"].rstrip())
        self._slow_down()

    def _slow_down(self) -> None:
        self.spawn_wait = min(max(self.spawn_wait * 2, 0.5), 30.0)
        self.spawn_at = time.monotonic() + self.spawn_wait

    # Clocks.

    async def _tick_for_ever(self) -> None:
        beat = reload = 0.0
        while True:
            await asyncio.sleep(TICK)
            try:
                now = time.monotonic()
                self._tick(now)
                if now - beat >= min(1.0, self.systemd.watchdog / 3 or 1.0):
                    beat = now
                    self._beat()
                if self.options.reload and now - reload >= 0.5:
                    reload = now
                    changed = self.files.changed()
                    if changed and not self.stopping:
                        self.replace_all(f"{changed[0]} has changed")
            except Exception:
                log.exception("a mistake in the supervisor")

    def _beat(self) -> None:
        if self.systemd.watchdog:
            self.systemd.tell(WATCHDOG=1)
        if self.options.health_file and self.facts()["ready"]:
            health.touch(self.options.health_file)

    def _tick(self, now: float) -> None:
        for child in list(self.children.values()):
            self._look_at(child, now)
        while self.pending and now - self.pending[0].since > UNPLACED:
            self.release(self.pending.popleft(), "no process has room for it")
        self.hand_out()
        if self.orders or self.stopping:
            self.call()
        self.keep_up()

    def _look_at(self, child: Child, now: float) -> None:
        if len(child.held) > self.options.threads and now - child.heard > SILENCE:
            # A long one after all: what waits behind it goes to others.
            self.slow = max(self.slow, now - child.heard)
            self.take_back(child)
        is_over = (self.stopping and now >= self.stop_at) or (child.end_at is not None and now >= child.end_at)
        if is_over:
            self._stop_tasks(child)
        for held in list(child.held.values()):
            if held.deadline is not None and now >= held.deadline and held.told is None:
                self._end_there(child, held, "timeout")
        beyond = [held for held in child.held.values() if held.kill_at is not None and now >= held.kill_at]
        if not beyond or child.killed:
            return
        # Others that it runs have a little time more.
        self.retire(child)
        grace = 0.3 * self.control.grace if self.control is not None else 0.0
        if len(beyond) == len(child.held) or any(now >= (held.kill_at or now) + grace for held in beyond):
            log.warning("a process is ended: a task goes on all the same", extra={"child": child.pid})
            child.kill()

    # Facts.

    def facts(self) -> dict[str, Any]:
        """For probes."""
        control = self.control
        connected = control is not None and control.connection is not None
        now = time.monotonic()
        is_heard = control is not None and now - self.contact < WAIT + control.patience
        ready = any(child.ready and not child.retiring for child in self.children.values())
        return {
            "ready": connected and is_heard and ready and not self.stopping,
            "worker": self.options.name,
            "pid": os.getpid(),
            "connected": connected,
            "stopping": self.stopping,
            "children": [
                {
                    "pid": child.pid,
                    "ready": child.ready,
                    "retiring": child.retiring,
                    "tasks": [held.row.id for held in child.held.values()][: self.options.threads],
                }
                for child in self.children.values()
            ],
            "counts": self.count,
        }


def run(options: WorkerOptions) -> int:
    """A worker until it is stopped. Raises `TenantQError` where it can't begin."""
    set_up(options.log_level, options.log_format)

    async def main() -> int:
        return await Supervisor(options).main()

    return asyncio.run(main())
