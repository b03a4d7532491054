"""Names, the registry, which App does the work, and middleware."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tenant_q import App, Context, Middleware, errors, task
from tenant_q.execute import Outcome
from tenant_q.middleware import Enqueue
from tenant_q.task import Registry, Task, registry
from tenant_q.testing import run_pending


@task
def at_the_top(a: int) -> int:
    return a


def other_one(a: int) -> int:
    return a


def test_a_name_is_module_and_qualname() -> None:
    assert at_the_top.name == f"{__name__}.at_the_top"
    assert registry.find(at_the_top.name) is at_the_top
    assert at_the_top(5) == 5
    assert repr(at_the_top) == f"<Task {__name__}.at_the_top>"


def test_a_function_inside_of_another_needs_a_name() -> None:
    with pytest.raises(errors.InvalidOption, match=r"@task\(name="):

        @task
        def inner() -> None: ...


def test_two_functions_of_one_name_are_an_error() -> None:
    mine = Registry()
    mine.add(Task(other_one, name="f"))
    mine.add(Task(other_one, name="f"))
    with pytest.raises(errors.DuplicateTask, match="two tasks of the name f") as caught:
        mine.add(Task(lambda: None, name="f"))
    assert "test_task.py" in caught.value.detail
    with pytest.raises(errors.DuplicateTask):
        mine.add(Task(lambda: None, name="g", declared=task(name="x", aliases="f", app=App())(lambda: 1).declared))
    assert mine.names() == ["f"]


def test_unknown_tasks_are_named() -> None:
    mine = Registry()
    with pytest.raises(errors.UnknownTask, match="It has none at all"):
        mine.find("f")
    assert mine.get("f") is None
    assert "f" not in mine


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"max_atempts": 3}, "Did you mean max_attempts"),
        ({"timeout": object()}, "seconds"),
        ({"priority": 1.5}, "whole number"),
        ({"retry_on": (5,)}, "no exception class"),
        ({"retry_on": (int,)}, "no exception class"),
        ({"retry": "x"}, "Backoff"),
        ({"save": "no"}, "True nor False"),
        ({"hook": 5}, "handler"),
    ],
)
def test_declarations_that_make_no_sense_are_refused_where_they_are_written(words: dict[str, Any], says: str) -> None:
    with pytest.raises(errors.InvalidOption, match=says):
        task(name="nonsense", **words)(other_one)
    assert "nonsense" not in registry


def test_without_an_app_it_is_said_how_to_make_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(App, "_latest", None)
    with pytest.raises(errors.NoApp, match="INSTALLED_APPS"):
        at_the_top.enqueue(1)


def test_the_current_app_is_that_of_the_block_else_the_latest() -> None:
    first, second = App(registry=Registry()), App(registry=Registry())
    assert App.current() is second
    with first.active():
        assert App.current() is first
        assert at_the_top.app is first
        seen = []
        thread = threading.Thread(target=lambda: seen.append(App.current()))
        thread.start()
        thread.join()
        assert seen == [second]
    assert App.current() is second
    assert first.task(name="mine")(other_one).app is first


@pytest.mark.parametrize("how", ["-m", "script"])
def test_what_is_started_as_a_program_is_named_as_workers_import_it(tmp_path: Path, how: str) -> None:
    (tmp_path / "shop.py").write_text("from tenant_q import task\n@task\ndef f(): ...\nprint(f.name)\n")
    call = [sys.executable, "-m", "shop"] if how == "-m" else [sys.executable, "shop.py"]
    done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "shop.f"


# Middleware.


class Tracing(Middleware):
    def __init__(self, name: str, seen: list[Any]) -> None:
        self.name, self.seen = name, seen

    @contextmanager
    def enqueue(self, request: Enqueue) -> Iterator[None]:
        request.meta[self.name] = "trace"
        self.seen.append((self.name, "enqueue", request.id))
        yield
        self.seen.append((self.name, "enqueued", request.id is not None))

    @contextmanager
    def run(self, context: Context) -> Iterator[None]:
        self.seen.append((self.name, "run", context.meta))
        try:
            yield
        except ValueError as error:
            self.seen.append((self.name, "raised", str(error)))
            raise
        self.seen.append((self.name, "ran", context.handler))

    def ended(self, context: Context, outcome: Outcome, error: BaseException | None) -> None:
        self.seen.append((self.name, "ended", outcome.kind))


def test_middleware_goes_around(app: App, db: psycopg.Connection) -> None:
    seen: list[Any] = []
    f = app.task(name="f", max_attempts=1)(lambda x: 1 // x)
    app.sync()
    app.middleware = [Tracing("a", seen), object(), Tracing("b", seen)]
    result = f.options(meta={"own": 1}).enqueue(1)
    assert seen == [("a", "enqueue", None), ("b", "enqueue", None), ("b", "enqueued", True), ("a", "enqueued", True)]
    meta = {"own": 1, "a": "trace", "b": "trace"}
    assert result.fetch().meta == meta
    seen.clear()
    run_pending(app)
    assert seen == [
        ("a", "run", meta),
        ("b", "run", meta),
        ("b", "ran", "f"),
        ("a", "ran", "f"),
        ("b", "ended", "done"),
        ("a", "ended", "done"),
    ]
    assert [each.fetch().meta for each in f.enqueue_many([1, 2])] == [{"a": "trace", "b": "trace"}] * 2
    run_pending(app)
    seen.clear()
    g = app.task(name="g", max_attempts=1)(_raises)
    app.sync()
    g.enqueue()
    run_pending(app)
    assert ("b", "raised", "no") in seen
    assert seen[-2:] == [("b", "ended", "failed"), ("a", "ended", "failed")]


def _raises() -> None:
    raise ValueError("no")


def test_a_middleware_may_refuse(app: App, db: psycopg.Connection, tenant: str) -> None:
    class Refuses(Middleware):
        def enqueue(self, request: Enqueue) -> Any:
            raise PermissionError("not now")

    f = app.task(name="f")(lambda: None)
    app.sync()
    app.middleware = [Refuses()]
    with pytest.raises(PermissionError):
        f.enqueue()
    assert run_pending(app) == []


def test_a_middleware_that_fails_in_a_run_fails_the_attempt(app: App) -> None:
    class Fails(Middleware):
        def run(self, context: Context) -> Any:
            raise RuntimeError("broken middleware")

        def ended(self, context: Context, outcome: Outcome, error: BaseException | None) -> None:
            raise RuntimeError("it too")

    f = app.task(name="f", max_attempts=1)(lambda: None)
    app.sync()
    result = f.enqueue()
    app.middleware = [Fails()]
    assert [ran.state for ran in run_pending(app)] == ["failed"]
    assert result.error["message"] == "broken middleware"
