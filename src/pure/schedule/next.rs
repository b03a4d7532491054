//! The next fire time of a schedule.
//!
//! Contract of [`Plan::next_after`]: the first fire time strictly after `after`, not before `start_at`, not
//! after `until`; a function of its arguments alone. Asked with its own answer it walks through all fire
//! times in strictly ascending order, and asked with any instant between two of them it gives the later
//! one: a clock that jumps, a restart or a missed wake-up can't move a schedule off its fire times.
//!
//! Rules that count (intervals, calendar periods, random gaps) compute fire time n from the anchor, never
//! from the previous one, so nothing drifts; the anchor itself is one only as a given `start_at`. They
//! find n by division, so a schedule that slept for a year costs no more than one that fired a second ago.
//!
//! Closed active hours are passed over from one opening to the next, not fire time by fire time.

use crate::pure::schedule::active_hours::ActiveHours;
use crate::pure::schedule::calendar::{DAY, FIRST_SECOND, LAST_SECOND, date_from_days, days_from_date, month_length};
use crate::pure::schedule::cron::Cron;
use crate::pure::schedule::rule::{CalendarUnit, Form, MonthEnd, Rule};
use crate::pure::schedule::spread::random_below;
use crate::pure::schedule::zone;
use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;

/// Months without the wanted day in a row before a rule counts as exhausted; February 29th pauses for at
/// most 8 years, and a period that only ever meets short months never fires again.
const MONTHS_SKIPPED_MAX: i64 = 400;

/// Openings of the active hours that are looked into for a fire time: a rule that meets none of so many is one
/// that never fires. Daily ones are enough for ten years, and so for what moves with the seasons.
const OPENINGS: usize = 4_000;

/// A schedule as far as time is concerned.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    pub rule: &'a Rule,
    pub zone: Tz,
    /// When the schedule was created; counted rules begin here unless there is a `start_at`.
    pub anchor: DateTime<Utc>,
    /// First instant at which the schedule may fire. Counted rules begin exactly here.
    pub start_at: Option<DateTime<Utc>>,
    /// Last instant at which the schedule may fire.
    pub until: Option<DateTime<Utc>>,
    /// When it may fire; `once` waits for them.
    pub active_hours: Option<&'a ActiveHours>,
    /// Counted rules count back from their anchor too, as far as this: somebody has asked for fire times from before.
    pub back_to: Option<DateTime<Utc>>,
    pub month_end: MonthEnd,
    /// Decides the gaps of random rules; the same seed gives the same gaps.
    pub seed: u64,
}

impl Plan<'_> {
    /// The first fire time strictly after `after`; `None` when there are no more.
    pub fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let just_before_start = self.start_at.and_then(|start| start.checked_sub_signed(TimeDelta::nanoseconds(1)));
        let after = just_before_start.map_or(after, |start| after.max(start));
        let slot = match self.active_hours {
            None => self.slot_after(after)?,
            Some(hours) => self.open_slot_after(hours, after)?,
        };
        self.is_in_time(slot).then_some(slot)
    }

    fn is_in_time(&self, slot: DateTime<Utc>) -> bool {
        self.until.is_none_or(|until| slot <= until)
    }

    /// The first fire time after `after` that lies in the active hours.
    fn open_slot_after(&self, hours: &ActiveHours, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        if self.rule.is_once() {
            return self.once().filter(|slot| *slot > after);
        }
        let mut slot = self.slot_after(after)?;
        for _ in 0..OPENINGS {
            if hours.contain(self.zone, slot) {
                return Some(slot);
            }
            let opening = hours.next_opening(self.zone, slot).filter(|opening| self.is_in_time(*opening))?;
            slot = self.slot_after(opening - TimeDelta::nanoseconds(1))?;
        }
        None
    }

    /// When `once` fires.
    fn once(&self) -> Option<DateTime<Utc>> {
        let origin = self.origin();
        match self.active_hours {
            Some(hours) if !hours.contain(self.zone, origin) => hours.next_opening(self.zone, origin),
            _ => Some(origin),
        }
    }

    /// The first fire time of a new schedule. Counted rules first fire one period after their anchor;
    /// `once` fires at it, and everything may fire at a given `start_at` itself.
    pub fn first(&self) -> Option<DateTime<Utc>> {
        match (self.start_at, &self.rule.form) {
            (None, Form::Once) => self.once().filter(|once| self.is_in_time(*once)),
            (None, _) => self.next_after(self.anchor),
            (Some(start), _) => self.next_after(start.checked_sub_signed(TimeDelta::nanoseconds(1))?),
        }
    }

    /// Where counted rules begin.
    fn origin(&self) -> DateTime<Utc> {
        self.start_at.unwrap_or(self.anchor)
    }

    /// The first fire time after `after`, whatever the active hours.
    fn slot_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let origin = self.origin();
        // Rules without a time of their own keep the anchor's fraction of a second. All arithmetic below
        // is in whole seconds: the fraction is taken off the question and put back on the answer.
        let fraction = match &self.rule.form {
            Form::Interval { .. } | Form::Random { .. } | Form::Once => origin.timestamp_subsec_nanos(),
            Form::Calendar { at: None, .. } | Form::Weekdays { at: None, .. } => origin.timestamp_subsec_nanos(),
            Form::At(timestamp) => timestamp.nanosecond,
            _ => 0,
        };
        let origin = origin.timestamp();
        let after = after.timestamp() - i64::from(after.timestamp_subsec_nanos() < fraction);
        if after > LAST_SECOND || !(FIRST_SECOND..=LAST_SECOND).contains(&origin) {
            return None;
        }
        let after = after.max(FIRST_SECOND);
        // What counts from its making fires one period after it for the first time, whoever asks from before.
        let slot = if self.start_at.is_some() || !self.rule.counts() {
            self.slot(origin, after, false)
        } else {
            let back = self.back_to.map(|back_to| after.max(back_to.timestamp().saturating_sub(1))).filter(|after| *after < origin);
            let before = back.and_then(|after| self.slot(origin, after, true)).filter(|slot| *slot <= origin);
            before.or_else(|| self.slot(origin, after.max(origin), false))
        };
        let slot = slot.filter(|slot| (FIRST_SECOND..=LAST_SECOND).contains(slot))?;
        DateTime::from_timestamp(slot, fraction)
    }

    /// The same in whole seconds. `back`: periods before the origin count too.
    fn slot(&self, origin: i64, after: i64, back: bool) -> Option<i64> {
        match &self.rule.form {
            Form::Cron(cron) => self.cron(cron, after),
            Form::Interval { seconds } => Some(match after - origin {
                elapsed if elapsed < 0 && !back => origin,
                elapsed => origin + (elapsed.div_euclid(*seconds) + 1) * seconds,
            }),
            Form::Random { min, max } => self.random(*min, *max, origin, after, back),
            Form::Calendar { every, unit: CalendarUnit::Day, at } => self.days(*every, *at, origin, after, back),
            Form::Calendar { every, unit: CalendarUnit::Month, at } => self.months(*every, *at, origin, after, back),
            Form::Weekdays { days, at } => {
                let at = at.unwrap_or_else(|| second_of_day(zone::to_local(self.zone, origin)));
                self.cron(&Cron::on_weekdays(*days, at), after)
            }
            Form::Aligned { every, unit, at } => self.aligned(*every, *unit, *at, origin, after, back),
            Form::Once => Some(origin).filter(|instant| *instant > after),
            Form::At(timestamp) => Some(timestamp.instant(self.zone)).filter(|instant| *instant > after),
            Form::Solar(solar) => solar.next_after(after),
            Form::After { .. } => None,
        }
    }

    fn cron(&self, cron: &Cron, after: i64) -> Option<i64> {
        let next_slot = |from| cron.next_slot(from);
        if cron.elapsed { zone::next_elapsed(self.zone, after, next_slot) } else { zone::next_fixed(self.zone, after, next_slot) }
    }

    /// Gaps between `min` and `max` without a chain of draws: fire time n lies at n mean gaps, moved by up
    /// to a quarter of the spread either way, so neighbours are always `min` to `max` apart.
    fn random(&self, min: i64, max: i64, origin: i64, after: i64, back: bool) -> Option<i64> {
        let reach = ((max - min) / 4) as u64;
        let slot = |n: i64| {
            let moved = match n {
                0 => 0,
                _ => random_below(self.seed, n as u64, 2 * reach + 1) as i64 - reach as i64,
            };
            Some(origin + n.checked_mul(min + max)?.div_euclid(2) + moved)
        };
        let nearly = (2 * (after - origin)).div_euclid(min + max) - 1;
        (from_period(nearly, 0, back)..).map_while(slot).find(|instant| *instant > after)
    }

    /// Every n days of the wall clock.
    fn days(&self, every: i64, at: Option<u32>, origin: i64, after: i64, back: bool) -> Option<i64> {
        let start = zone::to_local(self.zone, origin);
        let start_day = start.div_euclid(DAY);
        let second = i64::from(at.unwrap_or_else(|| second_of_day(start)));
        let passed = zone::to_local(self.zone, after).div_euclid(DAY) - start_day;
        let nearly = passed.div_euclid(every) - 1;
        (from_period(nearly, self.first_period(every == 1, at), back)..)
            .map(|n| (n, (start_day + n * every) * DAY + second))
            .take_while(|(_, local)| *local <= LAST_SECOND)
            .map(|(n, local)| self.counted_instant(n, at, origin, local))
            .find(|instant| *instant > after && (back || *instant >= origin))
    }

    /// Every n months of the wall clock, on the origin's day of the month.
    fn months(&self, every: i64, at: Option<u32>, origin: i64, after: i64, back: bool) -> Option<i64> {
        let start = zone::to_local(self.zone, origin);
        let (start_year, start_month, day) = date_from_days(start.div_euclid(DAY));
        let second = i64::from(at.unwrap_or_else(|| second_of_day(start)));
        let months_at_start = start_year * 12 + i64::from(start_month) - 1;
        let (year, month, _) = date_from_days(zone::to_local(self.zone, after).div_euclid(DAY));
        let passed = year * 12 + i64::from(month) - 1 - months_at_start;
        let nearly = from_period(passed.div_euclid(every) - 1, self.first_period(false, at), back);
        let month_of = |n: i64| {
            let months = months_at_start + n * every;
            (months.div_euclid(12), months.rem_euclid(12) as u32 + 1)
        };
        let length_of = |n: i64| {
            let (year, month) = month_of(n);
            month_length(year, month)
        };
        // Sticky: the shortest month met so far counts, and none is shorter than 28 days.
        let mut sticky_day = day;
        if self.month_end == MonthEnd::Sticky {
            for n in 1..nearly {
                if sticky_day <= 28 {
                    break;
                }
                sticky_day = sticky_day.min(length_of(n));
            }
        }
        for n in nearly..nearly + MONTHS_SKIPPED_MAX {
            let (year, month) = month_of(n);
            if year > 9999 {
                return None;
            }
            let length = month_length(year, month);
            if n > 0 {
                sticky_day = sticky_day.min(length);
            }
            let day = match self.month_end {
                MonthEnd::Skip if day > length => continue,
                MonthEnd::Skip => day,
                MonthEnd::Clamp => day.min(length),
                MonthEnd::Sticky => sticky_day.min(length),
            };
            let local = days_from_date(year, month, day) * DAY + second;
            let instant = self.counted_instant(n, at, origin, local);
            if instant > after && (back || instant >= origin) {
                return Some(instant);
            }
        }
        None
    }

    /// The number of the first period that fires. A daily time may still come on the first day itself; but
    /// who asks for every third day at 10:30 means three days from now, unless told where to start.
    fn first_period(&self, daily: bool, at: Option<u32>) -> i64 {
        i64::from(at.is_some() && !daily && self.start_at.is_none())
    }

    /// Period 0 is the origin itself, even in the second pass of an overlap.
    fn counted_instant(&self, n: i64, at: Option<u32>, origin: i64, local: i64) -> i64 {
        if n == 0 && at.is_none() { origin } else { zone::to_instant(self.zone, local) }
    }

    /// Every n hours (or minutes) of the wall clock, so many seconds into the hour: elapsed time, like `*/n`.
    fn aligned(&self, every: i64, unit: i64, at: i64, origin: i64, after: i64, back: bool) -> Option<i64> {
        let start_unit = zone::to_local(self.zone, origin).div_euclid(unit);
        let first_unit = start_unit + if every > 1 && self.start_at.is_none() { every } else { 0 };
        zone::next_elapsed(self.zone, if back { after } else { after.max(origin - 1) }, |from| {
            let from_unit = from_period((from - at + unit - 1).div_euclid(unit), first_unit, back);
            let periods = (from_unit - start_unit + every - 1).div_euclid(every);
            let slot = (start_unit + periods * every) * unit + at;
            (slot <= LAST_SECOND).then_some(slot)
        })
    }
}

/// The number of the first period that is looked at, where `first` is the first one that fires unless it counts back.
fn from_period(nearly: i64, first: i64, back: bool) -> i64 {
    if back { nearly } else { nearly.max(first) }
}

fn second_of_day(local: i64) -> u32 {
    local.rem_euclid(DAY) as u32
}
