"""Lines of the log, for people or as JSON; each says in which task it was written."""

from __future__ import annotations

import json
import logging
import sys
import time
from datetime import UTC, datetime
from typing import Any

from ..context import current

__all__ = ["JsonFormatter", "TextFormatter", "set_up"]

#: what a record may have beside its message
_MORE = ("handler", "task", "tenant", "attempt", "seconds", "state", "worker", "child", "status", "error")


def _more(record: logging.LogRecord) -> dict[str, Any]:
    found = {name: value for name in _MORE if (value := record.__dict__.get(name)) is not None}
    if "task" not in found:
        context = current()
        if context is not None:
            found.update(handler=context.handler, task=context.taken.id, tenant=context.tenant)
    return found


class TextFormatter(logging.Formatter):
    """2026-01-31 12:00:00.123 INFO [child 1] message key=value"""

    def format(self, record: logging.LogRecord) -> str:
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        more = "".join(f" {name}={value}" for name, value in _more(record).items())
        text = f"{at}.{int(record.msecs):03d} {record.levelname} {record.process} {record.name}: {record.getMessage()}"
        text += more
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return text


class JsonFormatter(logging.Formatter):
    """An object a line."""

    def format(self, record: logging.LogRecord) -> str:
        document = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "pid": record.process,
            "message": record.getMessage(),
            **_more(record),
        }
        if record.exc_info:
            document["traceback"] = self.formatException(record.exc_info)
        return json.dumps(document, ensure_ascii=False, default=str)


def set_up(level: str, format: str) -> None:
    """Writes to stderr, where the application hasn't said where to."""
    root = logging.getLogger()
    ours = logging.getLogger("tenant_q")
    ours.setLevel(level.upper())
    if ours.hasHandlers():
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if format == "json" else TextFormatter())
    root.addHandler(handler)
    if root.level in (logging.NOTSET, logging.WARNING):
        root.setLevel(max(logging.getLevelName(level.upper()), logging.INFO))
