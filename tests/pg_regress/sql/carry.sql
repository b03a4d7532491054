-- Everything that is said of a tenant, carried to another one.
\i sql/setup.psql
CREATE ROLE acme LOGIN;
CREATE ROLE globex LOGIN;
CREATE ROLE worker LOGIN;
CREATE ROLE clerk LOGIN;
GRANT worker TO acme, globex;
CREATE SCHEMA acme AUTHORIZATION acme;
CREATE SCHEMA globex AUTHORIZATION globex;
SELECT tq_attach('acme'), tq_attach('globex');
DO $$ BEGIN
    FOR i IN 1..2 LOOP
        EXECUTE format('SET ROLE %I', (ARRAY['acme', 'globex'])[i]);
        EXECUTE format('SET search_path = %I, public', (ARRAY['acme', 'globex'])[i]);
        CREATE FUNCTION f(a text) RETURNS text LANGUAGE sql AS 'SELECT a';
        CREATE FUNCTION heard(e jsonb) RETURNS void LANGUAGE sql AS '';
        CREATE TABLE orders (id int);
        RESET ROLE;
    END LOOP;
END $$;
GRANT USAGE ON SCHEMA acme, globex TO worker;
SET search_path = acme, public;
SELECT tq_set_tenant(timezone => 'Europe/Berlin', shared_schemas => '{public}', settings => '{"work_mem": "8MB"}', save_limit => 7, save_limit_per => 'name', result_ttl => '2 days 3 hours', failure_ttl => '1 month'),
    tq_set_quota('acme', max_running => 3, rate => '100/m window', fan_out => false),
    tq_register('f', queue => 'mail', priority => -3, timeout => '1 day 2 hours', max_attempts => 7, retry => tq_backoff('celery', '3 seconds', cap => '1 hour', never_on => '{22023}'),
        expires => '1 month 36 hours', max_running => 4, rate => '10/2m', run_as => 'worker', settings => '{"work_mem": "16MB"}', save => false, result_ttl => '90 minutes', aliases => '{"f, too",ef}'),
    tq_register('heard'),
    tq_set_queue('mail', max_running => 2, rate => '5/s window', priority => 4, timeout => '5 minutes', max_attempts => 2, pick => 'round_robin'),
    tq_set_limit('smtp', max_running => 3, rate => '60/m', algorithm => 'sliding'),
    tq_on('failed', 'heard') IS NOT NULL AS on, tq_on('done', 'heard', for_handler => 'f') IS NOT NULL AS on,
    tq_listen_table('acme.orders', 'heard', events => '{insert,update}', only_if => 'NEW.id > 3', task => '{"queue": "mail", "priority": 2}'),
    tq_schedule('nightly', 'f', '0 2 * * *', args => '["a"]', tags => '{x}') IS NOT NULL AS schedule,
    tq_schedule('later', 'f', 'after', args => '["b"]', after => '{nightly}') IS NOT NULL AS schedule,
    tq_pause(queue => 'mail', duration => '2 hours'), tq_pause(handler => 'f');
SELECT jsonb_pretty(jsonb_set(tq_export(everything => true), '{tq_pause,1,until}', '"in two hours"')) AS everything;
-- Who may: the owner; of quotas an administrator.
SELECT tq_grant('clerk', '{enqueue,read,operate,work}', tenant => 'acme');
SET ROLE clerk;
SELECT jsonb_array_length(tq_export());
SELECT tq_export(everything => true);
RESET ROLE;
SELECT replace(tq_export(everything => true)::text, 'acme.', 'globex.')::jsonb AS doc \gset
SET ROLE globex;
SELECT tq_import(:'doc', tenant => 'globex');
SELECT tq_import(:'doc'::jsonb - 'tq_set_quota', tenant => 'globex');
-- All or none, and a second time as one says.
SELECT tq_import(:'doc'::jsonb - 'tq_set_quota', tenant => 'globex');
SELECT tq_import(:'doc'::jsonb - 'tq_set_quota', on_conflict => 'replace', tenant => 'globex') > 0 AS replaced;
RESET ROLE;
SELECT tq_import(:'doc', on_conflict => 'skip', tenant => 'globex') > 0 AS skipped;
-- The same is there as here.
CREATE FUNCTION test.is_so(tenant text) RETURNS jsonb LANGUAGE sql AS $$ SELECT replace((tq_export(everything => true, tenant => tenant) - 'tq_pause')::text, tenant || '.', 'it.')::jsonb $$;
SELECT test.is_so('acme') = test.is_so('globex') AS the_same;
SELECT queue, handler, until = 'infinity' AS for_good, until BETWEEN now() + interval '1 hour 59 minutes' AND now() + interval '2 hours' AS as_long FROM tenant_q.pause WHERE tenant = 'globex' ORDER BY 1;
INSERT INTO globex.orders VALUES (2), (5);
SELECT handler, queue, priority FROM globex.tq_task;
-- Not ready is carried; ready isn't.
SELECT tq_set_tenant('acme', ready => false), tq_set_tenant('globex', ready => false);
SELECT tq_export(everything => true) #> '{tq_set_tenant,0,ready}' AS ready;
-- What still waits is said with times.
SET client_min_messages = warning;
SELECT tq_set_tenant('acme', ready => true);
RESET client_min_messages;
SELECT tq_import(tq_export(everything => true) - '{tq_listen_table,tq_on}'::text[], on_conflict => 'skip', tenant => 'globex') > 0 AS taken;
SELECT tenant, status FROM tq_tenants ORDER BY 1;
-- What makes no sense.
SELECT test.said($$tq_import('{"tq_registre": []}')$$);
SELECT test.said($$tq_import('{"tq_detach": [{"drop_data": true}]}')$$);
SELECT test.said($$tq_import('{"tq_register": {}}')$$);
SELECT test.said($$tq_import('{"tq_register": ["f"]}')$$);
SELECT test.said($$tq_import('{"tq_register": [{"handler": "f", "pioritry": 3}]}', on_conflict => 'replace')$$);
SELECT test.said($$tq_import('{"tq_register": [{"handler": "f", "tenant": "globex"}]}', on_conflict => 'replace')$$);
SELECT test.said($$tq_import('{"tq_register": [{"handler": "f", "priority": "high"}]}', on_conflict => 'replace')$$);
SELECT test.said($$tq_import('{"tq_register": [{"handler": "f", "aliases": "{a,b}"}, {"handler": "nothing"}]}', on_conflict => 'replace')$$);
SELECT test.said($$tq_import('{"tq_pause": [{"until": "soon"}]}')$$);
SELECT test.said($$tq_import('{"tq_pause": [{"until": "2020-01-01"}], "tq_schedule": []}')$$);
SELECT test.said($$tq_import('{"tq_schedule": {}}')$$);
SELECT test.said($$tq_import('"x"')$$);
-- A function of the name that somebody else has made isn't called.
CREATE FUNCTION public.tq_set_queue(queue text, tenant text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'somebody else''s'; END $$;
SELECT tq_import('{"tq_set_queue": [{"queue": "other"}]}');
