"""Celery and tenant-schemas-celery: apps, tasks, the canvas, results and schedules.

    from tenant_q.compat.celery import Celery, shared_task, chain, group, chord
    from tenant_q.compat.celery.result import AsyncResult
    from tenant_q.compat.celery.schedules import crontab
    from tenant_q.compat.celery.exceptions import MaxRetriesExceededError
    from tenant_q.compat.celery import CeleryApp, TenantTask     # tenant_schemas_celery.app, .task

What is different: a task and its end are one transaction, so that what a failed attempt has written is gone
(`atomic=False` where that is not to be); arguments are checked where a task is enqueued, and come as the annotations
say; a worker that dies costs nothing, whatever acks_late says; `rate_limit` is the tenant's and not each worker's;
`expires` ends a task as expired; `result_expires` is tq_set_tenant(result_ttl => …). Schedules (`beat_schedule`,
`add_periodic_task`) are declared by `App.sync()`, and need no process. Signals are `tenant_q.Middleware`. What is
said of brokers and result backends in settings is not looked at; what is said of them in a call raises `Unsupported`.
"""

from .app import Celery, CeleryApp, TenantTask, current_app, current_task, shared_task
from .canvas import Signature, chain, chord, chunks, group, maybe_signature, signature, subtask, xmap, xstarmap
from .result import AsyncResult, GroupResult, ResultSet
from .schedules import crontab
from .task import Task

__all__ = [
    "AsyncResult",
    "Celery",
    "CeleryApp",
    "GroupResult",
    "ResultSet",
    "Signature",
    "Task",
    "TenantTask",
    "chain",
    "chord",
    "chunks",
    "crontab",
    "current_app",
    "current_task",
    "group",
    "maybe_signature",
    "shared_task",
    "signature",
    "subtask",
    "xmap",
    "xstarmap",
]
