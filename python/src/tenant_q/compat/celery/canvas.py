"""Celery's canvas: signatures, chain, group, chord, chunks, map. A chain, a group, a chord is one flow of tenant_q,
enqueued at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ...app import App as TenantApp
from ...calls import many_literal
from ...errors import ArgumentsDoNotFit
from ...options import CallOptions
from ...task import registry
from .._common import documents
from .._unsupported import Unsupported
from .calls import reshape
from .exceptions import NotRegistered
from .options import LINK, call_words, flow_id

if TYPE_CHECKING:
    from .app import Celery
    from .task import Task

__all__ = [
    "Signature",
    "chain",
    "chord",
    "chunks",
    "group",
    "maybe_signature",
    "reshape",
    "signature",
    "subtask",
    "xmap",
    "xstarmap",
]


class Signature:
    """A call for later."""

    def __init__(
        self,
        task: Task | str | Mapping[str, Any],
        args: Any = None,
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        *,
        immutable: bool = False,
        app: Any = None,
        **words: Any,
    ) -> None:
        if isinstance(task, Mapping):
            args, kwargs = task.get("args"), task.get("kwargs")
            task = str(task["task"])
        self._task: Task | str = task
        self.args = tuple(args or ())
        self.kwargs = dict(kwargs or {})
        self.options = {**(options or {}), **words}
        self.immutable = immutable

    @property
    def name(self) -> str:
        """The task's name."""
        return self._task if isinstance(self._task, str) else self._task.name

    task = name

    @property
    def type(self) -> Task:
        """The task; raises `NotRegistered`."""
        from .app import current_app

        if not isinstance(self._task, str):
            return self._task
        found: Task | None = current_app().tasks.get(self._task)
        if found is None:
            raise NotRegistered(f"there is no task {self._task} in this process", hint="Import the module that has it.")
        return found

    @property
    def app(self) -> Celery:
        """Of the task."""
        from .app import current_app

        return current_app() if isinstance(self._task, str) else self._task.app

    @property
    def id(self) -> str | None:
        """The id that it is to have."""
        return self.options.get("task_id")

    def clone(self, args: Any = None, kwargs: Mapping[str, Any] | None = None, **options: Any) -> Signature:
        """The same, with more arguments in front, more keywords, more options."""
        if self.immutable:
            return Signature(self._task, self.args, self.kwargs, {**self.options, **options}, immutable=True)
        return Signature(
            self._task, (*(args or ()), *self.args), {**self.kwargs, **(kwargs or {})}, {**self.options, **options}
        )

    partial = clone

    def set(self, immutable: bool | None = None, **options: Any) -> Signature:
        """Says options of it."""
        if immutable is not None:
            self.immutable = immutable
        self.options.update(options)
        return self

    def set_immutable(self, immutable: bool) -> None:
        """Whether it takes the result of what is before it."""
        self.immutable = immutable

    def link(self, callback: Any) -> Any:
        """Calls it with the result, when it is done."""
        self.options.setdefault("link", []).append(callback)
        return callback

    def link_error(self, errback: Any) -> Any:
        """Calls it when it has not ended well."""
        self.options.setdefault("link_error", []).append(errback)
        return errback

    def on_error(self, errback: Any) -> Signature:
        """`link_error`, and the signature itself."""
        self.link_error(errback)
        return self

    def delay(self, *args: Any, **kwargs: Any) -> Any:
        """Enqueues it."""
        return self.apply_async(args, kwargs)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        made = self.clone(args, kwargs)
        return made.type(*made.args, **made.kwargs)

    def apply(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """Calls it here and now."""
        made = self.clone(args, kwargs)
        return made.type.apply(made.args, made.kwargs, **options)

    def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """Enqueues it."""
        from .result import AsyncResult

        made = self.clone(args, kwargs, **{word: value for word, value in options.items() if value is not None})
        app = made.app
        if app.conf.task_always_eager:
            found = made.type.apply(made.args, made.kwargs, task_id=made.options.get("task_id"))
            return _linked_eagerly(made, found)
        member = made.member()
        handler, document = member.pop("handler"), member.pop("args", None)
        tenant_app = TenantApp.current()
        tenant = member.pop("tenant", None) or tenant_app.current_tenant()
        text = None if document is None else many_literal(document)
        id = tenant_app.value(tenant_app.calls.enqueue(handler, text, member, tenant))
        given = made.options.get("task_id")
        result = AsyncResult(str(given) if given is not None else str(id), tenant=tenant)
        result.ignored = member.get("save") is False or (member.get("save") is None and made._ignores())
        return result

    def _ignores(self) -> bool:
        return False if isinstance(self._task, str) else self._task._ignores()

    def member(
        self, *, after: bool = False, shape: Any = None, more: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """As a member of tq_chain or tq_group; after: there is a step before it. more: kept under "celery" in its
        meta."""
        options = dict(self.options)
        task = None if isinstance(self._task, str) else self._task
        if task is None:
            from .app import current_app

            task = current_app().tasks.get(self.name)
        if task is not None and task.expires is not None:
            options.setdefault("expires", task.expires)
        words, meta = call_words(self.app, self.name, options)
        if more:
            meta["celery"] = {**meta.get("celery", {}), **more}
        if task is not None and task.hears_failure():
            words["on_failure"] = LINK
        if meta:
            words["meta"] = meta
        how = None if not after else "dropped" if self.immutable else "given"
        if task is not None:
            document = task._form.document(self.args, self.kwargs, after=how, shape=shape)
            said = CallOptions.of(**words).over(
                task.made.call_options((), {}) if not task.made.declared.keys() else _keys(task, self, how)
            )
        else:
            document = self._foreign()
            said = CallOptions.of(**words)
        member: dict[str, Any] = {"handler": self.name}
        if document is not None:
            member["args"] = document
        return {**member, **said.values}

    def _foreign(self) -> Any:
        known = registry.get(self.name)
        if known is not None:
            return known.signature.bind(self.args, self.kwargs)
        if self.args and self.kwargs:
            raise ArgumentsDoNotFit(
                f"{self.name} is not in this process, and gets arguments by position and by name",
                hint="Pass all by position, or all by name.",
            )
        return CallOptions.of(meta=list(self.args) if self.args else self.kwargs or None).values.get("meta")

    def document(self) -> dict[str, Any]:
        """As it is kept, where it is linked to a task."""
        words = {
            key: value
            for key, value in self.options.items()
            if key not in ("link", "link_error", "task_id") and _plain(value)
        }
        meta = CallOptions.of(meta={"args": list(self.args), "kwargs": self.kwargs}).values["meta"]
        return {"task": self.name, **meta, "options": words, "immutable": self.immutable}

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Signature:
        """Of what `document` has made."""
        return cls(
            document["task"],
            document.get("args"),
            document.get("kwargs"),
            document.get("options"),
            immutable=bool(document.get("immutable")),
        )

    from_dict = of

    def __or__(self, other: Any) -> chain:
        return chain(self, other)

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name)

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute."""
        return getattr(self, name, default)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Signature) and (other.name, other.args, other.kwargs) == (
            self.name,
            self.args,
            self.kwargs,
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        given = [*map(repr, self.args), *(f"{name}={value!r}" for name, value in self.kwargs.items())]
        return f"{self.name}({', '.join(given)})"


def _plain(value: Any) -> bool:
    return value is None or isinstance(value, (str, int, float, bool))


def _keys(task: Task, sig: Signature, how: str | None) -> CallOptions:
    args = (None, *sig.args) if how == "given" else sig.args
    return task.made.call_options(args, sig.kwargs, partial=how == "given")


def _linked_eagerly(made: Signature, result: Any) -> Any:
    key = "link" if result.successful() else "link_error"
    linked = made.options.get(key) or []
    for each in linked if isinstance(linked, (list, tuple)) else [linked]:
        each.apply(() if each.immutable else (result.result if key == "link" else result.id,))
    return result


class Flow(Signature):
    """What chain, group and chord have in common."""

    def __init__(self, members: Iterable[Any], options: Mapping[str, Any] | None = None) -> None:
        super().__init__("", options=options)
        self.tasks = [_signature(each) for each in members]

    @property
    def app(self) -> Celery:
        return self.tasks[0].app if self.tasks else super().app

    def _again(self, members: Iterable[Any], options: Mapping[str, Any]) -> Any:
        return type(self)(members, options=options)

    def clone(self, args: Any = None, kwargs: Mapping[str, Any] | None = None, **options: Any) -> Any:
        members = [
            each.clone(args, kwargs) if n == 0 or isinstance(self, group) else each for n, each in enumerate(self.tasks)
        ]
        return self._again(members, {**self.options, **options})

    partial = clone

    def leaves(self) -> Iterator[Signature]:
        """Its calls, however deep, in order."""
        for each in self.tasks:
            if isinstance(each, Flow):
                yield from each.leaves()
            else:
                yield each

    def plan(self, numbers: Iterator[int], label: str, after: bool, shape: Any) -> tuple[dict[str, Any], Any, Any]:
        """As a member of a flow; which of its leaves have which number; and the shape of its result."""
        raise NotImplementedError

    def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        made = self.clone(args, kwargs, **{word: value for word, value in options.items() if value is not None})
        if made.app.conf.task_always_eager:
            return made.apply()
        return made._enqueue()

    def _enqueue(self) -> Any:
        tenant_app = TenantApp.current()
        id = flow_id()
        document, nodes, shape = self.plan(iter(range(1_000_000)), id.hex, False, None)
        words, meta = call_words(self.app, "", {k: v for k, v in self.options.items() if k != "task_id"})
        if words.keys() & {"on_success", "on_failure"}:
            meta.setdefault("celery", {})["shape"] = shape
        if meta:
            words["meta"] = meta
        said = CallOptions.of(**words).values
        tenant = said.pop("tenant", None) or tenant_app.current_tenant()
        flow = many_literal({**said, "id": str(id)})
        calls = tenant_app.calls
        if "chain" in document:
            tenant_app.run(calls.chain(many_literal(document["chain"]), True, "stop", flow, tenant))
        else:
            tenant_app.run(calls.group(many_literal(document["group"]), flow, tenant))
        return _results(tenant_app, str(id), id.hex, nodes, tenant)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.apply_async(args, kwargs)

    def document(self) -> dict[str, Any]:
        raise Unsupported(
            "a chain or a group as a callback", hint="Make it a step of a chain: chain(task.s(), group(…))."
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.tasks))})"


def _results(app: TenantApp, flow: str, label: str, nodes: Any, tenant: str | None) -> Any:
    """Celery's results of what was enqueued: of a chain that of its last step, with the one before as its parent."""
    at = app.calls.at
    sql = (
        f"SELECT pg_catalog.jsonb_build_array(x.meta #> '{{celery,n}}', x.id) FROM {at}tq_tasks AS x WHERE"
        " x.group_id = %s"
        f" UNION ALL SELECT pg_catalog.jsonb_build_array(x.meta #> '{{celery,n}}', x.id) FROM {at}tq_results"
        " AS x WHERE x.group_id = %s"
    )
    ids = {int(n): id for n, id in documents(app, sql, [label, label])}
    return _node(nodes, ids, flow, tenant, None)


def _node(node: Any, ids: Mapping[int, str], flow: str, tenant: str | None, parent: Any) -> Any:
    from .result import AsyncResult, GroupResult

    if isinstance(node, int):
        return AsyncResult(ids.get(node, flow), parent=parent, tenant=tenant)
    kind, members = node
    if kind == "chain":
        for each in members:
            parent = _node(each, ids, flow, tenant, parent)
        return parent
    return GroupResult(flow, [_node(each, ids, flow, tenant, parent) for each in members], parent=parent)


def _plan(
    sig: Signature, numbers: Iterator[int], label: str, after: bool, shape: Any
) -> tuple[dict[str, Any], Any, Any]:
    if isinstance(sig, Flow):
        return sig.plan(numbers, label, after, shape)
    n = next(numbers)
    member = sig.member(after=after, shape=shape, more={"n": n})
    for word in ("id", "tenant"):
        if word in member:
            raise Unsupported(
                f"{'task_id' if word == 'id' else 'headers'} of a member of a flow",
                hint="Members' ids follow from the flow's, and all are of its tenant.",
            )
    return {**member, "group_id": label}, n, None


class chain(Flow):
    """Calls one after the other; each gets the result of the one before as its first argument."""

    def __init__(self, *steps: Any, options: Mapping[str, Any] | None = None) -> None:
        super().__init__(_all(steps), options)

    def _again(self, members: Iterable[Any], options: Mapping[str, Any]) -> Any:
        return chain(*members, options=options)

    def steps(self) -> list[Signature]:
        """Its steps, those of chains and chords in it included."""
        found: list[Signature] = []
        for each in self.tasks:
            if isinstance(each, chain):
                found.extend(each.steps())
            elif isinstance(each, chord):
                found.extend(
                    [group(*each.header), *(each.body.steps() if isinstance(each.body, chain) else [each.body])]
                )
            else:
                found.append(each)
        return found

    def plan(self, numbers: Iterator[int], label: str, after: bool, shape: Any) -> tuple[dict[str, Any], Any, Any]:
        documents, nodes = [], []
        for n, each in enumerate(self.steps()):
            document, node, shape = _plan(each, numbers, label, after or n > 0, shape)
            documents.append(document)
            nodes.append(node)
        return {"chain": documents, "pass_result": True}, ("chain", nodes), {"last": shape}

    def _enqueue(self) -> Any:
        steps = self.steps()
        if len(steps) == 1:
            return steps[0].apply_async(**self.options)
        return super()._enqueue()

    def apply(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """Calls them here and now."""
        result: Any = None
        for n, each in enumerate(self.steps()):
            given = (args or ()) if n == 0 else () if each.immutable else (result.get(),)
            before, result = result, each.apply(given, kwargs if n == 0 else None)
            result.parent = before
            if not result.successful():
                break
        return result

    def __or__(self, other: Any) -> chain:
        return chain(*self.tasks, other, options=self.options)


class group(Flow):
    """Calls beside each other."""

    def __init__(self, *members: Any, options: Mapping[str, Any] | None = None) -> None:
        super().__init__(_all(members), options)

    def _again(self, members: Iterable[Any], options: Mapping[str, Any]) -> Any:
        return group(*members, options=options)

    def plan(self, numbers: Iterator[int], label: str, after: bool, shape: Any) -> tuple[dict[str, Any], Any, Any]:
        found = [_plan(each, numbers, label, after, shape) for each in self.tasks]
        shapes = [each[2] for each in found]
        whole = {"all": shapes} if any(each is not None for each in shapes) else None
        return {"group": [each[0] for each in found]}, ("group", [each[1] for each in found]), whole

    def apply(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """Calls them here and now."""
        from .result import GroupResult

        return GroupResult(str(flow_id()), [each.apply(args, kwargs) for each in self.tasks])

    def __or__(self, other: Any) -> chain:
        return chain(self, other)

    def __len__(self) -> int:
        return len(self.tasks)


class chord(chain):
    """Calls beside each other, and then one that gets the list of their results."""

    def __init__(self, header: Any, body: Any = None, options: Mapping[str, Any] | None = None) -> None:
        self.header = list(header.tasks if isinstance(header, group) else header)
        self.body: Any = body
        super().__init__(options=options)
        if body is not None:
            self.tasks = [group(*self.header), _signature(body)]

    def _again(self, members: Iterable[Any], options: Mapping[str, Any]) -> Any:
        first, body = members
        return chord(first, body, options)

    def __call__(self, body: Any = None, **options: Any) -> Any:
        if body is not None:
            return chord(self.header, body, self.options).apply_async(**options)
        return self.apply_async(**options)

    def steps(self) -> list[Signature]:
        return [group(*self.header), *(self.body.steps() if isinstance(self.body, chain) else [self.body])]


class xmap(Signature):
    """One task that calls a task's function with each of many arguments, in one transaction."""

    def __init__(self, task: Task, it: Iterable[Any]) -> None:
        self.calls = [list(each) for each in it]
        super().__init__(task)

    def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        from .result import AsyncResult

        if self.app.conf.task_always_eager:
            return self.apply()
        app = TenantApp.current()
        words, meta = call_words(self.app, self.name, {**self.options, **options})
        said = CallOptions.of(**words, **({"meta": meta} if meta else {})).values
        tenant = said.pop("tenant", None) or app.current_tenant()
        documents = [many_literal(self.type._form.document(tuple(each), {})) for each in self.calls]
        call = app.calls.iterate(
            self.name, documents, max(len(documents), 1), many_literal(said) if said else None, tenant
        )
        return AsyncResult(str(app.value(call)), tenant=tenant)

    def apply(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        from .result import eager_of

        return eager_of(lambda: [self.type(*each) for each in self.calls])

    def member(self, **words: Any) -> dict[str, Any]:
        raise Unsupported("map() in a flow", hint="Write group(task.s(each) for each in …).")


def xstarmap(task: Task, it: Iterable[Any]) -> xmap:
    """`xmap`, of tuples."""
    return xmap(task, it)


class chunks(Flow):
    """A group of tasks that call a task's function with n of the tuples each."""

    def __init__(self, task: Task, it: Iterable[Any], n: int) -> None:
        given = [list(each) for each in it]
        self.parts = [given[at : at + n] for at in range(0, len(given), n)]
        self.target = task
        super().__init__([])

    @property
    def app(self) -> Celery:
        return self.target.app

    def clone(self, args: Any = None, kwargs: Mapping[str, Any] | None = None, **options: Any) -> Any:
        self.options.update(options)
        return self

    def group(self) -> list[xmap]:
        """The tasks."""
        return [xmap(self.target, part) for part in self.parts]

    def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        from .result import GroupResult

        return GroupResult(str(flow_id()), [each.apply_async(**{**self.options, **options}) for each in self.group()])

    def apply(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        from .result import GroupResult

        return GroupResult(str(flow_id()), [each.apply() for each in self.group()])


def _all(members: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(members) == 1 and not isinstance(members[0], Signature) and isinstance(members[0], Iterable):
        return tuple(members[0])
    return members


def _signature(of: Any) -> Signature:
    from .task import Task

    if isinstance(of, Signature):
        return of
    if isinstance(of, Task):
        return of.s()
    if isinstance(of, Mapping):
        return Signature.of(of)
    raise Unsupported(f"{of!r} is no signature", hint="Write task.s(arguments).")


def signature(varies: Any, args: Any = None, kwargs: Any = None, options: Any = None, **words: Any) -> Any:
    """A signature of a task, of its name, or of what `Signature.document` has made."""
    if isinstance(varies, Signature):
        return varies.clone()
    if isinstance(varies, Mapping):
        return Signature.of(varies)
    immutable = bool(words.pop("immutable", False))
    return Signature(varies, args, kwargs, {**(options or {}), **words}, immutable=immutable)


subtask = signature


def maybe_signature(given: Any, app: Any = None) -> Any:
    """A signature, if it is anything."""
    return None if given is None else _signature(given)
