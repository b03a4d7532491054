"""Django-Q and Django Tenant Schemas Q, beyond the small app."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tenant_q import App
from tenant_q.compat import Unsupported
from tenant_q.compat.django_q import (
    AsyncTask,
    Chain,
    Failure,
    Iter,
    QUtilities,
    Schedule,
    ScheduleExists,
    Success,
    Task,
    async_chain,
    async_iter,
    async_task,
    configure,
    count_group,
    delete_cached,
    fetch,
    result,
    result_group,
    schedule,
)
from tenant_q.errors import ArgumentsDoNotFit, DoesNotFit, NameTaken, NotAllowed
from tenant_q.result import Result

from . import functions

ADD = "tests.compat.functions.add"
BROKEN = "tests.compat.functions.broken"


def row(app: App, id: str) -> Any:
    return Result.of(id).fetch()


def test_every_option_is_a_word_of_tenant_q(shims: App, tenant: str) -> None:
    id = async_task(
        ADD,
        1,
        b=2,
        task_name="n",
        group="g",
        timeout=60,
        ack_failure=True,
        cluster="other",
        hook=functions.heard,
        save=True,
    )
    found = row(shims, id)
    assert (found.name, found.group_id, found.queue, found.max_attempts) == ("n", "g", "other", 1)
    assert found.meta == {"hook": "tests.compat.functions.heard"}
    assert len(id) == 32
    same = async_task(ADD, 1, q_options={"task_name": "o", "group": "g", "cluster": "shop"})
    assert (row(shims, same).name, row(shims, same).queue) == ("o", "default")


def test_q_cluster_says_what_goes_for_all(shims: App) -> None:
    configure(max_attempts=7, timeout=90, retry=60, workers=4, orm="default", recycle=500)
    try:
        assert row(shims, async_task(ADD, 1)).max_attempts == 7
        assert row(shims, async_task(ADD, 1, ack_failure=True)).max_attempts == 1
        configure(sync=True)
        assert result(async_task(ADD, 1)) == 2
        configure(error_reporter={"sentry": {}})
        with pytest.raises(Unsupported, match="middleware"):
            async_task(ADD, 1)
    finally:
        configure(name="shop", ack_failures=True)


def test_unsupported_keywords_name_their_counterparts(shims: App, tenant: str) -> None:
    with pytest.raises(Unsupported, match="queue"):
        async_task(ADD, 1, broker=object())
    with pytest.raises(Unsupported, match="There are"):
        async_task(ADD, 1, q_options={"brokr": 1})
    with pytest.raises(TypeError):
        async_chain([ADD], broker=object())
    with pytest.raises(Unsupported):
        Task.objects.filter(args__contains=1)
    with pytest.raises(Unsupported):
        Task.objects.exclude(name="x")
    with pytest.raises(Unsupported):
        Schedule.objects.filter(cron="x")
    with pytest.raises(ArgumentsDoNotFit):
        async_task(ADD, 1, nobody=2)
    with pytest.raises(NotAllowed):
        async_task(ADD, 1, hook="os.remove")
    assert shims.execute("SELECT tq_queue_size(tenant => %s)", [tenant])[0][0] == 0


def test_sync_runs_here_and_raises(shims: App, tenant: str) -> None:
    functions.told.clear()
    id = async_task(ADD, 1, sync=True, group="s", hook=functions.heard, task_name="here")
    assert (result(id), result("here"), fetch(id).success, count_group("s"), result_group("s")) == (2, 2, True, 1, [2])
    assert functions.told[0].result == 2
    with pytest.raises(ValueError, match="no luck"):
        async_task(BROKEN, sync=True, group="s")
    assert (count_group("s", failures=True), result_group("s")) == (1, [2])
    assert shims.execute("SELECT tq_queue_size(tenant => %s)", [tenant])[0][0] == 0


def test_tests_of_django_tenant_schemas_q(shims: App) -> None:
    numbers = [0.75, 3.5, 12.25]
    task = QUtilities.add_async_tasks_from_iter("math.floor", numbers, sync=True)
    assert QUtilities.get_result(task) == [0, 3, 12]
    chain = Chain(sync=True)
    chain.append("math.copysign", 12, -2)
    chain.append("math.floor", 8.5)
    chain.run()
    assert (chain.result(), chain.current(), chain.length()) == ([-12.0, 8], 2, 2)
    each = Iter(sync=True, func="math.floor")
    for number in numbers:
        each.append(number)
    each.run()
    assert each.result() == [0, 3, 12]


def test_every_method_of_qutilities(
    shims: App, tenant: str, make_tenant: Callable[..., str], run: Callable[[], None]
) -> None:
    id = QUtilities.add_async_task(ADD, 1, group="g")
    bad = QUtilities.add_async_task(BROKEN, group="g", ack_failure=True)
    assert QUtilities.get_queue_size() == 2
    assert QUtilities.fetch_task(id) is None
    run()
    assert (QUtilities.get_result(id), QUtilities.fetch_task(id).result) == (2, 2)
    assert "no luck" in QUtilities.get_result(bad)
    assert QUtilities.get_result_group("g", failures=False) == [2]
    assert len(QUtilities.get_result_group("g", failures=True, count=2)) == 2
    assert QUtilities.get_result_group("g", count=3) is None
    assert [task.success for task in QUtilities.fetch_task_group("g")] == [True, False]
    assert [task.success for task in QUtilities.fetch_task_group("g", failures=False)] == [True]
    assert (QUtilities.get_group_count("g"), QUtilities.get_group_count("g", failures=True)) == (2, 1)
    assert QUtilities.delete_task_group("g") == 2
    assert QUtilities.get_group_count("g") == 0
    assert QUtilities.delete_task_from_cache(id) is True
    assert QUtilities.fetch_task(id) is None
    many = QUtilities.add_async_tasks_from_iter(ADD, [1, (2, 3)])
    chain = QUtilities.create_async_tasks_chain([(ADD, (1,)), (ADD, (2,), {"b": 2})])
    run()
    assert QUtilities.get_result(many) == [2, 5]
    assert sorted(QUtilities.get_result_group(chain, count=2)) == [2, 4]
    made = QUtilities.create_schedule(ADD, 1, name="daily", schedule_type=Schedule.DAILY)
    assert Schedule.objects.get(name="daily").id == made.id
    other = make_tenant()
    with shims.tenant(other):
        shims.sync()
    elsewhere = QUtilities.add_async_task("tests.compat.functions.in_schema", schema_name=other, n=1)
    here = QUtilities.add_async_task("tests.compat.functions.in_schema", n=2)
    run()
    assert QUtilities.get_result(here) == [tenant, 2]
    assert QUtilities.fetch_task(elsewhere) is None, "another tenant's task isn't seen"
    with shims.tenant(other):
        run()
        assert QUtilities.get_result(elsewhere) == [other, 1]


def test_a_chain_goes_on_after_a_failure(shims: App, run: Callable[[], None]) -> None:
    chain = async_chain([(ADD, (1,)), (BROKEN, (), {"ack_failure": True}), (ADD, (5,))])
    run()
    assert result_group(chain, count=3) == [2, 6]
    assert count_group(chain, failures=True) == 1


def test_an_iteration_has_none_for_what_failed(shims: App, run: Callable[[], None]) -> None:
    whole = async_iter("tests.compat.functions.day_of", ["2030-01-02", "2030-01-03"], ack_failure=True)
    run()
    assert len(result(whole)) == 2
    part = async_iter(BROKEN, ["a"], ack_failure=True)
    run()
    assert result(part) == [None]
    assert result(async_iter(ADD, [])) == []


def test_waiting(shims: App, run: Callable[[], None]) -> None:
    id = async_task(ADD, 1, group="w")
    assert (result(id, wait=10), result_group("w", wait=10, count=2), result_group("w", count=1)) == (None, None, None)
    run()
    assert (result(id, wait=-1), result_group("w", wait=10, count=2), result_group("w", count=2)) == (2, [2], None)
    assert result("nobody") is None
    assert delete_cached("nobody") is False


def test_finished_tasks_are_read(shims: App, run: Callable[[], None]) -> None:
    ok = async_task(ADD, 1, group="g", task_name="one")
    bad = async_task(BROKEN, ack_failure=True)
    run()
    assert [task.id for task in Success.objects.all()] == [ok]
    assert [task.id for task in Failure.objects.all()] == [bad]
    assert (
        Task.objects.count(),
        Success.objects.filter(group="g").exists(),
        Failure.objects.filter(name="one").exists(),
    ) == (2, True, False)
    one = Task.objects.get(id=ok)
    assert (one.func, one.args[0], one.kwargs, one.result, one.attempt_count) == (ADD, 1, {}, 2, 1)
    assert one.time_taken() >= 0
    assert Task.objects.filter(func=ADD, success=True).values_list("name", flat=True) == ["one"]
    assert (one.group_count(), list(one.group_result())) == (1, [2])
    assert Task.objects.first().id == bad
    assert Task.objects.filter(stopped__gt=datetime.now(UTC) + timedelta(hours=1)).count() == 0
    assert Task.objects.all()[0:1][0].id == bad
    assert Failure.objects.filter().delete() == 1
    with pytest.raises(Task.objects.DoesNotExist):
        Task.objects.get(id=bad)


def test_objects(shims: App, run: Callable[[], None]) -> None:
    call = AsyncTask(ADD, 1, b=2)
    call.group, call.hook = "o", "tests.compat.functions.heard"
    assert (call.result(), call.fetch(), call.group) == (None, None, "o")
    call.run()
    run()
    assert (call.result(), call.fetch().success, call.result_group(), len(call.fetch_group())) == (3, True, [3], 1)
    call.save = False
    assert call.started is False
    with pytest.raises(AttributeError):
        _ = call.nobody


# Schedules.


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        ({"schedule_type": Schedule.ONCE}, "O"),
        ({"schedule_type": Schedule.MINUTES, "minutes": 5}, "5 minutes"),
        ({"schedule_type": Schedule.MINUTES}, "1 minute"),
        ({"schedule_type": Schedule.HOURLY}, "H"),
        ({"schedule_type": Schedule.DAILY}, "D"),
        ({"schedule_type": Schedule.WEEKLY}, "W"),
        ({"schedule_type": Schedule.BIWEEKLY}, "BW"),
        ({"schedule_type": Schedule.MONTHLY}, "M"),
        ({"schedule_type": Schedule.BIMONTHLY}, "BM"),
        ({"schedule_type": Schedule.QUARTERLY}, "Q"),
        ({"schedule_type": Schedule.YEARLY}, "Y"),
        ({"schedule_type": Schedule.CRON, "cron": "0 22 * * 1-5"}, "0 22 * * 1-5"),
        ({"schedule_type": Schedule.CRON, "cron": "* * * * * */5"}, "*/5 * * * * *"),
    ],
)
def test_every_type_is_a_rule(shims: App, words: dict[str, Any], rule: str) -> None:
    made = schedule(ADD, 1, b=2, name="s", next_run=datetime(2100, 1, 31, 12, tzinfo=UTC), **words)
    found = Schedule.objects.get(name="s")
    assert made.rule() == rule
    assert (found.func, found.kwargs, found.schedule_type) == (ADD, {"a": 1, "b": 2}, words["schedule_type"])
    if "cron" not in words:
        assert found.next_run == datetime(2100, 1, 31, 12, tzinfo=UTC)


def test_wrong_schedules_are_refused(shims: App) -> None:
    schedule(ADD, 1, name="twice", schedule_type="D")
    with pytest.raises(ScheduleExists) as caught:
        schedule(ADD, 1, name="twice")
    assert isinstance(caught.value, NameTaken)
    for words in ({"schedule_type": "C"}, {"schedule_type": "C", "cron": "0 22 * * 1-12"}, {"schedule_type": "X"}):
        with pytest.raises(DoesNotFit):
            schedule(ADD, 1, **words)
    with pytest.raises(DoesNotFit):
        schedule("tests.compat.functions.at", intended_date_kwarg="no name")
    assert Schedule.objects.filter(func=ADD).count() == 1


def fired(shims: App, name: str, tenant: str) -> Any:
    return shims.execute("SELECT tq_fire(%s, %s)", [name, tenant])[0][0]


def test_what_a_schedule_calls(shims: App, tenant: str, run: Callable[[], None]) -> None:
    functions.told.clear()
    made = schedule(
        "tests.compat.functions.at", n=3, name="s", hook=functions.heard, cluster="night",
        intended_date_kwarg="intended",
        schedule_type="D",
        next_run=datetime(2100, 1, 1, tzinfo=UTC), q_options={"timeout": 50},
    )  # fmt: skip
    id = fired(shims, "s", tenant)
    found = Result.of(id).fetch()
    assert (found.queue, found.group_id, found.schedule) == ("night", "s", "s")
    run()
    value = result(str(id))
    assert value[1] == 3
    assert datetime.fromisoformat(value[0]).utcoffset() is not None
    assert [task.result for task in functions.told] == [value]
    assert made.success() is True
    assert made.task == id.hex


def test_schedules_are_changed_and_deleted(shims: App) -> None:
    made = Schedule.objects.create(
        func="math.copysign",
        args="2, -2",
        kwargs="",
        schedule_type="D",
        repeats=3,
        next_run=datetime(2100, 1, 1, tzinfo=UTC),
    )
    mine = Schedule.objects.filter(func="math.copysign")
    assert (made.args, mine.count(), mine.first().repeats) == ((2, -2), 1, 3)
    found, new = Schedule.objects.update_or_create(name="n", defaults={"func": ADD, "args": "1", "schedule_type": "H"})
    assert (new, found.schedule_type) == (True, "H")
    found, new = Schedule.objects.update_or_create(name="n", defaults={"schedule_type": "W", "repeats": 0})
    assert (new, Schedule.objects.get(name="n").schedule_type, Schedule.objects.get(name="n").repeats) == (
        False,
        "W",
        0,
    )
    assert Schedule.objects.get_or_create(name="n", defaults={"func": ADD})[1] is False
    found.next_run = datetime(2100, 5, 5, tzinfo=UTC)
    found.repeats = -1
    found.save()
    assert Schedule.objects.get(name="n").next_run == found.next_run
    assert Schedule.objects.filter(func=ADD).delete() == 1
    assert made.delete() is True
    assert made.delete() is False
    assert not mine.exists()
