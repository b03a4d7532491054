-- What CREATE EXTENSION makes: commented, owned, granted and qualified as it should be.
CREATE EXTENSION tenant_q;
CREATE TEMP VIEW routines AS
    SELECT p.*, n.nspname, p.oid::regprocedure::text AS signature FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace
     WHERE EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e' AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'tenant_q'));
-- The public surface
SELECT proname, pg_get_function_result(oid) AS result, provolatile AS volatile FROM routines WHERE nspname = 'public' ORDER BY 1;
SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'v' ORDER BY 1;
-- Everything has a comment; public functions and views an example.
SELECT signature FROM routines WHERE obj_description(oid, 'pg_proc') IS NULL;
SELECT signature FROM routines WHERE nspname = 'public' AND obj_description(oid, 'pg_proc') !~ 'Example: (SELECT|CALL|PERFORM|SET) ';
SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'v' AND coalesce(obj_description(oid, 'pg_class'), '') !~ 'Example: SELECT ';
-- So have columns of views, and of what calls answer; documents stand last, where they push nothing else out of sight.
SELECT c.oid::regclass, attname FROM pg_class c JOIN pg_attribute ON attrelid = c.oid
 WHERE (relnamespace = 'public'::regnamespace AND relkind = 'v' OR relnamespace = 'tenant_q'::regnamespace AND relkind = 'c')
   AND attnum > 0 AND NOT attisdropped AND col_description(c.oid, attnum) IS NULL ORDER BY 1, attnum;
SELECT c.oid::regclass, d.attname AS document, b.attname AS behind FROM pg_class c JOIN pg_attribute d ON d.attrelid = c.oid JOIN pg_attribute b ON b.attrelid = c.oid AND b.attnum > d.attnum
 WHERE relnamespace = 'public'::regnamespace AND relkind = 'v' AND relname <> 'tq_metrics' AND d.atttypid = 'jsonb'::regtype AND b.atttypid <> 'jsonb'::regtype ORDER BY 1, d.attnum;
-- A comment says what each parameter and each column means, in a line of its own or of several that mean the same: scripts/reference
-- reads it. A name that is no parameter has no line.
SELECT proname, arg FROM routines, unnest(proargnames) WITH ORDINALITY AS a (arg, n)
 WHERE nspname = 'public' AND coalesce(proargmodes[n], 'i') IN ('i', 't') AND obj_description(oid, 'pg_proc') !~ ('\n  ([a-z_]+, )*' || arg || '(, [a-z_]+)*: .') ORDER BY 1, 2;
SELECT proname, name FROM routines, regexp_matches(split_part(split_part(obj_description(oid, 'pg_proc'), E'\nErrors:', 1), E'\nExample:', 1), '\n  ([^:]+):', 'g') AS m, string_to_table(m[1], ', ') AS name
 WHERE nspname = 'public' AND name <> ALL (proargnames) ORDER BY 1, 2;
-- No overloads; no parameter whose name can't stand before =>; no smallint; required ones first, tenant last or first.
SELECT proname, count(*) FROM routines GROUP BY proname HAVING count(*) > 1;
SELECT proname, arg FROM routines, unnest(proargnames) arg JOIN pg_get_keywords() ON word = arg AND catcode IN ('R', 'T') ORDER BY 1, 2;
SELECT proname FROM routines WHERE 'int2'::regtype = ANY (proargtypes::oid[]);
SELECT proname FROM routines WHERE nspname = 'public' AND 'tenant' = ANY (proargnames[1:pronargs]) AND proargnames[1] <> 'tenant' AND proargnames[pronargs] <> 'tenant'
   AND proname <> 'tq_register'; -- Its params came later.
-- Nothing runs with its owner's rights, and everything pins search_path but what must read the caller's, or COMMIT.
SELECT signature FROM routines WHERE prosecdef;
SELECT proname FROM routines WHERE proconfig IS NULL ORDER BY 1;
SELECT DISTINCT proconfig FROM routines WHERE proconfig IS NOT NULL;
-- Bodies that are parsed under the caller's search_path name no type without its schema (but for keywords, which stand for pg_catalog's).
SELECT proname, m[1] AS type FROM pg_proc p JOIN pg_language l ON l.oid = prolang, regexp_matches(prosrc, '(?<![.\w"])(\w+)(?=(?:\[\])?\s*(?:,|\)|;|:=))', 'g') m
 WHERE p.oid IN (SELECT oid FROM routines) AND lanname IN ('sql', 'plpgsql') AND proconfig IS NULL
   AND m[1] IN (SELECT typname FROM pg_type WHERE typnamespace = 'pg_catalog'::regnamespace AND typname NOT IN ('interval', 'name')) ORDER BY 1, 2;
-- PUBLIC may not execute what is for administrators, nor what is internal and changes something.
SELECT proname FROM routines WHERE NOT has_function_privilege('public', oid, 'EXECUTE') ORDER BY 1;
-- Tables: nobody's but the owner's (who has MAINTAIN too, m, from PostgreSQL 17 on).
SELECT relname, relkind, replace(relacl::text, 'xtm/', 'xt/') AS relacl FROM pg_class WHERE relnamespace = 'tenant_q'::regnamespace AND relkind IN ('r', 'v', 'S') ORDER BY 1;
SELECT nspname, pg_get_userbyid(nspowner) = current_user AS own, nspacl FROM pg_namespace WHERE nspname = 'tenant_q';
SELECT count(*) FROM routines WHERE proowner <> (SELECT oid FROM pg_roles WHERE rolname = current_user);
-- Dumped with the database
SELECT array_agg(c::regclass ORDER BY c::regclass::text) FROM pg_extension, unnest(extconfig) c WHERE extname = 'tenant_q';
-- Tables of a tenant: three, with at most twenty relations, of built-in types, without anything that needs the extension.
CREATE SCHEMA acme;
SELECT tq_attach('acme');
SELECT relkind, count(*) FROM pg_class WHERE relnamespace = 'acme'::regnamespace GROUP BY relkind ORDER BY relkind;
SELECT attrelid::regclass, attname FROM pg_attribute WHERE attrelid IN ('acme.tq_task'::regclass, 'acme.tq_result'::regclass, 'acme.tq_schedule'::regclass) AND attnum > 0 AND atttypid >= 16384;
SELECT adrelid::regclass, pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid IN ('acme.tq_task'::regclass, 'acme.tq_result'::regclass, 'acme.tq_schedule'::regclass) ORDER BY 1, adnum;
-- The settings
SELECT name, setting, unit, context, vartype FROM pg_settings WHERE name LIKE 'tenant\_q.%' ORDER BY name;
SELECT name FROM pg_settings WHERE name LIKE 'tenant\_q.%' AND coalesce(short_desc, '') = '';
-- It goes without a trace, but for what is the tenants'.
DROP EXTENSION tenant_q;
SELECT count(*) FROM pg_class WHERE relnamespace = 'acme'::regnamespace AND relkind = 'r';
SELECT evtname FROM pg_event_trigger;
SELECT count(*) FROM pg_namespace WHERE nspname = 'tenant_q';
CREATE EXTENSION tenant_q;
SELECT tq_attach('acme', adopt => true);
-- Somebody else's schema of that name is not taken over.
DROP EXTENSION tenant_q;
CREATE SCHEMA tenant_q;
\set SHOW_CONTEXT never
CREATE EXTENSION tenant_q;
\echo :SQLSTATE
