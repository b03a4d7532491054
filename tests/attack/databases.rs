//! Statements about databases, refused, failing, cancelled or prepared: whoever gives them, nobody's tasks stand still for
//! longer than the statement itself has any use for it.

use std::time::Duration;

use cluster::Stop;

use crate::site::{DB, Site};

/// The processes that work for tenants.
fn executors(site: &Site) -> Vec<i32> {
    site.cluster.pids("tenant_q executor")
}

#[test]
fn a_statement_about_a_database_that_is_refused_stops_nobody() {
    let site = Site::start("allow_in_place_tablespaces = on\n", &["t1", "t2"]);
    site.cluster.run(DB, "CREATE TABLESPACE elsewhere LOCATION ''");
    site.cluster.run(DB, "CREATE ROLE mallory LOGIN; CREATE ROLE carol LOGIN CREATEDB; CREATE ROLE dora LOGIN");
    let running = [site.enqueue("t1", "gate", r#"["one"]"#, ""), site.enqueue("t2", "gate", r#"["two"]"#, "")];
    let pids = running.each_ref().map(|id| site.wait_running(id));
    let before = executors(&site);
    let refused = |user: &str, database: &str, sql: &str, code: &str| {
        let mut client = site.cluster.client(user, database);
        // Each statement of its own: several together are a transaction block.
        let (preface, statement) = sql.rsplit_once(" | ").unwrap_or(("", sql));
        for sql in preface.split(" | ").filter(|s| !s.is_empty()) {
            client.batch_execute(sql).expect("a statement that is allowed");
        }
        let error = client.batch_execute(statement).expect_err(sql);
        assert_eq!(error.code().map(|c| c.code().to_owned()).as_deref(), Some(code), "{user} in {database}: {sql}: {error}");
        drop(client);
        for (id, pid) in running.iter().zip(pids) {
            assert_eq!(site.running(id), Some(pid), "{user} in {database}: {sql}");
        }
        assert_eq!(executors(&site), before, "{user} in {database}: {sql}");
    };
    let statements = [
        "DROP DATABASE postgres",
        "DROP DATABASE postgres WITH (FORCE)",
        "ALTER DATABASE postgres RENAME TO x",
        "ALTER DATABASE postgres SET TABLESPACE elsewhere",
        "CREATE DATABASE x TEMPLATE postgres",
    ];
    for sql in statements {
        for database in [DB, "template1"] {
            // Neither an owner nor one who may make databases; and one who may.
            refused("mallory", database, sql, "42501");
            refused("carol", database, sql, "42501");
        }
        if !sql.contains("RENAME") {
            refused("postgres", "template1", &format!("BEGIN | {sql}"), "25001");
            refused("postgres", "template1", &format!("DO $$ BEGIN EXECUTE '{sql}'; END $$"), "25001");
        }
        refused("postgres", "template1", &format!("SET default_transaction_read_only = on | {sql}"), "25006");
    }
    // One's own database.
    refused("postgres", DB, "DROP DATABASE postgres", "55006");
    refused("postgres", DB, "ALTER DATABASE postgres RENAME TO x", "0A000");
    refused("postgres", DB, "ALTER DATABASE postgres SET TABLESPACE elsewhere", "55006");
    // Names that are taken, or aren't there.
    refused("postgres", "template1", "ALTER DATABASE postgres RENAME TO template0", "42P04");
    refused("postgres", "template1", "CREATE DATABASE template0 TEMPLATE postgres", "42P04");
    refused("postgres", "template1", "ALTER DATABASE postgres SET TABLESPACE nowhere", "42704");
    refused("postgres", "template1", "ALTER DATABASE postgres SET TABLESPACE pg_global", "22023");
    // An owner, who may not all the same.
    site.cluster.run(DB, "ALTER DATABASE postgres OWNER TO dora");
    refused("dora", "template1", "ALTER DATABASE postgres RENAME TO x", "42501");
    refused("dora", "template1", "ALTER DATABASE postgres SET TABLESPACE elsewhere", "42501");
    refused("dora", "template1", "CREATE DATABASE x TEMPLATE postgres", "42501");
    site.cluster.run(DB, "ALTER DATABASE postgres OWNER TO postgres");
    site.cluster.run("template1", "ALTER DATABASE postgres IS_TEMPLATE true");
    refused("postgres", "template1", "DROP DATABASE postgres", "42809");
    site.open_gate();
    site.wait_idle(&["t1", "t2"]);
    site.assert_once(2);
    site.cluster.assert_log_clean();
}

#[test]
fn a_statement_about_a_database_that_fails_or_is_cancelled_delays_tasks_by_no_more_than_itself() {
    let site = Site::start("allow_in_place_tablespaces = on\n", &["t1"]);
    site.cluster.run(DB, "CREATE TABLESPACE elsewhere LOCATION ''");
    // This one stays: PostgreSQL waits five seconds for it, and then refuses.
    let guest = site.cluster.client("postgres", DB);
    for (sql, code) in [
        ("DROP DATABASE postgres", "55006"),
        ("ALTER DATABASE postgres RENAME TO x", "57014"),
        ("ALTER DATABASE postgres SET TABLESPACE elsewhere", "57014"),
        ("CREATE DATABASE x TEMPLATE postgres", "57014"),
        // Seen after everybody was sent away.
        ("CREATE DATABASE x TEMPLATE postgres ENCODING 'LATIN1' LOCALE 'C.UTF-8'", "22023"),
    ] {
        let id = site.enqueue("t1", "ok", &format!(r#"["{code}"]"#), "");
        site.wait_ended("t1", &id, 'd');
        let mut admin = site.cluster.client("postgres", "template1");
        if code == "57014" {
            admin.batch_execute("SET statement_timeout = '1s'").expect("SET");
        }
        let error = admin.batch_execute(sql).expect_err(sql);
        assert_eq!(error.code().map(|c| c.code().to_owned()).as_deref(), Some(code), "{sql}: {error}");
        site.assert_alive("t1");
    }
    drop(guest);
    // A transaction that goes on, and takes it back.
    let mut admin = site.cluster.client("postgres", "template1");
    admin.batch_execute("BEGIN; SAVEPOINT a").expect("BEGIN");
    admin.batch_execute("ALTER DATABASE postgres RENAME TO x").expect("nobody is there");
    admin.batch_execute("ROLLBACK TO a").expect("ROLLBACK TO");
    site.assert_alive("t1");
    admin.batch_execute("COMMIT").expect("COMMIT");
    site.cluster.assert_log_clean();
}

#[test]
fn a_served_database_is_renamed_copied_and_dropped_by_its_owner() {
    let site = Site::start("", &["t1"]);
    site.cluster.run(DB, "CREATE ROLE dora LOGIN CREATEDB; CREATE ROLE r1 LOGIN");
    site.cluster.run("template1", "CREATE DATABASE d1 OWNER dora");
    site.cluster.run(
        "d1",
        "CREATE EXTENSION tenant_q; CREATE SCHEMA r1 AUTHORIZATION r1; ALTER ROLE r1 SET search_path = r1, public;
         CREATE FUNCTION public.nap() RETURNS void LANGUAGE sql AS 'SELECT pg_sleep(600)'",
    );
    site.cluster.run_as("r1", "d1", "SELECT tq_attach(); SELECT tq_register('nap'); SELECT tq_async('nap')");
    let naps = |database: &str| {
        let sql =
            format!("SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = '{database}' AND backend_type = 'tenant_q executor')");
        site.cluster.wait_until(DB, &sql);
    };
    naps("d1");
    // Its executor is another role's, whom the owner may not terminate.
    site.cluster.run_as("dora", "template1", "ALTER DATABASE d1 RENAME TO d2");
    naps("d2");
    site.cluster.run_as("dora", "template1", "CREATE DATABASE d3 TEMPLATE d2");
    naps("d2");
    site.cluster.run_as("dora", "template1", "DROP DATABASE d2 WITH (FORCE)");
    site.cluster.run_as("dora", "template1", "DROP DATABASE d3");
    site.assert_alive("t1");
    site.cluster.assert_log_clean();
}

/// A database of its own, in which the extension isn't there yet.
fn with_two_phase_commit(extra: &str) -> Site {
    let site = Site::start(&format!("max_prepared_transactions = 5\n{extra}"), &["t1"]);
    site.cluster.run("template1", "CREATE DATABASE d1");
    site
}

#[test]
fn what_a_prepared_transaction_did_counts_from_its_commit_on() {
    let site = with_two_phase_commit("");
    let soon = Duration::from_secs(5);
    let d1 = |sql: &str| site.cluster.client("postgres", "d1").batch_execute(sql).expect(sql);
    // An extension that comes.
    d1("BEGIN; CREATE EXTENSION tenant_q; PREPARE TRANSACTION 'x'");
    d1("COMMIT PREPARED 'x'");
    d1("CREATE SCHEMA a; SET search_path = a, public; CREATE FUNCTION f() RETURNS void LANGUAGE sql AS ''; \
        SELECT tq_attach(); SELECT tq_register('f'); SELECT tq_async('f')");
    site.cluster.wait_until_within(soon, "d1", "SELECT count(*) = 1 FROM a.tq_result WHERE state = 'd'");
    // And goes.
    d1("BEGIN; DROP EXTENSION tenant_q; PREPARE TRANSACTION 'x'");
    d1("COMMIT PREPARED 'x'");
    site.cluster.wait_until_within(
        soon,
        DB,
        "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE datname = 'd1' AND backend_type LIKE 'tenant_q%')",
    );

    // Tasks: not before the commit, and at once then, whoever commits.
    site.run("t1", "BEGIN; SELECT tq_async('ok', '[\"rolled back\"]'); PREPARE TRANSACTION 'x'");
    site.run("t1", "ROLLBACK PREPARED 'x'");
    site.run("t1", "BEGIN; SAVEPOINT a; SELECT tq_async('ok', '[\"one\"]'); RELEASE a; PREPARE TRANSACTION 'x'");
    site.assert_alive("t1");
    site.cluster.run(DB, "COMMIT PREPARED 'x'");
    site.cluster.wait_until_within(soon, DB, "SELECT EXISTS (SELECT FROM public.fx WHERE k = 'one')");
    // A cancel, a pause and its end.
    let id = site.enqueue("t1", "gate", r#"["stopped"]"#, "");
    site.wait_running(&id);
    site.run("t1", &format!("BEGIN; SELECT tq_cancel('{id}'); PREPARE TRANSACTION 'x'"));
    assert!(site.running(&id).is_some(), "it isn't cancelled yet");
    site.run("t1", "COMMIT PREPARED 'x'");
    site.cluster.wait_until_within(soon, DB, &format!("SELECT NOT EXISTS (SELECT FROM tq_running WHERE id = '{id}')"));
    site.run("t1", "SELECT tq_pause()");
    site.enqueue("t1", "ok", r#"["two"]"#, "");
    site.run("t1", "BEGIN; SELECT tq_resume(); PREPARE TRANSACTION 'x'");
    assert_eq!(site.number("SELECT count(*) FROM fx WHERE k = 'two'"), 0);
    site.run("t1", "COMMIT PREPARED 'x'");
    site.cluster.wait_until_within(soon, DB, "SELECT EXISTS (SELECT FROM public.fx WHERE k = 'two')");
    // A schedule, and work for all tenants.
    site.run("t1", "BEGIN; SELECT tq_schedule('often', 'ok', '1 s', args => '[\"often\"]'); PREPARE TRANSACTION 'x'");
    site.run("t1", "COMMIT PREPARED 'x'");
    site.cluster.wait_until_within(soon, DB, "SELECT EXISTS (SELECT FROM public.fx WHERE k = 'often')");
    site.run("t1", "SELECT tq_unschedule('often')");
    site.cluster.run(DB, "BEGIN; SELECT tq_async_all('ok', '[\"all\"]'); PREPARE TRANSACTION 'x'");
    site.cluster.run(DB, "COMMIT PREPARED 'x'");
    site.cluster.wait_until_within(soon, DB, "SELECT EXISTS (SELECT FROM public.fx WHERE k = 'all')");
    site.wait_idle(&["t1"]);
    assert_eq!(site.number("SELECT count(*) FROM fx WHERE k = 'rolled back'"), 0);
    assert_eq!(site.number("SELECT queued + running FROM tq_tenants WHERE tenant = 't1'"), 0, "the gauge");
    site.cluster.assert_log_clean();
}

#[test]
fn a_crash_between_prepare_and_commit_prepared_costs_no_notice() {
    let mut site = with_two_phase_commit("");
    let d1 = |site: &Site, sql: &str| site.cluster.client("postgres", "d1").batch_execute(sql).expect(sql);
    d1(&site, "BEGIN; CREATE EXTENSION tenant_q; PREPARE TRANSACTION 'extension'");
    site.run("t1", "BEGIN; SELECT tq_async('ok', '[\"one\"]'); PREPARE TRANSACTION 'task'");
    site.cluster.restart(Stop::Immediate);
    site.assert_alive("t1");
    let known = "SELECT ok || ' ' || value FROM tq_health() WHERE check_name = 'prepared'";
    assert_eq!(site.cluster.value(DB, known), "false 1 prepared transactions");
    site.run("t1", "COMMIT PREPARED 'task'");
    assert_eq!(site.cluster.value(DB, known), "true 0 prepared transactions");
    site.cluster.wait_until_within(Duration::from_secs(5), DB, "SELECT EXISTS (SELECT FROM public.fx WHERE k = 'one')");
    d1(&site, "COMMIT PREPARED 'extension'");
    d1(
        &site,
        "CREATE SCHEMA a; SET search_path = a, public; CREATE FUNCTION f() RETURNS void LANGUAGE sql AS ''; \
        SELECT tq_attach(); SELECT tq_register('f'); SELECT tq_async('f')",
    );
    site.cluster.wait_until_within(Duration::from_secs(5), "d1", "SELECT count(*) = 1 FROM a.tq_result WHERE state = 'd'");
    site.cluster.forget_log();
    site.cluster.assert_log_clean();
}

/// More tenants than are noted with a prepared transaction: nothing waits for the usual sweep, for whomever it is.
#[test]
fn a_prepared_transaction_may_enqueue_for_more_tenants_than_are_noted() {
    let tenants: Vec<String> = (1..=12).map(|n| format!("t{n}")).collect();
    let tenants: Vec<&str> = tenants.iter().map(String::as_str).collect();
    let site = Site::start("max_prepared_transactions = 5\ntenant_q.sweep_interval = 0\n", &tenants);
    // Their places are looked at and found empty.
    for tenant in &tenants {
        site.assert_alive(tenant);
    }
    let enqueue = |what: &str| {
        let each = format!("SELECT tq_async('ok', '[\"{what}\"]', tenant => 't' || n) FROM generate_series(1, 12) AS n");
        site.cluster.run(DB, &format!("BEGIN; {each}; PREPARE TRANSACTION 'x'"));
    };
    enqueue("rolled back");
    site.cluster.run(DB, "ROLLBACK PREPARED 'x'");
    enqueue("committed");
    assert_eq!(
        site.cluster.value(DB, "SELECT ok || ' ' || value FROM tq_health() WHERE check_name = 'prepared'"),
        "true 1 prepared transactions"
    );
    site.cluster.run(DB, "COMMIT PREPARED 'x'");
    site.cluster.wait_until_within(Duration::from_secs(5), DB, "SELECT count(*) = 12 FROM public.fx WHERE k = 'committed'");
    assert_eq!(site.number("SELECT count(*) FROM fx WHERE k = 'rolled back'"), 0);
    site.cluster.assert_log_clean();
}
