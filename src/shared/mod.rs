//! What all processes share: entries of tenants with work, roles, databases, executors' slots.
//!
//! Everything is an atomic, so that readers need no lock. Who may *write* what:
//!
//! - tables (`Entry`, `Role`, `Db`: key, in_use, stamp): under `Lock::Registry`, exclusive.
//! - ready heaps (`Entry::heap_*`, `Role::heap_root`, `Header::own_heap`, `picker`, vtimes, `Slot` places): under
//!   `Lock::Ready`, exclusive.
//! - `generation`, `low_key`, `next_due`, the dirty bits and gauges: anybody, any time; they are
//!   what the after-commit callback touches, which may take no lock.
//! - a slot's items: its executor, while it picks from the entry; its `word`: compare-and-swap.
//! - counters per handler and the ring of failures: see counters.rs.
//! - what is used of rates: under `Lock::Rates`.
//! - who holds how much of a table, and gets a place when it is full: share.rs.
//!
//! Slots are in the mapped file (postgres/mapping.rs), the rest in shared memory.

pub mod alone;
pub mod away;
pub mod blocked;
pub mod claims;
pub mod cooldown;
pub mod counters;
pub mod culprits;
pub mod database;
pub mod endings;
pub mod entry;
pub mod gauge;
pub mod prepared;
pub mod progress;
pub mod rates;
pub mod ready;
pub mod role;
pub mod runs;
pub mod share;
pub mod slot;
pub mod stops;
pub mod takers;
pub mod text;
pub mod waiters;
pub mod wake;
pub mod wakes;

use crate::postgres::{mapping, shmem};
use crate::pure::atomics::{GaugeAt, GaugeU8, GaugeU32, GaugeU64, HandshakeAt, HandshakeU32, HandshakeU64};
use crate::pure::shares::Tally;
use crate::pure::time::At;
pub use crate::pure::word::Word;
use crate::shared::alone::Lone;
use crate::shared::claims::Claim;
use crate::shared::counters::{FailedAttempt, Stat};
use crate::shared::culprits::{Culprit, Suspect};
use crate::shared::database::Db;
use crate::shared::entry::Entry;
use crate::shared::prepared::Prepared;
use crate::shared::rates::{RATES, RateUse};
use crate::shared::role::Role;
use crate::shared::runs::RunCursor;
use crate::shared::share::Pressure;
use crate::shared::slot::Slot;
use crate::shared::takers::Taker;
use crate::shared::waiters::Waiter;
use crate::shared::wakes::Wakes;
use crate::{settings, shared_struct};

/// Picked tasks a slot can hold: the largest batch.
pub const BATCH: usize = 64;
/// Executors' slots; also bits of `Role::idle`.
pub const SLOTS: usize = settings::EXECUTORS_LIMIT as usize;
pub const DATABASES: usize = 64;
/// Roles: one for each entry, for each executor, and one that is just coming.
fn roles_for(entries: usize) -> usize {
    entries + SLOTS + 1
}
pub const NONE: u32 = u32::MAX;

shared_struct! {
    /// One of a kind.
    pub struct Header {
        /// Random, anew at every start: tells what belongs to this life of the server.
        pub epoch: GaugeU64,
        /// The launcher's process number + 1; 0 = there is none.
        pub launcher: HandshakeU32,
        pub launcher_pid: HandshakeU32,
        /// Executors that can't be stopped (`slot::is_lost`), as the launcher has counted them last.
        pub lost: GaugeU32,
        /// Something for the launcher to look at; set before its latch.
        pub attention: HandshakeU32,
        /// Until when the launcher sleeps unless it is called; NEVER while it is awake, so that
        /// whoever notes something then wakes it once more.
        pub sleeping_until: HandshakeAt,
        /// Roles with work and no executor, and the least virtual time among them: what a running
        /// executor compares its own role's with before it goes on.
        pub waiting_roles: HandshakeU32,
        pub waiting_vtime: HandshakeU64,
        /// Where newcomers among roles start.
        pub role_vtime: GaugeU64,
        /// Bits: which words of `dirty` / `due_dirty` have bits.
        pub waiters: HandshakeU32,
        /// No place of `waiters` from here on was ever taken.
        pub waiters_end: HandshakeU32,
        pub evictions: HandshakeU64,
        /// Newcomers among tenants that have found no room: so many entries rest after their turns.
        pub newcomers: HandshakeU32,
        pub recycle: GaugeU64,
        pub last_no_slot: GaugeAt,
        pub started_at: GaugeAt,
        /// The slot + 1 that runs a suspect: no other suspect is started meanwhile.
        pub alone: HandshakeU32,
        /// Bit per slot: a pick has passed by a row whose id the slot still names, though of an attempt that is over. When it
        /// doesn't any more, the tenant is to be looked at again.
        pub passed_by: HandshakeU64,
        /// Databases came or went: the launcher is to look which there are.
        pub rescan: HandshakeU32,
        /// Failed attempts ever written into the ring.
        pub failures: GaugeU64,
        /// Where the next failure looks for a place, once all are taken.
        pub failure_hand: GaugeU64,
        /// The first transaction of the server's present life as a primary; 0 = no launcher has been here yet.
        pub first_xid: HandshakeU32,
        /// No transaction that was prepared before that is left.
        pub no_old_prepared: HandshakeU32,
        /// Notes of a prepared transaction found no place.
        pub prepared_lost: HandshakeU32,
        /// How many of `culprits` are to be written down.
        pub culprits: HandshakeU32,
        /// Random, anew at every start, shown to nobody: where in a table a key of a tenant's choice lies.
        pub secret: [GaugeU64; 2],
        /// Per slot: the root of the heap of the entries that its executor served last.
        pub own_heap: [GaugeU32; SLOTS],
        /// Per slot: how often one of its own was preferred, one after the other.
        pub own_in_a_row: [GaugeU32; SLOTS],
        /// Which tables were full lately.
        pub pressure: [Pressure; share::KINDS.len()],
        /// How many claims there are; no place of `claims`, of `takers` from there on was ever taken.
        pub claims: HandshakeU32,
        pub claims_end: HandshakeU32,
        pub takers_end: HandshakeU32,
        /// A look has passed by a row that a claim still names, though of an attempt that is over.
        pub claims_passed_by: HandshakeU32,
        /// How many tasks are to be handed out alone: see alone.rs.
        pub lone: HandshakeU32,
        /// How often an entry of workers' tasks was made: sessions that know all of them know by it that they do.
        pub external_entries: HandshakeU32,
        /// Takers that wait for others to let an entry go.
        pub takers_behind: HandshakeU32,
        /// How often somebody was given rights.
        pub grants: HandshakeU32,
        /// When the launcher looks after claims and takers next (monotonic ns).
        pub claims_look: HandshakeU64,
        /// The server's TimeZone, by the launcher; odd while it writes.
        pub zone_version: HandshakeU32,
        pub zone: [GaugeU8; 64],
    }
}

shared_struct! {
    pub struct SlotFile {
        pub magic: GaugeU64,
        pub system: GaugeU64,
        pub epoch: GaugeU64,
        /// Whether there is any suspect.
        pub suspects: GaugeU32,
    }
}

const MAGIC: u64 = 0x7471_0003_0000_0000 | std::mem::size_of::<Slot>() as u64;

#[derive(Clone, Copy)]
struct Layout {
    entries: usize,
    waiters: usize,
    claims: usize,
    rates: usize,
    stats: usize,
    failures: usize,
    counters: usize,
    at_dirty: usize,
    at_due_dirty: usize,
    at_listed: usize,
    at_looked_into: usize,
    at_claims: usize,
    at_claim_ids: usize,
    at_claim_tenants: usize,
    at_lone: usize,
    at_run_owners: usize,
    at_run_cursors: usize,
    at_takers: usize,
    at_dbs: usize,
    at_waiters: usize,
    at_prepared: usize,
    at_rates: usize,
    at_rate_tally: usize,
    at_stat_tally: usize,
    at_failure_tally: usize,
    at_failure_owners: usize,
    at_wakes: usize,
    at_entry_hash: usize,
    at_role_hash: usize,
    at_roles: usize,
    at_entries: usize,
    at_stats: usize,
    at_failures: usize,
    size: usize,
}

fn layout() -> Layout {
    let entries = settings::max_tenants();
    let words = entries.div_ceil(64);
    let waiters = shmem::max_sessions();
    let rates = RATES.max(entries * 2);
    let claims = settings::max_claims();
    let stats = settings::max_stats();
    let failures = settings::failure_ring();
    let counters = Tally::counters(entries);
    let mut at = shmem::size_of::<Header>(1);
    let mut take = |bytes: usize| {
        let here = at;
        at += bytes;
        here
    };
    let at_dirty = take(shmem::size_of::<HandshakeU64>(words));
    let at_due_dirty = take(shmem::size_of::<HandshakeU64>(words));
    let at_listed = take(shmem::size_of::<HandshakeU64>(words));
    let at_looked_into = take(shmem::size_of::<HandshakeU64>(words));
    let at_claims = take(shmem::size_of::<Claim>(claims));
    let at_claim_ids = take(shmem::size_of::<HandshakeU64>(claims));
    let at_claim_tenants = take(shmem::size_of::<HandshakeU64>(claims));
    let at_lone = take(shmem::size_of::<Lone>(claims));
    let at_run_owners = take(shmem::size_of::<HandshakeU64>(runs::COUNT));
    let at_run_cursors = take(shmem::size_of::<RunCursor>(runs::COUNT));
    let at_takers = take(shmem::size_of::<Taker>(waiters));
    let at_dbs = take(shmem::size_of::<Db>(DATABASES));
    let at_waiters = take(shmem::size_of::<Waiter>(waiters));
    let at_prepared = take(shmem::size_of::<Prepared>(shmem::max_prepared_transactions()));
    let at_rates = take(shmem::size_of::<RateUse>(rates));
    let at_rate_tally = take(shmem::size_of::<GaugeU32>(counters));
    let at_stat_tally = take(shmem::size_of::<GaugeU32>(counters));
    let at_failure_tally = take(shmem::size_of::<GaugeU32>(counters));
    let at_failure_owners = take(shmem::size_of::<GaugeU64>(failures));
    let at_wakes = take(shmem::size_of::<Wakes>(1 + DATABASES + SLOTS));
    let at_entry_hash = take(shmem::size_of::<HandshakeU32>(entries * 2));
    let at_role_hash = take(shmem::size_of::<HandshakeU32>(roles_for(entries) * 2));
    let at_roles = take(shmem::size_of::<Role>(roles_for(entries)));
    let at_entries = take(shmem::size_of::<Entry>(entries));
    let at_stats = take(shmem::size_of::<Stat>(stats));
    let at_failures = take(shmem::size_of::<FailedAttempt>(failures));
    Layout {
        entries,
        waiters,
        claims,
        rates,
        stats,
        failures,
        counters,
        at_dirty,
        at_due_dirty,
        at_listed,
        at_looked_into,
        at_claims,
        at_claim_ids,
        at_claim_tenants,
        at_lone,
        at_run_owners,
        at_run_cursors,
        at_takers,
        at_dbs,
        at_waiters,
        at_prepared,
        at_rates,
        at_rate_tally,
        at_stat_tally,
        at_failure_tally,
        at_failure_owners,
        at_wakes,
        at_entry_hash,
        at_role_hash,
        at_roles,
        at_entries,
        at_stats,
        at_failures,
        size: at,
    }
}

/// Each crash that blames nobody can make as many suspects as there are slots.
const SUSPECTS: usize = 4 * SLOTS;
const FILE_SLOTS: usize = shmem::size_of::<SlotFile>(1);
const FILE_SUSPECTS: usize = FILE_SLOTS + shmem::size_of::<Slot>(SLOTS);
const FILE_CULPRITS: usize = FILE_SUSPECTS + shmem::size_of::<Suspect>(SUSPECTS);

/// A tenant has no more of them than executors at once: nothing of it starts before they are written down.
fn culprits() -> usize {
    2 * SLOTS + settings::max_tenants() / 64
}
fn file_size() -> usize {
    FILE_CULPRITS + shmem::size_of::<Culprit>(crate::shared::culprits())
}

/// Everything shared, as slices.
#[derive(Clone, Copy)]
pub struct Shared {
    pub header: &'static Header,
    pub entries: &'static [Entry],
    pub roles: &'static [Role],
    pub dbs: &'static [Db],
    pub waiters: &'static [Waiter],
    pub prepared: &'static [Prepared],
    dirty: &'static [HandshakeU64],
    due_dirty: &'static [HandshakeU64],
    /// Bit per entry: workers may take tasks there. Under `Lock::Ready`.
    listed: &'static [HandshakeU64],
    /// Bit per entry of workers' tasks: somebody is looking into it just now. Under `Lock::Ready`.
    looked_into: &'static [HandshakeU64],
    pub claims: &'static [Claim],
    /// Of each claim the beginning of its id, and its database and tenant: apart, so that a look at many is a look at few cache lines.
    claim_ids: &'static [HandshakeU64],
    claim_tenants: &'static [HandshakeU64],
    pub lone: &'static [Lone],
    /// See runs.rs: whose each place is, 0 = nobody's, and what stands there.
    run_owners: &'static [HandshakeU64],
    run_cursors: &'static [RunCursor],
    pub takers: &'static [Taker],
    entry_hash: &'static [HandshakeU32],
    role_hash: &'static [HandshakeU32],
    pub stats: &'static [Stat],
    pub failures: &'static [FailedAttempt],
    /// Whose they are: apart, so that a look at many is a look at one cache line.
    pub failure_owners: &'static [GaugeU64],
    pub stat_tally: Tally,
    pub failure_tally: Tally,
    pub rate_tally: Tally,
    pub slots: &'static [Slot],
    pub rates: &'static [RateUse],
    wakes: &'static [Wakes],
    pub culprits: &'static [Culprit],
    pub suspects: &'static [Suspect],
    pub file: &'static SlotFile,
}

thread_local! {
    static SHARED: std::cell::OnceCell<Shared> = const { std::cell::OnceCell::new() };
}

/// The shared memory; None when the library wasn't preloaded.
pub fn get() -> Option<Shared> {
    if !shmem::available() || !mapping::available() {
        return None;
    }
    Some(SHARED.with(|s| *s.get_or_init(attach)))
}

/// As `get`, for workers, which exist only where it does.
pub fn shared() -> Shared {
    get().expect("workers run only where the library is preloaded")
}

fn attach() -> Shared {
    let l = layout();
    let words = l.entries.div_ceil(64);
    Shared {
        header: &shmem::slice::<Header>(0, 1)[0],
        entries: shmem::slice(l.at_entries, l.entries),
        roles: shmem::slice(l.at_roles, roles_for(l.entries)),
        dbs: shmem::slice(l.at_dbs, DATABASES),
        waiters: shmem::slice(l.at_waiters, l.waiters),
        prepared: shmem::slice(l.at_prepared, shmem::max_prepared_transactions()),
        rates: shmem::slice(l.at_rates, l.rates),
        wakes: shmem::slice(l.at_wakes, 1 + DATABASES + SLOTS),
        dirty: shmem::slice(l.at_dirty, words),
        due_dirty: shmem::slice(l.at_due_dirty, words),
        listed: shmem::slice(l.at_listed, words),
        looked_into: shmem::slice(l.at_looked_into, words),
        claims: shmem::slice(l.at_claims, l.claims),
        claim_ids: shmem::slice(l.at_claim_ids, l.claims),
        claim_tenants: shmem::slice(l.at_claim_tenants, l.claims),
        lone: shmem::slice(l.at_lone, l.claims),
        run_owners: shmem::slice(l.at_run_owners, runs::COUNT),
        run_cursors: shmem::slice(l.at_run_cursors, runs::COUNT),
        takers: shmem::slice(l.at_takers, l.waiters),
        entry_hash: shmem::slice(l.at_entry_hash, l.entries * 2),
        role_hash: shmem::slice(l.at_role_hash, roles_for(l.entries) * 2),
        stats: shmem::slice(l.at_stats, l.stats),
        failures: shmem::slice(l.at_failures, l.failures),
        failure_owners: shmem::slice(l.at_failure_owners, l.failures),
        stat_tally: Tally::new(shmem::slice(l.at_stat_tally, l.counters)),
        failure_tally: Tally::new(shmem::slice(l.at_failure_tally, l.counters)),
        rate_tally: Tally::new(shmem::slice(l.at_rate_tally, l.counters)),
        slots: mapping::slice(FILE_SLOTS, SLOTS),
        culprits: mapping::slice(FILE_CULPRITS, culprits()),
        suspects: mapping::slice(FILE_SUSPECTS, SUSPECTS),
        file: &mapping::slice::<SlotFile>(0, 1)[0],
    }
}

/// Bytes of shared memory to ask for.
pub fn size() -> usize {
    layout().size
}

/// Runs in the postmaster each time shared memory is made anew. Reads what the mapped file says of
/// the life before, then empties it.
pub fn initialise() {
    mapping::open(file_size());
    let s = attach();
    let epoch = uuid::Uuid::new_v4().as_u64_pair().0 | 1;
    s.header.epoch.store(epoch);
    let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
    // Six of the bits are not random; the epoch's are others.
    s.header.secret[0].store(high);
    s.header.secret[1].store(low);
    s.header.started_at.store(crate::postgres::clock::now());
    s.header.sleeping_until.store(At::NEVER);
    s.header.claims_look.store(u64::MAX);
    for e in s.entries {
        e.heap_child.store(NONE);
        e.heap_next.store(NONE);
        e.low_key.store(At::NEVER);
        e.next_due.store(At::NEVER);
        e.schedule_due.store(At::NEVER);
        e.tidy_at.store(At::NEVER);
    }
    for root in s.roles.iter().map(|r| &r.heap_root).chain(&s.header.own_heap) {
        root.store(NONE);
    }
    for h in s.entry_hash.iter().chain(s.role_hash) {
        h.store(NONE);
    }
    let system = shmem::system_identifier();
    let ours = s.file.magic.load() == MAGIC && s.file.system.load() == system;
    if !ours {
        mapping::clear();
    }
    crate::shared::culprits::initialise(&s, shmem::went_down_uncleanly());
    for slot in s.slots {
        slot::free_slot(slot);
    }
    s.file.magic.store(MAGIC);
    s.file.system.store(system);
    s.file.epoch.store(epoch);
}

impl Word {
    pub fn load(slot: &Slot) -> Word {
        Self::unpack(slot.word.load())
    }
    /// False: somebody has replaced it before.
    pub fn replace(self, slot: &Slot, new: Word) -> bool {
        slot.word.compare_exchange(self.pack(), new.pack()).is_ok()
    }
}

impl Shared {
    /// By the launcher: what no client and no ALTER ROLE or DATABASE has set. One that is too long is none.
    pub fn publish_zone(&self, zone: &str) {
        let zone = if zone.len() <= self.header.zone.len() { zone } else { "" };
        if text::load_text(&self.header.zone) != zone {
            self.header.zone_version.fetch_add(1);
            text::store_text(&self.header.zone, zone);
            self.header.zone_version.fetch_add(1);
        }
    }
    /// None: the launcher hasn't been here yet.
    pub fn server_zone(&self) -> Option<String> {
        loop {
            let before = self.header.zone_version.load();
            let zone = text::load_text(&self.header.zone);
            if before.is_multiple_of(2) && self.header.zone_version.load() == before {
                return Some(zone).filter(|z| !z.is_empty());
            }
            std::hint::spin_loop();
        }
    }

    /// A sweep is to find, then, what has no entry.
    pub fn seek_at(&self, db: &Db, at: At) {
        if at < db.unplaced_due.fetch_min(at) && at < self.header.sleeping_until.load() {
            self.call_launcher_now();
        }
    }

    /// Those who wait for tasks, and free places among them.
    pub fn waiting(&self) -> &'static [Waiter] {
        &self.waiters[..self.header.waiters_end.load() as usize]
    }

    pub fn launcher_wakes(&self) -> &'static Wakes {
        &self.wakes[0]
    }
    pub fn scheduler_wakes(&self, db: &Db) -> &'static Wakes {
        let n = self.dbs.iter().position(|d| std::ptr::eq(d, db)).expect("one of ours");
        &self.wakes[1 + n]
    }
    pub fn executor_wakes(&self, place: usize) -> &'static Wakes {
        &self.wakes[1 + DATABASES + place]
    }

    pub fn mark_dirty(&self, index: u32) {
        self.dirty[index as usize / 64].fetch_or(1 << (index % 64));
    }
    pub fn mark_due(&self, index: u32) {
        self.due_dirty[index as usize / 64].fetch_or(1 << (index % 64));
    }
    pub fn take_dirty(&self, f: impl FnMut(usize)) {
        take_bits(self.dirty, f);
    }
    pub fn take_due(&self, f: impl FnMut(usize)) {
        take_bits(self.due_dirty, f);
    }
    /// Workers outside of the server may take tasks of this entry, or not any more. Under `Lock::Ready`.
    pub fn list(&self, index: u32, listed: bool) {
        let (word, bit) = (&self.listed[index as usize / 64], 1 << (index % 64));
        if listed {
            word.fetch_or(bit);
        } else {
            word.fetch_and(!bit);
        }
    }
    /// Somebody looks into this entry, or not any more. Under `Lock::Ready`.
    pub fn look_into(&self, index: u32, is_at_it: bool) {
        let (word, bit) = (&self.looked_into[index as usize / 64], 1 << (index % 64));
        if is_at_it {
            word.fetch_or(bit);
        } else {
            word.fetch_and(!bit);
        }
    }
    /// Whether somebody is looking into one of these entries.
    pub fn are_looked_into(&self, of: impl Fn(usize) -> u64) -> bool {
        self.looked_into.iter().enumerate().any(|(w, word)| word.load() & of(w) != 0)
    }
    /// Entries of which tasks may be taken.
    pub fn each_listed(&self, f: impl FnMut(u32)) {
        self.each_listed_of(|_| u64::MAX, f);
    }
    /// The same, of those whose bits these words have.
    pub fn each_listed_of(&self, of: impl Fn(usize) -> u64, mut f: impl FnMut(u32)) {
        for (w, word) in self.listed.iter().enumerate() {
            let mut bits = word.load();
            if bits != 0 {
                bits &= of(w);
            }
            while bits != 0 {
                f((w * 64) as u32 + bits.trailing_zeros());
                bits &= bits - 1;
            }
        }
    }
    pub fn any_dirty(&self) -> bool {
        self.dirty.iter().any(|w| w.load() != 0)
    }

    /// The launcher is to look after claims by then (monotonic ns): it is called if it wouldn't.
    pub fn look_after_claims_by(&self, at: u64) {
        if at < self.header.claims_look.fetch_min(at) {
            self.call_launcher_now();
        }
    }
    /// Tells the launcher that something needs it; while it watches anyway, that is enough.
    pub fn call_launcher(&self) {
        if self.header.attention.swap(1) == 0 {
            self.call_launcher_now();
        }
    }
    pub fn call_launcher_now(&self) {
        let launcher = self.header.launcher.load();
        if launcher > 0 {
            crate::postgres::latch::wake(launcher - 1);
        }
    }
}

fn take_bits(words: &[HandshakeU64], mut f: impl FnMut(usize)) {
    for (w, word) in words.iter().enumerate() {
        if word.load() == 0 {
            continue;
        }
        let mut bits = word.swap(0);
        while bits != 0 {
            f(w * 64 + bits.trailing_zeros() as usize);
            bits &= bits - 1;
        }
    }
}
