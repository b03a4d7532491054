"""django-rq: queues by the names of the setting RQ_QUEUES, of which DEFAULT_TIMEOUT and ASYNC are looked at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ._unsupported import Unsupported
from .rq.decorators import job as _job
from .rq.job import Job
from .rq.queue import Queue
from .rq_scheduler import Scheduler

__all__ = ["enqueue", "get_connection", "get_queue", "get_scheduler", "get_worker", "job"]


def _settings(name: str) -> dict[str, Any]:
    from django.conf import settings

    found: dict[str, Any] = getattr(settings, "RQ_QUEUES", {}).get(name, {})
    return found


def get_queue(name: str = "default", default_timeout: Any = None, is_async: bool | None = None, **words: Any) -> Queue:
    """The queue of this name."""
    words.pop("autocommit", None)
    words.pop("connection", None)
    said = _settings(name)
    timeout = default_timeout if default_timeout is not None else said.get("DEFAULT_TIMEOUT")
    return Queue(
        name, default_timeout=timeout, is_async=said.get("ASYNC", True) if is_async is None else is_async, **words
    )


def enqueue(func: Any, *args: Any, **kwargs: Any) -> Job:
    """Enqueues in the queue default."""
    return get_queue().enqueue(func, *args, **kwargs)


def job(func_or_queue: Any, connection: Any = None, **said: Any) -> Any:
    """`@job`, `@job('mail')`, `@job('mail', timeout=60)`."""
    if callable(func_or_queue) and not isinstance(func_or_queue, Queue):
        return _job(get_queue())(func_or_queue)
    queue = get_queue(func_or_queue) if isinstance(func_or_queue, str) else func_or_queue
    decorate: Callable[[Callable[..., Any]], Callable[..., Any]] = _job(queue, **said)
    return decorate


def get_scheduler(name: str = "default", **words: Any) -> Scheduler:
    """The scheduler of this queue."""
    return Scheduler(queue=get_queue(name))


def get_connection(name: str = "default", **words: Any) -> Any:
    """Not here: there is no Redis."""
    raise Unsupported("there is no connection to Redis", hint="Tasks are in the database: django.db.connection.")


def get_worker(*names: str, **words: Any) -> Any:
    """Not here."""
    raise Unsupported(
        "get_worker()", hint="Workers are processes: manage.py tq_worker --queues …; in tests tenant_q.testing.drain()."
    )
