-- What can be seen. The functions behind the views decide what the caller may see.

CREATE FUNCTION tenant_q.tasks(finished boolean, tenant text DEFAULT NULL) RETURNS jsonb
LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'tenant_q_tasks';
COMMENT ON FUNCTION tenant_q.tasks(boolean, text) IS 'behind the views tq_tasks and tq_results';
CREATE FUNCTION tenant_q.tenants() RETURNS jsonb
LANGUAGE c STABLE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tenant_q_tenants';
COMMENT ON FUNCTION tenant_q.tenants() IS 'behind tq_tenants';
CREATE FUNCTION tenant_q.running() RETURNS jsonb
LANGUAGE c STABLE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tenant_q_running';
COMMENT ON FUNCTION tenant_q.running() IS 'behind tq_running';
CREATE FUNCTION tenant_q.workers() RETURNS jsonb
LANGUAGE c STABLE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tenant_q_workers';
COMMENT ON FUNCTION tenant_q.workers() IS 'behind tq_workers';
CREATE FUNCTION tenant_q.problems() RETURNS jsonb
LANGUAGE c STABLE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tenant_q_problems';
COMMENT ON FUNCTION tenant_q.problems() IS 'behind tq_problems';
CREATE FUNCTION tenant_q.health() RETURNS jsonb
LANGUAGE c STABLE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tenant_q_health';
COMMENT ON FUNCTION tenant_q.health() IS 'behind tq_health';

CREATE VIEW @extschema@.tq_tasks AS
    SELECT x.id, x.tenant, x.handler, x.name, x.state, x.reason, x.args OPERATOR(pg_catalog.->) 0 AS args, x.result OPERATOR(pg_catalog.->) 0 AS result, x.error, x.attempt, x.max_attempts, x.queue, x.priority, x.group_id, x.parent_id, x.schedule, x.scheduled_for, x.created_at, x.run_at, x.started_at, x.finished_at, x.enqueued_by, x.meta
      FROM pg_catalog.jsonb_to_recordset(tenant_q.tasks(false)) AS x(id uuid, tenant text, handler text, name text, state text, reason text, args jsonb, result jsonb, error jsonb, attempt integer, max_attempts integer, queue text, priority integer, group_id text, parent_id uuid, schedule text, scheduled_for timestamptz, created_at timestamptz, run_at timestamptz, started_at timestamptz, finished_at timestamptz, enqueued_by text, meta jsonb);
COMMENT ON VIEW @extschema@.tq_tasks IS 'Unfinished tasks of the current tenant, running ones included; at most tenant_q.view_rows. Example: SELECT id, handler, state, run_at FROM tq_tasks;';
GRANT SELECT ON @extschema@.tq_tasks TO PUBLIC;

CREATE VIEW @extschema@.tq_results AS
    SELECT x.id, x.tenant, x.handler, x.name, x.state, x.reason, x.args OPERATOR(pg_catalog.->) 0 AS args, x.result OPERATOR(pg_catalog.->) 0 AS result, x.error, x.attempt, x.max_attempts, x.queue, x.priority, x.group_id, x.parent_id, x.schedule, x.scheduled_for, x.created_at, x.run_at, x.started_at, x.finished_at, x.enqueued_by, x.meta
      FROM pg_catalog.jsonb_to_recordset(tenant_q.tasks(true)) AS x(id uuid, tenant text, handler text, name text, state text, reason text, args jsonb, result jsonb, error jsonb, attempt integer, max_attempts integer, queue text, priority integer, group_id text, parent_id uuid, schedule text, scheduled_for timestamptz, created_at timestamptz, run_at timestamptz, started_at timestamptz, finished_at timestamptz, enqueued_by text, meta jsonb);
COMMENT ON VIEW @extschema@.tq_results IS 'Finished tasks of the current tenant, newest first; at most tenant_q.view_rows. Example: SELECT id, handler, state, result FROM tq_results;';
GRANT SELECT ON @extschema@.tq_results TO PUBLIC;

CREATE VIEW @extschema@.tq_schedules AS
    SELECT x.name, x.handler, x.rule, x.kind, x.tz, x.args OPERATOR(pg_catalog.->) 0 AS args, x.enabled, x.next_run, x.repeats, x.last_run, x.last_task, x.last_status, x.run_count, x.fail_count, x.after, x.problem, x.tags, x.description, x.created_by, x.of_all
      FROM pg_catalog.jsonb_to_recordset(tenant_q.schedules()) AS x(name text, handler text, rule text, kind text, tz text, args jsonb, enabled boolean, next_run timestamptz, repeats integer, last_run timestamptz, last_task uuid, last_status text, run_count bigint, fail_count bigint, after text[], problem text, tags text[], description text, created_by text, of_all boolean);
COMMENT ON VIEW @extschema@.tq_schedules IS 'Schedules of the current tenant. kind: what the rule is. last_status: of last_task; skipped = its only_if was not true. run_count, fail_count: tasks made, and tasks that failed for good. problem: why it does not fire (tq_problems has the mending call). tags: what tq_schedule was given. of_all: made by tq_schedule_all for every tenant. At most tenant_q.view_rows, with a NOTICE where there is more. Example: SELECT name, rule, next_run, last_status FROM tq_schedules;';
GRANT SELECT ON @extschema@.tq_schedules TO PUBLIC;

CREATE VIEW @extschema@.tq_handlers AS
    SELECT x.tenant, x.handler, x.function, x.shared, x.status, x.reason, x.guarantee, x.run_as, x.queue, x.priority, x.timeout, x.max_attempts, x.retry, x.save, x.settings, x.expires, x.max_running, x.rate, x.result_ttl, x.aliases
      FROM pg_catalog.jsonb_to_recordset(tenant_q.handlers()) AS x(tenant text, handler text, function text, shared boolean, status text, reason text, guarantee text, run_as text, queue text, priority integer, timeout interval, max_attempts integer, retry jsonb, save boolean, settings jsonb, expires interval, max_running integer, rate text, result_ttl interval, aliases text[]);
COMMENT ON VIEW @extschema@.tq_handlers IS 'Handlers of the current tenant, shared ones included. status: ok | missing | changed | paused | quarantined. guarantee: exactly_once for functions; at_least_once for procedures, which may COMMIT. The rest is what tq_register was told; settings only for whoever may read the tenant''s tasks. Example: SELECT * FROM tq_handlers WHERE status <> ''ok'';';
GRANT SELECT ON @extschema@.tq_handlers TO PUBLIC;

CREATE VIEW @extschema@.tq_tenants AS
    SELECT x.tenant, x.owner, x.status, x.reason, x.queued, x.running, x.done, x.failed, x.retried, x.lag, x.next_due, x.done_1m, x.failed_1m, x.eta, x.weight, x.max_running, x.max_queued
      FROM pg_catalog.jsonb_to_recordset(tenant_q.tenants()) AS x(tenant text, owner text, status text, reason text, queued bigint, running integer, done bigint, failed bigint, retried bigint, lag interval, next_due timestamptz, done_1m bigint, failed_1m bigint, eta interval, weight integer, max_running integer, max_queued integer);
COMMENT ON VIEW @extschema@.tq_tenants IS 'Tenants of this database that you may see (members of the owner; pg_monitor sees all). Counts are since the server started; queued counts what shared memory knows; lag: how long the oldest due task has waited. Example: SELECT tenant, queued, lag FROM tq_tenants ORDER BY lag DESC NULLS LAST;';
GRANT SELECT ON @extschema@.tq_tenants TO PUBLIC;

CREATE VIEW @extschema@.tq_running AS
    SELECT x.tenant, x.id, x.handler, x.attempt, x.pid, x.role, x.since, x.deadline, x.progress, x.note, x.wait_event, x.blocked_by, x.xmin_age, x.listed
      FROM pg_catalog.jsonb_to_recordset(tenant_q.running()) AS x(tenant text, id uuid, handler text, attempt integer, pid integer, role text, since timestamptz, deadline timestamptz, progress double precision, note jsonb, wait_event text, blocked_by integer[], xmin_age integer, listed integer);
COMMENT ON VIEW @extschema@.tq_running IS 'Tasks that run in this database now. progress, note: what the task said last with tq_progress. wait_event: what its process waits for, NULL = it works. blocked_by: the processes that hold the lock it waits for. xmin_age: transactions since the oldest one whose effects it keeps from being cleaned up. listed: picked by the same executor and waiting behind it. Example: SELECT * FROM tq_running ORDER BY since;';
GRANT SELECT ON @extschema@.tq_running TO PUBLIC;

CREATE VIEW @extschema@.tq_workers AS
    SELECT x.kind, x.pid, x.database, x.role, x.state, x.since, x.tasks_done, x.tasks_failed, x.listed, x.wakes, x.vain
      FROM pg_catalog.jsonb_to_recordset(tenant_q.workers()) AS x(kind text, pid integer, database text, role text, state text, since timestamptz, tasks_done bigint, tasks_failed bigint, listed integer, wakes jsonb, vain jsonb);
COMMENT ON VIEW @extschema@.tq_workers IS 'The launcher, schedulers and executors of the server. wakes: how often the process has woken up since it began, by reason; vain: and nothing came of it. Reasons: call (somebody told it), more (it went on without a sleep), due (a task or schedule), sweep, databases (which there are), clock (was it set), retry (of a start), stuck (a list behind a long task), cancel (to be repeated), watch (somebody waits for a place), idle, spread (work for all tenants), locked (by somebody). Whoever wakes in vain again and again for one reason does so less and less often, once a minute in the end; tq_health() says so in its row wakes. Example: SELECT kind, pid, wakes, vain FROM tq_workers;';
GRANT SELECT ON @extschema@.tq_workers TO PUBLIC;

CREATE VIEW @extschema@.tq_problems AS
    SELECT x.what, x.since, x.reason, x.fix
      FROM pg_catalog.jsonb_to_recordset(tenant_q.problems()) AS x(what text, since timestamptz, reason text, fix text);
COMMENT ON VIEW @extschema@.tq_problems IS 'What is skipped, why, and the exact call that mends it. Example: SELECT * FROM tq_problems;';
GRANT SELECT ON @extschema@.tq_problems TO PUBLIC;

CREATE FUNCTION @extschema@.tq_health() RETURNS TABLE (check_name text, ok boolean, value text, detail text, hint text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $body$
    SELECT x.check_name, x.ok, x.value, x.detail, x.hint
      FROM pg_catalog.jsonb_to_recordset(tenant_q.health()) AS x(check_name text, ok boolean, value text, detail text, hint text)
    -- What of the server concerns queues. Who isn't in pg_monitor sees of others' sessions nothing.
    UNION ALL
    SELECT 'restart', count(*) OPERATOR(pg_catalog.=) 0, coalesce(string_agg(s.name, ', ' ORDER BY s.name), 'not needed'),
           CASE WHEN count(*) OPERATOR(pg_catalog.>) 0 THEN 'Settings were changed that take effect at a restart.' END,
           CASE WHEN count(*) OPERATOR(pg_catalog.>) 0 THEN 'Restart the server.' END
      FROM pg_catalog.pg_settings s
     WHERE s.pending_restart AND (s.name OPERATOR(pg_catalog.~~) 'tenant\_q.%' OR s.name OPERATOR(pg_catalog.=) ANY (ARRAY['max_worker_processes', 'shared_preload_libraries']))
    UNION ALL
    SELECT 'xmin', x.old OPERATOR(pg_catalog.<) 1000000, format('%s transactions old, held by %s', x.old, coalesce(x.who, 'nobody')),
           CASE WHEN x.old OPERATOR(pg_catalog.>=) 1000000 THEN 'Rows of finished tasks can''t be removed by VACUUM while it is held; picks stay fast, tables grow.' END,
           CASE WHEN x.old OPERATOR(pg_catalog.>=) 1000000 THEN 'End that transaction, or drop that replication slot or prepared transaction.' END
      FROM (SELECT coalesce(max(h.old), 0) AS old, (array_agg(h.who ORDER BY h.old DESC))[1] AS who
              FROM (SELECT age(a.backend_xmin) AS old, format('process %s', a.pid) AS who FROM pg_catalog.pg_stat_activity a
                     WHERE a.backend_xmin IS NOT NULL AND a.datname OPERATOR(pg_catalog.=) current_database()
                    UNION ALL
                    SELECT greatest(age(r.xmin), age(r.catalog_xmin)), format('replication slot %s', r.slot_name) FROM pg_catalog.pg_replication_slots r
                     WHERE coalesce(r.xmin, r.catalog_xmin) IS NOT NULL
                    UNION ALL
                    SELECT age(p.transaction), format('prepared transaction %s', p.gid) FROM pg_catalog.pg_prepared_xacts p
                     WHERE p.database OPERATOR(pg_catalog.=) current_database()) AS h) AS x
    UNION ALL
    SELECT 'xid_age', d.old OPERATOR(pg_catalog.<) 1000000000, format('%s transactions', d.old),
           CASE WHEN d.old OPERATOR(pg_catalog.>=) 1000000000 THEN 'Every task takes a transaction id, and VACUUM does not keep up with freezing.' END,
           CASE WHEN d.old OPERATOR(pg_catalog.>=) 1000000000 THEN 'See that autovacuum runs and nothing holds it up (xmin); VACUUM (FREEZE) the oldest tables.' END
      FROM (SELECT age(b.datfrozenxid) AS old FROM pg_catalog.pg_database b WHERE b.datname OPERATOR(pg_catalog.=) current_database()) AS d
    UNION ALL
    SELECT 'bloat', w.dead OPERATOR(pg_catalog.<) 1000000, format('%s dead rows in %s', w.dead, w.what),
           CASE WHEN w.dead OPERATOR(pg_catalog.>=) 1000000 THEN 'Autovacuum does not keep up with this queue.' END,
           CASE WHEN w.dead OPERATOR(pg_catalog.>=) 1000000 THEN format('See xmin; raise autovacuum_max_workers or its cost limit, or VACUUM %s.', w.what) END
      FROM (SELECT coalesce(max(q.dead), 0) AS dead, coalesce((array_agg(q.what ORDER BY q.dead DESC))[1], 'no table') AS what
              FROM (SELECT pg_stat_get_dead_tuples(c.oid) AS dead, format('%I.%I', n.nspname, c.relname) AS what
                      FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
                     WHERE c.relkind OPERATOR(pg_catalog.=) 'r' AND c.relname OPERATOR(pg_catalog.=) ANY (ARRAY['tq_task', 'tq_result', 'tq_schedule']::name[])
                       AND has_table_privilege(c.oid, 'SELECT')) AS q) AS w
$body$;
COMMENT ON FUNCTION @extschema@.tq_health() IS 'Is anything running at all, and what is wrong with the engine or with what it stands on: a row a check. value: what was found; detail and hint: only where it is not ok. Checks: preloaded, version, enabled, launcher, database, scheduler, worker_slots, wakes, roles, places, shared_memory, sweep, disk (for pg_monitor), restart, xmin, xid_age, bloat. Example: SELECT * FROM tq_health() WHERE NOT ok;';

CREATE FUNCTION tenant_q.created() RETURNS void
LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tenant_q_created';
COMMENT ON FUNCTION tenant_q.created() IS 'tells the launcher of this database';
REVOKE ALL ON FUNCTION tenant_q.created() FROM PUBLIC;
SELECT tenant_q.created();
