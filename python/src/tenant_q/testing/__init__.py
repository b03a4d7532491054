"""Running tasks in tests of an application.

`drain()` runs what is due inside of the test's open transaction, whose rollback undoes all. `run_pending()` runs what
is committed, each task in a transaction of its own. `immediate()` calls functions in the place where they are enqueued,
without the server.
"""

from .immediate import ImmediateResult, immediate
from .running import Ran, drain, run_pending

__all__ = ["ImmediateResult", "Ran", "drain", "immediate", "run_pending"]
