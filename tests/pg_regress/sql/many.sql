-- Many tasks at once: tq_requeue_all, tq_cancel_all, tq_delete_all, tq_update_all.
\i sql/setup.psql
CREATE ROLE owner LOGIN;
CREATE ROLE reader LOGIN;
CREATE SCHEMA acme AUTHORIZATION owner;
CREATE SCHEMA globex AUTHORIZATION owner;
SELECT tq_attach('acme'), tq_attach('globex');
SET ROLE owner;
SET search_path = acme, public;
CREATE TABLE mended (yes bool);
CREATE FUNCTION ok(k text DEFAULT NULL) RETURNS text LANGUAGE sql AS 'SELECT k';
CREATE FUNCTION bad(k text DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$ BEGIN IF EXISTS (SELECT FROM mended) THEN RETURN k; END IF; RAISE EXCEPTION 'no such order' USING ERRCODE = '22012'; END $$;
CREATE FUNCTION worse() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = 'P0001'; END $$;
CREATE FUNCTION slow() RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(60); RETURN ''; END $$;
SELECT tq_register('ok'), tq_register('bad', max_attempts => 1), tq_register('worse', max_attempts => 1), tq_register('slow', max_attempts => 1);
-- What there is, and that a dry run says the same as the deed and changes nothing.
CREATE FUNCTION there(OUT unfinished bigint, OUT finished bigint, OUT marks text) LANGUAGE sql AS
    'SELECT (SELECT count(*) FROM tq_task), (SELECT count(*) FROM tq_result), md5((SELECT string_agg(t::text, '';'' ORDER BY id) FROM tq_task t) || (SELECT string_agg(t::text, '';'' ORDER BY id) FROM tq_result t))';
CREATE FUNCTION do_all(call text) RETURNS TABLE (tasks bigint, more boolean, sampled int) LANGUAGE plpgsql AS $$
DECLARE before record; tried record; done record;
BEGIN
    SELECT * INTO before FROM there();
    EXECUTE format('SELECT * FROM %s, dry_run => true)', rtrim(call, ')')) INTO tried;
    IF before IS DISTINCT FROM (SELECT there()) THEN
        RAISE 'a dry run has changed something: %', call;
    END IF;
    EXECUTE format('SELECT * FROM %s', call) INTO done;
    IF tried.tasks <> done.tasks OR tried.more <> done.more OR (SELECT array_agg(x ORDER BY x) FROM unnest(tried.sample) x) <> (SELECT array_agg(x ORDER BY x) FROM unnest(done.sample) x) THEN
        RAISE '% is not what the dry run said: %', done, tried;
    END IF;
    RETURN QUERY SELECT done.tasks, done.more, cardinality(done.sample);
END $$;

-- Five that failed before many that were done: all five, whatever was newest.
SELECT count(tq_async('bad', to_jsonb(n::text), group_id => 'early', name => 'bad ' || n)) FROM generate_series(1, 5) n;
SELECT test.await('(SELECT count(*) = 5 FROM acme.tq_result)');
SELECT count(tq_async('ok', to_jsonb(n::text))) FROM generate_series(1, 1500) n;
SELECT count(tq_async('worse', queue => 'mail')) FROM generate_series(1, 3);
SELECT test.await('(SELECT count(*) = 0 FROM acme.tq_task)');
SELECT tasks, more, cardinality(sample) FROM tq_requeue_all(states => '{failed}', dry_run => true);
SELECT tasks, more, cardinality(sample) FROM tq_requeue_all(handler => 'bad', dry_run => true);
SELECT tasks FROM tq_requeue_all(handler => 'ok', dry_run => true);
SELECT tasks FROM tq_requeue_all(handler => 'ok', states => '{done}', dry_run => true);
SELECT tasks FROM tq_requeue_all(name_like => 'bad %', dry_run => true);
SELECT tasks FROM tq_requeue_all(name_like => 'bad 3', dry_run => true);
SELECT tasks FROM tq_requeue_all(name_like => '%4', group_id => 'early', dry_run => true);
SELECT tasks FROM tq_requeue_all(queue => 'mail', dry_run => true);
SELECT tasks FROM tq_requeue_all(queue => 'default', dry_run => true);
SELECT tasks FROM tq_requeue_all(sqlstate => '22012', dry_run => true);
SELECT tasks FROM tq_requeue_all(schedule => 'nightly', dry_run => true);
SELECT tasks FROM tq_requeue_all(since => now() - interval '1 hour', until => now() + interval '1 hour', dry_run => true);
SELECT tasks FROM tq_requeue_all(until => now() - interval '1 hour', dry_run => true);
SELECT tasks FROM tq_requeue_all(everything => true, dry_run => true);
SELECT tasks, more, cardinality(sample) FROM tq_requeue_all(everything => true, max_tasks => 7, dry_run => true);
SELECT tasks, more, cardinality(sample) FROM tq_requeue_all(everything => true, max_tasks => 8, dry_run => true);
-- From then on, and before then: the ends of two spans meet.
SELECT tasks = 1 AS first FROM tq_requeue_all(group_id => 'early', since => (SELECT min(finished_at) FROM acme.tq_result WHERE group_id = 'early'), until => (SELECT min(finished_at) + interval '1 microsecond' FROM acme.tq_result WHERE group_id = 'early'), dry_run => true);
SELECT tasks = 0 AS not_the_last FROM tq_requeue_all(group_id => 'early', since => (SELECT min(finished_at) - interval '1 s' FROM acme.tq_result WHERE group_id = 'early'), until => (SELECT min(finished_at) FROM acme.tq_result WHERE group_id = 'early'), dry_run => true);
INSERT INTO mended VALUES (true);
SELECT * FROM do_all($$tq_requeue_all(handler => 'bad', since => now() - interval '1 hour')$$);
SELECT tq_result_group('early', count => 5, wait => '20 s');
SELECT count(*) FROM acme.tq_result WHERE state = 'f';

-- Mistakes.
SELECT test.said($$tq_requeue_all()$$);
SELECT test.said($$tq_cancel_all(max_tasks => 10, dry_run => true)$$);
SELECT test.said($$tq_delete_all(everything => false)$$);
SELECT test.said($$tq_update_all(set_priority => 3)$$);
SELECT test.said($$tq_update_all(handler => 'ok')$$);
SELECT test.said($$tq_update_all(handler => 'ok', set_priority => 40000)$$);
SELECT test.said($$tq_update_all(handler => 'ok', set_run_at => 'infinity')$$);
SELECT test.said($$tq_update_all(states => '{running}', set_priority => 1)$$);
SELECT test.said($$tq_requeue_all(states => '{queued}')$$);
SELECT test.said($$tq_cancel_all(states => '{done}')$$);
SELECT test.said($$tq_delete_all(states => '{}')$$);
SELECT test.said($$tq_requeue_all(sqlstate => 'deadlock')$$);
SELECT test.said($$tq_requeue_all(handler => 'ok', max_tasks => 0)$$);
SELECT test.said($$tq_requeue_all(since => now(), until => now() - interval '1 hour')$$);
SELECT test.said($$tq_requeue_all(handler => 'ok', tenant => 'nobody')$$);
SET ROLE reader;
SELECT test.said($$tq_requeue_all(handler => 'ok', dry_run => true, tenant => 'acme')$$);
SET ROLE owner;
-- A handler that is gone keeps everything where it is.
CREATE FUNCTION gone() RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$;
SELECT tq_register('gone', max_attempts => 1);
SELECT tq_async('gone', id => '01900000-0000-7000-8000-000000000001');
SELECT tq_result('01900000-0000-7000-8000-000000000001', propagate => false, wait => '20 s');
SELECT tq_unregister('gone');
SELECT test.said($$tq_requeue_all(states => '{failed}')$$);
SELECT test.said($$tq_requeue_all(states => '{failed}', dry_run => true)$$);
SELECT count(*) FROM acme.tq_result WHERE state = 'f';
SELECT * FROM do_all($$tq_delete_all(handler => 'gone')$$);

-- Of several that failed under one unique key one goes back; the others stay, and nobody else is kept from going.
SELECT tq_pause();
DELETE FROM mended;
SELECT tq_resume();
SELECT count(tq_async('bad', unique_key => 'k', name => 'first')) FROM generate_series(1, 1);
SELECT test.await('(SELECT count(*) = 0 FROM acme.tq_task)');
SELECT count(tq_async('bad', unique_key => 'k', name => 'second')) FROM generate_series(1, 1);
SELECT test.await('(SELECT count(*) = 0 FROM acme.tq_task)');
SELECT tq_pause();
SELECT * FROM do_all($$tq_requeue_all(sqlstate => '22012')$$);
SELECT name, state FROM tq_tasks UNION ALL SELECT name, 'failed' FROM acme.tq_result WHERE handler = 'bad' AND state = 'f' ORDER BY 1;
SELECT * FROM do_all($$tq_requeue_all(sqlstate => '22012')$$);

-- Waiting tasks: changed, in any place in the queue, and cancelled.
SELECT * FROM do_all($$tq_cancel_all(everything => true)$$);
SELECT count(tq_async('ok', to_jsonb(n::text), priority => n % 3, delay => CASE WHEN n > 90 THEN interval '1 day' END, name => 'n' || n, group_id => 'g' || n % 2)) FROM generate_series(1, 100) n;
SELECT * FROM do_all($$tq_update_all(states => '{delayed}', set_run_at => now(), set_priority => 9)$$);
SELECT * FROM do_all($$tq_update_all(group_id => 'g1', set_queue => 'mail', set_expires => interval '1 hour')$$);
SELECT queue, priority, count(*), count(*) FILTER (WHERE run_at > now()) AS later FROM tq_tasks GROUP BY 1, 2 ORDER BY 1, 2;
SELECT count(*) FROM acme.tq_task WHERE expires_at BETWEEN now() AND now() + interval '1 hour';
SELECT * FROM do_all($$tq_cancel_all(queue => 'mail', max_tasks => 20)$$);
SELECT * FROM do_all($$tq_cancel_all(queue => 'mail', max_tasks => 30)$$);
SELECT * FROM do_all($$tq_cancel_all(queue => 'mail', max_tasks => 30)$$);
SELECT * FROM do_all($$tq_cancel_all(name_like => 'n_')$$);
SELECT count(*) FROM tq_tasks;
SELECT * FROM do_all($$tq_cancel_all(handler => 'ok')$$);
SELECT count(*) FROM tq_tasks;
-- One that runs is interrupted.
SELECT tq_resume();
SELECT tq_async('slow', id => '01900000-0000-7000-8000-000000000002');
SELECT test.await('(SELECT count(*) = 1 FROM tq_running)');
SELECT tasks FROM tq_update_all(handler => 'slow', set_priority => 3);
SELECT tasks FROM tq_cancel_all(handler => 'slow', states => '{queued,delayed}');
SELECT tasks FROM tq_cancel_all(handler => 'slow', states => '{running}');
SELECT tq_result('01900000-0000-7000-8000-000000000002', propagate => false, wait => '20 s');
SELECT test.await('(SELECT count(*) = 0 FROM tq_running)');
-- From within a task: all the others.
CREATE FUNCTION sole() RETURNS bigint LANGUAGE sql AS 'SELECT tasks FROM tq_cancel_all(everything => true)';
SELECT tq_register('sole');
SELECT tq_async('ok', delay => '1 day') IS NOT NULL, tq_async('ok', delay => '1 day') IS NOT NULL, tq_async('sole', id => '01900000-0000-7000-8000-000000000003');
SELECT tq_result('01900000-0000-7000-8000-000000000003', wait => '20 s');

-- Flows. One that matches goes as a whole; of one that doesn't, those members go that do, and it goes on with the rest.
SELECT tq_pause();
SELECT * FROM do_all($$tq_delete_all(everything => true)$$);
SELECT tq_group('[{"handler": "ok", "args": ["1"]}, {"handler": "ok", "args": ["2"], "queue": "mail"}, {"handler": "bad", "queue": "mail"}]', task => '{"id": "01900000-0000-7000-8000-000000000010", "name": "the flow"}');
SELECT * FROM do_all($$tq_cancel_all(queue => 'mail')$$);
SELECT state, reason FROM tq_tasks WHERE name = 'the flow';
SELECT tq_group('[{"handler": "ok"}, {"handler": "ok"}]') IS NOT NULL AS another;
SELECT * FROM do_all($$tq_cancel_all(everything => true)$$);
SELECT handler, state, count(*) FROM tq_results GROUP BY 1, 2 ORDER BY 1, 2;
SELECT tq_resume();
-- A group of which two failed, and a chain that stopped in its midst.
SELECT tq_group('[{"handler": "bad", "args": ["1"]}, {"handler": "ok", "args": ["2"]}, {"handler": "bad", "args": ["3"]}]', task => '{"id": "01900000-0000-7000-8000-000000000020"}');
SELECT tq_chain('[{"handler": "ok", "args": ["1"]}, {"handler": "bad"}, {"handler": "ok"}]', task => '{"id": "01900000-0000-7000-8000-000000000030"}');
SELECT test.await('(SELECT count(*) = 0 FROM acme.tq_task)');
SELECT handler, state, count(*) FROM tq_results WHERE state <> 'cancelled' GROUP BY 1, 2 ORDER BY 1, 2;
INSERT INTO mended VALUES (true);
SELECT * FROM do_all($$tq_requeue_all(handler => 'bad')$$);
SELECT tq_result('01900000-0000-7000-8000-000000000020', wait => '20 s'), tq_result('01900000-0000-7000-8000-000000000030', wait => '20 s');
DELETE FROM mended;
SELECT tasks FROM tq_requeue_all(handler => 'bad', states => '{done}');
SELECT test.await('(SELECT count(*) = 0 FROM acme.tq_task)');
SELECT handler, state FROM tq_results WHERE id IN ('01900000-0000-7000-8000-000000000020', '01900000-0000-7000-8000-000000000030') ORDER BY 1;
INSERT INTO mended VALUES (true);
SELECT * FROM do_all($$tq_requeue_all(states => '{failed}')$$);
SELECT tq_result('01900000-0000-7000-8000-000000000020', wait => '20 s'), tq_result('01900000-0000-7000-8000-000000000030', wait => '20 s');
-- One whose members' results aren't all there stays, with its members; who was cancelled because of a task comes back with it.
DELETE FROM mended;
SELECT * FROM do_all($$tq_delete_all(everything => true)$$);
SELECT tq_group('[{"handler": "bad", "args": ["1"]}, {"handler": "ok", "args": ["2"]}]', task => '{"id": "01900000-0000-7000-8000-000000000050"}');
SELECT tq_async('worse', name => 'first', id => '01900000-0000-7000-8000-000000000060');
SELECT tq_async('ok', name => 'second', depends_on => '{01900000-0000-7000-8000-000000000060}') IS NOT NULL, tq_async('ok', name => 'apart') IS NOT NULL;
SELECT test.await('(SELECT count(*) = 0 FROM tq_tasks)');
SELECT * FROM do_all($$tq_delete_all(handler => 'ok', states => '{done}')$$);
SELECT tq_pause();
SELECT * FROM do_all($$tq_requeue_all(states => '{failed,cancelled}')$$);
SELECT name, state FROM tq_tasks ORDER BY name;
SELECT handler, state FROM tq_results ORDER BY handler;
SELECT * FROM do_all($$tq_cancel_all(everything => true)$$);
INSERT INTO mended VALUES (true);
SELECT tq_resume();
-- Members of a flow that isn't finished stay.
SELECT tq_chain('[{"handler": "ok", "args": ["1"]}, {"handler": "ok", "delay": "1 day"}]') IS NOT NULL AS chain;
SELECT test.await('(SELECT count(*) = 2 FROM acme.tq_task)');
SELECT tasks FROM tq_delete_all(states => '{done,failed,cancelled}');
SELECT count(*) FROM tq_results;
SELECT * FROM do_all($$tq_cancel_all(everything => true)$$);
SELECT * FROM do_all($$tq_delete_all(everything => true)$$);
SELECT count(*) FROM tq_results;

-- By each index, and several states.
SELECT tq_schedule('hourly', 'ok', '0 * * * *', tz => 'UTC', task => '{"queue": "mail"}') IS NOT NULL;
SELECT count(tq_fire('hourly')) FROM generate_series(1, 3);
SELECT count(tq_async('bad')), count(tq_async('worse')) FROM generate_series(1, 2);
SELECT count(tq_async('ok', delay => '1 day')) FROM generate_series(1, 2);
SELECT test.await('(SELECT count(*) = 2 FROM acme.tq_task)');
SELECT * FROM do_all($$tq_cancel_all(states => '{delayed}')$$);
SELECT state, count(*) FROM tq_results GROUP BY 1 ORDER BY 1;
SELECT (SELECT tasks FROM tq_delete_all(schedule => 'hourly', dry_run => true)) AS of_schedule,
       (SELECT tasks FROM tq_delete_all(schedule => 'hourly', since => now() - interval '1 hour', until => now() + interval '1 hour', dry_run => true)) AS since,
       (SELECT tasks FROM tq_delete_all(schedule => 'hourly', until => now() - interval '1 hour', dry_run => true)) AS before,
       (SELECT tasks FROM tq_delete_all(states => '{failed,cancelled}', dry_run => true)) AS unwell,
       (SELECT tasks FROM tq_delete_all(states => '{failed,done}', since => now() - interval '1 hour', dry_run => true)) AS well,
       (SELECT tasks FROM tq_delete_all(states => '{failed}', until => now() - interval '1 hour', dry_run => true)) AS none,
       (SELECT tasks FROM tq_delete_all(until => now() + interval '1 hour', dry_run => true)) AS all;
-- Tables without the indexes that came later answer the same.
RESET ROLE;
DROP INDEX acme.tq_result_finished, acme.tq_result_state, acme.tq_result_schedule;
SET ROLE owner;
SELECT (SELECT tasks FROM tq_delete_all(schedule => 'hourly', until => now() + interval '1 hour', dry_run => true)) AS of_schedule,
       (SELECT tasks FROM tq_delete_all(states => '{failed,cancelled}', dry_run => true)) AS unwell,
       (SELECT tasks FROM tq_delete_all(until => now() + interval '1 hour', dry_run => true)) AS all;
SELECT * FROM do_all($$tq_delete_all(everything => true)$$);

-- What stands out of line is looked at too: a long name, an error with long text.
CREATE FUNCTION long(t text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION '%', (SELECT string_agg(md5(n::text || t), '') FROM generate_series(1, 300) n) USING ERRCODE = '22012'; END $$;
SELECT tq_register('long', max_attempts => 1);
SELECT tq_async('long', to_jsonb('x'::text), name => (SELECT string_agg(md5(n::text), '') FROM generate_series(1, 32) n), group_id => (SELECT string_agg(md5(n::text), '') FROM generate_series(33, 64) n)) IS NOT NULL AS long;
SELECT test.await('(SELECT count(*) = 0 FROM acme.tq_task)');
SELECT (SELECT tasks FROM tq_delete_all(sqlstate => '22012', dry_run => true)), (SELECT tasks FROM tq_delete_all(name_like => '%' || md5('32'), dry_run => true)),
       (SELECT tasks FROM tq_delete_all(group_id => (SELECT string_agg(md5(n::text), '') FROM generate_series(33, 64) n), dry_run => true));
SELECT * FROM do_all($$tq_delete_all(sqlstate => '22012')$$);

-- For very many: in steps.
CREATE PROCEDURE in_steps(call text) LANGUAGE plpgsql AS $$
DECLARE
    go_on boolean := true;
BEGIN
    WHILE go_on LOOP
        EXECUTE 'SELECT more FROM ' || call INTO go_on;
        COMMIT;
    END LOOP;
END $$;
SELECT count(tq_async('ok')) FROM generate_series(1, 55);
SELECT test.await('(SELECT count(*) = 0 FROM acme.tq_task)');
CALL in_steps($$tq_delete_all(states => '{done}', max_tasks => 10)$$);
SELECT count(*) FROM tq_results;
-- Half a group at a time: its flow is counted down for each half, and ends with the last.
SELECT tq_pause();
SELECT count(tq_async_iter('ok', (SELECT array_agg(to_jsonb(n::text)) FROM generate_series(1, 50) n), task => '{"id": "01900000-0000-7000-8000-000000000040", "allow_failure": true}'));
CALL in_steps($$tq_cancel_all(handler => 'ok', max_tasks => 20)$$);
SELECT state, count(*) FROM tq_results GROUP BY 1 ORDER BY 1;

-- For each what a single call does: listeners are told, keys are let go, what waits at a lock comes in, the gauge is right.
SELECT * FROM do_all($$tq_delete_all(everything => true)$$);
CREATE TABLE told (handler text, state text);
CREATE FUNCTION note(task jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO told VALUES (task ->> 'handler', task ->> 'state') $$;
SELECT tq_register('note'), tq_on('cancelled', 'note') IS NOT NULL AS listens;
SELECT count(tq_async('ok', name => 'twice', unique_key => 'key ' || n, unique_until => 'deleted')) FROM generate_series(1, 3) n;
SELECT queued FROM tq_tenants WHERE tenant = 'acme';
SELECT * FROM do_all($$tq_cancel_all(name_like => 'twice')$$);
SELECT queued FROM tq_tenants WHERE tenant = 'acme';
SELECT test.said($$tq_async('ok', unique_key => 'key 1')$$) LIKE '23505%' AS keeps_its_key;
SELECT * FROM do_all($$tq_delete_all(name_like => 'twice')$$);
SELECT tq_async('ok', unique_key => 'key 1', name => 'other') IS NOT NULL AS free;
SELECT tq_resume();
SELECT test.await('(SELECT count(*) = 3 FROM told)'), test.await('(SELECT count(*) = 0 FROM tq_tasks)');
SELECT handler, state, count(*) FROM told GROUP BY 1, 2;
SELECT tq_async('slow', lock => 'l', id => '01900000-0000-7000-8000-000000000070');
SELECT test.await('(SELECT count(*) = 1 FROM tq_running)');
SELECT tq_async('ok', '"in"', lock => 'l', id => '01900000-0000-7000-8000-000000000071');
SELECT tasks FROM tq_cancel_all(handler => 'slow');
SELECT tq_result('01900000-0000-7000-8000-000000000071', wait => '20 s');
-- Rows that somebody has written into each other are no more than rows.
SELECT tq_pause();
INSERT INTO tq_task (id, handler, name, parent_id) VALUES ('01900000-0000-7000-8000-000000000072', 'ok', 'ring 1', '01900000-0000-7000-8000-000000000073'), ('01900000-0000-7000-8000-000000000073', 'ok', 'ring 2', '01900000-0000-7000-8000-000000000072');
INSERT INTO tq_result (id, handler, name, parent_id, state, priority, attempts, crashes, created_at, run_at, finished_at)
    SELECT id, handler, 'old ' || name, parent_id, 'f', 0, 1, 0, now(), now(), now() FROM (VALUES ('01900000-0000-7000-8000-000000000074'::uuid, 'ok', 'ring 1', '01900000-0000-7000-8000-000000000075'::uuid), ('01900000-0000-7000-8000-000000000075', 'ok', 'ring 2', '01900000-0000-7000-8000-000000000074')) AS x (id, handler, name, parent_id);
SELECT tasks FROM tq_requeue_all(name_like => 'old ring 1');
SELECT * FROM do_all($$tq_cancel_all(name_like => 'ring 1')$$);
SELECT * FROM do_all($$tq_delete_all(name_like => 'old ring%')$$);
SELECT tq_resume();
-- A superuser's task runs again only in a superuser's hands.
RESET ROLE;
CREATE SCHEMA mighty;
SELECT tq_attach('mighty');
SET search_path = mighty, public;
CREATE FUNCTION bad() RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$;
SELECT tq_register('bad', max_attempts => 1);
SELECT tq_async('bad', id => '01900000-0000-7000-8000-000000000080');
SELECT tq_result('01900000-0000-7000-8000-000000000080', propagate => false, wait => '20 s');
GRANT USAGE ON SCHEMA mighty TO owner;
SELECT tq_grant('owner', '{operate,read}', tenant => 'mighty');
SET ROLE owner;
SELECT test.said($$tq_requeue_all(handler => 'bad', dry_run => true)$$);
SELECT test.said($$tq_requeue_all(handler => 'bad')$$);
SELECT tasks FROM tq_delete_all(handler => 'bad', dry_run => true);
SET search_path = acme, public;
-- What is asked for is of one tenant.
SELECT tasks FROM tq_delete_all(everything => true, tenant => 'globex');
