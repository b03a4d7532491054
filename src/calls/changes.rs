//! Changing tasks that wait, deleting tasks that are over.

use crate::postgres::call::{Args, Ret, parameters};
use crate::postgres::error::{Error, Result};
use crate::postgres::relation::{Access, Write};
use crate::postgres::sqlstate::SqlState;
use crate::postgres::{clock, transaction};
use crate::pure::ids::Id;
use crate::pure::state::State;
use crate::sql_functions;
use crate::task::lookup::{self, Found};
use crate::task::new::NewTask;
use crate::tenant::columns::Results;
use crate::tenant::rights::{self, Right};
use crate::tenant::{self, Tenant};
use crate::waits::idle::{self, Asked};
use crate::waits::results;
use crate::work::change::Change;
use crate::work::remove;

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
    let tenant = rights::resolve(args.text(TqUpdate::TENANT).as_deref(), rights::to_change(args.is_given(TqUpdate::ARGS)))?;
    let new = NewTask {
        run_at: args.time(TqUpdate::RUN_AT),
        queue: args.text(TqUpdate::QUEUE),
        priority: args.int(TqUpdate::PRIORITY),
        args: args.json(TqUpdate::ARGS),
        expires: args.period(TqUpdate::EXPIRES),
        meta: args.json(TqUpdate::META).map(|j| j.value()),
        ..NewTask::default()
    };
    new.check()?;
    let changed = Change::open(tenant.clone(), new)?.task(id)?;
    if !changed {
        idle::tell(&tenant, id, Asked::Change)?;
    }
    Ok(Ret::Bool(changed))
}

fn cancel_call(id: Id, tenant: &Tenant) -> String {
    format!("SELECT tq_cancel('{id}', tenant => {});", pgrx::spi::quote_literal(&tenant.name))
}

/// tq_delete(id, tenant)
fn delete(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"tq_delete()");
    let id = id_argument(args)?;
    let tenant = rights::resolve(args.text(1).as_deref(), &[Right::Operate])?;
    let tasks = tenant.open(tenant.task, Access::Write)?;
    let results = tenant.open(tenant.result, Access::Write)?;
    match lookup::look_up(&tasks, &results, id) {
        Found::Finished(row) => {
            if transaction::with_latest_snapshot(|| results::is_needed(&tasks, &row)) {
                return Err(Error::state(format!("the flow of task {} is not finished", id))
                    .detail("It gathers the results of its members when the last of them is final.")
                    .hint(format!("Cancel the flow first: {}", cancel_call(row.get(Results::PARENT_ID).unwrap_or(id), &tenant))));
            }
            let gone = remove::result(&tenant, &tasks, &results, &row)?;
            Ok(Ret::Bool(gone == Write::Done))
        }
        Found::Unfinished(_) => Err(Error::state(format!("task {} is not finished", id))
            .detail("Deleting it would leave whoever waits for it without an answer.")
            .hint(format!("Cancel it first: {}", cancel_call(id, &tenant)))),
        Found::Nothing => Ok(Ret::Bool(false)),
    }
}

/// tq_purge(older_than, states, tenant)
fn purge(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"tq_purge()");
    let age = args
        .period(0)
        .ok_or_else(|| Error::new(SqlState::NULL_VALUE_NOT_ALLOWED, "older_than is null").hint("Pass '0' for all that are finished."))?;
    if age.is_negative() {
        return Err(Error::invalid("older_than is negative"));
    }
    let wanted = args
        .texts(1)
        .map(|names| names.iter().map(|n| state_of(n, State::is_final, "finished tasks")).collect::<Result<Vec<State>>>())
        .transpose()?;
    let tenant = rights::resolve(args.text(2).as_deref(), &[Right::Operate])?;
    let tasks = tenant.open(tenant.task, Access::Write)?;
    let results = tenant.open(tenant.result, Access::Write)?;
    let before = age.before(clock::now(), || tenant::clock_of(&tenant.zone()));
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
                let over = over && !results::is_needed(&tasks, &row);
                if over && wanted.as_ref().is_none_or(|w| w.contains(&row.letter(Results::STATE).seen())) {
                    victims.push(row);
                }
            }
        });
        for row in &victims {
            purged += i64::from(remove::result(&tenant, &tasks, &results, row)? == Write::Done);
        }
        if seen < BATCH {
            return Ok(Ret::Bigint(purged));
        }
    }
}

/// A state of those that `is_one`, which are states of `of_what`.
pub fn state_of(name: &str, is_one: fn(State) -> bool, of_what: &str) -> Result<State> {
    State::ALL.into_iter().find(|state| state.name() == name && is_one(*state)).ok_or_else(|| {
        let names: Vec<&str> = State::ALL.into_iter().filter(|state| is_one(*state)).map(State::name).collect();
        Error::invalid(format!("states names \"{name}\", which is not a state of {of_what}"))
            .hint(format!("They are {}.", names.join(", ")))
    })
}

sql_functions! {
    tq_update, pg_finfo_tq_update => update;
    tq_delete, pg_finfo_tq_delete => delete;
    tq_purge, pg_finfo_tq_purge => purge;
}
