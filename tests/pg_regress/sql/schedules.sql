-- Schedules: rules and their fire times, making and removing, running.
\i sql/setup.psql
CREATE ROLE owner LOGIN;
CREATE SCHEMA acme AUTHORIZATION owner;
SELECT tq_attach('acme');
SET ROLE owner;
SET search_path = acme, public;
SET timezone = 'UTC';
SET datestyle = 'ISO';

-- Fire times
CREATE TABLE cases (n serial, rule text, tz text, after timestamptz, times int, start_at timestamptz, month_end text, day_and bool);
INSERT INTO cases (rule, tz, after, times, start_at, month_end, day_and) VALUES
    -- cron, one zone
    ('* * * * *', 'UTC', '2010-09-11 14:30:15Z', 1, NULL, NULL, NULL), ('* * * * *', 'UTC', '2010-09-11 14:59:15Z', 1, NULL, NULL, NULL), ('5,42 * * * *', 'UTC', '2010-09-11 14:30:15Z', 1, NULL, NULL, NULL), ('5,10,15 * * * *', 'UTC', '2010-09-11 14:30:15Z', 1, NULL, NULL, NULL),
    ('30 14 * * sat', 'UTC', '2010-09-11 14:30:15Z', 1, NULL, NULL, NULL), ('5,42 * * * mon-fri', 'UTC', '2010-09-11 14:30:15Z', 1, NULL, NULL, NULL), ('30 14 18 oct *', 'UTC', '2010-09-11 14:30:15Z', 1, NULL, NULL, NULL), ('30 14 18 * *', 'UTC', '2010-09-11 14:30:15Z', 1, NULL, NULL, NULL),
    ('30 14 18 * mon', 'UTC', '2010-01-18 14:30:15Z', 1, NULL, NULL, true), ('30 14 18 * mon', 'UTC', '2010-01-18 14:30:15Z', 1, NULL, NULL, false), ('30 14 29 * *', 'UTC', '2012-01-29 14:30:15Z', 1, NULL, NULL, NULL), ('30 14 29 * *', 'UTC', '2010-01-29 14:30:15Z', 1, NULL, NULL, NULL),
    ('30 14 29 2 *', 'UTC', '2012-02-29 14:30Z', 1, NULL, NULL, NULL), ('30 7 8-14 * thu', 'UTC', '2010-04-08 07:30Z', 2, NULL, NULL, true), ('30 7 8-14 3 thu', 'UTC', '2009-03-12 07:30Z', 2, NULL, NULL, true), ('0 8 5 * *', 'UTC', '2024-01-05 08:00Z', 2, NULL, NULL, NULL),
    ('15,30 18-22 20 OCT *', 'UTC', '2022-08-07 10:00Z', 2, NULL, NULL, NULL), ('*/15 * * * *', 'UTC', '2010-05-10 10:15Z', 2, NULL, NULL, NULL), ('*/30 * * * * *', 'UTC', '2010-05-10 10:15Z', 3, NULL, NULL, NULL), ('0 0 L * *', 'UTC', '2024-01-31Z', 3, NULL, NULL, NULL), ('0 0 * * 7', 'UTC', '2024-01-01Z', 1, NULL, NULL, NULL), ('@daily', 'UTC', '2024-01-01 00:00Z', 1, NULL, NULL, NULL),
    -- cron and the changes of clocks
    ('0 9 * * *', 'Europe/Paris', '2017-10-28 09:00+02', 1, NULL, NULL, NULL), ('30 2 * * *', 'Europe/Berlin', '2023-03-25 12:00+01', 2, NULL, NULL, NULL), ('30 2 * * *', 'Europe/Berlin', '2023-10-28 12:00+02', 2, NULL, NULL, NULL), ('*/30 * * * *', 'Europe/Berlin', '2023-03-26 01:15+01', 4, NULL, NULL, NULL),
    ('30 * * * *', 'Europe/Berlin', '2023-10-29 01:00+02', 4, NULL, NULL, NULL),
    -- fixed periods keep the wall clock
    ('daily', 'Europe/Amsterdam', '2021-03-27 01:00+01', 3, '2021-03-27 01:00+01', NULL, NULL), ('daily', 'Europe/Berlin', '2023-03-25 02:30+01', 4, '2023-03-25 02:30+01', NULL, NULL), ('daily', 'Europe/Berlin', '2023-10-28 02:30+02', 2, '2023-10-28 02:30+02', NULL, NULL),
    ('weekly', 'Europe/Berlin', '2023-03-19 02:30+01', 3, '2023-03-19 02:30+01', NULL, NULL), ('BW', 'UTC', '2024-01-01 12:00Z', 2, '2024-01-01 12:00Z', NULL, NULL), ('BM', 'UTC', '2024-01-01 12:00Z', 2, '2024-01-01 12:00Z', NULL, NULL),
    -- month ends
    ('monthly', 'UTC', '2024-01-31 12:00Z', 4, '2024-01-31 12:00Z', NULL, NULL), ('monthly', 'UTC', '2024-01-31 12:00Z', 4, '2024-01-31 12:00Z', 'sticky', NULL), ('monthly', 'UTC', '2024-01-31 12:00Z', 3, '2024-01-31 12:00Z', 'skip', NULL), ('yearly', 'UTC', '2024-02-29 00:00Z', 4, '2024-02-29 00:00Z', NULL, NULL), ('quarterly', 'UTC', '2020-02-02Z', 1, '2020-02-02Z', NULL, NULL), ('quarterly', 'UTC', '2020-11-02Z', 1, '2020-11-02Z', NULL, NULL),
    -- steps of elapsed time
    ('10 seconds', 'UTC', '2024-01-01 00:00:03Z', 2, '2024-01-01Z', NULL, NULL), ('hourly', 'Europe/Berlin', '2023-03-26 01:30+01', 2, '2023-03-26 00:30+01', NULL, NULL), ('every day at 23:30', 'UTC', '2024-01-01 23:30Z', 1, NULL, NULL, NULL), ('monday at 10:30', 'Europe/Berlin', '2024-01-01 12:00+01', 2, NULL, NULL, NULL), ('2030-01-01 10:30', 'Europe/Berlin', '2024-01-01Z', 3, NULL, NULL, NULL);
SELECT rule, tz, (SELECT string_agg(to_char(t, 'YYYY-MM-DD HH24:MI:SS'), ', ' ORDER BY t) FROM tq_next_runs(rule, tz, after, times, start_at, month_end, coalesce(day_and, false)) t) AS fire_times FROM cases ORDER BY n;
SELECT count(*) FROM tq_next_runs('@daily', n => 0);
-- A draw between two intervals stays between them.
SELECT count(*), min(gap) >= '5 min' AND max(gap) <= '30 min' AS within, count(DISTINCT gap) > 1 AS differ
  FROM (SELECT t - lag(t) OVER (ORDER BY t) AS gap FROM tq_next_runs('every 5 to 30 minutes', 'UTC', '2024-01-01', 100, '2024-01-01') t) AS x WHERE gap IS NOT NULL;
-- In words
SELECT rule, tq_describe(rule) FROM unnest('{*/5 * * * *,30 2 * * mon-fri,0 0 1 1 *,@daily,10 seconds,every 5 to 10 minutes,monday at 10:30,monthly,BW,once,2030-01-01 10:30,"sunset at 52.5,13.4"}'::text[]) rule;
-- What no rule is
DO $$ DECLARE rule text; BEGIN
    FOREACH rule IN ARRAY '{"",*,1,2,"* * * * * * *","1,,2 * * * *","*/ * * * *","*/0 * * * *","-20 * * * *","60 * * * *","0-100 * * * *","* 24 * * *","* * 0 * *","* * 32 * *","* * 31,32 * *","* * * 0 *","* * * 13 *","* * * jaan *","* * * * 12","* * * * fooday-barday","* * * * 1-12","* * 31 4 *","* * 30 2 *",0 seconds,-5 minutes,every 2 day at 2:30:000001,every day at 25:00,every 2 monday,sunset at 91\,0,sunset at 0\,181,2030-13-01,@never}'::text[] LOOP
        BEGIN
            PERFORM tq_describe(rule);
            RAISE NOTICE '% is a rule: %', rule, tq_describe(rule);
        EXCEPTION WHEN OTHERS THEN
            RAISE NOTICE '%  →  % %', rule, SQLSTATE, SQLERRM;
        END;
    END LOOP;
END $$;

-- Making, replacing, removing
CREATE TABLE log (n serial, what text, at timestamptz);
CREATE FUNCTION note(what text) RETURNS void LANGUAGE sql AS $$ INSERT INTO log (what, at) VALUES (what, (tq_current()).scheduled_for) $$;
CREATE FUNCTION close_day(day date, at timestamptz DEFAULT NULL, zone text DEFAULT current_setting('TimeZone')) RETURNS text LANGUAGE sql AS $$ SELECT concat_ws(' ', day, at, zone) $$;
SELECT tq_register('note'), tq_register('close_day');
SELECT tq_schedule('nightly', 'note', '30 2 * * *', '["x"]', tz => 'Europe/Berlin', description => 'every night', tags => '{a,b}') IS NOT NULL;
SELECT name, handler, rule, kind, tz, args, enabled, to_char(next_run AT TIME ZONE 'Europe/Berlin', 'HH24:MI') AS next, repeats, last_run, last_task, last_status, run_count, problem, description, created_by FROM tq_schedules \gx
SELECT tq_schedule('nightly', 'note', '@hourly', '["y"]');
\echo :SQLSTATE
SELECT tq_schedule('nightly', 'note', '@hourly', '["y"]', on_conflict => 'nothing') = id AS same, rule FROM tq_schedule WHERE name = 'nightly';
SELECT tq_schedule('nightly', 'note', '@hourly', '["y"]', on_conflict => 'replace') IS NOT NULL;
SELECT rule, args, run_count FROM tq_schedules;
SELECT tq_schedule('off', 'note', '@hourly', '["y"]', enabled => false) IS NOT NULL, tq_schedule('never', 'note', '@hourly', '["y"]', repeats => 0) IS NOT NULL;
SELECT name, enabled, next_run, repeats FROM tq_schedules WHERE name <> 'nightly' ORDER BY name;
SELECT tq_unschedule(name) FROM tq_schedules;
SELECT tq_unschedule('nightly');
SELECT count(*) FROM tq_schedules;
BEGIN;
SELECT tq_schedule('rolled back', 'note', '1 second', '["rolled back"]') IS NOT NULL;
ROLLBACK;

-- Running: once each per fire time, the intended time at hand.
SELECT tq_schedule('often', 'note', '1 second', '["often"]', repeats => 3, catch_up => 'all') IS NOT NULL;
SELECT test.await('(SELECT count(*) >= 3 FROM acme.log)');
SELECT pg_sleep(1.2);
SELECT count(*), count(DISTINCT at), max(at) - min(at) AS span FROM log WHERE what = 'often';
SELECT name, repeats, next_run, last_status, run_count, problem FROM tq_schedules;
SELECT DISTINCT name, schedule, enqueued_by, scheduled_for = run_at AS punctual FROM tq_results;
SELECT tq_unschedule('often');
-- Once: gone when it has fired, kept where repeats is given.
SELECT count(tq_schedule(format('once %s', r), 'note', 'once', '["once"]', repeats => r)) FROM unnest('{-1,1}'::int[]) r;
SELECT test.await('(SELECT count(*) = 2 FROM acme.log WHERE what = ''once'')');
SELECT test.await('(SELECT count(*) = 1 FROM acme.tq_schedule)');
SELECT name, repeats, next_run, run_count FROM tq_schedules;
SELECT tq_unschedule('once 1');
-- The intended time as an argument, of the parameter's type, in the schedule's zone
SELECT tq_schedule('as date', 'close_day', 'once', time_arg => 'day', tz => 'Pacific/Kiritimati', start_at => now() + '500 ms') IS NOT NULL,
       tq_schedule('as time', 'close_day', 'once', '{"day": "2001-02-03"}', time_arg => 'at', tz => 'Pacific/Kiritimati', start_at => now() + '500 ms') IS NOT NULL;
SELECT (tq_result(tq_find('as date'), wait => '20 s') #>> '{}') = to_char(scheduled_for AT TIME ZONE 'Pacific/Kiritimati', 'YYYY-MM-DD') || ' UTC' FROM test.await('tq_find(''as date'') IS NOT NULL'), tq_fetch(tq_find('as date'), wait => '20 s');
SELECT (tq_result(tq_find('as time'), wait => '20 s') #>> '{}') = '2001-02-03 ' || scheduled_for || ' UTC' FROM test.await('tq_find(''as time'') IS NOT NULL'), tq_fetch(tq_find('as time'), wait => '20 s');
-- Further parameters of its tasks
SELECT tq_schedule('parameters', 'note', 'once', '["parameters"]', task => '{"name": "own name", "queue": "mail", "priority": 7, "meta": {"a": 1}, "max_attempts": 1}') IS NOT NULL;
SELECT test.await('tq_find(''own name'') IS NOT NULL');
SELECT name, queue, priority, meta, max_attempts, schedule FROM tq_fetch(tq_find('own name'), wait => '20 s');
-- until
SELECT tq_schedule('until', 'note', '1 hour', '["x"]', start_at => now() + '2 hours', until => now() + '1 hour');
\echo :SQLSTATE
SELECT tq_schedule('until', 'note', '@yearly', '["x"]', until => now() + '1 second');
\echo :SQLSTATE
-- A broken one says so, and stops no other.
SELECT tq_schedule('broken', 'close_day', '1 second', '{"day": "2001-02-03"}') IS NOT NULL;
DROP FUNCTION close_day;
CREATE FUNCTION close_day(day int) RETURNS text LANGUAGE sql AS $$ SELECT 'x' $$;
SELECT tq_register('close_day');
SELECT tq_schedule('whole', 'note', '1 second', '["whole"]') IS NOT NULL;
SELECT test.await('(SELECT problem IS NOT NULL FROM tq_schedules WHERE name = ''broken'')');
SELECT test.await('(SELECT count(*) >= 2 FROM acme.log WHERE what = ''whole'')');
SELECT name, problem FROM tq_schedules ORDER BY name;
SELECT what, reason FROM tq_problems;
SELECT count(tq_unschedule(name)) FROM tq_schedules;
-- Nothing fires while the tenant is paused, or not ready.
SELECT tq_pause();
SELECT tq_schedule('paused', 'note', '200 ms', '["paused"]');
\echo :SQLSTATE
SELECT tq_schedule('paused', 'note', '1 second', '["paused"]') IS NOT NULL;
SELECT pg_sleep(1.5);
SELECT count(*) FROM log WHERE what = 'paused';
SELECT tq_resume();
SELECT test.await('(SELECT count(*) >= 1 FROM acme.log WHERE what = ''paused'')');
SELECT tq_unschedule('paused');
-- public has none by default.
RESET ROLE;
SET client_min_messages = error; -- before PostgreSQL 17 its owner's tasks can't run
SELECT tq_attach('public');
RESET client_min_messages;
SET search_path = public;
CREATE FUNCTION public.nothing() RETURNS void LANGUAGE sql AS $$ $$;
SELECT tq_register('nothing');
SELECT tq_schedule('s', 'nothing', '@daily') IS NOT NULL;
