//! Takers: sessions through which workers outside of the server take tasks, and wait for some.
//!
//! A taker's end is the end of what it has taken. One that waits is called when a task comes that it offers to do; it says what
//! that is in masks, a bit for many names, so that a call too many is possible, and one too few is not.

use crate::postgres::{clock, latch, shmem};
use crate::pure::atomics::{GaugeAt, GaugeU8, GaugeU32, GaugeU64, HandshakeU32, HandshakeU64};
use crate::shared::text::store_text;
use crate::shared::{Shared, ready};
use crate::shared_struct;
use std::cell::Cell;
use std::collections::HashSet;

/// `Taker::waits`.
pub mod waits {
    pub const NO: u32 = 0;
    pub const WAITS: u32 = 1;
    /// It was called for a task and hasn't taken any since.
    pub const CALLED: u32 = 2;
    /// Others look where it would, and let that go in a moment.
    pub const BEHIND: u32 = 3;
    /// It may take nothing now, whatever comes, and is called when it may.
    pub const FULL: u32 = 4;
}

/// `Taker::news`.
pub mod news {
    pub const NONE: u32 = 0;
    pub const SOME: u32 = 1;
    /// A wait has ended because of them, and no other one does.
    pub const SAID: u32 = 2;
}

/// Who was called for a task and hasn't taken one by then is no longer relied on.
pub const CALLED_NS: u64 = 500_000_000;
/// Words of a mask of tenants.
const WORDS: usize = 4;

shared_struct! {
    /// A session through which a worker takes tasks.
    pub struct Taker {
        /// 0 = the place is free.
        pub pid: HandshakeU32,
        /// Process number + 1.
        pub proc: HandshakeU32,
        pub database: HandshakeU32,
        pub role: GaugeU32,
        pub since: GaugeAt,
        /// When the worker called last (monotonic ns).
        pub seen_ns: HandshakeU64,
        /// What it has taken and not ended.
        pub claims: HandshakeU32,
        /// See `waits`; and since when it is so, where it was called.
        pub waits: HandshakeU32,
        pub called_ns: GaugeU64,
        /// What it waits for: bits of handlers' names, and of tenants' schemas.
        pub handlers: HandshakeU64,
        pub tenants: [HandshakeU64; WORDS],
        /// How many entries of workers' tasks and how many grants there had been when it said so: of what came later it doesn't
        /// know whether it wants it.
        pub knows: HandshakeU32,
        pub grants: HandshakeU32,
        /// Something is to be told to it: see `news`.
        pub news: HandshakeU32,
        /// Its worker is to begin anew: that is to be told.
        pub recycled: HandshakeU32,
        /// When it was told to end because nothing was heard of its worker (monotonic ns); 0 = it wasn't.
        pub told_to_end: HandshakeU64,
        pub signals: GaugeU32,
        /// The claim of a task that it is to have alone, by the beginning of its id; 0 = there is none. See alone.rs.
        pub alone: HandshakeU64,
        /// Where such a task is noted, + 1, for which it makes room.
        pub keeps: HandshakeU32,
        /// It has passed by such a task, because it had others.
        pub passed: HandshakeU32,
        pub name: [GaugeU8; 64],
        pub host: [GaugeU8; 64],
        /// The handlers that it offers, as it has said them; empty = any.
        pub offers: [GaugeU8; 256],
        /// How many handlers it offers, 0 = any; and marks of the first of their names.
        pub offered: HandshakeU32,
        pub marks: [GaugeU64; MARKS],
    }
}

/// Handlers of a worker that are told apart; of one that offers more it is taken that it may offer any other.
pub const MARKS: usize = 128;

fn mark_of(handler: &str) -> u64 {
    crate::pure::ids::gate_id("bit", handler).high()
}

impl Taker {
    /// Says which handlers it offers; None: any.
    pub fn set_offers(&self, handlers: Option<&[String]>) {
        let handlers = handlers.unwrap_or_default();
        for (to, handler) in self.marks.iter().zip(handlers) {
            to.store(mark_of(handler));
        }
        self.offered.store(handlers.len() as u32);
    }
    pub fn offers(&self, handler: &str) -> bool {
        let count = self.offered.load() as usize;
        count == 0 || count > MARKS || self.marks[..count].iter().any(|mark| mark.load() == mark_of(handler))
    }
}

/// The bit of a handler's name.
pub fn bit_of(handler: &str) -> u64 {
    1 << (crate::pure::ids::gate_id("bit", handler).low() % 64)
}

/// The tenants that a taker waits for.
#[derive(Clone, Copy)]
pub struct Tenants([u64; WORDS]);

impl Tenants {
    pub fn of(schemas: impl Iterator<Item = u32>) -> Tenants {
        let mut words = [0; WORDS];
        for schema in schemas {
            let (word, bit) = place_of(schema);
            words[word] |= bit;
        }
        Tenants(words)
    }
    pub fn store(self, taker: &Taker) {
        for (to, bits) in taker.tenants.iter().zip(self.0) {
            to.store(bits);
        }
    }
}

fn place_of(tenant: u32) -> (usize, u64) {
    let hash = u64::from(tenant).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    (hash as usize / 64 % WORDS, 1 << (hash % 64))
}

thread_local! {
    /// The place of this session + 1.
    static MINE: Cell<u32> = const { Cell::new(0) };
}

/// The place of this session among the takers; None: it hasn't taken or waited for anything.
pub fn mine() -> Option<u32> {
    MINE.get().checked_sub(1)
}

impl Shared {
    pub fn used_takers(&self) -> &'static [Taker] {
        &self.takers[..self.header.takers_end.load() as usize]
    }

    /// The place of this session, made if it has none; there is one for every session that there can be.
    pub fn my_taker(&self, role: u32) -> Option<(u32, &'static Taker)> {
        if let Some(n) = mine() {
            let taker = &self.takers[n as usize];
            taker.role.store(role);
            return Some((n, taker));
        }
        let pid = shmem::my_pid();
        let (n, taker) = self.takers.iter().enumerate().find(|(_, taker)| taker.pid.compare_exchange(0, pid).is_ok())?;
        taker.database.store(shmem::my_database());
        taker.role.store(role);
        taker.since.store(clock::now());
        taker.seen_ns.store(clock::monotonic_ns());
        taker.claims.store(0);
        taker.waits.store(waits::NO);
        taker.news.store(news::NONE);
        taker.recycled.store(0);
        taker.told_to_end.store(0);
        taker.signals.store(0);
        taker.offered.store(0);
        taker.alone.store(0);
        taker.keeps.store(0);
        taker.passed.store(0);
        store_text(&taker.name, "");
        store_text(&taker.host, "");
        store_text(&taker.offers, "");
        taker.proc.store(latch::my_procno() + 1);
        self.header.takers_end.fetch_max(n as u32 + 1);
        MINE.set(n as u32 + 1);
        Some((n as u32, taker))
    }

    /// The session's end: its place is free. What it had taken has been given back.
    pub fn leave_takers(&self) {
        if let Some(n) = mine() {
            MINE.set(0);
            let taker = &self.takers[n as usize];
            taker.proc.store(0);
            taker.waits.store(waits::NO);
            taker.database.store(0);
            taker.pid.store(0);
        }
    }

    /// Something is to be told to it.
    pub fn tell_taker(&self, n: u32) {
        let taker = &self.takers[n as usize];
        taker.news.store(news::SOME);
        if let Some(proc) = taker.proc.load().checked_sub(1) {
            latch::wake(proc);
        }
    }

    /// Tasks of these handlers have come, or may be taken again, in this entry's tenant: one worker is called that waits for such.
    pub fn call_taker(&self, index: u32, handlers: u64) {
        self.call_taker_from(0, index, handlers);
    }

    /// The same of those whose place is this one or behind it.
    fn call_taker_from(&self, first: usize, index: u32, handlers: u64) {
        let entry = &self.entries[index as usize];
        let (database, tenant) = (entry.database.load(), entry.tenant.load());
        let (word, bit) = place_of(tenant);
        let (made, grants) = (entry.made.load(), self.header.grants.load());
        let wants = |taker: &Taker| taker.tenants[word].load() & bit != 0 || taker.knows.load() < made || taker.grants.load() != grants;
        for taker in self.used_takers().iter().skip(first) {
            if taker.waits.load() == waits::WAITS
                && taker.database.load() == database
                && taker.handlers.load() & handlers != 0
                && wants(taker)
                && self.call(taker, waits::WAITS)
            {
                return;
            }
        }
    }

    /// Calls it if it waits in this way.
    fn call(&self, taker: &Taker, waits: u32) -> bool {
        let is_called = taker.waits.compare_exchange(waits, waits::CALLED).is_ok();
        if is_called {
            self.rely_on(taker);
            if let Some(proc) = taker.proc.load().checked_sub(1) {
                latch::wake(proc);
            }
        }
        is_called
    }

    /// Whether the session at `place` may take anything now: not beside what it is to have alone, nor while it makes room for
    /// such a task, nor more than its role may have.
    pub fn may_take(&self, place: u32) -> bool {
        let taker = &self.takers[place as usize];
        let has_room = || !self.may_be_too_many(self.header.claims.load() as usize) || self.claims_left(taker.role.load()) > 0;
        taker.alone.load() == 0 && (taker.claims.load() == 0 || !self.keeps_one(place)) && has_room()
    }

    /// What has kept the session at `place` from taking may be over: it is called if it waits for that, or for what it has passed
    /// by because it had others.
    pub fn call_for_room(&self, place: u32) {
        let taker = &self.takers[place as usize];
        match taker.waits.load() {
            waits::FULL if self.may_take(place) => self.call(taker, waits::FULL),
            waits::WAITS if taker.passed.load() != 0 && taker.claims.load() == 0 => self.call(taker, waits::WAITS),
            _ => false,
        };
    }

    /// There may be room for another claim: of each role one that waits for that is called.
    pub fn call_all_for_room(&self) {
        let mut called = HashSet::new();
        for (place, taker) in self.used_takers().iter().enumerate().filter(|(_, taker)| taker.waits.load() == waits::FULL) {
            let role = taker.role.load();
            if !called.contains(&role) && self.may_take(place as u32) && self.call(taker, waits::FULL) {
                called.insert(role);
            }
        }
    }

    /// It is to take something soon.
    pub fn rely_on(&self, taker: &Taker) {
        let now = clock::monotonic_ns();
        taker.called_ns.store(now);
        taker.waits.store(waits::CALLED);
        self.look_after_claims_by(now + CALLED_NS);
    }

    /// The taker at `place` was called and takes nothing: for each tenant with tasks that may be taken another one is called that
    /// waits for such. One behind it: who waits in front of it has had the call, or has begun to wait since and has looked then.
    /// So a call comes to its end, however many have no use for it.
    pub fn call_behind(&self, place: u32) {
        self.call_all_for_room();
        ready::gather_now(self);
        self.each_listed(|index| self.call_taker_from(place as usize + 1, index, u64::MAX));
    }

    /// It waits no more. If it was called, another one is.
    pub fn pass_on(&self, place: u32) {
        if self.takers[place as usize].waits.swap(waits::NO) == waits::CALLED {
            self.call_behind(place);
        }
    }

    /// Somebody was given rights: who waits is to look what that means for it.
    pub fn tell_of_grant(&self) {
        self.header.grants.fetch_add(1);
        for taker in self.used_takers().iter().filter(|taker| matches!(taker.waits.load(), waits::WAITS | waits::FULL)) {
            if let Some(proc) = taker.proc.load().checked_sub(1) {
                latch::wake(proc);
            }
        }
    }

    /// An entry was let go: one of those who wait for that goes on.
    pub fn call_one_behind(&self) {
        let behind = |taker: &&Taker| taker.waits.load() == waits::BEHIND;
        for taker in self.used_takers().iter().filter(behind) {
            if taker.waits.compare_exchange(waits::BEHIND, waits::NO).is_ok() {
                if let Some(proc) = taker.proc.load().checked_sub(1) {
                    latch::wake(proc);
                }
                return;
            }
        }
    }

    /// The worker of this session lives: it has just called. Of a session that takes no tasks nothing is noted.
    pub fn is_alive(&self) {
        if let Some(n) = mine() {
            self.takers[n as usize].seen_ns.store(clock::monotonic_ns());
        }
    }
}
