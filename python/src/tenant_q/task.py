"""Tasks: functions that are enqueued instead of called.

`@task` makes a `Task` of a function and puts it into the registry under `module.qualname`, or the name that it is
given. Which `App`
enqueues it is found when that is done: the one that it was made by (`@app.task`), else `App.current()`.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Concatenate, Generic, Literal, ParamSpec, TypeVar, cast, overload

from .calls import many_literal
from .errors import ArgumentsDoNotFit, DuplicateTask, InvalidOption, UnknownTask
from .options import CallOptions, Key, TaskOptions, task_options
from .signature import TaskSignature

if TYPE_CHECKING:
    from .app import App
    from .context import Context
    from .result import Fanout, Result

__all__ = ["Registry", "Signature", "Task", "registry", "task"]

P = ParamSpec("P")
R = TypeVar("R")


class Registry:
    """Tasks by name, and by their aliases."""

    def __init__(self) -> None:
        self._tasks: dict[str, Task[..., Any]] = {}
        self._aliases: dict[str, Task[..., Any]] = {}

    def add(self, new: Task[..., Any]) -> None:
        """Raises `DuplicateTask` where another function has the name, or an alias."""
        for name in (new.name, *new.declared.aliases):
            other = self._tasks.get(name) or self._aliases.get(name)
            if other is not None and not _same_function(other.function, new.function):
                raise DuplicateTask(
                    f"there are two tasks of the name {name}",
                    detail=f"One is in {_place(other.function)}, the other in {_place(new.function)}.",
                    hint="Give one of them another: @task(name='…').",
                )
        self._tasks[new.name] = new
        self._aliases.update(dict.fromkeys(new.declared.aliases, new))

    def discard(self, name: str) -> None:
        """Forgets a task: for tests."""
        gone = self._tasks.pop(name, None)
        for alias in gone.declared.aliases if gone else ():
            self._aliases.pop(alias, None)

    def find(self, name: str) -> Task[..., Any]:
        """By name or alias; raises `UnknownTask`."""
        found = self._tasks.get(name) or self._aliases.get(name)
        if found is None:
            raise UnknownTask(
                f"this process has no task {name}",
                detail="It has " + (", ".join(sorted(self._tasks)) or "none at all") + ".",
                hint="Import the module that has it, or give the renamed task its old name: @task(aliases=['…']).",
            )
        return found

    def get(self, name: str) -> Task[..., Any] | None:
        """By name or alias."""
        return self._tasks.get(name) or self._aliases.get(name)

    def names(self) -> list[str]:
        """Names and aliases, as a worker offers them."""
        return sorted({*self._tasks, *self._aliases})

    def __iter__(self) -> Iterator[Task[..., Any]]:
        return iter(list(self._tasks.values()))

    def __len__(self) -> int:
        return len(self._tasks)

    def __contains__(self, name: object) -> bool:
        return name in self._tasks or name in self._aliases


def _place(function: Callable[..., Any]) -> str:
    code = getattr(inspect.unwrap(function), "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code else repr(function)


def _same_function(one: Callable[..., Any], other: Callable[..., Any]) -> bool:
    """One and the same, or one that was defined again at the same place: its module was loaded again."""
    return one is other or (_place(one) == _place(other) and one.__qualname__ == other.__qualname__)


#: all tasks of this process
registry = Registry()


def _module_of(function: Callable[..., Any]) -> str:
    """As workers import it: of a program that was started by `python -m` that is not __main__."""
    module = function.__module__
    if module == "__main__":
        main = sys.modules["__main__"]
        spec = getattr(main, "__spec__", None)
        if spec is not None and spec.name:
            return cast(str, spec.name).removesuffix(".__main__")
        path = getattr(main, "__file__", None)
        if path:
            return cast(str, path).replace("\\", "/").rsplit("/", 1)[-1].removesuffix(".py")
    return module


class Task(Generic[P, R]):
    """A function that can be enqueued.

    `task(…)` calls it here; `task.enqueue(…)` lets a worker call it. `task.options(delay=60)` is the same task with
    something said of the next enqueuing.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        declared: TaskOptions | None = None,
        app: App | None = None,
    ) -> None:
        self.function = function
        self.declared = declared or TaskOptions()
        if name is None:
            if "<locals>" in function.__qualname__:
                raise InvalidOption(
                    f"the function {function.__qualname__} has no name that other processes could find it by",
                    hint="Define it at the top of a module, or give it a name: @task(name='…').",
                )
            name = f"{_module_of(function)}.{function.__qualname__}"
        self.name = name
        self.is_async = inspect.iscoroutinefunction(inspect.unwrap(function))
        self.signature = TaskSignature(function, name, takes_context=self.declared.takes_context)
        self.said = CallOptions()
        self._app = app
        self._always = CallOptions.of(**self.declared.per_task())
        self._keys = self.declared.keys()
        self._errors: dict[str, tuple[type[BaseException] | str, ...]] = {}
        self.__name__ = getattr(function, "__name__", name)
        self.__qualname__ = getattr(function, "__qualname__", name)
        self.__module__ = function.__module__
        self.__doc__ = function.__doc__
        self.__wrapped__ = function

    def __repr__(self) -> str:
        return f"<Task {self.name}{' ' + repr(self.said) if self.said else ''}>"

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Calls the function here and now, as if it were none."""
        if self.declared.takes_context:
            from .context import Context, current

            if not (args and isinstance(args[0], Context)):
                return cast(R, self.function(current() or Context.outside(self.app, self.name), *args, **kwargs))
        return cast(R, self.function(*args, **kwargs))

    @property
    def app(self) -> App:
        """Who enqueues it; raises `NoApp`."""
        if self._app is not None:
            return self._app
        from .app import App

        return App.current()

    # What is said of the next enqueuing.

    def options(self, **words: Any) -> Task[P, R]:
        """The same task, of whose next enqueuing this is said: the words of tq_async (delay, run_at, priority, queue,
        lock, unique_key, depends_on, on_success, meta, id, tenant …). Raises `InvalidOption`."""
        return self._with(CallOptions.of(**words).over(self.said))

    def using(
        self,
        *,
        priority: int | None = None,
        queue_name: str | None = None,
        run_after: datetime | None = None,
        **words: Any,
    ) -> Task[P, R]:
        """`options` by the words that Django's tasks use."""
        return self.options(priority=priority, queue=queue_name, run_at=run_after, **words)

    def _with(self, said: CallOptions) -> Task[P, R]:
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other.said = said
        return other

    # Enqueuing.

    def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> Result:
        """Enqueues a call with these arguments, in the caller's transaction. Raises `ArgumentsDoNotFit`,
        `CannotTravel`, and what the server says; then nothing is enqueued."""
        return self.app.enqueue(self, self.signature.bind(args, kwargs), self.call_options(args, kwargs))

    async def aenqueue(self, *args: P.args, **kwargs: P.kwargs) -> Result:
        """`enqueue` from a coroutine."""
        return await self.app.aenqueue(self, self.signature.bind(args, kwargs), self.call_options(args, kwargs))

    def enqueue_many(self, calls: Iterable[Any]) -> list[Result]:
        """Enqueues a call for each of the arguments, all or none, in one statement. Each is a tuple of positional
        arguments, a dict of
        named ones, or anything else: the single argument."""
        return self.app.enqueue_many(self, [self.member_of(each) for each in calls])

    async def aenqueue_many(self, calls: Iterable[Any]) -> list[Result]:
        """`enqueue_many` from a coroutine."""
        return await self.app.aenqueue_many(self, [self.member_of(each) for each in calls])

    def enqueue_all(
        self, *args: Any, tenants: Iterable[str] | None = None, stagger: Any = None, **kwargs: Any
    ) -> Fanout:
        """Enqueues one call in each of these tenants, or in all, exactly once each: tq_async_all. What a parameter of
        the function called tenants or stagger is to get is passed by position."""
        return self.app.enqueue_all(
            self, self.signature.bind(args, kwargs), self.call_options(args, kwargs), tenants=tenants, stagger=stagger
        )

    def s(self, *args: Any, **kwargs: Any) -> Signature:
        """The call for later: a member of a chain or a group. Of a step that gets the result of the step before
        something may be missing."""
        return Signature(self, args, kwargs)

    def call_options(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, partial: bool = False) -> CallOptions:
        """What is said of a call with these arguments: by `options`, then by the declaration."""
        if not self._keys:
            return self.said.over(self._always) if self._always.values else self.said
        bind = self.signature.signature.bind_partial if partial else self.signature.signature.bind
        try:
            bound = bind(*args, **kwargs)
        except TypeError as error:
            raise ArgumentsDoNotFit(f"{self.name}: {error}", hint="Nothing was enqueued.") from None
        bound.apply_defaults()
        found = {word: self._key(word, key, bound.arguments) for word, key in self._keys.items()}
        return self.said.over(CallOptions.of(**found)).over(self._always)

    def _key(self, word: str, key: Key, arguments: Mapping[str, Any]) -> str | None:
        if callable(key):
            return key(**arguments)
        try:
            return key.format(**arguments)
        except (KeyError, IndexError, AttributeError) as error:
            raise InvalidOption(
                f"{word} of {self.name} is {key!r}, which these arguments don't fill: {error}",
                detail=f"It takes {', '.join(self.signature.parameters)}.",
            ) from None

    def member_of(self, call: Any) -> dict[str, Any]:
        """A call as a member of tq_async_many."""
        args, kwargs = _call_of(call)
        member: dict[str, Any] = {"handler": self.name}
        document = self.signature.bind(args, kwargs)
        if document is not None:
            member["args"] = document
        return member | self.call_options(args, kwargs).document()

    # Declaring.

    def errors_listed(self, which: str) -> tuple[type[BaseException] | str, ...]:
        """What is in retry_on, or never_on, of its declaration."""
        found = self._errors.get(which)
        if found is None:
            found = self._errors[which] = self.declared.listed(which)
        return found

    def handler_document(self) -> dict[str, Any]:
        """As tq_register_many takes it."""
        document: dict[str, Any] = {"handler": self.name, "external": True, **self.declared.handler_document()}
        if self.declared.shared:
            document["shared"] = True
        if self.signature.params is not None:
            document["params"] = self.signature.params
        return document


def _call_of(call: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(call, tuple):
        return call, {}
    if isinstance(call, dict):
        return (), call
    return (call,), {}


class Signature:
    """A task with its arguments and options: what chains and groups are made of."""

    def __init__(
        self, task: Task[..., Any], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> None:
        self.task = task
        self.args = args
        self.kwargs = dict(kwargs or {})

    def options(self, **words: Any) -> Signature:
        """The same call, of which this is said."""
        return Signature(self.task.options(**words), self.args, self.kwargs)

    set = options

    def document(self, *, partial: bool = False) -> dict[str, Any]:
        """As a member of tq_group and tq_chain; partial: the step before gives it an argument."""
        member: dict[str, Any] = {"handler": self.task.name}
        args = self.task.signature.bind(self.args, self.kwargs, partial=partial)
        if args is not None:
            member["args"] = args
        return member | self.task.call_options(self.args, self.kwargs, partial=partial).document()

    def enqueue(self) -> Result:
        """Enqueues the call."""
        return self.task.enqueue(*self.args, **self.kwargs)

    async def aenqueue(self) -> Result:
        """Enqueues the call, from a coroutine."""
        return await self.task.aenqueue(*self.args, **self.kwargs)

    def __or__(self, other: Any) -> Any:
        from .flows import chain

        return chain(self, other)

    def __repr__(self) -> str:
        given = [repr(each) for each in self.args] + [f"{name}={value!r}" for name, value in self.kwargs.items()]
        return f"{self.task.name}({', '.join(given)})"


# The decorator. Its overloads are for type checkers: what enqueue() takes is what the function takes, without the
# context.


@overload
def task(function: Callable[P, R], /) -> Task[P, R]: ...
@overload
def task(
    *, takes_context: Literal[True], name: str | None = None, app: App | None = None, **words: Any
) -> Callable[[Callable[Concatenate[Context, P], R]], Task[P, R]]: ...
@overload
def task(
    *, takes_context: Literal[False] = False, name: str | None = None, app: App | None = None, **words: Any
) -> Callable[[Callable[P, R]], Task[P, R]]: ...
def task(
    function: Callable[..., Any] | None = None, /, *, name: str | None = None, app: App | None = None, **words: Any
) -> Any:
    """Makes a task of a function: `@task`, or `@task(queue='mail', max_attempts=5, retry_on=(TimeoutError,))`.

    name: of the handler; None = module.qualname
    queue (or queue_name), priority, timeout, max_attempts, retry (`Backoff` or seconds), expires, max_running, rate,
    save, result_ttl,
    run_as, aliases: as tq_register has them
    retry_on, never_on: only these errors are tried again; these are not: classes (and what is derived from them), names
    of classes, SQLSTATEs, or first characters of these
    retry_if: a function of the exception; False = it is not tried again
    lock, limit_key, unique_key: as tq_async has them; with {parameter} in the text for an argument, or a function of
    the arguments. Of tasks that Python enqueues, schedules declared in code included; SQL says them itself
    unique_until, on_conflict, on_success, on_failure, hook: the same
    shared: the handler is one of all tenants; None = as the App says
    atomic: True = the function and the end of its task are one transaction; False = `context.commit()` says when
    takes_context: the function's first parameter gets the `Context`
    """

    def make(function: Callable[..., Any]) -> Task[..., Any]:
        made: Task[..., Any] = Task(function, name=name, declared=task_options(**words), app=app)
        (app.registry if app is not None else registry).add(made)
        return made

    return make if function is None else make(function)


def args_text(document: Any) -> str | None:
    """A bound document as JSON text."""
    return None if document is None else many_literal(document)
