"""Which tenant a connection is of, and how it becomes one's: django-tenants and django-tenant-schemas by what their
connections have in common (`schema_name`, `set_tenant`, `tenant`), and sites of one schema."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.apps import apps
from django.conf import settings
from django.db import connections
from django.utils.functional import SimpleLazyObject

from .. import errors
from . import conf

__all__ = [
    "LazyTenant",
    "current",
    "has_tenants",
    "inside",
    "public_name",
    "search_path",
    "tenant_model",
    "tenant_names",
]


def has_tenants(alias: str) -> bool:
    """Whether connections of this alias switch between tenants."""
    return hasattr(connections[alias], "set_tenant")


def public_name() -> str:
    """The schema of what all tenants share."""
    return str(getattr(settings, "PUBLIC_SCHEMA_NAME", "public"))


def search_path(tenant: str) -> list[str]:
    """In which schemas a tenant's names are looked up, as django-tenants has them."""
    return list(dict.fromkeys([tenant, public_name(), *getattr(settings, "PG_EXTRA_SEARCH_PATHS", [])]))


def tenant_model() -> Any:
    """The site's model of tenants; None = it has none."""
    name = getattr(settings, "TENANT_MODEL", None)
    return None if name is None else apps.get_model(name)


def tenant_names(alias: str) -> list[str]:
    """The schemas of all tenants that the site knows, in their order; with PUBLIC that of all tenants as well."""
    if not has_tenants(alias):
        only = conf.get("TENANT")
        return [only] if only else []
    public = public_name()
    with inside(alias, public):
        names = list(tenant_model()._default_manager.using(alias).order_by("pk").values_list("schema_name", flat=True))
    if conf.get("PUBLIC"):
        return list(dict.fromkeys([public, *names]))
    return [name for name in names if name != public]


def current(alias: str, *, public: bool = False) -> str:
    """The tenant of this thread's connection; raises `NoTenant` where it is of none. public: the public schema is
    meant, if it is that."""
    connection = connections[alias]
    if not hasattr(connection, "set_tenant"):
        only = conf.get("TENANT")
        if only:
            return str(only)
        raise errors.NoTenant(
            "it isn't said which schema the tasks of this site are of",
            hint="TENANT_Q = {'TENANT': 'public'} in the settings, and SELECT tq_attach('public'); or enqueue with"
            " options(tenant='…').",
        )
    name = connection.schema_name
    if name and (name != public_name() or public or conf.get("PUBLIC")):
        return str(name)
    raise errors.NoTenant(
        f"the connection is in the schema {name}, which is no tenant",
        detail="A task enqueued here would run in the schema that all tenants share.",
        hint="Enqueue in the tenant's context (with tenant: …), say options(tenant='…'), or enqueue_all() for every"
        " tenant. Where that schema is a tenant: TENANT_Q = {'PUBLIC': True}. In a coroutine, whose thread has a"
        " connection of its own, use aenqueue().",
    )


class LazyTenant(SimpleLazyObject):  # type: ignore[misc]
    """The tenant's object, looked up when it is used: most tasks need no more than its schema's name."""

    def __init__(self, alias: str, schema_name: str) -> None:
        self.__dict__["schema_name"] = schema_name

        def find() -> Any:
            model = tenant_model()
            with inside(alias, public_name()):
                found = model._default_manager.using(alias).filter(schema_name=schema_name).first()
            if found is None:
                if schema_name == public_name():
                    return _Plain(schema_name)
                raise errors.UnknownTenant(
                    f"the site has no tenant of the schema {schema_name}",
                    detail=f"There is no such row of {model._meta.label}.",
                    hint="It was deleted, and its schema is still there: DROP SCHEMA, or tq_detach it.",
                )
            return found

        super().__init__(find)


class _Plain:
    """What stands for the public schema where it has no row."""

    def __init__(self, schema_name: str) -> None:
        self.schema_name = schema_name
        self.tenant_type = None

    def get_tenant_type(self) -> None:
        return None


@contextmanager
def inside(alias: str, schema_name: str, tenant: Any = None) -> Iterator[None]:
    """In the block this thread's connection is the tenant's; afterwards what it was before. tenant: its object, if it
    is at hand."""
    connection = connections[alias]
    if not hasattr(connection, "set_tenant"):
        only = conf.get("TENANT")
        if only is not None and schema_name != only:
            raise errors.UnknownTenant(
                f"this site's tasks are of the schema {only}, and this is of {schema_name}",
                hint="Workers of a site of one schema take with --tenants of that one.",
            )
        yield
        return
    before, with_public = connection.tenant, getattr(connection, "include_public_schema", True)
    if schema_name == public_name() and tenant is None:
        connection.set_schema_to_public()
    else:
        connection.set_tenant(tenant if tenant is not None else LazyTenant(alias, schema_name))
    try:
        yield
    finally:
        if before is None:
            connection.set_schema_to_public()
        else:
            connection.set_tenant(before, with_public)
