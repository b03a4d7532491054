"""RQ's commands to workers."""

from __future__ import annotations

from typing import Any

from .job import Job

__all__ = ["send_stop_job_command"]


def send_stop_job_command(connection: Any, job_id: str, serializer: Any = None) -> None:
    """Cancels a job that runs; its effects roll back."""
    Job.fetch(job_id)._cancel(True)
