//! Tests of the schedule arithmetic.
//!
//! `cases`: exact expected values, among them those of the test suites of celery, django-q2, schedule,
//! rocketry and procrastinate. `errors`: every way of writing a rule wrongly; `meant`: what the hint says instead, and when that fires. `brute_force`: random rules,
//! zones and instants against an enumeration; `zones`: the same for every zone. `second_opinion` and
//! `croniter`: random cron expressions against four other implementations.

mod active_hours;
mod brute_force;
mod cases;
mod catch_up;
mod cost;
mod croniter;
mod describe;
mod errors;
mod generator;
mod meant;
mod second_opinion;
mod setback;
mod solar;
mod spread;
mod zones;

use chrono::{DateTime, Utc};
use tenant_q_pure::schedule::active_hours::ActiveHours;
use tenant_q_pure::schedule::next::Plan;
use tenant_q_pure::schedule::rule::{MonthEnd, Rule};
use tenant_q_pure::schedule::zone::parse_zone;

/// A schedule under test: everything but the rule has a default.
pub struct Schedule {
    pub rule: Rule,
    pub zone: chrono_tz::Tz,
    pub anchor: DateTime<Utc>,
    pub start_at: Option<DateTime<Utc>>,
    pub until: Option<DateTime<Utc>>,
    pub active_hours: Option<ActiveHours>,
    pub back_to: Option<DateTime<Utc>>,
    pub month_end: MonthEnd,
    pub seed: u64,
}

impl Schedule {
    pub fn new(rule: &str, zone: &str, anchor: &str) -> Schedule {
        let rule = match Rule::parse(rule, false) {
            Ok(rule) => rule,
            Err(error) => panic!("{rule:?} is refused: {error}"),
        };
        Schedule {
            rule,
            zone: parse_zone(zone).expect("a known zone"),
            anchor: instant(anchor),
            start_at: None,
            until: None,
            active_hours: None,
            back_to: None,
            month_end: MonthEnd::Clamp,
            seed: 1,
        }
    }

    pub fn day_and(mut self, rule: &str) -> Schedule {
        self.rule = Rule::parse(rule, true).expect("a valid rule");
        self
    }

    pub fn starting(mut self, start_at: &str) -> Schedule {
        self.start_at = Some(instant(start_at));
        self
    }

    pub fn until(mut self, until: &str) -> Schedule {
        self.until = Some(instant(until));
        self
    }

    pub fn within(mut self, hours: &str) -> Schedule {
        self.active_hours = Some(ActiveHours::parse(hours).unwrap_or_else(|error| panic!("{error}")));
        self
    }

    pub fn month_end(mut self, month_end: MonthEnd) -> Schedule {
        self.month_end = month_end;
        self
    }

    pub fn plan(&self) -> Plan<'_> {
        Plan {
            rule: &self.rule,
            zone: self.zone,
            anchor: self.anchor,
            start_at: self.start_at,
            until: self.until,
            active_hours: self.active_hours.as_ref(),
            back_to: self.back_to,
            month_end: self.month_end,
            seed: self.seed,
        }
    }

    /// The first `n` fire times after an instant, checked to ascend; fewer if the schedule is exhausted.
    pub fn fire_times(&self, after: DateTime<Utc>, n: usize) -> Vec<DateTime<Utc>> {
        let plan = self.plan();
        std::iter::successors(plan.next_after(after), |previous| {
            let next = plan.next_after(*previous);
            assert!(next.is_none_or(|next| next > *previous), "{:?} after {previous}", self.rule);
            next
        })
        .take(n)
        .collect()
    }
}

/// An instant as the tables write them: `2023-03-26 01:30`, with or without seconds, in UTC.
pub fn instant(text: &str) -> DateTime<Utc> {
    let text = text.replace(' ', "T");
    let seconds = if text.len() == "2023-03-26T01:30".len() { ":00" } else { "" };
    match format!("{text}{seconds}Z").parse() {
        Ok(instant) => instant,
        Err(error) => panic!("{text:?} is not an instant: {error}"),
    }
}
