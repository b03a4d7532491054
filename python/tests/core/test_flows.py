"""Chains, groups and iterations, to any depth, and what is passed on in them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import pytest

from tenant_q import App, chain, errors, group, iterate
from tenant_q.middleware import Enqueue
from tenant_q.testing import drain, immediate, run_pending


class Tasks:
    def __init__(self, app: App) -> None:
        def add(a: int, b: int) -> int:
            return a + b

        def total(numbers: list[int]) -> int:
            return sum(n or 0 for n in numbers)

        def broken(x: int = 0) -> int:
            raise ValueError("broken")

        def price(x: int, rate: Decimal = Decimal("1.1")) -> Decimal:
            return x * rate

        def anything(*args: Any, **kwargs: Any) -> list[Any]:
            return [list(args), kwargs]

        self.add = app.task(name="add")(add)
        self.total = app.task(name="total")(total)
        self.broken = app.task(name="broken", max_attempts=1)(broken)
        self.price = app.task(name="price")(price)
        self.anything = app.task(name="anything")(anything)
        app.sync()


@pytest.fixture
def t(app: App) -> Tasks:
    return Tasks(app)


def outcome(app: App, flow: Any) -> Any:
    result = flow.enqueue()
    run_pending(app, wait=0.2)
    return result.wait(10).result


FLOWS = {
    "chain": (lambda t: chain(t.add.s(1, 2), t.add.s(3, b=4)), [3, 7]),
    "chain that passes on": (
        lambda t: chain(t.add.s(1, 2), t.add.s(b=4), t.price.s(), pass_result=True),
        [3, 7, "7.7"],
    ),
    "behind positional arguments": (
        lambda t: chain(t.add.s(1, 2), t.anything.s("x"), pass_result=True),
        [3, [["x", 3], {}]],
    ),
    "pipes": (lambda t: t.add.s(1, 2) | t.add.s(3, 4) | t.price.s(5), [3, 7, "5.5"]),
    "group": (lambda t: group(t.add.s(n, n) for n in range(3)), [0, 2, 4]),
    "tasks without arguments": (lambda t: group(t.anything, t.price.s(1)), [[[], {}], "1.1"]),
    "nothing": (lambda t: group(), []),
    "iteration": (lambda t: iterate(t.add, [(1, 2), {"a": 3, "b": 4}], chunk=2), [3, 7]),
    "one argument each": (lambda t: iterate(t.price, [1, 2]), ["1.1", "2.2"]),
    "nested": (
        lambda t: chain(group(t.add.s(1, 1), chain(t.add.s(2, 2), t.add.s(b=1), pass_result=True)), t.anything.s()),
        [[2, [4, 5]], [[], {}]],
    ),
    "a group gets what was before, and after it comes the array": (
        lambda t: chain(t.add.s(1, 1), group(t.add.s(a=1), t.add.s(a=2)), t.total.s(), pass_result=True),
        [2, [3, 4], 7],
    ),
    "an iteration as a step": (
        lambda t: chain(iterate(t.add, [(1, 1), (2, 2)]), t.total.s(), pass_result=True),
        [[2, 4], 6],
    ),
    "fails softly": (lambda t: group(t.add.s(1, 1), t.broken.s(), allow_failure=True), [2, None]),
    "goes on": (lambda t: chain(t.broken.s(), t.add.s(1, 1), on_step_failure="continue"), [None, 2]),
}


@pytest.mark.parametrize("name", FLOWS)
def test_flows(app: App, t: Tasks, name: str) -> None:
    make, expected = FLOWS[name]
    assert outcome(app, make(t)) == expected


@pytest.mark.parametrize("name", [name for name in FLOWS if name not in ("fails softly", "goes on", "nothing")])
def test_flows_in_immediate_mode_have_the_same_results(app: App, t: Tasks, name: str) -> None:
    make, expected = FLOWS[name]
    with immediate(app):
        assert make(t).enqueue().get() == expected


def test_a_failure_stops_a_chain_and_fails_a_group(app: App, t: Tasks) -> None:
    stopped = chain(t.add.s(1, 1), t.broken.s(), t.add.s(1, 1)).enqueue()
    failed = group(t.add.s(1, 1), t.broken.s()).enqueue()
    run_pending(app, wait=0.2)
    for each in (stopped, failed):
        with pytest.raises(errors.TaskFailed) as caught:
            each.get(timeout=5)
        assert caught.value.sqlstate == "TQ004"


def test_what_is_said_of_a_flow_and_of_its_members(app: App, t: Tasks, tenant: str) -> None:
    flow = group(
        t.add.options(queue="a").s(1, 1), t.add.s(2, 2).options(delay=3600), name="sum", priority=3, meta={"k": 1}
    )
    result = flow.enqueue()
    row = result.fetch()
    assert (row.name, row.meta) == ("sum", {"k": 1})
    with app.atomic():
        app.execute(f'SET LOCAL search_path TO "{tenant}", public')
        members = app.execute(
            "SELECT queue, priority, state FROM tq_tasks WHERE parent_id = %s ORDER BY id", [result.id]
        )
    assert members == [("a", 3, "queued"), ("default", 3, "delayed")]
    assert flow.options(name="other").said.values["name"] == "other"
    assert flow.said.values["name"] == "sum"


def test_what_does_not_bind_enqueues_nothing(app: App, t: Tasks) -> None:
    for flow in (
        chain(t.add.s(1, 1), t.add.s(1)),
        group(t.add.s(1)),
        iterate(t.add, [(1,)]),
        chain(t.add.s(1), pass_result=True),
    ):
        with pytest.raises(errors.ArgumentsDoNotFit, match="add: missing"):
            flow.enqueue()
    with pytest.raises(errors.DoesNotFit):  # no parameter is left for the result: the server says so
        chain(t.add.s(1, 1), t.add.s(1, 1), pass_result=True).enqueue()
    with pytest.raises(errors.InvalidOption, match="no member"):
        chain(5, 6)
    with pytest.raises(errors.InvalidOption, match="no option"):
        group(t.add.s(1, 1), nmae="x")
    assert run_pending(app) == []


def test_members_may_be_handlers_of_the_database(app: App, t: Tasks, db: Any, tenant: str) -> None:
    db.execute(f"CREATE FUNCTION \"{tenant}\".twice(x int) RETURNS int LANGUAGE sql AS 'SELECT x * 2'")
    db.execute("SELECT tq_register('twice', tenant => %s)", [tenant])
    result = chain(t.add.s(1, 2), "twice", pass_result=True).enqueue()
    run_pending(app, wait=0.2)
    assert result.get(timeout=10) == [3, 6]


def test_coroutines(app: App, t: Tasks) -> None:
    async def enqueue() -> Any:
        async with app.aclosing():
            return await chain(t.add.s(1, 2), t.add.s(3, 4)).aenqueue(), await t.add.s(1, 1).aenqueue()

    flow, one = asyncio.run(enqueue())
    run_pending(app, wait=0.2)
    assert (flow.get(timeout=5), one.get()) == ([3, 7], 2)


def test_flows_are_drained(app: App, t: Tasks) -> None:
    with pytest.raises(RuntimeError), app.atomic():
        flow = chain(t.add.s(1, 2), group(t.add.s(1), t.add.s(2)), t.total.s(), pass_result=True).enqueue()
        assert [ran.state for ran in drain(app)] == ["done"] * 4
        assert flow.get() == [3, [4, 5], 9]
        raise RuntimeError
    assert drain(app) == []


def test_middleware_is_told_of_the_flow_and_of_each_task_in_it(app: App, t: Tasks) -> None:
    seen = []

    class Tracing:
        @contextmanager
        def enqueue(self, request: Enqueue) -> Iterator[None]:
            request.meta["trace"] = f"t{len(seen)}"
            seen.append((request.handler, request.task is None))
            yield

    app.middleware = [Tracing()]
    result = chain(t.add.s(1, 2), group(t.price.s(1), t.price.s(2))).enqueue()
    assert seen == [("tq_chain", True), ("add", False), ("price", False), ("price", False)]
    assert result.fetch().meta == {"trace": "t0"}
    metas = [ran.taken.meta for ran in run_pending(app, wait=0.2)]
    assert sorted(meta["trace"] for meta in metas) == ["t1", "t2", "t3"]
