"""Tasks that are called in the place where they are enqueued."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from ..app import App
from ..context import Context, Taken, _current
from ..errors import InvalidOption, Retry
from ..execute import error_document
from ..flows import Chain, Flow, Group, Iteration
from ..middleware import Enqueue, around_run
from ..options import class_name
from ..result import Result, TaskRow
from ..task import Signature, Task, _call_of

__all__ = ["ImmediateResult", "immediate", "run_flow"]


class ImmediateResult(Result):
    """The result of a task that was called in its place: the server knows nothing of it."""

    __slots__ = ()

    def __init__(self, app: App, row: TaskRow) -> None:
        super().__init__(app, row.id, row.tenant, row.handler)
        self._row = row

    def fetch(self) -> TaskRow:
        return self._known(self._row)

    async def afetch(self) -> TaskRow:
        return self._known(self._row)

    def wait(self, timeout: Any = None) -> TaskRow:
        row = self._known(self._row)
        if not row.finished:
            raise self._late(row, timeout)
        return row

    async def await_(self, timeout: Any = None) -> TaskRow:
        return self.wait(timeout)

    @property
    def progress(self) -> None:
        return None

    def attempts(self) -> list[Any]:
        return []

    def why(self) -> list[Any]:
        return []

    def cancel(self, *, running: bool = True) -> bool:
        return False

    async def acancel(self, *, running: bool = True) -> bool:
        return False


@contextmanager
def immediate(app: App | None = None, *, propagate: bool = False) -> Iterator[None]:
    """In the block enqueuing calls the function at once, once, in the caller's transaction, with its arguments written
    as JSON and read again. When it is due, retries, limits and unique keys are not looked at.

    propagate: True = its exception goes on to whoever enqueues; False = the result has it
    """
    app = app or App.current()
    token = app._immediate.set(lambda request: _call(app, request, propagate))
    try:
        yield
    finally:
        app._immediate.reset(token)


def _call(app: App, request: Enqueue, propagate: bool) -> ImmediateResult:
    words = request.words
    row = _run(
        app,
        app.registry.find(request.handler) if request.task is None else request.task,
        request.args,
        words,
        request.tenant,
        propagate,
    )
    result = ImmediateResult(app, row)
    told = {"on_success": row.state == "done", "on_failure": row.state == "failed", "hook": row.finished}
    for word, now in told.items():
        if now and word in words:
            hook = app.registry.find(words[word])
            document = {
                "id": str(row.id),
                "handler": row.handler,
                "state": row.state,
                "result": row.result,
                "error": row.error,
            }
            _run(app, hook, document, {}, request.tenant, propagate)
    return result


def _taken(task: Task[..., Any], args: Any, words: dict[str, Any], tenant: str | None) -> Taken:
    document = json.loads(json.dumps(args))
    params = task.signature.params
    if task.signature.whole is not None:
        document = {task.signature.whole: document}
    elif params is not None:
        document = {each["name"]: each["default"] for each in params if "default" in each} | (document or {})
    return Taken(
        claim="",
        tenant=tenant or "",
        id=words.get("id") or str(uuid4()),
        handler=task.name,
        args=document,
        attempt=1,
        max_attempts=words.get("max_attempts") or task.declared.max_attempts or 1,
        queue=words.get("queue") or task.declared.queue or "default",
        name=words.get("name"),
        meta=words.get("meta"),
        created_at=datetime.now(UTC).isoformat(),
    )


def _run(
    app: App, task: Task[..., Any], args: Any, words: dict[str, Any], tenant: str | None, propagate: bool
) -> TaskRow:
    taken = _taken(task, args, words, tenant)
    context = Context(app, taken)
    context.encode_result = task.signature.encode_result
    begin = datetime.now(UTC)
    state, error, result = "done", None, None
    token = _current.set(context)
    try:
        positional, named = task.signature.unpack(taken.args)
        with around_run(app.middleware, context):
            if task.declared.takes_context:
                positional.insert(0, context)
            if task.is_async:
                value = app.run_async(task.function, *positional, **named)
            else:
                value = task.function(*positional, **named)
        text = task.signature.encode_result(value)
        result = None if text is None else json.loads(text)
    except Exception as raised:
        if propagate:
            raise
        state, error = "retrying" if isinstance(raised, Retry) else "failed", error_document(raised, task)
        error = {"message": error["message"], "class": class_name(type(raised)), "context": error["traceback"]}
    finally:
        _current.reset(token)
    return _row(taken, state, error, result, begin)


def _row(taken: Taken, state: str, error: dict[str, Any] | None, result: Any, begin: datetime) -> TaskRow:
    return TaskRow(
        id=UUID(taken.id),
        tenant=taken.tenant,
        handler=taken.handler,
        state=state,
        reason=error["message"] if error else None,
        attempt=1,
        max_attempts=taken.max_attempts,
        name=taken.name,
        queue=taken.queue,
        priority=None,
        run_at=None,
        started_at=begin,
        finished_at=datetime.now(UTC) if state != "retrying" else None,
        created_at=begin,
        schedule=None,
        scheduled_for=None,
        group_id=None,
        enqueued_by=None,
        parent_id=None,
        error=error,
        result=result,
        args=taken.args,
        meta=taken.meta,
    )


# Flows.

_NOTHING = object()


def run_flow(app: App, flow: Flow) -> ImmediateResult:
    """A flow, member after member."""
    run = app._immediate.get()
    assert run is not None
    begin = datetime.now(UTC)
    tenant = flow.said.tenant or app.current_tenant()
    taken = Taken(claim="", tenant=tenant or "", id=flow.said.values.get("id") or str(uuid4()), handler=flow.handler)
    results, failed = _members(app, flow, _NOTHING)
    error = {"message": f"{failed} of its members have not ended well", "sqlstate": "TQ004"} if failed else None
    return ImmediateResult(app, _row(taken, "failed" if failed else "done", error, None if failed else results, begin))


def _members(app: App, flow: Flow, before: Any) -> tuple[list[Any], int]:
    results: list[Any] = []
    failed = 0
    if isinstance(flow, Iteration):
        for each in flow.arguments:
            args, kwargs = _call_of(each)
            value, bad = _member(app, Signature(flow.task, args, kwargs), _NOTHING)
            results.append(value)
            failed += bad
        return results, failed
    members = flow.steps if isinstance(flow, Chain) else flow.members if isinstance(flow, Group) else []
    passing = flow.pass_result if isinstance(flow, Chain) else False
    for each in members:
        value, bad = _member(app, each, before)
        results.append(value)
        failed += bad
        if isinstance(flow, Chain):
            if bad and flow.on_step_failure == "stop":
                break
            before = value if passing else _NOTHING
    return results, failed


def _member(app: App, member: Any, before: Any) -> tuple[Any, int]:
    if isinstance(member, Flow):
        return _members(app, member, before)
    if isinstance(member, str):
        raise InvalidOption(
            f"{member} is a handler in the database", hint="Immediate mode calls Python alone: use drain()."
        )
    args, kwargs = member.args, member.kwargs
    if before is not _NOTHING:
        missing = [n for n in member.task.signature.parameters if n not in kwargs][len(args) :]
        if missing:
            kwargs = {**kwargs, missing[0]: before} if kwargs else kwargs
            args = args if kwargs else (*args, before)
        else:
            args = (*args, before)
    result = member.task.enqueue(*args, **kwargs)
    row = result.fetch()
    return row.result, 0 if row.state == "done" else 1
