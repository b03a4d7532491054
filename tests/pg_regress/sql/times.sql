-- When a task may run, until when it may start, how long what is left of it is kept; and tasks that put themselves off.
\i sql/setup.psql
CREATE ROLE owner LOGIN;
CREATE SCHEMA acme AUTHORIZATION owner;
SELECT tq_attach('acme');
SET ROLE owner;
SET search_path = acme, public;
CREATE FUNCTION ok(k text) RETURNS text LANGUAGE sql AS $$ SELECT k $$;
CREATE FUNCTION bad(k text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION '%', k; END $$;
SELECT bool_and(tq_register(f)) FROM unnest('{ok,bad}'::text[]) f;

-- Months and days as PostgreSQL adds them in the tenant's zone, not 30 days and 24 hours.
SELECT tq_set_tenant(timezone => 'America/New_York', ready => false);
CREATE TABLE lengths AS SELECT l::interval AS length FROM unnest('{1 month,1 year,13 months,1 day,10 years 3 days 04:05:06.789,26 hours,7 months -3 days,400 days}'::text[]) l;
SELECT count(tq_async('ok', '["x"]', delay => length, expires => length, name => length::text)) FROM lengths;
SELECT tq_async('ok', '["x"]', delay => '-1 month 10 days');
\echo :SQLSTATE
SET TimeZone = 'America/New_York';
SELECT length, run_at = created_at + length AS due, expires_at = created_at + length + length AS expires FROM lengths JOIN tq_task ON name = length::text ORDER BY length;
-- Of objects, chains, handlers and fan-outs too.
SELECT tq_register('month', 'ok(text)', expires => '1 month', result_ttl => '1 year 1 day');
SELECT expires, result_ttl FROM tq_handlers WHERE handler = 'month';
SELECT tq_async_many('[{"handler": "month", "args": ["x"], "delay": "1 year", "name": "of an object"}]') IS NOT NULL AS enqueued;
SELECT run_at = created_at + interval '1 year' AS due, expires_at = run_at + interval '1 month' AS expires FROM tq_task WHERE name = 'of an object';
SELECT tq_pause(handler => 'ok', duration => '1 month');
RESET ROLE;
SELECT until - since - (since + interval '1 month' - since) < '1 minute' AS a_month FROM tenant_q.pause;
SET ROLE owner;
SELECT tq_resume(handler => 'ok');
DELETE FROM tq_task;
-- A year's results: what ended 362 days ago is not a year old.
SELECT tq_set_tenant(ready => true);
SELECT tq_result(tq_async('ok', jsonb_build_array('kept ' || n)), wait => '0') FROM generate_series(1, 2) n;
SELECT test.await('(SELECT count(*) = 2 FROM tq_result)');
UPDATE tq_result SET finished_at = now() - interval '362 days' WHERE args ->> 0 = 'kept 1';
UPDATE tq_result SET finished_at = now() - interval '1 year 1 day' WHERE args ->> 0 = 'kept 2';
SELECT tq_purge('1 year');
SELECT args FROM tq_result;
SELECT tq_purge('0');
-- What executors remove goes by the same years.
RESET ROLE;
ALTER SYSTEM SET tenant_q.retention_every = 1;
SELECT pg_reload_conf();
SET ROLE owner;
SELECT tq_set_tenant(save_limit => 1, result_ttl => '1 year', failure_ttl => '1 year');
SELECT tq_register('bad', max_attempts => 1);
SELECT count(tq_async(h, jsonb_build_array(k))) FROM unnest('{ok,bad}'::text[]) h, unnest('{young,old}'::text[]) k;
SELECT test.await('(SELECT count(*) = 4 FROM tq_result)');
UPDATE tq_result SET finished_at = now() - CASE args ->> 0 WHEN 'old' THEN interval '1 year 1 day' ELSE '362 days' END;
SELECT tq_async('ok', '["newest"]') AS id \gset
SELECT tq_result(:'id', wait => '20 s');
SELECT test.await('NOT EXISTS (SELECT FROM tq_result WHERE args ->> 0 = ''old'')');
SELECT handler, args FROM tq_result ORDER BY handler, args;
RESET ROLE;
ALTER SYSTEM RESET tenant_q.retention_every;
SELECT pg_reload_conf();
SET ROLE owner;
SELECT tq_set_tenant(reset => '{save_limit,result_ttl,failure_ttl}');
SELECT tq_purge('0');
RESET TimeZone;

-- Until when: since it may run. What waits for others may when they have ended, however long that took; two hours, here.
CREATE FUNCTION two_hours_pass() RETURNS void LANGUAGE sql AS $$
    UPDATE tq_task SET created_at = created_at - interval '2 hours', run_at = run_at - interval '2 hours', expires_at = expires_at - interval '2 hours';
    UPDATE tq_result SET finished_at = finished_at - interval '2 hours' $$;
SELECT tq_register('fresh', 'ok(text)', expires => '1 hour');
SELECT tq_pause();
SELECT tq_async('ok', '["before"]') AS before \gset
SELECT tq_async('ok', '["dependent"]', depends_on => ARRAY[:'before']::uuid[], expires => '1 hour', name => 'dependent') AS dependent,
       tq_async('fresh', '["of its handler"]', depends_on => ARRAY[:'before']::uuid[], name => 'of its handler') AS handlers,
       tq_async('ok', '["any"]', depends_on => ARRAY[:'before']::uuid[], depends_mode => 'any', expires => '1 hour') AS of_any,
       tq_chain('[{"handler": "ok", "args": ["step 1"]}, {"handler": "ok", "args": ["step 2"], "expires": "1 hour"}, {"handler": "fresh", "args": ["step 3"]}]') AS chain,
       tq_chain('[{"handler": "ok", "args": ["first"]}, {"group": [{"handler": "ok", "args": ["of a group"], "expires": "1 hour"}, {"handler": "fresh", "args": ["in a chain"]}]}]') AS nested,
       tq_async('ok', '["alone"]', expires => '1 hour') AS alone \gset
SELECT two_hours_pass();
SELECT tq_resume();
SELECT tq_result(id, wait => '20 s', propagate => false) FROM unnest(ARRAY[:'dependent', :'handlers', :'of_any', :'chain', :'nested', :'alone']::uuid[]) WITH ORDINALITY AS x (id, n) ORDER BY n;
SELECT state FROM tq_fetch(:'alone');
-- When they had ended two hours ago it is too late, though nobody has looked since.
SELECT tq_pause();
SELECT tq_async('ok', '["late"]', depends_on => ARRAY[:'before']::uuid[], expires => '1 hour') AS late,
       tq_async('ok', '["in time"]', depends_on => ARRAY[:'before']::uuid[], expires => '3 hours') AS in_time \gset
SELECT two_hours_pass();
SELECT tq_resume();
SELECT tq_result(:'in_time', wait => '20 s'), tq_result(:'late', wait => '20 s', propagate => false);
SELECT state FROM tq_fetch(:'late');
-- The same in one's own session.
SELECT tq_pause();
SELECT tq_async('ok', '["first"]') AS first \gset
SELECT tq_async('ok', '["then"]', depends_on => ARRAY[:'first']::uuid[], expires => '1 hour'), tq_async('ok', '["too late"]', expires => '1 hour') \gset
SELECT two_hours_pass();
BEGIN;
SELECT tq_resume();
SELECT args, state FROM tq_drain();
COMMIT;
-- What is put off, or run again, has its time anew.
SELECT tq_pause();
SELECT tq_async('fresh', '["put off"]') AS id \gset
SELECT tq_update(:'id', run_at => now() + '1 day');
SELECT expires_at - run_at AS after FROM tq_task WHERE id = :'id';
SELECT tq_update(:'id', expires => '2 hours');
SELECT expires_at - run_at AS after FROM tq_task WHERE id = :'id';
SELECT tq_update(:'id', run_at => now() + '2 days');
SELECT expires_at - run_at AS after FROM tq_task WHERE id = :'id';
DELETE FROM tq_task WHERE id = :'id';
SELECT tq_requeue(:'late');
SELECT expires_at - run_at AS after FROM tq_task WHERE id = :'late';
SELECT tq_resume();
SELECT tq_result(:'late', wait => '20 s');

-- Put off by themselves.
CREATE FUNCTION until_there(tries int, again jsonb DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
DECLARE seen int := (SELECT count(*) FROM pings);
BEGIN
    IF again IS NOT NULL THEN PERFORM tq_retry('0', 'with other arguments', args => again); END IF;
    IF seen < tries THEN
        -- A sequence: what it is at isn't rolled back.
        PERFORM nextval('asked');
        PERFORM tq_retry('10 ms', 'not there yet', count => false);
    END IF;
    RETURN 'attempt ' || (tq_current()).attempt;
END $$;
CREATE TABLE pings (n int);
CREATE SEQUENCE asked;
SELECT tq_register('until_there', max_attempts => 2, retry => tq_backoff('fixed', '0', retry_on => '{40}', never_on => '{TQ}'));
CREATE FUNCTION heard(task jsonb) RETURNS void LANGUAGE sql AS $$ SELECT $$;
SELECT tq_register('heard');
SELECT tq_on('attempt_failed', 'heard') IS NOT NULL AS listens;
SELECT tq_async('until_there', '[1]') AS id \gset
SELECT test.await('(SELECT last_value > 5 FROM asked)');
INSERT INTO pings VALUES (1);
SELECT tq_result(:'id', wait => '20 s');
SELECT attempt, outcome, sqlstate, message, detail ~ '^Put off [0-9]+ times in a row.$' AS detail FROM tq_attempts(:'id');
SELECT count(*) FROM tq_result WHERE handler = 'heard';
SELECT count(*) FROM tq_failures WHERE id = :'id';
SELECT test.await('(SELECT done = 1 AND failed = 0 AND retried = 0 FROM tq_stats WHERE handler = ''until_there'')');
-- One that counts is another attempt whatever its policy retries; and has other arguments then.
SELECT tq_async('until_there', '[9, [0, null]]') AS id \gset
SELECT tq_result(:'id', wait => '20 s');
SELECT args FROM tq_fetch(:'id');
SELECT attempt, outcome FROM tq_attempts(:'id');
SELECT count(*) FROM tq_failures WHERE id = :'id';
-- Arguments that don't fit are told where they are given.
SELECT tq_async('until_there', '[9, {"tries": "many"}]', max_attempts => 1) AS id \gset
SELECT tq_result(:'id', wait => '20 s');
CREATE FUNCTION negative(k text) RETURNS void LANGUAGE sql AS $$ SELECT tq_retry('-1 s', count => false) $$;
CREATE FUNCTION another(k text) RETURNS void LANGUAGE sql AS $$ SELECT tq_retry('0', args => '["x"]') $$;
SELECT tq_register('negative', max_attempts => 1), tq_register('another', max_attempts => 1);
SELECT tq_result(tq_async('negative', '["x"]'), wait => '0');
SELECT tq_result(tq_async_iter('another', '{"[\"a\"]","[\"b\"]"}', chunk => 2), wait => '0');
SELECT test.await('(SELECT count(*) = 2 FROM tq_result WHERE handler IN (''negative'', ''another''))');
SELECT handler, error ->> 'sqlstate' AS sqlstate, error ->> 'message' AS message FROM tq_result WHERE handler IN ('negative', 'another') ORDER BY handler;
-- A thousand times is the most; then each counts. And time passes for none of them.
DELETE FROM pings;
SELECT tq_pause();
SELECT tq_async('until_there', '[1]', expires => '1 hour') AS id \gset
UPDATE tq_task SET options = options || '{"snoozes": 998}' WHERE id = :'id';
SELECT tq_resume();
SELECT tq_result(:'id', wait => '20 s', propagate => false);
SELECT attempt, outcome, detail FROM tq_attempts(:'id');
SELECT attempt FROM tq_fetch(:'id');
-- It keeps its key, and nobody's place.
CREATE FUNCTION later(k text) RETURNS void LANGUAGE sql AS $$ SELECT tq_retry('1 month', 'next month', count => false) $$;
SELECT tq_register('later');
SELECT tq_async('later', '["x"]', unique_key => 'one', expires => '1 day') AS id \gset
SELECT test.await(format('(SELECT state = ''delayed'' FROM tq_fetch(%L))', :'id'));
SELECT state, attempt, max_attempts FROM tq_fetch(:'id');
SET TimeZone = 'America/New_York';
SELECT run_at - (now() + interval '1 month') BETWEEN '-1 minute' AND '1 minute' AS next_month, expires_at = run_at + interval '1 day' AS expires FROM tq_task WHERE id = :'id';
RESET TimeZone;
SELECT tq_async('later', '["y"]', unique_key => 'one', on_conflict => 'skip') = :'id' AS same;
SELECT reason FROM tq_why(:'id');
SELECT tq_cancel(:'id');
-- In one's own session it is the same, and each is run once more only when that is due.
BEGIN;
SELECT tq_async('later', '["x"]') AS id \gset
SELECT state, attempt FROM tq_drain();
SELECT state, attempt FROM tq_drain(max_tasks => 3, as_of => now() + '1 year');
ROLLBACK;

-- At most three in any hour: the next one may start an hour after the first, not when the clock's next hour begins.
SELECT tq_set_limit('api', rate => '3/h', algorithm => 'sliding');
SELECT count(tq_async('ok', jsonb_build_array(n::text), limit_key => 'api')) FROM generate_series(1, 5) n;
SELECT test.await('(SELECT count(*) = 3 FROM tq_result WHERE limit_key = ''api'')');
SELECT count(*), bool_and(substring(detail FROM 'start at (.*)$')::timestamptz - (SELECT min(started_at) FROM tq_result WHERE limit_key = 'api') BETWEEN '59 minutes 59 seconds' AND '1 hour 4 minutes') AS in_an_hour
  FROM tq_task, tq_why(id) WHERE limit_key = 'api' AND reason = 'rate';
SELECT tq_set_limit('api', rate => '100/h', algorithm => 'sliding');
SELECT test.await('(SELECT count(*) = 5 FROM tq_result WHERE limit_key = ''api'')');
