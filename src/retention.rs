//! Finished tasks out again, in bounded batches, by the executor that has just worked for the
//! tenant: nothing walks all tenants, and a tenant that finishes nothing costs nothing.
//!
//! Kept are the newest `save_limit` successes (by id, which is by time; 0 = all) and everything
//! younger than `result_ttl`; failures for `failure_ttl`. With `save_limit` -1 successes aren't
//! saved in the first place, as in Django-Q.

use crate::postgres::caught::{self, Failure};
use crate::postgres::clock;
use crate::postgres::relation::{Access, Compare, Gone, Key, Row, Value};
use crate::postgres::transaction;
use crate::settings;
use crate::shared::Shared;
use crate::task::{ended, rcol};
use crate::tenant::Tenant;
use std::sync::atomic::Ordering::*;

/// Rows that one transaction looks at.
const ROWS: usize = 2000;

/// After a batch: once in a while, a pass.
pub fn after_batch(s: &Shared, index: u32, tenant: &Tenant) {
    let e = &s.entries[index as usize];
    let every = settings::retention_every();
    if every == 0 || e.finished_since_retention.load(Relaxed) < every {
        return;
    }
    e.finished_since_retention.store(0, Relaxed);
    let from = ((e.retention_high.load(Relaxed) as u128) << 64) | e.retention_low.load(Relaxed) as u128;
    match transaction::run(|| pass(tenant, from)) {
        Ok(next) => {
            e.retention_high.store((next >> 64) as u64, Relaxed);
            e.retention_low.store(next as u64, Relaxed);
            if next != 0 {
                // Not at the end yet: go on after a tenth of the usual.
                e.finished_since_retention.store(every - every / 10, Relaxed);
            }
        }
        Err(failure) => caught::log_failure(&format!("{}: old results could not be removed", caught::one_line(&tenant.name)), &failure),
    }
}

/// Removes what nobody wants any more among the next rows after `from`; where to go on, 0 = from
/// the old end again.
fn pass(tenant: &Tenant, from: u128) -> Result<u128, Failure> {
    // Never wait for a lock here: retention is nobody's hurry.
    let Some(results) = tenant.try_open(tenant.result, Access::Write)? else { return Ok(from) };
    let by_id = results.index_with(&[rcol::ID as i16]);
    let now = clock::now();
    // The newest `save_limit` successes begin here; 0 = all are kept.
    let mut kept = 0;
    let mut boundary = None;
    if tenant.save_limit > 0 {
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
                None => boundary.is_some_and(|b| row.uuid(rcol::ID).unwrap_or(0) <= b) && age > tenant.result_ttl,
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
        if old(&row) {
            victims.push(row.tid);
        }
        seen < ROWS
    });
    for tid in victims {
        let _: Gone = results.delete(tid);
    }
    Ok(if seen == ROWS { last } else { 0 })
}
