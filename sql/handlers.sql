-- Handlers: what tasks may call.

CREATE FUNCTION @extschema@.tq_register(handler text, function text DEFAULT NULL, queue text DEFAULT NULL, priority integer DEFAULT NULL, timeout interval DEFAULT NULL,
    max_attempts integer DEFAULT NULL, retry jsonb DEFAULT NULL, expires interval DEFAULT NULL, max_running integer DEFAULT NULL, rate text DEFAULT NULL, run_as text DEFAULT NULL,
    settings jsonb DEFAULT NULL, save boolean DEFAULT NULL, result_ttl interval DEFAULT NULL, aliases text[] DEFAULT NULL, external boolean DEFAULT false, shared boolean DEFAULT false, tenant text DEFAULT NULL, params jsonb DEFAULT NULL) RETURNS boolean
LANGUAGE c AS 'MODULE_PATHNAME', 'tq_register';
COMMENT ON FUNCTION @extschema@.tq_register(text, text, text, integer, interval, integer, jsonb, interval, integer, text, text, jsonb, boolean, interval, text[], boolean, boolean, text, jsonb) IS
'Registers a function or procedure that tasks may call; registering a name again replaces it; as it is, it writes nothing. True = new.
Parameters:
  handler: its name for tasks
  function: SQL text such as ''send_invoice(bigint, text)''; NULL = the handler''s name. Without a schema it is looked up in the tenant''s search_path; the schema''s owner needs USAGE on the schema that it is in
  queue: of its tasks, where they name none
  priority: of its tasks, where they say none; higher first
  timeout: of an attempt, where the task says none
  max_attempts: of its tasks, where they say none; 0 = for ever
  retry: how long to wait after a failed attempt, where the task doesn''t say: tq_backoff
  expires: of its tasks, where they don''t say: see tq_async
  max_running: of its tasks at a time in a tenant
  rate: starts of its tasks, ''10/m'', ''100/h'', ''5/10s'': a bucket, which lets a burst of the whole number through and then one after the other evenly, so nearly twice as many where a burst meets the next | ''5/s window'': so many in each stretch of the clock | ''5/s sliding'': in any stretch of that length
  run_as: the role it runs as, NULL = the schema''s owner, who must be able to SET ROLE to it; of an external one the role whose members may take its tasks, NULL = all who may work
  settings: {"name": "value"} while it runs; not of an external one
  save: false = no results are kept, where the task doesn''t say
  result_ttl: how long results are kept at least, where the task doesn''t say
  aliases: further names
  external: true = its code runs outside of the server, in workers that call tq_take; there is no function
  shared: true = for all tenants; superusers only, and for an external one whoever has EXECUTE on tenant_q.register_external()
  tenant: NULL = the first schema of search_path
  params: what an external one takes, checked where a task is enqueued: [{"name": "order_id", "type": "bigint"}, {"name": "locale", "type": "text", "default": "de"}]; NULL = any document
Errors:
  42883: no such function
  42725: several functions of that name
  42501: not the schema''s owner, or the owner may not use the function''s schema
  22023: a value that makes no sense
  22008: a time beyond the year 9999
  42P02, 54023, 42804: the function doesn''t take what the handler listens to
  0A000: a parameter of an external handler is of a type that isn''t PostgreSQL''s own
  42710: an external one of all tenants has the name
  55P03: as of tq_detach
Example: SELECT tq_register(''send_invoice'', ''send_invoice(bigint, text)'', max_attempts => 5);';

CREATE FUNCTION tenant_q.register_external() RETURNS void
LANGUAGE sql AS '';
REVOKE ALL ON FUNCTION tenant_q.register_external() FROM PUBLIC;
COMMENT ON FUNCTION tenant_q.register_external() IS 'does nothing: who has EXECUTE on it may register external handlers for all tenants, which bring no code into the server. Granted to nobody by default: GRANT EXECUTE ON FUNCTION tenant_q.register_external() TO app;';

CREATE FUNCTION @extschema@.tq_unregister(handler text, shared boolean DEFAULT false, tenant text DEFAULT NULL) RETURNS boolean
LANGUAGE c AS 'MODULE_PATHNAME', 'tq_unregister';
COMMENT ON FUNCTION @extschema@.tq_unregister(text, boolean, text) IS
'Forgets a handler. Its waiting tasks are held for tenant_q.handler_grace and then fail with 42883. False = there was none.
Parameters:
  handler: its name
  shared: true = the one of all tenants
  tenant: NULL = the first schema of search_path
Errors:
  42501: not the schema''s owner; of all tenants: no superuser, nor, of an external one, with EXECUTE on tenant_q.register_external()
  2BP01: it listens to events or tables: HINT ends that
  55P03: as of tq_detach
Example: SELECT tq_unregister(''send_invoice'');';

CREATE FUNCTION @extschema@.tq_backoff(kind text, base interval DEFAULT NULL, factor double precision DEFAULT NULL, cap interval DEFAULT NULL, jitter double precision DEFAULT NULL,
    delays interval[] DEFAULT NULL, retry_on text[] DEFAULT NULL, never_on text[] DEFAULT NULL, linear interval DEFAULT NULL) RETURNS jsonb
LANGUAGE c IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tq_backoff';
COMMENT ON FUNCTION @extschema@.tq_backoff(text, interval, double precision, interval, double precision, interval[], text[], text[], interval) IS
'A retry policy for retry of tq_async and tq_register: how long to wait after an attempt that failed. Without a policy: exponential. A month counts 30 days.
In the kinds below n is 0 after the first attempt; what follows a parameter''s name is what it is where it isn''t given.
Parameters:
  kind: fixed (base, 15 s, each time) | linear (base, 15 s, + factor, 1, * base * n) | exponential (base, 15 s, * factor, 2, ^ n; jitter 0.1) | list (delays, the last for the rest) | as other systems have it: celery (base, 1 s, * factor, 1, * 2 ^ n; jitter 1: anything from nothing to that) | dramatiq (base, 15 s, * factor, 2, ^ n; jitter 1: up to twice that) | rq (delays, or base each time; the last delay is before the last attempt: of more attempts the first ones wait the first delay) | procrastinate (base, 0, + linear, 0, * n + factor, 0, ^ (n + 1) seconds)
  base: see kind
  factor: see kind
  cap: longest delay; NULL = 1 h for linear and exponential, 10 min for celery, 7 days for dramatiq, never less than the first delay; else none
  jitter: share that is random, 0 to 1
  delays: of list and rq, in the order of attempts
  retry_on: only errors of these SQLSTATEs, or of these first characters, are tried again
  never_on: errors of these SQLSTATEs, or of these first characters, are not tried again
  linear: of procrastinate: see kind
Errors:
  22023: a value that makes no sense, or a parameter that the kind has no use for
Example: SELECT tq_async(''f'', retry => tq_backoff(''fixed'', ''5 seconds''));';

CREATE FUNCTION tenant_q.backoff_delay(policy jsonb, attempt integer, max_attempts integer DEFAULT 0) RETURNS jsonb
LANGUAGE c IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tenant_q_backoff_delay';
COMMENT ON FUNCTION tenant_q.backoff_delay(jsonb, integer, integer) IS 'seconds that a policy waits after the n-th attempt of so many (0: of any number), without its random part';

CREATE FUNCTION tenant_q.handlers(tenant text DEFAULT NULL) RETURNS jsonb
LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'tenant_q_handlers';
COMMENT ON FUNCTION tenant_q.handlers(text) IS 'behind the view tq_handlers';
CREATE VIEW @extschema@.tq_handlers AS
    SELECT x.handler, x.function, x.status, x.reason, x.guarantee, x.run_as, x.queue, x.priority, x.timeout, x.max_attempts, x.max_running, x.rate, x.expires,
           x.result_ttl, x.save, x.shared, x.aliases, x.tenant, x.retry, x.settings
      FROM pg_catalog.jsonb_to_recordset(tenant_q.handlers()) AS x(tenant text, handler text, function text, shared boolean, status text, reason text, guarantee text, run_as text, queue text, priority integer, timeout interval, max_attempts integer, retry jsonb, save boolean, settings jsonb, expires interval, max_running integer, rate text, result_ttl interval, aliases text[]);
COMMENT ON VIEW @extschema@.tq_handlers IS
'Handlers of the current tenant, shared ones included, with what tq_register was told.
At least once are procedures, which may COMMIT, and functions in untrusted languages (plpython3u), which may write through connections of their own.
Example: SELECT * FROM tq_handlers WHERE status <> ''ok'';';
COMMENT ON COLUMN @extschema@.tq_handlers.handler IS 'registered name';
COMMENT ON COLUMN @extschema@.tq_handlers.function IS 'its signature; NULL = its code is outside of the server';
COMMENT ON COLUMN @extschema@.tq_handlers.status IS 'ok | missing | changed | paused | quarantined';
COMMENT ON COLUMN @extschema@.tq_handlers.reason IS 'why it is not ok';
COMMENT ON COLUMN @extschema@.tq_handlers.guarantee IS 'of its effects in this database: exactly_once | at_least_once | by_worker: exactly_once where a worker calls tq_finish in the transaction that has them';
COMMENT ON COLUMN @extschema@.tq_handlers.run_as IS 'the role that it runs as; of an external one whose members may take its tasks, NULL = all who may work';
COMMENT ON COLUMN @extschema@.tq_handlers.queue IS 'of its tasks, where they name none';
COMMENT ON COLUMN @extschema@.tq_handlers.priority IS 'of its tasks, where they say none';
COMMENT ON COLUMN @extschema@.tq_handlers.timeout IS 'of an attempt, where the task says none';
COMMENT ON COLUMN @extschema@.tq_handlers.max_attempts IS 'of its tasks, where they say none; 0 = any number';
COMMENT ON COLUMN @extschema@.tq_handlers.max_running IS 'of its tasks at a time';
COMMENT ON COLUMN @extschema@.tq_handlers.rate IS 'starts of its tasks';
COMMENT ON COLUMN @extschema@.tq_handlers.expires IS 'of its tasks, where they say nothing';
COMMENT ON COLUMN @extschema@.tq_handlers.result_ttl IS 'how long results are kept at least';
COMMENT ON COLUMN @extschema@.tq_handlers.save IS 'false = no results are kept';
COMMENT ON COLUMN @extschema@.tq_handlers.shared IS 'of all tenants';
COMMENT ON COLUMN @extschema@.tq_handlers.aliases IS 'further names';
COMMENT ON COLUMN @extschema@.tq_handlers.tenant IS 'the schema that asks';
COMMENT ON COLUMN @extschema@.tq_handlers.retry IS 'retry policy of its tasks, where they say none: tq_backoff';
COMMENT ON COLUMN @extschema@.tq_handlers.settings IS 'while it runs; only for whoever may read the tenant''s tasks';
GRANT SELECT ON @extschema@.tq_handlers TO PUBLIC;

CREATE FUNCTION tenant_q.routine_changed() RETURNS event_trigger
LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tenant_q_routine_changed';
COMMENT ON FUNCTION tenant_q.routine_changed() IS 'tasks held for a missing function are looked at again';
REVOKE ALL ON FUNCTION tenant_q.routine_changed() FROM PUBLIC;
CREATE EVENT TRIGGER tenant_q_routine_changed ON ddl_command_end
    WHEN TAG IN ('CREATE FUNCTION', 'CREATE PROCEDURE', 'ALTER FUNCTION', 'ALTER PROCEDURE', 'ALTER ROUTINE') EXECUTE FUNCTION tenant_q.routine_changed();
