//! A schedule as tq_schedule's parameters say it, apart from the SQL edge: where it comes from
//! (parameters, a document, a row), whether it makes sense in a tenant, and its columns.

use crate::handler::{self, Handler};
use crate::postgres::call::{Args, parameters};
use crate::postgres::code::MayRunCode;
use crate::postgres::column::Set;
use crate::postgres::error::{Error, Result};
use crate::postgres::interval::{Interval, format_interval, parse_in_parts, span_of};
use crate::postgres::part::Part;
use crate::postgres::row::Row;
use crate::postgres::sqlstate::SqlState;
use crate::postgres::types::{Jsonb, parse_time};
use crate::postgres::{clock, condition, sandbox};
use crate::pure::choice::{AfterOutcome, Said, Unknown};
use crate::pure::nearest::nearest;
use crate::pure::schedule::active_hours::ActiveHours;
use crate::pure::schedule::catch_up::{CatchUp, Overlap};
use crate::pure::schedule::next::Plan;
use crate::pure::schedule::rule::{MonthEnd, Rule, RuleError};
use crate::pure::schedule::zone;
use crate::pure::time::{At, Span, instant, is_date, time_text};
use crate::schedules;
use crate::schedules::follow::{self, AFTER_MAX};
use crate::schedules::options::Options;
use crate::schedules::row::CATCH_UP_LIMIT_MAX;
use crate::settings;
use crate::task::document::time_json;
use crate::task::new::task_object;
use crate::task::queue::only_superuser;
use crate::tenant::Tenant;
use crate::tenant::columns::Schedules;
use crate::tenant::rights::Caller;
use serde_json::{Map, Value as Json, json};
use std::rc::Rc;

pub const NAME_BYTES: usize = 200;
/// 2020-02-29, what arguments are tried with in place of a fire time.
const A_LEAP_DAY: At = At::of_micros(636_249_600_000_000);

parameters! {
    /// What a definition consists of: what tq_schedule, tq_alter_schedule and tq_schedule_all begin with.
    DefinitionArgs {
        NAME,
        HANDLER,
        RULE,
        ARGS,
        TZ,
        START_AT,
        UNTIL,
        REPEATS,
        CATCH_UP,
        CATCH_UP_LIMIT,
        DEADLINE,
        OVERLAP,
        JITTER,
        MONTH_END,
        DAY_AND,
        TIME_ARG,
        ONLY_IF,
        ACTIVE_HOURS,
        AFTER,
        AFTER_OUTCOME,
        TASK,
        ENABLED,
        TAGS,
        DESCRIPTION,
    }
}

/// What tq_schedule's parameters say; None = inherit.
#[derive(Clone, Default)]
pub struct Definition {
    pub name: String,
    pub handler: String,
    pub rule: String,
    pub args: Option<Jsonb>,
    pub tz: Option<String>,
    pub start_at: Option<At>,
    pub until: Option<At>,
    pub repeats: Option<i32>,
    pub catch_up: Option<Said<CatchUp>>,
    pub catch_up_limit: Option<i32>,
    pub deadline: Option<Interval>,
    pub overlap: Option<Said<Overlap>>,
    pub jitter: Option<Interval>,
    pub month_end: Option<Said<MonthEnd>>,
    pub day_and: Option<bool>,
    pub time_arg: Option<String>,
    pub only_if: Option<String>,
    pub active_hours: Option<String>,
    pub after: Option<Vec<String>>,
    pub after_outcome: Option<Said<AfterOutcome>>,
    pub task: Option<Json>,
    /// None: it is.
    pub enabled: Option<bool>,
    pub tags: Option<Vec<String>>,
    pub description: Option<String>,
}

/// What a definition says of its times in any tenant.
pub struct Alone {
    pub rule: Rule,
    pub month_end: MonthEnd,
    pub active_hours: Option<ActiveHours>,
}

/// A definition that makes sense in its tenant.
pub struct Checked {
    pub rule: Rule,
    pub zone: chrono_tz::Tz,
    pub month_end: MonthEnd,
    pub active_hours: Option<ActiveHours>,
    /// None: not looked at.
    pub handler: Option<Rc<Handler>>,
}

impl Definition {
    /// From the parameters that tq_schedule, tq_alter_schedule and tq_schedule_all share.
    pub fn of_args(args: &Args) -> Definition {
        Definition {
            name: args.text(DefinitionArgs::NAME).unwrap_or_default(),
            handler: args.text(DefinitionArgs::HANDLER).unwrap_or_default(),
            rule: args.text(DefinitionArgs::RULE).unwrap_or_default(),
            args: args.json(DefinitionArgs::ARGS),
            tz: args.text(DefinitionArgs::TZ),
            start_at: args.time(DefinitionArgs::START_AT),
            until: args.time(DefinitionArgs::UNTIL),
            repeats: args.int(DefinitionArgs::REPEATS),
            catch_up: args.text(DefinitionArgs::CATCH_UP).map(Said::of),
            catch_up_limit: args.int(DefinitionArgs::CATCH_UP_LIMIT),
            deadline: args.interval_in_parts(DefinitionArgs::DEADLINE),
            overlap: args.text(DefinitionArgs::OVERLAP).map(Said::of),
            jitter: args.interval_in_parts(DefinitionArgs::JITTER),
            month_end: args.text(DefinitionArgs::MONTH_END).map(Said::of),
            day_and: args.bool(DefinitionArgs::DAY_AND),
            time_arg: args.text(DefinitionArgs::TIME_ARG),
            only_if: args.text(DefinitionArgs::ONLY_IF),
            active_hours: args.text(DefinitionArgs::ACTIVE_HOURS),
            after: args.texts(DefinitionArgs::AFTER),
            after_outcome: args.text(DefinitionArgs::AFTER_OUTCOME).map(Said::of),
            task: args.setting(DefinitionArgs::TASK),
            enabled: args.bool(DefinitionArgs::ENABLED),
            tags: args.texts(DefinitionArgs::TAGS),
            description: args.text(DefinitionArgs::DESCRIPTION),
        }
    }

    /// The three that can't be left out.
    pub fn check_given(&self) -> Result<()> {
        for (what, text) in [("name", &self.name), ("handler", &self.handler), ("rule", &self.rule)] {
            if text.is_empty() {
                return Err(Error::new(SqlState::NULL_VALUE_NOT_ALLOWED, format!("{what} is null or empty")));
            }
        }
        if self.name.len() > NAME_BYTES {
            return Err(Error::limit(format!("name is longer than {NAME_BYTES} bytes")));
        }
        Ok(())
    }

    /// Whether counted rules count from the same moment.
    pub fn begins_like(&self, other: &Definition) -> bool {
        self.rule == other.rule && self.start_at == other.start_at && self.day_and.unwrap_or(false) == other.day_and.unwrap_or(false)
    }

    /// Whether each fire time has a task of its own.
    pub fn overlaps(&self) -> bool {
        let overlap = match &self.overlap {
            Some(overlap) => overlap.choice(),
            None => self.catch_up.as_ref().and_then(Said::choice).map(CatchUp::overlap),
        };
        overlap == Some(Overlap::Allow)
    }

    /// Those that it comes after.
    pub fn after(&self) -> &[String] {
        self.after.as_deref().unwrap_or_default()
    }

    /// Everything that can be wrong with it in this tenant, for `author`, who answers for it. `fires`: its
    /// handler is called, so it must be there and be called rightly.
    pub fn check(&self, tenant: &Rc<Tenant>, author: &Caller, fires: bool) -> Result<Checked> {
        let Alone { rule, month_end, active_hours } = self.check_alone()?;
        let zone = schedules::zone::of(tenant, self.tz.as_deref())?;
        let handler = if fires { Some(self.check_call(tenant, author)?) } else { None };
        Ok(Checked { rule, zone, month_end, active_hours, handler })
    }

    fn check_call(&self, tenant: &Rc<Tenant>, author: &Caller) -> Result<Rc<Handler>> {
        let handler = handler::require(tenant, &self.handler)?;
        self.check_args(&handler, handler.code_at_enqueue(tenant).as_ref())?;
        if sandbox::is_superuser(pgrx::pg_sys::Oid::from(handler.run_as)) && !author.superuser {
            return Err(only_superuser(&self.handler, "schedule it"));
        }
        Ok(handler)
    }

    /// What can be wrong with it whatever the tenant.
    pub fn check_alone(&self) -> Result<Alone> {
        self.check_given()?;
        let rule = Rule::parse(&self.rule, self.day_and.unwrap_or(false))?;
        self.tz.as_deref().map(zone::parse_zone).transpose()?;
        let month_end = match &self.month_end {
            Some(month_end) => month_end.or_fault(|word| RuleError::unknown::<MonthEnd>("month_end", word))?,
            None => MonthEnd::default(),
        };
        if let Some(catch_up) = &self.catch_up {
            catch_up.or_fault(|word| RuleError::unknown::<CatchUp>("catch_up", word))?;
        }
        if self.catch_up_limit.is_some_and(|n| n < 1) {
            return Err(Error::invalid("catch_up_limit is below 1"));
        }
        if self.catch_up_limit.is_some_and(|n| n > CATCH_UP_LIMIT_MAX) {
            return Err(Error::invalid(format!("catch_up_limit is above {CATCH_UP_LIMIT_MAX}")));
        }
        for (what, span) in [("deadline", &self.deadline), ("jitter", &self.jitter)] {
            if span.is_some_and(|i| span_of(&i).is_negative()) {
                return Err(Error::invalid(format!("{what} is negative")));
            }
        }
        if self.deadline.is_some_and(|d| span_of(&d) < Span::SECOND) {
            return Err(Error::invalid("deadline is shorter than 1 second")
                .detail("A fire time is served a moment after it, so hardly any would be in time.")
                .hint("catch_up => 'none' leaves out what was missed while the server was down."));
        }
        if let Some(overlap) = &self.overlap {
            overlap.or_fault(|word| Unknown::of::<Overlap>("overlap", word))?;
        }
        if let Some(expression) = &self.only_if {
            check_condition(expression)?;
        }
        self.check_after(&rule)?;
        let active_hours = self.active_hours.as_deref().map(ActiveHours::parse).transpose()?;
        if let Some(args) = &self.args
            && args.size() > settings::max_args_bytes()
        {
            return Err(Error::limit(format!("args take {} bytes", args.size()))
                .detail(format!("tenant_q.max_args allows {} bytes.", settings::max_args_bytes()))
                .hint("Store the data in a table and pass its key."));
        }
        if self.repeats.is_some_and(|n| n < -1) {
            return Err(Error::invalid("repeats is below -1").hint("-1 fires for ever, 0 never, n that many times."));
        }
        for (what, time) in [("start_at", self.start_at), ("until", self.until)] {
            check_date(what, time)?;
        }
        if let (Some(start), Some(until)) = (self.start_at, self.until)
            && until < start
        {
            return Err(Error::invalid("until lies before start_at"));
        }
        if let Some(object) = &self.task {
            let base = task_object(object)?;
            if !base.handler.is_empty() || base.args.is_some() || base.id.is_some() || base.run_at.is_some() || base.delay.is_some() {
                return Err(Error::invalid("task says what the schedule says: handler, args, id, run_at or delay")
                    .hint("Leave these keys out; they come from the schedule."));
            }
            base.check()?;
            base.refuse_sync("a schedule")?;
        }
        Ok(Alone { rule, month_end, active_hours })
    }

    pub fn check_until(&self) -> Result<()> {
        if self.until.is_some_and(|u| u <= clock::now()) {
            return Err(Error::invalid("until lies in the past"));
        }
        Ok(())
    }

    /// What can be said of `after` without looking at other schedules.
    fn check_after(&self, rule: &Rule) -> Result<()> {
        if let Some(outcome) = &self.after_outcome {
            outcome.or_fault(|word| Unknown::of::<AfterOutcome>("after_outcome", word))?;
            if self.after().is_empty() {
                return Err(Error::invalid("after_outcome is given without after"));
            }
        }
        if rule.is_after() && self.after().is_empty() {
            return Err(Error::invalid("rule \"after\" needs the schedules that it comes after")
                .detail("Parameter after is null or empty.")
                .hint("Pass their names: after => '{first,second}'."));
        }
        if self.after().iter().any(String::is_empty) {
            return Err(Error::invalid("after contains an empty name"));
        }
        if self.after().len() > AFTER_MAX {
            return Err(Error::limit(format!("after names more than {AFTER_MAX} schedules")));
        }
        Ok(())
    }

    /// The arguments as they will be at a fire time.
    pub fn check_args(&self, handler: &Handler, code: Option<&MayRunCode>) -> Result<()> {
        let Some(time_arg) = &self.time_arg else { return handler.check_args(self.args.as_ref(), code) };
        let mut object = match self.args.as_ref().map(|a| a.parsed().ok_or_else(|| unreadable(&self.name))).transpose()? {
            None | Some(Json::Null) => json!({}),
            Some(Json::Object(o)) => Json::Object(o),
            Some(_) => {
                return Err(Error::invalid("time_arg needs args to be an object").hint("Pass args by name: {\"parameter\": value}."));
            }
        };
        let mut kind = None;
        if let Some(sig) = &handler.signature {
            let Some(param) = sig.params.iter().find(|p| p.name.as_ref() == Some(time_arg)) else {
                return Err(Error::invalid(format!("handler \"{}\" has no parameter \"{time_arg}\"", handler.name))
                    .detail(format!("Its function is {}.", sig.identity)));
            };
            kind = Some(param.type_oid);
        }
        object[time_arg.as_str()] = time_text(instant(A_LEAP_DAY), chrono_tz::UTC, kind).into();
        let check = Jsonb::from_value(object);
        handler.check_args(Some(&check), code)
    }

    /// The rare parameters, kept as one document.
    pub fn options(&self) -> Options {
        Options {
            active_hours: self.active_hours.clone(),
            only_if: self.only_if.clone(),
            after: self.after().to_vec(),
            after_outcome: self.after_outcome.clone(),
            ..Options::default()
        }
    }

    /// Documents that the values of `columns` point into.
    pub fn documents(&self) -> Documents {
        Documents { task: self.task.clone().map(Jsonb::from_value), options: self.options().column() }
    }

    /// As a row has it. What its owner has garbled is taken as not given.
    pub fn of_row(row: &Row<Schedules>) -> Definition {
        let options = Options::of(row);
        let after = follow::names_in(options.after);
        Definition {
            name: row.text(Schedules::NAME).unwrap_or_default(),
            handler: row.text(Schedules::HANDLER).unwrap_or_default(),
            rule: row.text(Schedules::RULE).unwrap_or_default(),
            args: row.document(Schedules::ARGS),
            tz: row.text(Schedules::TZ),
            start_at: row.get(Schedules::START_AT),
            until: row.get(Schedules::UNTIL),
            repeats: row.get(Schedules::REPEATS).filter(|n| *n != -1),
            catch_up: row.text(Schedules::CATCH_UP).map(Said::of),
            catch_up_limit: row.get(Schedules::CATCH_UP_LIMIT),
            deadline: row.get(Schedules::DEADLINE),
            overlap: row.text(Schedules::OVERLAP).map(Said::of),
            jitter: row.get(Schedules::JITTER),
            month_end: row.text(Schedules::MONTH_END).map(Said::of),
            day_and: row.get(Schedules::DAY_AND),
            time_arg: row.text(Schedules::TIME_ARG),
            only_if: options.only_if,
            active_hours: options.active_hours,
            after: Some(after).filter(|a| !a.is_empty()),
            after_outcome: options.after_outcome,
            task: row.get(Schedules::TASK),
            enabled: row.get(Schedules::ENABLED),
            tags: row.get(Schedules::TAGS),
            description: row.text(Schedules::DESCRIPTION),
        }
    }

    /// As a document whose keys are tq_schedule's parameters; what is inherited is left out. `task` as the row has it: that and
    /// `args` are taken as they are, however deep. 54000 for what no document holds.
    pub fn document(&self, task: Option<&Jsonb>) -> Result<Jsonb> {
        let mut o = Map::new();
        let mut put = |key: &str, value: Option<Json>| o.extend(value.map(|v| (key.to_string(), v)));
        let text = |t: &Option<String>| t.clone().map(Json::from);
        let span = |i: &Option<Interval>| i.map(|i| Json::from(format_interval(&i)));
        put("name", Some(self.name.clone().into()));
        put("handler", Some(self.handler.clone().into()));
        put("rule", Some(self.rule.clone().into()));
        put("tz", text(&self.tz));
        put("start_at", self.start_at.map(|t| time_json(Some(t))));
        put("until", self.until.map(|t| time_json(Some(t))));
        put("repeats", self.repeats.map(Json::from));
        put("catch_up", self.catch_up.as_ref().map(|said| said.word().into()));
        put("catch_up_limit", self.catch_up_limit.map(Json::from));
        put("deadline", span(&self.deadline));
        put("overlap", self.overlap.as_ref().map(|said| said.word().into()));
        put("jitter", span(&self.jitter));
        put("month_end", self.month_end.as_ref().map(|said| said.word().into()));
        put("day_and", self.day_and.map(Json::from));
        put("time_arg", text(&self.time_arg));
        put("only_if", text(&self.only_if));
        put("active_hours", text(&self.active_hours));
        put("after", self.after.clone().map(Json::from));
        put("after_outcome", self.after_outcome.as_ref().map(|said| said.word().into()));
        put("enabled", self.enabled.filter(|e| !e).map(Json::from));
        put("tags", self.tags.clone().map(Json::from));
        put("description", text(&self.description));
        let whole: Vec<_> =
            [("args", self.args.as_ref()), ("task", task)].into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
        Jsonb::object(&o, &whole)
    }

    /// The same back. JSON null is "not given", but in args.
    pub fn of_document(document: Part) -> Result<Definition> {
        if !document.is_object() {
            return Err(
                Error::invalid("a schedule is not an object").hint("Write it as {\"name\": \"…\", \"handler\": \"…\", \"rule\": \"…\"}.")
            );
        }
        let mut d = Definition { args: document.get("args").map(|args| args.document()).transpose()?, ..Definition::default() };
        for (key, value) in &document.without(&["args"]) {
            if !DefinitionArgs::NAMES.contains(&key.as_str()) {
                let error = Error::invalid(format!("schedule key \"{key}\" is not known"));
                return Err(match nearest(key, DefinitionArgs::NAMES.iter().copied()) {
                    Some(near) => error.detail(format!("The nearest key is \"{near}\".")),
                    None => error.detail("The keys are tq_schedule's parameters."),
                });
            }
            if value.is_null() {
                continue;
            }
            let wrong = |expected: &str| Error::invalid(format!("schedule key \"{key}\" is not {expected}"));
            let text = || value.as_str().map(str::to_string).ok_or_else(|| wrong("a text"));
            let int = || value.as_i64().and_then(|n| i32::try_from(n).ok()).ok_or_else(|| wrong("an integer"));
            let flag = || value.as_bool().ok_or_else(|| wrong("a boolean"));
            let time = || {
                let parsed = value.as_str().and_then(parse_time);
                parsed.ok_or_else(|| wrong("a timestamp").hint("Write it as a text: \"2030-01-31 12:00+00\"."))
            };
            let span = || {
                let parsed = value.as_str().and_then(parse_in_parts);
                parsed.ok_or_else(|| wrong("an interval").hint("Write it as a text: \"5 minutes\"."))
            };
            let texts = || {
                let items = value.as_array().and_then(|a| a.iter().map(|t| t.as_str().map(str::to_string)).collect());
                items.ok_or_else(|| wrong("an array of texts"))
            };
            match key.as_str() {
                "name" => d.name = text()?,
                "handler" => d.handler = text()?,
                "rule" => d.rule = text()?,
                "tz" => d.tz = Some(text()?),
                "start_at" => d.start_at = Some(time()?),
                "until" => d.until = Some(time()?),
                "repeats" => d.repeats = Some(int()?),
                "catch_up" => d.catch_up = Some(Said::of(text()?)),
                "catch_up_limit" => d.catch_up_limit = Some(int()?),
                "deadline" => d.deadline = Some(span()?),
                "overlap" => d.overlap = Some(Said::of(text()?)),
                "jitter" => d.jitter = Some(span()?),
                "month_end" => d.month_end = Some(Said::of(text()?)),
                "day_and" => d.day_and = Some(flag()?),
                "time_arg" => d.time_arg = Some(text()?),
                "only_if" => d.only_if = Some(text()?),
                "active_hours" => d.active_hours = Some(text()?),
                "after" => d.after = Some(texts()?),
                "after_outcome" => d.after_outcome = Some(Said::of(text()?)),
                "task" => d.task = Some(value.clone()),
                "enabled" => d.enabled = Some(flag()?),
                "tags" => d.tags = Some(texts()?),
                "description" => d.description = Some(text()?),
                _ => unreachable!("a parameter"),
            }
        }
        d.check_given()?;
        Ok(d)
    }

    /// The columns that hold a definition; the values point into `self` and `documents`.
    pub fn columns<'a>(&'a self, documents: &'a Documents) -> Vec<Set<'a, Schedules>> {
        vec![
            Schedules::HANDLER.to(self.handler.as_str()),
            Schedules::RULE.to(self.rule.as_str()),
            Schedules::TZ.to(self.tz.as_deref()),
            Schedules::ARGS.to(self.args.as_ref()),
            Schedules::ENABLED.to(self.enabled.unwrap_or(true)),
            Schedules::START_AT.to(self.start_at),
            Schedules::UNTIL.to(self.until),
            Schedules::REPEATS.to(self.repeats.unwrap_or(-1)),
            Schedules::CATCH_UP.to(self.catch_up.as_ref().map(Said::word)),
            Schedules::CATCH_UP_LIMIT.to(self.catch_up_limit),
            Schedules::DEADLINE.to(self.deadline),
            Schedules::OVERLAP.to(self.overlap.as_ref().map(Said::word)),
            Schedules::JITTER.to(self.jitter),
            Schedules::MONTH_END.to(self.month_end.as_ref().map(Said::word)),
            Schedules::DAY_AND.to(self.day_and),
            Schedules::TIME_ARG.to(self.time_arg.as_deref()),
            Schedules::TASK.to(documents.task.as_ref()),
            Schedules::OPTIONS.to(documents.options.as_ref()),
            Schedules::TAGS.to(self.tags.as_deref()),
            Schedules::DESCRIPTION.to(self.description.as_deref()),
        ]
    }
}

/// See [`Definition::documents`].
pub struct Documents {
    pub task: Option<Jsonb>,
    pub options: Option<Jsonb>,
}

/// A time of a schedule is one that rules are computed for.
pub fn check_date(what: &str, time: Option<At>) -> Result<()> {
    match time {
        Some(t) if !is_date(t) => Err(Error::invalid(format!("{what} is not in the years 1 to 9999"))),
        _ => Ok(()),
    }
}

impl Checked {
    /// As it was registered; the definition may have an alias of it.
    pub fn handler_name<'a>(&'a self, definition: &'a Definition) -> &'a str {
        self.handler.as_ref().map_or(definition.handler.as_str(), |h| h.name.as_str())
    }

    pub fn plan(&self, definition: &Definition, anchor: At, seed: u64) -> Plan<'_> {
        Plan {
            rule: &self.rule,
            zone: self.zone,
            anchor: instant(anchor),
            start_at: definition.start_at.map(instant),
            until: definition.until.map(instant),
            active_hours: self.active_hours.as_ref(),
            back_to: None,
            month_end: self.month_end,
            seed,
        }
    }
}

fn unreadable(name: &str) -> Error {
    Error::limit(format!("args of schedule \"{name}\" hold a number or a depth that can't be carried"))
        .detail("Numbers go up to those of double precision, and 127 levels deep.")
}

/// An expression that can be asked; nothing of it is run, and no name in it is looked up.
fn check_condition(expression: &str) -> Result<()> {
    condition::check_syntax(expression).map_err(|fault| {
        let place = fault.at.map_or(String::new(), |at| format!(", at character {at}"));
        Error::new(SqlState::SYNTAX_ERROR, format!("only_if: {}", fault.message))
            .detail(format!("Parameter only_if{place}."))
            .hint("Write one SQL expression that is true or false, as after WHERE.")
    })
}
