"""What the shims have in common: finding tasks, waiting, errors as they were raised, moments."""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any
from uuid import UUID

from ..app import App
from ..calls import Call, quote
from ..codec import interval_text
from ..result import Result, TaskRow

__all__ = [
    "as_uuid",
    "aware",
    "documents",
    "find",
    "fresh_id",
    "look",
    "raised",
    "seconds",
    "set_next_run",
    "trace_of",
    "wait_for",
]


def as_uuid(text: Any) -> UUID | None:
    """The id that a text is, in any of the ways in which UUIDs are written; None = it is none."""
    if isinstance(text, UUID):
        return text
    try:
        return UUID(str(text))
    except ValueError:
        return None


def fresh_id() -> UUID:
    """A new id, version 7: ordered by time."""
    stamp = int(time.time() * 1000) << 80
    random = int.from_bytes(os.urandom(10), "big")
    return UUID(int=stamp | 0x7 << 76 | (random >> 2 & 0xFFF) << 64 | 0b10 << 62 | random >> 16 & (1 << 62) - 1)


def look(id: UUID, wait: float = 0, app: App | None = None) -> TaskRow | None:
    """The task as it is now, or once it has ended within so many seconds; None = it is not kept."""
    app = app or App.current()
    rows = app.run(app.calls.fetch(id, interval_text(float(wait)), app.current_tenant()))
    return TaskRow.of(json.loads(rows[0][0])) if rows else None


def find(id_or_name: Any, app: App | None = None) -> UUID | None:
    """The id of a task, by its id or its name; None = there is none of that name."""
    app = app or App.current()
    id = as_uuid(id_or_name)
    if id is not None and look(id, app=app) is not None:
        return id
    named = Result.find(str(id_or_name), app=app)
    return named.id if named is not None else None


def documents(app: App, sql: str, params: list[Any]) -> list[Any]:
    """The one column of a query over views, which show the first schema of search_path: that is the App's tenant
    meanwhile."""
    tenant = app.current_tenant()
    if tenant is None or app.in_run():
        return [_first(row) for row in app.execute(sql, params)]
    setting = "SELECT pg_catalog.set_config('search_path', %s, true)"
    with app.atomic():
        before = _first(app.execute("SELECT pg_catalog.current_setting('search_path')")[0])
        app.execute(setting, [", ".join(quote(each) for each in app.search_path(tenant))])
        found = [_first(row) for row in app.execute(sql, params)]
        app.execute(setting, [before])
    return found


def _first(row: Any) -> Any:
    found = next(iter(row.values())) if isinstance(row, dict) else row[0]
    return json.loads(found) if isinstance(found, str) and found[:1] in "{[" else found


def set_next_run(app: App, name: str, moment: str, tenant: str | None) -> None:
    """Lets a schedule fire then, for once; what is past is served at once."""
    sql = f"SELECT {app.calls.at}tq_alter_schedule(%s::text, next_run => %s::timestamptz, tenant => %s::text)"
    app.run(Call(sql, [name, moment, tenant]))


def wait_for(id: UUID, timeout: float | None, app: App | None = None) -> TaskRow | None:
    """The finished task; None = it isn't kept, or hasn't ended within so many seconds (None = for ever)."""
    until = None if timeout is None else time.monotonic() + timeout
    while True:
        left = 10.0 if until is None else max(until - time.monotonic(), 0.0)
        row = look(id, min(left, 10.0), app)
        if row is None or row.finished:
            return row
        if until is not None and time.monotonic() >= until:
            return None


def raised(error: Any, fallback: type[Exception], message: str) -> Exception:
    """The exception that a task's error tells of, of its class where this process has it loaded, else a fallback.

    The class's name is data: nothing is imported for it.
    """
    said = error if isinstance(error, dict) else {}
    text = said.get("message") if isinstance(said.get("message"), str) else message
    module, _, name = str(said.get("class") or "").rpartition(".")
    found = getattr(sys.modules.get(module or "builtins"), name, None) if name else None
    if isinstance(found, type) and issubclass(found, Exception):
        try:
            return found(text)
        except Exception:
            return fallback(text)
    return fallback(text)


def trace_of(error: Any) -> str | None:
    """The traceback of a task's error: the server has it as the error's context."""
    said = error if isinstance(error, dict) else {}
    found = said.get("context") or said.get("traceback")
    return str(found) if found else None


def aware(moment: datetime, zone: tzinfo | None = UTC) -> datetime:
    """A moment with a time zone: of one without, the wall clock of this zone; None = this machine's."""
    if moment.utcoffset() is not None:
        return moment
    return moment.astimezone() if zone is None else moment.replace(tzinfo=zone)


def seconds(length: Any) -> float:
    """A length of time as seconds."""
    return length.total_seconds() if isinstance(length, timedelta) else float(length)
