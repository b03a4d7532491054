"""A small app for Celery: what is asked of it and what comes back."""

from celery import Celery, chain, chord, group, shared_task
from celery.exceptions import Ignore, MaxRetriesExceededError
from celery.result import AsyncResult

app = Celery("shop", broker="memory://", backend="cache+memory://")
app.conf.update(task_serializer="json", result_serializer="json", accept_content=["json"], timezone="Europe/Berlin")

log = []


@app.task
def add(x, y=0):
    return x + y


@app.task(name="totals")
def total(numbers):
    return sum(numbers)


@shared_task
def constant():
    return 7


@shared_task
def join(*words, sep="-"):
    return sep.join(str(word) for word in words)


@app.task(bind=True, max_retries=3, default_retry_delay=0)
def stubborn(self, until):
    log.append(["stubborn", self.request.retries])
    if self.request.retries < until:
        raise self.retry(exc=KeyError("not yet"))
    return self.request.retries


@app.task(bind=True, max_retries=1)
def hopeless(self):
    self.retry(countdown=0)


@app.task(autoretry_for=(OSError,), max_retries=2, default_retry_delay=0)
def flaky():
    log.append(["flaky"])
    raise OSError("disk")


@app.task
def broken(text):
    raise ValueError(text)


@app.task(bind=True)
def who(self):
    return [self.name, self.request.retries, self.request.called_directly, len(self.request.id)]


@app.task
def ignored():
    raise Ignore()


@app.task
def linked(value, label="?"):
    log.append(["linked", value, label])


@app.task
def erred(request, exc, traceback):
    log.append(["erred", type(exc).__name__, str(exc)])


def raised(call):
    try:
        return call()
    except Exception as error:
        return [type(error).__name__, str(error)]


def outcomes(run):
    found = {"direct": [add(1, 2), constant(), join(1, 2)]}
    result = add.delay(1, 2)
    found["before"] = [result.state, result.ready(), result.result]
    run()
    found["after"] = [
        result.get(timeout=5),
        result.state,
        result.status,
        result.successful(),
        result.failed(),
        result.ready(),
    ]
    found["again"] = [AsyncResult(result.id).get(timeout=5), AsyncResult(result.id) == result]
    named = total.apply_async(([1, 2, 3],), task_id="01234567-0000-4000-8000-00000000abcd")
    run()
    found["named"] = [named.id, named.get(timeout=5), total.name]
    many = {
        "constant": constant.apply_async(countdown=0),
        "join": join.delay("a", "b", sep="+"),
        "kwargs": add.apply_async(kwargs={"x": 3, "y": 4}),
        "args": add.apply_async((3,), {"y": 5}, priority=3),
        "signature": add.s(1).apply_async((5,)),
        "by name": app.send_task("totals", ([4, 5],)),
        "who": who.delay(),
        "stubborn": stubborn.delay(2),
        "set": add.s(1, 2).set(priority=1).delay(),
    }
    run()
    found["many"] = {name: each.get(timeout=5) for name, each in many.items()}
    failing = broken.delay("no luck")
    tired = hopeless.delay()
    flaking = flaky.delay()
    run()
    found["failed"] = [
        failing.state,
        failing.failed(),
        raised(lambda: failing.get(timeout=5)),
        str(failing.get(timeout=5, propagate=False)),
    ]
    found["trace"] = ["no luck" in failing.traceback, type(failing.result).__name__]
    found["tired"] = [
        tired.state,
        raised(lambda: tired.get(timeout=5))[0],
        issubclass(MaxRetriesExceededError, Exception),
    ]
    found["flaky"] = [raised(lambda: flaking.get(timeout=5)), log.count(["flaky"])]
    found["stubborn"] = [each for each in log if each[0] == "stubborn"]
    steps = chain(add.s(1, 2), add.s(10), join.s("x"))()
    piped = (add.s(1, 1) | constant.si() | add.s(5)).delay()
    both = group(add.s(n, n) for n in range(3))()
    summed = chord([add.s(n, n) for n in range(3)])(total.s())
    fan = chain(add.s(1, 1), group(add.s(10), add.s(20)), total.s())()
    nested = chord([chain(add.s(1, 1), add.s(1)), chain(add.s(2, 2), add.s(2))], total.s()).delay()
    open_steps = chain(join.s("a", "b"), join.s("c", sep="+"), join.si("z"))()
    run()
    found["chain"] = [steps.get(timeout=5), steps.parent.get(timeout=5), steps.parent.parent.get(timeout=5)]
    found["immutable"] = piped.get(timeout=5)
    found["group"] = [
        both.get(timeout=5),
        both.ready(),
        both.successful(),
        both.completed_count(),
        len(both),
        both[1].get(timeout=5),
    ]
    found["chord"] = [summed.get(timeout=5)]
    found["fan"] = fan.get(timeout=5)
    found["nested"] = nested.get(timeout=5)
    found["open"] = open_steps.get(timeout=5)
    cut = chain(broken.s("cut"), add.s(1))()
    run()
    found["cut"] = [raised(lambda: cut.get(timeout=5)), cut.parent.state]
    log.clear()
    add.apply_async((2, 3), link=linked.s(label="sum"))
    broken.apply_async(("bad",), link_error=erred.s())
    run()
    found["links"] = sorted(log)
    found["eager"] = [
        add.apply((1, 2)).get(),
        raised(lambda: broken.apply(("eager",)).get()),
        stubborn.apply((1,)).get(),
    ]
    wrong = add.s(1, 2)
    found["signature"] = [wrong.args, wrong.kwargs, wrong.immutable, wrong(), add.si(1, 2).immutable]
    return found
