//! The document of a task, as views and calls show it and as hooks and listeners get it.
//!
//! Its keys are the fields of [`TaskDocument`], spelt here and nowhere else in Rust; `tenant_q.task` has the same in SQL.
//! Each constructor is one way to know a task: by its row or its result's, as it ends, in an event, before there is a row.

use crate::handler::Handler;
use crate::handler::listeners::Event;
use crate::postgres::clock;
use crate::postgres::error::{self, Error};
use crate::postgres::row::Row;
use crate::postgres::types::Jsonb;
use crate::pure::choice::Named;
use crate::pure::ids::Id;
use crate::pure::state::{Ended, State};
use crate::pure::time::{self, At};
use crate::task::end::End;
use crate::task::new::NewTask;
use crate::task::options::Options;
use crate::task::rules::Rules;
use crate::tenant::Tenant;
use crate::tenant::columns::{Results, Tasks};
use crate::{handler, settings};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value as Json, json};
use std::rc::Rc;

/// All that is told of a task. What is absent is null.
#[derive(Serialize)]
pub struct TaskDocument<'a> {
    /// Of a listener's document only.
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'a str>,
    name: Option<&'a str>,
    handler: Option<&'a str>,
    state: &'a str,
    /// Why it doesn't run, for people.
    reason: Option<String>,
    attempt: i32,
    max_attempts: Option<i32>,
    #[serde(serialize_with = "as_time")]
    run_at: Option<At>,
    #[serde(serialize_with = "as_time")]
    started_at: Option<At>,
    #[serde(serialize_with = "as_time")]
    finished_at: Option<At>,
    #[serde(serialize_with = "as_time")]
    created_at: Option<At>,
    queue: &'a str,
    priority: i32,
    schedule: Option<&'a str>,
    #[serde(serialize_with = "as_time")]
    scheduled_for: Option<At>,
    group_id: Option<&'a str>,
    enqueued_by: Option<&'a str>,
    tenant: &'a str,
    id: Id,
    parent_id: Option<Id>,
    error: Option<Json>,
    /// These two are taken as they are, however large and deep.
    #[serde(skip)]
    result: Option<Jsonb>,
    #[serde(skip)]
    args: Option<Jsonb>,
    meta: Option<Json>,
}

fn as_time<S: Serializer>(time: &Option<At>, to: S) -> Result<S::Ok, S::Error> {
    time_json(*time).serialize(to)
}

/// What is known of a task beside its row, in an event.
#[derive(Default)]
pub struct Seen<'a> {
    pub state: &'a str,
    pub attempt: i32,
    pub started_at: Option<At>,
    pub result: Option<&'a Jsonb>,
    pub error: Option<Json>,
}

impl<'a> TaskDocument<'a> {
    /// What an unfinished task's row alone says.
    fn of_row(tenant: &'a Tenant, row: &'a Row<Tasks>, handler: Option<&Handler>) -> TaskDocument<'a> {
        TaskDocument {
            event: None,
            id: row.get(Tasks::ID).unwrap_or_default(),
            tenant: &tenant.name,
            handler: row.get(Tasks::HANDLER),
            name: row.get(Tasks::NAME),
            state: "",
            reason: None,
            args: row.document(Tasks::ARGS),
            result: None,
            error: None,
            attempt: row.get(Tasks::ATTEMPTS).unwrap_or(0),
            max_attempts: Some(Rules::of(tenant, row, handler).max_attempts),
            queue: row.get(Tasks::QUEUE).unwrap_or(DEFAULT_QUEUE),
            priority: row.get(Tasks::PRIORITY).unwrap_or(0).into(),
            group_id: row.get(Tasks::GROUP_ID),
            parent_id: row.get(Tasks::PARENT_ID),
            schedule: row.get(Tasks::SCHEDULE),
            scheduled_for: row.get(Tasks::SCHEDULED_FOR),
            created_at: row.get(Tasks::CREATED_AT),
            run_at: row.get(Tasks::RUN_AT),
            started_at: None,
            finished_at: None,
            enqueued_by: row.get(Tasks::ENQUEUED_BY),
            meta: row.get(Tasks::META),
        }
    }

    /// An unfinished one. `running`: since when, if it runs; 0 = it is about to.
    pub fn unfinished(
        tenant: &'a Tenant,
        row: &'a Row<Tasks>,
        handler: Option<&Handler>,
        state: State,
        reason: Option<String>,
        running: Option<At>,
    ) -> TaskDocument<'a> {
        let known = TaskDocument::of_row(tenant, row, handler);
        TaskDocument {
            state: state.name(),
            reason,
            error: Some(last_error(row.get(Tasks::HISTORY))),
            attempt: known.attempt + i32::from(running.is_some()),
            started_at: running.filter(|since| *since > At::UNSET),
            ..known
        }
    }

    /// A finished one.
    pub fn finished(tenant: &'a Rc<Tenant>, row: &'a Row<Results>) -> TaskDocument<'a> {
        let of_handler = || handler::find(tenant, row.get(Results::HANDLER).unwrap_or("")).ok().flatten()?.max_attempts;
        let max_attempts = Options::of_result(row).max_attempts.or_else(of_handler).unwrap_or_else(settings::max_attempts);
        TaskDocument {
            event: None,
            id: row.get(Results::ID).unwrap_or_default(),
            tenant: &tenant.name,
            handler: row.get(Results::HANDLER),
            name: row.get(Results::NAME),
            state: row.letter(Results::STATE).seen().name(),
            reason: None,
            args: row.document(Results::ARGS),
            result: row.document(Results::RESULT),
            error: row.get(Results::ERROR),
            attempt: row.get(Results::ATTEMPTS).unwrap_or(0),
            max_attempts: Some(max_attempts),
            queue: row.get(Results::QUEUE).unwrap_or(DEFAULT_QUEUE),
            priority: row.get(Results::PRIORITY).unwrap_or(0).into(),
            group_id: row.get(Results::GROUP_ID),
            parent_id: row.get(Results::PARENT_ID),
            schedule: row.get(Results::SCHEDULE),
            scheduled_for: row.get(Results::SCHEDULED_FOR),
            created_at: row.get(Results::CREATED_AT),
            run_at: row.get(Results::RUN_AT),
            started_at: row.get(Results::STARTED_AT),
            finished_at: row.get(Results::FINISHED_AT),
            enqueued_by: row.get(Results::ENQUEUED_BY),
            meta: row.get(Results::META),
        }
    }

    /// One that is just ending, for its hooks.
    pub fn ending(tenant: &'a Tenant, row: &'a Row<Tasks>, end: &End) -> TaskDocument<'a> {
        TaskDocument {
            state: end.state.seen().name(),
            result: end.result.cloned(),
            error: end.error.clone(),
            attempt: end.attempts,
            started_at: end.started_at,
            finished_at: Some(clock::now()),
            ..TaskDocument::of_row(tenant, row, registered(tenant, row).as_deref())
        }
    }

    /// One that something happens to, for listeners.
    pub fn in_event(tenant: &'a Tenant, row: &'a Row<Tasks>, event: Event, seen: Seen<'a>) -> TaskDocument<'a> {
        let is_end = matches!(event, Event::Done | Event::Failed | Event::Cancelled | Event::Expired);
        TaskDocument {
            event: Some(event.name()),
            state: seen.state,
            result: seen.result.cloned(),
            error: seen.error,
            attempt: seen.attempt,
            started_at: seen.started_at,
            finished_at: is_end.then(clock::now),
            ..TaskDocument::of_row(tenant, row, registered(tenant, row).as_deref())
        }
    }

    /// One that is being enqueued, for listeners: there is no row yet.
    pub fn to_be(
        tenant: &'a Tenant,
        new: &'a NewTask,
        handler: &'a str,
        id: Id,
        run_at: At,
        by: &'a str,
        event: Event,
    ) -> TaskDocument<'a> {
        let now = clock::now();
        TaskDocument {
            event: Some(event.name()),
            id,
            tenant: &tenant.name,
            handler: Some(handler),
            name: new.name.as_deref(),
            state: if run_at > now { "delayed" } else { "queued" },
            reason: None,
            args: new.args.clone(),
            result: None,
            error: None,
            attempt: 0,
            max_attempts: new.max_attempts,
            queue: new.queue.as_deref().unwrap_or(DEFAULT_QUEUE),
            priority: new.priority.unwrap_or(0),
            group_id: new.group_id.as_deref(),
            parent_id: None,
            schedule: new.schedule.as_deref(),
            scheduled_for: new.scheduled_for,
            created_at: Some(now),
            run_at: Some(run_at),
            started_at: None,
            finished_at: None,
            enqueued_by: Some(by),
            meta: new.meta.clone(),
        }
    }

    /// As it is after an attempt that has left neither row nor result.
    pub fn after(self, state: State, attempt: i32, result: Option<Jsonb>) -> TaskDocument<'a> {
        TaskDocument { state: state.name(), attempt, result, ..self }
    }

    /// As hooks and listeners get it; 54000 where no document holds it.
    pub fn into_argument(self) -> error::Result<Jsonb> {
        let Json::Object(mut keys) = json!(self) else { return Err(Error::internal("a task is no object")) };
        let mut whole = Vec::new();
        for (key, value) in [("args", &self.args), ("result", &self.result)] {
            match value {
                Some(value) => whole.push((key, value)),
                None => drop(keys.insert(key.into(), Json::Null)),
            }
        }
        Jsonb::object(&keys, &whole)
    }

    /// As a row of type `tenant_q.task`: `args` and `result` in arrays, so that JSON null and SQL NULL stay apart.
    pub fn into_row(mut self) -> error::Result<Jsonb> {
        let wrapped = |value: Option<Jsonb>| value.map(|value| Jsonb::array(&[value])).transpose();
        (self.args, self.result) = (wrapped(self.args)?, wrapped(self.result)?);
        self.into_argument()
    }
}

/// The queue of tasks that name none.
pub const DEFAULT_QUEUE: &str = "default";

fn registered(tenant: &Tenant, row: &Row<Tasks>) -> Option<Rc<Handler>> {
    handler::find(tenant, row.get(Tasks::HANDLER).unwrap_or("")).ok().flatten()
}

/// For messages: "has …".
pub fn ended_how(state: Ended) -> &'static str {
    match state.seen() {
        State::Cancelled => "been cancelled",
        State::Expired => "expired",
        State::Quarantined => "been quarantined",
        State::Done => "ended",
        _ => "failed",
    }
}

/// A timestamp as JSON has it.
pub fn time_json(t: Option<At>) -> Json {
    match t {
        Some(At::NEVER) => "infinity".into(),
        Some(At::LOWEST) => "-infinity".into(),
        Some(t) => {
            // RFC 3339 ends with the year 9999; PostgreSQL writes later ones without a sign, and BC behind.
            use chrono::Datelike;
            let t = time::instant(t);
            let (year, era) = if t.year() > 0 { (t.year(), "") } else { (1 - t.year(), " BC") };
            format!("{year:04}-{}{era}", t.format("%m-%dT%H:%M:%S%.6fZ")).into()
        }
        None => Json::Null,
    }
}

pub fn last_error(history: Option<Json>) -> Json {
    let Some(Json::Array(entries)) = history else { return Json::Null };
    let Some(Json::Object(last)) = entries.last() else { return Json::Null };
    let mut error = Map::new();
    for key in ["sqlstate", "message", "detail", "hint", "context"] {
        if let Some(v) = last.get(key).filter(|v| !v.is_null()) {
            error.insert(key.into(), v.clone());
        }
    }
    Json::Object(error)
}
