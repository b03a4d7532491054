//! Putting a task into its tenant's table: in the caller's transaction, with the caller's rights.
//!
//! The caller's privilege is checked here, and then the row is written by OID below the level of
//! SQL: the caller may be a superuser and the table's owner may be anybody, so nothing that the
//! owner could attach to the table may run.

use crate::handler::{self, Handler};
use crate::postgres::clock;
use crate::postgres::error::Result;
use crate::postgres::types::Jsonb;
use crate::pure::ids::Id;
use crate::task::insert;
use crate::task::new::NewTask;
use crate::task::queue::Queue;
use crate::tenant::rights::By;
use crate::waits::depend;
use crate::waits::unique::{self, Claim};
use serde_json::Value as Json;

/// Checks and inserts one task; returns its id.
pub fn add(queue: &Queue, new: &NewTask) -> Result<Id> {
    new.check()?;
    let handler = handler::require(&queue.tenant, &new.handler)?;
    queue.check_superuser(&handler)?;
    check_args(queue, &handler, new)?;
    for hook in [&new.on_success, &new.on_failure, &new.hook].into_iter().flatten() {
        let hook = handler::require(&queue.tenant, hook)?;
        queue.check_superuser(&hook)?;
    }
    queue.check_room()?;
    let mut id = new.id.unwrap_or_else(Id::fresh);
    // A member's id is its flow's doing, and as new as the flow.
    if new.id.is_some() && new.parent.is_none() && queue.known(id)? {
        return Ok(id);
    }
    let mut waits_for = new.waits_for;
    if !new.depends_on.is_empty() && new.parent.is_none() {
        waits_for = depend::check(queue, new, id)?;
    }
    if new.unique_key.is_some() {
        match unique::claim(queue, new)? {
            Claim::Free => {}
            Claim::Theirs(theirs) => return Ok(theirs),
            Claim::Replaced(theirs) => id = theirs,
        }
    }
    let run_at = new.run_at.or(new.delay.map(|d| clock::now().saturating_add(d))).unwrap_or_else(clock::now);
    let marked;
    let new = match crate::work::ask::enqueue(queue, new, &handler, id, run_at)? {
        true => {
            marked = NewTask { asked: true, ..new.clone() };
            &marked
        }
        false => new,
    };
    insert::insert(&queue.tenant, &queue.table, &queue.caller, new, id, waits_for, Some(&handler))?;
    Ok(id)
}

fn check_args(queue: &Queue, handler: &Handler, new: &NewTask) -> Result<()> {
    let code = if queue.by == By::Caller { handler.code_at_enqueue(&queue.tenant) } else { None };
    let code = code.as_ref();
    if new.each {
        for item in new.args.iter().filter_map(Jsonb::elements).flatten() {
            handler.check_args(Some(&Jsonb::from_value(item)), code)?;
        }
        return Ok(());
    }
    if new.pass.is_some() {
        // What is handed on is known later; null stands for it, which fits every type.
        let args = crate::waits::members::with_result(handler, new.args.as_ref().map(Jsonb::value), Json::Null)?;
        return handler.check_args(Some(&Jsonb::from_value(args)), code);
    }
    handler.check_args(new.args.as_ref(), code)
}
