"""A small app for RQ: what is asked of it and what comes back."""

from datetime import datetime, timedelta

from rq import Queue, Retry, get_current_job
from rq.decorators import job
from rq.job import Callback, Dependency, Job

tries = []
heard = []


def add(a, b=1):
    return a + b


def broken():
    raise ValueError("no luck")


def stubborn(until):
    tries.append(len(tries))
    if len(tries) <= until:
        raise RuntimeError("not yet")
    return len(tries)


def who():
    job = get_current_job()
    return [job.id, job.meta.get("colour")]


def worked(job, connection, result):
    heard.append(["worked", result])


def failed(job, connection, kind, value, traceback):
    heard.append(["failed", kind.__name__, str(value)])


def outcomes(run, connection):
    queue = Queue(connection=connection)
    mail = Queue("mail", connection=connection)

    @job("mail", connection=connection, timeout=60)
    def _local():
        pass

    decorated = job("mail", connection=connection)(add)
    found = {}
    first = queue.enqueue(add, 1, b=2)
    found["before"] = [first.get_status(), first.is_queued, first.return_value(), queue.count, mail.is_empty()]
    run()
    found["after"] = [
        first.get_status(),
        first.is_finished,
        first.return_value(),
        first.latest_result().return_value,
        queue.count,
    ]
    again = Job.fetch(first.id, connection=connection)
    found["fetched"] = [again.id == first.id, again.func_name, again.origin, again.func(*again.args, **again.kwargs)]
    second = queue.enqueue(
        "rq_app.add",
        args=(5,),
        kwargs={"b": 6},
        job_id="my-job",
        meta={"colour": "red"},
        description="a sum",
        result_ttl=500,
    )
    third = queue.enqueue_call(add, args=(7,), timeout=10)
    fourth = decorated.delay(2, b=3)
    found["queues"] = [fourth.origin, mail.count, queue.fetch_job("nobody")]
    mine = queue.enqueue(who, job_id="mine", meta={"colour": "blue"}, at_front=True)
    run()
    found["explicit"] = [
        second.id,
        second.return_value(),
        second.meta,
        Job.fetch("my-job", connection=connection).return_value(),
        second.description,
    ]
    found["third"] = [third.return_value(), fourth.return_value()]
    found["current"] = mine.return_value()
    bad = queue.enqueue(broken)
    run()
    found["failed"] = [
        bad.get_status(),
        bad.is_failed,
        "no luck" in bad.latest_result().exc_string,
        bad.return_value(),
        bad.id in queue.failed_job_registry.get_job_ids(),
    ]
    retried = queue.enqueue(stubborn, 2, retry=Retry(max=3))
    run()
    run()
    run()
    found["retried"] = [retried.get_status(), retried.return_value(), list(tries)]
    parent = queue.enqueue(add, 1)
    child = queue.enqueue(add, 2, depends_on=parent)
    either = queue.enqueue(add, 3, depends_on=Dependency([parent, child]))
    found["deferred"] = [child.get_status(), either.get_status()]
    run()
    run()
    found["dependents"] = [child.return_value(), either.return_value()]
    wrong = queue.enqueue(broken)
    forgiving = queue.enqueue(add, 4, depends_on=Dependency([wrong], allow_failure=True))
    run()
    run()
    found["forgiving"] = forgiving.return_value()
    queue.enqueue(add, 1, on_success=worked)
    queue.enqueue(broken, on_failure=Callback(failed))
    run()
    run()
    found["callbacks"] = sorted(heard)
    later = queue.enqueue_in(timedelta(hours=1), add, 1)
    then = queue.enqueue_at(datetime(2100, 1, 1, 12, 0), add, 1)
    found["later"] = [later.get_status(), then.get_status(), then.is_scheduled]
    waiting = queue.enqueue(add, 1)
    waiting.cancel()
    run()
    found["cancelled"] = [waiting.get_status(), waiting.is_canceled, waiting.return_value()]
    some = queue.enqueue_many([Queue.prepare_data(add, (1,)), Queue.prepare_data(add, (2,), {"b": 5}, job_id="many")])
    run()
    found["many"] = [each.return_value() for each in some] + [some[1].id]
    here = Queue("here", is_async=False, connection=connection).enqueue(add, 20)
    found["here"] = [here.is_finished, here.return_value()]
    found["exists"] = [Job.exists(first.id, connection=connection), Job.exists("nobody", connection=connection)]
    unique = queue.enqueue(add, 1, job_id="only", unique=True)
    try:
        queue.enqueue(add, 1, job_id="only", unique=True)
        found["unique"] = "twice"
    except Exception as error:
        found["unique"] = [type(error).__name__, unique.id]
    return found
