"""One task that was taken, to its end: what a worker's child does with each, and what tests do.

The function and tq_finish are one transaction. What fails is rolled back first, and then given up, in a transaction of
its own that has written nothing. A claim that is gone (TQ007) is somebody else's: everything rolls back, and nothing
more is said. Where the
connection is lost during COMMIT nothing is repeated: the server knows.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from .codec import interval_text
from .context import Context, Taken, _current
from .errors import (
    ArgumentsDoNotFit,
    Cancelled,
    CannotTravel,
    ClaimLost,
    ConnectionLost,
    Fail,
    Retry,
    TenantQError,
    UnknownTask,
    driver_error,
    sqlstate_of,
)
from .middleware import around_run, tell_end
from .options import class_name

if TYPE_CHECKING:
    from .app import App
    from .task import Task

__all__ = ["Outcome", "error_document", "execute", "execute_here"]

log = logging.getLogger("tenant_q.tasks")

_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_SQLSTATE = re.compile(r"[0-9A-Z]{5}\Z")
# The server cuts texts off at 8 kB, which would be the end of a traceback.
_LONGEST_MESSAGE, _LONGEST_TRACEBACK = 8_000, 8_000


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an attempt.

    done: the task has ended well, committed
    retrying, failed: the attempt has failed, and is or isn't followed by another one
    released: it went back to the queue, uncounted
    lost: the claim was gone: nothing of it stands
    unknown: the connection was lost while it was being committed, or before the failure could be told; whoever holds
    the claim may
    tq_release it: where it was committed that says TQ007 and changes nothing
    """

    kind: Literal["done", "retrying", "failed", "released", "lost", "unknown"]
    #: of the next attempt
    run_at: datetime | None = None
    #: message, class and traceback of what went wrong
    error: dict[str, Any] | None = None
    #: seconds
    duration: float = 0.0
    #: what the function has raised, here in this process
    exception: BaseException | None = field(default=None, compare=False, repr=False)


def execute(
    app: App, taken: Taken, *, context: Context | None = None, on_start: Callable[[Context], None] | None = None
) -> Outcome:
    """Runs a taken task, and says how it ended. Never raises but `KeyboardInterrupt`, after giving the task back.

    context: one that was made before, so that a worker can `tell` it of a cancel; on_start: gets it when the function
    is about to run
    """
    context = context or Context(app, taken)
    with app.enter(taken):
        token = _current.set(context)
        try:
            return execute_here(app, taken, context, on_start)
        finally:
            _current.reset(token)


def execute_here(
    app: App, taken: Taken, context: Context, on_start: Callable[[Context], None] | None = None
) -> Outcome:
    """The same, inside of `App.enter`."""
    begin = time.monotonic()
    error: BaseException | None = None
    task: Task[..., Any] | None = None
    try:
        task = app.registry.find(taken.handler)
        context.encode_result = task.signature.encode_result
        calls = _calls_of(task, taken)
        if on_start is not None:
            on_start(context)
        _run(app, task, taken, context, calls)
        outcome = Outcome("done", duration=time.monotonic() - begin)
    except BaseException as raised:
        raised = _interrupted(raised, context)
        error = raised
        outcome = replace(_ended_badly(app, task, taken, context, raised, begin), exception=raised)
        if isinstance(raised, KeyboardInterrupt):
            raise
    if app.middleware:
        try:
            tell_end(app.middleware, context, outcome, error)
        except Exception:
            log.exception("a middleware failed after the end of %s %s", taken.handler, taken.id)
    return outcome


def _interrupted(raised: BaseException, context: Context) -> BaseException:
    """What an interruption of the worker's looks like to a coroutine or a statement is a `Cancelled` too."""
    if context.news is None or isinstance(raised, Cancelled):
        return raised
    if isinstance(raised, asyncio.CancelledError) or sqlstate_of(raised) == "57014":
        made = Cancelled(context.news)
        made.__cause__ = raised
        return made
    return raised


def _calls_of(task: Task[..., Any], taken: Taken) -> list[tuple[list[Any], dict[str, Any]]]:
    """What the function is called with, each time that it is."""
    if not taken.each:
        return [task.signature.unpack(taken.args)]
    return [task.signature.unpack(each) for each in taken.args]


def _run(
    app: App, task: Task[..., Any], taken: Taken, context: Context, calls: list[tuple[list[Any], dict[str, Any]]]
) -> None:
    if task.declared.atomic:
        with app.atomic():
            result = _call(app, task, taken, context, calls)
            app.finish(taken.claim, result)
        return
    result = _call(app, task, taken, context, calls)
    if context.committed:
        return
    if context.unsure is not None:
        raise context.unsure
    with app.atomic():
        app.finish(taken.claim, result)


def _call(
    app: App, task: Task[..., Any], taken: Taken, context: Context, calls: list[tuple[list[Any], dict[str, Any]]]
) -> str | None:
    """Calls the function, or for each of an iteration's chunk; the result as JSON text."""
    if app.middleware:
        with around_run(app.middleware, context):
            return _call_plain(app, task, taken, context, calls)
    return _call_plain(app, task, taken, context, calls)


def _call_plain(
    app: App, task: Task[..., Any], taken: Taken, context: Context, calls: list[tuple[list[Any], dict[str, Any]]]
) -> str | None:
    encode = task.signature.encode_result
    results = []
    for args, kwargs in calls:
        if task.declared.takes_context:
            args = [context, *args]  # noqa: PLW2901
        context.check()
        try:
            context.running = True
            value = app.run_async(task.function, *args, **kwargs) if task.is_async else task.function(*args, **kwargs)
        finally:
            context.running = False
        results.append(encode(value))
    if context.committed:
        return None
    return "[" + ",".join(each or "null" for each in results) + "]" if taken.each else results[0]


# What fails.


def _ended_badly(
    app: App, task: Task[..., Any] | None, taken: Taken, context: Context, error: BaseException, begin: float
) -> Outcome:
    """Says what became of an attempt that has raised; everything is rolled back by now."""
    passed = time.monotonic() - begin
    if isinstance(error, ConnectionLost):
        log.error("%s %s: %s", taken.handler, taken.id, error)
        return Outcome("unknown", error=error_document(error), duration=passed)
    if isinstance(error, ClaimLost) or sqlstate_of(error) == "TQ007":
        log.warning("%s %s was lost: %s", taken.handler, taken.id, error)
        return Outcome("lost", duration=passed)
    if context.committed:
        # The task has ended with its commit: what comes after it is nobody's attempt.
        log.error("%s %s has raised after its commit", taken.handler, taken.id, exc_info=error)
        return Outcome("done", error=error_document(error), duration=passed)
    document = error_document(error, task)
    try:
        return _tell(app, task, taken, error, document, passed)
    except ClaimLost:
        return Outcome("lost", error=document, duration=passed)
    except Exception as failure:
        log.error("%s %s has failed, which couldn't be told: %s", taken.handler, taken.id, failure, exc_info=error)
        return Outcome("unknown", error=document, duration=passed)


def _tell(
    app: App, task: Task[..., Any] | None, taken: Taken, error: BaseException, document: dict[str, Any], passed: float
) -> Outcome:
    if isinstance(error, UnknownTask) and task is None:
        return _release(app, taken, "1 minute", error.message, passed)
    if isinstance(error, KeyboardInterrupt):
        return _release(app, taken, None, "the worker was interrupted", passed)
    if isinstance(error, Cancelled) and error.what == "drain":
        return _release(app, taken, None, "the worker was asked to give it back", passed)
    if isinstance(error, Retry):
        delay = None if error.delay is None else interval_text(error.delay)
        if not error.count:
            return _release(app, taken, delay, error.message, passed)
        return _give_up(app, taken, document, delay, False, passed)
    final = isinstance(error, Fail) or _is_final(task, error)
    return _give_up(app, taken, document, None, final, passed)


def _is_final(task: Task[..., Any] | None, error: BaseException) -> bool:
    """Whether what the task declares, or what the error is, excludes another attempt, beyond what the policy says by
    name."""
    if isinstance(error, (ArgumentsDoNotFit, CannotTravel)) and task is not None and _is_ours(error):
        return True
    if task is None:
        return False
    never = task.errors_listed("never_on")
    if any(isinstance(each, type) and isinstance(error, each) for each in never):
        return True
    return task.declared.retry_if is not None and not task.declared.retry_if(error)


def _is_ours(error: BaseException) -> bool:
    """Whether it was raised about the task's own arguments or result, and not by something that the function called."""
    frames = traceback.extract_tb(error.__traceback__)
    return all(frame.filename.startswith(_PACKAGE) for frame in frames)


def _again(tell: Callable[[], list[Any]], app: App) -> list[Any]:
    """Says it again by a new connection where the first was lost: what was said already says TQ007 then."""
    try:
        return tell()
    except Exception as error:
        if isinstance(error, TenantQError) or sqlstate_of(error) is not None or driver_error(error) is None:
            raise
        app.close_connections()
        return tell()


def _give_up(
    app: App, taken: Taken, document: dict[str, Any], retry_after: str | None, final: bool, passed: float
) -> Outcome:
    text = json.dumps(document)

    def tell() -> list[Any]:
        return app.say(lambda calls: calls.give_up(taken.claim, text, retry_after, final))

    state, run_at = tuple(_again(tell, app)[0])
    at = datetime.fromisoformat(run_at) if run_at else None
    return Outcome("retrying" if state == "retrying" else "failed", at, document, passed)


def _release(app: App, taken: Taken, delay: str | None, reason: str | None, passed: float) -> Outcome:
    _again(lambda: app.say(lambda calls: calls.release(taken.claim, delay, reason)), app)
    return Outcome("released", error={"message": reason} if reason else None, duration=passed)


def error_document(error: BaseException, task: Task[..., Any] | None = None) -> dict[str, Any]:
    """An exception as tq_give_up takes it: message, class, traceback, and what the server has said of it."""
    own = isinstance(error, TenantQError)
    message = error.message if own else str(error)  # type: ignore[attr-defined]
    document: dict[str, Any] = {
        "message": _plain(message or class_name(type(error)), _LONGEST_MESSAGE),
        "class": _reported_class(error, task),
        "traceback": _plain(_traceback(error), _LONGEST_TRACEBACK, keep_end=True),
    }
    found = driver_error(error)
    state = sqlstate_of(error)
    if isinstance(error, Fail):
        state = "TQ003"
    elif isinstance(error, Retry):
        state = "TQ001"
    if state is not None and _SQLSTATE.match(state):
        document["sqlstate"] = state
    diag: Any = getattr(found, "diag", None)
    for key, value in (
        ("detail", error.detail if own else getattr(diag, "message_detail", None)),  # type: ignore[attr-defined]
        ("hint", error.hint if own else getattr(diag, "message_hint", None)),  # type: ignore[attr-defined]
    ):
        if value:
            document[key] = _plain(value, _LONGEST_MESSAGE)
    return document


def _reported_class(error: BaseException, task: Task[..., Any] | None) -> str:
    """The class's name; of one that is derived from a class in retry_on that one's, since the policy goes by names."""
    name = class_name(type(error))
    if task is None:
        return name
    listed = task.errors_listed("retry_on")
    if not listed or any(_names(each, name) for each in listed):
        return name
    return next((class_name(each) for each in listed if isinstance(each, type) and isinstance(error, each)), name)


def _names(listed: type[BaseException] | str, name: str) -> bool:
    """As the server looks for a class in a policy's lists: by its name, or by what ends with a dot."""
    if isinstance(listed, type):
        return class_name(listed) == name
    return listed == name or (listed.endswith(".") and name.startswith(listed))


def _traceback(error: BaseException) -> str:
    """Without the frames of this package that lead to the function."""
    at = error.__traceback__
    while at is not None and at.tb_frame.f_code.co_filename.startswith(_PACKAGE):
        at = at.tb_next
    return "".join(traceback.format_exception(type(error), error, at or error.__traceback__))


def _plain(text: str, longest: int, *, keep_end: bool = False) -> str:
    """Text that PostgreSQL can keep."""
    text = text.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode()
    data = text.encode()
    if len(data) <= longest:
        return text
    kept = (data[-longest:] if keep_end else data[:longest]).decode(errors="ignore")
    return "…" + kept if keep_end else kept + "…"
