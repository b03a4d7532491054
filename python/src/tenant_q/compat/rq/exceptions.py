"""RQ's exceptions."""

from __future__ import annotations

from ...errors import TaskNotKept, TenantQError, UniqueKeyTaken

__all__ = ["DuplicateJobError", "InvalidJobDependency", "InvalidJobOperation", "NoSuchJobError"]


class NoSuchJobError(TaskNotKept):
    """There is no job of this id: never enqueued, or not kept any more."""


class DuplicateJobError(UniqueKeyTaken):
    """There is a job of this id, and unique=True."""


class InvalidJobOperation(TenantQError):
    """What can't be done to a job in its state."""


class InvalidJobDependency(TenantQError):
    """A job that another one is to depend on is not kept."""
