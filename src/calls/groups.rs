//! Groups: tasks that carry the same label, asked about together; and how many tasks wait.
//!
//! A group is nothing but its members' `group_id`: it begins with the first of them and ends when
//! the last is deleted or loses the label. Members are told in the order they were enqueued.

use crate::calls::tasks;
use crate::postgres::call::{Args, Ret};
use crate::postgres::error::{Error, Result};
use crate::postgres::relation::{Access, Table, Write};
use crate::postgres::row::Row;
use crate::postgres::sqlstate::SqlState;
use crate::postgres::types::Jsonb;
use crate::postgres::{latch, shmem, transaction};
use crate::pure::ids::Id;
use crate::pure::state::State;
use crate::pure::time::Span;
use crate::pure::word::{SlotState, Word};
use crate::shared::waiters::{self, Waiting};
use crate::shared::{self, slot, wake};
use crate::tenant::Tenant;
use crate::tenant::columns::{Results, Tasks};
use crate::tenant::rights::{self, Right};
use crate::waits::results::{self as kept, Together};
use crate::{settings, sql_functions};
use serde_json::Value as Json;
use std::collections::HashSet;
use std::rc::Rc;
use std::time::Instant;

struct Members {
    unfinished: Vec<Row<Tasks>>,
    /// In the order they were enqueued.
    finished: Vec<Row<Results>>,
}

fn group_argument(args: &Args) -> Result<String> {
    args.text(0).ok_or_else(|| {
        Error::new(SqlState::NULL_VALUE_NOT_ALLOWED, "group_id is null").hint("Pass the group_id that its tasks were enqueued with.")
    })
}

fn members(tasks: &Table<Tasks>, results: &Table<Results>, group: &str) -> Members {
    transaction::with_latest_snapshot(|| {
        let unfinished = tasks.scan(&Tasks::BY_GROUP, &[Tasks::GROUP_ID.equals(group)]);
        let unfinished = unfinished.filter(|row| row.letter(Tasks::STATE).is_task()).collect();
        Members { unfinished, finished: finished(results, group) }
    })
}

/// As the active snapshot sees them, in the order they were enqueued.
fn finished(results: &Table<Results>, group: &str) -> Vec<Row<Results>> {
    let mut finished: Vec<_> = results.scan(&Results::BY_GROUP, &[Results::GROUP_ID.equals(group)]).collect();
    finished.sort_by_key(|row| (row.get(Results::CREATED_AT), row.get(Results::ID)));
    finished
}

/// What `tell` says of the finished members, when they are enough: `count` of them at least, or without it any; None =
/// they are not. While it waits without a count, it waits for all. What of a member is stored out of line is not fetched.
fn wait_for<T>(
    tenant: &Rc<Tenant>,
    group: &str,
    count: Option<i32>,
    wait: Span,
    tell: impl FnOnce(&Table<Results>, &[Row<Results>]) -> Result<T>,
) -> Result<Option<T>> {
    tasks::check_wait(wait)?;
    if count.is_some_and(|n| n < 0) {
        return Err(Error::invalid("count is negative").hint("NULL takes what is finished; a number waits for at least so many."));
    }
    let tasks = tenant.open(tenant.task, Access::Read)?.fetch_at_most(0);
    let results = tenant.open(tenant.result, Access::Read)?.fetch_at_most(0);
    let needed = count.map_or(1, |n| n as usize);
    let settled = |members: &Members| match count {
        Some(_) => members.finished.len() >= needed,
        None => members.unfinished.is_empty(),
    };
    if wait > Span::ZERO && wake::any_enqueued() {
        transaction::see_own_writes();
    }
    let mut found = members(&tasks, &results, group);
    if wait > Span::ZERO && !settled(&found) {
        if found.unfinished.iter().any(|row| row.own) {
            return Err(Error::state("a task of the group was enqueued by this very transaction, which has not committed")
                .detail("It starts after the commit, so waiting here would never end.")
                .hint("COMMIT first, then wait."));
        }
        let deadline = Instant::now() + wait.duration().min(settings::max_wait());
        if let Some(shared) = shared::get() {
            let waiting = Waiting::for_any(shared, Id::NIL, waiters::mark(tenant.oid, group));
            let pause = waiters::pause(&waiting);
            loop {
                found = members(&tasks, &results, group);
                let left = deadline.saturating_duration_since(Instant::now());
                if settled(&found) || left.is_zero() {
                    break;
                }
                latch::wait(Some(left.min(pause)));
            }
        }
    }
    if found.finished.len() < needed {
        return Ok(None);
    }
    if !found.finished.is_empty() && shared::get().is_some() && !shmem::in_recovery() {
        // Commits may have been asynchronous: what is told must not be lost again.
        transaction::flush_all();
    }
    transaction::with_latest_snapshot(|| {
        let finished = finished(&results, group);
        if finished.len() < needed {
            // Somebody has just taken some of them.
            return Ok(None);
        }
        tell(&results, &finished).map(Some)
    })
}

fn is_failure(row: &Row<Results>) -> bool {
    row.letter(Results::STATE).seen() != State::Done
}

/// tq_result_group(group_id, failures, count, wait, tenant)
fn result_group(args: &Args) -> Result<Ret> {
    let group = group_argument(args)?;
    let tenant = rights::resolve(args.text(4).as_deref(), &[Right::Read])?;
    let failures = args.bool(1).unwrap_or(false);
    let all = wait_for(&tenant, &group, args.int(2), args.interval(3).unwrap_or_default(), |results, rows| {
        let mut together = Together::default();
        for row in rows.iter().filter(|row| failures || !is_failure(row)) {
            let wanted = if is_failure(row) { row.lacks(Results::ERROR) } else { row.lacks(Results::RESULT) };
            let whole = results.whole(row, wanted);
            together.push(if is_failure(row) { message(&whole) } else { whole.document(Results::RESULT).unwrap_or_else(Jsonb::null) });
        }
        together.array().map_err(|error| {
            error
                .detail(format!(
                    "The results of the {} tasks of group \"{group}\" take more than the 256 MB that one document holds.",
                    rows.len()
                ))
                .hint("SELECT id, result FROM tq_results WHERE group_id = '…' has each by itself.")
        })
    })?;
    Ok(all.map_or(Ret::Null, Ret::Document))
}

/// As tq_result(propagate => false) has it.
fn message(row: &Row<Results>) -> Jsonb {
    let error = row.get(Results::ERROR);
    let message = error.as_ref().and_then(|e| e.get("message")).and_then(Json::as_str);
    Jsonb::from_value(message.unwrap_or(row.letter(Results::STATE).seen().name()).into())
}

/// tenant_q.group_members(group_id, failures, count, wait, tenant): ids of those that are finished.
fn group_members(args: &Args) -> Result<Ret> {
    let group = group_argument(args)?;
    let tenant = rights::resolve(args.text(4).as_deref(), &[Right::Read])?;
    let failures = args.bool(1).unwrap_or(true);
    let ids = wait_for(&tenant, &group, args.int(2), args.interval(3).unwrap_or_default(), |_, rows| {
        let rows = rows.iter().filter(|row| failures || !is_failure(row));
        Ok(rows.map(|row| row.get(Results::ID).unwrap_or_default()).collect())
    })?;
    Ok(Ret::Uuids(ids.unwrap_or_default()))
}

/// tq_count_group(group_id, failures, tenant)
fn count_group(args: &Args) -> Result<Ret> {
    let group = group_argument(args)?;
    let tenant = rights::resolve(args.text(2).as_deref(), &[Right::Read])?;
    let failures = args.bool(1).unwrap_or(false);
    let found = members(&tenant.open_to_look(tenant.task)?, &tenant.open_to_look(tenant.result)?, &group);
    Ok(Ret::Bigint(found.finished.iter().filter(|row| !failures || is_failure(row)).count() as i64))
}

/// tq_delete_group(group_id, tasks, tenant)
fn delete_group(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"tq_delete_group()");
    let group = group_argument(args)?;
    let tenant = rights::resolve(args.text(2).as_deref(), &[Right::Operate])?;
    let with_tasks = args.bool(1).unwrap_or(false);
    let tasks = tenant.open(tenant.task, Access::Write)?;
    let results = tenant.open(tenant.result, Access::Write)?;
    let found = members(&tasks, &results, &group);
    let (mut changed, mut needed) = (0, 0);
    for row in &found.finished {
        let stays = with_tasks && transaction::with_latest_snapshot(|| kept::is_needed(&tasks, row));
        let gone = match with_tasks && !stays {
            true => crate::work::remove::result(&tenant, &tasks, &results, row)?,
            false => results.update(row, &[Results::GROUP_ID.null()]),
        };
        changed += i64::from(gone == Write::Done);
        needed += i64::from(stays && gone == Write::Done);
    }
    let mut left = 0;
    for row in &found.unfinished {
        let gone = tasks.update(row, &[Tasks::GROUP_ID.null()]);
        left += i64::from(gone == Write::Done);
    }
    if with_tasks && left > 0 {
        Error::new(SqlState::SUCCESSFUL_COMPLETION, format!("{left} unfinished tasks lose the label and go on"))
            .hint("Call tq_cancel(id) for tasks that are not to run.")
            .notice();
    }
    if needed > 0 {
        Error::new(SqlState::SUCCESSFUL_COMPLETION, format!("{needed} finished tasks lose the label and stay"))
            .detail("They are members of flows that are not finished, which gather their results.")
            .notice();
    }
    waiters::label_gone(tenant.oid, &group);
    Ok(Ret::Bigint(changed + left))
}

/// Tasks of this tenant that run.
pub fn running_ids(schema: u32) -> HashSet<Id> {
    let Some(s) = shared::get() else { return HashSet::new() };
    let of_slot = |slot: &slot::Slot| {
        let word = Word::load(slot);
        let ours = slot.tenant.load() == schema && slot.database.load() == shmem::my_database();
        (word.running && slot.state.load() == SlotState::Working && ours).then(|| slot.item_id(word.next - 1))
    };
    s.slots.iter().filter_map(of_slot).chain(s.claims_of(schema).map(|claim| claim.item_id.load())).collect()
}

/// tq_queue_size(queue, tenant): unfinished tasks that don't run.
fn queue_size(args: &Args) -> Result<Ret> {
    let queue = args.text(0);
    let tenant = rights::resolve(args.text(1).as_deref(), &[Right::Read])?;
    let running = running_ids(tenant.oid);
    let tasks = tenant.open_to_look(tenant.task)?;
    let mut size = 0;
    for row in tasks.scan(&Tasks::PICK, &[]) {
        let here = queue.as_deref().is_none_or(|q| row.get(Tasks::QUEUE).unwrap_or("default") == q);
        let waits = row.letter(Tasks::STATE).is_task() && !running.contains(&row.get(Tasks::ID).unwrap_or_default());
        size += i64::from(here && waits);
    }
    Ok(Ret::Bigint(size))
}

sql_functions! {
    tq_result_group, pg_finfo_tq_result_group => result_group;
    tenant_q_group_members, pg_finfo_tenant_q_group_members => group_members;
    tq_count_group, pg_finfo_tq_count_group => count_group;
    tq_delete_group, pg_finfo_tq_delete_group => delete_group;
    tq_queue_size, pg_finfo_tq_queue_size => queue_size;
}
