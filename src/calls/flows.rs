//! SQL: tasks that belong together: tq_group, tq_chain, tq_async_iter.

use crate::postgres::call::{Args, Ret};
use crate::postgres::error::{Error, Result};
use crate::postgres::part::Part;
use crate::postgres::sqlstate::SqlState;
use crate::postgres::transaction;
use crate::postgres::types::Jsonb;
use crate::sql_functions;
use crate::task::queue::Queue;
use crate::work::flow;
use crate::work::flow::spec::{Items, Spec};

fn document(args: &Args, n: usize, what: &str) -> Result<Jsonb> {
    args.json(n).ok_or_else(|| Error::new(SqlState::NULL_VALUE_NOT_ALLOWED, format!("{what} is null")))
}

/// tq_group(tasks, task, tenant)
fn group(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"SELECT tq_group()");
    let tasks = document(args, 0, "tasks")?;
    let spec = Spec::group(Part::of(&tasks), "tasks", args.setting(1).as_ref())?;
    let queue = Queue::open(args.text(2).as_deref())?;
    Ok(Ret::Uuid(flow::create(&queue, spec)?))
}

/// tq_chain(steps, pass_result, on_step_failure, task, tenant)
fn chain(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"SELECT tq_chain()");
    let steps = document(args, 0, "steps")?;
    let spec = Spec::chain(Part::of(&steps), "steps", args.bool(1), args.text(2).as_deref(), args.setting(3).as_ref())?;
    let queue = Queue::open(args.text(4).as_deref())?;
    Ok(Ret::Uuid(flow::create(&queue, spec)?))
}

/// tq_async_iter(handler, args, chunk, task, tenant)
fn iter(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"SELECT tq_async_iter()");
    let handler = args
        .text(0)
        .ok_or_else(|| Error::new(SqlState::NULL_VALUE_NOT_ALLOWED, "handler is null").hint("Pass the name of a registered handler."))?;
    // What stands for SQL NULL.
    let items = args.jsons(1).ok_or_else(|| Error::new(SqlState::NULL_VALUE_NOT_ALLOWED, "args is null"))?;
    let spec = Spec::iteration(handler, Items::Given(items), args.int(2).unwrap_or(1).into(), args.setting(3).as_ref())?;
    let queue = Queue::open(args.text(4).as_deref())?;
    Ok(Ret::Uuid(flow::create(&queue, spec)?))
}

sql_functions! {
    tq_group, pg_finfo_tq_group => group;
    tq_chain, pg_finfo_tq_chain => chain;
    tq_async_iter, pg_finfo_tq_async_iter => iter;
}
