//! What an owner does to the queue's tables: what can neither run code nor break the engine's writing is theirs to do, and
//! everything else is refused with a statement that mends it.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::site::{DB, Site};

/// Every btree index of these tables that can be checked has an entry for each row: where the server has contrib.
fn check_indexes(site: &Site, schema: &str) {
    if site.cluster.value(DB, "SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'amcheck')") == "f" {
        return;
    }
    site.cluster.run(
        DB,
        &format!(
            "CREATE EXTENSION IF NOT EXISTS amcheck;
             SELECT bt_index_check(indexrelid, true) FROM pg_index JOIN pg_class c ON c.oid = indexrelid
              WHERE relnamespace = '{schema}'::regnamespace AND relam = 403 AND indisvalid AND indisready"
        ),
    );
}

#[test]
fn what_an_owner_adds_to_the_tables_is_kept_and_stops_nothing() {
    let site = Site::start("", &["t1"]);
    site.run(
        "t1",
        "SELECT tq_async('ok', '[\"old\"]', delay => '0.5 seconds', name => 'old');
         ALTER TABLE tq_task ADD COLUMN gone int, ADD COLUMN note text DEFAULT 'x', ADD COLUMN n int; ALTER TABLE tq_task DROP COLUMN gone;
         ALTER TABLE tq_result ADD COLUMN note text; ALTER TABLE tq_schedule ADD COLUMN note text, ALTER created_by SET NOT NULL;
         CREATE INDEX ON tq_task (handler); CREATE INDEX ON tq_task USING hash (handler); CREATE INDEX ON tq_task (id) INCLUDE (handler, n);
         CREATE INDEX ON tq_task (state, priority, run_at, id); CREATE INDEX ON tq_task (name); CREATE INDEX ON tq_task (unique_key text_pattern_ops);
         CREATE INDEX ON tq_task (note); CREATE INDEX ON tq_result (finished_at, handler); CREATE INDEX ON tq_result (id, handler, state, priority, attempts, crashes, created_at, run_at, name);
         CREATE INDEX ON tq_schedule (name DESC);
         CREATE TABLE mine (task uuid REFERENCES tq_result ON DELETE CASCADE);
         CREATE TABLE waiting (task uuid REFERENCES tq_task)",
    );
    // Picked by the index that has the right order, completed, retried, found by name.
    site.cluster.run(DB, "UPDATE t1.tq_task SET note = 'kept' WHERE name = 'old'");
    site.run("t1", "SELECT tq_pause()");
    for k in 0..30 {
        site.enqueue("t1", "ok", &format!("[\"{k}\"]"), &format!(", priority => {}, unique_key => 'u{k}', name => 'n{k}'", k % 3));
    }
    site.enqueue("t1", "bad", "[\"bad\"]", ", max_attempts => 5, retry => tq_backoff('fixed', '1 hour'), name => 'bad'");
    let again = site.enqueue("t1", "bad", "[\"again\"]", ", max_attempts => 1");
    site.run("t1", "SELECT tq_resume(); SELECT tq_schedule('s', 'ok', 'once', '[\"scheduled\"]')");
    site.cluster.wait_until(DB, "SELECT count(*) = 1 FROM t1.tq_task WHERE attempts = 1");
    site.cluster.wait_until(DB, "SELECT count(*) = 32 FROM t1.tq_result WHERE state = 'd'");
    site.wait_ended("t1", &again, 'f');
    assert_eq!(site.value("t1", "SELECT state FROM tq_tasks WHERE name = 'bad'"), "retrying");
    assert_eq!(site.value("t1", "SELECT count(*) FROM tq_result WHERE name IN ('old', 'n1', 'n2')"), "3");
    // An update keeps what is theirs; what leaves and comes back is new.
    site.run("t1", "UPDATE tq_task SET note = 'mine', n = 7 WHERE name = 'bad'");
    let bad = site.value("t1", "SELECT id FROM tq_task WHERE name = 'bad'");
    site.run("t1", &format!("SELECT tq_update('{bad}', priority => 9, run_at => now() + interval '2 hours')"));
    assert_eq!(site.value("t1", "SELECT note || n || priority FROM tq_task WHERE name = 'bad'"), "mine79");
    site.run("t1", &format!("SELECT tq_requeue('{again}')"));
    let ended = format!("SELECT EXISTS (SELECT FROM t1.tq_result WHERE id = '{again}' AND attempts IN (1, 2))");
    site.cluster.wait_until(DB, &ended);
    check_indexes(&site, "t1");
    site.assert_once(32);
    // Deletions don't ask who refers to the rows; tq_problems says so, and the call that it names ends it.
    site.run("t1", &format!("INSERT INTO mine VALUES ('{again}'); INSERT INTO waiting VALUES ('{bad}')"));
    site.run("t1", "SELECT tq_purge(older_than => '0 seconds', states => '{failed}')");
    assert_eq!(site.value("t1", "SELECT count(*) FROM mine"), "1");
    let fixes = site.cluster.rows_as("t1", DB, "SELECT fix FROM tq_problems WHERE what ~ '^foreign key' ORDER BY 1");
    assert_eq!(fixes.len(), 2);
    for fix in &fixes {
        site.run("t1", fix.get(0));
    }
    assert_eq!(site.number("SELECT count(*) FROM tq_problems"), 0);
    site.cluster.assert_log_clean();
}

#[test]
fn each_hint_about_a_tables_shape_leads_out() {
    let site = Site::start("", &["t1"]);
    site.run(
        "t1",
        "CREATE FUNCTION f(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT $1';
         CREATE FUNCTION tr() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; CREATE TABLE other (id uuid PRIMARY KEY)",
    );
    for statement in [
        "CREATE INDEX z ON tq_task (f(handler))",
        "CREATE INDEX z ON tq_result (handler) WHERE state = 'd'",
        "CREATE UNIQUE INDEX z ON tq_task (handler, id)",
        "CREATE INDEX \"Z z\" ON tq_task USING gin (args)",
        "CREATE INDEX z ON tq_schedule USING brin (next_run)",
        "ALTER TABLE tq_task ADD CONSTRAINT z UNIQUE (id, name)",
        "ALTER TABLE tq_task ADD CONSTRAINT z EXCLUDE USING btree (id WITH =)",
        "DROP INDEX tq_task_pick",
        "DROP INDEX tq_result_name; CREATE INDEX tq_result_name ON tq_result (name DESC) WHERE name IS NOT NULL",
        "ALTER TABLE tq_schedule DROP CONSTRAINT tq_schedule_pkey",
        "ALTER TABLE tq_task ADD COLUMN g int GENERATED ALWAYS AS (attempts + 1) STORED",
        "ALTER TABLE tq_task ADD COLUMN g int GENERATED ALWAYS AS IDENTITY",
        "ALTER TABLE tq_result ADD COLUMN g int NOT NULL DEFAULT 1",
        "ALTER TABLE tq_task ALTER name SET NOT NULL",
        "ALTER TABLE tq_task ALTER handler DROP NOT NULL",
        "ALTER TABLE tq_task RENAME handler TO task",
        "ALTER TABLE tq_task ALTER attempts TYPE bigint",
        "ALTER TABLE tq_task ALTER args TYPE json",
        "CREATE TRIGGER z AFTER INSERT ON tq_result FOR EACH ROW EXECUTE FUNCTION tr()",
        "ALTER TABLE tq_task ADD CONSTRAINT z FOREIGN KEY (parent_id) REFERENCES other",
        "ALTER TABLE tq_task ENABLE ROW LEVEL SECURITY",
        "ALTER TABLE tq_result SET UNLOGGED",
        "CREATE RULE \"z z\" AS ON INSERT TO tq_task DO ALSO NOTIFY z",
        "CREATE TABLE child () INHERITS (tq_result)",
        "ALTER TABLE tq_result DROP COLUMN meta",
    ] {
        site.run("t1", statement);
        let refused = site.cluster.try_run_as("t1", DB, "SELECT tq_async('ok', '[\"refused\"]')").expect_err(statement);
        assert_eq!(refused.code, "55000", "{statement}: {refused}");
        let hint = refused.hint.as_str();
        let statements = hint.strip_prefix("Save what you need of its rows; ").map_or(hint, |h| h.trim_end_matches(" makes it anew."));
        site.run("t1", statements);
        let id = site.enqueue("t1", "ok", "[\"alive\"]", "");
        site.wait_ended("t1", &id, 'd');
        assert_eq!(site.number("SELECT count(*) FROM tq_problems WHERE reason ~ 'is not as tq_attach'"), 0, "{statement}");
    }
    assert_eq!(site.number("SELECT count(*) FROM fx WHERE k = 'refused'"), 0);
    check_indexes(&site, "t1");
    site.cluster.assert_log_clean();
}

#[test]
fn indexes_are_built_anew_concurrently_beside_the_work() {
    let site = Site::start("", &["t1", "t2"]);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Work of all kinds goes on all the while, and none of it fails.
        let worker = scope.spawn(|| {
            let mut client = site.client("t1");
            let mut n = 0i64;
            while !over.load(Ordering::Relaxed) {
                let sql = format!(
                    "SELECT tq_async('ok', '[\"{n}\"]', unique_key => 'u{n}', name => 'n', group_id => 'g', priority => {});
                     SELECT tq_async('ok', '[\"later {n}\"]', delay => '0.2 seconds', name => 'later')",
                    n % 4
                );
                client.batch_execute(&sql).unwrap_or_else(|error| {
                    over.store(true, Ordering::Relaxed);
                    panic!("{error:?}")
                });
                n += 1;
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
            n
        });
        let mut old = site.client("postgres");
        for (schema, who) in [("t1", "t1"), ("tenant_q", "postgres")] {
            for table in ["tq_task", "tq_result"] {
                // Under an old snapshot it waits half-way, with indexes that are to be written and not to be read.
                old.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM pg_class LIMIT 1").expect("snapshot");
                let rebuild = format!("REINDEX TABLE CONCURRENTLY {schema}.{table}");
                let (cluster, statement) = (&site.cluster, rebuild.clone());
                let blocked = scope.spawn(move || cluster.try_run_as(who, DB, &statement));
                site.cluster
                    .wait_until(DB, "SELECT EXISTS (SELECT FROM pg_stat_progress_create_index WHERE phase = 'waiting for old snapshots')");
                // A process that looks for the first time, too.
                site.assert_alive("t2");
                site.assert_alive("t1");
                site.cluster.run(DB, "SELECT pg_cancel_backend(pid) FROM pg_stat_progress_create_index");
                assert_eq!(blocked.join().expect("a thread").expect_err("cancelled").code, "57014");
                old.batch_execute("COMMIT").expect("commit");
                assert!(
                    site.number(&format!("SELECT count(*) FROM pg_index WHERE NOT indisvalid AND indrelid = '{schema}.{table}'::regclass"))
                        > 0
                );
                site.assert_alive("t2");
                site.assert_alive("t1");
                // What is left over may stay or go.
                site.cluster.run_as(who, DB, &rebuild);
            }
        }
        site.run("t1", "CREATE INDEX CONCURRENTLY z ON tq_task (handler, run_at)");
        site.run("t1", "CREATE INDEX CONCURRENTLY z2 ON tq_result USING hash (id)");
        site.run("t1", "DROP INDEX CONCURRENTLY z");
        site.run("t1", "REINDEX INDEX CONCURRENTLY tq_task_pkey");
        over.store(true, Ordering::Relaxed);
        let n = worker.join().expect("all calls succeed");
        site.wait_idle(&["t1", "t2"]);
        site.assert_once(2 * n);
    });
    assert_eq!(
        site.number("SELECT count(*) FROM t1.tq_result WHERE state <> 'd' OR attempts <> 0"),
        site.number("SELECT count(*) FROM t1.tq_result WHERE attempts <> 0 AND state = 'd'")
    );
    check_indexes(&site, "t1");
    assert_eq!(site.number("SELECT count(*) FROM tq_problems"), 0);
    site.cluster.assert_log_clean();
}

/// The catalogs of Citus that say what is distributed, and the trigger that such tables get: Citus itself isn't to be had here.
const CITUS: &str = "
    SET allow_system_table_mods = on;
    CREATE TABLE pg_catalog.pg_dist_schema (schemaid oid PRIMARY KEY, colocationid integer);
    CREATE TABLE pg_catalog.pg_dist_partition (logicalrelid regclass NOT NULL, partmethod \"char\");
    CREATE FUNCTION pg_catalog.citus_truncate_trigger() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
    CREATE FUNCTION pg_catalog.citus_schema_undistribute(schemaname regnamespace) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
        DELETE FROM pg_catalog.pg_dist_schema WHERE schemaid = schemaname;
        DELETE FROM pg_catalog.pg_dist_partition p USING pg_class c WHERE c.oid = logicalrelid AND relnamespace = schemaname;
        EXECUTE format('DROP TRIGGER IF EXISTS truncate_trigger ON %s.tq_task', schemaname);
    END $$;
    CREATE FUNCTION pg_catalog.undistribute_table(t regclass) RETURNS void LANGUAGE sql AS 'DELETE FROM pg_catalog.pg_dist_partition WHERE logicalrelid = t'";

#[test]
fn what_citus_has_distributed_is_refused_and_held_and_the_hint_leads_out() {
    let site = Site::start("tenant_q.sweep_interval = 1s\n", &["t1", "t2"]);
    site.cluster.run(DB, CITUS);
    // Not with a name for nothing: whoever isn't listed is served.
    site.assert_alive("t1");
    site.cluster.run(DB, "CREATE ROLE t3 LOGIN; CREATE SCHEMA \"T 3\" AUTHORIZATION t3; INSERT INTO pg_dist_schema SELECT oid, 1 FROM pg_namespace WHERE nspname = 'T 3'");
    let refused = site.cluster.try_run_as("t3", DB, "SELECT tq_attach('T 3')").expect_err("a distributed schema");
    assert_eq!((refused.code.as_str(), refused.hint.as_str()), ("0A000", r#"SELECT citus_schema_undistribute('"T 3"');"#), "{refused}");
    assert_eq!(site.number("SELECT count(*) FROM tenant_q.tenant"), 2);
    assert_eq!(site.number(r#"SELECT count(*) FROM pg_class WHERE relnamespace = '"T 3"'::regnamespace"#), 0);
    // Distributed afterwards, with work in it.
    let ways = [
        (
            "schema",
            "INSERT INTO pg_dist_schema SELECT 't1'::regnamespace, 1; COMMENT ON TABLE t1.tq_task IS ''; ALTER TABLE t1.tq_task SET (fillfactor = 90)",
        ),
        ("table", "INSERT INTO pg_dist_partition VALUES ('t1.tq_task', 'n'); ALTER TABLE t1.tq_task SET (fillfactor = 90)"),
        ("results", "INSERT INTO pg_dist_partition VALUES ('t1.tq_result', 'n'); ALTER TABLE t1.tq_result SET (autovacuum_enabled = on)"),
        ("trigger", "CREATE TRIGGER truncate_trigger AFTER TRUNCATE ON t1.tq_task EXECUTE FUNCTION citus_truncate_trigger()"),
    ];
    for (way, distribute) in ways {
        let id = site.enqueue("t1", "ok", &format!("[\"{way}\"]"), ", delay => '0.5 seconds'");
        site.cluster.run(DB, distribute);
        site.cluster.wait_until(DB, "SELECT EXISTS (SELECT FROM tq_problems WHERE what = 'tenant t1' AND reason ~ 'Citus')");
        let refused = site.cluster.try_run_as("t1", DB, "SELECT tq_async('ok', '[\"refused\"]')").expect_err(way);
        assert_eq!(refused.code, if way == "trigger" { "55000" } else { "0A000" }, "{refused}");
        site.assert_alive("t2");
        let why = site.cluster.rows_as("t1", DB, &format!("SELECT reason, detail, hint FROM tq_why('{id}')"));
        assert_eq!(why[0].get(0), "tables", "{way}");
        assert!(why[0].get(1).contains("Citus"), "{way}: {}", why[0].get(1));
        let fix = site.cluster.value(DB, "SELECT fix FROM tq_problems WHERE what = 'tenant t1' AND reason ~ 'Citus'");
        assert_eq!(fix, why[0].get(2), "{way}");
        assert_eq!(site.counts("t1", &id), (0, 0), "{way}: it waits");
        site.cluster.run(DB, &fix);
        site.wait_ended("t1", &id, 'd');
    }
    site.cluster.run(DB, &refused.hint);
    site.cluster.run_as("t3", DB, "SELECT tq_attach('T 3')");
    site.assert_once(4);
    site.cluster.assert_log_clean();
}

#[test]
fn what_a_prepared_transaction_holds_is_let_go_by_what_tq_problems_says() {
    let site = Site::start("max_prepared_transactions = 5\n", &["t1"]);
    site.run("t1", "BEGIN; LOCK TABLE tq_task IN ACCESS EXCLUSIVE MODE; PREPARE TRANSACTION 'it''s mine'");
    let problem = "what = 'tenant t1' AND reason LIKE 'its tables are locked: a prepared transaction%'";
    site.cluster.wait_until(DB, &format!("SELECT EXISTS (SELECT FROM tq_problems WHERE {problem})"));
    site.cluster.mend(DB, problem);
    assert_eq!(site.number("SELECT count(*) FROM pg_prepared_xacts"), 0);
    site.cluster.wait_until(DB, "SELECT NOT EXISTS (SELECT FROM tq_problems)");
    site.assert_alive("t1");
}
