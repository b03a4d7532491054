-- What a waiting task knows of those that it waits for, whatever becomes of their records.
\i sql/setup.psql
CREATE ROLE owner LOGIN;
CREATE SCHEMA acme AUTHORIZATION owner;
SELECT tq_attach('acme');
SET ROLE owner;
SET search_path = acme, public;
CREATE FUNCTION ok(k text) RETURNS text LANGUAGE sql AS $$ SELECT k $$;
CREATE FUNCTION join_two(k text, before text) RETURNS text LANGUAGE sql AS $$ SELECT before || k $$;
CREATE TABLE mended (k text);
CREATE FUNCTION bad(k text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM mended m WHERE m.k = bad.k) THEN RAISE EXCEPTION 'bad %', k; END IF;
    RETURN k;
END $$;
CREATE TABLE opened (k text);
CREATE FUNCTION gate(k text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN WHILE NOT EXISTS (SELECT FROM acme.opened o WHERE o.k = gate.k) LOOP PERFORM pg_sleep(0.01); END LOOP; RETURN k; END $$;
SELECT bool_and(tq_register(f, max_attempts => 1)) FROM unnest('{ok,bad,gate,join_two}'::text[]) f;
-- What is left of a task, by name.
CREATE FUNCTION left_of(n text) RETURNS text LANGUAGE sql AS $$
    SELECT coalesce((SELECT state || coalesce(': ' || regexp_replace(error ->> 'message', '[0-9a-f-]{36}', '…'), '') FROM tq_fetch(tq_find(n), wait => '20 s')), 'unknown')
$$;

-- A parent that failed and is purged while another one is unfinished has failed all the same.
SELECT tq_async('bad', '"purged"') AS bad, tq_async('gate', '"purged"') AS gate \gset
SELECT tq_async('ok', '"never"', name => 'after purge', depends_on => ARRAY[:'gate', :'bad']::uuid[]) IS NOT NULL;
SELECT left_of('after purge');
SELECT tq_async('ok', '"never"', name => 'after purge, late', depends_on => ARRAY[:'gate', :'bad']::uuid[], delay => '1 hour') AS late \gset
SELECT tq_async('ok', '"any"', name => 'any after purge', depends_on => ARRAY[:'gate', :'bad']::uuid[], depends_mode => 'any') IS NOT NULL;
SELECT tq_purge('0', '{failed}');
SELECT tq_update(:'late', run_at => now());
SELECT left_of('after purge, late');
SELECT state FROM tq_fetch(tq_find('any after purge'));
INSERT INTO opened VALUES ('purged');
SELECT left_of('any after purge');
SELECT tq_result(:'gate', wait => '20 s');
-- One that ended well and is deleted has ended well all the same, also where the dependent has not looked yet.
SELECT tq_async('ok', '"a"') AS a, tq_async('gate', '"deleted"') AS gate \gset
SELECT tq_async('ok', '"a"', name => 'after well', depends_on => ARRAY[:'a', :'gate']::uuid[], delay => '1 hour') AS late \gset
SELECT tq_result(:'a', wait => '20 s');
SELECT tq_delete(:'a');
INSERT INTO opened VALUES ('deleted');
SELECT tq_result(:'gate', wait => '20 s');
SELECT tq_delete(:'gate');
SELECT tq_update(:'late', run_at => now());
SELECT left_of('after well');
-- However they end, with allow_failure.
SELECT tq_async('bad', '"any end"') AS bad, tq_async('gate', '"any end"') AS gate \gset
SELECT tq_async('ok', '"a"', name => 'any end', depends_on => ARRAY[:'gate', :'bad']::uuid[], allow_failure => true) IS NOT NULL;
SELECT state FROM tq_fetch(:'bad', wait => '20 s');
SELECT tq_delete(:'bad');
INSERT INTO opened VALUES ('any end');
SELECT left_of('any end');
-- Of several one is enough; when the last of them has failed and all their records are gone it is cancelled.
SELECT tq_async('bad', '"one"') AS one, tq_async('bad', '"two"', delay => '1 hour') AS two \gset
SELECT tq_async('ok', '"a"', name => 'none of two', depends_on => ARRAY[:'one', :'two']::uuid[], depends_mode => 'any') IS NOT NULL;
SELECT state FROM tq_fetch(:'one', wait => '20 s');
SELECT tq_delete(:'one');
SELECT state, reason FROM tq_fetch(tq_find('none of two'));
SELECT tq_cancel(:'two');
SELECT left_of('none of two');
-- A task named twice is one; one that keeps no result when it ends well can be depended on, also by those who come late.
SELECT tq_async('gate', '"unsaved"', save => false) AS gate \gset
SELECT tq_async('ok', '"a"', name => 'after unsaved', depends_on => ARRAY[:'gate', :'gate']::uuid[]) IS NOT NULL;
SELECT tq_async('ok', '"a"', name => 'after unsaved, late', depends_on => ARRAY[:'gate']::uuid[], delay => '1 hour') AS late \gset
INSERT INTO opened VALUES ('unsaved');
SELECT left_of('after unsaved');
SELECT tq_update(:'late', run_at => now());
SELECT left_of('after unsaved, late');
-- Links don't outlive what they are for.
SELECT tq_purge('0');
SELECT state, count(*) FROM tq_task GROUP BY state;

-- A group's label can be taken off while a flow still needs its members.
SELECT tq_group('[{"handler": "bad", "args": "x", "group_id": "g"}, {"handler": "ok", "args": "y", "group_id": "g"}, {"handler": "gate", "args": "flow", "group_id": "g"}]') AS flow \gset
SELECT test.await($$(SELECT count(*) = 2 FROM tq_results WHERE group_id = 'g')$$);
SELECT tq_delete_group('g', tasks => true);
INSERT INTO opened VALUES ('flow');
SELECT state, error ->> 'message' AS message, result FROM tq_fetch(:'flow', wait => '20 s');

-- Steps, members and calls of an iteration hand their results on though they aren't to be saved.
SELECT tq_chain('[{"handler": "ok", "args": "a", "save": false}, {"handler": "join_two", "args": ["b"], "save": false}, {"handler": "join_two", "args": ["c"]}]', pass_result => true) AS flow \gset
SELECT tq_result(:'flow', wait => '20 s');
SELECT handler, result FROM tq_results WHERE parent_id = :'flow';
SELECT tq_register('ok', max_attempts => 1, save => false);
SELECT tq_group('[{"handler": "ok", "args": "a"}, {"handler": "ok", "args": "b"}, {"handler": "ok", "args": "c", "save": true}]') AS flow \gset
SELECT tq_result(:'flow', wait => '20 s');
SELECT args, result FROM tq_results WHERE parent_id = :'flow';
SELECT tq_async_iter('ok', ARRAY['["a"]', '["b"]', '["c"]']::jsonb[], chunk => 2) AS flow \gset
SELECT tq_result(:'flow', wait => '20 s');
SELECT count(*) FROM tq_results WHERE parent_id = :'flow';
-- As long as the flow may have to run again they stay.
SELECT tq_group('[{"handler": "ok", "args": "a"}, {"handler": "bad", "args": "b"}]') AS flow \gset
SELECT state, error ->> 'message' AS message, error ->> 'detail' AS detail, result FROM tq_fetch(:'flow', wait => '20 s');
INSERT INTO mended VALUES ('b');
SELECT tq_requeue(:'flow');
SELECT tq_result(:'flow', wait => '20 s');
SELECT handler, result FROM tq_results WHERE parent_id = :'flow';
SELECT tq_register('ok', max_attempts => 1, save => true);
-- A flow that can't gather all its members' results again isn't run again: its result would be short.
SELECT tq_chain('[{"handler": "ok", "args": "a"}, {"handler": "bad", "args": "c"}, {"handler": "ok", "args": "d"}]') AS flow \gset
SELECT state FROM tq_fetch(:'flow', wait => '20 s');
SELECT tq_delete(id) FROM tq_results WHERE parent_id = :'flow' AND args = '"a"';
SELECT regexp_replace(test.said(format('tq_requeue(%L)', :'flow')), '[0-9a-f-]{36}', '…', 'g');
SELECT regexp_replace(test.said(format('tq_requeue(%L)', id)), '[0-9a-f-]{36}', '…', 'g') FROM tq_results WHERE parent_id = :'flow' AND handler = 'bad';
-- Nor does a step run with NULL in place of what is handed on.
SELECT tq_chain('[{"handler": "ok", "args": "a"}, {"handler": "join_two", "args": ["b"]}]', pass_result => true) AS flow \gset
SELECT tq_result(:'flow', wait => '20 s');
SELECT id AS step FROM tq_results WHERE parent_id = :'flow' AND handler = 'join_two' \gset
SELECT tq_delete(:'flow'), (SELECT tq_delete(id) FROM tq_results WHERE parent_id = :'flow' AND handler = 'ok');
SELECT tq_requeue(:'step');
SELECT state, regexp_replace(error ->> 'message', '[0-9a-f-]{36}', '…') AS message, error ->> 'hint' AS hint FROM tq_fetch(:'step', wait => '20 s');

-- What its owner has deleted by hand counts as failed, and nobody waits for it for ever.
SELECT tq_async('gate', '"gone"') AS gate, tq_async('ok', '"a"', delay => '1 hour') AS later \gset
SELECT tq_async('ok', '"a"', depends_on => ARRAY[:'later']::uuid[]) AS one, tq_async('ok', '"a"', depends_on => ARRAY[:'gate', :'later']::uuid[]) AS two \gset
SELECT tq_async('ok', '"a"', depends_on => ARRAY[:'later', :'gate']::uuid[], depends_mode => 'any') AS either \gset
SELECT tq_chain('[{"handler": "ok", "args": "a", "delay": "1 hour"}, {"handler": "ok", "args": "b"}]') AS chain, tq_group('[{"handler": "ok", "args": "a"}, {"handler": "ok", "args": "b", "delay": "1 hour"}]') AS "group" \gset
SELECT test.await($$(SELECT count(*) = 2 FROM tq_task t WHERE NOT EXISTS (SELECT FROM tq_task m WHERE m.parent_id = t.id AND m.args = '"a"' AND m.run_at < now()) AND t.handler IN ('tq_group', 'tq_chain'))$$);
SELECT test.await(format($$(SELECT bool_and(state = 'w') FROM tq_task WHERE id IN (%L, %L, %L))$$, :'one', :'two', :'either'));
DELETE FROM tq_task WHERE id = :'later' OR parent_id IN (:'chain', :'group') AND run_at > now();
SELECT v.name, w.reason, regexp_replace(w.detail, '[0-9a-f-]{36}', '…') AS detail, w.hint
  FROM (VALUES (1, 'one', :'one'::uuid), (2, 'two', :'two'), (3, 'either', :'either'), (4, 'chain', :'chain'), (5, 'group', :'group')) v (n, name, id), LATERAL tq_why(v.id) w
 WHERE w.reason = 'gone' ORDER BY n LIMIT 1;
SELECT v.name, f.state, regexp_replace(f.error ->> 'message', '[0-9a-f-]{36}', '…') AS message, f.result
  FROM (VALUES (1, 'one', :'one'::uuid), (2, 'two', :'two'), (3, 'chain', :'chain'), (4, 'group', :'group')) v (n, name, id), LATERAL tq_fetch(v.id, wait => '20 s') f ORDER BY n;
SELECT state, reason FROM tq_fetch(:'either');
INSERT INTO opened VALUES ('gone');
SELECT state FROM tq_fetch(:'either', wait => '20 s');
SELECT tq_purge('0') > 0;
SELECT state, count(*) FROM tq_task GROUP BY state;
RESET ROLE;

-- A failed task that is mended and run again brings back those that were cancelled because of it, to any depth.
SET ROLE owner;
SELECT tq_async('bad', '"root"') AS root \gset
SELECT tq_async('ok', '"1"', name => 'child', depends_on => ARRAY[:'root']::uuid[]) AS child \gset
SELECT tq_async('ok', '"2"', name => 'grandchild', depends_on => ARRAY[:'child']::uuid[]) AS grandchild \gset
SELECT tq_async('ok', '"3"', name => 'in an hour', depends_on => ARRAY[:'grandchild']::uuid[], run_at => '2200-01-01') AS late \gset
SELECT tq_async('bad', '"other root"') AS other \gset
SELECT tq_async('ok', '"4"', name => 'of two', depends_on => ARRAY[:'root', :'other']::uuid[]) IS NOT NULL;
SELECT tq_async('ok', '"5"', name => 'of one of two', depends_on => ARRAY[:'root', :'other']::uuid[], depends_mode => 'any') IS NOT NULL;
SELECT tq_async('ok', '"6"', name => 'cancelled', depends_on => ARRAY[:'late']::uuid[]) AS cancelled \gset
SELECT tq_cancel(:'cancelled');
SELECT tq_update(:'late', run_at => now());
SELECT n, left_of(n) FROM unnest('{child,grandchild,in an hour,of two,of one of two,cancelled}'::text[]) n;
-- Not while it fails again, nor where another one has failed too.
SELECT tq_requeue(:'root');
SELECT state FROM tq_fetch(:'root', wait => '20 s');
SELECT n, left_of(n) FROM unnest('{child,grandchild,in an hour,of two,of one of two,cancelled}'::text[]) n;
INSERT INTO mended VALUES ('root'), ('other root');
SELECT tq_requeue(:'root');
SELECT tq_result(:'root', wait => '20 s');
SELECT n, left_of(n) FROM unnest('{child,grandchild,in an hour,of two,of one of two,cancelled}'::text[]) n;
SELECT tq_requeue(:'other');
SELECT n, left_of(n) FROM unnest('{of two,cancelled}'::text[]) n;
-- Of a flow: by the flow or by its member.
SELECT tq_group('[{"handler": "bad", "args": "m"}]') AS flow \gset
SELECT tq_async('ok', '"f"', name => 'after flow', depends_on => ARRAY[:'flow']::uuid[]) IS NOT NULL;
SELECT left_of('after flow');
INSERT INTO mended VALUES ('m');
SELECT tq_requeue(id) FROM tq_results WHERE parent_id = :'flow';
SELECT left_of('after flow');
-- What can't come back is named, and keeps nothing else from running again.
SELECT tq_async('bad', '"keyed"') AS root \gset
SELECT tq_async('ok', '"k"', name => 'keyed', depends_on => ARRAY[:'root']::uuid[], unique_key => 'k') IS NOT NULL;
SELECT left_of('keyed');
SELECT tq_async('gate', '"keyed"', unique_key => 'k') AS newcomer \gset
INSERT INTO mended VALUES ('keyed');
SET client_min_messages = warning;
SELECT tq_requeue(:'root');
RESET client_min_messages;
SELECT tq_result(:'root', wait => '20 s');
SELECT left_of('keyed');
SELECT tq_cancel(:'newcomer');
SELECT tq_async('bad', '"many keyed"') AS root \gset
SELECT count(tq_async('ok', '"k"', name => 'many keyed', depends_on => ARRAY[:'root']::uuid[], unique_key => 'k' || n)) FROM generate_series(1, 12) n;
SELECT test.await($$(SELECT count(*) = 12 FROM tq_results WHERE name = 'many keyed')$$);
SELECT count(tq_async('gate', '"keyed"', unique_key => 'k' || n)) FROM generate_series(1, 12) n;
INSERT INTO mended VALUES ('many keyed');
\set VERBOSITY sqlstate
SELECT tq_requeue(:'root');
\set VERBOSITY terse
INSERT INTO opened VALUES ('keyed');
SELECT test.await('(NOT EXISTS (SELECT FROM acme.tq_task WHERE handler = ''gate''))');
-- In one's own session too; and run again by itself it waits for nobody.
BEGIN;
SELECT tq_async('bad', '"here"', name => 'here') AS root \gset
SELECT tq_async('ok', '"k"', name => 'after here', depends_on => ARRAY[:'root']::uuid[]) AS child \gset
SELECT name, state FROM tq_drain() ORDER BY name;
SELECT tq_requeue(:'child');
SELECT name, state FROM tq_drain() ORDER BY name;
ROLLBACK;
SELECT tq_purge('0') > 0;
SELECT state, count(*) FROM tq_task GROUP BY state;
RESET ROLE;
