//! Databases, extensions, schemas and servers that come, go, are renamed, copied and promoted.

use std::time::{Duration, Instant};

use cluster::{Cluster, Stop, wait_for};

use crate::site::{DB, Site};

/// Another database of the site, with one tenant `t` whose handler `ok(k)` writes into `t.fx` and `nap(k, s)` sleeps.
fn another(cluster: &Cluster, database: &str) {
    cluster.run(DB, &format!("CREATE DATABASE {database}"));
    fill(cluster, database);
}

fn fill(cluster: &Cluster, database: &str) {
    cluster.run(
        database,
        "CREATE EXTENSION tenant_q;
         DO $$ BEGIN CREATE ROLE t LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
         CREATE SCHEMA t AUTHORIZATION t; SET ROLE t; SET search_path = t, public;
         CREATE TABLE fx (k text, path text DEFAULT current_setting('search_path'), who text DEFAULT current_user);
         CREATE FUNCTION ok(k text) RETURNS void LANGUAGE sql AS $$ INSERT INTO fx (k) VALUES (k) $$;
         CREATE FUNCTION nap(k text, s float8) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM ok(k); PERFORM pg_sleep(s); END $$;
         SELECT tq_attach(); SELECT tq_register('ok'); SELECT tq_register('nap')",
    );
}

fn enqueue(cluster: &Cluster, database: &str, call: &str) {
    cluster.run(database, &format!("SET ROLE t; SET search_path = t, public; SELECT tq_async({call})"));
}

fn executors(cluster: &Cluster, database: &str) -> i64 {
    cluster.number(DB, &format!("SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}' AND backend_type LIKE 'tenant_q%'"))
}

fn wait_done(cluster: &Cluster, database: &str, n: i64) {
    cluster.wait_until(database, &format!("SELECT count(*) = {n} FROM t.tq_result WHERE state = 'd'"));
}

#[test]
fn databases_live_side_by_side_and_can_be_dropped_copied_renamed() {
    // Room for all: an executor that idles isn't asked to make room for another database's.
    let cluster = Cluster::start("tenant_q.max_executors = 10\n");
    for database in ["a", "b", "c"] {
        another(&cluster, database);
        enqueue(&cluster, database, "'ok', '[\"first\"]'");
    }
    for database in ["a", "b", "c"] {
        wait_done(&cluster, database, 1);
    }
    // Idle executors, and one that is busy.
    assert!(executors(&cluster, "a") > 0);
    enqueue(&cluster, "b", "'nap', '[\"busy\", 600]'");
    cluster.wait_until("b", "SELECT count(*) = 1 FROM tq_running");
    let began = Instant::now();
    cluster.run(DB, "DROP DATABASE a");
    cluster.run(DB, "ALTER DATABASE c RENAME TO c2");
    cluster.run(DB, "CREATE DATABASE copy TEMPLATE c2");
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    // The copied and the renamed one: the original goes on, the copy waits to be told.
    enqueue(&cluster, "c2", "'ok', '[\"renamed\"]'");
    wait_done(&cluster, "c2", 2);
    cluster.wait_until("copy", "SELECT EXISTS (SELECT FROM tq_problems WHERE fix LIKE '%tq_confirm_copy%')");
    assert_eq!(executors(&cluster, "copy"), 0);
    cluster.run("copy", "SELECT tq_confirm_copy()");
    enqueue(&cluster, "copy", "'ok', '[\"copied\"]'");
    wait_done(&cluster, "copy", 2);
    // Dropping one with a task in the middle of its work.
    cluster.run(DB, "DROP DATABASE b");
    assert_eq!(cluster.number(DB, "SELECT count(*) FROM pg_database WHERE datname IN ('a', 'b')"), 0);
    enqueue(&cluster, "c2", "'ok', '[\"last\"]'");
    wait_done(&cluster, "c2", 3);
    // A failed attempt to drop: somebody else is connected. The work goes on.
    let _guest = cluster.client("postgres", "c2");
    cluster.try_run_as("postgres", DB, "DROP DATABASE c2").expect_err("in use");
    enqueue(&cluster, "c2", "'ok', '[\"after all\"]'");
    wait_done(&cluster, "c2", 4);
    cluster.assert_log_clean();
}

#[test]
fn the_extension_can_go_and_come_back() {
    let cluster = Cluster::start("tenant_q.max_executors = 4\n");
    fill(&cluster, DB);
    enqueue(&cluster, DB, "'nap', '[\"busy\", 600]'");
    cluster.wait_until(DB, "SELECT count(*) = 1 FROM tq_running");
    enqueue(&cluster, DB, "'ok', '[\"later\"]', delay => '1 hour'");
    // Undone: everything goes on.
    cluster.run(DB, "BEGIN; DROP EXTENSION tenant_q; ROLLBACK");
    enqueue(&cluster, DB, "'ok', '[\"went on\"]'");
    cluster.wait_until(DB, "SELECT count(*) = 1 FROM t.tq_result");

    let began = Instant::now();
    cluster.run(DB, "DROP EXTENSION tenant_q");
    wait_for("the workers to leave", Duration::from_secs(10), || executors(&cluster, DB) == 0);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!(cluster.number(DB, "SELECT count(*) FROM t.tq_task"), 2, "the tenant's tables stay");
    cluster.run(
        DB,
        "UPDATE t.tq_task SET run_at = now() WHERE handler = 'ok'; UPDATE t.tq_task SET args = '[\"short\", 0]' WHERE handler = 'nap'",
    );
    cluster.run(DB, "CREATE EXTENSION tenant_q");
    cluster.run(
        DB,
        "SET ROLE t; SET search_path = t, public; SELECT tq_attach(adopt => true); SELECT tq_register('ok'); SELECT tq_register('nap')",
    );
    wait_done(&cluster, DB, 3);
    assert_eq!(cluster.value(DB, "SELECT string_agg(k, ', ' ORDER BY k) FROM t.fx"), "later, short, went on");
    assert_eq!(cluster.number(DB, "SELECT count(*) FROM t.tq_task"), 0);
    cluster.assert_log_clean();
}

#[test]
fn schemas_are_renamed_and_dropped_with_work_in_them() {
    let site = Site::start("", &["t1", "t2"]);
    let running = site.enqueue("t1", "gate", r#"["running"]"#, "");
    site.wait_running(&running);
    site.run("t1", "SELECT tq_async('ok', jsonb_build_array('queued ' || n), delay => '1 second') FROM generate_series(1, 5) AS n; SELECT tq_schedule('each', 'ok', '1 second', args => '[\"tick\"]')");
    site.cluster.run(DB, "ALTER SCHEMA t1 RENAME TO \"T 1 x\"");
    site.open_gate();
    site.cluster.wait_until(DB, "SELECT NOT EXISTS (SELECT FROM \"T 1 x\".tq_task WHERE schedule IS NULL)");
    assert_eq!(
        site.number("SELECT count(*) FROM fx WHERE k LIKE 'queued%' AND tenant = 'T 1 x' AND path = '\"T 1 x\", public, pg_temp'"),
        5
    );
    assert_eq!(site.number("SELECT count(*) FROM fx WHERE k = 'running'"), 1);
    let before = site.number("SELECT count(*) FROM \"T 1 x\".tq_result WHERE schedule = 'each'");
    site.cluster.wait_until(DB, &format!("SELECT count(*) > {before} + 1 FROM \"T 1 x\".tq_result WHERE schedule = 'each'"));
    assert_eq!(site.number("SELECT count(*) FROM tq_tenants WHERE tenant = 'T 1 x'"), 1);

    // Dropped in the middle of a run: the DROP doesn't wait for the handler, and nothing is left of the tenant.
    site.cluster.run(DB, "DELETE FROM gate");
    let id = site.value("t1", "SELECT tq_async('gate', '[\"dropped\"]', tenant => 'T 1 x')");
    site.wait_running(&id);
    let began = Instant::now();
    site.cluster.run(DB, "DROP SCHEMA \"T 1 x\" CASCADE");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(site.number("SELECT count(*) FROM tenant_q.tenant WHERE name = 'T 1 x'"), 0);
    site.assert_alive("t2");
    site.open_gate();
    site.cluster.wait_until(DB, "SELECT NOT EXISTS (SELECT FROM tq_running)");
    assert_eq!(site.number("SELECT count(*) FROM fx WHERE k = 'dropped'"), 0, "an effect of a task that never ended");
    // A new schema of the old name is a stranger until it is attached.
    site.cluster.run(DB, "CREATE SCHEMA t1 AUTHORIZATION t1");
    site.run("t1", "SELECT tq_attach(); SELECT tq_register('ok')");
    site.assert_alive("t1");
    site.cluster.assert_log_clean();
}

fn dump(cluster: &Cluster, args: &[&str], file: &str) -> String {
    let path = cluster.data().join(file).display().to_string();
    let output = cluster.program("pg_dump").args(args).args(["-f", &path, DB]).output().expect("pg_dump");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    path
}

fn restore(cluster: &Cluster, database: &str, path: &str) {
    let output = cluster.program("psql").args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", database, "-f", path]).output().expect("psql");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn dumps_are_restored_as_copies_that_wait_to_be_confirmed() {
    let cluster = Cluster::start("tenant_q.max_executors = 2\n");
    fill(&cluster, DB);
    enqueue(&cluster, DB, "'ok', '[\"done\"]'");
    wait_done(&cluster, DB, 1);
    enqueue(&cluster, DB, "'ok', '[\"waiting\"]', delay => '2 seconds'");
    cluster.run(DB, "SET ROLE t; SET search_path = t, public; SELECT tq_schedule('each', 'ok', '1 second', args => '[\"tick\"]'); SELECT tq_pause(handler => 'nap')");
    let whole = dump(&cluster, &[], "whole.sql");
    let schema = dump(&cluster, &["-n", "t"], "schema.sql");
    // The original goes on.
    cluster.wait_until(DB, "SELECT count(*) > 2 FROM t.tq_result");

    cluster.run(DB, "CREATE DATABASE whole TEMPLATE template0");
    restore(&cluster, "whole", &whole);
    cluster.wait_until("whole", "SELECT EXISTS (SELECT FROM tq_problems WHERE fix LIKE '%tq_confirm_copy%')");
    // Long enough for the dumped work to be overdue: the original has served it.
    cluster.wait_until(DB, "SELECT EXISTS (SELECT FROM t.fx WHERE k = 'waiting')");
    assert_eq!(cluster.number("whole", "SELECT count(*) FROM t.fx"), 1, "it ran before it was confirmed");
    assert_eq!(cluster.number("whole", "SELECT count(*) FROM tenant_q.tenant"), 1);
    cluster.run("whole", "SELECT tq_confirm_copy()");
    cluster.wait_until("whole", "SELECT EXISTS (SELECT FROM t.fx WHERE k = 'waiting') AND EXISTS (SELECT FROM t.fx WHERE k = 'tick')");
    assert_eq!(cluster.number("whole", "SELECT count(*) FROM tenant_q.pause"), 1);

    // One schema alone, where there is no extension yet, and then there is.
    cluster.run(DB, "CREATE DATABASE alone TEMPLATE template0");
    restore(&cluster, "alone", &schema);
    cluster.run("alone", "CREATE EXTENSION tenant_q");
    cluster.run("alone", "SET ROLE t; SET search_path = t, public; SELECT tq_attach(adopt => true); SELECT tq_register('ok')");
    cluster.wait_until("alone", "SELECT EXISTS (SELECT FROM t.fx WHERE k = 'waiting') AND EXISTS (SELECT FROM t.fx WHERE k = 'tick')");
    assert_eq!(cluster.number("alone", "SELECT count(*) FROM t.fx WHERE k = 'waiting'"), 1);
    cluster.assert_log_clean();
}

#[test]
fn a_standby_runs_nothing_until_it_is_promoted() {
    let site = Site::start("", &["t1"]);
    let standby = Cluster::standby_of(&site.cluster, "");
    site.run("t1", "SELECT tq_schedule('each', 'ok', '1 second', args => '[\"tick\"]')");
    let id = site.enqueue("t1", "gate", r#"["running"]"#, "");
    site.wait_running(&id);
    let later = site.enqueue("t1", "ok", r#"["later"]"#, ", delay => '1 hour'");
    standby.wait_until(
        DB,
        &format!("SELECT EXISTS (SELECT FROM t1.tq_task WHERE id = '{later}') AND (SELECT count(*) > 2 FROM t1.tq_result)"),
    );
    assert_eq!(standby.number(DB, "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'tenant_q%'"), 0);
    assert_eq!(standby.try_run_as("t1", DB, "SELECT tq_async('ok', '[\"x\"]')").expect_err("read only").code, "25006");
    assert!(!standby.rows_as("t1", DB, "SELECT * FROM tq_tasks").is_empty(), "views work");
    standby.rows(DB, "SELECT * FROM tq_tenants, tq_health()");
    site.cluster.stop(Stop::Fast);
    standby.promote();
    let took = standby.wait_until_within(Duration::from_secs(10), DB, &format!("SELECT EXISTS (SELECT FROM tq_running WHERE id = '{id}')"));
    assert!(took < Duration::from_secs(10), "{took:?}");
    standby.run(DB, "INSERT INTO gate VALUES (true)");
    standby.wait_until(DB, &format!("SELECT EXISTS (SELECT FROM t1.tq_result WHERE id = '{id}' AND state = 'd')"));
    let before = standby.number(DB, "SELECT count(*) FROM t1.tq_result");
    standby.wait_until(DB, &format!("SELECT count(*) > {before} + 1 FROM t1.tq_result"));
    assert_eq!(standby.number(DB, "SELECT count(*) FROM fx WHERE k = 'running'"), 1);
    assert_eq!(standby.number(DB, "SELECT count(*) - count(DISTINCT scheduled_for) FROM t1.tq_result WHERE schedule = 'each'"), 0);
    standby.assert_log_clean();
}

#[test]
fn without_preloading_tasks_are_stored_and_said_not_to_run() {
    let cluster = Cluster::start("shared_preload_libraries = ''\n");
    fill(&cluster, DB);
    let said = cluster
        .program("psql")
        .args(["-X", "-d", DB, "-c", "SET ROLE t", "-c", "SET search_path = t, public", "-c", "SELECT tq_async('ok', '[\"a\"]')"])
        .output()
        .expect("psql");
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("WARNING") && said.contains("shared_preload_libraries"), "{said}");
    cluster.run(DB, "SET ROLE t; SET search_path = t, public; SELECT tq_schedule('s', 'ok', '1 hour', args => '[\"s\"]'); SELECT * FROM tq_tasks; SELECT * FROM tq_results; SELECT tq_pause(); SELECT tq_resume()");
    for view in ["tq_tenants", "tq_running", "tq_workers", "tq_problems", "tq_health()", "tq_schedules", "tq_handlers"] {
        cluster.rows(DB, &format!("SET search_path = t, public; SELECT * FROM {view}"));
    }
    assert!(cluster.number(DB, "SELECT count(*) FROM tq_health() WHERE NOT ok") > 0, "tq_health says so");
    assert_eq!(cluster.number(DB, "SELECT count(*) FROM t.tq_task"), 1);
    // Preloaded from now on: what was stored runs.
    cluster.append_settings("shared_preload_libraries = 'tenant_q'");
    cluster.restart(Stop::Fast);
    wait_done(&cluster, DB, 1);
    cluster.assert_log_clean();
}

#[test]
fn tasks_wait_for_a_free_worker_slot() {
    // One is logical replication's, one the launcher's.
    let mut cluster = Cluster::start("max_worker_processes = 2\ntenant_q.max_executors = 4\n");
    fill(&cluster, DB);
    enqueue(&cluster, DB, "'ok', '[\"a\"]'");
    cluster.wait_for_log("no background worker slot is free");
    cluster.wait_until(DB, "SELECT EXISTS (SELECT FROM tq_health() WHERE NOT ok) OR EXISTS (SELECT FROM tq_problems)");
    assert_eq!(cluster.value(DB, "SELECT string_agg(concat(attempts, ' ', state), ', ') FROM t.tq_task"), "0 q");
    assert_eq!(cluster.log().matches("no background worker slot is free").count(), 1, "said once");
    cluster.append_settings("max_worker_processes = 8");
    cluster.forget_log();
    cluster.restart(Stop::Fast);
    wait_done(&cluster, DB, 1);
    cluster.assert_log_clean();
}
