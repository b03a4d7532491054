"""Tasks of the office, the company that runs the site. What all companies share has no tasks: it is nobody's."""

from django.db import connection
from django_tenants.utils import schema_context
from tenant_q import Fail, task

from .models import Company, Domain


@task(queue="sign-up", unique_key="{schema}", on_conflict="skip", timeout="10 minutes", max_attempts=2)
def make_company(schema: str, name: str, domain: str) -> str:
    """Makes a company's schema and its tables, which takes longer than a request may: all of it, or nothing."""
    from billing.tasks import welcome

    if connection.schema_name != "office":
        raise Fail("companies are made by the office")
    with schema_context("public"):
        if Company.objects.filter(schema_name=schema).exists():
            raise Fail(f"{schema} is taken")
        company = Company(schema_name=schema, name=name)
        company.save(verbosity=0)
        Domain.objects.create(tenant=company, domain=domain, is_primary=True)
    with company:
        welcome.enqueue()
    return domain
