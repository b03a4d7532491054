//! What somebody has meant by a text that is no rule, spelt as one: what the hints of errors say.
//!
//! Contract: [`hint`] knows the words in which times are said, in no order of theirs. It takes account of every word of the
//! text, or says nothing; and each rule that it proposes is one. Rules of other systems, which have a notation, are in
//! `elsewhere`.

mod spell;

use crate::pure::schedule::cron::{month_named, weekday_named};
use crate::pure::schedule::elsewhere::{fields, time_in};
use crate::pure::schedule::rule::Rule;
use crate::pure::schedule::zone::parse_zone;

/// Longest text that is looked at: nobody says a time in more words.
const LENGTH_MAX: usize = 100;
/// So many times of a day are put into one proposal.
const TIMES_MAX: usize = 6;

/// How to say what `text` means; None: it isn't understood. `lower`: the same in lower case.
pub fn hint(text: &str, lower: &str) -> Option<String> {
    if text.len() > LENGTH_MAX {
        return None;
    }
    if lower.contains('*') && !lower.contains("*-*-*") {
        return fields(lower);
    }
    if lower.split_ascii_whitespace().any(is_either_way) {
        return Some("Write the date with the year first: '2030-01-31 10:30'.".to_owned());
    }
    solar(lower).or_else(|| fields(lower)).or_else(|| Said::read(text, lower)?.hint())
}

/// Whether it may be proposed.
fn is_rule(text: &str) -> bool {
    Rule::plain(text, false).is_ok()
}

/// An event of the sun, its words in any order, the place with or without a comma.
fn solar(lower: &str) -> Option<String> {
    let words: Vec<&str> =
        lower.split(|c: char| !c.is_ascii_alphanumeric() && !"+-.".contains(c)).filter(|word| !word.is_empty()).collect();
    let (numbers, names): (Vec<&str>, Vec<&str>) = words.into_iter().partition(|word| word.parse::<f64>().is_ok());
    let names: Vec<&str> =
        names.into_iter().filter(|word| !matches!(*word, "at" | "in" | "the" | "every" | "each" | "day" | "daily")).collect();
    let event = match names.as_slice() {
        [event @ ("sunrise" | "sunset" | "dawn" | "dusk")] => (*event).to_owned(),
        ["noon"] | ["solar", "noon"] | ["noon", "solar"] if !numbers.is_empty() => "solar_noon".to_owned(),
        [kind @ ("civil" | "nautical" | "astronomical"), event @ ("dawn" | "dusk")]
        | [event @ ("dawn" | "dusk"), kind @ ("civil" | "nautical" | "astronomical")] => format!("{event}_{kind}"),
        _ => return None,
    };
    match numbers.as_slice() {
        [] => Some(format!("Write '{event} at 52.5,13.4', with the latitude and longitude of the place.")),
        [latitude, longitude] => {
            Some(format!("{event} at {latitude},{longitude}")).filter(|rule| is_rule(rule)).map(|rule| format!("Write '{rule}'."))
        }
        _ => None,
    }
}

/// A date whose day and month may stand in either order: `01/02/2030`.
fn is_either_way(word: &str) -> bool {
    date(word).is_none() && date(&word.replace('/', ".")).is_some()
}

/// What a time counts in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Elapsed(&'static str),
    Day,
    Week,
    Month,
}

/// What the words say, each by itself.
#[derive(Default)]
struct Said<'a> {
    /// Every so many of a unit.
    every: Option<(u32, Unit)>,
    /// So many times in a unit: `twice a day`.
    times_a: Option<u32>,
    /// Bit 0 = Sunday.
    weekdays: u64,
    /// Which of these weekdays of a month; 0 = the last.
    nth: Vec<u32>,
    days: Vec<u32>,
    last_day: bool,
    months: Vec<u32>,
    date: Option<(u32, u32, u32)>,
    times: Vec<String>,
    /// From when to when of a day.
    hours: Option<(String, String)>,
    zone: Option<&'a str>,
    /// It is to be for once.
    once: bool,
    /// `every second monday`: of all, or of those in a month?
    either_way: bool,
    /// The word before was "at".
    at: bool,
}

const NUMBERS: &[&str] = &["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"];
const ORDINALS: &[&str] = &["last", "first", "second", "third", "fourth", "fifth"];
const DAYS: &[&str] = &["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];
const WEEKDAYS: u64 = 0b011_1110;
const WEEKEND: u64 = 0b100_0001;

fn number(word: &str) -> Option<u32> {
    NUMBERS.iter().position(|name| *name == word).map(|n| n as u32).or_else(|| word.parse().ok().filter(|_| word.len() <= 4))
}

/// `1st`, `first`, `last` (0).
fn ordinal(word: &str) -> Option<u32> {
    let digits = word.len() - word.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    match &word[digits..] {
        "st" | "nd" | "rd" | "th" if digits > 0 => word[..digits].parse().ok(),
        _ => ORDINALS.iter().position(|name| *name == word).map(|n| n as u32),
    }
}

fn period(word: &str) -> Option<(u32, Unit)> {
    Some(match word {
        "secondly" => (1, Unit::Elapsed("second")),
        "minutely" => (1, Unit::Elapsed("minute")),
        "hourly" => (1, Unit::Elapsed("hour")),
        "daily" | "everyday" | "nightly" => (1, Unit::Day),
        "weekly" => (1, Unit::Week),
        "biweekly" | "bi-weekly" | "fortnightly" | "fortnight" => (2, Unit::Week),
        "monthly" => (1, Unit::Month),
        "bimonthly" | "bi-monthly" => (2, Unit::Month),
        "quarterly" => (3, Unit::Month),
        "half-yearly" | "semiannually" | "semi-annually" | "biannually" => (6, Unit::Month),
        "yearly" | "annually" | "annual" => (12, Unit::Month),
        _ => return None,
    })
}

fn unit(word: &str) -> Option<(u32, Unit)> {
    let singular = word.strip_suffix('s').filter(|word| word.len() > 1).unwrap_or(word);
    Some(match singular {
        "second" | "sec" => (1, Unit::Elapsed("second")),
        "minute" | "min" => (1, Unit::Elapsed("minute")),
        "hour" | "hr" | "h" => (1, Unit::Elapsed("hour")),
        "day" | "night" | "morning" | "evening" => (1, Unit::Day),
        "week" => (1, Unit::Week),
        "month" => (1, Unit::Month),
        "quarter" => (3, Unit::Month),
        "year" => (12, Unit::Month),
        _ => return None,
    })
}

/// `mon`, `mondays`, `weekdays`, `mon-fri`, `mon..fri`.
fn weekdays(word: &str) -> Option<u64> {
    if let Some((first, last)) = word.split_once("..").or_else(|| word.split_once('-')) {
        return Some(range(weekday_named(first)?, weekday_named(last)?));
    }
    let singular = word.strip_suffix('s').filter(|word| word.ends_with("day") || word.ends_with("end")).unwrap_or(word);
    match singular {
        "weekday" | "workday" | "working-day" => Some(WEEKDAYS),
        "weekend" => Some(WEEKEND),
        _ => weekday_named(singular).map(|day| 1 << day),
    }
}

fn range(first: u32, last: u32) -> u64 {
    let days = (last + 7 - first) % 7 + 1;
    (0..days).fold(0, |all, n| all | 1 << ((first + n) % 7))
}

/// Year, month and day, in an order that can't be another one.
fn date(word: &str) -> Option<(u32, u32, u32)> {
    let separator = ['-', '/', '.'].into_iter().find(|c| word.matches(*c).count() == 2)?;
    let parts: Vec<u32> = word.split(separator).map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let year_first = word.find(separator) == Some(4);
    match parts[..] {
        [year, month, day] if year_first => Some((year, month, day)),
        [day, month, year] if year > 99 && (separator == '.' || day > 12) => Some((year, month, day)),
        [month, day, year] if year > 99 && separator == '/' && day > 12 => Some((year, month, day)),
        _ => None,
    }
}

/// `1.5` as 15 of 10.
fn fraction(word: &str) -> Option<(u32, u32)> {
    let (whole, part) = word.split_once('.').filter(|(_, part)| (1..=2).contains(&part.len()))?;
    let of = 10u32.pow(part.len() as u32);
    let (whole, part) = (whole.parse::<u16>().ok()?, part.parse::<u32>().ok()?);
    Some((u32::from(whole) * of + part, of))
}

/// So many parts of a unit in whole numbers of the next smaller one.
fn smaller(n: u32, of: u32, (each, unit): (u32, Unit)) -> Option<(u32, Unit)> {
    let (size, unit) = match unit {
        Unit::Day => (24, Unit::Elapsed("hour")),
        Unit::Elapsed("hour") => (60, Unit::Elapsed("minute")),
        Unit::Elapsed("minute") => (60, Unit::Elapsed("second")),
        _ => return None,
    };
    let total = n.checked_mul(each * size)?;
    (total > 0 && total % of == 0).then_some((total / of, unit))
}

impl<'a> Said<'a> {
    /// None: a word isn't understood.
    fn read(text: &'a str, lower: &'a str) -> Option<Said<'a>> {
        if lower.trim_start().starts_with("in ") {
            // From now on: the start is a parameter.
            return None;
        }
        let words: Vec<&str> = lower.split(|c: char| c.is_ascii_whitespace() || c == ',').filter(|word| !word.is_empty()).collect();
        let mut said = Said::default();
        let mut at = 0;
        while at < words.len() {
            at += said.take(&words[at..], text, lower)?;
        }
        Some(said)
    }

    /// Takes the first of these words, and those that belong to it: how many.
    fn take(&mut self, words: &[&'a str], text: &'a str, lower: &'a str) -> Option<usize> {
        let word = words[0].trim_matches(['\'', '"']);
        let word = word.strip_prefix('@').unwrap_or(word);
        let next = words.get(1).copied().unwrap_or_default();
        let behind_at = std::mem::replace(&mut self.at, word == "at");
        if matches!(word, "" | "on" | "at" | "the" | "of" | "every" | "each" | "all" | "and" | "a" | "an" | "per" | "in" | "o'clock") {
            return Some(1);
        }
        if word == "once" && matches!(next, "at" | "on") {
            self.once = true;
            return Some(1);
        }
        if word == "*-*-*" && self.every.is_none() {
            // systemd's way.
            self.every = Some((1, Unit::Day));
            return Some(1);
        }
        if let Some(taken) = self.take_hours(words) {
            return Some(taken);
        }
        if let Some(taken) = self.take_count(word, words, lower) {
            return Some(taken);
        }
        if let Some((every, unit)) = period(word).or_else(|| unit(word)) {
            self.every = Some(match self.every {
                None => (every, unit),
                // "every 3 months on the 1st of the month".
                Some((n, before)) if before == unit && every == 1 => (n, unit),
                Some(_) => return None,
            });
            if word == "nightly" && !lower.contains(|c: char| c.is_ascii_digit()) {
                self.times.push("02:00".to_owned());
            }
            return Some(1);
        }
        if let Some((first, last)) = weekday_named(word).zip(words.get(2).and_then(|word| weekday_named(word)))
            && matches!(next, "to" | "through" | "until" | "-")
        {
            self.weekdays |= range(first, last);
            return Some(3);
        }
        if matches!(word, "business" | "working") && matches!(next, "days" | "day") {
            self.weekdays |= WEEKDAYS;
            return Some(2);
        }
        if let Some(days) = weekdays(word) {
            self.weekdays |= days;
            return Some(1);
        }
        if let Some(month) = month_named(word) {
            self.months.push(month);
            return Some(1);
        }
        if let Some(date) = date(word) {
            self.date = Some(date);
            return Some(1);
        }
        self.at = behind_at;
        if let Some(taken) = self.take_time(word, next) {
            return Some(taken);
        }
        // Zones' names are typed with capitals.
        let from = word.as_ptr() as usize - lower.as_ptr() as usize;
        let is_name = self.zone.is_none() && (word.contains('/') || matches!(word, "utc" | "gmt"));
        let zone = text.get(from..from + word.len()).filter(|zone| is_name && parse_zone(zone).is_ok())?;
        self.zone = Some(zone);
        Some(1)
    }

    /// `2 days`, `other monday`, `first friday`, `15th`, `last day`, `twice`.
    fn take_count(&mut self, word: &str, words: &[&str], lower: &str) -> Option<usize> {
        let next = words.get(1).copied().unwrap_or_default();
        match word {
            "half" => {
                let behind = usize::from(matches!(next, "an" | "a")) + 1;
                let (_, hour) = words.get(behind).and_then(|word| unit(word))?;
                return (hour == Unit::Elapsed("hour") && self.every.is_none()).then(|| {
                    self.every = Some((30, Unit::Elapsed("minute")));
                    behind + 1
                });
            }
            "once" | "twice"
                if self.times_a.is_none() && (matches!(next, "a" | "an" | "per" | "every" | "each") || period(next).is_some()) =>
            {
                self.times_a = Some(if word == "once" { 1 } else { 2 });
                return Some(1);
            }
            "quarter" if self.every.is_none() => {
                let behind = words.iter().skip(1).take_while(|word| matches!(**word, "of" | "an")).count() + 1;
                if words.get(behind) == Some(&"hour") {
                    self.every = Some((15, Unit::Elapsed("minute")));
                    return Some(behind + 1);
                }
            }
            "last" if matches!(next, "day" | "of") => {
                self.last_day = true;
                return Some(2);
            }
            "first" if next == "of" => {
                self.days.push(1);
                return Some(2);
            }
            "day" => {
                let day = next.parse().ok().filter(|n| (1..=31).contains(n))?;
                self.days.push(day);
                return Some(2);
            }
            _ => {}
        }
        let which = if word == "other" { Some(2) } else { ordinal(word) };
        if let Some(n) = which {
            // "every second day" counts; "the second monday" is one of the month's.
            if let Some((each, unit)) = unit(next).filter(|(_, unit)| n > 1 && self.every.is_none() && *unit != Unit::Month) {
                self.every = Some((n * each, unit));
                return Some(2);
            }
            if word != "other" && weekdays(next).is_some() {
                self.nth.push(n);
                self.either_way |= n == 2 && self.said_every(word, lower);
                return Some(1);
            }
            if word == "other" && weekdays(next).is_some() {
                self.every = Some((2, Unit::Week));
                return Some(1);
            }
            if word != "other" && (1..=31).contains(&n) && (next == "day" || word.starts_with(|c: char| c.is_ascii_digit())) {
                self.days.push(n);
                return Some(1 + usize::from(next == "day"));
            }
            return None;
        }
        if let Some(every) = fraction(word).and_then(|(n, of)| smaller(n, of, unit(next)?)).filter(|_| self.every.is_none()) {
            self.every = Some(every);
            return Some(2);
        }
        let n = number(word).filter(|n| *n > 0)?;
        if matches!(next, "times" | "x") && self.times_a.is_none() {
            self.times_a = Some(n);
            return Some(2);
        }
        if let Some((each, unit)) = unit(next).filter(|_| self.every.is_none()) {
            self.every = Some((n * each, unit));
            return Some(2);
        }
        None
    }

    /// `between 9:00 and 17:00`, `from 9am to 5pm`, `during business hours`.
    fn take_hours(&mut self, words: &[&str]) -> Option<usize> {
        if self.hours.is_some() {
            return None;
        }
        if !matches!(words[0], "between" | "from" | "during") {
            return None;
        }
        let clock = |words: &[&str]| -> Option<(String, usize)> {
            let with_half = words.get(1).is_some_and(|word| matches!(*word, "am" | "pm" | "a.m." | "p.m."));
            let text = if with_half { words[..2].join(" ") } else { (*words.first()?).to_owned() };
            text.starts_with(|c: char| c.is_ascii_digit() || c == 'n' || c == 'm')
                .then(|| time_in(&text))
                .flatten()
                .map(|time| (time, 1 + usize::from(with_half)))
        };
        let (from, first) = clock(&words[1..])?;
        let join = 1 + first;
        if !matches!(words.get(join).copied(), Some("and" | "to" | "until" | "till" | "-")) {
            return None;
        }
        let (to, second) = clock(&words[join + 1..])?;
        self.hours = Some((from, to));
        Some(join + 1 + second)
    }

    /// `10:30`, `10pm`, `10 pm`, `noon`; `15` as a day where a month is counted, else as an hour.
    fn take_time(&mut self, word: &str, next: &str) -> Option<usize> {
        let half = matches!(next, "am" | "pm" | "a.m." | "p.m.");
        if word.starts_with(':') && self.minute_of_hour(word) {
            return Some(1);
        }
        if matches!(word, "noon" | "midnight") || word.contains(':') || half || word.ends_with(['m', '.']) {
            let said = if half { format!("{word} {next}") } else { word.to_owned() };
            let digits = word.trim_start_matches(|c: char| c.is_ascii_digit() || c == ':');
            if !matches!(digits, "" | "am" | "pm" | "a.m." | "p.m." | "noon" | "midnight") {
                return None;
            }
            self.times.push(time_in(&said)?);
            return Some(1 + usize::from(half));
        }
        let n: u32 = word.parse().ok()?;
        let counts_months = self.every.is_some_and(|(_, unit)| unit == Unit::Month) || !self.months.is_empty();
        match n {
            1000.. if self.months.len() == 1 && self.days.len() == 1 && self.date.is_none() => {
                self.date = Some((n, self.months.pop()?, self.days.pop()?));
            }
            1..=31 if counts_months && self.days.is_empty() && !self.last_day => self.days.push(n),
            1..=31 if self.days.is_empty() && month_named(next).is_some() => self.days.push(n),
            0..=23 if self.times.is_empty() && self.every.is_none_or(|(_, unit)| !matches!(unit, Unit::Elapsed(_))) && self.says_when() => {
                self.times.push(format!("{n:02}:00"));
            }
            _ => return None,
        }
        Some(1)
    }

    /// `:30`, which stands in an hour.
    fn minute_of_hour(&mut self, word: &str) -> bool {
        let fits = self.every == Some((1, Unit::Elapsed("hour"))) && self.times.is_empty() && word.len() == 3;
        if fits {
            self.times.push(word.to_owned());
        }
        fits
    }

    /// `every second`, and no month in which it is the second.
    fn said_every(&self, word: &str, lower: &str) -> bool {
        lower.contains(&format!("every {word}")) && !lower.contains("month")
    }

    /// Whether a number behind it is one of hours.
    fn says_when(&self) -> bool {
        self.at || self.every.is_some() || self.weekdays != 0 || self.last_day || !self.days.is_empty() || self.date.is_some()
    }

    fn hint(&self) -> Option<String> {
        let (rules, note) = self.rules()?;
        if rules.is_empty() || rules.len() > TIMES_MAX || !rules.iter().all(|rule| is_rule(rule)) {
            return None;
        }
        let quoted: Vec<String> = rules.iter().map(|rule| format!("'{rule}'")).collect();
        let mut beside = Vec::new();
        if let Some((from, to)) = &self.hours {
            let days = if self.weekdays == 0 { String::new() } else { format!("{} ", self.day_names(3)) };
            let windows: Vec<String> = days.trim_end().split(',').map(|day| format!("{day} {from}-{to}").trim_start().to_owned()).collect();
            beside.push(format!("active_hours => '{}'", windows.join(", ")));
        }
        if let Some(zone) = self.zone.filter(|_| self.date.is_none()) {
            beside.push(format!("tz => '{zone}'"));
        }
        beside.extend(note);
        if self.either_way && self.weekdays.is_power_of_two() {
            let all = Said { every: Some((2, Unit::Week)), weekdays: self.weekdays, times: self.times.clone(), ..Said::default() };
            let all = all.hint()?;
            return Some(format!(
                "{} for every other week, {} for the second of each month.",
                all.trim_end_matches('.'),
                quoted.join(" and ")
            ));
        }
        let several = if rules.len() > 1 { ", each a schedule of its own" } else { "" };
        if self.once && self.date.is_none() {
            beside.push("repeats => 1".to_owned());
        }
        let beside = if beside.is_empty() { String::new() } else { format!(" with {}", beside.join(" and ")) };
        Some(if self.is_bare_time() && !self.once {
            format!("For each day write {}{beside}{several}; for once add repeats => 1.", quoted.join(" and "))
        } else {
            format!("Write {}{beside}{several}.", quoted.join(" and "))
        })
    }

    /// `10:30` and nothing else.
    fn is_bare_time(&self) -> bool {
        self.every.is_none()
            && self.weekdays == 0
            && self.date.is_none()
            && self.days.is_empty()
            && !self.last_day
            && self.times_a.is_none()
    }
}
