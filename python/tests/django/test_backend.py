"""The backend for Django's tasks: what holds of Django's own backends, and what is tenant_q's."""

from __future__ import annotations

import dataclasses
import pickle
from datetime import datetime, timedelta

import pytest
from asgiref.sync import async_to_sync
from django.utils import timezone

from tenant_q import errors


@pytest.fixture
def dj(site):
    from tenant_q.django import _tasks

    return _tasks


@pytest.fixture
def backends(site):
    try:
        from django.tasks import task_backends
    except ImportError:
        from django_tasks import task_backends
    return task_backends


def test_which_backend_it_is(backends, dj):
    from shop import jobs

    from tenant_q.django import Backend

    assert isinstance(backends["default"], Backend)
    assert backends["default"].options == {} and backends["default"].alias == "default"
    assert isinstance(jobs.nothing, dj.DjangoTask)
    assert backends["default"].supports_defer and backends["default"].supports_get_result
    assert backends["default"].supports_priority and backends["default"].supports_async_task
    assert jobs.nothing.name == "nothing" and jobs.nothing.module_path == "shop.jobs.nothing"


@pytest.mark.parametrize("name", ["nothing", "nothing_async"])
def test_from_the_call_to_the_result(acme, work, dj, name):
    from shop import jobs

    task = getattr(jobs, name)
    result = task.enqueue(1, two=3)
    assert result.status == dj.TaskResultStatus.READY and not result.is_finished
    assert result.task == task and result.args == [1] and result.kwargs == {"two": 3} and result.attempts == 0
    with pytest.raises(ValueError, match="has not finished"):
        result.return_value  # noqa: B018
    assert [ran.state for ran in work()] == ["done"]
    result.refresh()
    assert result.status == dj.TaskResultStatus.SUCCESSFUL and result.is_finished
    assert result.enqueued_at <= result.started_at <= result.last_attempted_at <= result.finished_at
    assert result.return_value is None and result.attempts == 1 and result.errors == []
    again = task.get_result(result.id)
    assert (again.args, again.kwargs, again.task) == ([1], {"two": 3}, task)
    assert dataclasses.asdict(again)["worker_ids"] == result.worker_ids


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((), {}), ((1,), {}), ((1, 2), {}), ((), {"two": 2}), ((1,), {"two": 2}), ((), {"one": 1, "two": 2})],
)
def test_arguments_come_back_as_they_were_given(acme, work, args, kwargs):
    from shop import jobs

    for task in (jobs.answer, jobs.nothing):
        result = task.get_result(task.enqueue(*args, **kwargs).id)
        assert (tuple(result.args), result.kwargs) == (args, kwargs), task
    for task in (jobs.nothing_async,):
        result = task.get_result(task.enqueue([1], {"a": None}).id)
        assert result.args == [[1], {"a": None}]


def test_results(acme, work):
    from shop import jobs

    result = jobs.answer.enqueue()
    assert [ran.state for ran in work()] == ["done"]
    result.refresh()
    assert result.return_value == 42
    assert jobs.answer.get_result(result.id).return_value == 42


def test_coroutines(acme, work, dj):
    from shop import jobs

    result = async_to_sync(jobs.counts.aenqueue)()
    assert result.status == dj.TaskResultStatus.READY
    assert [ran.state for ran in work()] == ["done"]
    async_to_sync(result.arefresh)()
    assert result.return_value == 1
    assert async_to_sync(jobs.counts.aget_result)(result.id).return_value == 1


@pytest.mark.parametrize(
    ("name", "kind", "text"),
    [("raises", ValueError, "This task has failed"), ("exits", SystemExit, "This task exits")],
)
def test_failures(acme, work, dj, name, kind, text):
    from shop import jobs

    result = getattr(jobs, name).enqueue()
    assert [ran.state for ran in work()] == ["failed"]
    result.refresh()
    assert result.status == dj.TaskResultStatus.FAILED and result.is_finished
    with pytest.raises(ValueError, match="Task failed"):
        result.return_value  # noqa: B018
    [error] = result.errors
    assert error.exception_class is kind
    assert error.traceback.endswith(f"{kind.__name__}: {text}\n"), error.traceback
    assert result.enqueued_at <= result.started_at <= result.finished_at


def test_odd_failures(acme, work):
    from shop import jobs

    result = jobs.raises_odd.enqueue()
    work()
    result.refresh()
    assert result.errors[0].exception_class is ValueError
    assert 'ValueError(ValueError("This task has failed"))' in result.errors[0].traceback
    result = jobs.returns_odd.enqueue()
    work()
    result.refresh()
    assert result.errors[0].exception_class is TypeError and "Unsupported type" in result.errors[0].traceback
    assert result._return_value is None


def test_each_attempt_has_its_error(acme, work, dj):
    from shop import jobs

    result = jobs.raises_twice.enqueue()
    assert [ran.state for ran in work(n=1)] == ["retrying"]
    result.refresh()
    assert result.status == dj.TaskResultStatus.READY and result.attempts == 1 and len(result.errors) == 1
    assert [ran.state for ran in work(n=1, wait=5)] == ["failed"]
    result.refresh()
    assert result.attempts == 2 and [each.exception_class for each in result.errors] == [ValueError] * 2
    assert result.started_at < result.last_attempted_at


def test_what_is_no_json_is_refused(acme, query):
    from shop import jobs
    from shop.models import Order

    for value in (datetime.now(), object(), {1, 2}):
        with pytest.raises(TypeError, match="Unsupported type"):
            jobs.nothing.enqueue(value)
        with pytest.raises(TypeError, match="Unsupported type"):
            async_to_sync(jobs.nothing.aenqueue)(value)
    with pytest.raises(errors.ModelCannotTravel, match="Unsupported type") as caught:
        jobs.nothing.enqueue(Order(total=1))
    assert "Pass its key" in caught.value.hint
    with pytest.raises(errors.ArgumentsDoNotFit):
        jobs.answer.enqueue(three=3)
    assert query("SELECT count(*) FROM tq_tasks") == [(0,)]


def test_priority_queue_and_time(acme, query, dj):
    from shop import jobs

    later = timezone.now() + timedelta(days=1)
    result = jobs.nothing.using(priority=-100, queue_name="mail", run_after=later).enqueue()
    assert query("SELECT priority, queue, state, run_at FROM tq_tasks WHERE id = %s", result.id) == [
        (-100, "mail", "delayed", later)
    ]
    again = jobs.nothing.get_result(result.id)
    assert again.task == jobs.nothing.using(priority=-100, queue_name="mail", run_after=later)
    assert again == result or again.task == result.task
    # What is declared with the task is the handler's, and holds in SQL, too.
    result = jobs.answer.enqueue()
    assert query("SELECT priority, queue FROM tq_tasks WHERE id = %s", result.id) == [(7, "mail")]
    plain = jobs.answer.using(priority=0, queue_name="default").enqueue()
    assert query("SELECT priority, queue FROM tq_tasks WHERE id = %s", plain.id) == [(0, "default")]


def test_the_higher_priority_comes_first(acme, work):
    from shop import jobs

    ids = [jobs.nothing.using(priority=n).enqueue(n).id for n in (-100, 0, 100)]
    assert [ran.id for ran in work()] == ids[::-1]


def test_what_makes_no_sense(dj, backends):
    from shop import jobs

    for priority in (-101, 101, 3.1):
        with pytest.raises(dj.InvalidTask, match="whole number between -100 and 100"):
            jobs.nothing.using(priority=priority)
    for priority in (-100, 0, 100):
        jobs.nothing.using(priority=priority)
    with pytest.raises(dj.InvalidTask, match="aware datetime"):
        jobs.nothing.using(run_after=datetime.now())
    with pytest.raises(dj.InvalidTask, match="Queue 'unknown' is not valid"):
        jobs.nothing.using(queue_name="unknown")
    assert jobs.nothing.using(queue_name="unknown", backend="any").queue_name == "unknown"
    for function in (any, test_what_makes_no_sense.__get__(1), lambda: None):
        with pytest.raises(dj.InvalidTask, match="module level"):
            type(jobs.nothing)(func=function, priority=0, backend="default", queue_name="default", run_after=None)
    with pytest.raises(dj.InvalidTask, match="first argument of 'context'"):
        dataclasses.replace(jobs.answer, takes_context=True)


def test_queues_are_looked_at_when_it_is_enqueued(acme, dj):
    from django.test import override_settings
    from shop import jobs

    other = jobs.nothing.using(queue_name="unknown", backend="any")
    with override_settings(TASKS={"any": {"BACKEND": "tenant_q.django.Backend", "QUEUES": ["mail"]}}):
        with pytest.raises(dj.InvalidTask, match="Queue 'unknown'"):
            other.enqueue()
        with pytest.raises(dj.InvalidTask, match="Queue 'unknown'"):
            async_to_sync(other.aenqueue)()


def test_using_makes_another_one(dj):
    from shop import jobs

    again = jobs.nothing.using()
    assert again == jobs.nothing and again is not jobs.nothing
    assert jobs.nothing.using(priority=5).using(queue_name="mail").priority == 5
    assert jobs.nothing.priority == 0
    assert jobs.answer.call() == 42
    assert async_to_sync(jobs.nothing_async.acall)() is None


def test_results_that_are_not_there(acme, dj):
    from shop import jobs, tasks

    for missing in ("123", "01900000-0000-7000-8000-000000000001"):
        with pytest.raises(dj.TaskResultDoesNotExist):
            jobs.nothing.get_result(missing)
        with pytest.raises(dj.TaskResultDoesNotExist):
            async_to_sync(jobs.nothing.aget_result)(missing)
    result = jobs.nothing_async.enqueue()
    with pytest.raises(dj.TaskResultMismatch, match="does not match"):
        jobs.nothing.get_result(result.id)
    with pytest.raises(dj.TaskResultMismatch):
        jobs.nothing.get_result(str(tasks.digest.enqueue().id))


def test_another_tenants_result_is_not_there(acme, globex, dj):
    from shop import jobs

    result = jobs.nothing.enqueue()
    with acme, pytest.raises(dj.TaskResultDoesNotExist):
        jobs.nothing.get_result(result.id)
    jobs.nothing.get_result(result.id)


def test_public_is_refused(site):
    from shop import jobs

    with pytest.raises(errors.NoTenant):
        jobs.nothing.enqueue()


def test_context(acme, work, dj):
    from shop import jobs

    result = jobs.own_id.enqueue()
    other = jobs.own_attempt.enqueue(1)
    assert [ran.state for ran in work()] == ["done", "done"]
    result.refresh()
    other.refresh()
    assert result.return_value == result.id
    assert other.return_value == [1, "acme", 1]
    assert issubclass(jobs.seen[0], dj.TaskContext)


def test_signals_and_logs(acme, work, dj, caplog):
    from shop import jobs

    caplog.set_level("DEBUG")
    heard = []

    def hear(name):
        def receiver(sender, task_result, **kwargs):
            heard.append((name, sender.__name__, task_result.id, task_result.status.name))

        return receiver

    receivers = {name: hear(name) for name in ("task_enqueued", "task_started", "task_finished")}
    for name, receiver in receivers.items():
        getattr(dj, name).connect(receiver)
    try:
        good, bad = jobs.nothing.enqueue(), jobs.raises.enqueue()
        work()
    finally:
        for name, receiver in receivers.items():
            getattr(dj, name).disconnect(receiver)
    assert heard == [
        ("task_enqueued", "Backend", good.id, "READY"),
        ("task_enqueued", "Backend", bad.id, "READY"),
        ("task_started", "Backend", good.id, "RUNNING"),
        ("task_finished", "Backend", good.id, "SUCCESSFUL"),
        ("task_started", "Backend", bad.id, "RUNNING"),
        ("task_finished", "Backend", bad.id, "FAILED"),
    ]
    said = [each for each in caplog.records if each.name in ("django.tasks", "django_tasks")]
    assert [each.levelname for each in said if each.levelname != "DEBUG"] == ["INFO", "INFO", "INFO", "ERROR"]
    assert said[-1].exc_info and said[-1].exc_info[0] is ValueError


def test_it_is_enqueued_with_the_transaction(acme, query):
    from django.db import transaction
    from shop import jobs

    with transaction.atomic():
        jobs.nothing.enqueue()
        transaction.set_rollback(True)
    assert query("SELECT count(*) FROM tq_tasks") == [(0,)]


def test_more_than_django_has(acme, work, query, site):
    from shop import jobs

    from django import VERSION
    from tenant_q.django.backend import TenantTask, handler_of

    made = TenantTask(
        func=jobs.answer.func,
        timeout=60,
        max_attempts=2,
        priority=0,
        backend="default",
        queue_name="default",
        run_after=None,
    )
    assert made.timeout == 60
    assert handler_of(jobs.answer).handler_document()["queue"] == "mail"
    assert handler_of(made) is handler_of(jobs.answer), "the handler is as it was declared"
    if VERSION >= (6, 1):
        from django.tasks import task

        declared = task(max_attempts=4, retry_on=(KeyError,), timeout="1 minute")(jobs.own_id.func)
        assert declared.max_attempts == 4


def test_pickle(acme):
    from shop import jobs

    from django import VERSION

    if VERSION >= (6, 1):
        assert pickle.loads(pickle.dumps(jobs.answer)) == jobs.answer
        result = jobs.answer.enqueue()
        assert pickle.loads(pickle.dumps(result)) == result


def test_a_schedule_of_it(acme, app, work):
    from shop import jobs

    from tenant_q import Schedule
    from tenant_q.django.backend import handler_of

    schedule = Schedule("answers", handler_of(jobs.answer), "0 3 * * *", (1,), declare=False)
    assert schedule.document()["handler"] == "shop.jobs.answer"


def test_immediate(acme, query, dj):
    from shop import jobs
    from shop.models import Order

    from tenant_q.testing import immediate

    order = Order.objects.create(total=1)
    with immediate():
        result = jobs.invoice.enqueue(order.pk)
        bad = jobs.raises.enqueue()
    assert result.status == dj.TaskResultStatus.SUCCESSFUL and result.args == [order.pk]
    assert bad.status == dj.TaskResultStatus.FAILED and bad.errors[0].exception_class is ValueError
    order.refresh_from_db()
    assert order.invoiced
    assert query("SELECT count(*) FROM tq_tasks") == [(0,)]
