"""Other systems' ways of saying it: code that was written for them, with nothing changed but its imports.

    from tenant_q.compat.django_q import async_task, result, schedule      # django_q, django_tenant_schemas_q
    from tenant_q.compat.celery import Celery, shared_task, chain          # celery, tenant_schemas_celery
    from tenant_q.compat.rq import Queue, Retry                            # rq; django_rq and rq_scheduler beside it
    from tenant_q.compat.procrastinate import App                          # procrastinate

What maps onto tenant_q does what the original does; a keyword that doesn't raises `Unsupported`, which names its
counterpart. New code is better written with `tenant_q.task`: both live beside each other.

Functions that were never declared as tasks (Django-Q, RQ) are called by one handler, `tenant_q.call`, which calls
none but those that the application lets it: see `allow`.
"""

from ._call import allow
from ._unsupported import Unsupported

__all__ = ["Unsupported", "allow"]
