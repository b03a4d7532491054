-- Declarations, as processes of an application make them whenever they start: again they change nothing, and write nothing (but that
-- ready => true asks for another look at what all tenants have).
\i sql/setup.psql
CREATE ROLE acme LOGIN;
CREATE SCHEMA acme AUTHORIZATION acme;
CREATE SCHEMA globex AUTHORIZATION acme;
CREATE FUNCTION acme.greet(who text) RETURNS text LANGUAGE sql AS $$ SELECT 'hello ' || who $$;
ALTER FUNCTION acme.greet(text) OWNER TO acme;
CREATE TABLE acme.orders (id bigint PRIMARY KEY, total numeric);
ALTER TABLE acme.orders OWNER TO acme;
CREATE FUNCTION acme.listen(e jsonb) RETURNS void LANGUAGE sql AS '';
ALTER FUNCTION acme.listen(jsonb) OWNER TO acme;
CREATE ROLE clerk;

-- Each of them, and whether the second time takes a transaction id.
CREATE TABLE public.declaration (n int PRIMARY KEY, sql text);
INSERT INTO public.declaration VALUES
    (1, $$SELECT tq_attach('acme')$$),
    (2, $$SELECT tq_attach('globex')$$),
    (3, $$SELECT tq_register('greet', queue => 'mail', priority => 3, timeout => '1 month', max_attempts => 3, retry => tq_backoff('fixed', '1 minute'), expires => '1 day', max_running => 2, rate => '10/m', settings => '{"work_mem": "8MB"}', save => true, result_ttl => '1 hour', aliases => '{hello}', tenant => 'acme')$$),
    (4, $$SELECT tq_register('listen', tenant => 'acme')$$),
    (5, $$SELECT tq_register('lower', 'pg_catalog.lower(text)', shared => true)$$),
    (6, $$SELECT tq_set_tenant('acme', timezone => 'Europe/Berlin', shared_schemas => '{public}', settings => '{"work_mem": "8MB"}', save_limit => 10, result_ttl => '1 hour', reset => '{save_limit_per}')$$),
    (7, $$SELECT tq_set_tenant('acme', reset => '{failure_ttl}')$$),
    (8, $$SELECT tq_set_quota('acme', max_running => 5, weight => 2, rate => '100/s', reset => '{fan_out,max_queued}')$$),
    (9, $$SELECT tq_set_queue('mail', max_running => 2, rate => '10/m', timeout => '1 month', pick => 'round_robin', reset => '{priority}', tenant => 'acme')$$),
    (10, $$SELECT tq_set_queue('mail', tenant => 'acme')$$),
    (11, $$SELECT tq_set_limit('api', max_running => 2, rate => '10/m', tenant => 'acme')$$),
    (12, $$SELECT tq_on('failed', 'listen', tenant => 'acme')$$),
    (13, $$SELECT tq_listen_table('acme.orders', 'listen', events => '{update,insert}', only_if => 'NEW.total > 100', task => '{"queue": "mail"}', tenant => 'acme')$$),
    (14, $$SELECT tq_grant('clerk', '{enqueue,read,operate,work}', tenant => 'acme')$$),
    (15, $$SELECT tq_revoke('clerk', '{enqueue,work}', tenant => 'globex')$$),
    (16, $$SELECT tq_schedule('nightly', 'greet', '0 3 * * *', args => '["a"]', tags => '{x}', on_conflict => 'replace', tenant => 'acme')$$),
    (17, $$SELECT tq_schedule_all('all', 'lower', '0 3 * * *', args => '["a"]', on_conflict => 'replace')$$),
    (18, $$SELECT tq_pause('acme', queue => 'mail')$$),
    (19, $$SELECT tq_unregister('nobody', tenant => 'acme')$$),
    (20, $$SELECT tq_off('done', 'listen', tenant => 'acme')$$),
    (21, $$SELECT tq_unlisten_table('acme.orders', 'nobody', tenant => 'acme')$$);

CREATE PROCEDURE public.declare_all(INOUT written text)
LANGUAGE plpgsql AS $$
DECLARE
    d record;
BEGIN
    written := '';
    FOR d IN SELECT * FROM public.declaration ORDER BY n LOOP
        COMMIT;
        EXECUTE d.sql;
        IF pg_current_xact_id_if_assigned() IS NOT NULL THEN
            written := concat_ws(' ', nullif(written, ''), d.n::text);
        END IF;
    END LOOP;
END $$;
SET client_min_messages = error;
CALL public.declare_all('');
CALL public.declare_all('');

-- By their owner too.
GRANT SELECT ON public.declaration TO acme;
SET ROLE acme;
SELECT tq_register('greet', queue => 'mail', priority => 3, timeout => '1 month', max_attempts => 3, retry => tq_backoff('fixed', '1 minute'), expires => '1 day', max_running => 2, rate => '10/m', settings => '{"work_mem": "8MB"}', save => true, result_ttl => '1 hour', aliases => '{hello}', tenant => 'acme');
RESET ROLE;

-- What is said differently is written.
SELECT tq_set_queue('mail', max_running => 3, tenant => 'acme');
SELECT tq_set_queue('mail', reset => '{rate,timeout}', tenant => 'acme');
SELECT name, max_running, rate, timeout, pick FROM tenant_q.queue;
SELECT tq_register('greet', timeout => '2 seconds', result_ttl => '30 days', tenant => 'acme');
SELECT tq_register('greet', timeout => '2 seconds', result_ttl => '1 month', tenant => 'acme');
SELECT name, queue, timeout, result_ttl, aliases FROM tenant_q.handler WHERE name = 'greet';
SELECT tq_listen_table('acme.orders', 'listen', events => '{insert}', tenant => 'acme');
SELECT tgname ~ '^tq_listen_[0-9a-f]{16}_insert$' AS named FROM pg_trigger WHERE tgrelid = 'acme.orders'::regclass AND NOT tgisinternal;
SELECT events, only_if FROM tenant_q.table_listener;
-- A trigger that is gone or disabled comes back.
ALTER TABLE acme.orders DISABLE TRIGGER USER;
SELECT tq_listen_table('acme.orders', 'listen', events => '{insert}', tenant => 'acme');
SELECT tgenabled FROM pg_trigger WHERE tgrelid = 'acme.orders'::regclass AND NOT tgisinternal;

-- Within one statement what it has done itself is known.
SELECT tq_register('greet', queue => 'a', tenant => 'acme'), tq_unregister('greet', tenant => 'acme'), tq_register('greet', queue => 'a', tenant => 'acme');
SELECT tq_set_limit('api', max_running => 7, tenant => 'acme'), tq_set_limit('api', max_running => 2, tenant => 'acme');
SELECT max_running FROM tenant_q.limit_key;

-- A role that is no owner's is told so, also where nothing would change.
SET ROLE clerk;
SELECT tq_listen_table('acme.orders', 'listen', events => '{insert}', tenant => 'acme');
SELECT tq_register('greet', queue => 'a', tenant => 'acme');
SELECT tq_grant('clerk', '{enqueue}', tenant => 'acme');
RESET ROLE;
