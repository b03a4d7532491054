-- Who may do what in a tenant; fresh executors. tq_grant and tq_revoke read the caller's search_path: no SET clause.

CREATE FUNCTION @extschema@.tq_grant(role text, rights text[], tenant text DEFAULT NULL) RETURNS void
LANGUAGE c AS 'MODULE_PATHNAME', 'tq_grant';
COMMENT ON FUNCTION @extschema@.tq_grant(text, text[], text) IS
'Gives a role rights in a tenant, with USAGE on its schema, as its owner''s own GRANTs. role: the bare name of an existing role. rights: of enqueue (tq_async and kin), read (results, tasks, schedules, arguments included), operate (cancel, requeue, update, delete; schedules), work (run its tasks in an own session; those tasks run as the handler''s role). tenant: NULL = the first schema of search_path. Needs to be the schema''s owner.
Errors: 42501 not the owner, 42704 no such role, 22023 no such right. Example: SELECT tq_grant(''app'', ''{enqueue,read}'', tenant => ''acme'');';

CREATE FUNCTION @extschema@.tq_revoke(role text, rights text[], tenant text DEFAULT NULL) RETURNS void
LANGUAGE c AS 'MODULE_PATHNAME', 'tq_revoke';
COMMENT ON FUNCTION @extschema@.tq_revoke(text, text[], text) IS
'Takes rights from a role that tq_grant gave it: role, rights and tenant as there. USAGE on the schema stays: other things in it may need it.
Errors: 42501 not the owner, 42704 no such role, 22023 no such right. Example: SELECT tq_revoke(''app'', ''{read}'', tenant => ''acme'');';

CREATE FUNCTION @extschema@.tq_recycle() RETURNS integer
LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tq_recycle';
COMMENT ON FUNCTION @extschema@.tq_recycle() IS
'Replaces the executors of this database by fresh processes, each when its present task has ended; how many. For code that an interpreter has loaded: after a deploy of Python or Perl modules.
EXECUTE is granted to nobody by default. Example: SELECT tq_recycle();';
REVOKE ALL ON FUNCTION @extschema@.tq_recycle() FROM PUBLIC;
