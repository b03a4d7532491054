-- Work outside of the server: what workers take, and how they end it.

CREATE TYPE tenant_q.taken AS (
    claim         uuid,
    tenant        text,
    id            uuid,
    handler       text,
    args          jsonb,
    attempt       integer,
    max_attempts  integer,
    deadline      timestamptz,
    queue         text,
    name          text,
    meta          jsonb,
    schedule      text,
    scheduled_for timestamptz,
    created_at    timestamptz,
    shared        boolean,
    each          boolean
);
COMMENT ON TYPE tenant_q.taken IS 'a task that a worker has taken: rows of tq_take';
COMMENT ON COLUMN tenant_q.taken.claim IS 'what tq_finish and its kin know it by; nobody else does';
COMMENT ON COLUMN tenant_q.taken.tenant IS 'whose it is: the schema to work in';
COMMENT ON COLUMN tenant_q.taken.id IS 'of the task; each attempt has the same';
COMMENT ON COLUMN tenant_q.taken.handler IS 'by its registered name';
COMMENT ON COLUMN tenant_q.taken.args IS 'an object by the declared parameters'' names, defaults included; of a handler without params as it was enqueued';
COMMENT ON COLUMN tenant_q.taken.attempt IS 'from 1';
COMMENT ON COLUMN tenant_q.taken.max_attempts IS '0 = for ever';
COMMENT ON COLUMN tenant_q.taken.deadline IS 'until when the attempt must have ended; NULL = it has no timeout';
COMMENT ON COLUMN tenant_q.taken.queue IS '''default'' where the task is in none';
COMMENT ON COLUMN tenant_q.taken.name IS 'as the task was named';
COMMENT ON COLUMN tenant_q.taken.meta IS 'what was passed along with it';
COMMENT ON COLUMN tenant_q.taken.schedule IS 'the schedule that has made it';
COMMENT ON COLUMN tenant_q.taken.scheduled_for IS 'the fire time that it is for';
COMMENT ON COLUMN tenant_q.taken.created_at IS 'when it was enqueued';
COMMENT ON COLUMN tenant_q.taken.shared IS 'its handler is one of all tenants';
COMMENT ON COLUMN tenant_q.taken.each IS 'true = args is an array, and the work is to be done for each element; the result is an array too';

CREATE FUNCTION tenant_q.protocol() RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT 1';
COMMENT ON FUNCTION tenant_q.protocol() IS 'which protocol workers speak with this version: tq_take, tq_finish and their kin as they are here. It changes when a worker has to be changed.';

CREATE FUNCTION @extschema@.tq_take(n integer DEFAULT 1, handlers text[] DEFAULT NULL, queues text[] DEFAULT NULL, tenants text[] DEFAULT NULL, wait interval DEFAULT '0', worker text DEFAULT NULL) RETURNS SETOF tenant_q.taken
LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tq_take';
COMMENT ON FUNCTION @extschema@.tq_take(integer, text[], text[], text[], interval, text) IS
'For workers: takes due tasks of external handlers (tq_register with external), of all tenants of this database in which you have the right work, in turns. What is taken runs: its limits and locks hold, until it is ended by tq_finish, tq_give_up or tq_release, in any session of your role. The end of the session that has taken it is the end of the attempt: the task runs again, uncounted. So it needs a connection of its own, none that a pooler shares among clients.
Nothing is written: no lease has to be renewed, but each call of tq_take, tq_await or tq_watch says that the worker lives, and is due within tenant_q.worker_lease.
Parameters:
  n: tasks at most, 1 to 1000
  handlers: those that this worker knows; NULL = all
  queues: those that it serves; NULL = all
  tenants: those that it works for; NULL = all that it may
  wait: how long to wait for one, tenant_q.max_wait at most. It holds a snapshot meanwhile, which keeps vacuum from its work: tq_await doesn''t
  worker: how tq_workers calls it
Errors:
  25001: inside a transaction block
  22023: n is not from 1 to 1000, wait is negative, or a list is empty
  53400: workers of your role have taken as many tasks as are left of tenant_q.max_claims
  55000: the server doesn''t preload tenant_q
Example: SELECT * FROM tq_take(4, handlers => ''{app.tasks.charge,app.tasks.mail}'', worker => ''web-1'');';

CREATE PROCEDURE @extschema@.tq_await(wait interval DEFAULT NULL, handlers text[] DEFAULT NULL, queues text[] DEFAULT NULL, tenants text[] DEFAULT NULL)
LANGUAGE c AS 'MODULE_PATHNAME', 'tq_await';
COMMENT ON PROCEDURE @extschema@.tq_await(interval, text[], text[], text[]) IS
'For workers: waits until tq_take with the same lists may find a task, or tq_watch has something to tell. It holds no snapshot and costs nothing. Of several workers that wait for the same one is called for each commit that enqueues; who is called and takes nothing within half a second has another one called.
Parameters:
  wait: how long at most; NULL = for ever. Less than tenant_q.worker_lease while you have taken something
  handlers: as of tq_take
  queues: as of tq_take
  tenants: as of tq_take
Errors:
  2D000: inside a transaction block or function
  22023: wait is negative, or a list is empty
  55000: the server doesn''t preload tenant_q
Example: CALL tq_await(''20 seconds'');';

CREATE FUNCTION @extschema@.tq_finish(claim uuid, result jsonb DEFAULT NULL) RETURNS void
LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tq_finish';
COMMENT ON FUNCTION @extschema@.tq_finish(uuid, jsonb) IS
'For workers: the task is done. It ends with your transaction: what you have written in it and the end of the task are committed together or not at all, so the work is done exactly once. Call it last, for until the transaction is over it holds what any writer of the tenant holds.
Parameters:
  claim: as tq_take has returned it
  result: what tq_result returns of it
Errors:
  TQ007: the claim is gone: ROLLBACK, the work is not yours any more
  42501: you have the right work no more
  0A000: at PREPARE TRANSACTION
Example: SELECT tq_finish(claim, ''{"charge": "ch_1"}'') FROM tq_take(handlers => ''{charge}'');';

CREATE FUNCTION @extschema@.tq_finish_many(claims uuid[], results jsonb[] DEFAULT NULL) RETURNS integer
LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tq_finish_many';
COMMENT ON FUNCTION @extschema@.tq_finish_many(uuid[], jsonb[]) IS
'For workers: all of these tasks are done, or, where one claim is gone, none. How many.
Parameters:
  claims: as tq_take has returned them
  results: one for each, in the same order
Errors:
  TQ007: this claim is gone
  22023: as many results as claims
  42501: you have the right work no more
Example: SELECT tq_finish_many(array_agg(claim)) FROM tq_take(4, handlers => ''{charge}'');';

CREATE FUNCTION @extschema@.tq_give_up(claim uuid, error jsonb, retry_after interval DEFAULT NULL, final boolean DEFAULT false, OUT state text, OUT run_at timestamptz) RETURNS SETOF record
LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tq_give_up';
COMMENT ON FUNCTION @extschema@.tq_give_up(uuid, jsonb, interval, boolean) IS
'For workers: the attempt has failed. Its retry policy says whether there is another one: retry_on and never_on of tq_backoff match classes of errors as well, ''requests.Timeout'' or all of ''stripe.error.''. Returns what became of the task, retrying with run_at, or failed.
Call it in a transaction that has written nothing: what the failed attempt has written must be rolled back before.
Parameters:
  claim: as tq_take has returned it
  error: {"message": "...", "class": "...", "traceback": "..."}; sqlstate, detail and hint may be in it
  retry_after: another attempt after so long, whatever the policy says, as of tq_retry
  final: true = there is no other attempt
Columns:
  state: ''retrying'' or ''failed''
  run_at: of the next attempt
Errors:
  25001: the transaction has written something
  TQ007: the claim is gone
  22023: error has no message, or retry_after is negative or beside final
Example: SELECT g.* FROM tq_take(handlers => ''{charge}''), tq_give_up(claim, ''{"message": "card declined", "class": "stripe.error.CardError"}'', final => true) AS g;';

CREATE FUNCTION @extschema@.tq_release(claim uuid, delay interval DEFAULT '0', reason text DEFAULT NULL, crashed boolean DEFAULT false) RETURNS void
LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tq_release';
COMMENT ON FUNCTION @extschema@.tq_release(uuid, interval, text, boolean) IS
'For workers: the task goes back to the queue, and no attempt is counted: at a stop, say.
Parameters:
  claim: as tq_take has returned it
  delay: not before so long
  reason: kept in its history where it is put off
  crashed: true = the process that ran it has died with it, which is counted: after tenant_q.max_crashes of them the task is quarantined
Errors:
  25001: the transaction has written something
  TQ007: the claim is gone
  22023: delay is negative
Example: SELECT tq_release(claim, reason => ''the worker stops'') FROM tq_take(handlers => ''{charge}'');';

CREATE FUNCTION @extschema@.tq_watch(wait interval DEFAULT '0', claims uuid[] DEFAULT NULL, OUT claim uuid, OUT what text) RETURNS SETOF record
LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tq_watch';
COMMENT ON FUNCTION @extschema@.tq_watch(interval, uuid[]) IS
'For workers: what has happened to what this session has taken, each thing once: cancel (the task was cancelled), timeout (the attempt is over its deadline), drain (it should end soon or go back: a pause, a smaller quota or tq_recycle asks for that), lost (of those asked for: it isn''t this session''s any more). Who goes on after cancel or timeout for longer than tenant_q.worker_grace has its session ended. Each call says that the worker lives.
Parameters:
  wait: how long to wait for something, tenant_q.max_wait at most; holds a snapshot meanwhile
  claims: these only; NULL = all of the session''s
Columns:
  claim: which of them; NULL: the session, whose worker is to begin anew (tq_recycle)
  what: ''cancel'', ''timeout'', ''drain'' or ''lost''
Errors:
  22023: wait is negative
  55000: the server doesn''t preload tenant_q
Example: SELECT * FROM tq_watch();';

CREATE FUNCTION @extschema@.tq_drain_take(n integer DEFAULT 1000, as_of timestamptz DEFAULT pg_catalog.now(), tenant text DEFAULT NULL) RETURNS SETOF tenant_q.taken
LANGUAGE c AS 'MODULE_PATHNAME', 'tq_drain_take';
COMMENT ON FUNCTION @extschema@.tq_drain_take(integer, timestamptz, text) IS
'Takes due tasks of external handlers inside your transaction, those included that it has enqueued: for tests of applications. tq_finish, tq_give_up and tq_release end them in the same transaction, also where it has written something; what isn''t ended is given back with the transaction, or the savepoint. Nobody else sees anything of it, and your ROLLBACK undoes all. Works on servers that don''t preload tenant_q.
Flows whose members are done end on the way. What can''t be taken is left with a NOTICE: tasks of handlers that are in the server (tq_drain runs those), and those about which an executor is to ask a condition or a listener first.
Parameters:
  n: tasks at most; NULL = no limit
  as_of: tasks and retries due by then are taken too (now() itself stays what it is); schedules don''t fire
  tenant: NULL = the first schema of search_path
Errors:
  42501: no right to work
  55000: inside a task, or the tenant is paused or not ready
  22023: n is negative, or as_of infinite
Example: SELECT claim, handler, args FROM tq_drain_take(as_of => now() + interval ''1 day'');';
