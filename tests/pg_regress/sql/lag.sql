-- Lag is of what is due and not picked, waiting of what could run: neither is of what is gone, nor of times of the past that somebody asked for.
\i sql/setup.psql
SET client_min_messages = warning;
CREATE ROLE owner LOGIN;
CREATE SCHEMA acme AUTHORIZATION owner;
SELECT tq_attach('acme');
SET search_path = acme, public;
CREATE FUNCTION work(what text) RETURNS text LANGUAGE sql AS 'SELECT what';
CREATE FUNCTION late(what text) RETURNS text LANGUAGE sql AS 'SELECT what';
ALTER FUNCTION work(text) OWNER TO owner;
ALTER FUNCTION late(text) OWNER TO owner;
SELECT tq_register('work'), tq_register('late');
RESET client_min_messages;
CREATE VIEW test.standing AS SELECT status, queued, lag IS NOT NULL AS lags, lag < interval '1 hour' AS short,
       (SELECT m.value < 3600 FROM tq_metrics m WHERE m.name = 'tenant_q_lag_seconds' AND m.labels->>'tenant' = 'acme') AS short_metric FROM tq_tenants WHERE tenant = 'acme';
-- Something has run; then there is a schedule and none, a pause, and nothing to do.
SELECT tq_async('work', '["first"]', run_at => now() - interval '1 day', id => '01900000-0000-7000-8000-000000000001');
SELECT tq_result('01900000-0000-7000-8000-000000000001', wait => '20 s');
SELECT tq_schedule('often', 'work', '1 second', '["tick"]') IS NOT NULL AS made;
SELECT test.await('(SELECT run_count > 1 FROM acme.tq_schedule)');
SELECT tq_unschedule('often');
SELECT test.await('NOT EXISTS (SELECT FROM acme.tq_task)');
SELECT tq_pause();
SELECT test.await('(SELECT status = ''paused'' FROM tq_tenants)');
SELECT * FROM test.standing;
-- What is enqueued meanwhile lags from when it could run.
SELECT tq_async('work', '["waits"]', run_at => now() - interval '1 day', id => '01900000-0000-7000-8000-000000000002');
SELECT tq_async('work', '["later"]', delay => '1 hour', id => '01900000-0000-7000-8000-000000000003');
SELECT test.await('(SELECT lags FROM test.standing)');
SELECT * FROM test.standing;
-- No more once it is gone, or put off, though something else waits for its time.
SELECT tq_cancel('01900000-0000-7000-8000-000000000002');
SELECT test.await('(SELECT NOT lags FROM test.standing)');
SELECT * FROM test.standing;
SELECT tq_async('work', '["put off"]', id => '01900000-0000-7000-8000-000000000004');
SELECT test.await('(SELECT lags FROM test.standing)');
SELECT tq_update('01900000-0000-7000-8000-000000000004', run_at => now() + interval '1 hour');
SELECT test.await('(SELECT NOT lags FROM test.standing)');
SELECT tq_update('01900000-0000-7000-8000-000000000004', run_at => now() - interval '1 day');
SELECT test.await('(SELECT lags FROM test.standing)');
SELECT * FROM test.standing;
SELECT tq_resume();
SELECT tq_result('01900000-0000-7000-8000-000000000004', wait => '20 s');
SELECT test.await('(SELECT NOT lags FROM test.standing)');
SELECT * FROM test.standing;
-- Not ready, with a backlog from before.
SELECT tq_set_tenant(ready => false);
SELECT tq_async('work', '["waits"]', run_at => now() - interval '1 day', id => '01900000-0000-7000-8000-000000000005');
SELECT test.await('(SELECT lags FROM test.standing)');
SELECT * FROM test.standing;
SELECT tq_set_tenant(ready => true);
SELECT tq_result('01900000-0000-7000-8000-000000000005', wait => '20 s');

-- What a schedule makes up for has not waited since then.
SELECT tq_schedule('daily', 'late', '@daily', '["x"]', catch_up => 'all') IS NOT NULL AS made;
SELECT tq_alter_schedule('daily', next_run => now() - interval '3 days');
SELECT test.await('(SELECT sum(done) >= 3 FROM tq_stats WHERE handler = ''late'')');
SELECT handler, max_wait_time < interval '1 hour' AS short, mean_wait_time < interval '1 hour' AS mean, total_wait_time < interval '1 hour' AS total FROM tq_stats ORDER BY handler;
SELECT name, value < 3600 AS short FROM tq_metrics WHERE name LIKE '%wait_seconds%' ORDER BY name, labels;
-- Nor has what waited for another task before that one was over.
SELECT tq_register('after', 'late(text)');
SELECT tq_pause();
SELECT tq_chain('[{"handler": "late", "args": ["first"]}, {"handler": "after", "args": ["second"]}]') AS id \gset
UPDATE tq_task SET created_at = created_at - interval '1 day', run_at = run_at - interval '1 day' WHERE handler = 'after';
SELECT tq_resume();
SELECT tq_result(:'id', wait => '20 s');
SELECT handler, done, max_wait_time < interval '1 hour' AS short FROM tq_stats WHERE handler = 'after';
