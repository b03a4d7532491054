"""Runs each worker in examples/ against a server, as somebody would who has copied it: run.py [WORKER...].

Each does what is there, once, in two tenants; says how failures failed; stops at a SIGTERM and gives back what it holds; and when it
is killed in the midst of a task, that task runs again, and what it has done is there once. It heeds drain: what hasn't begun goes back,
and where all are to begin anew it ends.

From the environment: PGHOST, a server with the extension preloaded; PSQL; NODE_PATH, where node finds pg."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psycopg

HERE = Path(__file__).parent
EXAMPLES = HERE.parent.parent / "examples"
LIMIT = 60
# The command, and what it calls an error of its language.
WORKERS = {
    "worker.py": ([sys.executable, "-B", EXAMPLES / "worker.py", HERE / "tasks.py"], "builtins.ValueError"),
    "worker.js": (["node", EXAMPLES / "worker.js", HERE / "tasks.js"], "RangeError"),
    "worker.sh": (["bash", EXAMPLES / "worker.sh", HERE / "tasks"], "psql.Error"),
}
SETUP = """
CREATE EXTENSION tenant_q;
CREATE SCHEMA "Acme & Co" AUTHORIZATION {owner};
CREATE SCHEMA globex AUTHORIZATION {owner};
SELECT tq_attach('Acme & Co'), tq_attach('globex');
SET ROLE {owner};
CREATE TABLE "Acme & Co".paid (invoice bigint, pid int);
CREATE TABLE globex.paid (LIKE "Acme & Co".paid);
GRANT USAGE ON SCHEMA "Acme & Co", globex TO {worker};
GRANT ALL ON "Acme & Co".paid, globex.paid TO {worker};
SELECT tq_grant({worker_text}, '{{work}}', tenant => t),
       tq_register('pay', external => true, tenant => t, params => '[{{"name": "invoice", "type": "bigint"}}, {{"name": "seconds", "type": "float8", "default": 0}}]'),
       tq_register('refuse', external => true, tenant => t, max_attempts => 1, params => '[{{"name": "why", "type": "text"}}]')
  FROM unnest(ARRAY['Acme & Co', 'globex']) AS t;
"""


class Site:
    """A database of its own, and workers of one kind."""

    def __init__(self, worker):
        self.command, self.error = WORKERS[worker]
        self.database = worker.replace(".", "_")
        self.log = tempfile.TemporaryFile("w+")
        names = {"owner": f"{self.database}_owner", "worker": f"{self.database}_worker"}
        with psycopg.connect("user=postgres dbname=postgres", autocommit=True) as server:
            server.execute(f"CREATE DATABASE {self.database}")
            for role in names.values():
                server.execute(f"CREATE ROLE {role} LOGIN")
        self.sql = psycopg.connect(f"user=postgres dbname={self.database}", autocommit=True)
        self.sql.execute(SETUP.format(**names, worker_text=f"'{names['worker']}'"))
        self.sql.execute("RESET ROLE")
        path = f"{Path(os.environ['PSQL']).parent}:{os.environ['PATH']}"
        self.environment = {**os.environ, "PATH": path, "PGDATABASE": self.database, "PGUSER": names["worker"]}
        self.running = []

    def start(self):
        worker = subprocess.Popen(self.command, env=self.environment, stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL)
        self.running.append(worker)
        return worker

    def ask(self, query, *values):
        return self.sql.execute(query, values).fetchone()[0]

    def until(self, query, *values):
        deadline = time.monotonic() + LIMIT
        while not self.ask(query, *values):
            for worker in self.running:
                assert worker.poll() in (None, -signal.SIGKILL), f"the worker has ended with status {worker.returncode}"
            assert time.monotonic() < deadline, f"it never was: {query}"
            time.sleep(0.05)

    def enqueue(self, tenant, handler, args):
        return self.ask("SELECT tq_async(%s, %s::jsonb, tenant => %s)", handler, args, tenant)

    def stop(self, worker):
        worker.terminate()
        assert worker.wait(LIMIT) == 0, f"stopped with status {worker.returncode}"
        self.running.remove(worker)

    def close(self):
        for worker in self.running:
            worker.kill()
            worker.wait()
        self.sql.close()
        self.log.seek(0)
        return self.log.read()


def does_each_once(site):
    for n in range(20):
        site.enqueue("Acme & Co" if n % 2 else "globex", "pay", f'{{"invoice": {n}}}')
    refused = site.enqueue("globex", "refuse", '["no \\"funds\\" 100%\\there"]')
    worker = site.start()
    site.until("SELECT (SELECT count(*) = 10 FROM globex.tq_result WHERE state = 'd') AND (SELECT count(*) = 10 FROM \"Acme & Co\".tq_result)")
    # What is enqueued while it waits.
    site.enqueue("globex", "pay", "[20]")
    site.until("SELECT count(*) = 12 FROM globex.tq_result")
    paid = site.ask('SELECT array_agg(invoice ORDER BY invoice) FROM (TABLE globex.paid UNION ALL TABLE "Acme & Co".paid) AS x')
    assert paid == list(range(21)), paid
    error = site.ask("SELECT error FROM tq_fetch(%s, tenant => 'globex')", refused)
    assert error["class"] == site.error and error["message"], error
    site.stop(worker)


def gives_back_what_it_holds(site):
    site.sql.execute("TRUNCATE globex.paid")
    tasks = [site.enqueue("globex", "pay", f'{{"invoice": {n}, "seconds": 2}}') for n in range(4)]
    worker = site.start()
    site.until("SELECT count(*) = 4 FROM tq_running")
    site.until("SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND datname = current_database() AND pid <> pg_backend_pid()")
    site.stop(worker)
    left = site.ask("SELECT count(*) FROM globex.tq_task WHERE attempts = 0 AND id = ANY (%s)", tasks)
    done = site.ask("SELECT count(*) FROM globex.tq_result WHERE id = ANY (%s)", tasks)
    assert done >= 1 and left + done == 4 and left >= 1, (done, left)
    worker = site.start()
    site.until("SELECT count(*) = 4 FROM globex.tq_result WHERE id = ANY (%s)", tasks)
    assert site.ask("SELECT array_agg(invoice ORDER BY invoice) FROM globex.paid") == [0, 1, 2, 3]
    site.stop(worker)


def killed_in_the_midst(site):
    site.sql.execute("TRUNCATE globex.paid")
    task = site.enqueue("globex", "pay", '{"invoice": 7, "seconds": 3}')
    worker = site.start()
    # It has written, and hasn't committed.
    site.until("SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND datname = current_database() AND pid <> pg_backend_pid()")
    worker.kill()
    worker.wait()
    other = site.start()
    site.until("SELECT count(*) = 1 FROM globex.tq_result WHERE id = %s", task)
    assert site.ask("SELECT array_agg(invoice) FROM globex.paid") == [7]
    site.stop(other)


def heeds_drain(site):
    # A pause takes back what has not begun, and goes when the rest has ended.
    site.sql.execute("TRUNCATE globex.paid")
    tasks = [site.enqueue("globex", "pay", f'{{"invoice": {n}, "seconds": 6}}') for n in range(4)]
    worker = site.start()
    site.until("SELECT count(*) = 4 FROM tq_running")
    site.sql.execute("SELECT tq_pause(tenant => 'globex', drain => '60 s')")
    assert site.ask("SELECT count(*) FROM tq_running") == 0
    done = site.ask("SELECT count(*) FROM globex.tq_result WHERE state = 'd' AND id = ANY (%s)", tasks)
    left = site.ask("SELECT count(*) FROM globex.tq_task WHERE attempts = 0 AND id = ANY (%s)", tasks)
    assert 1 <= done <= 2 and done + left == 4, (done, left)
    assert worker.poll() is None, "it goes on taking"
    site.enqueue("Acme & Co", "pay", "[100]")
    site.until('SELECT count(*) = 1 FROM "Acme & Co".paid WHERE invoice = 100')
    # One that has nothing to do is to begin anew.
    site.ask("SELECT tq_recycle()")
    assert worker.wait(LIMIT) == 0, f"stopped with status {worker.returncode}"
    site.running.remove(worker)


def main(names):
    passed, failed = 0, 0
    for name in names or WORKERS:
        if not shutil.which(str(WORKERS[name][0][0])):
            print(f"FAILED  examples: {name}: {WORKERS[name][0][0]} is missing on this machine")
            failed += 1
            continue
        began, site, wrong = time.monotonic(), Site(name), None
        try:
            for case in (does_each_once, gives_back_what_it_holds, killed_in_the_midst, heeds_drain):
                case(site)
        except Exception as error:
            wrong = f"{case.__name__}: {type(error).__name__}: {error}"
        said = site.close()
        if wrong:
            failed += 1
            print(f"FAILED  examples: {name}: {wrong}\nThe worker has said:\n{said}")
        else:
            passed += 1
            print(f"ok      examples: {name} ({time.monotonic() - began:.1f} s)")
    print(f"examples: {passed} passed, {failed} failed")
    return failed


sys.exit(1 if main(sys.argv[1:]) else 0)
