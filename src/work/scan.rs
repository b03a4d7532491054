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
use crate::pure::state::Stored;
use crate::pure::time::{At, Span};
use crate::shared::entry::CURSORS;

use crate::shared::role::EXTERNAL;
use crate::shared::slot::{GATES, Item};
use crate::shared::{cooldown, culprits};
use crate::task::options::Options;
use crate::task::place::{self, Place};
use crate::task::{self, lookup};
use crate::tenant::columns::Tasks;
use crate::waits::gate::{self, Busy, Pass};
use crate::waits::turn::Source;
use crate::waits::{depend, members};
use crate::work::cursors::{Moved, cursor_of};
use crate::work::given;
use crate::work::look::{Company, Found, Look, Purpose, Wait};
use crate::work::runs::Walk;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

/// Rows that one walk looks at before it gives the turn back; where queues take turns each has its share,
/// but not less than the second number.
const EXAMINED: usize = 1000;
const EXAMINED_OF_EACH: usize = 100;

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
    pub(super) look: &'a Look<'a>,
    pub found: Found,
    /// Rows of the batch, and how many of them there may be once the present source is walked.
    room: usize,
    share: usize,
    /// Rows looked at, and how many may be while the present source is walked.
    examined: usize,
    may_examine: usize,
    /// How many more may be passed by that other workers are to do.
    may_pass: usize,
    /// The batch, or the source's share of it, is full.
    pub(super) full: bool,
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
    /// What the present row waits for will never be.
    never: bool,
}

impl<'a> Scan<'a> {
    fn new(look: &'a Look<'a>, room: usize) -> Scan<'a> {
        Scan {
            look,
            found: Found::nothing(),
            room,
            share: 0,
            examined: 0,
            may_examine: 0,
            may_pass: usize::MAX,
            full: false,
            cut: false,
            busy: None,
            at_gates: 0,
            first_at: HashMap::new(),
            busy_schedules: None,
            last_handler: None,
            met: None,
            never: false,
        }
    }

    /// Takes due rows of all sources, `room` at most.
    pub fn walk_all(look: &'a Look<'a>, table: &Table<Tasks>, sources: &[Source], room: usize) -> Result<Scan<'a>, Failure> {
        let mut scan = Scan::new(look, room);
        scan.each_source(sources.iter(), |scan, source| scan.walk(table, source))?;
        Ok(scan)
    }

    /// Takes due rows of workers' tasks, whoever offers to do them; so many that are others' are passed by at most, or `found`
    /// is told to be crowded.
    pub fn walk_workers(look: &'a Look<'a>, table: &Table<Tasks>, room: usize, others: usize) -> Result<Scan<'a>, Failure> {
        let mut scan = Scan::new(look, room);
        scan.may_pass = others;
        scan.each_source([Source::External].iter(), |scan, source| scan.walk(table, source))?;
        Ok(scan)
    }

    /// Takes due rows of workers' tasks: each source is some runs of rows that share one order.
    pub fn walk_runs(look: &'a Look<'a>, table: &Table<Tasks>, groups: &mut [Vec<Walk>], room: usize) -> Result<Scan<'a>, Failure> {
        let mut scan = Scan::new(look, room);
        scan.go_along(table, groups)?;
        Ok(scan)
    }

    /// The same by a walk that has found nothing so far.
    pub fn go_along(&mut self, table: &Table<Tasks>, groups: &mut [Vec<Walk>]) -> Result<(), Failure> {
        self.may_pass = usize::MAX;
        self.found.exhausted = true;
        self.found.ends.clear();
        self.each_source(groups.iter_mut(), |scan, walks| scan.merge(table, walks))
    }

    fn each_source<S>(
        &mut self,
        sources: impl ExactSizeIterator<Item = S>,
        mut walk: impl FnMut(&mut Scan<'a>, S) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let count = sources.len();
        self.found.ends.reserve(count);
        for (nth, source) in sources.enumerate() {
            let have = self.found.rows.len();
            // What one leaves is the next ones'.
            self.share = have + self.room.saturating_sub(have).div_ceil(count - nth);
            self.may_examine = self.examined + (EXAMINED / count).max(EXAMINED_OF_EACH);
            (self.full, self.cut) = (false, false);
            walk(self, source)?;
            self.found.exhausted &= !self.full && !self.cut;
            self.found.ends.push(self.found.rows.len());
        }
        Ok(())
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
            if self.is_enough(&row) {
                if self.full {
                    first_live.get_or_insert(key);
                }
                break;
            }
            last = Some(key);
            if self.consider(table, row, key)? {
                first_live.get_or_insert(key);
            }
            if self.cut {
                break;
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

    /// Whether the walk ends before this row, because the batch or the source's share of it is full, or enough was looked at.
    pub(super) fn is_enough(&mut self, row: &Row<Tasks>) -> bool {
        if self.has_its_share() {
            self.full = true;
        } else if !row.get(Tasks::ID).is_some_and(|id| self.look.in_slots.contains_key(&id)) {
            // Those that somebody has are few, and passed by at once.
            self.examined += 1;
            self.cut = self.examined > self.may_examine;
        }
        if self.full || self.cut {
            self.leave(task::due(row));
        }
        self.full || self.cut
    }

    pub(super) fn is_over(&self) -> bool {
        self.full || self.cut
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

    pub(super) fn look_again(&mut self, at: At) {
        self.found.due = self.found.due.min(at);
    }

    fn look_soon(&mut self, at: At) {
        self.look_again(at);
        self.found.again = self.found.again.min(at);
        self.found.untouchable += 1;
    }

    fn push(&mut self, row: Row<Tasks>, handler: Option<Rc<Handler>>, passed: [u64; GATES]) {
        self.found.rows.push((row, handler, self.met));
        self.found.gates.push(passed);
    }

    /// Whether the row is this entry's, so that its cursor must not pass it.
    pub(super) fn consider(&mut self, table: &Table<Tasks>, row: Row<Tasks>, key: (At, Id)) -> Result<bool, Failure> {
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
            self.look_soon(until);
            self.leave(task::due(&row));
            return Ok(true);
        }
        (self.met, self.never) = (None, false);
        let handler = self.handler_of(&row)?;
        if let Purpose::Take(offers) = look.purpose
            && let Some(handler) = handler.as_ref().filter(|handler| handler.is_external())
            && !offers.has(handler, row.get(Tasks::QUEUE))
        {
            self.pass_by(task::due(&row));
            return Ok(true);
        }
        let state = row.letter(Tasks::STATE);
        let role = place::role(look.tenant, state, handler.as_deref());
        let asked_by = match &handler {
            Some(handler) if look.asks || handler.is_external() && state != Stored::External => {
                crate::work::ask::asked_next(look.tenant, &row, handler)?
            }
            _ => None,
        };
        if role != look.role {
            if look.role == EXTERNAL {
                // Its handler's code runs in the server now, or there is none: it belongs among the others.
                self.found.wait.push((row, Wait::Turn));
                return Ok(true);
            }
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
        // An executor's part of a worker's task.
        if asked_by == Some(look.role)
            && handler.as_ref().is_some_and(|handler| handler.is_external())
            && self.would_run(table, &row, handler.as_deref())?
        {
            self.push(row, handler, [0; GATES]);
            return Ok(true);
        }
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

    /// It is other workers' business.
    fn pass_by(&mut self, due: At) {
        self.found.foreign.get_or_insert(due);
        match self.may_pass.checked_sub(1) {
            Some(left) => self.may_pass = left,
            None => (self.cut, self.found.crowded) = (true, true),
        }
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
        if !Place::of_row(tenant, row, row.get(Tasks::QUEUE), handler)?.has(row) {
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
                depend::Answer::Never(_) => self.never = true,
                depend::Answer::Soon => {
                    self.look_soon(now + Span::of_millis(100));
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
        let Look { shared, place, tenant, now, purpose, .. } = *self.look;
        let over = match purpose {
            Purpose::Run => false,
            // Raw rows can say anything: what doesn't fit is handed to nobody.
            _ => expired || self.never || handler.as_ref().is_some_and(|handler| given::check(tenant, handler, &row).is_err()),
        };
        match purpose {
            // Nobody takes what has ended: it waits for an executor.
            Purpose::Take(_) if over => {
                self.found.doomed = true;
                // That one starts where we have, not behind it.
                self.leave(task::due(&row));
                return Ok(());
            }
            Purpose::Tidy if over => {
                self.push(row, handler, [0; GATES]);
                return Ok(());
            }
            Purpose::Tidy => {
                if row.get(Tasks::EXPIRES_AT).is_some_and(|at| at <= now) {
                    // It counts from when what it has waited for was over.
                    self.look_soon(now + Span::of_secs(1));
                }
                return self.look_at_its_gates(row, handler.as_deref()).map(|_| ());
            }
            Purpose::Run | Purpose::Take(_) => {}
        }
        let alone = match self.company(&row) {
            Company::Any => false,
            Company::Alone => true,
            Company::Others(lone) => {
                // It stays where it is, unless it isn't to be had anyway.
                let due = task::due(&row);
                if !self.look_at_its_gates(row, handler.as_deref())? {
                    self.pass_by(due);
                    self.found.passed.push(lone);
                }
                return Ok(());
            }
        };
        // A procedure gets an executor of its own: nothing else in its batch.
        let procedure = handler.as_ref().is_some_and(|handler| handler.is_procedure());
        if procedure && !self.found.rows.is_empty() {
            self.room = self.found.rows.len();
            self.full = true;
            return Ok(());
        }
        // What runs in no process of the server's can't crash it.
        let suspect = handler.as_ref().is_none_or(|handler| !handler.is_external())
            && culprits::must_be_alone(shared, shmem::my_database(), tenant.oid, row.get(Tasks::HANDLER).unwrap_or(""));
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
        if suspect || procedure || timed || alone {
            self.room = 1;
        }
        self.push(row, handler, passed);
        Ok(())
    }

    fn company(&self, row: &Row<Tasks>) -> Company {
        let (id, created_at) = (row.get(Tasks::ID).unwrap_or_default(), row.get(Tasks::CREATED_AT).unwrap_or_default());
        match self.look.purpose {
            Purpose::Take(offers) => offers.company(id, created_at, self.found.rows.len()),
            Purpose::Run | Purpose::Tidy => Company::Any,
        }
    }

    /// A row that is for workers: whether its gates keep it, and then whether it is to be put aside.
    fn look_at_its_gates(&mut self, row: Row<Tasks>, handler: Option<&Handler>) -> Result<bool, Failure> {
        let Look { shared, place, tenant, now, .. } = *self.look;
        let gates = gate::of(tenant, &row, handler);
        if gates.is_empty() {
            return Ok(false);
        }
        let busy = match &mut self.busy {
            Some(busy) => busy,
            none => none.insert(Busy::look(shared, place, tenant.oid)?),
        };
        let shut = busy.shut(&gates, now);
        if let Some((gate, until)) = shut {
            self.wait_at(row, gate, until);
        }
        Ok(shut.is_some())
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
