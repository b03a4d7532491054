-- Owners without LOGIN: before PostgreSQL 17 nobody can run their tasks, and one is told at once (nologin_1.out); from then
-- on they are owners like any other (nologin.out).
\i sql/setup.psql
CREATE ROLE asleep NOLOGIN;
CREATE SCHEMA asleep AUTHORIZATION asleep;
SELECT tq_attach('asleep');
SELECT what, reason, fix FROM tq_problems WHERE what LIKE 'tenant %';
CREATE FUNCTION asleep.who() RETURNS text LANGUAGE sql AS 'SELECT session_user::text';
ALTER FUNCTION asleep.who() OWNER TO asleep;
SET search_path = asleep, public;
SELECT tq_register('who');
SELECT tq_async('who') AS id \gset
SELECT test.await(format($$(SELECT current_setting('server_version_num')::int < 170000 OR EXISTS (SELECT FROM tq_result WHERE id = %L))$$, :'id'));
SELECT count(*) FROM tq_task;
SELECT reason FROM tq_why(:'id');
-- What the fix says leads out.
SELECT fix FROM tq_problems WHERE what LIKE 'tenant %' \gexec
SELECT tq_result(:'id', wait => '20 s');
