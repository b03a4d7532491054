-- Copies of a database, and what CREATE EXTENSION notes in the end: this file is the last.

CREATE FUNCTION @extschema@.tq_confirm_copy() RETURNS void
LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tenant_q_confirm_copy';
COMMENT ON FUNCTION @extschema@.tq_confirm_copy() IS 'Says that this database, a restored or copied one, is to run its tasks and schedules from now on. Example: SELECT tq_confirm_copy();';
REVOKE ALL ON FUNCTION @extschema@.tq_confirm_copy() FROM PUBLIC;

CREATE FUNCTION tenant_q.created() RETURNS void
LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tenant_q_created';
COMMENT ON FUNCTION tenant_q.created() IS 'tells the launcher of this database';
REVOKE ALL ON FUNCTION tenant_q.created() FROM PUBLIC;
SELECT tenant_q.created();
