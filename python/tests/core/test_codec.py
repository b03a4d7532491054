"""What travels, comes back as it was; what can't is refused where it is handed over."""

from __future__ import annotations

import enum
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple, NewType, NotRequired, Optional, TypedDict
from uuid import UUID

import pytest

from tenant_q import codec
from tenant_q.errors import ArgumentsDoNotFit, CannotTravel, ModelCannotTravel, NaiveDatetime

from . import named


class Color(enum.Enum):
    RED = "r"
    BLUE = "b"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Money(enum.Enum):
    ONE = Decimal("1.10")


@dataclass
class Line:
    sku: str
    amount: Decimal
    due: date | None = None


@dataclass(frozen=True)
class Order:
    id: UUID
    lines: list[Line] = field(default_factory=list)
    colors: dict[Color, int] = field(default_factory=dict)
    total: Decimal = field(init=False, default=Decimal(0))


class Point(NamedTuple):
    x: float
    when: datetime


class Options(TypedDict):
    since: date
    deep: NotRequired[bool]


Cents = NewType("Cents", int)
ID = UUID("0198c0de-0000-7000-8000-000000000001")
NOON = datetime(2030, 1, 2, 12, 0, 0, 123456, tzinfo=timezone(timedelta(hours=-3)))


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (1, int),
        (2**62, int),
        (2**80, int),
        (True, bool),
        (1.5, float),
        ("é\U0001f600\n\\u0000", str),
        ("", str),
        (None, Optional[int]),
        (None, int | None),
        (7, int | None),
        (Decimal("1.500"), Decimal),
        (Decimal("1e-30"), Decimal),
        (date(2024, 2, 29), date),
        (NOON, datetime),
        (NOON.astimezone(UTC), datetime),
        (time(23, 59, 59, 999999), time),
        (timedelta(days=3, hours=4, microseconds=7), timedelta),
        (timedelta(days=-3, seconds=1), timedelta),
        (timedelta(microseconds=-1), timedelta),
        (timedelta(0), timedelta),
        (ID, UUID),
        (b"\x00\xff", bytes),
        (Color.RED, Color),
        (Level.HIGH, Level),
        (Money.ONE, Money),
        (Line("a", Decimal("2.50"), date(2024, 1, 1)), Line),
        (Order(ID, [Line("a", Decimal(1))], {Color.BLUE: 2}), Order),
        (Point(1.0, NOON), Point),
        ({"since": date(2024, 1, 1)}, Options),
        ({"since": date(2024, 1, 1), "deep": True}, Options),
        ([1, 2], list[int]),
        ([NOON], list[datetime]),
        ((1, "a", ID), tuple[int, str, UUID]),
        ((ID, ID), tuple[UUID, ...]),
        ({ID}, set[UUID]),
        (frozenset({1}), frozenset[int]),
        ({"a": Decimal(1)}, dict[str, Decimal]),
        ({1: "a"}, dict[int, str]),
        ({ID: [date(2024, 1, 1)]}, dict[UUID, list[date]]),
        ({date(2024, 1, 1): 1}, Mapping[date, int]),
        ([1], Sequence[int]),
        ("a", Literal["a", "b"]),
        (2, Literal[1, 2]),
        (Cents(5), Cents),
        (5, Annotated[int, "cents"]),
        (5, Annotated[int, []]),
        (5, int | str),
        ("5", int | str),
        (ID, UUID | int),
        ({"a": [1, {"b": None}]}, Any),
        ({"a": 1}, dict),
        ([1, "a"], list),
        (b"a", bytes | None),
    ],
    ids=named,
)
def test_comes_back_as_it_was(value: Any, hint: Any) -> None:
    text = codec.dumps(value, hint)
    back = codec.decode(json.loads(text), hint)
    assert back == value
    assert type(back) is type(value)


def test_subclasses_of_plain_types_travel_as_what_they_are() -> None:
    class Safe(str):
        pass

    class Own(int):
        pass

    assert json.loads(codec.dumps([Safe("a"), Own(3), Level.LOW])) == ["a", 3, 1]


@pytest.mark.parametrize(
    ("value", "kind", "says"),
    [
        (datetime(2030, 1, 1), NaiveDatetime, "time zone"),
        ([datetime(2030, 1, 1)], NaiveDatetime, r"value\[0\]"),
        (math.nan, CannotTravel, "nan"),
        (math.inf, CannotTravel, "inf"),
        (Decimal("NaN"), CannotTravel, "NaN"),
        ("a\x00b", CannotTravel, "code zero"),
        ("\ud800", CannotTravel, "no valid text"),
        (b"a", CannotTravel, "Annotate"),
        ({1: 2}, CannotTravel, r"dict\[int"),
        ({"a": {None: 2}}, CannotTravel, "NoneType"),
        (object(), CannotTravel, "builtins.object"),
        ({"a": object()}, CannotTravel, r"value\['a'\]"),
        (len, CannotTravel, "code"),
        (lambda: 1, CannotTravel, "code"),
        (int, CannotTravel, "code"),
        (iter([1]), CannotTravel, "iterator"),
        (1j, CannotTravel, "complex"),
    ],
    ids=named,
)
def test_what_cannot_travel_is_refused(value: Any, kind: type[CannotTravel], says: str) -> None:
    with pytest.raises(kind, match=says) as caught:
        codec.dumps(value)
    assert caught.value.hint


def test_a_models_instance_is_refused_with_advice() -> None:
    class Invoice:
        _meta = object()
        pk = 7

    class QuerySet:
        model = Invoice
        query = object()

    with pytest.raises(ModelCannotTravel, match=r"(?s)Invoice.*invoice\.pk"):
        codec.encode(Invoice(), Any, "invoice")
    with pytest.raises(ModelCannotTravel, match="values_list"):
        codec.encode(QuerySet(), Any, "rows")
    with pytest.raises(ModelCannotTravel, match=r"a\[0\]"):
        codec.encode([Invoice()], Any, "a")


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ("x", int),
        (1.5, int),
        (True, int),
        (None, int),
        ("maybe", bool),
        ("2030-01-01T00:00", datetime),
        ("x", UUID),
        ("z", Color),
        ("c", Literal["a", "b"]),
        ([5], str),
        ({"sku": "a"}, Line),
        ({"sku": "a", "amount": 1, "other": 2}, Line),
        ([1], tuple[int, int]),
        ({}, list[int]),
        ([], dict[str, int]),
        ("1 month", timedelta),
        ("5 parsecs", timedelta),
        ("", timedelta),
        ("abc", bytes),
        ("x", int | UUID),
    ],
    ids=named,
)
def test_what_does_not_fit_its_annotation_is_refused(value: Any, hint: Any) -> None:
    with pytest.raises(ArgumentsDoNotFit, match="argument x is not"):
        codec.decode(value, hint, "argument x")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5 minutes", 300),
        ("1 hour 30 minutes", 5400),
        ("90", None),
        ("2 days 03:04:05.5", 2 * 86400 + 3 * 3600 + 4 * 60 + 5.5),
        ("-1 days +02:00:00", -86400 + 7200),
        ("-00:00:01", -1),
        ("1 week", 604800),
        ("1.5 hours", 5400),
        ("500 ms", 0.5),
        ("PT5M", 300),
        ("P1DT1H", 90000),
        ("-PT1.5S", -1.5),
        ("P-1DT-1H", -90000),
        ("P1W", 604800),
        ("00:10", 600),
        ("1 month", None),
        ("P1M", None),
        ("P", None),
    ],
)
def test_lengths_of_time_as_people_and_postgresql_write_them(text: str, seconds: float | None) -> None:
    if seconds is None:
        with pytest.raises(ValueError):
            codec.parse_duration(text)
    else:
        assert codec.parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("hint", "expected"),
    [
        (int, "bigint"),
        (str, "text"),
        (float, "double precision"),
        (bool, "boolean"),
        (Decimal, "numeric"),
        (date, "date"),
        (datetime, "timestamptz"),
        (time, "time"),
        (timedelta, "interval"),
        (UUID, "uuid"),
        (bytes, "bytea"),
        (int | None, "bigint"),
        (Optional[str], "text"),
        (Any, "jsonb"),
        (dict, "jsonb"),
        (list[int], "jsonb"),
        (Line, "jsonb"),
        (Color, "text"),
        (Level, "bigint"),
        (Money, "jsonb"),
        (int | str, "jsonb"),
        (Literal["a"], "text"),
        (Literal[1, 2], "bigint"),
        (Literal[1, "a"], "jsonb"),
        (Cents, "bigint"),
        (Annotated[UUID, 1], "uuid"),
        (Annotated[int, []], "bigint"),
    ],
)
def test_types_of_parameters(hint: Any, expected: str) -> None:
    assert codec.pg_type(hint) == expected
