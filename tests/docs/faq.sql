\i setup.psql
CREATE ROLE app LOGIN;
CREATE SCHEMA app;
-- ## Why doesn't my task run?
SET ROLE app;
SET search_path = app, public;
CREATE FUNCTION greet(who text) RETURNS text LANGUAGE sql AS $$ SELECT 'hello ' || who $$;
SELECT tq_register('greet');
