-- Groups of tasks; changing waiting ones, deleting finished ones.
\i sql/setup.psql
CREATE ROLE owner LOGIN;
CREATE SCHEMA acme AUTHORIZATION owner;
SELECT tq_attach('acme');
SET ROLE owner;
SET search_path = acme, public;
CREATE TABLE gate (open bool);
CREATE FUNCTION square(n int) RETURNS int LANGUAGE sql AS 'SELECT n * n';
CREATE FUNCTION bad() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$;
CREATE FUNCTION gated(n int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN WHILE NOT EXISTS (SELECT FROM gate) LOOP PERFORM pg_sleep(0.02); END LOOP; RETURN n; END $$;
SELECT tq_register('square'), tq_register('bad', max_attempts => 1), tq_register('gated');

-- Before it runs there is nothing.
SELECT tq_async('square', '[3]', group_id => 'one', run_at => 'tomorrow', name => 'first', id => '01900000-0000-7000-8000-000000000001');
SELECT tq_result('01900000-0000-7000-8000-000000000001', wait => '10 ms'), tq_result_group('one', count => 2, wait => '10 ms'), tq_count_group('one');
SELECT * FROM tq_fetch_group('one');
SELECT tq_update('01900000-0000-7000-8000-000000000001', run_at => now());
SELECT tq_result_group('one', wait => '20 s');
SELECT tq_result_group('one', failures => true), tq_count_group('one'), tq_count_group('one', failures => true);
SELECT tq_delete_group('one');
SELECT tq_delete_group('one');
SELECT state, group_id, name FROM tq_results;
SELECT count(tq_async('square', jsonb_build_array(n), group_id => 'one')) FROM generate_series(1, 3) n;
SELECT tq_result_group('one', count => 3, wait => '20 s');
SELECT tq_delete_group('one', tasks => true);
SELECT count(*) FROM tq_results;

-- Six, one of which fails; in the order they were enqueued.
SELECT count(tq_async('square', jsonb_build_array(n), group_id => 'six')) FROM generate_series(5, 1, -1) n;
SELECT tq_async('bad', group_id => 'six') IS NULL;
SELECT tq_result_group('six', count => 6, wait => '20 s');
SELECT tq_count_group('six'), tq_count_group('six', failures => true), tq_result_group('six', failures => true);
SELECT handler, state, result, error->>'message' AS message FROM tq_fetch_group('six');
SELECT count(*) FROM tq_fetch_group('six', failures => false);
-- At least so many, not exactly.
SELECT jsonb_array_length(tq_result_group('six', count => 2)), tq_result_group('six', count => 7), tq_result_group('none'), tq_result_group('none', count => 0);
SELECT count(*) FROM tq_fetch_group('six', count => 7);
SELECT tq_delete_group('six');
SELECT tq_result_group('six'), tq_count_group('six');

-- Waiting wakes at the first end that is enough, and without a count at the last.
SELECT tq_async('gated', '[1]', group_id => 'gated') IS NULL, tq_async('square', '[4]', group_id => 'gated', priority => 1) IS NULL;
SELECT tq_result_group('gated', count => 1, wait => '20 s');
SELECT test.await('(SELECT count(*) = 1 FROM tq_running WHERE handler = ''gated'')');
SELECT * FROM tq_queues;
SELECT tq_queue_size(), tq_async('square', '[9]', queue => 'mail', delay => '1 hour', id => '01900000-0000-7000-8000-00000000000a');
SELECT tq_queue_size(), tq_queue_size('mail'), tq_queue_size('other');
SELECT queue, delayed, running, lag, paused FROM tq_queues;
SELECT tq_cancel('01900000-0000-7000-8000-00000000000a');
-- What runs is not changed any more, nor deleted.
SET client_min_messages = warning;
SELECT tq_update(id, priority => 9) FROM tq_running WHERE handler = 'gated';
RESET client_min_messages;
SELECT tq_delete_group('gated2'), tq_result_group('gated', wait => '10 ms');
INSERT INTO gate VALUES (true);
SELECT tq_result_group('gated', wait => '20 s');
BEGIN;
SELECT tq_async('square', '[1]', group_id => 'mine') IS NULL;
SELECT tq_result_group('mine', wait => '1 s');
\echo :SQLSTATE
ROLLBACK;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT tq_result_group('gated', wait => '1 s');
\echo :SQLSTATE
ROLLBACK;
SELECT tq_result_group('gated', count => -1);
\echo :SQLSTATE
SELECT tq_result_group(NULL);
\echo :SQLSTATE

-- Deleting a group with unfinished members
SELECT tq_async('square', '[2]', group_id => 'g', delay => '1 hour', id => '01900000-0000-7000-8000-000000000002');
SELECT tq_delete_group('g', tasks => true);
SELECT state, group_id FROM tq_tasks;

-- Changing a task that waits
SELECT tq_update('01900000-0000-7000-8000-000000000002', args => '[7]', queue => 'mail', priority => 5, expires => '2 hours', meta => '{"a": 1}');
SELECT state, args, queue, priority, meta, run_at > now() AS later FROM tq_tasks;
SELECT tq_update('01900000-0000-7000-8000-000000000002', args => '{"m": 7}');
\echo :SQLSTATE
SELECT tq_update('01900000-0000-7000-8000-000000000002', priority => 40000);
\echo :SQLSTATE
SELECT tq_update('01900000-0000-7000-8000-000000000002', run_at => 'infinity');
\echo :SQLSTATE
SELECT tq_update('01900000-0000-7000-8000-000000000002');
SELECT tq_update('01900000-0000-7000-8000-0000000000ff', priority => 1);
-- One that is held comes free with its new queue.
SELECT tq_pause(queue => 'mail');
SELECT tq_update('01900000-0000-7000-8000-000000000002', run_at => now());
SELECT test.await('(SELECT state = ''held'' FROM tq_tasks)');
SELECT tq_update('01900000-0000-7000-8000-000000000002', queue => 'other');
SELECT tq_result('01900000-0000-7000-8000-000000000002', wait => '20 s');
SELECT tq_update('01900000-0000-7000-8000-000000000002', priority => 1);
-- A place further ahead in the queue
RESET ROLE;
SELECT tq_set_quota('acme', max_running => 1);
SET ROLE owner;
SELECT tq_pause();
-- At once: a look that began before the update goes by what was there then, even if it ends after the pause.
BEGIN;
SELECT count(tq_async('square', jsonb_build_array(n), name => 'n' || n)) FROM generate_series(1, 3) n;
SELECT tq_update(tq_find('n3'), priority => 10);
COMMIT;
SELECT tq_resume();
SELECT test.await('(SELECT count(*) = 0 FROM tq_tasks)');
SELECT name FROM tq_results WHERE name LIKE 'n%' ORDER BY started_at;

-- Deleting and purging
SELECT tq_async('square', '[2]', delay => '1 hour', id => '01900000-0000-7000-8000-000000000003');
SELECT tq_delete('01900000-0000-7000-8000-000000000003');
\echo :SQLSTATE
SELECT tq_cancel('01900000-0000-7000-8000-000000000003');
SELECT tq_delete('01900000-0000-7000-8000-000000000003');
SELECT tq_delete('01900000-0000-7000-8000-000000000003');
SELECT * FROM tq_fetch('01900000-0000-7000-8000-000000000003');
-- Run again, as from an admin page: the result goes, the task comes back.
SELECT tq_requeue(id) FROM tq_results WHERE handler = 'bad';
SELECT test.await('(SELECT count(*) = 1 FROM tq_results WHERE handler = ''bad'')');
SELECT attempt, state FROM tq_results WHERE handler = 'bad';
-- Older than an hour: successes go, failures stay, younger and unfinished ones too.
UPDATE tq_result SET finished_at = now() - interval '2 hours' WHERE name = 'n1' OR handler = 'bad';
SELECT tq_async('square', '[2]', delay => '1 hour', name => 'waits') IS NULL;
SELECT tq_purge('3 hours', '{done}');
SELECT tq_purge('1 hour', '{done}');
SELECT tq_find('n1'), count(*) FROM tq_results WHERE handler = 'bad';
SELECT tq_purge('1 hour', '{done,failed}');
SELECT tq_purge('1 hour');
SELECT tq_purge('0') > 5 AS many;
SELECT count(*) FROM tq_results;
SELECT name, state FROM tq_tasks;
SELECT tq_purge('-1 hour');
\echo :SQLSTATE
SELECT tq_purge('0', '{running}');
\echo :SQLSTATE
SELECT tq_purge(NULL);
\echo :SQLSTATE
