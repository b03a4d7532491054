//! The work of one tenant under one role: an entry, where it is found, and how its place is given to another.
//!
//! An enqueuing transaction pins its entry; everybody else comes by a reference, which is checked.

use crate::postgres::lwlock::Lock;
use crate::postgres::{clock, shmem};
use crate::pure::atomics::Reset;
use crate::pure::atomics::{
    GaugeAt, GaugeI32, GaugeI64, GaugeId, GaugeSpan, GaugeU32, GaugeU64, HandshakeAt, HandshakeI64, HandshakeU32, HandshakeU64, One,
};
use crate::pure::shares::Owner;
use crate::pure::state::Outcome;
use crate::pure::time::At;
use crate::pure::word::SlotState;
use crate::pure::word::Unpark;
use crate::shared::NONE;
use crate::shared::Shared;
use crate::shared::role::EXTERNAL;
use crate::shared::{ready, share};
use crate::shared_struct;

/// `Entry::tidy`.
pub mod tidy {
    /// Some may wait, or have ended, in which nobody but an executor can do something.
    pub const ROWS: u32 = 1;
    /// So many have ended that old results are to be looked at.
    pub const RESULTS: u32 = 2;
}

/// Priorities of one tenant whose scan position is remembered.
pub const CURSORS: usize = 4;

/// Tasks of one tenant and role that aren't started again for a while: see cooldown.rs.
pub const COOLDOWNS: usize = 8;

shared_struct! {
    /// The work of one tenant under one role.
    pub struct Entry {
        pub in_use: HandshakeU32,
        pub database: HandshakeU32,
        pub tenant: HandshakeU32,
        pub role: GaugeU32,
        pub role_index: GaugeU32,
        /// What an executor has to do about tasks of workers outside of the server (entries of the owner's role): bits of `tidy`.
        pub tidy: HandshakeU32,
        /// When the first of those that wait for a worker may expire, which it has to see to (entries of the owner's role).
        pub tidy_at: HandshakeAt,
        /// Changes when the place is given to another key.
        pub stamp: HandshakeU32,
        /// Of workers' tasks: how many such had been made by then, this one included.
        pub made: HandshakeU32,
        /// Enqueuing transactions for which this entry is to stay.
        pub pins: HandshakeU32,
        /// The slot + 1 that is picking here.
        pub picker: HandshakeU32,
        /// Bumped by every wake. Ready means: not equal to `seen`.
        pub generation: HandshakeU64,
        /// The generation that the last exhaustive pick had read before it looked.
        pub seen: HandshakeU64,
        /// Least run_at enqueued since the last pick: lowers the cursors.
        pub low_key: HandshakeAt,
        /// When the next row here comes due: may be too early, never too late.
        pub next_due: HandshakeAt,
        /// When the next schedule of this tenant comes due (entries of the owner's role).
        pub schedule_due: HandshakeAt,
        /// No schedule is due before that: ticks begin there, so that they don't walk over the dead rows
        /// of all ticks before. Whoever announces a schedule lowers it; see ready::schedule_due.
        pub schedule_low: HandshakeAt,
        /// When the last tick has looked at all of them.
        pub schedule_full: GaugeAt,
        /// The whole tenant is left alone until then, for `blocked_reason`.
        pub blocked_until: HandshakeAt,
        pub blocked_since: GaugeAt,
        pub blocked_delay: GaugeSpan,
        pub blocked_reason: One<crate::shared::blocked::Reason>,
        /// Rows were left because of the tenant's limit: wake when one of its tasks ends.
        pub limited: HandshakeU32,
        /// Whether parked rows should be looked at again.
        pub unpark: One<Unpark>,
        /// How often that was asked for: tells whether it was meanwhile.
        pub unparks: HandshakeU64,
        pub unpark_at: HandshakeAt,
        pub vtime: GaugeU64,
        /// Charged while the entry was in the heap; added when it leaves.
        pub debt: GaugeU64,
        pub weight: GaugeU32,
        pub heap_in: GaugeU32,
        /// The slot + 1 of the executor that served it last: see `Role::own`.
        pub served_by: GaugeU32,
        /// What workers have taken of it and not ended, and the sum of when (monotonic ns, wrapping).
        pub claims: HandshakeU32,
        pub claims_since: HandshakeU64,
        pub heap_child: GaugeU32,
        pub heap_next: GaugeU32,
        pub batch: GaugeU32,
        /// The source (waits/turn.rs) that was served last.
        pub turn: GaugeU64,
        pub cursor_source: [GaugeU64; CURSORS],
        pub cursor_priority: [GaugeI32; CURSORS],
        pub cursor_set: [GaugeU32; CURSORS],
        pub cursor_time: [GaugeAt; CURSORS],
        pub cursor_id: [GaugeId; CURSORS],
        pub cooldown_id: [GaugeId; COOLDOWNS],
        pub cooldown_until: [GaugeAt; COOLDOWNS],
        pub cooldown_delay: [GaugeSpan; COOLDOWNS],
        /// How often, one after the other, an executor ended while it ran the task.
        pub cooldown_ends: [GaugeU32; COOLDOWNS],
        /// This entry's part of its tenant's gauge of unfinished tasks, perhaps below zero: see gauge.rs.
        pub unfinished: HandshakeI64,
        /// It says something: the tenant's rows were counted since the server began.
        pub counted: HandshakeU32,
        /// Transactions that were about to commit an addition, and those that have added it, or have not.
        pub entered: HandshakeU64,
        pub left: HandshakeU64,
        pub corrections: HandshakeU64,
        /// Since when the first of what could be picked has waited; unset: nothing is known to.
        pub oldest_due: GaugeAt,
        pub done: GaugeU64,
        pub failed: GaugeU64,
        pub retried: GaugeU64,
        pub finished_since_retention: GaugeU64,
        /// Where the next retention pass goes on: behind this end, or this id.
        pub retention_from: GaugeAt,
        pub retention_from_id: GaugeId,
        /// When the last task ended that says itself how long its result stays; unset: nobody has listened for it yet.
        pub brief_until: GaugeAt,
        pub minute: GaugeI64,
        pub done_this_minute: GaugeU64,
        pub done_last_minute: GaugeU64,
        pub failed_this_minute: GaugeU64,
        pub failed_last_minute: GaugeU64,
    }
}

/// What a task that a worker takes counts at least, in its tenant's turn.
const LEAST_TIME: u64 = 1_000_000;

impl Entry {
    /// A worker has taken one of its tasks.
    pub fn claimed(&self, at_ns: u64) {
        self.claims_since.fetch_add(at_ns);
        self.claims.fetch_add(1);
    }
    pub fn no_longer_claimed(&self, at_ns: u64) {
        // The place may be another tenant's by now.
        if self.claims.fetch_update(|n| n.checked_sub(1)).is_ok() {
            self.claims_since.fetch_sub(at_ns);
        }
    }
    /// The time that it has used, with what workers have at hand: that is charged when it ends.
    pub fn time_used(&self, now_ns: u64) -> u64 {
        let claims = u64::from(self.claims.load());
        let mut used = self.vtime.load();
        if claims > 0 {
            // The two are written one after the other: between them the sum is of one more or less.
            let at_hand = (claims * (now_ns + LEAST_TIME)).wrapping_sub(self.claims_since.load()) as i64;
            used = used.saturating_add(at_hand.max(0) as u64 / u64::from(self.weight.load().max(1)));
        }
        used
    }

    /// An attempt has come to this; None: to nothing that is counted.
    pub fn count(&self, outcome: Option<Outcome>) {
        let minute = clock::now().minute();
        if self.minute.swap(minute) != minute {
            self.done_last_minute.store(self.done_this_minute.swap(0));
            self.failed_last_minute.store(self.failed_this_minute.swap(0));
        }
        match outcome {
            Some(Outcome::Done) => {
                self.done.fetch_add(1);
                self.done_this_minute.fetch_add(1);
                self.finished_since_retention.fetch_add(1);
            }
            Some(Outcome::Failed) => {
                self.failed.fetch_add(1);
                self.failed_this_minute.fetch_add(1);
                self.finished_since_retention.fetch_add(1);
            }
            _ => {}
        }
    }
}

/// A tenant's entry, with the stamp that tells whether the place still is its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EntryRef {
    pub index: u32,
    pub stamp: u32,
}

pub fn hash_of(parts: [u32; 3]) -> usize {
    let mut h = 0xcbf2_9ce4_8422_2325u64;
    for p in parts {
        h = (h ^ p as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
    }
    (h ^ (h >> 32)) as usize
}

/// What stands in a table where something was.
pub const REMOVED: u32 = NONE - 1;

/// Linear probing; entries are never moved, a removed one leaves a mark that stops no search.
pub fn probe(table: &[HandshakeU32], parts: [u32; 3], is: impl Fn(usize) -> bool) -> (Option<usize>, usize) {
    let mut at = hash_of(parts) % table.len();
    let mut free = None;
    for _ in 0..table.len() {
        match table[at].load() {
            NONE => return (None, free.unwrap_or(at)),
            REMOVED => free = free.or(Some(at)),
            index if is(index as usize) => return (Some(index as usize), at),
            _ => {}
        }
        at = (at + 1) % table.len();
    }
    (None, free.unwrap_or(at))
}

/// Where the search for a tenant's entries begins: those of all its roles lie together.
pub fn tenant_key(database: u32, tenant: u32) -> [u32; 3] {
    [database, tenant, 0]
}

impl Shared {
    /// All entries of a tenant, one for each role, without a lock: one that is just being made may be missed.
    pub fn entries_of(&self, database: u32, tenant: u32) -> impl Iterator<Item = u32> {
        let hash = self.entry_hash;
        let entries = self.entries;
        let begin = hash_of(tenant_key(database, tenant)) % hash.len();
        (0..hash.len()).map(move |n| hash[(begin + n) % hash.len()].load()).take_while(|i| *i != NONE).filter(move |i| {
            entries.get(*i as usize).is_some_and(|e| e.tenant.load() == tenant && e.database.load() == database && e.in_use.load() == 1)
        })
    }

    /// Whether there are, or were, tasks of the tenant for workers outside of the server.
    pub fn has_external(&self, database: u32, tenant: u32) -> bool {
        self.entries_of(database, tenant).any(|index| self.entries[index as usize].role.load() == EXTERNAL)
    }

    /// The entry of (database, tenant, role), made if there is none. None: the table is full of entries that are needed.
    /// Whatever there is to do is left to a sweep then; the caller orders it (`seek_at`), after its commit.
    pub fn entry(&self, database: u32, tenant: u32, role: u32) -> Option<EntryRef> {
        let made = self.entry_at_cost(database, tenant, role, true);
        if made.is_none() {
            self.header.pressure[share::Kind::Entries as usize].note(Owner::new(database, tenant), crate::postgres::clock::now());
            let most = self.entries.len() as u32 / 2;
            let _ = self.header.newcomers.fetch_update(|n| (n < most).then_some(n + 1));
        }
        made
    }

    /// The same for work that is not due yet: nobody's entry goes for it that has something to do, ever.
    pub fn entry_if_room(&self, database: u32, tenant: u32, role: u32) -> Option<EntryRef> {
        self.entry_at_cost(database, tenant, role, false)
    }

    fn entry_at_cost(&self, database: u32, tenant: u32, role: u32, evict_due: bool) -> Option<EntryRef> {
        let is = |i: usize| {
            let entry = &self.entries[i];
            entry.tenant.load() == tenant && entry.role.load() == role && entry.database.load() == database && entry.in_use.load() == 1
        };
        let key = tenant_key(database, tenant);
        {
            let _guard = Lock::Registry.shared();
            if let (Some(i), _) = probe(self.entry_hash, key, is) {
                return Some(self.reference(i));
            }
        }
        let _guard = Lock::Registry.exclusive();
        let (found, mut place) = probe(self.entry_hash, key, is);
        if let Some(i) = found {
            return Some(self.reference(i));
        }
        let role_index = self.role(database, role)?;
        let index = match self.entries.iter().position(|entry| entry.in_use.load() == 0) {
            Some(i) => i,
            None => {
                let i = self.evict(evict_due)?;
                place = probe(self.entry_hash, key, is).1;
                i
            }
        };
        let entry = &self.entries[index];
        let stamp = entry.stamp.load();
        entry.reset();
        entry.stamp.store(stamp.wrapping_add(1));
        entry.database.store(database);
        entry.tenant.store(tenant);
        entry.role.store(role);
        entry.role_index.store(role_index as u32);
        // Nothing is known to come due.
        for time in [&entry.low_key, &entry.next_due, &entry.schedule_due, &entry.tidy_at] {
            time.store(At::NEVER);
        }
        entry.schedule_low.store(ready::BEGINNING);
        entry.weight.store(1);
        entry.batch.store(1);
        entry.heap_child.store(NONE);
        entry.heap_next.store(NONE);
        // Once all tenants have been looked at, one that has no entry has nothing unfinished; unless there was no room.
        let swept = self.db(database).is_some_and(|db| db.swept_at.load() > At::UNSET);
        let room = self.header.evictions.load() == 0 && self.header.pressure[share::Kind::Entries as usize].lost.load() == 0;
        entry.counted.store(u32::from(swept && room));
        entry.in_use.store(1);
        self.entry_hash[place].store(index as u32);
        if role == EXTERNAL {
            entry.made.store(self.header.external_entries.fetch_add(1) + 1);
        }
        Some(self.reference(index))
    }

    pub fn reference(&self, index: usize) -> EntryRef {
        EntryRef { index: index as u32, stamp: self.entries[index].stamp.load() }
    }
    pub fn at(&self, r: EntryRef) -> Option<&'static Entry> {
        let e = &self.entries[r.index as usize];
        (e.in_use.load() == 1 && e.stamp.load() == r.stamp).then_some(e)
    }

    /// Frees an entry that nothing hangs on; a sweep finds it again when it has something to do. `due`: also one that
    /// will have, some time. Under `Lock::Registry`.
    ///
    /// Whoever wakes an entry takes no lock, so it may be woken while it is looked at here: it is looked at again once
    /// nobody finds it any more. Who has woken it by then is seen; who wakes it later takes what comes due off it later
    /// still (launcher, ticks), so `at`, read in between, has it; and who came by a reference finds it gone (`reach`).
    /// Test: attack/shared.rs, a_tenant_whose_schedules_are_served_keeps_its_place.
    fn evict(&self, due: bool) -> Option<usize> {
        let now = clock::now();
        // What is taken off one while its schedules are served is put back.
        let is_ticking =
            |entry: &Entry| self.dbs.iter().map(|d| d.ticking.load()).any(|t| t > 0 && std::ptr::eq(&self.entries[t as usize - 1], entry));
        let idle = |entry: &Entry| {
            entry.pins.load() == 0
                && !is_ticking(entry)
                && entry.picker.load() == 0
                && entry.heap_in.load() == 0
                && entry.generation.load() == entry.seen.load()
                && entry.cooldown_until.iter().all(|h| h.load() <= now)
                && entry.blocked_until.load() == At::UNSET
                && !self.slots.iter().any(|s| s.state.load() != SlotState::Free && s.tenant.load() == entry.tenant.load())
                && !self.used_claims().iter().any(|claim| claim.is_live() && claim.tenant.load() == entry.tenant.load())
        };
        let next = |entry: &Entry| entry.next_due.load().min(entry.schedule_due.load());
        // Entries with nothing due at all first; then those whose next work is far away.
        let index = self.entries.iter().position(|entry| idle(entry) && next(entry) == At::NEVER).or_else(|| {
            (0..self.entries.len()).filter(|_| due).filter(|i| idle(&self.entries[*i])).max_by_key(|i| next(&self.entries[*i]))
        })?;
        let entry = &self.entries[index];
        // What is ready goes into heaps under it, by links in the entries: not meanwhile. Executors wait for it, so not for
        // the search.
        let ready = Lock::Ready.exclusive();
        entry.in_use.store(0);
        let at = next(entry);
        if !idle(entry) || (at != At::NEVER && !due) {
            entry.in_use.store(1);
            return None;
        }
        drop(ready);
        let database = entry.database.load();
        let (_, place) = probe(self.entry_hash, tenant_key(database, entry.tenant.load()), |i| i == index);
        self.entry_hash[place].store(REMOVED);
        self.header.evictions.fetch_add(1);
        if at != At::NEVER
            && let Some(db) = self.db(database)
        {
            self.seek_at(db, at);
        }
        Some(index)
    }

    /// Tells the entry something, by its place. That may be another tenant's by then, whom it does no harm; then a sweep finds
    /// what it was about.
    pub fn reach(&self, entry: EntryRef, tell: impl FnOnce(u32)) {
        tell(entry.index);
        if self.at(entry).is_none()
            && let Some(db) = self.db(shmem::my_database())
        {
            self.seek_at(db, clock::now());
        }
    }
}
