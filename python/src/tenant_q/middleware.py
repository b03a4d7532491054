"""Code around enqueuing and around running: for tracing, error reports, logs.

A middleware is an object with any of the methods of `Middleware`. `App(middleware=[…])`, or `app.middleware.append(…)`;
the first one is the outermost.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from .context import Context
    from .execute import Outcome
    from .task import Task

__all__ = ["Enqueue", "Middleware", "around_enqueue", "around_run", "tell_end"]


@dataclass(slots=True)
class Enqueue:
    """A task that is about to be enqueued: one of `enqueue` or `enqueue_many`, a flow, or a task in a flow. `words` are
    tq_async's, and may be changed, as may `meta`, which travels with it and is its `context.meta`: the place for trace
    headers."""

    #: the handler's name
    handler: str
    #: None = it is a flow, or not Python's
    task: Task[..., Any] | None
    args: Any
    words: dict[str, Any]
    tenant: str | None
    #: set when it has been enqueued; of a task in a flow it isn't known
    id: UUID | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def meta(self) -> dict[str, Any]:
        """The document that travels with it; made where there is none."""
        found = self.words.get("meta")
        if not isinstance(found, dict):
            found = self.words["meta"] = {}
        else:
            found = self.words["meta"] = dict(found)
        return found


class Middleware:
    """What a middleware may do; each method does nothing by default."""

    def enqueue(self, request: Enqueue) -> AbstractContextManager[Any]:
        """Around an enqueuing, one task's or each of many; raising refuses it. `request.id` is known at its end."""
        return nullcontext()

    def run(self, context: Context) -> AbstractContextManager[Any]:
        """Around the call of the function, inside of the task's transaction: it sees the function's exception."""
        return nullcontext()

    def ended(self, context: Context, outcome: Outcome, error: BaseException | None) -> None:
        """After the end of the attempt: what became of it, committed."""


def _enter(stack: ExitStack, middleware: Sequence[Any], method: str, argument: Any) -> None:
    for each in middleware:
        around = getattr(each, method, None)
        if around is not None:
            stack.enter_context(around(argument))


def around_enqueue(middleware: Sequence[Any], requests: Sequence[Enqueue]) -> ExitStack:
    """All of them around all of these."""
    stack = ExitStack()
    try:
        for request in requests:
            _enter(stack, middleware, "enqueue", request)
    except BaseException:
        stack.close()
        raise
    return stack


def around_run(middleware: Sequence[Any], context: Context) -> ExitStack:
    """All of them around one run."""
    stack = ExitStack()
    try:
        _enter(stack, middleware, "run", context)
    except BaseException:
        stack.close()
        raise
    return stack


def tell_end(middleware: Sequence[Any], context: Context, outcome: Outcome, error: BaseException | None) -> None:
    """The innermost first."""
    for each in reversed(middleware):
        ended = getattr(each, "ended", None)
        if ended is not None:
            ended(context, outcome, error)
