//! Enqueue → start of the handler, at a load that leaves the machine idle; and beside a tenant that floods the queue.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::Options;
use crate::report::Report;
use crate::server::{self, Server, wait_for_none};
use crate::tenants::ONE;

pub const PER_SECOND: u64 = 20;

pub fn light_load(server: &Server, options: &Options, report: &mut Report) {
    server.run("SELECT tq_resume_all()");
    // The first task starts an executor: that is another question.
    measure(server, 1, 50);
    let samples = measure(server, options.seconds, PER_SECOND);
    add(report, &samples, "latency enqueue → start, 20/s");
}

/// The flood has to last: nothing drains faster than this.
const DRAIN_PER_SECOND: i64 = 100_000;

/// Another tenant's single tasks while one tenant's queue is long: of another role, and of the same.
pub fn beside_a_flood(server: &Server, options: &Options, report: &mut Report) {
    let seconds = ((options.noisy_tasks / DRAIN_PER_SECOND) as u64).clamp(1, options.seconds);
    for (role, who) in [("flood", "another role"), (ONE, "the same role")] {
        server.run(&format!("CREATE SCHEMA flood AUTHORIZATION {role}; SELECT tq_attach('flood')"));
        server.run("SELECT tq_pause('flood')");
        server.run(&format!("SELECT count(tq_async('bench_noop', tenant => 'flood')) FROM generate_series(1, {})", options.noisy_tasks));
        server.run("SELECT tq_resume('flood')");
        let samples = measure(server, seconds, PER_SECOND);
        let left = server.number("SELECT count(*) FROM flood.tq_task");
        println!("   ({left:.0} of the other tenant's {} tasks are still queued)", options.noisy_tasks);
        assert!(left > 0.0, "the flood was over before the measurement: --noisy with more");
        add(report, &samples, &format!("latency beside {} tasks of a tenant of {who}", options.noisy_tasks));
        server.run("SELECT tq_detach('flood', drop_data => true); DROP SCHEMA flood CASCADE");
    }
}

/// Milliseconds, of every task: from the call, and from when its commit had returned to the caller.
pub struct Samples {
    from_call: Vec<f64>,
    from_commit: Vec<f64>,
}

pub fn measure(server: &Server, seconds: u64, per_second: u64) -> Samples {
    server.run("TRUNCATE public.bench_started");
    let count = seconds * per_second;
    let pause = Duration::from_secs(1) / per_second as u32;
    let mut client = server.client(ONE);
    let enqueue = client.prepare(ENQUEUE).unwrap_or_else(|error| panic!("{}", server::text_of(&error)));
    let mut committed = Vec::with_capacity(count as usize);
    let began = Instant::now();
    for number in 0..count {
        // Not on the beat, so as not to fall in step with anything: up to a third of the pause early or late.
        let shift = pause.mul_f64(0.33 * ((number * 7919 % 101) as f64 / 50.0 - 1.0) + 1.0);
        let due = began + pause * number as u32 + shift;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let row = client.query_one(&enqueue, &[]).unwrap_or_else(|error| panic!("{}", server::text_of(&error)));
        let returned = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_secs_f64();
        committed.push((row.get::<_, f64>(0), returned));
    }
    wait_for_none("tasks to start", Duration::from_millis(20), || {
        server.number(&format!("SELECT {count} - count(*) FROM public.bench_started"))
    });
    let rows =
        server.client("postgres").query("SELECT started FROM public.bench_started ORDER BY sent", &[]).expect("the times of the starts");
    let mut samples = Samples { from_call: Vec::new(), from_commit: Vec::new() };
    for (row, (sent, returned)) in rows.iter().zip(committed) {
        let started: f64 = row.get(0);
        samples.from_call.push((started - sent) * 1000.0);
        // A start before the caller has its answer counts as none.
        samples.from_commit.push(((started - returned) * 1000.0).max(0.0));
    }
    samples
}

const ENQUEUE: &str = "SELECT tq.sent, tq_async('bench_start', to_jsonb(tq.sent))::text \
                       FROM (SELECT extract(epoch FROM clock_timestamp())::float8 AS sent OFFSET 0) AS tq";

pub fn add(report: &mut Report, samples: &Samples, name: &str) {
    for (from, values) in [("call", &samples.from_call), ("commit", &samples.from_commit)] {
        let mut sorted = values.clone();
        sorted.sort_by(f64::total_cmp);
        for (percent, label) in [(50, "p50"), (95, "p95"), (99, "p99"), (100, "max")] {
            let at = (sorted.len() * percent / 100).min(sorted.len() - 1);
            report.add(format!("{name}, from the {from}, {label}"), sorted[at], "ms");
        }
    }
}
