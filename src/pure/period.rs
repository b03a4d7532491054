//! Lengths of time as people mean them: a month and a day are as long as the calendar and the clock of a zone make them.
//!
//! They are added as PostgreSQL adds an interval to a timestamptz: the months to what the clock of the zone shows, then the
//! days, then the rest as time that passes. A day that the month hasn't is its last one; a time that the clock skips is
//! that much later; of one that comes twice it is the second.

use crate::pure::schedule::zone;
use crate::pure::time::{At, Span, instant};
use chrono::{Days, Months, NaiveDateTime};
use chrono_tz::Tz;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Months, days and microseconds apart, each perhaps negative. In documents the number of microseconds, or all three in an
/// array where there are months or days.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Period {
    pub months: i32,
    pub days: i32,
    pub micros: i64,
}

impl Period {
    /// How long it is where a month counts 30 days and a day 24 hours.
    pub const fn span(self) -> Span {
        const DAY: i64 = Span::DAY.micros();
        let months = (self.months as i64).saturating_mul(30 * DAY);
        Span::of_micros(months.saturating_add((self.days as i64).saturating_mul(DAY)).saturating_add(self.micros))
    }

    /// No zone's calendar and clock make it shorter: no month has less than 28 days, and no clock is set by more than 26
    /// hours, from the west of the date line to its east.
    pub const fn at_least(self) -> Span {
        if self.months == 0 && self.days == 0 {
            return Span::of_micros(self.micros);
        }
        let month = if self.months < 0 { 31 } else { 28 };
        let days = (self.months as i64) * month + self.days as i64;
        let clock = 26 * Span::HOUR.micros();
        Span::of_micros(days.saturating_mul(Span::DAY.micros()).saturating_add(self.micros).saturating_sub(clock))
    }

    pub const fn is_negative(self) -> bool {
        self.span().is_negative()
    }

    /// So long after that instant; `zone` is asked only if there are months or days.
    pub fn after(self, at: At, zone: impl FnOnce() -> Tz) -> At {
        if at.is_infinite() {
            return at;
        }
        if (self.months, self.days) == (0, 0) {
            return at.saturating_add(Span::of_micros(self.micros));
        }
        let zone = zone();
        let too_far = if self.is_negative() { At::LOWEST } else { At::NEVER };
        let Some(at) = shifted(at, zone, |local| months_after(local, self.months)) else { return too_far };
        let Some(at) = shifted(at, zone, |local| days_after(local, self.days)) else { return too_far };
        at.saturating_add(Span::of_micros(self.micros))
    }

    /// So long before that instant.
    pub fn before(self, at: At, zone: impl FnOnce() -> Tz) -> At {
        let negated =
            Period { months: self.months.saturating_neg(), days: self.days.saturating_neg(), micros: self.micros.saturating_neg() };
        negated.after(at, zone)
    }
}

impl From<Span> for Period {
    fn from(span: Span) -> Period {
        Period { micros: span.micros(), ..Period::default() }
    }
}

/// When the clock of the zone shows what `to` makes of what it shows at `at`; None: beyond the years that there are.
fn shifted(at: At, zone: Tz, to: impl Fn(NaiveDateTime) -> Option<NaiveDateTime>) -> Option<At> {
    let second = instant(at).timestamp();
    let local = zone::to_local(zone, second);
    let shown = chrono::DateTime::from_timestamp(local, 0)?.naive_utc();
    let moved = to(shown)?.and_utc().timestamp();
    if moved == local {
        // Also of a time that comes twice.
        return Some(at);
    }
    let after = zone::to_last_instant(zone, moved);
    Some(at.saturating_add(Span::of_micros((after - second).saturating_mul(Span::SECOND.micros()))))
}

fn months_after(local: NaiveDateTime, months: i32) -> Option<NaiveDateTime> {
    let count = Months::new(months.unsigned_abs());
    if months < 0 { local.checked_sub_months(count) } else { local.checked_add_months(count) }
}

fn days_after(local: NaiveDateTime, days: i32) -> Option<NaiveDateTime> {
    let count = Days::new(days.unsigned_abs().into());
    if days < 0 { local.checked_sub_days(count) } else { local.checked_add_days(count) }
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match (self.months, self.days) {
            (0, 0) => to.serialize_i64(self.micros),
            (months, days) => (months, days, self.micros).serialize(to),
        }
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Period, D::Error> {
        let document = serde_json::Value::deserialize(from)?;
        if let Some(micros) = document.as_i64() {
            return Ok(Span::of_micros(micros).into());
        }
        let (months, days, micros) = serde_json::from_value(document).map_err(D::Error::custom)?;
        Ok(Period { months, days, micros })
    }
}
