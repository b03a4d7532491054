//! Who waits for the end of a task or of a group's tasks, and how they are called.

use crate::postgres::{latch, shmem, transaction};
use crate::shared::{self, Shared, wake};

/// What waiters of a group are called by: never 0. Two groups may share one; a call too many costs
/// one look.
pub fn mark(schema: u32, group: &str) -> u64 {
    use std::hash::{Hash, Hasher};
    // Its keys are fixed: every process gets the same.
    let mut hasher = std::collections::hash_map::DefaultHasher::new();
    (shmem::my_database(), schema, group).hash(&mut hasher);
    hasher.finish() | 1
}

/// A task of this group has ended: whoever waits for the group may look.
pub fn announce(s: &Shared, schema: u32, group: Option<&str>) {
    if let Some(group) = group
        && s.header.waiters.load() > 0
    {
        transaction::flush_commits();
        wake::announce_group(s, mark(schema, group));
    }
}

/// The same, after this transaction's commit.
pub fn finished(schema: u32, group: Option<&str>) {
    if let Some(group) = group {
        wake::finished_group(mark(schema, group));
    }
}

/// A place among those who wait for tasks; free again when dropped.
pub(crate) struct Waiting {
    place: &'static shared::Waiter,
    s: Shared,
}

impl Waiting {
    pub fn for_task(s: Shared, id: u128) -> Option<Waiting> {
        Self::for_any(s, id, 0)
    }
    /// For a task, or with `group` for the next end of a member of that group.
    pub(crate) fn for_any(s: Shared, id: u128, group: u64) -> Option<Waiting> {
        let me = latch::my_procno() + 1;
        // A place for every session that there can be: only who died in it is in the way.
        for clean in [false, true] {
            for (n, place) in s.waiters.iter().enumerate() {
                let holder = place.pid.load();
                if clean && holder != 0 && !crate::postgres::worker::is_alive(holder) {
                    if place.proc.swap(0) != 0 {
                        s.header.waiters.fetch_sub(1);
                    }
                    let _ = place.pid.compare_exchange(holder, 0);
                }
                if place.pid.compare_exchange(0, shmem::my_pid()).is_err() {
                    continue;
                }
                s.header.waiters_end.fetch_max(n as u32 + 1);
                place.id_high.store((id >> 64) as u64);
                place.id_low.store(id as u64);
                place.group.store(group);
                place.proc.store(me);
                s.header.waiters.fetch_add(1);
                return Some(Waiting { place, s });
            }
        }
        None
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.place.proc.store(0);
        self.s.header.waiters.fetch_sub(1);
        self.place.pid.store(0);
    }
}
