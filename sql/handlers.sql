-- Handlers: what tasks may call.

CREATE FUNCTION @extschema@.tq_register(handler text, function text DEFAULT NULL, queue text DEFAULT NULL, priority integer DEFAULT NULL, timeout interval DEFAULT NULL,
    max_attempts integer DEFAULT NULL, retry jsonb DEFAULT NULL, expires interval DEFAULT NULL, max_running integer DEFAULT NULL, rate text DEFAULT NULL, run_as text DEFAULT NULL,
    settings jsonb DEFAULT NULL, save boolean DEFAULT NULL, result_ttl interval DEFAULT NULL, aliases text[] DEFAULT NULL, external boolean DEFAULT false, shared boolean DEFAULT false, tenant text DEFAULT NULL) RETURNS boolean
LANGUAGE c AS 'MODULE_PATHNAME', 'tq_register';
COMMENT ON FUNCTION @extschema@.tq_register(text, text, text, integer, interval, integer, jsonb, interval, integer, text, text, jsonb, boolean, interval, text[], boolean, boolean, text) IS
'Registers a function or procedure that tasks may call; registering a name again replaces it. True = new.
function: SQL text such as ''send_invoice(bigint, text)''; NULL = the handler''s name; without a schema it is looked up in the tenant''s search_path; the schema''s owner needs USAGE on the schema that it is in. The rest are defaults for its tasks: queue, priority, timeout, max_attempts (0 = for ever), retry (tq_backoff), expires, save. run_as: the role it runs as, default the schema''s owner, who must be able to SET ROLE to it. result_ttl: how long results are kept at least. settings: {"name": "value"} while it runs. aliases: further names. shared: for all tenants (superusers only). max_running: of its tasks at a time in a tenant. rate: starts of them, ''10/m''. Not supported yet: external (0A000).
Errors: 42883 no such function, 42725 several of that name, 42501 not the schema''s owner, or the owner may not use the function''s schema; 22023 a value that makes no sense, 22008 one beyond the year 9999.
Example: SELECT tq_register(''send_invoice'', ''send_invoice(bigint, text)'', max_attempts => 5);';

CREATE FUNCTION @extschema@.tq_unregister(handler text, shared boolean DEFAULT false, tenant text DEFAULT NULL) RETURNS boolean
LANGUAGE c AS 'MODULE_PATHNAME', 'tq_unregister';
COMMENT ON FUNCTION @extschema@.tq_unregister(text, boolean, text) IS
'Forgets a handler; shared: one of all tenants. Its waiting tasks are held for tenant_q.handler_grace and then fail with 42883. False = there was none.
Example: SELECT tq_unregister(''send_invoice'');';

CREATE FUNCTION @extschema@.tq_backoff(kind text, base interval DEFAULT NULL, factor double precision DEFAULT NULL, cap interval DEFAULT NULL, jitter double precision DEFAULT NULL,
    delays interval[] DEFAULT NULL, retry_on text[] DEFAULT NULL, never_on text[] DEFAULT NULL) RETURNS jsonb
LANGUAGE c IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tq_backoff';
COMMENT ON FUNCTION @extschema@.tq_backoff(text, interval, double precision, interval, double precision, interval[], text[], text[]) IS
'A retry policy for retry => of tq_async and tq_register.
kind: fixed (base each time) | linear (base + factor * base * n) | exponential (base * factor ^ n) | list (delays, the last for the rest) | the formulas of celery, dramatiq, rq, procrastinate. cap: longest delay. jitter: share that is random, 0 to 1. retry_on, never_on: SQLSTATEs or their first characters.
Without a policy: exponential, 15 s * 2 ^ n, +-10 %, at most 1 h. Errors: 22023.
Example: SELECT tq_async(''f'', retry => tq_backoff(''fixed'', ''5 seconds''));';

CREATE FUNCTION tenant_q.backoff_delay(policy jsonb, attempt integer) RETURNS jsonb
LANGUAGE c IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tenant_q_backoff_delay';
COMMENT ON FUNCTION tenant_q.backoff_delay(jsonb, integer) IS 'seconds that a policy waits after the n-th attempt, without its random part';

CREATE FUNCTION tenant_q.handlers(tenant text DEFAULT NULL) RETURNS jsonb
LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'tenant_q_handlers';
COMMENT ON FUNCTION tenant_q.handlers(text) IS 'behind the view tq_handlers';
CREATE VIEW @extschema@.tq_handlers AS
    SELECT x.tenant, x.handler, x.function, x.shared, x.status, x.reason, x.guarantee, x.run_as, x.queue, x.priority, x.timeout, x.max_attempts, x.retry, x.save, x.settings, x.expires, x.max_running, x.rate, x.result_ttl, x.aliases
      FROM pg_catalog.jsonb_to_recordset(tenant_q.handlers()) AS x(tenant text, handler text, function text, shared boolean, status text, reason text, guarantee text, run_as text, queue text, priority integer, timeout interval, max_attempts integer, retry jsonb, save boolean, settings jsonb, expires interval, max_running integer, rate text, result_ttl interval, aliases text[]);
COMMENT ON VIEW @extschema@.tq_handlers IS 'Handlers of the current tenant, shared ones included. status: ok | missing | changed | paused | quarantined. guarantee: exactly_once for functions; at_least_once for procedures, which may COMMIT. The rest is what tq_register was told; settings only for whoever may read the tenant''s tasks. Example: SELECT * FROM tq_handlers WHERE status <> ''ok'';';
GRANT SELECT ON @extschema@.tq_handlers TO PUBLIC;

CREATE FUNCTION tenant_q.routine_changed() RETURNS event_trigger
LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tenant_q_routine_changed';
COMMENT ON FUNCTION tenant_q.routine_changed() IS 'tasks held for a missing function are looked at again';
REVOKE ALL ON FUNCTION tenant_q.routine_changed() FROM PUBLIC;
CREATE EVENT TRIGGER tenant_q_routine_changed ON ddl_command_end
    WHEN TAG IN ('CREATE FUNCTION', 'CREATE PROCEDURE', 'ALTER FUNCTION', 'ALTER PROCEDURE', 'ALTER ROUTINE') EXECUTE FUNCTION tenant_q.routine_changed();
