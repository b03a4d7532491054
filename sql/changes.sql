-- Changing tasks that wait, deleting tasks that are over. These read the caller's search_path: no SET clause, everything qualified.

CREATE FUNCTION @extschema@.tq_update(id uuid, run_at timestamptz DEFAULT NULL, queue text DEFAULT NULL, priority integer DEFAULT NULL, args jsonb DEFAULT NULL, expires interval DEFAULT NULL, meta jsonb DEFAULT NULL, tenant text DEFAULT NULL) RETURNS boolean
LANGUAGE c AS 'MODULE_PATHNAME', 'tq_update';
COMMENT ON FUNCTION @extschema@.tq_update(uuid, timestamptz, text, integer, jsonb, interval, jsonb, text) IS
'Changes a task that waits; NULL leaves as it is. id: which. run_at: not before. queue. priority: -32768 to 32767, higher first. args: in place of the old ones, checked against the handler; needs the right to enqueue too. expires: not started any more when that has passed from now. meta: in place of the old one. tenant: NULL = the first schema of search_path.
False = nothing was changed: the task is unknown, finished, running or about to run, or no change was given.
Errors: 42501 no right to operate, or a superuser''s task; 22023 and those of tq_async for values that do not fit. Example: SELECT tq_update(id, priority => 10) FROM tq_tasks WHERE handler = ''send_invoice'';';

CREATE FUNCTION @extschema@.tq_delete(id uuid, tenant text DEFAULT NULL) RETURNS boolean
LANGUAGE c AS 'MODULE_PATHNAME', 'tq_delete';
COMMENT ON FUNCTION @extschema@.tq_delete(uuid, text) IS
'Deletes a finished task with its result. id: which. tenant: NULL = the first schema of search_path. False = there is none of this id.
Errors: 55000 it is not finished, 42501 no right to operate. Example: SELECT tq_delete(id) FROM tq_results WHERE state = ''cancelled'';';

CREATE FUNCTION @extschema@.tq_purge(older_than interval, states text[] DEFAULT NULL, tenant text DEFAULT NULL) RETURNS bigint
LANGUAGE c AS 'MODULE_PATHNAME', 'tq_purge';
COMMENT ON FUNCTION @extschema@.tq_purge(interval, text[], text) IS
'Deletes finished tasks with their results; how many that were. Unfinished ones stay. older_than: finished so long ago at least, ''0'' = all. states: of done, failed, cancelled, expired; NULL = all four. tenant: NULL = the first schema of search_path.
Errors: 22023 a negative age or an unknown state, 42501 no right to operate. Example: SELECT tq_purge(''7 days'', ''{done,cancelled}'');';
