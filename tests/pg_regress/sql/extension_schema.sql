-- The extension's functions in a schema of their own: handlers find them, unless others might put something beside them.
CREATE SCHEMA ext;
GRANT USAGE ON SCHEMA ext TO PUBLIC;
CREATE EXTENSION tenant_q SCHEMA ext;
CREATE ROLE acme LOGIN;
CREATE SCHEMA acme AUTHORIZATION acme;
SET search_path = acme, ext;
SELECT tq_attach('acme');
SET ROLE acme;
CREATE FUNCTION me() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN current_setting('search_path') || ' ' || (tq_current()).handler; END $$;
SELECT tq_register('me', max_attempts => 1);
SELECT tq_result(tq_async('me', id => '01900000-0000-7000-8000-000000000001'), wait => '0');
SELECT tq_result('01900000-0000-7000-8000-000000000001', wait => '20 s');
BEGIN;
SELECT tq_async('me', id => '01900000-0000-7000-8000-000000000002');
SELECT result FROM tq_drain();
COMMIT;
SELECT * FROM tq_health() WHERE check_name = 'functions';
RESET ROLE;
-- What is named there already stays where it is named.
SELECT tq_set_tenant('acme', shared_schemas => '{ext,public}');
SELECT tq_async('me', id => '01900000-0000-7000-8000-000000000003');
SELECT tq_result('01900000-0000-7000-8000-000000000003', wait => '20 s');
SELECT tq_set_tenant('acme', reset => '{shared_schemas}');
-- Somebody else may create something there.
GRANT CREATE ON SCHEMA ext TO acme;
SELECT tq_async('me', id => '01900000-0000-7000-8000-000000000004');
SELECT tq_result('01900000-0000-7000-8000-000000000004', wait => '20 s');
SELECT * FROM tq_health() WHERE check_name = 'functions';
REVOKE CREATE ON SCHEMA ext FROM acme;
REVOKE USAGE ON SCHEMA ext FROM PUBLIC;
SELECT * FROM tq_health() WHERE check_name = 'functions';
GRANT USAGE ON SCHEMA ext TO PUBLIC;
SELECT tq_async('me', id => '01900000-0000-7000-8000-000000000005');
SELECT tq_result('01900000-0000-7000-8000-000000000005', wait => '20 s');

-- What a language does that isn't trusted may not be rolled back.
CREATE LANGUAGE rough HANDLER plpgsql_call_handler INLINE plpgsql_inline_handler VALIDATOR plpgsql_validator;
CREATE FUNCTION rough() RETURNS int LANGUAGE rough AS $$ BEGIN RETURN 1; END $$;
CREATE PROCEDURE stepwise() LANGUAGE plpgsql AS $$ BEGIN COMMIT; END $$;
ALTER FUNCTION rough() OWNER TO acme;
SELECT tq_register(h) FROM unnest('{rough,stepwise}'::text[]) h;
SELECT handler, guarantee FROM tq_handlers ORDER BY handler;

-- An attempt of which nobody noted when it began began at no time.
UPDATE tq_result SET history = '[{"attempt": 1, "outcome": "interrupted", "started_at": 0}]' WHERE id = '01900000-0000-7000-8000-000000000004';
SELECT attempt, outcome, started_at FROM tq_attempts('01900000-0000-7000-8000-000000000004');
