//! Rates: at most so many starts in so long. Pure: the clock is a parameter.
//!
//! *bucket* lets a burst of `count` through and then one every `period / count`: the generic cell
//! rate algorithm, whose state is one instant. *window* counts in fixed windows of `period`. Either lets almost twice
//! as many through in a stretch of `period` that begins between. *sliding* lets no more than `count` through in any
//! stretch of that length: it counts by sixteenths of it, so that a start is forgotten up to a sixteenth too late.

use crate::pure::choice::{Named, choices};
use crate::pure::time::{At, Span};

choices! {
    /// How starts are counted; see above.
    pub enum Algorithm {
        Bucket = "bucket",
        Window = "window",
        Sliding = "sliding",
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    pub count: i64,
    pub period: Span,
    pub algorithm: Algorithm,
}

/// Parts of a period that a sliding rate counts by.
pub const PARTS: usize = 16;

/// How much of a rate is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// A bucket: when it will have run dry. Windows: the beginning of one. Sliding: that of the newest part.
    pub at: At,
    /// Windows: the starts in that one.
    pub used: i64,
    /// Sliding: the starts in each part, the newest first: as many parts as a stretch of the period's length can touch.
    pub parts: [u32; PARTS + 1],
}

impl Level {
    /// Before the first.
    pub const UNUSED: Level = Level { at: At::UNSET, used: 0, parts: [0; PARTS + 1] };
}

impl std::fmt::Display for Rate {
    /// As `parse` takes it, in the largest unit that fits, and with its algorithm.
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let seconds = self.period / Span::SECOND;
        let units = [(86_400, "d"), (3600, "h"), (60, "m"), (1, "s")];
        let (times, unit) =
            units.iter().find(|(size, _)| seconds % size == 0).map_or((seconds, "s"), |(size, unit)| (seconds / size, *unit));
        let times = if times == 1 { String::new() } else { times.to_string() };
        write!(f, "{}/{times}{unit} {}", self.count, self.algorithm.name())
    }
}

impl Rate {
    /// '10/m', '100/h', '5/10s': so many in so long (s, m, h, d), and perhaps how they are counted, '5/s window'; else by
    /// `otherwise`.
    pub fn parse(text: &str, otherwise: Algorithm) -> Result<Rate, String> {
        let wrong = || format!("rate \"{text}\" is not like '10/m', '100/h' or '5/10s window'");
        let (text, algorithm) = Rate::said_algorithm(text).map_or((text, otherwise), |(text, algorithm)| (text, algorithm));
        let (count, period) = text.split_once('/').ok_or_else(wrong)?;
        let count: i64 = count.trim().parse().map_err(|_| wrong())?;
        let period = period.trim();
        let digits = period.bytes().take_while(u8::is_ascii_digit).count();
        let times: i64 = if digits == 0 { 1 } else { period[..digits].parse().map_err(|_| wrong())? };
        let unit: i64 = match period[digits..].trim() {
            "s" | "sec" | "second" | "seconds" => 1,
            "m" | "min" | "minute" | "minutes" => 60,
            "h" | "hour" | "hours" => 3600,
            "d" | "day" | "days" => 86_400,
            _ => return Err(wrong()),
        };
        if count < 1 || times < 1 || count > 1_000_000 || times > 1_000_000 {
            return Err(format!("rate \"{text}\" is out of range: 1 to 1000000 in 1 to 1000000 units of time"));
        }
        Ok(Rate { count, period: Span::of_secs(times * unit), algorithm })
    }

    /// The rate without the word for how it is counted, if there is one at its end.
    fn said_algorithm(text: &str) -> Option<(&str, Algorithm)> {
        let (rate, word) = text.trim_end().rsplit_once(|c: char| c.is_ascii_whitespace())?;
        Some((rate, Algorithm::of(word)?))
    }

    /// The word for it that a rate ends with.
    pub fn algorithm_of(text: &str) -> Option<Algorithm> {
        Rate::said_algorithm(text).map(|(_, algorithm)| algorithm)
    }

    /// When it goes on, for people.
    pub const fn hint(&self) -> &'static str {
        match self.algorithm {
            Algorithm::Bucket => {
                "It starts by itself then, or when the rate is raised. A bucket lets so many through at once, then one after the other evenly."
            }
            Algorithm::Window => {
                "It starts by itself then, or when the rate is raised. A window lets so many through in each stretch of the clock."
            }
            Algorithm::Sliding => {
                "It starts by itself then, or when the rate is raised. A sliding window lets so many through in any stretch."
            }
        }
    }

    /// The same pace in whole numbers, for who has written a fraction: '0.5/s' is '1/2s'. None: it is no such thing.
    pub fn in_whole_numbers(text: &str) -> Option<String> {
        let (count, period) = text.split_once('/')?;
        let (whole, part) = count.trim().split_once('.').filter(|(_, part)| !part.is_empty() && part.len() <= 6)?;
        let scale = 10i64.pow(part.len() as u32);
        let number = whole.parse::<u32>().ok().map(i64::from)? * scale + part.parse::<u32>().ok().map(i64::from)?;
        let (mut common, mut rest) = (scale, number);
        while rest != 0 {
            (common, rest) = (rest, common % rest);
        }
        let period = period.trim();
        let digits = period.bytes().take_while(u8::is_ascii_digit).count();
        let times = if digits == 0 { 1 } else { period[..digits].parse::<i64>().ok()? };
        let times = times.checked_mul(scale / common).map(|times| if times == 1 { String::new() } else { times.to_string() })?;
        let written = format!("{}/{times}{}", number / common, period[digits..].trim());
        Rate::parse(&written, Algorithm::Bucket).is_ok().then_some(written)
    }

    /// The state, as far ahead as it can be: a clock that was set back, or a slower rate before, must not close it for
    /// longer than one period from now on.
    pub fn bounded(&self, state: Level, now: At) -> Level {
        match self.algorithm {
            Algorithm::Bucket => Level { at: state.at.min(now + self.period), ..state },
            Algorithm::Window => state,
            Algorithm::Sliding => Level { at: state.at.min(self.part_at(now)), ..state },
        }
    }

    /// From when on this state says nothing: it is as before the first.
    pub fn over_at(&self, state: Level) -> At {
        match self.algorithm {
            Algorithm::Bucket => state.at,
            Algorithm::Window => state.at.saturating_add(self.period),
            Algorithm::Sliding => state.at.saturating_add(self.part() * (PARTS as i64 + 1)),
        }
    }

    /// Whether one may start now: the state after it, or when one may.
    pub fn admit(&self, state: Level, now: At) -> Result<Level, At> {
        match self.algorithm {
            Algorithm::Bucket => self.admit_to_bucket(state, now),
            Algorithm::Window => {
                let start = now - now.since_multiple_of(self.period);
                let used = if state.at == start { state.used } else { 0 };
                if used < self.count { Ok(Level { at: start, used: used + 1, ..state }) } else { Err(start + self.period) }
            }
            Algorithm::Sliding => self.admit_sliding(state, now),
        }
    }

    fn admit_to_bucket(&self, state: Level, now: At) -> Result<Level, At> {
        let empty_at = self.bounded(state, now).at.max(now);
        let step = self.period / self.count;
        // The bucket holds `count` drops; `empty_at` is when it will have run dry.
        if empty_at - now + step <= self.period { Ok(Level { at: empty_at + step, ..state }) } else { Err(empty_at + step - self.period) }
    }

    fn admit_sliding(&self, state: Level, now: At) -> Result<Level, At> {
        let newest = self.part_at(now);
        let passed = newest.saturating_since(self.bounded(state, now).at) / self.part();
        let mut parts = [0; PARTS + 1];
        for (age, starts) in (usize::try_from(passed).unwrap_or(usize::MAX)..=PARTS).zip(state.parts) {
            parts[age] = starts;
        }
        let used: i64 = parts.iter().copied().map(i64::from).sum();
        if used < self.count {
            parts[0] += 1;
            return Ok(Level { at: newest, parts, ..state });
        }
        // When so many of the oldest parts have gone that there is room.
        let mut left = used;
        let room = (0..=PARTS).rev().find(|age| {
            left -= i64::from(parts[*age]);
            left < self.count
        });
        Err(newest + self.part() * (PARTS + 1 - room.unwrap_or(0)) as i64)
    }

    fn part(&self) -> Span {
        self.period / PARTS as i64
    }

    fn part_at(&self, now: At) -> At {
        now - now.since_multiple_of(self.part())
    }
}
