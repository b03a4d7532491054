-- Results that are deep come whole; those that are too large together say so, and nothing that was done is lost.
\i sql/setup.psql
CREATE ROLE owner LOGIN;
CREATE SCHEMA acme AUTHORIZATION owner;
CREATE SCHEMA globex AUTHORIZATION owner;
SELECT tq_attach('acme'), tq_attach('globex');
-- A result may have ten times as much.
ALTER ROLE owner SET tenant_q.max_args = '30MB';
SET ROLE owner;
SET search_path = acme, public;
CREATE TABLE log (n serial, what text);
CREATE FUNCTION large(mb numeric) RETURNS jsonb LANGUAGE sql AS $$ SELECT to_jsonb(repeat('x', (mb * 1000000)::int)) $$;
CREATE FUNCTION deep(levels int) RETURNS jsonb LANGUAGE sql AS $$ SELECT (repeat('[', levels) || repeat(']', levels))::jsonb $$;
CREATE FUNCTION broken() RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'broken'; END $$;
CREATE FUNCTION size(doc jsonb) RETURNS int LANGUAGE sql AS $$ SELECT length(doc::text) $$;
CREATE FUNCTION told(task jsonb) RETURNS void LANGUAGE sql
AS $$ INSERT INTO acme.log (what) VALUES (concat_ws(' ', task->>'event', task->>'handler', task->>'state', coalesce(length(task->>'result')::text, 'no result'), task->'error'->>'sqlstate')) $$;
SELECT bool_and(tq_register(f, max_attempts => 1)) FROM unnest('{large,deep,broken,size,told}'::text[]) f;

-- Deeper than other programs read: as it is, everywhere.
SELECT tq_async('deep', '1000', on_success => 'told', group_id => 'deep') AS id \gset
SELECT length(tq_result(:'id', wait => '20 s')::text);
SELECT length(result::text) FROM tq_fetch(:'id');
SELECT test.await('(SELECT count(*) = 1 FROM acme.log)');
SELECT what FROM log;
SELECT length(tq_result_group('deep')::text), (SELECT length(result::text) FROM tq_fetch_group('deep')) AS fetched;
SELECT tq_group('[{"handler": "deep", "args": 1000}, {"group": [{"handler": "deep", "args": 1000}]}]', '{"on_success": "told"}') AS id \gset
SELECT length(tq_result(:'id', wait => '20 s')::text);
SELECT test.await('(SELECT count(*) = 2 FROM acme.log)');
SELECT what FROM log ORDER BY n;
SELECT tq_async('size', (repeat('[', 1000) || repeat(']', 1000))::jsonb, on_success => 'told') AS id \gset
SELECT tq_result(:'id', wait => '20 s');
SELECT length(args::text) FROM tq_fetch(:'id');
SELECT test.await('(SELECT count(*) = 3 FROM acme.log)');
BEGIN;
SELECT tq_async('deep', '1000', save => false), tq_async('deep', '1000') \gset
SELECT handler, state, length(result::text) FROM tq_drain() WHERE handler = 'deep';
ROLLBACK;
TRUNCATE log;
-- Schedules carry such arguments from tenant to tenant; one of them keeps no other from being exported.
SELECT tq_schedule('deep', 'size', '@yearly', (repeat('[', 1000) || repeat(']', 1000))::jsonb), tq_schedule('plain', 'size', '@yearly', '{"a": 1}'), tq_schedule('none', 'broken', '@yearly'), tq_schedule('null', 'size', '@yearly', 'null') \gset
SELECT e ->> 'name' AS name, length((e -> 'args')::text) FROM jsonb_array_elements(tq_export()) e ORDER BY 1;
SET search_path = globex, acme, public;
SELECT bool_and(tq_register(f, 'acme.' || f)) FROM unnest('{size,broken}'::text[]) f;
SELECT tq_import(tq_export(tenant => 'acme'), tenant => 'globex');
SELECT tq_export() = tq_export(tenant => 'acme') AS same;
SELECT test.said($$tq_import('[1]')$$), test.said($$tq_import('{}')$$), test.said($$tq_import('[{"name": "x", "handler": "size", "rule": "@yearly", "args": [1], "colour": 1}]')$$);
SET search_path = acme, public;

-- What a listener is told of is as large as it is.
SELECT tq_on('done', 'told', for_handler => 'large') AS d \gset
SELECT tq_async('large', '40') AS id \gset
SELECT length(tq_result(:'id', wait => '20 s')::text);
SELECT test.await('(SELECT count(*) = 1 FROM acme.log)');
SELECT what FROM log;
TRUNCATE log;
SELECT tq_off('done', 'told');

-- Two results that fit into no document together: the last member's work stands, and so do the results.
SELECT tq_group('[{"handler": "large", "args": 140, "group_id": "large"}, {"handler": "large", "args": 140, "group_id": "large"}]', '{"name": "both", "on_success": "told", "on_failure": "told", "hook": "told"}') AS id \gset
SELECT tq_fetch.state, result, error ->> 'sqlstate' AS sqlstate, error ->> 'message' AS message, replace(error ->> 'hint', :'id', '…') AS hint FROM tq_fetch(:'id', wait => '60 s');
SELECT tq_result(:'id');
SELECT reason, regexp_replace(detail, 'since [^:]*:[^:]*:[^:]*:', 'since …:') AS detail FROM tq_why(:'id');
SELECT handler, state, attempts FROM tq_result WHERE parent_id = :'id';
SELECT length(result::text) FROM tq_results WHERE parent_id = :'id';
-- The callback ends with the same error; who is called for failures, or for every end, is.
SELECT test.await('(SELECT count(*) = 2 FROM acme.log)');
SELECT what FROM log;
SELECT state, error ->> 'sqlstate' AS sqlstate, error ->> 'message' AS message FROM tq_results WHERE name = 'both: hook' ORDER BY state;
SELECT regexp_replace(detail, 'since [^:]*:[^:]*:[^:]*:', 'since …:') AS detail FROM tq_results r, tq_why(r.id) WHERE name = 'both: hook' AND state = 'failed';
-- Asked for together they are an error, not fewer; one by one they come.
SELECT test.said($$tq_result_group('large')$$);
SELECT state, length(result::text) FROM tq_fetch_group('large');
SELECT tq_count_group('large');
-- A failed member comes first in what is said; in a chain nothing gets a part.
SELECT tq_chain('[{"group": [{"handler": "large", "args": 140}, {"handler": "large", "args": 140}]}, "size"]', pass_result => true) AS id \gset
SELECT tq_result(:'id', wait => '60 s', propagate => false);
SELECT handler, state FROM tq_results WHERE parent_id = :'id' ORDER BY handler;
TRUNCATE log;
SELECT tq_group('["broken", {"handler": "large", "args": 140}, {"handler": "large", "args": 140}]', '{"name": "three", "on_success": "told", "on_failure": "told"}') AS id \gset
SELECT error ->> 'sqlstate' AS sqlstate, error ->> 'message' AS message FROM tq_fetch(:'id', wait => '60 s');
SELECT test.await('(SELECT count(*) = 1 FROM acme.log)');
SELECT what FROM log;
SELECT count(*) FROM tq_results WHERE name = 'three: hook' AND state = 'failed';
-- A task whose own end fits into no document is done all the same.
TRUNCATE log;
SELECT tq_async('large', '268.4354', name => 'alone', on_success => 'told') AS id \gset
SELECT test.await(format('(SELECT EXISTS (SELECT FROM acme.tq_result WHERE id = %L))', :'id'));
SELECT state, attempts FROM tq_result WHERE id = :'id';
SELECT state, error ->> 'sqlstate' AS sqlstate FROM tq_results WHERE name = 'alone: hook';
