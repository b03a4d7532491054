-- Schedules.

CREATE FUNCTION @extschema@.tq_schedule(name text, handler text, rule text, args jsonb DEFAULT NULL, tz text DEFAULT NULL, start_at timestamptz DEFAULT NULL, until timestamptz DEFAULT NULL, repeats integer DEFAULT NULL,
    catch_up text DEFAULT NULL, catch_up_limit integer DEFAULT NULL, deadline interval DEFAULT NULL, overlap text DEFAULT NULL, jitter interval DEFAULT NULL, month_end text DEFAULT NULL,
    day_and boolean DEFAULT NULL, time_arg text DEFAULT NULL, only_if text DEFAULT NULL, active_hours text DEFAULT NULL, after text[] DEFAULT NULL, after_outcome text DEFAULT NULL,
    task jsonb DEFAULT NULL, enabled boolean DEFAULT true, tags text[] DEFAULT NULL, description text DEFAULT NULL, on_conflict text DEFAULT 'error', tenant text DEFAULT NULL) RETURNS uuid
LANGUAGE c AS 'MODULE_PATHNAME', 'tq_schedule';
COMMENT ON FUNCTION @extschema@.tq_schedule(text, text, text, jsonb, text, timestamptz, timestamptz, integer, text, integer, interval, text, interval, text, boolean, text, text, text, text[], text, jsonb, boolean, text[], text, text, text) IS
'Makes a schedule: a rule that enqueues a handler''s call at each of its fire times, exactly once each. Returns the schedule''s id.
rule: ''*/5 * * * *'' (six fields: seconds first) | ''@daily'' | ''10 seconds'' | ''every 5 to 10 minutes'' | ''monday at 10:30'' | ''monthly'' and Django-Q''s letters | ''once'' | a timestamp | ''sunset at 52.5,13.4'' | ''after'' (at no time of its own). tz: default the tenant''s. start_at, until, repeats (-1 = for ever). catch_up: ''once'' (default) | ''all'' | ''none'' for fire times missed while the server was down, with catch_up_limit and deadline. overlap: ''queue'' (default: one runs, one waits) | ''allow'' | ''skip''. jitter: random delay up to that. month_end: ''clamp'' | ''skip'' | ''sticky''. day_and: cron''s two day fields must both match. time_arg: the parameter that gets the intended time, as its type has it in the schedule''s zone. only_if: a SQL expression that is asked when the task is about to run, as the role that runs it and with the tenant first on search_path; where it isn''t true the task ends without having run; only the schema''s owner may set it. active_hours: ''09:00-17:00''. after: names of schedules of this tenant; it fires, beside its rule, when each of them has had a run since its own last one that ended as after_outcome says: ''success'' (default) | ''failure'' | ''any''. task: further parameters of tq_async. on_conflict: ''error'' | ''replace'' | ''nothing'' where the name exists.
Errors: 22023 with the parameter and the place in it, 42601 only_if is no expression, 42710 the name exists, 42704 handler not registered or no such schedule in after, 42501.
Example: SELECT tq_schedule(''nightly'', ''close_day'', ''0 2 * * *'', tz => ''Europe/Berlin'', time_arg => ''day'');';

CREATE FUNCTION @extschema@.tq_unschedule(name text, tenant text DEFAULT NULL) RETURNS boolean
LANGUAGE c AS 'MODULE_PATHNAME', 'tq_unschedule';
COMMENT ON FUNCTION @extschema@.tq_unschedule(text, text) IS 'Removes a schedule; tasks it has enqueued stay. False = there is none. Errors: 2BP01 others come after it. Example: SELECT tq_unschedule(''nightly'');';

CREATE FUNCTION @extschema@.tq_alter_schedule(name text, handler text DEFAULT NULL, rule text DEFAULT NULL, args jsonb DEFAULT NULL, tz text DEFAULT NULL, start_at timestamptz DEFAULT NULL, until timestamptz DEFAULT NULL, repeats integer DEFAULT NULL,
    catch_up text DEFAULT NULL, catch_up_limit integer DEFAULT NULL, deadline interval DEFAULT NULL, overlap text DEFAULT NULL, jitter interval DEFAULT NULL, month_end text DEFAULT NULL,
    day_and boolean DEFAULT NULL, time_arg text DEFAULT NULL, only_if text DEFAULT NULL, active_hours text DEFAULT NULL, after text[] DEFAULT NULL, after_outcome text DEFAULT NULL,
    task jsonb DEFAULT NULL, enabled boolean DEFAULT NULL, tags text[] DEFAULT NULL, description text DEFAULT NULL, next_run timestamptz DEFAULT NULL, reset text[] DEFAULT '{}', tenant text DEFAULT NULL) RETURNS void
LANGUAGE c AS 'MODULE_PATHNAME', 'tq_alter_schedule';
COMMENT ON FUNCTION @extschema@.tq_alter_schedule(text, text, text, jsonb, text, timestamptz, timestamptz, integer, text, integer, interval, text, interval, text, boolean, text, text, text, text[], text, jsonb, boolean, text[], text, timestamptz, text[], text) IS
'Changes a schedule: NULL leaves a parameter as it is, reset names those that go back to what is inherited. Its counts, its last run and, where rule, day_and and start_at stay, the moment from which it counts are kept. The next fire time is computed anew, from now on, where what decides it was changed; next_run sets it, for once. Enabling again does not serve the fire times of the time it was disabled. Who changes a schedule answers for it from then on (created_by). only_if is the schema''s owner''s to change.
Errors: as tq_schedule; 42704 there is no such schedule; 40001 others keep changing it.
Example: SELECT tq_alter_schedule(''nightly'', rule => ''0 3 * * *'', reset => ''{deadline}'');';

CREATE FUNCTION @extschema@.tq_fire(name text, tenant text DEFAULT NULL) RETURNS uuid
LANGUAGE c AS 'MODULE_PATHNAME', 'tq_fire';
COMMENT ON FUNCTION @extschema@.tq_fire(text, text) IS
'Makes one task of a schedule now, also of a disabled one, and returns its id. The plan stays: next_run and repeats are not touched; active_hours and only_if are not asked. Without overlap => ''allow'' it runs when the one that runs has ended. Errors: 42704 there is no such schedule or handler, 42501. Example: SELECT tq_fire(''nightly'');';

CREATE FUNCTION tenant_q.upcoming(until timestamptz, tenant text) RETURNS jsonb
LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'tenant_q_upcoming';
COMMENT ON FUNCTION tenant_q.upcoming(timestamptz, text) IS 'behind tq_upcoming';
CREATE FUNCTION @extschema@.tq_upcoming(until timestamptz, tenant text DEFAULT NULL) RETURNS TABLE (schedule text, fire_time timestamptz)
LANGUAGE sql STABLE AS $body$
    SELECT x.schedule, x.fire_time FROM pg_catalog.jsonb_to_recordset(tenant_q.upcoming($1, $2)) AS x(schedule pg_catalog.text, fire_time pg_catalog.timestamptz)
$body$;
COMMENT ON FUNCTION @extschema@.tq_upcoming(timestamptz, text) IS
'What the tenant''s schedules will fire until then, in order; at most tenant_q.view_rows, with a NOTICE where there is more. What fires after other schedules is not foreseen. Errors: 22004, 42501. Example: SELECT * FROM tq_upcoming(now() + interval ''1 hour'');';

CREATE FUNCTION @extschema@.tq_export(tenant text DEFAULT NULL) RETURNS jsonb
LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'tq_export';
COMMENT ON FUNCTION @extschema@.tq_export(text) IS
'All schedules of the tenant as an array of documents whose keys are tq_schedule''s parameters; what is inherited is left out. Counts and times of the past are not in it. Errors: 42501. Example: SELECT tq_import(tq_export(tenant => ''acme''), tenant => ''globex'');';

CREATE FUNCTION @extschema@.tq_import(doc jsonb, on_conflict text DEFAULT 'error', tenant text DEFAULT NULL) RETURNS integer
LANGUAGE c AS 'MODULE_PATHNAME', 'tq_import';
COMMENT ON FUNCTION @extschema@.tq_import(jsonb, text, text) IS
'Makes schedules of an array of documents as tq_export has them, all or none, whatever their order, and returns how many. on_conflict: ''error'' | ''skip'' | ''replace'' where a name exists. Errors: as tq_schedule, with the place of the document; 22023 an unknown key, with the nearest one. Example: SELECT tq_import(''[{"name": "weekly", "handler": "close_day", "rule": "0 2 * * mon"}]'');';

CREATE FUNCTION tenant_q.next_runs(rule text, tz text, after timestamptz, n integer, start_at timestamptz, month_end text, day_and boolean) RETURNS timestamptz[]
LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'tenant_q_next_runs';
COMMENT ON FUNCTION tenant_q.next_runs(text, text, timestamptz, integer, timestamptz, text, boolean) IS 'behind tq_next_runs';
CREATE FUNCTION @extschema@.tq_next_runs(rule text, tz text DEFAULT NULL, after timestamptz DEFAULT pg_catalog.now(), n integer DEFAULT 5, start_at timestamptz DEFAULT NULL,
    month_end text DEFAULT NULL, day_and boolean DEFAULT false) RETURNS SETOF timestamptz
LANGUAGE sql STABLE AS $body$ SELECT pg_catalog.unnest(tenant_q.next_runs($1, $2, $3, $4, $5, $6, $7)) $body$;
COMMENT ON FUNCTION @extschema@.tq_next_runs(text, text, timestamptz, integer, timestamptz, text, boolean) IS
'The next n fire times of a rule after an instant. tz: NULL = the current tenant''s, else the setting, else TimeZone. Errors: 22023 with the place in the rule.
Example: SELECT * FROM tq_next_runs(''30 2 * * *'', ''Europe/Berlin'', ''2023-03-25 12:00+01'', 3);';

CREATE FUNCTION @extschema@.tq_describe(rule text) RETURNS text
LANGUAGE c IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tq_describe';
COMMENT ON FUNCTION @extschema@.tq_describe(text) IS 'A rule in words. Example: SELECT tq_describe(''0 2 * * mon'');';

CREATE FUNCTION tenant_q.schedules(tenant text DEFAULT NULL) RETURNS jsonb
LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'tenant_q_schedules';
COMMENT ON FUNCTION tenant_q.schedules(text) IS 'behind the view tq_schedules';

CREATE FUNCTION tenant_q.tzdata_version() RETURNS text
LANGUAGE c IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tenant_q_tzdata_version';
COMMENT ON FUNCTION tenant_q.tzdata_version() IS 'the version of the time zone data that schedules are computed with';
