from django.db import models
from django_tenants.models import DomainMixin, TenantMixin


class Client(TenantMixin):
    auto_drop_schema = True

    name = models.CharField(max_length=100)
    time_zone = models.CharField(max_length=40, blank=True)
    language = models.CharField(max_length=10, blank=True)


class Domain(DomainMixin):
    pass
