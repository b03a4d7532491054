//! The one text grammar of rules.
//!
//! Contract: [`Rule::parse`] decides which part of the grammar a text belongs to, and either returns a rule
//! that can fire or an error that names the field, the byte position in the text as typed and, where
//! there is one, the way out. Case and surplus blanks don't matter, except that Django-Q's one-letter
//! types are capitals.
//!
//! ```text
//! cron          */5 * * * *      0 */5 * * * *  (seconds first)      @daily
//! interval      10 seconds       every 5 minutes       every 1 hour 30 minutes
//! random        every 5 to 10 minutes
//! calendar      daily weekly biweekly monthly bimonthly quarterly yearly     every 3 days at 10:30
//! weekday       monday           monday at 10:30       monday, wednesday and friday at 10:30
//! aligned       every hour at ':30'     every 2 hours at :30      every minute at :10
//! letters       O I H D W BW M BM Q Y
//! clocked       once             2030-01-01 10:30      2030-01-01T10:30:00+02:00
//! solar         sunset at 52.5,13.4
//! none          after         after any       (only after other schedules, which are a parameter of their own)
//! ```

use crate::pure::choice::{self, Named, choices};
use crate::pure::schedule::cron::{self, Cron};
use crate::pure::schedule::elsewhere;
use crate::pure::schedule::meant;
use crate::pure::schedule::natural;
use crate::pure::schedule::solar::{self, Solar};
use crate::pure::schedule::timestamp::{self, Timestamp};
use crate::pure::schedule::zone::shortened;

/// Longest rule accepted; a cron expression that lists every value of every field is shorter.
pub const LENGTH_MAX: usize = 1_000;

/// A parsed rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    pub(super) form: Form,
}

/// The forms a rule can take, each with what it needs to find its slots.
#[derive(Clone, Debug, PartialEq)]
pub enum Form {
    Cron(Cron),
    /// Every so many seconds of elapsed time, counted from the anchor.
    Interval {
        seconds: i64,
    },
    /// Gaps between `min` and `max` seconds, drawn anew for each.
    Random {
        min: i64,
        max: i64,
    },
    /// Every `every` units of the wall clock's calendar, at the anchor's time of day or the given one.
    Calendar {
        every: i64,
        unit: CalendarUnit,
        at: Option<u32>,
    },
    /// On weekdays (bit 0 = Sunday), at the anchor's time of day or the given one.
    Weekdays {
        days: u64,
        at: Option<u32>,
    },
    /// Every `every` hours or minutes (`unit` in seconds), `at` seconds into the unit on the wall clock.
    Aligned {
        every: i64,
        unit: i64,
        at: i64,
    },
    /// At the anchor, or at `start_at` where there is one.
    Once,
    At(Timestamp),
    Solar(Solar),
    /// At no time of its own: only after other schedules, each of them or one (`any`).
    After {
        any: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CalendarUnit {
    Day,
    Month,
}

choices! {
    /// What a monthly or yearly rule does in a month that lacks the anchor's day.
    #[derive(Default)]
    pub enum MonthEnd {
        /// The last day of that month, and the anchor's day again afterwards: 31 Jan, 29 Feb, 31 Mar.
        #[default]
        Clamp = "clamp",
        /// No fire time in that month: 31 Jan, 31 Mar.
        Skip = "skip",
        /// The last day of that month, and no later day ever after: 31 Jan, 29 Feb, 29 Mar.
        Sticky = "sticky",
    }
}

impl MonthEnd {
    /// Parses the value of the `month_end` parameter.
    pub fn parse(text: &str) -> Result<MonthEnd, RuleError> {
        MonthEnd::of(text).ok_or_else(|| RuleError::unknown::<MonthEnd>("month_end", text))
    }
}

/// Why a rule, a zone or another part of a schedule was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleError {
    /// The parameter at fault: `rule`, `tz`, `month_end`, …
    pub field: &'static str,
    /// In lower case and without a full stop, as PostgreSQL writes messages.
    pub message: String,
    /// Byte offset in the field's text, counted from 0.
    pub position: Option<usize>,
    /// What to do about it, in sentences.
    pub hint: Option<String>,
}

impl RuleError {
    pub(super) fn rule(position: usize, message: String) -> RuleError {
        RuleError { field: "rule", message, position: Some(position), hint: None }
    }

    /// The parameter `field` is none of the words that it can be.
    pub fn unknown<C: Named>(field: &'static str, text: &str) -> RuleError {
        RuleError {
            field,
            message: format!("{field} \"{}\" is not known", shortened(text)),
            position: Some(0),
            hint: Some(choice::use_one_of::<C>()),
        }
    }

    pub(super) fn hint(mut self, hint: &str) -> RuleError {
        self.hint = Some(hint.to_owned());
        self
    }
}

impl std::fmt::Display for RuleError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.field, self.message)?;
        match self.position {
            Some(position) => write!(f, " (at byte {position})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for RuleError {}

impl Rule {
    /// Parses a rule. `day_and`: a cron rule that restricts both day-of-month and day-of-week wants both
    /// (as Celery) instead of either (as cron).
    pub fn parse(text: &str, day_and: bool) -> Result<Rule, RuleError> {
        Rule::plain(text, day_and).map_err(|error| match meant::hint(text, &text.to_ascii_lowercase()) {
            Some(hint) => error.hint(&hint),
            None => error,
        })
    }

    /// The same, without a look at what may have been meant.
    pub(super) fn plain(text: &str, day_and: bool) -> Result<Rule, RuleError> {
        if text.len() > LENGTH_MAX {
            return Err(RuleError::rule(LENGTH_MAX, format!("rule is longer than {LENGTH_MAX} bytes")));
        }
        // ASCII lower case keeps every byte position.
        let lower = text.to_ascii_lowercase();
        let words = words(&lower);
        let Some(&(start, first)) = words.first() else {
            return Err(RuleError::rule(0, "rule is empty".to_owned()).hint(EXAMPLES));
        };
        let form = if elsewhere::is_zone_in_front(first) {
            let message = "a time zone is no part of a rule".to_owned();
            return Err(RuleError { hint: elsewhere::way_out(text, &lower), ..RuleError::rule(start, message) });
        } else if let Some(name) = first.strip_prefix('@') {
            Form::Cron(nickname(start, name, &words)?)
        } else if timestamp::looks_like_timestamp(first) {
            Form::At(timestamp::parse(text, start)?)
        } else if let Some(event) = solar::parse(&lower, start)? {
            Form::Solar(event)
        } else if cron::looks_like_cron(&words) && !is_counted_unit(&words) {
            Form::Cron(cron::parse(&words, day_and)?)
        } else {
            natural::parse(text, &lower)?
        };
        Ok(Rule { form })
    }

    /// The kind shown in `tq_schedules`.
    pub fn kind(&self) -> &'static str {
        match &self.form {
            Form::Cron(_) => "cron",
            Form::Interval { .. } | Form::Aligned { every: 2.., .. } => "interval",
            Form::Aligned { unit: 3600, .. } => "hourly",
            Form::Aligned { .. } => "minutely",
            Form::Random { .. } => "random",
            Form::Calendar { every, unit, .. } => match (unit, every) {
                (CalendarUnit::Day, 1) => "daily",
                (CalendarUnit::Day, 7) => "weekly",
                (CalendarUnit::Day, 14) => "biweekly",
                (CalendarUnit::Month, 1) => "monthly",
                (CalendarUnit::Month, 2) => "bimonthly",
                (CalendarUnit::Month, 3) => "quarterly",
                (CalendarUnit::Month, 12) => "yearly",
                _ => "interval",
            },
            Form::Weekdays { days, .. } if *days == 0x7f => "daily",
            Form::Weekdays { .. } => "weekly",
            Form::Once => "once",
            Form::At(_) => "clocked",
            Form::Solar(_) => "solar",
            Form::After { .. } => "after",
        }
    }

    /// Whether it has no time of its own, but comes after other schedules.
    pub fn is_after(&self) -> bool {
        matches!(self.form, Form::After { .. })
    }

    /// Whether the end of one of them is enough.
    pub fn is_after_any(&self) -> bool {
        self.form == Form::After { any: true }
    }

    /// Whether it counts periods from the moment it was made, unless it is told where to begin.
    pub fn counts(&self) -> bool {
        match &self.form {
            Form::Interval { .. } | Form::Random { .. } | Form::Calendar { .. } | Form::Aligned { .. } => true,
            Form::Weekdays { at, .. } => at.is_none(),
            _ => false,
        }
    }

    /// Whether it fires once, as soon as it may.
    pub fn is_once(&self) -> bool {
        self.form == Form::Once
    }

    /// Whether the rule counts time that passes, as opposed to naming times on the clock.
    pub fn counts_elapsed_time(&self) -> bool {
        match &self.form {
            Form::Cron(cron) => cron.elapsed,
            Form::Interval { .. } | Form::Random { .. } | Form::Aligned { .. } => true,
            _ => false,
        }
    }

    /// Whether the rule fires at most once, whatever its zone and anchor.
    pub fn fires_once(&self) -> bool {
        matches!(self.form, Form::Once | Form::At(_))
    }
}

pub const EXAMPLES: &str = "Rules look like '*/5 * * * *', '@daily', '10 seconds', 'every 5 minutes', \
     'monday at 10:30', 'monthly', 'once', '2030-01-01 10:30' or 'sunset at 52.5,13.4'.";

const NICKNAMES: &str = "The names are @yearly, @annually, @monthly, @weekly, @daily, @midnight and @hourly.";

/// The words of a text with their byte positions.
fn words(text: &str) -> Vec<(usize, &str)> {
    text.split_ascii_whitespace().map(|word| (word.as_ptr() as usize - text.as_ptr() as usize, word)).collect()
}

/// `10 seconds`, `1hour 30 minutes` and `-5 minutes` begin like cron but go on with a word.
fn is_counted_unit(words: &[(usize, &str)]) -> bool {
    let unit = words[0].1.trim_start_matches('-').trim_start_matches(|c: char| c.is_ascii_digit());
    if !unit.is_empty() {
        return natural::is_unit(unit);
    }
    words.get(1).is_some_and(|(_, word)| word.starts_with(|c: char| c.is_alphabetic()))
}

fn nickname(position: usize, name: &str, words: &[(usize, &str)]) -> Result<Cron, RuleError> {
    let fields = match name {
        "yearly" | "annually" => "0 0 1 1 *",
        "monthly" => "0 0 1 * *",
        "weekly" => "0 0 * * 0",
        "daily" | "midnight" => "0 0 * * *",
        "hourly" => "0 * * * *",
        "reboot" => {
            return Err(RuleError::rule(position, "\"@reboot\" is not a time".to_owned())
                .hint("A schedule belongs to the database and survives restarts; use an interval or a time."));
        }
        _ => {
            let error = RuleError::rule(position, format!("\"@{}\" is not known", shortened(name)));
            let text: Vec<&str> = words.iter().map(|(_, word)| *word).collect();
            let text = text.join(" ");
            return Err(error.hint(&elsewhere::way_out(&text, &text).unwrap_or_else(|| NICKNAMES.to_owned())));
        }
    };
    if let Some((position, extra)) = words.get(1) {
        let extra = shortened(extra);
        return Err(RuleError::rule(*position, format!("unexpected \"{extra}\" after \"@{name}\"")));
    }
    cron::parse(&self::words(fields), false)
}
