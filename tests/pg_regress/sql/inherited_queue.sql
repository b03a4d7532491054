-- What the test suites of other queues assert, of one tenant: tests/INHERITED.md says of which, and what for.
-- Each case is a row: what came out is compared with what is expected, and only differences are shown.
\i sql/setup.psql
-- For retention, below: set now, so that every executor has heard of it by then.
ALTER SYSTEM SET tenant_q.retention_every = 1;
SELECT pg_reload_conf();
CREATE ROLE owner LOGIN;
CREATE SCHEMA acme AUTHORIZATION owner;
SELECT tq_attach('acme');
SET ROLE owner;
SET search_path = acme, public;
CREATE TABLE cases (n serial, family text, label text, expected text, actual text);
CREATE TABLE log (n serial, what text, who uuid DEFAULT (tq_current()).id, began timestamptz, ended timestamptz);
CREATE TABLE door ();

-- Handlers. note keeps what it is told; bang fails, up to an attempt; held waits until somebody has locked the door.
CREATE FUNCTION count_letters(t text) RETURNS int LANGUAGE sql AS $$ SELECT length(t) $$;
CREATE FUNCTION note(what text) RETURNS text LANGUAGE sql AS $$ INSERT INTO log (what) VALUES (note.what) RETURNING what $$;
CREATE FUNCTION no_value() RETURNS int LANGUAGE sql AS $$ SELECT NULL::int $$;
CREATE FUNCTION void() RETURNS void LANGUAGE sql AS $$ $$;
CREATE FUNCTION empty_list() RETURNS int[] LANGUAGE sql AS $$ SELECT '{}'::int[] $$;
CREATE FUNCTION floor_of(x numeric) RETURNS int LANGUAGE sql AS $$ SELECT floor(x)::int $$;
CREATE FUNCTION add(x int, y int DEFAULT 1) RETURNS int LANGUAGE sql AS $$ SELECT x + y $$;
CREATE FUNCTION bang(code text, before int DEFAULT 1000) RETURNS text LANGUAGE plpgsql AS $$ DECLARE try int := (tq_current()).attempt; BEGIN
    PERFORM note('lost');
    IF try < before THEN RAISE EXCEPTION 'Try %', try - 1 USING ERRCODE = code; END IF;
    RETURN 'Try ' || try - 1;
END $$;
CREATE FUNCTION napping(seconds float8) RETURNS void LANGUAGE sql AS $$ SELECT pg_sleep(seconds) $$;
CREATE FUNCTION postponing(delay interval, times int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN
    IF (tq_current()).attempt <= times THEN PERFORM tq_retry(delay, 'later'); END IF; RETURN (tq_current()).attempt; END $$;
CREATE FUNCTION giving_up() RETURNS void LANGUAGE sql AS $$ SELECT tq_fail('no use') $$;
CREATE FUNCTION told(task jsonb) RETURNS void LANGUAGE sql AS $$ SELECT note(concat_ws(' ', 'told', task ->> 'name', task ->> 'state')) $$;
CREATE FUNCTION broken_hook(task jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'broken hook'; END $$;
CREATE FUNCTION held(what text) RETURNS void LANGUAGE plpgsql AS $$ DECLARE t timestamptz := clock_timestamp(); BEGIN
    WHILE NOT EXISTS (SELECT FROM pg_locks WHERE relation = 'door'::regclass) LOOP PERFORM pg_sleep(0.01); END LOOP;
    INSERT INTO log (what, began, ended) VALUES (held.what, t, clock_timestamp()); END $$;
CREATE FUNCTION again(times int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN
    IF times > 0 THEN PERFORM tq_async('again', jsonb_build_array(times - 1), delay => '1 hour', name => 'again'); END IF;
    IF times = 7 THEN RAISE EXCEPTION 'lucky'; END IF;
    RETURN times; END $$;
SELECT bool_and(tq_register(f)) FROM unnest('{count_letters,note,no_value,void,empty_list,floor_of,add,bang,napping,postponing,giving_up,told,broken_hook,held,again}'::text[]) f;
SELECT tq_register('told', max_attempts => 1), tq_register('broken_hook', max_attempts => 1);

-- What a call raises; 'no error' where it raises none.
CREATE FUNCTION said(call text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'SELECT ' || call; RETURN 'no error'; EXCEPTION WHEN OTHERS THEN RETURN SQLSTATE; END $$;
-- Runs all that is due within a year, here; how many attempts that were.
CREATE FUNCTION drain(later interval DEFAULT '1 year') RETURNS bigint LANGUAGE sql AS $$ SELECT count(*) FROM tq_drain(NULL, now() + later) $$;
-- Enqueues a task object, runs it to its end, and tells the end, the attempts and how each of them went.
CREATE FUNCTION played(task jsonb) RETURNS text LANGUAGE plpgsql AS $$ DECLARE it uuid := (SELECT i FROM tq_async_many(jsonb_build_array(task)) i); BEGIN
    PERFORM drain();
    RETURN (SELECT concat_ws(' ', state, attempt, (SELECT string_agg(outcome || coalesce(':' || sqlstate, ''), ' ' ORDER BY a.attempt) FROM tq_attempts(it) a)) FROM tq_fetch(it)); END $$;

-- Results
INSERT INTO cases (family, label, expected, actual) VALUES
    ('results', 'a sync call has its result at once', '1506', tq_result(tq_async('count_letters', jsonb_build_array(repeat('x', 1506)), sync => true))::text),
    ('results', 'a failing sync call raises what its handler raised', 'XY123', said($$tq_async('bang', '["XY123"]', sync => true)$$)),
    ('results', 'and leaves nothing', '0 0', (SELECT (SELECT count(*) FROM tq_tasks) || ' ' || (SELECT count(*) FROM log))),
    ('results', 'a handler that nobody has registered', '42704', said($$tq_async('no_such_handler')$$)),
    ('results', 'too many arguments', '54023', said($$tq_async('count_letters', '["a", "b"]')$$)),
    ('results', 'no arguments where one is needed', '22023', said($$tq_async('count_letters')$$)),
    ('results', 'a negative wait', '22023', said($$tq_result('01900000-0000-7000-8000-000000000001', wait => '-1 s')$$));
SELECT tq_async('empty_list') AS empty, tq_async('no_value') AS null, tq_async('void') AS void \gset
INSERT INTO cases (family, label, expected, actual) VALUES
    ('results', 'an empty list is a result, however long one would wait', '[]', tq_result(:'empty', wait => '1 hour')::text),
    ('results', 'so is null', 'null', tq_result(:'null', wait => '1 hour')::text),
    ('results', 'so is nothing', 'null done', tq_result(:'void', wait => '1 hour')::text || (SELECT ' ' || state FROM tq_fetch(:'void')));
SELECT tq_async('add', '[1]', delay => '1 hour', name => 'later', group_id => 'later') AS later \gset
INSERT INTO cases (family, label, expected, actual) VALUES
    ('results', 'unfinished: no result, none of its group, none finished', 't t 0 delayed', concat_ws(' ', tq_result(:'later', wait => '10 ms') IS NULL, tq_result_group('later', count => 2, wait => '10 ms') IS NULL, tq_count_group('later'), (SELECT state FROM tq_fetch(:'later')))),
    ('results', 'by its name it is the same task', 'true', (tq_find('later') = :'later')::text);
SELECT tq_cancel(:'later');

-- Attempts: a task, how it ends, after how many attempts of what outcome.
INSERT INTO cases (family, label, expected, actual) SELECT 'attempts', label, expected, played(task::jsonb) FROM (VALUES
    ('three attempts', 'failed 3 failed:XX001 failed:XX001 failed:XX001', '{"handler": "bang", "args": ["XX001"], "max_attempts": 3}'),
    ('three by default', 'failed 3 failed:XX001 failed:XX001 failed:XX001', '{"handler": "bang", "args": ["XX001"]}'),
    ('one attempt is one', 'failed 1 failed:XX001', '{"handler": "bang", "args": ["XX001"], "max_attempts": 1}'),
    ('one that times out, too', 'failed 1 timeout:57014', '{"handler": "napping", "args": [60], "timeout": "20 ms", "max_attempts": 1}'),
    ('three retries are four attempts', 'failed 4 failed:XX001 failed:XX001 failed:XX001 failed:XX001', '{"handler": "bang", "args": ["XX001"], "max_attempts": 4, "retry": {"kind": "dramatiq"}}'),
    ('five retries are six attempts', 'failed 6 failed:XX001 failed:XX001 failed:XX001 failed:XX001 failed:XX001 failed:XX001', '{"handler": "bang", "args": ["XX001"], "max_attempts": 6, "retry": {"kind": "procrastinate"}}'),
    ('no bound at all', 'done 9 failed:XX001 failed:XX001 failed:XX001 failed:XX001 failed:XX001 failed:XX001 failed:XX001 failed:XX001 done', '{"handler": "bang", "args": ["XX001", 9], "max_attempts": 0}'),
    ('well at the third', 'done 3 failed:XX001 failed:XX001 done', '{"handler": "bang", "args": ["XX001", 3], "max_attempts": 10, "name": "third"}'),
    ('well at the last', 'done 3 failed:XX001 failed:XX001 done', '{"handler": "bang", "args": ["XX001", 3], "max_attempts": 3}'),
    ('well at the first', 'done 1 done', '{"handler": "bang", "args": ["XX001", 1]}'),
    ('an error that is worth retrying', 'failed 4 failed:XR001 failed:XR001 failed:XR001 failed:XR001', '{"handler": "bang", "args": ["XR001"], "max_attempts": 4, "retry": {"kind": "fixed", "retry_on": ["XR"]}}'),
    ('one that is not', 'failed 1 failed:XV001', '{"handler": "bang", "args": ["XV001"], "max_attempts": 4, "retry": {"kind": "fixed", "retry_on": ["XR"]}}'),
    ('one that is never', 'failed 1 failed:XT001', '{"handler": "bang", "args": ["XT001"], "max_attempts": 4, "retry": {"kind": "fixed", "never_on": ["XT001"]}}'),
    ('only timeouts are retried: an error', 'failed 1 failed:XX001', '{"handler": "bang", "args": ["XX001"], "max_attempts": 3, "retry": {"kind": "fixed", "retry_on": ["57014"]}}'),
    ('only timeouts are retried: a timeout', 'failed 3 timeout:57014 timeout:57014 timeout:57014', '{"handler": "napping", "args": [60], "timeout": "20 ms", "max_attempts": 3, "retry": {"kind": "fixed", "retry_on": ["57014"]}}'),
    ('a handler that asks for another attempt gets it', 'done 3 retry:TQ001 retry:TQ001 done', '{"handler": "postponing", "args": ["2 hours", 2]}'),
    ('as long as attempts are left', 'failed 2 retry:TQ001 retry:TQ001', '{"handler": "postponing", "args": ["2 hours", 9], "max_attempts": 2}'),
    ('one that gives up gets none', 'failed 1 failed:TQ003', '{"handler": "giving_up", "max_attempts": 5}')) AS v (label, expected, task);
INSERT INTO cases (family, label, expected, actual) VALUES
    ('attempts', 'each attempt knows its number', 'Try 0, Try 1, "Try 2"', (SELECT string_agg(message, ', ' ORDER BY attempt) FROM tq_attempts(tq_find('third'))) || ', ' || tq_result(tq_find('third'))::text),
    ('attempts', 'nothing is left of those that failed', '4', (SELECT count(*) FROM log WHERE what = 'lost')::text),
    ('attempts', 'nothing is left in the queue', '0', (SELECT count(*) FROM tq_tasks)::text);
-- When the next one is due.
CREATE FUNCTION due_in(task jsonb) RETURNS interval LANGUAGE plpgsql AS $$ DECLARE id uuid := (SELECT i FROM tq_async_many(jsonb_build_array(task)) i); t interval; BEGIN
    PERFORM drain('0');
    SELECT run_at - clock_timestamp() INTO t FROM tq_fetch(id) WHERE state = 'retrying';
    PERFORM tq_cancel(id);
    RETURN t; END $$;
INSERT INTO cases (family, label, expected, actual) VALUES
    ('attempts', 'the delay that a handler asks for, whatever its policy', 'true', (due_in('{"handler": "postponing", "args": ["2 hours", 1], "retry": {"kind": "fixed", "base": 1}}') BETWEEN '1 hour 59 minutes' AND '2 hours')::text),
    ('attempts', 'its policy''s, where it asks for none', 'true', (due_in('{"handler": "postponing", "args": [null, 1], "retry": {"kind": "fixed", "base": 7200}}') BETWEEN '1 hour 59 minutes' AND '2 hours')::text);

-- Delays without chance: preset, parameters, seconds after each attempt.
INSERT INTO cases (family, label, expected, actual)
SELECT 'delays', label, expected, (SELECT string_agg((tenant_q.backoff_delay(policy, n)::float8)::text, ' ' ORDER BY n) FROM generate_series(1, array_length(string_to_array(expected, ' '), 1)) n) FROM (VALUES
    ('celery', '1 2 4 8 16 32 64 128 256 512 600 600', tq_backoff('celery')), ('celery, factor 5', '5 10 20 40 80 160 320 600 600', tq_backoff('celery', factor => 5)), ('celery, at most 30', '7 14 28 30 30', tq_backoff('celery', '7 s', cap => '30 s')), ('celery, factor above the cap', '600 600', tq_backoff('celery', '700 s', cap => '600 s')), ('celery, above the cap that nobody asked for', '700 700', tq_backoff('celery', '700 s')),
    ('dramatiq', '15 30 60 120 240 480 960 1920 3840 7680 15360 30720 61440 122880 245760 491520 604800 604800', tq_backoff('dramatiq')), ('dramatiq, from 1 to 5', '1 2 4 5 5', tq_backoff('dramatiq', '1 s', cap => '5 s')),
    ('rq, at once', '0 0 0', tq_backoff('rq')), ('rq, one interval', '60 60 60', tq_backoff('rq', delays => '{60 s}')), ('rq, a list, without a limit its last one for the rest', '5 10 15 15 15', tq_backoff('rq', delays => '{5 s,10 s,15 s}')),
    ('procrastinate, at once', '0 0 0', tq_backoff('procrastinate')), ('procrastinate, a constant', '3 3 3 3 3', tq_backoff('procrastinate', '3 s')), ('procrastinate, exponential', '3 9 27 81 243', tq_backoff('procrastinate', factor => 3)), ('procrastinate, linear', '0 3 6 9 12', tq_backoff('procrastinate', linear => '3 s')),
    ('django-q: the same each time', '60 60 60', tq_backoff('fixed', '60 s')), ('ours', '15 30 60 120 240 480 960 1920 3600 3600', NULL::jsonb)) AS v (label, expected, policy);
-- RQ's list ends with the last attempt.
INSERT INTO cases (family, label, expected, actual)
SELECT 'delays', 'rq, ' || most || ' attempts', expected, (SELECT string_agg((tenant_q.backoff_delay(tq_backoff('rq', delays => '{1 s,2 s,3 s}'), n, most)::float8)::text, ' ' ORDER BY n) FROM generate_series(1, most - 1) n)
  FROM (VALUES (2, '3'), (3, '2 3'), (4, '1 2 3'), (5, '1 1 2 3'), (6, '1 1 1 2 3')) AS v (most, expected);
INSERT INTO cases (family, label, expected, actual) VALUES
    ('delays', 'rq, the second of three attempts', 'true', (due_in('{"handler": "bang", "args": ["XX001"], "max_attempts": 3, "retry": {"kind": "rq", "delays": [3600, 7200, 10800]}}') BETWEEN '1 hour 59 minutes' AND '2 hours')::text);
-- With chance: dramatiq doubles at most, celery takes anything up to the delay, ours a tenth more or less.
CREATE TABLE drawn AS SELECT kind, due_in(jsonb_build_object('handler', 'bang', 'args', '["XX001"]'::jsonb, 'retry', policy)) AS delay
  FROM (VALUES ('dramatiq', tq_backoff('dramatiq', '1000 s')), ('celery', tq_backoff('celery', '1000 s', cap => '1 day')), ('ours', tq_backoff('exponential', '1000 s'))) AS v (kind, policy), generate_series(1, 100);
INSERT INTO cases (family, label, expected, actual)
SELECT 'delays', kind || ', chance', 't t t', concat_ws(' ', min(delay) >= low * interval '1 s' - interval '10 s', max(delay) <= high * interval '1 s', max(delay) - min(delay) > (high - low) * interval '0.5 s')
  FROM drawn JOIN (VALUES ('dramatiq', 1000, 2000), ('celery', 0, 1000), ('ours', 900, 1100)) AS v (kind, low, high) USING (kind) GROUP BY kind, low, high;

-- Order: higher priorities first, whoever came first; among equals whoever came first.
CREATE FUNCTION order_of(tasks jsonb, later interval) RETURNS text LANGUAGE plpgsql AS $$ DECLARE before int := (SELECT coalesce(max(n), 0) FROM log); BEGIN
    PERFORM tq_async_many((SELECT coalesce(jsonb_agg(t || '{"handler": "note"}' ORDER BY o), '[]') FROM jsonb_array_elements(tasks) WITH ORDINALITY AS x (t, o)));
    PERFORM drain(later);
    RETURN (SELECT string_agg(what, ' ' ORDER BY n) FROM log WHERE n > before); END $$;
INSERT INTO cases (family, label, expected, actual) SELECT 'order', label, expected, order_of(tasks::jsonb, later) FROM (VALUES
    ('5, 7, 6', '7 6 5', '[{"args": "5", "priority": 5}, {"args": "7", "priority": 7}, {"args": "6", "priority": 6}]', interval '0'),
    ('the default is 0', 'one default minus', '[{"args": "minus", "priority": -1}, {"args": "default"}, {"args": "one", "priority": 1}]', interval '0'),
    ('equals', 'a b c', '[{"args": "a"}, {"args": "b"}, {"args": "c"}]', interval '0'),
    ('the earlier due one of equals', 'b a', '[{"args": "a", "delay": "2 hours"}, {"args": "b", "delay": "1 hour"}]', '1 day'),
    ('a lock doesn''t change it', 'high low', '[{"args": "low", "lock": "l"}, {"args": "high", "lock": "l", "priority": 9}]', interval '0'),
    ('a task due later doesn''t hold up one of its lock that is due', 'now', '[{"args": "later", "lock": "l", "delay": "1 hour", "priority": 9}, {"args": "now", "lock": "l"}]', '0'),
    ('and has its turn', 'later', '[]', '1 day')) AS v (label, expected, tasks, later);

-- Groups: five that end well, one that doesn't.
SELECT count(tq_async('add', jsonb_build_array(n), group_id => 'six')) FROM generate_series(5, 1, -1) n;
SELECT tq_async('bang', '["XX001"]', group_id => 'six', max_attempts => 1) AS bad, tq_async('add', '[41]', group_id => 'one', name => 'one') AS one \gset
SELECT tq_result_group('six', count => 6, wait => '20 s') IS NOT NULL, tq_result(:'one', wait => '20 s');
-- In this order: what is deleted is gone for those behind.
CREATE TABLE calls (n serial, family text, label text, expected text, call text);
CREATE FUNCTION answer(call text) RETURNS text LANGUAGE plpgsql AS $$ DECLARE t text; BEGIN EXECUTE 'SELECT (' || call || ')::text' INTO t; RETURN t; EXCEPTION WHEN OTHERS THEN RETURN SQLSTATE; END $$;
INSERT INTO calls (family, label, expected, call) VALUES
    ('groups', 'one: its results', '[42]', $$tq_result_group('one')$$), ('groups', 'one: the same with failures, where none has failed', '[42]', $$tq_result_group('one', failures => true)$$), ('groups', 'one: how many', '1', $$tq_count_group('one')$$),
    ('groups', 'one: how many failures', '0', $$tq_count_group('one', failures => true)$$), ('groups', 'one: dissolved', '1', $$tq_delete_group('one')$$), ('groups', 'one: dissolved already', '0', $$tq_delete_group('one')$$),
    ('groups', 'one: its task is kept, without the group', 'done t', $$SELECT concat_ws(' ', state, group_id IS NULL) FROM tq_fetch(tq_find('one'))$$),
    ('groups', 'six: how many', '6', $$tq_count_group('six')$$), ('groups', 'six: how many failures', '1', $$tq_count_group('six', failures => true)$$), ('groups', 'six: results, in the order of enqueuing', '[6, 5, 4, 3, 2]', $$tq_result_group('six')$$),
    ('groups', 'six: with failures', '6', $$jsonb_array_length(tq_result_group('six', failures => true))$$), ('groups', 'six: whole tasks', '6', $$SELECT count(*) FROM tq_fetch_group('six')$$), ('groups', 'six: whole tasks without failures', '5', $$SELECT count(*) FROM tq_fetch_group('six', failures => false)$$),
    ('groups', 'six: at least four are there', '5', $$jsonb_array_length(tq_result_group('six', count => 4))$$), ('groups', 'six: seven are not', NULL, $$tq_result_group('six', count => 7)$$), ('groups', 'six: seven are not, as tasks', '0', $$SELECT count(*) FROM tq_fetch_group('six', count => 7)$$),
    ('groups', 'six: deleted with its tasks', '6', $$tq_delete_group('six', tasks => true)$$), ('groups', 'six: none left', '0', $$tq_count_group('six')$$), ('groups', 'six: no results left', NULL, $$tq_result_group('six')$$), ('groups', 'six: no task left', '0', $$SELECT count(*) FROM tq_fetch('$$ || :'bad' || $$')$$),
    ('groups', 'nobody''s', '0', $$tq_count_group('nobody''s')$$), ('groups', 'without a name', '22004', $$tq_count_group(NULL)$$);
INSERT INTO cases (family, label, expected, actual) SELECT family, label, expected, answer(call) FROM calls ORDER BY n;
TRUNCATE calls;

-- Kept results: not those of tasks that save nothing, unless they fail; deleted ones are gone.
SELECT tq_async('add', '[1]', save => false) AS unsaved, tq_async('bang', '["XX001"]', save => false, max_attempts => 1) AS failed, tq_async('add', '[1]') AS saved \gset
SELECT test.await('NOT EXISTS (SELECT FROM acme.tq_task)');
INSERT INTO cases (family, label, expected, actual) VALUES
    ('kept', 'nothing of one that saves nothing, even after waiting', '0', (SELECT count(*) FROM tq_fetch(:'unsaved', wait => '20 ms'))::text), ('kept', 'it is unknown', 'P0002', answer(format('tq_result(%L)', :'unsaved'))), ('kept', 'its failure is', '1', (SELECT count(*) FROM tq_fetch(:'failed'))::text),
    ('kept', 'a result can be deleted', 'true', tq_delete(:'saved')::text), ('kept', 'and is gone', '0', (SELECT count(*) FROM tq_fetch(:'saved'))::text), ('kept', 'and can''t again', 'false', tq_delete(:'saved')::text);

-- Run again: a failure's result goes, and the same task is in the queue; so with a success.
SELECT tq_async('bang', '["XX001", 2]', max_attempts => 1) AS failed, tq_async('add', '[1]') AS done \gset
SELECT test.await('NOT EXISTS (SELECT FROM acme.tq_task)');
SELECT tq_pause();
INSERT INTO calls (family, label, expected, call) SELECT 'again', label, expected, format(call, :'failed', :'done') FROM (VALUES
    (1, 'a failure', 'failed', $$SELECT state FROM tq_fetch('%1$s')$$), (2, 'is put back', 'true', $$tq_requeue('%1$s', reset_attempts => false)$$), (3, 'and isn''t among the results', '0', $$SELECT count(*) FROM tq_results WHERE id = '%1$s'$$), (4, 'but in the queue', 'retrying', $$SELECT state FROM tq_tasks WHERE id = '%1$s'$$),
    (5, 'a success, too', 'true', $$tq_requeue('%2$s')$$), (6, 'with other arguments, but it is in the queue', 'false', $$tq_requeue('%2$s', args => '[5]')$$)) AS v (n, label, expected, call) ORDER BY n;
SET client_min_messages = warning;
INSERT INTO cases (family, label, expected, actual) SELECT family, label, expected, answer(call) FROM calls ORDER BY n;
RESET client_min_messages;
TRUNCATE calls;
SELECT tq_resume();
SELECT test.await('NOT EXISTS (SELECT FROM acme.tq_task)');
INSERT INTO cases (family, label, expected, actual) VALUES
    ('again', 'what happened before is kept', 'failed done "Try 1"', (SELECT string_agg(outcome, ' ' ORDER BY started_at) FROM tq_attempts(:'failed')) || ' ' || tq_result(:'failed')::text), ('again', 'the success has its result again', '2', tq_result(:'done')::text),
    ('again', 'one that nobody knows', 'false', tq_requeue('01900000-0000-7000-8000-00000000ffff')::text);

-- Purging: age and state of what is there, what is asked for, what goes.
CREATE FUNCTION purged(older interval, states text[]) RETURNS text LANGUAGE plpgsql AS $$ DECLARE t text; BEGIN
    PERFORM tq_delete(id) FROM tq_results;
    PERFORM tq_async('add', '[1]', name => 'done'), tq_async('bang', '["XX001"]', name => 'failed', max_attempts => 1), tq_async('add', '[1]', name => 'expired', expires => '0');
    PERFORM tq_cancel(tq_async('add', '[1]', name => 'cancelled'));
    PERFORM drain('1 s');
    UPDATE tq_result SET finished_at = now() - interval '2 hours';
    PERFORM tq_async('add', '[1]', name => 'young');
    PERFORM drain('1 s');
    PERFORM tq_async('add', '[1]', name => 'waits', run_at => now() + interval '1 hour');
    PERFORM tq_purge(older, states);
    t := (SELECT string_agg(name, ' ' ORDER BY name) FROM (SELECT name FROM tq_results UNION ALL SELECT name FROM tq_tasks) x);
    PERFORM tq_cancel(tq_find('waits'));
    RETURN t; END $$;
INSERT INTO cases (family, label, expected, actual) SELECT 'purge', label, expected, purged(older, states) FROM (VALUES
    ('successes of two hours ago', 'cancelled expired failed waits young', interval '1 hour', '{done}'::text[]), ('none is three hours old', 'cancelled done expired failed waits young', '3 hours', NULL), ('failures, if asked for', 'cancelled expired waits young', '1 hour', '{done,failed}'), ('only failures', 'cancelled done expired waits young', '1 hour', '{failed}'),
    ('only cancelled and expired', 'done failed waits young', '1 hour', '{cancelled,expired}'), ('everything old', 'waits young', '1 hour', NULL), ('everything, but never what is unfinished', 'waits', '0', NULL)) AS v (label, expected, older, states);
INSERT INTO cases (family, label, expected, actual) VALUES ('purge', 'a state that nothing can end in', '22023', said($$tq_purge('0', '{running}')$$)), ('purge', 'a negative age', '22023', said($$tq_purge('-1 s')$$));
-- One queue only: that is SQL.
SELECT tq_async('add', '[1]', queue => 'a') AS a, tq_async('add', '[1]', queue => 'b') AS b \gset
SELECT test.await('NOT EXISTS (SELECT FROM acme.tq_task)');
SELECT count(tq_delete(id)) FROM tq_results WHERE queue = 'a';
INSERT INTO cases (family, label, expected, actual) VALUES ('purge', 'one queue''s, and no other''s', '0 1', (SELECT (SELECT count(*) FROM tq_fetch(:'a')) || ' ' || (SELECT count(*) FROM tq_fetch(:'b'))));

-- Flows. Members in the order of input, whoever ends first; steps one after the other; what isn't finished has no result.
CREATE FUNCTION ended(flow uuid) RETURNS text LANGUAGE sql AS $$ SELECT concat_ws(' ', f.state, f.result, (SELECT string_agg(m.state || ':' || m.attempt, ' ' ORDER BY m.id) FROM tq_results m WHERE m.parent_id = flow)) FROM tq_fetch(flow) f $$;
CREATE FUNCTION flown(kind text, members jsonb, rest jsonb, how text DEFAULT 'stop', pass bool DEFAULT false) RETURNS text LANGUAGE plpgsql AS $$ DECLARE id uuid; unfinished bool; BEGIN
    id := CASE kind WHEN 'chain' THEN tq_chain(members, pass, how, rest) WHEN 'group' THEN tq_group(members, rest)
          ELSE tq_async_iter('floor_of', (SELECT array_agg(m ORDER BY o) FROM jsonb_array_elements(members) WITH ORDINALITY AS x (m, o)), (rest ->> 'chunk')::int, rest - 'chunk') END;
    unfinished := tq_result(id) IS NULL;
    PERFORM drain();
    RETURN concat_ws(' ', CASE WHEN NOT unfinished THEN 'a result too early' END, ended(id)); END $$;
INSERT INTO cases (family, label, expected, actual) SELECT 'flows', label, expected, flown(kind, members::jsonb, rest::jsonb, how, pass) FROM (VALUES
    ('an iteration of ten', 'done [0, 1, 2, 3, 4, 5, 6, 7, 8, 9] done:1 done:1 done:1 done:1 done:1 done:1 done:1 done:1 done:1 done:1', 'iter', '[0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5, 8.5, 9.5]', '{"chunk": 1}', 'stop', false),
    ('in chunks of four', 'done [0, 1, 2, 3, 4, 5, 6, 7, 8, 9] done:1 done:1 done:1', 'iter', '[0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5, 8.5, 9.5]', '{"chunk": 4}', 'stop', false),
    ('a chain of three', 'done [2, 3, 4] done:1 done:1 done:1', 'chain', '[{"handler": "add", "args": [1]}, {"handler": "add", "args": [2]}, {"handler": "add", "args": [3]}]', NULL, 'stop', false),
    ('whose second step fails', 'failed [2, null, null] done:1 failed:1 cancelled:0', 'chain', '[{"handler": "add", "args": [1]}, {"handler": "bang", "args": ["XX001"], "max_attempts": 1}, {"handler": "add", "args": [3]}]', NULL, 'stop', false),
    ('going on all the same', 'done [2, null, 4] done:1 failed:1 done:1', 'chain', '[{"handler": "add", "args": [1]}, {"handler": "bang", "args": ["XX001"], "max_attempts": 1}, {"handler": "add", "args": [3]}]', NULL, 'continue', false),
    ('whose first step takes three attempts: the second has one', 'done ["Try 2", 3] done:3 done:1', 'chain', '[{"handler": "bang", "args": ["XX001", 3]}, {"handler": "add", "args": [2]}]', NULL, 'stop', false),
    ('results passed on, as the last argument', 'done [3, 13, 18] done:1 done:1 done:1', 'chain', '[{"handler": "add", "args": [1, 2]}, {"handler": "add", "args": [10]}, {"handler": "add", "args": [5]}]', NULL, 'stop', true),
    ('results not passed on', 'done [3, 11, 6] done:1 done:1 done:1', 'chain', '[{"handler": "add", "args": [1, 2]}, {"handler": "add", "args": [10]}, {"handler": "add", "args": [5]}]', NULL, 'stop', false),
    ('a group, the first ends last', 'done [2, 3, 4] done:1 done:1 done:1', 'group', '[{"handler": "add", "args": [1], "delay": "3 hours"}, {"handler": "add", "args": [2], "delay": "2 hours"}, {"handler": "add", "args": [3], "priority": 9}]', NULL, 'stop', false),
    ('one of which fails', 'failed [2, null] done:1 failed:1', 'group', '[{"handler": "add", "args": [1]}, {"handler": "bang", "args": ["XX001"], "max_attempts": 1}]', NULL, 'stop', false),
    ('and may', 'done [2, null] done:1 failed:1', 'group', '[{"handler": "add", "args": [1]}, {"handler": "bang", "args": ["XX001"], "max_attempts": 1}]', '{"allow_failure": true}', 'stop', false),
    ('a name of a handler is a member, too', 'done [null] done:1', 'group', '["void"]', NULL, 'stop', false)) AS v (label, expected, kind, members, rest, how, pass);
INSERT INTO cases (family, label, expected, actual) SELECT 'flows', label, '[]', answer(format('SELECT tq_result(%s)', call)) FROM (VALUES ('an empty chain', $$tq_chain('[]')$$), ('an empty group', $$tq_group('[]')$$), ('an empty iteration', $$tq_async_iter('add', '{}')$$)) AS v (label, call);
-- A barrier: what comes after a group comes once, when the last of it has ended, and not before.
SELECT tq_pause();
SELECT tq_group('[{"handler": "add", "args": [1]}, {"handler": "add", "args": [2], "delay": "1 day"}]', '{"id": "01900000-0000-7000-8000-0000000000b1", "name": "barrier", "on_success": "told"}') AS barrier \gset
INSERT INTO calls (family, label, expected, call) SELECT 'flows', label, expected, format(call, :'barrier') FROM (VALUES
    (1, 'a barrier made twice is one', '%1$s', $$tq_group('["void"]', '{"id": "%1$s"}')$$), (2, 'it has its first two members', '2', $$SELECT count(*) FROM tq_tasks WHERE parent_id = '%1$s'$$)) AS v (n, label, expected, call) ORDER BY n;
UPDATE calls SET expected = format(expected, :'barrier');
INSERT INTO cases (family, label, expected, actual) SELECT family, label, expected, answer(call) FROM calls ORDER BY n;
TRUNCATE calls;
TRUNCATE log;
BEGIN;
SELECT tq_resume();
INSERT INTO cases (family, label, expected, actual) SELECT 'flows', 'the first of two comes to the barrier: ' || what, expected, actual FROM (VALUES ('one attempt', '1', drain('0')::text)) v (what, expected, actual);
INSERT INTO cases (family, label, expected, actual) VALUES ('flows', 'nothing is told yet', '0', (SELECT count(*) FROM log)::text), ('flows', 'it isn''t finished', NULL, tq_result(:'barrier')::text);
INSERT INTO cases (family, label, expected, actual) VALUES ('flows', 'the second comes, and it is told', '2', drain('2 days')::text);
INSERT INTO cases (family, label, expected, actual) VALUES ('flows', 'once', 'told barrier done', (SELECT string_agg(what, ', ') FROM log)), ('flows', 'it is finished', '[2, 3]', tq_result(:'barrier')::text);
COMMIT;
-- The first step's own delay, else the chain's; a later step's counts from the end of the one before, and its expiry from then.
SELECT tq_chain('["void", {"handler": "void", "delay": "30 minutes", "expires": "1 minute"}, "void"]', task => '{"delay": "1 hour"}') AS slow \gset
CREATE FUNCTION steps(chain uuid) RETURNS text LANGUAGE sql AS $$ SELECT string_agg(date_trunc('minute', run_at - now() + interval '2 seconds')::text || coalesce(' to ' || (expires_at - run_at), ''), ', ' ORDER BY id) FROM tq_task WHERE parent_id = chain $$;
INSERT INTO cases (family, label, expected, actual) VALUES ('flows', 'delays of steps', '@ 1 hour, @ 0 to @ 1 min, @ 0', steps(:'slow'));
SELECT count(*) FROM tq_drain(as_of => now() + interval '61 minutes', max_tasks => 1);
INSERT INTO cases (family, label, expected, actual) VALUES ('flows', 'when the first has ended', '@ 30 mins to @ 1 min, @ 0', steps(:'slow'));
SELECT state FROM tq_drain(as_of => now() + interval '30 minutes 30 seconds');
INSERT INTO cases (family, label, expected, actual) VALUES ('flows', 'and all of them', 'done', (SELECT state FROM tq_fetch(:'slow')));
SELECT tq_chain('["void", {"handler": "void", "delay": "1 hour"}]') AS slow \gset
SELECT test.await(format('(SELECT count(*) = 1 FROM tq_task WHERE parent_id = %L AND run_at > now() + interval ''59 minutes'')', :'slow'));
SELECT tq_cancel(:'slow');
-- Waiting for a group that takes longer gives nothing, and stops nothing.
SELECT tq_group('[{"handler": "add", "args": [1], "delay": "1 hour"}]') AS slow \gset
INSERT INTO cases (family, label, expected, actual) VALUES ('flows', 'waiting in vain', NULL, tq_result(:'slow', wait => '20 ms')::text), ('flows', 'it goes on', 'deferred', (SELECT state FROM tq_fetch(:'slow')));
INSERT INTO cases (family, label, expected, actual) VALUES ('flows', 'it can be cancelled', 'true', tq_cancel(:'slow')::text);
INSERT INTO cases (family, label, expected, actual) VALUES ('flows', 'with its members', '0', (SELECT count(*) FROM tq_tasks)::text);

-- Hooks: on which ends they are called, once each; a broken one changes nothing of what it is told of.
CREATE FUNCTION hooked(task jsonb) RETURNS text LANGUAGE plpgsql AS $$ DECLARE id uuid; BEGIN
    TRUNCATE log;
    id := (SELECT i FROM tq_async_many(jsonb_build_array(task || '{"name": "t"}')) i);
    IF task ? 'delay' THEN PERFORM tq_cancel(id); END IF;
    PERFORM drain();
    RETURN (SELECT state FROM tq_fetch(id)) || coalesce((SELECT ': ' || string_agg(what, ', ' ORDER BY n) FROM log WHERE what <> 'lost'), ''); END $$;
INSERT INTO cases (family, label, expected, actual) SELECT 'hooks', label, expected, hooked(task::jsonb) FROM (VALUES
    ('success, asked for success', 'done: told t done', '{"handler": "add", "args": [1], "on_success": "told"}'), ('success, asked for failure', 'done', '{"handler": "add", "args": [1], "on_failure": "told"}'), ('success, asked for either', 'done: told t done', '{"handler": "add", "args": [1], "hook": "told"}'),
    ('success at the third attempt, asked for failure', 'done', '{"handler": "bang", "args": ["XX001", 3], "on_failure": "told"}'), ('success at the third attempt, asked for success', 'done: told t done', '{"handler": "bang", "args": ["XX001", 3], "on_success": "told"}'),
    ('failure after all attempts, asked for failure', 'failed: told t failed', '{"handler": "bang", "args": ["XX001"], "on_failure": "told"}'), ('failure, asked for success', 'failed', '{"handler": "bang", "args": ["XX001"], "on_success": "told"}'), ('failure, asked for either', 'failed: told t failed', '{"handler": "bang", "args": ["XX001"], "hook": "told"}'),
    ('expired, asked for failure', 'expired', '{"handler": "add", "args": [1], "expires": "0", "on_failure": "told"}'), ('expired, asked for either', 'expired: told t expired', '{"handler": "add", "args": [1], "expires": "0", "hook": "told"}'), ('cancelled, asked for either', 'cancelled: told t cancelled', '{"handler": "add", "args": [1], "delay": "1 hour", "hook": "told"}'),
    ('a broken hook of a success', 'done', '{"handler": "add", "args": [1], "on_success": "broken_hook"}'), ('a broken hook of a failure', 'failed', '{"handler": "bang", "args": ["XX001"], "max_attempts": 1, "on_failure": "broken_hook"}')) AS v (label, expected, task);
INSERT INTO cases (family, label, expected, actual) VALUES ('hooks', 'the broken ones have failed themselves', '2', (SELECT count(*) FROM tq_results WHERE handler = 'broken_hook' AND state = 'failed')::text), ('hooks', 'one that is no handler', '42704', said($$tq_async('add', '[1]', on_success => 'nobody')$$));

-- Dependencies: how the parents end, what the dependent says, how it ends.
CREATE FUNCTION depended(parents text[], task jsonb) RETURNS text LANGUAGE plpgsql AS $$ DECLARE ids uuid[]; id uuid; p text; child uuid; BEGIN
    FOREACH p IN ARRAY parents LOOP
        id := CASE WHEN p LIKE 'ok%' OR p = 'deleted' THEN tq_async('add', '[1]') WHEN p = 'unsaved' THEN tq_async('add', '[1]', save => false) WHEN p = 'bad' THEN tq_async('bang', '["XX001"]', max_attempts => 2)
              WHEN p = 'third' THEN tq_async('bang', '["XX001", 3]') WHEN p = 'expired' THEN tq_async('add', '[1]', expires => '0') WHEN p = 'hook' THEN tq_async('add', '[1]', on_success => 'broken_hook') ELSE tq_async('add', '[1]', delay => '400 days') END;
        ids := ids || id;
        IF p = 'deleted' THEN PERFORM drain('0'), tq_delete(id); END IF;
        IF p = 'ok already' THEN PERFORM drain('0'); END IF;
    END LOOP;
    IF 'deleted' = ANY (parents) THEN RETURN said(format('tq_async(''add'', ''[1]'', depends_on => %L)', ids)); END IF;
    child := (SELECT i FROM tq_async_many(jsonb_build_array('{"handler": "add", "args": [7]}'::jsonb || jsonb_build_object('depends_on', ids) || task)) i);
    IF (SELECT state FROM tq_fetch(child)) NOT IN ('deferred', 'queued') THEN RETURN 'ran too early'; END IF;
    FOR n IN 1 .. cardinality(parents) LOOP IF parents[n] = 'cancelled' THEN PERFORM tq_cancel(ids[n]); END IF; END LOOP;
    PERFORM drain();
    p := (SELECT concat_ws(' ', state, attempt) FROM tq_fetch(child));
    PERFORM tq_cancel(i) FROM unnest(ids || child) i;
    RETURN p; END $$;
INSERT INTO cases (family, label, expected, actual) SELECT 'dependencies', label, expected, depended(parents, task::jsonb) FROM (VALUES
    ('done', 'done 1', '{ok}'::text[], '{}'), ('done before it was asked', 'done 1', '{ok already}', '{}'), ('done at the third attempt', 'done 1', '{third}', '{}'), ('failed', 'cancelled 0', '{bad}', '{}'), ('failed, and may', 'done 1', '{bad}', '{"allow_failure": true}'),
    ('two done', 'done 1', '{ok,ok}', '{}'), ('two, one isn''t finished', 'deferred 0', '{ok,never}', '{}'), ('two, one of which fails', 'cancelled 0', '{ok,bad}', '{}'), ('two, one of which may fail', 'done 1', '{bad,ok}', '{"allow_failure": true}'), ('cancelled', 'cancelled 0', '{cancelled}', '{}'), ('cancelled, and may', 'done 1', '{cancelled}', '{"allow_failure": true}'),
    ('expired', 'cancelled 0', '{expired}', '{}'), ('never finished', 'deferred 0', '{never}', '{}'), ('any of two, one of which fails', 'done 1', '{bad,ok}', '{"depends_mode": "any"}'), ('any of two, one of which isn''t finished', 'done 1', '{never,ok}', '{"depends_mode": "any"}'), ('any of two that fail', 'cancelled 0', '{bad,bad}', '{"depends_mode": "any"}'),
    ('done without a result kept', 'done 1', '{unsaved}', '{}'), ('its hook is broken', 'done 1', '{hook}', '{}'), ('deleted: nobody knows it', 'P0002', '{deleted}', '{}'), ('one with a key of its own', 'done 1', '{ok}', '{"unique_key": "d"}')) AS v (label, expected, parents, task);
-- Deleted while it was waited for: it counts as done.
SELECT tq_async('add', '[1]') AS first, tq_async('add', '[1]', delay => '400 days') AS second \gset
SELECT tq_result(:'first', wait => '20 s');
SELECT tq_async('add', '[7]', depends_on => ARRAY[:'first', :'second']::uuid[]) AS child \gset
SELECT tq_delete(:'first'), tq_update(:'second', run_at => now());
INSERT INTO cases (family, label, expected, actual) VALUES ('dependencies', 'deleted while the other one was waited for', '8', tq_result(:'child', wait => '20 s')::text);
-- Two dependents of one that fails: the one that may runs.
SELECT tq_async('bang', '["XX001"]', max_attempts => 1, delay => '200 ms') AS parent \gset
SELECT tq_async('add', '[1]', depends_on => ARRAY[:'parent']::uuid[]) AS strict, tq_async('add', '[1]', depends_on => ARRAY[:'parent']::uuid[], allow_failure => true) AS lenient \gset
SELECT state FROM tq_fetch(:'strict', wait => '20 s');
INSERT INTO cases (family, label, expected, actual) VALUES ('dependencies', 'of two dependents the one that allows it', 'cancelled done', (SELECT state FROM tq_fetch(:'strict')) || ' ' || (SELECT state FROM tq_fetch(:'lenient', wait => '20 s')));

-- Keys: one unfinished task holds one.
SELECT tq_async('add', '[1]', unique_key => 'a', delay => '1 hour') AS a, tq_async('add', '[2]', unique_key => 'b', delay => '1 hour') AS b \gset
INSERT INTO calls (family, label, expected, call) SELECT 'keys', label, format(expected, :'a', :'b'), format(call, :'a', :'b') FROM (VALUES
    (1, 'two keys, two tasks', '2', $$SELECT count(*) FROM tq_tasks$$), (2, 'a third task, a key that is taken', '23505', $$tq_async('add', '[3]', unique_key => 'a')$$), (3, 'asked to skip: the first one', '%1$s', $$tq_async('add', '[3]', unique_key => 'a', on_conflict => 'skip')$$),
    (4, 'which stays as it was', '[1] t', $$SELECT concat_ws(' ', args, run_at > now() + interval '50 minutes') FROM tq_fetch('%1$s')$$), (5, 'asked to skip, due earlier: the first one''s time stays, too', '%1$s', $$tq_async('add', '[3]', unique_key => 'a', on_conflict => 'skip', delay => '1 minute')$$),
    (6, 'really', 'true', $$SELECT run_at > now() + interval '50 minutes' FROM tq_fetch('%1$s')$$), (7, 'still two', '2', $$SELECT count(*) FROM tq_tasks$$), (8, 'asked to replace: under the same id', '%1$s', $$tq_async('add', '[4]', unique_key => 'a', on_conflict => 'replace', delay => '1 minute')$$),
    (9, 'with the new arguments', '[4]', $$SELECT args FROM tq_fetch('%1$s')$$), (10, 'cancelled, it holds nothing', 'true', $$tq_cancel('%1$s')$$), (11, 'so that another one can have it', 'true', $$tq_async('add', '[5]', unique_key => 'a', delay => '1 hour') IS NOT NULL$$),
    (12, 'it may depend on something', 'true', $$tq_async('add', '[5]', unique_key => 'c', depends_on => '{%2$s}') IS NOT NULL$$), (13, 'it needs no id of its own: the same id twice is one task', '%2$s', $$tq_async('add', '[9]', id => '%2$s')$$), (14, 'until when, without a key', '22023', $$tq_async('add', '[9]', unique_until => 'deleted')$$)) AS v (n, label, expected, call) ORDER BY n;
INSERT INTO cases (family, label, expected, actual) SELECT family, label, expected, answer(call) FROM calls ORDER BY n;
TRUNCATE calls;
SELECT count(tq_cancel(id)) FROM tq_tasks WHERE state <> 'deferred';
-- Until when: what another one gets while it waits for its retry, when it is done, when its result is deleted.
CREATE FUNCTION key_of(until text) RETURNS text LANGUAGE plpgsql AS $$ DECLARE it uuid := tq_async('bang', '["XX001", 2]', unique_key => 'k', unique_until => until); again text := format($f$tq_async('add', '[1]', unique_key => 'k', delay => '1 hour')$f$); said text[]; BEGIN
    said := ARRAY[said(again)]; PERFORM drain('0'); said := said || said(again); PERFORM drain(); said := said || said(again || ' WHERE true'); PERFORM tq_delete(it) WHERE EXISTS (SELECT FROM tq_results WHERE id = it); said := said || said(again);
    PERFORM tq_cancel(id) FROM tq_tasks WHERE unique_key_of(id) = 'k';
    RETURN array_to_string(said, ', '); END $$;
CREATE FUNCTION unique_key_of(task uuid) RETURNS text LANGUAGE sql AS $$ SELECT unique_key FROM tq_task WHERE id = task $$;
INSERT INTO cases (family, label, expected, actual) SELECT 'keys', 'waiting, to be retried, done, deleted: until ' || until, expected, key_of(until) FROM (VALUES ('finished', '23505, 23505, no error, 23505'), ('deleted', '23505, 23505, 23505, no error')) AS v (until, expected);
-- Freed when an attempt begins, taken by another task meanwhile: the one that is to be retried leaves it to that one, and raises nothing.
CREATE FUNCTION held_and_failing() RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM held('x'); RAISE EXCEPTION 'failing'; END $$;
SELECT tq_register('held_and_failing', max_attempts => 3, retry => tq_backoff('fixed', '0'));
SELECT tq_async('held_and_failing', unique_key => 's', unique_until => 'started') AS first \gset
SELECT test.await('(SELECT count(*) = 1 FROM tq_running)');
SELECT tq_async('add', '[1]', unique_key => 's', delay => '1 hour') AS second \gset
BEGIN;
LOCK TABLE door;
SELECT test.await('(SELECT count(*) = 0 FROM tq_running)');
ROLLBACK;
INSERT INTO cases (family, label, expected, actual) VALUES ('keys', 'no retry of one whose key has gone: it has failed', 'failed 1 P0001', (SELECT concat_ws(' ', state, attempt, error ->> 'sqlstate') FROM tq_fetch(:'first', wait => '20 s'))), ('keys', 'the other one waits on', 'delayed 0', (SELECT concat_ws(' ', state, attempt) FROM tq_fetch(:'second')));
SELECT count(tq_cancel(id)) > 0 FROM tq_tasks;

-- Expiry: what is due when, until when it may start, how it ends.
INSERT INTO cases (family, label, expected, actual) SELECT 'expiry', label, expected, played(task::jsonb) FROM (VALUES
    ('past before it starts', 'expired 0', '{"handler": "add", "args": [1], "expires": "0"}'), ('counted from when it is due', 'done 1 done', '{"handler": "add", "args": [1], "expires": "1 hour", "delay": "2 hours"}'), ('not past', 'done 1 done', '{"handler": "add", "args": [1], "expires": "1 hour"}'),
    ('past when it is to be tried again', 'expired 1 failed:XX001', '{"handler": "bang", "args": ["XX001"], "expires": "1 hour", "retry": {"kind": "fixed", "base": 7200}}')) AS v (label, expected, task);

-- Cancelling: in which state, what is said, how it ends.
CREATE FUNCTION cancelled(task jsonb) RETURNS text LANGUAGE plpgsql AS $$ DECLARE it uuid := (SELECT i FROM tq_async_many(jsonb_build_array(task || '{"retry": {"kind": "fixed", "base": 60}}')) i); was text; first bool; BEGIN
    PERFORM drain('0');
    was := (SELECT state FROM tq_fetch(it));
    first := tq_cancel(it);
    RETURN concat_ws(' ', was, first, tq_cancel(it), drain(), (SELECT state || ' ' || attempt FROM tq_fetch(it)), tq_delete(it)); END $$;
SELECT tq_async('add', '[1]', delay => '400 days') AS never \gset
INSERT INTO cases (family, label, expected, actual) SELECT 'cancelling', label, expected, cancelled(task::jsonb) FROM (VALUES
    ('later', 'delayed t f 0 cancelled 0 t', '{"handler": "add", "args": [1], "delay": "1 hour"}'), ('to be tried again', 'retrying t f 0 cancelled 1 t', '{"handler": "bang", "args": ["XX001"]}'), ('waiting for another', 'deferred t f 0 cancelled 0 t', format('{"handler": "add", "args": [1], "depends_on": ["%s"]}', :'never')),
    ('done', 'done f f 0 done 1 t', '{"handler": "add", "args": [1]}'), ('failed', 'failed f f 0 failed 1 t', '{"handler": "bang", "args": ["XX001"], "max_attempts": 1}'), ('expired', 'expired f f 0 expired 0 t', '{"handler": "add", "args": [1], "expires": "0"}')) AS v (label, expected, task);
INSERT INTO cases (family, label, expected, actual) VALUES ('cancelling', 'unknown', 'false', tq_cancel('01900000-0000-7000-8000-00000000ffff')::text), ('cancelling', 'waiting, deleted without being cancelled', '55000', said(format('tq_delete(%L)', :'never')));
SELECT tq_cancel(:'never');
-- Running: stopped; one that answers with an error of its own isn't tried again.
CREATE FUNCTION stubborn() RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(60); EXCEPTION WHEN query_canceled THEN RAISE EXCEPTION 'not me' USING ERRCODE = 'XX001'; END $$;
SELECT tq_register('stubborn', max_attempts => 3, retry => tq_backoff('fixed', '0'));
SELECT tq_async('napping', '[60]') AS nap, tq_async('stubborn') AS stubborn \gset
SELECT test.await('(SELECT count(*) = 2 FROM tq_running)');
INSERT INTO cases (family, label, expected, actual) VALUES ('cancelling', 'running, left alone', 'false', tq_cancel(:'nap', running => false)::text), ('cancelling', 'running', 'true true', tq_cancel(:'nap')::text || ' ' || tq_cancel(:'stubborn'));
INSERT INTO cases (family, label, expected, actual) VALUES ('cancelling', 'stopped', 'cancelled 0', (SELECT concat_ws(' ', state, attempt) FROM tq_fetch(:'nap', wait => '20 s'))), ('cancelling', 'stopped, with an error of its own', 'cancelled 0', (SELECT concat_ws(' ', state, attempt) FROM tq_fetch(:'stubborn', wait => '20 s')));

-- Between workers: the first one of a lock runs; the second, though more urgent, waits for it, and so does a third; what has no lock, or is due later, is in nobody's way.
SELECT count(tq_cancel(id)) FROM tq_tasks;
TRUNCATE log;
SELECT tq_async('held', '["first"]', lock => 'l') AS first \gset
SELECT test.await('(SELECT count(*) = 1 FROM tq_running)');
SELECT tq_async('held', '["low"]', lock => 'l') AS low, tq_async('held', '["high"]', lock => 'l', priority => 9) AS high, tq_async('note', '["later"]', lock => 'm', delay => '1 hour') AS later \gset
SELECT tq_async('note', '["free"]', priority => -9) AS free, tq_async('note', '["ready"]', lock => 'm', priority => -9) AS ready \gset
SELECT tq_result(:'free', wait => '20 s'), tq_result(:'ready', wait => '20 s');
SELECT test.await('(SELECT count(*) = 1 FROM tq_running)');
INSERT INTO cases (family, label, expected, actual) VALUES ('locks', 'one runs', 'first', (SELECT string_agg(args ->> 0, ' ') FROM tq_running JOIN tq_tasks USING (id))), ('locks', 'what is free has run', 'free ready', (SELECT string_agg(what, ' ' ORDER BY what) FROM log)), ('locks', 'why the other doesn''t', 'true', (SELECT bool_or(reason ~ 'lock' OR detail ~ 'lock') FROM tq_why(:'high'))::text);
BEGIN;
LOCK TABLE door;
SELECT test.await('(SELECT state = ''done'' FROM tq_fetch(''' || :'low' || '''))');
ROLLBACK;
INSERT INTO cases (family, label, expected, actual) VALUES ('locks', 'one after the other, the more urgent one first', 'first high low', (SELECT string_agg(what, ' ' ORDER BY began) FROM log WHERE began IS NOT NULL)), ('locks', 'never two at once', '0', (SELECT count(*) FROM log a JOIN log b ON a.n <> b.n AND a.began < b.ended AND b.began < a.ended)::text);
SELECT tq_cancel(:'later');

-- A limit of one, eight tasks: one runs, while others that have no limit go by.
TRUNCATE log;
SELECT tq_set_limit('one', max_running => 1), tq_set_limit('two', max_running => 2);
SELECT count(tq_async('held', jsonb_build_array(k), limit_key => k)) FROM unnest('{one,two}'::text[]) k, generate_series(1, 8);
SELECT test.await('(SELECT count(*) = 3 FROM tq_running)');
SELECT tq_async('note', '["free"]', priority => -9) AS free \gset
SELECT tq_result(:'free', wait => '20 s');
INSERT INTO cases (family, label, expected, actual) VALUES ('limits', 'one of one, two of two', 'one:1 two:2', (SELECT string_agg(k || ':' || n, ' ' ORDER BY k) FROM (SELECT args ->> 0 AS k, count(*) AS n FROM tq_running JOIN tq_tasks USING (id) GROUP BY 1) x));
BEGIN;
LOCK TABLE door;
SELECT test.await('(SELECT count(*) = 0 FROM tq_tasks)');
ROLLBACK;
INSERT INTO cases (family, label, expected, actual) SELECT 'limits', 'never more of ' || what || ' at a time', CASE what WHEN 'one' THEN '1' ELSE '2' END, max(n)::text FROM (SELECT a.what, count(*) AS n FROM log a JOIN log b ON a.what = b.what AND b.began <= a.began AND a.began < b.ended WHERE a.began IS NOT NULL GROUP BY a.n, a.what) x GROUP BY what;
INSERT INTO cases (family, label, expected, actual) SELECT 'limits', 'all have run: ' || k, '8', (SELECT count(*) FROM log WHERE what = k)::text FROM unnest('{one,two}'::text[]) k;
INSERT INTO cases (family, label, expected, actual) SELECT 'limits', label, '22023', said(call) FROM (VALUES ('of none at a time', $$tq_set_limit('x', max_running => 0)$$), ('a rate of none', $$tq_set_limit('x', rate => '0/s')$$), ('a rate of a fortnight', $$tq_set_limit('x', rate => '1/fortnight')$$), ('an algorithm that nobody knows', $$tq_set_limit('x', rate => '1/s', algorithm => 'leaky')$$)) AS v (label, call);

-- Paused, nothing is started; resumed, it is.
SELECT tq_pause();
SELECT tq_async('note', '["paused"]') AS paused \gset
INSERT INTO cases (family, label, expected, actual) VALUES ('pauses', 'not run', NULL, tq_result(:'paused', wait => '200 ms')::text), ('pauses', 'nor here', '55000', answer('drain()')), ('pauses', 'it waits', 'queued', (SELECT state FROM tq_fetch(:'paused')));
SELECT tq_resume();
INSERT INTO cases (family, label, expected, actual) VALUES ('pauses', 'run', '"paused"', tq_result(:'paused', wait => '20 s')::text);

-- Listeners: called about its being enqueued (at its start, for this is no session of the listener's), before and after it runs; one that says no, one that breaks.
CREATE FUNCTION listening(task jsonb) RETURNS boolean LANGUAGE sql AS $$ SELECT note(concat_ws(' ', task ->> 'event', task ->> 'id', task -> 'result')) IS NOT NULL AND task -> 'args' ->> 0 IS DISTINCT FROM 'skip' $$;
CREATE FUNCTION broken_listener(task jsonb) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'broken' USING ERRCODE = 'XL001'; END $$;
SELECT tq_register('listening'), tq_register('broken_listener'), tq_register('count_letters', max_attempts => 1);
SELECT count(tq_on(e, 'listening', 'count_letters')) FROM unnest('{before_run,after_run}'::text[]) e;
CREATE FUNCTION heard(args text) RETURNS text LANGUAGE plpgsql AS $$ DECLARE it uuid; BEGIN
    TRUNCATE log;
    it := tq_async('count_letters', jsonb_build_array(args));
    PERFORM drain();
    RETURN concat_ws(' ', (SELECT state || ' ' || attempt || coalesce(' ' || (error ->> 'sqlstate'), '') FROM tq_fetch(it)), (SELECT string_agg(replace(what, it::text, 'its id'), ', ' ORDER BY n) FROM log)); END $$;
INSERT INTO cases (family, label, expected, actual) VALUES ('listeners', 'before and after, with its id and then its result', 'done 1 before_run its id null, after_run its id 3', heard('abc'));
INSERT INTO cases (family, label, expected, actual) VALUES ('listeners', 'no before it runs: it doesn''t, and nothing is left', 'cancelled 0 TQ005', heard('skip'));
SELECT count(tq_off(e, 'listening')) FROM unnest('{before_run,after_run}'::text[]) e;
SELECT tq_on('after_run', 'broken_listener', 'count_letters') IS NULL;
INSERT INTO cases (family, label, expected, actual) VALUES ('listeners', 'broken, after it has run', 'failed 1 XL001', heard('abc'));
SELECT tq_off('after_run', 'broken_listener');
SELECT tq_on('done', 'broken_hook', 'count_letters') IS NULL;
INSERT INTO cases (family, label, expected, actual) VALUES ('listeners', 'broken, told of it afterwards', 'done 1', heard('abc'));
SELECT tq_off('done', 'broken_hook');
SELECT tq_on('enqueue', 'listening', 'count_letters') IS NULL;
INSERT INTO cases (family, label, expected, actual) VALUES ('listeners', 'no to its being enqueued: it doesn''t run', 'cancelled 0 TQ005', heard('skip')), ('listeners', 'yes', 'done 1 enqueue its id null', heard('abc'));
SELECT tq_off('enqueue', 'listening');

-- Again, as often as it says, by enqueuing itself: not where it has failed.
SELECT tq_register('again', max_attempts => 1);
CREATE FUNCTION repeated(times int) RETURNS text LANGUAGE plpgsql AS $$ DECLARE attempts bigint; BEGIN
    PERFORM tq_delete(id) FROM tq_results WHERE handler = 'again';
    PERFORM tq_async('again', jsonb_build_array(times));
    attempts := drain();
    RETURN attempts || (SELECT ' ' || string_agg(DISTINCT state, ' ') FROM tq_results WHERE handler = 'again'); END $$;
INSERT INTO cases (family, label, expected, actual) SELECT 'repeats', label, expected, repeated(times) FROM (VALUES (1, 'none', '1 done', 0), (2, 'once more', '2 done', 1), (3, 'three times more', '4 done', 3), (4, 'it fails: no more', '1 failed', 7)) AS v (n, label, expected, times) ORDER BY n;

-- What is kept of three handlers' three successes and a failure each: a limit, of what, what is left.
SELECT bool_and(tq_register(f, 'add', max_attempts => 1)), tq_register('bang', max_attempts => 1) FROM unnest('{add1,add2,add3}'::text[]) f;
CREATE PROCEDURE retained(family text, label text, save_limit int, per text, expected text) LANGUAGE plpgsql AS $$ DECLARE kept text := 'SELECT (SELECT count(*) FROM acme.tq_result WHERE state = ''d'') || '' '' || (SELECT count(*) FROM acme.tq_result WHERE state <> ''d'')'; actual text; BEGIN
    PERFORM tq_delete(id) FROM tq_results;
    PERFORM tq_set_tenant(save_limit => retained.save_limit, save_limit_per => per, result_ttl => '0');
    COMMIT;
    PERFORM tq_async(f, '[1]', name => f || n % 2, group_id => 'g' || n) FROM unnest('{add1,add2,add3}'::text[]) f, generate_series(1, 3) n;
    PERFORM tq_async('bang', '["XX001"]') FROM generate_series(1, 3) n;
    COMMIT;
    PERFORM test.await('(NOT EXISTS (SELECT FROM acme.tq_task)) AND (' || kept || ') = ' || quote_literal(retained.expected));
    EXECUTE kept INTO actual;
    INSERT INTO cases (family, label, expected, actual) VALUES (retained.family, retained.label, retained.expected, actual);
    COMMIT; END $$;
CALL retained('retention', 'one of each handler', 1, 'handler', '3 3');
CALL retained('retention', 'one of each name', 1, 'name', '6 3');
CALL retained('retention', 'two of each group', 2, 'group', '6 3');
CALL retained('retention', 'four of all', 4, 'none', '4 3');
CALL retained('retention', 'all', 0, 'none', '9 3');
CALL retained('retention', 'none', -1, 'none', '0 3');
SELECT tq_set_tenant(reset => '{save_limit,save_limit_per,result_ttl}');
RESET ROLE;
ALTER SYSTEM RESET tenant_q.retention_every;
SELECT pg_reload_conf();
SET ROLE owner;

-- Schedules: what is none, when it fires first, what is left after being late.
INSERT INTO cases (family, label, expected, actual) SELECT 'schedules', label, expected, said(format('tq_schedule(''s'', ''void'', %s)', call)) FROM (VALUES ('no rule', '22004', 'NULL'), ('two rules', '22023', $$'1 hour * * * *'$$), ('every 0 seconds', '22023', $$'0 seconds'$$), ('a negative interval', '22023', $$'-5 minutes'$$), ('negative repeats', '22023', $$'1 hour', repeats => -2$$), ('over before it begins', '22023', $$'1 hour', until => now() - interval '1 hour'$$),
    ('latitude 91', '22023', $$'sunset at 91,0'$$), ('longitude 181', '22023', $$'sunset at 0,181'$$), ('121 seconds', 'no error', $$'121 seconds'$$)) AS v (label, expected, call);
SELECT tq_unschedule('s');
SELECT count(tq_schedule(name, 'void', rule, start_at => start_at, repeats => repeats, catch_up => catch_up, overlap => 'allow', enabled => enabled)) FROM (VALUES
    ('interval', '1 hour', NULL, NULL, NULL, true), ('interval from now on', '1 hour', now(), NULL, NULL, true), ('cron', '0 0 1 1 *', NULL, NULL, NULL, true), ('to come', '1 hour', now() + interval '1 day', NULL, NULL, true), ('never', '1 hour', NULL, 0, NULL, true), ('off', '1 hour', now() - interval '5 hours', NULL, 'all', false),
    ('10 hours late, 10 times, all', '1 hour', now() - interval '10 hours', 10, 'all', true), ('9.5 hours late, 10 times, all', '1 hour', now() - interval '9.5 hours', 10, 'all', true), ('9.5 hours late, 12 times, all', '1 hour', now() - interval '9.5 hours', 12, 'all', true),
    ('half an hour late, 5 times, all', '1 hour', now() - interval '30 minutes', 5, 'all', true), ('half an hour late, 5 times', '1 hour', now() - interval '30 minutes', 5, NULL, true), ('10 hours late, 10 times', '1 hour', now() - interval '10 hours', 10, NULL, true), ('10 hours late, none', '1 hour', now() - interval '10 hours', 10, 'none', true), ('once', 'once', NULL, NULL, NULL, true)) AS v (name, rule, start_at, repeats, catch_up, enabled);
SELECT test.await('(SELECT bool_and(next_run IS NULL OR next_run > now()) FROM tq_schedules) AND NOT EXISTS (SELECT FROM acme.tq_schedule WHERE name = ''once'')');
INSERT INTO cases (family, label, expected, actual) SELECT 'schedules', name, expected, (SELECT concat_ws(' ', run_count, repeats, coalesce('in ' || round(extract(epoch FROM next_run - clock_timestamp()) / 3600, 1) || ' h', 'never')) FROM tq_schedules s WHERE s.name = v.name) FROM (VALUES
    ('interval', '0 -1 in 1.0 h'), ('interval from now on', '1 -1 in 1.0 h'), ('to come', '0 -1 in 24.0 h'), ('never', '0 0 never'), ('off', '0 -1 never'), ('once', NULL), ('10 hours late, 10 times, all', '10 0 never'), ('9.5 hours late, 10 times, all', '10 0 never'), ('9.5 hours late, 12 times, all', '10 2 in 0.5 h'),
    ('half an hour late, 5 times, all', '1 4 in 0.5 h'), ('half an hour late, 5 times', '1 4 in 0.5 h'), ('10 hours late, 10 times', '1 9 in 1.0 h'), ('10 hours late, none', '1 9 in 1.0 h')) AS v (name, expected);
INSERT INTO cases (family, label, expected, actual) VALUES ('schedules', 'cron, not before its time', '0 true', (SELECT concat_ws(' ', run_count, (next_run > now())::text) FROM tq_schedules WHERE name = 'cron'));
SELECT tq_alter_schedule('off', enabled => true), tq_alter_schedule('interval', enabled => false);
INSERT INTO cases (family, label, expected, actual) SELECT 'schedules', label, expected, (SELECT concat_ws(' ', run_count, coalesce('in ' || round(extract(epoch FROM next_run - clock_timestamp()) / 3600, 1) || ' h', 'never')) FROM tq_schedules s WHERE s.name = v.name) FROM (VALUES ('off', 'put on: nothing of what it has missed', '0 in 1.0 h'), ('interval', 'put off', '0 never')) AS v (name, label, expected);
SELECT count(tq_unschedule(name)) > 0 FROM tq_schedules;
SELECT test.await('(SELECT count(*) = 0 FROM tq_tasks)');

-- Differences: none. And how many cases there are.
SELECT family, label, expected, actual FROM cases WHERE actual IS DISTINCT FROM expected ORDER BY n;
SELECT family, count(*) FROM cases GROUP BY family ORDER BY min(n);
