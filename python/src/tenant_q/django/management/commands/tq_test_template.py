"""manage.py tq_test_template"""

from __future__ import annotations

from contextlib import closing
from typing import Any

import psycopg
from django.core.management.base import BaseCommand, CommandError
from django.db import connections
from psycopg import sql

from tenant_q.django import conf
from tenant_q.django.app import _libpq


class Command(BaseCommand):  # type: ignore[misc]
    help = (
        "Makes the template from which Django makes test databases that have the extension. Once, as a superuser: say"
        " --user, or a whole --dsn. Test runs need no superuser."
    )

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument("--name", help="of the template; by default template_ and the database's name")
        parser.add_argument(
            "--dsn", default="", help="how to connect as a superuser: what isn't said is as in DATABASES"
        )
        parser.add_argument("--user", help="the superuser")
        parser.add_argument("--replace", action="store_true", help="makes it anew where it is there")

    def handle(self, *args: Any, **options: Any) -> None:
        alias = conf.database()
        params = _libpq(alias)
        name = options["name"] or f"template_{connections[alias].settings_dict['NAME']}"
        if name.startswith("test_"):
            raise CommandError(f"{name}: names that begin with test_ are of test databases, and may be dropped by them")
        params = {**params, "dbname": "postgres", **({"user": options["user"]} if options["user"] else {})}
        if options["user"]:
            params.pop("password", None)
        dsn = psycopg.conninfo.make_conninfo("", **{**params, **psycopg.conninfo.conninfo_to_dict(options["dsn"])})
        try:
            self._make(dsn, name, options["replace"])
        except psycopg.Error as error:
            raise CommandError(f"{name} could not be made: {error}".strip()) from error
        self.stdout.write(f"DATABASES[{alias!r}]['TEST'] = {{'TEMPLATE': {name!r}}}")

    def _make(self, dsn: str, name: str, replace: bool) -> None:
        of = sql.Identifier(name)
        with closing(psycopg.connect(dsn, autocommit=True)) as server:
            found = server.execute("SELECT datistemplate FROM pg_database WHERE datname = %s", [name]).fetchone()
            if found and replace:
                server.execute(sql.SQL("ALTER DATABASE {} IS_TEMPLATE false").format(of))
                server.execute(sql.SQL("DROP DATABASE {}").format(of))
                found = None
            if found is None:
                server.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(of))
            with closing(psycopg.connect(dsn, dbname=name, autocommit=True)) as inside:
                inside.execute("CREATE EXTENSION IF NOT EXISTS tenant_q")
                inside.execute("ALTER EXTENSION tenant_q UPDATE")
            server.execute(sql.SQL("ALTER DATABASE {} IS_TEMPLATE true").format(of))
