"""procrastinate: App, tasks, periodic tasks.

    from tenant_q.compat.procrastinate import App, PsycopgConnector, RetryStrategy
    from tenant_q.compat.procrastinate.exceptions import AlreadyEnqueued

or `import tenant_q.compat.procrastinate as procrastinate`. What is different: a job's id is a UUID, and as an int one
of 128 bits (`JobId`); arguments are checked where a job is deferred; a job with a lock that is due later holds up
none that is ready; the job and its end are one transaction, and nothing stalls. `periodic` is declared by
`App.sync()`.
"""

from . import exceptions
from .app import App, BaseConnector, Blueprint, PsycopgConnector, SyncPsycopgConnector
from .jobs import Job, JobContext, JobId, Status
from .retry import BaseRetryStrategy, RetryDecision, RetryStrategy
from .tasks import Task

__all__ = [
    "App",
    "BaseConnector",
    "BaseRetryStrategy",
    "Blueprint",
    "Job",
    "JobContext",
    "JobId",
    "PsycopgConnector",
    "RetryDecision",
    "RetryStrategy",
    "Status",
    "SyncPsycopgConnector",
    "Task",
    "exceptions",
]
