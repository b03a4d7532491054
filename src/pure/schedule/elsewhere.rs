//! Rules as they are written elsewhere, and how they are written here: what the hints of errors say.

use crate::pure::schedule::cron::weekday_named;
use crate::pure::schedule::natural::{is_unit, time_of_day};
use crate::pure::schedule::rule::Rule;

/// Longest part of a text that is repeated in a hint.
const REPEATED_MAX: usize = 100;

/// Whether a first word, in lower case, is a zone in front of a rule: `CRON_TZ=Europe/Berlin`.
pub fn is_zone_in_front(word: &str) -> bool {
    word.starts_with("cron_tz=") || word.starts_with("tz=")
}

/// How to say what `text` means, which is no rule; None: it isn't known from anywhere. `lower`: the same in lower case.
pub fn way_out(text: &str, lower: &str) -> Option<String> {
    let (first, rest) = split_word(lower);
    let (typed, behind) = split_word(text);
    let clock = time_in(rest);
    let at = |otherwise: &str| clock.clone().unwrap_or_else(|| otherwise.to_owned());
    if is_zone_in_front(first) {
        let zone = typed.split_once('=').map_or("", |(_, zone)| zone);
        let known = !zone.is_empty() && !behind.is_empty() && text.len() <= REPEATED_MAX;
        return Some(if known {
            format!("The zone is a parameter of its own: rule '{behind}', tz => '{zone}'.")
        } else {
            "The zone is a parameter of its own: tz => 'Europe/Berlin'.".to_owned()
        });
    }
    if let Some(bracket) = ["cron(", "rate("].iter().find(|name| first.starts_with(**name)) {
        let inside = lower["cron(".len()..].trim_end().trim_end_matches(')');
        return Some(match *bracket {
            "cron(" => match with_year(inside) {
                Some(rule) => format!("Write the cron expression itself: '{rule}'."),
                None => "Write the cron expression itself, such as '0 22 * * 1-5'.".to_owned(),
            },
            _ => format!("Write the interval itself, such as 'every {}'.", lower["rate(".len()..].trim_end().trim_end_matches(')')),
        });
    }
    Some(match first {
        "@every" => match in_words(rest) {
            Some(words) => format!("Write 'every {words}'."),
            None => "Write an interval, such as 'every 5 minutes'.".to_owned(),
        },
        "now" | "immediately" | "asap" => "Write 'once': it fires as soon as it may.".to_owned(),
        "today" => for_once("", &at("10:30")),
        "tonight" => for_once("", &at("20:00")),
        "tomorrow" => for_once(" and start_at => current_date + 1", &at("10:30")),
        "in" if !rest.is_empty() && rest.len() <= REPEATED_MAX => {
            format!("For once write 'once' and start_at => now() + interval '{rest}'.")
        }
        "next" | "this" | "on" if weekday_named(split_word(rest).0).is_some() => {
            format!("For every week write '{} at {}'; for once write the date and time.", split_word(rest).0, at("10:30"))
        }
        "noon" | "midnight" => format!("For each day write 'daily at {}'.", time_in(first).unwrap_or_default()),
        "at" => for_once("", &at("10:30")),
        _ if rest.is_empty() && in_words(first.trim_start_matches("pt")).is_some() => match in_words(first.trim_start_matches("pt"))? {
            minutes if !first.starts_with("pt") && minutes.ends_with("minutes") && !minutes.contains("hour") => {
                format!("Write 'every {minutes}' or 'every {}'.", minutes.replace("minutes", "months"))
            }
            words => format!("Write 'every {words}'."),
        },
        _ => for_once("", &time_in(lower).filter(|_| first.starts_with(|c: char| c.is_ascii_digit()))?),
    })
}

/// `also`: what else is to be said for once.
fn for_once(also: &str, time: &str) -> String {
    format!("For each day write 'daily at {time}'; for once add repeats => 1{also}.")
}

/// How cron's fields are written here that stand in somebody else's order or number; None: they aren't known.
pub fn fields(lower: &str) -> Option<String> {
    let words: Vec<&str> = lower.split_ascii_whitespace().collect();
    let plain = match words.as_slice() {
        [minutes] if minutes.starts_with("*/") => Some(format!("{minutes} * * * *")),
        // Quartz counts weekdays from Sunday = 1, so only their names are the same; a year can't be said.
        [seconds @ .., year] if words.len() == 7 && *year == "*" => without_question_marks(seconds),
        words if words.len() == 6 => without_question_marks(words),
        // Jenkins chooses a place for each H.
        words if words.len() == 5 && words[0].starts_with('h') => {
            let one = |word: &&str| {
                word.strip_prefix('h').map_or((*word).to_owned(), |step| if step.is_empty() { "0".into() } else { format!("*{step}") })
            };
            Some(words.iter().map(one).collect::<Vec<_>>().join(" "))
        }
        _ => None,
    }?;
    Rule::plain(&plain, false).is_ok().then(|| format!("Write '{plain}'."))
}

fn without_question_marks(words: &[&str]) -> Option<String> {
    let weekday = words.last()?;
    let same_weekdays = !weekday.contains(|c: char| c.is_ascii_digit());
    let changed: Vec<&str> = words.iter().map(|word| if *word == "?" { "*" } else { word }).collect();
    (same_weekdays && words.contains(&"?")).then(|| changed.join(" "))
}

/// An expression of AWS: five fields and a year, of which any is understood.
fn with_year(inside: &str) -> Option<String> {
    let words: Vec<&str> = inside.split_ascii_whitespace().collect();
    let ([fields @ .., "*"], 6) = (words.as_slice(), words.len()) else { return None };
    without_question_marks(fields).filter(|rule| Rule::plain(rule, false).is_ok())
}

fn split_word(text: &str) -> (&str, &str) {
    let text = text.trim_ascii();
    text.split_once(|c: char| c.is_ascii_whitespace()).map_or((text, ""), |(first, rest)| (first, rest.trim_ascii_start()))
}

/// The time of day that a text, in lower case, has somewhere in it: `at 10`, `10pm`, `at 9:30 am`, `noon`. As HH:MM[:SS].
pub fn time_in(text: &str) -> Option<String> {
    if let Some(named) = text.split_ascii_whitespace().find_map(|word| match word {
        "noon" => Some("12:00"),
        "midnight" => Some("00:00"),
        _ => None,
    }) {
        return Some(named.to_owned());
    }
    let start = text.find(|c: char| c.is_ascii_digit())?;
    let text = &text[start..];
    let end = text.find(|c: char| !c.is_ascii_digit() && c != ':').unwrap_or(text.len());
    let (digits, behind) = (&text[..end], text[end..].trim_ascii_start());
    let half = ["am", "a.m.", "pm", "p.m."].into_iter().find(|half| behind.starts_with(half));
    if half.is_none() && text[end..].starts_with(|c: char| c.is_alphanumeric()) {
        // "5m" and "10th" are none.
        return None;
    }
    let (hour, minutes) = digits.split_once(':').unwrap_or((digits, "00"));
    let hour: u32 = hour.parse().ok()?;
    let hour = match half.map(|half| half.starts_with('p')) {
        Some(afternoon) if (1..=12).contains(&hour) => hour % 12 + if afternoon { 12 } else { 0 },
        Some(_) => return None,
        // "10 minutes" is no time of day.
        None if is_unit(split_word(behind).0) => return None,
        None => hour,
    };
    let time = format!("{hour:02}:{minutes}");
    time_of_day(&time).map(|_| time)
}

/// `1h30m` as it is written in Go: in words.
fn in_words(duration: &str) -> Option<String> {
    let mut parts = Vec::new();
    let mut rest = duration;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let count: u32 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "h" => "hour",
            "m" => "minute",
            "s" => "second",
            _ => return None,
        };
        rest = &rest[letters..];
        match count {
            0 => {}
            1 => parts.push(format!("1 {unit}")),
            _ => parts.push(format!("{count} {unit}s")),
        }
    }
    (!parts.is_empty()).then(|| parts.join(" "))
}
