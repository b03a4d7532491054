//! How far workers' takes have come in runs of rows: behind these places no live row lies, so that a take costs the same however
//! many have been taken before. There are more runs than an entry has room for; so they share a table, and what finds no place
//! there is looked at from its beginning.
//!
//! Only who holds an entry (`Entry::picker`) reads and changes its places. Whoever holds another one may need them for that: it
//! takes the word of the place first, so that what is read is of one run, or nothing.

use crate::pure::atomics::{HandshakeAt, HandshakeId, HandshakeU32, HandshakeU64};
use crate::pure::ids::Id;
use crate::pure::time::At;
use crate::shared::Shared;
use crate::shared_struct;

/// Places that an entry shares with some others, and how many such sets there are.
const PLACES: usize = 64;
const SETS: usize = 64;
pub const COUNT: usize = PLACES * SETS;
/// So many of a set an entry may have, though others have none.
const SHARE: usize = 16;

/// Whose a place is, and what stands there.
type Place = (&'static HandshakeU64, &'static RunCursor);

shared_struct! {
    /// A place behind which rows of one run and priority lie. Whose it is stands apart: `Shared::run_owners`.
    pub struct RunCursor {
        pub run: HandshakeId,
        pub priority: HandshakeU32,
        pub time: HandshakeAt,
        pub id: HandshakeId,
    }
}

/// What a `RunCursor` says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Known {
    pub run: Id,
    pub priority: i16,
    pub time: At,
    pub id: Id,
}

/// Somebody writes there.
const BUSY: u64 = 1 << 63;

impl RunCursor {
    fn load(&self) -> Known {
        Known { run: self.run.load(), priority: self.priority.load() as i16, time: self.time.load(), id: self.id.load() }
    }
    fn store(&self, known: &Known) {
        self.run.store(known.run);
        self.priority.store(known.priority as u32);
        self.time.store(known.time);
        self.id.store(known.id);
    }
}

impl Shared {
    fn runs_owner(&self, index: u32) -> u64 {
        u64::from(index + 1) << 32 | u64::from(self.entries[index as usize].stamp.load())
    }

    /// The places where this entry's may be.
    fn runs_of(&self, index: u32) -> impl Iterator<Item = Place> {
        let first = index as usize % SETS * PLACES;
        self.run_owners[first..first + PLACES].iter().zip(&self.run_cursors[first..first + PLACES])
    }

    /// What is known of the runs of this entry, which the caller holds: by run, the highest priority first.
    pub fn known_runs(&self, index: u32) -> Vec<Known> {
        let owner = self.runs_owner(index);
        let read = |(of, cursor): (&HandshakeU64, &RunCursor)| {
            let known = (of.load() == owner).then(|| cursor.load())?;
            (of.load() == owner).then_some(known)
        };
        let mut known: Vec<Known> = self.runs_of(index).filter_map(read).collect();
        known.sort_unstable_by_key(|known| (known.run, std::cmp::Reverse(known.priority)));
        known
    }

    /// A row of this entry, which the caller holds, came to be due at `low`: nothing that is known may be behind it.
    pub fn lower_runs(&self, index: u32, low: At) {
        let owner = self.runs_owner(index);
        for (of, cursor) in self.runs_of(index).filter(|(of, _)| of.load() == owner) {
            if low <= cursor.time.load() && of.compare_exchange(owner, owner | BUSY).is_ok() {
                cursor.time.store(low);
                cursor.id.store(Id::NIL);
                of.store(owner);
            }
        }
    }

    /// Notes how far a look has come in a run of this entry, which the caller holds.
    pub fn note_run(&self, index: u32, known: &Known) {
        let owner = self.runs_owner(index);
        let of_us = |(of, _): &Place| of.load() == owner;
        let is_its = |(_, cursor): &Place| cursor.run.load() == known.run && cursor.priority.load() as i16 == known.priority;
        let its = self.runs_of(index).filter(of_us).find(is_its);
        let free = || self.runs_of(index).find(|(of, _)| of.load() == 0);
        // Where all are taken one is overwritten, now this and now that; of others' only by who has few.
        let drawn = || {
            let own: Vec<_> = self.runs_of(index).filter(of_us).collect();
            let from = if own.len() < SHARE { self.runs_of(index).collect() } else { own };
            from.get(Id::fresh().low() as usize % from.len()).copied()
        };
        let Some((of, cursor)) = its.or_else(free).or_else(drawn) else { return };
        let before = of.load();
        if before & BUSY == 0 && of.compare_exchange(before, owner | BUSY).is_ok() {
            cursor.store(known);
            of.store(owner);
        }
    }
}
