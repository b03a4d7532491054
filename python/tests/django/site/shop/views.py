from django.http import HttpResponse

from shop.models import Order
from shop.tasks import invoice


def buy(request, total):
    order = Order.objects.create(total=total)
    result = invoice.enqueue(order.pk)
    if total < 0:
        raise ValueError("nothing costs less than nothing")
    return HttpResponse(str(result.id))


async def abuy(request, total):
    order = await Order.objects.acreate(total=total)
    result = await invoice.aenqueue(order.pk)
    return HttpResponse(str(result.id))
