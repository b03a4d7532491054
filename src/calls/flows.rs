//! SQL: tasks that belong together: tq_group, tq_chain, tq_async_iter.

use crate::postgres::call::{Args, Ret};
use crate::postgres::error::{Error, Result};
use crate::postgres::sqlstate::SqlState;
use crate::postgres::transaction;
use crate::postgres::types::Jsonb;
use crate::pure::choice::{Named, choices};
use crate::task::new::{NewTask, task_object};
use crate::task::queue::Queue;
use crate::work::flow::{self, Spec};
use crate::{sql_functions, tenant};
use serde_json::Value as Json;

choices! {
    /// What becomes of a chain one of whose steps has failed.
    enum OnStepFailure {
        Stop = "stop",
        Continue = "continue",
    }
}

fn array(args: &Args, n: usize, what: &str) -> Result<Jsonb> {
    args.json(n).ok_or_else(|| Error::new(SqlState::NULL_VALUE_NOT_ALLOWED, format!("{what} is null")))
}

/// tq_group(tasks, task, tenant)
fn group(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"SELECT tq_group()");
    let tasks = array(args, 0, "tasks")?;
    let (flow, inherited) = flow::flow_object(args.setting(1).as_ref())?;
    let members = flow::members(&tasks, "tasks", &inherited, &[])?;
    let queue = Queue::open(tenant::resolve(args.text(2).as_deref())?)?;
    let spec = Spec { kind: "tq_group", flow, members, serial: false, pass_result: false, chunked: false };
    Ok(Ret::Uuid(flow::create(&queue, spec)?))
}

/// tq_chain(steps, pass_result, on_step_failure, task, tenant)
fn chain(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"SELECT tq_chain()");
    let steps = array(args, 0, "steps")?;
    let (mut flow, inherited) = flow::flow_object(args.setting(3).as_ref())?;
    match args.text(2).map(|word| OnStepFailure::one_of("on_step_failure", &word)).transpose()? {
        None | Some(OnStepFailure::Stop) => {}
        Some(OnStepFailure::Continue) => flow.allow_failure = Some(true),
    }
    let members = flow::members(&steps, "steps", &inherited, &["delay"])?;
    let queue = Queue::open(tenant::resolve(args.text(4).as_deref())?)?;
    let pass_result = args.bool(1).unwrap_or(false);
    let spec = Spec { kind: "tq_chain", flow, members, serial: true, pass_result, chunked: false };
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
    let chunk = args.int(2).unwrap_or(1);
    if chunk < 1 {
        return Err(Error::invalid(format!("chunk is {chunk}")).hint("Pass how many arguments one task works off, at least 1."));
    }
    let (flow, inherited) = flow::flow_object(args.setting(3).as_ref())?;
    let template = task_object(&Json::Object(inherited))?;
    let (count, chunk) = (items.len(), chunk as usize);
    let members = Box::new((0..count).step_by(chunk).map(|first| {
        let args = if chunk > 1 { items.array(first..count.min(first + chunk)) } else { items.one(first) };
        Ok(NewTask { handler: handler.clone(), args: Some(args), each: chunk > 1, ..template.clone() })
    }));
    let queue = Queue::open(tenant::resolve(args.text(4).as_deref())?)?;
    let spec = Spec { kind: "tq_async_iter", flow, members, serial: false, pass_result: false, chunked: chunk > 1 };
    Ok(Ret::Uuid(flow::create(&queue, spec)?))
}

sql_functions! {
    tq_group, pg_finfo_tq_group => group;
    tq_chain, pg_finfo_tq_chain => chain;
    tq_async_iter, pg_finfo_tq_async_iter => iter;
}
