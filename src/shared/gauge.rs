//! The gauge of a tenant's unfinished tasks: what `tq_tenants` shows and `max_queued` is held against without
//! counting rows.
//!
//! It is the sum over the tenant's entries, any of which may be below zero. Every row of a task that the engine
//! inserts, deletes or turns into a note is counted where it is written (`Tally`), and the sum of a transaction
//! is added after its commit. What the owner does to the rows, a DELETE or TRUNCATE or a plain INSERT, is not
//! seen: then a sweep, or whoever would be refused for `max_queued`, counts the rows and corrects the gauge.
//!
//! A count is of one snapshot, while others commit. What committed before the snapshot must be in the gauge that
//! the count is compared with, what commits later is added anyway. So the gauge is read first, then the snapshot
//! is taken, and the correction is the difference between the two; it is known to be right if no transaction was
//! between its decision to commit and its addition meanwhile: `entered` counts the ones, `left` the others.

use crate::shared::Shared;
use crate::shared::entry::Entry;

/// What a gauge was found to be wrong by. It holds as long as nobody else has corrected it.
#[derive(Clone, Copy)]
pub struct Correction {
    pub by: i64,
    /// How many corrections there had been.
    pub after: u64,
}

impl Correction {
    /// The later one was found with the earlier one in mind.
    pub fn both(earlier: Option<Correction>, later: Option<Correction>) -> Option<Correction> {
        match (earlier, later) {
            (Some(a), Some(b)) => Some(Correction { by: a.by + b.by, after: a.after }),
            (a, b) => a.or(b),
        }
    }
}

/// Unfinished tasks of the tenant that these are all entries of, as far as is known.
pub fn unfinished(entries: &[&Entry]) -> i64 {
    entries.iter().map(|e| e.unfinished.load()).sum::<i64>().max(0)
}

/// After the commit of a transaction that has added so many. Atomics only.
pub fn add(s: &Shared, e: &Entry, added: i64, correction: Option<Correction>) {
    if added != 0 {
        e.unfinished.fetch_add(added);
    }
    if let Some(c) = correction {
        correct(s, e.database.load(), e.tenant.load(), c);
    }
}

pub fn entries(s: &Shared, database: u32, tenant: u32) -> impl Iterator<Item = &'static Entry> {
    let all = s.entries;
    s.entries_of(database, tenant).map(|i| &all[i as usize])
}

/// The entry that counts the corrections of its tenant.
pub fn first(s: &Shared, database: u32, tenant: u32) -> Option<&'static Entry> {
    s.entries_of(database, tenant).min().map(|i| &s.entries[i as usize])
}

pub fn correct(s: &Shared, database: u32, tenant: u32, c: Correction) {
    if let Some(first) = first(s, database, tenant)
        && first.corrections.compare_exchange(c.after, c.after + 1).is_ok()
    {
        first.unfinished.fetch_add(c.by);
        entries(s, database, tenant).for_each(|e| e.counted.store(1));
    }
}
