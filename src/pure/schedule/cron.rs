//! Cron expressions: five fields, or six with seconds first; Vixie's meaning.
//!
//! Contract: an expression is expanded once into bit sets; a slot is then found by looking at the bits of
//! one day and, failing that, one month at a time, so that even `29 2` costs well below a microsecond.
//! An expression that matches no date of the 400-year calendar is an error, not an endless search.
//!
//! What is understood in a field: `*` (and `?` in the two day fields), numbers, English names from their
//! third letter on, lists, ranges (wrapping around: `22-4`, `fri-sun`), steps on all of these; 0 and 7 are
//! Sunday; in day-of-month `L`, `L-3`, `LW`, `15W`; in day-of-week `5L` (or `L5`) and `5#2`.
//!
//! Two rules deserve their names here, the first one Vixie's:
//! - *restricted*: a day field that doesn't begin with `*`. When both are restricted a day needs to match
//!   only one of them; otherwise (or with `day_and`) it must match both.
//! - *elapsed*: an expression whose minutes or hours have a `*` or a step, as opposed to a *fixed* one, see `zone`.
//!   `0/15` and `0-59/15` are `*/15` in other words, so unlike Vixie's cron steps count wherever they stand.

use crate::pure::schedule::calendar::{DAY, LAST_SECOND, date_from_days, days_from_date, month_length, weekday};
use crate::pure::schedule::rule::RuleError;

/// Longest distance between two matches: the calendar repeats after 400 years.
const CALENDAR_CYCLE_YEARS: i64 = 400;

const MONTH_NAMES: &[(&str, u32)] = &[
    ("january", 1),
    ("february", 2),
    ("march", 3),
    ("april", 4),
    ("may", 5),
    ("june", 6),
    ("july", 7),
    ("august", 8),
    ("september", 9),
    ("october", 10),
    ("november", 11),
    ("december", 12),
];

const WEEKDAY_NAMES: &[(&str, u32)] =
    &[("sunday", 0), ("monday", 1), ("tuesday", 2), ("wednesday", 3), ("thursday", 4), ("friday", 5), ("saturday", 6)];

/// A cron expression, expanded. Bit n of a field stands for the value n.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cron {
    pub(super) seconds: u64,
    pub(super) minutes: u64,
    pub(super) hours: u64,
    pub(super) days: DaysOfMonth,
    pub(super) months: u64,
    pub(super) weekdays: DaysOfWeek,
    /// A date must match both day fields (false: one of them is enough).
    pub(super) both_days: bool,
    /// Minutes or hours have a `*` or a step.
    pub(super) elapsed: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DaysOfMonth {
    pub(super) plain: u64,
    /// Bit n: n days before the last day (`L` is 0).
    pub(super) before_last: u64,
    /// Bit n: the weekday nearest to day n (`15W`).
    pub(super) nearest_weekday: u64,
    /// `LW`: the last Monday-to-Friday of the month.
    pub(super) last_weekday: bool,
    pub(super) starred: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DaysOfWeek {
    pub(super) plain: u64,
    /// `[k]`: the weekdays (bit 0 = Sunday) wanted at their (k+1)th occurrence of the month (`fri#2`).
    pub(super) nth: [u64; 5],
    /// The weekdays wanted at their last occurrence of the month (`5L`).
    pub(super) last: u64,
    pub(super) starred: bool,
}

/// Whether words are meant as a cron expression, right or wrong; decides between cron and natural language.
pub fn looks_like_cron(words: &[(usize, &str)]) -> bool {
    let first = words.first().map_or("", |(_, word)| word);
    let only_cron = first.bytes().all(|b| b.is_ascii_digit() || b"*?,/-".contains(&b));
    let starts_like_cron = first.starts_with(|c: char| c.is_ascii_digit() || c == '*');
    only_cron || starts_like_cron && words.len() >= 5
}

/// Parses the fields of an expression, each with its position in the text (all in lower case).
pub fn parse(fields: &[(usize, &str)], day_and: bool) -> Result<Cron, RuleError> {
    let fields: Vec<(usize, &str)> = match fields.len() {
        5 => [(fields[0].0, "0")].iter().chain(fields).copied().collect(),
        6 => fields.to_vec(),
        found => {
            let position = fields.get(6).or(fields.first()).map_or(0, |(position, _)| *position);
            return Err(RuleError::rule(position, format!("a cron rule has 5 fields, or 6 with seconds first, not {found}"))
                .hint("The fields are: [second] minute hour day-of-month month day-of-week."));
        }
    };
    let seconds = Field { name: "second", min: 0, max: 59, wraps_after: 59, names: &[] }.parse_plain(fields[0])?;
    let minutes = Field { name: "minute", min: 0, max: 59, wraps_after: 59, names: &[] }.parse_plain(fields[1])?;
    let hours = Field { name: "hour", min: 0, max: 23, wraps_after: 23, names: &[] }.parse_plain(fields[2])?;
    let days = parse_days_of_month(fields[3])?;
    let months = Field { name: "month", min: 1, max: 12, wraps_after: 12, names: MONTH_NAMES }.parse_plain(fields[4])?;
    let weekdays = parse_days_of_week(fields[5])?;
    let cron = Cron {
        seconds: seconds.bits,
        minutes: minutes.bits,
        hours: hours.bits,
        months: months.bits,
        both_days: day_and || days.starred || weekdays.starred,
        days,
        weekdays,
        elapsed: [fields[1].1, fields[2].1].iter().any(|field| field.contains(['*', '/'])),
    };
    if !cron.can_match() {
        return Err(RuleError::rule(fields[3].0, "this rule never matches: there is no such date".to_owned())
            .hint("Check day-of-month, month and day-of-week together; 'L' is the last day of a month."));
    }
    Ok(cron)
}

impl Cron {
    /// Fires on these weekdays (bit 0 = Sunday) at this second of the day: `monday at 10:30`.
    pub(super) fn on_weekdays(weekdays: u64, second_of_day: u32) -> Cron {
        Cron {
            seconds: 1 << (second_of_day % 60),
            minutes: 1 << (second_of_day / 60 % 60),
            hours: 1 << (second_of_day / 3600),
            days: DaysOfMonth { plain: mask(1, 31), starred: true, ..DaysOfMonth::default() },
            months: mask(1, 12),
            weekdays: DaysOfWeek { plain: weekdays, ..DaysOfWeek::default() },
            both_days: true,
            elapsed: false,
        }
    }

    /// The first matching wall-clock second at or after `from`.
    pub(super) fn next_slot(&self, from: i64) -> Option<i64> {
        let today = from.div_euclid(DAY);
        let (mut year, mut month, day) = date_from_days(today);
        let mut month_start = today - i64::from(day) + 1;
        let mut dates = self.dates_in(year, month, month_start);
        if dates & (1 << day) != 0
            && let Some(second) = self.second_of_day_from(from.rem_euclid(DAY))
        {
            return within_calendar(today * DAY + second);
        }
        // Only later days of this month from here on.
        dates &= !mask(0, day);
        let last_year = year + CALENDAR_CYCLE_YEARS;
        while dates == 0 {
            match self.months & !mask(0, month) {
                0 => {
                    year += 1;
                    month = self.months.trailing_zeros();
                }
                later => month = later.trailing_zeros(),
            }
            if year > last_year {
                return None;
            }
            month_start = days_from_date(year, month, 1);
            dates = self.dates_in(year, month, month_start);
        }
        let date = month_start + i64::from(dates.trailing_zeros()) - 1;
        within_calendar(date * DAY + self.first_second_of_day())
    }

    /// The matching days of a month, bit n = day n.
    fn dates_in(&self, year: i64, month: u32, month_start: i64) -> u64 {
        if self.months & (1 << month) == 0 {
            return 0;
        }
        self.dates_of_month_like(weekday(month_start), month_length(year, month))
    }

    /// The matching days of any month that begins on this weekday and has this many days.
    fn dates_of_month_like(&self, first_weekday: u32, length: u32) -> u64 {
        let by_date = self.days.dates(first_weekday, length);
        let by_weekday = self.weekdays.dates(first_weekday, length);
        let dates = if self.both_days { by_date & by_weekday } else { by_date | by_weekday };
        dates & mask(1, length)
    }

    /// Whether any date of the 400-year calendar matches: every month begins on every weekday at some
    /// time, and February 29th falls on each of them.
    fn can_match(&self) -> bool {
        (1..=12).filter(|month| self.months & (1 << month) != 0).any(|month| {
            let longest = month_length(2024, month);
            (month_length(2023, month)..=longest).any(|length| (0..7).any(|first| self.dates_of_month_like(first, length) != 0))
        })
    }

    fn first_second_of_day(&self) -> i64 {
        i64::from(self.hours.trailing_zeros()) * 3600
            + i64::from(self.minutes.trailing_zeros()) * 60
            + i64::from(self.seconds.trailing_zeros())
    }

    /// The first matching second of a day at or after the given one.
    fn second_of_day_from(&self, from: i64) -> Option<i64> {
        let (hour, minute, second) = ((from / 3600) as u32, (from / 60 % 60) as u32, (from % 60) as u32);
        let first_minute = i64::from(self.minutes.trailing_zeros());
        let first_second = i64::from(self.seconds.trailing_zeros());
        if self.hours & (1 << hour) != 0 {
            if self.minutes & (1 << minute) != 0
                && let Some(second) = first_bit_from(self.seconds, second)
            {
                return Some(i64::from(hour) * 3600 + i64::from(minute) * 60 + second);
            }
            if let Some(minute) = first_bit_from(self.minutes, minute + 1) {
                return Some(i64::from(hour) * 3600 + minute * 60 + first_second);
            }
        }
        let hour = first_bit_from(self.hours, hour + 1)?;
        Some(hour * 3600 + first_minute * 60 + first_second)
    }
}

impl DaysOfMonth {
    fn dates(&self, first_weekday: u32, length: u32) -> u64 {
        let mut dates = self.plain;
        for distance in bits(self.before_last).take_while(|distance| *distance < length) {
            dates |= 1 << (length - distance);
        }
        for day in bits(self.nearest_weekday).take_while(|day| *day <= length) {
            dates |= 1 << nearest_working_day(day, first_weekday, length);
        }
        if self.last_weekday {
            let back = match (first_weekday + length - 1) % 7 {
                0 => 2,
                6 => 1,
                _ => 0,
            };
            dates |= 1 << (length - back);
        }
        dates
    }
}

impl DaysOfWeek {
    fn dates(&self, first_weekday: u32, length: u32) -> u64 {
        let mut dates = every_week(self.plain, first_weekday);
        for (k, weekdays) in self.nth.iter().enumerate().filter(|(_, weekdays)| **weekdays != 0) {
            let week = mask(7 * k as u32 + 1, 7 * k as u32 + 7);
            dates |= every_week(*weekdays, first_weekday) & week;
        }
        if self.last != 0 {
            dates |= every_week(self.last, first_weekday) & mask(length - 6, length);
        }
        dates
    }
}

/// `15W`: that day, or the Friday or Monday next to it, without leaving the month.
fn nearest_working_day(day: u32, first_weekday: u32, length: u32) -> u32 {
    match (first_weekday + day - 1) % 7 {
        6 if day == 1 => 3,
        6 => day - 1,
        0 if day == length => day - 2,
        0 => day + 1,
        _ => day,
    }
}

/// Bit n for each day n of a month that begins on `first_weekday` and falls on one of the weekdays.
fn every_week(weekdays: u64, first_weekday: u32) -> u64 {
    let rotated = (weekdays >> first_weekday | weekdays << (7 - first_weekday)) & 0x7f;
    (rotated | rotated << 7 | rotated << 14 | rotated << 21 | rotated << 28) << 1
}

fn within_calendar(slot: i64) -> Option<i64> {
    (slot <= LAST_SECOND).then_some(slot)
}

/// The bits from `low` to `high`, both included.
pub fn mask(low: u32, high: u32) -> u64 {
    (u64::MAX >> (63 - high)) & (u64::MAX << low)
}

/// The set bits in ascending order.
pub fn bits(set: u64) -> impl Iterator<Item = u32> {
    (0..64).filter(move |bit| set & (1 << bit) != 0)
}

fn first_bit_from(set: u64, low: u32) -> Option<i64> {
    match set & (u64::MAX << low) {
        0 => None,
        rest => Some(i64::from(rest.trailing_zeros())),
    }
}

/// The weekday a word names (`mon`, `tues`, `wednesday`), 0 = Sunday.
pub fn weekday_named(word: &str) -> Option<u32> {
    named(word, WEEKDAY_NAMES)
}

/// The month a word names (`jan`, `sept`, `december`), from 1.
pub fn month_named(word: &str) -> Option<u32> {
    named(word, MONTH_NAMES)
}

/// English names count from their third letter on, so `tue`, `tues` and `tuesday` are the same.
fn named(word: &str, names: &[(&str, u32)]) -> Option<u32> {
    names.iter().find(|(name, _)| word.len() >= 3 && name.starts_with(word)).map(|(_, value)| *value)
}

/// What may stand in a field.
struct Field {
    name: &'static str,
    min: u32,
    max: u32,
    /// Last value before the field begins anew: `max`, except that Sunday stands at both ends of a week.
    wraps_after: u32,
    names: &'static [(&'static str, u32)],
}

struct PlainSet {
    bits: u64,
    starred: bool,
}

impl PlainSet {
    /// Of a field with this text. As in Vixie cron only its first character says whether it is starred: `*/2,5` is.
    fn new(text: &str) -> PlainSet {
        PlainSet { bits: 0, starred: text.starts_with(['*', '?']) }
    }
}

impl Field {
    fn parse_plain(&self, (position, text): (usize, &str)) -> Result<PlainSet, RuleError> {
        let mut set = PlainSet::new(text);
        for (position, item) in items(position, text) {
            self.parse_item(position, item, &mut set)?;
        }
        Ok(set)
    }

    /// One item of a list: `*`, `n`, `n-m`, each with an optional `/step`.
    fn parse_item(&self, position: usize, item: &str, set: &mut PlainSet) -> Result<(), RuleError> {
        let (range, step) = match item.split_once('/') {
            None => (item, 1),
            Some((range, step)) => (range, self.parse_step(position + range.len() + 1, step)?),
        };
        if item.is_empty() {
            return Err(self.error(position, "has an empty item".to_owned()));
        }
        let (low, high) = if range == "*" {
            (self.min, self.max)
        } else if let Some((low, high)) = range.split_once('-') {
            let high_position = position + low.len() + 1;
            (self.parse_value(position, low)?, self.parse_value(high_position, high)?)
        } else {
            let low = self.parse_value(position, range)?;
            (low, if item.len() > range.len() { self.wraps_after.max(low) } else { low })
        };
        if low <= high {
            set.bits |= stepped(low, high, step, 0);
        } else {
            // Wraps around: go on from the field's first value, keeping the rhythm of the step.
            set.bits |= stepped(low, self.wraps_after, step, 0);
            let beyond = (self.wraps_after + 1 - low) % step;
            set.bits |= stepped(self.min, high, step, (step - beyond) % step);
        }
        Ok(())
    }

    fn parse_step(&self, position: usize, text: &str) -> Result<u32, RuleError> {
        let size = self.wraps_after - self.min + 1;
        match text.parse::<u32>() {
            Ok(step) if (1..=size).contains(&step) && text.bytes().all(|b| b.is_ascii_digit()) => Ok(step),
            Ok(0) => Err(self.error(position, "has a step of 0".to_owned())),
            _ if text.is_empty() => Err(self.error(position, "has no step after \"/\"".to_owned())),
            _ if text.bytes().all(|b| b.is_ascii_digit()) => {
                Err(self.error(position, format!("has only {size} values, too few for a step of {text}")).hint(
                    "A step starts again in every round of its field; for a period of its own write \
                     'every … minutes' (or hours, days).",
                ))
            }
            _ => Err(self.error(position, format!("has the step \"{text}\", which is not a number"))),
        }
    }

    fn parse_value(&self, position: usize, text: &str) -> Result<u32, RuleError> {
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            return match text.parse::<u32>() {
                Ok(value) if (self.min..=self.max).contains(&value) => Ok(value),
                _ => Err(RuleError::rule(position, format!("{} {text} is out of range ({} to {})", self.name, self.min, self.max))),
            };
        }
        if let Some(value) = named(text, self.names) {
            return Ok(value);
        }
        if text.is_empty() {
            return Err(self.error(position, "is missing a number".to_owned()));
        }
        Err(self.error(position, format!("cannot contain \"{}\"", crate::pure::schedule::zone::shortened(text))))
    }

    fn error(&self, position: usize, problem: String) -> RuleError {
        RuleError::rule(position, format!("the {} field {problem}", self.name))
    }
}

fn parse_days_of_month((position, text): (usize, &str)) -> Result<DaysOfMonth, RuleError> {
    let field = Field { name: "day-of-month", min: 1, max: 31, wraps_after: 31, names: &[] };
    let mut days = DaysOfMonth::default();
    let mut plain = PlainSet::new(text);
    for (position, item) in items(position, text) {
        if item == "l" {
            days.before_last |= 1;
        } else if item == "lw" || item == "wl" {
            days.last_weekday = true;
        } else if let Some(distance) = item.strip_prefix("l-") {
            let from_last = Field { name: "day-of-month", min: 0, max: 30, wraps_after: 30, names: &[] };
            days.before_last |= 1 << from_last.parse_value(position + 2, distance)?;
        } else if let Some(day) = item.strip_suffix('w') {
            days.nearest_weekday |= 1 << field.parse_value(position, day)?;
        } else {
            field.parse_item(position, &question_mark_as_star(item), &mut plain)?;
        }
    }
    days.plain = plain.bits;
    days.starred = plain.starred;
    Ok(days)
}

fn parse_days_of_week((position, text): (usize, &str)) -> Result<DaysOfWeek, RuleError> {
    let field = Field { name: "day-of-week", min: 0, max: 7, wraps_after: 6, names: WEEKDAY_NAMES };
    let mut days = DaysOfWeek::default();
    let mut plain = PlainSet::new(text);
    for (position, item) in items(position, text) {
        if let Some((day, nth)) = item.split_once('#') {
            let day = field.parse_value(position, day)? % 7;
            let nth_position = position + item.len() - nth.len();
            match nth {
                "l" => days.last |= 1 << day,
                _ => match nth.parse::<usize>() {
                    Ok(k @ 1..=5) if nth.len() == 1 => days.nth[k - 1] |= 1 << day,
                    _ => {
                        let problem = format!("has the occurrence \"{nth}\" after \"#\", not one of 1 to 5");
                        return Err(field.error(nth_position, problem));
                    }
                },
            }
        } else if let Some(day) = item.strip_suffix('l').filter(|day| !day.is_empty()) {
            days.last |= 1 << (field.parse_value(position, day)? % 7);
        } else if let Some(day) = item.strip_prefix('l').filter(|day| !day.is_empty()) {
            days.last |= 1 << (field.parse_value(position + 1, day)? % 7);
        } else if item == "l" {
            return Err(field
                .error(position, "has \"L\" without a weekday".to_owned())
                .hint("'5L' is the last Friday of a month; 'L' alone stands in the day-of-month field."));
        } else {
            field.parse_item(position, &weekday_range(item), &mut plain)?;
        }
    }
    // 7 is Sunday, too.
    days.plain = (plain.bits | plain.bits >> 7) & 0x7f;
    days.starred = plain.starred;
    Ok(days)
}

/// `fri-sun` and `fri-0` run up to the Sunday at the week's end and not around the whole field, in which
/// Sunday stands twice; positions stay right because the text keeps its length up to its last value.
fn weekday_range(item: &str) -> String {
    let item = question_mark_as_star(item);
    let (range, step) = item.split_once('/').map_or((item.as_str(), None), |(r, s)| (r, Some(s)));
    let Some((low, high)) = range.split_once('-') else {
        return item;
    };
    let is_sunday = high == "0" || weekday_named(high) == Some(0);
    let starts_week = low == "0" || weekday_named(low) == Some(0);
    if !is_sunday || starts_week {
        return item;
    }
    step.map_or_else(|| format!("{low}-7"), |step| format!("{low}-7/{step}"))
}

fn question_mark_as_star(item: &str) -> String {
    match item.strip_prefix('?') {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => format!("*{rest}"),
        _ => item.to_owned(),
    }
}

fn items(position: usize, text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.split(',').scan(position, |position, item| {
        let start = *position;
        *position += item.len() + 1;
        Some((start, item))
    })
}

/// Every `step`th value from `low + skip` to `high`.
fn stepped(low: u32, high: u32, step: u32, skip: u32) -> u64 {
    (low + skip..=high).step_by(step as usize).fold(0, |set, value| set | 1 << value)
}
