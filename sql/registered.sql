-- The registry follows schemas that are renamed and dropped.

CREATE FUNCTION tenant_q.renamed() RETURNS event_trigger
LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tenant_q_renamed';
COMMENT ON FUNCTION tenant_q.renamed() IS 'the registry follows renamed schemas';
CREATE FUNCTION tenant_q.dropped() RETURNS event_trigger
LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tenant_q_dropped';
COMMENT ON FUNCTION tenant_q.dropped() IS 'the registry forgets dropped schemas';
REVOKE ALL ON FUNCTION tenant_q.renamed(), tenant_q.dropped() FROM PUBLIC;
CREATE EVENT TRIGGER tenant_q_renamed ON ddl_command_end WHEN TAG IN ('ALTER SCHEMA') EXECUTE FUNCTION tenant_q.renamed();
CREATE EVENT TRIGGER tenant_q_dropped ON sql_drop WHEN TAG IN ('DROP SCHEMA', 'DROP OWNED') EXECUTE FUNCTION tenant_q.dropped();
