-- Lines of tq_fanouts come to an end: who passes a fire time over is skipped, and the reason says why.
\i sql/setup.psql
SET client_min_messages = warning;
CREATE ROLE owner LOGIN;
SELECT format('CREATE SCHEMA %I AUTHORIZATION owner', n) FROM unnest('{a,b,c}'::text[]) n \gexec
SELECT count(tq_attach(n)) FROM unnest('{a,b,c}'::text[]) n;
CREATE FUNCTION public.note(what text) RETURNS text LANGUAGE sql AS 'SELECT what';
SELECT tq_register('note', 'public.note(text)', shared => true);
RESET client_min_messages;
CREATE FUNCTION test.set_up(name text) RETURNS boolean LANGUAGE sql AS $$ SELECT test.await(format('(SELECT count(*) = 3 FROM (SELECT name FROM a.tq_schedule UNION ALL SELECT name FROM b.tq_schedule UNION ALL SELECT name FROM c.tq_schedule) s WHERE s.name = %L)', name)) $$;
CREATE FUNCTION test.served(name text) RETURNS boolean LANGUAGE sql AS $$ SELECT test.await(format('(SELECT bool_and(outstanding = 0) FROM tq_fanouts WHERE name = %L)', name)) $$;
-- All of the lines, as far as the tenants tell.
CREATE VIEW test.lines AS SELECT f.name, f.fire_time, t.tenant, t.state, t.reason FROM tq_fanouts f, tq_fanout_tenants(id => f.id) t;

-- A tenant whose tables are held is late: a later fire time is served in the place of those before.
SELECT tq_schedule_all('once', 'note', '1 second', '["x"]') IS NOT NULL AS made;
SELECT test.set_up('once');
SELECT test.await('(SELECT count(*) >= 1 FROM tq_fanouts WHERE name = ''once'' AND done = 3)');
BEGIN;
LOCK TABLE b.tq_schedule IN ACCESS EXCLUSIVE MODE;
SELECT test.await('(SELECT count(*) >= 2 FROM tq_fanouts WHERE name = ''once'' AND outstanding = 1)');
COMMIT;
SELECT test.await('EXISTS (SELECT FROM test.lines WHERE name = ''once'' AND tenant = ''b'' AND state = ''skipped'')');
-- Removed: nobody is waited for any more.
BEGIN;
LOCK TABLE c.tq_schedule IN ACCESS EXCLUSIVE MODE;
SELECT test.await('EXISTS (SELECT FROM test.lines WHERE name = ''once'' AND tenant = ''c'' AND state = ''expected'')');
SELECT tq_unschedule_all('once');
COMMIT;
SELECT test.served('once');
SELECT DISTINCT tenant, state, reason FROM test.lines WHERE name = 'once' AND state = 'skipped' AND tenant = 'b';
SELECT count(*) FROM test.lines WHERE name = 'once' AND state IN ('expected', 'enqueued');

-- Fire times of the past, which b and c have yet to serve.
SELECT tq_schedule_all('none', 'note', '@daily', '["x"]', tz => 'UTC', catch_up => 'none') IS NOT NULL AS made,
       tq_schedule_all('deadline', 'note', '@daily', '["x"]', tz => 'UTC', deadline => '1 minute') IS NOT NULL AS made,
       tq_schedule_all('limit', 'note', '@daily', '["x"]', tz => 'UTC', catch_up => 'all', catch_up_limit => 2) IS NOT NULL AS made,
       tq_schedule_all('off', 'note', '@daily', '["x"]', tz => 'UTC') IS NOT NULL AS made,
       tq_schedule_all('changed', 'note', '@daily', '["x"]', tz => 'UTC') IS NOT NULL AS made,
       tq_schedule_all('narrowed', 'note', '@daily', '["x"]', tz => 'UTC') IS NOT NULL AS made,
       tq_schedule_all('edited', 'note', '@daily', '["x"]', tz => 'UTC') IS NOT NULL AS made;
SELECT bool_and(test.set_up(n)) FROM unnest('{none,deadline,limit,off,changed,narrowed,edited}'::text[]) n;
-- Lines as others have begun them: of yesterday and the days before.
INSERT INTO tenant_q.fanout (id, kind, name, fire_time, handler, created_by, by_superuser, created_at)
SELECT gen_random_uuid(), 'f', n, date_trunc('day', now(), 'UTC') - d * interval '1 day', 'note', 'postgres', true, now()
  FROM unnest('{none,deadline,limit,off,changed,narrowed,edited}'::text[]) n, generate_series(1, 3) d WHERE NOT (n = 'limit' AND d = 1);
INSERT INTO tenant_q.fanout_tenant (fanout, tenant, state) SELECT f.id, t, CASE t WHEN 'a' THEN 'd' ELSE 'o' END::"char" FROM tenant_q.fanout f, unnest('{a,b,c}'::text[]) t WHERE f.name <> 'once' AND f.kind = 'f';
SELECT name, sum(outstanding) FROM tq_fanouts WHERE name <> 'once' GROUP BY name ORDER BY name;
SELECT tq_set_quota('b', fan_out => false);
-- One that is late by days now.
UPDATE b.tq_schedule SET next_run = date_trunc('day', now(), 'UTC') - interval '3 days' WHERE name = 'off';
SELECT tq_set_tenant('b', ready => true);
SELECT test.await('NOT EXISTS (SELECT FROM test.lines WHERE name = ''off'' AND tenant = ''b'' AND state = ''expected'')');
SELECT tq_set_quota('b', fan_out => true);
UPDATE b.tq_schedule SET next_run = date_trunc('day', now(), 'UTC') - interval '3 days' WHERE name IN ('none', 'deadline', 'limit');
SELECT tq_set_tenant('b', ready => true);
SELECT test.await('NOT EXISTS (SELECT FROM test.lines WHERE name IN (''none'', ''deadline'', ''limit'') AND tenant = ''b'' AND state IN (''expected'', ''enqueued''))');
SELECT tq_schedule_all('changed', 'note', '@weekly', '["x"]', tz => 'UTC', on_conflict => 'replace') IS NOT NULL AS made,
       tq_schedule_all('narrowed', 'note', '@daily', '["x"]', tz => 'UTC', tenants => '{a,c}', on_conflict => 'replace') IS NOT NULL AS made;
SELECT test.await('NOT EXISTS (SELECT FROM test.lines WHERE name IN (''changed'', ''narrowed'') AND tenant = ''b'' AND state = ''expected'')');
SELECT name, state, reason, count(*), min(date_trunc('day', now(), 'UTC') - fire_time) AS from, max(date_trunc('day', now(), 'UTC') - fire_time) AS to
  FROM test.lines WHERE name <> 'once' AND tenant = 'b' AND fire_time < date_trunc('day', now(), 'UTC') GROUP BY 1, 2, 3 ORDER BY 1, 2, 3;

-- What an owner has done to the own rows is found by the next look at all tenants: here lines are older than a minute.
UPDATE tenant_q.fanout SET created_at = created_at - interval '2 minutes';
DELETE FROM b.tq_schedule WHERE name = 'edited';
UPDATE c.tq_schedule SET enabled = false, next_run = NULL WHERE name = 'edited';
SELECT tq_async_all('note', '["gone"]', tenants => '{a,b}', task => '{"name": "gone", "delay": "1 hour"}') IS NOT NULL AS made;
SELECT test.await('(SELECT spread FROM tq_fanouts WHERE name = ''gone'')');
DELETE FROM a.tq_task WHERE name = 'gone';
UPDATE tenant_q.fanout SET created_at = created_at - interval '2 minutes' WHERE name = 'gone';
SET client_min_messages = warning;
ALTER SYSTEM SET tenant_q.sweep_interval = 1;
SELECT pg_reload_conf();
SELECT test.await('NOT EXISTS (SELECT FROM test.lines WHERE name = ''edited'' AND state = ''expected'')');
SELECT test.await('EXISTS (SELECT FROM test.lines WHERE name = ''gone'' AND state = ''skipped'')');
ALTER SYSTEM RESET tenant_q.sweep_interval;
SELECT pg_reload_conf();
RESET client_min_messages;
SELECT DISTINCT name, tenant, state, reason FROM test.lines WHERE name IN ('edited', 'gone') ORDER BY 1, 2, 3;

-- As often as repeats says: a tenant that is through is expected no more.
SELECT tq_schedule_all('twice', 'note', '1 second', '["x"]', repeats => 2) IS NOT NULL AS made;
SELECT test.set_up('twice');
SELECT test.await('(SELECT count(*) >= 2 FROM tq_fanouts WHERE name = ''twice'')');
SELECT test.served('twice');
SELECT tenant, state, reason, count(*) FROM test.lines WHERE name = 'twice' GROUP BY 1, 2, 3 ORDER BY 1, 2, 3;
