-- Run by each company's own role, in its own schema: the same tables, its own orders, and the two pieces of work.
CREATE TABLE orders (
    id bigint PRIMARY KEY,
    customer text NOT NULL,
    locale text NOT NULL,
    amount numeric(10, 2) NOT NULL
);

-- No unique key on order_id: that there is one invoice an order is for the queue to achieve, not for an index.
CREATE TABLE invoices (
    number bigint GENERATED ALWAYS AS IDENTITY,
    order_id bigint NOT NULL REFERENCES orders,
    locale text NOT NULL,
    amount numeric(10, 2) NOT NULL,
    attempt int NOT NULL,
    written_by text NOT NULL DEFAULT current_user,
    in_schema text NOT NULL DEFAULT current_schema(),
    written_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE closings (
    day date NOT NULL,
    fire_time timestamptz NOT NULL,
    invoices bigint NOT NULL,
    turnover numeric NOT NULL,
    written_by text NOT NULL DEFAULT current_user,
    in_schema text NOT NULL DEFAULT current_schema(),
    written_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

SELECT setseed(0.20) \g /dev/null
INSERT INTO orders
SELECT id,
       (ARRAY['Ada', 'Blaise', 'Carl', 'Dorothy', 'Emmy', 'Fatima', 'Grace', 'Hedy'])[1 + floor(random() * 8)]
           || ' ' || (ARRAY['Ahlgren', 'Bianchi', 'Çelik', 'Dubois', 'Eriksen', 'Fischer'])[1 + floor(random() * 6)],
       (ARRAY['de', 'en', 'fr', 'it', 'tr'])[1 + floor(random() * 5)],
       (5 + random() * 995)::numeric(10, 2)
FROM generate_series(1, :orders) AS id;

-- Every fiftieth order's first attempt fails *after* the invoice is written: the row has to go with the attempt.
CREATE FUNCTION send_invoice(order_id bigint, locale text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    new_number bigint;
BEGIN
    INSERT INTO invoices (order_id, locale, amount, attempt)
    SELECT o.id, send_invoice.locale, o.amount, (tq_current()).attempt
    FROM orders AS o WHERE o.id = send_invoice.order_id
    RETURNING number INTO STRICT new_number;

    PERFORM pg_sleep(0.01); -- printing takes its time
    IF send_invoice.order_id % 50 = 0 AND (tq_current()).attempt = 1 THEN
        RAISE EXCEPTION 'the mail server hung up' USING DETAIL = format('order %s', send_invoice.order_id);
    END IF;
    RETURN new_number;
END
$$;

CREATE FUNCTION close_day(day date) RETURNS void LANGUAGE sql AS $$
    INSERT INTO closings (day, fire_time, invoices, turnover)
    SELECT close_day.day, (tq_current()).scheduled_for, count(*), coalesce(sum(amount), 0) FROM invoices
$$;
