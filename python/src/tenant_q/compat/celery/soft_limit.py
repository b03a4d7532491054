"""soft_time_limit: an exception in the thread that runs the task, while the function runs and never after it."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from .exceptions import SoftTimeLimitExceeded

__all__ = ["soft_limit"]


@contextmanager
def soft_limit(seconds: float | None) -> Iterator[None]:
    """Raises SoftTimeLimitExceeded in the block once so many seconds have passed. A call that blocks outside of
    Python is interrupted
    when it returns."""
    if not seconds:
        yield
        return
    thread = threading.get_ident()
    lock = threading.Lock()
    state = {"over": False, "sent": False, "arrived": False}

    class Exceeded(SoftTimeLimitExceeded):
        def __init__(self, *args: object) -> None:
            state["arrived"] = True
            super().__init__(*args)

    Exceeded.__name__ = Exceeded.__qualname__ = "SoftTimeLimitExceeded"
    Exceeded.__module__ = SoftTimeLimitExceeded.__module__

    def send() -> None:
        with lock:
            if not state["over"]:
                state["sent"] = True
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(Exceeded))

    timer = threading.Timer(seconds, send)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        try:
            with lock:
                state["over"] = True
            while state["sent"] and not state["arrived"]:
                time.sleep(0.001)  # it is under way to this thread, and is not to arrive later
        except SoftTimeLimitExceeded:
            state["over"] = True
