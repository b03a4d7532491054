#!/usr/bin/env python3
"""A worker in plain psycopg 3:  pip install 'psycopg[binary]' && PGUSER=worker python worker.py tasks.py

The functions in tasks.py are what it offers to do. Each gets the connection, in whose transaction its task ends, with the tenant's
schema first on search_path, then the task's arguments; what it returns is the result."""

import runpy
import signal
import sys
import threading
import traceback

import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

functions = {name: f for name, f in runpy.run_path(sys.argv[1]).items() if getattr(f, "__module__", "") == "<run_path>"}
taker = psycopg.connect(autocommit=True, row_factory=dict_row)  # its end is the end of what it has taken: behind no pooler
work = psycopg.connect(autocommit=True)
stop = threading.Event()
running = None  # the claim of the task at hand
unwanted = set()  # claims of tasks that go back unless they have begun


def listen():
    """Says that we live, and hears what is to be given up."""
    for news in taker.execute("SELECT claim, what FROM tq_watch()").fetchall():
        if not news["claim"]:  # drain: all are to begin anew (tq_recycle); whoever has started us does so again
            stop.set()
        elif news["claim"] != running:
            unwanted.add(news["claim"])
        elif news["what"] in ("cancel", "timeout"):
            work.cancel()


def watch():
    while not stop.wait(5):
        listen()


def end(call, *values):
    try:
        work.execute(f"SELECT {call}", values)
    except psycopg.Error as error:
        if error.sqlstate != "TQ007":  # else the claim is gone: the task isn't ours any more, and nothing of it stands
            raise


def run(task):
    global running
    running = task["claim"]
    call = lambda args: functions[task["handler"]](work, **(args or {}))
    try:
        with work.transaction():
            work.execute("SELECT set_config('search_path', quote_ident(%s) || ', public', true)", [task["tenant"]])
            result = [call(args) for args in task["args"]] if task["each"] else call(task["args"])
            work.execute("SELECT tq_finish(%s, %s)", [task["claim"], Jsonb(result)])
    except Exception as error:
        name, said = f"{type(error).__module__}.{type(error).__qualname__}", traceback.format_exc()
        end("tq_give_up(%s, %s)", task["claim"], Jsonb({"message": str(error), "class": name, "traceback": said}))


signal.signal(signal.SIGTERM, lambda *_: (stop.set(), taker.cancel()))  # it may be waiting
threading.Thread(target=watch, daemon=True).start()
while not stop.is_set():
    try:
        tasks = taker.execute("SELECT * FROM tq_take(4, handlers => %s, worker => 'worker.py')", [list(functions)]).fetchall()
        if not tasks:
            taker.execute("CALL tq_await('20 seconds', handlers => %s)", [list(functions)])
            listen()
    except psycopg.errors.QueryCanceled:
        continue
    for task in tasks:
        end("tq_release(%s)", task["claim"]) if stop.is_set() or task["claim"] in unwanted else run(task)
