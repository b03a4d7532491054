-- How far a running task is. In shared memory only.

CREATE FUNCTION @extschema@.tq_progress(fraction double precision, note jsonb DEFAULT NULL, claim uuid DEFAULT NULL) RETURNS void
LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tq_progress';
COMMENT ON FUNCTION @extschema@.tq_progress(double precision, jsonb, uuid) IS
'Says from inside a handler, or with claim as a worker, how far its task is; others see it in tq_running at once, while the task runs.
Parameters:
  fraction: 0 to 1
  note: up to 256 bytes; NULL takes the last one away
  claim: of a worker, as tq_take has returned it
Errors:
  55000: outside of a task, without claim
  TQ007: the claim is gone
  22023: fraction beyond 0 to 1
  54000: note too long
Example: PERFORM tq_progress(0.4, ''{"rows": 4000}'');';
