"""manage.py begin"""

from django.core.management.base import BaseCommand

from customers.models import Company, Domain


class Command(BaseCommand):
    help = "Makes the public schema's row and the office: the company that runs the site. Once; again it does nothing."

    def handle(self, *args, **options):
        for schema, name, domains in [
            ("public", "All companies", ["localhost", "127.0.0.1", "testserver"]),
            ("office", "The office", ["office.localhost"]),
        ]:
            company = Company.objects.filter(schema_name=schema).first()
            if company is None:
                company = Company(schema_name=schema, name=name)
                company.save(verbosity=0)
                for n, domain in enumerate(domains):
                    Domain.objects.create(tenant=company, domain=domain, is_primary=n == 0)
