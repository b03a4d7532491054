//! What one next fire time costs: the median over 10,000 questions, for each kind of rule.
//!
//! `cargo run --release --manifest-path tests/pure/Cargo.toml --example cost`

use std::hint::black_box;
use std::time::Instant;

use chrono::{TimeDelta, TimeZone, Utc};
use tenant_q_pure::schedule::next::Plan;
use tenant_q_pure::schedule::rule::{MonthEnd, Rule};

const QUESTIONS: i32 = 10_000;

fn main() {
    let anchor = Utc.with_ymd_and_hms(2023, 1, 31, 2, 30, 0).single().expect("a time");
    println!("{:<26} {:>9} {:>9} {:>9}", "rule", "median ns", "p99 ns", "parse ns");
    for text in [
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
        "2030-01-01 10:30",
        "sunset at 52.5,13.4",
        "sunrise at 69.6,18.9",
    ] {
        let rule = Rule::parse(text, false).expect("a valid rule");
        let plan = Plan {
            rule: &rule,
            zone: chrono_tz::Europe::Berlin,
            anchor,
            start_at: None,
            until: None,
            active_hours: None,
            back_to: None,
            month_end: MonthEnd::Clamp,
            seed: 1,
        };
        let mut costs: Vec<u128> = (0..QUESTIONS)
            .map(|n| {
                // Some nine years, in steps that meet every hour, weekday and season.
                let after = anchor + TimeDelta::seconds(i64::from(n) * 28_657);
                let start = Instant::now();
                black_box(plan.next_after(black_box(after)));
                start.elapsed().as_nanos()
            })
            .collect();
        costs.sort_unstable();
        let start = Instant::now();
        for _ in 0..1_000 {
            black_box(Rule::parse(black_box(text), false)).ok();
        }
        let parse = start.elapsed().as_nanos() / 1_000;
        let at = |share: usize| costs[costs.len() * share / 100];
        println!("{text:<26} {:>9} {:>9} {parse:>9}", at(50), at(99));
    }
}
