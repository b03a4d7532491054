-- What went on: failures, counters; and how it stands with queues. From shared memory, but for tq_queues.

CREATE FUNCTION tenant_q.failure_rows() RETURNS TABLE (at timestamptz, tenant text, handler text, id uuid, attempt integer, sqlstate text, message text, schedule text, role text)
LANGUAGE c STABLE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tenant_q_failure_rows';
COMMENT ON FUNCTION tenant_q.failure_rows() IS 'behind tq_failures';
CREATE FUNCTION tenant_q.stat_rows() RETURNS TABLE (tenant text, handler text, done bigint, failed bigint, retried bigint, timeouts bigint, total_run_time interval, mean_run_time interval, max_run_time interval, total_wait_time interval, mean_wait_time interval, max_wait_time interval, since timestamptz)
LANGUAGE c STABLE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tenant_q_stat_rows';
COMMENT ON FUNCTION tenant_q.stat_rows() IS 'behind tq_stats';
CREATE FUNCTION tenant_q.queue_rows() RETURNS TABLE (queue text, queued bigint, running bigint, delayed bigint, retrying bigint, waiting bigint, lag interval, paused boolean, max_running integer, rate text, priority integer, pick text)
LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'tenant_q_queue_rows';
COMMENT ON FUNCTION tenant_q.queue_rows() IS 'behind tq_queues';
CREATE FUNCTION tenant_q.metric_rows() RETURNS TABLE (name text, labels jsonb, value double precision)
LANGUAGE c STABLE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tenant_q_metric_rows';
COMMENT ON FUNCTION tenant_q.metric_rows() IS 'behind tq_metrics';

CREATE VIEW @extschema@.tq_failures AS
    SELECT x.at, x.tenant, x.handler, x.sqlstate, x.message, x.attempt, x.schedule, x.role, x.id
      FROM tenant_q.failure_rows() AS x;
COMMENT ON VIEW @extschema@.tq_failures IS
'The last failed attempts in this database, newest first: as many as tenant_q.failure_ring, since the server started; interrupted ones, which are not counted, too. Seen by members of the tenant''s owner; pg_monitor sees all.
Example: SELECT * FROM tq_failures WHERE at > now() - interval ''10 minutes'';';
COMMENT ON COLUMN @extschema@.tq_failures.at IS 'when the attempt ended';
COMMENT ON COLUMN @extschema@.tq_failures.tenant IS 'the schema';
COMMENT ON COLUMN @extschema@.tq_failures.handler IS 'what failed';
COMMENT ON COLUMN @extschema@.tq_failures.sqlstate IS 'of the error';
COMMENT ON COLUMN @extschema@.tq_failures.message IS 'of the error, cut to 200 bytes; tq_attempts(id) has more';
COMMENT ON COLUMN @extschema@.tq_failures.attempt IS 'which attempt that was';
COMMENT ON COLUMN @extschema@.tq_failures.schedule IS 'the schedule that has made the task';
COMMENT ON COLUMN @extschema@.tq_failures.role IS 'as whom it ran';
COMMENT ON COLUMN @extschema@.tq_failures.id IS 'the task';
GRANT SELECT ON @extschema@.tq_failures TO PUBLIC;

CREATE VIEW @extschema@.tq_stats AS
    SELECT x.tenant, x.handler, x.done, x.failed, x.retried, x.timeouts, x.total_run_time, x.mean_run_time, x.max_run_time, x.total_wait_time, x.mean_wait_time,
           x.max_wait_time, x.since
      FROM tenant_q.stat_rows() AS x;
COMMENT ON VIEW @extschema@.tq_stats IS
'What each handler of each tenant did since the server started or tq_stats_reset. Times are of attempts. At most tenant_q.max_stats rows; seen as tq_failures are.
Attempts in somebody''s own session (tq_drain, sync) count when they end, whatever becomes of the transaction around them. Flows have rows of their own, tq_group, tq_chain and tq_async_iter: run = from the start of the first member to the end of the last.
Example: SELECT * FROM tq_stats ORDER BY mean_run_time DESC;';
COMMENT ON COLUMN @extschema@.tq_stats.tenant IS 'the schema';
COMMENT ON COLUMN @extschema@.tq_stats.handler IS 'registered name, or tq_group, tq_chain, tq_async_iter: flows';
COMMENT ON COLUMN @extschema@.tq_stats.done IS 'tasks that ended well';
COMMENT ON COLUMN @extschema@.tq_stats.failed IS 'tasks that failed for good';
COMMENT ON COLUMN @extschema@.tq_stats.retried IS 'attempts that failed and left another one';
COMMENT ON COLUMN @extschema@.tq_stats.timeouts IS 'attempts that took too long, counted as failed or retried too';
COMMENT ON COLUMN @extschema@.tq_stats.total_run_time IS 'in the handler, over all attempts';
COMMENT ON COLUMN @extschema@.tq_stats.mean_run_time IS 'in the handler, of an attempt';
COMMENT ON COLUMN @extschema@.tq_stats.max_run_time IS 'in the handler, of the longest attempt';
COMMENT ON COLUMN @extschema@.tq_stats.total_wait_time IS 'from when attempts could run (run_at, or when the task was enqueued if that is later) to their start, over all of them';
COMMENT ON COLUMN @extschema@.tq_stats.mean_wait_time IS 'from when an attempt could run to its start';
COMMENT ON COLUMN @extschema@.tq_stats.max_wait_time IS 'from when an attempt could run to its start, the longest';
COMMENT ON COLUMN @extschema@.tq_stats.since IS 'counted since then';
GRANT SELECT ON @extschema@.tq_stats TO PUBLIC;

CREATE FUNCTION @extschema@.tq_stats_reset() RETURNS void
LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tq_stats_reset';
COMMENT ON FUNCTION @extschema@.tq_stats_reset() IS
'Empties tq_stats of this database: it counts anew. EXECUTE is granted to nobody by default.
Example: SELECT tq_stats_reset();';
REVOKE ALL ON FUNCTION @extschema@.tq_stats_reset() FROM PUBLIC;

CREATE VIEW @extschema@.tq_queues AS
    SELECT x.queue, x.paused, x.queued, x.running, x.lag, x.delayed, x.retrying, x.waiting, x.max_running, x.rate, x.priority, x.pick
      FROM tenant_q.queue_rows() AS x;
COMMENT ON VIEW @extschema@.tq_queues IS
'Queues of the current tenant that have unfinished tasks or were set up. Walks through all unfinished tasks.
Errors:
  42501: no right to read
Example: SELECT * FROM tq_queues ORDER BY lag DESC NULLS LAST;';
COMMENT ON COLUMN @extschema@.tq_queues.queue IS 'its name; default = of tasks that name none';
COMMENT ON COLUMN @extschema@.tq_queues.paused IS 'whether tq_pause stops it';
COMMENT ON COLUMN @extschema@.tq_queues.queued IS 'tasks that are due';
COMMENT ON COLUMN @extschema@.tq_queues.running IS 'tasks that run now';
COMMENT ON COLUMN @extschema@.tq_queues.lag IS 'how long the oldest due one has waited';
COMMENT ON COLUMN @extschema@.tq_queues.delayed IS 'tasks for later';
COMMENT ON COLUMN @extschema@.tq_queues.retrying IS 'tasks that failed before, to be tried again';
COMMENT ON COLUMN @extschema@.tq_queues.waiting IS 'tasks that wait for others, for a key, or for their handler';
COMMENT ON COLUMN @extschema@.tq_queues.max_running IS 'of its tasks at a time: tq_set_queue';
COMMENT ON COLUMN @extschema@.tq_queues.rate IS 'starts of its tasks: tq_set_queue';
COMMENT ON COLUMN @extschema@.tq_queues.priority IS 'of tasks that say none: tq_set_queue';
COMMENT ON COLUMN @extschema@.tq_queues.pick IS 'in which order: tq_set_queue';
GRANT SELECT ON @extschema@.tq_queues TO PUBLIC;
