//! Each fire time is served once, whoever is killed, and what was missed is caught up as asked.

use std::time::Duration;

use cluster::{PATIENCE, Stop, kill9, wait_for};

use crate::site::{DB, Site};

fn results(site: &Site) -> i64 {
    site.cluster.wait_ready();
    site.number("SELECT count(*) FROM t1.tq_result")
}

fn wait_for_more(site: &Site, n: i64) {
    let before = results(site);
    site.cluster.wait_until(DB, &format!("SELECT count(*) >= {before} + {n} FROM t1.tq_result"));
}

#[test]
fn fire_times_are_served_once_through_crashes_and_restarts() {
    let site = Site::start("", &["t1"]);
    // 'all': what was due while the server was down is served later, so that no second may be missing.
    site.run("t1", "SELECT tq_schedule('each', 'ok', '1 second', args => '[\"tick\"]', catch_up => 'all')");
    wait_for_more(&site, 2);
    site.cluster.restart(Stop::Immediate);
    wait_for_more(&site, 2);
    for kind in ["tenant_q scheduler", "tenant_q executor"] {
        let restarts = |site: &Site| site.cluster.log().matches("all server processes terminated").count();
        let before = restarts(&site);
        kill9(site.cluster.pids(kind)[0]);
        wait_for("the server to go down", PATIENCE, || restarts(&site) > before);
        wait_for_more(&site, 2);
    }
    site.cluster.restart(Stop::Fast);
    wait_for_more(&site, 2);
    site.run("t1", "SELECT tq_unschedule('each')");
    site.wait_idle(&["t1"]);
    let rows = site.cluster.rows(
        DB,
        "SELECT count(*), count(DISTINCT scheduled_for), 1 + extract(epoch FROM max(scheduled_for) - min(scheduled_for))::int, \
         count(*) FILTER (WHERE state <> 'd'), (SELECT count(*) FROM fx) FROM t1.tq_result",
    );
    let n = rows[0].get(0).to_owned();
    assert_eq!(rows[0].joined(" "), format!("{n} {n} {n} 0 {n}"), "tasks, fire times, seconds, not done, effects");
}

#[test]
fn after_a_downtime_missed_fire_times_are_caught_up_as_asked() {
    let site = Site::start("", &["t1"]);
    for catch_up in ["once", "none", "all"] {
        site.run(
            "t1",
            &format!("SELECT tq_schedule('{catch_up}', 'ok', '1 second', args => '[\"{catch_up}\"]', catch_up => '{catch_up}')"),
        );
    }
    wait_for_more(&site, 3);
    site.cluster.stop(Stop::Fast);
    // The world without the server: as if it had been down for ten minutes. The rows say when their next time is.
    site.cluster.append_settings("tenant_q.enabled = off");
    site.cluster.server_start();
    site.run("t1", "UPDATE tq_schedule SET next_run = next_run - interval '100 seconds', anchor = anchor - interval '100 seconds'");
    let before: i64 = results(&site);
    site.cluster.append_settings("tenant_q.enabled = on");
    site.cluster.restart(Stop::Fast);
    site.cluster.wait_until(DB, &format!("SELECT count(*) >= {before} + 105 FROM t1.tq_result"));
    site.run("t1", "SELECT tq_unschedule(name) FROM tq_schedules");
    site.wait_idle(&["t1"]);
    let caught_up = |name: &str| {
        site.number(&format!(
            "SELECT count(*) FROM t1.tq_result WHERE schedule = '{name}' AND created_at - scheduled_for > interval '5.5 seconds'"
        ))
    };
    assert_eq!(caught_up("none"), 0);
    assert!(caught_up("once") <= 1, "{}", caught_up("once"));
    assert!(caught_up("all") >= 90, "{}", caught_up("all"));
    assert_eq!(site.number("SELECT count(*) - count(DISTINCT (schedule, scheduled_for)) FROM t1.tq_result"), 0);
    site.cluster.assert_log_clean();
}

#[test]
fn a_slow_handler_does_not_pile_its_schedule_up() {
    let site = Site::start("", &["t1"]);
    site.run("t1", "SELECT tq_schedule('queue', 'gate', '1 second', args => '[\"queue\"]'); SELECT tq_schedule('skip', 'gate', '1 second', args => '[\"skip\"]', overlap => 'skip')");
    site.cluster.wait_until(DB, "SELECT count(*) = 2 FROM tq_running");
    // A schedule that works tells how time goes by.
    site.run("t1", "SELECT tq_schedule('clock', 'ok', '1 second', args => '[\"clock\"]', overlap => 'allow')");
    wait_for_more(&site, 4);
    assert_eq!(site.number("SELECT count(*) FROM t1.tq_task WHERE schedule = 'queue'"), 2, "one runs, one waits");
    assert_eq!(site.number("SELECT count(*) FROM t1.tq_task WHERE schedule = 'skip'"), 1, "one runs");
    site.open_gate();
    site.cluster.wait_until_within(
        Duration::from_secs(10),
        DB,
        "SELECT count(*) > 3 FROM t1.tq_result WHERE schedule IN ('queue', 'skip')",
    );
    site.cluster.assert_log_clean();
}

#[test]
fn what_comes_after_runs_once_through_kills_of_scheduler_and_executors() {
    const PAIRS: i64 = 30;
    let site = Site::start("", &["t1"]);
    // Each of the first ones at its own time; each of the others after one of them, and one after all.
    site.run(
        "t1",
        &format!(
            "SELECT tq_schedule('a' || n, 'ok', to_char(now() AT TIME ZONE 'UTC' + n * interval '300 ms', 'YYYY-MM-DD HH24:MI:SS.US'), \
             args => jsonb_build_array('a' || n), tz => 'UTC') FROM generate_series(1, {PAIRS}) n; \
             SELECT tq_schedule('b' || n, 'ok', 'after', args => jsonb_build_array('b' || n), after => ARRAY['a' || n]) FROM generate_series(1, {PAIRS}) n; \
             SELECT tq_schedule('c', 'ok', 'after', args => '[\"c\"]', after => (SELECT array_agg('b' || n) FROM generate_series(1, {PAIRS}) n))"
        ),
    );
    let effects = |site: &Site| {
        site.cluster.wait_ready();
        site.number("SELECT count(*) FROM fx")
    };
    let restarts = |site: &Site| site.cluster.log().matches("all server processes terminated").count();
    for kind in ["tenant_q scheduler", "tenant_q executor", "tenant_q scheduler", "tenant_q scheduler"] {
        let (seen, before) = (effects(&site), restarts(&site));
        site.cluster.wait_until(DB, &format!("SELECT count(*) >= {seen} + 4 OR count(*) = 2 * {PAIRS} + 1 FROM fx"));
        if let Some(pid) = site.cluster.pids(kind).first() {
            kill9(*pid);
            wait_for("the server to go down", PATIENCE, || restarts(&site) > before);
        }
    }
    site.cluster.wait_ready();
    site.cluster.wait_until(DB, "SELECT EXISTS (SELECT FROM t1.tq_result WHERE schedule = 'c')");
    site.wait_idle(&["t1"]);
    let rows = site.cluster.rows(
        DB,
        "SELECT count(*), count(DISTINCT schedule), count(*) FILTER (WHERE state <> 'd'), (SELECT count(*) FROM fx), (SELECT count(DISTINCT k) FROM fx) FROM t1.tq_result",
    );
    let n = 2 * PAIRS + 1;
    assert_eq!(rows[0].joined(" "), format!("{n} {n} 0 {n} {n}"), "tasks, schedules, not done, effects, of so many");
    assert_eq!(site.number("SELECT count(*) FROM t1.tq_schedule WHERE next_run IS NOT NULL OR problem IS NOT NULL OR run_count <> 1"), 0);
}

#[test]
fn a_scheduler_that_is_terminated_while_many_tenants_are_due_leaves_none_behind() {
    const TENANTS: i64 = 200;
    // Nobody looks for what was lost.
    let site = Site::start("tenant_q.sweep_interval = 0\n", &[]);
    site.cluster.run(
        DB,
        &format!(
            "CREATE ROLE many LOGIN; SELECT tq_register('ok', 'public.ok(text)', shared => true); \
             DO $$ BEGIN FOR n IN 1 .. {TENANTS} LOOP EXECUTE format('CREATE SCHEMA m%s AUTHORIZATION many', to_char(n, 'FM0000')); END LOOP; END $$"
        ),
    );
    site.cluster.run(DB, "CALL tq_attach_all('m%')");
    site.cluster.wait_until(DB, "SELECT count(*) = 0 FROM tenant_q.fanout_tenant");
    // All at the same moment, which is still to come when the last one has been made.
    let due = site.cluster.value(DB, "SELECT to_char(now() AT TIME ZONE 'UTC' + '10 seconds', 'YYYY-MM-DD HH24:MI:SS')");
    site.cluster
        .run(DB, &format!("SELECT tq_schedule('due', 'ok', '{due}', '[\"due\"]', tz => 'UTC', tenant => name) FROM tenant_q.tenant"));
    let left = |site: &Site| site.number("SELECT count(*) FROM fx");
    for _ in 0..3 {
        let seen = left(&site);
        site.cluster.wait_until(DB, &format!("SELECT count(*) > {seen} OR count(*) = {TENANTS} FROM fx"));
        site.cluster.run(DB, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'tenant_q scheduler'");
    }
    site.cluster.wait_until_within(Duration::from_secs(20), DB, &format!("SELECT count(*) = {TENANTS} FROM fx"));
    site.assert_once(TENANTS);
}

#[test]
fn a_scheduler_that_keeps_dying_is_not_started_four_times_a_second() {
    let site = Site::start("", &["t1"]);
    site.run("t1", "SELECT tq_schedule('each', 'ok', '1 second', '[\"tick\"]')");
    wait_for_more(&site, 1);
    let mut client = site.cluster.client("postgres", DB);
    let began = std::time::Instant::now();
    let mut killed = 0;
    while began.elapsed() < Duration::from_secs(8) {
        let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE backend_type = 'tenant_q scheduler'";
        killed += client.query_one(sql, &[]).expect("it works").get::<_, i64>(0);
        std::thread::sleep(Duration::from_millis(20));
    }
    // 0, 0.25, 0.75, 1.75, 3.75, 7.75 s: each time twice as long.
    assert!(killed <= 12, "{killed} were started");
    wait_for_more(&site, 2);
}

#[test]
fn what_comes_due_in_a_pause_is_served_when_it_ends_however_slow_the_machine() {
    let site = Site::start("", &["t1"]);
    // Somebody keeps all processors busy, so that a scheduler which has just been started reads the tenant while the pause ends.
    let busy = std::sync::atomic::AtomicBool::new(true);
    std::thread::scope(|scope| {
        for _ in 0..2 * std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while busy.load(std::sync::atomic::Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        for n in 0..60 {
            site.run("t1", "SELECT tq_pause()");
            let start = "now() - interval '90 minutes'";
            site.run("t1", &format!("SELECT tq_schedule('s{n}', 'ok', 'daily', start_at => {start}, args => '[\"x\"]')"));
            site.run("t1", "SELECT tq_resume()");
            let served = format!("SELECT run_count = 1 FROM t1.tq_schedule WHERE name = 's{n}'");
            if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| site.cluster.wait_until(DB, &served))).is_err() {
                busy.store(false, std::sync::atomic::Ordering::Relaxed);
                panic!("schedule s{n} is not served");
            }
        }
        busy.store(false, std::sync::atomic::Ordering::Relaxed);
    });
}
