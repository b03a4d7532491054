//! A rule in words, for people who read a list of schedules.
//!
//! Contract: built from what was parsed and not from the text, so it shows what tenant_q understood.

use crate::pure::schedule::calendar::{DAY, date_from_days};
use crate::pure::schedule::cron::{Cron, DaysOfMonth, DaysOfWeek, bits, mask};
use crate::pure::schedule::rule::{CalendarUnit, Form, Rule};
use crate::pure::schedule::timestamp::{Clock, Timestamp};

const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

const MONTHS: [&str; 12] =
    ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"];

/// Says what a rule means, in lower case and without a full stop.
pub fn describe(rule: &Rule) -> String {
    match &rule.form {
        Form::Cron(cron) => describe_cron(cron),
        Form::Interval { seconds } => format!("every {}", duration(*seconds)),
        Form::Random { min, max } => {
            let both = |unit: i64| min % unit == 0 && max % unit == 0;
            match [(3600, "hours"), (60, "minutes"), (1, "seconds")].into_iter().find(|(unit, _)| both(*unit)) {
                Some((unit, name)) if unit > 1 || *max < 120 => format!("every {} to {} {name}, at random", min / unit, max / unit),
                _ => format!("every {} to {}, at random", in_figures(*min), in_figures(*max)),
            }
        }
        Form::Calendar { every, unit, at } => {
            let period = match unit {
                CalendarUnit::Day if every % 7 == 0 => counted(every / 7, "week"),
                CalendarUnit::Day => counted(*every, "day"),
                CalendarUnit::Month if every % 12 == 0 => counted(every / 12, "year"),
                CalendarUnit::Month => counted(*every, "month"),
            };
            format!("every {period}{}", at_time(*at))
        }
        Form::Weekdays { days, at } => format!("every {}{}", list(*days, |day| WEEKDAYS[day as usize].to_owned()), at_time(*at)),
        Form::Aligned { every, unit: 3600, at } => {
            format!("every {}, {}", counted(*every, "hour"), past(*at, "hour"))
        }
        Form::Aligned { every, at, .. } => format!("every {}, {}", counted(*every, "minute"), past(*at, "minute")),
        Form::Once => "once".to_owned(),
        Form::After { any: false } => "after other schedules".to_owned(),
        Form::After { any: true } => "after any of other schedules".to_owned(),
        Form::At(timestamp) => format!("once at {}", describe_timestamp(timestamp)),
        Form::Solar(solar) => {
            let event = solar.event.name.replace('_', " ");
            format!("at {event} at latitude {}, longitude {}", solar.latitude, solar.longitude)
        }
    }
}

/// So many seconds into an hour or a minute: "at 5 minutes past the hour".
fn past(seconds: i64, unit: &str) -> String {
    match seconds {
        0 => format!("on the {unit}"),
        _ => format!("at {} past the {unit}", in_figures(seconds)),
    }
}

fn at_time(second_of_day: Option<u32>) -> String {
    second_of_day.map_or_else(String::new, |second| format!(" at {}", clock(i64::from(second))))
}

fn clock(second_of_day: i64) -> String {
    let (hour, minute, second) = (second_of_day / 3600, second_of_day / 60 % 60, second_of_day % 60);
    match second {
        0 => format!("{hour:02}:{minute:02}"),
        _ => format!("{hour:02}:{minute:02}:{second:02}"),
    }
}

/// "day", "3 days"
fn counted(n: i64, unit: &str) -> String {
    if n == 1 { unit.to_owned() } else { format!("{n} {unit}s") }
}

/// As [`duration`], but "1 minute" too.
fn in_figures(seconds: i64) -> String {
    let text = duration(seconds);
    if text.starts_with(|c: char| c.is_ascii_digit()) { text } else { format!("1 {text}") }
}

/// In the largest units that add up: "90 seconds" is "1 minute 30 seconds".
fn duration(seconds: i64) -> String {
    let parts: Vec<(i64, &str)> =
        [(seconds / 3600, "hour"), (seconds / 60 % 60, "minute"), (seconds % 60, "second")].into_iter().filter(|(n, _)| *n > 0).collect();
    match parts[..] {
        [(n, unit)] => counted(n, unit),
        _ => parts.iter().map(|(n, unit)| if *n == 1 { format!("1 {unit}") } else { counted(*n, unit) }).collect::<Vec<_>>().join(" "),
    }
}

fn describe_timestamp(timestamp: &Timestamp) -> String {
    let (year, month, day) = date_from_days(timestamp.local.div_euclid(DAY));
    let time = clock(timestamp.local.rem_euclid(DAY));
    let whose = match timestamp.clock {
        Clock::Schedule => String::new(),
        Clock::Offset(0) => " UTC".to_owned(),
        Clock::Offset(offset) => {
            let sign = if offset < 0 { '-' } else { '+' };
            format!(" UTC{sign}{:02}:{:02}", offset.abs() / 3600, offset.abs() / 60 % 60)
        }
        Clock::Zone(zone) => format!(" {}", zone.name()),
    };
    format!("{year:04}-{month:02}-{day:02} {time}{whose}")
}

fn describe_cron(cron: &Cron) -> String {
    let mut text = times(cron);
    let by_date = describe_dates(&cron.days);
    let by_weekday = describe_weekdays(&cron.weekdays);
    match (by_date, by_weekday) {
        (None, None) => {}
        // One of them is enough, and one is every day.
        (None, _) | (_, None) if !cron.both_days => {}
        (Some(days), None) | (None, Some(days)) => text += &format!(", on {days}"),
        (Some(dates), Some(weekdays)) if cron.both_days => text += &format!(", on {dates} if it is {weekdays}"),
        (Some(dates), Some(weekdays)) => text += &format!(", on {dates} or on {weekdays}"),
    }
    if cron.months != mask(1, 12) {
        text += &format!(", in {}", list(cron.months, |month| MONTHS[month as usize - 1].to_owned()));
    }
    text
}

fn times(cron: &Cron) -> String {
    let (seconds, minutes, hours) = (cron.seconds, cron.minutes, cron.hours);
    let few = |set: u64| set.count_ones() <= 4;
    let at_second_0 = seconds == 1;
    // "at 08:00, 08:30 and 12:00" is what people want to read, while the list is short.
    if seconds.count_ones() == 1 && minutes.count_ones() * hours.count_ones() <= 4 && few(minutes) {
        let times: Vec<String> = bits(hours)
            .flat_map(|hour| bits(minutes).map(move |minute| (hour, minute)))
            .map(|(hour, minute)| clock(i64::from(hour * 3600 + minute * 60 + seconds.trailing_zeros())))
            .collect();
        return format!("at {}", joined(times));
    }
    let every_hour = hours == mask(0, 23);
    // Hours in a row are a span of the day.
    let span = bits(hours)
        .next()
        .zip(bits(hours).last())
        .filter(|(first, last)| !every_hour && last > first && last - first + 1 == hours.count_ones());
    let second = i64::from(seconds.trailing_zeros());
    if seconds.count_ones() == 1 && few(minutes) && !field(minutes, 59, "minute").starts_with("every") {
        let minute = minutes.trailing_zeros();
        return match (minutes.count_ones(), span) {
            (1, Some((first, last))) => {
                let at = |hour: u32| clock(i64::from(hour * 3600 + minute * 60) + second);
                format!("every hour from {} to {}", at(first), at(last))
            }
            (count, _) => {
                let past = match count {
                    1 => past(i64::from(minute * 60) + second, "hour"),
                    _ if second == 0 => format!("at {} minutes past the hour", list(minutes, |minute| minute.to_string())),
                    _ => format!("at second {second} of {}", field(minutes, 59, "minute")),
                };
                match span {
                    Some((first, last)) => format!("every hour, {past}, from {first:02}:00 to {last:02}:59"),
                    None if every_hour => format!("every hour, {past}"),
                    None => format!("{past}, in hours {}", list(hours, |hour| hour.to_string())),
                }
            }
        };
    }
    if !at_second_0 && seconds.count_ones() == 1 && minutes == mask(0, 59) && every_hour {
        return format!("every minute, {}", past(second, "minute"));
    }
    let mut parts = Vec::new();
    if !at_second_0 {
        parts.push(field(seconds, 59, "second"));
    }
    match (at_second_0, minutes == mask(0, 59)) {
        (false, true) => {}
        _ => parts.push(field(minutes, 59, "minute")),
    }
    let between = span.map(|(first, last)| format!(", from {first:02}:00 to {last:02}:59"));
    if !every_hour && between.is_none() {
        parts.push(field(hours, 23, "hour"));
    } else if between.is_none() && parts.last().is_some_and(|minutes| minutes.starts_with("minute")) {
        parts.push("every hour".to_owned());
    }
    parts.join(" of ") + &between.unwrap_or_default()
}

/// "every minute", "every 15 minutes", "minutes 5 and 35", "hours 9 to 17"
fn field(set: u64, max: u32, unit: &str) -> String {
    if set == mask(0, max) {
        return format!("every {unit}");
    }
    let values: Vec<u32> = bits(set).collect();
    if let [0, step, ..] = values[..]
        && step > 1
        && (0..=max).step_by(step as usize).eq(values.iter().copied())
    {
        return format!("every {step} {unit}s");
    }
    let plural = if values.len() > 1 { "s" } else { "" };
    format!("{unit}{plural} {}", list(set, |value| value.to_string()))
}

fn describe_dates(days: &DaysOfMonth) -> Option<String> {
    if days.plain & mask(1, 31) == mask(1, 31) {
        return None;
    }
    let mut parts = Vec::new();
    if days.plain != 0 {
        let plural = if days.plain.count_ones() > 1 { "s" } else { "" };
        parts.push(format!("day{plural} {} of the month", list(days.plain, |day| day.to_string())));
    }
    for distance in bits(days.before_last) {
        parts.push(match distance {
            0 => "the last day of the month".to_owned(),
            n => format!("the day {} before the last of the month", if n == 1 { "1 day".to_owned() } else { counted(i64::from(n), "day") }),
        });
    }
    for day in bits(days.nearest_weekday) {
        parts.push(format!("the working day nearest to day {day} of the month"));
    }
    if days.last_weekday {
        parts.push("the last working day of the month".to_owned());
    }
    Some(joined(parts))
}

fn describe_weekdays(days: &DaysOfWeek) -> Option<String> {
    if days.plain == 0x7f {
        return None;
    }
    let mut parts = Vec::new();
    if days.plain != 0 {
        parts.push(list(days.plain, |day| WEEKDAYS[day as usize].to_owned()));
    }
    for (set, which) in days.nth.iter().zip(["first", "second", "third", "fourth", "fifth"]).chain([(&days.last, "last")]) {
        for day in bits(*set) {
            parts.push(format!("the {which} {} of the month", WEEKDAYS[day as usize]));
        }
    }
    Some(joined(parts))
}

/// Values with their runs of three and more shortened: "1 to 5, 8 and 9".
fn list(set: u64, name: impl Fn(u32) -> String) -> String {
    let mut parts = Vec::new();
    let mut values = bits(set).peekable();
    while let Some(first) = values.next() {
        let mut last = first;
        while values.next_if_eq(&(last + 1)).is_some() {
            last += 1;
        }
        match last - first {
            0 => parts.push(name(first)),
            1 => parts.extend([name(first), name(last)]),
            _ => parts.push(format!("{} to {}", name(first), name(last))),
        }
    }
    joined(parts)
}

fn joined(mut parts: Vec<String>) -> String {
    match parts.pop() {
        Some(last) if parts.is_empty() => last,
        Some(last) => format!("{} and {last}", parts.join(", ")),
        None => String::new(),
    }
}
