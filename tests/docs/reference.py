"""What docs/reference.md has people type into psql shows them the text of the catalog."""

import re
import subprocess
from pathlib import Path

import psycopg

HEAD = (Path(__file__).parents[2] / "docs" / "reference.md").read_text().partition("\n## ")[0]

with psycopg.connect() as connection:
    asked = re.findall(r"`(\\(d[fv]?\+) (tq_\w+))`", HEAD)
    assert sorted(kind for _, kind, _ in asked) == ["d+", "df+", "dv+"], asked
    for command, kind, name in asked:
        text = {
            "df+": "SELECT obj_description(oid, 'pg_proc') FROM pg_proc WHERE proname = %s",
            "dv+": "SELECT obj_description(%s::regclass, 'pg_class')",
            "d+": "SELECT col_description(%s::regclass, 1)",
        }[kind]
        told = connection.execute(text, [name]).fetchone()[0].partition("\n")[0]
        shown = subprocess.run(["psql", "-X", "-c", command], capture_output=True, text=True, check=True).stdout
        assert told and told in shown, (command, told)
