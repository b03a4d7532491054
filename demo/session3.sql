-- a third: a whole list in one call
SELECT tq_async_many(jsonb_agg(jsonb_build_object(
    'handler', 'send_invoice', 'args', jsonb_build_array(id, locale), 'name', 'invoice ' || id)))
FROM orders WHERE id % 3 = 2;
