-- What a user can get wrong: each fault has its own SQLSTATE, message, DETAIL and HINT, and changes nothing.
\i sql/setup.psql
CREATE ROLE owner LOGIN;
CREATE ROLE stranger LOGIN;
CREATE SCHEMA acme AUTHORIZATION owner;
CREATE SCHEMA bare AUTHORIZATION owner;
CREATE SCHEMA hidden AUTHORIZATION owner;
SELECT tq_attach('acme');
SELECT tq_attach('hidden');
SET ROLE owner;
SET search_path = acme, public;
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE TYPE color AS ENUM ('red', 'green');
CREATE FUNCTION send_invoice(order_id bigint, locale text DEFAULT 'en') RETURNS text LANGUAGE sql AS $$ SELECT 'sent' $$;
CREATE FUNCTION paint(c color, n positive, d date) RETURNS void LANGUAGE sql AS $$ $$;
CREATE FUNCTION nothing() RETURNS void LANGUAGE sql AS $$ $$;
CREATE FUNCTION same(x int) RETURNS int LANGUAGE sql AS $$ SELECT x $$;
CREATE FUNCTION same(x text) RETURNS text LANGUAGE sql AS $$ SELECT x $$;
CREATE FUNCTION any_of(x anyelement) RETURNS int LANGUAGE sql AS $$ SELECT 1 $$;
CREATE FUNCTION on_row() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
CREATE AGGREGATE total(int) (SFUNC = int4pl, STYPE = int);
SELECT tq_register('send_invoice'), tq_register('paint'), tq_register('nothing');
SELECT tq_set_tenant(ready => false);
-- What must be the same at the end.
CREATE FUNCTION test_counts() RETURNS TABLE (tasks bigint, results bigint, schedules bigint, handlers bigint) LANGUAGE sql
AS $$ SELECT (SELECT count(*) FROM acme.tq_task), (SELECT count(*) FROM acme.tq_result), (SELECT count(*) FROM acme.tq_schedule), (SELECT count(*) FROM tq_handlers) $$;
SELECT * FROM test_counts();

-- Which tenant
SELECT tq_async('send_invoice', '[1]', tenant => 'acmee');
\echo :SQLSTATE
SELECT tq_async('send_invoice', '[1]', tenant => 'bare');
\echo :SQLSTATE
SELECT tq_async('send_invoice', '[1]', tenant => 'ACME');
\echo :SQLSTATE
SELECT tq_async('send_invoice', '[1]', tenant => '');
\echo :SQLSTATE
SELECT tq_async('send_invoice', '[1]', tenant => repeat('a', 64));
\echo :SQLSTATE
SET search_path = '';
SELECT public.tq_async('send_invoice', '[1]');
\echo :SQLSTATE
SET search_path = pg_catalog;
SELECT public.tq_async('send_invoice', '[1]');
\echo :SQLSTATE
SET search_path = "$user", public;
SELECT tq_async('send_invoice', '[1]');
\echo :SQLSTATE
SET search_path = no_such_schema, acme, public;
SELECT tq_async('send_invoice', '[1]');
\echo :SQLSTATE
SELECT tq_tenant();
\echo :SQLSTATE
SET search_path = bare, acme, public;
SELECT tq_async('send_invoice', '[1]');
\echo :SQLSTATE
SET search_path = acme, public;
SET ROLE stranger;
SELECT tq_async('send_invoice', '[1]');
\echo :SQLSTATE
SET ROLE owner;

-- Which handler
SELECT tq_async('send_invoces', '[1]');
\echo :SQLSTATE
SELECT tq_async('completely different', '[1]');
\echo :SQLSTATE
SELECT tq_async('public.send_invoice', '[1]');
\echo :SQLSTATE
SELECT tq_async('send_invoice', '[1]', tenant => 'hidden');
\echo :SQLSTATE
SELECT tq_async(NULL);
\echo :SQLSTATE
SELECT tq_async('');
\echo :SQLSTATE
SELECT tq_async(repeat('x', 10000));
\echo :SQLSTATE

-- Arguments
SELECT tq_async('send_invoice');
\echo :SQLSTATE
SELECT tq_async('send_invoice', '{}');
\echo :SQLSTATE
SELECT tq_async('send_invoice', '{"locale": "de"}');
\echo :SQLSTATE
SELECT tq_async('send_invoice', '{"orderid": 1}');
\echo :SQLSTATE
SELECT tq_async('send_invoice', '{"order_id": 1, "colour": "red"}');
\echo :SQLSTATE
SELECT tq_async('send_invoice', '[1, "de", true]');
\echo :SQLSTATE
SELECT tq_async('send_invoice', '1');
\echo :SQLSTATE
SELECT tq_async('send_invoice', 'null');
\echo :SQLSTATE
SELECT tq_async('send_invoice', '["one"]');
\echo :SQLSTATE
SELECT tq_async('send_invoice', '[1.5]');
\echo :SQLSTATE
SELECT tq_async('send_invoice', '[99999999999999999999]');
\echo :SQLSTATE
SELECT tq_async('send_invoice', '[{"a": 1}]');
\echo :SQLSTATE
SELECT tq_async('send_invoice', '[true]');
\echo :SQLSTATE
SELECT tq_async('nothing', '[1]');
\echo :SQLSTATE
SELECT tq_async('nothing', '{"a": 1}');
\echo :SQLSTATE
SELECT tq_async('nothing', '1');
\echo :SQLSTATE
SELECT tq_async('paint', '{"c": "blue", "n": 1, "d": "2024-02-29"}');
\echo :SQLSTATE
-- What a domain's CHECK says is asked in a session of the handler's role.
\c - owner
SET search_path = acme, public;
SELECT tq_async('paint', '{"c": "red", "n": 0, "d": "2024-02-29"}');
\echo :SQLSTATE
\c - postgres
SET ROLE owner;
SET search_path = acme, public;
SELECT tq_async('paint', '{"c": "red", "n": 1, "d": "2023-02-29"}');
\echo :SQLSTATE
SELECT tq_async('paint', '{"c": "red", "n": 1, "d": "soon"}');
\echo :SQLSTATE
SELECT tq_async('send_invoice', '{"order_id": 1}}');
\echo :SQLSTATE

-- Sizes
SELECT tq_async('send_invoice', jsonb_build_array(1, repeat('x', 1100000)));
\echo :SQLSTATE
SELECT tq_async('send_invoice', '[1]', name => repeat('x', 10000));
\echo :SQLSTATE
SELECT tq_async('send_invoice', '[1]', group_id => repeat('x', 10000));
\echo :SQLSTATE
SELECT tq_async('send_invoice', '[1]', queue => repeat('x', 10000));
\echo :SQLSTATE
SELECT tq_async('send_invoice', '[1]', name => '');
\echo :SQLSTATE
SELECT tq_async('send_invoice', '[1]', meta => jsonb_build_object('x', repeat('x', 1100000)));
\echo :SQLSTATE

-- Times and numbers
SELECT tq_async('send_invoice', '[1]', delay => '-1 second');
\echo :SQLSTATE
SELECT tq_async('send_invoice', '[1]', delay => '1 second', run_at => now());
\echo :SQLSTATE
SELECT tq_async('send_invoice', '[1]', run_at => 'infinity');
\echo :SQLSTATE
SELECT tq_async('send_invoice', '[1]', run_at => '-infinity');
\echo :SQLSTATE
SELECT tq_async('send_invoice', '[1]', delay => '290000 years');
\echo :SQLSTATE
SELECT tq_async('send_invoice', '[1]', delay => '178000000 years');
\echo :SQLSTATE
SELECT tq_async('send_invoice', '[1]', expires => '-1 minute');
\echo :SQLSTATE
SELECT tq_async('send_invoice', '[1]', timeout => '-1 minute');
\echo :SQLSTATE
SELECT tq_async('send_invoice', '[1]', result_ttl => '-1 minute');
\echo :SQLSTATE
SELECT tq_async('send_invoice', '[1]', priority => 40000);
\echo :SQLSTATE
SELECT tq_async('send_invoice', '[1]', priority => -32769);
\echo :SQLSTATE
SELECT tq_async('send_invoice', '[1]', max_attempts => -1);
\echo :SQLSTATE
SELECT tq_async('send_invoice', '[1]', retry => '{"kind": "never"}');
\echo :SQLSTATE
SELECT tq_async('send_invoice', '[1]', retry => '5');
\echo :SQLSTATE
SELECT tq_async('send_invoice', '[1]', id => '00000000-0000-0000-0000-000000000000');
\echo :SQLSTATE

-- Keys, dependencies, hooks
SELECT tq_async('send_invoice', '[1]', lock => '');
\echo :SQLSTATE
SELECT tq_async('send_invoice', '[1]', unique_until => 'started');
\echo :SQLSTATE
SELECT tq_async('send_invoice', '[1]', on_conflict => 'skip');
SELECT tq_async('send_invoice', '[1]', unique_key => 'k', unique_until => 'never');
SELECT tq_async('send_invoice', '[1]', unique_key => 'k', on_conflict => 'ignore');
\echo :SQLSTATE
SELECT tq_async('send_invoice', '[1]', depends_on => ARRAY['00000000-0000-7000-8000-000000000001']::uuid[]);
\echo :SQLSTATE
SELECT tq_async('send_invoice', '[1]', depends_on => array_fill('00000000-0000-7000-8000-000000000001'::uuid, ARRAY[100000]));
\echo :SQLSTATE
SELECT tq_async('send_invoice', '[1]', depends_mode => 'all');
\echo :SQLSTATE
SELECT tq_async('send_invoice', '[1]', on_success => 'x');
SELECT tq_async('send_invoice', '[1]', hook => 'x');
\echo :SQLSTATE
-- Flows
SELECT tq_group(NULL);
\echo :SQLSTATE
SELECT tq_group('{}');
SELECT tq_group('[1]');
SELECT tq_group('[{"handler": "send_invoice", "args": [1]}, {"handler": "send_invoice", "args": ["x"]}]');
SELECT tq_group('[{"handler": "send_invoice", "args": [1], "id": "00000000-0000-7000-8000-000000000001"}]');
SELECT tq_group('[{"handler": "send_invoice", "args": [1]}]', '{"args": [1]}');
SELECT tq_group('[{"handler": "send_invoice", "args": [1]}]', '{"colour": "red"}');
SELECT tq_group('[{"handler": "send_invoice", "args": [1]}]', '[]');
\echo :SQLSTATE
SELECT tq_chain('[{"handler": "send_invoice", "args": [1]}]', on_step_failure => 'ignore');
SELECT tq_chain('[{"handler": "send_invoice", "args": [1]}, {"handler": "send_invoice", "args": {"order_id": 1, "locale": "de"}}]', pass_result => true);
SELECT tq_async_iter('send_invoice', ARRAY['[1]']::jsonb[], chunk => 0);
\echo :SQLSTATE
-- Limits
SELECT tq_set_limit('smtp', max_running => 0);
SELECT tq_set_limit('smtp', max_running => -1);
SELECT tq_set_limit('smtp', rate => 'often');
SELECT tq_set_limit('smtp', rate => '0.5/s');
SELECT tq_set_limit('smtp', rate => '0/m');
SELECT tq_set_limit('smtp', rate => '1/m', algorithm => 'leaky');
SELECT tq_set_limit('smtp', reset => '{colour}');
SELECT tq_set_limit('');
SELECT tq_set_queue('reports', priority => 99999);
SELECT tq_set_queue('reports', pick => 'last');
\echo :SQLSTATE
SELECT tq_set_queue(NULL);
\echo :SQLSTATE
SELECT count(*) FROM tq_tasks WHERE queue = 'reports' OR handler LIKE 'tq_%';

-- Task objects
SELECT tq_async_many(NULL);
\echo :SQLSTATE
SELECT tq_async_many('{}');
\echo :SQLSTATE
SELECT tq_async_many('["send_invoice"]');
\echo :SQLSTATE
SELECT tq_async_many('[{"handler": "send_invoice", "args": [1]}, {"args": [2]}]');
\echo :SQLSTATE
SELECT tq_async_many('[{"handler": "send_invoice", "args": [1]}, {"handler": "send_invoice", "arg": [2]}]');
\echo :SQLSTATE
SELECT tq_async_many('[{"handler": "send_invoice", "args": [1]}, {"handler": "send_invoice", "args": ["two"]}]');
\echo :SQLSTATE
SELECT tq_async_many('[{"handler": "send_invoice", "args": [1], "priority": "high"}]');
\echo :SQLSTATE
SELECT tq_async_many('[{"handler": "send_invoice", "args": [1], "priority": 40000}]');
\echo :SQLSTATE
SELECT tq_async_many('[{"handler": "send_invoice", "args": [1], "delay": "soon"}]');
\echo :SQLSTATE
SELECT tq_async_many('[{"handler": "send_invoice", "args": [1], "delay": 5}]');
\echo :SQLSTATE
SELECT tq_async_many('[{"handler": "send_invoice", "args": [1], "run_at": "2024-13-01"}]');
\echo :SQLSTATE
SELECT tq_async_many('[{"handler": "send_invoice", "args": [1], "id": "42"}]');
\echo :SQLSTATE
SELECT tq_async_many('[{"handler": "send_invoice", "args": [1], "unique_until": "x"}]');
\echo :SQLSTATE
SELECT tq_async_many('[{"handler": "send_invoice", "args": [1], "tenant": "hidden"}]');
\echo :SQLSTATE

-- Registering
SELECT tq_register('send_invoce');
\echo :SQLSTATE
SELECT tq_register('f', 'zzzzzz');
\echo :SQLSTATE
SELECT tq_register('f', 'no_such_schema.f');
\echo :SQLSTATE
SELECT tq_register('f', 'send_invoice(int)');
\echo :SQLSTATE
SELECT tq_register('f', 'send_invoice(no_such_type)');
\echo :SQLSTATE
SELECT tq_register('same');
\echo :SQLSTATE
SELECT tq_register('any_of');
\echo :SQLSTATE
SELECT tq_register('on_row');
\echo :SQLSTATE
SELECT tq_register('total');
\echo :SQLSTATE
SELECT tq_register('f', 'send_invoice(');
\echo :SQLSTATE
SELECT tq_register('f', 'send_invoice; DROP TABLE tq_task');
\echo :SQLSTATE
SELECT tq_register('f', '');
\echo :SQLSTATE
SELECT tq_register('');
\echo :SQLSTATE
SELECT tq_register(NULL);
\echo :SQLSTATE
SELECT tq_register(E'two\nlines', 'nothing');
\echo :SQLSTATE
SELECT tq_register(repeat('x', 201), 'nothing');
\echo :SQLSTATE
SELECT tq_register('nothing', priority => 40000);
\echo :SQLSTATE
SELECT tq_register('nothing', timeout => '-1 s');
\echo :SQLSTATE
RESET ROLE;
SELECT tq_async_all('nothin');
\echo :SQLSTATE
SET ROLE owner;
SELECT tq_register('nothing', timeout => '9000 years');
\echo :SQLSTATE
SELECT tq_register('nothing', expires => '170000 years');
\echo :SQLSTATE
SELECT tq_register('nothing', max_attempts => -1);
\echo :SQLSTATE
SELECT tq_register('nothing', retry => '{}');
\echo :SQLSTATE
SELECT tq_register('nothing', run_as => 'nobody here');
\echo :SQLSTATE
SELECT tq_register('nothing', run_as => 'postgres');
\echo :SQLSTATE
SELECT tq_register('nothing', settings => '{"work_mem": "lots"}');
\echo :SQLSTATE
SELECT tq_register('nothing', settings => '{"no_such_setting": "1"}');
\echo :SQLSTATE
SELECT tq_register('nothing', settings => '{"log_statement": "none"}');
\echo :SQLSTATE
SELECT tq_register('nothing', settings => '{"search_path": "hidden"}');
\echo :SQLSTATE
SELECT tq_register('nothing', settings => '{"role": "postgres"}');
\echo :SQLSTATE
SELECT tq_register('nothing', settings => '[]');
\echo :SQLSTATE
SELECT tq_register('nothing', max_running => 0);
\echo :SQLSTATE
SELECT tq_register('nothing', rate => '1/fortnight');
\echo :SQLSTATE
SELECT tq_register('nothing', params => '[]');
\echo :SQLSTATE
SELECT tq_register('nothing', shared => true);
\echo :SQLSTATE
SELECT tq_register('nothing', shared => true, tenant => 'acme');
\echo :SQLSTATE
SELECT tq_backoff('never');
\echo :SQLSTATE
SELECT tq_backoff(NULL);
\echo :SQLSTATE
SELECT tq_backoff('fixed', '-1 s');
\echo :SQLSTATE
SELECT tq_backoff('fixed', jitter => 2);
\echo :SQLSTATE
SELECT tq_backoff('fixed', factor => 'NaN');
\echo :SQLSTATE
SELECT tq_backoff('fixed', '1 s', factor => 2);
\echo :SQLSTATE
SELECT tq_backoff('list');
\echo :SQLSTATE
SELECT tq_backoff('fixed', retry_on => '{"no such"}');
\echo :SQLSTATE

-- Ids
SELECT tq_result('01010101-0101-0101-0101-010101010101');
\echo :SQLSTATE
SELECT tq_result(NULL);
\echo :SQLSTATE
SELECT tq_result('not a uuid');
\echo :SQLSTATE
SELECT tq_result('01010101-0101-0101-0101-010101010101', wait => '-1 s');
\echo :SQLSTATE
SELECT count(*) FROM tq_fetch('01010101-0101-0101-0101-010101010101');
SELECT * FROM tq_fetch(NULL);
\echo :SQLSTATE
SELECT * FROM tq_attempts('01010101-0101-0101-0101-010101010101');
\echo :SQLSTATE
SELECT * FROM tq_why('01010101-0101-0101-0101-010101010101');
SELECT tq_cancel('01010101-0101-0101-0101-010101010101');
SELECT tq_cancel(NULL);
\echo :SQLSTATE
SELECT tq_find('no such name');
SELECT tq_find(NULL);
\echo :SQLSTATE

-- Outside of a task
SELECT tq_current();
SELECT tq_retry();
\echo :SQLSTATE
SELECT tq_fail('x');
\echo :SQLSTATE

-- Schedules
SELECT tq_schedule('s', 'send_invoice', 'every blue moon', '[1]');
\echo :SQLSTATE
SELECT tq_schedule('s', 'send_invoice', '* * * *', '[1]');
\echo :SQLSTATE
SELECT tq_schedule('s', 'send_invoice', '60 * * * *', '[1]');
\echo :SQLSTATE
SELECT tq_schedule('s', 'send_invoice', '0 0 31 4 *', '[1]');
\echo :SQLSTATE
SELECT tq_schedule('s', 'send_invoice', '', '[1]');
\echo :SQLSTATE
SELECT tq_schedule('s', 'send_invoice', NULL, '[1]');
\echo :SQLSTATE
SELECT tq_schedule(NULL, 'send_invoice', '@daily', '[1]');
\echo :SQLSTATE
SELECT tq_schedule(repeat('x', 201), 'send_invoice', '@daily', '[1]');
\echo :SQLSTATE
SELECT tq_schedule('s', 'send_invoce', '@daily', '[1]');
\echo :SQLSTATE
SELECT tq_schedule('s', 'send_invoice', '@daily');
\echo :SQLSTATE
SELECT tq_schedule('s', 'send_invoice', '@daily', '["x"]');
\echo :SQLSTATE
SELECT tq_schedule('s', 'send_invoice', '@daily', '[1]', tz => 'Europe/Atlantis');
\echo :SQLSTATE
SELECT tq_schedule('s', 'send_invoice', '@daily', '[1]', until => '2001-01-01');
\echo :SQLSTATE
SELECT tq_schedule('s', 'send_invoice', '@daily', '[1]', repeats => -2);
\echo :SQLSTATE
SELECT tq_schedule('s', 'send_invoice', '@daily', '[1]', catch_up => 'maybe');
\echo :SQLSTATE
SELECT tq_schedule('s', 'send_invoice', '@daily', '[1]', catch_up_limit => 0);
\echo :SQLSTATE
SELECT tq_schedule('s', 'send_invoice', '@daily', '[1]', overlap => 'maybe');
\echo :SQLSTATE
SELECT tq_schedule('s', 'send_invoice', '@daily', '[1]', month_end => 'maybe');
\echo :SQLSTATE
SELECT tq_schedule('s', 'send_invoice', '@daily', '[1]', jitter => '-1 s');
\echo :SQLSTATE
SELECT tq_schedule('s', 'send_invoice', '@daily', '[1]', deadline => '-1 s');
\echo :SQLSTATE
SELECT tq_schedule('s', 'send_invoice', '@daily', '[1]', active_hours => 'night');
\echo :SQLSTATE
SELECT tq_schedule('s', 'send_invoice', '@daily', '{"order_id": 1}', time_arg => 'day');
\echo :SQLSTATE
SELECT tq_schedule('s', 'send_invoice', '@daily', '[1]', time_arg => 'order_id');
\echo :SQLSTATE
SELECT tq_schedule('s', 'send_invoice', '@daily', '[1]', task => '{"handler": "paint"}');
\echo :SQLSTATE
SELECT tq_schedule('s', 'send_invoice', '@daily', '[1]', task => '{"priorty": 1}');
\echo :SQLSTATE
SELECT tq_schedule('s', 'send_invoice', '@daily', '[1]', on_conflict => 'maybe');
\echo :SQLSTATE
SELECT tq_schedule('s', 'send_invoice', '@daily', '[1]', only_if => 'amount >');
\echo :SQLSTATE
SELECT tq_schedule('s', 'send_invoice', '@daily', '[1]', after => '{x}');
SELECT tq_schedule('s', 'send_invoice', '@daily', '[1]', after_outcome => 'done');
SELECT tq_unschedule('no such');
SELECT tq_unschedule(NULL);
\echo :SQLSTATE
SELECT tq_next_runs('every blue moon');
\echo :SQLSTATE
SELECT tq_next_runs(NULL);
\echo :SQLSTATE
SELECT tq_next_runs('@daily', n => -1);
\echo :SQLSTATE
SELECT tq_next_runs('@daily', n => 1000000);
\echo :SQLSTATE
SELECT tq_next_runs('@daily', 'Europe/Atlantis');
\echo :SQLSTATE
SELECT tq_describe('every blue moon');
\echo :SQLSTATE
SELECT tq_describe(NULL);
\echo :SQLSTATE

-- Tenants
SELECT tq_attach('no such schema');
\echo :SQLSTATE
SELECT tq_attach('pg_catalog');
\echo :SQLSTATE
SELECT tq_attach('tenant_q');
\echo :SQLSTATE
SELECT tq_detach(NULL);
\echo :SQLSTATE
SELECT tq_detach('no such schema');
\echo :SQLSTATE
SELECT tq_detach('bare');
SELECT tq_set_tenant(timezone => 'Europe/Atlantis');
\echo :SQLSTATE
SELECT tq_set_tenant(shared_schemas => '{no_such_schema}');
\echo :SQLSTATE
SELECT tq_set_tenant(settings => '{"work_mem": "lots"}');
\echo :SQLSTATE
SELECT tq_set_tenant(settings => '{"tenant_q.enabled": "off"}');
\echo :SQLSTATE
SELECT tq_set_tenant(save_limit => -2);
\echo :SQLSTATE
SELECT tq_set_tenant(save_limit_per => 'colour');
\echo :SQLSTATE
SELECT tq_set_tenant(result_ttl => '-1 s');
\echo :SQLSTATE
SELECT tq_set_tenant(reset => '{max_queued}');
\echo :SQLSTATE
SELECT tq_pause(duration => '-1 s');
\echo :SQLSTATE
SELECT tq_pause(drain => '-1 s');
\echo :SQLSTATE
SELECT tq_resume();
SELECT tq_resume(handler => 'no such');
SELECT tq_set_quota('acme', weight => 2);
\echo :SQLSTATE
SELECT tq_pause_all();
\echo :SQLSTATE
CALL tq_attach_all();
\echo :SQLSTATE
SELECT tq_confirm_copy();
\echo :SQLSTATE
RESET ROLE;
SELECT tq_set_quota(NULL, weight => 2);
\echo :SQLSTATE
SELECT tq_set_quota('bare', weight => 2);
\echo :SQLSTATE
SELECT tq_set_quota('acme', weight => 0);
\echo :SQLSTATE
SELECT tq_set_quota('acme', weight => 1001);
\echo :SQLSTATE
SELECT tq_set_quota('acme', max_running => -1);
\echo :SQLSTATE
SELECT tq_set_quota('acme', max_queued => -1);
\echo :SQLSTATE
SELECT tq_set_quota('acme', rate => 'fast');
\echo :SQLSTATE
SELECT tq_set_quota('acme', reset => '{ready}');
\echo :SQLSTATE

-- A stranger
GRANT USAGE ON SCHEMA acme TO stranger;
SET ROLE stranger;
SELECT tq_async('send_invoice', '[1]');
\echo :SQLSTATE
SELECT tq_async_many('[]');
\echo :SQLSTATE
SELECT tq_register('send_invoice');
\echo :SQLSTATE
SELECT tq_unregister('send_invoice');
\echo :SQLSTATE
SELECT tq_schedule('s', 'send_invoice', '@daily', '[1]');
\echo :SQLSTATE
SELECT tq_unschedule('s');
\echo :SQLSTATE
SELECT tq_set_tenant(ready => true);
\echo :SQLSTATE
SELECT tq_pause();
\echo :SQLSTATE
SELECT tq_resume();
\echo :SQLSTATE
SELECT tq_detach('acme');
\echo :SQLSTATE
SELECT tq_attach('bare');
\echo :SQLSTATE
SELECT tq_result('01010101-0101-0101-0101-010101010101');
\echo :SQLSTATE
SELECT tq_cancel('01010101-0101-0101-0101-010101010101');
\echo :SQLSTATE
SELECT count(*) FROM tq_tasks;
\echo :SQLSTATE
SELECT count(*) FROM tq_schedules;
\echo :SQLSTATE

SET ROLE owner;
-- Handlers outside of the server
SELECT tq_register('outside', external => true, params => '{}');
\echo :SQLSTATE
SELECT tq_register('outside', external => true, params => '"order_id"');
\echo :SQLSTATE
SELECT tq_register('outside', external => true, params => '["order_id"]');
\echo :SQLSTATE
SELECT tq_register('outside', external => true, params => '[{"type": "bigint"}]');
\echo :SQLSTATE
SELECT tq_register('outside', external => true, params => '[{"name": "", "type": "bigint"}]');
\echo :SQLSTATE
SELECT tq_register('outside', external => true, params => '[{"name": "order_id"}]');
\echo :SQLSTATE
SELECT tq_register('outside', external => true, params => '[{"name": "order_id", "type": "bigint", "nullable": true}]');
\echo :SQLSTATE
SELECT tq_register('outside', external => true, params => '[{"name": "a", "type": "text"}, {"name": "a", "type": "text"}]');
\echo :SQLSTATE
SELECT tq_register('outside', external => true, params => '[{"name": "a", "type": "no_such_type"}]');
\echo :SQLSTATE
SELECT tq_register('outside', external => true, params => '[{"name": "a", "type": "1 + 1"}]');
\echo :SQLSTATE
SELECT tq_register('outside', external => true, params => '[{"name": "a", "type": "positive"}]');
\echo :SQLSTATE
SELECT tq_register('outside', external => true, params => '[{"name": "a", "type": "anyelement"}]');
\echo :SQLSTATE
SELECT tq_register('outside', external => true, params => '[{"name": 1, "type": "text"}]');
\echo :SQLSTATE
SELECT tq_register('outside', external => true, params => '[{"name": "a", "type": "bigint", "default": "many"}]');
\echo :SQLSTATE
SELECT tq_register('outside', external => true, params => (SELECT jsonb_agg(jsonb_build_object('name', 'p' || n, 'type', 'text')) FROM generate_series(1, 101) AS n));
\echo :SQLSTATE
SELECT tq_register('nothing', params => '[]', external => false);
\echo :SQLSTATE
SELECT tq_register('outside', 'nothing()', external => true);
\echo :SQLSTATE
SELECT tq_register('outside', settings => '{"work_mem": "1MB"}', external => true);
\echo :SQLSTATE
SELECT tq_register('outside', run_as => 'nobody here', external => true);
\echo :SQLSTATE
SELECT tq_register('outside', external => true, shared => true);
\echo :SQLSTATE
SELECT tq_register('outside', external => true, shared => true, tenant => 'acme');
\echo :SQLSTATE
SELECT tq_on('enqueue', 'outside');
\echo :SQLSTATE
BEGIN;
SELECT tq_register('outside', external => true, params => '[{"name": "order_id", "type": "bigint"}, {"name": "locale", "type": "text", "default": "de"}]'), tq_register('told', external => true);
SAVEPOINT a;
SELECT tq_on('enqueue', 'told');
\echo :SQLSTATE
ROLLBACK TO a;
SELECT tq_on('before_run', 'told');
\echo :SQLSTATE
ROLLBACK TO a;
SELECT tq_on('after_run', 'told');
\echo :SQLSTATE
ROLLBACK TO a;
SELECT tq_on('before_run', 'nothing', for_handler => 'outside');
\echo :SQLSTATE
ROLLBACK TO a;
SELECT tq_on('after_run', 'nothing', for_handler => 'outside');
\echo :SQLSTATE
ROLLBACK TO a;
SELECT tq_async('outside', '[1]', sync => true);
\echo :SQLSTATE
ROLLBACK TO a;
SELECT tq_async('outside');
\echo :SQLSTATE
ROLLBACK TO a;
SELECT tq_async('outside', '["many"]');
\echo :SQLSTATE
ROLLBACK TO a;
SELECT tq_async('outside', '[1, "en", 3]');
\echo :SQLSTATE
ROLLBACK TO a;
SELECT tq_async('outside', '{"order": 1}');
\echo :SQLSTATE
ROLLBACK TO a;
SELECT tq_schedule('s', 'outside', '@daily', '{"order_id": "x"}');
\echo :SQLSTATE
ROLLBACK TO a;
SELECT tq_schedule('s', 'outside', '@daily', '[1]', time_arg => 'at');
\echo :SQLSTATE
ROLLBACK TO a;
ROLLBACK;
-- One that has to be called at once can't be outside.
BEGIN;
CREATE FUNCTION asks(event jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT event $$;
SELECT tq_register('asks'), tq_on('before_run', 'asks', for_handler => 'nothing') IS NOT NULL AS listens;
SAVEPOINT a;
SELECT tq_register('asks', external => true);
\echo :SQLSTATE
ROLLBACK TO a;
SELECT tq_register('nothing', external => true);
\echo :SQLSTATE
ROLLBACK TO a;
ROLLBACK;

-- A read-only transaction, as on a standby behind a proxy
BEGIN READ ONLY;
SELECT tq_async('send_invoice', '[1]');
\echo :SQLSTATE
ROLLBACK;

-- Nothing has changed.
SELECT * FROM test_counts();
SELECT handler, function, status, run_as, max_attempts, settings FROM tq_handlers ORDER BY handler;
RESET ROLE;
SELECT tenant, status, reason, queued, weight, max_running, max_queued FROM tq_tenants ORDER BY tenant;

-- What is odd and right: a run_at that is past runs now, NULLs inherit, a quota of null keeps none.
SET ROLE owner;
SELECT tq_set_tenant(ready => true);
SELECT tq_async('send_invoice', '[1]', run_at => '2001-01-01', delay => NULL, id => '01900000-0000-7000-8000-000000000001') IS NOT NULL AS enqueued;
SELECT tq_result('01900000-0000-7000-8000-000000000001', wait => '20 s');
SELECT tq_async('send_invoice', '{"order_id": null}', id => '01900000-0000-7000-8000-000000000002') IS NOT NULL AS enqueued;
SELECT tq_result('01900000-0000-7000-8000-000000000002', wait => '20 s');
