-- What tq_problems says mends it: each fix is run as it stands, keeps what was said, and then the problem is gone.
\i sql/setup.psql
CREATE ROLE acme LOGIN;
CREATE ROLE worker LOGIN;
CREATE ROLE other LOGIN;
GRANT worker TO acme;
CREATE SCHEMA acme AUTHORIZATION acme;
SELECT tq_attach('acme');
SET search_path = acme, public;
CREATE FUNCTION f(a text) RETURNS text LANGUAGE sql AS $$ SELECT a $$;
CREATE FUNCTION g(a text) RETURNS text LANGUAGE sql AS $$ SELECT a $$;
CREATE FUNCTION heard(e jsonb) RETURNS void LANGUAGE sql AS '';
ALTER FUNCTION f(text) OWNER TO acme;
ALTER FUNCTION g(text) OWNER TO acme;
ALTER FUNCTION heard(jsonb) OWNER TO acme;
CREATE TABLE orders (id int);
ALTER TABLE orders OWNER TO acme;
GRANT USAGE ON SCHEMA acme TO worker;
SELECT tq_register('f', queue => 'mail', priority => -3, timeout => '1 day 2 hours', max_attempts => 7, retry => tq_backoff('celery', '3 seconds', cap => '1 hour', never_on => '{22023}'),
    expires => '1 month 36 hours', max_running => 4, rate => '10/2m', run_as => 'worker', settings => '{"work_mem": "8MB"}', save => false, result_ttl => '90 minutes', aliases => '{"f, too",ef}');
SELECT tq_register('heard');
-- All that is said of a handler.
CREATE VIEW said AS SELECT to_jsonb(h) - '{identity,function,owner,missing_since,registered_at,registered_by,run_as}'::text[] AS said FROM tenant_q.handler h WHERE name = 'f';
CREATE TABLE before AS SELECT said FROM said;
SELECT jsonb_pretty(said) FROM before;

-- Its function belongs to somebody else.
ALTER FUNCTION f(text) OWNER TO other;
SELECT what, reason, fix FROM tq_problems;
SELECT fix FROM tq_problems \gexec
SELECT what, reason, fix FROM tq_problems;
SELECT said = (SELECT said FROM before) AS kept FROM said;
-- Another one of its name has taken its place.
DROP FUNCTION f(text);
CREATE FUNCTION f(a text, b int DEFAULT 1) RETURNS text LANGUAGE sql AS $$ SELECT a $$;
SELECT what, reason, fix FROM tq_problems;
SELECT fix FROM tq_problems \gexec
SELECT what, reason, fix FROM tq_problems;
SELECT said = (SELECT said FROM before) AS kept, (SELECT identity FROM tenant_q.handler WHERE name = 'f') FROM said;
-- None has: a comment says so.
DROP FUNCTION f(text, int);
SELECT what, reason, fix FROM tq_problems;
SELECT fix FROM tq_problems \gexec
CREATE FUNCTION f(a text, b int DEFAULT 1) RETURNS text LANGUAGE sql AS $$ SELECT a $$;
SELECT what, reason, fix FROM tq_problems;
-- A setting that no task may have, as 0.1.0 took it.
UPDATE tenant_q.handler SET settings = settings || '{"client_encoding": "LATIN1"}' WHERE name = 'f';
UPDATE tenant_q.tenant SET settings = '{"client_encoding": "LATIN1", "work_mem": "9MB"}';
SELECT tq_set_tenant(save_limit => 100);
SELECT what, reason, fix FROM tq_problems;
SELECT fix FROM tq_problems \gexec
SELECT what, reason, fix FROM tq_problems;
SELECT said = (SELECT said FROM before) AS kept, (SELECT settings FROM tenant_q.tenant) FROM said;
-- It may not be run as its role any more; there is no such role any more.
REVOKE worker FROM acme;
SELECT what, reason, fix FROM tq_problems;
SELECT fix FROM tq_problems \gexec
SELECT what, reason, fix FROM tq_problems;
REVOKE USAGE ON SCHEMA acme FROM worker;
DROP ROLE worker;
SELECT what, reason, fix FROM tq_problems;
SELECT fix FROM tq_problems \gexec
SELECT what, reason, fix FROM tq_problems;
-- Roles with another name are the same roles.
ALTER FUNCTION f(text, int) OWNER TO other;
SELECT fix FROM tq_problems \gexec
ALTER ROLE other RENAME TO different;
ALTER ROLE worker RENAME TO "Worker";
SELECT what, reason, fix FROM tq_problems;
SELECT run_as, status FROM tq_handlers WHERE handler = 'f';
-- And others with their names are not.
CREATE ROLE other;
ALTER FUNCTION f(text, int) OWNER TO other;
SELECT what, reason, fix FROM tq_problems;
SELECT fix FROM tq_problems \gexec
SELECT what, reason, fix FROM tq_problems;
SELECT said = (SELECT said FROM before) AS kept, (SELECT run_as FROM tenant_q.handler WHERE name = 'f') FROM said;

-- Not ready; its owner may not log in or connect.
SELECT tq_set_tenant(ready => false);
SELECT what, reason, fix FROM tq_problems;
SELECT fix FROM tq_problems \gexec
REVOKE CONNECT ON DATABASE mend FROM PUBLIC;
SELECT what, reason, fix FROM tq_problems WHERE what NOT LIKE 'role %';
SELECT fix FROM tq_problems WHERE what NOT LIKE 'role %' \gexec
SELECT what, reason, fix FROM tq_problems WHERE what NOT LIKE 'role %';
GRANT CONNECT ON DATABASE mend TO PUBLIC;
-- Executors of other roles that were to start meanwhile have failed to: they are tried again within seconds.
SELECT test.await('NOT EXISTS (SELECT FROM tq_problems)');
-- From PostgreSQL 17 on that is no problem.
ALTER ROLE acme NOLOGIN;
\set ECHO none
SELECT fix FROM tq_problems \gexec
\set ECHO all
SELECT what, reason, fix FROM tq_problems;
ALTER ROLE acme LOGIN;

-- More unfinished than it may have.
SELECT tq_register('g');
SELECT tq_pause();
SELECT count(tq_async('g', '["x"]')) FROM generate_series(1, 5);
SELECT tq_set_quota('acme', max_queued => 2);
SELECT what, fix FROM tq_problems WHERE reason NOT LIKE '%is paused%';
SELECT fix FROM tq_problems WHERE reason NOT LIKE '%is paused%' \gexec
SELECT what, fix FROM tq_problems WHERE reason NOT LIKE '%is paused%';
SELECT count(tq_cancel(id)) FROM tq_tasks;
SELECT tq_resume();

-- A handler that listens stays, and so do those who write the table. The hint leads out.
SELECT tq_on('failed', 'heard') IS NOT NULL AS listens;
SELECT tq_listen_table('orders', 'heard');
SELECT test.said($$tq_unregister('heard')$$);
INSERT INTO orders VALUES (1);
SELECT test.said($$tq_register('heard', 'g(text)')$$), test.said($$tq_register('heard', 'heard(jsonb)', queue => 'mail')$$);
SELECT test.await('NOT EXISTS (SELECT FROM tq_tasks)');
-- One that isn't registered, as in a registry that was restored in part.
DELETE FROM tenant_q.handler WHERE name = 'heard';
SELECT what, reason, fix FROM tq_problems;
SELECT fix FROM tq_problems \gexec
SELECT what, reason, fix FROM tq_problems;
INSERT INTO orders VALUES (1);
SELECT tq_register('heard', shared => true, function => 'acme.heard(jsonb)');
SELECT tq_on('done', 'heard') IS NOT NULL AS listens;
SELECT test.said($$tq_unregister('heard', shared => true)$$);
SELECT tq_off('done', 'heard'), tq_unregister('heard', shared => true);

-- Tasks of a handler that nobody has registered.
SELECT tq_pause();
SELECT tq_async('g', '["held"]') AS id \gset
SELECT tq_unregister('g');
SELECT tq_resume();
SELECT test.await('EXISTS (SELECT FROM tq_problems)');
SELECT what, reason, fix FROM tq_problems;
SELECT fix FROM tq_problems \gexec
SELECT tq_result(:'id', wait => '20 s');
SELECT what, reason, fix FROM tq_problems;

-- Schedules that can't be served.
SELECT tq_schedule('nightly', 'g', '0 3 * * *', '["x"]') IS NOT NULL AS made;
UPDATE tq_schedule SET tz = 'Nowhere/Land' WHERE name = 'nightly';
SELECT what, reason, fix FROM tq_problems;
-- Whoever watches all tenants sees them, too, and no stranger does.
CREATE ROLE watcher IN ROLE pg_monitor;
SET ROLE watcher;
SELECT what, reason, fix FROM tq_problems;
SET ROLE different;
SELECT what, reason, fix FROM tq_problems;
RESET ROLE;
SELECT fix FROM tq_problems \gexec
SELECT what, reason, fix FROM tq_problems;
UPDATE tenant_q.tenant SET timezone = 'Nowhere/Land';
SELECT tq_set_tenant(save_limit => 200);
SELECT what, reason, fix FROM tq_problems;
SELECT fix FROM tq_problems \gexec
SELECT what, reason, fix FROM tq_problems;
UPDATE tq_schedule SET rule = E'often\nDROP TABLE orders;' WHERE name = 'nightly';
SELECT what, reason, fix FROM tq_problems;
SELECT fix FROM tq_problems \gexec
SELECT tq_unschedule('nightly');

-- What others have done to its tables.
CREATE INDEX odd ON tq_task (lower(handler));
SELECT what, reason, fix FROM tq_problems;
SELECT fix FROM tq_problems \gexec
SELECT what, reason, fix FROM tq_problems;
ALTER TABLE tq_task ALTER name TYPE varchar;
SELECT fix FROM tq_problems \gexec
SELECT what, reason, fix FROM tq_problems;
CREATE TABLE refers (id uuid REFERENCES tq_task (id));
SELECT what, reason, fix FROM tq_problems;
SELECT fix FROM tq_problems \gexec
SELECT what, reason, fix FROM tq_problems;
ALTER TABLE tq_result DROP COLUMN meta;
SELECT what, reason, fix FROM tq_problems;
SELECT fix FROM tq_problems \gexec
SELECT what, reason, fix FROM tq_problems;
DROP TABLE tq_result;
SELECT what, reason, fix FROM tq_problems;
SELECT fix FROM tq_problems \gexec
SELECT what, reason, fix FROM tq_problems;
SELECT said = (SELECT said FROM before) AS kept FROM said;

-- A schedule of all tenants that one has of its own.
SELECT tq_schedule('all', 'f', '0 3 * * *', '["x"]') IS NOT NULL AS made;
SELECT tq_schedule_all('all', 'f', '0 4 * * *', args => '["x"]') IS NOT NULL AS made;
SELECT test.await('EXISTS (SELECT FROM tq_problems)');
SELECT what, reason, fix FROM tq_problems;
SELECT fix FROM tq_problems \gexec
SELECT test.await('NOT EXISTS (SELECT FROM tq_problems)');
SELECT rule FROM tq_schedules;

-- A schedule of all tenants that can't be served in one of them.
SELECT tq_schedule_all('zoned', 'f', '0 4 * * *', args => '["x"]') IS NOT NULL AS made;
SELECT test.await('EXISTS (SELECT FROM tq_schedules WHERE name = ''zoned'')');
UPDATE tenant_q.tenant SET timezone = 'Nowhere/Land' WHERE name = 'acme';
SELECT tq_set_tenant(save_limit => 201);
UPDATE tq_schedule SET next_run = now() WHERE name = 'zoned';
SELECT tq_set_tenant(save_limit => 202);
SELECT test.await('EXISTS (SELECT FROM tq_schedule WHERE name = ''zoned'' AND problem IS NOT NULL)');
SELECT what, reason, fix FROM tq_problems WHERE what LIKE '%zoned%';
SELECT fix FROM tq_problems WHERE what LIKE '%zoned%' \gexec
SELECT test.await('NOT EXISTS (SELECT FROM tq_problems)');
SELECT next_run > now() AS planned, problem FROM tq_schedules WHERE name = 'zoned';
UPDATE tq_schedule SET overlap = 'often' WHERE name = 'zoned';
SELECT what, reason, fix FROM tq_problems WHERE what LIKE '%zoned%';
UPDATE tq_schedule SET next_run = now() WHERE name = 'zoned';
SELECT tq_set_tenant(save_limit => 203);
SELECT test.await('EXISTS (SELECT FROM tq_schedule WHERE name = ''zoned'' AND problem IS NOT NULL)');
SELECT fix FROM tq_problems WHERE what LIKE '%zoned%' \gexec
SELECT test.await('NOT EXISTS (SELECT FROM tq_problems)');
SELECT next_run > now() AS planned, problem FROM tq_schedules WHERE name = 'zoned';

-- More than are listed one by one: what is done about all of them.
SELECT tq_pause(), tq_set_quota('acme', reset => '{max_queued}');
SELECT count(tq_async('f', '["x"]')) FROM generate_series(1, 1003);
UPDATE tq_task SET state = 'x', crashes = 3;
INSERT INTO tq_result (id, handler, args, state, attempts, crashes, priority, created_at, run_at, finished_at) SELECT id, handler, args, 'x', 1, 3, 0, created_at, run_at, now() FROM tq_task WHERE state = 'x';
SELECT count(*), count(fix) FROM tq_problems WHERE reason LIKE 'quarantined: %';
SELECT what, reason, fix FROM tq_problems WHERE what LIKE '% more %';
SELECT replace(fix, '* FROM', 'count(*) FROM') FROM tq_problems WHERE what LIKE '% more tasks %' \gexec
SELECT count(*) FROM tq_problems WHERE reason LIKE 'quarantined%';
SELECT count(*) FROM tq_cancel_all(handler => 'f');
INSERT INTO tq_schedule SELECT s.* FROM tq_schedule d, generate_series(1, 1002) n, jsonb_populate_record(d, jsonb_build_object('id', gen_random_uuid(), 'name', 'n' || n, 'rule', 'often', 'options', NULL)) s WHERE d.name = 'zoned';
SELECT count(*), count(fix) FROM tq_problems WHERE what LIKE 'schedule n%';
SELECT what, reason, fix FROM tq_problems WHERE what LIKE '% more %';
DELETE FROM tq_schedule WHERE name ~ '^n\d';
SELECT count(*) FROM tq_problems;
SELECT tq_resume();

-- A schema that is gone without its event trigger.
ALTER EVENT TRIGGER tenant_q_dropped DISABLE;
DROP SCHEMA acme CASCADE;
ALTER EVENT TRIGGER tenant_q_dropped ENABLE;
SELECT what, reason, fix FROM tq_problems;
SELECT fix FROM tq_problems \gexec
SELECT what, reason, fix FROM tq_problems;
