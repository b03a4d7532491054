-- Schedules: what counts as a run, how the last one ended, and what a fire time does while a retry is to come.
\i sql/setup.psql
CREATE ROLE owner LOGIN;
CREATE SCHEMA acme AUTHORIZATION owner;
SELECT tq_attach('acme');
SET ROLE owner;
SET search_path = acme, public;
SET timezone = 'UTC';
SET datestyle = 'ISO';
CREATE FUNCTION note(what text) RETURNS text LANGUAGE sql AS $$ SELECT what $$;
CREATE FUNCTION fails(what text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no %', what USING ERRCODE = 'AB001', DETAIL = 'none'; END $$;
-- Waits for a lock of the test's, then does as it is told.
CREATE FUNCTION gate(what text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock_shared(1); IF what = 'fail' THEN RAISE EXCEPTION 'the gate has failed'; END IF; RETURN what; END $$;
SELECT tq_register('note'), tq_register('fails', retry => tq_backoff('fixed', '1 hour')), tq_register('gate', retry => tq_backoff('fixed', '1 hour'));
-- A schedule that works tells how time goes by: three fire times more.
SELECT tq_schedule('clock', 'note', '1 second', '["clock"]', overlap => 'allow') IS NOT NULL;
CREATE FUNCTION ticks() RETURNS bigint LANGUAGE sql AS $$ SELECT run_count FROM acme.tq_schedule WHERE name = 'clock' $$;

-- Somebody else's task holds the unique key: no run is counted, none of the repeats is used, the last task is none.
SELECT tq_async('note', '["stranger"]', unique_key => 'k', delay => '1 day') AS stranger \gset
SELECT tq_schedule('keyed', 'note', '1 second', '["keyed"]', repeats => 2, task => '{"unique_key": "k"}') IS NOT NULL,
       tq_schedule('keyed once', 'note', 'once', '["keyed once"]', task => '{"unique_key": "k"}') IS NOT NULL;
SELECT ticks() AS ticks \gset
SELECT test.await(format('acme.ticks() >= %s', :ticks + 3));
SELECT name, run_count, repeats, last_task, last_run, problem, next_run IS NOT NULL AS goes_on FROM tq_schedules WHERE name LIKE 'keyed%' ORDER BY name;
SELECT tq_fire('keyed') = :'stranger' AS theirs;
SELECT run_count, last_task FROM tq_schedules WHERE name = 'keyed';
SELECT tq_cancel(:'stranger');
SELECT test.await('(SELECT repeats = 0 FROM acme.tq_schedule WHERE name = ''keyed'')');
-- Its own key would be in the way of the other one.
SELECT test.await('(SELECT count(*) = 2 FROM acme.tq_result WHERE schedule = ''keyed'')');
SELECT tq_alter_schedule('keyed once', enabled => true);
SELECT test.await('(SELECT count(*) = 3 FROM acme.tq_result WHERE schedule LIKE ''keyed%'')');
SELECT schedule, count(*), min(result #>> '{}') AS result FROM tq_results WHERE schedule LIKE 'keyed%' GROUP BY schedule ORDER BY schedule;
SELECT name, run_count, repeats, last_status FROM tq_schedules WHERE name LIKE 'keyed%';
-- Fire times that are left out because the task before hasn't ended are no runs either.
SELECT pg_advisory_lock(1);
SELECT tq_schedule('skip', 'gate', '1 second', '["skip"]', repeats => 2, overlap => 'skip') IS NOT NULL;
SELECT test.await('(SELECT count(*) = 1 FROM tq_running WHERE handler = ''gate'')');
SELECT ticks() AS ticks \gset
SELECT test.await(format('acme.ticks() >= %s', :ticks + 3));
SELECT run_count, repeats, last_status FROM tq_schedules WHERE name = 'skip';
SELECT pg_advisory_unlock(1);
SELECT test.await('(SELECT repeats = 0 FROM acme.tq_schedule WHERE name = ''skip'')');
SELECT run_count, repeats, next_run FROM tq_schedules WHERE name = 'skip';

-- How the last run ended is known when its result is gone, whoever took it, or when there never was one.
SELECT count(tq_schedule(name, handler, 'once', '["x"]', repeats => 1, task => task)) FROM (VALUES ('deleted', 'note', NULL::jsonb), ('failed', 'fails', '{"max_attempts": 1}'), ('many', 'note', NULL), ('purged', 'fails', '{"max_attempts": 1}'), ('grouped', 'note', '{"group_id": "g"}'), ('unsaved', 'note', '{"save": false}'), ('kept', 'note', NULL)) v (name, handler, task);
SELECT test.await('(SELECT count(*) = 6 FROM acme.tq_result WHERE schedule IN (''deleted'', ''failed'', ''many'', ''purged'', ''grouped'', ''kept'')) AND (SELECT run_count = 1 FROM acme.tq_schedule WHERE name = ''unsaved'') AND NOT EXISTS (SELECT FROM acme.tq_task WHERE schedule = ''unsaved'')');
SELECT tq_delete(last_task) FROM tq_schedules WHERE name IN ('deleted', 'failed');
SELECT tasks FROM tq_delete_all(schedule => 'many');
SELECT tq_delete_group('g', tasks => true);
SELECT name, last_status FROM tq_schedules WHERE name IN ('deleted', 'failed', 'many', 'purged', 'grouped', 'unsaved', 'kept') ORDER BY name;
SELECT tq_purge('0', '{failed}') > 0;
SELECT name, last_status, (SELECT count(*) FROM tq_results WHERE id = last_task) AS results FROM tq_schedules WHERE name IN ('failed', 'purged', 'kept') ORDER BY name;
-- Retention
RESET ROLE;
ALTER SYSTEM SET tenant_q.retention_every = 1;
SELECT pg_reload_conf();
SET ROLE owner;
SELECT tq_set_tenant('acme', save_limit => 1, result_ttl => '0');
SELECT test.await('(SELECT count(*) = 0 FROM acme.tq_result WHERE schedule = ''kept'')');
SELECT name, last_status FROM tq_schedules WHERE name IN ('kept') ORDER BY name;
RESET ROLE;
ALTER SYSTEM RESET tenant_q.retention_every;
SELECT pg_reload_conf();
SET ROLE owner;
SELECT tq_set_tenant('acme', reset => '{save_limit,result_ttl}');
-- The next run's outcome takes its place.
SELECT tq_alter_schedule('kept', repeats => 1, rule => 'once', handler => 'fails', task => '{"max_attempts": 1, "save": false}');
SELECT tq_fire('kept') AS id \gset
SELECT tq_result(:'id', wait => '20 s');
\echo :SQLSTATE
SELECT last_status, fail_count FROM tq_schedules WHERE name = 'kept';

-- While a retry is to come: 'queue' makes no other task, and tq_why says so; 'renew' gives it up.
SELECT tq_schedule('queue', 'fails', '1 second', '["queue"]') IS NOT NULL, tq_schedule('renew', 'fails', '1 second', '["renew"]', overlap => 'renew') IS NOT NULL,
       tq_schedule('after renew', 'note', 'after', '["after renew"]', after => '{renew}', after_outcome => 'failure') IS NOT NULL;
SELECT test.await('(SELECT fail_count >= 2 FROM acme.tq_schedule WHERE name = ''renew'')');
SELECT test.await('(SELECT run_count >= 1 FROM acme.tq_schedule WHERE name = ''after renew'')');
SELECT name, run_count, fail_count, last_status FROM tq_schedules WHERE name = 'queue';
SELECT count(*) FROM tq_tasks WHERE schedule = 'queue' AND state = 'retrying';
SELECT reason, detail ~ '^it is due at [^;]*; until it has ended, fire times of schedule "queue" make no other task$' AS tells, hint FROM tq_schedules, tq_why(last_task) WHERE name = 'queue';
SELECT run_count > 2 AS runs, run_count - fail_count <= 1 AS all_failed, (SELECT count(*) <= 1 FROM tq_task WHERE schedule = 'renew') AS at_most_one FROM tq_schedules WHERE name = 'renew';
SELECT DISTINCT state, attempt, error FROM tq_results WHERE schedule = 'renew' AND error ? 'hint';
-- As the hint says.
SELECT tq_alter_schedule('queue', overlap => 'renew');
SELECT test.await('(SELECT fail_count >= 1 FROM acme.tq_schedule WHERE name = ''queue'')');
SELECT tq_unschedule('after renew'), tq_unschedule('renew'), tq_unschedule('queue');
-- One that fails while the next one waits already isn't tried again.
SELECT pg_advisory_lock(1);
SELECT tq_schedule('behind', 'gate', '1 second', '["fail"]', overlap => 'renew') IS NOT NULL;
SELECT test.await('(SELECT count(*) = 2 FROM acme.tq_task WHERE schedule = ''behind'')');
SELECT tq_alter_schedule('behind', enabled => false);
SELECT pg_advisory_unlock(1);
SELECT test.await('(SELECT count(*) = 1 FROM acme.tq_result WHERE schedule = ''behind'')');
SELECT state, attempt, error ->> 'message' AS message, error ->> 'hint' ~ '^It is not tried again: task \S* of the next fire time waits already\.$' AS hint FROM tq_results WHERE schedule = 'behind';
SELECT test.await('(SELECT count(*) = 1 FROM tq_tasks WHERE schedule = ''behind'' AND state = ''retrying'')');
SELECT count(tq_unschedule(name)) > 0 FROM tq_schedules;
