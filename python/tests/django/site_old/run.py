"""A site of django-tenant-schemas: what it has done, a line each."""

import os

from django.conf import settings

settings.configure(
    SECRET_KEY="only for tests",
    USE_TZ=True,
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    SHARED_APPS=["tenant_schemas", "oldcustomers", "django.contrib.contenttypes"],
    TENANT_APPS=["django.contrib.contenttypes", "tenant_q.django"],
    INSTALLED_APPS=["tenant_schemas", "oldcustomers", "django.contrib.contenttypes", "tenant_q.django"],
    TENANT_MODEL="oldcustomers.Client",
    DATABASE_ROUTERS=["tenant_schemas.routers.TenantSyncRouter"],
    DATABASES={
        "default": {
            "ENGINE": "tenant_schemas.postgresql_backend",
            "NAME": os.environ["SITE_DATABASE"],
            "USER": "site",
            "HOST": os.environ["PGHOST"],
            "PORT": os.environ.get("PGPORT", ""),
        }
    },
)

import django  # noqa: E402

django.setup()

from django.core.management import call_command  # noqa: E402
from django.db import connection  # noqa: E402
from oldcustomers.models import Client  # noqa: E402
from tenant_schemas.utils import tenant_context  # noqa: E402

from tenant_q import errors, task  # noqa: E402
from tenant_q.django.testing import run_pending  # noqa: E402


@task(name="old.where")
def where() -> list:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_schema()")
        return [cursor.fetchone()[0], connection.tenant.domain_url, connection.schema_name]


call_command("migrate_schemas", shared=True, verbosity=0)
Client(schema_name="old", domain_url="old.example").save(verbosity=0)
with tenant_context(Client.objects.get()):
    result = where.enqueue()
    print([ran.state for ran in run_pending()], result.get())
    print("afterwards", connection.schema_name)
connection.set_schema_to_public()
try:
    where.enqueue()
except errors.NoTenant:
    print("refused in public")
