-- Flows: tasks that belong together, as one.

CREATE FUNCTION @extschema@.tq_group(tasks jsonb, task jsonb DEFAULT NULL, tenant text DEFAULT NULL) RETURNS uuid
LANGUAGE c AS 'MODULE_PATHNAME', 'tq_group';
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

CREATE FUNCTION @extschema@.tq_chain(steps jsonb, pass_result boolean DEFAULT false, on_step_failure text DEFAULT 'stop', task jsonb DEFAULT NULL, tenant text DEFAULT NULL) RETURNS uuid
LANGUAGE c AS 'MODULE_PATHNAME', 'tq_chain';
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

CREATE FUNCTION @extschema@.tq_async_iter(handler text, args jsonb[], chunk integer DEFAULT 1, task jsonb DEFAULT NULL, tenant text DEFAULT NULL) RETURNS uuid
LANGUAGE c AS 'MODULE_PATHNAME', 'tq_async_iter';
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

CREATE FUNCTION @extschema@.tq_iter_result(id uuid, wait interval DEFAULT '0', tenant text DEFAULT NULL) RETURNS jsonb
LANGUAGE sql AS $body$ SELECT @extschema@.tq_result($1, $2, true, $3) $body$;
COMMENT ON FUNCTION @extschema@.tq_iter_result(uuid, interval, text) IS
'The result of an iteration: tq_result under the name that Django-Q gives it.
Parameters:
  id: the flow
  wait: as in tq_result
  tenant: NULL = the first schema of search_path
Errors:
  as tq_result: the same
Example: SELECT tq_iter_result(''0198c0de-0000-7000-8000-000000000001'', wait => ''10 seconds'');';
