//! Random cron expressions against croner, an independent implementation.
//!
//! Where the two differ on purpose no expression is made up: croner has no ranges around the end of a field
//! and no `5/10`, takes `*/2` in a day field for restricted where cron doesn't, and has rules of its own
//! for changes of the clock (hence UTC).

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;

use super::{Schedule, instant};

fn field(min: u32, max: u32) -> impl Strategy<Value = String> {
    let range = (min..=max, min..=max).prop_map(|(a, b)| (a.min(b), a.max(b)));
    prop_oneof![
        3 => Just("*".to_owned()),
        1 => (2..=(max - min) / 2 + 1).prop_map(|step| format!("*/{step}")),
        3 => prop::collection::vec(min..=max, 1..4).prop_map(|values| values.iter().map(u32::to_string).collect::<Vec<_>>().join(",")),
        2 => range.clone().prop_map(|(low, high)| format!("{low}-{high}")),
        1 => (range, 1u32..5).prop_map(|((low, high), step)| format!("{low}-{high}/{step}")),
    ]
}

fn day_of_month() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => field(1, 31).prop_filter("see above", |field| !field.starts_with("*/")),
        1 => prop::sample::select(vec!["L", "LW", "15W", "1W", "31W", "30W,2"]).prop_map(str::to_owned),
    ]
}

fn day_of_week() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => field(0, 7).prop_filter("see above", |field| !field.starts_with("*/")),
        1 => prop::sample::select(vec!["MON", "tue-fri", "5L", "FRI#2", "1#5", "SUN,3#1", "7L"]).prop_map(str::to_owned),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn croner_agrees(
        seconds in prop::option::weighted(0.3, field(0, 59)),
        (minutes, hours, months) in (field(0, 59), field(0, 23), field(1, 12)),
        (dates, weekdays) in (day_of_month(), day_of_week()),
        after in 0i64..2_500_000_000,
        day_and: bool,
    ) {
        let text = format!("{} {minutes} {hours} {dates} {months} {weekdays}", seconds.unwrap_or_default());
        let rule = tenant_q_pure::schedule::rule::Rule::parse(&text, day_and);
        let after = DateTime::<Utc>::from_timestamp(after, 0).expect("a time");
        let croner = croner::parser::CronParser::builder().dom_and_dow(day_and).build().parse(text.trim());
        let croner = croner.expect("croner parses it");
        match rule {
            Err(error) => {
                prop_assert!(error.message.contains("never matches"), "{}: {}", text, error);
                prop_assert!(croner.find_next_occurrence(&after, false).is_err(), "{}", text);
            }
            Ok(rule) => {
                let schedule = Schedule { rule, ..Schedule::new("once", "UTC", "2000-01-01 00:00") };
                let mut time = after;
                for found in schedule.fire_times(after, 5) {
                    // croner gives up after some years; so does this comparison.
                    let Ok(expected) = croner.find_next_occurrence(&time, false) else { break };
                    prop_assert_eq!(found, expected, "{} after {}", text, time);
                    time = found;
                }
            }
        }
    }
}

#[test]
fn a_leap_day_on_a_monday() {
    let schedule = Schedule::new("once", "UTC", "2000-01-01 00:00").day_and("0 0 29 2 mon");
    let times = schedule.fire_times(instant("2025-01-01 00:00"), 2);
    assert_eq!(times, [instant("2044-02-29 00:00"), instant("2072-02-29 00:00")]);
    assert!(times[1] - times[0] > TimeDelta::days(27 * 365));
}
