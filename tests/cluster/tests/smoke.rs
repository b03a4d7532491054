//! The server starts with the extension preloaded, and a database can have it.

use cluster::{Cluster, Stop, kill9, process_exists};

#[test]
fn preloaded_server_starts_and_the_extension_installs() {
    let cluster = Cluster::start("");
    assert!(cluster.value("postgres", "SHOW shared_preload_libraries").contains("tenant_q"));
    cluster.run("postgres", "CREATE EXTENSION tenant_q");
    assert_eq!(cluster.value("postgres", "SELECT 1"), "1");
    assert_eq!(cluster.number("postgres", "SELECT count(*) FROM pg_extension WHERE extname = 'tenant_q'"), 1);

    cluster.restart(Stop::Fast);
    assert_eq!(cluster.value("postgres", "SELECT 1"), "1");
    cluster.assert_log_clean();
}

#[test]
fn a_killed_backend_restarts_the_server_and_waits_go_through_it() {
    let mut cluster = Cluster::start("");
    cluster.run("postgres", "CREATE TABLE t AS SELECT 1 AS n");
    let mut victim = cluster.client("postgres", "postgres");
    let pid: i32 = victim.query_one("SELECT pg_backend_pid()", &[]).expect("a pid").get(0);

    kill9(pid);
    cluster.wait_for_log("terminated by signal 9");
    cluster.wait_until("postgres", "SELECT count(*) = 1 FROM t");
    assert!(!process_exists(pid));
    cluster.wait_for_log("ready to accept connections");

    cluster.forget_log();
    cluster.restart(Stop::Immediate);
    cluster.assert_log_clean();
    let error = cluster.try_run_as("postgres", "postgres", "SELECT 1/0").unwrap_err();
    assert_eq!((error.code.as_str(), error.message.as_str()), ("22012", "division by zero"));
    assert_eq!(cluster.psql("postgres", "SELECT n FROM t").trim(), "1");
}

#[test]
fn a_standby_follows_and_can_be_promoted() {
    let primary = Cluster::start("");
    let standby = Cluster::standby_of(&primary, "");
    primary.run("postgres", "CREATE TABLE t AS SELECT 1 AS n");
    standby.wait_until("postgres", "SELECT pg_is_in_recovery() AND to_regclass('t') IS NOT NULL");
    primary.stop(Stop::Fast);
    assert!(!primary.is_running());
    standby.promote();
    standby.run("postgres", "INSERT INTO t VALUES (2)");
    standby.assert_log_clean();
}
