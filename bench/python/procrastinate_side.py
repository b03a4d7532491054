"""procrastinate's."""

from __future__ import annotations

import os
import time

import procrastinate

app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo="dbname=bench_procrastinate"))


@app.task(name="nothing")
def nothing() -> None:
    """Nothing."""


@app.task(name="stamp")
def stamp() -> None:
    """Notes when it was begun."""
    begin = time.time()
    with open(os.environ["BENCH_STAMPS"], "a") as file:
        file.write(f"{begin!r}\n")
