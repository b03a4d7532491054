"""What a worker is told: one dataclass, and the command line that fills it."""

from __future__ import annotations

import argparse
import os
import re
import socket
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from ..errors import InvalidOption

__all__ = ["WorkerOptions", "add_arguments", "options_of", "parse_size", "parse_time"]

_SIZES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_TIMES = {"ms": 0.001, "": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def parse_size(text: str | int) -> int:
    """Bytes, of a number of them or of 512M, 2G."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmg]?)(?:i?b)?\s*", str(text), re.IGNORECASE)
    if found is None:
        raise InvalidOption(f"{text!r} is no size", hint="Say it as 512M or 2G.")
    return int(float(found[1]) * _SIZES[found[2].lower()])


def parse_time(text: str | float) -> float:
    """Seconds, of a number of them or of 500ms, 30s, 5min, 1h."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|min|m|h|)\s*", str(text), re.IGNORECASE)
    if found is None:
        raise InvalidOption(f"{text!r} is no time", hint="Say it as 30s or 5min.")
    return float(found[1]) * _TIMES[found[2].lower()]


def _processors() -> int:
    """That this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


@dataclass(slots=True, kw_only=True)
class WorkerOptions:
    """What a worker is told. Raises `InvalidOption`."""

    #: "module:name" of an App, or of a function that returns one
    app: str
    #: how many
    processes: int = field(default_factory=_processors)
    #: of each process. What runs too long in a process of one thread is interrupted; of several, it can only be told
    threads: int = 1
    #: that it serves; None = all
    queues: list[str] | None = None
    #: that it offers, of those that the App has; None = all
    handlers: list[str] | None = None
    #: that it works for; None = all that its role may
    tenants: list[str] | None = None
    #: as tq_workers calls it; None = host:pid
    name: str | None = None
    #: a process that has run so many is replaced; 0 = never
    max_tasks: int = 0
    #: a process that has so many bytes in memory after a task is replaced; 0 = never
    max_memory: int = 0
    #: seconds that tasks have for their end when the worker is to stop
    stop_grace: float = 30.0
    #: replace the processes when one of their source files changes
    reload: bool = False
    #: end when nothing is due any more
    burst: bool = False
    #: is touched every second as long as all is well
    health_file: str | None = None
    #: answers GET /live and /ready over HTTP; 0 = one that is free
    health_port: int | None = None
    #: where that listens
    health_host: str = "127.0.0.1"
    #: critical, error, warning, info (one line for each task), or debug
    log_level: str = "info"
    #: text or json
    log_format: str = "text"
    #: where the database is, for the connection that takes: where the App's goes through a pooler
    control: str | None = None
    #: whether a process may have short tasks in store
    look_ahead: bool = True
    #: put in front of sys.path
    path: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name, least in (("processes", 1), ("threads", 1), ("max_tasks", 0), ("max_memory", 0), ("stop_grace", 0)):
            if getattr(self, name) < least:
                raise InvalidOption(f"{name} is {getattr(self, name)}", hint=f"It is {least} or more.")
        for name in ("queues", "handlers", "tenants"):
            if getattr(self, name) is not None and not getattr(self, name):
                raise InvalidOption(f"{name} is empty", hint="Leave it out for all.")
        if self.log_format not in ("text", "json"):
            raise InvalidOption(f"log_format is {self.log_format!r}", hint="It is text or json.")
        if self.log_level.upper() not in ("CRITICAL", "ERROR", "WARNING", "INFO", "DEBUG"):
            raise InvalidOption(
                f"log_level is {self.log_level!r}", hint="It is critical, error, warning, info or debug."
            )
        if self.name is None:
            self.name = f"{socket.gethostname()}:{os.getpid()}"

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    @classmethod
    def of(cls, document: dict[str, Any]) -> WorkerOptions:
        """Of `document()`."""
        return cls(**document)


def add_arguments(parser: argparse.ArgumentParser, *, app: bool = True) -> None:
    """Adds the worker's options to a command line; app: the positional argument as well."""
    if app:
        parser.add_argument("app", help="module:name of the App, or of a function that returns it")
    add = parser.add_argument
    add("--processes", "-p", type=int, metavar="N", help="how many; as many as there are processors")
    add("--threads", "-t", type=int, metavar="N", help="of each process (1: what runs too long can be interrupted)")
    add("--queues", "-q", type=_names, metavar="A,B", help="that it serves; all")
    add("--handlers", type=_names, metavar="A,B", help="that it offers; all that there are")
    add("--tenants", type=_names, metavar="A,B", help="that it works for; all that its role may")
    add("--name", help="as tq_workers calls it; host:pid")
    add("--max-tasks", type=int, metavar="N", help="replace a process that has run so many; never")
    add("--max-memory", type=_said(parse_size), metavar="SIZE", help="replace a process that has grown so big, 512M")
    add("--stop-grace", type=_said(parse_time), metavar="TIME", help="for tasks to end in at a stop; 30s")
    add("--reload", action="store_true", default=None, help="replace the processes when source files change")
    add("--burst", action="store_true", default=None, help="end when nothing is due any more")
    add("--health-file", metavar="FILE", help="touched every second as long as all is well")
    add("--health-port", type=int, metavar="PORT", help="answers GET /live and /ready")
    add("--health-host", metavar="ADDRESS", help="where that listens; 127.0.0.1")
    add("--log-level", metavar="LEVEL", help="critical, error, warning, info or debug; info")
    add("--log-format", choices=("text", "json"), help="text")
    add("--control", metavar="DATABASE", help="for the connection that takes, where the App's goes through a pooler")
    add("--no-look-ahead", dest="look_ahead", action="store_false", default=None, help="nothing in store")


def options_of(arguments: argparse.Namespace, **more: Any) -> WorkerOptions:
    """What the command line says, and `more`. Raises `InvalidOption`."""
    known = {each.name for each in fields(WorkerOptions)}
    said = {name: value for name, value in vars(arguments).items() if name in known and value is not None}
    return WorkerOptions(**{**said, **more})


def _names(text: str) -> list[str]:
    return [each.strip() for each in text.split(",") if each.strip()]


def _said(parse: Any) -> Any:
    def parsed(text: str) -> Any:
        try:
            return parse(text)
        except InvalidOption as error:
            raise argparse.ArgumentTypeError(f"{error.message}. {error.hint}") from None

    return parsed
