//! Drains: tasks are queued while everything is paused, then it resumes and we wait until the queue is empty.

use std::time::Duration;

use crate::Options;
use crate::report::Report;
use crate::server::{self, Server, wait_for_none, wait_patiently};
use crate::tenants::{MANY, ONE};

/// Tasks a tenant where every tenant has a role of its own.
const TASKS_OF_A_ROLE: i64 = 20;

pub fn one_tenant(server: &Server, options: &Options, report: &mut Report) {
    let (rate, wal) = drain(server, ONE, options.tasks, || {
        enqueue_one(server, options.tasks)
    });
    report.add("drain, one tenant", rate, "tasks/s");
    report.add("drain, one tenant: WAL", wal, "bytes/task");
}

pub fn many_tenants(server: &Server, options: &Options, report: &mut Report) {
    let each = (options.tasks / MANY).max(20);
    let (rate, wal) = drain(server, "many%", each * MANY, || {
        enqueue_many(server, "many", each)
    });
    report.add(
        format!("drain, {MANY} tenants of one role, {each} tasks each"),
        rate,
        "tasks/s",
    );
    report.add(
        format!("drain, {MANY} tenants of one role: WAL"),
        wal,
        "bytes/task",
    );
    if each != TASKS_OF_A_ROLE {
        let total = TASKS_OF_A_ROLE * MANY;
        let (rate, _) = drain(server, "many%", total, || {
            enqueue_many(server, "many", TASKS_OF_A_ROLE)
        });
        report.add(
            format!("drain, {MANY} tenants of one role, {TASKS_OF_A_ROLE} tasks each"),
            rate,
            "tasks/s",
        );
    }
}

pub fn many_roles(server: &Server, report: &mut Report) {
    let total = TASKS_OF_A_ROLE * MANY;
    let (rate, wal) = drain(server, "apart%", total, || {
        enqueue_many(server, "apart", TASKS_OF_A_ROLE)
    });
    report.add(
        format!("drain, {MANY} tenants of {MANY} roles, {TASKS_OF_A_ROLE} tasks each"),
        rate,
        "tasks/s",
    );
    report.add(
        format!("drain, {MANY} tenants of {MANY} roles: WAL"),
        wal,
        "bytes/task",
    );
}

/// SQL statements that a task costs, in a smaller drain, because counting them isn't free.
pub fn statements(server: &Server, report: &mut Report) {
    const TASKS: i64 = 10_000;
    let track = |what: &str| {
        server.run(&format!(
            "ALTER SYSTEM SET pg_stat_statements.track = '{what}'"
        ));
        server.run("SELECT pg_reload_conf()");
        wait_for_none("reload", Duration::from_millis(10), || {
            server.number(&format!(
                "SELECT (current_setting('pg_stat_statements.track') <> '{what}')::int"
            ))
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
    report.add(
        "statements a task, pick to result (the handler's own not counted)",
        calls / TASKS as f64,
        "",
    );
}

fn enqueue_one(server: &Server, tasks: i64) {
    let mut client = server.client(ONE);
    server::run(
        &mut client,
        &format!("SELECT count(tq_async('bench_noop')) FROM generate_series(1, {tasks})"),
    );
}

/// A transaction a tenant.
fn enqueue_many(server: &Server, name: &str, each: i64) {
    let mut client = server.client("postgres");
    for number in 1..=MANY {
        server::run(
            &mut client,
            &format!(
                "SELECT count(tq_async('bench_noop', tenant => '{name}{number}')) FROM generate_series(1, {each})"
            ),
        );
    }
}

/// Tasks a second and bytes of WAL a task.
fn drain(server: &Server, tenants: &str, tasks: i64, enqueue: impl FnOnce()) -> (f64, f64) {
    drain_and(server, tenants, tasks, enqueue, || {}, || {})
}

fn drain_and(
    server: &Server,
    tenants: &str,
    tasks: i64,
    enqueue: impl FnOnce(),
    before: impl FnOnce(),
    after: impl FnOnce(),
) -> (f64, f64) {
    server.run("SELECT tq_pause_all()");
    server.settle();
    enqueue();
    let mut client = server.client("postgres");
    let queued = left(&mut client, tenants);
    assert!(queued == tasks as f64, "{queued} tasks queued, not {tasks}");
    before();

    let wal = server.wal_position();
    let began = server::number(
        &mut client,
        "SELECT extract(epoch FROM clock_timestamp()) FROM tq_resume_all()",
    );
    // Whether anything is left is all that is cheap to ask: slowness is told from a standstill by a rate below any.
    let patience = Duration::from_secs(60 + tasks as u64 / 200);
    wait_patiently("drains", Duration::from_millis(20), patience, || {
        server::number(
            &mut client,
            &format!("SELECT public.bench_any_left('{tenants}')"),
        )
    });
    // Looking may come late; the results say when the last one was written.
    let seconds = server::number(
        &mut client,
        &format!("SELECT public.bench_last('{tenants}')"),
    ) - began;
    let written = server.wal_position() - wal;
    after();
    (tasks as f64 / seconds, written / tasks as f64)
}

fn left(client: &mut postgres::Client, tenants: &str) -> f64 {
    server::number(client, &format!("SELECT public.bench_left('{tenants}')"))
}
