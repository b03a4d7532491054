"""Python values as JSON, and back by annotation.

`encode` makes of a value what `json` can write, by the annotation it stands under: dates and times as ISO 8601,
decimals, UUIDs and intervals as text, enums by their value, dataclasses as objects. `decode` makes of a document what
the annotation says. What can't
come back as it was is refused where it is handed over: `CannotTravel`.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import json
import math
import re
import types
import typing
from datetime import date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, Union, get_args, get_origin
from uuid import UUID

from .errors import ArgumentsDoNotFit, CannotTravel, ModelCannotTravel, NaiveDatetime

__all__ = [
    "bare",
    "decode",
    "dumps",
    "encode",
    "interval_text",
    "is_optional",
    "iso_duration",
    "loads",
    "parse_duration",
    "pg_type",
]


def dumps(value: Any, hint: Any = Any, where: str = "value") -> str:
    """The JSON text of a value that stands under the annotation `hint`; `where` is what errors call it."""
    kind = type(value)
    if value is None:
        return "null"
    if kind is int:
        return str(value)
    return json.dumps(encode(value, hint, where), ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def loads(text: str | bytes | None) -> Any:
    """What a JSON text from the server says; None of SQL NULL."""
    return None if text is None else json.loads(text)


# Annotations.


@lru_cache(maxsize=4096)
def _bare(hint: Any) -> Any:
    while True:
        origin = get_origin(hint)
        if origin is typing.Annotated or origin in (typing.Required, typing.NotRequired, typing.Final, typing.ClassVar):
            hint = get_args(hint)[0]
        elif isinstance(hint, typing.NewType):
            hint = hint.__supertype__
        elif isinstance(hint, typing.TypeVar):
            hint = hint.__bound__ if hint.__bound__ is not None else Any
        elif type(hint).__name__ == "TypeAliasType" and hasattr(hint, "__value__"):
            hint = hint.__value__
        elif hint is None:
            return type(None)
        else:
            return hint


def bare(hint: Any) -> Any:
    """The annotation without what says nothing about values: Annotated, NewType, type aliases."""
    try:
        return _bare(hint)
    except TypeError:  # not hashable: Annotated[int, []]
        return get_args(hint)[0] if get_origin(hint) is typing.Annotated else Any


def _alternatives(hint: Any) -> tuple[Any, ...] | None:
    if get_origin(hint) in (Union, types.UnionType):
        return get_args(hint)
    return None


def is_optional(hint: Any) -> bool:
    """Whether None is among what the annotation allows."""
    hint = bare(hint)
    if hint is Any or hint is object or hint is type(None):
        return True
    return any(is_optional(each) for each in _alternatives(hint) or ())


def _without_none(hint: Any) -> Any:
    """Optional[T] → T; of other unions the annotation itself."""
    rest = [each for each in _alternatives(hint) or () if bare(each) is not type(None)]
    return bare(rest[0]) if len(rest) == 1 else hint


_PG_TYPES: dict[Any, str] = {
    bool: "boolean",
    int: "bigint",
    float: "double precision",
    str: "text",
    bytes: "bytea",
    Decimal: "numeric",
    date: "date",
    datetime: "timestamptz",
    time: "time",
    timedelta: "interval",
    UUID: "uuid",
}


def pg_type(hint: Any) -> str:
    """The type that a parameter of this annotation is declared as: PostgreSQL's own where there is one, else jsonb."""
    hint = _without_none(bare(hint))
    try:
        found = _PG_TYPES.get(hint)
    except TypeError:
        return "jsonb"
    if found:
        return found
    values: list[Any] = []
    if get_origin(hint) is typing.Literal:
        values = [value for value in get_args(hint) if value is not None]
    elif isinstance(hint, type) and issubclass(hint, enum.Enum):
        values = [member.value for member in hint]
    kinds = {type(value) for value in values}
    return {str: "text", int: "bigint"}.get(kinds.pop(), "jsonb") if len(kinds) == 1 else "jsonb"


# Out.


def encode(value: Any, hint: Any = Any, where: str = "value") -> Any:
    """A value as what `json` can write. Raises `CannotTravel` for what can't come back."""
    kind = type(value)
    if kind is str:
        return _text(value, where)
    if value is None or kind is bool or kind is int:
        return value
    if kind is float:
        if not math.isfinite(value):
            raise CannotTravel(f"{where} is {value}, which JSON doesn't have", hint="Pass None, or a number.")
        return value
    if isinstance(value, enum.Enum):
        return encode(value.value, Any, where)
    if isinstance(value, datetime):
        if value.utcoffset() is None:
            raise NaiveDatetime(
                f"{where} is a datetime without a time zone: {value.isoformat()}",
                hint="Pass one that is aware: datetime.now(timezone.utc), or django.utils.timezone.now().",
            )
        return value.isoformat()
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, timedelta):
        return iso_duration(value)
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise CannotTravel(f"{where} is {value}, which doesn't travel", hint="Pass None, or a number.")
        return str(value)
    if isinstance(value, UUID):
        return str(value)
    return _encode_other(value, bare(hint), where)


def _text(value: str, where: str) -> str:
    if "\x00" in value:
        raise CannotTravel(
            f"{where} has a character of code zero, which PostgreSQL can't keep", hint="Take it out, or pass bytes."
        )
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise CannotTravel(
                f"{where} is no valid text: {error}", hint="Decode it with errors='replace', or pass bytes."
            ) from None
    return str(value)


def _encode_other(value: Any, hint: Any, where: str) -> Any:
    hint = _without_none(hint)
    if isinstance(value, str):  # SafeString and its like
        return _text(str(value), where)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return encode(float(value), hint, where)
    if isinstance(value, dict):
        return _encode_dict(value, hint, where)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _encode_fields(value, [field.name for field in dataclasses.fields(value)], where)
    if isinstance(value, (list, tuple, set, frozenset)):
        return _encode_items(value, hint, where)
    if isinstance(value, (bytes, bytearray, memoryview)):
        if hint is not bytes:
            raise CannotTravel(
                f"{where} is bytes, and nothing says that it is to be bytes again",
                hint="Annotate the parameter with bytes; or keep large things in a table, and pass where they are.",
            )
        return "\\x" + bytes(value).hex()
    if hasattr(value, "model_dump") and hasattr(type(value), "model_validate"):
        return encode(value.model_dump(mode="json"), Any, where)
    if type(value).__module__ == "django.utils.functional" or hasattr(value, "_proxy____cast"):  # gettext_lazy
        return _text(str(value), where)
    raise _refused(value, where)


def _encode_dict(value: dict[Any, Any], hint: Any, where: str) -> dict[str, Any]:
    args = get_args(hint)
    keys, values = args if len(args) == 2 else (Any, Any)
    fields = _hints(hint) if isinstance(hint, type) and typing.is_typeddict(hint) else {}
    out = {}
    for key, each in value.items():
        if type(key) is str:
            name = _text(key, f"a key of {where}")
        elif bare(keys) in (Any, object, str) and not isinstance(key, str):
            raise CannotTravel(
                f"a key of {where} is {type(key).__name__} ({key!r}), and JSON has text alone there",
                hint=f"Annotate it as dict[{type(key).__name__}, …], or make it str({key!r}).",
            )
        else:
            text = encode(key, keys, f"a key of {where}")
            name = text if isinstance(text, str) else json.dumps(text)
        out[name] = encode(each, fields.get(name, values), f"{where}[{key!r}]")
    return out


def _encode_fields(value: Any, names: list[str], where: str) -> dict[str, Any]:
    kind: Any = type(value)
    hints = _hints(kind)
    return {name: encode(getattr(value, name), hints.get(name, Any), f"{where}.{name}") for name in names}


def _encode_items(value: Any, hint: Any, where: str) -> list[Any]:
    args = get_args(hint)
    origin = get_origin(hint)
    if origin is tuple and not (len(args) == 2 and args[1] is Ellipsis):
        each = list(args) + [Any] * len(value)
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        hints = _hints(type(value))
        each = [hints.get(name, Any) for name in value._fields]
    else:
        item = args[0] if args else Any
        return [encode(v, item, f"{where}[{n}]") for n, v in enumerate(value)]
    return [encode(v, h, f"{where}[{n}]") for n, (v, h) in enumerate(zip(value, each, strict=False))]


def _refused(value: Any, where: str) -> CannotTravel:
    kind = type(value)
    name = f"{kind.__module__}.{kind.__qualname__}"
    if hasattr(value, "_meta") and hasattr(value, "pk"):
        return ModelCannotTravel(
            f"{where} is an instance of the model {name}",
            detail="When the task runs its row may have changed, or be gone.",
            hint=f"Pass its key, {where.rsplit(' ', 1)[-1]}.pk, and get the row in the task.",
        )
    if hasattr(value, "model") and hasattr(value, "query"):
        return ModelCannotTravel(
            f"{where} is a query set of {getattr(value.model, '__name__', name)}",
            hint="Pass keys, list(….values_list('pk', flat=True)), or what it is filtered by, and query in the task.",
        )
    if isinstance(value, (type, types.FunctionType, types.MethodType, types.BuiltinFunctionType)):
        return CannotTravel(f"{where} is code: {value!r}", hint="Pass its name, and look it up in the task.")
    if isinstance(value, collections.abc.Iterator):
        return CannotTravel(f"{where} is an iterator ({name})", hint="Pass a list.")
    return CannotTravel(
        f"{where} is of the type {name}, which JSON doesn't have",
        hint="Pass text, numbers, booleans, None, dates and times, decimals, UUIDs, enums, dataclasses,"
        " and lists, tuples and dicts of these.",
    )


# In.


@lru_cache(maxsize=1024)
def _hints(kind: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(kind, include_extras=True)
    except (NameError, TypeError, AttributeError):
        return {}


def _misfit(value: Any, hint: Any, where: str, why: str | None = None) -> ArgumentsDoNotFit:
    shown = json.dumps(value, ensure_ascii=False, default=str)
    wanted = getattr(hint, "__name__", None) or str(hint)
    return ArgumentsDoNotFit(
        f"{where} is not {wanted}: {shown if len(shown) <= 200 else shown[:200] + '…'}", detail=why
    )


def decode(value: Any, hint: Any = Any, where: str = "value") -> Any:
    """What the annotation says of a value that came as JSON. Raises `ArgumentsDoNotFit`."""
    if hint is Any:
        return value
    kind = type(value)
    if kind is hint and kind in (str, int, bool, float):
        return value
    hint = bare(hint)
    if hint is Any or hint is object:
        return value
    options = _alternatives(hint)
    if options is not None:
        return _decode_union(value, options, hint, where)
    if value is None:
        if hint is type(None):
            return None
        raise _misfit(value, hint, where)
    simple = _SIMPLE.get(hint) if isinstance(hint, collections.abc.Hashable) else None
    if simple is not None:
        try:
            return simple(value)
        except (ValueError, TypeError, InvalidOperation, OverflowError) as error:
            raise _misfit(value, hint, where, str(error)) from None
    return _decode_other(value, hint, where)


def _decode_union(value: Any, options: tuple[Any, ...], hint: Any, where: str) -> Any:
    if value is None and any(bare(each) is type(None) for each in options):
        return None
    rest = [bare(each) for each in options if bare(each) is not type(None)]
    if len(rest) == 1:
        return decode(value, rest[0], where)
    # What is of one of the types as it stands is that. Text may stand for a date or a UUID, so it is text where it is
    # none of these.
    if type(value) is not str and any(type(value) is each for each in rest):
        return value
    rank: dict[Any, int] = {str: 1, int: 2, float: 2, bool: 2} if type(value) is str else {str: 1}
    for each in sorted(rest, key=lambda each: rank.get(each, 0) if isinstance(each, type) else 0):
        try:
            return decode(value, each, where)
        except ArgumentsDoNotFit:
            continue
    raise _misfit(value, hint, where)


def _to_bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        text = value.strip().lower()
        if text in ("t", "true", "y", "yes", "on", "1"):
            return True
        if text in ("f", "false", "n", "no", "off", "0"):
            return False
    raise ValueError("true or false is")


def _to_int(value: Any) -> int:
    if isinstance(value, bool):
        raise ValueError("it is a truth value")
    if isinstance(value, float) and not value.is_integer():
        raise ValueError("it has a fraction")
    return int(value)


def _to_float(value: Any) -> float:
    if isinstance(value, bool):
        raise ValueError("it is a truth value")
    return float(value)


def _to_str(value: Any) -> str:
    if not isinstance(value, str):
        if isinstance(value, (int, float)) and not isinstance(value, bool):  # as the server takes numbers for text
            return json.dumps(value)
        raise ValueError("it is no text")
    return value


def _to_decimal(value: Any) -> Decimal:
    if isinstance(value, bool):
        raise ValueError("it is a truth value")
    return Decimal(str(value))


def _to_date(value: Any) -> date:
    return date.fromisoformat(value) if len(value) <= 10 else datetime.fromisoformat(value).date()


def _to_datetime(value: Any) -> datetime:
    found = datetime.fromisoformat(value)
    if found.utcoffset() is None:
        raise ValueError("it has no time zone")
    return found


def _to_time(value: Any) -> time:
    return time.fromisoformat(value)


def _to_bytes(value: Any) -> bytes:
    if not value.startswith("\\x"):
        raise ValueError("bytes are written as \\x and hexadecimal digits")
    return bytes.fromhex(value[2:])


def _to_timedelta(value: Any) -> timedelta:
    return parse_duration(value) if isinstance(value, str) else timedelta(seconds=_to_float(value))


_SIMPLE: dict[Any, collections.abc.Callable[[Any], Any]] = {
    bool: _to_bool,
    int: _to_int,
    float: _to_float,
    str: _to_str,
    bytes: _to_bytes,
    Decimal: _to_decimal,
    date: _to_date,
    datetime: _to_datetime,
    time: _to_time,
    timedelta: _to_timedelta,
    UUID: UUID,
}


def _decode_other(value: Any, hint: Any, where: str) -> Any:
    origin, args = get_origin(hint) or hint, get_args(hint)
    if origin is typing.Literal:
        for each in args:
            if value == each and type(value) is type(each):
                return each
            if isinstance(each, enum.Enum) and value == each.value:
                return each
        raise _misfit(value, hint, where)
    if not isinstance(origin, type):
        return value
    if issubclass(origin, enum.Enum):
        return _decode_enum(value, origin, where)
    if typing.is_typeddict(origin) or dataclasses.is_dataclass(origin):
        if not isinstance(value, dict):
            raise _misfit(value, hint, where)
        return _decode_fields(value, origin, where)
    if hasattr(origin, "model_validate"):
        try:
            return origin.model_validate(value)
        except ValueError as error:
            raise _misfit(value, hint, where, str(error)) from None
    if issubclass(origin, collections.abc.Mapping):
        if not isinstance(value, dict):
            raise _misfit(value, hint, where)
        keys, values = args if len(args) == 2 else (Any, Any)
        return {_decode_key(k, keys, where): decode(v, values, f"{where}[{k!r}]") for k, v in value.items()}
    if issubclass(origin, collections.abc.Collection) and not issubclass(origin, (str, bytes)):
        return _decode_items(value, origin, args, hint, where)
    return value


def _decode_key(key: str, hint: Any, where: str) -> Any:
    return decode(key, hint, f"a key of {where}")


def _decode_enum(value: Any, kind: type[enum.Enum], where: str) -> enum.Enum:
    for member in kind:
        if member.value == value or (not isinstance(member.value, (str, int, bool)) and encode(member.value) == value):
            return member
    raise _misfit(value, kind, where, "its values are " + ", ".join(str(member.value) for member in kind))


def _decode_fields(value: dict[str, Any], kind: Any, where: str) -> Any:
    hints = _hints(kind)
    out = {name: decode(each, hints.get(name, Any), f"{where}.{name}") for name, each in value.items()}
    if typing.is_typeddict(kind):
        return out
    fields = {field.name: field for field in dataclasses.fields(kind)}
    unknown = [name for name in out if name not in fields]
    if unknown:
        raise _misfit(value, kind, where, f"it has no field {unknown[0]}")
    late = {name: out.pop(name) for name in list(out) if not fields[name].init}
    try:
        made = kind(**out)
    except TypeError as error:
        raise _misfit(value, kind, where, str(error)) from None
    for name, each in late.items():
        object.__setattr__(made, name, each)
    return made


def _decode_items(value: Any, origin: Any, args: tuple[Any, ...], hint: Any, where: str) -> Any:
    if not isinstance(value, list):
        raise _misfit(value, hint, where)
    if issubclass(origin, tuple):
        if hasattr(origin, "_fields"):
            hints = _hints(origin)
            names = origin._fields
            if len(names) != len(value):
                raise _misfit(value, hint, where, f"it takes {len(names)} values")
            return origin(*(decode(v, hints.get(n, Any), f"{where}.{n}") for n, v in zip(names, value, strict=True)))
        if args and not (len(args) == 2 and args[1] is Ellipsis):
            if len(args) != len(value):
                raise _misfit(value, hint, where, f"it takes {len(args)} values")
            return tuple(decode(v, h, f"{where}[{n}]") for n, (v, h) in enumerate(zip(value, args, strict=True)))
    item = args[0] if args else Any
    items = [decode(v, item, f"{where}[{n}]") for n, v in enumerate(value)]
    if origin is list or origin.__module__ == "collections.abc":
        return frozenset(items) if origin is collections.abc.Set else items
    return origin(items)


# Lengths of time.

_ISO = re.compile(
    r"^(?P<sign>-)?P(?:(?P<weeks>-?[\d.]+)W)?(?:(?P<days>-?[\d.]+)D)?"
    r"(?:T(?:(?P<hours>-?[\d.]+)H)?(?:(?P<minutes>-?[\d.]+)M)?(?:(?P<seconds>-?[\d.]+)S)?)?$"
)
_CLOCK = re.compile(r"(?P<sign>[-+])?(?P<hours>\d+):(?P<minutes>\d+)(?::(?P<seconds>\d+(?:\.\d+)?))?$")
_WORDS = re.compile(r"([-+]?\d+(?:\.\d+)?)\s*([a-z]+)\s*")
_UNITS: dict[str, timedelta] = {}
for _names, _length in (
    ("us microsecond microseconds", timedelta(microseconds=1)),
    ("ms millisecond milliseconds msec msecs", timedelta(milliseconds=1)),
    ("s sec secs second seconds", timedelta(seconds=1)),
    ("m min mins minute minutes", timedelta(minutes=1)),
    ("h hr hrs hour hours", timedelta(hours=1)),
    ("d day days", timedelta(days=1)),
    ("w week weeks", timedelta(weeks=1)),
):
    _UNITS.update(dict.fromkeys(_names.split(), _length))


def iso_duration(value: timedelta) -> str:
    """A length of time as ISO 8601 writes it, exact to the microsecond: -P1DT2H0M0.5S is written with one sign in front
    of all."""
    sign, value = ("-", -value) if value < timedelta(0) else ("", value)
    minutes, seconds = divmod(value.seconds, 60)
    hours, minutes = divmod(minutes, 60)
    fraction = f".{value.microseconds:06}" if value.microseconds else ""
    if not sign:
        return f"P{value.days}DT{hours:02}H{minutes:02}M{seconds:02}{fraction}S"
    # PostgreSQL knows no sign before P.
    return f"P-{value.days}DT-{hours}H-{minutes}M-{seconds}{fraction}S"


def parse_duration(text: str) -> timedelta:
    """A length of time as ISO 8601, PostgreSQL or people write it; what has months or years is no timedelta."""
    text = text.strip()
    found = _ISO.match(text)
    if found and len(text) > 1:
        parts = {name: float(value) for name, value in found.groupdict().items() if name != "sign" and value}
        total = _exact(parts)
        return -total if found["sign"] else total
    rest, total = text.lower(), timedelta(0)
    while rest:
        if word := _WORDS.match(rest):
            unit = _UNITS.get(word[2])
            if unit is None:
                raise ValueError(f"it is no length of time that is the same always: {text}")
            total += float(word[1]) * unit if "." in word[1] else int(word[1]) * unit
            rest = rest[word.end() :]
        elif clock := _CLOCK.match(rest):
            length = _exact({name: float(clock[name] or 0) for name in ("hours", "minutes", "seconds")})
            return total + (-length if clock["sign"] == "-" else length)
        else:
            raise ValueError(f"it is no length of time: {text}")
    if not text:
        raise ValueError("it is empty")
    return total


def _exact(parts: dict[str, float]) -> timedelta:
    # Seconds apart: a day's worth of them as one float would lose microseconds.
    seconds = parts.pop("seconds", 0.0)
    return timedelta(**parts) + timedelta(microseconds=round(seconds * 1_000_000))


def interval_text(value: timedelta | float | str) -> str:
    """A length of time as PostgreSQL takes it: seconds, a timedelta, or its own words ('1 month', '5 minutes')."""
    if isinstance(value, str):
        return value
    if isinstance(value, timedelta):
        return iso_duration(value)
    return f"{value:.6f} seconds" if isinstance(value, float) else f"{value} seconds"
