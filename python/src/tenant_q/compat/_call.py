"""The handler `tenant_q.call`: calls a function by its name, for systems in which any function may be enqueued.

A task's row is input: whoever owns the tenant's schema can write one. So a name is not enough to be called. What may
be called is

- a function that is a task itself (`@tenant_q.task`), which then is enqueued under its own name in the first place;
- a function defined in a module that the App imports for its tasks (`App(modules=[…])`);
- with Django, a function defined in the module `tasks` of an installed app, or below what the setting
  TENANT_Q = {"CALLABLE": ["shop.mails", "math.floor"]} lists;
- what `allow("shop.mails", "math.floor")` says: a function by its exact name, or all that are *defined* in a module
or below it.

A name that leads through such a module to something that it has only imported (`shop.tasks.os.system`) is none of
these, nor is one with a part that begins with an underscore. Names are checked where they are enqueued, and again in
the worker, before anything is imported.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from .. import codec
from ..app import App
from ..context import current
from ..errors import ArgumentsDoNotFit, NotAllowed, TenantQError, UnknownTask
from ..options import CallOptions
from ..result import Result, TaskRow
from ..signature import REST, TaskSignature
from ..task import Task, registry, task

__all__ = [
    "CALL",
    "Again",
    "Call",
    "allow",
    "arguments_of",
    "arguments_of_row",
    "call",
    "call_options",
    "name_of",
    "resolve",
    "return_value",
]

#: the handler's name
CALL = "tenant_q.call"

_allowed: set[str] = set()


def allow(*names: str | Callable[..., Any]) -> None:
    """Lets tasks call these: functions by name, or modules, which stand for every function defined in them or below
    them.

    Say it where worker and application both come by: in the module of the App, or in an app's `tasks` module.
    """
    _allowed.update(each if isinstance(each, str) else name_of(each) for each in names)


def _modules() -> Iterator[str]:
    yield from _allowed
    app = App._active.get() or App._latest
    yield from app.modules if app is not None else ()
    if "django.apps" in sys.modules:
        from django.apps import apps
        from django.conf import settings

        if settings.configured and apps.apps_ready:
            yield from (f"{config.name}.tasks" for config in apps.get_app_configs())
            yield from getattr(settings, "TENANT_Q", {}).get("CALLABLE", ())


def _within(name: str) -> bool:
    """Whether the name is one of what is allowed, or below it."""
    return any(name == each or name.startswith(each + ".") for each in _modules())


def name_of(function: Any) -> str:
    """The name that other processes find a function by; raises `ArgumentsDoNotFit` where there is none."""
    if isinstance(function, Task):
        return function.name
    if isinstance(function, str):
        return function
    function = getattr(function, "function", function) if not hasattr(function, "__qualname__") else function
    owner = getattr(function, "__self__", None)
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if inspect.ismethod(function) and not isinstance(owner, type):
        module = None  # of an instance, which can't travel
    if not module or not name or "<" in name:
        raise ArgumentsDoNotFit(
            f"{function!r} has no name that another process could find it by",
            hint="Pass a function that is defined at the top of a module; what it needs, pass as arguments.",
        )
    if module == "__main__":
        from ..task import _module_of

        module = _module_of(function)
    return f"{module}.{name}"


def resolve(name: str) -> Callable[..., Any]:
    """The function of this name, if tasks may call it. Raises `NotAllowed`, `UnknownTask`."""
    found = registry.get(name)
    if found is not None:
        return found.function
    parts = name.split(".")
    if not _within(name) or (name not in _allowed and any(part.startswith("_") for part in parts)):
        raise _refused(name)
    function = _import(name, parts)
    actual = f"{getattr(function, '__module__', None)}.{getattr(function, '__qualname__', '')}"
    if name not in set(_modules()) and not _within(actual):
        raise _refused(name, f"It is {actual}, which is only imported there.")
    return function


def _refused(name: str, detail: str | None = None) -> NotAllowed:
    return NotAllowed(
        f"tasks may not call {name}",
        detail=detail or "A task's row can be written by the tenant's owner, so that a name alone is not enough.",
        hint="Put @tenant_q.task on the function; or say tenant_q.compat.allow('its.module') where workers"
        " come by; with Django"
        " TENANT_Q = {'CALLABLE': ['its.module']}, or move it to the app's tasks module.",
    )


def _import(name: str, parts: list[str]) -> Callable[..., Any]:
    for cut in range(len(parts) - 1, 0, -1):
        path = ".".join(parts[:cut])
        try:
            found: Any = importlib.import_module(path)
        except ModuleNotFoundError as error:
            if error.name is not None and (path == error.name or path.startswith(error.name + ".")):
                continue
            raise
        for part in parts[cut:]:
            found = getattr(found, part, None)
        if callable(found):
            return found  # type: ignore[no-any-return]
        break
    raise UnknownTask(f"there is no function {name}", hint="Nothing was enqueued. Is it spelled as it is imported?")


@lru_cache(maxsize=1024)
def _signature(function: Callable[..., Any], name: str) -> TaskSignature | None:
    """None: a builtin that doesn't say what it takes."""
    try:
        return TaskSignature(function, name)
    except ValueError:
        return None


class Call:
    """A function with arguments, as a task: of its own handler if it is a task itself, else of `tenant_q.call`."""

    def __init__(
        self,
        function: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        time_arg: str | None = None,
    ) -> None:
        kwargs = dict(kwargs or {})
        late = time_arg is not None
        self.name = name_of(function)
        own = function if isinstance(function, Task) else registry.get(self.name)
        self.task: Task[..., Any] = own if own is not None else call
        if own is not None:
            self.document = own.signature.bind(args, kwargs, partial=late)
            self.always = own.call_options(args, kwargs, partial=late)
            return
        self.always = CallOptions.of(name=self.name)
        signature = _signature(resolve(self.name), self.name)
        self.document = {"function": self.name}
        if signature is not None:
            arguments = signature.bind(args, kwargs, partial=late)
            if signature.whole is not None and arguments is not None:
                arguments = {signature.whole: arguments}  # as the server makes it of a handler's own parameters
        elif kwargs:
            raise ArgumentsDoNotFit(
                f"{self.name} doesn't say which arguments it takes by name", hint="Pass them by position."
            )
        else:
            arguments = codec.encode(list(args), Any, f"an argument of {self.name}")
        if arguments is not None:
            self.document["args"] = arguments
        if time_arg is not None:
            self.document["time_arg"] = time_arg

    @classmethod
    def of_document(cls, document: dict[str, Any]) -> Call:
        """Of what a task of `tenant_q.call` has as its arguments."""
        made = object.__new__(cls)
        made.name = str(document["function"])
        made.task, made.document, made.always = call, document, CallOptions.of(name=made.name)
        return made

    def enqueue(self, **words: Any) -> Result:
        """Enqueues it; words as of `Task.options`."""
        return self.task.app.enqueue(self.task, self.document, call_options(words, self.always))

    @property
    def is_call(self) -> bool:
        """Whether it goes by `tenant_q.call`."""
        return self.task is call

    def member(self, **words: Any) -> dict[str, Any]:
        """As a member of a flow or of many."""
        said = call_options(words, self.always).document()
        return {"handler": self.task.name, **({} if self.document is None else {"args": self.document}), **said}


def call_options(words: Mapping[str, Any], always: CallOptions) -> CallOptions:
    """What is said of a call, over what is said of all calls."""
    return CallOptions.of(**words).over(always)


def arguments_of(function: str, args: Any) -> tuple[list[Any], dict[str, Any]]:
    """What the function is called with, by a task's document."""
    signature = _signature(resolve(function), function)
    return signature.unpack(args) if signature is not None else (list(args or ()), {})


def arguments_of_row(row: TaskRow) -> tuple[str, list[Any], dict[str, Any]]:
    """The function's name and what it is called with, by a task's row; as far as this process knows it."""
    name, document = row.handler, row.args
    try:
        if name == CALL and isinstance(document, dict) and isinstance(document.get("function"), str):
            name, document = document["function"], document.get("args")
            return name, *arguments_of(name, document)
        known = registry.get(name)
        if known is not None:
            whole = known.signature.whole
            if whole is not None and not (isinstance(document, dict) and list(document) == [whole]):
                document = {whole: document}  # the value of the one parameter stands for itself
            return name, *known.signature.unpack(document)
    except TenantQError:
        pass
    if isinstance(document, dict):
        return name, [], document
    return name, document if isinstance(document, list) else [], {}


class Again:
    """What a function may return to say that it is to be called again."""

    def error(self, attempt: int) -> Exception:
        """What is raised in its place."""
        raise NotImplementedError


def _run(function: str, args: Any = None, time_arg: str | None = None) -> Any:
    """Calls the function, which must be one that tasks may call; time_arg: its parameter that gets the fire time of
    the schedule."""
    target = resolve(function)
    here = current()
    if time_arg is not None and here is not None and here.scheduled_for is not None:
        args = args if isinstance(args, dict) else {REST: args} if args else {}
        args = {**args, time_arg: here.scheduled_for.isoformat()}
    positional, named = arguments_of(function, args)
    if inspect.iscoroutinefunction(target):
        value = (here.app if here is not None else App.current()).run_async(target, *positional, **named)
    else:
        value = target(*positional, **named)
    if isinstance(value, Again):
        raise value.error(here.attempt if here is not None else 1)
    return value


#: the task of the handler `tenant_q.call`
call: Task[..., Any] = task(name=CALL)(_run)


def return_value(row: TaskRow) -> Any:
    """The result of a finished task, as the annotation of its function says."""
    if row.handler == CALL and isinstance(row.args, dict):
        name = row.args.get("function")
        try:
            signature = _signature(resolve(name), name) if isinstance(name, str) else None
        except (NotAllowed, UnknownTask):
            signature = None
        return row.result if signature is None else signature.decode_result(row.result)
    known = registry.get(row.handler)
    return row.result if known is None else known.signature.decode_result(row.result)
