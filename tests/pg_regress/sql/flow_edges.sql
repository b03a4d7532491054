-- Flows and keys where they meet cancels, replacements, savepoints, deletions and themselves.
\i sql/setup.psql
CREATE ROLE owner LOGIN;
CREATE SCHEMA acme AUTHORIZATION owner;
SELECT tq_attach('acme');
SET ROLE owner;
SET search_path = acme, public;
CREATE TABLE log (n serial, what text);
CREATE FUNCTION note(what text) RETURNS text LANGUAGE sql AS $$ INSERT INTO log (what) VALUES ($1) RETURNING what $$;
CREATE FUNCTION broken(x int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'broken %', x; END $$;
CREATE TABLE gate (opened bool);
CREATE FUNCTION gate(what text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN WHILE NOT EXISTS (SELECT FROM acme.gate) LOOP PERFORM pg_sleep(0.01); END LOOP; RETURN note(what); END $$;
SELECT bool_and(tq_register(f, max_attempts => 1)) FROM unnest('{note,broken,gate}'::text[]) f;

-- A member whose key is taken can't be anybody else's task: the flow would wait for one that isn't its own.
-- Ids are in the messages.
\set VERBOSITY sqlstate
SELECT tq_async('note', '"holder"', unique_key => 'k', delay => '1 hour') AS holder \gset
SELECT tq_group('[{"handler": "note", "args": "a", "unique_key": "k", "on_conflict": "skip"}, {"handler": "note", "args": "b"}]');
SELECT tq_chain('[{"handler": "note", "args": "a", "unique_key": "k", "on_conflict": "replace"}, {"handler": "note", "args": "b"}]');
SELECT tq_group('[{"handler": "note", "args": "a", "unique_key": "two", "on_conflict": "skip"}, {"handler": "note", "args": "b", "unique_key": "two", "on_conflict": "skip"}]');
SELECT count(*) FROM tq_tasks;
SELECT tq_cancel(:'holder');
-- Nor can a flow be replaced: its members would be left behind.
SELECT tq_pause();
SELECT tq_group('[{"handler": "note", "args": "a"}, {"handler": "note", "args": "b"}]', '{"unique_key": "flow"}') AS flow \gset
SELECT tq_group('[{"handler": "note", "args": "c"}]', '{"unique_key": "flow", "on_conflict": "replace"}') = :'flow';
SELECT tq_async('note', '"c"', unique_key => 'flow', on_conflict => 'replace') = :'flow';
SELECT tq_group('[{"handler": "note", "args": "c"}]', '{"unique_key": "flow", "on_conflict": "skip"}') = :'flow' AS same;
SELECT tq_cancel(:'flow');
SELECT tq_resume();
-- An id whose former members are still known is not to be had again.
SELECT tq_group('[{"handler": "note", "args": "x"}]', '{"id": "0198c0de-0000-7000-8000-000000000001"}') AS flow \gset
SELECT tq_result(:'flow', wait => '20 s');
SELECT tq_delete(:'flow');
SELECT tq_group('[{"handler": "note", "args": "y"}]', '{"id": "0198c0de-0000-7000-8000-000000000001"}');

-- From within: a task can stop the others of its flow, and ends itself; not itself.
CREATE FUNCTION stop_the_others() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM tq_cancel((SELECT parent_id FROM tq_task WHERE id = (tq_current()).id));
    RETURN note('stopped the others');
END $$;
CREATE FUNCTION stop_itself() RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM tq_cancel((tq_current()).id); END $$;
CREATE FUNCTION delete_itself() RETURNS void LANGUAGE sql AS $$ DELETE FROM acme.tq_task WHERE id = (tq_current()).id $$;
SELECT bool_and(tq_register(f, max_attempts => 2, retry => tq_backoff('fixed', '0 s'))) FROM unnest('{stop_the_others,stop_itself,delete_itself}'::text[]) f;
SELECT tq_group('["stop_the_others", {"handler": "note", "args": "never", "delay": "1 hour"}]') AS flow \gset
SELECT test.await('(SELECT NOT EXISTS (SELECT FROM acme.tq_task))');
SELECT handler, state, result FROM tq_results WHERE :'flow' IN (id, parent_id) ORDER BY handler;
SELECT tq_async('stop_itself') AS a, tq_async('delete_itself') AS b \gset
SELECT state, attempt, error ->> 'message' AS message, error ->> 'hint' AS hint FROM tq_fetch(:'a', wait => '20 s');
SELECT state, attempt, error ->> 'message' AS message, error ->> 'hint' AS hint FROM tq_fetch(:'b', wait => '20 s');
BEGIN;
SELECT tq_async('delete_itself') IS NOT NULL AS enqueued;
SELECT state, attempt, error ->> 'message' AS message FROM tq_drain() WHERE handler = 'delete_itself';
ROLLBACK;

-- A cancel that a savepoint takes back interrupts nobody.
SELECT tq_async('gate', '"went on"') AS id \gset
SELECT test.await(format('(SELECT EXISTS (SELECT FROM tq_running WHERE id = %L))', :'id'));
BEGIN;
SAVEPOINT s;
SELECT tq_cancel(:'id');
ROLLBACK TO s;
COMMIT;
DO $$ BEGIN
    PERFORM tq_cancel((SELECT id FROM tq_running));
    RAISE EXCEPTION 'taken back';
EXCEPTION WHEN raise_exception THEN NULL; END $$;
INSERT INTO gate VALUES (true);
SELECT state, attempt, result FROM tq_fetch(:'id', wait => '20 s');
DELETE FROM gate;

-- A key that was given up at the start is its own again at each retry, not taken by itself.
CREATE FUNCTION third_time() RETURNS int LANGUAGE plpgsql AS $$
BEGIN
    IF (tq_current()).attempt = 1 THEN PERFORM gate('first'); END IF;
    IF (tq_current()).attempt < 3 THEN RAISE EXCEPTION 'not yet'; END IF;
    RETURN (tq_current()).attempt;
END $$;
SELECT tq_register('third_time', max_attempts => 5, retry => tq_backoff('fixed', '0 s'));
SELECT tq_async('third_time', unique_key => 'once', unique_until => 'started') AS id \gset
SELECT test.await(format('(SELECT EXISTS (SELECT FROM tq_running WHERE id = %L))', :'id'));
SELECT tq_async('note', '"newcomer"', unique_key => 'once', delay => '1 hour') AS newcomer \gset
SELECT tq_cancel(:'newcomer');
INSERT INTO gate VALUES (true);
SELECT tq_result(:'id', wait => '20 s');
SELECT state, attempt FROM tq_fetch(:'id');

-- A chain that goes on is run again where it failed; what was done is not waited for.
SELECT tq_chain('[{"handler": "broken", "args": 1}, {"handler": "note", "args": "between"}, {"handler": "broken", "args": 2}]', on_step_failure => 'continue') AS flow \gset
SELECT tq_result(:'flow', wait => '20 s');
CREATE OR REPLACE FUNCTION broken(x int) RETURNS int LANGUAGE sql AS $$ SELECT x $$;
SELECT tq_requeue(:'flow');
SELECT tq_result(:'flow', wait => '20 s');
SELECT count(*) FROM log WHERE what = 'between';

-- What a flow still gathers is not deleted under its hands.
DELETE FROM gate;
CREATE OR REPLACE FUNCTION broken(x int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'broken %', x; END $$;
SELECT tq_group('[{"handler": "broken", "args": 1, "group_id": "g"}, {"handler": "gate", "args": "slow", "group_id": "g"}]', '{"on_success": "note"}') AS flow \gset
SELECT id AS member FROM tq_fetch_group('g', wait => '20 s', count => 1) \gset
SELECT tq_purge('0') > 0 AS purged;
SELECT tq_delete(:'member');
INSERT INTO gate VALUES (true);
SELECT tq_result(:'flow', wait => '20 s', propagate => false);
SELECT tq_delete(:'member');
SELECT test.await('(SELECT NOT EXISTS (SELECT FROM acme.tq_task))');

-- No digit is lost on the way, whatever is made of a result; a failed chunk leaves as many places as it had calls.
CREATE FUNCTION echo(doc jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT doc $$;
CREATE FUNCTION deep(levels int) RETURNS jsonb LANGUAGE sql AS $$ SELECT (repeat('[', levels) || repeat(']', levels))::jsonb $$;
CREATE FUNCTION odd(x int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN IF x % 2 = 0 THEN RAISE 'even'; END IF; RETURN x; END $$;
SELECT bool_and(tq_register(f, max_attempts => 1)) FROM unnest('{echo,deep,odd}'::text[]) f;
SELECT tq_chain('[{"handler": "echo", "args": {"n": 12345678901234567890.1234567890123456789, "big": 1e400}}, "echo"]', pass_result => true) AS flow \gset
SELECT tq_result(:'flow', wait => '20 s') -> 1 -> 'n' AS n, length((tq_result(:'flow') -> 1 -> 'big')::text) AS big;
SELECT tq_group('[{"handler": "deep", "args": 1000}, {"handler": "deep", "args": 2}]') AS flow \gset
SELECT length(tq_result(:'flow', wait => '20 s')::text);
SELECT tq_chain('[{"handler": "deep", "args": 1000}, "echo"]', pass_result => true) AS flow \gset
SELECT tq_result(:'flow', wait => '20 s', propagate => false);
SELECT error ->> 'message' AS message FROM tq_results WHERE parent_id = :'flow' AND handler = 'echo';
SELECT tq_async_iter('odd', ARRAY['[1]', '[2]', '[3]', '[5]', '[7]']::jsonb[], chunk => 2, task => '{"allow_failure": true}') AS flow \gset
SELECT tq_result(:'flow', wait => '20 s');
SELECT tq_async('echo', '[1]', delay => '213503983 days');

-- Paused in parts, when what runs of them has ended; by any of its names.
SELECT tq_register('gate', max_attempts => 1, aliases => '{barrier}');
DELETE FROM gate;
SELECT tq_set_queue('slow', priority => 1);
SELECT tq_async('gate', '"runs"', queue => 'slow') AS id \gset
SELECT test.await(format('(SELECT EXISTS (SELECT FROM tq_running WHERE id = %L))', :'id'));
SELECT tq_pause(handler => 'note', drain => '10 s'), tq_pause(queue => 'fast', drain => '10 s');
SELECT tq_pause(handler => 'barrier', drain => '0.1 s');
SELECT tq_pause(handler => 'gate', drain => '0.1 s') AS anew;
INSERT INTO gate VALUES (true);
SELECT tq_pause(queue => 'slow', drain => '20 s');
SELECT state FROM tq_fetch(:'id');
SELECT tq_resume(handler => 'barrier'), tq_resume(handler => 'note'), tq_resume(queue => 'slow'), tq_resume(queue => 'fast'), tq_resume(queue => 'fast') AS again;

-- A pause that ends after something else has come due ends all the same.
SELECT tq_async('note', '"due meanwhile"', delay => '300 ms') IS NOT NULL;
SELECT tq_pause(duration => '1.5 s');
SELECT tq_async('note', '"enqueued meanwhile"') IS NOT NULL;
SELECT test.await('(SELECT count(*) = 2 FROM log WHERE what LIKE ''% meanwhile'')');
-- Rows that were put aside at a limit, which goes.
SELECT tq_set_queue('narrow', max_running => 1);
DELETE FROM gate;
TRUNCATE log;
SELECT tq_async('gate', '"first"', queue => 'narrow', priority => 1) IS NOT NULL;
SELECT test.await('(SELECT EXISTS (SELECT FROM tq_running WHERE handler = ''gate''))');
SELECT count(tq_async('note', '"narrow"', queue => 'narrow')) FROM generate_series(1, 500);
SELECT test.await('(SELECT count(*) > 300 FROM tq_task WHERE state = ''k'')');
SELECT tq_set_queue('narrow', reset => '{max_running}');
SELECT test.await('(SELECT count(*) = 500 FROM log WHERE what = ''narrow'')');
INSERT INTO gate VALUES (true);
SELECT test.await('(SELECT NOT EXISTS (SELECT FROM tq_task))');
-- A chain whose first step fails says so at once, however long its further steps were to wait.
SELECT tq_chain('[{"handler": "broken", "args": [1], "max_attempts": 1}, {"handler": "note", "args": ["x"], "delay": "1 day"}]') AS flow \gset
SELECT tq_result(:'flow', wait => '20 s', propagate => false);
SELECT state FROM tq_fetch(:'flow');
