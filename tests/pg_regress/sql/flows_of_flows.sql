-- Flows as members of flows: chains whose steps are groups, groups of chains, chords in chains, to any depth.
\i sql/setup.psql
CREATE ROLE owner LOGIN;
CREATE SCHEMA acme AUTHORIZATION owner;
SELECT tq_attach('acme');
SET ROLE owner;
SET search_path = acme, public;
CREATE TABLE log (n serial, what text);
CREATE FUNCTION note(what text) RETURNS text LANGUAGE sql AS $$ INSERT INTO log (what) VALUES ($1) RETURNING what $$;
CREATE FUNCTION add(x int DEFAULT 0, y int DEFAULT 1) RETURNS int LANGUAGE sql AS $$ SELECT x + y $$;
CREATE FUNCTION total(numbers jsonb) RETURNS int LANGUAGE sql AS $$ SELECT sum(n::int)::int FROM jsonb_array_elements_text(numbers) n $$;
CREATE FUNCTION broken(what text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'broken %', what; END $$;
CREATE FUNCTION hooked(task jsonb) RETURNS void LANGUAGE sql
AS $$ SELECT note(concat_ws(' ', task->>'event', task->>'handler', task->>'name', task->>'state', task->>'result')) $$;
SELECT bool_and(tq_register(f, max_attempts => 1)) FROM unnest('{note,add,total,broken,hooked}'::text[]) f;
-- All of a flow, each member under the flow that it is of.
CREATE FUNCTION tree(flow uuid, depth int DEFAULT 0) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE t record;
BEGIN
    FOR t IN SELECT id, handler, state, args, result FROM (SELECT * FROM tq_tasks UNION ALL SELECT * FROM tq_results) x
              WHERE CASE depth WHEN 0 THEN id = flow ELSE parent_id = flow END ORDER BY id LOOP
        RETURN NEXT repeat('    ', depth) || concat_ws(' ', t.handler, t.args, t.state, t.result);
        RETURN QUERY SELECT tree(t.id, depth + 1);
    END LOOP;
END $$;

-- A chord in a chain: what comes after the group gets its results, each of its members what came before.
SELECT tq_chain('[{"handler": "add", "args": [1]},
                  {"group": [{"handler": "add", "args": [10]}, {"handler": "add", "args": [20]}]},
                  "total",
                  {"handler": "add", "args": [100]}]', pass_result => true) AS id \gset
SELECT tq_result(:'id', wait => '20 s');
-- A group of chains; an iteration in chunks as a member; what is said of the outer one holds for all in it.
SELECT tq_group('[{"chain": [{"handler": "add", "args": [1]}, "add"], "pass_result": true},
                  {"chain": [{"handler": "add", "args": [2]}, {"chain": ["add", "add"]}], "pass_result": true, "name": "second"},
                  {"iter": [[1, 1], [2, 2], [3, 3]], "handler": "add", "chunk": 2},
                  {"handler": "broken", "args": "x"}]', '{"queue": "sums", "allow_failure": true}') AS id \gset
SELECT tq_result(:'id', wait => '20 s');
SELECT tree(:'id');
SELECT handler, count(*) FROM tq_results WHERE queue = 'sums' GROUP BY 1 ORDER BY 1;
-- Steps after steps, whatever they are made of; hooks of each.
SELECT tq_chain('[{"handler": "note", "args": "1"},
                  {"group": [{"chain": [{"handler": "note", "args": "2"}, {"handler": "note", "args": "3"}]}], "on_success": "hooked", "name": "two"},
                  {"group": [], "on_success": "hooked", "name": "empty"},
                  {"iter": ["4", "5"], "handler": "note", "chunk": 2},
                  {"handler": "note", "args": "6"}]', task => '{"name": "all", "hook": "hooked"}') AS id \gset
SELECT tq_result(:'id', wait => '20 s');
SELECT test.await('(SELECT count(*) = 9 FROM acme.log)');
SELECT string_agg(what, ', ' ORDER BY n) AS steps FROM log WHERE what ~ '^\d$';
SELECT what FROM log WHERE what !~ '^\d$' ORDER BY what;
SELECT a.n > b.n AS empty_after_two FROM log a, log b WHERE a.what LIKE '%empty%' AND b.what = '3';
TRUNCATE log;

-- None is done at once, and its callback gets an empty list.
SELECT tq_result(tq_group('[]')), tq_result(tq_chain('[]')), tq_result(tq_async_iter('add', '{}'));
SELECT tq_group('[]', '{"name": "nothing", "on_success": "hooked"}') AS id \gset
SELECT state, result FROM tq_fetch(:'id');
SELECT tq_result(tq_group('[{"group": []}, {"chain": [{"iter": [], "handler": "add"}]}]'));
SELECT test.await('(SELECT count(*) = 1 FROM acme.log)');
SELECT what FROM log;
TRUNCATE log;
SELECT test.said($$tq_group('[]', '{"colour": "red"}')$$), test.said($$tq_group('[{"group": [], "colour": "red"}]')$$);
-- Empty ones in a chain, with and without something before them.
SELECT tq_chain('[{"group": []}, {"handler": "total"}, {"group": []}, {"chain": []}, {"handler": "total"}]', pass_result => true) AS id \gset
SELECT tq_result(:'id', wait => '20 s');

-- A failure stops what comes after it, up to where one goes on.
SELECT tq_chain('[{"group": [{"handler": "note", "args": "a"}, {"chain": [{"handler": "broken", "args": "b"}, {"handler": "note", "args": "c"}]}]},
                  {"group": []}, {"handler": "note", "args": "d"}]', task => '{"on_failure": "hooked", "name": "stopped"}') AS id \gset
SELECT tq_result(:'id', wait => '20 s', propagate => false);
SELECT tree(:'id');
SELECT tq_chain('[{"group": [{"handler": "note", "args": "a"}, {"handler": "broken", "args": "b"}]}, {"group": []}, {"handler": "note", "args": "d"}]', on_step_failure => 'continue') AS on_id \gset
SELECT tq_result(:'on_id', wait => '20 s');
SELECT tree(:'on_id');
SELECT tq_group('[{"chain": [{"handler": "broken", "args": "b"}, {"handler": "note", "args": "c"}], "on_step_failure": "continue"}, {"handler": "note", "args": "d"}]') AS within_id \gset
SELECT tq_result(:'within_id', wait => '20 s');
-- Mended and run again: what failed, what came after it, and the flows that they are in.
CREATE OR REPLACE FUNCTION broken(what text) RETURNS text LANGUAGE sql AS $$ SELECT 'mended ' || what $$;
SELECT tq_requeue(:'id');
SELECT tq_result(:'id', wait => '20 s');
SELECT tree(:'id');
-- The same from the task that failed, and from a flow in between.
CREATE OR REPLACE FUNCTION broken(what text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'broken %', what; END $$;
SELECT tq_chain('[{"group": [{"handler": "note", "args": "a"}, {"chain": [{"handler": "broken", "args": "b"}, {"handler": "note", "args": "c"}]}]}, {"handler": "note", "args": "d"}]') AS id \gset
SELECT tq_result(:'id', wait => '20 s', propagate => false);
SELECT tq_requeue(t.id) FROM tq_results t JOIN tq_results p ON p.id = t.parent_id AND p.handler = 'tq_chain' JOIN tq_results g ON g.id = p.parent_id WHERE t.handler = 'broken' AND g.parent_id = :'id';
SELECT tq_result(:'id', wait => '20 s', propagate => false);
SELECT test.await('NOT EXISTS (SELECT FROM acme.tq_task)');
SELECT tree(:'id');
CREATE OR REPLACE FUNCTION broken(what text) RETURNS text LANGUAGE sql AS $$ SELECT 'mended ' || what $$;
SELECT tq_requeue(t.id) FROM tq_results t WHERE t.handler = 'tq_group' AND t.parent_id = :'id';
SELECT tq_result(:'id', wait => '20 s');
SELECT test.await('NOT EXISTS (SELECT FROM acme.tq_task)');
-- What was done runs again for itself.
TRUNCATE log;
SELECT tq_requeue(id) FROM tq_results WHERE args = '"c"' AND state = 'done' AND parent_id IN (SELECT c.id FROM tq_results c JOIN tq_results g ON g.id = c.parent_id WHERE g.parent_id = :'id');
SELECT tq_result(:'id', wait => '20 s');
SELECT what FROM log;

-- Cancelled, looked at and changed as a whole.
SELECT tq_pause();
SELECT tq_chain('[{"handler": "note", "args": "a"}, {"group": [{"chain": ["add", {"handler": "note", "args": "b"}]}, {"group": []}, {"handler": "note", "args": "c", "queue": "own"}]}]', task => '{"name": "whole"}') AS id \gset
SELECT tree(:'id');
SELECT t.handler, t.args, w.reason, regexp_replace(w.detail, '[0-9a-f-]{36}', '…') AS detail, regexp_replace(w.hint, '[0-9a-f-]{36}', '…') AS hint FROM tq_tasks t, tq_why(t.id) w WHERE w.reason <> 'paused' ORDER BY t.handler, t.args, w.reason;
SELECT tq_update(:'id', priority => 7, queue => 'urgent', run_at => '2030-01-01 00:00+00', expires => '1 day', meta => '{"by": "hand"}');
SELECT handler, args, priority, queue, run_at = '2030-01-01 00:00+00' AS run_at, meta FROM tq_tasks ORDER BY handler, args, meta;
SELECT count(*) FROM tq_task WHERE expires_at IS NOT NULL;
SELECT regexp_replace(test.said(format('tq_update(%L, args => ''[1]'')', :'id')), '[0-9a-f-]{36}', '…');
SELECT tq_update((SELECT id FROM tq_tasks WHERE handler = 'tq_group' AND parent_id = :'id'), priority => 9);
SELECT handler, args, priority FROM tq_tasks ORDER BY handler, args;
SELECT tq_update(:'id'), tq_update((SELECT id FROM tq_tasks WHERE handler = 'tq_group' AND parent_id <> :'id'), priority => 1);
SELECT tq_cancel(:'id');
SELECT count(*) FROM tq_tasks;
SELECT tree(:'id');
SELECT tq_resume();
-- Only a part: the rest knows.
SELECT tq_chain('[{"handler": "note", "args": "a", "delay": "1 hour"}, {"group": [{"handler": "note", "args": "b"}, {"handler": "note", "args": "c"}]}, {"handler": "note", "args": "d"}]', on_step_failure => 'continue') AS id \gset
SELECT tq_cancel(id) FROM tq_tasks WHERE handler = 'tq_group' AND parent_id = :'id';
SELECT tq_cancel(id) FROM tq_tasks WHERE args = '"a"' AND parent_id = :'id';
SELECT tq_result(:'id', wait => '20 s');
SELECT tree(:'id');

-- By what they are: a flow that matches goes with all that is in it, one in it by itself too.
SELECT tq_pause();
SELECT tq_group('[{"chain": ["add", {"group": ["add", "add"]}], "name": "a"}, {"chain": ["add", {"group": ["add", "add"]}], "name": "b"}]', '{"name": "both"}') AS id \gset
SELECT tasks, cardinality(sample) FROM tq_cancel_all(handler => 'tq_group', dry_run => true);
SELECT tasks FROM tq_cancel_all(name_like => 'a', dry_run => true);
SELECT tasks FROM tq_update_all(name_like => 'a', set_priority => 3);
SELECT handler, priority, count(*) FROM tq_tasks GROUP BY 1, 2 ORDER BY 1, 2;
SELECT tasks FROM tq_cancel_all(name_like => 'a');
SELECT tree(:'id');
SELECT tasks FROM tq_cancel_all(handler => 'tq_group');
SELECT count(*) FROM tq_tasks;
SELECT tasks FROM tq_requeue_all(states => '{cancelled}', handler => 'tq_group', dry_run => true);
SELECT tasks FROM tq_requeue_all(states => '{cancelled}', name_like => 'b', dry_run => true);
SELECT tasks FROM tq_requeue_all(states => '{cancelled}', name_like => 'b');
SELECT tree(:'id');
SELECT tasks FROM tq_requeue_all(states => '{cancelled}', handler => 'add', dry_run => true);
SELECT tasks FROM tq_requeue_all(states => '{cancelled}', handler => 'add');
SELECT tree(:'id');
SELECT tq_resume();
SELECT tq_result(:'id', wait => '20 s');

-- At once, in one's own session.
SELECT tq_result(tq_chain('[{"handler": "add", "args": [1]}, {"group": [{"handler": "add", "args": [10]}, {"chain": ["add", "add"]}, {"group": []}]}, {"group": []}, {"handler": "note", "args": ["end"]}]', task => '{"sync": true}', pass_result => false));
SELECT tq_result(tq_chain('[{"handler": "add", "args": [1]}, {"group": [{"handler": "add", "args": [10]}, {"chain": ["add", "add"]}]}]', true, task => '{"sync": true}'));
CREATE OR REPLACE FUNCTION broken(what text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'broken %', what; END $$;
SELECT tq_result(tq_group('[{"group": [{"handler": "broken", "args": "x"}], "allow_failure": true}, "add"]', '{"sync": true}'));
SELECT tq_result(tq_group('[{"group": [{"handler": "broken", "args": "x"}]}]', '{"sync": true}'));
BEGIN;
SELECT tq_chain('[{"handler": "add", "args": [1]}, {"group": []}, {"group": [{"handler": "add", "args": [10]}, "total"]}]', pass_result => true, task => '{"allow_failure": true}') AS id \gset
SELECT handler, state FROM tq_drain();
SELECT tq_result(:'id');
ROLLBACK;

-- Somebody deletes rows by hand: what waits for them learns it, up to the outermost flow.
SELECT tq_chain('[{"handler": "note", "args": "a", "delay": "1 hour"}, {"group": []}, {"group": [{"handler": "note", "args": "b"}]}]') AS id \gset
SELECT tq_group('[{"chain": ["add", {"group": [{"handler": "note", "args": "c", "delay": "1 hour"}, "add"]}, "add"]}]') AS other \gset
SELECT test.await(format('(SELECT count(*) = 5 FROM acme.tq_task WHERE parent_id <> %L)', :'id'));
DELETE FROM tq_task WHERE args IN ('"a"', '"c"');
SELECT count(*) > 0 AS gone FROM tq_tasks t, tq_why(t.id) w WHERE w.reason = 'gone';
SELECT state, error ->> 'message' AS message, result FROM tq_fetch(:'id', wait => '20 s');
SELECT tree(:'id');
SELECT state, error ->> 'message' AS message, result FROM tq_fetch(:'other', wait => '20 s');
SELECT tree(:'other');
SELECT regexp_replace(test.said(format('tq_requeue(%L)', :'id')), '[0-9a-f-]{36}', '…');

-- As deep as anybody likes.
SELECT tq_group((repeat('[{"group": ', 500) || '[{"handler": "broken", "args": "x"}]' || repeat('}]', 500))::jsonb) AS id \gset
SELECT tq_result(:'id', wait => '20 s', propagate => false);
SELECT tq_chain((repeat('[{"chain": ', 500) || '[{"handler": "add", "args": [1]}, "add"]' || repeat('}]', 500))::jsonb, pass_result => true) AS id \gset
SELECT md5(tq_result(:'id', wait => '20 s')::text) = md5((repeat('[', 501) || '2, 3' || repeat(']', 501))::jsonb::text) AS same;
SELECT tq_group((repeat('[{"group": ', 500) || '[{"handler": "add", "delay": "1 hour"}]' || repeat('}]', 500))::jsonb) AS id \gset
SELECT tq_update(:'id', priority => 3);
SELECT handler, priority, count(*) FROM tq_tasks GROUP BY 1, 2 ORDER BY 1, 2;
SELECT tasks FROM tq_cancel_all(handler => 'tq_group', dry_run => true);
SELECT tq_cancel(:'id');
SELECT count(*) FROM tq_tasks;
SELECT tasks FROM tq_requeue_all(states => '{cancelled}', handler => 'tq_group', since => (SELECT created_at FROM tq_fetch(:'id')), dry_run => true);
SELECT tq_requeue(:'id');
SELECT md5(tq_result(:'id', wait => '20 s')::text) = md5((repeat('[', 501) || '1' || repeat(']', 501))::jsonb::text) AS same;

-- Told of like any other task, and counted.
SELECT tq_on('done', 'hooked') AS d, tq_on('failed', 'hooked') AS f, tq_on('cancelled', 'hooked', for_handler => 'tq_group') AS c \gset ignored
TRUNCATE log;
SELECT tq_result(tq_group('[]', '{"name": "none"}'));
SELECT tq_group('[{"chain": [{"handler": "add", "args": [1]}], "name": "inner"}]', '{"name": "outer"}') AS id \gset
SELECT tq_result(:'id', wait => '20 s');
SELECT tq_group('[{"handler": "broken", "args": "x"}]', '{"name": "bad"}') AS id \gset
SELECT tq_result(:'id', wait => '20 s', propagate => false);
SELECT tq_cancel(tq_group('[{"handler": "add", "delay": "1 hour"}]', '{"name": "not at all"}'));
SELECT test.await('(SELECT count(*) = 7 FROM acme.log)');
SELECT what FROM log ORDER BY what;
SELECT tq_off('done', 'hooked'), tq_off('failed', 'hooked'), tq_off('cancelled', 'hooked');
SELECT handler, done > 0 AS done, failed > 0 AS failed, retried, max_run_time >= '0' AS run FROM tq_stats WHERE handler LIKE 'tq\_%' ORDER BY handler;

-- What makes no sense.
SELECT test.said(call) FROM (VALUES
    ($$tq_group('[{"group": ["add"], "chain": ["add"]}]')$$),
    ($$tq_group('[{"group": {"handler": "add"}}]')$$),
    ($$tq_group('["add", {"chain": ["add", {"group": ["add", "nobody"]}]}]')$$),
    ($$tq_group((repeat('[{"group": ', 9) || '["add", "nobody"]' || repeat('}]', 9))::jsonb)$$),
    ($$tq_group('[{"iter": [1]}]')$$),
    ($$tq_group('[{"iter": [1], "handler": "add", "chunk": 0}]')$$),
    ($$tq_group('[{"iter": [1], "handler": "add", "chunk": "x"}]')$$),
    ($$tq_group('[{"group": ["add"], "id": "01900000-0000-7000-8000-000000000001"}]')$$),
    ($$tq_group('[{"group": ["add"], "depends_on": []}]')$$),
    ($$tq_group('[{"group": ["add"], "sync": true}]')$$),
    ($$tq_group('[{"group": ["add"], "handler": "add"}]')$$),
    ($$tq_group('[{"group": ["add"], "pass_result": true}]')$$),
    ($$tq_chain('[{"chain": ["add"], "on_step_failure": "ignore"}]')$$),
    ($$tq_group('[{"group": ["add"], "on_success": "nobody"}]')$$)) AS v (call);
SELECT test.said(format('tq_async_many(%L)', '[{"group": ["add"]}]'));
