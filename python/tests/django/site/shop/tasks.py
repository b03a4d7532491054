"""Tasks under tenant_q's decorator."""

import threading
from datetime import date
from decimal import Decimal

from django.db import connection, connections, transaction
from django.utils import timezone, translation

from shop.models import Order
from tenant_q import Fail, Retry, schedule, task

#: what tasks have seen, for tests that run them in their own process
seen = []


@task
def invoice(order_id: int) -> str:
    changed = Order.objects.filter(pk=order_id).update(invoiced=True)
    if not changed:
        raise Fail(f"there is no order {order_id}")
    return f"invoice of order {order_id}"


@task
def where() -> dict:
    """Where and as what a task runs."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_schema(), current_setting('search_path')")
        schema, path = cursor.fetchone()
    tenant = connection.tenant
    found = {
        "schema": schema,
        "path": path,
        "name": connection.schema_name,
        "tenant": tenant.name,
        "model": type(tenant.pk).__name__ and tenant.__class__.__name__,
        "zone": timezone.get_current_timezone_name(),
        "language": translation.get_language(),
        "atomic": connection.in_atomic_block,
    }
    timezone.activate("Asia/Tokyo")
    translation.activate("fr")
    return found


@task
def note(order_id: int, text: str) -> None:
    Order.objects.filter(pk=order_id).update(note=text)


@task
def fails_after_writing(order_id: int) -> None:
    Order.objects.filter(pk=order_id).update(note="must not stay")
    raise ValueError("no")


@task(max_attempts=3, retry=1)
def fails_twice(order_id: int) -> int:
    seen.append(order_id)
    if len(seen) < 3:
        raise Retry(0)
    return len(seen)


@task(atomic=False, takes_context=True)
def pays(context, order_id: int) -> None:
    assert not connection.in_atomic_block
    order = Order.objects.get(pk=order_id)
    with context.commit(result={"charge": str(context.id)}):
        order.note = "paid"
        order.save()
        assert connection.in_atomic_block


@task
def durable(order_id: int) -> None:
    with transaction.atomic(durable=True):
        Order.objects.filter(pk=order_id).update(note="durable")


@task
def marks_for_rollback(order_id: int) -> None:
    Order.objects.filter(pk=order_id).update(note="must not stay")
    transaction.set_rollback(True)


@task
def with_hook(order_id: int, fails: bool = False) -> None:
    def hook():
        seen.append(order_id)
        if fails:
            raise RuntimeError("the hook fails")

    transaction.on_commit(hook)


@task
def writes_elsewhere() -> None:
    with connections["elsewhere"].cursor() as cursor:
        cursor.execute("SELECT 1")
        cursor.execute("CREATE TABLE must_not_be ()")


@task(atomic=False)
def writes_elsewhere_outside() -> int:
    with connections["elsewhere"].cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE may_be ()")
        return 1


@task
async def counts_async() -> int:
    await Order.objects.acreate(total=1)
    seen.append(threading.get_ident())
    return await Order.objects.acount()


@task(takes_context=True)
async def says_how_far(context) -> None:
    order = await Order.objects.acreate(total=1)
    context.progress(0.5, "half")
    seen.append(await context.aexecute("SELECT progress FROM tq_running WHERE id = %s", [context.id]))
    order.note = str(await note.aenqueue(order.pk, "by a coroutine"))
    await order.asave()


@task
async def fails_async() -> None:
    await Order.objects.acreate(total=1)
    raise ValueError("no")


@task
def typed(day: date, amount: Decimal) -> Decimal:
    assert isinstance(day, date)
    return amount * 2


@task
def leaves_tenant() -> None:
    connection.set_schema_to_public()


@task
def enqueues(order_id: int) -> str:
    return str(note.enqueue(order_id, "by a task").id)


@schedule("0 7 * * *", tags=["daily"])
@task
def digest() -> None:
    seen.append(connection.schema_name)
