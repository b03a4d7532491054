//! What a next fire time may cost, and that a rule that never fires is told at once. `--example cost` shows figures.

use std::hint::black_box;
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use tenant_q_pure::schedule::rule::Rule;

use super::{Schedule, instant};

/// The promise for the extension's build. This one is hardly optimised, and a median isn't moved by a busy machine.
const MEDIAN_MAX: Duration = Duration::from_micros(5);
const QUESTIONS: usize = 2_001;

#[test]
fn a_next_fire_time_takes_microseconds() {
    let rules = [
        "*/5 * * * *",
        "30 2 * * *",
        "0 9 * * mon-fri",
        "0 0 13 * fri",
        "0 0 LW * *",
        "30 14 29 2 *",
        "* * * * * *",
        "10 seconds",
        "every 5 to 10 minutes",
        "every hour at :30",
        "daily",
        "monthly",
        "yearly",
        "monday at 10:30",
    ];
    for rule in rules {
        let schedule = Schedule::new(rule, "Europe/Berlin", "2023-01-31 02:30");
        let mut costs: Vec<Duration> = (0..QUESTIONS)
            .map(|n| {
                // Some years, in steps that meet every hour, weekday and season.
                let after = schedule.anchor + TimeDelta::seconds(n as i64 * 128_657);
                let began = Instant::now();
                black_box(schedule.plan().next_after(black_box(after)));
                began.elapsed()
            })
            .collect();
        costs.sort_unstable();
        assert!(costs[QUESTIONS / 2] <= MEDIAN_MAX, "{rule}: {:?}", costs[QUESTIONS / 2]);
    }
}

#[test]
fn rules_that_never_fire_are_refused_at_once() {
    for rule in ["0 0 31 4 *", "0 0 30 2 *", "0 0 31 2,4,6,9,11 *", "* * * * * 31 2 *", "0 0 L-30 2 *"] {
        let mut costs: Vec<Duration> = (0..101)
            .map(|_| {
                let began = Instant::now();
                assert!(black_box(Rule::parse(black_box(rule), true)).is_err(), "{rule}");
                began.elapsed()
            })
            .collect();
        costs.sort_unstable();
        assert!(costs[50] < Duration::from_micros(200), "{rule}: {:?}", costs[50]);
    }
    // And one that fires once in decades isn't looked for day by day.
    let leap_monday = Schedule::new("once", "UTC", "2000-01-01 00:00").day_and("0 0 29 2 mon");
    let began = Instant::now();
    for _ in 0..100 {
        assert_eq!(black_box(leap_monday.plan().next_after(instant("2072-02-29 00:00"))), Some(instant("2112-02-29 00:00")));
    }
    assert!(began.elapsed() / 100 < Duration::from_millis(2), "{:?}", began.elapsed() / 100);
}
