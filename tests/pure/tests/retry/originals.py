"""Prints how long other systems wait before the next attempt, by their own code: originals.tsv, which mod.rs compares with.

A line each: the system with its version, the policy that stands for it here, how many attempts there are at most
(0: any number), after which attempt, the least and the most seconds. What is random there is drawn at both of its ends.

    pip install celery==5.7.0 dramatiq==2.2.1 rq==3.0.0 procrastinate==3.10.0 huey==3.5.4 tenacity==9.2.1
    python3 originals.py > originals.tsv
"""

import itertools
import json
from datetime import datetime
from importlib.metadata import version
from types import SimpleNamespace
from unittest import mock

import celery.app.autoretry
import celery.utils.time
import dramatiq.common
import huey
import procrastinate
import rq.job
import tenacity
from dramatiq.middleware import Retries

ATTEMPTS = (1, 2, 3, 4, 5, 8, 10, 12, 17, 20, 25)


def row(system, policy, most, attempt, low, high):
    print(system, version(system), json.dumps(policy), most, attempt, f"{low:.6f}", f"{high:.6f}", sep="\t")


def compare(system, policy, wait, most=0, attempts=ATTEMPTS):
    """wait(attempt, end): after that attempt, with chance at its lower (0) or upper (1) end."""
    for attempt in attempts:
        row(system, policy, most, attempt, wait(attempt, 0), wait(attempt, 1))


def of_celery(**options):
    """What autoretry_for asks task.retry for."""

    def wait(attempt, end):
        asked = {}

        class Task:
            request = SimpleNamespace(retries=attempt - 1)
            max_retries = None

            def run(self):
                raise ValueError

            def retry(self, exc, **kwargs):
                asked.update(kwargs)
                return exc

        task = Task()
        celery.app.autoretry.add_autoretry_behaviour(task, autoretry_for=(ValueError,), **options)
        draw = (lambda n: n - 1) if end else (lambda n: 0)
        with mock.patch.object(celery.utils.time.random, "randrange", draw):
            try:
                task.run()
            except ValueError:
                pass
        return asked["countdown"]

    return wait


def of_dramatiq(**options):
    """What the middleware hands to the broker as a delay. It draws once, or a second time where that was too long."""

    def wait(attempt, end):
        delays = []
        actor = SimpleNamespace(options=options)
        broker = SimpleNamespace(get_actor=lambda name: actor, enqueue=lambda message, delay: delays.append(delay))
        for first, second in itertools.product((0, 0.25, 0.5, 0.75, 1), (0, 1)):
            message = SimpleNamespace(actor_name="a", message_id="m", options={"retries": attempt - 1})
            draws = iter((first, second))
            draw = lambda low, high: low + next(draws) * (high - low)
            with mock.patch.object(dramatiq.common, "uniform", draw):
                Retries(max_retries=1000).after_process_message(broker, message, exception=ValueError())
        return (max if end else min)(delays) / 1000

    return wait


def of_rq(most, interval):
    """What a job that was enqueued with retry=Retry(…) finds."""

    def wait(attempt, end):
        job = rq.job.Job.__new__(rq.job.Job)
        job.retry_intervals = rq.job.Retry(max=most - 1, interval=interval).intervals
        job.retries_left = most - attempt
        return job.get_retry_interval()

    return wait


def of_procrastinate(**waits):
    def wait(attempt, end):
        now = datetime(2026, 1, 1)
        job = SimpleNamespace(attempts=attempt - 1)
        with mock.patch("procrastinate.utils.utcnow", lambda: now):
            decided = procrastinate.RetryStrategy(**waits).get_retry_decision(exception=ValueError(), job=job)
        return (decided.retry_at - now).total_seconds()

    return wait


def of_huey(**options):
    """What each requeueing adds to the time."""

    def wait(attempt, end):
        queue = huey.MemoryHuey()
        task = queue.task(retries=100, **options)(lambda: None).s()
        now = datetime(2026, 1, 1)
        for _ in range(attempt):
            task.eta = None
            queue._requeue_task(task, now)
        return (task.eta - now).total_seconds() if task.eta else 0

    return wait


def of_tenacity(strategy):
    return lambda attempt, end: strategy(SimpleNamespace(attempt_number=attempt))


SHORT = (1, 2, 3, 4, 5, 8)

compare("celery", {"kind": "celery"}, of_celery(retry_backoff=True))
compare("celery", {"kind": "celery", "factor": 5}, of_celery(retry_backoff=5))
compare("celery", {"kind": "celery", "base": 5}, of_celery(retry_backoff=5))
compare("celery", {"kind": "celery", "jitter": 0}, of_celery(retry_backoff=True, retry_jitter=False))
compare("celery", {"kind": "celery", "factor": 3, "cap": 100}, of_celery(retry_backoff=3, retry_backoff_max=100))
compare("dramatiq", {"kind": "dramatiq"}, of_dramatiq())
compare("dramatiq", {"kind": "dramatiq", "base": 1, "cap": 5}, of_dramatiq(min_backoff=1000, max_backoff=5000))
compare("dramatiq", {"kind": "dramatiq", "base": 0.1, "cap": 3600}, of_dramatiq(min_backoff=100, max_backoff=3600000))
for most in (2, 3, 4, 5, 8):
    attempts = range(1, most)
    compare("rq", {"kind": "rq", "delays": [1, 2, 3]}, of_rq(most, [1, 2, 3]), most, attempts)
    compare("rq", {"kind": "rq", "base": 60}, of_rq(most, 60), most, attempts)
    compare("rq", {"kind": "rq"}, of_rq(most, 0), most, attempts)
compare("procrastinate", {"kind": "procrastinate"}, of_procrastinate())
compare("procrastinate", {"kind": "procrastinate", "base": 3}, of_procrastinate(wait=3))
compare("procrastinate", {"kind": "procrastinate", "linear": 3}, of_procrastinate(linear_wait=3))
compare("procrastinate", {"kind": "procrastinate", "factor": 3}, of_procrastinate(exponential_wait=3), attempts=SHORT)
compare(
    "procrastinate",
    {"kind": "procrastinate", "base": 7, "linear": 11, "factor": 2},
    of_procrastinate(wait=7, linear_wait=11, exponential_wait=2),
    attempts=SHORT,
)
compare("huey", {"kind": "fixed", "base": 10}, of_huey(retry_delay=10))
compare(
    "huey",
    {"kind": "exponential", "base": 10, "factor": 3, "cap": 1000000, "jitter": 0},
    of_huey(retry_delay=10, retry_backoff=3),
    attempts=SHORT,
)
compare(
    "tenacity",
    {"kind": "exponential", "base": 2, "factor": 3, "cap": 100, "jitter": 0},
    of_tenacity(tenacity.wait_exponential(multiplier=2, exp_base=3, max=100)),
)
compare("tenacity", {"kind": "linear", "base": 10, "factor": 0.5, "cap": 30}, of_tenacity(tenacity.wait_incrementing(10, 5, 30)))
