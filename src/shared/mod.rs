//! What all processes share: entries of tenants with work, roles, databases, executors' slots.
//!
//! Everything is an atomic, so that readers need no lock. Who may *write* what:
//!
//! - tables (`Entry`, `Role`, `Db`: key, in_use, stamp): under `Lock::Registry`, exclusive.
//! - ready heaps (`Entry::heap_*`, `Role::heap_root`, `Header::own_heap`, `holder`, vtimes, `Slot` places): under
//!   `Lock::Ready`, exclusive.
//! - `generation`, `low_key`, `next_due`, the dirty bits and gauges: anybody, any time; they are
//!   what the after-commit callback touches, which may take no lock.
//! - a slot's items: its executor, while it holds the entry; its `word`: compare-and-swap.
//! - counters per handler and the ring of failures: see counters.rs.
//! - what is used of rates: under `Lock::Rates`.
//! - who holds how much of a table, and gets a place when it is full: share.rs.
//!
//! Slots are in the mapped file (postgres/mapping.rs), the rest in shared memory.

pub mod away;
pub mod blocked;
pub mod counters;
pub mod culprits;
pub mod gauge;
pub mod holds;
pub mod prepared;
pub mod progress;
pub mod ready;
pub mod share;
pub mod slot;
pub mod waiters;
pub mod wake;
pub mod wakes;

use crate::postgres::clock;
use crate::postgres::latch;
use crate::postgres::lwlock::Lock;
use crate::postgres::{mapping, shmem};
use crate::pure::atomics::One;
use crate::pure::atomics::{GaugeI32, GaugeI64, GaugeU8, GaugeU32, GaugeU64, HandshakeI64, HandshakeU32, HandshakeU64, Reset};
use crate::pure::shares::{self, Owner, Says, Tally};
use crate::pure::time::{Micros, NEVER};
pub use crate::pure::word::{Scheduler, SlotState, Stop, Unpark, Word};
use crate::shared::counters::{FailedAttempt, Stat};
use crate::shared::share::Pressure;
use crate::shared::wakes::REASONS;
use crate::{settings, shared_struct};
use siphasher::sip::SipHasher13;
use std::hash::Hasher;

/// Picked tasks a slot can hold: the largest batch.
pub const BATCH: usize = 64;
/// Executors' slots; also bits of `Role::idle`.
pub const SLOTS: usize = settings::EXECUTORS_LIMIT as usize;
pub const DATABASES: usize = 64;
/// Priorities of one tenant whose scan position is remembered.
pub const CURSORS: usize = 4;
/// Tasks of one tenant and role that could be neither finished nor failed, held back.
pub const HOLDS: usize = 8;
/// Gates (waits/gate.rs) that a picked task can have passed: its lock, limit key, handler and queue.
pub const GATES: usize = 4;
/// Tenants, and cancelled tasks, whose notes of one prepared transaction are kept; a sweep finds the others.
pub const NOTED: usize = 8;
/// Sessions that may drop, rename or copy one database at a time.
pub const AWAY: usize = 4;
/// Rates that are counted at a time, in all tenants, at the least.
const RATES: usize = 8192;
/// Roles: one for each entry, for each executor, and one that is just coming.
fn roles_for(entries: usize) -> usize {
    entries + SLOTS + 1
}
const NONE: u32 = u32::MAX;

shared_struct! {
    /// One of a kind.
    pub struct Header {
        /// Random, anew at every start: tells what belongs to this life of the server.
        pub epoch: GaugeU64,
        /// The launcher's process number + 1; 0 = there is none.
        pub launcher: HandshakeU32,
        pub launcher_pid: HandshakeU32,
        /// Something for the launcher to look at; set before its latch.
        pub attention: HandshakeU32,
        /// Until when the launcher sleeps unless it is called; NEVER while it is awake, so that
        /// whoever notes something then wakes it once more.
        pub sleeping_until: HandshakeI64,
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
        pub last_no_slot: GaugeI64,
        pub started_at: GaugeI64,
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
        /// The server's TimeZone, by the launcher; odd while it writes.
        pub zone_version: HandshakeU32,
        pub zone: [GaugeU8; 64],
    }
}

shared_struct! {
    /// The work of one tenant under one role.
    pub struct Entry {
        pub in_use: HandshakeU32,
        pub database: HandshakeU32,
        pub tenant: HandshakeU32,
        pub role: GaugeU32,
        pub role_index: GaugeU32,
        /// Changes when the place is given to another key.
        pub stamp: HandshakeU32,
        /// Enqueuing transactions that hold on to this entry.
        pub pins: HandshakeU32,
        /// The slot + 1 that is picking here.
        pub holder: HandshakeU32,
        /// Bumped by every wake. Ready means: not equal to `seen`.
        pub generation: HandshakeU64,
        /// The generation that the last exhaustive pick had read before it looked.
        pub seen: HandshakeU64,
        /// Least run_at enqueued since the last pick: lowers the cursors.
        pub low_key: HandshakeI64,
        /// When the next row here comes due: may be too early, never too late.
        pub next_due: HandshakeI64,
        /// When the next schedule of this tenant comes due (entries of the owner's role).
        pub schedule_due: HandshakeI64,
        /// No schedule is due before that: ticks begin there, so that they don't walk over the dead rows
        /// of all ticks before. Whoever announces a schedule lowers it; see ready::schedule_due.
        pub schedule_low: HandshakeI64,
        /// When the last tick has looked at all of them.
        pub schedule_full: GaugeI64,
        /// The whole tenant is left alone until then, for `blocked_reason`.
        pub blocked_until: HandshakeI64,
        pub blocked_since: GaugeI64,
        pub blocked_delay: GaugeI64,
        pub blocked_reason: One<blocked::Reason>,
        /// Rows were left because of the tenant's limit: wake when one of its tasks ends.
        pub limited: HandshakeU32,
        /// Whether parked rows should be looked at again.
        pub unpark: One<Unpark>,
        /// How often that was asked for: tells whether it was meanwhile.
        pub unparks: HandshakeU64,
        pub unpark_at: HandshakeI64,
        pub vtime: GaugeU64,
        /// Charged while the entry was in the heap; added when it leaves.
        pub debt: GaugeU64,
        pub weight: GaugeU32,
        pub heap_in: GaugeU32,
        /// The slot + 1 of the executor that served it last: see `Role::own`.
        pub served_by: GaugeU32,
        pub heap_child: GaugeU32,
        pub heap_next: GaugeU32,
        pub batch: GaugeU32,
        /// The source (waits/turn.rs) that was served last.
        pub turn: GaugeU64,
        pub cursor_source: [GaugeU64; CURSORS],
        pub cursor_priority: [GaugeI32; CURSORS],
        pub cursor_set: [GaugeU32; CURSORS],
        pub cursor_time: [GaugeI64; CURSORS],
        pub cursor_high: [GaugeU64; CURSORS],
        pub cursor_low: [GaugeU64; CURSORS],
        pub hold_high: [GaugeU64; HOLDS],
        pub hold_low: [GaugeU64; HOLDS],
        pub hold_until: [GaugeI64; HOLDS],
        pub hold_delay: [GaugeI64; HOLDS],
        /// How often, one after the other, an executor ended while it ran the task.
        pub hold_ends: [GaugeU32; HOLDS],
        /// This entry's part of its tenant's gauge of unfinished tasks, perhaps below zero: see gauge.rs.
        pub unfinished: HandshakeI64,
        /// It says something: the tenant's rows were counted since the server began.
        pub counted: HandshakeU32,
        /// Transactions that were about to commit an addition, and those that have added it, or have not.
        pub entered: HandshakeU64,
        pub left: HandshakeU64,
        pub corrections: HandshakeU64,
        pub oldest_due: GaugeI64,
        pub done: GaugeU64,
        pub failed: GaugeU64,
        pub retried: GaugeU64,
        pub finished_since_retention: GaugeU64,
        /// Where the next retention pass goes on.
        pub retention_high: GaugeU64,
        pub retention_low: GaugeU64,
        pub minute: GaugeI64,
        pub done_this_minute: GaugeU64,
        pub done_last_minute: GaugeU64,
        pub failed_this_minute: GaugeU64,
        pub failed_last_minute: GaugeU64,
    }
}

shared_struct! {
    /// A role in a database: what executors belong to.
    pub struct Role {
        pub in_use: HandshakeU32,
        pub database: HandshakeU32,
        pub role: GaugeU32,
        /// Ready entries that no living executor of the role has served; and how many are ready in all.
        pub heap_root: GaugeU32,
        pub heap_count: HandshakeU32,
        /// Bit per slot: an executor of the role lives there, and the ready entries it served last are in a heap of its own
        /// (`Header::own_heap`).
        pub own: GaugeU64,
        pub vtime: GaugeU64,
        /// Where a tenant that wakes starts: the virtual time last served.
        pub floor: GaugeU64,
        /// Executors, starting ones included.
        pub executors: HandshakeU32,
        pub starting: HandshakeU32,
        /// Bit per slot: it waits for its latch.
        pub idle: HandshakeU64,
        /// Starts failed: no further one before.
        pub start_after: GaugeI64,
        pub start_failures: GaugeU32,
        pub failing_since: GaugeI64,
        /// Executors that have ended, uncalled for, with work in their lists, since one of them came to the end of a task.
        pub ends: HandshakeU32,
        /// Batch size that its tenants' tasks were good for lately: where a newcomer starts.
        pub batch: GaugeU32,
        /// Since when it has work and no place; 0 = it doesn't wait.
        pub waiting_since: GaugeI64,
    }
}

shared_struct! {
    /// A database that is or may be served.
    pub struct Db {
        pub database: HandshakeU32,
        /// See `db_state`.
        pub state: HandshakeU32,
        /// A `Scheduler`, packed; and its pid.
        pub scheduler: One<Scheduler>,
        pub scheduler_pid: HandshakeU32,
        pub sweep_wanted: HandshakeU32,
        /// Counts the orders for a sweep; and how many there had been when the present one began.
        pub sweep_orders: HandshakeU32,
        pub sweep_seen: HandshakeU32,
        /// The present sweep has left tenants out whose tables somebody held.
        pub sweep_missed: HandshakeU32,
        /// Where the sweep goes on: the OID of the last tenant looked at.
        pub sweep_from: HandshakeU32,
        pub sweep_started: GaugeI64,
        pub swept_at: HandshakeI64,
        pub swept_tenants: GaugeU32,
        pub ticks_wanted: HandshakeU32,
        /// The entry + 1 whose schedules are being served: not noted as due meanwhile.
        pub ticking: HandshakeU32,
        /// Something is to be spread over the tenants; counts the calls, so that none is taken for an older one.
        pub fanouts: HandshakeU32,
        /// When work of tenants comes due for which there was no entry: then a sweep finds it. NEVER = there is none.
        pub unplaced_due: HandshakeI64,
        /// The first tenant for which the last sweep found no room: the next one begins there.
        pub unplaced_first: HandshakeU32,
        pub keep_until: HandshakeI64,
        /// Workers leave and stay away: process number + 1 and pid of sessions that drop or copy the database.
        pub away: [HandshakeU64; AWAY],
        pub problem: GaugeU32,
        pub start_after: GaugeI64,
        pub start_failures: GaugeU32,
        /// The settings leave it out.
        pub excluded: HandshakeU32,
        /// Counts the calls to look into it again: an answer to an older one is none.
        pub asked: HandshakeU32,
    }
}

impl Db {
    /// All its tenants are to be looked at, from the first one on.
    pub fn order_sweep(&self) {
        // One that is under way goes on, and begins once more.
        self.sweep_orders.fetch_add(1);
        self.sweep_wanted.store(1);
        self.call_scheduler();
    }
    /// Its scheduler, if there is one, looks what there is to do. It may just be leaving: the launcher sees to that.
    pub fn call_scheduler(&self) {
        if let Scheduler::Lives(number) = self.scheduler.load() {
            latch::wake(number);
        }
    }
    /// Whether somebody drops or copies it, or the like, for which no worker may be there.
    pub fn is_away(&self) -> bool {
        let is_alive = |by: &HandshakeU64| {
            let by = by.load();
            by != 0 && crate::postgres::latch::is_process((by >> 32) as u32 - 1, by as u32)
        };
        self.away.iter().any(is_alive)
    }
    /// The extension came, went or changed there, or might have.
    pub fn look_again(&self) {
        self.asked.fetch_add(1);
        self.state.store(db_state::UNKNOWN);
    }
}

/// What `Db::state` says.
pub mod db_state {
    pub const FREE: u32 = 0;
    /// To be looked into: does it have the extension?
    pub const UNKNOWN: u32 = 1;
    pub const SERVED: u32 = 2;
    pub const WITHOUT: u32 = 3;
    /// The extension's version is not the library's.
    pub const SKEWED: u32 = 4;
    /// A copy that nobody has confirmed.
    pub const COPY: u32 = 5;
}

shared_struct! {
    /// What a prepared transaction has noted, for whoever finishes it: see prepared.rs.
    pub struct Prepared {
        /// 0 = free.
        pub state: HandshakeU32,
        pub database: HandshakeU32,
        /// A digest of its identifier.
        pub gid_high: GaugeU64,
        pub gid_low: GaugeU64,
        pub flags: GaugeU32,
        pub wakes: GaugeU32,
        pub entry: [GaugeU32; NOTED],
        pub stamp: [HandshakeU32; NOTED],
        pub low: [GaugeI64; NOTED],
        pub added: [GaugeI64; NOTED],
        pub schedule: [GaugeI64; NOTED],
        /// Bits: which of them are to be looked at anew, for what, and with their schedules.
        pub unpark: HandshakeU32,
        pub found: GaugeU32,
        pub schedules: GaugeU32,
        pub stops: GaugeU32,
        pub stop_tenant: [GaugeU32; NOTED],
        pub stop_high: [GaugeU64; NOTED],
        pub stop_low: [GaugeU64; NOTED],
        pub stop_stamp: [GaugeI64; NOTED],
        pub detached: [GaugeU32; NOTED],
    }
}

shared_struct! {
    /// Somebody waits for a task's end.
    pub struct Waiter {
        /// Process number + 1; 0 = free.
        pub proc: HandshakeU32,
        pub pid: HandshakeU32,
        pub id_high: HandshakeU64,
        pub id_low: HandshakeU64,
        /// 0 = for one task; else the mark of a group (waiters.rs), any of whose members may end.
        pub group: HandshakeU64,
    }
}

shared_struct! {
    /// How much of a rate (pure/rate.rs) is used up; read and written under `Lock::Rates`.
    pub struct RateUse {
        /// A hash of tenant and gate; 0 = never used.
        pub key: GaugeU64,
        pub owner: GaugeU64,
        pub first: GaugeI64,
        pub second: GaugeI64,
        /// From then on it says nothing.
        pub until: GaugeI64,
        /// It is the administrator's word: the tenant can't have it forgotten.
        pub fixed: GaugeU32,
    }
}

shared_struct! {
    /// An executor and what it has picked. In the mapped file.
    pub struct Slot {
        /// 0 free, 1 starting, 2 live.
        pub state: One<SlotState>,
        pub pid: HandshakeU32,
        /// Process number + 1.
        pub proc: HandshakeU32,
        /// Counts the executors that had this slot.
        pub generation: HandshakeU32,
        pub database: HandshakeU32,
        pub role: GaugeU32,
        pub role_index: GaugeU32,
        pub entry: GaugeU32,
        pub tenant: HandshakeU32,
        /// The SIGQUIT handler was here: the crash is somebody else's.
        pub bystander: HandshakeU32,
        /// Sequence of the batch (32 bits), running (1), next (15), end (16): see `Word`.
        pub word: HandshakeU64,
        /// When the present task began (monotonic ns), while the list holds more; 0 = nothing to
        /// take over.
        pub busy_since: HandshakeU64,
        pub started_at: GaugeI64,
        pub deadline: GaugeI64,
        pub attempt: GaugeI32,
        pub since: GaugeI64,
        pub tasks_done: GaugeU64,
        pub tasks_failed: GaugeU64,
        /// The cancel word: which task, which incarnation, why (`stop`).
        pub cancel_high: GaugeU64,
        pub cancel_low: GaugeU64,
        pub cancel_stamp: GaugeI64,
        pub cancel_reason: One<Stop>,
        pub cancel_at: GaugeU64,
        pub cancel_signals: GaugeU32,
        pub one_shot: GaugeU32,
        pub leave: HandshakeU32,
        /// What the running task says of itself: see progress.rs.
        pub progress: GaugeU32,
        pub note_version: HandshakeU32,
        pub note: [GaugeU8; crate::shared::progress::NOTE],
        pub handler: [GaugeU8; 64],
        pub tenant_name: [GaugeU8; 64],
        pub item_high: [GaugeU64; BATCH],
        pub item_low: [GaugeU64; BATCH],
        pub item_tid: [GaugeU64; BATCH],
        pub item_stamp: [GaugeI64; BATCH],
        pub item_attempts: [GaugeI32; BATCH],
        pub item_gates: [GaugeU64; BATCH * GATES],
    }
}

shared_struct! {
    /// How often a process woke up for each reason, and how often in vain; see wakes.rs. Written by that process.
    pub struct Wakes {
        pub woken: [GaugeU64; REASONS],
        pub vain: [GaugeU64; REASONS],
        /// In vain one after the other, until something came of it.
        pub in_a_row: [GaugeU32; REASONS],
    }
}

shared_struct! {
    /// A task whose attempt ended with its executor and is to be recorded: it was running, alone
    /// unmarked, when the server went down; or its timeout terminated the executor. In the mapped
    /// file, so that it is blamed even if the server goes down again before that was written.
    pub struct Culprit {
        /// See culprits.rs; 0 = free.
        pub kind: HandshakeU32,
        /// Who writes it down: a pid.
        pub claim: HandshakeU32,
        pub database: HandshakeU32,
        pub tenant: HandshakeU32,
        pub id_high: HandshakeU64,
        pub id_low: HandshakeU64,
        pub stamp: HandshakeI64,
        pub attempts: GaugeI32,
        pub started_at: GaugeI64,
        pub deadline: GaugeI64,
        /// The life of the server in which it happened: it is written down once.
        pub epoch: GaugeU64,
        /// Not to be tried before.
        pub again: GaugeI64,
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

shared_struct! {
    /// A tenant's handler that was running, among others, when the server went down and nobody
    /// could be blamed (power loss, the postmaster killed, several crashes in one moment). After
    /// two such events its tasks run one at a time: the next crash names one, or a task of it that
    /// is done clears it. The handler, not the task: where one is broken, all of its tasks are.
    pub struct Suspect {
        pub key: GaugeU64,
        pub owner: GaugeU64,
        pub events: GaugeU32,
    }
}
const MAGIC: u64 = 0x7471_0003_0000_0000 | std::mem::size_of::<Slot>() as u64;

#[derive(Clone, Copy)]
struct Layout {
    entries: usize,
    waiters: usize,
    rates: usize,
    stats: usize,
    failures: usize,
    counters: usize,
    at_dirty: usize,
    at_due_dirty: usize,
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
        rates,
        stats,
        failures,
        counters,
        at_dirty,
        at_due_dirty,
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
    s.header.sleeping_until.store(NEVER);
    for e in s.entries {
        e.heap_child.store(NONE);
        e.heap_next.store(NONE);
        e.low_key.store(NEVER);
        e.next_due.store(NEVER);
        e.schedule_due.store(NEVER);
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
        free_slot(slot);
    }
    s.file.magic.store(MAGIC);
    s.file.system.store(system);
    s.file.epoch.store(epoch);
}

/// Makes a slot nobody's.
pub fn free_slot(slot: &Slot) {
    slot.busy_since.store(0);
    slot.cancel_reason.store(Stop::No);
    slot.proc.store(0);
    slot.pid.store(0);
    slot.bystander.store(0);
    slot.leave.store(0);
    slot.one_shot.store(0);
    let seq = Word::load(slot).sequence.wrapping_add(1);
    slot.word.store(Word { sequence: seq, running: false, next: 0, end: 0 }.pack());
    slot.state.store(SlotState::Free);
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

impl Slot {
    /// Whether this incarnation of a task of this very tenant, of this process's database, runs here. Ids are what
    /// whoever enqueues makes them: another tenant's task may have the same.
    pub fn runs(&self, word: &Word, tenant: u32, id: u128, stamp: Micros) -> bool {
        self.state.load() == SlotState::Working
            && word.running
            && self.database.load() == shmem::my_database()
            && self.tenant.load() == tenant
            && self.item_id(word.next - 1) == id
            && self.item_stamp[word.next - 1].load() == stamp
    }
    pub fn item_id(&self, n: usize) -> u128 {
        ((self.item_high[n].load() as u128) << 64) | self.item_low[n].load() as u128
    }
    pub fn set_item(&self, n: usize, item: &Item) {
        self.item_high[n].store((item.id >> 64) as u64);
        self.item_low[n].store(item.id as u64);
        self.item_tid[n].store(item.tid);
        self.item_stamp[n].store(item.stamp);
        self.item_attempts[n].store(item.attempts);
        for (g, gate) in item.gates.iter().enumerate() {
            self.item_gates[n * GATES + g].store(*gate);
        }
    }
    pub fn item(&self, n: usize) -> Item {
        Item {
            id: self.item_id(n),
            tid: self.item_tid[n].load(),
            stamp: self.item_stamp[n].load(),
            attempts: self.item_attempts[n].load(),
            gates: std::array::from_fn(|g| self.item_gates[n * GATES + g].load()),
        }
    }
    /// The ids that this slot keeps others from, copied consistently.
    pub fn live_items(&self) -> Vec<Item> {
        loop {
            let before = Word::load(self);
            if self.state.load() != SlotState::Working {
                return Vec::new();
            }
            let items = before.live().map(|n| self.item(n)).collect();
            let after = Word::load(self);
            if before.sequence == after.sequence {
                // A start or an end meanwhile only makes the copy hold one more than needed.
                return items;
            }
        }
    }
}

/// One picked task: which row, which incarnation of it, and where it was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item {
    pub id: u128,
    pub tid: u64,
    pub stamp: Micros,
    pub attempts: i32,
    /// The gates that it has passed, 0 = none.
    pub gates: [u64; GATES],
}

pub fn store_text(target: &[GaugeU8], text: &str) {
    let bytes = text.as_bytes();
    for (i, t) in target.iter().enumerate() {
        t.store(bytes.get(i).copied().unwrap_or(0));
    }
}
pub fn load_text(source: &[GaugeU8]) -> String {
    let bytes: Vec<u8> = source.iter().map(|b| b.load()).take_while(|b| *b != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What is known of the use of a rate.
pub enum RateFound {
    /// The state that pure/rate.rs goes on from.
    Used(i64, i64),
    /// Nothing is.
    Unused,
    /// There is no place to count it in.
    NoPlace,
}

/// A tenant's entry, with the stamp that tells whether the place still is its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EntryRef {
    pub index: u32,
    pub stamp: u32,
}

fn hash_of(parts: [u32; 3]) -> usize {
    let mut h = 0xcbf2_9ce4_8422_2325u64;
    for p in parts {
        h = (h ^ p as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
    }
    (h ^ (h >> 32)) as usize
}

/// What stands in a table where something was.
const REMOVED: u32 = NONE - 1;

/// Linear probing; entries are never moved, a removed one leaves a mark that stops no search.
fn probe(table: &[HandshakeU32], parts: [u32; 3], is: impl Fn(usize) -> bool) -> (Option<usize>, usize) {
    let mut at = hash_of(parts) % table.len();
    let mut free = None;
    for _ in 0..table.len() {
        match table[at].load() {
            NONE => return (None, free.unwrap_or(at)),
            REMOVED => free = free.or(Some(at)),
            index if is(index as usize) => return (Some(index as usize), at),
            _ => {}
        }
        at = (at + 1) % table.len();
    }
    (None, free.unwrap_or(at))
}

/// Where the search for a tenant's entries begins: those of all its roles lie together.
fn tenant_key(database: u32, tenant: u32) -> [u32; 3] {
    [database, tenant, 0]
}

impl Shared {
    /// All entries of a tenant, one for each role, without a lock: one that is just being made may be missed.
    pub fn entries_of(&self, database: u32, tenant: u32) -> impl Iterator<Item = u32> {
        let hash = self.entry_hash;
        let entries = self.entries;
        let begin = hash_of(tenant_key(database, tenant)) % hash.len();
        (0..hash.len()).map(move |n| hash[(begin + n) % hash.len()].load()).take_while(|i| *i != NONE).filter(move |i| {
            entries.get(*i as usize).is_some_and(|e| e.tenant.load() == tenant && e.database.load() == database && e.in_use.load() == 1)
        })
    }

    /// By the launcher: what no client and no ALTER ROLE or DATABASE has set. One that is too long is none.
    pub fn publish_zone(&self, zone: &str) {
        let zone = if zone.len() <= self.header.zone.len() { zone } else { "" };
        if load_text(&self.header.zone) != zone {
            self.header.zone_version.fetch_add(1);
            store_text(&self.header.zone, zone);
            self.header.zone_version.fetch_add(1);
        }
    }
    /// None: the launcher hasn't been here yet.
    pub fn server_zone(&self) -> Option<String> {
        loop {
            let before = self.header.zone_version.load();
            let zone = load_text(&self.header.zone);
            if before.is_multiple_of(2) && self.header.zone_version.load() == before {
                return Some(zone).filter(|z| !z.is_empty());
            }
            std::hint::spin_loop();
        }
    }

    /// The entry of (database, tenant, role), made if there is none. None: the table is full of entries that are needed.
    /// Whatever there is to do is left to a sweep then; the caller orders it (`seek_at`), after its commit.
    pub fn entry(&self, database: u32, tenant: u32, role: u32) -> Option<EntryRef> {
        let made = self.entry_at_cost(database, tenant, role, true);
        if made.is_none() {
            self.header.pressure[share::Kind::Entries as usize].note(Owner::new(database, tenant), crate::postgres::clock::now());
            let most = self.entries.len() as u32 / 2;
            let _ = self.header.newcomers.fetch_update(|n| (n < most).then_some(n + 1));
        }
        made
    }

    /// The same for work that is not due yet: nobody's entry goes for it that has something to do, ever.
    pub fn entry_if_room(&self, database: u32, tenant: u32, role: u32) -> Option<EntryRef> {
        self.entry_at_cost(database, tenant, role, false)
    }

    fn entry_at_cost(&self, database: u32, tenant: u32, role: u32, evict_due: bool) -> Option<EntryRef> {
        let is = |i: usize| {
            let e = &self.entries[i];
            e.tenant.load() == tenant && e.role.load() == role && e.database.load() == database && e.in_use.load() == 1
        };
        let key = tenant_key(database, tenant);
        {
            let _guard = Lock::Registry.shared();
            if let (Some(i), _) = probe(self.entry_hash, key, is) {
                return Some(self.reference(i));
            }
        }
        let _guard = Lock::Registry.exclusive();
        let (found, mut place) = probe(self.entry_hash, key, is);
        if let Some(i) = found {
            return Some(self.reference(i));
        }
        let role_index = self.role(database, role)?;
        let index = match self.entries.iter().position(|e| e.in_use.load() == 0) {
            Some(i) => i,
            None => {
                let i = self.evict(evict_due)?;
                place = probe(self.entry_hash, key, is).1;
                i
            }
        };
        let e = &self.entries[index];
        let stamp = e.stamp.load();
        e.reset();
        e.stamp.store(stamp.wrapping_add(1));
        e.database.store(database);
        e.tenant.store(tenant);
        e.role.store(role);
        e.role_index.store(role_index as u32);
        // Nothing is known to come due.
        for time in [&e.low_key, &e.next_due, &e.schedule_due] {
            time.store(NEVER);
        }
        e.schedule_low.store(ready::LOWEST);
        e.weight.store(1);
        e.batch.store(1);
        e.heap_child.store(NONE);
        e.heap_next.store(NONE);
        // Once all tenants have been looked at, one that has no entry has nothing unfinished; unless there was no room.
        let swept = self.db(database).is_some_and(|db| db.swept_at.load() > 0);
        let room = self.header.evictions.load() == 0 && self.header.pressure[share::Kind::Entries as usize].lost.load() == 0;
        e.counted.store(u32::from(swept && room));
        e.in_use.store(1);
        self.entry_hash[place].store(index as u32);
        Some(self.reference(index))
    }

    pub fn reference(&self, index: usize) -> EntryRef {
        EntryRef { index: index as u32, stamp: self.entries[index].stamp.load() }
    }
    pub fn at(&self, r: EntryRef) -> Option<&'static Entry> {
        let e = &self.entries[r.index as usize];
        (e.in_use.load() == 1 && e.stamp.load() == r.stamp).then_some(e)
    }

    /// Frees an entry that nothing hangs on; a sweep finds it again when it has something to do. `due`: also one that
    /// will have, some time. Under `Lock::Registry`.
    ///
    /// Whoever wakes an entry takes no lock, so it may be woken while it is looked at here: it is looked at again once
    /// nobody finds it any more. Who has woken it by then is seen; who wakes it later takes what comes due off it later
    /// still (launcher, ticks), so `at`, read in between, has it; and who came by a reference finds it gone (`reach`).
    /// Test: attack/shared.rs, a_tenant_whose_schedules_are_served_keeps_its_place.
    fn evict(&self, due: bool) -> Option<usize> {
        // What is ready goes into heaps under it, by links in the entries: not meanwhile.
        let _ready = Lock::Ready.exclusive();
        let now = clock::now();
        // What is taken off one while its schedules are served is put back.
        let is_ticking =
            |e: &Entry| self.dbs.iter().map(|d| d.ticking.load()).any(|t| t > 0 && std::ptr::eq(&self.entries[t as usize - 1], e));
        let idle = |e: &Entry| {
            e.pins.load() == 0
                && !is_ticking(e)
                && e.holder.load() == 0
                && e.heap_in.load() == 0
                && e.generation.load() == e.seen.load()
                && e.hold_until.iter().all(|h| h.load() <= now)
                && e.blocked_until.load() == 0
                && !self.slots.iter().any(|s| s.state.load() != SlotState::Free && s.tenant.load() == e.tenant.load())
        };
        let next = |e: &Entry| e.next_due.load().min(e.schedule_due.load());
        // Entries with nothing due at all first; then those whose next work is far away.
        let index = self.entries.iter().position(|e| idle(e) && next(e) == NEVER).or_else(|| {
            (0..self.entries.len()).filter(|_| due).filter(|i| idle(&self.entries[*i])).max_by_key(|i| next(&self.entries[*i]))
        })?;
        let e = &self.entries[index];
        e.in_use.store(0);
        let at = next(e);
        if !idle(e) || (at != NEVER && !due) {
            e.in_use.store(1);
            return None;
        }
        let database = e.database.load();
        let (_, place) = probe(self.entry_hash, tenant_key(database, e.tenant.load()), |i| i == index);
        self.entry_hash[place].store(REMOVED);
        self.header.evictions.fetch_add(1);
        if at != NEVER
            && let Some(db) = self.db(database)
        {
            self.seek_at(db, at);
        }
        Some(index)
    }

    /// Tells the entry something, by its place. That may be another tenant's by then, whom it does no harm; then a sweep finds
    /// what it was about.
    pub fn reach(&self, entry: EntryRef, tell: impl FnOnce(u32)) {
        tell(entry.index);
        if self.at(entry).is_none()
            && let Some(db) = self.db(shmem::my_database())
        {
            self.seek_at(db, clock::now());
        }
    }

    /// A sweep is to find, then, what has no entry.
    pub fn seek_at(&self, db: &Db, at: Micros) {
        if at < db.unplaced_due.fetch_min(at) && at < self.header.sleeping_until.load() {
            self.call_launcher_now();
        }
    }

    /// The place of (database, role), made if there is none. Under `Lock::Registry`.
    fn role(&self, database: u32, role: u32) -> Option<usize> {
        let is = |i: usize| self.roles[i].role.load() == role && self.roles[i].database.load() == database;
        let (found, mut place) = probe(self.role_hash, [database, role, 0], is);
        if let Some(i) = found {
            return Some(i);
        }
        let index = match self.roles.iter().position(|r| r.in_use.load() == 0) {
            Some(index) => index,
            None => {
                let index = self.unneeded_role()?;
                place = probe(self.role_hash, [database, role, 0], is).1;
                index
            }
        };
        let r = &self.roles[index];
        r.reset();
        r.database.store(database);
        r.role.store(role);
        r.heap_root.store(NONE);
        r.in_use.store(1);
        self.role_hash[place].store(index as u32);
        Some(index)
    }

    /// Frees the place of a role that has neither work nor executors: dropped, say, or of a dropped database.
    fn unneeded_role(&self) -> Option<usize> {
        let needed: std::collections::HashSet<u32> =
            self.entries.iter().filter(|e| e.in_use.load() == 1).map(|e| e.role_index.load()).collect();
        let idle = |r: &Role| r.executors.load() == 0 && r.starting.load() == 0 && r.heap_count.load() == 0;
        let index = (0..self.roles.len()).find(|i| idle(&self.roles[*i]) && !needed.contains(&(*i as u32)))?;
        let r = &self.roles[index];
        let (_, place) = probe(self.role_hash, [r.database.load(), r.role.load(), 0], |i| i == index);
        self.role_hash[place].store(REMOVED);
        Some(index)
    }

    pub fn db(&self, database: u32) -> Option<&'static Db> {
        self.dbs.iter().find(|d| d.database.load() == database && d.state.load() != db_state::FREE)
    }
    /// The database's place, made if there is none; `state` only if it is new.
    pub fn make_db(&self, database: u32, state: u32) -> Option<&'static Db> {
        let _guard = Lock::Registry.exclusive();
        if let Some(db) = self.db(database) {
            return Some(db);
        }
        let db = self.dbs.iter().find(|d| d.state.load() == db_state::FREE)?;
        db.reset();
        db.unplaced_due.store(NEVER);
        db.database.store(database);
        db.state.store(state);
        Some(db)
    }

    /// Where the use of this rate is counted, if it is.
    fn rate_at(&self, owner: Owner, gate: u128) -> (u64, usize, Option<usize>) {
        let secret = |n: usize| self.header.secret[n].load().to_ne_bytes();
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&secret(0));
        bytes[8..].copy_from_slice(&secret(1));
        let mut hasher = SipHasher13::new_with_key(&bytes);
        hasher.write_u64(owner.0);
        hasher.write_u128(gate);
        let key = hasher.finish() | 1;
        let begin = (key >> 1) as usize % self.rates.len();
        let mut found = None;
        for n in 0..share::WINDOW.min(self.rates.len()) {
            let place = (begin + n) % self.rates.len();
            match self.rates[place].key.load() {
                // Places are taken in this order, and never given back.
                0 => break,
                k if k == key && self.rates[place].owner.load() == owner.0 => {
                    found = Some(place);
                    break;
                }
                _ => {}
            }
        }
        (key, begin, found)
    }

    /// What is used of this rate, for people.
    pub fn rate_used(&self, owner: Owner, gate: u128) -> RateFound {
        let _guard = Lock::Rates.shared();
        let (_, begin, found) = self.rate_at(owner, gate);
        match found {
            Some(place) => RateFound::Used(self.rates[place].first.load(), self.rates[place].second.load()),
            None if self.rate_for(owner, begin, &[]).is_some() => RateFound::Unused,
            None => RateFound::NoPlace,
        }
    }

    /// Which place a rate that has none would get.
    fn rate_for(&self, owner: Owner, begin: usize, except: &[usize]) -> Option<(usize, Option<Owner>)> {
        let now = crate::postgres::clock::now();
        let n = self.rates.len();
        let says = |place: usize| {
            let r = &self.rates[place];
            let says = if except.contains(&place) {
                Says::Fixed
            } else if r.key.load() == 0 {
                Says::Free
            } else if r.until.load() <= now {
                Says::Nothing
            } else if r.fixed.load() == 1 {
                Says::Fixed
            } else {
                Says::Something(r.until.load())
            };
            (Owner(r.owner.load()), says)
        };
        let places = (0..share::WINDOW.min(n)).map(|i| says((begin + i) % n));
        shares::choose(owner, |o| self.rate_tally.held(o), places).map(|c| ((begin + c.place) % n, c.displaced))
    }

    /// The place of this rate, made if there is none; None: all that it could have are of rates in use. `except`:
    /// places that the caller is at. Under `Lock::Rates`, exclusive.
    pub fn rate(&self, owner: Owner, gate: u128, fixed: bool, except: &[usize]) -> Option<usize> {
        let (key, begin, found) = self.rate_at(owner, gate);
        if found.is_some() {
            return found;
        }
        let pressure = &self.header.pressure[share::Kind::Rates as usize];
        let Some((place, displaced)) = self.rate_for(owner, begin, except) else {
            pressure.note(owner, crate::postgres::clock::now());
            return None;
        };
        if let Some(displaced) = displaced {
            pressure.note(displaced, crate::postgres::clock::now());
        }
        let r = &self.rates[place];
        if r.key.load() != 0 {
            self.rate_tally.sub(Owner(r.owner.load()));
        }
        self.rate_tally.add(owner);
        r.key.store(key);
        r.owner.store(owner.0);
        r.fixed.store(fixed.into());
        for zero in [&r.first, &r.second, &r.until] {
            zero.store(0);
        }
        Some(place)
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
    pub fn any_dirty(&self) -> bool {
        self.dirty.iter().any(|w| w.load() != 0)
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
