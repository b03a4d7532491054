//! Active hours: the part of the day (and week) in which a schedule may fire.
//!
//! Contract: `07:00-08:00`, `22:00-02:00` (over midnight), `mon-fri 08:00-18:00`, several separated by
//! commas; wall-clock time of the schedule's zone. The beginning belongs to the window, its end does not;
//! `24:00` is the end of a day. A window over midnight belongs to the weekday on which it begins.

use crate::pure::schedule::calendar::{DAY, weekday};
use crate::pure::schedule::cron::weekday_named;
use crate::pure::schedule::natural::time_of_day;
use crate::pure::schedule::rule::{LENGTH_MAX, RuleError};
use crate::pure::schedule::zone::{changed_at, readings, shortened, to_local};
use chrono::{DateTime, Utc};
use chrono_tz::Tz;

/// Parsed active hours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActiveHours {
    windows: Vec<Window>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Window {
    /// Bit 0 = Sunday.
    weekdays: u64,
    /// Seconds of the day; `end` ≤ `start` means it runs over midnight.
    start: i64,
    end: i64,
}

impl ActiveHours {
    /// Parses the value of the `active_hours` parameter.
    pub fn parse(text: &str) -> Result<ActiveHours, RuleError> {
        if text.len() > LENGTH_MAX {
            let message = format!("active_hours is longer than {LENGTH_MAX} bytes");
            return Err(RuleError { field: "active_hours", message, position: Some(LENGTH_MAX), hint: None });
        }
        let lower = text.to_ascii_lowercase();
        let mut position = 0;
        let mut windows = Vec::new();
        for item in lower.split(',') {
            windows.push(window(position, item)?);
            position += item.len() + 1;
        }
        Ok(ActiveHours { windows })
    }

    /// Whether an instant lies in one of the windows.
    pub fn contain(&self, zone: Tz, instant: DateTime<Utc>) -> bool {
        let local = to_local(zone, instant.timestamp());
        let (day, second) = (local.div_euclid(DAY), local.rem_euclid(DAY));
        self.windows.iter().any(|window| {
            let begins_on = |day: i64| window.weekdays & (1 << weekday(day)) != 0;
            if window.start < window.end {
                begins_on(day) && (window.start..window.end).contains(&second)
            } else {
                begins_on(day) && second >= window.start || begins_on(day - 1) && second < window.end
            }
        })
    }

    /// The next moment after an instant at which a window begins, or one that is open already goes on: a clock that is
    /// changed may lead into the midst of a window.
    pub fn next_opening(&self, zone: Tz, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let after = after.timestamp();
        let today = to_local(zone, after).div_euclid(DAY);
        let mut found: Option<(i64, i64)> = None;
        // Eight days on, for one that is today's weekday only and over already; a day back, for zones that cross the date line.
        for day in today - 1..=today + 8 {
            let begin = self.windows.iter().filter(|window| window.weekdays & (1 << weekday(day)) != 0);
            // In a gap no window begins: what is open behind it is open from the change on.
            let instants = begin.flat_map(|window| readings(zone, day * DAY + window.start)).flatten();
            if let Some(first) =
                instants.filter(|instant| *instant > after).min().filter(|first| found.is_none_or(|(earlier, _)| *first < earlier))
            {
                found = Some((first, day));
            }
            if found.is_some_and(|(_, on)| on < day) {
                break;
            }
        }
        let end = found.map_or(after + 9 * DAY, |(first, _)| first);
        let mut changes = (after..end).step_by(DAY as usize).filter_map(|from| changed_at(zone, from, (from + DAY).min(end)));
        let opens = |at: &i64| DateTime::from_timestamp(*at, 0).is_some_and(|at| self.contain(zone, at));
        let first = changes.find(opens).or(found.map(|(first, _)| first))?;
        DateTime::from_timestamp(first, 0)
    }
}

fn window(position: usize, item: &str) -> Result<Window, RuleError> {
    let trimmed = item.trim_ascii();
    let position = position + (item.len() - item.trim_ascii_start().len());
    let error = |position: usize, message: String| RuleError {
        field: "active_hours",
        message,
        position: Some(position),
        hint: Some("Write them as '08:00-18:00', '22:00-02:00' or 'mon-fri 08:00-18:00'.".to_owned()),
    };
    // Blanks may stand around each "-", so it is the first digit that ends the days.
    let days_end = match trimmed.find(|c: char| c.is_ascii_digit()) {
        Some(0) => None,
        Some(at) if trimmed[..at].ends_with(|c: char| c.is_ascii_whitespace()) => Some(at),
        _ => trimmed.find(|c: char| c.is_ascii_whitespace()),
    };
    let (days, hours) = match days_end {
        Some(at) => (Some(trimmed[..at].trim_ascii_end()), trimmed[at..].trim_ascii_start()),
        None => (None, trimmed),
    };
    let weekdays = match days {
        None => 0x7f,
        Some(days) => {
            weekday_range(days).ok_or_else(|| error(position, format!("\"{}\" is not a weekday or a range of them", shortened(days))))?
        }
    };
    let hours_position = position + trimmed.len() - hours.len();
    let Some((start, end)) = hours.split_once('-') else {
        return Err(error(hours_position, format!("\"{}\" is not a range of times", shortened(hours))));
    };
    let not_a_time = |position, text| error(position, format!("\"{}\" is not a time of day", shortened(text)));
    let start_second = time_of_day(start.trim_ascii_end()).ok_or_else(|| not_a_time(hours_position, start))?;
    let end = end.trim_ascii_start();
    let end_position = hours_position + hours.len() - end.len();
    let end_second = match end {
        "24:00" | "24:00:00" => 86_400,
        _ => time_of_day(end).ok_or_else(|| not_a_time(end_position, end))?,
    };
    if start_second == end_second {
        return Err(error(hours_position, "the window begins and ends at the same time".to_owned()));
    }
    Ok(Window { weekdays, start: i64::from(start_second), end: i64::from(end_second) })
}

/// `mon`, `mon-fri`, `sat-sun`, `fri-mon`.
fn weekday_range(text: &str) -> Option<u64> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (weekday_named(first.trim_ascii_end())?, weekday_named(last.trim_ascii_start())?);
    Some((0..=(last + 7 - first) % 7).fold(0, |days, step| days | 1 << ((first + step) % 7)))
}
