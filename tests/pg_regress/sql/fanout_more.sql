-- Work for all tenants while tenants come, go and change their names; schedules of all tenants after one another.
\i sql/setup.psql
SET client_min_messages = warning;
CREATE ROLE owner LOGIN;
SELECT format('CREATE SCHEMA %I AUTHORIZATION owner', n) FROM unnest('{alpha,beta,gamma,delta}'::text[]) n \gexec
SELECT count(tq_attach(n)) FROM unnest('{alpha,beta,gamma,delta}'::text[]) n;
CREATE TABLE public.log (tenant text, what text, at timestamptz);
GRANT INSERT, SELECT ON public.log TO PUBLIC;
CREATE FUNCTION public.note(what text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.log VALUES (current_schema(), what, (public.tq_current()).scheduled_for);
    IF current_schema() = 'gamma' AND what = 'fails in gamma' THEN
        PERFORM public.tq_fail('no');
    END IF;
END $$;
SELECT tq_register('note', 'public.note(text)', shared => true);
\setenv PGDATABASE :DBNAME
RESET client_min_messages;

-- A task that its unique_key keeps from being enqueued is nobody's to wait for.
SELECT tq_async('note', '["before"]', unique_key => 'k', delay => '1 hour', tenant => 'beta') IS NOT NULL;
SELECT tq_async_all('note', '["unique"]', task => '{"name": "unique", "unique_key": "k", "on_conflict": "skip"}') IS NOT NULL;
SELECT test.await('(SELECT spread AND outstanding = 0 FROM tq_fanouts WHERE name = ''unique'')');
SELECT tenant, state, reason FROM tq_fanout_tenants('unique');
SELECT tq_async_all('note', '["replaced"]', task => '{"name": "replaced", "unique_key": "k", "on_conflict": "replace"}') IS NOT NULL;
SELECT test.await('(SELECT spread AND outstanding = 0 FROM tq_fanouts WHERE name = ''replaced'')');
SELECT tenant, state, reason FROM tq_fanout_tenants('replaced');

-- A tenant that is just being renamed stops nobody else's schedules, though lines of its are to be pruned.
ALTER SYSTEM SET tenant_q.fanout_keep = 2;
SELECT pg_reload_conf();
SELECT tq_schedule_all('tick', 'note', '1 second', '["tick"]') IS NOT NULL;
SELECT test.await('(SELECT count(*) = 2 FROM tq_fanouts WHERE name = ''tick'' AND done = 4)');
BEGIN;
ALTER SCHEMA alpha RENAME TO alef;
\! psql -XAtqc "SELECT test.await(format('(SELECT count(*) > %s FROM log WHERE what = ''tick'' AND tenant = ''beta'')', (SELECT count(*) + 4 FROM log WHERE what = 'tick' AND tenant = 'beta')))" -c "SELECT tq_async_all('note', '[\"renamed\"]', task => '{\"name\": \"renamed\"}') IS NOT NULL" -c "SELECT test.await('(SELECT done = 3 FROM tq_fanouts WHERE name = ''renamed'')')" -c "SELECT tenant, state FROM tq_fanout_tenants('renamed')"
COMMIT;
SELECT test.await('(SELECT spread AND outstanding = 0 FROM tq_fanouts WHERE name = ''renamed'')');
SELECT tenant, state FROM tq_fanout_tenants('renamed');
SELECT tenant, count(*) FROM log WHERE what = 'renamed' GROUP BY 1 ORDER BY 1;
SELECT test.await(format('(SELECT count(*) > 1 FROM tq_fanouts WHERE name = ''tick'' AND outstanding = 0 AND done = 4 AND fire_time > %L)', now()));
SELECT count(*) FROM tq_fanout_tenants('tick') WHERE tenant = 'alpha';
-- One that goes while it is expected
SELECT tq_async_all('note', '["goes"]', task => '{"name": "goes", "delay": "1 hour"}') IS NOT NULL;
SELECT test.await('(SELECT spread FROM tq_fanouts WHERE name = ''goes'')');
INSERT INTO tenant_q.fanout_tenant SELECT id, 'nobody', 'q' FROM tq_fanouts WHERE name = 'goes';
SELECT tenants, outstanding, skipped FROM tq_fanouts WHERE name = 'goes';
SELECT tenant, state, reason FROM tq_fanout_tenants('goes') WHERE state = 'skipped';

-- Making up for a long time writes no line that nobody would see.
SELECT tq_schedule_all('tick', 'note', '1 second', '["tick"]', catch_up => 'all', on_conflict => 'replace') IS NOT NULL;
SELECT test.await('(SELECT count(*) = 4 FROM (SELECT FROM alef.tq_schedule WHERE catch_up = ''all'' UNION ALL SELECT FROM beta.tq_schedule WHERE catch_up = ''all'' UNION ALL SELECT FROM gamma.tq_schedule WHERE catch_up = ''all'' UNION ALL SELECT FROM delta.tq_schedule WHERE catch_up = ''all'') x)');
UPDATE tenant_q.schedule_all SET anchor = anchor - interval '1 hour';
UPDATE beta.tq_schedule SET anchor = anchor - interval '1 hour', next_run = next_run - interval '300 seconds';
SELECT tq_pause('beta'), tq_resume('beta');
SELECT test.await('(SELECT count(*) > 290 FROM log WHERE tenant = ''beta'' AND what = ''tick'' AND at < now() - interval ''5 seconds'')');
SELECT test.await('(SELECT count(*) = 2 FROM tenant_q.fanout WHERE name = ''tick'' AND kind = ''f'')');
SELECT count(*) FROM tenant_q.fanout_tenant o WHERE NOT EXISTS (SELECT FROM tenant_q.fanout f WHERE f.id = o.fanout) AND o.task IS NOT NULL;
SELECT tq_unschedule_all('tick');
ALTER SYSTEM RESET tenant_q.fanout_keep;
SELECT pg_reload_conf();
SELECT test.await('(SELECT NOT EXISTS (SELECT FROM tenant_q.fanout WHERE kind = ''d''))');

-- Who is expected: whoever's clocks say so, by whatever name of the zone
SELECT tq_set_tenant('alef', timezone => 'Etc/UTC'), tq_set_tenant('gamma', timezone => 'Asia/Tokyo'), tq_set_tenant('delta', timezone => 'Europe/Berlin');
SELECT tq_schedule_all('clock', 'note', to_char(now() AT TIME ZONE 'UTC' + '3 seconds', 'SS MI HH24 * * *'), '["clock"]') IS NOT NULL, tq_schedule_all('count', 'note', '1 second', '["count"]') IS NOT NULL;
SELECT test.await('(SELECT count(*) > 1 FROM tq_fanouts WHERE name = ''count'' AND done = 4)'), test.await('(SELECT count(*) = 1 FROM tq_fanouts WHERE name = ''clock'' AND outstanding = 0)');
SELECT tenant, state FROM tq_fanout_tenants('clock');
SELECT tq_unschedule_all('clock'), tq_unschedule_all('count');

-- After one another, in each tenant by itself
SELECT tq_schedule_all('report', 'note', 'after', '["report"]', after => '{load,own}') IS NOT NULL;
SELECT tq_schedule_all('load', 'note', '@yearly', '["load"]') IS NOT NULL;
SELECT tq_schedule_all('load', 'note', 'after', '["load"]', after => '{report}', on_conflict => 'replace');
SELECT tq_schedule_all('self', 'note', 'after', '["self"]', after => '{self}');
SELECT tq_unschedule_all('load');
\echo :SQLSTATE
SELECT test.await('(SELECT bool_and(spread_again IS NULL) FROM tenant_q.fanout WHERE kind = ''d'')');
SELECT name, next_run IS NULL AS waits, state FROM alef.tq_schedule ORDER BY name;
SELECT count(*) FROM tq_problems WHERE what LIKE 'schedule report%' AND reason LIKE '%"own"%';
SELECT what, reason, fix FROM tq_problems WHERE what = 'schedule report of tenant beta';
-- beta has what is missing: it fires there as soon as both have run, and nowhere else.
SELECT tq_schedule('own', 'note', '@yearly', '["own"]', tenant => 'beta') IS NOT NULL;
SELECT what, reason FROM tq_problems WHERE what = 'schedule report of tenant beta';
SELECT count(tq_fire('load', tenant => t)) FROM unnest('{alef,beta}'::text[]) t;
SELECT test.await('(SELECT count(*) = 2 FROM log WHERE what = ''load'')');
SELECT count(*) FROM log WHERE what = 'report';
SELECT tq_fire('own', tenant => 'beta') IS NOT NULL;
SELECT test.await('(SELECT count(*) = 1 FROM log WHERE what = ''report'')');
SELECT tenant FROM log WHERE what = 'report';
SELECT count(*) FROM tq_fanouts WHERE name = 'report';
-- It keeps no tenant from removing what is its own, and waits again.
SELECT tq_unschedule('own', tenant => 'beta');
SELECT reason FROM tq_problems WHERE what = 'schedule report of tenant beta';
-- Without it, it comes after the other one alone; what has ended before counts no more. In gamma that fails.
SELECT tq_schedule_all('load', 'note', '@yearly', '["fails in gamma"]', on_conflict => 'replace', task => '{"max_attempts": 1}') IS NOT NULL;
SELECT tq_schedule_all('report', 'note', 'after', '["report"]', after => '{load}', on_conflict => 'replace') IS NOT NULL;
SELECT test.await('(SELECT bool_and(spread_again IS NULL) FROM tenant_q.fanout WHERE kind = ''d'')');
DELETE FROM log;
SELECT count(tq_fire('load', tenant => t)) FROM unnest('{alef,beta,gamma,delta}'::text[]) t;
SELECT test.await('(SELECT count(*) = 3 FROM log WHERE what = ''report'')');
SELECT tenant, what FROM log ORDER BY 1, 2;
-- A tenant to come; one whose own schedules would make a circle
SELECT tq_schedule_all('load', 'note', '@yearly', '["load"]', on_conflict => 'replace') IS NOT NULL;
CREATE SCHEMA epsilon AUTHORIZATION owner;
SELECT tq_attach('epsilon');
SELECT test.await('(SELECT count(*) = 2 FROM epsilon.tq_schedule)'), test.await('(SELECT bool_and(spread_again IS NULL) FROM tenant_q.fanout WHERE kind = ''d'')');
SELECT name, state FROM epsilon.tq_schedule ORDER BY 1;
SELECT tq_schedule('load2', 'note', 'after', '["x"]', after => '{report}', tenant => 'epsilon') IS NOT NULL;
SELECT tq_schedule_all('report', 'note', 'after', '["report"]', after => '{load2}', on_conflict => 'replace') IS NOT NULL;
SELECT test.await('(SELECT bool_and(spread_again IS NULL) FROM tenant_q.fanout WHERE kind = ''d'')');
SELECT what, reason FROM tq_problems WHERE what LIKE 'schedule report%epsilon';
SELECT tq_unschedule_all('report'), tq_unschedule_all('load');
SELECT test.await('(SELECT NOT EXISTS (SELECT FROM tenant_q.fanout WHERE kind = ''d''))');
SELECT count(*) FROM beta.tq_schedule;
