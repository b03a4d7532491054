//! Workers' tasks that expire: they end so whether or not a worker comes.

use cluster::Stop;

use super::{Worker, enqueue, start};
use crate::site::{DB, Site};

fn soon(site: &Site, rest: &str) -> String {
    site.enqueue("t1", "ext", "[]", &format!(", expires => '1 s'{rest}"))
}

#[test]
fn without_any_worker_they_end_when_they_expire() {
    let site = start("", &["t1"]);
    let stays = enqueue(&site);
    let first = soon(&site, "");
    let delayed = soon(&site, ", delay => '2 s', queue => 'slow'");
    let later = site.enqueue("t1", "ext", "[]", ", expires => '4 s'");
    for id in [&first, &delayed, &later] {
        site.wait_ended("t1", id, 'e');
    }
    // One that expires by a change, and one that waits for another.
    site.run("t1", &format!("SELECT tq_update('{stays}', expires => '1 s')"));
    site.wait_ended("t1", &stays, 'e');
    let before = site.enqueue("t1", "ok", r#"["before"]"#, ", delay => '1 s'");
    let behind = soon(&site, &format!(", depends_on => '{{{before}}}'"));
    site.wait_ended("t1", &behind, 'e');
    assert_eq!(site.number(&format!("SELECT count(*) FROM t1.tq_result WHERE id = '{before}' AND state = 'd'")), 1);
    // And one that is asked for again.
    assert_eq!(site.value("t1", &format!("SELECT tq_requeue('{first}')")), "t");
    site.wait_ended("t1", &first, 'e');
    site.cluster.assert_log_clean();
}

#[test]
fn those_that_come_back_from_a_worker_end_too() {
    let site = start("", &["t1"]);
    for how in ["retry", "release", "death"] {
        let id = soon(&site, "");
        let mut worker = Worker::of(&site);
        let task = worker.take();
        assert_eq!(task.id, id);
        site.cluster.wait_until(DB, &format!("SELECT now() > expires_at FROM t1.tq_task WHERE id = '{id}'"));
        match how {
            "retry" => assert_eq!(worker.give_up(&task, ", retry_after => '0'"), "retrying"),
            "release" => worker.release(&task, ""),
            _ => drop(worker),
        }
        site.wait_ended("t1", &id, 'e');
    }
}

#[test]
fn what_expires_while_the_server_is_down_has_expired_when_it_is_up_again() {
    let site = start("", &["t1"]);
    let id = soon(&site, "");
    let later = site.enqueue("t1", "ext", "[]", ", expires => '5 s'");
    site.cluster.stop(Stop::Fast);
    site.cluster.server_start();
    site.wait_ended("t1", &id, 'e');
    site.wait_ended("t1", &later, 'e');
}
