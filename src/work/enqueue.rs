//! Putting a task into its tenant's table: in the caller's transaction, with the caller's rights.
//!
//! The caller's privilege is checked here, and then the row is written by OID below the level of
//! SQL: the caller may be a superuser and the table's owner may be anybody, so nothing that the
//! owner could attach to the table may run.

use crate::handler::{self, Handler};
use crate::postgres::clock;
use crate::postgres::code::MayRunCode;
use crate::postgres::error::Result;
use crate::postgres::types::Jsonb;
use crate::pure::ids::Id;
use crate::task::insert;
use crate::task::new::NewTask;
use crate::task::queue::Queue;
use crate::tenant::rights::By;
use crate::waits::depend::{self, Waits};
use crate::waits::link;
use crate::waits::unique::{self, Claim};
use serde_json::Value as Json;

/// What enqueuing has come to.
#[derive(Clone, Copy)]
pub enum Added {
    /// The task, or one of this very id that was here already.
    Task(Id),
    /// Another task holds the unique key, and stays.
    Theirs(Id),
}

/// Checks and inserts one task; returns its id, or that of the one that is here in its place.
pub fn add(queue: &Queue, new: &NewTask) -> Result<Id> {
    add_unless_taken(queue, new).map(|added| match added {
        Added::Task(id) | Added::Theirs(id) => id,
    })
}

/// The same for who asks whose task it is.
pub fn add_unless_taken(queue: &Queue, new: &NewTask) -> Result<Added> {
    match queue.by {
        By::Caller => new.check()?,
        By::Engine => new.check_but_for_size()?,
    }
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
        return Ok(Added::Task(id));
    }
    let mut waits = Waits { on: new.waits_for, ..Waits::default() };
    if !new.depends_on.is_empty() && new.parent.is_none() {
        waits = depend::check(queue, new, id)?;
    }
    if new.unique_key.is_some() {
        match unique::claim(queue, new)? {
            Claim::Free => {}
            Claim::Theirs(theirs) => return Ok(Added::Theirs(theirs)),
            Claim::Replaced(theirs) => id = theirs,
        }
    }
    let run_at = new.due(&queue.tenant, clock::now());
    let marked;
    let new = match crate::work::ask::enqueue(queue, new, &handler, id, run_at)? {
        true => {
            marked = NewTask { asked: true, ..new.clone() };
            &marked
        }
        false => new,
    };
    insert::insert(&queue.tenant, &queue.table, &queue.caller, new, id, waits.on, Some(&handler))?;
    for link in &waits.links {
        link::write(&queue.table, id, &handler.name, link, None);
    }
    Ok(Added::Task(id))
}

fn check_args(queue: &Queue, handler: &Handler, new: &NewTask) -> Result<()> {
    let code = if queue.by == By::Caller { handler.code_at_enqueue(&queue.tenant) } else { None };
    fit(handler, new, code.as_ref())
}

/// Whether the arguments fit the handler; `code` as in handler::arguments::check.
pub fn fit(handler: &Handler, new: &NewTask, code: Option<&MayRunCode>) -> Result<()> {
    let args = new.args.as_ref();
    // What is handed on is known later; null stands for it, which fits every type.
    let passed = new.pass.is_some();
    let with_passed = |args: Option<Json>| match passed {
        true => crate::waits::members::with_result(handler, args, Json::Null).map(Some),
        false => Ok(args),
    };
    if new.each {
        for item in args.and_then(Jsonb::elements).into_iter().flatten() {
            handler.check_args(with_passed(Some(item))?.map(Jsonb::from_value).as_ref(), code)?;
        }
        return Ok(());
    }
    if passed {
        return handler.check_args(with_passed(args.map(Jsonb::value))?.map(Jsonb::from_value).as_ref(), code);
    }
    handler.check_args(args, code)
}
