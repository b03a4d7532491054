//! Work outside of the server: workers with sessions of their own, which take tasks, act, and end them in their transactions.
//!
//! A worker here is the role `worker`, who has the right `work` in each tenant and owns nothing; what it does for a task is
//! a row of `public.fx`, as what handlers in the server do.

mod alone;
mod changes;
mod commits;
mod deaths;
mod deploys;
mod expiry;
mod flows;
mod lease;
mod limits;
mod lost;
mod observed;
mod pooler;
mod results;
mod transactions;
mod waiting;

use cluster::{Client, Row, SqlError, query};

use crate::site::{DB, Site};

/// Long enough for whatever has been enqueued to be handed out.
const SOON: &str = "20 s";

/// A server on which each of these tenants has the external handler `ext`, of any arguments.
fn start(extra_conf: &str, tenants: &[&str]) -> Site {
    let site = Site::start(&format!("max_prepared_transactions = 4\n{extra_conf}"), tenants);
    site.cluster.run(DB, "CREATE ROLE worker LOGIN");
    for t in tenants {
        site.run(t, "SELECT tq_register('ext', external => true), tq_grant('worker', '{work,read}')");
    }
    site
}

/// A session of a worker's.
struct Worker {
    client: Client,
}

/// A task that a worker has.
#[derive(Debug)]
struct Taken {
    claim: String,
    id: String,
    attempt: i64,
    tenant: String,
    handler: String,
    /// As PostgreSQL writes it.
    args: String,
}

impl Worker {
    fn of(site: &Site) -> Worker {
        Worker::as_role(site, "worker")
    }

    fn as_role(site: &Site, role: &str) -> Worker {
        Worker { client: site.client(role) }
    }

    fn rows(&mut self, sql: &str) -> Vec<Row> {
        self.try_rows(sql).unwrap_or_else(|error| panic!("{error}\n{sql}"))
    }

    fn try_rows(&mut self, sql: &str) -> Result<Vec<Row>, SqlError> {
        query(&mut self.client, sql)
    }

    fn run(&mut self, sql: &str) {
        self.rows(sql);
    }

    /// The SQLSTATE that it fails with.
    fn refused(&mut self, sql: &str) -> String {
        match self.try_rows(sql) {
            Ok(rows) => panic!("this is not refused: {sql}\n{rows:?}"),
            Err(error) => error.code,
        }
    }

    fn value(&mut self, sql: &str) -> String {
        let rows = self.rows(sql);
        assert_eq!(rows.len(), 1, "{sql}");
        rows[0].get(0).to_owned()
    }

    fn pid(&mut self) -> i32 {
        self.value("SELECT pg_backend_pid()").parse().expect("a pid")
    }

    /// Tasks that are there, or the first that come: so many at most.
    fn take_many(&mut self, n: usize) -> Vec<Taken> {
        self.taken(&format!("n => {n}, wait => '{SOON}'"))
    }

    /// So many tasks, which are there or come soon.
    fn take_all(&mut self, n: usize) -> Vec<Taken> {
        let mut tasks = Vec::new();
        while tasks.len() < n {
            let more = self.take_many(n - tasks.len());
            assert!(!more.is_empty(), "{n} tasks don't come, but {tasks:?}");
            tasks.extend(more);
        }
        tasks
    }

    /// The next task.
    fn take(&mut self) -> Taken {
        self.take_all(1).remove(0)
    }

    /// What is there now, without a wait.
    fn take_now(&mut self) -> Vec<Taken> {
        self.taken("n => 100")
    }

    fn taken(&mut self, how: &str) -> Vec<Taken> {
        let of = |row: &Row| Taken {
            claim: row.get(0).into(),
            id: row.get(1).into(),
            attempt: row.get(2).parse().expect("a number"),
            tenant: row.get(3).into(),
            handler: row.get(4).into(),
            args: row.get(5).into(),
        };
        self.rows(&format!("SELECT claim, id, attempt, tenant, handler, args FROM tq_take({how})")).iter().map(of).collect()
    }

    /// Does the task's work in the open transaction, or in one of its own.
    fn act(&mut self, k: &str) {
        self.run(&format!("INSERT INTO fx (tenant, k) VALUES ('t1', '{k}')"));
    }

    fn finish(&mut self, task: &Taken) {
        self.try_finish(task).unwrap_or_else(|error| panic!("{error}"));
    }

    fn try_finish(&mut self, task: &Taken) -> Result<(), SqlError> {
        self.try_rows(&format!("SELECT tq_finish('{}')", task.claim)).map(|_| ())
    }

    /// The task is done, and this is its result.
    fn finish_with(&mut self, task: &Taken, result: &str) {
        self.run(&format!("SELECT tq_finish('{}', '{result}')", task.claim));
    }

    /// Begins a transaction that does the task's work and ends it.
    fn begin_to_finish(&mut self, task: &Taken, k: &str) {
        self.run("BEGIN");
        self.act(k);
        self.finish(task);
    }

    /// The failure of an attempt: what becomes of the task.
    fn give_up(&mut self, task: &Taken, rest: &str) -> String {
        let rows = self.rows(&format!("SELECT state FROM tq_give_up('{}', '{{\"message\": \"no\"}}'{rest})", task.claim));
        rows[0].get(0).to_owned()
    }

    fn release(&mut self, task: &Taken, rest: &str) {
        self.run(&format!("SELECT tq_release('{}'{rest})", task.claim));
    }
}

/// `SELECT tq_finish(…)` of this task.
fn finish_of(task: &Taken) -> String {
    format!("SELECT tq_finish('{}')", task.claim)
}

/// A task of `ext` of tenant t1.
fn enqueue(site: &Site) -> String {
    site.enqueue("t1", "ext", "[]", "")
}

/// How a task is shown to run: running, finishing, or not at all.
fn shown(site: &Site, id: &str) -> String {
    let rows = site.cluster.rows(DB, &format!("SELECT state FROM tq_running WHERE id = '{id}'"));
    rows.first().map_or_else(|| "not".into(), |row| row.get(0).to_owned())
}

/// The claim is the worker's, and nobody else gets the task.
fn assert_claimed(site: &Site, task: &Taken) {
    assert_eq!(shown(site, &task.id), "running");
    assert!(Worker::of(site).take_now().is_empty(), "somebody else gets what is taken");
}

fn wait_blocked(site: &Site, pid: i32) {
    site.cluster.wait_until(DB, &format!("SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = {pid}"));
}

/// The worker's client ends as one does that is killed: the connection is closed.
fn die(site: &Site, mut worker: Worker) {
    let pid = worker.pid();
    drop(worker);
    wait_gone(site, pid);
}

fn wait_gone(site: &Site, pid: i32) {
    site.cluster.wait_until(DB, &format!("SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = {pid})"));
}
