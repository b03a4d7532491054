"""System checks. Those of the settings are always made, those of the database where Django checks it: by
`manage.py check --database default`, and before migrations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from django.conf import settings
from django.core import checks
from django.db import Error, connections

from .. import errors
from . import conf, declaring, tenants
from .app import get_app

__all__ = ["of_database", "of_settings", "register"]


def register() -> None:
    """Makes them known."""
    checks.register(of_settings, "tenant_q")
    checks.register(of_database, checks.Tags.database)


def of_settings(app_configs: Any = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """What the settings say."""
    found: list[checks.CheckMessage] = []
    try:
        found += [
            checks.Error(
                f"TENANT_Q has no {name!r}.",
                hint=f"Did you mean {near!r}?" if near else "There are: " + ", ".join(conf.DEFAULTS) + ".",
                id="tenant_q.E001",
            )
            for name, near in conf.unknown().items()
        ]
    except errors.InvalidOption as error:
        return [checks.Error(error.message, id="tenant_q.E001")]
    for name in ("DATABASE", "CONTROL"):
        alias = conf.database() if name == "DATABASE" else conf.get(name)
        if alias is None:
            continue
        if alias not in settings.DATABASES:
            found.append(checks.Error(f"TENANT_Q[{name!r}] is {alias!r}, which DATABASES hasn't.", id="tenant_q.E002"))
        elif connections[alias].vendor != "postgresql":
            found.append(checks.Error(f"The database {alias!r} isn't PostgreSQL.", id="tenant_q.E002"))
    if any(each.id == "tenant_q.E002" for each in found):
        return found
    found += _of_tenancy()
    found += _of_poolers()
    return found


def _of_tenancy() -> Iterable[checks.CheckMessage]:
    alias = conf.database()
    if not tenants.has_tenants(alias):
        if not conf.get("TENANT"):
            yield checks.Warning(
                "It isn't said which schema the tasks of this site are of.",
                hint="TENANT_Q = {'TENANT': 'public'}, and SELECT tq_attach('public') once.",
                id="tenant_q.W003",
            )
    elif conf.get("TENANT"):
        yield checks.Error(
            "TENANT_Q['TENANT'] is for sites of one schema, and the database switches between tenants.",
            hint="Leave it out: tasks are of the tenant that the connection is of.",
            id="tenant_q.E003",
        )
    elif "tenant_q.django" in getattr(settings, "SHARED_APPS", ()) and "tenant_q.django" not in getattr(
        settings, "TENANT_APPS", ()
    ):
        yield checks.Warning(
            "'tenant_q.django' is in SHARED_APPS alone, so that permissions for its models are made in public only.",
            hint="Put it into TENANT_APPS.",
            id="tenant_q.W004",
        )


def _of_poolers() -> Iterable[checks.CheckMessage]:
    """A pooler in transaction mode can't be seen from here; who has one turns server-side cursors off, as Django's
    documentation says."""
    alias = conf.database()
    pooled = bool(settings.DATABASES[alias].get("DISABLE_SERVER_SIDE_CURSORS"))
    if not pooled:
        return
    control = conf.get("CONTROL")
    if control is None or settings.DATABASES[control].get("DISABLE_SERVER_SIDE_CURSORS"):
        yield checks.Warning(
            f"The database {alias!r} seems to be reached through a pooler in transaction mode, and workers take by it.",
            hint="What takes needs a session of its own: add an alias past the pooler, TENANT_Q = {'CONTROL': '…'}.",
            id="tenant_q.W001",
        )
    if getattr(settings, "TENANT_LIMIT_SET_CALLS", False):
        yield checks.Warning(
            "TENANT_LIMIT_SET_CALLS with a pooler in transaction mode: search_path is set in one session of the server,"
            " and statements go to another one.",
            hint="TENANT_LIMIT_SET_CALLS = False. Tasks are enqueued in their tenant all the same: it is always named.",
            id="tenant_q.W002",
        )
    if not tenants.has_tenants(alias) and not conf.get("TENANT"):
        yield checks.Error(
            "Through a pooler in transaction mode the schema has to be named, and TENANT_Q['TENANT'] names none.",
            hint="TENANT_Q = {'TENANT': 'public'}.",
            id="tenant_q.E005",
        )


def of_database(
    app_configs: Any = None, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[checks.CheckMessage]:
    """What the database says."""
    alias = conf.database()
    if not databases or alias not in databases or connections[alias].vendor != "postgresql":
        return []
    app = get_app()
    try:
        if not declaring.is_installed(app):
            return [
                checks.Warning(
                    f"The database {alias!r} has no extension tenant_q.",
                    hint="As a superuser: CREATE EXTENSION tenant_q; of a test database: manage.py tq_test_template.",
                    id="tenant_q.W010",
                )
            ]
        return [*_of_extension(app), *_of_tenants(app)]
    except (Error, errors.TenantQError) as error:
        return [checks.Warning(f"The database {alias!r} could not be asked: {error}".strip(), id="tenant_q.W014")]


def _of_extension(app: Any) -> Iterable[checks.CheckMessage]:
    try:
        app.check_protocol()
    except errors.WrongProtocol as error:
        yield checks.Error(error.message, hint=error.hint, id="tenant_q.E011")
    # Asked for without reading the setting, which not everybody may.
    if not app.execute("SELECT 1 FROM pg_catalog.pg_settings WHERE name = 'tenant_q.max_claims'"):
        yield checks.Warning(
            "The server doesn't preload tenant_q: tasks can be enqueued, and nothing runs.",
            hint="shared_preload_libraries = 'tenant_q' in postgresql.conf, and a restart.",
            id="tenant_q.W011",
        )


def _of_tenants(app: Any) -> Iterable[checks.CheckMessage]:
    name = getattr(tenants.tenant_model(), "_meta", None)
    if tenants.has_tenants(app.alias) and (
        name is None or not app.execute("SELECT pg_catalog.to_regclass(%s)::text", [_quoted(name.db_table)])[0][0]
    ):
        return  # nothing is migrated yet
    there = declaring.attached(app)
    missing = [each for each in tenants.tenant_names(app.alias) if each not in there]
    if missing:
        shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        yield checks.Warning(
            f"Tenants whose schemas are not attached: {shown}.",
            hint="manage.py migrate_schemas attaches them; or AttachTenant() in a migration; or SELECT tq_attach('…').",
            id="tenant_q.W012",
        )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
