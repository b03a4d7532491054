"""Celery's exceptions."""

from __future__ import annotations

from typing import Any

from ... import errors

__all__ = [
    "CeleryError",
    "ChordError",
    "Ignore",
    "ImproperlyConfigured",
    "MaxRetriesExceededError",
    "NotRegistered",
    "OperationalError",
    "Reject",
    "Retry",
    "SoftTimeLimitExceeded",
    "TaskError",
    "TaskPredicate",
    "TaskRevokedError",
    "TimeLimitExceeded",
    "TimeoutError",
]


class CeleryError(errors.TenantQError):
    """What Celery's errors are."""


class TaskError(CeleryError):
    """About a task."""


class TaskPredicate(CeleryError):
    """What a task raises to say how its attempt ends."""


class Ignore(TaskPredicate):
    """Raised in a task: it is done, with no result; what it has written stays."""

    def __init__(self, message: str = "ignored") -> None:
        super().__init__(message)


class Reject(TaskPredicate):
    """Raised in a task: its effects roll back, and it has failed for good; requeue=True: it is put back instead,
    uncounted."""

    def __init__(self, reason: Any = None, requeue: bool = False) -> None:
        super().__init__(str(reason) if reason is not None else "rejected")
        self.reason = reason
        self.requeue = requeue


class Retry(errors.Retry):
    """Raised by self.retry(): the attempt's effects roll back, and it is tried again."""

    def __init__(
        self,
        message: str | None = None,
        exc: BaseException | None = None,
        when: Any = None,
        *,
        delay: float | None = None,
    ) -> None:
        super().__init__(delay, message or (f"Retry: {exc!r}" if exc is not None else "Retry"))
        #: the exception that it is about
        self.exc = exc
        #: when it is tried again: seconds, or a moment
        self.when = when


class MaxRetriesExceededError(TaskError):
    """It was tried as often as it may."""

    def __init__(self, message: str = "no more retries", *args: Any, **kwargs: Any) -> None:
        super().__init__(message)
        self.task_args = kwargs.pop("task_args", args[0] if args else ())
        self.task_kwargs = kwargs.pop("task_kwargs", args[1] if len(args) > 1 else {})


class TaskRevokedError(TaskError):
    """The task was cancelled, or has expired."""


class ChordError(CeleryError):
    """A member of the chord's header hasn't ended well."""


class TimeoutError(CeleryError, errors.ResultTimeout):
    """The task hasn't ended within so many seconds."""


class NotRegistered(errors.UnknownTask, KeyError):
    """No task of this name."""

    __str__ = errors.UnknownTask.__str__


class ImproperlyConfigured(CeleryError):
    """A setting that makes no sense."""


class OperationalError(CeleryError):
    """A broker's error: there is no broker, and nothing raises it."""


class SoftTimeLimitExceeded(Exception):
    """Raised in a task whose soft_time_limit is over."""

    def __str__(self) -> str:
        return "SoftTimeLimitExceeded" + (f"{self.args}" if self.args else "()")


class TimeLimitExceeded(Exception):
    """What ends a task whose time_limit is over; the worker does that, and nothing raises it."""
