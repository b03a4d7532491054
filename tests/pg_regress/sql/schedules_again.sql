-- Schedules: declaring again, mending, next_run in the past; what would never fire; expected values of other schedulers.
\i sql/setup.psql
CREATE ROLE owner LOGIN;
CREATE SCHEMA acme AUTHORIZATION owner;
CREATE SCHEMA globex AUTHORIZATION owner;
SELECT tq_attach('acme'), tq_attach('globex');
SET ROLE owner;
SET search_path = acme, public;
SET timezone = 'UTC';
SET datestyle = 'ISO';
CREATE TABLE log (n serial, what text, at timestamptz, value text);
CREATE FUNCTION note(what text, value text DEFAULT NULL) RETURNS void LANGUAGE sql AS $$ INSERT INTO acme.log (what, at, value) VALUES (what, (tq_current()).scheduled_for, value) $$;
CREATE FUNCTION globex.note(what text) RETURNS void LANGUAGE sql AS $$ INSERT INTO acme.log (what, at) VALUES (what, (tq_current()).scheduled_for) $$;
SELECT tq_register('note'), tq_register('note', 'note(text)', tenant => 'globex');

-- Declared again, as by each deploy: what was served isn't served again, and the counts go on.
-- Half an hour from now in both directions, nothing is due.
CREATE TABLE hour AS SELECT date_trunc('minute', now()) - interval '30 minutes' AS this;
CREATE FUNCTION declare_all() RETURNS void LANGUAGE sql AS $$
    SELECT tq_schedule('newest', 'note', 'hourly', '["newest"]', start_at => this - interval '3 hours', on_conflict => 'replace'),
           tq_schedule('each', 'note', 'hourly', '["each"]', start_at => this - interval '2 hours', catch_up => 'all', repeats => 5, on_conflict => 'replace'),
           tq_schedule('one time', 'note', 'once', '["one time"]', start_at => this - interval '2 hours', repeats => 1, on_conflict => 'replace'),
           tq_schedule('counts', 'note', '5 hours', '["counts"]', on_conflict => 'replace'),
           tq_schedule('cron', 'note', to_char(this, 'MI') || ' * * * *', '["cron"]', tz => 'UTC', start_at => this - interval '3 hours', until => this + interval '1 year', on_conflict => 'replace') FROM hour $$;
SELECT declare_all();
SELECT test.await('(SELECT count(*) = 6 FROM acme.log)');
SELECT test.await('(SELECT bool_and(last_status = ''done'') FROM tq_schedules WHERE name <> ''counts'')');
CREATE TABLE before AS SELECT * FROM tq_schedule;
SELECT declare_all();
SELECT s.name, s.id = b.id AS same_id, s.anchor = b.anchor AS same_anchor, s.next_run = b.next_run AS same_next, s.next_run > now() AS later, s.repeats, s.run_count, s.last_task = b.last_task AS same_last FROM tq_schedule s JOIN before b USING (name) ORDER BY name;
SELECT name, repeats FROM tq_schedule WHERE repeats <> -1 ORDER BY name;
-- From an exported document, too; which has what was granted.
SELECT tq_import(tq_export(), 'replace');
SELECT count(*) FROM tq_schedule s JOIN before b USING (id) WHERE (s.next_run, s.repeats, s.run_count, s.anchor) IS NOT DISTINCT FROM (b.next_run, b.repeats, b.run_count, b.anchor);
SELECT e -> 'repeats' AS repeats FROM jsonb_array_elements(tq_export()) e WHERE e ->> 'name' = 'each';
-- More or less of it; for ever; another rule.
SELECT tq_schedule('each', 'note', 'hourly', '["each"]', start_at => this - interval '2 hours', catch_up => 'all', repeats => 4, on_conflict => 'replace') IS NOT NULL FROM hour;
SELECT repeats, next_run > now() AS later FROM tq_schedule WHERE name = 'each';
SELECT tq_schedule('each', 'note', 'hourly', '["each"]', start_at => this - interval '2 hours', repeats => 2, on_conflict => 'replace') IS NOT NULL FROM hour;
SELECT repeats, next_run FROM tq_schedule WHERE name = 'each';
SELECT tq_schedule('each', 'note', 'daily', '["each"]', start_at => this - interval '2 days', catch_up => 'all', on_conflict => 'replace') IS NOT NULL FROM hour;
SELECT repeats, next_run = this + interval '1 day' AS next_is_to_come, run_count FROM tq_schedule, hour WHERE name = 'each';
-- A one-time schedule of another time is another one; the same isn't, even if it begins "now".
SELECT tq_schedule('one time', 'note', 'once', '["one time"]', start_at => now(), repeats => 1, on_conflict => 'replace') IS NOT NULL;
SELECT repeats, next_run FROM tq_schedule WHERE name = 'one time';
SELECT tq_schedule('one time', 'note', 'once', '["one time"]', start_at => this + interval '1 day', repeats => 1, on_conflict => 'replace') IS NOT NULL FROM hour;
SELECT repeats, next_run = this + interval '1 day' AS next FROM tq_schedule, hour WHERE name = 'one time';
-- What is due and not served yet stays due.
SELECT tq_pause();
SELECT tq_schedule('due', 'note', 'daily', '["due"]', start_at => this - interval '1 hour', on_conflict => 'replace') IS NOT NULL FROM hour, generate_series(1, 2);
SELECT next_run = this - interval '1 hour' AS still_due FROM tq_schedule, hour WHERE name = 'due';
SELECT tq_resume();
SELECT test.await('(SELECT count(*) = 1 FROM acme.log WHERE what = ''due'')');
SELECT what, count(*) FROM log GROUP BY what ORDER BY what;
SELECT count(tq_unschedule(name)) FROM tq_schedules;
TRUNCATE log;

-- Of all tenants: the same, one-time schedules included.
RESET ROLE;
CREATE FUNCTION declare_for_all() RETURNS void LANGUAGE sql AS $$
    SELECT tq_schedule_all('all newest', 'note', 'hourly', '["all newest"]', start_at => this - interval '3 hours', repeats => 3, on_conflict => 'replace'), tq_schedule_all('all once', 'note', 'once', '["all once"]', on_conflict => 'replace') FROM hour $$;
SELECT declare_for_all();
SELECT test.await('(SELECT count(*) = 4 FROM acme.log)');
SELECT test.await('(SELECT count(*) = 4 FROM (SELECT * FROM acme.tq_schedule UNION ALL SELECT * FROM globex.tq_schedule) s WHERE run_count = 1)');
CREATE TABLE of_all AS SELECT * FROM tq_schedule UNION ALL SELECT * FROM globex.tq_schedule;
SELECT declare_for_all();
SELECT test.await('(SELECT count(*) = 4 FROM (SELECT * FROM acme.tq_schedule UNION ALL SELECT * FROM globex.tq_schedule) s, tenant_q.schedule_all d WHERE s.name = d.name AND s.options #>> ''{all,revision}'' = d.options #>> ''{all,revision}'')');
SELECT s.name, s.id = b.id AS same_id, s.anchor = b.anchor AS same_anchor, s.next_run IS NOT DISTINCT FROM b.next_run AS same_next, s.repeats, s.run_count FROM (SELECT * FROM tq_schedule UNION ALL SELECT * FROM globex.tq_schedule) s JOIN of_all b USING (id) ORDER BY name;
-- Who comes later has no part in what was once.
CREATE SCHEMA hooli AUTHORIZATION owner;
SELECT tq_attach('hooli');
SELECT declare_for_all();
SELECT test.await('(SELECT count(*) = 3 FROM (SELECT * FROM acme.tq_schedule UNION ALL SELECT * FROM globex.tq_schedule UNION ALL SELECT * FROM hooli.tq_schedule) s, tenant_q.schedule_all d WHERE s.name = ''all newest'' AND d.name = s.name AND s.options #>> ''{all,revision}'' = d.options #>> ''{all,revision}'')');
SELECT name, next_run > now() AS later, run_count FROM hooli.tq_schedule;
SELECT tq_unschedule_all('all newest'), tq_unschedule_all('all once');
SELECT test.await('(SELECT count(*) = 0 FROM acme.tq_schedule)');
SELECT what, count(*) FROM log GROUP BY what ORDER BY what;
SELECT tq_schedule_all('never', 'note', '0 3 * * *', '["x"]', active_hours => '09:00-17:00');
SELECT tq_schedule_all('stagger', 'note', '1 hour', '["x"]', stagger => '50 minutes', jitter => '20 minutes', repeats => 0) IS NOT NULL;
SELECT tq_unschedule_all('stagger');
SET ROLE owner;
TRUNCATE log;

-- A one-time schedule that could not be served: once it is mended it fires, for its own time, whatever catch_up says.
CREATE FUNCTION late(what text) RETURNS void LANGUAGE sql AS $$ INSERT INTO acme.log (what, at) VALUES (what, (tq_current()).scheduled_for) $$;
SELECT tq_register('late');
SELECT tq_pause();
CREATE TABLE moment AS SELECT date_trunc('second', now()) AS at;
SELECT count(tq_schedule(catch_up || ' ' || kind, 'late', CASE kind WHEN 'once' THEN kind ELSE to_char(at, 'YYYY-MM-DD HH24:MI:SS') || '+00' END, jsonb_build_array(catch_up || ' ' || kind), start_at => CASE kind WHEN 'once' THEN at ELSE NULL END, catch_up => catch_up, repeats => repeats))
  FROM (SELECT date_trunc('second', clock_timestamp()) + interval '1 second' AS at) m, (VALUES ('once', 'once', 1), ('none', 'once', NULL), ('once', 'clocked', NULL), ('none', 'clocked', 1)) v(catch_up, kind, repeats);
SELECT tq_schedule('too late', 'late', 'once', '["too late"]', deadline => '1 hour') IS NOT NULL;
SELECT tq_unregister('late');
SELECT tq_resume();
SELECT test.await('(SELECT count(*) = 5 FROM acme.tq_schedule WHERE problem IS NOT NULL)');
SELECT name, next_run, repeats, problem FROM tq_schedules ORDER BY name;
SELECT what, fix FROM tq_problems ORDER BY what;
SELECT tq_register('late');
SELECT what, fix FROM tq_problems ORDER BY what;
UPDATE tq_schedule SET anchor = anchor - interval '2 hours' WHERE name = 'too late';
SELECT test.said('tq_alter_schedule(''too late'', enabled => true)');
SELECT tq_unschedule('too late');
SELECT tq_alter_schedule(name, enabled => true) FROM tq_schedule;
SELECT test.await('(SELECT count(*) = 4 FROM acme.log)');
SELECT what, date_trunc('second', l.at) = l.at AND l.at > m.at AND l.at < m.at + interval '10 seconds' AS its_time FROM log l, moment m ORDER BY what;
SELECT test.await('(SELECT count(*) = 2 FROM acme.tq_schedule)');
SELECT name, next_run, repeats, problem FROM tq_schedules ORDER BY name;
SELECT count(tq_unschedule(name)) FROM tq_schedules;
TRUNCATE log;

-- Disabled until its time had passed: that is said.
SELECT tq_schedule('passed', 'note', '2100-01-01', '["x"]', enabled => false) IS NOT NULL;
UPDATE tq_schedule SET rule = '2020-01-01';
SELECT test.said('tq_alter_schedule(''passed'', enabled => true)');
SELECT tq_alter_schedule('passed', rule => '2100-01-01', enabled => true);
SELECT next_run FROM tq_schedules;
SELECT tq_unschedule('passed');

-- What would never fire is refused; 'once' waits for its hours.
SELECT arguments, test.said('tq_schedule(''x'', ''note'', ' || arguments || ')') FROM unnest(ARRAY[
    $$'0 3 * * *', '["x"]', active_hours => '09:00-17:00'$$, $$'monday at 10:00', '["x"]', active_hours => 'tue-sun 09:00 - 17:00'$$, $$'2100-01-01 20:00', '["x"]', tz => 'UTC', active_hours => '09:00-17:00'$$,
    $$'*/5 * * * *', '["x"]', tz => 'UTC', active_hours => '09:00-17:00', until => '2100-01-01 00:00Z', start_at => '2099-12-31 18:00Z'$$, $$'@daily', '["x"]', deadline => '0'$$, $$'@daily', '["x"]', deadline => '999 ms'$$]) arguments;
CREATE TABLE hours AS SELECT date_trunc('minute', now() + interval '2 hours') AS opening, to_char(now() + interval '2 hours', 'HH24:MI') || '-' || to_char(now() + interval '3 hours', 'HH24:MI') AS text;
SELECT tq_schedule('in time', 'note', 'once', '["x"]', tz => 'UTC', active_hours => text) IS NOT NULL FROM hours;
SELECT next_run = opening AS at_the_opening FROM tq_schedule, hours WHERE name = 'in time';
SELECT test.said(format('tq_alter_schedule(''in time'', rule => %L, active_hours => %L)', '30 3 * * *', '04:00-05:00'));
SELECT test.said(format('tq_alter_schedule(''in time'', next_run => %L)', opening - interval '1 hour')) FROM hours;
SELECT tq_unschedule('in time');
-- Delays that are longer than the time to the next one
SELECT tq_schedule('spread', 'note', '5 minutes', '["x"]', jitter => '10 minutes') IS NOT NULL;
SELECT tq_alter_schedule('spread', overlap => 'allow');
SELECT tq_alter_schedule('spread', overlap => 'skip');
SELECT tq_schedule('spread', 'note', '5 minutes', '["x"]', jitter => '5 minutes', on_conflict => 'replace') IS NOT NULL;
SELECT tq_unschedule('spread');
-- What is too large is too large now.
RESET ROLE;
SET tenant_q.max_args = '1kB';
SELECT test.said($$tq_schedule('large', 'note', '@daily', jsonb_build_array(repeat('x', 2000)))$$);
RESET tenant_q.max_args;
SET ROLE owner;

-- A broken one can be disabled, and changed while it is; enabled only when it is whole.
CREATE FUNCTION broken() RETURNS void LANGUAGE sql AS $$ $$;
SELECT tq_register('broken');
SELECT tq_schedule('broken', 'broken', '@daily') IS NOT NULL, tq_schedule('garbled', 'note', '@daily', '["x"]') IS NOT NULL;
SELECT tq_unregister('broken');
UPDATE tq_schedule SET rule = 'whenever', tz = 'Mars/Olympus' WHERE name = 'garbled';
SELECT tq_alter_schedule('broken', enabled => false), tq_alter_schedule('garbled', enabled => false);
SELECT tq_alter_schedule('broken', description => 'later');
SELECT name, enabled, next_run, description FROM tq_schedules ORDER BY name;
SELECT test.said('tq_alter_schedule(''broken'', enabled => true)'), test.said('tq_alter_schedule(''broken'', args => ''[]'')'), test.said('tq_alter_schedule(''garbled'', enabled => true)');
SELECT tq_unschedule('broken'), tq_unschedule('garbled');

-- next_run in the past: that very time, and with 'all' each since then; again, if it is asked for again.
SELECT tq_schedule('asked', 'note', 'hourly', '["asked"]') IS NOT NULL, tq_schedule('asked for all', 'note', 'hourly', '["asked for all"]', catch_up => 'all') IS NOT NULL, tq_schedule('asked cron', 'note', '@yearly', '["asked cron"]') IS NOT NULL;
SELECT tq_alter_schedule(name, next_run => this - interval '12 hours') FROM tq_schedule, hour;
SELECT test.await('(SELECT count(*) >= 16 FROM acme.log)');
SELECT what, count(*), count(DISTINCT at), this - min(at) AS first FROM log, hour GROUP BY what, this ORDER BY what;
SELECT test.await('(SELECT bool_and(next_run > now()) FROM acme.tq_schedule)');
SELECT tq_alter_schedule('asked cron', next_run => this - interval '12 hours') FROM hour;
SELECT test.await('(SELECT count(*) = 2 FROM acme.log WHERE what = ''asked cron'')');
SELECT DISTINCT this - at AS ago FROM log, hour WHERE what = 'asked cron';
SELECT test.said(format('tq_alter_schedule(''asked'', deadline => ''1 hour'', next_run => %L)', this - interval '3 hours')) FROM hour;
SELECT count(tq_unschedule(name)) FROM tq_schedules;
TRUNCATE log;
-- Each overdue job once, whatever its period, for the time it was due.
SELECT tq_schedule('minute', 'note', 'every minute', '["minute"]') IS NOT NULL, tq_schedule('hour', 'note', 'every hour', '["hour"]') IS NOT NULL, tq_schedule('day', 'note', 'daily', '["day"]') IS NOT NULL, tq_schedule('weekday', 'note', 'sunday', '["weekday"]') IS NOT NULL,
       tq_schedule('at', 'note', 'daily at 10:30', '{"what": "at"}', tz => 'UTC', time_arg => 'value') IS NOT NULL;
SELECT tq_alter_schedule(name, next_run => '2020-01-05 10:30Z') FROM tq_schedule;
SELECT test.await('(SELECT bool_and(run_count = 1 AND next_run > now()) FROM acme.tq_schedule)');
SELECT test.await('(SELECT count(*) = 5 FROM acme.log)');
SELECT what, at, value FROM log ORDER BY what;
SELECT next_run - last_run <= interval '1 day' AS soon, to_char(next_run, 'HH24:MI') AS at FROM tq_schedule WHERE name = 'at';
SELECT count(tq_unschedule(name)) FROM tq_schedules;
TRUNCATE log;
-- A fire time that was served is not served again, whatever the row says.
SELECT tq_schedule('served', 'note', 'daily', '["served"]', start_at => this - interval '1 hour', catch_up => 'all') IS NOT NULL FROM hour;
SELECT test.await('(SELECT count(*) = 1 FROM acme.log)');
SELECT tq_pause();
UPDATE tq_schedule SET next_run = start_at;
SELECT tq_resume();
SELECT test.await('(SELECT next_run > now() FROM acme.tq_schedule)');
SELECT (SELECT count(*) FROM log) AS runs, (SELECT count(*) FROM tq_tasks) AS unfinished;
-- until was reached while nobody looked: it stops without a run. (With catch_up => 'once' the last one would be made up for.)
SELECT tq_pause();
SELECT tq_schedule('until', 'note', '5 seconds', '["until"]', until => now() + interval '1 hour', catch_up => 'none') IS NOT NULL;
UPDATE tq_schedule SET next_run = now() - interval '45 seconds', until = now() - interval '30 seconds', anchor = now() - interval '50 seconds' WHERE name = 'until';
SELECT tq_resume();
SELECT test.await('(SELECT next_run IS NULL FROM acme.tq_schedule WHERE name = ''until'')');
SELECT next_run, run_count, problem FROM tq_schedules WHERE name = 'until';
-- Cron, just made, doesn't fire at once; nor does what is outside of its hours.
SELECT tq_schedule('noon', 'note', '0 12 * * *', '["noon"]', tz => 'UTC') IS NOT NULL, tq_schedule('closed', 'note', '1 second', '["closed"]', tz => 'UTC', active_hours => text) IS NOT NULL, tq_schedule('clock', 'note', '1 second', '["clock"]') IS NOT NULL FROM hours;
-- Something broken stops neither the others of its tenant nor those of another.
SELECT tq_schedule('next door', 'note', '1 second', '["next door"]', tenant => 'globex') IS NOT NULL, tq_schedule('a broken one', 'note', '1 second', '["x"]') IS NOT NULL, tq_schedule('a misfit', 'note', '1 second', '["x"]') IS NOT NULL;
UPDATE tq_schedule SET overlap = 'x' WHERE name = 'a broken one';
UPDATE tq_schedule SET args = '[1, 2, 3]' WHERE name = 'a misfit';
SELECT test.await('(SELECT count(*) FILTER (WHERE what = ''clock'') >= 3 AND count(*) FILTER (WHERE what = ''next door'') >= 3 FROM acme.log)');
SELECT name, to_char(next_run, 'HH24:MI'), run_count FROM tq_schedules WHERE name = 'noon';
SELECT run_count, next_run IS NOT NULL AS goes_on FROM tq_schedules WHERE name = 'closed';
SELECT name, problem FROM tq_schedules WHERE name LIKE 'a %' ORDER BY name;
SELECT tq_unschedule('next door', tenant => 'globex');
SELECT count(tq_unschedule(name)) FROM tq_schedules;

-- The intended time for a parameter of every type that can take it
CREATE FUNCTION of_types(d date, t time, tz timetz, ts timestamp, tstz timestamptz, txt text) RETURNS void LANGUAGE sql AS $$ INSERT INTO log (what, value) SELECT 'types', concat_ws(' | ', d, t, tz, ts, tstz, txt) $$;
CREATE FUNCTION of_int(i int) RETURNS void LANGUAGE sql AS $$ $$;
SELECT tq_register('of_types'), tq_register('of_int');
SELECT test.said('tq_schedule(''int'', ''of_int'', ''@daily'', time_arg => ''i'')');
SELECT count(tq_schedule(p, 'of_types', '2100-01-01 10:30:15', '{"d": null, "t": null, "tz": null, "ts": null, "tstz": null, "txt": null}', tz => 'Asia/Tokyo', time_arg => p)) FROM unnest('{d,t,tz,ts,tstz,txt}'::text[]) p;
TRUNCATE log;
SELECT tq_alter_schedule(name, next_run => '2020-02-29 23:30:15Z') FROM tq_schedule;
SELECT test.await('(SELECT count(*) = 6 FROM acme.log)');
SELECT value FROM log ORDER BY length(value), value;
SELECT test.await('(SELECT bool_and(next_run > now()) FROM acme.tq_schedule)');
SELECT count(tq_unschedule(name)) FROM tq_schedules;
TRUNCATE log;

-- After any of others
SELECT tq_schedule('load', 'note', '@yearly', '["load"]') IS NOT NULL, tq_schedule('rates', 'note', '@yearly', '["rates"]') IS NOT NULL, tq_schedule('any', 'note', 'after any', '["any"]', after => '{load,rates}') IS NOT NULL, tq_schedule('all', 'note', 'after all', '["all"]', after => '{load,rates}') IS NOT NULL;
SELECT tq_fire('load') IS NOT NULL;
SELECT test.await('(SELECT count(*) = 1 FROM acme.log WHERE what = ''any'')');
SELECT test.await('(SELECT next_run IS NULL FROM acme.tq_schedule WHERE name = ''any'')');
SELECT tq_fire('rates') IS NOT NULL;
SELECT test.await('(SELECT count(*) = 3 FROM acme.log WHERE what IN (''any'', ''all''))');
SELECT what, count(*) FROM log GROUP BY what ORDER BY what;
SELECT kind, tq_describe(rule) FROM tq_schedules WHERE name IN ('any', 'all') ORDER BY name;
SELECT tq_unschedule('any'), tq_unschedule('all');

-- A handler may remove its own schedule.
CREATE FUNCTION leaves() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN INSERT INTO log (what) VALUES ('leaves'); RETURN tq_unschedule((tq_current()).schedule); END $$;
SELECT tq_register('leaves');
SELECT tq_schedule('leaves', 'leaves', '1 second') IS NOT NULL;
SELECT test.await('(SELECT NOT EXISTS (SELECT FROM acme.tq_schedule WHERE name = ''leaves''))');
SELECT tq_unschedule('leaves');
-- It did so before it ran a second time; the row's end is the handler's own.
SELECT state, result, error FROM tq_results WHERE schedule = 'leaves';
SELECT count(*) FROM log WHERE what = 'leaves';

-- Tags: with what one asks for more than one of them.
SELECT tq_alter_schedule('load', tags => '{night,import}'), tq_alter_schedule('rates', tags => '{night}');
SELECT name, tags FROM tq_schedules WHERE 'night' = ANY (tags) ORDER BY name;
SELECT min(next_run) > now() AS next FROM tq_schedules WHERE 'import' = ANY (tags);
SELECT min(next_run) AS next FROM tq_schedules WHERE 'nothing' = ANY (tags);
SELECT count(tq_alter_schedule(name, enabled => false)) FROM tq_schedules WHERE 'night' = ANY (tags);
SELECT count(tq_unschedule(name)) FROM tq_schedules WHERE 'night' = ANY (tags);
SELECT count(*) FROM tq_schedules;

-- In one's own session the same is asked: only_if, and whether a task of the schedule runs.
TRUNCATE log;
SELECT count(tq_schedule(c, 'note', 'once', jsonb_build_array(c), only_if => c, jitter => '100 days', task => task, repeats => 1)) FROM (VALUES ('true', NULL), ('false', NULL), ('now() IS NULL', '{"save": true}'::jsonb), ('1 / 0 = 1', '{"max_attempts": 1}'::jsonb)) v(c, task);
SELECT test.await('(SELECT count(*) = 4 FROM acme.tq_task)');
SELECT schedule, state, error ->> 'message' AS message FROM tq_drain(as_of => now() + interval '200 days') ORDER BY schedule;
SELECT what FROM log;
SELECT name, last_status, fail_count FROM tq_schedules ORDER BY name;
SELECT count(tq_unschedule(name)) FROM tq_schedules;
CREATE FUNCTION busy() RETURNS void LANGUAGE sql AS $$ SELECT pg_advisory_xact_lock(7) $$;
SELECT tq_register('busy');
SELECT tq_schedule('busy', 'busy', '@yearly') IS NOT NULL, tq_schedule('beside', 'busy', '@yearly', overlap => 'allow') IS NOT NULL;
SELECT pg_advisory_lock(7);
SELECT tq_fire('busy') AS first \gset
SELECT test.await('(SELECT count(*) = 1 FROM tq_running)');
SELECT tq_fire('busy') AS second \gset
SELECT schedule, state FROM tq_drain();
CALL tq_run_pending();
SELECT state FROM tq_tasks WHERE id = :'second';
SELECT pg_advisory_unlock(7);
SELECT tq_result(:'first', wait => '20 s'), tq_result(:'second', wait => '20 s');
SELECT count(tq_unschedule(name)) FROM tq_schedules;
-- expires counts from when it may run.
SELECT tq_async('note', '["in time"]', delay => '1 day', expires => '1 hour') IS NOT NULL;
SELECT expires_at - run_at AS after FROM tq_task;
SELECT args, state FROM tq_drain(as_of => now() + interval '1 day 30 minutes') WHERE args = '["in time"]';

-- A tenant whose schema is gone: nothing of it ends up in public.
RESET ROLE;
SET client_min_messages = warning;
DROP SCHEMA globex CASCADE;
RESET client_min_messages;
CREATE FUNCTION public.note(what text) RETURNS void LANGUAGE sql AS $$ $$;
SET client_min_messages = error; -- before PostgreSQL 17 its owner's tasks can't run
SELECT tq_attach('public');
RESET client_min_messages;
SELECT tq_register('note', tenant => 'public');
SET search_path = globex, public;
SELECT test.said($$tq_async('note', '["x"]')$$), test.said($$tq_async('note', '["x"]', tenant => 'globex')$$), test.said($$tq_schedule('x', 'note', '@daily', '["x"]')$$), test.said($$tq_schedule('x', 'note', '@daily', '["x"]', tenant => 'globex')$$);
SELECT (SELECT count(*) FROM public.tq_task) AS tasks, (SELECT count(*) FROM public.tq_schedule) AS schedules;
