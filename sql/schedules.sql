-- Schedules.

CREATE FUNCTION @extschema@.tq_schedule(name text, handler text, rule text, args jsonb DEFAULT NULL, tz text DEFAULT NULL, start_at timestamptz DEFAULT NULL, until timestamptz DEFAULT NULL, repeats integer DEFAULT NULL,
    catch_up text DEFAULT NULL, catch_up_limit integer DEFAULT NULL, deadline interval DEFAULT NULL, overlap text DEFAULT NULL, jitter interval DEFAULT NULL, month_end text DEFAULT NULL,
    day_and boolean DEFAULT NULL, time_arg text DEFAULT NULL, only_if text DEFAULT NULL, active_hours text DEFAULT NULL, after text[] DEFAULT NULL, after_outcome text DEFAULT NULL,
    task jsonb DEFAULT NULL, enabled boolean DEFAULT true, tags text[] DEFAULT NULL, description text DEFAULT NULL, on_conflict text DEFAULT 'error', tenant text DEFAULT NULL) RETURNS uuid
LANGUAGE c AS 'MODULE_PATHNAME', 'tq_schedule';
COMMENT ON FUNCTION @extschema@.tq_schedule(text, text, text, jsonb, text, timestamptz, timestamptz, integer, text, integer, interval, text, interval, text, boolean, text, text, text, text[], text, jsonb, boolean, text[], text, text, text) IS
'Makes a schedule: a rule that enqueues a handler''s call at each of its fire times, exactly once each. Returns the schedule''s id.
rule: ''*/5 * * * *'' (six fields: seconds first) | ''@daily'' | ''10 seconds'' | ''every 5 to 10 minutes'' | ''monday at 10:30'' | ''monthly'' and Django-Q''s letters | ''once'' | a timestamp | ''sunset at 52.5,13.4''. tz: default the tenant''s. start_at, until, repeats (-1 = for ever). catch_up: ''once'' (default) | ''all'' | ''none'' for fire times missed while the server was down, with catch_up_limit and deadline. overlap: ''queue'' (default: one runs, one waits) | ''allow'' | ''skip''. jitter: random delay up to that. month_end: ''clamp'' | ''skip'' | ''sticky''. day_and: cron''s two day fields must both match. time_arg: the parameter that gets the intended time, as its type has it in the schedule''s zone. active_hours: ''09:00-17:00''. task: further parameters of tq_async. on_conflict: ''error'' | ''replace'' | ''nothing'' where the name exists.
Not supported yet: only_if, after, after_outcome (0A000). Errors: 22023 with the parameter and the place in it, 42710 the name exists, 42704 handler not registered, 42501.
Example: SELECT tq_schedule(''nightly'', ''close_day'', ''0 2 * * *'', tz => ''Europe/Berlin'', time_arg => ''day'');';

CREATE FUNCTION @extschema@.tq_unschedule(name text, tenant text DEFAULT NULL) RETURNS boolean
LANGUAGE c AS 'MODULE_PATHNAME', 'tq_unschedule';
COMMENT ON FUNCTION @extschema@.tq_unschedule(text, text) IS 'Removes a schedule; tasks it has enqueued stay. False = there is none. Example: SELECT tq_unschedule(''nightly'');';

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
