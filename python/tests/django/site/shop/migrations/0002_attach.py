from django.db import migrations

from tenant_q.django import AttachTenant


class Migration(migrations.Migration):
    dependencies = [("shop", "0001_initial")]
    operations = [AttachTenant()]
