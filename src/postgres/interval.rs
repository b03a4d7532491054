//! Intervals: as PostgreSQL's type, with months, days and microseconds apart, or all as one length of time.

use crate::postgres::caught::catch;
use crate::pure::period::Period;
use crate::pure::time::Span;
use pgrx::IntoDatum;
pub use pgrx::datum::Interval;
use pgrx::pg_sys;
use std::str::FromStr;

/// How long an interval is; a month counts 30 days.
pub fn span_of(interval: &Interval) -> Span {
    period_of(interval).span()
}

pub fn period_of(interval: &Interval) -> Period {
    Period { months: interval.months(), days: interval.days(), micros: interval.micros() }
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

/// The same, to be added to an instant.
pub fn parse_period(text: &str) -> Option<Period> {
    parse_in_parts(text).map(|i| period_of(&i))
}
