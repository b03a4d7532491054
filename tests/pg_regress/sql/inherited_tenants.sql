-- What the test suites of tenant-schemas-celery and Django Tenant Schemas Q assert, and what users of theirs reported:
-- a tenant's work stays in its schema, and nobody else sees it. tests/INHERITED.md says which, and what for.
\i sql/setup.psql
CREATE ROLE owner LOGIN;
CREATE ROLE rival LOGIN;
CREATE SCHEMA one AUTHORIZATION owner;
CREATE SCHEMA two AUTHORIZATION owner;
CREATE SCHEMA theirs AUTHORIZATION rival;
SELECT tq_attach(t) FROM unnest('{one,two,theirs}'::text[]) t;
CREATE SCHEMA test_cases;
CREATE TABLE test_cases.cases (n serial, family text, label text, expected text, actual text);
CREATE FUNCTION test.answer(call text) RETURNS text LANGUAGE plpgsql AS $$ DECLARE t text; BEGIN EXECUTE 'SELECT (' || call || ')::text' INTO t; RETURN t; EXCEPTION WHEN OTHERS THEN RETURN SQLSTATE; END $$;
GRANT USAGE ON SCHEMA test_cases TO PUBLIC;
GRANT ALL ON test_cases.cases, test_cases.cases_n_seq TO PUBLIC;

-- The same table in both tenants, the same function for all of them, which finds it by its bare name.
CREATE TABLE public.log (n serial, what text);
GRANT ALL ON public.log, public.log_n_seq TO PUBLIC;
CREATE TABLE one.dummy (id int, name text);
CREATE TABLE two.dummy (id int, name text);
ALTER TABLE one.dummy OWNER TO owner;
ALTER TABLE two.dummy OWNER TO owner;
INSERT INTO one.dummy VALUES (1, 'as it was'), (2, 'as it was');
INSERT INTO two.dummy VALUES (1, 'as it was'), (2, 'as it was');
CREATE FUNCTION public.rename_dummy(id int, name text) RETURNS bigint LANGUAGE plpgsql AS $$ DECLARE n bigint; BEGIN
    UPDATE dummy SET name = rename_dummy.name WHERE dummy.id = rename_dummy.id; GET DIAGNOSTICS n = ROW_COUNT; RETURN n; END $$;
CREATE FUNCTION public.note(what text) RETURNS void LANGUAGE sql AS $$ INSERT INTO public.log (what) VALUES (current_schema || ' ' || note.what) $$;
-- Calls itself in the other tenant, as a task that is run in the middle of it.
CREATE FUNCTION public.nesting(depth int) RETURNS text LANGUAGE plpgsql AS $$ DECLARE other text := CASE current_schema WHEN 'one' THEN 'two' ELSE 'one' END; inner_result text; BEGIN
    IF depth > 0 THEN inner_result := tq_result(tq_async('nesting', jsonb_build_array(depth - 1), sync => true, tenant => other), tenant => other) #>> '{}'; END IF;
    RETURN concat_ws(' ', (tq_current()).tenant, inner_result, current_schema || ':' || (tq_current()).tenant); END $$;
CREATE FUNCTION public.hopping(depth int) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
    PERFORM note('hop ' || depth);
    IF depth > 0 THEN PERFORM tq_async('hopping', jsonb_build_array(depth - 1), tenant => CASE current_schema WHEN 'one' THEN 'two' ELSE 'one' END); END IF; END $$;
CREATE FUNCTION public.failing() RETURNS text LANGUAGE plpgsql AS $$ BEGIN
    IF (tq_current()).attempt < 3 THEN RAISE EXCEPTION 'in %', current_schema; END IF; RETURN current_schema; END $$;
CREATE FUNCTION public.echo(a int, b text DEFAULT 'b', schema_name text DEFAULT 'nobody''s') RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_build_array(a, b, schema_name) $$;
CREATE FUNCTION public.tick() RETURNS void LANGUAGE sql AS $$ $$;
SELECT bool_and(tq_register(f, 'public.' || f, shared => true)) FROM unnest('{rename_dummy,note,nesting,hopping,failing,echo,tick}'::text[]) f;

-- In its own schema
SET ROLE owner;
SET search_path = one, public;
SELECT tq_async('rename_dummy', '[1, "renamed"]') AS id \gset
INSERT INTO test_cases.cases (family, label, expected, actual) VALUES ('schemas', 'one row of one tenant is renamed', '1', tq_result(:'id', wait => '20 s')::text);
INSERT INTO test_cases.cases (family, label, expected, actual) VALUES
    ('schemas', 'this one', 'renamed, as it was', (SELECT string_agg(name, ', ' ORDER BY id) FROM one.dummy)),
    ('schemas', 'and none of the other tenant', 'as it was, as it was', (SELECT string_agg(name, ', ' ORDER BY id) FROM two.dummy));
SELECT tq_async('rename_dummy', '{"id": 2, "name": "renamed too"}', tenant => 'two') AS id \gset
INSERT INTO test_cases.cases (family, label, expected, actual) VALUES ('schemas', 'from another schema', '1', tq_result(:'id', wait => '20 s', tenant => 'two')::text);
INSERT INTO test_cases.cases (family, label, expected, actual) VALUES
    ('schemas', 'in the one that was named', 'as it was, renamed too', (SELECT string_agg(name, ', ' ORDER BY id) FROM two.dummy)),
    ('schemas', 'and not in the one it came from', 'renamed, as it was', (SELECT string_agg(name, ', ' ORDER BY id) FROM one.dummy));
-- public is a tenant like any other, once somebody attaches it; the table isn't there, and nobody else's is taken.
SET search_path = public;
INSERT INTO test_cases.cases (family, label, expected, actual) VALUES ('schemas', 'public is no tenant by itself', '55000', test.answer($$tq_async('rename_dummy', '[1, "in public"]')$$));
RESET ROLE;
ALTER SCHEMA public OWNER TO owner;
SELECT tq_attach('public');
SET ROLE owner;
SELECT tq_async('rename_dummy', '[1, "in public"]', max_attempts => 1) AS id \gset
SELECT state FROM tq_fetch(:'id', wait => '20 s');
INSERT INTO test_cases.cases (family, label, expected, actual) VALUES
    ('schemas', 'where the table is missing it fails', 'failed 42P01', (SELECT concat_ws(' ', state, error ->> 'sqlstate') FROM tq_fetch(:'id'))),
    ('schemas', 'and nothing is renamed', '0', (SELECT count(*) FROM (SELECT * FROM one.dummy UNION ALL SELECT * FROM two.dummy) d WHERE name = 'in public')::text);
RESET ROLE;
SELECT tq_detach('public', drop_data => true);
SET ROLE owner;
-- Whose it is when nobody says: nobody's.
CREATE FUNCTION public.from_path(path text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config('search_path', path, true); RETURN public.tq_tenant(); EXCEPTION WHEN OTHERS THEN RETURN SQLSTATE; END $$;
INSERT INTO test_cases.cases (family, label, expected, actual) SELECT 'schemas', 'search_path ' || path, expected, from_path(path) FROM (VALUES ('one, public', 'one'), ('"$user", one', 'one'), ('pg_catalog, two', 'two'), ('', '3F000'), ('"$user"', '3F000'), ('nobody, one', '3F000'), ('public, one', '55000'), ('test, one', '55000'), ('theirs, one', '42501')) AS v (path, expected);

-- Nested: each is in its own schema, and back in it when the inner one has ended.
SET search_path = one, public;
INSERT INTO test_cases.cases (family, label, expected, actual) VALUES ('nesting', 'one, two, one, in one session', '"one two one one:one two:two one:one"', tq_result(tq_async('nesting', '[2]', sync => true))::text);
INSERT INTO test_cases.cases (family, label, expected, actual) VALUES ('nesting', 'the session is where it was', 'one, public', current_setting('search_path'));
BEGIN;
SELECT tq_async('nesting', '[3]', tenant => 'two') AS id \gset
SELECT state FROM tq_drain(tenant => 'two');
INSERT INTO test_cases.cases (family, label, expected, actual) VALUES ('nesting', 'two, one, two, one, drained', '"two one two one one:one two:two one:one two:two"', tq_result(:'id', tenant => 'two')::text), ('nesting', 'the session is where it was then', 'one, public', current_setting('search_path'));
ROLLBACK;
SELECT tq_async('hopping', '[4]') IS NULL;
SELECT test.await('(SELECT count(*) = 5 FROM public.log)');
INSERT INTO test_cases.cases (family, label, expected, actual) VALUES ('nesting', 'from task to task', 'one hop 4, two hop 3, one hop 2, two hop 1, one hop 0', (SELECT string_agg(what, ', ' ORDER BY n) FROM public.log));
SELECT tq_async('nesting', '[2]') AS id \gset
INSERT INTO test_cases.cases (family, label, expected, actual) VALUES ('nesting', 'one, two, one, by a worker', '"one two one one:one two:two one:one"', tq_result(:'id', wait => '20 s')::text);
-- Retried
SELECT tq_async('failing', tenant => 'two', retry => tq_backoff('fixed', '0')) AS id \gset
INSERT INTO test_cases.cases (family, label, expected, actual) VALUES ('nesting', 'a retry is where the first attempt was', '"two"', tq_result(:'id', wait => '20 s', tenant => 'two')::text), ('nesting', 'each of them', 'in two, in two', (SELECT string_agg(message, ', ' ORDER BY attempt) FROM tq_attempts(:'id', tenant => 'two')));

-- Arguments come as they are: no name of a schema among them, and none taken away.
INSERT INTO test_cases.cases (family, label, expected, actual) SELECT 'arguments', label, expected, tq_result(tq_async('echo', args::jsonb, sync => true))::text FROM (VALUES
    ('by name', '[1, "x", "nobody''s"]', '{"a": 1, "b": "x"}'), ('by position', '[1, "x", "nobody''s"]', '[1, "x"]'), ('one that is called schema_name', '[1, "b", "mine"]', '{"a": 1, "schema_name": "mine"}')) AS v (label, expected, args);
INSERT INTO test_cases.cases (family, label, expected, actual) VALUES ('arguments', 'one too many', '42P02', test.answer($$tq_async('echo', '{"a": 1, "tenant": "one"}')$$));

-- Schedules are each tenant's own: names, changes, counts.
SELECT count(tq_schedule('tick', 'tick', '1 second', overlap => 'allow', tenant => t)) FROM unnest('{one,two}'::text[]) t;
INSERT INTO test_cases.cases (family, label, expected, actual) VALUES ('schedules', 'a name may be there in both', '1 1', (SELECT (SELECT count(*) FROM one.tq_schedule) || ' ' || (SELECT count(*) FROM two.tq_schedule))), ('schedules', 'once in each', '42710', test.answer($$tq_schedule('tick', 'tick', '1 second', tenant => 'two')$$));
SELECT test.await('(SELECT min(run_count) >= 1 FROM (TABLE one.tq_schedule UNION ALL TABLE two.tq_schedule) s)');
-- Changed in one, without anybody being restarted
SELECT tq_alter_schedule('tick', rule => '@yearly', tenant => 'two');
CREATE TABLE counted AS SELECT o.run_count AS one, t.run_count AS two FROM one.tq_schedule o, two.tq_schedule t;
SELECT test.await('(SELECT o.run_count >= c.one + 2 FROM one.tq_schedule o, one.counted c)');
SELECT tq_unschedule('tick');
INSERT INTO test_cases.cases (family, label, expected, actual) VALUES ('schedules', 'the changed one has stopped, the other has not', 'true', (SELECT t.run_count = c.two FROM two.tq_schedule t, counted c)::text), ('schedules', 'a task for each count', 'true', ((SELECT run_count FROM two.tq_schedule) = (SELECT count(*) FROM (SELECT id FROM two.tq_task WHERE schedule = 'tick' UNION ALL SELECT id FROM two.tq_result WHERE schedule = 'tick') x))::text), ('schedules', 'removed in one only', '0 1', (SELECT (SELECT count(*) FROM one.tq_schedule) || ' ' || (SELECT count(*) FROM two.tq_schedule)));
SELECT tq_unschedule('tick', tenant => 'two');

-- A schema that goes, with tasks waiting in it: they go with it, and the others' work goes on.
RESET ROLE;
CREATE SCHEMA gone AUTHORIZATION owner;
SELECT tq_attach('gone');
SET ROLE owner;
SELECT tq_pause('gone');
SELECT count(tq_async('tick', tenant => 'gone')) FROM generate_series(1, 5);
SELECT tq_schedule('tick', 'tick', '1 second', tenant => 'gone') IS NULL;
RESET ROLE;
SET client_min_messages = warning;
DROP SCHEMA gone CASCADE;
RESET client_min_messages;
SET ROLE owner;
SELECT tq_async('echo', '[7]') AS id \gset
INSERT INTO test_cases.cases (family, label, expected, actual) VALUES ('gone', 'another tenant''s task runs', '[7, "b", "nobody''s"]', tq_result(:'id', wait => '20 s')::text), ('gone', 'it is no tenant any more', '0', (SELECT count(*) FROM tq_tenants WHERE tenant = 'gone')::text), ('gone', 'nor a problem', '0', (SELECT count(*) FROM tq_problems)::text), ('gone', 'nothing can be enqueued there', '3F000', test.answer($$tq_async('tick', tenant => 'gone')$$)), ('gone', 'and nothing lands elsewhere', '0', (SELECT count(*) FROM pg_class WHERE relname = 'tq_task' AND relnamespace = 'public'::regnamespace)::text);

-- Names that can't be tenants
INSERT INTO test_cases.cases (family, label, expected, actual) SELECT 'names', label, expected, test.answer(format('tq_attach(%L)', name)) FROM (VALUES ('the catalog', '42939', 'pg_catalog'), ('the information schema', '42939', 'information_schema'), ('a temporary one', '42939', 'pg_toast'), ('ours', '42939', 'tenant_q'), ('none', '3F000', ''), ('one that isn''t there', '3F000', 'pg_x')) AS v (label, expected, name);
RESET ROLE;
-- Two that differ in case only can be tenants, but somebody will mistake one for the other.
CREATE SCHEMA "One" AUTHORIZATION owner;
SELECT tq_attach('One');
SELECT tq_async('tick', tenant => 'One') AS id \gset
INSERT INTO test_cases.cases (family, label, expected, actual) VALUES ('names', 'in another case it is another one', 'done 0', (SELECT (SELECT state FROM tq_fetch(:'id', wait => '20 s', tenant => 'One')) || ' ' || (SELECT count(*) FROM tq_fetch(:'id', tenant => 'one'))));
SELECT tq_detach('One', drop_data => true);

-- A rival: every call that names a tenant, for a tenant of somebody else. USAGE on the schema doesn't help.
SET ROLE owner;
SELECT tq_register('own', 'public.tick');
SELECT tq_async('echo', '[1]', name => 'secret', group_id => 'secret', queue => 'secret') AS done, tq_async('echo', '[1]', name => 'waiting', group_id => 'secret', delay => '1 hour') AS waiting, tq_schedule('secret', 'tick', '@yearly') AS schedule \gset
SELECT tq_result(:'done', wait => '20 s');
GRANT USAGE ON SCHEMA one TO rival;
CREATE TABLE public.calls (n serial, call text);
INSERT INTO calls (call) SELECT format(call, :'done', :'waiting') FROM unnest(ARRAY[
    $$tq_result('%1$s', tenant => 'one')$$, $$SELECT count(*) FROM tq_fetch('%1$s', tenant => 'one')$$, $$tq_find('secret', tenant => 'one')$$, $$SELECT count(*) FROM tq_attempts('%1$s', tenant => 'one')$$, $$SELECT count(*) FROM tq_why('%2$s', tenant => 'one')$$, $$tq_iter_result('%1$s', tenant => 'one')$$,
    $$tq_cancel('%2$s', tenant => 'one')$$, $$tq_requeue('%1$s', tenant => 'one')$$, $$tq_update('%2$s', priority => 1, tenant => 'one')$$, $$tq_delete('%1$s', tenant => 'one')$$, $$tq_delete_group('secret', tenant => 'one')$$, $$tq_purge('0', tenant => 'one')$$,
    $$tq_result_group('secret', tenant => 'one')$$, $$SELECT count(*) FROM tq_fetch_group('secret', tenant => 'one')$$, $$tq_count_group('secret', tenant => 'one')$$, $$tq_queue_size(tenant => 'one')$$, $$tq_queue_size('secret', tenant => 'one')$$,
    $$tq_async('tick', tenant => 'one')$$, $$SELECT count(*) FROM tq_async_many('[{"handler": "tick"}]', tenant => 'one')$$, $$tq_async_iter('echo', '{1}', tenant => 'one')$$, $$tq_group('["tick"]', tenant => 'one')$$, $$tq_chain('["tick"]', tenant => 'one')$$,
    $$tq_schedule('s', 'tick', '@daily', tenant => 'one')$$, $$tq_alter_schedule('secret', description => 'x', tenant => 'one')$$, $$tq_unschedule('secret', tenant => 'one')$$, $$tq_fire('secret', tenant => 'one')$$, $$SELECT count(*) FROM tq_upcoming('2100-01-01', tenant => 'one')$$, $$tq_export(tenant => 'one')$$, $$tq_import('[]', tenant => 'one')$$,
    $$tq_on('done', 'tick', tenant => 'one')$$, $$tq_off('done', 'tick', tenant => 'one')$$, $$tq_listen_table('one.dummy', 'tick', tenant => 'one')$$, $$tq_unlisten_table('one.dummy', 'tick', tenant => 'one')$$,
    $$tq_register('mine', 'public.tick', tenant => 'one')$$, $$tq_unregister('tick', tenant => 'one')$$, $$tq_register_many('{"handlers": [{"handler": "public.tick"}]}', tenant => 'one')$$, $$tq_set_queue('q', max_running => 1, tenant => 'one')$$, $$tq_set_limit('l', max_running => 1, tenant => 'one')$$, $$tq_set_tenant('one', ready => false)$$, $$tq_set_quota('one', max_running => 1)$$,
    $$SELECT tasks FROM tq_cancel_all(everything => true, tenant => 'one')$$, $$SELECT tasks FROM tq_delete_all(everything => true, tenant => 'one')$$, $$SELECT tasks FROM tq_requeue_all(everything => true, tenant => 'one')$$,
    $$SELECT tasks FROM tq_update_all(everything => true, set_priority => 1, tenant => 'one')$$,
    $$tq_pause('one')$$, $$tq_resume('one')$$, $$tq_attach('one')$$, $$tq_detach('one', drop_data => true)$$, $$tq_grant('rival', '{read}', tenant => 'one')$$, $$tq_revoke('owner', '{read}', tenant => 'one')$$, $$SELECT count(*) FROM tq_drain(tenant => 'one')$$, $$SELECT count(*) FROM tq_drain_take(tenant => 'one')$$]) WITH ORDINALITY AS x (call, n) ORDER BY n;
GRANT SELECT ON calls TO rival;
SET ROLE rival;
SET search_path = theirs, public;
INSERT INTO test_cases.cases (family, label, expected, actual) SELECT 'rivals', substring(call FROM 'tq_\w+'), '42501', test.answer(call) FROM calls ORDER BY n;
-- No call has been left out: functions with a parameter of that name, restricted ones and procedures aside.
INSERT INTO test_cases.cases (family, label, expected, actual) SELECT 'rivals', 'left out', NULL, string_agg(proname, ' ') FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND proname LIKE 'tq\_%' AND prokind = 'f' AND 'tenant' = ANY (proargnames[1:pronargs]) AND NOT EXISTS (SELECT FROM calls WHERE substring(call FROM 'tq_\w+') = proname);
-- The ids of somebody else's tasks are as good as none.
SET client_min_messages = warning;
INSERT INTO test_cases.cases (family, label, expected, actual) SELECT 'rivals', 'its own tenant, another''s id: ' || substring(call FROM 'tq_\w+'), expected, test.answer(format(call, :'done', :'waiting')) FROM (VALUES
    ($$tq_result('%1$s')$$, 'P0002'), ($$SELECT count(*) FROM tq_fetch('%1$s')$$, '0'), ($$tq_find('secret')$$, NULL), ($$tq_cancel('%2$s')$$, 'false'), ($$tq_requeue('%1$s')$$, 'false'), ($$tq_update('%2$s', priority => 1)$$, 'false'), ($$tq_delete('%1$s')$$, 'false'), ($$tq_count_group('secret')$$, '0'), ($$tq_result_group('secret')$$, NULL), ($$tq_delete_group('secret')$$, '0'), ($$tq_queue_size()$$, '0'), ($$tq_purge('0')$$, '0'),
    ($$tq_async('tick', depends_on => '{%2$s}')$$, 'P0002'), ($$SELECT count(*) FROM tq_tasks$$, '0'), ($$SELECT count(*) FROM tq_results$$, '0'), ($$SELECT count(*) FROM tq_running$$, '0'), ($$SELECT count(*) FROM tq_failures$$, '0'), ($$SELECT string_agg(tenant, ' ') FROM tq_tenants$$, 'theirs'), ($$SELECT count(*) FROM tq_stats$$, '0')) AS v (call, expected);
RESET client_min_messages;
SET search_path = one, public;
INSERT INTO test_cases.cases (family, label, expected, actual) SELECT 'rivals', 'the other one first on the path: ' || v, '42501', test.answer('SELECT count(*) FROM ' || v) FROM unnest('{tq_tasks,tq_results,tq_queues,tq_schedules,one.tq_task,one.tq_result,one.tq_schedule}'::text[]) v;
INSERT INTO test_cases.cases (family, label, expected, actual) VALUES ('rivals', 'what handlers there are is seen by whoever may use the schema', '7 1', (SELECT count(*) FILTER (WHERE shared) || ' ' || count(*) FILTER (WHERE NOT shared) FROM tq_handlers));
RESET ROLE;
INSERT INTO test_cases.cases (family, label, expected, actual) VALUES ('rivals', 'nothing has changed', '1 1 1', (SELECT concat_ws(' ', (SELECT count(*) FROM one.tq_task), (SELECT count(*) FROM one.tq_result WHERE group_id = 'secret'), (SELECT count(*) FROM one.tq_schedule))));

-- Differences: none. And how many cases there are.
SELECT family, label, expected, actual FROM test_cases.cases WHERE actual IS DISTINCT FROM expected ORDER BY n;
SELECT family, count(*) FROM test_cases.cases GROUP BY family ORDER BY min(n);
