\i setup.psql
CREATE ROLE acme LOGIN;
CREATE SCHEMA acme AUTHORIZATION acme;
SELECT tq_attach('acme');
SET ROLE acme;
SET search_path = acme, public;
CREATE TABLE message (text text);
CREATE TABLE orders (id bigint, total numeric);
INSERT INTO orders VALUES (1, 10);
CREATE MATERIALIZED VIEW totals AS SELECT sum(total) FROM orders;
CREATE FUNCTION archive(task jsonb) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION send_invoice(order_id bigint) RETURNS bigint LANGUAGE sql AS 'SELECT 1 / order_id';
CREATE FUNCTION send_reminder() RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION order_changed(change jsonb) RETURNS void LANGUAGE sql AS '';
SELECT tq_register(handler) FROM unnest('{archive,send_invoice,send_reminder,order_changed}'::text[]) AS handler;
