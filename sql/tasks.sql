-- Tasks. Functions that read the caller's search_path carry no SET clause and qualify everything.

CREATE TYPE tenant_q.task AS (id uuid, tenant text, handler text, name text, state text, reason text, args jsonb, result jsonb, error jsonb, attempt integer, max_attempts integer,
    queue text, priority integer, group_id text, parent_id uuid, schedule text, scheduled_for timestamptz, created_at timestamptz, run_at timestamptz,
    started_at timestamptz, finished_at timestamptz, enqueued_by text, meta jsonb);
COMMENT ON TYPE tenant_q.task IS 'a task as tq_tasks, tq_results and tq_fetch show it';

CREATE TYPE tenant_q.current AS (id uuid, tenant text, handler text, attempt integer, max_attempts integer, schedule text, scheduled_for timestamptz, deadline timestamptz, meta jsonb);
COMMENT ON TYPE tenant_q.current IS 'the task that runs in this session';

CREATE FUNCTION @extschema@.tq_async(handler text, args jsonb DEFAULT NULL, name text DEFAULT NULL, group_id text DEFAULT NULL, queue text DEFAULT NULL, priority integer DEFAULT NULL,
    run_at timestamptz DEFAULT NULL, delay interval DEFAULT NULL, timeout interval DEFAULT NULL, max_attempts integer DEFAULT NULL, retry jsonb DEFAULT NULL, expires interval DEFAULT NULL,
    lock text DEFAULT NULL, limit_key text DEFAULT NULL, unique_key text DEFAULT NULL, unique_until text DEFAULT NULL, on_conflict text DEFAULT NULL,
    depends_on uuid[] DEFAULT NULL, depends_mode text DEFAULT NULL, allow_failure boolean DEFAULT NULL, on_success text DEFAULT NULL, on_failure text DEFAULT NULL, hook text DEFAULT NULL,
    save boolean DEFAULT NULL, result_ttl interval DEFAULT NULL, meta jsonb DEFAULT NULL, id uuid DEFAULT NULL, sync boolean DEFAULT false, tenant text DEFAULT NULL) RETURNS uuid
LANGUAGE c AS 'MODULE_PATHNAME', 'tq_async';
COMMENT ON FUNCTION @extschema@.tq_async(text, jsonb, text, text, text, integer, timestamptz, interval, interval, integer, jsonb, interval, text, text, text, text, text, uuid[], text, boolean, text, text, text, boolean, interval, jsonb, uuid, boolean, text) IS
'Enqueues one call of a registered handler; returns the task''s id (UUID v7) at once. It runs after the commit, and never after a rollback.
args: an object is passed by name, an array by position, anything else as the single parameter; checked against the function now; what a type that isn''t PostgreSQL''s own says (a domain''s CHECK) is asked now only in a session of the role that the handler runs as, else when the task starts, where an argument that doesn''t fit fails it for good. name: a label for tq_find. queue, priority (-32768 to 32767, higher first). run_at or delay: not before. timeout of an attempt, max_attempts (0 = for ever), retry (tq_backoff). expires: not started any more when that has passed since it was due. save: false keeps no result. result_ttl: how long the result is kept at least. meta: handed to the handler, NULL = tenant_q.meta of the session. id: one of your own; the same id twice is one task. group_id: a label for tq_result_group. tenant: NULL = the first schema of search_path.
lock: tasks of one lock run one at a time, those that are due in the order of their priority. limit_key: as many at a time and as often as tq_set_limit says. unique_key: one unfinished task holds it; unique_until: started, finished (default) or deleted; on_conflict: error (default), skip (returns the holder''s id) or replace (takes the place and id of one that doesn''t run).
depends_on: runs when these are done, depends_mode all (default) or any; if one of them doesn''t end well it is cancelled, allow_failure: true = it runs all the same. on_success, on_failure, hook (every end): handlers that are enqueued by its end, with the task as their single argument.
sync: true calls the handler here and now, in a savepoint of the caller''s transaction, and raises its error; the caller must be the role it runs as.
Errors: 42704 handler not registered, 22023, 42P02, 54023, 22P02 and kin for arguments that don''t fit, 54000 args too large, 22023 a value that makes no sense, 42501 no right to enqueue, 55000 not attached, 3F000 no such tenant, 53400 quota.
Example: SELECT tq_async(''send_invoice'', ''{"order_id": 42, "locale": "de"}'', delay => ''5 minutes'');';

CREATE FUNCTION tenant_q.async_many(tasks jsonb, tenant text DEFAULT NULL) RETURNS uuid[]
LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_q_async_many';
COMMENT ON FUNCTION tenant_q.async_many(jsonb, text) IS 'behind tq_async_many';

CREATE FUNCTION @extschema@.tq_async_many(tasks jsonb, tenant text DEFAULT NULL) RETURNS SETOF uuid
LANGUAGE sql AS $body$ SELECT pg_catalog.unnest(tenant_q.async_many($1, $2)) $body$;
COMMENT ON FUNCTION @extschema@.tq_async_many(jsonb, text) IS
'Enqueues many tasks at once: an array of objects whose keys are tq_async''s parameters; the ids in the same order. All or none.
Errors: as tq_async, the DETAIL says which task; 22023 for an unknown key, with the nearest one.
Example: SELECT tq_async_many(''[{"handler": "send_invoice", "args": {"order_id": 1, "locale": "en"}}, {"handler": "send_invoice", "args": [2, "de"]}]'');';

CREATE FUNCTION @extschema@.tq_cancel(id uuid, running boolean DEFAULT true, tenant text DEFAULT NULL) RETURNS boolean
LANGUAGE c AS 'MODULE_PATHNAME', 'tq_cancel';
COMMENT ON FUNCTION @extschema@.tq_cancel(uuid, boolean, text) IS
'Cancels an unfinished task. A running one is interrupted after your commit and its effects roll back; running => false leaves it alone. False = nothing to cancel: unknown, finished, or just finishing.
Errors: 42501 no right to operate (DELETE on tq_task). Example: SELECT tq_cancel(id) FROM tq_tasks WHERE handler = ''send_invoice'';';

CREATE FUNCTION @extschema@.tq_requeue(id uuid, run_at timestamptz DEFAULT NULL, args jsonb DEFAULT NULL, reset_attempts boolean DEFAULT true, tenant text DEFAULT NULL) RETURNS boolean
LANGUAGE c AS 'MODULE_PATHNAME', 'tq_requeue';
COMMENT ON FUNCTION @extschema@.tq_requeue(uuid, timestamptz, jsonb, boolean, text) IS
'Runs a finished or quarantined task again under the same id, its history kept. run_at: NULL = now. args: NULL = the same. reset_attempts: false goes on counting. False = unknown, or unfinished anyway.
Errors: 42704 its handler is not registered, 42501 no right to operate (DELETE on tq_task). Example: SELECT tq_requeue(id) FROM tq_results WHERE state = ''failed'';';

CREATE FUNCTION @extschema@.tq_result(id uuid, wait interval DEFAULT '0', propagate boolean DEFAULT true, tenant text DEFAULT NULL) RETURNS jsonb
LANGUAGE c AS 'MODULE_PATHNAME', 'tq_result';
COMMENT ON FUNCTION @extschema@.tq_result(uuid, interval, boolean, text) IS
'The result of a task. SQL NULL = unfinished, JSON null = finished with null. wait: wakes on its end, at most tenant_q.max_wait; 0 never waits.
A task that ended otherwise raises TQ002 with its error as DETAIL; propagate => false returns its message as a JSON string.
Errors: P0002 neither waiting nor kept, 25001 waiting under REPEATABLE READ, 55000 waiting inside a task or for a task of this very transaction, 42501.
Example: SELECT tq_result(''0198c0de-0000-7000-8000-000000000001'', wait => ''5 seconds'');';

CREATE FUNCTION tenant_q.fetch(id uuid, wait interval, tenant text) RETURNS jsonb
LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_q_fetch';
COMMENT ON FUNCTION tenant_q.fetch(uuid, interval, text) IS 'behind tq_fetch';

CREATE FUNCTION @extschema@.tq_fetch(id uuid, wait interval DEFAULT '0', tenant text DEFAULT NULL) RETURNS SETOF tenant_q.task
LANGUAGE sql AS $body$
    SELECT x.id, x.tenant, x.handler, x.name, x.state, x.reason, x.args OPERATOR(pg_catalog.->) 0, x.result OPERATOR(pg_catalog.->) 0, x.error, x.attempt, x.max_attempts,
           x.queue, x.priority, x.group_id, x.parent_id, x.schedule, x.scheduled_for, x.created_at, x.run_at, x.started_at, x.finished_at, x.enqueued_by, x.meta
      FROM pg_catalog.jsonb_populate_recordset(NULL::tenant_q.task, tenant_q.fetch($1, $2, $3)) AS x
$body$;
COMMENT ON FUNCTION @extschema@.tq_fetch(uuid, interval, text) IS
'The whole task, finished or not; no row if it is unknown. wait as in tq_result.
Example: SELECT state, attempt, error FROM tq_fetch(''0198c0de-0000-7000-8000-000000000001'');';

CREATE FUNCTION @extschema@.tq_find(name text, tenant text DEFAULT NULL) RETURNS uuid
LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'tq_find';
COMMENT ON FUNCTION @extschema@.tq_find(text, text) IS 'The id of the newest task of that name; NULL if there is none. Example: SELECT tq_result(tq_find(''nightly''));';

CREATE FUNCTION tenant_q.attempts(id uuid, tenant text) RETURNS jsonb
LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'tenant_q_attempts';
COMMENT ON FUNCTION tenant_q.attempts(uuid, text) IS 'behind tq_attempts';
CREATE FUNCTION @extschema@.tq_attempts(id uuid, tenant text DEFAULT NULL)
RETURNS TABLE (attempt integer, outcome text, started_at timestamptz, duration interval, sqlstate text, message text, detail text, context text, pid integer)
LANGUAGE sql STABLE AS $body$
    SELECT x.attempt, x.outcome, x.started_at, x.duration, x.sqlstate, x.message, x.detail, x.context, x.pid
      FROM pg_catalog.jsonb_to_recordset(tenant_q.attempts($1, $2))
        AS x(attempt integer, outcome pg_catalog.text, started_at pg_catalog.timestamptz, duration interval, sqlstate pg_catalog.text, message pg_catalog.text, detail pg_catalog.text, context pg_catalog.text, pid integer)
$body$;
COMMENT ON FUNCTION @extschema@.tq_attempts(uuid, text) IS
'What happened to a task, attempt by attempt (of those that did not end well the last ten): outcome done | failed | retry | timeout | crashed | interrupted (cancelled from outside, or its executor ended: not counted, and one line for all in a row; ten in a row are a failed attempt). Example: SELECT * FROM tq_attempts(''0198c0de-0000-7000-8000-000000000001'');';

-- Inside a handler.

CREATE FUNCTION tenant_q.current() RETURNS jsonb
LANGUAGE c STABLE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tenant_q_current';
COMMENT ON FUNCTION tenant_q.current() IS 'behind tq_current';
CREATE FUNCTION @extschema@.tq_current() RETURNS tenant_q.current
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $body$
    SELECT CASE WHEN c IS NOT NULL THEN pg_catalog.jsonb_populate_record(NULL::tenant_q.current, c) END FROM tenant_q.current() AS c
$body$;
COMMENT ON FUNCTION @extschema@.tq_current() IS
'The task that runs in this session: id, tenant, handler, attempt, max_attempts, schedule, scheduled_for, deadline, meta; NULL outside of a task.
Example: SELECT (tq_current()).attempt;';

CREATE FUNCTION @extschema@.tq_retry(delay interval DEFAULT NULL, message text DEFAULT NULL) RETURNS void
LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tq_retry';
COMMENT ON FUNCTION @extschema@.tq_retry(interval, text) IS
'Ends this attempt; its effects roll back, and the task is tried again after delay (NULL = as its policy says), as long as attempts are left. Raises TQ001, 55000 outside of a task. An error of that SQLSTATE which this call has not raised is an error like any other.
Example: PERFORM tq_retry(''1 minute'', ''the bank is closed'');';

CREATE FUNCTION @extschema@.tq_fail(message text) RETURNS void
LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tq_fail';
COMMENT ON FUNCTION @extschema@.tq_fail(text) IS
'Ends the task as failed, without further attempts; its effects roll back. Raises TQ003, 55000 outside of a task. An error of that SQLSTATE which this call has not raised is an error like any other. Example: PERFORM tq_fail(''no such order'');';
