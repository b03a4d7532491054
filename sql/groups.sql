-- Groups of tasks, and how many tasks wait. These read the caller's search_path: no SET clause, everything qualified.

CREATE FUNCTION @extschema@.tq_result_group(group_id text, failures boolean DEFAULT false, count integer DEFAULT NULL, wait interval DEFAULT '0', tenant text DEFAULT NULL) RETURNS jsonb
LANGUAGE c AS 'MODULE_PATHNAME', 'tq_result_group';
COMMENT ON FUNCTION @extschema@.tq_result_group(text, boolean, integer, interval, text) IS
'The results of a group''s finished tasks as an array, in the order they were enqueued; NULL while there are none.
Parameters:
  group_id: what they were enqueued with
  failures: true = with the messages of those that did not end done
  count: NULL until at least so many are finished, however they ended
  wait: until count is reached, without it until none of the group is unfinished; at most tenant_q.max_wait; 0 never waits
  tenant: NULL = the first schema of search_path
Errors:
  42501: no right to read
  54000: they take more than one document holds, 256 MB
  22023: a negative count or wait
  25001: waiting under REPEATABLE READ
  55000: waiting inside a task, or for tasks of this very transaction
Example: SELECT tq_result_group(''import-7'', count => 3, wait => ''10 seconds'');';

CREATE FUNCTION tenant_q.group_members(group_id text, failures boolean, count integer, wait interval, tenant text) RETURNS uuid[]
LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_q_group_members';
COMMENT ON FUNCTION tenant_q.group_members(text, boolean, integer, interval, text) IS 'behind tq_fetch_group';

CREATE FUNCTION @extschema@.tq_fetch_group(group_id text, failures boolean DEFAULT true, count integer DEFAULT NULL, wait interval DEFAULT '0', tenant text DEFAULT NULL) RETURNS SETOF tenant_q.task
LANGUAGE sql AS $body$
    SELECT x.name, x.handler, x.state, tenant_q.reason(x.reason, x.state, x.error), x.attempt, x.max_attempts, x.run_at, x.started_at, x.finished_at, x.created_at,
           x.queue, x.priority, x.schedule, x.scheduled_for, x.group_id, x.enqueued_by, x.tenant, x.id, x.parent_id, x.error, x.result OPERATOR(pg_catalog.->) 0,
           x.args OPERATOR(pg_catalog.->) 0, x.meta
      FROM pg_catalog.unnest(tenant_q.group_members($1, $2, $3, $4, $5)) AS member(id),
           LATERAL pg_catalog.jsonb_populate_recordset(NULL::tenant_q.task, tenant_q.fetch(member.id, NULL, $5)) AS x
$body$;
COMMENT ON FUNCTION @extschema@.tq_fetch_group(text, boolean, integer, interval, text) IS
'The finished tasks of a group, whole, in the order they were enqueued; no row until there are enough.
Parameters:
  group_id: what they were enqueued with
  failures: false leaves out those that did not end done
  count: as in tq_result_group
  wait: as in tq_result_group
  tenant: NULL = the first schema of search_path
Errors:
  as tq_result_group: the same
Example: SELECT id, state, error FROM tq_fetch_group(''import-7'');';

CREATE FUNCTION @extschema@.tq_count_group(group_id text, failures boolean DEFAULT false, tenant text DEFAULT NULL) RETURNS bigint
LANGUAGE c AS 'MODULE_PATHNAME', 'tq_count_group';
COMMENT ON FUNCTION @extschema@.tq_count_group(text, boolean, text) IS
'How many tasks of a group are finished, however they ended.
Parameters:
  group_id: what they were enqueued with
  failures: true = only those that did not end done
  tenant: NULL = the first schema of search_path
Errors:
  42501: no right to read
Example: SELECT tq_count_group(''import-7'', failures => true);';

CREATE FUNCTION @extschema@.tq_delete_group(group_id text, tasks boolean DEFAULT false, tenant text DEFAULT NULL) RETURNS bigint
LANGUAGE c AS 'MODULE_PATHNAME', 'tq_delete_group';
COMMENT ON FUNCTION @extschema@.tq_delete_group(text, boolean, text) IS
'Takes the label off the tasks of a group; how many that were.
Parameters:
  group_id: what they were enqueued with
  tasks: true = delete those that are finished; unfinished ones lose the label and go on, and so do finished members of flows that are not, with a NOTICE
  tenant: NULL = the first schema of search_path
Errors:
  42501: no right to operate
Example: SELECT tq_delete_group(''import-7'', tasks => true);';

CREATE FUNCTION @extschema@.tq_queue_size(queue text DEFAULT NULL, tenant text DEFAULT NULL) RETURNS bigint
LANGUAGE c AS 'MODULE_PATHNAME', 'tq_queue_size';
COMMENT ON FUNCTION @extschema@.tq_queue_size(text, text) IS
'How many tasks of the tenant wait: unfinished ones less those that run. Reads all of them: tq_tenants.queued is the cheap figure.
Parameters:
  queue: of one queue; NULL = of all
  tenant: NULL = the first schema of search_path
Errors:
  42501: no right to read
Example: SELECT tq_queue_size(''mail'');';
