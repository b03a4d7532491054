"""The flows of docs/flows.md run to their ends."""

import time

import psycopg

with psycopg.connect(autocommit=True) as connection:
    connection.execute("SET search_path = acme, public")
    connection.execute("SELECT tq_cancel(tq_find('catalogue'))")
    deadline = time.monotonic() + 30
    while connection.execute("SELECT count(*) FROM tq_tasks").fetchone()[0]:
        assert time.monotonic() < deadline, connection.execute("SELECT handler, state, reason FROM tq_tasks").fetchall()
        time.sleep(0.05)
    ended = dict(connection.execute("SELECT state, count(*) FROM tq_results GROUP BY 1").fetchall())
    assert ended.pop("cancelled") == 2 and list(ended) == ["done"], ended
    for callback in ["bind_pages", "told", "tell_accounting", "publish", "close_month"]:
        assert connection.execute("SELECT count(*) FROM tq_results WHERE handler = %s", [callback]).fetchone() == (1,), callback
