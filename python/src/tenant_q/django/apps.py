"""The app `tenant_q.django`."""

from __future__ import annotations

from django.apps import AppConfig

__all__ = ["TenantQConfig"]


class TenantQConfig(AppConfig):  # type: ignore[misc]
    """Makes the site's `DjangoApp`, and connects it to Django's signals and checks."""

    name = "tenant_q.django"
    label = "tenant_q"
    verbose_name = "Tasks"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from . import checks, notices, receivers
        from .app import DjangoApp

        self.app = DjangoApp()
        checks.register()
        notices.connect()
        receivers.connect(self)
