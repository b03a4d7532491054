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
use crate::shared::counters::{Counted, UncommittedFailure};
use crate::shared::endings::{self, Drained, Ending};
use crate::shared::slot::Item;
use crate::shared::wake;
use crate::shared::{self, Shared};
use crate::task;
use crate::task::current::Another;
use crate::task::lookup;
use crate::task::new::TIME_MAX;
use crate::task::place;
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
    /// None: it is this transaction's own (tq_drain_take).
    claim: Option<&'static Claim>,
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

/// A claim that this transaction has made for itself alone, and whether it is ended.
fn drained(id: Id) -> Option<(Drained, bool)> {
    wake::all_drained().into_iter().find(|(drained, _)| drained.claim == id)
}

/// The task that a claim is of, if it is anybody's.
pub fn task_of(id: Id) -> Option<Id> {
    drained(id).map(|(drained, _)| drained.item.id).or_else(|| Some(shared::get()?.claim(id)?.item().id))
}

fn ended_already(id: Id) -> Error {
    Error::new(SqlState::CLAIM_LOST, format!("claim {id} has been ended by this transaction already")).hint("End each task once.")
}

/// From here on the claim is this transaction's to end.
fn hold(id: Id) -> Result<Held> {
    match drained(id) {
        Some((_, true)) => Err(ended_already(id)),
        Some((drained, false)) => hold_drained(&drained),
        None => hold_workers(&shared()?, id),
    }
}

/// One of its own, whose row it has locked.
fn hold_drained(drained: &Drained) -> Result<Held> {
    let id = drained.claim;
    if drained.role != sandbox::current_user().to_u32() {
        return Err(lost(id));
    }
    let tenant = tenant::by_oid(drained.tenant).map_err(|_| lost(id))?;
    rights::require(&tenant, &[Right::Work])?;
    let table = tenant.open(tenant.task, Access::Write)?;
    let row = transaction::with_latest_snapshot(|| lookup::find(&table, &drained.item)).ok_or_else(|| lost(id))?;
    wake::end_drained(id);
    Ok(Held { claim: None, tenant, row, item: drained.item, started_at: drained.started_at })
}

fn hold_workers(s: &Shared, id: Id) -> Result<Held> {
    let found = of_caller(s, id)?;
    let Ok(tenant) = tenant::by_oid(found.tenant.load()) else {
        // Detached, dropped: nothing of it is left.
        s.revoke(found);
        return Err(lost(id));
    };
    rights::require(&tenant, &[Right::Work])?;
    if wake::is_ending(place_of(s, found)) {
        return Err(ended_already(id));
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
    Ok(Held { claim: Some(claim), tenant, row, item, started_at })
}

impl Held {
    /// The row is another worker's to take, or expires.
    fn goes_back(&self) -> Result<()> {
        place::expires(&self.tenant, self.row.letter(Tasks::STATE), self.row.get(Tasks::EXPIRES_AT))
    }
    fn over(&self, outcome: Outcome) {
        if let (Some(claim), Some(s)) = (self.claim, shared::get()) {
            wake::ended_as(place_of(&s, claim), outcome);
        }
    }
    /// What our own fence says is said in the worker's words; then the claim is nobody's any more.
    fn as_worker(&self, id: Id, failure: Failure) -> Error {
        if failure.is(Own::Gone) || failure.is(Own::Fenced) { self.lost(id) } else { failure.into() }
    }
    fn lost(&self, id: Id) -> Error {
        if let (Some(claim), Some(s)) = (self.claim, shared::get()) {
            wake::is_lost(place_of(&s, claim));
        }
        lost(id)
    }
    fn count(&self, outcome: Outcome) {
        wake::attempt_ended(self.tenant.oid, &task::counted(&self.row), outcome, self.started_at);
    }
}

/// The task is done.
pub fn finish(id: Id, result: Option<Jsonb>) -> Result<()> {
    let held = hold(id)?;
    let Held { tenant, row, item, started_at, .. } = &held;
    let handler = handler::find(tenant, row.get(Tasks::HANDLER).unwrap_or(""))?;
    let rules = Rules::of(tenant, row, handler.as_deref());
    let save = row.has(Tasks::PARENT_ID) || rules.save.unwrap_or(tenant.save_limit >= 0);
    let result = result.unwrap_or_else(Jsonb::null);
    transaction::with_latest_snapshot(|| complete::done(tenant, item, *started_at, &result, save)).map_err(|f| held.as_worker(id, f))?;
    transaction::see_own_writes();
    held.count(Outcome::Done);
    held.over(Outcome::Done);
    Ok(())
}

/// What a worker's failure comes to.
pub struct GivenUp {
    pub state: &'static str,
    pub run_at: Option<At>,
}

/// Nothing that this transaction has written may stand beside a failed attempt: the next one would do it again.
/// In a test's transaction, which claims for itself, it stands beside anyway, as long as the test likes.
fn require_nothing_written(call: &str, id: Id) -> Result<()> {
    if transaction::has_xid() && drained(id).is_none() {
        return Err(Error::new(SqlState::ACTIVE_SQL_TRANSACTION, format!("{call}() in a transaction that has written something"))
            .detail("What it has written would be committed with the failure, and done again by the next attempt.")
            .hint(format!("ROLLBACK first, then call {call}().")));
    }
    Ok(())
}

/// The attempt has failed. `retry_after`: as tq_retry has it; `is_final`: there is no other attempt.
pub fn give_up(id: Id, failure: Failure, retry_after: Option<Period>, is_final: bool) -> Result<GivenUp> {
    require_nothing_written("tq_give_up", id)?;
    let held = hold(id)?;
    let Held { tenant, row, item, started_at, claim, .. } = &held;
    let handler = handler::find(tenant, row.get(Tasks::HANDLER).unwrap_or(""))?;
    let deadline_ns = claim.map_or(0, |claim| claim.deadline_ns.load());
    let timed_out = deadline_ns != 0 && clock::monotonic_ns() >= deadline_ns;
    let how = match (retry_after, timed_out) {
        (Some(_), _) => AttemptEnd::Retry,
        (None, true) => AttemptEnd::TimedOut,
        (None, false) => AttemptEnd::Failed,
    };
    let again = retry_after.map(|delay| Another { delay: Some(delay), args: None, counts: true });
    let judgement = Judgement { again: again.filter(|_| !is_final), last: is_final, ..Judgement::of(how, failure) };
    let verdict = transaction::with_latest_snapshot(|| complete::failed(tenant, item, handler.as_deref(), *started_at, &judgement))
        .map_err(|f| held.as_worker(id, f))?;
    transaction::see_own_writes();
    let Some(outcome) = verdict.outcome() else {
        return Err(held.lost(id));
    };
    held.count(outcome);
    let Counted { id: task, handler, attempt, schedule, .. } = task::counted(row);
    endings::failed(UncommittedFailure {
        tenant: tenant.oid,
        role: sandbox::current_user().to_u32(),
        id: task,
        handler: handler.to_string(),
        attempt,
        schedule: schedule.to_string(),
        failure: judgement.failure.clone(),
        timed_out,
    });
    held.over(outcome);
    Ok(match verdict {
        Verdict::RetryAt(at) => {
            if let Some(entry) = lookup::entry_of(tenant, row)? {
                wake::changed_row(entry, at);
            }
            held.goes_back()?;
            GivenUp { state: "retrying", run_at: Some(at) }
        }
        _ => GivenUp { state: "failed", run_at: None },
    })
}

/// The task goes back, and nothing is counted; `crashed`: the process that ran it has died with it, which is.
pub fn release(id: Id, delay: Period, reason: Option<&str>, crashed: bool) -> Result<()> {
    require_nothing_written("tq_release", id)?;
    let held = hold(id)?;
    let Held { tenant, row, item, .. } = &held;
    if crashed {
        let table = tenant.open(tenant.task, Access::Write)?;
        transaction::with_latest_snapshot(|| poison::blame(tenant, &table, row, Died::Worker, &id.to_string()))
            .map_err(|f| held.as_worker(id, f))?;
        transaction::see_own_writes();
        return Ok(());
    }
    held.goes_back()?;
    let now = clock::now();
    let at = tenant.after(now, delay).clamp(now, TIME_MAX);
    if at > now {
        let table = tenant.open(tenant.task, Access::Write)?;
        let mut changes = vec![Tasks::RUN_AT.to(at)];
        let history = reason.map(|reason| Jsonb::from_value(complete::with_release(row, item, held.started_at, reason)));
        changes.extend(history.as_ref().map(|history| Tasks::HISTORY.to(history)));
        if table.update(row, &changes) == Write::Overtaken {
            return Err(held.lost(id));
        }
        transaction::see_own_writes();
        if let Some(entry) = lookup::entry_of(tenant, row)? {
            wake::changed_row(entry, at);
        }
    }
    Ok(())
}
