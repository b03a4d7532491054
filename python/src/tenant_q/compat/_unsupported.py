"""What a shim has no counterpart for, or another one than the keyword that was passed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import TenantQError

__all__ = ["Unsupported", "refuse", "refuse_unknown"]


class Unsupported(TenantQError, TypeError):
    """A keyword or a call of the other system that means nothing here. Its hint says what does the same; nothing was
    enqueued."""


def refuse(words: Mapping[str, Any], counterparts: Mapping[str, str], where: str) -> None:
    """Raises `Unsupported` for the first of these words that has no effect here; None and False say nothing."""
    for word, counterpart in counterparts.items():
        if words.get(word) not in (None, False):
            raise Unsupported(f"{where} takes no {word} here", hint=counterpart)


def refuse_unknown(words: Iterable[str], known: Iterable[str], where: str) -> None:
    """Raises `Unsupported` for words that neither of the two systems has."""
    for word in words:
        raise Unsupported(f"{where} has no {word}", hint="There are: " + ", ".join(sorted(known)) + ".")
