"""The operation for migrations that makes a tenant of the schema which is migrated."""

from __future__ import annotations

from typing import Any

from django.db import router
from django.db.migrations.operations.base import Operation

from .. import errors
from . import conf, declaring

__all__ = ["AttachTenant"]


class AttachTenant(Operation):  # type: ignore[misc]
    """Attaches the schema that is migrated, in a migration of an app of TENANT_APPS.

    adopt: takes over tables of tasks that are there, with what is in them
    drop_data: whether to migrate backwards drops them; otherwise the schema is detached and they stay

    In the schema that all tenants share it does nothing, but where PUBLIC says that this is a tenant, too.
    """

    reversible = True
    atomic = True

    def __init__(self, adopt: bool = False, drop_data: bool = False) -> None:
        self.adopt = adopt
        self.drop_data = drop_data

    def deconstruct(self) -> tuple[str, list[Any], dict[str, Any]]:
        kwargs = {name: True for name in ("adopt", "drop_data") if getattr(self, name)}
        return type(self).__qualname__, [], kwargs

    def state_forwards(self, app_label: str, state: Any) -> None:
        """Changes no model."""

    @staticmethod
    def _schema(app_label: str, schema_editor: Any) -> str | None:
        connection = schema_editor.connection
        if connection.alias != conf.database() or not router.allow_migrate(connection.alias, app_label):
            return None
        name = getattr(connection, "schema_name", None) or conf.get("TENANT")
        if name is None:
            raise errors.NoTenant(
                "AttachTenant() doesn't know which schema is meant",
                hint="Without django-tenants say it: TENANT_Q = {'TENANT': 'public'}.",
            )
        return str(name) if conf.get("TENANT") or declaring.is_tenant(str(name)) else None

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        from .app import get_app

        schema = self._schema(app_label, schema_editor)
        if schema is None:
            return
        app = get_app()
        if not schema_editor.collect_sql and app.execute(
            f"SELECT 1 FROM {app.calls.at}tq_tenants WHERE tenant = %s", [schema]
        ):
            return
        call = app.calls.attach(schema, self.adopt)
        schema_editor.execute(call.sql, call.params)

    def database_backwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        from .app import get_app

        schema = self._schema(app_label, schema_editor)
        if schema is not None:
            at = get_app().calls.at
            schema_editor.execute(f"SELECT {at}tq_detach(%s::text, %s::boolean)", [schema, self.drop_data])

    def describe(self) -> str:
        return "Attaches the schema to tenant_q"

    @property
    def migration_name_fragment(self) -> str:
        return "attach_tenant"
