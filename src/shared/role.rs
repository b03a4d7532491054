//! A role in a database: what executors belong to.

use crate::pure::atomics::Reset;
use crate::pure::atomics::{GaugeAt, GaugeU32, GaugeU64, HandshakeU32, HandshakeU64};
use crate::pure::heap::NONE;
use crate::shared::Shared;
use crate::shared::entry::{self, REMOVED};
use crate::shared_struct;

/// What stands for the role of tasks that no executor runs, because workers outside of the server do: no role has that OID.
pub const EXTERNAL: u32 = u32::MAX;

shared_struct! {
    /// A role in a database: what executors belong to.
    pub struct Role {
        pub in_use: HandshakeU32,
        pub database: HandshakeU32,
        pub role: GaugeU32,
        /// Ready entries that no living executor of the role has served; and how many are ready in all.
        pub heap_root: GaugeU32,
        pub heap_count: HandshakeU32,
        /// Bit per slot: an executor of the role lives there, and the ready entries it served last are in a heap of its own
        /// (`Header::own_heap`).
        pub own: GaugeU64,
        pub vtime: GaugeU64,
        /// Where a tenant that wakes starts: the virtual time last served.
        pub floor: GaugeU64,
        /// Executors, starting ones included.
        pub executors: HandshakeU32,
        pub starting: HandshakeU32,
        /// Bit per slot: it waits for its latch.
        pub idle: HandshakeU64,
        /// Starts failed: no further one before.
        pub start_after: GaugeAt,
        pub start_failures: GaugeU32,
        pub failing_since: GaugeAt,
        /// Executors that have ended, uncalled for, with work in their lists, since one of them came to the end of a task.
        pub ends: HandshakeU32,
        /// Batch size that its tenants' tasks were good for lately: where a newcomer starts.
        pub batch: GaugeU32,
        /// Since when it has work and no place; 0 = it doesn't wait.
        pub waiting_since: GaugeAt,
    }
}

impl Shared {
    /// The place of (database, role), made if there is none. Under `Lock::Registry`.
    pub fn role(&self, database: u32, role: u32) -> Option<usize> {
        let is = |i: usize| self.roles[i].role.load() == role && self.roles[i].database.load() == database;
        let (found, mut place) = entry::probe(self.role_hash, [database, role, 0], is);
        if let Some(i) = found {
            return Some(i);
        }
        let index = match self.roles.iter().position(|r| r.in_use.load() == 0) {
            Some(index) => index,
            None => {
                let index = self.unneeded_role()?;
                place = entry::probe(self.role_hash, [database, role, 0], is).1;
                index
            }
        };
        let r = &self.roles[index];
        r.reset();
        r.database.store(database);
        r.role.store(role);
        r.heap_root.store(NONE);
        r.in_use.store(1);
        self.role_hash[place].store(index as u32);
        Some(index)
    }

    /// Frees the place of a role that has neither work nor executors: dropped, say, or of a dropped database.
    pub fn unneeded_role(&self) -> Option<usize> {
        let needed: std::collections::HashSet<u32> =
            self.entries.iter().filter(|e| e.in_use.load() == 1).map(|e| e.role_index.load()).collect();
        let idle = |r: &Role| r.executors.load() == 0 && r.starting.load() == 0 && r.heap_count.load() == 0;
        let index = (0..self.roles.len()).find(|i| idle(&self.roles[*i]) && !needed.contains(&(*i as u32)))?;
        let r = &self.roles[index];
        let (_, place) = entry::probe(self.role_hash, [r.database.load(), r.role.load(), 0], |i| i == index);
        self.role_hash[place].store(REMOVED);
        Some(index)
    }
}
