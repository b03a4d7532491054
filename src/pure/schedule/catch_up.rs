//! Missed fire times: which of them are still served.
//!
//! Contract: given the fire time a schedule waits for, and now, [`due`] says which fire times to serve, in
//! ascending order, and which one to wait for next. It never looks at more fire times than it returns
//! (plus a logarithm), however long the server was down and however often the schedule fires.
//!
//! - `once` serves the newest missed fire time only: after an outage the state of today matters, and it is
//!   the newest one whose deadline passes last.
//! - `all` serves each, but of more than `limit` only the newest `limit`.
//! - `none` serves a fire time only if it was seen in time, that is within `grace`.
//! - A fire time older than `deadline` is not served in any mode.

use crate::pure::choice::{Named, choices};
use crate::pure::schedule::next::Plan;
use crate::pure::schedule::rule::RuleError;
use chrono::{DateTime, TimeDelta, Utc};

choices! {
    /// What to do about fire times that passed while nobody was there.
    #[derive(Default)]
    pub enum CatchUp {
        #[default]
        Once = "once",
        All = "all",
        None = "none",
    }

    /// What to do at a fire time while the task of an earlier one has not finished.
    pub enum Overlap {
        /// One runs, one waits, the rest coalesce with the one that waits.
        Queue = "queue",
        /// Each has a task of its own.
        Allow = "allow",
        /// It is left out.
        Skip = "skip",
        /// As `queue`, but a task that waits for its retry fails for good, and the one of this fire time takes its place.
        Renew = "renew",
    }
}

impl CatchUp {
    /// Parses the value of the `catch_up` parameter.
    pub fn parse(text: &str) -> Result<CatchUp, RuleError> {
        CatchUp::of(text).ok_or_else(|| RuleError::unknown::<CatchUp>("catch_up", text))
    }

    /// Where nothing else is said: all that is made up for has tasks of its own.
    pub fn overlap(self) -> Overlap {
        match self {
            CatchUp::All => Overlap::Allow,
            CatchUp::Once | CatchUp::None => Overlap::Queue,
        }
    }
}

/// How a schedule treats fire times it is late for.
#[derive(Clone, Copy, Debug)]
pub struct Lateness {
    pub catch_up: CatchUp,
    /// Most fire times `all` serves at a time.
    pub limit: usize,
    /// Age beyond which a fire time is no longer served.
    pub deadline: Option<TimeDelta>,
    /// Age up to which a fire time counts as seen in time; how punctual the caller is at its best.
    pub grace: TimeDelta,
}

/// What is to be done now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// Fire times to serve, oldest first.
    pub serve: Vec<DateTime<Utc>>,
    /// The first fire time after now; `None` when there are no more.
    pub next: Option<DateTime<Utc>>,
}

/// Decides about the fire times from `waiting_for` (the schedule's stored next fire time) up to `now`.
/// A plan that counts from later on than it waits for was sent back to there, and counts back to it.
pub fn due(plan: &Plan, waiting_for: DateTime<Utc>, now: DateTime<Utc>, lateness: &Lateness) -> Due {
    let plan = &Plan { back_to: Some(waiting_for), ..*plan };
    if waiting_for > now {
        return Due { serve: Vec::new(), next: Some(waiting_for) };
    }
    let oldest_wanted = match lateness.catch_up {
        CatchUp::None => lateness.deadline.map_or(lateness.grace, |deadline| deadline.min(lateness.grace)),
        _ => lateness.deadline.unwrap_or(TimeDelta::MAX),
    };
    let oldest = now.checked_sub_signed(oldest_wanted).map_or(waiting_for, |oldest| oldest.max(waiting_for));
    let count = match lateness.catch_up {
        CatchUp::All => lateness.limit,
        CatchUp::Once | CatchUp::None => 1,
    };
    let mut serve: Vec<DateTime<Utc>> = Vec::new();
    let mut before = now;
    // The gap between the last two is mostly the next one, too.
    let mut reach = TimeDelta::seconds(1);
    while serve.len() < count
        && let Some(slot) = newest_slot(plan, waiting_for, oldest, before, reach)
    {
        reach = serve.last().map_or(reach, |newer| *newer - slot);
        serve.push(slot);
        before = slot - TimeDelta::nanoseconds(1);
    }
    serve.reverse();
    Due { serve, next: plan.next_after(now) }
}

/// What one transaction is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Fire times to serve, oldest first.
    pub serve: Vec<DateTime<Utc>>,
    /// The fire time to go on with, which may be due already; `None` when there are no more.
    pub next: Option<DateTime<Utc>>,
    /// All fire times from `next` up to this one are to be served, however many are due by then.
    pub promised: Option<DateTime<Utc>>,
}

/// As [`due`], but at most `count` fire times: those behind them stay due. `promised` is what the part
/// before this one has said.
pub fn part(
    plan: &Plan,
    waiting_for: DateTime<Utc>,
    now: DateTime<Utc>,
    lateness: &Lateness,
    promised: Option<DateTime<Utc>>,
    count: usize,
) -> Part {
    let promised = promised.filter(|promised| lateness.catch_up == CatchUp::All && waiting_for <= *promised && *promised <= now);
    let Some(promised) = promised else {
        let Due { mut serve, next } = due(plan, waiting_for, now, lateness);
        let Some(rest) = serve.get(count).copied() else { return Part { serve, next, promised: None } };
        let last = serve.last().copied();
        serve.truncate(count);
        return Part { serve, next: Some(rest), promised: last };
    };
    let plan = &Plan { back_to: Some(waiting_for), ..*plan };
    // Walked forwards: how many there are is known to be few enough.
    let oldest = lateness.deadline.and_then(|deadline| now.checked_sub_signed(deadline)).unwrap_or(waiting_for);
    let mut slot = if oldest <= waiting_for { Some(waiting_for) } else { plan.next_after(oldest - TimeDelta::nanoseconds(1)) };
    let mut serve = Vec::new();
    while serve.len() < count
        && let Some(at) = slot.filter(|at| *at <= promised)
    {
        serve.push(at);
        slot = plan.next_after(at);
    }
    Part { serve, next: slot, promised: slot.filter(|at| *at <= promised).map(|_| promised) }
}

/// The newest fire time in `oldest..=newest`. `waiting_for` counts as one even if the plan, altered since,
/// no longer names it: the schedule was promised it.
/// `reach`: it is likely to be that far back.
fn newest_slot(
    plan: &Plan,
    waiting_for: DateTime<Utc>,
    oldest: DateTime<Utc>,
    newest: DateTime<Utc>,
    mut reach: TimeDelta,
) -> Option<DateTime<Utc>> {
    if oldest > newest {
        return None;
    }
    let slot_from = |from: DateTime<Utc>| {
        let slot = plan.next_after(from - TimeDelta::nanoseconds(1)).filter(|slot| *slot <= newest);
        if from <= waiting_for { Some(slot.map_or(waiting_for, |slot| slot.min(waiting_for))) } else { slot }
    };
    // Reach back twice as far each time, then halve the step in which a slot appeared: a schedule that
    // fires every second and one that fires once a year both take some dozens of questions.
    let mut empty_from = newest + TimeDelta::nanoseconds(1);
    let mut found = loop {
        let from = newest.checked_sub_signed(reach).map_or(oldest, |from| from.max(oldest));
        match slot_from(from) {
            Some(slot) => break slot,
            None if from == oldest => return None,
            None => empty_from = from,
        }
        reach = reach.checked_mul(2).unwrap_or(TimeDelta::MAX);
    };
    // Mostly that was the newest one: a few steps forward tell without halving anything.
    for _ in 0..4 {
        match plan.next_after(found).filter(|slot| *slot <= newest) {
            None => return Some(found),
            Some(slot) => found = slot,
        }
    }
    loop {
        let gap = empty_from - found;
        if gap <= TimeDelta::microseconds(1) {
            return Some(found);
        }
        let middle = found + gap / 2;
        match slot_from(middle) {
            Some(slot) => found = slot,
            None => empty_from = middle,
        }
    }
}
