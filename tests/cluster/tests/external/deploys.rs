//! Versions of an application beside each other, whose workers know different handlers, queues and tenants: each gets its own, and
//! nothing waits for a worker that has no use for it, or doesn't come, while another one waits that has.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use super::waiting::{Done, Wait};
use super::{Taken, Worker, die, start};
use crate::site::{DB, Site};

const OLD: &str = "handlers => '{mail,bill}'";
/// `post` is what is called `mail` meanwhile.
const NEW: &str = "handlers => '{post,digest}', queues => '{default}'";
const SLOW: &str = "handlers => '{bill,digest}', queues => '{slow}', tenants => '{t2}'";

/// Who may have a task of this handler, queue and tenant.
fn whose(handler: &str, queue: &str, tenant: &str) -> Vec<&'static str> {
    let of = |name: &[&str]| name.contains(&handler);
    let is = [
        (OLD, of(&["mail", "bill"])),
        (NEW, of(&["mail", "digest"]) && queue == "default"),
        (SLOW, of(&["bill", "digest"]) && queue == "slow" && tenant == "t2"),
    ];
    is.into_iter().filter(|(_, is)| *is).map(|(who, _)| who).collect()
}

/// A worker that goes on taking what it offers until it is told to stop: what it has had.
fn go_on(site: &Site, offers: &str, stop: &AtomicBool) -> Vec<Taken> {
    let mut worker = Worker::of(site);
    let mut had = vec![];
    while !stop.load(Ordering::SeqCst) {
        let tasks = worker.taken(&format!("n => 2, {offers}"));
        if tasks.is_empty() {
            worker.run(&format!("CALL tq_await('1 s', {offers})"));
        }
        tasks.iter().for_each(|task| worker.finish(task));
        had.extend(tasks);
    }
    had
}

#[test]
fn each_version_gets_what_it_offers_and_what_nobody_offers_is_shown() {
    let site = start("tenant_q.worker_lease = '1 s'\n", &["t1", "t2"]);
    for t in ["t1", "t2"] {
        site.run(t, "SELECT tq_register('mail', external => true, aliases => '{post}')");
        site.run(t, "SELECT tq_register(h, external => true) FROM unnest('{bill,digest}'::text[]) AS h");
        for n in 0..6 {
            site.run(
                t,
                &format!(
                    "SELECT tq_async(h, queue => q, name => concat_ws(' ', h, q, '{t}', {n}))
                     FROM unnest('{{mail,bill,digest}}'::text[]) AS h, unnest('{{default,slow}}'::text[]) AS q"
                ),
            );
        }
    }
    let all = "SELECT id, handler, coalesce(queue, 'default'), 't1' FROM t1.tq_task
               UNION ALL SELECT id, handler, coalesce(queue, 'default'), 't2' FROM t2.tq_task";
    let tasks = site.cluster.rows(DB, all);
    let owners = |id: &str| {
        let task = tasks.iter().find(|task| task.get(0) == id).expect("a task");
        whose(task.get(1), task.get(2), task.get(3))
    };
    let expected: BTreeSet<&str> = tasks.iter().map(|task| task.get(0)).filter(|id| !owners(id).is_empty()).collect();
    let stop = AtomicBool::new(false);
    let had = std::thread::scope(|threads| {
        let _done = Done(&stop);
        let (site, stop) = (&site, &stop);
        let workers = [OLD, NEW, SLOW].map(|offers| (offers, threads.spawn(move || go_on(site, offers, stop))));
        let done = "SELECT (SELECT count(*) FROM t1.tq_result) + (SELECT count(*) FROM t2.tq_result)";
        site.cluster.wait_until(DB, &format!("SELECT ({done}) >= {}", expected.len()));
        // Nobody offers those in a queue and a tenant.
        let id = site.value("t1", "SELECT id FROM tq_tasks WHERE handler = 'digest' AND queue = 'slow' LIMIT 1");
        assert!(owners(&id).is_empty());
        stop.store(true, Ordering::SeqCst);
        workers.map(|(offers, worker)| (offers, worker.join().expect("a worker")))
    });
    for (offers, tasks) in &had {
        assert!(!tasks.is_empty(), "{offers}");
        tasks.iter().for_each(|task| assert!(owners(&task.id).contains(offers), "{task:?} is none of {offers}"));
    }
    let got: Vec<&str> = had.iter().flat_map(|(_, tasks)| tasks).map(|task| &*task.id).collect();
    assert_eq!(got.len(), expected.len(), "each once");
    assert_eq!(got.into_iter().collect::<BTreeSet<_>>(), expected);

    // The new version alone: nobody offers what only the old one has known.
    let mut new = Worker::of(&site);
    site.enqueue("t1", "bill", "[]", "");
    new.taken(NEW);
    let problem = "SELECT EXISTS (SELECT FROM tq_problems WHERE reason LIKE '1 task waits, no worker offers bill%')";
    site.cluster.wait_until(DB, problem);
    let why = site.value("t1", "SELECT w.reason FROM tq_tasks AS t, tq_why(t.id) AS w WHERE t.handler = 'bill'");
    assert_eq!(why, "no_worker");
    // It is taken from whoever offers it, and is no problem any more.
    let mut old = Worker::of(&site);
    assert_eq!(old.taken(OLD).len(), 1);
    site.cluster.wait_until(DB, "SELECT NOT EXISTS (SELECT FROM tq_problems WHERE reason LIKE '%no worker offers bill%')");
    site.cluster.assert_log_clean();
}

/// Two that wait for the same: the first of whom is called first. The launcher, which would look after who takes nothing, is stopped.
struct Two {
    first: Wait,
    second: Wait,
    launcher: i32,
}

impl Two {
    fn wait(site: &Site, how: &str) -> Two {
        let (first, second) = (Worker::of(site), Worker::of(site));
        let first = Wait::begin(site, first, how);
        let second = Wait::begin(site, second, "'60 s', '{ext}'");
        let launcher = site.cluster.pids("tenant_q launcher")[0];
        cluster::kill(launcher, libc::SIGSTOP);
        Two { first, second, launcher }
    }

    /// The second one is called, and takes the task.
    fn assert_second_takes(self, site: &Site, id: &str) {
        let (mut worker, ended, _) = self.second.end();
        assert_eq!(ended, Ok(()));
        let task = worker.take_now().remove(0);
        assert_eq!(task.id, id);
        worker.finish(&task);
        cluster::kill(self.launcher, libc::SIGCONT);
        site.cluster.assert_log_clean();
    }
}

#[test]
fn a_called_waiter_that_is_cancelled_or_ended_passes_its_call_on() {
    let site = start("", &["t1"]);
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let two = Two::wait(&site, "'60 s', '{ext}'");
        // It is called while it can't hear that, and is cancelled before it does.
        cluster::kill(two.first.pid, libc::SIGSTOP);
        let id = super::enqueue(&site);
        assert!(!two.second.is_over(), "one is called");
        cluster::kill(two.first.pid, signal);
        cluster::kill(two.first.pid, libc::SIGCONT);
        two.assert_second_takes(&site, &id);
    }
}

#[test]
fn a_called_waiter_whose_client_goes_passes_its_call_on() {
    let site = start("", &["t1"]);
    let Two { first, second, launcher } = Two::wait(&site, "'60 s', '{ext}'");
    let id = super::enqueue(&site);
    let (worker, ended, _) = first.end();
    assert_eq!(ended, Ok(()), "it was called");
    assert!(!second.is_over());
    drop(worker);
    let (mut worker, ended, _) = second.end();
    assert_eq!(ended, Ok(()));
    assert_eq!(worker.take_now()[0].id, id);
    cluster::kill(launcher, libc::SIGCONT);
}

#[test]
fn a_called_waiter_that_finds_nothing_for_itself_passes_the_call_on() {
    let site = start("", &["t1"]);
    // Who offers so many is called for all of them and others; and of queues nobody knows before a look.
    let many = (0..1000).map(|n| format!("h{n}")).collect::<Vec<_>>().join(",");
    for (handlers, queue) in [(&*many, "default"), ("ext", "other")] {
        let Two { first, second, launcher } = Two::wait(&site, &format!("'60 s', '{{{handlers}}}', '{{{queue}}}'"));
        let id = super::enqueue(&site);
        let (mut worker, ended, _) = first.end();
        assert_eq!(ended, Ok(()), "it was called");
        assert!(worker.taken(&format!("handlers => '{{{handlers}}}', queues => '{{{queue}}}'")).is_empty());
        let (mut worker, ended, _) = second.end();
        assert_eq!(ended, Ok(()));
        let task = worker.take_now().remove(0);
        assert_eq!(task.id, id);
        worker.finish(&task);
        cluster::kill(launcher, libc::SIGCONT);
    }
}

#[test]
fn who_is_called_and_stays_silent_keeps_nothing_from_others() {
    let site = start("", &["t1"]);
    let mut waits: Vec<Wait> = (0..3).map(|_| Wait::begin(&site, Worker::of(&site), "'60 s', '{ext}'")).collect();
    let id = super::enqueue(&site);
    // Two are called, and their clients do nothing. Their sessions live.
    let last = waits.pop().expect("three");
    let silent: Vec<(Worker, _, _)> = waits.into_iter().map(Wait::end).collect();
    let (mut worker, ended, _) = last.end();
    assert_eq!(ended, Ok(()));
    assert_eq!(worker.take_now()[0].id, id);
    silent.into_iter().for_each(|(worker, ..)| die(&site, worker));
}
