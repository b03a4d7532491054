"""What tests import: where things are, and how to wait."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SITE = Path(__file__).parent / "site"
SRC = Path(__file__).parents[2] / "src"


def wait_until(query: Callable[..., list[Any]], sql: str, *values: Any) -> None:
    """Until the statement says true."""
    deadline = time.monotonic() + 60
    while not query(sql, *values)[0][0]:
        assert time.monotonic() < deadline, sql
        time.sleep(0.02)
