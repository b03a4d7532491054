"""tenant_q's."""

from __future__ import annotations

import os
import time

from tenant_q import App, task

app = App("dbname=bench_tenant_q", tenant="bench")


@task
def nothing() -> None:
    """Nothing."""


@task
def stamp() -> None:
    """Notes when it was begun."""
    begin = time.time()
    with open(os.environ["BENCH_STAMPS"], "a") as file:
        file.write(f"{begin!r}\n")
