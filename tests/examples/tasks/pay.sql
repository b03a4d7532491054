-- What the tests have examples/worker.sh do.
INSERT INTO paid (invoice, pid) SELECT (:'args'::jsonb ->> 'invoice')::bigint, pg_backend_pid();
SELECT pg_sleep(coalesce((:'args'::jsonb ->> 'seconds')::float8, 0));
