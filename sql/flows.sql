-- Flows: tasks that belong together, as one.

CREATE FUNCTION @extschema@.tq_group(tasks jsonb, task jsonb DEFAULT NULL, tenant text DEFAULT NULL) RETURNS uuid
LANGUAGE c AS 'MODULE_PATHNAME', 'tq_group';
COMMENT ON FUNCTION @extschema@.tq_group(jsonb, jsonb, text) IS
'Enqueues tasks that run beside each other, and returns the id of the flow that they make up: a task itself, final when all of them are. Its result is the array of theirs, in input order.
tasks: an array of objects whose keys are tq_async''s parameters, or of handlers'' names; at most 100,000. task: what is said of the flow itself (id, name, group_id, meta, save, result_ttl, on_success, on_failure, hook, unique_key, on_conflict, allow_failure: true = done even if members fail, whose results are null then; sync: true = all members run at once, in your session and transaction: the first error is yours, unless allow_failure records it with its member); other keys are defaults for the members.
A member that doesn''t end well lets the flow fail (TQ004) once all are final. tq_cancel cancels all members; tq_requeue runs again what didn''t end well.
Errors: as tq_async, the DETAIL says which member; 22023 an empty group; 54000 too many members.
Example: SELECT tq_group(''[{"handler": "render", "args": [1]}, {"handler": "render", "args": [2]}]'', ''{"on_success": "bind_pages"}'');';

CREATE FUNCTION @extschema@.tq_chain(steps jsonb, pass_result boolean DEFAULT false, on_step_failure text DEFAULT 'stop', task jsonb DEFAULT NULL, tenant text DEFAULT NULL) RETURNS uuid
LANGUAGE c AS 'MODULE_PATHNAME', 'tq_chain';
COMMENT ON FUNCTION @extschema@.tq_chain(jsonb, boolean, text, jsonb, text) IS
'Enqueues tasks that run one after the other, and returns the id of the flow that they make up; its result is the array of theirs.
steps: as tasks of tq_group; the delay of a later one counts from the end of the one before, one in task is the first step''s. pass_result: each step gets the result of the one before: behind the arguments of an array, as the first parameter that an object leaves out. on_step_failure: stop = what follows a failed step is cancelled; continue = it runs all the same. task: as in tq_group.
Errors: as tq_group. Example: SELECT tq_chain(''[{"handler": "fetch_rates", "args": ["eur"]}, "convert", "store"]'', pass_result => true);';

CREATE FUNCTION @extschema@.tq_async_iter(handler text, args jsonb[], chunk integer DEFAULT 1, task jsonb DEFAULT NULL, tenant text DEFAULT NULL) RETURNS uuid
LANGUAGE c AS 'MODULE_PATHNAME', 'tq_async_iter';
COMMENT ON FUNCTION @extschema@.tq_async_iter(text, jsonb[], integer, jsonb, text) IS
'Calls one handler for each of many arguments, and returns the id of the flow; its result is the array of the results, in input order.
args: one document a call, each as args of tq_async. chunk: how many of them one task works off, in one transaction. task: as in tq_group; its other keys are said of each task.
Errors: as tq_group. Example: SELECT tq_async_iter(''send_invoice'', ARRAY[''[1, "de"]'', ''[2, "en"]'']::jsonb[]);';

CREATE FUNCTION @extschema@.tq_iter_result(id uuid, wait interval DEFAULT '0', tenant text DEFAULT NULL) RETURNS jsonb
LANGUAGE sql AS $body$ SELECT @extschema@.tq_result($1, $2, true, $3) $body$;
COMMENT ON FUNCTION @extschema@.tq_iter_result(uuid, interval, text) IS
'The result of an iteration: tq_result under the name that Django-Q gives it. id: of the flow; wait: as in tq_result. Errors: as tq_result.
Example: SELECT tq_iter_result(''0198c0de-0000-7000-8000-000000000001'', wait => ''10 seconds'');';
