-- once per company, as its role: its schema gets a queue, the two functions become handlers, one runs by itself
SELECT tq_attach(current_schema());
SELECT tq_register('send_invoice', 'send_invoice(bigint, text)', retry => tq_backoff('fixed', base => '1 second'));
SELECT tq_register('close_day', 'close_day(date)', priority => 10);
SELECT tq_schedule('close of day', 'close_day', '2 seconds', time_arg => 'day');
