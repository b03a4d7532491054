//! A clock that is set back: nothing is silent, and what was served is not served again.

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;
use tenant_q_pure::schedule::next::Plan;
use tenant_q_pure::schedule::rule::{MonthEnd, Rule};
use tenant_q_pure::schedule::setback::{LONG, Replanned, UNNOTICED, replan};

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn plan<'a>(rule: &'a Rule, anchor: &str) -> Plan<'a> {
    let anchor = at(anchor);
    Plan {
        rule,
        zone: chrono_tz::UTC,
        anchor,
        start_at: None,
        until: None,
        active_hours: None,
        back_to: None,
        month_end: MonthEnd::Clamp,
        seed: 1,
    }
}

const MADE: &str = "2026-01-01T12:00:00Z";

/// What the schedule waits for when the clock, at `from`, is set to `to`; it ran punctually until `from`.
fn after_jump(rule: &str, from: &str, to: &str) -> Option<DateTime<Utc>> {
    let rule = Rule::parse(rule, false).unwrap();
    let plan = plan(&rule, MADE);
    let waiting_for = plan.next_after(at(from));
    // The last fire time up to `from`.
    let mut last = None;
    let mut slot = plan.first();
    while let Some(s) = slot.filter(|s| *s <= at(from)) {
        last = Some(s);
        slot = plan.next_after(s);
    }
    replan(&plan, waiting_for, last, at(to)).map_or(waiting_for, |r| Some(r.next))
}

#[test]
fn what_counts_real_time_goes_on_and_what_names_a_time_is_not_repeated() {
    for (rule, from, to, next) in [
        // Minutes back: an interval goes on, a time of day that has been served doesn't come again.
        ("10 seconds", "2026-01-02T02:05:00Z", "2026-01-02T01:55:00Z", "2026-01-02T01:55:10Z"),
        ("* * * * *", "2026-01-02T02:05:00Z", "2026-01-02T01:55:00Z", "2026-01-02T01:56:00Z"),
        ("0 2 * * *", "2026-01-02T02:05:00Z", "2026-01-02T01:55:00Z", "2026-01-03T02:00:00Z"),
        ("daily at 02:00", "2026-01-02T02:05:00Z", "2026-01-02T00:05:00Z", "2026-01-03T02:00:00Z"),
        // Nothing ran meanwhile: nothing is to be decided.
        ("0 2 * * *", "2026-01-02T01:55:00Z", "2026-01-02T00:05:00Z", "2026-01-02T02:00:00Z"),
        // Hours and years back: the clock was wrong.
        ("0 2 * * *", "2026-01-02T05:30:00Z", "2026-01-01T22:30:00Z", "2026-01-02T02:00:00Z"),
        ("0 2 * * *", "2027-01-02T05:30:00Z", "2026-01-01T22:30:00Z", "2026-01-02T02:00:00Z"),
        ("1 hour", "2027-01-02T05:30:00Z", "2026-01-01T22:30:00Z", "2026-01-01T23:00:00Z"),
        ("weekly", "2027-01-02T05:30:00Z", "2026-01-01T22:30:00Z", "2026-01-08T12:00:00Z"),
        // Before it was made: it counts from now.
        ("1 hour", "2026-01-02T12:00:00Z", "2025-06-01T10:30:00Z", "2025-06-01T11:30:00Z"),
        ("weekly", "2026-01-02T12:00:00Z", "2025-06-01T10:30:00Z", "2025-06-08T10:30:00Z"),
        // As clocks are kept right every day.
        ("10 seconds", "2026-01-02T02:05:00Z", "2026-01-02T02:04:57Z", "2026-01-02T02:05:10Z"),
    ] {
        assert_eq!(after_jump(rule, from, to), Some(at(next)), "{rule}, from {from} to {to}");
    }
}

#[test]
fn random_gaps_go_on_too() {
    let to = at("2026-01-02T01:06:00Z");
    let found = after_jump("every 5 to 10 minutes", "2026-01-02T03:05:00Z", "2026-01-02T01:06:00Z").unwrap();
    assert!(found > to && found <= to + TimeDelta::minutes(10), "{found}");
}

#[test]
fn what_fires_once_or_after_others_stays() {
    for rule in ["once", "2030-01-01 10:30", "after"] {
        let rule = Rule::parse(rule, false).unwrap();
        let plan = plan(&rule, MADE);
        assert_eq!(replan(&plan, plan.first(), Some(at("2026-02-01T00:00:00Z")), at("2020-01-01T00:00:00Z")), None);
    }
}

#[test]
fn a_schedule_that_ended_in_a_wrong_year_goes_on() {
    let rule = Rule::parse("0 2 * * *", false).unwrap();
    let plan = Plan { until: Some(at("2026-06-01T00:00:00Z")), ..plan(&rule, MADE) };
    let last = Some(at("2031-01-01T00:00:00Z"));
    let found = replan(&plan, None, last, at("2026-02-01T00:00:00Z"));
    assert_eq!(found, Some(Replanned { next: at("2026-02-01T02:00:00Z"), anchor: at(MADE) }));
}

proptest! {
    /// However far back: the new fire time lies after now and before the old one, and asked again with it
    /// there is nothing left to do until it has run. Whoever isn't told a new one waits no longer than
    /// for its rule's next fire time and the time that the clock was off.
    #[test]
    fn never_silent_and_never_at_once(
        rule in prop::sample::select(vec!["10 seconds", "* * * * *", "0 2 * * *", "every 3 days", "monthly", "0 22 * * mon-fri"]),
        ran in 0i64..40_000_000,
        back in 0i64..80_000_000,
    ) {
        let rule = Rule::parse(rule, false).unwrap();
        let plan = plan(&rule, MADE);
        let last = plan.anchor + TimeDelta::seconds(ran);
        let waiting_for = plan.next_after(last).unwrap();
        let now = last - TimeDelta::seconds(back);
        match replan(&plan, Some(waiting_for), Some(last), now) {
            Some(new) => {
                prop_assert!(back > UNNOTICED.num_seconds());
                prop_assert!(new.next > now && new.next < waiting_for);
                prop_assert!(new.anchor <= now || new.anchor == plan.anchor);
                let again = Plan { anchor: new.anchor, ..plan };
                prop_assert_eq!(replan(&again, Some(new.next), Some(last), now), None);
            }
            None if TimeDelta::seconds(back) >= LONG => prop_assert!(plan.next_after(now).is_some_and(|next| next >= waiting_for)),
            None => prop_assert!(waiting_for > now),
        }
    }
}
