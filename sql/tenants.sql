-- Tenants: making schemas into them, and saying how they are treated.
-- The template tables: what a tenant's tables are compared with.

CREATE FUNCTION tenant_q.table_text(quoted_schema text) RETURNS text
LANGUAGE c IMMUTABLE STRICT SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tenant_q_table_text';
COMMENT ON FUNCTION tenant_q.table_text(text) IS 'the SQL that makes a tenant''s tables';

DO LANGUAGE plpgsql $do$
BEGIN
    EXECUTE tenant_q.table_text('tenant_q');
END
$do$;
REVOKE ALL ON tenant_q.tq_task, tenant_q.tq_result, tenant_q.tq_schedule FROM PUBLIC;

CREATE FUNCTION @extschema@.tq_attach(tenant text DEFAULT NULL, adopt boolean DEFAULT false, ready boolean DEFAULT true) RETURNS boolean
LANGUAGE c AS 'MODULE_PATHNAME', 'tq_attach';
COMMENT ON FUNCTION @extschema@.tq_attach(text, boolean, boolean) IS
'Makes a schema a tenant: creates the three tables of its tasks, results and schedules, as its owner. Needs to be the schema''s owner. True, or false with a NOTICE if it is attached already.
Handlers and the like that are still registered are kept where schema and owner are those they were registered for, or the schema was restored and its owner has the same name; otherwise they are removed, with a NOTICE.
Where a superuser owns the schema, tasks run as one only after a superuser has attached it, once more if it came to belong to a superuser since: tasks and schedules from before count as nobody''s then.
Parameters:
  tenant: the schema; NULL = the first of search_path
  adopt: take over such tables that are there already (restored, detached before)
  ready: false = nothing is run yet; see tq_set_tenant
Errors:
  3F000: no such schema
  42501: not its owner
  42P07: tables of these names exist
  55000: tables to adopt are not as ours
  0A000: Citus has distributed the schema
  53400: more than 50 in one transaction
  55P03: as of tq_detach
Example: SELECT tq_attach(''acme'');';

CREATE FUNCTION @extschema@.tq_detach(tenant text, drop_data boolean DEFAULT false) RETURNS boolean
LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tq_detach';
COMMENT ON FUNCTION @extschema@.tq_detach(text, boolean) IS
'Makes a tenant an ordinary schema again. Pauses end; what tq_set_quota said stays with the schema. False = it was not attached.
Parameters:
  tenant: the schema
  drop_data: true = drop its tables and handlers too; otherwise they stay, with listeners, queues, limits and what tq_set_tenant said, and tq_attach(adopt => true) by the same owner takes them up
Errors:
  42501: not the owner
  55P03: another transaction has held what it changes for 5 seconds: DETAIL names it, HINT ends it
Example: SELECT tq_detach(''acme'');';

CREATE FUNCTION @extschema@.tq_tenant() RETURNS text
LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'tq_tenant';
COMMENT ON FUNCTION @extschema@.tq_tenant() IS
'The current tenant: the first schema of search_path other than "$user", pg_temp and pg_catalog. Never silently another one.
Errors:
  3F000: there is none, or it does not exist
  42501: not usable
  55000: not attached
Example: SET search_path = acme, public; SELECT tq_tenant();';

CREATE FUNCTION @extschema@.tq_set_tenant(tenant text DEFAULT NULL, ready boolean DEFAULT NULL, timezone text DEFAULT NULL, shared_schemas text[] DEFAULT NULL,
    settings jsonb DEFAULT NULL, save_limit integer DEFAULT NULL, save_limit_per text DEFAULT NULL, result_ttl interval DEFAULT NULL, failure_ttl interval DEFAULT NULL, reset text[] DEFAULT '{}') RETURNS void
LANGUAGE c AS 'MODULE_PATHNAME', 'tq_set_tenant';
COMMENT ON FUNCTION @extschema@.tq_set_tenant(text, boolean, text, text[], jsonb, integer, text, interval, interval, text[]) IS
'What a tenant decides for itself. Of each parameter NULL leaves it as it is.
Parameters:
  tenant: the schema; NULL = the first of search_path
  ready: false = tasks and schedules wait, until somebody says true; what runs goes on, and a NOTICE says so. For a migration: tq_pause with drain and duration
  timezone: of its schedules and handlers; schedules without a tz of their own wait for their next fire time in it
  shared_schemas: behind its own on search_path
  settings: {"name": "value"} for its tasks
  save_limit: so many successes are kept, those that ended last; 0 = all, -1 = none
  save_limit_per: none | group | name | handler: of what save_limit counts
  result_ttl: how long results are kept at least, by the calendar of the zone
  failure_ttl: how long failures are kept at most, by the calendar of the zone
  reset: names of these that go back to the default
Errors:
  42501: not the owner
  22023: a value that makes no sense
  55P03: as of tq_detach
Example: SELECT tq_set_tenant(''acme'', timezone => ''Europe/Berlin'');';

CREATE FUNCTION @extschema@.tq_set_quota(tenant text, max_running integer DEFAULT NULL, max_queued integer DEFAULT NULL, weight integer DEFAULT NULL, rate text DEFAULT NULL, fan_out boolean DEFAULT NULL, reset text[] DEFAULT '{}') RETURNS void
LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tq_set_quota';
COMMENT ON FUNCTION @extschema@.tq_set_quota(text, integer, integer, integer, text, boolean, text[]) IS
'What an administrator decides for a tenant. Of each parameter NULL leaves it as it is. EXECUTE is granted to nobody by default.
It stays with the schema, and with a schema of that name that the same owner makes after it was dropped, until it is reset; for one that is gone, tq_detach(..., drop_data => true) ends it.
Parameters:
  tenant: the schema
  max_running: tasks of it at a time; where more run, those that began last go back into the queue, uncounted: they are cancelled, cancelled again a second later, and after another second their executors are terminated; workers hear ''drain'' (tq_watch)
  max_queued: unfinished tasks, of all roles that its handlers run as, beyond which enqueuing raises 53400
  weight: share of the executors'' time, 1 to 1000, default 1
  rate: starts of its tasks, ''100/m'' (a bucket), ''100/m window'' or ''100/m sliding'', as in tq_register
  fan_out: whether work for all tenants includes it
  reset: names of these that go back to the default
Errors:
  22023: a value that makes no sense
  55P03: as of tq_detach
Example: SELECT tq_set_quota(''acme'', max_running => 2, weight => 5);';

CREATE FUNCTION @extschema@.tq_pause(tenant text DEFAULT NULL, queue text DEFAULT NULL, handler text DEFAULT NULL, duration interval DEFAULT NULL, drain interval DEFAULT NULL) RETURNS boolean
LANGUAGE c AS 'MODULE_PATHNAME', 'tq_pause';
COMMENT ON FUNCTION @extschema@.tq_pause(text, text, text, interval, interval) IS
'Starts no more tasks of the tenant; with queue, handler or both only of those; running ones go on. False = it was paused until tq_resume already. A queue that nothing has named so far is paused all the same; a NOTICE says so. Needs to be the schema''s owner, or the right to operate.
Parameters:
  tenant: the schema; NULL = the first of search_path
  queue: only its tasks
  handler: only its tasks
  duration: by the clock of the tenant''s zone; NULL = until tq_resume
  drain: waits so long, and tenant_q.max_wait at most, for what is meant and runs to end; workers hear ''drain'' of what they have of it (tq_watch); a NOTICE says what still runs. Meanwhile nothing of the tenant is started
Errors:
  42501: neither the owner nor the right
  42704: no such handler, with the nearest one
  22023: a negative duration
  54000: more than 1,000 pauses of queues and handlers
  55P03: as of tq_detach
Example: SELECT tq_pause(''acme'', handler => ''send_invoice'', duration => ''10 minutes'');';

CREATE FUNCTION @extschema@.tq_resume(tenant text DEFAULT NULL, queue text DEFAULT NULL, handler text DEFAULT NULL) RETURNS boolean
LANGUAGE c AS 'MODULE_PATHNAME', 'tq_resume';
COMMENT ON FUNCTION @extschema@.tq_resume(text, text, text) IS
'Undoes tq_pause with the same parameters. False = nothing to undo. Needs what tq_pause does. What keeps the tenant''s tasks all the same, a pause of all tenants say, is told by a NOTICE each, with the call that ends it.
Parameters:
  tenant: as tq_pause was told
  queue: as tq_pause was told
  handler: as tq_pause was told, or another name of it; one that was quarantined for crashing the server is freed, too
Errors:
  42501: neither the owner nor the right
  55P03: as of tq_detach
Example: SELECT tq_resume(''acme'');';

CREATE FUNCTION @extschema@.tq_pause_all(handler text DEFAULT NULL, queue text DEFAULT NULL, duration interval DEFAULT NULL) RETURNS void
LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tq_pause_all';
COMMENT ON FUNCTION @extschema@.tq_pause_all(text, text, interval) IS
'tq_pause for all tenants of this database; with handler, queue or both only of those. EXECUTE is granted to nobody by default.
Parameters:
  handler: only its tasks
  queue: only its tasks
  duration: NULL = until tq_resume_all
Errors:
  42704: no tenant has such a handler, with the nearest one
Example: SELECT tq_pause_all(handler => ''send_invoice'');';

CREATE FUNCTION @extschema@.tq_resume_all(handler text DEFAULT NULL, queue text DEFAULT NULL) RETURNS void
LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tq_resume_all';
COMMENT ON FUNCTION @extschema@.tq_resume_all(text, text) IS
'Undoes tq_pause_all with the same parameters; pauses of single tenants stay, and others of all: a NOTICE says so. EXECUTE is granted to nobody by default.
Parameters:
  handler: as tq_pause_all was told; shared ones that were quarantined for crashing the server are freed, too
  queue: as tq_pause_all was told
Example: SELECT tq_resume_all();';

-- Commits after each schema: no SET clause, everything qualified.
CREATE PROCEDURE @extschema@.tq_attach_all(pattern text DEFAULT '%', exclude text[] DEFAULT '{public}', adopt boolean DEFAULT false)
LANGUAGE plpgsql AS $body$
DECLARE
    schema_name pg_catalog.text;
    todo pg_catalog.text[];
    done integer := 0;
BEGIN
    SELECT pg_catalog.array_agg(n.nspname::pg_catalog.text ORDER BY n.nspname) INTO todo
      FROM pg_catalog.pg_namespace n
     WHERE n.nspname OPERATOR(pg_catalog.~~) pattern
       AND NOT n.nspname::pg_catalog.text OPERATOR(pg_catalog.=) ANY (exclude)
       AND n.nspname::pg_catalog.text OPERATOR(pg_catalog.<>) ALL ('{information_schema,tenant_q}'::pg_catalog.text[])
       AND NOT pg_catalog.starts_with(n.nspname::pg_catalog.text, 'pg_')
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_namespace'::pg_catalog.regclass
                          AND d.objid OPERATOR(pg_catalog.=) n.oid AND d.deptype OPERATOR(pg_catalog.=) 'e'::pg_catalog."char")
       AND NOT tenant_q.is_attached(n.nspname::pg_catalog.text);
    FOREACH schema_name IN ARRAY coalesce(todo, '{}'::pg_catalog.text[]) LOOP
        PERFORM @extschema@.tq_attach(schema_name, adopt);
        COMMIT;
        done := done OPERATOR(pg_catalog.+) 1;
        IF done OPERATOR(pg_catalog.%) 500 OPERATOR(pg_catalog.=) 0 THEN
            RAISE NOTICE '% of % schemas attached', done, pg_catalog.cardinality(todo);
        END IF;
    END LOOP;
    RAISE NOTICE '% % attached', done, CASE WHEN done OPERATOR(pg_catalog.=) 1 THEN 'schema' ELSE 'schemas' END;
END
$body$;
COMMENT ON PROCEDURE @extschema@.tq_attach_all(text, text[], boolean) IS
'Attaches all schemas whose name matches, one transaction each. EXECUTE is granted to nobody by default.
Parameters:
  pattern: names, as LIKE has them
  exclude: names that are left out
  adopt: as in tq_attach
Errors:
  as tq_attach: of the schema that it is at; those before stay attached
Example: CALL tq_attach_all(''tenant\_%'');';

CREATE FUNCTION tenant_q.is_attached(schema_name text) RETURNS boolean
LANGUAGE c STABLE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tenant_q_is_attached';
COMMENT ON FUNCTION tenant_q.is_attached(text) IS 'whether a schema of this name is attached';

REVOKE ALL ON FUNCTION @extschema@.tq_set_quota(text, integer, integer, integer, text, boolean, text[]), @extschema@.tq_pause_all(text, text, interval),
    @extschema@.tq_resume_all(text, text) FROM PUBLIC;
REVOKE ALL ON PROCEDURE @extschema@.tq_attach_all(text, text[], boolean) FROM PUBLIC;
