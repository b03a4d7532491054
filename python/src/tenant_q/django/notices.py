"""What the server says beside its answers, NOTICE and WARNING, goes into the log: the logger tenant_q.server."""

from __future__ import annotations

import logging
import re
from typing import Any

from django.db.backends.signals import connection_created

from . import conf

__all__ = ["connect", "listen"]

log = logging.getLogger("tenant_q.server")

_LINE = re.compile(r"^(\w+):\s+(.*?)(?:\nHINT:\s+(.*?))?\s*\Z", re.DOTALL)


def _say(severity: str, message: str, hint: str | None) -> None:
    level = logging.WARNING if severity == "WARNING" else logging.INFO
    log.log(level, "%s%s", message, f" ({hint})" if hint else "")


def _of_psycopg(diagnostic: Any) -> None:
    _say(diagnostic.severity_nonlocalized or "NOTICE", diagnostic.message_primary or "", diagnostic.message_hint)


class _Notices(list[str]):
    """What psycopg2 puts notices into."""

    def append(self, text: str) -> None:
        found = _LINE.match(text)
        if found:
            _say(found[1], found[2], found[3])


def listen(sender: Any, connection: Any, **kwargs: Any) -> None:
    """Of a connection that Django has opened, or got from its pool."""
    if connection.vendor != "postgresql" or connection.alias != conf.database():
        return
    raw = connection.connection
    if hasattr(raw, "add_notice_handler"):
        try:
            raw.remove_notice_handler(_of_psycopg)  # a pool gives the same one again
        except ValueError:
            pass
        raw.add_notice_handler(_of_psycopg)
    elif hasattr(raw, "notices"):
        raw.notices = _Notices()


def connect() -> None:
    """Listens from now on."""
    connection_created.connect(listen, dispatch_uid="tenant_q.notices")
