//! Listeners that are told of what became of a task, each by a task of its own.
//!
//! It is enqueued in the transaction that records what became of the task, so it is there if and only if that is. A
//! listener that can't be told is left out and said in the log: a broken one must not keep tasks from ending.

use crate::handler::listeners::{self, Event, Listener};
use crate::postgres::caught::{self, Failure};
use crate::postgres::clock;
use crate::postgres::error::Result;
use crate::postgres::relation::Access;
use crate::postgres::row::Row;
use crate::postgres::types::Jsonb;
use crate::pure::choice::Named;
use crate::pure::ids::Id;
use crate::pure::state::Ended;
use crate::pure::time::At;
use crate::task::document::{Seen, TaskDocument};
use crate::task::end::{self, End};
use crate::task::new::NewTask;
use crate::task::queue::Queue;
use crate::tenant::columns::Tasks;
use crate::tenant::rights::{By, Caller};
use crate::tenant::{self, Tenant};
use serde_json::{Value as Json, json};
use std::rc::Rc;

/// A task was done, in the transaction that records it.
pub fn done(tenant: &Tenant, row: &Row<Tasks>, attempt: i32, started_at: At, result: &Jsonb) {
    let Some(listening) = listening(tenant, Event::Done, row) else { return };
    let seen = Seen { state: "done", attempt, started_at: Some(started_at), result: Some(result), error: None };
    event(tenant, &listening, row, Event::Done, seen);
}

/// A flow has ended, in the transaction of its last member's end.
pub fn flow_ended(tenant: &Tenant, row: &Row<Tasks>, end: &End) {
    let event_of = if end.state == Ended::Done { Event::Done } else { Event::Failed };
    let Some(listening) = listening(tenant, event_of, row) else { return };
    let seen =
        Seen { state: event_of.name(), attempt: end.attempts, started_at: end.started_at, result: end.result, error: end.error.clone() };
    event(tenant, &listening, row, event_of, seen);
}

/// An attempt has failed, for good (`last`) or to be tried again, in the transaction that records it.
pub fn attempt_failed(tenant: &Tenant, row: &Row<Tasks>, attempt: i32, started_at: At, failure: &Failure, last: bool) {
    let (event, state) = if last { (Event::Failed, "failed") } else { (Event::Retry, "retrying") };
    for event in [Event::AttemptFailed, event] {
        let Some(listening) = listening(tenant, event, row) else { continue };
        let error = Some(end::error_document(failure));
        let seen = Seen { state, attempt, started_at: Some(started_at), result: None, error };
        self::event(tenant, &listening, row, event, seen);
    }
}

/// A task became final without an attempt (`state` as in tq_result), in the transaction that records it.
pub fn ended_unrun(tenant: &Tenant, row: &Row<Tasks>, state: Ended, error: Option<&Json>) {
    let event = match state {
        Ended::Cancelled => Event::Cancelled,
        Ended::Expired => Event::Expired,
        _ => Event::Failed,
    };
    let Some(listening) = listening(tenant, event, row) else { return };
    let seen = Seen { state: event.name(), attempt: row.get(Tasks::ATTEMPTS).unwrap_or(0), error: error.cloned(), ..Seen::default() };
    self::event(tenant, &listening, row, event, seen);
}

/// A schedule has enqueued a task, in the transaction of its tick.
pub fn schedule_fired(queue: &Queue, new: &NewTask, id: Id) {
    let tenant = &queue.tenant;
    let listening = listeners::listeners(tenant).map(|l| l.of(Event::ScheduleFired, &new.handler)).unwrap_or_default();
    if listening.is_empty() {
        return;
    }
    let run_at = new.run_at.unwrap_or_else(clock::now);
    let document = TaskDocument::to_be(tenant, new, &new.handler, id, run_at, &queue.caller.name, Event::ScheduleFired);
    record(tenant, &listening, document.into_argument());
}

fn listening(tenant: &Tenant, event: Event, row: &Row<Tasks>) -> Option<Vec<Rc<Listener>>> {
    let listeners = listeners::listeners(tenant).ok()?;
    if listeners.all.is_empty() {
        return None;
    }
    Some(listeners.of(event, row.get(Tasks::HANDLER).unwrap_or(""))).filter(|l| !l.is_empty())
}

fn event(tenant: &Tenant, listening: &[Rc<Listener>], row: &Row<Tasks>, event: Event, seen: Seen) {
    record(tenant, listening, TaskDocument::in_event(tenant, row, event, seen).into_argument());
}

/// Enqueues the listeners' tasks.
fn record(tenant: &Tenant, listening: &[Rc<Listener>], argument: Result<Jsonb>) {
    for listener in listening {
        let add = || -> Result<Id> {
            let args = argument.clone()?;
            let tenant = tenant::by_oid(tenant.oid)?;
            let table = tenant.open(tenant.task, Access::Write)?;
            let caller = Caller { name: listener.created_by.clone(), superuser: listener.by_superuser };
            let new = NewTask {
                handler: listener.handler.clone(),
                args: Some(args),
                meta: Some(json!({ "event": listener.event.name() })),
                ..NewTask::default()
            };
            crate::work::enqueue::add(&Queue::of(tenant, table, caller, By::Engine), &new)
        };
        if let Err(error) = add() {
            let what = format!(
                "{}: listener {} missed an event {}",
                caught::one_line(&tenant.name),
                caught::one_line(&listener.handler),
                listener.event.name()
            );
            caught::log_failure(&what, &error.into());
        }
    }
}
