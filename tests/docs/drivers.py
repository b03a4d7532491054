"""What docs/drivers.md says of other ways to pass a value, and of notices and transactions."""

import psycopg
from psycopg.types.json import Json, Jsonb


def refused(call, values, sqlstate):
    with psycopg.connect() as connection:
        connection.execute("SET search_path = acme, public")
        try:
            connection.execute(call, values)
        except psycopg.Error as error:
            assert error.sqlstate == sqlstate, (call, error)
            return error
    raise AssertionError(f"{call} is not refused")


refused("SELECT tq_async(%s, %s)", ["greet", Json({"who": "you"})], "42883")
for value in [Json({"who": "you"}), '{"who": "you"}']:
    with psycopg.connect() as connection:
        connection.execute("SET search_path = acme, public")
        # A cast says what is meant.
        connection.execute("SELECT tq_async(%s, %s::jsonb)", ["greet", value])
# Inside a transaction that psycopg has begun; outside of one it works.
error = refused("CALL tq_run_pending('acme')", [], "2D000")
assert "tq_drain()" in error.diag.message_hint, error
refused("SELECT tq_result(tq_async('greet', %s), wait => '1 s')", [Jsonb(["you"])], "55000")
with psycopg.connect(autocommit=True) as connection:
    connection.execute("SET search_path = acme, public")
    connection.execute("CALL tq_run_pending('acme')")
with psycopg.connect() as connection:
    connection.execute("SET search_path = acme, public")
    connection.execute("SELECT tq_async('greet', %s)", [Jsonb(["you"])])
    assert connection.execute("SELECT result FROM tq_drain()").fetchone()[0] == "hello you"
    notices = []
    connection.add_notice_handler(lambda notice: notices.append(notice.message_primary))
    connection.execute("SELECT tq_attach('acme')")
    assert notices == ['schema "acme" is attached already, skipping'], notices
