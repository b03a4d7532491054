import re

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from tenant_q import Result

from customers.tasks import make_company


def sign_up(request: HttpRequest) -> HttpResponse:
    """The form, and what it sends: the company is made in the background."""
    if request.method != "POST":
        return render(request, "billing/sign_up.html")
    name = request.POST["name"].strip()
    schema = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")[:40]
    if not re.fullmatch(r"[a-z][a-z0-9_]*", schema) or schema in ("public", "office"):
        return render(request, "billing/sign_up.html", {"error": "The name begins with a letter."}, status=400)
    host = request.get_host().split(":")[0]
    made = make_company.options(tenant="office").enqueue(schema, name=name, domain=f"{schema.replace('_', '-')}.{host}")
    return redirect("signing-up", pk=made.id)


def signing_up(request: HttpRequest, pk) -> JsonResponse:
    """How far it is."""
    row = Result.of(pk, tenant="office").fetch()
    return JsonResponse({"state": row.state, "domain": row.result, "error": row.reason})
