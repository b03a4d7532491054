//! After commit: tell whoever has to know.
//!
//! What a transaction enqueued, changed or cancelled is noted here as it goes along, and carried
//! out when its locks and invalidations are out. A rollback does nothing; a wake too many, of a
//! rolled-back savepoint, costs one look. What costs more, a stop or a detached tenant, is forgotten with
//! its savepoint. PREPARE TRANSACTION does nothing either: the sweep finds what COMMIT PREPARED commits.

use crate::postgres::clock::{self, Micros, NEVER};
use crate::postgres::{release, worker};
use crate::shared::{EntryRef, Shared, Word};
use crate::{ready, shared};
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::Ordering::*;

struct Pending {
    entry: EntryRef,
    /// Least run_at enqueued; NEVER = none that may be due.
    low: Micros,
    /// Rows were added.
    added: i64,
    unpark: bool,
    /// There may be rows that no commit has announced.
    found: bool,
    /// What has changed may have kept schedules from firing, which are looked at under this entry.
    schedules: bool,
    schedule: Micros,
}

/// Running tasks that are to stop.
struct Stop {
    tenant: u32,
    what: Stopped,
    subtransaction: u32,
}

enum Stopped {
    /// This one, cancelled.
    Task { id: u128, stamp: Micros },
    /// Whatever runs beyond so many; it goes back into the queue.
    Beyond(usize),
}

#[derive(Default)]
struct Notes {
    wakes: Vec<Pending>,
    places: HashMap<EntryRef, usize>,
    stops: Vec<Stop>,
    /// The database is to be looked into again: does it have the extension?
    probe: bool,
    /// Databases came or went.
    databases: bool,
    /// All its tenants are to be looked at.
    sweep: bool,
    /// Something is to be spread over all tenants.
    fan_out: bool,
    /// Something was written for which there was no entry.
    unplaced: bool,
    /// Schemas that are tenants no more, with the subtransaction that noted it.
    detached: Vec<(u32, u32)>,
    finished: Vec<u128>,
    /// Marks of groups of which a member is final.
    groups: Vec<u64>,
}

thread_local! {
    static NOTES: RefCell<Notes> = RefCell::default();
}

fn note(f: impl FnOnce(&mut Notes)) {
    release::on_transaction_end(ended, rolled_back);
    NOTES.with_borrow_mut(f);
}

fn pending(notes: &mut Notes, entry: EntryRef) -> &mut Pending {
    // Most transactions touch one tenant: the last one noted is the one that is meant.
    let last = notes.wakes.len().checked_sub(1).filter(|n| notes.wakes[*n].entry == entry);
    let at = last.or_else(|| notes.places.get(&entry).copied()).unwrap_or_else(|| {
        if let Some(s) = shared::get()
            && let Some(e) = s.at(entry)
        {
            e.pins.fetch_add(1, SeqCst);
        }
        notes.places.insert(entry, notes.wakes.len());
        notes.wakes.push(Pending { entry, low: NEVER, added: 0, unpark: false, found: false, schedules: false, schedule: NEVER });
        notes.wakes.len() - 1
    });
    &mut notes.wakes[at]
}

/// A row with this run_at was added to the entry's tenant (or changed there).
pub fn enqueued(entry: EntryRef, run_at: Micros, added: i64) {
    note(|n| {
        let p = pending(n, entry);
        p.low = p.low.min(run_at);
        p.added += added;
    });
}
/// Something that kept rows from running, or schedules from firing, has changed: look at everything, parked rows too.
/// `schedules`: they are looked at under this entry.
pub fn changed(entry: EntryRef, schedules: bool) {
    set_up(entry, schedules);
    note(|n| pending(n, entry).found = true);
}
/// The same of what is, as a rule, set up before there is anything to do: where nothing has ever been, nobody is called.
pub fn set_up(entry: EntryRef, schedules: bool) {
    note(|n| {
        let p = pending(n, entry);
        p.unpark = true;
        p.schedules |= schedules;
    });
}

/// Whether the entry's tenant has had nothing to do since the server's start: it was made after all tenants had been looked
/// at, which leaves those with work in the table, and has not been woken since. Read after the commit: whoever enqueues
/// meanwhile either has woken it by now, or wakes it and then sees what was committed.
fn is_untouched(s: &Shared, e: &shared::Entry) -> bool {
    s.header.evictions.load(SeqCst) == 0
        && e.generation.load(SeqCst) == 0
        && e.unfinished.load(SeqCst) == 0
        && e.next_due.load(SeqCst) == NEVER
        // Each word of a schedule lowers it further.
        && e.schedule_low.load(SeqCst) == ready::LOWEST
}
pub fn schedule_changed(entry: EntryRef, next_run: Micros) {
    note(|n| {
        let p = pending(n, entry);
        p.schedule = p.schedule.min(next_run);
    });
}
/// The task of this tenant, if it runs, is to be stopped.
pub fn cancelled(tenant: u32, id: u128, stamp: Micros) {
    stop(tenant, Stopped::Task { id, stamp });
}
/// No more tasks of this tenant than so many may run: those that have run shortest go back into the queue.
pub fn limited(tenant: u32, max_running: usize) {
    stop(tenant, Stopped::Beyond(max_running));
}
fn stop(tenant: u32, what: Stopped) {
    note(|n| n.stops.push(Stop { tenant, what, subtransaction: release::subtransaction_id() }));
}
/// The task is final: whoever waits for it may look.
pub fn finished(id: u128) {
    note(|n| n.finished.push(id));
}
/// A member of this group is final.
pub fn finished_group(group: u64) {
    note(|n| n.groups.push(group));
}
/// The extension came or went in this database.
pub fn probe_database() {
    note(|n| n.probe = true);
}
/// The schema is a tenant no more.
pub fn detached(schema: u32) {
    note(|n| n.detached.push((schema, release::subtransaction_id())));
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
/// How many tasks this transaction has enqueued in the tenant, under whatever roles, not committed yet.
pub fn enqueued_here(s: &Shared, tenant: u32) -> i64 {
    let of = |p: &&Pending| s.at(p.entry).is_some_and(|e| e.tenant.load(Relaxed) == tenant);
    NOTES.with_borrow(|n| n.wakes.iter().filter(of).map(|p| p.added).sum())
}
/// Databases were made, renamed or dropped.
pub fn databases_changed() {
    note(|n| n.databases = true);
}
/// Whether this transaction has enqueued anything in the entry's tenant that isn't committed yet.
pub fn any_enqueued() -> bool {
    NOTES.with_borrow(|n| n.wakes.iter().any(|p| p.added > 0))
}

/// A savepoint is rolled back, and all that was begun since.
fn rolled_back(subtransaction: u32) {
    NOTES.with_borrow_mut(|n| {
        n.stops.retain(|stop| stop.subtransaction < subtransaction);
        n.detached.retain(|(_, noted_in)| *noted_in < subtransaction);
    });
}

/// Atomics, latches and signals only: nothing here may fail.
fn ended(committed: bool) {
    NOTES.with_borrow_mut(|n| {
        if n.wakes.is_empty()
            && n.stops.is_empty()
            && !n.probe
            && !n.databases
            && !n.sweep
            && !n.fan_out
            && !n.unplaced
            && n.detached.is_empty()
            && n.finished.is_empty()
            && n.groups.is_empty()
        {
            return;
        }
        if let Some(s) = shared::get() {
            // Before the wakes: a tenant may be detached and attached again in one transaction.
            let detached = |e: &shared::Entry| {
                n.detached.iter().any(|(schema, _)| *schema == e.tenant.load(Relaxed))
                    && e.database.load(Relaxed) == crate::postgres::shmem::my_database()
            };
            if committed && !n.detached.is_empty() {
                s.entries.iter().filter(|e| detached(e)).for_each(ready::put_to_rest);
            }
            for p in &n.wakes {
                let Some(e) = s.at(p.entry) else {
                    // Its place in a full table was given away before it could be noted.
                    n.sweep |= committed;
                    continue;
                };
                if committed {
                    let anew = p.unpark && (p.found || !is_untouched(&s, e));
                    if anew {
                        // In this order: who blocks it meanwhile looks afterwards whether it was unparked.
                        ready::unpark(e);
                        ready::unblock(e);
                        ready::look_from(e, ready::LOWEST);
                    }
                    count(&s, e, p.added);
                    let low = if anew { i64::MIN } else { p.low };
                    if low != NEVER {
                        ready::wake_at(&s, p.entry.index, low);
                    }
                    let schedule = if anew && p.schedules { clock::now().min(p.schedule) } else { p.schedule };
                    if schedule != NEVER {
                        ready::schedule_due(&s, p.entry.index, schedule);
                    }
                }
                e.pins.fetch_sub(1, SeqCst);
            }
            if committed {
                for Stop { tenant, what, .. } in &n.stops {
                    match *what {
                        Stopped::Task { id, stamp } => stop_task(&s, *tenant, id, stamp),
                        Stopped::Beyond(max) => stop_beyond(&s, *tenant, max),
                    }
                }
                for id in &n.finished {
                    announce(&s, *id);
                }
                for group in &n.groups {
                    announce_group(&s, *group);
                }
                if n.sweep
                    && let Some(db) = s.db(crate::postgres::shmem::my_database())
                {
                    db.order_sweep();
                    s.call_launcher_now();
                }
                if n.unplaced
                    && let Some(db) = s.db(crate::postgres::shmem::my_database())
                {
                    s.seek_at(db, clock::now());
                }
                if n.fan_out
                    && let Some(db) = s.db(crate::postgres::shmem::my_database())
                {
                    db.fanouts.fetch_add(1, SeqCst);
                    db.call_scheduler();
                    // It may just be leaving, or there is none.
                    s.call_launcher_now();
                }
                if n.databases {
                    s.header.rescan.store(1, SeqCst);
                    s.call_launcher_now();
                }
                if n.probe
                    && let Some(db) = s.dbs.iter().find(|d| d.database.load(Relaxed) == crate::postgres::shmem::my_database())
                {
                    db.look_again();
                    s.call_launcher();
                }
            }
        }
        *n = Notes::default();
    });
}

/// Entries of this tenant (of this database), one for each role that its tasks run as.
pub fn entries_of(s: &Shared, tenant: u32) -> impl Iterator<Item = (usize, &'static shared::Entry)> {
    let database = crate::postgres::shmem::my_database();
    s.entries
        .iter()
        .enumerate()
        .filter(move |(_, e)| e.in_use.load(Relaxed) == 1 && e.tenant.load(Relaxed) == tenant && e.database.load(Relaxed) == database)
}

/// The gauge of unfinished tasks: `added` more in this entry. Never below nothing, which would mean "not counted yet".
pub fn count(s: &Shared, e: &shared::Entry, added: i64) {
    let add = |e: &shared::Entry| e.unfinished.fetch_update(Relaxed, Relaxed, |n| (n >= 0 && n + added >= 0).then_some(n + added)).is_ok();
    // A first count puts all of a tenant's tasks into one of its entries.
    if added != 0 && !add(e) && added < 0 && e.unfinished.load(Relaxed) >= 0 {
        let _ = entries_of(s, e.tenant.load(Relaxed)).any(|(_, e)| add(e));
    }
}

/// Stops this incarnation of a task if it runs.
fn stop_task(s: &Shared, tenant: u32, id: u128, stamp: Micros) {
    for slot in s.slots {
        let word = Word::load(slot);
        if slot.runs(&word, tenant, id, stamp) {
            return interrupt(s, slot, word, id, stamp, shared::stop::CANCELLED);
        }
    }
}

/// Stops tasks of this tenant beyond the first `max`: whoever has begun last has least to lose.
fn stop_beyond(s: &Shared, tenant: u32, max: usize) {
    let database = crate::postgres::shmem::my_database();
    let mut running = [(0, 0); shared::SLOTS];
    let mut n = 0;
    for (place, slot) in s.slots.iter().enumerate() {
        if slot.state.load(SeqCst) == 2
            && slot.database.load(Relaxed) == database
            && slot.tenant.load(SeqCst) == tenant
            && Word::load(slot).running
        {
            running[n] = (slot.started_at.load(Relaxed), place);
            n += 1;
        }
    }
    running[..n].sort_unstable();
    for (_, place) in running[..n].iter().skip(max) {
        let slot = &s.slots[*place];
        let word = Word::load(slot);
        if word.running && slot.tenant.load(SeqCst) == tenant {
            let item = slot.item(word.next - 1);
            interrupt(s, slot, word, item.id, item.stamp, shared::stop::ROOM);
        }
    }
}

/// Sets the cancel word of a slot and interrupts what it runs.
fn interrupt(s: &Shared, slot: &shared::Slot, word: Word, id: u128, stamp: Micros, reason: u32) {
    slot.cancel_high.store((id >> 64) as u64, Relaxed);
    slot.cancel_low.store(id as u64, Relaxed);
    slot.cancel_stamp.store(stamp, Relaxed);
    slot.cancel_at.store(crate::postgres::clock::monotonic_ns(), Relaxed);
    slot.cancel_signals.store(1, Relaxed);
    slot.cancel_reason.store(reason, SeqCst);
    if Word::load(slot) == word {
        worker::signal(slot.pid.load(SeqCst), libc::SIGINT);
        // The launcher repeats it, and terminates in the end.
        s.call_launcher();
    }
}

/// Wakes whoever waits for this task.
pub fn announce(s: &Shared, id: u128) {
    if s.header.waiters.load(SeqCst) == 0 {
        return;
    }
    let (high, low) = ((id >> 64) as u64, id as u64);
    for w in s.waiting() {
        let proc = w.proc.load(SeqCst);
        if proc > 0 && w.id_high.load(SeqCst) == high && w.id_low.load(SeqCst) == low {
            crate::postgres::latch::wake(proc - 1);
        }
    }
}

/// Wakes whoever waits for members of this group.
pub fn announce_group(s: &Shared, group: u64) {
    if s.header.waiters.load(SeqCst) == 0 {
        return;
    }
    for w in s.waiting() {
        let proc = w.proc.load(SeqCst);
        if proc > 0 && w.group.load(SeqCst) == group {
            crate::postgres::latch::wake(proc - 1);
        }
    }
}

/// The same after an asynchronous commit of this process: durable first, if somebody waits.
pub fn announce_committed(s: &Shared, id: u128) {
    if s.header.waiters.load(SeqCst) > 0 {
        crate::postgres::transaction::flush_commits();
        announce(s, id);
    }
}
