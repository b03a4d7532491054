"""Tasks of a company: they run in its schema, whoever runs them."""

from datetime import date
from decimal import Decimal

from django.db import connection
from django.db.models import Count, Sum
from tenant_q import Backoff, Context, Fail, Schedule, task

from . import provider
from .models import Closing, Invoice, Mail


@task(queue="mail")
def welcome() -> None:
    """To whom a company was made for."""
    Mail.objects.create(to=connection.tenant.name, text="welcome")


@task(queue="mail", max_attempts=5)
def send_invoice(invoice: int) -> int:
    """The mail and that it was sent are one transaction with the end of the task."""
    found = Invoice.objects.get(pk=invoice)
    return Mail.objects.create(to=found.customer, text=f"Please pay {found.amount}.").pk


@task(
    atomic=False,
    takes_context=True,
    timeout="1 minute",
    max_attempts=10,
    retry=Backoff("exponential", base=0.2, cap=60),
    retry_on=(provider.ProviderAway,),
    lock="invoice {invoice}",
)
def pay(context: Context, invoice: int) -> None:
    """A charge is outside of the database: it comes with the task's id, so that another attempt charges nothing again,
    and holds no transaction while it takes its time."""
    found = Invoice.objects.get(pk=invoice)
    if found.payment:
        raise Fail(f"invoice {invoice} is paid by {found.payment}")
    charge = provider.charge(str(found.amount), idempotency_key=str(context.id))
    with context.commit(result=charge):
        Invoice.objects.filter(pk=invoice).update(payment=charge)


@task(takes_context=True, timeout="10 minutes")
def report(context: Context) -> dict[str, Decimal]:
    """What each customer owes; how far it is, is seen while it runs."""
    customers = list(Invoice.objects.order_by("customer").values_list("customer", flat=True).distinct())
    owed = {}
    for n, customer in enumerate(customers, 1):
        open_ones = Invoice.objects.filter(customer=customer, payment="")
        owed[customer] = open_ones.aggregate(sum=Sum("amount"))["sum"] or Decimal(0)
        context.progress(n / len(customers), customer)
    return owed


@task
def close_day(day: date) -> int:
    """Once a day in every company: the schedule below."""
    sums = Invoice.objects.filter(written=day).aggregate(n=Count("pk"), amount=Sum("amount"))
    closing, _ = Closing.objects.update_or_create(
        day=day, defaults={"invoices": sums["n"], "amount": sums["amount"] or Decimal(0)}
    )
    return closing.invoices


# `day` is the day that was meant, also where the server was down at that time.
Schedule("close day", close_day, "55 23 * * *", time_arg="day")
