"""What a function takes: declared to the server as `params`, bound to arguments at the call, and given back to the
function in the worker.

A task's arguments travel as an object by the parameters' names. A function with `*args` or `**kwargs` declares no
`params`: its arguments travel as an array where all are positional, else as an object, in which "*" holds what `*args`
got.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from inspect import Parameter
from typing import Any

from . import codec
from .errors import ArgumentsDoNotFit, CannotTravel

__all__ = ["REST", "TaskSignature"]

#: the key under which an object has what `*args` got: no parameter can be called so
REST = "*"

_NAMED = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)


class TaskSignature:
    """The parameters of a task's function, without the context."""

    __slots__ = (
        "_order",
        "_positional",
        "any_keyword",
        "any_positional",
        "context",
        "hints",
        "name",
        "null_means_default",
        "parameters",
        "params",
        "result_hint",
        "signature",
        "whole",
    )

    def __init__(self, function: Callable[..., Any], name: str, *, takes_context: bool = False) -> None:
        self.name = name
        self.context = takes_context
        signature = inspect.signature(function)
        parameters = list(signature.parameters.values())
        if takes_context:
            if not parameters or parameters[0].kind not in (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD):
                raise ArgumentsDoNotFit(f"{name} is to get its context, and has no first parameter for it")
            parameters = parameters[1:]
        hints = _hints_of(function, signature)
        self.signature = signature.replace(parameters=parameters)
        self.hints: dict[str, Any] = {p.name: hints.get(p.name, Any) for p in parameters}
        self.result_hint = hints.get("return", Any)
        self.parameters: dict[str, Parameter] = {p.name: p for p in parameters if p.kind in _NAMED}
        rest = [p for p in parameters if p.kind not in _NAMED]
        self.any_positional = next((p.name for p in rest if p.kind is Parameter.VAR_POSITIONAL), None)
        self.any_keyword = next((p.name for p in rest if p.kind is Parameter.VAR_KEYWORD), None)
        self._order = list(self.parameters)
        self._positional = [p.name for p in parameters if p.kind in _NAMED[:2]]
        self.null_means_default: set[str] = set()
        #: as tq_register takes them; None = any document
        self.params: list[dict[str, Any]] | None = None
        #: the one parameter that gets the document as it is
        self.whole: str | None = None
        if self.any_positional is None and self.any_keyword is None:
            self._declare([self._declared(p) for p in self.parameters.values()])

    def _declare(self, params: list[dict[str, Any]]) -> None:
        """To a handler of one parameter of the type jsonb the server gives the document as it is, an object too. What
        None would be there can't be told from no arguments, so a default of another value leaves it undeclared."""
        if len(params) == 1 and params[0]["type"] == "jsonb":
            if params[0].get("default") is not None:
                return
            params[0]["default"] = None
            self.whole = params[0]["name"]
        self.params = params

    def _declared(self, parameter: Parameter) -> dict[str, Any]:
        hint = self.hints[parameter.name]
        declared: dict[str, Any] = {"name": parameter.name, "type": codec.pg_type(hint)}
        if parameter.default is not Parameter.empty:
            try:
                declared["default"] = codec.encode(parameter.default, hint, parameter.name)
            except CannotTravel:
                # It can't be written as JSON: the function's own default is taken where null arrives.
                self.null_means_default.add(parameter.name)
                declared["default"] = None
        elif hint is not Any and codec.is_optional(hint) and self._may_be_left_out(parameter):
            declared["default"] = None
        return declared

    def _may_be_left_out(self, parameter: Parameter) -> bool:
        """Defaults come last in a declaration: of an Optional without one only where those behind it have one too."""
        later = self._order[self._order.index(parameter.name) + 1 :]
        return all(
            self.parameters[name].default is not Parameter.empty
            or (codec.is_optional(self.hints[name]) and self.hints[name] is not Any)
            for name in later
        )

    # At the call.

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, partial: bool = False) -> Any:
        """The document for these arguments: an object by name, or what `*args` takes as an array, or the value of the
        one parameter of any type; None where there are none.

        partial: some may be missing (a step of a chain gets them from the step before). Raises `ArgumentsDoNotFit`,
        `CannotTravel`.
        """
        if not args and not kwargs and not self.parameters:
            return None
        try:
            bound = self.signature.bind_partial(*args, **kwargs) if partial else self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise ArgumentsDoNotFit(
                f"{self.name}: {error}", detail=f"It takes {self._shown()}.", hint="Nothing was enqueued."
            ) from None
        given = bound.arguments
        if self.params is None:
            return self._open_document(args, kwargs, given)
        if self.whole is not None:
            return self._encode(self.whole, given[self.whole]) if self.whole in given else None
        return {name: self._encode(name, value) for name, value in given.items()}

    def _shown(self) -> str:
        return str(self.signature.replace(return_annotation=inspect.Signature.empty))

    def _encode(self, name: str, value: Any) -> Any:
        where = f"{self.name}: argument {name}"
        if value is None and name in self.null_means_default and self.parameters[name].default is not None:
            raise CannotTravel(
                f"{where} is None, which can't be told from its being left out",
                hint="Leave it out, or give the parameter a default that can be written as JSON.",
            )
        return codec.encode(value, self.hints.get(name, Any), where)

    def _open_document(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], given: Mapping[str, Any]) -> Any:
        if not kwargs:
            names = [*self._positional]
            hint = self.hints.get(self.any_positional, Any) if self.any_positional else Any
            return [
                codec.encode(value, self.hints[names[n]] if n < len(names) else hint, f"{self.name}: argument {n + 1}")
                for n, value in enumerate(args)
            ]
        out: dict[str, Any] = {}
        for name, value in given.items():
            if name == self.any_positional:
                hint = self.hints[name]
                out[REST] = [codec.encode(each, hint, f"{self.name}: argument {self.any_positional}") for each in value]
            elif name == self.any_keyword:
                hint = self.hints[name]
                for key, each in value.items():
                    if key in out or key == REST:
                        raise ArgumentsDoNotFit(f"{self.name}: {key} is given twice")
                    out[key] = codec.encode(each, hint, f"{self.name}: argument {key}")
            else:
                out[name] = self._encode(name, value)
        return out

    # In the worker.

    def unpack(self, document: Any) -> tuple[list[Any], dict[str, Any]]:
        """The arguments that a document stands for, by annotation: what the function is called with. Raises
        `ArgumentsDoNotFit`."""
        if self.params is not None and type(document) is dict:
            return self._by_name(document)
        if document is None:
            document = []
        elif not isinstance(document, (list, dict)):
            document = [document]
        args, kwargs = self._open_arguments(document)
        try:
            self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise ArgumentsDoNotFit(f"{self.name}: {error}", detail=f"It takes {self._shown()}.") from None
        return args, kwargs

    def _by_name(self, document: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        gap = False
        for name, parameter in self.parameters.items():
            value = document.get(name, REST)
            if value is REST or (value is None and name in self.null_means_default):
                if parameter.default is Parameter.empty and not codec.is_optional(self.hints[name]):
                    raise ArgumentsDoNotFit(
                        f"{self.name}: parameter {name} is missing",
                        detail=f"It takes {self._shown()}.",
                        hint="The handler is declared otherwise than this process has it: sync declares it anew.",
                    )
                value = None if parameter.default is Parameter.empty else parameter.default
            else:
                value = codec.decode(value, self.hints[name], f"{self.name}: argument {name}")
            if parameter.kind is Parameter.KEYWORD_ONLY or gap:
                kwargs[name] = value
            else:
                args.append(value)
        for name in document:
            if name not in self.parameters:
                raise ArgumentsDoNotFit(
                    f"{self.name} has no parameter {name}",
                    detail=f"It takes {self._shown()}.",
                    hint="It was enqueued for another version of the function, or by somebody who doesn't know it.",
                )
        return args, kwargs

    def _open_arguments(self, document: list[Any] | dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        if isinstance(document, list):
            names = self._positional
            hint = self.hints.get(self.any_positional, Any) if self.any_positional else Any
            return [
                codec.decode(value, self.hints[names[n]] if n < len(names) else hint, f"{self.name}: argument {n + 1}")
                for n, value in enumerate(document)
            ], {}
        rest = document.get(REST)
        hint = self.hints.get(self.any_positional, Any) if self.any_positional else Any
        extra = (
            [codec.decode(each, hint, f"{self.name}: argument {self.any_positional}") for each in rest]
            if isinstance(rest, list)
            else []
        )
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        other = self.hints.get(self.any_keyword, Any) if self.any_keyword else Any
        for name, value in document.items():
            if name != REST:
                kwargs[name] = codec.decode(value, self.hints.get(name, other), f"{self.name}: argument {name}")
        for name in self._positional:
            only = self.parameters[name].kind is Parameter.POSITIONAL_ONLY
            if name in kwargs and (extra or only):
                args.append(kwargs.pop(name))
            elif extra:
                if self.parameters[name].default is Parameter.empty:
                    break
                args.append(self.parameters[name].default)
        return [*args, *extra], kwargs

    def encode_result(self, value: Any) -> str | None:
        """The JSON text of what the function has returned; None of None."""
        return None if value is None else codec.dumps(value, self.result_hint, f"{self.name}: result")

    def decode_result(self, value: Any) -> Any:
        """What the return annotation says of a result; where it doesn't fit (an older version's), the document as it
        is."""
        try:
            return codec.decode(value, self.result_hint)
        except ArgumentsDoNotFit:
            return value


def _hints_of(function: Callable[..., Any], signature: inspect.Signature) -> dict[str, Any]:
    """The annotations, evaluated; one that can't be (a name of `if TYPE_CHECKING`) says nothing."""
    target = inspect.unwrap(function)
    if not hasattr(target, "__annotations__") and callable(target):
        target = target.__call__
    try:
        return typing.get_type_hints(target)
    except Exception:
        pass
    names = getattr(target, "__globals__", {})
    found: dict[str, Any] = {}
    annotations = {name: p.annotation for name, p in signature.parameters.items()} | {
        "return": signature.return_annotation
    }
    for name, annotation in annotations.items():
        if annotation is inspect.Signature.empty:
            continue
        if isinstance(annotation, str):
            try:
                annotation = eval(annotation, names)  # noqa: PLW2901 as typing.get_type_hints does, one by one
            except Exception:
                continue
        found[name] = annotation
    return found
