//! Whose slot this process has, and what is running in others'.

use crate::postgres::{clock, shmem};
use crate::pure::time::Micros;
use crate::pure::word::SlotState;
use crate::pure::word::Word;
use crate::shared::{Shared, Slot};
use std::cell::Cell;
use std::time::Duration;

/// A list whose executor is stuck with one task for this long is taken over.
pub const TAKE_OVER_AFTER: Duration = Duration::from_millis(100);

/// The slot names what it ran no more. Between the attempt's commit and this the task may have come again, requeued, say: who
/// looked meanwhile has taken it for the one that ran.
pub fn no_longer_named(s: &Shared, place: usize, tenant: u32) {
    let bit = 1 << place;
    if s.header.passed_by.load() & bit != 0 && s.header.passed_by.fetch_and(!bit) & bit != 0 {
        for index in s.entries_of(shmem::my_database(), tenant) {
            crate::shared::ready::wake(s, index, i64::MIN);
        }
    }
}

/// Whether this slot's list waits behind one long task.
pub fn is_stuck(slot: &Slot) -> bool {
    let since = slot.busy_since.load();
    let word = Word::load(slot);
    slot.state.load() == SlotState::Working
        && since != 0
        && word.next < word.end
        && clock::monotonic_ns().saturating_sub(since) >= TAKE_OVER_AFTER.as_nanos() as u64
}

/// The slot that runs this incarnation of the tenant's task.
pub fn running(s: &Shared, schema: u32, id: u128, stamp: Micros) -> Option<usize> {
    s.slots.iter().position(|slot| slot.runs(&Word::load(slot), schema, id, stamp))
}

thread_local! {
    pub static MY_SLOT: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// The slot of this process; None = it is no executor.
pub fn my_slot() -> Option<usize> {
    Some(MY_SLOT.get()).filter(|n| *n != usize::MAX)
}
