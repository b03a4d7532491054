//! A flow's members: how many are left, what they come to together, and what the one before hands on.

use crate::handler::{Handler, arguments};
use crate::postgres::caught::Failure;
use crate::postgres::error::{Error, Result};
use crate::postgres::relation::{Access, Table, Write};
use crate::postgres::row::Row;
use crate::postgres::sqlstate::SqlState;
use crate::postgres::transaction;
use crate::postgres::types::Jsonb;
use crate::pure::ids::{self, Id};
use crate::pure::state::{Ended, Stored};
use crate::task::options::Options;
use crate::task::{document, end};
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
pub fn passed_result(tenant: &Tenant, from: Id) -> std::result::Result<Json, Failure> {
    let results = tenant.open(tenant.result, Access::Read)?;
    Ok(results.find(Results::ID.equals(from)).and_then(|r| r.document(Results::RESULT).map(|result| result.value())).unwrap_or(Json::Null))
}

/// How many members a flow has: never more than one can have, whatever somebody wrote into the row.
pub fn number_of(options: &Options) -> usize {
    options.flow.map_or(0, |flow| flow.members.min(MEMBERS as u64) as usize)
}

/// Ids of a flow's members; none for other tasks.
pub fn members_of(id: Id, options: &Options) -> impl Iterator<Item = Id> + use<> {
    (0..number_of(options)).map(move |n| ids::member_id(id, n))
}

/// A flow whose last member has ended: its row, deleted, and what it comes to.
pub struct Gathered {
    pub row: Row<Tasks>,
    /// Its members' results, in input order.
    pub result: Jsonb,
    /// None: it has ended well.
    pub error: Option<Json>,
    pub save: bool,
}

/// A member's row has gone: counts its flow down. Where it was the last, deletes the flow's row, which its caller ends.
pub fn count_down(tenant: &Tenant, tasks: &Table<Tasks>, flow: Id) -> std::result::Result<Option<Gathered>, Failure> {
    loop {
        let found = transaction::with_latest_snapshot(|| tasks.find(Tasks::ID.equals(flow)));
        let Some(row) = found.filter(|row| row.letter(Tasks::STATE) == Stored::Waiting) else { return Ok(None) };
        let left = row.get(Tasks::WAITS).unwrap_or(1) - 1;
        if left > 0 {
            if tasks.update(&row, &[Tasks::WAITS.to(left)]) == Write::Done {
                return Ok(None);
            }
        } else if tasks.delete(&row) == Write::Done {
            return gather(tenant, row).map(Some);
        }
        // Another member's end was first: as it is now.
    }
}

/// The first member that did not end well, and how many others.
#[derive(Default)]
struct Unwell {
    first: Option<(usize, Ended, Option<String>)>,
    others: usize,
}

impl Unwell {
    fn note(&mut self, nth: usize, state: Ended, member: Option<&Row<Results>>) {
        if self.first.is_some() {
            self.others += 1;
            return;
        }
        let error = member.and_then(|member| member.get(Results::ERROR)).unwrap_or(Json::Null);
        self.first = Some((nth, state, error.get("message").and_then(Json::as_str).map(str::to_string)));
    }

    fn error(self, count: usize) -> Option<Json> {
        let (nth, state, message) = self.first?;
        let also = if self.others > 0 { format!("{} more did not end well", self.others) } else { String::new() };
        let parts = [message.as_deref().unwrap_or(""), &also];
        let detail = parts.iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join("; ");
        let message = format!("member {} of {count} has {}", nth + 1, document::ended_how(state));
        let failure = Failure { detail: Some(detail).filter(|detail| !detail.is_empty()), ..Failure::new(SqlState::NEVER, message) };
        Some(end::error_document(&failure))
    }
}

fn gather(tenant: &Tenant, row: Row<Tasks>) -> std::result::Result<Gathered, Failure> {
    let id = row.get(Tasks::ID).unwrap_or_default();
    let options = Options::of(&row);
    let count = number_of(&options);
    let chunked = options.flow.is_some_and(|flow| flow.chunked);
    let results = tenant.open(tenant.result, Access::Write)?;
    transaction::see_own_writes();
    let mut gathered = Vec::with_capacity(count);
    let mut unwell = Unwell::default();
    transaction::with_latest_snapshot(|| {
        for nth in 0..count {
            let member = results.find(Results::ID.equals(ids::member_id(id, nth)));
            let state = member.as_ref().map_or(Ended::Done, |member| member.letter(Results::STATE));
            // As text: nothing of it is lost, however deep it is nested.
            let result = member.as_ref().and_then(|member| member.document(Results::RESULT)).map(|result| result.text());
            match result.as_deref().and_then(|text| text.strip_prefix('[')?.strip_suffix(']')) {
                Some("") if chunked => {}
                Some(items) if chunked => gathered.push(items.to_string()),
                None if chunked && result.is_none() => {
                    // One for each of its calls, so that the others' results stay in their places.
                    let calls = member.as_ref().and_then(|member| member.get(Results::ARGS)).and_then(|args| args.as_array().map(Vec::len));
                    gathered.extend(vec!["null".to_string(); calls.unwrap_or(1)]);
                }
                _ => gathered.push(result.unwrap_or("null".into())),
            }
            if state != Ended::Done {
                unwell.note(nth, state, member.as_ref());
            }
        }
    });
    let result = Jsonb::from_text(&format!("[{}]", gathered.join(", ")));
    let error = if options.allow_failure { None } else { unwell.error(count) };
    Ok(Gathered { row, result, error, save: options.save != Some(false) })
}

/// What a waiting row waits for, for people.
pub fn describe_wait(row: &Row<Tasks>) -> Option<String> {
    match row.get(Tasks::WAITS_FOR) {
        Some(id) => Some(format!("waits for task {}", id)),
        None if HANDLERS.contains(&row.get(Tasks::HANDLER).unwrap_or("")) => {
            Some(format!("{} of its members are not final", row.get(Tasks::WAITS).unwrap_or(0)))
        }
        None => Some("waits for one of several tasks".into()),
    }
}
