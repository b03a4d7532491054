\i setup.psql
CREATE ROLE reader LOGIN;
