\i setup.psql
CREATE ROLE acme LOGIN;
CREATE SCHEMA acme AUTHORIZATION acme;
SELECT tq_attach('acme');
SET ROLE acme;
SET search_path = acme, public;
CREATE FUNCTION greet(who text) RETURNS text LANGUAGE sql AS $$ SELECT 'hello ' || who $$;
SELECT tq_register('greet');
