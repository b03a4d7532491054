//! tq_finish and its kin are the caller's transaction's: whatever undoes that undoes them, and of two that end one claim one does.

use std::thread;

use cluster::Stop;

use super::{Taken, Worker, assert_claimed, enqueue, finish_of, shown, start, wait_blocked};
use crate::site::{DB, Site};

/// A server, a task of its tenant t1, and the worker that has taken it.
fn taken() -> (Site, Worker, Taken) {
    let site = start("", &["t1"]);
    enqueue(&site);
    let mut worker = Worker::of(&site);
    let task = worker.take();
    (site, worker, task)
}

/// The task ends once, in this session.
fn assert_ends(site: &Site, worker: &mut Worker, task: &Taken) {
    assert_claimed(site, task);
    worker.begin_to_finish(task, "done");
    worker.run("COMMIT");
    site.wait_ended("t1", &task.id, 'd');
    site.assert_once(1);
    assert_eq!(site.counts("t1", &task.id), (1, 0));
    assert_eq!(shown(site, &task.id), "not");
    site.cluster.assert_log_clean();
}

#[test]
fn the_end_and_the_effects_are_one() {
    let (site, mut worker, task) = taken();
    worker.begin_to_finish(&task, "undone");
    assert_eq!(shown(&site, &task.id), "finishing");
    assert_eq!(site.number("SELECT count(*) FROM t1.tq_result"), 0, "before the commit");
    worker.run("ROLLBACK");
    assert_ends(&site, &mut worker, &task);
    assert_eq!(worker.refused(&finish_of(&task)), "TQ007", "a second time");
}

#[test]
fn another_session_of_the_role_may_end_it() {
    let (site, worker, task) = taken();
    assert_eq!(Worker::as_role(&site, "t1").refused(&finish_of(&task)), "TQ007", "another role's");
    assert_ends(&site, &mut Worker::of(&site), &task);
    drop(worker);
}

#[test]
fn one_transaction_ends_a_claim_once() {
    let (site, mut worker, task) = taken();
    worker.begin_to_finish(&task, "undone");
    assert_eq!(worker.refused(&finish_of(&task)), "TQ007");
    worker.run("ROLLBACK");
    assert_ends(&site, &mut worker, &task);
}

/// The second one begins while the first one's transaction is open.
fn race(site: &Site, first: &mut Worker, task: &Taken, end_of_the_first: &str) -> Result<(), String> {
    let mut second = Worker::of(site);
    let pid = second.pid();
    first.begin_to_finish(task, "first");
    thread::scope(|threads| {
        let racing = threads.spawn(|| {
            second.run("BEGIN");
            second.act("second");
            let finished = second.try_finish(task).map_err(|error| error.code);
            second.run("COMMIT");
            finished
        });
        wait_blocked(site, pid);
        first.run(end_of_the_first);
        racing.join().expect("the second one")
    })
}

#[test]
fn the_second_of_two_ends_waits_and_fails_with_its_effects_where_the_first_commits() {
    let (site, mut worker, task) = taken();
    assert_eq!(race(&site, &mut worker, &task, "COMMIT"), Err("TQ007".into()));
    site.wait_ended("t1", &task.id, 'd');
    site.assert_once(1);
    assert_eq!(site.number("SELECT count(*) FROM fx WHERE k = 'first'"), 1);
    site.cluster.assert_log_clean();
}

#[test]
fn the_second_of_two_ends_goes_on_where_the_first_rolls_back() {
    let (site, mut worker, task) = taken();
    assert_eq!(race(&site, &mut worker, &task, "ROLLBACK"), Ok(()));
    site.wait_ended("t1", &task.id, 'd');
    site.assert_once(1);
    assert_eq!(site.number("SELECT count(*) FROM fx WHERE k = 'second'"), 1);
    site.cluster.assert_log_clean();
}

#[test]
fn who_waits_for_another_end_can_be_cancelled_and_has_a_lock_timeout() {
    let (site, mut worker, task) = taken();
    worker.begin_to_finish(&task, "done");
    let mut second = Worker::of(&site);
    second.run("SET lock_timeout = '50 ms'");
    assert_eq!(second.refused(&finish_of(&task)), "55P03");
    second.run("RESET lock_timeout");
    let pid = second.pid();
    thread::scope(|threads| {
        let waiting = threads.spawn(|| second.refused(&finish_of(&task)));
        wait_blocked(&site, pid);
        site.cluster.run(DB, &format!("SELECT pg_cancel_backend({pid})"));
        assert_eq!(waiting.join().expect("the second one"), "57014");
    });
    worker.run("COMMIT");
    site.wait_ended("t1", &task.id, 'd');
    site.assert_once(1);
}

#[test]
fn rollback_to_a_savepoint_gives_the_claim_back() {
    let (site, mut worker, task) = taken();
    worker.run("BEGIN; SAVEPOINT a");
    worker.act("undone");
    worker.finish(&task);
    worker.run("ROLLBACK TO a");
    assert_claimed(&site, &task);
    // In the same transaction, another time: released into it, it is its.
    worker.run("SAVEPOINT b");
    worker.act("done");
    worker.finish(&task);
    worker.run("RELEASE b");
    assert_eq!(shown(&site, &task.id), "finishing");
    worker.run("COMMIT");
    site.wait_ended("t1", &task.id, 'd');
    site.assert_once(1);
}

#[test]
fn an_exception_block_gives_the_claim_back() {
    let (site, mut worker, task) = taken();
    worker.run(&format!(
        "DO $$ BEGIN
             INSERT INTO fx (tenant, k) VALUES ('t1', 'undone');
             PERFORM tq_finish('{}');
             RAISE 'no';
         EXCEPTION WHEN raise_exception THEN NULL; END $$",
        task.claim
    ));
    assert_ends(&site, &mut worker, &task);
}

#[test]
fn a_deferred_constraint_that_fails_at_commit_gives_the_claim_back() {
    let (site, mut worker, task) = taken();
    site.cluster.run(
        DB,
        "CREATE TABLE once (k text UNIQUE DEFERRABLE INITIALLY DEFERRED); INSERT INTO once VALUES ('x'); GRANT INSERT ON once TO worker",
    );
    worker.begin_to_finish(&task, "undone");
    worker.run("INSERT INTO once VALUES ('x')");
    assert_eq!(worker.refused("COMMIT"), "23505");
    assert_ends(&site, &mut worker, &task);
}

#[test]
fn a_serialization_failure_at_commit_gives_the_claim_back() {
    let (site, mut worker, task) = taken();
    site.cluster.run(DB, "CREATE TABLE skew (k int); GRANT SELECT, INSERT ON skew TO worker");
    let mut other = Worker::of(&site);
    for worker in [&mut worker, &mut other] {
        worker.run("BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT count(*) FROM skew; INSERT INTO skew VALUES (1)");
    }
    worker.act("undone");
    worker.finish(&task);
    other.run("COMMIT");
    assert_eq!(worker.refused("COMMIT"), "40001");
    assert_ends(&site, &mut worker, &task);
}

#[test]
fn what_has_ended_a_claim_cannot_be_prepared() {
    let (site, mut worker, task) = taken();
    let claim = &task.claim;
    for end in [
        format!("SELECT tq_finish('{claim}')"),
        format!("SELECT tq_finish_many(ARRAY['{claim}']::uuid[])"),
        format!(r#"SELECT tq_give_up('{claim}', '{{"message": "no"}}')"#),
        format!("SELECT tq_release('{claim}')"),
        format!("SELECT tq_release('{claim}', delay => '1 hour')"),
    ] {
        worker.run("BEGIN");
        worker.run(&end);
        assert_eq!(worker.refused("PREPARE TRANSACTION 'p'"), "0A000", "{end}");
        assert_claimed(&site, &task);
    }
    // What was undone before is no end.
    worker.run("BEGIN; SAVEPOINT a");
    worker.finish(&task);
    worker.run("ROLLBACK TO a; PREPARE TRANSACTION 'p'");
    worker.run("COMMIT PREPARED 'p'");
    assert_ends(&site, &mut worker, &task);
}

#[test]
fn a_failure_and_a_release_are_refused_beside_effects() {
    let (site, mut worker, task) = taken();
    let claim = &task.claim;
    for end in [format!(r#"SELECT tq_give_up('{claim}', '{{"message": "no"}}')"#), format!("SELECT tq_release('{claim}')")] {
        worker.run("BEGIN");
        worker.act("half");
        assert_eq!(worker.refused(&end), "25001");
        worker.run("ROLLBACK");
        assert_claimed(&site, &task);
    }
    assert_ends(&site, &mut worker, &task);
}

#[test]
fn a_take_is_no_part_of_a_transaction() {
    let site = start("", &["t1"]);
    enqueue(&site);
    let mut worker = Worker::of(&site);
    worker.run("BEGIN");
    assert_eq!(worker.refused("SELECT tq_take()"), "25001");
    worker.run("ROLLBACK");
    assert_eq!(worker.take_now().len(), 1);
}

#[test]
fn a_take_looks_at_what_is_there_whatever_its_session_s_isolation() {
    let site = start("", &["t1"]);
    for isolation in ["repeatable read", "serializable"] {
        let mut worker = Worker::of(&site);
        worker.run(&format!("SET default_transaction_isolation = '{isolation}'"));
        let pid = worker.pid();
        // Enqueued while the take waits, with the snapshot that it has begun with.
        let task = thread::scope(|threads| {
            let taking = threads.spawn(|| worker.take());
            let waits = "SELECT EXISTS (SELECT FROM tq_workers WHERE kind = 'external' AND state = 'waiting')";
            site.cluster.wait_until(DB, waits);
            assert_eq!(site.value("postgres", &format!("SELECT state FROM pg_stat_activity WHERE pid = {pid}")), "active");
            enqueue(&site);
            taking.join().expect("the take")
        });
        worker.begin_to_finish(&task, isolation);
        worker.run("COMMIT");
        site.wait_ended("t1", &task.id, 'd');
    }
    site.assert_once(2);
}

#[test]
fn an_end_sees_its_task_in_a_transaction_that_is_older() {
    let site = start("", &["t1"]);
    let mut worker = Worker::of(&site);
    let mut ending = Worker::of(&site);
    for (n, isolation) in ["REPEATABLE READ", "SERIALIZABLE"].into_iter().enumerate() {
        ending.run(&format!("BEGIN ISOLATION LEVEL {isolation}; SELECT count(*) FROM fx"));
        enqueue(&site);
        let task = worker.take();
        ending.act(isolation);
        ending.finish(&task);
        ending.run("COMMIT");
        site.wait_ended("t1", &task.id, 'd');
        site.assert_once(n as i64 + 1);
    }
}

#[test]
fn a_take_makes_durable_what_it_hands_out() {
    let site = start("autovacuum = off\n", &["t1"]);
    let walwriter = site.cluster.pids("walwriter")[0];
    cluster::kill(walwriter, libc::SIGSTOP);
    let mut client = site.client("t1");
    client.batch_execute("SET synchronous_commit = off; SELECT tq_async('ext', '[1]')").expect("enqueue");
    let end = site.value("postgres", "SELECT pg_current_wal_insert_lsn()");
    let flushed = format!("SELECT pg_current_wal_flush_lsn() >= '{end}'");
    assert_eq!(site.value("postgres", &flushed), "f", "nobody waits for the disk");
    let mut worker = Worker::of(&site);
    let task = worker.take();
    assert_eq!(site.value("postgres", &flushed), "t");
    cluster::kill(walwriter, libc::SIGCONT);
    site.cluster.restart(Stop::Immediate);
    assert_eq!(Worker::of(&site).take().id, task.id);
}
