-- Schedules of all tenants in one view: when each last ended well, who may see them, and what is kept when results go.
\i sql/setup.psql
SET client_min_messages = warning;
CREATE ROLE owner LOGIN;
CREATE ROLE rival LOGIN;
CREATE ROLE watcher IN ROLE pg_monitor;
CREATE SCHEMA a AUTHORIZATION owner;
CREATE SCHEMA b AUTHORIZATION owner;
CREATE SCHEMA c AUTHORIZATION rival;
SELECT count(tq_attach(n)) FROM unnest('{a,b,c}'::text[]) n;
CREATE FUNCTION public.work(what text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM public.broken) THEN
        PERFORM tq_fail('broken');
    END IF;
    RETURN what;
END $$;
CREATE TABLE public.broken (yes boolean);
GRANT SELECT ON public.broken TO PUBLIC;
SELECT tq_register('work', 'public.work(text)', shared => true);
RESET client_min_messages;
SELECT count(tq_schedule('nightly', 'work', '0 3 * * *', '["secret"]', tenant => n)) FROM unnest('{a,b,c}'::text[]) n;
SELECT tenant, name, handler, rule, enabled, next_run > now() AS planned, last_run, last_status, last_success, last_failure, run_count, fail_count, problem, of_all FROM tq_all_schedules ORDER BY tenant;
-- Its work is done, then fails.
SELECT tq_alter_schedule('nightly', next_run => now(), tenant => n) FROM unnest('{a,b}'::text[]) n;
SELECT test.await('(SELECT count(*) = 2 FROM tq_all_schedules WHERE last_success > now() - interval ''1 minute'')');
SELECT tenant, last_status, last_success >= last_run AS success, last_failure, run_count FROM tq_all_schedules ORDER BY tenant;
CREATE TABLE before AS SELECT tenant, last_success FROM tq_all_schedules;
GRANT SELECT ON before TO watcher;
INSERT INTO broken VALUES (true);
SELECT tq_alter_schedule('nightly', next_run => now(), tenant => 'a');
SELECT test.await('(SELECT count(*) = 1 FROM tq_all_schedules WHERE last_failure > last_success)');
SELECT tenant, last_status, last_success = (SELECT b.last_success FROM before b WHERE b.tenant = s.tenant) AS as_before, last_failure > last_success AS failed, fail_count FROM tq_all_schedules s ORDER BY tenant;
-- The same when the results are gone, by whatever way.
SELECT tq_purge('0', tenant => 'a') > 0 AS purged;
SELECT tq_delete((SELECT id FROM b.tq_result), 'b');
SELECT count(*) FROM (SELECT FROM a.tq_result UNION ALL SELECT FROM b.tq_result) r;
SELECT tenant, last_status, last_success = (SELECT b.last_success FROM before b WHERE b.tenant = s.tenant) AS as_before, last_failure > last_success AS failed, fail_count FROM tq_all_schedules s ORDER BY tenant;
-- And when none is kept from the start.
DELETE FROM broken;
SELECT tq_set_tenant('b', save_limit => -1);
SELECT tq_alter_schedule('nightly', next_run => now(), tenant => 'b');
SELECT test.await('(SELECT s.last_success > b.last_success FROM tq_all_schedules s JOIN before b USING (tenant) WHERE tenant = ''b'')');
SELECT count(*) FROM b.tq_result;
-- Retention takes the results, and the last success stays known.
SET client_min_messages = warning;
ALTER SYSTEM SET tenant_q.retention_every = 1;
SELECT pg_reload_conf();
SELECT tq_set_tenant('a', save_limit => 1, result_ttl => '0');
SELECT tq_alter_schedule('nightly', next_run => now(), tenant => 'a');
SELECT test.await('(SELECT s.last_success > b.last_success FROM tq_all_schedules s JOIN before b USING (tenant) WHERE tenant = ''a'')');
DELETE FROM before;
INSERT INTO before SELECT tenant, last_success FROM tq_all_schedules;
SELECT count(tq_async('work', '["x"]', tenant => 'a')) FROM generate_series(1, 400);
SELECT test.await('NOT EXISTS (SELECT FROM a.tq_result WHERE schedule IS NOT NULL)');
SELECT tenant, last_status, last_success = (SELECT b.last_success FROM before b WHERE b.tenant = s.tenant) AS as_before FROM tq_all_schedules s WHERE tenant = 'a';
ALTER SYSTEM RESET tenant_q.retention_every;
SELECT pg_reload_conf();
RESET client_min_messages;
-- Replaced, it is the same schedule.
SELECT tq_schedule('nightly', 'work', '0 4 * * *', '["secret"]', on_conflict => 'replace', tenant => 'a') IS NOT NULL AS made;
SELECT tenant, last_status, last_success = (SELECT b.last_success FROM before b WHERE b.tenant = s.tenant) AS as_before FROM tq_all_schedules s WHERE tenant = 'a';

-- Who sees what: members of the owner their own, pg_monitor all, without arguments.
UPDATE c.tq_schedule SET rule = 'often';
SET ROLE rival;
SELECT tenant, name, problem FROM tq_all_schedules;
SET ROLE owner;
SELECT tenant, name, problem FROM tq_all_schedules ORDER BY 1;
SET ROLE watcher;
SELECT tenant, name, problem FROM tq_all_schedules ORDER BY 1;
SELECT count(*) FROM tq_all_schedules s WHERE s::text LIKE '%secret%';
RESET ROLE;
CREATE ROLE stranger;
SET ROLE stranger;
SELECT count(*) FROM tq_all_schedules;
RESET ROLE;
-- One that can't be read has a line that says so; the others are there.
ALTER TABLE b.tq_schedule ALTER name TYPE varchar;
SELECT tenant, name, problem FROM tq_all_schedules ORDER BY 1;
ALTER TABLE b.tq_schedule ALTER name TYPE text;
-- However many: of a tenant that has thousands, in a transaction that keeps no lock on any of them.
INSERT INTO c.tq_schedule SELECT s.* FROM c.tq_schedule d, generate_series(1, 1000) n, jsonb_populate_record(d, jsonb_build_object('id', gen_random_uuid(), 'name', 'n' || n)) s;
BEGIN;
SELECT tenant, count(*), count(DISTINCT name) FROM tq_all_schedules GROUP BY 1 ORDER BY 1;
SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND relation IN (SELECT oid FROM pg_class WHERE relnamespace IN (SELECT oid FROM pg_namespace WHERE nspname IN ('a', 'b', 'c')));
COMMIT;
