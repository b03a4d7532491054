-- Is what was installed at work? A task runs to its result on a real worker, or this fails.
\set ON_ERROR_STOP on
SET client_min_messages = warning;
CREATE EXTENSION tenant_q;
CREATE ROLE acme LOGIN;
CREATE SCHEMA acme AUTHORIZATION acme;
SET ROLE acme;
SET search_path = acme, public;
SELECT tq_attach();
CREATE FUNCTION multiply(a bigint, b bigint) RETURNS text LANGUAGE sql
    AS $$ SELECT a * b || ' by ' || backend_type FROM pg_stat_activity WHERE pid = pg_backend_pid() $$;
SELECT tq_register('multiply');
SELECT tq_async('multiply', '[6, 7]') AS id
\gset
SELECT tq_result(:'id', wait => '30 seconds') #>> '{}' AS result
\gset
SELECT set_config('smoke.result', :'result', false);
DO $$
BEGIN
    IF current_setting('smoke.result') IS DISTINCT FROM '42 by tenant_q executor' THEN
        RAISE 'the task answered %', current_setting('smoke.result');
    END IF;
END $$;
RESET ROLE;
SELECT 'not well: ' || h FROM tq_health() h WHERE NOT ok;
SELECT 'smoke test passed: tenant_q ' || extversion || ', ' || split_part(version(), ' on ', 1)
FROM pg_extension WHERE extname = 'tenant_q' AND NOT EXISTS (SELECT FROM tq_health() WHERE NOT ok);
