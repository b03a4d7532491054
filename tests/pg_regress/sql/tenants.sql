-- Tenants: attaching and detaching, settings, pauses; names that need quotes, throughout.
\i sql/setup.psql
CREATE ROLE owner LOGIN;
CREATE ROLE other LOGIN;
CREATE SCHEMA acme AUTHORIZATION owner;
CREATE SCHEMA globex AUTHORIZATION other;
GRANT CREATE ON SCHEMA public TO owner;
SET ROLE owner;

-- Attaching: as the owner, once; NULL = the current schema.
SELECT tq_attach('acme');
SELECT tq_attach('acme');
SET search_path = acme, public;
SELECT tq_attach();
SELECT tq_tenant();
SELECT tq_attach('globex');
\echo :SQLSTATE
-- Its tables are the owner's, and nobody else's.
SELECT relname, pg_get_userbyid(relowner) AS owner, relacl, relkind FROM pg_class WHERE relnamespace = 'acme'::regnamespace AND relkind IN ('r', 'i') ORDER BY relname;
SELECT tenant, owner, status, reason, queued, running, weight, max_running, max_queued FROM tq_tenants;
-- What ALTER DEFAULT PRIVILEGES gave away is taken back.
RESET ROLE;
CREATE SCHEMA initech AUTHORIZATION owner;
GRANT USAGE ON SCHEMA initech TO other;
ALTER DEFAULT PRIVILEGES FOR ROLE owner IN SCHEMA initech GRANT ALL ON TABLES TO other, PUBLIC;
SET ROLE owner;
SELECT tq_attach('initech');
SELECT relname, replace(relacl::text, 'xtm/', 'xt/') AS relacl FROM pg_class WHERE relnamespace = 'initech'::regnamespace AND relkind = 'r' ORDER BY relname;
-- Tables of these names in the way
CREATE FUNCTION hello() RETURNS text LANGUAGE sql AS $$ SELECT 'hello from ' || current_schema $$;
SELECT tq_register('hello');
SELECT tq_detach('initech');
SELECT tq_attach('initech');
\echo :SQLSTATE
DROP TABLE initech.tq_schedule;
SELECT tq_attach('initech', adopt => true);
\echo :SQLSTATE
CREATE TABLE initech.tq_schedule (name text);
SELECT tq_attach('initech', adopt => true);
\echo :SQLSTATE
DROP TABLE initech.tq_schedule, initech.tq_task, initech.tq_result;
CREATE TABLE initech.tq_task (mine int);
SELECT tq_attach('initech');
\echo :SQLSTATE
SELECT * FROM initech.tq_task;
DROP TABLE initech.tq_task;
SELECT tq_attach('initech', ready => false);
SELECT tenant, status FROM tq_tenants ORDER BY tenant;

-- Detaching keeps tables, tasks, handlers; adopting takes them up and goes on.
SELECT tq_pause('acme');
SELECT tq_async('hello', id => '01900000-0000-7000-8000-000000000001');
SELECT tq_detach('acme');
SELECT tq_detach('acme');
SELECT tq_async('hello');
\echo :SQLSTATE
SELECT tq_tenant();
\echo :SQLSTATE
SELECT count(*) FROM acme.tq_task;
SELECT tenant FROM tq_tenants;
SELECT tq_attach('acme', adopt => true);
SELECT tq_result('01900000-0000-7000-8000-000000000001', wait => '20 s');
SELECT handler, status FROM tq_handlers;
-- With its data
SELECT tq_detach('acme', drop_data => true);
SELECT count(*) FROM pg_class WHERE relnamespace = 'acme'::regnamespace AND relname LIKE 'tq%';
SELECT tq_attach('acme');
SELECT count(*) FROM tq_handlers;
SELECT tq_register('hello');
-- In a transaction that rolls back
BEGIN;
SELECT tq_detach('acme', drop_data => true);
ROLLBACK;
SELECT tq_async('hello') AS id \gset
SELECT tq_result(:'id', wait => '20 s');

-- What the owner hangs on the tables stops the tenant, says so, and it goes on when it is gone.
CREATE FUNCTION evil() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
CREATE TRIGGER evil BEFORE INSERT ON tq_task FOR EACH ROW EXECUTE FUNCTION evil();
SELECT tq_async('hello');
\echo :SQLSTATE
SELECT what, reason, fix FROM tq_problems;
DROP TRIGGER evil ON tq_task;
CREATE INDEX mine ON tq_result (lower(handler));
SELECT tq_async('hello');
\echo :SQLSTATE
DROP INDEX mine;
ALTER TABLE tq_task ADD extra int NOT NULL DEFAULT 0;
SELECT tq_async('hello');
\echo :SQLSTATE
ALTER TABLE tq_task DROP extra;
ALTER TABLE tq_task ENABLE ROW LEVEL SECURITY;
SELECT tq_async('hello');
\echo :SQLSTATE
ALTER TABLE tq_task DISABLE ROW LEVEL SECURITY;
SELECT tq_async('hello') IS NOT NULL;
\echo :SQLSTATE
SELECT tq_detach('acme', drop_data => true), tq_attach('acme'), tq_register('hello');
SELECT tq_async('hello') AS id \gset
SELECT tq_result(:'id', wait => '20 s');

-- Many at once: 50 a transaction; tq_attach_all commits after each.
RESET ROLE;
DO $$ BEGIN FOR n IN 1..51 LOOP EXECUTE format('CREATE SCHEMA t%s AUTHORIZATION owner', n); END LOOP; END $$;
SET ROLE owner;
SELECT count(tq_attach('t' || n)) FROM generate_series(1, 51) n;
\echo :SQLSTATE
CALL tq_attach_all('t%');
\echo :SQLSTATE
RESET ROLE;
CALL tq_attach_all('t%', exclude => '{t51,test}');
CALL tq_attach_all('t%', exclude => '{test}');
CALL tq_attach_all('t%', exclude => '{test}');
SELECT count(*) FROM tq_tenants WHERE tenant ~ '^t\d+$';
-- EXECUTE on it can be granted.
CREATE ROLE administrator LOGIN IN ROLE owner;
GRANT EXECUTE ON PROCEDURE tq_attach_all TO administrator;
CREATE SCHEMA t52 AUTHORIZATION owner;
SET ROLE administrator;
CALL tq_attach_all('t52');
RESET ROLE;
SET client_min_messages = warning;
DO $$ BEGIN FOR n IN 1..52 LOOP EXECUTE format('DROP SCHEMA t%s CASCADE', n); END LOOP; END $$;
-- Dropped schemas are tenants no more, and nothing of them is left.
SELECT tenant FROM tq_tenants ORDER BY tenant;
SELECT count(*) FROM tenant_q.handler h WHERE h.tenant LIKE 't%';

-- Renaming: name, handlers, waiting tasks, pauses follow.
SET ROLE owner;
SET search_path = acme, public;
CREATE TYPE acme.mood AS ENUM ('good');
CREATE FUNCTION moody(m acme.mood) RETURNS text LANGUAGE sql AS $$ SELECT m || ' ' || current_schema $$;
SELECT tq_register('moody'), tq_pause(handler => 'hello');
SELECT tq_async('hello', delay => '1 hour') AS id, tq_async('moody', '["good"]', delay => '1 second') AS id2 \gset
RESET ROLE;
GRANT CREATE ON DATABASE tenants TO owner;
SET ROLE owner;
ALTER SCHEMA acme RENAME TO "Acme & Sons";
SET search_path = "Acme & Sons", public;
SELECT tenant, handler, function, status FROM tq_handlers ORDER BY handler;
SELECT handler, state FROM tq_tasks ORDER BY handler;
SELECT tq_result(:'id2', wait => '20 s');
SELECT tenant, status FROM tq_tenants ORDER BY tenant;
SELECT tq_resume(handler => 'hello');
SELECT tq_async('moody', '["good"]') AS id \gset
SELECT tq_result(:'id', wait => '20 s');
SELECT tq_async('hello', tenant => 'acme');
\echo :SQLSTATE
ALTER SCHEMA "Acme & Sons" RENAME TO acme;
SET search_path = acme, public;
SELECT tq_async('moody', '["good"]') AS id \gset
SELECT tq_result(:'id', wait => '20 s');

-- Dropped and created again by somebody else: nothing of the old one is there.
RESET ROLE;
SELECT tq_detach('initech');
DROP SCHEMA initech CASCADE;
CREATE SCHEMA initech AUTHORIZATION owner;
SET ROLE owner;
SELECT tq_attach('initech');
SET search_path = initech, public;
CREATE FUNCTION left_over() RETURNS text LANGUAGE sql AS $$ SELECT 'x' $$;
SELECT tq_register('left_over');
RESET ROLE;
SELECT tq_detach('initech');
DROP SCHEMA initech CASCADE;
CREATE SCHEMA initech AUTHORIZATION other;
SELECT tq_attach('initech');
SELECT handler, status FROM tq_handlers;
DROP SCHEMA initech CASCADE;

-- What a tenant decides for itself
SET ROLE owner;
SET search_path = acme, public;
CREATE FUNCTION show(name text) RETURNS text LANGUAGE sql AS $$ SELECT current_setting(name) $$;
SELECT tq_register('show');
SELECT tq_set_tenant(timezone => 'Asia/Kathmandu', shared_schemas => '{globex,public}', settings => '{"work_mem": "7MB", "app.tenant": "acme"}');
SELECT array_agg(tq_async('show', jsonb_build_array(s)) ORDER BY n) AS ids FROM unnest('{TimeZone,search_path,work_mem,app.tenant}'::text[]) WITH ORDINALITY AS x(s, n) \gset
SELECT tq_result(id, wait => '20 s') FROM unnest(:'ids'::uuid[]) WITH ORDINALITY AS x(id, n) ORDER BY n;
SELECT tq_set_tenant(reset => '{timezone,shared_schemas,settings}');
SELECT array_agg(tq_async('show', jsonb_build_array(s)) ORDER BY n) AS ids FROM unnest('{TimeZone,search_path,work_mem}'::text[]) WITH ORDINALITY AS x(s, n) \gset
SELECT tq_result(id, wait => '20 s') FROM unnest(:'ids'::uuid[]) WITH ORDINALITY AS x(id, n) ORDER BY n;
-- A tenant's settings are not its neighbour's, though one executor serves both.
CREATE SCHEMA second;
SELECT tq_attach('second'), tq_register('show', 'acme.show', tenant => 'second'), tq_set_tenant('second', settings => '{"work_mem": "9MB"}');
SELECT tq_async('show', '["work_mem"]', tenant => 'second') AS a, tq_async('show', '["work_mem"]') AS b \gset
SELECT tq_result(:'a', wait => '20 s', tenant => 'second'), tq_result(:'b', wait => '20 s');
SELECT tq_detach('second', drop_data => true);
-- Not ready: everything waits, nothing fails.
SELECT tq_set_tenant(ready => false);
SELECT tq_async('hello') AS id \gset
SELECT tq_result(:'id', wait => '100 ms');
SELECT state FROM tq_tasks ORDER BY 1;
SELECT reason, hint FROM tq_why(:'id');
SELECT tq_set_tenant(ready => true);
SELECT tq_result(:'id', wait => '20 s');

-- Pausing a tenant, a queue, a handler; for a while; until resumed
SELECT tq_pause(queue => 'mail'), tq_pause(handler => 'show');
SELECT tq_async('hello', queue => 'mail') AS a, tq_async('show', '["work_mem"]') AS b, tq_async('hello') AS c \gset
SELECT tq_result(:'c', wait => '20 s');
SELECT test.await('(SELECT count(*) = 2 FROM tq_tasks WHERE state = ''held'')');
SELECT handler, queue, state, reason FROM tq_tasks ORDER BY handler, queue DESC;
SELECT (SELECT reason FROM tq_why(:'a')) AS a, (SELECT detail FROM tq_why(:'b')) AS b;
SELECT handler, status FROM tq_handlers ORDER BY handler;
SELECT tq_resume();
SELECT tq_resume(queue => 'mail'), tq_resume(queue => 'mail');
SELECT tq_result(:'a', wait => '20 s');
SELECT tq_resume(handler => 'show');
SELECT tq_result(:'b', wait => '20 s');
SELECT tq_pause(duration => '300 ms');
SELECT tq_async('hello') AS id \gset
SELECT status FROM tq_tenants;
SELECT tq_result(:'id', wait => '20 s');
SELECT finished_at - created_at > '200 ms' AS waited FROM tq_fetch(:'id');
-- All tenants
RESET ROLE;
SELECT tq_pause_all();
SELECT tenant, status FROM tq_tenants ORDER BY tenant;
SET ROLE owner;
SELECT tq_async('hello') AS id \gset
SELECT tq_result(:'id', wait => '100 ms');
SELECT reason, hint FROM tq_why(:'id');
SELECT tq_resume();
RESET ROLE;
SELECT tq_resume_all();
SET ROLE owner;
SELECT tq_result(:'id', wait => '20 s');
RESET ROLE;
SELECT tq_pause_all(handler => 'hello');
SET ROLE owner;
SELECT tq_async('hello') AS id \gset
SELECT test.await('(SELECT count(*) = 1 FROM tq_tasks WHERE state = ''held'')');
RESET ROLE;
SELECT tq_resume_all(handler => 'hello');
SET ROLE owner;
SELECT tq_result(:'id', wait => '20 s');
-- Quotas
RESET ROLE;
SELECT tq_set_quota('acme', max_running => 0, max_queued => 5, weight => 7);
SELECT tenant, weight, max_running, max_queued FROM tq_tenants WHERE tenant = 'acme';
SET ROLE owner;
SELECT tq_async('hello') AS id \gset
SELECT tq_result(:'id', wait => '100 ms');
SELECT reason, hint FROM tq_why(:'id');
RESET ROLE;
SELECT tq_set_quota('acme', reset => '{max_running,max_queued,weight}');
SET ROLE owner;
SELECT tq_result(:'id', wait => '20 s');
SELECT tenant, weight, max_running, max_queued FROM tq_tenants WHERE tenant = 'acme';

-- Names: quotes, upper case, blanks, keywords, 63 bytes, non-ASCII; for the schema, the role, the function, its parameters, the handler.
RESET ROLE;
CREATE TABLE public.names (n int, name text);
INSERT INTO names VALUES (1, 'C2'), (2, 'c2'), (3, 'two words'), (4, 'a"b; DROP TABLE x--'), (5, 'O''Brien'), (6, 'select'), (7, '123'), (8, 'Ünï "x"'), (9, repeat('x', 63)), (10, repeat('ä', 31)), (11, 'back\slash\'), (12, '$$'), (13, '%s%I'), (14, '{s}'), (15, 'naïve.dot,comma(x)');
GRANT SELECT ON names TO PUBLIC;
CREATE FUNCTION life(name text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE id uuid;
BEGIN
    EXECUTE format('CREATE ROLE %I LOGIN', name);
    EXECUTE format('CREATE SCHEMA %1$I AUTHORIZATION %1$I', name);
    EXECUTE format('SET ROLE %I', name);
    EXECUTE format('SET LOCAL search_path = %I, public', name);
    EXECUTE format('CREATE TABLE %I (who text, "where" text)', name);
    EXECUTE format('CREATE FUNCTION %1$I(%1$I text) RETURNS text LANGUAGE sql AS %2$L', name, format('INSERT INTO %I VALUES (current_user, current_schema) RETURNING $1', name));
    IF NOT tq_attach() OR tq_tenant() <> name OR NOT tq_register(name, format('%I(text)', name)) THEN
        RETURN 'not attached or registered';
    END IF;
    PERFORM tq_async(name, jsonb_build_object(name, name), name => name, group_id => name, queue => name, meta => jsonb_build_object(name, name));
    PERFORM tq_schedule(name, name, '@yearly', jsonb_build_array(name));
    RESET ROLE;
    RETURN 'enqueued';
END $$;
SELECT n, name, life(name) FROM names ORDER BY n;
CREATE FUNCTION look(name text, OUT tenant text, OUT ran bool, OUT seen bool, OUT schedule text, OUT gone bool) LANGUAGE plpgsql AS $$
DECLARE found tenant_q.task;
BEGIN
    EXECUTE format('SET ROLE %I', name);
    EXECUTE format('SET LOCAL search_path = %I, public', name);
    SELECT * INTO found FROM tq_fetch(tq_find(name), wait => '20 s');
    EXECUTE format('SELECT who = $1 AND "where" = $1 FROM %I', name) INTO ran USING name;
    ran := ran AND found.state = 'done' AND found.result #>> '{}' = name;
    seen := found.tenant = name AND found.handler = name AND found.name = name AND found.group_id = name AND found.queue = name AND found.enqueued_by = name AND found.meta = jsonb_build_object(name, name)
        AND (SELECT h.handler = name AND status = 'ok' AND run_as = name FROM tq_handlers h) AND (SELECT t.tenant = name AND t.owner = name AND t.status = 'on' AND done = 1 FROM tq_tenants t)
        AND (SELECT count(*) = 1 FROM tq_results);
    SELECT s.name = look.name AND s.handler = look.name AND s.problem IS NULL AND s.next_run IS NOT NULL INTO schedule FROM tq_schedules s;
    tenant := tq_tenant();
    gone := tq_unschedule(name) AND tq_unregister(name) AND tq_detach(name, drop_data => true);
    RESET ROLE;
END $$;
SELECT n, l.* FROM names, look(name) l ORDER BY n;
DO $$ DECLARE name text; BEGIN FOR name IN SELECT n.name FROM names n LOOP EXECUTE format('DROP SCHEMA %1$I CASCADE', name); EXECUTE format('DROP ROLE %I', name); END LOOP; END $$;
RESET client_min_messages;
-- Control characters break lines of logs and views.
CREATE SCHEMA "new
line" AUTHORIZATION owner;
SELECT tq_attach(E'new\nline');
\echo :SQLSTATE
-- search_path as it may be written
SET search_path = "$user", pg_catalog, pg_temp, acme;
SELECT public.tq_tenant();
SELECT set_config('search_path', ' ACME , public', false);
SELECT tq_tenant();
SELECT set_config('search_path', '"ACME", public', false);
SELECT tq_tenant();
\echo :SQLSTATE
CREATE ROLE asleep;
CREATE SCHEMA asleep AUTHORIZATION asleep;
SET client_min_messages = error; -- nologin.sql has what is said of it
SELECT tq_attach('asleep');
RESET client_min_messages;
-- A table of the extension's own that somebody has altered is not read as what it was.
ALTER TABLE tenant_q.limit_key ALTER COLUMN max_running TYPE bigint;
SELECT tq_queue_size(tenant => 'asleep');
\echo :SQLSTATE
ALTER TABLE tenant_q.limit_key ALTER COLUMN max_running TYPE integer;
SELECT tq_queue_size(tenant => 'asleep');
