-- Copies of a database, and what CREATE EXTENSION notes in the end: this file is the last.

CREATE FUNCTION @extschema@.tq_confirm_copy() RETURNS void
LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tenant_q_confirm_copy';
COMMENT ON FUNCTION @extschema@.tq_confirm_copy() IS
'Says that this database, a restored or copied one, is to run its tasks and schedules from now on. EXECUTE is granted to nobody by default.
Example: SELECT tq_confirm_copy();';
REVOKE ALL ON FUNCTION @extschema@.tq_confirm_copy() FROM PUBLIC;

-- A restored dump adds the original's row: from then on this database is a copy.
CREATE FUNCTION tenant_q.identity_changed() RETURNS trigger
LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tenant_q_identity_changed';
COMMENT ON FUNCTION tenant_q.identity_changed() IS 'has the launcher look whether this database is a copy';
REVOKE ALL ON FUNCTION tenant_q.identity_changed() FROM PUBLIC;
CREATE TRIGGER identity_changed AFTER INSERT OR DELETE OR TRUNCATE OR UPDATE OF system_identifier, database_oid ON tenant_q.identity
    FOR EACH STATEMENT EXECUTE FUNCTION tenant_q.identity_changed();
-- Replication writes rows as well.
ALTER TABLE tenant_q.identity ENABLE ALWAYS TRIGGER identity_changed;

CREATE FUNCTION tenant_q.created() RETURNS void
LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tenant_q_created';
COMMENT ON FUNCTION tenant_q.created() IS 'tells the launcher of this database';
REVOKE ALL ON FUNCTION tenant_q.created() FROM PUBLIC;
SELECT tenant_q.created();
