-- From 0.1.0 to 0.2.0. Brings the catalog to what the install script of 0.2.0 makes, object by object, comments and rights
-- included: tests/upgrade compares the two. New columns come last in a table, as there.
-- CREATE OR REPLACE names members of the extension only: in its script PostgreSQL refuses to replace anybody else's object
-- (from 14.5 on; 15 is the oldest there is a version for), so none of somebody's making is adopted.

-- Conditions of tq_listen_table: names in them are looked up where nobody lesser than the table's owner can put anything. Triggers
-- made before whose condition has such a name would run it as whoever changes the table: they are disabled, with a warning each.
COMMENT ON FUNCTION @extschema@.tq_listen_table(regclass, text, text[], text, text, jsonb, text) IS
'Enqueues a task of the handler whenever the table (relation) changes: in the transaction that changes it, exactly once. Listening again with the same handler replaces.
events: of insert, update, delete, truncate. each: ''row'' = a task a row, args {"event", "table", "old", "new"}; ''statement'' = a task for up to 1,000 rows of a statement, args {"event", "table", "rows": [{"old", "new"}]}; none for a statement that changes no row. A truncate has no rows. only_if: the WHEN condition of the trigger, about OLD and NEW; each row only. Names in it are looked up in pg_catalog and in what the table''s owner owns of the tenant''s search_path and the table''s schema; it may use nothing that belongs to a lesser role. task: an object with other parameters of tq_async.
Whoever may change the table causes the task; it is enqueued with the right of the table''s owner.
Errors: 42501 not the table''s owner, or its owner may not enqueue; 42809 not a table; 42704 handler not registered; 22023 a value that makes no sense; 42601, 42703 and kin for only_if, 42501 where it uses what a lesser role than the table''s owner owns.
Example: SELECT tq_listen_table(''orders'', ''order_changed'', only_if => ''NEW.total > 100'', events => ''{insert,update}'');';

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

-- Processes count what they wake up for.
CREATE OR REPLACE VIEW @extschema@.tq_workers AS
    SELECT x.kind, x.pid, x.database, x.role, x.state, x.since, x.tasks_done, x.tasks_failed, x.listed, x.wakes, x.vain
      FROM pg_catalog.jsonb_to_recordset(tenant_q.workers()) AS x(kind text, pid integer, database text, role text, state text, since timestamptz, tasks_done bigint, tasks_failed bigint, listed integer, wakes jsonb, vain jsonb);
COMMENT ON VIEW @extschema@.tq_workers IS 'The launcher, schedulers and executors of the server. wakes: how often the process has woken up since it began, by reason; vain: and nothing came of it. Reasons: call (somebody told it), more (it went on without a sleep), due (a task or schedule), sweep, databases (which there are), clock (was it set), retry (of a start), stuck (a list behind a long task), cancel (to be repeated), watch (somebody waits for a place), idle, spread (work for all tenants), locked (by somebody). Whoever wakes in vain again and again for one reason does so less and less often, once a minute in the end; tq_health() says so in its row wakes. Example: SELECT kind, pid, wakes, vain FROM tq_workers;';
COMMENT ON FUNCTION @extschema@.tq_health() IS 'Is anything running at all, and what is wrong with the engine or with what it stands on: a row a check. value: what was found; detail and hint: only where it is not ok. Checks: preloaded, version, enabled, launcher, database, scheduler, worker_slots, wakes, roles, places, shared_memory, sweep, disk (for pg_monitor), restart, xmin, xid_age, bloat. Example: SELECT * FROM tq_health() WHERE NOT ok;';

-- An attempt's end is judged by where its error came from.
COMMENT ON FUNCTION @extschema@.tq_retry(interval, text) IS
'Ends this attempt; its effects roll back, and the task is tried again after delay (NULL = as its policy says), as long as attempts are left. Raises TQ001, 55000 outside of a task. An error of that SQLSTATE which this call has not raised is an error like any other.
Example: PERFORM tq_retry(''1 minute'', ''the bank is closed'');';
COMMENT ON FUNCTION @extschema@.tq_fail(text) IS
'Ends the task as failed, without further attempts; its effects roll back. Raises TQ003, 55000 outside of a task. An error of that SQLSTATE which this call has not raised is an error like any other. Example: PERFORM tq_fail(''no such order'');';
COMMENT ON FUNCTION @extschema@.tq_attempts(uuid, text) IS
'What happened to a task, attempt by attempt (of those that did not end well the last ten): outcome done | failed | retry | timeout | crashed | interrupted (cancelled from outside, or its executor ended: not counted, and one line for all in a row; ten in a row are a failed attempt). Example: SELECT * FROM tq_attempts(''0198c0de-0000-7000-8000-000000000001'');';
COMMENT ON VIEW @extschema@.tq_failures IS 'The last failed attempts in this database, newest first: as many as tenant_q.failure_ring, since the server started; interrupted ones, which are not counted, too. Seen by members of the tenant''s owner; pg_monitor sees all. message is cut to 200 bytes; tq_attempts(id) has more. role: as whom it ran. Example: SELECT * FROM tq_failures WHERE at > now() - interval ''10 minutes'';';

-- Locks of one tenant are no longer other tenants' too. What their keys are hashed with, which everybody sees in pg_locks: in no
-- dump, for its owner's eyes only.
CREATE TABLE tenant_q.secret (
    id     smallint PRIMARY KEY CHECK (id = 1),
    first  uuid     NOT NULL,
    second uuid     NOT NULL
);
REVOKE ALL ON tenant_q.secret FROM PUBLIC;
INSERT INTO tenant_q.secret VALUES (1, pg_catalog.gen_random_uuid(), pg_catalog.gen_random_uuid());

-- What listens to tables, without what it looks at and what it enqueues, is for everybody who may use the schema.
COMMENT ON VIEW @extschema@.tq_events IS 'What the current tenant''s handlers listen to: events of tasks (tq_on) and changes of tables (tq_listen_table). how: call = inside the transaction, task = a task of its own. status: ok | missing | changed. only_if and task only for whoever may read the tenant''s tasks. Example: SELECT * FROM tq_events;';

-- Where a tenant's code runs: arguments of somebody's types and listeners to enqueue are asked in a session of their role.
COMMENT ON FUNCTION @extschema@.tq_async(text, jsonb, text, text, text, integer, timestamptz, interval, interval, integer, jsonb, interval, text, text, text, text, text, uuid[], text, boolean, text, text, text, boolean, interval, jsonb, uuid, boolean, text) IS
'Enqueues one call of a registered handler; returns the task''s id (UUID v7) at once. It runs after the commit, and never after a rollback.
args: an object is passed by name, an array by position, anything else as the single parameter; checked against the function now; what a type that isn''t PostgreSQL''s own says (a domain''s CHECK) is asked now only in a session of the role that the handler runs as, else when the task starts, where an argument that doesn''t fit fails it for good. name: a label for tq_find. queue, priority (-32768 to 32767, higher first). run_at or delay: not before. timeout of an attempt, max_attempts (0 = for ever), retry (tq_backoff). expires: not started any more when that has passed since it was due. save: false keeps no result. result_ttl: how long the result is kept at least. meta: handed to the handler, NULL = tenant_q.meta of the session. id: one of your own; the same id twice is one task. group_id: a label for tq_result_group. tenant: NULL = the first schema of search_path.
lock: tasks of one lock run one at a time, those that are due in the order of their priority. limit_key: as many at a time and as often as tq_set_limit says. unique_key: one unfinished task holds it; unique_until: started, finished (default) or deleted; on_conflict: error (default), skip (returns the holder''s id) or replace (takes the place and id of one that doesn''t run).
depends_on: runs when these are done, depends_mode all (default) or any; if one of them doesn''t end well it is cancelled, allow_failure: true = it runs all the same. on_success, on_failure, hook (every end): handlers that are enqueued by its end, with the task as their single argument.
sync: true calls the handler here and now, in a savepoint of the caller''s transaction, and raises its error; the caller must be the role it runs as.
Errors: 42704 handler not registered, 22023, 42P02, 54023, 22P02 and kin for arguments that don''t fit, 54000 args too large, 22023 a value that makes no sense, 42501 no right to enqueue, 55000 not attached, 3F000 no such tenant, 53400 quota.
Example: SELECT tq_async(''send_invoice'', ''{"order_id": 42, "locale": "de"}'', delay => ''5 minutes'');';
COMMENT ON FUNCTION @extschema@.tq_on(text, text, text, text) IS
'Lets a handler listen to what happens to the tenant''s tasks; it gets the task as one jsonb document, as tq_tasks shows it, with the event''s name under "event". Doing it again changes nothing. Returns the listener''s id.
Called at once, inside the transaction: enqueue (in a session of the listener''s role in the statement that enqueues, in a sandbox: false refuses the task with TQ005, an error passes through; for everybody else before the task runs, by an executor of that role: false ends it as cancelled), before_run (as the task''s role; false ends the task as cancelled), after_run (an error fails the attempt).
As tasks of their own, enqueued with what they tell: attempt_failed, retry, failed, done, cancelled, expired, schedule_fired.
for_handler: tasks of that handler only. Tasks of a handler that listens fire no events.
Errors: 22023 unknown event, or a handler that doesn''t take the document; 42704 handler not registered; 42501 not the schema''s owner; 54000 more than 1,000 listeners.
Example: SELECT tq_on(''failed'', ''tell_support'', for_handler => ''send_invoice'');';

-- Schemas that Citus has distributed are no tenants.
COMMENT ON FUNCTION @extschema@.tq_attach(text, boolean, boolean) IS
'Makes a schema a tenant: creates its tables tq_task, tq_result and tq_schedule as its owner.
tenant: the schema, NULL = the first of search_path. adopt: take over such tables that are there already (restored, detached before). Handlers and the like that are still registered are kept where schema and owner are those they were registered for, or the schema was restored and its owner has the same name; otherwise they are removed, with a NOTICE. ready: false = nothing is run yet.
Where a superuser owns the schema, tasks run as one only after a superuser has attached it, once more if it came to belong to a superuser since: tasks and schedules from before count as nobody''s then.
Returns true, or false with a NOTICE if it is attached already. Needs to be the schema''s owner.
Errors: 3F000 no such schema, 42501 not its owner, 42P07 tables of these names exist, 55000 tables to adopt are not as ours, 0A000 Citus has distributed the schema, 53400 more than 50 in one transaction.
Example: SELECT tq_attach(''acme'');';

-- Calls that change the registry wait five seconds for others, and say for whom. A lower max_running makes room at once; quotas
-- outlive a schema that is dropped and made again.
COMMENT ON FUNCTION @extschema@.tq_detach(text, boolean) IS
'Makes a tenant an ordinary schema again. drop_data: drop its tables and handlers too; otherwise they stay, with listeners, queues, limits and what tq_set_tenant said, and tq_attach(adopt => true) by the same owner takes them up. Pauses end. What tq_set_quota said stays with the schema in any case.
Returns false if it was not attached. Errors: 42501 not the owner; 55P03 another transaction has held what it changes for 5 seconds: DETAIL names it, HINT ends it.
Example: SELECT tq_detach(''acme'');';
COMMENT ON FUNCTION @extschema@.tq_set_tenant(text, boolean, text, text[], jsonb, integer, text, interval, interval, text[]) IS
'What a tenant decides for itself; NULL leaves as it is, names in reset go back to the default.
ready: false = tasks and schedules wait (its migrations run). timezone: of its schedules and handlers; schedules without a tz of their own wait for their next fire time in it. shared_schemas: behind its own on search_path. settings: {"name": "value"} for its tasks. save_limit: newest successes kept, 0 all, -1 none. save_limit_per: none, group, name or handler: of what save_limit counts. result_ttl, failure_ttl: how long results are kept at least, failures at most.
Errors: 42501 not the owner, 22023 a value that makes no sense, 55P03 as of tq_detach.
Example: SELECT tq_set_tenant(''acme'', timezone => ''Europe/Berlin'');';
COMMENT ON FUNCTION @extschema@.tq_set_quota(text, integer, integer, integer, text, boolean, text[]) IS
'What an administrator decides for a tenant. max_running: tasks of it at a time; where more run, those that began last go back into the queue, uncounted: they are cancelled, cancelled again a second later, and after another second their executors are terminated. max_queued: unfinished tasks, of all roles that its handlers run as, beyond which enqueuing raises 53400. weight: share of the executors'' time, 1 to 1000, default 1. rate: starts of its tasks, ''100/m''. fan_out: whether work for all tenants includes it; names in reset go back to the default. It stays with the schema, and with a schema of that name that the same owner makes after it was dropped, until it is reset; for one that is gone, tq_detach(…, drop_data => true) ends it.
EXECUTE is granted to nobody by default. Errors: 22023 a value that makes no sense, 55P03 as of tq_detach. Example: SELECT tq_set_quota(''acme'', max_running => 2, weight => 5);';
COMMENT ON FUNCTION @extschema@.tq_pause(text, text, text, interval, interval) IS
'Starts no more tasks of the tenant; with queue, handler or both only of those; running ones go on. duration: NULL = until tq_resume. drain: waits so long, and tenant_q.max_wait at most, for what is meant and runs to end; a NOTICE says what still does. Meanwhile nothing of the tenant is started. False = it was paused until tq_resume already.
Errors: 42501 not the owner, 42704 no such handler, with the nearest one; 22023 a negative duration; 54000 more than 1,000 pauses of queues and handlers; 55P03 as of tq_detach.
Example: SELECT tq_pause(''acme'', handler => ''send_invoice'', duration => ''10 minutes'');';

-- What every process reads whole of a tenant is bounded.
COMMENT ON FUNCTION @extschema@.tq_set_queue(text, integer, text, integer, interval, integer, text, text[], text) IS
'Sets a queue of the tenant up; NULL leaves as it is, names in reset go back to none. Queues need no set-up: one is there as soon as a task names it.
max_running: tasks of it at a time. rate: starts, ''10/m'', ''100/h'', ''5/10s''. priority, timeout, max_attempts: for tasks of it that neither say it themselves nor by their handler. pick: priority, the default: its tasks are in the tenant''s common order of priority, due time and id. round_robin: the queue has that order for itself and takes turns with the common one and with other such queues, one task each, so that nobody''s urgent flood keeps it from running; random: its place among them is drawn each time.
Errors: 42501 not the owner, 22023 a value that makes no sense, 54000 more than 1,000 queues set up. Example: SELECT tq_set_queue(''reports'', max_running => 2, rate => ''100/h'', pick => ''round_robin'');';
COMMENT ON FUNCTION @extschema@.tq_set_limit(text, integer, text, text, text[], text) IS
'What tasks with this limit_key may do, whatever their handlers; NULL leaves as it is, names in reset go back to none.
max_running: at a time. rate: starts, ''10/m''. algorithm, said by each call: bucket lets a burst of the whole number through and then one after the other evenly; window counts in fixed windows of time. Rates are counted anew after a restart of the server.
Errors: 42501 not the owner, 22023 a value that makes no sense, 54000 more than 10,000 limits. Example: SELECT tq_set_limit(''smtp'', max_running => 3, rate => ''60/m'');';

-- Why a tenant is left out was to be read from the words of the reason.
ALTER TABLE tenant_q.fanout_tenant ADD COLUMN cause "char";
UPDATE tenant_q.fanout_tenant SET cause = 'o' WHERE state OPERATOR(pg_catalog.=) 's' AND reason OPERATOR(pg_catalog.=) 'the tenant has a schedule of its own of this name';

-- Names and types of a task's columns are those of tenant_q.task.
CREATE OR REPLACE FUNCTION @extschema@.tq_fetch(id uuid, wait interval DEFAULT '0', tenant text DEFAULT NULL) RETURNS SETOF tenant_q.task
LANGUAGE sql AS $body$
    SELECT x.id, x.tenant, x.handler, x.name, x.state, x.reason, x.args OPERATOR(pg_catalog.->) 0, x.result OPERATOR(pg_catalog.->) 0, x.error, x.attempt, x.max_attempts,
           x.queue, x.priority, x.group_id, x.parent_id, x.schedule, x.scheduled_for, x.created_at, x.run_at, x.started_at, x.finished_at, x.enqueued_by, x.meta
      FROM pg_catalog.jsonb_populate_recordset(NULL::tenant_q.task, tenant_q.fetch($1, $2, $3)) AS x
$body$;
CREATE OR REPLACE FUNCTION @extschema@.tq_fetch_group(group_id text, failures boolean DEFAULT true, count integer DEFAULT NULL, wait interval DEFAULT '0', tenant text DEFAULT NULL) RETURNS SETOF tenant_q.task
LANGUAGE sql AS $body$
    SELECT x.id, x.tenant, x.handler, x.name, x.state, x.reason, x.args OPERATOR(pg_catalog.->) 0, x.result OPERATOR(pg_catalog.->) 0, x.error, x.attempt, x.max_attempts,
           x.queue, x.priority, x.group_id, x.parent_id, x.schedule, x.scheduled_for, x.created_at, x.run_at, x.started_at, x.finished_at, x.enqueued_by, x.meta
      FROM pg_catalog.jsonb_populate_recordset(NULL::tenant_q.task, tenant_q.fetch_group($1, $2, $3, $4, $5)) AS x
$body$;
CREATE OR REPLACE FUNCTION @extschema@.tq_drain(max_tasks integer DEFAULT 1000, as_of timestamptz DEFAULT pg_catalog.now(), tenant text DEFAULT NULL) RETURNS SETOF tenant_q.task
LANGUAGE sql AS $body$
    SELECT x.id, x.tenant, x.handler, x.name, x.state, x.reason, x.args OPERATOR(pg_catalog.->) 0, x.result OPERATOR(pg_catalog.->) 0, x.error, x.attempt, x.max_attempts,
           x.queue, x.priority, x.group_id, x.parent_id, x.schedule, x.scheduled_for, x.created_at, x.run_at, x.started_at, x.finished_at, x.enqueued_by, x.meta
      FROM pg_catalog.jsonb_populate_recordset(NULL::tenant_q.task, tenant_q.drain($1, $2, $3)) AS x
$body$;
CREATE OR REPLACE VIEW @extschema@.tq_tasks AS
    SELECT x.id, x.tenant, x.handler, x.name, x.state, x.reason, x.args OPERATOR(pg_catalog.->) 0 AS args, x.result OPERATOR(pg_catalog.->) 0 AS result, x.error, x.attempt, x.max_attempts, x.queue, x.priority, x.group_id, x.parent_id, x.schedule, x.scheduled_for, x.created_at, x.run_at, x.started_at, x.finished_at, x.enqueued_by, x.meta
      FROM pg_catalog.jsonb_populate_recordset(NULL::tenant_q.task, tenant_q.tasks(false)) AS x;
CREATE OR REPLACE VIEW @extschema@.tq_results AS
    SELECT x.id, x.tenant, x.handler, x.name, x.state, x.reason, x.args OPERATOR(pg_catalog.->) 0 AS args, x.result OPERATOR(pg_catalog.->) 0 AS result, x.error, x.attempt, x.max_attempts, x.queue, x.priority, x.group_id, x.parent_id, x.schedule, x.scheduled_for, x.created_at, x.run_at, x.started_at, x.finished_at, x.enqueued_by, x.meta
      FROM pg_catalog.jsonb_populate_recordset(NULL::tenant_q.task, tenant_q.tasks(true)) AS x;

-- Attempts in one's own session are counted.
COMMENT ON VIEW @extschema@.tq_stats IS 'What each handler of each tenant did since the server started or tq_stats_reset. done and failed are ends of tasks; retried: attempts that failed and left another one; timeouts: attempts that took too long, counted as failed or retried too. Attempts in somebody''s own session (tq_drain, sync) count when they end, whatever becomes of the transaction around them. Times are of attempts: run = in the handler, wait = from when it was due to its start. At most tenant_q.max_stats rows; seen as tq_failures are. Example: SELECT * FROM tq_stats ORDER BY mean_run_time DESC;';
