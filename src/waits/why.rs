//! What a task waits for, as people are told.

use crate::handler;
use crate::postgres::relation::Access;
use crate::postgres::row::Row;
use crate::postgres::transaction;
use crate::pure::state::{self, State, Stored};
use crate::pure::time::At;
use crate::shared::{self, slot};
use crate::task::document::TaskDocument;
use crate::tenant::Tenant;
use crate::tenant::columns::Tasks;
use crate::waits::{depend, members};
use std::rc::Rc;

/// The document of an unfinished task, with its state at this moment and the reason why it doesn't run.
pub fn describe<'a>(tenant: &'a Rc<Tenant>, row: &'a Row<Tasks>, now: At) -> TaskDocument<'a> {
    let (id, created_at) = (row.get(Tasks::ID).unwrap_or_default(), row.get(Tasks::CREATED_AT).unwrap_or_default());
    let slot = shared::get().and_then(|s| slot::running(&s, tenant.oid, id, created_at).map(|n| &s.slots[n]));
    let state = state::unfinished(
        row.letter(Tasks::STATE),
        row.get(Tasks::ATTEMPTS).unwrap_or(0),
        row.get(Tasks::RUN_AT).unwrap_or_default(),
        now,
        slot.is_some(),
    );
    // Due, and no pick has looked yet whether what it depends on is final.
    let waits = if state == State::Queued && row.has(Tasks::WAITS) { still_depends(tenant, row) } else { None };
    let state = if waits.is_some() { State::Deferred } else { state };
    let handler = handler::find(tenant, row.get(Tasks::HANDLER).unwrap_or("")).ok().flatten();
    let reason = match (state, &handler) {
        (State::Held, None) => Some("handler is not registered".to_string()),
        (State::Held, Some(h)) => Some(
            h.fault
                .as_ref()
                .map_or_else(|| if h.quarantined { "handler is quarantined".into() } else { "paused".into() }, |f| f.text().to_string()),
        ),
        (State::Deferred, _) => waits.or_else(|| members::describe_wait(row)),
        (State::Queued, _) if row.letter(Tasks::STATE) == Stored::Gated => Some("a lock or limit is busy".to_string()),
        _ => None,
    };
    TaskDocument::unfinished(tenant, row, handler.as_deref(), state, reason, slot.map(|s| s.started_at.load()))
}

/// What a row that no pick has looked at yet has to wait for, for people.
fn still_depends(tenant: &Tenant, row: &Row<Tasks>) -> Option<String> {
    let (tasks, results) = (tenant.try_open(tenant.task, Access::Read).ok()??, tenant.try_open(tenant.result, Access::Read).ok()??);
    match transaction::with_latest_snapshot(|| depend::evaluate(&tasks, &results, row)) {
        depend::Answer::Wait(id) => Some(format!("waits for task {}", id)),
        depend::Answer::WaitAny(_) | depend::Answer::Soon => Some("waits for one of several tasks".into()),
        depend::Answer::Ready | depend::Answer::Never(_) => None,
    }
}
