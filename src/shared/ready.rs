//! The ready list: which tenant's turn it is.
//!
//! One entry per tenant and role that has work. An executor takes the entry of its role with the
//! least virtual time, works one batch, and charges the time used divided by the tenant's weight.
//! Whoever wakes starts at the present minimum: nobody saves turns up, nobody is starved.
//!
//! Touching a tenant for the first time costs an executor 0.3 ms and 25 kB: what PostgreSQL keeps of its tables. So an
//! entry that is ready waits for the executor that served it last as long as that one comes round to it about as soon as
//! another would: each executor has a heap of the entries it served last, next to the role's heap of those that nobody has.
//! Who has entries of its own takes its first, `NEAR` behind another executor's at most and so often in a row at most; an
//! entry that nobody has waits for no preference.
//!
//! Ready is a counter, not a flag: `generation` (bumped by every wake) against `seen` (what the
//! last exhaustive pick had read before it looked). A wake that comes while somebody picks makes
//! them differ, and the entry stays ready.
//!
//! Locking: `wake` takes none, for it runs after commit, where nothing may fail: it leaves a dirty
//! bit. Heaps, pickers and virtual times change under `Lock::Ready` only; whoever takes that lock
//! brings the dirty bits in first.

use crate::postgres::lwlock::Lock;
use crate::postgres::{clock, latch};
use crate::pure::atomics::GaugeU32;
use crate::pure::heap::NONE;
use crate::pure::time::{At, Span};
use crate::pure::word::Unpark;
use crate::settings;
use crate::shared::entry::Entry;
use crate::shared::role::{EXTERNAL, Role};
use crate::shared::{SLOTS, Shared, blocked};

struct Links<'a>(&'a [Entry]);
impl crate::pure::heap::Nodes for Links<'_> {
    fn key(&self, n: u32) -> u64 {
        self.0[n as usize].vtime.load()
    }
    fn child(&self, n: u32) -> u32 {
        self.0[n as usize].heap_child.load()
    }
    fn set_child(&self, n: u32, to: u32) {
        self.0[n as usize].heap_child.store(to)
    }
    fn next(&self, n: u32) -> u32 {
        self.0[n as usize].heap_next.load()
    }
    fn set_next(&self, n: u32, to: u32) {
        self.0[n as usize].heap_next.store(to)
    }
}

/// Rows of this entry with `run_at >= low_key` may have come. Atomics and one latch only.
pub fn wake(s: &Shared, index: u32, low_key: At) {
    wake_for(s, index, low_key, u64::MAX);
}

/// The same where it is known of which handlers they are (takers.rs), which matters to workers outside of the server only.
pub fn wake_for(s: &Shared, index: u32, low_key: At, handlers: u64) {
    let e = &s.entries[index as usize];
    let now = clock::now();
    e.low_key.fetch_min(low_key);
    if low_key > At::LOWEST && low_key < At::NEVER {
        waits_since(e, now);
    }
    e.generation.fetch_add(1);
    s.mark_dirty(index);
    let blocked_until = e.blocked_until.load();
    if blocked_until <= now {
        call(s, index, handlers);
    } else if blocked_until != At::NEVER {
        // The end of a pause and the like may have been noted behind what has just come due. One without
        // an end is lifted by somebody, who wakes it.
        due(s, index, blocked_until);
    }
}

/// Something of this entry could run since `at`: the tenant's lag counts from there until a pick has looked. What has waited for
/// longer counts on.
pub fn waits_since(e: &Entry, at: At) {
    if e.oldest_due.load() == At::UNSET {
        let _ = e.oldest_due.compare_exchange(At::UNSET, at);
    }
}

/// What waited under an entry that nobody may pick from has gone, or comes due later: a pick is to look how long the rest has waited.
pub fn look_at_lag(s: &Shared, index: u32) {
    let e = &s.entries[index as usize];
    if e.oldest_due.load() > At::UNSET && e.blocked_until.load() > clock::now() && e.blocked_reason.load().is_a_pause() {
        unblock(e);
        wake(s, index, At::NEVER);
    }
}

/// Something of this entry comes due at `at`, which may be in the future.
pub fn due(s: &Shared, index: u32, at: At) {
    let e = &s.entries[index as usize];
    if at < e.next_due.fetch_min(at) {
        note_due(s, index, at);
    }
}

/// Workers' tasks of the tenant whose owner's entry this is may expire at `at`: an executor is to look after them then.
pub fn tidy_at(s: &Shared, index: u32, at: At) {
    s.entries[index as usize].tidy_at.fetch_min(at);
    due(s, index, at);
}

/// Below every instant; what is lowered further is still far from overflowing.
pub const BEGINNING: At = At::of_micros(i64::MIN / 2);

/// A schedule of this entry's tenant comes due at `at`, which its row has said before.
pub fn schedule_due(s: &Shared, index: u32, at: At) {
    let e = &s.entries[index as usize];
    look_from(e, at);
    if at < e.schedule_due.fetch_min(at) {
        note_due(s, index, at);
    }
}

/// The next tick looks at schedules of this entry's tenant that are due from `at` on. Never leaves what it was:
/// a tick that didn't see the row must not raise it above it.
pub fn look_from(e: &Entry, at: At) {
    let _ = e.schedule_low.fetch_update(|low| Some(low.min(at.max(BEGINNING)) - Span::MICROSECOND));
}

fn note_due(s: &Shared, index: u32, at: At) {
    s.mark_due(index);
    // Otherwise it finds the mark when it wakes up by itself, which is before that.
    if at < s.header.sleeping_until.load() {
        s.call_launcher_now();
    }
}

/// Calls somebody for this entry: an executor, or a worker outside of the server.
fn call(s: &Shared, index: u32, handlers: u64) {
    let e = &s.entries[index as usize];
    match e.role.load() {
        EXTERNAL => s.call_taker(index, handlers),
        _ => poke(s, e.role_index.load() as usize),
    }
}

/// Wakes one idle executor of the role; where there is none, the launcher looks into it.
pub fn poke(s: &Shared, role_index: usize) {
    let r = &s.roles[role_index];
    loop {
        let idle = r.idle.load();
        if idle == 0 {
            break if r.executors.load() == 0 { s.call_launcher_now() } else { s.call_launcher() };
        }
        let slot = idle.trailing_zeros();
        if r.idle.fetch_and(!(1 << slot)) & (1 << slot) != 0 {
            let proc = s.slots[slot as usize].proc.load();
            if proc > 0 {
                break latch::wake(proc - 1);
            }
        }
    }
}

fn is_ready(e: &Entry, now: At) -> bool {
    e.in_use.load() == 1
        && e.heap_in.load() == 0
        && e.picker.load() == 0
        && e.generation.load() != e.seen.load()
        && e.blocked_until.load() <= now
}

/// How far the virtual time of an executor's own next entry may lie behind the least of another executor's.
const NEAR: u64 = 1_000_000;
/// How often in a row it may be preferred.
const IN_A_ROW: u32 = 32;

/// The heap in which an entry of this role belongs: that of the executor that served it last, if it lives. Under `Lock::Ready`.
fn heap_of<'a>(s: &'a Shared, r: &'a Role, e: &Entry) -> &'a GaugeU32 {
    match e.served_by.load() {
        by @ 1.. if r.own.load() & (1 << (by - 1)) != 0 => &s.header.own_heap[by as usize - 1],
        _ => &r.heap_root,
    }
}

/// The role's entry with the least virtual time, and the heap it is in. Under `Lock::Ready`.
fn least<'a>(s: &'a Shared, r: &'a Role) -> Option<(u32, &'a GaugeU32)> {
    let own = r.own.load();
    let heaps = (0..SLOTS).filter(|slot| own & (1 << slot) != 0).map(|slot| &s.header.own_heap[slot]);
    // Of two that are alike the one that nobody has.
    std::iter::once(&r.heap_root)
        .chain(heaps)
        .map(|heap| (heap.load(), heap))
        .filter(|(root, _)| *root != NONE)
        .min_by_key(|(root, _)| s.entries[*root as usize].vtime.load())
}

/// Takes its first entry off one of the role's heaps. Under `Lock::Ready`.
fn pop(s: &Shared, r: &Role, heap: &GaugeU32) {
    let root = heap.load();
    heap.store(crate::pure::heap::pop(&Links(s.entries), root));
    r.heap_count.fetch_sub(1);
    s.entries[root as usize].heap_in.store(0);
}

/// The executor in this slot has begun: what it serves is its own from now on.
pub fn join(s: &Shared, role_index: usize, slot: usize) {
    let _guard = Lock::Ready.exclusive();
    s.header.own_heap[slot].store(NONE);
    s.roles[role_index].own.fetch_or(1 << slot);
}

/// It leaves: what was its own is anybody's.
pub fn part(s: &Shared, role_index: usize, slot: usize) {
    let _guard = Lock::Ready.exclusive();
    let r = &s.roles[role_index];
    if r.own.fetch_and(!(1 << slot)) & (1 << slot) != 0 {
        let own = s.header.own_heap[slot].swap(NONE);
        r.heap_root.store(crate::pure::heap::merge(&Links(s.entries), r.heap_root.load(), own));
    }
}

/// Puts the entry into its heap. Under `Lock::Ready`.
fn enlist(s: &Shared, index: usize) {
    let e = &s.entries[index];
    let role_index = e.role_index.load() as usize;
    let r = &s.roles[role_index];
    if r.heap_count.load() == 0 && r.executors.load() == 0 {
        // A role that comes back starts where the others are.
        r.vtime.fetch_max(s.header.role_vtime.load());
    }
    e.vtime.fetch_add(e.debt.swap(0));
    e.vtime.fetch_max(r.floor.load());
    e.heap_in.store(1);
    if e.role.load() == EXTERNAL {
        return s.list(index as u32, true);
    }
    let heap = heap_of(s, r, e);
    heap.store(crate::pure::heap::push(&Links(s.entries), heap.load(), index as u32));
    r.heap_count.fetch_add(1);
}

/// Brings woken entries into their roles' heaps. Under `Lock::Ready`.
fn gather(s: &Shared) {
    let now = clock::now();
    s.take_dirty(|index| {
        if is_ready(&s.entries[index], now) {
            enlist(s, index);
        }
    });
}

/// The launcher's way to bring them in.
pub fn gather_now(s: &Shared) {
    let _guard = Lock::Ready.exclusive();
    gather(s);
}

/// The entry of the role whose turn it is; only `slot` picks there until `release`.
pub fn acquire(s: &Shared, role_index: usize, slot: usize) -> Option<u32> {
    let _guard = Lock::Ready.exclusive();
    gather(s);
    let r = &s.roles[role_index];
    let (first, heap) = least(s, r)?;
    let vtime = |index: u32| s.entries[index as usize].vtime.load();
    let (own_heap, in_a_row) = (&s.header.own_heap[slot], &s.header.own_in_a_row[slot]);
    let own = own_heap.load();
    let is_anothers = !std::ptr::eq(heap, own_heap) && !std::ptr::eq(heap, &r.heap_root);
    let prefers = is_anothers && own != NONE && vtime(own) <= vtime(first).saturating_add(NEAR) && in_a_row.load() < IN_A_ROW;
    in_a_row.store(if prefers { in_a_row.load() + 1 } else { 0 });
    let (index, heap) = if prefers { (own, own_heap) } else { (first, heap) };
    r.floor.fetch_max(vtime(first));
    pop(s, r, heap);
    let e = &s.entries[index as usize];
    e.served_by.store(slot as u32 + 1);
    e.picker.store(slot as u32 + 1);
    Some(index)
}

/// Who picks from an entry: its slot + 1, or from here on the place of a worker's session.
const TAKERS: u32 = 1 << 20;

/// The entry whose turn it is among those of which workers may take tasks; only this taker takes there until `release_taken`.
/// `of`: bits of those that it may look into, a word for 64 entries; `may`: whether it may find something there. Called under a lock.
pub fn acquire_external(s: &Shared, taker: u32, of: impl Fn(usize) -> u64, may: impl Fn(u32, &Entry) -> bool) -> Option<u32> {
    let _guard = Lock::Ready.exclusive();
    gather(s);
    let (now, now_ns) = (clock::now(), clock::monotonic_ns());
    let mut first: Option<(u64, u32)> = None;
    let mut over = Vec::new();
    s.each_listed_of(of, |index| {
        let e = &s.entries[index as usize];
        if e.in_use.load() != 1 || e.role.load() != EXTERNAL || e.generation.load() == e.seen.load() || e.blocked_until.load() > now {
            over.push(index);
        } else if may(index, e) {
            let used = e.time_used(now_ns);
            if first.is_none_or(|(least, _)| used < least) {
                first = Some((used, index));
            }
        }
    });
    for index in over {
        unlist(s, index);
    }
    let (_, index) = first?;
    let e = &s.entries[index as usize];
    s.roles[e.role_index.load() as usize].floor.fetch_max(e.vtime.load());
    unlist(s, index);
    e.picker.store(TAKERS + taker);
    s.look_into(index, true);
    Some(index)
}

/// Lets go of an entry that a worker has taken from. `more`: of these handlers there may be more, for others who wait.
pub fn release_taken(s: &Shared, index: u32, more: Option<u64>) {
    if let_go(s, index)
        && let Some(handlers) = more
    {
        s.call_taker(index, handlers);
    }
}

fn unlist(s: &Shared, index: u32) {
    s.list(index, false);
    s.entries[index as usize].heap_in.store(0);
}

/// This entry, for an executor that looks after what workers leave. False: somebody is at it.
pub fn acquire_to_tidy(s: &Shared, index: u32, slot: usize) -> bool {
    let _guard = Lock::Ready.exclusive();
    let e = &s.entries[index as usize];
    if e.picker.load() != 0 {
        return false;
    }
    if e.heap_in.load() != 0 {
        unlist(s, index);
    }
    e.picker.store(slot as u32 + 1);
    s.look_into(index, true);
    true
}

/// A worker's session ends in the midst of taking.
pub fn release_of_taker(s: &Shared, taker: u32) {
    for (index, e) in s.entries.iter().enumerate() {
        if e.picker.load() == TAKERS + taker {
            e.low_key.store(At::LOWEST);
            e.generation.fetch_add(1);
            release(s, index as u32);
        }
    }
}

/// Takes entries off the role's heaps that aren't ready any more (detached meanwhile).
pub fn prune(s: &Shared, role_index: usize) {
    let _guard = Lock::Ready.exclusive();
    let r = &s.roles[role_index];
    while let Some((first, heap)) = least(s, r) {
        let e = &s.entries[first as usize];
        if e.generation.load() != e.seen.load() {
            return;
        }
        pop(s, r, heap);
    }
}

/// Nothing of this entry is to be run any more, until it is woken.
pub fn put_to_rest(e: &Entry) {
    e.seen.store(e.generation.load());
    e.next_due.store(At::NEVER);
    e.schedule_due.store(At::NEVER);
    e.tidy_at.store(At::NEVER);
    e.oldest_due.store(At::UNSET);
    unblock(e);
}

/// The same of a certain entry, whose list is stuck, if nobody picks there.
pub fn take_over(s: &Shared, index: u32, slot: usize) -> bool {
    let _guard = Lock::Ready.exclusive();
    let e = &s.entries[index as usize];
    // An entry in the heap stays there; acquire() skips nothing, so it must not be both.
    if e.picker.load() != 0 || e.heap_in.load() != 0 {
        return false;
    }
    e.picker.store(slot as u32 + 1);
    true
}

/// Lets go of an entry; it goes back into the heap if there is more to do.
pub fn release(s: &Shared, index: u32) {
    if let_go(s, index) {
        // Another one may help.
        call(s, index, u64::MAX);
    }
}

/// The same without a word to anybody. True: there is more to do.
fn let_go(s: &Shared, index: u32) -> bool {
    let e = &s.entries[index as usize];
    let more = let_go_under_lock(s, index, e);
    if e.role.load() == EXTERNAL && s.header.takers_behind.load() > 0 {
        s.call_one_behind();
    }
    more
}

fn let_go_under_lock(s: &Shared, index: u32, e: &Entry) -> bool {
    let _guard = Lock::Ready.exclusive();
    e.picker.store(0);
    if e.role.load() == EXTERNAL {
        s.look_into(index, false);
    }
    let now = clock::now();
    let ready = is_ready(e, now);
    if ready && s.header.newcomers.load() > 0 && makes_room(s) {
        // It has had its turn, and others wait for a place: until then one of them may have this one.
        e.seen.store(e.generation.load());
        due(s, index, now + REST);
        return false;
    }
    if ready {
        enlist(s, index as usize);
    }
    ready
}

/// How long an entry stands back for newcomers: at least until the next sweep finds them.
const REST: Span = Span::of_secs(3);

/// Whether a newcomer waits for which nobody has made room yet.
fn makes_room(s: &Shared) -> bool {
    s.header.newcomers.fetch_update(|n| n.checked_sub(1)).is_ok()
}

/// Where an executor that is gone was picking others may pick again.
pub fn release_all_of(s: &Shared, slot: usize) {
    for (index, e) in s.entries.iter().enumerate() {
        if e.picker.load() == slot as u32 + 1 {
            // Whatever it had read is unknown: look at everything again.
            e.low_key.store(At::LOWEST);
            e.generation.fetch_add(1);
            release(s, index as u32);
        }
    }
}

/// Charges `nanos` of work to the entry and its role.
pub fn charge(s: &Shared, index: u32, nanos: u64) {
    let e = &s.entries[index as usize];
    let r = &s.roles[e.role_index.load() as usize];
    let weight = e.weight.load().max(1) as u64;
    let _guard = Lock::Ready.exclusive();
    if e.heap_in.load() == 0 {
        e.vtime.fetch_add(nanos / weight + 1);
    } else {
        // A key may not change inside the heap: the debt is taken off at the next turn.
        e.debt.fetch_add(nanos / weight + 1);
    }
    r.vtime.fetch_add(nanos);
}

/// Whether an executor of this role should give its place up to a waiting role.
pub fn should_leave(s: &Shared, role_index: usize) -> bool {
    s.header.waiting_roles.load() > 0
        && s.roles[role_index].vtime.load() > s.header.waiting_vtime.load().saturating_add(settings::role_quantum().as_nanos() as u64)
}

/// Leaves the whole entry alone for a doubling while (0.2 s … 60 s; 5 s where a look costs nothing
/// but the try for a lock).
pub fn block(s: &Shared, index: u32, reason: blocked::Reason) {
    let most = if reason == blocked::Reason::Locked { Span::of_secs(5) } else { Span::MINUTE };
    let e = &s.entries[index as usize];
    let now = clock::now();
    let delay = (e.blocked_delay.load() * 2).clamp(Span::of_millis(200), most);
    e.blocked_delay.store(delay);
    if e.blocked_since.load() == At::UNSET {
        e.blocked_since.store(now);
    }
    e.blocked_reason.store(reason);
    e.blocked_until.store(now + delay);
    due(s, index, now + delay);
}

/// Leaves the entry alone until `until` (pause); not an error.
pub fn block_until(s: &Shared, index: u32, until: At, reason: blocked::Reason) {
    let e = &s.entries[index as usize];
    e.blocked_reason.store(reason);
    // Who blocks it looks afterwards whether it was meanwhile unparked: not before this is to be seen.
    e.blocked_until.store(until);
    if until != At::NEVER {
        due(s, index, until);
    }
}

/// Held rows are to be looked at again. A wake follows.
pub fn unpark(e: &Entry) {
    e.unparks.fetch_add(1);
    e.unpark.store(Unpark::Asked);
}
pub fn unblock(e: &Entry) {
    e.blocked_until.store(At::UNSET);
    e.blocked_delay.store(Span::ZERO);
    e.blocked_since.store(At::UNSET);
    e.blocked_reason.store(blocked::Reason::None);
}

/// Tasks of this tenant (of this database) have ended: what was left because of a limit may go on,
/// under its other roles, too.
pub fn wake_limited(s: &Shared, tenant: u32) {
    for index in s.entries_of(crate::postgres::shmem::my_database(), tenant) {
        let e = &s.entries[index as usize];
        if e.limited.load() == 1 && e.limited.swap(0) == 1 {
            wake(s, index, At::LOWEST);
        }
    }
}

/// A row of this entry changed and comes due at `at`: now or later.
pub fn wake_at(s: &Shared, index: u32, at: At, handlers: u64) {
    if at <= clock::now() {
        wake_for(s, index, at, handlers);
    } else {
        // The cursor may have passed this place of the index already.
        s.entries[index as usize].low_key.fetch_min(at);
        due(s, index, at);
    }
}
