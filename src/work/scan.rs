//! One walk over a tenant's due rows, in the order of picking: which of them this executor takes, and what becomes of the rest.
//!
//! It writes nothing: rows that must be parked or put aside are handed back, to be written when the pick is over. What it
//! asks of a row goes from what costs nothing to what uses something up: gates come last, because who passes has used
//! some of a rate up.
//!
//! Cursors, one position per source and priority, keep the cost independent of dead rows. One never passes a live row of
//! its entry; whether it may move forward at all, the pick decides when the walk is over.

use crate::handler::{self, Handler};
use crate::postgres::caught::Failure;
use crate::postgres::relation::{Access, Table};
use crate::postgres::row::{Row, Tid};
use crate::postgres::scan::From;
use crate::postgres::shmem;
use crate::pure::ids::Id;
use crate::pure::time::{At, Span};
use crate::shared::entry::{CURSORS, Entry};
use crate::shared::slot::{GATES, Item};
use crate::shared::{Shared, cooldown, culprits};
use crate::task::options::Options;
use crate::task::place::Place;
use crate::task::{self, lookup};
use crate::tenant::Tenant;
use crate::tenant::columns::Tasks;
use crate::waits::gate::{self, Busy, Pass};
use crate::waits::turn::Source;
use crate::waits::{depend, members};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

/// Rows that one walk looks at before it gives the turn back; where queues take turns each has its share,
/// but not less than the second number.
const EXAMINED: usize = 1000;
const EXAMINED_OF_EACH: usize = 100;

/// A row, and its handler if there is one.
pub type PickedRow = (Row<Tasks>, Option<Rc<Handler>>, Option<At>);

/// What a due row has to wait for.
pub enum Wait {
    Tasks(depend::Answer),
    /// At this gate, behind this task, if one that waits there has stayed in place; else behind what runs.
    Gate(Id, Option<Id>),
    /// For its queue's turn, or no longer: it is in the wrong run of rows.
    Turn,
}

/// What another executor's slot names, as a pick has found it.
#[derive(Clone, Copy)]
pub struct InSlot {
    pub slot: usize,
    pub item: Item,
}

/// Who looks, at what, as of when.
pub struct Look<'a> {
    pub shared: &'a Shared,
    /// Of the own slot.
    pub place: usize,
    pub entry: &'a Entry,
    pub role: u32,
    pub tenant: &'a Rc<Tenant>,
    /// Tasks of the tenant that others' slots name.
    pub in_slots: &'a HashMap<Id, InSlot>,
    pub now: At,
    /// Somebody listens to tasks being enqueued.
    pub asks: bool,
}

/// How far a cursor may move.
pub struct Moved {
    source: u64,
    priority: i16,
    time: At,
    id: Id,
}

impl Moved {
    /// Whether the entry's cursor is there already, or further.
    fn goes_nowhere(&self, entry: &Entry) -> bool {
        cursor_of(entry, self.source, self.priority).is_some_and(|cursor| (cursor.time, cursor.id) >= (self.time, self.id))
    }

    pub fn apply(&self, entry: &Entry) {
        let place = cursor_place(entry, self.source, self.priority).or_else(|| (0..CURSORS).find(|c| entry.cursor_set[*c].load() == 0));
        // With more priorities than places the last place changes hands.
        let place = place.unwrap_or(CURSORS - 1);
        entry.cursor_source[place].store(self.source);
        entry.cursor_priority[place].store(self.priority as i32);
        entry.cursor_time[place].store(self.time);
        entry.cursor_id[place].store(self.id);
        entry.cursor_set[place].store(1);
    }
}

/// A row came to be due at `low`: no cursor may be behind it.
pub fn lower_cursors(entry: &Entry, low: At) {
    if low == At::NEVER {
        return;
    }
    for place in 0..CURSORS {
        if low <= entry.cursor_time[place].load() {
            entry.cursor_time[place].store(low);
            entry.cursor_id[place].store(Id::NIL);
        }
    }
}

fn cursor_place(entry: &Entry, source: u64, priority: i16) -> Option<usize> {
    (0..CURSORS).find(|c| {
        entry.cursor_set[*c].load() == 1 && entry.cursor_source[*c].load() == source && entry.cursor_priority[*c].load() as i16 == priority
    })
}

fn cursor_of(entry: &Entry, source: u64, priority: i16) -> Option<From> {
    let place = cursor_place(entry, source, priority)?;
    let id = entry.cursor_id[place].load();
    Some(From { time: entry.cursor_time[place].load(), id })
}

/// What a walk brings.
pub struct Found {
    pub rows: Vec<PickedRow>,
    /// What each of `rows` has passed.
    pub gates: Vec<[u64; GATES]>,
    /// Where each source's rows end in `rows`.
    pub ends: Vec<usize>,
    /// Rows whose handler can't be called now.
    pub park: Vec<Item>,
    pub wait: Vec<(Row<Tasks>, Wait)>,
    /// When there is something to look for again.
    pub due: At,
    /// Since when the first of the rows that are left could have been taken; UNSET: there is none.
    pub oldest: At,
    pub moved: Vec<Moved>,
    /// All sources were walked to their ends.
    pub exhausted: bool,
    /// A row waits for the end of another one: whoever ends it wakes the tenant.
    pub awaits_end: bool,
    /// Rows that were this role's until its right was taken away: the owner's entry is to look.
    pub homeless: bool,
    /// Roles whose executors ask about a row before it may run, and when the first of these came due.
    pub asking: HashMap<u32, At>,
    /// What slots name though the rows are others by now: their attempts are over, and their slots about to say so.
    pub outlived: Vec<InSlot>,
    /// Rows looked at that nobody can take now, whoever looks.
    untouchable: usize,
}

impl Found {
    fn nothing() -> Found {
        Found {
            rows: Vec::new(),
            gates: Vec::new(),
            ends: Vec::new(),
            park: Vec::new(),
            wait: Vec::new(),
            due: At::NEVER,
            oldest: At::UNSET,
            moved: Vec::new(),
            exhausted: true,
            awaits_end: false,
            homeless: false,
            asking: HashMap::new(),
            outlived: Vec::new(),
            untouchable: 0,
        }
    }

    /// Looking again at once, by whomever, would find the same: `due` says when.
    pub fn is_in_vain(&self, entry: &Entry) -> bool {
        self.rows.is_empty() && self.untouchable > EXAMINED / 2 && self.moved.iter().all(|moved| moved.goes_nowhere(entry))
    }
}

/// What keeps a due row of the entry's role from running, before it comes to its gates.
enum Hindrance {
    /// To be written down as waiting for this.
    Wait(Wait),
    /// To be parked.
    Park,
    /// It stays where it is; what it waits for brings the next look about.
    Stays,
}

pub struct Scan<'a> {
    look: &'a Look<'a>,
    pub found: Found,
    /// Rows of the batch, and how many of them there may be once the present source is walked.
    room: usize,
    share: usize,
    /// Rows looked at, and how many may be while the present source is walked.
    examined: usize,
    may_examine: usize,
    /// The batch, or the source's share of it, is full.
    full: bool,
    /// Enough rows were looked at for one turn.
    cut: bool,
    /// What passes the tenant's gates at present: looked at when the first row has any.
    pub busy: Option<Busy<'a>>,
    /// Rows found at shut gates, and the first one at each whose rate is used up.
    at_gates: usize,
    first_at: HashMap<Id, Id>,
    /// Schedules of which a task is in a slot: found out when it matters.
    busy_schedules: Option<HashSet<String>>,
    last_handler: Option<(String, Option<Rc<Handler>>)>,
    /// When what the present row has waited for was over.
    met: Option<At>,
}

impl<'a> Scan<'a> {
    /// Takes due rows of all sources, `room` at most.
    pub fn walk_all(look: &'a Look<'a>, table: &Table<Tasks>, sources: &[Source], room: usize) -> Result<Scan<'a>, Failure> {
        let mut scan = Scan {
            look,
            found: Found::nothing(),
            room,
            share: 0,
            examined: 0,
            may_examine: 0,
            full: false,
            cut: false,
            busy: None,
            at_gates: 0,
            first_at: HashMap::new(),
            busy_schedules: None,
            last_handler: None,
            met: None,
        };
        scan.found.ends.reserve(sources.len());
        for (nth, source) in sources.iter().enumerate() {
            let have = scan.found.rows.len();
            // What one leaves is the next ones'.
            scan.share = have + scan.room.saturating_sub(have).div_ceil(sources.len() - nth);
            scan.may_examine = scan.examined + (EXAMINED / sources.len()).max(EXAMINED_OF_EACH);
            (scan.full, scan.cut) = (false, false);
            scan.walk(table, source)?;
            scan.found.exhausted &= !scan.full && !scan.cut;
            scan.found.ends.push(scan.found.rows.len());
        }
        Ok(scan)
    }

    /// Takes due rows of one source, and notes where its cursors may move to.
    fn walk(&mut self, table: &Table<Tasks>, source: &Source) -> Result<(), Failure> {
        let (entry, mark) = (self.look.entry, source.mark());
        // Priorities from the top: those with a cursor start there, the gaps between are probed.
        let mut above: Option<i16> = None;
        loop {
            let next_known = (0..CURSORS)
                .filter(|c| entry.cursor_set[*c].load() == 1 && entry.cursor_source[*c].load() == mark)
                .map(|c| entry.cursor_priority[c].load() as i16)
                .filter(|priority| above.is_none_or(|above| *priority < above))
                .max();
            let in_gap = source.first_priority(table, above, next_known);
            let Some(priority) = in_gap.or(next_known) else { return Ok(()) };
            let from = cursor_of(entry, mark, priority);
            let first_live = self.walk_priority(table, source, priority, from)?;
            if self.full || self.cut {
                // Not walked to its end: everything before the first live row is dead all the same.
                self.found.moved.extend(first_live.map(|(time, id)| Moved { source: mark, priority, time, id }));
                return Ok(());
            }
            let (time, id) = first_live.unwrap_or((self.look.now, Id::NIL));
            self.found.moved.push(Moved { source: mark, priority, time, id });
            self.note_next(table, source, priority);
            above = Some(priority);
        }
    }

    /// Takes due rows of one priority; returns the first live row's key.
    fn walk_priority(
        &mut self,
        table: &Table<Tasks>,
        source: &Source,
        priority: i16,
        from: Option<From>,
    ) -> Result<Option<(At, Id)>, Failure> {
        let keys = [source.is_its(), Tasks::PRIORITY.equals(priority), Tasks::RUN_AT.at_most(self.look.now)];
        let mut first_live = None;
        let mut last = None;
        for row in table.scan(source.index(), &keys).from(Tasks::RUN_AT, from.as_ref()) {
            let key = (row.get(Tasks::RUN_AT).unwrap_or_default(), row.get(Tasks::ID).unwrap_or_default());
            if self.has_its_share() {
                self.full = true;
                self.leave(task::due(&row));
                first_live.get_or_insert(key);
                break;
            }
            self.examined += 1;
            if self.examined > self.may_examine {
                self.cut = true;
                self.leave(task::due(&row));
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

    /// When the next row of this priority comes due.
    fn note_next(&mut self, table: &Table<Tasks>, source: &Source, priority: i16) {
        let keys = [source.is_its(), Tasks::PRIORITY.equals(priority), Tasks::RUN_AT.above(self.look.now)];
        let next = table.scan(source.index(), &keys).next();
        self.look_again(next.and_then(|row| row.get(Tasks::RUN_AT)).unwrap_or(At::NEVER));
    }

    fn has_its_share(&self) -> bool {
        self.found.rows.len() >= self.room.min(self.share)
    }

    /// A row that could be taken since `due` is left.
    fn leave(&mut self, due: At) {
        if self.found.oldest == At::UNSET || due < self.found.oldest {
            self.found.oldest = due;
        }
    }

    fn look_again(&mut self, at: At) {
        self.found.due = self.found.due.min(at);
    }

    fn push(&mut self, row: Row<Tasks>, handler: Option<Rc<Handler>>, passed: [u64; GATES]) {
        self.found.rows.push((row, handler, self.met));
        self.found.gates.push(passed);
    }

    /// Whether the row is this entry's, so that its cursor must not pass it.
    fn consider(&mut self, table: &Table<Tasks>, row: Row<Tasks>, key: (At, Id)) -> Result<bool, Failure> {
        let look = self.look;
        let (run_at, id) = key;
        if let Some(other) = look.in_slots.get(&id) {
            if other.item.incarnation() != lookup::item_of(&row).incarnation() {
                self.found.outlived.push(*other);
            }
            return Ok(true);
        }
        // Somebody is changing it: look again in a second.
        let in_flux = row.in_flux.then_some(look.now + Span::of_secs(1));
        if let Some(until) = in_flux.or_else(|| cooldown::until(look.entry, id, look.now)) {
            self.look_again(until);
            self.found.untouchable += 1;
            self.leave(task::due(&row));
            return Ok(true);
        }
        self.met = None;
        let handler = self.handler_of(&row)?;
        let role = handler.as_ref().map_or(look.tenant.owner, |handler| handler.run_as);
        let asked_by = match &handler {
            Some(handler) if look.asks => crate::work::ask::asked_next(look.tenant, &row, handler)?,
            _ => None,
        };
        if role != look.role {
            // Another executor's business; its entry has been woken for it. But for what is asked first: then what
            // keeps the task from running is theirs to look at all the same.
            if asked_by == Some(look.role) && self.would_run(table, &row, handler.as_deref())? {
                self.push(row, handler, [0; GATES]);
                return Ok(true);
            }
            // Nothing tells of a role that was taken from the tenant's owner, who holds those tasks then.
            self.found.homeless |= handler.is_some_and(|handler| matches!(handler.fault, Some(handler::Fault::Role { .. })));
            return Ok(false);
        }
        let expired = depend::is_expired(look.tenant, table, &row, look.now)?;
        match self.hindrance(table, &row, run_at, handler.as_deref(), expired, asked_by)? {
            None => {
                let (due, have) = (task::due(&row), self.found.rows.len());
                self.take(row, handler, expired)?;
                if self.found.rows.len() == have {
                    self.leave(due);
                }
            }
            Some(Hindrance::Wait(wait)) => self.found.wait.push((row, wait)),
            Some(Hindrance::Park) => self.found.park.push(lookup::item_of(&row)),
            Some(Hindrance::Stays) => {}
        }
        Ok(true)
    }

    fn handler_of(&mut self, row: &Row<Tasks>) -> Result<Option<Rc<Handler>>, Failure> {
        let name = row.get(Tasks::HANDLER).unwrap_or("");
        if let Some((last, handler)) = &self.last_handler
            && last == name
        {
            return Ok(handler.clone());
        }
        let handler = handler::find(self.look.tenant, name)?;
        self.last_handler = Some((name.to_string(), handler.clone()));
        Ok(handler)
    }

    fn hindrance(
        &mut self,
        table: &Table<Tasks>,
        row: &Row<Tasks>,
        run_at: At,
        handler: Option<&Handler>,
        expired: bool,
        asked_by: Option<u32>,
    ) -> Result<Option<Hindrance>, Failure> {
        let Look { tenant, now, .. } = *self.look;
        if !Place::of(tenant, row.get(Tasks::QUEUE)).has(row) {
            return Ok(Some(Hindrance::Wait(Wait::Turn)));
        }
        // Nobody is called for one: it ends as soon as what it waits for has.
        let is_flow = handler.is_none() && members::is_flow(row.get(Tasks::HANDLER).unwrap_or(""));
        let callable = is_flow || handler.is_some_and(|handler| handler.fault.is_none() && !handler.quarantined);
        let paused = tenant.part_paused_until(row.get(Tasks::HANDLER).unwrap_or(""), row.get(Tasks::QUEUE), now);
        if !expired && (!callable || paused.is_some() && !is_flow) {
            return Ok(Some(Hindrance::Park));
        }
        if row.has(Tasks::SCHEDULE) && self.overlaps(table, row) {
            self.found.awaits_end = true;
            return Ok(Some(Hindrance::Stays));
        }
        if !expired && row.has(Tasks::WAITS) {
            let results = tenant.open(tenant.result, Access::Read)?;
            match depend::look(table, &results, row) {
                depend::Answer::Ready => self.met = depend::met(&results, row),
                depend::Answer::Never(_) => {}
                depend::Answer::Soon => {
                    self.look_again(now + Span::of_millis(100));
                    self.found.untouchable += 1;
                    return Ok(Some(Hindrance::Stays));
                }
                answer => return Ok(Some(Hindrance::Wait(Wait::Tasks(answer)))),
            }
        }
        if let Some(role) = asked_by.filter(|_| !expired) {
            // Once that is done this entry is woken.
            let first = self.found.asking.entry(role).or_insert(run_at);
            *first = run_at.min(*first);
            self.found.untouchable += 1;
            return Ok(Some(Hindrance::Stays));
        }
        Ok(None)
    }

    /// Takes a row that nothing but its gates may keep from running, if there is room for it.
    fn take(&mut self, row: Row<Tasks>, handler: Option<Rc<Handler>>, expired: bool) -> Result<(), Failure> {
        let Look { shared, place, tenant, now, .. } = *self.look;
        // A procedure gets an executor of its own: nothing else in its batch.
        let procedure = handler.as_ref().is_some_and(|handler| handler.is_procedure());
        if procedure && !self.found.rows.is_empty() {
            self.room = self.found.rows.len();
            self.full = true;
            return Ok(());
        }
        let suspect = culprits::must_be_alone(shared, shmem::my_database(), tenant.oid, row.get(Tasks::HANDLER).unwrap_or(""));
        if suspect && !(self.found.rows.is_empty() && culprits::may_take_alone(shared, place)) {
            // Another one runs, or others are in this batch already: soon.
            self.look_again(now + Span::of_millis(50));
            self.found.untouchable += 1;
            return Ok(());
        }
        // Last of all: who passes has used some of a rate up, and must be taken.
        let gates = if expired || handler.is_none() { vec![] } else { gate::of(tenant, &row, handler.as_deref()) };
        // In a batch of its own: not behind others.
        let timed = gate::is_timed(&gates);
        let mut passed = [0; GATES];
        if !gates.is_empty() {
            if timed && !self.found.rows.is_empty() {
                self.room = self.found.rows.len();
            }
            if self.has_its_share() {
                self.full = true;
                return Ok(());
            }
            let busy = match &mut self.busy {
                Some(busy) => busy,
                none => none.insert(Busy::look(shared, place, tenant.oid)?),
            };
            match busy.pass(&gates, now) {
                Pass::Yes(names) => passed = names,
                Pass::No(gate, until) => {
                    self.wait_at(row, gate, until);
                    return Ok(());
                }
            }
        }
        if suspect && !culprits::take_alone(shared, place) {
            self.look_again(now + Span::of_millis(50));
            return Ok(());
        }
        if suspect || procedure || timed {
            self.room = 1;
        }
        self.push(row, handler, passed);
        Ok(())
    }

    /// Whether nothing but limits keeps a row of another role's from running.
    fn would_run(&self, table: &Table<Tasks>, row: &Row<Tasks>, handler: Option<&Handler>) -> Result<bool, Failure> {
        let Look { tenant, now, .. } = *self.look;
        let callable = handler.is_some_and(|h| h.fault.is_none() && !h.quarantined);
        let paused = tenant.part_paused_until(row.get(Tasks::HANDLER).unwrap_or(""), row.get(Tasks::QUEUE), now).is_some();
        if depend::is_expired(tenant, table, row, now)? || !callable || paused {
            return Ok(false);
        }
        if !row.has(Tasks::WAITS) {
            return Ok(true);
        }
        let results = tenant.open(tenant.result, Access::Read)?;
        Ok(matches!(depend::evaluate(table, &results, row), depend::Answer::Ready))
    }

    /// This row finds its gate shut. The first ones stay where they are; further ones are put aside, so that
    /// picks need not step over them, where something is left whose end lets them in again: a task that
    /// has passed the gate, or, where nothing need run there because only its rate is used up, the first
    /// that has stayed in place.
    fn wait_at(&mut self, row: Row<Tasks>, gate: Id, until: Option<At>) {
        self.at_gates += 1;
        let first = match until {
            None => {
                self.found.awaits_end = true;
                None
            }
            Some(at) => {
                self.look_again(at);
                let id = row.get(Tasks::ID).unwrap_or_default();
                match *self.first_at.entry(gate).or_insert(id) {
                    first if first == id => return,
                    first => Some(first),
                }
            }
        };
        if self.at_gates > gate::IN_PLACE {
            self.found.wait.push((row, Wait::Gate(gate, first)));
        }
    }

    /// Whether another task of its schedule runs (or is in this batch), and they may not overlap.
    fn overlaps(&mut self, table: &Table<Tasks>, row: &Row<Tasks>) -> bool {
        let Some(schedule) = row.text(Tasks::SCHEDULE) else { return false };
        if !Options::of(row).alone {
            return false;
        }
        let in_slots = self.look.in_slots;
        let busy = self.busy_schedules.get_or_insert_with(|| {
            let row_of = |item: &Item| table.fetch(Tid::of_word(item.tid)).filter(|row| row.get(Tasks::ID) == Some(item.id));
            in_slots.values().filter_map(|other| row_of(&other.item)?.text(Tasks::SCHEDULE)).collect()
        });
        busy.contains(&schedule) || self.found.rows.iter().any(|(other, ..)| other.get(Tasks::SCHEDULE) == Some(&schedule))
    }
}
