\i setup.psql
CREATE ROLE owner LOGIN;
CREATE ROLE app LOGIN;
CREATE ROLE oncall LOGIN;
CREATE SCHEMA acme AUTHORIZATION owner;
SELECT tq_attach('acme');
