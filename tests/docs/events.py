"""The listeners of docs/events.md hear what it says."""

import time

import psycopg


def wait_for(connection, statement):
    deadline = time.monotonic() + 30
    while not (rows := connection.execute(statement).fetchall()):
        assert time.monotonic() < deadline, statement
        time.sleep(0.05)
    return rows


with psycopg.connect(autocommit=True) as connection:
    connection.execute("SET search_path = acme, public")
    connection.execute("SELECT tq_on('failed', 'tell_support')")
    connection.execute("SELECT tq_async('send_invoice', '[0]', max_attempts => 1), tq_async('send_invoice', '[1]')")
    assert wait_for(connection, "SELECT text FROM message") == [("send_invoice failed division by zero",)]
    assert wait_for(connection, "SELECT args ->> 'event' FROM tq_results WHERE handler = 'archive'") == [("done",)]
    # By the answer that the listener gives today.
    connection.execute("SELECT tq_async('send_reminder', name => 'reminder')")
    ended = wait_for(connection, "SELECT state, error ->> 'sqlstate', (SELECT only_on_weekdays(NULL)) FROM tq_results WHERE name = 'reminder'")
    assert ended in [[("done", None, True)], [("cancelled", "TQ005", False)]], ended
