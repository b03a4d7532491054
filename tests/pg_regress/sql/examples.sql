-- Every example in a comment is run, as it stands there: what is printed are the errors, and there are none but those of functions that raise.
\i sql/setup.psql
CREATE ROLE owner LOGIN;
CREATE ROLE app LOGIN;
CREATE ROLE oncall LOGIN;
CREATE SCHEMA acme AUTHORIZATION owner;
CREATE SCHEMA globex AUTHORIZATION owner;
CREATE SCHEMA tenant_1 AUTHORIZATION owner;
SELECT tq_attach('acme'), tq_attach('globex');
SET search_path = acme, public;
-- What the examples speak of.
CREATE TABLE orders (id bigint, total numeric);
CREATE FUNCTION send_invoice(order_id bigint, locale text) RETURNS bigint LANGUAGE sql AS 'SELECT order_id';
CREATE FUNCTION close_day(day date DEFAULT now()) RETURNS date LANGUAGE sql AS 'SELECT day';
CREATE FUNCTION f() RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION render(page int DEFAULT 1) RETURNS int LANGUAGE sql AS 'SELECT page';
CREATE FUNCTION fetch_rates(what text) RETURNS text LANGUAGE sql AS 'SELECT what';
CREATE FUNCTION convert(what text) RETURNS text LANGUAGE sql AS 'SELECT what';
CREATE FUNCTION store(what text) RETURNS text LANGUAGE sql AS 'SELECT what';
CREATE FUNCTION takes_a_task(task jsonb DEFAULT NULL) RETURNS jsonb LANGUAGE sql AS 'SELECT task';
CREATE FUNCTION run_example(example text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE replace(example, 'PERFORM ', 'SELECT '); END $$;
SELECT bool_and(tq_register(h)) FROM unnest('{send_invoice,close_day,f,render,fetch_rates,convert,store,run_example}'::text[]) h;
SELECT bool_and(tq_register(h, 'takes_a_task(jsonb)')) FROM unnest('{order_changed,tell_support,bind_pages}'::text[]) h;
SELECT bool_and(tq_register(h, 'f()')) FROM unnest('{collect,translate}'::text[]) h;
SELECT bool_and(tq_register(h, 'acme.f()', shared => true)) FROM unnest('{reindex_search}'::text[]) h;
SELECT bool_and(tq_register(h, 'acme.close_day(date)', shared => true)) FROM unnest('{close_day}'::text[]) h;
SELECT count(tq_async('send_invoice', '[1, "de"]', group_id => 'import-7')) FROM generate_series(1, 3);
SELECT count(tq_async_iter('render', ARRAY['1', '2']::jsonb[], task => '{"id": "0198c0de-0000-7000-8000-000000000001"}')), count(tq_async('close_day', name => 'nightly'));
SELECT tq_async_all('close_day') IS NOT NULL AS for_all;
-- What workers take: one task is finished, four together, one fails and one goes back.
SELECT tq_register('charge', external => true);
SELECT count(tq_async('charge')) FROM generate_series(1, 7);
SELECT test.await('(SELECT NOT EXISTS (SELECT FROM acme.tq_task WHERE handler <> ''charge''))');

-- In an order in which each finds what it is about: makers first, enders last.
CREATE TEMP VIEW examples AS
    SELECT name, split_part(comment, 'Example: ', 2) AS example,
           CASE WHEN name IN ('tq_attach', 'tq_register', 'tq_schedule', 'tq_schedule_all', 'tq_async', 'tq_async_all', 'tq_listen_table', 'tq_on') THEN 1
                WHEN name ~ '^tq_(un|off|delete|purge|revoke|requeue|cancel)' THEN 3 WHEN name IN ('tq_detach') THEN 4 ELSE 2 END AS place
      FROM (SELECT p.proname AS name, obj_description(p.oid, 'pg_proc') AS comment FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace AND p.proname ~ '^tq_'
            UNION ALL
            SELECT c.relname, obj_description(c.oid, 'pg_class') FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'v' AND c.relname ~ '^tq_') AS x;
SELECT count(*) > 70 AS many, count(*) FILTER (WHERE coalesce(example, '') = '') AS without FROM examples;
GRANT SELECT ON examples TO PUBLIC;
SET client_min_messages = error;
\o /dev/null
SELECT example FROM examples WHERE example !~ '^PERFORM' ORDER BY place, name \gexec
\o
RESET client_min_messages;
SET search_path = acme, public;
SELECT tq_attach('acme', adopt => true);
SET ROLE owner;
SET search_path = acme, public;
SELECT tq_async('run_example', to_jsonb(example), sync => true) IS NOT NULL AS ran FROM examples WHERE example ~ '^PERFORM' AND name = 'tq_progress';
SELECT tq_async('run_example', to_jsonb(example), sync => true) FROM examples WHERE name = 'tq_retry';
SELECT tq_async('run_example', to_jsonb(example), sync => true) FROM examples WHERE name = 'tq_fail';
SELECT name FROM examples WHERE example ~ '^PERFORM' ORDER BY name;
