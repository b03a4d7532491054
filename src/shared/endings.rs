//! What a transaction has to do with workers' claims: those that it has made, and those that it ends. A part of its notes (wake.rs).

use crate::postgres::error::{Error, Result};
use crate::postgres::sqlstate::SqlState;
use crate::pure::ids::Id;
use crate::pure::state::Outcome;
use crate::pure::time::At;
use crate::pure::word::{ClaimState, ClaimWord};
use crate::settings;
use crate::shared::claims::Over;
use crate::shared::counters::UncommittedFailure;
use crate::shared::entry::{EntryRef, tidy};
use crate::shared::slot::Item;
use crate::shared::wake::Pending;
use crate::shared::{self, Shared, ready, wake};

/// A claim that this transaction ends.
#[derive(Clone, Copy)]
pub struct Ending {
    /// Its place, and its word since then.
    pub place: u32,
    pub word: ClaimWord,
    /// The entry that it was taken from, and the one of the schema's owner.
    pub entry: u32,
    pub owners: Option<u32>,
    /// There is nothing of the task that this worker could end: the claim goes, whatever becomes of the transaction.
    pub is_lost: bool,
    /// What became of the attempt; None: it is no end of one, the task is simply not the worker's any more.
    pub outcome: Option<Outcome>,
}

/// A task that this transaction has claimed for itself alone (tq_drain_take): nobody else hears of it, and with the transaction, or
/// the savepoint, the claim is gone.
#[derive(Clone, Copy)]
pub struct Drained {
    pub claim: Id,
    pub tenant: u32,
    /// The role that has claimed it.
    pub role: u32,
    pub item: Item,
    pub started_at: At,
}

/// Claims of a transaction, or of a part of it.
#[derive(Default)]
pub struct Endings {
    /// Those that it has made: without a commit nobody knows of them.
    pub taken: Vec<(u32, ClaimWord)>,
    pub ends: Vec<Ending>,
    pub drained: Vec<Drained>,
    /// What workers have said of attempts that failed.
    pub failures: Vec<UncommittedFailure>,
    /// Those of `drained` that have been ended.
    pub drained_over: Vec<Id>,
}

impl Endings {
    /// Whether it has to do with nobody's claims but its own.
    pub fn is_empty(&self) -> bool {
        self.taken.is_empty() && self.ends.is_empty()
    }
    pub fn absorb(&mut self, later: Endings) {
        self.taken.extend(later.taken);
        self.ends.extend(later.ends);
        self.drained.extend(later.drained);
        self.failures.extend(later.failures);
        self.drained_over.extend(later.drained_over);
    }
    pub fn carry_out(&self, s: &Shared) {
        self.ends.iter().for_each(|ending| end_claim(s, ending));
        self.failures.iter().for_each(|failure| failure.count(s));
    }
    /// What was said of claims is not so: what was taken goes back, and what was ended is the worker's again.
    pub fn take_back(&self) {
        let Some(s) = shared::get() else { return };
        for (place, word) in &self.taken {
            let claim = &s.claims[*place as usize];
            if claim.load() == *word {
                s.revoke(claim);
            }
        }
        for ending in &self.ends {
            let claim = &s.claims[ending.place as usize];
            claim.finishing_ns.store(0);
            let back = claim.change(ending.word, ClaimState::Taken);
            // Whoever took it may have gone meanwhile, and has left it to us.
            let lives = s.takers[claim.taker.load() as usize].pid.load() == claim.pid.load();
            if back.is_some() && (!lives || ending.is_lost) {
                s.revoke(claim);
            }
        }
    }
}

/// It ends, whatever else becomes of its task.
fn end_claim(s: &Shared, ending: &Ending) {
    let claim = &s.claims[ending.place as usize];
    let over = Over::of(claim);
    if claim.change(ending.word, ClaimState::Free).is_none() {
        return;
    }
    s.claim_is_over(&over);
    let entry = &s.entries[ending.entry as usize];
    entry.count(ending.outcome);
    if ending.outcome.is_some() {
        s.acquit_lone(over.tenant, over.item.id, over.item.created_at);
    }
    if ending.outcome == Some(Outcome::Retry) {
        entry.retried.fetch_add(1);
    }
    if ending.outcome.is_none() {
        // Its row is as it was, and was passed by because it was claimed.
        ready::wake(s, ending.entry, At::LOWEST);
    } else if let Some(owners) = ending.owners
        && settings::retention_every() > 0
        && entry.finished_since_retention.load() >= settings::retention_every()
    {
        // An executor of the owner's takes old results away.
        s.entries[owners as usize].tidy.fetch_or(tidy::RESULTS);
        ready::wake(s, owners, At::NEVER);
    }
}

/// An attempt has failed, as its worker says.
pub fn failed(failure: UncommittedFailure) {
    wake::note(|n| n.claims.failures.push(failure));
}

/// A worker's task can't run any more, and is an executor's to end. The entry is that of the schema's owner.
pub fn untakeable(entry: EntryRef) {
    wake::note(|n| n.pending(entry).untakeable = true);
}

/// A worker's task may expire at `at`, which is an executor's to see to. The entry is that of the schema's owner.
pub fn expires(entry: EntryRef, at: At) {
    wake::note(|n| {
        let p = n.pending(entry);
        p.expires = p.expires.min(at);
    });
}

/// Has an executor look after workers' tasks that none of them may take, now or when they expire.
pub fn look_after(s: &Shared, pending: &Pending) {
    let index = pending.entry.index;
    if pending.untakeable {
        s.entries[index as usize].tidy.fetch_or(tidy::ROWS);
        ready::wake(s, index, At::NEVER);
    }
    if pending.expires != At::NEVER {
        ready::tidy_at(s, index, pending.expires);
    }
}

/// Claims are of this life of the server, and of a session's: no transaction that outlives both may decide about one.
pub fn refuse_to_prepare() -> Result<()> {
    Err(Error::new(SqlState::FEATURE_NOT_SUPPORTED, "a transaction that has ended a worker's task can't be prepared")
        .hint("COMMIT it, or ROLLBACK and end the task in a transaction of its own."))
}
