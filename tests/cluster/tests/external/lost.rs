//! Claims of which nothing is left: whoever is told so has none any more, and nobody holds it against them.

use super::{Worker, enqueue, finish_of, start};
use crate::site::DB;

/// The session goes on as if it had never taken the task: neither its limits nor its time are held.
fn assert_none_is_left(worker: &mut Worker, pid: i32) {
    assert_eq!(worker.value("SELECT coalesce(sum(claims), 0)::text FROM tq_workers WHERE kind = 'external'"), "0");
    assert_eq!(worker.value("SELECT count(*)::text FROM tq_running"), "0");
    assert_eq!(worker.pid(), pid, "the same session");
}

#[test]
fn a_cancelled_task_costs_its_worker_one_error() {
    let site = start("", &["t1"]);
    let mut worker = Worker::of(&site);
    let pid = worker.pid();
    for end in ["tq_finish($1)", "tq_give_up($1, '{\"message\": \"no\"}')", "tq_release($1)"] {
        enqueue(&site);
        let task = worker.take();
        site.run("t1", &format!("SELECT tq_cancel('{}', running => true)", task.id));
        worker.run("BEGIN");
        assert_eq!(worker.refused(&format!("SELECT {}", end.replace("$1", &format!("'{}'", task.claim)))), "TQ007", "{end}");
        worker.run("ROLLBACK");
        assert_none_is_left(&mut worker, pid);
    }
}

#[test]
fn so_does_a_tenant_that_is_gone() {
    let site = start("", &["t1", "t2"]);
    let mut worker = Worker::of(&site);
    let pid = worker.pid();
    enqueue(&site);
    let task = worker.take();
    site.cluster.run(DB, "DROP SCHEMA t1 CASCADE");
    assert_eq!(worker.refused(&finish_of(&task)), "TQ007");
    assert_none_is_left(&mut worker, pid);
}
