//! A flow's members: how many are left, what they come to together, and what the one before hands on.

use crate::handler::{self, Handler, arguments};
use crate::postgres::caught::Failure;
use crate::postgres::error::{Error, Result};
use crate::postgres::part::Part;
use crate::postgres::relation::{Access, Table, Write};
use crate::postgres::row::Row;
use crate::postgres::sqlstate::SqlState;
use crate::postgres::transaction;
use crate::postgres::types::Jsonb;
use crate::pure::ids::Id;
use crate::pure::state::{Ended, Stored};
use crate::pure::time::At;
use crate::task::options::Options;
use crate::task::{document, end};
use crate::tenant::Tenant;
use crate::tenant::columns::{Results, Tasks};
use crate::waits::results::{self as kept, Together};
use serde_json::{Value as Json, json};
use std::collections::HashSet;

/// Members of one flow.
pub const MEMBERS: usize = 100_000;
/// Flows that were gone into, or out of: to any depth, but into none twice. Owners may write rows that are in each other.
#[derive(Default)]
pub struct Visited(HashSet<Id>);

impl Visited {
    pub fn enter(&mut self, flow: Id) -> bool {
        self.0.insert(flow)
    }
}

/// What stands in a flow's column `handler`: nothing that could be registered.
pub const GROUP: &str = "tq_group";
pub const CHAIN: &str = "tq_chain";
pub const ITERATION: &str = "tq_async_iter";

/// Whether what stands in a column `handler` is a flow's.
pub fn is_flow(handler: &str) -> bool {
    matches!(handler, GROUP | CHAIN | ITERATION)
}

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

/// What a step gets of the one before.
pub fn passed_result(tenant: &Tenant, from: Id) -> std::result::Result<Json, Failure> {
    let results = tenant.open(tenant.result, Access::Read)?;
    let Some(row) = results.find(Results::ID.equals(from)) else {
        let failure = Failure::new(SqlState::NO_DATA_FOUND, format!("the result of the step before, task {from}, is gone"));
        return Err(Failure { hint: Some("Run the whole chain again.".into()), ..failure });
    };
    Ok(row.document(Results::RESULT).map_or(Json::Null, |result| result.value()))
}

/// How many members a flow has: never more than one can have, whatever somebody wrote into the row.
pub fn number_of(options: &Options) -> usize {
    options.flow.map_or(0, |flow| flow.members.min(MEMBERS as u64) as usize)
}

/// How many of an unfinished flow's members have ended, and of how many; `waits`: as its row has it. None: it is none.
pub fn counts(waits: Option<i32>, options: &Options) -> Option<(i32, i32)> {
    let all = options.flow.map(|_| number_of(options) as i32)?;
    Some((all - waits.unwrap_or(0).clamp(0, all), all))
}

/// Ids of a flow's members; none for other tasks.
pub fn members_of(id: Id, options: &Options) -> impl Iterator<Item = Id> + use<> {
    let flow = options.flow.unwrap_or_default();
    (0..number_of(options)).map(move |nth| flow.member(id, nth))
}

/// A flow whose last member has ended: its row, deleted, and what it comes to.
pub struct Gathered {
    pub row: Row<Tasks>,
    /// When the first of its members began.
    pub started_at: Option<At>,
    /// Its members' results, in input order. None: no document can hold them.
    pub result: Option<Jsonb>,
    /// None: it has ended well.
    pub error: Option<Json>,
    pub save: bool,
}

/// Whether this flow has ended so only because no document holds its members' results.
pub fn is_too_large(row: &Row<Tasks>, error: &Json) -> bool {
    is_flow(row.get(Tasks::HANDLER).unwrap_or("")) && error["sqlstate"].as_str() != Some(SqlState::NEVER.as_str())
}

/// Rows of so many members have gone: counts their flow down. Where they were the last, deletes the flow's row, which its
/// caller ends.
pub fn count_down(tenant: &Tenant, tasks: &Table<Tasks>, flow: Id, members: usize) -> std::result::Result<Option<Gathered>, Failure> {
    loop {
        let found = transaction::with_latest_snapshot(|| tasks.find(Tasks::ID.equals(flow)));
        let Some(row) = found.filter(|row| row.letter(Tasks::STATE) == Stored::Waiting) else { return Ok(None) };
        let left = row.get(Tasks::WAITS).unwrap_or(1).saturating_sub(members as i32);
        if left > 0 {
            if tasks.update(&row, &[Tasks::WAITS.to(left)]) == Write::Done {
                return Ok(None);
            }
        } else if tasks.delete(&row) == Write::Done {
            return gather(tenant, tasks, row).map(Some);
        }
        // Another member's end was first: as it is now.
    }
}

/// The first member that did not end well, and how many others.
#[derive(Default)]
struct Unwell {
    first: Option<(usize, &'static str, Option<String>)>,
    others: usize,
}

impl Unwell {
    fn note(&mut self, nth: usize, member: Option<&Row<Results>>) {
        let how = match member.map(|member| member.letter(Results::STATE)) {
            Some(Ended::Done) => return,
            Some(state) => document::ended_how(state),
            // Ends leave one while the flow is unfinished, and nothing of ours takes it.
            None => "vanished: its record is gone",
        };
        if self.first.is_some() {
            self.others += 1;
            return;
        }
        let error = member.and_then(|member| member.get(Results::ERROR)).unwrap_or(Json::Null);
        self.first = Some((nth, how, error.get("message").and_then(Json::as_str).map(str::to_string)));
    }

    fn error(self, count: usize) -> Option<Json> {
        let (nth, how, message) = self.first?;
        let also = if self.others > 0 { format!("{} more did not end well", self.others) } else { String::new() };
        let parts = [message.as_deref().unwrap_or(""), &also];
        let detail = parts.iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join("; ");
        let message = format!("member {} of {count} has {how}", nth + 1);
        let failure = Failure { detail: Some(detail).filter(|detail| !detail.is_empty()), ..Failure::new(SqlState::NEVER, message) };
        Some(end::error_document(&failure))
    }
}

/// Whether a member's result stays no longer than its flow needs it.
fn is_passing(tenant: &Tenant, member: &Row<Results>) -> std::result::Result<bool, Failure> {
    let save = match Options::of_result(member).save {
        Some(save) => Some(save),
        None => handler::find(tenant, member.get(Results::HANDLER).unwrap_or(""))?.and_then(|handler| handler.save),
    };
    Ok(save == Some(false) && member.letter(Results::STATE) == Ended::Done)
}

/// What a flow comes to whose row has just been deleted.
pub fn gather(tenant: &Tenant, tasks: &Table<Tasks>, row: Row<Tasks>) -> std::result::Result<Gathered, Failure> {
    let id = row.get(Tasks::ID).unwrap_or_default();
    let options = Options::of(&row);
    let count = number_of(&options);
    let chunked = options.flow.is_some_and(|flow| flow.chunked);
    let results = tenant.open(tenant.result, Access::Write)?;
    transaction::see_own_writes();
    let mut together = Together::default();
    let mut unwell = Unwell::default();
    let mut passing = Vec::new();
    let mut started_at: Option<At> = None;
    transaction::with_latest_snapshot(|| {
        for (nth, id) in members_of(id, &options).enumerate() {
            let member = results.find(Results::ID.equals(id));
            unwell.note(nth, member.as_ref());
            let began = member.as_ref().and_then(|member| member.get(Results::STARTED_AT));
            started_at = started_at.into_iter().chain(began).min();
            let result = member.as_ref().and_then(|member| member.document(Results::RESULT));
            match result {
                Some(result) if chunked && Part::of(&result).len().is_some() => {
                    let part = Part::of(&result);
                    for nth in 0..part.len().unwrap_or(0) {
                        together.push(part.at(nth).document()?);
                    }
                }
                None if chunked => {
                    // One for each of its calls, so that the others' results stay in their places.
                    let args = member.as_ref().and_then(|member| member.document(Results::ARGS));
                    let calls = args.and_then(|args| Part::of(&args).len());
                    (0..calls.unwrap_or(1)).for_each(|_| together.push(Jsonb::null()));
                }
                result => together.push(result.unwrap_or_else(Jsonb::null)),
            }
            if let Some(member) = member
                && is_passing(tenant, &member)?
            {
                passing.push(id);
            }
        }
        Ok::<_, Failure>(())
    })?;
    // Members that are to run again would need the others'.
    let all_well = unwell.first.is_none();
    let error = if options.allow_failure { None } else { unwell.error(count) };
    // What its members have done stands, whatever a document can hold.
    let (result, error) = match together.array() {
        Ok(result) => (Some(result), error),
        Err(too_large) => (None, error.or_else(|| Some(end::error_document(&results_stay(id, too_large))))),
    };
    if all_well && error.is_none() {
        for id in passing {
            let found = transaction::with_latest_snapshot(|| results.find(Results::ID.equals(id)));
            if let Some(member) = found {
                let _: Write = kept::delete(tenant, tasks, &results, &member)?;
            }
        }
    }
    // A flow that it is in gathers its result; who depends on it is told by it that it has failed.
    let save = options.save != Some(false) || row.has(Tasks::PARENT_ID) || error.is_some();
    Ok(Gathered { row, started_at, result, error, save })
}

fn results_stay(flow: Id, error: Error) -> Failure {
    Failure {
        hint: Some(format!("Each member's own result is kept: SELECT id, result FROM tq_results WHERE parent_id = '{flow}'.")),
        ..error.into()
    }
}

/// What a waiting row waits for, for people.
pub fn describe_wait(row: &Row<Tasks>) -> Option<String> {
    match row.get(Tasks::WAITS_FOR) {
        Some(id) => Some(format!("waits for task {}", id)),
        None if is_flow(row.get(Tasks::HANDLER).unwrap_or("")) => {
            counts(row.get(Tasks::WAITS), &Options::of(row)).map(|(done, all)| format!("{done} of its {all} members have ended"))
        }
        None => Some("waits for one of several tasks".into()),
    }
}
