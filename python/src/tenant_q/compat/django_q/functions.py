"""Django-Q's functions: async_task, result, fetch, their groups, iterations and chains."""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from ...app import App
from ...calls import many_literal
from ...codec import interval_text
from ...options import CallOptions
from ...result import TaskRow
from ...task import task as register
from .._call import CALL, Call, call_options, name_of, resolve
from .._common import find, fresh_id
from .._unsupported import Unsupported
from .conf import Conf
from .rows import Local, Task, fetched

__all__ = [
    "async_chain",
    "async_iter",
    "async_task",
    "count_group",
    "delete_cached",
    "delete_group",
    "fetch",
    "fetch_group",
    "queue_size",
    "result",
    "result_group",
]

#: keywords that are options, and not arguments of the function
OPTIONS = ("hook", "group", "save", "sync", "cached", "ack_failure", "broker", "cluster", "timeout", "task_name")
#: the handler that calls hooks
HOOK = "tenant_q.hook"


def split(kwargs: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options and the function's own keywords: q_options go before keywords of the same name."""
    own = dict(kwargs)
    options = dict(own.pop("q_options", None) or {})
    for key in OPTIONS:
        if key in own and key not in options:
            options[key] = own.pop(key)
    unknown = [key for key in options if key not in OPTIONS]
    if unknown:
        raise Unsupported(f"q_options has no {unknown[0]}", hint="There are: " + ", ".join(OPTIONS) + ".")
    if options.get("broker") is not None:
        raise Unsupported(
            "there is no broker",
            hint="Tasks are in the database; several queues of it are queue=…, in Django-Q's words cluster=….",
        )
    return options, own


def words_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as words of `Task.options`."""
    words = Conf.words()
    if options.get("task_name"):
        words["name"] = options["task_name"]
    if options.get("group"):
        words["group_id"] = str(options["group"])
    if options.get("timeout") is not None:
        words["timeout"] = options["timeout"]
    if options.get("save") is not None:
        words["save"] = bool(options["save"])
    if options.get("ack_failure"):
        words["max_attempts"] = 1
    cluster = options.get("cluster")
    if cluster and cluster != Conf.CLUSTER_NAME:
        words["queue"] = cluster
    cached = options.get("cached", Conf.CACHED)
    if cached and cached is not True:
        words["result_ttl"] = cached
    if options.get("hook"):
        hook = name_of(options["hook"])
        resolve(hook)
        words["hook"] = HOOK
        words["meta"] = {"hook": hook}
    return words


def _hook(task: Any) -> None:
    """Calls the function that the task of the document was enqueued with as its hook."""
    row = TaskRow.of(task)
    meta = row.meta if isinstance(row.meta, dict) else {}
    resolve(str(meta.get("hook")))(Task.of(row))


register(name=HOOK)(_hook)


def async_task(func: Any, *args: Any, **kwargs: Any) -> str:
    """Enqueues a call of a function, given itself or by its dotted name; the id of the task, 32 characters.

    Options: hook, group, timeout, save, sync, cached (seconds), ack_failure, cluster (a queue), task_name, q_options.
    All other
    keywords are the function's. sync=True calls it here and now, and raises what it raises.
    """
    options, own = split(kwargs)
    if options.get("sync", Conf.SYNC):
        return _sync(func, args, own, options)
    return Call(func, args, own).enqueue(**words_of(options)).id.hex


def _sync(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], options: Mapping[str, Any]) -> str:
    call = Call(func, args, kwargs)
    hook = resolve(name_of(options["hook"])) if options.get("hook") else None
    task = Task(
        id=fresh_id().hex,
        name=options.get("task_name") or call.name,
        func=call.name,
        hook=name_of(options["hook"]) if options.get("hook") else None,
        args=args,
        kwargs=kwargs,
        group=options.get("group"),
        cluster=options.get("cluster"),
        started=datetime.now(UTC),
        attempt_count=1,
    )
    try:
        with App.current().atomic():
            if call.is_call:
                task.result = call.task.function(**call.document)
            else:
                task.result = call.task(*args, **kwargs)
    except Exception as error:
        task.result, task.success = f"{error} : {traceback.format_exc()}", False
        raise
    finally:
        task.stopped = datetime.now(UTC)
        Local.keep(task)
        if hook is not None:
            hook(task)
    return task.id


def result(task_id: str, wait: float = 0, cached: Any = False) -> Any:
    """What the task of this id or name has returned; of one that failed its error as a text; None while it has not
    ended.

    wait: milliseconds; below 0 = for ever
    """
    task = fetched(str(task_id), wait)
    return None if task is None else task.result


def fetch(task_id: str, wait: float = 0, cached: Any = False) -> Task | None:
    """The finished task of this id or name; None while it has not ended."""
    return fetched(str(task_id), wait)


def _waits(wait: float) -> Iterable[float]:
    """Seconds to wait, one server call after the other."""
    if wait < 0:
        while True:
            yield 30.0
    left = wait / 1000
    while True:
        yield min(left, 30.0)
        left -= 30.0
        if left <= 0:
            return


def result_group(
    group_id: str, failures: bool = False, wait: float = 0, count: int | None = None, cached: Any = False
) -> list[Any] | None:
    """Results of a group's finished tasks, in the order in which they were enqueued; None while there are none.

    failures: with the errors of those that failed, as text
    count: so many are waited for at least; without wait, None while there are fewer
    wait: milliseconds; 0 = never, below 0 = for ever
    """
    tasks = fetch_group(group_id, failures, wait, count)
    return None if tasks is None else [task.result for task in tasks]


def fetch_group(
    group_id: str, failures: bool = True, wait: float = 0, count: int | None = None, cached: Any = False
) -> list[Task] | None:
    """A group's finished tasks, in the order in which they were enqueued; None while there are none. As of
    `result_group`."""
    local = Local.group(group_id)
    if local:
        return [task for task in local if task.success or failures]
    app = App.current()
    found: list[Task] = []
    for seconds in _waits(wait):
        found = _group(app, group_id, failures, count, seconds)
        if found:
            return found
    # Fewer than count when the time is over: those that there are.
    return _group(app, group_id, failures, None, 0) or None if wait else None


def _group(app: App, group_id: str, failures: bool, count: int | None, wait: float) -> list[Task]:
    call = app.calls.fetch_group(group_id, failures, count, interval_text(float(wait)), app.current_tenant())
    return [Task.of(TaskRow.of(json.loads(row[0]))) for row in app.run(call)]


def count_group(group_id: str, failures: bool = False, cached: Any = False) -> int:
    """How many of a group have ended; failures: how many of them badly."""
    local = Local.group(group_id)
    if local:
        return sum(1 for task in local if not (failures and task.success))
    app = App.current()
    return int(app.value(app.calls.count_group(group_id, failures, app.current_tenant())))


def delete_group(group_id: str, tasks: bool = False, cached: Any = False) -> int:
    """Takes the label off a group's tasks; tasks: deletes them. How many."""
    local = Local.group(group_id)
    for task in local:
        if tasks:
            Local.delete(task.id)
        else:
            task.group = None
    app = App.current()
    return len(local) + int(app.value(app.calls.delete_group(group_id, tasks, app.current_tenant())))


def delete_cached(task_id: str, broker: Any = None) -> bool:
    """Deletes a finished task of this id or name with its result."""
    _no_broker(broker)
    local = Local.get(str(task_id))
    if local is not None:
        return Local.delete(local.id)
    id = find(task_id)
    app = App.current()
    return id is not None and bool(app.value(app.calls.delete(id, app.current_tenant())))


def queue_size(broker: Any = None) -> int:
    """How many tasks of the tenant wait."""
    _no_broker(broker)
    app = App.current()
    return int(app.value(app.calls.queue_size(None, app.current_tenant())))


def _no_broker(broker: Any) -> None:
    if broker is not None:
        raise Unsupported("there is no broker", hint="Tasks are in the database.")


def async_iter(func: Any, args_iter: Iterable[Any], **kwargs: Any) -> str:
    """Enqueues a call for each of the arguments, a tuple or a single one each; the id whose `result` is the list of
    their results, in
    order, with None for what failed. A hook is not called, as in Django-Q."""
    options, own = split(kwargs)
    options.pop("hook", None)
    calls = [each if isinstance(each, tuple) else (each,) for each in args_iter]
    if options.get("sync", Conf.SYNC):
        return _sync_iter(func, calls, own, options)
    made = [Call(func, args, own) for args in calls]
    words = {**words_of(options), "allow_failure": True}
    app = App.current()
    always = made[0].member(**words) if made else {"handler": CALL, **call_options(words, CallOptions()).document()}
    handler = always.pop("handler")
    always.pop("args", None)
    arguments = [many_literal(each.document) for each in made]
    call = app.calls.iterate(handler, arguments, 1, many_literal(always), app.current_tenant())
    return _hex(app.value(call))


def _hex(id: Any) -> str:
    return str(id).replace("-", "")


def _sync_iter(func: Any, calls: list[tuple[Any, ...]], own: dict[str, Any], options: Mapping[str, Any]) -> str:
    started = datetime.now(UTC)
    inner = {key: value for key, value in options.items() if key not in ("task_name", "group")}
    results = []
    for args in calls:
        id = _sync(func, args, own, inner)
        task = Local.get(id)
        results.append(task.result if task is not None else None)
        Local.delete(id)
    whole = Task(
        id=fresh_id().hex,
        name=options.get("task_name"),
        func=name_of(func),
        args=tuple(calls),
        kwargs=own,
        group=options.get("group"),
        result=results,
        started=started,
        stopped=datetime.now(UTC),
    )
    Local.keep(whole)
    return whole.id


def async_chain(
    chain: Iterable[Any], group: str | None = None, cached: Any = False, sync: bool | None = None, broker: Any = None
) -> str:
    """Enqueues calls that run one after the other, whether or not the one before has failed: functions, or tuples
    (function, args, kwargs). The id of their group, whose results `result_group` has."""
    _no_broker(broker)
    group = group or fresh_id().hex
    steps = []
    for each in chain:
        step = each if isinstance(each, tuple) else (each,)
        options, own = split(dict(step[2]) if len(step) > 2 else {})
        options.update(group=group)
        if cached and "cached" not in options:
            options["cached"] = cached
        steps.append((step[0], tuple(step[1]) if len(step) > 1 else (), own, options))
    if sync or (sync is None and Conf.SYNC):
        for func, args, own, options in steps:
            _sync(func, args, own, options)
        return group
    members = []
    for func, args, own, options in steps:
        members.append(Call(func, args, own).member(**words_of(options)))
    app = App.current()
    app.run(app.calls.chain(many_literal(members), False, "continue", None, app.current_tenant()))
    return group
