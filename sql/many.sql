-- Many tasks at once, by what they are. These read the caller's search_path: no SET clause, everything qualified.

CREATE FUNCTION tenant_q.requeue_all(handler text, name_like text, states text[], queue text, schedule text, group_id text, sqlstate text, since timestamptz, until timestamptz, max_tasks integer, everything boolean, dry_run boolean,
    set_run_at timestamptz, set_queue text, set_priority integer, set_expires interval, tenant text) RETURNS jsonb
LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_q_requeue_all';
COMMENT ON FUNCTION tenant_q.requeue_all(text, text, text[], text, text, text, text, timestamptz, timestamptz, integer, boolean, boolean, timestamptz, text, integer, interval, text) IS 'behind tq_requeue_all';
CREATE FUNCTION @extschema@.tq_requeue_all(handler text DEFAULT NULL, name_like text DEFAULT NULL, states text[] DEFAULT NULL, queue text DEFAULT NULL, schedule text DEFAULT NULL, group_id text DEFAULT NULL, sqlstate text DEFAULT NULL,
    since timestamptz DEFAULT NULL, until timestamptz DEFAULT NULL, max_tasks integer DEFAULT NULL, everything boolean DEFAULT false, dry_run boolean DEFAULT false, tenant text DEFAULT NULL)
RETURNS TABLE (tasks bigint, more boolean, sample uuid[])
LANGUAGE sql AS $body$
    SELECT x.tasks, x.more, x.sample
      FROM pg_catalog.jsonb_to_recordset(tenant_q.requeue_all($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, NULL, NULL, NULL, NULL, $13)) AS x(tasks bigint, more boolean, sample pg_catalog.uuid[])
$body$;
COMMENT ON FUNCTION @extschema@.tq_requeue_all(text, text, text[], text, text, text, text, timestamptz, timestamptz, integer, boolean, boolean, text) IS
'Runs finished tasks again that match, each as tq_requeue does, in one transaction. All that is given must be true of a task.
A flow that matches goes with all its members, and those of them are counted that match too. A task whose unique_key another one has, and a flow of whose members a result is gone, stay as they are and are not counted.
Parameters:
  handler: what they call
  name_like: their name, a pattern as LIKE has them
  states: of done, failed, cancelled, expired, quarantined; NULL = failed
  queue: their queue
  schedule: what has enqueued them
  group_id: their label
  sqlstate: of their last error
  since: finished from then on
  until: finished before then
  max_tasks: no more than so many; loop while there are more
  everything: true = all; without it, one of the above but max_tasks has to be given
  dry_run: true = only tells what would be done
  tenant: NULL = the first schema of search_path
Columns:
  tasks: how many that were
  more: whether max_tasks has left others, or another transaction was at them
  sample: the ids of the first ten
Errors:
  22023: no filter, or a value that makes no sense
  42704: the handler of one of them is not registered
  42501: no right to operate, or a superuser''s task
  53400: quota
Example: SELECT * FROM tq_requeue_all(states => ''{failed}'', sqlstate => ''40001'', since => now() - interval ''1 hour'');';

CREATE FUNCTION tenant_q.cancel_all(handler text, name_like text, states text[], queue text, schedule text, group_id text, sqlstate text, since timestamptz, until timestamptz, max_tasks integer, everything boolean, dry_run boolean,
    set_run_at timestamptz, set_queue text, set_priority integer, set_expires interval, tenant text) RETURNS jsonb
LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_q_cancel_all';
COMMENT ON FUNCTION tenant_q.cancel_all(text, text, text[], text, text, text, text, timestamptz, timestamptz, integer, boolean, boolean, timestamptz, text, integer, interval, text) IS 'behind tq_cancel_all';
CREATE FUNCTION @extschema@.tq_cancel_all(handler text DEFAULT NULL, name_like text DEFAULT NULL, states text[] DEFAULT NULL, queue text DEFAULT NULL, schedule text DEFAULT NULL, group_id text DEFAULT NULL, sqlstate text DEFAULT NULL,
    since timestamptz DEFAULT NULL, until timestamptz DEFAULT NULL, max_tasks integer DEFAULT NULL, everything boolean DEFAULT false, dry_run boolean DEFAULT false, tenant text DEFAULT NULL)
RETURNS TABLE (tasks bigint, more boolean, sample uuid[])
LANGUAGE sql AS $body$
    SELECT x.tasks, x.more, x.sample
      FROM pg_catalog.jsonb_to_recordset(tenant_q.cancel_all($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, NULL, NULL, NULL, NULL, $13)) AS x(tasks bigint, more boolean, sample pg_catalog.uuid[])
$body$;
COMMENT ON FUNCTION @extschema@.tq_cancel_all(text, text, text[], text, text, text, text, timestamptz, timestamptz, integer, boolean, boolean, text) IS
'Cancels unfinished tasks that match, each as tq_cancel does, in one transaction; running ones are interrupted after your commit. All that is given must be true of a task.
A flow that matches goes with all its members, and those of them are counted that match too. In a task this leaves the task itself alone.
Parameters:
  handler: what they call
  name_like: their name, a pattern as LIKE has them
  states: of deferred, delayed, queued, running, retrying, held; NULL = all
  queue: their queue
  schedule: what has enqueued them
  group_id: their label
  sqlstate: of their last error
  since: enqueued from then on
  until: enqueued before then
  max_tasks: no more than so many; loop while there are more
  everything: true = all; without it, one of the above but max_tasks has to be given
  dry_run: true = only tells what would be done
  tenant: NULL = the first schema of search_path
Columns:
  tasks: how many that were
  more: whether max_tasks has left others, or another transaction was at them
  sample: the ids of the first ten
Errors:
  22023: no filter, or a value that makes no sense
  42501: no right to operate
Example: SELECT * FROM tq_cancel_all(handler => ''send_invoice'', states => ''{delayed,queued}'', dry_run => true);';

CREATE FUNCTION tenant_q.delete_all(handler text, name_like text, states text[], queue text, schedule text, group_id text, sqlstate text, since timestamptz, until timestamptz, max_tasks integer, everything boolean, dry_run boolean,
    set_run_at timestamptz, set_queue text, set_priority integer, set_expires interval, tenant text) RETURNS jsonb
LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_q_delete_all';
COMMENT ON FUNCTION tenant_q.delete_all(text, text, text[], text, text, text, text, timestamptz, timestamptz, integer, boolean, boolean, timestamptz, text, integer, interval, text) IS 'behind tq_delete_all';
CREATE FUNCTION @extschema@.tq_delete_all(handler text DEFAULT NULL, name_like text DEFAULT NULL, states text[] DEFAULT NULL, queue text DEFAULT NULL, schedule text DEFAULT NULL, group_id text DEFAULT NULL, sqlstate text DEFAULT NULL,
    since timestamptz DEFAULT NULL, until timestamptz DEFAULT NULL, max_tasks integer DEFAULT NULL, everything boolean DEFAULT false, dry_run boolean DEFAULT false, tenant text DEFAULT NULL)
RETURNS TABLE (tasks bigint, more boolean, sample uuid[])
LANGUAGE sql AS $body$
    SELECT x.tasks, x.more, x.sample
      FROM pg_catalog.jsonb_to_recordset(tenant_q.delete_all($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, NULL, NULL, NULL, NULL, $13)) AS x(tasks bigint, more boolean, sample pg_catalog.uuid[])
$body$;
COMMENT ON FUNCTION @extschema@.tq_delete_all(text, text, text[], text, text, text, text, timestamptz, timestamptz, integer, boolean, boolean, text) IS
'Deletes finished tasks that match, with their results, each as tq_delete does, in one transaction. All that is given must be true of a task.
A member stays, and is not counted, whose flow is not finished.
Parameters:
  handler: what they call
  name_like: their name, a pattern as LIKE has them
  states: of done, failed, cancelled, expired, quarantined; NULL = all
  queue: their queue
  schedule: what has enqueued them
  group_id: their label
  sqlstate: of their last error
  since: finished from then on
  until: finished before then
  max_tasks: no more than so many; loop while there are more
  everything: true = all; without it, one of the above but max_tasks has to be given
  dry_run: true = only tells what would be done
  tenant: NULL = the first schema of search_path
Columns:
  tasks: how many that were
  more: whether max_tasks has left others, or another transaction was at them
  sample: the ids of the first ten
Errors:
  22023: no filter, or a value that makes no sense
  42501: no right to operate
Example: SELECT * FROM tq_delete_all(states => ''{cancelled,expired}'', until => now() - interval ''1 day'', max_tasks => 10000);';

CREATE FUNCTION tenant_q.update_all(handler text, name_like text, states text[], queue text, schedule text, group_id text, sqlstate text, since timestamptz, until timestamptz, max_tasks integer, everything boolean, dry_run boolean,
    set_run_at timestamptz, set_queue text, set_priority integer, set_expires interval, tenant text) RETURNS jsonb
LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_q_update_all';
COMMENT ON FUNCTION tenant_q.update_all(text, text, text[], text, text, text, text, timestamptz, timestamptz, integer, boolean, boolean, timestamptz, text, integer, interval, text) IS 'behind tq_update_all';
CREATE FUNCTION @extschema@.tq_update_all(handler text DEFAULT NULL, name_like text DEFAULT NULL, states text[] DEFAULT NULL, queue text DEFAULT NULL, schedule text DEFAULT NULL, group_id text DEFAULT NULL, sqlstate text DEFAULT NULL,
    since timestamptz DEFAULT NULL, until timestamptz DEFAULT NULL, max_tasks integer DEFAULT NULL, everything boolean DEFAULT false, dry_run boolean DEFAULT false, set_run_at timestamptz DEFAULT NULL, set_queue text DEFAULT NULL, set_priority integer DEFAULT NULL, set_expires interval DEFAULT NULL, tenant text DEFAULT NULL)
RETURNS TABLE (tasks bigint, more boolean, sample uuid[])
LANGUAGE sql AS $body$
    SELECT x.tasks, x.more, x.sample
      FROM pg_catalog.jsonb_to_recordset(tenant_q.update_all($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)) AS x(tasks bigint, more boolean, sample pg_catalog.uuid[])
$body$;
COMMENT ON FUNCTION @extschema@.tq_update_all(text, text, text[], text, text, text, text, timestamptz, timestamptz, integer, boolean, boolean, timestamptz, text, integer, interval, text) IS
'Changes tasks that wait and match, each as tq_update does, in one transaction. All that is given must be true of a task. Tasks that run, or are about to, stay as they are and are not counted.
Parameters:
  handler: what they call
  name_like: their name, a pattern as LIKE has them
  states: of deferred, delayed, queued, retrying, held; NULL = all
  queue: their queue
  schedule: what has enqueued them
  group_id: their label
  sqlstate: of their last error
  since: enqueued from then on
  until: enqueued before then
  max_tasks: no more than so many; loop while there are more
  everything: true = all; without it, one of the above but max_tasks has to be given
  dry_run: true = only tells what would be done
  set_run_at: not before; NULL = as it is
  set_queue: into which; NULL = as it is
  set_priority: -32768 to 32767, higher first; NULL = as it is
  set_expires: not started any more when that has passed since they may run, from now on at the earliest; NULL = as it is
  tenant: NULL = the first schema of search_path
Columns:
  tasks: how many that were
  more: whether max_tasks has left others, or another transaction was at them
  sample: the ids of the first ten
Errors:
  22023: no filter, nothing to set, or a value that makes no sense
  42501: no right to operate
Example: SELECT * FROM tq_update_all(handler => ''send_invoice'', states => ''{delayed}'', set_run_at => now());';
