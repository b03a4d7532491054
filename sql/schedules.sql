-- Schedules.

CREATE FUNCTION @extschema@.tq_schedule(name text, handler text, rule text, args jsonb DEFAULT NULL, tz text DEFAULT NULL, start_at timestamptz DEFAULT NULL, until timestamptz DEFAULT NULL, repeats integer DEFAULT NULL,
    catch_up text DEFAULT NULL, catch_up_limit integer DEFAULT NULL, deadline interval DEFAULT NULL, overlap text DEFAULT NULL, jitter interval DEFAULT NULL, month_end text DEFAULT NULL,
    day_and boolean DEFAULT NULL, time_arg text DEFAULT NULL, only_if text DEFAULT NULL, active_hours text DEFAULT NULL, after text[] DEFAULT NULL, after_outcome text DEFAULT NULL,
    task jsonb DEFAULT NULL, enabled boolean DEFAULT true, tags text[] DEFAULT NULL, description text DEFAULT NULL, on_conflict text DEFAULT 'error', tenant text DEFAULT NULL) RETURNS uuid
LANGUAGE c AS 'MODULE_PATHNAME', 'tq_schedule';
COMMENT ON FUNCTION @extschema@.tq_schedule(text, text, text, jsonb, text, timestamptz, timestamptz, integer, text, integer, interval, text, interval, text, boolean, text, text, text, text[], text, jsonb, boolean, text[], text, text, text) IS
'Makes a schedule: a rule that enqueues a handler''s call at each of its fire times, exactly once each. Returns the schedule''s id.
name: up to 200 bytes, one schedule of it a tenant. handler: registered. rule: ''*/5 * * * *'' (six fields: seconds first) | ''@daily'' | ''10 seconds'' | ''every 5 to 10 minutes'' | ''monday at 10:30'' | ''monthly'' and Django-Q''s letters | ''once'' | a timestamp | ''sunset at 52.5,13.4'' | ''after'', ''after any'' (at no time of its own). args: as in tq_async, checked now. tz: an IANA name, default the tenant''s. start_at: not before; what counts begins there. until: not after. repeats: so many fire times, -1 = for ever (default), 0 = none. catch_up: ''once'' (default) | ''all'' | ''none'' of the fire times missed while the server was down; catch_up_limit: at most so many (1000). deadline: an older fire time isn''t served; at least 1 second. overlap: ''queue'' (default: one runs, one waits) | ''allow'' | ''skip''. jitter: random delay up to that. month_end: ''clamp'' (default) | ''skip'' | ''sticky'' where a month lacks the day. day_and: cron''s two day fields must both match. time_arg: the parameter that gets the intended time, as its type has it in the schedule''s zone. only_if: a SQL expression that is asked when the task is about to run, as the role that runs it and with the tenant first on search_path; where it isn''t true the task ends without having run; only the schema''s owner may set it. active_hours: ''09:00-17:00'' | ''mon-fri 22:00-02:00, …''; fire times outside are left out, ''once'' waits for them. after: names of schedules of this tenant; it fires, beside its rule, when each of them has had a run since its own last one that ended as after_outcome says: ''success'' (default) | ''failure'' | ''any''; with rule ''after any'' one of them is enough. task: further parameters of tq_async. enabled: false = it is there and doesn''t fire. tags: of your own, shown in tq_schedules. description: in words. on_conflict: ''error'' (default) | ''replace'' (what was served isn''t served again, counts go on) | ''nothing'' where the name exists. tenant: NULL = the first schema of search_path.
Errors: 22023 with the parameter and the place in it, also where it would never fire; 22004 name, handler or rule is missing; 42601 only_if is no expression; 42710 the name exists; 42704 handler not registered or no such schedule in after; 54000 name or args too large; 42501 no right to schedule; errors of args as in tq_async.
Example: SELECT tq_schedule(''nightly'', ''close_day'', ''0 2 * * *'', tz => ''Europe/Berlin'', time_arg => ''day'');';

CREATE FUNCTION @extschema@.tq_unschedule(name text, tenant text DEFAULT NULL) RETURNS boolean
LANGUAGE c AS 'MODULE_PATHNAME', 'tq_unschedule';
COMMENT ON FUNCTION @extschema@.tq_unschedule(text, text) IS
'Removes a schedule; tasks it has enqueued stay. False = there is none. A handler may remove its own: tq_unschedule((tq_current()).schedule). name: which. tenant: NULL = the first schema of search_path.
Errors: 22004 name is NULL; 2BP01 others come after it; 55000 it is one of all tenants; 42501; 40001 others keep changing it. Example: SELECT tq_unschedule(''nightly'');';

CREATE FUNCTION @extschema@.tq_alter_schedule(name text, handler text DEFAULT NULL, rule text DEFAULT NULL, args jsonb DEFAULT NULL, tz text DEFAULT NULL, start_at timestamptz DEFAULT NULL, until timestamptz DEFAULT NULL, repeats integer DEFAULT NULL,
    catch_up text DEFAULT NULL, catch_up_limit integer DEFAULT NULL, deadline interval DEFAULT NULL, overlap text DEFAULT NULL, jitter interval DEFAULT NULL, month_end text DEFAULT NULL,
    day_and boolean DEFAULT NULL, time_arg text DEFAULT NULL, only_if text DEFAULT NULL, active_hours text DEFAULT NULL, after text[] DEFAULT NULL, after_outcome text DEFAULT NULL,
    task jsonb DEFAULT NULL, enabled boolean DEFAULT NULL, tags text[] DEFAULT NULL, description text DEFAULT NULL, next_run timestamptz DEFAULT NULL, reset text[] DEFAULT '{}', tenant text DEFAULT NULL) RETURNS void
LANGUAGE c AS 'MODULE_PATHNAME', 'tq_alter_schedule';
COMMENT ON FUNCTION @extschema@.tq_alter_schedule(text, text, text, jsonb, text, timestamptz, timestamptz, integer, text, integer, interval, text, interval, text, boolean, text, text, text, text[], text, jsonb, boolean, text[], text, timestamptz, text[], text) IS
'Changes a schedule. name: which. handler, rule, args, tz, start_at, until, repeats (so many from now on), catch_up, catch_up_limit, deadline, overlap, jitter, month_end, day_and, time_arg, only_if, active_hours, after, after_outcome, task, enabled, tags, description: as in tq_schedule; NULL leaves one as it is. next_run: fires then, for once; what is past is served at once, for that time, even if it was served before, and with catch_up => ''all'' each fire time since. reset: names of parameters that go back to what is inherited. tenant: NULL = the first schema of search_path.
Its counts, its last run and, where rule, day_and and start_at stay, the moment from which it counts are kept. The next fire time is computed anew, from now on, where what decides it was changed. Enabling again does not serve the fire times of the time it was disabled; a one-time schedule that couldn''t be served is, when it is mended. Nothing is checked where enabled => false is all that is given. Who changes a schedule answers for it from then on (created_by). only_if is the schema''s owner''s to change.
Errors: as tq_schedule; 42704 there is no such schedule; 22023 it would never fire, next_run is outside of active_hours or of the deadline; 55000 it is one of all tenants; 40001 others keep changing it.
Example: SELECT tq_alter_schedule(''nightly'', rule => ''0 3 * * *'', reset => ''{deadline}'');';

CREATE FUNCTION @extschema@.tq_fire(name text, tenant text DEFAULT NULL) RETURNS uuid
LANGUAGE c AS 'MODULE_PATHNAME', 'tq_fire';
COMMENT ON FUNCTION @extschema@.tq_fire(text, text) IS
'Makes one task of a schedule now, also of a disabled one, and returns its id. The plan stays: next_run and repeats are not touched; active_hours and only_if are not asked. Without overlap => ''allow'' it runs when the one that runs has ended. name: which. tenant: NULL = the first schema of search_path.
Errors: 22004 name is NULL; 42704 there is no such schedule or handler; 22023 its row makes no sense; 42501; errors of args as in tq_async. Example: SELECT tq_fire(''nightly'');';

CREATE FUNCTION tenant_q.upcoming(until timestamptz, tenant text) RETURNS jsonb
LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'tenant_q_upcoming';
COMMENT ON FUNCTION tenant_q.upcoming(timestamptz, text) IS 'behind tq_upcoming';
CREATE FUNCTION @extschema@.tq_upcoming(until timestamptz, tenant text DEFAULT NULL) RETURNS TABLE (schedule text, fire_time timestamptz)
LANGUAGE sql STABLE AS $body$
    SELECT x.schedule, x.fire_time FROM pg_catalog.jsonb_to_recordset(tenant_q.upcoming($1, $2)) AS x(schedule pg_catalog.text, fire_time pg_catalog.timestamptz)
$body$;
COMMENT ON FUNCTION @extschema@.tq_upcoming(timestamptz, text) IS
'What the tenant''s schedules will fire, in order; at most tenant_q.view_rows, with a NOTICE where there is more. What fires after other schedules is not foreseen. until: how far to look. tenant: NULL = the first schema of search_path. Errors: 22004 until is NULL; 42501. Example: SELECT * FROM tq_upcoming(now() + interval ''1 hour'');';

CREATE FUNCTION @extschema@.tq_export(tenant text DEFAULT NULL) RETURNS jsonb
LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'tq_export';
COMMENT ON FUNCTION @extschema@.tq_export(text) IS
'All schedules of the tenant as an array of documents whose keys are tq_schedule''s parameters; what is inherited is left out. Counts and times of the past are not in it; repeats is what was granted, not what is left. tenant: NULL = the first schema of search_path. Errors: 42501; 54000 args can''t be carried. Example: SELECT tq_import(tq_export(tenant => ''acme''), tenant => ''globex'');';

CREATE FUNCTION @extschema@.tq_import(doc jsonb, on_conflict text DEFAULT 'error', tenant text DEFAULT NULL) RETURNS integer
LANGUAGE c AS 'MODULE_PATHNAME', 'tq_import';
COMMENT ON FUNCTION @extschema@.tq_import(jsonb, text, text) IS
'Makes schedules, all or none, whatever their order, and returns how many. doc: an array of documents as tq_export has them. on_conflict: ''error'' (default) | ''skip'' | ''replace'' where a name exists, as in tq_schedule. tenant: NULL = the first schema of search_path. Errors: as tq_schedule, with the place of the document; 22004 doc is NULL; 22023 an unknown key, with the nearest one, or a name twice. Example: SELECT tq_import(''[{"name": "weekly", "handler": "close_day", "rule": "0 2 * * mon"}]'');';

CREATE FUNCTION tenant_q.next_runs(rule text, tz text, after timestamptz, n integer, start_at timestamptz, month_end text, day_and boolean) RETURNS timestamptz[]
LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'tenant_q_next_runs';
COMMENT ON FUNCTION tenant_q.next_runs(text, text, timestamptz, integer, timestamptz, text, boolean) IS 'behind tq_next_runs';
CREATE FUNCTION @extschema@.tq_next_runs(rule text, tz text DEFAULT NULL, after timestamptz DEFAULT pg_catalog.now(), n integer DEFAULT 5, start_at timestamptz DEFAULT NULL,
    month_end text DEFAULT NULL, day_and boolean DEFAULT false) RETURNS SETOF timestamptz
LANGUAGE sql STABLE AS $body$ SELECT pg_catalog.unnest(tenant_q.next_runs($1, $2, $3, $4, $5, $6, $7)) $body$;
COMMENT ON FUNCTION @extschema@.tq_next_runs(text, text, timestamptz, integer, timestamptz, text, boolean) IS
'The next fire times of a rule. rule: as in tq_schedule. tz: NULL = the current tenant''s, else the setting, else TimeZone. after: later than this (now). n: so many, up to 10,000. start_at: not before; rules that count begin there, else at after. month_end: ''clamp'' (default) | ''skip'' | ''sticky''. day_and: cron''s two day fields must both match. Errors: 22004 rule is NULL; 22023 with the place in the rule.
Example: SELECT * FROM tq_next_runs(''30 2 * * *'', ''Europe/Berlin'', ''2023-03-25 12:00+01'', 3);';

CREATE FUNCTION @extschema@.tq_describe(rule text) RETURNS text
LANGUAGE c IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tq_describe';
COMMENT ON FUNCTION @extschema@.tq_describe(text) IS
'A rule in words. rule: as in tq_schedule. Errors: 22004 rule is NULL; 22023 with the place in the rule. Example: SELECT tq_describe(''0 2 * * mon'');';

CREATE FUNCTION tenant_q.schedules(tenant text DEFAULT NULL) RETURNS jsonb
LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'tenant_q_schedules';
COMMENT ON FUNCTION tenant_q.schedules(text) IS 'behind the view tq_schedules';
CREATE VIEW @extschema@.tq_schedules AS
    SELECT x.name, x.handler, x.rule, x.kind, x.tz, x.args OPERATOR(pg_catalog.->) 0 AS args, x.enabled, x.next_run, x.repeats, x.last_run, x.last_task, x.last_status, x.run_count, x.fail_count, x.after, x.problem, x.tags, x.description, x.created_by, x.of_all
      FROM pg_catalog.jsonb_to_recordset(tenant_q.schedules()) AS x(name text, handler text, rule text, kind text, tz text, args jsonb, enabled boolean, next_run timestamptz, repeats integer, last_run timestamptz, last_task uuid, last_status text, run_count bigint, fail_count bigint, after text[], problem text, tags text[], description text, created_by text, of_all boolean);
COMMENT ON VIEW @extschema@.tq_schedules IS 'Schedules of the current tenant. kind: what the rule is. last_status: of last_task; skipped = its only_if was not true. run_count, fail_count: tasks made, and tasks that failed for good. problem: why it does not fire (tq_problems has the mending call). tags: what tq_schedule was given. of_all: made by tq_schedule_all for every tenant. At most tenant_q.view_rows, with a NOTICE where there is more. Example: SELECT name, rule, next_run, last_status FROM tq_schedules;';
GRANT SELECT ON @extschema@.tq_schedules TO PUBLIC;

CREATE FUNCTION tenant_q.tzdata_version() RETURNS text
LANGUAGE c IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tenant_q_tzdata_version';
COMMENT ON FUNCTION tenant_q.tzdata_version() IS 'the version of the time zone data that schedules are computed with';
