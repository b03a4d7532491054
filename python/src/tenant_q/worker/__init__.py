"""The worker: a supervising process that runs no code of yours, and processes that do.

The supervisor holds the one connection that takes tasks, says that the worker lives, and hears of cancels and
timeouts. Its children are fresh processes; each gets tasks over a socket, runs them in one thread or several, and says
how they ended. What doesn't end in time is ended with its process.

`run(WorkerOptions(app="shop.tasks:app"))` is what `python -m tenant_q worker shop.tasks:app` does.
"""

from __future__ import annotations

from .options import WorkerOptions, add_arguments, options_of

__all__ = ["WorkerOptions", "add_arguments", "options_of", "run"]


def run(options: WorkerOptions) -> int:
    """Works until it is stopped; the exit status: 0 after a graceful stop. Raises `TenantQError` where it can't
    begin."""
    from .supervisor import run as supervise

    return supervise(options)
