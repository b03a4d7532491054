-- Whether the engine and what it stands on are as they should be.

CREATE FUNCTION tenant_q.health() RETURNS jsonb
LANGUAGE c STABLE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tenant_q_health';
COMMENT ON FUNCTION tenant_q.health() IS 'behind tq_health';

CREATE FUNCTION @extschema@.tq_health() RETURNS TABLE (check_name text, ok boolean, value text, detail text, hint text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $body$
    SELECT x.check_name, x.ok, x.value, x.detail, x.hint
      FROM pg_catalog.jsonb_to_recordset(tenant_q.health()) AS x(check_name text, ok boolean, value text, detail text, hint text)
    -- What of the server concerns queues. Who isn't in pg_monitor sees of others' sessions nothing.
    UNION ALL
    SELECT 'restart', count(*) OPERATOR(pg_catalog.=) 0, coalesce(string_agg(s.name, ', ' ORDER BY s.name), 'not needed'),
           CASE WHEN count(*) OPERATOR(pg_catalog.>) 0 THEN 'Settings were changed that take effect at a restart.' END,
           CASE WHEN count(*) OPERATOR(pg_catalog.>) 0 THEN 'Restart the server.' END
      FROM pg_catalog.pg_settings s
     WHERE s.pending_restart AND (s.name OPERATOR(pg_catalog.~~) 'tenant\_q.%' OR s.name OPERATOR(pg_catalog.=) ANY (ARRAY['max_worker_processes', 'shared_preload_libraries']))
    UNION ALL
    SELECT 'xmin', x.old OPERATOR(pg_catalog.<) 1000000, format('%s transactions old, held by %s', x.old, coalesce(x.who, 'nobody')),
           CASE WHEN x.old OPERATOR(pg_catalog.>=) 1000000 THEN 'Rows of finished tasks can''t be removed by VACUUM while it is held; picks stay fast, tables grow.' END,
           CASE WHEN x.old OPERATOR(pg_catalog.>=) 1000000 THEN 'End that transaction, or drop that replication slot or prepared transaction.' END
      FROM (SELECT coalesce(max(h.old), 0) AS old, (array_agg(h.who ORDER BY h.old DESC))[1] AS who
              FROM (SELECT age(a.backend_xmin) AS old, format('process %s', a.pid) AS who FROM pg_catalog.pg_stat_activity a
                     WHERE a.backend_xmin IS NOT NULL AND a.datname OPERATOR(pg_catalog.=) current_database()
                    UNION ALL
                    SELECT greatest(age(r.xmin), age(r.catalog_xmin)), format('replication slot %s', r.slot_name) FROM pg_catalog.pg_replication_slots r
                     WHERE coalesce(r.xmin, r.catalog_xmin) IS NOT NULL
                    UNION ALL
                    SELECT age(p.transaction), format('prepared transaction %s', p.gid) FROM pg_catalog.pg_prepared_xacts p
                     WHERE p.database OPERATOR(pg_catalog.=) current_database()) AS h) AS x
    UNION ALL
    SELECT 'xid_age', d.old OPERATOR(pg_catalog.<) 1000000000, format('%s transactions', d.old),
           CASE WHEN d.old OPERATOR(pg_catalog.>=) 1000000000 THEN 'Every task takes a transaction id, and VACUUM does not keep up with freezing.' END,
           CASE WHEN d.old OPERATOR(pg_catalog.>=) 1000000000 THEN 'See that autovacuum runs and nothing holds it up (xmin); VACUUM (FREEZE) the oldest tables.' END
      FROM (SELECT age(b.datfrozenxid) AS old FROM pg_catalog.pg_database b WHERE b.datname OPERATOR(pg_catalog.=) current_database()) AS d
    UNION ALL
    SELECT 'bloat', w.dead OPERATOR(pg_catalog.<) 1000000, format('%s dead rows in %s', w.dead, w.what),
           CASE WHEN w.dead OPERATOR(pg_catalog.>=) 1000000 THEN 'Autovacuum does not keep up with this queue.' END,
           CASE WHEN w.dead OPERATOR(pg_catalog.>=) 1000000 THEN format('See xmin; raise autovacuum_max_workers or its cost limit, or VACUUM %s.', w.what) END
      FROM (SELECT coalesce(max(q.dead), 0) AS dead, coalesce((array_agg(q.what ORDER BY q.dead DESC))[1], 'no table') AS what
              FROM (SELECT pg_stat_get_dead_tuples(c.oid) AS dead, format('%I.%I', n.nspname, c.relname) AS what
                      FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
                     WHERE c.relkind OPERATOR(pg_catalog.=) 'r' AND c.relname OPERATOR(pg_catalog.=) ANY (ARRAY['tq_task', 'tq_result', 'tq_schedule']::name[])
                       AND has_table_privilege(c.oid, 'SELECT')) AS q) AS w
$body$;
COMMENT ON FUNCTION @extschema@.tq_health() IS
'Is anything running at all, and what is wrong with the engine or with what it stands on: a row a check.
Columns:
  check_name: preloaded | version | server_version (is its minor one new enough) | enabled | functions (do handlers find tq_current) | launcher | database (served, standby, ...) | scheduler | pauses (that hold something up; hint: what ends them) | worker_slots | wakes | roles | workers (outside of the server) | claims (may workers take what waits for them) | places | shared_memory | prepared (transactions) | sweep | disk (for pg_monitor) | restart | xmin | xid_age | bloat
  ok: whether it is well
  value: what was found
  detail: what that means; only where it is not ok
  hint: what to do; only where it is not ok
Example: SELECT * FROM tq_health() WHERE NOT ok;';

-- Here, for it has the checks too.
CREATE VIEW @extschema@.tq_metrics AS
    SELECT x.name, x.labels, x.value
      FROM tenant_q.metric_rows() AS x
    UNION ALL
    SELECT 'tenant_q_health', pg_catalog.jsonb_build_object('check', h.check_name), h.ok::integer::double precision
      FROM @extschema@.tq_health() AS h
     WHERE pg_catalog.pg_has_role('pg_monitor', 'USAGE');
COMMENT ON VIEW @extschema@.tq_metrics IS
'Figures for exporters: a row a sample, in the manner of Prometheus. Per tenant and per handler those that you may see, of the server for pg_monitor.
tenant_q_up: 1 where tasks of this database are started; else 0, and tenant_q_stopped is 1 for the reason. tenant_q_health: 1 for each check of tq_health() that is ok. tenant_q_tenant_up: 1 for a tenant whose status in tq_tenants is on. tenant_q_tenants: how many by status. tenant_q_pauses: those in force, of all tenants, of a tenant, of a part (queue or handler). tenant_q_problems: by reason, what tq_problems has of the server, its roles, tenants and pauses, without what it finds in the tables of tenants. Reasons are in the words of tq_why.
Example: SELECT name, labels, value FROM tq_metrics;';
COMMENT ON COLUMN @extschema@.tq_metrics.name IS 'tenant_q_..., in the manner of Prometheus; what ends in _total only grows while the server runs';
COMMENT ON COLUMN @extschema@.tq_metrics.labels IS 'an object of texts: what the sample is of';
COMMENT ON COLUMN @extschema@.tq_metrics.value IS 'the sample';
GRANT SELECT ON @extschema@.tq_metrics TO PUBLIC;
