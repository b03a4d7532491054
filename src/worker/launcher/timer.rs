//! The timer: entries whose time has come are woken, and the scheduler is called where a schedule's has.
//!
//! A heap of hints. The truth is `next_due` and `schedule_due` of the entry, which everybody may lower without a word to
//! us but a bit; a hint that is over falls through when it comes up.

use crate::pure::time::{At, Span};
use crate::shared::wakes::{Reason, Turn};
use crate::shared::{Shared, ready};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A scheduler is kept while something is due within this time.
const KEEP_SCHEDULER: Span = Span::MINUTE;

#[derive(Default)]
pub(super) struct Timer {
    /// (due, entry): hints, checked against the entry when they come up.
    due: BinaryHeap<Reverse<(At, u32)>>,
}

impl Timer {
    /// Entries whose time has come are woken.
    pub(super) fn fire_due(&mut self, shared: &Shared, now: At, turn: &mut Turn) {
        self.take_hints(shared);
        while let Some(Reverse((at, index))) = self.due.peek().copied() {
            if at > now {
                break;
            }
            self.due.pop();
            // A hint that is over is off the list: that, too, is something.
            turn.did(Reason::Due);
            fire(shared, index, now);
        }
        // When stale hints outnumber the entries, make the heap anew.
        if self.due.len() > 4 * shared.entries.len() + 1000 {
            self.due.clear();
            for i in 0..shared.entries.len() {
                if shared.entries[i].in_use.load() == 1 {
                    shared.mark_due(i as u32);
                }
            }
        }
    }

    fn take_hints(&mut self, shared: &Shared) {
        shared.take_due(|index| {
            let entry = &shared.entries[index];
            for t in [entry.next_due.load(), entry.schedule_due.load()] {
                if t != At::NEVER {
                    self.due.push(Reverse((t, index as u32)));
                }
            }
        });
    }

    pub(super) fn next(&self) -> At {
        self.due.peek().map_or(At::NEVER, |Reverse((at, _))| *at)
    }
}

/// What is due of this entry. Stale hints fall through: the entry says what is true.
fn fire(shared: &Shared, index: u32, now: At) {
    let entry = &shared.entries[index as usize];
    if entry.in_use.load() != 1 {
        return;
    }
    let next = entry.next_due.load();
    if next <= now {
        // First: with neither anything due nor anything to look at it could be given away.
        entry.generation.fetch_add(1);
        let _ = entry.next_due.compare_exchange(next, At::NEVER);
        ready::waits_since(entry, next);
        ready::wake(shared, index, At::NEVER);
    }
    if entry.schedule_due.load() <= now
        && let Some(db) = shared.db(entry.database.load())
    {
        db.ticks_wanted.store(1);
        db.keep_until.fetch_max(now + KEEP_SCHEDULER);
        db.call_scheduler();
    }
}
