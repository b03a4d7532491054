\i setup.psql
CREATE ROLE acme LOGIN;
CREATE SCHEMA acme AUTHORIZATION acme;
CREATE SCHEMA globex AUTHORIZATION acme;
SELECT tq_attach('acme'), tq_attach('globex');
SET ROLE acme;
SET search_path = acme, public;
CREATE TABLE reminder (due timestamptz);
CREATE FUNCTION close_day(day date) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION send_reminders() RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION load_files() RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION load_rates() RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION build_report() RETURNS void LANGUAGE sql AS '';
SELECT tq_register(handler, format('acme.%s', handler)) FROM unnest('{close_day,send_reminders,load_files,load_rates,build_report}'::text[]) AS handler;
SELECT tq_register(handler, format('acme.%s', handler), tenant => 'globex') FROM unnest('{close_day,send_reminders,load_files,load_rates,build_report}'::text[]) AS handler;

-- ## When something is wrong
-- What tq_alter_schedule would refuse.
SET ROLE acme;
SELECT tq_alter_schedule('nightly', enabled => true, tenant => 'acme');
UPDATE acme.tq_schedule SET tz = 'Mars/Olympus', next_run = now() WHERE name = 'nightly';
