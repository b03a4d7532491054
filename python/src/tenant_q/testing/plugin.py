"""Fixtures for pytest, there wherever django-tenant-q is installed.

tenant_q_drain: `drain`, for tests in a transaction
tenant_q_run_pending: `run_pending`, for tests that commit
tenant_q_immediate: in this test enqueuing calls the function at once, and its exception is the test's
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .running import Ran


def pytest_configure(config: pytest.Config) -> None:
    """Says which marker there is."""
    config.addinivalue_line("markers", "tenant_q(immediate=False): immediate=True calls tasks where they are enqueued")


@pytest.fixture
def tenant_q_drain() -> Callable[..., list[Ran]]:
    """`tenant_q.testing.drain`."""
    from .running import drain

    return drain


@pytest.fixture
def tenant_q_run_pending() -> Callable[..., list[Ran]]:
    """`tenant_q.testing.run_pending`."""
    from .running import run_pending

    return run_pending


@pytest.fixture
def tenant_q_immediate() -> Iterator[None]:
    """Enqueuing calls the function at once in this test."""
    from .immediate import immediate

    with immediate(propagate=True):
        yield


@pytest.fixture(autouse=True)
def _tenant_q_marker(request: pytest.FixtureRequest) -> Iterator[Any]:
    marker = request.node.get_closest_marker("tenant_q")
    if marker is None or not marker.kwargs.get("immediate"):
        yield
        return
    from .immediate import immediate

    with immediate(propagate=True):
        yield
