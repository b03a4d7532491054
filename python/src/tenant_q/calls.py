"""The SQL of every call of the extension, in one place.

A `Calls` is bound to the schema that the extension is in: names are qualified, so that nothing in a tenant's schema can
stand in their place. Each method returns a `Call`, text and parameters, for cursors of psycopg 3 and of psycopg2 alike:
documents travel as JSON text and are cast, and what comes back in more than one plain value comes as one JSON document
a row.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from . import codec

__all__ = ["FIND_EXTENSION", "PROTOCOL", "Call", "Calls", "many_literal", "quote"]

#: the version of the workers' protocol that this package speaks
PROTOCOL = 1

#: the schema of the extension; no row = it isn't installed
FIND_EXTENSION = (
    "SELECT n.nspname, e.extversion FROM pg_catalog.pg_extension e"
    " JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'tenant_q'"
)


class Call(NamedTuple):
    """A statement and its parameters."""

    sql: str
    params: list[Any]


def quote(name: str) -> str:
    """A name as an identifier."""
    return '"' + name.replace('"', '""') + '"'


def many_literal(value: Any) -> str:
    """A document that is plain JSON already, as text."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


_CASTS = {
    "priority": "integer",
    "run_at": "timestamptz",
    "delay": "interval",
    "timeout": "interval",
    "max_attempts": "integer",
    "retry": "jsonb",
    "expires": "interval",
    "depends_on": "uuid[]",
    "allow_failure": "boolean",
    "save": "boolean",
    "result_ttl": "interval",
    "meta": "jsonb",
    "id": "uuid",
}


def _named(words: Mapping[str, Any]) -> tuple[list[str], list[Any]]:
    """word => value of those that are given."""
    parts, params = [], []
    for word, value in words.items():
        if value is None:
            continue
        cast = _CASTS.get(word, "text")
        parts.append(f"{word} => %s::{cast}")
        params.append(many_literal(value) if cast == "jsonb" else value)
    return parts, params


def _texts(values: Iterable[str] | None) -> list[str] | None:
    return None if values is None else list(values)


class Calls:
    """The calls of the extension where it is in `schema`."""

    __slots__ = ("_async", "at", "schema")

    def __init__(self, schema: str = "public") -> None:
        self.schema = schema
        #: in front of each name
        self.at = f"{quote(schema).replace('%', '%%')}."
        self._async: dict[tuple[str, ...], str] = {}

    # Tasks.

    def enqueue(self, handler: str, args: str | None, words: Mapping[str, Any], tenant: str | None) -> Call:
        """tq_async: args is JSON text, words are those of `CallOptions.values`. One value: the id."""
        params: list[Any] = [handler, args]
        names = []
        for word, value in words.items():
            if word == "tenant" or value is None:
                continue
            names.append(word)
            params.append(many_literal(value) if word in ("retry", "meta") else value)
        tenant = words.get("tenant") or tenant
        if tenant is not None:
            names.append("tenant")
            params.append(tenant)
        key = tuple(names)
        sql = self._async.get(key)
        if sql is None:
            more = "".join(f", {word} => %s::{_CASTS.get(word, 'text')}" for word in key)
            sql = self._async[key] = f"SELECT {self.at}tq_async(%s::text, %s::jsonb{more})"
        return Call(sql, params)

    def enqueue_many(self, tasks: str, tenant: str | None) -> Call:
        """tq_async_many: tasks is JSON text. A row each: the id."""
        return Call(f"SELECT x FROM {self.at}tq_async_many(%s::jsonb, %s::text) AS x", [tasks, tenant])

    def enqueue_all(
        self, handler: str, args: str | None, tenants: Iterable[str] | None, stagger: str | None, task: str | None
    ) -> Call:
        """tq_async_all. One value: the fan-out's id."""
        return Call(
            f"SELECT {self.at}tq_async_all(%s::text, %s::jsonb, %s::text[], %s::interval, %s::jsonb)",
            [handler, args, _texts(tenants), stagger, task],
        )

    def fanout_tenants(self, id: UUID | str) -> Call:
        """tq_fanout_tenants. A row each, as JSON text."""
        return Call(
            f"SELECT pg_catalog.to_jsonb(x)::text FROM {self.at}tq_fanout_tenants(id => %s::uuid) AS x", [str(id)]
        )

    def cancel(self, id: UUID | str, running: bool, tenant: str | None) -> Call:
        """tq_cancel. One value: whether."""
        return Call(f"SELECT {self.at}tq_cancel(%s::uuid, %s::boolean, %s::text)", [str(id), running, tenant])

    def requeue(
        self, id: UUID | str, run_at: str | None, args: str | None, reset_attempts: bool, tenant: str | None
    ) -> Call:
        """tq_requeue. One value: whether."""
        return Call(
            f"SELECT {self.at}tq_requeue(%s::uuid, %s::timestamptz, %s::jsonb, %s::boolean, %s::text)",
            [str(id), run_at, args, reset_attempts, tenant],
        )

    def update(self, id: UUID | str, words: Mapping[str, Any], tenant: str | None) -> Call:
        """tq_update. One value: whether."""
        parts, params = _named(words)
        more = "".join(f", {part}" for part in parts)
        return Call(f"SELECT {self.at}tq_update(id => %s::uuid, tenant => %s::text{more})", [str(id), tenant, *params])

    def delete(self, id: UUID | str, tenant: str | None) -> Call:
        """tq_delete. One value: whether."""
        return Call(f"SELECT {self.at}tq_delete(%s::uuid, tenant => %s::text)", [str(id), tenant])

    def result(self, id: UUID | str, wait: str, propagate: bool, tenant: str | None) -> Call:
        """tq_result. One value: JSON text; NULL = unfinished."""
        return Call(
            f"SELECT {self.at}tq_result(%s::uuid, %s::interval, %s::boolean, %s::text)::text",
            [str(id), wait, propagate, tenant],
        )

    def fetch(self, id: UUID | str, wait: str, tenant: str | None) -> Call:
        """tq_fetch. One row at most: the task as JSON text."""
        return Call(
            f"SELECT pg_catalog.to_jsonb(x)::text FROM {self.at}tq_fetch(%s::uuid, %s::interval, %s::text) AS x",
            [str(id), wait, tenant],
        )

    def find(self, name: str, tenant: str | None) -> Call:
        """tq_find. One value: the id, or NULL."""
        return Call(f"SELECT {self.at}tq_find(%s::text, %s::text)", [name, tenant])

    def attempts(self, id: UUID | str, tenant: str | None) -> Call:
        """tq_attempts. A row each, as JSON text."""
        return Call(
            f"SELECT pg_catalog.to_jsonb(x)::text FROM {self.at}tq_attempts(%s::uuid, %s::text) AS x", [str(id), tenant]
        )

    def why(self, id: UUID | str, tenant: str | None) -> Call:
        """tq_why. A row each, as JSON text."""
        return Call(
            f"SELECT pg_catalog.to_jsonb(x)::text FROM {self.at}tq_why(%s::uuid, %s::text) AS x", [str(id), tenant]
        )

    def running(self, id: UUID | str) -> Call:
        """The line of tq_running of a task, as JSON text."""
        return Call(
            f"SELECT pg_catalog.to_jsonb(x)::text FROM {self.at}tq_running AS x WHERE x.id = %s::uuid", [str(id)]
        )

    # Flows.

    def group(self, tasks: str, task: str | None, tenant: str | None) -> Call:
        """tq_group. One value: the flow's id."""
        return Call(f"SELECT {self.at}tq_group(%s::jsonb, %s::jsonb, %s::text)", [tasks, task, tenant])

    def chain(self, steps: str, pass_result: bool, on_step_failure: str, task: str | None, tenant: str | None) -> Call:
        """tq_chain. One value: the flow's id."""
        return Call(
            f"SELECT {self.at}tq_chain(%s::jsonb, %s::boolean, %s::text, %s::jsonb, %s::text)",
            [steps, pass_result, on_step_failure, task, tenant],
        )

    def iterate(self, handler: str, args: Sequence[str], chunk: int, task: str | None, tenant: str | None) -> Call:
        """tq_async_iter. One value: the flow's id."""
        return Call(
            f"SELECT {self.at}tq_async_iter(%s::text,"
            " ARRAY(SELECT x FROM pg_catalog.jsonb_array_elements(%s::jsonb) AS x),"
            " %s::integer, %s::jsonb, %s::text)",
            [handler, "[" + ",".join(args) + "]", chunk, task, tenant],
        )

    def result_group(self, group_id: str, failures: bool, count: int | None, wait: str, tenant: str | None) -> Call:
        """tq_result_group. One value: JSON text; NULL = none yet."""
        return Call(
            f"SELECT {self.at}tq_result_group(%s::text, %s::boolean, %s::integer, %s::interval, %s::text)::text",
            [group_id, failures, count, wait, tenant],
        )

    def fetch_group(self, group_id: str, failures: bool, count: int | None, wait: str, tenant: str | None) -> Call:
        """tq_fetch_group. A row each, as JSON text."""
        return Call(
            f"SELECT pg_catalog.to_jsonb(x)::text FROM"
            f" {self.at}tq_fetch_group(%s::text, %s::boolean, %s::integer, %s::interval, %s::text) AS x",
            [group_id, failures, count, wait, tenant],
        )

    def count_group(self, group_id: str, failures: bool, tenant: str | None) -> Call:
        """tq_count_group. One value."""
        return Call(f"SELECT {self.at}tq_count_group(%s::text, %s::boolean, %s::text)", [group_id, failures, tenant])

    def delete_group(self, group_id: str, tasks: bool, tenant: str | None) -> Call:
        """tq_delete_group. One value."""
        return Call(f"SELECT {self.at}tq_delete_group(%s::text, %s::boolean, %s::text)", [group_id, tasks, tenant])

    def queue_size(self, queue: str | None, tenant: str | None) -> Call:
        """tq_queue_size. One value."""
        return Call(f"SELECT {self.at}tq_queue_size(%s::text, %s::text)", [queue, tenant])

    # Declarations.

    def register_many(self, document: str, prune: bool, tenant: str | None) -> Call:
        """tq_register_many. One value: how many were new, changed or pruned."""
        return Call(f"SELECT {self.at}tq_register_many(%s::jsonb, %s::boolean, %s::text)", [document, prune, tenant])

    def schedule(self, words: Mapping[str, Any], everywhere: bool = False) -> Call:
        """tq_schedule, or tq_schedule_all. One value: the schedule's id."""
        casts = _SCHEDULE_CASTS
        given = {word: value for word, value in words.items() if value is not None}
        parts = ", ".join(f"{word} => %s::{casts.get(word, 'text')}" for word in given)
        params = [many_literal(v) if casts.get(w) == "jsonb" else v for w, v in given.items()]
        name = "tq_schedule_all" if everywhere else "tq_schedule"
        return Call(f"SELECT {self.at}{name}({parts})", params)

    def alter_schedule(
        self, name: str, words: Mapping[str, Any], tenant: str | None = None, reset: Iterable[str] = ()
    ) -> Call:
        """tq_alter_schedule; words that are None stay as they are, those in reset go back to what is inherited."""
        given = {word: value for word, value in words.items() if value is not None}
        more = "".join(f", {word} => %s::{_SCHEDULE_CASTS.get(word, 'text')}" for word in given)
        params = [many_literal(v) if _SCHEDULE_CASTS.get(w) == "jsonb" else v for w, v in given.items()]
        return Call(
            f"SELECT {self.at}tq_alter_schedule(%s::text, reset => %s::text[], tenant => %s::text{more})",
            [name, list(reset), tenant, *params],
        )

    def unschedule(self, name: str, tenant: str | None, everywhere: bool = False) -> Call:
        """tq_unschedule, or tq_unschedule_all. One value: whether there was one."""
        if everywhere:
            return Call(f"SELECT {self.at}tq_unschedule_all(%s::text)", [name])
        return Call(f"SELECT {self.at}tq_unschedule(%s::text, %s::text)", [name, tenant])

    def fire(self, name: str, tenant: str | None) -> Call:
        """tq_fire. One value: the task's id."""
        return Call(f"SELECT {self.at}tq_fire(%s::text, %s::text)", [name, tenant])

    def attach(self, tenant: str, adopt: bool = False, ready: bool = True) -> Call:
        """tq_attach. One value: whether it was new."""
        return Call(f"SELECT {self.at}tq_attach(%s::text, %s::boolean, %s::boolean)", [tenant, adopt, ready])

    # Workers.

    def protocol(self) -> Call:
        """One value: the version of the protocol."""
        return Call("SELECT tenant_q.protocol()", [])

    def take(
        self,
        n: int,
        handlers: Iterable[str] | None = None,
        queues: Iterable[str] | None = None,
        tenants: Iterable[str] | None = None,
        wait: str = "0",
        worker: str | None = None,
    ) -> Call:
        """tq_take. A row each: `Taken` as JSON text."""
        return Call(
            f"SELECT pg_catalog.to_jsonb(x)::text FROM"
            f" {self.at}tq_take(%s::integer, %s::text[], %s::text[], %s::text[], %s::interval, %s::text) AS x",
            [n, _texts(handlers), _texts(queues), _texts(tenants), wait, worker],
        )

    def wait_for_tasks(
        self,
        wait: str | None,
        handlers: Iterable[str] | None = None,
        queues: Iterable[str] | None = None,
        tenants: Iterable[str] | None = None,
    ) -> Call:
        """CALL tq_await, outside of a transaction. No row."""
        return Call(
            f"CALL {self.at}tq_await(%s::interval, %s::text[], %s::text[], %s::text[])",
            [wait, _texts(handlers), _texts(queues), _texts(tenants)],
        )

    def watch(self, wait: str = "0", claims: Iterable[str] | None = None) -> Call:
        """tq_watch. A row each: claim as text, what."""
        return Call(
            f"SELECT x.claim::text, x.what FROM {self.at}tq_watch(%s::interval, %s::uuid[]) AS x",
            [wait, _texts(claims)],
        )

    def finish(self, claim: UUID | str, result: str | None) -> Call:
        """tq_finish: result is JSON text."""
        return Call(f"SELECT {self.at}tq_finish(%s::uuid, %s::jsonb)", [claim, result])

    def finish_many(self, claims: Iterable[str], results: Sequence[str | None] | None) -> Call:
        """tq_finish_many: results are JSON texts. One value: how many."""
        return Call(
            f"SELECT {self.at}tq_finish_many(%s::uuid[], %s::jsonb[])",
            [list(claims), None if results is None else list(results)],
        )

    def give_up(self, claim: UUID | str, error: str, retry_after: str | None = None, final: bool = False) -> Call:
        """tq_give_up: error is JSON text. One row: state, and when the next attempt is, as text."""
        return Call(
            f"SELECT x.state, pg_catalog.to_jsonb(x.run_at)#>>'{{}}' FROM"
            f" {self.at}tq_give_up(%s::uuid, %s::jsonb, %s::interval, %s::boolean) AS x",
            [claim, error, retry_after, final],
        )

    def release(
        self, claim: UUID | str, delay: str | None = None, reason: str | None = None, crashed: bool = False
    ) -> Call:
        """tq_release."""
        return Call(
            f"SELECT {self.at}tq_release(%s::uuid, COALESCE(%s::interval, '0'::interval), %s::text, %s::boolean)",
            [claim, delay, reason, crashed],
        )

    def progress(self, fraction: float, note: str | None, claim: UUID | str) -> Call:
        """tq_progress: note is JSON text."""
        return Call(f"SELECT {self.at}tq_progress(%s::float8, %s::jsonb, %s::uuid)", [fraction, note, claim])

    def drain_take(self, n: int | None, as_of: str | None, tenant: str | None) -> Call:
        """tq_drain_take. A row each: `Taken` as JSON text."""
        return Call(
            f"SELECT pg_catalog.to_jsonb(x)::text FROM"
            f" {self.at}tq_drain_take(%s::integer, COALESCE(%s::timestamptz, pg_catalog.now()), %s::text) AS x",
            [n, as_of, tenant],
        )

    def drain(self, max_tasks: int | None, as_of: str | None, tenant: str | None) -> Call:
        """tq_drain, of functions in the database. A row each, as JSON text."""
        return Call(
            f"SELECT pg_catalog.to_jsonb(x)::text FROM"
            f" {self.at}tq_drain(%s::integer, COALESCE(%s::timestamptz, pg_catalog.now()), %s::text) AS x",
            [max_tasks, as_of, tenant],
        )


_SCHEDULE_CASTS = {
    "args": "jsonb",
    "start_at": "timestamptz",
    "next_run": "timestamptz",
    "until": "timestamptz",
    "repeats": "integer",
    "catch_up_limit": "integer",
    "deadline": "interval",
    "jitter": "interval",
    "day_and": "boolean",
    "after": "text[]",
    "task": "jsonb",
    "enabled": "boolean",
    "tags": "text[]",
    "tenants": "text[]",
    "stagger": "interval",
}


def jsonable(value: Any, where: str = "value") -> str:
    """JSON text of a Python value."""
    return codec.dumps(value, Any, where)
