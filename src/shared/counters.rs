//! What went on: counters per tenant and handler, and a ring of the last failed attempts: what tq_stats and tq_failures show.
//!
//! Both are sized at start. Counters are atomics that are added to; an executor remembers where its last handler's are. New
//! places, and the ring, are written under `Lock::Announce`: a failure costs a transaction anyway. When all places are taken,
//! share.rs says who gives one up: one tenant's handlers and failures don't displace all others'.

use crate::postgres::caught::Failure;
use crate::postgres::lwlock::Lock;
use crate::postgres::{clock, shmem};
use crate::pure::atomics::{GaugeAt, GaugeI32, GaugeU8, GaugeU32, GaugeU64, HandshakeId, HandshakeU32};
use crate::pure::ids::Id;
use crate::pure::shares::{self, Owner, Says};
use crate::pure::state::Outcome;
use crate::pure::time::{At, Span};
use crate::shared::text::store_text;
use crate::shared::{Shared, share};
use crate::shared_struct;
use std::cell::RefCell;

/// Texts in shared memory are cut to this.
const LABEL: usize = 128;

const MESSAGE: usize = 200;

/// Counters that nobody has added to for so long say nothing any more.
const FORGOTTEN: Span = Span::of_days(7);

shared_struct! {
    /// Counters of one handler of one tenant; times in microseconds.
    pub struct Stat {
        // What each task adds to comes first, in one cache line.
        pub in_use: HandshakeU32,
        /// Changes when the place is given to another handler.
        pub stamp: HandshakeU32,
        pub used: GaugeAt,
        pub done: GaugeU64,
        pub run_total: GaugeU64,
        pub run_max: GaugeU64,
        pub wait_total: GaugeU64,
        pub wait_max: GaugeU64,
        pub failed: GaugeU64,
        pub retried: GaugeU64,
        pub timeouts: GaugeU64,
        pub database: HandshakeU32,
        pub tenant: HandshakeU32,
        pub hash: GaugeU64,
        pub since: GaugeAt,
        pub handler: [GaugeU8; LABEL],
    }
}

shared_struct! {
    /// One failed attempt.
    pub struct FailedAttempt {
        pub database: HandshakeU32,
        pub tenant: HandshakeU32,
        pub role: GaugeU32,
        pub attempt: GaugeI32,
        pub id: HandshakeId,
        /// Counts those written before; 0 = none is here.
        pub number: GaugeU64,
        pub at: GaugeAt,
        pub sqlstate: [GaugeU8; 8],
        pub handler: [GaugeU8; LABEL],
        pub schedule: [GaugeU8; LABEL],
        pub message: [GaugeU8; MESSAGE],
    }
}

fn put(target: &[GaugeU8], text: &str) {
    store_text(target, &text[..text.floor_char_boundary(target.len())]);
}

fn hash(database: u32, schema: u32, handler: &str) -> u64 {
    let mut h = 0xcbf2_9ce4_8422_2325u64 ^ ((database as u64) << 32 | schema as u64);
    for b in handler.bytes() {
        h = (h ^ b as u64).wrapping_mul(0x0100_0000_01b3);
    }
    h ^ (h >> 29)
}

/// The counters of this handler, made if there are none.
fn place(shared: &Shared, schema: u32, handler: &str) -> Option<&'static Stat> {
    let places = shared.stats.len();
    if places == 0 {
        return None;
    }
    let database = shmem::my_database();
    let hash = hash(database, schema, handler);
    let window = || (0..share::WINDOW.min(places)).map(|i| &shared.stats[(hash as usize).wrapping_add(i) % places]);
    let is = |stat: &&Stat| {
        stat.in_use.load() == 1 && stat.hash.load() == hash && stat.tenant.load() == schema && stat.database.load() == database
    };
    if let Some(found) = window().find(is) {
        return Some(found);
    }
    let now = clock::now();
    let _guard = Lock::Announce.exclusive();
    if let Some(found) = window().find(is) {
        return Some(found);
    }
    let owner = Owner::here(schema);
    let of = |stat: &Stat| Owner::new(stat.database.load(), stat.tenant.load());
    let says = |stat: &Stat| match (stat.in_use.load(), stat.used.load()) {
        (0, _) => Says::Free,
        (_, used) if used < now - FORGOTTEN => Says::Nothing,
        (_, used) => Says::Something(used.micros()),
    };
    let pressure = &shared.header.pressure[share::Kind::Stats as usize];
    let chosen = shares::choose(owner, |o| shared.stat_tally.count(o), window().map(|stat| (of(stat), says(stat))));
    if chosen.is_none_or(|c| c.displaced.is_some()) {
        pressure.note(chosen.and_then(|c| c.displaced).unwrap_or(owner), now);
    }
    let stat = window().nth(chosen?.place)?;
    if stat.in_use.swap(0) == 1 {
        shared.stat_tally.sub(of(stat));
    }
    shared.stat_tally.add(owner);
    stat.stamp.fetch_add(1);
    zero(stat, now);
    stat.database.store(database);
    stat.tenant.store(schema);
    stat.hash.store(hash);
    put(&stat.handler, handler);
    stat.in_use.store(1);
    Some(stat)
}

fn zero(stat: &Stat, now: At) {
    for counter in
        [&stat.done, &stat.failed, &stat.retried, &stat.timeouts, &stat.run_total, &stat.run_max, &stat.wait_total, &stat.wait_max]
    {
        counter.store(0);
    }
    stat.since.store(now);
    stat.used.store(now);
}

/// Where the counters of the handler last run are.
struct Last {
    schema: u32,
    handler: String,
    stat: &'static Stat,
    stamp: u32,
}

thread_local! {
    static LAST: RefCell<Option<Last>> = const { RefCell::new(None) };
}

fn with_place(s: &Shared, schema: u32, handler: &str, f: impl FnOnce(&Stat)) {
    LAST.with_borrow_mut(|last| {
        if let Some(l) = last
            && l.schema == schema
            && l.handler == handler
            && l.stat.stamp.load() == l.stamp
        {
            return f(l.stat);
        }
        let Some(stat) = place(s, schema, handler) else { return };
        f(stat);
        *last = Some(Last { schema, handler: handler.into(), stat, stamp: stat.stamp.load() });
    });
}

fn raise(max: &GaugeU64, value: u64) {
    if value > max.load() {
        max.fetch_max(value);
    }
}

/// What is counted of one attempt at a task.
pub struct Counted<'a> {
    pub id: Id,
    pub handler: &'a str,
    /// Its number: 1 is the first.
    pub attempt: i32,
    /// The schedule it comes from; "" = none.
    pub schedule: &'a str,
    /// From when on it could run.
    pub due: Option<At>,
}

/// What one end adds to its handler's counters.
#[derive(Clone, Copy)]
struct Sample {
    outcome: Outcome,
    run: u64,
    wait: u64,
}

impl Sample {
    fn of(task: &Counted, outcome: Outcome, started_at: At) -> Sample {
        let now = clock::now();
        let run = (now - started_at).max(Span::ZERO).micros() as u64;
        let wait = (started_at - task.due.unwrap_or(started_at)).max(Span::ZERO).micros() as u64;
        Sample { outcome, run, wait }
    }

    fn add_to(self, stat: &Stat) {
        let counter = match self.outcome {
            Outcome::Done => &stat.done,
            Outcome::Failed => &stat.failed,
            _ => &stat.retried,
        };
        counter.fetch_add(1);
        stat.run_total.fetch_add(self.run);
        stat.wait_total.fetch_add(self.wait);
        raise(&stat.run_max, self.run);
        raise(&stat.wait_max, self.wait);
        stat.used.store(clock::now());
    }
}

/// An attempt that began at `started_at` has ended like this. On every task's way: a few atomics.
pub fn ended(s: &Shared, schema: u32, task: &Counted, outcome: Outcome, started_at: At) {
    if !matches!(outcome, Outcome::Done | Outcome::Failed | Outcome::Retry) || started_at == At::UNSET {
        return;
    }
    let sample = Sample::of(task, outcome, started_at);
    with_place(s, schema, task.handler, |stat| sample.add_to(stat));
}

/// An end that counts once its transaction is committed.
pub struct Uncommitted {
    stat: &'static Stat,
    stamp: u32,
    sample: Sample,
}

impl Uncommitted {
    /// None: there is no place for its handler.
    pub fn new(s: &Shared, schema: u32, task: &Counted, outcome: Outcome, started_at: At) -> Option<Uncommitted> {
        let stat = place(s, schema, task.handler)?;
        Some(Uncommitted { stat, stamp: stat.stamp.load(), sample: Sample::of(task, outcome, started_at) })
    }
    /// Atomics only. Unless its place has gone to somebody else meanwhile.
    pub fn count(&self) {
        if self.stat.stamp.load() == self.stamp {
            self.sample.add_to(self.stat);
        }
    }
}

/// A failed attempt that counts once its transaction is committed.
pub struct UncommittedFailure {
    pub tenant: u32,
    pub role: u32,
    pub id: Id,
    pub handler: String,
    pub attempt: i32,
    pub schedule: String,
    pub failure: Failure,
    pub timed_out: bool,
}

impl UncommittedFailure {
    pub fn count(&self, s: &Shared) {
        let UncommittedFailure { id, handler, attempt, schedule, .. } = self;
        let task = Counted { id: *id, handler, attempt: *attempt, schedule, due: None };
        failed(s, self.tenant, self.role, &task, &self.failure, self.timed_out);
    }
}

/// An attempt has failed and that was recorded.
pub fn failed(s: &Shared, schema: u32, role: u32, task: &Counted, failure: &Failure, timed_out: bool) {
    if timed_out {
        with_place(s, schema, task.handler, |stat| {
            stat.timeouts.fetch_add(1);
        });
    }
    let n = s.failures.len();
    if n == 0 {
        return;
    }
    let now = clock::now();
    let _guard = Lock::Announce.exclusive();
    let number = s.header.failures.fetch_add(1) + 1;
    let place = failure_place(s, Owner::here(schema), now);
    let f = &s.failures[place];
    f.number.store(number);
    f.database.store(shmem::my_database());
    f.tenant.store(schema);
    f.role.store(role);
    f.attempt.store(task.attempt);
    f.id.store(task.id);
    f.at.store(now);
    put(&f.sqlstate, failure.sqlstate.as_str());
    put(&f.handler, task.handler);
    put(&f.schedule, task.schedule);
    put(&f.message, &failure.message);
}

/// Where the next failure of this tenant is written. Under `Lock::Announce`, exclusive.
///
/// A hand goes round: what it meets first of whoever gives a place up is the oldest of theirs, or nearly so. Each
/// call moves it on, so a long run of others' is passed once, not at each failure.
fn failure_place(s: &Shared, owner: Owner, now: At) -> usize {
    let n = s.failures.len();
    let hand = &s.header.failure_hand;
    let of = |place: usize| Owner(s.failure_owners[place].load());
    let mut begin = hand.load() as usize % n;
    let mut chosen = None;
    for _ in 0..n.div_ceil(share::WINDOW) {
        let window = share::WINDOW.min(n);
        let says = |i: usize| match of((begin + i) % n) {
            Owner(0) => (Owner(0), Says::Free),
            of => (of, Says::Something(i as i64)),
        };
        chosen = shares::choose(owner, |o| s.failure_tally.count(o), (0..window).map(says));
        if chosen.is_some() {
            break;
        }
        begin = (begin + window) % n;
    }
    // There always is one: the newcomer's own, or of somebody who holds more; else each holds one.
    let place = (begin + chosen.map_or(0, |c| c.place)) % n;
    hand.store((place + 1) as u64);
    if of(place) != Owner(0) {
        s.header.pressure[share::Kind::Failures as usize].note(of(place), now);
        s.failure_tally.sub(of(place));
    }
    s.failure_tally.add(owner);
    s.failure_owners[place].store(owner.0);
    place
}
