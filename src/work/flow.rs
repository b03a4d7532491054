//! Flows: chains, groups and iterations. A flow is a task: a row in state `w` with its members'
//! number in `waits`, final when all of its members are.
//!
//! Members' ids follow from the flow's (`member_id`), in input order: so the flow's result is
//! gathered, and its members are cancelled, without an index of their own. The end of each member
//! counts the flow down in the same transaction (waits/members.rs); the one that comes to zero ends it.

use crate::postgres::error::{Error, Result};
use crate::postgres::relation::{Access, Table, Write};
use crate::postgres::row::Row;
use crate::postgres::sqlstate::SqlState;
use crate::postgres::types::Jsonb;
use crate::postgres::{clock, memory, transaction};
use crate::pure::ids::{self, Id};
use crate::pure::state::{Ended, Stored};
use crate::pure::time::At;
use crate::shared::wake;
use crate::task::lookup::{self, Found};
use crate::task::new::{NewTask, task_object};
use crate::task::options::{Flow, Options};
use crate::task::queue::Queue;
use crate::tenant::Tenant;
use crate::tenant::columns::{Results, Tasks};
use crate::waits::members::{self, MEMBERS};
use crate::waits::unique;
use crate::work::{complete, own_session};
use serde_json::{Map, Value as Json};
use std::rc::Rc;

/// Read one at a time: there may be a hundred thousand of them.
type Members<'a> = Box<dyn ExactSizeIterator<Item = Result<NewTask>> + 'a>;

pub struct Spec<'a> {
    pub kind: &'static str,
    pub flow: NewTask,
    pub members: Members<'a>,
    /// Chain: each step waits for the one before.
    pub serial: bool,
    pub pass_result: bool,
    pub chunked: bool,
}

/// The object `task` of a flow: what is the flow's own, and what its members inherit.
pub fn flow_object(task: Option<&Json>) -> Result<(NewTask, Map<String, Json>)> {
    const OWN: [&str; 13] = [
        "id",
        "name",
        "group_id",
        "meta",
        "save",
        "result_ttl",
        "on_success",
        "on_failure",
        "hook",
        "allow_failure",
        "unique_key",
        "on_conflict",
        "sync",
    ];
    let mut own = Map::new();
    let mut inherited = Map::new();
    match task {
        None | Some(Json::Null) => {}
        Some(Json::Object(map)) => {
            for (key, value) in map {
                match key.as_str() {
                    "handler" | "args" | "unique_until" | "depends_on" | "depends_mode" => {
                        return Err(Error::invalid(format!("task key \"{key}\" makes no sense for a flow")).hint(
                            "Its members have handlers and arguments; let a flow wait by letting its first members depend on something.",
                        ));
                    }
                    k if OWN.contains(&k) => own.insert(key.clone(), value.clone()),
                    _ => inherited.insert(key.clone(), value.clone()),
                };
            }
        }
        Some(_) => return Err(Error::invalid("task is not an object").hint("Pass {\"on_success\": \"…\"}.")),
    }
    Ok((task_object(&Json::Object(own))?, inherited))
}

/// `of_first`: what only the first one inherits.
pub fn members<'a>(tasks: &'a Jsonb, what: &str, inherited: &'a Map<String, Json>, of_first: &'a [&str]) -> Result<Members<'a>> {
    let tasks = tasks
        .elements()
        .ok_or_else(|| Error::invalid(format!("{what} is not an array")).hint("Pass [{\"handler\": \"…\", \"args\": {…}}, …]."))?;
    Ok(Box::new(tasks.enumerate().map(|(n, object)| {
        let mut object = match object {
            // A handler's name alone is a task without arguments.
            Json::String(name) => Map::from_iter([("handler".to_string(), Json::String(name))]),
            Json::Object(map) => map,
            _ => return Err(Error::invalid("a task is not an object").hint("Write it as {\"handler\": \"…\", \"args\": {…}}.")),
        };
        for (key, value) in inherited.iter().filter(|(key, _)| n == 0 || !of_first.contains(&key.as_str())) {
            object.entry(key.clone()).or_insert_with(|| value.clone());
        }
        if let Some(key) = ["id", "depends_on", "sync"].iter().find(|k| object.contains_key(**k)) {
            return Err(Error::invalid(format!("task key \"{key}\" is given by the flow")).hint(match *key {
                "sync" => "Pass it in task: then all members run at once.",
                _ => "Members' ids follow from the flow's: they are found by tq_fetch of the flow, or by parent_id.",
            }));
        }
        task_object(&Json::Object(object))
    })))
}

pub fn create(queue: &Queue, mut spec: Spec) -> Result<Id> {
    if spec.members.len() == 0 {
        return Err(Error::invalid(format!("the {} is empty", if spec.kind == "tq_async_iter" { "iteration" } else { &spec.kind[3..] }))
            .hint("Pass at least one task."));
    }
    if spec.members.len() > MEMBERS {
        return Err(Error::limit(format!("{} members are too many for one flow", spec.members.len()))
            .detail(format!("A flow has at most {MEMBERS} members."))
            .hint("Pass several arguments to each: tq_async_iter(…, chunk => 100)."));
    }
    spec.flow.check()?;
    let mut id = spec.flow.id.unwrap_or_else(Id::fresh);
    if spec.flow.id.is_some() && queue.known(id)? {
        return Ok(id);
    }
    if spec.flow.unique_key.is_some() {
        match unique::claim(queue, &spec.flow)? {
            unique::Claim::Free => {}
            unique::Claim::Theirs(theirs) => return Ok(theirs),
            unique::Claim::Replaced(theirs) => id = theirs,
        }
    }
    let count = spec.members.len();
    if spec.flow.id.is_some() || spec.flow.unique_key.is_some() {
        let results = queue.tenant.open(queue.tenant.result, Access::Read)?;
        let kept = |nth: &usize| results.find(Results::ID.equals(ids::member_id(id, *nth))).is_some();
        if let Some(nth) = transaction::with_latest_snapshot(|| (0..count).find(kept)) {
            return Err(Error::new(SqlState::UNIQUE_VIOLATION, format!("an earlier flow had the id {}", id))
                .detail(format!("The result of its member {} is kept.", nth + 1))
                .hint("Delete its members' results, or take another id."));
        }
    }
    for hook in [&spec.flow.on_success, &spec.flow.on_failure, &spec.flow.hook].into_iter().flatten() {
        let hook = crate::handler::require(&queue.tenant, hook)?;
        queue.check_superuser(&hook)?;
    }
    let allow_failure = spec.flow.allow_failure == Some(true);
    let scratch = memory::Scratch::new();
    for nth in 0..count {
        let mut add = || {
            let mut new = spec.members.next().ok_or_else(|| Error::state("a member is missing"))??;
            if spec.flow.sync {
                own_session::check_sync(queue, &new)?;
            }
            new.id = Some(ids::member_id(id, nth));
            new.parent = Some(id);
            if spec.serial && nth > 0 {
                let before = ids::member_id(id, nth - 1);
                new.depends_on = vec![before];
                new.waits_for = Some(before);
                new.delay_after = new.delay.take();
                new.allow_failure = Some(allow_failure);
                new.pass = spec.pass_result.then_some(before);
            }
            crate::work::enqueue::add(queue, &new)
        };
        let place = |error: Error| {
            let detail = error.detail.clone().map_or(String::new(), |detail| format!(" {detail}"));
            error.detail(format!("Member {} of {count}.{detail}", nth + 1))
        };
        let theirs = scratch.run(&mut add).map_err(place)?;
        if theirs != ids::member_id(id, nth) {
            // The flow waits for a task of its own, under an id of its own.
            return Err(place(
                Error::new(SqlState::UNIQUE_VIOLATION, format!("unique_key is taken by task {}", theirs))
                    .hint("on_conflict can't help a member of a flow: give the key to the flow, in task."),
            ));
        }
    }
    let options = Options { flow: Some(Flow { members: count as u64, chunked: spec.chunked }), ..spec.flow.options() }.column();
    let meta = spec.flow.meta.clone().map_or_else(crate::task::new::default_meta, |meta| Ok(Some(meta)))?.map(Jsonb::from_value);
    let now = clock::now();
    queue.table.insert(&[
        Tasks::ID.to(id),
        Tasks::HANDLER.to(spec.kind),
        Tasks::STATE.to(Stored::Waiting),
        Tasks::PRIORITY.to(0),
        Tasks::ATTEMPTS.to(0),
        Tasks::CRASHES.to(0),
        Tasks::CREATED_AT.to(now),
        Tasks::RUN_AT.to(now),
        Tasks::NAME.to(spec.flow.name.as_deref()),
        Tasks::GROUP_ID.to(spec.flow.group_id.as_deref()),
        Tasks::UNIQUE_KEY.to(spec.flow.unique_key.as_deref()),
        Tasks::WAITS.to(count as i32),
        Tasks::ENQUEUED_BY.to(queue.caller.name.as_str()),
        Tasks::BY_SUPERUSER.to(queue.caller.superuser),
        Tasks::OPTIONS.to(options.as_ref()),
        Tasks::META.to(meta.as_ref()),
    ]);
    if let Some(entry) = queue.tenant.entry(queue.tenant.owner)? {
        wake::added(entry, At::NEVER);
    }
    if spec.flow.sync {
        own_session::run_members(queue, (0..count).map(|nth| ids::member_id(id, nth)), allow_failure)?;
    }
    Ok(id)
}

/// Runs what didn't end well again: of the flow `id`, or only `member` and, in a chain, what comes
/// after it. The flow waits for them as before. False: there is nothing to run again.
pub fn requeue(
    tenant: &Rc<Tenant>,
    tasks: &Table<Tasks>,
    results: &Table<Results>,
    id: Id,
    member: Option<Id>,
    mut one: impl FnMut(&Row<Results>, Option<Id>) -> Result<bool>,
) -> Result<bool> {
    let found = lookup::look_up(tasks, results, id);
    let (options, chain) = match &found {
        Found::Finished(row) => (Options::of_result(row), row.get(Results::HANDLER) == Some("tq_chain")),
        Found::Unfinished(row) => (Options::of(row), row.get(Tasks::HANDLER) == Some("tq_chain")),
        Found::Nothing => return Ok(false),
    };
    // Whoever runs it again answers for the flow too: its hooks are enqueued in its name.
    let by = crate::tenant::rights::author();
    let answers = [Tasks::ENQUEUED_BY.to(by.name.as_str()), Tasks::BY_SUPERUSER.to(by.superuser)];
    let mut again = 0;
    let mut before: Option<Id> = None;
    let mut started = member.is_none();
    for id_of_member in members::members_of(id, &options) {
        started |= member == Some(id_of_member);
        let row = transaction::with_latest_snapshot(|| results.find(Results::ID.equals(id_of_member)));
        if let Some(row) = row.filter(|row| started && (member == Some(id_of_member) || row.letter(Results::STATE) != Ended::Done)) {
            let wait = before.filter(|_| chain && again > 0);
            if one(&row, wait)? {
                again += 1;
                before = Some(id_of_member);
            }
            if member.is_some() && !chain {
                break;
            }
        } else if member.is_some() && started && chain {
            break;
        }
    }
    if again == 0 {
        return Ok(false);
    }
    match found {
        Found::Unfinished(_) => loop {
            let found = transaction::with_latest_snapshot(|| tasks.find(Tasks::ID.equals(id)));
            let Some(row) = found else { break };
            let left = row.get(Tasks::WAITS).unwrap_or(0) + again;
            let waits = Tasks::WAITS.to(left);
            if tasks.update(&row, &[waits, answers[0], answers[1]]) == Write::Done {
                break;
            }
        },
        Found::Finished(row) => {
            if results.delete(&row) == Write::Overtaken {
                return Err(Error::new(SqlState::SERIALIZATION_FAILURE, "the flow was changed meanwhile").hint("Try again."));
            }
            let mut columns = complete::unfinished_again(tenant, &row);
            columns.extend([
                Tasks::STATE.to(Stored::Waiting),
                Tasks::WAITS_FOR.null(),
                Tasks::WAITS.to(again),
                Tasks::CREATED_AT.to(clock::now()),
            ]);
            columns.extend(answers);
            tasks.insert(&columns);
            if let Some(entry) = tenant.entry(tenant.owner)? {
                wake::added(entry, At::NEVER);
            }
        }
        Found::Nothing => {}
    }
    Ok(true)
}
