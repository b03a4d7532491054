//! Instants as PostgreSQL counts them, microseconds since 2000, and as the calendar has them.

use chrono::{DateTime, TimeDelta, Utc};
use chrono::{Datelike, Offset};

/// Microseconds since 2000-01-01 UTC: PostgreSQL's timestamptz.
pub type Micros = i64;

/// No due time at all: later than every real one.
pub const NEVER: Micros = i64::MAX;

pub const EPOCH_2000: i64 = 946_684_800_000_000;

pub fn instant(t: Micros) -> DateTime<Utc> {
    let outside = if t < 0 { DateTime::<Utc>::MIN_UTC } else { DateTime::<Utc>::MAX_UTC };
    DateTime::from_timestamp_micros(t.saturating_add(EPOCH_2000)).unwrap_or(outside)
}

pub fn micros(t: DateTime<Utc>) -> Micros {
    t.timestamp_micros() - EPOCH_2000
}

/// Whether an instant lies in the years 1 to 9999, in which rules are computed.
pub fn is_date(t: Micros) -> bool {
    (1..=9999).contains(&instant(t).year())
}

pub fn micros_of(d: TimeDelta) -> i64 {
    d.num_microseconds().unwrap_or(i64::MAX / 4)
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
