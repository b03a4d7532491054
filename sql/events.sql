-- Events: what else happens when something happens.

-- Listeners of events, by tenant. for_handler: '' = tasks of any.
CREATE TABLE tenant_q.listener (
    tenant       text        NOT NULL,
    event        text        NOT NULL,
    handler      text        NOT NULL,
    for_handler  text        NOT NULL,
    id           uuid        NOT NULL,
    by_superuser boolean     NOT NULL,
    created_by   text        NOT NULL,
    created_at   timestamptz NOT NULL,
    PRIMARY KEY (tenant, event, handler, for_handler)
);

-- Listeners of tables: what the triggers tenant_q.table_changed(id) are for. relation_oid is another one after a restore; then its owner's name tells.
CREATE TABLE tenant_q.table_listener (
    id           uuid        PRIMARY KEY,
    tenant       text        NOT NULL,
    relation     text        NOT NULL,
    relation_oid oid         NOT NULL,
    owner        text        NOT NULL,
    handler      text        NOT NULL,
    events       text[]      NOT NULL,
    each         text        NOT NULL,
    only_if      text,
    task         jsonb,
    by_superuser boolean     NOT NULL,
    created_by   text        NOT NULL,
    created_at   timestamptz NOT NULL
);

REVOKE ALL ON tenant_q.listener, tenant_q.table_listener FROM PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('tenant_q.listener', '');
SELECT pg_catalog.pg_extension_config_dump('tenant_q.table_listener', '');

CREATE FUNCTION @extschema@.tq_listen_table(relation regclass, handler text, events text[] DEFAULT '{insert,update,delete}', only_if text DEFAULT NULL, each text DEFAULT 'row',
    task jsonb DEFAULT NULL, tenant text DEFAULT NULL) RETURNS void
LANGUAGE c AS 'MODULE_PATHNAME', 'tq_listen_table';
COMMENT ON FUNCTION @extschema@.tq_listen_table(regclass, text, text[], text, text, jsonb, text) IS
'Enqueues a task of the handler whenever the table changes: in the transaction that changes it, exactly once. Listening again with the same handler replaces.
events: of insert, update, delete, truncate. each: ''row'' = a task a row, args {"event", "table", "old", "new"}; ''statement'' = a task for up to 1,000 rows of a statement, args {"event", "table", "rows": [{"old", "new"}]}; none for a statement that changes no row. A truncate has no rows. only_if: the WHEN condition of the trigger, about OLD and NEW; each row only. task: an object with other parameters of tq_async.
Whoever may change the table causes the task; it is enqueued with the right of the table''s owner.
Errors: 42501 not the table''s owner, or its owner may not enqueue; 42809 not a table; 42704 handler not registered; 22023 a value that makes no sense, 42703 and kin for only_if.
Example: SELECT tq_listen_table(''orders'', ''order_changed'', only_if => ''NEW.total > 100'', events => ''{insert,update}'');';

CREATE FUNCTION @extschema@.tq_unlisten_table(relation regclass, handler text, tenant text DEFAULT NULL) RETURNS boolean
LANGUAGE c AS 'MODULE_PATHNAME', 'tq_unlisten_table';
COMMENT ON FUNCTION @extschema@.tq_unlisten_table(regclass, text, text) IS 'Undoes tq_listen_table; tasks enqueued already stay. False = nothing to undo. Errors: 42501 not the table''s owner. Example: SELECT tq_unlisten_table(''orders'', ''order_changed'');';

CREATE FUNCTION tenant_q.table_changed() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_q_table_changed';
COMMENT ON FUNCTION tenant_q.table_changed() IS 'the trigger behind tq_listen_table';
