"""procrastinate's exceptions."""

from __future__ import annotations

from ...errors import Cancelled, DuplicateTask, NoApp, TenantQError, UniqueKeyTaken, UnknownTask

__all__ = [
    "AlreadyEnqueued",
    "AppNotOpen",
    "JobAborted",
    "ProcrastinateException",
    "TaskAlreadyRegistered",
    "TaskNotFound",
    "UnboundTaskError",
]


class ProcrastinateException(TenantQError):
    """What procrastinate's errors are."""


class AlreadyEnqueued(ProcrastinateException, UniqueKeyTaken):
    """A job with this queueing_lock waits already."""


class TaskNotFound(ProcrastinateException, UnknownTask):
    """No task of this name."""


class TaskAlreadyRegistered(ProcrastinateException, DuplicateTask):
    """Two functions of one task's name, or two periodic jobs of one periodic_id."""


class AppNotOpen(ProcrastinateException, NoApp):
    """There is no tenant_q.App."""


class UnboundTaskError(ProcrastinateException):
    """A task of a Blueprint that no App has yet."""


#: raised in a job that is to end: `raise JobAborted`
JobAborted = Cancelled
