-- Tasks. Functions that read the caller's search_path carry no SET clause and qualify everything.

CREATE TYPE tenant_q.task AS (name text, handler text, state text, reason text, attempt integer, max_attempts integer, run_at timestamptz, started_at timestamptz, finished_at timestamptz,
    created_at timestamptz, queue text, priority integer, schedule text, scheduled_for timestamptz, group_id text, enqueued_by text, tenant text, id uuid,
    parent_id uuid, error jsonb, result jsonb, args jsonb, meta jsonb);
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

-- What a task's error says where nothing else says why: views and calls that show tasks share it.
CREATE FUNCTION tenant_q.reason(reason text, state text, error jsonb) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $body$
    -- What failed before, of one that was begun anew since, is why of nothing.
    SELECT CASE WHEN $1 IS NOT NULL OR $2 OPERATOR(pg_catalog.=) ANY ('{queued,delayed,deferred,held,running}'::pg_catalog.text[]) THEN $1
                ELSE pg_catalog.left(pg_catalog.split_part($3 OPERATOR(pg_catalog.->>) 'message', E'\n', 1), 200) END
$body$;
COMMENT ON FUNCTION tenant_q.reason(text, text, jsonb) IS 'a task''s reason as views show it: why it waits, else what failed, in one line';

CREATE TYPE tenant_q.current AS (id uuid, tenant text, handler text, attempt integer, max_attempts integer, schedule text, scheduled_for timestamptz, deadline timestamptz, meta jsonb);
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

CREATE FUNCTION @extschema@.tq_async(handler text, args jsonb DEFAULT NULL, name text DEFAULT NULL, group_id text DEFAULT NULL, queue text DEFAULT NULL, priority integer DEFAULT NULL,
    run_at timestamptz DEFAULT NULL, delay interval DEFAULT NULL, timeout interval DEFAULT NULL, max_attempts integer DEFAULT NULL, retry jsonb DEFAULT NULL, expires interval DEFAULT NULL,
    lock text DEFAULT NULL, limit_key text DEFAULT NULL, unique_key text DEFAULT NULL, unique_until text DEFAULT NULL, on_conflict text DEFAULT NULL,
    depends_on uuid[] DEFAULT NULL, depends_mode text DEFAULT NULL, allow_failure boolean DEFAULT NULL, on_success text DEFAULT NULL, on_failure text DEFAULT NULL, hook text DEFAULT NULL,
    save boolean DEFAULT NULL, result_ttl interval DEFAULT NULL, meta jsonb DEFAULT NULL, id uuid DEFAULT NULL, sync boolean DEFAULT false, tenant text DEFAULT NULL) RETURNS uuid
LANGUAGE c AS 'MODULE_PATHNAME', 'tq_async';
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

CREATE FUNCTION tenant_q.async_many(tasks jsonb, tenant text DEFAULT NULL) RETURNS uuid[]
LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_q_async_many';
COMMENT ON FUNCTION tenant_q.async_many(jsonb, text) IS 'behind tq_async_many';

CREATE FUNCTION @extschema@.tq_async_many(tasks jsonb, tenant text DEFAULT NULL) RETURNS SETOF uuid
LANGUAGE sql AS $body$ SELECT pg_catalog.unnest(tenant_q.async_many($1, $2)) $body$;
COMMENT ON FUNCTION @extschema@.tq_async_many(jsonb, text) IS
'Enqueues many tasks at once, all or none; the ids in the same order.
Parameters:
  tasks: an array of objects whose keys are tq_async''s parameters
  tenant: NULL = the first schema of search_path
Errors:
  as tq_async: DETAIL says which task
  22023: an unknown key, with the nearest one
Example: SELECT tq_async_many(''[{"handler": "send_invoice", "args": {"order_id": 1, "locale": "en"}}, {"handler": "send_invoice", "args": [2, "de"]}]'');';

CREATE FUNCTION @extschema@.tq_cancel(id uuid, running boolean DEFAULT true, tenant text DEFAULT NULL) RETURNS boolean
LANGUAGE c AS 'MODULE_PATHNAME', 'tq_cancel';
COMMENT ON FUNCTION @extschema@.tq_cancel(uuid, boolean, text) IS
'Cancels an unfinished task. False = nothing to cancel: unknown, finished, or just finishing. Many at once: tq_cancel_all.
Parameters:
  id: the task
  running: true = one that runs is interrupted after your commit, and its effects roll back; false leaves it alone
  tenant: NULL = the first schema of search_path
Errors:
  42501: no right to operate
Example: SELECT tq_cancel(''0198c0de-0000-7000-8000-000000000001'');';

CREATE FUNCTION @extschema@.tq_requeue(id uuid, run_at timestamptz DEFAULT NULL, args jsonb DEFAULT NULL, reset_attempts boolean DEFAULT true, tenant text DEFAULT NULL) RETURNS boolean
LANGUAGE c AS 'MODULE_PATHNAME', 'tq_requeue';
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

CREATE FUNCTION @extschema@.tq_result(id uuid, wait interval DEFAULT '0', propagate boolean DEFAULT true, tenant text DEFAULT NULL) RETURNS jsonb
LANGUAGE c AS 'MODULE_PATHNAME', 'tq_result';
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

CREATE FUNCTION tenant_q.fetch(id uuid, wait interval, tenant text) RETURNS jsonb
LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_q_fetch';
COMMENT ON FUNCTION tenant_q.fetch(uuid, interval, text) IS 'behind tq_fetch';

CREATE FUNCTION @extschema@.tq_fetch(id uuid, wait interval DEFAULT '0', tenant text DEFAULT NULL) RETURNS SETOF tenant_q.task
LANGUAGE sql AS $body$
    SELECT x.name, x.handler, x.state, tenant_q.reason(x.reason, x.state, x.error), x.attempt, x.max_attempts, x.run_at, x.started_at, x.finished_at, x.created_at,
           x.queue, x.priority, x.schedule, x.scheduled_for, x.group_id, x.enqueued_by, x.tenant, x.id, x.parent_id, x.error, x.result OPERATOR(pg_catalog.->) 0,
           x.args OPERATOR(pg_catalog.->) 0, x.meta
      FROM pg_catalog.jsonb_populate_recordset(NULL::tenant_q.task, tenant_q.fetch($1, $2, $3)) AS x
$body$;
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

CREATE FUNCTION @extschema@.tq_find(name text, tenant text DEFAULT NULL) RETURNS uuid
LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'tq_find';
COMMENT ON FUNCTION @extschema@.tq_find(text, text) IS
'The id of the newest task of that name; NULL if there is none.
Parameters:
  name: as it was enqueued
  tenant: NULL = the first schema of search_path
Errors:
  42501: no right to read
Example: SELECT tq_result(tq_find(''nightly''));';

CREATE FUNCTION tenant_q.attempts(id uuid, tenant text) RETURNS jsonb
LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'tenant_q_attempts';
COMMENT ON FUNCTION tenant_q.attempts(uuid, text) IS 'behind tq_attempts';
CREATE FUNCTION @extschema@.tq_attempts(id uuid, tenant text DEFAULT NULL)
RETURNS TABLE (attempt integer, outcome text, started_at timestamptz, duration interval, pid integer, sqlstate text, message text, detail text, context text)
LANGUAGE sql STABLE AS $body$
    SELECT x.attempt, x.outcome, x.started_at, x.duration, x.pid, x.sqlstate, x.message, x.detail, x.context
      FROM pg_catalog.jsonb_to_recordset(tenant_q.attempts($1, $2))
        AS x(attempt integer, outcome pg_catalog.text, started_at pg_catalog.timestamptz, duration interval, sqlstate pg_catalog.text, message pg_catalog.text, detail pg_catalog.text, context pg_catalog.text, pid integer)
$body$;
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

-- Inside a handler.

CREATE FUNCTION tenant_q.current() RETURNS jsonb
LANGUAGE c STABLE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tenant_q_current';
COMMENT ON FUNCTION tenant_q.current() IS 'behind tq_current';
CREATE FUNCTION @extschema@.tq_current() RETURNS tenant_q.current
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $body$
    SELECT CASE WHEN c IS NOT NULL THEN pg_catalog.jsonb_populate_record(NULL::tenant_q.current, c) END FROM tenant_q.current() AS c
$body$;
COMMENT ON FUNCTION @extschema@.tq_current() IS
'The task that runs in this session; NULL outside of a task.
Example: SELECT (tq_current()).attempt;';

CREATE FUNCTION @extschema@.tq_retry(delay interval DEFAULT NULL, message text DEFAULT NULL, count boolean DEFAULT true, args jsonb DEFAULT NULL) RETURNS void
LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tq_retry';
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

CREATE FUNCTION @extschema@.tq_fail(message text) RETURNS void
LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tq_fail';
COMMENT ON FUNCTION @extschema@.tq_fail(text) IS
'Ends the task as failed, without further attempts; its effects roll back. Raises TQ003; an error of that SQLSTATE which this call has not raised is an error like any other.
Parameters:
  message: of the task''s error
Errors:
  TQ003: what it works by
  55000: outside of a task
Example: PERFORM tq_fail(''no such order'');';
