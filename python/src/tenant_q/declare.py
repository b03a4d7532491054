"""What a deploy declares: the document of tq_register_many, made of the tasks and schedules of this process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .calls import many_literal
from .schedules import declared, prepare

if TYPE_CHECKING:
    from .app import App
    from .schedules import Schedule
    from .task import Task

__all__ = ["documents", "schedules_everywhere", "sync"]


class _Undo(Exception):
    """Rolls back what was only to be looked at."""


def is_shared(app: App, task: Task[..., Any]) -> bool:
    """Whether the handler is one of all tenants: as the task says, else as the App does."""
    return app.shared if task.declared.shared is None else task.declared.shared


def documents(app: App) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is declared for all tenants at once, and what in each tenant."""
    prepare()
    shared: list[dict[str, Any]] = []
    own: list[dict[str, Any]] = []
    for task in sorted(app.registry, key=lambda each: each.name):
        document = task.handler_document()
        if is_shared(app, task):
            shared.append({**document, "shared": True})
        else:
            document.pop("shared", None)
            own.append(document)
    schedules = [each.document() for each in declared(app) if not each.everywhere]
    return {"handlers": shared}, {"handlers": own, "schedules": schedules}


def schedules_everywhere(app: App) -> list[Schedule]:
    """Schedules that all tenants have: tq_schedule_all makes them."""
    return [each for each in declared(app) if each.everywhere]


def sync(app: App, *, check: bool = False, prune: bool = False, tenant: str | None = None) -> int:
    """Declares it all: handlers of all tenants once; handlers and schedules of a tenant in `tenant`, or the App's
    current one. How many were new or changed. check: only tells how many would be.

    Where the App has no tenant, nothing of a tenant's own is declared, unless there is something that would have to be:
    then the server says which schema that is, the first one of search_path.
    """
    changed = 0
    try:
        with app.atomic():
            changed = _declare(app, prune, tenant or app.current_tenant())
            if check:
                raise _Undo
    except _Undo:
        pass
    return changed


def _declare(app: App, prune: bool, tenant: str | None) -> int:
    shared, own = documents(app)
    changed = 0
    if shared["handlers"]:
        changed += app.value(app.calls.register_many(many_literal(shared), prune, None))
    if own["handlers"] or own["schedules"] or (prune and tenant is not None):
        changed += app.value(app.calls.register_many(many_literal(own), prune, tenant))
    for each in schedules_everywhere(app):
        changed += _everywhere(app, each)
    return changed


def _everywhere(app: App, schedule: Schedule) -> int:
    """tq_schedule_all has no "as it is already": replacing a definition by the same one changes nothing in any tenant,
    but is written."""
    app.run(app.calls.schedule({**schedule.document(), "on_conflict": "replace"}, everywhere=True))
    return 0
