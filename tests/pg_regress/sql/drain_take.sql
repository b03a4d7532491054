-- tq_drain_take: what an application's tests do with tasks of external handlers, inside of one transaction.
\i sql/setup.psql
CREATE ROLE owner LOGIN;
CREATE ROLE worker LOGIN;
CREATE ROLE billing LOGIN;
CREATE ROLE stranger LOGIN;
CREATE SCHEMA acme AUTHORIZATION owner;
SELECT tq_attach('acme');
SET SESSION AUTHORIZATION owner;
SET search_path = acme, public;
CREATE FUNCTION local(x int DEFAULT 0) RETURNS int LANGUAGE sql AS 'SELECT x';
CREATE TABLE paid (invoice bigint);
SELECT tq_register('charge', external => true, params => '[{"name": "invoice", "type": "bigint"}, {"name": "locale", "type": "text", "default": "de"}]', retry => tq_backoff('fixed', '1 hour'), timeout => '1 minute'),
       tq_register('local'), tq_register('alone', external => true, max_running => 1), tq_register('theirs', external => true, run_as => 'billing');

-- Enqueue, take, work, finish, look, take everything back.
BEGIN;
SELECT tq_async('charge', '[7]', id => '01900000-0000-7000-8000-000000000001', name => 'seven', meta => '{"by": "me"}', queue => 'mail');
SELECT claim IS NOT NULL AS claimed, tenant, id, handler, args, attempt, max_attempts, deadline - now() BETWEEN '50 s' AND '70 s' AS timed, queue, name, meta, schedule, shared, each FROM tq_drain_take() \gx
-- It is taken: not again.
SELECT count(*) FROM tq_drain_take();
ROLLBACK;
BEGIN;
SELECT tq_async('charge', '{"invoice": 8, "locale": "en"}', id => '01900000-0000-7000-8000-000000000001');
SELECT claim AS c, args FROM tq_drain_take() \gset
INSERT INTO paid VALUES (8);
SELECT tq_finish(:'c', '{"charge": "ch_1"}');
SELECT tq_result('01900000-0000-7000-8000-000000000001'), :'args' AS args, (SELECT count(*) FROM paid) AS paid;
-- Once.
SAVEPOINT a;
\set VERBOSITY sqlstate
SELECT tq_finish(:'c');
\set VERBOSITY default
ROLLBACK TO a;
SELECT state, attempt FROM tq_tasks;
SELECT state, attempt FROM tq_results;
ROLLBACK;
SELECT count(*) FROM tq_tasks;
-- With the transaction the claim is gone.
\set VERBOSITY sqlstate
SELECT tq_finish(:'c');
\set VERBOSITY default
SELECT count(*) FROM paid;

-- A failure, though something was written; the retry is visible by as_of.
BEGIN;
SELECT tq_async('charge', '[9]', id => '01900000-0000-7000-8000-000000000002', max_attempts => 2);
INSERT INTO paid VALUES (9);
SELECT g.state, g.run_at > now() AS later FROM tq_drain_take(), tq_give_up(claim, '{"message": "declined", "class": "stripe.error.CardError", "traceback": "line 1"}') AS g;
SELECT count(*) AS due FROM tq_drain_take();
SELECT claim AS c, attempt FROM tq_drain_take(as_of => now() + interval '2 hours') \gset
SELECT :attempt AS attempt;
SELECT state, run_at FROM tq_give_up(:'c', '{"message": "declined again"}');
SELECT state, attempt, error ->> 'message' AS message FROM tq_results;
SELECT attempt, outcome, message FROM tq_attempts('01900000-0000-7000-8000-000000000002');
ROLLBACK;

-- Given back, and savepoints: with one that is rolled back goes the claim, or its end.
BEGIN;
SELECT tq_async('charge', '[1]') IS NOT NULL AS enqueued;
SELECT tq_release(claim, reason => 'the worker stops') FROM tq_drain_take();
SAVEPOINT a;
SELECT claim AS first FROM tq_drain_take() \gset
ROLLBACK TO a;
\set VERBOSITY sqlstate
SELECT tq_finish(:'first');
\set VERBOSITY default
ROLLBACK TO a;
SELECT claim AS second, attempt FROM tq_drain_take() \gset
SELECT :attempt AS attempt;
SAVEPOINT b;
SELECT tq_finish(:'second');
SELECT count(*) AS done FROM tq_results WHERE state = 'done';
ROLLBACK TO b;
SELECT count(*) AS done FROM tq_results WHERE state = 'done';
SELECT tq_finish_many(ARRAY[:'second']::uuid[], ARRAY['{"n": 2}']::jsonb[]);
SELECT state, result FROM tq_results;
ROLLBACK;

-- With a delay it comes later; of a process that died with it the task is counted against.
BEGIN;
SELECT tq_async('charge', '[1]') IS NOT NULL AS enqueued;
SELECT tq_release(claim, '1 day', 'a holiday') FROM tq_drain_take();
SELECT count(*) AS now FROM tq_drain_take();
SELECT tq_release(claim, crashed => true) FROM tq_drain_take(as_of => now() + interval '2 days');
SELECT attempt, outcome, message FROM tq_attempts((SELECT id FROM tq_tasks));
ROLLBACK;

-- Chains and groups of steps outside and inside: what is handed on comes with the next.
SET client_min_messages = notice;
BEGIN;
SELECT tq_chain('[{"handler": "charge", "args": [5]}, "charge", "local"]', pass_result => true) AS flow \gset
SELECT tq_finish(claim, '77'), args FROM tq_drain_take();
SELECT tq_finish(claim, '88'), args FROM tq_drain_take();
SELECT handler, state, result FROM tq_drain();
SELECT tq_result(:'flow');
ROLLBACK;
BEGIN;
SELECT tq_async_iter('charge', ARRAY['[1]', '[2]', '[3]']::jsonb[]) AS flow \gset
SELECT count(tq_finish(claim, args -> 'invoice')) FROM tq_drain_take();
SELECT count(*) FROM tq_drain_take();
SELECT tq_iter_result(:'flow');
ROLLBACK;

-- What is left is told of: tasks of others, and those of which one runs at a time.
BEGIN;
SELECT count(tq_async(h)) FROM unnest('{alone,alone,local,theirs}'::text[]) AS h;
SELECT handler FROM tq_drain_take();
SELECT handler, state FROM tq_drain();
ROLLBACK;
BEGIN;
SELECT tq_async('charge', '[1]', expires => '1 microsecond') IS NOT NULL AS enqueued;
SELECT count(*) FROM tq_drain_take();
SELECT state FROM tq_results;
SELECT count(tq_async('charge', '[1]')) FROM generate_series(1, 200);
SELECT count(*) FROM tq_drain_take(150);
SELECT count(*) FROM tq_drain_take();
ROLLBACK;

-- Also in a transaction whose snapshot is older than what it enqueues.
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT count(*) FROM tq_tasks;
SELECT tq_async('charge', '[1]') IS NOT NULL AS enqueued;
SELECT tq_finish(claim) FROM tq_drain_take();
SELECT state FROM tq_results;
ROLLBACK;

-- Of whoever has claimed it, with the right work.
SELECT tq_grant('worker', '{work,enqueue,read}');
SET SESSION AUTHORIZATION worker;
SET search_path = acme, public;
BEGIN;
SELECT tq_async('charge', '[1]') IS NOT NULL AS enqueued;
SELECT claim AS c FROM tq_drain_take() \gset
SELECT tq_finish(:'c');
SELECT state FROM tq_results;
ROLLBACK;
SET SESSION AUTHORIZATION stranger;
SET search_path = acme, public;
SELECT tq_drain_take(tenant => 'acme');
\echo :SQLSTATE
SET SESSION AUTHORIZATION owner;
SET search_path = acme, public;
SELECT tq_drain_take(-1);
\echo :SQLSTATE
SELECT tq_drain_take(as_of => 'infinity');
\echo :SQLSTATE
BEGIN;
SELECT tq_async('charge', '[1]') IS NOT NULL AS enqueued;
SELECT claim AS c FROM tq_drain_take() \gset
SELECT tq_give_up(:'c', '{"class": "x"}');
\echo :SQLSTATE
ROLLBACK;
SELECT count(*) AS left_behind FROM tq_tasks;
