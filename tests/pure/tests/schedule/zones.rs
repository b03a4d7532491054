//! Every zone there is, around its own clock changes: random rules against counting minutes.

use std::collections::BTreeSet;

use chrono::{DateTime, NaiveDateTime, Offset, TimeDelta, TimeZone, Utc};
use chrono_tz::{TZ_VARIANTS, Tz};
use tenant_q_pure::schedule::rule::Rule;

use super::Schedule;
use super::brute_force::{Cron, Field, WINDOW_DAYS, first_elapsed, first_fixed};
use super::generator::{Random, seed};

const CHANGES_A_ZONE: usize = 4;
const RULES_A_CHANGE: usize = 3;
const DAY: i64 = 86_400;

/// From 1975, when the last offset with seconds in it was gone, to 2060.
const FIRST_DAY: i64 = 5 * 365;
const LAST_DAY: i64 = 90 * 365;

fn offset(zone: Tz, instant: i64) -> i32 {
    let instant = DateTime::from_timestamp(instant, 0).expect("an instant");
    zone.offset_from_utc_datetime(&instant.naive_utc()).fix().local_minus_utc()
}

/// The instants at which a zone's clock is changed, to the minute.
fn changes(zone: Tz) -> Vec<i64> {
    let mut changes = Vec::new();
    let mut before = offset(zone, FIRST_DAY * DAY);
    for day in FIRST_DAY + 1..LAST_DAY {
        let after = offset(zone, day * DAY);
        if after != before {
            let minutes = (day - 1) * 1440..day * 1440 + 1;
            changes.extend(minutes.map(|minute| minute * 60).find(|instant| offset(zone, *instant) != before));
            before = after;
        }
    }
    changes
}

fn field(random: &mut Random, min: u32, max: u32) -> Field {
    let size = (max - min + 1) as usize;
    let every = |step: usize| (min..=max).step_by(step).collect::<Vec<_>>();
    match random.below(4) {
        0 => Field { text: "*".to_owned(), values: every(1), starred: true },
        1 => {
            let step = 1 + random.below(size / 2);
            Field { text: format!("*/{step}"), values: every(step), starred: true }
        }
        _ => {
            let values: BTreeSet<u32> = (0..1 + random.below(size / 2)).map(|_| min + random.below(size) as u32).collect();
            let text = values.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
            Field { text, values: values.into_iter().collect(), starred: false }
        }
    }
}

fn cron(random: &mut Random) -> Cron {
    let every = |min, max| Field { text: "*".to_owned(), values: (min..=max).collect(), starred: true };
    let weekdays = if random.one_in(4) { field(random, 0, 6) } else { every(0, 6) };
    let days = if random.one_in(4) { field(random, 1, 31) } else { every(1, 31) };
    Cron { minutes: field(random, 0, 59), hours: field(random, 0, 23), days, months: every(1, 12), weekdays }
}

#[test]
fn every_zone_fires_when_counting_minutes_does() {
    let mut random = Random::new(seed());
    let mut compared = 0;
    for zone in TZ_VARIANTS {
        let changes = changes(zone);
        for _ in 0..CHANGES_A_ZONE {
            let near = match changes.len() {
                0 => (FIRST_DAY + random.below((LAST_DAY - FIRST_DAY) as usize) as i64) * DAY,
                n => changes[random.below(n)],
            };
            for _ in 0..RULES_A_CHANGE {
                let cron = cron(&mut random);
                let day_and = random.one_in(4);
                let reach = if random.one_in(2) { 3 * 3_600 } else { 36 * 3_600 };
                let after = near - reach + random.below(reach as usize * 4 / 3) as i64;
                compared += compare(&cron, day_and, zone, after);
            }
        }
    }
    assert!(compared > TZ_VARIANTS.len() * CHANGES_A_ZONE * RULES_A_CHANGE, "only {compared} fire times");
}

/// The next three fire times; returns how many there were to compare.
fn compare(cron: &Cron, day_and: bool, zone: Tz, after: i64) -> usize {
    let rule = Rule::parse(&cron.text(), day_and).unwrap_or_else(|error| panic!("{}: {error}", cron.text()));
    let schedule = Schedule { rule, zone, ..Schedule::new("once", "UTC", "1970-01-01 00:00") };
    let mut after = DateTime::<Utc>::from_timestamp(after, 0).expect("an instant");
    let what = format!("{} day_and={day_and} in {} after {after}", cron.text(), zone.name());
    for n in 0..3 {
        let counted = match cron.elapsed() {
            true => first_elapsed(cron, day_and, zone, after),
            false => first_fixed(cron, day_and, zone, after),
        };
        let found = schedule.plan().next_after(after);
        assert!(found.is_none_or(|found| found > after), "{what}: fire time {n} is {found:?}");
        let Some(counted) = counted else {
            assert!(found.is_none_or(|found| found > after + TimeDelta::days(WINDOW_DAYS - 2)), "{what}: fire time {n} is {found:?}");
            return n;
        };
        assert_eq!(found, Some(counted), "{what}: fire time {n}");
        after = counted;
    }
    3
}

/// Rules that aren't cron: in every zone, over its changes, each fire time once, in order, and asked from anywhere.
#[test]
fn every_zone_has_one_ascending_sequence() {
    let mut random = Random::new(seed());
    for zone in TZ_VARIANTS {
        let changes = changes(zone);
        for _ in 0..CHANGES_A_ZONE {
            let near = if changes.is_empty() { random.below(3_000_000_000) as i64 } else { changes[random.below(changes.len())] };
            let (hour, minute) = (random.below(24), random.below(60));
            // Around the time of the change on the clock, mostly.
            let wall: NaiveDateTime = DateTime::from_timestamp(near, 0).expect("an instant").with_timezone(&zone).naive_local();
            let at = match random.below(3) {
                0 => format!("{hour}:{minute:02}"),
                _ => (wall + TimeDelta::minutes(random.below(240) as i64 - 120)).format("%H:%M").to_string(),
            };
            let n = 1 + random.below(5);
            let plural = if n == 1 { "" } else { "s" };
            let rules = [
                format!("daily at {at}"),
                format!("every {n} day{plural} at {at}"),
                format!("weekdays at {at}"),
                format!("every {n} hour{plural} at :{minute:02}"),
                format!("every {n} hour{plural}"),
                format!("{}-{} {hour} * * *", random.below(30), 30 + random.below(30)),
            ];
            let mut schedule = Schedule::new(&rules[random.below(rules.len())], zone.name(), "1970-01-01 00:00");
            schedule.anchor = DateTime::from_timestamp(near - random.below(5 * DAY as usize) as i64, 0).expect("an instant");
            let times = schedule.fire_times(schedule.anchor, 40);
            assert_eq!(times.len(), 40, "{:?}", schedule.rule);
            for pair in times.windows(2) {
                let between = pair[0] + (pair[1] - pair[0]) / 2;
                assert_eq!(schedule.plan().next_after(between), Some(pair[1]), "{:?} in {zone} asked at {between}", schedule.rule);
            }
        }
    }
}
