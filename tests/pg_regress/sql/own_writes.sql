-- A statement doesn't come upon what its own calls write, as with any volatile function; each call sees what those before wrote.
\i sql/setup.psql
CREATE ROLE owner LOGIN;
CREATE SCHEMA acme AUTHORIZATION owner;
SELECT tq_attach('acme');
SELECT tq_pause('acme');
SET ROLE owner;
SET search_path = acme, public;
CREATE FUNCTION note(what text) RETURNS text LANGUAGE sql AS 'SELECT what';
SELECT tq_register('note');

SELECT n, tq_async('note', '["a"]', unique_key => 'k' || n % 2, on_conflict => 'skip') IS NOT NULL AS called,
       (SELECT count(*) FROM tq_task WHERE n > 0) AS seen
  FROM generate_series(1, 4) AS n;
SELECT unique_key FROM tq_task ORDER BY 1;
