//! Executors, servers and machines that die in the middle of a task.

use std::time::{Duration, Instant};

use cluster::{Stop, kill9, wait_for};

use crate::site::{DB, Site};

/// The server is up again and runs this task again, soon after it takes connections.
fn runs_again(site: &Site, id: &str, killed: i32) -> i32 {
    site.cluster.wait_ready();
    let began = Instant::now();
    let mut pid = killed;
    wait_for("the task to run again", Duration::from_secs(20), || {
        pid = site
            .cluster
            .try_rows_as("postgres", DB, &format!("SELECT pid FROM tq_running WHERE id = '{id}'"))
            .ok()
            .and_then(|rows| rows.first().map(|row| row.get(0).parse().expect("a pid")))
            .unwrap_or(killed);
        pid != killed
    });
    assert!(began.elapsed() < Duration::from_secs(10), "it took {:?}", began.elapsed());
    pid
}

#[test]
fn a_killed_executor_is_blamed_on_its_task_alone() {
    let mut site = Site::start("", &["t1", "t2", "t3"]);
    let culprit = site.enqueue("t1", "gate", r#"["culprit"]"#, "");
    let innocents = [("t1", site.enqueue("t1", "gate", r#"["same tenant"]"#, "")), ("t2", site.enqueue("t2", "gate", r#"["other"]"#, ""))];
    for (_, id) in &innocents {
        site.wait_running(id);
    }
    let waiting = site.enqueue("t3", "ok", r#"["later"]"#, ", delay => '2 seconds'");

    site.cluster.forget_log();
    let pid = site.wait_running(&culprit);
    kill9(pid);
    site.cluster.wait_for_log("terminated by signal 9");
    runs_again(&site, &culprit, pid);
    site.open_gate();
    site.wait_idle(&["t1", "t2", "t3"]);

    assert_eq!(site.counts("t1", &culprit), (1, 1), "one attempt, one crash");
    for (tenant, id) in &innocents {
        assert_eq!(site.counts(tenant, id), (1, 0), "an innocent");
    }
    assert_eq!(site.counts("t3", &waiting), (1, 0));
    site.assert_once(4);
    assert_eq!(
        site.value("t1", &format!("SELECT string_agg(outcome, ' ' ORDER BY started_at) FROM tq_attempts('{culprit}')")),
        "crashed done"
    );
    assert_eq!(site.cluster.log().matches("all server processes terminated").count(), 1);
    site.assert_alive("t2");
}

#[test]
fn a_poison_is_quarantined_after_three_crashes_and_its_neighbours_end_done() {
    let mut site = Site::start("", &["t1", "t2", "t3"]);
    site.allow_boom("t1");
    site.cluster.forget_log();
    let innocents = [("t2", site.enqueue("t2", "gate", r#"["a"]"#, "")), ("t3", site.enqueue("t3", "gate", r#"["b"]"#, ""))];
    for (_, id) in &innocents {
        site.wait_running(id);
    }
    // The first crash may come before the answer: the id is ours.
    let poison = "0198c0de-0000-7000-8000-00000000b003";
    let _ = site.cluster.try_run_as("t1", DB, &format!("SELECT tq_async('boom', '[\"poison\"]', id => '{poison}')"));
    site.cluster.wait_until(DB, &format!("SELECT EXISTS (SELECT FROM t1.tq_task WHERE id = '{poison}' AND state = 'x' AND crashes = 3)"));
    // Its own tenant goes on meanwhile.
    let own = site.enqueue("t1", "ok", r#"["own"]"#, "");
    site.wait_ended("t1", &own, 'd');
    site.open_gate();
    for (tenant, id) in &innocents {
        site.wait_ended(tenant, id, 'd');
        assert_eq!(site.counts(tenant, id), (1, 0), "an innocent");
    }
    site.assert_once(3);
    assert_eq!(site.cluster.log().matches("all server processes terminated").count(), 3);
    assert_eq!(site.value("t1", &format!("SELECT state FROM tq_results WHERE id = '{poison}'")), "quarantined");
    assert!(site.number("SELECT count(*) FROM tq_problems WHERE what LIKE '%t1%'") > 0, "shown in tq_problems");
}

/// It is final: what waits for it goes on, its hooks are called, and mended it runs again in its place.
#[test]
fn a_quarantined_member_ends_its_flow_and_can_be_run_again() {
    let mut site = Site::start("", &["t1"]);
    site.allow_boom("t1");
    site.cluster.forget_log();
    site.run(
        "t1",
        "CREATE FUNCTION hook(task jsonb) RETURNS void LANGUAGE sql AS
            $$ SELECT public.ok(concat_ws(' ', 'hook', task->>'name', task->>'state')) $$;
         SELECT tq_register('hook'); SELECT tq_set_queue('odd', pick => 'round_robin')",
    );
    let flow = "0198c0de-0000-7000-8000-00000000b004";
    let sql = format!(
        "SELECT tq_group('[{{\"handler\": \"ok\", \"args\": [\"a\"]}},
                          {{\"handler\": \"boom\", \"args\": [\"b\"], \"queue\": \"odd\", \"name\": \"b\", \"hook\": \"hook\", \"unique_key\": \"u\"}}]',
                         '{{\"id\": \"{flow}\", \"name\": \"flow\", \"on_failure\": \"hook\"}}')"
    );
    let _ = site.cluster.try_run_as("t1", DB, &sql);
    site.wait_ended("t1", flow, 'f');
    site.cluster.wait_until(DB, "SELECT count(*) = 2 FROM fx WHERE k IN ('hook b quarantined', 'hook flow failed')");
    let poison = site.value("t1", "SELECT id FROM tq_results WHERE state = 'quarantined'");
    assert_eq!(site.counts_of_result("t1", &poison), (0, 3));
    assert_eq!(site.number(&format!("SELECT count(*) FROM tq_problems WHERE what LIKE '%{poison}%'")), 1);
    site.run("t1", "SELECT tq_cancel(tq_async('ok', '[\"never\"]', unique_key => 'u', delay => '1 hour'))");
    site.cluster.run(DB, "CREATE OR REPLACE FUNCTION public.boom(k text) RETURNS void LANGUAGE sql AS 'SELECT public.ok(k)'");
    site.cluster.mend(DB, &format!("what LIKE '%{poison}%'"));
    site.wait_ended("t1", flow, 'd');
    assert_eq!(site.number("SELECT count(*) FROM tq_problems WHERE what LIKE 'task%'"), 0);
    site.wait_idle(&["t1"]);
    site.assert_once(5);
}

#[test]
fn a_handler_that_keeps_crashing_is_stopped_in_its_tenant() {
    keeps_crashing("tenant_q.max_executors = 1\n", 4);
}

/// Several executors die at the same moment, each of its own task: nobody can say whose crash it was. Such tasks run one
/// at a time later on, so that the next crash has one culprit.
#[test]
fn a_handler_that_crashes_all_executors_at_once_is_stopped_too() {
    keeps_crashing("tenant_q.max_executors = 6\n", 7);
}

fn keeps_crashing(conf: &str, at_most: usize) {
    let mut site = Site::start(conf, &["t1", "t2"]);
    site.allow_boom("t1");
    // Not one by one as they come, but all together.
    site.cluster.run(DB, "SELECT tq_pause('t1')");
    site.cluster.forget_log();
    site.run("t1", "SELECT tq_async('boom', jsonb_build_array(n::text)) FROM generate_series(1, 12) AS n");
    // The first crash may come before the answer.
    let _ = site.cluster.try_run_as("postgres", DB, "SELECT tq_resume('t1')");
    site.cluster
        .wait_until(DB, "SELECT EXISTS (SELECT FROM tenant_q.handler WHERE tenant = 't1' AND name = 'boom' AND quarantined IS NOT NULL)");
    site.assert_alive("t2");
    site.assert_alive("t1");
    let crashes = site.cluster.log().matches("all server processes terminated").count();
    assert!(crashes <= at_most, "{crashes} crashes");
    assert_eq!(site.number("SELECT count(*) FROM fx"), 0);
    assert!(site.number("SELECT count(*) FROM tq_problems WHERE what LIKE '%boom%'") > 0, "shown in tq_problems");
}

#[test]
fn a_lost_machine_is_blamed_on_nobody() {
    let site = Site::start("", &["t1", "t2"]);
    let ids = [("t1", site.enqueue("t1", "gate", r#"["a"]"#, "")), ("t2", site.enqueue("t2", "gate", r#"["b"]"#, ""))];
    let pids: Vec<i32> = ids.iter().map(|(_, id)| site.wait_running(id)).collect();
    // As after a power cut: everything gone at once, nobody told anybody.
    let postmaster = site.cluster.postmaster().expect("it runs");
    cluster::kill(postmaster, libc::SIGSTOP);
    for pid in pids {
        kill9(pid);
    }
    kill9(postmaster);
    wait_for("the postmaster to be gone", cluster::PATIENCE, || !cluster::process_exists(postmaster));
    wait_for("the server to start", cluster::PATIENCE, || site.cluster.try_server_start().is_ok());
    for (_, id) in &ids {
        site.wait_running(id);
    }
    site.open_gate();
    for (tenant, id) in &ids {
        site.wait_ended(tenant, id, 'd');
        assert_eq!(site.counts(tenant, id), (1, 0));
    }
    site.assert_once(2);
}

#[test]
fn stops_count_for_nothing() {
    let site = Site::start("", &["t1", "t2"]);
    let long = site.enqueue("t1", "slow", r#"["long", 600]"#, "");
    let other = site.enqueue("t2", "gate", r#"["other"]"#, "");
    site.wait_running(&long);
    site.wait_running(&other);

    let began = Instant::now();
    site.cluster.stop(Stop::Fast);
    assert!(began.elapsed() < Duration::from_secs(5), "a fast stop took {:?}", began.elapsed());
    site.cluster.server_start();
    let began = Instant::now();
    site.wait_running(&long);
    site.wait_running(&other);
    assert!(began.elapsed() < Duration::from_secs(5), "it took {:?}", began.elapsed());

    site.cluster.restart(Stop::Immediate);
    let began = Instant::now();
    site.wait_running(&long);
    site.wait_running(&other);
    assert!(began.elapsed() < Duration::from_secs(5), "it took {:?}", began.elapsed());
    assert_eq!(site.counts("t1", &long), (0, 0));
    site.open_gate();
    site.wait_ended("t2", &other, 'd');
    assert_eq!(site.counts("t2", &other), (1, 0));
    site.assert_once(1);
    assert_eq!(site.value("t1", &format!("SELECT tq_cancel('{long}')")), "t");
    site.wait_ended("t1", &long, 'c');
    site.cluster.assert_log_clean();
}
