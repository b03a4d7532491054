//! The document that listeners get of a task.

use crate::handler;
use crate::handler::listeners::Event;
use crate::postgres::clock;
use crate::postgres::relation::Row;
use crate::postgres::types::Jsonb;
use crate::pure::ids;
use crate::pure::time::Micros;
use crate::task::document::time_json;
use crate::task::new::NewTask;
use crate::task::rules;
use crate::tenant::Tenant;
use crate::tenant::columns::col;
use serde_json::{Value as Json, json};

/// What is known of a task beside its row.
#[derive(Default)]
pub struct Seen<'a> {
    pub state: &'a str,
    pub attempt: i32,
    pub started_at: Option<Micros>,
    pub result: Option<Json>,
    pub error: Option<Json>,
}

/// The task as tq_tasks and tq_results show it, and which event.
pub fn document(tenant: &Tenant, row: &Row, event: Event, seen: &Seen) -> Json {
    let handler = handler::find(tenant, row.str(col::HANDLER).unwrap_or("")).ok().flatten();
    let finished = matches!(event, Event::Done | Event::Failed | Event::Cancelled | Event::Expired);
    json!({
        "event": event.name(),
        "id": ids::uuid_text(row.uuid(col::ID).unwrap_or(0)),
        "tenant": tenant.name,
        "handler": row.str(col::HANDLER),
        "name": row.str(col::NAME),
        "state": seen.state,
        "reason": null,
        "args": row.json(col::ARGS),
        "result": seen.result,
        "error": seen.error,
        "attempt": seen.attempt,
        "max_attempts": rules::Rules::of(tenant, row, handler.as_deref()).max_attempts,
        "queue": row.str(col::QUEUE).unwrap_or("default"),
        "priority": row.i16(col::PRIORITY),
        "group_id": row.str(col::GROUP_ID),
        "parent_id": row.uuid(col::PARENT_ID).map(ids::uuid_text),
        "schedule": row.str(col::SCHEDULE),
        "scheduled_for": time_json(row.time(col::SCHEDULED_FOR)),
        "created_at": time_json(row.time(col::CREATED_AT)),
        "run_at": time_json(row.time(col::RUN_AT)),
        "started_at": time_json(seen.started_at),
        "finished_at": time_json(finished.then(clock::now)),
        "enqueued_by": row.str(col::ENQUEUED_BY),
        "meta": row.json(col::META),
    })
}

/// The same of a task that is being enqueued.
pub fn new_document(tenant: &Tenant, new: &NewTask, handler: &str, id: u128, run_at: Micros, by: &str, event: Event) -> Json {
    let now = clock::now();
    json!({
        "event": event.name(),
        "id": ids::uuid_text(id),
        "tenant": tenant.name,
        "handler": handler,
        "name": new.name,
        "state": if run_at > now { "delayed" } else { "queued" },
        "reason": null,
        "args": new.args.as_ref().map(Jsonb::value),
        "result": null,
        "error": null,
        "attempt": 0,
        "max_attempts": new.max_attempts,
        "queue": new.queue.as_deref().unwrap_or("default"),
        "priority": new.priority.unwrap_or(0),
        "group_id": new.group_id,
        "parent_id": null,
        "schedule": new.schedule,
        "scheduled_for": time_json(new.scheduled_for),
        "created_at": time_json(Some(now)),
        "run_at": time_json(Some(run_at)),
        "started_at": null,
        "finished_at": null,
        "enqueued_by": by,
        "meta": new.meta,
    })
}
