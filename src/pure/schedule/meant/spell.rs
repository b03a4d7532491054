//! The rules that say what was meant.

use super::{DAYS, Said, Unit, WEEKDAYS, WEEKEND};
use crate::pure::schedule::natural::time_of_day;

impl Said<'_> {
    /// The rules that say it, and what belongs beside each.
    pub(super) fn rules(&self) -> Option<(Vec<String>, Option<String>)> {
        if let Some((year, month, day)) = self.date {
            let plain = self.every.is_none() && self.weekdays == 0 && self.hours.is_none() && self.days.is_empty() && self.times.len() < 2;
            let zone = self.zone.map_or(String::new(), |zone| format!(" {zone}"));
            let time = self.times.first().map_or(String::new(), |time| format!(" {time}"));
            return plain.then(|| (vec![format!("{year:04}-{month:02}-{day:02}{time}{zone}")], None));
        }
        if let Some(times) = self.times_a {
            return self.shared_out(times).map(|rule| (vec![rule], None));
        }
        if self.nth.is_empty() && !self.days_are_said() && self.hours.is_some() {
            let (n, Unit::Elapsed(unit)) = self.every? else { return None };
            return self.times.is_empty().then(|| (vec![elapsed(n, unit)], None));
        }
        if self.hours.is_some() {
            return None;
        }
        if !self.nth.is_empty() || self.days_are_said() {
            return Some((self.cron()?, None));
        }
        if self.weekdays != 0 {
            return match self.every {
                Some((n, Unit::Elapsed(unit))) if self.months.is_empty() => {
                    let days: Vec<String> = self.day_names(3).split(',').map(|days| format!("{days} 00:00-24:00")).collect();
                    self.elapsed_at(n, unit).map(|rule| (vec![rule], Some(format!("active_hours => '{}'", days.join(", ")))))
                }
                None | Some((1, Unit::Week | Unit::Day)) if self.months.is_empty() && self.times.len() <= 1 => {
                    Some((vec![at(&self.day_names(9).replace(',', ", "), self.times.first())], None))
                }
                Some((n @ 2.., Unit::Week)) if self.weekdays.is_power_of_two() && self.times.len() <= 1 => {
                    let days = (self.weekdays.trailing_zeros() + 6) % 7 + 7;
                    let begin = format!("start_at => date_trunc('week', now()) + interval '{days} days'");
                    Some((vec![at(&format!("every {n} weeks"), self.times.first())], Some(begin)))
                }
                None | Some((1, Unit::Week | Unit::Day)) => Some((self.cron()?, None)),
                _ => None,
            };
        }
        let (n, unit) = self.every.unwrap_or((1, Unit::Day));
        if !self.months.is_empty() || self.every.is_none() && self.times.is_empty() {
            return None;
        }
        let name = match unit {
            Unit::Elapsed(unit) => return self.elapsed_at(n, unit).map(|rule| (vec![rule], None)),
            Unit::Day if n == 1 && self.times.len() > 1 => return Some((self.cron()?, None)),
            _ if self.times.len() > 1 => return None,
            Unit::Day => "day",
            Unit::Week => "week",
            Unit::Month => "month",
        };
        let every = match (n, unit) {
            (1, Unit::Day) => "daily".to_owned(),
            (1, _) => format!("{name}ly"),
            (3, Unit::Month) => "quarterly".to_owned(),
            (12, Unit::Month) => "yearly".to_owned(),
            _ => format!("every {n} {name}s"),
        };
        Some((vec![at(&every, self.times.first())], None))
    }

    fn elapsed_at(&self, n: u32, unit: &str) -> Option<String> {
        match self.times.as_slice() {
            [] => Some(elapsed(n, unit)),
            [time] if time.starts_with(':') => Some(at(&elapsed(n, unit), Some(time))),
            _ => None,
        }
    }

    fn days_are_said(&self) -> bool {
        !self.days.is_empty() || self.last_day
    }

    /// So many times in a day or an hour.
    fn shared_out(&self, times: u32) -> Option<String> {
        let (1, unit) = self.every? else { return None };
        let bare = self.weekdays == 0 && !self.days_are_said() && self.months.is_empty() && self.hours.is_none();
        let (of, smaller) = match unit {
            _ if !bare || times == 0 => return None,
            _ if times == 1 => {
                let once = Said { every: self.every, times: self.times.clone(), ..Said::default() };
                return once.rules()?.0.pop();
            }
            Unit::Month if times == 2 && self.times.len() <= 1 => {
                return Said { days: vec![1, 15], times: self.times.clone(), ..Said::default() }.cron()?.pop();
            }
            _ if !self.times.is_empty() => return None,
            Unit::Day => (24, "hour"),
            Unit::Elapsed("hour") => (60, "minute"),
            Unit::Elapsed("minute") => (60, "second"),
            _ => return None,
        };
        (of % times == 0).then(|| elapsed(of / times, smaller))
    }

    /// Expressions for cron: one for all times that have their minutes in common.
    fn cron(&self) -> Option<Vec<String>> {
        let months = match (self.months.as_slice(), self.every) {
            ([], None | Some((1, _))) => "*".to_owned(),
            ([], Some((n @ (2 | 3 | 4 | 6), Unit::Month))) => format!("*/{n}"),
            ([], _) => return None,
            (named, None | Some((1 | 12, _))) => list(named),
            _ => return None,
        };
        let mut days = list(&self.days);
        if self.last_day {
            days = if days.is_empty() { "L".to_owned() } else { format!("{days},L") };
        }
        let named: Vec<u32> = (0..7).filter(|day| self.weekdays & (1 << day) != 0).collect();
        let mut weekdays = "*".to_owned();
        match (self.nth.as_slice(), named.as_slice()) {
            ([], []) => {}
            ([], days) => weekdays = list(days),
            ([n @ (0 | 1)], _) if self.weekdays == WEEKDAYS => days = if *n == 0 { "LW".to_owned() } else { "1W".to_owned() },
            (nth, [day]) => {
                let all: Vec<String> = nth.iter().map(|n| if *n == 0 { format!("{day}L") } else { format!("{day}#{n}") }).collect();
                weekdays = all.join(",");
            }
            _ => return None,
        }
        if !days.is_empty() && weekdays != "*" {
            return None;
        }
        let days = if days.is_empty() { "*".to_owned() } else { days };
        let midnight = ["00:00".to_owned()];
        let times: &[String] = if self.times.is_empty() { &midnight } else { &self.times };
        let mut by_minute: Vec<((u32, u32), Vec<u32>)> = Vec::new();
        for time in times {
            let seconds = time_of_day(time)?;
            let (minute, hour) = ((seconds / 60 % 60, seconds % 60), seconds / 3600);
            match by_minute.iter_mut().find(|(known, _)| *known == minute) {
                Some((_, hours)) => hours.push(hour),
                None => by_minute.push((minute, vec![hour])),
            }
        }
        let spelt = by_minute.iter().map(|((minute, second), hours)| {
            let seconds = if *second == 0 { String::new() } else { format!("{second} ") };
            format!("{seconds}{minute} {} {days} {months} {weekdays}", list(hours))
        });
        Some(spelt.collect())
    }

    /// Weekdays as a list of names of so many letters.
    pub(super) fn day_names(&self, letters: usize) -> String {
        match self.weekdays {
            WEEKDAYS if letters > 3 => "weekdays".to_owned(),
            WEEKDAYS => "mon-fri".to_owned(),
            WEEKEND if letters > 3 => "weekends".to_owned(),
            days => {
                let names =
                    (0..7).map(|n| (n + 1) % 7).filter(|day| days & (1 << day) != 0).map(|day| &DAYS[day][..letters.min(DAYS[day].len())]);
                names.collect::<Vec<_>>().join(",")
            }
        }
    }
}

fn list(numbers: &[u32]) -> String {
    let mut numbers = numbers.to_vec();
    numbers.sort_unstable();
    numbers.dedup();
    numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}

fn at(rule: &str, time: Option<&String>) -> String {
    time.map_or_else(|| rule.to_owned(), |time| format!("{rule} at {time}"))
}

fn elapsed(n: u32, unit: &str) -> String {
    if n == 1 { format!("every {unit}") } else { format!("every {n} {unit}s") }
}
