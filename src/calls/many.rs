//! What one can ask of many tasks at once: tq_requeue_all and its kin.

use crate::calls::changes::state_of;
use crate::postgres::call::{Args, Ret, parameters};
use crate::postgres::error::{Error, Result};
use crate::postgres::transaction;
use crate::pure::state::State;
use crate::sql_functions;
use crate::task::new::NewTask;
use crate::tenant::Tenant;
use crate::tenant::rights::{self, Right};
use crate::work::filter::Filter;
use crate::work::many::{Found, Many};
use serde_json::json;

parameters! {
    /// The others have the same, without those that begin with set.
    TqUpdateAll of tq_update_all {
        HANDLER,
        NAME_LIKE,
        STATES,
        QUEUE,
        SCHEDULE,
        GROUP_ID,
        SQLSTATE,
        SINCE,
        UNTIL,
        MAX_TASKS,
        EVERYTHING,
        DRY_RUN,
        SET_RUN_AT,
        SET_QUEUE,
        SET_PRIORITY,
        SET_EXPIRES,
        TENANT,
    }
}

/// Which states tasks can be chosen by, and how they are called.
type States = (fn(State) -> bool, &'static str);
const FINISHED: States = (State::is_final, "finished tasks");
const UNFINISHED: States = (|state| !state.is_final(), "unfinished tasks");
const WAITING: States = (|state| !state.is_final() && state != State::Running, "tasks that wait");

fn filter(args: &Args, tenant: &Tenant, (is_one, of_what): States) -> Result<Filter> {
    let states = args.texts(TqUpdateAll::STATES);
    let states =
        states.map(|names| names.iter().map(|name| state_of(name, is_one, of_what)).collect::<Result<Vec<State>>>()).transpose()?;
    let filter = Filter {
        handler: args.text(TqUpdateAll::HANDLER),
        name_like: args.text(TqUpdateAll::NAME_LIKE),
        states,
        queue: args.text(TqUpdateAll::QUEUE),
        schedule: args.text(TqUpdateAll::SCHEDULE),
        group_id: args.text(TqUpdateAll::GROUP_ID),
        sqlstate: args.text(TqUpdateAll::SQLSTATE),
        since: args.time(TqUpdateAll::SINCE),
        until: args.time(TqUpdateAll::UNTIL),
    };
    if filter.is_empty() && args.bool(TqUpdateAll::EVERYTHING) != Some(true) {
        return Err(Error::invalid("no filter is given")
            .detail(format!("That would be all {of_what} of tenant \"{}\".", tenant.name))
            .hint("Say which: handler, states, since and others; or everything => true."));
    }
    if filter.states.as_ref().is_some_and(Vec::is_empty) {
        return Err(Error::invalid("states is empty").hint("Leave it out to have them in any state."));
    }
    if let Some(code) =
        filter.sqlstate.as_ref().filter(|code| code.len() != 5 || code.bytes().any(|b| !b.is_ascii_digit() && !b.is_ascii_uppercase()))
    {
        return Err(Error::invalid(format!("sqlstate is \"{code}\", which is none"))
            .hint("It has five digits or capital letters, as tq_failures shows them: '40001'."));
    }
    if let (Some(since), Some(until)) = (filter.since, filter.until)
        && since >= until
    {
        return Err(Error::invalid("until is not after since").hint("Tasks are meant from since on, and before until."));
    }
    Ok(filter)
}

fn max_tasks(args: &Args) -> Result<Option<usize>> {
    match args.int(TqUpdateAll::MAX_TASKS) {
        Some(most) if most < 1 => {
            Err(Error::invalid(format!("max_tasks is {most}")).hint("It is 1 at least; leave it out to have all at once."))
        }
        most => Ok(most.map(|most| most as usize)),
    }
}

/// The tasks that somebody who may do so has asked for.
fn open(args: &Args, what: &std::ffi::CStr, states: States, default: Option<State>) -> Result<Many> {
    let dry_run = args.bool(TqUpdateAll::DRY_RUN) == Some(true);
    if !dry_run {
        transaction::require_writable(what);
    }
    let tenant = rights::resolve(args.text(TqUpdateAll::TENANT).as_deref(), &[Right::Operate])?;
    let filter = filter(args, &tenant, states)?;
    let states = filter.states.or_else(|| default.map(|state| vec![state]));
    Many::open(tenant, Filter { states, ..filter }, max_tasks(args)?, dry_run)
}

fn answer(Found { tasks, more, sample }: Found) -> Ret {
    let sample: Vec<String> = sample.iter().map(ToString::to_string).collect();
    Ret::Json(json!([{ "tasks": tasks, "more": more, "sample": sample }]))
}

/// tq_requeue_all(…)
fn requeue_all(args: &Args) -> Result<Ret> {
    // What was done, or ended by somebody, runs again only where that is said.
    Ok(answer(open(args, c"tq_requeue_all()", FINISHED, Some(State::Failed))?.requeue()?))
}

/// tq_cancel_all(…)
fn cancel_all(args: &Args) -> Result<Ret> {
    Ok(answer(open(args, c"tq_cancel_all()", UNFINISHED, None)?.cancel()?))
}

/// tq_delete_all(…)
fn delete_all(args: &Args) -> Result<Ret> {
    Ok(answer(open(args, c"tq_delete_all()", FINISHED, None)?.delete()?))
}

/// tq_update_all(…)
fn update_all(args: &Args) -> Result<Ret> {
    let to = NewTask {
        run_at: args.time(TqUpdateAll::SET_RUN_AT),
        queue: args.text(TqUpdateAll::SET_QUEUE),
        priority: args.int(TqUpdateAll::SET_PRIORITY),
        expires: args.period(TqUpdateAll::SET_EXPIRES),
        ..NewTask::default()
    };
    let many = open(args, c"tq_update_all()", WAITING, None)?;
    if to.run_at.is_none() && to.queue.is_none() && to.priority.is_none() && to.expires.is_none() {
        return Err(Error::invalid("nothing to change is given").hint("Pass set_run_at, set_queue, set_priority or set_expires."));
    }
    to.check()?;
    Ok(answer(many.change(to)?))
}

sql_functions! {
    tenant_q_requeue_all, pg_finfo_tenant_q_requeue_all => requeue_all;
    tenant_q_cancel_all, pg_finfo_tenant_q_cancel_all => cancel_all;
    tenant_q_delete_all, pg_finfo_tenant_q_delete_all => delete_all;
    tenant_q_update_all, pg_finfo_tenant_q_update_all => update_all;
}
