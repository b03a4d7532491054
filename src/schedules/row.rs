//! A schedule as its row says, read and checked.

use crate::handler;
use crate::postgres::column::{Column, Text};
use crate::postgres::error::Error;
use crate::postgres::row::Row;
use crate::pure::choice::{AfterOutcome, Named, Unknown};
use crate::pure::ids::Id;
use crate::pure::schedule::active_hours::ActiveHours;
use crate::pure::schedule::catch_up::{CatchUp, Lateness, Overlap};
use crate::pure::schedule::next::Plan;
use crate::pure::schedule::rule::{MonthEnd, Rule, RuleError};
use crate::pure::time::{self, At, Span};
use crate::schedules;
use crate::schedules::definition::NAME_BYTES;
use crate::schedules::follow::Notes;
use crate::schedules::options::{OfAll, Options};
use crate::task::new::NewTask;
use crate::tenant::Tenant;
use crate::tenant::columns::Schedules;
use chrono::TimeDelta;
use serde_json::Value as Json;

/// Fire times that catch_up => 'all' serves at a time where no limit is given.
const CATCH_UP_LIMIT: i32 = 1000;

/// And at most: one transaction makes all their tasks.
pub const CATCH_UP_LIMIT_MAX: i32 = 100_000;

/// Bytes of a tenant's row that are worth being read into a process which serves all of them.
pub const ROW: usize = 4 << 20;

/// Texts of a row whose meaning is looked for in them, by the parameters that set them, and their longest.
const TEXTS: [(&str, Column<Schedules, Text>); 7] = [
    ("rule", Schedules::RULE),
    ("tz", Schedules::TZ),
    ("catch_up", Schedules::CATCH_UP),
    ("overlap", Schedules::OVERLAP),
    ("month_end", Schedules::MONTH_END),
    ("time_arg", Schedules::TIME_ARG),
    ("created_by", Schedules::CREATED_BY),
];

const TEXT: usize = 8 * 1024;

/// A row of tq_schedule, understood.
pub struct Schedule {
    pub name: String,
    pub id: Id,
    pub rule: Rule,
    pub zone: chrono_tz::Tz,
    pub anchor: At,
    pub start_at: Option<At>,
    pub until: Option<At>,
    pub month_end: MonthEnd,
    pub active_hours: Option<ActiveHours>,
    pub only_if: Option<String>,
    pub after: Vec<String>,
    pub repeats: i32,
    pub lateness: Lateness,
    pub overlap: Overlap,
    pub jitter: Span,
    /// What `task` says of its tasks.
    pub base: NewTask,
    pub state: Notes,
    /// Made from a definition for all tenants.
    pub of_all: Option<OfAll>,
}

/// Why a row can't be served, and the parameter that mends it.
pub struct Broken {
    pub parameter: &'static str,
    pub error: Error,
}

impl From<RuleError> for Broken {
    fn from(e: RuleError) -> Broken {
        Broken { parameter: e.field, error: e.into() }
    }
}

impl From<Broken> for Error {
    fn from(broken: Broken) -> Error {
        broken.error
    }
}

impl From<RuleError> for Error {
    fn from(e: RuleError) -> Error {
        let mut error = Error::invalid(e.message);
        if let Some(position) = e.position {
            error = error.detail(format!("Parameter {}, at byte {}.", e.field, position + 1));
        } else {
            error = error.detail(format!("Parameter {}.", e.field));
        }
        if let Some(hint) = e.hint {
            error = error.hint(hint);
        }
        error
    }
}

pub fn broken(parameter: &'static str) -> impl Fn(Error) -> Broken {
    move |error| Broken { parameter, error }
}

impl Schedule {
    pub fn plan(&self) -> Plan<'_> {
        Plan {
            rule: &self.rule,
            zone: self.zone,
            anchor: time::instant(self.anchor),
            start_at: self.start_at.map(time::instant),
            until: self.until.map(time::instant),
            active_hours: self.active_hours.as_ref(),
            back_to: None,
            month_end: self.month_end,
            // What is drawn is the same in all tenants.
            seed: self.of_all.as_ref().map_or(self.id, |all| all.id).low(),
        }
    }

    /// Each of its fire times is served, however late.
    pub fn makes_up_for_all(&self) -> bool {
        self.lateness.catch_up == CatchUp::All
    }

    /// Nothing in the row is taken on trust: its owner can write to it.
    pub fn of(tenant: &Tenant, row: &Row<Schedules>) -> std::result::Result<Schedule, Broken> {
        let wrong = |parameter, message: &str| Err(Broken { parameter, error: Error::invalid(message) });
        // By their lengths, before any of them is read.
        let fits = |column: Column<Schedules, Text>, most| row.length(column).is_none_or(|length| length <= most);
        if !fits(Schedules::NAME, NAME_BYTES) || row.length(Schedules::NAME) == Some(0) {
            return wrong("name", "its name does not have 1 to 200 bytes");
        }
        if !fits(Schedules::HANDLER, handler::NAME_MAX) {
            return wrong("handler", &format!("its handler's name is longer than {} bytes", handler::NAME_MAX));
        }
        if let Some((parameter, _)) = TEXTS.iter().find(|(_, column)| !fits(*column, TEXT)) {
            return wrong(parameter, &format!("its {parameter} is longer than {TEXT} bytes"));
        }
        let name = row.text(Schedules::NAME).unwrap_or_default();
        if row.outside > ROW {
            return wrong("name", &format!("its row takes {} MB, more than {}", row.outside >> 20, ROW >> 20));
        }
        let rule = Rule::parse(row.get(Schedules::RULE).unwrap_or(""), row.get(Schedules::DAY_AND).unwrap_or(false))?;
        let zone = schedules::zone::of(tenant, row.text(Schedules::TZ).as_deref()).map_err(broken("tz"))?;
        let month_end = row.get(Schedules::MONTH_END).map_or(Ok(MonthEnd::Clamp), MonthEnd::parse)?;
        let catch_up = row.get(Schedules::CATCH_UP).map_or(Ok(CatchUp::Once), CatchUp::parse)?;
        let limit = row.get(Schedules::CATCH_UP_LIMIT).unwrap_or(CATCH_UP_LIMIT);
        if limit < 1 {
            return wrong("catch_up_limit", "catch_up_limit is below 1");
        }
        let (deadline, jitter) = (row.span(Schedules::DEADLINE), row.span(Schedules::JITTER).unwrap_or_default());
        if deadline.is_some_and(|d| d.is_negative()) {
            return wrong("deadline", "deadline is negative");
        }
        if jitter.is_negative() {
            return wrong("jitter", "jitter is negative");
        }
        let overlap = match row.get(Schedules::OVERLAP) {
            Some(word) => Overlap::known("overlap", word).map_err(|unknown| broken("overlap")(unknown.into()))?,
            None => catch_up.overlap(),
        };
        let repeats = row.get(Schedules::REPEATS).unwrap_or(-1);
        if repeats < -1 {
            return wrong("repeats", "repeats is below -1");
        }
        let anchor = row.get(Schedules::ANCHOR).unwrap_or_default();
        if !time::is_date(anchor) {
            return wrong("start_at", "the schedule's anchor is not in the years 1 to 9999");
        }
        for (parameter, column) in [("start_at", Schedules::START_AT), ("until", Schedules::UNTIL)] {
            if row.get(column).is_some_and(|t| !time::is_date(t)) {
                return wrong(parameter, &format!("{parameter} is not in the years 1 to 9999"));
            }
        }
        let base = match (row.has(Schedules::TASK), row.get(Schedules::TASK)) {
            (false, _) | (_, Some(Json::Null)) => NewTask::default(),
            (true, None) => return wrong("task", "task can not be read"),
            (true, Some(object)) => crate::task::new::task_object(&object).map_err(broken("task"))?,
        };
        base.check().map_err(broken("task"))?;
        let Some(options) = Options::whole(row) else { return wrong("reset", "options is not an object") };
        if let Some((parameter, expected)) = options.garbled() {
            return wrong(parameter, &format!("{parameter} is not {expected}"));
        }
        if let Some(outcome) = &options.after_outcome {
            let fault = |word: &str| broken("after_outcome")(Unknown::of::<AfterOutcome>("after_outcome", word).into());
            outcome.or_fault(fault)?;
        }
        Ok(Schedule {
            name,
            id: row.get(Schedules::ID).unwrap_or_default(),
            rule,
            zone,
            anchor,
            start_at: row.get(Schedules::START_AT),
            until: row.get(Schedules::UNTIL),
            month_end,
            active_hours: options.active_hours.as_deref().map(ActiveHours::parse).transpose()?,
            only_if: options.only_if,
            after: options.after,
            repeats,
            lateness: Lateness {
                catch_up,
                limit: limit.min(CATCH_UP_LIMIT_MAX) as usize,
                deadline: deadline.map(TimeDelta::from),
                // A tick comes within a second of its time unless the server was down or frozen.
                grace: TimeDelta::seconds(5),
            },
            overlap,
            jitter,
            base,
            state: Notes::of(row),
            of_all: options.all,
        })
    }
}
