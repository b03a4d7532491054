"""Each small app, once with the system that it was written for, and once with nothing changed but its imports."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tenant_q import App

from . import harness

NEEDS = {"django_q": "django_q", "celery": "celery", "rq": "fakeredis", "procrastinate": "procrastinate"}


def outcomes(system: str, module: str, shims: App, run: Callable[[], None], *more: object) -> None:
    pytest.importorskip(NEEDS[system])
    app = harness.load(module)
    shims.sync()
    ours = harness.as_json(app.outcomes(run, *more))
    theirs = harness.original(system)
    assert ours == theirs
    assert len(ours) > 10


def test_django_q(shims: App, run: Callable[[], None]) -> None:
    outcomes("django_q", "dq_app", shims, run)


def test_celery(shims: App, run: Callable[[], None]) -> None:
    outcomes("celery", "celery_app", shims, run)


def test_rq(shims: App, run: Callable[[], None]) -> None:
    outcomes("rq", "rq_app", shims, run, None)


def test_procrastinate(shims: App, run: Callable[[], None]) -> None:
    outcomes("procrastinate", "procrastinate_app", shims, run)
