"""`tenant_q.call`: what it calls, and what it doesn't, whatever a task's row says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import date

import pytest

from tenant_q import App, Result
from tenant_q.compat import _call, allow
from tenant_q.compat._call import Call
from tenant_q.errors import ArgumentsDoNotFit, NotAllowed, TaskFailed, UnknownTask
from tenant_q.testing import run_pending

from . import functions


def done(call: Call, run: Callable[[], None], **words: object) -> object:
    row = call.enqueue(**words)
    run()
    found = row.wait(5)
    assert found.state == "done", found.error
    return _call.return_value(found)


def test_calls_functions_by_their_annotations(shims: App, run: Callable[[], None]) -> None:
    assert done(Call(functions.add, (1,), {"b": 2}), run) == 3
    assert done(Call("tests.compat.functions.add", (1,)), run) == 2
    assert done(Call(functions.day_of, (date(2030, 1, 2),)), run) == date(2030, 1, 2)
    assert done(Call(functions.moved, (functions.Point(1, 2),)), run) == functions.Point(2, 3)
    assert done(Call(functions.rest, (1, "a"), {"k": [1]}), run) == [[1, "a"], {"k": [1]}]
    assert done(Call(functions.later, (4,)), run) == 8
    assert done(Call("math.floor", (1.5,)), run) == 1


def test_the_task_is_seen_by_its_function(shims: App) -> None:
    row = Call(functions.add, (1,)).enqueue().fetch()
    assert (row.handler, row.name) == ("tenant_q.call", "tests.compat.functions.add")
    assert row.args["args"] == {"a": 1}


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "tests.compat.functions.os.system",
        "tests.compat.functions.math.cos",
        "tests.compat.functions._hidden",
        "tests.compat.functions.__builtins__.eval",
        "tests.compat.functions.add.__globals__",
        "tests.compat.functionsx.add",
        "builtins.eval",
        "",
        "add",
    ],
)
def test_refuses_names_of_what_it_may_not_call(shims: App, tenant: str, name: str) -> None:
    with pytest.raises(NotAllowed, match="may not call"):
        Call(name, ("true",))
    # The tenant's owner can write what he likes.
    document = json.dumps({"function": name, "args": ["touch /tmp/never"]})
    id = shims.execute(
        "SELECT tq_async('tenant_q.call', %s::jsonb, tenant => %s, max_attempts => 1)", [document, tenant]
    )[0][0]
    [ran] = run_pending(shims)
    assert ran.state == "failed"
    assert isinstance(ran.exception, NotAllowed)
    with pytest.raises(TaskFailed, match="may not call"):
        Result.of(id).get()


def test_imports_nothing_for_a_name_that_is_not_allowed(shims: App) -> None:
    import sys

    assert "this" not in sys.modules
    with pytest.raises(NotAllowed):
        Call("this.d")
    assert "this" not in sys.modules


def test_what_does_not_fit_is_refused_where_it_is_enqueued(shims: App, tenant: str) -> None:
    for call in (
        lambda: Call(functions.add, (1, 2, 3)),
        lambda: Call(functions.add, (), {"c": 1}),
        lambda: Call(functions.add),
    ):
        with pytest.raises(ArgumentsDoNotFit):
            call()
    with pytest.raises(UnknownTask, match="there is no function"):
        Call("tests.compat.functions.nobody")
    with pytest.raises(ArgumentsDoNotFit, match="has no name"):
        Call(lambda: 1)
    with pytest.raises(ArgumentsDoNotFit, match="has no name"):
        Call(functions.Point(1, 2).__eq__)
    assert shims.execute("SELECT tq_queue_size(tenant => %s)", [tenant])[0][0] == 0


def test_a_function_that_is_a_task_keeps_its_own_handler(shims: App, run: Callable[[], None]) -> None:
    from tenant_q import task

    @task(name="compat.own", max_attempts=2)
    def own(n: int) -> int:
        return n + 1

    shims.sync()
    assert Call(own, (1,)).enqueue().fetch().handler == "compat.own"
    assert done(Call("compat.own", (5,)), run) == 6


def test_allows_what_it_is_told(shims: App, run: Callable[[], None]) -> None:
    with pytest.raises(NotAllowed):
        Call("math.ceil", (1.5,))
    allow("math.ceil")
    try:
        assert done(Call("math.ceil", (1.5,)), run) == 2
    finally:
        _call._allowed.discard("math.ceil")


def test_modules_of_the_app_are_allowed(tenant: str) -> None:
    made = App(tenant=tenant, modules=["json.decoder"])
    with made.active():
        assert Call("json.decoder.py_scanstring", ('"x"', 1)).name == "json.decoder.py_scanstring"
        with pytest.raises(NotAllowed):
            Call("json.encoder.py_encode_basestring", ("x",))
    assert asyncio.iscoroutinefunction(functions.later)
