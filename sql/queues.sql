-- What queues and limit keys of a tenant allow.

CREATE FUNCTION @extschema@.tq_set_queue(queue text, max_running integer DEFAULT NULL, rate text DEFAULT NULL, priority integer DEFAULT NULL, timeout interval DEFAULT NULL, max_attempts integer DEFAULT NULL, pick text DEFAULT NULL, reset text[] DEFAULT '{}', tenant text DEFAULT NULL) RETURNS void
LANGUAGE c AS 'MODULE_PATHNAME', 'tq_set_queue';
COMMENT ON FUNCTION @extschema@.tq_set_queue(text, integer, text, integer, interval, integer, text, text[], text) IS
'Sets a queue of the tenant up; NULL leaves as it is, names in reset go back to none. Queues need no set-up: one is there as soon as a task names it.
max_running: tasks of it at a time. rate: starts, ''10/m'', ''100/h'', ''5/10s''. priority, timeout, max_attempts: for tasks of it that neither say it themselves nor by their handler. pick: priority, the default: its tasks are in the tenant''s common order of priority, due time and id. round_robin: the queue has that order for itself and takes turns with the common one and with other such queues, one task each, so that nobody''s urgent flood keeps it from running; random: its place among them is drawn each time.
Errors: 42501 not the owner, 22023 a value that makes no sense, 54000 more than 1,000 queues set up. Example: SELECT tq_set_queue(''reports'', max_running => 2, rate => ''100/h'', pick => ''round_robin'');';

CREATE FUNCTION @extschema@.tq_set_limit(limit_key text, max_running integer DEFAULT NULL, rate text DEFAULT NULL, algorithm text DEFAULT 'bucket', reset text[] DEFAULT '{}', tenant text DEFAULT NULL) RETURNS void
LANGUAGE c AS 'MODULE_PATHNAME', 'tq_set_limit';
COMMENT ON FUNCTION @extschema@.tq_set_limit(text, integer, text, text, text[], text) IS
'What tasks with this limit_key may do, whatever their handlers; NULL leaves as it is, names in reset go back to none.
max_running: at a time. rate: starts, ''10/m''. algorithm, said by each call: bucket lets a burst of the whole number through and then one after the other evenly; window counts in fixed windows of time. Rates are counted anew after a restart of the server.
Errors: 42501 not the owner, 22023 a value that makes no sense, 54000 more than 10,000 limits. Example: SELECT tq_set_limit(''smtp'', max_running => 3, rate => ''60/m'');';
