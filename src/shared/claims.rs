//! Claims: tasks that workers outside of the server have taken. A slot's kin: that a task runs is known here only.
//!
//! A claim's word says whose turn it is, and every change of it is a compare-and-swap. The session that took the task, its
//! *taker* (takers.rs), fills the place; whichever session ends the task makes it `Finishing` until its transaction is over;
//! only what is `Taken` can be taken away. So an end and a revocation exclude each other, and a row is started again only when
//! nobody can end its attempt any more.

use crate::postgres::{clock, shmem};
use crate::pure::atomics::Reset;
use crate::pure::atomics::{GaugeAt, GaugeI32, GaugeU8, GaugeU32, GaugeU64, HandshakeId, HandshakeU32, HandshakeU64};
use crate::pure::ids::Id;
use crate::pure::time::At;
use crate::pure::word::{ClaimState, ClaimWord};
use crate::settings;
use crate::shared::slot::{GATES, Item};
use crate::shared::text::store_text;
use crate::shared::{Shared, ready};
use crate::shared_struct;

/// What a worker is to be told of its claim: bits of `Claim::told`.
pub mod told {
    /// The task was cancelled: whatever is done for it is in vain.
    pub const CANCEL: u32 = 1;
    /// The attempt is over its timeout.
    pub const TIMEOUT: u32 = 2;
    /// The task should end soon or go back: what it belongs to pauses, or has less room, or all are to begin anew.
    pub const DRAIN: u32 = 4;
    /// Who heeds these not has its session ended.
    pub const MUST_END: u32 = CANCEL | TIMEOUT;
}

shared_struct! {
    /// A task that a worker has taken.
    pub struct Claim {
        /// A `ClaimWord`.
        pub word: HandshakeU64,
        pub database: HandshakeU32,
        pub tenant: HandshakeU32,
        /// The taker's place, and its pid at that time.
        pub taker: GaugeU32,
        pub pid: HandshakeU32,
        /// What the worker knows it by; no view shows it.
        pub id: HandshakeId,
        pub item_id: HandshakeId,
        pub item_created_at: GaugeAt,
        pub item_attempts: GaugeI32,
        pub item_tid: GaugeU64,
        pub item_gates: [GaugeU64; GATES],
        /// Who took it.
        pub role: GaugeU32,
        pub entry: GaugeU32,
        /// The entry of the schema's owner, whose executors look after what workers leave.
        pub owners: GaugeU32,
        pub taken_at: GaugeAt,
        /// Monotonic, in nanoseconds; as the deadline, 0 = none.
        pub taken_ns: GaugeU64,
        pub deadline_ns: GaugeU64,
        pub deadline: GaugeAt,
        /// See `told`; what of it was told; and since when it must end.
        pub told: HandshakeU32,
        pub heard: HandshakeU32,
        pub told_ns: GaugeU64,
        /// Whose transaction ends it, and since when.
        pub finisher: HandshakeU32,
        pub finishing_ns: GaugeU64,
        /// How often the finisher was told to come to an end.
        pub signals: GaugeU32,
        /// What the task says of itself: see progress.rs.
        pub progress: GaugeU32,
        pub note_version: HandshakeU32,
        pub note: [GaugeU8; crate::shared::progress::NOTE],
        pub handler: [GaugeU8; 64],
        pub tenant_name: [GaugeU8; 64],
    }
}

/// What there is to say of a claim that is made.
pub struct New<'a> {
    pub taker: u32,
    pub tenant: u32,
    pub tenant_name: &'a str,
    pub handler: &'a str,
    pub role: u32,
    pub entry: u32,
    pub owners: u32,
    pub item: Item,
    pub timeout_ms: i64,
    /// Where it is noted that its session is to have nothing else: see alone.rs.
    pub lone: Option<u32>,
}

impl Claim {
    pub fn load(&self) -> ClaimWord {
        ClaimWord::unpack(self.word.load())
    }
    pub fn is_live(&self) -> bool {
        matches!(self.load().state, ClaimState::Taken | ClaimState::Finishing)
    }
    /// Whether it was in this state, and so is in the other one now. Its word as it is then.
    pub fn change(&self, word: ClaimWord, to: ClaimState) -> Option<ClaimWord> {
        let new = ClaimWord { state: to, ..word };
        self.word.compare_exchange(word.pack(), new.pack()).is_ok().then_some(new)
    }
    pub fn item(&self) -> Item {
        Item {
            id: self.item_id.load(),
            tid: self.item_tid.load(),
            created_at: self.item_created_at.load(),
            attempts: self.item_attempts.load(),
            gates: std::array::from_fn(|n| self.item_gates[n].load()),
        }
    }
    /// Whether it is of a task of this tenant of this process's database.
    pub fn is_of(&self, tenant: u32) -> bool {
        self.tenant.load() == tenant && self.database.load() == shmem::my_database() && self.is_live()
    }
    /// The worker is to be told something, at its next call or while it waits for that.
    pub fn tell(&self, s: &Shared, what: u32) {
        let must_end = what & told::MUST_END != 0 && self.told.load() & told::MUST_END == 0;
        if must_end {
            // Before the launcher can see that it must.
            self.told_ns.store(clock::monotonic_ns());
        }
        if self.told.fetch_or(what) & what == 0 {
            if must_end {
                s.look_after_claims_by(clock::monotonic_ns() + settings::worker_grace().as_nanos() as u64);
            }
            s.tell_taker(self.taker.load());
        }
    }
}

fn key_of(database: u32, tenant: u32) -> u64 {
    u64::from(database) << 32 | u64::from(tenant)
}

impl Shared {
    /// Places that were ever taken.
    pub fn used_claims(&self) -> &'static [Claim] {
        if self.header.claims.load() == 0 {
            return &[];
        }
        &self.claims[..self.header.claims_end.load() as usize]
    }

    /// What workers have taken of this tenant.
    pub fn claims_of(&self, tenant: u32) -> impl Iterator<Item = &'static Claim> {
        let key = key_of(shmem::my_database(), tenant);
        let may = self.claim_tenants.iter().zip(self.used_claims()).filter(move |(of, _)| of.load() == key);
        may.map(|(_, claim)| claim).filter(move |claim| claim.is_of(tenant))
    }

    /// The claim that this task is under, if it is this very life of it.
    pub fn claim_on(&self, tenant: u32, id: Id, created_at: At) -> Option<&'static Claim> {
        self.claims_of(tenant).find(|claim| claim.item_id.load() == id && claim.item_created_at.load() == created_at)
    }

    /// The claim that a worker names.
    pub fn claim(&self, id: Id) -> Option<&'static Claim> {
        let may = self.claim_ids.iter().zip(self.used_claims()).filter(|(of, _)| of.load() == id.high());
        may.map(|(_, claim)| claim).find(|claim| claim.id.load() == id && claim.is_live() && claim.database.load() == shmem::my_database())
    }

    /// How many more a role may make: nobody holds more than are left for all others, so that a role that holds what it has taken
    /// keeps nobody else from taking. Alone it gets half of all, the next one a quarter.
    pub fn claims_left(&self, role: u32) -> usize {
        let free = self.claims.len().saturating_sub(self.header.claims.load() as usize);
        free.saturating_sub(self.claims_held(role)).div_ceil(2)
    }

    /// Whether a role can have as many as it may, where there are so many in all: what costs less to know.
    pub fn may_be_too_many(&self, claims: usize) -> bool {
        2 * claims >= self.claims.len()
    }

    /// How many it has made that aren't over.
    pub fn claims_held(&self, role: u32) -> usize {
        self.used_claims().iter().filter(|claim| claim.is_live() && claim.role.load() == role).count()
    }

    /// A place for a task that was just picked. None: all are taken.
    pub fn make_claim(&self, id: Id, new: &New) -> Option<&'static Claim> {
        let (n, claim, word) = self.claims.iter().enumerate().find_map(|(n, claim)| {
            let word = claim.load();
            let life = ClaimWord { life: word.life.wrapping_add(1), state: ClaimState::Filling };
            let free = word.state == ClaimState::Free && claim.word.compare_exchange(word.pack(), life.pack()).is_ok();
            free.then_some((n, claim, life))
        })?;
        claim.reset_but_for_its_word();
        claim.database.store(shmem::my_database());
        claim.tenant.store(new.tenant);
        claim.taker.store(new.taker);
        claim.pid.store(shmem::my_pid());
        claim.role.store(new.role);
        claim.entry.store(new.entry);
        claim.owners.store(new.owners);
        claim.item_id.store(new.item.id);
        claim.item_tid.store(new.item.tid);
        claim.item_created_at.store(new.item.created_at);
        claim.item_attempts.store(new.item.attempts);
        for (to, gate) in claim.item_gates.iter().zip(new.item.gates) {
            to.store(gate);
        }
        let now = clock::now();
        claim.taken_at.store(now);
        claim.taken_ns.store(clock::monotonic_ns());
        if new.timeout_ms > 0 {
            claim.deadline.store(now.saturating_add(crate::pure::time::Span::of_millis(new.timeout_ms)));
            claim.deadline_ns.store(clock::monotonic_ns() + new.timeout_ms as u64 * 1_000_000);
        }
        store_text(&claim.handler, new.handler);
        store_text(&claim.tenant_name, new.tenant_name);
        claim.id.store(id);
        self.claim_ids[n].store(id.high());
        self.claim_tenants[n].store(key_of(shmem::my_database(), new.tenant));
        self.entries[new.entry as usize].claimed(claim.taken_ns.load());
        self.header.claims.fetch_add(1);
        self.header.claims_end.fetch_max(n as u32 + 1);
        let taker = &self.takers[new.taker as usize];
        taker.claims.fetch_add(1);
        if let Some(lone) = new.lone {
            taker.alone.store(id.high());
            self.lone_is_taken(lone);
        }
        claim.change(word, ClaimState::Taken);
        // Deadlines are the launcher's, and that something is heard of the worker.
        let lease = clock::monotonic_ns() + settings::worker_lease().as_nanos() as u64;
        let deadline = claim.deadline_ns.load();
        self.look_after_claims_by(if deadline == 0 { lease } else { lease.min(deadline) });
        Some(claim)
    }

    /// The claim is over, whichever way: whoever has waited for it goes on. Its word was changed to `Free` by the caller, and
    /// nobody else has done that.
    pub fn claim_is_over(&self, ended: &Over) {
        let claims = self.header.claims.fetch_sub(1) as usize;
        let taker = &self.takers[ended.taker as usize];
        if taker.pid.load() == ended.pid {
            let _ = taker.claims.fetch_update(|n| n.checked_sub(1));
            let _ = taker.alone.compare_exchange(ended.id, 0);
            self.call_for_room(ended.taker);
        }
        if self.may_be_too_many(claims) {
            self.call_all_for_room();
        }
        let e = &self.entries[ended.entry as usize];
        e.no_longer_claimed(ended.taken_ns);
        e.debt.fetch_add(clock::monotonic_ns().saturating_sub(ended.taken_ns) / u64::from(e.weight.load().max(1)) + 1);
        if self.header.claims_passed_by.load() != 0 && self.header.claims_passed_by.swap(0) != 0 {
            for index in self.entries_of(shmem::my_database(), ended.tenant) {
                ready::wake(self, index, At::LOWEST);
            }
        }
        ready::wake_limited(self, ended.tenant);
    }

    /// Takes a claim away from its worker, unless its task is just being ended. True: it is gone.
    pub fn revoke(&self, claim: &Claim) -> bool {
        let word = claim.load();
        let over = Over::of(claim);
        let taken = word.state == ClaimState::Taken && claim.change(word, ClaimState::Free).is_some();
        if taken {
            self.claim_is_over(&over);
            // Its row is there, and was passed by because it was claimed.
            ready::wake(self, over.entry, At::LOWEST);
        }
        taken
    }
}

impl Claim {
    fn reset_but_for_its_word(&self) {
        let word = self.word.load();
        // Of no claim that anybody knows: its id is nobody's until all else is written.
        self.id.store(Id::NIL);
        for n in [&self.told, &self.heard, &self.finisher, &self.note_version] {
            n.reset();
        }
        for n in [&self.told_ns, &self.finishing_ns, &self.deadline_ns] {
            n.reset();
        }
        self.deadline.reset();
        self.signals.reset();
        self.progress.reset();
        self.note.reset();
        debug_assert_eq!(word, self.word.load());
    }
}

/// What stays of a claim when its place is given to another.
#[derive(Clone, Copy)]
pub struct Over {
    /// The beginning of its id.
    pub id: u64,
    pub taker: u32,
    /// The taker's pid: its place may be another's by now.
    pub pid: u32,
    pub item: Item,
    pub entry: u32,
    pub tenant: u32,
    pub taken_ns: u64,
}

impl Over {
    pub fn of(claim: &Claim) -> Over {
        Over {
            id: claim.id.load().high(),
            taker: claim.taker.load(),
            pid: claim.pid.load(),
            item: claim.item(),
            entry: claim.entry.load(),
            tenant: claim.tenant.load(),
            taken_ns: claim.taken_ns.load(),
        }
    }
}
