//! A flow's members: how many are left, and what the one before hands on.

use crate::handler::{Handler, arguments};
use crate::postgres::caught::Failure;
use crate::postgres::error::{Error, Result};
use crate::postgres::relation::Access;
use crate::postgres::row::Row;
use crate::pure::ids;
use crate::task::options::Options;
use crate::tenant::Tenant;
use crate::tenant::columns::{Results, Tasks};
use serde_json::{Value as Json, json};

/// Members of one flow.
pub const MEMBERS: usize = 100_000;

/// What stands in a flow's column `handler`: nothing that could be registered.
pub const HANDLERS: [&str; 3] = ["tq_group", "tq_chain", "tq_async_iter"];

/// A step's arguments with the result of the one before: behind those of an array, as the first
/// parameter that an object leaves out.
pub fn with_result(handler: &Handler, args: Option<Json>, result: Json) -> Result<Json> {
    Ok(match args {
        // f(jsonb) gets the document as it is.
        None | Some(Json::Null) if handler.signature.as_ref().is_some_and(arguments::takes_whole) => result,
        None | Some(Json::Null) => json!([result]),
        Some(Json::Array(mut list)) => {
            list.push(result);
            Json::Array(list)
        }
        Some(Json::Object(mut map)) => {
            let names = handler.signature.iter().flat_map(|s| &s.params).filter_map(|p| p.name.clone());
            match names.into_iter().find(|name| !map.contains_key(name)) {
                Some(name) => {
                    map.insert(name, result);
                    Json::Object(map)
                }
                None => {
                    return Err(Error::invalid(format!(
                        "handler \"{}\" has no parameter left for the result of the step before",
                        handler.name
                    ))
                    .hint("Leave one of its parameters out of args, or pass_result => false."));
                }
            }
        }
        Some(scalar) => json!([scalar, result]),
    })
}

/// What a step gets of the one before; null where that one kept none.
pub fn passed_result(tenant: &Tenant, from: u128) -> std::result::Result<Json, Failure> {
    let results = tenant.open(tenant.result, Access::Read)?;
    Ok(results.find(Results::ID.equals(from)).and_then(|r| r.document(Results::RESULT).map(|result| result.value())).unwrap_or(Json::Null))
}

/// How many members a flow has: never more than one can have, whatever somebody wrote into the row.
pub fn number_of(options: &Options) -> usize {
    options.flow.map_or(0, |flow| flow.members.min(MEMBERS as u64) as usize)
}

/// Ids of a flow's members; none for other tasks.
pub fn members_of(id: u128, options: &Options) -> impl Iterator<Item = u128> + use<> {
    (0..number_of(options)).map(move |n| ids::member_id(id, n))
}

/// What a waiting row waits for, for people.
pub fn describe_wait(row: &Row<Tasks>) -> Option<String> {
    match row.get(Tasks::WAITS_FOR) {
        Some(id) => Some(format!("waits for task {}", ids::uuid_text(id))),
        None if HANDLERS.contains(&row.get(Tasks::HANDLER).unwrap_or("")) => {
            Some(format!("{} of its members are not final", row.get(Tasks::WAITS).unwrap_or(0)))
        }
        None => Some("waits for one of several tasks".into()),
    }
}
