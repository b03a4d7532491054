//! An executor: an ordinary session of the role its tasks run as, pooled and re-used. There is
//! nothing privileged in it to escape to.
//!
//! Loop: whose turn is it (ready) → pick a batch → run each task in its own transaction → charge
//! the time → again; leave when idle for long, or when a waiting role is behind this one.

mod batch;
mod leave;
mod set_up;

use crate::postgres::{clock, interrupt, memory, session, shmem, transaction, worker};
use crate::pure::word::{SlotState, Word};
use crate::settings;
use crate::shared::database::db_state;
use crate::shared::slot::{self, Slot};
use crate::shared::wakes::{Reason, Sleeper, Turn};
use crate::shared::{Shared, culprits, ready, waiters};
use crate::tenant::Tenant;
use crate::work::poison;
use batch::Worked;
pub use set_up::main;
use std::rc::Rc;

/// How often an executor looks how much memory it holds: the look is three system calls.
const WEIGHED_EVERY: std::time::Duration = std::time::Duration::from_millis(100);
/// And after so many batches: each may be of another tenant, which costs 25 kB.
const WEIGHED_AT_LEAST: u32 = 64;

struct Executor {
    shared: Shared,
    place: usize,
    slot: &'static Slot,
    role_index: usize,
    /// Whose base settings the session has.
    tenant: Option<(u64, Rc<Tenant>)>,
    memory: worker::TurnMemory,
    flushed: std::time::Instant,
    weighed: std::time::Instant,
    /// Batches since then.
    unweighed: u32,
    /// Settings that the present tenant has set.
    based: Vec<String>,
}

impl Executor {
    fn new(shared: Shared, place: usize, role_index: usize) -> Executor {
        Executor {
            shared,
            place,
            slot: &shared.slots[place],
            role_index,
            tenant: None,
            memory: worker::TurnMemory::new(),
            flushed: clock::steady(),
            weighed: clock::steady(),
            unweighed: 0,
            based: Vec::new(),
        }
    }

    fn work(&mut self) {
        let role = &self.shared.roles[self.role_index];
        let mut sleeper = Sleeper::new(self.shared.executor_wakes(self.place));
        let mut idle_since = clock::steady();
        loop {
            self.memory.enter();
            interrupt::heed();
            let mut turn = Turn::begin();
            if worker::take_reload() {
                sleeper.start_over();
                turn.did(Reason::Call);
            }
            if self.must_leave() {
                return;
            }
            poison::settle(&self.shared, shmem::my_database());
            waiters::tell(&self.shared);
            if let Some(index) = self.next_entry() {
                sleeper.about(index);
                let worked = self.batch(index);
                waiters::tell(&self.shared);
                culprits::end_alone(&self.shared, self.place);
                match worked {
                    Worked::Something => {
                        turn.did(Reason::More);
                        idle_since = clock::steady();
                    }
                    Worked::Nothing => {}
                    Worked::Procedure => return,
                }
                if self.has_grown() {
                    transaction::flush_commits();
                    return;
                }
                turn.at_once(Reason::More);
                let sleep = sleeper.plan(&turn);
                if sleep.is_none() {
                    sleeper.sleep(sleep);
                } else {
                    // One entry is looked at again and again, in vain: others' work may call meanwhile.
                    role.idle.fetch_or(1 << self.place);
                    sleeper.sleep(sleep);
                    role.idle.fetch_and(!(1 << self.place));
                }
                continue;
            }
            transaction::flush_commits();
            if self.idles_heavy() {
                return;
            }
            let idle = settings::executor_idle();
            let waited = idle_since.elapsed();
            if waited >= idle || (self.shared.header.waiting_roles.load() > 0 && role.heap_count.load() == 0) {
                return;
            }
            self.wait_for_lists(&mut turn);
            role.idle.fetch_or(1 << self.place);
            if role.heap_count.load() == 0 && !self.shared.any_dirty() {
                turn.after(Reason::Idle, idle - waited);
            } else {
                turn.at_once(Reason::More);
            }
            let sleep = sleeper.plan(&turn);
            if !sleep.is_none() {
                session::report_activity(None);
                session::report_statistics(false);
            }
            sleeper.sleep(sleep);
            role.idle.fetch_and(!(1 << self.place));
        }
    }

    /// Whether it holds more memory than it may: what its session keeps of every tenant's tables is given back by
    /// leaving. The next one is started as for any role with work.
    fn has_grown(&mut self) -> bool {
        self.unweighed += 1;
        (self.weighed.elapsed() >= WEIGHED_EVERY || self.unweighed >= WEIGHED_AT_LEAST) && self.is_heavy()
    }

    /// The same before it idles: a fast one may have touched many tenants since it was weighed.
    fn idles_heavy(&mut self) -> bool {
        self.unweighed >= WEIGHED_AT_LEAST / 4 && self.is_heavy()
    }

    fn is_heavy(&mut self) -> bool {
        self.weighed = clock::steady();
        self.unweighed = 0;
        memory::exceeds(settings::executor_memory())
    }

    /// Lists behind long tasks: those of this role are taken over when their time has come; for the others' sake
    /// the launcher may want this place.
    fn wait_for_lists(&self, turn: &mut Turn) {
        let mut of_others = false;
        for slot in self.shared.slots {
            let (since, word) = (slot.busy_since.load(), Word::load(slot));
            if slot.state.load() != SlotState::Working || since == 0 || word.next >= word.end {
                continue;
            }
            if slot.role_index.load() as usize == self.role_index {
                turn.at_ns(Reason::Stuck, since + slot::TAKE_OVER_AFTER.as_nanos() as u64);
            } else {
                of_others = true;
            }
        }
        if of_others {
            self.shared.call_launcher();
        }
    }

    fn must_leave(&self) -> bool {
        if !settings::enabled() || self.slot.leave.load() != 0 {
            return true;
        }
        let db = self.shared.db(self.slot.database.load());
        db.is_none_or(|d| d.state.load() != db_state::SERVED || d.is_away()) || ready::should_leave(&self.shared, self.role_index)
    }

    /// Whose turn it is; else a list that is stuck behind a long task.
    fn next_entry(&self) -> Option<u32> {
        // The stuck list first: it has waited 100 ms already.
        for other in self.shared.slots {
            if slot::is_stuck(other) && other.role_index.load() as usize == self.role_index {
                let index = other.entry.load();
                if ready::take_over(&self.shared, index, self.place) {
                    return Some(index);
                }
            }
        }
        ready::acquire(&self.shared, self.role_index, self.place)
    }
}
