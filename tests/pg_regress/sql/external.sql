-- External handlers as they are declared, shown, carried elsewhere and mended.
\i sql/setup.psql
CREATE ROLE owner LOGIN;
CREATE ROLE app LOGIN;
CREATE ROLE other LOGIN;
CREATE ROLE billing;
CREATE SCHEMA acme AUTHORIZATION owner;
CREATE SCHEMA globex AUTHORIZATION owner;
SELECT tq_attach('acme'), tq_attach('globex');
SET SESSION AUTHORIZATION owner;
SET search_path = acme, public;
CREATE FUNCTION local(x int DEFAULT 0) RETURNS int LANGUAGE sql AS 'SELECT x';
CREATE TYPE color AS ENUM ('red', 'green');

-- Shown
SELECT tq_register('charge', external => true, run_as => 'billing', timeout => '1 minute', aliases => '{bill}', queue => 'money',
                   params => '[{"name": "invoice", "type": "bigint"}, {"name": "locale", "type": "text", "default": "de"}]'),
       tq_register('mail', external => true), tq_register('local');
SELECT tq_register('mail', external => true) AS again;
SELECT handler, function, status, guarantee, run_as, queue, timeout, aliases, settings FROM tq_handlers ORDER BY handler;

-- Carried elsewhere
SELECT jsonb_pretty(tq_export(everything => true) -> 'tq_register') AS said;
SELECT tq_export(everything => true) AS said \gset
SET search_path = globex, public;
CREATE FUNCTION local(x int DEFAULT 0) RETURNS int LANGUAGE sql AS 'SELECT x';
SELECT tq_import((:'said'::jsonb - 'tq_set_tenant'));
SELECT handler, function, guarantee, run_as, queue, timeout, aliases FROM tq_handlers ORDER BY handler;
SELECT tq_export(everything => true) -> 'tq_register' = :'said'::jsonb -> 'tq_register' AS same;
SET search_path = acme, public;

-- Mended: a role that is gone, a parameter's type that is.
SELECT tq_register('paint', external => true, params => '[{"name": "c", "type": "color", "default": "red"}]');
DROP TYPE color;
RESET SESSION AUTHORIZATION;
DROP ROLE billing;
SET client_min_messages = error;
SET search_path = acme, public;
SELECT handler, status, reason FROM tq_handlers ORDER BY handler;
SELECT what, reason, fix FROM tq_problems WHERE what ~ '^handler' ORDER BY what;
RESET client_min_messages;

-- What a deploy declares: a document, again and again.
GRANT EXECUTE ON FUNCTION tenant_q.register_external() TO app, other;
SET SESSION AUTHORIZATION owner;
SET search_path = globex, public;
SELECT tq_register_many('{"handlers": [{"handler": "b", "external": true, "params": [{"name": "n", "type": "int"}], "max_attempts": 5, "timeout": "1 minute", "aliases": ["bee"], "retry": {"kind": "fixed", "base": 60}},
                                       {"handler": "a", "external": true}, {"handler": "mail", "external": true}, {"handler": "local", "queue": "slow"}],
                          "schedules": [{"name": "digest", "handler": "a", "rule": "0 7 * * *"}, {"name": "after_digest", "handler": "b", "rule": "0 8 * * *", "args": [1], "after": ["digest"]}]}') AS changed \gset
SELECT :changed AS changed;
BEGIN;
SELECT tq_register_many('{"schedules": [{"name": "after_digest", "handler": "b", "rule": "0 8 * * *", "args": [1], "after": ["digest"]}, {"name": "digest", "handler": "a", "rule": "0 7 * * *"}],
                          "handlers": [{"handler": "a", "external": true}, {"handler": "b", "external": true, "params": [{"name": "n", "type": "int"}], "max_attempts": 5, "timeout": "1 minute", "aliases": ["bee"], "retry": {"kind": "fixed", "base": 60}},
                                       {"handler": "mail", "external": true}, {"handler": "local", "queue": "slow"}]}', prune => true) AS changed;
SELECT pg_current_xact_id_if_assigned() IS NULL AS nothing_written;
COMMIT;
SELECT handler, function, queue, timeout, max_attempts, aliases, retry FROM tq_handlers ORDER BY handler;
SELECT name, handler, rule FROM tq_schedules ORDER BY name;
-- By hand: from then on they are nobody's to prune. So are those that were there before.
SELECT tq_register('b', external => true), tq_alter_schedule('after_digest', description => 'by hand');
SELECT tq_register_many('{"handlers": [{"handler": "c", "external": true}], "schedules": [{"name": "c", "handler": "c", "rule": "@daily"}, {"name": "d", "handler": "c", "rule": "@daily", "after": ["c"]}]}');
SELECT tq_register_many('{"handlers": []}', prune => true) AS pruned;
SELECT handler FROM tq_handlers ORDER BY handler;
-- What comes after others goes before them; what somebody else's comes after stays, and says so.
SELECT tq_register_many('{"schedules": [{"name": "digest", "handler": "a", "rule": "0 7 * * *"}]}', prune => true);
\echo :SQLSTATE
SELECT name FROM tq_schedules ORDER BY name;
SELECT tq_register('a', external => true);
SELECT tq_register_many('{"schedules": [{"name": "digest", "handler": "a", "rule": "0 7 * * *"}]}', prune => true) AS pruned;
SELECT tq_register_many('{"schedules": []}', prune => true);
\echo :SQLSTATE
SELECT name FROM tq_schedules ORDER BY name;

-- Of all tenants: who may, and each role's deploy its own.
SET SESSION AUTHORIZATION app;
SELECT tq_register_many('{"handlers": [{"handler": "app.x", "external": true, "shared": true}, {"handler": "app.y", "external": true, "shared": true}]}');
SELECT tq_register_many('{"handlers": [{"handler": "app.x", "external": true, "shared": true}, {"handler": "app.y", "external": true, "shared": true}]}', prune => true);
SET SESSION AUTHORIZATION other;
SELECT tq_register_many('{"handlers": [{"handler": "other.x", "external": true, "shared": true}]}', prune => true);
SET SESSION AUTHORIZATION app;
SELECT tq_register_many('{"handlers": [{"handler": "app.x", "external": true, "shared": true}]}', prune => true);
SELECT tq_register_many('{"handlers": [{"handler": "app.z", "external": true}]}', tenant => 'globex');
\echo :SQLSTATE
SELECT tq_unregister('other.x', shared => true), tq_unregister('app.x', shared => true);
RESET SESSION AUTHORIZATION;
SELECT tenant, name, external, declared, registered_by FROM tenant_q.handler WHERE tenant = '' ORDER BY name;
SELECT tq_register('f', 'pg_catalog.now()', shared => true);
SET SESSION AUTHORIZATION app;
SELECT tq_unregister('f', shared => true);
\echo :SQLSTATE

-- What can be wrong with it
SET SESSION AUTHORIZATION owner;
SET search_path = globex, public;
SELECT tq_register_many(NULL);
\echo :SQLSTATE
SELECT tq_register_many('[]');
\echo :SQLSTATE
SELECT tq_register_many('{"handler": []}');
\echo :SQLSTATE
SELECT tq_register_many('{"handlers": {}}');
\echo :SQLSTATE
SELECT tq_register_many('{"handlers": ["a"]}');
\echo :SQLSTATE
SELECT tq_register_many('{"handlers": [{"handler": "y", "external": true}, {"external": true}]}');
\echo :SQLSTATE
SELECT tq_register_many('{"handlers": [{"handler": "y", "external": true}, {"handler": "y"}]}');
\echo :SQLSTATE
SELECT tq_register_many('{"handlers": [{"handler": "y", "external": true, "timeouts": "1 s"}]}');
\echo :SQLSTATE
SELECT tq_register_many('{"handlers": [{"handler": "y", "external": true, "tenant": "acme"}]}');
\echo :SQLSTATE
SELECT tq_register_many('{"handlers": [{"handler": "y", "external": true}, {"handler": "z", "external": true, "params": {}}]}');
\echo :SQLSTATE
SELECT tq_register_many('{"handlers": [{"handler": "y", "external": true}], "schedules": [{"name": "s", "handler": "yy", "rule": "@daily"}]}');
\echo :SQLSTATE
SELECT tq_register_many('{"schedules": [{"name": "s", "handler": "a", "rule": "@daily"}, {"name": "s", "handler": "a", "rule": "@daily"}]}');
\echo :SQLSTATE
SELECT tq_register_many('{"handlers": [{"handler": "y", "external": true, "shared": true}]}');
\echo :SQLSTATE
SELECT tq_register_many('{"handlers": [{"handler": "y", "external": true}]}', tenant => 'nobody');
\echo :SQLSTATE
SELECT handler FROM tq_handlers ORDER BY handler;
