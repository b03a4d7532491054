-- What went on: failures, counters; and how it stands with queues. From shared memory, but for tq_queues.

CREATE FUNCTION tenant_q.failures() RETURNS jsonb
LANGUAGE c STABLE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tenant_q_failures';
COMMENT ON FUNCTION tenant_q.failures() IS 'behind tq_failures';
CREATE FUNCTION tenant_q.stats() RETURNS jsonb
LANGUAGE c STABLE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tenant_q_stats';
COMMENT ON FUNCTION tenant_q.stats() IS 'behind tq_stats';
CREATE FUNCTION tenant_q.queues(tenant text DEFAULT NULL) RETURNS jsonb
LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'tenant_q_queues';
COMMENT ON FUNCTION tenant_q.queues(text) IS 'behind tq_queues';
CREATE FUNCTION tenant_q.metrics() RETURNS jsonb
LANGUAGE c STABLE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tenant_q_metrics';
COMMENT ON FUNCTION tenant_q.metrics() IS 'behind tq_metrics';

CREATE VIEW @extschema@.tq_failures AS
    SELECT x.at, x.tenant, x.handler, x.id, x.attempt, x.sqlstate, x.message, x.schedule, x.role
      FROM pg_catalog.jsonb_to_recordset(tenant_q.failures()) AS x(at timestamptz, tenant text, handler text, id uuid, attempt integer, sqlstate text, message text, schedule text, role text);
COMMENT ON VIEW @extschema@.tq_failures IS 'The last failed attempts in this database, newest first: as many as tenant_q.failure_ring, since the server started; interrupted ones, which are not counted, too. Seen by members of the tenant''s owner; pg_monitor sees all. message is cut to 200 bytes; tq_attempts(id) has more. role: as whom it ran. Example: SELECT * FROM tq_failures WHERE at > now() - interval ''10 minutes'';';
GRANT SELECT ON @extschema@.tq_failures TO PUBLIC;

CREATE VIEW @extschema@.tq_stats AS
    SELECT x.tenant, x.handler, x.done, x.failed, x.retried, x.timeouts, x.total_run_time, x.mean_run_time, x.max_run_time, x.total_wait_time, x.mean_wait_time, x.max_wait_time, x.since
      FROM pg_catalog.jsonb_to_recordset(tenant_q.stats()) AS x(tenant text, handler text, done bigint, failed bigint, retried bigint, timeouts bigint, total_run_time interval, mean_run_time interval, max_run_time interval, total_wait_time interval, mean_wait_time interval, max_wait_time interval, since timestamptz);
COMMENT ON VIEW @extschema@.tq_stats IS 'What each handler of each tenant did since the server started or tq_stats_reset. done and failed are ends of tasks; retried: attempts that failed and left another one; timeouts: attempts that took too long, counted as failed or retried too. Attempts in somebody''s own session (tq_drain, sync) count when they end, whatever becomes of the transaction around them. Times are of attempts: run = in the handler, wait = from when it was due to its start. At most tenant_q.max_stats rows; seen as tq_failures are. Example: SELECT * FROM tq_stats ORDER BY mean_run_time DESC;';
GRANT SELECT ON @extschema@.tq_stats TO PUBLIC;

CREATE FUNCTION @extschema@.tq_stats_reset() RETURNS void
LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tq_stats_reset';
COMMENT ON FUNCTION @extschema@.tq_stats_reset() IS 'Empties tq_stats of this database: it counts anew. EXECUTE is granted to nobody by default. Example: SELECT tq_stats_reset();';
REVOKE ALL ON FUNCTION @extschema@.tq_stats_reset() FROM PUBLIC;

CREATE VIEW @extschema@.tq_queues AS
    SELECT x.queue, x.queued, x.running, x.delayed, x.retrying, x.waiting, x.lag, x.paused, x.max_running, x.rate, x.priority, x.pick
      FROM pg_catalog.jsonb_to_recordset(tenant_q.queues()) AS x(queue text, queued bigint, running bigint, delayed bigint, retrying bigint, waiting bigint, lag interval, paused boolean, max_running integer, rate text, priority integer, pick text);
COMMENT ON VIEW @extschema@.tq_queues IS 'Queues of the current tenant that have unfinished tasks or were set up. queued: due; delayed: later; retrying: failed before, to be tried again; waiting: for other tasks, for a key, for their handler, or quarantined. lag: how long the oldest due one has waited. max_running, rate, priority, pick: as tq_set_queue has them. Counts the first 100,000 unfinished tasks. Needs the right to read. Example: SELECT * FROM tq_queues ORDER BY lag DESC NULLS LAST;';
GRANT SELECT ON @extschema@.tq_queues TO PUBLIC;

CREATE VIEW @extschema@.tq_metrics AS
    SELECT x.name, x.labels, x.value
      FROM pg_catalog.jsonb_to_recordset(tenant_q.metrics()) AS x(name text, labels jsonb, value double precision);
COMMENT ON VIEW @extschema@.tq_metrics IS 'Figures for exporters: a row a sample, in the manner of Prometheus; names that end in _total only grow while the server runs. Per tenant and per handler those that you may see, of the server for pg_monitor. Example: SELECT name, labels, value FROM tq_metrics;';
GRANT SELECT ON @extschema@.tq_metrics TO PUBLIC;
