"""Tasks under Django's decorator."""

try:
    from django.tasks import task
except ImportError:
    from django_tasks import task

from shop.models import Order

#: what they have seen
seen = []


@task
def nothing(*args, **kwargs):
    return None


@task()
async def nothing_async(*args, **kwargs):
    return None


@task(priority=7, queue_name="mail")
def answer(one=1, two=2):
    return 40 + two


@task(backend="once")
def raises():
    raise ValueError("This task has failed")


@task(backend="twice")
def raises_twice():
    raise ValueError("This task has failed")


@task(backend="once")
def exits():
    raise SystemExit("This task exits")


@task(backend="once")
def raises_odd():
    raise ValueError(ValueError("This task has failed"))


@task(backend="once")
def returns_odd():
    return lambda: None


@task(takes_context=True)
def own_id(context):
    return context.task_result.id


@task(takes_context=True)
def own_attempt(context, wanted):
    seen.append(type(context))
    context.progress(0.5)
    return [context.attempt, context.tenant, wanted]


@task
def invoice(order_id):
    Order.objects.filter(pk=order_id).update(invoiced=True)


@task
async def counts():
    await Order.objects.acreate(total=5)
    return await Order.objects.acount()
