//! A session that dies with several tasks: nobody is to blame, and each of them is handed out alone until it has come to an end.

use super::waiting::Wait;
use super::{Taken, Worker, die, enqueue, shown, start};
use crate::site::{DB, Site};

/// So many tasks with which, all at once, a worker's session has died.
fn die_with(site: &Site, n: usize) -> Vec<String> {
    let ids = (0..n).map(|_| enqueue(site)).collect();
    let mut worker = Worker::of(site);
    worker.take_all(n);
    die(site, worker);
    ids
}

fn ids(tasks: &[Taken]) -> Vec<String> {
    tasks.iter().map(|task| task.id.clone()).collect()
}

/// The first of up to ten tasks that there are, which comes alone.
fn take_alone(worker: &mut Worker) -> Taken {
    let mut tasks = worker.take_many(10);
    assert_eq!(tasks.len(), 1, "{tasks:?}");
    tasks.remove(0)
}

#[test]
fn each_is_handed_out_alone_and_nothing_beside_it() {
    let site = start("", &["t1", "t2"]);
    let lone = die_with(&site, 3);
    let after = [enqueue(&site), enqueue(&site)];
    let mut worker = Worker::of(&site);
    for id in &lone {
        let task = take_alone(&mut worker);
        assert_eq!((&task.id, task.attempt), (id, 1));
        assert!(worker.take_now().is_empty(), "nothing beside it");
        worker.finish(&task);
        site.wait_ended("t1", id, 'd');
        assert_eq!(site.counts("t1", id), (1, 0), "nobody is to blame");
    }
    assert_eq!(ids(&worker.take_many(10)), after);
    site.cluster.assert_log_clean();
}

#[test]
fn who_has_one_waits_until_it_is_over() {
    let site = start("", &["t1"]);
    let lone = die_with(&site, 2);
    let mut worker = Worker::of(&site);
    let task = take_alone(&mut worker);
    let wait = Wait::begin(&site, worker, "'60 s'");
    let next = enqueue(&site);
    // Others get what it may not have.
    let mut other = Worker::of(&site);
    let beside = take_alone(&mut other);
    assert_eq!(beside.id, lone[1]);
    other.finish(&beside);
    let beside = take_alone(&mut other);
    assert_eq!(beside.id, next);
    assert!(!wait.is_over(), "there was something, but not for it");
    let last = enqueue(&site);
    Worker::of(&site).finish(&task);
    let (mut worker, ended, _) = wait.end();
    assert_eq!(ended, Ok(()));
    assert_eq!(worker.take().id, last);
}

#[test]
fn the_one_that_kills_its_workers_is_found_among_others() {
    let site = start("tenant_q.max_crashes = 2\n", &["t1"]);
    let all: Vec<String> = (0..5).map(|_| enqueue(&site)).collect();
    let poison = &all[2];
    let mut deaths = 0;
    let mut worker = Worker::of(&site);
    while site.number("SELECT count(*) FROM t1.tq_result") < 5 {
        let tasks = worker.take_many(10);
        if ids(&tasks).contains(poison) {
            deaths += 1;
            assert!(deaths <= 3, "it is not found");
            die(&site, std::mem::replace(&mut worker, Worker::of(&site)));
        } else {
            tasks.iter().for_each(|task| worker.finish(task));
        }
    }
    assert_eq!(deaths, 3, "with others, and twice alone");
    for id in &all {
        site.wait_ended("t1", id, if id == poison { 'x' } else { 'd' });
        assert_eq!(site.counts_of_result("t1", id), if id == poison { (0, 2) } else { (1, 0) });
    }
}

#[test]
fn who_is_never_without_tasks_makes_room_for_one() {
    let site = start("", &["t1"]);
    let mut busy = Worker::of(&site);
    enqueue(&site);
    let long = busy.take();
    let lone = die_with(&site, 2);
    let beside: Vec<String> = (0..2).map(|_| enqueue(&site)).collect();
    // It passes by what it may not have beside others, once.
    let mut tasks = busy.take_now();
    assert_eq!(ids(&tasks), beside);
    let next: Vec<String> = (0..2).map(|_| enqueue(&site)).collect();
    assert!(busy.take_now().is_empty(), "it makes room");
    // The second one is not asked to make room for what the first does, but for the other.
    let mut second = Worker::of(&site);
    let first_alone = take_alone(&mut second);
    assert_eq!(first_alone.id, lone[0]);
    // What it has made room for is another's: it goes on, and makes room for the next.
    let more = busy.take_now();
    assert_eq!(ids(&more), next);
    let last = enqueue(&site);
    assert!(busy.take_now().is_empty());
    tasks.extend(more);
    tasks.push(long);
    let wait = Wait::begin(&site, busy, "'60 s'");
    let mut ending = Worker::of(&site);
    tasks.iter().for_each(|task| ending.finish(task));
    let (mut busy, ended, _) = wait.end();
    assert_eq!(ended, Ok(()));
    assert_eq!(take_alone(&mut busy).id, lone[1]);
    second.finish(&first_alone);
    assert_eq!(second.take().id, last);
}

#[test]
fn one_for_which_room_was_made_is_others_when_that_worker_dies() {
    let site = start("", &["t1"]);
    let mut busy = Worker::of(&site);
    enqueue(&site);
    busy.take();
    let lone = die_with(&site, 2);
    let mut second = Worker::of(&site);
    let alone = take_alone(&mut second);
    assert_eq!(alone.id, lone[0]);
    assert!(busy.take_now().is_empty());
    let wait = Wait::begin(&site, second, "'60 s'");
    die(&site, busy);
    assert!(!wait.is_over());
    Worker::of(&site).finish(&alone);
    let (mut second, ended, _) = wait.end();
    assert_eq!(ended, Ok(()));
    let mut rest = vec![];
    // The task that the other one died with is its only one, and has no company either by then.
    for _ in 0..2 {
        let task = second.take();
        second.finish(&task);
        rest.push(task.id);
    }
    assert!(rest.contains(&lone[1]));
}

#[test]
fn an_attempt_that_ends_lets_it_have_company_again() {
    let site = start("", &["t1"]);
    let lone = die_with(&site, 2);
    let mut worker = Worker::of(&site);
    for id in &lone {
        let task = take_alone(&mut worker);
        assert_eq!(&task.id, id);
        assert_eq!(worker.give_up(&task, ", retry_after => '0', final => false"), "retrying");
    }
    assert_eq!(ids(&worker.take_many(10)), lone);
}

#[test]
fn one_that_is_given_back_is_handed_out_alone_again() {
    let site = start("", &["t1"]);
    let lone = die_with(&site, 2);
    let mut worker = Worker::of(&site);
    for _ in 0..2 {
        let task = take_alone(&mut worker);
        assert_eq!(task.id, lone[0]);
        worker.release(&task, "");
    }
}

#[test]
fn another_role_s_deaths_are_no_matter() {
    let site = start("", &["t1"]);
    site.cluster.run(DB, "CREATE ROLE other LOGIN");
    site.run("t1", "SELECT tq_grant('other', '{work}')");
    let lone = die_with(&site, 3);
    let mut other = Worker::as_role(&site, "other");
    assert_eq!(ids(&other.take_all(3)), lone);
}

#[test]
fn who_is_ended_by_an_administrator_leaves_nothing_to_be_alone() {
    let site = start("", &["t1"]);
    let all: Vec<String> = (0..2).map(|_| enqueue(&site)).collect();
    let mut worker = Worker::of(&site);
    worker.take_all(2);
    let pid = worker.pid();
    site.cluster.run(DB, &format!("SELECT pg_terminate_backend({pid})"));
    super::wait_gone(&site, pid);
    let tasks = Worker::of(&site).take_many(10);
    assert_eq!(ids(&tasks), all);
}

#[test]
fn who_is_ended_for_one_task_s_timeout_leaves_the_others_as_they_were() {
    let site = start("tenant_q.worker_grace = '100 ms'\n", &["t1"]);
    let late = site.enqueue("t1", "ext", "[]", ", timeout => '100 ms', retry => tq_backoff('fixed', base => '0')");
    let others: Vec<String> = (0..2).map(|_| enqueue(&site)).collect();
    let mut worker = Worker::of(&site);
    let pid = worker.pid();
    worker.take_all(3);
    super::wait_gone(&site, pid);
    let mut next = Worker::of(&site);
    let tasks = next.take_all(3);
    assert_eq!(tasks.len(), 3);
    assert!(ids(&tasks).contains(&late) && others.iter().all(|id| ids(&tasks).contains(id)));
    assert_eq!(shown(&site, &late), "running");
    drop(worker);
}
