//! The transaction that ends a task is inside its COMMIT when a worker dies, or the server: it decides, and nothing is started before.

use std::thread::JoinHandle;

use cluster::{SqlError, Stop};

use super::{Taken, Worker, die, enqueue, finish_of, shown, start, wait_gone};
use crate::site::{DB, Site};

/// An end whose COMMIT has begun, and doesn't come back.
struct Committing {
    site: Site,
    taker: Option<Worker>,
    task: Taken,
    pid: i32,
    commit: JoinHandle<Result<(), SqlError>>,
}

impl Committing {
    fn begin(site: Site, waits: &str) -> Committing {
        enqueue(&site);
        let mut taker = Worker::of(&site);
        let task = taker.take();
        let mut ending = Worker::of(&site);
        let pid = ending.pid();
        ending.run("SET synchronous_commit = on");
        ending.begin_to_finish(&task, "committed");
        let commit = std::thread::spawn(move || ending.try_rows("COMMIT").map(|_| ()));
        site.cluster.wait_until(DB, &format!("SELECT query = 'COMMIT' AND {waits} FROM pg_stat_activity WHERE pid = {pid}"));
        Committing { site, taker: Some(taker), task, pid, commit }
    }

    /// Before it is committed: a deferred trigger waits for a lock, which the second one holds.
    fn before() -> (Committing, Worker) {
        let site = start("", &["t1"]);
        site.cluster.run(
            DB,
            "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NULL; END';
             CREATE CONSTRAINT TRIGGER wait AFTER INSERT ON fx DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wait()",
        );
        let mut holder = Worker::as_role(&site, "postgres");
        holder.run("SELECT pg_advisory_lock(1)");
        (Committing::begin(site, "wait_event = 'advisory'"), holder)
    }

    /// After it is committed here: it waits for a standby that never comes.
    fn after() -> Committing {
        let site = start("synchronous_standby_names = 'nobody'\nsynchronous_commit = local\n", &["t1"]);
        Committing::begin(site, "wait_event = 'SyncRep'")
    }

    fn taker_dies(&mut self) {
        die(&self.site, self.taker.take().expect("it lives"));
        self.assert_nothing_is_started();
    }

    fn assert_nothing_is_started(&self) {
        assert_eq!(shown(&self.site, &self.task.id), "finishing");
        assert!(Worker::of(&self.site).take_now().is_empty());
    }

    /// It was done, once, and nobody gets it again.
    fn assert_done(self) {
        let Committing { site, task, taker, .. } = self;
        site.wait_ended("t1", &task.id, 'd');
        assert_eq!(site.counts("t1", &task.id), (1, 0));
        let mut next = taker.unwrap_or_else(|| Worker::of(&site));
        assert!(next.take_now().is_empty());
        assert_eq!(next.refused(&finish_of(&task)), "TQ007");
        site.assert_once(1);
        assert_eq!(site.number("SELECT count(*) FROM fx"), 1);
    }

    /// Nothing of it stands, and the task is done by another attempt.
    fn assert_runs_again(self, k: &str) {
        let Committing { site, task, .. } = self;
        assert_eq!(site.number("SELECT count(*) FROM fx"), 0);
        let mut next = Worker::of(&site);
        let again = next.take();
        assert_eq!((&again.id, again.attempt), (&task.id, 1));
        assert_eq!(next.refused(&finish_of(&task)), "TQ007");
        next.begin_to_finish(&again, k);
        next.run("COMMIT");
        site.wait_ended("t1", &task.id, 'd');
        assert_eq!(site.counts("t1", &task.id), (1, 0));
        site.assert_once(1);
    }

    fn terminate(&self) {
        self.site.cluster.run(DB, &format!("SELECT pg_terminate_backend({})", self.pid));
        wait_gone(&self.site, self.pid);
    }
}

#[test]
fn a_commit_that_is_not_yet_one_decides_when_it_has_become_one() {
    let (mut committing, mut holder) = Committing::before();
    committing.taker_dies();
    holder.run("SELECT pg_advisory_unlock(1)");
    wait_gone(&committing.site, committing.pid);
    committing.assert_done();
}

#[test]
fn a_commit_that_is_ended_before_it_is_one_leaves_the_task_to_the_next() {
    let (mut committing, mut holder) = Committing::before();
    committing.taker_dies();
    committing.terminate();
    holder.run("SELECT pg_advisory_unlock(1)");
    committing.assert_runs_again("again");
}

#[test]
fn a_commit_that_is_ended_before_it_is_one_gives_the_claim_back_to_its_taker() {
    let (mut committing, mut holder) = Committing::before();
    committing.assert_nothing_is_started();
    committing.terminate();
    holder.run("SELECT pg_advisory_unlock(1)");
    super::assert_claimed(&committing.site, &committing.task);
    let mut taker = committing.taker.take().expect("it lives");
    taker.begin_to_finish(&committing.task, "again");
    taker.run("COMMIT");
    committing.assert_done();
}

#[test]
fn a_server_that_dies_before_a_commit_is_one_undoes_it() {
    let (committing, _holder) = Committing::before();
    committing.site.cluster.restart(Stop::Immediate);
    committing.assert_runs_again("again");
}

#[test]
fn a_commit_that_nobody_hears_of_is_one() {
    let mut committing = Committing::after();
    committing.taker_dies();
    // Its session ends without an answer to its client, and it stands.
    committing.terminate();
    committing.assert_done();
}

#[test]
fn a_commit_that_waits_keeps_the_task_as_long_as_it_does() {
    let committing = Committing::after();
    committing.assert_nothing_is_started();
    assert!(!committing.commit.is_finished());
    committing.site.cluster.run(DB, "ALTER SYSTEM RESET synchronous_standby_names");
    committing.site.cluster.run(DB, "ALTER SYSTEM SET synchronous_standby_names = ''");
    committing.site.cluster.reload();
    wait_until_over(&committing);
    committing.assert_done();
}

fn wait_until_over(committing: &Committing) {
    cluster::wait_for("the commit", cluster::PATIENCE, || committing.commit.is_finished());
}

#[test]
fn a_server_that_dies_behind_a_commit_has_done_the_task() {
    let mut committing = Committing::after();
    committing.site.cluster.restart(Stop::Immediate);
    committing.taker = None;
    committing.assert_done();
}
