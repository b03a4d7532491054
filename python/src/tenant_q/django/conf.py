"""What may be set in the site's settings:

TENANT_Q = {
    "DATABASE": None,          # the alias of the tenants' database; None = TENANT_DB_ALIAS, else "default"
    "CONTROL": None,           # the alias by which workers take: one past the pooler, if there is one
    "TENANT": None,            # without django-tenants: the schema that all tasks are of, "public" perhaps
    "PUBLIC": False,           # with django-tenants: whether the public schema is a tenant, too
    "ATTACH": True,            # whether schemas of tenants are attached when they are made and migrated
    "SYNC": True,              # whether handlers and schedules are declared after migrations
    "SHARED": False,           # whether handlers are declared once, for all tenants, where the task doesn't say
    "MODULES": ["tasks"],      # modules of the installed apps that have tasks
    "TIME_ZONE": None,         # of a task: an attribute of the tenant, or a function's path; None = TIME_ZONE
    "LANGUAGE": None,          # the same; None = LANGUAGE_CODE
    "MIDDLEWARE": [],          # paths of classes, or of instances, as tenant_q.middleware has them
    "PAUSE": None,             # {"drain": 30, "duration": 900}: a tenant's tasks pause while it is migrated
    "IMMEDIATE": False,        # tests: enqueuing calls the function
}
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from django.conf import settings

from ..errors import InvalidOption

__all__ = ["DEFAULTS", "all_settings", "database", "get", "unknown"]

DEFAULTS: dict[str, Any] = {
    "DATABASE": None,
    "CONTROL": None,
    "TENANT": None,
    "PUBLIC": False,
    "ATTACH": True,
    "SYNC": True,
    "SHARED": False,
    "MODULES": ["tasks"],
    "TIME_ZONE": None,
    "LANGUAGE": None,
    "MIDDLEWARE": [],
    "PAUSE": None,
    "IMMEDIATE": False,
    "CALLABLE": [],  # of tenant_q.compat
}


def all_settings() -> Mapping[str, Any]:
    """TENANT_Q, as it is written."""
    found = getattr(settings, "TENANT_Q", None) or {}
    if not isinstance(found, Mapping):
        raise InvalidOption(f"the setting TENANT_Q is {found!r}, and not a dict")
    return found


def get(name: str) -> Any:
    """A setting, or its default."""
    return all_settings().get(name, DEFAULTS[name])


def unknown() -> dict[str, str | None]:
    """Words of TENANT_Q that there aren't, each with the nearest one that there is."""
    return {
        name: next(iter(difflib.get_close_matches(str(name), DEFAULTS, n=1)), None)
        for name in all_settings()
        if name not in DEFAULTS
    }


def database() -> str:
    """The alias of the tenants' database."""
    return str(get("DATABASE") or getattr(settings, "TENANT_DB_ALIAS", None) or "default")
