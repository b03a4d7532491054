//! Random rules, zones and instants, compared with enumerations that are too simple to be wrong.
//!
//! The enumerations know nothing of bit sets or shortcuts: they look at every minute, on the real clock for
//! elapsed rules and on the wall clock for fixed ones. Most instants are chosen within a day or so of a
//! change of the zone's clock, because that is where mistakes live.

use std::collections::BTreeSet;

use chrono::{DateTime, Datelike, Days, NaiveDateTime, TimeDelta, TimeZone, Timelike, Utc};
use chrono_tz::{TZ_VARIANTS, Tz};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use tenant_q_pure::any_text;
use tenant_q_pure::schedule::rule::{MonthEnd, Rule};

use super::Schedule;

/// A field of a cron expression: its text and, independently of any parser, its values.
#[derive(Clone, Debug)]
pub struct Field {
    pub text: String,
    pub values: Vec<u32>,
    pub starred: bool,
}

fn field(min: u32, max: u32, star_weight: u32) -> impl Strategy<Value = Field> {
    let star = Just(Field { text: "*".to_owned(), values: (min..=max).collect(), starred: true });
    let star_step = (1..=(max - min) / 2).prop_map(move |step| Field {
        text: format!("*/{step}"),
        values: (min..=max).filter(|value| (value - min).is_multiple_of(step)).collect(),
        starred: true,
    });
    let list = prop::collection::vec(min..=max, 1..4).prop_map(|values| Field {
        text: values.iter().map(u32::to_string).collect::<Vec<_>>().join(","),
        values,
        starred: false,
    });
    let range = (min..=max, min..=max, 0usize..4).prop_map(move |(low, high, step)| {
        // From low upwards, around the end if need be.
        let size = max - min + 1;
        let distance = (high + size - low) % size;
        let values = (0..=distance).step_by(step.max(1)).map(|n| (low - min + n) % size + min);
        let text = if step == 0 { format!("{low}-{high}") } else { format!("{low}-{high}/{step}") };
        Field { text, values: values.collect(), starred: false }
    });
    prop_oneof![star_weight => star, 1 => star_step, 3 => list, 1 => range]
}

#[derive(Clone, Debug)]
pub struct Cron {
    pub minutes: Field,
    pub hours: Field,
    pub days: Field,
    pub months: Field,
    pub weekdays: Field,
}

/// Fixed rules with many times a day, so that several of them meet each gap and overlap.
fn busy_fixed_cron() -> impl Strategy<Value = Cron> {
    let every = |min, max| Field { text: "*".to_owned(), values: (min..=max).collect(), starred: true };
    (prop::collection::btree_set(0u32..60, 1..5), prop::collection::btree_set(0u32..24, 8..24)).prop_map(move |(minutes, hours)| {
        let listed = |values: BTreeSet<u32>| Field {
            text: values.iter().map(u32::to_string).collect::<Vec<_>>().join(","),
            values: values.into_iter().collect(),
            starred: false,
        };
        Cron { minutes: listed(minutes), hours: listed(hours), days: every(1, 31), months: every(1, 12), weekdays: every(0, 6) }
    })
}

fn cron() -> impl Strategy<Value = Cron> {
    (field(0, 59, 2), field(0, 23, 2), field(1, 31, 9), field(1, 12, 20), field(0, 6, 9))
        .prop_map(|(minutes, hours, days, months, weekdays)| Cron { minutes, hours, days, months, weekdays })
}

impl Cron {
    pub fn text(&self) -> String {
        let fields = [&self.minutes, &self.hours, &self.days, &self.months, &self.weekdays];
        fields.map(|field| field.text.as_str()).join(" ")
    }

    pub fn shows(&self, wall: NaiveDateTime, day_and: bool) -> bool {
        let date = self.days.values.contains(&wall.day());
        let weekday = self.weekdays.values.contains(&wall.weekday().num_days_from_sunday());
        let day = if day_and || self.days.starred || self.weekdays.starred { date && weekday } else { date || weekday };
        day && self.months.values.contains(&wall.month())
            && self.hours.values.contains(&wall.hour())
            && self.minutes.values.contains(&wall.minute())
    }

    pub fn elapsed(&self) -> bool {
        [&self.minutes, &self.hours].iter().any(|field| field.text.contains(['*', '/']))
    }
}

pub const WINDOW_DAYS: i64 = 4;

/// Every minute of the real clock.
pub fn first_elapsed(cron: &Cron, day_and: bool, zone: Tz, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let minute = after.timestamp().div_euclid(60) + 1;
    (minute..minute + WINDOW_DAYS * 1440)
        .filter_map(|minute| DateTime::from_timestamp(minute * 60, 0))
        .find(|instant| cron.shows(instant.with_timezone(&zone).naive_local(), day_and))
}

/// Every minute of the wall clock, those that don't exist included.
pub fn first_fixed(cron: &Cron, day_and: bool, zone: Tz, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let wall = after.with_timezone(&zone).naive_local().with_second(0).expect("a minute");
    (-2 * 1440..WINDOW_DAYS * 1440)
        .map(|minute| wall + TimeDelta::minutes(minute))
        .filter(|wall| cron.shows(*wall, day_and))
        .map(|wall| first_reading(zone, wall))
        .filter(|instant| *instant > after)
        .min()
}

/// The first instant at which the clock shows a time; in a gap, read with the offset from before it.
fn first_reading(zone: Tz, wall: NaiveDateTime) -> DateTime<Utc> {
    if let Some(instant) = zone.from_local_datetime(&wall).earliest() {
        return instant.to_utc();
    }
    let before = (1..)
        .map(|minutes| wall - TimeDelta::minutes(minutes))
        .find_map(|earlier| zone.from_local_datetime(&earlier).latest().map(|instant| (earlier, instant)));
    let (earlier, instant) = before.expect("the clock worked once");
    instant.to_utc() + (wall - earlier)
}

/// A zone and an instant, mostly near a change of that zone's clock.
fn zone_and_instant() -> impl Strategy<Value = (Tz, DateTime<Utc>)> {
    // Every zone, and more often those whose changes are by half an hour, two hours or a day.
    let unusual = [Tz::Australia__Lord_Howe, Tz::Antarctica__Troll, Tz::Pacific__Apia, Tz::Asia__Gaza];
    let zone = prop_oneof![
        2 => prop::sample::select(&TZ_VARIANTS[..]),
        1 => prop::sample::select(unusual.to_vec()),
    ];
    let seconds = prop_oneof![-36 * 3600i64..12 * 3600, -2 * 3600i64..2 * 3600];
    (zone, 1975i32..2040, any::<prop::sample::Index>(), seconds).prop_map(|(zone, year, chosen, seconds)| {
        let new_year = Utc.with_ymd_and_hms(year, 1, 1, 0, 0, 0).single().expect("a new year");
        let offset = |hour: i64| {
            use chrono::Offset;
            zone.offset_from_utc_datetime(&(new_year + TimeDelta::hours(hour)).naive_utc()).fix()
        };
        let changes: Vec<i64> = (1..8760).filter(|hour| offset(*hour) != offset(hour - 1)).collect();
        let hour = if changes.is_empty() { chosen.index(8760) as i64 } else { *chosen.get(&changes) };
        (zone, new_year + TimeDelta::hours(hour) + TimeDelta::seconds(seconds))
    })
}

/// Every kind of rule there is.
fn any_rule() -> impl Strategy<Value = String> {
    let clock = (0..24, 0..60).prop_map(|(hour, minute)| format!("{hour}:{minute:02}"));
    let weekday = prop::sample::select(vec!["monday", "wednesday", "sunday"]);
    let unit = prop::sample::select(vec!["seconds", "minutes", "hours", "days", "weeks", "months", "years"]);
    let word = prop::sample::select(vec![
        "O",
        "I",
        "H",
        "D",
        "W",
        "BW",
        "M",
        "BM",
        "Q",
        "Y",
        "monday",
        "weekdays",
        "@hourly",
        "@daily",
        "2023-03-26 02:30",
        "sunset at 52.5,13.4",
        "sunrise at 69.6,18.9",
        "*/7 2 * * * *",
        "0 0 L * *",
    ]);
    prop_oneof![
        cron().prop_map(|cron| cron.text()),
        word.prop_map(str::to_owned),
        (2..500, unit.clone()).prop_map(|(n, unit)| format!("every {n} {unit}")),
        (1..40, 0..40, prop::sample::select(vec!["seconds", "minutes", "hours", "days"]))
            .prop_map(|(min, more, unit)| format!("every {min} to {} {unit}", min + more)),
        (weekday, clock.clone()).prop_map(|(day, time)| format!("{day} at {time}")),
        (2..9, prop::sample::select(vec!["days", "weeks", "months"]), clock.clone())
            .prop_map(|(n, unit, time)| format!("every {n} {unit} at {time}")),
        clock.prop_map(|time| format!("every day at {time}")),
        (0..60).prop_map(|minute| format!("every hour at :{minute:02}")),
        (2..30, 0..60).prop_map(|(n, minute)| format!("every {n} hours at :{minute:02}")),
        (2..30, 0..60).prop_map(|(n, second)| format!("every {n} minutes at :{second:02}")),
    ]
}

fn month_end() -> impl Strategy<Value = MonthEnd> {
    prop::sample::select(vec![MonthEnd::Clamp, MonthEnd::Skip, MonthEnd::Sticky])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn cron_is_the_first_matching_minute(cron in prop_oneof![cron(), busy_fixed_cron()], (zone, after) in zone_and_instant(), day_and: bool) {
        // Dates that don't exist, `31 2`, are refused; nothing to compare.
        if let Ok(rule) = Rule::parse(&cron.text(), day_and) {
            let schedule = Schedule { rule, zone, ..Schedule::new("once", "UTC", "2000-01-01 00:00") };
            let found = schedule.plan().next_after(after);
            let expected = match cron.elapsed() {
                true => first_elapsed(&cron, day_and, zone, after),
                false => first_fixed(&cron, day_and, zone, after),
            };
            match expected {
                Some(expected) => prop_assert_eq!(found, Some(expected), "{} {} {}", cron.text(), zone, after),
                None => {
                    let end = after + TimeDelta::days(WINDOW_DAYS - 2);
                    prop_assert!(found.is_none_or(|found| found > end), "{} {} {}", cron.text(), zone, after);
                }
            }
        }
    }

    /// Active hours leave out what lies outside, and nothing else, wherever the clock is changed.
    #[test]
    fn within_active_hours_is_the_next_one_that_lies_in_them(
        rule in prop_oneof![
            cron().prop_map(|cron| cron.text()),
            busy_fixed_cron().prop_map(|cron| cron.text()),
            prop::sample::select(vec!["every 7 minutes", "every hour at :15", "daily at 2:30", "weekdays at 1:10", "every 5 to 20 minutes"])
                .prop_map(str::to_owned),
        ],
        (days, start, length) in (prop::sample::select(vec!["", "mon-fri ", "sun ", "sat-mon "]), 0u32..288, 1u32..287),
        (more, start_of_more) in (any::<bool>(), 0u32..288),
        (zone, after) in zone_and_instant(),
    ) {
        let Ok(rule) = Rule::parse(&rule, false) else { return Ok(()) };
        let clock = |five: u32| format!("{}:{:02}", five % 288 / 12, five % 12 * 5);
        let mut hours = format!("{days}{}-{}", clock(start), clock(start + length));
        if more {
            hours += &format!(", {}-{}", clock(start_of_more), clock(start_of_more + 5));
        }
        let mut schedule = Schedule { rule, zone, ..Schedule::new("once", "UTC", "2000-01-01 00:00") };
        schedule.anchor = after - TimeDelta::days(1);
        let walked = schedule.fire_times(after, 3_000);
        let within = schedule.within(&hours);
        let hours = within.active_hours.as_ref().expect("hours");
        let mut from = after;
        for expected in walked.iter().filter(|slot| hours.contain(zone, **slot)).take(20) {
            let found = within.plan().next_after(from);
            prop_assert_eq!(found, Some(*expected), "{:?} {:?} {} after {}", within.rule, hours, zone, from);
            from = *expected;
        }
        if let Some(last) = walked.last() {
            let found = within.plan().next_after(from);
            let left = walked.iter().filter(|slot| **slot > from && hours.contain(zone, **slot)).count();
            prop_assert!(left > 0 || found.is_none_or(|found| found > *last), "{:?} {:?} {} after {}", within.rule, hours, zone, from);
        }
    }

    /// Sent back to before it was made, a rule that counts has the fire times that it would have had: those since its making
    /// stay, and before it the period is the same.
    #[test]
    fn counting_back_moves_no_fire_time(
        rule in any_rule(),
        (zone, anchor) in zone_and_instant(),
        month_end in month_end(),
        back in 0i64..40_000_000,
    ) {
        let Ok(rule) = Rule::parse(&rule, false) else { return Ok(()) };
        let mut schedule = Schedule { rule, zone, month_end, ..Schedule::new("once", "UTC", "2000-01-01 00:00") };
        schedule.anchor = anchor;
        let forward = schedule.fire_times(anchor, 20);
        schedule.back_to = Some(anchor - TimeDelta::seconds(back));
        prop_assert_eq!(schedule.fire_times(anchor, 20), forward);
        if schedule.rule.counts() && !schedule.rule.fires_once() {
            let passed = schedule.fire_times(anchor - TimeDelta::seconds(back), 50);
            for pair in passed.windows(2) {
                let between = pair[0] + (pair[1] - pair[0]) / 2;
                prop_assert_eq!(schedule.plan().next_after(between), Some(pair[1]));
            }
        }
    }

    #[test]
    fn fixed_rules_fire_once_a_day(hour in 0u32..24, minute in 0u32..60, (zone, after) in zone_and_instant()) {
        let anchor = first_reading(zone, after.with_timezone(&zone).date_naive().and_hms_opt(hour, minute, 0).expect("a time"));
        let wall = anchor.with_timezone(&zone).naive_local();
        let mut expected: Vec<_> = (0..6u64)
            .map(|n| match n { 0 => anchor, _ => first_reading(zone, wall + Days::new(n)) })
            .filter(|instant| *instant > anchor)
            .collect();
        expected.dedup();
        let mut daily = Schedule { zone, ..Schedule::new("daily", "UTC", "2000-01-01 00:00") };
        daily.anchor = anchor;
        prop_assert_eq!(daily.fire_times(anchor, expected.len()), expected);
    }

    /// Whatever the rule: asked from any instant, the answer is the first later fire time of one and the
    /// same ascending sequence, starting nowhere before the question.
    #[test]
    fn all_questions_see_one_sequence(
        rule in any_rule(),
        (zone, anchor) in zone_and_instant(),
        month_end in month_end(),
        microsecond in 0i64..1_000_000,
        questions in prop::collection::vec(0.0f64..1.0, 8),
    ) {
        let Ok(rule) = Rule::parse(&rule, false) else { return Ok(()) };
        let mut schedule = Schedule { rule, zone, month_end, ..Schedule::new("once", "UTC", "2000-01-01 00:00") };
        schedule.anchor = anchor + TimeDelta::microseconds(microsecond);
        let fire_times = schedule.fire_times(schedule.anchor, 50);
        let Some(last) = fire_times.last() else { return Ok(()) };
        prop_assert!(fire_times[0] > schedule.anchor);
        let span = (*last - schedule.anchor).num_microseconds().expect("some years");
        for question in questions {
            let after = schedule.anchor + TimeDelta::microseconds((span as f64 * question) as i64);
            let expected = fire_times.iter().find(|fire_time| **fire_time > after).copied();
            prop_assert_eq!(schedule.plan().next_after(after), expected, "after {}", after);
        }
        for pair in fire_times.windows(2) {
            let just_before = pair[1] - TimeDelta::nanoseconds(1);
            prop_assert_eq!(schedule.plan().next_after(just_before), Some(pair[1]));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5_000, failure_persistence: None, rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() })]

    /// The entry points that `make fuzz` tries for as long as one likes; here the same texts each time.
    #[test]
    fn any_text_is_a_rule_or_an_error_with_its_place(
        text in "[ -~]{0,30}|([0-9*/,LW#?-]{1,4} ){4,5}[0-9a-zLW#]{1,4}|every .{0,20}|.{0,20}\
            |(every |once |at |to |and |[0-9]{1,4} |mon(day)?,? |[0-9]{4}-[0-9]{2}-[0-9]{2} ?|[0-9]{2}:[0-9]{2} ?|(hour|day|week|month)s? ){1,5}\
            |([a-z]{3}(-[a-z]{3})? )?[0-9]{1,2}:[0-9]{2}-[0-9]{1,2}:[0-9]{2}|[A-Z][a-z]{3,8}/[A-Z][a-z]{3,8}",
        (place, seed) in any::<(u64, u64)>(),
    ) {
        any_text::check(&text, place, seed);
    }
}
