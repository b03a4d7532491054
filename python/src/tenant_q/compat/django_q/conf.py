"""What Q_CLUSTER says, as far as it means anything here."""

from __future__ import annotations

import sys
from typing import Any

from ...options import Backoff
from .._unsupported import Unsupported

__all__ = ["Conf", "configure"]

_own: dict[str, Any] = {}


def configure(**words: Any) -> None:
    """Q_CLUSTER for programs without Django."""
    _own.clear()
    _own.update(words)


def _settings() -> dict[str, Any]:
    if "django.conf" in sys.modules:
        from django.conf import settings

        if settings.configured:
            return {**_own, **getattr(settings, "Q_CLUSTER", {})}
    return _own


class _Conf:
    """name, timeout, max_attempts, retry, ack_failures, sync, cached, save_limit, catch_up. Brokers, workers and
    their recycling are
    the server's and tq_worker's matter: what is said of them is not looked at."""

    @property
    def CLUSTER_NAME(self) -> str | None:
        """The name of the cluster: tasks of this one are in the queue that is the default."""
        return _settings().get("name")

    @property
    def SYNC(self) -> bool:
        """Whether everything is run where it is enqueued."""
        return bool(_settings().get("sync", False))

    @property
    def CACHED(self) -> Any:
        """How long results are kept, in seconds; False and True = as the tenant has it."""
        return _settings().get("cached", False)

    @property
    def CATCH_UP(self) -> bool:
        """Whether each missed fire time is served."""
        return bool(_settings().get("catch_up", True))

    @property
    def TIME_ZONE(self) -> str | None:
        """The zone of schedules: that of Django."""
        if "django.conf" in sys.modules:
            from django.conf import settings

            if settings.configured:
                return str(settings.TIME_ZONE)
        return None

    def words(self) -> dict[str, Any]:
        """Of every task."""
        conf = _settings()
        found: dict[str, Any] = {}
        if conf.get("timeout"):
            found["timeout"] = conf["timeout"]
        if conf.get("max_attempts"):
            found["max_attempts"] = conf["max_attempts"]
        if conf.get("retry"):
            found["retry"] = Backoff("fixed", base=conf["retry"])
        if conf.get("ack_failures"):
            found["max_attempts"] = 1
        if conf.get("save_limit", 0) < 0:
            found["save"] = False
        if conf.get("error_reporter"):
            raise Unsupported(
                "Q_CLUSTER has an error_reporter",
                hint="Reports are a middleware: App(middleware=[…]), tenant_q.Middleware.",
            )
        return found


#: the settings
Conf = _Conf()
