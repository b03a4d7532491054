\i setup.psql
CREATE ROLE acme LOGIN;
CREATE ROLE worker LOGIN;
CREATE SCHEMA acme AUTHORIZATION acme;
SELECT tq_attach('acme');
SET ROLE acme;
SET search_path = acme, public;
CREATE TABLE invoice (id bigint PRIMARY KEY, paid text);
INSERT INTO invoice VALUES (7), (8), (9);
GRANT USAGE ON SCHEMA acme TO worker;
GRANT SELECT, UPDATE ON invoice TO worker;
