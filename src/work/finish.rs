//! How a worker outside of the server ends a task that it has taken: done, failed, or given back. In whichever session of the
//! worker's role, in the caller's own transaction; with its effects it commits or rolls back.
//!
//! It takes both, the claim in shared memory and the very row: the claim says that nobody else may have started the task, the row
//! that it is the one that was taken. From the call on the claim can't be revoked, until the transaction is over.

use crate::handler;
use crate::postgres::caught::{Failure, Own};
use crate::postgres::error::{Error, Result};
use crate::postgres::relation::{Access, Write};
use crate::postgres::row::Row;
use crate::postgres::sqlstate::SqlState;
use crate::postgres::types::Jsonb;
use crate::postgres::{clock, sandbox, shmem, transaction};
use crate::pure::ids::Id;
use crate::pure::period::Period;
use crate::pure::state::{AttemptEnd, Outcome};
use crate::pure::time::At;
use crate::pure::word::ClaimState;
use crate::shared::claims::Claim;
use crate::shared::endings::Ending;
use crate::shared::slot::Item;
use crate::shared::wake;
use crate::shared::{self, Shared, counters};
use crate::task;
use crate::task::current::Another;
use crate::task::lookup;
use crate::task::new::TIME_MAX;
use crate::task::rules::Rules;
use crate::tenant::columns::Tasks;
use crate::tenant::rights::{self, Right};
use crate::tenant::{self, Tenant, lock};
use crate::work::complete::{self, Judgement, Verdict};
use crate::work::poison::{self, Died};
use crate::work::take::place_of;
use std::rc::Rc;

/// A claim that this transaction holds until it is over.
pub struct Held {
    claim: &'static Claim,
    tenant: Rc<Tenant>,
    row: Row<Tasks>,
    item: Item,
    started_at: At,
}

/// What is said of a claim that isn't the caller's, whyever: who asks learns nothing of others'.
pub fn lost(claim: Id) -> Error {
    Error::new(SqlState::CLAIM_LOST, format!("claim {claim} is gone, or never was yours"))
        .detail("Its session has ended, the task was cancelled, changed or ended meanwhile, or another role has taken it.")
        .hint("ROLLBACK: what was done for it must not stand. The task runs again where it has to; take the next one.")
}

/// Where the server doesn't preload the library there are no claims.
pub fn shared() -> Result<Shared> {
    let s = shared::get();
    if let Some(s) = &s {
        s.is_alive();
    }
    s.ok_or_else(|| {
        Error::state("tenant_q is not in shared_preload_libraries, so workers can take no tasks")
            .hint("In postgresql.conf: shared_preload_libraries = 'tenant_q'; then restart the server.")
    })
}

/// The claim, if it is of this role.
pub fn of_caller(s: &Shared, id: Id) -> Result<&'static Claim> {
    s.claim(id).filter(|claim| claim.role.load() == sandbox::current_user().to_u32()).ok_or_else(|| lost(id))
}

/// From here on the claim is this transaction's to end.
pub fn hold(s: &Shared, id: Id) -> Result<Held> {
    let found = of_caller(s, id)?;
    let Ok(tenant) = tenant::by_oid(found.tenant.load()) else {
        // Detached, dropped: nothing of it is left.
        s.revoke(found);
        return Err(lost(id));
    };
    rights::require(&tenant, &[Right::Work])?;
    if wake::is_ending(place_of(s, found)) {
        return Err(
            Error::new(SqlState::CLAIM_LOST, format!("claim {id} has been ended by this transaction already")).hint("End each task once.")
        );
    }
    // Who is just ending it is waited for: then it is gone, or the worker's again.
    lock::claim(tenant.oid, id)?;
    let claim = of_caller(s, id)?;
    let word = claim.load();
    let held = (word.state == ClaimState::Taken).then(|| claim.change(word, ClaimState::Finishing)).flatten();
    let Some(word) = held else { return Err(lost(id)) };
    claim.finisher.store(shmem::my_pid());
    claim.signals.store(0);
    claim.finishing_ns.store(clock::monotonic_ns());
    let owners = Some(claim.owners.load()).filter(|n| (*n as usize) < s.entries.len());
    wake::ending(Ending { place: place_of(s, claim), word, entry: claim.entry.load(), owners, is_lost: false, outcome: None });
    let (item, started_at) = (claim.item(), claim.taken_at.load());
    let table = tenant.open(tenant.task, Access::Write)?;
    let Some(row) = transaction::with_latest_snapshot(|| lookup::find(&table, &item)) else {
        wake::is_lost(place_of(s, claim));
        return Err(lost(id));
    };
    Ok(Held { claim, tenant, row, item, started_at })
}

impl Held {
    fn over(&self, s: &Shared, outcome: Outcome) {
        wake::ended_as(place_of(s, self.claim), outcome);
    }
    /// What our own fence says is said in the worker's words; then the claim is nobody's any more.
    fn as_worker(&self, s: &Shared, id: Id, failure: Failure) -> Error {
        if failure.is(Own::Gone) || failure.is(Own::Fenced) {
            wake::is_lost(place_of(s, self.claim));
            return lost(id);
        }
        failure.into()
    }
    fn count(&self, outcome: Outcome) {
        wake::attempt_ended(self.tenant.oid, &task::counted(&self.row), outcome, self.started_at);
    }
}

/// The task is done.
pub fn finish(s: &Shared, id: Id, result: Option<Jsonb>) -> Result<()> {
    let held = hold(s, id)?;
    finish_held(s, id, &held, result)
}

/// The same of one that is held already.
pub fn finish_held(s: &Shared, id: Id, held: &Held, result: Option<Jsonb>) -> Result<()> {
    let Held { tenant, row, item, started_at, .. } = held;
    let handler = handler::find(tenant, row.get(Tasks::HANDLER).unwrap_or(""))?;
    let rules = Rules::of(tenant, row, handler.as_deref());
    let save = row.has(Tasks::PARENT_ID) || rules.save.unwrap_or(tenant.save_limit >= 0);
    let result = result.unwrap_or_else(Jsonb::null);
    transaction::with_latest_snapshot(|| complete::done(tenant, item, *started_at, &result, save)).map_err(|f| held.as_worker(s, id, f))?;
    transaction::see_own_writes();
    held.count(Outcome::Done);
    held.over(s, Outcome::Done);
    Ok(())
}

/// What a worker's failure comes to.
pub struct GivenUp {
    pub state: &'static str,
    pub run_at: Option<At>,
}

/// Nothing that this transaction has written may stand beside a failed attempt: the next one would do it again.
fn require_nothing_written(call: &str) -> Result<()> {
    if transaction::has_xid() {
        return Err(Error::new(SqlState::ACTIVE_SQL_TRANSACTION, format!("{call}() in a transaction that has written something"))
            .detail("What it has written would be committed with the failure, and done again by the next attempt.")
            .hint(format!("ROLLBACK first, then call {call}().")));
    }
    Ok(())
}

/// The attempt has failed. `retry_after`: as tq_retry has it; `is_final`: there is no other attempt.
pub fn give_up(s: &Shared, id: Id, failure: Failure, retry_after: Option<Period>, is_final: bool) -> Result<GivenUp> {
    require_nothing_written("tq_give_up")?;
    let held = hold(s, id)?;
    let Held { tenant, row, item, started_at, claim, .. } = &held;
    let handler = handler::find(tenant, row.get(Tasks::HANDLER).unwrap_or(""))?;
    let timed_out = claim.deadline_ns.load() != 0 && clock::monotonic_ns() >= claim.deadline_ns.load();
    let how = match (retry_after, timed_out) {
        (Some(_), _) => AttemptEnd::Retry,
        (None, true) => AttemptEnd::TimedOut,
        (None, false) => AttemptEnd::Failed,
    };
    let again = retry_after.map(|delay| Another { delay: Some(delay), args: None, counts: true });
    let judgement = Judgement { again: again.filter(|_| !is_final), last: is_final, ..Judgement::of(how, failure) };
    let verdict = transaction::with_latest_snapshot(|| complete::failed(tenant, item, handler.as_deref(), *started_at, &judgement))
        .map_err(|f| held.as_worker(s, id, f))?;
    transaction::see_own_writes();
    let Some(outcome) = verdict.outcome() else {
        wake::is_lost(place_of(s, claim));
        return Err(lost(id));
    };
    held.count(outcome);
    counters::failed(s, tenant.oid, claim.role.load(), &task::counted(row), &judgement.failure, timed_out);
    held.over(s, outcome);
    Ok(match verdict {
        Verdict::RetryAt(at) => {
            if let Some(entry) = lookup::entry_of(tenant, row)? {
                wake::changed_row(entry, at);
            }
            GivenUp { state: "retrying", run_at: Some(at) }
        }
        _ => GivenUp { state: "failed", run_at: None },
    })
}

/// The task goes back, and nothing is counted; `crashed`: the process that ran it has died with it, which is.
pub fn release(s: &Shared, id: Id, delay: Period, reason: Option<&str>, crashed: bool) -> Result<()> {
    require_nothing_written("tq_release")?;
    let held = hold(s, id)?;
    let Held { tenant, row, item, .. } = &held;
    if crashed {
        let table = tenant.open(tenant.task, Access::Write)?;
        transaction::with_latest_snapshot(|| poison::blame(tenant, &table, row, Died::Worker, &id.to_string()))
            .map_err(|f| held.as_worker(s, id, f))?;
        transaction::see_own_writes();
        return Ok(());
    }
    let now = clock::now();
    let at = tenant.after(now, delay).clamp(now, TIME_MAX);
    if at > now {
        let table = tenant.open(tenant.task, Access::Write)?;
        let mut changes = vec![Tasks::RUN_AT.to(at)];
        let history = reason.map(|reason| Jsonb::from_value(complete::with_release(row, item, held.started_at, reason)));
        changes.extend(history.as_ref().map(|history| Tasks::HISTORY.to(history)));
        if table.update(row, &changes) == Write::Overtaken {
            wake::is_lost(place_of(s, held.claim));
            return Err(lost(id));
        }
        transaction::see_own_writes();
        if let Some(entry) = lookup::entry_of(tenant, row)? {
            wake::changed_row(entry, at);
        }
    }
    Ok(())
}
