//! Active hours: the part of the day (and week) in which a schedule may fire.
//!
//! Contract: `07:00-08:00`, `22:00-02:00` (over midnight), `mon-fri 08:00-18:00`, several separated by
//! commas; wall-clock time of the schedule's zone. The beginning belongs to the window, its end does not;
//! `24:00` is the end of a day. A window over midnight belongs to the weekday on which it begins.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

use super::calendar::{DAY, weekday};
use super::cron::weekday_named;
use super::natural::time_of_day;
use super::rule::RuleError;
use super::zone::{shortened, to_local};

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
    let (days, hours) = match trimmed.split_once(|c: char| c.is_ascii_whitespace()) {
        Some((days, hours)) => (Some(days), hours.trim_ascii_start()),
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
    let end_position = hours_position + start.len() + 1;
    let not_a_time = |position, text| error(position, format!("\"{}\" is not a time of day", shortened(text)));
    let start_second = time_of_day(start.trim_ascii_end()).ok_or_else(|| not_a_time(hours_position, start))?;
    let end = end.trim_ascii_start();
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
    let (first, last) = (weekday_named(first)?, weekday_named(last)?);
    Some((0..=(last + 7 - first) % 7).fold(0, |days, step| days | 1 << ((first + step) % 7)))
}
