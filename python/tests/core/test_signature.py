"""What a function takes is declared, bound at the call, and given back to it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from tenant_q.errors import ArgumentsDoNotFit, CannotTravel
from tenant_q.signature import TaskSignature

if TYPE_CHECKING:
    from nowhere import Missing

SENTINEL = object()
NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


@dataclass
class Line:
    sku: str
    amount: Decimal


def nothing(): ...
def plain(a: int, b: str = "x", *, c: Decimal = Decimal("1.50"), d: timedelta | None = None): ...
def unannotated(a, b=2): ...
def positional_only(a: int, /, b: int = 5): ...
def optional(a: int, b: int | None, c: datetime | None): ...
def optional_first(a: int | None, b: int): ...
def sentinel(a: int, b: int = SENTINEL, c: int | None = None): ...  # type: ignore[assignment]
def anything(*args: Decimal, **kwargs: datetime): ...
def mixed(a: int, b: int = 7, *rest: Decimal, flag: bool = False, **kwargs: Any): ...
def one(document): ...
def one_dict(document: dict[str, int]): ...
def one_with_default(document: Any = 5): ...
def later(line: Line, other: Missing = None): ...


def calls_back(function: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[Any, tuple[list[Any], dict[str, Any]]]:
    """The document, and what the function would be called with: by way of JSON text, and with the server's defaults."""
    signature = TaskSignature(function, "f")
    document = json.loads(json.dumps(signature.bind(args, kwargs)))
    arrives = document
    if signature.whole is not None:
        arrives = {signature.whole: document}
    elif signature.params is not None:
        arrives = {each["name"]: each["default"] for each in signature.params if "default" in each} | (document or {})
    return document, signature.unpack(arrives)


def test_params_are_declared_with_types_and_defaults() -> None:
    assert TaskSignature(plain, "f").params == [
        {"name": "a", "type": "bigint"},
        {"name": "b", "type": "text", "default": "x"},
        {"name": "c", "type": "numeric", "default": "1.50"},
        {"name": "d", "type": "interval", "default": None},
    ]
    assert TaskSignature(nothing, "f").params == []
    assert TaskSignature(unannotated, "f").params == [
        {"name": "a", "type": "jsonb"},
        {"name": "b", "type": "jsonb", "default": 2},
    ]


def test_optional_without_a_default_has_null_where_nothing_behind_it_is_needed() -> None:
    assert [p.get("default", "none") for p in TaskSignature(optional, "f").params] == ["none", None, None]
    assert "default" not in TaskSignature(optional_first, "f").params[0]


def test_an_annotation_that_cannot_be_evaluated_says_nothing() -> None:
    signature = TaskSignature(later, "f")
    assert [p["type"] for p in signature.params] == ["jsonb", "jsonb"]
    assert signature.hints["line"] is Line


def test_arguments_of_any_kind_are_declared_as_any_document() -> None:
    assert TaskSignature(anything, "f").params is None
    assert TaskSignature(mixed, "f").params is None


def test_the_context_is_no_parameter() -> None:
    def with_context(ctx, a: int): ...

    assert TaskSignature(with_context, "f", takes_context=True).params == [{"name": "a", "type": "bigint"}]
    with pytest.raises(ArgumentsDoNotFit, match="no first parameter"):
        TaskSignature(nothing, "f", takes_context=True)


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "document", "called"),
    [
        (nothing, (), {}, None, ([], {})),
        (plain, (1,), {}, {"a": 1}, ([1, "x"], {"c": Decimal("1.50"), "d": None})),
        (
            plain,
            (1, "y"),
            {"d": timedelta(minutes=5)},
            {"a": 1, "b": "y", "d": "P0DT00H05M00S"},
            ([1, "y"], {"c": Decimal("1.50"), "d": timedelta(minutes=5)}),
        ),
        (positional_only, (1,), {}, {"a": 1}, ([1, 5], {})),
        (positional_only, (1,), {"b": 2}, {"a": 1, "b": 2}, ([1, 2], {})),
        (
            optional,
            (1, None),
            {"c": NOON},
            {"a": 1, "b": None, "c": "2030-01-01T12:00:00+00:00"},
            ([1, None, NOON], {}),
        ),
        (sentinel, (1,), {}, {"a": 1}, ([1, SENTINEL, None], {})),
        (sentinel, (1, 2), {"c": None}, {"a": 1, "b": 2, "c": None}, ([1, 2, None], {})),
        (anything, (), {}, None, ([], {})),
        (anything, (Decimal("1.0"),), {}, ["1.0"], ([Decimal("1.0")], {})),
        (anything, (), {"x": NOON}, {"x": "2030-01-01T12:00:00+00:00"}, ([], {"x": NOON})),
        (
            anything,
            (Decimal(1),),
            {"x": NOON},
            {"*": ["1"], "x": "2030-01-01T12:00:00+00:00"},
            ([Decimal(1)], {"x": NOON}),
        ),
        (mixed, (1,), {}, [1], ([1], {})),
        (mixed, (1, 2, Decimal(3)), {}, [1, 2, "3"], ([1, 2, Decimal(3)], {})),
        (
            mixed,
            (1, 2, Decimal(3)),
            {"flag": True, "z": [1]},
            {"a": 1, "b": 2, "*": ["3"], "flag": True, "z": [1]},
            ([1, 2, Decimal(3)], {"flag": True, "z": [1]}),
        ),
        (mixed, (), {"a": 1, "z": 2}, {"a": 1, "z": 2}, ([], {"a": 1, "z": 2})),
        (one, ({"a": 1},), {}, {"a": 1}, ([{"a": 1}], {})),
        (one, ([1, 2],), {}, [1, 2], ([[1, 2]], {})),
        (one, (None,), {}, None, ([None], {})),
        (one_with_default, (), {}, [], ([], {})),
        (one_with_default, (None,), {}, [None], ([None], {})),
        (
            later,
            (Line("a", Decimal(1)),),
            {},
            {"line": {"sku": "a", "amount": "1"}},
            ([Line("a", Decimal(1)), None], {}),
        ),
    ],
)
def test_binds_and_comes_back(function: Any, args: Any, kwargs: Any, document: Any, called: Any) -> None:
    assert calls_back(function, *args, **kwargs) == (document, called)


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "says"),
    [
        (plain, (), {}, "missing a required argument: 'a'"),
        (plain, (1, "x", 3), {}, "too many positional arguments"),
        (plain, (1,), {"z": 1}, "unexpected keyword argument 'z'"),
        (plain, (1,), {"a": 1}, "multiple values"),
        (positional_only, (), {"a": 1}, "'a'"),
        (nothing, (1,), {}, "too many"),
    ],
)
def test_what_does_not_bind_is_refused(function: Any, args: Any, kwargs: Any, says: str) -> None:
    with pytest.raises(ArgumentsDoNotFit, match=says) as caught:
        TaskSignature(function, "app.tasks.f").bind(args, kwargs)
    assert caught.value.message.startswith("app.tasks.f: ")
    assert "It takes (" in caught.value.detail


def test_part_of_the_arguments_binds_for_a_step_of_a_chain() -> None:
    assert TaskSignature(plain, "f").bind((), {"b": "y"}, partial=True) == {"b": "y"}
    assert TaskSignature(one, "f").bind((), {}, partial=True) is None


def test_none_in_place_of_a_default_that_cannot_be_declared_is_refused() -> None:
    with pytest.raises(CannotTravel, match="can't be told from its being left out"):
        TaskSignature(sentinel, "f").bind((1, None), {})


def test_a_name_of_its_own_does_not_collide_with_what_keywords_are_called() -> None:
    document, (args, kwargs) = calls_back(mixed, 1, 2, Decimal(3), self=1, name=2, args=[3])
    assert document == {"a": 1, "b": 2, "*": ["3"], "self": 1, "name": 2, "args": [3]}
    assert (args, kwargs) == ([1, 2, Decimal(3)], {"self": 1, "name": 2, "args": [3]})


@pytest.mark.parametrize(
    ("function", "document", "says"),
    [
        (plain, {"a": "x", "b": "y", "c": "1"}, "f: argument a is not int"),
        (plain, {"b": "y"}, "parameter a is missing"),
        (plain, {"a": 1, "gone": 2}, "no parameter gone"),
        (one_dict, {"document": None}, "f: argument document is not"),
        (one_dict, {"document": {"a": "x"}}, r"document\['a'\]"),
        (mixed, [], "missing"),
        (mixed, {"b": 1}, "missing"),
    ],
)
def test_what_does_not_fit_in_the_worker_is_an_error(function: Any, document: Any, says: str) -> None:
    with pytest.raises(ArgumentsDoNotFit, match=says):
        TaskSignature(function, "f").unpack(document)


@pytest.mark.parametrize(
    ("function", "document", "called"),
    [
        (
            plain,
            {"a": "12", "b": "x", "c": 1.5, "d": "5 minutes"},
            ([12, "x"], {"c": Decimal("1.5"), "d": timedelta(minutes=5)}),
        ),
        (mixed, 5, ([5], {})),
        (mixed, {"a": "1", "*": ["2"]}, ([1, 7, Decimal(2)], {})),
        (anything, None, ([], {})),
    ],
)
def test_what_sql_has_enqueued_is_taken_by_annotation(function: Any, document: Any, called: Any) -> None:
    assert TaskSignature(function, "f").unpack(document) == called


def test_results_go_by_the_return_annotation() -> None:
    def made() -> list[Line]: ...

    signature = TaskSignature(made, "f")
    text = signature.encode_result([Line("a", Decimal("1.0"))])
    assert text == '[{"sku":"a","amount":"1.0"}]'
    assert signature.decode_result(json.loads(text)) == [Line("a", Decimal("1.0"))]
    assert signature.decode_result({"of": "an older version"}) == {"of": "an older version"}
    assert signature.encode_result(None) is None
    with pytest.raises(CannotTravel, match=r"f: result\[0\]"):
        signature.encode_result([object()])
