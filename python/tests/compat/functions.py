"""Functions that were never declared as tasks."""

from __future__ import annotations

import dataclasses
import math  # noqa: F401 to be refused: it is only imported here
import os  # noqa: F401 to be refused: it is only imported here
from datetime import date
from typing import Any

told: list[Any] = []


@dataclasses.dataclass
class Point:
    x: int
    y: int


def add(a: int, b: int = 1) -> int:
    return a + b


def day_of(when: date) -> date:
    return when


def moved(point: Point) -> Point:
    return Point(point.x + 1, point.y + 1)


def rest(*args: Any, **kwargs: Any) -> list[Any]:
    return [list(args), kwargs]


async def later(n: int) -> int:
    return n * 2


def broken(text: str = "no luck") -> None:
    raise ValueError(text)


def heard(task: Any) -> None:
    told.append(task)


def at(intended: str, n: int = 0) -> list[Any]:
    return [intended, n]


def in_schema(schema_name: str, n: int) -> list[Any]:
    return [schema_name, n]


def _hidden() -> None:
    """Not to be called by tasks."""


def worked(job: Any, connection: Any, result: Any) -> None:
    told.append(("worked", job.id, result))


def failed(job: Any, connection: Any, kind: Any, value: Any, trace: Any) -> None:
    told.append(("failed", kind, str(value)))


def stopped(job: Any, connection: Any) -> None:
    told.append(("stopped", job.id))
