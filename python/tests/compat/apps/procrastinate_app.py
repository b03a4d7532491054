"""A small app for procrastinate: what is asked of it and what comes back."""

import asyncio

import procrastinate
from procrastinate import App, JobContext, RetryStrategy
from procrastinate.exceptions import AlreadyEnqueued

app = App(connector=None)
log = []


@app.task
def add(a, b=1):
    log.append(["add", a + b])
    return a + b


@app.task(name="named", queue="mail", aliases=["old"], priority=3)
def named(text):
    log.append(["named", text])


@app.task(pass_context=True)
def who(context: JobContext, colour):
    log.append(["who", context.job.task_name.split(".")[-1], colour, context.job.attempts, context.should_abort()])


@app.task(retry=2, pass_context=True)
def stubborn(context):
    log.append(["stubborn", context.job.attempts])
    raise RuntimeError("not yet")


@app.task(retry=RetryStrategy(max_attempts=5, retry_exceptions={OSError}))
def picky(kind):
    log.append(["picky", kind])
    raise {"os": OSError, "value": ValueError}[kind](kind)


class Twice(procrastinate.BaseRetryStrategy):
    def get_retry_decision(self, *, exception, job):
        return procrastinate.RetryDecision(retry_in={"seconds": 0}) if job.attempts < 1 else None


@app.task(retry=Twice())
def decided():
    log.append(["decided"])
    raise ValueError("again")


@app.task(queueing_lock="only")
def single(n):
    log.append(["single", n])


@app.task
async def awaited(n):
    await asyncio.sleep(0)
    log.append(["awaited", n])


async def later():
    async with app.open_async():
        await awaited.defer_async(n=1)


def outcomes(run):
    found = {}
    jobs = app.job_manager
    id = add.defer(a=1, b=2)
    found["id"] = isinstance(id, int)
    found["before"] = jobs.get_job_status(id).value
    run()
    found["after"] = [jobs.get_job_status(id).value, list(log), add(1, 1)]
    log.clear()
    named.defer(text="x")
    named.configure(priority=9, task_kwargs={"text": "first"}).defer()
    app.configure_task("named", queue="mail", priority=1).defer(text="last")
    found["queues"] = sorted((job.queue, job.priority, job.status) for job in jobs.list_jobs(queue="mail"))
    run()
    found["order"] = list(log)
    log.clear()
    who.defer(colour="red")
    run()
    found["context"] = list(log)
    log.clear()
    tired = stubborn.defer()
    gave = picky.defer(kind="value")
    os = picky.defer(kind="os")
    twice = decided.defer()
    run()
    found["retries"] = sorted(map(str, log))
    found["failed"] = [jobs.get_job_status(each).value for each in (tired, gave, os, twice)]
    log.clear()
    single.defer(n=1)
    try:
        single.defer(n=2)
        found["lock"] = "twice"
    except AlreadyEnqueued as error:
        found["lock"] = type(error).__name__
    run()
    single.defer(n=3)
    run()
    found["locked"] = list(log)
    log.clear()
    found["batch"] = len(add.batch_defer({"a": 1}, {"a": 2, "b": 5}))
    asyncio.run(later())
    run()
    found["batched"] = sorted(log)
    waiting = add.configure(schedule_in={"hours": 1}).defer(a=1)
    found["cancelled"] = [jobs.cancel_job_by_id(waiting), jobs.get_job_status(waiting).value, jobs.cancel_job_by_id(id)]
    return found
