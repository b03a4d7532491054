//! Rules in words: `every 5 minutes`, `monday at 10:30`, `daily`, `once`, and Django-Q's letters.
//!
//! Contract: a small grammar read from left to right; the first thing that doesn't fit is the error, with
//! its position. One unit is singular and more are plural, as in Python's `schedule`: `every 2 day` is a
//! slip of the pen somewhere, and guessing would hide it.
//!
//! ```text
//! rule  = 'after' ['all' | 'any'] | 'once' ['at' timestamp] | letter | word ['at' time] | ['every'] what
//! what  = n [unit {n unit}] ['at' time] | n 'to' n units | unit ['at' time]
//!       | weekday {',' | 'and' weekday} ['at' time]
//! time  = HH:MM[:SS] | for hours :MM or MM:SS | for minutes :SS, with or without quotes
//! ```

use crate::pure::schedule::cron::weekday_named;
use crate::pure::schedule::elsewhere;
use crate::pure::schedule::rule::{CalendarUnit, EXAMPLES, Form, RuleError};
use crate::pure::schedule::timestamp;
use crate::pure::schedule::zone::shortened;

/// No period is longer than this: it would never fire in anyone's lifetime, so it is a mistake.
const YEARS_MAX: i64 = 1_000;
const SECONDS_MAX: i64 = YEARS_MAX * 12 * LONGEST_MONTH;
const LONGEST_MONTH: i64 = 31 * 86_400;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    /// Elapsed time, in seconds.
    Elapsed(i64),
    Days(i64),
    Months(i64),
}

const SECOND: Unit = Unit::Elapsed(1);
const MINUTE: Unit = Unit::Elapsed(60);
const HOUR: Unit = Unit::Elapsed(3600);

/// `text` as typed (the letters' case counts), `lower` the same in lower case.
pub fn parse(text: &str, lower: &str) -> Result<Form, RuleError> {
    let mut reader = Reader::new(lower);
    let position = reader.position();
    let Token::Word(first) = reader.peek() else {
        return every(&mut reader).map_err(|error| match elsewhere::way_out(text, lower) {
            Some(way_out) => error.hint(&way_out),
            None => error,
        });
    };
    let typed = &text[position..position + first.len()];
    match first {
        "every" => {
            reader.next();
            return every(&mut reader);
        }
        "once" => {
            reader.next();
            if reader.take_word("at") {
                return timestamp::parse(text, reader.position()).map(Form::At);
            }
            reader.end()?;
            return Ok(Form::Once);
        }
        "after" => {
            reader.next();
            let any = reader.take_word("any");
            if !any {
                reader.take_word("all");
            }
            return match reader.peek() {
                Token::End => Ok(Form::After { any }),
                _ => Err(reader
                    .unexpected("the end")
                    .hint("The schedules that this one comes after are a parameter of their own: after => '{…}'.")),
            };
        }
        _ => {}
    }
    if let Some(form) = named_period(typed, first) {
        reader.next();
        let form = match form {
            // `I 15` as Django-Q's pair of type and number.
            Form::Interval { seconds: 60 }
                if typed == "I"
                    && let Token::Number(n) = reader.peek() =>
            {
                let position = reader.position();
                reader.next();
                Form::Interval { seconds: multiplied(position, n, 60)? }
            }
            Form::Calendar { every, unit, .. } => Form::Calendar { every, unit, at: time_of_day_after_at(&mut reader)? },
            form => form,
        };
        reader.end()?;
        return Ok(form);
    }
    if weekdays_named(first).is_some() {
        return weekdays(&mut reader);
    }
    let error = RuleError::rule(position, format!("\"{}\" is not a rule", shortened(typed)));
    Err(if let Some(way_out) = elsewhere::way_out(text, lower) {
        error.hint(&way_out)
    } else if typed == "C" || first == "cron" {
        error.hint("Write the cron expression itself, such as '0 22 * * 1-5'.")
    } else if named_period(&typed.to_ascii_uppercase(), "").is_some() {
        error.hint("The one- and two-letter types are capitals: I H D W BW M BM Q Y O.")
    } else if unit_named(first).is_some() {
        error.hint("Put 'every' or a number before the unit.")
    } else {
        error.hint(EXAMPLES)
    })
}

/// The periods that have a name, and Django-Q's letters for them.
fn named_period(typed: &str, lower: &str) -> Option<Form> {
    let calendar = |every, unit| Some(Form::Calendar { every, unit, at: None });
    let period = match typed {
        "O" => return Some(Form::Once),
        "I" => "minutes",
        "H" => "hourly",
        "D" => "daily",
        "W" => "weekly",
        "BW" => "biweekly",
        "M" => "monthly",
        "BM" => "bimonthly",
        "Q" => "quarterly",
        "Y" => "yearly",
        _ => lower,
    };
    match period {
        "minutes" | "minutely" => Some(Form::Interval { seconds: 60 }),
        "hourly" => Some(Form::Interval { seconds: 3600 }),
        "daily" => calendar(1, CalendarUnit::Day),
        "weekly" => calendar(7, CalendarUnit::Day),
        "biweekly" | "fortnightly" => calendar(14, CalendarUnit::Day),
        "monthly" => calendar(1, CalendarUnit::Month),
        "bimonthly" => calendar(2, CalendarUnit::Month),
        "quarterly" => calendar(3, CalendarUnit::Month),
        "yearly" | "annually" => calendar(12, CalendarUnit::Month),
        _ => None,
    }
}

fn every(reader: &mut Reader) -> Result<Form, RuleError> {
    let position = reader.position();
    match reader.peek() {
        Token::Number(count) => {
            reader.next();
            if reader.take_word("to") {
                return random(reader, position, count);
            }
            counted(reader, position, count)
        }
        Token::Word(word) if unit_named(word).is_some() => {
            let Some((unit, number)) = unit_named(word) else {
                return Err(reader.unexpected("a unit"));
            };
            if number == Grammatical::Plural {
                let message = format!("\"{word}\" needs a number before it");
                return Err(RuleError::rule(position, message).hint("Write 'every minute' or 'every 5 minutes'."));
            }
            reader.next();
            periodic(reader, position, 1, unit)
        }
        Token::Word(word) if weekdays_named(word).is_some() => weekdays(reader),
        _ => Err(reader.unexpected("a number, a unit or a weekday").hint(EXAMPLES)),
    }
}

/// `n unit`, possibly continued (`1 hour 30 minutes`), after the first number was read.
fn counted(reader: &mut Reader, position: usize, count: i64) -> Result<Form, RuleError> {
    let unit = read_unit(reader, count)?;
    let Unit::Elapsed(unit_seconds) = unit else {
        return periodic(reader, position, count, unit);
    };
    if !matches!(reader.peek(), Token::Number(_)) {
        return periodic(reader, position, count, unit);
    }
    let mut total = multiplied(position, count, unit_seconds)?;
    let mut smallest = unit_seconds;
    while let Token::Number(count) = reader.peek() {
        reader.next();
        let unit_position = reader.position();
        match read_unit(reader, count)? {
            Unit::Elapsed(seconds) if seconds < smallest => {
                total += multiplied(position, count, seconds)?;
                smallest = seconds;
            }
            _ => {
                return Err(RuleError::rule(unit_position, "units must go from large to small".to_owned())
                    .hint("Only hours, minutes and seconds can be added up: 'every 1 hour 30 minutes'."));
            }
        }
    }
    reader.end()?;
    interval(position, total)
}

/// `every` units, with an optional time inside the unit.
fn periodic(reader: &mut Reader, position: usize, every: i64, unit: Unit) -> Result<Form, RuleError> {
    let form = match unit {
        Unit::Days(days) => {
            let every = multiplied(position, every, days * 86_400)? / 86_400;
            Form::Calendar { every, unit: CalendarUnit::Day, at: time_of_day_after_at(reader)? }
        }
        Unit::Months(months) => {
            let every = multiplied(position, every, months * LONGEST_MONTH)? / LONGEST_MONTH;
            Form::Calendar { every, unit: CalendarUnit::Month, at: time_of_day_after_at(reader)? }
        }
        Unit::Elapsed(seconds) if reader.peek() == Token::Word("at") => {
            reader.next();
            let at = reader.time(seconds)?;
            multiplied(position, every, seconds)?;
            Form::Aligned { every, unit: seconds, at: i64::from(at) }
        }
        Unit::Elapsed(seconds) => interval(position, multiplied(position, every, seconds)?)?,
    };
    reader.end()?;
    Ok(form)
}

/// `every 5 to 10 minutes`, after the `to`.
fn random(reader: &mut Reader, position: usize, min: i64) -> Result<Form, RuleError> {
    let max_position = reader.position();
    let Token::Number(max) = reader.peek() else {
        return Err(reader.unexpected("a number"));
    };
    reader.next();
    let unit_position = reader.position();
    let seconds = match read_unit(reader, max)? {
        Unit::Elapsed(seconds) => seconds,
        Unit::Days(days) => days * 86_400,
        Unit::Months(_) => {
            return Err(RuleError::rule(unit_position, "a random interval can't count months".to_owned())
                .hint("Use weeks or days: 'every 20 to 40 days'."));
        }
    };
    if max < min {
        return Err(RuleError::rule(max_position, format!("{max} is less than {min}")));
    }
    reader.end()?;
    interval(position, multiplied(position, min, seconds)?)?;
    let (min, max) = (multiplied(position, min, seconds)?, multiplied(max_position, max, seconds)?);
    Ok(if min == max { Form::Interval { seconds: min } } else { Form::Random { min, max } })
}

/// `monday`, `mondays`, `mon, wed and fri`, `weekdays`, with an optional time of day.
fn weekdays(reader: &mut Reader) -> Result<Form, RuleError> {
    let mut days = 0;
    loop {
        let Token::Word(word) = reader.peek() else {
            return Err(reader.unexpected("a weekday"));
        };
        let Some(named) = weekdays_named(word) else {
            return Err(reader.unexpected("a weekday"));
        };
        days |= named;
        reader.next();
        // "mon, wed, and fri"
        let comma = reader.take_punctuation(',');
        if !(reader.take_word("and") || comma) {
            break;
        }
    }
    let at = time_of_day_after_at(reader)?;
    reader.end()?;
    Ok(Form::Weekdays { days, at })
}

/// The weekdays a word stands for: `mon`, `mondays`, `weekdays`, `weekend`. Bit 0 = Sunday.
fn weekdays_named(word: &str) -> Option<u64> {
    let singular = word.strip_suffix('s').filter(|word| word.ends_with("day") || word.ends_with("end")).unwrap_or(word);
    match singular {
        "weekday" => Some(0b011_1110),
        "weekend" => Some(0b100_0001),
        _ => weekday_named(singular).map(|day| 1 << day),
    }
}

fn time_of_day_after_at(reader: &mut Reader) -> Result<Option<u32>, RuleError> {
    if reader.take_word("at") { reader.time(86_400).map(Some) } else { Ok(None) }
}

/// Reads a unit that fits its count: one is singular, more are plural; abbreviations are both.
fn read_unit(reader: &mut Reader, count: i64) -> Result<Unit, RuleError> {
    let position = reader.position();
    let Token::Word(word) = reader.peek() else {
        return Err(reader.unexpected("a unit").hint(UNITS));
    };
    if weekdays_named(word).is_some() {
        let message = format!("\"{word}\" cannot follow a number");
        return Err(RuleError::rule(position, message)
            .hint("A weekday comes every week: 'every monday at 10:30'. For every other week use cron or 'biweekly'."));
    }
    let Some((unit, number)) = unit_named(word) else {
        if word.eq_ignore_ascii_case("m") {
            let hint = format!("Write '{count} minutes' or '{count} months'.");
            return Err(RuleError::rule(position, "\"m\" is minutes or months".to_string()).hint(&hint));
        }
        return Err(RuleError::rule(position, format!("\"{}\" is not a unit of time", shortened(word))).hint(UNITS));
    };
    if count != 1 && number == Grammatical::Singular {
        return Err(RuleError::rule(position, format!("\"{word}\" is singular")).hint(&format!("Write '{count} {word}s'.")));
    }
    reader.next();
    Ok(unit)
}

const UNITS: &str = "Units are seconds, minutes, hours, days, weeks, months, quarters and years.";

const UNIT_NAMES: &[(&str, Unit)] = &[
    ("second", SECOND),
    ("minute", MINUTE),
    ("hour", HOUR),
    ("day", Unit::Days(1)),
    ("week", Unit::Days(7)),
    ("month", Unit::Months(1)),
    ("quarter", Unit::Months(3)),
    ("year", Unit::Months(12)),
];

/// How many of its unit a word stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Grammatical {
    Singular,
    Plural,
    Abbreviation,
}

/// The unit a word names. `m` alone is missing on purpose: minutes or months?
fn unit_named(word: &str) -> Option<(Unit, Grammatical)> {
    let full = |word: &str| UNIT_NAMES.iter().find(|(name, _)| *name == word).map(|(_, unit)| *unit);
    if let Some(unit) = full(word) {
        return Some((unit, Grammatical::Singular));
    }
    if let Some(unit) = word.strip_suffix('s').and_then(full) {
        return Some((unit, Grammatical::Plural));
    }
    let unit = match word {
        "s" | "sec" | "secs" => SECOND,
        "min" | "mins" => MINUTE,
        "h" | "hr" | "hrs" => HOUR,
        "d" => Unit::Days(1),
        "w" => Unit::Days(7),
        "y" | "yr" | "yrs" => Unit::Months(12),
        _ => return None,
    };
    Some((unit, Grammatical::Abbreviation))
}

/// Whether a word, in lower case, is the name of a unit.
pub fn is_unit(word: &str) -> bool {
    unit_named(word).is_some()
}

fn interval(position: usize, seconds: i64) -> Result<Form, RuleError> {
    if seconds < 1 {
        return Err(RuleError::rule(position, "an interval must be at least 1 second".to_owned()));
    }
    Ok(Form::Interval { seconds })
}

/// `count` units, checked to be neither nothing nor absurd.
fn multiplied(position: usize, count: i64, unit: i64) -> Result<i64, RuleError> {
    if count < 1 {
        return Err(RuleError::rule(position, "the number before a unit must be at least 1".to_owned()));
    }
    count
        .checked_mul(unit)
        .filter(|total| *total <= SECONDS_MAX)
        .ok_or_else(|| RuleError::rule(position, format!("an interval can't be longer than {YEARS_MAX} years")))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    Number(i64),
    Word(&'a str),
    Other(char),
    End,
}

struct Reader<'a> {
    text: &'a str,
    /// Where the next token starts, blanks skipped.
    position: usize,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str) -> Reader<'a> {
        let mut reader = Reader { text, position: 0 };
        reader.skip_blanks();
        reader
    }

    fn position(&self) -> usize {
        self.position
    }

    fn rest(&self) -> &'a str {
        &self.text[self.position..]
    }

    fn skip_blanks(&mut self) {
        let rest = self.rest();
        self.position += rest.len() - rest.trim_ascii_start().len();
    }

    fn token(&self) -> (Token<'a>, usize) {
        let rest = self.rest();
        let run = |wanted: fn(char) -> bool| rest.find(|c| !wanted(c)).unwrap_or(rest.len());
        match rest.chars().next() {
            None => (Token::End, 0),
            Some(c) if c.is_ascii_digit() => {
                let length = run(|c| c.is_ascii_digit());
                // Beyond i64 any number is too large; `multiplied` says so.
                (Token::Number(rest[..length].parse().unwrap_or(i64::MAX)), length)
            }
            Some(c) if c.is_alphabetic() => {
                let length = run(char::is_alphabetic);
                (Token::Word(&rest[..length]), length)
            }
            Some(c) => (Token::Other(c), c.len_utf8()),
        }
    }

    fn peek(&self) -> Token<'a> {
        self.token().0
    }

    fn next(&mut self) {
        self.position += self.token().1;
        self.skip_blanks();
    }

    fn take_word(&mut self, wanted: &str) -> bool {
        let found = self.peek() == Token::Word(wanted);
        if found {
            self.next();
        }
        found
    }

    fn take_punctuation(&mut self, wanted: char) -> bool {
        let found = self.peek() == Token::Other(wanted);
        if found {
            self.next();
        }
        found
    }

    fn end(&self) -> Result<(), RuleError> {
        match self.peek() {
            Token::End => Ok(()),
            Token::Number(_) if time_of_day(self.rest()).is_some() => {
                Err(self.unexpected("the end").hint(&format!("A time of day stands behind \"at\": 'at {}'.", self.rest())))
            }
            _ => Err(self.unexpected("the end")),
        }
    }

    fn unexpected(&self, wanted: &str) -> RuleError {
        let found: String = match self.token() {
            (Token::End, _) => {
                return RuleError::rule(self.position, format!("rule ends where {wanted} was expected"));
            }
            (_, length) => shortened(&self.rest()[..length]),
        };
        RuleError::rule(self.position, format!("unexpected \"{found}\", expected {wanted}"))
    }

    /// The time after `at`, as seconds into a unit of so many seconds; it is the last thing in a rule.
    fn time(&mut self, unit: i64) -> Result<u32, RuleError> {
        let mut text = self.rest().trim_ascii_end();
        let mut position = self.position;
        for quote in ['\'', '"'] {
            if let Some(inner) = text.strip_prefix(quote).and_then(|inner| inner.strip_suffix(quote)) {
                text = inner;
                position += 1;
            }
        }
        self.position = self.text.len();
        let (shape, parsed) = match unit {
            86_400 => ("HH:MM or HH:MM:SS", time_of_day(text)),
            3600 => (":MM or MM:SS", minute_of_hour(text)),
            60 => (":SS", text.strip_prefix(':').and_then(|s| two_digits(s, 59))),
            _ => {
                return Err(RuleError::rule(position, "seconds can't have an \"at\"".to_owned()));
            }
        };
        parsed.ok_or_else(|| {
            let message = if text.is_empty() {
                "there is no time after \"at\"".to_owned()
            } else {
                format!("\"{}\" is not a time of this unit", shortened(text))
            };
            let example = elsewhere::time_in(text).filter(|_| unit == 86_400).map_or(String::new(), |time| format!(" ('at {time}')"));
            RuleError::rule(position, message)
                .hint(&format!("Write it as {shape}{example}, on a 24-hour clock; the time zone is a parameter of its own."))
        })
    }
}

/// `HH:MM[:SS]` as seconds of the day; the hour may have one digit.
pub fn time_of_day(text: &str) -> Option<u32> {
    let (hour, rest) = text.split_once(':')?;
    let hour = if hour.len() == 1 { digits(hour) } else { two_digits(hour, 23) }?;
    let (minute, second) = rest.split_once(':').map_or((rest, "00"), |(minute, second)| (minute, second));
    Some(hour * 3600 + two_digits(minute, 59)? * 60 + two_digits(second, 59)?)
}

fn minute_of_hour(text: &str) -> Option<u32> {
    match text.strip_prefix(':') {
        Some(minute) => Some(two_digits(minute, 59)? * 60),
        None => {
            let (minute, second) = text.split_once(':')?;
            Some(two_digits(minute, 59)? * 60 + two_digits(second, 59)?)
        }
    }
}

fn two_digits(text: &str, max: u32) -> Option<u32> {
    (text.len() == 2).then_some(text).and_then(digits).filter(|value| *value <= max)
}

fn digits(text: &str) -> Option<u32> {
    text.bytes().all(|b| b.is_ascii_digit()).then_some(text)?.parse().ok()
}
