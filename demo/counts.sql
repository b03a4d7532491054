-- One row a company: what there was to do, what is done, and what the queue says of itself.
CREATE VIEW public.demo_counts AS
SELECT c.*, coalesce(t.running, 0) AS running, coalesce(t.retried, 0) AS retried
FROM (
    SELECT 'acme' AS company, (SELECT count(*) FROM acme.orders) AS orders, (SELECT count(*) FROM acme.tq_task) AS unfinished,
           (SELECT count(*) FROM acme.invoices) AS invoices, (SELECT count(*) FROM acme.closings) AS closings
    UNION ALL
    SELECT 'globex', (SELECT count(*) FROM globex.orders), (SELECT count(*) FROM globex.tq_task),
           (SELECT count(*) FROM globex.invoices), (SELECT count(*) FROM globex.closings)
    UNION ALL
    SELECT 'initech', (SELECT count(*) FROM initech.orders), (SELECT count(*) FROM initech.tq_task),
           (SELECT count(*) FROM initech.invoices), (SELECT count(*) FROM initech.closings)
) AS c
LEFT JOIN public.tq_tenants AS t ON t.tenant = c.company;

-- Every invoice exactly once, in the right schema, written by the right role; no fire time twice.
CREATE VIEW public.demo_check AS
WITH invoices AS (
    SELECT 'acme' AS company, * FROM acme.invoices
    UNION ALL SELECT 'globex', * FROM globex.invoices
    UNION ALL SELECT 'initech', * FROM initech.invoices
), closings AS (
    SELECT 'acme' AS company, * FROM acme.closings
    UNION ALL SELECT 'globex', * FROM globex.closings
    UNION ALL SELECT 'initech', * FROM initech.closings
), orders AS (
    SELECT 'acme' AS company, * FROM acme.orders
    UNION ALL SELECT 'globex', * FROM globex.orders
    UNION ALL SELECT 'initech', * FROM initech.orders
), per_order AS (
    SELECT o.company, o.id, count(i.order_id) AS invoices, max(i.attempt) AS attempt,
           count(*) FILTER (WHERE i.in_schema <> o.company) AS wrong_schema,
           count(*) FILTER (WHERE i.written_by <> o.company) AS wrong_role,
           count(*) FILTER (WHERE i.amount <> o.amount OR i.locale <> o.locale) AS wrong_data
    FROM orders AS o LEFT JOIN invoices AS i ON i.company = o.company AND i.order_id = o.id
    GROUP BY o.company, o.id
), per_fire_time AS (
    SELECT company, fire_time, count(*) AS closings,
           bool_or(in_schema <> company OR written_by <> company OR day <> (fire_time AT TIME ZONE 'UTC')::date) AS wrong
    FROM closings GROUP BY company, fire_time
)
SELECT company, count(*) AS orders, sum(p.invoices) AS invoices,
       count(*) FILTER (WHERE p.invoices = 0) AS missing, count(*) FILTER (WHERE p.invoices > 1) AS twice,
       sum(wrong_schema) AS wrong_schema, sum(wrong_role) AS wrong_role, sum(wrong_data) AS wrong_data,
       count(*) FILTER (WHERE attempt > 1) AS retried,
       f.closings, f.closings_wrong,
       bool_and(p.invoices = 1) AND sum(wrong_schema + wrong_role + wrong_data) = 0
           AND count(*) FILTER (WHERE attempt > 1) = count(*) FILTER (WHERE id % 50 = 0)
           AND f.closings > 0 AND f.closings_wrong = 0 AS ok
FROM per_order AS p
LEFT JOIN LATERAL (
    SELECT count(*) AS closings, count(*) FILTER (WHERE x.closings > 1 OR wrong) AS closings_wrong
    FROM per_fire_time AS x WHERE x.company = p.company
) AS f ON true
GROUP BY company, f.closings, f.closings_wrong
ORDER BY company;
