-- What docs/coming-from.md says of this side, where it differs from where people come from.
\i sql/setup.psql
CREATE ROLE owner LOGIN;
CREATE SCHEMA acme AUTHORIZATION owner;
SELECT tq_attach('acme');
SET ROLE owner;
SET search_path = acme, public;
SET TimeZone = 'UTC';
CREATE TABLE seen (what text);
CREATE FUNCTION pair(a int, b int DEFAULT 0) RETURNS jsonb LANGUAGE sql AS 'SELECT jsonb_build_array(a, b)';
CREATE FUNCTION bad() RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$;
CREATE FUNCTION ok() RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION callback(task jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT task -> 'result' $$;
CREATE FUNCTION note(task jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO seen VALUES (concat_ws(' ', task ->> 'event', task ->> 'handler')) $$;
SELECT tq_register('pair'), tq_register('ok'), tq_register('callback'), tq_register('note'), tq_register('bad', max_attempts => 2, retry => tq_backoff('fixed', '0'));

-- By position or by name; defaults.
SELECT tq_result(tq_async('pair', '[1, 2]', sync => true)), tq_result(tq_async('pair', '{"a": 1, "b": 2}', sync => true));
SELECT name, setting, unit FROM pg_settings WHERE name IN ('tenant_q.max_attempts', 'tenant_q.timeout') ORDER BY 1;
SELECT tq_async('bad', id => '01900000-0000-7000-8000-000000000001');
SELECT tq_result('01900000-0000-7000-8000-000000000001', wait => '20 s');
\echo :SQLSTATE
SELECT tq_result('01900000-0000-7000-8000-000000000001', propagate => false);

-- Django-Q: the letters; daily at once, or a day later; the month's end; hooks and signals.
SELECT letter, count(*) FROM unnest('{I,H,D,W,BW,M,BM,Q,Y}'::text[]) AS letter, tq_next_runs(letter, n => 2, start_at => '2027-01-01 10:00+00', tz => 'UTC') GROUP BY 1 ORDER BY 1;
SELECT tq_schedule('once', 'ok', 'O') IS NOT NULL AS once, tq_schedule('later', 'ok', 'D') IS NOT NULL AS later, tq_schedule('now', 'ok', 'D', start_at => now()) IS NOT NULL AS now;
SELECT test.await('(SELECT count(*) = 1 FROM tq_results WHERE schedule = ''now'')');
SELECT name, next_run - now() BETWEEN interval '23 hours 50 minutes' AND interval '25 hours' AS a_day_later, run_count FROM tq_schedules WHERE name <> 'once' ORDER BY name;
SELECT tq_next_runs('M', n => 3, start_at => '2027-01-31 10:00+00', tz => 'UTC') AS back, tq_next_runs('M', n => 3, start_at => '2027-01-31 10:00+00', tz => 'UTC', month_end => 'sticky') AS sticky;
SELECT count(tq_on(event, 'note', for_handler => handler)) FROM (VALUES ('done', 'ok'), ('attempt_failed', 'bad'), ('after_run', 'bad')) AS x (event, handler);
SELECT tq_async('ok') IS NOT NULL, tq_async('bad', hook => 'callback') IS NOT NULL;
SELECT test.await('(SELECT count(*) = 0 FROM tq_tasks)');
SELECT what, count(*) FROM seen GROUP BY 1 ORDER BY 1;
SELECT handler, count(*) FROM tq_results WHERE handler = 'callback' GROUP BY 1;
SELECT tq_set_tenant('acme', save_limit => 250, save_limit_per => 'handler');

-- Celery: the callback of a group, where a result goes in a chain, one array for all chunks, days of a crontab.
SELECT tq_group('[{"handler": "pair", "args": [1]}, {"handler": "pair", "args": [2]}]', '{"on_success": "callback"}') IS NOT NULL AS chord;
SELECT test.await('(SELECT count(*) = 2 FROM tq_results WHERE handler = ''callback'')');
SELECT result FROM tq_results WHERE handler = 'callback' AND result <> 'null';
CREATE FUNCTION wrap(n int, result int) RETURNS jsonb LANGUAGE sql AS 'SELECT jsonb_build_array(n, result)';
CREATE FUNCTION plus(a int, b int) RETURNS int LANGUAGE sql AS 'SELECT a + b';
SELECT tq_register('wrap'), tq_register('plus');
SELECT tq_result(tq_chain('[{"handler": "plus", "args": [1, 2]}, {"handler": "wrap", "args": [10]}]', pass_result => true, task => '{"sync": true}'));
SELECT tq_result(tq_async_iter('pair', ARRAY['[1, 2]', '[3, 4]', '[5, 6]']::jsonb[], chunk => 2, task => '{"sync": true}'));
SELECT tq_next_runs('0 0 13 * fri', n => 2, start_at => '2027-01-01+00', tz => 'UTC') AS either, tq_next_runs('0 0 13 * fri', n => 2, start_at => '2027-01-01+00', tz => 'UTC', day_and => true) AS both;

-- RQ, procrastinate: an id twice; what waits, once; what depends.
SELECT tq_pause();
SELECT count(tq_async('ok', id => '01900000-0000-7000-8000-000000000002')) FROM generate_series(1, 2);
SELECT tq_async('ok', unique_key => 'k', unique_until => 'started', id => '01900000-0000-7000-8000-000000000003');
SELECT tq_async('ok', unique_key => 'k', unique_until => 'started');
\echo :SQLSTATE
SELECT tq_async('ok', unique_key => 'k', unique_until => 'started', on_conflict => 'skip');
SELECT tq_async('ok', depends_on => '{01900000-0000-7000-8000-000000000003}', name => 'dependent') IS NOT NULL AS dependent;
SELECT tq_cancel('01900000-0000-7000-8000-000000000003', running => false);
SELECT tq_resume();
SELECT test.await('(SELECT count(*) = 1 FROM tq_results WHERE name = ''dependent'' AND state = ''cancelled'')');
SELECT tq_schedule('minutely', 'ok', 'every minute', repeats => 3) IS NOT NULL;

-- pg_cron: what can't run in a transaction can't be a task; ANALYZE can.
CREATE FUNCTION run(command text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE command; END $$;
CREATE PROCEDURE call(command text) LANGUAGE plpgsql AS $$ BEGIN COMMIT; EXECUTE command; END $$;
SELECT tq_register('run', max_attempts => 1), tq_register('call', 'call(text)', max_attempts => 1);
SELECT count(tq_async(handler, to_jsonb(command), name => command)) FROM unnest('{run,call}'::text[]) AS handler,
    unnest('{VACUUM seen,ANALYZE seen,CREATE INDEX CONCURRENTLY ON seen (what),REINDEX TABLE CONCURRENTLY seen,CREATE DATABASE x,ALTER SYSTEM SET work_mem = 64}'::text[]) AS command;
SELECT test.await('(SELECT count(*) = 12 FROM tq_results WHERE handler IN (''run'', ''call''))');
SELECT name, handler, state, error ->> 'sqlstate' AS sqlstate FROM tq_results WHERE handler IN ('run', 'call') ORDER BY 1, 2;
