//! Rules that people try: what the hint says instead is a rule, and fires when they mean.

use super::{Schedule, instant};
use tenant_q_pure::schedule::rule::Rule;

/// What is typed, the hint, and the first fire times of what it says, from Tuesday 2030-01-01 00:00 on.
const TRIED: &[(&str, &str, &[&str])] = &[
    // A time of day without "at", in other words, on another clock.
    ("daily 10:30", "Write 'daily at 10:30'.", &["2030-01-01 10:30", "2030-01-02 10:30"]),
    ("daily at 10", "Write 'daily at 10:00'.", &["2030-01-01 10:00", "2030-01-02 10:00"]),
    ("every day at 10:30pm", "Write 'daily at 22:30'.", &["2030-01-01 22:30", "2030-01-02 22:30"]),
    ("every day at 12 am", "Write 'daily at 00:00'.", &["2030-01-02 00:00"]),
    ("each morning at 8", "Write 'daily at 08:00'.", &["2030-01-01 08:00"]),
    ("@daily 10:30", "Write 'daily at 10:30'.", &["2030-01-01 10:30"]),
    ("nightly", "Write 'daily at 02:00'.", &["2030-01-01 02:00"]),
    ("10:30", "For each day write 'daily at 10:30'; for once add repeats => 1.", &["2030-01-01 10:30", "2030-01-02 10:30"]),
    ("at noon", "For each day write 'daily at 12:00'; for once add repeats => 1.", &["2030-01-01 12:00"]),
    ("at 9 o'clock", "For each day write 'daily at 09:00'; for once add repeats => 1.", &["2030-01-01 09:00"]),
    ("once at 10:30", "Write 'daily at 10:30' with repeats => 1.", &["2030-01-01 10:30"]),
    ("daily at 10:30 and 18:30", "Write '30 10,18 * * *'.", &["2030-01-01 10:30", "2030-01-01 18:30", "2030-01-02 10:30"]),
    (
        "every day at 8:00, 17:30",
        "Write '0 8 * * *' and '30 17 * * *', each a schedule of its own.",
        &["2030-01-01 08:00", "2030-01-02 08:00"],
    ),
    ("daily at 10:30 Europe/Berlin", "Write 'daily at 10:30' with tz => 'Europe/Berlin'.", &["2030-01-01 10:30"]),
    // Days of a month or a year.
    ("monthly on 15 at 10:00", "Write '0 10 15 * *'.", &["2030-01-15 10:00", "2030-02-15 10:00"]),
    ("monthly on the 15th at 10:00", "Write '0 10 15 * *'.", &["2030-01-15 10:00", "2030-02-15 10:00"]),
    ("monthly day 15", "Write '0 0 15 * *'.", &["2030-01-15 00:00"]),
    ("on the 1st and 15th of the month at noon", "Write '0 12 1,15 * *'.", &["2030-01-01 12:00", "2030-01-15 12:00", "2030-02-01 12:00"]),
    ("first of the month", "Write '0 0 1 * *'.", &["2030-02-01 00:00", "2030-03-01 00:00"]),
    ("last day of the month at 18:00", "Write '0 18 L * *'.", &["2030-01-31 18:00", "2030-02-28 18:00"]),
    ("every 3 months on the 1st at 9am", "Write '0 9 1 */3 *'.", &["2030-01-01 09:00", "2030-04-01 09:00"]),
    ("yearly on december 24 at 10:00", "Write '0 10 24 12 *'.", &["2030-12-24 10:00", "2031-12-24 10:00"]),
    ("every 4th of july", "Write '0 0 4 7 *'.", &["2030-07-04 00:00"]),
    ("first monday of the month at 9:00", "Write '0 9 * * 1#1'.", &["2030-01-07 09:00", "2030-02-04 09:00"]),
    ("last friday of the month 17:00", "Write '0 17 * * 5L'.", &["2030-01-25 17:00", "2030-02-22 17:00"]),
    ("last weekday of the month at 5 pm", "Write '0 17 LW * *'.", &["2030-01-31 17:00", "2030-02-28 17:00", "2030-03-29 17:00"]),
    // Every other one, and numbers in words.
    ("every other day", "Write 'every 2 days'.", &["2030-01-03 00:00", "2030-01-05 00:00"]),
    ("every other day at 10:30", "Write 'every 2 days at 10:30'.", &["2030-01-03 10:30", "2030-01-05 10:30"]),
    ("every third day", "Write 'every 3 days'.", &["2030-01-04 00:00"]),
    ("every other week", "Write 'every 2 weeks'.", &["2030-01-15 00:00"]),
    ("every two hours", "Write 'every 2 hours'.", &["2030-01-01 02:00", "2030-01-01 04:00"]),
    ("every 2 day", "Write 'every 2 days'.", &["2030-01-03 00:00"]),
    ("every half an hour", "Write 'every 30 minutes'.", &["2030-01-01 00:30"]),
    ("every quarter of an hour", "Write 'every 15 minutes'.", &["2030-01-01 00:15"]),
    ("every 1.5 hours", "Write 'every 90 minutes'.", &["2030-01-01 01:30"]),
    ("twice a day", "Write 'every 12 hours'.", &["2030-01-01 12:00", "2030-01-02 00:00"]),
    ("once a week", "Write 'weekly'.", &["2030-01-08 00:00"]),
    ("4 times an hour", "Write 'every 15 minutes'.", &["2030-01-01 00:15"]),
    ("hourly at :30", "Write 'every hour at :30'.", &["2030-01-01 00:30", "2030-01-01 01:30"]),
    ("half-yearly", "Write 'every 6 months'.", &["2030-07-01 00:00"]),
    ("minute", "Write 'every minute'.", &["2030-01-01 00:01"]),
    // Weekdays.
    (
        "weekdays 10:30",
        "Write 'weekdays at 10:30'.",
        &["2030-01-01 10:30", "2030-01-02 10:30", "2030-01-03 10:30", "2030-01-04 10:30", "2030-01-07 10:30"],
    ),
    ("monday to friday at 9am", "Write 'weekdays at 09:00'.", &["2030-01-01 09:00"]),
    ("Mon..Fri *-*-* 02:00", "Write 'weekdays at 02:00'.", &["2030-01-01 02:00"]),
    (
        "mon, wed and fri 10:30pm",
        "Write 'monday, wednesday, friday at 22:30'.",
        &["2030-01-02 22:30", "2030-01-04 22:30", "2030-01-07 22:30"],
    ),
    (
        "saturday to monday 8:00",
        "Write 'monday, saturday, sunday at 08:00'.",
        &["2030-01-05 08:00", "2030-01-06 08:00", "2030-01-07 08:00"],
    ),
    ("weekly on monday at 10:30", "Write 'monday at 10:30'.", &["2030-01-07 10:30", "2030-01-14 10:30"]),
    ("monday and wednesday at 9:00 and 15:00", "Write '0 9,15 * * 1,3'.", &["2030-01-02 09:00", "2030-01-02 15:00", "2030-01-07 09:00"]),
    ("every hour from 9am to 5pm on weekdays", "Write 'every hour' with active_hours => 'mon-fri 09:00-17:00'.", &["2030-01-01 09:00"]),
    ("every 30 minutes between 9:00 and 17:00", "Write 'every 30 minutes' with active_hours => '09:00-17:00'.", &["2030-01-01 09:00"]),
    ("every 2 hours on weekends", "Write 'every 2 hours' with active_hours => 'sat 00:00-24:00, sun 00:00-24:00'.", &["2030-01-05 00:00"]),
    // Dates.
    ("2030-01-01 10:30 PM", "Write '2030-01-01 22:30'.", &["2030-01-01 22:30"]),
    ("2030-01-01 at 10pm", "Write '2030-01-01 22:00'.", &["2030-01-01 22:00"]),
    ("2030-01-01 10:30 pm Europe/Berlin", "Write '2030-01-01 22:30 Europe/Berlin'.", &["2030-01-01 21:30"]),
    ("2030/02/01 10:30", "Write '2030-02-01 10:30'.", &["2030-02-01 10:30"]),
    ("01.02.2030 10:30", "Write '2030-02-01 10:30'.", &["2030-02-01 10:30"]),
    ("01/31/2030 10:30", "Write '2030-01-31 10:30'.", &["2030-01-31 10:30"]),
    ("January 31st, 2030 at 10:30 PM", "Write '2030-01-31 22:30'.", &["2030-01-31 22:30"]),
    // The sun.
    ("civil dawn at 52.5,13.4", "Write 'dawn_civil at 52.5,13.4'.", &["2030-01-01 06:35:50"]),
    ("nautical dusk 52.5 13.4", "Write 'dusk_nautical at 52.5,13.4'.", &["2030-01-01 16:28:20"]),
    ("noon at 52.5,13.4", "Write 'solar_noon at 52.5,13.4'.", &["2030-01-01 11:09:57"]),
    ("civil dawn", "Write 'dawn_civil at 52.5,13.4', with the latitude and longitude of the place.", &["2030-01-01 06:35:50"]),
    // Other systems' fields.
    ("*/5", "Write '*/5 * * * *'.", &["2030-01-01 00:05"]),
    ("0 0 12 ? * mon-fri *", "Write '0 0 12 * * mon-fri'.", &["2030-01-01 12:00"]),
    ("H/15 * * * *", "Write '*/15 * * * *'.", &["2030-01-01 00:15"]),
];

/// What belongs beside a rule in a hint: `active_hours => '…'`.
fn beside<'a>(hint: &'a str, parameter: &str) -> Option<&'a str> {
    hint.split_once(&format!("{parameter} => '"))?.1.split('\'').next()
}

#[test]
fn what_people_try_is_told_how_to_be_written() {
    let mut wrong = Vec::new();
    for (tried, hint, times) in TRIED {
        let error = match Rule::parse(tried, false) {
            Ok(rule) => {
                wrong.push(format!("{tried:?} is {rule:?}"));
                continue;
            }
            Err(error) => error,
        };
        if error.hint.as_deref() != Some(*hint) {
            wrong.push(format!("{tried:?}: {:?}", error.hint));
            continue;
        }
        let mut schedule = Schedule::new(hint.split('\'').nth(1).expect("a rule"), "UTC", "2030-01-01 00:00");
        if let Some(hours) = beside(hint, "active_hours") {
            schedule = schedule.within(hours);
        }
        let fires = schedule.fire_times(instant("2030-01-01 00:00"), times.len());
        let wanted: Vec<_> = times.iter().map(|time| instant(time)).collect();
        if fires != wanted {
            wrong.push(format!("{tried:?}: fires at {fires:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_may_mean_two_things_is_told_of_both() {
    let hint = |rule: &str| Rule::parse(rule, false).expect_err(rule).hint.unwrap_or_default();
    assert_eq!(hint("01/02/2030 10:30"), "Write the date with the year first: '2030-01-31 10:30'.");
    assert_eq!(
        hint("every second monday at 9:00"),
        "Write 'every 2 weeks at 09:00' with start_at => date_trunc('week', now()) + interval '7 days' for every other week, '0 9 * * 1#2' for the second of each month."
    );
    // From that Monday on, every other one.
    let every_other = Schedule::new("every 2 weeks at 09:00", "UTC", "2030-01-01 00:00").starting("2030-01-07 00:00");
    assert_eq!(every_other.plan().first(), Some(instant("2030-01-07 09:00")));
    assert_eq!(every_other.fire_times(instant("2030-01-07 09:00"), 1), [instant("2030-01-21 09:00")]);
    assert_eq!(hint("every 5m"), "Write '5 minutes' or '5 months'.");
}

#[test]
fn who_says_more_than_is_understood_is_told_nothing_wrong() {
    for rule in [
        "every 5 minutes please",
        "every day except sunday",
        "0 0 12 * * ? 2030",
        "monday and tomorrow",
        "every day every hour",
        "daily at 25:00",
        "2030-13-01 10:30 pm",
        "10 30",
        "every 61 * * *",
    ] {
        let hint = Rule::parse(rule, false).expect_err(rule).hint.unwrap_or_default();
        assert!(!hint.starts_with("Write '") && !hint.starts_with("For each"), "{rule}: {hint}");
    }
}
