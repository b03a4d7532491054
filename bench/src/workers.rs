//! Workers outside of the server: how many tasks they take and end a second, beside a loop with which people do without a queue;
//! how soon they have what is enqueued; and what a take costs beside tasks and tenants that are none of their business.

use std::sync::Barrier;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use postgres::{Client, Statement};
use uuid::Uuid;

use crate::Options;
use crate::report::Report;
use crate::server::{self, Server, text_of, wait_for_none};
use crate::tenants::{self, ONE};

const CLIENTS: usize = 4;
const BATCH: i64 = 64;

/// The worker's role, what it offers, and what it doesn't.
const WORKER: &str = "worker";
const DONE: &str = "bench_done";
const OTHERS: &str = "bench_others";

/// A part that has one name for all rounds is prepared once.
fn prepare(server: &Server) {
    if server.value("SELECT count(*) FROM pg_roles WHERE rolname = 'worker'") != "0" {
        return;
    }
    server.run(&format!(
        "CREATE ROLE {WORKER} LOGIN;
         SELECT tq_grant('{WORKER}', '{{work}}', tenant => '{ONE}');
         SELECT tq_register('{DONE}', external => true, shared => true);
         SELECT tq_register('{OTHERS}', external => true, shared => true);
         CREATE SCHEMA hand;
         CREATE TABLE hand.job (
             id uuid PRIMARY KEY, state text NOT NULL DEFAULT 'queued', handler text NOT NULL, args jsonb,
             priority smallint NOT NULL DEFAULT 0, run_at timestamptz NOT NULL DEFAULT now(), attempts int NOT NULL DEFAULT 0,
             result jsonb, finished_at timestamptz);
         CREATE INDEX ON hand.job (priority DESC, run_at, id) WHERE state = 'queued';"
    ));
}

/// One session of a worker.
struct Worker {
    client: Client,
    take: Statement,
    finish: Statement,
    finish_many: Statement,
    wait: Statement,
    handlers: Vec<String>,
}

impl Worker {
    fn connect(server: &Server, handlers: Vec<String>, queues: &str) -> Worker {
        let mut client = server.client(WORKER);
        let mut prepare = |sql: &str| client.prepare(sql).unwrap_or_else(|error| panic!("{}\n{sql}", text_of(&error)));
        Worker {
            take: prepare(&format!("SELECT * FROM tq_take($1, handlers => $2, queues => {queues}, worker => 'bench')")),
            finish: prepare("SELECT tq_finish($1)"),
            finish_many: prepare("SELECT tq_finish_many($1)"),
            wait: prepare(&format!("CALL tq_await('10 seconds', handlers => $1, queues => {queues})")),
            handlers,
            client,
        }
    }

    fn of(server: &Server, handler: &str) -> Worker {
        Worker::connect(server, vec![handler.to_owned()], "NULL")
    }

    fn take(&mut self, n: i64) -> Vec<Uuid> {
        let rows = self.client.query(&self.take, &[&(n as i32), &self.handlers]).unwrap_or_else(|error| panic!("{}", text_of(&error)));
        rows.iter().map(|row| row.get("claim")).collect()
    }

    fn finish(&mut self, claims: &[Uuid]) {
        let ended = match claims {
            [claim] => self.client.query(&self.finish, &[claim]),
            claims => self.client.query(&self.finish_many, &[&claims]),
        };
        ended.unwrap_or_else(|error| panic!("{}", text_of(&error)));
    }

    /// In a transaction of the worker's, as where its effects are committed with the task's end.
    fn finish_in_transaction(&mut self, claims: &[Uuid]) {
        server::run(&mut self.client, "BEGIN");
        self.finish(claims);
        server::run(&mut self.client, "COMMIT");
    }

    fn wait(&mut self) {
        self.client.execute(&self.wait, &[&self.handlers]).unwrap_or_else(|error| panic!("{}", text_of(&error)));
    }
}

/// What does some tasks, and says how many; none: there is nothing to do just now.
type Step<'a> = Box<dyn FnMut() -> usize + Send + 'a>;

/// So many clients do so many tasks: tasks a second.
fn rate(tasks: i64, steps: Vec<Step>) -> f64 {
    let (done, start) = (AtomicI64::new(0), Barrier::new(steps.len() + 1));
    let began = std::thread::scope(|scope| {
        for mut step in steps {
            let (done, start) = (&done, &start);
            scope.spawn(move || {
                start.wait();
                let mut last = Instant::now();
                while done.load(Ordering::Relaxed) < tasks {
                    match step() {
                        0 => assert!(last.elapsed().as_secs() < 30, "stuck with {} of {tasks} done", done.load(Ordering::Relaxed)),
                        some => {
                            done.fetch_add(some as i64, Ordering::Relaxed);
                            last = Instant::now();
                        }
                    }
                }
            });
        }
        start.wait();
        Instant::now()
    });
    tasks as f64 / began.elapsed().as_secs_f64()
}

/// Tasks a second, by workers and by hand, in turn.
pub fn rates(server: &Server, options: &Options, report: &mut Report) {
    prepare(server);
    let singly = (options.tasks / 8).max(1000);
    for (batch, tasks) in [(1, singly), (BATCH, options.tasks)] {
        let rate = by_hand(server, tasks, batch);
        report.add(format!("by hand: SKIP LOCKED and UPDATE, {batch} at a time, {CLIENTS} clients"), rate, "tasks/s");
        let rate = by_workers(server, tasks, batch, Worker::finish);
        report.add(format!("workers: take {batch}, finish {batch}, {CLIENTS} clients"), rate.0, "tasks/s");
        report.add(format!("workers: take {batch}, finish {batch}, {CLIENTS} clients: WAL"), rate.1, "bytes/task");
        let rate = by_workers(server, tasks, batch, Worker::finish_in_transaction);
        report.add(format!("workers: take {batch}, BEGIN, finish {batch}, COMMIT, {CLIENTS} clients"), rate.0, "tasks/s");
    }
}

/// Tasks a second, and bytes of WAL a task.
fn by_workers(server: &Server, tasks: i64, batch: i64, end: fn(&mut Worker, &[Uuid])) -> (f64, f64) {
    enqueue(server, ONE, DONE, "NULL", tasks);
    server.settle();
    let wal = server.wal_position();
    let step = |mut worker: Worker| -> Step {
        Box::new(move || {
            let claims = worker.take(batch);
            if !claims.is_empty() {
                end(&mut worker, &claims);
            }
            claims.len()
        })
    };
    let rate = rate(tasks, (0..CLIENTS).map(|_| step(Worker::of(server, DONE))).collect());
    let written = server.wal_position() - wal;
    assert_eq!(server.number(&format!("SELECT count(*) FROM {ONE}.tq_task")), 0.0, "tasks are left");
    (rate, written / tasks as f64)
}

fn enqueue(server: &Server, tenant: &str, handler: &str, queue: &str, tasks: i64) {
    server.run(&format!("SELECT count(tq_async('{handler}', queue => {queue}, tenant => '{tenant}')) FROM generate_series(1, {tasks})"));
}

/// The same by hand: rows are locked while they are worked at, and marked in the transaction of the effects.
fn by_hand(server: &Server, tasks: i64, batch: i64) -> f64 {
    server.run("TRUNCATE hand.job");
    server.run(&format!("INSERT INTO hand.job (id, handler) SELECT gen_random_uuid(), 'done' FROM generate_series(1, {tasks})"));
    server.run("VACUUM ANALYZE hand.job");
    server.settle();
    let step = |mut client: Client| -> Step {
        let mut prepare = |sql: &str| client.prepare(sql).unwrap_or_else(|error| panic!("{}\n{sql}", text_of(&error)));
        let take = prepare(&format!(
            "SELECT id, handler, args, attempts, run_at FROM hand.job WHERE state = 'queued' AND run_at <= now()
             ORDER BY priority DESC, run_at, id LIMIT {batch} FOR UPDATE SKIP LOCKED"
        ));
        let finish = match batch {
            1 => "id = $1",
            _ => "id = ANY ($1)",
        };
        let finish = prepare(&format!(
            "UPDATE hand.job SET state = 'done', attempts = attempts + 1, result = 'null', finished_at = clock_timestamp() WHERE {finish}"
        ));
        Box::new(move || {
            server::run(&mut client, "BEGIN");
            let rows = client.query(&take, &[]).unwrap_or_else(|error| panic!("{}", text_of(&error)));
            let ids: Vec<Uuid> = rows.iter().map(|row| row.get(0)).collect();
            let ended = match ids.as_slice() {
                [] => Ok(0),
                [id] if batch == 1 => client.execute(&finish, &[id]),
                ids => client.execute(&finish, &[&ids]),
            };
            let ended = ended.unwrap_or_else(|error| panic!("{}", text_of(&error)));
            assert_eq!(ended, ids.len() as u64, "rows were lost");
            server::run(&mut client, "COMMIT");
            ids.len()
        })
    };
    rate(tasks, (0..CLIENTS).map(|_| step(server.client("postgres"))).collect())
}

/// Milliseconds, sorted.
fn add(report: &mut Report, name: &str, mut samples: Vec<f64>) {
    samples.sort_by(f64::total_cmp);
    for (percent, label) in [(50, "p50"), (99, "p99"), (100, "max")] {
        report.add(format!("{name}, {label}"), samples[(samples.len() * percent / 100).min(samples.len() - 1)], "ms");
    }
}

fn ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}

/// How soon a worker that waits has what is enqueued, 20 a second.
pub fn latency(server: &Server, options: &Options, report: &mut Report) {
    const PER_SECOND: u64 = 20;
    prepare(server);
    let count = options.seconds * PER_SECOND;
    let mut worker = Worker::of(server, DONE);
    let taken = std::thread::scope(|scope| {
        let worker = scope.spawn(move || {
            let mut taken = Vec::new();
            while (taken.len() as u64) < count {
                let claims = worker.take(1);
                if claims.is_empty() {
                    worker.wait();
                    continue;
                }
                taken.push(Instant::now());
                worker.finish(&claims);
            }
            taken
        });
        let mut client = server.client(ONE);
        let enqueue = client.prepare(&format!("SELECT tq_async('{DONE}')")).expect("a statement");
        let (mut called, mut committed) = (Vec::new(), Vec::new());
        let (began, pause) = (Instant::now(), Duration::from_secs(1) / PER_SECOND as u32);
        for number in 0..count {
            // Not on the beat: up to a third of the pause early or late.
            let due = began + pause * number as u32 + pause.mul_f64(0.33 * ((number * 7919 % 101) as f64 / 50.0 - 1.0) + 1.0);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            called.push(Instant::now());
            client.query(&enqueue, &[]).unwrap_or_else(|error| panic!("{}", text_of(&error)));
            committed.push(Instant::now());
        }
        (worker.join().expect("a worker"), called, committed)
    });
    let (taken, called, committed) = taken;
    let since = |from: &[Instant]| taken.iter().zip(from).map(|(to, from)| to.duration_since(*from).as_secs_f64() * 1000.0).collect();
    add(report, "workers: enqueue → taken through tq_await, 20/s, from the call", since(&called));
    add(report, "workers: enqueue → taken through tq_await, 20/s, from the commit", since(&committed));
}

/// How long so many takes take, each of the one task that is there for it.
fn takes(worker: &mut Worker, count: usize, mut enqueue: impl FnMut(usize)) -> Vec<f64> {
    // Once more than is counted: the first looks where it may work at all.
    (0..=count)
        .map(|number| {
            enqueue(number);
            let began = Instant::now();
            let claims = worker.take(1);
            let took = ms(began);
            assert_eq!(claims.len(), 1, "nothing was taken");
            worker.finish(&claims);
            took
        })
        .skip(1)
        .collect()
}

const TAKES: usize = 2000;

/// What a take costs beside very many tasks of handlers and queues that the worker doesn't offer, and where it offers many.
pub fn beside_foreign(server: &Server, options: &Options, report: &mut Report) {
    const MANY: i64 = 300;
    prepare(server);
    let mut owner = server.client(ONE);
    let mut enqueue_in = |tenant: &str, handler: String, queue: &str| {
        server::run(&mut owner, &format!("SELECT tq_async('{handler}', queue => {queue}, tenant => '{tenant}')"));
    };

    let mut worker = Worker::connect(server, vec![DONE.to_owned()], "'{default}'");
    let alone = takes(&mut worker, TAKES, |_| enqueue_in(ONE, DONE.to_owned(), "NULL"));
    add(report, "workers: take 1, nothing else waits", alone);

    server.run(&format!("CREATE SCHEMA crowd AUTHORIZATION {ONE}; SELECT tq_attach('crowd')"));
    server.run(&format!("SELECT tq_grant('{WORKER}', '{{work}}', tenant => 'crowd')"));
    enqueue(server, "crowd", OTHERS, "NULL", options.foreign_tasks / 2);
    enqueue(server, "crowd", DONE, "'elsewhere'", options.foreign_tasks - options.foreign_tasks / 2);
    let crowded = takes(&mut worker, TAKES, |_| enqueue_in("crowd", DONE.to_owned(), "NULL"));
    let name = format!("workers: take 1 beside {} tasks of handlers and queues that it doesn't offer", options.foreign_tasks);
    add(report, &name, crowded);
    drop(worker);
    server.run("SELECT tq_detach('crowd', drop_data => true); DROP SCHEMA crowd CASCADE");

    let of = |number: usize| format!("bench_of_{}", number as i64 % MANY + 1);
    let handlers: Vec<_> = (0..MANY as usize).map(of).collect();
    for handler in &handlers {
        server.run(&format!("SELECT tq_register('{handler}', external => true, tenant => '{ONE}')"));
    }
    // One stays in each run, whichever is taken.
    for _ in 0..2 {
        handlers.iter().for_each(|handler| enqueue(server, ONE, handler, "NULL", 1));
    }
    let mut worker = Worker::connect(server, handlers.clone(), "NULL");
    let many = takes(&mut worker, TAKES, |number| enqueue_in(ONE, of(number), "NULL"));
    add(report, &format!("workers: take 1 of {MANY} handlers that it offers, with tasks of each"), many);
    while let claims = worker.take(BATCH)
        && !claims.is_empty()
    {
        worker.finish(&claims);
    }
}

/// What a take costs a worker that may work in ten of very many tenants which all have work.
pub fn beside_tenants(server: &Server, options: &Options, report: &mut Report) {
    const MINE: i64 = 10;
    prepare(server);
    server.run("CREATE ROLE full_ones LOGIN");
    tenants::attach_all(server, "full", options.foreign_tenants, |_| "full_ones".to_owned());
    let mut owner = server.client("postgres");
    for number in 1..=options.foreign_tenants {
        server::run(&mut owner, &format!("SELECT tq_async('{DONE}', tenant => 'full{number}')"));
        if number <= MINE {
            server::run(&mut owner, &format!("SELECT tq_grant('{WORKER}', '{{work}}', tenant => 'full{number}')"));
        }
    }
    let mut worker = Worker::of(server, DONE);
    let began = Instant::now();
    let claims = worker.take(1);
    worker.finish(&claims);
    let name = format!("workers: take 1, may work in {MINE} of {} tenants with work", options.foreign_tenants);
    report.add(format!("{name}: the session's first"), ms(began), "ms");
    let some = takes(&mut worker, TAKES, |number| {
        let tenant = number as i64 % MINE + 1;
        server::run(&mut owner, &format!("SELECT tq_async('{DONE}', tenant => 'full{tenant}')"));
    });
    add(report, &name, some);
}

/// What so many waiting workers cost while nothing is to be done.
pub fn waiting(server: &Server, options: &Options, report: &mut Report) {
    prepare(server);
    server.run(&format!("CALL tq_grant_all('{WORKER}', '{{work}}')"));
    let waiters: Vec<_> = (0..options.waiting_workers)
        .map(|_| {
            let mut client = server.client(WORKER);
            std::thread::spawn(move || client.batch_execute(&format!("CALL tq_await(NULL, handlers => '{{{DONE}}}')")))
        })
        .collect();
    wait_for_none("workers to wait", Duration::from_millis(100), || {
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'worker' AND query LIKE 'CALL%' AND state = 'active'";
        server.number(&format!("SELECT {} - ({waiting})", waiters.len()))
    });
    let tenants = server.number("SELECT count(*) FROM public.tq_tenants");
    let used = tenants::idle_share(server);
    report.add(format!("idle CPU, {} workers wait, {tenants:.0} tenants, % of one core", waiters.len()), used, "%");
    server.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'worker'");
    for waiter in waiters {
        waiter.join().expect("a waiter").expect_err("its session was ended");
    }
}
