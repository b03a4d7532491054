"""Tests of the package without Django."""

import re
from typing import Any


def named(value: Any) -> str:
    """A parameter's name: the same in each process."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))
