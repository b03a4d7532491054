//! Tasks that aren't started again before a time, because of how their last attempt ended.
//!
//! A few places an entry; where none is left, the entry is left alone as a whole.

use crate::postgres::clock;
use crate::pure::ids::Id;
use crate::pure::time::{At, Span};
use crate::shared::entry::{COOLDOWNS, Entry};
use crate::shared::{Shared, blocked, ready};

/// Not before then, because its last attempt's end could not be recorded.
pub fn until(e: &Entry, id: Id, now: At) -> Option<At> {
    (0..COOLDOWNS)
        .find(|place| is_of(e, *place, id) && e.cooldown_until[*place].load() != At::UNSET)
        .map(|place| e.cooldown_until[place].load())
        .filter(|until| *until > now)
}

/// Keeps a task from being started again for a doubling while (1 s … 5 min).
pub fn begin(s: &Shared, index: u32, id: Id) {
    let e = &s.entries[index as usize];
    let now = clock::now();
    // No place left: leave the whole tenant alone for a while.
    let Some((place, own)) = find(e, id) else { return ready::block(s, index, blocked::Reason::Crowded) };
    let delay = if own { (e.cooldown_delay[place].load() * 2).clamp(Span::SECOND, Span::of_secs(300)) } else { Span::SECOND };
    give(e, place, id);
    e.cooldown_delay[place].store(delay);
    e.cooldown_ends[place].store(0);
    e.cooldown_until[place].store(now + delay);
    ready::due(s, index, now + delay);
}

/// The attempt was interrupted so often in a row: the next one waits a little.
pub fn after_interruption(s: &Shared, index: u32, id: Id, times: u32) {
    let e = &s.entries[index as usize];
    let until = clock::now() + delay_after_ends(times.min(5));
    // No place left: it doesn't wait then; how often it was is known from its row.
    if let Some((place, own)) = find(e, id) {
        if !own {
            e.cooldown_delay[place].store(Span::ZERO);
            e.cooldown_ends[place].store(0);
        }
        give(e, place, id);
        e.cooldown_until[place].store(until);
        ready::due(s, index, until);
    }
}

/// Whether the place is this task's.
fn is_of(e: &Entry, place: usize, id: Id) -> bool {
    e.cooldown_id[place].load() == id
}

/// Makes the place this task's.
fn give(e: &Entry, place: usize, id: Id) {
    e.cooldown_id[place].store(id);
}

/// Where this task is noted, or could be; and whether it is there already.
fn find(e: &Entry, id: Id) -> Option<(usize, bool)> {
    let now = clock::now();
    let own = (0..COOLDOWNS).find(|place| is_of(e, *place, id));
    own.map(|place| (place, true))
        .or_else(|| (0..COOLDOWNS).find(|place| e.cooldown_until[*place].load() < now).map(|place| (place, false)))
}

/// What is known of a task that waits like this: until when, and how many executors in a row have ended while they ran it.
pub struct Cooldown {
    pub id: Id,
    pub until: At,
    pub ends: u32,
}

/// The tasks that this entry knows such of, also of a while ago: some may have ended since.
pub fn of(e: &Entry) -> impl Iterator<Item = Cooldown> {
    (0..COOLDOWNS).filter(|place| e.cooldown_until[*place].load() != At::UNSET).map(|place| Cooldown {
        id: e.cooldown_id[place].load(),
        until: e.cooldown_until[place].load(),
        ends: e.cooldown_ends[place].load(),
    })
}

/// How long a task waits whose executors have ended so often, and a role for its next executor: 50 ms … 3.2 s. One that
/// was killed runs again at once, as good as; one that kills itself doesn't keep the launcher busy.
pub fn delay_after_ends(ends: u32) -> Span {
    Span::of_millis(50 << ends.saturating_sub(1).min(6))
}

/// The executor ended while it ran this task: it isn't started again at once. How often in a row that was. Atomics only.
pub fn executor_ended(s: &Shared, index: u32, id: Id) -> u32 {
    let e = &s.entries[index as usize];
    let now = clock::now();
    let Some((place, own)) = find(e, id) else {
        ready::block(s, index, blocked::Reason::Error);
        return 1;
    };
    let ends = if own { e.cooldown_ends[place].load() + 1 } else { 1 };
    let delay = delay_after_ends(ends);
    give(e, place, id);
    e.cooldown_ends[place].store(ends);
    e.cooldown_delay[place].store(delay);
    e.cooldown_until[place].store(now + delay);
    ready::due(s, index, now + delay);
    ends
}

/// An attempt was counted for it: what comes is another one.
pub fn forget_ends(s: &Shared, index: u32, id: Id) {
    let e = &s.entries[index as usize];
    for place in 0..COOLDOWNS {
        if is_of(e, place, id) {
            e.cooldown_ends[place].store(0);
        }
    }
}
