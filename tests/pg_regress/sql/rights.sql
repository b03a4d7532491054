-- Who may do what: the owner, roles with grants, strangers, superusers; and what they see.
\i sql/setup.psql
CREATE ROLE owner LOGIN;
CREATE ROLE app LOGIN;
CREATE ROLE reader LOGIN;
CREATE ROLE operator LOGIN;
CREATE ROLE rival LOGIN;
CREATE ROLE watcher LOGIN IN ROLE pg_monitor;
CREATE SCHEMA acme AUTHORIZATION owner;
CREATE SCHEMA globex AUTHORIZATION rival;
SELECT tq_attach('acme'), tq_attach('globex');
SET ROLE owner;
SET search_path = acme, public;
CREATE TABLE log (who text, what text);
CREATE FUNCTION work(what text) RETURNS text LANGUAGE sql AS $$ INSERT INTO log VALUES (session_user, what) RETURNING current_user::text $$;
SELECT tq_register('work');
GRANT USAGE ON SCHEMA acme TO app, reader, operator;
GRANT INSERT (handler, args) ON tq_task TO app;
GRANT SELECT ON tq_task, tq_result TO reader;
GRANT SELECT, DELETE ON tq_task TO operator;
SELECT tq_async('work', '["secret"]', name => 'done', id => '01900000-0000-7000-8000-000000000001');
SELECT tq_result('01900000-0000-7000-8000-000000000001', wait => '20 s');
SELECT tq_async('work', '["secret"]', name => 'waits', delay => '1 hour', id => '01900000-0000-7000-8000-000000000002');

-- Enqueuing is an EXECUTE: the function runs as the owner, with the enqueuer's data, and says who it was.
SET ROLE app;
SELECT tq_async('work', '["by app"]', id => '01900000-0000-7000-8000-000000000003');
SELECT count(*) FROM tq_async_many('[{"handler": "work", "args": ["by app, too"]}]');
SELECT work('directly');
SELECT tq_result('01900000-0000-7000-8000-000000000003');
\echo :SQLSTATE
SELECT * FROM tq_fetch('01900000-0000-7000-8000-000000000003');
SELECT * FROM tq_attempts('01900000-0000-7000-8000-000000000003');
SELECT * FROM tq_why('01900000-0000-7000-8000-000000000003');
SELECT tq_find('waits');
SELECT * FROM tq_tasks;
SELECT * FROM tq_results;
SELECT tq_cancel('01900000-0000-7000-8000-000000000002');
\echo :SQLSTATE
-- Forging columns by plain SQL is not among its rights.
INSERT INTO tq_task (handler, args, enqueued_by) VALUES ('work', '["forged"]', 'owner');
INSERT INTO tq_task (handler, args, by_superuser) VALUES ('work', '["forged"]', true);
INSERT INTO tq_task (handler, args) VALUES ('work', '["plain SQL"]') RETURNING id;
UPDATE tq_task SET handler = 'other';
DELETE FROM tq_task;
\copy tq_task (id, handler) FROM PROGRAM 'true'
-- A plain INSERT of the two columns is a task, found by the next look at all tenants.
INSERT INTO tq_task (handler, args) VALUES ('work', '["plain SQL"]');
SET ROLE owner;
SELECT tq_set_tenant(ready => true);
SELECT test.await('(SELECT count(*) = 4 FROM acme.log)');
SELECT * FROM log ORDER BY what;
SELECT enqueued_by, count(*) FROM tq_results GROUP BY enqueued_by ORDER BY enqueued_by;

-- Reading
SET ROLE reader;
SELECT tq_result('01900000-0000-7000-8000-000000000001'), (SELECT state FROM tq_fetch('01900000-0000-7000-8000-000000000002')), tq_find('waits');
SELECT count(*) FROM tq_tasks;
SELECT reason FROM tq_why('01900000-0000-7000-8000-000000000002');
SELECT tq_async('work', '["x"]');
\echo :SQLSTATE
SELECT tq_cancel('01900000-0000-7000-8000-000000000002');
\echo :SQLSTATE
SELECT * FROM tq_schedules;
\echo :SQLSTATE

-- Operating
SET ROLE operator;
SELECT tq_cancel('01900000-0000-7000-8000-000000000002');
SELECT tq_async('work', '["x"]');
\echo :SQLSTATE
SELECT tq_register('work'), tq_pause();
\echo :SQLSTATE

-- A rival sees nothing and can do nothing: an id of the other tenant is as good as one that nobody has.
SET ROLE rival;
SET search_path = globex, public;
SELECT tq_result('01900000-0000-7000-8000-000000000001');
\echo :SQLSTATE
SELECT tq_result('01900000-0000-7000-8000-00000000ffff');
\echo :SQLSTATE
SELECT count(*) FROM tq_fetch('01900000-0000-7000-8000-000000000001');
SELECT reason FROM tq_why('01900000-0000-7000-8000-000000000001');
SELECT tq_cancel('01900000-0000-7000-8000-000000000001'), tq_cancel('01900000-0000-7000-8000-00000000ffff');
SELECT tq_find('done');
SELECT tq_requeue('01900000-0000-7000-8000-000000000001'), tq_requeue('01900000-0000-7000-8000-00000000ffff');
SELECT tq_result('01900000-0000-7000-8000-000000000001', tenant => 'acme');
\echo :SQLSTATE
SELECT tq_async('work', tenant => 'acme');
SELECT tq_schedule('s', 'work', '@daily', tenant => 'acme');
SELECT tq_register('work', tenant => 'acme');
SELECT tq_set_tenant('acme', ready => false);
SELECT tq_pause('acme');
SELECT tq_detach('acme', drop_data => true);
SELECT tenant, owner FROM tq_tenants;
SELECT count(*) FROM tq_running;
SELECT count(*) FROM tq_handlers;
SELECT count(*) FROM tq_workers WHERE role = 'owner';
SELECT count(*) FROM tq_problems;
SELECT * FROM tenant_q.tenant;
SELECT * FROM tenant_q.handler;
SELECT * FROM tenant_q.pause;
SELECT * FROM tenant_q.tq_task;
SELECT tenant_q.created();
SELECT tenant_q.dropped();
-- Nor by a handler of its own that reaches for the neighbour's tables.
CREATE FUNCTION reach() RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT count(*) FROM acme.tq_task); END $$;
SELECT tq_register('reach');
SELECT tq_async('reach', max_attempts => 1, id => '01900000-0000-7000-8000-000000000004');
SELECT tq_result('01900000-0000-7000-8000-000000000004', wait => '20 s', propagate => false);
-- Or that tries to become somebody else: there is nobody to become.
CREATE FUNCTION escape(how text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN EXECUTE how; RETURN session_user || '/' || current_user; EXCEPTION WHEN insufficient_privilege THEN RETURN 'denied'; END $$;
SELECT tq_register('escape');
SELECT how, tq_async('escape', jsonb_build_array(how), max_attempts => 1) AS id INTO TEMP escapes FROM unnest('{RESET ROLE,SET ROLE NONE,SET SESSION AUTHORIZATION postgres,SET SESSION AUTHORIZATION DEFAULT,RESET SESSION AUTHORIZATION,SET LOCAL role = owner,"SELECT set_config(''role'', ''postgres'', false)",SET search_path = acme}'::text[]) how;
SELECT how, tq_result(id, wait => '20 s', propagate => false) FROM escapes;
-- And the next task is none the wiser.
CREATE FUNCTION look() RETURNS text LANGUAGE sql AS $$ SELECT session_user || '/' || current_user || ' in ' || current_setting('search_path') $$;
SELECT tq_register('look');
SELECT tq_async('look', id => '01900000-0000-7000-8000-000000000005');
SELECT tq_result('01900000-0000-7000-8000-000000000005', wait => '20 s');

-- pg_monitor sees all tenants and no data.
SET ROLE watcher;
SELECT tenant, owner FROM tq_tenants ORDER BY tenant;
SELECT count(*) FROM tq_workers WHERE kind = 'launcher';
SELECT count(*) FROM tq_tasks;
\echo :SQLSTATE

-- A function that another role puts in its place is not called.
RESET ROLE;
GRANT CREATE ON SCHEMA acme TO rival;
SET ROLE owner;
SET search_path = acme, public;
DROP FUNCTION work(text);
SET ROLE rival;
CREATE FUNCTION acme.work(what text) RETURNS text LANGUAGE sql AS $$ SELECT 'hijacked as ' || current_user $$;
CREATE FUNCTION acme.work(what jsonb) RETURNS text LANGUAGE sql AS $$ SELECT 'hijacked as ' || current_user $$;
SET ROLE owner;
SELECT tq_async('work', '["x"]', id => '01900000-0000-7000-8000-000000000006');
SELECT test.await('(SELECT state = ''held'' FROM tq_fetch(''01900000-0000-7000-8000-000000000006''))');
SELECT status, reason FROM tq_handlers;

-- Superusers: a schema that belongs to one.
RESET ROLE;
CREATE SCHEMA mine;
SELECT tq_attach('mine');
SET search_path = mine, public;
CREATE FUNCTION whoami() RETURNS text LANGUAGE sql AS $$ SELECT current_user::text $$;
SELECT tq_register('whoami');
SELECT tq_async('whoami', id => '01900000-0000-7000-8000-000000000007');
SELECT tq_result('01900000-0000-7000-8000-000000000007', wait => '20 s');
-- Nobody else may enqueue there, by whatever way.
GRANT USAGE ON SCHEMA mine TO app;
GRANT INSERT (handler, args) ON tq_task TO app;
SET ROLE app;
SELECT tq_async('whoami');
\echo :SQLSTATE
INSERT INTO tq_task (handler) VALUES ('whoami');
RESET ROLE;
SELECT tq_set_tenant(ready => true);
SELECT test.await('EXISTS (SELECT FROM tq_results WHERE error IS NOT NULL)');
SELECT state, attempt, error FROM tq_results WHERE error IS NOT NULL;
-- Or anywhere, where tenant_q.allow_superuser is off.
ALTER SYSTEM SET tenant_q.allow_superuser = off;
SELECT pg_reload_conf();
SELECT pg_sleep(0.5);
SHOW tenant_q.allow_superuser;
SELECT tq_async('whoami');
\echo :SQLSTATE
CREATE SCHEMA mine2;
SELECT tq_attach('mine2');
-- A superuser enqueues in anybody's tenant; it runs as that tenant.
SELECT tq_async('look', tenant => 'globex', id => '01900000-0000-7000-8000-000000000008');
SELECT tq_result('01900000-0000-7000-8000-000000000008', wait => '20 s', tenant => 'globex');
