//! 5,000 schedules of 1,000 tenants, due at the same instant; and many that aren't.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::Options;
use crate::latency;
use crate::report::Report;
use crate::server::{self, Server, wait_for_none};
use crate::tenants::{self, MANY};

const PER_TENANT: i64 = 5;
/// From the instant on; the schedules are over in less.
const BESIDE_SECONDS: u64 = 5;

pub fn due_at_once(server: &Server, report: &mut Report) {
    server.run("SELECT tq_resume_all(); TRUNCATE public.bench_fired");
    // Cron knows minutes: the first one that leaves time to make them all.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_secs();
    let due = (now / 60 + 1) * 60 + if now % 60 > 20 { 60 } else { 0 };
    let rule = server.value(&format!("SELECT to_char(to_timestamp({due}) AT TIME ZONE 'UTC', 'FMMI FMHH24 FMDD FMMM \"*\"')"));
    let mut client = server.client("postgres");
    for number in 1..=MANY {
        server::run(
            &mut client,
            &format!(
                "SELECT tq_schedule('due ' || n, 'bench_tick', '{rule}', tz => 'UTC', tenant => 'many{number}') \
                 FROM generate_series(1, {PER_TENANT}) AS n"
            ),
        );
    }
    let made = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_secs_f64();
    assert!(made < due as f64, "making the schedules took longer than a minute");
    std::thread::sleep(Duration::from_secs_f64(due as f64 - made));

    // Another tenant's tasks meanwhile.
    let samples = latency::measure(server, BESIDE_SECONDS, latency::PER_SECOND);
    let expected = MANY * PER_TENANT;
    wait_for_none("schedules to run", Duration::from_millis(100), || {
        server.number(&format!("SELECT {expected} - count(*) FROM public.bench_fired"))
    });
    latency::add(report, &samples, "latency beside them");
    for (label, percentile) in [("half", 0.5), ("the last", 1.0)] {
        let seconds = server.number(&format!(
            "SELECT percentile_disc({percentile}) WITHIN GROUP (ORDER BY extract(epoch FROM at)) - {due} FROM public.bench_fired"
        ));
        report.add(format!("{expected} schedules of {MANY} tenants due at once: {label} ran after"), seconds, "s");
    }
    for number in 1..=MANY {
        server::run(
            &mut client,
            &format!("SELECT tq_unschedule('due ' || n, tenant => 'many{number}') FROM generate_series(1, {PER_TENANT}) AS n"),
        );
    }
}

/// What schedules cost while none is due.
pub fn not_due(server: &Server, options: &Options, report: &mut Report) {
    let each = (options.waiting_schedules + MANY - 1) / MANY;
    let mut client = server.client("postgres");
    for number in 1..=MANY {
        server::run(
            &mut client,
            &format!(
                "SELECT count(tq_schedule('later ' || n, 'bench_tick', '0 0 1 1 *', tz => 'UTC', tenant => 'many{number}')) \
                 FROM generate_series(1, {each}) AS n"
            ),
        );
    }
    let used = tenants::idle_share(server);
    report.add(format!("idle CPU, {} schedules not due, % of one core", each * MANY), used, "%");
}
