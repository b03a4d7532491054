\i setup.psql
CREATE ROLE acme LOGIN;
CREATE SCHEMA acme AUTHORIZATION acme;
SELECT tq_attach('acme');
SET ROLE acme;
SET search_path = acme, public;
CREATE TABLE invoice (order_id bigint);
CREATE FUNCTION send_invoice(order_id bigint, locale text) RETURNS bigint LANGUAGE sql AS 'INSERT INTO invoice VALUES ($1) RETURNING order_id';
CREATE FUNCTION count_letters(word text) RETURNS int LANGUAGE sql AS 'SELECT length(word)';
CREATE FUNCTION fetch_rates() RETURNS text LANGUAGE sql AS $$ SELECT 'rates' $$;
CREATE FUNCTION convert(what text) RETURNS text LANGUAGE sql AS $$ SELECT what || ' converted' $$;
CREATE FUNCTION store(what text) RETURNS text LANGUAGE sql AS $$ SELECT what || ' and stored' $$;
SELECT tq_register(handler, format('acme.%s', handler)) FROM unnest('{send_invoice,count_letters,fetch_rates,convert,store}'::text[]) AS handler;
