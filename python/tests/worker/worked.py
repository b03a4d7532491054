"""What the workers of these tests run."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time

from tenant_q import App, Context, task

app = App(os.environ.get("WORKED_DATABASE", ""), tenant=os.environ.get("WORKED_TENANT"))
empty = "no App"


@task
def note(n: int, seconds: float = 0.0) -> int:
    """An effect in the task's transaction: a line for each time that it was done."""
    app.execute("INSERT INTO effect (n, pid) VALUES (%s, %s)", [n, os.getpid()])
    if seconds:
        time.sleep(seconds)
    return n


@task
def nothing() -> None:
    """Nothing."""


@task
def long_text(text: str) -> int:
    """How much has arrived."""
    return len(text)


@task(timeout="1 second", max_attempts=1)
def sleeps() -> None:
    """A call that a signal interrupts."""
    time.sleep(300)


@task(timeout="1 second", max_attempts=1)
def sleeps_in_sql() -> None:
    """A statement that doesn't end."""
    app.execute("SELECT pg_sleep(300)")


@task(timeout="1 second", max_attempts=1)
async def sleeps_async() -> None:
    """A coroutine that doesn't end."""
    import asyncio

    await asyncio.sleep(300)


@task(timeout="1 second", max_attempts=1)
def keeps_gil() -> None:
    """A call of C that nothing interrupts."""
    re.match(r"(a+)+$", "a" * 60 + "b")


@task
def waits(n: int) -> str:
    """Goes on until somebody cancels it."""
    app.execute("INSERT INTO effect (n, pid) VALUES (%s, %s)", [n, os.getpid()])
    time.sleep(300)
    return "waited"


@task(takes_context=True, atomic=False)
def asks(context: Context) -> None:
    """Asks whether it is to end."""
    while True:
        context.check()
        time.sleep(0.01)


@task(max_attempts=1)
def starts_process() -> None:
    """Something of its own, which is to end with it."""
    subprocess.run(["sleep", "301"], check=True)


@task(takes_context=True)
def dies(context: Context, marker: str) -> str:
    """Kills its process, the first time."""
    if os.path.exists(marker):
        return "lives"
    with open(marker, "w"):
        pass
    os.kill(os.getpid(), signal.SIGKILL)
    return "never"


@task
def dies_always() -> None:
    """Kills its process."""
    os.kill(os.getpid(), signal.SIGKILL)


_eaten: list[bytearray] = []


@task
def eats(size: int) -> int:
    """Keeps memory; which process it was."""
    _eaten.append(bytearray(os.urandom(1)) * size)
    return os.getpid()


@task
def who() -> int:
    """Which process it is."""
    return os.getpid()
