-- Three usual set-ups, each in at most five lines, and that nothing more is allowed.
\i sql/setup.psql
\set VERBOSITY terse
-- What each of the roles can do in a tenant: one line a right.
CREATE FUNCTION test.try(what text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN EXECUTE what; RETURN 'allowed'; EXCEPTION WHEN insufficient_privilege THEN RETURN 'denied'; END $$;
CREATE FUNCTION test.rights(tenant text) RETURNS TABLE (call text, answer text) LANGUAGE sql AS $$
    SELECT call, test.try(replace(sql, '{t}', quote_literal(tenant)))
      FROM (VALUES
        ('enqueue',  'SELECT tq_async(''ok'', delay => ''1 hour'', tenant => {t})'),
        ('read',     'SELECT tq_result(''01900000-0000-7000-8000-000000000001'', tenant => {t})'),
        ('group',    'SELECT tq_count_group(''g'', tenant => {t})'),
        ('queue',    'SELECT tq_queue_size(tenant => {t})'),
        ('cancel',   'SELECT tq_cancel(''01900000-0000-7000-8000-00000000000f'', tenant => {t})'),
        ('update',   'SELECT tq_update(''01900000-0000-7000-8000-00000000000f'', priority => 1, tenant => {t})'),
        ('delete',   'SELECT tq_delete(''01900000-0000-7000-8000-00000000000f'', tenant => {t})'),
        ('purge',    'SELECT tq_purge(''1 year'', tenant => {t})'),
        ('schedule', 'SELECT tq_schedule(''s'', ''ok'', ''@yearly'', on_conflict => ''replace'', tenant => {t})'),
        ('register', 'SELECT tq_register(''ok'', tenant => {t})'),
        ('pause',    'SELECT tq_resume({t}, queue => ''none'')'),
        ('grant',    'SELECT tq_grant(''pg_monitor'', ''{read}'', tenant => {t})'),
        ('detach',   'SELECT tq_detach({t})'),
        ('quota',    'SELECT tq_set_quota({t}, weight => 2)'),
        ('recycle',  'SELECT tq_recycle()'),
        ('reset',    'SELECT tq_stats_reset()')
      ) AS t (call, sql) WHERE (call <> 'detach' OR current_user NOT LIKE 'owner%')
$$;
CREATE FUNCTION test.setup(schema text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE FUNCTION %I.ok() RETURNS int LANGUAGE sql AS ''SELECT 1''', schema);
    PERFORM tq_register('ok', tenant => schema), tq_async('ok', group_id => 'g', id => '01900000-0000-7000-8000-000000000001', tenant => schema);
END $$;
CREATE ROLE stranger;
CREATE ROLE watcher IN ROLE pg_monitor;

-- One role owns all: nothing to grant.
CREATE ROLE owner1 LOGIN;
CREATE SCHEMA one AUTHORIZATION owner1;
SELECT tq_attach('one');
SET ROLE owner1;
SELECT test.setup('one');
SELECT * FROM test.rights('one');
SET ROLE stranger;
SELECT * FROM test.rights('one') WHERE answer <> 'denied';
RESET ROLE;

-- The owner migrates, the application enqueues and reads, a worker works.
CREATE ROLE owner2 LOGIN; CREATE ROLE app LOGIN; CREATE ROLE worker LOGIN;
CREATE SCHEMA two AUTHORIZATION owner2;
SELECT tq_attach('two');
SET ROLE owner2;
SELECT test.setup('two');
SELECT tq_grant('app', '{enqueue,read}', tenant => 'two');
SELECT tq_grant('worker', '{work}', tenant => 'two');
SET ROLE app;
SELECT * FROM test.rights('two') WHERE answer <> 'denied';
SET ROLE worker;
SELECT * FROM test.rights('two') WHERE answer <> 'denied';
-- By plain SQL the roles can do no more than by calls.
SELECT table_name, grantee, privilege_type FROM information_schema.role_table_grants WHERE table_schema = 'two' AND grantee IN ('app', 'worker') ORDER BY 1, 2, 3;
RESET ROLE;
SELECT a.attrelid::regclass, a.attname, a.attacl FROM pg_attribute a WHERE a.attrelid::regclass::text LIKE 'two.%' AND a.attacl IS NOT NULL ORDER BY 1, 2;
SET ROLE worker;
INSERT INTO two.tq_result (result) VALUES ('1');
UPDATE two.tq_task SET attempts = 0;
SET ROLE app;
DELETE FROM two.tq_task;
INSERT INTO two.tq_task (handler, args, by_superuser) VALUES ('ok', '[]', true);
RESET ROLE;

-- A login role for each customer, an application that enqueues for all of them, and monitoring.
CREATE ROLE cust1 LOGIN; CREATE ROLE cust2 LOGIN; CREATE ROLE front LOGIN;
CREATE SCHEMA c1 AUTHORIZATION cust1; CREATE SCHEMA c2 AUTHORIZATION cust2;
SELECT tq_attach('c1'), tq_attach('c2');
SET ROLE cust1;
SELECT test.setup('c1');
SET ROLE cust2;
SELECT test.setup('c2');
RESET ROLE;
SELECT tq_grant('front', '{enqueue}', tenant => tenant) FROM tq_tenants WHERE tenant IN ('c1', 'c2');
SET ROLE front;
SELECT 'c1' AS tenant, * FROM test.rights('c1') WHERE answer <> 'denied' UNION ALL SELECT 'c2', * FROM test.rights('c2') WHERE answer <> 'denied';
SET ROLE cust1;
SELECT * FROM test.rights('c2') WHERE answer <> 'denied';
SELECT tenant FROM tq_tenants;
RESET ROLE;
SELECT test.await('(SELECT count(*) = 4 FROM tq_stats)');
SET ROLE cust1;
SELECT tenant, handler, done FROM tq_stats;
SELECT DISTINCT labels->>'tenant' AS tenant FROM tq_metrics;
SET ROLE watcher;
SELECT tenant FROM tq_tenants ORDER BY tenant;
SELECT tenant, handler, done FROM tq_stats ORDER BY tenant;
SELECT * FROM test.rights('c1') WHERE answer <> 'denied';
RESET ROLE;

-- Operators; and what was given can be taken.
CREATE ROLE op;
SET ROLE cust1;
SELECT tq_grant('op', '{operate}', tenant => 'c1');
SET ROLE op;
SELECT * FROM test.rights('c1') WHERE answer <> 'denied';
SET ROLE cust1;
SELECT tq_grant('op', '{read,enqueue,work}', tenant => 'c1');
SELECT tq_revoke('op', '{operate,enqueue,work,read}', tenant => 'c1');
SET ROLE op;
SELECT * FROM test.rights('c1') WHERE answer <> 'denied';
SET ROLE cust1;
-- Changing the arguments is enqueuing.
SELECT tq_grant('op', '{operate}', tenant => 'c1');
SET ROLE op;
SELECT tq_update('01900000-0000-7000-8000-000000000001', args => '[]', tenant => 'c1');
RESET ROLE;

-- To operate is to pause and to resume, too, the one tenant and what is in it; nobody else's.
CREATE ROLE oncall;
SET ROLE cust1;
SELECT tq_grant('oncall', '{operate}', tenant => 'c1');
SET ROLE oncall;
SELECT tq_pause('c1'), tq_pause('c1', queue => 'mail', duration => '1 hour'), tq_pause('c1', handler => 'ok');
SET client_min_messages = warning; -- of what is still paused, until when
SELECT tq_resume('c1'), tq_resume('c1', queue => 'mail'), tq_resume('c1', handler => 'ok');
RESET client_min_messages;
SELECT tq_pause('c2');
\echo :SQLSTATE
SET ROLE front;
SELECT tq_pause('c1');
\echo :SQLSTATE
SELECT tq_resume('c1');
\echo :SQLSTATE
RESET ROLE;

-- Rights in all tenants, and in those that come.
CALL tq_grant_all('oncall', '{operate,read}');
SET ROLE oncall;
SELECT tenant, call FROM unnest('{one,two,c1,c2}'::text[]) tenant, test.rights(tenant) WHERE answer <> 'denied' AND call IN ('read', 'pause', 'enqueue') ORDER BY tenant, call;
RESET ROLE;
CREATE ROLE owner4 LOGIN;
CREATE SCHEMA four AUTHORIZATION owner4;
SELECT tq_attach('four');
SET ROLE owner4;
SELECT test.setup('four');
SET ROLE oncall;
SELECT * FROM test.rights('four') WHERE answer <> 'denied';
-- It follows its role, and an owner has the last word in the own tenant.
RESET ROLE;
ALTER ROLE oncall RENAME TO night;
CREATE SCHEMA five AUTHORIZATION owner4;
SELECT tq_attach('five');
SET ROLE owner4;
SELECT tq_revoke('night', '{operate}', tenant => 'five');
SET ROLE night;
SELECT tq_pause('five');
\echo :SQLSTATE
SELECT tq_result('01900000-0000-7000-8000-000000000001', tenant => 'five');
\echo :SQLSTATE
-- Where it fails the others go on; a second call does the rest.
RESET ROLE;
ALTER TABLE c1.tq_task RENAME TO hidden;
CALL tq_grant_all('night', '{enqueue}');
ALTER TABLE c1.hidden RENAME TO tq_task;
CALL tq_grant_all('night', '{enqueue}');
SET ROLE night;
SELECT call FROM test.rights('c1') WHERE answer <> 'denied' AND call = 'enqueue';
-- Taken back everywhere, and the role can go.
RESET ROLE;
CALL tq_revoke_all('night', '{operate,read,enqueue}');
CREATE SCHEMA six AUTHORIZATION owner4;
SELECT tq_attach('six');
SET ROLE night;
SELECT tenant, call FROM unnest('{one,c1,four,five,six}'::text[]) tenant, test.rights(tenant) WHERE answer <> 'denied' ORDER BY tenant, call;
-- Administrators' procedures, and nothing behind them is anybody else's.
CALL tq_grant_all('night', '{operate}');
CALL tq_revoke_all('night', '{operate}');
SELECT tenant_q.grant_all_step('night', '{operate}', NULL, true);
\echo :SQLSTATE
SELECT tenant_q.grant_all_step('night', '{operate}', 'c1', true);
SELECT tenant_q.grant_all_step('night', '{operate}', 'c1', false);
SELECT * FROM tenant_q.all_tenants(true);
SELECT * FROM tenant_q.all_tenants(false);
SELECT * FROM tenant_q.all_tenants(NULL);
-- A procedure of that name of one's own opens nothing.
RESET ROLE;
CREATE SCHEMA nights AUTHORIZATION night;
SET ROLE night;
CREATE PROCEDURE nights.tq_grant_all(text, text[]) LANGUAGE sql AS '';
SELECT tenant_q.grant_all_step('night', '{operate}', 'c1', true);
RESET ROLE;
GRANT EXECUTE ON PROCEDURE tq_grant_all TO night;
SET ROLE night;
CALL tq_grant_all('night', '{operate}');
CALL tq_grant_all('nobody', '{operate}');
\echo :SQLSTATE
CALL tq_grant_all('night', '{opera}');
\echo :SQLSTATE
BEGIN;
CALL tq_grant_all('night', '{operate}');
\echo :SQLSTATE
ROLLBACK;
RESET ROLE;

-- Faults
\set VERBOSITY default
SET ROLE cust1;
SELECT tq_grant('nobody', '{read}', tenant => 'c1');
\echo :SQLSTATE
SELECT tq_grant('op', '{reed}', tenant => 'c1');
\echo :SQLSTATE
SELECT tq_grant('op', '{}', tenant => 'c1');
\echo :SQLSTATE
SELECT tq_grant('op', NULL, tenant => 'c1');
\echo :SQLSTATE
SELECT tq_grant('op', '{read}', tenant => 'c2');
\echo :SQLSTATE
SELECT tq_grant('cust1', '{read}', tenant => 'c1');
RESET ROLE;

-- Default privileges hand out nothing: attaching takes them back and says so.
CREATE ROLE owner3 LOGIN;
CREATE SCHEMA three AUTHORIZATION owner3;
ALTER DEFAULT PRIVILEGES FOR ROLE owner3 IN SCHEMA three GRANT ALL ON TABLES TO stranger;
SELECT tq_attach('three');
SELECT count(*) FROM information_schema.role_table_grants WHERE table_schema = 'three' AND grantee = 'stranger';

-- A handler whose role may not call it is told at once.
SET ROLE owner2;
REVOKE EXECUTE ON FUNCTION two.ok() FROM PUBLIC, owner2;
SELECT tq_register('ok', tenant => 'two');
SELECT tq_pause('two', handler => 'okk');
\echo :SQLSTATE
RESET ROLE;
SELECT tq_pause_all(handler => 'okk');
\echo :SQLSTATE
