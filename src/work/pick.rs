//! Picking: a batch of one tenant's due tasks into the own slot.
//!
//! The order is what makes a second start of a live or just finished task impossible: hold the
//! tenant's entry; read its generation; copy what is in the slots; *then* take the snapshot; read
//! rows that are due and in no slot; write them into the own slot; let the entry go. A finisher
//! clears its slot only after its commit: a row that no slot held when they were copied is either
//! gone in the later snapshot or was never started.
//!
//! The cursor, one position per priority, keeps the cost independent of dead rows. It never
//! passes a live row, and it moves forward only if no wake came meanwhile.

use crate::handler::{self, Handler};
use crate::postgres::caught::{Failure, Own};
use crate::postgres::relation::{Access, Table};
use crate::postgres::row::{Row, Tid};
use crate::postgres::scan::From;
use crate::postgres::{clock, shmem, transaction};
use crate::pure::time::{At, Span};
use crate::pure::word::{SlotState, Unpark, Word};
use crate::pure::{interleave, state};
use crate::shared::entry::{CURSORS, Entry};
use crate::shared::slot::{self, GATES, Item};
use crate::shared::{BATCH, Shared, blocked, cooldown, culprits};
use crate::task::lookup;
use crate::task::options::Options;
use crate::task::place::Place;
use crate::tenant::columns::Tasks;
use crate::tenant::{self, Tenant};
use crate::waits::depend;
use crate::waits::gate::{self, Busy, Pass};
use crate::waits::turn::{self, Source};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

/// A row, and its handler if there is one.
pub type PickedRow = (Row<Tasks>, Option<Rc<Handler>>);

/// Rows that one pick looks at before it gives the turn back; where queues take turns each has its share,
/// but not less than the second number.
const EXAMINED: usize = 1000;
const EXAMINED_OF_EACH: usize = 100;
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

/// What a due row has to wait for.
pub enum Wait {
    Tasks(depend::Answer),
    /// At this gate, behind this task, if one that waits there has stayed in place; else behind what runs.
    Gate(u128, Option<u128>),
    /// For its queue's turn, or no longer: it is in the wrong run of rows.
    Turn,
}

pub enum Picked {
    Batch(Batch),
    /// Nothing for now, for this reason (an error, not an empty table).
    Blocked {
        reason: blocked::Reason,
        until: Option<At>,
    },
}

/// Picks for `slot`, which holds entry `index`. At most `limit` rows.
pub fn pick(s: &Shared, me: usize, index: u32, limit: usize) -> Result<Picked, Failure> {
    let e = &s.entries[index as usize];
    let slot = &s.slots[me];
    slot.entry.store(index);
    slot.tenant.store(e.tenant.load());
    let taken = take_over(s, me, index);
    if taken > 0 {
        return transaction::run(|| {
            let tenant = tenant_of(e)?;
            let table = tenant.open(tenant.task, Access::Read)?;
            let rows = (0..taken).map(|n| reread(&tenant, &table, &slot.item(n))).collect::<Result<Vec<_>, Failure>>()?;
            Ok(Picked::Batch(Batch { tenant, rows, park: vec![], wait: vec![], unpark: false, unparks: e.unparks.load() }))
        });
    }

    let generation = e.generation.load();
    let unparks = e.unparks.load();
    let low = e.low_key.swap(At::NEVER);
    lower_cursors(e, low);
    let due_before = e.next_due.swap(At::NEVER);
    // Slots first, snapshot later: see above.
    let mut in_slots = HashMap::new();
    let database = shmem::my_database();
    for (n, other) in s.slots.iter().enumerate() {
        if n != me
            && other.state.load() == SlotState::Working
            && other.tenant.load() == e.tenant.load()
            && other.database.load() == database
        {
            for item in other.live_items() {
                in_slots.insert(item.id, InSlot { slot: n, item });
            }
        }
    }
    // After the slots: who dies with a task notes that first, then leaves its slot.
    let result = if culprits::is_pending(s, database, e.tenant.load()) {
        Ok(Picked::Blocked { reason: blocked::Reason::Unrecorded, until: Some(clock::now() + Span::of_millis(200)) })
    } else {
        let start = LookStart { generation, unparks, in_slots, limit };
        transaction::run(|| look(s, me, index, &start))
    };
    if result.is_err() || matches!(result, Ok(Picked::Blocked { .. })) {
        // What was read off the entry is put back: this look saw nothing.
        e.low_key.fetch_min(At::LOWEST);
        e.next_due.fetch_min(due_before);
        s.mark_due(index);
    }
    result
}

fn lower_cursors(e: &Entry, low: At) {
    if low == At::NEVER {
        return;
    }
    for c in 0..CURSORS {
        if low <= e.cursor_time[c].load() {
            e.cursor_time[c].store(low);
            e.cursor_high[c].store(0);
            e.cursor_low[c].store(0);
        }
    }
}

/// The entry's tenant; NoTenant where there is none (any more), or the extension is gone.
fn tenant_of(e: &Entry) -> Result<Rc<Tenant>, Failure> {
    tenant::by_oid(e.tenant.load()).map_err(|error| Failure { own: Some(Own::NoTenant), ..error.into() })
}

/// What was read off the entry and the slots before the look: in this order, see above.
struct LookStart {
    generation: u64,
    unparks: u64,
    /// Tasks of the tenant that others' slots name.
    in_slots: HashMap<u128, InSlot>,
    /// Rows that are wanted at most.
    limit: usize,
}

fn look(s: &Shared, me: usize, index: u32, start: &LookStart) -> Result<Picked, Failure> {
    let (e, slot) = (&s.entries[index as usize], &s.slots[me]);
    let LookStart { generation, unparks, in_slots, limit } = start;
    let (generation, unparks, limit) = (*generation, *unparks, *limit);
    let now = clock::now();
    let tenant = tenant_of(e)?;
    e.weight.store(tenant.weight);
    if tenant.suspended.is_some() {
        return Ok(Picked::Blocked { reason: blocked::Reason::Suspended, until: Some(At::NEVER) });
    }
    if !tenant.ready {
        return Ok(Picked::Blocked { reason: blocked::Reason::NotReady, until: Some(At::NEVER) });
    }
    if let Some(until) = tenant.paused_until(now) {
        return Ok(Picked::Blocked { reason: blocked::Reason::Paused, until: Some(until) });
    }
    let table = match tenant.try_open(tenant.task, Access::Read) {
        Ok(Some(table)) => table,
        Ok(None) => return Ok(Picked::Blocked { reason: blocked::Reason::Locked, until: None }),
        Err(error) => {
            // Not an error of the engine: said in tq_problems, not in the log.
            let _ = error;
            return Ok(Picked::Blocked { reason: blocked::Reason::Broken, until: None });
        }
    };
    let asks = crate::handler::listeners::preload(&tenant)?;
    let role = e.role.load();
    let mut room = limit.min(BATCH);
    let mut limited = false;
    // What ran when the limits were looked at.
    let mut seen_running = HashSet::new();
    let me = s.slots.iter().position(|x| std::ptr::eq(x, slot)).unwrap_or(0);
    if let Some(max) = tenant.max_running {
        // Two executors may pick here at once, under different roles: from here to the end of the
        // transaction, when the own slot is written, they take turns.
        tenant::lock::gates(tenant.oid)?;
        seen_running.extend(gate::live_items(s, me, tenant.oid).map(|item| item.id));
        let free = (max as usize).saturating_sub(seen_running.len());
        if free < room {
            room = free;
            limited = true;
        }
    }

    let mut scan = Scan {
        s,
        me,
        tenant: &tenant,
        e,
        role,
        in_slots,
        outlived: Vec::new(),
        now,
        room,
        share: 0,
        examined: 0,
        may_examine: 0,
        rows: Vec::new(),
        park: Vec::new(),
        due: At::NEVER,
        wait: Vec::new(),
        gates: Vec::new(),
        busy: None,
        at_gates: 0,
        first_at: HashMap::new(),
        last_handler: None,
        full: false,
        cut: false,
        untouchable: 0,
        oldest: At::UNSET,
        busy_schedules: None,
        awaits_end: false,
        homeless: false,
        asks,
        asking: HashMap::new(),
    };
    let sources = turn::sources(&tenant, e.turn.load());
    let mut moved: Vec<(u64, i16, At, u128)> = Vec::new();
    // Where each source's rows end in the scan's.
    let mut ends = Vec::with_capacity(sources.len());
    let mut exhausted = true;
    for (n, source) in sources.iter().enumerate() {
        let have = scan.rows.len();
        // What one leaves is the next ones'.
        scan.share = have + scan.room.saturating_sub(have).div_ceil(sources.len() - n);
        scan.may_examine = scan.examined + (EXAMINED / sources.len()).max(EXAMINED_OF_EACH);
        (scan.full, scan.cut) = (false, false);
        scan.walk(&table, source, &mut moved)?;
        exhausted &= !scan.full && !scan.cut;
        ends.push(scan.rows.len());
    }
    let stays =
        |(source, priority, t, id): &(u64, i16, At, u128)| cursor_of(e, *source, *priority).is_some_and(|c| (c.time, c.id) >= (*t, *id));
    // Looking again at once, by whomever, would find the same: `due` says when.
    let in_vain = scan.rows.is_empty() && scan.untouchable > EXAMINED / 2 && moved.iter().all(stays);
    if scan.homeless
        && let Some(entry) = tenant.entry(tenant.owner)?
    {
        s.reach(entry, |index| crate::shared::ready::wake(s, index, At::LOWEST));
    }
    let Scan { rows, gates, park, wait, due, oldest, awaits_end, busy, asking, outlived, .. } = scan;
    for (role, at) in &asking {
        if let Some(theirs) = tenant.entry(*role)? {
            s.reach(theirs, |index| crate::shared::ready::wake(s, index, *at));
        }
    }
    seen_running.extend(busy.into_iter().flat_map(|b| b.seen));
    let (rows, gates) = in_turn(&tenant, e, &sources, &ends, rows, gates);
    let limited = limited && !exhausted;
    e.oldest_due.store(if exhausted && rows.is_empty() { At::UNSET } else { oldest });

    for (n, (row, _)) in rows.iter().enumerate() {
        slot.set_item(n, &Item { gates: gates[n], ..lookup::item_of(row) });
    }
    if !rows.is_empty() {
        let word = Word::load(slot);
        slot.word.store(Word { sequence: word.sequence.wrapping_add(1), running: false, next: 0, end: rows.len() }.pack());
    }
    // Only if no wake came since: otherwise a row it announced could be behind the cursor.
    if e.generation.load() == generation {
        for (source, priority, t, id) in moved {
            set_cursor(e, source, priority, t, id);
        }
        // At its limit the tenant isn't ready either: the end of one of its tasks wakes it.
        if (exhausted || limited || in_vain) && park.is_empty() && wait.is_empty() {
            e.seen.store(generation);
        }
    } else {
        e.low_key.fetch_min(At::LOWEST);
    }
    if limited || awaits_end {
        e.limited.store(1);
        // Whoever ended between the copy and the mark has not seen the mark.
        let still: HashSet<u128> = s
            .slots
            .iter()
            .filter(|o| !std::ptr::eq(*o, slot) && o.tenant.load() == tenant.oid && o.database.load() == shmem::my_database())
            .flat_map(|o| o.live_items())
            .map(|item| item.id)
            .collect();
        if in_slots.keys().chain(&seen_running).any(|id| !still.contains(id)) {
            e.generation.fetch_add(1);
            s.mark_dirty(index);
        }
    }
    for InSlot { slot: place, item } in outlived {
        s.header.passed_by.fetch_or(1 << place);
        // Who had left the slot before that bit was there has not seen it.
        if !s.slots[place].live_items().iter().any(|live| live.is_same(&item)) {
            e.generation.fetch_add(1);
            s.mark_dirty(index);
        }
    }
    crate::shared::ready::unblock(e);
    let mut due = due;
    let unpark_at = e.unpark_at.load();
    if unpark_at > At::UNSET {
        if unpark_at <= now {
            e.unpark.store(Unpark::Asked);
            // Unless somebody has just asked for another look.
            let _ = e.unpark_at.compare_exchange(unpark_at, At::UNSET);
        } else {
            due = due.min(unpark_at);
        }
    }
    let unpark = crate::work::park::take_unpark(s, me, index);
    if due != At::NEVER {
        crate::shared::ready::due(s, index, due);
    }
    let rows = rows.into_iter().map(Some).collect();
    Ok(Picked::Batch(Batch { tenant: tenant.clone(), rows, park, wait, unpark, unparks }))
}

/// What a slot names, as a pick has found it.
#[derive(Clone, Copy)]
struct InSlot {
    slot: usize,
    item: Item,
}

impl Item {
    /// Whether it is this very incarnation of the task.
    fn is_same(&self, other: &Item) -> bool {
        self.incarnation() == other.incarnation()
    }
    fn is_of(&self, row: &Row<Tasks>) -> bool {
        self.is_same(&lookup::item_of(row))
    }
}

/// What the sources gave, one of each in turn; notes who was served last.
fn in_turn<R>(
    tenant: &Tenant,
    e: &Entry,
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
        e.turn.store(last.mark());
    }
    merged.into_iter().map(|(_, row)| row).unzip()
}

fn cursor_place(e: &Entry, source: u64, priority: i16) -> Option<usize> {
    (0..CURSORS)
        .find(|c| e.cursor_set[*c].load() == 1 && e.cursor_source[*c].load() == source && e.cursor_priority[*c].load() as i16 == priority)
}
fn cursor_of(e: &Entry, source: u64, priority: i16) -> Option<From> {
    let c = cursor_place(e, source, priority)?;
    let id = ((e.cursor_high[c].load() as u128) << 64) | e.cursor_low[c].load() as u128;
    Some(From { time: e.cursor_time[c].load(), id })
}
fn set_cursor(e: &Entry, source: u64, priority: i16, time: At, id: u128) {
    let place = cursor_place(e, source, priority).or_else(|| (0..CURSORS).find(|c| e.cursor_set[*c].load() == 0));
    // With more priorities than places the last place changes hands.
    let c = place.unwrap_or(CURSORS - 1);
    e.cursor_source[c].store(source);
    e.cursor_priority[c].store(priority as i32);
    e.cursor_time[c].store(time);
    e.cursor_high[c].store((id >> 64) as u64);
    e.cursor_low[c].store(id as u64);
    e.cursor_set[c].store(1);
}

struct Scan<'a> {
    s: &'a Shared,
    me: usize,
    tenant: &'a Rc<Tenant>,
    e: &'a Entry,
    role: u32,
    in_slots: &'a HashMap<u128, InSlot>,
    /// Those among them whose rows are others by now: their attempts are over, and their slots about to say so.
    outlived: Vec<InSlot>,
    /// Schedules of which a task is in a slot: found out when it matters.
    busy_schedules: Option<HashSet<String>>,
    /// A row waits for the end of another one: whoever ends it wakes the tenant.
    awaits_end: bool,
    /// Rows that were this role's until its right was taken away: the owner's entry is to look.
    homeless: bool,
    /// Somebody listens to tasks being enqueued.
    asks: bool,
    /// Roles whose executors ask about a row before it may run, and when the first of these came due.
    asking: HashMap<u32, At>,
    now: At,
    /// Rows of the batch, and how many of them there may be once the present source is walked.
    room: usize,
    share: usize,
    /// Rows looked at, and how many may be while the present source is walked.
    examined: usize,
    may_examine: usize,
    rows: Vec<(Row<Tasks>, Option<Rc<Handler>>)>,
    /// What each of `rows` has passed.
    gates: Vec<[u64; GATES]>,
    /// What passes the tenant's gates at present: looked at when the first row has any.
    busy: Option<Busy<'a>>,
    /// Rows found at shut gates, and the first one at each whose rate is used up.
    at_gates: usize,
    first_at: HashMap<u128, u128>,
    park: Vec<Item>,
    wait: Vec<(Row<Tasks>, Wait)>,
    due: At,
    last_handler: Option<(String, Option<Rc<Handler>>)>,
    /// The batch, or the source's share of it, is full.
    full: bool,
    /// Enough rows were looked at for one turn.
    cut: bool,
    /// Rows looked at that nobody can take now, whoever looks.
    untouchable: usize,
    oldest: At,
}

impl Scan<'_> {
    /// Takes due rows of one source, and notes where its cursors move to.
    fn walk(&mut self, table: &Table<Tasks>, source: &Source, moved: &mut Vec<(u64, i16, At, u128)>) -> Result<(), Failure> {
        let mark = source.mark();
        // Priorities from the top: those with a cursor start there, the gaps between are probed.
        let mut above: Option<i16> = None;
        loop {
            let next_known = (0..CURSORS)
                .filter(|c| self.e.cursor_set[*c].load() == 1 && self.e.cursor_source[*c].load() == mark)
                .map(|c| self.e.cursor_priority[c].load() as i16)
                .filter(|p| above.is_none_or(|a| *p < a))
                .max();
            let in_gap = source.first_priority(table, above, next_known);
            let Some(priority) = in_gap.or(next_known) else { return Ok(()) };
            let from = cursor_of(self.e, mark, priority);
            let first_live = self.priority(table, source, priority, from)?;
            if self.full || self.cut {
                // Not walked to its end: everything before the first live row is dead all the same.
                moved.extend(first_live.map(|(t, id)| (mark, priority, t, id)));
                return Ok(());
            }
            let (t, id) = first_live.unwrap_or((self.now, 0));
            moved.push((mark, priority, t, id));
            self.future(table, source, priority);
            above = Some(priority);
        }
    }

    /// Takes due rows of one priority; returns the first live row's key.
    fn priority(
        &mut self,
        table: &Table<Tasks>,
        source: &Source,
        priority: i16,
        from: Option<From>,
    ) -> Result<Option<(At, u128)>, Failure> {
        let keys = [source.is_its(), Tasks::PRIORITY.equals(priority), Tasks::RUN_AT.at_most(self.now)];
        let mut first_live = None;
        let mut last = None;
        for row in table.scan(source.index(), &keys).from(Tasks::RUN_AT, from.as_ref()) {
            let key = (row.get(Tasks::RUN_AT).unwrap_or_default(), row.get(Tasks::ID).unwrap_or(0));
            if self.rows.len() >= self.room.min(self.share) {
                self.full = true;
                first_live.get_or_insert(key);
                break;
            }
            self.examined += 1;
            if self.examined > self.may_examine {
                self.cut = true;
                break;
            }
            last = Some(key);
            if self.consider(table, row, key)? {
                first_live.get_or_insert(key);
            }
        }
        // Nothing but other roles' rows: they are no concern of this entry's cursor.
        Ok(first_live.or(if self.cut { last } else { None }))
    }

    /// Whether the row is this entry's, so that its cursor must not pass it.
    fn consider(&mut self, table: &Table<Tasks>, row: Row<Tasks>, key: (At, u128)) -> Result<bool, Failure> {
        if let Some(other) = self.in_slots.get(&key.1) {
            if !other.item.is_of(&row) {
                self.outlived.push(*other);
            }
            return Ok(true);
        }
        if self.oldest == At::UNSET || key.0 < self.oldest {
            self.oldest = key.0;
        }
        if row.in_flux {
            // Somebody is changing it: look again in a second.
            self.due = self.due.min(self.now + Span::of_secs(1));
            self.untouchable += 1;
            return Ok(true);
        }
        if let Some(until) = cooldown::until(self.e, key.1, self.now) {
            self.due = self.due.min(until);
            self.untouchable += 1;
            return Ok(true);
        }
        let name = row.get(Tasks::HANDLER).unwrap_or("");
        let handler = match &self.last_handler {
            Some((last, handler)) if last == name => handler.clone(),
            _ => {
                let handler = handler::find(self.tenant, name)?;
                self.last_handler = Some((name.to_string(), handler.clone()));
                handler
            }
        };
        let role = handler.as_ref().map_or(self.tenant.owner, |h| h.run_as);
        let asked_by = match &handler {
            Some(handler) if self.asks => crate::work::ask::asked_next(self.tenant, &row, handler)?,
            _ => None,
        };
        if role != self.role {
            // Another executor's business; its entry has been woken for it. But for what is asked first: then what
            // keeps the task from running is theirs to look at all the same.
            if asked_by == Some(self.role) && self.would_run(table, &row, handler.as_deref())? {
                self.rows.push((row, handler));
                self.gates.push([0; GATES]);
                return Ok(true);
            }
            // Nothing tells of a role that was taken from the tenant's owner, who holds those tasks then.
            self.homeless |= handler.is_some_and(|h| matches!(h.fault, Some(handler::Fault::Role { .. })));
            return Ok(false);
        }
        if !Place::of(self.tenant, row.get(Tasks::QUEUE)).has(&row) {
            self.wait.push((row, Wait::Turn));
            return Ok(true);
        }
        let expired = row.get(Tasks::EXPIRES_AT).is_some_and(|t| t <= self.now);
        let callable = handler.as_ref().is_some_and(|h| h.fault.is_none() && !h.quarantined);
        let paused = self.tenant.part_paused_until(name, row.get(Tasks::QUEUE), self.now);
        if !expired && (!callable || paused.is_some()) {
            self.park.push(lookup::item_of(&row));
            return Ok(true);
        }
        if row.has(Tasks::SCHEDULE) && self.overlaps(table, &row) {
            self.awaits_end = true;
            return Ok(true);
        }
        if !expired && row.has(Tasks::WAITS) {
            let results = self.tenant.open(self.tenant.result, Access::Read)?;
            match depend::evaluate(table, &results, &row) {
                depend::Answer::Ready | depend::Answer::Never(_) => {}
                depend::Answer::Soon => {
                    self.due = self.due.min(self.now + Span::of_millis(100));
                    self.untouchable += 1;
                    return Ok(true);
                }
                answer => {
                    self.wait.push((row, Wait::Tasks(answer)));
                    return Ok(true);
                }
            }
        }
        if let Some(role) = asked_by.filter(|_| !expired) {
            // Once that is done this entry is woken.
            let first = self.asking.entry(role).or_insert(key.0);
            *first = key.0.min(*first);
            self.untouchable += 1;
            return Ok(true);
        }
        // A procedure gets an executor of its own: nothing else in its batch.
        let procedure = handler.as_ref().is_some_and(|h| h.is_procedure());
        if procedure && !self.rows.is_empty() {
            self.room = self.rows.len();
            self.full = true;
            return Ok(true);
        }
        let suspect = culprits::must_be_alone(self.s, shmem::my_database(), self.tenant.oid, name);
        if suspect && !(self.rows.is_empty() && culprits::may_take_alone(self.s, self.me)) {
            // Another one runs, or others are in this batch already: soon.
            self.due = self.due.min(self.now + Span::of_millis(50));
            self.untouchable += 1;
            return Ok(true);
        }
        // Last of all: who passes has used some of a rate up, and must be taken.
        let gates = if expired { vec![] } else { gate::of(self.tenant, &row, handler.as_deref()) };
        let mut passed = [0; GATES];
        if !gates.is_empty() {
            if self.rows.len() >= self.room.min(self.share) {
                self.full = true;
                return Ok(true);
            }
            let busy = match &mut self.busy {
                Some(busy) => busy,
                none => none.insert(Busy::look(self.s, self.me, self.tenant.oid)?),
            };
            match busy.pass(&gates, self.now) {
                Pass::Yes(names) => passed = names,
                Pass::No(gate, until) => {
                    self.wait_at(row, gate, until);
                    return Ok(true);
                }
            }
        }
        if suspect && !culprits::take_alone(self.s, self.me) {
            self.due = self.due.min(self.now + Span::of_millis(50));
            return Ok(true);
        }
        if suspect || procedure {
            self.room = 1;
        }
        self.rows.push((row, handler));
        self.gates.push(passed);
        Ok(true)
    }

    /// Whether nothing but limits keeps a row of another role's from running.
    fn would_run(&self, table: &Table<Tasks>, row: &Row<Tasks>, handler: Option<&Handler>) -> Result<bool, Failure> {
        let name = row.get(Tasks::HANDLER).unwrap_or("");
        let callable = handler.is_some_and(|h| h.fault.is_none() && !h.quarantined);
        let paused = self.tenant.part_paused_until(name, row.get(Tasks::QUEUE), self.now).is_some();
        if row.get(Tasks::EXPIRES_AT).is_some_and(|t| t <= self.now) || !callable || paused {
            return Ok(false);
        }
        if !row.has(Tasks::WAITS) {
            return Ok(true);
        }
        let results = self.tenant.open(self.tenant.result, Access::Read)?;
        Ok(matches!(depend::evaluate(table, &results, row), depend::Answer::Ready))
    }

    /// This row finds its gate shut. The first ones stay where they are; further ones are put aside, so that
    /// picks need not step over them, where something is left whose end lets them in again: a task that
    /// has passed the gate, or, where nothing need run there because only its rate is used up, the first
    /// that has stayed in place.
    fn wait_at(&mut self, row: Row<Tasks>, gate: u128, until: Option<At>) {
        self.at_gates += 1;
        let first = match until {
            None => {
                self.awaits_end = true;
                None
            }
            Some(at) => {
                self.due = self.due.min(at);
                let id = row.get(Tasks::ID).unwrap_or(0);
                match *self.first_at.entry(gate).or_insert(id) {
                    first if first == id => return,
                    first => Some(first),
                }
            }
        };
        if self.at_gates > gate::IN_PLACE {
            self.wait.push((row, Wait::Gate(gate, first)));
        }
    }

    /// Whether another task of its schedule runs (or is in this batch), and they may not overlap.
    fn overlaps(&mut self, table: &Table<Tasks>, row: &Row<Tasks>) -> bool {
        let Some(schedule) = row.text(Tasks::SCHEDULE) else { return false };
        if !Options::of(row).alone {
            return false;
        }
        let in_slots = self.in_slots;
        let busy = self.busy_schedules.get_or_insert_with(|| {
            let rows =
                in_slots.values().filter_map(|i| table.fetch(Tid::of_word(i.item.tid)).filter(|r| r.get(Tasks::ID) == Some(i.item.id)));
            rows.filter_map(|r| r.text(Tasks::SCHEDULE)).collect()
        });
        busy.contains(&schedule) || self.rows.iter().any(|(r, _)| r.get(Tasks::SCHEDULE) == Some(&schedule))
    }

    /// When the next row of this priority comes due.
    fn future(&mut self, table: &Table<Tasks>, source: &Source, priority: i16) {
        let keys = [source.is_its(), Tasks::PRIORITY.equals(priority), Tasks::RUN_AT.above(self.now)];
        let next = table.scan(source.index(), &keys).next();
        self.due = self.due.min(next.and_then(|row| row.get(Tasks::RUN_AT)).unwrap_or(At::NEVER));
    }
}

/// Takes the unstarted rest of a list over whose executor is stuck with one task.
fn take_over(s: &Shared, me: usize, index: u32) -> usize {
    for (n, victim) in s.slots.iter().enumerate() {
        if n == me || !slot::is_stuck(victim) || victim.entry.load() != index {
            continue;
        }
        let slot = &s.slots[me];
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
    let row =
        table.fetch(Tid::of_word(item.tid)).filter(|r| r.get(Tasks::ID) == Some(item.id)).or_else(|| table.find(Tasks::ID.equals(item.id)));
    let Some(row) = row.filter(|r| {
        r.get(Tasks::CREATED_AT) == Some(item.created_at)
            && r.get(Tasks::ATTEMPTS) == Some(item.attempts)
            && state::is_runnable(r.char(Tasks::STATE))
    }) else {
        return Ok(None);
    };
    let handler = handler::find(tenant, row.get(Tasks::HANDLER).unwrap_or(""))?;
    Ok(Some((row, handler)))
}
