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
    cluster.run(DB, "CREATE ROLE oncall");
    cluster.run(DB, "CALL tq_grant_all('oncall', '{operate}')");
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
    // Rights that all tenants give came with it: in those that are there, and for those attached there.
    cluster.run("whole", "CREATE SCHEMA later AUTHORIZATION t; SELECT tq_attach('later')");
    cluster.run("whole", "SET ROLE oncall; SELECT tq_pause('t'), tq_pause('later'); SELECT tq_resume('t')");

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
    assert_eq!(standby.value(DB, "SELECT ok || ' ' || value FROM tq_health() WHERE check_name = 'database'"), "true standby");
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
    cluster.mend(DB, "what = 'the server'");
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

#[test]
fn databases_of_other_encodings_are_refused_before_anything_is_made() {
    let cluster = Cluster::start("");
    for encoding in ["LATIN1", "EUC_JP", "WIN1252", "SQL_ASCII"] {
        let name = format!("in_{}", encoding.to_lowercase());
        cluster.run(DB, &format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'"));
        let refused = cluster.try_run_as("postgres", &name, "CREATE EXTENSION tenant_q").expect_err(encoding);
        assert_eq!(refused.code, "0A000", "{refused}");
        assert!(refused.message.contains(encoding) && refused.to_string().contains("ENCODING 'UTF8'"), "{refused}");
        assert_eq!(cluster.number(&name, "SELECT count(*) FROM pg_namespace WHERE nspname = 'tenant_q'"), 0);
    }
}

#[test]
fn errors_carry_no_backtrace_whatever_the_servers_environment() {
    let cluster = Cluster::start("");
    fill(&cluster, DB);
    cluster.run(
        DB,
        "SET ROLE t; SET search_path = t, public;
         CREATE FUNCTION zero() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN 1 / 0; END $$; SELECT tq_register('zero')",
    );
    for call in ["tq_async('zero', sync => true)", "tq_async('no such')", "tq_listen_table('fx', 'ok', only_if => '(')"] {
        let error = cluster.try_run_as("t", DB, &format!("SET search_path = t, public; SELECT {call}")).expect_err(call).to_string();
        assert!(!error.contains(".rs") && !error.contains("::"), "{call}: {error}");
    }
    let id = cluster.value_as("t", DB, "SET search_path = t, public; SELECT tq_async('zero', max_attempts => 1)");
    cluster.wait_until(DB, &format!("SELECT EXISTS (SELECT FROM t.tq_result WHERE id = '{id}')"));
    assert_eq!(
        cluster.number(
            DB,
            &format!("SELECT count(*) FROM t.tq_result WHERE id = '{id}' AND (error::text ~ '[.]rs' OR history::text ~ '[.]rs')")
        ),
        0
    );
    assert!(!cluster.log_contains(".rs:"), "nor the log");
}

/// What PostgreSQL says of what a call of ours makes it do reaches whoever called: all of it, and nothing else.
#[test]
fn errors_of_postgresql_are_whole() {
    let cluster = Cluster::start("");
    fill(&cluster, DB);
    cluster.run(
        DB,
        "SET ROLE t; SET search_path = t, public;
         CREATE TABLE orders (id int PRIMARY KEY, total int);
         CREATE VIEW t.of_tasks AS SELECT * FROM t.tq_task;
         CREATE DOMAIN small AS int CONSTRAINT is_small CHECK (VALUE < 10);
         CREATE FUNCTION changed(change jsonb) RETURNS void LANGUAGE sql AS 'SELECT';
         CREATE FUNCTION own_state() RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE SQLSTATE 'ZZ123' USING MESSAGE = 'ours', DETAIL = 'why', HINT = 'how'; END $$;
         CREATE FUNCTION too_large() RETURNS small LANGUAGE plpgsql AS $$ BEGIN RETURN 11; END $$;
         SELECT tq_register('changed'), tq_register('own_state'), tq_register('too_large')",
    );
    let mut client = cluster.client("t", DB);
    client.batch_execute("SET search_path = t, public").expect("set");
    let mut failing = |call: &str| {
        let error = client.batch_execute(&format!("SELECT {call}")).expect_err(call);
        error.as_db_error().unwrap_or_else(|| panic!("{call}: {error}")).clone()
    };
    let listen = |condition: &str| format!("tq_listen_table('orders', 'changed', only_if => '{condition}')");
    for (condition, code, at) in [
        ("NEW.total > 1 AND OLD.total < 5", "42P17", 19),
        ("NEW.nothing > 1", "42703", 1),
        ("NEW.total > 1 AND nothing(NEW.id)", "42883", 19),
        ("NEW.total >", "42601", 11),
        ("NEW.total", "42804", 1),
        ("NEW.id = ''x''", "22P02", 10),
    ] {
        let error = failing(&listen(condition));
        let Some(postgres::error::ErrorPosition::Internal { position, query }) = error.position() else {
            panic!("{condition}: {error:?}");
        };
        assert_eq!((error.code().code(), *position, query.as_str()), (code, at, condition.replace("''", "'").as_str()), "{error:?}");
        assert!(!format!("{error:?}").contains(".rs"), "{condition}: {error:?}");
    }
    let error = failing("tq_detach('t', drop_data => true)");
    assert_eq!(error.code().code(), "2BP01");
    assert_eq!(error.detail(), Some("view t.of_tasks depends on table t.tq_task"));
    assert_eq!(error.hint(), Some("Use DROP ... CASCADE to drop the dependent objects too."));
    // A state that PostgreSQL itself doesn't know, in the caller's own session.
    let error = failing("tq_async('own_state', sync => true)");
    assert_eq!((error.code().code(), error.detail(), error.hint()), ("ZZ123", Some("why"), Some("how")));
    // What an ERROR is about.
    let error = failing("tq_async('too_large', sync => true)");
    assert_eq!((error.code().code(), error.constraint(), error.datatype()), ("23514", Some("is_small"), Some("small")));
}

/// As docs/operations.md has it: what runs is waited for, nothing else begins, and a migration that fails leaves nothing behind.
#[test]
fn a_migration_waits_for_what_runs_and_leaves_no_pause_behind() {
    let site = Site::start("", &["t1"]);
    site.cluster.run(DB, "CREATE TABLE t1.stock (n int); INSERT INTO t1.stock VALUES (0); ALTER TABLE t1.stock OWNER TO t1");
    site.run(
        "t1",
        "CREATE FUNCTION sell(k text) RETURNS void LANGUAGE plpgsql AS
             $$ BEGIN UPDATE t1.stock SET n = n + 1; PERFORM public.gate(k); END $$;
         SELECT tq_register('sell')",
    );
    let running = site.enqueue("t1", "sell", r#"["first"]"#, "");
    site.wait_running(&running);
    let later = site.enqueue("t1", "sell", r#"["second"]"#, "");
    // Not ready alone waits for nobody, and says so.
    let said =
        site.cluster.program("psql").args(["-X", "-d", DB, "-c", "SELECT tq_set_tenant('t1', ready => false)"]).output().expect("psql");
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("still run") && said.contains("drain => '1 minute'"), "{said}");
    site.cluster.run(DB, "SELECT tq_set_tenant('t1', ready => true)");
    let migration = std::thread::scope(|scope| {
        let cluster = &site.cluster;
        let migration = scope.spawn(move || {
            cluster.run(DB, "SELECT tq_pause('t1', drain => '20 seconds', duration => '3 seconds')");
            cluster.try_run_as("postgres", DB, "SET lock_timeout = '100ms'; BEGIN; ALTER TABLE t1.stock ADD name text; SELECT 1 / 0")
        });
        site.cluster
            .wait_until(DB, "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE query LIKE 'SELECT tq_pause(%' AND state = 'active')");
        site.open_gate();
        migration.join().expect("it ends")
    });
    assert_eq!(migration.expect_err("it fails").code, "22012", "it had its locks at once");
    site.wait_ended("t1", &running, 'd');
    // By itself.
    site.wait_ended("t1", &later, 'd');
    assert_eq!(site.number("SELECT n FROM t1.stock"), 2);
    assert_eq!(site.number("SELECT count(*) FROM t1.tq_result WHERE attempts <> 1"), 0);
    site.cluster.assert_log_clean();
}

/// A task says itself how long its result stays, and the server forgets by a restart that it has heard so.
#[test]
fn a_result_that_stays_for_less_long_than_others_goes_after_a_restart_too() {
    let site = Site::start("tenant_q.retention_every = 1\n", &["t1"]);
    let brief = site.enqueue("t1", "ok", r#"["brief"]"#, ", result_ttl => '30 s'");
    let other = site.enqueue("t1", "ok", r#"["other"]"#, "");
    for id in [&brief, &other] {
        site.wait_ended("t1", id, 'd');
    }
    site.cluster.restart(Stop::Fast);
    site.cluster.run(DB, "UPDATE t1.tq_result SET finished_at = now() - interval '1 minute'");
    let last = site.enqueue("t1", "ok", r#"["last"]"#, "");
    site.wait_ended("t1", &last, 'd');
    site.cluster.wait_until(DB, &format!("SELECT NOT EXISTS (SELECT FROM t1.tq_result WHERE id = '{brief}')"));
    assert_eq!(site.number("SELECT count(*) FROM t1.tq_result"), 2);
}

/// What a dump of its schema leaves out is carried by a document; it runs at neither place before somebody says so.
#[test]
fn a_tenant_moves_to_another_database() {
    let cluster = Cluster::start("tenant_q.max_executors = 2\n");
    fill(&cluster, DB);
    let as_t = |database: &str, sql: &str| cluster.run(database, &format!("SET ROLE t; SET search_path = t, public; {sql}"));
    as_t(
        DB,
        "CREATE TABLE orders (id int); CREATE FUNCTION heard(e jsonb) RETURNS void LANGUAGE sql AS $$ SELECT ok('heard') $$;
         SELECT tq_register('heard'); SELECT tq_register('ok', max_attempts => 5, rate => '100/s window', aliases => '{fine}');
         SELECT tq_set_tenant(timezone => 'Asia/Tokyo', save_limit => 99); SELECT tq_set_queue('mail', max_running => 1);
         SELECT tq_set_limit('k', max_running => 1); SELECT tq_on('failed', 'heard'); SELECT tq_listen_table('orders', 'heard');
         SELECT tq_schedule('nightly', 'ok', '0 2 * * *', args => '[\"night\"]')",
    );
    cluster.run(DB, "SELECT tq_set_quota('t', max_queued => 1000)");
    enqueue(&cluster, DB, "'ok', '[\"here\"]'");
    wait_done(&cluster, DB, 1);
    as_t(DB, "SELECT tq_pause(drain => '20 seconds'); SELECT tq_set_tenant(ready => false)");
    enqueue(&cluster, DB, "'fine', '[\"there\"]'");
    let said = cluster.value(DB, "SELECT tq_export(everything => true, tenant => 't')");
    let planned = cluster.value(DB, "SELECT next_run FROM t.tq_schedule");

    cluster.run(DB, "CREATE DATABASE elsewhere TEMPLATE template0");
    cluster.run("elsewhere", "CREATE EXTENSION tenant_q");
    restore(&cluster, "elsewhere", &dump(&cluster, &["-n", "t"], "moving.sql"));
    cluster.run("elsewhere", "SELECT tq_attach('t', adopt => true, ready => false)");
    let import = format!("SELECT tq_import('{}', on_conflict => 'skip', tenant => 't')", said.replace('\'', "''"));
    cluster.run("elsewhere", &import);
    assert_eq!(cluster.value("elsewhere", "SELECT next_run FROM t.tq_schedule"), planned, "its nights are what they were");
    assert_eq!(cluster.value("elsewhere", "SELECT tq_export(everything => true, tenant => 't')"), said, "all of it is there");

    // The old one goes, then the new one begins.
    assert_eq!(cluster.number("elsewhere", "SELECT count(*) FROM t.fx WHERE k = 'there'"), 0);
    cluster.run(DB, "SELECT tq_detach('t', drop_data => true); DROP SCHEMA t CASCADE");
    as_t("elsewhere", "SELECT tq_set_tenant(ready => true); SELECT tq_resume('t')");
    cluster.wait_until("elsewhere", "SELECT EXISTS (SELECT FROM t.fx WHERE k = 'there')");
    as_t("elsewhere", "INSERT INTO orders VALUES (1)");
    cluster.wait_until("elsewhere", "SELECT EXISTS (SELECT FROM t.fx WHERE k = 'heard')");
    assert_eq!(cluster.number("elsewhere", "SELECT count(*) FROM t.fx WHERE k = 'heard'"), 1, "one trigger heard of it");
    assert_eq!(cluster.number("elsewhere", "SELECT count(*) FROM t.fx"), 3, "nothing ran twice");
    cluster.assert_log_clean();
}
