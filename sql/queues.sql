-- What queues and limit keys of a tenant allow.

CREATE FUNCTION @extschema@.tq_set_queue(queue text, max_running integer DEFAULT NULL, rate text DEFAULT NULL, priority integer DEFAULT NULL, timeout interval DEFAULT NULL, max_attempts integer DEFAULT NULL, pick text DEFAULT NULL, reset text[] DEFAULT '{}', tenant text DEFAULT NULL) RETURNS void
LANGUAGE c AS 'MODULE_PATHNAME', 'tq_set_queue';
COMMENT ON FUNCTION @extschema@.tq_set_queue(text, integer, text, integer, interval, integer, text, text[], text) IS
'Sets a queue of the tenant up. Of each parameter NULL leaves it as it is. Queues need no set-up: one is there as soon as a task names it.
Parameters:
  queue: its name
  max_running: of its tasks at a time
  rate: starts of its tasks, ''10/m'', ''100/h'', ''5/10s'': a bucket, which lets a burst of the whole number through and then one after the other evenly, so nearly twice as many where a burst meets the next | ''5/s window'': so many in each stretch of the clock | ''5/s sliding'': in any stretch of that length
  priority: of its tasks, where neither they nor their handler say
  timeout: of an attempt, where neither the task nor its handler say
  max_attempts: of its tasks, where neither they nor their handler say
  pick: priority, the default: its tasks are in the tenant''s common order of priority, due time and id | round_robin: the queue has that order for itself and takes turns with the common one and with other such queues, one task each, so that nobody''s urgent flood keeps it from running | random: its place among them is drawn each time
  reset: names of these that go back to none
  tenant: NULL = the first schema of search_path
Errors:
  42501: not the owner
  22023: a value that makes no sense
  54000: more than 1,000 queues set up
  55P03: as of tq_detach
Example: SELECT tq_set_queue(''reports'', max_running => 2, rate => ''100/h'', pick => ''round_robin'');';

CREATE FUNCTION @extschema@.tq_set_limit(limit_key text, max_running integer DEFAULT NULL, rate text DEFAULT NULL, algorithm text DEFAULT 'bucket', reset text[] DEFAULT '{}', tenant text DEFAULT NULL) RETURNS void
LANGUAGE c AS 'MODULE_PATHNAME', 'tq_set_limit';
COMMENT ON FUNCTION @extschema@.tq_set_limit(text, integer, text, text, text[], text) IS
'What tasks with this limit_key may do, whatever their handlers. Of each parameter NULL leaves it as it is. Rates are counted anew after a restart of the server.
Parameters:
  limit_key: as in tq_async
  max_running: at a time
  rate: starts, ''10/m'', or ''10/m window'' with its algorithm, as in tq_register
  algorithm: said by each call where the rate doesn''t: bucket lets a burst of the whole number through and then one after the other evenly | window counts in fixed windows of time | sliding lets no more start in any stretch of that length, and counts a start up to a sixteenth of it too long. The first two may see almost twice as many where a burst meets the next
  reset: names of these that go back to none
  tenant: NULL = the first schema of search_path
Errors:
  42501: not the owner
  22023: a value that makes no sense
  54000: more than 10,000 limits
  55P03: as of tq_detach
Example: SELECT tq_set_limit(''smtp'', max_running => 3, rate => ''60/m'');';
