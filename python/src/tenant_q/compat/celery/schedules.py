"""Celery's schedules as rules: crontab, schedule, solar."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from ...errors import DoesNotFit
from .._unsupported import refuse

__all__ = ["crontab", "rule_of", "schedule", "solar"]


def _field(given: Any) -> str:
    if isinstance(given, (int, str)):
        return str(given).replace(" ", "")
    if isinstance(given, Iterable):
        return ",".join(str(each) for each in given)
    raise DoesNotFit(
        f"{given!r} is no part of a crontab", hint="Pass a number, a text such as '*/15', or several numbers."
    )


class crontab:
    """At these minutes, hours, days: both day_of_month and day_of_week must fit, as in Celery."""

    def __init__(
        self,
        minute: Any = "*",
        hour: Any = "*",
        day_of_week: Any = "*",
        day_of_month: Any = "*",
        month_of_year: Any = "*",
        **words: Any,
    ) -> None:
        refuse(
            words,
            {
                "nowfun": "The server's clock is asked; tests move time with tenant_q.testing.drain(as_of=…).",
                "app": "A schedule belongs to the tenant that it is declared in.",
            },
            "crontab",
        )
        self.fields = [_field(each) for each in (minute, hour, day_of_month, month_of_year, day_of_week)]

    @classmethod
    def from_string(cls, text: str) -> crontab:
        """Of the usual five fields."""
        parts = text.split()
        if len(parts) != 5:
            raise DoesNotFit(f"{text!r} is no crontab of five fields")
        return cls(parts[0], parts[1], parts[4], parts[2], parts[3])

    @property
    def rule(self) -> str:
        """As tq_schedule has it."""
        return " ".join(self.fields)

    words: dict[str, Any] = {"day_and": True}

    def __repr__(self) -> str:
        return f"<crontab: {self.rule}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, crontab) and other.fields == self.fields

    __hash__ = None  # type: ignore[assignment]


class schedule:
    """Every so many seconds. relative: counted from the clock's round times."""

    def __init__(self, run_every: float | timedelta | None = None, relative: bool = False, **words: Any) -> None:
        refuse(
            words, {"nowfun": "The server's clock is asked.", "app": "A schedule belongs to its tenant."}, "schedule"
        )
        refuse(
            {"relative": relative},
            {"relative": "A crontab fires at round times: crontab(minute='*/15'); or start_at of a tenant_q.Schedule."},
            "schedule",
        )
        self.run_every = run_every if isinstance(run_every, timedelta) else timedelta(seconds=run_every or 0)
        if self.run_every <= timedelta(0):
            raise DoesNotFit(f"a schedule every {run_every!r}")

    @property
    def rule(self) -> str:
        """As tq_schedule has it."""
        seconds = self.run_every.total_seconds()
        if seconds != int(seconds):
            raise DoesNotFit(f"a schedule every {seconds} seconds", hint="Schedules fire at whole seconds.")
        return f"{int(seconds)} second" + ("s" if seconds != 1 else "")

    words: dict[str, Any] = {}


class solar:
    """At sunrise, sunset and their kin, at a latitude and longitude."""

    def __init__(self, event: str, lat: float, lon: float, **words: Any) -> None:
        refuse(words, {"nowfun": "The server's clock is asked.", "app": "A schedule belongs to its tenant."}, "solar")
        self.event, self.lat, self.lon = event, lat, lon

    @property
    def rule(self) -> str:
        """As tq_schedule has it."""
        return f"{self.event.replace('_', ' ')} at {self.lat},{self.lon}"

    words: dict[str, Any] = {}


def rule_of(given: Any) -> tuple[str, dict[str, Any]]:
    """The rule and the other words of tq_schedule that a schedule stands for: one of the above, seconds, a timedelta,
    or a rule of tenant_q."""
    if isinstance(given, str):
        return given, {}
    if isinstance(given, (int, float, timedelta)):
        given = schedule(given)
    if not hasattr(given, "rule"):
        raise DoesNotFit(
            f"{given!r} is no schedule",
            hint="Pass crontab(…), seconds, a timedelta, or a rule of tenant_q: 'monday at 10:30'.",
        )
    return given.rule, dict(given.words)
