-- Events of tasks (tq_on) and changes of tables (tq_listen_table).
\i sql/setup.psql
ALTER SYSTEM SET tenant_q.enabled = off;
SELECT pg_reload_conf();
\c - postgres
SHOW tenant_q.enabled;
CREATE ROLE owner LOGIN;
CREATE ROLE clerk LOGIN;
CREATE ROLE app LOGIN;
CREATE ROLE mallory LOGIN;
GRANT clerk, app TO owner;
CREATE SCHEMA acme AUTHORIZATION owner;
CREATE SCHEMA theirs AUTHORIZATION mallory;
SELECT tq_attach('acme');
\c - owner
SET search_path = acme, public;
CREATE TABLE seen (n serial, doc jsonb, who text DEFAULT current_user, path text DEFAULT current_setting('search_path'));
GRANT USAGE ON SCHEMA acme TO clerk, app;
GRANT INSERT, SELECT ON seen TO clerk;
GRANT USAGE ON seen_n_seq TO clerk;
GRANT INSERT (handler, args) ON tq_task TO app;
CREATE FUNCTION see(task jsonb) RETURNS boolean LANGUAGE sql AS $$ INSERT INTO seen (doc) VALUES (task) RETURNING task -> 'args' ->> 0 IS DISTINCT FROM 'no' $$;
CREATE FUNCTION objecting(task jsonb) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'I object to %', task -> 'args' USING ERRCODE = 'XY321'; END $$;
CREATE FUNCTION chatty(task jsonb) RETURNS void LANGUAGE sql AS $$ SELECT tq_async('note', '["of the listener"]') $$;
CREATE FUNCTION snooping(task jsonb) RETURNS text LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'RESET ROLE'; RETURN current_user; END $$;
CREATE FUNCTION note(what text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN IF what = 'fail' THEN RAISE EXCEPTION 'failing'; END IF; RETURN what; END $$;
CREATE PROCEDURE committing(task jsonb) LANGUAGE plpgsql AS $$ BEGIN COMMIT; END $$;
SELECT bool_and(tq_register(f)) FROM unnest('{note,see,objecting,chatty,snooping,committing}'::text[]) f;
SELECT tq_register('clerks', 'see(jsonb)', run_as => 'clerk');
SELECT tq_register('other', 'note(text)');

-- Wrong input
SELECT tq_on('dnoe', 'see');
\echo :SQLSTATE
SELECT tq_on('done', 'sea');
SELECT tq_on('done', 'note');
SELECT tq_on('done', 'see', 'nobody');
SELECT tq_on('done', 'see', 'see');
SELECT tq_on('before_run', 'committing');
SELECT tq_off('nope', 'see');
SELECT tq_off('done', 'see');
SET ROLE app;
SELECT tq_on('done', 'see');
\echo :SQLSTATE
RESET ROLE;

-- Told by a task: in the transaction that records it.
SELECT count(DISTINCT tq_on(e, 'see')) FROM unnest('{attempt_failed,retry,failed,done,cancelled,expired,schedule_fired}'::text[]) e;
SELECT tq_on('done', 'see') = tq_on('done', 'see') AS same;
SELECT events, for_handler, handler, status, how, created_by FROM tq_events;
BEGIN;
SELECT count(tq_async('note', jsonb_build_array(x), max_attempts => 2, meta => '{"by": "test"}')) FROM unnest('{ok,fail}'::text[]) x;
SELECT count(tq_async('note', '["expired"]', expires => '0'));
SELECT count(tq_async('note', '["cancelled"]', delay => '1 hour'));
SELECT tq_cancel(id) FROM tq_tasks WHERE args ->> 0 = 'cancelled';
SELECT handler, state, args -> 'event' AS event, meta FROM tq_drain(as_of => now() + interval '1 day');
SELECT doc ->> 'event' AS event, doc -> 'args' AS args, doc ->> 'state' AS state, doc -> 'attempt' AS attempt, doc -> 'result' AS result, doc #>> '{error,message}' AS error, doc ->> 'finished_at' IS NOT NULL AS over FROM seen ORDER BY n;
SELECT doc - 'id' - 'created_at' - 'run_at' - 'started_at' - 'finished_at' AS task FROM seen WHERE doc ->> 'event' = 'done';
-- No circles
SELECT count(*) FROM tq_tasks;
ROLLBACK;
-- Rolled back with what it tells of
BEGIN;
SAVEPOINT s;
SELECT count(tq_async('note', '["gone"]'));
SELECT count(*) FROM tq_drain();
ROLLBACK TO s;
SELECT count(*) FROM tq_tasks;
ROLLBACK;
-- One handler's only
SELECT bool_and(tq_off(e, 'see')) FROM unnest('{attempt_failed,retry,failed,done,cancelled,expired,schedule_fired}'::text[]) e;
BEGIN;
SELECT count(tq_on('done', 'see', 'other'));
SELECT count(tq_async(h, '["x"]')) FROM unnest('{note,other}'::text[]) h;
SELECT handler, args ->> 'handler' AS about FROM tq_drain();
-- Broken ones keep nothing from ending.
DROP FUNCTION see(jsonb);
SELECT count(tq_async('other', '["x"]'));
SELECT handler, state FROM tq_drain();
SELECT handler, status FROM tq_events;
ROLLBACK;

-- Called when a task is enqueued: in a session of the listener's role.
SELECT count(tq_on('enqueue', 'clerks', 'note'));
GRANT INSERT (handler, args) ON tq_task TO clerk;
\c - clerk
SET search_path = acme, public;
SELECT tq_async('note', '["no"]');
\echo :SQLSTATE
SELECT count(tq_async('note', '["yes"]', name => 'label', priority => 3));
SELECT count(*) FROM tq_async_many('[{"handler": "other", "args": ["not asked"]}, {"handler": "note", "args": ["one of many"]}]');
SELECT count(*) FROM tq_async_many('[{"handler": "note", "args": ["fine"]}, {"handler": "note", "args": ["no"]}]');
\c - owner
SET search_path = acme, public;
REVOKE INSERT (handler, args) ON tq_task FROM clerk;
SELECT doc - 'id' - 'created_at' - 'run_at' AS task, who, path FROM seen ORDER BY n;
SELECT handler, args FROM tq_tasks ORDER BY id;
-- In any other before it runs, by an executor of the listener's role; nobody else calls it.
SET ROLE app;
SELECT count(tq_async('note', '["no"]'));
RESET ROLE;
SELECT handler, state, args FROM tq_drain();
SELECT doc -> 'args' AS args, who FROM seen ORDER BY n;
SELECT tq_off('enqueue', 'clerks');
SELECT count(tq_on('enqueue', 'see', 'note'));
SET ROLE app;
SELECT count(tq_async('note', jsonb_build_array(x))) FROM unnest('{no,late}'::text[]) x;
RESET ROLE;
SELECT handler, state, args, error FROM tq_drain();
SELECT doc -> 'args' AS args, doc ->> 'event' AS event, doc ->> 'state' AS state, who FROM seen ORDER BY n DESC LIMIT 1;
SELECT tq_off('enqueue', 'see');
SELECT count(tq_on('enqueue', 'objecting'));
SELECT tq_async('note', '["x"]');
\echo :SQLSTATE
SELECT tq_off('enqueue', 'objecting');
-- What it enqueues is not put before it again.
SELECT count(tq_on('enqueue', 'chatty'));
SELECT count(tq_async('other', '["x"]'));
SELECT handler, args FROM tq_tasks ORDER BY id DESC LIMIT 2;
SELECT tq_off('enqueue', 'chatty');
-- A superuser enqueues: nothing leads back.
SELECT count(tq_on('enqueue', 'snooping'));
\c - postgres
SET search_path = acme, public;
SELECT count(tq_async('note', '["x"]'));
SET ROLE owner;
SELECT state, error FROM tq_drain();
SELECT tq_off('enqueue', 'snooping');
DELETE FROM tq_task;
DELETE FROM tq_result;
TRUNCATE seen;
\c - owner
SET search_path = acme, public;

-- Before and after a run, with the task's id, and the result.
SELECT count(tq_on(e, 'see')) FROM unnest('{before_run,after_run}'::text[]) e;
SELECT tq_async('note', '["yes"]') AS yes \gset
SELECT tq_async('note', '["no"]') AS no \gset
SELECT count(tq_async('note', '["fail"]', max_attempts => 1));
CALL tq_run_pending();
SELECT doc ->> 'event' AS event, doc ->> 'id' = :'yes' AS yes, doc ->> 'state' AS state, doc -> 'args' AS args, doc -> 'result' AS result, doc -> 'attempt' AS attempt FROM seen ORDER BY n;
SELECT state, attempt, error FROM tq_fetch(:'no');
SELECT tq_result(:'no');
\echo :SQLSTATE
SELECT tq_async('note', '["no"]', sync => true);
\echo :SQLSTATE
SELECT bool_and(tq_off(e, 'see')) FROM unnest('{before_run,after_run}'::text[]) e;
SELECT count(tq_on('after_run', 'objecting', 'note'));
SELECT tq_async('note', '["x"]', sync => true);
\echo :SQLSTATE
SELECT tq_off('after_run', 'objecting');

-- The same where executors do it.
TRUNCATE seen;
SELECT count(tq_on(e, 'see')) FROM unnest('{before_run,after_run,done,failed,cancelled,schedule_fired}'::text[]) e;
\c - postgres
ALTER SYSTEM RESET tenant_q.enabled;
SELECT pg_reload_conf();
\c - owner
SET search_path = acme, public;
SELECT tq_async('note', '["yes"]') AS id \gset
SELECT tq_result(:'id', wait => '20 s');
SELECT tq_async('note', '["no"]') AS id \gset
SELECT tq_result(:'id', wait => '20 s');
\echo :SQLSTATE
SELECT tq_async('note', '["fail"]', max_attempts => 1) AS id \gset
SELECT tq_result(:'id', wait => '20 s', propagate => false);
SELECT tq_schedule('once', 'note', '1 second', '["planned"]', repeats => 1) IS NOT NULL;
SELECT test.await('(SELECT count(*) = 2 FROM acme.seen WHERE doc ->> ''schedule'' = ''once'' AND doc ->> ''event'' IN (''schedule_fired'', ''done''))');
SELECT test.await('NOT EXISTS (SELECT FROM acme.tq_task)');
SELECT doc ->> 'event' AS event, doc -> 'args' AS args, doc ->> 'state' AS state, doc ->> 'schedule' AS schedule, who FROM seen ORDER BY doc ->> 'event', doc ->> 'args';
SELECT bool_and(tq_off(e, 'see')) FROM unnest('{before_run,after_run,done,failed,cancelled,schedule_fired}'::text[]) e;

-- Tables.
SELECT tq_pause();
CREATE TABLE orders (id int PRIMARY KEY, total numeric, note text);
SELECT tq_listen_table('orders', 'see');
INSERT INTO orders VALUES (1, 1.10, 'x');
UPDATE orders SET total = 0.1000000000000000000001;
DELETE FROM orders;
SELECT args::text, enqueued_by FROM tq_task ORDER BY id;
SELECT relation, events, handler, status, how, each, created_by FROM tq_events;
-- Not what is rolled back; what a savepoint keeps; by COPY and MERGE; nothing for nothing.
DELETE FROM tq_task;
BEGIN;
INSERT INTO orders VALUES (1, 1, 'rolled back');
ROLLBACK;
BEGIN;
INSERT INTO orders VALUES (1, 1, 'kept');
SAVEPOINT s;
INSERT INTO orders VALUES (2, 1, 'not kept');
ROLLBACK TO s;
COMMIT;
COPY orders FROM STDIN;
3	3	copied
\.
MERGE INTO orders o USING (VALUES (1, 'merged'), (4, 'merged')) v (id, note) ON o.id = v.id
    WHEN MATCHED THEN UPDATE SET note = v.note WHEN NOT MATCHED THEN INSERT VALUES (v.id, 4, v.note);
UPDATE orders SET note = 'nobody' WHERE id = 99;
SELECT args ->> 'event' AS event, args -> 'new' AS new FROM tq_task ORDER BY id;
-- Conditions; listening again replaces.
DELETE FROM tq_task;
SELECT tq_listen_table('orders', 'see', only_if => 'NEW.total > 100', events => '{insert,update}', task => '{"priority": 5, "queue": "sync", "name": "change"}');
INSERT INTO orders SELECT i, i, 'n' FROM generate_series(100, 102) i;
UPDATE orders SET total = 1000 WHERE id = 100;
DELETE FROM orders;
SELECT args #> '{new,id}' AS id, priority, queue, name FROM tq_task t ORDER BY t.id;
SELECT count(*) FROM pg_trigger WHERE tgrelid = 'orders'::regclass;
-- Statements
DELETE FROM tq_task;
SELECT tq_listen_table('orders', 'see', each => 'statement', events => '{insert,update,delete,truncate}');
INSERT INTO orders SELECT i, i, 'n' FROM generate_series(1, 10000) i;
UPDATE orders SET total = -total;
UPDATE orders SET total = 0 WHERE id < 0;
DELETE FROM orders WHERE id = 5;
TRUNCATE orders;
SELECT args ->> 'event' AS event, count(*) AS tasks, sum(jsonb_array_length(args -> 'rows')) AS rows, min(args #>> '{rows,0}') AS first FROM tq_task GROUP BY 1 ORDER BY min(id::text);
SELECT count(DISTINCT r #>> '{new,id}') AS ids, bool_and(r #>> '{old,id}' = r #>> '{new,id}' AND (r #>> '{old,total}')::int = -(r #>> '{new,total}')::int) AS paired
  FROM tq_task, jsonb_array_elements(args -> 'rows') r WHERE args ->> 'event' = 'update';
SELECT args FROM tq_task WHERE args ->> 'event' = 'truncate';
-- Large rows: fewer to a task, and none beyond the limit.
DELETE FROM tq_task;
INSERT INTO orders SELECT i, i, repeat('x', 200000) FROM generate_series(1, 3) i;
SELECT count(*), sum(jsonb_array_length(args -> 'rows')) FROM tq_task;
INSERT INTO orders VALUES (9, 9, repeat('x', 2000000));
\echo :SQLSTATE
-- Partitions
DELETE FROM orders;
INSERT INTO orders VALUES (1, 1, 'small');
DELETE FROM tq_task;
CREATE TABLE part (id int, k int, v text) PARTITION BY LIST (k);
CREATE TABLE part1 PARTITION OF part FOR VALUES IN (1);
CREATE TABLE part2 (v text, k int, id int);
ALTER TABLE part ATTACH PARTITION part2 FOR VALUES IN (2);
SELECT tq_listen_table('part', 'see');
INSERT INTO part VALUES (1, 1, 'a'), (2, 2, 'b');
UPDATE part SET k = 2 WHERE id = 1;
DELETE FROM part2;
SELECT args - 'old' - 'new' AS what, coalesce(args #> '{new,id}', args #> '{old,id}') AS id FROM tq_task t ORDER BY t.id;
DELETE FROM tq_task;
SELECT tq_listen_table('part', 'see', each => 'statement');
INSERT INTO part VALUES (1, 1, 'a'), (2, 2, 'b');
UPDATE part SET k = 3 - k;
SELECT args FROM tq_task ORDER BY id;
SELECT tq_unlisten_table('part', 'see');
-- Wrong input
DELETE FROM tq_task;
SELECT tq_listen_table('orders', 'note');
SELECT tq_listen_table('orders', 'nobody');
SELECT tq_listen_table('orders', 'see', '{insert,upsert}');
SELECT tq_listen_table('orders', 'see', '{}');
SELECT tq_listen_table('orders', 'see', each => 'table');
SELECT tq_listen_table('orders', 'see', each => 'statement', only_if => 'true');
SELECT tq_listen_table('orders', 'see', only_if => 'NEW.nothing > 1');
SELECT tq_listen_table('orders', 'see', only_if => 'OLD.total > 1');
SELECT tq_listen_table('orders', 'see', task => '{"args": 1}');
SELECT tq_listen_table('orders', 'see', task => '{"prioritty": 1}');
SELECT tq_listen_table('tq_task', 'see');
SELECT tq_listen_table('tq_events', 'see');
SELECT tenant_q.table_changed();
-- It is as it was.
SELECT events, each FROM tq_events;

-- Who writes needs no right; the table's owner does.
GRANT INSERT, UPDATE, SELECT ON orders TO mallory;
GRANT USAGE ON SCHEMA acme TO mallory;
\c - postgres
SELECT id AS listener FROM tenant_q.table_listener \gset
\c - mallory
SET search_path = acme, public;
UPDATE orders SET total = 77 WHERE id = 1;
SELECT tq_listen_table('orders', 'see');
CREATE TABLE theirs.mine (id int);
SELECT tq_listen_table('theirs.mine', 'see');
\echo :SQLSTATE
-- A trigger made by hand gets nowhere.
CREATE TRIGGER forged AFTER INSERT ON theirs.mine FOR EACH ROW EXECUTE FUNCTION tenant_q.table_changed(:'listener');
INSERT INTO theirs.mine VALUES (1);
\echo :SQLSTATE
DROP TRIGGER forged ON theirs.mine;
CREATE TRIGGER forged AFTER INSERT ON theirs.mine FOR EACH ROW EXECUTE FUNCTION tenant_q.table_changed('x');
INSERT INTO theirs.mine VALUES (1);
-- A cast of one's own is not run: whoever writes would.
CREATE TYPE theirs.odd AS ENUM ('odd');
CREATE FUNCTION theirs.tell(theirs.odd) RETURNS json LANGUAGE sql AS $$ SELECT to_json(current_user::text) $$;
CREATE CAST (theirs.odd AS json) WITH FUNCTION theirs.tell(theirs.odd);
CREATE TABLE theirs.odds (o theirs.odd);
\c - owner
SET search_path = acme, public;
GRANT INSERT (handler, args) ON tq_task TO mallory;
\c - mallory
SELECT tq_listen_table('theirs.odds', 'see', tenant => 'acme');
\c - postgres
SET search_path = acme, public;
INSERT INTO theirs.odds VALUES ('odd');
SELECT args, enqueued_by, by_superuser FROM tq_task ORDER BY id;
REVOKE INSERT (handler, args) ON acme.tq_task FROM mallory;
INSERT INTO theirs.odds VALUES ('odd');
\echo :SQLSTATE

-- Renamed with its tenant; detached, the table works on.
DELETE FROM tq_task;
ALTER SCHEMA acme RENAME TO acme2;
SET search_path = acme2, public;
ALTER TABLE orders RENAME TO orders2;
UPDATE orders2 SET total = 78 WHERE id = 1;
SELECT args ->> 'table' AS "table", args -> 'event' AS event FROM tq_task;
SELECT tq_detach('acme2');
UPDATE orders2 SET total = 79 WHERE id = 1;
UPDATE orders2 SET total = 80 WHERE id = 1;
SELECT tq_attach('acme2', adopt => true);
UPDATE orders2 SET total = 81 WHERE id = 1;
SELECT test.await('(SELECT count(*) = 1 FROM acme2.seen WHERE doc #>> ''{rows,0,new,total}'' = ''81'')');
SELECT count(*) FROM seen WHERE doc #>> '{rows,0,new,total}' IN ('79', '80');
DROP TABLE theirs.odds;
SET ROLE owner;
SELECT tq_unlisten_table('orders2', 'see'), tq_unlisten_table('orders2', 'see');
SELECT count(*) FROM pg_trigger WHERE tgrelid = 'orders2'::regclass;
RESET ROLE;
SELECT count(*) FROM tenant_q.table_listener;
