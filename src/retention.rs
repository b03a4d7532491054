//! Finished tasks out again, in bounded batches, by the executor that has just worked for the
//! tenant: nothing walks all tenants, and a tenant that finishes nothing costs nothing.
//!
//! Kept are the newest `save_limit` successes (by id, which is by time) and everything younger
//! than `result_ttl`; failures for `failure_ttl`.

use crate::postgres::caught::{self, Failure};
use crate::postgres::clock;
use crate::postgres::relation::{Access, Gone, Row};
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
    if every == 0 || tenant.save_limit < 0 || e.finished_since_retention.load(Relaxed) < every {
        return;
    }
    e.finished_since_retention.store(0, Relaxed);
    match transaction::run(|| pass(tenant)) {
        // A full pass means that there is more: come back after a tenth of the usual.
        Ok(true) => e.finished_since_retention.store(every - every / 10, Relaxed),
        Ok(false) => {}
        Err(failure) => caught::log_failure(&format!("{}: old results could not be removed", caught::one_line(&tenant.name)), &failure),
    }
}

/// Removes from the old end what nobody wants any more; true if it stopped at its limit.
fn pass(tenant: &Tenant) -> Result<bool, Failure> {
    // Never wait for a lock here: retention is nobody's hurry.
    let Some(results) = tenant.try_open(tenant.result, Access::Write)? else { return Ok(false) };
    let by_id = results.index_with(&[rcol::ID as i16]);
    let now = clock::now();
    // The newest `save_limit` successes begin here.
    let mut kept = 0;
    let mut boundary = None;
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
    let old = |row: &Row| {
        let age = now - row.time(rcol::FINISHED_AT).unwrap_or(now);
        match row.char(rcol::STATE) {
            ended::DONE => boundary.is_some_and(|b| row.uuid(rcol::ID).unwrap_or(0) <= b) && age > tenant.result_ttl,
            _ => age > tenant.failure_ttl,
        }
    };
    let mut seen = 0;
    let mut victims = Vec::new();
    results.scan(by_id, &[], None, false, |row| {
        seen += 1;
        if old(&row) {
            victims.push(row.tid);
        }
        seen < ROWS
    });
    let full = seen == ROWS && victims.len() > ROWS / 2;
    for tid in victims {
        let _: Gone = results.delete(tid);
    }
    Ok(full)
}
