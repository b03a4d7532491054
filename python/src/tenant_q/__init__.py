"""Tasks in Python for tenant_q, the task queue inside PostgreSQL with a schema per tenant."""

from . import errors
from .app import App
from .context import Context, current
from .errors import Cancelled, Fail, Retry
from .flows import chain, group, iterate
from .middleware import Middleware
from .options import Backoff
from .result import Result
from .schedules import Schedule, schedule
from .task import Signature, Task, task

__version__ = "0.2.0"

__all__ = [
    "App",
    "Backoff",
    "Cancelled",
    "Context",
    "Fail",
    "Middleware",
    "Result",
    "Retry",
    "Schedule",
    "Signature",
    "Task",
    "chain",
    "current",
    "errors",
    "group",
    "iterate",
    "schedule",
    "task",
]
