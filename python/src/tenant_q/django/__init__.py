"""tenant_q in a Django site, with django-tenants, django-tenant-schemas or neither.

    INSTALLED_APPS += ["tenant_q.django"]
    TASKS = {"default": {"BACKEND": "tenant_q.django.Backend"}}

What may be set is in `tenant_q.django.conf`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .app import DjangoApp, OtherDatabase
    from .backend import Backend
    from .operations import AttachTenant

__all__ = ["AttachTenant", "Backend", "DjangoApp", "OtherDatabase"]

# Found when they are asked for: Django imports this module before its settings may be read.
_PLACES = {
    "AttachTenant": "operations",
    "Backend": "backend",
    "DjangoApp": "app",
    "OtherDatabase": "app",
}


def __getattr__(name: str) -> Any:
    place = _PLACES.get(name)
    if place is None:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{place}"), name)
