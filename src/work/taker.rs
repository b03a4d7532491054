//! A worker's session: what it offers, in which tenants it may work, what it has found there in vain; taking, waiting, and its end.

use crate::postgres::caught::{self, Failure};
use crate::postgres::error::{Error, Result};
use crate::postgres::session_end::{self, Ending};
use crate::postgres::sqlstate::SqlState;
use crate::postgres::{catalog, clock, latch, sandbox, session, shmem};
use crate::pure::word::ClaimState;
use crate::settings;
use crate::shared::claims::told;
use crate::shared::entry::{Entry, tidy};
use crate::shared::role::EXTERNAL;
use crate::shared::takers::{self, Taker, Tenants, bit_of, news, waits};
use crate::shared::text::store_text;
use crate::shared::{self, Shared, culprits, ready};
use crate::tenant;
use crate::tenant::rights::{self, Right};
use crate::work::take::{self, Offered, Outcome, Taken};
use std::cell::RefCell;
use std::collections::HashSet;
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
    /// How many entries of workers' tasks there were when it last looked for those that it may work for.
    entries: Option<u32>,
    /// How many grants there had been when it last looked where it may work, and when that was.
    grants: u32,
    looked_at: Instant,
    /// Bit per entry: it may work for that tenant.
    may: Vec<u64>,
    /// Per entry: whose it was when that was found out, 0 = it wasn't; and its generation when it was looked into in vain.
    stamps: Vec<u32>,
    in_vain: Vec<u64>,
    offered: Rc<Offered>,
    /// Bits of the handlers that it offers.
    handlers: u64,
}

/// Where it may work is looked at again after so long, if somebody was given rights meanwhile.
const GRANTED_AGAIN: Duration = Duration::from_secs(1);

impl Memory {
    /// Whether it may work for the tenant of this entry, if it still is the one that is known.
    fn may(&self, index: usize) -> bool {
        self.may[index / 64] & 1 << (index % 64) != 0
    }
    /// Somebody was given rights since: it may be this role, where it had none.
    fn forget_refusals(&mut self, s: &Shared) {
        let grants = s.header.grants.load();
        if self.grants == grants || self.looked_at.elapsed() < GRANTED_AGAIN {
            return;
        }
        (self.grants, self.looked_at, self.entries) = (grants, clock::steady(), None);
        for index in 0..self.stamps.len() {
            if !self.may(index) {
                self.stamps[index] = 0;
            }
        }
    }
}

/// So long a taker waits for others to let go of what it would look into. A look takes a fraction of a millisecond.
const PATIENCE: Duration = Duration::from_millis(500);

/// No entry's generation.
const NEVER: u64 = u64::MAX;

thread_local! {
    static MEMORY: RefCell<Option<Memory>> = const { RefCell::new(None) };
    /// How it has called itself last.
    static NAMED: RefCell<String> = const { RefCell::new(String::new()) };
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
    if let Some(name) = name
        && NAMED.with_borrow(|named| named != name)
    {
        store_text(&taker.name, name);
        NAMED.set(name.to_string());
    }
    if taker.host[0].load() == 0 {
        store_text(&taker.host, &session::client_host());
        session::probe_client();
    }
    if MEMORY.with_borrow(|memory| memory.as_ref().is_none_or(|m| m.asked.handlers != asked.handlers)) {
        let offers = asked.handlers.as_ref().map_or(String::new(), |handlers| handlers.join(", "));
        store_text(&taker.offers, &offers);
        taker.set_offers(asked.handlers.as_deref());
    }
}

/// Makes up its mind anew where anything may have changed that it knows.
fn remember(s: &Shared, place: u32, asked: &Asked) {
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
            entries: None,
            grants: s.header.grants.load(),
            looked_at: clock::steady(),
            may: vec![0; s.entries.len().div_ceil(64)],
            stamps: vec![0; s.entries.len()],
            in_vain: vec![NEVER; s.entries.len()],
            offered: Rc::new(offered),
            handlers,
        });
    });
}

/// Finds out, for entries of workers' tasks that it doesn't know yet, whether it may work there. Usually there is none.
fn get_to_know(s: &Shared) {
    MEMORY.with_borrow_mut(|memory| {
        if let Some(memory) = memory {
            memory.forget_refusals(s);
        }
    });
    let there_are = s.header.external_entries.load();
    if MEMORY.with_borrow(|memory| memory.as_ref().is_none_or(|m| m.entries == Some(there_are))) {
        return;
    }
    let database = shmem::my_database();
    for (index, entry) in s.entries.iter().enumerate() {
        if entry.role.load() != EXTERNAL || entry.in_use.load() != 1 || entry.database.load() != database {
            continue;
        }
        let stamp = entry.stamp.load();
        if MEMORY.with_borrow(|m| m.as_ref().is_some_and(|m| m.stamps[index] == stamp)) {
            continue;
        }
        let may = may_work_for(entry.tenant.load());
        MEMORY.with_borrow_mut(|memory| {
            let Some(memory) = memory else { return };
            memory.stamps[index] = stamp;
            memory.in_vain[index] = NEVER;
            let (word, bit) = (&mut memory.may[index / 64], 1 << (index % 64));
            *word = if may { *word | bit } else { *word & !bit };
        });
    }
    MEMORY.with_borrow_mut(|m| m.as_mut().map(|m| m.entries = Some(there_are)));
}

/// Whether it has the right, and wants to. Of thousands of tenants that are none of its business nothing else is looked at.
fn may_work_for(schema: u32) -> bool {
    let is_asked =
        |name: &String| MEMORY.with_borrow(|m| m.as_ref().and_then(|m| m.asked.tenants.as_ref()).is_none_or(|names| names.contains(name)));
    catalog::schema_name(schema).is_some_and(|name| is_asked(&name))
        && catalog::may_use_schema(schema, sandbox::current_user())
        && tenant::by_oid(schema).is_ok_and(|tenant| rights::require(&tenant, &[Right::Work]).is_ok())
}

/// Whether it hasn't looked into this entry, which it may, in vain. The place may be another tenant's by now.
fn may_find(memory: &Memory, index: u32, entry: &Entry) -> bool {
    memory.stamps[index as usize] == entry.stamp.load() && memory.in_vain[index as usize] != entry.generation.load()
}

/// What a try to take comes to.
pub enum Got {
    /// These, perhaps none.
    Tasks(Vec<Taken>),
    /// There are some, and the worker's role has as many as it may.
    Full(Failure),
}

/// Takes at most `n` tasks, of whichever tenants' turn it is.
pub fn take(s: &Shared, n: usize, asked: &Asked, name: Option<&str>) -> Result<Got> {
    let (place, taker) = my_place(s)?;
    introduce(taker, name, asked);
    // Tasks of tenants that it has heard of now: the calls are answered.
    let was_called = taker.waits.swap(waits::NO) == waits::CALLED;
    remember(s, place, asked);
    get_to_know(s);
    if taker.claims.load() == 0 {
        s.keeps_none(place);
    }
    look_again_at_passed(taker);
    let taken = take_in_turns(s, place, taker, n);
    if was_called && !matches!(&taken, Ok(Got::Tasks(taken)) if !taken.is_empty()) {
        s.call_behind(place);
    }
    taken
}

/// What it has passed by because it had others it may have when it has none.
fn look_again_at_passed(taker: &Taker) {
    if taker.claims.load() == 0 && taker.passed.swap(0) != 0 {
        MEMORY.with_borrow_mut(|m| m.as_mut().map(|m| m.in_vain.fill(NEVER)));
    }
}

fn take_in_turns(s: &Shared, place: u32, taker: &Taker, n: usize) -> Result<Got> {
    let (offered, handlers) = MEMORY.with_borrow(|m| m.as_ref().map(|m| (m.offered.clone(), m.handlers))).expect("remembered before");
    let mut taken: Vec<Taken> = Vec::new();
    let most = s.claims_left(offered.role);
    if most == 0 && settings::enabled() && is_any_left(s) {
        return Ok(Got::Full(take::full(s, offered.role)));
    }
    let patience = clock::steady() + PATIENCE;
    while taken.len() < n.min(most) && settings::enabled() && s.may_take(place) {
        let next = MEMORY.with_borrow(|memory| {
            let memory = memory.as_ref()?;
            ready::acquire_external(s, place, |word| memory.may[word], |index, entry| may_find(memory, index, entry))
        });
        let Some(index) = next else {
            // Where others are looking just now there may be something for this one, too.
            if taken.is_empty() && wait_behind_others(s, taker, patience) {
                continue;
            }
            break;
        };
        let generation = s.entries[index as usize].generation.load();
        // Whatever becomes of it, the entry is let go.
        let found = caught::catch(|| take::take(s, index, n.min(most) - taken.len(), &offered)).and_then(|found| found);
        let full = match &found {
            Ok(Outcome::Tasks { taken: some, .. }) => taken.len() + some.len() >= n || !s.may_take(place),
            Ok(Outcome::Full) | Err(_) => true,
        };
        // What this one has no room for others may take.
        ready::release_taken(s, index, full.then_some(handlers));
        match found {
            Ok(Outcome::Tasks { taken: some, in_vain }) => {
                if in_vain {
                    MEMORY.with_borrow_mut(|m| m.as_mut().map(|m| m.in_vain[index as usize] = generation));
                }
                taken.extend(some);
            }
            Ok(Outcome::Full) if taken.is_empty() => return Ok(Got::Full(take::full(s, offered.role))),
            Ok(Outcome::Full) => break,
            Err(failure) => return Err(failed(s, index, failure)),
        }
    }
    Ok(Got::Tasks(taken))
}

/// Waits until somebody lets an entry go that it could look into. False: nobody is at one, or it takes too long.
fn wait_behind_others(s: &Shared, taker: &Taker, until: Instant) -> bool {
    let are_at_it = || MEMORY.with_borrow(|memory| memory.as_ref().is_some_and(|m| s.are_looked_into(|word| m.may[word])));
    if !are_at_it() {
        return false;
    }
    s.header.takers_behind.fetch_add(1);
    let _behind = Behind(s, taker);
    taker.waits.store(waits::BEHIND);
    // Who has let it go before that has called nobody.
    while taker.waits.load() == waits::BEHIND && are_at_it() {
        if clock::steady() >= until {
            return false;
        }
        latch::wait(Some(Duration::from_millis(1)));
    }
    true
}

/// It waits behind others; also where an error ends that.
struct Behind<'a>(&'a Shared, &'a Taker);

impl Drop for Behind<'_> {
    fn drop(&mut self) {
        self.0.header.takers_behind.fetch_sub(1);
        let was_called = self.1.waits.swap(waits::NO) == waits::NO;
        if was_called && std::thread::panicking() {
            self.0.call_one_behind();
        }
    }
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
    if taker.news.load() == news::SOME {
        return true;
    }
    if !settings::enabled() || taker.waits.load() == waits::FULL {
        return false;
    }
    get_to_know(s);
    look_again_at_passed(taker);
    is_any_left(s)
}

/// Whether there is an entry where it may find something.
fn is_any_left(s: &Shared) -> bool {
    ready::gather_now(s);
    MEMORY.with_borrow(|memory| {
        let Some(memory) = memory else { return false };
        let mut found = false;
        s.each_listed_of(|word| memory.may[word], |index| found = found || may_find(memory, index, &s.entries[index as usize]));
        found
    })
}

/// Says what it waits for, for whoever enqueues; then nothing that comes is missed. True: there is something already. In a
/// transaction. Who was called for what it can't take, as it turns out, passes the call on and waits.
pub fn begin_to_wait(s: &Shared, taker: &Taker, place: u32, asked: &Asked) -> bool {
    remember(s, place, asked);
    get_to_know(s);
    MEMORY.with_borrow(|memory| {
        let Some(memory) = memory else { return };
        taker.handlers.store(memory.handlers);
        let may = s.entries.iter().enumerate().filter(|(n, entry)| memory.may(*n) && memory.stamps[*n] == entry.stamp.load());
        Tenants::of(may.map(|(_, entry)| entry.tenant.load())).store(taker);
        taker.knows.store(memory.entries.unwrap_or(0));
        taker.grants.store(memory.grants);
    });
    let mut was_called = false;
    loop {
        let may_take = s.may_take(place);
        was_called |= taker.waits.swap(if may_take { waits::WAITS } else { waits::FULL }) == waits::CALLED;
        // Who has made room before that has called nobody.
        if may_take || !s.may_take(place) {
            break;
        }
    }
    let something = is_something(s, taker);
    if something {
        // Others rely on it, for a while: who takes nothing then has another one called.
        s.rely_on(taker);
    } else if was_called {
        s.call_behind(place);
    }
    something
}

/// Rights that somebody has changed without tq_grant are looked at again after so long.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// What ended a sleep.
#[derive(PartialEq, Eq)]
pub enum Slept {
    /// A call, or news; or it is time to look where it may work.
    Called,
    Over,
}

/// Sleeps until it is called, or the time is over: no snapshot is held, and nothing of a transaction is looked at.
pub fn sleep(s: &Shared, taker: &Taker, until: Option<Instant>) -> Slept {
    let (begun, mut granted) = (clock::steady(), None);
    loop {
        if !matches!(taker.waits.load(), waits::WAITS | waits::FULL) || taker.news.load() == news::SOME {
            return Slept::Called;
        }
        let left = until.map_or(LOOK_AGAIN, |until| until.saturating_duration_since(clock::steady()));
        if left.is_zero() {
            return Slept::Over;
        }
        // Who is told of a grant is so before its own caches are.
        if granted.is_none() && taker.grants.load() != s.header.grants.load() {
            granted = Some(clock::steady());
        }
        let same = granted.map_or(LOOK_AGAIN.saturating_sub(begun.elapsed()), |at| GRANTED_AGAIN.saturating_sub(at.elapsed()));
        if same.is_zero() {
            return Slept::Called;
        }
        latch::wait(Some(left.min(same).max(Duration::from_millis(1))));
    }
}

/// Whether there is something that tq_watch would tell, and no wait has ended because of it.
pub fn has_news(taker: &Taker) -> bool {
    taker.news.compare_exchange(news::SOME, news::SAID).is_ok()
}

/// It waits no more. Who was called and takes nothing in the end hands the call on: see `take`, `leave`.
pub fn end_waiting(taker: &Taker) {
    for waits in [waits::WAITS, waits::FULL] {
        let _ = taker.waits.compare_exchange(waits, waits::NO);
    }
}

/// The wait is over by an error: what it was called for is others'.
pub fn give_up_waiting() {
    if let Some(s) = shared::get()
        && let Some(place) = takers::mine()
    {
        s.pass_on(place);
    }
}

/// The session's end: what it has taken runs again. The task with which a worker dies is blamed for it; of several none is, and
/// each is handed out alone next.
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
    // Whoever is ended for what became of one of its tasks says nothing about the others.
    let has_offender = || s.used_claims().iter().filter(mine).any(|claim| claim.told.load() & told::MUST_END != 0);
    let died = ending == Ending::Client || told_to_end;
    let several_died = died && taken > 1 && !(told_to_end && has_offender());
    let mut owners = HashSet::new();
    s.leave_lone(place);
    s.leave_takers();
    for claim in s.used_claims().iter().filter(mine) {
        if claim.load().state != ClaimState::Taken {
            continue;
        }
        let deadline = claim.deadline_ns.load();
        let timed_out = told_to_end && deadline != 0 && now >= deadline.saturating_add(grace);
        owners.insert(claim.owners.load());
        if timed_out || died && taken == 1 {
            culprits::worker_ended(&s, claim, timed_out);
        } else if several_died {
            s.is_to_be_alone(claim);
        }
        s.revoke(claim);
    }
    for owners in owners {
        // An executor of the owner's writes it down, and looks whether what nobody has now has expired.
        if let Some(e) = s.entries.get(owners as usize) {
            e.tidy.fetch_or(tidy::ROWS);
            ready::wake(&s, owners, crate::pure::time::At::NEVER);
        }
    }
    if was_called {
        s.call_behind(place);
    }
}
