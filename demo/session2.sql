-- another: what is open, in one statement
SELECT tq_async('send_invoice', jsonb_build_object('order_id', id, 'locale', locale), name => 'invoice ' || id)
FROM orders WHERE id % 3 = 1;
-- and one that changes its mind: none of these is ever sent
BEGIN;
SELECT tq_async('send_invoice', jsonb_build_object('order_id', id, 'locale', locale)) FROM orders;
ROLLBACK;
