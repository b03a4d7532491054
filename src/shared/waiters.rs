//! Who waits for the end of a task or of a group's tasks, and how they are called.

use crate::postgres::{latch, shmem, transaction};
use crate::pure::atomics::{HandshakeId, HandshakeU32, HandshakeU64};
use crate::pure::ids::Id;
use crate::shared::{Shared, slot, wake};
use crate::shared_struct;
use std::cell::RefCell;
use std::time::Duration;

/// So long a waiter sleeps that isn't called: some ends nobody tells of, as when a row is deleted by hand, or by retention.
/// One for whom there is no place is never called.
pub fn pause(waiting: &Option<Waiting>) -> Duration {
    if waiting.is_some() { Duration::from_secs(5) } else { Duration::from_millis(200) }
}

/// What waiters of a group are called by: never 0. Two groups may share one; a call too many costs
/// one look.
pub fn mark(schema: u32, group: &str) -> u64 {
    use std::hash::{Hash, Hasher};
    // Its keys are fixed: every process gets the same.
    let mut hasher = std::collections::hash_map::DefaultHasher::new();
    (shmem::my_database(), schema, group).hash(&mut hasher);
    hasher.finish() | 1
}

/// Says of a task that it is final, whichever way it ended. With the commit of this transaction whoever waits for it, or for
/// one of its group, is called; the only place that says it is the one that every end goes through (work/complete.rs).
pub fn ended(schema: u32, id: Id, group: Option<&str>) {
    wake::finished(id);
    if let Some(group) = group {
        label_gone(schema, group);
    }
}

/// Who waits for this group looks again, after the commit: it has one member more that is final, or less.
pub fn label_gone(schema: u32, group: &str) {
    wake::finished_group(mark(schema, group));
}

thread_local! {
    /// Ends that this executor has committed, and told nobody of.
    static UNTOLD: RefCell<Untold> = RefCell::default();
}

#[derive(Default)]
struct Untold {
    ids: Vec<Id>,
    groups: Vec<u64>,
}

/// After the commit. Nobody who comes to wait from now on needs to be called: who has looked before has its place by now.
pub fn committed(s: &Shared, ids: &[Id], groups: &[u64]) {
    if s.header.waiters.load() == 0 {
        return;
    }
    if slot::my_slot().is_some() {
        // An executor's commits aren't durable yet, and nobody hears of what a crash may take back.
        return UNTOLD.with_borrow_mut(|untold| {
            untold.ids.extend(ids);
            untold.groups.extend(groups);
        });
    }
    call(s, ids, groups);
}

/// In an executor, between two transactions.
pub fn tell(s: &Shared) {
    let untold = UNTOLD.with_borrow_mut(|untold| (!(untold.ids.is_empty() && untold.groups.is_empty())).then(|| std::mem::take(untold)));
    if let Some(untold) = untold {
        transaction::flush_commits();
        call(s, &untold.ids, &untold.groups);
    }
}

fn call(s: &Shared, ids: &[Id], groups: &[u64]) {
    for w in s.waiting() {
        let id = w.id.load();
        let proc = w.proc.load();
        if proc > 0 && (ids.contains(&id) || groups.contains(&w.group.load())) {
            latch::wake(proc - 1);
        }
    }
}

/// Whoever waits for anything looks again.
pub fn call_all(s: &Shared) {
    for proc in s.waiting().iter().map(|w| w.proc.load()).filter(|proc| *proc > 0) {
        latch::wake(proc - 1);
    }
}

/// A place among those who wait for tasks; free again when dropped.
pub(crate) struct Waiting {
    place: &'static Waiter,
    s: Shared,
}

impl Waiting {
    pub fn for_task(s: Shared, id: Id) -> Option<Waiting> {
        Self::for_any(s, id, 0)
    }
    /// For a task, or with `group` for the next end of a member of that group.
    pub(crate) fn for_any(s: Shared, id: Id, group: u64) -> Option<Waiting> {
        let me = latch::my_procno() + 1;
        // A place for every session that there can be: only who died in it is in the way.
        for clean in [false, true] {
            for (n, place) in s.waiters.iter().enumerate() {
                let owner = place.pid.load();
                if clean && owner != 0 && !crate::postgres::worker::is_alive(owner) {
                    if place.proc.swap(0) != 0 {
                        s.header.waiters.fetch_sub(1);
                    }
                    let _ = place.pid.compare_exchange(owner, 0);
                }
                if place.pid.compare_exchange(0, shmem::my_pid()).is_err() {
                    continue;
                }
                s.header.waiters_end.fetch_max(n as u32 + 1);
                place.id.store(id);
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

shared_struct! {
    /// Somebody waits for a task's end.
    pub struct Waiter {
        /// Process number + 1; 0 = free.
        pub proc: HandshakeU32,
        pub pid: HandshakeU32,
        pub id: HandshakeId,
        /// 0 = for one task; else the mark of a group (waiters.rs), any of whose members may end.
        pub group: HandshakeU64,
    }
}
