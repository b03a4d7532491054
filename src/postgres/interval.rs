//! Intervals: months, days and microseconds apart, or all as one length of time.

use crate::postgres::caught::catch;
use crate::pure::time::Span;
use pgrx::IntoDatum;
pub use pgrx::datum::Interval;
use pgrx::pg_sys;
use std::str::FromStr;

/// How long an interval is; a month counts 30 days.
pub fn span_of(interval: &Interval) -> Span {
    const DAY: i64 = Span::DAY.micros();
    let months = (interval.months() as i64).saturating_mul(30 * DAY);
    Span::of_micros(months.saturating_add((interval.days() as i64).saturating_mul(DAY)).saturating_add(interval.micros()))
}

pub fn format_interval(interval: &Interval) -> String {
    // SAFETY: interval_out of a valid interval.
    unsafe {
        let text: Option<&std::ffi::CStr> = pgrx::direct_function_call(pg_sys::interval_out, &[interval.into_datum()]);
        text.map(|t| t.to_string_lossy().into_owned()).unwrap_or_default()
    }
}

/// An interval as PostgreSQL reads it, months, days and microseconds apart; None = it doesn't.
pub fn parse_in_parts(text: &str) -> Option<Interval> {
    catch(|| Interval::from_str(text).ok()).ok().flatten()
}

/// How long an interval is as PostgreSQL reads it; None = it doesn't.
pub fn parse_span(text: &str) -> Option<Span> {
    parse_in_parts(text).map(|i| span_of(&i))
}
