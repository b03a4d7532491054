"""The extension's views as models, for reading. They are unmanaged: no migration touches them. Each tenant sees its own
tasks, results and schedules; the views of all tenants show what the role may see.

The views are found by search_path: with the extension in another schema than public, that one is in
PG_EXTRA_SEARCH_PATHS.
"""

from __future__ import annotations

from typing import Any, NoReturn

from django.db import models

from ..errors import NotReady
from ..result import Result as TaskHandle

__all__ = ["FinishedTask", "Problem", "RunningTask", "Schedule", "Tenant", "UnfinishedTask", "Worker"]


class ListField(models.Field):  # type: ignore[misc]
    """A list, as the driver has it: for reading, and without django.contrib.postgres."""

    def db_type(self, connection: Any) -> str:
        return "text[]"


class ReadOnly(models.QuerySet):  # type: ignore[misc]
    """Of rows that calls change, and no UPDATE."""

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise NotReady(
            f"{self.model.__name__} is a view of the server's, and is read only",
            hint="Use task.enqueue(), or .handle of a task: cancel(), requeue(), update(), delete().",
        )

    update = delete = create = bulk_create = bulk_update = get_or_create = update_or_create = _refuse


class View(models.Model):  # type: ignore[misc]
    """What all of them are."""

    objects = ReadOnly.as_manager()

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        type(self).objects.all()._refuse()

    def delete(self, *args: Any, **kwargs: Any) -> None:
        type(self).objects.all()._refuse()


class Known(View):
    """What unfinished and finished tasks have in common."""

    id = models.UUIDField(primary_key=True)
    name = models.TextField(null=True)
    handler = models.TextField()
    state = models.TextField()
    reason = models.TextField(null=True)
    attempt = models.IntegerField()
    max_attempts = models.IntegerField(null=True)
    run_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField()
    queue = models.TextField(null=True)
    priority = models.IntegerField()
    schedule = models.TextField(null=True)
    scheduled_for = models.DateTimeField(null=True)
    group_id = models.TextField(null=True)
    enqueued_by = models.TextField(null=True)
    tenant = models.TextField()
    parent_id = models.UUIDField(null=True)
    error = models.JSONField(null=True)
    result = models.JSONField(null=True)
    args = models.JSONField(null=True)
    meta = models.JSONField(null=True)

    class Meta(View.Meta):
        abstract = True

    def __str__(self) -> str:
        return f"{self.name or self.handler} ({self.state})"

    @property
    def handle(self) -> TaskHandle:
        """By which it is cancelled, requeued, waited for …"""
        return TaskHandle.of(self.id, tenant=self.tenant)


class UnfinishedTask(Known):
    """tq_tasks: what waits or runs."""

    class Meta(Known.Meta):
        abstract = False
        managed = False
        db_table = "tq_tasks"
        verbose_name = "unfinished task"


class FinishedTask(Known):
    """tq_results: what has ended, as long as it is kept."""

    class Meta(Known.Meta):
        abstract = False
        managed = False
        db_table = "tq_results"
        verbose_name = "finished task"


class Schedule(View):
    """tq_schedules."""

    name = models.TextField(primary_key=True)
    handler = models.TextField()
    rule = models.TextField()
    enabled = models.BooleanField()
    next_run = models.DateTimeField(null=True)
    last_run = models.DateTimeField(null=True)
    last_status = models.TextField(null=True)
    problem = models.TextField(null=True)
    tz = models.TextField(null=True)
    kind = models.TextField()
    run_count = models.BigIntegerField()
    fail_count = models.BigIntegerField()
    repeats = models.IntegerField(null=True)
    after = ListField(null=True)
    tags = ListField(null=True)
    description = models.TextField(null=True)
    of_all = models.BooleanField()
    created_by = models.TextField(null=True)
    last_task = models.UUIDField(null=True)
    args = models.JSONField(null=True)

    class Meta(View.Meta):
        abstract = False
        managed = False
        db_table = "tq_schedules"

    def __str__(self) -> str:
        return f"{self.name}: {self.rule}"


class Tenant(View):
    """tq_tenants."""

    tenant = models.TextField(primary_key=True)
    status = models.TextField()
    reason = models.TextField(null=True)
    queued = models.BigIntegerField()
    running = models.IntegerField()
    lag = models.DurationField(null=True)
    eta = models.DurationField(null=True)
    next_due = models.DateTimeField(null=True)
    done = models.BigIntegerField()
    failed = models.BigIntegerField()
    retried = models.BigIntegerField()
    done_1m = models.BigIntegerField()
    failed_1m = models.BigIntegerField()
    weight = models.IntegerField()
    max_running = models.IntegerField(null=True)
    max_queued = models.IntegerField(null=True)
    owner = models.TextField()

    class Meta(View.Meta):
        abstract = False
        managed = False
        db_table = "tq_tenants"

    def __str__(self) -> str:
        return str(self.tenant)


class RunningTask(View):
    """tq_running: of all tenants."""

    id = models.UUIDField(primary_key=True)
    tenant = models.TextField()
    handler = models.TextField()
    attempt = models.IntegerField()
    state = models.TextField()
    since = models.DateTimeField(null=True)
    progress = models.FloatField(null=True)
    note = models.JSONField(null=True)
    wait_event = models.TextField(null=True)
    blocked_by = ListField(null=True)
    deadline = models.DateTimeField(null=True)
    worker = models.TextField(null=True)
    pid = models.IntegerField(null=True)
    role = models.TextField(null=True)
    xmin_age = models.IntegerField(null=True)
    listed = models.IntegerField(null=True)

    class Meta(View.Meta):
        abstract = False
        managed = False
        db_table = "tq_running"

    def __str__(self) -> str:
        return f"{self.handler} of {self.tenant}"


class Worker(View):
    """tq_workers: executors of the server, and sessions through which workers take."""

    pid = models.IntegerField(primary_key=True)
    kind = models.TextField()
    name = models.TextField(null=True)
    state = models.TextField()
    database = models.TextField(null=True)
    role = models.TextField(null=True)
    claims = models.IntegerField(null=True)
    handlers = models.TextField(null=True)
    host = models.TextField(null=True)
    since = models.DateTimeField(null=True)
    tasks_done = models.BigIntegerField(null=True)
    tasks_failed = models.BigIntegerField(null=True)

    class Meta(View.Meta):
        abstract = False
        managed = False
        db_table = "tq_workers"

    def __str__(self) -> str:
        return str(self.name or f"{self.kind} {self.pid}")


class Problem(View):
    """tq_problems: what stops or waits for somebody, and the call that mends it."""

    what = models.TextField(primary_key=True)
    since = models.DateTimeField(null=True)
    reason = models.TextField()
    fix = models.TextField(null=True)

    class Meta(View.Meta):
        abstract = False
        managed = False
        db_table = "tq_problems"

    def __str__(self) -> str:
        return str(self.what)
