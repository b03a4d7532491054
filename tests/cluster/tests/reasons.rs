//! Why a task doesn't run: each reason is made to happen, and all who say so are asked: tq_why, tq_tenants, tq_health, tq_problems
//! and tq_metrics. Then what they hand out is run, and so does the task.

use std::fs;
use std::time::Duration;

use cluster::{Cluster, Stop};

use crate::site::{DB, Site};

/// What is said of a task that waits.
struct Said {
    /// The reason of tq_why; one of the first ones where several are there.
    why: &'static str,
    /// tq_tenants.status
    status: &'static str,
    /// What tq_tenants.reason has in it; "" = nothing is said.
    reason: &'static str,
    /// The check of tq_health() that isn't ok.
    check: Option<&'static str>,
    /// What a reason in tq_problems has in it.
    problem: Option<&'static str>,
    /// tenant_q_up
    up: i64,
}

const NOTHING: Said = Said { why: "", status: "on", reason: "", check: None, problem: None, up: 1 };

/// Waits until all say so, of this task of tenant `tenant`.
fn assert_said(cluster: &Cluster, database: &str, tenant: &str, id: &str, said: &Said) {
    let Said { why, status, reason, check, problem, up } = said;
    let mut questions = vec![
        ("tq_why", format!("SELECT EXISTS (SELECT FROM tq_why('{id}', tenant => '{tenant}') WHERE reason = '{why}')")),
        ("tq_tenants.status", format!("SELECT status = '{status}' FROM tq_tenants WHERE tenant = '{tenant}'")),
        (
            "tq_tenants.reason",
            match *reason {
                "" => format!("SELECT reason IS NULL FROM tq_tenants WHERE tenant = '{tenant}'"),
                part => format!("SELECT reason LIKE '%{part}%' FROM tq_tenants WHERE tenant = '{tenant}'"),
            },
        ),
        ("tenant_q_up", format!("SELECT value = {up} FROM tq_metrics WHERE name = 'tenant_q_up'")),
        (
            "tenant_q_tenant_up",
            format!(
                "SELECT value = {} FROM tq_metrics WHERE name = 'tenant_q_tenant_up' AND labels ->> 'tenant' = '{tenant}'",
                u8::from(*status == "on")
            ),
        ),
        (
            "tenant_q_stopped",
            format!(
                "SELECT coalesce(sum(value), 0) {} 0 FROM tq_metrics WHERE name = 'tenant_q_stopped'",
                if *up == 1 { "=" } else { ">" }
            ),
        ),
    ];
    questions.push(match check {
        Some(check) => ("tq_health", format!("SELECT NOT ok AND detail <> '' FROM tq_health() WHERE check_name = '{check}'")),
        None => (
            "tq_health",
            "SELECT NOT EXISTS (SELECT FROM tq_health() WHERE NOT ok AND check_name NOT IN ('disk', 'sweep', 'restart', 'places'))".into(),
        ),
    });
    if let Some(check) = check {
        let gauge = format!("SELECT value = 0 FROM tq_metrics WHERE name = 'tenant_q_health' AND labels ->> 'check' = '{check}'");
        questions.push(("tenant_q_health", gauge));
    }
    questions.push(match problem {
        Some(part) => ("tq_problems", format!("SELECT EXISTS (SELECT FROM tq_problems WHERE reason LIKE '%{part}%')")),
        None => ("tq_problems", "SELECT NOT EXISTS (SELECT FROM tq_problems)".into()),
    });
    if problem.is_some() {
        let word = if *status == "on" { why } else { status };
        let gauge = format!("SELECT value >= 1 FROM tq_metrics WHERE name = 'tenant_q_problems' AND labels ->> 'reason' = '{word}'");
        // What only tenants' tables tell isn't counted.
        if !matches!(*why, "handler" | "busy") {
            questions.push(("tenant_q_problems", gauge));
        }
    }
    for (who, question) in questions {
        let began = std::time::Instant::now();
        while cluster.value(database, &question) != "t" {
            if began.elapsed() > Duration::from_secs(20) {
                let rows = |sql: &str| cluster.rows(database, sql).iter().map(|row| row.joined(" | ")).collect::<Vec<_>>().join("\n");
                panic!(
                    "{who} doesn't say so: {why}\n{question}\n{}\n{}\n{}\n{}\n{}",
                    rows(&format!("SELECT * FROM tq_why('{id}', tenant => '{tenant}')")),
                    rows(&format!("SELECT tenant, status, reason FROM tq_tenants WHERE tenant = '{tenant}'")),
                    rows("SELECT check_name, detail, hint FROM tq_health() WHERE NOT ok"),
                    rows("SELECT what, reason, fix FROM tq_problems"),
                    rows("SELECT name, labels, value FROM tq_metrics WHERE name ~ 'up$|stopped|problems|tenants|pauses'"),
                );
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// The SQL that one of those who say so hands out, taken from the task's tq_why or from tq_health.
fn call(cluster: &Cluster, database: &str, tenant: &str, id: &str, why: &str) -> String {
    cluster.value(database, &format!("SELECT hint FROM tq_why('{id}', tenant => '{tenant}') WHERE reason = '{why}'"))
}

#[test]
fn a_pause_at_each_level_is_named_with_the_call_that_ends_it() {
    let site = Site::start("", &["t1", "t2"]);
    let cluster = &site.cluster;
    cluster.wait_until(DB, "SELECT ok FROM tq_health() WHERE check_name = 'sweep'");
    let cases = [
        ("SELECT tq_pause('t1')", "tenant \"t1\" is paused", "SELECT tq_resume('t1')", "paused", 1),
        ("SELECT tq_pause_all()", "all tenants are paused", "SELECT tq_resume_all()", "paused", 0),
        ("SELECT tq_pause('t1', queue => 'mail')", "queue \"mail\" is paused", "SELECT tq_resume('t1', queue => 'mail')", "on", 1),
        ("SELECT tq_pause('t1', handler => 'ok')", "handler \"ok\" is paused", "SELECT tq_resume('t1', handler => 'ok')", "on", 1),
        (
            "SELECT tq_pause('t1', 'mail', 'ok')",
            "handler \"ok\" is paused in queue \"mail\"",
            "SELECT tq_resume('t1', queue => 'mail', handler => 'ok')",
            "on",
            1,
        ),
        (
            "SELECT tq_pause_all(handler => 'ok')",
            "handler \"ok\" is paused in all tenants",
            "SELECT tq_resume_all(handler => 'ok')",
            "on",
            1,
        ),
        ("SELECT tq_set_tenant('t1', ready => false)", "it is not ready", "SELECT tq_set_tenant('t1', ready => true)", "not_ready", 1),
    ];
    for (n, (pause, text, fix, status, up)) in cases.into_iter().enumerate() {
        cluster.run(DB, pause);
        let id = site.enqueue("t1", "ok", &format!("[\"{n}\"]"), ", queue => 'mail'");
        let why = if status == "not_ready" { "not_ready" } else { "paused" };
        let said = Said { why, status, reason: text, check: Some("pauses"), problem: Some(text), up };
        assert_said(cluster, DB, "t1", &id, &said);
        assert_eq!(call(cluster, DB, "t1", &id, why), fix);
        assert_eq!(cluster.value(DB, "SELECT hint FROM tq_health() WHERE check_name = 'pauses'"), format!("{fix};"));
        assert_eq!(cluster.value(DB, "SELECT string_agg(fix, ';') FROM tq_problems"), fix);
        let reason = cluster.value(DB, "SELECT reason FROM tq_tenants WHERE tenant = 't1'");
        assert!(reason.ends_with(&format!(": {fix}")), "{reason}");
        cluster.run(DB, fix);
        site.wait_ended("t1", &id, 'd');
        cluster.wait_until(DB, "SELECT ok FROM tq_health() WHERE check_name = 'pauses'");
        assert_eq!(site.number("SELECT count(*) FROM tq_problems"), 0);
        assert_eq!(cluster.value(DB, "SELECT concat(status, reason) FROM tq_tenants WHERE tenant = 't1'"), "on");
    }
    // A pause of something that has nothing to do is nobody's problem; a schedule that is due is something.
    cluster.run(DB, "SELECT tq_pause('t1'), tq_pause('t2', handler => 'bad')");
    assert_eq!(site.number("SELECT count(*) FROM tq_problems"), 0);
    cluster.run(DB, "SELECT tq_schedule('soon', 'ok', '1 second', args => '[\"soon\"]', tenant => 't1')");
    cluster.wait_until(DB, "SELECT EXISTS (SELECT FROM tq_problems WHERE reason LIKE '%schedules are due')");
    assert_eq!(site.number("SELECT value::int FROM tq_metrics WHERE name = 'tenant_q_pauses' AND labels ->> 'of' = 'tenant'"), 1);
    assert_eq!(site.number("SELECT value::int FROM tq_metrics WHERE name = 'tenant_q_pauses' AND labels ->> 'of' = 'part'"), 1);
    // Others' pauses are nobody's business.
    assert_eq!(cluster.value_as("t2", DB, "SELECT value FROM tq_health() WHERE check_name = 'pauses'"), "0 that hold something up");
    cluster.assert_log_clean();
}

/// What psql shows of a call: its answer and what is said beside it.
fn told(site: &Site, call: &str) -> String {
    let output = site.cluster.program("psql").args(["-X", "-A", "-t", "-d", DB, "-c", call]).output().expect("psql");
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn to_resume_what_is_kept_by_something_else_says_by_what() {
    let site = Site::start("", &["t1", "t2"]);
    site.cluster.run(DB, "SELECT tq_pause_all()");
    let said = told(&site, "SELECT tq_resume('t1')");
    assert!(
        said.starts_with("f\n") && said.contains("all tenants are paused") && said.contains("HINT:  SELECT tq_resume_all();"),
        "{said}"
    );
    site.cluster.run(DB, "SELECT tq_pause('t1'), tq_set_tenant('t1', ready => false)");
    let said = told(&site, "SELECT tq_resume('t1')");
    assert!(said.starts_with("t\n") && said.contains("not ready") && said.contains("HINT:  SELECT tq_resume_all();"), "{said}");
    let said = told(&site, "SELECT tq_set_tenant('t1', ready => true)");
    assert!(!said.contains("not ready") && said.contains("all tenants are paused"), "{said}");
    site.cluster.run(DB, "SELECT tq_pause('t1', queue => 'mail'), tq_pause('t2')");
    let said = told(&site, "SELECT tq_resume_all()");
    assert!(said.contains("1 tenants have a pause of their own") && !said.contains("all tenants are"), "{said}");
    let said = told(&site, "SELECT tq_resume('t1')");
    assert!(said.contains("queue \"mail\" is paused") && said.contains("SELECT tq_resume('t1', queue => 'mail');"), "{said}");
    let said = told(&site, "SELECT tq_resume('t1', handler => 'ok')");
    assert_eq!(said, "f\n", "of another part nothing is said");
    assert_eq!(told(&site, "SELECT tq_resume('t1', queue => 'mail')"), "t\n");
    // In a session of one's own the same.
    site.cluster.run(DB, "SELECT tq_pause_all()");
    let refused = site.cluster.try_run_as("t1", DB, "SELECT tq_drain()").expect_err("paused");
    assert_eq!((refused.code.as_str(), refused.hint.as_str()), ("55000", "SELECT tq_resume_all();"));
    site.cluster.assert_log_clean();
}

#[test]
fn what_keeps_one_tenant_is_said_of_it() {
    let site = Site::start("", &["t1", "t2", "t3"]);
    let cluster = &site.cluster;
    cluster.wait_until(DB, "SELECT ok FROM tq_health() WHERE check_name = 'sweep'");
    let enqueue = |rest: &str| site.enqueue("t1", "ok", r#"["a"]"#, rest);

    // A quota of nothing, and what is used up of one.
    cluster.run(DB, "SELECT tq_set_quota('t1', max_running => 0)");
    let id = enqueue("");
    let reason = "max_running is 0";
    assert_said(cluster, DB, "t1", &id, &Said { why: "limit", status: "limit", reason, problem: Some(reason), ..NOTHING });
    cluster.mend(DB, "reason LIKE '%max_running is 0'");
    site.wait_ended("t1", &id, 'd');
    cluster.run(DB, "SELECT tq_set_quota('t1', max_running => 1)");
    let running = site.enqueue("t1", "gate", r#"["runs"]"#, ", lock => 'key'");
    site.wait_running(&running);
    let id = enqueue("");
    assert_said(cluster, DB, "t1", &id, &Said { why: "limit", reason: "as many as its quota allows", ..NOTHING });
    cluster.run(DB, "SELECT tq_set_quota('t1', reset => '{max_running}')");
    site.wait_ended("t1", &id, 'd');
    // A gate.
    let id = enqueue(", lock => 'key'");
    assert_said(cluster, DB, "t1", &id, &Said { why: "limit", ..NOTHING });
    site.open_gate();
    site.wait_ended("t1", &id, 'd');
    // A rate of its own, and of a queue.
    cluster.run(DB, "SELECT tq_set_quota('t1', rate => '1/h')");
    site.wait_ended("t1", &enqueue(""), 'd');
    let id = enqueue("");
    assert_said(cluster, DB, "t1", &id, &Said { why: "rate", reason: "rate of 1/h", ..NOTHING });
    cluster.run(DB, "SELECT tq_set_quota('t1', reset => '{rate}')");
    site.wait_ended("t1", &id, 'd');

    // A function that is gone.
    site.run("t1", "CREATE FUNCTION mine() RETURNS void LANGUAGE sql AS ''; SELECT tq_register('mine'); DROP FUNCTION mine()");
    let id = site.enqueue("t1", "mine", "[]", "");
    assert_said(cluster, DB, "t1", &id, &Said { why: "handler", problem: Some("does not exist"), ..NOTHING });
    site.run("t1", "CREATE FUNCTION mine() RETURNS void LANGUAGE sql AS ''");
    site.wait_ended("t1", &id, 'd');

    // Tables that somebody holds, and tables that aren't ours any more.
    let mut holder = cluster.client("postgres", DB);
    holder.batch_execute("BEGIN; LOCK TABLE t1.tq_task, t1.tq_result").expect("a lock");
    let said = Said { why: "locked", status: "on", reason: "", problem: Some("its tables are locked"), ..NOTHING };
    cluster.wait_until(DB, "SELECT EXISTS (SELECT FROM tq_problems WHERE reason LIKE 'its tables are locked%')");
    assert_eq!(cluster.value(DB, &format!("SELECT reason FROM tq_why('{id}', tenant => 't1')")), said.why);
    holder.batch_execute("ROLLBACK").expect("its end");
    cluster.run(DB, "CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'");
    cluster.run(DB, "SELECT tq_pause('t1')");
    let id = enqueue("");
    cluster.run(DB, "CREATE TRIGGER mine AFTER DELETE ON t1.tq_task FOR EACH ROW EXECUTE FUNCTION nothing(); SELECT tq_resume('t1')");
    let reason = "its tables are not as tq_attach made them";
    assert_said(cluster, DB, "t1", &id, &Said { why: "tables", status: "tables", reason, problem: Some("trigger"), ..NOTHING });
    cluster.mend(DB, "what = 'tenant t1' AND fix LIKE '%DROP TRIGGER%'");
    site.wait_ended("t1", &id, 'd');

    // A role that can't have a session, but for those that it has.
    let end_sessions = |role: &str| {
        let its = format!("FROM pg_stat_activity WHERE backend_type = 'tenant_q executor' AND usename = '{role}'");
        cluster.run(DB, &format!("SELECT pg_terminate_backend(pid) {its}"));
        cluster.wait_until(DB, &format!("SELECT NOT EXISTS (SELECT {its})"));
    };
    cluster.run(DB, "SELECT tq_pause('t2')");
    let id = site.enqueue("t2", "ok", r#"["b"]"#, "");
    cluster.run(DB, "REVOKE CONNECT ON DATABASE postgres FROM PUBLIC; GRANT CONNECT ON DATABASE postgres TO t1, t3");
    end_sessions("t2");
    cluster.run(DB, "SELECT tq_resume('t2')");
    let reason = "may not connect to this database";
    let said = Said { why: "role", status: "role", reason, check: Some("roles"), problem: Some(reason), ..NOTHING };
    assert_said(cluster, DB, "t2", &id, &said);
    cluster.mend(DB, "what = 'tenant t2' AND fix LIKE 'GRANT%'");
    site.wait_ended("t2", &id, 'd');
    if site.number("SELECT current_setting('server_version_num')::int") < 170_000 {
        cluster.run(DB, "ALTER ROLE t3 NOLOGIN");
        end_sessions("t3");
        let id = cluster.value(DB, "SELECT tq_async('ok', '[\"c\"]', tenant => 't3')");
        let reason = "may not log in";
        let said = Said { why: "role", status: "role", reason, check: Some("roles"), problem: Some(reason), ..NOTHING };
        assert_said(cluster, DB, "t3", &id, &said);
        cluster.mend(DB, "what = 'tenant t3' AND fix LIKE 'ALTER ROLE t3 LOGIN%'");
        site.wait_ended("t3", &id, 'd');
    }
}

#[test]
fn a_server_that_is_switched_off_says_so() {
    let site = Site::start("", &["t1"]);
    let cluster = &site.cluster;
    cluster.run(DB, "ALTER SYSTEM SET tenant_q.enabled = off");
    cluster.reload();
    cluster.wait_until(DB, "SELECT NOT EXISTS (SELECT FROM tq_workers WHERE kind <> 'launcher')");
    let id = site.enqueue("t1", "ok", r#"["a"]"#, "");
    let reason = "tenant_q.enabled is off";
    let said = Said { why: "disabled", status: "disabled", reason, check: Some("enabled"), problem: Some(reason), up: 0 };
    assert_said(cluster, DB, "t1", &id, &said);
    cluster.mend(DB, "what = 'the server'");
    cluster.reload();
    site.wait_ended("t1", &id, 'd');
    assert_eq!(site.number("SELECT value::int FROM tq_metrics WHERE name = 'tenant_q_up'"), 1);
}

/// Another database, of one tenant `t` with a task; the task's id.
fn fill(cluster: &Cluster, database: &str) -> String {
    cluster.run(
        database,
        "CREATE EXTENSION tenant_q;
         DO $$ BEGIN CREATE ROLE t LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
         CREATE SCHEMA t AUTHORIZATION t; SET ROLE t; SET search_path = t, public;
         CREATE FUNCTION ok(k text) RETURNS void LANGUAGE sql AS ''; SELECT tq_attach(); SELECT tq_register('ok')",
    );
    cluster.value(database, "SET ROLE t; SET search_path = t, public; SELECT tq_async('ok', '[\"a\"]')")
}

fn wait_done(cluster: &Cluster, database: &str, id: &str) {
    cluster.wait_until(database, &format!("SELECT EXISTS (SELECT FROM t.tq_result WHERE id = '{id}' AND state = 'd')"));
}

#[test]
fn a_database_that_is_left_out_says_so() {
    let site = Site::start("tenant_q.exclude_databases = 'left\\_out, else%'\n", &[]);
    let cluster = &site.cluster;
    cluster.run(DB, "CREATE DATABASE left_out");
    let id = fill(cluster, "left_out");
    let reason = "tenant_q.exclude_databases";
    let said = Said { why: "excluded", status: "excluded", reason, check: Some("database"), problem: Some(reason), up: 0 };
    assert_said(cluster, "left_out", "t", &id, &said);
    cluster.mend("left_out", "what = 'this database'");
    cluster.reload();
    wait_done(cluster, "left_out", &id);
    assert_eq!(cluster.value(DB, "SHOW tenant_q.exclude_databases"), "else%");
    // The other way: those that are named are served.
    cluster.run(DB, "ALTER SYSTEM SET tenant_q.databases = 'postgres'");
    cluster.reload();
    cluster.wait_until("left_out", "SELECT value = 'not served' FROM tq_health() WHERE check_name = 'database'");
    let id = cluster.value("left_out", "SELECT tq_async('ok', '[\"b\"]', tenant => 't')");
    let reason = "tenant_q.databases";
    assert_said(cluster, "left_out", "t", &id, &Said { reason, problem: Some(reason), ..said });
    cluster.mend("left_out", "what = 'this database'");
    cluster.reload();
    wait_done(cluster, "left_out", &id);
}

#[test]
fn a_copy_that_nobody_has_confirmed_says_so() {
    let site = Site::start("", &[]);
    let cluster = &site.cluster;
    cluster.run(DB, "CREATE DATABASE a");
    let first = fill(cluster, "a");
    wait_done(cluster, "a", &first);
    cluster.run("a", "SELECT tq_pause_all()");
    let id = cluster.value("a", "SELECT tq_async('ok', '[\"b\"]', tenant => 't')");
    let path = cluster.data().join("whole.sql").display().to_string();
    let output = cluster.program("pg_dump").args(["-f", &path, "a"]).output().expect("pg_dump");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    cluster.run(DB, "CREATE DATABASE restored TEMPLATE template0");
    let output = cluster.program("psql").args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", "restored", "-f", &path]).output().expect("psql");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    cluster.run(DB, "CREATE DATABASE copied TEMPLATE a");
    for database in ["restored", "copied"] {
        cluster.run(database, "DELETE FROM tenant_q.pause");
        let reason = "a copy that nobody has confirmed";
        let said = Said { why: "copy", status: "copy", reason, check: Some("database"), problem: Some(reason), up: 0 };
        assert_said(cluster, database, "t", &id, &said);
        // What says so is what the workers go by.
        cluster.wait_until(
            database,
            "SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = current_database() AND backend_type LIKE 'tenant_q%'",
        );
        assert_eq!(cluster.value(database, "SELECT value FROM tq_health() WHERE check_name = 'database'"), "copy");
        cluster.mend(database, "what = 'this database'");
        wait_done(cluster, database, &id);
        cluster.wait_until(database, "SELECT status = 'on' AND reason IS NULL FROM tq_tenants");
    }
}

/// The same where the schema's OID happens to be the original's: nothing but the identity tells.
#[test]
fn a_restored_database_whose_schemas_have_their_old_oids_runs_nothing() {
    let site = Site::start("", &[]);
    let cluster = &site.cluster;
    cluster.run(DB, "CREATE DATABASE a");
    let first = fill(cluster, "a");
    wait_done(cluster, "a", &first);
    // As a restored dump writes it.
    cluster.run("a", "INSERT INTO tenant_q.identity VALUES ('1', 1)");
    cluster.wait_until("a", "SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = 'a' AND backend_type LIKE 'tenant_q%'");
    let id = cluster.value("a", "SELECT tq_async('ok', '[\"b\"]', tenant => 't')");
    assert_eq!(cluster.value("a", &format!("SELECT reason FROM tq_why('{id}', tenant => 't') LIMIT 1")), "copy");
    cluster.run("a", "SELECT tq_confirm_copy()");
    wait_done(cluster, "a", &id);
}

#[test]
fn a_standby_says_what_it_is_and_is_no_problem() {
    let site = Site::start("", &["t1"]);
    let standby = Cluster::standby_of(&site.cluster, "");
    let id = site.enqueue("t1", "ok", r#"["later"]"#, ", delay => '1 hour'");
    standby.wait_until(DB, &format!("SELECT EXISTS (SELECT FROM t1.tq_task WHERE id = '{id}')"));
    let said = Said { why: "standby", status: "standby", reason: "this server is a standby", check: None, problem: None, up: 0 };
    assert_said(&standby, DB, "t1", &id, &said);
    assert_eq!(standby.value(DB, "SELECT ok || ' ' || value FROM tq_health() WHERE check_name = 'database'"), "true standby");
}

#[test]
fn a_server_without_the_library_says_so() {
    let cluster = Cluster::start("shared_preload_libraries = ''\n");
    let id = fill(&cluster, DB);
    let reason = "not in shared_preload_libraries";
    let said = Said { why: "not_preloaded", status: "not_preloaded", reason, check: Some("preloaded"), problem: Some(reason), up: 0 };
    assert_said(&cluster, DB, "t", &id, &said);
}

#[test]
fn a_library_of_another_version_says_so() {
    let site = Site::start("", &["t1"]);
    let cluster = &site.cluster;
    cluster.run(DB, "SET allow_system_table_mods = on; UPDATE pg_extension SET extversion = '0.1.9' WHERE extname = 'tenant_q'");
    cluster.restart(Stop::Fast);
    let id = site.enqueue("t1", "ok", r#"["a"]"#, "");
    let reason = "of version 0.1.9";
    let said = Said { why: "version", status: "version", reason, check: Some("version"), problem: Some(reason), up: 0 };
    assert_said(cluster, DB, "t1", &id, &said);
    assert_eq!(call(cluster, DB, "t1", &id, "version"), "ALTER EXTENSION tenant_q UPDATE");
    // The library is the older one: no call mends that.
    cluster.run(DB, "SET allow_system_table_mods = on; UPDATE pg_extension SET extversion = '9.0.0' WHERE extname = 'tenant_q'");
    assert_eq!(cluster.value(DB, "SELECT fix IS NULL AND reason LIKE '%restart the server%' FROM tq_problems"), "t");
}

#[test]
fn no_room_for_workers_is_said() {
    // One worker slot is logical replication's, one the launcher's.
    let cluster = Cluster::start("max_worker_processes = 2\ntenant_q.max_executors = 4\n");
    let id = fill(&cluster, DB);
    let reason = "no background worker slot is free";
    // The database can't even be looked into.
    let said = Said { why: "worker_slots", status: "not_served", reason, check: Some("worker_slots"), problem: Some(reason), up: 0 };
    assert_said(&cluster, DB, "t", &id, &said);
    cluster.mend(DB, "reason LIKE 'no background worker slot%'");
    // It stands behind what the test has set.
    let conf = fs::read_to_string(cluster.data().join("postgresql.conf")).expect("postgresql.conf");
    assert!(conf.contains("max_worker_processes = 2"));
    cluster.restart(Stop::Fast);
    wait_done(&cluster, DB, &id);
}

#[test]
fn executors_that_are_all_busy_are_said_to_be() {
    let site = Site::start("tenant_q.max_executors = 1\ntenant_q.reserved_places = 0\n", &["t1", "t2"]);
    let running = site.enqueue("t1", "gate", r#"["runs"]"#, "");
    site.wait_running(&running);
    let id = site.enqueue("t2", "ok", r#"["waits"]"#, "");
    let said = Said { why: "busy", check: Some("places"), problem: Some("holds one of 1 places"), ..NOTHING };
    assert_said(&site.cluster, DB, "t2", &id, &said);
    site.open_gate();
    site.wait_ended("t2", &id, 'd');
}

#[test]
fn tenants_without_a_place_in_shared_memory_are_said_to_have_none() {
    let site = Site::start("tenant_q.max_tenants = 64\ntenant_q.max_executors = 2\n", &["t1"]);
    for (first, last) in [(1, 38), (39, 76)] {
        site.cluster.run(
            DB,
            &format!(
                "DO $$ BEGIN FOR n IN {first}..{last} LOOP
                     EXECUTE format('CREATE SCHEMA s%s AUTHORIZATION t1', n);
                     PERFORM tq_attach('s' || n), tq_register('ok', tenant => 's' || n);
                 END LOOP; END $$"
            ),
        );
    }
    // One transaction holds on to all places that there are.
    let mut open = site.cluster.client("postgres", DB);
    open.batch_execute("BEGIN; SELECT tq_async('ok', '[\"now\"]', tenant => 's' || n) FROM generate_series(1, 76) AS n").expect("tasks");
    site.cluster.wait_until(DB, "SELECT EXISTS (SELECT FROM tq_tenants WHERE reason LIKE '%no place for the tenant%')");
    let tenant = site.cluster.value(DB, "SELECT tenant FROM tq_tenants WHERE reason LIKE '%no place for the tenant%' LIMIT 1");
    let id = site.cluster.value(DB, &format!("SELECT tq_async('ok', '[\"more\"]', tenant => '{tenant}', delay => '1 hour')"));
    let reason = "no place for the tenant";
    let said = Said { why: "no_place", reason, check: Some("shared_memory"), problem: Some("entries of tenants"), ..NOTHING };
    assert_said(&site.cluster, DB, &tenant, &id, &said);
    open.batch_execute("COMMIT").expect("its end");
    site.cluster.wait_until(DB, "SELECT count(DISTINCT tenant) = 76 FROM fx WHERE k = 'now'");
}

#[test]
fn tasks_that_no_worker_offers_to_do_are_said_to_wait_for_one() {
    let site = Site::start("tenant_q.worker_lease = '1 s'\n", &["t1", "t2"]);
    let cluster = &site.cluster;
    cluster.wait_until(DB, "SELECT ok FROM tq_health() WHERE check_name = 'sweep'");
    cluster.run(DB, "CREATE ROLE worker LOGIN");
    site.run(
        "t1",
        "SELECT tq_register(h, external => true) FROM unnest('{app.mail,app.charge}'::text[]) h; SELECT tq_grant('worker', '{work}')",
    );
    let id = site.enqueue("t1", "app.mail", "[]", "");
    site.enqueue("t1", "app.mail", "[]", "");
    // Without a word about executors: none is to run it.
    assert_eq!(cluster.value(DB, &format!("SELECT reason FROM tq_why('{id}', tenant => 't1')")), "queued");
    let problem = "2 tasks wait, no worker offers app.mail";
    let said = Said { why: "no_worker", check: Some("workers"), problem: Some(problem), ..NOTHING };
    assert_said_without_gauge(cluster, &id, &said);
    // One that does something else.
    let mut worker = site.client("worker");
    worker.batch_execute("SELECT tq_take(handlers => '{app.charge}')").expect("nothing");
    assert_said_without_gauge(cluster, &id, &Said { check: None, ..said });
    // And one that knows it.
    worker.batch_execute("SELECT tq_finish(claim) FROM tq_take(2, handlers => '{app.charge,app.mail}')").expect("both");
    site.wait_ended("t1", &id, 'd');
    assert_eq!(site.number("SELECT count(*) FROM tq_problems"), 0);
    cluster.assert_log_clean();
}

/// What is only in tenants' tables is in no gauge.
fn assert_said_without_gauge(cluster: &Cluster, id: &str, said: &Said) {
    cluster.wait_until(
        DB,
        &format!("SELECT EXISTS (SELECT FROM tq_why('{id}', tenant => 't1') WHERE reason = '{}' AND hint LIKE '%tq_take%')", said.why),
    );
    cluster.wait_until(DB, &format!("SELECT EXISTS (SELECT FROM tq_problems WHERE reason LIKE '{}%')", said.problem.unwrap_or_default()));
    let ok = said.check.is_none();
    cluster.wait_until(DB, &format!("SELECT ok = {ok} FROM tq_health() WHERE check_name = 'workers'"));
}
