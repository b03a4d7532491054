from decimal import Decimal, InvalidOperation

from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from tenant_q import Result

from . import tasks
from .models import Closing, Invoice, Mail


def invoices(request: HttpRequest) -> HttpResponse:
    """All of them, and the form for another one: it is written and its mail is enqueued, or neither."""
    if request.method == "POST":
        try:
            amount = Decimal(request.POST["amount"])
        except InvalidOperation:
            return HttpResponse("The amount is no number.", status=400)
        with transaction.atomic():
            invoice = Invoice.objects.create(customer=request.POST["customer"], amount=amount)
            tasks.send_invoice.enqueue(invoice.pk)
        return redirect("invoices")
    found = {
        "company": connection.tenant.name,
        "invoices": Invoice.objects.order_by("-pk"),
        "mails": Mail.objects.order_by("-pk")[:10],
        "closings": Closing.objects.order_by("-day")[:10],
    }
    return render(request, "billing/invoices.html", found)


def pay(request: HttpRequest, pk: int) -> HttpResponse:
    """However often somebody clicks, it is one task that waits."""
    if request.method != "POST":
        return HttpResponse(status=405)
    invoice = get_object_or_404(Invoice, pk=pk)
    paying = tasks.pay.options(unique_key=f"pay {invoice.pk}", on_conflict="skip").enqueue(invoice.pk)
    return redirect("task", pk=paying.id)


def report(request: HttpRequest) -> HttpResponse:
    """Begins one."""
    if request.method != "POST":
        return HttpResponse(status=405)
    return redirect("task", pk=tasks.report.enqueue().id)


def task(request: HttpRequest, pk) -> JsonResponse:
    """What became of a task; of one that runs, how far it is. Of this company alone: another's isn't found here."""
    found = Result.of(pk)
    row = found.fetch()
    progress = found.progress if row.state == "running" else None
    return JsonResponse({"state": row.state, "result": row.result, "error": row.reason, "progress": progress})
