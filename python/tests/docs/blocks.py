"""Runs the blocks of a page, in their order, in a database and a directory of the page's own: blocks.py PAGE.

A block of Python whose first line is a comment with a path is a file, "added" behind it: of one that is there; files
are written before anything runs. Other blocks: `python` is run here, in one namespace (of pages about Django: in the
site of tests/django/site, to which their files are added); `sh` by bash, and a worker goes on until the page ends,
when SIGTERM must end it with status 0; `sql` by a session of the role that the page names; `text` behind a block is
what that one prints. `ini`, `yaml`, `docker` and `procfile` can't be run here: the commands in them must be such as
the programs take. tests/docs/page.py has the remarks in a page, tests/docs/compare.py says how strictly output is
compared.

From the environment: PGHOST, PGPORT, PGUSER (a superuser), of a server with the extension preloaded. PAGE.sql beside
this file makes what the page takes for granted; PAGE.py beside this file, if there is one, is run behind the last
block, in the blocks' namespace.
"""

from __future__ import annotations

import configparser
import faulthandler
import json
import os
import re
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any

import psycopg

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
sys.path.insert(0, str(ROOT / "tests" / "docs"))

import compare  # noqa: E402
import page as pages  # noqa: E402

FILE = re.compile(r"# (\S+\.(?:py|html))(, added)?\n")
WORKER = re.compile(r"^python (?:-m tenant_q worker|manage\.py tq_worker)\b(?!.*--burst)", re.MULTILINE)
COMMAND = re.compile(r"\S*python3? (?:(-m tenant_q (?:worker|sync|info))|manage\.py (tq_\w+))([^\n]*)")
ARGV = re.compile(r'\[("[^\]]*python3?", [^\]]+)\]')
SECONDS = 60


class Failed(Exception):
    """A block doesn't do what the page says."""


class Runner:
    """Of one page."""

    def __init__(self, path: Path) -> None:
        self.page = pages.read(path)
        self.name = path.stem
        self.path = path
        self.database = f"docs_{re.sub(r'[^a-z]', '_', self.name)}_{secrets.token_hex(4)}"
        self.server = psycopg.connect(autocommit=True)
        self.directory = Path(tempfile.mkdtemp(prefix="tq_docs."))
        self.sessions: dict[tuple[str, str | None], psycopg.Connection[Any]] = {}
        self.workers: list[tuple[subprocess.Popen[str], Path]] = []
        self.names: dict[str, Any] = {"__name__": "docs"}
        self.before = set(self.roles())

    def roles(self) -> list[str]:
        return [row[0] for row in self.server.execute("SELECT rolname FROM pg_roles")]

    def run(self) -> None:
        self.server.execute(f"CREATE DATABASE {self.database}")
        os.environ["PGDATABASE"] = self.database
        os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        if self.name == "django":
            self.make_site()
        prepare = HERE / f"{self.name}.sql"
        if prepare.exists():
            self.session(os.environ["PGUSER"], None).execute(prepare.read_text().encode())
        os.chdir(self.directory)
        sys.path.insert(0, str(self.directory))
        for wrong in self.page.wrong:
            raise Failed(f"line {wrong[0]}: {wrong[1]}")
        for block in self.page.blocks:
            self.write(block)
        for block in self.page.blocks:
            if block.not_run or FILE.match(block.text + "\n"):
                continue
            try:
                self.run_block(block)
            except BaseException as error:
                told = str(error) if isinstance(error, Failed) else "".join(traceback.format_exception(error))
                raise Failed(
                    f"{self.path.name}:{block.line}: {told}\nThe block:\n{block.text}\n{self.said()}"
                ) from None
        ask = HERE / f"{self.name.replace('-', '_')}.py"
        if ask.exists():
            exec(compile(ask.read_text(), str(ask), "exec"), self.names)
        self.stop()

    def make_site(self) -> None:
        """The site of tests/django, and the role that it connects as."""
        shutil.copytree(ROOT / "tests" / "django" / "site", self.directory, dirs_exist_ok=True)
        os.environ |= {"DJANGO_SETTINGS_MODULE": "config.settings", "SITE_DATABASE": self.database}
        if "site" not in self.roles():
            self.server.execute("CREATE ROLE site LOGIN CREATEDB")
        self.before.add("site")  # of other tests' sites, too
        self.server.execute(f"ALTER DATABASE {self.database} OWNER TO site")

    def write(self, block: Any) -> None:
        found = FILE.match(block.text + "\n") if not block.not_run else None
        if found is None:
            return
        file = self.directory / found[1]
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a" if found[2] else "w") as to:
            to.write("\n\n" * bool(found[2]) + (block.text + "\n")[found.end() :])

    def run_block(self, block: Any) -> None:
        run = getattr(self, f"run_{block.kind}", None)
        if run is None:
            raise Failed(f"nobody runs a block of {block.kind or 'no language'}; <!-- not run: REASON --> says why")
        if block.role:
            os.environ["PGUSER"] = block.role
        if block.when:
            self.wait_for(block)
        printed = run(block)
        if block.shown is not None and not compare.same(block.shown, printed):
            raise Failed(f"it prints\n{printed}\nand not\n{block.shown}")

    def wait_for(self, block: Any) -> None:
        session, deadline = self.session(block.role, block.schema), time.monotonic() + SECONDS
        while not session.execute(f"SELECT {block.when}".encode()).fetchone()[0]:
            if time.monotonic() > deadline:
                raise Failed(f"when: {block.when}: it never was")
            time.sleep(0.05)

    def session(self, role: str, schema: str | None) -> psycopg.Connection[Any]:
        found = self.sessions.get((role, schema))
        if found is None:
            path = f"-c search_path={schema},public" if schema else ""
            found = psycopg.connect(dbname=self.database, user=role, options=path, autocommit=True)
            self.sessions[role, schema] = found
        return found

    def run_sql(self, block: Any) -> str:
        if block.role is None:
            raise Failed("nobody says as whom: <!-- as: ROLE in SCHEMA --> above it does")
        connection = self.session(block.role, block.schema)
        done = connection.pgconn.exec_(block.text.encode())
        if done.error_message:
            raise Failed(done.error_message.decode())
        columns = range(done.nfields)
        lines = [" | ".join(done.fname(n).decode() for n in columns), "-+-".join("---" for _ in columns)]
        lines += [" | ".join((done.get_value(row, n) or b"").decode() for n in columns) for row in range(done.ntuples)]
        return "\n".join(lines)

    def run_sh(self, block: Any) -> str:
        if WORKER.search(block.text):
            said = self.directory / f".worker{len(self.workers)}"
            command = "exec " + block.text.strip() if "\n" not in block.text.strip() else block.text
            with said.open("w") as to:
                worker = subprocess.Popen(["bash", "-euc", command], stdout=to, stderr=subprocess.STDOUT, text=True)
            self.workers.append((worker, said))
            return ""
        done = subprocess.run(
            ["bash", "-euo", "pipefail"],
            input=block.text,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=180,
            check=False,
        )
        if done.returncode:
            raise Failed(f"status {done.returncode}:\n{done.stdout}")
        self.names["said"] = done.stdout
        return done.stdout

    def run_python(self, block: Any) -> str:
        if self.name == "django" and "django" not in self.names:
            self.names["django"] = import_module("django")
            self.names["django"].setup()
        exec(compile("\n" * block.line + block.text, self.path.name, "exec"), self.names)
        return ""

    def run_ini(self, block: Any) -> str:
        configparser.ConfigParser(strict=False, interpolation=None).read_string(block.text)
        return self.commands(block)

    def commands(self, block: Any) -> str:
        """The commands in a file of another program."""
        found = [(module, command, shlex.split(rest)) for module, command, rest in COMMAND.findall(block.text)]
        for argv in ARGV.findall(block.text):
            _, *words = json.loads(f"[{argv}]")
            at = 2 if words[0] == "-m" else 1
            found.append((" ".join(words[: at + 1]) if at == 2 else "", words[1], words[at + (at == 2) :]))
        if not found:
            raise Failed("there is no command in it")
        for module, command, rest in found:
            takes(module, command, rest)
        return ""

    run_yaml = run_docker = run_procfile = commands

    def said(self) -> str:
        return "\n".join(f"A worker says:\n{file.read_text()[-6000:]}" for _, file in self.workers)

    def stop(self) -> None:
        """Ends the workers as a service manager does."""
        for worker, _ in self.workers:
            worker.send_signal(signal.SIGTERM)
        for worker, file in self.workers:
            status = worker.wait(SECONDS)
            if status:
                raise Failed(f"SIGTERM ends a worker with status {status}:\n{file.read_text()[-6000:]}")

    def close(self) -> None:
        for worker, _ in self.workers:
            if worker.poll() is None:
                worker.kill()
                worker.wait()
        for session in self.sessions.values():
            session.close()
        self.server.execute(f"DROP DATABASE IF EXISTS {self.database} WITH (FORCE)")
        for role in set(self.roles()) - self.before:
            self.server.execute(f'DROP ROLE "{role}"')
        self.server.close()


def takes(module: str, command: str, rest: list[str]) -> None:
    """Whether a command line is one that the program takes."""
    if module:
        from tenant_q.__main__ import parser

        found = parser()
        words = [module.rsplit(maxsplit=1)[-1], *rest]
    else:
        from django.core.management import load_command_class

        found = load_command_class("tenant_q.django", command).create_parser("manage.py", command)
        words = rest
    try:
        found.parse_args(words)
    except SystemExit:
        raise Failed(f"this can't be called: {module or command} {shlex.join(rest)}") from None


def main(path: str) -> int:
    runner = Runner(Path(path).resolve())
    try:
        runner.run()
    except Failed as failure:
        print(failure)
        return 1
    finally:
        runner.close()
    print(f"{sum(not block.not_run for block in runner.page.blocks)} blocks")
    return 0


if __name__ == "__main__":
    faulthandler.dump_traceback_later(240, exit=True)  # before the test that calls this loses its patience
    sys.exit(main(sys.argv[1]))
