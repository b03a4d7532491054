-- Running tasks in one's own session. The functions read the caller's search_path, the procedure COMMITs: no SET clause, everything qualified.

CREATE FUNCTION tenant_q.drain(max_tasks integer, as_of timestamptz, tenant text) RETURNS jsonb
LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_q_drain';
COMMENT ON FUNCTION tenant_q.drain(integer, timestamptz, text) IS 'behind tq_drain';

CREATE FUNCTION @extschema@.tq_drain(max_tasks integer DEFAULT 1000, as_of timestamptz DEFAULT pg_catalog.now(), tenant text DEFAULT NULL) RETURNS SETOF tenant_q.task
LANGUAGE sql AS $body$
    SELECT x.name, x.handler, x.state, tenant_q.reason(x.reason, x.state, x.error), x.attempt, x.max_attempts, x.run_at, x.started_at, x.finished_at, x.created_at,
           x.queue, x.priority, x.schedule, x.scheduled_for, x.group_id, x.enqueued_by, x.tenant, x.id, x.parent_id, x.error, x.result OPERATOR(pg_catalog.->) 0,
           x.args OPERATOR(pg_catalog.->) 0, x.meta
      FROM pg_catalog.jsonb_populate_recordset(NULL::tenant_q.task, tenant_q.drain($1, $2, $3)) AS x
$body$;
COMMENT ON FUNCTION @extschema@.tq_drain(integer, timestamptz, text) IS
'Runs due tasks here and now, inside your transaction, a savepoint each: in the order of picking, those included that they enqueue, until nothing is due. One row an attempt, as the task is after it. A failure is recorded as an executor would, and stops nothing; your ROLLBACK undoes all. For tests; works on servers that don''t preload tenant_q.
Only tasks whose role is the current user are run; others, and procedures, are left with a NOTICE. Your deferred constraints are checked first, as at a commit; afterwards constraints are as declared.
Parameters:
  max_tasks: attempts at most; NULL = no limit
  as_of: tasks and retries due by then run too (now() itself stays what it is); schedules don''t fire
  tenant: NULL = the first schema of search_path
Errors:
  42501: no right to work
  55000: inside a task, or the tenant is paused or not ready
  22023: max_tasks is negative, or as_of infinite
Example: SELECT handler, state, result FROM tq_drain(as_of => now() + interval ''1 day'');';

CREATE FUNCTION tenant_q.pending_begin(tenant text) RETURNS text
LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_q_pending_begin';
COMMENT ON FUNCTION tenant_q.pending_begin(text) IS 'behind tq_run_pending';
CREATE FUNCTION tenant_q.pending_step(tenant text, wait interval) RETURNS text
LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_q_pending_step';
COMMENT ON FUNCTION tenant_q.pending_step(text, interval) IS 'behind tq_run_pending';

CREATE PROCEDURE @extschema@.tq_run_pending(tenant text DEFAULT NULL, max_tasks integer DEFAULT NULL, wait interval DEFAULT '0')
LANGUAGE plpgsql AS $body$
DECLARE
    whose pg_catalog.text;
    step pg_catalog.text;
    done pg_catalog.int4 := 0;
BEGIN
    -- An error where it can't commit, before anything has run.
    whose := tenant_q.pending_begin(tenant);
    COMMIT;
    IF max_tasks OPERATOR(pg_catalog.<) 0 THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'max_tasks is negative';
    END IF;
    WHILE max_tasks IS NULL OR done OPERATOR(pg_catalog.<) max_tasks LOOP
        step := tenant_q.pending_step(whose, wait);
        COMMIT;
        IF step OPERATOR(pg_catalog.=) 'ran'::pg_catalog.text THEN
            done := done OPERATOR(pg_catalog.+) 1;
        ELSIF step OPERATOR(pg_catalog.=) 'idle'::pg_catalog.text THEN
            EXIT;
        END IF;
    END LOOP;
END
$body$;
COMMENT ON PROCEDURE @extschema@.tq_run_pending(text, integer, interval) IS
'Runs due tasks in this session, a transaction each, in the order of picking, until nothing has been due for as long as wait. Beside executors or instead of them: for scripts, tests, and servers that don''t preload tenant_q.
Only tasks whose role is the current user are run; others, and procedures, are left with a NOTICE.
Parameters:
  tenant: NULL = the first schema of search_path
  max_tasks: attempts at most; NULL = no limit
  wait: for something to come due
Errors:
  2D000: inside a transaction block or function, where tq_drain runs what is due
  42501: no right to work
  55000: the tenant is paused or not ready
  22023: max_tasks or wait is negative
Example: CALL tq_run_pending(wait => ''1 second'');';
