"""The site's App, for processes that aren't Django's own: `python -m tenant_q worker tenant_q.django.site:app`, with
DJANGO_SETTINGS_MODULE set. Importing it sets Django up."""

from __future__ import annotations

from django.apps import apps

import django

if not apps.ready:
    django.setup()

from .app import get_app

__all__ = ["app"]

app = get_app()
