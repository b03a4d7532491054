-- What tenants try on each other, on those who operate for them, and on administrators.
\i sql/setup.psql
\set VERBOSITY terse
CREATE ROLE t1 LOGIN;
CREATE ROLE t2 LOGIN;
CREATE ROLE low LOGIN;
CREATE ROLE operator LOGIN;
GRANT low TO t1;
CREATE SCHEMA t1 AUTHORIZATION t1;
CREATE SCHEMA t2 AUTHORIZATION t2;
SELECT tq_attach('t1'), tq_attach('t2');

-- A handler's function is one that the schema's owner could call by its name.
SET ROLE t2;
CREATE TABLE t2.account (balance int);
INSERT INTO t2.account VALUES (7);
CREATE FUNCTION t2.balance(id int) RETURNS int LANGUAGE sql SECURITY DEFINER AS $$ SELECT balance FROM t2.account $$;
SET ROLE t1;
SET search_path = t1, public;
SELECT t2.balance(1);
SELECT tq_register('balance', 't2.balance(int)');
\echo :SQLSTATE
-- Nor by way of the search_path.
SELECT tq_set_tenant(shared_schemas => '{t2}');
SELECT tq_register('balance', 'balance(int)');
\echo :SQLSTATE
RESET ROLE;
SELECT tq_register('balance', 't2.balance(int)', tenant => 't1');
SELECT tq_register('any_balance', 'balance(int)', shared => true);
SELECT tq_register('this_balance', 't2.balance(int)', shared => true);
SET ROLE t1;
SELECT handler, status, reason FROM tq_handlers ORDER BY 1;
SELECT tq_set_tenant(reset => '{shared_schemas}');
-- What was granted and taken back is asked for at each look-up.
SET ROLE t2;
GRANT USAGE ON SCHEMA t2 TO t1;
SET ROLE t1;
SELECT tq_register('balance', 't2.balance(int)', run_as => 'low');
SELECT tq_async('balance', '[1]', id => '01900000-0000-7000-8000-000000000001');
-- run_as needs no USAGE of its own.
SELECT tq_result('01900000-0000-7000-8000-000000000001', wait => '20 s');
SET ROLE t2;
REVOKE USAGE ON SCHEMA t2 FROM t1;
SET ROLE t1;
SELECT handler, status, reason FROM tq_handlers WHERE handler = 'balance';
SELECT tq_async('balance', '[1]', id => '01900000-0000-7000-8000-000000000002');
SELECT test.await($$(SELECT state FROM tq_tasks WHERE id = '01900000-0000-7000-8000-000000000002') = 'held'$$);
SELECT tq_unregister('balance');
RESET ROLE;
SELECT tq_unregister('any_balance', shared => true), tq_unregister('this_balance', shared => true);

-- The right to operate chooses among registered handlers: a condition is SQL of one's own, as the owner.
SET ROLE t1;
CREATE FUNCTION t1.note(what text) RETURNS text LANGUAGE sql AS $$ SELECT what $$;
SELECT tq_register('note');
SELECT tq_schedule('guarded', 'note', '@yearly', '["x"]', only_if => 'true') IS NOT NULL;
GRANT USAGE ON SCHEMA t1 TO operator;
\set VERBOSITY default
\set SHOW_CONTEXT never
SET ROLE operator;
SELECT tq_schedule('s', 'note', '@yearly', '["x"]');
SET ROLE t1;
SELECT tq_grant('operator', '{operate,read}');
SET ROLE operator;
SELECT tq_schedule('mine', 'note', '@yearly', '["x"]') IS NOT NULL;
SELECT tq_schedule('s', 'note', '@yearly', '["x"]', only_if => 't1.steal()');
\set VERBOSITY terse
\echo :SQLSTATE
SELECT tq_schedule('guarded', 'note', '@yearly', '["x"]', only_if => 't1.steal()', on_conflict => 'replace');
SELECT tq_schedule('guarded', 'note', '@yearly', '["x"]', on_conflict => 'replace');
SELECT tq_alter_schedule('mine', only_if => 't1.steal()');
\echo :SQLSTATE
SELECT tq_alter_schedule('guarded', reset => '{only_if}');
SELECT tq_import('[{"name": "s", "handler": "note", "rule": "@yearly", "args": ["x"], "only_if": "t1.steal()"}]');
\echo :SQLSTATE
SELECT tq_alter_schedule('guarded', rule => '@monthly');
SELECT s->>'name' AS name, s->>'rule' AS rule, s->>'only_if' AS only_if FROM jsonb_array_elements(tq_export()) AS s ORDER BY 1;
SELECT tq_unschedule('mine');
SET ROLE t1;
SELECT tq_alter_schedule('guarded', only_if => 'false'), tq_unschedule('guarded');
-- An administrator of schedules is no superuser.
RESET ROLE;
GRANT EXECUTE ON FUNCTION tq_schedule_all TO operator;
SET ROLE operator;
SELECT tq_schedule_all('s', 'note', '@yearly', '["x"]', only_if => 't1.steal()');
\echo :SQLSTATE
RESET ROLE;
-- A table's condition is its owner's: the tenant whose task it enqueues puts nothing in its way.
SET ROLE t1;
CREATE FUNCTION t1.gt(numeric, int) RETURNS boolean LANGUAGE sql AS $$ SELECT false $$;
CREATE OPERATOR t1.> (FUNCTION = t1.gt, LEFTARG = numeric, RIGHTARG = int);
CREATE FUNCTION t1.see(change jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT change $$;
SELECT tq_register('see'), tq_grant('t2', '{enqueue}');
SET ROLE t2;
CREATE TABLE t2.orders (total numeric);
SELECT tq_listen_table('t2.orders', 'see', events => '{insert}', only_if => 'NEW.total > 100', tenant => 't1');
RESET ROLE;
SELECT pg_get_triggerdef(oid) ~ 't1[.]' AS theirs FROM pg_trigger WHERE tgrelid = 't2.orders'::regclass;
DROP TABLE t2.orders;

-- What a detached schema leaves behind is its own, whatever becomes of its name.
CREATE ROLE heir LOGIN;
CREATE SCHEMA acme AUTHORIZATION t1;
SET ROLE t1;
SELECT tq_attach('acme');
SET search_path = acme, public;
CREATE FUNCTION acme.work() RETURNS text LANGUAGE sql AS $$ SELECT current_user::text $$;
CREATE FUNCTION acme.listen(j jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT j $$;
SELECT tq_register('work'), tq_register('listen'), tq_on('failed', 'listen') IS NOT NULL, tq_set_queue('mail', max_running => 1), tq_set_limit('smtp', max_running => 1);
CREATE TABLE t1.watched (a int);
SELECT tq_listen_table('t1.watched', 'listen', events => '{insert}');
SELECT tq_set_tenant(timezone => 'Asia/Kathmandu', settings => '{"work_mem": "7MB"}', save_limit => 5, save_limit_per => 'handler', result_ttl => '2 days', failure_ttl => '3 days', shared_schemas => '{t1}');
RESET ROLE;
CREATE VIEW test.registry AS
    SELECT (SELECT count(*) FROM tenant_q.handler WHERE tenant = x.name) AS handlers, (SELECT count(*) FROM tenant_q.listener WHERE tenant = x.name) AS listeners,
           (SELECT count(*) FROM tenant_q.queue WHERE tenant = x.name) AS queues, (SELECT count(*) FROM tenant_q.limit_key WHERE tenant = x.name) AS limits,
           (SELECT count(*) FROM tenant_q.table_listener WHERE tenant = x.name) AS tables, x.name
      FROM (SELECT name FROM tenant_q.tenant UNION SELECT tenant FROM tenant_q.handler UNION SELECT tenant FROM tenant_q.table_listener) x WHERE x.name !~ '^t\d$';
CREATE VIEW test.says AS SELECT name, timezone, settings, save_limit, save_limit_per, result_ttl, failure_ttl, shared_schemas, weight, max_running, max_queued, rate, fan_out FROM tenant_q.tenant WHERE name !~ '^t\d$';
-- Detached and attached again by its owner it is what it was.
SELECT * FROM test.registry;
SET ROLE t1;
SELECT tq_detach('acme'), tq_attach('acme', adopt => true);
RESET ROLE;
SELECT * FROM test.registry;
SELECT * FROM test.says;
-- Renamed meanwhile, all of it goes along; the next one of the name inherits nothing.
SET ROLE t1;
SELECT tq_detach('acme');
RESET ROLE;
ALTER SCHEMA acme RENAME TO acme_old;
CREATE SCHEMA acme AUTHORIZATION heir;
SET ROLE heir;
SELECT tq_attach('acme');
SET search_path = acme, public;
CREATE FUNCTION acme.listen(j jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT j $$;
SELECT tq_register('listen'), tq_grant('t1', '{enqueue}');
RESET ROLE;
INSERT INTO t1.watched VALUES (1);
SELECT count(*) FROM acme.tq_task;
SELECT * FROM test.registry ORDER BY name;
SET ROLE t1;
SELECT tq_attach('acme_old', adopt => true);
RESET ROLE;
SELECT name, timezone FROM test.says ORDER BY name;
SELECT * FROM test.registry ORDER BY name;
INSERT INTO t1.watched VALUES (2);
SELECT test.await($$(SELECT count(*) FROM acme_old.tq_result) = 1$$);
-- Another owner of the same schema inherits nothing either, but what administrators have said of it.
SELECT tq_set_quota('acme_old', max_running => 2, max_queued => 100, weight => 3, rate => '10/m', fan_out => false);
SET ROLE t1;
SELECT tq_detach('acme_old');
RESET ROLE;
ALTER SCHEMA acme_old OWNER TO heir;
ALTER TABLE acme_old.tq_task OWNER TO heir;
ALTER TABLE acme_old.tq_result OWNER TO heir;
ALTER TABLE acme_old.tq_schedule OWNER TO heir;
SET ROLE heir;
SELECT tq_attach('acme_old', adopt => true);
RESET ROLE;
SELECT * FROM test.registry ORDER BY name;
SELECT * FROM test.says WHERE name = 'acme_old';
-- The table's trigger finds nobody, and says so; whoever owns it can end it.
INSERT INTO t1.watched VALUES (3);
SELECT count(*) FROM tenant_q.table_listener WHERE tenant IN ('acme', 'acme_old');
SELECT tq_unlisten_table('t1.watched', 'listen', tenant => 'acme_old');
-- A quota isn't thrown off by leaving and coming back, with or without one's data.
SET ROLE heir;
SELECT tq_detach('acme_old'), tq_attach('acme_old', adopt => true);
SELECT tq_detach('acme_old', drop_data => true), tq_attach('acme_old');
SELECT tenant, weight, max_running, max_queued FROM tq_tenants WHERE tenant = 'acme_old';
RESET ROLE;
SELECT rate, fan_out FROM test.says WHERE name = 'acme_old';
-- Dropped while it is detached, nothing is left; nor of one that was attached, but for tables elsewhere that it listened to.
SET ROLE heir;
SELECT tq_detach('acme');
DROP SCHEMA acme CASCADE;
RESET ROLE;
SELECT * FROM test.registry ORDER BY name;
SELECT count(*) FROM tenant_q.detached;
SET ROLE heir;
CREATE FUNCTION acme_old.hear(j jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT j $$;
SELECT tq_register('hear', tenant => 'acme_old'), tq_grant('t1', '{enqueue}', tenant => 'acme_old');
SET ROLE t1;
SELECT tq_listen_table('t1.watched', 'hear', events => '{insert}', tenant => 'acme_old');
RESET ROLE;
DROP SCHEMA acme_old CASCADE;
CREATE SCHEMA acme_old AUTHORIZATION t2;
SET ROLE t2;
SELECT tq_attach('acme_old');
CREATE FUNCTION acme_old.hear(j jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT j $$;
SELECT tq_register('hear', tenant => 'acme_old'), tq_grant('t1', '{enqueue}', tenant => 'acme_old');
SET ROLE t1;
INSERT INTO t1.watched VALUES (4);
RESET ROLE;
SELECT count(*) FROM acme_old.tq_task;
SELECT * FROM test.registry ORDER BY name;
-- A restored registry: the schema is another one, its owner's name tells.
UPDATE tenant_q.tenant SET schema_oid = 1, owner = 1 WHERE name = 'acme_old';
SET ROLE t2;
SET search_path = acme_old, public;
CREATE FUNCTION acme_old.work() RETURNS text LANGUAGE sql AS $$ SELECT current_user::text $$;
RESET ROLE;
INSERT INTO tenant_q.handler (tenant, name, function, external, registered_by, registered_at) VALUES ('acme_old', 'work', 'work', false, 't2', now());
SET ROLE t2;
SELECT tq_attach('acme_old', adopt => true);
SELECT handler FROM tq_handlers;
RESET ROLE;
UPDATE tenant_q.tenant SET schema_oid = 1, owner_name = 't1' WHERE name = 'acme_old';
SET ROLE t2;
SELECT tq_attach('acme_old', adopt => true);
SELECT handler FROM tq_handlers;
RESET ROLE;
DROP SCHEMA acme_old CASCADE;

-- Rows say whether a superuser enqueued them, and a tenant writes its rows: they aren't believed when the schema comes to belong to a superuser.
CREATE SCHEMA given AUTHORIZATION t1;
SET ROLE t1;
SELECT tq_attach('given');
SET search_path = given, public;
CREATE FUNCTION given.who() RETURNS text LANGUAGE sql AS $$ SELECT current_setting('is_superuser') $$;
SELECT tq_register('who');
SELECT tq_async('who', id => '01900000-0000-7000-8000-0000000000a1', delay => '1 hour') IS NOT NULL, tq_schedule('who', 'who', '@yearly') IS NOT NULL;
SELECT tq_async('who', id => '01900000-0000-7000-8000-0000000000a2', delay => '1 hour') IS NOT NULL;
UPDATE given.tq_task SET by_superuser = true;
UPDATE given.tq_schedule SET by_superuser = true;
RESET ROLE;
CREATE ROLE boss SUPERUSER LOGIN;
-- By REASSIGN OWNED, for which there is no event trigger.
REASSIGN OWNED BY t1 TO boss;
SELECT handler, status FROM tq_handlers;
SET ROLE boss;
UPDATE tenant_q.handler SET owner = 'boss' WHERE tenant = 'given';
UPDATE tenant_q.handler_role SET owner = 'boss'::regrole WHERE tenant = 'given';
SELECT tq_set_tenant('given', ready => true);
SELECT tq_update('01900000-0000-7000-8000-0000000000a1', run_at => now());
SELECT test.await($$NOT EXISTS (SELECT FROM given.tq_task WHERE id = '01900000-0000-7000-8000-0000000000a1')$$);
SELECT sqlstate, message FROM tq_attempts('01900000-0000-7000-8000-0000000000a1');
\set VERBOSITY default
SELECT tq_async('who');
-- A superuser says that all is well: what was written before counts as nobody's.
SELECT tq_attach('given');
\set VERBOSITY terse
SELECT by_superuser FROM given.tq_task;
SELECT by_superuser FROM given.tq_schedule;
SELECT tq_update('01900000-0000-7000-8000-0000000000a2', run_at => now());
SELECT test.await($$NOT EXISTS (SELECT FROM given.tq_task WHERE id = '01900000-0000-7000-8000-0000000000a2')$$);
SELECT sqlstate, message FROM tq_attempts('01900000-0000-7000-8000-0000000000a2');
SELECT tq_async('who') AS id \gset
SELECT tq_result(:'id', wait => '20 s');
-- Handed out and back: once more.
SELECT trusted FROM tenant_q.tenant WHERE name = 'given';
REASSIGN OWNED BY boss TO t1;
REASSIGN OWNED BY t1 TO boss;
SELECT trusted FROM tenant_q.tenant WHERE name = 'given';
SELECT tq_attach('given');
ALTER SCHEMA given OWNER TO t1;
ALTER SCHEMA given OWNER TO boss;
SELECT trusted FROM tenant_q.tenant WHERE name = 'given';
-- Detached meanwhile makes no difference.
SELECT tq_attach('given');
SELECT tq_detach('given');
REASSIGN OWNED BY boss TO t1;
UPDATE given.tq_schedule SET by_superuser = true;
REASSIGN OWNED BY t1 TO boss;
SELECT tq_attach('given', adopt => true);
SELECT by_superuser FROM given.tq_schedule;
SELECT tq_detach('given'), tq_attach('given', adopt => true);
SELECT trusted FROM tenant_q.tenant WHERE name = 'given';
-- A flow that is run again is its requeuer's, hooks and all.
SET ROLE t2;
SET search_path = t2, public;
CREATE FUNCTION t2.no() RETURNS int LANGUAGE sql AS $$ SELECT 1 / 0 $$;
SELECT tq_register('no', max_attempts => 1), tq_grant('operator', '{operate,read}');
RESET ROLE;
SELECT tq_group('["no", "no"]', '{"id": "01900000-0000-7000-8000-0000000000f1"}');
SELECT test.await($$EXISTS (SELECT FROM t2.tq_result WHERE id = '01900000-0000-7000-8000-0000000000f1')$$);
SELECT enqueued_by, by_superuser FROM t2.tq_result WHERE id = '01900000-0000-7000-8000-0000000000f1';
SET ROLE t2;
SELECT tq_set_tenant(ready => false);
SET ROLE operator;
SELECT tq_requeue('01900000-0000-7000-8000-0000000000f1');
SELECT enqueued_by, by_superuser FROM t2.tq_task WHERE id = '01900000-0000-7000-8000-0000000000f1';
RESET ROLE;
SELECT tq_cancel('01900000-0000-7000-8000-0000000000f1');

-- The quota of queued tasks is the tenant's, whatever roles they run as; what is taken away counts where it was counted.
CREATE SCHEMA full_up AUTHORIZATION heir;
GRANT low TO heir;
SELECT tq_attach('full_up');
SET ROLE heir;
SET search_path = full_up, public;
CREATE FUNCTION full_up.note(what text) RETURNS text LANGUAGE sql AS $$ SELECT what $$;
GRANT USAGE ON SCHEMA full_up TO low;
SELECT tq_register('note'), tq_register('low_note', 'note', run_as => 'low');
SELECT tq_async('note', '["x"]') AS a, tq_async('low_note', '["x"]') AS b \gset
SELECT tq_result(:'a', wait => '20 s'), tq_result(:'b', wait => '20 s');
RESET ROLE;
SELECT tq_set_quota('full_up', max_queued => 4);
SET ROLE heir;
SELECT count(tq_async('low_note', '["x"]', delay => '1 hour', group_id => 'low')) FROM generate_series(1, 3);
SELECT tq_async('note', '["x"]', delay => '1 hour', unique_key => 'k') IS NOT NULL;
SELECT tq_async('low_note', '["x"]');
\echo :SQLSTATE
SELECT tq_async('note', '["x"]');
\echo :SQLSTATE
SELECT count(*) FILTER (WHERE tq_cancel(id)) FROM tq_task WHERE group_id = 'low';
SELECT queued FROM tq_tenants WHERE tenant = 'full_up';
SELECT count(tq_async('low_note', '["x"]', delay => '1 hour', unique_key => 'low' || n)) FROM generate_series(1, 3) n;
SELECT tq_async('note', '["x"]');
-- Put in the place of another one it is no further one.
SELECT tq_cancel(id) FROM tq_task WHERE unique_key = 'low3';
SELECT count(tq_async('low_note', '["y"]', delay => '1 hour', unique_key => 'low1', on_conflict => 'replace')) FROM generate_series(1, 2);
SELECT queued FROM tq_tenants WHERE tenant = 'full_up';
-- In one transaction
BEGIN;
SELECT tq_async('low_note', '["x"]', delay => '1 hour') IS NOT NULL;
SELECT tq_async('note', '["x"]', delay => '1 hour');
ROLLBACK;
RESET ROLE;

-- Types of a tenant's don't come between a function of ours and its caller, whatever the order of the path.
CREATE SCHEMA trap AUTHORIZATION t2;
SET ROLE t2;
CREATE FUNCTION trap.sprung(who text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'sprung by %', who; END $$;
CREATE DOMAIN trap.text AS pg_catalog.text CHECK (trap.sprung(current_user));
CREATE DOMAIN trap.uuid AS pg_catalog.uuid CHECK (trap.sprung(current_user));
SELECT tq_set_tenant('t2', ready => true);
RESET ROLE;
SET search_path = trap, pg_catalog, public;
SELECT state FROM tq_fetch('01900000-0000-7000-8000-0000000000f1', tenant => 't2');
SELECT count(*) FROM tq_attempts('01900000-0000-7000-8000-0000000000f1', tenant => 't2');
SELECT count(*) FROM tq_why('01900000-0000-7000-8000-0000000000f1', tenant => 't2');
SELECT count(*) FROM tq_fetch_group('no', tenant => 't2');
SELECT count(*) FROM tq_upcoming(now(), tenant => 't2');
CALL tq_attach_all('tra_');
SELECT count(*) FROM tenant_q.tenant WHERE tenant_q.tenant.name::pg_catalog.text = 'trap';

-- A rename that nobody saw is found out when the name is attached again.
RESET search_path;
CREATE SCHEMA unseen AUTHORIZATION heir;
SET ROLE heir;
SELECT tq_attach('unseen'), tq_register('note', 'full_up.note', tenant => 'unseen');
SELECT tq_detach('unseen');
RESET ROLE;
ALTER EVENT TRIGGER tenant_q_renamed DISABLE;
ALTER SCHEMA unseen RENAME TO unseen_old;
ALTER EVENT TRIGGER tenant_q_renamed ENABLE;
CREATE SCHEMA unseen AUTHORIZATION heir;
SET ROLE heir;
SELECT tq_attach('unseen');
RESET ROLE;
SELECT name, handlers FROM test.registry WHERE name ~ 'unseen' ORDER BY 1;
SET ROLE heir;
SELECT tq_attach('unseen_old', adopt => true);
RESET ROLE;
SELECT name, handlers FROM test.registry WHERE name ~ 'unseen' ORDER BY 1;
