-- Events: what else happens when something happens to a task.

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

REVOKE ALL ON tenant_q.listener FROM PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('tenant_q.listener', '');

CREATE FUNCTION @extschema@.tq_on(event text, handler text, for_handler text DEFAULT NULL, tenant text DEFAULT NULL) RETURNS uuid
LANGUAGE c AS 'MODULE_PATHNAME', 'tq_on';
COMMENT ON FUNCTION @extschema@.tq_on(text, text, text, text) IS
'Lets a handler listen to what happens to the tenant''s tasks; it gets the task as one jsonb document, as tq_tasks shows it, with the event''s name under "event". Doing it again changes nothing. Returns the listener''s id. Tasks of a handler that listens fire no events.
Parameters:
  event: called at once, inside the transaction: enqueue (in a session of the listener''s role in the statement that enqueues, in a sandbox: false refuses the task with TQ005, an error passes through; for everybody else before the task runs, by an executor of that role: false ends it as cancelled) | before_run (as the task''s role; false ends the task as cancelled) | after_run (an error fails the attempt); as tasks of their own, enqueued with what they tell: attempt_failed | retry | failed | done | cancelled | expired | schedule_fired
  handler: what is called
  for_handler: tasks of that handler only; tq_group, tq_chain or tq_async_iter: such flows
  tenant: NULL = the first schema of search_path
Errors:
  22023: unknown event, or a handler that doesn''t take the document
  42704: handler not registered
  42501: not the schema''s owner
  54000: more than 1,000 listeners
  55P03: as of tq_detach
Example: SELECT tq_on(''failed'', ''tell_support'', for_handler => ''send_invoice'');';

CREATE FUNCTION @extschema@.tq_off(event text, handler text, tenant text DEFAULT NULL) RETURNS boolean
LANGUAGE c AS 'MODULE_PATHNAME', 'tq_off';
COMMENT ON FUNCTION @extschema@.tq_off(text, text, text) IS
'Undoes tq_on, for tasks of all handlers; tasks enqueued already stay. False = nothing to undo.
Parameters:
  event: as tq_on was told
  handler: as tq_on was told
  tenant: NULL = the first schema of search_path
Errors:
  22023: unknown event
  42501: not the schema''s owner
  55P03: as of tq_detach
Example: SELECT tq_off(''failed'', ''tell_support'');';

CREATE FUNCTION tenant_q.events(tenant text DEFAULT NULL) RETURNS jsonb
LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'tenant_q_events';
COMMENT ON FUNCTION tenant_q.events(text) IS 'behind the view tq_events';
CREATE VIEW @extschema@.tq_events AS
    SELECT x.events, x.relation, x.for_handler, x.handler, x.status, x.how, x.each, x.created_by, x.only_if, x.task
      FROM pg_catalog.jsonb_to_recordset(tenant_q.events()) AS x(events text[], relation text, for_handler text, handler text, status text, how text, each text, only_if text, task jsonb, created_by text);
COMMENT ON VIEW @extschema@.tq_events IS
'What the current tenant''s handlers listen to: events of tasks (tq_on) and changes of tables (tq_listen_table).
Example: SELECT * FROM tq_events;';
COMMENT ON COLUMN @extschema@.tq_events.events IS 'of tasks: failed, done and others; of a table: insert, update, delete, truncate';
COMMENT ON COLUMN @extschema@.tq_events.relation IS 'the table; NULL = events of tasks';
COMMENT ON COLUMN @extschema@.tq_events.for_handler IS 'whose tasks; NULL = of all handlers';
COMMENT ON COLUMN @extschema@.tq_events.handler IS 'what is called';
COMMENT ON COLUMN @extschema@.tq_events.status IS 'ok | missing | changed';
COMMENT ON COLUMN @extschema@.tq_events.how IS 'call = inside the transaction, task = a task of its own';
COMMENT ON COLUMN @extschema@.tq_events.each IS 'row | statement, of a table';
COMMENT ON COLUMN @extschema@.tq_events.created_by IS 'who has asked for it';
COMMENT ON COLUMN @extschema@.tq_events.only_if IS 'the condition, of a table; only for whoever may read the tenant''s tasks';
COMMENT ON COLUMN @extschema@.tq_events.task IS 'parameters of the tasks; only for whoever may read the tenant''s tasks';
GRANT SELECT ON @extschema@.tq_events TO PUBLIC;
