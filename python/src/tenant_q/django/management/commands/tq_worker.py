"""manage.py tq_worker"""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import connections

from tenant_q import errors
from tenant_q.django import conf, tenants
from tenant_q.worker import add_arguments, options_of, run


class Command(BaseCommand):  # type: ignore[misc]
    help = "Runs the site's tasks, of all its tenants, until it is stopped (SIGTERM: what runs ends first)."

    def add_arguments(self, parser: Any) -> None:
        add_arguments(parser, app=False)

    def handle(self, *args: Any, **options: Any) -> None:
        # Its processes are fresh ones, which set Django up by themselves.
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", settings.SETTINGS_MODULE)
        connections.close_all()
        only = conf.get("TENANT")
        if options["tenants"] is None and only and not tenants.has_tenants(conf.database()):
            options["tenants"] = [only]
        path = [each for each in (options["pythonpath"], sys.path[0]) if each]
        try:
            status = run(options_of(argparse.Namespace(**options), app="tenant_q.django.site:app", path=path))
        except errors.TenantQError as error:
            raise CommandError(str(error)) from error
        if status:
            sys.exit(status)
