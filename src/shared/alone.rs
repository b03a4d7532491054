//! Tasks that a worker's session had, among others, when it died. Nobody can be blamed for that, so each is handed out alone from
//! then on, until an attempt comes to its end: the next death has one culprit. To executors' suspects (culprits.rs) what a few
//! handlers are, these are single tasks.
//!
//! It is noted for workers of the role that has died: nobody's deaths are another role's matter.

use crate::postgres::{clock, shmem};
use crate::pure::atomics::{GaugeU64, HandshakeAt, HandshakeId, HandshakeU32};
use crate::pure::ids::Id;
use crate::pure::shares::{self, Owner, Says};
use crate::pure::time::At;
use crate::shared::claims::Claim;
use crate::shared::{Shared, ready};
use crate::shared_struct;
use std::collections::HashMap;

/// `Lone::state`.
mod state {
    pub const FREE: u32 = 0;
    pub const FILLING: u32 = 1;
    pub const NOTED: u32 = 2;
}

shared_struct! {
    /// A task that is to be handed out alone.
    pub struct Lone {
        /// See `state`.
        pub state: HandshakeU32,
        pub database: HandshakeU32,
        pub tenant: HandshakeU32,
        /// To whose workers.
        pub role: HandshakeU32,
        pub id: HandshakeId,
        pub created_at: HandshakeAt,
        /// Since when (monotonic ns): the oldest goes where there is no room.
        pub since_ns: GaugeU64,
        /// The place + 1 of the worker's session that takes nothing more until it has nothing else, and may have this.
        pub kept_by: HandshakeU32,
    }
}

/// Tasks of one tenant that one role's workers are to have alone, each with the place where that is noted.
pub type Alone = HashMap<(Id, At), u32>;

impl Shared {
    fn noted(&self) -> impl Iterator<Item = (usize, &'static Lone)> {
        let all = if self.header.lone.load() == 0 { &[] } else { self.lone };
        all.iter().enumerate().filter(|(_, lone)| lone.state.load() == state::NOTED)
    }

    /// Those of this tenant, for workers of this role.
    pub fn lone_of(&self, tenant: u32, role: u32) -> Alone {
        let is_its = |lone: &Lone| lone.tenant.load() == tenant && lone.role.load() == role && lone.database.load() == shmem::my_database();
        self.noted().filter(|(_, lone)| is_its(lone)).map(|(n, lone)| ((lone.id.load(), lone.created_at.load()), n as u32)).collect()
    }

    /// The task of this claim is to be handed out alone. Before the claim is let go.
    pub fn is_to_be_alone(&self, claim: &Claim) {
        let (database, tenant, role, item) = (claim.database.load(), claim.tenant.load(), claim.role.load(), claim.item());
        if self.lone_of(tenant, role).contains_key(&(item.id, item.created_at)) {
            return;
        }
        let whose = |lone: &Lone| Owner::new(lone.database.load(), lone.role.load());
        let count = |owner: Owner| self.noted().filter(|(_, lone)| whose(lone) == owner).count() as u32;
        let says = |lone: &Lone| match lone.state.load() {
            state::FREE => (Owner(0), Says::Free),
            state::FILLING => (Owner(0), Says::Fixed),
            _ => (whose(lone), Says::Something(lone.since_ns.load() as i64)),
        };
        // None, or somebody was faster: the task is handed out as any other.
        let chosen = shares::choose(Owner::new(database, role), count, self.lone.iter().map(says));
        let Some(lone) = chosen.map(|chosen| &self.lone[chosen.place]) else { return };
        let was = lone.state.load();
        if was == state::FILLING || lone.state.compare_exchange(was, state::FILLING).is_err() {
            return;
        }
        if was == state::FREE {
            self.header.lone.fetch_add(1);
        }
        self.is_kept_no_more(lone);
        lone.database.store(database);
        lone.tenant.store(tenant);
        lone.role.store(role);
        lone.id.store(item.id);
        lone.created_at.store(item.created_at);
        lone.since_ns.store(clock::monotonic_ns());
        lone.state.store(state::NOTED);
    }

    /// An attempt of this task has come to its end, and its worker lives.
    pub fn acquit_lone(&self, tenant: u32, id: Id, created_at: At) {
        let is_its = |lone: &Lone| lone.id.load() == id && lone.created_at.load() == created_at && lone.tenant.load() == tenant;
        for (_, lone) in self.noted().filter(|(_, lone)| is_its(lone) && lone.database.load() == shmem::my_database()) {
            if lone.state.compare_exchange(state::NOTED, state::FILLING).is_ok() {
                self.is_kept_no_more(lone);
                lone.state.store(state::FREE);
                self.header.lone.fetch_sub(1);
            }
        }
    }

    /// The taker at `place` has other tasks, and takes no more until it has none, and may have this one; unless somebody does so
    /// already.
    pub fn keep(&self, lone: u32, place: u32) -> bool {
        let keeps = self.lone[lone as usize].kept_by.compare_exchange(0, place + 1).is_ok();
        if keeps {
            self.takers[place as usize].keeps.store(lone + 1);
        }
        keeps
    }

    /// Whether the taker at `place` takes no more for the sake of one.
    pub fn keeps_one(&self, place: u32) -> bool {
        let keeps = self.takers[place as usize].keeps.load().checked_sub(1);
        keeps.is_some_and(|lone| self.lone[lone as usize].kept_by.load() == place + 1)
    }

    /// The taker at `place` has nothing else, or has gone. True: what it has kept is noted still, and nobody's care now.
    pub fn keeps_none(&self, place: u32) -> bool {
        let keeps = self.takers[place as usize].keeps.swap(0).checked_sub(1);
        keeps.is_some_and(|lone| self.lone[lone as usize].kept_by.compare_exchange(place + 1, 0).is_ok())
    }

    /// It was handed out, or is nothing to be handed out alone any more: who has made room for it goes on.
    fn is_kept_no_more(&self, lone: &Lone) {
        if let Some(place) = lone.kept_by.swap(0).checked_sub(1) {
            self.call_for_room(place);
        }
    }

    /// It was handed out.
    pub fn lone_is_taken(&self, lone: u32) {
        self.is_kept_no_more(&self.lone[lone as usize]);
    }

    /// What the taker at `place` has made room for is others' now.
    pub fn leave_lone(&self, place: u32) {
        let keeps = self.takers[place as usize].keeps.load().checked_sub(1);
        if self.keeps_none(place)
            && let Some(lone) = keeps.map(|n| &self.lone[n as usize])
        {
            for index in self.entries_of(lone.database.load(), lone.tenant.load()) {
                ready::wake(self, index, At::LOWEST);
            }
        }
    }
}
