"""What the site's signals do: a tenant that was made is attached, handlers are declared after migrations, a tenant
pauses while it is migrated."""

from __future__ import annotations

import importlib.util
import logging
from typing import Any

from django.apps import AppConfig, apps
from django.db import connections
from django.db.models.signals import post_migrate

from .. import errors
from . import conf, declaring, tenants
from .app import get_app

__all__ = ["connect", "made", "migrated"]

log = logging.getLogger("tenant_q.django")


def connect(config: AppConfig) -> None:
    """Connects them all."""
    post_migrate.connect(migrated, sender=config, dispatch_uid="tenant_q.migrated")
    for package in ("django_tenants", "tenant_schemas"):
        if apps.is_installed(package) and importlib.util.find_spec(f"{package}.signals"):
            signals = importlib.import_module(f"{package}.signals")
            signals.post_schema_sync.connect(made, dispatch_uid="tenant_q.made")
            for name, receiver in (("schema_pre_migration", pause), ("schema_migrated", resume)):
                signal = getattr(signals, name, None)
                if signal is not None:
                    signal.connect(receiver, dispatch_uid=f"tenant_q.{name}")


def _ready(alias: str) -> bool:
    app = get_app()
    if alias != app.alias or connections[alias].vendor != "postgresql":
        return False
    if not declaring.is_installed(app):
        log.warning(
            "the database %s has no extension tenant_q: CREATE EXTENSION tenant_q, then manage.py tq_sync", alias
        )
        return False
    return True


def migrated(sender: Any, using: str = "default", **kwargs: Any) -> None:
    """After the migrations of a schema: attaches it, if it is a tenant's, and declares its handlers."""
    app = get_app()
    if not _ready(using):
        return
    connection = connections[using]
    schema = getattr(connection, "schema_name", None) or conf.get("TENANT")
    if not hasattr(connection, "set_tenant") or schema == tenants.public_name():
        _sync_shared(app)
    if not schema or not _attach(app, schema):
        return
    if conf.get("SYNC"):
        declaring.sync_tenant(app, schema)


def _sync_shared(app: Any) -> None:
    if not conf.get("SYNC"):
        return
    try:
        declaring.sync_shared(app)
    except errors.NotAllowed as error:
        log.warning("handlers and schedules of all tenants were not declared: %s", error)


def _attach(app: Any, schema: str) -> bool:
    """Whether the schema is attached now."""
    only = conf.get("TENANT")
    if only is None and not declaring.is_tenant(schema):
        return False
    try:
        if conf.get("ATTACH"):
            declaring.attach(app, schema)
            return True
    except errors.NotReady as error:
        # A clone in the making: post_schema_sync comes next. Else somebody has to say what is to become of it.
        log.info("%s", error)
        return False
    except errors.NotAllowed as error:
        log.warning("the schema %s was not attached: %s", schema, error)
        return False
    return schema in declaring.attached(app)


def made(sender: Any, tenant: Any, **kwargs: Any) -> None:
    """After a tenant's schema was made: attaches it, and declares its handlers."""
    app = get_app()
    schema = getattr(tenant, "schema_name", None) or (tenant.get("schema_name") if isinstance(tenant, dict) else None)
    if not isinstance(schema, str) or not declaring.is_tenant(schema) or not _ready(app.alias):
        return
    with tenants.inside(app.alias, schema):
        if conf.get("ATTACH"):
            declaring.attach(app, schema, new=True)
        if conf.get("SYNC") and schema in declaring.attached(app):
            declaring.sync_tenant(app, schema)


def pause(sender: Any, schema_name: str, **kwargs: Any) -> None:
    """Before a tenant is migrated: nothing of it is started any more, and what runs ends."""
    how = conf.get("PAUSE")
    app = get_app()
    if not how or not declaring.is_installed(app):
        return
    how = how if isinstance(how, dict) else {}
    app.execute(
        f"SELECT {app.calls.at}tq_pause(tenant, drain => %s::pg_catalog.interval, duration => %s::pg_catalog.interval)"
        f" FROM {app.calls.at}tq_tenants WHERE tenant = %s",
        [_seconds(how.get("drain", 30)), _seconds(how.get("duration", 900)), schema_name],
    )


def resume(sender: Any, schema_name: str, **kwargs: Any) -> None:
    """After a tenant was migrated: its tasks go on."""
    app = get_app()
    if conf.get("PAUSE") and declaring.is_installed(app):
        app.execute(
            f"SELECT {app.calls.at}tq_resume(tenant) FROM {app.calls.at}tq_tenants WHERE tenant = %s", [schema_name]
        )


def _seconds(value: Any) -> str:
    return value if isinstance(value, str) else f"{value} seconds"
