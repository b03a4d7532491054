//! Tasks that aren't started again before a time, because of how their last attempt ended.
//!
//! A few places an entry; where none is left, the entry is left alone as a whole.

use crate::postgres::clock;
use crate::pure::time::Micros;
use crate::shared::entry::{Entry, HOLDS};
use crate::shared::{Shared, blocked};

/// Not before then, because its last attempt's end could not be recorded.
pub fn held_until(e: &Entry, id: u128, now: Micros) -> Option<Micros> {
    (0..HOLDS)
        .find(|h| e.hold_high[*h].load() == (id >> 64) as u64 && e.hold_low[*h].load() == id as u64 && e.hold_until[*h].load() != 0)
        .map(|h| e.hold_until[h].load())
        .filter(|until| *until > now)
}

/// Keeps a task from being started again for a doubling while (1 s … 5 min).
pub fn hold_back(s: &Shared, index: u32, id: u128) {
    let e = &s.entries[index as usize];
    let now = clock::now();
    // No place left: leave the whole tenant alone for a while.
    let Some((h, own)) = hold_place(e, id) else { return crate::shared::ready::block(s, index, blocked::Reason::Crowded) };
    let delay = if own { (e.hold_delay[h].load() * 2).clamp(1_000_000, 300_000_000) } else { 1_000_000 };
    e.hold_high[h].store((id >> 64) as u64);
    e.hold_low[h].store(id as u64);
    e.hold_delay[h].store(delay);
    e.hold_ends[h].store(0);
    e.hold_until[h].store(now + delay);
    crate::shared::ready::due(s, index, now + delay);
}

/// The attempt was interrupted so often in a row: the next one waits a little.
pub fn pause_interrupted(s: &Shared, index: u32, id: u128, times: u32) {
    let e = &s.entries[index as usize];
    let until = clock::now() + delay_after_ends(times.min(5));
    // No place left: it isn't held up then; how often it was is known from its row.
    if let Some((h, own)) = hold_place(e, id) {
        if !own {
            e.hold_delay[h].store(0);
            e.hold_ends[h].store(0);
        }
        e.hold_high[h].store((id >> 64) as u64);
        e.hold_low[h].store(id as u64);
        e.hold_until[h].store(until);
        crate::shared::ready::due(s, index, until);
    }
}

/// Where this task is held back, or could be; and whether it is there already.
fn hold_place(e: &Entry, id: u128) -> Option<(usize, bool)> {
    let now = clock::now();
    let own = (0..HOLDS).find(|h| e.hold_high[*h].load() == (id >> 64) as u64 && e.hold_low[*h].load() == id as u64);
    own.map(|h| (h, true)).or_else(|| (0..HOLDS).find(|h| e.hold_until[*h].load() < now).map(|h| (h, false)))
}

/// What is known of a task that is held back: until when, and how many executors in a row have ended while they ran it.
pub struct Held {
    pub id: u128,
    pub until: Micros,
    pub ends: u32,
}

/// The tasks that this entry knows such of, also of a while ago: some may have ended since.
pub fn held(e: &Entry) -> impl Iterator<Item = Held> {
    (0..HOLDS).filter(|h| e.hold_until[*h].load() != 0).map(|h| Held {
        id: ((e.hold_high[h].load() as u128) << 64) | e.hold_low[h].load() as u128,
        until: e.hold_until[h].load(),
        ends: e.hold_ends[h].load(),
    })
}

/// How long a task waits whose executors have ended so often, and a role for its next executor: 50 ms … 3.2 s. One that
/// was killed runs again at once, as good as; one that kills itself doesn't keep the launcher busy.
pub fn delay_after_ends(ends: u32) -> Micros {
    50_000 << ends.saturating_sub(1).min(6)
}

/// The executor ended while it ran this task: it isn't started again at once. How often in a row that was. Atomics only.
pub fn executor_ended(s: &Shared, index: u32, id: u128) -> u32 {
    let e = &s.entries[index as usize];
    let now = clock::now();
    let Some((h, own)) = hold_place(e, id) else {
        crate::shared::ready::block(s, index, blocked::Reason::Error);
        return 1;
    };
    let ends = if own { e.hold_ends[h].load() + 1 } else { 1 };
    let delay = delay_after_ends(ends);
    e.hold_high[h].store((id >> 64) as u64);
    e.hold_low[h].store(id as u64);
    e.hold_ends[h].store(ends);
    e.hold_delay[h].store(delay);
    e.hold_until[h].store(now + delay);
    crate::shared::ready::due(s, index, now + delay);
    ends
}

/// An attempt was counted for it: what comes is another one.
pub fn forget_ends(s: &Shared, index: u32, id: u128) {
    let e = &s.entries[index as usize];
    for h in 0..HOLDS {
        if e.hold_high[h].load() == (id >> 64) as u64 && e.hold_low[h].load() == id as u64 {
            e.hold_ends[h].store(0);
        }
    }
}
