//! What a worker is given of a task: its arguments, as they stand in the row, with what the step before has passed on.
//!
//! A tenant's owner may write into the row what it likes. So it is looked at before it is handed out: nothing leaves that could
//! not have been enqueued.

use crate::handler::Handler;
use crate::postgres::caught::Failure;
use crate::postgres::error::Error;
use crate::postgres::row::Row;
use crate::postgres::types::Jsonb;
use crate::settings;
use crate::task::options::Options;
use crate::tenant::Tenant;
use crate::tenant::columns::Tasks;
use crate::waits::members;
use serde_json::Value as Json;
use std::result::Result;

/// Whether the task's work is to be done for each element of its arguments.
pub fn is_for_each(row: &Row<Tasks>, options: &Options) -> bool {
    options.each && row.has(Tasks::PARENT_ID)
}

/// Whether a worker may be given them.
pub fn check(tenant: &Tenant, handler: &Handler, row: &Row<Tasks>) -> Result<(), Failure> {
    let (bytes, most) = (row.length(Tasks::ARGS).unwrap_or(0), settings::max_args_bytes());
    if bytes > most {
        let limit = Error::limit(format!("args take {bytes} bytes")).detail(format!("tenant_q.max_args allows {most} bytes."));
        return Err(limit.into());
    }
    let options = Options::of(row);
    if options.pass.is_none() && !is_for_each(row, &options) {
        return Ok(handler.check_args(row.document(Tasks::ARGS).as_ref(), None)?);
    }
    for args in calls(tenant, handler, row, &options)? {
        handler.check_args(args.map(Jsonb::from_value).as_ref(), None)?;
    }
    Ok(())
}

/// The same, as it is handed out: complete, an array where the work is to be done for each of its elements.
pub fn args(tenant: &Tenant, handler: &Handler, row: &Row<Tasks>) -> Result<Json, Failure> {
    let options = Options::of(row);
    let complete = |args: Option<Json>| match (&handler.external, &handler.signature) {
        (Some(external), Some(signature)) => external.complete(signature, args),
        _ => args.unwrap_or(Json::Null),
    };
    let mut all = calls(tenant, handler, row, &options)?.into_iter().map(complete);
    Ok(match is_for_each(row, &options) {
        true => Json::Array(all.collect()),
        false => all.next().unwrap_or(Json::Null),
    })
}

/// The arguments of each call that the task comes to.
fn calls(tenant: &Tenant, handler: &Handler, row: &Row<Tasks>, options: &Options) -> Result<Vec<Option<Json>>, Failure> {
    let passed = options.pass.map(|from| members::passed_result(tenant, from)).transpose()?;
    let whole = |args: Option<Json>| match &passed {
        Some(passed) => members::with_result(handler, args, passed.clone()).map(Some),
        None => Ok(args),
    };
    let items = match row.get(Tasks::ARGS) {
        Some(Json::Array(items)) if is_for_each(row, options) => items.into_iter().map(Some).collect(),
        args => vec![args],
    };
    Ok(items.into_iter().map(whole).collect::<crate::postgres::error::Result<_>>()?)
}
