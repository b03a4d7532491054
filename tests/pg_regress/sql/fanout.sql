-- Work for all tenants: tq_async_all, tq_schedule_all, and what became of it in each.
\i sql/setup.psql
CREATE ROLE owner LOGIN;
CREATE ROLE app LOGIN;
CREATE ROLE monitor IN ROLE pg_monitor;
CREATE ROLE administrator;
SET client_min_messages = warning;
SELECT format('CREATE SCHEMA %I AUTHORIZATION owner', n) FROM unnest('{alpha,beta,"Gämma ''1",delta,epsilon,zeta}'::text[]) n \gexec
SET client_min_messages = error; -- before PostgreSQL 17 the tasks of public's owner can't run
SELECT count(tq_attach(n)) FROM unnest('{alpha,beta,"Gämma ''1",delta,epsilon,zeta,public}'::text[]) n;
RESET client_min_messages;
CREATE TABLE public.log (tenant text, what text, at timestamptz);
GRANT INSERT, SELECT ON public.log TO PUBLIC;
CREATE FUNCTION public.note(what text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.log VALUES (current_schema(), what, (tq_current()).scheduled_for);
    IF current_schema() = 'delta' AND what LIKE 'fail%' AND NOT EXISTS (SELECT FROM public.log WHERE log.what = 'mended') THEN
        PERFORM tq_fail('delta can''t');
    END IF;
    RETURN what;
END $$;
SELECT tq_register('note', 'public.note(text)', shared => true);
CREATE FUNCTION beta.own(n int) RETURNS int LANGUAGE sql AS 'SELECT n';
SELECT tq_register('own', 'own(int)', tenant => 'beta');

-- Nobody's by default
SET ROLE owner;
SELECT tq_async_all('note', '["x"]');
SELECT tq_schedule_all('x', 'note', '@daily', '["x"]');
SELECT tq_unschedule_all('x');
RESET ROLE;
-- What makes no sense is refused now
SELECT tq_async_all(NULL);
SELECT tq_async_all('note', tenants => '{}');
SELECT tq_async_all('note', tenants => '{alpha,nowhere}');
SELECT tq_async_all('note', stagger => '-1 s');
SELECT tq_async_all('note', task => '{"prioritty": 1}');
SELECT tq_async_all('note', task => '{"id": "0198c0de-0000-7000-8000-000000000001"}');
SELECT tq_async_all('note', task => '{"priority": 100000}');
SELECT count(*) FROM tenant_q.fanout;
-- A rollback leaves nothing
BEGIN;
SELECT tq_async_all('note', '["rolled back"]') IS NOT NULL;
ROLLBACK;

-- One task in every tenant, never in public
GRANT EXECUTE ON FUNCTION tq_async_all TO administrator;
SET ROLE administrator;
SELECT tq_async_all('note', '["one"]', task => '{"name": "one", "priority": 3, "meta": {"a": 1}}') AS one \gset
RESET ROLE;
SELECT test.await('(SELECT spread AND outstanding = 0 FROM tq_fanouts WHERE name = ''one'')');
SELECT name, handler, tenants, done, failed, outstanding, skipped, spread, finished_at IS NOT NULL AS finished, created_by FROM tq_fanouts;
SELECT tenant, state, reason, task IS NOT NULL AS task, finished_at IS NOT NULL AS finished FROM tq_fanout_tenants('one');
SELECT tenant, count(*) FROM log WHERE what = 'one' GROUP BY 1 ORDER BY 1;
SELECT r.name, r.priority, r.meta, r.enqueued_by, r.by_superuser, r.id = f.task AS same, substr(r.id::text, 15, 1) AS version, left(r.id::text, 13) = left(:'one', 13) AS in_its_time
  FROM alpha.tq_result r, tq_fanout_tenants(id => :'one') f WHERE f.tenant = 'alpha';
SELECT count(DISTINCT task) FROM tq_fanout_tenants(id => :'one');
-- Exactly these
SELECT tq_async_all('note', '["some"]', tenants => '{beta,alpha,beta}', task => '{"name": "some"}') IS NOT NULL;
SELECT test.await('(SELECT spread AND outstanding = 0 FROM tq_fanouts WHERE name = ''some'')');
SELECT tenant, state FROM tq_fanout_tenants('some');
-- Left out: not ready, paused, by an administrator, broken, without the handler
SELECT tq_set_tenant('alpha', ready => false), tq_set_quota('beta', fan_out => false), tq_pause('Gämma ''1');
ALTER TABLE delta.tq_task ADD COLUMN more int NOT NULL DEFAULT 0;
SELECT tq_async_all('note', '["two"]', task => '{"name": "two"}') IS NOT NULL;
SELECT test.await('(SELECT spread AND outstanding = 0 FROM tq_fanouts WHERE name = ''two'')');
SELECT tenants, done, failed, outstanding, skipped FROM tq_fanouts WHERE name = 'two';
SELECT tenant, state, reason FROM tq_fanout_tenants('two');
ALTER TABLE delta.tq_task DROP COLUMN more;
SELECT tq_detach('delta', drop_data => true);
DROP SCHEMA delta;
CREATE SCHEMA delta AUTHORIZATION owner;
SELECT tq_attach('delta');
SELECT tq_set_tenant('alpha', ready => true), tq_set_quota('beta', fan_out => true), tq_resume('Gämma ''1');
SELECT tq_async_all('own', '[1]') IS NOT NULL, tq_async_all('note', '{"wat": 1}', tenants => '{alpha}', task => '{"name": "misfit"}') IS NOT NULL;
SELECT test.await('(SELECT bool_and(spread AND outstanding = 0) FROM tq_fanouts)');
SELECT tenant, state, reason FROM tq_fanout_tenants('own');
SELECT tenant, state, reason FROM tq_fanout_tenants('misfit');
SELECT tq_async_all('nowhere at all');
-- A tenant whose tables somebody holds is waited for; the others go on.
BEGIN;
LOCK TABLE zeta.tq_task;
\setenv PGDATABASE :DBNAME
\! psql -XAtqc "SELECT tq_async_all('note', '[\"locked\"]', task => '{\"name\": \"locked\"}') IS NOT NULL" -c "SELECT test.await('(SELECT done = 5 FROM tq_fanouts WHERE name = ''locked'')')" -c "SELECT tenants, done, outstanding, skipped, spread FROM tq_fanouts WHERE name = 'locked'" -c "SELECT tenant, state FROM tq_fanout_tenants('locked') WHERE state NOT IN ('done', 'skipped')"
COMMIT;
SELECT test.await('(SELECT spread AND outstanding = 0 FROM tq_fanouts WHERE name = ''locked'')');
SELECT tenants, done, outstanding, skipped FROM tq_fanouts WHERE name = 'locked';
-- How it ends: failed, run again, cancelled, expired, kept by nobody
SELECT tq_async_all('note', '["fail"]', task => '{"name": "fail"}') AS id \gset
SELECT test.await('(SELECT spread AND outstanding = 0 FROM tq_fanouts WHERE name = ''fail'')');
SELECT done, failed, outstanding FROM tq_fanouts WHERE name = 'fail';
SELECT tenant, state, reason FROM tq_fanout_tenants('fail') WHERE state = 'failed';
INSERT INTO log VALUES (NULL, 'mended');
SELECT tq_requeue(task, tenant => 'delta') FROM tq_fanout_tenants('fail') WHERE state = 'failed';
SELECT test.await('(SELECT outstanding = 0 AND failed = 0 FROM tq_fanouts WHERE name = ''fail'')');
SELECT tenant, state, reason FROM tq_fanout_tenants('fail') WHERE tenant = 'delta';
SELECT tq_async_all('note', '["later"]', task => '{"name": "later", "delay": "1 hour"}') IS NOT NULL, tq_async_all('note', '["unsaved"]', task => '{"name": "unsaved", "save": false}') IS NOT NULL;
SELECT test.await('(SELECT bool_and(spread) FROM tq_fanouts WHERE name IN (''later'', ''unsaved''))');
SELECT tq_cancel(task, tenant => tenant) FROM tq_fanout_tenants('later') WHERE tenant = 'alpha';
UPDATE beta.tq_task SET expires_at = now(), run_at = now() WHERE name = 'later';
SELECT tq_pause('beta'), tq_resume('beta');
SELECT test.await('(SELECT failed = 2 FROM tq_fanouts WHERE name = ''later'')');
SELECT tenant, state, reason FROM tq_fanout_tenants('later');
SELECT test.await('(SELECT outstanding = 0 FROM tq_fanouts WHERE name = ''unsaved'')');
SELECT done FROM tq_fanouts WHERE name = 'unsaved';
-- Stagger: within the interval, each tenant always at its place
SELECT tq_async_all('note', '["far"]', stagger => '1 hour', task => '{"name": "far 1", "delay": "1 day"}') IS NOT NULL, tq_async_all('note', '["far"]', stagger => '1 hour', task => '{"name": "far 2", "delay": "1 day"}') IS NOT NULL;
SELECT test.await('(SELECT bool_and(spread) FROM tq_fanouts WHERE name LIKE ''far%'')');
SELECT count(*), bool_and(later >= '1 day' AND later < '25 hours') AS within, count(DISTINCT date_trunc('second', later)) AS places
  FROM (SELECT t.name, t.run_at - f.fire_time AS later FROM tq_fanouts f JOIN (SELECT * FROM alpha.tq_task UNION ALL SELECT * FROM beta.tq_task UNION ALL SELECT * FROM epsilon.tq_task) t ON t.name = f.name AND f.name LIKE 'far%') x;
-- A tenant that goes is not waited for; one with another name is the same.
ALTER SCHEMA epsilon RENAME TO eta;
SELECT tq_detach('alpha');
DROP SCHEMA zeta CASCADE;
SELECT tenant, state, reason FROM tq_fanout_tenants('far 1');
SELECT tq_attach('alpha', adopt => true);
CREATE SCHEMA zeta AUTHORIZATION owner;
SELECT tq_attach('zeta');
-- Who sees what
SELECT * FROM tq_fanout_tenants('never');
\echo :SQLSTATE
SET ROLE app;
SELECT count(*) FROM tq_fanouts;
SET ROLE monitor;
SELECT count(*) > 5 FROM tq_fanouts;
RESET ROLE;
CREATE SCHEMA secret AUTHORIZATION app;
SELECT tq_attach('secret');
SET ROLE app;
SELECT count(*) FROM tq_fanouts;
RESET ROLE;
SELECT tq_async_all('note', '["seen"]', task => '{"name": "seen"}') IS NOT NULL;
SELECT test.await('(SELECT spread AND outstanding = 0 FROM tq_fanouts WHERE name = ''seen'')');
SET ROLE app;
SELECT name, tenants, done FROM tq_fanouts;
SELECT tenant, state FROM tq_fanout_tenants('seen');
-- What a tenant writes into its own rows changes nothing of the others.
INSERT INTO secret.tq_task (id, handler, args, options) SELECT f.task, 'note', '["forged"]', jsonb_build_object('fanout', :'id') FROM tq_fanout_tenants('seen') f;
SELECT tq_pause('secret'), tq_resume('secret');
RESET ROLE;
SELECT test.await('(SELECT NOT EXISTS (SELECT FROM secret.tq_task WHERE attempts = 0))');
SELECT state, count(*) FROM tq_fanout_tenants(id => :'id') GROUP BY 1 ORDER BY 1;
DROP SCHEMA secret CASCADE;

-- A schedule of all tenants
SELECT tq_schedule_all('', 'note', '@daily');
SELECT tq_schedule_all('x', 'note', '1,,2 * * * *');
SELECT tq_schedule_all('x', 'note', '@daily', tz => 'Nowhere');
SELECT tq_schedule_all('x', 'note', '@daily', tenants => '{nowhere}');
SELECT tq_schedule_all('x', 'note', '@daily', stagger => '-1 s');
SELECT tq_schedule_all('x', 'note', '@daily', on_conflict => 'perhaps');
SELECT tq_schedule_all('x', 'note', '@daily', task => '{"handler": "y"}');
SELECT tq_schedule('tick', 'note', '@yearly', '["own"]', tenant => 'beta') IS NOT NULL;
SELECT tq_set_quota('delta', fan_out => false);
SELECT tq_schedule_all('tick', 'note', '1 second', '["tick"]', description => 'all of them') AS tick \gset
SELECT test.await('(SELECT count(*) >= 2 FROM tq_fanouts WHERE name = ''tick'' AND outstanding = 0 AND done = 4)');
SELECT tenant, state, reason FROM tq_fanout_tenants('tick', (SELECT min(fire_time) FROM tq_fanouts WHERE name = 'tick'));
SELECT what, reason, fix FROM tq_problems WHERE what LIKE 'schedule%';
SELECT count(*) = count(DISTINCT (tenant, at)), count(DISTINCT tenant) FROM log WHERE what = 'tick';
SET search_path = alpha, public;
SELECT name, handler, rule, args, description, created_by, of_all FROM tq_schedules;
SET search_path = beta, public;
SELECT name, rule, of_all FROM tq_schedules;
RESET search_path;
-- Not the tenant's to change; its own stood in the way.
SELECT tq_unschedule('tick', tenant => 'alpha');
SELECT tq_schedule('tick', 'note', '@daily', '["x"]', on_conflict => 'replace', tenant => 'alpha');
SELECT tq_unschedule('tick', tenant => 'beta');
SELECT test.await('(SELECT count(*) = 0 FROM tq_problems WHERE what LIKE ''schedule%'')');
-- Tenants to come
CREATE SCHEMA theta AUTHORIZATION owner;
SELECT tq_attach('theta');
SELECT test.await('(SELECT count(*) >= 1 FROM tq_fanouts WHERE name = ''tick'' AND outstanding = 0 AND done = 6)');
-- In place: the same schedule, its state kept
SELECT tq_schedule_all('tick', 'note', '@yearly', '["tick"]');
SELECT tq_schedule_all('tick', 'note', '@yearly', '["tick"]', on_conflict => 'nothing') = :'tick';
SELECT tq_schedule_all('tick', 'note', '@yearly', '["tick"]', tenants => '{alpha,theta}', on_conflict => 'replace') = :'tick';
SELECT test.await('(SELECT spread_again IS NULL FROM tenant_q.fanout WHERE kind = ''d'')');
SELECT rule, run_count > 1 AS counted, last_run IS NOT NULL AS ran FROM alpha.tq_schedule;
SELECT count(*) FROM beta.tq_schedule;
-- A tenant's row that says what isn't so makes no line
UPDATE alpha.tq_schedule SET rule = '1 second', next_run = now(), args = '["forged fire time"]';
SELECT tq_pause('alpha'), tq_resume('alpha');
SELECT test.await('(SELECT count(*) >= 2 FROM log WHERE what = ''forged fire time'')');
SELECT count(*) FROM tq_fanouts f WHERE name = 'tick' AND fire_time IN (SELECT at FROM log WHERE what = 'forged fire time');
-- Gone everywhere
SELECT tq_unschedule_all('tick'), tq_unschedule_all('never');
SELECT test.await('(SELECT NOT EXISTS (SELECT FROM tenant_q.fanout WHERE kind = ''d''))');
SELECT (SELECT count(*) FROM alpha.tq_schedule), (SELECT count(*) FROM theta.tq_schedule);
SELECT tq_unschedule_all('tick');
-- Old lines go
ALTER SYSTEM SET tenant_q.fanout_keep = 1;
SELECT pg_reload_conf();
-- The scheduler may hear of the setting a little later.
DO $$ BEGIN
    FOR n IN 1 .. 100 LOOP
        PERFORM tq_async_all('note', '["seen"]', task => '{"name": "seen"}');
        COMMIT;
        PERFORM test.await('(SELECT bool_and(spread) FROM tq_fanouts WHERE name = ''seen'')');
        EXIT WHEN (SELECT count(*) = 1 FROM tq_fanouts WHERE name = 'seen');
    END LOOP;
END $$;
SELECT count(*) FROM tq_fanouts WHERE name = 'seen';
SELECT count(*) FROM tenant_q.fanout_tenant o WHERE NOT EXISTS (SELECT FROM tenant_q.fanout f WHERE f.id = o.fanout) AND o.task IS NOT NULL;
