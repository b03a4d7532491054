"""manage.py tq_sync"""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from tenant_q import errors
from tenant_q.django import declaring, tenants
from tenant_q.django.app import get_app


class Command(BaseCommand):  # type: ignore[misc]
    help = (
        "Declares the site's tasks and schedules to the server, in every tenant. Writes nothing where nothing is new."
    )

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument(
            "--check", action="store_true", help="only tells what would change; exit status 1 if anything"
        )
        parser.add_argument(
            "--prune", action="store_true", help="what was declared before, and isn't there any more, goes"
        )
        parser.add_argument("--tenant", action="append", metavar="SCHEMA", help="only this one; may be said again")

    def handle(self, *args: Any, **options: Any) -> None:
        app = get_app()
        check, prune = options["check"], options["prune"]
        try:
            done = self._each(app, options["tenant"], check, prune)
        except errors.TenantQError as error:
            raise CommandError(str(error)) from error
        changed = [(name, n) for name, n in done if n]
        for name, n in changed:
            where = name or "all tenants"
            self.stdout.write(f"{where}: {n} {'would be' if check else 'were'} new or changed")
        known = tenants.tenant_names(app.alias)
        left = sorted(set(known) - declaring.attached(app)) if not options["tenant"] else []
        if left:
            self.stderr.write(f"not attached, and left out: {', '.join(left)}")
        if not changed:
            self.stdout.write(f"{len(app.registry)} tasks are declared")
        elif check:
            raise CommandError("manage.py tq_sync has something to do", returncode=1)

    @staticmethod
    def _each(app: Any, only: list[str] | None, check: bool, prune: bool) -> list[tuple[str, int]]:
        if only:
            return [(name, declaring.sync_tenant(app, name, check=check, prune=prune)) for name in only]
        return list(declaring.sync_all(app, check=check, prune=prune))
