//! Instants and lengths of time as PostgreSQL counts them, in microseconds, and as the calendar has them.

use chrono::{DateTime, TimeDelta, Utc};
use chrono::{Datelike, Offset};
use serde::{Deserialize, Serialize};
use std::ops::{Add, AddAssign, Div, Mul, Shl, Sub};
use std::time::Duration;

/// An instant: microseconds since 2000-01-01 UTC, PostgreSQL's timestamptz. In documents it is that number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
#[repr(transparent)]
pub struct At(i64);

/// A length of time in microseconds, from one instant to another, so perhaps negative. In documents it is that number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
#[repr(transparent)]
pub struct Span(i64);

const EPOCH_2000: i64 = 946_684_800_000_000;

impl At {
    /// No due time at all: later than every real one. PostgreSQL's infinity.
    pub const NEVER: At = At(i64::MAX);
    /// Earlier than every real one. PostgreSQL's -infinity.
    pub const LOWEST: At = At(i64::MIN);
    /// What new shared memory says where an instant is to stand: none yet.
    pub const UNSET: At = At(0);

    /// Where the clocks of computers begin: 1970.
    pub const UNIX_EPOCH: At = At(-EPOCH_2000);

    pub const fn of_micros(since_2000: i64) -> At {
        At(since_2000)
    }
    pub const fn micros(self) -> i64 {
        self.0
    }
    pub const fn is_infinite(self) -> bool {
        self.0 == i64::MAX || self.0 == i64::MIN
    }
    pub const fn saturating_add(self, span: Span) -> At {
        At(self.0.saturating_add(span.0))
    }
    /// Which minute since 2000 it is in.
    pub const fn minute(self) -> i64 {
        self.0 / Span::MINUTE.0
    }
    /// How long ago a multiple of `span` since 2000 was.
    pub const fn since_multiple_of(self, span: Span) -> Span {
        Span(self.0.rem_euclid(span.0))
    }
    /// How long after `earlier`.
    pub const fn saturating_since(self, earlier: At) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Span> for At {
    type Output = At;
    fn add(self, span: Span) -> At {
        At(self.0 + span.0)
    }
}
impl AddAssign<Span> for At {
    fn add_assign(&mut self, span: Span) {
        *self = *self + span;
    }
}
impl Sub<Span> for At {
    type Output = At;
    fn sub(self, span: Span) -> At {
        At(self.0 - span.0)
    }
}
impl Sub for At {
    type Output = Span;
    fn sub(self, earlier: At) -> Span {
        Span(self.0 - earlier.0)
    }
}

impl Span {
    pub const ZERO: Span = Span(0);
    pub const MICROSECOND: Span = Span(1);
    pub const SECOND: Span = Span(1_000_000);
    pub const MINUTE: Span = Span(60 * Span::SECOND.0);
    pub const HOUR: Span = Span(60 * Span::MINUTE.0);
    pub const DAY: Span = Span(24 * Span::HOUR.0);

    pub const fn of_micros(micros: i64) -> Span {
        Span(micros)
    }
    pub const fn of_millis(millis: i64) -> Span {
        Span(millis.saturating_mul(1000))
    }
    pub const fn of_secs(seconds: i64) -> Span {
        Span(seconds * 1_000_000)
    }
    pub const fn of_days(days: i64) -> Span {
        Span(days * Span::DAY.0)
    }
    pub const fn micros(self) -> i64 {
        self.0
    }
    /// Whole ones.
    pub const fn millis(self) -> i64 {
        self.0 / 1000
    }
    pub fn seconds(self) -> f64 {
        self.0 as f64 / 1e6
    }
    pub const fn is_negative(self) -> bool {
        self.0 < 0
    }
    pub const fn abs(self) -> Span {
        Span(self.0.abs())
    }
    pub const fn saturating_add(self, other: Span) -> Span {
        Span(self.0.saturating_add(other.0))
    }
    /// For what waits; a negative one is as good as endless.
    pub const fn duration(self) -> Duration {
        Duration::from_micros(self.0 as u64)
    }
}

impl Add for Span {
    type Output = Span;
    fn add(self, other: Span) -> Span {
        Span(self.0 + other.0)
    }
}
impl Sub for Span {
    type Output = Span;
    fn sub(self, other: Span) -> Span {
        Span(self.0 - other.0)
    }
}
impl Mul<i64> for Span {
    type Output = Span;
    fn mul(self, times: i64) -> Span {
        Span(self.0 * times)
    }
}
impl Div<i64> for Span {
    type Output = Span;
    fn div(self, parts: i64) -> Span {
        Span(self.0 / parts)
    }
}

/// Doubled so often.
impl Shl<u32> for Span {
    type Output = Span;
    fn shl(self, times: u32) -> Span {
        Span(self.0 << times)
    }
}
/// How often the other one fits in, whole.
impl Div for Span {
    type Output = i64;
    fn div(self, other: Span) -> i64 {
        self.0 / other.0
    }
}

impl From<DateTime<Utc>> for At {
    fn from(t: DateTime<Utc>) -> At {
        At(t.timestamp_micros() - EPOCH_2000)
    }
}
impl From<TimeDelta> for Span {
    /// The longest ones as one that can still be added to any date.
    fn from(d: TimeDelta) -> Span {
        Span(d.num_microseconds().unwrap_or(i64::MAX / 4))
    }
}
impl From<Span> for TimeDelta {
    fn from(span: Span) -> TimeDelta {
        TimeDelta::microseconds(span.0)
    }
}
impl From<Duration> for Span {
    fn from(d: Duration) -> Span {
        Span(d.as_micros() as i64)
    }
}

pub fn instant(t: At) -> DateTime<Utc> {
    let outside = if t.0 < 0 { DateTime::<Utc>::MIN_UTC } else { DateTime::<Utc>::MAX_UTC };
    DateTime::from_timestamp_micros(t.0.saturating_add(EPOCH_2000)).unwrap_or(outside)
}

/// Whether an instant lies in the years 1 to 9999, in which rules are computed.
pub fn is_date(t: At) -> bool {
    (1..=9999).contains(&instant(t).year())
}

pub fn time_text(slot: DateTime<Utc>, zone: chrono_tz::Tz, kind: Option<u32>) -> String {
    let local = slot.with_timezone(&zone);
    // As PostgreSQL writes it: with seconds only where there are any.
    let offset = if local.offset().fix().local_minus_utc() % 60 == 0 { "%:z" } else { "%::z" };
    match kind {
        Some(1082) => local.format("%Y-%m-%d").to_string(),
        Some(1083) => local.format("%H:%M:%S%.6f").to_string(),
        Some(1266) => local.format(&format!("%H:%M:%S%.6f{offset}")).to_string(),
        Some(1114) => local.format("%Y-%m-%dT%H:%M:%S%.6f").to_string(),
        _ => local.format(&format!("%Y-%m-%dT%H:%M:%S%.6f{offset}")).to_string(),
    }
}
