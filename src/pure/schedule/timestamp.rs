//! A timestamp as a rule: the schedule fires once, then.
//!
//! Contract: `2030-01-01`, `2030-01-01 10:30`, `2030-01-01T10:30:05.25`, each optionally followed by `Z`,
//! an offset (`+02`, `+02:00`, `+0200`) or a zone's name. Without one of these it is wall-clock time in the
//! schedule's zone. Month and day always in this order: nothing here depends on DateStyle.

use crate::pure::schedule::calendar::{DAY, days_from_date, month_length};
use crate::pure::schedule::rule::RuleError;
use crate::pure::schedule::zone;
use chrono_tz::Tz;

/// A point on a clock, and whose clock it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timestamp {
    /// Seconds since 1970-01-01 00:00 on that clock.
    pub(super) local: i64,
    pub(super) nanosecond: u32,
    pub(super) clock: Clock,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// The schedule's own zone.
    Schedule,
    /// So many seconds ahead of UTC.
    Offset(i64),
    Zone(Tz),
}

impl Timestamp {
    /// Seconds since 1970 UTC.
    pub(super) fn instant(&self, schedule_zone: Tz) -> i64 {
        match self.clock {
            Clock::Schedule => zone::to_instant(schedule_zone, self.local),
            Clock::Zone(named) => zone::to_instant(named, self.local),
            Clock::Offset(offset) => self.local - offset,
        }
    }
}

/// Whether a word begins with a date; decides between a timestamp and cron.
pub fn looks_like_timestamp(word: &str) -> bool {
    let digits = word.bytes().take_while(u8::is_ascii_digit).count();
    digits >= 4 && word[digits..].starts_with(['-', '/', '.'])
}

/// Parses the text from `start` to its end.
pub fn parse(text: &str, start: usize) -> Result<Timestamp, RuleError> {
    let mut reader = Reader { text, position: start };
    let date_start = reader.position;
    let year = reader.number(4, "year")?;
    reader.expect('-')?;
    let month = reader.number(2, "month")?;
    reader.expect('-')?;
    let day = reader.number(2, "day")?;
    let valid = year >= 1 && (1..=12).contains(&month) && day >= 1 && day <= i64::from(month_length(year, month as u32));
    if !valid {
        return Err(RuleError::rule(date_start, format!("there is no date {year:04}-{month:02}-{day:02}")));
    }
    let mut local = days_from_date(year, month as u32, day as u32) * DAY;
    let mut nanosecond = 0;
    let before_time = reader.position;
    let separated = reader.take_if(['T', 't']) || reader.skip_blanks();
    if separated && reader.peek().is_some_and(|c| c.is_ascii_digit()) {
        let time_start = reader.position;
        let hour = reader.number(2, "hour")?;
        reader.expect(':')?;
        let minute = reader.number(2, "minute")?;
        let second = if reader.take_if([':']) { reader.number(2, "second")? } else { 0 };
        if hour > 23 || minute > 59 || second > 59 {
            let time = format!("there is no time {hour:02}:{minute:02}:{second:02}");
            return Err(RuleError::rule(time_start, time));
        }
        if reader.take_if(['.']) {
            nanosecond = reader.fraction()?;
        }
        local += hour * 3600 + minute * 60 + second;
    } else {
        reader.position = before_time;
    }
    let clock = reader.clock()?;
    reader.skip_blanks();
    if reader.peek().is_some() {
        return Err(reader.unexpected("the end"));
    }
    Ok(Timestamp { local, nanosecond, clock })
}

struct Reader<'a> {
    text: &'a str,
    position: usize,
}

impl Reader<'_> {
    fn rest(&self) -> &str {
        &self.text[self.position..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn take_if<const N: usize>(&mut self, wanted: [char; N]) -> bool {
        let found = self.peek().is_some_and(|c| wanted.contains(&c));
        self.position += usize::from(found);
        found
    }

    fn skip_blanks(&mut self) -> bool {
        let blanks = self.rest().bytes().take_while(u8::is_ascii_whitespace).count();
        self.position += blanks;
        blanks > 0
    }

    fn expect(&mut self, wanted: char) -> Result<(), RuleError> {
        if self.take_if([wanted]) { Ok(()) } else { Err(self.unexpected(&format!("\"{wanted}\""))) }
    }

    fn unexpected(&self, wanted: &str) -> RuleError {
        let message = match self.peek() {
            Some(found) => format!("unexpected \"{found}\" in a timestamp, expected {wanted}"),
            None => format!("timestamp ends where {wanted} was expected"),
        };
        RuleError::rule(self.position, message).hint("Write timestamps as '2030-01-31', '2030-01-31 10:30' or '2030-01-31T10:30:00+02:00'.")
    }

    /// A number of exactly (years) or at most (all else) so many digits.
    fn number(&mut self, digits_max: usize, what: &str) -> Result<i64, RuleError> {
        let digits = self.rest().bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 || digits > digits_max {
            let wanted = format!("the {what} ({digits_max} digits)");
            return Err(self.unexpected(&wanted));
        }
        let value = self.rest()[..digits].parse().unwrap_or_default();
        self.position += digits;
        Ok(value)
    }

    fn fraction(&mut self) -> Result<u32, RuleError> {
        let digits = self.rest().bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 {
            return Err(self.unexpected("a fraction of a second"));
        }
        // Microseconds are all PostgreSQL keeps; more digits are read and dropped.
        let kept: String = self.rest().chars().take(digits.min(6)).collect();
        self.position += digits;
        Ok(format!("{kept:0<9}").parse().unwrap_or_default())
    }

    fn clock(&mut self) -> Result<Clock, RuleError> {
        self.skip_blanks();
        let start = self.position;
        let rest = self.rest().trim_end();
        if rest.is_empty() {
            return Ok(Clock::Schedule);
        }
        if rest.eq_ignore_ascii_case("z") {
            self.position += 1;
            return Ok(Clock::Offset(0));
        }
        let sign = match self.peek() {
            Some('+') => 1,
            Some('-') => -1,
            _ => {
                let name = rest.to_owned();
                self.position = self.text.len();
                return zone::parse_zone(&name).map(Clock::Zone).map_err(|error| RuleError {
                    field: "rule",
                    position: Some(start),
                    ..error
                });
            }
        };
        self.position += 1;
        let digits = self.rest().bytes().take_while(u8::is_ascii_digit).count();
        let (hours, minutes) = if digits == 4 {
            let both = self.number(4, "offset")?;
            (both / 100, both % 100)
        } else {
            let hours = self.number(2, "offset's hours")?;
            (hours, if self.take_if([':']) { self.number(2, "offset's minutes")? } else { 0 })
        };
        if hours > 15 || minutes > 59 {
            return Err(RuleError::rule(start, "the offset from UTC is out of range".to_owned()));
        }
        Ok(Clock::Offset(sign * (hours * 3600 + minutes * 60)))
    }
}
