//! Running tasks that are to stop: an executor is interrupted, a worker is told.

use crate::postgres::worker;
use crate::pure::ids::Id;
use crate::pure::time::At;
use crate::pure::word::{SlotState, Stop, Word};
use crate::shared::claims::{Claim, told};
use crate::shared::{Shared, slot};

/// Stops this incarnation of a task if it runs.
pub fn stop_task(s: &Shared, tenant: u32, id: Id, created_at: At) {
    for slot in s.slots {
        let word = Word::load(slot);
        if slot.runs(&word, tenant, id, created_at) {
            return interrupt(s, slot, word, id, created_at, Stop::Cancelled);
        }
    }
    if let Some(claim) = s.claim_on(tenant, id, created_at) {
        claim.tell(s, told::CANCEL);
        s.call_launcher();
    }
}

/// What runs a task.
#[derive(Clone, Copy)]
enum Runs {
    /// An executor, in this place.
    Executor(usize),
    Worker(&'static Claim),
}

/// Stops tasks of this tenant beyond the first `max`: whoever has begun last has least to lose.
pub fn stop_beyond(s: &Shared, tenant: u32, max: usize) {
    let database = crate::postgres::shmem::my_database();
    let mut running: Vec<(At, Runs)> = s.claims_of(tenant).map(|claim| (claim.taken_at.load(), Runs::Worker(claim))).collect();
    for (place, slot) in s.slots.iter().enumerate() {
        if slot.state.load() == SlotState::Working
            && slot.database.load() == database
            && slot.tenant.load() == tenant
            && Word::load(slot).running
        {
            running.push((slot.started_at.load(), Runs::Executor(place)));
        }
    }
    running.sort_by_key(|(since, _)| *since);
    for (_, runs) in running.into_iter().skip(max) {
        match runs {
            Runs::Executor(place) => {
                let slot = &s.slots[place];
                let word = Word::load(slot);
                if word.running && slot.tenant.load() == tenant {
                    let item = slot.item(word.next - 1);
                    interrupt(s, slot, word, item.id, item.created_at, Stop::Room);
                }
            }
            Runs::Worker(claim) => claim.tell(s, told::DRAIN),
        }
    }
}

/// Sets the cancel word of a slot and interrupts what it runs.
fn interrupt(s: &Shared, slot: &slot::Slot, word: Word, id: Id, created_at: At, reason: Stop) {
    slot.cancel_id.store(id);
    slot.cancel_created_at.store(created_at);
    slot.cancel_at.store(crate::postgres::clock::monotonic_ns());
    slot.cancel_signals.store(1);
    slot.cancel_reason.store(reason);
    if Word::load(slot) == word {
        worker::signal(slot.pid.load(), libc::SIGINT);
        // The launcher repeats it, and terminates in the end.
        s.call_launcher();
    }
}
