-- Why a task does not run. Reads the caller's search_path: no SET clause, everything qualified.

CREATE FUNCTION tenant_q.why(id uuid, tenant text) RETURNS jsonb
LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'tenant_q_why';
COMMENT ON FUNCTION tenant_q.why(uuid, text) IS 'behind tq_why';
CREATE FUNCTION @extschema@.tq_why(id uuid, tenant text DEFAULT NULL) RETURNS TABLE (reason text, detail text, hint text)
LANGUAGE sql STABLE AS $body$
    SELECT x.reason, x.detail, x.hint FROM pg_catalog.jsonb_to_recordset(tenant_q.why($1, $2)) AS x(reason pg_catalog.text, detail pg_catalog.text, hint pg_catalog.text)
$body$;
COMMENT ON FUNCTION @extschema@.tq_why(uuid, text) IS
'Why a task is not running: every reason, the decisive one first.
Parameters:
  id: the task
  tenant: NULL = the first schema of search_path
Columns:
  reason: in one word; docs/operations.md has them all, with what else says so
  detail: for people
  hint: SQL that ends it, or shows what it waits for; NULL or empty where it ends by itself
Errors:
  42501: no right to read
Example: SELECT * FROM tq_why(''0198c0de-0000-7000-8000-000000000001'');';
