"""Asks other systems themselves for what docs/coming-from.md says of them, by their own code.

tests/pg_regress/sql/coming_from.sql asks for what it says of this side.
"""

import inspect
from datetime import datetime, timedelta, timezone
from importlib.resources import files
from types import SimpleNamespace
from unittest import mock


def source(of):
    return inspect.getsource(of)


def django_q():
    import django
    from django.conf import settings

    settings.configure(
        SECRET_KEY="x",
        USE_TZ=True,
        INSTALLED_APPS=["django.contrib.contenttypes", "django_q"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        Q_CLUSTER={"orm": "default", "timeout": 10},
    )
    django.setup()
    from django.core.management import call_command
    from django.utils import timezone as django_timezone
    from django_q import monitor, scheduler
    from django_q.conf import Conf
    from django_q.models import Schedule, Task
    from django_q.tasks import count_group, result, schedule

    call_command("migrate", verbosity=0)
    assert (Conf.CATCH_UP, Conf.RETRY, Conf.MAX_ATTEMPTS, Conf.ACK_FAILURES, Conf.SAVE_LIMIT) == (True, 60, 0, False, 250)
    # At once, and then daily.
    daily = schedule("math.copysign", 1, -1, schedule_type=Schedule.DAILY)
    assert daily.next_run <= django_timezone.now()
    sent = []
    with mock.patch.object(scheduler, "async_task", lambda *args, **kwargs: sent.append(kwargs) or "id"):
        scheduler.scheduler(broker=SimpleNamespace())
    assert len(sent) == 1 and sent[0]["q_options"]["group"] == daily.id
    # The 31st becomes the 28th, and stays it; missed cron times are none.
    monthly = Schedule(func="f", schedule_type=Schedule.MONTHLY, next_run=datetime(2027, 1, 31, 10, tzinfo=timezone.utc))
    first = monthly.calculate_next_run()
    assert (first.day, monthly.calculate_next_run(first).day) == (28, 28)
    cron = Schedule(func="f", schedule_type=Schedule.CRON, cron="* * * * *")
    assert cron.calculate_next_run(datetime(2001, 1, 1, tzinfo=timezone.utc)) > django_timezone.now() - timedelta(seconds=1)
    # A failed task: its result is a text, its hook is called each time, post_execute too; count_group counts it.
    hooked, told = [], []
    django_q.hook = hooked.append
    from django_q.signals import post_execute

    post_execute.connect(lambda **seen: told.append(seen["task"]["success"]), weak=False)
    package = {"id": "f" * 32, "name": "n", "func": "f", "args": (), "kwargs": {}, "group": "g", "started": django_timezone.now()}
    failed = {**package, "stopped": django_timezone.now(), "result": "no : Traceback", "success": False, "ack_id": None}
    module = SimpleNamespace(hook=lambda task: hooked.append(task.success))
    with mock.patch("importlib.import_module", lambda name: module):
        for _ in range(2):
            monitor.monitor(SimpleNamespace(get=iter([{**failed, "hook": "m.hook"}, "STOP"]).__next__), broker=SimpleNamespace())
        assert hooked == [False, False] and told == [False, False]
        unsaved = {**failed, "id": "e" * 32, "success": True, "save": False, "hook": "m.hook", "chain": [("f",)]}
        with mock.patch.object(monitor, "async_chain") as chain:
            monitor.save_task(unsaved, SimpleNamespace())
        assert hooked == [False, False] and not chain.called and not Task.objects.filter(id="e" * 32).exists()
    assert result("f" * 32) == "no : Traceback" and count_group("g") == 1


def celery():
    from celery import Celery, Task, chain, chord
    from celery.schedules import crontab
    from kombu.transport import redis

    app = Celery(broker="memory://", backend="cache+memory://")
    app.conf.task_always_eager = True

    @app.task
    def pair(a, b):
        return [a, b]

    @app.task
    def callback(results, *others):
        return results

    calls = []

    @app.task
    def bad():
        calls.append(1)
        raise ValueError

    assert chain(pair.s(1, 2), pair.s(3))().get() == [[1, 2], 3]
    assert chord([pair.s(1, 2), pair.s(3, 4)], callback.s())().get() == [[1, 2], [3, 4]]
    assert pair.chunks([(1, 2), (3, 4), (5, 6)], 2)().get() == [[[1, 2], [3, 4]], [[5, 6]]]
    assert "return [task(item) for item in it]" in source(__import__("celery.app.builtins", fromlist=["x"]).add_map_task)
    assert bad.delay().failed() and calls == [1]
    assert str(app.timezone) == "UTC" and Task.acks_late is None and Task.rate_limit is None and Task.time_limit is None
    both = crontab(0, 0, day_of_month="13", day_of_week="fri", app=app)
    at = datetime(2027, 1, 1, tzinfo=timezone.utc)
    assert at + both.remaining_delta(at)[1] == datetime(2027, 8, 13, tzinfo=timezone.utc)
    assert redis.Channel.priority_steps == sorted(redis.Channel.priority_steps)


def rq():
    import rq as package
    from rq.defaults import DEFAULT_FAILURE_TTL, DEFAULT_RESULT_TTL
    from rq.job import Job
    from rq.worker.base import BaseWorker
    from rq_scheduler import Scheduler
    from rq_scheduler.utils import get_next_scheduled_time

    assert (package.Queue.DEFAULT_TIMEOUT, DEFAULT_RESULT_TTL, DEFAULT_FAILURE_TTL) == (180, 500, 365 * 86400)
    assert not Job.should_retry.fget(SimpleNamespace(retries_left=None))
    # The failure callback comes before anybody asks whether to retry.
    text = source(BaseWorker._finalize_failure)
    assert text.index("execute_failure_callback") < text.index("handle_job_failure")
    assert inspect.signature(Job.cancel).parameters["enqueue_dependents"].default is False
    # So many runs in all, each counted from when the last one was enqueued; cron in UTC.
    job = SimpleNamespace(meta={"interval": 60, "repeat": 2}, id="j", func_name="f", origin="q", enqueue_at_front=False)
    runs = []
    connection = mock.Mock()
    queue = SimpleNamespace(enqueue_job=lambda *args, **kwargs: runs.append(1))
    this = SimpleNamespace(log=mock.Mock(), connection=connection, scheduled_jobs_key="k", get_queue_for_job=lambda job: queue)
    for _ in range(2):
        Scheduler.enqueue_job(this, job)
    assert len(runs) == 2 and connection.zadd.call_count == 1
    assert get_next_scheduled_time("0 2 * * *").hour == 2


def procrastinate():
    from procrastinate import App, testing

    app = App(connector=testing.InMemoryConnector())
    assert app.task(lambda: None, name="t").retry_strategy is None
    schema = files("procrastinate").joinpath("sql/schema.sql").read_text()
    assert "(queueing_lock) WHERE status = 'todo'" in schema, "a lock of what waits"
    fetch = schema.split("FUNCTION procrastinate_fetch_job_v2")[1].split("$$;")[0]
    before = fetch.split("NOT EXISTS")[1].split("AND jobs.status")[0]
    assert "other_jobs.id < jobs.id" in before and "scheduled_at" not in before, "one for later keeps those behind it waiting"
    assert "ORDER BY jobs.priority DESC" in fetch


def dramatiq():
    import dramatiq as package
    from dramatiq.middleware import Pipelines, Retries, TimeLimit
    from dramatiq.worker import _WorkQueueItem

    assert Retries().max_retries == 20 and TimeLimit().time_limit == 600_000
    assert _WorkQueueItem(0, None) < _WorkQueueItem(1, None), "lower first"
    assert "args=next_message.args + (result,)" in source(Pipelines)
    assert "raise RateLimitExceeded" in source(package.rate_limits.RateLimiter)


def wakaq():
    from wakaq import Queue, WakaQ, worker

    app = WakaQ(queues=[Queue("low", priority=9), Queue("high", priority=1)])
    assert [queue.name for queue in app.queues] == ["high", "low"] and app.max_retries == 0
    text = source(worker.Worker)
    assert text.count("if exception_in_chain(e, SoftTimeout):\n" + " " * 28 + "    retry += 1") == 1
    assert text.count("if exception_in_chain(e, SoftTimeout):\n" + " " * 24 + "retry += 1") == 1


for ask in (django_q, celery, rq, procrastinate, dramatiq, wakaq):
    ask()
    print("as told:", ask.__name__)
