"""RQ, with rq_scheduler and django_rq beside it.

    from tenant_q.compat.rq import Queue, Retry, get_current_job
    from tenant_q.compat.rq.job import Job, Dependency
    from tenant_q.compat.rq.decorators import job
    from tenant_q.compat.rq_scheduler import Scheduler
    from tenant_q.compat.django_rq import get_queue, enqueue

What is different: arguments and results are JSON, by the function's annotations, and no pickles; a job without Retry
has one attempt, as there; a callback is a task of its own, called once, when the job has ended for good, with None in
place of Redis; a job_id that is used again is another task, of which `Job.fetch` finds the newest. Which functions
may be called: `tenant_q.compat.allow`. Workers are tq_worker's.
"""

from .._call import allow
from .job import Callback, Dependency, Job, JobStatus, Repeat, Retry, cancel_job, get_current_job, requeue_job
from .queue import Queue

__all__ = [
    "Callback",
    "Dependency",
    "Job",
    "JobStatus",
    "Queue",
    "Repeat",
    "Retry",
    "allow",
    "cancel_job",
    "get_current_job",
    "requeue_job",
]
