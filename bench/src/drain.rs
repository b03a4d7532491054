//! Drains: tasks are queued while everything is paused, then it resumes and we wait until the queue is empty.

use std::time::Duration;

use crate::Options;
use crate::report::Report;
use crate::server::{self, Server, wait_for_none, wait_patiently};
use crate::tenants::{MANY, ONE, attach_all};

/// Tasks a tenant where every tenant has a role of its own.
const TASKS_OF_A_ROLE: i64 = 20;

pub fn one_tenant(server: &Server, options: &Options, report: &mut Report) {
    drain(server, ONE, options.tasks, || enqueue_one(server, options.tasks)).add_to(report, "one tenant");
}

pub fn many_tenants(server: &Server, options: &Options, report: &mut Report) {
    let mut each = (options.tasks / MANY).max(TASKS_OF_A_ROLE);
    loop {
        drain(server, "many%", each * MANY, || enqueue_many(server, "many", MANY, each))
            .add_to(report, &format!("{MANY} tenants of one role × {each}"));
        if each == TASKS_OF_A_ROLE {
            return;
        }
        each = TASKS_OF_A_ROLE;
    }
}

pub fn many_roles(server: &Server, report: &mut Report) {
    drain(server, "apart%", TASKS_OF_A_ROLE * MANY, || enqueue_many(server, "apart", MANY, TASKS_OF_A_ROLE))
        .add_to(report, &format!("{MANY} tenants of {MANY} roles × {TASKS_OF_A_ROLE}"));
}

/// Many tenants of one role that all have work, again and again: with executors whose memory is bounded, and with ones that
/// keep all they have read, in turn.
pub fn active_tenants(server: &Server, options: &Options, report: &mut Report) {
    const EACH: i64 = 4;
    server.run("CREATE ROLE active LOGIN");
    attach_all(server, "active", options.active_tenants, |_| "active".to_owned());
    // They stay from one drain to the next, though enqueuing for all takes its time.
    server.run("ALTER SYSTEM SET tenant_q.executor_idle = '1h'");
    for round in 0..=options.rounds {
        for bound in ["default", "0"] {
            server.run(&format!("ALTER SYSTEM SET tenant_q.executor_memory = {bound}"));
            server.run("SELECT pg_reload_conf()");
            let tasks = options.active_tenants * EACH;
            let drain = drain(server, "active%", tasks, || enqueue_many(server, "active", options.active_tenants, EACH));
            let largest = executors_memory(server);
            // In the first round all is new to everybody.
            if round > 0 {
                let name = format!("{} active tenants × {EACH}, executor_memory {bound}", options.active_tenants);
                report.add(format!("drain, {name}"), drain.rate, "tasks/s");
                report.add(format!("largest executor, {name}"), largest, "MB");
            }
        }
    }
    server.run("ALTER SYSTEM RESET tenant_q.executor_memory");
    server.run("ALTER SYSTEM RESET tenant_q.executor_idle");
    server.run("SELECT pg_reload_conf()");
}

/// The private memory of the executor that has most, in MB.
fn executors_memory(server: &Server) -> f64 {
    let pids =
        server.value("SELECT coalesce(string_agg(pid::text, ' '), '') FROM pg_stat_activity WHERE backend_type = 'tenant_q executor'");
    let kilobytes = |pid: &str| -> Option<f64> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?.trim().trim_end_matches(" kB").parse().ok()
    };
    pids.split_whitespace().filter_map(kilobytes).fold(0.0, f64::max) / 1024.0
}

/// SQL statements that a task costs, in a smaller drain, because counting them isn't free.
pub fn statements(server: &Server, report: &mut Report) {
    const TASKS: i64 = 10_000;
    let track = |what: &str| {
        server.run(&format!("ALTER SYSTEM SET pg_stat_statements.track = '{what}'"));
        server.run("SELECT pg_reload_conf()");
        wait_for_none("reload", Duration::from_millis(10), || {
            server.number(&format!("SELECT (current_setting('pg_stat_statements.track') <> '{what}')::int"))
        });
    };
    track("all");
    let mut calls = 0.0;
    drain_and(
        server,
        ONE,
        TASKS,
        || enqueue_one(server, TASKS),
        || server.run("SELECT pg_stat_statements_reset()"),
        || {
            // All of the server's, but those that the benchmark itself sends.
            calls = server.number(
                "SELECT coalesce(sum(calls), 0) FROM pg_stat_statements
                 WHERE NOT (userid = 10 AND query ~
                     'bench_|tq_task|tq_result|pg_stat_statements|wal_insert|nspname|count\\(|tq_resume')",
            );
        },
    );
    track("none");
    report.add("statements a task, pick to result (the handler's own not counted)", calls / TASKS as f64, "");
}

fn enqueue_one(server: &Server, tasks: i64) {
    let mut client = server.client(ONE);
    server::run(&mut client, &format!("SELECT count(tq_async('bench_noop')) FROM generate_series(1, {tasks})"));
}

/// A transaction a tenant.
fn enqueue_many(server: &Server, name: &str, tenants: i64, each: i64) {
    let mut client = server.client("postgres");
    for number in 1..=tenants {
        server::run(
            &mut client,
            &format!("SELECT count(tq_async('bench_noop', tenant => '{name}{number}')) FROM generate_series(1, {each})"),
        );
    }
}

/// What a drain was like.
struct Drain {
    /// Tasks a second from tq_resume_all to the last result: the figure that counts.
    rate: f64,
    /// The same from the first result on: without what resuming costs.
    once_started: f64,
    /// Bytes of WAL a task.
    wal: f64,
}

impl Drain {
    fn add_to(&self, report: &mut Report, name: &str) {
        report.add(format!("drain, {name}"), self.rate, "tasks/s");
        report.add(format!("drain, {name}: once started"), self.once_started, "tasks/s");
        report.add(format!("drain, {name}: WAL"), self.wal, "bytes/task");
    }
}

fn drain(server: &Server, tenants: &str, tasks: i64, enqueue: impl FnOnce()) -> Drain {
    drain_and(server, tenants, tasks, enqueue, || {}, || {})
}

fn drain_and(server: &Server, tenants: &str, tasks: i64, enqueue: impl FnOnce(), before: impl FnOnce(), after: impl FnOnce()) -> Drain {
    server.run("SELECT tq_pause_all()");
    server.settle();
    enqueue();
    let mut client = server.client("postgres");
    let queued = left(&mut client, tenants);
    assert!(queued == tasks as f64, "{queued} tasks queued, not {tasks}");
    before();

    let wal = server.wal_position();
    let began = server::number(&mut client, "SELECT extract(epoch FROM clock_timestamp()) FROM tq_resume_all()");
    // Whether anything is left is all that is cheap to ask: slowness is told from a standstill by a rate below any.
    let patience = Duration::from_secs(60 + tasks as u64 / 200);
    wait_patiently("drains", Duration::from_millis(20), patience, || {
        server::number(&mut client, &format!("SELECT public.bench_any_left('{tenants}')"))
    });
    // Looking may come late; the results say when they were written.
    let mut after_resume = |which| {
        let sql = format!("SELECT {which} FROM public.bench_span('{tenants}', {began})");
        server::number(&mut client, &sql) - began
    };
    let (first, seconds) = (after_resume("first"), after_resume("last"));
    println!("   (results from {first:.3} s to {seconds:.3} s after tq_resume_all)");
    let written = server.wal_position() - wal;
    after();
    Drain { rate: tasks as f64 / seconds, once_started: tasks as f64 / (seconds - first).max(0.001), wal: written / tasks as f64 }
}

fn left(client: &mut postgres::Client, tenants: &str) -> f64 {
    server::number(client, &format!("SELECT public.bench_left('{tenants}')"))
}
