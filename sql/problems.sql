-- What stops, waits or is skipped, with the call that mends it.

CREATE FUNCTION tenant_q.problems() RETURNS jsonb
LANGUAGE c STABLE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tenant_q_problems';
COMMENT ON FUNCTION tenant_q.problems() IS 'behind tq_problems';

CREATE VIEW @extschema@.tq_problems AS
    SELECT x.what, x.since, x.reason, x.fix
      FROM pg_catalog.jsonb_to_recordset(tenant_q.problems()) AS x(what text, since timestamptz, reason text, fix text);
COMMENT ON VIEW @extschema@.tq_problems IS 'What is skipped, why, and the exact call that mends it. Example: SELECT * FROM tq_problems;';
GRANT SELECT ON @extschema@.tq_problems TO PUBLIC;
