//! A schedule as tq_schedule's parameters say it, apart from the SQL edge: where it comes from
//! (parameters, a document, a row), whether it makes sense in a tenant, and its columns.

use crate::enqueue::Caller;
use crate::error::{Error, Result};
use crate::handler::{self, Handler};
use crate::postgres::call::{Args, micros_of};
use crate::postgres::clock::{self, Micros};
use crate::postgres::relation::{Access, Gone, Value};
use crate::postgres::types::Jsonb;
use crate::postgres::{sandbox, transaction};
use crate::schedule::active_hours::ActiveHours;
use crate::schedule::catch_up::CatchUp;
use crate::schedule::next::Plan;
use crate::schedule::rule::{MonthEnd, Rule};
use crate::schedule::zone;
use crate::surface::task_object;
use crate::tenant::Tenant;
use crate::tick::{instant, micros, scol};
use crate::{shared, task, wake};
use pgrx::IntoDatum;
use pgrx::datum::Interval;
use serde_json::{Value as Json, json};
use std::rc::Rc;

const NAME_BYTES: usize = 200;

/// What tq_schedule's parameters say; None = inherit.
#[derive(Clone, Default)]
pub struct Definition {
    pub name: String,
    pub handler: String,
    pub rule: String,
    pub args: Option<Jsonb>,
    pub tz: Option<String>,
    pub start_at: Option<Micros>,
    pub until: Option<Micros>,
    pub repeats: Option<i32>,
    pub catch_up: Option<String>,
    pub catch_up_limit: Option<i32>,
    pub deadline: Option<Interval>,
    pub overlap: Option<String>,
    pub jitter: Option<Interval>,
    pub month_end: Option<String>,
    pub day_and: Option<bool>,
    pub time_arg: Option<String>,
    pub only_if: Option<String>,
    pub active_hours: Option<String>,
    pub after: Option<Vec<String>>,
    pub after_outcome: Option<String>,
    pub task: Option<Json>,
    /// None: it is.
    pub enabled: Option<bool>,
    pub tags: Option<Vec<String>>,
    pub description: Option<String>,
}

/// What to do where a schedule of that name is there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum OnConflict {
    Error,
    Replace,
    Keep,
}

/// A definition that makes sense in its tenant.
pub struct Checked {
    pub rule: Rule,
    pub zone: chrono_tz::Tz,
    pub month_end: MonthEnd,
    pub handler: Rc<Handler>,
}

/// tq_schedule's answer: the schedule's id, and whether it was made just now.
pub struct Defined {
    pub id: u128,
    pub made: bool,
}

impl Definition {
    /// The first 24 arguments of tq_schedule, which tq_alter_schedule and tq_schedule_all share.
    pub fn of_args(args: &Args) -> Definition {
        Definition {
            name: args.text(0).unwrap_or_default(),
            handler: args.text(1).unwrap_or_default(),
            rule: args.text(2).unwrap_or_default(),
            args: args.json(3),
            tz: args.text(4),
            start_at: args.time(5),
            until: args.time(6),
            repeats: args.int(7),
            catch_up: args.text(8),
            catch_up_limit: args.int(9),
            deadline: args.span(10),
            overlap: args.text(11),
            jitter: args.span(12),
            month_end: args.text(13),
            day_and: args.bool(14),
            time_arg: args.text(15),
            only_if: args.text(16),
            active_hours: args.text(17),
            after: args.texts(18),
            after_outcome: args.text(19),
            task: args.json(20).map(|j| j.value()),
            enabled: args.bool(21),
            tags: args.texts(22),
            description: args.text(23),
        }
    }

    /// The three that can't be left out.
    pub fn check_given(&self) -> Result<()> {
        for (what, text) in [("name", &self.name), ("handler", &self.handler), ("rule", &self.rule)] {
            if text.is_empty() {
                return Err(Error::new("22004", format!("{what} is null or empty")));
            }
        }
        if self.name.len() > NAME_BYTES {
            return Err(Error::limit(format!("name is longer than {NAME_BYTES} bytes")));
        }
        if self.only_if.is_some() {
            return Err(Error::unsupported("only_if"));
        }
        for (what, given) in [("after", self.after.is_some()), ("after_outcome", self.after_outcome.is_some())] {
            if given {
                return Err(Error::unsupported(what));
            }
        }
        Ok(())
    }

    /// Everything that can be wrong with it in this tenant, for `author`, who answers for it.
    pub fn check(&self, tenant: &Rc<Tenant>, author: &Caller) -> Result<Checked> {
        self.check_given()?;
        let rule = Rule::parse(&self.rule, self.day_and.unwrap_or(false))?;
        let zone = zone::parse_zone(&self.tz.clone().unwrap_or_else(|| tenant.zone()))?;
        let month_end = self.month_end.as_deref().map_or(Ok(MonthEnd::Clamp), MonthEnd::parse)?;
        if let Some(text) = &self.catch_up {
            CatchUp::parse(text)?;
        }
        if self.catch_up_limit.is_some_and(|n| n < 1) {
            return Err(Error::invalid("catch_up_limit is below 1"));
        }
        for (what, span) in [("deadline", &self.deadline), ("jitter", &self.jitter)] {
            if span.is_some_and(|i| micros_of(&i) < 0) {
                return Err(Error::invalid(format!("{what} is negative")));
            }
        }
        if let Some(overlap) = &self.overlap
            && !["queue", "allow", "skip"].contains(&overlap.as_str())
        {
            return Err(Error::invalid(format!("overlap \"{overlap}\" is not known")).hint("Use \"queue\", \"allow\" or \"skip\"."));
        }
        if let Some(text) = &self.active_hours {
            ActiveHours::parse(text)?;
        }
        if self.repeats.is_some_and(|n| n < -1) {
            return Err(Error::invalid("repeats is below -1").hint("-1 fires for ever, 0 never, n that many times."));
        }
        if self.until.is_some_and(|u| u <= clock::now()) {
            return Err(Error::invalid("until lies in the past"));
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
        }
        let handler = handler::require(tenant, &self.handler)?;
        self.check_args(tenant, &handler)?;
        if sandbox::is_superuser(pgrx::pg_sys::Oid::from(handler.run_as)) && !author.superuser {
            return Err(Error::denied(format!("handler \"{}\" runs as a superuser, so only a superuser may schedule it", self.handler)));
        }
        Ok(Checked { rule, zone, month_end, handler })
    }

    /// The arguments as they will be at a fire time.
    fn check_args(&self, tenant: &Tenant, handler: &Handler) -> Result<()> {
        let Some(time_arg) = &self.time_arg else { return handler.check_args(tenant, self.args.as_ref()) };
        let mut object = match self.args.as_ref().map(|a| a.value()) {
            None | Some(Json::Null) => json!({}),
            Some(Json::Object(o)) => Json::Object(o),
            Some(_) => {
                return Err(Error::invalid("time_arg needs args to be an object").hint("Pass args by name: {\"parameter\": value}."));
            }
        };
        if let Some(sig) = &handler.signature
            && !sig.params.iter().any(|p| p.name.as_ref() == Some(time_arg))
        {
            return Err(Error::invalid(format!("handler \"{}\" has no parameter \"{time_arg}\"", handler.name))
                .detail(format!("Its function is {}.", sig.identity)));
        }
        object[time_arg] = "2020-02-29".into();
        let check = Jsonb::from_value(object);
        handler.check_args(tenant, Some(&check))
    }

    fn options(&self) -> Option<Json> {
        self.active_hours.as_ref().map(|a| json!({ "active_hours": a }))
    }

    /// The columns that hold a definition; the values point into `self` and `held`.
    fn columns<'a>(&'a self, held: &'a Held) -> Vec<(usize, Value<'a>)> {
        let span = |i: Option<Interval>| Value::Raw(i.and_then(|i| i.into_datum()));
        vec![
            (scol::HANDLER, Value::Text(&self.handler)),
            (scol::RULE, Value::Text(&self.rule)),
            (scol::TZ, Value::text(self.tz.as_deref())),
            (scol::ARGS, Value::json(self.args.as_ref())),
            (scol::ENABLED, Value::Bool(self.enabled.unwrap_or(true))),
            (scol::START_AT, Value::time(self.start_at)),
            (scol::UNTIL, Value::time(self.until)),
            (scol::REPEATS, Value::I32(self.repeats.unwrap_or(-1))),
            (scol::CATCH_UP, Value::text(self.catch_up.as_deref())),
            (scol::CATCH_UP_LIMIT, self.catch_up_limit.map_or(Value::Null, Value::I32)),
            (scol::DEADLINE, span(self.deadline)),
            (scol::OVERLAP, Value::text(self.overlap.as_deref())),
            (scol::JITTER, span(self.jitter)),
            (scol::MONTH_END, Value::text(self.month_end.as_deref())),
            (scol::DAY_AND, self.day_and.map_or(Value::Null, Value::Bool)),
            (scol::TIME_ARG, Value::text(self.time_arg.as_deref())),
            (scol::TASK, Value::json(held.task.as_ref())),
            (scol::OPTIONS, Value::json(held.options.as_ref())),
            (scol::TAGS, Value::Raw(self.tags.clone().and_then(|t| t.into_datum()))),
            (scol::DESCRIPTION, Value::text(self.description.as_deref())),
        ]
    }
}

/// Documents that a row's values point into.
struct Held {
    task: Option<Jsonb>,
    options: Option<Jsonb>,
}

impl Checked {
    fn plan(&self, definition: &Definition, anchor: Micros, seed: u64) -> Plan<'_> {
        Plan {
            rule: &self.rule,
            zone: self.zone,
            anchor: instant(anchor),
            start_at: definition.start_at.map(instant),
            until: definition.until.map(instant),
            month_end: self.month_end,
            seed,
        }
    }
}

/// Makes the schedule in this tenant. `author` must have been checked: they may, and they answer for it.
pub fn define(tenant: &Rc<Tenant>, definition: &Definition, conflict: OnConflict, author: &Caller) -> Result<Defined> {
    let checked = definition.check(tenant, author)?;
    let now = clock::now();
    let id = task::new_id();
    let repeats = definition.repeats.unwrap_or(-1);
    let first = checked.plan(definition, now, id as u64).first().map(micros).filter(|_| repeats != 0);
    if first.is_none() && repeats != 0 {
        return Err(Error::invalid("the schedule never fires").detail("Its rule has no fire time between start_at and until."));
    }
    let next = first.filter(|_| definition.enabled.unwrap_or(true));
    let table = tenant.open(tenant.schedule, Access::Write)?;
    // A tick may be advancing the row just now: it is looked at again then.
    for attempt in 0.. {
        let there = transaction::with_latest_snapshot(|| table.find(&[scol::NAME as i16], Value::Text(&definition.name)));
        let Some(row) = there else { break };
        match conflict {
            OnConflict::Keep => return Ok(Defined { id: row.uuid(scol::ID).unwrap_or(0), made: false }),
            OnConflict::Replace if attempt < 10 => {
                if table.delete(row.tid) == Gone::Done {
                    transaction::see_own_writes();
                    break;
                }
            }
            OnConflict::Replace => return Err(super::contended(&definition.name)),
            OnConflict::Error => {
                return Err(Error::new("42710", format!("schedule \"{}\" exists already in tenant \"{}\"", definition.name, tenant.name))
                    .hint("on_conflict => 'replace' replaces it."));
            }
        }
    }
    let held = Held { task: definition.task.clone().map(Jsonb::from_value), options: definition.options().map(Jsonb::from_value) };
    let mut row = [Value::Null; scol::COUNT];
    for (column, value) in definition.columns(&held) {
        row[column - 1] = value;
    }
    for (column, value) in [
        (scol::NAME, Value::Text(&definition.name)),
        (scol::ID, Value::Uuid(id)),
        (scol::HANDLER, Value::Text(&checked.handler.name)),
        (scol::NEXT_RUN, Value::time(next)),
        (scol::ANCHOR, Value::Time(now)),
        (scol::CREATED_BY, Value::Text(&author.name)),
        (scol::BY_SUPERUSER, Value::Bool(author.superuser)),
        (scol::CREATED_AT, Value::Time(now)),
        (scol::RUN_COUNT, Value::I64(0)),
    ] {
        row[column - 1] = value;
    }
    table.insert(&row);
    announce(tenant, next)?;
    Ok(Defined { id, made: true })
}

/// Whoever waits for due schedules is told of a new due time.
pub fn announce(tenant: &Tenant, next: Option<Micros>) -> Result<()> {
    if let Some(next) = next {
        match tenant.entry(tenant.owner)? {
            Some(entry) => wake::schedule_changed(entry, next),
            None if shared::get().is_none() => crate::enqueue::warn_not_preloaded(),
            None => {}
        }
    }
    Ok(())
}
