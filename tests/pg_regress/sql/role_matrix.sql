-- Who may call what, by trying: docs/rights.md has the same table, line for line (tests/pure compares them).
\i sql/setup.psql
CREATE ROLE owner LOGIN;
CREATE ROLE nobody LOGIN;
CREATE ROLE enqueuer LOGIN;
CREATE ROLE reader LOGIN;
CREATE ROLE operator LOGIN;
CREATE ROLE worker LOGIN;
CREATE ROLE watcher LOGIN IN ROLE pg_monitor;
CREATE ROLE oncall LOGIN;
CREATE SCHEMA acme AUTHORIZATION owner;
SELECT tq_attach('acme');
SET ROLE owner;
SET search_path = acme, public;
CREATE TABLE orders (id bigint);
CREATE FUNCTION work(what text DEFAULT 'nothing') RETURNS text LANGUAGE sql AS 'SELECT what';
CREATE FUNCTION told(task jsonb) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION fails() RETURNS void LANGUAGE sql AS 'SELECT 1 / 0';
CREATE FUNCTION sleeps() RETURNS void LANGUAGE sql AS 'SELECT pg_sleep(600)';
CREATE FUNCTION gone() RETURNS void LANGUAGE sql AS '';
SELECT tq_register('work'), tq_register('told'), tq_register('fails', max_attempts => 1), tq_register('sleeps'), tq_register('gone');
SELECT tq_schedule('nightly', 'work', '0 2 * * *') IS NOT NULL;
SELECT tq_async('work', name => 'done', group_id => 'g', id => '01900000-0000-7000-8000-000000000001');
SELECT tq_result('01900000-0000-7000-8000-000000000001', wait => '20 s');
SELECT tq_async('work', name => 'waits', delay => '1 hour', id => '01900000-0000-7000-8000-000000000002');
SELECT tq_grant('enqueuer', '{enqueue}'), tq_grant('reader', '{read}'), tq_grant('operator', '{operate}'), tq_grant('worker', '{work}');
SELECT tq_on('failed', 'told') IS NOT NULL;
SELECT tq_listen_table('orders', 'told');
RESET ROLE;
-- Something for each view of the whole server.
SELECT tq_async_all('work') IS NOT NULL;
SELECT tq_async('fails', tenant => 'acme', id => '01900000-0000-7000-8000-000000000003');
SELECT tq_async('sleeps', tenant => 'acme', id => '01900000-0000-7000-8000-000000000004');
BEGIN;
SELECT tq_async('gone', tenant => 'acme', id => '01900000-0000-7000-8000-000000000005');
SELECT tq_unregister('gone', tenant => 'acme');
COMMIT;
SELECT test.await('(SELECT count(*) > 0 FROM tq_failures) AND (SELECT count(*) > 0 FROM tq_running) AND (SELECT count(*) > 0 FROM tq_problems)');
SELECT test.await('(SELECT spread AND done = 1 FROM tq_fanouts)');
-- What GRANT EXECUTE gives: everything that PUBLIC hasn't. tq_set_quota looks a schema's name up as its caller.
GRANT USAGE ON SCHEMA acme TO oncall;
DO $$
DECLARE f regprocedure;
BEGIN
    FOR f IN SELECT oid FROM pg_proc WHERE proname LIKE 'tq\_%' AND pronamespace = 'public'::regnamespace
                AND NOT has_function_privilege('nobody', oid, 'EXECUTE') LOOP
        EXECUTE format('GRANT EXECUTE ON ROUTINE %s TO oncall', f);
    END LOOP;
END $$;

-- A call of each function, and a look at each view. No call but this one's DO has an effect: each is rolled back.
CREATE TABLE test.call (what text, call text);
INSERT INTO test.call VALUES
    ('tq_async', $$SELECT tq_async('work')$$),
    ('tq_async_many', $$SELECT tq_async_many('[{"handler": "work"}]')$$),
    ('tq_group', $$SELECT tq_group('["work"]')$$),
    ('tq_chain', $$SELECT tq_chain('["work"]')$$),
    ('tq_async_iter', $$SELECT tq_async_iter('work', '{}')$$),
    ('tq_result', $$SELECT tq_result('01900000-0000-7000-8000-000000000001')$$),
    ('tq_iter_result', $$SELECT tq_iter_result('01900000-0000-7000-8000-000000000001')$$),
    ('tq_fetch', $$SELECT tq_fetch('01900000-0000-7000-8000-000000000001')$$),
    ('tq_find', $$SELECT tq_find('done')$$),
    ('tq_attempts', $$SELECT tq_attempts('01900000-0000-7000-8000-000000000001')$$),
    ('tq_why', $$SELECT tq_why('01900000-0000-7000-8000-000000000002')$$),
    ('tq_result_group', $$SELECT tq_result_group('g')$$),
    ('tq_fetch_group', $$SELECT tq_fetch_group('g')$$),
    ('tq_count_group', $$SELECT tq_count_group('g')$$),
    ('tq_queue_size', $$SELECT tq_queue_size()$$),
    ('tq_upcoming', $$SELECT tq_upcoming(now() + interval '1 day')$$),
    ('tq_export', $$SELECT tq_export()$$),
    ('tq_cancel', $$SELECT tq_cancel('01900000-0000-7000-8000-000000000002')$$),
    ('tq_requeue', $$SELECT tq_requeue('01900000-0000-7000-8000-000000000001')$$),
    ('tq_requeue(args)', $$SELECT tq_requeue('01900000-0000-7000-8000-000000000001', args => '["x"]')$$),
    ('tq_update', $$SELECT tq_update('01900000-0000-7000-8000-000000000002', priority => 1)$$),
    ('tq_update(args)', $$SELECT tq_update('01900000-0000-7000-8000-000000000002', args => '["x"]')$$),
    ('tq_delete', $$SELECT tq_delete('01900000-0000-7000-8000-000000000001')$$),
    ('tq_purge', $$SELECT tq_purge('0')$$),
    ('tq_delete_group', $$SELECT tq_delete_group('g')$$),
    ('tq_requeue_all', $$SELECT tq_requeue_all(everything => true)$$),
    ('tq_cancel_all', $$SELECT tq_cancel_all(everything => true)$$),
    ('tq_delete_all', $$SELECT tq_delete_all(everything => true)$$),
    ('tq_update_all', $$SELECT tq_update_all(everything => true, set_priority => 1)$$),
    ('tq_schedule', $$SELECT tq_schedule('other', 'work', 'daily')$$),
    ('tq_schedule(only_if)', $$SELECT tq_schedule('other', 'work', 'daily', only_if => 'true')$$),
    ('tq_alter_schedule', $$SELECT tq_alter_schedule('nightly', enabled => false)$$),
    ('tq_unschedule', $$SELECT tq_unschedule('nightly')$$),
    ('tq_fire', $$SELECT tq_fire('nightly')$$),
    ('tq_import', $$SELECT tq_import('[{"name": "other", "handler": "work", "rule": "daily"}]')$$),
    ('tq_pause', $$SELECT tq_pause('acme')$$),
    ('tq_resume', $$SELECT tq_resume('acme')$$),
    ('tq_attach', $$SELECT tq_attach('acme')$$),
    ('tq_detach', $$SELECT tq_detach('acme')$$),
    ('tq_set_tenant', $$SELECT tq_set_tenant('acme', save_limit => 1)$$),
    ('tq_register', $$SELECT tq_register('work', queue => 'q')$$),
    ('tq_register_many', $$SELECT tq_register_many('{"handlers": [{"handler": "work", "queue": "q"}]}')$$),
    ('tq_unregister', $$SELECT tq_unregister('work')$$),
    ('tq_set_queue', $$SELECT tq_set_queue('q', max_running => 1)$$),
    ('tq_set_limit', $$SELECT tq_set_limit('k', max_running => 1)$$),
    ('tq_grant', $$SELECT tq_grant('nobody', '{read}')$$),
    ('tq_revoke', $$SELECT tq_revoke('reader', '{read}')$$),
    ('tq_on', $$SELECT tq_on('done', 'told')$$),
    ('tq_off', $$SELECT tq_off('failed', 'told')$$),
    ('tq_listen_table', $$SELECT tq_listen_table('acme.orders', 'told', each => 'statement')$$),
    ('tq_unlisten_table', $$SELECT tq_unlisten_table('acme.orders', 'told')$$),
    ('tq_drain', $$SELECT tq_drain()$$),
    ('tq_drain_take', $$SELECT tq_drain_take()$$),
    ('tq_set_quota', $$SELECT tq_set_quota('acme', weight => 2)$$),
    ('tq_pause_all', $$SELECT tq_pause_all()$$),
    ('tq_resume_all', $$SELECT tq_resume_all()$$),
    ('tq_async_all', $$SELECT tq_async_all('work')$$),
    ('tq_schedule_all', $$SELECT tq_schedule_all('all', 'work', 'daily')$$),
    ('tq_unschedule_all', $$SELECT tq_unschedule_all('all')$$),
    ('tq_recycle', $$SELECT tq_recycle()$$),
    ('tq_stats_reset', $$SELECT tq_stats_reset()$$),
    ('tq_confirm_copy', $$SELECT tq_confirm_copy()$$),
    ('tq_attach_all', $$SELECT 1 / has_function_privilege('tq_attach_all(text, text[], boolean)', 'EXECUTE')::int$$),
    ('tq_grant_all', $$SELECT 1 / has_function_privilege('tq_grant_all(text, text[])', 'EXECUTE')::int$$),
    ('tq_revoke_all', $$SELECT 1 / has_function_privilege('tq_revoke_all(text, text[])', 'EXECUTE')::int$$),
    ('tq_upgrade', $$SELECT 1 / has_function_privilege('tq_upgrade(text)', 'EXECUTE')::int$$),
    ('tq_tenant', $$SELECT tq_tenant()$$),
    ('tq_health', $$SELECT tq_health()$$),
    ('tq_backoff', $$SELECT tq_backoff('fixed')$$),
    ('tq_describe', $$SELECT tq_describe('daily')$$),
    ('tq_next_runs', $$SELECT tq_next_runs('daily')$$),
    ('tq_fanout_tenants', $$SELECT FROM tq_fanout_tenants('work')$$),
    ('tq_current', $$SELECT tq_current()$$),
    ('tq_progress', $$SELECT tq_progress(0.5)$$),
    ('tq_retry', $$SELECT tq_retry()$$),
    ('tq_fail', $$SELECT tq_fail('no')$$);
INSERT INTO test.call SELECT view, format('SELECT FROM %I', view)
  FROM unnest('{tq_tasks,tq_results,tq_schedules,tq_queues,tq_handlers,tq_events,tq_all_schedules,tq_tenants,tq_stats,tq_fanouts,tq_workers,tq_metrics,tq_failures,tq_problems,tq_running}'::text[]) AS view;
-- Nothing is left out, but for tq_run_pending, a procedure that commits, which asks what tq_drain asks, and what workers call: that
-- takes of those tenants alone in which it has work, and ends what it has taken.
SELECT proname FROM pg_proc JOIN pg_depend ON objid = pg_proc.oid AND deptype = 'e'
 WHERE proname LIKE 'tq\_%' AND proname !~ '^tq_(run_pending|take|await|finish|finish_many|give_up|release|watch)$' AND proname NOT IN (SELECT what FROM test.call);
SELECT relname FROM pg_class WHERE relkind = 'v' AND relname LIKE 'tq\_%' AND relname NOT IN (SELECT what FROM test.call);

-- yes, nothing (42501), no rows of a view, or only in a task.
CREATE FUNCTION test.may(who name, call text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    seen bigint;
BEGIN
    EXECUTE format('SET LOCAL ROLE %I', who);
    EXECUTE call;
    GET DIAGNOSTICS seen = ROW_COUNT;
    RAISE EXCEPTION USING ERRCODE = 'XTEST', MESSAGE = CASE WHEN seen = 0 AND call LIKE 'SELECT FROM%' THEN 'no rows' ELSE 'yes' END;
EXCEPTION
    WHEN insufficient_privilege OR division_by_zero THEN
        RETURN '';
    WHEN SQLSTATE 'XTEST' THEN
        RETURN SQLERRM;
    WHEN OTHERS THEN
        RETURN CASE WHEN SQLERRM LIKE '%is for handlers%' THEN 'in a task' ELSE SQLSTATE || ' ' || SQLERRM END;
END $$;
SET client_min_messages = warning;
CREATE TABLE test.answer AS
    SELECT what, array_agg(test.may(who, call) ORDER BY n) AS answers
      FROM test.call, unnest('{nobody,enqueuer,reader,operator,worker,owner,watcher,oncall}'::name[]) WITH ORDINALITY AS w(who, n)
     GROUP BY what;
SELECT tq_cancel('01900000-0000-7000-8000-000000000004', tenant => 'acme');
\pset format unaligned
\pset tuples_only on
SELECT format('| %s | %s |', string_agg('`' || what || '`', ', ' ORDER BY what), array_to_string(answers, ' | '))
  FROM test.answer GROUP BY answers ORDER BY answers;
