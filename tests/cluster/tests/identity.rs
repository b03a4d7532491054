//! Who a handler is, where it is, and what it finds of its predecessors: itself, its schema, nothing.

use cluster::Cluster;

use crate::site::{DB, Site};

/// `note(k)` writes down who runs it; SECURITY INVOKER, in a schema that all share.
const NOTES: &str = "
    CREATE FUNCTION public.note(k text) RETURNS boolean LANGUAGE plpgsql AS
        $$ BEGIN INSERT INTO public.fx (tenant, k) VALUES (current_schema(), k); RETURN true; END $$;
    CREATE FUNCTION public.note_row() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM public.note(TG_ARGV[0]); RETURN NULL; END $$;";

fn who(cluster: &Cluster, k: &str) -> String {
    cluster.value(DB, &format!("SELECT string_agg(concat_ws(' ', tenant, who, sess, su, path), '; ') FROM fx WHERE k = '{k}'"))
}

const T1: &str = "t1 t1 t1 off t1, public, pg_temp";

#[test]
fn a_handler_is_its_role_and_stays_it() {
    // One executor: what a task leaves behind would reach the next.
    let site = Site::start("tenant_q.max_executors = 1\n", &["t1", "t2"]);
    site.cluster
        .run(DB, &format!("{NOTES} CREATE ROLE low; GRANT low TO t1; GRANT USAGE ON SCHEMA t1 TO low; CREATE ROLE other SUPERUSER"));
    site.run(
        "t1",
        r#"
        CREATE TABLE tried (attempt text, outcome text, now text);
        GRANT ALL ON tried TO PUBLIC;
        CREATE FUNCTION escape(launcher integer) RETURNS void LANGUAGE plpgsql AS $f$
            DECLARE attempt text; outcome text;
            BEGIN
                FOREACH attempt IN ARRAY ARRAY[
                    'RESET ROLE', 'SET ROLE NONE', 'SET ROLE postgres', 'SET LOCAL ROLE postgres', 'SET ROLE t2', 'SET ROLE other',
                    'SET SESSION AUTHORIZATION postgres', 'SET SESSION AUTHORIZATION DEFAULT', 'RESET SESSION AUTHORIZATION', 'SET SESSION AUTHORIZATION t2',
                    'SELECT set_config(''role'', ''postgres'', false)', 'SELECT set_config(''session_authorization'', ''postgres'', false)',
                    'RESET ALL', 'DISCARD ALL', 'LOAD ''dblink''', 'CREATE FUNCTION evil() RETURNS void LANGUAGE c AS ''tenant_q'', ''x''',
                    'COPY tried TO PROGRAM ''cat''', 'SELECT pg_read_file(''PG_VERSION'')', 'ALTER SYSTEM SET port = 1', 'ALTER ROLE t1 SUPERUSER',
                    'SELECT pg_terminate_backend(' || launcher || ')',
                    'UPDATE tenant_q.tenant SET weight = 1000', 'DELETE FROM tenant_q.handler', 'SELECT count(*) FROM t2.tq_task']
                LOOP
                    BEGIN
                        EXECUTE attempt;
                        outcome := 'ok';
                    EXCEPTION WHEN OTHERS THEN
                        outcome := SQLSTATE;
                    END;
                    INSERT INTO t1.tried VALUES (attempt, outcome, concat_ws(' ', current_user, session_user, current_setting('is_superuser')));
                END LOOP;
            END $f$;
        SELECT tq_register('escape');
        SELECT tq_register('note', 'note(text)')"#,
    );
    let launcher = site.cluster.pids("tenant_q launcher")[0];
    let id = site.enqueue("t1", "escape", &format!("[{launcher}]"), "");
    site.wait_ended("t1", &id, 'd');
    assert!(site.number("SELECT count(*) FROM t1.tried") >= 24);
    let gained = site.cluster.rows(DB, "SELECT * FROM t1.tried WHERE now <> 't1 t1 off'");
    assert!(gained.is_empty(), "{gained:?}");
    let done = site.cluster.value(DB, "SELECT string_agg(attempt, '; ') FROM t1.tried WHERE outcome = 'ok' AND attempt !~ '^(RESET|SET ROLE NONE|SET SESSION AUTHORIZATION DEFAULT)'");
    assert_eq!(done, "", "what t1 may not do anywhere");
    let id = site.enqueue("t1", "note", r#"["after the escape"]"#, "");
    site.wait_ended("t1", &id, 'd');
    assert_eq!(who(&site.cluster, "after the escape"), T1);

    // What it may do, and doesn't undo: the next task is t1 all the same, its completion is recorded.
    site.run(
        "t1",
        "CREATE FUNCTION lower_role() RETURNS void LANGUAGE plpgsql AS $$ BEGIN SET ROLE low; PERFORM public.note('as low'); END $$;
         SELECT tq_register('lower_role'); SELECT tq_async('lower_role'); SELECT tq_async('note', '[\"after low\"]')",
    );
    site.wait_idle(&["t1"]);
    assert_eq!(site.number("SELECT count(*) FROM fx WHERE k = 'as low' AND who = 'low' AND sess = 't1'"), 1);
    assert_eq!(who(&site.cluster, "after low"), T1);
    assert_eq!(site.number("SELECT count(*) FROM t1.tq_result WHERE state <> 'd'"), 0);
    site.assert_alive("t2");
    site.cluster.assert_log_clean();
    assert_eq!(site.cluster.pids("tenant_q launcher"), [launcher]);
}

#[test]
fn what_is_deferred_to_the_commit_runs_as_the_tenant_in_its_schema() {
    let site = Site::start("tenant_q.max_executors = 1\n", &["t1", "t2"]);
    site.cluster.run(DB, NOTES);
    site.run(
        "t1",
        "CREATE TABLE d (n int);
         CREATE CONSTRAINT TRIGGER d AFTER INSERT ON d DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION note_row('trigger');
         CREATE FUNCTION deferring() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
             INSERT INTO d VALUES (1);
             EXECUTE 'DECLARE c CURSOR WITH HOLD FOR SELECT public.note(''held cursor'')';
             SET search_path = pg_catalog; END $$;
         CREATE TABLE parent (id int PRIMARY KEY);
         CREATE TABLE child (id int REFERENCES parent DEFERRABLE INITIALLY DEFERRED);
         CREATE FUNCTION orphan() RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM ok('orphan'); INSERT INTO child VALUES (7); END $$;
         CREATE FUNCTION cursors() RETURNS bigint LANGUAGE sql AS $$ SELECT count(*) FROM pg_cursors WHERE name = 'c' $$;
         SELECT tq_register(h, max_attempts => 1) FROM unnest('{deferring,orphan,cursors}'::text[]) AS h",
    );
    let id = site.enqueue("t1", "deferring", "[]", "");
    site.wait_ended("t1", &id, 'd');
    for k in ["trigger", "held cursor"] {
        let found = who(&site.cluster, k);
        assert!(found.contains("t1 t1 off") && !found.contains(';'), "{k}: {found}");
    }
    assert_eq!(site.number("SELECT count(*) FROM fx WHERE su = 'on'"), 0);
    let id = site.enqueue("t1", "cursors", "[]", "");
    assert_eq!(site.value("t1", &format!("SELECT tq_result('{id}', '5 seconds')")), "0", "the cursor is gone");
    // A constraint that fails at the very end fails the attempt, with its own words.
    let id = site.enqueue("t1", "orphan", "[]", "");
    site.wait_ended("t1", &id, 'f');
    let error = site
        .cluster
        .value(DB, &format!("SELECT concat_ws(' ', error ->> 'sqlstate', error ->> 'message') FROM t1.tq_result WHERE id = '{id}'"));
    assert!(error.starts_with("23503") && error.contains("child_id_fkey"), "{error}");
    assert_eq!(site.number("SELECT count(*) FROM fx WHERE k = 'orphan'"), 0);
    assert_eq!(site.number("SELECT count(*) FROM t1.child"), 0);
    site.cluster.assert_log_clean();
}

#[test]
fn nothing_of_one_task_reaches_the_next() {
    let site = Site::start("tenant_q.max_executors = 1\n", &["t1"]);
    // A second tenant of the same owner: the same executor serves both.
    site.cluster.run(
        DB,
        &format!("{NOTES} CREATE SCHEMA t1b AUTHORIZATION t1; CREATE SEQUENCE public.s; GRANT ALL ON SEQUENCE public.s TO PUBLIC;"),
    );
    site.run(
        "t1",
        "SELECT tq_attach('t1b');
         CREATE FUNCTION litter() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
             SET work_mem = '77MB'; SET search_path = pg_catalog; PERFORM set_config('my.secret', 'x', false);
             SET TimeZone = 'Asia/Tokyo'; SET statement_timeout = '1ms';
             CREATE TEMP TABLE leftover (secret text); CREATE TEMP TABLE public_fx (n int);
             EXECUTE 'PREPARE prepared AS SELECT 1'; PERFORM pg_advisory_lock(42); PERFORM pg_advisory_lock_shared(43);
             BEGIN EXECUTE 'LISTEN channel'; EXCEPTION WHEN feature_not_supported THEN NULL; END; PERFORM nextval('public.s'); PERFORM setseed(0.5);
             EXECUTE 'DECLARE c CURSOR WITH HOLD FOR SELECT 1';
         END $$;
         CREATE FUNCTION public_look() RETURNS text LANGUAGE plpgsql AS $$ BEGIN
             RETURN concat_ws(' ', current_setting('work_mem'), current_setting('search_path'), coalesce(nullif(current_setting('my.secret', true), ''), '-'), current_setting('TimeZone'),
                 current_setting('statement_timeout'), (SELECT count(*) FROM pg_class WHERE relname IN ('leftover', 'public_fx')),
                 (SELECT count(*) FROM pg_prepared_statements), (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'),
                 (SELECT count(*) FROM pg_listening_channels()), (SELECT count(*) FROM pg_cursors WHERE name = 'c'), pg_backend_pid()); END $$;
         CREATE FUNCTION last() RETURNS bigint LANGUAGE sql AS $$ SELECT lastval() $$;
         SELECT tq_register('litter', 't1.litter()'); SELECT tq_register('look', 't1.public_look()'); SELECT tq_register('last', 't1.last()', max_attempts => 1);
         SELECT tq_register('look', 't1.public_look()', tenant => 't1b')",
    );
    let mut pids = Vec::new();
    for round in 0..2 {
        let id = site.enqueue("t1", "litter", "[]", "");
        site.wait_ended("t1", &id, 'd');
        for tenant in ["t1", "t1b"] {
            let id = site.enqueue("t1", "look", "[]", &format!(", tenant => '{tenant}'"));
            let seen = site.value("t1", &format!("SELECT tq_result('{id}', '10 seconds', tenant => '{tenant}') #>> '{{}}'"));
            let (seen, pid) = seen.rsplit_once(' ').expect("the process at the end");
            assert_eq!(seen, format!("4MB {tenant}, public, pg_temp - UTC 0 0 0 0 0 0"), "round {round}");
            pids.push(pid.to_owned());
        }
        let id = site.enqueue("t1", "last", "[]", "");
        site.wait_ended("t1", &id, 'f');
    }
    pids.dedup();
    assert_eq!(pids.len(), 1, "one process did it all: {pids:?}");
    site.cluster.assert_log_clean();
}
