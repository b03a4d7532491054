//! Exact fire times.
//!
//! Rows named after a system hold the values that system's own tests assert, or, marked `ours`, the value
//! tenant_q gives where the released system is wrong. Instants are UTC, a row's `after` is its anchor, too,
//! unless a test says otherwise.
//!
//! What those suites also assert and doesn't concern arithmetic is tested elsewhere, because it needs a
//! database or a running server: repeats and rows that vanish after their last run, unique names, the
//! intended time as a handler's argument, clusters, one broken schedule beside others, cancelling from a
//! handler, tags, two schedulers racing for one fire time. What is due *now* for a schedule last run
//! *then* is in `catch_up`.

use tenant_q_pure::schedule::rule::{MonthEnd, Rule};

use super::{Schedule, instant};

/// Rule, zone, after, fire times that follow.
type Row = (&'static str, &'static str, &'static str, &'static [&'static str]);

fn check(rows: &[Row]) {
    for (rule, zone, after, expected) in rows {
        let schedule = Schedule::new(rule, zone, after);
        let found = schedule.fire_times(instant(after), expected.len());
        let expected: Vec<_> = expected.iter().map(|text| instant(text)).collect();
        assert_eq!(found, expected, "{rule:?} in {zone} after {after}");
    }
}

const UTC: &str = "UTC";
const BERLIN: &str = "Europe/Berlin";

#[test]
fn django_q_periods() {
    check(&[
        // Wall clock 01:00 every day, across the change of March 28th.
        ("D", "Europe/Amsterdam", "2021-03-27 00:00", &["2021-03-28 00:00", "2021-03-28 23:00", "2021-03-29 23:00"]),
        ("every 3 months", UTC, "2020-02-02 00:00", &["2020-05-02 00:00"]),
        ("Q", UTC, "2020-11-02 00:00", &["2021-02-02 00:00"]),
        ("M", UTC, "2020-01-31 00:00", &["2020-02-29 00:00"]),
        ("Y", UTC, "2020-02-02 00:00", &["2021-02-02 00:00"]),
        ("yearly", UTC, "2020-02-29 00:00", &["2021-02-28 00:00"]),
        ("BM", UTC, "2024-01-15 08:00", &["2024-03-15 08:00", "2024-05-15 08:00"]),
        ("BW", UTC, "2024-01-15 08:00", &["2024-01-29 08:00", "2024-02-12 08:00"]),
        ("W", UTC, "2024-01-15 08:00", &["2024-01-22 08:00"]),
        ("H", UTC, "2024-01-15 08:20:30", &["2024-01-15 09:20:30", "2024-01-15 10:20:30"]),
        ("I 15", UTC, "2024-01-15 08:00", &["2024-01-15 08:15"]),
        ("0 12 * * *", UTC, "2024-01-15 13:00", &["2024-01-16 12:00"]),
        // Ours: the anchor's day comes back after a short month …
        ("M", UTC, "2024-01-31 12:00", &["2024-02-29 12:00", "2024-03-31 12:00", "2024-04-30 12:00", "2024-05-31 12:00"]),
        // … and after three short years.
        ("Y", UTC, "2024-02-29 00:00", &["2025-02-28 00:00", "2026-02-28 00:00", "2027-02-28 00:00", "2028-02-29 00:00"]),
        // Ours: 02:30 doesn't exist on the 26th, and no day after it suffers.
        ("D", BERLIN, "2023-03-25 01:30", &["2023-03-26 01:30", "2023-03-27 00:30", "2023-03-28 00:30", "2023-03-29 00:30"]),
        ("every 1 day", BERLIN, "2023-03-25 01:30", &["2023-03-26 01:30", "2023-03-27 00:30", "2023-03-28 00:30", "2023-03-29 00:30"]),
        ("W", BERLIN, "2023-03-19 01:30", &["2023-03-26 01:30", "2023-04-02 00:30", "2023-04-09 00:30"]),
        // 02:30 comes twice on the 29th: the first counts.
        ("D", BERLIN, "2023-10-28 00:30", &["2023-10-29 00:30", "2023-10-30 01:30"]),
    ]);
}

#[test]
fn month_ends() {
    let on_the_31st = |month_end| Schedule::new("monthly", UTC, "2024-01-31 12:00").month_end(month_end);
    let days = |schedule: Schedule, n| -> Vec<String> {
        let times = schedule.fire_times(schedule.anchor, n);
        times.iter().map(|time| time.format("%y-%m-%d").to_string()).collect()
    };
    assert_eq!(days(on_the_31st(MonthEnd::Clamp), 4), ["24-02-29", "24-03-31", "24-04-30", "24-05-31"]);
    assert_eq!(days(on_the_31st(MonthEnd::Skip), 4), ["24-03-31", "24-05-31", "24-07-31", "24-08-31"]);
    assert_eq!(days(on_the_31st(MonthEnd::Sticky), 4), ["24-02-29", "24-03-29", "24-04-29", "24-05-29"]);
    let leap_day = |month_end| Schedule::new("yearly", UTC, "2024-02-29 12:00").month_end(month_end);
    assert_eq!(days(leap_day(MonthEnd::Skip), 2), ["28-02-29", "32-02-29"]);
    assert_eq!(days(leap_day(MonthEnd::Sticky), 5), ["25-02-28", "26-02-28", "27-02-28", "28-02-28", "29-02-28"]);
    // Sticky is a matter of the whole history, not of where the question starts.
    let schedule = on_the_31st(MonthEnd::Sticky);
    assert_eq!(schedule.plan().next_after(instant("2031-07-29 12:00")), Some(instant("2031-08-28 12:00")));
    // Every two months from a 31st never meets February: 30 it is, from September on.
    let schedule = Schedule::new("bimonthly", UTC, "2024-01-31 12:00").month_end(MonthEnd::Sticky);
    assert_eq!(schedule.plan().next_after(instant("2024-07-31 12:00")), Some(instant("2024-09-30 12:00")));
    assert_eq!(schedule.plan().next_after(instant("2025-01-01 12:00")), Some(instant("2025-01-30 12:00")));
    // Leap years pause for eight years around 2100.
    let schedule = Schedule::new("yearly", UTC, "2096-02-29 12:00").month_end(MonthEnd::Skip);
    assert_eq!(schedule.fire_times(schedule.anchor, 1), [instant("2104-02-29 12:00")]);
}

#[test]
fn celery_crontab() {
    check(&[
        ("* * * * *", UTC, "2010-09-11 14:30:15", &["2010-09-11 14:31"]),
        ("* * * * *", UTC, "2010-09-11 14:59:15", &["2010-09-11 15:00"]),
        ("5,42 * * * *", UTC, "2010-09-11 14:30:15", &["2010-09-11 14:42"]),
        ("5,10,15 * * * *", UTC, "2010-09-11 14:30:15", &["2010-09-11 15:05"]),
        ("30 14 * * sat", UTC, "2010-09-11 14:30:15", &["2010-09-18 14:30"]),
        ("5,42 * * * mon-fri", UTC, "2010-09-11 14:30:15", &["2010-09-13 00:05"]),
        ("30 14 18 oct *", UTC, "2010-09-11 14:30:15", &["2010-10-18 14:30"]),
        ("30 14 18 * *", UTC, "2010-09-11 14:30:15", &["2010-09-18 14:30"]),
        ("30 14 18 * mon", UTC, "2010-01-18 14:30:15", &["2010-01-25 14:30"]),
        ("30 14 29 * *", UTC, "2012-01-29 14:30:15", &["2012-02-29 14:30"]),
        ("30 14 29 * *", UTC, "2010-01-29 14:30:15", &["2010-03-29 14:30"]),
        ("30 14 29 2 *", UTC, "2012-02-29 14:30", &["2016-02-29 14:30"]),
        ("0 9 * * *", "Europe/Paris", "2017-10-28 07:00", &["2017-10-29 08:00"]),
        ("30 * * * *", UTC, "2010-05-10 10:30", &["2010-05-10 11:30"]),
        ("*/15 * * * *", UTC, "2010-05-10 10:15", &["2010-05-10 10:30"]),
        ("30 7 * * *", UTC, "2010-05-10 07:30", &["2010-05-11 07:30"]),
        ("30 7 * * *", UTC, "2010-05-10 10:30", &["2010-05-11 07:30"]),
        ("0 8 5 * *", UTC, "2010-05-10 10:30", &["2010-06-05 08:00"]),
        ("* * * * SUN", UTC, "2010-05-10 10:30", &["2010-05-16 00:00", "2010-05-16 00:01"]),
    ]);
    let both = |rule, after: &str| {
        let schedule = Schedule::new("daily", UTC, after).day_and(rule);
        schedule.plan().next_after(instant(after))
    };
    assert_eq!(both("30 14 18 * mon", "2010-01-18 14:30:15"), Some(instant("2010-10-18 14:30")));
    assert_eq!(both("30 7 8-14 * thu", "2010-05-13 07:30"), Some(instant("2010-06-10 07:30")));
    assert_eq!(both("30 7 8-14 3 thu", "2010-03-11 07:30"), Some(instant("2011-03-10 07:30")));
}

#[test]
fn celery_expansion() {
    // A field by its values: two spellings are the same rule when every field expands to the same bits.
    let same = [
        ("*/2 * * * *", "0-59/2 * * * *"),
        ("0 2-9/5 * * *", "0 2,7 * * *"),
        ("0 2-10/5 * * *", "0 2,7 * * *"),
        ("0 2-11/5,3 * * *", "0 2,3,7 * * *"),
        ("0 0 * 11-1 *", "0 0 * 1,11,12 *"),
        ("0 0 * 2-1 *", "0 0 * 1-12 *"),
        ("0 0 * * tuesday,sunday,fri", "0 0 * * 0,2,5"),
        ("0 0 * * mon-fri", "0 0 * * 1,2,3,4,5"),
        ("0 0 * * 7", "0 0 * * 0"),
        ("0 0 * * 5-7", "0 0 * * 0,5,6"),
        ("0 0 * * fri-SUN", "0 0 * * 0,5,6"),
        ("0 0 * * sat-tue/2", "0 0 * * 6,1"),
        ("0 0 * * Tue-Fri/2", "0 0 * * 2,4"),
        ("0 0 * * 0-7", "0 0 * * 0-6"),
        ("0 0 * aug-oct *", "0 0 * 8,9,10 *"),
        ("0 0 * Mar *", "0 0 * 3 *"),
        ("0 0 * may,jun,jul *", "0 0 * 5-7 *"),
        ("0 0 * 2-12/2 *", "0 0 * 2,4,6,8,10,12 *"),
        ("0 0 * Feb-Aug/3 *", "0 0 * 2,5,8 *"),
        ("0 2-17/6 * * *", "0 2,8,14 * * *"),
        ("0 22-4/2 * * *", "0 22,0,2,4 * * *"),
        ("50-10/15 0 * * *", "50,5 0 * * *"),
        ("3/20 0 * * *", "3,23,43 0 * * *"),
        ("0 0 L * *", "0 0 l-0 * *"),
        ("0 0 * * 5L", "0 0 * * friL"),
        ("0 0 * * L5", "0 0 * * 5#l"),
        ("0 0 ? * mon", "0 0 * * mon"),
        ("@daily", "0 0 * * *"),
        ("@midnight", "0 0 0 * * *"),
        ("@hourly", "0 * * * *"),
        ("@weekly", "0 0 * * 0"),
        ("@monthly", "0 0 1 * *"),
        ("@yearly", "0 0 1 1 *"),
        ("@annually", "0 0 1 1 *"),
    ];
    for (one, other) in same {
        let parse = |text: &str| Rule::parse(text, false).unwrap_or_else(|error| panic!("{text}: {error}"));
        // `*` counts as unrestricted and as elapsed where its values spelled out don't: compare what fires.
        let (one_rule, other_rule) = (parse(one), parse(other));
        let fires = |rule: &Rule| {
            let schedule = Schedule { rule: rule.clone(), ..Schedule::new("once", UTC, "2023-01-01 00:00") };
            schedule.fire_times(schedule.anchor, 60)
        };
        assert_eq!(fires(&one_rule), fires(&other_rule), "{one} and {other}");
    }
    check(&[
        (
            "0 0 */5 1 *",
            UTC,
            "2023-01-01 00:00",
            &[
                "2023-01-06 00:00",
                "2023-01-11 00:00",
                "2023-01-16 00:00",
                "2023-01-21 00:00",
                "2023-01-26 00:00",
                "2023-01-31 00:00",
                "2024-01-01 00:00",
            ],
        ),
        ("0 0 * * */2", UTC, "2023-01-01 00:00", &["2023-01-03 00:00", "2023-01-05 00:00", "2023-01-07 00:00", "2023-01-08 00:00"]),
        ("0 0 1 */2 *", UTC, "2023-01-01 00:00", &["2023-03-01 00:00", "2023-05-01 00:00"]),
    ]);
}

#[test]
fn cron_last_nearest_and_nth() {
    check(&[
        ("0 0 L * *", UTC, "2024-01-15 00:00", &["2024-01-31 00:00", "2024-02-29 00:00", "2024-03-31 00:00"]),
        ("0 0 L-2 * *", UTC, "2024-01-15 00:00", &["2024-01-29 00:00", "2024-02-27 00:00"]),
        // March 31st 2024 is a Sunday, June 30th as well.
        ("0 0 LW * *", UTC, "2024-03-01 00:00", &["2024-03-29 00:00", "2024-04-30 00:00", "2024-05-31 00:00", "2024-06-28 00:00"]),
        // June 15th 2024 is a Saturday, September 15th a Sunday.
        ("0 0 15W * *", UTC, "2024-06-01 00:00", &["2024-06-14 00:00", "2024-07-15 00:00", "2024-08-15 00:00", "2024-09-16 00:00"]),
        // June 1st 2024 is a Saturday: the nearest working day inside the month is the 3rd.
        ("0 0 1W * *", UTC, "2024-05-20 00:00", &["2024-06-03 00:00"]),
        // March 31st 2024 is a Sunday: back to the 29th; April has no 31st.
        ("0 0 31W * *", UTC, "2024-03-20 00:00", &["2024-03-29 00:00", "2024-05-31 00:00"]),
        ("0 0 * * fri#2", UTC, "2024-01-01 00:00", &["2024-01-12 00:00", "2024-02-09 00:00"]),
        ("0 0 * * 1#5", UTC, "2024-01-01 00:00", &["2024-01-29 00:00", "2024-04-29 00:00"]),
        ("0 0 * * 7L", UTC, "2024-01-01 00:00", &["2024-01-28 00:00", "2024-02-25 00:00"]),
        ("0 0 L,15 * *", UTC, "2024-02-01 00:00", &["2024-02-15 00:00", "2024-02-29 00:00"]),
        // Both restricted: either.
        ("0 0 L * mon", UTC, "2024-02-20 00:00", &["2024-02-26 00:00", "2024-02-29 00:00", "2024-03-04 00:00"]),
        // `*/2` is not restricted in cron's sense: both.
        ("0 0 */2 * mon", UTC, "2024-02-01 00:00", &["2024-02-05 00:00", "2024-02-19 00:00"]),
    ]);
}

#[test]
fn schedule_intervals() {
    // Wednesday.
    let after = "2010-01-06 12:15";
    check(&[
        ("every 5 minutes", UTC, after, &["2010-01-06 12:20"]),
        ("every hour", UTC, after, &["2010-01-06 13:15"]),
        ("every day", UTC, after, &["2010-01-07 12:15"]),
        ("every day at 09:00", UTC, after, &["2010-01-07 09:00"]),
        ("every day at 12:30", UTC, after, &["2010-01-06 12:30"]),
        ("every week", UTC, after, &["2010-01-13 12:15"]),
        ("every monday", UTC, after, &["2010-01-11 12:15"]),
        ("every tuesday", UTC, after, &["2010-01-12 12:15"]),
        ("wednesday", UTC, after, &["2010-01-13 12:15"]),
        ("thursday", UTC, after, &["2010-01-07 12:15"]),
        ("fridays", UTC, after, &["2010-01-08 12:15"]),
        ("saturday", UTC, after, &["2010-01-09 12:15"]),
        ("every sunday", UTC, after, &["2010-01-10 12:15", "2010-01-17 12:15"]),
        ("monday at 10:30", UTC, after, &["2010-01-11 10:30", "2010-01-18 10:30"]),
        ("wednesday at 13:00", UTC, after, &["2010-01-06 13:00", "2010-01-13 13:00"]),
        ("monday, wednesday and friday at 7:05", UTC, after, &["2010-01-08 07:05", "2010-01-11 07:05", "2010-01-13 07:05"]),
        ("weekdays at 18:00:30", UTC, "2010-01-08 20:00", &["2010-01-11 18:00:30", "2010-01-12 18:00:30"]),
        ("weekend at 10:00", UTC, after, &["2010-01-09 10:00", "2010-01-10 10:00", "2010-01-16 10:00"]),
        ("daily at 10:30", UTC, after, &["2010-01-07 10:30"]),
        ("every 3 days at 13:00", UTC, after, &["2010-01-09 13:00", "2010-01-12 13:00"]),
        ("every hour at ':30'", UTC, "2010-01-06 12:20", &["2010-01-06 12:30", "2010-01-06 13:30"]),
        ("every hour at ':10'", UTC, "2010-01-06 12:20", &["2010-01-06 13:10"]),
        ("every hour at '30:05'", UTC, "2010-01-06 12:20", &["2010-01-06 12:30:05"]),
        ("every hour at '00:40'", UTC, "2010-01-06 12:20", &["2010-01-06 13:00:40"]),
        ("every 2 hours at :10", UTC, "2010-01-06 12:20", &["2010-01-06 14:10", "2010-01-06 16:10"]),
        ("every minute at ':40'", UTC, "2010-01-06 12:20:30", &["2010-01-06 12:20:40"]),
        ("every minute at \":10\"", UTC, "2010-01-06 12:20:30", &["2010-01-06 12:21:10"]),
        ("10 seconds", UTC, after, &["2010-01-06 12:15:10", "2010-01-06 12:15:20"]),
        ("1 second", UTC, after, &["2010-01-06 12:15:01"]),
        ("90s", UTC, after, &["2010-01-06 12:16:30"]),
        ("every 1 hour 30 minutes", UTC, after, &["2010-01-06 13:45", "2010-01-06 15:15"]),
        ("1hour 30 minutes 10 seconds", UTC, after, &["2010-01-06 13:45:10", "2010-01-06 15:15:20"]),
        ("1h 30min", UTC, after, &["2010-01-06 13:45", "2010-01-06 15:15"]),
        // Started at 23:30 and finished after midnight: the next day's run isn't skipped.
        ("daily", UTC, "2014-12-01 23:30", &["2014-12-02 23:30"]),
    ]);
}

#[test]
fn schedule_zones() {
    check(&[
        ("every day at 02:30", BERLIN, "2023-03-26 00:30", &["2023-03-26 01:30", "2023-03-27 00:30"]),
        ("every day at 02:30", BERLIN, "2023-03-26 23:30", &["2023-03-27 00:30"]),
        // Ours: once on the 27th.
        ("every day at 02:30", BERLIN, "2023-03-26 01:30", &["2023-03-27 00:30", "2023-03-28 00:30"]),
        ("every day at 02:30", BERLIN, "2023-10-28 23:30", &["2023-10-29 00:30", "2023-10-30 01:30"]),
        // Late by five minutes, in either pass of the hour.
        ("every day at 02:30", BERLIN, "2023-10-29 00:35", &["2023-10-30 01:30"]),
        ("every day at 02:30", BERLIN, "2023-10-29 01:35", &["2023-10-30 01:30"]),
        ("every day at 01:00", "Europe/London", "2023-03-26 00:30", &["2023-03-26 01:00"]),
        ("every day at 00:00", "US/Central", "2023-04-14 02:50", &["2023-04-14 05:00"]),
        ("every day at 09:45", "US/Eastern", "2023-07-15 13:00", &["2023-07-15 13:45"]),
        ("every day at 12:00", "Australia/Sydney", "2023-12-31 22:00", &["2024-01-01 01:00"]),
        ("every 7 days", BERLIN, "2024-03-28 10:00", &["2024-04-04 09:00"]),
        ("every 7 days", BERLIN, "2024-10-25 09:00", &["2024-11-01 10:00"]),
        ("every 7 days at 11:00", BERLIN, "2024-03-28 10:00", &["2024-04-04 09:00"]),
    ]);
}

#[test]
fn rocketry_and_procrastinate_cron() {
    check(&[
        ("15,30 18-22 20 OCT *", UTC, "2022-08-07 10:00", &["2022-10-20 18:15", "2022-10-20 18:30", "2022-10-20 19:15"]),
        ("15,30 18-22 20 OCT *", UTC, "2022-10-20 22:15", &["2022-10-20 22:30", "2023-10-20 18:15"]),
        ("30 * * * *", UTC, "2022-08-07 12:31", &["2022-08-07 13:30"]),
        ("0 0 1 * *", UTC, "1970-01-01 00:00", &["1970-02-01 00:00"]),
        ("0 0 * * *", UTC, "1970-01-01 00:00", &["1970-01-02 00:00"]),
        ("0 * * * *", UTC, "1970-01-01 00:00", &["1970-01-01 01:00"]),
        ("* * * * *", UTC, "1970-01-01 00:00", &["1970-01-01 00:01"]),
        ("*/5 * * * * *", UTC, "1970-01-01 00:00", &["1970-01-01 00:00:05", "1970-01-01 00:00:10"]),
        ("0 */5 * * * *", UTC, "1970-01-01 00:00", &["1970-01-01 00:05", "1970-01-01 00:10"]),
        ("15 30 2 * * *", UTC, "1970-01-01 00:00", &["1970-01-01 02:30:15", "1970-01-02 02:30:15"]),
    ]);
}

#[test]
fn cron_when_the_clock_is_changed() {
    check(&[
        ("30 2 * * *", BERLIN, "2023-03-25 12:00", &["2023-03-26 01:30", "2023-03-27 00:30"]),
        ("30 2 * * *", BERLIN, "2023-10-28 12:00", &["2023-10-29 00:30", "2023-10-30 01:30"]),
        ("*/30 * * * *", BERLIN, "2023-03-26 00:15", &["2023-03-26 00:30", "2023-03-26 01:00", "2023-03-26 01:30", "2023-03-26 02:00"]),
        // The half hours come four times between 02:00 and 03:00 in autumn: real time has them.
        (
            "*/30 * * * *",
            BERLIN,
            "2023-10-28 23:45",
            &["2023-10-29 00:00", "2023-10-29 00:30", "2023-10-29 01:00", "2023-10-29 01:30", "2023-10-29 02:00"],
        ),
        ("15 * * * *", BERLIN, "2023-10-29 00:00", &["2023-10-29 00:15", "2023-10-29 01:15", "2023-10-29 02:15"]),
        // Two times in one gap both fire, each moved by the gap.
        ("0,45 2 * * *", BERLIN, "2023-03-25 23:00", &["2023-03-26 01:00", "2023-03-26 01:45", "2023-03-27 00:00"]),
        // A time behind the gap may come before one that the gap has moved: 02:10 fires at 02:40.
        ("10,35 2 * * *", "Australia/Lord_Howe", "2023-09-30 12:00", &["2023-09-30 15:35", "2023-09-30 15:40", "2023-10-01 15:10"]),
        // Several fixed times in and behind the gap keep their order and don't double.
        ("0,45 2,3 * * *", BERLIN, "2023-03-25 23:00", &["2023-03-26 01:00", "2023-03-26 01:45", "2023-03-27 00:00"]),
        ("30 1,2,3 * * *", BERLIN, "2023-03-26 00:00", &["2023-03-26 00:30", "2023-03-26 01:30", "2023-03-26 23:30"]),
        ("0 3 * * *", BERLIN, "2023-03-26 00:59", &["2023-03-26 01:00", "2023-03-27 01:00"]),
        ("30 2 * * *", "America/New_York", "2024-03-09 12:00", &["2024-03-10 07:30", "2024-03-11 06:30"]),
        ("30 1 * * *", "America/New_York", "2024-11-02 12:00", &["2024-11-03 05:30", "2024-11-04 06:30"]),
        // Lord Howe's clock is changed by half an hour: 02:15 becomes 02:45, 01:45 comes twice.
        ("15 2 * * *", "Australia/Lord_Howe", "2023-09-30 12:00", &["2023-09-30 15:45", "2023-10-01 15:15"]),
        ("45 1 * * *", "Australia/Lord_Howe", "2024-04-06 00:00", &["2024-04-06 14:45", "2024-04-07 15:15"]),
        ("*/15 * * * *", "Australia/Lord_Howe", "2024-04-06 14:40", &["2024-04-06 14:45", "2024-04-06 15:00", "2024-04-06 15:15"]),
        // Samoa had no December 30th in 2011: its times move by the 24 hours that were skipped.
        ("0 10 * * *", "Pacific/Apia", "2011-12-29 12:00", &["2011-12-29 20:00", "2011-12-30 20:00", "2011-12-31 20:00"]),
        ("0 12 30 12 *", "Pacific/Apia", "2011-01-01 00:00", &["2011-12-30 22:00", "2012-12-29 22:00"]),
        // Midnight itself is in Santiago's gap.
        ("0 0 * * *", "America/Santiago", "2023-09-02 12:00", &["2023-09-03 04:00", "2023-09-04 03:00"]),
        // Intervals count real time.
        ("every hour", BERLIN, "2023-03-26 00:30", &["2023-03-26 01:30", "2023-03-26 02:30"]),
        ("every 12 hours", BERLIN, "2023-03-25 20:00", &["2023-03-26 08:00", "2023-03-26 20:00"]),
        ("every hour at :15", "Australia/Lord_Howe", "2023-09-30 14:50", &["2023-09-30 16:15", "2023-09-30 17:15"]),
    ]);
}

#[test]
fn clocked() {
    check(&[
        ("2030-01-01", BERLIN, "2023-01-01 00:00", &["2029-12-31 23:00"]),
        ("2030-07-01 10:30", BERLIN, "2023-01-01 00:00", &["2030-07-01 08:30"]),
        ("2030-07-01T10:30:15Z", BERLIN, "2023-01-01 00:00", &["2030-07-01 10:30:15"]),
        ("2030-07-01 10:30:15.250+05:30", BERLIN, "2023-01-01 00:00", &["2030-07-01 05:00:15.25"]),
        ("2030-07-01 10:30 -0300", BERLIN, "2023-01-01 00:00", &["2030-07-01 13:30"]),
        ("2030-07-01 10:30+02", BERLIN, "2023-01-01 00:00", &["2030-07-01 08:30"]),
        ("2030-07-01 10:30 America/New_York", BERLIN, "2023-01-01 00:00", &["2030-07-01 14:30"]),
        ("once at 2030-07-01 10:30", UTC, "2023-01-01 00:00", &["2030-07-01 10:30"]),
        // In the gap, and in the overlap.
        ("2023-03-26 02:30", BERLIN, "2023-01-01 00:00", &["2023-03-26 01:30"]),
        ("2023-10-29 02:30", BERLIN, "2023-01-01 00:00", &["2023-10-29 00:30"]),
    ]);
    let clocked = Schedule::new("2030-01-01", UTC, "2023-01-01 00:00");
    assert_eq!(clocked.fire_times(clocked.anchor, 5).len(), 1);
    assert!(clocked.rule.fires_once());
    let once = Schedule::new("once", UTC, "2023-01-01 00:00");
    assert_eq!(once.plan().first(), Some(once.anchor));
    assert_eq!(once.plan().next_after(once.anchor), None);
    let once_later = Schedule::new("O", UTC, "2023-01-01 00:00").starting("2023-02-01 00:00");
    assert_eq!(once_later.plan().first(), once_later.start_at);
    assert_eq!(once_later.fire_times(once_later.anchor, 5), [instant("2023-02-01 00:00")]);
}

#[test]
fn start_and_end() {
    // A counted rule begins at its start itself, a rule with a time of its own at the first one from there.
    let hourly = Schedule::new("hourly", UTC, "2023-01-01 00:10").starting("2023-01-05 08:00");
    assert_eq!(hourly.plan().first(), Some(instant("2023-01-05 08:00")));
    assert_eq!(hourly.fire_times(hourly.anchor, 2), [instant("2023-01-05 08:00"), instant("2023-01-05 09:00")]);
    let cron = Schedule::new("0 8 * * *", UTC, "2023-01-01 00:10").starting("2023-01-05 08:00");
    assert_eq!(cron.plan().first(), Some(instant("2023-01-05 08:00")));
    let cron = Schedule::new("0 8 * * *", UTC, "2023-01-01 00:10").starting("2023-01-05 08:00:01");
    assert_eq!(cron.plan().first(), Some(instant("2023-01-06 08:00")));
    let every_third = Schedule::new("every 3 days at 10:30", UTC, "2023-01-01 00:00").starting("2023-01-02 09:00");
    assert_eq!(every_third.fire_times(every_third.anchor, 2), [instant("2023-01-02 10:30"), instant("2023-01-05 10:30")]);

    let limited = Schedule::new("every 5 seconds", UTC, "2020-01-01 11:35:10").until("2020-01-01 11:35:20");
    assert_eq!(limited.fire_times(limited.anchor, 9), [instant("2020-01-01 11:35:15"), instant("2020-01-01 11:35:20")]);
    let over = Schedule::new("once", UTC, "2020-01-01 12:00").until("2020-01-01 11:00");
    assert_eq!(over.plan().first(), None);
}

#[test]
fn fractions_of_a_second() {
    // Counted rules keep the anchor's microseconds, rules with a time of their own have none.
    let minutes = Schedule::new("every minute", UTC, "2023-01-01 00:00:10.250001");
    assert_eq!(minutes.plan().next_after(minutes.anchor), Some(instant("2023-01-01 00:01:10.250001")));
    assert_eq!(minutes.plan().next_after(instant("2023-01-01 00:01:10.250000")), Some(instant("2023-01-01 00:01:10.250001")));
    let monthly = Schedule::new("monthly", UTC, "2023-01-31 00:00:10.5");
    assert_eq!(monthly.plan().next_after(monthly.anchor), Some(instant("2023-02-28 00:00:10.5")));
    let cron = Schedule::new("* * * * * *", UTC, "2023-01-01 00:00:10.5");
    assert_eq!(cron.plan().next_after(cron.anchor), Some(instant("2023-01-01 00:00:11")));
}

#[test]
fn the_ends_of_time() {
    let (first, last) = (chrono::DateTime::<chrono::Utc>::MIN_UTC, chrono::DateTime::<chrono::Utc>::MAX_UTC);
    for rule in [
        "* * * * * *",
        "daily",
        "monthly",
        "every 5 to 10 minutes",
        "monday",
        "every hour at :10",
        "once",
        "2030-01-01",
        "sunset at 52.5,13.4",
        "0 0 29 2 *",
        "every 900 years",
        "10 seconds",
    ] {
        for anchor in [first, instant("2023-01-01 00:00"), last] {
            let mut schedule = Schedule::new(rule, BERLIN, "2023-01-01 00:00");
            schedule.anchor = anchor;
            for after in [first, instant("0001-01-01 00:00"), instant("9999-12-31 23:59:59"), last] {
                let next = schedule.plan().next_after(after);
                assert!(next.is_none_or(|next| next > after), "{rule} {anchor} {after}");
                for start in [first, last] {
                    schedule.start_at = Some(start);
                    schedule.plan().next_after(after);
                    schedule.plan().first();
                }
                schedule.start_at = None;
            }
        }
    }
}

/// Asked from before it was made, a rule that counts has no fire time there: it begins one period later.
/// A `start_at` is a fire time of its own.
#[test]
fn what_counts_does_not_fire_at_its_making() {
    for (rule, first) in [
        ("hourly", "2023-01-02 13:00"),
        ("every 5 to 10 minutes", "2023-01-02 12:08:26"),
        ("daily", "2023-01-03 12:00"),
        ("monthly", "2023-02-02 12:00"),
        ("monday", "2023-01-09 12:00"),
        ("every hour at :00", "2023-01-02 13:00"),
        ("daily at 12:00", "2023-01-03 12:00"),
    ] {
        let made = Schedule::new(rule, UTC, "2023-01-02 12:00");
        let long_before = instant("2022-11-11 11:11");
        assert_eq!(made.plan().next_after(long_before), Some(instant(first)), "{rule}");
        assert_eq!(made.plan().first(), Some(instant(first)), "{rule}");
        let told = Schedule::new(rule, UTC, "2022-01-01 00:00").starting("2023-01-02 12:00");
        assert_eq!(told.plan().next_after(long_before), Some(instant("2023-01-02 12:00")), "{rule}");
    }
}
