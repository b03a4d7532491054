-- an application's session: one task a transaction, as orders come in
SELECT format($$SELECT tq_async('send_invoice', '{"order_id": %s, "locale": "%s"}', name => 'invoice %1$s')$$, id, locale)
FROM orders WHERE id % 3 = 0 ORDER BY id \gexec
