//! Which missed fire times are served.

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;
use tenant_q_pure::schedule::catch_up::{CatchUp, Lateness, due, part};

use super::{Schedule, instant};

fn lateness(catch_up: CatchUp) -> Lateness {
    Lateness { catch_up, limit: 100, deadline: None, grace: TimeDelta::seconds(10) }
}

/// Fire times to serve at `now`, and the one to wait for then.
fn decide(rule: &str, waiting_for: &str, now: &str, lateness: Lateness) -> (Vec<String>, Option<String>) {
    let schedule = Schedule::new(rule, "UTC", waiting_for);
    let found = due(&schedule.plan(), instant(waiting_for), instant(now), &lateness);
    let text = |time: &DateTime<Utc>| time.format("%m-%d %H:%M").to_string();
    (found.serve.iter().map(text).collect(), found.next.as_ref().map(text))
}

#[test]
fn hourly_twelve_hours_late() {
    let (serve, next) = decide("H", "2024-01-01 00:00", "2024-01-01 12:00", lateness(CatchUp::All));
    assert_eq!(serve.len(), 13);
    assert_eq!(serve.first().map(String::as_str), Some("01-01 00:00"));
    assert_eq!(next.as_deref(), Some("01-01 13:00"));
    let (serve, next) = decide("H", "2024-01-01 00:00", "2024-01-01 12:30", lateness(CatchUp::Once));
    assert_eq!((serve, next.as_deref()), (vec!["01-01 12:00".to_owned()], Some("01-01 13:00")));
    let (serve, next) = decide("H", "2024-01-01 00:00", "2024-01-01 12:30", lateness(CatchUp::None));
    assert_eq!((serve, next.as_deref()), (vec![], Some("01-01 13:00")));
    // A moment late is not missed.
    let (serve, _) = decide("H", "2024-01-01 00:00", "2024-01-01 00:00:02", lateness(CatchUp::None));
    assert_eq!(serve, ["01-01 00:00"]);
}

#[test]
fn limits_keep_the_newest() {
    let limited = Lateness { limit: 3, ..lateness(CatchUp::All) };
    let (serve, _) = decide("H", "2024-01-01 00:00", "2024-01-01 12:30", limited);
    assert_eq!(serve, ["01-01 10:00", "01-01 11:00", "01-01 12:00"]);
    let (serve, _) = decide("H", "2024-01-01 00:00", "2024-01-01 12:30", Lateness { limit: 0, ..limited });
    assert_eq!(serve, [""; 0]);
}

#[test]
fn cron_is_caught_up_like_everything_else() {
    // celery: missed hours fire once.
    let once = lateness(CatchUp::Once);
    let (serve, next) = decide("30 * * * *", "2010-05-10 07:30", "2010-05-10 10:30", once);
    assert_eq!((serve, next.as_deref()), (vec!["05-10 10:30".to_owned()], Some("05-10 11:30")));
    let (serve, next) = decide("30 * * * *", "2010-05-10 10:30", "2010-05-10 10:29", once);
    assert_eq!((serve, next.as_deref()), (vec![], Some("05-10 10:30")));
    let (serve, next) = decide("*/15 * * * *", "2010-05-10 06:45", "2010-05-10 10:15", once);
    assert_eq!((serve, next.as_deref()), (vec!["05-10 10:15".to_owned()], Some("05-10 10:30")));
    // Served at 10:00, it isn't due a minute early.
    let (serve, next) = decide("*/15 * * * *", "2010-05-10 10:15", "2010-05-10 10:14", once);
    assert_eq!((serve, next.as_deref()), (vec![], Some("05-10 10:15")));
    let (serve, next) = decide("30 7 * * *", "2010-05-10 07:30", "2010-05-10 10:30", once);
    assert_eq!((serve, next.as_deref()), (vec!["05-10 07:30".to_owned()], Some("05-11 07:30")));
}

#[test]
fn deadlines() {
    let hour = Lateness { deadline: Some(TimeDelta::seconds(3600)), ..lateness(CatchUp::Once) };
    let (serve, next) = decide("30 7 * * *", "2022-12-05 07:30", "2022-12-05 10:30", hour);
    assert_eq!((serve, next.as_deref()), (vec![], Some("12-06 07:30")));
    let (serve, _) = decide("30 7 * * *", "2022-12-05 07:30", "2022-12-05 10:30", lateness(CatchUp::Once));
    assert_eq!(serve, ["12-05 07:30"]);
    let (serve, _) = decide("30 7 * * *", "2022-12-05 07:30", "2022-12-05 08:00", hour);
    assert_eq!(serve, ["12-05 07:30"]);
    let (serve, _) = decide("H", "2024-01-01 00:00", "2024-01-01 12:30", Lateness { catch_up: CatchUp::All, ..hour });
    assert_eq!(serve, ["01-01 12:00"]);
    // procrastinate: nothing older than ten minutes.
    let ten = Lateness { deadline: Some(TimeDelta::seconds(600)), ..lateness(CatchUp::All) };
    let (serve, _) = decide("0 0 * * *", "2024-01-01 00:00", "2024-01-01 23:59:59", ten);
    assert_eq!(serve, [""; 0]);
}

#[test]
fn ends() {
    let once = Schedule::new("once", "UTC", "2024-01-01 00:00");
    let found = due(&once.plan(), once.anchor, instant("2024-01-05 00:00"), &lateness(CatchUp::Once));
    assert_eq!((found.serve, found.next), (vec![once.anchor], None));
    // First seen long after its end: the last fire time within it is the newest.
    let ended = Schedule::new("every 5 seconds", "UTC", "2020-01-01 11:35:10").until("2020-01-01 11:35:20");
    let waiting_for = instant("2020-01-01 11:35:15");
    let found = due(&ended.plan(), waiting_for, instant("2020-01-01 11:35:50"), &lateness(CatchUp::Once));
    assert_eq!((found.serve, found.next), (vec![instant("2020-01-01 11:35:20")], None));
    let found = due(&ended.plan(), waiting_for, instant("2020-01-01 11:35:50"), &lateness(CatchUp::None));
    assert_eq!((found.serve, found.next), (vec![], None));
}

#[test]
fn a_year_of_seconds_is_no_work() {
    let (serve, next) = decide("1 second", "2023-01-01 00:00", "2024-01-01 00:00", Lateness { limit: 5, ..lateness(CatchUp::All) });
    assert_eq!((serve.len(), next.as_deref()), (5, Some("01-01 00:00")));
}

#[test]
fn values() {
    assert_eq!(CatchUp::parse("all"), Ok(CatchUp::All));
    assert_eq!(CatchUp::parse("ALL").expect_err("unknown").field, "catch_up");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Serving is the tail of the plain list of all fire times up to now.
    #[test]
    fn the_newest_of_all(
        rule in prop::sample::select(vec!["every 5 to 10 minutes", "*/7 * * * *", "30 2 * * *", "monthly", "90 seconds"]),
        late_seconds in 0i64..200_000,
        limit in 1usize..20,
        deadline in prop::option::of(0i64..100_000),
    ) {
        let schedule = Schedule::new(rule, "Europe/Berlin", "2023-10-28 12:00:00.5");
        let waiting_for = schedule.plan().first().expect("a fire time");
        let now = waiting_for + TimeDelta::seconds(late_seconds);
        let oldest = deadline.map(|seconds| now - TimeDelta::seconds(seconds));
        let mut all: Vec<_> = schedule
            .fire_times(schedule.anchor, 3_000)
            .into_iter()
            .filter(|time| *time <= now && oldest.is_none_or(|oldest| *time >= oldest))
            .collect();
        all.drain(..all.len().saturating_sub(limit));
        let lateness = Lateness {
            catch_up: CatchUp::All,
            limit,
            deadline: deadline.map(TimeDelta::seconds),
            grace: TimeDelta::zero(),
        };
        let found = due(&schedule.plan(), waiting_for, now, &lateness);
        prop_assert_eq!(found.serve, all);
        prop_assert!(found.next.is_none_or(|next| next > now));
    }
}

/// All that is served by parts of `count`, one after the other, each a second after the last, until nothing is promised.
fn in_parts(
    plan: &tenant_q_pure::schedule::next::Plan,
    waiting_for: DateTime<Utc>,
    from: DateTime<Utc>,
    lateness: &Lateness,
    count: usize,
) -> (Vec<DateTime<Utc>>, usize) {
    let (mut served, mut parts, mut now) = (Vec::new(), 0, from);
    let (mut next, mut promised) = (waiting_for, None);
    loop {
        let found = part(plan, next, now, lateness, promised, count);
        assert!(found.serve.len() <= count);
        served.extend(found.serve);
        (parts, now, promised) = (parts + 1, now + TimeDelta::seconds(1), found.promised);
        if promised.is_none() {
            return (served, parts);
        }
        next = found.next.expect("something is promised");
    }
}

#[test]
fn many_are_served_in_parts_and_none_is_pushed_out_meanwhile() {
    let schedule = Schedule::new("1 second", "UTC", "2024-01-01 00:00");
    let (waiting_for, now) = (instant("2024-01-01 00:00"), instant("2024-01-01 12:00"));
    let all = Lateness { limit: 20_000, ..lateness(CatchUp::All) };
    let (served, parts) = in_parts(&schedule.plan(), waiting_for, now, &all, 500);
    // The newest 20,000 of 43,201, whatever came while they were served.
    assert_eq!(served.first(), Some(&(now - TimeDelta::seconds(19_999))));
    assert!(served.windows(2).all(|two| two[1] - two[0] == TimeDelta::seconds(1)));
    assert_eq!((served.len(), parts), (20_000, 40));
    let limited = Lateness { deadline: Some(TimeDelta::seconds(1000)), ..all };
    let (served, _) = in_parts(&schedule.plan(), waiting_for, now, &limited, 400);
    assert_eq!(served.first(), Some(&(now - TimeDelta::seconds(1000))));
    assert_eq!(served.len(), 1001);
    // The others are one at most.
    assert_eq!(part(&schedule.plan(), waiting_for, now, &lateness(CatchUp::Once), Some(now), 500).serve, [now]);
}

proptest! {
    /// However it is cut, the same fire times are served in the same order.
    #[test]
    fn parts_make_the_whole(minutes in 1i64..5000, limit in 1usize..300, count in 1usize..50, rule in "(\\*/7 \\* \\* \\* \\*|3 minutes|0 9-17 \\* \\* mon-fri|every 5 to 10 minutes)") {
        let schedule = Schedule::new(&rule, "Europe/Berlin", "2024-03-29 00:00");
        let plan = schedule.plan();
        let waiting_for = plan.next_after(instant("2024-03-29 00:00")).expect("it fires");
        let now = waiting_for + TimeDelta::minutes(minutes);
        let all = Lateness { limit, ..lateness(CatchUp::All) };
        let mut whole = Vec::new();
        let (mut next, mut promised) = (Some(waiting_for), None);
        while let Some(at) = next.filter(|at| *at <= now) {
            let found = part(&plan, at, now, &all, promised, count);
            prop_assert!(found.serve.len() <= count && !found.serve.is_empty());
            whole.extend(found.serve);
            (next, promised) = (found.next, found.promised);
        }
        let at_once = due(&plan, waiting_for, now, &all);
        prop_assert_eq!((whole, next), (at_once.serve, at_once.next));
    }
}
