//! Cancelling and timing out: queued and running tasks, handlers that won't be stopped, and the race with the task's end.

use std::time::{Duration, Instant};

use cluster::wait_for;

use crate::site::{DB, Site};

const SWALLOW: &str = "
    CREATE FUNCTION swallow(k text) RETURNS void LANGUAGE plpgsql AS
        $$ BEGIN PERFORM ok(k);
           LOOP BEGIN PERFORM pg_sleep(600); EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; END $$;
    SELECT tq_register('swallow', max_attempts => 1)";

#[test]
fn a_cancelled_task_has_no_effect() {
    let site = Site::start("", &["t1", "t2"]);
    // Queued.
    let later = site.enqueue("t1", "ok", r#"["later"]"#, ", delay => '1 hour'");
    assert_eq!(site.value("t1", &format!("SELECT tq_cancel('{later}')")), "t");
    site.wait_ended("t1", &later, 'c');
    assert_eq!(site.value("t1", &format!("SELECT tq_cancel('{later}')")), "f", "a second time");
    // Running.
    let slow = site.enqueue("t1", "slow", r#"["slow", 600]"#, "");
    let pid = site.wait_running(&slow);
    assert_eq!(site.value("t1", &format!("SELECT tq_cancel('{slow}', running => false)")), "f", "left alone");
    // Only at the commit.
    site.run("t1", &format!("BEGIN; SELECT tq_cancel('{slow}'); ROLLBACK"));
    assert_eq!(site.running(&slow), Some(pid));
    let began = Instant::now();
    assert_eq!(site.value("t1", &format!("SELECT tq_cancel('{slow}')")), "t");
    wait_for("the handler to stop", Duration::from_secs(5), || site.running(&slow).is_none());
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    site.wait_ended("t1", &slow, 'c');
    // One that won't be stopped, beside one of the same tenant that is none of its business.
    site.run("t1", SWALLOW);
    let stubborn = site.enqueue("t1", "swallow", r#"["stubborn"]"#, "");
    let pid = site.wait_running(&stubborn);
    let other = site.enqueue("t1", "gate", r#"["other"]"#, "");
    let other_pid = site.wait_running(&other);
    assert_eq!(site.value("t1", &format!("SELECT tq_cancel('{stubborn}')")), "t");
    wait_for("the executor to be terminated", Duration::from_secs(10), || !cluster::process_exists(pid));
    site.wait_ended("t1", &stubborn, 'c');
    assert_eq!(site.running(&other), Some(other_pid));
    site.open_gate();
    site.wait_ended("t1", &other, 'd');
    site.assert_once(1);
    // By who may not.
    assert_eq!(
        site.cluster.try_run_as("t2", DB, &format!("SELECT tq_cancel('{other}', tenant => 't1')")).expect_err("denied").code,
        "42501"
    );
    site.assert_alive("t1");
    site.cluster.assert_log_clean();
}

#[test]
fn cancel_and_completion_exclude_each_other() {
    let site = Site::start("", &["t1"]);
    let mut client = site.client("t1");
    let (mut cancelled, rounds) = (0, 200);
    for n in 0..rounds {
        // Some are due only when the cancel is on its way, so that on every machine some cancels are first.
        let delay = if n % 5 == 4 { "10 ms" } else { "0" };
        let enqueue = format!("SELECT tq_async('ok', jsonb_build_array($1::int::text), delay => '{delay}')");
        let id: uuid::Uuid = client.query_one(&enqueue, &[&n]).expect("enqueue").get(0);
        // Sooner or later after the commit, so that all stages of a task's life are hit.
        if n % 4 > 0 {
            client.query("SELECT pg_sleep($1::float8)", &[&(f64::from(n % 20) * 0.0002)]).expect("a pause");
        }
        cancelled += i64::from(client.query_one("SELECT tq_cancel($1)", &[&id]).expect("cancel").get::<_, bool>(0));
    }
    site.wait_idle(&["t1"]);
    site.cluster.wait_until(DB, "SELECT NOT EXISTS (SELECT FROM tq_running)");
    assert_eq!(site.number("SELECT count(*) FROM t1.tq_result"), i64::from(rounds));
    assert_eq!(site.number("SELECT count(*) FROM t1.tq_result WHERE state = 'c'"), cancelled);
    assert!(cancelled > 0 && cancelled < i64::from(rounds), "{cancelled} of {rounds}: no race at all");
    assert_eq!(site.number("SELECT count(*) FROM t1.tq_result r JOIN fx ON fx.k = r.args ->> 0 WHERE r.state <> 'd'"), 0);
    site.assert_once(i64::from(rounds) - cancelled);
    site.assert_alive("t1");
    site.cluster.assert_log_clean();
}

#[test]
fn a_timeout_ends_an_attempt_swallowed_or_not() {
    let site = Site::start("", &["t1"]);
    site.run("t1", SWALLOW);
    let plain = site.enqueue(
        "t1",
        "slow",
        r#"["plain", 600]"#,
        ", timeout => '0.5 seconds', max_attempts => 2, retry => tq_backoff('fixed', '0 seconds')",
    );
    site.wait_ended("t1", &plain, 'f');
    assert_eq!(site.counts("t1", &plain), (2, 0));
    let message = site.cluster.value(DB, &format!("SELECT error ->> 'message' FROM t1.tq_result WHERE id = '{plain}'"));
    assert!(message.contains("timeout of 500 ms"), "{message}");
    assert_eq!(site.value("t1", &format!("SELECT string_agg(outcome, ' ') FROM tq_attempts('{plain}')")), "timeout timeout");
    // The attempts of one that won't be stopped are timeouts as well, or it would run for ever.
    let swallowed = site.enqueue(
        "t1",
        "swallow",
        r#"["swallowed"]"#,
        ", timeout => '0.5 seconds', max_attempts => 2, retry => tq_backoff('fixed', '0 seconds')",
    );
    site.wait_ended("t1", &swallowed, 'f');
    assert_eq!(site.counts("t1", &swallowed), (2, 0));
    let message = site.cluster.value(DB, &format!("SELECT error ->> 'message' FROM t1.tq_result WHERE id = '{swallowed}'"));
    assert!(message.contains("timeout of 500 ms"), "{message}");
    assert_eq!(site.value("t1", &format!("SELECT string_agg(outcome, ' ') FROM tq_attempts('{swallowed}')")), "timeout timeout");
    site.assert_once(0);
    // What a role has set for its sessions is not the tasks' timeout.
    site.cluster.run(
        DB,
        "ALTER ROLE t1 SET statement_timeout = '100ms'; ALTER ROLE t1 SET default_transaction_read_only = on;
        ALTER ROLE t1 SET default_transaction_isolation = 'serializable'; ALTER ROLE t1 SET idle_session_timeout = '50ms'",
    );
    for pid in site.cluster.pids("tenant_q executor") {
        cluster::kill(pid, libc::SIGTERM);
    }
    let id = site.cluster.value(DB, r#"SELECT tq_async('slow', '["ok", 0.5]', tenant => 't1')"#);
    site.wait_ended("t1", &id, 'd');
    site.cluster.assert_log_clean();
}

/// Groups and single tasks, of one lock even, while executors are at them: nobody waits for each other in a circle, and each
/// task ends in one way only.
#[test]
fn all_are_cancelled_while_they_run() {
    let site = Site::start("", &["t1"]);
    let mut client = site.client("t1");
    client
        .batch_execute(
            "SELECT tq_pause();
             SELECT tq_group((SELECT jsonb_agg(jsonb_build_object('handler', 'ok', 'args', jsonb_build_array(format('g %s %s', g, s))))
                              FROM generate_series(1, 300) s), '{\"allow_failure\": true}') FROM generate_series(1, 6) g;
             SELECT tq_async('ok', jsonb_build_array('s ' || n), lock => CASE WHEN n % 2 = 0 THEN 'l' END) FROM generate_series(1, 600) n;
             SELECT tq_resume()",
        )
        .expect("enqueued");
    let (mut cancelled, mut more) = (0, true);
    while more {
        let row = client.query_one("SELECT tasks, more FROM tq_cancel_all(handler => 'ok', max_tasks => 250)", &[]).expect("no deadlock");
        cancelled += row.get::<_, i64>(0);
        more = row.get(1);
    }
    site.wait_idle(&["t1"]);
    let of = |what: &str| site.number(&format!("SELECT count(*) FROM t1.tq_result WHERE handler {what}"));
    assert_eq!(of("= 'ok' AND state = 'c'"), cancelled);
    assert_eq!(of("= 'ok'"), 2400);
    assert_eq!(of("= 'tq_group' AND state = 'd'"), 6, "each is counted down to its end");
    site.assert_once(of("= 'ok' AND state = 'd'"));
    assert!(!site.cluster.log().contains("deadlock"), "{}", site.cluster.log());
    site.cluster.assert_log_clean();
}

/// A program outside of the server is waited for until it ends: PostgreSQL itself can't be interrupted there.
const OUTSIDE: &str = "
    CREATE FUNCTION outside(k text, program text) RETURNS void LANGUAGE plpgsql AS
        $$ BEGIN PERFORM ok(k); EXECUTE format('COPY (SELECT 1) TO PROGRAM %L', program); END $$;
    SELECT tq_register('outside', timeout => '0.5 seconds', max_attempts => 1)";

#[test]
fn a_call_that_heeds_nothing_and_returns_too_late_has_no_effect() {
    let site = Site::start("", &["t1"]);
    site.cluster.run(DB, "GRANT pg_execute_server_program TO t1");
    site.run("t1", OUTSIDE);
    // After one cancel, and after the process was told to end.
    for (k, seconds) in [("cancelled", 1), ("told to end", 4)] {
        let id = site.enqueue("t1", "outside", &format!(r#"["{k}", "cat >/dev/null; sleep {seconds}"]"#), "");
        site.wait_ended("t1", &id, 'f');
        assert_eq!(site.value("t1", &format!("SELECT string_agg(outcome, ' ') FROM tq_attempts('{id}')")), "timeout");
    }
    site.assert_once(0);
    site.assert_alive("t1");
    site.cluster.assert_log_clean();
}

#[test]
fn a_call_that_heeds_nothing_costs_nobody_a_place() {
    let site = Site::start("tenant_q.max_executors = 1\n", &["t1", "t2"]);
    site.cluster.run(DB, "GRANT pg_execute_server_program TO t1");
    site.run("t1", OUTSIDE);
    let gate = site.cluster.data().join("gate");
    let program = format!("cat >/dev/null; while [ ! -e {} ]; do sleep 0.1; done", gate.display());
    let outside = |k: &str, rest: &str| site.enqueue("t1", "outside", &format!(r#"["{k}", "{program}"]"#), rest);
    let first = outside("first", "");
    let pid = site.wait_running(&first);
    // The only place is another one's as soon as it is sure that it isn't given back.
    let other = site.enqueue("t2", "ok", r#"["other"]"#, "");
    site.wait_ended("t2", &other, 'd');
    assert_eq!(site.running(&first), Some(pid));
    let told = format!("SELECT reason LIKE 'process {pid} was told to end%' FROM tq_problems WHERE what LIKE 'task {first} %'");
    assert_eq!(site.cluster.value(DB, &told), "t");
    let health = "SELECT NOT ok AND value LIKE '%1 executors that can''t be stopped' FROM tq_health() WHERE check_name = 'places'";
    assert_eq!(site.cluster.value(DB, health), "t");
    // The same of one that is cancelled.
    let second = outside("second", ", timeout => '1 hour'");
    site.wait_running(&second);
    assert_eq!(site.value("t1", &format!("SELECT tq_cancel('{second}')")), "t");
    let other = site.enqueue("t2", "ok", r#"["once more"]"#, "");
    site.wait_ended("t2", &other, 'd');
    // A tenant that has two of them gets no third place.
    let held = site.enqueue("t1", "ok", r#"["held"]"#, "");
    site.cluster.wait_until(
        DB,
        &format!("SELECT EXISTS (SELECT FROM tq_why('{held}', tenant => 't1') WHERE reason || detail LIKE '%can''t be stopped%')"),
    );
    std::fs::write(&gate, "").expect("a file");
    site.wait_ended("t1", &first, 'f');
    site.wait_ended("t1", &second, 'c');
    site.wait_ended("t1", &held, 'd');
    assert_eq!(site.value("t1", &format!("SELECT string_agg(outcome, ' ') FROM tq_attempts('{first}')")), "timeout");
    site.assert_once(3);
    site.cluster.wait_until(DB, "SELECT NOT EXISTS (SELECT FROM tq_problems)");
    site.cluster.assert_log_clean();
}
