"""Tests of a site's own code.

    class InvoiceTest(TasksMixin, TenantTestCase):
        def test_is_sent(self):
            send_invoice.enqueue(7)
            self.assertEqual([ran.state for ran in self.drain()], ["done"])

In `TestCase` tasks run inside of the test's transaction: `drain()`. In `TransactionTestCase`, where they are
committed: `run_pending()`. `immediate()` calls them where they are enqueued; for a whole test run
`TENANT_Q = {"IMMEDIATE": True}`.
The extension comes into test databases with their template: `manage.py tq_test_template`.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from ..testing import Ran, immediate
from ..testing import drain as _drain
from ..testing import run_pending as _run_pending
from . import declaring, tenants
from .app import get_app

__all__ = ["Ran", "TasksMixin", "clear", "declare", "drain", "immediate", "run_pending"]


def _tenant(tenant: str | None) -> str:
    return tenant or get_app().current_tenant()


def declare(tenant: str | None = None) -> None:
    """Attaches the tenant, the current one by default, and declares the site's tasks in it: for schemas that no
    migration has made."""
    app = get_app()
    tenant = _tenant(tenant)
    declaring.attach(app, tenant)
    declaring.sync_shared(app)
    declaring.sync_tenant(app, tenant)


def drain(**words: Any) -> list[Ran]:
    """`tenant_q.testing.drain`, in the current tenant."""
    app = get_app()
    app.load_tasks()
    return _drain(app, **words)


def run_pending(**words: Any) -> list[Ran]:
    """`tenant_q.testing.run_pending`, in the current tenant."""
    app = get_app()
    app.load_tasks()
    return _run_pending(app, **words)


def clear(tenant: str | None = None) -> None:
    """Deletes the tasks and results of a tenant: flushing a test database doesn't, they are of no model."""
    app = get_app()
    schema = _tenant(tenant)
    for name in ("tq_task", "tq_result"):
        table = declaring._table(app, schema, name)
        if table is not None:
            app.execute(f"DELETE FROM {table}")


class TasksMixin:
    """For TestCase and TransactionTestCase."""

    #: whether the test's tenant is attached and tasks are declared before each test, where that isn't so
    declare_tasks = True

    def setUp(self) -> None:
        super().setUp()  # type: ignore[misc]
        app = get_app()
        try:
            tenant = app.current_tenant()
        except Exception:  # a test that is of no tenant
            return
        if self.declare_tasks and tenant not in declaring.attached(app):
            declare(tenant)

    def tearDown(self) -> None:
        app = get_app()
        if not app._connection.in_atomic_block and declaring.is_installed(app):
            for name in declaring.attached(app):
                with tenants.inside(app.alias, name):
                    clear(name)
        super().tearDown()  # type: ignore[misc]

    def drain(self, **words: Any) -> list[Ran]:
        """Runs what is due inside of the test's transaction."""
        return drain(**words)

    def run_pending(self, **words: Any) -> list[Ran]:
        """Runs what is due and committed."""
        return run_pending(**words)

    def immediate(self, **words: Any) -> AbstractContextManager[None]:
        """In the block enqueuing calls the function."""
        return immediate(get_app(), **words)
