//! Tables of fixed size in shared memory, and who has how much of them.
//!
//! Sizes follow from `tenant_q.max_tenants`, so there is room for everybody; but nothing keeps one tenant from
//! making as many limit keys, handlers or failures as it likes. So each place says whose it is, and a newcomer
//! that finds no free one gets
//!
//! 1. a place that says nothing any more, whoever had it;
//! 2. else the one that says least of those of whoever holds most, if that is more than the newcomer holds;
//! 3. else the one that says least of its own.
//!
//! Whoever holds no more than the others never loses a place to them. Who holds how much is counted in a
//! [`Tally`], so that a newcomer costs a look at a few places, not at the table.

use crate::postgres::clock::Micros;
use crate::postgres::shmem;
use crate::{settings, shared_struct};
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering::*};

/// Places that a newcomer looks at.
pub const WINDOW: usize = 32;
/// How long a table that was full is spoken of.
const SPOKEN_OF: Micros = 3_600_000_000;

/// A tenant of a database; 0 = nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner(pub u64);

impl Owner {
    pub fn new(database: u32, tenant: u32) -> Owner {
        Owner((database as u64) << 32 | tenant as u64)
    }
    /// A tenant of this process's database.
    pub fn here(tenant: u32) -> Owner {
        Owner::new(shmem::my_database(), tenant)
    }
    pub fn is_here(self) -> bool {
        (self.0 >> 32) as u32 == shmem::my_database()
    }
    pub fn tenant(self) -> u32 {
        self.0 as u32
    }
}

/// What a place says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says {
    /// It is nobody's.
    Free,
    /// What it said is over.
    Nothing,
    /// The least goes first.
    Something(i64),
    /// More than its owner may give up, or somebody is at it.
    Fixed,
}

/// Whom a newcomer's place was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chosen {
    pub place: usize,
    /// Who loses something by it.
    pub displaced: Option<Owner>,
}

/// Which of these places a newcomer of `owner` gets; None = none of them. `held`: how many somebody holds in all.
pub fn choose(owner: Owner, held: impl Fn(Owner) -> u32, places: impl Iterator<Item = (Owner, Says)>) -> Option<Chosen> {
    let mine = held(owner);
    let mut over = None;
    // Who holds most, its least, where that is.
    let (mut most, mut own): (Option<(u32, i64, usize)>, Option<(i64, usize)>) = (None, None);
    let (mut whose, mut last) = (Owner(0), None);
    for (n, (of, says)) in places.enumerate() {
        match says {
            Says::Free => return Some(Chosen { place: n, displaced: None }),
            Says::Nothing => over = over.or(Some(n)),
            Says::Something(least) if of == owner => own = own.filter(|o| o.0 <= least).or(Some((least, n))),
            Says::Something(least) => {
                let count = match last {
                    Some((known, count)) if known == of => count,
                    _ => held(of),
                };
                last = Some((of, count));
                // Not one more only: two would take it from each other in turn.
                if count > mine.saturating_add(1) && most.is_none_or(|(m, l, _)| count > m || count == m && of == whose && least < l) {
                    (most, whose) = (Some((count, least, n)), of);
                }
            }
            Says::Fixed => {}
        }
    }
    if let Some(place) = over {
        return Some(Chosen { place, displaced: None });
    }
    match (most, own) {
        (Some((.., place)), _) => Some(Chosen { place, displaced: Some(whose) }),
        (None, Some((_, place))) => Some(Chosen { place, displaced: Some(owner) }),
        (None, None) => None,
    }
}

/// How many places of one table everybody holds: two counters for each, found by hashes, of which the lesser
/// counts. Two owners that share one are told apart by the other.
#[derive(Clone, Copy)]
pub struct Tally(&'static [AtomicU32]);

impl Tally {
    /// Counters for so many owners.
    pub fn counters(owners: usize) -> usize {
        2 * owners.next_power_of_two()
    }
    pub fn new(counters: &'static [AtomicU32]) -> Tally {
        Tally(counters)
    }
    fn both(&self, owner: Owner) -> [&'static AtomicU32; 2] {
        let half = self.0.len() / 2;
        let mixed = (owner.0 ^ owner.0 >> 29).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 32).wrapping_mul(0x94D0_49BB_1331_11EB);
        [&self.0[mixed as usize & (half - 1)], &self.0[half + ((mixed >> 32) as usize & (half - 1))]]
    }
    pub fn held(&self, owner: Owner) -> u32 {
        let [a, b] = self.both(owner);
        a.load(Relaxed).min(b.load(Relaxed))
    }
    pub fn add(&self, owner: Owner) {
        for counter in self.both(owner) {
            counter.fetch_add(1, Relaxed);
        }
    }
    pub fn sub(&self, owner: Owner) {
        // Never below nothing: that would be the most.
        for counter in self.both(owner) {
            let _ = counter.fetch_update(Relaxed, Relaxed, |n| n.checked_sub(1));
        }
    }
}

/// The tables that have something to say when they are full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Kind {
    Rates,
    Stats,
    Failures,
    Entries,
    Culprits,
}
pub const KINDS: [Kind; 5] = [Kind::Rates, Kind::Stats, Kind::Failures, Kind::Entries, Kind::Culprits];

impl Kind {
    /// What is in it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Rates => "rates",
            Kind::Stats => "counters of handlers",
            Kind::Failures => "failed attempts",
            Kind::Entries => "entries of tenants with work",
            Kind::Culprits => "attempts to be written down",
        }
    }
    /// What comes of it.
    pub fn consequence(self) -> &'static str {
        match self {
            Kind::Rates => "what was used of a rate is forgotten early, or its tasks wait for a place",
            Kind::Stats => "tq_stats forgets the handlers longest unused",
            Kind::Failures => "tq_failures forgets the oldest",
            Kind::Entries => "tenants take turns, and are found by sweeps",
            Kind::Culprits => "attempts that ended with their executors are not counted",
        }
    }
    /// What makes it twice as large.
    pub fn remedy(self) -> String {
        let (setting, now) = match self {
            Kind::Stats => ("tenant_q.max_stats", settings::max_stats()),
            Kind::Failures => ("tenant_q.failure_ring", settings::failure_ring()),
            _ => ("tenant_q.max_tenants", settings::max_tenants()),
        };
        format!("ALTER SYSTEM SET {setting} = {}, and restart the server", (now * 2).min(1_000_000))
    }
    /// Whether losing one is worth telling: of a ring it is the purpose that the oldest goes.
    fn is_trouble(self) -> bool {
        self != Kind::Failures
    }
}

shared_struct! {
    /// That a table was full lately.
    pub struct Pressure {
        /// Places that went for want of room, and newcomers that got none.
        pub lost: AtomicU64,
        pub at: AtomicI64,
        /// Whose.
        pub owner: AtomicU64,
    }
}

impl Pressure {
    pub fn note(&self, owner: Owner, now: Micros) {
        self.owner.store(owner.0, Relaxed);
        self.at.store(now, Relaxed);
        self.lost.fetch_add(1, Relaxed);
    }
    /// Who has last lost something, if that is worth telling.
    pub fn told(&self, kind: Kind, now: Micros) -> Option<Owner> {
        let at = self.at.load(Relaxed);
        (kind.is_trouble() && at > 0 && (now - at).abs() < SPOKEN_OF).then(|| Owner(self.owner.load(Relaxed)))
    }
}
