//! Changing tasks that wait, deleting tasks that are over.

use crate::postgres::call::{Args, Ret, parameters};
use crate::postgres::error::{Error, Result};
use crate::postgres::relation::{Access, Write};
use crate::postgres::sqlstate::SqlState;
use crate::postgres::types::Jsonb;
use crate::postgres::{catalog, clock, sandbox, transaction};
use crate::pure::ids::Id;
use crate::pure::state::{State, Stored};
use crate::pure::time::Span;
use crate::shared::{self, wake};
use crate::task::lookup::{self, Found};
use crate::task::new::NewTask;
use crate::task::notes;
use crate::task::options::Options;
use crate::task::place::Place;
use crate::tenant::columns::{Results, Tasks};
use crate::tenant::{self, rights};
use crate::waits::gate;
use crate::work::retention;
use crate::{handler, sql_functions};

/// Rows that are collected before they are deleted.
const BATCH: usize = 2000;

/// The task that a call is about.
pub fn id_argument(args: &Args) -> Result<Id> {
    args.uuid(0).ok_or_else(|| {
        Error::new(SqlState::NULL_VALUE_NOT_ALLOWED, "id is null")
            .hint("Where it is of tq_find(): that returns NULL if no task of this name is known.")
    })
}

parameters! {
    TqUpdate of tq_update {
        ID,
        RUN_AT,
        QUEUE,
        PRIORITY,
        ARGS,
        EXPIRES,
        META,
        TENANT,
    }
}

/// tq_update(id, run_at, queue, priority, args, expires, meta, tenant)
fn update(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"tq_update()");
    let id = id_argument(args)?;
    let tenant = tenant::resolve(args.text(TqUpdate::TENANT).as_deref())?;
    rights::may_operate(&tenant)?;
    let new = NewTask {
        run_at: args.time(TqUpdate::RUN_AT),
        queue: args.text(TqUpdate::QUEUE),
        priority: args.int(TqUpdate::PRIORITY),
        args: args.json(TqUpdate::ARGS),
        expires: args.interval(TqUpdate::EXPIRES),
        meta: args.json(TqUpdate::META).map(|j| j.value()),
        ..NewTask::default()
    };
    new.check()?;
    if new.args.is_some() {
        // Who gives the arguments answers for them as whoever enqueues does.
        crate::tenant::rights::Caller::check(&tenant)?;
    }
    let tasks = tenant.open(tenant.task, Access::Write)?;
    let results = tenant.open(tenant.result, Access::Read)?;
    let Found::Unfinished(row) = lookup::look_up(&tasks, &results, id) else { return Ok(Ret::Bool(false)) };
    let listed = shared::get().is_some_and(|s| gate::live_items(&s, usize::MAX, tenant.oid).any(|item| item.id == id));
    if listed {
        // Finished, running, or next in an executor's list: too late.
        return Ok(Ret::Bool(false));
    }
    let name = row.get(Tasks::HANDLER).unwrap_or("");
    // Whoever gives a task something to work on answers for it.
    let answers = new.args.is_some() || new.meta.is_some();
    let handler = handler::find(&tenant, name)?;
    let user = sandbox::current_user();
    let superuser = sandbox::is_superuser(user);
    let by = catalog::role_name(user.to_u32()).unwrap_or_default();
    if let Some(handler) = &handler {
        if new.args.is_some() {
            handler.check_args(new.args.as_ref(), handler.code_at_enqueue(&tenant).as_ref())?;
        }
        if answers && !superuser && sandbox::is_superuser(pgrx::pg_sys::Oid::from(handler.run_as)) {
            return Err(Error::denied(format!(
                "handler \"{name}\" runs as a superuser, so only a superuser may change what its tasks are given"
            )));
        }
    }
    let now = clock::now();
    let created_at = row.get(Tasks::CREATED_AT).unwrap_or(now);
    let meta = new.meta.clone().map(Jsonb::from_value);
    // Another incarnation, though hardly another time: an executor that has read the row before
    // must not end it with the old arguments.
    let mut changes = vec![Tasks::CREATED_AT.to(created_at + Span::MICROSECOND)];
    if let Some(at) = new.run_at {
        changes.push(Tasks::RUN_AT.to(at));
    }
    if let Some(queue) = &new.queue {
        changes.push(Tasks::QUEUE.to(queue.as_str()));
    }
    if let Some(priority) = new.priority {
        changes.push(Tasks::PRIORITY.to(priority as i16));
    }
    if let Some(args) = &new.args {
        changes.push(Tasks::ARGS.to(args));
    }
    if let Some(expires) = new.expires {
        changes.push(Tasks::EXPIRES_AT.to(now.saturating_add(expires)));
    }
    if let Some(meta) = &meta {
        changes.push(Tasks::META.to(meta));
    }
    if answers {
        changes.push(Tasks::ENQUEUED_BY.to(by.as_str()));
        changes.push(Tasks::BY_SUPERUSER.to(superuser));
    }
    if changes.len() == 1 {
        return Ok(Ret::Bool(false));
    }
    let options = match answers {
        true => crate::work::ask::options_again(&tenant, Options::of(&row), false, true)?.column(),
        false => None,
    };
    if answers && (options.is_some() || row.has(Tasks::OPTIONS)) {
        changes.push(Tasks::OPTIONS.to(options.as_ref()));
    }
    let place = Place::of(&tenant, new.queue.as_deref().or(row.get(Tasks::QUEUE)));
    if matches!(row.letter(Tasks::STATE), Stored::Held | Stored::Gated) || row.letter(Tasks::STATE).is_runnable() && !place.has(&row) {
        // Whether what kept it still does is found out by the next pick.
        changes.extend(place.changes());
    }
    if tasks.update(&row, &changes) == Write::Overtaken {
        return Ok(Ret::Bool(false));
    }
    // It stood in place at its gates, perhaps for others who were put aside behind it.
    gate::release(&tenant, &tasks, &row, handler.as_deref())?;
    let role = handler.map_or(tenant.owner, |h| h.run_as);
    if let Some(entry) = tenant.entry(role)? {
        wake::changed_row(entry, new.run_at.or(row.get(Tasks::RUN_AT)).unwrap_or(now));
    }
    Ok(Ret::Bool(true))
}

/// tq_delete(id, tenant)
fn delete(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"tq_delete()");
    let id = id_argument(args)?;
    let tenant = tenant::resolve(args.text(1).as_deref())?;
    rights::may_operate(&tenant)?;
    let tasks = tenant.open(tenant.task, Access::Write)?;
    let results = tenant.open(tenant.result, Access::Write)?;
    match lookup::look_up(&tasks, &results, id) {
        Found::Finished(row) => {
            if transaction::with_latest_snapshot(|| retention::is_needed(&tasks, &row)) {
                return Err(Error::state(format!("the flow of task {} is not finished", id))
                    .detail("It gathers the results of its members when the last of them is final.")
                    .hint("Cancel the flow first: SELECT tq_cancel(parent_id)."));
            }
            let gone = transaction::with_latest_snapshot(|| notes::delete_result(&tasks, &results, &row));
            Ok(Ret::Bool(gone == Write::Done))
        }
        Found::Unfinished(_) => Err(Error::state(format!("task {} is not finished", id))
            .detail("Deleting it would leave whoever waits for it without an answer.")
            .hint("Cancel it first: SELECT tq_cancel(id), then tq_delete(id).")),
        Found::Nothing => Ok(Ret::Bool(false)),
    }
}

/// tq_purge(older_than, states, tenant)
fn purge(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"tq_purge()");
    let age = args
        .interval(0)
        .ok_or_else(|| Error::new(SqlState::NULL_VALUE_NOT_ALLOWED, "older_than is null").hint("Pass '0' for all that are finished."))?;
    if age.is_negative() {
        return Err(Error::invalid("older_than is negative"));
    }
    let wanted = args.texts(1).map(|names| names.iter().map(|n| final_state(n)).collect::<Result<Vec<State>>>()).transpose()?;
    let tenant = tenant::resolve(args.text(2).as_deref())?;
    rights::may_operate(&tenant)?;
    let tasks = tenant.open(tenant.task, Access::Write)?;
    let results = tenant.open(tenant.result, Access::Write)?;
    let before = clock::now().saturating_sub(age);
    let mut purged = 0;
    let mut from = Id::NIL;
    loop {
        pgrx::check_for_interrupts!();
        let mut victims = Vec::new();
        let mut seen = 0;
        transaction::with_latest_snapshot(|| {
            for row in results.scan(&Results::BY_ID, &[Results::ID.above(from)]).take(BATCH) {
                seen += 1;
                from = row.get(Results::ID).unwrap_or(Id::LAST);
                let over = row.get(Results::FINISHED_AT).is_some_and(|t| t <= before);
                let over = over && !retention::is_needed(&tasks, &row);
                if over && wanted.as_ref().is_none_or(|w| w.contains(&row.letter(Results::STATE).seen())) {
                    victims.push(row);
                }
            }
            for row in &victims {
                purged += i64::from(notes::delete_result(&tasks, &results, row) == Write::Done);
            }
        });
        if seen < BATCH {
            return Ok(Ret::Bigint(purged));
        }
    }
}

fn final_state(name: &str) -> Result<State> {
    State::ALL.into_iter().find(|s| s.name() == name && s.is_final()).ok_or_else(|| {
        Error::invalid(format!("states names \"{name}\", which is not a state of finished tasks"))
            .hint("They are done, failed, cancelled, expired and quarantined; tq_cancel ends a task that is not finished.")
    })
}

sql_functions! {
    tq_update, pg_finfo_tq_update => update;
    tq_delete, pg_finfo_tq_delete => delete;
    tq_purge, pg_finfo_tq_purge => purge;
}
