//! The document that listeners get of a task.

use crate::handler;
use crate::handler::listeners::Event;
use crate::postgres::clock;
use crate::postgres::row::Row;
use crate::postgres::types::Jsonb;
use crate::pure::choice::Named;
use crate::pure::ids;
use crate::pure::time::Micros;
use crate::task::document::time_json;
use crate::task::new::NewTask;
use crate::task::rules;
use crate::tenant::Tenant;
use crate::tenant::columns::Tasks;
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
pub fn document(tenant: &Tenant, row: &Row<Tasks>, event: Event, seen: &Seen) -> Json {
    let handler = handler::find(tenant, row.get(Tasks::HANDLER).unwrap_or("")).ok().flatten();
    let finished = matches!(event, Event::Done | Event::Failed | Event::Cancelled | Event::Expired);
    json!({
        "event": event.name(),
        "id": ids::uuid_text(row.get(Tasks::ID).unwrap_or(0)),
        "tenant": tenant.name,
        "handler": row.get(Tasks::HANDLER),
        "name": row.get(Tasks::NAME),
        "state": seen.state,
        "reason": null,
        "args": row.get(Tasks::ARGS),
        "result": seen.result,
        "error": seen.error,
        "attempt": seen.attempt,
        "max_attempts": rules::Rules::of(tenant, row, handler.as_deref()).max_attempts,
        "queue": row.get(Tasks::QUEUE).unwrap_or("default"),
        "priority": row.get(Tasks::PRIORITY),
        "group_id": row.get(Tasks::GROUP_ID),
        "parent_id": row.get(Tasks::PARENT_ID).map(ids::uuid_text),
        "schedule": row.get(Tasks::SCHEDULE),
        "scheduled_for": time_json(row.get(Tasks::SCHEDULED_FOR)),
        "created_at": time_json(row.get(Tasks::CREATED_AT)),
        "run_at": time_json(row.get(Tasks::RUN_AT)),
        "started_at": time_json(seen.started_at),
        "finished_at": time_json(finished.then(clock::now)),
        "enqueued_by": row.get(Tasks::ENQUEUED_BY),
        "meta": row.get(Tasks::META),
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
