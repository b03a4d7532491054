//! Rates: at most so many starts in so long. Pure: the clock is a parameter.
//!
//! *bucket* lets a burst of `count` through and then one every `period / count`: the generic cell
//! rate algorithm, whose state is one instant. *window* counts in fixed windows of `period`.

use crate::pure::choice::choices;
use crate::pure::time::{At, Span};

choices! {
    /// How starts are counted; see above.
    pub enum Algorithm {
        Bucket = "bucket",
        Window = "window",
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    pub count: i64,
    pub period: Span,
    pub window: bool,
}

/// How much of a rate is used up. A bucket: when it will have run dry, and nothing. Windows: the beginning of one, and the
/// starts in it.
pub type Level = (At, i64);

impl std::fmt::Display for Rate {
    /// As `parse` takes it, in the largest unit that fits.
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let seconds = self.period / Span::SECOND;
        let units = [(86_400, "d"), (3600, "h"), (60, "m"), (1, "s")];
        let (times, unit) =
            units.iter().find(|(size, _)| seconds % size == 0).map_or((seconds, "s"), |(size, unit)| (seconds / size, *unit));
        if times == 1 { write!(f, "{}/{unit}", self.count) } else { write!(f, "{}/{times}{unit}", self.count) }
    }
}

impl Rate {
    /// '10/m', '100/h', '5/10s': so many in so long (s, m, h, d).
    pub fn parse(text: &str, window: bool) -> Result<Rate, String> {
        let wrong = || format!("rate \"{text}\" is not like '10/m', '100/h' or '5/10s'");
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
        Ok(Rate { count, period: Span::of_secs(times * unit), window })
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
        Rate::parse(&written, false).is_ok().then_some(written)
    }

    /// The state, as far ahead as it can be: a clock that was set back, or a slower rate before, must not close
    /// the bucket for longer than one period from now on.
    pub fn bounded(&self, state: Level, now: At) -> Level {
        if self.window { state } else { (state.0.min(now + self.period), state.1) }
    }

    /// From when on this state says nothing: it is as before the first.
    pub fn over_at(&self, state: Level) -> At {
        if self.window { state.0.saturating_add(self.period) } else { state.0 }
    }

    /// Whether one may start now: the state after it, or when one may.
    /// The state is zero before the first.
    pub fn admit(&self, state: Level, now: At) -> Result<Level, At> {
        if self.window {
            let start = now - now.since_multiple_of(self.period);
            let used = if state.0 == start { state.1 } else { 0 };
            return if used < self.count { Ok((start, used + 1)) } else { Err(start + self.period) };
        }
        let empty_at = self.bounded(state, now).0.max(now);
        let step = self.period / self.count;
        // The bucket holds `count` drops; `empty_at` is when it will have run dry.
        if empty_at - now + step <= self.period { Ok((empty_at + step, 0)) } else { Err(empty_at + step - self.period) }
    }
}
