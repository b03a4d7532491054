-- Schedules: times that somebody asks for, active hours, what no time, no rule and no condition is.
\i sql/setup.psql
CREATE ROLE owner LOGIN;
CREATE SCHEMA acme AUTHORIZATION owner;
SELECT tq_attach('acme');
SET ROLE owner;
SET search_path = acme, public;
SET timezone = 'UTC';
SET datestyle = 'ISO';
CREATE TABLE log (n serial, what text, at timestamptz);
CREATE FUNCTION note(what text) RETURNS text LANGUAGE sql AS $$ INSERT INTO log (what, at) VALUES (what, (tq_current()).scheduled_for) RETURNING what $$;
SELECT tq_register('note');

-- Sent back to a time that isn't the rule's, it runs for that time and for each of its own since, and keeps its own.
SELECT count(tq_schedule(rule, 'note', rule, jsonb_build_array(rule), tz => 'UTC', catch_up => 'all')) FROM unnest('{daily,hourly,every 3 hours,monthly,monday}'::text[]) rule;
CREATE TABLE made AS SELECT name, next_run, anchor FROM tq_schedule;
SELECT count(*) FROM (SELECT tq_alter_schedule(name, next_run => anchor - back) FROM made JOIN (VALUES ('daily', interval '2 days 5 hours'), ('hourly', '150 minutes'), ('every 3 hours', '10 hours'), ('monthly', '40 days'), ('monday', '9 days')) v (name, back) USING (name)) x;
SELECT test.await('(SELECT bool_and(next_run > now()) FROM acme.tq_schedule) AND (SELECT count(*) FROM acme.tq_task) = 0');
SELECT what, string_agg((at - anchor)::text, ', ' ORDER BY at) FILTER (WHERE what NOT IN ('monthly', 'monday')) AS since_its_making, count(*) FILTER (WHERE what = 'monthly') AS months, count(*) FILTER (WHERE what = 'monday') IN (2, 3) AS mondays
  FROM log JOIN made ON name = what GROUP BY what ORDER BY what;
SELECT s.name, s.next_run = m.next_run AS same_next, s.anchor = m.anchor AS same_anchor FROM tq_schedule s JOIN made m USING (name) ORDER BY name;
SELECT count(tq_unschedule(name)) FROM made;
-- The one that was asked for is one of catch_up_limit.
SELECT count(tq_schedule(n::text, 'note', 'hourly', jsonb_build_array(n), tz => 'UTC', catch_up => 'all', catch_up_limit => n)) FROM unnest('{1,2,5}'::int[]) n;
SELECT count(*) FROM (SELECT tq_alter_schedule(name, next_run => anchor - interval '100 hours') FROM tq_schedule) x;
SELECT test.await('(SELECT bool_and(next_run > now()) FROM acme.tq_schedule)');
SELECT name, run_count FROM tq_schedules ORDER BY name;
SELECT count(tq_unschedule(name)) FROM tq_schedule;

-- Times that rules aren't computed for, times outside of its own, and parameters that are empty.
SELECT tq_schedule('s', 'note', 'daily at 10:00', '["x"]', tz => 'UTC', start_at => '2090-01-01', until => '2099-01-01', active_hours => '09:00-17:00') IS NOT NULL;
SELECT call, test.said('tq_alter_schedule(''s'', ' || call || ')') FROM unnest(ARRAY[$$next_run => '294276-12-31'$$, $$next_run => '0044-03-15 BC'$$, $$next_run => 'infinity'$$, $$next_run => '2089-12-31 10:00'$$, $$next_run => '2099-01-02 10:00'$$, $$next_run => '2095-01-01 18:00'$$,
    $$until => '294276-12-31'$$, $$until => 'infinity'$$, $$start_at => '0044-03-15 BC'$$, $$rule => ''$$, $$handler => ''$$, $$rule => ' '$$, $$tz => ''$$, $$active_hours => ''$$, $$only_if => ''$$]) call;
SELECT call, test.said('(SELECT count(*) FROM tq_next_runs(''hourly'', ' || call || '))') FROM unnest(ARRAY[$$after => '0044-03-15 BC'$$, $$after => '294276-12-31'$$, $$after => 'infinity'$$, $$start_at => '294276-12-31'$$]) call;
SELECT rule, handler, next_run FROM tq_schedules;
SELECT tq_unschedule('s');

-- next_run is a time within the active hours, however many lie outside of them; tq_upcoming has all of them.
SELECT tq_schedule('seconds', 'note', '1 second', '["x"]', tz => 'UTC', start_at => '2100-01-01 00:00Z', active_hours => 'mon 09:00-09:00:03') IS NOT NULL,
       tq_schedule('cron', 'note', '*/20 * * * *', '["x"]', tz => 'Europe/Berlin', start_at => '2030-10-27 00:10Z', until => '2030-10-28', active_hours => '02:00-02:30') IS NOT NULL,
       tq_schedule('once', 'note', 'once', '["x"]', tz => 'UTC', start_at => '2100-01-01 12:00Z', active_hours => 'sat 08:00-09:00') IS NOT NULL;
SELECT name, next_run FROM tq_schedules ORDER BY name;
SELECT * FROM tq_upcoming('2100-01-10');
SELECT count(*), min(fire_time), max(fire_time) FROM tq_upcoming('2110-01-01') WHERE schedule = 'seconds';
SELECT test.said('(SELECT count(*) FROM tq_upcoming(''infinity''))');
SELECT tq_alter_schedule('seconds', active_hours => 'tue 09:00-09:00:02');
SELECT next_run FROM tq_schedules WHERE name = 'seconds';
SELECT test.said($$tq_schedule('s', 'note', '0 3 * * *', '["x"]', active_hours => '09:00-17:00')$$), test.said($$tq_schedule('s', 'note', 'once', '["x"]', tz => 'UTC', start_at => '2100-01-01 12:00Z', until => '2100-01-01 13:00Z', active_hours => '09:00-10:00')$$),
       test.said(format($$tq_schedule('s', 'note', '@daily', '["x"]', active_hours => %L)$$, repeat('09:00-10:00,', 100) || '09:00-10:00'));
SELECT count(tq_unschedule(name)) FROM tq_schedules;

-- Steps follow elapsed time in any field of minutes and hours, as "*" does; what names its times keeps to the wall clock.
SELECT rule, array(SELECT to_char(t AT TIME ZONE 'UTC', 'HH24:MI') FROM tq_next_runs(rule, 'Europe/Berlin', '2026-03-28 23:59+01', 4) t) AS spring, array(SELECT to_char(t AT TIME ZONE 'UTC', 'HH24:MI') FROM tq_next_runs(rule, 'Europe/Berlin', '2026-10-24 23:59+02', 4) t) AS autumn
  FROM unnest('{0 */2 * * *,0 0/2 * * *,0 0-23/2 * * *,"0 0,2,4,6 * * *",0 2-3 * * *,*/30 2 * * *,0/30 2 * * *,"0,30 2 * * *"}'::text[]) rule;
-- A full day field without "*" makes the other one idle.
SELECT rule, tq_describe(rule), array(SELECT to_char(t, 'DD') FROM tq_next_runs(rule, 'UTC', '2026-01-01', 3) t) FROM unnest('{0 0 13 * 0-6,0 0 1-31 * mon,0 0 13 * *,0 0 13 * fri}'::text[]) rule;

-- What is written elsewhere is told how to be written here.
CREATE FUNCTION tells(call text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE message text; detail text; hint text;
BEGIN
    EXECUTE 'SELECT ' || call;
    RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN concat_ws(' | ', message, detail, hint);
END $$;
SELECT rule, tells(format('tq_schedule(''s'', ''note'', %L, ''["x"]'')', rule)) FROM unnest('{today at 10,tomorrow at 9:30 pm,CRON_TZ=Europe/Berlin 0 2 * * *,@every 1h30m,monday 10:30,every day at 10,in 5 minutes}'::text[]) rule;
-- Literally so:
SELECT tq_schedule('hint', 'note', 'once', '["x"]', start_at => current_date + 1 + time '21:30') IS NOT NULL;
SELECT tq_schedule('hint of CRON_TZ', 'note', rule => '0 2 * * *', tz => 'Europe/Berlin', args => '["x"]') IS NOT NULL, tq_schedule('hint of @every', 'note', 'every 1 hour 30 minutes', '["x"]') IS NOT NULL;
SELECT count(tq_unschedule(name)) FROM tq_schedules;

-- The zone of who has none of their own: whose name it is that isn't known.
RESET ROLE;
ALTER SYSTEM SET timezone = 'XYZ-3';
SELECT pg_reload_conf();
SELECT test.await($$acme.tells('(SELECT count(*) FROM tq_next_runs(''@daily''))') LIKE '%XYZ-3%'$$);
SET ROLE owner;
SELECT tells($$tq_schedule('s', 'note', '@daily', '["x"]')$$);
SELECT tells($$tq_schedule('s', 'note', '@daily', '["x"]', tz => 'localtime')$$);
SELECT tq_schedule('s', 'note', '@daily', '["x"]', tz => 'Europe/Berlin') IS NOT NULL;
SELECT tq_set_tenant('acme', timezone => 'Asia/Tokyo');
SELECT tq_schedule('t', 'note', '@daily', '["x"]') IS NOT NULL;
RESET ROLE;
ALTER SYSTEM RESET timezone;
SELECT pg_reload_conf();
SET ROLE owner;
SELECT count(tq_unschedule(name)) FROM tq_schedules;

-- A condition's brackets are its own, and an error tells of it as it was given.
SELECT condition, tells(format('tq_schedule(''s'', ''note'', ''@daily'', ''["x"]'', only_if => %L)', condition)) FROM unnest(ARRAY['true) OR (true', 'x)::numeric(1', 'true) -- (', '1 = 1)::bool, (true', '(true']) condition;
SELECT condition, tells(format('tq_schedule(''s'', ''note'', ''@daily'', ''["x"]'', only_if => %L, on_conflict => ''replace'') IS NULL', condition)) FROM unnest(ARRAY['(true) OR (true)', 'true -- so', 'SELECT true', 'EXISTS (SELECT FROM log)', ''')'' = ''(''', 'VALUES (true)']) condition;
SELECT tq_unschedule('s');
SELECT tq_schedule('fails', 'note', 'once', '["x"]', only_if => '1 / 0 = 1', repeats => 1, task => '{"max_attempts": 1}') IS NOT NULL, tq_schedule('text', 'note', 'once', '["x"]', only_if => 'now()', repeats => 1, task => '{"max_attempts": 1}') IS NOT NULL;
SELECT test.await('(SELECT count(*) = 2 FROM acme.tq_result WHERE schedule IN (''fails'', ''text''))');
SELECT schedule, error ->> 'message' AS message, error ->> 'context' AS context FROM tq_results WHERE schedule IN ('fails', 'text') ORDER BY schedule;
