"""The pages about Python say what is so: every block of them is run, in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tenant_q import errors

HERE = Path(__file__).parent
DOCS = HERE.parents[2] / "docs"
PAGES = sorted(path.stem for path in DOCS.glob("*.md") if "<!-- run by: python/tests/docs" in path.read_text())


@pytest.mark.parametrize("name", PAGES)
def test_every_block_of_the_page_runs(name: str) -> None:
    if not os.environ.get("PGHOST"):
        pytest.fail("these tests need a server with tenant_q: set PGHOST, PGPORT, PGUSER and PGDATABASE", pytrace=False)
    done = subprocess.run(
        [sys.executable, "-B", str(HERE / "blocks.py"), str(DOCS / f"{name}.md")],
        env={name: value for name, value in os.environ.items() if not name.startswith("DJANGO_SETTINGS")},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_table_of_errors_has_them_all() -> None:
    text = (DOCS / "python.md").read_text().split("\n## Errors\n")[1].split("\n## ")[0]
    told = {name for row in re.findall(r"^\| (`.+?`) \|", text, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}
    there = {name for name in errors.__all__ if isinstance(getattr(errors, name), type)}
    assert told == there
