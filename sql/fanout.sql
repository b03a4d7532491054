-- Work for all tenants: tasks, and schedules that every tenant has.

-- kind: a tasks for all tenants , f one fire time of a schedule of all tenants , d a change of such a
-- schedule on its way to the tenants. spread_again: not looked at before that; NULL = spread.
-- served_to: the last tenant that its spreading has reached. src/fanout/lines.rs names the columns by position.
CREATE TABLE tenant_q.fanout (
    id           uuid        NOT NULL PRIMARY KEY,
    kind         "char"      NOT NULL,
    name         text        NOT NULL,
    fire_time    timestamptz NOT NULL,
    handler      text,
    args         jsonb,
    task         jsonb,
    tenants      text[],
    stagger      interval,
    created_by   text        NOT NULL,
    by_superuser boolean     NOT NULL,
    created_at   timestamptz NOT NULL,
    served_to    text,
    spread_again timestamptz
) WITH (fillfactor = 50);
CREATE INDEX fanout_open ON tenant_q.fanout (spread_again, id) WHERE spread_again IS NOT NULL;
CREATE INDEX fanout_name ON tenant_q.fanout (name, fire_time);

-- What became of it in each tenant: one row each, so that tenants don't wait for each other. The nil
-- fan-out is of tenants to be visited with the schedules that all tenants have, not before finished_at.
-- state: o expected , q enqueued , d done , f failed , c cancelled , e expired , x quarantined , s left out
-- cause, of what is left out: o the tenant has a schedule of its own of this name
CREATE TABLE tenant_q.fanout_tenant (
    fanout      uuid        NOT NULL,
    tenant      text        NOT NULL,
    state       "char"      NOT NULL,
    task        uuid,
    reason      text,
    finished_at timestamptz,
    cause       "char",
    PRIMARY KEY (fanout, tenant)
) WITH (fillfactor = 70);
CREATE INDEX fanout_tenant_tenant ON tenant_q.fanout_tenant (tenant);

-- Schedules of all tenants: rows as in a tenant's tq_schedule, from which those are made.
CREATE TABLE tenant_q.schedule_all (LIKE tenant_q.tq_schedule INCLUDING INDEXES);

REVOKE ALL ON tenant_q.fanout, tenant_q.fanout_tenant, tenant_q.schedule_all FROM PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('tenant_q.fanout', '');
SELECT pg_catalog.pg_extension_config_dump('tenant_q.fanout_tenant', '');
SELECT pg_catalog.pg_extension_config_dump('tenant_q.schedule_all', '');

CREATE FUNCTION @extschema@.tq_async_all(handler text, args jsonb DEFAULT NULL, tenants text[] DEFAULT NULL, stagger interval DEFAULT NULL, task jsonb DEFAULT NULL) RETURNS uuid
LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tq_async_all';
COMMENT ON FUNCTION @extschema@.tq_async_all(text, jsonb, text[], interval, jsonb) IS
'Enqueues one call of a handler in every tenant, exactly once each; returns the fan-out''s id at once. After the commit it is spread, at most 50 tenants a transaction; tq_fanouts shows how far it is. EXECUTE is granted to nobody by default.
Left out, and shown as such in tq_fanout_tenants: tenants that are not ready, paused, suspended, with tq_set_quota(fan_out => false) or in tenant_q.exclude_schemas; and those where the handler is not registered, the arguments do not fit, or another task has the unique_key.
Parameters:
  handler: what each tenant calls so
  args: as in tq_async
  tenants: NULL = all, otherwise exactly these
  stagger: tenants start at different times within that interval, each always at the same place in it
  task: further parameters of tq_async as an object
Errors:
  42704: no tenant has the handler, or a name in tenants is no tenant
  22023: a value that makes no sense
  54000: args too large
Example: SELECT tq_async_all(''reindex_search'', stagger => ''10 minutes'', task => ''{"priority": -10}'');';

CREATE FUNCTION @extschema@.tq_schedule_all(name text, handler text, rule text, args jsonb DEFAULT NULL, tz text DEFAULT NULL, start_at timestamptz DEFAULT NULL, until timestamptz DEFAULT NULL, repeats integer DEFAULT NULL,
    catch_up text DEFAULT NULL, catch_up_limit integer DEFAULT NULL, deadline interval DEFAULT NULL, overlap text DEFAULT NULL, jitter interval DEFAULT NULL, month_end text DEFAULT NULL,
    day_and boolean DEFAULT NULL, time_arg text DEFAULT NULL, only_if text DEFAULT NULL, active_hours text DEFAULT NULL, after text[] DEFAULT NULL, after_outcome text DEFAULT NULL,
    task jsonb DEFAULT NULL, enabled boolean DEFAULT true, tags text[] DEFAULT NULL, description text DEFAULT NULL, on_conflict text DEFAULT 'error',
    tenants text[] DEFAULT NULL, stagger interval DEFAULT NULL) RETURNS uuid
LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tq_schedule_all';
COMMENT ON FUNCTION @extschema@.tq_schedule_all(text, text, text, jsonb, text, timestamptz, timestamptz, integer, text, integer, interval, text, interval, text, boolean, text, text, text, text[], text, jsonb, boolean, text[], text, text, text[], interval) IS
'Makes a schedule that every tenant has: one definition, and in each tenant an ordinary schedule of this name with a state of its own. It reaches the tenants after the commit; those attached later get it then. Returns the definition''s id. EXECUTE is granted to nobody by default.
A tenant that is not ready, paused, suspended, with tq_set_quota(fan_out => false) or in tenant_q.exclude_schemas at a fire time is left out, and shown as skipped in tq_fanouts; what catch_up says decides whether it is made up for. A tenant''s own schedule of this name stays, and is shown in tq_problems.
Parameters:
  name: at most one definition of it
  handler: what each tenant calls so; it needn''t be registered yet
  tz: an IANA name; NULL = each tenant''s own
  only_if: as in tq_schedule; superusers only
  after: in each tenant, its schedules of those names; a tenant that lacks one waits for it, and is shown in tq_problems; what fires after others has no line in tq_fanouts
  rule, args, start_at, until, repeats, catch_up, catch_up_limit, deadline, overlap, jitter, month_end, day_and, time_arg, active_hours, after_outcome, task, enabled, tags, description: as in tq_schedule
  on_conflict: ''error'' (default) | ''nothing'' | ''replace'', which changes it in place: in no tenant anything is served again
  tenants: NULL = all, otherwise exactly these
  stagger: tasks start at different times within that interval after the fire time, each tenant always at the same place in it
Errors:
  as tq_schedule: but for what only a tenant knows, such as names in after
  42704: a name in tenants is no tenant
  42501: only_if from who is no superuser
Example: SELECT tq_schedule_all(''close_day'', ''close_day'', ''0 2 * * *'', time_arg => ''day'', stagger => ''30 minutes'');';

CREATE FUNCTION @extschema@.tq_unschedule_all(name text) RETURNS boolean
LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tq_unschedule_all';
COMMENT ON FUNCTION @extschema@.tq_unschedule_all(text) IS
'Removes a schedule of all tenants from them, after the commit; tasks that it has enqueued stay. False = there is none. EXECUTE is granted to nobody by default.
Parameters:
  name: the schedule
Errors:
  22004: name is NULL
  2BP01: another one of all tenants comes after it
  40001: others keep changing it
Example: SELECT tq_unschedule_all(''close_day'');';

CREATE FUNCTION tenant_q.visible_tenants() RETURNS TABLE (tenant text)
LANGUAGE c STABLE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tenant_q_visible_tenants';
COMMENT ON FUNCTION tenant_q.visible_tenants() IS 'tenants that the caller may see; NULL: all, those that are gone included';
CREATE FUNCTION tenant_q.fanout_tenants(name text, fire_time timestamptz, id uuid) RETURNS jsonb
LANGUAGE c STABLE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tenant_q_fanout_tenants';
COMMENT ON FUNCTION tenant_q.fanout_tenants(text, timestamptz, uuid) IS 'behind tq_fanout_tenants';

CREATE VIEW @extschema@.tq_fanouts WITH (security_barrier) AS
    WITH visible AS MATERIALIZED (SELECT v.tenant FROM tenant_q.visible_tenants() AS v),
    line AS (
        SELECT f.id, f.name, f.handler, f.fire_time, f.created_by, f.spread_again IS NULL AS spread,
               -- Of those that its spreading has reached; nobody waits for what is no tenant any more.
               o.tenants, o.done, o.failed, o.outstanding, o.skipped, o.finished_at, r.ahead
          FROM tenant_q.fanout AS f,
               LATERAL (SELECT pg_catalog.count(*) AS tenants,
                               pg_catalog.count(*) FILTER (WHERE t.state OPERATOR(pg_catalog.=) 'd') AS done,
                               pg_catalog.count(*) FILTER (WHERE t.state OPERATOR(pg_catalog.=) ANY ('{f,c,e,x}'::pg_catalog."char"[])) AS failed,
                               pg_catalog.count(*) FILTER (WHERE t.state OPERATOR(pg_catalog.=) ANY ('{o,q}'::pg_catalog."char"[]) AND t.there) AS outstanding,
                               pg_catalog.count(*) FILTER (WHERE t.state OPERATOR(pg_catalog.=) 's' OR t.state OPERATOR(pg_catalog.=) ANY ('{o,q}'::pg_catalog."char"[]) AND NOT t.there) AS skipped,
                               pg_catalog.max(t.finished_at) AS finished_at
                          FROM (SELECT a.state, a.finished_at, EXISTS (SELECT FROM tenant_q.tenant AS n WHERE n.name OPERATOR(pg_catalog.=) a.tenant) AS there
                                  FROM tenant_q.fanout_tenant AS a
                                 WHERE a.fanout OPERATOR(pg_catalog.=) f.id AND EXISTS (SELECT FROM visible AS v WHERE v.tenant IS NULL OR v.tenant OPERATOR(pg_catalog.=) a.tenant)) AS t) AS o,
               -- Those that it has yet to reach.
               LATERAL (SELECT CASE WHEN f.spread_again IS NULL THEN 0 ELSE
                               (SELECT pg_catalog.count(*) FROM tenant_q.tenant AS t
                                 WHERE EXISTS (SELECT FROM visible AS v WHERE v.tenant IS NULL OR v.tenant OPERATOR(pg_catalog.=) t.name)
                                   AND (f.tenants IS NULL OR t.name OPERATOR(pg_catalog.=) ANY (f.tenants))
                                   AND NOT EXISTS (SELECT FROM tenant_q.fanout_tenant AS s WHERE s.fanout OPERATOR(pg_catalog.=) f.id AND s.tenant OPERATOR(pg_catalog.=) t.name)) END AS ahead) AS r
         WHERE f.kind OPERATOR(pg_catalog.<>) 'd')
    SELECT x.name, x.fire_time, x.handler, x.tenants OPERATOR(pg_catalog.+) x.ahead AS tenants, x.done, x.failed, x.outstanding OPERATOR(pg_catalog.+) x.ahead AS outstanding, x.skipped, x.spread,
           CASE WHEN x.spread AND x.outstanding OPERATOR(pg_catalog.=) 0 THEN x.finished_at END AS finished_at, x.created_by, x.id
      FROM line AS x
     WHERE x.tenants OPERATOR(pg_catalog.+) x.ahead OPERATOR(pg_catalog.>) 0 OR EXISTS (SELECT FROM visible AS v WHERE v.tenant IS NULL);
COMMENT ON VIEW @extschema@.tq_fanouts IS
'What was to be done in all tenants, in no order but what ORDER BY says: calls of tq_async_all, and each fire time of a schedule made by tq_schedule_all. Counts are of tenants you may see (pg_monitor sees all). The newest tenant_q.fanout_keep of each name are kept.
Example: SELECT name, fire_time, tenants, done, failed, outstanding, skipped FROM tq_fanouts WHERE name = ''close_day'' ORDER BY fire_time DESC;';
COMMENT ON COLUMN @extschema@.tq_fanouts.name IS 'of the schedule; of tq_async_all: the handler''s, or what task says';
COMMENT ON COLUMN @extschema@.tq_fanouts.fire_time IS 'the schedule''s; of tq_async_all: when it was called';
COMMENT ON COLUMN @extschema@.tq_fanouts.handler IS 'what the tasks call';
COMMENT ON COLUMN @extschema@.tq_fanouts.tenants IS 'that it is for';
COMMENT ON COLUMN @extschema@.tq_fanouts.done IS 'tenants where it ended well';
COMMENT ON COLUMN @extschema@.tq_fanouts.failed IS 'tenants where it failed for good, was cancelled, has expired or is quarantined';
COMMENT ON COLUMN @extschema@.tq_fanouts.outstanding IS 'tenants where it has not finished';
COMMENT ON COLUMN @extschema@.tq_fanouts.skipped IS 'left out, passed over, or no tenant any more: tq_fanout_tenants says why';
COMMENT ON COLUMN @extschema@.tq_fanouts.spread IS 'whether it has reached all';
COMMENT ON COLUMN @extschema@.tq_fanouts.finished_at IS 'when the last one ended; NULL = not yet';
COMMENT ON COLUMN @extschema@.tq_fanouts.created_by IS 'who called, or made the schedule';
COMMENT ON COLUMN @extschema@.tq_fanouts.id IS 'the fan-out';
GRANT SELECT ON @extschema@.tq_fanouts TO PUBLIC;

CREATE FUNCTION @extschema@.tq_fanout_tenants(name text DEFAULT NULL, fire_time timestamptz DEFAULT NULL, id uuid DEFAULT NULL)
RETURNS TABLE (tenant text, state text, reason text, task uuid, finished_at timestamptz)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $body$
    SELECT x.tenant, x.state, x.reason, x.task, x.finished_at
      FROM pg_catalog.jsonb_to_recordset(tenant_q.fanout_tenants($1, $2, $3)) AS x(tenant text, state text, reason text, task uuid, finished_at timestamptz)
$body$;
COMMENT ON FUNCTION @extschema@.tq_fanout_tenants(text, timestamptz, uuid) IS
'What became of a line of tq_fanouts in each tenant that you may see. Given are name, or name and fire_time, or id alone.
Parameters:
  name: of the line
  fire_time: of the line; NULL = the newest
  id: of the line
Columns:
  tenant: the schema
  state: expected (not enqueued yet) | enqueued (not finished yet) | done | failed | cancelled | expired | quarantined | skipped
  reason: why it was left out or passed over (a later fire time was served in its place, the schedule was changed or removed before, the tenant''s own does not fire any more), or has not ended well
  task: its id
  finished_at: when it ended
Errors:
  P0002: there is no such line
Example: SELECT * FROM tq_fanout_tenants(''close_day'') WHERE state <> ''done'';';

REVOKE ALL ON FUNCTION @extschema@.tq_async_all(text, jsonb, text[], interval, jsonb),
    @extschema@.tq_schedule_all(text, text, text, jsonb, text, timestamptz, timestamptz, integer, text, integer, interval, text, interval, text, boolean, text, text, text, text[], text, jsonb, boolean, text[], text, text, text[], interval),
    @extschema@.tq_unschedule_all(text) FROM PUBLIC;
