-- Tables that cause tasks.

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

REVOKE ALL ON tenant_q.table_listener FROM PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('tenant_q.table_listener', '');

CREATE FUNCTION @extschema@.tq_listen_table(relation regclass, handler text, events text[] DEFAULT '{insert,update,delete}', only_if text DEFAULT NULL, each text DEFAULT 'row',
    task jsonb DEFAULT NULL, tenant text DEFAULT NULL) RETURNS void
LANGUAGE c AS 'MODULE_PATHNAME', 'tq_listen_table';
COMMENT ON FUNCTION @extschema@.tq_listen_table(regclass, text, text[], text, text, jsonb, text) IS
'Enqueues a task of the handler whenever the table changes: in the transaction that changes it, exactly once. Listening again with the same handler replaces; as it is, it touches nothing.
The triggers call a function tq_listen_... of the table''s schema that does nothing without the extension: a dump of the schema restores anywhere.
Whoever may change the table causes the task; it is enqueued with the right of the table''s owner.
Parameters:
  relation: the table
  handler: what its tasks call
  events: of insert, update, delete, truncate
  only_if: the WHEN condition of the trigger, about OLD and NEW; with each => ''row'' only. Names in it are looked up in pg_catalog and in what the table''s owner owns of the tenant''s search_path and the table''s schema; it may use nothing that belongs to a lesser role
  each: ''row'' = a task a row, args {"event", "table", "old", "new"} | ''statement'' = a task for up to 1,000 rows of a statement, args {"event", "table", "rows": [{"old", "new"}]}; none for a statement that changes no row. A truncate has no rows
  task: an object with other parameters of tq_async; with unique_key many changes are one task, which begins after they have committed, and no writer waits for another (on_conflict ''skip'', the default here)
  tenant: NULL = the first schema of search_path
Errors:
  42501: not the table''s owner, its owner may not enqueue, or only_if uses what a lesser role than the table''s owner owns
  42809: not a table
  42704: handler not registered
  22023: a value that makes no sense
  42601, 42703: only_if is no condition; and others, as PostgreSQL raises them
  55P03: as of tq_detach
Example: SELECT tq_listen_table(''orders'', ''order_changed'', only_if => ''NEW.total > 100'', events => ''{insert,update}'');';

CREATE FUNCTION @extschema@.tq_unlisten_table(relation regclass, handler text, tenant text DEFAULT NULL) RETURNS boolean
LANGUAGE c AS 'MODULE_PATHNAME', 'tq_unlisten_table';
COMMENT ON FUNCTION @extschema@.tq_unlisten_table(regclass, text, text) IS
'Undoes tq_listen_table; tasks enqueued already stay. False = nothing to undo.
Parameters:
  relation: the table
  handler: as tq_listen_table was told
  tenant: NULL = the first schema of search_path
Errors:
  42501: not the table''s owner
  55P03: as of tq_detach
Example: SELECT tq_unlisten_table(''orders'', ''order_changed'');';

CREATE FUNCTION tenant_q.table_changed() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_q_table_changed';
COMMENT ON FUNCTION tenant_q.table_changed() IS 'the trigger behind tq_listen_table';

-- Immutable, so that it is asked when a condition is prepared: before anything of it is folded or run.
CREATE FUNCTION tenant_q.condition_is_trusted(relation regclass, listener uuid) RETURNS boolean
LANGUAGE c IMMUTABLE STRICT AS 'MODULE_PATHNAME', 'tenant_q_condition_is_trusted';
COMMENT ON FUNCTION tenant_q.condition_is_trusted(regclass, uuid) IS 'in front of conditions of tq_listen_table that use more than pg_catalog: 42501 where a lesser role than the table''s owner owns what they use';

CREATE FUNCTION tenant_q.disable_untrusted_conditions() RETURNS integer
LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_q_disable_untrusted_conditions';
REVOKE ALL ON FUNCTION tenant_q.disable_untrusted_conditions() FROM PUBLIC;
COMMENT ON FUNCTION tenant_q.disable_untrusted_conditions() IS 'disables the triggers of tq_listen_table whose condition uses what a lesser role than the table''s owner owns; how many. For updates from 0.1.0, which looked names of a superuser''s condition up in the tenant''s schema';

CREATE FUNCTION tenant_q.renew_table_listeners() RETURNS integer
LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_q_renew_table_listeners';
REVOKE ALL ON FUNCTION tenant_q.renew_table_listeners() FROM PUBLIC;
COMMENT ON FUNCTION tenant_q.renew_table_listeners() IS 'makes triggers of tq_listen_table anew that call the extension itself, so that a dump of their schema restores without it; of how many listeners. For updates from 0.1.0';
