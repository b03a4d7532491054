-- Tenants' tables that an older version has made.

CREATE FUNCTION tenant_q.bring_up(schema_name text) RETURNS integer
LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tenant_q_bring_up';
REVOKE ALL ON FUNCTION tenant_q.bring_up(text) FROM PUBLIC;
COMMENT ON FUNCTION tenant_q.bring_up(text) IS 'behind tq_upgrade: makes what the tables of one tenant lack; how many indexes';

CREATE PROCEDURE @extschema@.tq_upgrade(pattern text DEFAULT '%')
LANGUAGE plpgsql AS $body$
DECLARE
    whose pg_catalog.text;
    schemas pg_catalog.text[];
    made pg_catalog.int4 := 0;
    left_out pg_catalog.int4 := 0;
    why pg_catalog.text;
    way_out pg_catalog.text;
BEGIN
    SELECT pg_catalog.array_agg(n.nspname::pg_catalog.text ORDER BY n.nspname) INTO schemas
      FROM pg_catalog.pg_namespace n
     WHERE n.nspname OPERATOR(pg_catalog.~~) pattern AND tenant_q.is_attached(n.nspname::pg_catalog.text);
    FOREACH whose IN ARRAY coalesce(schemas, '{}'::pg_catalog.text[]) LOOP
        BEGIN
            made := made OPERATOR(pg_catalog.+) tenant_q.bring_up(whose);
        EXCEPTION WHEN OTHERS THEN
            GET STACKED DIAGNOSTICS why = MESSAGE_TEXT, way_out = PG_EXCEPTION_HINT;
            RAISE WARNING USING MESSAGE = pg_catalog.format('tenant "%s" is left as it is: %s', whose, why), HINT = way_out;
            left_out := left_out OPERATOR(pg_catalog.+) 1;
        END;
        COMMIT;
    END LOOP;
    RAISE NOTICE '% tenants, % indexes made, % tenants left as they are', pg_catalog.cardinality(coalesce(schemas, '{}'::pg_catalog.text[])), made, left_out;
END
$body$;
REVOKE ALL ON PROCEDURE @extschema@.tq_upgrade(text) FROM PUBLIC;
COMMENT ON PROCEDURE @extschema@.tq_upgrade(text) IS
'After ALTER EXTENSION tenant_q UPDATE: makes the indexes that tables attached by an older version lack, a tenant at a time and a transaction each. Meanwhile all work; the tasks of the tenant whose index is being built end a moment later. EXECUTE is granted to nobody by default.
Whose tables somebody holds for five seconds, or are not as tq_attach made them, is left out with a warning that says why; what is complete is passed by, so it can be called again.
Parameters:
  pattern: tenants whose name is LIKE it
Errors:
  2D000: inside a transaction block or function
Example: CALL tq_upgrade();';
