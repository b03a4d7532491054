"""Django-Q's schedules: `schedule()`, and `Schedule` with its types and `objects`."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from ...app import App
from ...errors import DoesNotFit, NameTaken, UnknownTask
from .._call import CALL, Call, name_of
from .._common import aware, documents, fresh_id, look, set_next_run
from .._unsupported import Unsupported
from .conf import Conf
from .functions import split, words_of

__all__ = ["Schedule", "ScheduleExists", "schedule"]

try:
    from django.db import IntegrityError as _IntegrityError
except ImportError:

    class _IntegrityError(Exception):  # type: ignore[no-redef]
        """What Django would raise."""


class ScheduleExists(NameTaken, _IntegrityError):  # type: ignore[misc]
    """There is a schedule of this name already."""


class Schedule:
    """A schedule. Its attributes are the original's: name, func, hook, args, kwargs, schedule_type, minutes, repeats,
    next_run, cron,
    cluster, intended_date_kwarg, task."""

    ONCE = "O"
    MINUTES = "I"
    HOURLY = "H"
    DAILY = "D"
    WEEKLY = "W"
    BIWEEKLY = "BW"
    MONTHLY = "M"
    BIMONTHLY = "BM"
    QUARTERLY = "Q"
    YEARLY = "Y"
    CRON = "C"
    TYPE = (
        (ONCE, "Once"),
        (MINUTES, "Minutes"),
        (HOURLY, "Hourly"),
        (DAILY, "Daily"),
        (WEEKLY, "Weekly"),
        (BIWEEKLY, "Biweekly"),
        (MONTHLY, "Monthly"),
        (BIMONTHLY, "Bimonthly"),
        (QUARTERLY, "Quarterly"),
        (YEARLY, "Yearly"),
        (CRON, "Cron"),
    )

    objects: ClassVar[Schedules]

    def __init__(
        self,
        *,
        func: Any = "",
        name: str | None = None,
        hook: Any = None,
        args: Any = None,
        kwargs: Any = None,
        schedule_type: str = ONCE,
        minutes: int | None = None,
        repeats: int = -1,
        next_run: datetime | None = None,
        cron: str | None = None,
        cluster: str | None = None,
        intended_date_kwarg: str | None = None,
        task: str | None = None,
    ) -> None:
        self.func = name_of(func)
        self.name = name
        self.hook = name_of(hook) if hook else None
        self.args = _args(args)
        self.kwargs = _kwargs(kwargs)
        self.schedule_type = schedule_type
        self.minutes = minutes
        self.repeats = repeats
        self.next_run = next_run
        self.cron = cron
        self.cluster = cluster
        self.intended_date_kwarg = intended_date_kwarg
        #: the id of the last task that it has made
        self.task = task
        #: as tq_schedules has it; None = it isn't saved
        self.id: str | None = None
        self._saved: dict[str, Any] = {}

    @property
    def pk(self) -> str | None:
        """What it is found by: its name in tq_schedules."""
        return self.id

    def rule(self) -> str:
        """The rule as tq_schedule has it."""
        if self.schedule_type == self.CRON:
            if not self.cron:
                raise DoesNotFit("schedule_type 'C' without cron", hint="Pass cron='0 22 * * 1-5'.")
            fields = self.cron.split()
            # croniter has seconds last, and tenant_q first.
            return " ".join([fields[5], *fields[:5]] if len(fields) == 6 else fields)
        if self.schedule_type == self.MINUTES:
            return f"{self.minutes or 1} minute" + ("s" if (self.minutes or 1) != 1 else "")
        if self.schedule_type not in dict(self.TYPE):
            raise DoesNotFit(
                f"there is no schedule_type {self.schedule_type!r}",
                hint="There are: " + ", ".join(dict(self.TYPE)) + ".",
            )
        return self.schedule_type

    def _words(self) -> dict[str, Any]:
        options, own = split(self.kwargs)
        if self.hook:
            options["hook"] = self.hook
        if self.cluster:
            options["cluster"] = self.cluster
        options.setdefault("group", self.name)
        time_arg = self.intended_date_kwarg
        if time_arg is not None and not time_arg.isidentifier():
            raise DoesNotFit(f"intended_date_kwarg is {time_arg!r}, and no keyword")
        call = Call(self.func, self.args, own, time_arg=time_arg)
        task = call.member(**words_of(options))
        tenant = App.current().current_tenant()
        cron = self.schedule_type == self.CRON
        words: dict[str, Any] = {
            "name": self.id,
            "handler": task.pop("handler"),
            "rule": self.rule(),
            "args": task.pop("args", None),
            "tz": Conf.TIME_ZONE,
            "repeats": self.repeats,
            "catch_up": "all" if Conf.CATCH_UP and not cron else "once",
            "tenant": tenant,
        }
        if time_arg is not None and not call.is_call:
            words["time_arg"] = time_arg
        task.pop("name", None)  # the schedule's
        if task:
            words["task"] = task
        if not cron and self.next_run is not None:
            words["start_at"] = aware(self.next_run, None).isoformat()
        return words

    def full_clean(self) -> None:
        """Raises what saving it would."""
        self.rule()

    def save(self) -> None:
        """Writes it: a new one, or what was changed."""
        app = App.current()
        if self.id is not None:
            words = {**self._words(), "on_conflict": "replace"}
            if self.next_run == self._saved.get("next_run"):
                words.pop("start_at", None) if self._saved.get("start_at") is None else words.update(
                    start_at=self._saved["start_at"]
                )
            app.run(app.calls.schedule(words))
            self._noted(words)
            return
        if self.next_run is None and self.schedule_type != self.CRON:
            self.next_run = datetime.now(UTC)
        self.id = self.name or f"{self.func} {fresh_id().hex}"
        words = self._words()
        try:
            app.run(app.calls.schedule(words))
        except NameTaken as error:
            self.id = None
            raise ScheduleExists(
                "a schedule with the same name already exists",
                sqlstate=error.sqlstate,
                detail=error.detail,
                hint="Schedule.objects.update_or_create(name=…, defaults={…}) is for a deploy that declares it again.",
            ) from None
        except Exception:
            self.id = None
            raise
        self._noted(words)

    def _noted(self, words: dict[str, Any]) -> None:
        start = words.get("start_at")
        late = self.next_run is not None and aware(self.next_run, None) < datetime.now(UTC) - timedelta(seconds=1)
        if late and start is not None and start != self._saved.get("start_at") and self.repeats != 0:
            # What is past is served at once, for that time.
            set_next_run(App.current(), str(self.id), start, words.get("tenant"))
        self._saved = {"next_run": self.next_run, "start_at": start}

    def delete(self) -> bool:
        """Deletes it; whether it was there."""
        app = App.current()
        return self.id is not None and bool(app.value(app.calls.unschedule(self.id, app.current_tenant())))

    def success(self) -> bool | None:
        """Whether the last task that it has made ended well; None = it is not kept, or hasn't ended."""
        self.refresh_from_db()
        row = look_of(self.task)
        return None if row is None or not row.finished else row.state == "done"

    def refresh_from_db(self) -> None:
        """Reads next_run, repeats and task anew."""
        found = Schedule.objects.filter(id=self.id).first() if self.id is not None else None
        if found is None:
            raise UnknownTask(f"there is no schedule {self.id}")
        self.next_run, self.repeats, self.task = found.next_run, found.repeats, found.task
        self._saved["next_run"] = self.next_run

    def __str__(self) -> str:
        return self.func

    def __repr__(self) -> str:
        return f"<Schedule: {self.name or self.id or self.func}>"

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Schedule:
        """Of a row of tq_schedules."""
        args = row["args"]
        kwargs: dict[str, Any] = {}
        func, time_arg = row["handler"], None
        if func == CALL and isinstance(args, dict):
            func, time_arg, args = args.get("function", func), args.get("time_arg"), args.get("args")
        if isinstance(args, dict):
            kwargs, args = dict(args), ()
        found = cls(
            func=func, args=tuple(args or ()), kwargs=kwargs, repeats=row["repeats"], intended_date_kwarg=time_arg
        )
        rule = row["rule"]
        if rule in dict(cls.TYPE):
            found.schedule_type = rule
        elif row["kind"] == "cron":
            found.schedule_type, found.cron = cls.CRON, rule
        elif rule.split()[-1].startswith("minute"):
            found.schedule_type, found.minutes = cls.MINUTES, int(rule.split()[0])
        found.id = row["name"]
        found.name = None if found.id.startswith(f"{func} ") else found.id
        found.next_run = datetime.fromisoformat(row["next_run"]) if row["next_run"] else None
        found.task = row["last_task"].replace("-", "") if row["last_task"] else None
        found._saved = {"next_run": found.next_run, "start_at": None}
        return found


def look_of(id: str | None) -> Any:
    """The row of a task, if it is kept."""
    from uuid import UUID

    return look(UUID(id)) if id else None


def _args(given: Any) -> tuple[Any, ...]:
    """As a tuple; the original's text of literals is read as it does."""
    if isinstance(given, str):
        found = ast.literal_eval(given) if given.strip() else ()
        return found if isinstance(found, tuple) else (found,)
    return tuple(given or ())


def _kwargs(given: Any) -> dict[str, Any]:
    if not isinstance(given, str):
        return dict(given or {})
    text = given.strip()
    if not text:
        return {}
    if text.startswith("{"):
        return dict(ast.literal_eval(text))
    call = ast.parse(f"f({text})", mode="eval").body
    assert isinstance(call, ast.Call)
    return {each.arg: ast.literal_eval(each.value) for each in call.keywords if each.arg}


class Schedules:
    """The tenant's schedules: all(), filter(name=…, id=…, func=…), get(), create(), get_or_create(),
    update_or_create(), exists(),
    count(), first(), update(), delete()."""

    DoesNotExist = LookupError

    def __init__(self, lookups: Mapping[str, Any] | None = None) -> None:
        self._lookups = dict(lookups or {})

    def all(self) -> Schedules:
        """All of them."""
        return self

    def filter(self, **lookups: Any) -> Schedules:
        """Those of which this is so."""
        for word in lookups:
            if word not in ("name", "id", "pk", "func", "schedule_type"):
                raise Unsupported(
                    f"schedules can't be filtered by {word}",
                    hint="There are: name, id, func, schedule_type. The rest is SQL over tq_schedules.",
                )
        return Schedules({**self._lookups, **lookups})

    def __iter__(self) -> Iterator[Schedule]:
        app = App.current()
        wanted = {("id" if key == "pk" else key): value for key, value in self._lookups.items()}
        where: str = ""
        params: list[Any] = []
        name = wanted.get("id", wanted.get("name"))
        if name is not None:
            where, params = "WHERE x.name = %s", [name]
        sql = f"SELECT pg_catalog.to_jsonb(x) FROM {app.calls.at}tq_schedules AS x {where} ORDER BY x.next_run, x.name"
        for row in documents(app, sql, params):
            found = Schedule.of(row)
            if all(
                getattr(found, key) == (name_of(value) if key == "func" else value) for key, value in wanted.items()
            ):
                yield found

    def __len__(self) -> int:
        return self.count()

    def count(self) -> int:
        """How many there are."""
        return sum(1 for _ in self)

    def exists(self) -> bool:
        """Whether there is one."""
        return self.first() is not None

    def first(self) -> Schedule | None:
        """The one that fires next."""
        return next(iter(self), None)

    def get(self, **lookups: Any) -> Schedule:
        """The only one; raises LookupError (`DoesNotExist`) where there is none."""
        found = self.filter(**lookups).first()
        if found is None:
            raise LookupError(f"there is no schedule with {lookups}")
        return found

    def create(self, **values: Any) -> Schedule:
        """Makes one."""
        made = Schedule(**values)
        made.save()
        return made

    def get_or_create(self, defaults: Mapping[str, Any] | None = None, **lookups: Any) -> tuple[Schedule, bool]:
        """The one that there is, or a new one; whether it is new."""
        found = self.filter(**lookups).first()
        return (found, False) if found is not None else (self.create(**{**lookups, **(defaults or {})}), True)

    def update_or_create(self, defaults: Mapping[str, Any] | None = None, **lookups: Any) -> tuple[Schedule, bool]:
        """The one that there is, as the defaults have it, or a new one; whether it is new."""
        found = self.filter(**lookups).first()
        if found is None:
            return self.create(**{**lookups, **(defaults or {})}), True
        _change(found, defaults or {})
        return found, False

    def update(self, **values: Any) -> int:
        """Changes them; how many."""
        found = list(self)
        for each in found:
            _change(each, values)
        return len(found)

    def delete(self) -> int:
        """Deletes them; how many."""
        return sum(each.delete() for each in list(self))


def _change(of: Schedule, values: Mapping[str, Any]) -> None:
    changed = Schedule(**values)
    for name in values:
        setattr(of, name, getattr(changed, name))
    of.save()


Schedule.objects = Schedules()


def schedule(func: Any, *args: Any, **kwargs: Any) -> Schedule:
    """Makes a schedule that calls the function.

    name, hook, schedule_type (Schedule.ONCE …), minutes, repeats (-1 = for ever, 0 = none), next_run (now, where
    nothing is said), cron,
    cluster, intended_date_kwarg, q_options: as in Django-Q. All other keywords are the function's. Raises
    `ScheduleExists`.
    """
    names = (
        "name",
        "hook",
        "schedule_type",
        "minutes",
        "repeats",
        "next_run",
        "cron",
        "cluster",
        "intended_date_kwarg",
    )
    own = {key: value for key, value in kwargs.items() if key not in names}
    given = {key: kwargs[key] for key in names if key in kwargs}
    made = Schedule(func=func, args=args, kwargs=own, **given)
    made.full_clean()
    made.save()
    return made
