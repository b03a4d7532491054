-- Flows, dependencies, hooks, keys and limits.
\i sql/setup.psql
CREATE ROLE owner LOGIN;
CREATE SCHEMA acme AUTHORIZATION owner;
SELECT tq_attach('acme');
SET ROLE owner;
SET search_path = acme, public;
CREATE TABLE log (n serial, what text);
CREATE FUNCTION add(x int, y int DEFAULT 1) RETURNS int LANGUAGE sql AS $$ SELECT x + y $$;
CREATE FUNCTION echo(doc jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT doc $$;
CREATE FUNCTION broken(x int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'broken %', x; END $$;
CREATE FUNCTION hooked(task jsonb) RETURNS void LANGUAGE sql
AS $$ INSERT INTO log (what) VALUES (concat_ws(' ', task->>'handler', task->>'name', task->>'state', task->>'result', task->'error'->>'message')) $$;
SELECT bool_and(tq_register(f, max_attempts => 1)) FROM unnest('{add,echo,broken,hooked}'::text[]) f;

-- Groups: results in input order; a hook when all are done.
SELECT tq_group('[{"handler": "add", "args": [1, 2]}, {"handler": "add", "args": {"x": 5}}, {"handler": "echo", "args": {"a": 1}}]',
                '{"name": "three", "on_success": "hooked"}') AS id \gset
SELECT tq_result(:'id', wait => '20 s');
SELECT handler, name, state, result FROM tq_fetch(:'id');
SELECT handler, state, result FROM tq_results WHERE parent_id = :'id' ORDER BY id;
-- A member that fails lets the flow fail, unless it is allowed to.
SELECT tq_group('[{"handler": "add", "args": [1]}, {"handler": "broken", "args": [2]}, {"handler": "broken", "args": [3]}]', '{"name": "bad", "on_failure": "hooked"}') AS id \gset
SELECT tq_result(:'id', wait => '20 s');
SELECT state, result, error->>'message' AS message, error->>'detail' AS detail FROM tq_fetch(:'id');
SELECT tq_group('[{"handler": "add", "args": [1]}, {"handler": "broken", "args": [2]}]', '{"allow_failure": true}') AS id \gset
SELECT tq_result(:'id', wait => '20 s');
SELECT test.await('(SELECT count(*) = 2 FROM acme.log)');
SELECT what FROM log ORDER BY what;

-- Chains: one after the other, the result handed on.
SELECT tq_result(tq_chain('[{"handler": "add", "args": [1, 2]}, {"handler": "add", "args": {"y": 10}}, "echo"]', pass_result => true), wait => '0');
SELECT test.await('(SELECT NOT EXISTS (SELECT FROM acme.tq_task))');
SELECT result FROM tq_results WHERE handler = 'tq_chain';
SELECT tq_chain('[{"handler": "add", "args": [1]}, {"handler": "broken", "args": [2]}, {"handler": "add", "args": [3]}, {"handler": "add", "args": [4]}]') AS id \gset
SELECT tq_result(:'id', wait => '20 s', propagate => false);
SELECT handler, state FROM tq_results WHERE parent_id = :'id' ORDER BY id;
-- What failed runs again, and what came after it.
CREATE OR REPLACE FUNCTION broken(x int) RETURNS int LANGUAGE sql AS $$ SELECT x $$;
SELECT tq_requeue(:'id');
SELECT tq_result(:'id', wait => '20 s');
SELECT handler, state, result FROM tq_results WHERE parent_id = :'id' ORDER BY id;

-- Iterations, in chunks.
SELECT tq_async_iter('add', (SELECT array_agg(jsonb_build_array(i, i)) FROM generate_series(1, 10) i), chunk => 3) AS id \gset
SELECT tq_iter_result(:'id', wait => '20 s');
SELECT count(*) FROM tq_results WHERE parent_id = :'id';

-- Paused, to look at what waits.
SELECT tq_pause();
SELECT tq_async('add', '[1]', name => 'first') AS first \gset
SELECT tq_async('add', '[2]', depends_on => ARRAY[:'first']::uuid[], name => 'second') AS second \gset
SELECT tq_async('add', '[3]', depends_on => ARRAY[tq_async('add', '[9]', name => 'own')], name => 'third') AS third \gset
SELECT name, state, reason ~ '^waits for task ' AS waits FROM tq_tasks ORDER BY name;
SELECT tq_async('add', '[4]', unique_key => 'k') AS holder \gset
SELECT tq_async('add', '[5]', unique_key => 'k', on_conflict => 'skip') = :'holder' AS same;
SELECT tq_async('add', '[6]', unique_key => 'k', on_conflict => 'replace') = :'holder' AS same;
SELECT args FROM tq_tasks WHERE id = :'holder';
SELECT tq_group('[{"handler": "add", "args": [1]}, {"handler": "add", "args": [2]}]') AS id \gset
SELECT tq_cancel(:'id');
SELECT handler, state FROM tq_results WHERE :'id' IN (id, parent_id) ORDER BY handler;
-- What it depends on is cancelled: so is it.
SELECT tq_cancel(:'first');
SELECT tq_resume();
SELECT tq_result(:'second', wait => '20 s', propagate => false) ->> 0 ~ 'has been cancelled$' AS why;
SELECT state FROM tq_fetch(:'second');
SELECT tq_result(:'third', wait => '20 s');
SELECT tq_result(:'holder', wait => '20 s');

-- Limits are the owner's.
RESET ROLE;
CREATE ROLE other LOGIN;
GRANT USAGE ON SCHEMA acme TO other;
SET ROLE other;
SELECT tq_set_limit('smtp', max_running => 1);
\echo :SQLSTATE
RESET ROLE;
SELECT tq_set_limit('smtp', max_running => 1, rate => '1000/s');
SELECT tq_set_queue('reports', max_running => 1, priority => 5, max_attempts => 7);
SELECT tq_async('add', '[1]', queue => 'reports', delay => '1 hour') AS id \gset
SELECT priority FROM tq_tasks WHERE id = :'id';
SELECT tq_set_queue('reports', reset => '{max_running}');
SELECT max_running, priority, max_attempts FROM tenant_q.queue;
