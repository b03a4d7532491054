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
//! `Tally` (pure/shares.rs), so that a newcomer costs a look at a few places, not at the table.

use crate::postgres::shmem;
use crate::pure::atomics::{GaugeAt, GaugeU64};
use crate::pure::fix;
pub use crate::pure::shares::Owner;
use crate::pure::time::{At, Span};
use crate::{settings, shared_struct};

/// Places that a newcomer looks at.
pub const WINDOW: usize = 32;
/// How long a table that was full is spoken of.
const SPOKEN_OF: Span = Span::HOUR;

impl Owner {
    /// A tenant of this process's database.
    pub fn here(tenant: u32) -> Owner {
        Owner::new(shmem::my_database(), tenant)
    }
    pub fn is_here(self) -> bool {
        (self.0 >> 32) as u32 == shmem::my_database()
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
        fix::noted(&format!("ALTER SYSTEM SET {setting} = {}", (now * 2).min(1_000_000)), "then restart the server")
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
        pub lost: GaugeU64,
        pub at: GaugeAt,
        /// Whose.
        pub owner: GaugeU64,
    }
}

impl Pressure {
    pub fn note(&self, owner: Owner, now: At) {
        self.owner.store(owner.0);
        self.at.store(now);
        self.lost.fetch_add(1);
    }
    /// Who has last lost something, if that is worth telling.
    pub fn told(&self, kind: Kind, now: At) -> Option<Owner> {
        let at = self.at.load();
        (kind.is_trouble() && at > At::UNSET && (now - at).abs() < SPOKEN_OF).then(|| Owner(self.owner.load()))
    }
}
