"""The table of settings in README.md is what the server says."""

import re
from pathlib import Path

import psycopg

TEXT = (Path(__file__).parents[2] / "README.md").read_text()
TAKES_EFFECT = {"postmaster": "restart", "sighup": "reload", "superuser": "session, superuser", "user": "session"}

told = {name: (default.strip("`"), when) for name, default, when in re.findall(r"^\| `(\w+)` \| (.+?) \| (.+?) \|", TEXT, re.MULTILINE)}
with psycopg.connect() as connection:
    said = {}
    for name, default, context in connection.execute(
        "SELECT substr(name, 10), boot_val, context FROM pg_settings WHERE name LIKE 'tenant\\_q.%'"
    ):
        # As SHOW has it, with its unit.
        connection.execute("SELECT set_config(%s, %s, true)", [f"tenant_q.{name}", default]) if context in ("user", "superuser") else None
        shown = connection.execute("SELECT current_setting(%s)", [f"tenant_q.{name}"]).fetchone()[0]
        said[name] = (shown or "empty", TAKES_EFFECT[context])
for name in said.keys() | told.keys():
    assert said.get(name) == told.get(name), (name, said.get(name), told.get(name))
