//! What a schedule does when the wall clock was set back.
//!
//! Contract: a clock that was set back shows in a schedule's own row: it ran, or was made, at a time that
//! is yet to come. Set back by less than [`LONG`], a rule that names wall-clock times keeps waiting for
//! its next fire time, for the times that come again have been served; a rule that counts real time goes
//! on counting, else it would be silent until the clock is where it was. Set back by more, the clock was
//! wrong before and is right now: every rule goes by the new time. (So does cron, with the same limit.)
//!
//! A clock that was set forward needs nothing: what was passed over is late, see `catch_up`.

use crate::pure::schedule::next::Plan;
use chrono::{DateTime, TimeDelta, Utc};

/// Less is how clocks are kept right, and how far apart two reads of one may be.
pub const UNNOTICED: TimeDelta = TimeDelta::seconds(5);
/// From here on the clock was wrong, rather than adjusted.
pub const LONG: TimeDelta = TimeDelta::hours(3);

/// A plan made anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replanned {
    pub next: DateTime<Utc>,
    /// Where counted rules begin from now on.
    pub anchor: DateTime<Utc>,
}

/// Whether the schedule must wait for another fire time. `waiting_for`: the stored one. `last_run`: when it
/// last ran, if ever.
pub fn replan(plan: &Plan, waiting_for: Option<DateTime<Utc>>, last_run: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Option<Replanned> {
    if plan.rule.fires_once() {
        return None;
    }
    let made = if plan.start_at.is_none() { Some(plan.anchor) } else { None };
    let back = last_run.max(made)?.signed_duration_since(now);
    if back <= UNNOTICED || back < LONG && !plan.rule.counts_elapsed_time() {
        return None;
    }
    let anchor = plan.anchor.min(now);
    let next = Plan { anchor, ..*plan }.next_after(now)?;
    waiting_for.is_none_or(|waiting_for| next < waiting_for).then_some(Replanned { next, anchor })
}
