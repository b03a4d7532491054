"""Settings of a Celery app: those that mean something here, and those that nothing depends on."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from datetime import tzinfo
from typing import Any
from zoneinfo import ZoneInfo

__all__ = ["Conf"]

log = logging.getLogger("tenant_q")

#: settings that are looked at, with their defaults
_DEFAULTS: dict[str, Any] = {
    "beat_schedule": {},
    "enable_utc": True,
    "imports": (),
    "include": (),
    "result_expires": None,
    "task_acks_late": False,
    "task_always_eager": False,
    "task_annotations": None,
    "task_default_priority": None,
    "task_default_queue": "celery",
    "task_default_rate_limit": None,
    "task_eager_propagates": False,
    "task_ignore_result": False,
    "task_publish_retry": True,
    "task_routes": None,
    "task_soft_time_limit": None,
    "task_store_eager_result": False,
    "task_tenant_cache_seconds": 0,
    "task_time_limit": None,
    "task_track_started": False,
    "timezone": None,
}
#: beginnings of settings about brokers, backends, workers and how messages are written: nothing here depends on them
_NOTHING = (
    "accept_content", "beat_", "broker", "cache_", "control_", "database_", "deprecated_", "django_celery", "event_",
    "event_queue", "events_", "mongodb_", "redis_", "result_", "security_", "task_acks", "task_compression",
    "task_create", "task_default_", "task_protocol", "task_publish", "task_queue", "task_reject", "task_remote",
    "task_send", "task_serializer", "task_store", "task_track", "worker",
)  # fmt: skip
#: old names of settings
_OLD = {
    "CELERYBEAT_SCHEDULE": "beat_schedule",
    "CELERY_ALWAYS_EAGER": "task_always_eager",
    "CELERY_DEFAULT_QUEUE": "task_default_queue",
    "CELERY_EAGER_PROPAGATES_EXCEPTIONS": "task_eager_propagates",
    "CELERY_IGNORE_RESULT": "task_ignore_result",
    "CELERY_ROUTES": "task_routes",
    "CELERY_TASK_RESULT_EXPIRES": "result_expires",
    "CELERYD_TASK_TIME_LIMIT": "task_time_limit",
    "CELERYD_TASK_SOFT_TIME_LIMIT": "task_soft_time_limit",
}


class Conf(MutableMapping[str, Any]):
    """The settings, as attributes and as a dict."""

    def __init__(self, changed: Callable[[str, Any], None]) -> None:
        self.__dict__["_values"] = {}
        self.__dict__["_changed"] = changed

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"there is no setting {name}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __getitem__(self, name: str) -> Any:
        name = _OLD.get(name, name).lower()
        values = self.__dict__["_values"]
        if name == "beat_schedule" and name not in values:
            values[name] = {}
        return values[name] if name in values else _DEFAULTS[name]

    def __setitem__(self, name: str, value: Any) -> None:
        name = _OLD.get(name, name).lower()
        if name not in _DEFAULTS and not name.startswith(_NOTHING):
            log.warning("the Celery setting %s means nothing to tenant_q", name)
        self.__dict__["_values"][name] = value
        self.__dict__["_changed"](name, value)

    def __delitem__(self, name: str) -> None:
        del self.__dict__["_values"][name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter({**_DEFAULTS, **self.__dict__["_values"]})

    def __len__(self) -> int:
        return len({**_DEFAULTS, **self.__dict__["_values"]})

    def read(self, source: Any, namespace: str | None = None) -> None:
        """Of an object, or its dotted name; namespace: the beginning of its names."""
        if isinstance(source, str):
            module, _, name = source.replace(":", ".").rpartition(".")
            try:
                source = importlib.import_module(source.replace(":", "."))
            except ModuleNotFoundError:
                source = getattr(importlib.import_module(module), name)
        names = source if isinstance(source, Mapping) else dir(source)
        found = {}
        for name in names:
            if name.startswith("_") or (namespace and not name.startswith(f"{namespace}_")):
                continue
            short = name.removeprefix(f"{namespace}_") if namespace else name
            key = _OLD.get(name, short).lower()
            if key in _DEFAULTS or (namespace and key.startswith(_NOTHING)):
                found[key] = source[name] if isinstance(source, Mapping) else getattr(source, name)
        self.update(found)

    @property
    def zone(self) -> tzinfo:
        """In which schedules and moments without a zone are."""
        return ZoneInfo(self.zone_name)

    @property
    def zone_name(self) -> str:
        """Its name; UTC where nothing is said."""
        return str(self["timezone"] or "UTC")
