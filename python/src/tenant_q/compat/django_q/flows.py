"""Django-Q's objects: AsyncTask, Iter, Chain."""

from __future__ import annotations

from typing import Any

from . import functions as tasks
from .functions import OPTIONS
from .rows import Task

__all__ = ["AsyncTask", "Chain", "Iter"]


class Iter:
    """A function called with each of many arguments."""

    def __init__(
        self,
        func: Any = None,
        args: list[Any] | None = None,
        kwargs: dict[str, Any] | None = None,
        cached: Any = False,
        sync: bool | None = None,
        broker: Any = None,
    ) -> None:
        self.func = func
        self.args = args or []
        self.kwargs = kwargs or {}
        self.id = ""
        self.broker = broker
        self.cached = cached
        self.sync = sync
        self.started = False

    def append(self, *args: Any) -> int:
        """Adds the arguments of another call; how many there are. What was run has no result then until it is run
        again."""
        self.args.append(args)
        self.started = False
        return self.length()

    def run(self) -> str:
        """Enqueues them; the id."""
        options: dict[str, Any] = {"cached": self.cached, "broker": self.broker}
        if self.sync is not None:
            options["sync"] = self.sync
        self.id = tasks.async_iter(self.func, self.args, **{**self.kwargs, **options})
        self.started = True
        return self.id

    def result(self, wait: float = 0) -> list[Any] | None:
        """The list of results, in the order of the arguments; None while it has not ended."""
        found: list[Any] | None = tasks.result(self.id, wait=wait, cached=self.cached) if self.started else None
        return found

    def fetch(self, wait: float = 0) -> Task | None:
        """The finished task, whose result is the list."""
        return tasks.fetch(self.id, wait=wait, cached=self.cached) if self.started else None

    def length(self) -> int:
        """How many calls there are."""
        return len(self.args)


class Chain:
    """Calls that run one after the other."""

    def __init__(
        self,
        chain: list[Any] | None = None,
        group: str | None = None,
        cached: Any = False,
        sync: bool | None = None,
        broker: Any = None,
    ) -> None:
        self.chain = chain or []
        self.group = group or ""
        self.broker = broker
        self.cached = cached
        self.sync = sync
        self.started = False

    def append(self, func: Any, *args: Any, **kwargs: Any) -> int:
        """Adds a step; how many there are. What was run loses its results."""
        self.chain.append((func, args, kwargs))
        if self.started:
            tasks.delete_group(self.group)
            self.started = False
        return self.length()

    def run(self) -> str:
        """Enqueues it; its group."""
        self.group = tasks.async_chain(
            self.chain[:], group=self.group or None, cached=self.cached, sync=self.sync, broker=self.broker
        )
        self.started = True
        return self.group

    def result(self, wait: float = 0) -> list[Any] | None:
        """The results, when all steps have ended."""
        if not self.started:
            return None
        return tasks.result_group(self.group, wait=wait, count=self.length(), cached=self.cached)

    def fetch(self, failures: bool = True, wait: float = 0) -> list[Task] | None:
        """The finished tasks, when all steps have ended."""
        if not self.started:
            return None
        return tasks.fetch_group(self.group, failures=failures, wait=wait, count=self.length(), cached=self.cached)

    def current(self) -> int | None:
        """How many steps have ended."""
        return tasks.count_group(self.group, cached=self.cached) if self.started else None

    def length(self) -> int:
        """How many steps there are."""
        return len(self.chain)


class AsyncTask:
    """A call, and what becomes of it. Its options are attributes: hook, group, timeout, save, sync, cached,
    ack_failure, cluster."""

    func: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    id: str
    started: bool

    def __init__(self, func: Any, *args: Any, **kwargs: Any) -> None:
        self.__dict__.update(func=func, args=args, kwargs=kwargs, id="", started=False)

    def __getattr__(self, name: str) -> Any:
        if name not in OPTIONS:
            raise AttributeError(name)
        return self._options().get(name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in OPTIONS:
            self._options()[name] = value
            self.__dict__["started"] = False
        else:
            self.__dict__[name] = value

    def _options(self) -> dict[str, Any]:
        found: dict[str, Any] = self.kwargs.get("q_options", self.kwargs)
        return found

    def run(self) -> str:
        """Enqueues it; the id."""
        self.id = tasks.async_task(self.func, *self.args, **self.kwargs)
        self.started = True
        return self.id

    def result(self, wait: float = 0) -> Any:
        """What it has returned; None while it has not ended."""
        return tasks.result(self.id, wait=wait) if self.started else None

    def fetch(self, wait: float = 0) -> Task | None:
        """The finished task."""
        return tasks.fetch(self.id, wait=wait) if self.started else None

    def result_group(self, failures: bool = False, wait: float = 0, count: int | None = None) -> list[Any] | None:
        """Results of its group."""
        return tasks.result_group(self.group, failures, wait, count) if self.started and self.group else None

    def fetch_group(self, failures: bool = True, wait: float = 0, count: int | None = None) -> list[Task] | None:
        """Finished tasks of its group."""
        return tasks.fetch_group(self.group, failures, wait, count) if self.started and self.group else None
