-- What stops, waits or is skipped, with the call that mends it.

CREATE FUNCTION tenant_q.problems() RETURNS jsonb
LANGUAGE c STABLE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tenant_q_problems';
COMMENT ON FUNCTION tenant_q.problems() IS 'behind tq_problems';

CREATE VIEW @extschema@.tq_problems AS
    SELECT x.what, x.since, x.reason, x.fix
      FROM pg_catalog.jsonb_to_recordset(tenant_q.problems()) AS x(what text, since timestamptz, reason text, fix text);
COMMENT ON VIEW @extschema@.tq_problems IS
'What is skipped or waits for somebody, why, and SQL that mends it and keeps what was said. Pauses are among them as long as something waits for their end. What a tenant''s rows say (schedules, quarantined tasks) is told to those who may read them, and to pg_monitor.
Example: SELECT * FROM tq_problems;';
COMMENT ON COLUMN @extschema@.tq_problems.what IS 'what is skipped or waits';
COMMENT ON COLUMN @extschema@.tq_problems.since IS 'since when';
COMMENT ON COLUMN @extschema@.tq_problems.reason IS 'why, for people';
COMMENT ON COLUMN @extschema@.tq_problems.fix IS 'SQL that mends it, to be run as it stands; NULL = it ends by itself, or the reason says what to do';
GRANT SELECT ON @extschema@.tq_problems TO PUBLIC;
