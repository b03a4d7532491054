//! Counting a tenant's unfinished tasks: for max_queued, and to put the gauge right.
//!
//! How a count meets what commits meanwhile: shared/gauge.rs.

use crate::postgres::relation::{Table, Tally};
use crate::postgres::{shmem, transaction};
use crate::pure::state::{Letter, Stored};
use crate::shared::entry::{Entry, EntryRef};
use crate::shared::gauge::{self, Correction};
use crate::shared::{self, Shared, wake};
use crate::tenant::columns::Tasks;
use crate::tenant::{self, Tenant};
use std::cell::Cell;
use std::time::{Duration, Instant};

/// Has the rows of a tenant's table of tasks counted as they are written.
pub fn tally(tenant: &Tenant) -> Tally {
    Tally { column: Tasks::STATE.number(), counts: |letter| Stored::of_letter(letter).is_task(), owner: tenant.oid, note }
}

thread_local! {
    /// The tenant that was counted for last, and where.
    static LAST: Cell<Option<(u32, EntryRef)>> = const { Cell::new(None) };
}

fn note(tenant: u32, by: i64) {
    if let Some(entry) = shared::get().and_then(|s| place(&s, tenant)) {
        wake::counted(entry, by);
    }
}

/// The entry that this process counts the tenant in. None: the table of entries is full; who gets a place later is
/// counted.
fn place(s: &Shared, tenant: u32) -> Option<EntryRef> {
    let last = LAST.get().filter(|(t, entry)| *t == tenant && s.at(*entry).is_some()).map(|(_, entry)| entry);
    let entry = last.or_else(|| {
        let database = shmem::my_database();
        let known = s.entries_of(database, tenant).next().map(|i| s.reference(i as usize));
        known.or_else(|| tenant::by_oid(tenant).ok().and_then(|t| s.entry_if_room(database, tenant, t.owner)))
    });
    LAST.set(entry.map(|e| (tenant, e)));
    entry
}

/// What a count has found.
pub struct Count {
    /// Rows of unfinished tasks, this transaction's own among them; no more than asked for.
    pub rows: i64,
    /// The gauge as it was, with what this transaction has added.
    pub gauge: i64,
    /// What is to be done about the gauge. None: it is right, or that can't be told just now.
    pub correction: Option<Correction>,
    /// No row was left out.
    all: bool,
    /// Of all rows, while nobody was committing: the gauge is right, or will be with the correction.
    is_sure: bool,
}

/// Counts a tenant's unfinished tasks: `most` at most, and no longer than `within`.
pub fn count(s: &Shared, tenant: &Tenant, tasks: &Table<Tasks>, most: i64, within: Duration) -> Count {
    let database = shmem::my_database();
    let sum = |of: fn(&Entry) -> u64| gauge::entries(s, database, tenant.oid).map(of).sum::<u64>();
    let corrections = gauge::first(s, database, tenant.oid).map_or(0, |e| e.corrections.load());
    let unknown = gauge::entries(s, database, tenant.oid).any(|e| e.counted.load() == 0);
    // In this order: equal sums say that nobody was between the two when the second was read.
    let left = sum(|e| e.left.load());
    let entered = sum(|e| e.entered.load());
    let gauge = gauge::entries(s, database, tenant.oid).map(|e| e.unfinished.load()).sum::<i64>() + wake::counted_here(s, tenant.oid);
    let began = Instant::now();
    let (rows, all, quiet) = transaction::with_latest_snapshot(|| {
        let quiet = left == entered && sum(|e| e.entered.load()) == entered;
        let mut rows = 0;
        let mut all = true;
        for state in Stored::UNFINISHED {
            let mut found = tasks.scan(&Tasks::PICK, &[Tasks::STATE.equals(state)]);
            while all && found.pass() {
                if rows % 256 == 255 {
                    pgrx::check_for_interrupts!();
                }
                all = rows < most && (rows % 256 != 255 || began.elapsed() < within);
                rows += i64::from(all);
            }
            if !all {
                break;
            }
        }
        (rows, all, quiet)
    });
    // Of more rows than anybody wants to count the first look says how many there are at least.
    let wrong = quiet && (all && rows != gauge || unknown && most == i64::MAX);
    Count { rows, gauge, correction: wrong.then_some(Correction { by: rows - gauge, after: corrections }), all, is_sure: all && quiet }
}

/// How many more unfinished tasks the tenant has room for. `Err`: it is full, and how many there are, not counted beyond
/// the limit. Where the gauge says so the rows themselves are asked: nobody is refused for what isn't there.
pub fn room(tenant: &Tenant, tasks: &Table<Tasks>, limit: i64) -> Result<i64, i64> {
    let Some(s) = shared::get() else { return Ok(i64::MAX) };
    let database = shmem::my_database();
    let known = gauge::entries(&s, database, tenant.oid).all(|e| e.counted.load() == 1);
    let sum = gauge::entries(&s, database, tenant.oid).map(|e| e.unfinished.load()).sum::<i64>();
    let room = limit - sum - wake::counted_here(&s, tenant.oid);
    // Below zero it misses something.
    if known && sum >= 0 && room > 0 {
        return Ok(room);
    }
    let found = count(&s, tenant, tasks, limit, Duration::MAX);
    if let Some(c) = found.correction
        && let Some(entry) = place(&s, tenant.oid)
    {
        // With the commit: what was counted may be this transaction's own doing.
        wake::corrected(entry, c);
    }
    if found.rows < limit { Ok(limit - found.rows) } else { Err(found.rows) }
}

/// A sweep's look. False: the gauge is wrong, but others kept committing.
pub fn sweep(s: &Shared, tenant: &Tenant, tasks: &Table<Tasks>) -> bool {
    /// Milliseconds that a sweep spends on one tenant's rows: no more are counted than that allows.
    const WITHIN: Duration = Duration::from_millis(100);
    const TRIES: usize = 5;
    let database = shmem::my_database();
    for _ in 0..TRIES {
        let found = count(s, tenant, tasks, i64::MAX, WITHIN);
        if found.rows > 0 && gauge::first(s, database, tenant.oid).is_none() {
            // It is to be seen in the views, if there is room.
            if s.entry_if_room(database, tenant.oid, tenant.owner).is_none() {
                return true;
            }
            continue;
        }
        if let Some(c) = found.correction {
            gauge::correct(s, database, tenant.oid, c);
        }
        if found.is_sure || !found.all || found.rows == found.gauge {
            return true;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    false
}
