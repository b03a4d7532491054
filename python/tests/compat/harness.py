"""The same small apps with nothing changed but their imports."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tenant_q import App
from tenant_q.task import registry
from tenant_q.testing import run_pending

APPS = Path(__file__).parent / "apps"

#: the imports that are changed, and nothing else
IMPORTS = {
    r"^from django_q\.(tasks|models) import": r"from tenant_q.compat.django_q.\1 import",
    r"^from celery import": "from tenant_q.compat.celery import",
    r"^from celery\.(\w+) import": r"from tenant_q.compat.celery.\1 import",
    r"^from rq import": "from tenant_q.compat.rq import",
    r"^from rq\.(\w+) import": r"from tenant_q.compat.rq.\1 import",
    r"^import procrastinate$": "import tenant_q.compat.procrastinate as procrastinate",
    r"^from procrastinate import": "from tenant_q.compat.procrastinate import",
    r"^from procrastinate\.(\w+) import": r"from tenant_q.compat.procrastinate.\1 import",
}


def original(system: str) -> dict[str, Any]:
    """What comes back with the system that the app was written for."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parent / "originals.py"), system, str(APPS)],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("OUTCOMES ")]
    assert lines, done.stdout[-3000:] + done.stderr[-3000:]
    found: dict[str, Any] = json.loads(lines[-1].removeprefix("OUTCOMES "))
    return found


def load(name: str) -> types.ModuleType:
    """The app's module, with its imports changed."""
    if name in sys.modules:
        return sys.modules[name]
    source = (APPS / f"{name}.py").read_text()
    for pattern, to in IMPORTS.items():
        source = re.sub(pattern, to, source, flags=re.MULTILINE)
    module = types.ModuleType(name)
    module.__file__ = str(APPS / f"{name}.py")
    sys.modules[name] = module
    exec(compile(source, module.__file__, "exec"), module.__dict__)
    return module


def as_json(found: dict[str, Any]) -> dict[str, Any]:
    """As the original's come."""
    made: dict[str, Any] = json.loads(json.dumps(found, default=str))
    return made


def runner(app: App) -> Callable[[], None]:
    """Works off what is due, until nothing is: what a worker does."""

    def run() -> None:
        while run_pending(app, wait=0.2):
            pass

    return run


def names() -> list[str]:
    """What is registered."""
    return registry.names()
