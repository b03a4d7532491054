//! A worker's session: what it offers, in which tenants it may work, what it has found there in vain; taking, waiting, and its end.

use crate::postgres::caught::{self, Failure};
use crate::postgres::error::{Error, Result};
use crate::postgres::session_end::{self, Ending};
use crate::postgres::sqlstate::SqlState;
use crate::postgres::{clock, latch, sandbox, session, shmem};
use crate::pure::word::ClaimState;
use crate::settings;
use crate::shared::entry::EntryRef;
use crate::shared::role::EXTERNAL;
use crate::shared::takers::{self, Taker, Wanted, bit_of, waits};
use crate::shared::text::store_text;
use crate::shared::{self, Shared, culprits, ready};
use crate::tenant;
use crate::tenant::rights::{self, Right};
use crate::work::take::{self, Offered, Outcome, Taken};
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// What a worker asks for.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Asked {
    /// None: whatever there is.
    pub handlers: Option<Vec<String>>,
    pub queues: Option<Vec<String>>,
    pub tenants: Option<Vec<String>>,
}

/// What this session knows, for as long as it asks for the same.
struct Memory {
    asked: Asked,
    role: u32,
    epoch: u64,
    /// Whether it may work for the tenant of an entry.
    may: HashMap<EntryRef, bool>,
    /// Where it has looked in vain, and what the entry's generation was.
    in_vain: HashMap<EntryRef, u64>,
    offered: Rc<Offered>,
    wanted: Wanted,
}

thread_local! {
    static MEMORY: RefCell<Option<Memory>> = const { RefCell::new(None) };
}

/// This session's place among the takers; from here on its end is heard of. Every call is a sign of life.
pub fn my_place(s: &Shared) -> Result<(u32, &'static Taker)> {
    let place = s
        .my_taker(sandbox::current_user().to_u32())
        .ok_or_else(|| Error::new(SqlState::CONFIGURATION_LIMIT_EXCEEDED, "there is no place for another worker's session"))?;
    session_end::on_session_end(leave);
    place.1.seen_ns.store(clock::monotonic_ns());
    Ok(place)
}

/// Says who it is, for people.
pub fn introduce(taker: &Taker, name: Option<&str>, asked: &Asked) {
    if let Some(name) = name {
        store_text(&taker.name, name);
    }
    if taker.host[0].load() == 0 {
        store_text(&taker.host, &session::client_host());
        session::probe_client();
    }
    let offers = asked.handlers.as_ref().map_or(String::new(), |handlers| handlers.join(", "));
    store_text(&taker.offers, &offers);
}

/// Makes up its mind anew where anything may have changed that it knows.
fn remember(place: u32, asked: &Asked) {
    let (role, epoch) = (sandbox::current_user().to_u32(), tenant::epoch());
    MEMORY.with_borrow_mut(|memory| {
        if memory.as_ref().is_some_and(|m| m.asked == *asked && m.role == role && m.epoch == epoch) {
            return;
        }
        let sorted = |list: &Option<Vec<String>>| {
            list.clone().map(|mut list| {
                list.sort_unstable();
                list.dedup();
                list
            })
        };
        let offered = Offered { handlers: sorted(&asked.handlers), queues: sorted(&asked.queues), role, taker: place };
        let handlers = asked.handlers.as_ref().map_or(u64::MAX, |handlers| handlers.iter().fold(0, |bits, h| bits | bit_of(h)));
        *memory = Some(Memory {
            asked: asked.clone(),
            role,
            epoch,
            may: HashMap::new(),
            in_vain: HashMap::new(),
            offered: Rc::new(offered),
            wanted: Wanted { handlers, ..Wanted::NOTHING },
        });
    });
}

/// Finds out, for entries that workers may take tasks of and that it doesn't know yet, whether it may work there.
fn get_to_know(s: &Shared) {
    let mut unknown = Vec::new();
    let database = shmem::my_database();
    MEMORY.with_borrow(|memory| {
        let Some(memory) = memory else { return };
        for (index, entry) in s.entries.iter().enumerate() {
            if entry.role.load() == EXTERNAL && entry.in_use.load() == 1 && entry.database.load() == database {
                let entry = s.reference(index);
                if !memory.may.contains_key(&entry) {
                    unknown.push(entry);
                }
            }
        }
    });
    for entry in unknown {
        let Some(e) = s.at(entry) else { continue };
        let schema = e.tenant.load();
        let may = tenant::by_oid(schema).is_ok_and(|tenant| {
            rights::require(&tenant, &[Right::Work]).is_ok()
                && MEMORY.with_borrow(|m| {
                    let tenants = m.as_ref().and_then(|m| m.asked.tenants.as_ref());
                    tenants.is_none_or(|names| names.contains(&tenant.name))
                })
        });
        MEMORY.with_borrow_mut(|memory| {
            if let Some(memory) = memory {
                memory.may.insert(entry, may);
                if may {
                    memory.wanted.add_tenant(schema);
                }
            }
        });
    }
}

/// Whether it may look into this entry, and hasn't in vain.
fn may_find(s: &Shared, index: u32) -> bool {
    let entry = s.reference(index as usize);
    MEMORY.with_borrow(|memory| {
        let Some(memory) = memory else { return false };
        let generation = s.entries[index as usize].generation.load();
        memory.may.get(&entry) == Some(&true) && memory.in_vain.get(&entry) != Some(&generation)
    })
}

/// Takes at most `n` tasks, of whichever tenants' turn it is.
pub fn take(s: &Shared, n: usize, asked: &Asked, name: Option<&str>) -> Result<Vec<Taken>> {
    let (place, taker) = my_place(s)?;
    introduce(taker, name, asked);
    // Tasks of tenants that it has heard of now: the calls are answered.
    let was_called = taker.waits.swap(waits::NO) == waits::CALLED;
    remember(place, asked);
    get_to_know(s);
    let offered = MEMORY.with_borrow(|memory| memory.as_ref().map(|m| m.offered.clone())).expect("remembered above");
    let mut taken: Vec<Taken> = Vec::new();
    while taken.len() < n && settings::enabled() {
        let Some(index) = ready::acquire_external(s, place, |index, _| may_find(s, index)) else { break };
        let entry = s.reference(index as usize);
        let generation = s.entries[index as usize].generation.load();
        // Whatever becomes of it, the entry is let go.
        let found = caught::catch(|| take::take(s, index, n - taken.len(), &offered)).and_then(|found| found);
        ready::release(s, index);
        match found {
            Ok(Outcome::Tasks { taken: some, in_vain }) => {
                if in_vain {
                    MEMORY.with_borrow_mut(|m| m.as_mut().map(|m| m.in_vain.insert(entry, generation)));
                }
                taken.extend(some);
            }
            Ok(Outcome::Full) if taken.is_empty() => return Err(take::full().into()),
            Ok(Outcome::Full) => break,
            Err(failure) => return Err(failed(s, index, failure)),
        }
    }
    if was_called && taken.is_empty() {
        s.call_for_all_that_is_ready();
    }
    Ok(taken)
}

/// One tenant's tables can't be read: it is left alone for a while, and nobody else is kept waiting by it.
fn failed(s: &Shared, index: u32, failure: Failure) -> Error {
    if failure.sqlstate != SqlState::QUERY_CANCELED {
        ready::block(s, index, shared::blocked::Reason::Error);
    }
    failure.into()
}

/// Whether a look may find something, or something is to be told.
fn is_something(s: &Shared, taker: &Taker) -> bool {
    if taker.news.load() != 0 {
        return true;
    }
    if !settings::enabled() {
        return false;
    }
    get_to_know(s);
    ready::gather_now(s);
    let mut found = false;
    s.each_listed(|index| found = found || may_find(s, index));
    found
}

/// Says what it waits for, for whoever enqueues; then nothing that comes is missed. True: there is something already. In a
/// transaction.
pub fn begin_to_wait(s: &Shared, taker: &Taker, place: u32, asked: &Asked) -> bool {
    remember(place, asked);
    get_to_know(s);
    let wanted = MEMORY.with_borrow(|m| m.as_ref().map_or(Wanted::NOTHING, |m| m.wanted));
    let mut wanted = wanted;
    // Tenants come that nobody knows yet: of those it has said nothing about it wants to hear.
    wanted.any_tenant();
    taker.handlers.store(wanted.handlers);
    for (to, bits) in taker.tenants.iter().zip(wanted.tenants) {
        to.store(bits);
    }
    taker.waits.store(waits::WAITS);
    is_something(s, taker)
}

/// Sleeps until it is called, or the time is over: no snapshot is held, and nothing of a transaction is looked at. True: called.
pub fn sleep(taker: &Taker, until: Option<Instant>) -> bool {
    loop {
        if taker.waits.load() != waits::WAITS || taker.news.load() != 0 {
            return true;
        }
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return false;
        }
        latch::wait(left.map(|left| left.max(Duration::from_millis(1))));
    }
}

/// It waits no more. Who was called and takes nothing in the end hands the call on: see `take`, `leave`.
pub fn end_waiting(taker: &Taker) {
    let _ = taker.waits.compare_exchange(waits::WAITS, waits::NO);
}

/// The wait is over by an error: what it was called for is others'.
pub fn give_up_waiting() {
    if let Some(s) = shared::get()
        && let Some(place) = takers::mine()
    {
        s.pass_on(&s.takers[place as usize]);
    }
}

/// The session's end: what it has taken runs again. A worker that dies with one task is blamed for it; with several nobody is.
fn leave(ending: Ending) {
    let Some(s) = shared::get() else { return };
    let Some(place) = takers::mine() else { return };
    let taker = &s.takers[place as usize];
    let pid = shmem::my_pid();
    ready::release_of_taker(&s, place);
    let mine = |claim: &&shared::claims::Claim| claim.pid.load() == pid && claim.taker.load() == place && claim.is_live();
    let taken = s.used_claims().iter().filter(mine).filter(|claim| claim.load().state == ClaimState::Taken).count();
    let told_to_end = taker.told_to_end.load() != 0;
    // From here on whose transaction ends one of them knows that nobody is left to have it back.
    let was_called = taker.waits.load() == waits::CALLED;
    let now = clock::monotonic_ns();
    let grace = settings::worker_grace().as_nanos() as u64;
    let mut owners = HashSet::new();
    s.leave_takers();
    for claim in s.used_claims().iter().filter(mine) {
        if claim.load().state != ClaimState::Taken {
            continue;
        }
        let deadline = claim.deadline_ns.load();
        let timed_out = told_to_end && deadline != 0 && now >= deadline.saturating_add(grace);
        let died = (ending == Ending::Client || told_to_end) && taken == 1;
        if timed_out || died {
            culprits::worker_ended(&s, claim, timed_out);
            owners.insert(claim.owners.load());
        }
        s.revoke(claim);
    }
    for owners in owners {
        // An executor of the owner's writes it down.
        if let Some(e) = s.entries.get(owners as usize) {
            e.tidy.store(1);
            ready::wake(&s, owners, crate::pure::time::At::NEVER);
        }
    }
    if was_called {
        s.call_for_all_that_is_ready();
    }
}
