//! What is said of workers and of what they have taken: tq_running, tq_workers, and the counts that are of all that runs.

use super::{Worker, enqueue, start};
use crate::site::{DB, Site};

/// The only row, its columns put together.
fn line(site: &Site, tenant: &str, sql: &str) -> String {
    site.value(tenant, &format!("SELECT concat_ws('|', VARIADIC x.c) FROM ({sql}) AS x(c)"))
}

#[test]
fn what_workers_have_runs_and_nothing_else_does() {
    let site = start("", &["t1", "t2"]);
    let mut worker = Worker::of(&site);
    let ids: Vec<String> = (0..3).map(|_| enqueue(&site)).collect();
    let task = worker.taken("worker => 'w-1', wait => '20 s'").pop().expect("a task is there");
    assert_eq!(task.id, ids[0]);
    let pid = worker.pid();
    let running = "SELECT ARRAY[tenant, id::text, handler, attempt::text, state, pid::text, role, worker, listed::text] FROM tq_running";
    assert_eq!(line(&site, "t1", running), format!("t1|{}|ext|1|running|{pid}|worker|w-1|0", task.id));
    assert_eq!(site.value("t2", "SELECT count(*) FROM tq_running"), "0", "that is nobody else's business");

    // The counts.
    let tenants = "SELECT ARRAY[running::text, queued::text] FROM tq_tenants WHERE tenant = 't1'";
    assert_eq!(line(&site, "t1", tenants), "1|2");
    assert_eq!(line(&site, "t1", "SELECT ARRAY[running::text, queued::text] FROM tq_queues"), "1|2");
    assert_eq!(site.value("t1", "SELECT string_agg(state, ' ' ORDER BY id) FROM tq_tasks"), "running queued queued");
    let metric =
        |name: &str| site.value("t1", &format!("SELECT value FROM tq_metrics WHERE name = 'tenant_q_{name}' AND labels->>'tenant' = 't1'"));
    assert_eq!((metric("running"), metric("queued")), ("1".into(), "2".into()));
    let executors = "SELECT value FROM tq_metrics WHERE name = 'tenant_q_executors' AND labels->>'state' = 'running'";
    assert_eq!(site.cluster.value(DB, executors), "0", "no executor does it");
    let all = |name: &str| site.cluster.value(DB, &format!("SELECT value FROM tq_metrics WHERE name = 'tenant_q_{name}'"));
    assert_eq!((all("takers"), all("claims")), ("1".into(), "1".into()));

    // Its end, by another session.
    let mut other = Worker::of(&site);
    let ends = other.pid();
    other.begin_to_finish(&task, "done");
    assert_eq!(line(&site, "t1", running), format!("t1|{}|ext|1|finishing|{ends}|worker|w-1|0", task.id));
    assert_eq!(line(&site, "t1", tenants), "1|2", "it runs until it has ended");
    other.run("COMMIT");
    assert_eq!(site.value("t1", "SELECT count(*) FROM tq_running"), "0");
    assert_eq!(line(&site, "t1", tenants), "0|2");
    assert_eq!(site.value("t1", "SELECT done FROM tq_stats WHERE handler = 'ext'"), "1");
    assert_eq!(all("claims"), "0");
}

#[test]
fn a_worker_is_shown_to_its_role_and_to_monitors() {
    let site = start("", &["t1"]);
    let external =
        "SELECT ARRAY[pid::text, database::text, role::text, name, handlers, claims::text, state] FROM tq_workers WHERE kind = 'external'";
    assert_eq!(site.number("SELECT count(*) FROM tq_workers WHERE kind = 'external'"), 0);
    let mut worker = Worker::of(&site);
    let pid = worker.pid();
    enqueue(&site);
    let task = worker.taken("handlers => '{ext}', worker => 'w-1', wait => '20 s'").pop().expect("a task is there");
    let shown = |claims: i32, state: &str| format!("{pid}|{DB}|worker|w-1|ext|{claims}|{state}");
    assert_eq!(line(&site, "worker", external), shown(1, "running"));
    assert_eq!(site.cluster.value(DB, "SELECT since <= now() AND tasks_done IS NULL FROM tq_workers WHERE kind = 'external'"), "t");
    worker.finish(&task);
    assert_eq!(line(&site, "worker", external), shown(0, "idle"));
    assert_eq!(site.value("t1", "SELECT count(*) FROM tq_workers WHERE kind = 'external'"), "0", "whose role it isn't");
    let waits = std::thread::spawn(move || {
        assert!(worker.taken("handlers => '{ext}', worker => 'w-1', wait => '20 s'").len() == 1);
    });
    site.cluster.wait_until(DB, "SELECT state = 'waiting' FROM tq_workers WHERE kind = 'external'");
    enqueue(&site);
    waits.join().expect("the worker");
    site.cluster.wait_until(DB, "SELECT count(*) = 0 FROM tq_workers WHERE kind = 'external'");
}

/// Why a task that could be taken isn't: reason and detail, each.
fn why(site: &Site, id: &str) -> Vec<(String, String)> {
    let rows = site.cluster.rows(DB, &format!("SELECT reason, detail FROM tq_why('{id}', tenant => 't1')"));
    rows.iter().map(|row| (row.get(0).to_owned(), row.get(1).to_owned())).collect()
}

fn reasons(site: &Site, id: &str) -> Vec<String> {
    why(site, id).into_iter().map(|(reason, _)| reason).collect()
}

#[test]
fn why_a_task_is_not_taken_is_said_without_a_word_of_executors() {
    let site = start("tenant_q.max_claims = 16\n", &["t1"]);
    let ids: Vec<String> = (0..17).map(|_| enqueue(&site)).collect();
    let last = &ids[16];
    assert_eq!(why(&site, last), [("queued".into(), "it is ready, and no worker has offered to do it yet".into())]);
    let mut worker = Worker::of(&site);
    let first = worker.take();
    assert_eq!(why(&site, last), [("queued".into(), "it is ready, and 1 worker offers to do it: it starts in its turn".into())]);
    let [(reason, detail)] = &why(&site, &first.id)[..] else { panic!("one reason") };
    assert_eq!(reason, "running");
    let pid = worker.pid();
    assert!(detail.ends_with(&format!("in a worker that took it through session {pid}")), "{detail}");

    // As many as one role may have: half, so that others find room.
    assert_eq!(worker.take_many(100).len(), 7);
    assert_eq!(why(&site, last), [("busy".into(), "workers have taken 8 tasks of 16, and those that offer it may take no more".into())]);
    worker.finish(&first);
    assert_eq!(reasons(&site, last), ["queued"]);

    // What keeps tasks in the server keeps these, too.
    site.cluster.run(DB, "SELECT tq_set_quota('t1', max_running => 7)");
    assert_eq!(why(&site, last), [("limit".into(), "7 tasks of the tenant run, and its quota allows 7 (max_running)".into())]);
    site.run("t1", "SELECT tq_pause()");
    assert_eq!(reasons(&site, last), ["paused", "limit"]);
}
