-- From 0.1.0 to 0.2.0. Brings the catalog to what the install script of 0.2.0 makes, object by object, comments and rights
-- included: tests/upgrade compares the two. New columns come last in a table, as there.
-- CREATE OR REPLACE names members of the extension only: in its script PostgreSQL refuses to replace anybody else's object
-- (from 14.5 on; 15 is the oldest there is a version for), so none of somebody's making is adopted.

-- Columns of views, and of what shows tasks, stand in the order in which people look. PostgreSQL can't move columns of a view that
-- is there: what is somebody's own and uses one of these has to go first, and names itself in the error. Made anew at the end.
DROP VIEW @extschema@.tq_tasks, @extschema@.tq_results, @extschema@.tq_schedules, @extschema@.tq_tenants, @extschema@.tq_running,
    @extschema@.tq_workers, @extschema@.tq_failures, @extschema@.tq_queues, @extschema@.tq_fanouts, @extschema@.tq_handlers, @extschema@.tq_events;
DROP FUNCTION @extschema@.tq_fetch(uuid, interval, text), @extschema@.tq_fetch_group(text, boolean, integer, interval, text),
    @extschema@.tq_drain(integer, timestamptz, text), @extschema@.tq_attempts(uuid, text);
DROP TYPE tenant_q.task;
-- A server that has not been restarted since the files were replaced still runs the old library, whose functions these aren't.
DO $library$
BEGIN
    CREATE FUNCTION tenant_q.require_library() RETURNS void
    LANGUAGE c STABLE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tenant_q_require_library';
EXCEPTION WHEN undefined_function THEN
    RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
        MESSAGE = 'this server still runs the library of an older version of tenant_q', HINT = 'Restart the server, then run the statement again.';
END $library$;
COMMENT ON FUNCTION tenant_q.require_library() IS 'first in each script of the extension: 55000 where the library that runs is older than the version that is to be made';
SELECT tenant_q.require_library();

-- Conditions of tq_listen_table: names in them are looked up where nobody lesser than the table's owner can put anything. Triggers
-- made before whose condition has such a name would run it as whoever changes the table: they are disabled, with a warning each.

-- Immutable, so that it is asked when a condition is prepared: before anything of it is folded or run.
CREATE FUNCTION tenant_q.condition_is_trusted(relation regclass, listener uuid) RETURNS boolean
LANGUAGE c IMMUTABLE STRICT AS 'MODULE_PATHNAME', 'tenant_q_condition_is_trusted';
COMMENT ON FUNCTION tenant_q.condition_is_trusted(regclass, uuid) IS 'in front of conditions of tq_listen_table that use more than pg_catalog: 42501 where a lesser role than the table''s owner owns what they use';

CREATE FUNCTION tenant_q.disable_untrusted_conditions() RETURNS integer
LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_q_disable_untrusted_conditions';
REVOKE ALL ON FUNCTION tenant_q.disable_untrusted_conditions() FROM PUBLIC;
COMMENT ON FUNCTION tenant_q.disable_untrusted_conditions() IS 'disables the triggers of tq_listen_table whose condition uses what a lesser role than the table''s owner owns; how many. For updates from 0.1.0, which looked names of a superuser''s condition up in the tenant''s schema';
SELECT tenant_q.disable_untrusted_conditions();

-- What comes of one tenant's schema, path or tasks is no longer noted with the handler of all tenants. Who was stopped for all
-- stays so until tq_resume_all.
CREATE TABLE tenant_q.handler_state (
    tenant        text        NOT NULL,
    name          text        NOT NULL,
    missing_since timestamptz,
    quarantined   timestamptz,
    crashes       jsonb,
    PRIMARY KEY (tenant, name)
);
CREATE INDEX handler_state_missing ON tenant_q.handler_state (tenant) WHERE missing_since IS NOT NULL;
REVOKE ALL ON tenant_q.handler_state FROM PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('tenant_q.handler_state', '');
UPDATE tenant_q.handler SET missing_since = NULL, crashes = NULL WHERE tenant OPERATOR(pg_catalog.=) '';

-- Roles that handlers were registered for are recognised under another name.
CREATE TABLE tenant_q.handler_role (
    tenant text NOT NULL,
    name   text NOT NULL,
    owner  oid,
    run_as oid,
    PRIMARY KEY (tenant, name)
);
REVOKE ALL ON tenant_q.handler_role FROM PUBLIC;
INSERT INTO tenant_q.handler_role (tenant, name, owner, run_as)
SELECT h.tenant, h.name, o.oid, r.oid FROM tenant_q.handler h
  LEFT JOIN pg_catalog.pg_roles o ON o.rolname::pg_catalog.text OPERATOR(pg_catalog.=) h.owner
  LEFT JOIN pg_catalog.pg_roles r ON r.rolname::pg_catalog.text OPERATOR(pg_catalog.=) h.run_as;

-- What a deploy has made it may take away.
ALTER TABLE tenant_q.handler ADD COLUMN declared boolean NOT NULL DEFAULT false;

-- Delays are those of the systems that they are named after.
DROP FUNCTION @extschema@.tq_backoff(text, interval, double precision, interval, double precision, interval[], text[], text[]);
DROP FUNCTION tenant_q.backoff_delay(jsonb, integer);
CREATE FUNCTION @extschema@.tq_backoff(kind text, base interval DEFAULT NULL, factor double precision DEFAULT NULL, cap interval DEFAULT NULL, jitter double precision DEFAULT NULL,
    delays interval[] DEFAULT NULL, retry_on text[] DEFAULT NULL, never_on text[] DEFAULT NULL, linear interval DEFAULT NULL) RETURNS jsonb
LANGUAGE c IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tq_backoff';

CREATE FUNCTION tenant_q.backoff_delay(policy jsonb, attempt integer, max_attempts integer DEFAULT 0) RETURNS jsonb
LANGUAGE c IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tenant_q_backoff_delay';
COMMENT ON FUNCTION tenant_q.backoff_delay(jsonb, integer, integer) IS 'seconds that a policy waits after the n-th attempt of so many (0: of any number), without its random part';

-- What is said of a tenant can be carried as a whole.
DROP FUNCTION @extschema@.tq_export(text);
CREATE FUNCTION @extschema@.tq_export(everything boolean DEFAULT false, tenant text DEFAULT NULL) RETURNS jsonb
LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'tq_export_all';

-- An attempt's end is judged by where its error came from.
DROP FUNCTION @extschema@.tq_retry(interval, text);
CREATE FUNCTION @extschema@.tq_retry(delay interval DEFAULT NULL, message text DEFAULT NULL, count boolean DEFAULT true, args jsonb DEFAULT NULL) RETURNS void
LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tq_retry';

-- Locks of one tenant are no longer other tenants' too. What their keys are hashed with, which everybody sees in pg_locks: in no
-- dump, for its owner's eyes only.
CREATE TABLE tenant_q.secret (
    id     smallint PRIMARY KEY CHECK (id OPERATOR(pg_catalog.=) 1),
    first  uuid     NOT NULL,
    second uuid     NOT NULL
);
REVOKE ALL ON tenant_q.secret FROM PUBLIC;
INSERT INTO tenant_q.secret VALUES (1, pg_catalog.gen_random_uuid(), pg_catalog.gen_random_uuid());

-- Where a tenant's code runs: arguments of somebody's types and listeners to enqueue are asked in a session of their role.

-- Schemas that Citus has distributed are no tenants.

-- Calls that change the registry wait five seconds for others, and say for whom. A lower max_running makes room at once; quotas
-- outlive a schema that is dropped and made again.

-- What every process reads whole of a tenant is bounded.

-- Why a tenant is left out was to be read from the words of the reason.
ALTER TABLE tenant_q.fanout_tenant ADD COLUMN cause "char";
UPDATE tenant_q.fanout_tenant SET cause = 'o' WHERE state OPERATOR(pg_catalog.=) 's' AND reason OPERATOR(pg_catalog.=) 'the tenant has a schedule of its own of this name';

-- Attempts in one's own session are counted.

-- Results are found by when and how they ended. Tables made before go on without: their queries walk all rows. Whatever index of
-- the template has such a name is not taken for ours.
DROP INDEX IF EXISTS tenant_q.tq_result_finished;
CREATE INDEX tq_result_finished ON tenant_q.tq_result (finished_at);
DROP INDEX IF EXISTS tenant_q.tq_result_state;
CREATE INDEX tq_result_state ON tenant_q.tq_result (state, finished_at) WHERE state OPERATOR(pg_catalog.<>) 'd';
DROP INDEX IF EXISTS tenant_q.tq_result_schedule;
CREATE INDEX tq_result_schedule ON tenant_q.tq_result (schedule, finished_at) WHERE schedule IS NOT NULL;

-- Many tasks at once, by what they are.
CREATE FUNCTION tenant_q.requeue_all(handler text, name_like text, states text[], queue text, schedule text, group_id text, sqlstate text, since timestamptz, until timestamptz, max_tasks integer, everything boolean, dry_run boolean,
    set_run_at timestamptz, set_queue text, set_priority integer, set_expires interval, tenant text) RETURNS jsonb
LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_q_requeue_all';
COMMENT ON FUNCTION tenant_q.requeue_all(text, text, text[], text, text, text, text, timestamptz, timestamptz, integer, boolean, boolean, timestamptz, text, integer, interval, text) IS 'behind tq_requeue_all';
CREATE FUNCTION @extschema@.tq_requeue_all(handler text DEFAULT NULL, name_like text DEFAULT NULL, states text[] DEFAULT NULL, queue text DEFAULT NULL, schedule text DEFAULT NULL, group_id text DEFAULT NULL, sqlstate text DEFAULT NULL,
    since timestamptz DEFAULT NULL, until timestamptz DEFAULT NULL, max_tasks integer DEFAULT NULL, everything boolean DEFAULT false, dry_run boolean DEFAULT false, tenant text DEFAULT NULL)
RETURNS TABLE (tasks bigint, more boolean, sample uuid[])
LANGUAGE sql AS $body$
    SELECT x.tasks, x.more, x.sample
      FROM pg_catalog.jsonb_to_recordset(tenant_q.requeue_all($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, NULL, NULL, NULL, NULL, $13)) AS x(tasks bigint, more boolean, sample pg_catalog.uuid[])
$body$;

CREATE FUNCTION tenant_q.cancel_all(handler text, name_like text, states text[], queue text, schedule text, group_id text, sqlstate text, since timestamptz, until timestamptz, max_tasks integer, everything boolean, dry_run boolean,
    set_run_at timestamptz, set_queue text, set_priority integer, set_expires interval, tenant text) RETURNS jsonb
LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_q_cancel_all';
COMMENT ON FUNCTION tenant_q.cancel_all(text, text, text[], text, text, text, text, timestamptz, timestamptz, integer, boolean, boolean, timestamptz, text, integer, interval, text) IS 'behind tq_cancel_all';
CREATE FUNCTION @extschema@.tq_cancel_all(handler text DEFAULT NULL, name_like text DEFAULT NULL, states text[] DEFAULT NULL, queue text DEFAULT NULL, schedule text DEFAULT NULL, group_id text DEFAULT NULL, sqlstate text DEFAULT NULL,
    since timestamptz DEFAULT NULL, until timestamptz DEFAULT NULL, max_tasks integer DEFAULT NULL, everything boolean DEFAULT false, dry_run boolean DEFAULT false, tenant text DEFAULT NULL)
RETURNS TABLE (tasks bigint, more boolean, sample uuid[])
LANGUAGE sql AS $body$
    SELECT x.tasks, x.more, x.sample
      FROM pg_catalog.jsonb_to_recordset(tenant_q.cancel_all($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, NULL, NULL, NULL, NULL, $13)) AS x(tasks bigint, more boolean, sample pg_catalog.uuid[])
$body$;

CREATE FUNCTION tenant_q.delete_all(handler text, name_like text, states text[], queue text, schedule text, group_id text, sqlstate text, since timestamptz, until timestamptz, max_tasks integer, everything boolean, dry_run boolean,
    set_run_at timestamptz, set_queue text, set_priority integer, set_expires interval, tenant text) RETURNS jsonb
LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_q_delete_all';
COMMENT ON FUNCTION tenant_q.delete_all(text, text, text[], text, text, text, text, timestamptz, timestamptz, integer, boolean, boolean, timestamptz, text, integer, interval, text) IS 'behind tq_delete_all';
CREATE FUNCTION @extschema@.tq_delete_all(handler text DEFAULT NULL, name_like text DEFAULT NULL, states text[] DEFAULT NULL, queue text DEFAULT NULL, schedule text DEFAULT NULL, group_id text DEFAULT NULL, sqlstate text DEFAULT NULL,
    since timestamptz DEFAULT NULL, until timestamptz DEFAULT NULL, max_tasks integer DEFAULT NULL, everything boolean DEFAULT false, dry_run boolean DEFAULT false, tenant text DEFAULT NULL)
RETURNS TABLE (tasks bigint, more boolean, sample uuid[])
LANGUAGE sql AS $body$
    SELECT x.tasks, x.more, x.sample
      FROM pg_catalog.jsonb_to_recordset(tenant_q.delete_all($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, NULL, NULL, NULL, NULL, $13)) AS x(tasks bigint, more boolean, sample pg_catalog.uuid[])
$body$;

CREATE FUNCTION tenant_q.update_all(handler text, name_like text, states text[], queue text, schedule text, group_id text, sqlstate text, since timestamptz, until timestamptz, max_tasks integer, everything boolean, dry_run boolean,
    set_run_at timestamptz, set_queue text, set_priority integer, set_expires interval, tenant text) RETURNS jsonb
LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_q_update_all';
COMMENT ON FUNCTION tenant_q.update_all(text, text, text[], text, text, text, text, timestamptz, timestamptz, integer, boolean, boolean, timestamptz, text, integer, interval, text) IS 'behind tq_update_all';
CREATE FUNCTION @extschema@.tq_update_all(handler text DEFAULT NULL, name_like text DEFAULT NULL, states text[] DEFAULT NULL, queue text DEFAULT NULL, schedule text DEFAULT NULL, group_id text DEFAULT NULL, sqlstate text DEFAULT NULL,
    since timestamptz DEFAULT NULL, until timestamptz DEFAULT NULL, max_tasks integer DEFAULT NULL, everything boolean DEFAULT false, dry_run boolean DEFAULT false, set_run_at timestamptz DEFAULT NULL, set_queue text DEFAULT NULL, set_priority integer DEFAULT NULL, set_expires interval DEFAULT NULL, tenant text DEFAULT NULL)
RETURNS TABLE (tasks bigint, more boolean, sample uuid[])
LANGUAGE sql AS $body$
    SELECT x.tasks, x.more, x.sample
      FROM pg_catalog.jsonb_to_recordset(tenant_q.update_all($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)) AS x(tasks bigint, more boolean, sample pg_catalog.uuid[])
$body$;
-- What the views below show of a tenant comes row by row, from the library: src/postgres/foreign. Nobody needs rights on wrapper and
-- server, and nobody gets any.
CREATE FUNCTION tenant_q.foreign_tables() RETURNS fdw_handler
LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_q_foreign_tables';
REVOKE ALL ON FUNCTION tenant_q.foreign_tables() FROM PUBLIC;
COMMENT ON FUNCTION tenant_q.foreign_tables() IS 'how PostgreSQL asks for the rows of the foreign tables of tenant_q';
CREATE FOREIGN DATA WRAPPER tenant_q HANDLER tenant_q.foreign_tables;
COMMENT ON FOREIGN DATA WRAPPER tenant_q IS 'serves the foreign tables of extension tenant_q, and no others';
CREATE SERVER tenant_q FOREIGN DATA WRAPPER tenant_q;
COMMENT ON SERVER tenant_q IS 'the tables of the tenant that search_path begins with';
CREATE FOREIGN TABLE tenant_q.unfinished_task (id uuid, tenant text, handler text, name text, state text, reason text, args jsonb, result jsonb, error jsonb, attempt integer, max_attempts integer,
    queue text, priority integer, group_id text, parent_id uuid, schedule text, scheduled_for timestamptz, created_at timestamptz, run_at timestamptz,
    started_at timestamptz, finished_at timestamptz, enqueued_by text, meta jsonb) SERVER tenant_q;
COMMENT ON FOREIGN TABLE tenant_q.unfinished_task IS 'behind the view tq_tasks';
CREATE FOREIGN TABLE tenant_q.finished_task (id uuid, tenant text, handler text, name text, state text, reason text, args jsonb, result jsonb, error jsonb, attempt integer, max_attempts integer,
    queue text, priority integer, group_id text, parent_id uuid, schedule text, scheduled_for timestamptz, created_at timestamptz, run_at timestamptz,
    started_at timestamptz, finished_at timestamptz, enqueued_by text, meta jsonb) SERVER tenant_q;
COMMENT ON FOREIGN TABLE tenant_q.finished_task IS 'behind the view tq_results';
CREATE FOREIGN TABLE tenant_q.shown_schedule (name text, handler text, rule text, kind text, tz text, args jsonb, enabled boolean, next_run timestamptz, repeats integer, last_run timestamptz, last_task uuid,
    last_status text, run_count bigint, fail_count bigint, after text[], problem text, tags text[], description text, created_by text, of_all boolean) SERVER tenant_q;
COMMENT ON FOREIGN TABLE tenant_q.shown_schedule IS 'behind the view tq_schedules';
DROP FUNCTION tenant_q.tasks(boolean, text);
DROP FUNCTION tenant_q.schedules(text);
-- Flows of flows.
-- Declarations wait for each other, and write nothing where nothing changes. What mends a problem can be run as it stands.

-- What the library knows comes as rows of columns.
CREATE FUNCTION tenant_q.tenant_rows() RETURNS TABLE (tenant text, owner text, status text, reason text, queued bigint, running integer, done bigint, failed bigint, retried bigint, lag interval, next_due timestamptz, done_1m bigint, failed_1m bigint, eta interval, weight integer, max_running integer, max_queued integer)
LANGUAGE c STABLE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tenant_q_tenant_rows';
COMMENT ON FUNCTION tenant_q.tenant_rows() IS 'behind tq_tenants';
CREATE FUNCTION tenant_q.running_rows() RETURNS TABLE (tenant text, id uuid, handler text, attempt integer, pid integer, role text, since timestamptz, deadline timestamptz, progress double precision, note jsonb, wait_event text, blocked_by integer[], xmin_age integer, listed integer, worker text, state text)
LANGUAGE c STABLE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tenant_q_running_rows';
COMMENT ON FUNCTION tenant_q.running_rows() IS 'behind tq_running';
CREATE FUNCTION tenant_q.worker_rows() RETURNS TABLE (kind text, pid integer, database text, role text, state text, since timestamptz, tasks_done bigint, tasks_failed bigint, listed integer, wakes jsonb, vain jsonb, name text, host text, handlers text, claims integer)
LANGUAGE c STABLE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tenant_q_worker_rows';
COMMENT ON FUNCTION tenant_q.worker_rows() IS 'behind tq_workers';
CREATE FUNCTION tenant_q.failure_rows() RETURNS TABLE (at timestamptz, tenant text, handler text, id uuid, attempt integer, sqlstate text, message text, schedule text, role text)
LANGUAGE c STABLE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tenant_q_failure_rows';
COMMENT ON FUNCTION tenant_q.failure_rows() IS 'behind tq_failures';
CREATE FUNCTION tenant_q.stat_rows() RETURNS TABLE (tenant text, handler text, done bigint, failed bigint, retried bigint, timeouts bigint, total_run_time interval, mean_run_time interval, max_run_time interval, total_wait_time interval, mean_wait_time interval, max_wait_time interval, since timestamptz)
LANGUAGE c STABLE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tenant_q_stat_rows';
COMMENT ON FUNCTION tenant_q.stat_rows() IS 'behind tq_stats';
CREATE OR REPLACE VIEW @extschema@.tq_stats AS
    SELECT x.tenant, x.handler, x.done, x.failed, x.retried, x.timeouts, x.total_run_time, x.mean_run_time, x.max_run_time, x.total_wait_time, x.mean_wait_time, x.max_wait_time, x.since
      FROM tenant_q.stat_rows() AS x;
CREATE FUNCTION tenant_q.queue_rows() RETURNS TABLE (queue text, queued bigint, running bigint, delayed bigint, retrying bigint, waiting bigint, lag interval, paused boolean, max_running integer, rate text, priority integer, pick text)
LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'tenant_q_queue_rows';
COMMENT ON FUNCTION tenant_q.queue_rows() IS 'behind tq_queues';
CREATE FUNCTION tenant_q.metric_rows() RETURNS TABLE (name text, labels jsonb, value double precision)
LANGUAGE c STABLE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tenant_q_metric_rows';
COMMENT ON FUNCTION tenant_q.metric_rows() IS 'behind tq_metrics';
CREATE OR REPLACE VIEW @extschema@.tq_metrics AS
    SELECT x.name, x.labels, x.value
      FROM tenant_q.metric_rows() AS x
    UNION ALL
    SELECT 'tenant_q_health', pg_catalog.jsonb_build_object('check', h.check_name), h.ok::integer::double precision
      FROM @extschema@.tq_health() AS h
     WHERE pg_catalog.pg_has_role('pg_monitor', 'USAGE');
CREATE FUNCTION tenant_q.visible_tenants() RETURNS TABLE (tenant text)
LANGUAGE c STABLE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tenant_q_visible_tenants';
COMMENT ON FUNCTION tenant_q.visible_tenants() IS 'tenants that the caller may see; NULL: all, those that are gone included';
DROP FUNCTION tenant_q.tenants();
DROP FUNCTION tenant_q.running();
DROP FUNCTION tenant_q.workers();
DROP FUNCTION tenant_q.failures();
DROP FUNCTION tenant_q.stats();
DROP FUNCTION tenant_q.queues(text);
DROP FUNCTION tenant_q.metrics();
DROP FUNCTION tenant_q.fanouts();

-- Members of a group come one by one, however large they are together.
DROP FUNCTION tenant_q.fetch_group(text, boolean, integer, interval, text);
CREATE FUNCTION tenant_q.group_members(group_id text, failures boolean, count integer, wait interval, tenant text) RETURNS uuid[]
LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_q_group_members';
COMMENT ON FUNCTION tenant_q.group_members(text, boolean, integer, interval, text) IS 'behind tq_fetch_group';

-- Where it can't commit it says what runs tasks there.
CREATE OR REPLACE PROCEDURE @extschema@.tq_run_pending(tenant text DEFAULT NULL, max_tasks integer DEFAULT NULL, wait interval DEFAULT '0')
LANGUAGE plpgsql AS $body$
DECLARE
    whose pg_catalog.text;
    step pg_catalog.text;
    done pg_catalog.int4 := 0;
BEGIN
    -- An error where it can't commit, before anything has run.
    whose := tenant_q.pending_begin(tenant);
    COMMIT;
    IF max_tasks OPERATOR(pg_catalog.<) 0 THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'max_tasks is negative';
    END IF;
    WHILE max_tasks IS NULL OR done OPERATOR(pg_catalog.<) max_tasks LOOP
        step := tenant_q.pending_step(whose, wait);
        COMMIT;
        IF step OPERATOR(pg_catalog.=) 'ran'::pg_catalog.text THEN
            done := done OPERATOR(pg_catalog.+) 1;
        ELSIF step OPERATOR(pg_catalog.=) 'idle'::pg_catalog.text THEN
            EXIT;
        END IF;
    END LOOP;
END
$body$;

-- What was dropped at the beginning, with its columns in their new order, and what they mean.
CREATE TYPE tenant_q.task AS (name text, handler text, state text, reason text, attempt integer, max_attempts integer, run_at timestamptz, started_at timestamptz, finished_at timestamptz,
    created_at timestamptz, queue text, priority integer, schedule text, scheduled_for timestamptz, group_id text, enqueued_by text, tenant text, id uuid,
    parent_id uuid, error jsonb, result jsonb, args jsonb, meta jsonb);
CREATE FUNCTION tenant_q.reason(reason text, state text, error jsonb) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $body$
    -- What failed before, of one that was begun anew since, is why of nothing.
    SELECT CASE WHEN $1 IS NOT NULL OR $2 OPERATOR(pg_catalog.=) ANY ('{queued,delayed,deferred,held,running}'::pg_catalog.text[]) THEN $1
                ELSE pg_catalog.left(pg_catalog.split_part($3 OPERATOR(pg_catalog.->>) 'message', E'\n', 1), 200) END
$body$;
COMMENT ON FUNCTION tenant_q.reason(text, text, jsonb) IS 'a task''s reason as views show it: why it waits, else what failed, in one line';
CREATE FUNCTION @extschema@.tq_fetch(id uuid, wait interval DEFAULT '0', tenant text DEFAULT NULL) RETURNS SETOF tenant_q.task
LANGUAGE sql AS $body$
    SELECT x.name, x.handler, x.state, tenant_q.reason(x.reason, x.state, x.error), x.attempt, x.max_attempts, x.run_at, x.started_at, x.finished_at, x.created_at,
           x.queue, x.priority, x.schedule, x.scheduled_for, x.group_id, x.enqueued_by, x.tenant, x.id, x.parent_id, x.error, x.result OPERATOR(pg_catalog.->) 0,
           x.args OPERATOR(pg_catalog.->) 0, x.meta
      FROM pg_catalog.jsonb_populate_recordset(NULL::tenant_q.task, tenant_q.fetch($1, $2, $3)) AS x
$body$;
CREATE FUNCTION @extschema@.tq_attempts(id uuid, tenant text DEFAULT NULL)
RETURNS TABLE (attempt integer, outcome text, started_at timestamptz, duration interval, pid integer, sqlstate text, message text, detail text, context text)
LANGUAGE sql STABLE AS $body$
    SELECT x.attempt, x.outcome, x.started_at, x.duration, x.pid, x.sqlstate, x.message, x.detail, x.context
      FROM pg_catalog.jsonb_to_recordset(tenant_q.attempts($1, $2))
        AS x(attempt integer, outcome pg_catalog.text, started_at pg_catalog.timestamptz, duration interval, sqlstate pg_catalog.text, message pg_catalog.text, detail pg_catalog.text, context pg_catalog.text, pid integer)
$body$;
CREATE FUNCTION @extschema@.tq_fetch_group(group_id text, failures boolean DEFAULT true, count integer DEFAULT NULL, wait interval DEFAULT '0', tenant text DEFAULT NULL) RETURNS SETOF tenant_q.task
LANGUAGE sql AS $body$
    SELECT x.name, x.handler, x.state, tenant_q.reason(x.reason, x.state, x.error), x.attempt, x.max_attempts, x.run_at, x.started_at, x.finished_at, x.created_at,
           x.queue, x.priority, x.schedule, x.scheduled_for, x.group_id, x.enqueued_by, x.tenant, x.id, x.parent_id, x.error, x.result OPERATOR(pg_catalog.->) 0,
           x.args OPERATOR(pg_catalog.->) 0, x.meta
      FROM pg_catalog.unnest(tenant_q.group_members($1, $2, $3, $4, $5)) AS member(id),
           LATERAL pg_catalog.jsonb_populate_recordset(NULL::tenant_q.task, tenant_q.fetch(member.id, NULL, $5)) AS x
$body$;
CREATE FUNCTION @extschema@.tq_drain(max_tasks integer DEFAULT 1000, as_of timestamptz DEFAULT pg_catalog.now(), tenant text DEFAULT NULL) RETURNS SETOF tenant_q.task
LANGUAGE sql AS $body$
    SELECT x.name, x.handler, x.state, tenant_q.reason(x.reason, x.state, x.error), x.attempt, x.max_attempts, x.run_at, x.started_at, x.finished_at, x.created_at,
           x.queue, x.priority, x.schedule, x.scheduled_for, x.group_id, x.enqueued_by, x.tenant, x.id, x.parent_id, x.error, x.result OPERATOR(pg_catalog.->) 0,
           x.args OPERATOR(pg_catalog.->) 0, x.meta
      FROM pg_catalog.jsonb_populate_recordset(NULL::tenant_q.task, tenant_q.drain($1, $2, $3)) AS x
$body$;
CREATE VIEW @extschema@.tq_tasks AS
    SELECT x.name, x.handler, x.state, tenant_q.reason(x.reason, x.state, x.error) AS reason, x.attempt, x.max_attempts, x.run_at, x.started_at, x.finished_at,
           x.created_at, x.queue, x.priority, x.schedule, x.scheduled_for, x.group_id, x.enqueued_by, x.tenant, x.id, x.parent_id, x.error, x.result, x.args, x.meta
      FROM tenant_q.unfinished_task AS x;
GRANT SELECT ON @extschema@.tq_tasks TO PUBLIC;
CREATE VIEW @extschema@.tq_results AS
    SELECT x.name, x.handler, x.state, tenant_q.reason(x.reason, x.state, x.error) AS reason, x.attempt, x.max_attempts, x.run_at, x.started_at, x.finished_at,
           x.created_at, x.queue, x.priority, x.schedule, x.scheduled_for, x.group_id, x.enqueued_by, x.tenant, x.id, x.parent_id, x.error, x.result, x.args, x.meta
      FROM tenant_q.finished_task AS x;
GRANT SELECT ON @extschema@.tq_results TO PUBLIC;
CREATE VIEW @extschema@.tq_schedules AS
    SELECT x.name, x.handler, x.rule, x.enabled, x.next_run, x.last_run, x.last_status, x.problem, x.tz, x.kind, x.run_count, x.fail_count, x.repeats, x.after,
           x.tags, x.description, x.of_all, x.created_by, x.last_task, x.args
      FROM tenant_q.shown_schedule AS x;
GRANT SELECT ON @extschema@.tq_schedules TO PUBLIC;
CREATE VIEW @extschema@.tq_tenants AS
    SELECT x.tenant, x.status, x.reason, x.queued, x.running, x.lag, x.eta, x.next_due, x.done, x.failed, x.retried, x.done_1m, x.failed_1m, x.weight,
           x.max_running, x.max_queued, x.owner
      FROM tenant_q.tenant_rows() AS x;
GRANT SELECT ON @extschema@.tq_tenants TO PUBLIC;
CREATE VIEW @extschema@.tq_running AS
    SELECT x.tenant, x.handler, x.attempt, x.state, x.since, x.progress, x.wait_event, x.blocked_by, x.deadline, x.worker, x.pid, x.role, x.xmin_age, x.listed, x.id, x.note
      FROM tenant_q.running_rows() AS x;
GRANT SELECT ON @extschema@.tq_running TO PUBLIC;
CREATE VIEW @extschema@.tq_workers AS
    SELECT x.kind, x.name, x.state, x.database, x.role, x.claims, x.handlers, x.host, x.pid, x.since, x.tasks_done, x.tasks_failed, x.listed, x.wakes, x.vain
      FROM tenant_q.worker_rows() AS x;
GRANT SELECT ON @extschema@.tq_workers TO PUBLIC;
CREATE VIEW @extschema@.tq_failures AS
    SELECT x.at, x.tenant, x.handler, x.sqlstate, x.message, x.attempt, x.schedule, x.role, x.id
      FROM tenant_q.failure_rows() AS x;
GRANT SELECT ON @extschema@.tq_failures TO PUBLIC;
CREATE VIEW @extschema@.tq_queues AS
    SELECT x.queue, x.paused, x.queued, x.running, x.lag, x.delayed, x.retrying, x.waiting, x.max_running, x.rate, x.priority, x.pick
      FROM tenant_q.queue_rows() AS x;
GRANT SELECT ON @extschema@.tq_queues TO PUBLIC;
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
GRANT SELECT ON @extschema@.tq_fanouts TO PUBLIC;
CREATE VIEW @extschema@.tq_handlers AS
    SELECT x.handler, x.function, x.status, x.reason, x.guarantee, x.run_as, x.queue, x.priority, x.timeout, x.max_attempts, x.max_running, x.rate, x.expires,
           x.result_ttl, x.save, x.shared, x.aliases, x.tenant, x.retry, x.settings
      FROM pg_catalog.jsonb_to_recordset(tenant_q.handlers()) AS x(tenant text, handler text, function text, shared boolean, status text, reason text, guarantee text, run_as text, queue text, priority integer, timeout interval, max_attempts integer, retry jsonb, save boolean, settings jsonb, expires interval, max_running integer, rate text, result_ttl interval, aliases text[]);
GRANT SELECT ON @extschema@.tq_handlers TO PUBLIC;
CREATE VIEW @extschema@.tq_events AS
    SELECT x.events, x.relation, x.for_handler, x.handler, x.status, x.how, x.each, x.created_by, x.only_if, x.task
      FROM pg_catalog.jsonb_to_recordset(tenant_q.events()) AS x(events text[], relation text, for_handler text, handler text, status text, how text, each text, only_if text, task jsonb, created_by text);
GRANT SELECT ON @extschema@.tq_events TO PUBLIC;
-- Tenants' tables that an older version has made.
CREATE FUNCTION tenant_q.bring_up(schema_name text) RETURNS integer
LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tenant_q_bring_up';
REVOKE ALL ON FUNCTION tenant_q.bring_up(text) FROM PUBLIC;
COMMENT ON FUNCTION tenant_q.bring_up(text) IS 'behind tq_upgrade: makes what the tables of one tenant lack; how many indexes';

CREATE PROCEDURE @extschema@.tq_upgrade(pattern text DEFAULT '%')
LANGUAGE plpgsql AS $body$
DECLARE
    whose pg_catalog.text;
    schemas pg_catalog.text[];
    made pg_catalog.int4 := 0;
    left_out pg_catalog.int4 := 0;
    why pg_catalog.text;
    way_out pg_catalog.text;
BEGIN
    SELECT pg_catalog.array_agg(n.nspname::pg_catalog.text ORDER BY n.nspname) INTO schemas
      FROM pg_catalog.pg_namespace n
     WHERE n.nspname OPERATOR(pg_catalog.~~) pattern AND tenant_q.is_attached(n.nspname::pg_catalog.text);
    FOREACH whose IN ARRAY coalesce(schemas, '{}'::pg_catalog.text[]) LOOP
        BEGIN
            made := made OPERATOR(pg_catalog.+) tenant_q.bring_up(whose);
        EXCEPTION WHEN OTHERS THEN
            GET STACKED DIAGNOSTICS why = MESSAGE_TEXT, way_out = PG_EXCEPTION_HINT;
            RAISE WARNING USING MESSAGE = pg_catalog.format('tenant "%s" is left as it is: %s', whose, why), HINT = way_out;
            left_out := left_out OPERATOR(pg_catalog.+) 1;
        END;
        COMMIT;
    END LOOP;
    RAISE NOTICE '% tenants, % indexes made, % tenants left as they are', pg_catalog.cardinality(coalesce(schemas, '{}'::pg_catalog.text[])), made, left_out;
END
$body$;
REVOKE ALL ON PROCEDURE @extschema@.tq_upgrade(text) FROM PUBLIC;

-- A restored dump adds the original's row: from then on this database is a copy.
CREATE FUNCTION tenant_q.identity_changed() RETURNS trigger
LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tenant_q_identity_changed';
COMMENT ON FUNCTION tenant_q.identity_changed() IS 'has the launcher look whether this database is a copy';
REVOKE ALL ON FUNCTION tenant_q.identity_changed() FROM PUBLIC;
CREATE TRIGGER identity_changed AFTER INSERT OR DELETE OR TRUNCATE OR UPDATE OF system_identifier, database_oid ON tenant_q.identity
    FOR EACH STATEMENT EXECUTE FUNCTION tenant_q.identity_changed();
-- Replication writes rows as well.
ALTER TABLE tenant_q.identity ENABLE ALWAYS TRIGGER identity_changed;

-- Triggers of tq_listen_table call functions of their table's own schema, so that a dump of it restores anywhere.
CREATE FUNCTION tenant_q.renew_table_listeners() RETURNS integer
LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_q_renew_table_listeners';
REVOKE ALL ON FUNCTION tenant_q.renew_table_listeners() FROM PUBLIC;
COMMENT ON FUNCTION tenant_q.renew_table_listeners() IS 'makes triggers of tq_listen_table anew that call the extension itself, so that a dump of their schema restores without it; of how many listeners. For updates from 0.1.0';
SELECT tenant_q.renew_table_listeners();
-- Rights that all tenants give.
-- Commit after each tenant: no SET clause, everything qualified.
CREATE PROCEDURE tenant_q.grant_or_revoke_all(role text, rights text[], give boolean)
LANGUAGE plpgsql AS $body$
DECLARE
    tenants pg_catalog.text[];
    tenant_name pg_catalog.text;
    failed integer := 0;
BEGIN
    PERFORM tenant_q.grant_all_step(role, rights, NULL, give);
    COMMIT;
    SELECT coalesce(pg_catalog.array_agg(t.tenant ORDER BY t.tenant), '{}') INTO tenants FROM tenant_q.all_tenants(give) AS t;
    FOREACH tenant_name IN ARRAY tenants LOOP
        BEGIN
            PERFORM tenant_q.grant_all_step(role, rights, tenant_name, give);
        EXCEPTION WHEN OTHERS THEN
            -- The others don't wait for it.
            RAISE WARNING 'tenant "%": %', tenant_name, SQLERRM;
            failed := failed OPERATOR(pg_catalog.+) 1;
        END;
        COMMIT;
    END LOOP;
    RAISE NOTICE '% of % tenants give role "%" these rights%', pg_catalog.cardinality(tenants) OPERATOR(pg_catalog.-) failed, pg_catalog.cardinality(tenants), role,
        CASE WHEN give THEN ', and those attached from now on' ELSE ' no more, nor do those attached from now on' END;
END
$body$;
CREATE PROCEDURE @extschema@.tq_grant_all(role text, rights text[])
LANGUAGE plpgsql AS $body$ BEGIN CALL tenant_q.grant_or_revoke_all(role, rights, true); END $body$;

CREATE PROCEDURE @extschema@.tq_revoke_all(role text, rights text[])
LANGUAGE plpgsql AS $body$ BEGIN CALL tenant_q.grant_or_revoke_all(role, rights, false); END $body$;

CREATE FUNCTION tenant_q.grant_all_step(role text, rights text[], tenant text, give boolean) RETURNS void
LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tenant_q_grant_all_step';
COMMENT ON FUNCTION tenant_q.grant_all_step(text, text[], text, boolean) IS 'one transaction of tq_grant_all or tq_revoke_all, for who may call that';
COMMENT ON PROCEDURE tenant_q.grant_or_revoke_all(text, text[], boolean) IS 'behind tq_grant_all and tq_revoke_all';
CREATE FUNCTION tenant_q.all_tenants(give boolean) RETURNS TABLE (tenant text)
LANGUAGE c STABLE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tenant_q_all_tenants';
COMMENT ON FUNCTION tenant_q.all_tenants(boolean) IS 'the names of all tenants, for who may call tq_grant_all, or tq_revoke_all';
REVOKE ALL ON PROCEDURE @extschema@.tq_grant_all(text, text[]), @extschema@.tq_revoke_all(text, text[]) FROM PUBLIC;

-- Schedules of all tenants.
CREATE FUNCTION tenant_q.all_schedule_rows() RETURNS TABLE (tenant text, name text, handler text, rule text, enabled boolean, next_run timestamptz, last_run timestamptz, last_status text, last_success timestamptz, last_failure timestamptz, run_count bigint, fail_count bigint, problem text, of_all boolean)
LANGUAGE c STABLE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tenant_q_all_schedule_rows';
COMMENT ON FUNCTION tenant_q.all_schedule_rows() IS 'behind tq_all_schedules';
CREATE VIEW @extschema@.tq_all_schedules AS
    SELECT x.tenant, x.name, x.handler, x.rule, x.enabled, x.next_run, x.last_run, x.last_status, x.last_success, x.last_failure, x.run_count, x.fail_count, x.problem, x.of_all
      FROM tenant_q.all_schedule_rows() AS x;
GRANT SELECT ON @extschema@.tq_all_schedules TO PUBLIC;

-- Work outside of the server: handlers whose code workers have, who take tasks and say how they ended.
DROP FUNCTION @extschema@.tq_register(text, text, text, integer, interval, integer, jsonb, interval, integer, text, text, jsonb, boolean, interval, text[], boolean, boolean, text);
CREATE FUNCTION @extschema@.tq_register(handler text, function text DEFAULT NULL, queue text DEFAULT NULL, priority integer DEFAULT NULL, timeout interval DEFAULT NULL,
    max_attempts integer DEFAULT NULL, retry jsonb DEFAULT NULL, expires interval DEFAULT NULL, max_running integer DEFAULT NULL, rate text DEFAULT NULL, run_as text DEFAULT NULL,
    settings jsonb DEFAULT NULL, save boolean DEFAULT NULL, result_ttl interval DEFAULT NULL, aliases text[] DEFAULT NULL, external boolean DEFAULT false, shared boolean DEFAULT false, tenant text DEFAULT NULL, params jsonb DEFAULT NULL) RETURNS boolean
LANGUAGE c AS 'MODULE_PATHNAME', 'tq_register';
CREATE FUNCTION tenant_q.register_external() RETURNS void
LANGUAGE sql AS '';
REVOKE ALL ON FUNCTION tenant_q.register_external() FROM PUBLIC;
COMMENT ON FUNCTION tenant_q.register_external() IS 'does nothing: who has EXECUTE on it may register external handlers for all tenants, which bring no code into the server. Granted to nobody by default: GRANT EXECUTE ON FUNCTION tenant_q.register_external() TO app;';
DROP FUNCTION @extschema@.tq_progress(double precision, jsonb);
CREATE FUNCTION @extschema@.tq_progress(fraction double precision, note jsonb DEFAULT NULL, claim uuid DEFAULT NULL) RETURNS void
LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tq_progress';
CREATE TYPE tenant_q.taken AS (
    claim         uuid,
    tenant        text,
    id            uuid,
    handler       text,
    args          jsonb,
    attempt       integer,
    max_attempts  integer,
    deadline      timestamptz,
    queue         text,
    name          text,
    meta          jsonb,
    schedule      text,
    scheduled_for timestamptz,
    created_at    timestamptz,
    shared        boolean,
    each          boolean
);

CREATE FUNCTION tenant_q.protocol() RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT 1';
COMMENT ON FUNCTION tenant_q.protocol() IS 'which protocol workers speak with this version: tq_take, tq_finish and their kin as they are here. It changes when a worker has to be changed.';

-- What a deploy declares.
CREATE FUNCTION @extschema@.tq_register_many(doc jsonb, prune boolean DEFAULT false, tenant text DEFAULT NULL) RETURNS integer
LANGUAGE c AS 'MODULE_PATHNAME', 'tq_register_many';

CREATE FUNCTION @extschema@.tq_take(n integer DEFAULT 1, handlers text[] DEFAULT NULL, queues text[] DEFAULT NULL, tenants text[] DEFAULT NULL, wait interval DEFAULT '0', worker text DEFAULT NULL) RETURNS SETOF tenant_q.taken
LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tq_take';

CREATE PROCEDURE @extschema@.tq_await(wait interval DEFAULT NULL, handlers text[] DEFAULT NULL, queues text[] DEFAULT NULL, tenants text[] DEFAULT NULL)
LANGUAGE c AS 'MODULE_PATHNAME', 'tq_await';

CREATE FUNCTION @extschema@.tq_finish(claim uuid, result jsonb DEFAULT NULL) RETURNS void
LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tq_finish';

CREATE FUNCTION @extschema@.tq_finish_many(claims uuid[], results jsonb[] DEFAULT NULL) RETURNS integer
LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tq_finish_many';

CREATE FUNCTION @extschema@.tq_give_up(claim uuid, error jsonb, retry_after interval DEFAULT NULL, final boolean DEFAULT false, OUT state text, OUT run_at timestamptz) RETURNS SETOF record
LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tq_give_up';

CREATE FUNCTION @extschema@.tq_release(claim uuid, delay interval DEFAULT '0', reason text DEFAULT NULL, crashed boolean DEFAULT false) RETURNS void
LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tq_release';

CREATE FUNCTION @extschema@.tq_watch(wait interval DEFAULT '0', claims uuid[] DEFAULT NULL, OUT claim uuid, OUT what text) RETURNS SETOF record
LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tq_watch';

CREATE FUNCTION @extschema@.tq_drain_take(n integer DEFAULT 1000, as_of timestamptz DEFAULT pg_catalog.now(), tenant text DEFAULT NULL) RETURNS SETOF tenant_q.taken
LANGUAGE c AS 'MODULE_PATHNAME', 'tq_drain_take';

-- What everything public means, as the install script says it.
COMMENT ON FUNCTION @extschema@.tq_attach(text, boolean, boolean) IS
'Makes a schema a tenant: creates the three tables of its tasks, results and schedules, as its owner. Needs to be the schema''s owner. True, or false with a NOTICE if it is attached already.
Handlers and the like that are still registered are kept where schema and owner are those they were registered for, or the schema was restored and its owner has the same name; otherwise they are removed, with a NOTICE.
Where a superuser owns the schema, tasks run as one only after a superuser has attached it, once more if it came to belong to a superuser since: tasks and schedules from before count as nobody''s then.
Parameters:
  tenant: the schema; NULL = the first of search_path
  adopt: take over such tables that are there already (restored, detached before)
  ready: false = nothing is run yet; see tq_set_tenant
Errors:
  3F000: no such schema
  42501: not its owner
  42P07: tables of these names exist
  55000: tables to adopt are not as ours
  0A000: Citus has distributed the schema
  53400: more than 50 in one transaction
  55P03: as of tq_detach
Example: SELECT tq_attach(''acme'');';
COMMENT ON FUNCTION @extschema@.tq_detach(text, boolean) IS
'Makes a tenant an ordinary schema again. Pauses end; what tq_set_quota said stays with the schema. False = it was not attached.
Parameters:
  tenant: the schema
  drop_data: true = drop its tables and handlers too; otherwise they stay, with listeners, queues, limits and what tq_set_tenant said, and tq_attach(adopt => true) by the same owner takes them up
Errors:
  42501: not the owner
  55P03: another transaction has held what it changes for 5 seconds: DETAIL names it, HINT ends it
Example: SELECT tq_detach(''acme'');';
COMMENT ON FUNCTION @extschema@.tq_tenant() IS
'The current tenant: the first schema of search_path other than "$user", pg_temp and pg_catalog. Never silently another one.
Errors:
  3F000: there is none, or it does not exist
  42501: not usable
  55000: not attached
Example: SET search_path = acme, public; SELECT tq_tenant();';
COMMENT ON FUNCTION @extschema@.tq_set_tenant(text, boolean, text, text[], jsonb, integer, text, interval, interval, text[]) IS
'What a tenant decides for itself. Of each parameter NULL leaves it as it is.
Parameters:
  tenant: the schema; NULL = the first of search_path
  ready: false = tasks and schedules wait, until somebody says true; what runs goes on, and a NOTICE says so. For a migration: tq_pause with drain and duration
  timezone: of its schedules and handlers; schedules without a tz of their own wait for their next fire time in it
  shared_schemas: behind its own on search_path
  settings: {"name": "value"} for its tasks
  save_limit: so many successes are kept, those that ended last; 0 = all, -1 = none
  save_limit_per: none | group | name | handler: of what save_limit counts
  result_ttl: how long results are kept at least, by the calendar of the zone
  failure_ttl: how long failures are kept at most, by the calendar of the zone
  reset: names of these that go back to the default
Errors:
  42501: not the owner
  22023: a value that makes no sense
  55P03: as of tq_detach
Example: SELECT tq_set_tenant(''acme'', timezone => ''Europe/Berlin'');';
COMMENT ON FUNCTION @extschema@.tq_set_quota(text, integer, integer, integer, text, boolean, text[]) IS
'What an administrator decides for a tenant. Of each parameter NULL leaves it as it is. EXECUTE is granted to nobody by default.
It stays with the schema, and with a schema of that name that the same owner makes after it was dropped, until it is reset; for one that is gone, tq_detach(..., drop_data => true) ends it.
Parameters:
  tenant: the schema
  max_running: tasks of it at a time; where more run, those that began last go back into the queue, uncounted: they are cancelled, cancelled again a second later, and after another second their executors are terminated; workers hear ''drain'' (tq_watch)
  max_queued: unfinished tasks, of all roles that its handlers run as, beyond which enqueuing raises 53400
  weight: share of the executors'' time, 1 to 1000, default 1
  rate: starts of its tasks, ''100/m'' (a bucket), ''100/m window'' or ''100/m sliding'', as in tq_register
  fan_out: whether work for all tenants includes it
  reset: names of these that go back to the default
Errors:
  22023: a value that makes no sense
  55P03: as of tq_detach
Example: SELECT tq_set_quota(''acme'', max_running => 2, weight => 5);';
COMMENT ON FUNCTION @extschema@.tq_pause(text, text, text, interval, interval) IS
'Starts no more tasks of the tenant; with queue, handler or both only of those; running ones go on. False = it was paused until tq_resume already. A queue that nothing has named so far is paused all the same; a NOTICE says so. Needs to be the schema''s owner, or the right to operate.
Parameters:
  tenant: the schema; NULL = the first of search_path
  queue: only its tasks
  handler: only its tasks
  duration: by the clock of the tenant''s zone; NULL = until tq_resume
  drain: waits so long, and tenant_q.max_wait at most, for what is meant and runs to end; workers hear ''drain'' of what they have of it (tq_watch); a NOTICE says what still runs. Meanwhile nothing of the tenant is started
Errors:
  42501: neither the owner nor the right
  42704: no such handler, with the nearest one
  22023: a negative duration
  54000: more than 1,000 pauses of queues and handlers
  55P03: as of tq_detach
Example: SELECT tq_pause(''acme'', handler => ''send_invoice'', duration => ''10 minutes'');';
COMMENT ON FUNCTION @extschema@.tq_resume(text, text, text) IS
'Undoes tq_pause with the same parameters. False = nothing to undo. Needs what tq_pause does. What keeps the tenant''s tasks all the same, a pause of all tenants say, is told by a NOTICE each, with the call that ends it.
Parameters:
  tenant: as tq_pause was told
  queue: as tq_pause was told
  handler: as tq_pause was told, or another name of it; one that was quarantined for crashing the server is freed, too
Errors:
  42501: neither the owner nor the right
  55P03: as of tq_detach
Example: SELECT tq_resume(''acme'');';
COMMENT ON FUNCTION @extschema@.tq_pause_all(text, text, interval) IS
'tq_pause for all tenants of this database; with handler, queue or both only of those. EXECUTE is granted to nobody by default.
Parameters:
  handler: only its tasks
  queue: only its tasks
  duration: NULL = until tq_resume_all
Errors:
  42704: no tenant has such a handler, with the nearest one
Example: SELECT tq_pause_all(handler => ''send_invoice'');';
COMMENT ON FUNCTION @extschema@.tq_resume_all(text, text) IS
'Undoes tq_pause_all with the same parameters; pauses of single tenants stay, and others of all: a NOTICE says so. EXECUTE is granted to nobody by default.
Parameters:
  handler: as tq_pause_all was told; shared ones that were quarantined for crashing the server are freed, too
  queue: as tq_pause_all was told
Example: SELECT tq_resume_all();';
COMMENT ON PROCEDURE @extschema@.tq_attach_all(text, text[], boolean) IS
'Attaches all schemas whose name matches, one transaction each. EXECUTE is granted to nobody by default.
Parameters:
  pattern: names, as LIKE has them
  exclude: names that are left out
  adopt: as in tq_attach
Errors:
  as tq_attach: of the schema that it is at; those before stay attached
Example: CALL tq_attach_all(''tenant\_%'');';
COMMENT ON FUNCTION @extschema@.tq_register(text, text, text, integer, interval, integer, jsonb, interval, integer, text, text, jsonb, boolean, interval, text[], boolean, boolean, text, jsonb) IS
'Registers a function or procedure that tasks may call; registering a name again replaces it; as it is, it writes nothing. True = new.
Parameters:
  handler: its name for tasks
  function: SQL text such as ''send_invoice(bigint, text)''; NULL = the handler''s name. Without a schema it is looked up in the tenant''s search_path; the schema''s owner needs USAGE on the schema that it is in
  queue: of its tasks, where they name none
  priority: of its tasks, where they say none; higher first
  timeout: of an attempt, where the task says none
  max_attempts: of its tasks, where they say none; 0 = for ever
  retry: how long to wait after a failed attempt, where the task doesn''t say: tq_backoff
  expires: of its tasks, where they don''t say: see tq_async
  max_running: of its tasks at a time in a tenant
  rate: starts of its tasks, ''10/m'', ''100/h'', ''5/10s'': a bucket, which lets a burst of the whole number through and then one after the other evenly, so nearly twice as many where a burst meets the next | ''5/s window'': so many in each stretch of the clock | ''5/s sliding'': in any stretch of that length
  run_as: the role it runs as, NULL = the schema''s owner, who must be able to SET ROLE to it; of an external one the role whose members may take its tasks, NULL = all who may work
  settings: {"name": "value"} while it runs; not of an external one
  save: false = no results are kept, where the task doesn''t say
  result_ttl: how long results are kept at least, where the task doesn''t say
  aliases: further names
  external: true = its code runs outside of the server, in workers that call tq_take; there is no function
  shared: true = for all tenants; superusers only, and for an external one whoever has EXECUTE on tenant_q.register_external()
  tenant: NULL = the first schema of search_path
  params: what an external one takes, checked where a task is enqueued: [{"name": "order_id", "type": "bigint"}, {"name": "locale", "type": "text", "default": "de"}]; NULL = any document
Errors:
  42883: no such function
  42725: several functions of that name
  42501: not the schema''s owner, or the owner may not use the function''s schema
  22023: a value that makes no sense
  22008: a time beyond the year 9999
  42P02, 54023, 42804: the function doesn''t take what the handler listens to
  0A000: a parameter of an external handler is of a type that isn''t PostgreSQL''s own
  42710: an external one of all tenants has the name
  55P03: as of tq_detach
Example: SELECT tq_register(''send_invoice'', ''send_invoice(bigint, text)'', max_attempts => 5);';
COMMENT ON FUNCTION @extschema@.tq_unregister(text, boolean, text) IS
'Forgets a handler. Its waiting tasks are held for tenant_q.handler_grace and then fail with 42883. False = there was none.
Parameters:
  handler: its name
  shared: true = the one of all tenants
  tenant: NULL = the first schema of search_path
Errors:
  42501: not the schema''s owner; of all tenants: no superuser, nor, of an external one, with EXECUTE on tenant_q.register_external()
  2BP01: it listens to events or tables: HINT ends that
  55P03: as of tq_detach
Example: SELECT tq_unregister(''send_invoice'');';
COMMENT ON FUNCTION @extschema@.tq_backoff(text, interval, double precision, interval, double precision, interval[], text[], text[], interval) IS
'A retry policy for retry of tq_async and tq_register: how long to wait after an attempt that failed. Without a policy: exponential. A month counts 30 days.
In the kinds below n is 0 after the first attempt; what follows a parameter''s name is what it is where it isn''t given.
Parameters:
  kind: fixed (base, 15 s, each time) | linear (base, 15 s, + factor, 1, * base * n) | exponential (base, 15 s, * factor, 2, ^ n; jitter 0.1) | list (delays, the last for the rest) | as other systems have it: celery (base, 1 s, * factor, 1, * 2 ^ n; jitter 1: anything from nothing to that) | dramatiq (base, 15 s, * factor, 2, ^ n; jitter 1: up to twice that) | rq (delays, or base each time; the last delay is before the last attempt: of more attempts the first ones wait the first delay) | procrastinate (base, 0, + linear, 0, * n + factor, 0, ^ (n + 1) seconds)
  base: see kind
  factor: see kind
  cap: longest delay; NULL = 1 h for linear and exponential, 10 min for celery, 7 days for dramatiq, never less than the first delay; else none
  jitter: share that is random, 0 to 1
  delays: of list and rq, in the order of attempts
  retry_on: only errors of these SQLSTATEs, or of these first characters, are tried again
  never_on: errors of these SQLSTATEs, or of these first characters, are not tried again
  linear: of procrastinate: see kind
Errors:
  22023: a value that makes no sense, or a parameter that the kind has no use for
Example: SELECT tq_async(''f'', retry => tq_backoff(''fixed'', ''5 seconds''));';
COMMENT ON VIEW @extschema@.tq_handlers IS
'Handlers of the current tenant, shared ones included, with what tq_register was told.
At least once are procedures, which may COMMIT, and functions in untrusted languages (plpython3u), which may write through connections of their own.
Example: SELECT * FROM tq_handlers WHERE status <> ''ok'';';
COMMENT ON COLUMN @extschema@.tq_handlers.handler IS 'registered name';
COMMENT ON COLUMN @extschema@.tq_handlers.function IS 'its signature; NULL = its code is outside of the server';
COMMENT ON COLUMN @extschema@.tq_handlers.status IS 'ok | missing | changed | paused | quarantined';
COMMENT ON COLUMN @extschema@.tq_handlers.reason IS 'why it is not ok';
COMMENT ON COLUMN @extschema@.tq_handlers.guarantee IS 'of its effects in this database: exactly_once | at_least_once | by_worker: exactly_once where a worker calls tq_finish in the transaction that has them';
COMMENT ON COLUMN @extschema@.tq_handlers.run_as IS 'the role that it runs as; of an external one whose members may take its tasks, NULL = all who may work';
COMMENT ON COLUMN @extschema@.tq_handlers.queue IS 'of its tasks, where they name none';
COMMENT ON COLUMN @extschema@.tq_handlers.priority IS 'of its tasks, where they say none';
COMMENT ON COLUMN @extschema@.tq_handlers.timeout IS 'of an attempt, where the task says none';
COMMENT ON COLUMN @extschema@.tq_handlers.max_attempts IS 'of its tasks, where they say none; 0 = any number';
COMMENT ON COLUMN @extschema@.tq_handlers.max_running IS 'of its tasks at a time';
COMMENT ON COLUMN @extschema@.tq_handlers.rate IS 'starts of its tasks';
COMMENT ON COLUMN @extschema@.tq_handlers.expires IS 'of its tasks, where they say nothing';
COMMENT ON COLUMN @extschema@.tq_handlers.result_ttl IS 'how long results are kept at least';
COMMENT ON COLUMN @extschema@.tq_handlers.save IS 'false = no results are kept';
COMMENT ON COLUMN @extschema@.tq_handlers.shared IS 'of all tenants';
COMMENT ON COLUMN @extschema@.tq_handlers.aliases IS 'further names';
COMMENT ON COLUMN @extschema@.tq_handlers.tenant IS 'the schema that asks';
COMMENT ON COLUMN @extschema@.tq_handlers.retry IS 'retry policy of its tasks, where they say none: tq_backoff';
COMMENT ON COLUMN @extschema@.tq_handlers.settings IS 'while it runs; only for whoever may read the tenant''s tasks';
COMMENT ON TYPE tenant_q.task IS 'a task as tq_tasks, tq_results and tq_fetch show it';
COMMENT ON COLUMN tenant_q.task.name IS 'as it was enqueued: a label';
COMMENT ON COLUMN tenant_q.task.handler IS 'what it calls';
COMMENT ON COLUMN tenant_q.task.state IS 'deferred | delayed | queued | running | retrying | held, and of finished ones done | failed | cancelled | expired | quarantined';
COMMENT ON COLUMN tenant_q.task.reason IS 'why it doesn''t run, or has not ended well; of an error the first line of its message, 200 characters at most';
COMMENT ON COLUMN tenant_q.task.attempt IS 'the one that runs, else the last one; 0 = none yet';
COMMENT ON COLUMN tenant_q.task.max_attempts IS 'attempts that it has; 0 = any number';
COMMENT ON COLUMN tenant_q.task.run_at IS 'not before that; while it is retrying: the next attempt';
COMMENT ON COLUMN tenant_q.task.started_at IS 'when the attempt began that runs, or was the last one';
COMMENT ON COLUMN tenant_q.task.finished_at IS 'when it ended; NULL = it has not';
COMMENT ON COLUMN tenant_q.task.created_at IS 'when it was enqueued';
COMMENT ON COLUMN tenant_q.task.queue IS 'its queue';
COMMENT ON COLUMN tenant_q.task.priority IS 'higher first';
COMMENT ON COLUMN tenant_q.task.schedule IS 'the schedule that has made it';
COMMENT ON COLUMN tenant_q.task.scheduled_for IS 'the fire time that it was made for';
COMMENT ON COLUMN tenant_q.task.group_id IS 'its group''s label';
COMMENT ON COLUMN tenant_q.task.enqueued_by IS 'the role that has enqueued it';
COMMENT ON COLUMN tenant_q.task.tenant IS 'the schema';
COMMENT ON COLUMN tenant_q.task.id IS 'UUID v7: ordered by when it was enqueued';
COMMENT ON COLUMN tenant_q.task.parent_id IS 'the flow that it is a member of';
COMMENT ON COLUMN tenant_q.task.error IS 'of the last attempt that failed: {"sqlstate", "message", "detail", "hint", "context"}';
COMMENT ON COLUMN tenant_q.task.result IS 'what the handler has returned; JSON null = null or void, SQL NULL = none';
COMMENT ON COLUMN tenant_q.task.args IS 'what the handler is called with';
COMMENT ON COLUMN tenant_q.task.meta IS 'what it was enqueued with as meta';
COMMENT ON TYPE tenant_q.current IS 'the task that runs in this session';
COMMENT ON COLUMN tenant_q.current.id IS 'its id';
COMMENT ON COLUMN tenant_q.current.tenant IS 'the schema';
COMMENT ON COLUMN tenant_q.current.handler IS 'what runs';
COMMENT ON COLUMN tenant_q.current.attempt IS 'which attempt this is, from 1';
COMMENT ON COLUMN tenant_q.current.max_attempts IS 'attempts that it has; 0 = any number';
COMMENT ON COLUMN tenant_q.current.schedule IS 'the schedule that has made it';
COMMENT ON COLUMN tenant_q.current.scheduled_for IS 'the fire time that it was made for';
COMMENT ON COLUMN tenant_q.current.deadline IS 'when its timeout is over; NULL = none';
COMMENT ON COLUMN tenant_q.current.meta IS 'what it was enqueued with as meta';
COMMENT ON FUNCTION @extschema@.tq_async(text, jsonb, text, text, text, integer, timestamptz, interval, interval, integer, jsonb, interval, text, text, text, text, text, uuid[], text, boolean, text, text, text, boolean, interval, jsonb, uuid, boolean, text) IS
'Enqueues one call of a registered handler; returns the task''s id (UUID v7) at once. It runs after the commit, and never after a rollback.
Where a parameter is NULL the handler says, else its queue, else the setting. Months and days of delay, expires and result_ttl are those of the calendar and clock of the tenant''s zone.
Parameters:
  handler: the name that it is registered by
  args: what it is called with: an object is passed by name, an array by position, anything else as the single parameter; checked against the function now. What a type that isn''t PostgreSQL''s own says (a domain''s CHECK) is asked now only in a session of the role that the handler runs as, else when the task starts, where an argument that doesn''t fit fails it for good
  name: a label for tq_find
  group_id: a label for tq_result_group and its kin
  queue: a label that tq_set_queue may set up; NULL = the handler''s, else default
  priority: -32768 to 32767, higher first
  run_at: a time before which it doesn''t run; NULL = now
  delay: the same as a length of time from now; not both
  timeout: how long an attempt may take; then it is cancelled and has failed
  max_attempts: how often it is tried; 0 = for ever
  retry: how long to wait after a failed attempt: tq_backoff
  expires: not started any more when that has passed since it may run: since run_at or delay, or since what it waits for has ended
  lock: tasks of one lock run one at a time, those that are due in the order of their priority
  limit_key: as many at a time and as often as tq_set_limit says
  unique_key: of one key there is one unfinished task at a time, which holds it
  unique_until: how long it holds unique_key: started | finished (default) | deleted
  on_conflict: where another one has the unique_key: error (default) | skip (returns the holder''s id) | replace (takes the place and id of one that doesn''t run)
  depends_on: runs when these tasks are done; if one of them doesn''t end well it is cancelled (TQ004), and tq_requeue of that one brings it back. How each of them ended is kept whatever becomes of its result; one whose row somebody has deleted counts as failed
  depends_mode: all (default) | any of depends_on
  allow_failure: true = it runs however those in depends_on end
  on_success: a handler that is enqueued when it is done, with the task as its single argument
  on_failure: the same, when it has not ended well
  hook: the same, at every end
  save: false = no result is kept; of a member of a flow it stays until the flow has ended well
  result_ttl: how long the result is kept at least
  meta: a document of your own, handed to the handler; NULL = tenant_q.meta of the session
  id: one of your own; the same id twice is one task
  sync: true = calls the handler here and now, in a savepoint of the caller''s transaction, and raises its error; the caller must be the role it runs as
  tenant: NULL = the first schema of search_path
Errors:
  42704: handler not registered
  22023, 42P02, 54023, 22P02: arguments that don''t fit; and others, as the conversion to a parameter''s type raises them
  22023: a value that makes no sense
  54000: args too large
  23505: unique_key is taken
  42501: no right to enqueue
  55000: not attached
  3F000: no such tenant
  53400: quota
Example: SELECT tq_async(''send_invoice'', ''{"order_id": 42, "locale": "de"}'', delay => ''5 minutes'');';
COMMENT ON FUNCTION @extschema@.tq_async_many(jsonb, text) IS
'Enqueues many tasks at once, all or none; the ids in the same order.
Parameters:
  tasks: an array of objects whose keys are tq_async''s parameters
  tenant: NULL = the first schema of search_path
Errors:
  as tq_async: DETAIL says which task
  22023: an unknown key, with the nearest one
Example: SELECT tq_async_many(''[{"handler": "send_invoice", "args": {"order_id": 1, "locale": "en"}}, {"handler": "send_invoice", "args": [2, "de"]}]'');';
COMMENT ON FUNCTION @extschema@.tq_cancel(uuid, boolean, text) IS
'Cancels an unfinished task. False = nothing to cancel: unknown, finished, or just finishing. Many at once: tq_cancel_all.
Parameters:
  id: the task
  running: true = one that runs is interrupted after your commit, and its effects roll back; false leaves it alone
  tenant: NULL = the first schema of search_path
Errors:
  42501: no right to operate
Example: SELECT tq_cancel(''0198c0de-0000-7000-8000-000000000001'');';
COMMENT ON FUNCTION @extschema@.tq_requeue(uuid, timestamptz, jsonb, boolean, text) IS
'Runs a finished or quarantined task again under the same id, its history kept. False = unknown, or unfinished anyway: a NOTICE says which, and the call that leads on. Many at once: tq_requeue_all.
Tasks that were cancelled because of it (depends_on) come back with it, and so on; a NOTICE says how many, and which can''t. One that was cancelled so itself then waits for nobody.
Parameters:
  id: the task
  run_at: not before; NULL = now
  args: in place of the old ones; NULL = the same
  reset_attempts: false = goes on counting
  tenant: NULL = the first schema of search_path
Errors:
  42704: its handler is not registered
  42501: no right to operate
  55000: of a finished flow a member''s result is gone
  23505: its unique_key is taken
  53400: quota
  as tq_async: for args that don''t fit
Example: SELECT tq_requeue(''0198c0de-0000-7000-8000-000000000001'', args => ''[2, "de"]'');';
COMMENT ON FUNCTION @extschema@.tq_result(uuid, interval, boolean, text) IS
'The result of a task. SQL NULL = unfinished, JSON null = finished with null.
Parameters:
  id: the task
  wait: wakes on its end, at most tenant_q.max_wait; 0 never waits
  propagate: true = a task that has not ended well raises TQ002 with its error as DETAIL; false returns its message as a JSON string
  tenant: NULL = the first schema of search_path
Errors:
  TQ002: the task has not ended well
  P0002: neither waiting nor kept
  25001: waiting under REPEATABLE READ
  55000: waiting inside a task, or for a task of this very transaction
  42501: no right to read
Example: SELECT tq_result(''0198c0de-0000-7000-8000-000000000001'', wait => ''5 seconds'');';
COMMENT ON FUNCTION @extschema@.tq_fetch(uuid, interval, text) IS
'The whole task, finished or not; no row if it is unknown.
Parameters:
  id: the task
  wait: as in tq_result
  tenant: NULL = the first schema of search_path
Errors:
  as tq_result: for waiting
  42501: no right to read
Example: SELECT state, attempt, error FROM tq_fetch(''0198c0de-0000-7000-8000-000000000001'');';
COMMENT ON FUNCTION @extschema@.tq_find(text, text) IS
'The id of the newest task of that name; NULL if there is none.
Parameters:
  name: as it was enqueued
  tenant: NULL = the first schema of search_path
Errors:
  42501: no right to read
Example: SELECT tq_result(tq_find(''nightly''));';
COMMENT ON FUNCTION @extschema@.tq_attempts(uuid, text) IS
'What happened to a task, attempt by attempt: of those that did not end well the last ten.
Parameters:
  id: the task
  tenant: NULL = the first schema of search_path
Columns:
  attempt: its number, from 1
  outcome: done | failed | retry | snoozed (put off by tq_retry without counting: one line for all in a row) | timeout | crashed | interrupted (cancelled from outside, or its executor ended: not counted, and one line for all in a row; ten in a row are a failed attempt)
  started_at: when it began
  duration: how long it ran
  pid: its process
  sqlstate: of its error
  message: of its error
  detail: of its error
  context: of its error
Errors:
  42501: no right to read
Example: SELECT * FROM tq_attempts(''0198c0de-0000-7000-8000-000000000001'');';
COMMENT ON FUNCTION @extschema@.tq_current() IS
'The task that runs in this session; NULL outside of a task.
Example: SELECT (tq_current()).attempt;';
COMMENT ON FUNCTION @extschema@.tq_retry(interval, text, boolean, jsonb) IS
'Ends this attempt; its effects roll back, and the task is tried again as long as attempts are left, whatever retry_on and never_on of its policy say. Raises TQ001; an error of SQLSTATE TQ001 which this call has not raised is an error like any other.
Parameters:
  delay: until the next attempt; NULL = as its policy says
  message: what is noted of the attempt
  count: false = puts the task off without an attempt, 1,000 times at most, after which each one counts; expires counts anew, and nobody is told of a failure
  args: those of the next attempt and of all after it; NULL = the same
Errors:
  TQ001: what it works by
  55000: outside of a task, and for args of a chunk of an iteration
  22023: a negative delay
  as tq_async: for args that don''t fit the handler
Example: PERFORM tq_retry(''1 minute'', ''the bank is closed'', count => false);';
COMMENT ON FUNCTION @extschema@.tq_fail(text) IS
'Ends the task as failed, without further attempts; its effects roll back. Raises TQ003; an error of that SQLSTATE which this call has not raised is an error like any other.
Parameters:
  message: of the task''s error
Errors:
  TQ003: what it works by
  55000: outside of a task
Example: PERFORM tq_fail(''no such order'');';
COMMENT ON FUNCTION @extschema@.tq_why(uuid, text) IS
'Why a task is not running: every reason, the decisive one first.
Parameters:
  id: the task
  tenant: NULL = the first schema of search_path
Columns:
  reason: in one word; docs/operations.md has them all, with what else says so
  detail: for people
  hint: SQL that ends it, or shows what it waits for; NULL or empty where it ends by itself
Errors:
  42501: no right to read
Example: SELECT * FROM tq_why(''0198c0de-0000-7000-8000-000000000001'');';
COMMENT ON FUNCTION @extschema@.tq_update(uuid, timestamptz, text, integer, jsonb, interval, jsonb, text) IS
'Changes a task that waits; of each parameter NULL leaves it as it is. Of a flow what waits of it, however deep, and its own meta. Many at once: tq_update_all.
False = nothing was changed: the task is unknown, finished, running or about to run, or no change was given; a NOTICE says which, and the call that leads on.
Parameters:
  id: the task
  run_at: not before
  queue: into which
  priority: -32768 to 32767, higher first
  args: in place of the old ones, checked against the handler; needs the right to enqueue too
  expires: not started any more when that has passed since it may run, from now on at the earliest; another run_at moves that along
  meta: in place of the old one
  tenant: NULL = the first schema of search_path
Errors:
  42501: no right to operate, or a superuser''s task
  22023: args for a flow
  as tq_async: for values that don''t fit
Example: SELECT tq_update(''0198c0de-0000-7000-8000-000000000001'', priority => 10);';
COMMENT ON FUNCTION @extschema@.tq_delete(uuid, text) IS
'Deletes a finished task with its result. False = there is none of this id. Many at once: tq_delete_all.
Parameters:
  id: the task
  tenant: NULL = the first schema of search_path
Errors:
  55000: it is not finished
  42501: no right to operate
Example: SELECT tq_delete(''0198c0de-0000-7000-8000-000000000001'');';
COMMENT ON FUNCTION @extschema@.tq_purge(interval, text[], text) IS
'Deletes finished tasks with their results; how many that were. Unfinished ones stay.
Parameters:
  older_than: finished so long ago at least, by the calendar and clock of the tenant''s zone; ''0'' = all
  states: of done, failed, cancelled, expired, quarantined; NULL = all five
  tenant: NULL = the first schema of search_path
Errors:
  22023: a negative age, or an unknown state
  42501: no right to operate
Example: SELECT tq_purge(''7 days'', ''{done,cancelled}'');';
COMMENT ON FUNCTION @extschema@.tq_requeue_all(text, text, text[], text, text, text, text, timestamptz, timestamptz, integer, boolean, boolean, text) IS
'Runs finished tasks again that match, each as tq_requeue does, in one transaction. All that is given must be true of a task.
A flow that matches goes with all its members, and those of them are counted that match too. A task whose unique_key another one has, and a flow of whose members a result is gone, stay as they are and are not counted.
Parameters:
  handler: what they call
  name_like: their name, a pattern as LIKE has them
  states: of done, failed, cancelled, expired, quarantined; NULL = failed
  queue: their queue
  schedule: what has enqueued them
  group_id: their label
  sqlstate: of their last error
  since: finished from then on
  until: finished before then
  max_tasks: no more than so many; loop while there are more
  everything: true = all; without it, one of the above but max_tasks has to be given
  dry_run: true = only tells what would be done
  tenant: NULL = the first schema of search_path
Columns:
  tasks: how many that were
  more: whether max_tasks has left others, or another transaction was at them
  sample: the ids of the first ten
Errors:
  22023: no filter, or a value that makes no sense
  42704: the handler of one of them is not registered
  42501: no right to operate, or a superuser''s task
  53400: quota
Example: SELECT * FROM tq_requeue_all(states => ''{failed}'', sqlstate => ''40001'', since => now() - interval ''1 hour'');';
COMMENT ON FUNCTION @extschema@.tq_cancel_all(text, text, text[], text, text, text, text, timestamptz, timestamptz, integer, boolean, boolean, text) IS
'Cancels unfinished tasks that match, each as tq_cancel does, in one transaction; running ones are interrupted after your commit. All that is given must be true of a task.
A flow that matches goes with all its members, and those of them are counted that match too. In a task this leaves the task itself alone.
Parameters:
  handler: what they call
  name_like: their name, a pattern as LIKE has them
  states: of deferred, delayed, queued, running, retrying, held; NULL = all
  queue: their queue
  schedule: what has enqueued them
  group_id: their label
  sqlstate: of their last error
  since: enqueued from then on
  until: enqueued before then
  max_tasks: no more than so many; loop while there are more
  everything: true = all; without it, one of the above but max_tasks has to be given
  dry_run: true = only tells what would be done
  tenant: NULL = the first schema of search_path
Columns:
  tasks: how many that were
  more: whether max_tasks has left others, or another transaction was at them
  sample: the ids of the first ten
Errors:
  22023: no filter, or a value that makes no sense
  42501: no right to operate
Example: SELECT * FROM tq_cancel_all(handler => ''send_invoice'', states => ''{delayed,queued}'', dry_run => true);';
COMMENT ON FUNCTION @extschema@.tq_delete_all(text, text, text[], text, text, text, text, timestamptz, timestamptz, integer, boolean, boolean, text) IS
'Deletes finished tasks that match, with their results, each as tq_delete does, in one transaction. All that is given must be true of a task.
A member stays, and is not counted, whose flow is not finished.
Parameters:
  handler: what they call
  name_like: their name, a pattern as LIKE has them
  states: of done, failed, cancelled, expired, quarantined; NULL = all
  queue: their queue
  schedule: what has enqueued them
  group_id: their label
  sqlstate: of their last error
  since: finished from then on
  until: finished before then
  max_tasks: no more than so many; loop while there are more
  everything: true = all; without it, one of the above but max_tasks has to be given
  dry_run: true = only tells what would be done
  tenant: NULL = the first schema of search_path
Columns:
  tasks: how many that were
  more: whether max_tasks has left others, or another transaction was at them
  sample: the ids of the first ten
Errors:
  22023: no filter, or a value that makes no sense
  42501: no right to operate
Example: SELECT * FROM tq_delete_all(states => ''{cancelled,expired}'', until => now() - interval ''1 day'', max_tasks => 10000);';
COMMENT ON FUNCTION @extschema@.tq_update_all(text, text, text[], text, text, text, text, timestamptz, timestamptz, integer, boolean, boolean, timestamptz, text, integer, interval, text) IS
'Changes tasks that wait and match, each as tq_update does, in one transaction. All that is given must be true of a task. Tasks that run, or are about to, stay as they are and are not counted.
Parameters:
  handler: what they call
  name_like: their name, a pattern as LIKE has them
  states: of deferred, delayed, queued, retrying, held; NULL = all
  queue: their queue
  schedule: what has enqueued them
  group_id: their label
  sqlstate: of their last error
  since: enqueued from then on
  until: enqueued before then
  max_tasks: no more than so many; loop while there are more
  everything: true = all; without it, one of the above but max_tasks has to be given
  dry_run: true = only tells what would be done
  set_run_at: not before; NULL = as it is
  set_queue: into which; NULL = as it is
  set_priority: -32768 to 32767, higher first; NULL = as it is
  set_expires: not started any more when that has passed since they may run, from now on at the earliest; NULL = as it is
  tenant: NULL = the first schema of search_path
Columns:
  tasks: how many that were
  more: whether max_tasks has left others, or another transaction was at them
  sample: the ids of the first ten
Errors:
  22023: no filter, nothing to set, or a value that makes no sense
  42501: no right to operate
Example: SELECT * FROM tq_update_all(handler => ''send_invoice'', states => ''{delayed}'', set_run_at => now());';
COMMENT ON FUNCTION @extschema@.tq_group(jsonb, jsonb, text) IS
'Enqueues tasks that run beside each other, and returns the id of the flow that they make up: a task itself, final when all of them are. Its result is the array of theirs, in input order.
A member that doesn''t end well lets the flow fail (TQ004) once all are final; so do results that no document can hold (54000, above 256 MB together): on_success ends with that error then, too, and the members'' own results are kept. tq_cancel cancels all members; tq_requeue runs again what didn''t end well, also of a flow in it or from a member on; tq_update changes the members that wait, and the flow''s own meta. Events done, failed and cancelled are told of flows; tq_stats counts them under tq_group, tq_chain and tq_async_iter.
Parameters:
  tasks: an array of objects whose keys are tq_async''s parameters, or of handlers'' names; at most 100,000, and none is done at once, with an empty array. A member may be a flow itself, to any depth: {"group": [...]}, {"chain": [...], "pass_result", "on_step_failure"} (pass_result is that of the chain around it, if it says nothing) or {"iter": [args, ...], "handler", "chunk"}, beside the members what task takes; its result is an array in the place of a member''s
  task: what is said of the flow itself (id, name, group_id, meta, save, result_ttl, on_success, on_failure, hook, unique_key, on_conflict, allow_failure: true = done even if members fail, whose results are null then; sync: true = all members run at once, in your session and transaction: the first error is yours, unless allow_failure records it with its member); other keys are defaults for the members
  tenant: NULL = the first schema of search_path
Errors:
  as tq_async: DETAIL says which member
  54000: too many members
Example: SELECT tq_group(''[{"handler": "render", "args": [1]}, {"handler": "render", "args": [2]}]'', ''{"on_success": "bind_pages"}'');';
COMMENT ON FUNCTION @extschema@.tq_chain(jsonb, boolean, text, jsonb, text) IS
'Enqueues tasks that run one after the other, and returns the id of the flow that they make up; its result is the array of theirs.
Parameters:
  steps: as tasks of tq_group; the delay of a later one counts from the end of the one before, one in task is the first step''s. What comes after a group or an iteration begins when all of its members are final
  pass_result: true = each step gets the result of the one before: behind the arguments of an array, as the first parameter that an object leaves out; of a group each member does, and what comes after it gets the array of theirs
  on_step_failure: stop = what follows a failed step is cancelled | continue = it runs all the same
  task: as in tq_group
  tenant: NULL = the first schema of search_path
Errors:
  as tq_group: DETAIL says which step
Example: SELECT tq_chain(''[{"handler": "fetch_rates", "args": ["eur"]}, "convert", "store"]'', pass_result => true);
SELECT tq_chain(''["collect", {"group": ["render", "translate"]}, "bind_pages"]'');';
COMMENT ON FUNCTION @extschema@.tq_async_iter(text, jsonb[], integer, jsonb, text) IS
'Calls one handler for each of many arguments, and returns the id of the flow; its result is the array of the results, in input order.
Parameters:
  handler: what is called
  args: one document a call, each as args of tq_async
  chunk: how many of them one task works off, in one transaction
  task: as in tq_group; its other keys are said of each task
  tenant: NULL = the first schema of search_path
Errors:
  as tq_group: DETAIL says which member
Example: SELECT tq_async_iter(''send_invoice'', ARRAY[''[1, "de"]'', ''[2, "en"]'']::jsonb[]);';
COMMENT ON FUNCTION @extschema@.tq_iter_result(uuid, interval, text) IS
'The result of an iteration: tq_result under the name that Django-Q gives it.
Parameters:
  id: the flow
  wait: as in tq_result
  tenant: NULL = the first schema of search_path
Errors:
  as tq_result: the same
Example: SELECT tq_iter_result(''0198c0de-0000-7000-8000-000000000001'', wait => ''10 seconds'');';
COMMENT ON FUNCTION @extschema@.tq_set_queue(text, integer, text, integer, interval, integer, text, text[], text) IS
'Sets a queue of the tenant up. Of each parameter NULL leaves it as it is. Queues need no set-up: one is there as soon as a task names it.
Parameters:
  queue: its name
  max_running: of its tasks at a time
  rate: starts of its tasks, ''10/m'', ''100/h'', ''5/10s'': a bucket, which lets a burst of the whole number through and then one after the other evenly, so nearly twice as many where a burst meets the next | ''5/s window'': so many in each stretch of the clock | ''5/s sliding'': in any stretch of that length
  priority: of its tasks, where neither they nor their handler say
  timeout: of an attempt, where neither the task nor its handler say
  max_attempts: of its tasks, where neither they nor their handler say
  pick: priority, the default: its tasks are in the tenant''s common order of priority, due time and id | round_robin: the queue has that order for itself and takes turns with the common one and with other such queues, one task each, so that nobody''s urgent flood keeps it from running | random: its place among them is drawn each time
  reset: names of these that go back to none
  tenant: NULL = the first schema of search_path
Errors:
  42501: not the owner
  22023: a value that makes no sense
  54000: more than 1,000 queues set up
  55P03: as of tq_detach
Example: SELECT tq_set_queue(''reports'', max_running => 2, rate => ''100/h'', pick => ''round_robin'');';
COMMENT ON FUNCTION @extschema@.tq_set_limit(text, integer, text, text, text[], text) IS
'What tasks with this limit_key may do, whatever their handlers. Of each parameter NULL leaves it as it is. Rates are counted anew after a restart of the server.
Parameters:
  limit_key: as in tq_async
  max_running: at a time
  rate: starts, ''10/m'', or ''10/m window'' with its algorithm, as in tq_register
  algorithm: said by each call where the rate doesn''t: bucket lets a burst of the whole number through and then one after the other evenly | window counts in fixed windows of time | sliding lets no more start in any stretch of that length, and counts a start up to a sixteenth of it too long. The first two may see almost twice as many where a burst meets the next
  reset: names of these that go back to none
  tenant: NULL = the first schema of search_path
Errors:
  42501: not the owner
  22023: a value that makes no sense
  54000: more than 10,000 limits
  55P03: as of tq_detach
Example: SELECT tq_set_limit(''smtp'', max_running => 3, rate => ''60/m'');';
COMMENT ON FUNCTION @extschema@.tq_result_group(text, boolean, integer, interval, text) IS
'The results of a group''s finished tasks as an array, in the order they were enqueued; NULL while there are none.
Parameters:
  group_id: what they were enqueued with
  failures: true = with the messages of those that did not end done
  count: NULL until at least so many are finished, however they ended
  wait: until count is reached, without it until none of the group is unfinished; at most tenant_q.max_wait; 0 never waits
  tenant: NULL = the first schema of search_path
Errors:
  42501: no right to read
  54000: they take more than one document holds, 256 MB
  22023: a negative count or wait
  25001: waiting under REPEATABLE READ
  55000: waiting inside a task, or for tasks of this very transaction
Example: SELECT tq_result_group(''import-7'', count => 3, wait => ''10 seconds'');';
COMMENT ON FUNCTION @extschema@.tq_fetch_group(text, boolean, integer, interval, text) IS
'The finished tasks of a group, whole, in the order they were enqueued; no row until there are enough.
Parameters:
  group_id: what they were enqueued with
  failures: false leaves out those that did not end done
  count: as in tq_result_group
  wait: as in tq_result_group
  tenant: NULL = the first schema of search_path
Errors:
  as tq_result_group: the same
Example: SELECT id, state, error FROM tq_fetch_group(''import-7'');';
COMMENT ON FUNCTION @extschema@.tq_count_group(text, boolean, text) IS
'How many tasks of a group are finished, however they ended.
Parameters:
  group_id: what they were enqueued with
  failures: true = only those that did not end done
  tenant: NULL = the first schema of search_path
Errors:
  42501: no right to read
Example: SELECT tq_count_group(''import-7'', failures => true);';
COMMENT ON FUNCTION @extschema@.tq_delete_group(text, boolean, text) IS
'Takes the label off the tasks of a group; how many that were.
Parameters:
  group_id: what they were enqueued with
  tasks: true = delete those that are finished; unfinished ones lose the label and go on, and so do finished members of flows that are not, with a NOTICE
  tenant: NULL = the first schema of search_path
Errors:
  42501: no right to operate
Example: SELECT tq_delete_group(''import-7'', tasks => true);';
COMMENT ON FUNCTION @extschema@.tq_queue_size(text, text) IS
'How many tasks of the tenant wait: unfinished ones less those that run. Reads all of them: tq_tenants.queued is the cheap figure.
Parameters:
  queue: of one queue; NULL = of all
  tenant: NULL = the first schema of search_path
Errors:
  42501: no right to read
Example: SELECT tq_queue_size(''mail'');';
COMMENT ON FUNCTION @extschema@.tq_grant(text, text[], text) IS
'Gives a role rights in a tenant, with USAGE on its schema, as its owner''s own GRANTs. Needs to be the schema''s owner.
Parameters:
  role: the bare name of an existing role
  rights: of enqueue (tq_async and kin), read (results, tasks, schedules, arguments included), operate (cancel, requeue, update, delete; schedules; pause and resume), work (run its tasks in an own session; those tasks run as the handler''s role)
  tenant: NULL = the first schema of search_path
Errors:
  42501: not the owner
  42704: no such role
  22023: no such right
  55P03: as of tq_detach
Example: SELECT tq_grant(''app'', ''{enqueue,read}'', tenant => ''acme'');';
COMMENT ON FUNCTION @extschema@.tq_revoke(text, text[], text) IS
'Takes rights from a role that tq_grant gave it. USAGE on the schema stays: other things in it may need it.
Parameters:
  role: as in tq_grant
  rights: as in tq_grant
  tenant: NULL = the first schema of search_path
Errors:
  as tq_grant: the same
Example: SELECT tq_revoke(''app'', ''{read}'', tenant => ''acme'');';
COMMENT ON PROCEDURE @extschema@.tq_grant_all(text, text[]) IS
'tq_grant in every tenant, one transaction each, and in every schema that is attached later. A tenant where it fails is told of in a WARNING, and the others go on: calling it again does what is left, a schema included that another transaction was just attaching. An owner can take the rights back in their tenant.
EXECUTE is granted to nobody by default. Whoever has it can give themselves every right in every tenant.
Parameters:
  role: the bare name of an existing role
  rights: as in tq_grant
Errors:
  42704: no such role
  22023: no such right
  2D000: inside a transaction block
Example: CALL tq_grant_all(''oncall'', ''{operate}'');';
COMMENT ON PROCEDURE @extschema@.tq_revoke_all(text, text[]) IS
'Takes rights from a role in every tenant, one transaction each, whoever gave them, and from what schemas attached later give it. A tenant where it fails is told of in a WARNING, and the others go on.
EXECUTE is granted to nobody by default.
Parameters:
  role: as in tq_grant_all
  rights: as in tq_grant
Errors:
  as tq_grant_all: the same
Example: CALL tq_revoke_all(''oncall'', ''{operate}'');';
COMMENT ON FUNCTION @extschema@.tq_recycle() IS
'Replaces the executors of this database by fresh processes, each when its present task has ended; how many. Workers outside of the server hear ''drain'', of themselves and of what they have (tq_watch). For code that an interpreter has loaded: after a deploy of Python or Perl modules. EXECUTE is granted to nobody by default.
Example: SELECT tq_recycle();';
COMMENT ON FUNCTION @extschema@.tq_progress(double precision, jsonb, uuid) IS
'Says from inside a handler, or with claim as a worker, how far its task is; others see it in tq_running at once, while the task runs.
Parameters:
  fraction: 0 to 1
  note: up to 256 bytes; NULL takes the last one away
  claim: of a worker, as tq_take has returned it
Errors:
  55000: outside of a task, without claim
  TQ007: the claim is gone
  22023: fraction beyond 0 to 1
  54000: note too long
Example: PERFORM tq_progress(0.4, ''{"rows": 4000}'');';
COMMENT ON VIEW @extschema@.tq_failures IS
'The last failed attempts in this database, newest first: as many as tenant_q.failure_ring, since the server started; interrupted ones, which are not counted, too. Seen by members of the tenant''s owner; pg_monitor sees all.
Example: SELECT * FROM tq_failures WHERE at > now() - interval ''10 minutes'';';
COMMENT ON COLUMN @extschema@.tq_failures.at IS 'when the attempt ended';
COMMENT ON COLUMN @extschema@.tq_failures.tenant IS 'the schema';
COMMENT ON COLUMN @extschema@.tq_failures.handler IS 'what failed';
COMMENT ON COLUMN @extschema@.tq_failures.sqlstate IS 'of the error';
COMMENT ON COLUMN @extschema@.tq_failures.message IS 'of the error, cut to 200 bytes; tq_attempts(id) has more';
COMMENT ON COLUMN @extschema@.tq_failures.attempt IS 'which attempt that was';
COMMENT ON COLUMN @extschema@.tq_failures.schedule IS 'the schedule that has made the task';
COMMENT ON COLUMN @extschema@.tq_failures.role IS 'as whom it ran';
COMMENT ON COLUMN @extschema@.tq_failures.id IS 'the task';
COMMENT ON VIEW @extschema@.tq_stats IS
'What each handler of each tenant did since the server started or tq_stats_reset. Times are of attempts. At most tenant_q.max_stats rows; seen as tq_failures are.
Attempts in somebody''s own session (tq_drain, sync) count when they end, whatever becomes of the transaction around them. Flows have rows of their own, tq_group, tq_chain and tq_async_iter: run = from the start of the first member to the end of the last.
Example: SELECT * FROM tq_stats ORDER BY mean_run_time DESC;';
COMMENT ON COLUMN @extschema@.tq_stats.tenant IS 'the schema';
COMMENT ON COLUMN @extschema@.tq_stats.handler IS 'registered name, or tq_group, tq_chain, tq_async_iter: flows';
COMMENT ON COLUMN @extschema@.tq_stats.done IS 'tasks that ended well';
COMMENT ON COLUMN @extschema@.tq_stats.failed IS 'tasks that failed for good';
COMMENT ON COLUMN @extschema@.tq_stats.retried IS 'attempts that failed and left another one';
COMMENT ON COLUMN @extschema@.tq_stats.timeouts IS 'attempts that took too long, counted as failed or retried too';
COMMENT ON COLUMN @extschema@.tq_stats.total_run_time IS 'in the handler, over all attempts';
COMMENT ON COLUMN @extschema@.tq_stats.mean_run_time IS 'in the handler, of an attempt';
COMMENT ON COLUMN @extschema@.tq_stats.max_run_time IS 'in the handler, of the longest attempt';
COMMENT ON COLUMN @extschema@.tq_stats.total_wait_time IS 'from when attempts could run (run_at, or when the task was enqueued if that is later) to their start, over all of them';
COMMENT ON COLUMN @extschema@.tq_stats.mean_wait_time IS 'from when an attempt could run to its start';
COMMENT ON COLUMN @extschema@.tq_stats.max_wait_time IS 'from when an attempt could run to its start, the longest';
COMMENT ON COLUMN @extschema@.tq_stats.since IS 'counted since then';
COMMENT ON FUNCTION @extschema@.tq_stats_reset() IS
'Empties tq_stats of this database: it counts anew. EXECUTE is granted to nobody by default.
Example: SELECT tq_stats_reset();';
COMMENT ON VIEW @extschema@.tq_queues IS
'Queues of the current tenant that have unfinished tasks or were set up. Walks through all unfinished tasks.
Errors:
  42501: no right to read
Example: SELECT * FROM tq_queues ORDER BY lag DESC NULLS LAST;';
COMMENT ON COLUMN @extschema@.tq_queues.queue IS 'its name; default = of tasks that name none';
COMMENT ON COLUMN @extschema@.tq_queues.paused IS 'whether tq_pause stops it';
COMMENT ON COLUMN @extschema@.tq_queues.queued IS 'tasks that are due';
COMMENT ON COLUMN @extschema@.tq_queues.running IS 'tasks that run now';
COMMENT ON COLUMN @extschema@.tq_queues.lag IS 'how long the oldest due one has waited';
COMMENT ON COLUMN @extschema@.tq_queues.delayed IS 'tasks for later';
COMMENT ON COLUMN @extschema@.tq_queues.retrying IS 'tasks that failed before, to be tried again';
COMMENT ON COLUMN @extschema@.tq_queues.waiting IS 'tasks that wait for others, for a key, or for their handler';
COMMENT ON COLUMN @extschema@.tq_queues.max_running IS 'of its tasks at a time: tq_set_queue';
COMMENT ON COLUMN @extschema@.tq_queues.rate IS 'starts of its tasks: tq_set_queue';
COMMENT ON COLUMN @extschema@.tq_queues.priority IS 'of tasks that say none: tq_set_queue';
COMMENT ON COLUMN @extschema@.tq_queues.pick IS 'in which order: tq_set_queue';
COMMENT ON FUNCTION @extschema@.tq_drain(integer, timestamptz, text) IS
'Runs due tasks here and now, inside your transaction, a savepoint each: in the order of picking, those included that they enqueue, until nothing is due. One row an attempt, as the task is after it. A failure is recorded as an executor would, and stops nothing; your ROLLBACK undoes all. For tests; works on servers that don''t preload tenant_q.
Only tasks whose role is the current user are run; others, and procedures, are left with a NOTICE. Your deferred constraints are checked first, as at a commit; afterwards constraints are as declared.
Parameters:
  max_tasks: attempts at most; NULL = no limit
  as_of: tasks and retries due by then run too (now() itself stays what it is); schedules don''t fire
  tenant: NULL = the first schema of search_path
Errors:
  42501: no right to work
  55000: inside a task, or the tenant is paused or not ready
  22023: max_tasks is negative, or as_of infinite
Example: SELECT handler, state, result FROM tq_drain(as_of => now() + interval ''1 day'');';
COMMENT ON PROCEDURE @extschema@.tq_run_pending(text, integer, interval) IS
'Runs due tasks in this session, a transaction each, in the order of picking, until nothing has been due for as long as wait. Beside executors or instead of them: for scripts, tests, and servers that don''t preload tenant_q.
Only tasks whose role is the current user are run; others, and procedures, are left with a NOTICE.
Parameters:
  tenant: NULL = the first schema of search_path
  max_tasks: attempts at most; NULL = no limit
  wait: for something to come due
Errors:
  2D000: inside a transaction block or function, where tq_drain runs what is due
  42501: no right to work
  55000: the tenant is paused or not ready
  22023: max_tasks or wait is negative
Example: CALL tq_run_pending(wait => ''1 second'');';
COMMENT ON TYPE tenant_q.taken IS 'a task that a worker has taken: rows of tq_take';
COMMENT ON COLUMN tenant_q.taken.claim IS 'what tq_finish and its kin know it by; nobody else does';
COMMENT ON COLUMN tenant_q.taken.tenant IS 'whose it is: the schema to work in';
COMMENT ON COLUMN tenant_q.taken.id IS 'of the task; each attempt has the same';
COMMENT ON COLUMN tenant_q.taken.handler IS 'by its registered name';
COMMENT ON COLUMN tenant_q.taken.args IS 'an object by the declared parameters'' names, defaults included; of a handler without params as it was enqueued';
COMMENT ON COLUMN tenant_q.taken.attempt IS 'from 1';
COMMENT ON COLUMN tenant_q.taken.max_attempts IS '0 = for ever';
COMMENT ON COLUMN tenant_q.taken.deadline IS 'until when the attempt must have ended; NULL = it has no timeout';
COMMENT ON COLUMN tenant_q.taken.queue IS '''default'' where the task is in none';
COMMENT ON COLUMN tenant_q.taken.name IS 'as the task was named';
COMMENT ON COLUMN tenant_q.taken.meta IS 'what was passed along with it';
COMMENT ON COLUMN tenant_q.taken.schedule IS 'the schedule that has made it';
COMMENT ON COLUMN tenant_q.taken.scheduled_for IS 'the fire time that it is for';
COMMENT ON COLUMN tenant_q.taken.created_at IS 'when it was enqueued';
COMMENT ON COLUMN tenant_q.taken.shared IS 'its handler is one of all tenants';
COMMENT ON COLUMN tenant_q.taken.each IS 'true = args is an array, and the work is to be done for each element; the result is an array too';
COMMENT ON FUNCTION @extschema@.tq_take(integer, text[], text[], text[], interval, text) IS
'For workers: takes due tasks of external handlers (tq_register with external), of all tenants of this database in which you have the right work, in turns. What is taken runs: its limits and locks hold, until it is ended by tq_finish, tq_give_up or tq_release, in any session of your role. The end of the session that has taken it is the end of the attempt: the task runs again, uncounted. So it needs a connection of its own, none that a pooler shares among clients.
Nothing is written: no lease has to be renewed, but each call of tq_take, tq_await or tq_watch says that the worker lives, and is due within tenant_q.worker_lease.
Parameters:
  n: tasks at most, 1 to 1000
  handlers: those that this worker knows; NULL = all
  queues: those that it serves; NULL = all
  tenants: those that it works for; NULL = all that it may
  wait: how long to wait for one, tenant_q.max_wait at most. It holds a snapshot meanwhile, which keeps vacuum from its work: tq_await doesn''t
  worker: how tq_workers calls it
Errors:
  25001: inside a transaction block
  22023: n is not from 1 to 1000, wait is negative, or a list is empty
  53400: workers of your role have taken as many tasks as are left of tenant_q.max_claims
  55000: the server doesn''t preload tenant_q
Example: SELECT * FROM tq_take(4, handlers => ''{app.tasks.charge,app.tasks.mail}'', worker => ''web-1'');';
COMMENT ON PROCEDURE @extschema@.tq_await(interval, text[], text[], text[]) IS
'For workers: waits until tq_take with the same lists may find a task, or tq_watch has something to tell. It holds no snapshot and costs nothing. Of several workers that wait for the same one is called for each commit that enqueues; who is called and takes nothing within half a second has another one called.
Parameters:
  wait: how long at most; NULL = for ever. Less than tenant_q.worker_lease while you have taken something
  handlers: as of tq_take
  queues: as of tq_take
  tenants: as of tq_take
Errors:
  2D000: inside a transaction block or function
  22023: wait is negative, or a list is empty
  55000: the server doesn''t preload tenant_q
Example: CALL tq_await(''20 seconds'');';
COMMENT ON FUNCTION @extschema@.tq_finish(uuid, jsonb) IS
'For workers: the task is done. It ends with your transaction: what you have written in it and the end of the task are committed together or not at all, so the work is done exactly once. Call it last, for until the transaction is over it holds what any writer of the tenant holds.
Parameters:
  claim: as tq_take has returned it
  result: what tq_result returns of it
Errors:
  TQ007: the claim is gone: ROLLBACK, the work is not yours any more
  42501: you have the right work no more
  0A000: at PREPARE TRANSACTION
Example: SELECT tq_finish(claim, ''{"charge": "ch_1"}'') FROM tq_take(handlers => ''{charge}'');';
COMMENT ON FUNCTION @extschema@.tq_finish_many(uuid[], jsonb[]) IS
'For workers: all of these tasks are done, or, where one claim is gone, none. How many.
Parameters:
  claims: as tq_take has returned them
  results: one for each, in the same order
Errors:
  TQ007: this claim is gone
  22023: as many results as claims
  42501: you have the right work no more
Example: SELECT tq_finish_many(array_agg(claim)) FROM tq_take(4, handlers => ''{charge}'');';
COMMENT ON FUNCTION @extschema@.tq_give_up(uuid, jsonb, interval, boolean) IS
'For workers: the attempt has failed. Its retry policy says whether there is another one: retry_on and never_on of tq_backoff match classes of errors as well, ''requests.Timeout'' or all of ''stripe.error.''. Returns what became of the task, retrying with run_at, or failed.
Call it in a transaction that has written nothing: what the failed attempt has written must be rolled back before.
Parameters:
  claim: as tq_take has returned it
  error: {"message": "...", "class": "...", "traceback": "..."}; sqlstate, detail and hint may be in it
  retry_after: another attempt after so long, whatever the policy says, as of tq_retry
  final: true = there is no other attempt
Columns:
  state: ''retrying'' or ''failed''
  run_at: of the next attempt
Errors:
  25001: the transaction has written something
  TQ007: the claim is gone
  22023: error has no message, or retry_after is negative or beside final
Example: SELECT g.* FROM tq_take(handlers => ''{charge}''), tq_give_up(claim, ''{"message": "card declined", "class": "stripe.error.CardError"}'', final => true) AS g;';
COMMENT ON FUNCTION @extschema@.tq_release(uuid, interval, text, boolean) IS
'For workers: the task goes back to the queue, and no attempt is counted: at a stop, say.
Parameters:
  claim: as tq_take has returned it
  delay: not before so long
  reason: kept in its history where it is put off
  crashed: true = the process that ran it has died with it, which is counted: after tenant_q.max_crashes of them the task is quarantined
Errors:
  25001: the transaction has written something
  TQ007: the claim is gone
  22023: delay is negative
Example: SELECT tq_release(claim, reason => ''the worker stops'') FROM tq_take(handlers => ''{charge}'');';
COMMENT ON FUNCTION @extschema@.tq_watch(interval, uuid[]) IS
'For workers: what has happened to what this session has taken, each thing once: cancel (the task was cancelled), timeout (the attempt is over its deadline), drain (it should end soon or go back: a pause, a smaller quota or tq_recycle asks for that), lost (of those asked for: it isn''t this session''s any more). Who goes on after cancel or timeout for longer than tenant_q.worker_grace has its session ended. Each call says that the worker lives.
Parameters:
  wait: how long to wait for something, tenant_q.max_wait at most; holds a snapshot meanwhile
  claims: these only; NULL = all of the session''s
Columns:
  claim: which of them; NULL: the session, whose worker is to begin anew (tq_recycle)
  what: ''cancel'', ''timeout'', ''drain'' or ''lost''
Errors:
  22023: wait is negative
  55000: the server doesn''t preload tenant_q
Example: SELECT * FROM tq_watch();';
COMMENT ON FUNCTION @extschema@.tq_drain_take(integer, timestamptz, text) IS
'Takes due tasks of external handlers inside your transaction, those included that it has enqueued: for tests of applications. tq_finish, tq_give_up and tq_release end them in the same transaction, also where it has written something; what isn''t ended is given back with the transaction, or the savepoint. Nobody else sees anything of it, and your ROLLBACK undoes all. Works on servers that don''t preload tenant_q.
Flows whose members are done end on the way. What can''t be taken is left with a NOTICE: tasks of handlers that are in the server (tq_drain runs those), and those about which an executor is to ask a condition or a listener first.
Parameters:
  n: tasks at most; NULL = no limit
  as_of: tasks and retries due by then are taken too (now() itself stays what it is); schedules don''t fire
  tenant: NULL = the first schema of search_path
Errors:
  42501: no right to work
  55000: inside a task, or the tenant is paused or not ready
  22023: n is negative, or as_of infinite
Example: SELECT claim, handler, args FROM tq_drain_take(as_of => now() + interval ''1 day'');';
COMMENT ON FUNCTION @extschema@.tq_on(text, text, text, text) IS
'Lets a handler listen to what happens to the tenant''s tasks; it gets the task as one jsonb document, as tq_tasks shows it, with the event''s name under "event". Doing it again changes nothing. Returns the listener''s id. Tasks of a handler that listens fire no events.
Parameters:
  event: called at once, inside the transaction: enqueue (in a session of the listener''s role in the statement that enqueues, in a sandbox: false refuses the task with TQ005, an error passes through; for everybody else before the task runs, by an executor of that role: false ends it as cancelled) | before_run (as the task''s role; false ends the task as cancelled) | after_run (an error fails the attempt); as tasks of their own, enqueued with what they tell: attempt_failed | retry | failed | done | cancelled | expired | schedule_fired
  handler: what is called
  for_handler: tasks of that handler only; tq_group, tq_chain or tq_async_iter: such flows
  tenant: NULL = the first schema of search_path
Errors:
  22023: unknown event, or a handler that doesn''t take the document
  42704: handler not registered
  42501: not the schema''s owner
  54000: more than 1,000 listeners
  55P03: as of tq_detach
Example: SELECT tq_on(''failed'', ''tell_support'', for_handler => ''send_invoice'');';
COMMENT ON FUNCTION @extschema@.tq_off(text, text, text) IS
'Undoes tq_on, for tasks of all handlers; tasks enqueued already stay. False = nothing to undo.
Parameters:
  event: as tq_on was told
  handler: as tq_on was told
  tenant: NULL = the first schema of search_path
Errors:
  22023: unknown event
  42501: not the schema''s owner
  55P03: as of tq_detach
Example: SELECT tq_off(''failed'', ''tell_support'');';
COMMENT ON VIEW @extschema@.tq_events IS
'What the current tenant''s handlers listen to: events of tasks (tq_on) and changes of tables (tq_listen_table).
Example: SELECT * FROM tq_events;';
COMMENT ON COLUMN @extschema@.tq_events.events IS 'of tasks: failed, done and others; of a table: insert, update, delete, truncate';
COMMENT ON COLUMN @extschema@.tq_events.relation IS 'the table; NULL = events of tasks';
COMMENT ON COLUMN @extschema@.tq_events.for_handler IS 'whose tasks; NULL = of all handlers';
COMMENT ON COLUMN @extschema@.tq_events.handler IS 'what is called';
COMMENT ON COLUMN @extschema@.tq_events.status IS 'ok | missing | changed';
COMMENT ON COLUMN @extschema@.tq_events.how IS 'call = inside the transaction, task = a task of its own';
COMMENT ON COLUMN @extschema@.tq_events.each IS 'row | statement, of a table';
COMMENT ON COLUMN @extschema@.tq_events.created_by IS 'who has asked for it';
COMMENT ON COLUMN @extschema@.tq_events.only_if IS 'the condition, of a table; only for whoever may read the tenant''s tasks';
COMMENT ON COLUMN @extschema@.tq_events.task IS 'parameters of the tasks; only for whoever may read the tenant''s tasks';
COMMENT ON FUNCTION @extschema@.tq_listen_table(regclass, text, text[], text, text, jsonb, text) IS
'Enqueues a task of the handler whenever the table changes: in the transaction that changes it, exactly once. Listening again with the same handler replaces; as it is, it touches nothing.
The triggers call a function tq_listen_... of the table''s schema that does nothing without the extension: a dump of the schema restores anywhere.
Whoever may change the table causes the task; it is enqueued with the right of the table''s owner.
Parameters:
  relation: the table
  handler: what its tasks call
  events: of insert, update, delete, truncate
  only_if: the WHEN condition of the trigger, about OLD and NEW; with each => ''row'' only. Names in it are looked up in pg_catalog and in what the table''s owner owns of the tenant''s search_path and the table''s schema; it may use nothing that belongs to a lesser role
  each: ''row'' = a task a row, args {"event", "table", "old", "new"} | ''statement'' = a task for up to 1,000 rows of a statement, args {"event", "table", "rows": [{"old", "new"}]}; none for a statement that changes no row. A truncate has no rows
  task: an object with other parameters of tq_async; with unique_key many changes are one task, which begins after they have committed, and no writer waits for another (on_conflict ''skip'', the default here)
  tenant: NULL = the first schema of search_path
Errors:
  42501: not the table''s owner, its owner may not enqueue, or only_if uses what a lesser role than the table''s owner owns
  42809: not a table
  42704: handler not registered
  22023: a value that makes no sense
  42601, 42703: only_if is no condition; and others, as PostgreSQL raises them
  55P03: as of tq_detach
Example: SELECT tq_listen_table(''orders'', ''order_changed'', only_if => ''NEW.total > 100'', events => ''{insert,update}'');';
COMMENT ON FUNCTION @extschema@.tq_unlisten_table(regclass, text, text) IS
'Undoes tq_listen_table; tasks enqueued already stay. False = nothing to undo.
Parameters:
  relation: the table
  handler: as tq_listen_table was told
  tenant: NULL = the first schema of search_path
Errors:
  42501: not the table''s owner
  55P03: as of tq_detach
Example: SELECT tq_unlisten_table(''orders'', ''order_changed'');';
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
COMMENT ON FUNCTION @extschema@.tq_describe(text) IS
'A rule in words.
Parameters:
  rule: as in tq_schedule
Errors:
  22004: rule is NULL
  22023: the rule makes no sense, with the place in it
Example: SELECT tq_describe(''0 2 * * mon'');';
COMMENT ON FUNCTION @extschema@.tq_register_many(jsonb, boolean, text) IS
'What a deploy declares: handlers and schedules, all or none. Returns how many were new or changed, or were pruned; what is so already isn''t written. Several processes may declare the same at once.
What it has made it keeps in mind, until somebody changes that by hand. Only such handlers and schedules are pruned, and of those only what the same role has declared last: never what somebody has registered by hand, nor what another application''s deploy has. Handlers of all tenants are pruned where doc has one of all tenants.
Parameters:
  doc: {"handlers": [...], "schedules": [...]}. A handler''s keys are parameters of tq_register, a schedule''s those of tq_schedule; which of the two is left out stays as it is
  prune: true = what it has declared before, and is not in these lists any more, goes
  tenant: NULL = the first schema of search_path; it is not asked for where all handlers are shared
Errors:
  as tq_register: with the place of the handler; as tq_schedule: with the place of the schedule
  22004: doc is NULL
  22023: an unknown key, with the nearest one, or a name twice
  2BP01: what is to be pruned listens to something, or a schedule comes after it
Example: SELECT tq_register_many(''{"handlers": [{"handler": "app.tasks.mail", "external": true}], "schedules": [{"name": "digest", "handler": "app.tasks.mail", "rule": "0 7 * * *"}]}'', prune => true);';
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
COMMENT ON FUNCTION @extschema@.tq_unschedule_all(text) IS
'Removes a schedule of all tenants from them, after the commit; tasks that it has enqueued stay. False = there is none. EXECUTE is granted to nobody by default.
Parameters:
  name: the schedule
Errors:
  22004: name is NULL
  2BP01: another one of all tenants comes after it
  40001: others keep changing it
Example: SELECT tq_unschedule_all(''close_day'');';
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
COMMENT ON VIEW @extschema@.tq_tasks IS
'Unfinished tasks of the current tenant, running ones included: all of them, in no order but what ORDER BY says. state and attempt are as of the beginning of the query. Found by an index: id, name, group_id.
Errors:
  3F000: no current tenant
  55000: the schema is not attached
  42501: no right to read
  55P03: its tables are locked
  0A000: with FOR UPDATE
Example: SELECT id, handler, state, run_at FROM tq_tasks ORDER BY created_at;';
COMMENT ON COLUMN @extschema@.tq_tasks.name IS 'as it was enqueued: a label';
COMMENT ON COLUMN @extschema@.tq_tasks.handler IS 'what it calls';
COMMENT ON COLUMN @extschema@.tq_tasks.state IS 'deferred (waits for others) | delayed (until run_at) | queued | running | retrying (after a failed attempt, from run_at on) | held (its handler is paused, missing or quarantined)';
COMMENT ON COLUMN @extschema@.tq_tasks.reason IS 'why it doesn''t run; of one that is retrying what failed: the first line, 200 characters at most. tq_why(id) has all reasons';
COMMENT ON COLUMN @extschema@.tq_tasks.attempt IS 'the one that runs, else how many there were';
COMMENT ON COLUMN @extschema@.tq_tasks.max_attempts IS 'attempts that it has; 0 = any number';
COMMENT ON COLUMN @extschema@.tq_tasks.run_at IS 'not before that; while it is retrying: the next attempt';
COMMENT ON COLUMN @extschema@.tq_tasks.started_at IS 'since when it runs; NULL = it doesn''t';
COMMENT ON COLUMN @extschema@.tq_tasks.finished_at IS 'NULL: here nothing is finished';
COMMENT ON COLUMN @extschema@.tq_tasks.created_at IS 'when it was enqueued';
COMMENT ON COLUMN @extschema@.tq_tasks.queue IS 'its queue';
COMMENT ON COLUMN @extschema@.tq_tasks.priority IS 'higher first';
COMMENT ON COLUMN @extschema@.tq_tasks.schedule IS 'the schedule that has made it';
COMMENT ON COLUMN @extschema@.tq_tasks.scheduled_for IS 'the fire time that it was made for';
COMMENT ON COLUMN @extschema@.tq_tasks.group_id IS 'its group''s label';
COMMENT ON COLUMN @extschema@.tq_tasks.enqueued_by IS 'the role that has enqueued it';
COMMENT ON COLUMN @extschema@.tq_tasks.tenant IS 'the schema';
COMMENT ON COLUMN @extschema@.tq_tasks.id IS 'UUID v7: ordered by when it was enqueued';
COMMENT ON COLUMN @extschema@.tq_tasks.parent_id IS 'the flow that it is a member of';
COMMENT ON COLUMN @extschema@.tq_tasks.error IS 'of the last attempt that failed: {"sqlstate", "message", "detail", "hint", "context"}';
COMMENT ON COLUMN @extschema@.tq_tasks.result IS 'NULL: here nothing is finished';
COMMENT ON COLUMN @extschema@.tq_tasks.args IS 'what the handler is called with';
COMMENT ON COLUMN @extschema@.tq_tasks.meta IS 'what it was enqueued with as meta';
COMMENT ON VIEW @extschema@.tq_results IS
'Finished tasks of the current tenant that are kept: all of them, in no order but what ORDER BY says. Found by an index: id, name, group_id, schedule, finished_at, and state but for done.
Errors:
  3F000: no current tenant
  55000: the schema is not attached
  42501: no right to read
  55P03: its tables are locked
  0A000: with FOR UPDATE
Example: SELECT id, handler, state, result FROM tq_results ORDER BY finished_at DESC LIMIT 10;';
COMMENT ON COLUMN @extschema@.tq_results.name IS 'as it was enqueued: a label';
COMMENT ON COLUMN @extschema@.tq_results.handler IS 'what it calls';
COMMENT ON COLUMN @extschema@.tq_results.state IS 'done | failed | cancelled | expired | quarantined';
COMMENT ON COLUMN @extschema@.tq_results.reason IS 'why it has not ended well: the first line of the error''s message, 200 characters at most; NULL = done';
COMMENT ON COLUMN @extschema@.tq_results.attempt IS 'how many attempts there were';
COMMENT ON COLUMN @extschema@.tq_results.max_attempts IS 'attempts that it has; 0 = any number';
COMMENT ON COLUMN @extschema@.tq_results.run_at IS 'not before that: of the last attempt';
COMMENT ON COLUMN @extschema@.tq_results.started_at IS 'when the last attempt began; NULL = there was none';
COMMENT ON COLUMN @extschema@.tq_results.finished_at IS 'when it ended';
COMMENT ON COLUMN @extschema@.tq_results.created_at IS 'when it was enqueued';
COMMENT ON COLUMN @extschema@.tq_results.queue IS 'its queue';
COMMENT ON COLUMN @extschema@.tq_results.priority IS 'higher first';
COMMENT ON COLUMN @extschema@.tq_results.schedule IS 'the schedule that has made it';
COMMENT ON COLUMN @extschema@.tq_results.scheduled_for IS 'the fire time that it was made for';
COMMENT ON COLUMN @extschema@.tq_results.group_id IS 'its group''s label';
COMMENT ON COLUMN @extschema@.tq_results.enqueued_by IS 'the role that has enqueued it';
COMMENT ON COLUMN @extschema@.tq_results.tenant IS 'the schema';
COMMENT ON COLUMN @extschema@.tq_results.id IS 'UUID v7: ordered by when it was enqueued';
COMMENT ON COLUMN @extschema@.tq_results.parent_id IS 'the flow that it is a member of';
COMMENT ON COLUMN @extschema@.tq_results.error IS '{"sqlstate", "message", "detail", "hint", "context"}; NULL = done';
COMMENT ON COLUMN @extschema@.tq_results.result IS 'what the handler has returned; JSON null = null or void, SQL NULL = none';
COMMENT ON COLUMN @extschema@.tq_results.args IS 'what the handler is called with';
COMMENT ON COLUMN @extschema@.tq_results.meta IS 'what it was enqueued with as meta';
COMMENT ON VIEW @extschema@.tq_schedules IS
'Schedules of the current tenant: all of them, in no order but what ORDER BY says. Found by an index: name, next_run.
Errors:
  3F000: no current tenant
  55000: the schema is not attached
  42501: no right to read
  55P03: its tables are locked
  0A000: with FOR UPDATE
Example: SELECT name, rule, next_run, last_status FROM tq_schedules ORDER BY next_run;';
COMMENT ON COLUMN @extschema@.tq_schedules.name IS 'one of its name a tenant';
COMMENT ON COLUMN @extschema@.tq_schedules.handler IS 'what its tasks call';
COMMENT ON COLUMN @extschema@.tq_schedules.rule IS 'as tq_schedule was given it';
COMMENT ON COLUMN @extschema@.tq_schedules.enabled IS 'whether it fires';
COMMENT ON COLUMN @extschema@.tq_schedules.next_run IS 'the next fire time; NULL = none: it is over, disabled, or fires after others only';
COMMENT ON COLUMN @extschema@.tq_schedules.last_run IS 'the last fire time that was served';
COMMENT ON COLUMN @extschema@.tq_schedules.last_status IS 'state of last_task; skipped = its only_if was not true';
COMMENT ON COLUMN @extschema@.tq_schedules.problem IS 'why it does not fire; tq_problems has the mending call';
COMMENT ON COLUMN @extschema@.tq_schedules.tz IS 'the zone that the rule is in';
COMMENT ON COLUMN @extschema@.tq_schedules.kind IS 'what the rule is';
COMMENT ON COLUMN @extschema@.tq_schedules.run_count IS 'tasks that it has made';
COMMENT ON COLUMN @extschema@.tq_schedules.fail_count IS 'of these, those that failed for good';
COMMENT ON COLUMN @extschema@.tq_schedules.repeats IS 'tasks that it may still make; -1 = any number';
COMMENT ON COLUMN @extschema@.tq_schedules.after IS 'schedules after which it fires';
COMMENT ON COLUMN @extschema@.tq_schedules.tags IS 'as tq_schedule was given them';
COMMENT ON COLUMN @extschema@.tq_schedules.description IS 'in words, as tq_schedule was given it';
COMMENT ON COLUMN @extschema@.tq_schedules.of_all IS 'made by tq_schedule_all, for every tenant';
COMMENT ON COLUMN @extschema@.tq_schedules.created_by IS 'who answers for it: whoever made or changed it last';
COMMENT ON COLUMN @extschema@.tq_schedules.last_task IS 'id of the last task that it has made';
COMMENT ON COLUMN @extschema@.tq_schedules.args IS 'what the handler is called with';
COMMENT ON VIEW @extschema@.tq_tenants IS
'Tenants of this database that you may see: members of the owner do, pg_monitor sees all. Counts are since the server started.
Example: SELECT tenant, queued, lag FROM tq_tenants ORDER BY lag DESC NULLS LAST;';
COMMENT ON COLUMN @extschema@.tq_tenants.tenant IS 'the schema';
COMMENT ON COLUMN @extschema@.tq_tenants.status IS 'on, or what keeps all of its tasks, in the words of tq_why: paused, not_ready, copy, disabled, tables, ...';
COMMENT ON COLUMN @extschema@.tq_tenants.reason IS 'what keeps its tasks, or some of them, for people, with the calls that end it';
COMMENT ON COLUMN @extschema@.tq_tenants.queued IS 'unfinished tasks that don''t run, later ones included, as shared memory knows';
COMMENT ON COLUMN @extschema@.tq_tenants.running IS 'tasks that run now';
COMMENT ON COLUMN @extschema@.tq_tenants.lag IS 'for how long the first of those that are due and not picked has waited since it could run; NULL = there is none';
COMMENT ON COLUMN @extschema@.tq_tenants.eta IS 'until they are done at the rate of the last minutes; NULL = nothing was done';
COMMENT ON COLUMN @extschema@.tq_tenants.next_due IS 'when something comes due next';
COMMENT ON COLUMN @extschema@.tq_tenants.done IS 'tasks that ended well since the server started';
COMMENT ON COLUMN @extschema@.tq_tenants.failed IS 'tasks that failed for good since the server started';
COMMENT ON COLUMN @extschema@.tq_tenants.retried IS 'attempts that failed and left another one, since the server started';
COMMENT ON COLUMN @extschema@.tq_tenants.done_1m IS 'done in this minute and the last';
COMMENT ON COLUMN @extschema@.tq_tenants.failed_1m IS 'failed in this minute and the last';
COMMENT ON COLUMN @extschema@.tq_tenants.weight IS 'its share of the executors'' time: tq_set_quota';
COMMENT ON COLUMN @extschema@.tq_tenants.max_running IS 'of its tasks at a time: tq_set_quota; NULL = no limit';
COMMENT ON COLUMN @extschema@.tq_tenants.max_queued IS 'of its tasks unfinished: tq_set_quota; NULL = no limit';
COMMENT ON COLUMN @extschema@.tq_tenants.owner IS 'the schema''s owner';
COMMENT ON VIEW @extschema@.tq_running IS
'Tasks that run in this database now, of tenants that you may see.
Example: SELECT * FROM tq_running ORDER BY since;';
COMMENT ON COLUMN @extschema@.tq_running.tenant IS 'the schema';
COMMENT ON COLUMN @extschema@.tq_running.handler IS 'what runs';
COMMENT ON COLUMN @extschema@.tq_running.attempt IS 'which attempt that is';
COMMENT ON COLUMN @extschema@.tq_running.state IS 'running | finishing (a worker''s transaction that ends it is still open)';
COMMENT ON COLUMN @extschema@.tq_running.since IS 'when it began';
COMMENT ON COLUMN @extschema@.tq_running.progress IS '0 to 1, as the task said last with tq_progress';
COMMENT ON COLUMN @extschema@.tq_running.wait_event IS 'what its process waits for; NULL = it works';
COMMENT ON COLUMN @extschema@.tq_running.blocked_by IS 'the processes that hold the lock it waits for';
COMMENT ON COLUMN @extschema@.tq_running.deadline IS 'when its timeout is over; NULL = none';
COMMENT ON COLUMN @extschema@.tq_running.worker IS 'of a worker''s: what it calls itself';
COMMENT ON COLUMN @extschema@.tq_running.pid IS 'its process; of a worker''s the session that has taken it, or that ends it';
COMMENT ON COLUMN @extschema@.tq_running.role IS 'as whom it runs';
COMMENT ON COLUMN @extschema@.tq_running.xmin_age IS 'transactions since the oldest one whose effects it keeps from being cleaned up';
COMMENT ON COLUMN @extschema@.tq_running.listed IS 'tasks picked by the same executor that wait behind it';
COMMENT ON COLUMN @extschema@.tq_running.id IS 'the task';
COMMENT ON COLUMN @extschema@.tq_running.note IS 'what the task said last with tq_progress';
COMMENT ON VIEW @extschema@.tq_workers IS
'The launcher, schedulers and executors of the server, and sessions through which workers outside of it take tasks.
Reasons to wake up: call (somebody told it), more (it went on without a sleep), due (a task or schedule), sweep, databases (which there are), clock (was it set), retry (of a start), stuck (a list behind a long task), cancel (to be repeated), watch (somebody waits for a place), idle, spread (work for all tenants), locked (by somebody). Whoever wakes in vain again and again for one reason does so less and less often, once a minute in the end; tq_health() says so in its row wakes.
Example: SELECT kind, pid, wakes, vain FROM tq_workers;';
COMMENT ON COLUMN @extschema@.tq_workers.kind IS 'launcher | scheduler | executor | external';
COMMENT ON COLUMN @extschema@.tq_workers.name IS 'of an external one: what it calls itself';
COMMENT ON COLUMN @extschema@.tq_workers.state IS 'on | sweeping (a scheduler) | starting | running | idle (executors) | waiting (external ones, in tq_await)';
COMMENT ON COLUMN @extschema@.tq_workers.database IS 'that it is connected to';
COMMENT ON COLUMN @extschema@.tq_workers.role IS 'of an executor: as whom its tasks run; of an external one: who takes';
COMMENT ON COLUMN @extschema@.tq_workers.claims IS 'of an external one: what it has taken and not ended';
COMMENT ON COLUMN @extschema@.tq_workers.handlers IS 'of an external one: those that it offers, as far as there is room for their names; NULL = all';
COMMENT ON COLUMN @extschema@.tq_workers.host IS 'of an external one: where its client is';
COMMENT ON COLUMN @extschema@.tq_workers.pid IS 'the process; NULL = it has not begun';
COMMENT ON COLUMN @extschema@.tq_workers.since IS 'when it began';
COMMENT ON COLUMN @extschema@.tq_workers.tasks_done IS 'attempts that ended well in it';
COMMENT ON COLUMN @extschema@.tq_workers.tasks_failed IS 'attempts that failed in it';
COMMENT ON COLUMN @extschema@.tq_workers.listed IS 'tasks that it has picked and not begun';
COMMENT ON COLUMN @extschema@.tq_workers.wakes IS 'how often it has woken up, by reason';
COMMENT ON COLUMN @extschema@.tq_workers.vain IS 'how often nothing came of that, by reason';
COMMENT ON VIEW @extschema@.tq_all_schedules IS
'Schedules of all tenants that you may see: members of the owner do, pg_monitor sees all. Arguments are not shown. A tenant whose tables can not be read has a row without a name, and problem says why.
Reads the tables of every tenant each time, one after the other, whatever WHERE says: about a second for a thousand tenants the first time in a session, which keeps 20 kB for each.
Example: SELECT tenant, name, last_success FROM tq_all_schedules WHERE enabled AND last_success < now() - interval ''25 hours'';';
COMMENT ON COLUMN @extschema@.tq_all_schedules.tenant IS 'the schema';
COMMENT ON COLUMN @extschema@.tq_all_schedules.name IS 'of the schedule; NULL: the tables can not be read';
COMMENT ON COLUMN @extschema@.tq_all_schedules.handler IS 'what it calls';
COMMENT ON COLUMN @extschema@.tq_all_schedules.rule IS 'when, as it was given';
COMMENT ON COLUMN @extschema@.tq_all_schedules.enabled IS 'false = it does not fire';
COMMENT ON COLUMN @extschema@.tq_all_schedules.next_run IS 'when it fires next; NULL: never';
COMMENT ON COLUMN @extschema@.tq_all_schedules.last_run IS 'when it last made a task';
COMMENT ON COLUMN @extschema@.tq_all_schedules.last_status IS 'what has become of that task';
COMMENT ON COLUMN @extschema@.tq_all_schedules.last_success IS 'when one of its tasks last ended well, also where no result is kept; NULL: none has';
COMMENT ON COLUMN @extschema@.tq_all_schedules.last_failure IS 'when one of its tasks last failed for good, expired or was quarantined; NULL: none has';
COMMENT ON COLUMN @extschema@.tq_all_schedules.run_count IS 'tasks made';
COMMENT ON COLUMN @extschema@.tq_all_schedules.fail_count IS 'tasks that failed for good';
COMMENT ON COLUMN @extschema@.tq_all_schedules.problem IS 'why it does not fire; tq_problems has the mending call';
COMMENT ON COLUMN @extschema@.tq_all_schedules.of_all IS 'made by tq_schedule_all for every tenant';
COMMENT ON VIEW @extschema@.tq_problems IS
'What is skipped or waits for somebody, why, and SQL that mends it and keeps what was said. Pauses are among them as long as something waits for their end. What a tenant''s rows say (schedules, quarantined tasks) is told to those who may read them, and to pg_monitor.
Example: SELECT * FROM tq_problems;';
COMMENT ON COLUMN @extschema@.tq_problems.what IS 'what is skipped or waits';
COMMENT ON COLUMN @extschema@.tq_problems.since IS 'since when';
COMMENT ON COLUMN @extschema@.tq_problems.reason IS 'why, for people';
COMMENT ON COLUMN @extschema@.tq_problems.fix IS 'SQL that mends it, to be run as it stands; NULL = it ends by itself, or the reason says what to do';
COMMENT ON FUNCTION @extschema@.tq_health() IS
'Is anything running at all, and what is wrong with the engine or with what it stands on: a row a check.
Columns:
  check_name: preloaded | version | server_version (is its minor one new enough) | enabled | functions (do handlers find tq_current) | launcher | database (served, standby, ...) | scheduler | pauses (that hold something up; hint: what ends them) | worker_slots | wakes | roles | workers (outside of the server) | claims (may workers take what waits for them) | places | shared_memory | prepared (transactions) | sweep | disk (for pg_monitor) | restart | xmin | xid_age | bloat
  ok: whether it is well
  value: what was found
  detail: what that means; only where it is not ok
  hint: what to do; only where it is not ok
Example: SELECT * FROM tq_health() WHERE NOT ok;';
COMMENT ON VIEW @extschema@.tq_metrics IS
'Figures for exporters: a row a sample, in the manner of Prometheus. Per tenant and per handler those that you may see, of the server for pg_monitor.
tenant_q_up: 1 where tasks of this database are started; else 0, and tenant_q_stopped is 1 for the reason. tenant_q_health: 1 for each check of tq_health() that is ok. tenant_q_tenant_up: 1 for a tenant whose status in tq_tenants is on. tenant_q_tenants: how many by status. tenant_q_pauses: those in force, of all tenants, of a tenant, of a part (queue or handler). tenant_q_problems: by reason, what tq_problems has of the server, its roles, tenants and pauses, without what it finds in the tables of tenants. Reasons are in the words of tq_why.
Example: SELECT name, labels, value FROM tq_metrics;';
COMMENT ON COLUMN @extschema@.tq_metrics.name IS 'tenant_q_..., in the manner of Prometheus; what ends in _total only grows while the server runs';
COMMENT ON COLUMN @extschema@.tq_metrics.labels IS 'an object of texts: what the sample is of';
COMMENT ON COLUMN @extschema@.tq_metrics.value IS 'the sample';
COMMENT ON FUNCTION @extschema@.tq_confirm_copy() IS
'Says that this database, a restored or copied one, is to run its tasks and schedules from now on. EXECUTE is granted to nobody by default.
Example: SELECT tq_confirm_copy();';
COMMENT ON PROCEDURE @extschema@.tq_upgrade(text) IS
'After ALTER EXTENSION tenant_q UPDATE: makes the indexes that tables attached by an older version lack, a tenant at a time and a transaction each. Meanwhile all work; the tasks of the tenant whose index is being built end a moment later. EXECUTE is granted to nobody by default.
Whose tables somebody holds for five seconds, or are not as tq_attach made them, is left out with a warning that says why; what is complete is passed by, so it can be called again.
Parameters:
  pattern: tenants whose name is LIKE it
Errors:
  2D000: inside a transaction block or function
Example: CALL tq_upgrade();';
