-- Which settings tasks have: the table of docs/operations.md.
\i sql/setup.psql
CREATE ROLE acme LOGIN;
CREATE SCHEMA acme AUTHORIZATION acme;
SELECT tq_attach('acme');
SELECT tq_set_tenant('acme', timezone => 'Asia/Tokyo');
CREATE TABLE acme.meant (name text, value text);
INSERT INTO acme.meant VALUES ('default_transaction_isolation', 'serializable'), ('default_transaction_read_only', 'on'), ('default_transaction_deferrable', 'on'),
    ('statement_timeout', '60s'), ('lock_timeout', '7s'), ('idle_in_transaction_session_timeout', '8s'), ('max_parallel_workers_per_gather', '3'), ('jit', 'on'),
    ('plan_cache_mode', 'force_generic_plan'), ('enable_seqscan', 'off'), ('enable_hashjoin', 'off'), ('synchronous_commit', 'on'), ('row_security', 'off'),
    ('TimeZone', 'Europe/Paris'), ('work_mem', '9MB'), ('DateStyle', 'German, DMY'), ('app.mine', 'x'), ('client_encoding', 'LATIN1'), ('search_path', 'nowhere'), ('exit_on_error', 'on'),
    ('idle_session_timeout', '1h'), ('tenant_q.meta', '{}'), ('role', 'acme');
GRANT SELECT ON acme.meant TO acme;
CREATE FUNCTION acme.settings() RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_object_agg(name, current_setting(name, true)) FROM acme.meant $$;
ALTER FUNCTION acme.settings() OWNER TO acme;
SET search_path = acme, public;
SELECT tq_register('settings');

-- Of the role and the database.
DO $$ DECLARE m record; BEGIN
    FOR m IN SELECT * FROM acme.meant WHERE name NOT IN ('search_path', 'tenant_q.meta') LOOP
        EXECUTE format('ALTER ROLE acme SET %s = %L', m.name, m.value);
        EXECUTE format('ALTER DATABASE %I SET %s = %L', current_database(), m.name, m.value);
    END LOOP;
END $$;
-- They are taken by new sessions.
SELECT coalesce(array_agg(pid), '{}') AS before FROM tq_workers WHERE kind = 'executor' \gset
SELECT tq_recycle() >= 0 AS recycled;
SELECT test.await(format('NOT EXISTS (SELECT FROM tq_workers WHERE pid = ANY (%L))', :'before'));
SELECT tq_async('settings', id => '01900000-0000-7000-8000-000000000001');
SELECT tq_result('01900000-0000-7000-8000-000000000001', wait => '20 s') IS NOT NULL AS done;
-- Of the handler, of the tenant: those that are taken.
CREATE TABLE acme.taken AS SELECT name, value, test.said(format('tq_register(''settings'', settings => %L)', jsonb_build_object(name, value))) AS said FROM meant;
SELECT name, said FROM taken WHERE said <> 'no error' ORDER BY name;
SELECT name, test.said(format('tq_set_tenant(settings => %L)', jsonb_build_object(name, value))) = said AS same FROM taken WHERE said <> 'no error' ORDER BY name;
SELECT tq_set_tenant(reset => '{settings}');
SELECT tq_register('settings', settings => (SELECT jsonb_object_agg(name, value) FROM taken WHERE said = 'no error'));
SELECT tq_async('settings', id => '01900000-0000-7000-8000-000000000002');
SELECT tq_result('01900000-0000-7000-8000-000000000002', wait => '20 s') IS NOT NULL AS done;
SELECT tq_register('settings');
SELECT tq_set_tenant(settings => (SELECT jsonb_object_agg(name, value) FROM taken WHERE said = 'no error'));
SELECT tq_async('settings', id => '01900000-0000-7000-8000-000000000003');
SELECT tq_result('01900000-0000-7000-8000-000000000003', wait => '20 s') IS NOT NULL AS done;
SELECT name, value AS meant, of_role ->> name AS of_role, of_handler ->> name AS of_handler, of_tenant ->> name AS of_tenant
  FROM meant,
       (SELECT tq_result('01900000-0000-7000-8000-000000000001') AS of_role, tq_result('01900000-0000-7000-8000-000000000002') AS of_handler, tq_result('01900000-0000-7000-8000-000000000003') AS of_tenant) x
 ORDER BY name COLLATE "C";

-- A handler that waits for a lock ends with its lock_timeout; what was said of no effect before goes on having none.
SELECT tq_set_tenant(reset => '{settings}');
UPDATE tenant_q.handler SET settings = '{"statement_timeout": "1ms"}' WHERE name = 'settings';
SELECT tq_set_tenant(reset => '{save_limit}');
SELECT tq_async('settings', id => '01900000-0000-7000-8000-000000000004');
SELECT tq_result('01900000-0000-7000-8000-000000000004', wait => '20 s') ->> 'work_mem' AS work_mem;
SELECT what, reason FROM tq_problems;
