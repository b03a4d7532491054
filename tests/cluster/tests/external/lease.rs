//! Workers of whom nothing is heard, that go on for too long, or with what was cancelled: they are told, and ended in the end.

use std::time::{Duration, Instant};

use cluster::wait_for;

use super::{Worker, enqueue, shown, start};
use crate::site::{DB, Site};

const AT_ONCE: &str = ", retry => tq_backoff('fixed', base => '0')";

/// What tq_watch tells, each thing once.
fn told(worker: &mut Worker, wait: &str) -> Vec<String> {
    worker.rows(&format!("SELECT what FROM tq_watch('{wait}')")).iter().map(|row| row.get(0).to_owned()).collect()
}

fn wait_gone(pid: i32) {
    wait_for("the worker's session to be ended", Duration::from_secs(10), || !cluster::process_exists(pid));
}

#[test]
fn a_worker_whose_cable_is_cut_loses_its_task_and_its_late_end_undoes_everything() {
    let site = start("tenant_q.worker_lease = '1 s'\n", &["t1"]);
    let id = enqueue(&site);
    let cable = site.cluster.proxy();
    let mut worker = Worker { client: site.cluster.client_by(&cable, "worker", DB) };
    let pid = worker.pid();
    let task = worker.take();
    // Its effects go by another connection, as a pool's.
    let mut effects = Worker::of(&site);
    effects.run("BEGIN");
    effects.act("late");
    cable.cut();
    let mut next = Worker::of(&site);
    let began = Instant::now();
    let again = next.take();
    assert!(!cluster::process_exists(pid), "it runs again before its first session has ended");
    assert!((Duration::from_millis(700)..Duration::from_secs(5)).contains(&began.elapsed()), "{:?}", began.elapsed());
    assert_eq!((&again.id, again.attempt), (&id, 1), "no attempt is counted");
    assert_eq!(effects.try_finish(&task).expect_err("it is late").code, "TQ007");
    effects.run("ROLLBACK");
    next.begin_to_finish(&again, "in time");
    next.run("COMMIT");
    site.wait_ended("t1", &id, 'd');
    site.assert_once(1);
    assert_eq!(site.number("SELECT count(*) FROM fx WHERE k = 'in time'"), 1);
    cable.mend();
    assert!(worker.try_rows("SELECT 1").is_err(), "its session is gone");
    site.cluster.assert_log_clean();
}

#[test]
fn whoever_calls_now_and_then_keeps_its_task() {
    let site = start("tenant_q.worker_lease = '1 s'\n", &["t1"]);
    enqueue(&site);
    let mut worker = Worker::of(&site);
    let task = worker.take();
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(4) {
        assert!(told(&mut worker, "300 ms").is_empty());
        assert_eq!(shown(&site, &task.id), "running");
    }
    worker.finish(&task);
    site.wait_ended("t1", &task.id, 'd');
    assert_eq!(site.counts("t1", &task.id), (1, 0));
}

#[test]
fn a_timeout_is_told_once_and_counted_when_the_worker_goes_on() {
    let site = start("tenant_q.worker_grace = '1 s'\n", &["t1"]);
    let id = site.enqueue("t1", "ext", "[]", &format!(", timeout => '1 s'{AT_ONCE}"));
    let mut worker = Worker::of(&site);
    let pid = worker.pid();
    let task = worker.take();
    let began = Instant::now();
    assert_eq!(told(&mut worker, "10 s"), ["timeout"]);
    assert!((Duration::from_millis(900)..Duration::from_secs(3)).contains(&began.elapsed()), "{:?}", began.elapsed());
    assert!(told(&mut worker, "0").is_empty(), "once");
    wait_gone(pid);
    assert!(began.elapsed() > Duration::from_millis(1900), "it has its grace: {:?}", began.elapsed());
    let mut next = Worker::of(&site);
    let again = next.take();
    assert_eq!((&again.id, again.attempt), (&id, 2), "it has timed out, which is an attempt");
    assert_eq!(site.value("t1", &format!("SELECT outcome || ' ' || sqlstate FROM tq_attempts('{id}')")), "timeout 57014");
    assert_eq!(next.try_finish(&task).expect_err("lost").code, "TQ007");
    next.finish(&again);
    site.wait_ended("t1", &id, 'd');
    assert_eq!(site.counts("t1", &id), (2, 0));
}

#[test]
fn a_worker_that_gives_up_at_its_timeout_keeps_its_session() {
    let site = start("tenant_q.worker_grace = '500 ms'\n", &["t1"]);
    let id = site.enqueue("t1", "ext", "[]", &format!(", timeout => '500 ms', max_attempts => 2{AT_ONCE}"));
    let mut worker = Worker::of(&site);
    for attempt in 1..=2 {
        let task = worker.take();
        assert_eq!(task.attempt, attempt);
        assert_eq!(told(&mut worker, "10 s"), ["timeout"]);
        assert_eq!(worker.give_up(&task, ""), if attempt == 1 { "retrying" } else { "failed" });
    }
    site.wait_ended("t1", &id, 'f');
    // Past any grace it is still there.
    assert!(told(&mut worker, "1500 ms").is_empty());
    site.cluster.assert_log_clean();
}

/// A task that is taken, and then cancelled; the worker has heard of it.
fn cancelled(site: &Site) -> (Worker, super::Taken) {
    let id = enqueue(site);
    let mut worker = Worker::of(site);
    let task = worker.take();
    assert_eq!(task.id, id);
    assert_eq!(site.value("t1", &format!("SELECT tq_cancel('{id}')")), "t");
    assert_eq!(told(&mut worker, "10 s"), ["cancel"]);
    assert!(told(&mut worker, "0").is_empty(), "once");
    (worker, task)
}

#[test]
fn a_cancel_is_told_and_undoes_the_end() {
    let site = start("tenant_q.worker_grace = '500 ms'\n", &["t1"]);
    let (mut worker, task) = cancelled(&site);
    worker.run("BEGIN");
    worker.act("in vain");
    assert_eq!(worker.try_finish(&task).expect_err("cancelled").code, "TQ007");
    worker.run("ROLLBACK");
    // It has understood: it is left alone, past any grace.
    assert!(told(&mut worker, "1500 ms").is_empty());
    assert_eq!(shown(&site, &task.id), "not");
    let next = enqueue(&site);
    let task = worker.take();
    assert_eq!(task.id, next);
    worker.finish(&task);
    site.wait_ended("t1", &next, 'd');
    site.assert_once(0);
    site.cluster.assert_log_clean();
}

#[test]
fn a_cancelled_task_can_be_given_back() {
    let site = start("tenant_q.worker_grace = '500 ms'\n", &["t1"]);
    for call in ["SELECT tq_release($1)", r#"SELECT tq_give_up($1, '{"message": "cancelled"}')"#] {
        let (mut worker, task) = cancelled(&site);
        let call = call.replace("$1", &format!("'{}'", task.claim));
        assert_eq!(worker.try_rows(&call).expect_err("it is cancelled").code, "TQ007");
        assert!(told(&mut worker, "1500 ms").is_empty(), "{call}");
        assert_eq!(shown(&site, &task.id), "not", "{call}");
    }
}

#[test]
fn who_goes_on_with_what_was_cancelled_is_ended() {
    let site = start("tenant_q.worker_grace = '500 ms'\n", &["t1"]);
    let (mut worker, task) = cancelled(&site);
    let pid = worker.pid();
    wait_gone(pid);
    site.wait_ended("t1", &task.id, 'c');
    assert_eq!(site.counts("t1", &task.id).1, 0, "nobody is to blame");
    assert!(Worker::of(&site).take_now().is_empty());
}
