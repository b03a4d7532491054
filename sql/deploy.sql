-- What a deploy declares.

CREATE FUNCTION @extschema@.tq_register_many(doc jsonb, prune boolean DEFAULT false, tenant text DEFAULT NULL) RETURNS integer
LANGUAGE c AS 'MODULE_PATHNAME', 'tq_register_many';
COMMENT ON FUNCTION @extschema@.tq_register_many(jsonb, boolean, text) IS
'What a deploy declares: handlers and schedules, all or none. Returns how many were new or changed, or were pruned; what is so already isn''t written. Several processes may declare the same at once.
What it has made it keeps in mind, until somebody changes that by hand. Only such handlers and schedules are pruned, and of those only what the same role has declared last: never what somebody has registered by hand, nor what another application''s deploy has. Handlers of all tenants are pruned where doc has one of all tenants.
Parameters:
  doc: {"handlers": [...], "schedules": [...]}. A handler''s keys are parameters of tq_register, a schedule''s those of tq_schedule; which of the two is left out stays as it is
  prune: true = what it has declared before, and is not in these lists any more, goes
  tenant: NULL = the first schema of search_path; it is not asked for where all handlers are shared
Errors:
  as tq_register: with the place of the handler; as tq_schedule: with the place of the schedule
  22004: doc is NULL
  22023: an unknown key, with the nearest one, or a name twice
  2BP01: what is to be pruned listens to something, or a schedule comes after it
Example: SELECT tq_register_many(''{"handlers": [{"handler": "app.tasks.mail", "external": true}], "schedules": [{"name": "digest", "handler": "app.tasks.mail", "rule": "0 7 * * *"}]}'', prune => true);';
