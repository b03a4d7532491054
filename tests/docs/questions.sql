\i setup.psql
CREATE ROLE acme LOGIN;
CREATE ROLE globex LOGIN;
CREATE ROLE oncall LOGIN;
CREATE SCHEMA acme AUTHORIZATION acme;
CREATE SCHEMA globex AUTHORIZATION globex;
SELECT tq_attach('acme'), tq_attach('globex');
CREATE FUNCTION send_invoice(order_id bigint) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE 'the mail server hung up'; END $$;
SELECT tq_register('send_invoice', 'public.send_invoice', shared => true, retry => tq_backoff('fixed', '15 minutes'));
SELECT tq_schedule('nightly', 'send_invoice', '0 2 * * *', '[2]', tenant => tenant) FROM tq_tenants;
SELECT tq_async('send_invoice', '[1]', id => '01a1fc37-edb6-75b5-8b86-a12d370db240', tenant => 'acme');
