-- Handlers: every kind of function, argument and result; what happens when the function changes.
\i sql/setup.psql
CREATE ROLE owner LOGIN;
CREATE ROLE other LOGIN;
CREATE ROLE worker LOGIN;
CREATE SCHEMA acme AUTHORIZATION owner;
CREATE SCHEMA globex AUTHORIZATION owner;
SELECT tq_attach('acme'), tq_attach('globex');
SET ROLE owner;
SET search_path = acme, public;
SET timezone = 'UTC';
-- Enqueues, waits, and says what came of it.
CREATE FUNCTION enqueue(handler text, args jsonb DEFAULT NULL) RETURNS uuid LANGUAGE sql AS $$ SELECT tq_async(handler, args, max_attempts => 1) $$;

-- Arguments, by name, by position, single; defaults
CREATE FUNCTION f(a int, b text DEFAULT 'b', c date DEFAULT '2024-02-29') RETURNS text LANGUAGE sql AS $$ SELECT format('%L %L %L', a, b, c) $$;
SELECT tq_register('f');
CREATE TABLE calls (n int PRIMARY KEY, handler text, args jsonb, id uuid);
INSERT INTO calls (n, handler, args) VALUES (1, 'f', '{"a": 1}'), (2, 'f', '[1]'), (3, 'f', '{"c": "2023-01-01", "a": "7"}'), (4, 'f', '[1, null, "2023-01-01"]'), (5, 'f', '{"a": null, "b": null, "c": null}'),
    (6, 'f', '{"b": "quote '' \" \\ \u00fc \ud83d\ude00", "a": -2147483648}'), (7, 'f', '[1, {"not": "text"}]');
UPDATE calls SET id = enqueue(handler, args);
SELECT n, args, tq_result(id, wait => '20 s') #>> '{}' AS result FROM calls ORDER BY n;
TRUNCATE calls;

CREATE DOMAIN percent AS numeric CHECK (VALUE BETWEEN 0 AND 100);
CREATE TYPE color AS ENUM ('red', 'green');
CREATE TYPE pair AS (x int, y color);
CREATE FUNCTION nought() RETURNS text LANGUAGE sql AS $$ SELECT 'nought' $$;
CREATE FUNCTION one(a int) RETURNS int LANGUAGE sql AS $$ SELECT a * 2 $$;
CREATE FUNCTION document(d jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_build_object('got', d, 'null', d IS NULL) $$;
CREATE FUNCTION plain_json(d json) RETURNS text LANGUAGE sql AS $$ SELECT d::text $$;
CREATE FUNCTION two_documents(d jsonb, e jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_build_array(d, e) $$;
CREATE FUNCTION numbers(VARIADIC n numeric[]) RETURNS numeric LANGUAGE sql AS $$ SELECT sum(x) FROM unnest(n) x $$;
CREATE FUNCTION more(sep text, VARIADIC words text[]) RETURNS text LANGUAGE sql AS $$ SELECT array_to_string(words, sep) || cardinality(words) $$;
CREATE FUNCTION an_array(a int[]) RETURNS int[] LANGUAGE sql AS $$ SELECT array_agg(x * 2) FROM unnest(a) x $$;
CREATE FUNCTION matrix(a int[]) RETURNS text LANGUAGE sql AS $$ SELECT array_dims(a) $$;
CREATE FUNCTION composite(p pair) RETURNS text LANGUAGE sql AS $$ SELECT (p).x || '/' || (p).y $$;
CREATE FUNCTION composites(p pair[]) RETURNS pair[] LANGUAGE sql AS $$ SELECT p $$;
CREATE FUNCTION a_domain(p percent) RETURNS percent LANGUAGE sql AS $$ SELECT p $$;
CREATE FUNCTION an_enum(c color) RETURNS color LANGUAGE sql AS $$ SELECT c $$;
CREATE FUNCTION times(a timestamptz, b timestamp, c date, d time, e interval) RETURNS text LANGUAGE sql AS $$ SELECT concat_ws(' | ', a AT TIME ZONE 'UTC', b, c, d, e) $$;
CREATE FUNCTION others(a bool, b bytea, c uuid, d numeric, e float8, g int4range, h inet, i "char", j name) RETURNS text LANGUAGE sql AS $$ SELECT concat_ws(' | ', a, b, c, d, e, g, h, i, j) $$;
CREATE FUNCTION unnamed(int, text) RETURNS text LANGUAGE sql AS $$ SELECT $1 || $2 $$;
CREATE FUNCTION "Odd Name"("Order Id" int, "select" text) RETURNS text LANGUAGE sql AS $$ SELECT "Order Id" || "select" $$;
CREATE FUNCTION strict_one(a int) RETURNS int LANGUAGE sql STRICT AS $$ SELECT a $$;
INSERT INTO calls (n, handler, args) VALUES
    (10, 'nought', NULL), (11, 'nought', '{}'), (12, 'nought', '[]'), (13, 'nought', 'null'), (14, 'one', '21'), (15, 'one', '[21]'), (16, 'one', '{"a": 21}'), (17, 'one', '"21"'), (18, 'one', 'null'),
    (20, 'document', '{"d": 1}'), (21, 'document', '[1, 2]'), (22, 'document', '"x"'), (23, 'document', 'null'), (24, 'plain_json', '{"b": 1, "a": [null]}'), (25, 'two_documents', '[{"a": 1}, null]'), (26, 'two_documents', '{"e": [1], "d": "x"}'),
    (30, 'numbers', '[1, 2.5, 3]'), (31, 'numbers', '[]'), (32, 'numbers', '[[1, 2]]'), (33, 'numbers', '{"n": [1, 2]}'), (34, 'numbers', '5'), (35, 'more', '["-", "a", "b"]'), (36, 'more', '["-"]'), (37, 'more', '{"sep": "+", "words": ["x", "y"]}'),
    (40, 'an_array', '[[1, 2, 3]]'), (41, 'an_array', '{"a": [1]}'), (42, 'an_array', '[[]]'), (43, 'an_array', '[[1, null]]'), (44, 'matrix', '[[[1, 2], [3, 4]]]'), (45, 'an_array', '["{4,5}"]'),
    (50, 'composite', '{"p": {"x": 1, "y": "red"}}'), (51, 'composite', '[{"y": "green", "x": 2}]'), (52, 'composites', '[[{"x": 1, "y": "red"}, {"x": 2}]]'), (53, 'a_domain', '50.5'), (54, 'an_enum', '"red"'),
    (60, 'times', '["2024-02-29 12:00+02", "2024-02-29T12:00", "2024-02-29", "12:34:56.789", "1 day 2 hours"]'), (61, 'times', '{"a": "infinity", "b": "-infinity", "c": "infinity", "d": "24:00", "e": "P1Y2M"}'),
    (62, 'others', '[true, "\\xdead", "0198c0de-0000-7000-8000-000000000001", 12345678901234567890.123456789, 1e30, "[1,5)", "10.0.0.1/8", "x", "n"]'),
    (70, 'unnamed', '[1, "x"]'), (71, 'Odd Name', '{"Order Id": 1, "select": "x"}'), (72, 'strict_one', '[null]');
SELECT bool_and(tq_register(h)) FROM (SELECT DISTINCT handler FROM calls) AS x(h);
UPDATE calls SET id = enqueue(handler, args);
SELECT n, handler, tq_result(id, wait => '20 s') AS result FROM calls ORDER BY n;
TRUNCATE calls;
-- f(int[]) and single composites have their traps.
SELECT enqueue('an_array', '[1, 2]');
SELECT enqueue('composite', '{"x": 1, "y": "red"}');
SELECT enqueue('unnamed', '{"a": 1}');

-- Results
CREATE FUNCTION r_void() RETURNS void LANGUAGE sql AS $$ $$;
CREATE FUNCTION r_null() RETURNS int LANGUAGE sql AS $$ SELECT NULL::int $$;
CREATE FUNCTION r_set() RETURNS SETOF int LANGUAGE sql AS $$ SELECT generate_series(1, 3) $$;
CREATE FUNCTION r_empty() RETURNS SETOF int LANGUAGE sql AS $$ SELECT 1 WHERE false $$;
CREATE FUNCTION r_table() RETURNS TABLE (a int, b text) LANGUAGE sql AS $$ VALUES (1, 'x'), (2, NULL) $$;
CREATE FUNCTION r_rows() RETURNS SETOF pair LANGUAGE plpgsql AS $$ BEGIN RETURN NEXT (1, 'red')::pair; RETURN NEXT NULL; END $$;
CREATE FUNCTION r_out(OUT a int, OUT b text) LANGUAGE sql AS $$ SELECT 1, 'x' $$;
CREATE FUNCTION r_one_out(OUT a int) LANGUAGE sql AS $$ SELECT 1 $$;
CREATE FUNCTION r_inout(INOUT a int, b int, OUT c int) LANGUAGE sql AS $$ SELECT a + 1, a + b $$;
CREATE FUNCTION r_numeric() RETURNS numeric LANGUAGE sql AS $$ SELECT 0.1000 $$;
CREATE FUNCTION r_float() RETURNS float8 LANGUAGE sql AS $$ SELECT 0.1::float8 $$;
CREATE FUNCTION r_infinite() RETURNS float8 LANGUAGE sql AS $$ SELECT 'infinity'::float8 $$;
CREATE FUNCTION r_time() RETURNS timestamptz LANGUAGE sql AS $$ SELECT '2024-02-29 12:00+00'::timestamptz $$;
CREATE FUNCTION r_array() RETURNS color[] LANGUAGE sql AS $$ SELECT '{red,NULL}'::color[] $$;
CREATE FUNCTION r_bytea() RETURNS bytea LANGUAGE sql AS $$ SELECT '\xdead'::bytea $$;
CREATE FUNCTION r_json() RETURNS json LANGUAGE sql AS $$ SELECT '{"b":1, "a":[]}'::json $$;
CREATE FUNCTION r_json_null() RETURNS jsonb LANGUAGE sql AS $$ SELECT 'null'::jsonb $$;
CREATE FUNCTION r_record() RETURNS record LANGUAGE sql AS $$ SELECT 1 AS a, 'x' AS b $$;
CREATE FUNCTION r_large() RETURNS text LANGUAGE sql AS $$ SELECT repeat('x', 11 * 1024 * 1024) $$;
CREATE FUNCTION r_zero_byte() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN chr(0); END $$;
SELECT bool_and(tq_register(proname)) FROM pg_proc WHERE pronamespace = 'acme'::regnamespace AND proname LIKE 'r\_%';
INSERT INTO calls SELECT row_number() OVER (ORDER BY proname), proname, CASE proname WHEN 'r_inout' THEN '[1, 2]'::jsonb END FROM pg_proc WHERE pronamespace = 'acme'::regnamespace AND proname LIKE 'r\_%';
UPDATE calls SET id = enqueue(handler, args);
SELECT handler, tq_result(id, wait => '20 s', propagate => false) AS result, tq_result(id, propagate => false) IS NULL AS sql_null FROM calls ORDER BY n;
TRUNCATE calls;

-- Procedures; they may COMMIT, so their guarantee is another.
CREATE TABLE log (n serial, what text);
CREATE PROCEDURE p(what text) LANGUAGE sql AS $$ INSERT INTO log (what) VALUES ($1) $$;
CREATE PROCEDURE p_commit(times int) LANGUAGE plpgsql AS $$ BEGIN FOR i IN 1..times LOOP INSERT INTO log (what) VALUES ('step ' || i); COMMIT; END LOOP; INSERT INTO log (what) VALUES ('rolled back'); ROLLBACK; END $$;
CREATE PROCEDURE p_out(INOUT a int, OUT b text) LANGUAGE plpgsql AS $$ BEGIN a := a + 1; b := 'x'; COMMIT; END $$;
CREATE PROCEDURE p_breaks() LANGUAGE plpgsql AS $$ BEGIN INSERT INTO log (what) VALUES ('kept'); COMMIT; INSERT INTO log (what) VALUES ('lost'); RAISE EXCEPTION 'broken'; END $$;
SELECT bool_and(tq_register(f)) FROM unnest('{p,p_commit,p_out,p_breaks}'::text[]) f;
INSERT INTO calls VALUES (1, 'p', '["hello"]'), (2, 'p_commit', '[3]'), (3, 'p_out', '[1]'), (4, 'p_breaks', NULL);
UPDATE calls SET id = enqueue(handler, args);
SELECT handler, tq_result(id, wait => '20 s', propagate => false) FROM calls ORDER BY n;
SELECT what, count(*) FROM log GROUP BY what ORDER BY what;
SELECT handler, guarantee FROM tq_handlers WHERE handler IN ('f', 'p') ORDER BY handler;
TRUNCATE calls;

-- How a function may be named
SELECT tq_register('g', 'one'), tq_register('g', 'acme.one'), tq_register('g', 'one(int)'), tq_register('g', 'acme.one(integer)'), tq_register('g', ' one ( int4 ) '), tq_register('g', '"Odd Name"'), tq_register('g', 'acme."Odd Name"(int, text)'),
       tq_register('g', 'times(timestamp with time zone, timestamp without time zone, date, time without time zone, interval)'), tq_register('g', 'a_domain(percent)'), tq_register('g', 'an_array(int[])'), tq_register('g', 'pg_catalog.upper(text)') \gx
SELECT handler, function FROM tq_handlers WHERE handler = 'g';
-- Overloads are told apart by their types, and one that comes later is not chosen.
CREATE FUNCTION over(a int) RETURNS text LANGUAGE sql AS $$ SELECT 'int' $$;
SELECT tq_register('over');
CREATE FUNCTION over(a bigint) RETURNS text LANGUAGE sql AS $$ SELECT 'bigint' $$;
SELECT enqueue('over', '[1]') AS id \gset
SELECT tq_result(:'id', wait => '20 s');
SELECT tq_register('over', 'over(bigint)');
SELECT enqueue('over', '[1]') AS id \gset
SELECT tq_result(:'id', wait => '20 s');
-- Aliases
SELECT tq_register('one', aliases => '{Einer,"app.tasks.one"}');
SELECT enqueue('app.tasks.one', '[4]') AS id \gset
SELECT tq_result(:'id', wait => '20 s'), (SELECT handler FROM tq_fetch(:'id'));
-- Defaults of its tasks; registering again replaces them all.
SELECT tq_register('nought', queue => 'mail', priority => 5, timeout => '5 minutes', max_attempts => 7, retry => tq_backoff('fixed', '1 s'), expires => '1 hour', save => true, settings => '{"work_mem": "7MB"}', result_ttl => '1 day');
SELECT handler, function, shared, status, reason, guarantee, run_as, queue, priority, timeout, max_attempts, retry, save, settings FROM tq_handlers WHERE handler = 'nought' \gx
SELECT tq_async('nought', delay => '1 hour') AS id \gset
-- Its settings are for those who may read tasks.
RESET ROLE;
GRANT USAGE ON SCHEMA acme TO other;
SET ROLE other;
SELECT handler, queue, settings FROM tq_handlers WHERE handler = 'nought';
SET ROLE owner;
SELECT queue, priority, max_attempts FROM tq_fetch(:'id');
SELECT tq_cancel(:'id');
SELECT tq_register('nought');
SELECT queue, priority, timeout, max_attempts, retry, save, settings FROM tq_handlers WHERE handler = 'nought';
-- Settings hold while it runs, and only then.
CREATE FUNCTION show(name text) RETURNS text LANGUAGE sql AS $$ SELECT current_setting(name) $$;
CREATE FUNCTION set_and_show() RETURNS text LANGUAGE sql AS $$ SELECT set_config('work_mem', '9MB', false) $$;
SELECT tq_register('show', settings => '{"work_mem": "7MB", "app.flag": "on"}'), tq_register('show2', 'show'), tq_register('set_and_show');
SELECT array_agg(enqueue(h, jsonb_build_array(s)) ORDER BY n) AS ids FROM (VALUES (1, 'show', 'work_mem'), (2, 'show', 'app.flag'), (3, 'show', 'search_path'), (4, 'show2', 'work_mem')) AS v(n, h, s) \gset
SELECT tq_result(id, wait => '20 s') FROM unnest(:'ids'::uuid[]) id;
SELECT enqueue('set_and_show') AS a, enqueue('show2', '["work_mem"]') AS b \gset
SELECT tq_result(:'a', wait => '20 s'), tq_result(:'b', wait => '20 s');

-- A replaced function: the next call runs the new code, and its new parameter's default.
CREATE FUNCTION edition() RETURNS text LANGUAGE sql AS $$ SELECT 'old' $$;
SELECT tq_register('edition', 'acme.edition');
SELECT enqueue('edition') AS id \gset
SELECT tq_result(:'id', wait => '20 s');
CREATE OR REPLACE FUNCTION edition() RETURNS text LANGUAGE sql AS $$ SELECT 'new' $$;
SELECT enqueue('edition') AS id \gset
SELECT tq_result(:'id', wait => '20 s');

-- A dropped function: its tasks are held, without an attempt, and go on when it is back.
DROP FUNCTION edition();
SELECT status, reason FROM tq_handlers WHERE handler = 'edition';
SELECT enqueue('edition') AS id \gset
SELECT test.await(format('(SELECT state = ''held'' FROM tq_fetch(%L))', :'id'));
SELECT state, reason, attempt FROM tq_fetch(:'id');
SELECT reason, detail, hint FROM tq_why(:'id');
SELECT test.await('(SELECT since IS NOT NULL FROM tq_problems)');
SELECT what, since IS NOT NULL AS since, reason, fix FROM tq_problems;
SELECT tq_result(:'id');
CREATE FUNCTION edition() RETURNS text LANGUAGE sql AS $$ SELECT 'back' $$;
SELECT tq_result(:'id', wait => '20 s');
SELECT status, reason FROM tq_handlers WHERE handler = 'edition';
SELECT count(*) FROM tq_problems;
-- Put in its place by another role, it is not called.
RESET ROLE;
ALTER FUNCTION acme.edition() OWNER TO other;
SET ROLE owner;
SELECT status, reason FROM tq_handlers WHERE handler = 'edition';
SELECT enqueue('edition') AS id \gset
SELECT test.await(format('(SELECT state = ''held'' FROM tq_fetch(%L))', :'id'));
SELECT state, reason, attempt FROM tq_fetch(:'id');
RESET ROLE;
ALTER FUNCTION acme.edition() OWNER TO owner;
SET ROLE owner;
SELECT tq_result(:'id', wait => '20 s');
-- Unregistered: the same
SELECT tq_pause();
SELECT enqueue('edition') AS id \gset
SELECT tq_unregister('edition'), tq_unregister('edition');
SELECT tq_resume();
SELECT test.await(format('(SELECT state = ''held'' FROM tq_fetch(%L))', :'id'));
SELECT state, reason, attempt FROM tq_fetch(:'id');
SELECT reason, detail FROM tq_why(:'id');
SELECT tq_register('edition', 'acme.edition');
SELECT tq_result(:'id', wait => '20 s');
-- After tenant_q.handler_grace they fail.
RESET ROLE;
ALTER SYSTEM SET tenant_q.handler_grace = '1s';
SELECT pg_reload_conf();
SET ROLE owner;
SELECT pg_sleep(0.5);
SHOW tenant_q.handler_grace;
DROP FUNCTION acme.edition();
SELECT enqueue('edition') AS id \gset
SELECT tq_result(:'id', wait => '20 s');
SELECT state, attempt, error FROM tq_fetch(:'id');
RESET ROLE;
ALTER SYSTEM RESET tenant_q.handler_grace;
SELECT pg_reload_conf();
SET ROLE owner;
SELECT pg_sleep(0.5);
SHOW tenant_q.handler_grace;
-- It was missing, came back, and is missing again: the time counts anew.
CREATE FUNCTION edition() RETURNS text LANGUAGE sql AS $$ SELECT 'back' $$;
SELECT enqueue('edition') AS id \gset
SELECT tq_result(:'id', wait => '20 s');
DROP FUNCTION edition();
SELECT enqueue('edition') AS id \gset
SELECT test.await(format('(SELECT state = ''held'' FROM tq_fetch(%L))', :'id'));
SELECT test.await('(SELECT since IS NOT NULL FROM tq_problems)');
SELECT what, since > now() - interval '1 second' AS since_now, reason FROM tq_problems;
SELECT tq_cancel(:'id'), tq_unregister('edition');

-- A function with a search_path of its own doesn't see its tenant.
CREATE FUNCTION pinned() RETURNS text LANGUAGE sql SET search_path = pg_catalog AS $$ SELECT current_setting('search_path') $$;
SELECT tq_register('pinned');
-- run_as: what the owner may SET ROLE to
CREATE FUNCTION whoami() RETURNS text LANGUAGE sql AS $$ INSERT INTO log (what) VALUES ('x') RETURNING current_user || ' ' || session_user $$;
SELECT tq_register('whoami', run_as => 'worker');
RESET ROLE;
GRANT worker TO owner;
SET ROLE owner;
SELECT tq_register('whoami', run_as => 'worker');
SELECT run_as FROM tq_handlers WHERE handler = 'whoami';
-- The role needs what its function needs.
SELECT enqueue('whoami') AS id \gset
SELECT tq_result(:'id', wait => '20 s');
GRANT USAGE ON SCHEMA acme TO worker;
GRANT INSERT ON log TO worker;
GRANT USAGE ON SEQUENCE log_n_seq TO worker;
SELECT enqueue('whoami') AS id \gset
SELECT tq_result(:'id', wait => '20 s');
RESET ROLE;
REVOKE worker FROM owner;
SET ROLE owner;
SELECT status, reason FROM tq_handlers WHERE handler = 'whoami';
SELECT tq_register('whoami');
SELECT enqueue('whoami') AS id \gset
SELECT tq_result(:'id', wait => '20 s');
-- A function without EXECUTE
CREATE FUNCTION locked_up() RETURNS int LANGUAGE sql AS $$ SELECT 1 $$;
REVOKE EXECUTE ON FUNCTION locked_up() FROM PUBLIC, owner;
SELECT tq_register('locked_up');
SELECT enqueue('locked_up') AS id \gset
SELECT tq_result(:'id', wait => '20 s');

-- Shared handlers: a qualified function for all, an unqualified one looked up in each tenant's path.
RESET ROLE;
SET search_path = public;
CREATE FUNCTION public.common() RETURNS text LANGUAGE sql AS $$ SELECT 'public ' || tenant || ' ' || current_schema FROM tq_current() $$;
CREATE FUNCTION globex.common() RETURNS text LANGUAGE sql AS $$ SELECT 'globex''s own' $$;
SELECT tq_register('qualified', 'public.common', shared => true), tq_register('common', shared => true);
SET ROLE owner;
SELECT s.tenant, q.handler, tq_async(q.handler, tenant => s.tenant) AS id INTO TEMP shared_calls FROM unnest('{acme,globex}'::text[]) s(tenant), unnest('{qualified,common}'::text[]) q(handler);
SELECT tenant, handler, tq_result(id, wait => '20 s', tenant => tenant) FROM shared_calls ORDER BY 1, 2;
SET search_path = globex, public;
SELECT tenant, handler, function, shared, status FROM tq_handlers ORDER BY handler;
-- A tenant's own of the same name comes first.
CREATE FUNCTION mine() RETURNS text LANGUAGE sql AS $$ SELECT 'mine' $$;
SELECT tq_register('common', 'mine');
SELECT handler, function, shared, status FROM tq_handlers ORDER BY handler;
SELECT tq_async('common') AS id \gset
SELECT tq_result(:'id', wait => '20 s');
SELECT tq_unregister('common');
SELECT tq_unregister('common', shared => true);
RESET ROLE;
SELECT tq_unregister('common', shared => true), tq_unregister('common', shared => true);
SET ROLE owner;
SELECT handler, shared FROM tq_handlers ORDER BY handler;
