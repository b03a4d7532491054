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
SELECT pg_get_triggerdef(oid) ~ 't1' AS theirs FROM pg_trigger WHERE tgrelid = 't2.orders'::regclass;
DROP TABLE t2.orders;
