"""manage.py tq_drain"""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from tenant_q import errors
from tenant_q.django import declaring, tenants
from tenant_q.django.app import get_app
from tenant_q.testing import run_pending


class Command(BaseCommand):  # type: ignore[misc]
    help = "Runs the Python tasks that are due, here and one after the other, and ends: for scripts, cron and a look."

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument("--tenant", action="append", metavar="SCHEMA", help="only this one; may be said again")
        parser.add_argument("--max", type=int, metavar="N", help="attempts at most")
        parser.add_argument(
            "--wait", type=float, default=0, metavar="SECONDS", help="until nothing has been due for so long"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        app = get_app()
        app.load_tasks()
        left, failed, total = options["max"], 0, 0
        try:
            there = declaring.attached(app)
            names = options["tenant"] or [name for name in tenants.tenant_names(app.alias) if name in there]
            for name in names:
                ran = run_pending(app, n=left, wait=options["wait"], tenant=name)
                for each in ran:
                    self.stdout.write(f"{name}: {each.handler} {each.state}")
                    if each.error and options["verbosity"] > 1:
                        self.stdout.write(str(each.error.get("traceback") or each.error.get("message")))
                total += len(ran)
                failed += sum(each.state == "failed" for each in ran)
                left = None if left is None else left - len(ran)
                if left == 0:
                    break
        except errors.TenantQError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{total} attempts, {failed} failed for good")
