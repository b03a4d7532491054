//! What a task waits for, as people are told.

use crate::handler;
use crate::postgres::relation::Access;
use crate::postgres::row::Row;
use crate::postgres::transaction;
use crate::pure::ids;
use crate::pure::state::{self, State};
use crate::pure::time::Micros;
use crate::shared::{self, slot};
use crate::task::{document, rules};
use crate::tenant::Tenant;
use crate::tenant::columns::Tasks;
use crate::waits::{depend, members};
use serde_json::{Value as Json, json};
use std::rc::Rc;

/// The row shape `tenant_q.task` of an unfinished task. `result` and `args` are wrapped in arrays,
/// so that JSON null and SQL NULL stay apart.
pub fn describe_task(tenant: &Rc<Tenant>, row: &Row<Tasks>, now: Micros) -> Json {
    let (id, created_at) = (row.get(Tasks::ID).unwrap_or(0), row.get(Tasks::CREATED_AT).unwrap_or(0));
    let slot = shared::get().and_then(|s| slot::running(&s, tenant.oid, id, created_at).map(|n| &s.slots[n]));
    let state = state::unfinished(
        row.char(Tasks::STATE),
        row.get(Tasks::ATTEMPTS).unwrap_or(0),
        row.get(Tasks::RUN_AT).unwrap_or(0),
        now,
        slot.is_some(),
    );
    // Due, and no pick has looked yet whether what it depends on is final.
    let waits = if state == State::Queued && row.has(Tasks::WAITS) { still_depends(tenant, row) } else { None };
    let state = if waits.is_some() { State::Deferred } else { state };
    let handler = handler::find(tenant, row.get(Tasks::HANDLER).unwrap_or("")).ok().flatten();
    let rules = rules::Rules::of(tenant, row, handler.as_deref());
    let reason = match (state, &handler) {
        (State::Held, None) => Some("handler is not registered".to_string()),
        (State::Held, Some(h)) => Some(
            h.fault
                .as_ref()
                .map_or_else(|| if h.quarantined { "handler is quarantined".into() } else { "paused".into() }, |f| f.text().to_string()),
        ),
        (State::Deferred, _) => waits.or_else(|| members::describe_wait(row)),
        (State::Queued, _) if row.char(Tasks::STATE) == state::stored::GATED => Some("a lock or limit is busy".to_string()),
        _ => None,
    };
    let attempts = row.get(Tasks::ATTEMPTS).unwrap_or(0);
    json!({
        "id": ids::uuid_text(id),
        "tenant": tenant.name,
        "handler": row.get(Tasks::HANDLER),
        "name": row.get(Tasks::NAME),
        "state": state.name(),
        "reason": reason,
        "args": row.get(Tasks::ARGS).map(|v| json!([v])),
        "result": null,
        "error": document::last_error(row.get(Tasks::HISTORY)),
        "attempt": attempts + i32::from(slot.is_some()),
        "max_attempts": rules.max_attempts,
        "queue": row.get(Tasks::QUEUE).unwrap_or("default"),
        "priority": row.get(Tasks::PRIORITY),
        "group_id": row.get(Tasks::GROUP_ID),
        "parent_id": row.get(Tasks::PARENT_ID).map(ids::uuid_text),
        "schedule": row.get(Tasks::SCHEDULE),
        "scheduled_for": document::time_json(row.get(Tasks::SCHEDULED_FOR)),
        "created_at": document::time_json(Some(created_at)),
        "run_at": document::time_json(row.get(Tasks::RUN_AT)),
        "started_at": document::time_json(slot.map(|s| s.started_at.load()).filter(|t| *t > 0)),
        "finished_at": null,
        "enqueued_by": row.get(Tasks::ENQUEUED_BY),
        "meta": row.get(Tasks::META),
    })
}

/// What a row that no pick has looked at yet has to wait for, for people.
fn still_depends(tenant: &Tenant, row: &Row<Tasks>) -> Option<String> {
    let (tasks, results) = (tenant.try_open(tenant.task, Access::Read).ok()??, tenant.try_open(tenant.result, Access::Read).ok()??);
    match transaction::with_latest_snapshot(|| depend::evaluate(&tasks, &results, row)) {
        depend::Answer::Wait(id) => Some(format!("waits for task {}", ids::uuid_text(id))),
        depend::Answer::WaitAny(_) | depend::Answer::Soon => Some("waits for one of several tasks".into()),
        depend::Answer::Ready | depend::Answer::Never(_) => None,
    }
}
