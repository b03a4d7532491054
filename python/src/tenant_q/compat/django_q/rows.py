"""Finished tasks as Django-Q's models show them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from ...app import App
from ...result import TaskRow
from .._call import arguments_of_row, return_value
from .._common import as_uuid, documents, find, look, trace_of, wait_for
from .._unsupported import Unsupported

__all__ = ["Failure", "Local", "Success", "Task", "error_text"]


def error_text(row: TaskRow) -> str:
    """What Django-Q has as the result of a task that failed: the message and the traceback."""
    error = row.error or {}
    message = error.get("message") or row.reason or row.state
    trace = trace_of(error)
    return f"{message} : {trace}" if trace else str(message)


class Task:
    """A finished task: id, name, func, hook, args, kwargs, result, group, cluster, started, stopped, success,
    attempt_count."""

    objects: ClassVar[Tasks]

    def __init__(self, **values: Any) -> None:
        self.id: str = values.get("id", "")
        self.name: str | None = values.get("name")
        self.func: str = values.get("func", "")
        self.hook: str | None = values.get("hook")
        self.args: tuple[Any, ...] = values.get("args", ())
        self.kwargs: dict[str, Any] = values.get("kwargs", {})
        self.result: Any = values.get("result")
        self.group: str | None = values.get("group")
        self.cluster: str | None = values.get("cluster")
        self.started: datetime | None = values.get("started")
        self.stopped: datetime | None = values.get("stopped")
        self.success: bool = values.get("success", True)
        self.attempt_count: int = values.get("attempt_count", 0)

    @classmethod
    def of(cls, row: TaskRow) -> Task:
        """Of a task's row."""
        func, args, kwargs = arguments_of_row(row)
        done = row.state == "done"
        meta = row.meta if isinstance(row.meta, dict) else {}
        return Task(
            id=row.id.hex,
            name=row.name,
            func=func,
            hook=meta.get("hook"),
            args=tuple(args),
            kwargs=kwargs,
            result=return_value(row) if done else error_text(row),
            group=row.group_id,
            cluster=None if row.queue == "default" else row.queue,
            started=row.started_at or row.created_at,
            stopped=row.finished_at,
            success=done,
            attempt_count=row.attempt,
        )

    @property
    def pk(self) -> str:
        """The id."""
        return self.id

    def time_taken(self) -> float:
        """Seconds from its start to its end."""
        if self.started is None or self.stopped is None:
            return 0.0
        return (self.stopped - self.started).total_seconds()

    def group_result(self, failures: bool = False) -> Any:
        """Results of its group."""
        from .functions import result_group

        return result_group(self.group, failures) if self.group else None

    def group_count(self, failures: bool = False) -> int | None:
        """How many of its group have ended."""
        from .functions import count_group

        return count_group(self.group, failures) if self.group else None

    def group_delete(self, tasks: bool = False) -> int | None:
        """Takes the group's label off its tasks, or deletes them."""
        from .functions import delete_group

        return delete_group(self.group, tasks) if self.group else None

    def delete(self) -> bool:
        """Deletes it with its result."""
        if Local.delete(self.id):
            return True
        app = App.current()
        return bool(app.value(app.calls.delete(UUID(self.id), app.current_tenant())))

    def __str__(self) -> str:
        return str(self.name or self.id)

    def __repr__(self) -> str:
        return f"<Task: {self}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Task) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)


class Local:
    """What was run where it was enqueued (sync=True): kept in this process, the newest thousand."""

    _limit = 1000
    _lock = threading.Lock()
    _tasks: ClassVar[OrderedDict[tuple[str | None, str], Task]] = OrderedDict()

    @classmethod
    def _here(cls) -> list[Task]:
        tenant = App.current().current_tenant()
        return [task for (of, _), task in list(cls._tasks.items()) if of == tenant]

    @classmethod
    def keep(cls, task: Task) -> None:
        """Keeps a task that has ended."""
        with cls._lock:
            cls._tasks[App.current().current_tenant(), task.id] = task
            while len(cls._tasks) > cls._limit:
                cls._tasks.popitem(last=False)

    @classmethod
    def get(cls, id_or_name: str) -> Task | None:
        """By its id or its name."""
        if not cls._tasks:
            return None
        id = as_uuid(id_or_name)
        text = id.hex if id is not None else id_or_name
        return next((task for task in reversed(cls._here()) if text in (task.id, task.name)), None)

    @classmethod
    def group(cls, group: str) -> list[Task]:
        """Of a group, in the order in which they ran."""
        return [task for task in cls._here() if task.group == group] if cls._tasks else []

    @classmethod
    def delete(cls, id: str) -> bool:
        """Whether it was there."""
        with cls._lock:
            return cls._tasks.pop((App.current().current_tenant(), id), None) is not None


#: lookups → columns of tq_results
_LOOKUPS = {
    "name": "x.name = %s",
    "group": "x.group_id = %s",
    "cluster": "x.queue = %s",
    "started__gt": "x.started_at > %s",
    "started__gte": "x.started_at >= %s",
    "started__lt": "x.started_at < %s",
    "started__lte": "x.started_at <= %s",
    "stopped__gt": "x.finished_at > %s",
    "stopped__gte": "x.finished_at >= %s",
    "stopped__lt": "x.finished_at < %s",
    "stopped__lte": "x.finished_at <= %s",
    "group__isnull": "(x.group_id IS NULL) = %s",
    "func": "CASE x.handler WHEN 'tenant_q.call' THEN x.args ->> 'function' ELSE x.handler END = %s",
}


class Tasks:
    """Finished tasks that are kept: all(), filter(), exclude(success=…), get(), count(), exists(), first(), last(),
    delete(), and iteration,
    the last ended first. What runs where it is enqueued is not among them."""

    DoesNotExist = LookupError

    def __init__(self, where: tuple[str, ...] = (), params: tuple[Any, ...] = (), backwards: bool = False) -> None:
        self._where = where
        self._params = params
        self._backwards = backwards

    def all(self) -> Tasks:
        """All of them."""
        return self

    def filter(self, **lookups: Any) -> Tasks:
        """Those of which all this is so."""
        where, params = list(self._where), list(self._params)
        for lookup, value in lookups.items():
            clause, values = _clause(lookup, value)
            where.append(clause)
            params.extend(values)
        return Tasks(tuple(where), tuple(params), self._backwards)

    def exclude(self, **lookups: Any) -> Tasks:
        """Those of which this is not so: exclude(success=False)."""
        if set(lookups) != {"success"}:
            raise Unsupported(
                "exclude() knows success alone",
                hint="The rest is SQL over the view tq_results, or a model of tenant_q.django.",
            )
        return self.filter(success=not lookups["success"])

    def order_by(self, *names: str) -> Tasks:
        """By stopped, or -stopped."""
        if names not in (("stopped",), ("-stopped",)):
            raise Unsupported("order_by() knows stopped and -stopped", hint="The rest is SQL over the view tq_results.")
        return Tasks(self._where, self._params, names == ("stopped",))

    def _sql(self, what: str, tail: str) -> tuple[str, list[Any]]:
        at = App.current().calls.at
        where = " AND ".join(self._where) or "true"
        return f"SELECT {what} FROM {at}tq_results AS x WHERE {where} {tail}", list(self._params)

    def _rows(self, tail: str = "", backwards: bool | None = None) -> list[Task]:
        app = App.current()
        order = "" if (self._backwards if backwards is None else backwards) else " DESC"
        sql, params = self._sql("pg_catalog.to_jsonb(x)", f"ORDER BY x.finished_at{order}, x.id{order} {tail}")
        return [Task.of(TaskRow.of(row)) for row in documents(app, sql, params)]

    def __iter__(self) -> Iterator[Task]:
        return iter(self._rows())

    def __len__(self) -> int:
        return self.count()

    def __getitem__(self, which: int | slice) -> Any:
        if isinstance(which, int):
            return self._rows(f"LIMIT 1 OFFSET {int(which)}")[0]
        start = which.start or 0
        limit = "" if which.stop is None else f"LIMIT {max(int(which.stop) - int(start), 0)}"
        return self._rows(f"{limit} OFFSET {int(start)}")[:: which.step or 1]

    def get(self, **lookups: Any) -> Task:
        """The only one; raises LookupError (`DoesNotExist`) where there is none."""
        found = self.filter(**lookups)._rows("LIMIT 1")
        if not found:
            raise LookupError(f"there is no task with {lookups}")
        return found[0]

    def count(self) -> int:
        """How many there are."""
        return int(documents(App.current(), *self._sql("pg_catalog.count(*)", ""))[0])

    def exists(self) -> bool:
        """Whether there is one."""
        return bool(self._rows("LIMIT 1"))

    def first(self) -> Task | None:
        """The one that ended last."""
        return next(iter(self._rows("LIMIT 1")), None)

    def last(self) -> Task | None:
        """The one that ended first."""
        return next(iter(self._rows("LIMIT 1", not self._backwards)), None)

    def values_list(self, *names: str, flat: bool = False) -> list[Any]:
        """Attributes of each."""
        return [getattr(t, names[0]) if flat else tuple(getattr(t, name) for name in names) for t in self]

    def delete(self) -> int:
        """Deletes them with their results; how many."""
        return sum(task.delete() for task in self._rows())


def _clause(lookup: str, value: Any) -> tuple[str, Iterable[Any]]:
    if lookup == "success":
        return ("x.state = 'done'" if value else "x.state <> 'done'"), ()
    if lookup in ("id", "pk"):
        return "x.id = %s::uuid", (str(as_uuid(value) or UUID(int=0)),)
    if lookup in ("id__in", "pk__in"):
        return "x.id = ANY (%s::uuid[])", ([str(id) for each in value if (id := as_uuid(each)) is not None],)
    if lookup not in _LOOKUPS:
        raise Unsupported(
            f"tasks can't be filtered by {lookup}",
            hint="There are: id, success, "
            + ", ".join(_LOOKUPS)
            + ". The rest is SQL over tq_results, or a model of tenant_q.django.",
        )
    return _LOOKUPS[lookup], (value,)


class _Successes(Tasks):
    def __init__(self) -> None:
        super().__init__(("x.state = 'done'",))


class _Failures(Tasks):
    def __init__(self) -> None:
        super().__init__(("x.state <> 'done'",))


Task.objects = Tasks()


class Success(Task):
    """Tasks that have ended well."""

    objects = _Successes()


class Failure(Task):
    """Tasks that haven't: failed for good, cancelled, expired, quarantined."""

    objects = _Failures()


def fetched(id_or_name: str, wait: float) -> Task | None:
    """The finished task of this id or name, once it has ended within so many milliseconds (below 0: for ever)."""
    local = Local.get(id_or_name)
    if local is not None:
        return local
    id = find(id_or_name)
    if id is None:
        return None
    row = look(id) if wait == 0 else wait_for(id, None if wait < 0 else wait / 1000)
    return Task.of(row) if row is not None and row.finished else None
