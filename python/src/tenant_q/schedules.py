"""Schedules that are declared in code, and reach the server with `sync`.

@schedule("0 7 * * *", tz="Europe/Berlin")
@task
def digest() -> None: ...

Schedule("close", close_day, "0 2 * * *", time_arg="day", everywhere=True)
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from . import options as words_of
from .errors import DuplicateTask, InvalidOption
from .options import CallOptions
from .task import Task, registry

if TYPE_CHECKING:
    from .app import App

__all__ = ["Schedule", "before_declaring", "declared", "prepare", "schedule"]

F = TypeVar("F", bound=Task[..., Any])

_LENGTHS = ("deadline", "jitter", "stagger")
_MOMENTS = ("start_at", "until")
_WORDS = (
    "tz", "start_at", "until", "repeats", "catch_up", "catch_up_limit", "deadline", "overlap", "jitter", "month_end",
    "day_and", "time_arg", "only_if", "active_hours", "after", "after_outcome", "enabled", "tags", "description",
    "tenants", "stagger",
)  # fmt: skip

_declared: dict[str, Schedule] = {}

#: what is still to be done before tasks and schedules are all there: called once each, when a worker loads tasks or
#: `sync` declares
before_declaring: list[Callable[[], None]] = []


def prepare() -> None:
    """Calls what is in `before_declaring`, once each, those included that they add."""
    while before_declaring:
        before_declaring.pop(0)()


class Schedule:
    """A schedule: at each fire time of `rule` a call of the task.

    name: one schedule of it a tenant
    of: the task, or a handler's name
    rule: as tq_schedule has them: '*/5 * * * *', '10 seconds', 'monday at 10:30', …
    args: what it is called with: a tuple, a dict, or the single argument
    task: what is said of each of its tasks, words of tq_async
    everywhere: one for all tenants (tq_schedule_all), which `tenants` and `stagger` go with
    words: tz, start_at, until, repeats, catch_up, catch_up_limit, deadline, overlap, jitter, month_end, day_and,
    time_arg, only_if, active_hours, after, after_outcome, enabled, tags, description: as tq_schedule has them
    """

    def __init__(
        self,
        name: str,
        of: Task[..., Any] | str,
        rule: str,
        args: Any = None,
        *,
        task: Mapping[str, Any] | None = None,
        everywhere: bool = False,
        app: App | None = None,
        declare: bool = True,
        **words: Any,
    ) -> None:
        self.name = name
        self.of = of
        self.rule = rule
        self.everywhere = everywhere
        self.words: dict[str, Any] = {
            word: self._value(word, value) for word, value in words.items() if value is not None
        }
        if not everywhere and (extra := [word for word in ("tenants", "stagger") if word in self.words]):
            raise InvalidOption(f"{extra[0]} goes with everywhere=True")
        time_arg = self.words.get("time_arg")
        self.args, self.task = self._bind(args, task, time_arg)
        if declare:
            known = app.schedules if app is not None else _declared
            other = known.get(name)
            if other is not None and (other.document() != self.document()):
                raise DuplicateTask(
                    f"there are two schedules of the name {name}", hint="Give one of them another name."
                )
            known[name] = self

    def _value(self, word: str, value: Any) -> Any:
        if word not in _WORDS:
            near = difflib.get_close_matches(word, _WORDS, n=1)
            hint = f"Did you mean {near[0]}?" if near else "There are: " + ", ".join(_WORDS) + "."
            raise InvalidOption(f"a schedule has no {word}", hint=hint)
        if word in _LENGTHS:
            return words_of._length(word, value)
        if word in _MOMENTS:
            return words_of._moment(word, value)
        if word in ("after", "tags", "tenants"):
            return [value] if isinstance(value, str) else [getattr(each, "name", each) for each in value]
        return value

    def _bind(self, args: Any, task: Mapping[str, Any] | None, time_arg: str | None) -> tuple[Any, dict[str, Any]]:
        said = CallOptions.of(**(task or {}))
        if isinstance(self.of, str):
            return args, said.document()
        from .task import _call_of

        positional, named = _call_of(args) if args is not None else ((), {})
        document = self.of.signature.bind(positional, named, partial=time_arg is not None)
        always = self.of.call_options(positional, named, partial=time_arg is not None)
        return document, said.over(always).document()

    @property
    def handler(self) -> str:
        """What it calls."""
        return self.of if isinstance(self.of, str) else self.of.name

    def document(self) -> dict[str, Any]:
        """As a schedule of tq_register_many."""
        found: dict[str, Any] = {"name": self.name, "handler": self.handler, "rule": self.rule, **self.words}
        if self.args is not None:
            found["args"] = self.args
        if self.task:
            found["task"] = self.task
        return found

    def __repr__(self) -> str:
        return f"<Schedule {self.name}: {self.handler} {self.rule!r}>"


def schedule(
    rule: str, *args: Any, name: str | None = None, everywhere: bool = False, **words: Any
) -> Callable[[F], F]:
    """Above `@task`: the task is called at each fire time of the rule, with these arguments. name: None = the task's.
    words: as of `Schedule`."""

    def put(of: F) -> F:
        if not isinstance(of, Task):
            raise InvalidOption(f"{of!r} is no task", hint="Write @schedule(…) above @task.")
        Schedule(name or of.name, of, rule, args or None, everywhere=everywhere, app=of._app, **words)
        return of

    return put


def declared(app: App | None = None) -> Iterable[Schedule]:
    """Schedules of this process: all that were declared, and the App's own."""
    own = {} if app is None or app.registry is not registry else _declared
    return list({**own, **(app.schedules if app is not None else {})}.values())
