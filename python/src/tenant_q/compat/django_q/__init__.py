"""Django-Q and Django Tenant Schemas Q: `async_task` and what goes with it.

    from tenant_q.compat.django_q import async_task, result, fetch, async_chain, Iter, Chain
    from tenant_q.compat.django_q import schedule, Schedule, QUtilities

in place of django_q.tasks, django_q.models, django_tenant_schemas_q.utils and django_tenant_schemas_q.custom.
`tenant_q.compat.django_q.tasks` and `.models` are there as well.

What is different: arguments and results are JSON, by the function's annotations (`tenant_q.codec`), and no pickles. A
function with a wrong name or with arguments that don't fit is refused where it is enqueued. A failed task is tried
again as `tenant_q.max_attempts` and Q_CLUSTER (`max_attempts`, `retry`, `ack_failures`) say, and is seen as failed
when no attempt is left. `count` of a group means at least, and wait=0 never waits. A hook is a task of its own,
called once, when the task has ended for good, also with save=False. `sync=True` runs the function where it is called;
its result is known to that process only. Signals are `tenant_q.Middleware`.
"""

from .._call import allow
from .conf import Conf, configure
from .flows import AsyncTask, Chain, Iter
from .functions import (
    async_chain,
    async_iter,
    async_task,
    count_group,
    delete_cached,
    delete_group,
    fetch,
    fetch_group,
    queue_size,
    result,
    result_group,
)
from .rows import Failure, Success, Task
from .schedules import Schedule, ScheduleExists, schedule
from .tenants import QUtilities

__all__ = [
    "AsyncTask",
    "Chain",
    "Conf",
    "Failure",
    "Iter",
    "QUtilities",
    "Schedule",
    "ScheduleExists",
    "Success",
    "Task",
    "allow",
    "async_chain",
    "async_iter",
    "async_task",
    "configure",
    "count_group",
    "delete_cached",
    "delete_group",
    "fetch",
    "fetch_group",
    "queue_size",
    "result",
    "result_group",
    "schedule",
]
