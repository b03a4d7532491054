-- What can be seen. The functions behind the views decide what the caller may see.

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

CREATE FUNCTION tenant_q.tenant_rows() RETURNS TABLE (tenant text, owner text, status text, reason text, queued bigint, running integer, done bigint, failed bigint, retried bigint, lag interval, next_due timestamptz, done_1m bigint, failed_1m bigint, eta interval, weight integer, max_running integer, max_queued integer)
LANGUAGE c STABLE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tenant_q_tenant_rows';
COMMENT ON FUNCTION tenant_q.tenant_rows() IS 'behind tq_tenants';
CREATE FUNCTION tenant_q.running_rows() RETURNS TABLE (tenant text, id uuid, handler text, attempt integer, pid integer, role text, since timestamptz, deadline timestamptz, progress double precision, note jsonb, wait_event text, blocked_by integer[], xmin_age integer, listed integer, worker text, state text)
LANGUAGE c STABLE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tenant_q_running_rows';
COMMENT ON FUNCTION tenant_q.running_rows() IS 'behind tq_running';
CREATE FUNCTION tenant_q.worker_rows() RETURNS TABLE (kind text, pid integer, database text, role text, state text, since timestamptz, tasks_done bigint, tasks_failed bigint, listed integer, wakes jsonb, vain jsonb, name text, host text, handlers text, claims integer)
LANGUAGE c STABLE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tenant_q_worker_rows';
COMMENT ON FUNCTION tenant_q.worker_rows() IS 'behind tq_workers';

CREATE VIEW @extschema@.tq_tasks AS
    SELECT x.name, x.handler, x.state, tenant_q.reason(x.reason, x.state, x.error) AS reason, x.attempt, x.max_attempts, x.run_at, x.started_at, x.finished_at,
           x.created_at, x.queue, x.priority, x.schedule, x.scheduled_for, x.group_id, x.enqueued_by, x.tenant, x.id, x.parent_id, x.error, x.result, x.args, x.meta
      FROM tenant_q.unfinished_task AS x;
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
GRANT SELECT ON @extschema@.tq_tasks TO PUBLIC;

CREATE VIEW @extschema@.tq_results AS
    SELECT x.name, x.handler, x.state, tenant_q.reason(x.reason, x.state, x.error) AS reason, x.attempt, x.max_attempts, x.run_at, x.started_at, x.finished_at,
           x.created_at, x.queue, x.priority, x.schedule, x.scheduled_for, x.group_id, x.enqueued_by, x.tenant, x.id, x.parent_id, x.error, x.result, x.args, x.meta
      FROM tenant_q.finished_task AS x;
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
GRANT SELECT ON @extschema@.tq_results TO PUBLIC;

CREATE VIEW @extschema@.tq_schedules AS
    SELECT x.name, x.handler, x.rule, x.enabled, x.next_run, x.last_run, x.last_status, x.problem, x.tz, x.kind, x.run_count, x.fail_count, x.repeats, x.after,
           x.tags, x.description, x.of_all, x.created_by, x.last_task, x.args
      FROM tenant_q.shown_schedule AS x;
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
GRANT SELECT ON @extschema@.tq_schedules TO PUBLIC;

CREATE VIEW @extschema@.tq_tenants AS
    SELECT x.tenant, x.status, x.reason, x.queued, x.running, x.lag, x.eta, x.next_due, x.done, x.failed, x.retried, x.done_1m, x.failed_1m, x.weight,
           x.max_running, x.max_queued, x.owner
      FROM tenant_q.tenant_rows() AS x;
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
GRANT SELECT ON @extschema@.tq_tenants TO PUBLIC;

CREATE VIEW @extschema@.tq_running AS
    SELECT x.tenant, x.handler, x.attempt, x.state, x.since, x.progress, x.wait_event, x.blocked_by, x.deadline, x.worker, x.pid, x.role, x.xmin_age, x.listed, x.id, x.note
      FROM tenant_q.running_rows() AS x;
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
GRANT SELECT ON @extschema@.tq_running TO PUBLIC;

CREATE VIEW @extschema@.tq_workers AS
    SELECT x.kind, x.name, x.state, x.database, x.role, x.claims, x.handlers, x.host, x.pid, x.since, x.tasks_done, x.tasks_failed, x.listed, x.wakes, x.vain
      FROM tenant_q.worker_rows() AS x;
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
GRANT SELECT ON @extschema@.tq_workers TO PUBLIC;

CREATE FUNCTION tenant_q.all_schedule_rows() RETURNS TABLE (tenant text, name text, handler text, rule text, enabled boolean, next_run timestamptz, last_run timestamptz, last_status text, last_success timestamptz, last_failure timestamptz, run_count bigint, fail_count bigint, problem text, of_all boolean)
LANGUAGE c STABLE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tenant_q_all_schedule_rows';
COMMENT ON FUNCTION tenant_q.all_schedule_rows() IS 'behind tq_all_schedules';
CREATE VIEW @extschema@.tq_all_schedules AS
    SELECT x.tenant, x.name, x.handler, x.rule, x.enabled, x.next_run, x.last_run, x.last_status, x.last_success, x.last_failure, x.run_count, x.fail_count, x.problem, x.of_all
      FROM tenant_q.all_schedule_rows() AS x;
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
GRANT SELECT ON @extschema@.tq_all_schedules TO PUBLIC;
