-- Queues that take turns, and flows that run at once.
\i sql/setup.psql
CREATE ROLE owner LOGIN;
CREATE SCHEMA acme AUTHORIZATION owner;
SELECT tq_attach('acme');
SET ROLE owner;
SET search_path = acme, public;
CREATE TABLE log (n serial, what text);
CREATE FUNCTION note(what text) RETURNS text LANGUAGE sql AS $$ INSERT INTO log (what) VALUES ($1) RETURNING what $$;
CREATE FUNCTION broken(x int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN PERFORM note('lost'); RAISE EXCEPTION 'broken %', x USING ERRCODE = 'XY123'; END $$;
SELECT bool_and(tq_register(f, max_attempts => 2)) FROM unnest('{note,broken}'::text[]) f;
SELECT tq_pause();

-- One task of each in turn, whatever the priorities; within a queue the order is as ever.
SELECT tq_set_queue('reports', pick => 'round_robin'), tq_set_queue('mails', pick => 'round_robin');
CREATE FUNCTION fill() RETURNS bigint LANGUAGE sql AS $$
    SELECT count(tq_async('note', to_jsonb(q || ' ' || i), queue => nullif(q, 'plain'), priority => p + (i = 4)::int))
    FROM (VALUES ('plain', 9), ('reports', 0), ('mails', -5)) AS v (q, p), generate_series(1, 4) AS i $$;
SELECT fill();
SELECT queue, count(*), string_agg(DISTINCT state, ' ') FROM tq_tasks GROUP BY queue ORDER BY queue;
SELECT queue, queued, pick FROM tq_queues ORDER BY queue;
-- In this session, before any worker hears of it.
BEGIN;
SELECT tq_resume();
SELECT string_agg(result ->> 0, ', ') FROM tq_drain();
ROLLBACK;
-- Delays and dependencies, cancelling and changing: nothing is special about them.
SELECT tq_async('note', '"later"', queue => 'mails', delay => '1 hour', name => 'later') AS later \gset
SELECT tq_async('note', '"after"', queue => 'mails', depends_on => ARRAY[:'later']::uuid[], name => 'after') IS NOT NULL AS enqueued;
SELECT tq_async('note', '"gone"', queue => 'mails', name => 'gone') AS gone \gset
SELECT tq_cancel(:'gone');
SELECT name, state FROM tq_tasks WHERE name IS NOT NULL ORDER BY name;
SELECT tq_update(:'later', queue => 'reports', run_at => now());
-- Back to the common order, and turns for another queue: rows follow.
SELECT tq_set_queue('mails', pick => 'priority'), tq_set_queue('reports', reset => '{pick}'), tq_set_queue('default', pick => 'random');
SELECT tq_resume();
SELECT test.await('(SELECT NOT EXISTS (SELECT FROM acme.tq_task))');
SELECT count(*) FILTER (WHERE state = 'done') AS done, count(*) FILTER (WHERE name = 'after' AND state = 'done') AS after_it FROM tq_results WHERE (args ->> 0 ~ '^(plain|mails|reports)' OR name IN ('later', 'after'));
SELECT what, count(*) FROM log WHERE what NOT LIKE '% %' GROUP BY what ORDER BY what;
SELECT tq_set_queue('x', pick => 'fifo');
\echo :SQLSTATE
SELECT queue, pick, max_running, rate, priority FROM tq_queues ORDER BY queue;

-- Detached and attached again elsewhere, where no queue is set up: what waits for its turn runs all the same.
SELECT tq_set_queue('reports', pick => 'round_robin');
SELECT tq_pause(queue => 'reports');
SELECT count(tq_async('note', to_jsonb('kept ' || i), queue => 'reports')) FROM generate_series(1, 3) i;
RESET ROLE;
SELECT tq_detach('acme');
DELETE FROM tenant_q.queue;
SET ROLE owner;
SELECT tq_attach(adopt => true);
SELECT tq_register('note');
SELECT test.await('(SELECT count(*) = 3 FROM acme.log WHERE what LIKE ''kept%'')');

-- sync: in task objects, in order, in the caller's transaction.
BEGIN;
SELECT tq_result(id) FROM tq_async_many('[{"handler": "note", "args": "many 1", "sync": true}, {"handler": "note", "args": "many 2", "sync": true}]') AS id;
SELECT tq_result(tq_chain('[{"handler": "note", "args": "step 1"}, {"handler": "note"}, {"handler": "note"}]', pass_result => true, task => '{"sync": true, "name": "chained"}'));
SELECT tq_result(tq_group('[{"handler": "note", "args": "a"}, {"handler": "note", "args": "b"}]', '{"sync": true}'));
SELECT tq_iter_result(tq_async_iter('note', ARRAY['"i"', '"j"', '"k"']::jsonb[], chunk => 2, task => '{"sync": true}'));
SELECT what FROM log WHERE what NOT LIKE 'kept%' AND what NOT LIKE '% _' OR what LIKE 'many%' OR what LIKE 'step%' ORDER BY n DESC LIMIT 10;
SELECT state FROM tq_fetch(tq_find('chained'));
ROLLBACK;
-- The first error is the caller's, and nothing is left; or it is its member's.
SELECT tq_register('broken', max_attempts => 2);
SELECT tq_chain('[{"handler": "note", "args": "before"}, {"handler": "broken", "args": 1}, {"handler": "note", "args": "behind"}]', task => '{"sync": true}');
\echo :SQLSTATE
SELECT count(*) FROM log WHERE what IN ('before', 'behind', 'lost');
SELECT tq_chain('[{"handler": "note", "args": "before"}, {"handler": "broken", "args": 1}, {"handler": "note", "args": "behind"}]', on_step_failure => 'continue', task => '{"sync": true}') AS id \gset
SELECT tq_result(:'id');
SELECT handler, state, attempt, error ->> 'message' AS message FROM tq_results WHERE parent_id = :'id' ORDER BY id;
SELECT what FROM log WHERE what IN ('before', 'behind', 'lost') ORDER BY n;
-- What can't be done at once.
SELECT tq_async('note', '"x"', sync => true, depends_on => ARRAY[:'id']::uuid[]);
\echo :SQLSTATE
SELECT tq_group('[{"handler": "note", "args": "x", "delay": "1 s"}]', '{"sync": true}');
\echo :SQLSTATE
SELECT tq_group('[{"handler": "note", "args": "x", "sync": true}]');
\echo :SQLSTATE
SELECT tq_schedule('s', 'note', '1 hour', '"x"', task => '{"sync": true}');
\echo :SQLSTATE
SELECT tq_listen_table('log', 'note', task => '{"sync": true}');
\echo :SQLSTATE
