//! Local time ↔ instant, and what happens on the days when the clock is changed.
//!
//! Contract:
//! - a wall-clock time in the *gap* (the hour that is skipped in spring) means the instant moved by the
//!   gap: 02:30 → 03:30, for that day only;
//! - a wall-clock time in the *overlap* (the hour that comes twice in autumn) means the first of the two;
//!   PostgreSQL's own `AT TIME ZONE` takes the second, so it must not be used for this;
//! - [`next_fixed`] serves rules that name wall-clock times: every named time fires exactly once, even
//!   where it doesn't exist or comes twice;
//! - [`next_elapsed`] serves rules with `*` or a step in minutes or hours: they fire at every instant at
//!   which the wall clock shows a matching time, so `*/30` keeps firing each half hour of real time.
//!
//! Instants and wall-clock times are whole seconds since 1970 (see `calendar`). The zones and their rules
//! are those of `chrono-tz`, compiled in; after 2099 their last known standard time holds.

use crate::pure::nearest::distance;
use crate::pure::schedule::rule::RuleError;
use std::str::FromStr;

use chrono::{DateTime, MappedLocalTime, Offset, TimeZone, Utc};
use chrono_tz::Tz;

/// Release of the IANA time zone database that is compiled in, such as `2025b`.
pub const TZDATA_VERSION: &str = chrono_tz::IANA_TZDB_VERSION;

/// No zone's offset has ever changed by more than a day (Samoa and Kwajalein crossed the date line), so a
/// change that can influence an instant lies at most this far from it.
const REACH: i64 = 26 * 3600;

/// An elapsed rule may name only times that a gap swallows, year after year (`* 2 * 3 sunL` in Berlin).
/// After a century of gaps in a row it counts as one that never fires.
const GAPS_TRIED: usize = 100;

/// Finds a zone by its IANA name; as in PostgreSQL upper and lower case don't matter.
pub fn parse_zone(name: &str) -> Result<Tz, RuleError> {
    if let Ok(zone) = Tz::from_str(name) {
        return Ok(zone);
    }
    if let Some(zone) = chrono_tz::TZ_VARIANTS.iter().find(|zone| zone.name().eq_ignore_ascii_case(name)) {
        return Ok(*zone);
    }
    let hint = match nearest_name(name) {
        Some(near) => format!("Did you mean \"{near}\"?"),
        None => "Use an IANA name such as \"Europe/Berlin\" or \"UTC\".".to_owned(),
    };
    let message = if name.is_empty() { "time zone is empty".to_owned() } else { format!("time zone \"{}\" is not known", shortened(name)) };
    Err(RuleError { field: "tz", message, position: Some(0), hint: Some(hint) })
}

/// The instant, in seconds, at which a zone's clock shows `local`: moved by the gap, first of an overlap.
pub fn to_instant(zone: Tz, local: i64) -> i64 {
    match resolve(zone, local) {
        Resolved::At(instant) | Resolved::InGap { moved: instant, .. } => instant,
    }
}

/// The same as PostgreSQL has it: of an overlap the second.
pub fn to_last_instant(zone: Tz, local: i64) -> i64 {
    match zone.offset_from_local_datetime(&utc_datetime(local).naive_utc()) {
        MappedLocalTime::Ambiguous(_, last) => local - i64::from(last.fix().local_minus_utc()),
        _ => to_instant(zone, local),
    }
}

/// The instants at which a zone's clock shows `local`: none in a gap, two in an overlap.
pub fn readings(zone: Tz, local: i64) -> [Option<i64>; 2] {
    let instant = |offset: chrono_tz::TzOffset| Some(local - i64::from(offset.fix().local_minus_utc()));
    match zone.offset_from_local_datetime(&utc_datetime(local).naive_utc()) {
        MappedLocalTime::Single(offset) => [instant(offset), None],
        MappedLocalTime::Ambiguous(first, second) => [instant(first), instant(second)],
        MappedLocalTime::None => [None, None],
    }
}

/// What a zone's clock shows at an instant.
pub fn to_local(zone: Tz, instant: i64) -> i64 {
    instant + offset_at(zone, instant)
}

/// First instant after `after` at which a *fixed* rule fires. `next_slot(x)` is the rule's first
/// wall-clock slot at or after `x`.
pub fn next_fixed(zone: Tz, after: i64, next_slot: impl Fn(i64) -> Option<i64>) -> Option<i64> {
    let local = to_local(zone, after);
    let mut from = local + 1;
    let mut still_due = None;
    if let Some(change) = change_within(zone, after - REACH, after) {
        if change.after > change.before {
            // Slots inside a gap that was just left fire shifted, up to the gap's length after it.
            let gap_start = change.at + change.before;
            let gap_end = change.at + change.after;
            still_due = next_slot(gap_start.max(after + change.before + 1)).filter(|slot| *slot < gap_end).map(|slot| slot - change.before);
        } else {
            // In the second pass of an overlap; the first pass has served these wall-clock times.
            from = from.max(change.at + change.before);
        }
    }
    let ahead = next_slot(from).and_then(|slot| match resolve(zone, slot) {
        Resolved::At(instant) => Some(instant),
        // A slot behind the gap may come before the moved one: 02:45 fires at 03:45, after 03:00.
        Resolved::InGap { moved, gap_end } => next_slot(gap_end).map(|slot| to_instant(zone, slot).min(moved)).or(Some(moved)),
    });
    earlier_of(still_due, ahead)
}

/// First instant after `after` at which an *elapsed* rule fires. `next_slot` as in [`next_fixed`].
pub fn next_elapsed(zone: Tz, after: i64, next_slot: impl Fn(i64) -> Option<i64>) -> Option<i64> {
    let offset = offset_at(zone, after);
    let slot = next_slot(after + offset + 1)?;
    let instant = slot - offset;
    match change_within(zone, after, after + REACH) {
        None if instant - after <= REACH => Some(instant),
        Some(change) if instant < change.at => Some(instant),
        Some(change) => {
            // Nothing up to the change: go on from what the clock shows then, which may be earlier
            // (the second pass of an overlap fires again) or later (a gap's slots don't exist).
            resolve_elapsed(zone, next_slot(change.at + change.after)?, change.after, change.at, &next_slot)
        }
        None => resolve_elapsed(zone, slot, offset, after, &next_slot),
    }
}

/// Turns a slot into the first instant that shows it; a slot that falls into a gap gives way to the first
/// one behind the gap. `offset` holds from `known_from` for at least a while.
fn resolve_elapsed(zone: Tz, slot: i64, offset: i64, known_from: i64, next_slot: &impl Fn(i64) -> Option<i64>) -> Option<i64> {
    let instant = slot - offset;
    if instant - known_from <= REACH && offset_at(zone, instant) == offset {
        return Some(instant);
    }
    let mut slot = slot;
    for _ in 0..GAPS_TRIED {
        match resolve(zone, slot) {
            Resolved::At(instant) => return Some(instant),
            Resolved::InGap { gap_end, .. } => slot = next_slot(gap_end)?,
        }
    }
    None
}

fn earlier_of(a: Option<i64>, b: Option<i64>) -> Option<i64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// A change of a zone's offset: at `at` the clock goes from UTC + `before` to UTC + `after`.
struct Transition {
    at: i64,
    before: i64,
    after: i64,
}

/// When the zone's clock is changed in `(start, end]`, a window of about a day.
pub fn changed_at(zone: Tz, start: i64, end: i64) -> Option<i64> {
    change_within(zone, start, end).map(|change| change.at)
}

/// The change of offset in `(start, end]`, a window of about a day, in which there is at most one.
fn change_within(zone: Tz, start: i64, end: i64) -> Option<Transition> {
    let before = offset_at(zone, start);
    let after = offset_at(zone, end);
    if before == after {
        return None;
    }
    let (mut old, mut new) = (start, end);
    while new - old > 1 {
        let middle = old + (new - old) / 2;
        if offset_at(zone, middle) == before {
            old = middle;
        } else {
            new = middle;
        }
    }
    Some(Transition { at: new, before, after })
}

enum Resolved {
    /// The (first) instant at which the clock shows the time.
    At(i64),
    /// The clock never shows the time: the instant moved by the gap, and the first time after the gap.
    InGap { moved: i64, gap_end: i64 },
}

fn resolve(zone: Tz, local: i64) -> Resolved {
    let naive = utc_datetime(local).naive_utc();
    match zone.offset_from_local_datetime(&naive) {
        MappedLocalTime::Single(offset) | MappedLocalTime::Ambiguous(offset, _) => {
            Resolved::At(local - i64::from(offset.fix().local_minus_utc()))
        }
        MappedLocalTime::None => {
            // In a gap, reading the clock with the offset after it gives an instant before it, and the
            // other way round; so two steps always meet both offsets, and the smaller was in force before.
            let one = offset_at(zone, local - offset_at(zone, local));
            let other = offset_at(zone, local - one);
            let before = one.min(other);
            let moved = local - before;
            let gap_end = change_within(zone, moved - REACH, moved).map_or(moved + one.max(other), |change| change.at + change.after);
            Resolved::InGap { moved, gap_end }
        }
    }
}

fn offset_at(zone: Tz, instant: i64) -> i64 {
    let naive = utc_datetime(instant).naive_utc();
    i64::from(zone.offset_from_utc_datetime(&naive).fix().local_minus_utc())
}

fn utc_datetime(seconds: i64) -> DateTime<Utc> {
    // Callers stay within the years 1 to 9999 give or take a day; chrono reaches 262,000 years either way.
    DateTime::from_timestamp(seconds, 0).unwrap_or_default()
}

/// The known zone name with the fewest differing letters, if it is near enough to be a slip of the pen.
fn nearest_name(name: &str) -> Option<&'static str> {
    if name.is_empty() || name.len() > 40 {
        return None;
    }
    let wanted = name.to_ascii_lowercase().replace(' ', "_");
    chrono_tz::TZ_VARIANTS
        .iter()
        .map(|zone| {
            let known = zone.name().to_ascii_lowercase();
            let city = known.rsplit('/').next().unwrap_or_default();
            (distance(&wanted, &known).min(1 + distance(&wanted, city)), zone.name())
        })
        .filter(|(distance, _)| *distance <= 2 && *distance < wanted.len() / 2)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// User text as it is quoted in messages: long input would hide what is wrong with it.
pub fn shortened(text: &str) -> String {
    const SHOWN: usize = 40;
    if text.chars().count() <= SHOWN {
        return text.to_owned();
    }
    text.chars().take(SHOWN).chain(['…']).collect()
}
