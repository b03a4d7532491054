"""What `python -m tenant_q info` tells."""

from __future__ import annotations

import json
from typing import Any

from ..app import App
from ..calls import FIND_EXTENSION, PROTOCOL
from ..errors import NotInstalled

__all__ = ["facts", "text"]


def facts(app: App) -> dict[str, Any]:
    """The App's tasks, workers that are connected, and problems."""
    found = app.execute(FIND_EXTENSION)
    if not found:
        raise NotInstalled("this database hasn't the extension tenant_q", hint="CREATE EXTENSION tenant_q there.")
    schema, version = tuple(found[0])
    at = app.calls.at

    def rows(view: str, order: str) -> list[dict[str, Any]]:
        sql = f"SELECT pg_catalog.to_jsonb(x)::text FROM {at}{view} AS x ORDER BY {order}"
        return [json.loads(document) for (document,) in map(tuple, app.execute(sql))]

    workers = [each for each in rows("tq_workers", "x.kind, x.name") if each["kind"] == "external"]
    return {
        "version": version,
        "schema": schema,
        "protocol": app.value(app.calls.protocol()),
        "protocol_of_this_package": PROTOCOL,
        "tenant": app.current_tenant(),
        "tasks": [
            {"name": task.name, "queue": task.declared.handler_document().get("queue"), "atomic": task.declared.atomic}
            for task in sorted(app.registry, key=lambda each: each.name)
        ],
        "workers": [
            {
                word: each[word]
                for word in ("name", "host", "pid", "state", "claims", "tasks_done", "tasks_failed", "handlers")
            }
            for each in workers
        ],
        "problems": rows("tq_problems", "x.what"),
    }


def text(found: dict[str, Any]) -> str:
    """The same, for people."""
    lines = [
        f"tenant_q {found['version']} in schema {found['schema']}, protocol {found['protocol']}",
        f"tenant: {found['tenant'] or 'as search_path says'}",
        f"{len(found['tasks'])} tasks:",
    ]
    lines += [f"  {each['name']}{'' if each['atomic'] else '  (atomic=False)'}" for each in found["tasks"]]
    lines.append(f"{len(found['workers'])} workers:")
    lines += [
        f"  {each['name'] or each['pid']} on {each['host']}: {each['state']}, has {each['claims']} tasks, done"
        f" {each['tasks_done']}, failed {each['tasks_failed']}"
        for each in found["workers"]
    ]
    lines.append(f"{len(found['problems'])} problems:")
    lines += [f"  {each['what']}: {each['reason']}\n    {each['fix']}" for each in found["problems"]]
    return "\n".join(lines)
