//! An executor's end, whatever it came by: of its own accord, terminated, or with its task. After the transaction has been
//! aborted nothing may fail here, so it is atomics, latches and one short lock.
//!
//! What it had in hand goes back, and who ends executors again and again waits longer and longer for the next one.

use crate::postgres::{clock, interrupt, timeout};
use crate::pure::time::{At, Span};
use crate::pure::word::{SlotState, Stop, Word};
use crate::settings;
use crate::shared::role::Role;
use crate::shared::slot::{self, MY_SLOT, Slot};
use crate::shared::{self, Shared, cooldown, culprits, ready};
use crate::work::park;

/// After the transaction has been aborted: the slot is nobody's.
pub(super) fn leave() {
    let Some(shared) = shared::get() else { return };
    let place = MY_SLOT.get();
    let slot = &shared.slots[place];
    if interrupt::is_orphaned() {
        // What is shared ends with the last of us; but who reads the file after the next start must not find a task in it.
        return slot::free_slot(slot);
    }
    let role = &shared.roles[slot.role_index.load() as usize];
    role.idle.fetch_and(!(1 << place));
    if slot.state.load() == SlotState::Starting {
        role.starting.fetch_sub(1);
    }
    ready::part(&shared, slot.role_index.load() as usize, place);
    let entry = slot.entry.load();
    let had_work = !Word::load(slot).live().is_empty();
    let held_on = slot.told_to_end.load() != 0;
    culprits::end_alone(&shared, place);
    if had_work {
        answer_for(&shared, slot, role, entry);
    }
    slot::free_slot(slot);
    role.executors.fetch_sub(1);
    ready::release_all_of(&shared, place);
    park::leave(&shared, place);
    if had_work {
        // What it had picked is free again: the cursor may have passed it by now, and others may have been
        // held up by it.
        ready::wake(&shared, entry, At::LOWEST);
        ready::wake_limited(&shared, shared.entries[entry as usize].tenant.load());
    }
    if held_on {
        // It may have been one too many of its tenant's.
        for index in shared.entries_of(slot.database.load(), shared.entries[entry as usize].tenant.load()) {
            ready::wake(&shared, index, At::LOWEST);
        }
    }
    // It may have ended between the end of its last task and saying so.
    slot::no_longer_named(&shared, place, shared.entries[entry as usize].tenant.load());
    shared.call_launcher();
}

/// An end in the middle of work costs its tenant and role what it would have cost to go on, at least: who makes its
/// executors end gets no turn for nothing. If nobody asked this one to go, the next start of one waits a while.
fn answer_for(shared: &Shared, slot: &Slot, role: &Role, entry: u32) {
    let word = Word::load(slot);
    let ran = if word.running { (clock::now() - slot.started_at.load()).clamp(Span::ZERO, Span::HOUR).micros() as u64 * 1000 } else { 0 };
    ready::charge(shared, entry, ran.max(settings::role_quantum().as_nanos() as u64));
    if timeout::has_terminated() {
        return culprits::timed_out(shared, slot);
    }
    if slot.leave.load() != 0 || slot.cancel_reason.load() != Stop::No {
        return;
    }
    if word.running && word.next > 0 {
        let id = slot.item_id(word.next - 1);
        if cooldown::executor_ended(shared, entry, id) >= culprits::ENDS {
            // That is settled, then, and whoever comes next writes it down.
            culprits::interrupted(shared, slot);
            cooldown::forget_ends(shared, entry, id);
            return role.ends.store(0);
        }
    }
    let ends = role.ends.fetch_add(1) + 1;
    role.start_after.fetch_max(clock::now() + cooldown::delay_after_ends(ends));
}
