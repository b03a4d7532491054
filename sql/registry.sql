-- The extension's own schema and tables. Plain CREATE throughout: nothing of anybody's is adopted.

-- Documents, names and errors are UTF-8 throughout. Scripts are plain ASCII, so that this comes first in any encoding.
DO $encoding$
BEGIN
    IF pg_catalog.current_setting('server_encoding') OPERATOR(pg_catalog.<>) 'UTF8' THEN
        RAISE EXCEPTION USING ERRCODE = 'feature_not_supported',
            MESSAGE = pg_catalog.format('tenant_q does not support the encoding of this database, %s', pg_catalog.current_setting('server_encoding')),
            HINT = 'CREATE DATABASE ... TEMPLATE template0 ENCODING ''UTF8'', and move the data there with pg_dump.';
    END IF;
END $encoding$;

CREATE SCHEMA tenant_q;
REVOKE ALL ON SCHEMA tenant_q FROM PUBLIC;
GRANT USAGE ON SCHEMA tenant_q TO PUBLIC;
COMMENT ON SCHEMA tenant_q IS 'internals of the extension tenant_q; the public surface are the functions and views tq_*';

-- A server that has not been restarted since the files were replaced still runs the old library, whose functions these aren't.
DO $library$
BEGIN
    CREATE FUNCTION tenant_q.require_library() RETURNS void
    LANGUAGE c STABLE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tenant_q_require_library';
EXCEPTION WHEN undefined_function THEN
    RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
        MESSAGE = 'this server still runs the library of an older version of tenant_q', HINT = 'Restart the server, then run the statement again.';
END $library$;
COMMENT ON FUNCTION tenant_q.require_library() IS 'first in each script of the extension: 55000 where the library that runs is older than the version that is to be made';
SELECT tenant_q.require_library();

-- Attached schemas. Keyed by name, so that a dump can be restored; schema_oid tells a restored or
-- copied row from a live one.
CREATE TABLE tenant_q.tenant (
    name           text        PRIMARY KEY,
    schema_oid     oid         NOT NULL,
    ready          boolean     NOT NULL DEFAULT true,
    timezone       text,
    shared_schemas text[],
    settings       jsonb,
    save_limit     integer,
    save_limit_per text,
    result_ttl     interval,
    failure_ttl    interval,
    weight         integer,
    max_running    integer,
    max_queued     integer,
    rate           text,
    fan_out        boolean     NOT NULL DEFAULT true,
    suspended      text,
    suspended_at   timestamptz,
    attached_by    text        NOT NULL,
    attached_at    timestamptz NOT NULL,
    -- Who owned the schema when all this was said; the name is for restored copies.
    owner          oid         NOT NULL,
    owner_name     text        NOT NULL,
    -- A superuser has attached it while this owner was one: tasks may run as one.
    trusted        boolean     NOT NULL
);
-- Not unique: in a copy, until it is confirmed, these are the OIDs of the original.
CREATE INDEX tenant_schema_oid ON tenant_q.tenant (schema_oid);

-- Schemas that were detached, each with what was said of it: for when it is attached again. Handlers and the like stay
-- where they are, under the name that stands here; a schema that has none of these rows inherits nothing.
CREATE TABLE tenant_q.detached (LIKE tenant_q.tenant INCLUDING DEFAULTS INCLUDING INDEXES);

-- Handlers: of one tenant, or of all (tenant = '').
CREATE TABLE tenant_q.handler (
    tenant        text        NOT NULL,
    name          text        NOT NULL,
    function      text        NOT NULL,
    identity      text,
    owner         text,
    run_as        text,
    queue         text,
    priority      integer,
    timeout       interval,
    max_attempts  integer,
    retry         jsonb,
    expires       interval,
    max_running   integer,
    rate          text,
    settings      jsonb,
    save          boolean,
    result_ttl    interval,
    aliases       text[],
    external      boolean     NOT NULL,
    missing_since timestamptz,
    quarantined   timestamptz,
    crashes       jsonb,
    registered_by text        NOT NULL,
    registered_at timestamptz NOT NULL,
    -- A deploy has made it (tq_register_many), and nobody has changed it by hand since.
    declared      boolean     NOT NULL DEFAULT false,
    PRIMARY KEY (tenant, name)
);

-- Found by every CREATE FUNCTION: usually empty.
CREATE INDEX handler_missing ON tenant_q.handler (tenant) WHERE missing_since IS NOT NULL;

-- How it stands with a handler of all tenants in one of them. What comes of one tenant's schema, path or tasks is that
-- tenant's affair; a handler of one tenant has it in its own row.
CREATE TABLE tenant_q.handler_state (
    tenant        text        NOT NULL,
    name          text        NOT NULL,
    missing_since timestamptz,
    quarantined   timestamptz,
    crashes       jsonb,
    PRIMARY KEY (tenant, name)
);
CREATE INDEX handler_state_missing ON tenant_q.handler_state (tenant) WHERE missing_since IS NOT NULL;

-- The roles that were meant when a handler was registered, whatever they are called now: the function's owner, and run_as.
-- In no dump: on another server the names in tenant_q.handler tell.
CREATE TABLE tenant_q.handler_role (
    tenant text NOT NULL,
    name   text NOT NULL,
    owner  oid,
    run_as oid,
    PRIMARY KEY (tenant, name)
);

-- What is paused: '' = any. until = infinity: until tq_resume.
CREATE TABLE tenant_q.pause (
    tenant text        NOT NULL,
    queue  text        NOT NULL,
    handler text       NOT NULL,
    until  timestamptz NOT NULL,
    since  timestamptz NOT NULL,
    by_role text       NOT NULL,
    PRIMARY KEY (tenant, queue, handler)
);

-- Queues that were set up: limits of their own and what their tasks inherit.
CREATE TABLE tenant_q.queue (
    tenant       text NOT NULL,
    name         text NOT NULL,
    max_running  integer,
    rate         text,
    priority     integer,
    timeout      interval,
    max_attempts integer,
    pick         text,
    PRIMARY KEY (tenant, name)
);

-- What a limit_key allows.
CREATE TABLE tenant_q.limit_key (
    tenant      text NOT NULL,
    key         text NOT NULL,
    max_running integer,
    rate        text,
    algorithm   text NOT NULL,
    PRIMARY KEY (tenant, key)
);

-- Which server this database ran on last: a logical copy comes up paused. timezone: what schedules of tenants
-- without a zone were last planned by.
CREATE TABLE tenant_q.identity (
    system_identifier text NOT NULL,
    database_oid      oid  NOT NULL,
    timezone          text
);

REVOKE ALL ON tenant_q.tenant, tenant_q.detached, tenant_q.handler, tenant_q.handler_state, tenant_q.handler_role, tenant_q.pause, tenant_q.queue, tenant_q.limit_key, tenant_q.identity FROM PUBLIC;

-- What keys of locks are hashed with, which everybody sees in pg_locks. Drawn by CREATE EXTENSION, in no dump, for its
-- owner's eyes only.
CREATE TABLE tenant_q.secret (
    id     smallint PRIMARY KEY CHECK (id OPERATOR(pg_catalog.=) 1),
    first  uuid     NOT NULL,
    second uuid     NOT NULL
);

REVOKE ALL ON tenant_q.secret FROM PUBLIC;
INSERT INTO tenant_q.secret VALUES (1, pg_catalog.gen_random_uuid(), pg_catalog.gen_random_uuid());

SELECT pg_catalog.pg_extension_config_dump('tenant_q.tenant', '');
SELECT pg_catalog.pg_extension_config_dump('tenant_q.detached', '');
SELECT pg_catalog.pg_extension_config_dump('tenant_q.handler', '');
SELECT pg_catalog.pg_extension_config_dump('tenant_q.handler_state', '');
SELECT pg_catalog.pg_extension_config_dump('tenant_q.pause', '');
SELECT pg_catalog.pg_extension_config_dump('tenant_q.queue', '');
SELECT pg_catalog.pg_extension_config_dump('tenant_q.limit_key', '');
SELECT pg_catalog.pg_extension_config_dump('tenant_q.identity', '');
