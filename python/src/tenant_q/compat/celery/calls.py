"""How a call of Celery's becomes a document, and back.

A function whose parameters all have names is declared with these, and two more: `tq_previous`, which takes the result
of the step before where the function is not to get it (`.si()`), and `tq_shape`, which says how that result is to be
read (a chain in a group gives the results of all of its steps; Celery passes the last one's on). Of a function with
*args or **kwargs the document is {"args": […], "kwargs": {…}}.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from inspect import Parameter
from typing import Any

from ... import codec
from ...errors import ArgumentsDoNotFit
from ...signature import TaskSignature

__all__ = ["CallForm", "form_of", "reshape"]

PREVIOUS, SHAPE = "tq_previous", "tq_shape"


def reshape(value: Any, shape: Any) -> Any:
    """What Celery passes on of a flow's result: {"last": …} of a list the last, {"all": […]} of each its own; None =
    as it is."""
    if not isinstance(shape, dict) or not isinstance(value, list):
        return value
    if "last" in shape:
        return reshape(value[-1], shape["last"]) if value else None
    each = shape.get("all")
    return [reshape(v, s) for v, s in zip(value, each, strict=False)] if isinstance(each, list) else value


class CallForm:
    """Of a function with named parameters."""

    def __init__(self, function: Callable[..., Any], name: str, signature: inspect.Signature) -> None:
        self.function = function
        self.name = name
        self.plain = signature
        extra = [Parameter(each, Parameter.KEYWORD_ONLY, default=None) for each in (PREVIOUS, SHAPE)]
        self.signature = signature.replace(parameters=[*signature.parameters.values(), *extra])
        self.task_signature: TaskSignature | None = None

    def entry(self, run: Callable[[list[Any], dict[str, Any], Any], Any]) -> Callable[..., Any]:
        """The function that tenant_q calls."""

        def called(*args: Any, **kwargs: Any) -> Any:
            shape = kwargs.pop(SHAPE, None)
            kwargs.pop(PREVIOUS, None)
            return run(list(args), kwargs, shape)

        return self._named(called)

    def _named(self, called: Callable[..., Any]) -> Callable[..., Any]:
        functools.update_wrapper(called, self.function)
        called.__signature__ = self.signature  # type: ignore[attr-defined]
        self.task_signature = TaskSignature(called, self.name)
        return called

    @property
    def task(self) -> TaskSignature:
        """What is declared."""
        assert self.task_signature is not None
        return self.task_signature

    def document(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, after: str | None = None, shape: Any = None
    ) -> Any:
        """The document of a call. after: 'given' = it gets the result of the step before as its first argument,
        'dropped' = it is a step
        that doesn't; None = there is none before."""
        if after == "given":
            return self._after(args, kwargs, shape)
        document: dict[str, Any] = self.task.bind(args, kwargs) or {}
        if after == "dropped":
            for declared in self.task.params or ():
                if declared["name"] not in (PREVIOUS, SHAPE):
                    document.setdefault(declared["name"], declared.get("default"))
        return document

    def _after(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], shape: Any) -> Any:
        names = [p.name for p in self.plain.parameters.values() if p.kind is not Parameter.KEYWORD_ONLY]
        if not names:
            raise ArgumentsDoNotFit(
                f"{self.name} takes no argument, and would get the result of the step before",
                hint="Write it as .si() in the chain.",
            )
        document: dict[str, Any] = self.task.bind((None, *args), kwargs)
        document.pop(names[0])
        if shape is not None:
            document[SHAPE] = shape
        return document

    def shown(self, document: Any) -> tuple[list[Any], dict[str, Any]]:
        """Positional and named arguments of a document, for people."""
        if isinstance(document, dict):
            return [], {name: value for name, value in document.items() if name not in (PREVIOUS, SHAPE)}
        return (document if isinstance(document, list) else []), {}

    def arguments(self, document: Any) -> tuple[list[Any], dict[str, Any]]:
        """What the function is called with."""
        args, kwargs = self.task.unpack(document)
        for name in (PREVIOUS, SHAPE):
            kwargs.pop(name, None)
        return args, kwargs


class OpenForm(CallForm):
    """Of a function with *args or **kwargs."""

    def __init__(self, function: Callable[..., Any], name: str, signature: inspect.Signature) -> None:
        super().__init__(function, name, signature)
        names = {"args": None, "kwargs": None, "previous": None, "how": "plain", PREVIOUS: None, SHAPE: None}
        self.signature = inspect.Signature([Parameter(n, Parameter.KEYWORD_ONLY, default=d) for n, d in names.items()])

    def entry(self, run: Callable[[list[Any], dict[str, Any], Any], Any]) -> Callable[..., Any]:
        def called(**document: Any) -> Any:
            args, kwargs = self.arguments(document)
            return run(args, kwargs, document.get(SHAPE))

        called.__signature__ = self.signature  # type: ignore[attr-defined]
        called.__name__ = called.__qualname__ = getattr(self.function, "__qualname__", self.name)
        called.__module__ = self.function.__module__
        self.task_signature = TaskSignature(called, self.name)
        called.__wrapped__ = self.function  # type: ignore[attr-defined]
        return called

    def document(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, after: str | None = None, shape: Any = None
    ) -> Any:
        try:
            self.plain.bind(*((None,) if after == "given" else ()), *args, **kwargs)
        except TypeError as error:
            raise ArgumentsDoNotFit(f"{self.name}: {error}", hint="Nothing was enqueued.") from None
        where = f"an argument of {self.name}"
        document: dict[str, Any] = {
            "args": codec.encode(list(args), Any, where),
            "kwargs": codec.encode(dict(kwargs), Any, where),
        }
        if after == "given":
            document["how"] = "after"
            if shape is not None:
                document[SHAPE] = shape
        elif after == "dropped":
            document.update(previous=None, how="plain")
        return document

    def shown(self, document: Any) -> tuple[list[Any], dict[str, Any]]:
        return self.arguments(document) if isinstance(document, dict) else ([], {})

    def arguments(self, document: Any) -> tuple[list[Any], dict[str, Any]]:
        args = list(document.get("args") or ())
        if document.get("how") == "after":
            args.insert(0, document.get("previous"))
        return args, dict(document.get("kwargs") or {})


def form_of(function: Callable[..., Any], name: str, *, bound: bool) -> CallForm:
    """How calls of this function are written; bound: its first parameter is the task itself."""
    signature = inspect.signature(function)
    parameters = list(signature.parameters.values())
    if bound:
        if not parameters:
            raise ArgumentsDoNotFit(f"{name} is bound, and has no first parameter for the task")
        parameters = parameters[1:]
    signature = signature.replace(parameters=parameters)
    is_open = any(p.kind in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD) for p in parameters)
    return (OpenForm if is_open else CallForm)(function, name, signature)
