-- Schedules.

CREATE FUNCTION @extschema@.tq_schedule(name text, handler text, rule text, args jsonb DEFAULT NULL, tz text DEFAULT NULL, start_at timestamptz DEFAULT NULL, until timestamptz DEFAULT NULL, repeats integer DEFAULT NULL,
    catch_up text DEFAULT NULL, catch_up_limit integer DEFAULT NULL, deadline interval DEFAULT NULL, overlap text DEFAULT NULL, jitter interval DEFAULT NULL, month_end text DEFAULT NULL,
    day_and boolean DEFAULT NULL, time_arg text DEFAULT NULL, only_if text DEFAULT NULL, active_hours text DEFAULT NULL, after text[] DEFAULT NULL, after_outcome text DEFAULT NULL,
    task jsonb DEFAULT NULL, enabled boolean DEFAULT true, tags text[] DEFAULT NULL, description text DEFAULT NULL, on_conflict text DEFAULT 'error', tenant text DEFAULT NULL) RETURNS uuid
LANGUAGE c AS 'MODULE_PATHNAME', 'tq_schedule';
COMMENT ON FUNCTION @extschema@.tq_schedule(text, text, text, jsonb, text, timestamptz, timestamptz, integer, text, integer, interval, text, interval, text, boolean, text, text, text, text[], text, jsonb, boolean, text[], text, text, text) IS
'Makes a schedule: a rule that enqueues a handler''s call at each of its fire times, exactly once each. Returns the schedule''s id. The rules, one by one: docs/schedules.md.
Parameters:
  name: up to 200 bytes, one schedule of it a tenant
  handler: registered
  rule: ''*/5 * * * *'' (six fields: seconds first) | ''@daily'' | ''10 seconds'' | ''every 5 to 10 minutes'' | ''monday at 10:30'' | ''monthly'' and Django-Q''s letters | ''once'' | a timestamp | ''sunset at 52.5,13.4'' | ''after'', ''after any'' (at no time of its own)
  args: as in tq_async, checked now
  tz: an IANA name; NULL = the tenant''s
  start_at: not before; what counts begins there; in the years 1 to 9999
  until: not after; in the years 1 to 9999
  repeats: so many tasks, -1 = for ever (default), 0 = none; a fire time that makes none uses none up
  catch_up: of the fire times missed while the server was down: ''once'' (default) | ''all'' | ''none''
  catch_up_limit: of ''all'' at most so many; default 1000
  deadline: an older fire time isn''t served; at least 1 second
  overlap: while the task before has not finished: ''queue'' (default: one runs, one waits, be it for its retry) | ''allow'' | ''skip'' | ''renew'' (as queue, but the next fire time takes the place of a retry, and the task fails for good)
  jitter: random delay up to that
  month_end: where a month lacks the day: ''clamp'' (default) | ''skip'' | ''sticky''
  day_and: true = cron''s two day fields must both match
  time_arg: the parameter that gets the intended time, as its type has it in the schedule''s zone
  only_if: a SQL expression that is asked when the task is about to run, as the role that runs it and with the tenant first on search_path; where it isn''t true the task ends without having run. Only the schema''s owner may set it
  active_hours: ''09:00-17:00'' | ''mon-fri 22:00-02:00, ...''; fire times outside are left out, ''once'' waits for them
  after: names of schedules of this tenant; it fires, beside its rule, when each of them has had a run since its own last one that ended as after_outcome says; with rule ''after any'' one of them is enough
  after_outcome: ''success'' (default) | ''failure'' | ''any''
  task: further parameters of tq_async as an object
  enabled: false = it is there and doesn''t fire
  tags: of your own, shown in tq_schedules
  description: in words
  on_conflict: where the name exists: ''error'' (default) | ''replace'' (what was served isn''t served again, counts go on) | ''nothing''
  tenant: NULL = the first schema of search_path
Errors:
  22023: a value that makes no sense, with the parameter and the place in it; it would never fire
  22004: name, handler or rule is missing
  42601: only_if is no expression
  42710: the name exists
  42704: handler not registered, or no such schedule in after
  54000: name or args too large
  42501: no right to schedule
  as tq_async: for args that don''t fit
Example: SELECT tq_schedule(''nightly'', ''close_day'', ''0 2 * * *'', tz => ''Europe/Berlin'', time_arg => ''day'');';

CREATE FUNCTION @extschema@.tq_unschedule(name text, tenant text DEFAULT NULL) RETURNS boolean
LANGUAGE c AS 'MODULE_PATHNAME', 'tq_unschedule';
COMMENT ON FUNCTION @extschema@.tq_unschedule(text, text) IS
'Removes a schedule; tasks it has enqueued stay. False = there is none. A handler may remove its own: tq_unschedule((tq_current()).schedule).
Parameters:
  name: the schedule
  tenant: NULL = the first schema of search_path
Errors:
  22004: name is NULL
  2BP01: others come after it
  55000: it is one of all tenants
  42501: no right to schedule
  40001: others keep changing it
Example: SELECT tq_unschedule(''nightly'');';

CREATE FUNCTION @extschema@.tq_alter_schedule(name text, handler text DEFAULT NULL, rule text DEFAULT NULL, args jsonb DEFAULT NULL, tz text DEFAULT NULL, start_at timestamptz DEFAULT NULL, until timestamptz DEFAULT NULL, repeats integer DEFAULT NULL,
    catch_up text DEFAULT NULL, catch_up_limit integer DEFAULT NULL, deadline interval DEFAULT NULL, overlap text DEFAULT NULL, jitter interval DEFAULT NULL, month_end text DEFAULT NULL,
    day_and boolean DEFAULT NULL, time_arg text DEFAULT NULL, only_if text DEFAULT NULL, active_hours text DEFAULT NULL, after text[] DEFAULT NULL, after_outcome text DEFAULT NULL,
    task jsonb DEFAULT NULL, enabled boolean DEFAULT NULL, tags text[] DEFAULT NULL, description text DEFAULT NULL, next_run timestamptz DEFAULT NULL, reset text[] DEFAULT '{}', tenant text DEFAULT NULL) RETURNS void
LANGUAGE c AS 'MODULE_PATHNAME', 'tq_alter_schedule';
COMMENT ON FUNCTION @extschema@.tq_alter_schedule(text, text, text, jsonb, text, timestamptz, timestamptz, integer, text, integer, interval, text, interval, text, boolean, text, text, text, text[], text, jsonb, boolean, text[], text, timestamptz, text[], text) IS
'Changes a schedule; of each parameter NULL leaves it as it is.
Its counts, its last run and, where rule, day_and and start_at stay, the moment from which it counts are kept. The next fire time is computed anew, from now on, where what decides it was changed. Enabling again does not serve the fire times of the time it was disabled; a one-time schedule that couldn''t be served is, when it is mended. Nothing is checked where enabled => false is all that is given. Who changes a schedule answers for it from then on (created_by). only_if is the schema''s owner''s to change.
Parameters:
  name: the schedule
  repeats: so many from now on
  handler, rule, args, tz, start_at, until, catch_up, catch_up_limit, deadline, overlap, jitter, month_end, day_and, time_arg, only_if, active_hours, after, after_outcome, task, enabled, tags, description: as in tq_schedule
  next_run: fires then, for once; what is past is served at once, for that time, even if it was served before, and with catch_up => ''all'' each of the rule''s own fire times since, as many as catch_up_limit in all. What the rule fires at stays; a NOTICE says how many of its own fire times are passed over, and the call that takes that back
  reset: names of parameters that go back to what is inherited
  tenant: NULL = the first schema of search_path
Errors:
  as tq_schedule: for values
  42704: there is no such schedule
  22023: it would never fire, handler or rule is empty, next_run is outside of start_at, until, active_hours, the deadline or the years 1 to 9999
  55000: it is one of all tenants
  40001: others keep changing it
Example: SELECT tq_alter_schedule(''nightly'', rule => ''0 3 * * *'', reset => ''{deadline}'');';

CREATE FUNCTION @extschema@.tq_fire(name text, tenant text DEFAULT NULL) RETURNS uuid
LANGUAGE c AS 'MODULE_PATHNAME', 'tq_fire';
COMMENT ON FUNCTION @extschema@.tq_fire(text, text) IS
'Makes one task of a schedule now, also of a disabled one, and returns its id. The plan stays: next_run and repeats are not touched; active_hours and only_if are not asked.
Where another task holds the unique_key of its task it returns that one''s id, and nothing has run. Without overlap => ''allow'' it runs when the one that runs has ended.
Parameters:
  name: the schedule
  tenant: NULL = the first schema of search_path
Errors:
  22004: name is NULL
  42704: there is no such schedule or handler
  22023: its row makes no sense
  42501: no right to schedule
  as tq_async: for args that don''t fit
Example: SELECT tq_fire(''nightly'');';

CREATE FUNCTION tenant_q.upcoming(until timestamptz, tenant text) RETURNS jsonb
LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'tenant_q_upcoming';
COMMENT ON FUNCTION tenant_q.upcoming(timestamptz, text) IS 'behind tq_upcoming';
CREATE FUNCTION @extschema@.tq_upcoming(until timestamptz, tenant text DEFAULT NULL) RETURNS TABLE (schedule text, fire_time timestamptz)
LANGUAGE sql STABLE AS $body$
    SELECT x.schedule, x.fire_time FROM pg_catalog.jsonb_to_recordset(tenant_q.upcoming($1, $2)) AS x(schedule pg_catalog.text, fire_time pg_catalog.timestamptz)
$body$;
COMMENT ON FUNCTION @extschema@.tq_upcoming(timestamptz, text) IS
'What the tenant''s schedules will fire, in order, what is due already included. What fires after other schedules is not foreseen.
Parameters:
  until: how far to look
  tenant: NULL = the first schema of search_path
Columns:
  schedule: its name
  fire_time: when it fires
Errors:
  22004: until is NULL
  54000: more than 100,000 fire times come until then
  42501: no right to read
Example: SELECT * FROM tq_upcoming(now() + interval ''1 hour'');';

CREATE FUNCTION @extschema@.tq_export(everything boolean DEFAULT false, tenant text DEFAULT NULL) RETURNS jsonb
LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'tq_export_all';
COMMENT ON FUNCTION @extschema@.tq_export(boolean, text) IS
'All schedules of the tenant as an array of documents whose keys are tq_schedule''s parameters; what is inherited is left out. Counts and times of the past are not in it; repeats is what was granted, not what is left.
With everything an object with all that is said of the tenant and is not in its schema, and so in no dump of it: each key is a function (tq_set_tenant, tq_set_quota, tq_register, tq_set_queue, tq_set_limit, tq_on, tq_listen_table, tq_pause, tq_schedule) and has a list of calls of it, objects whose keys are its parameters; of tq_pause, until is when it ends. ready is in it only where it is false. Shared handlers, schedules of all tenants and rights (GRANTs, which a dump of the schema has) are not.
Parameters:
  everything: true = all that is said of it, not its schedules only
  tenant: NULL = the first schema of search_path
Errors:
  42501: no right to read, or with everything not the schema''s owner
  54000: args can''t be carried
Example: SELECT tq_import(tq_export(tenant => ''acme''), tenant => ''globex'');';

CREATE FUNCTION @extschema@.tq_import(doc jsonb, on_conflict text DEFAULT 'error', tenant text DEFAULT NULL) RETURNS integer
LANGUAGE c AS 'MODULE_PATHNAME', 'tq_import';
COMMENT ON FUNCTION @extschema@.tq_import(jsonb, text, text) IS
'Makes schedules, all or none, whatever their order, and returns how many. Of an object as tq_export(everything => true) has it the calls are made as if you had made them, all or none; how many is returned. It makes no tenant ready.
Parameters:
  doc: an array of documents as tq_export has them, or an object of calls by function
  on_conflict: where a handler, queue, limit or schedule of the name exists: ''error'' (default) | ''skip'' | ''replace'', as in tq_schedule
  tenant: NULL = the first schema of search_path
Errors:
  as tq_schedule: with the place of the document; as the functions that doc names
  22004: doc is NULL
  22023: an unknown key, with the nearest one, or a name twice
Example: SELECT tq_import(''[{"name": "weekly", "handler": "close_day", "rule": "0 2 * * mon"}]'');';

CREATE FUNCTION tenant_q.next_runs(rule text, tz text, after timestamptz, n integer, start_at timestamptz, month_end text, day_and boolean) RETURNS timestamptz[]
LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'tenant_q_next_runs';
COMMENT ON FUNCTION tenant_q.next_runs(text, text, timestamptz, integer, timestamptz, text, boolean) IS 'behind tq_next_runs';
CREATE FUNCTION @extschema@.tq_next_runs(rule text, tz text DEFAULT NULL, after timestamptz DEFAULT pg_catalog.now(), n integer DEFAULT 5, start_at timestamptz DEFAULT NULL,
    month_end text DEFAULT NULL, day_and boolean DEFAULT false) RETURNS SETOF timestamptz
LANGUAGE sql STABLE AS $body$ SELECT pg_catalog.unnest(tenant_q.next_runs($1, $2, $3, $4, $5, $6, $7)) $body$;
COMMENT ON FUNCTION @extschema@.tq_next_runs(text, text, timestamptz, integer, timestamptz, text, boolean) IS
'The next fire times of a rule.
Parameters:
  rule: as in tq_schedule
  tz: NULL = the current tenant''s, else the setting, else TimeZone
  after: later than this
  n: so many, up to 10,000
  start_at: not before; rules that count begin there, else at after
  month_end: as in tq_schedule
  day_and: as in tq_schedule
Errors:
  22004: rule is NULL
  22023: the rule makes no sense, with the place in it; after or start_at outside of the years 1 to 9999
Example: SELECT * FROM tq_next_runs(''30 2 * * *'', ''Europe/Berlin'', ''2023-03-25 12:00+01'', 3);';

CREATE FUNCTION @extschema@.tq_describe(rule text) RETURNS text
LANGUAGE c IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tq_describe';
COMMENT ON FUNCTION @extschema@.tq_describe(text) IS
'A rule in words.
Parameters:
  rule: as in tq_schedule
Errors:
  22004: rule is NULL
  22023: the rule makes no sense, with the place in it
Example: SELECT tq_describe(''0 2 * * mon'');';

CREATE FUNCTION tenant_q.tzdata_version() RETURNS text
LANGUAGE c IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tenant_q_tzdata_version';
COMMENT ON FUNCTION tenant_q.tzdata_version() IS 'the version of the time zone data that schedules are computed with';
