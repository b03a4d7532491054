//! Workers that are told to go: executors, the scheduler, the launcher.

use std::time::Duration;

use cluster::wait_for;

use crate::site::{DB, Site};

const SOON: Duration = Duration::from_secs(10);

#[test]
fn a_terminated_executor_costs_its_task_nothing() {
    let site = Site::start("", &["t1", "t2"]);
    let id = site.enqueue("t1", "gate", r#"["a"]"#, "");
    let other = site.enqueue("t2", "gate", r#"["b"]"#, "");
    let other_pid = site.wait_running(&other);
    let mut pid = site.wait_running(&id);
    // By an administrator, by the tenant itself, cancelled by mistake.
    for (who, sql) in [("postgres", "pg_terminate_backend"), ("t1", "pg_terminate_backend"), ("postgres", "pg_cancel_backend")] {
        // A cancelled one goes on in the same process: what tells is its start.
        let since = site.cluster.value(DB, "SELECT clock_timestamp()");
        assert_eq!(site.value(who, &format!("SELECT {sql}({pid})")), "t");
        site.cluster.wait_until_within(
            SOON,
            DB,
            &format!("SELECT EXISTS (SELECT FROM tq_running WHERE id = '{id}' AND since > '{since}')"),
        );
        pid = site.running(&id).expect("it runs");
    }
    assert_eq!(site.running(&other), Some(other_pid), "the neighbour was left alone");
    site.open_gate();
    site.wait_idle(&["t1", "t2"]);
    assert_eq!(site.counts("t1", &id), (1, 0));
    site.assert_once(2);
    site.cluster.assert_log_clean();
}

#[test]
fn the_launcher_comes_back_and_finds_everything_as_it_was() {
    let site = Site::start("", &["t1", "t2", "t3"]);
    let id = site.enqueue("t1", "gate", r#"["a"]"#, "");
    let pid = site.wait_running(&id);
    site.run("t3", "SELECT tq_schedule('each', 'ok', '1 second', args => '[\"tick\"]')");
    site.cluster.wait_until(DB, "SELECT count(*) > 0 FROM t3.tq_result");
    // Not those that look into other databases, which a launcher may not have come to.
    let of_this = "SELECT sum(pid) FROM pg_stat_activity WHERE backend_type = 'tenant_q scheduler' AND datname = current_database()";
    let scheduler = site.number(of_this);
    for round in 0..3 {
        let launcher = site.cluster.pids("tenant_q launcher");
        assert_eq!(launcher.len(), 1);
        cluster::kill(launcher[0], libc::SIGTERM);
        // Enqueued while there may be none; the role has no executor yet.
        let later = site.enqueue("t2", "ok", &format!(r#"["{round}"]"#), ", delay => '0.5 seconds'");
        wait_for("the launcher to be back", SOON, || {
            let now = site.cluster.pids("tenant_q launcher");
            now.len() == 1 && now != launcher
        });
        site.cluster.wait_until_within(SOON, DB, &format!("SELECT EXISTS (SELECT FROM t2.tq_result WHERE id = '{later}')"));
        let before = site.number("SELECT count(*) FROM t3.tq_result");
        site.cluster.wait_until(DB, &format!("SELECT count(*) > {before} FROM t3.tq_result"));
        assert_eq!(site.number(of_this), scheduler, "the scheduler");
        assert_eq!(site.running(&id), Some(pid), "a running task is no business of the launcher's");
    }
    site.open_gate();
    site.wait_ended("t1", &id, 'd');
    assert_eq!(site.counts("t1", &id), (1, 0));
    let before = site.number("SELECT count(*) FROM t3.tq_result");
    site.cluster.wait_until(DB, &format!("SELECT count(*) >= {before} + 2 FROM t3.tq_result"));
    assert_eq!(site.number("SELECT count(*) - count(DISTINCT scheduled_for) FROM t3.tq_result"), 0);
    site.cluster.assert_log_clean();
}

#[test]
fn the_launcher_cleans_up_after_a_start_that_failed_while_it_was_away() {
    let site = Site::start("tenant_q.max_executors = 1\n", &["t1", "t2"]);
    // The role can't connect: every start fails. Killing the launcher again and again hits one of them in the middle.
    site.cluster.run(DB, "REVOKE CONNECT ON DATABASE postgres FROM PUBLIC; GRANT CONNECT ON DATABASE postgres TO t2");
    site.cluster.run(DB, "SELECT tq_async('ok', '[\"a\"]', tenant => 't1')");
    for _ in 0..3 {
        let launcher = site.cluster.pids("tenant_q launcher");
        cluster::kill(launcher[0], libc::SIGTERM);
        wait_for("the launcher to be back", SOON, || {
            let now = site.cluster.pids("tenant_q launcher");
            now.len() == 1 && now != launcher
        });
        site.cluster.wait_until(DB, "SELECT EXISTS (SELECT FROM tq_problems WHERE what LIKE '%t1%')");
    }
    site.assert_alive("t2");
    site.cluster.run(DB, "GRANT CONNECT ON DATABASE postgres TO t1");
    site.wait_idle(&["t1"]);
    site.assert_once(1);
}

#[test]
fn a_terminated_scheduler_misses_nothing() {
    let site = Site::start("", &["t1"]);
    site.run("t1", "SELECT tq_schedule('each', 'ok', '1 second', args => '[\"tick\"]', overlap => 'allow')");
    for _ in 0..3 {
        let before = site.number("SELECT count(*) FROM t1.tq_result");
        site.cluster.wait_until(DB, &format!("SELECT count(*) > {before} FROM t1.tq_result"));
        for pid in site.cluster.pids("tenant_q scheduler") {
            cluster::kill(pid, libc::SIGTERM);
        }
        site.cluster.wait_until_within(SOON, DB, &format!("SELECT count(*) > {before} + 2 FROM t1.tq_result"));
        assert_eq!(site.cluster.pids("tenant_q scheduler").len(), 1);
    }
    assert_eq!(site.number("SELECT count(*) - count(DISTINCT scheduled_for) FROM t1.tq_result"), 0, "a fire time served twice");
    site.cluster.assert_log_clean();
}
