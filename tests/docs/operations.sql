\i setup.psql
CREATE ROLE acme LOGIN;
CREATE ROLE app LOGIN;
CREATE ROLE worker LOGIN;
CREATE ROLE watcher LOGIN;
CREATE ROLE oncall LOGIN;
GRANT worker TO acme;
CREATE SCHEMA acme AUTHORIZATION acme;
SELECT tq_attach('acme');
SET ROLE acme;
SET search_path = acme, public;
CREATE FUNCTION send_invoice(order_id bigint, locale text) RETURNS bigint LANGUAGE sql AS 'SELECT 1 / order_id';
CREATE FUNCTION send_reminder() RETURNS void LANGUAGE sql AS '';
SELECT tq_register('send_invoice', max_attempts => 1), tq_register('send_reminder', queue => 'mail');
SELECT tq_schedule('nightly', 'send_invoice', '0 2 * * *', '[1, "de"]');
SELECT tq_async('send_invoice', '[0, "de"]', name => 'invoices of March'), tq_async('send_invoice', '[0, "de"]', name => 'invoices of April');
