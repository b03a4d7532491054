//! Executors' slots: what each runs and has in its list, in the mapped file that outlives a crash; whose slot this process has.

use crate::postgres::{clock, shmem};
use crate::pure::atomics::{GaugeAt, GaugeI32, GaugeId, GaugeU8, GaugeU32, GaugeU64, HandshakeU32, HandshakeU64, One};
use crate::pure::ids::Id;
use crate::pure::time::At;
use crate::pure::word::{SlotState, Stop, Word};
use crate::shared::{BATCH, Shared};
use crate::shared_struct;
use std::cell::Cell;
use std::collections::HashMap;
use std::time::Duration;

/// A list whose executor is stuck with one task for this long is taken over.
pub const TAKE_OVER_AFTER: Duration = Duration::from_millis(100);

/// The slot names what it ran no more. Between the attempt's commit and this the task may have come again, requeued, say: who
/// looked meanwhile has taken it for the one that ran.
pub fn no_longer_named(s: &Shared, place: usize, tenant: u32) {
    let bit = 1 << place;
    if s.header.passed_by.load() & bit != 0 && s.header.passed_by.fetch_and(!bit) & bit != 0 {
        for index in s.entries_of(shmem::my_database(), tenant) {
            crate::shared::ready::wake(s, index, At::LOWEST);
        }
    }
}

/// Whether this slot's list waits behind one long task.
pub fn is_stuck(slot: &Slot) -> bool {
    let since = slot.busy_since.load();
    let word = Word::load(slot);
    slot.state.load() == SlotState::Working
        && since != 0
        && word.next < word.end
        && clock::monotonic_ns().saturating_sub(since) >= TAKE_OVER_AFTER.as_nanos() as u64
}

/// What doesn't end so long after it was told to is in a call that heeds nothing. It can only be waited for: to kill it would
/// restart the server.
pub const LOST_AFTER: Duration = Duration::from_secs(5);

/// Whether this executor can't be stopped: its place is another one's meanwhile. Its task runs, for all who ask.
pub fn is_lost(slot: &Slot) -> bool {
    let told = slot.told_to_end.load();
    told != 0 && slot.state.load() == SlotState::Working && clock::monotonic_ns().saturating_sub(told) >= LOST_AFTER.as_nanos() as u64
}

/// Notes in the own slot that this process is told to end, and calls the launcher. May be called in a signal handler.
pub fn note_told_to_end() {
    if let Some(shared) = crate::shared::get()
        && let Some(slot) = my_slot().and_then(|place| shared.slots.get(place))
        && slot.told_to_end.load() == 0
    {
        slot.told_to_end.store(clock::monotonic_ns());
        shared.call_launcher();
    }
}

/// The slot that runs this incarnation of the tenant's task.
pub fn running(s: &Shared, schema: u32, id: Id, created_at: At) -> Option<usize> {
    s.slots.iter().position(|slot| slot.runs(&Word::load(slot), schema, id, created_at))
}

/// Since when this incarnation of the tenant's task runs; None: it doesn't.
pub fn running_since(s: &Shared, schema: u32, id: Id, created_at: At) -> Option<At> {
    let in_slot = running(s, schema, id, created_at).map(|n| s.slots[n].started_at.load());
    in_slot.or_else(|| s.claim_on(schema, id, created_at).map(|claim| claim.taken_at.load()))
}

/// Whether this incarnation of the tenant's task runs: in an executor, or in a worker outside of the server.
pub fn is_running(s: &Shared, schema: u32, id: Id, created_at: At) -> bool {
    running(s, schema, id, created_at).is_some() || s.claim_on(schema, id, created_at).is_some()
}

/// What runs of a tenant by now: which task, created when, since when.
pub fn all_running(s: &Shared, schema: u32) -> HashMap<(Id, At), At> {
    let mut found = HashMap::new();
    for slot in s.slots {
        let word = Word::load(slot);
        let of_tenant = || slot.database.load() == shmem::my_database() && slot.tenant.load() == schema;
        if slot.state.load() == SlotState::Working && word.running && of_tenant() {
            let n = word.next - 1;
            found.insert((slot.item_id(n), slot.item_created_at[n].load()), slot.started_at.load());
        }
    }
    for claim in s.claims_of(schema) {
        found.insert((claim.item_id.load(), claim.item_created_at.load()), claim.taken_at.load());
    }
    found
}

thread_local! {
    pub static MY_SLOT: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// The slot of this process; None = it is no executor.
pub fn my_slot() -> Option<usize> {
    Some(MY_SLOT.get()).filter(|n| *n != usize::MAX)
}

/// Gates (waits/gate.rs) that a picked task can have passed: its lock, limit key, handler and queue.
pub const GATES: usize = 4;

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
        pub started_at: GaugeAt,
        pub deadline: GaugeAt,
        pub attempt: GaugeI32,
        pub since: GaugeAt,
        pub tasks_done: GaugeU64,
        pub tasks_failed: GaugeU64,
        /// The cancel word: which task, which incarnation, why (`stop`).
        pub cancel_id: GaugeId,
        pub cancel_created_at: GaugeAt,
        pub cancel_reason: One<Stop>,
        pub cancel_at: GaugeU64,
        pub cancel_signals: GaugeU32,
        pub one_shot: GaugeU32,
        /// When its process was told to end because its task goes on and on (monotonic ns); 0 = it wasn't.
        pub told_to_end: GaugeU64,
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
        pub item_created_at: [GaugeAt; BATCH],
        pub item_attempts: [GaugeI32; BATCH],
        pub item_gates: [GaugeU64; BATCH * GATES],
    }
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
    slot.told_to_end.store(0);
    let seq = Word::load(slot).sequence.wrapping_add(1);
    slot.word.store(Word { sequence: seq, running: false, next: 0, end: 0 }.pack());
    slot.state.store(SlotState::Free);
}

impl Slot {
    /// Whether this incarnation of a task of this very tenant, of this process's database, runs here. Ids are what
    /// whoever enqueues makes them: another tenant's task may have the same.
    pub fn runs(&self, word: &Word, tenant: u32, id: Id, created_at: At) -> bool {
        self.state.load() == SlotState::Working
            && word.running
            && self.database.load() == shmem::my_database()
            && self.tenant.load() == tenant
            && self.item_id(word.next - 1) == id
            && self.item_created_at[word.next - 1].load() == created_at
    }
    pub fn item_id(&self, n: usize) -> Id {
        Id::of_words(self.item_high[n].load(), self.item_low[n].load())
    }
    pub fn set_item(&self, n: usize, item: &Item) {
        self.item_high[n].store(item.id.high());
        self.item_low[n].store(item.id.low());
        self.item_tid[n].store(item.tid);
        self.item_created_at[n].store(item.created_at);
        self.item_attempts[n].store(item.attempts);
        for (g, gate) in item.gates.iter().enumerate() {
            self.item_gates[n * GATES + g].store(*gate);
        }
    }
    pub fn item(&self, n: usize) -> Item {
        Item {
            id: self.item_id(n),
            tid: self.item_tid[n].load(),
            created_at: self.item_created_at[n].load(),
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

/// One life of a task: what is enqueued again under the same id was created later, and each attempt makes another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Incarnation {
    pub id: Id,
    pub created_at: At,
    pub attempts: i32,
}

/// One picked task: which row, which incarnation of it, and where it was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item {
    pub id: Id,
    pub tid: u64,
    pub created_at: At,
    pub attempts: i32,
    /// The gates that it has passed, 0 = none.
    pub gates: [u64; GATES],
}

impl Item {
    pub fn incarnation(&self) -> Incarnation {
        Incarnation { id: self.id, created_at: self.created_at, attempts: self.attempts }
    }
}
