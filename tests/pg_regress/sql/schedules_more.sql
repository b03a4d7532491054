-- Schedules: changing, firing, looking ahead, carrying elsewhere, conditions, coming after one another, broken rows.
\i sql/setup.psql
CREATE ROLE owner LOGIN;
CREATE ROLE stranger LOGIN;
CREATE SCHEMA acme AUTHORIZATION owner;
SELECT tq_attach('acme');
GRANT USAGE ON SCHEMA acme TO stranger;
SET ROLE owner;
SET search_path = acme, public;
SET timezone = 'UTC';
SET datestyle = 'ISO';
CREATE TABLE log (n serial, what text, at timestamptz, who text DEFAULT session_user);
CREATE FUNCTION note(what text, day date DEFAULT NULL) RETURNS text LANGUAGE sql AS $$ INSERT INTO log (what, at) VALUES (what, (tq_current()).scheduled_for) RETURNING what $$;
CREATE FUNCTION fails(what text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no %', what; END $$;
SELECT tq_register('note'), tq_register('fails', max_attempts => 1);

-- Wrong input: the parameter, and the place in it.
SELECT arguments, test.said('tq_schedule(''x'', ''note'', ' || arguments || ')') FROM unnest(ARRAY[
    $$NULL$$, $$''$$, $$'5 * * * * * *'$$, $$'every 2 day'$$, $$'after'$$, $$'after nightly'$$, $$'after', after => '{}'$$,
    $$'@daily', tz => 'Mars/Olympus'$$, $$'@daily', tz => ''$$, $$'@daily', active_hours => 'mon-fri 9-5'$$, $$'@daily', active_hours => '09:00-25:00'$$,
    $$'@daily', month_end => 'last'$$, $$'@daily', catch_up => 'twice'$$, $$'@daily', catch_up_limit => 0$$, $$'@daily', catch_up_limit => 100001$$, $$'@daily', overlap => 'no'$$,
    $$'@daily', deadline => '-1 s'$$, $$'@daily', jitter => '-1 s'$$, $$'@daily', repeats => -2$$, $$'@daily', start_at => 'infinity'$$, $$'@daily', start_at => '-infinity'$$, $$'@daily', '["a"]', until => '2020-01-01'$$,
    $$'@daily', args => '["a", "b", "c"]'$$, $$'@daily', args => '{"what": "x", "day": "x"}'$$, $$'@daily', args => '["a"]', time_arg => 'day'$$, $$'@daily', time_arg => 'hour'$$,
    $$'@daily', task => '[]'$$, $$'@daily', task => '{"prio": 1}'$$, $$'@daily', task => '{"priority": "high"}'$$, $$'@daily', task => '{"timeout": "soon"}'$$, $$'@daily', task => '{"args": []}'$$,
    $$'@daily', only_if => ''$$, $$'@daily', only_if => 'a b'$$, $$'@daily', only_if => '('$$, $$'@daily', only_if => '1 = 1; SELECT 1'$$, $$'@daily', only_if => 'true) FROM log WHERE (true'$$, $$'@daily', only_if => 'true); DROP TABLE log; SELECT (true'$$,
    $$'@daily', '["a"]', after => '{nobody}'$$, $$'@daily', '["a"]', after => '{x}'$$, $$'@daily', after => '{""}'$$, $$'@daily', after_outcome => 'any'$$, $$'@daily', after => '{x}', after_outcome => 'done'$$,
    $$'@daily', '["a"]', on_conflict => 'ignore'$$]) arguments;
SELECT count(*) FROM tq_schedules;

-- tq_alter_schedule: NULL leaves what is, reset goes back, the rest is as it was.
SELECT tq_schedule('nightly', 'note', '30 2 * * *', '["x"]', tz => 'Europe/Berlin', deadline => '1 hour', jitter => '90 s', tags => '{a,"b c"}', description => 'every night', task => '{"priority": 3}', catch_up => 'all', repeats => 12) IS NOT NULL;
CREATE TABLE before AS SELECT * FROM tq_schedule;
SELECT tq_alter_schedule('nightly', description => 'each night', reset => '{deadline,tags,repeats}');
SELECT s.rule, s.tz, s.args, s.next_run = b.next_run AS same_next, s.anchor = b.anchor AS same_anchor, s.id = b.id AS same_id, s.deadline, s.jitter, s.tags, s.description, s.task, s.catch_up, s.repeats FROM tq_schedule s, before b;
SELECT tq_alter_schedule('nightly', tz => 'Asia/Tokyo');
SELECT to_char(s.next_run AT TIME ZONE 'Asia/Tokyo', 'HH24:MI') AS next, s.anchor = b.anchor AS same_anchor FROM tq_schedule s, before b;
SELECT tq_alter_schedule('nightly', rule => '0 4 * * *', args => '["y"]', handler => 'note');
SELECT to_char(s.next_run AT TIME ZONE 'Asia/Tokyo', 'HH24:MI') AS next, s.args, s.anchor > b.anchor AS new_anchor FROM tq_schedule s, before b;
SET client_min_messages = warning;
SELECT tq_alter_schedule('nightly', next_run => '2100-01-01 00:00Z');
RESET client_min_messages;
SELECT tq_alter_schedule('nightly', overlap => 'skip');
SELECT next_run, overlap FROM tq_schedule;
SELECT tq_alter_schedule('nightly', active_hours => '00:00-12:00');
SELECT next_run < '2100-01-01' AS planned_anew FROM tq_schedule;
SELECT tq_alter_schedule('nightly', enabled => false);
SELECT enabled, next_run FROM tq_schedules;
SELECT call, test.said('tq_alter_schedule(' || call || ')') FROM unnest(ARRAY[$$NULL$$, $$'daily'$$, $$'nightly', rule => 'x'$$, $$'nightly', handler => 'nobody'$$, $$'nightly', reset => '{deadlin}'$$, $$'nightly', reset => '{rule}'$$, $$'nightly', tz => 'UTC', reset => '{tz}'$$,
    $$'nightly', next_run => '2100-01-01'$$, $$'nightly', next_run => 'infinity'$$, $$'nightly', until => '2020-01-01'$$, $$'nightly', args => '["a", "b", "c"]'$$, $$'nightly', rule => 'after'$$]) call;
SELECT rule, tz, enabled, overlap FROM tq_schedule;
-- Enabling again doesn't serve what was missed; what it counted stays.
SELECT tq_schedule('often', 'note', '1 second', '["often"]', catch_up => 'all') IS NOT NULL;
SELECT test.await('(SELECT run_count >= 1 FROM acme.tq_schedule WHERE name = ''often'')');
SELECT tq_alter_schedule('often', enabled => false);
UPDATE tq_schedule SET anchor = anchor - interval '1 hour', last_run = last_run - interval '1 hour' WHERE name = 'often';
CREATE TABLE disabled AS SELECT run_count FROM tq_schedule WHERE name = 'often';
SELECT tq_alter_schedule('often', enabled => true);
SELECT test.await('(SELECT s.run_count > d.run_count FROM acme.tq_schedule s, acme.disabled d WHERE name = ''often'')');
SELECT s.run_count - d.run_count < 5 AS none_missed FROM tq_schedule s, disabled d WHERE name = 'often';
SELECT tq_unschedule('often');

-- tq_fire: one now, the plan untouched, disabled or not.
SELECT tq_fire('nightly') AS id \gset
SELECT tq_result(:'id', wait => '20 s');
SELECT enabled, next_run, run_count, fail_count, last_status, last_run IS NOT NULL AS ran FROM tq_schedules;
SELECT test.said('tq_fire(''weekly'')'), test.said('tq_fire(NULL)');
SELECT tq_unschedule('nightly');

-- tq_upcoming: in order, as far as asked, and all of it or none.
SELECT tq_schedule('three', 'note', 'every 3 hours', '["x"]', start_at => '2100-01-01 01:00Z') IS NOT NULL, tq_schedule('twice', 'note', '0 * * * *', '["x"]', start_at => '2100-01-01 00:00Z', repeats => 2) IS NOT NULL,
       tq_schedule('hours', 'note', '30 * * * *', '["x"]', tz => 'UTC', start_at => '2100-01-01 00:00Z', active_hours => '04:00-06:00') IS NOT NULL, tq_schedule('off', 'note', '* * * * *', '["x"]', enabled => false) IS NOT NULL,
       tq_schedule('follows', 'note', 'after', '["x"]', after => '{three}') IS NOT NULL;
SELECT * FROM tq_upcoming('2100-01-01 08:00Z');
SELECT * FROM tq_upcoming('2100-01-01 00:30Z', tenant => 'acme');
SELECT count(*) FROM tq_upcoming('2020-01-01');
SELECT test.said('(SELECT count(*) FROM tq_upcoming(''infinity''))');
SELECT test.said('(SELECT count(*) FROM tq_upcoming(NULL))');

-- tq_export and tq_import: there and back again.
SELECT tq_schedule('all of it', 'note', '0 2 * * *', '{"what": "x"}', 'Europe/Berlin', '2090-01-01Z', '2099-01-01Z', 7, 'all', 50, '1 mon 2 days 03:04:05.6', 'allow', '90 s', 'skip', true, 'day', 'true', '08:00-09:00', '{three,twice}', 'any', '{"queue": "q", "timeout": "5 minutes"}', false, '{a,"b,c"}', 'words') IS NOT NULL;
SELECT jsonb_pretty(e) FROM jsonb_array_elements(tq_export()) e WHERE e ->> 'name' IN ('all of it', 'follows') ORDER BY e ->> 'name';
CREATE TABLE exported AS SELECT tq_export() AS doc;
CREATE TABLE rows AS SELECT * FROM tq_schedule;
-- In the wrong order: whoever comes after others is made after them.
SELECT tq_alter_schedule('follows', reset => '{after}', rule => '@daily'), tq_alter_schedule('all of it', reset => '{after,after_outcome}');
SELECT count(tq_unschedule(name)) FROM tq_schedules;
SELECT tq_import(jsonb_agg(e ORDER BY e ->> 'name')) FROM exported, jsonb_array_elements(doc) e;
SELECT tq_export() = doc AS same FROM exported;
SELECT count(*) FROM tq_schedule s JOIN rows r USING (name) WHERE (s.handler, s.rule, s.enabled, s.repeats, s.options, s.state, s.task, s.tags, s.deadline, s.jitter, s.start_at, s.until) IS NOT DISTINCT FROM (r.handler, r.rule, r.enabled, r.repeats, r.options, r.state, r.task, r.tags, r.deadline, r.jitter, r.start_at, r.until);
SELECT tq_import(doc, 'skip'), tq_import(doc, 'replace') FROM exported;
SELECT tq_export() = doc AS same FROM exported;
SELECT doc, test.said(format('tq_import(%L, %L)', doc, 'skip')) FROM unnest('{"{}","[7]","[{}]","[{\"name\":\"n\",\"handler\":\"note\",\"rule\":\"@daily\",\"overlaps\":\"skip\"}]","[{\"name\":\"n\",\"handler\":\"note\",\"rule\":\"@daily\",\"tenant\":\"x\"}]","[{\"name\":\"n\",\"handler\":\"note\",\"rule\":\"@dayly\"}]","[{\"name\":\"n\",\"handler\":\"note\",\"rule\":7}]","[{\"name\":\"n\",\"handler\":\"note\",\"rule\":\"@daily\",\"jitter\":\"soon\"}]","[{\"name\":\"n\",\"handler\":\"note\",\"rule\":\"@daily\",\"until\":\"soon\"}]","[{\"name\":\"n\",\"handler\":\"note\",\"rule\":\"@daily\",\"tags\":\"a\"}]","[{\"name\":\"n\",\"handler\":\"note\",\"rule\":\"@daily\"},{\"name\":\"n\",\"handler\":\"note\",\"rule\":\"@daily\"}]","[{\"name\":\"n\",\"handler\":\"note\",\"rule\":\"after\",\"after\":[\"m\"]},{\"name\":\"m\",\"handler\":\"note\",\"rule\":\"after\",\"after\":[\"n\"]}]","[{\"name\":\"n\",\"handler\":\"note\",\"rule\":\"@daily\"},{\"name\":\"m\",\"handler\":\"note\",\"rule\":\"after\",\"after\":[\"nobody\"]}]"}'::text[]) doc;
SELECT test.said(format('tq_import(%L)', doc)), test.said(format('tq_import(%L, %L)', doc, 'keep')), test.said('tq_import(NULL)') FROM exported;
SELECT count(*) FROM tq_schedules;
-- Rights
RESET ROLE;
SET ROLE stranger;
SELECT call, test.said(call) FROM unnest('{"tq_alter_schedule(''three'', description => ''mine'')",tq_fire(''three''),tq_export(),tq_import(''[]''),"(SELECT count(*) FROM tq_upcoming(now()))",tq_unschedule(''three'')}'::text[]) call;
RESET ROLE;
SET ROLE owner;

-- after: a schedule that others come after can't go; circles are refused.
SELECT test.said('tq_unschedule(''three'')');
SELECT tq_alter_schedule('follows', after => '{}', rule => '@daily'), tq_alter_schedule('all of it', reset => '{after,after_outcome}');
SELECT tq_unschedule('three');
SELECT count(tq_unschedule(name)) FROM tq_schedules;
SELECT tq_schedule('a', 'note', '2100-01-01 00:00Z', '["a"]') IS NOT NULL, tq_schedule('b', 'note', 'after', '["b"]', after => '{a}') IS NOT NULL, tq_schedule('c', 'note', 'after', '["c"]', after => '{b,a}') IS NOT NULL;
SELECT test.said('tq_alter_schedule(''a'', after => ''{c}'')'), test.said('tq_alter_schedule(''a'', after => ''{a}'')'), test.said('tq_schedule(''a'', ''note'', ''after'', ''["a"]'', after => ''{b}'', on_conflict => ''replace'')');
SELECT name, kind, after, next_run FROM tq_schedules ORDER BY name;
-- Each end of a releases b, and both release c. Failures and any end are waited for where asked.
SELECT tq_schedule('f', 'fails', '2100-01-01 00:00Z', '["f"]') IS NOT NULL, tq_schedule('on failure', 'note', 'after', '["on failure"]', after => '{f}', after_outcome => 'failure') IS NOT NULL, tq_schedule('on success', 'note', 'after', '["on success"]', after => '{f}') IS NOT NULL,
       tq_schedule('on any', 'note', '2100-01-01 00:00Z', '["on any"]', after => '{f,a}', after_outcome => 'any') IS NOT NULL;
SELECT tq_fire('a') AS id \gset
SELECT tq_result(:'id', wait => '20 s');
SELECT test.await('(SELECT count(*) = 3 FROM acme.log WHERE what IN (''a'', ''b'', ''c''))');
SELECT tq_fire('f') AS id \gset
SELECT tq_result(:'id', wait => '20 s');
\echo :SQLSTATE
SELECT test.await('(SELECT count(*) = 2 FROM acme.log WHERE what LIKE ''on %'')');
SELECT tq_fire('a') AS id \gset
SELECT tq_result(:'id', wait => '20 s');
SELECT test.await('(SELECT count(*) = 6 FROM acme.log WHERE what IN (''a'', ''b'', ''c''))');
SELECT what, count(*), count(DISTINCT at) AS fire_times FROM log WHERE what LIKE 'on %' OR length(what) = 1 GROUP BY what ORDER BY what;
SELECT name, next_run, run_count, fail_count, last_status FROM tq_schedules ORDER BY name;
-- Paused, disabled, used up: an end then is none.
SELECT tq_alter_schedule('b', enabled => false), tq_alter_schedule('c', repeats => 0);
SELECT tq_fire('a') AS id \gset
SELECT tq_result(:'id', wait => '20 s');
SELECT name, next_run, state FROM tq_schedule WHERE name IN ('b', 'c') ORDER BY name;

-- only_if: asked as the role that runs the task, in its tenant; no is no run.
SELECT tq_schedule('no', 'note', 'once', '["no"]', only_if => 'false', repeats => 1) IS NOT NULL, tq_schedule('null', 'note', 'once', '["null"]', only_if => 'NULL', repeats => 1) IS NOT NULL,
       tq_schedule('yes', 'note', 'once', '["yes"]', only_if => 'session_user = ''owner'' AND current_schema = ''acme'' AND EXISTS (SELECT FROM log) AND (tq_current()).schedule = ''yes'' -- so', repeats => 1) IS NOT NULL,
       tq_schedule('error', 'note', 'once', '["error"]', only_if => '1 / 0 = 1', repeats => 1, task => '{"max_attempts": 1}') IS NOT NULL, tq_schedule('kept', 'note', 'once', '["kept"]', only_if => 'false', repeats => 1, task => '{"save": true}') IS NOT NULL;
SELECT test.await('(SELECT bool_and(last_status IN (''done'', ''failed'', ''skipped'', ''cancelled'')) FROM tq_schedules WHERE name IN (''no'', ''null'', ''yes'', ''error'', ''kept''))');
SELECT name, run_count, fail_count, last_status FROM tq_schedules WHERE name IN ('no', 'null', 'yes', 'error', 'kept') ORDER BY name;
SELECT what FROM log WHERE what IN ('no', 'null', 'yes', 'error', 'kept');
SELECT schedule, state, error ->> 'sqlstate' AS sqlstate, error ->> 'message' AS message FROM tq_results WHERE schedule IN ('no', 'null', 'yes', 'error', 'kept') ORDER BY schedule;
SELECT tq_fire('no') AS id \gset
SELECT tq_result(:'id', wait => '20 s');

-- What the owner writes into the table: shown with the call that mends it, and nothing else stops.
SELECT tq_alter_schedule('on any', reset => '{after,after_outcome}'), tq_alter_schedule('on failure', reset => '{after,after_outcome}', rule => '@daily'), tq_alter_schedule('on success', reset => '{after}', rule => '@daily'), tq_alter_schedule('b', reset => '{after}', rule => '@daily'), tq_alter_schedule('c', reset => '{after}', rule => '@daily');
SELECT count(tq_unschedule(name)) FROM tq_schedules;
TRUNCATE log;
CREATE TABLE garbage (n serial, what text, val text);
INSERT INTO garbage (what, val) VALUES ('rule', $$'x'$$), ('tz', $$'Mars/Olympus'$$), ('tz', $$''$$), ('catch_up', $$'x'$$), ('catch_up_limit', '-1'), ('overlap', $$'x'$$), ('jitter', $$'-1 s'$$), ('deadline', $$'-1 s'$$), ('deadline', $$'-178000000 years'$$), ('month_end', $$'x'$$),
    ('repeats', '-2'), ('repeats', '-2147483648'), ('task', $$'[]'$$), ('task', $$'{"x": 1}'$$), ('task', $$'{"priority": 1e999}'$$), ('task', $$'{"retry": 7}'$$), ('task', $$'{"name": ""}'$$), ('options', $$'[]'$$), ('options', $$'1e999'$$), ('options', $$'{"active_hours": 7}'$$), ('options', $$'{"active_hours": "x"}'$$),
    ('options', $$'{"only_if": 7}'$$), ('options', $$'{"after": "a"}'$$), ('options', $$'{"after": [1]}'$$), ('options', $$'{"after": ["nobody"]}'$$), ('options', $$'{"after": ["whole"]}'$$), ('options', $$'{"after_outcome": "x"}'$$), ('time_arg', $$'nothing'$$), ('args', $$'[1, 2, 3, 4]'$$), ('args', $$'"x"'$$), ('handler', $$'gone'$$), ('handler', $$''$$),
    ('anchor', $$'infinity'$$), ('anchor', $$'-infinity'$$), ('anchor', $$'290000-01-01'$$), ('start_at', $$'-infinity'$$), ('name', $$''$$);
-- These do no harm.
INSERT INTO garbage (what, val) VALUES ('catch_up_limit', '2147483647'), ('repeats', '2147483647'), ('deadline', $$'178000000 years'$$), ('args', $$'{"what": 1e999}'$$), ('next_run', $$'-infinity'$$), ('next_run', $$'4700-01-01 BC'$$), ('created_by', 'NULL'), ('created_by', $$'nobody'$$), ('by_superuser', 'true'), ('run_count', '9223372036854775807'), ('fail_count', '-1'),
    ('state', $$'[]'$$), ('state', $$'{"before": 7}'$$), ('state', $$'{"before": ["nobody", "g1"]}'$$), ('state', $$'{"released": "x"}'$$), ('state', $$'{"released": -9223372036854775808}'$$), ('state', $$'{"clock": -1}'$$), ('last_task', $$'00000000-0000-0000-0000-000000000000'$$), ('last_run', $$'-infinity'$$), ('tags', $$'{{a,b},{c,NULL}}'$$), ('day_and', 'true');
SELECT tq_schedule('whole', 'note', '1 second', '["whole"]', catch_up => 'all') IS NOT NULL;
SELECT count(tq_schedule('g' || n, 'note', '1 second', '["x"]')) FROM garbage;
DO $$ DECLARE g record; BEGIN
    FOR g IN SELECT * FROM garbage LOOP
        EXECUTE format('UPDATE tq_schedule SET %I = %s WHERE name = %L', g.what, g.val, 'g' || g.n);
    END LOOP;
END $$;
SELECT test.await('(SELECT count(*) >= 3 FROM acme.log WHERE what = ''whole'')');
SELECT count(*) = 1 + extract(epoch FROM max(at) - min(at)) AS every_second FROM log WHERE what = 'whole';
SELECT g.what, g.val, p.reason, p.fix FROM garbage g LEFT JOIN tq_problems p ON p.what = format('schedule %s of tenant acme', CASE g.what WHEN 'name' THEN '' ELSE 'g' || g.n END) ORDER BY g.n;
SELECT count(*) = (SELECT count(*) + 1 FROM garbage) AS all_shown FROM tq_schedules;
SELECT count(*) > 0 AS foreseen FROM tq_upcoming(now() + interval '3 seconds');
-- The calls mend them: those that leave a choice are made first.
CREATE FUNCTION gone(what text) RETURNS void LANGUAGE sql AS $$ $$;
DO $$ DECLARE p record; BEGIN
    FOR p IN SELECT * FROM tq_problems LOOP
        EXECUTE replace(replace(replace(coalesce(p.fix, regexp_replace(p.reason, '^.*?; ', '')), 'rule => ''…''', 'rule => ''1 second'''), 'args => ''…''', CASE WHEN p.reason LIKE 'time_arg%' THEN 'reset => ''{time_arg}''' ELSE 'args => ''["x"]''' END), 'handler => ''…''', 'handler => ''note''');
    END LOOP;
END $$;
SELECT test.await('(SELECT bool_and(next_run IS NOT NULL AND problem IS NULL) FROM acme.tq_schedule)');
SELECT what, reason, fix FROM tq_problems;

-- The clock was set back: it ran at a time that is yet to come.
SELECT tq_alter_schedule(name, reset => '{after}') FROM tq_schedule WHERE options ? 'after';
SELECT count(tq_unschedule(name)) FROM tq_schedules;
SELECT tq_schedule('minutes', 'note', '5 minutes', '["minutes"]') IS NOT NULL, tq_schedule('days', 'note', '0 2 * * *', '["days"]', tz => 'UTC') IS NOT NULL, tq_schedule('years', 'note', '0 2 * * *', '["years"]', tz => 'UTC') IS NOT NULL, tq_schedule('made', 'note', '5 minutes', '["made"]') IS NOT NULL;
UPDATE tq_schedule SET last_run = now() + interval '1 hour', next_run = now() + interval '62 minutes' WHERE name = 'minutes';
UPDATE tq_schedule SET last_run = now() + interval '1 hour', next_run = now() + interval '20 hours' WHERE name = 'days';
UPDATE tq_schedule SET last_run = now() + interval '10 years', next_run = now() + interval '11 years' WHERE name = 'years';
UPDATE tq_schedule SET anchor = now() + interval '10 years', next_run = now() + interval '10 years' WHERE name = 'made';
CREATE TABLE set_back AS SELECT * FROM tq_schedule;
RESET ROLE;
ALTER SYSTEM SET tenant_q.sweep_interval = '1s';
SELECT pg_reload_conf();
SELECT test.await('(SELECT max(next_run) < now() + interval ''2 days'' FROM acme.tq_schedule WHERE name <> ''days'')');
ALTER SYSTEM RESET tenant_q.sweep_interval;
SELECT pg_reload_conf();
SET ROLE owner;
SELECT s.name, s.next_run = b.next_run AS kept, s.next_run < now() + CASE WHEN s.rule = '5 minutes' THEN interval '5 minutes' ELSE interval '1 day' END AS soon, s.state FROM tq_schedule s JOIN set_back b USING (name) ORDER BY name;
