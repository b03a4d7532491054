//! Intervals: months, days and microseconds apart, or all as microseconds.

use crate::postgres::caught::catch;
use pgrx::IntoDatum;
pub use pgrx::datum::Interval;
use pgrx::pg_sys;
use std::str::FromStr;

/// Microseconds of an interval; a month counts 30 days.
pub fn micros_of(interval: &Interval) -> i64 {
    const DAY: i64 = 86_400_000_000;
    (interval.months() as i64)
        .saturating_mul(30 * DAY)
        .saturating_add((interval.days() as i64).saturating_mul(DAY))
        .saturating_add(interval.micros())
}

pub fn format_interval(interval: &Interval) -> String {
    // SAFETY: interval_out of a valid interval.
    unsafe {
        let text: Option<&std::ffi::CStr> = pgrx::direct_function_call(pg_sys::interval_out, &[interval.into_datum()]);
        text.map(|t| t.to_string_lossy().into_owned()).unwrap_or_default()
    }
}

/// An interval as PostgreSQL reads it, whole; None = it doesn't.
pub fn parse_span(text: &str) -> Option<Interval> {
    catch(|| Interval::from_str(text).ok()).ok().flatten()
}

/// Microseconds of an interval as PostgreSQL reads it; None = it doesn't.
pub fn parse_interval(text: &str) -> Option<i64> {
    catch(|| Interval::from_str(text).ok()).ok().flatten().map(|i| micros_of(&i))
}
