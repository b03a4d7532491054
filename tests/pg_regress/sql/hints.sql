-- Hints lead out when they are followed as they stand.
\i sql/setup.psql
CREATE ROLE acme LOGIN;
CREATE ROLE "on-call" LOGIN;
CREATE SCHEMA acme AUTHORIZATION acme;
SELECT tq_attach('acme');
SET search_path = acme, public;
SET ROLE acme;
CREATE FUNCTION acme.send_invoice(n int DEFAULT 1) RETURNS int LANGUAGE sql AS 'SELECT n';
CREATE FUNCTION acme.close_day() RETURNS int LANGUAGE sql AS 'SELECT 1';
SELECT tq_register('send_invoice', queue => 'mail', tenant => 'acme');
SELECT tq_schedule('nightly', 'send_invoice', '0 2 * * *', tz => 'UTC', start_at => '2100-01-01 00:00+00', tenant => 'acme') IS NOT NULL AS made;
-- Nothing runs meanwhile.
SELECT tq_set_tenant('acme', ready => false);
SELECT tq_async('send_invoice', id => '01900000-0000-7000-8000-000000000001', delay => '1 day', tenant => 'acme');
RESET ROLE;

-- Whoever lacks rights is told of one call that gives them all: whether they may use the schema already or not.
GRANT USAGE ON SCHEMA test TO PUBLIC;
CREATE FUNCTION test.follow(call text, usable boolean) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    refused text;
    way text;
    answer text;
BEGIN
    REVOKE ALL ON ALL TABLES IN SCHEMA acme FROM "on-call";
    REVOKE ALL ON SCHEMA acme FROM "on-call";
    REVOKE acme FROM "on-call";
    IF usable THEN
        GRANT USAGE ON SCHEMA acme TO "on-call";
    END IF;
    SET ROLE "on-call";
    refused := test.said(call);
    way := substring(refused from '((?:SELECT|GRANT) [^;]*;)');
    RESET ROLE;
    IF refused !~ '^42501' OR way IS NULL THEN
        RETURN 'not refused: ' || refused;
    END IF;
    IF way !~ '^GRANT acme' THEN
        SET ROLE acme;
    END IF;
    EXECUTE way;
    SET ROLE "on-call";
    answer := test.said(call);
    RESET ROLE;
    RETURN way || CASE WHEN answer ~ '^42501' THEN ' leads to ' || answer ELSE '' END;
END $$;
CREATE TABLE calls (call text);
INSERT INTO calls VALUES ('tq_async(''send_invoice'', tenant => ''acme'')'), ('tq_async_many(''[]'', tenant => ''acme'')'), ('tq_group(''["send_invoice"]'', tenant => ''acme'')'),
    ('tq_chain(''["send_invoice"]'', tenant => ''acme'')'), ('tq_result(''01900000-0000-7000-8000-000000000001'', tenant => ''acme'')'),
    ('count(*) FROM tq_fetch(''01900000-0000-7000-8000-000000000001'', tenant => ''acme'')'), ('tq_find(''x'', tenant => ''acme'')'), ('tq_count_group(''x'', tenant => ''acme'')'),
    ('tq_queue_size(tenant => ''acme'')'), ('count(*) FROM tq_tasks'), ('count(*) FROM tq_results'), ('count(*) FROM tq_schedules'), ('count(*) FROM tq_queues'),
    ('count(*) FROM tq_why(''01900000-0000-7000-8000-000000000001'', tenant => ''acme'')'), ('count(*) FROM tq_upcoming(now(), tenant => ''acme'')'), ('tq_export(tenant => ''acme'')'),
    ('tq_cancel(''01900000-0000-7000-8000-00000000000f'', tenant => ''acme'')'), ('tq_delete(''01900000-0000-7000-8000-00000000000f'', tenant => ''acme'')'),
    ('tq_requeue(''01900000-0000-7000-8000-00000000000f'', tenant => ''acme'')'), ('tq_requeue(''01900000-0000-7000-8000-00000000000f'', args => ''{"n": 2}'', tenant => ''acme'')'),
    ('tq_update(''01900000-0000-7000-8000-000000000001'', priority => 1, tenant => ''acme'')'), ('tq_update(''01900000-0000-7000-8000-000000000001'', args => ''{"n": 2}'', tenant => ''acme'')'),
    ('count(*) FROM tq_requeue_all(states => ''{failed}'', tenant => ''acme'')'), ('tq_purge(''1 year'', tenant => ''acme'')'),
    ('tq_schedule(''weekly'', ''send_invoice'', ''weekly'', on_conflict => ''replace'', tenant => ''acme'')'), ('tq_alter_schedule(''nightly'', description => ''x'', tenant => ''acme'')'),
    ('tq_fire(''nightly'', tenant => ''acme'')'), ('tq_unschedule(''weekly'', tenant => ''acme'')'), ('tq_import(''[]'', tenant => ''acme'')'), ('count(*) FROM tq_drain(tenant => ''acme'')'),
    ('tq_register(''send_invoice'', tenant => ''acme'')'), ('tq_set_queue(''mail'', max_running => 2, tenant => ''acme'')'), ('tq_set_limit(''k'', max_running => 2, tenant => ''acme'')'),
    ('tq_on(''failed'', ''send_invoice'', tenant => ''acme'')'), ('tq_set_tenant(''acme'', save_limit => 250)'), ('tq_grant(''pg_monitor'', ''{read}'', tenant => ''acme'')');
SET client_min_messages = error;
SELECT call, test.follow(call, usable => false) AS way, test.follow(call, usable => true) = test.follow(call, usable => false) AS the_same FROM calls ORDER BY ctid;
SELECT test.follow('tq_tenant()', usable => false);
RESET client_min_messages;

-- Who mistypes a name isn't told to register it.
SELECT test.said('tq_async(''send_invoce'')');
SELECT test.said('tq_schedule(''x'', ''sendinvoice'', ''daily'')');
SELECT test.said('tq_on(''failed'', ''send_invoices'')');
SELECT test.said('tq_pause(handler => ''send_invoic'')');
SELECT test.said('tq_pause_all(handler => ''send_invoic'')');
SELECT test.said('tq_async(''something else'')');
-- A function that is there may be meant.
SELECT test.said('tq_async(''close_day'')') AS said, substring(test.said('tq_async(''close_day'')') from '(SELECT [^;]*;)') AS way \gset
\echo :said
:way
SELECT test.said('tq_async(''close_day'')');

-- So for schedules and queues.
SELECT test.said('tq_fire(''nightli'')');
SELECT test.said('tq_alter_schedule(''nigthly'', enabled => true)');
SELECT test.said('tq_schedule(''later'', ''send_invoice'', ''after'', after => ''{nightl}'')');
SELECT tq_pause(queue => 'mial');
SELECT tq_resume('acme', queue => 'mial');
SELECT tq_pause(queue => 'mail'), tq_resume(queue => 'mail');
SELECT tq_pause(queue => 'default'), tq_resume(queue => 'default');
SELECT tq_async('close_day', queue => 'ledger', delay => '1 day') IS NOT NULL AS enqueued;
SELECT tq_pause(queue => 'ledger'), tq_resume(queue => 'ledger');
SELECT tq_pause_all(queue => 'maill');
SELECT tq_resume_all(queue => 'maill');

-- What is asked of a task that can't be: the call that leads on.
SELECT tq_requeue('01900000-0000-7000-8000-000000000001');
SELECT tq_update('01900000-0000-7000-8000-000000000001', run_at => now(), tenant => 'acme');
SELECT tq_requeue('01900000-0000-7000-8000-000000000001');
SELECT reason FROM tq_why('01900000-0000-7000-8000-000000000001', tenant => 'acme');
SELECT test.said('tq_delete(''01900000-0000-7000-8000-000000000001'')');
SELECT tq_cancel('01900000-0000-7000-8000-000000000001', tenant => 'acme');
SELECT tq_update('01900000-0000-7000-8000-000000000001', priority => 3);
SELECT tq_requeue('01900000-0000-7000-8000-000000000001', tenant => 'acme');
SELECT tq_requeue('01900000-0000-7000-8000-00000000000e');
SELECT tq_cancel('01900000-0000-7000-8000-000000000001');

-- next_run of a schedule that doesn't fire.
SELECT tq_alter_schedule('nightly', enabled => false);
SELECT test.said('tq_alter_schedule(''nightly'', next_run => ''2100-01-03 12:00+00'')');
SELECT tq_alter_schedule('nightly', enabled => true, next_run => '2100-01-03T12:00:00+00:00', tenant => 'acme');
SELECT next_run FROM tq_schedules WHERE name = 'nightly';
SELECT tq_alter_schedule('nightly', repeats => 0);
SELECT test.said('tq_alter_schedule(''nightly'', next_run => ''2100-01-03 12:00+00'')');
SELECT tq_alter_schedule('nightly', repeats => 1, next_run => '2100-01-03T12:00:00+00:00', tenant => 'acme');
SELECT tq_fire('nightly', tenant => 'acme') IS NOT NULL AS fired;
-- Fire times that it passes over are told, and the way back.
SELECT tq_schedule('late', 'send_invoice', '0 2 * * *', tz => 'UTC', start_at => '2100-01-01 00:00+00') IS NOT NULL AS made;
SELECT tq_alter_schedule('late', next_run => '2100-01-03 12:00+00');
SELECT tq_alter_schedule('late', next_run => '2100-01-01T02:00:00+00:00', tenant => 'acme');
SELECT next_run = '2100-01-01 02:00+00' AS as_before FROM tq_schedules WHERE name = 'late';
SELECT tq_alter_schedule('late', next_run => '2100-01-01 12:00+00');
SELECT tq_alter_schedule('late', next_run => '2100-01-01 06:00+00');
SELECT tq_alter_schedule('late', next_run => '2200-01-01 06:00+00');

-- Rules that people try: what the hint says is a rule, with what stands beside it.
CREATE FUNCTION test.rule_meant(tried text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    said text := test.said(format('tq_schedule(''tried'', ''close_day'', %L, tz => ''UTC'', start_at => ''2100-01-01 00:00+00'')', tried));
    rule text := substring(said from 'rite ''([^'']*)''');
    beside text := substring(said from ' with ((?:active_hours|tz|repeats) => [^.]*?)\.');
BEGIN
    EXECUTE format('SELECT tq_schedule(''tried'', ''close_day'', %L, start_at => ''2100-01-01 00:00+00'' %s)', rule,
        CASE WHEN beside ~ '^tz' THEN ', ' || beside ELSE concat_ws(', ', ', tz => ''UTC''', beside) END);
    said := rule || coalesce(' with ' || beside, '') || ': ' || (SELECT to_char(next_run AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI') FROM tq_schedules WHERE name = 'tried');
    PERFORM tq_unschedule('tried');
    RETURN said;
END $$;
SELECT tried, test.rule_meant(tried) FROM unnest(ARRAY['daily 10:30', '10:30', 'monthly on 15 at 10:00', 'every other day', 'civil dawn at 52.5,13.4', '2100-02-01 10:30 PM', 'weekdays 9:00',
    'every 30 minutes between 9:00 and 17:00', 'daily at 10:30 Europe/Berlin', 'once at 10:30', 'first monday of the month at 9:00', 'twice a day', '*/5', 'H/15 * * * *']) AS tried;
SELECT tq_schedule('fortnight', 'close_day', 'every 2 weeks at 10:30', tz => 'UTC', start_at => date_trunc('week', now()) + interval '7 days') IS NOT NULL AS made;
SELECT extract(isodow FROM next_run AT TIME ZONE 'UTC') AS weekday, next_run - now() < interval '8 days' AS soon FROM tq_schedules WHERE name = 'fortnight';

-- Rates say how they are counted.
SELECT tq_register('send_invoice', rate => '5/s', tenant => 'acme'), tq_set_queue('mail', rate => '10/m window'), tq_set_limit('k', rate => '3/h sliding');
SELECT rate FROM tq_handlers WHERE handler = 'send_invoice' UNION ALL SELECT rate FROM tq_queues WHERE queue = 'mail';
SELECT rate, algorithm FROM tenant_q.limit_key;
SELECT test.said('tq_set_limit(''k'', rate => ''3/h sliding'', algorithm => ''window'')');
SELECT test.said('tq_register(''send_invoice'', rate => ''5/s leaky'')');
SELECT tq_set_quota('acme', rate => '100/m window');
SELECT test.said('tq_set_quota(''acme'', rate => ''100/m windows'')');
