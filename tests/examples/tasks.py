"""What the tests have examples/worker.py do."""

import time


def pay(connection, invoice, seconds=0):
    connection.execute("INSERT INTO paid (invoice, pid) VALUES (%s, pg_backend_pid())", [invoice])
    time.sleep(seconds)
    return {"paid": invoice}


def refuse(connection, why):
    connection.execute("INSERT INTO paid (invoice) VALUES (0)")
    raise ValueError(why)
