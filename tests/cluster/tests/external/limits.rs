//! Locks, limits, rates, keys, priorities and times hold across tasks of the server and of workers.

use std::time::Duration;

use super::waiting::Wait;
use super::{Worker, enqueue, start};
use crate::site::{DB, Site};

/// `site.enqueue` of a task of a worker's, and of one in the server that waits for [`Site::open_gate`].
const OUTSIDE: (&str, &str) = ("ext", "[]");
const INSIDE: (&str, &str) = ("gate", r#"["gate"]"#);

fn ended(site: &Site, id: &str) -> bool {
    site.number(&format!("SELECT count(*) FROM t1.tq_result WHERE id = '{id}'")) == 1
}

/// Nobody has it, and it says why.
fn assert_waits(site: &Site, id: &str, reason: &str) {
    site.cluster.wait_until_within(
        Duration::from_secs(10),
        DB,
        &format!("SELECT EXISTS (SELECT FROM tq_why('{id}', 't1') WHERE reason = '{reason}')"),
    );
    assert_eq!(site.running(id), None);
    assert!(!ended(site, id));
}

/// One place for tasks with these parameters, in the server or outside.
fn assert_one_at_a_time(site: &Site, rest: &str) {
    let mut worker = Worker::of(site);
    // While one runs in the server a worker gets none.
    let inside = site.enqueue("t1", INSIDE.0, INSIDE.1, rest);
    site.wait_running(&inside);
    let outside = site.enqueue("t1", OUTSIDE.0, OUTSIDE.1, rest);
    assert!(worker.take_now().is_empty(), "{rest}");
    assert_waits(site, &outside, "limit");
    site.open_gate();
    site.wait_ended("t1", &inside, 'd');
    let task = worker.take();
    assert_eq!(task.id, outside);
    // While a worker has one neither another worker gets one, nor does one run in the server.
    let second = site.enqueue("t1", OUTSIDE.0, OUTSIDE.1, rest);
    let inside = site.enqueue("t1", "ok", r#"["ok"]"#, rest);
    assert!(Worker::of(site).take_now().is_empty(), "{rest}");
    assert_waits(site, &second, "limit");
    assert_waits(site, &inside, "limit");
    // Whichever comes next, both do.
    worker.finish(&task);
    let task = worker.take();
    assert_eq!(task.id, second);
    worker.finish(&task);
    site.wait_ended("t1", &inside, 'd');
    site.cluster.assert_log_clean();
}

#[test]
fn tasks_of_one_lock_run_one_at_a_time() {
    assert_one_at_a_time(&start("", &["t1"]), ", lock => 'x'");
}

#[test]
fn tasks_of_one_limit_key_run_so_many_at_a_time() {
    let site = start("", &["t1"]);
    site.run("t1", "SELECT tq_set_limit('x', max_running => 1)");
    assert_one_at_a_time(&site, ", limit_key => 'x'");
}

#[test]
fn tasks_of_one_queue_run_so_many_at_a_time() {
    let site = start("", &["t1"]);
    site.run("t1", "SELECT tq_set_queue('x', max_running => 1)");
    assert_one_at_a_time(&site, ", queue => 'x'");
}

#[test]
fn tasks_of_one_tenant_run_so_many_at_a_time() {
    let site = start("", &["t1"]);
    site.cluster.run(DB, "SELECT tq_set_quota('t1', max_running => 1)");
    assert_one_at_a_time(&site, "");
}

#[test]
fn tasks_of_one_handler_run_so_many_at_a_time() {
    let site = start("", &["t1"]);
    site.run("t1", "SELECT tq_register('ext', external => true, max_running => 2)");
    for _ in 0..4 {
        enqueue(&site);
    }
    let mut worker = Worker::of(&site);
    let tasks = worker.take_now();
    assert_eq!(tasks.len(), 2);
    assert!(worker.take_now().is_empty());
    worker.finish(&tasks[0]);
    worker.take();
    assert!(worker.take_now().is_empty());
}

#[test]
fn one_take_gets_no_more_than_there_is_room_for() {
    let site = start("", &["t1"]);
    for n in 0..6 {
        site.enqueue("t1", "ext", "[]", &format!(", lock => 'lock {}'", n % 2));
    }
    let mut worker = Worker::of(&site);
    let tasks = worker.take_now();
    assert_eq!(tasks.len(), 2, "one of each lock");
    worker.give_up(&tasks[0], ", final => true");
    worker.release(&tasks[1], "");
    worker.take_all(2);
    assert!(worker.take_now().is_empty());
}

#[test]
fn a_rate_counts_starts_in_the_server_and_outside() {
    let site = start("", &["t1"]);
    site.run("t1", "SELECT tq_set_limit('x', rate => '2/h')");
    let inside = site.enqueue("t1", "ok", r#"["a"]"#, ", limit_key => 'x'");
    site.wait_ended("t1", &inside, 'd');
    let mut worker = Worker::of(&site);
    site.enqueue("t1", "ext", "[]", ", limit_key => 'x'");
    let task = worker.take();
    worker.finish(&task);
    let third = site.enqueue("t1", "ext", "[]", ", limit_key => 'x'");
    let fourth = site.enqueue("t1", "ok", r#"["b"]"#, ", limit_key => 'x'");
    assert!(worker.take_now().is_empty());
    for id in [&third, &fourth] {
        assert_waits(&site, id, "rate");
    }
    site.run("t1", "SELECT tq_set_limit('x', reset => '{rate}')");
    assert_eq!(worker.take().id, third);
    site.wait_ended("t1", &fourth, 'd');
}

#[test]
fn a_handler_s_rate_holds_for_workers() {
    let site = start("", &["t1"]);
    site.run("t1", "SELECT tq_register('ext', external => true, rate => '2/h')");
    for _ in 0..3 {
        enqueue(&site);
    }
    assert_eq!(Worker::of(&site).take_now().len(), 2);
}

#[test]
fn a_unique_key_is_held_until_the_end() {
    let site = start("", &["t1"]);
    let first = site.enqueue("t1", "ext", "[]", ", unique_key => 'x'");
    let again = "SELECT tq_async('ext', '[]', unique_key => 'x')";
    let skip = "SELECT tq_async('ext', '[]', unique_key => 'x', on_conflict => 'skip')";
    let mut worker = Worker::of(&site);
    let task = worker.take();
    assert_eq!(site.cluster.try_run_as("t1", DB, again).expect_err("it is taken").code, "23505");
    assert_eq!(site.value("t1", skip), first);
    worker.finish(&task);
    assert_ne!(site.value("t1", again), first);
}

#[test]
fn a_unique_key_that_is_held_until_the_start_is_free_when_a_worker_has_the_task() {
    let site = start("", &["t1"]);
    let enqueue = "SELECT tq_async('ext', '[]', unique_key => 'x', unique_until => 'started')";
    let first = site.value("t1", enqueue);
    assert_eq!(site.cluster.try_run_as("t1", DB, enqueue).expect_err("it waits").code, "23505");
    let mut worker = Worker::of(&site);
    let task = worker.take();
    assert_eq!(task.id, first);
    let second = site.value("t1", enqueue);
    assert_ne!(second, first);
    worker.finish(&task);
    site.wait_ended("t1", &first, 'd');
    assert_eq!(worker.take().id, second);
}

#[test]
fn what_has_expired_is_not_handed_out() {
    let site = start("", &["t1"]);
    let id = site.enqueue("t1", "ext", "[]", ", expires => '1 ms'");
    let mut worker = Worker::of(&site);
    // An executor may have ended it by then.
    let is_over = format!("SELECT coalesce((SELECT now() > created_at + interval '1 ms' FROM t1.tq_task WHERE id = '{id}'), true)");
    site.cluster.wait_until(DB, &is_over);
    assert!(worker.take_now().is_empty());
    site.wait_ended("t1", &id, 'e');
    // What was taken in time doesn't expire.
    site.enqueue("t1", "ext", "[]", ", expires => '1 s'");
    let task = worker.take();
    site.cluster.wait_until(DB, &format!("SELECT now() > created_at + interval '1 s' FROM t1.tq_task WHERE id = '{}'", task.id));
    worker.finish(&task);
    site.wait_ended("t1", &task.id, 'd');
}

#[test]
fn what_is_urgent_comes_first_and_what_is_not_due_comes_later() {
    let site = start("", &["t1"]);
    let low = site.enqueue("t1", "ext", "[]", ", priority => -1");
    let middle = site.enqueue("t1", "ext", "[]", "");
    let high = site.enqueue("t1", "ext", "[]", ", priority => 1, queue => 'q'");
    let later = site.enqueue("t1", "ext", "[]", ", priority => 9, delay => '2 s'");
    let mut worker = Worker::of(&site);
    for id in [&high, &middle, &low, &later] {
        assert_eq!(&worker.take().id, id);
    }
    let due = format!("SELECT clock_timestamp() >= run_at FROM t1.tq_task WHERE id = '{later}'");
    assert_eq!(site.value("postgres", &due), "t");
}

#[test]
fn who_has_as_many_as_its_role_may_sleeps_until_one_is_over() {
    let site = start("tenant_q.max_claims = 16\n", &["t1"]);
    let claims = "SELECT ok FROM tq_health() WHERE check_name = 'claims'";
    for _ in 0..12 {
        enqueue(&site);
    }
    let mut worker = Worker::of(&site);
    let tasks = worker.take_now();
    assert_eq!(tasks.len(), 8, "half of all");
    assert_eq!(worker.refused("SELECT * FROM tq_take()"), "53400");
    site.cluster.wait_until(DB, &format!("SELECT NOT ({claims})"));
    let said = "SELECT value || ' ' || detail || ' ' || hint FROM tq_health() WHERE check_name = 'claims'";
    let said = site.cluster.value(DB, said);
    assert!(said.contains("8 of 16") && said.contains("role worker ") && said.contains("max_claims = 32"), "{said}");
    // Two that wait: one place is one call.
    let wait = Wait::begin(&site, Worker::of(&site), "'60 s'");
    let mut other = Worker::of(&site);
    let pid = other.pid();
    let taking = std::thread::spawn(move || other.taken("wait => '60 s'").len());
    site.cluster.wait_until(DB, &format!("SELECT wait_event = 'Extension' FROM pg_stat_activity WHERE pid = {pid}"));
    enqueue(&site);
    assert!(!wait.is_over() && !taking.is_finished(), "there is something, but no room");
    worker.finish(&tasks[0]);
    let (mut called, ended, _) = wait.end();
    assert_eq!(ended, Ok(()));
    assert_eq!(called.take_now().len(), 1);
    assert!(!taking.is_finished());
    worker.finish(&tasks[1]);
    assert_eq!(taking.join().expect("a wait"), 1);
    // Its session has gone, and so on: nobody waits for room that is there.
    called.take();
    drop((worker, called));
    site.cluster.wait_until(DB, claims);
    site.cluster.assert_log_clean();
}

#[test]
fn a_take_that_waits_at_the_ceiling_says_so_in_the_end() {
    let site = start("tenant_q.max_claims = 16\n", &["t1"]);
    for _ in 0..12 {
        enqueue(&site);
    }
    let mut worker = Worker::of(&site);
    assert_eq!(worker.take_now().len(), 8);
    assert_eq!(worker.refused("SELECT * FROM tq_take(wait => '300 ms')"), "53400");
    // Another role has half of what is left.
    site.cluster.run(DB, "CREATE ROLE other LOGIN");
    site.run("t1", "SELECT tq_grant('other', '{work}')");
    assert_eq!(Worker::as_role(&site, "other").take_now().len(), 4);
}
