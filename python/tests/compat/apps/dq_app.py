"""A small app for Django-Q: what is asked of it and what comes back."""

from django_q.tasks import (
    AsyncTask,
    Chain,
    Iter,
    async_chain,
    async_iter,
    async_task,
    count_group,
    delete_group,
    fetch,
    fetch_group,
    queue_size,
    result,
    result_group,
)

told = []


def add(a, b=1):
    return a + b


def nothing():
    pass


def empty():
    return []


def broken():
    raise ValueError("no luck")


def heard(task):
    told.append([task.name, task.success, task.result if task.success else "no luck" in task.result])


def outcomes(run):
    found = {}
    id = async_task("dq_app.add", 1, b=2, task_name="sum", group="g", hook="dq_app.heard")
    found["before"] = [result(id), result(id, 10), fetch(id), len(id), queue_size()]
    second = async_task(add, 5, group="g")
    run()
    found["after"] = [result(id), result(id, 200), result("sum"), result(second)]
    task = fetch(id)
    found["task"] = [
        task.id == id,
        task.name,
        task.func,
        task.group,
        task.success,
        task.result,
        task.attempt_count,
        task.stopped >= task.started,
    ]
    found["by name"] = fetch("sum").id == id
    found["group"] = [
        sorted(result_group("g")),
        sorted(result_group("g", failures=True)),
        count_group("g"),
        count_group("g", failures=True),
    ]
    found["hook"] = list(told)
    found["queue"] = queue_size()
    failing = async_task(broken, group="g", ack_failure=True, hook=heard)
    run()
    found["failed"] = [
        "no luck" in result(failing),
        fetch(failing).success,
        count_group("g"),
        count_group("g", failures=True),
    ]
    found["failures"] = [
        len(result_group("g")),
        len(result_group("g", failures=True)),
        len(fetch_group("g")),
        len(fetch_group("g", failures=False)),
    ]
    found["hook of a failure"] = [each[1:] for each in told[1:]]
    delete_group("g")
    found["deleted"] = [count_group("g"), fetch(id).group]
    quiet = async_task(add, 1, save=False)
    none = async_task(nothing)
    falsy = async_task(empty)
    run()
    found["not saved"] = [fetch(quiet), fetch(quiet, 10)]
    found["nothing"] = [fetch(none).success, fetch(none).result, result(falsy, -1)]
    iteration = async_iter("dq_app.add", [1, 2, (3, 4)])
    found["unfinished iteration"] = result(iteration)
    run()
    found["iteration"] = sorted(result(iteration))
    chain = async_chain([("dq_app.add", (1,)), (add, (2,), {"b": 5}), "dq_app.nothing"])
    run()
    found["chain"] = [sorted(str(each) for each in result_group(chain, count=3)), count_group(chain)]
    longer = Chain()
    longer.append("dq_app.add", 1, 1)
    longer.append("dq_app.add", 2, 2)
    longer.run()
    found["chain before"] = [longer.current(), longer.length()]
    run()
    found["chain after"] = [sorted(longer.result()), longer.current()]
    longer.append("dq_app.add", 3, 3)
    found["appended"] = longer.result()
    longer.run()
    run()
    found["again"] = [longer.length(), len(longer.result()), longer.current()]
    each = Iter("dq_app.add")
    each.append(1)
    each.append(2)
    each.run()
    run()
    found["iter"] = [sorted(each.result()), each.length(), each.fetch().success]
    call = AsyncTask("dq_app.add", 1, 2)
    call.group = "calls"
    call.run()
    run()
    found["call"] = [call.result(), call.fetch().group, list(call.result_group())]
    return found
