"""What apply_async and signatures may say, as words of tenant_q."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from .._common import as_uuid, fresh_id, seconds
from .._unsupported import Unsupported, refuse

if TYPE_CHECKING:
    from .app import Celery

__all__ = ["LINK", "call_words", "route"]

#: the handler that calls what is linked
LINK = "tenant_q.link"

#: what nothing here depends on: there is no broker to publish to
_NOTHING = (
    "retry",
    "retry_policy",
    "add_to_parent",
    "root_id",
    "parent_id",
    "delivery_mode",
    "mandatory",
    "immediate",
    "timeout",
    "immutable",
    "track_started",
    "replaced_task_nesting",
)
_COUNTERPARTS = {
    "serializer": "Arguments are JSON.",
    "compression": "PostgreSQL compresses large arguments itself.",
    "routing_key": "A task names its queue: queue=….",
    "exchange": "A task names its queue: queue=….",
    "producer": "Tasks are enqueued in the connection of Django, or of tenant_q.App.using(connection).",
    "connection": "Tasks are enqueued in the connection of Django, or of tenant_q.App.using(connection).",
    "publisher": "Tasks are enqueued in the connection of Django, or of tenant_q.App.using(connection).",
    "router": "Routes are the setting task_routes, or queue=….",
    "reply_to": "Results are in the database.",
    "correlation_id": "The id is the task's: task_id=….",
    "chord": "Write chord(header, body).",
    "chain": "Write chain(…).",
    "group_id": "Write group(…); a label of tasks is group_id of tenant_q's own tasks.",
    "retries": "A task begins with its first attempt.",
    "stamped_headers": "Pass headers={…}: the task has them in self.request.headers.",
    "task_type": "A task is found by its name.",
    "message_ttl": "Say expires=….",
}
_WORDS = (
    "countdown",
    "eta",
    "expires",
    "queue",
    "priority",
    "task_id",
    "link",
    "link_error",
    "headers",
    "time_limit",
    "soft_time_limit",
    "ignore_result",
    "shadow",
)
#: words of tenant_q that may be said as well
_OURS = (
    "delay",
    "run_at",
    "name",
    "lock",
    "limit_key",
    "unique_key",
    "unique_until",
    "on_conflict",
    "depends_on",
    "result_ttl",
    "max_attempts",
    "save",
    "tenant",
    "timeout",
)


def route(app: Celery, name: str) -> Mapping[str, Any]:
    """What task_routes says of a task."""
    routes = app.conf.task_routes
    for each in routes if isinstance(routes, (list, tuple)) else [routes]:
        if callable(each):
            found = each(name, (), {}, {})
            if found:
                return {"queue": found} if isinstance(found, str) else dict(found)
        elif isinstance(each, Mapping):
            from fnmatch import fnmatchcase

            for pattern, target in each.items():
                if fnmatchcase(name, pattern):
                    return {"queue": target} if isinstance(target, str) else dict(target)
    return {}


def call_words(app: Celery, name: str, options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Words of `Task.options`, and what is kept of the call under "celery" in its meta."""
    refuse(
        options,
        _COUNTERPARTS
        if options.get("serializer") != "json"
        else {k: v for k, v in _COUNTERPARTS.items() if k != "serializer"},
        "apply_async()",
    )
    for word in options:
        if word not in (*_WORDS, *_NOTHING, *_OURS, *_COUNTERPARTS):
            raise Unsupported(f"apply_async() has no {word}", hint="There are: " + ", ".join(_WORDS) + ".")
    words: dict[str, Any] = {word: options[word] for word in _OURS if options.get(word) is not None}
    routed = {**route(app, name), **{k: v for k, v in options.items() if v is not None}}
    queue = routed.get("queue")
    if queue is not None:
        queue = getattr(queue, "name", queue)
        words["queue"] = "default" if queue == app.conf.task_default_queue else queue
    if routed.get("priority") is not None:
        words["priority"] = routed["priority"]
    delay = _when(app, options, words)
    if options.get("expires") is not None:
        words["expires"] = _expires(app, options["expires"], delay)
    if options.get("time_limit") is not None:
        words["timeout"] = options["time_limit"]
    if options.get("soft_time_limit") is not None:
        raise Unsupported(
            "apply_async() takes no soft_time_limit here", hint="The task says it: @task(soft_time_limit=…)."
        )
    if options.get("ignore_result") is not None:
        words["save"] = not options["ignore_result"]
    if options.get("shadow"):
        words["name"] = options["shadow"]
    _id(options, words)
    return words, _meta(options, words)


def _when(app: Celery, options: Mapping[str, Any], words: dict[str, Any]) -> float:
    """Says when it may run; seconds until then."""
    countdown, eta = options.get("countdown"), options.get("eta")
    if countdown is not None:
        words["delay"] = max(float(countdown), 0.0)
        return float(words["delay"])
    if eta is not None:
        at = app.aware(eta)
        words["run_at"] = at
        return max((at - datetime.now(UTC)).total_seconds(), 0.0)
    return 0.0


def _expires(app: Celery, given: Any, delay: float) -> float:
    """tenant_q counts from when a task may run, and Celery from the call."""
    if isinstance(given, datetime):
        left = (app.aware(given) - datetime.now(UTC)).total_seconds()
    elif isinstance(given, (int, float, timedelta)):
        left = seconds(given)
    else:
        raise Unsupported(f"expires is {given!r}", hint="Pass seconds, a timedelta, or a datetime.")
    return max(left - delay, 0.0)


def _id(options: Mapping[str, Any], words: dict[str, Any]) -> None:
    given = options.get("task_id")
    if given is None:
        return
    id = as_uuid(given)
    if id is None:
        words["name"] = str(given)
    else:
        words["id"] = id


def _meta(options: Mapping[str, Any], words: dict[str, Any]) -> dict[str, Any]:
    """Headers, and what is linked."""
    meta: dict[str, Any] = {}
    headers = dict(options.get("headers") or {})
    tenant = headers.pop("_schema_name", None)
    headers.pop("_all_tenants_only", None)
    if tenant is not None:
        words["tenant"] = tenant
    if headers:
        meta["headers"] = headers
    celery: dict[str, Any] = {}
    for word, handler in (("link", "on_success"), ("link_error", "on_failure")):
        linked = options.get(word)
        if linked:
            celery[word] = [each.document() for each in (linked if isinstance(linked, (list, tuple)) else [linked])]
            words[handler] = LINK
    if celery:
        meta["celery"] = celery
    return meta


def flow_id() -> UUID:
    """The id of a flow, known before it is enqueued."""
    return fresh_id()
