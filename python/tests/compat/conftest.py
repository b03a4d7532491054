"""An App of the shims: they register their tasks for the whole process, and so does this App."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tenant_q import App
from tenant_q.compat import allow
from tenant_q.compat.django_q import configure

from . import harness


@pytest.fixture
def shims(tenant: str) -> Iterator[App]:
    """An App of a fresh tenant, in which all that is registered is declared."""

    allow("dq_app", "rq_app", "tests.compat.functions", "math.floor", "math.copysign")
    configure(name="shop", ack_failures=True)
    made = App(tenant=tenant)
    with made.active():
        made.sync()
        yield made
    made.close_loop()
    made.connections.close_all()


@pytest.fixture
def run(shims: App) -> Callable[[], None]:
    """Works off what is due."""
    return harness.runner(shims)
