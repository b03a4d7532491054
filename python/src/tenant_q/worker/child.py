"""A process that runs tasks: `python -m tenant_q.worker.child`, begun by a supervisor, and by nobody else.

Its threads read tasks from the socket, each one when it has nothing else to do. Another thread hears what concerns the
tasks that run. In a process of one thread that is the main one, and what runs there can be interrupted by an exception.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import logging
import os
import signal
import socket
import sys
import threading
import time
import traceback
from types import FrameType
from typing import Any

from ..app import App
from ..context import Context, Taken
from ..errors import Cancelled, InvalidOption
from ..execute import Outcome, execute
from . import framing, logs, memory
from .options import WorkerOptions

log = logging.getLogger("tenant_q.worker")

#: what is interrupted has so long until its statement is cancelled
_CANCEL_AFTER = 0.5
_SIGNAL = signal.SIGUSR2


class Interrupted(Cancelled, asyncio.CancelledError):
    """Raised in a task by a signal. It is asyncio's as well, since that is what psycopg and coroutines let through
    after having cleaned up."""


class Child:
    """What the threads of the process share."""

    def __init__(self, tasks: socket.socket, news: socket.socket, options: WorkerOptions) -> None:
        self.tasks = tasks
        self.news = news
        self.options = options
        self.app: App = None  # type: ignore[assignment]
        #: by thread
        self.running: dict[int, Context] = {}
        self.interrupters: dict[int, Any] = {}
        self.main = threading.get_ident()
        self.interrupted: Context | None = None

    # Beginning.

    def load(self) -> None:
        """Imports the application, and says what it has."""
        from .loading import load_app
        from .reload import loaded

        options = self.options
        self.app = app = load_app(options.app, options.path)
        names = app.registry.names()
        if options.handlers is not None:
            missing = sorted(set(options.handlers) - set(names))
            if missing:
                raise InvalidOption(
                    f"the App has no task {missing[0]}",
                    detail="It has " + (", ".join(names) or "none at all") + ".",
                    hint="--handlers takes names of tasks.",
                )
            names = sorted(set(options.handlers))
        if not names:
            raise InvalidOption(
                f"{options.app} has no tasks",
                hint="Define them in that module, or name the modules that have them: App(modules=['shop.tasks']).",
            )
        for chunk in framing.chunks(names):
            framing.send(self.tasks, "names", chunk)
        if options.reload:
            self.tell_files(loaded())
        framing.send(self.tasks, "ready", {"database": app.worker_conninfo()})

    def tell_files(self, files: list[str]) -> None:
        for chunk in framing.chunks(files):
            framing.send(self.tasks, "files", chunk)

    # Working.

    def work(self) -> None:
        """Until there are no more tasks: in this thread, or in as many as it is to have."""
        threading.Thread(target=self.listen, name="tenant_q news", daemon=True).start()
        if self.options.threads == 1:
            self.work_here()
            return
        threads = [
            threading.Thread(target=self.work_here, name=f"tenant_q {n}", daemon=True)
            for n in range(self.options.threads)
        ]
        for each in threads:
            each.start()
        for each in threads:
            each.join()

    def work_here(self) -> None:
        while (body := framing.receive_task(self.tasks)) is not None:
            self.one(json.loads(body))
        self.app.close_connections()

    def one(self, document: dict[str, Any]) -> None:
        """Runs a task, and says how it ended."""
        taken = Taken.of(document)
        context = Context(self.app, taken)
        me = threading.get_ident()
        self.running[me] = context
        begin = time.monotonic()
        try:
            outcome = execute(self.app, taken, context=context, on_start=self.started)
        except BaseException as error:  # it never does, but nothing may end a thread
            log.exception("the task could not be run", extra={"handler": taken.handler, "task": taken.id})
            outcome = Outcome("unknown", error={"message": repr(error)}, duration=time.monotonic() - begin)
        finally:
            del self.running[me]
            self.interrupters.pop(me, None)
        tell_log(taken, outcome)
        unsaid = _short(outcome.error) if outcome.kind == "unknown" else None
        full = bool(self.options.max_memory) and memory.resident() > self.options.max_memory
        framing.send(self.tasks, "end", taken.claim, outcome.kind, round(outcome.duration, 6), unsaid, full)

    def started(self, context: Context) -> None:
        """The function is about to run, in this thread."""
        self.interrupters[threading.get_ident()] = self.app.interrupter()

    # Hearing.

    def listen(self) -> None:
        """Hears what concerns the tasks that run. The socket's end is the supervisor's: what runs isn't ours any
        more."""
        while True:
            try:
                message = self.news.recv(framing.ROOM)
            except ConnectionError:
                message = b""
            if not message:
                os._exit(1)
            what, claim, is_to_be_interrupted = json.loads(message)
            for thread, context in list(self.running.items()):
                if context.taken.claim == claim:
                    context.tell(what)
                    if is_to_be_interrupted:
                        self.interrupt(thread, context)

    def interrupt(self, thread: int, context: Context) -> None:
        wait = 0.0
        if self.options.threads == 1:
            signal.pthread_kill(self.main, _SIGNAL)
            wait = _CANCEL_AFTER

        def cancel() -> None:
            if self.running.get(thread) is context and context.running:
                interrupter = self.interrupters.get(thread)
                if interrupter is not None:
                    interrupter()

        timer = threading.Timer(wait, cancel)
        timer.daemon = True
        timer.start()

    def on_signal(self, _signal: int, _frame: FrameType | None) -> None:
        """In the main thread, between two steps of the task's function."""
        context = self.running.get(self.main)
        if context is None or not context.running or context.news is None or self.interrupted is context:
            return
        self.interrupted = context
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise Interrupted(context.news) from None
        if asyncio.current_task(loop) is not None:
            raise Interrupted(context.news)
        for each in asyncio.all_tasks(loop):
            each.cancel(context.news)
        loop.call_soon_threadsafe(lambda: None)


def tell_log(taken: Taken, outcome: Outcome) -> None:
    """A line about how a task ended."""
    level = logging.INFO if outcome.kind in ("done", "released") else logging.WARNING
    if outcome.kind == "failed":
        level = logging.ERROR
    if not log.isEnabledFor(level):
        return
    more: dict[str, Any] = {
        "handler": taken.handler,
        "task": taken.id,
        "tenant": taken.tenant,
        "attempt": taken.attempt,
        "seconds": round(outcome.duration, 4),
        "state": outcome.kind,
    }
    if outcome.error and outcome.kind != "released":
        more["error"] = outcome.error.get("message")
    is_failure = outcome.kind in ("failed", "retrying") and outcome.exception is not None
    info: Any = None
    if is_failure:
        error = outcome.exception
        assert error is not None
        info = (type(error), error, error.__traceback__)
    log.log(level, outcome.kind, extra=more, exc_info=info)


def _short(error: dict[str, Any] | None) -> dict[str, Any] | None:
    """That fits into a message."""
    if error is None:
        return None
    return {key: value[-8000:] if isinstance(value, str) else value for key, value in error.items()}


def end_with_parent(parent: int) -> None:
    """Has the kernel end this process with the supervisor, where it can."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def main(arguments: list[str]) -> int:
    """arguments: the supervisor's pid, the file descriptors of two sockets."""
    parent, tasks_fd, news_fd = (int(each) for each in arguments[:3])
    end_with_parent(parent)
    # The supervisor hears these, and says what is to be done.
    for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(each, lambda *_: None)
    tasks, news = socket.socket(fileno=tasks_fd), socket.socket(fileno=news_fd)
    told = framing.receive_task(tasks)
    if told is None:
        return 1
    options = WorkerOptions.of(json.loads(told))
    logs.set_up(options.log_level, options.log_format)
    child = Child(tasks, news, options)
    signal.signal(_SIGNAL, child.on_signal)
    try:
        child.load()
    except BaseException as error:
        from .reload import files_of, loaded

        if options.reload:
            child.tell_files(sorted({*loaded(), *files_of(error)}))
        said = "".join(traceback.format_exception(error))
        framing.send(
            tasks, "failed", {"class": type(error).__name__, "message": str(error)[:8000], "said": said[-8000:]}
        )
        return 1
    child.work()
    logging.shutdown()
    return 0


if __name__ == "__main__":
    # The module has another name here, and what tasks import must be the same one.
    from tenant_q.worker.child import main as run

    status = run(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
