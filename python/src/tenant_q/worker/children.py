"""A child, as the supervisor knows it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from . import framing
from .control import Row
from .options import WorkerOptions

__all__ = ["Child", "Held", "signal_name"]


@dataclass(slots=True, eq=False)
class Held:
    """A task that was taken, and hasn't ended."""

    row: Row
    #: by this process's monotonic clock
    deadline: float | None
    #: what it was told: cancel, timeout, stop, lost; the first one says why it ends
    told: str | None = None
    #: when its process is ended, if it goes on all the same
    kill_at: float | None = None
    #: since when it is with a child
    since: float = 0.0


@dataclass(slots=True, eq=False)
class Child:
    """One process: what it has, and what may be said to it."""

    number: int
    options: WorkerOptions
    process: asyncio.subprocess.Process
    tasks: socket.socket
    #: the other end, where the supervisor takes back what wasn't begun
    end: socket.socket
    news: socket.socket
    #: with it, by claim, in the order in which they were sent
    held: dict[str, Held] = field(default_factory=dict)
    ready: bool = False
    #: gets no more tasks, and is to end when it has none
    retiring: bool = False
    #: when what it still runs is interrupted; None = it has as long as it needs
    end_at: float | None = None
    #: was told that there are no more tasks
    closed: bool = False
    #: it alone has a task that may have ended a process
    alone: bool = False
    #: how many it was given
    given: int = 0
    #: when it was heard of last
    heard: float = 0.0
    started: float = field(default_factory=time.monotonic)
    names: list[str] = field(default_factory=list)
    failure: dict[str, Any] | None = None
    #: the supervisor has ended it
    killed: bool = False

    @classmethod
    async def start(cls, number: int, options: WorkerOptions, hear: Callable[[Child, list[Any]], None]) -> Child:
        """Starts a fresh process; what it says goes to `hear`."""
        tasks, end = framing.pair()
        news, other = framing.pair()
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tenant_q.worker.child",
            str(os.getpid()),
            str(end.fileno()),
            str(other.fileno()),
            pass_fds=(end.fileno(), other.fileno()),
            stdin=asyncio.subprocess.DEVNULL,
            process_group=0,  # what its tasks have started ends with it, and no Ctrl-C reaches it but by us
        )
        other.close()
        tasks.setblocking(False)
        child = cls(number, options, process, tasks, end, news)
        news.setblocking(False)
        framing.send_task(tasks, "-" * framing.CLAIM, json.dumps(options.document()).encode())
        asyncio.get_running_loop().add_reader(tasks.fileno(), child.read, hear)
        return child

    @property
    def pid(self) -> int:
        """Of the process."""
        return self.process.pid

    def read(self, hear: Callable[[Child, list[Any]], None]) -> None:
        """All that it has said."""
        while True:
            try:
                message = self.tasks.recv(framing.ROOM)
            except (BlockingIOError, ConnectionError):
                return
            if not message:
                return
            self.heard = time.monotonic()
            hear(self, json.loads(message))

    def give(self, held: Held) -> bool:
        """Sends it a task; False: there is no room."""
        try:
            framing.send_task(self.tasks, held.row.claim, held.row.body)
        except (BlockingIOError, ConnectionError):
            return False
        held.since = time.monotonic()
        if not self.held:
            self.heard = held.since
        self.held[held.row.claim] = held
        self.given += 1
        return True

    def take_back(self) -> list[Held]:
        """What it hasn't begun."""
        back = [held for claim in framing.take_back(self.end) if (held := self.held.pop(claim, None)) is not None]
        self.given -= len(back)
        return back

    def tell(self, claim: str, what: str, interrupt: bool) -> None:
        """Tells it of a task's news."""
        try:
            framing.send(self.news, what, claim, interrupt)
        except OSError:
            pass  # it is busy beyond hearing, or dead: its end is seen elsewhere

    def close(self) -> None:
        """There are no more tasks: it ends when it has done those that it has."""
        if not self.closed:
            self.closed = True
            try:
                self.tasks.shutdown(socket.SHUT_WR)
            except OSError:
                pass

    def kill(self) -> None:
        """At once, and what its tasks have started."""
        self.killed = True
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def forget(self) -> None:
        """After its end."""
        asyncio.get_running_loop().remove_reader(self.tasks.fileno())
        for each in (self.tasks, self.end, self.news):
            each.close()


def signal_name(status: int) -> str:
    """How a process has ended, for people."""
    if status >= 0:
        return f"exit status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = str(-status)
    return f"{name} (out of memory?)" if -status == signal.SIGKILL else name
