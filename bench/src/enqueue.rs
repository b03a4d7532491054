//! Enqueuing: what a caller waits for. Everything is paused, so that running tasks doesn't take part.

use std::io::Write;
use std::time::{Duration, Instant};

use crate::Options;
use crate::report::Report;
use crate::server::{self, Server, wait_for_none};
use crate::tenants::ONE;

const CLIENTS: usize = 4;

/// A call a commit, by pgbench.
pub fn one_a_commit(server: &Server, options: &Options, report: &mut Report) {
    server.run("SELECT tq_pause_all()");
    server.run(
        "CREATE TABLE one.bare (id uuid PRIMARY KEY, handler text, args jsonb, run_at timestamptz DEFAULT now());
         ALTER TABLE one.bare OWNER TO one",
    );
    // The second round shows what the disk's flushes leave of it.
    for (commit, suffix) in [("on", ""), ("off", ", synchronous_commit off")] {
        for (name, sql) in [
            ("tq_async", "SELECT tq_async('bench_noop')"),
            ("a bare INSERT", "INSERT INTO one.bare (id, handler) VALUES (gen_random_uuid(), 'bench_noop')"),
        ] {
            let rate = pgbench(server, sql, commit, options.seconds);
            report.add(format!("enqueue, {name}, one a commit, {CLIENTS} clients{suffix}"), rate, "tasks/s");
        }
    }
    server.run("DROP TABLE one.bare");
    run_all(server);
}

fn pgbench(server: &Server, sql: &str, commit: &str, seconds: u64) -> f64 {
    let path = std::env::temp_dir().join(format!("bench-{}.sql", std::process::id()));
    writeln!(std::fs::File::create(&path).expect("a script"), "{sql};").expect("a script");
    let output = server
        .program("pgbench", ONE)
        .env("PGOPTIONS", format!("-c synchronous_commit={commit}"))
        .args(["-n", "-M", "prepared", "-c", &CLIENTS.to_string(), "-j", "2", "-T", &seconds.to_string(), "-f"])
        .arg(&path)
        .output()
        .expect("pgbench");
    let _ = std::fs::remove_file(&path);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "pgbench: {text}{}", String::from_utf8_lossy(&output.stderr));
    (text.lines().find_map(|line| line.strip_prefix("tps = ")))
        .and_then(|rest| rest.split(' ').next()?.parse().ok())
        .unwrap_or_else(|| panic!("pgbench without a result: {text}"))
}

/// Many in one statement.
pub fn bulk(server: &Server, options: &Options, report: &mut Report) {
    let tasks = options.tasks;
    server.run("SELECT tq_pause_all()");
    server.run(
        "CREATE TABLE one.bare (id uuid PRIMARY KEY, handler text, args jsonb, run_at timestamptz DEFAULT now());
         ALTER TABLE one.bare OWNER TO one",
    );
    let many = "SELECT count(*) FROM tq_async_many((
                    SELECT jsonb_agg(jsonb_build_object('handler', 'bench_noop')) FROM generate_series(1, 10000)))";
    for (name, sql, times) in [
        ("SELECT tq_async(…) FROM …", format!("SELECT count(tq_async('bench_noop')) FROM generate_series(1, {tasks})"), 1),
        ("tq_async_many of 10,000", many.to_owned(), (tasks / 10_000).max(1)),
        (
            "a bare INSERT … SELECT",
            format!("INSERT INTO one.bare (id, handler) SELECT gen_random_uuid(), 'bench_noop' FROM generate_series(1, {tasks})"),
            1,
        ),
    ] {
        let count = if times == 1 && !name.contains("10,000") { tasks } else { times * 10_000 };
        server.settle();
        let mut client = server.client(ONE);
        let began = Instant::now();
        for _ in 0..times {
            server::run(&mut client, &sql);
        }
        report.add(format!("enqueue in bulk, {name}"), count as f64 / began.elapsed().as_secs_f64(), "tasks/s");
    }
    server.run("DROP TABLE one.bare");
    run_all(server);
}

/// What was enqueued has been measured: off with it.
fn run_all(server: &Server) {
    server.run("SELECT tq_resume_all()");
    wait_for_none("tasks", Duration::from_millis(100), || server.number("SELECT count(*) FROM one.tq_task"));
}
