//! Cursors: one position per source and priority of an entry, before which no live row of it lies. So a look costs the same however
//! many dead rows there are.

use crate::postgres::scan::From;
use crate::pure::ids::Id;
use crate::pure::time::At;
use crate::shared::Shared;
use crate::shared::entry::{CURSORS, Entry};
use crate::shared::role::EXTERNAL;

/// How far a cursor may move.
pub struct Moved {
    pub source: u64,
    pub priority: i16,
    pub time: At,
    pub id: Id,
}

impl Moved {
    /// Whether the entry's cursor is there already, or further.
    pub fn goes_nowhere(&self, entry: &Entry) -> bool {
        cursor_of(entry, self.source, self.priority).is_some_and(|cursor| (cursor.time, cursor.id) >= (self.time, self.id))
    }

    pub fn apply(&self, entry: &Entry) {
        let place = cursor_place(entry, self.source, self.priority).or_else(|| (0..CURSORS).find(|c| entry.cursor_set[*c].load() == 0));
        // With more priorities than places the last place changes hands.
        let place = place.unwrap_or(CURSORS - 1);
        entry.cursor_source[place].store(self.source);
        entry.cursor_priority[place].store(self.priority as i32);
        entry.cursor_time[place].store(self.time);
        entry.cursor_id[place].store(self.id);
        entry.cursor_set[place].store(1);
    }
}

/// A row came to be due at `low`: no cursor of the entry at `index` may be behind it.
pub fn lower_cursors(shared: &Shared, index: u32, low: At) {
    if low == At::NEVER {
        return;
    }
    let entry = &shared.entries[index as usize];
    if entry.role.load() == EXTERNAL {
        shared.lower_runs(index, low);
    }
    for place in 0..CURSORS {
        if low <= entry.cursor_time[place].load() {
            entry.cursor_time[place].store(low);
            entry.cursor_id[place].store(Id::NIL);
        }
    }
}

fn cursor_place(entry: &Entry, source: u64, priority: i16) -> Option<usize> {
    (0..CURSORS).find(|c| {
        entry.cursor_set[*c].load() == 1 && entry.cursor_source[*c].load() == source && entry.cursor_priority[*c].load() as i16 == priority
    })
}

pub fn cursor_of(entry: &Entry, source: u64, priority: i16) -> Option<From> {
    let place = cursor_place(entry, source, priority)?;
    let id = entry.cursor_id[place].load();
    Some(From { time: entry.cursor_time[place].load(), id })
}
