//! Sessions, workers and servers that die with what was taken: a task is done once, or runs again, and who is to blame is blamed.

use std::time::{Duration, Instant};

use cluster::{Stop, wait_for};

use super::{Taken, Worker, die, enqueue, finish_of, shown, start, wait_gone};
use crate::site::{DB, Site};

/// Within which a task runs again whose worker has died.
const AGAIN: Duration = Duration::from_secs(2);

/// The task runs again, soon, and is done then: so often it has been tried, and so often it has crashed.
fn assert_runs_again(site: &Site, task: &Taken, counts: (i64, i64)) {
    let began = Instant::now();
    let mut next = Worker::of(site);
    let again = next.take();
    assert!(began.elapsed() < AGAIN, "{:?}", began.elapsed());
    assert_eq!((&again.id, again.attempt), (&task.id, counts.0));
    next.begin_to_finish(&again, "done");
    next.run("COMMIT");
    site.wait_ended("t1", &task.id, 'd');
    assert_eq!(site.counts("t1", &task.id), counts);
    site.assert_once(1);
}

/// A worker has taken a task and its session is gone, while another session's transaction that ends the task is open.
fn end_without_its_taker(site: &Site) -> (Worker, Taken) {
    enqueue(site);
    let mut worker = Worker::of(site);
    let task = worker.take();
    let mut ending = Worker::of(site);
    ending.begin_to_finish(&task, "done");
    die(site, worker);
    assert_eq!(shown(site, &task.id), "finishing");
    assert!(Worker::of(site).take_now().is_empty(), "its end is still open");
    (ending, task)
}

#[test]
fn an_open_end_whose_taker_has_died_decides_by_its_commit() {
    let site = start("", &["t1"]);
    let (mut ending, task) = end_without_its_taker(&site);
    ending.run("COMMIT");
    site.wait_ended("t1", &task.id, 'd');
    assert_eq!(site.counts("t1", &task.id), (1, 0));
    assert!(Worker::of(&site).take_now().is_empty());
    site.assert_once(1);
    site.cluster.assert_log_clean();
}

#[test]
fn an_open_end_whose_taker_has_died_decides_by_its_rollback() {
    let site = start("", &["t1"]);
    let (mut ending, task) = end_without_its_taker(&site);
    ending.run("ROLLBACK");
    assert_eq!(ending.refused(&finish_of(&task)), "TQ007");
    assert_runs_again(&site, &task, (1, 0));
    site.cluster.assert_log_clean();
}

#[test]
fn an_open_end_that_dies_gives_the_claim_back_to_its_taker() {
    let site = start("", &["t1"]);
    enqueue(&site);
    let mut worker = Worker::of(&site);
    let task = worker.take();
    let mut ending = Worker::of(&site);
    ending.begin_to_finish(&task, "undone");
    die(&site, ending);
    super::assert_claimed(&site, &task);
    worker.begin_to_finish(&task, "done");
    worker.run("COMMIT");
    site.wait_ended("t1", &task.id, 'd');
    assert_eq!(site.counts("t1", &task.id), (1, 0));
    site.assert_once(1);
}

#[test]
fn a_failure_that_is_being_told_is_decided_by_its_transaction_too() {
    let site = start("", &["t1"]);
    enqueue(&site);
    let mut worker = Worker::of(&site);
    let task = worker.take();
    let mut ending = Worker::of(&site);
    ending.run("BEGIN");
    assert_eq!(ending.give_up(&task, ", retry_after => '0'"), "retrying");
    die(&site, worker);
    assert!(Worker::of(&site).take_now().is_empty());
    ending.run("COMMIT");
    assert_runs_again(&site, &task, (2, 0));
}

#[test]
fn a_lock_is_held_until_the_transaction_ends_that_ends_its_task() {
    let site = start("", &["t1"]);
    let first = site.enqueue("t1", "ext", "[]", ", lock => 'x'");
    let mut worker = Worker::of(&site);
    let task = worker.take();
    let second = site.enqueue("t1", "ext", "[]", ", lock => 'x'");
    let mut ending = Worker::of(&site);
    ending.begin_to_finish(&task, "done");
    die(&site, worker);
    let mut next = Worker::of(&site);
    assert!(next.take_now().is_empty());
    ending.run("COMMIT");
    site.wait_ended("t1", &first, 'd');
    let began = Instant::now();
    assert_eq!(next.take().id, second);
    assert!(began.elapsed() < AGAIN, "{:?}", began.elapsed());
}

#[test]
fn an_end_that_goes_on_beyond_timeout_and_grace_has_its_session_ended() {
    let site = start("tenant_q.worker_grace = '500 ms'\n", &["t1"]);
    site.enqueue("t1", "ext", "[]", ", timeout => '1 s', retry => tq_backoff('fixed', base => '0')");
    let mut worker = Worker::of(&site);
    let task = worker.take();
    let mut ending = Worker::of(&site);
    let pid = ending.pid();
    ending.begin_to_finish(&task, "undone");
    wait_for("the end's session to be ended", Duration::from_secs(10), || !cluster::process_exists(pid));
    // Then the attempt is the worker's again, and is over as one is that has timed out.
    let worker_pid = worker.pid();
    wait_for("the worker's session to be ended", Duration::from_secs(10), || !cluster::process_exists(worker_pid));
    assert_runs_again(&site, &task, (2, 0));
}

#[test]
fn a_task_whose_worker_dies_runs_again_uncounted() {
    let site = start("", &["t1"]);
    enqueue(&site);
    let mut worker = Worker::of(&site);
    let task = worker.take();
    worker.run("BEGIN");
    worker.act("undone");
    die(&site, worker);
    assert_runs_again(&site, &task, (1, 1));
    assert_eq!(site.number("SELECT count(*) FROM t1.tq_result WHERE history -> 0 ->> 'outcome' = 'crashed'"), 1);
}

#[test]
fn a_task_with_which_workers_die_each_time_is_quarantined() {
    let site = start("tenant_q.max_crashes = 2\n", &["t1"]);
    let id = enqueue(&site);
    for _ in 0..2 {
        let mut worker = Worker::of(&site);
        assert_eq!(worker.take().id, id);
        die(&site, worker);
    }
    site.wait_ended("t1", &id, 'x');
    assert_eq!(site.counts_of_result("t1", &id), (0, 2));
    // It alone: its handler goes on.
    let next = enqueue(&site);
    let mut worker = Worker::of(&site);
    let task = worker.take();
    assert_eq!(task.id, next);
    worker.finish(&task);
    // Once it is asked for it runs again.
    assert_eq!(site.value("t1", &format!("SELECT tq_requeue('{id}')")), "t");
    assert_eq!(worker.take().id, id);
}

#[test]
fn a_child_s_death_that_its_parent_tells_counts_as_a_crash() {
    let site = start("tenant_q.max_crashes = 2\n", &["t1"]);
    let id = enqueue(&site);
    let mut worker = Worker::of(&site);
    for attempt in 1..=2 {
        let task = worker.take();
        assert_eq!(task.id, id);
        worker.release(&task, ", crashed => true");
        let counts = if attempt == 1 { site.counts("t1", &id) } else { site.counts_of_result("t1", &id) };
        assert_eq!(counts, (0, attempt));
    }
    site.wait_ended("t1", &id, 'x');
    assert!(worker.take_now().is_empty());
}

#[test]
fn who_is_ended_by_an_administrator_is_not_to_blame() {
    let site = start("", &["t1"]);
    enqueue(&site);
    let mut worker = Worker::of(&site);
    let task = worker.take();
    let pid = worker.pid();
    site.cluster.run(DB, &format!("SELECT pg_terminate_backend({pid})"));
    wait_gone(&site, pid);
    assert_runs_again(&site, &task, (1, 0));
}

#[test]
fn a_worker_that_gives_its_tasks_back_is_not_to_blame() {
    let site = start("", &["t1"]);
    enqueue(&site);
    let mut worker = Worker::of(&site);
    let task = worker.take();
    worker.release(&task, ", reason => 'the worker stops'");
    die(&site, worker);
    assert_runs_again(&site, &task, (1, 0));
}

/// In each of a claim's windows the server goes down, in this way.
fn survives(site: &Site, go_down: impl Fn()) {
    let ids: Vec<String> = (0..4).map(|_| enqueue(site)).collect();
    let mut worker = Worker::of(site);
    let tasks = worker.take_all(4);
    let [taken, worked, ended, committed] = &tasks[..] else { panic!("{tasks:?}") };
    worker.begin_to_finish(committed, "committed");
    worker.run("COMMIT");
    let (mut working, mut ending) = (Worker::of(site), Worker::of(site));
    working.run("BEGIN");
    working.act("worked");
    ending.begin_to_finish(ended, "ended");
    go_down();
    let mut next = Worker::of(site);
    for claim in &tasks {
        assert_eq!(next.refused(&finish_of(claim)), "TQ007", "a claim of another life");
    }
    let again = next.take_all(3);
    for (k, task) in [("taken", taken), ("worked", worked), ("ended", ended)] {
        let again = again.iter().find(|again| again.id == task.id).unwrap_or_else(|| panic!("{k} runs again"));
        assert_eq!(again.attempt, 1, "{k}");
        next.begin_to_finish(again, k);
        next.run("COMMIT");
    }
    for id in &ids {
        site.wait_ended("t1", id, 'd');
        assert_eq!(site.counts("t1", id), (1, 0));
    }
    site.assert_once(4);
    assert!(next.take_now().is_empty());
}

#[test]
fn an_immediate_stop_undoes_what_was_not_committed() {
    let site = start("", &["t1"]);
    survives(&site, || site.cluster.restart(Stop::Immediate));
}

#[test]
fn a_fast_stop_is_prompt_and_undoes_what_was_not_committed() {
    let site = start("", &["t1"]);
    survives(&site, || {
        let began = Instant::now();
        site.cluster.stop(Stop::Fast);
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        site.cluster.server_start();
    });
}

#[test]
fn a_killed_postmaster_undoes_what_was_not_committed() {
    let site = start("", &["t1"]);
    survives(&site, || {
        let postmaster = site.cluster.postmaster().expect("it runs");
        cluster::kill9(postmaster);
        wait_for("the postmaster to be gone", cluster::PATIENCE, || !cluster::process_exists(postmaster));
        wait_for("the server to start", cluster::PATIENCE, || site.cluster.try_server_start().is_ok());
    });
}

#[test]
fn a_killed_session_takes_the_server_along_and_nobody_is_to_blame() {
    let site = start("", &["t1"]);
    let mut killed = Worker::of(&site);
    let pid = killed.pid();
    survives(&site, || {
        cluster::kill9(pid);
        site.cluster.wait_for_log("all server processes terminated; reinitializing");
        site.cluster.wait_ready();
    });
}

#[test]
fn a_fast_stop_does_not_wait_for_who_waits_for_tasks() {
    let site = start("", &["t1"]);
    let waiting: Vec<_> = ["CALL tq_await()", "SELECT tq_take(wait => '1 hour')", "SELECT tq_watch('1 hour')"]
        .into_iter()
        .map(|call| {
            let mut worker = Worker::of(&site);
            worker.run("SET tenant_q.max_wait = '1 h'");
            let pid = worker.pid();
            let thread = std::thread::spawn(move || worker.refused(call));
            site.cluster.wait_until(DB, &format!("SELECT wait_event_type = 'Extension' FROM pg_stat_activity WHERE pid = {pid}"));
            thread
        })
        .collect();
    let began = Instant::now();
    site.cluster.stop(Stop::Fast);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    for thread in waiting {
        // The client may learn no more than that the connection is closed.
        assert!(["57P01", ""].contains(&&*thread.join().expect("a waiting worker")));
    }
}
