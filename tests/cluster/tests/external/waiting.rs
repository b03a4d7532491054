//! Waiting for tasks: CALL tq_await, and what it is woken by.

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cluster::{SqlError, wait_for};

use super::{Worker, enqueue, start};
use crate::site::{DB, Site};

/// A wait in a thread of its own: how it ended, and when.
pub struct Wait {
    pub pid: i32,
    thread: JoinHandle<(Worker, Result<(), SqlError>, Instant)>,
}

impl Wait {
    /// Begun, and seen to wait.
    pub fn begin(site: &Site, mut worker: Worker, how: &str) -> Wait {
        let pid = worker.pid();
        let call = format!("CALL tq_await({how})");
        let thread = std::thread::spawn(move || {
            let ended = worker.try_rows(&call).map(|_| ());
            (worker, ended, Instant::now())
        });
        site.cluster.wait_until(DB, &format!("SELECT wait_event = 'Extension' FROM pg_stat_activity WHERE pid = {pid}"));
        Wait { pid, thread }
    }

    fn new(site: &Site) -> Wait {
        Wait::begin(site, Worker::of(site), "'60 s'")
    }

    pub fn is_over(&self) -> bool {
        self.thread.is_finished()
    }

    pub fn end(self) -> (Worker, Result<(), SqlError>, Instant) {
        self.thread.join().expect("a wait")
    }

    /// It is called within this time of `since`.
    fn called_within(self, bound: Duration, since: Instant, by: &str) -> Worker {
        let (worker, ended, at) = self.end();
        assert_eq!(ended, Ok(()), "{by}");
        let took = at.saturating_duration_since(since);
        assert!(took < bound, "by {by} it is called only after {took:?}");
        worker
    }
}

/// A wake-up takes less than a millisecond; a machine that has others' work to do takes longer.
const PROMPT: Duration = Duration::from_millis(250);

#[test]
fn it_is_called_by_a_commit_a_due_time_a_freed_limit_and_the_end_of_a_pause() {
    let site = start("", &["t1"]);
    let mut wait = Wait::new(&site);
    for _ in 0..20 {
        let mut client = site.client("t1");
        client.batch_execute("BEGIN; SELECT tq_async('ext')").expect("enqueue");
        client.batch_execute("SELECT pg_sleep(0.01)").expect("sleep");
        assert!(!wait.is_over(), "nothing is committed yet");
        let since = Instant::now();
        client.batch_execute("COMMIT").expect("commit");
        let mut worker = wait.called_within(PROMPT, since, "a commit");
        let task = worker.take_now().pop().expect("a task");
        worker.finish(&task);
        wait = Wait::begin(&site, worker, "'60 s'");
    }
    // Due later.
    let since = Instant::now() + Duration::from_millis(500);
    site.enqueue("t1", "ext", "[]", ", delay => '0.5 s'");
    let mut worker = wait.called_within(PROMPT + PROMPT, since, "a due time");
    assert!(Instant::now() >= since, "it is due");
    let task = worker.take();
    worker.finish(&task);
    // A limit of one: the end of the first is a place for the second.
    site.run("t1", "SELECT tq_async('ext') FROM generate_series(1, 2)");
    site.cluster.run(DB, "SELECT tq_set_quota('t1', max_running => 1)");
    let mut first = Worker::of(&site);
    let task = first.take();
    assert!(first.take_now().is_empty());
    assert!(worker.take_now().is_empty());
    wait = Wait::begin(&site, worker, "'60 s'");
    let since = Instant::now();
    first.finish(&task);
    let mut worker = wait.called_within(PROMPT, since, "a freed limit");
    let task = worker.take();
    worker.finish(&task);
    // A pause, with a task in it.
    site.run("t1", "SELECT tq_pause()");
    enqueue(&site);
    assert!(worker.take_now().is_empty());
    wait = Wait::begin(&site, worker, "'60 s'");
    let since = Instant::now();
    site.run("t1", "SELECT tq_resume()");
    let mut worker = wait.called_within(PROMPT, since, "the end of a pause");
    worker.take();
    // Nothing comes: its time is over.
    let since = Instant::now();
    worker.run("CALL tq_await('300 ms')");
    assert!((Duration::from_millis(290)..Duration::from_secs(2)).contains(&since.elapsed()), "{:?}", since.elapsed());
    site.cluster.assert_log_clean();
}

#[test]
fn it_keeps_no_snapshot_and_no_transaction_id() {
    let site = start("", &["t1"]);
    let waits: Vec<Wait> = (0..3).map(|_| Wait::new(&site)).collect();
    for wait in &waits {
        let of = format!("FROM pg_stat_activity WHERE pid = {}", wait.pid);
        assert_eq!(site.cluster.value(DB, &format!("SELECT backend_xmin IS NULL AND backend_xid IS NULL {of}")), "t");
        assert_eq!(site.number(&format!("SELECT count(*) FROM pg_locks WHERE pid = {} AND locktype <> 'virtualxid'", wait.pid)), 0);
    }
}

#[test]
fn a_commit_calls_one_of_those_who_wait() {
    let site = start("", &["t1"]);
    let mut waits: Vec<Wait> = (0..5).map(|_| Wait::new(&site)).collect();
    for left in (0..5).rev() {
        let id = enqueue(&site);
        wait_for("one to be called", Duration::from_secs(5), || waits.iter().any(Wait::is_over));
        let called = waits.iter().position(Wait::is_over).expect("one");
        let (mut worker, ..) = waits.remove(called).end();
        let task = worker.take();
        assert_eq!(task.id, id);
        worker.finish(&task);
        // A watch of half a second would have called another by now if it had not been taken.
        std::thread::sleep(Duration::from_millis(700));
        assert_eq!(waits.iter().filter(|wait| !wait.is_over()).count(), left, "the others sleep");
    }
}

/// Says so when it is dropped, by a failure too: nobody waits for ever then.
pub struct Done<'a>(pub &'a std::sync::atomic::AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::SeqCst);
    }
}

/// Cancels come at any instant: between the call and the return from it, too. In the end every task has been taken.
#[test]
fn a_cancelled_wait_loses_no_task() {
    let site = start("", &["t1"]);
    let done = std::sync::atomic::AtomicBool::new(false);
    let mut worker = Worker::of(&site);
    let pid = worker.pid();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = site.client("postgres");
            while !done.load(std::sync::atomic::Ordering::SeqCst) {
                let _ =
                    client.execute("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE pid = $1 AND query LIKE 'CALL%'", &[&pid]);
                std::thread::sleep(Duration::from_micros(700));
            }
        });
        scope.spawn(|| {
            let mut client = site.client("t1");
            for n in 0..300 {
                client.batch_execute("SELECT tq_async('ext')").expect("enqueue");
                std::thread::sleep(Duration::from_millis(n % 7));
            }
        });
        let _done = Done(&done);
        let (mut taken, mut cancels) = (0, 0);
        let began = Instant::now();
        while taken < 300 {
            assert!(began.elapsed() < Duration::from_secs(60), "{taken} of 300 were taken, after {cancels} cancels");
            // Only the wait is cancelled on purpose: elsewhere one is an error like any other, and is tried again.
            match worker.try_rows("CALL tq_await('5 s')") {
                Ok(_) => {}
                Err(error) => {
                    assert_eq!(error.code, "57014", "{error}");
                    cancels += 1;
                }
            }
            match worker.try_rows("SELECT tq_finish(claim) FROM tq_take(10)") {
                Ok(rows) => taken += rows.len(),
                Err(error) => assert_eq!(error.code, "57014", "{error}"),
            }
        }
        assert!(cancels > 20, "{cancels}");
    });
    site.wait_idle(&["t1"]);
    site.cluster.assert_log_clean();
}

#[test]
fn a_new_tenant_and_a_new_right_are_heard_of_by_who_waits() {
    let site = start("", &["t1"]);
    site.cluster.run(DB, "CREATE ROLE other LOGIN");
    let all = Wait::new(&site);
    let other = Wait::begin(&site, Worker::as_role(&site, "other"), "'60 s'");
    site.tenants(&["t2"]);
    site.run("t2", "SELECT tq_register('ext', external => true), tq_grant('worker', '{work}')");
    let since = Instant::now();
    site.enqueue("t2", "ext", "[]", "");
    let mut worker = all.called_within(PROMPT, since, "a tenant that it didn't know");
    assert_eq!(worker.take_now().len(), 1);
    assert!(!other.is_over(), "it may not work there");
    site.enqueue("t2", "ext", "[]", "");
    let since = Instant::now();
    site.run("t2", "SELECT tq_grant('other', '{work}')");
    let mut other = other.called_within(Duration::from_secs(4), since, "a right to what waits");
    assert_eq!(other.take_now().len(), 1);
}
