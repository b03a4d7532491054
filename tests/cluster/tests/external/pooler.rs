//! Tasks that end through a pooler in transaction mode, whose sessions of the server are anybody's: pgbouncer.

use std::time::Duration;

use cluster::{Pooler, wait_for};

use super::{Taken, Worker, assert_claimed, die, enqueue, finish_of, shown, start, wait_blocked};
use crate::site::{DB, Site};

/// A pooler that has this many sessions of the worker's role.
fn pooled(site: &Site, size: usize) -> Pooler {
    site.cluster.pooler(&["worker"], size)
}

fn client(pooler: &Pooler) -> Worker {
    Worker { client: pooler.client("worker", DB) }
}

#[test]
fn clients_that_share_sessions_end_each_task_once() {
    let site = start("", &["t1"]);
    let pooler = pooled(&site, 2);
    let mut taker = Worker::of(&site);
    let mut clients: Vec<Worker> = (0..6).map(|_| client(&pooler)).collect();
    for _ in 0..10 {
        let ids: Vec<String> = (0..12).map(|_| enqueue(&site)).collect();
        let tasks = taker.take_all(12);
        // Six clients of two sessions, two tasks each: whichever session a transaction gets.
        std::thread::scope(|threads| {
            for (client, tasks) in clients.iter_mut().zip(tasks.chunks(2)) {
                threads.spawn(move || {
                    client.begin_to_finish(&tasks[0], &tasks[0].id);
                    client.run("COMMIT");
                    client.run("BEGIN");
                    client.act("undone");
                    client.finish(&tasks[1]);
                    client.run("ROLLBACK");
                    client.begin_to_finish(&tasks[1], &tasks[1].id);
                    client.run("COMMIT");
                });
            }
        });
        ids.iter().for_each(|id| site.wait_ended("t1", id, 'd'));
    }
    site.assert_once(120);
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'worker' AND application_name = 'pooled'";
    assert_eq!(site.number(sessions), 2);
    site.cluster.assert_log_clean();
}

#[test]
fn every_end_of_a_task_can_go_through_it() {
    let site = start("", &["t1"]);
    let pooler = pooled(&site, 2);
    (0..4).for_each(|_| _ = enqueue(&site));
    let mut taker = Worker::of(&site);
    let tasks = taker.take_all(4);
    let mut client = client(&pooler);
    let claims = format!("ARRAY['{}', '{}']::uuid[]", tasks[0].claim, tasks[1].claim);
    assert_eq!(client.value(&format!("SELECT tq_finish_many({claims})")), "2");
    assert_eq!(client.give_up(&tasks[2], ", final => true"), "failed");
    client.release(&tasks[3], "");
    for (task, state) in tasks.iter().zip("ddf".chars()) {
        site.wait_ended("t1", &task.id, state);
    }
    assert_eq!(taker.take().id, tasks[3].id);
}

/// A task that is taken, and whose end is open in a transaction of the pooler's.
fn ending(site: &Site, pooler: &Pooler) -> (Worker, Worker, Taken) {
    enqueue(site);
    let mut taker = Worker::of(site);
    let task = taker.take();
    let mut ending = client(pooler);
    ending.begin_to_finish(&task, "open");
    assert_eq!(shown(site, &task.id), "finishing");
    (taker, ending, task)
}

fn wait_taken_back(site: &Site, task: &Taken) {
    wait_for("the claim to be the taker's", Duration::from_secs(20), || shown(site, &task.id) == "running");
    assert_claimed(site, task);
}

#[test]
fn a_client_that_dies_in_its_transaction_undoes_the_end() {
    let site = start("", &["t1"]);
    let pooler = pooled(&site, 1);
    let (_taker, dying, task) = ending(&site, &pooler);
    drop(dying);
    wait_taken_back(&site, &task);
    // By the next client, in the session that takes that one's place.
    let mut next = client(&pooler);
    next.begin_to_finish(&task, "done");
    next.run("COMMIT");
    site.wait_ended("t1", &task.id, 'd');
    site.assert_once(1);
}

#[test]
fn a_pooler_that_dies_undoes_the_end_and_another_one_does_it() {
    let site = start("", &["t1"]);
    let mut pooler = pooled(&site, 1);
    let (_taker, mut dying, task) = ending(&site, &pooler);
    pooler.kill();
    assert!(dying.try_rows("COMMIT").is_err());
    wait_taken_back(&site, &task);
    drop(pooler);
    let pooler = pooled(&site, 1);
    let mut next = client(&pooler);
    next.begin_to_finish(&task, "done");
    next.run("COMMIT");
    site.wait_ended("t1", &task.id, 'd');
    site.assert_once(1);
}

#[test]
fn an_open_end_decides_though_the_session_that_took_has_died() {
    let site = start("", &["t1"]);
    let pooler = pooled(&site, 2);
    let (taker, mut ending, task) = ending(&site, &pooler);
    die(&site, taker);
    assert!(Worker::of(&site).take_now().is_empty());
    // A second end, of another client, waits for the first, and has lost when that is committed.
    let mut second = client(&pooler);
    let pid = {
        second.run("BEGIN");
        second.pid()
    };
    std::thread::scope(|threads| {
        let late = threads.spawn(|| second.refused(&finish_of(&task)));
        wait_blocked(&site, pid);
        ending.run("COMMIT");
        assert_eq!(late.join().expect("the second"), "TQ007");
    });
    site.wait_ended("t1", &task.id, 'd');
    site.assert_once(1);
    assert!(Worker::of(&site).take_now().is_empty());
}
