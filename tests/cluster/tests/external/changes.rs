//! What others do to tasks and tenants while workers have some of them: cancel, change, pause, lock, drop, rename.

use std::thread;
use std::time::{Duration, Instant};

use super::waiting::Wait;
use super::{Taken, Worker, assert_claimed, enqueue, finish_of, shown, start, wait_blocked};
use crate::site::{DB, Site};

/// What nobody waits for takes no longer.
const PROMPT: Duration = Duration::from_secs(5);

fn taken() -> (Site, Worker, Taken) {
    let site = start("", &["t1", "t2"]);
    enqueue(&site);
    let mut worker = Worker::of(&site);
    let task = worker.take();
    (site, worker, task)
}

/// The claim is gone, and what was done for it goes with it.
fn assert_lost(site: &Site, worker: &mut Worker, task: &Taken) {
    worker.run("BEGIN");
    worker.act("lost");
    assert_eq!(worker.refused(&finish_of(task)), "TQ007");
    worker.run("COMMIT");
    assert_eq!(site.number("SELECT count(*) FROM fx"), 0);
}

/// Once its worker has heard of it a lost claim takes nobody's place, and nobody is ended because of it.
fn assert_nothing_is_held(site: &Site) {
    assert_eq!(site.number("SELECT sum(claims) FROM tq_workers WHERE kind = 'external'"), 0);
}

fn news(worker: &mut Worker) -> Vec<(String, String)> {
    let rows = worker.rows("SELECT claim, what FROM tq_watch('10 s')");
    rows.iter().map(|row| (row.get(0).to_owned(), row.get(1).to_owned())).collect()
}

#[test]
fn what_is_cancelled_cannot_be_ended_any_more() {
    let (site, mut worker, task) = taken();
    assert_eq!(site.value("t1", &format!("SELECT tq_cancel('{}', running => false)", task.id)), "f", "left alone");
    assert_eq!(site.value("t1", &format!("SELECT tq_cancel('{}')", task.id)), "t");
    site.wait_ended("t1", &task.id, 'c');
    assert_eq!(news(&mut worker), [(task.claim.clone(), "cancel".into())]);
    assert_lost(&site, &mut worker, &task);
    assert_nothing_is_held(&site);
    let next = enqueue(&site);
    assert_eq!(worker.take().id, next);
}

#[test]
fn who_asks_for_some_claims_misses_nothing_of_the_others() {
    let (site, mut worker, task) = taken();
    enqueue(&site);
    let other = worker.take();
    site.run("t1", &format!("SELECT tq_cancel(id) FROM unnest('{{{},{}}}'::uuid[]) AS id", task.id, other.id));
    let asked = format!("SELECT claim, what FROM tq_watch('10 s', claims => '{{{}}}')", other.claim);
    let heard: Vec<String> = worker.rows(&asked).iter().map(|row| row.get(0).to_owned()).collect();
    assert_eq!(heard, [other.claim]);
    assert_eq!(news(&mut worker), [(task.claim, "cancel".into())]);
}

#[test]
fn a_worker_hears_of_a_cancel_that_is_one_of_very_many() {
    let (site, mut worker, task) = taken();
    // More than a transaction notes one by one.
    site.run("t1", "SELECT tq_async('ext', '[]', delay => '1 hour') FROM generate_series(1, 100001)");
    let others = format!("SELECT count(*) FILTER (WHERE tq_cancel(id)) FROM (SELECT id FROM tq_tasks WHERE id <> '{}') AS x", task.id);
    let mut owner = Worker::as_role(&site, "t1");
    owner.run("BEGIN");
    assert_eq!(owner.value(&others), "100001");
    owner.run(&format!("SELECT tq_cancel('{}')", task.id));
    owner.run("COMMIT");
    assert_eq!(news(&mut worker), [(task.claim.clone(), "cancel".into())]);
}

#[test]
fn a_cancel_that_is_committed_first_lets_the_end_fail_that_has_waited_for_it() {
    let (site, mut worker, task) = taken();
    let mut canceller = Worker::as_role(&site, "t1");
    canceller.run(&format!("BEGIN; SELECT tq_cancel('{}')", task.id));
    let pid = worker.pid();
    thread::scope(|threads| {
        let ending = threads.spawn(|| assert_lost(&site, &mut worker, &task));
        wait_blocked(&site, pid);
        canceller.run("COMMIT");
        ending.join().expect("the end");
    });
    site.wait_ended("t1", &task.id, 'c');
}

#[test]
fn a_cancel_that_is_rolled_back_lets_the_end_go_on_that_has_waited_for_it() {
    let (site, mut worker, task) = taken();
    let mut canceller = Worker::as_role(&site, "t1");
    canceller.run(&format!("BEGIN; SELECT tq_cancel('{}')", task.id));
    let pid = worker.pid();
    thread::scope(|threads| {
        let ending = threads.spawn(|| worker.finish(&task));
        wait_blocked(&site, pid);
        canceller.run("ROLLBACK");
        ending.join().expect("the end");
    });
    site.wait_ended("t1", &task.id, 'd');
}

#[test]
fn a_cancel_waits_for_an_end_that_is_open() {
    let (site, mut worker, task) = taken();
    worker.begin_to_finish(&task, "done");
    let mut canceller = Worker::as_role(&site, "t1");
    let pid = canceller.pid();
    thread::scope(|threads| {
        let cancel = threads.spawn(|| canceller.value(&format!("SELECT tq_cancel('{}')", task.id)));
        wait_blocked(&site, pid);
        worker.run("COMMIT");
        assert_eq!(cancel.join().expect("the cancel"), "f");
    });
    site.wait_ended("t1", &task.id, 'd');
    site.assert_once(1);
}

#[test]
fn what_a_worker_has_is_not_changed() {
    let (site, mut worker, task) = taken();
    for call in ["tq_update('{}', priority => 9)", "tq_update('{}', args => '[1]')", "tq_requeue('{}')"] {
        let call = call.replace("{}", &task.id);
        assert_eq!(site.value("t1", &format!("SELECT {call}")), "f", "{call}");
        assert_claimed(&site, &task);
    }
    let delete = format!("SELECT tq_delete('{}')", task.id);
    assert_eq!(site.cluster.try_run_as("t1", DB, &delete).expect_err("unfinished").code, "55000");
    worker.finish(&task);
    site.wait_ended("t1", &task.id, 'd');
}

#[test]
fn a_requeue_is_another_life_that_the_old_claim_does_not_end() {
    let (site, mut worker, task) = taken();
    assert_eq!(site.value("t1", &format!("SELECT tq_cancel('{}')", task.id)), "t");
    assert_eq!(site.value("t1", &format!("SELECT tq_requeue('{}')", task.id)), "t");
    let mut next = Worker::of(&site);
    assert!(next.take_now().is_empty(), "not beside the old one");
    assert_lost(&site, &mut worker, &task);
    let began = Instant::now();
    let again = next.take();
    assert!(began.elapsed() < PROMPT, "{:?}", began.elapsed());
    assert_eq!(again.id, task.id);
    next.finish(&again);
    site.wait_ended("t1", &task.id, 'd');
}

#[test]
fn a_requeue_takes_nothing_from_the_claim_of_the_new_life() {
    let (site, mut worker, task) = taken();
    worker.finish(&task);
    assert_eq!(site.value("t1", &format!("SELECT tq_requeue('{}')", task.id)), "t");
    let again = worker.take();
    assert_eq!((&again.id, again.attempt), (&task.id, 1));
    assert_ne!(again.claim, task.claim);
    assert_eq!(worker.refused(&finish_of(&task)), "TQ007");
    worker.finish(&again);
    site.wait_ended("t1", &task.id, 'd');
}

#[test]
fn a_pause_that_drains_waits_for_what_workers_have() {
    let (site, mut worker, task) = taken();
    enqueue(&site);
    let mut owner = Worker::as_role(&site, "t1");
    let pid = owner.pid();
    thread::scope(|threads| {
        let pause = threads.spawn(|| owner.run("SELECT tq_pause(drain => '20 s')"));
        site.cluster.wait_until(DB, &format!("SELECT wait_event IS NOT NULL AND state = 'active' FROM pg_stat_activity WHERE pid = {pid}"));
        assert!(Worker::of(&site).take_now().is_empty(), "nothing is begun meanwhile");
        assert!(!pause.is_finished());
        worker.begin_to_finish(&task, "done");
        assert!(!pause.is_finished(), "its end is open");
        let began = Instant::now();
        worker.run("COMMIT");
        pause.join().expect("the pause");
        assert!(began.elapsed() < PROMPT, "{:?}", began.elapsed());
    });
    site.wait_ended("t1", &task.id, 'd');
    assert!(worker.take_now().is_empty(), "it is paused");
    site.run("t1", "SELECT tq_resume()");
    worker.take();
}

#[test]
fn a_pause_whose_patience_is_over_leaves_what_workers_have() {
    let (site, mut worker, task) = taken();
    site.run("t1", "SELECT tq_pause(drain => '100 ms')");
    assert_eq!(shown(&site, &task.id), "running");
    worker.begin_to_finish(&task, "done");
    worker.run("COMMIT");
    site.wait_ended("t1", &task.id, 'd');
}

/// What a worker that has just heard `drain` of a task may still do: give it back, or end it.
fn assert_drained(site: &Site, worker: &mut Worker, task: &Taken) {
    assert_eq!(news(worker), [(task.claim.clone(), "drain".into())]);
    let rows = worker.rows("SELECT claim FROM tq_watch('0')");
    assert!(rows.is_empty(), "it is told once: {rows:?}");
    assert_eq!(shown(site, &task.id), "running", "nothing is taken away");
}

#[test]
fn a_pause_that_drains_tells_workers_of_what_it_is_about() {
    let (site, mut worker, other) = taken();
    site.run("t1", "SELECT tq_register('ext2', external => true)");
    let id = site.enqueue("t1", "ext2", "[]", "");
    let task = worker.take();
    assert_eq!(task.id, id);
    let mut owner = Worker::as_role(&site, "t1");
    thread::scope(|threads| {
        let pause = threads.spawn(|| owner.run("SELECT tq_pause(handler => 'ext2', drain => '20 s')"));
        assert_drained(&site, &mut worker, &task);
        worker.run(&format!("SELECT tq_release('{}')", task.claim));
        pause.join().expect("the pause");
    });
    assert_eq!(shown(&site, &other.id), "running", "it is of another handler");
    worker.finish(&other);
    site.run("t1", "SELECT tq_resume(handler => 'ext2')");
    let again = worker.take();
    assert_eq!((again.id, again.attempt), (task.id, 1), "given back uncounted");
}

#[test]
fn a_smaller_quota_tells_the_workers_of_what_they_took_last() {
    let (site, mut worker, first) = taken();
    enqueue(&site);
    let second = worker.take();
    site.cluster.run(DB, "SELECT tq_set_quota('t1', max_running => 2)");
    assert!(worker.rows("SELECT claim FROM tq_watch('0')").is_empty(), "there is room for both");
    site.cluster.run(DB, "SELECT tq_set_quota('t1', max_running => 1)");
    assert_drained(&site, &mut worker, &second);
    worker.run(&format!("SELECT tq_release('{}')", second.claim));
    assert!(worker.take_now().is_empty(), "there is no room for it");
    worker.finish(&first);
    let again = worker.take();
    assert_eq!((again.id, again.attempt), (second.id, 1), "given back uncounted");
}

#[test]
fn a_recycling_tells_workers_of_all_that_they_have_and_ends_nobody() {
    let site = start("tenant_q.worker_grace = '100 ms'", &["t1"]);
    enqueue(&site);
    let mut worker = Worker::of(&site);
    let task = worker.take();
    // One that waits, and has nothing, hears of it, too.
    let idle = Wait::begin(&site, Worker::of(&site), "'60 s'");
    site.cluster.run(DB, "SELECT tq_recycle()");
    let (mut idle, ended, _) = idle.end();
    assert_eq!(ended, Ok(()));
    let told = "SELECT (claim IS NULL)::text, what FROM tq_watch('0')";
    assert_eq!(idle.rows(told)[0].joined(" "), "true drain");
    assert!(idle.rows(told).is_empty(), "once");
    let mut news: Vec<String> =
        worker.rows("SELECT coalesce(claim::text, ''), what FROM tq_watch('0')").iter().map(|row| row.joined(" ")).collect();
    news.sort();
    assert_eq!(news, [" drain".into(), format!("{} drain", task.claim)]);
    assert_eq!(shown(&site, &task.id), "running", "nothing is taken away");
    // Whoever doesn't heed a cancel for that long is ended, and its session would be by now, too.
    site.run("t1", "SELECT tq_register('late', external => true, timeout => '100 ms')");
    let id = site.enqueue("t1", "late", "[]", "");
    let mut late = Worker::of(&site);
    let pid = late.pid();
    assert_eq!(late.take().id, id);
    site.cluster.wait_until(DB, &format!("SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = {pid}"));
    worker.finish(&task);
    site.wait_ended("t1", &task.id, 'd');
}

/// Somebody holds ACCESS EXCLUSIVE on all tables of t1, as a migration does.
fn with_locked_tables(site: &Site, what: impl FnOnce()) {
    let tables = site.value(
        "postgres",
        "SELECT string_agg('t1.' || relname, ', ') FROM pg_class WHERE relnamespace = 't1'::regnamespace AND relkind = 'r'",
    );
    assert!(tables.contains("t1.tq_task"), "{tables}");
    with_locked(site, &tables, what);
}

fn with_locked(site: &Site, tables: &str, what: impl FnOnce()) {
    let mut migration = Worker::as_role(site, "t1");
    migration.run(&format!("BEGIN; LOCK TABLE {tables}"));
    what();
    migration.run("COMMIT");
}

#[test]
fn nobody_waits_for_a_tenant_s_results_either() {
    let site = start("", &["t1", "t2"]);
    let first = enqueue(&site);
    let mut worker = Worker::of(&site);
    let task = worker.take();
    worker.finish(&task);
    let mine = site.enqueue("t1", "ext", "[]", &format!(", priority => 9, depends_on => '{{{first}}}'"));
    let other = site.enqueue("t2", "ext", "[]", "");
    with_locked(&site, "t1.tq_result", || {
        let began = Instant::now();
        assert_eq!(worker.take().id, other);
        assert!(worker.take_now().is_empty());
        assert!(began.elapsed() < PROMPT, "{:?}", began.elapsed());
    });
    assert_eq!(worker.take().id, mine);
}

#[test]
fn a_tenant_s_locked_tables_keep_only_its_own_tasks() {
    let site = start("", &["t1", "t2"]);
    let mine = site.enqueue("t1", "ext", "[]", ", priority => 9");
    let others: Vec<String> = (0..3).map(|_| site.enqueue("t2", "ext", "[]", "")).collect();
    // One that knows the tenants already, and one that doesn't.
    let (mut known, mut new) = (Worker::of(&site), Worker::of(&site));
    known.taken("tenants => '{t3}'");
    with_locked_tables(&site, || {
        for (worker, id) in [&mut known, &mut new].into_iter().zip(&others) {
            let began = Instant::now();
            let task = worker.take();
            assert!(began.elapsed() < PROMPT, "{:?}", began.elapsed());
            assert_eq!(&task.id, id);
            worker.finish(&task);
        }
        // A take of what is left gets it, and waits for nobody.
        let began = Instant::now();
        assert_eq!(new.take_now().len(), 1);
        assert!(new.take_now().is_empty());
        assert!(began.elapsed() < PROMPT, "{:?}", began.elapsed());
    });
    let began = Instant::now();
    assert_eq!(new.take().id, mine, "it is found when the lock is gone");
    assert!(began.elapsed() < PROMPT, "{:?}", began.elapsed());
}

/// What the tenant goes by waits for no worker.
fn without_a_wait(site: &Site, sql: &str) {
    let began = Instant::now();
    site.cluster.run(DB, sql);
    assert!(began.elapsed() < PROMPT, "{:?}: {sql}", began.elapsed());
}

#[test]
fn a_dropped_tenant_waits_for_no_worker() {
    let (site, mut worker, task) = taken();
    without_a_wait(&site, "DROP SCHEMA t1 CASCADE");
    assert_lost(&site, &mut worker, &task);
    assert_nothing_is_held(&site);
    let other = site.enqueue("t2", "ext", "[]", "");
    let next = worker.take();
    assert_eq!(next.id, other);
    worker.finish(&next);
    site.wait_ended("t2", &other, 'd');
    site.cluster.assert_log_clean();
}

#[test]
fn a_detached_tenant_waits_for_no_worker() {
    let (site, mut worker, task) = taken();
    without_a_wait(&site, "SELECT tq_detach('t1', drop_data => true)");
    assert_lost(&site, &mut worker, &task);
    assert_nothing_is_held(&site);
    site.cluster.assert_log_clean();
}

#[test]
fn a_detached_tenant_whose_data_stay_has_its_tasks_again_when_it_is_attached() {
    let (site, mut worker, task) = taken();
    without_a_wait(&site, "SELECT tq_detach('t1')");
    assert_lost(&site, &mut worker, &task);
    site.run("t1", "SELECT tq_attach(adopt => true)");
    let again = worker.take();
    assert_eq!(again.id, task.id);
    worker.finish(&again);
    site.wait_ended("t1", &task.id, 'd');
}

#[test]
fn a_dropped_extension_waits_for_no_worker() {
    let (site, mut worker, task) = taken();
    without_a_wait(&site, "DROP EXTENSION tenant_q CASCADE");
    worker.run("BEGIN");
    worker.act("lost");
    assert_eq!(worker.refused(&finish_of(&task)), "42883", "the function itself is gone");
    worker.run("COMMIT");
    assert_eq!(site.number("SELECT count(*) FROM fx"), 0);
    site.cluster.run(DB, "CREATE EXTENSION tenant_q");
    assert_lost(&site, &mut worker, &task);
    site.run("t1", "SELECT tq_attach(adopt => true)");
    site.run("t1", "SELECT tq_register('ext', external => true), tq_grant('worker', '{work,read}')");
    let again = worker.take();
    assert_eq!(again.id, task.id);
    worker.finish(&again);
    site.wait_ended("t1", &task.id, 'd');
}

#[test]
fn a_dropped_database_waits_for_no_worker() {
    let (site, _worker, _task) = taken();
    site.cluster.run(DB, "CREATE DATABASE other");
    site.cluster.run("other", "CREATE EXTENSION tenant_q; CREATE SCHEMA t1 AUTHORIZATION t1");
    site.cluster.run_as("t1", "other", "SELECT tq_attach(), tq_register('ext', external => true)");
    site.cluster.run_as("t1", "other", "SELECT tq_async('ext')");
    let mut other = Worker { client: site.cluster.client("t1", "other") };
    other.take();
    without_a_wait(&site, "DROP DATABASE other WITH (FORCE)");
    site.cluster.wait_until(DB, "SELECT sum(claims) = 1 FROM tq_workers WHERE kind = 'external'");
}

#[test]
fn a_renamed_tenant_waits_for_no_worker_and_its_tasks_go_on() {
    let (site, mut worker, task) = taken();
    without_a_wait(&site, "ALTER SCHEMA t1 RENAME TO t9");
    worker.begin_to_finish(&task, "done");
    worker.run("COMMIT");
    site.wait_ended("t9", &task.id, 'd');
    site.assert_once(1);
    site.cluster.assert_log_clean();
}

#[test]
fn a_drop_waits_for_an_end_as_for_any_writer_and_the_end_stands() {
    let (site, mut worker, task) = taken();
    worker.begin_to_finish(&task, "done");
    let mut dropping = site.client("postgres");
    let pid: i32 = dropping.query_one("SELECT pg_backend_pid()", &[]).expect("a pid").get(0);
    thread::scope(|threads| {
        let drop = threads.spawn(|| dropping.batch_execute("DROP SCHEMA t1 CASCADE"));
        wait_blocked(&site, pid);
        worker.run("COMMIT");
        drop.join().expect("the thread").expect("the drop");
    });
    site.assert_once(1);
    assert_eq!(site.number("SELECT count(*) FROM pg_namespace WHERE nspname = 't1'"), 0);
}

#[test]
fn news_that_nobody_listens_to_end_one_wait_and_no_other() {
    let (site, mut worker, task) = taken();
    assert_eq!(site.value("t1", &format!("SELECT tq_cancel('{}')", task.id)), "t");
    site.wait_ended("t1", &task.id, 'c');
    worker.run("CALL tq_await('60 s')");
    let wait = Wait::begin(&site, worker, "'60 s'");
    enqueue(&site);
    let (mut worker, ended, _) = wait.end();
    assert_eq!(ended, Ok(()));
    // They are told all the same.
    assert_eq!(news(&mut worker), [(task.claim.clone(), "cancel".into())]);
}
