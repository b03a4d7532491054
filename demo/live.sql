SELECT company, invoices || ' of ' || orders AS invoices,
       rpad(repeat('#', (25 * invoices / orders)::int), 25, '.') AS progress,
       unfinished, running, retried, closings
FROM public.demo_counts ORDER BY company;
SELECT tenant, handler, attempt, role, pid, round(1000 * extract(epoch FROM clock_timestamp() - since)) AS ms
FROM public.tq_running ORDER BY tenant, since LIMIT 12;
