//! Finished tasks out again, in bounded batches, by the executor that has just worked for the
//! tenant: nothing walks all tenants, and a tenant that finishes nothing costs nothing.
//!
//! Kept are the newest `save_limit` successes (by id, which is by time; 0 = all) and everything
//! younger than `result_ttl`; failures for `failure_ttl`. With `save_limit` -1 successes aren't
//! saved in the first place, as in Django-Q.

use crate::postgres::caught::{self, Failure};
use crate::postgres::column::{Column, Text};
use crate::postgres::relation::{Access, Table, Write};
use crate::postgres::row::Row;
use crate::postgres::{clock, transaction};
use crate::pure::choice::SavePer;
use crate::pure::ids::Id;
use crate::pure::state::Ended;
use crate::pure::time::Span;
use crate::settings;
use crate::shared::Shared;
use crate::task::options::Options;
use crate::tenant::Tenant;
use crate::tenant::columns::{Results, Tasks};
use crate::waits::unique;
use std::collections::{HashMap, HashSet};

/// Rows that one transaction looks at.
const ROWS: usize = 2000;

/// After a batch: once in a while, a pass.
pub fn after_batch(shared: &Shared, index: u32, tenant: &Tenant) {
    let entry = &shared.entries[index as usize];
    let every = settings::retention_every();
    if every == 0 || entry.finished_since_retention.load() < every {
        return;
    }
    entry.finished_since_retention.store(0);
    let from = entry.retention_from.load();
    match transaction::run(|| pass(tenant, from)) {
        Ok(next) => {
            entry.retention_from.store(next);
            if next != Id::NIL {
                // Not at the end yet: go on after a tenth of the usual.
                entry.finished_since_retention.store(every - every / 10);
            }
        }
        Err(failure) => caught::log_failure(&format!("{}: old results could not be removed", caught::one_line(&tenant.name)), &failure),
    }
}

/// A flow that isn't final gathers its members' results at its end.
pub fn is_needed(tasks: &Table<Tasks>, row: &Row<Results>) -> bool {
    row.get(Results::PARENT_ID).is_some_and(|flow| tasks.find(Tasks::ID.equals(flow)).is_some())
}

/// Successes beyond the newest `limit` of each handler, name or group.
fn surplus_of(results: &Table<Results>, column: Column<Results, Text>, limit: i32) -> HashSet<Id> {
    let mut kept: HashMap<Option<String>, i32> = HashMap::new();
    let mut surplus = HashSet::new();
    for row in results.scan(&Results::BY_ID, &[]).backward().filter(|row| row.letter(Results::STATE) == Ended::Done) {
        let n = kept.entry(row.text(column)).or_default();
        *n += 1;
        if *n > limit {
            surplus.extend(row.get(Results::ID));
        }
        if surplus.len() >= ROWS {
            break;
        }
    }
    surplus
}

fn handler_ttl(tenant: &Tenant, row: &Row<Results>) -> Option<Span> {
    crate::handler::find(tenant, row.get(Results::HANDLER).unwrap_or("")).ok().flatten().and_then(|h| h.result_ttl)
}

/// Removes what nobody wants any more among the next rows after `from`; where to go on, nil = from
/// the old end again.
fn pass(tenant: &Tenant, from: Id) -> Result<Id, Failure> {
    // Never wait for a lock here: retention is nobody's hurry.
    let Some(results) = tenant.try_open(tenant.result, Access::Write)? else { return Ok(from) };
    let Some(tasks) = tenant.try_open(tenant.task, Access::Read)? else { return Ok(from) };
    let now = clock::now();
    // The newest `save_limit` successes begin here; 0 = all are kept.
    let mut boundary = None;
    let per = match tenant.save_limit_per {
        None | Some(SavePer::None) => None,
        Some(SavePer::Group) => Some(Results::GROUP_ID),
        Some(SavePer::Name) => Some(Results::NAME),
        Some(SavePer::Handler) => Some(Results::HANDLER),
    };
    let mut surplus = HashSet::new();
    if let Some(per) = per.filter(|_| tenant.save_limit > 0) {
        surplus = surplus_of(&results, per, tenant.save_limit);
    } else if tenant.save_limit > 0 {
        let newest = results.scan(&Results::BY_ID, &[]).backward();
        boundary = newest
            .filter(|row| row.letter(Results::STATE) == Ended::Done)
            .nth(tenant.save_limit as usize)
            .and_then(|row| row.get(Results::ID));
    } else if tenant.save_limit < 0 {
        boundary = Some(Id::LAST);
    }
    let old = |row: &Row<Results>| {
        let age = now - row.get(Results::FINISHED_AT).unwrap_or(now);
        match row.letter(Results::STATE) {
            Ended::Done => match Options::of_result(row).result_ttl {
                // The task said itself how long.
                Some(ttl) => age > ttl,
                // Its handler says at least how long.
                None if handler_ttl(tenant, row).is_some_and(|ttl| age <= ttl) => false,
                None => {
                    let id = row.get(Results::ID).unwrap_or_default();
                    (boundary.is_some_and(|boundary| id <= boundary) || surplus.contains(&id)) && age > tenant.result_ttl
                }
            },
            _ => age > tenant.failure_ttl,
        }
    };
    let mut seen = 0;
    let mut last = Id::NIL;
    let mut victims = Vec::new();
    for row in results.scan(&Results::BY_ID, &[Results::ID.above(from)]).take(ROWS) {
        seen += 1;
        last = row.get(Results::ID).unwrap_or_default();
        if old(&row) && !is_needed(&tasks, &row) {
            victims.push(row);
        }
    }
    for row in victims {
        if results.delete(&row) == Write::Done && crate::task::notes::leaves_a_note(&row) {
            unique::let_go(tenant, row.get(Results::ID).unwrap_or_default())?;
        }
    }
    Ok(if seen == ROWS { last } else { Id::NIL })
}
