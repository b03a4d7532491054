"""What Django's settings say to the shims, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SITE = """
import sys
import django
from django.conf import settings

settings.configure(
    INSTALLED_APPS=[],
    TIME_ZONE="Europe/Berlin",
    Q_CLUSTER={"name": "shop", "max_attempts": 9, "orm": "default"},
    RQ_QUEUES={"slow": {"HOST": "redis", "DEFAULT_TIMEOUT": 360}, "here": {"ASYNC": False}},
    TENANT_Q={"CALLABLE": ["tests.compat.functions"]},
)
django.setup()
from tenant_q import App, Result
from tenant_q.compat import Unsupported, django_rq
from tenant_q.compat.django_q import Schedule, ScheduleExists, async_task, schedule
from tenant_q.errors import NotAllowed
from tenant_q.testing import run_pending
from django.db import IntegrityError
from tests.compat import functions

app = App(tenant=sys.argv[1])
app.sync()
id = async_task("tests.compat.functions.add", 1)
assert Result.of(id).fetch().max_attempts == 9
try:
    async_task("os.system", "true")
except NotAllowed:
    pass
else:
    raise AssertionError("os.system may be called")
schedule(functions.add, 1, name="s", schedule_type=Schedule.CRON, cron="0 2 * * *")
try:
    schedule(functions.add, 1, name="s", schedule_type=Schedule.CRON, cron="0 2 * * *")
except IntegrityError as error:
    assert isinstance(error, ScheduleExists)
assert Schedule.objects.get(name="s").next_run.astimezone().tzinfo is not None
slow = django_rq.get_queue("slow")
job = slow.enqueue(functions.add, 5)
plain = django_rq.enqueue(functions.add, 6)
decorated = django_rq.job("slow", timeout=5)(functions.later).delay(4)
bare = django_rq.job(functions.rest).delay(1)
assert django_rq.get_queue("here").enqueue(functions.add, 7).result == 8
assert (slow._default_timeout, job.origin, decorated.origin, bare.origin) == (360, "slow", "slow", "default")
assert django_rq.get_scheduler("slow").queue.name == "slow"
for call in (django_rq.get_connection, django_rq.get_worker):
    try:
        call("slow")
    except Unsupported:
        pass
    else:
        raise AssertionError(call)
while run_pending(app, wait=0.2):
    pass
assert [each.return_value(True) for each in (job, plain, decorated, bare)] == [6, 7, 8, [[1], {}]]
print("ALL WELL")
"""


def test_settings(tenant: str) -> None:
    pytest.importorskip("django")
    done = subprocess.run(
        [sys.executable, "-c", SITE, tenant],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "ALL WELL" in done.stdout, done.stdout + done.stderr
