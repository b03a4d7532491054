"""Flows: tasks that belong together, as one. A chain runs one after the other, a group beside each other, an iteration
calls one task for many arguments. A member may be a flow itself, to any depth; the flow's result is the list of its
members' results.

    chain(fetch.s("eur"), convert.s(), store.s(), pass_result=True).enqueue()
    group(render.s(n) for n in range(10)).options(on_success=bind_pages).enqueue()
    iterate(send_invoice, invoices, chunk=100).enqueue()
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

from .calls import Call, Calls, many_literal
from .errors import InvalidOption
from .middleware import Enqueue, around_enqueue
from .options import CallOptions
from .result import Result
from .task import Signature, Task

if TYPE_CHECKING:
    from uuid import UUID

    from .app import App

__all__ = ["Chain", "Flow", "Group", "Iteration", "chain", "group", "iterate"]

#: what a flow is made of: calls, tasks without arguments, flows, and names of handlers that aren't Python's
Member: TypeAlias = "Signature | Task[..., Any] | Flow | str"


def _member(of: Any) -> Signature | Flow | str:
    if isinstance(of, Task):
        return of.s()
    if isinstance(of, (Signature, Flow, str)):
        return of
    raise InvalidOption(f"{of!r} is no member of a flow", hint="Write task.s(arguments), a flow, or a handler's name.")


def _document(member: Signature | Flow | str, partial: bool) -> Any:
    if isinstance(member, str):
        return member
    return member.document(partial=partial)


class Flow:
    """What chains, groups and iterations have in common: they are enqueued as one task, and its id is the flow's."""

    said: CallOptions
    #: the name that middleware sees as the task's handler
    handler: str = ""

    def options(self, **words: Any) -> Any:
        """The same flow, of which this is said: id, name, group_id, meta, save, result_ttl, on_success, on_failure,
        hook, unique_key, on_conflict, allow_failure; other words of tq_async are defaults of its members."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other.said = CallOptions.of(**words).over(self.said)
        return other

    set = options

    def document(self, *, partial: bool = False) -> dict[str, Any]:
        """As a member of another flow."""
        raise NotImplementedError

    def members_document(self) -> list[Any]:
        """Its members, as the call that enqueues it takes them."""
        raise NotImplementedError

    def call(self, calls: Calls, tenant: str | None, words: dict[str, Any], members: list[Any]) -> Call:
        """The call that enqueues it."""
        raise NotImplementedError

    def _app(self) -> App:
        from .app import App

        found = next((task._app for task in self.tasks() if task._app is not None), None)
        return found or App.current()

    def tasks(self) -> Iterable[Task[..., Any]]:
        """All tasks of it, however deep."""
        return ()

    def _requests(self, app: App, members: list[Any]) -> list[Enqueue]:
        """What middleware is told of: the flow itself, and each task in it."""
        tenant = self.said.tenant or app.current_tenant()
        requests = [Enqueue(self.handler, None, None, self.said.document(), tenant)]
        if app.middleware:
            requests += [_request_of(app, leaf, tenant) for leaf in _leaves(members)]
        return requests

    def enqueue(self) -> Result:
        """Enqueues all of it, or nothing; the flow's result."""
        app = self._app()
        if app._immediate.get() is not None:
            from .testing.immediate import run_flow

            return run_flow(app, self)
        members = self.members_document()
        request, *others = self._requests(app, members)
        with around_enqueue(app.middleware, [request, *others]):
            call = self.call(app.calls, request.tenant, request.words, members)
            request.id = self._id(app.value(call))
        return Result(app, request.id, request.tenant, self.handler)

    async def aenqueue(self) -> Result:
        """`enqueue` from a coroutine."""
        app = self._app()
        if app._immediate.get() is not None:
            return await asyncio.to_thread(self.enqueue)
        return await app.aenqueue_flow(self)

    async def enqueue_here(self, app: App) -> Result:
        """`aenqueue`, by the connection of this event loop."""
        members = self.members_document()
        request, *others = self._requests(app, members)
        with around_enqueue(app.middleware, [request, *others]):
            call = self.call(await app.acalls(), request.tenant, request.words, members)
            request.id = self._id(await app.avalue(call))
        return Result(app, request.id, request.tenant, self.handler)

    @staticmethod
    def _id(value: Any) -> UUID:
        from uuid import UUID

        return value if isinstance(value, UUID) else UUID(str(value))

    def __or__(self, other: Any) -> Chain:
        return chain(self, other)


def _leaves(documents: list[Any]) -> Iterable[dict[str, Any]]:
    """The members that are tasks, however deep; of an iteration the one that says what its tasks are."""
    for each in documents:
        if isinstance(each, dict):
            inner = each.get("group", each.get("chain"))
            if inner is not None:
                yield from _leaves(inner)
            elif "handler" in each and "iter" not in each:
                yield each


def _request_of(app: App, leaf: dict[str, Any], tenant: str | None) -> Enqueue:
    """Its words are the member itself: what a middleware says there is enqueued."""
    return Enqueue(leaf["handler"], app.registry.get(leaf["handler"]), leaf.get("args"), leaf, tenant)


def _words(words: dict[str, Any]) -> str | None:
    return many_literal(words) if words else None


class Chain(Flow):
    """Tasks that run one after the other."""

    handler = "tq_chain"

    def __init__(
        self,
        steps: Iterable[Any],
        *,
        pass_result: bool = False,
        on_step_failure: str = "stop",
        said: CallOptions | None = None,
    ) -> None:
        self.steps = [_member(each) for each in steps]
        self.pass_result = pass_result
        self.on_step_failure = on_step_failure
        self.said = said or CallOptions()

    def tasks(self) -> Iterable[Task[..., Any]]:
        yield from _tasks_of(self.steps)

    def _documents(self, partial: bool) -> list[Any]:
        return [_document(each, self.pass_result and (n > 0 or partial)) for n, each in enumerate(self.steps)]

    def document(self, *, partial: bool = False) -> dict[str, Any]:
        found: dict[str, Any] = {"chain": self._documents(partial)}
        if self.pass_result:
            found["pass_result"] = True
        if self.on_step_failure != "stop":
            found["on_step_failure"] = self.on_step_failure
        return found | self.said.document()

    def members_document(self) -> list[Any]:
        return self._documents(False)

    def call(self, calls: Calls, tenant: str | None, words: dict[str, Any], members: list[Any]) -> Call:
        return calls.chain(many_literal(members), self.pass_result, self.on_step_failure, _words(words), tenant)

    def __or__(self, other: Any) -> Chain:
        return Chain(
            [*self.steps, other], pass_result=self.pass_result, on_step_failure=self.on_step_failure, said=self.said
        )

    def __repr__(self) -> str:
        return " | ".join(map(repr, self.steps))


class Group(Flow):
    """Tasks that run beside each other."""

    handler = "tq_group"

    def __init__(self, members: Iterable[Any], *, said: CallOptions | None = None) -> None:
        self.members = [_member(each) for each in members]
        self.said = said or CallOptions()

    def tasks(self) -> Iterable[Task[..., Any]]:
        yield from _tasks_of(self.members)

    def document(self, *, partial: bool = False) -> dict[str, Any]:
        return {"group": [_document(each, partial) for each in self.members]} | self.said.document()

    def members_document(self) -> list[Any]:
        return [_document(each, False) for each in self.members]

    def call(self, calls: Calls, tenant: str | None, words: dict[str, Any], members: list[Any]) -> Call:
        return calls.group(many_literal(members), _words(words), tenant)

    def __repr__(self) -> str:
        return f"group({', '.join(map(repr, self.members))})"


class Iteration(Flow):
    """One task for many arguments."""

    handler = "tq_async_iter"

    def __init__(
        self, of: Task[..., Any], calls: Iterable[Any], *, chunk: int = 1, said: CallOptions | None = None
    ) -> None:
        self.task = of
        self.arguments = list(calls)
        self.chunk = chunk
        self.said = said or CallOptions()

    def tasks(self) -> Iterable[Task[..., Any]]:
        return (self.task,)

    def members_document(self) -> list[Any]:
        from .task import _call_of

        return [self.task.signature.bind(*_call_of(each)) for each in self.arguments]

    def document(self, *, partial: bool = False) -> dict[str, Any]:
        found: dict[str, Any] = {"iter": self.members_document(), "handler": self.task.name}
        if self.chunk != 1:
            found["chunk"] = self.chunk
        return found | self.said.document()

    def call(self, calls: Calls, tenant: str | None, words: dict[str, Any], members: list[Any]) -> Call:
        bound = [many_literal(each) for each in members]
        return calls.iterate(self.task.name, bound, self.chunk, _words(words), tenant)

    def __repr__(self) -> str:
        return f"iterate({self.task.name}, {len(self.arguments)} calls)"


def _tasks_of(members: Iterable[Signature | Flow | str]) -> Iterable[Task[..., Any]]:
    for each in members:
        if isinstance(each, Signature):
            yield each.task
        elif isinstance(each, Flow):
            yield from each.tasks()


def _all(members: tuple[Any, ...]) -> tuple[Any, ...]:
    one = members[0] if len(members) == 1 else None
    if one is not None and not isinstance(one, (Signature, Task, Flow, str)) and isinstance(one, Iterable):
        return tuple(one)
    return members


def chain(*steps: Any, pass_result: bool = False, on_step_failure: str = "stop", **words: Any) -> Chain:
    """Tasks that run one after the other: `chain(a.s(1), b.s(), c.s())`, or of one iterable.

    pass_result: each step gets the result of the one before, as the first parameter that its own arguments leave out
    on_step_failure: 'stop' = what follows a failed step is cancelled; 'continue' = it runs all the same
    words: as of `Flow.options`
    """
    made = Chain(_all(steps), pass_result=pass_result, on_step_failure=on_step_failure)
    return made.options(**words) if words else made


def group(*members: Any, **words: Any) -> Group:
    """Tasks that run beside each other: `group(a.s(1), a.s(2))`, or of one iterable. words: as of `Flow.options`."""
    made = Group(_all(members))
    return made.options(**words) if words else made


def iterate(of: Task[..., Any], calls: Iterable[Any], *, chunk: int = 1, **words: Any) -> Iteration:
    """One task for each of many arguments, a tuple, a dict or a single one each; chunk: how many of them one task works
    off, in one transaction. words: as of `Flow.options`."""
    made = Iteration(of, calls, chunk=chunk, said=of.said)
    return made.options(**words) if words else made
