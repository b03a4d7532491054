//! How a task's end and times are shown to people: parts of jsonb documents.

use crate::postgres::clock;
use crate::postgres::row::Row;
use crate::postgres::types::Jsonb;
use crate::pure::ids;
use crate::pure::state::{self, State};
use crate::pure::time::{self, Micros};
use crate::task::end::End;
use crate::task::options::Options;
use crate::task::rules;
use crate::tenant::Tenant;
use crate::tenant::columns::{Results, Tasks};
use crate::{handler, settings};
use serde_json::{Map, Value as Json, json};
use std::rc::Rc;

/// For messages: "has …".
pub fn ended_how(state: u8) -> &'static str {
    match state::finished(state) {
        State::Cancelled => "been cancelled",
        State::Expired => "expired",
        State::Quarantined => "been quarantined",
        State::Done => "ended",
        _ => "failed",
    }
}

/// A timestamp as JSON has it.
pub fn time_json(t: Option<Micros>) -> Json {
    match t {
        Some(i64::MAX) => "infinity".into(),
        Some(i64::MIN) => "-infinity".into(),
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

/// The same of a finished one.
pub fn describe_result(tenant: &Rc<Tenant>, row: &Row<Results>) -> Json {
    let max_attempts = Options::of_result(row).max_attempts;
    let handler = if max_attempts.is_none() { handler::find(tenant, row.get(Results::HANDLER).unwrap_or("")).ok().flatten() } else { None };
    let max_attempts = max_attempts.or(handler.and_then(|h| h.max_attempts)).unwrap_or_else(settings::max_attempts);
    json!({
        "id": ids::uuid_text(row.get(Results::ID).unwrap_or(0)),
        "tenant": tenant.name,
        "handler": row.get(Results::HANDLER),
        "name": row.get(Results::NAME),
        "state": state::finished(row.char(Results::STATE)).name(),
        "reason": null,
        "args": row.get(Results::ARGS).map(|v| json!([v])),
        "result": row.get(Results::RESULT).map(|v| json!([v])),
        "error": row.get(Results::ERROR),
        "attempt": row.get(Results::ATTEMPTS),
        "max_attempts": max_attempts,
        "queue": row.get(Results::QUEUE).unwrap_or("default"),
        "priority": row.get(Results::PRIORITY),
        "group_id": row.get(Results::GROUP_ID),
        "parent_id": row.get(Results::PARENT_ID).map(ids::uuid_text),
        "schedule": row.get(Results::SCHEDULE),
        "scheduled_for": time_json(row.get(Results::SCHEDULED_FOR)),
        "created_at": time_json(row.get(Results::CREATED_AT)),
        "run_at": time_json(row.get(Results::RUN_AT)),
        "started_at": time_json(row.get(Results::STARTED_AT)),
        "finished_at": time_json(row.get(Results::FINISHED_AT)),
        "enqueued_by": row.get(Results::ENQUEUED_BY),
        "meta": row.get(Results::META),
    })
}

/// A task that has just ended, as its hooks get it.
pub fn describe_end(tenant: &Tenant, row: &Row<Tasks>, end: &End) -> Json {
    let handler = handler::find(tenant, row.get(Tasks::HANDLER).unwrap_or("")).ok().flatten();
    let max_attempts = rules::Rules::of(tenant, row, handler.as_deref()).max_attempts;
    json!({
        "id": row.get(Tasks::ID).map(ids::uuid_text),
        "tenant": tenant.name,
        "handler": row.get(Tasks::HANDLER),
        "name": row.get(Tasks::NAME),
        "state": state::finished(end.state).name(),
        "reason": null,
        "args": row.get(Tasks::ARGS),
        "result": end.result.map(Jsonb::value),
        "error": end.error,
        "attempt": end.attempts,
        "max_attempts": max_attempts,
        "queue": row.get(Tasks::QUEUE).unwrap_or("default"),
        "priority": row.get(Tasks::PRIORITY),
        "group_id": row.get(Tasks::GROUP_ID),
        "parent_id": row.get(Tasks::PARENT_ID).map(ids::uuid_text),
        "schedule": row.get(Tasks::SCHEDULE),
        "scheduled_for": time_json(row.get(Tasks::SCHEDULED_FOR)),
        "created_at": time_json(row.get(Tasks::CREATED_AT)),
        "run_at": time_json(row.get(Tasks::RUN_AT)),
        "started_at": time_json(end.started_at),
        "finished_at": time_json(Some(clock::now())),
        "enqueued_by": row.get(Tasks::ENQUEUED_BY),
        "meta": row.get(Tasks::META),
    })
}
