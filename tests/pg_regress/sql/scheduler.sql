-- What the scheduler does with schedules that would hold it up: it waits for nobody and runs nobody's code.
\i sql/setup.psql
SET client_min_messages = warning;
CREATE ROLE owner LOGIN;
SELECT format('CREATE SCHEMA %I AUTHORIZATION owner', n) FROM unnest('{alpha,beta,gamma}'::text[]) n \gexec
SELECT count(tq_attach(n)) FROM unnest('{alpha,beta,gamma}'::text[]) n;
CREATE TABLE public.log (tenant text, what text, at timestamptz);
GRANT INSERT, SELECT ON public.log TO PUBLIC;
CREATE FUNCTION public.note(what text) RETURNS void LANGUAGE sql AS
    $$ INSERT INTO public.log VALUES (current_schema(), what, (public.tq_current()).scheduled_for) $$;
SELECT tq_register('note', 'public.note(text)', shared => true), tq_register('held', 'public.note(text)', shared => true);
-- Three more fire times of beta's.
SELECT tq_schedule('beat', 'note', '1 second', '["beat"]', tenant => 'beta') IS NOT NULL;
CREATE FUNCTION test.goes_on() RETURNS boolean LANGUAGE sql AS $$
    SELECT test.await(format('(SELECT count(*) > %s FROM log WHERE what = ''beat'')', (SELECT count(*) + 2 FROM log WHERE what = 'beat'))) $$;
SELECT test.goes_on();
\setenv PGDATABASE :DBNAME

-- Hours of missed fire times: some at a time, each once, and none is lost.
SELECT tq_pause('alpha', handler => 'held');
SELECT tq_schedule('lots', 'held', '1 second', '["lots"]', catch_up => 'all', catch_up_limit => 20000, enabled => false, tenant => 'alpha') IS NOT NULL;
UPDATE alpha.tq_schedule SET enabled = true, anchor = anchor - interval '20 hours', next_run = anchor - interval '10 hours' WHERE name = 'lots';
SELECT tq_pause('alpha'), tq_resume('alpha');
SELECT test.await('(SELECT count(*) >= 20000 FROM alpha.tq_task)'), test.goes_on();
SELECT count(DISTINCT scheduled_for) = count(*) AS once_each, count(*) = 1 + extract(epoch FROM max(scheduled_for) - min(scheduled_for)) AS none_missed FROM alpha.tq_task;
SELECT run_count = (SELECT count(*) FROM alpha.tq_task) AS counted, problem, state FROM alpha.tq_schedule WHERE name = 'lots';
SELECT tq_unschedule('lots', tenant => 'alpha');

-- A domain whose CHECK would keep the scheduler: it is asked at the start of the task, not there.
CREATE DOMAIN alpha.slow AS text CHECK (CASE WHEN current_setting('application_name') = 'tenant_q scheduler' THEN pg_sleep(60) IS NOT NULL ELSE true END);
CREATE FUNCTION alpha.domains(what alpha.slow) RETURNS void LANGUAGE sql AS $$ INSERT INTO public.log VALUES ('alpha', what, NULL) $$;
SELECT tq_register('domains', 'domains(slow)', tenant => 'alpha');
SELECT tq_schedule('domains', 'domains', '1 second', '["domain"]', tenant => 'alpha') IS NOT NULL;
SELECT test.await('(SELECT count(*) > 1 FROM log WHERE what = ''domain'')'), test.goes_on();
SELECT tq_alter_schedule('domains', enabled => false, tenant => 'alpha');
UPDATE alpha.tq_schedule SET problem = 'it was' WHERE name = 'domains';
SET application_name = 'tenant_q scheduler';
SET statement_timeout = '10s';
SELECT what, reason FROM tq_problems WHERE what LIKE 'schedule%';
RESET statement_timeout;
RESET application_name;
SELECT tq_unschedule('domains', tenant => 'alpha');

-- A row too large to be read for all tenants' sake
SELECT tq_schedule('large', 'note', '1 second', '["large"]', enabled => false, tenant => 'alpha') IS NOT NULL;
UPDATE alpha.tq_schedule SET enabled = true, next_run = now(), args = to_jsonb(array[repeat('x', 9000000)]) WHERE name = 'large';
SELECT tq_pause('alpha'), tq_resume('alpha');
SELECT test.await('(SELECT problem IS NOT NULL FROM alpha.tq_schedule WHERE name = ''large'')');
SELECT problem, next_run, length(args::text) FROM alpha.tq_schedule WHERE name = 'large';
SELECT what, reason, fix FROM tq_problems WHERE what LIKE 'schedule%';
SELECT tq_unschedule('large', tenant => 'alpha'), test.goes_on();

-- Marks of locks that are over don't keep a row from being seen.
SELECT tq_schedule('marked', 'note', '1 hour', '["marked"]', tenant => 'alpha') IS NOT NULL;
SELECT tq_async('note', '["marked task"]', tenant => 'alpha', delay => '1 day') IS NOT NULL;
BEGIN;
SELECT count(*) FROM (SELECT FROM alpha.tq_schedule FOR KEY SHARE) x, (SELECT FROM alpha.tq_task WHERE handler = 'note' FOR KEY SHARE) y;
\! psql -XAtqc "SELECT count(*) FROM (SELECT FROM alpha.tq_schedule FOR KEY SHARE) x, (SELECT FROM alpha.tq_task WHERE handler = 'note' FOR KEY SHARE) y"
COMMIT;
BEGIN;
SELECT tq_alter_schedule('marked', next_run => now(), tenant => 'alpha');
ROLLBACK;
SELECT count(*) FROM (SELECT FROM alpha.tq_schedule FOR KEY SHARE) x;
UPDATE alpha.tq_schedule SET next_run = now() WHERE name = 'marked';
UPDATE alpha.tq_task SET run_at = now() WHERE handler = 'note';
BEGIN;
SELECT count(*) FROM (SELECT FROM alpha.tq_schedule FOR KEY SHARE) x, (SELECT FROM alpha.tq_task WHERE handler = 'note' FOR KEY SHARE) y;
\! psql -XAtqc "SELECT count(*) FROM (SELECT FROM alpha.tq_schedule FOR KEY SHARE) x, (SELECT FROM alpha.tq_task WHERE handler = 'note' FOR KEY SHARE) y"
COMMIT;
SELECT tq_pause('alpha'), tq_resume('alpha');
SELECT test.await('(SELECT count(DISTINCT what) = 2 FROM log WHERE what LIKE ''marked%'')');
SELECT tq_unschedule('marked', tenant => 'alpha');

-- Whatever the ticks before have seen, what somebody means to be at once is found, without a word.
SELECT tq_schedule('once', 'note', '@yearly', '["at once"]', tenant => 'beta') IS NOT NULL, test.goes_on();
UPDATE beta.tq_schedule SET next_run = '-infinity' WHERE name = 'once';
SELECT test.await('(SELECT count(*) = 1 FROM log WHERE what = ''at once'')');
SELECT tq_schedule('dated', 'note', 'once', '["dated"]', start_at => now() - interval '1 day', tenant => 'beta') IS NOT NULL;
SELECT test.await('(SELECT count(*) = 1 FROM log WHERE what = ''dated'')');
SELECT tq_unschedule('once', tenant => 'beta');

-- Somebody holds what one schedule needs: the tenant's others go on.
SELECT tq_schedule('a', 'note', '1 second', '["a"]', tenant => 'gamma') IS NOT NULL, tq_schedule('b', 'note', '1 second', '["b"]', task => '{"unique_key": "b"}', tenant => 'gamma') IS NOT NULL;
SELECT test.await('(SELECT count(DISTINCT what) = 2 FROM log WHERE tenant = ''gamma'')');
BEGIN;
SELECT tq_async('note', '["other"]', unique_key => 'b', on_conflict => 'skip', tenant => 'gamma') IS NOT NULL;
\! psql -XAtqc "SELECT test.await(format('(SELECT count(*) > %s FROM log WHERE what = ''a'')', (SELECT count(*) + 3 FROM log WHERE what = 'a')))"
SELECT problem FROM gamma.tq_schedule WHERE problem IS NOT NULL;
COMMIT;
SELECT test.await(format('(SELECT count(*) > %s FROM log WHERE what = ''b'')', (SELECT count(*) + 1 FROM log WHERE what = 'b')));
SELECT count(tq_unschedule(n, tenant => 'gamma')) FROM unnest('{a,b}'::text[]) n;

-- Zones: the tenant's, then the server's; never that of a client.
SELECT count(tq_schedule(n, 'note', r, '["zone"]', tz => z, tenant => 'gamma'))
  FROM (VALUES ('two', '0 2 * * *', NULL), ('own', '0 2 * * *', 'America/Bogota'), ('elapsed', '1 day', NULL), ('chosen', '0 2 * * *', NULL)) x(n, r, z);
SELECT tq_alter_schedule('chosen', next_run => '2100-01-01 12:34:56+00', tenant => 'gamma');
CREATE VIEW test.zones AS SELECT name, CASE WHEN name = 'elapsed' THEN next_run = anchor + interval '1 day' ELSE NULL END AS same,
    CASE WHEN name <> 'elapsed' THEN to_char(next_run AT TIME ZONE 'UTC', 'HH24:MI') END AS utc FROM gamma.tq_schedule;
SELECT * FROM test.zones ORDER BY 1;
SELECT tq_set_tenant('gamma', timezone => 'Asia/Tokyo');
SELECT * FROM test.zones ORDER BY 1;
SELECT next_run > now() AND next_run <= now() + interval '1 day' AS soon FROM gamma.tq_schedule WHERE name = 'two';
SELECT tq_set_tenant('gamma', reset => '{timezone}');
SELECT * FROM test.zones ORDER BY 1;
\! PGTZ=Asia/Tokyo psql -XAtqc "SHOW TimeZone" -c "SET search_path = gamma, public" -c "SELECT tq_alter_schedule('two', rule => '0 3 * * *')" -c "SELECT name, tz, to_char(next_run AT TIME ZONE 'UTC', 'HH24:MI') FROM tq_schedules WHERE name = 'two'"
ALTER SYSTEM SET tenant_q.timezone = 'Asia/Kolkata';
SELECT pg_reload_conf();
SELECT test.await('(SELECT utc = ''21:30'' FROM test.zones WHERE name = ''two'')');
SELECT * FROM test.zones ORDER BY 1;
ALTER SYSTEM RESET tenant_q.timezone;
SELECT pg_reload_conf();
SELECT test.await('(SELECT utc = ''03:00'' FROM test.zones WHERE name = ''two'')');

-- Schemas that are left out and come back, without a word from anybody
-- This session may hear of it a little later: no warning then.
SET client_min_messages = error;
ALTER SYSTEM SET tenant_q.exclude_schemas = 'public, alpha';
SELECT pg_reload_conf();
SELECT tq_schedule('away', 'note', '1 second', '["away"]', tenant => 'alpha') IS NOT NULL, test.goes_on();
SELECT count(*) FROM log WHERE what = 'away';
ALTER SYSTEM RESET tenant_q.exclude_schemas;
SELECT pg_reload_conf();
SELECT test.await('(SELECT count(*) > 1 FROM log WHERE what = ''away'')');
SELECT tq_unschedule('away', tenant => 'alpha');
