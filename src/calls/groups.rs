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
use crate::postgres::{latch, shmem, transaction};
use crate::pure::ids::Id;
use crate::pure::state::State;
use crate::pure::time::Span;
use crate::pure::word::{SlotState, Word};
use crate::shared::waiters::{self, Waiting};
use crate::shared::{self, slot, wake};
use crate::task::document::TaskDocument;
use crate::tenant::columns::{Results, Tasks};
use crate::tenant::{self, Tenant, rights};
use crate::{settings, sql_functions};
use serde_json::Value as Json;
use std::collections::HashSet;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// A waiter looks again after this without having been called: for what ends without an executor's
/// word, as when retention or a cascade takes a member.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

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
        let mut finished: Vec<_> = results.scan(&Results::BY_GROUP, &[Results::GROUP_ID.equals(group)]).collect();
        finished.sort_by_key(|row| row.get(Results::ID));
        Members { unfinished, finished }
    })
}

/// The finished members, when they are enough: `count` of them at least, or without it any; None =
/// they are not. While it waits without a count, it waits for all.
fn wait_for(tenant: &Rc<Tenant>, group: &str, count: Option<i32>, wait: Span) -> Result<Option<Vec<Row<Results>>>> {
    tasks::check_wait(wait)?;
    if count.is_some_and(|n| n < 0) {
        return Err(Error::invalid("count is negative").hint("NULL takes what is finished; a number waits for at least so many."));
    }
    let tasks = tenant.open(tenant.task, Access::Read)?;
    let results = tenant.open(tenant.result, Access::Read)?;
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
            let pause = if waiting.is_some() { LOOK_AGAIN } else { Duration::from_millis(200) };
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
    Ok(Some(found.finished))
}

fn is_failure(row: &Row<Results>) -> bool {
    row.letter(Results::STATE).seen() != State::Done
}

/// tq_result_group(group_id, failures, count, wait, tenant)
fn result_group(args: &Args) -> Result<Ret> {
    let group = group_argument(args)?;
    let tenant = tenant::resolve(args.text(4).as_deref())?;
    rights::may_read(&tenant)?;
    let failures = args.bool(1).unwrap_or(false);
    let Some(rows) = wait_for(&tenant, &group, args.int(2), args.interval(3).unwrap_or_default())? else { return Ok(Ret::Null) };
    let values = rows.iter().filter(|row| failures || !is_failure(row)).map(|row| {
        if !is_failure(row) {
            return row.get(Results::RESULT).unwrap_or(Json::Null);
        }
        // As tq_result(propagate => false) has it.
        let error = row.get(Results::ERROR);
        let message = error.as_ref().and_then(|e| e.get("message")).and_then(Json::as_str);
        message.unwrap_or(row.letter(Results::STATE).seen().name()).into()
    });
    Ok(Ret::Json(values.collect::<Vec<Json>>().into()))
}

/// tenant_q.fetch_group(group_id, failures, count, wait, tenant): documents of finished members.
fn fetch_group(args: &Args) -> Result<Ret> {
    let group = group_argument(args)?;
    let tenant = tenant::resolve(args.text(4).as_deref())?;
    rights::may_read(&tenant)?;
    let failures = args.bool(1).unwrap_or(true);
    let rows = wait_for(&tenant, &group, args.int(2), args.interval(3).unwrap_or_default())?.unwrap_or_default();
    let rows = rows.iter().filter(|row| failures || !is_failure(row)).map(|row| TaskDocument::finished(&tenant, row).into_row());
    Ok(Ret::Json(rows.collect::<Vec<Json>>().into()))
}

/// tq_count_group(group_id, failures, tenant)
fn count_group(args: &Args) -> Result<Ret> {
    let group = group_argument(args)?;
    let tenant = tenant::resolve(args.text(2).as_deref())?;
    rights::may_read(&tenant)?;
    let failures = args.bool(1).unwrap_or(false);
    let found = members(&tenant.open_to_look(tenant.task)?, &tenant.open_to_look(tenant.result)?, &group);
    Ok(Ret::Bigint(found.finished.iter().filter(|row| !failures || is_failure(row)).count() as i64))
}

/// tq_delete_group(group_id, tasks, tenant)
fn delete_group(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"tq_delete_group()");
    let group = group_argument(args)?;
    let tenant = tenant::resolve(args.text(2).as_deref())?;
    rights::may_operate(&tenant)?;
    let with_tasks = args.bool(1).unwrap_or(false);
    let tasks = tenant.open(tenant.task, Access::Write)?;
    let results = tenant.open(tenant.result, Access::Write)?;
    let found = members(&tasks, &results, &group);
    let mut changed = 0;
    for row in &found.finished {
        let gone = if with_tasks {
            crate::task::notes::delete_result(&tasks, &results, row)
        } else {
            results.update(row, &[Results::GROUP_ID.null()])
        };
        changed += i64::from(gone == Write::Done);
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
    s.slots.iter().filter_map(of_slot).collect()
}

/// tq_queue_size(queue, tenant): unfinished tasks that don't run.
fn queue_size(args: &Args) -> Result<Ret> {
    let queue = args.text(0);
    let tenant = tenant::resolve(args.text(1).as_deref())?;
    rights::may_read(&tenant)?;
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
    tenant_q_fetch_group, pg_finfo_tenant_q_fetch_group => fetch_group;
    tq_count_group, pg_finfo_tq_count_group => count_group;
    tq_delete_group, pg_finfo_tq_delete_group => delete_group;
    tq_queue_size, pg_finfo_tq_queue_size => queue_size;
}
