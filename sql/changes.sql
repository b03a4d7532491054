-- Changing tasks that wait, deleting tasks that are over. These read the caller's search_path: no SET clause, everything qualified.

CREATE FUNCTION @extschema@.tq_update(id uuid, run_at timestamptz DEFAULT NULL, queue text DEFAULT NULL, priority integer DEFAULT NULL, args jsonb DEFAULT NULL, expires interval DEFAULT NULL, meta jsonb DEFAULT NULL, tenant text DEFAULT NULL) RETURNS boolean
LANGUAGE c AS 'MODULE_PATHNAME', 'tq_update';
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

CREATE FUNCTION @extschema@.tq_delete(id uuid, tenant text DEFAULT NULL) RETURNS boolean
LANGUAGE c AS 'MODULE_PATHNAME', 'tq_delete';
COMMENT ON FUNCTION @extschema@.tq_delete(uuid, text) IS
'Deletes a finished task with its result. False = there is none of this id. Many at once: tq_delete_all.
Parameters:
  id: the task
  tenant: NULL = the first schema of search_path
Errors:
  55000: it is not finished
  42501: no right to operate
Example: SELECT tq_delete(''0198c0de-0000-7000-8000-000000000001'');';

CREATE FUNCTION @extschema@.tq_purge(older_than interval, states text[] DEFAULT NULL, tenant text DEFAULT NULL) RETURNS bigint
LANGUAGE c AS 'MODULE_PATHNAME', 'tq_purge';
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
