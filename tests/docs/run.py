"""Runs every block of README.md and docs/*.md, each under the role it is for, and compares what it prints with what the page
shows: run.py [PAGE...]. Names of calls, parameters and settings must be there, calls in the text
such that the server would take them, and links lead somewhere.

A page's blocks are run in their order, in a database and a directory of the page's own: `sql` by psql, one session for each
role and schema, `sh` by bash, `python` in one namespace, `json` is parsed, of `conf` each line is told to the server and
taken back. `text` behind a block is what that one prints (compare.py says how strictly). In a line of SQL `-- → VALUE` says
what it answers, `-- → no row` that it answers nothing. A block that fails where the page shows no error fails the page, and so do a
block that says nobody who runs it and one that can't be run and doesn't say why. page.py has the remarks that say so.

What a page takes for granted is made by PAGE.sql beside this file, as a superuser: what stands before its first line
"-- ## HEADING" at the beginning, each part before the first block of that section. What is to hold after the last block is
asked by PAGE.py, if there is one, as the role of that block.

From the environment: PGHOST, a server with the extension preloaded, and PSQL.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

import compare
import page as pages
from links import broken_links
from names import CODE, Known
from session import Session

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
COMPLAINT = re.compile(r"^(?:psql:\S+ )?(ERROR|FATAL|PANIC|WARNING|invalid command|\S+: error)\b", re.MULTILINE)
ANSWER = re.compile(r"-- → (.+)$")
PART = re.compile(r"^-- ## (.+)$", re.MULTILINE)

# Each section of it must fail.
WRONG = HERE / "wrong.md"
NOBODY = "nobody says as whom: <!-- as: ROLE in SCHEMA --> above it does"


class Failed(Exception):
    pass


def told(error):
    return str(error) if isinstance(error, (Failed, TimeoutError)) else "".join(traceback.format_exception(error))


class Runner:
    """Of one page."""

    def __init__(self, path):
        self.path = path
        self.name = path.stem
        self.database = self.name.lower().replace("-", "_")
        self.page = pages.read(path)
        self.sessions = {}
        self.directory = tempfile.TemporaryDirectory(prefix="tq_docs.")
        self.python = {}
        self.failures = []
        file = HERE / f"{self.name}.sql"
        first, *parts = PART.split(file.read_text()) if file.exists() else [r"\i setup.psql"]
        self.before = first
        self.parts = dict(zip(parts[::2], parts[1::2]))

    def run(self):
        for line, what in self.page.wrong:
            self.fail(line, what)
        for section in self.parts.keys() - {block.section for block in self.page.blocks}:
            self.fail(0, f"{self.name}.sql has a part for a section without blocks: {section}")
        if self.page.run_by:
            self.page.blocks = []
            if not (ROOT / self.page.run_by).exists():
                self.fail(0, f"run by: {self.page.run_by} is not there")
        self.session("postgres", database="postgres").run(f"CREATE DATABASE {self.database};")
        self.prepare(self.before)
        for block in self.page.blocks:
            try:
                self.run_block(block)
            except Exception as error:
                self.fail(block.line, f"{told(error)}\nThe block:\n{block.text}")
        if (HERE / f"{self.name}.py").exists():
            self.ask(HERE / f"{self.name}.py")

    def fail(self, line, what):
        self.failures.append((line, what))

    def close(self):
        for session in self.sessions.values():
            session.close()
        self.directory.cleanup()

    def session(self, role, schema=None, database=None):
        key = (role, schema, database)
        session = self.sessions.get(key)
        if session is None or session.psql.poll() is not None:
            session = self.sessions[key] = Session(database or self.database, role, schema)
        return session

    def prepare(self, text):
        """By a superuser, with this directory's files at hand."""
        environment = {**os.environ, "PGOPTIONS": "-c client_min_messages=error"}
        command = [os.environ["PSQL"], "-X", "-q", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", self.database]
        done = subprocess.run(command, input=text, cwd=HERE, env=environment, capture_output=True, text=True, timeout=120)
        if done.returncode:
            raise Failed(f"{self.name}.sql: {done.stdout}{done.stderr}")

    def run_block(self, block):
        if part := self.parts.pop(block.section, None):
            self.prepare(part)
        if block.not_run:
            return
        if block.when:
            self.wait_for(block)
        run = getattr(self, f"run_{block.kind}_block", None)
        if run is None:
            raise Failed(f"nobody runs a block of {block.kind or 'no language'}; <!-- not run: REASON --> before it says why")
        run(block)

    def wait_for(self, block):
        session, deadline = self.session(block.role, block.schema), time.monotonic() + (1 if self.path == WRONG else 30)
        ask = f"\\pset tuples_only on\nSELECT CASE WHEN {block.when} THEN 'so' END;\n\\pset tuples_only off"
        while (said := session.run(ask).strip()) != "so":
            if said or time.monotonic() > deadline:
                raise Failed(f"when: {block.when}: {said or 'it never was'}")
            time.sleep(0.05)

    def run_sql_block(self, block):
        if block.role is None:
            raise Failed(NOBODY)
        session, printed = self.session(block.role, block.schema), ""
        for text, answer in answers(block.text):
            said = session.run(text)
            printed += said
            if answer and not answered(answer, said):
                raise Failed(f"this should answer {answer}:\n{text}\nbut {session.who} is told:\n{said}")
        self.check(block, printed, session.who)

    def check(self, block, printed, who):
        complaints = set(COMPLAINT.findall(printed)) - set(COMPLAINT.findall(block.shown or ""))
        if complaints:
            raise Failed(f"{who} is told:\n{printed}")
        if block.shown is not None and not compare.same(block.shown, printed):
            raise Failed(f"{who} is told:\n{printed}\nand not:\n{block.shown}")

    def run_sh_block(self, block):
        if block.role is None:
            raise Failed(NOBODY)
        # make is called in the checkout.
        place = ROOT if block.text.startswith("make ") else self.directory.name
        done = subprocess.run(
            ["bash", "-euo", "pipefail"], input=block.text, cwd=place, env=self.environment(block.role), text=True,
            timeout=300, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        if done.returncode and not COMPLAINT.search(block.shown or ""):
            raise Failed(f"status {done.returncode}:\n{done.stdout}")
        self.check(block, done.stdout, "bash")

    def run_json_block(self, block):
        json.loads(block.text)

    def run_conf_block(self, block):
        for line in block.text.splitlines():
            if setting := line.partition("#")[0].strip():
                name, _, value = setting.partition("=")
                for statement in (f"ALTER SYSTEM SET {name} = {value};", f"ALTER SYSTEM RESET {name};"):
                    if said := self.session("postgres").run(statement):
                        raise Failed(f"{statement} {said}")

    def run_python_block(self, block):
        if block.role is None:
            raise Failed(NOBODY)
        os.environ.update({"PGDATABASE": self.database, "PGUSER": block.role})
        exec(compile(block.text, f"{self.path.name}:{block.line}", "exec"), self.python)

    def ask(self, file):
        role = self.page.blocks[-1].role if self.page.blocks else "postgres"
        done = subprocess.run(
            [sys.executable, "-B", file], env=self.environment(role), text=True, timeout=120, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
        if done.returncode:
            raise Failed(f"{file.name} is told:\n{done.stdout}")

    def environment(self, role):
        """A client's, as that role."""
        path = f"{Path(os.environ['PSQL']).parent}:{os.environ['PATH']}"
        return {**os.environ, "PATH": path, "PGUSER": role, "PGDATABASE": self.database}

    def expect_failures(self):
        """Leaves what a page of errors didn't fail with."""
        found, self.failures = self.failures, []
        ends = [line for line, _ in self.page.headings[2:]] + [sys.maxsize]
        for (begin, heading), end in zip(self.page.headings[1:], ends):
            told = [what for line, what in found if begin <= line < end]
            if len(told) != 1 or heading not in " ".join(compare.folded(told[0])):
                self.fail(begin, f"this should fail once, but fails with {told}")


def answers(text):
    """A block's text in parts, each with what its last statement answers, if it says so."""
    part = []
    for line in text.splitlines():
        part.append(line)
        if answer := ANSWER.search(line):
            yield "\n".join(part), answer[1]
            part = []
    if part:
        yield "\n".join(part), None


def answered(answer, said):
    rows = said.rstrip().splitlines()
    if answer.startswith("no row"):
        return rows[-1:] == ["(0 rows)"]
    return rows[-1:] == ["(1 row)"] and compare.same(answer, rows[-2])


def clean_up():
    """The server as it was: no database, role or setting of the page before."""
    session = Session("postgres", "postgres")
    said = session.run(
        r"""SET client_min_messages = warning;
        SELECT format('DROP DATABASE %I WITH (FORCE)', datname) FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres' \gexec
        SELECT format('DROP ROLE %I', rolname) FROM pg_roles WHERE rolname !~ '^pg_' AND rolname <> 'postgres' \gexec
        ALTER SYSTEM RESET ALL;
        SELECT pg_reload_conf() \g /dev/null"""
    )
    session.close()
    if said:
        raise Failed(f"could not clean up: {said}")


def what_is_known(pages_read):
    """By the catalog; what each page has wrong, by line."""
    session = Session("postgres", "postgres")
    session.run("CREATE DATABASE names;\n\\c names\nCREATE EXTENSION tenant_q;\n\\pset format unaligned\n\\pset tuples_only on\n\\pset fieldsep ' | '")
    session.run("CREATE SCHEMA acme; SELECT tq_attach('acme'); SET search_path = acme, public;")
    known = Known(
        lambda statement: [line.split(" | ") for line in session.run(f"{statement};").splitlines()],
        lambda statement: session.run(f"EXPLAIN {statement};\n\\echo :SQLSTATE").splitlines()[-1],
    )
    unknown = {
        path: [(line, what) for line, text in page.prose for code in CODE.findall(text) for what in known.wrong(code)]
        for path, page in pages_read.items()
    }
    session.close()
    clean_up()
    return unknown


def main(wanted):
    paths = [WRONG, ROOT / "README.md", *sorted({*(ROOT / "docs").glob("*.md")} - {ROOT / "docs/SUMMARY.md"})]
    paths = [path for path in paths if not wanted or path.stem in wanted]
    passed = failed = 0
    unknown = what_is_known({path: pages.read(path) for path in paths})
    for path in paths:
        began, runner = time.monotonic(), Runner(path)
        try:
            runner.run()
        except Exception as error:
            runner.fail(0, told(error))
        runner.failures += unknown[path] + list(broken_links(path, runner.page.prose))
        runner.close()
        clean_up()
        if path == WRONG:
            runner.expect_failures()
        blocks = sum(not block.not_run for block in runner.page.blocks)
        passed, failed = passed + (not runner.failures), failed + bool(runner.failures)
        for failure in runner.failures:
            print(f"\n{path.relative_to(ROOT)}:{failure[0]}: {failure[1]}")
        how = f"run by {runner.page.run_by}" if runner.page.run_by else f"{blocks} blocks, {time.monotonic() - began:.1f} s"
        print(f"{'FAILED ' if runner.failures else 'ok     '} docs: {path.relative_to(ROOT)} ({how})", flush=True)
    print(f"docs: {passed} passed, {failed} failed")
    sys.exit(bool(failed))


main(sys.argv[1:])
