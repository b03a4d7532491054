-- Running tasks in one's own session: tq_drain, tq_run_pending, sync.
\i sql/setup.psql
-- No executors: what runs here runs in this session.
ALTER SYSTEM SET tenant_q.enabled = off;
SELECT pg_reload_conf();
\c - postgres
SHOW tenant_q.enabled;
CREATE ROLE owner LOGIN;
CREATE ROLE clerk LOGIN;
CREATE ROLE app LOGIN;
GRANT clerk, app TO owner;
CREATE SCHEMA acme AUTHORIZATION owner;
CREATE SCHEMA evil AUTHORIZATION owner;
SELECT tq_attach('acme');
SELECT tq_set_tenant('acme', timezone => 'Asia/Tokyo', settings => '{"extra_float_digits": "2"}');
\c - owner
SET search_path = acme, public;
CREATE TABLE log (n serial, what text);
CREATE FUNCTION note(what text) RETURNS text LANGUAGE sql AS $$ INSERT INTO log (what) VALUES ($1) RETURNING what $$;
CREATE FUNCTION breaking(message text) RETURNS int LANGUAGE plpgsql
AS $$ BEGIN PERFORM note('before'); RAISE EXCEPTION '%', message USING ERRCODE = 'XY123', DETAIL = 'the detail', HINT = 'the hint'; END $$;
CREATE FUNCTION third_time() RETURNS int LANGUAGE plpgsql
AS $$ BEGIN IF (tq_current()).attempt < 3 THEN PERFORM tq_retry('1 hour', 'not yet'); END IF; RETURN (tq_current()).attempt; END $$;
CREATE FUNCTION giving_up() RETURNS int LANGUAGE plpgsql AS $$ BEGIN PERFORM tq_fail('no such order'); END $$;
CREATE FUNCTION surroundings() RETURNS text LANGUAGE sql
AS $$ SELECT concat_ws(' | ', current_setting('search_path'), current_setting('TimeZone'), current_setting('extra_float_digits'), current_setting('work_mem'), current_user, (tq_current()).handler, (tq_current()).meta) $$;
CREATE FUNCTION leaving() RETURNS void LANGUAGE sql AS $$ SELECT set_config('search_path', 'public', false), set_config('my.own', 'left behind', false) $$;
CREATE FUNCTION fan(n int) RETURNS bigint LANGUAGE sql AS $$ SELECT count(tq_async('note', jsonb_build_array('child ' || i))) FROM generate_series(1, n) i $$;
CREATE FUNCTION napping(seconds float8) RETURNS void LANGUAGE sql AS $$ SELECT pg_sleep(seconds) $$;
CREATE FUNCTION greedy() RETURNS bigint LANGUAGE sql AS $$ SELECT count(*) FROM tq_drain() $$;
CREATE FUNCTION nesting() RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM tq_async('note', '["inner"]', sync => true); RETURN (tq_current()).handler; END $$;
CREATE FUNCTION suicidal() RETURNS boolean LANGUAGE sql AS $$ SELECT tq_cancel((tq_current()).id) $$;
CREATE FUNCTION count_letters(t text) RETURNS int LANGUAGE sql AS $$ SELECT length(t) $$;
CREATE PROCEDURE committing() LANGUAGE plpgsql AS $$ BEGIN COMMIT; END $$;
SELECT bool_and(tq_register(f)) FROM unnest('{note,breaking,third_time,giving_up,surroundings,leaving,fan,napping,greedy,nesting,suicidal,count_letters,committing}'::text[]) f;
SELECT tq_register('clerks', 'note(text)', run_as => 'clerk');
SELECT tq_register('set', 'surroundings()', settings => '{"work_mem": "5MB"}');

-- In the caller's transaction: order, results, failures, and what tasks enqueue.
BEGIN;
SELECT count(tq_async('note', to_jsonb(p::text), priority => p)) FROM unnest('{0,5,-1}'::int[]) p;
SELECT count(tq_async('fan', '[2]'));
SELECT count(tq_async('breaking', '["out of paper"]', max_attempts => 1));
SELECT count(tq_async('giving_up'));
SELECT count(tq_async('third_time'));
SELECT count(tq_async('clerks', '["left"]')), count(tq_async('committing')), count(tq_async('note', '["later"]', delay => '2 hours'));
SELECT handler, state, args, result, error - 'context' AS error, attempt, max_attempts, started_at IS NOT NULL AS started, finished_at IS NOT NULL AS finished FROM tq_drain();
SELECT what FROM log ORDER BY n;
SELECT handler, state FROM tq_tasks ORDER BY handler, state;
SELECT handler, state, tq_result(id, propagate => false) FROM tq_results ORDER BY id;
-- Nothing more is due, until later.
SELECT count(*) FROM tq_drain();
SELECT handler, state, attempt, result FROM tq_drain(as_of => now() + interval '1 day');
SELECT attempt, outcome, sqlstate, message FROM tq_attempts((SELECT id FROM tq_results WHERE handler = 'third_time'));
ROLLBACK;
SELECT count(*) FROM log;
SELECT count(*) FROM tq_tasks;
SELECT count(*) FROM tq_results;

-- At most so many; none; a task without a result kept; one that has expired by then.
BEGIN;
SELECT count(tq_async('note', to_jsonb(i::text))) FROM generate_series(1, 3) i;
SELECT count(*) FROM tq_drain(0);
SELECT args FROM tq_drain(2);
SELECT args FROM tq_drain(NULL);
SELECT count(tq_async('note', '["unsaved"]', save => false));
SELECT handler, state, result, attempt FROM tq_drain();
SELECT count(tq_async('note', '["in time"]', expires => '1 hour')), count(tq_async('note', '["put off"]', expires => '1 hour', delay => '2 hours')), count(tq_async('note', '["too late"]', expires => '0'));
SELECT args, state FROM tq_drain(as_of => now() + interval '1 day');
ROLLBACK;

-- The tenant's surroundings inside, the caller's outside.
SET my.own = 'before';
SET TimeZone = 'UTC';
BEGIN;
SELECT count(tq_async('surroundings', meta => '{"by": "test"}')), count(tq_async('set')), count(tq_async('leaving'));
SELECT handler, state, result FROM tq_drain();
SHOW search_path;
SHOW TimeZone;
SHOW my.own;
SELECT tq_current();
ROLLBACK;
-- From elsewhere
SET search_path = public;
BEGIN;
SELECT count(tq_async('surroundings', tenant => 'acme'));
SELECT tenant, state, result FROM tq_drain(tenant => 'acme');
ROLLBACK;
SELECT handler, state FROM tq_drain();
\echo :SQLSTATE
SET search_path = acme, public;

-- A savepoint each: the caller's work stays. A savepoint of the caller's takes all back.
BEGIN;
INSERT INTO log (what) VALUES ('mine');
SAVEPOINT s;
SELECT count(tq_async('breaking', '["x"]')), count(tq_async('note', '["y"]'));
SELECT handler, state FROM tq_drain();
SELECT what FROM log;
ROLLBACK TO s;
SELECT what FROM log;
SELECT count(*) FROM tq_tasks;
ROLLBACK;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(tq_async('note', '["frozen"]')), count(tq_async('fan', '[1]'));
SELECT handler, state FROM tq_drain();
ROLLBACK;
BEGIN READ ONLY;
SELECT handler, state FROM tq_drain();
ROLLBACK;

-- Deferred constraints: a task's are its own, the caller's come first, and modes are as declared.
CREATE TABLE parent (id int PRIMARY KEY);
CREATE TABLE child (parent int CONSTRAINT child_parent REFERENCES parent DEFERRABLE INITIALLY DEFERRED, k int CONSTRAINT child_k UNIQUE DEFERRABLE);
CREATE FUNCTION orphan(n int) RETURNS void LANGUAGE sql AS $$ INSERT INTO child VALUES (n, n) $$;
CREATE FUNCTION adopt(n int) RETURNS void LANGUAGE sql AS $$ INSERT INTO child VALUES (n, n); INSERT INTO parent VALUES (n) $$;
SELECT bool_and(tq_register(f)) FROM unnest('{orphan,adopt}'::text[]) f;
BEGIN;
SELECT count(tq_async('orphan', '[1]')), count(tq_async('adopt', '[2]')), count(tq_async('orphan', '[3]'));
SELECT handler, args, state, error ->> 'sqlstate' AS sqlstate FROM tq_drain();
SELECT parent FROM child;
INSERT INTO child VALUES (9, 9);
INSERT INTO parent VALUES (9);
INSERT INTO child VALUES (9, 9);
ROLLBACK;
BEGIN;
INSERT INTO child VALUES (7, 7);
SELECT count(tq_async('note', '["innocent"]'));
SELECT handler, state FROM tq_drain();
\echo :SQLSTATE
ROLLBACK;

-- Timeouts hold, and leave the caller's alone.
BEGIN;
SELECT count(tq_async('napping', '[60]', timeout => '50 ms', max_attempts => 1));
SELECT handler, state, error ->> 'message' AS message FROM tq_drain();
SELECT outcome FROM tq_attempts((SELECT id FROM tq_results));
ROLLBACK;
BEGIN;
SELECT count(tq_async('napping', '[60]', timeout => '1 hour'));
SET LOCAL statement_timeout = '100 ms';
SELECT handler, state FROM tq_drain();
\echo :SQLSTATE
ROLLBACK;
SELECT count(*) FROM tq_tasks;

-- What a task may not do.
BEGIN;
SELECT count(tq_async(h, max_attempts => 1)) FROM unnest('{greedy,nesting,suicidal}'::text[]) h;
SELECT handler, state, result, error ->> 'message' AS message FROM tq_drain();
SELECT handler, state FROM tq_tasks;
ROLLBACK;

-- Who may, and when.
BEGIN;
SELECT tq_pause(handler => 'note');
SELECT count(tq_async('note', '["paused"]'));
SELECT handler, state FROM tq_drain();
ROLLBACK;
BEGIN;
SELECT tq_pause();
SELECT handler, state FROM tq_drain();
\echo :SQLSTATE
ROLLBACK;
BEGIN;
SELECT tq_set_tenant(ready => false);
SELECT handler, state FROM tq_drain();
ROLLBACK;
SELECT * FROM tq_drain(-1);
\echo :SQLSTATE
SELECT * FROM tq_drain(as_of => 'infinity');
SELECT tq_grant('app', '{enqueue}'), tq_grant('clerk', '{work}');
GRANT INSERT ON log TO clerk;
GRANT SELECT ON log TO clerk;
GRANT USAGE ON SEQUENCE log_n_seq TO clerk;
SET ROLE app;
SELECT handler, state FROM tq_drain();
\echo :SQLSTATE
SELECT count(tq_async('note', '["as app"]', sync => true));
\echo :SQLSTATE
RESET ROLE;
BEGIN;
SELECT count(tq_async('clerks', '["clerk"]')), count(tq_async('note', '["owner"]'));
SET LOCAL ROLE clerk;
SELECT handler, state, result FROM tq_drain();
ROLLBACK;

-- A superuser's session that has become the task's role: nothing leads back.
CREATE FUNCTION escaping() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RESET ROLE; RETURN current_user; END $$;
CREATE FUNCTION escaping_further() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RESET SESSION AUTHORIZATION; RETURN current_user; END $$;
CREATE FUNCTION holding() RETURNS text LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'DECLARE held CURSOR WITH HOLD FOR SELECT note(current_user::text)'; RETURN current_user; END $$;
SELECT bool_and(tq_register(f, max_attempts => 1)) FROM unnest('{escaping,escaping_further,holding}'::text[]) f;
\c - postgres
SET search_path = acme, public;
SET ROLE owner;
BEGIN;
SELECT count(tq_async(h)) FROM unnest('{escaping,escaping_further,holding}'::text[]) h;
SELECT handler, state, result, error ->> 'sqlstate' AS sqlstate FROM tq_drain();
SELECT count(*) FROM pg_cursors WHERE is_holdable;
SELECT current_user;
RESET ROLE;
COMMIT;
SELECT what FROM log;
-- As a superuser, tasks of others are left.
BEGIN;
SELECT count(tq_async('note', '["x"]'));
SELECT handler, state FROM tq_drain();
ROLLBACK;
\c - owner
SET search_path = acme, public;
DELETE FROM tq_result;
TRUNCATE log;

-- A commit after each.
SELECT count(tq_async('note', to_jsonb(i::text))) FROM generate_series(1, 4) i;
SELECT count(tq_async('breaking', '["x"]', max_attempts => 2, retry => tq_backoff('fixed', '100 ms'))), count(tq_async('committing'));
CALL tq_run_pending(max_tasks => 3);
SELECT count(*), count(DISTINCT xmin::text) FROM log;
CALL tq_run_pending();
SELECT count(*), count(DISTINCT xmin::text) FROM log;
SELECT handler, state FROM tq_tasks ORDER BY handler;
CALL tq_run_pending(wait => '500 ms');
SELECT handler, state FROM tq_tasks ORDER BY handler;
SELECT handler, state, attempt FROM tq_results ORDER BY id;
SELECT tq_cancel(id) FROM tq_tasks;
-- Only where it can commit, before anything has run.
SELECT count(tq_async('note', '["stays"]'));
BEGIN;
CALL tq_run_pending();
\echo :SQLSTATE
ROLLBACK;
SELECT handler, state FROM tq_tasks;
CALL tq_run_pending(max_tasks => -1);
CALL tq_run_pending('nowhere');
\echo :SQLSTATE
-- Nothing of the caller's gets in between.
CREATE FUNCTION evil.less(int, int) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'evil'; END $$;
CREATE OPERATOR evil.< (FUNCTION = evil.less, LEFTARG = int, RIGHTARG = int);
CREATE OPERATOR evil.+ (FUNCTION = evil.less, LEFTARG = int, RIGHTARG = int);
SET search_path = acme, evil, pg_catalog, public;
CALL tq_run_pending(max_tasks => 10);
SET search_path = acme, public;
SELECT handler, state FROM tq_tasks;

-- At once.
SELECT tq_result(tq_async('count_letters', to_jsonb(repeat('letters', 200)), sync => true));
BEGIN;
SELECT tq_async('surroundings', sync => true, name => 'now') AS id \gset
SELECT state, result, attempt FROM tq_fetch(:'id');
ROLLBACK;
SELECT count(*) FROM tq_results WHERE name = 'now';
SELECT tq_async('breaking', '["out of paper"]', sync => true);
\echo :SQLSTATE
SELECT count(*) FROM tq_results WHERE handler = 'breaking' AND attempt = 1;
SELECT count(*) FROM tq_tasks;
SELECT what FROM log WHERE what = 'before';
-- Caught by the caller
DO $$ BEGIN
    PERFORM tq_async('breaking', '["caught"]', sync => true);
EXCEPTION WHEN SQLSTATE 'XY123' THEN
    RAISE NOTICE 'caught: %', SQLERRM;
END $$;
SELECT count(*) FROM tq_tasks;
SELECT tq_async('orphan', '[5]', sync => true);
SELECT tq_async('napping', '[60]', sync => true, timeout => '50 ms');
\echo :SQLSTATE
SELECT tq_async('nesting', sync => true) IS NOT NULL;
SELECT handler, state FROM tq_results ORDER BY id DESC LIMIT 2;
SELECT tq_async('note', '["x"]', sync => true, delay => '1 s');
\echo :SQLSTATE
SELECT tq_async('note', '["x"]', sync => true, run_at => '2001-01-01');
-- The same id twice is one task.
SELECT count(tq_async('note', '["once"]', sync => true, id => '01900000-0000-7000-8000-000000000001')) FROM generate_series(1, 2);
SELECT count(tq_async('note', '["once"]', sync => true, id => '01900000-0000-7000-8000-000000000001'));
SELECT count(*) FROM log WHERE what = 'once';

\c - postgres
ALTER SYSTEM RESET tenant_q.enabled;
SELECT pg_reload_conf();
