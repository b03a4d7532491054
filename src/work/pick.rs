//! Picking: a batch of one tenant's due tasks into the own slot.
//!
//! The order is what makes a second start of a live or just finished task impossible: hold the
//! tenant's entry; read its generation; copy what is in the slots; *then* take the snapshot; read
//! rows that are due and in no slot; write them into the own slot; let the entry go. A finisher
//! clears its slot only after its commit: a row that no slot held when they were copied is either
//! gone in the later snapshot or was never started.
//!
//! Which rows are taken is scan.rs's; here is the order. Cursors move forward only if no wake came meanwhile.

use crate::handler;
use crate::postgres::caught::{Failure, Own};
use crate::postgres::relation::{Access, Table};
use crate::postgres::row::Row;
use crate::postgres::{clock, shmem, transaction};
use crate::pure::ids::Id;
use crate::pure::interleave;
use crate::pure::state::Stored;
use crate::pure::time::{At, Span};
use crate::pure::word::{SlotState, Unpark, Word};
use crate::shared::entry::{Entry, tidy};
use crate::shared::slot::{self, GATES, Item, Slot};
use crate::shared::{BATCH, Shared, blocked, culprits, ready};
use crate::task::{self, lookup};
use crate::tenant::columns::Tasks;
use crate::tenant::{self, Tenant};
use crate::waits::gate;
use crate::waits::turn::{self, Source};
use crate::work::cursors::lower_cursors;
use crate::work::look::{Found, InSlot, Look, PickedRow, Purpose, Wait};
use crate::work::park;
use crate::work::scan::Scan;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

/// What a pick brought.
pub struct Batch {
    pub tenant: Rc<Tenant>,
    /// In the slot's order. None: the row was gone when a taken-over list was read.
    pub rows: Vec<Option<PickedRow>>,
    /// Rows whose handler can't be called now, to be parked.
    pub park: Vec<Item>,
    /// Rows that wait for other tasks, or too many of them at a busy gate: to be written as such.
    pub wait: Vec<(Row<Tasks>, Wait)>,
    /// Held rows should be looked at again.
    pub unpark: bool,
    /// `Entry::unparks` before the look.
    pub unparks: u64,
}

pub enum Picked {
    Batch(Batch),
    /// Nothing for now, for this reason (an error, not an empty table).
    Blocked {
        reason: blocked::Reason,
        until: Option<At>,
    },
}

/// Picks for the slot at `place`, which holds entry `index`. At most `limit` rows.
pub fn pick(shared: &Shared, place: usize, index: u32, limit: usize) -> Result<Picked, Failure> {
    let entry = &shared.entries[index as usize];
    let slot = &shared.slots[place];
    slot.entry.store(index);
    slot.tenant.store(entry.tenant.load());
    let taken = take_over(shared, place, index);
    if taken > 0 {
        return transaction::run(|| {
            let tenant = tenant_of(entry)?;
            let table = tenant.open(tenant.task, Access::Read)?;
            let rows = (0..taken).map(|nth| reread(&tenant, &table, &slot.item(nth))).collect::<Result<Vec<_>, Failure>>()?;
            Ok(Picked::Batch(Batch { tenant, rows, park: vec![], wait: vec![], unpark: false, unparks: entry.unparks.load() }))
        });
    }

    let generation = entry.generation.load();
    let unparks = entry.unparks.load();
    let low = entry.low_key.swap(At::NEVER);
    lower_cursors(shared, index, low);
    let due_before = entry.next_due.swap(At::NEVER);
    // Slots first, snapshot later: see above.
    let in_slots = in_slots(shared, place, entry.tenant.load());
    let database = shmem::my_database();
    // After the slots: who dies with a task notes that first, then leaves its slot.
    let result = if culprits::is_pending(shared, database, entry.tenant.load()) {
        Ok(Picked::Blocked { reason: blocked::Reason::Unrecorded, until: Some(clock::now() + Span::of_millis(200)) })
    } else {
        let start = LookStart { generation, unparks, in_slots, limit };
        transaction::run(|| look(shared, place, index, &start))
    };
    if result.is_err() || matches!(result, Ok(Picked::Blocked { .. })) {
        // What was read off the entry is put back: this look saw nothing.
        entry.low_key.fetch_min(At::LOWEST);
        entry.next_due.fetch_min(due_before);
        shared.mark_due(index);
    }
    result
}

/// Tasks of the tenant that others' slots or workers' claims name.
pub(super) fn in_slots(shared: &Shared, me: usize, tenant: u32) -> HashMap<Id, InSlot> {
    let mut found = HashMap::new();
    let database = shmem::my_database();
    for (place, other) in shared.slots.iter().enumerate() {
        if place != me && other.state.load() == SlotState::Working && other.tenant.load() == tenant && other.database.load() == database {
            for item in other.live_items() {
                found.insert(item.id, InSlot { slot: Some(place), item });
            }
        }
    }
    for claim in shared.claims_of(tenant) {
        let item = claim.item();
        found.insert(item.id, InSlot { slot: None, item });
    }
    found
}

/// The entry's tenant; NoTenant where there is none (any more), or the extension is gone.
pub(super) fn tenant_of(entry: &Entry) -> Result<Rc<Tenant>, Failure> {
    tenant::by_oid(entry.tenant.load()).map_err(|error| Failure { own: Some(Own::NoTenant), ..error.into() })
}

/// What was read off the entry and the slots before the look: in this order, see above.
struct LookStart {
    generation: u64,
    unparks: u64,
    /// Tasks of the tenant that others' slots name.
    in_slots: HashMap<Id, InSlot>,
    /// Rows that are wanted at most.
    limit: usize,
}

/// Why nothing of the tenant is to be picked.
pub(super) fn keeps_off(shared: &Shared, tenant: &Tenant, now: At) -> Option<Picked> {
    let blocked = |reason, until| Some(Picked::Blocked { reason, until: Some(until) });
    if tenant.suspended.is_some() {
        return blocked(blocked::Reason::Suspended, At::NEVER);
    }
    if !tenant.ready {
        return blocked(blocked::Reason::NotReady, At::NEVER);
    }
    if holds_too_much(shared, tenant) {
        // Whichever of them ends wakes the tenant.
        return Some(Picked::Blocked { reason: blocked::Reason::Unstoppable, until: None });
    }
    blocked(blocked::Reason::Paused, tenant.paused_until(now)?)
}

/// Executors that a tenant's tasks may hold without end before no more of it is started: one may be an accident.
const UNSTOPPABLE: u32 = 2;

fn holds_too_much(shared: &Shared, tenant: &Tenant) -> bool {
    if shared.header.lost.load() < UNSTOPPABLE {
        return false;
    }
    let its = |slot: &&Slot| slot.tenant.load() == tenant.oid && slot.database.load() == shmem::my_database() && slot::is_lost(slot);
    shared.slots.iter().filter(its).count() >= UNSTOPPABLE as usize
}

fn look(shared: &Shared, place: usize, index: u32, start: &LookStart) -> Result<Picked, Failure> {
    let entry = &shared.entries[index as usize];
    let now = clock::now();
    let tenant = tenant_of(entry)?;
    entry.weight.store(tenant.weight);
    if let Some(blocked) = keeps_off(shared, &tenant, now) {
        note_left(entry, start.generation, first_due(&tenant, now)?, now);
        return Ok(blocked);
    }
    let table = match tenant.try_open(tenant.task, Access::Read) {
        Ok(Some(table)) => table,
        Ok(None) => return Ok(Picked::Blocked { reason: blocked::Reason::Locked, until: None }),
        // Not an error of the engine: said in tq_problems, not in the log.
        Err(_) => return Ok(Picked::Blocked { reason: blocked::Reason::Broken, until: None }),
    };
    let asks = handler::listeners::preload(&tenant)?;
    let mut room = start.limit.min(BATCH);
    let mut limited = false;
    // What ran when the limits were looked at.
    let mut seen_running = HashSet::new();
    if let Some(max) = tenant.max_running {
        // Two executors may pick here at once, under different roles: from here to the end of the
        // transaction, when the own slot is written, they take turns.
        tenant::lock::gates(tenant.oid)?;
        seen_running.extend(gate::live_items(shared, place, tenant.oid).map(|item| item.id));
        let free = (max as usize).saturating_sub(seen_running.len());
        if free < room {
            room = free;
            limited = true;
        }
    }

    let look = Look {
        purpose: Purpose::Run,
        shared,
        place,
        entry,
        role: entry.role.load(),
        tenant: &tenant,
        in_slots: &start.in_slots,
        now,
        asks,
    };
    let sources = turn::sources(&tenant, entry.turn.load());
    let Scan { found, busy, .. } = Scan::walk_all(&look, &table, &sources, room)?;
    let in_vain = found.is_in_vain(entry);
    call_others(shared, &tenant, &found)?;
    seen_running.extend(busy.into_iter().flat_map(|busy| busy.seen));
    let Found { rows, gates, ends, park, wait, mut due, oldest, moved, exhausted, awaits_end, outlived, .. } = found;
    let (rows, gates) = in_turn(&tenant, entry, &sources, &ends, rows, gates);
    let limited = limited && !exhausted;
    // What stays behind though all was walked waits for something else than for an executor.
    note_left(entry, start.generation, if exhausted { At::UNSET } else { oldest }, now);

    write_slot(shared, place, &rows, &gates);
    // Only if no wake came since: otherwise a row it announced could be behind the cursor.
    if entry.generation.load() == start.generation {
        for moved in moved {
            moved.apply(entry);
        }
        // At its limit the tenant isn't ready either: the end of one of its tasks wakes it.
        if (exhausted || limited || in_vain) && park.is_empty() && wait.is_empty() {
            entry.seen.store(start.generation);
        }
    } else {
        entry.low_key.fetch_min(At::LOWEST);
    }
    if limited || awaits_end {
        entry.limited.store(1);
        // Whoever ended between the copy and the mark has not seen the mark.
        let still: HashSet<Id> = gate::live_items(shared, place, tenant.oid).map(|item| item.id).collect();
        if start.in_slots.keys().chain(&seen_running).any(|id| !still.contains(id)) {
            entry.generation.fetch_add(1);
            shared.mark_dirty(index);
        }
    }
    look_again_behind(shared, index, &tenant, outlived);
    ready::unblock(entry);
    due = due.min(next_unpark(entry, now)).min(next_tidy(entry, now));
    let unpark = park::take_unpark(shared, place, index);
    if due != At::NEVER {
        ready::due(shared, index, due);
    }
    let rows = rows.into_iter().map(Some).collect();
    Ok(Picked::Batch(Batch { tenant, rows, park, wait, unpark, unparks: start.unparks }))
}

/// Rows were passed by because somebody names a former life of theirs: when that is over they are looked at.
pub(super) fn look_again_behind(shared: &Shared, index: u32, tenant: &Tenant, outlived: Vec<InSlot>) {
    for InSlot { slot, item } in outlived {
        let is_named = match slot {
            Some(slot) => {
                shared.header.passed_by.fetch_or(1 << slot);
                shared.slots[slot].live_items().iter().any(|live| live.incarnation() == item.incarnation())
            }
            None => {
                shared.header.claims_passed_by.store(1);
                shared.claims_of(tenant.oid).any(|claim| claim.item().incarnation() == item.incarnation())
            }
        };
        // Who had left before the mark was there has not seen it.
        if !is_named {
            shared.entries[index as usize].generation.fetch_add(1);
            shared.mark_dirty(index);
        }
    }
}

/// Since when the first of the rows has waited that this look has left; UNSET: none has. What came meanwhile has waited since now.
pub(super) fn note_left(entry: &Entry, generation: u64, oldest: At, now: At) {
    entry.oldest_due.store(oldest);
    if entry.generation.load() != generation {
        ready::waits_since(entry, now);
    }
}

/// Priorities of a tenant that is left alone which are looked at for what has waited longest there.
const PRIORITIES: usize = 100;

/// Since when the first of the tenant's rows could have run; UNSET: none is due, or somebody holds the table.
pub(super) fn first_due(tenant: &Tenant, now: At) -> Result<At, Failure> {
    let Ok(Some(table)) = tenant.try_open(tenant.task, Access::Read) else { return Ok(At::UNSET) };
    let table = table.fetch_at_most(0);
    let mut first: Option<At> = None;
    for state in Stored::RUNNABLE {
        let mut below: Option<i16> = None;
        for _ in 0..PRIORITIES {
            let mut keys = vec![Tasks::STATE.equals(state)];
            keys.extend(below.map(|below| Tasks::PRIORITY.below(below)));
            let Some(row) = table.scan(&Tasks::PICK, &keys).next() else { break };
            if row.get(Tasks::RUN_AT).is_some_and(|at| at <= now) {
                let due = task::due(&row);
                first = Some(first.map_or(due, |first| first.min(due)));
            }
            below = Some(row.get(Tasks::PRIORITY).unwrap_or(0));
        }
    }
    Ok(first.unwrap_or(At::UNSET))
}

/// Wakes entries of other roles whose business some of the rows are.
pub(super) fn call_others(shared: &Shared, tenant: &Tenant, found: &Found) -> Result<(), Failure> {
    if found.homeless
        && let Some(entry) = tenant.entry(tenant.owner)?
    {
        shared.reach(entry, |index| ready::wake(shared, index, At::LOWEST));
    }
    for (role, at) in &found.asking {
        if let Some(theirs) = tenant.entry(*role)? {
            shared.reach(theirs, |index| ready::wake(shared, index, *at));
        }
    }
    Ok(())
}

fn write_slot(shared: &Shared, place: usize, rows: &[PickedRow], gates: &[[u64; GATES]]) {
    let slot = &shared.slots[place];
    for (n, (row, ..)) in rows.iter().enumerate() {
        slot.set_item(n, &Item { gates: gates[n], ..lookup::item_of(row) });
    }
    if !rows.is_empty() {
        let word = Word::load(slot);
        slot.word.store(Word { sequence: word.sequence.wrapping_add(1), running: false, next: 0, end: rows.len() }.pack());
    }
}

/// When held rows are to be looked at; if it is time for that, asks for it.
pub(super) fn next_unpark(entry: &Entry, now: At) -> At {
    let at = entry.unpark_at.load();
    if at <= At::UNSET {
        return At::NEVER;
    }
    if at > now {
        return at;
    }
    entry.unpark.store(Unpark::Asked);
    // Unless somebody has just asked for another look.
    let _ = entry.unpark_at.compare_exchange(at, At::UNSET);
    At::NEVER
}

/// When workers' tasks are to be looked after because some may have expired; if it is time for that, asks for it.
fn next_tidy(entry: &Entry, now: At) -> At {
    let at = entry.tidy_at.load();
    if at > now {
        return at;
    }
    entry.tidy.fetch_or(tidy::ROWS);
    // Unless somebody has just noted another one.
    let _ = entry.tidy_at.compare_exchange(at, At::NEVER);
    At::NEVER
}

/// What the sources gave, one of each in turn; notes who was served last.
pub(super) fn in_turn<R>(
    tenant: &Tenant,
    entry: &Entry,
    sources: &[Source],
    ends: &[usize],
    rows: Vec<R>,
    gates: Vec<[u64; GATES]>,
) -> (Vec<R>, Vec<[u64; GATES]>) {
    if sources.len() == 1 {
        return (rows, gates);
    }
    let mut all = rows.into_iter().zip(gates);
    let mut begin = 0;
    let mut groups = Vec::with_capacity(ends.len());
    for (source, end) in sources.iter().zip(ends) {
        groups.push(all.by_ref().take(end - begin).map(|row| (source, row)).collect::<Vec<_>>());
        begin = *end;
    }
    let merged = interleave::interleave(groups);
    if let Some((last, _)) = merged.iter().rev().find(|(source, _)| turn::moves_on(tenant, source)) {
        entry.turn.store(last.mark());
    }
    merged.into_iter().map(|(_, row)| row).unzip()
}

/// Takes the unstarted rest of a list over whose executor is stuck with one task.
fn take_over(shared: &Shared, place: usize, index: u32) -> usize {
    for (n, victim) in shared.slots.iter().enumerate() {
        if n == place || !slot::is_stuck(victim) || victim.entry.load() != index {
            continue;
        }
        let slot = &shared.slots[place];
        let word = Word::load(victim);
        let rest = word.next..word.end;
        let count = rest.len();
        if count == 0 {
            continue;
        }
        for (to, from) in rest.enumerate() {
            slot.set_item(to, &victim.item(from));
        }
        // In both for a moment, so that nobody else can pick them in between.
        let mine = Word::load(slot);
        slot.word.store(Word { sequence: mine.sequence.wrapping_add(1), running: false, next: 0, end: count }.pack());
        if word.replace(victim, Word { end: word.next, ..word }) {
            return count;
        }
        let mine = Word::load(slot);
        slot.word.store(Word { sequence: mine.sequence.wrapping_add(1), running: false, next: 0, end: 0 }.pack());
    }
    0
}

/// The row of a picked item, wherever it is now; None if it is gone or another incarnation.
fn reread(tenant: &Rc<Tenant>, table: &Table<Tasks>, item: &Item) -> Result<Option<PickedRow>, Failure> {
    let Some(row) = lookup::find(table, item).filter(|row| row.letter(Tasks::STATE).is_runnable()) else { return Ok(None) };
    let handler = handler::find(tenant, row.get(Tasks::HANDLER).unwrap_or(""))?;
    Ok(Some((row, handler, None)))
}
