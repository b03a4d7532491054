"""RQ's decorator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .job import Job
from .queue import Queue, _known

__all__ = ["job"]


class job:
    """`@job('mail', timeout=60)`: the function has `delay()` and `enqueue()`, which enqueue a call of it."""

    queue_class = Queue

    def __init__(self, queue: Queue | str, connection: Any = None, queue_class: Any = None, **said: Any) -> None:
        _known(said)
        self.queue = queue
        self.connection = connection
        self.said = said

    def __call__(self, f: Callable[..., Any]) -> Callable[..., Any]:
        def delay(*args: Any, **kwargs: Any) -> Job:
            queue = self.queue if isinstance(self.queue, Queue) else Queue(self.queue, connection=self.connection)
            said = dict(self.said)
            for word in ("depends_on", "job_id", "at_front"):
                given = kwargs.pop(word, None)
                if given:
                    said[word] = given
            return queue.enqueue_call(f, args=args, kwargs=kwargs, **said)

        f.delay = delay  # type: ignore[attr-defined]
        f.enqueue = delay  # type: ignore[attr-defined]
        return f
