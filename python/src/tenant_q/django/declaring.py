"""Attaching the site's tenants, and declaring its tasks in them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from django.db import transaction

from .. import declare, errors
from ..calls import FIND_EXTENSION, many_literal
from . import conf, tenants

if TYPE_CHECKING:
    from .app import DjangoApp

__all__ = ["attach", "attached", "is_installed", "sync_all", "sync_tenant"]

log = logging.getLogger("tenant_q.django")

#: a tenant's tables
_TABLES = ("tq_task", "tq_result", "tq_schedule")


def is_installed(app: DjangoApp) -> bool:
    """Whether the database has the extension."""
    return bool(app.execute(FIND_EXTENSION))


def attached(app: DjangoApp) -> set[str]:
    """The schemas that are attached, of those that this role may see."""
    return {row[0] for row in app.execute(f"SELECT tenant FROM {app.calls.at}tq_tenants")}


def attach(app: DjangoApp, schema: str, *, new: bool = False) -> bool:
    """Attaches a schema; False = it is attached. new: it was made just now, so that tables in it are a clone's: what is
    in them is the other tenant's to run."""
    known = app.execute(f"SELECT 1 FROM {app.calls.at}tq_tenants WHERE tenant = %s", [schema])
    if known:
        return False
    there = [name for name in _TABLES if _table(app, schema, name)]
    if there and not new:
        raise errors.NotReady(
            f"the schema {schema} has tables of tasks, and isn't attached",
            hint=f"Is it restored, or a copy? SELECT tq_attach('{schema}', adopt => true) takes them over, with all"
            " that is in them.",
        )
    with transaction.atomic(using=app.alias):
        for name in there:
            if name != "tq_schedule":
                app.execute(f"DELETE FROM {_table(app, schema, name)}")
        return bool(app.value(app.calls.attach(schema, adopt=bool(there))))


def _table(app: DjangoApp, schema: str, name: str) -> str | None:
    found = app.execute(
        "SELECT c.oid::pg_catalog.regclass::text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n"
        " ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s",
        [schema, name],
    )
    return found[0][0] if found else None


class _Undo(Exception):
    """Rolls back what was only to be looked at."""


def _in_transaction(app: DjangoApp, check: bool, work: Any) -> int:
    changed = 0
    try:
        with transaction.atomic(using=app.alias):
            changed = work()
            if check:
                raise _Undo
    except _Undo:
        pass
    return changed


def sync_shared(app: DjangoApp, *, check: bool = False, prune: bool = False) -> int:
    """Declares what is of all tenants; how much was new or changed."""
    app.load_tasks()
    shared, _ = declare.documents(app)
    everywhere = declare.schedules_everywhere(app)

    def work() -> int:
        changed = 0
        if shared["handlers"]:
            changed += app.value(app.calls.register_many(many_literal(shared), prune, None))
        for each in everywhere:
            changed += declare._everywhere(app, each)
        return changed

    return _in_transaction(app, check, work) if shared["handlers"] or everywhere else 0


def sync_tenant(app: DjangoApp, tenant: str, *, check: bool = False, prune: bool = False) -> int:
    """Declares what is of one tenant; how much was new or changed."""
    app.load_tasks()
    _, own = declare.documents(app)
    if not (own["handlers"] or own["schedules"] or prune):
        return 0
    return _in_transaction(
        app, check, lambda: int(app.value(app.calls.register_many(many_literal(own), prune, tenant)))
    )


def sync_all(app: DjangoApp, *, check: bool = False, prune: bool = False) -> Iterator[tuple[str, int]]:
    """Declares all of it: what is of all tenants (under the name ""), then each tenant of the site that is attached, in
    a transaction of its own."""
    yield "", sync_shared(app, check=check, prune=prune)
    there = attached(app)
    for name in tenants.tenant_names(app.alias):
        if name in there:
            yield name, sync_tenant(app, name, check=check, prune=prune)


def is_tenant(schema: str) -> bool:
    """Whether the schema may be one, by its name and the settings."""
    return schema != tenants.public_name() or bool(conf.get("PUBLIC"))
