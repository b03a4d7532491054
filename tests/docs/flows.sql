\i setup.psql
CREATE ROLE acme LOGIN;
CREATE SCHEMA acme AUTHORIZATION acme;
SELECT tq_attach('acme');
SET ROLE acme;
SET search_path = acme, public;
-- A handler takes what the page gives it: arguments of its own, then the result of the step before.
CREATE FUNCTION callback(flow jsonb) RETURNS void LANGUAGE sql AS '';
SELECT tq_register(handler, 'acme.callback') FROM unnest('{bind_pages,told,tell_accounting,tell_support}'::text[]) AS handler;
CREATE FUNCTION anything(VARIADIC given jsonb[] DEFAULT '{}') RETURNS jsonb LANGUAGE sql AS 'SELECT to_jsonb(given)';
SELECT tq_register(handler, 'acme.anything')
  FROM unnest('{render,fetch_rates,convert,store,send_invoice,collect,publish,export_customers,export_orders,upload,prepare,close_month}'::text[]) AS handler;
