//! When a schedule fires next: one that is new, and one that was changed or declared again.
//!
//! What was served isn't served again, whoever declares a schedule however often. Where nothing was changed
//! that decides its fire times, it goes on as if nobody had said anything: what is due and not served yet
//! stays due. Otherwise it fires at the first time of its new rule that is still to come. Two things are
//! made up for: a one-time schedule that has never run because something was wrong with it, and a
//! `next_run` that is asked for by name. Both are releases, as after another schedule: served at once,
//! whatever `catch_up` says of missed times.

use crate::postgres::error::{Error, Result};
use crate::postgres::interval::span_of;
use crate::postgres::row::Row;
use crate::pure::choice::Said;
use crate::pure::schedule::catch_up::CatchUp;
use crate::pure::schedule::next::Plan;
use crate::pure::schedule::setback;
use crate::pure::time::{At, Span, instant, is_date};
use crate::schedules::definition::Definition;
use crate::schedules::follow::Notes;
use crate::tenant::columns::Schedules;
use chrono::{DateTime, TimeDelta, Utc};

/// What a schedule's row is to say of its times.
pub struct Planned {
    pub next: Option<At>,
    /// From when counted rules count.
    pub anchor: At,
    /// How often it may still fire; -1 = for ever.
    pub repeats: i32,
    pub state: Notes,
}

impl Planned {
    /// The next fire time of its rule, whatever it was released for in between.
    pub fn next_of_rule(&self) -> Option<At> {
        if self.state.released.is_some() { self.state.planned } else { self.next }
    }
}

fn never(why: &str) -> Error {
    Error::invalid("the schedule never fires").detail(why.to_string())
}
const NO_FIRE_TIME: &str = "Its rule has no fire time between start_at and until.";

/// A new schedule. `plan` counts from the moment that it is made.
pub fn anew(definition: &Definition, plan: &Plan) -> Result<Planned> {
    let first = plan.first();
    if first.is_none() && definition.repeats != Some(0) {
        check_fires(definition, plan)?;
    }
    Ok(beginning(definition, plan, first))
}

/// A new schedule whose first fire time is known.
pub fn beginning(definition: &Definition, plan: &Plan, first: Option<DateTime<Utc>>) -> Planned {
    let repeats = definition.repeats.unwrap_or(-1);
    let next = first.filter(|_| repeats != 0 && definition.enabled.unwrap_or(true)).map(At::from);
    let state = Notes { granted: definition.repeats.filter(|n| *n > 0), ..Notes::default() };
    Planned { next, anchor: At::from(plan.anchor), repeats, state }
}

/// A plan without a first fire time is one of a schedule that fires all the same, after others; else why it never does.
pub fn check_fires(definition: &Definition, plan: &Plan) -> Result<()> {
    refuse_idle(definition, plan, Plan { active_hours: None, ..*plan }.first().is_some())
}

/// `closed`: it would have a fire time if it weren't for its active hours.
fn refuse_idle(definition: &Definition, plan: &Plan, closed: bool) -> Result<()> {
    match closed {
        _ if plan.rule.is_after() => Ok(()),
        false => Err(never(NO_FIRE_TIME)),
        true if plan.rule.is_once() => Err(never("Its active_hours don't begin again before until.")),
        // What comes after others has fire times that aren't the rule's.
        true if !definition.after().is_empty() => Ok(()),
        true => Err(never("None of its fire times lies in active_hours.")),
    }
}

/// How a definition is put in another one's place.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Parameters were changed: `repeats` is what is left.
    Altered,
    /// It was declared again as a whole: `repeats` is what it has been granted from the beginning.
    Declared,
}

/// A schedule that is there, under a changed definition.
pub struct Redefinition<'a> {
    row: &'a Row<Schedules>,
    old: &'a Definition,
    new: &'a Definition,
    how: How,
    now: At,
    /// Of the new definition, counting from where it would begin if it were new.
    plan: Plan<'a>,
    state: Notes,
    repeats: i32,
    enabled: bool,
    has_run: bool,
    problem: bool,
    /// Counted rules go on counting from the same moment.
    begins_as_before: bool,
    enabled_changed: bool,
    /// Anything was changed that decides when it fires.
    times_changed: bool,
}

impl<'a> Redefinition<'a> {
    pub fn new(row: &'a Row<Schedules>, old: &'a Definition, new: &'a Definition, how: How, plan: Plan<'a>, now: At) -> Redefinition<'a> {
        let state = Notes::of(row);
        let repeats = match how {
            How::Altered => new.repeats.unwrap_or(-1),
            How::Declared => repeats_left(new.repeats, state.granted, old.repeats),
        };
        let enabled = new.enabled.unwrap_or(true);
        let enabled_changed = enabled != old.enabled.unwrap_or(true);
        let problem = row.has(Schedules::PROBLEM);
        let begins_as_before = new.begins_like(old);
        let times_changed = !begins_as_before
            || enabled_changed
            || problem
            || row.get(Schedules::NEXT_RUN).is_none()
            || (new.tz != old.tz || new.until != old.until || new.month_end != old.month_end || new.active_hours != old.active_hours)
            || (repeats == 0) != (old.repeats == Some(0));
        Redefinition {
            row,
            old,
            new,
            how,
            now,
            plan,
            state,
            repeats,
            enabled,
            has_run: row.get(Schedules::RUN_COUNT).unwrap_or(0) > 0,
            problem,
            begins_as_before,
            enabled_changed,
            times_changed,
        }
    }

    pub fn planned(mut self) -> Result<Planned> {
        let stored = if self.state.released.is_some() { self.state.planned } else { self.row.get(Schedules::NEXT_RUN) };
        if self.new.after() != self.old.after() || !self.enabled {
            self.state.start_over();
        }
        let plan = self.going_on().unwrap_or(self.plan);
        let missed = self.missed()?;
        let mut next = if missed.is_some() {
            None
        } else if self.times_changed {
            self.next(&plan)?
        } else {
            stored
        };
        if let Some(missed) = missed {
            self.state.release(missed, None);
        }
        if self.how == How::Declared && plan.rule.fires_once() && next.is_some() && self.has_run && self.times_changed {
            // It has another time, and so is another one.
            self.repeats = self.new.repeats.unwrap_or(-1);
        }
        if !self.enabled || self.repeats == 0 {
            self.state.start_over();
            next = None;
        } else if let Some(released) = self.state.released {
            self.state.planned = next;
            next = Some(released);
        }
        if self.how == How::Declared || self.new.repeats != self.old.repeats {
            self.state.granted = self.new.repeats.filter(|n| *n > 0);
        }
        Ok(Planned { next, anchor: At::from(plan.anchor), repeats: self.repeats, state: self.state })
    }

    /// A one-time schedule that has never fired begins when it is let: there is nothing that its time could
    /// keep to.
    fn begins_anew(&self) -> bool {
        self.plan.rule.fires_once() && self.times_changed && (!self.has_run || self.new.rule != self.old.rule)
    }

    /// The plan counting from where it did; None: it counts anew.
    fn going_on(&self) -> Option<Plan<'a>> {
        let counts_on = self.begins_as_before && (!self.begins_anew() || self.is_overdue());
        let anchor = self.row.get(Schedules::ANCHOR).filter(|t| is_date(*t) && counts_on)?;
        Some(Plan { anchor: instant(anchor), ..self.plan })
    }

    /// The first fire time that isn't past; of one that begins anew, its very first.
    fn next(&self, plan: &Plan) -> Result<Option<At>> {
        let from = instant(self.served_up_to());
        let next = if self.begins_as_before && !self.begins_anew() {
            plan.next_after(from)
        } else {
            plan.first().filter(|t| *t > from || self.begins_anew()).or_else(|| plan.next_after(from))
        };
        if next.is_none() && self.repeats != 0 && self.enabled && self.is_to_fire() {
            if self.plan.rule.fires_once() && self.enabled_changed {
                return Err(never("Its time has passed while it was disabled.").hint("Give it another rule, or use tq_fire()."));
            }
            refuse_idle(self.new, plan, Plan { active_hours: None, ..*plan }.next_after(from).is_some())?;
        }
        Ok(next.map(At::from))
    }

    /// A one-time schedule whose time has passed without a run, because something was wrong with it.
    fn is_overdue(&self) -> bool {
        let at_once_again = self.how == How::Declared && self.plan.rule.is_once() && self.new.start_at.is_none();
        self.plan.rule.fires_once()
            && (self.problem && !self.has_run && self.begins_as_before && !self.enabled_changed)
            && (self.enabled && self.repeats != 0 && !at_once_again)
    }

    /// That time.
    fn missed(&self) -> Result<Option<At>> {
        let Some(plan) = self.going_on().filter(|_| self.is_overdue()) else { return Ok(None) };
        let Some(missed) = plan.next_after(DateTime::<Utc>::MIN_UTC).filter(|t| *t <= instant(self.now)) else { return Ok(None) };
        let late = instant(self.now) - missed;
        if self.new.deadline.is_some_and(|d| late > TimeDelta::from(span_of(&d))) {
            return Err(never("It missed its only fire time, and the deadline has passed.")
                .hint("Give it another rule or a longer deadline, or use tq_fire()."));
        }
        Ok(Some(At::from(missed)))
    }

    /// Until when fire times have been served. A clock that was far ahead tells nothing: see pure/schedule/setback.rs.
    fn served_up_to(&self) -> At {
        let ahead = Span::from(setback::LONG);
        self.row.get(Schedules::LAST_RUN).filter(|t| *t > self.now && *t - self.now < ahead).unwrap_or(self.now)
    }

    /// Whether somebody expects it to fire by what was changed.
    fn is_to_fire(&self) -> bool {
        if self.how == How::Declared && self.plan.rule.fires_once() && self.has_run {
            // Declared again after it has run.
            return false;
        }
        !self.begins_as_before || self.enabled_changed || self.problem || self.row.get(Schedules::NEXT_RUN).is_some()
    }
}

/// What is left of `granted` fire times where `left` are left of those granted before.
fn repeats_left(granted: Option<i32>, before: Option<i32>, left: Option<i32>) -> i32 {
    let Some(granted) = granted.filter(|n| *n >= 0) else { return -1 };
    let used = before.zip(left).map_or(0, |(before, left)| (before - left).max(0));
    (granted - used).max(0)
}

/// `next_run`, asked for by name: in the future it takes the place of the next fire time; in the past it is
/// served at once, even if it was served before.
pub fn run_at(planned: &mut Planned, definition: &Definition, plan: &Plan, at: At, now: At) -> Result<()> {
    let refused = |why: &str| Error::invalid(why.to_string());
    if plan.active_hours.is_some_and(|hours| !hours.contain(plan.zone, instant(at))) {
        return Err(refused("next_run is outside of active_hours"));
    }
    if definition.start_at.is_some_and(|start| at < start) {
        return Err(refused("next_run lies before start_at"));
    }
    if definition.until.is_some_and(|until| at > until) {
        return Err(refused("next_run lies after until"));
    }
    if at > now {
        match planned.state.released {
            Some(_) => planned.state.planned = Some(at),
            None => planned.next = Some(at),
        }
        return Ok(());
    }
    if definition.deadline.is_some_and(|d| now.saturating_since(at) > span_of(&d)) {
        return Err(refused("next_run is further back than the deadline"));
    }
    let rules_own = planned.next_of_rule();
    let then = if definition.catch_up.as_ref().and_then(Said::choice) == Some(CatchUp::All) {
        // Each fire time since then; they stay the rule's own, whatever time this one is.
        Plan { anchor: instant(planned.anchor), back_to: Some(instant(at)), ..*plan }.next_after(instant(at)).map(At::from)
    } else {
        rules_own
    };
    planned.state.release(at, then);
    // Other ones than those that may have been served.
    planned.state.clock += 1;
    planned.next = Some(at);
    Ok(())
}
