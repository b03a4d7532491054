//! After commit: tell whoever has to know.
//!
//! What a transaction enqueued, changed, cancelled or counted is noted here as it goes along, by savepoint
//! (pure/nested.rs), and carried out when its locks and invalidations are out. A rollback does nothing. PREPARE
//! TRANSACTION puts the notes aside for whoever finishes it (prepared.rs).

use crate::postgres::clock;
use crate::postgres::error::Result;
use crate::postgres::release::{self, End};
use crate::pure::ids::Id;
use crate::pure::nested::{self, Nested};
use crate::pure::state::Outcome;
use crate::pure::time::At;
use crate::pure::word::ClaimWord;
use crate::shared::endings::{self, Drained, Ending, Endings};
use crate::shared::entry::{self, EntryRef};
use crate::shared::{self, Shared, away, counters, database, gauge, prepared, ready, stops, waiters};
use std::cell::RefCell;
use std::collections::HashMap;

/// What was noted for one entry.
#[derive(Clone)]
pub struct Pending {
    pub entry: EntryRef,
    /// Least run_at enqueued; NEVER = none that may be due.
    pub low: At,
    /// How many more unfinished tasks there are.
    pub added: i64,
    /// What the gauge was found to be wrong by: see gauge.rs.
    pub correction: Option<gauge::Correction>,
    /// Something was enqueued.
    pub enqueued: bool,
    /// Of which handlers workers' tasks came (takers.rs).
    pub handlers: u64,
    pub unpark: bool,
    /// There may be rows that no commit has announced.
    pub found: bool,
    /// Workers' tasks have come that none of them may take: an executor is to look after them. Under the owner's entry.
    pub untakeable: bool,
    /// When the first of such tasks expires. Under the owner's entry.
    pub expires: At,
    /// What has changed may have kept schedules from firing, which are looked at under this entry.
    pub schedules: bool,
    pub schedule: At,
    /// Whoever counts was told that it is about to commit.
    pub entered: bool,
    /// The entry's place is kept for it.
    pub pinned: bool,
}

impl Pending {
    pub fn new(entry: EntryRef) -> Pending {
        Pending {
            entry,
            low: At::NEVER,
            added: 0,
            correction: None,
            enqueued: false,
            handlers: 0,
            unpark: false,
            found: false,
            untakeable: false,
            expires: At::NEVER,
            schedules: false,
            schedule: At::NEVER,
            entered: false,
            pinned: false,
        }
    }
}

/// Running tasks that are to stop.
#[derive(Clone, Copy)]
pub struct Stop {
    pub tenant: u32,
    pub what: Stopped,
}

#[derive(Clone, Copy)]
pub enum Stopped {
    /// This one, cancelled.
    Task { id: Id, created_at: At },
    /// Whatever runs beyond so many; it goes back into the queue.
    Beyond(usize),
}

#[derive(Default)]
pub struct Notes {
    pub wakes: Vec<Pending>,
    /// Where in `wakes` an entry is, once they are many.
    pub places: HashMap<EntryRef, usize>,
    pub stops: Vec<Stop>,
    /// The database is to be looked into again: does it have the extension?
    pub probe: bool,
    /// Databases came or went.
    pub databases: bool,
    /// All its tenants are to be looked at.
    pub sweep: bool,
    /// Something is to be spread over all tenants.
    pub fan_out: bool,
    /// Something was written for which there was no entry.
    pub unplaced: bool,
    /// Schemas that are tenants no more.
    pub detached: Vec<u32>,
    pub finished: Vec<Id>,
    /// Marks of groups of which a member is final.
    pub groups: Vec<u64>,
    /// Flows that have ended.
    pub flows: Vec<counters::Uncommitted>,
    /// Some tasks are final, nobody knows which any more.
    pub all_waiters: bool,
    /// Databases that workers keep away from until this ends.
    pub left: Vec<away::Away>,
    /// Somebody was given rights.
    pub granted: bool,
    /// What it has to do with workers' claims.
    pub claims: Endings,
    /// A prepared transaction that is being finished.
    pub finishing: Option<Box<prepared::Finishing>>,
}

/// So many entries are looked through; more have a map.
const FEW: usize = 8;
/// So many ends are noted one by one.
const MANY: usize = 100_000;

impl Notes {
    fn place(&mut self, entry: EntryRef) -> usize {
        // Most transactions touch one tenant: the last one noted is the one that is meant.
        let found =
            if self.wakes.len() <= FEW { self.wakes.iter().rposition(|p| p.entry == entry) } else { self.places.get(&entry).copied() };
        found.unwrap_or_else(|| {
            self.wakes.push(Pending::new(entry));
            let place = self.wakes.len() - 1;
            if place == FEW {
                self.places = self.wakes.iter().enumerate().map(|(n, p)| (p.entry, n)).collect();
            } else if place > FEW {
                self.places.insert(entry, place);
            }
            place
        })
    }

    pub(super) fn pending(&mut self, entry: EntryRef) -> &mut Pending {
        let place = self.place(entry);
        let p = &mut self.wakes[place];
        if !p.pinned
            && let Some(e) = shared::get().and_then(|s| s.at(entry))
        {
            e.pins.fetch_add(1);
            // Unless it has gone to another tenant just now.
            p.pinned = shared::get().is_some_and(|s| s.at(entry).is_some());
            if !p.pinned {
                unpinned(e);
            }
        }
        p
    }
}

impl nested::Notes for Notes {
    fn absorb(&mut self, later: Notes) {
        for p in later.wakes {
            let place = self.place(p.entry);
            let mine = &mut self.wakes[place];
            mine.low = mine.low.min(p.low);
            mine.added += p.added;
            mine.enqueued |= p.enqueued;
            mine.handlers |= p.handlers;
            mine.unpark |= p.unpark;
            mine.found |= p.found;
            mine.untakeable |= p.untakeable;
            mine.expires = mine.expires.min(p.expires);
            mine.schedules |= p.schedules;
            mine.schedule = mine.schedule.min(p.schedule);
            mine.correction = gauge::Correction::both(mine.correction, p.correction);
            if mine.pinned {
                unpin(&p);
            } else {
                mine.pinned = p.pinned;
            }
        }
        self.stops.extend(later.stops);
        self.probe |= later.probe;
        self.databases |= later.databases;
        self.sweep |= later.sweep;
        self.fan_out |= later.fan_out;
        self.unplaced |= later.unplaced;
        self.granted |= later.granted;
        self.detached.extend(later.detached);
        self.finished.extend(later.finished);
        self.groups.extend(later.groups);
        self.flows.extend(later.flows);
        self.all_waiters |= later.all_waiters;
        self.left.extend(later.left);
        self.claims.absorb(later.claims);
        self.finishing = later.finishing.or(self.finishing.take());
    }
}

thread_local! {
    static NOTES: RefCell<Nested<Notes>> = RefCell::default();
}

pub(super) fn note<T>(f: impl FnOnce(&mut Notes) -> T) -> T {
    release::on_transaction_end(|| release::Callbacks { before_commit, before_prepare, ended, released, rolled_back });
    NOTES.with_borrow_mut(|n| f(n.open(release::subtransaction_id())))
}

fn any(of: impl FnMut(&Notes) -> bool) -> bool {
    NOTES.with_borrow(|n| n.all().any(of))
}

/// A row with this run_at was added to the entry's tenant; NEVER: it waits for something else than its time.
/// `handlers`: see takers.rs; 0 where no worker takes it.
pub fn added(entry: EntryRef, run_at: At, handlers: u64) {
    note(|n| {
        let p = n.pending(entry);
        p.low = p.low.min(run_at);
        p.handlers |= handlers;
        p.enqueued = true;
    });
}
/// A row of the entry's tenant has changed, and is due at this time now.
pub fn changed_row(entry: EntryRef, run_at: At) {
    note(|n| {
        let p = n.pending(entry);
        p.low = p.low.min(run_at);
        p.handlers = u64::MAX;
    });
}
/// So many more unfinished tasks are in this entry's tenant.
pub fn counted(entry: EntryRef, added: i64) {
    note(|n| n.pending(entry).added += added);
}
/// The gauge of this entry's tenant is wrong by so much.
pub fn corrected(entry: EntryRef, correction: gauge::Correction) {
    note(|n| {
        let p = n.pending(entry);
        p.correction = gauge::Correction::both(p.correction, Some(correction));
    });
}
/// Something that kept rows from running, or schedules from firing, has changed: look at everything, parked rows too.
/// `schedules`: they are looked at under this entry.
pub fn changed(entry: EntryRef, schedules: bool) {
    set_up(entry, schedules);
    note(|n| n.pending(entry).found = true);
}
/// The same of what is, as a rule, set up before there is anything to do: where nothing has ever been, nobody is called.
pub fn set_up(entry: EntryRef, schedules: bool) {
    note(|n| {
        let p = n.pending(entry);
        p.unpark = true;
        p.schedules |= schedules;
    });
}

/// Whether the entry's tenant has had nothing to do since the server's start: it was made after all tenants had been looked
/// at, which leaves those with work in the table, and has not been woken since. Read after the commit: whoever enqueues
/// meanwhile either has woken it by now, or wakes it and then sees what was committed.
fn is_untouched(s: &Shared, e: &entry::Entry) -> bool {
    s.header.evictions.load() == 0
        && e.generation.load() == 0
        && e.counted.load() == 1
        && e.unfinished.load() == 0
        && e.next_due.load() == At::NEVER
        // Each word of a schedule lowers it further.
        && e.schedule_low.load() == ready::BEGINNING
}
pub fn schedule_changed(entry: EntryRef, next_run: At) {
    note(|n| {
        let p = n.pending(entry);
        p.schedule = p.schedule.min(next_run);
    });
}
/// The task of this tenant, if it runs, is to be stopped. Of very many, noted are those that are in an executor's list now, or
/// that a worker has: who picks one later doesn't find its row.
pub fn cancelled(tenant: u32, id: Id, created_at: At) {
    let is_had = |s: Shared| {
        let listed = s.slots.iter().any(|slot| slot.live_items().iter().any(|item| item.id == id));
        listed || s.claim_on(tenant, id, created_at).is_some()
    };
    note(|n| {
        if n.stops.len() < MANY || shared::get().is_some_and(is_had) {
            n.stops.push(Stop { tenant, what: Stopped::Task { id, created_at } });
        }
    });
}
/// No more tasks of this tenant than so many may run: those that have run shortest go back into the queue.
pub fn limited(tenant: u32, max_running: usize) {
    note(|n| n.stops.push(Stop { tenant, what: Stopped::Beyond(max_running) }));
}
/// The task is final: whoever waits for it may look.
pub fn finished(id: Id) {
    note(|n| match n.finished.len() < MANY {
        true => n.finished.push(id),
        false => n.all_waiters = true,
    });
}
/// A member of this group is final.
pub fn finished_group(group: u64) {
    note(|n| match n.groups.len() < MANY {
        true => n.groups.push(group),
        false => n.all_waiters = true,
    });
}
/// A flow has ended: it is counted as attempts are, though it has none.
pub fn flow_ended(tenant: u32, flow: &counters::Counted, outcome: Outcome, started_at: At) {
    let uncommitted = shared::get().and_then(|s| counters::Uncommitted::new(&s, tenant, flow, outcome, started_at));
    note(|n| n.flows.extend(uncommitted));
}
/// A worker has taken a task.
pub fn taken(place: u32, word: ClaimWord) {
    note(|n| n.claims.taken.push((place, word)));
}
/// A worker's task ends with this transaction.
pub fn ending(ending: Ending) {
    note(|n| n.claims.ends.push(ending));
}
/// It is known now what the claim's end comes to.
pub fn ended_as(place: u32, outcome: Outcome) {
    note_of_ending(place, |ending| ending.outcome = Some(outcome));
}
/// There is nothing left of its task that a worker could end.
pub fn is_lost(place: u32) {
    note_of_ending(place, |ending| ending.is_lost = true);
}
fn note_of_ending(place: u32, f: impl FnOnce(&mut Ending)) {
    NOTES.with_borrow_mut(|levels| {
        if let Some(ending) = levels.all_mut().flat_map(|n| n.claims.ends.iter_mut()).find(|ending| ending.place == place) {
            f(ending);
        }
    });
}
/// Whether it ends the claim of this place already.
pub fn is_ending(place: u32) -> bool {
    any(|n| n.claims.ends.iter().any(|ending| ending.place == place))
}
/// This transaction has claimed a task for itself alone.
pub fn drained(drained: Drained) {
    note(|n| n.claims.drained.push(drained));
}
/// That claim is ended.
pub fn end_drained(claim: Id) {
    note(|n| n.claims.drained_over.push(claim));
}
/// What it has claimed for itself alone: all of it, and whether the claim is ended.
pub fn all_drained() -> Vec<(Drained, bool)> {
    NOTES.with_borrow(|levels| {
        let is_over = |claim| levels.all().any(|n| n.claims.drained_over.contains(&claim));
        levels.all().flat_map(|n| &n.claims.drained).map(|drained| (*drained, is_over(drained.claim))).collect()
    })
}
/// An attempt of a worker's has ended: it is counted if that is committed.
pub fn attempt_ended(tenant: u32, task: &counters::Counted, outcome: Outcome, started_at: At) {
    flow_ended(tenant, task, outcome, started_at);
}
/// The extension came or went in this database.
pub fn probe_database() {
    note(|n| n.probe = true);
}
/// The schema is a tenant no more.
pub fn detached(schema: u32) {
    note(|n| n.detached.push(schema));
}
/// Something changed for all tenants of this database.
pub fn sweep_database() {
    note(|n| n.sweep = true);
}
/// There is something to spread over all tenants of this database.
pub fn fan_out() {
    note(|n| n.fan_out = true);
}
/// What is written has no entry: the table is full.
pub fn unplaced() {
    note(|n| n.unplaced = true);
}
/// Somebody was given rights in a tenant: workers look again where they may work.
pub fn granted() {
    note(|n| n.granted = true);
}
/// Databases were made, renamed or dropped.
pub fn databases_changed() {
    note(|n| n.databases = true);
}
/// Workers keep away from a database until the transaction, or the savepoint, is over.
pub fn left(away: away::Away) {
    note(|n| n.left.push(away));
}
/// A prepared transaction is about to be finished.
pub fn finishing(what: prepared::Finishing) {
    note(|n| n.finishing = Some(Box::new(what)));
}
/// That was done: it is committed, or rolled back, whatever becomes of the transaction around it.
pub fn has_finished() {
    note(|n| {
        if let Some(f) = &mut n.finishing {
            f.done = true;
        }
    });
}
/// How many unfinished tasks this transaction has added to the tenant, under whatever roles, not committed yet;
/// with what it knows the gauge to be wrong by.
pub fn counted_here(s: &Shared, tenant: u32) -> i64 {
    let of = |p: &&Pending| s.at(p.entry).is_some_and(|e| e.tenant.load() == tenant);
    let sum = |n: &Notes| n.wakes.iter().filter(of).map(|p| p.added + p.correction.map_or(0, |c| c.by)).sum::<i64>();
    NOTES.with_borrow(|n| n.all().map(sum).sum())
}
/// Whether this transaction has enqueued anything that isn't committed yet.
pub fn any_enqueued() -> bool {
    any(|n| n.wakes.iter().any(|p| p.enqueued))
}

/// Whoever counts rows while this commits can't tell whether the gauge has them yet.
fn before_commit() {
    NOTES.with_borrow_mut(|levels| {
        if levels.is_empty() {
            return;
        }
        // No savepoint is open any more.
        let n = levels.open(release::subtransaction_id());
        if let Some(s) = shared::get() {
            for p in n.wakes.iter_mut().filter(|p| p.added != 0) {
                enter(&s, p);
            }
        }
    });
}

fn before_prepare() -> Result<()> {
    if any(|n| !n.claims.is_empty()) { endings::refuse_to_prepare() } else { Ok(()) }
}

fn enter(s: &Shared, p: &mut Pending) {
    if let Some(e) = s.at(p.entry) {
        e.entered.fetch_add(1);
        p.entered = true;
    }
}

fn unpin(p: &Pending) {
    if p.pinned
        && let Some(e) = shared::get().and_then(|s| s.at(p.entry))
    {
        unpinned(e);
    }
}

fn unpinned(e: &entry::Entry) {
    // Its count may have begun anew, with another tenant.
    let _ = e.pins.fetch_update(|n| n.checked_sub(1));
}

fn released(subtransaction: u32, parent: u32) {
    NOTES.with_borrow_mut(|n| n.released(subtransaction, parent));
}

/// A savepoint is rolled back, and all that was begun since.
fn rolled_back(subtransaction: u32) {
    NOTES.with_borrow_mut(|n| {
        for dropped in n.rolled_back(subtransaction) {
            dropped.claims.take_back();
            forget(dropped);
        }
    });
}

/// What was done at once is undone; the rest was never done.
fn forget(n: Notes) {
    n.wakes.iter().for_each(unpin);
    if let Some(s) = shared::get() {
        for p in n.wakes.iter().filter(|p| p.entered) {
            leave(&s, p);
        }
        n.left.into_iter().for_each(|away| away.over(&s));
    }
}

fn leave(s: &Shared, p: &Pending) {
    if let Some(e) = s.at(p.entry) {
        e.left.fetch_add(1);
    }
}

fn ended(end: End) {
    let Some(mut n) = NOTES.with_borrow_mut(Nested::take) else {
        prepared::forget_gid();
        return;
    };
    let Some(s) = shared::get() else { return };
    if let Some(finishing) = n.finishing.take() {
        finishing.over(&s);
    }
    match end {
        End::Committed => carry_out(&s, &n),
        End::Prepared => prepared::put_aside(&s, &n),
        End::RolledBack => n.claims.take_back(),
    }
    prepared::forget_gid();
    forget(n);
}

/// Has a prepared transaction's notes count as about to be committed.
pub fn enter_all(s: &Shared, n: &mut Notes) {
    n.wakes.iter_mut().filter(|p| p.added != 0).for_each(|p| enter(s, p));
}
/// It is finished, and they are carried out or not.
pub fn leave_all(s: &Shared, n: &Notes) {
    n.wakes.iter().filter(|p| p.entered).for_each(|p| leave(s, p));
}

/// Atomics, latches and signals only: nothing here may fail.
pub fn carry_out(shared: &Shared, notes: &Notes) {
    let database = crate::postgres::shmem::my_database();
    let db = || shared.dbs.iter().find(|d| d.database.load() == database && d.state.load() != database::db_state::FREE);
    let mut sweep = notes.sweep;
    // Before the wakes: whoever they call is to find no claim any more.
    notes.claims.carry_out(shared);
    // Before the wakes: a tenant may be detached and attached again in one transaction.
    if !notes.detached.is_empty() {
        let detached = |entry: &&entry::Entry| notes.detached.contains(&entry.tenant.load()) && entry.database.load() == database;
        for entry in shared.entries.iter().filter(detached) {
            ready::put_to_rest(entry);
            // Whoever attaches it again doesn't know what has become of its rows.
            entry.counted.store(0);
        }
    }
    for pending in &notes.wakes {
        let Some(entry) = shared.at(pending.entry) else {
            // Its place in a full table was given away before it could be noted, or meanwhile.
            sweep = true;
            continue;
        };
        let anew = pending.unpark && (pending.found || !is_untouched(shared, entry));
        if anew {
            // In this order: who blocks it meanwhile looks afterwards whether it was unparked.
            ready::unpark(entry);
            ready::unblock(entry);
            ready::look_from(entry, ready::BEGINNING);
            if pending.schedules && shared.has_external(database, entry.tenant.load()) {
                // What was workers' may be executors' now, or held.
                entry.tidy.fetch_or(entry::tidy::ROWS);
            }
        }
        endings::look_after(shared, pending);
        gauge::add(shared, entry, pending.added, pending.correction);
        let low = if anew { At::LOWEST } else { pending.low };
        if low != At::NEVER {
            ready::wake_at(shared, pending.entry.index, low, if anew { u64::MAX } else { pending.handlers });
        }
        if pending.added < 0 || low != At::NEVER && !pending.enqueued {
            ready::look_at_lag(shared, pending.entry.index);
        }
        let schedule = if anew && pending.schedules { clock::now().min(pending.schedule) } else { pending.schedule };
        if schedule != At::NEVER {
            ready::schedule_due(shared, pending.entry.index, schedule);
        }
    }
    for Stop { tenant, what } in &notes.stops {
        match *what {
            Stopped::Task { id, created_at } => stops::stop_task(shared, *tenant, id, created_at),
            Stopped::Beyond(max) => stops::stop_beyond(shared, *tenant, max),
        }
    }
    waiters::committed(shared, &notes.finished, &notes.groups);
    notes.flows.iter().for_each(counters::Uncommitted::count);
    if notes.all_waiters {
        waiters::call_all(shared);
    }
    if sweep && let Some(db) = db() {
        db.order_sweep();
        shared.call_launcher_now();
    }
    if notes.granted {
        shared.tell_of_grant();
    }
    if notes.unplaced
        && let Some(db) = db()
    {
        shared.seek_at(db, clock::now());
    }
    if notes.fan_out
        && let Some(db) = db()
    {
        db.fanouts.fetch_add(1);
        db.call_scheduler();
        // It may just be leaving, or there is none.
        shared.call_launcher_now();
    }
    if notes.databases {
        shared.header.rescan.store(1);
        shared.call_launcher_now();
    }
    if notes.probe
        && let Some(db) = db()
    {
        db.look_again();
        shared.call_launcher();
    }
}
