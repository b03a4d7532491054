from django.db import models
from django_tenants.models import DomainMixin, TenantMixin


class Company(TenantMixin):
    """A tenant: what is its own is in its schema."""

    auto_drop_schema = True

    name = models.CharField(max_length=100)

    def __str__(self):
        return self.name


class Domain(DomainMixin):
    """By which a company is found."""
