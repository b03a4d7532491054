"""manage.py tq_info"""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from tenant_q import errors
from tenant_q.calls import FIND_EXTENSION
from tenant_q.django import declaring, tenants
from tenant_q.django.app import get_app


class Command(BaseCommand):  # type: ignore[misc]
    help = "Shows what the site and the server know of each other: versions, tenants, tasks, workers, problems."

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument("--json", action="store_true", help="one document")

    def handle(self, *args: Any, **options: Any) -> None:
        app = get_app()
        app.load_tasks()
        try:
            found = self._look(app)
        except errors.TenantQError as error:
            raise CommandError(str(error)) from error
        if options["json"]:
            self.stdout.write(json.dumps(found, indent=2))
            return
        self.stdout.write(
            f"extension    {found['extension']} in schema {found['schema']}, protocol {found['protocol']}"
        )
        self.stdout.write(f"database     {found['database']} (alias {app.alias})")
        self.stdout.write(
            f"tenants      {found['tenants']} attached, {found['queued']} tasks wait, {found['running']} run"
        )
        if found["not_attached"]:
            self.stdout.write(f"not attached {', '.join(found['not_attached'])}")
        self.stdout.write(f"tasks        {len(found['tasks'])} in this site")
        for name in found["tasks"]:
            self.stdout.write(f"             {name}")
        self.stdout.write(f"workers      {len(found['workers'])}")
        for each in found["workers"]:
            self.stdout.write(
                f"             {each['name'] or each['pid']} on {each['host'] or 'this host'}: {each['state']}"
            )
        for each in found["problems"]:
            self.stdout.write(f"problem      {each['what']}: {each['reason']}")
            if each["fix"]:
                self.stdout.write(f"             {each['fix']}")

    @staticmethod
    def _look(app: Any) -> dict[str, Any]:
        rows = app.execute(FIND_EXTENSION)
        if not rows:
            raise errors.NotInstalled(
                f"the database {app.alias} has no extension tenant_q", hint="CREATE EXTENSION tenant_q;"
            )
        app.check_protocol()
        at = app.calls.at
        there = declaring.attached(app)
        tasks = app.execute(
            f"SELECT count(*), coalesce(sum(queued), 0)::bigint, coalesce(sum(running), 0)::bigint FROM {at}tq_tenants"
        )
        return {
            "extension": rows[0][1],
            "schema": rows[0][0],
            "protocol": app.execute("SELECT tenant_q.protocol()")[0][0],
            "database": app.execute("SELECT pg_catalog.current_database()::text")[0][0],
            "tenants": len(there),
            "queued": tasks[0][1],
            "running": tasks[0][2],
            "not_attached": sorted(set(tenants.tenant_names(app.alias)) - there),
            "tasks": sorted(task.name for task in app.registry),
            "workers": [
                {"name": row[0], "host": row[1], "state": row[2], "pid": row[3]}
                for row in app.execute(
                    f"SELECT name, host, state, pid FROM {at}tq_workers WHERE kind = 'external' ORDER BY name, pid"
                )
            ],
            "problems": [
                {"what": row[0], "reason": row[1], "fix": row[2]}
                for row in app.execute(f"SELECT what, reason, fix FROM {at}tq_problems ORDER BY since NULLS LAST, what")
            ],
        }
