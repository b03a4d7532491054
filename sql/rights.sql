-- Who may do what in a tenant; fresh executors. tq_grant and tq_revoke read the caller's search_path: no SET clause.

CREATE FUNCTION @extschema@.tq_grant(role text, rights text[], tenant text DEFAULT NULL) RETURNS void
LANGUAGE c AS 'MODULE_PATHNAME', 'tq_grant';
COMMENT ON FUNCTION @extschema@.tq_grant(text, text[], text) IS
'Gives a role rights in a tenant, with USAGE on its schema, as its owner''s own GRANTs. Needs to be the schema''s owner.
Parameters:
  role: the bare name of an existing role
  rights: of enqueue (tq_async and kin), read (results, tasks, schedules, arguments included), operate (cancel, requeue, update, delete; schedules; pause and resume), work (run its tasks in an own session; those tasks run as the handler''s role)
  tenant: NULL = the first schema of search_path
Errors:
  42501: not the owner
  42704: no such role
  22023: no such right
  55P03: as of tq_detach
Example: SELECT tq_grant(''app'', ''{enqueue,read}'', tenant => ''acme'');';

CREATE FUNCTION @extschema@.tq_revoke(role text, rights text[], tenant text DEFAULT NULL) RETURNS void
LANGUAGE c AS 'MODULE_PATHNAME', 'tq_revoke';
COMMENT ON FUNCTION @extschema@.tq_revoke(text, text[], text) IS
'Takes rights from a role that tq_grant gave it. USAGE on the schema stays: other things in it may need it.
Parameters:
  role: as in tq_grant
  rights: as in tq_grant
  tenant: NULL = the first schema of search_path
Errors:
  as tq_grant: the same
Example: SELECT tq_revoke(''app'', ''{read}'', tenant => ''acme'');';

-- Commit after each tenant: no SET clause, everything qualified.
CREATE PROCEDURE tenant_q.grant_or_revoke_all(role text, rights text[], give boolean)
LANGUAGE plpgsql AS $body$
DECLARE
    tenants pg_catalog.text[];
    tenant_name pg_catalog.text;
    failed integer := 0;
BEGIN
    PERFORM tenant_q.grant_all_step(role, rights, NULL, give);
    COMMIT;
    SELECT coalesce(pg_catalog.array_agg(t.tenant ORDER BY t.tenant), '{}') INTO tenants FROM tenant_q.all_tenants(give) AS t;
    FOREACH tenant_name IN ARRAY tenants LOOP
        BEGIN
            PERFORM tenant_q.grant_all_step(role, rights, tenant_name, give);
        EXCEPTION WHEN OTHERS THEN
            -- The others don't wait for it.
            RAISE WARNING 'tenant "%": %', tenant_name, SQLERRM;
            failed := failed OPERATOR(pg_catalog.+) 1;
        END;
        COMMIT;
    END LOOP;
    RAISE NOTICE '% of % tenants give role "%" these rights%', pg_catalog.cardinality(tenants) OPERATOR(pg_catalog.-) failed, pg_catalog.cardinality(tenants), role,
        CASE WHEN give THEN ', and those attached from now on' ELSE ' no more, nor do those attached from now on' END;
END
$body$;
CREATE PROCEDURE @extschema@.tq_grant_all(role text, rights text[])
LANGUAGE plpgsql AS $body$ BEGIN CALL tenant_q.grant_or_revoke_all(role, rights, true); END $body$;
COMMENT ON PROCEDURE @extschema@.tq_grant_all(text, text[]) IS
'tq_grant in every tenant, one transaction each, and in every schema that is attached later. A tenant where it fails is told of in a WARNING, and the others go on: calling it again does what is left, a schema included that another transaction was just attaching. An owner can take the rights back in their tenant.
EXECUTE is granted to nobody by default. Whoever has it can give themselves every right in every tenant.
Parameters:
  role: the bare name of an existing role
  rights: as in tq_grant
Errors:
  42704: no such role
  22023: no such right
  2D000: inside a transaction block
Example: CALL tq_grant_all(''oncall'', ''{operate}'');';

CREATE PROCEDURE @extschema@.tq_revoke_all(role text, rights text[])
LANGUAGE plpgsql AS $body$ BEGIN CALL tenant_q.grant_or_revoke_all(role, rights, false); END $body$;
COMMENT ON PROCEDURE @extschema@.tq_revoke_all(text, text[]) IS
'Takes rights from a role in every tenant, one transaction each, whoever gave them, and from what schemas attached later give it. A tenant where it fails is told of in a WARNING, and the others go on.
EXECUTE is granted to nobody by default.
Parameters:
  role: as in tq_grant_all
  rights: as in tq_grant
Errors:
  as tq_grant_all: the same
Example: CALL tq_revoke_all(''oncall'', ''{operate}'');';

CREATE FUNCTION tenant_q.grant_all_step(role text, rights text[], tenant text, give boolean) RETURNS void
LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tenant_q_grant_all_step';
COMMENT ON FUNCTION tenant_q.grant_all_step(text, text[], text, boolean) IS 'one transaction of tq_grant_all or tq_revoke_all, for who may call that';
COMMENT ON PROCEDURE tenant_q.grant_or_revoke_all(text, text[], boolean) IS 'behind tq_grant_all and tq_revoke_all';
CREATE FUNCTION tenant_q.all_tenants(give boolean) RETURNS TABLE (tenant text)
LANGUAGE c STABLE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tenant_q_all_tenants';
COMMENT ON FUNCTION tenant_q.all_tenants(boolean) IS 'the names of all tenants, for who may call tq_grant_all, or tq_revoke_all';
REVOKE ALL ON PROCEDURE @extschema@.tq_grant_all(text, text[]), @extschema@.tq_revoke_all(text, text[]) FROM PUBLIC;

CREATE FUNCTION @extschema@.tq_recycle() RETURNS integer
LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tq_recycle';
COMMENT ON FUNCTION @extschema@.tq_recycle() IS
'Replaces the executors of this database by fresh processes, each when its present task has ended; how many. Workers outside of the server hear ''drain'', of themselves and of what they have (tq_watch). For code that an interpreter has loaded: after a deploy of Python or Perl modules. EXECUTE is granted to nobody by default.
Example: SELECT tq_recycle();';
REVOKE ALL ON FUNCTION @extschema@.tq_recycle() FROM PUBLIC;
