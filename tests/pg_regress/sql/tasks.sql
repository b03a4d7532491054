-- Tasks: enqueuing, running, retrying, waiting, cancelling, looking.
\i sql/setup.psql
CREATE ROLE owner LOGIN;
CREATE SCHEMA acme AUTHORIZATION owner;
SELECT tq_attach('acme');
SELECT tq_set_quota('acme', max_running => 1);
SET ROLE owner;
SET search_path = acme, public;
CREATE TABLE log (n serial, what text);
CREATE FUNCTION note(what text) RETURNS text LANGUAGE sql AS $$ INSERT INTO log (what) VALUES ($1) RETURNING what $$;
CREATE FUNCTION napping(seconds float8) RETURNS void LANGUAGE sql AS $$ SELECT pg_sleep(seconds) $$;
CREATE FUNCTION breaking(message text, code text DEFAULT 'P0001') RETURNS int LANGUAGE plpgsql
AS $$ BEGIN PERFORM note('before'); RAISE EXCEPTION '%', message USING ERRCODE = code, DETAIL = 'the detail', HINT = 'the hint'; END $$;
CREATE FUNCTION third_time() RETURNS int LANGUAGE plpgsql
AS $$ BEGIN IF (tq_current()).attempt < 3 THEN RAISE EXCEPTION 'not yet: %', (tq_current()).attempt; END IF; RETURN (tq_current()).attempt; END $$;
CREATE FUNCTION asking(delay interval, final bool DEFAULT false) RETURNS int LANGUAGE plpgsql
AS $$ BEGIN
    PERFORM note('asking');
    IF final THEN PERFORM tq_fail('no such order'); END IF;
    IF (tq_current()).attempt = 1 THEN PERFORM tq_retry(delay, 'the bank is closed'); END IF;
    RETURN (tq_current()).attempt;
END $$;
CREATE FUNCTION who() RETURNS jsonb LANGUAGE sql
AS $$ SELECT to_jsonb(c) - 'id' - 'deadline' || jsonb_build_object('id', c.id IS NOT NULL, 'deadline', extract(epoch FROM c.deadline - now())::int) FROM tq_current() c $$;
SELECT bool_and(tq_register(f)) FROM unnest('{note,napping,breaking,third_time,asking,who}'::text[]) f;

-- The least: enqueue, wait, look.
SELECT tq_async('note', '["hello"]', name => 'first') AS id \gset
SELECT tq_result(:'id', wait => '20 s');
SELECT tenant, handler, name, state, reason, args, result, error, attempt, max_attempts, queue, priority, group_id, enqueued_by, meta FROM tq_fetch(:'id') \gx
SELECT created_at <= run_at, run_at <= started_at, started_at <= finished_at FROM tq_fetch(:'id');
SELECT count(*) FROM tq_tasks;
SELECT handler, state, result FROM tq_results;
-- What is done is in no index of what is not.
SELECT pg_relation_size('tq_result_state') AS bytes;
SELECT reason FROM tq_why(:'id');
SELECT attempt, outcome, duration > '0', sqlstate, message FROM tq_attempts(:'id');
SELECT tq_find('first') = :'id';

-- All parameters, as they arrive.
SELECT tq_set_tenant(ready => false);
SELECT tq_async('who', name => 'label', group_id => 'batch', queue => 'mail', priority => 7, delay => '1 hour', timeout => '2 minutes', max_attempts => 9,
    retry => tq_backoff('fixed', '5 seconds'), expires => '1 day', save => true, result_ttl => '1 day', meta => '{"by": "test"}', id => '01900000-0000-7000-8000-000000000001');
SELECT handler, name, state, args, attempt, max_attempts, queue, priority, group_id, run_at - created_at AS delay, meta FROM tq_tasks \gx
SELECT * FROM tq_result('01900000-0000-7000-8000-000000000001');
SELECT reason, detail ~ 'due at|not ready', hint FROM tq_why('01900000-0000-7000-8000-000000000001');
-- The same id twice is one task, even while it waits; and its args are the first ones.
SELECT tq_async('note', '["other"]', id => '01900000-0000-7000-8000-000000000001');
SELECT count(*), min(handler) FROM tq_tasks;
SELECT tq_cancel('01900000-0000-7000-8000-000000000001');
SELECT tq_cancel('01900000-0000-7000-8000-000000000001');
SELECT state, attempt, started_at, finished_at IS NOT NULL AS over, error FROM tq_fetch('01900000-0000-7000-8000-000000000001');
SELECT tq_result('01900000-0000-7000-8000-000000000001');
\echo :SQLSTATE
SELECT tq_result('01900000-0000-7000-8000-000000000001', propagate => false);
SELECT tq_async('note', '["again"]', id => '01900000-0000-7000-8000-000000000001');
SELECT count(*) FROM tq_tasks;
SELECT tq_set_tenant(ready => true);

-- tq_current inside
SELECT tq_async('who', meta => '{"by": "test"}', timeout => '2 minutes') AS id \gset
SELECT jsonb_pretty(tq_result(:'id', wait => '20 s'));
-- meta that is JSON null, and a task without a timeout
SELECT tq_async('who', meta => 'null', timeout => '0', max_attempts => 0) AS id \gset
SELECT jsonb_pretty(tq_result(:'id', wait => '20 s'));

-- Priorities: higher first; then due time; then id. NULL args and JSON null are two things.
SELECT tq_pause();
SELECT count(tq_async('note', to_jsonb(format('prio %s', p)), priority => p)) FROM unnest('{5,7,6,-32768,32767}'::int[]) p;
SELECT count(tq_async('note', '["prio default"]'));
SELECT count(tq_async('note', '["overdue"]', run_at => '2001-01-01'));
SELECT count(tq_async('note', '[null]'));
TRUNCATE log;
SELECT tq_resume();
SELECT test.await('NOT EXISTS (SELECT FROM acme.tq_task)');
SELECT what FROM log ORDER BY n;

-- Many at once: ids in the order of the input, all or none.
TRUNCATE log;
SELECT count(*), count(DISTINCT id), max(id::text) = (array_agg(id ORDER BY n))[100]::text AS in_order
  FROM tq_async_many((SELECT jsonb_agg(jsonb_build_object('handler', 'note', 'args', jsonb_build_array(n::text))) FROM generate_series(1, 100) n)) WITH ORDINALITY AS t(id, n);
SELECT test.await('(SELECT count(*) = 100 FROM acme.log)');
SELECT array_agg(what::int ORDER BY n) = array_agg(what::int ORDER BY what::int) AS in_order FROM log;
SELECT count(*) FROM tq_async_many('[]');
SELECT count(DISTINCT id) FROM tq_async_many('[{"handler": "note", "args": ["x"], "id": "01900000-0000-7000-8000-000000000002"}, {"handler": "note", "args": ["x"], "id": "01900000-0000-7000-8000-000000000002"}]') id;
SELECT tq_result('01900000-0000-7000-8000-000000000002', wait => '20 s');
-- Keys as in tq_async
SELECT tq_set_tenant(ready => false);
SELECT count(*) FROM tq_async_many('[{"handler": "note", "args": ["x"], "name": "n", "group_id": "g", "queue": "q", "priority": 3, "run_at": "2001-01-01 00:00+00", "timeout": "1 minute", "max_attempts": 2,
    "retry": {"kind": "fixed", "base": 1}, "expires": "1 hour", "save": false, "result_ttl": "1 hour", "meta": {"a": 1}, "delay": null}]');
SELECT name, group_id, queue, priority, run_at = '2001-01-01 00:00+00' AS then, max_attempts, meta FROM tq_tasks;
SELECT count(tq_cancel(id)) FROM tq_tasks;
SELECT tq_set_tenant(ready => true);

-- A rolled back enqueue never runs; a savepoint's neither.
TRUNCATE log;
BEGIN;
SELECT count(tq_async('note', '["rolled back"]'));
ROLLBACK;
BEGIN;
SAVEPOINT s;
SELECT count(tq_async('note', '["rolled back too"]'));
ROLLBACK TO s;
SELECT tq_async('note', '["committed"]') AS id \gset
SELECT tq_result(:'id');
SELECT tq_result(:'id', wait => '1 s');
\echo :SQLSTATE
ROLLBACK;
BEGIN;
SELECT tq_result(tq_async('note', '["in one statement"]')) IS NULL;
SELECT tq_result(tq_async('note', '["in one statement"]'), wait => '1 s');
ROLLBACK;
BEGIN;
SELECT tq_async('note', '["committed"]') AS id \gset
COMMIT;
SELECT tq_result(:'id', wait => '20 s');
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT tq_result(:'id');
SELECT tq_result(:'id', wait => '1 s');
\echo :SQLSTATE
ROLLBACK;
SELECT what FROM log;

-- Errors: the whole error is kept, effects are rolled back, and it is raised.
TRUNCATE log;
SELECT tq_async('breaking', '["out of paper"]', max_attempts => 1) AS id \gset
SELECT tq_result(:'id', wait => '20 s');
\echo :SQLSTATE
SELECT tq_result(:'id', propagate => false);
SELECT state, attempt, result, error FROM tq_fetch(:'id');
SELECT attempt, outcome, sqlstate, message, detail, context ~ 'breaking' AS context, pid > 0 AS pid FROM tq_attempts(:'id');
SELECT count(*) FROM log;

-- Retries
SELECT tq_async('third_time', retry => tq_backoff('fixed', '0')) AS id \gset
SELECT tq_result(:'id', wait => '20 s');
SELECT attempt, outcome, sqlstate, message FROM tq_attempts(:'id');
SELECT state, attempt, error FROM tq_fetch(:'id');
SELECT tq_async('third_time', max_attempts => 2, retry => tq_backoff('list', delays => '{0,0}')) AS id \gset
SELECT tq_result(:'id', wait => '20 s');
SELECT attempt, outcome, message FROM tq_attempts(:'id');
-- Only some errors; by class, by code, never
SELECT tq_async('breaking', '["x", "22012"]', retry => tq_backoff('fixed', '0', retry_on => '{22}')) AS a, tq_async('breaking', '["x", "23505"]', retry => tq_backoff('fixed', '0', retry_on => '{22}')) AS b,
       tq_async('breaking', '["x", "22012"]', retry => tq_backoff('fixed', '0', never_on => '{22012}')) AS c \gset
SELECT tq_result(:'a', wait => '20 s', propagate => false), tq_result(:'b', wait => '20 s', propagate => false), tq_result(:'c', wait => '20 s', propagate => false);
SELECT (SELECT attempt FROM tq_fetch(:'a')) AS a, (SELECT attempt FROM tq_fetch(:'b')) AS b, (SELECT attempt FROM tq_fetch(:'c')) AS c;
-- Waiting for the next attempt, it says so.
SELECT tq_async('third_time', retry => tq_backoff('fixed', '1 hour'), name => 'waits') AS id \gset
SELECT test.await(format('(SELECT state = ''retrying'' FROM tq_fetch(%L))', :'id'));
SELECT state, attempt, max_attempts, error, run_at - created_at > '59 minutes' AS later FROM tq_tasks;
SELECT reason, hint FROM tq_why(:'id');
SELECT tq_cancel(:'id');
SELECT state, attempt FROM tq_fetch(:'id');
-- tq_retry and tq_fail
SELECT tq_async('asking', '["0 s"]') AS id \gset
SELECT tq_result(:'id', wait => '20 s');
SELECT attempt, outcome, sqlstate, message FROM tq_attempts(:'id');
SELECT tq_async('asking', '["0 s", true]', max_attempts => 5) AS id \gset
SELECT tq_result(:'id', wait => '20 s');
\echo :SQLSTATE
SELECT attempt, outcome, sqlstate, message FROM tq_attempts(:'id');
SELECT tq_async('asking', '["0 s"]', max_attempts => 1) AS id \gset
SELECT tq_result(:'id', wait => '20 s');
SELECT count(*) FROM log;

-- Timeouts: of the task, of the handler, of the setting.
SELECT tq_async('napping', '[60]', timeout => '200 ms', max_attempts => 1) AS id \gset
SELECT tq_result(:'id', wait => '20 s');
SELECT attempt, outcome, sqlstate, message, duration BETWEEN '200 ms' AND '5 s' AS in_time FROM tq_attempts(:'id');
SELECT tq_register('napping', timeout => '250 ms', max_attempts => 2, retry => tq_backoff('fixed', '0'));
SELECT tq_async('napping', '[60]') AS id \gset
SELECT tq_result(:'id', wait => '20 s', propagate => false);
SELECT attempt, outcome FROM tq_attempts(:'id');
SELECT tq_async('napping', '[0.5]', timeout => '1 minute') AS id \gset
SELECT tq_result(:'id', wait => '20 s');
SELECT tq_register('napping');

-- One that is over its time and returns all the same has not done its work: it may have caught the cancel, or called what
-- heeds none. Nothing of it stays.
RESET ROLE;
GRANT pg_execute_server_program TO owner;
SET ROLE owner;
CREATE FUNCTION deaf() RETURNS int LANGUAGE plpgsql AS $$ BEGIN PERFORM note('deaf'); BEGIN PERFORM pg_sleep(60); EXCEPTION WHEN query_canceled THEN NULL; END; RETURN 1; END $$;
CREATE FUNCTION outside() RETURNS int LANGUAGE plpgsql AS $$ BEGIN PERFORM note('outside'); COPY (SELECT 1) TO PROGRAM 'sleep 0.6; cat >/dev/null'; RETURN 1; END $$;
CREATE PROCEDURE deaf_in_steps() LANGUAGE plpgsql AS $$ BEGIN PERFORM note('first step'); COMMIT; PERFORM deaf(); END $$;
SELECT tq_register(f, timeout => '250 ms', max_attempts => 2, retry => tq_backoff('fixed', '0')) FROM unnest('{deaf,outside,deaf_in_steps}'::text[]) f;
DELETE FROM log;
SELECT tq_async('deaf') AS a, tq_async('outside') AS b, tq_async('deaf_in_steps') AS c \gset
SELECT tq_result(id, wait => '20 s', propagate => false) FROM unnest(ARRAY[:'a', :'b', :'c']::uuid[]) WITH ORDINALITY AS x (id, n) ORDER BY n;
SELECT n, attempt, outcome FROM unnest(ARRAY[:'a', :'b', :'c']::uuid[]) WITH ORDINALITY AS x (id, n), tq_attempts(id) ORDER BY n, attempt;
SELECT what, count(*) FROM log GROUP BY what;
SELECT tq_async('note', '["the executor goes on"]') AS id \gset
SELECT tq_result(:'id', wait => '20 s');
-- In one's own session too.
SELECT tq_async('deaf', sync => true);
\echo :SQLSTATE
BEGIN;
SELECT tq_async('outside', max_attempts => 1) AS id \gset
SELECT handler, state, error ->> 'message' AS message FROM tq_drain();
SELECT count(*) FROM log WHERE what = 'outside';
ROLLBACK;

-- Cancelling one that runs
SELECT tq_async('napping', '[60]', name => 'long') AS id \gset
SELECT test.await('(SELECT count(*) = 1 FROM tq_running)');
SELECT tenant, handler, attempt, role, since < now() + '1 s' AS since, deadline - since AS timeout, listed FROM tq_running;
SELECT state, attempt, started_at IS NOT NULL AS started FROM tq_fetch(:'id');
SELECT reason FROM tq_why(:'id');
SELECT tq_result(:'id');
SELECT tq_cancel(:'id', running => false);
SELECT tq_cancel(:'id');
SELECT test.await('NOT EXISTS (SELECT FROM tq_running)');
SELECT state, attempt FROM tq_fetch(:'id');
SELECT count(*) FROM tq_tasks;

-- Expired: not started any more.
SELECT tq_pause();
SELECT tq_async('note', '["too late"]', expires => '10 ms') AS id \gset
SELECT pg_sleep(0.05);
SELECT tq_resume();
SELECT tq_result(:'id', wait => '20 s');
\echo :SQLSTATE
SELECT state, attempt, started_at, error FROM tq_fetch(:'id');

-- save => false keeps no success, but a failure.
SELECT tq_async('note', '["unsaved"]', save => false, id => '01900000-0000-7000-8000-000000000003') AS id \gset
SELECT test.await('NOT EXISTS (SELECT FROM acme.tq_task)');
SELECT tq_result(:'id');
SELECT count(*) FROM tq_fetch(:'id');
SELECT tq_async('breaking', '["x"]', save => false, max_attempts => 1) AS id \gset
SELECT tq_result(:'id', wait => '20 s', propagate => false);

-- Waiting: 0 never blocks, the time is kept, waiting for an unknown task doesn't wait.
SELECT tq_async('note', '["later"]', delay => '1 hour', name => 'later') AS id \gset
SELECT tq_result(:'id', wait => '0');
SELECT clock_timestamp() AS began \gset
SELECT tq_result(:'id', wait => '300 ms');
SELECT clock_timestamp() - :'began' BETWEEN '250 ms' AND '5 s' AS waited;
SET tenant_q.max_wait = '200 ms';
SELECT tq_result(:'id', wait => '1 hour');
RESET tenant_q.max_wait;
SELECT state FROM tq_fetch(:'id', wait => '100 ms');
SELECT w.reason FROM tq_why(:'id') w;
-- The newest of a name
SELECT tq_async('note', '["later 2"]', delay => '1 hour', name => 'later') AS id2 \gset
SELECT tq_find('later') = :'id2' AS newest;
SELECT count(tq_cancel(id)) FROM tq_tasks;
-- A task waits for no other.
CREATE FUNCTION impatient(id uuid) RETURNS jsonb LANGUAGE sql AS $$ SELECT tq_result(id, wait => '1 s') $$;
SELECT tq_register('impatient');
SELECT tq_async('impatient', jsonb_build_array(:'id'), max_attempts => 1) AS id3 \gset
SELECT tq_result(:'id3', wait => '20 s');

-- A task enqueues others, in its own transaction.
CREATE FUNCTION spawn(n int) RETURNS uuid LANGUAGE plpgsql AS $$ DECLARE id uuid; BEGIN
    id := tq_async('note', to_jsonb('child ' || n), name => 'child');
    IF n = 0 THEN PERFORM 1 / n; END IF;
    RETURN id;
END $$;
SELECT tq_register('spawn');
TRUNCATE log;
SELECT tq_async('spawn', '[0]', max_attempts => 1) AS a, tq_async('spawn', '[1]') AS b \gset
SELECT tq_result(:'a', wait => '20 s', propagate => false);
SELECT tq_result((tq_result(:'b', wait => '20 s') #>> '{}')::uuid, wait => '20 s');
SELECT what FROM log;

-- Backoff: the formulas, without their random part, in seconds.
SELECT kind, (SELECT array_agg(tenant_q.backoff_delay(p, n)::float8 ORDER BY n) FROM unnest('{1,2,3,4,5,10,20,1000}'::int[]) n) AS delays
  FROM (VALUES ('default', NULL), ('fixed', tq_backoff('fixed', '7 s')), ('fixed, 15 s', tq_backoff('fixed')), ('linear', tq_backoff('linear', '10 s')), ('linear, 2', tq_backoff('linear', '10 s', factor => 2)),
               ('exponential', tq_backoff('exponential', '1 s', factor => 3, cap => '1 min')), ('list', tq_backoff('list', delays => '{5 s,10 s,15 s}')),
               ('rq', tq_backoff('rq', delays => '{5 s,10 s,15 s}')), ('rq, none', tq_backoff('rq')),
               ('celery', tq_backoff('celery')), ('celery, 5', tq_backoff('celery', '5 s')), ('dramatiq', tq_backoff('dramatiq')), ('procrastinate', tq_backoff('procrastinate')),
               ('procrastinate, 2', tq_backoff('procrastinate', '2 s')), ('procrastinate, 2, 3', tq_backoff('procrastinate', '2 s', factor => 3)),
               ('a day, exponential', tq_backoff('exponential', '1 day')), ('two hours, linear', tq_backoff('linear', '2 hours')), ('an hour, celery', tq_backoff('celery', '1 hour'))) AS v(kind, p);
SELECT tq_backoff('exponential', '1 s', 2, '1 minute', 0.5, retry_on => '{40,57014}', never_on => '{23}');

-- A quota
RESET ROLE;
SELECT tq_set_quota('acme', max_queued => 2);
SET ROLE owner;
SELECT tq_pause();
BEGIN;
SELECT count(tq_async('note', '["a"]')), count(tq_async('note', '["b"]'));
SELECT tq_async('note', '["c"]');
\echo :SQLSTATE
ROLLBACK;
SELECT tq_resume();

-- What belongs to a request is said once.
RESET ROLE;
SELECT tq_set_quota('acme', reset => '{max_queued}');
SET ROLE owner;
BEGIN;
SET LOCAL tenant_q.meta = '{"request": 42}';
SELECT meta FROM tq_fetch(tq_async('note', '["m"]'));
SELECT meta FROM tq_fetch(tq_async('note', '["m"]', meta => '{"own": true}'));
SET LOCAL tenant_q.meta = '{"request"';
SELECT tq_async('note', '["m"]');
\echo :SQLSTATE
ROLLBACK;
