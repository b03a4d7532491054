//! What workers say of their tasks: results, one or many at a time, failures and what comes of them, and what is counted.

use super::{Taken, Worker, enqueue, start};
use crate::site::{DB, Site};

fn result_of(site: &Site, id: &str) -> String {
    site.value("t1", &format!("SELECT tq_result('{id}', wait => '20 s')"))
}

/// So many tasks, all of them a worker's.
fn taken(site: &Site, n: usize) -> (Worker, Vec<Taken>) {
    let mut ids: Vec<String> = (0..n).map(|_| enqueue(site)).collect();
    let mut worker = Worker::of(site);
    let tasks = worker.take_now();
    let mut got: Vec<String> = tasks.iter().map(|task| task.id.clone()).collect();
    ids.sort();
    got.sort();
    assert_eq!(got, ids);
    (worker, tasks)
}

fn array(claims: &[&str]) -> String {
    format!("ARRAY['{}']::uuid[]", claims.join("','"))
}

#[test]
fn many_end_at_once_each_with_its_result() {
    let site = start("", &["t1"]);
    let (mut worker, tasks) = taken(&site, 20);
    let claims: Vec<&str> = tasks.iter().map(|task| &*task.claim).collect();
    let results = "(SELECT array_agg(to_jsonb(n)) FROM generate_series(0, 19) AS n)";
    assert_eq!(worker.value(&format!("SELECT tq_finish_many({}, {results})", array(&claims))), "20");
    for (n, task) in tasks.iter().enumerate() {
        assert_eq!(result_of(&site, &task.id), n.to_string());
        assert_eq!(site.counts("t1", &task.id), (1, 0));
    }
    assert_eq!(worker.value("SELECT tq_finish_many('{}')"), "0", "of none");
    site.cluster.assert_log_clean();
}

#[test]
fn of_many_none_ends_where_one_is_gone() {
    let site = start("", &["t1"]);
    let (mut worker, tasks) = taken(&site, 3);
    let unknown = "00000000-0000-4000-8000-000000000000";
    for (n, claims) in
        [[&*tasks[0].claim, unknown, &tasks[1].claim], [&tasks[0].claim, &tasks[1].claim, &tasks[0].claim]].iter().enumerate()
    {
        let error = worker.try_rows(&format!("SELECT tq_finish_many({})", array(claims))).expect_err("one is gone");
        assert_eq!(error.code, "TQ007");
        assert!(error.message.contains(if n == 0 { unknown } else { &tasks[0].claim }), "it names itself: {error}");
    }
    let two = array(&[&tasks[0].claim, &tasks[1].claim]);
    assert_eq!(worker.refused(&format!("SELECT tq_finish_many({two}, ARRAY['1']::jsonb[])")), "22023", "as many results");
    assert_eq!(site.number("SELECT count(*) FROM t1.tq_result"), 0);
    for task in &tasks {
        super::assert_claimed(&site, task);
        worker.finish(task);
        site.wait_ended("t1", &task.id, 'd');
    }
}

#[test]
fn two_that_end_the_same_many_in_other_orders_do_not_wait_for_each_other() {
    let site = start("deadlock_timeout = '100 ms'\n", &["t1"]);
    let (worker, tasks) = taken(&site, 100);
    let forwards: Vec<&str> = tasks.iter().map(|task| &*task.claim).collect();
    let backwards: Vec<&str> = forwards.iter().rev().copied().collect();
    let ended: Vec<String> = std::thread::scope(|threads| {
        let ends = [forwards, backwards].map(|claims| {
            let mut session = Worker::of(&site);
            threads.spawn(move || match session.try_rows(&format!("SELECT tq_finish_many({})", array(&claims))) {
                Ok(_) => "done".to_owned(),
                Err(error) => error.code,
            })
        });
        ends.into_iter().map(|end| end.join().expect("an end")).collect()
    });
    assert!(ended == ["done", "TQ007"] || ended == ["TQ007", "done"], "{ended:?}");
    assert_eq!(site.number("SELECT count(*) FROM t1.tq_result WHERE state = 'd'"), 100);
    drop(worker);
}

#[test]
fn a_result_is_any_document() {
    let site = start("", &["t1"]);
    let (mut worker, tasks) = taken(&site, 4);
    worker.finish(&tasks[0]);
    assert_eq!(result_of(&site, &tasks[0].id), "null", "none is as a function's that returns nothing");
    worker.finish_with(&tasks[1], "null");
    assert_eq!(result_of(&site, &tasks[1].id), "null");
    worker.finish_with(&tasks[2], r#"{"a": [1, "ü", null]}"#);
    assert_eq!(result_of(&site, &tasks[2].id), r#"{"a": [1, "ü", null]}"#);
    let claim = &tasks[3].claim;
    worker
        .run(&format!("SELECT tq_finish('{claim}', to_jsonb((SELECT string_agg(md5(n::text), '') FROM generate_series(1, 100000) AS n)))"));
    let length = format!("SELECT length(tq_result('{}', wait => '20 s') #>> '{{}}')", tasks[3].id);
    assert_eq!(site.value("t1", &length), "3200000");
}

#[test]
fn a_task_that_keeps_no_result_keeps_none() {
    let site = start("", &["t1"]);
    let id = site.enqueue("t1", "ext", "[]", ", save => false");
    let mut worker = Worker::of(&site);
    let task = worker.take();
    worker.begin_to_finish(&task, "done");
    worker.run("COMMIT");
    assert_eq!(
        site.number(&format!("SELECT (SELECT count(*) FROM t1.tq_result WHERE id = '{id}') + (SELECT count(*) FROM t1.tq_task)")),
        0
    );
    site.assert_once(1);
}

#[test]
fn a_failure_is_tried_again_as_its_policy_says() {
    let site = start("", &["t1"]);
    let id = site.enqueue("t1", "ext", "[]", ", max_attempts => 3, retry => tq_backoff('fixed', base => '0')");
    let mut worker = Worker::of(&site);
    for (attempt, state) in [(1, "retrying"), (2, "retrying"), (3, "failed")] {
        let task = worker.take();
        assert_eq!((&task.id, task.attempt), (&id, attempt));
        assert_eq!(worker.give_up(&task, ""), state);
    }
    site.wait_ended("t1", &id, 'f');
    assert_eq!(site.counts("t1", &id), (3, 0));
    let error = site.value("postgres", &format!("SELECT error ->> 'message' FROM t1.tq_result WHERE id = '{id}'"));
    assert_eq!(error, "no");
    assert_eq!(site.value("t1", &format!("SELECT count(*) FROM tq_attempts('{id}')")), "3");
}

#[test]
fn a_failure_waits_for_its_backoff() {
    let site = start("", &["t1"]);
    let id = site.enqueue("t1", "ext", "[]", ", retry => tq_backoff('fixed', base => '1 hour')");
    let mut worker = Worker::of(&site);
    let task = worker.take();
    let later = "run_at BETWEEN now() + interval '3590 s' AND now() + interval '3610 s'";
    assert_eq!(worker.value(&format!(r#"SELECT {later} FROM tq_give_up('{}', '{{"message": "no"}}')"#, task.claim)), "t");
    assert!(worker.take_now().is_empty());
    assert_eq!(site.value("t1", &format!("SELECT state FROM tq_fetch('{id}')")), "retrying");
    assert_eq!(site.value("t1", &format!("SELECT tq_update('{id}', run_at => now())")), "t", "sooner");
    assert_eq!(worker.take().attempt, 2);
}

#[test]
fn a_worker_says_when_to_try_again_or_never() {
    let site = start("", &["t1"]);
    let policy = ", max_attempts => 3, retry => tq_backoff('fixed', base => '1 hour')";
    let id = site.enqueue("t1", "ext", "[]", policy);
    let mut worker = Worker::of(&site);
    let task = worker.take();
    assert_eq!(worker.give_up(&task, ", retry_after => '0'"), "retrying");
    let task = worker.take();
    assert_eq!(task.attempt, 2);
    assert_eq!(worker.give_up(&task, ", final => true"), "failed");
    site.wait_ended("t1", &id, 'f');
    assert_eq!(site.counts("t1", &id), (2, 0));
}

#[test]
fn a_policy_knows_classes_of_errors() {
    let site = start("", &["t1"]);
    let policy = ", retry => tq_backoff('fixed', base => '0', never_on => '{stripe.error.}')";
    let mut worker = Worker::of(&site);
    for (class, state) in [("stripe.error.CardError", "failed"), ("requests.Timeout", "retrying")] {
        site.enqueue("t1", "ext", "[]", policy);
        let task = worker.take();
        let error = format!(r#"{{"message": "no", "class": "{class}", "traceback": "line 1"}}"#);
        assert_eq!(worker.value(&format!("SELECT state FROM tq_give_up('{}', '{error}')", task.claim)), state, "{class}");
    }
}

#[test]
fn what_is_given_back_comes_again_uncounted_when_it_is_to() {
    let site = start("", &["t1"]);
    let id = enqueue(&site);
    let mut worker = Worker::of(&site);
    for _ in 0..3 {
        let task = worker.take();
        assert_eq!((&task.id, task.attempt), (&id, 1));
        worker.release(&task, "");
    }
    let task = worker.take();
    worker.release(&task, ", delay => '1 hour', reason => 'the provider is down'");
    assert!(worker.take_now().is_empty());
    assert_eq!(site.counts("t1", &id), (0, 0));
    site.run("t1", &format!("SELECT tq_update('{id}', run_at => now())"));
    let task = worker.take();
    assert_eq!(task.attempt, 1);
    worker.finish(&task);
    site.wait_ended("t1", &id, 'd');
    assert!(site.value("t1", &format!("SELECT a::text FROM tq_attempts('{id}') AS a LIMIT 1")).contains("the provider is down"));
}

#[test]
fn ends_are_counted_as_those_of_tasks_in_the_server() {
    let site = start("", &["t1"]);
    let mut worker = Worker::of(&site);
    let retried = site.enqueue("t1", "ext", "[]", ", retry => tq_backoff('fixed', base => '0')");
    let task = worker.take();
    worker.give_up(&task, "");
    let task = worker.take();
    assert_eq!(task.id, retried);
    worker.finish(&task);
    site.enqueue("t1", "ext", "[]", ", max_attempts => 1");
    let task = worker.take();
    // What is undone counts for nothing.
    worker.begin_to_finish(&task, "undone");
    worker.run("ROLLBACK");
    worker.give_up(&task, "");
    let stats = "SELECT concat_ws(' ', done, failed, retried, timeouts) FROM tq_stats WHERE handler = 'ext'";
    site.cluster.wait_until(DB, &format!("SELECT ({stats}) = '1 1 1 0'"));
    let times = "SELECT mean_run_time > '0' AND mean_wait_time > '0' AND max_run_time < '1 min' FROM tq_stats WHERE handler = 'ext'";
    assert_eq!(site.value("postgres", times), "t");
    let failures = "SELECT string_agg(concat_ws(' ', tenant, handler, attempt, message), '; ') FROM tq_failures";
    assert_eq!(site.value("postgres", failures), "t1 ext 1 no; t1 ext 1 no");
    let tenant = "SELECT concat_ws(' ', queued, running, done, failed, retried) FROM tq_tenants WHERE tenant = 't1'";
    assert_eq!(site.value("postgres", tenant), "0 0 1 1 1");
}

#[test]
fn a_worker_s_task_is_seen_while_it_waits_runs_and_ends() {
    let site = start("", &["t1"]);
    let id = enqueue(&site);
    let state = || site.value("t1", &format!("SELECT state FROM tq_fetch('{id}')"));
    assert_eq!(state(), "queued");
    let mut worker = Worker::of(&site);
    let task = worker.take();
    assert_eq!(state(), "running");
    let gauge = "SELECT concat_ws(' ', queued, running) FROM tq_tenants WHERE tenant = 't1'";
    assert_eq!(site.value("postgres", gauge), "0 1");
    worker.finish(&task);
    assert_eq!(state(), "done");
    assert_eq!(site.value("postgres", gauge), "0 0");
}

#[test]
fn old_results_of_workers_tasks_go_too() {
    let site = start("tenant_q.retention_every = 5\n", &["t1"]);
    site.run("t1", "SELECT tq_set_tenant(save_limit => 3, result_ttl => '0')");
    let (mut worker, tasks) = taken(&site, 25);
    for task in &tasks {
        worker.finish(task);
    }
    site.cluster.wait_until(DB, "SELECT count(*) BETWEEN 3 AND 8 FROM t1.tq_result");
    // The last ones stay.
    let last = &tasks.last().expect("some").id;
    assert_eq!(site.number(&format!("SELECT count(*) FROM t1.tq_result WHERE id = '{last}'")), 1);
}

#[test]
fn a_failure_that_is_rolled_back_is_none() {
    let site = start("", &["t1"]);
    enqueue(&site);
    let mut worker = Worker::of(&site);
    let task = worker.take();
    let failures = "SELECT count(*) FROM tq_failures";
    worker.run("BEGIN");
    assert_eq!(worker.give_up(&task, ", retry_after => '0'"), "retrying");
    worker.run("ROLLBACK");
    assert_eq!(site.value("t1", failures), "0");
    worker.run("BEGIN; SAVEPOINT a");
    worker.give_up(&task, ", final => true");
    worker.run("ROLLBACK TO a; COMMIT");
    assert_eq!(site.value("t1", failures), "0");
    assert_eq!(worker.give_up(&task, ", final => true"), "failed");
    assert_eq!(site.value("t1", "SELECT handler || ' ' || message || ' ' || attempt FROM tq_failures"), "ext no 1");
}
