-- What one asks at three in the morning, each answered by one query: docs/questions.md.
\i sql/setup.psql
CREATE ROLE acme LOGIN;
CREATE ROLE globex LOGIN;
CREATE ROLE watcher LOGIN IN ROLE pg_monitor;
CREATE SCHEMA acme AUTHORIZATION acme;
CREATE SCHEMA globex AUTHORIZATION globex;
SELECT tq_attach('acme'), tq_attach('globex');
SET search_path = acme, public;
CREATE TABLE door ();
ALTER TABLE door OWNER TO acme;
SET ROLE acme;
CREATE FUNCTION ok() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION bad() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no such order' USING ERRCODE = '22012'; END $$;
CREATE FUNCTION slow() RETURNS int LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(60); RETURN 1; END $$;
CREATE FUNCTION long() RETURNS int LANGUAGE plpgsql AS $$ BEGIN
    PERFORM tq_progress(0.25, '{"rows": 10}');
    WHILE NOT EXISTS (SELECT FROM pg_locks WHERE relation = 'door'::regclass AND pid <> pg_backend_pid()) LOOP PERFORM pg_sleep(0.02); END LOOP;
    PERFORM tq_progress(0.5);
    LOCK TABLE door;
    RETURN 2;
END $$;
SELECT tq_register('ok'), tq_register('bad', max_attempts => 2, retry => tq_backoff('fixed', '0')), tq_register('slow', timeout => '50 ms', max_attempts => 1), tq_register('long', max_attempts => 1);
SELECT tq_async('ok', group_id => 'g') IS NULL, tq_async('ok', group_id => 'g') IS NULL, tq_async('slow', group_id => 'g') IS NULL, tq_async('bad', group_id => 'g', id => '01900000-0000-7000-8000-000000000001');
SELECT tq_result_group('g', failures => true, wait => '20 s');
SELECT tq_async('long', id => '01900000-0000-7000-8000-000000000002');
SELECT tq_async('ok', delay => '1 hour', id => '01900000-0000-7000-8000-000000000003');
SELECT tq_schedule('nightly', 'ok', '0 2 * * *', tz => 'UTC') IS NULL;
SELECT test.await('(SELECT count(*) = 1 FROM tq_running WHERE progress = 0.25)');

SET ROLE watcher;
-- 1. Is anything running at all; what is wrong with the engine?
SELECT check_name FROM tq_health() WHERE NOT ok;
-- 2. Who is behind, by how much?
SELECT tenant, queued, lag FROM tq_tenants ORDER BY lag DESC NULLS LAST, tenant;
-- 3. What runs now, since when, what does it wait for?
SELECT tenant, handler, since < now() AS since, deadline > now() AS deadline, progress, note, blocked_by FROM tq_running;
-- 5. What failed in the last ten minutes, anywhere?
SELECT tenant, handler, attempt, sqlstate, message, role FROM tq_failures WHERE at > now() - interval '10 minutes' ORDER BY handler, attempt;
-- 6. Which handler got slow or started failing?
SELECT tenant, handler, done, failed, retried, timeouts, max_run_time > '50 ms' AS slow, mean_run_time <= max_run_time AS mean, total_run_time >= max_run_time AS total, since < now() AS since
  FROM tq_stats ORDER BY handler;
-- 8. Are executors full, or is the server out of slots?
SELECT kind, state, count(*) > 0 AS any FROM tq_workers WHERE kind <> 'executor' OR state = 'running' GROUP BY 1, 2 ORDER BY 1, 2;
SELECT ok FROM tq_health() WHERE check_name = 'worker_slots';
SELECT ok, value LIKE current_setting('server_version_num')::integer / 10000 || '.%, at least %' AS value, detail, hint FROM tq_health() WHERE check_name = 'server_version';
-- 9. Who floods?
SELECT tenant, queued, done_1m FROM tq_tenants ORDER BY queued DESC, tenant;
-- 15. When is the backlog gone?
SELECT tenant, eta > '0' AS eta FROM tq_tenants ORDER BY tenant;
-- For exporters.
SELECT name, labels, value FROM tq_metrics WHERE labels->>'handler' = 'bad' AND name NOT LIKE '%seconds%' ORDER BY name;
SELECT name, value FROM tq_metrics WHERE name = 'tenant_q_up';

SET ROLE acme;
-- 4. Why does this task not run?
SELECT reason FROM tq_why('01900000-0000-7000-8000-000000000003');
-- 7. Did the schedule run?
SELECT name, last_run, last_status FROM tq_schedules;
SELECT count(*) FROM tq_failures WHERE schedule = 'nightly';
-- 10. What happened to this task, attempt by attempt?
SELECT attempt, outcome, sqlstate, message FROM tq_attempts('01900000-0000-7000-8000-000000000001');
-- 14. Is a task holding locks or the xmin horizon?
SELECT handler, blocked_by, xmin_age >= 0 AS horizon FROM tq_running WHERE xmin_age IS NOT NULL OR blocked_by <> '{}';
BEGIN;
LOCK TABLE door IN ACCESS SHARE MODE;
SELECT test.await('(SELECT count(*) = 1 FROM tq_running WHERE wait_event = ''relation'')');
SELECT handler, progress, note, wait_event, blocked_by = ARRAY[pg_backend_pid()] AS by_me FROM tq_running;
COMMIT;
SELECT tq_result('01900000-0000-7000-8000-000000000002', wait => '20 s');
-- 11. Stop this handler everywhere, this tenant, all.
SELECT tq_pause(handler => 'bad');
RESET ROLE;
SELECT tq_pause_all(handler => 'ok');
SELECT tq_resume_all(handler => 'ok');
SELECT tq_pause('globex');
SELECT tenant, status FROM tq_tenants ORDER BY tenant;
-- 12. Run again all that failed between then and then.
SET ROLE acme;
SELECT tasks, more, sample FROM tq_requeue_all(states => '{failed}', handler => 'bad', since => now() - interval '1 hour', until => now());
SELECT test.await('(SELECT state = ''held'' FROM tq_tasks WHERE handler = ''bad'')');
-- 13. What is stopped, how do I release it?
DROP FUNCTION slow();
SELECT what, reason, fix FROM tq_problems;

-- Strangers see nothing of it.
SET ROLE globex;
SELECT (SELECT count(*) FROM tq_failures) AS failures, (SELECT count(*) FROM tq_stats) AS stats, (SELECT count(*) FROM tq_running) AS running, (SELECT count(*) FROM tq_metrics WHERE labels->>'tenant' IS DISTINCT FROM 'globex') AS metrics;
SELECT * FROM tq_queues;
\echo :SQLSTATE
SET search_path = globex, public;
SELECT * FROM tq_queues;
SET search_path = acme, public;
-- Progress is for handlers, and bounded.
SELECT tq_progress(0.5);
\echo :SQLSTATE
SET ROLE acme;
CREATE FUNCTION odd(fraction float8, size int) RETURNS void LANGUAGE sql AS $$ SELECT tq_progress(fraction, to_jsonb(repeat('x', size))) $$;
SELECT tq_register('odd', max_attempts => 1);
SELECT tq_async('odd', '[1.5, 1]', id => '01900000-0000-7000-8000-000000000011'), tq_async('odd', '["NaN", 1]', id => '01900000-0000-7000-8000-000000000012'),
       tq_async('odd', '[1, 254]', id => '01900000-0000-7000-8000-000000000013'), tq_async('odd', '[1, 255]', id => '01900000-0000-7000-8000-000000000014');
SELECT tq_result('01900000-0000-7000-8000-000000000011', wait => '20 s', propagate => false), tq_result('01900000-0000-7000-8000-000000000012', wait => '20 s', propagate => false);
SELECT tq_result('01900000-0000-7000-8000-000000000013', wait => '20 s', propagate => false), tq_result('01900000-0000-7000-8000-000000000014', wait => '20 s', propagate => false);
SELECT sqlstate, count(*) FROM tq_failures WHERE handler = 'odd' GROUP BY 1 ORDER BY 1;
-- Counting anew, and fresh processes.
SELECT tq_stats_reset();
\echo :SQLSTATE
SELECT tq_recycle();
\echo :SQLSTATE
RESET ROLE;
SELECT tq_stats_reset();
SELECT count(*) FROM tq_stats;
SET ROLE acme;
SELECT tq_async('ok', id => '01900000-0000-7000-8000-000000000021');
SELECT tq_result('01900000-0000-7000-8000-000000000021', wait => '20 s');
SELECT test.await('(SELECT tenant = ''acme'' AND handler = ''ok'' AND done = 1 FROM tq_stats)');
RESET ROLE;
SELECT test.await('(SELECT count(*) = 0 FROM tq_workers WHERE kind = ''executor'' AND state = ''starting'')');
CREATE TABLE before AS SELECT pid FROM tq_workers WHERE kind = 'executor' AND state <> 'starting';
WITH present AS MATERIALIZED (SELECT count(*) AS n FROM tq_workers WHERE kind = 'executor' AND state <> 'starting') SELECT tq_recycle() = n AS all FROM present;
SELECT test.await('(SELECT count(*) = 0 FROM tq_workers JOIN before USING (pid))');
SET ROLE acme;
SELECT tq_async('ok', id => '01900000-0000-7000-8000-000000000022');
SELECT tq_result('01900000-0000-7000-8000-000000000022', wait => '20 s');
