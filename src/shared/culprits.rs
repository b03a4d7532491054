//! Who was running when the server crashed, and attempts that ended with their executors.
//!
//! Slots and these tables are in the file that outlives a crash (postgres/mapping.rs). Written down by work/poison.rs.

use crate::postgres::clock;
use crate::pure::atomics::{GaugeAt, GaugeI32, GaugeU32, GaugeU64, HandshakeAt, HandshakeId, HandshakeU32};
use crate::pure::shares::{self, Owner, Says};
use crate::pure::time::{At, Span};
use crate::pure::word::{SlotState, Word};
use crate::shared::Shared;
use crate::shared::claims::Claim;
use crate::shared::share::{self, Pressure};
use crate::shared::slot::{Item, Slot};
use crate::shared::text::load_text;
use crate::shared_struct;

/// Crashes of two or more tasks within it quarantine their handler.
pub const HANDLER_WINDOW: Span = Span::DAY;

/// `Culprit::kind`.
pub mod kind {
    pub const FREE: u32 = 0;
    pub const FILLING: u32 = 1;
    pub const CRASHED: u32 = 2;
    pub const TIMED_OUT: u32 = 3;
    pub const INTERRUPTED: u32 = 4;
    /// The worker outside of the server died that had taken it.
    pub const WORKER: u32 = 5;
    /// The same where it was over its timeout, and ended for that.
    pub const WORKER_TIMED_OUT: u32 = 6;
}

/// In the postmaster, before anything runs: who was it?
pub fn initialise(s: &Shared, crashed: bool) {
    for c in s.culprits {
        c.claim.store(0);
        c.again.store(At::UNSET);
        if c.kind.load() == kind::FILLING {
            c.kind.store(kind::FREE);
        }
    }
    if crashed {
        read_the_crash(s);
    }
    s.header.culprits.store(s.culprits.iter().filter(|c| c.kind.load() != kind::FREE).count() as u32);
}

fn read_the_crash(s: &Shared) {
    let unmarked: Vec<&Slot> = (s.slots.iter())
        .filter(|slot| slot.state.load() == SlotState::Working && Word::load(slot).running && slot.bystander.load() == 0)
        .collect();
    match unmarked[..] {
        [] => {}
        [slot] => {
            // Alone and unmarked while nobody else was marked means just as much: nobody else ran.
            note(s, slot, kind::CRASHED);
        }
        _ => {
            let mut found: Vec<(u64, u64)> = (unmarked.iter())
                .map(|x| {
                    let (database, tenant) = (x.database.load(), x.tenant.load());
                    (Owner::new(database, tenant).0, key_of(database, tenant, &load_text(&x.handler)))
                })
                .collect();
            found.sort_unstable();
            found.dedup();
            found.into_iter().for_each(|(owner, key)| suspect(s, Owner(owner), key));
        }
    }
}

/// FNV-1a: which handler of which tenant. Of the name as much as a slot keeps.
fn key_of(database: u32, tenant: u32, handler: &str) -> u64 {
    let name = &handler.as_bytes()[..handler.len().min(64)];
    let bytes = database.to_le_bytes().into_iter().chain(tenant.to_le_bytes()).chain(name.iter().copied());
    bytes.fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

fn place_of(s: &Shared, key: u64) -> Option<&'static Suspect> {
    s.suspects.iter().find(|x| x.events.load() > 0 && x.key.load() == key)
}

/// One more event at which this handler was running and nobody could be blamed.
fn suspect(s: &Shared, owner: Owner, key: u64) {
    let whose = |x: &Suspect| Owner(x.owner.load());
    let count = |o: Owner| s.suspects.iter().filter(|x| x.events.load() > 0 && whose(x) == o).count() as u32;
    let says = |x: &Suspect| match x.events.load() {
        0 => (Owner(0), Says::Free),
        events => (whose(x), Says::Something(events.into())),
    };
    let place =
        place_of(s, key).or_else(|| shares::choose(owner, count, s.suspects.iter().map(says)).map(|chosen| &s.suspects[chosen.place]));
    if let Some(x) = place {
        if x.key.swap(key) != key {
            x.events.store(0);
            x.owner.store(owner.0);
        }
        x.events.fetch_add(1);
        s.file.suspects.store(1);
    }
}

/// Whether tasks of this handler may run only while no other such task does.
pub fn must_be_alone(s: &Shared, database: u32, tenant: u32, handler: &str) -> bool {
    s.file.suspects.load() != 0 && place_of(s, key_of(database, tenant, handler)).is_some_and(|x| x.events.load() >= 2)
}

/// A task of this handler is done: nothing is held against it any more.
pub fn acquit(s: &Shared, database: u32, tenant: u32, handler: &str) {
    if s.file.suspects.load() != 0 {
        if let Some(x) = place_of(s, key_of(database, tenant, handler)) {
            x.events.store(0);
        }
        if s.suspects.iter().all(|x| x.events.load() == 0) {
            s.file.suspects.store(0);
        }
    }
}

/// Whether the right to run a suspect is to be had.
pub fn may_take_alone(s: &Shared, me: usize) -> bool {
    let taken = s.header.alone.load();
    taken == 0 || taken == me as u32 + 1
}

/// Reserves the right to run a suspect for slot `me`. What is no suspect goes on beside it: at the
/// next crash it marks itself a bystander.
pub fn take_alone(s: &Shared, me: usize) -> bool {
    let mine = me as u32 + 1;
    s.header.alone.compare_exchange(0, mine).is_ok() || s.header.alone.load() == mine
}

/// Gives it back; harmless for who hasn't got it.
pub fn end_alone(s: &Shared, me: usize) {
    let _ = s.header.alone.compare_exchange(me as u32 + 1, 0);
}

/// Remembers the task that this slot runs. Atomics only.
fn note(s: &Shared, slot: &Slot, what: u32) {
    let word = Word::load(slot);
    if !word.running || word.next == 0 {
        return;
    }
    let ran = Ran {
        database: slot.database.load(),
        tenant: slot.tenant.load(),
        item: slot.item(word.next - 1),
        started_at: slot.started_at.load(),
        deadline: slot.deadline.load(),
    };
    note_down(s, &ran, what);
}

/// An attempt whose end is to be written down.
struct Ran {
    database: u32,
    tenant: u32,
    item: Item,
    started_at: At,
    deadline: At,
}

/// Atomics only.
fn note_down(s: &Shared, ran: &Ran, what: u32) {
    let free = |c: &&Culprit| c.kind.compare_exchange(kind::FREE, kind::FILLING).is_ok();
    let owner = Owner::new(ran.database, ran.tenant);
    // None: the task is simply run again.
    let Some(c) = s.culprits.iter().find(free).or_else(|| {
        let displaced = displace(s.culprits, &s.header.pressure[share::Kind::Culprits as usize], owner);
        if displaced.is_some() {
            s.header.culprits.fetch_sub(1);
        }
        displaced
    }) else {
        return;
    };
    c.database.store(ran.database);
    c.tenant.store(ran.tenant);
    c.id.store(ran.item.id);
    c.created_at.store(ran.item.created_at);
    c.attempts.store(ran.item.attempts);
    // One that was about to start when its executor ended starts now.
    c.started_at.store(if ran.started_at == At::UNSET { clock::now() } else { ran.started_at });
    c.deadline.store(ran.deadline);
    // Of a worker's end the life that is written down once is its own.
    let is_worker = matches!(what, kind::WORKER | kind::WORKER_TIMED_OUT);
    c.epoch.store(if is_worker { clock::monotonic_ns() ^ s.file.epoch.load() } else { s.file.epoch.load() });
    c.claim.store(0);
    c.again.store(At::UNSET);
    c.kind.store(what);
    s.header.culprits.fetch_add(1);
}

/// A worker has died with this task, or is ended because it went on with it beyond its timeout: the next one to look writes that
/// down. Before the claim is let go.
pub fn worker_ended(s: &Shared, claim: &Claim, timed_out: bool) {
    let ran = Ran {
        database: claim.database.load(),
        tenant: claim.tenant.load(),
        item: claim.item(),
        started_at: claim.taken_at.load(),
        deadline: claim.deadline.load(),
    };
    note_down(s, &ran, if timed_out { kind::WORKER_TIMED_OUT } else { kind::WORKER });
}

/// All places are taken: one of what is known least of goes, of whoever has most (share.rs). Never a crash: its count
/// must be written before anything of its tenant starts.
fn displace(s: &'static [Culprit], pressure: &Pressure, owner: Owner) -> Option<&'static Culprit> {
    let whose = |c: &Culprit| Owner::new(c.database.load(), c.tenant.load());
    let ended = |what: u32| matches!(what, kind::TIMED_OUT | kind::INTERRUPTED | kind::WORKER | kind::WORKER_TIMED_OUT);
    let count = |o: Owner| s.iter().filter(|c| whose(c) == o).count() as u32;
    let says = |c: &Culprit| {
        let may = ended(c.kind.load()) && c.claim.load() == 0;
        (whose(c), if may { Says::Something(c.started_at.load().micros()) } else { Says::Fixed })
    };
    let chosen = shares::choose(owner, count, s.iter().map(says));
    pressure.note(chosen.and_then(|c| c.displaced).unwrap_or(owner), clock::now());
    let c = &s[chosen?.place];
    let what = c.kind.load();
    (ended(what) && c.kind.compare_exchange(what, kind::FILLING).is_ok()).then_some(c)
}

/// The timeout of the slot's task terminates its executor, which is this process: whoever comes
/// next writes it down. Before the slot lets go of the task.
pub fn timed_out(s: &Shared, slot: &Slot) {
    note(s, slot, kind::TIMED_OUT);
}

/// Ends of executors while they ran one and the same task that count as an attempt. One end is nobody's fault and no
/// attempt; a task that terminates its session each time would otherwise go on for ever.
pub const ENDS: u32 = 10;

/// So many executors have ended while they ran this slot's task, this one too. Before the slot lets go of the task.
pub fn interrupted(s: &Shared, slot: &Slot) {
    note(s, slot, kind::INTERRUPTED);
}

pub fn free(s: &Shared, c: &Culprit) {
    c.kind.store(kind::FREE);
    s.header.culprits.fetch_sub(1);
}

/// Whether something of this tenant is still to be written down: nothing of it starts before.
pub fn is_pending(s: &Shared, database: u32, tenant: u32) -> bool {
    s.header.culprits.load() > 0
        && s.culprits.iter().any(|c| c.kind.load() >= kind::CRASHED && c.database.load() == database && c.tenant.load() == tenant)
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
        pub id: HandshakeId,
        pub created_at: HandshakeAt,
        pub attempts: GaugeI32,
        pub started_at: GaugeAt,
        pub deadline: GaugeAt,
        /// The life of the server in which it happened: it is written down once.
        pub epoch: GaugeU64,
        /// Not to be tried before.
        pub again: GaugeAt,
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
