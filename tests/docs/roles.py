"""The table is what tests/pg_regress/sql/role_matrix.sql has found by trying."""

from pathlib import Path

ROOT = Path(__file__).parents[2]


def rows(path):
    return sorted(line for line in (ROOT / path).read_text().splitlines() if line.startswith("| `tq_"))


assert rows("docs/roles.md") == rows("tests/pg_regress/expected/role_matrix.out")
