//! What workers leave: an executor of the schema's owner looks after tasks that none of them can take. Such wait for other tasks, at
//! a gate or for the end of a pause, which has to be written down; or have ended without running.

use crate::postgres::caught::{self, Failure, Own};
use crate::postgres::relation::Access;
use crate::postgres::row::Row;
use crate::postgres::{clock, transaction};
use crate::pure::ids;
use crate::pure::state::{Ended, Stored};
use crate::pure::time::{At, Span};
use crate::shared::role::EXTERNAL;
use crate::shared::{Shared, entry, ready};
use crate::task::lookup;
use crate::tenant::columns::Tasks;
use crate::tenant::{self, Tenant};
use crate::waits::depend;
use crate::work::cursors::lower_cursors;
use crate::work::given;
use crate::work::look::{Found, Look, Purpose};
use crate::work::pick::in_slots;
use crate::work::scan::Scan;
use crate::work::{complete, park, retention, runs};
use std::rc::Rc;

/// Whoever holds the entry just now lets it go soon.
const AGAIN: Span = Span::of_millis(50);

/// Has an executor of the owner's look. Anywhere; it may be in a worker's session.
pub fn ask_for(shared: &Shared, tenant: u32) {
    let owner = tenant::by_oid(tenant).ok().and_then(|tenant| tenant.entry(tenant.owner).ok().flatten());
    if let Some(entry) = owner {
        shared.reach(entry, |index| {
            shared.entries[index as usize].tidy.fetch_or(entry::tidy::ROWS);
            ready::wake(shared, index, At::NEVER);
        });
    }
}

/// Does it, if it was asked for with the owner's entry `index`. In an executor, between two transactions.
pub fn tidy(shared: &Shared, slot: usize, index: u32, tenant: &Rc<Tenant>) {
    let owners = &shared.entries[index as usize];
    if owners.tidy.load() == 0 {
        return;
    }
    let wanted = owners.tidy.swap(0);
    let entry = transaction::run(|| Ok(tenant.entry(EXTERNAL)?));
    let Ok(Some(external)) = entry else { return };
    if wanted & entry::tidy::ROWS != 0 {
        rows(shared, slot, index, external.index, tenant);
    }
    retention::after_batch(shared, external.index, tenant);
}

/// Looks after rows that no worker can take.
fn rows(shared: &Shared, slot: usize, index: u32, external: u32, tenant: &Rc<Tenant>) {
    let owners = &shared.entries[index as usize];
    if !ready::acquire_to_tidy(shared, external, slot) {
        owners.tidy.fetch_or(entry::tidy::ROWS);
        return ready::due(shared, index, clock::now() + AGAIN);
    }
    let looked = look(shared, slot, external, tenant);
    ready::release(shared, external);
    let written = looked.and_then(|(found, expires)| {
        let again = expires.min(found.again);
        if again != At::NEVER {
            ready::tidy_at(shared, index, again);
        }
        write(shared, external, tenant, found)
    });
    match written {
        Ok(()) => {}
        Err(failure) if failure.is(Own::NoTenant) => {}
        Err(failure) => {
            caught::log_failure(&format!("{}: workers' tasks could not be looked after", caught::one_line(&tenant.name)), &failure);
            owners.tidy.fetch_or(entry::tidy::ROWS);
            ready::due(shared, index, clock::now() + Span::of_secs(1));
        }
    }
}

/// What there is to do, and when the next one expires.
fn look(shared: &Shared, slot: usize, index: u32, tenant: &Rc<Tenant>) -> Result<(Found, At), Failure> {
    let entry = &shared.entries[index as usize];
    // Rows may have come behind where workers have looked; they are told so themselves at their next look.
    lower_cursors(shared, index, entry.low_key.load());
    let taken = in_slots(shared, slot, tenant.oid);
    transaction::run(|| {
        let table = tenant.open(tenant.task, Access::Read)?;
        let look = Look {
            purpose: Purpose::Tidy,
            shared,
            place: slot,
            entry,
            role: EXTERNAL,
            tenant,
            in_slots: &taken,
            now: clock::now(),
            asks: false,
        };
        // Each run by itself: what lies in front of one is no matter for the others.
        let mut walks: Vec<_> =
            runs::present(&table, &shared.known_runs(index), ids::RUNS, look.now).into_iter().map(|walk| vec![walk]).collect();
        let scan = Scan::walk_runs(&look, &table, &mut walks, usize::MAX)?;
        Ok((scan.found, runs::first_expiry(&table, look.now)))
    })
}

fn write(shared: &Shared, index: u32, tenant: &Rc<Tenant>, found: Found) -> Result<(), Failure> {
    let Found { rows, park: held, wait, due, .. } = found;
    if !wait.is_empty() {
        park::wait(shared, index, tenant, &wait)?;
    }
    if !held.is_empty() {
        park::park(shared, owners_entry(tenant)?.unwrap_or(index), tenant, &held)?;
    }
    let some = !rows.is_empty() || !wait.is_empty() || !held.is_empty();
    for (row, handler, _) in rows {
        transaction::run(|| end(tenant, &row, handler.as_deref()))?;
    }
    if due != At::NEVER {
        ready::due(shared, index, due);
    }
    if some {
        // There may be more behind them.
        ready::wake(shared, index, At::NEVER);
        ask_again(shared, tenant)?;
    }
    Ok(())
}

fn owners_entry(tenant: &Tenant) -> Result<Option<u32>, Failure> {
    transaction::run(|| Ok(tenant.entry(tenant.owner)?.map(|entry| entry.index)))
}

fn ask_again(shared: &Shared, tenant: &Tenant) -> Result<(), Failure> {
    if let Some(index) = owners_entry(tenant)? {
        shared.entries[index as usize].tidy.fetch_or(entry::tidy::ROWS);
        // Not at once: whatever stays as it is, nothing spins.
        ready::due(shared, index, clock::now() + AGAIN);
    }
    Ok(())
}

/// Ends a task that no worker can take any more.
fn end(tenant: &Rc<Tenant>, row: &Row<Tasks>, handler: Option<&crate::handler::Handler>) -> Result<(), Failure> {
    let item = lookup::item_of(row);
    let table = tenant.open(tenant.task, Access::Read)?;
    // Somebody else has just done it, or changed it.
    if lookup::find(&table, &item).is_none_or(|row| row.letter(Tasks::STATE) != Stored::External) {
        return Ok(());
    }
    if depend::is_expired(tenant, &table, row, clock::now())? {
        return complete::finish_unrun(tenant, &item, Ended::Expired, None);
    }
    if row.has(Tasks::WAITS) {
        let results = tenant.open(tenant.result, Access::Read)?;
        if let depend::Answer::Never(why) = depend::evaluate(&table, &results, row) {
            return complete::finish_unrun(tenant, &item, Ended::Cancelled, Some(&why));
        }
    }
    match handler.map(|handler| given::check(tenant, handler, row)) {
        Some(Err(unfit)) => complete::finish_unrun(tenant, &item, Ended::Failed, Some(&unfit)),
        _ => Ok(()),
    }
}
