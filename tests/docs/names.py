"""Whether what a page names is there: functions and their parameters, views, settings; and whether calls in the text are such
that the server would take them."""

import re
from pathlib import Path

CALL = re.compile(r"\b(tq_[a-z_]+)\b(\([^`]*\))?")
PARAMETER = re.compile(r"\b([a-z_]+) =>")
SETTING = re.compile(r"\btenant_q\.([a-z_]+)\b")
CODE = re.compile(r"`([^`]+)`")

# A whole call or query, in the text: not one that names only the parameter it is about, or has a gap.
STATEMENT = re.compile(r"(SELECT .+|tq_[a-z_]+\((?![a-z_]+ =>|\)).*\));?$")
GAP = re.compile(r"…|\.\.\.|\?|\\|\btenant_q\b")
# What EXPLAIN says of a statement that is wrong as it stands, whatever tables there are: unknown function, syntax, values.
REFUSED = {"42883", "42601", "42804", "42725", "22P02", "22007", "22008", "22023"}
# The Python package: its modules and names are written as settings are, its commands as functions are.
PACKAGE = Path(__file__).parents[2] / "python" / "src" / "tenant_q"
COMMANDS = {path.stem for path in (PACKAGE / "django/management/commands").glob("tq_*.py")}
MODULES = {path.stem for path in PACKAGE.iterdir()} | {"app", "task", "schedule", "chain", "group", "current"}

# What the README says isn't there yet.
PLANNED = {"tq_take", "tq_finish"}


class Known:
    def __init__(self, ask, explain):
        """ask: an SQL statement's rows of text; explain: its SQLSTATE when it is planned."""
        self.explain = explain
        self.parameters = {}
        for name, parameters in ask(
            "SELECT proname, coalesce(array_to_string(proargnames, ' '), '') FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
        ):
            self.parameters.setdefault(name, set()).update(parameters.split())
        self.relations = {row[0] for row in ask("SELECT relname FROM pg_class WHERE relname LIKE 'tq\\_%'")}
        self.internal = {
            row[0]
            for row in ask(
                "SELECT name FROM (SELECT substr(name, 10) AS name FROM pg_settings WHERE name LIKE 'tenant\\_q.%'"
                " UNION SELECT proname FROM pg_proc WHERE pronamespace = 'tenant_q'::regnamespace"
                " UNION SELECT relname FROM pg_class WHERE relnamespace = 'tenant_q'::regnamespace) AS x"
            )
        }

    def wrong(self, code):
        """What is wrong with it."""
        found = list(self.unknown(code))
        statement = STATEMENT.match(code)
        if statement and not found and not GAP.search(code):
            call = statement[1] if code.startswith("SELECT ") else f"SELECT {statement[1]}"
            if (sqlstate := self.explain(call)) in REFUSED:
                found.append(f"{sqlstate}: {code}")
        return found

    def unknown(self, code):
        for name, arguments in CALL.findall(code):
            if name not in self.parameters and name not in self.relations | PLANNED | COMMANDS and not name.endswith("_"):
                yield f"{name} is not there"
            elif name in self.parameters and code.count("tq_") == 1:
                for parameter in PARAMETER.findall(arguments):
                    if parameter not in self.parameters[name]:
                        yield f"{name} has no parameter {parameter}"
        for name in SETTING.findall(code):
            if name not in self.internal | MODULES and not name.endswith("_"):
                yield f"tenant_q.{name} is not there"
