//! What a task waits for, as people are told.

use crate::handler::{self, Handler};
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

/// The state of an unfinished task at this moment.
pub fn state(tenant: &Tenant, row: &Row<Tasks>, now: At) -> State {
    look(tenant, row, now, runs_since(tenant, row).is_some()).0
}

/// Since when it runs; None: it doesn't.
fn runs_since(tenant: &Tenant, row: &Row<Tasks>) -> Option<At> {
    let (id, created_at) = (row.get(Tasks::ID).unwrap_or_default(), row.get(Tasks::CREATED_AT).unwrap_or_default());
    shared::get().and_then(|s| slot::running_since(&s, tenant.oid, id, created_at))
}

/// Its state, and what it has to wait for where no pick has looked at it yet.
fn look(tenant: &Tenant, row: &Row<Tasks>, now: At, running: bool) -> (State, Option<String>) {
    let state = state::unfinished(
        row.letter(Tasks::STATE),
        row.get(Tasks::ATTEMPTS).unwrap_or(0),
        row.get(Tasks::RUN_AT).unwrap_or_default(),
        now,
        running,
    );
    // Due, and no pick has looked yet whether what it depends on is final.
    let waits = if state == State::Queued && row.has(Tasks::WAITS) { still_depends(tenant, row) } else { None };
    (if waits.is_some() { State::Deferred } else { state }, waits)
}

/// How an unfinished task stands at this moment.
pub struct Standing {
    pub state: State,
    /// Why it doesn't run, for people.
    pub reason: Option<String>,
}

/// `running`: it does.
pub fn standing(tenant: &Tenant, row: &Row<Tasks>, handler: Option<&Handler>, now: At, running: bool) -> Standing {
    let (state, waits) = look(tenant, row, now, running);
    let reason = match (state, handler) {
        (State::Held, None) => Some("handler is not registered".to_string()),
        (State::Held, Some(h)) => Some(h.fault.as_ref().map_or_else(
            || if h.quarantined { "handler is quarantined".into() } else { paused(tenant, row, now) },
            |f| f.text().to_string(),
        )),
        (State::Deferred, _) => waits.or_else(|| members::describe_wait(row)),
        (State::Queued, _) if !tenant.ready => Some("the tenant is not ready".to_string()),
        (State::Queued, _) if let Some(pause) = tenant.whole_pauses(now).next() => Some(pause.text()),
        (State::Queued, _) if row.letter(Tasks::STATE) == Stored::Gated => Some("a lock or limit is busy".to_string()),
        _ => None,
    };
    Standing { state, reason }
}

/// Which pause keeps a row that is held, for people.
fn paused(tenant: &Tenant, row: &Row<Tasks>, now: At) -> String {
    let (handler, queue) = (row.get(Tasks::HANDLER).unwrap_or(""), row.get(Tasks::QUEUE));
    // One that has just ended is about to let it go.
    tenant.part_pauses(handler, queue, now).next().map_or_else(|| "paused".into(), |pause| pause.text())
}

/// The document of an unfinished task, with its state at this moment and the reason why it doesn't run.
pub fn describe<'a>(tenant: &'a Rc<Tenant>, row: &'a Row<Tasks>, now: At) -> TaskDocument<'a> {
    let since = runs_since(tenant, row);
    let handler = handler::find(tenant, row.get(Tasks::HANDLER).unwrap_or("")).ok().flatten();
    let Standing { state, reason } = standing(tenant, row, handler.as_deref(), now, since.is_some());
    TaskDocument::unfinished(tenant, row, handler.as_deref(), state, reason, since)
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
