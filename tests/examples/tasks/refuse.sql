INSERT INTO paid (invoice) VALUES (0);
SELECT 1 / (length(:'args') * 0);
