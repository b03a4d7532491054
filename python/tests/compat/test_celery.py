"""Celery and tenant-schemas-celery, beyond the small app."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tenant_q import App, current
from tenant_q.compat import Unsupported
from tenant_q.compat.celery import Celery, CeleryApp, Task, TenantTask, chain, chunks, group, shared_task, signature
from tenant_q.compat.celery.exceptions import (
    NotRegistered,
    Reject,
    SoftTimeLimitExceeded,
    TaskRevokedError,
    TimeoutError,
)
from tenant_q.compat.celery.result import AsyncResult, GroupResult
from tenant_q.compat.celery.schedules import crontab, schedule, solar
from tenant_q.compat.celery.soft_limit import soft_limit
from tenant_q.errors import ArgumentsDoNotFit, DoesNotFit, TaskNotKept
from tenant_q.result import Result
from tenant_q.schedules import _declared, prepare
from tenant_q.testing import run_pending

from . import harness

celery = Celery("tests")
log: list[Any] = []


@celery.task(name="c.add")
def add(x: int, y: int = 0) -> int:
    return x + y


@celery.task(name="c.fail")
def fail(text: str = "no luck") -> None:
    raise ValueError(text)


@celery.task(
    name="c.options",
    queue="mail",
    priority=4,
    rate_limit="10/m",
    time_limit=60,
    ignore_result=True,
    acks_late=True,
    max_retries=5,
    track_started=True,
    serializer="json",
    expires=600,
    lock="one",
)
def options() -> int:
    return 1


@celery.task(name="c.rejects")
def rejects(requeue: bool) -> None:
    log.append("rejected")
    raise Reject("not mine", requeue=requeue and log.count("rejected") < 3)


@celery.task(name="c.progress", bind=True)
def progress(self: Task) -> Any:
    self.update_state(state="HALF", meta={"current": 1, "total": 2})
    found = AsyncResult(self.request.id)
    log.append([found.state, found.info, Result.of(self.request.id).progress])
    return self.request.headers


@celery.task(name="c.forever", bind=True, max_retries=None, default_retry_delay=0)
def forever(self: Task, times: int) -> int:
    if self.request.retries < times:
        self.retry()
    return self.request.retries


@celery.task(
    name="c.moody",
    autoretry_for=(Exception,),
    dont_autoretry_for=(KeyError,),
    retry_backoff=2,
    retry_jitter=False,
    max_retries=1,
)
def moody(kind: str) -> None:
    raise {"key": KeyError, "os": OSError}[kind](kind)


@celery.task(name="c.retries_wrongly", bind=True, default_retry_delay=0)
def retries_wrongly(self: Task, words: dict[str, Any]) -> None:
    self.retry(**words)


@celery.task(name="c.slow", soft_time_limit=0.05)
def slow() -> str:
    try:
        while True:
            time.sleep(0.01)
    except SoftTimeLimitExceeded:
        return "soft"


class Heard(celery.task_cls):  # type: ignore[misc, name-defined]
    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        log.append(["before", task_id])

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        log.append(["success", retval, task_id])

    def on_failure(self, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        log.append(["failure", str(exc), task_id, list(args), "bad" in str(einfo)])

    def after_return(self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        log.append(["after", status])


@celery.task(name="c.heard", base=Heard)
def heard(fails: bool) -> str:
    if fails:
        raise ValueError("bad")
    return "good"


class Whole(Task):
    name = "c.whole"

    def run(self, n: int) -> int:
        return n * 3


whole = celery.register_task(Whole())


@shared_task(base=TenantTask, bind=True, name="c.schema")
def schema(self: Task) -> list[Any]:
    return [self.request.tenant, current().app.execute("SELECT current_schema()")[0][0]]


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    log.clear()
    celery.set_current()
    yield
    celery.conf.task_always_eager = False


def row(result: Any) -> Any:
    return Result.of(result.id).fetch()


def get(result: Any, run: Callable[[], None]) -> Any:
    run()
    return result.get(timeout=5)


def test_every_option_is_a_word_of_tenant_q(shims: App, run: Callable[[], None]) -> None:
    document = options.made.handler_document()
    assert {key: document[key] for key in ("queue", "priority", "rate", "max_attempts", "save")} == {
        "queue": "mail", "priority": 4, "rate": "10/m", "max_attempts": 6, "save": False,
    }  # fmt: skip
    result = options.delay()
    found = row(result)
    assert (found.queue, found.priority) == ("mail", 4)
    run()
    assert (result.get(), AsyncResult(result.id).state) == (None, "PENDING"), "nothing is kept"
    assert add.made.handler_document()["max_attempts"] == 4
    assert forever.made.handler_document()["max_attempts"] == 0


def test_every_option_of_a_call(shims: App) -> None:
    eta = datetime(2100, 1, 1, 12, tzinfo=UTC)
    found = row(
        add.apply_async(
            (1,), eta=eta, priority=7, queue="q", shadow="shown", headers={"trace": "1"}, time_limit=5, retry=False
        )
    )
    assert (found.run_at, found.priority, found.queue, found.name, found.meta) == (
        eta,
        7,
        "q",
        "shown",
        {"headers": {"trace": "1"}},
    )
    naive = row(add.apply_async((1,), eta=datetime(2100, 1, 1, 12)))
    assert naive.run_at == eta, "a moment without a zone is in UTC"
    berlin = Celery("berlin", timezone="Europe/Berlin")
    assert berlin.aware(datetime(2100, 1, 1, 13)) == eta
    celery.set_current()
    later = row(add.apply_async((1,), countdown=3600))
    assert timedelta(minutes=59) < later.run_at - later.created_at < timedelta(minutes=61)
    assert row(add.apply_async((1,), queue="celery")).queue == "default"
    custom = add.apply_async((1,), task_id="my-own-id")
    assert (custom.id, AsyncResult("my-own-id").state) == ("my-own-id", "PENDING")


def test_expires_counts_from_the_call(shims: App, run: Callable[[], None]) -> None:
    gone = add.apply_async((1,), countdown=10, expires=5)
    past = add.apply_async((1,), expires=datetime.now(UTC) - timedelta(hours=1))
    fine = add.apply_async((1,), expires=timedelta(hours=1))
    run_pending(shims)
    with shims.connect() as connection:
        connection.execute(
            "SELECT count(*) FROM tq_drain_take(as_of => now() + interval '1 minute', tenant => %s)", [row(gone).tenant]
        )
    assert fine.get(timeout=5) == 1
    assert (past.state, AsyncResult(gone.id).state) == ("REVOKED", "REVOKED")
    with pytest.raises(TaskRevokedError):
        past.get(timeout=1)


UNSUPPORTED_IN_A_CALL = {
    "serializer": "pickle", "compression": "zlib", "routing_key": "x", "exchange": "x", "producer": object(),
    "connection": object(), "publisher": object(), "router": object(), "reply_to": "x", "correlation_id": "x",
    "chord": object(), "chain": [1], "group_id": "x", "retries": 3, "stamped_headers": ["x"], "soft_time_limit": 5,
    "task_type": "x", "message_ttl": 3, "nobody": 1,
}  # fmt: skip


@pytest.mark.parametrize("word", UNSUPPORTED_IN_A_CALL)
def test_unsupported_keywords_of_a_call(shims: App, tenant: str, word: str) -> None:
    with pytest.raises(Unsupported) as caught:
        add.apply_async((1,), **{word: UNSUPPORTED_IN_A_CALL[word]})
    assert isinstance(caught.value, TypeError)
    assert caught.value.hint
    assert shims.execute("SELECT tq_queue_size(tenant => %s)", [tenant])[0][0] == 0


@pytest.mark.parametrize(
    "word", ["backend", "compression", "Strategy", "Request", "exchange", "routing_key", "serializer"]
)
def test_unsupported_keywords_of_a_task(word: str) -> None:
    with pytest.raises(Unsupported) as caught:
        celery.task(name=f"c.no_{word}", **{word: "pickle"})(lambda: 1)
    assert caught.value.hint


@pytest.mark.parametrize("words", [{"args": [1]}, {"kwargs": {"x": 1}}, {"queue": "x"}, {"max_retries": 9}])
def test_unsupported_keywords_of_retry(shims: App, words: dict[str, Any]) -> None:
    result = retries_wrongly.delay(words)
    harness.runner(shims)()
    with pytest.raises(Unsupported):
        result.get(timeout=1)


def test_what_else_is_unsupported(shims: App) -> None:
    for call in (
        lambda: Celery("x", tasks=object()),
        lambda: crontab(nowfun=time.time),
        lambda: schedule(10, relative=True),
        lambda: add.replace(add.s(1)),
        lambda: add.update_state(state="X"),
        lambda: add.delay.__self__.retry(),
        lambda: chain(add.s(1), 5),
        lambda: add.apply_async((1,), link=chain(add.s(), add.s())),
        lambda: group(add.s(1).set(task_id="01234567-0000-4000-8000-00000000abcd")).delay(),
    ):
        with pytest.raises(Unsupported):
            call()


def test_arguments_are_checked_where_they_are_enqueued(shims: App) -> None:
    for call in (
        lambda: add.delay(),
        lambda: add.delay(1, 2, 3),
        lambda: chain(add.s(1), add.s(1, 2)).delay(),
        lambda: add.delay(z=1),
    ):
        with pytest.raises(ArgumentsDoNotFit):
            call()
    with pytest.raises(NotRegistered):
        _ = signature("c.nobody").type
    with pytest.raises(TaskNotKept):
        AsyncResult("01234567-0000-4000-8000-00000000abcd").get(timeout=1)
    assert (AsyncResult("nobody").state, AsyncResult("nobody").ready()) == ("PENDING", False)
    with pytest.raises(TimeoutError):
        add.delay(1).get(timeout=0.01)


def test_retries(shims: App, run: Callable[[], None]) -> None:
    assert get(forever.delay(6), run) == 6
    key, os = moody.delay("key"), moody.delay("os")
    run()
    assert key.state == "FAILURE"
    assert (os.state, AsyncResult(os.id).retries) == ("RETRY", 0)
    found = row(os)
    assert timedelta(seconds=1) < found.run_at - datetime.now(UTC) <= timedelta(seconds=2)
    put_back = rejects.delay(True)
    run()
    assert (put_back.state, log.count("rejected"), row(put_back).attempt) == ("FAILURE", 3, 1)


def test_progress_and_headers(shims: App, run: Callable[[], None]) -> None:
    result = progress.apply_async(headers={"user": "x"})
    assert get(result, run) == {"user": "x"}
    assert log == [["HALF", {"current": 1, "total": 2}, (0.5, {"state": "HALF", "meta": {"current": 1, "total": 2}})]]


def test_soft_time_limit(shims: App, run: Callable[[], None]) -> None:
    assert get(slow.delay(), run) == "soft"
    with soft_limit(60):
        pass
    # One that is sent just as the block ends arrives in it, or never.
    for _ in range(50):
        try:
            with soft_limit(0.002):
                time.sleep(0.002)
        except SoftTimeLimitExceeded:
            pass
    end = time.monotonic() + 0.05
    while time.monotonic() < end:
        pass


def test_a_class_is_told_of_its_tasks(shims: App, run: Callable[[], None]) -> None:
    good, bad = heard.delay(False), heard.delay(True)
    run()
    assert [each for each in log if good.id in each] == [["before", good.id], ["success", "good", good.id]]
    assert ["failure", "bad", bad.id, [True], True] in log
    assert [each[1] for each in log if each[0] == "after"] == ["SUCCESS", "FAILURE"]
    assert get(whole.delay(2), run) == 6
    assert whole(2) == 6


def test_revoke_and_forget(shims: App, run: Callable[[], None]) -> None:
    result = add.delay(1)
    result.revoke()
    assert (result.state, result.ready()) == ("REVOKED", True)
    with pytest.raises(TaskRevokedError):
        result.get()
    done = add.delay(1)
    run()
    assert (done.date_done is not None, done.name, done.queue, done.kwargs) == (
        True,
        "c.add",
        "default",
        {"x": 1},
    )
    done.forget()
    assert done.state == "PENDING"


def test_groups_are_restored_and_chunks_and_maps(shims: App, run: Callable[[], None]) -> None:
    result = group(add.s(n) for n in range(3)).apply_async(priority=2)
    run()
    again = GroupResult.restore(result.id)
    assert again is not None
    assert (again.get(timeout=5), GroupResult.restore("nobody")) == ([0, 1, 2], None)
    assert get(add.chunks([(1, 1), (2, 2), (3, 3)], 2).apply_async(), run) == [[2, 4], [6]]
    assert get(add.map([1, 2]).apply_async(), run) == [1, 2]
    assert get(add.starmap([(1, 2), (3, 4)]).delay(), run) == [3, 7]
    assert isinstance(add.chunks([(1,)], 1), chunks)
    assert group([]).apply_async().get(timeout=5) == []


def test_always_eager(shims: App, tenant: str) -> None:
    celery.conf.task_always_eager = True
    assert add.delay(1, 2).get() == 3
    assert chain(add.s(1), add.s(2))().get() == 3
    assert group(add.s(1), add.s(2)).delay().get() == [1, 2]
    assert fail.delay().failed()
    celery.conf.task_eager_propagates = True
    with pytest.raises(ValueError, match="no luck"):
        fail.delay()
    celery.conf.task_eager_propagates = False
    assert shims.execute("SELECT tq_queue_size(tenant => %s)", [tenant])[0][0] == 0


def test_routes_and_settings(shims: App) -> None:
    class Settings:
        CELERY_TASK_ROUTES = {"c.*": {"queue": "routed", "priority": 2}}
        CELERY_TASK_DEFAULT_QUEUE = "main"
        CELERY_BROKER_URL = "redis://"
        CELERY_TIMEZONE = "Europe/Berlin"
        OTHER = 1

    made = Celery("settings")
    made.config_from_object(Settings, namespace="CELERY")
    assert (made.conf.task_default_queue, made.conf.timezone, made.conf["broker_url"]) == (
        "main",
        "Europe/Berlin",
        "redis://",
    )
    task = made.task(name="c.routed")(lambda: 1)
    shims.sync()
    found = row(task.delay())
    assert (found.queue, found.priority) == ("routed", 2)
    assert row(task.apply_async(queue="main")).queue == "default"


# Schedules.


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        (crontab(), "* * * * *"),
        (crontab(minute=0, hour="*/2"), "0 */2 * * *"),
        (crontab(minute={0, 30}), "0,30 * * * *"),
        (crontab(hour=7, minute=30, day_of_week=1), "30 7 * * 1"),
        (crontab(0, 0, day_of_month="13", day_of_week="fri"), "0 0 13 * fri"),
        (crontab.from_string("5 4 1 * *"), "5 4 1 * *"),
        (schedule(30), "30 seconds"),
        (schedule(timedelta(seconds=1)), "1 second"),
        (solar("sunset", -37.81753, 144.96715), "sunset at -37.81753,144.96715"),
        (solar("dawn_civil", 52.5, 13.4), "dawn civil at 52.5,13.4"),
    ],
)
def test_schedules_are_rules(shims: App, given: Any, rule: str) -> None:
    assert given.rule == rule
    assert shims.execute("SELECT count(*) FROM tq_next_runs(%s, n => 2)", [rule])[0][0] == 2


@pytest.mark.parametrize(
    "given",
    [
        {"minute": 60},
        {"hour": "0-30"},
        {"month_of_year": "jaan"},
        {"day_of_month": 31, "month_of_year": 4},
        {"minute": "1,,2"},
    ],
)
def test_crontabs_that_make_no_sense_are_refused(shims: App, tenant: str, given: dict[str, Any]) -> None:
    with pytest.raises(DoesNotFit):
        shims.run(
            shims.calls.schedule(
                {"name": "x", "handler": "c.add", "rule": crontab(**given).rule, "day_and": True, "tenant": tenant}
            )
        )
    for wrong in (0, -5, 1.5):
        with pytest.raises(DoesNotFit):
            _ = schedule(wrong).rule


def test_beat_schedule(shims: App, tenant: str, run: Callable[[], None]) -> None:
    made = Celery("beat", timezone="Europe/Berlin")
    made.conf.beat_schedule = {
        "compat-nightly": {
            "task": "c.add",
            "schedule": crontab(hour=2, minute=0, day_of_week="mon"),
            "args": (1, 2),
            "options": {"queue": "night"},
        },
        "compat-often": {"task": "c.add", "schedule": 30.0, "kwargs": {"x": 5}},
    }

    @made.on_after_configure.connect
    def _more(sender: Celery, **words: Any) -> None:
        sender.add_periodic_task(60, add.s(7), name="compat-minute")

    made.autodiscover_tasks(["tests.compat.nowhere"])
    celery.set_current()
    try:
        shims.sync()
        rows = [each for each in _declared.values() if each.name.startswith("compat-")]
        assert {each.name: each.rule for each in rows} == {
            "compat-nightly": "0 2 * * mon",
            "compat-often": "30 seconds",
            "compat-minute": "60 seconds",
        }
        assert _declared["compat-nightly"].words == {"tz": "Europe/Berlin", "day_and": True}
        for name, value in (("compat-nightly", 3), ("compat-often", 5), ("compat-minute", 7)):
            id = shims.execute("SELECT tq_fire(%s, %s)", [name, tenant])[0][0]
            assert Result.of(id).fetch().queue == ("night" if value == 3 else "default")
            run()
            assert Result.of(id).get(5) == value
    finally:
        for name in ("compat-nightly", "compat-often", "compat-minute"):
            _declared.pop(name, None)


def test_tenant_aware_apps(shims: App, make_tenant: Callable[..., str], run: Callable[[], None], tenant: str) -> None:
    assert get(schema.delay(), run) == [tenant, tenant]
    other = make_tenant()
    with shims.tenant(other):
        shims.sync()
    there = schema.apply_async(headers={"_schema_name": other})
    run()
    assert there.state == "PENDING"
    with shims.tenant(other):
        run()
    assert there.get(timeout=5) == [other, other]
    made = CeleryApp("tenants")
    made.conf.beat_schedule = {
        "compat-all": {"task": "c.schema", "schedule": crontab(hour=2, minute=0)},
        "compat-some": {"task": "c.schema", "schedule": crontab(hour=2, minute=0), "tenant_schemas": [other]},
    }
    celery.set_current()
    prepare()
    every, some = _declared.pop("compat-all"), _declared.pop("compat-some")
    assert (every.everywhere, every.words.get("tenants"), some.everywhere, some.words["tenants"]) == (
        True,
        None,
        True,
        [other],
    )
