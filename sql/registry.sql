-- The extension's own schema and tables. Plain CREATE throughout: nothing of anybody's is adopted.

CREATE SCHEMA tenant_q;
REVOKE ALL ON SCHEMA tenant_q FROM PUBLIC;
GRANT USAGE ON SCHEMA tenant_q TO PUBLIC;
COMMENT ON SCHEMA tenant_q IS 'internals of the extension tenant_q; the public surface are the functions and views tq_*';

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

REVOKE ALL ON tenant_q.tenant, tenant_q.detached, tenant_q.handler, tenant_q.handler_state, tenant_q.pause, tenant_q.queue, tenant_q.limit_key, tenant_q.identity FROM PUBLIC;

-- What keys of locks are hashed with, which everybody sees in pg_locks. Drawn by CREATE EXTENSION, in no dump, for its
-- owner's eyes only.
CREATE TABLE tenant_q.secret (
    id     smallint PRIMARY KEY CHECK (id = 1),
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
