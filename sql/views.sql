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

CREATE VIEW @extschema@.tq_tasks AS
    SELECT x.id, x.tenant, x.handler, x.name, x.state, x.reason, x.args OPERATOR(pg_catalog.->) 0 AS args, x.result OPERATOR(pg_catalog.->) 0 AS result, x.error, x.attempt, x.max_attempts, x.queue, x.priority, x.group_id, x.parent_id, x.schedule, x.scheduled_for, x.created_at, x.run_at, x.started_at, x.finished_at, x.enqueued_by, x.meta
      FROM pg_catalog.jsonb_populate_recordset(NULL::tenant_q.task, tenant_q.tasks(false)) AS x;
COMMENT ON VIEW @extschema@.tq_tasks IS 'Unfinished tasks of the current tenant, running ones included; at most tenant_q.view_rows. Example: SELECT id, handler, state, run_at FROM tq_tasks;';
GRANT SELECT ON @extschema@.tq_tasks TO PUBLIC;

CREATE VIEW @extschema@.tq_results AS
    SELECT x.id, x.tenant, x.handler, x.name, x.state, x.reason, x.args OPERATOR(pg_catalog.->) 0 AS args, x.result OPERATOR(pg_catalog.->) 0 AS result, x.error, x.attempt, x.max_attempts, x.queue, x.priority, x.group_id, x.parent_id, x.schedule, x.scheduled_for, x.created_at, x.run_at, x.started_at, x.finished_at, x.enqueued_by, x.meta
      FROM pg_catalog.jsonb_populate_recordset(NULL::tenant_q.task, tenant_q.tasks(true)) AS x;
COMMENT ON VIEW @extschema@.tq_results IS 'Finished tasks of the current tenant, newest first; at most tenant_q.view_rows. Example: SELECT id, handler, state, result FROM tq_results;';
GRANT SELECT ON @extschema@.tq_results TO PUBLIC;

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
