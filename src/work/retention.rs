//! Finished tasks out again, in bounded batches, by the executor that has just worked for the
//! tenant: nothing walks all tenants, and a tenant that finishes nothing costs nothing.
//!
//! Kept are the newest `save_limit` successes (by id, which is by time; 0 = all) and everything
//! younger than `result_ttl`; failures for `failure_ttl`. With `save_limit` -1 successes aren't
//! saved in the first place, as in Django-Q.

use crate::postgres::caught::{self, Failure};
use crate::postgres::relation::{Access, Compare, Gone, Key, Row, Table, Value};
use crate::postgres::{clock, transaction};
use crate::pure::state::ended;
use crate::settings;
use crate::shared::Shared;
use crate::tenant::Tenant;
use crate::tenant::columns::{col, rcol};
use crate::waits::unique;
use std::collections::{HashMap, HashSet};

/// Rows that one transaction looks at.
const ROWS: usize = 2000;

/// After a batch: once in a while, a pass.
pub fn after_batch(s: &Shared, index: u32, tenant: &Tenant) {
    let e = &s.entries[index as usize];
    let every = settings::retention_every();
    if every == 0 || e.finished_since_retention.load() < every {
        return;
    }
    e.finished_since_retention.store(0);
    let from = ((e.retention_high.load() as u128) << 64) | e.retention_low.load() as u128;
    match transaction::run(|| pass(tenant, from)) {
        Ok(next) => {
            e.retention_high.store((next >> 64) as u64);
            e.retention_low.store(next as u64);
            if next != 0 {
                // Not at the end yet: go on after a tenth of the usual.
                e.finished_since_retention.store(every - every / 10);
            }
        }
        Err(failure) => caught::log_failure(&format!("{}: old results could not be removed", caught::one_line(&tenant.name)), &failure),
    }
}

/// A flow that isn't final gathers its members' results at its end.
pub fn is_needed(tasks: &Table, row: &Row) -> bool {
    row.uuid(rcol::PARENT_ID).is_some_and(|flow| tasks.find(&[col::ID as i16], Value::Uuid(flow)).is_some())
}

/// Successes beyond the newest `limit` of each handler, name or group.
fn surplus_of(results: &Table, by_id: usize, per: &str, limit: i32) -> HashSet<u128> {
    let column = match per {
        "group" => rcol::GROUP_ID,
        "name" => rcol::NAME,
        _ => rcol::HANDLER,
    };
    let mut kept: HashMap<Option<String>, i32> = HashMap::new();
    let mut surplus = HashSet::new();
    results.scan(by_id, &[], None, true, |row| {
        if row.char(rcol::STATE) == ended::DONE {
            let n = kept.entry(row.text(column)).or_default();
            *n += 1;
            if *n > limit {
                surplus.extend(row.uuid(rcol::ID));
            }
        }
        surplus.len() < ROWS
    });
    surplus
}

fn handler_ttl(tenant: &Tenant, row: &Row) -> Option<i64> {
    crate::handler::find(tenant, row.str(rcol::HANDLER).unwrap_or("")).ok().flatten().and_then(|h| h.result_ttl)
}

/// Removes what nobody wants any more among the next rows after `from`; where to go on, 0 = from
/// the old end again.
fn pass(tenant: &Tenant, from: u128) -> Result<u128, Failure> {
    // Never wait for a lock here: retention is nobody's hurry.
    let Some(results) = tenant.try_open(tenant.result, Access::Write)? else { return Ok(from) };
    let Some(tasks) = tenant.try_open(tenant.task, Access::Read)? else { return Ok(from) };
    let by_id = results.index_with(&[rcol::ID as i16]);
    let now = clock::now();
    // The newest `save_limit` successes begin here; 0 = all are kept.
    let mut kept = 0;
    let mut boundary = None;
    let per = tenant.save_limit_per.as_deref().filter(|p| *p != "none" && tenant.save_limit > 0);
    let mut surplus = HashSet::new();
    if let Some(per) = per {
        surplus = surplus_of(&results, by_id, per, tenant.save_limit);
    } else if tenant.save_limit > 0 {
        results.scan(by_id, &[], None, true, |row| {
            if row.char(rcol::STATE) == ended::DONE {
                if kept == tenant.save_limit {
                    boundary = row.uuid(rcol::ID);
                    return false;
                }
                kept += 1;
            }
            true
        });
    } else if tenant.save_limit < 0 {
        boundary = Some(u128::MAX);
    }
    let old = |row: &Row| {
        let age = now - row.time(rcol::FINISHED_AT).unwrap_or(now);
        let own_ttl = if row.raw(rcol::OPTIONS).is_some() {
            row.json(rcol::OPTIONS).and_then(|o| o.get("result_ttl").and_then(|t| t.as_i64()))
        } else {
            None
        };
        match row.char(rcol::STATE) {
            ended::DONE => match own_ttl {
                // The task said itself how long.
                Some(ttl) => age > ttl,
                // Its handler says at least how long.
                None if handler_ttl(tenant, row).is_some_and(|ttl| age <= ttl) => false,
                None => {
                    let id = row.uuid(rcol::ID).unwrap_or(0);
                    (boundary.is_some_and(|b| id <= b) || surplus.contains(&id)) && age > tenant.result_ttl
                }
            },
            _ => age > tenant.failure_ttl,
        }
    };
    let mut seen = 0;
    let mut last = 0;
    let mut victims = Vec::new();
    results.scan(by_id, &[Key { column: 1, compare: Compare::Gt, value: Value::Uuid(from) }], None, false, |row| {
        seen += 1;
        last = row.uuid(rcol::ID).unwrap_or(0);
        if old(&row) && !is_needed(&tasks, &row) {
            victims.push(row);
        }
        seen < ROWS
    });
    for row in victims {
        if results.delete(&row) == Gone::Done && crate::task::notes::leaves_a_note(&row) {
            unique::let_go(tenant, row.uuid(rcol::ID).unwrap_or(0))?;
        }
    }
    Ok(if seen == ROWS { last } else { 0 })
}
