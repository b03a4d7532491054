-- tq_tasks, tq_results, tq_schedules: exactly what their SQL says, over any number of rows, whoever asks for whichever tenant.
\i sql/setup.psql
CREATE ROLE owner LOGIN;
CREATE ROLE other LOGIN;
CREATE ROLE nobody LOGIN;
CREATE SCHEMA acme AUTHORIZATION owner;
CREATE SCHEMA globex AUTHORIZATION other;
SELECT tq_attach('acme'), tq_attach('globex');
SELECT tq_pause_all();
SET ROLE owner;
SET search_path = acme, public;
CREATE FUNCTION ok(k text) RETURNS text LANGUAGE sql AS 'SELECT k';
CREATE FUNCTION bad(k text) RETURNS text LANGUAGE sql AS 'SELECT k';
SELECT tq_register('ok'), tq_register('bad');
-- Five failed ones before 1,500 that are done, and a few of each other kind.
INSERT INTO tq_result (id, handler, state, priority, attempts, crashes, created_at, run_at, started_at, finished_at, args, result, error, name, group_id, queue, schedule)
SELECT ('00000000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid,
       CASE WHEN n <= 5 THEN 'bad' ELSE 'ok' END,
       CASE WHEN n <= 5 THEN 'f' WHEN n % 500 = 0 THEN 'c' WHEN n % 501 = 0 THEN 'e' WHEN n % 502 = 0 THEN 'x' WHEN n = 777 THEN '!' ELSE 'd' END,
       0, 1, 0, t, t, t, t + interval '1 second' * (n * 7919 % 1505), jsonb_build_array(n),
       CASE n % 3 WHEN 0 THEN to_jsonb(n) WHEN 1 THEN 'null' END, CASE WHEN n <= 5 THEN '{"message": "no"}' END::jsonb,
       CASE WHEN n % 4 = 0 THEN 'n' || n % 40 END, CASE WHEN n % 5 = 0 THEN 'g' || n % 50 END, CASE WHEN n % 7 = 0 THEN 'mail' END, CASE WHEN n % 6 = 0 THEN 's' || n % 12 END
  FROM generate_series(1, 1505) n, CAST('2026-01-01 00:00Z' AS timestamptz) t;
SELECT count(*) FROM tq_results WHERE state = 'failed';
SELECT state, count(*) FROM tq_results GROUP BY 1 ORDER BY 2 DESC, 1;
SELECT id, tenant, handler, state, args, result, error, attempt, max_attempts, queue, priority FROM tq_results WHERE id::text < '00000000-0000-7000-8000-000000000004' ORDER BY id;
-- JSON null and SQL NULL are two things.
SELECT count(*), count(result), count(*) FILTER (WHERE result = 'null') FROM tq_results;

-- Whatever is asked, by whichever way the planner takes: the same as of a table that holds the same rows.
CREATE TABLE kept AS SELECT * FROM tq_results;
CREATE TABLE wanted AS SELECT * FROM (VALUES ('n8'), ('n0'), ('n8'), ('none'), (NULL)) AS w(name);
CREATE FUNCTION ask(condition text, rest text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    said text[];
    answer text;
    source text;
BEGIN
    FOREACH source IN ARRAY '{kept,tq_results}'::text[] LOOP
        EXECUTE format('SELECT coalesce(md5(string_agg(x::text, '';'' ORDER BY %s)), ''none'') || '' '' || count(*) FROM (SELECT r.* FROM %I r WHERE %s %s) x',
                       CASE WHEN rest LIKE 'ORDER BY%' THEN 'NULL::int' ELSE 'x::text' END, source, condition, rest) INTO answer;
        said := said || answer;
    END LOOP;
    RETURN CASE WHEN said[1] = said[2] THEN 'same' ELSE format('%s %s: %s, not %s', condition, rest, said[2], said[1]) END;
END $$;
CREATE TABLE condition (sql text);
INSERT INTO condition VALUES
    ('true'), ('false'), ('id = ''00000000-0000-7000-8000-000000000777'''), ('id = ANY (ARRAY[''00000000-0000-7000-8000-000000000777'', ''00000000-0000-7000-8000-000000000003'', NULL, ''00000000-0000-7000-8000-000000000777'']::uuid[])'),
    ('id > ''00000000-0000-7000-8000-000000001499'''), ('id BETWEEN ''00000000-0000-7000-8000-000000000010'' AND ''00000000-0000-7000-8000-000000000020'''), ('id = NULL'), ('id = ANY (''{}'')'),
    ('state = ''failed'''), ('state = ''done'''), ('state = ''unknown'''), ('state = ''queued'''), ('state IN (''failed'', ''cancelled'', ''failed'')'), ('state IN (''failed'', ''done'')'), ('state <> ''done'''), ('state IS NULL'), ('''expired'' = state'),
    ('state = ''failed'' OR name = ''n8'''), ('state = ''cancelled'' AND finished_at > ''2026-01-01 00:10Z'''), ('state = ''done'' AND finished_at < ''2026-01-01 00:10Z'''), ('state = ANY (ARRAY[''expired'', ''quarantined'']) AND finished_at >= ''2026-01-01 00:02Z'''),
    ('name = ''n8'''), ('name = ANY (''{n8,n0,n8}'')'), ('name = ''n8''::varchar'), ('name LIKE ''n1%'''), ('name > ''n2'''), ('name IS NULL'), ('name = ''N8'''), ('name COLLATE "C" = ''n8'''), ('''n12'' = name'), ('name = (SELECT ''n8''::text)'), ('name = ANY (SELECT name FROM wanted)'),
    ('group_id = ''g10'''), ('group_id = ''g10'' AND name = ''n20'''), ('schedule = ''s6'''), ('schedule = ''s6'' AND finished_at > ''2026-01-01 00:20Z'''), ('schedule IN (''s6'', ''s0'') AND finished_at <= ''2026-01-01 00:03Z'''), ('schedule = ''s6'' AND schedule = ''s0'''),
    ('finished_at > ''2026-01-01 00:24Z'''), ('finished_at >= ''2026-01-01 00:24Z'' AND finished_at < ''2026-01-01 00:24:30Z'''), ('finished_at = ''2026-01-01 00:24Z'''), ('finished_at < ''2026-01-02''::date'), ('finished_at > ''2026-01-01 00:24''::timestamp'), ('finished_at BETWEEN ''2026-01-01 00:00Z'' AND ''2026-01-01 00:01Z'''),
    ('finished_at > ''infinity'''), ('finished_at IN (''2026-01-01 00:24Z'', ''2026-01-01 00:23Z'')'), ('(finished_at, id) < (''2026-01-01 00:01Z'', ''00000000-0000-7000-8000-000000000777'')'), ('(finished_at, id) >= (''2026-01-01 00:24Z'', ''00000000-0000-7000-8000-000000000777'')'), ('''2026-01-01 00:24Z'' < finished_at'),
    ('handler = ''bad'''), ('queue = ''mail'''), ('queue = ''default'' AND state = ''failed'''), ('args @> ''[3]'''), ('random() >= 0 AND state = ''failed'''), ('id::text LIKE ''%77'''), ('result = ''null'' AND name = ''n4'''), ('tenant = ''acme'' AND state = ''expired'''), ('tenant = ''globex''');
CREATE TABLE rest (sql text);
INSERT INTO rest VALUES (''), ('ORDER BY finished_at, id'), ('ORDER BY finished_at DESC, id DESC LIMIT 10'), ('ORDER BY id LIMIT 7'), ('ORDER BY id DESC LIMIT 7'), ('ORDER BY state, finished_at, id'), ('ORDER BY schedule, finished_at, id LIMIT 20'), ('ORDER BY name NULLS FIRST, id OFFSET 3 LIMIT 5'),
    ('ORDER BY finished_at DESC NULLS LAST, id LIMIT 5'), ('ORDER BY group_id COLLATE "C" DESC, id LIMIT 9');
SELECT answer, count(*) FROM condition c, rest r, LATERAL (SELECT ask(c.sql, r.sql) AS answer) a GROUP BY 1 ORDER BY 1;
SET enable_sort = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET jit = off;
SELECT answer, count(*) FROM condition c, rest r, LATERAL (SELECT ask(c.sql, r.sql) AS answer) a GROUP BY 1 ORDER BY 1;
-- Joins: one search for each row of the other side.
SELECT count(*), count(DISTINCT r.id) FROM wanted w JOIN tq_results r ON r.name = w.name;
SELECT count(*), count(DISTINCT r.id) FROM wanted w JOIN kept r ON r.name = w.name;
SELECT w.name, r.id FROM wanted w LEFT JOIN LATERAL (SELECT id FROM tq_results r WHERE r.name = w.name ORDER BY finished_at DESC LIMIT 1) r ON true ORDER BY 1, 2;
SELECT count(*) FROM kept k JOIN tq_results r ON r.id = k.id AND r.finished_at = k.finished_at WHERE k.state <> 'done';
RESET enable_sort; RESET enable_hashjoin; RESET enable_mergejoin; RESET jit;
-- A page after the other.
SELECT string_agg(n::text, ' ') FROM (SELECT args -> 0 AS n FROM tq_results ORDER BY finished_at DESC, id DESC LIMIT 3) x;
SELECT string_agg(n::text, ' ') FROM (SELECT r.args -> 0 AS n FROM tq_results r, (SELECT finished_at, id FROM tq_results ORDER BY finished_at DESC, id DESC OFFSET 2 LIMIT 1) last
                  WHERE (r.finished_at, r.id) < (last.finished_at, last.id) ORDER BY r.finished_at DESC, r.id DESC LIMIT 3) x;

-- What the planner may do with them.
CREATE FUNCTION way(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE line text;
BEGIN
    FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || query LOOP
        IF line ~ 'Rows:' THEN RETURN NEXT btrim(line); END IF;
    END LOOP;
END $$;
SELECT q, way('SELECT * FROM tq_results WHERE ' || q) FROM (VALUES ('id = gen_random_uuid()'), ('id = ''00000000-0000-7000-8000-000000000777'''), ('state = ''failed'''), ('state = ''failed'' AND finished_at > now()'), ('name = ''a'''), ('group_id = ''a'''), ('schedule = ''s'' ORDER BY finished_at DESC LIMIT 1'),
    ('finished_at > now() - interval ''1 hour'''), ('true ORDER BY finished_at DESC LIMIT 10'), ('handler = ''a'''), ('name = ANY (ARRAY[''a'', ''b''])'), ('name COLLATE "C" = ''a'''), ('id = id'), ('(finished_at, id) < (now(), gen_random_uuid())')) AS v(q);
SELECT q, way('SELECT * FROM tq_tasks WHERE ' || q) FROM (VALUES ('id = ''00000000-0000-7000-8000-000000000777'''), ('name = ''a'''), ('group_id = ''a'''), ('state = ''queued''')) AS v(q);
SELECT q, way('SELECT * FROM tq_schedules WHERE ' || q) FROM (VALUES ('name = ''a'''), ('next_run < now() + interval ''1 hour'' ORDER BY next_run'), ('true ORDER BY name')) AS v(q);

-- What was written in bulk from them does all of it.
SELECT count(tq_async('ok', to_jsonb(n::text), name => 'task ' || n)) FROM generate_series(1, 1200) n;
SELECT count(tq_cancel(id)) FROM tq_tasks WHERE handler = 'ok';
SELECT count(*) FROM tq_tasks;
SELECT count(tq_schedule('s' || n, 'ok', '@yearly', '["x"]')) FROM generate_series(1, 1200) n;
SELECT count(tq_unschedule(name)) FROM tq_schedules;
SELECT count(*) FROM tq_schedules;
SELECT count(tq_requeue(id)) FROM tq_results WHERE state = 'failed';
SELECT state, count(*) FROM tq_tasks GROUP BY 1;

-- Large ones and deep ones come as they are.
SELECT count(tq_async('ok', jsonb_build_object('k', repeat(md5(n::text), 32000)), name => 'large')) FROM generate_series(1, 280) n;
INSERT INTO tq_result (id, handler, state, priority, attempts, crashes, created_at, run_at, finished_at, args, result, name)
SELECT gen_random_uuid(), 'ok', 'd', 0, 1, 0, now(), now(), now(), (repeat('[', 300) || repeat(']', 300))::jsonb, to_jsonb(repeat(md5(n::text), 100000)), 'large' FROM generate_series(1, 100) n;
SELECT count(*), sum(length(result #>> '{}')), count(DISTINCT args), min(length(args::text)) FROM tq_results WHERE name = 'large';
SELECT count(*), min(length(args ->> 'k')) FROM tq_tasks WHERE name = 'large';
SELECT length(result #>> '{}') FROM tq_results WHERE name = 'large' LIMIT 1;

-- Which tenant, and who asks, is settled when an execution begins.
RESET ROLE;
SET ROLE other; SET search_path = globex, public;
SELECT count(*) FROM tq_results;
RESET ROLE;
SET search_path = acme, public;
SET plan_cache_mode = force_generic_plan;
PREPARE states(text) AS SELECT tenant, count(*) FROM tq_results WHERE state = $1 GROUP BY 1;
EXECUTE states('cancelled');
EXECUTE states('done');
EXECUTE states(NULL);
EXECUTE states('unheard of');
BEGIN; SET LOCAL search_path = globex, public; EXECUTE states('cancelled'); COMMIT;
EXECUTE states('cancelled');
SET ROLE nobody;
EXECUTE states('cancelled');
RESET ROLE;
GRANT USAGE ON SCHEMA acme TO nobody;
SET ROLE nobody;
EXECUTE states('cancelled');
RESET ROLE;
GRANT SELECT ON acme.tq_task, acme.tq_result TO nobody;
SET ROLE nobody;
EXECUTE states('cancelled');
SET search_path = pg_catalog, public;
EXECUTE states('cancelled');
EXPLAIN (COSTS OFF) EXECUTE states('cancelled');
RESET ROLE;
-- A cursor goes on with the tenant and the rows that it began with.
SET search_path = acme, public;
BEGIN;
DECLARE c SCROLL CURSOR FOR SELECT args -> 0 AS n FROM tq_results WHERE name = 'n8' ORDER BY id;
FETCH 2 FROM c;
SET LOCAL search_path = globex, public;
SET LOCAL ROLE other;
FETCH 1 FROM c;
RESET ROLE;
DELETE FROM acme.tq_result WHERE name = 'n8';
FETCH 1 FROM c;
FETCH BACKWARD 2 FROM c;
SAVEPOINT s;
DECLARE d CURSOR FOR SELECT 1 / (args ->> 0)::int FROM tq_results;
SET LOCAL search_path = acme, public;
DECLARE e CURSOR FOR SELECT 1 / ((args ->> 0)::int - 7) FROM tq_results WHERE id < '00000000-0000-7000-8000-000000000009';
FETCH ALL FROM e;
ROLLBACK TO s;
FETCH 1 FROM c;
ROLLBACK;
BEGIN;
DECLARE h CURSOR WITH HOLD FOR SELECT result FROM tq_results WHERE name = 'large';
COMMIT;
SELECT test.said('1 / 0');
FETCH 0 FROM h;
MOVE FORWARD ALL IN h;
CLOSE h;

-- What can't be done with them, and isn't anybody's.
SELECT * FROM tq_results FOR UPDATE;
SELECT * FROM tq_tasks t JOIN kept k USING (id) FOR SHARE OF t;
DELETE FROM tq_results;
UPDATE kept SET name = r.name FROM tq_results r WHERE r.id = kept.id AND r.state = 'expired';
SET ROLE owner;
CREATE FOREIGN TABLE mine (id uuid) SERVER tenant_q;
SELECT count(*) FROM tenant_q.finished_task;
RESET ROLE;
CREATE FOREIGN TABLE mine (id uuid) SERVER tenant_q;
SELECT * FROM mine;
DROP FOREIGN TABLE mine;
ANALYZE tenant_q.finished_task;

-- Why it has not ended well stands where it is looked for, in one line; documents stand behind all the rest.
INSERT INTO acme.tq_result (id, handler, state, priority, attempts, crashes, created_at, run_at, finished_at, error, history)
SELECT ('00000000-0000-7000-8000-00000000900' || n)::uuid, 'bad', s, 0, 1, 0, now(), now(), now(), e::jsonb, jsonb_build_array(e::jsonb)
  FROM (VALUES (1, 'f', '{"sqlstate": "P0001", "message": "the first line\nthe second", "context": "long"}'), (2, 'c', jsonb_build_object('message', repeat('x', 300))::text),
               (3, 'f', '"no object"'), (4, 'd', NULL)) x(n, s, e);
SET search_path = acme, public;
SELECT state, left(reason, 20) AS reason, length(reason) FROM tq_results WHERE id::text LIKE '00000000-%-00000000900_' ORDER BY id;
SELECT reason FROM tq_fetch('00000000-0000-7000-8000-000000009001');
-- Begun anew, what failed before is no reason.
SELECT tq_requeue('00000000-0000-7000-8000-000000009001', args => '[1]');
SELECT state, reason, error FROM tq_tasks WHERE id = '00000000-0000-7000-8000-000000009001';
SELECT state, reason, error FROM tq_fetch('00000000-0000-7000-8000-000000009001');
SELECT attname FROM pg_attribute WHERE attrelid = 'tq_results'::regclass AND attnum > 0 ORDER BY attnum;
