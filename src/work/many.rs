//! Many tasks at once, by what they are: those that a filter matches are cancelled, changed, run again or deleted, each as if
//! somebody had asked for it alone, all in one transaction.
//!
//! What matches is what one snapshot says, taken at the beginning and walked row by row, so that any number of rows takes no
//! more memory than a few. Each task is then looked up as it is by now. A flow that matches goes as a whole, and its members
//! with it, however the walk comes upon them; of one that doesn't match those members go that do, in one go, so that it is
//! counted down once. What is only tried asks the same questions of the same rows, and answers the same.
//!
//! A row that another transaction is at, as a rule because its task is just ending, is not waited for: whoever is at it may
//! wait for one that was done here before. Those come last; of one that nobody has let go of by then it is said that there is
//! more.

use crate::postgres::error::{Error, Result};
use crate::postgres::memory::Scratch;
use crate::postgres::relation::{Access, Table, Write};
use crate::postgres::row::Row;
use crate::postgres::{clock, latch, transaction};
use crate::pure::ids::Id;
use crate::pure::state::Ended;
use crate::pure::time::{At, Span};
use crate::task::current;
use crate::task::new::NewTask;
use crate::task::options::Options;
use crate::tenant::Tenant;
use crate::tenant::columns::{Results, Tasks};
use crate::waits::members::{self, Visited};
use crate::waits::{astray, results, unique, why};
use crate::work::again::Again;
use crate::work::cancel::Cancel;
use crate::work::change::Change;
use crate::work::filter::{Filter, Known};
use crate::work::remove;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;
use std::time::Duration;

/// Flows that are remembered.
const FLOWS: usize = 1000;
/// Ids that are told.
const SAMPLE: usize = 10;
/// So many tasks that somebody is at are remembered, to be looked at again at the end.
const HELD: usize = 10_000;
/// How long that takes at most, and between two looks.
const PATIENCE: Span = Span::of_secs(1);
const STEP: Duration = Duration::from_millis(5);

/// What has come of it.
#[derive(Default)]
pub struct Found {
    pub tasks: i64,
    /// There are others: beyond as many as were asked for, or somebody was at them.
    pub more: bool,
    /// The first of them.
    pub sample: Vec<Id>,
}

impl Found {
    fn add(&mut self, ids: &[Id]) {
        self.tasks += ids.len() as i64;
        let room = SAMPLE - self.sample.len();
        self.sample.extend(ids.iter().take(room));
    }
}

/// The tasks of one tenant that something is to be done to.
pub struct Many {
    tenant: Rc<Tenant>,
    filter: Filter,
    /// So many at most.
    most: usize,
    /// It is only told what would be done.
    dry_run: bool,
    /// As the walk reads them: what is stored out of line is not fetched.
    tasks: Table<Tasks>,
    results: Table<Results>,
    now: At,
}

/// What has come of one row.
enum Step {
    /// It was done to these.
    Done(Vec<Id>),
    /// To these, and others that are bound to them were left: another transaction is at them.
    Part(Vec<Id>),
    /// Another transaction is at it.
    Held,
}

/// What is done to each.
trait Deed<R: Known> {
    /// The task's row as it is by now; None: it has gone.
    fn now(&self, id: Id) -> Option<Row<R>>;
    /// The tasks that go with this row, which matches: itself at least, unless it is to stay.
    fn units(&self, row: &Row<R>) -> Result<Vec<Id>>;
    /// Does it, to as many as there is room for where they aren't bound together; to which.
    fn act(&self, row: &Row<R>, room: usize) -> Result<Step>;
}

impl Many {
    pub fn open(tenant: Rc<Tenant>, filter: Filter, max_tasks: Option<usize>, dry_run: bool) -> Result<Many> {
        let tasks = tenant.open(tenant.task, Access::Write)?.fetch_at_most(0);
        let results = tenant.open(tenant.result, Access::Write)?.fetch_at_most(0);
        Ok(Many { tenant, filter, most: max_tasks.unwrap_or(usize::MAX), dry_run, tasks, results, now: clock::now() })
    }

    pub fn cancel(&self) -> Result<Found> {
        self.unfinished(&Cancelling { many: self, cancel: Cancel::open(self.tenant.clone(), true)?.without_waiting() })
    }
    /// `to` has been checked.
    pub fn change(&self, to: NewTask) -> Result<Found> {
        self.unfinished(&Changing { many: self, change: Change::open(self.tenant.clone(), to)? })
    }
    pub fn requeue(&self) -> Result<Found> {
        let again = Again::open(self.tenant.clone(), None, None, true)?.leaving_taken_keys();
        self.finished(&Requeuing { many: self, again, keys: RefCell::default(), hasher: RandomState::new(), whole: RefCell::default() })
    }
    pub fn delete(&self) -> Result<Found> {
        self.finished(&Deleting { many: self })
    }

    fn unfinished(&self, deed: &impl Deed<Tasks>) -> Result<Found> {
        transaction::with_latest_snapshot(|| self.each(self.filter.unfinished(&self.tasks), deed))
    }
    fn finished(&self, deed: &impl Deed<Results>) -> Result<Found> {
        transaction::with_latest_snapshot(|| self.each(self.filter.finished(&self.results).into_iter().flatten(), deed))
    }

    fn each<R: Known>(&self, rows: impl Iterator<Item = Row<R>>, deed: &impl Deed<R>) -> Result<Found> {
        let mut found = Found::default();
        let (mut held, mut left) = (Vec::new(), false);
        let scratch = Scratch::new();
        for row in rows {
            pgrx::check_for_interrupts!();
            let room = self.most.saturating_sub(found.tasks as usize);
            let step = scratch.run(|| self.one(deed, &row, room)).map_err(|error| of_task(error, R::id(&row)))?;
            match step {
                Step::Done(ids) if room > 0 || ids.is_empty() => found.add(&ids),
                Step::Part(ids) => {
                    found.add(&ids);
                    left = true;
                }
                Step::Held if room > 0 && held.len() < HELD => held.push(R::id(&row)),
                Step::Done(_) | Step::Held => {
                    found.more = true;
                    break;
                }
            }
        }
        self.late(deed, held, &scratch, &mut found)?;
        found.more |= left;
        Ok(found)
    }

    /// What somebody was at, as far as it is let go of before long.
    fn late<R: Known>(&self, deed: &impl Deed<R>, mut held: Vec<Id>, scratch: &Scratch, found: &mut Found) -> Result<()> {
        let deadline = clock::now() + PATIENCE;
        while !held.is_empty() && !found.more {
            let mut still = Vec::new();
            for id in held {
                let room = self.most.saturating_sub(found.tasks as usize);
                let now = || deed.now(id).map_or(Ok(Step::Done(Vec::new())), |row| self.one(deed, &row, room));
                match scratch.run(|| transaction::with_latest_snapshot(now)).map_err(|error| of_task(error, id))? {
                    Step::Done(ids) if room > 0 || ids.is_empty() => found.add(&ids),
                    Step::Done(_) => found.more = true,
                    Step::Part(ids) => {
                        found.add(&ids);
                        found.more = true;
                    }
                    Step::Held => still.push(id),
                }
            }
            held = still;
            if clock::now() >= deadline {
                break;
            }
            latch::pause(STEP);
        }
        found.more |= !held.is_empty();
        Ok(())
    }

    fn one<R: Known>(&self, deed: &impl Deed<R>, row: &Row<R>, room: usize) -> Result<Step> {
        let units = deed.units(row)?;
        if units.is_empty() || self.dry_run {
            return Ok(Step::Done(units));
        }
        // Under a snapshot of its own: what is done is not for the walk to see.
        transaction::with_latest_snapshot(|| match deed.now(R::id(row)) {
            None => Ok(Step::Done(Vec::new())),
            Some(now) if now.in_flux => Ok(Step::Held),
            Some(_) if room == 0 => Ok(Step::Done(units)),
            Some(_) => deed.act(row, room),
        })
    }

    fn matches_task(&self, row: &Row<Tasks>) -> bool {
        row.letter(Tasks::STATE).is_task() && self.filter.matches(&self.tasks, row, || why::state(&self.tenant, row, self.now))
    }
    fn matches_result(&self, row: &Row<Results>) -> bool {
        self.filter.matches(&self.results, row, || row.letter(Results::STATE).seen())
    }
    fn task(&self, id: Id) -> Option<Row<Tasks>> {
        self.tasks.find(Tasks::ID.equals(id)).filter(|row| row.letter(Tasks::STATE).is_task())
    }
    fn result(&self, id: Id) -> Option<Row<Results>> {
        self.results.find(Results::ID.equals(id))
    }
    /// The unfinished flow of which the task is a member.
    fn flow_of(&self, row: &Row<Tasks>) -> Option<Row<Tasks>> {
        self.task(row.get(Tasks::PARENT_ID)?)
    }
    /// Members that are not finished.
    fn members(&self, flow: &Row<Tasks>) -> impl Iterator<Item = Row<Tasks>> {
        let options = Options::of(&self.tasks.whole(flow, flow.lacks(Tasks::OPTIONS)));
        let ids = members::members_of(Tasks::id(flow), &options);
        ids.filter_map(|id| self.task(id))
    }
    /// All that is not finished in a flow, however deep.
    fn within(&self, flow: &Row<Tasks>) -> Vec<Row<Tasks>> {
        let mut within: Vec<Row<Tasks>> = self.members(flow).collect();
        let mut visited = Visited::default();
        visited.enter(Tasks::id(flow));
        let mut next = 0;
        while let Some(row) = within.get(next) {
            pgrx::check_for_interrupts!();
            if is_flow(row.get(Tasks::HANDLER)) && visited.enter(Tasks::id(row)) {
                let inner: Vec<_> = self.members(row).collect();
                within.extend(inner);
            }
            next += 1;
        }
        within
    }
    /// Members that are finished, and kept.
    fn results_of(&self, flow: Id, options: &Options) -> impl Iterator<Item = Row<Results>> {
        members::members_of(flow, options).filter_map(|id| self.result(id))
    }
}

/// An error, with the task that it is about.
fn of_task(error: Error, id: Id) -> Error {
    let detail = error.detail.clone().map_or(String::new(), |detail| format!(" {detail}"));
    error.detail(format!("Task {id}.{detail}"))
}

fn is_flow(handler: Option<&str>) -> bool {
    handler.is_some_and(members::is_flow)
}

struct Cancelling<'m> {
    many: &'m Many,
    cancel: Cancel,
}

impl Cancelling<'_> {
    /// Who cancels from within, to stop the others, ends by itself.
    fn is_meant(&self, row: &Row<Tasks>) -> bool {
        current::current().map(|task| task.id) != Some(Tasks::id(row)) && self.many.matches_task(row)
    }

    fn with_members(&self, row: &Row<Tasks>, ids: &mut Vec<Id>) {
        ids.push(Tasks::id(row));
        if is_flow(row.get(Tasks::HANDLER)) {
            self.many.within(row).iter().filter(|row| self.is_meant(row)).for_each(|row| ids.push(Tasks::id(row)));
        }
    }

    /// Whether a flow that it is in, however deep, goes as a whole.
    fn goes_with_its_flow(&self, row: &Row<Tasks>) -> bool {
        let mut visited = Visited::default();
        let up = std::iter::successors(self.many.flow_of(row), |flow| self.many.flow_of(flow));
        up.take_while(|flow| visited.enter(Tasks::id(flow))).any(|flow| self.is_meant(&flow))
    }
}

impl Deed<Tasks> for Cancelling<'_> {
    fn units(&self, row: &Row<Tasks>) -> Result<Vec<Id>> {
        let mut ids = Vec::new();
        if self.is_meant(row) && !self.goes_with_its_flow(row) {
            self.with_members(row, &mut ids);
        }
        Ok(ids)
    }

    fn now(&self, id: Id) -> Option<Row<Tasks>> {
        self.many.task(id)
    }

    fn act(&self, row: &Row<Tasks>, room: usize) -> Result<Step> {
        let mut ids = Vec::new();
        let mut wanted = Vec::new();
        if is_flow(row.get(Tasks::HANDLER)) {
            self.with_members(row, &mut wanted);
            let wanted: HashSet<Id> = wanted.into_iter().collect();
            self.cancel.with_members(Tasks::id(row), |id| ids.extend(wanted.contains(&id).then_some(id)))?;
        } else if let Some(flow) = self.many.flow_of(row) {
            let id = Tasks::id(row);
            wanted.push(id);
            // Flows that are members go by themselves.
            let alone = |row: &Row<Tasks>| !row.in_flux && !is_flow(row.get(Tasks::HANDLER)) && self.is_meant(row);
            let others = self.many.members(&flow).filter(alone).map(|row| Tasks::id(&row));
            wanted.extend(others.filter(|other| *other != id).take(room - 1));
            ids = self.cancel.members(Tasks::id(&flow), &wanted)?;
        } else {
            self.cancel.with_members(Tasks::id(row), |id| ids.push(id))?;
        }
        Ok(match (self.cancel.has_left(), ids.is_empty()) {
            (false, _) => Step::Done(ids),
            (true, true) => Step::Held,
            (true, false) => Step::Part(ids),
        })
    }
}

struct Changing<'m> {
    many: &'m Many,
    change: Change,
}

impl Deed<Tasks> for Changing<'_> {
    fn units(&self, row: &Row<Tasks>) -> Result<Vec<Id>> {
        let waits = |row: &Row<Tasks>| !self.change.is_late(Tasks::id(row));
        let meant = self.many.matches_task(row)
            && match is_flow(row.get(Tasks::HANDLER)) {
                // What is changed of a flow is what waits in it.
                true => self.many.within(row).iter().any(|row| !is_flow(row.get(Tasks::HANDLER)) && waits(row)),
                false => waits(row),
            };
        Ok(meant.then(|| Tasks::id(row)).into_iter().collect())
    }
    fn now(&self, id: Id) -> Option<Row<Tasks>> {
        self.many.task(id)
    }
    fn act(&self, row: &Row<Tasks>, _: usize) -> Result<Step> {
        let id = Tasks::id(row);
        Ok(Step::Done(self.change.task(id)?.then_some(id).into_iter().collect()))
    }
}

struct Requeuing<'m> {
    many: &'m Many,
    again: Again,
    /// Hashes of keys that are taken by those that would be put back.
    keys: RefCell<HashSet<u64>>,
    hasher: RandomState,
    /// Of flows that were looked at lately, whether their members' results are all there.
    whole: RefCell<HashMap<Id, bool>>,
}

impl Requeuing<'_> {
    /// Whether its unique key lets it in: of several that failed under one key the first goes back.
    fn key_is_free(&self, row: &Row<Results>) -> bool {
        let whole = self.many.results.whole(row, row.lacks(Results::UNIQUE_KEY));
        let Some(key) = whole.text(Results::UNIQUE_KEY) else { return true };
        let free = transaction::with_latest_snapshot(|| unique::is_free(&self.many.tasks, &key, Results::id(row)));
        free && (!self.many.dry_run || self.keys.borrow_mut().insert(self.hasher.hash_one(&key)))
    }

    /// Whether it can go back; raises what keeps all of its kind from it.
    fn can_go(&self, row: &Row<Results>) -> Result<bool> {
        self.again.check(row.get(Results::HANDLER).unwrap_or(""))?;
        if !self.key_is_free(row) {
            return Ok(false);
        }
        if self.many.dry_run {
            self.again.check_room()?;
        }
        Ok(true)
    }

    /// Whether a finished flow can run again, and gather its members' results at the end.
    fn can_reopen(&self, flow: &Row<Results>) -> bool {
        let id = Results::id(flow);
        let known = self.whole.borrow().get(&id).copied();
        known.unwrap_or_else(|| {
            let options = self.options(flow);
            let key = self.many.results.whole(flow, flow.lacks(Results::UNIQUE_KEY)).text(Results::UNIQUE_KEY);
            let is_free = |key: String| transaction::with_latest_snapshot(|| unique::is_free(&self.many.tasks, &key, id));
            let can = astray::lost_member(&self.many.tasks, &self.many.results, id, &options).is_none() && key.is_none_or(is_free);
            let mut known = self.whole.borrow_mut();
            if known.len() >= FLOWS {
                known.clear();
            }
            known.insert(id, can);
            can
        })
    }

    fn options(&self, flow: &Row<Results>) -> Options {
        Options::of_result(&self.many.results.whole(flow, flow.lacks(Results::OPTIONS)))
    }

    /// A flow and what would run again of it, however deep, as far as it matches.
    fn flow_units(&self, row: &Row<Results>) -> Result<Vec<Id>> {
        let mut ids = Vec::new();
        if !self.can_reopen(row) {
            return Ok(ids);
        }
        let mut any = false;
        let mut visited = Visited::default();
        let mut flows = vec![(Results::id(row), self.options(row))];
        while let Some((flow, options)) = flows.pop() {
            pgrx::check_for_interrupts!();
            any |= members::number_of(&options) == 0;
            for member in self.many.results_of(flow, &options) {
                if member.letter(Results::STATE) == Ended::Done {
                    continue;
                }
                if is_flow(member.get(Results::HANDLER)) {
                    if !self.can_reopen(&member) {
                        return Ok(Vec::new());
                    }
                    if visited.enter(Results::id(&member)) {
                        flows.push((Results::id(&member), self.options(&member)));
                    }
                } else {
                    any = true;
                    self.again.check(member.get(Results::HANDLER).unwrap_or(""))?;
                }
                if self.many.matches_result(&member) {
                    ids.push(Results::id(&member));
                }
            }
        }
        if any {
            ids.insert(0, Results::id(row));
        }
        Ok(ids)
    }

    /// Whether a flow that it is in, however deep, runs it again; or can't run again, so that it stays.
    fn is_up_to_its_flow(&self, row: &Row<Results>) -> bool {
        let mut goes_with = true;
        let mut inner = (row.letter(Results::STATE), row.get(Results::PARENT_ID));
        let mut visited = Visited::default();
        while let (state, Some(flow)) = inner
            && visited.enter(flow)
        {
            goes_with &= state != Ended::Done;
            let Some(flow) = self.many.result(flow) else { return false };
            if goes_with && self.many.matches_result(&flow) || !self.can_reopen(&flow) {
                return true;
            }
            inner = (flow.letter(Results::STATE), flow.get(Results::PARENT_ID));
        }
        false
    }

    /// The options of the flow of which the task is a member, finished or not.
    fn flow_of(&self, row: &Row<Results>) -> Option<Options> {
        let flow = row.get(Results::PARENT_ID)?;
        if let Some(flow) = self.many.result(flow) {
            return Some(self.options(&flow));
        }
        let flow = self.many.task(flow)?;
        Some(Options::of(&self.many.tasks.whole(&flow, flow.lacks(Tasks::OPTIONS))))
    }
}

impl Deed<Results> for Requeuing<'_> {
    fn units(&self, row: &Row<Results>) -> Result<Vec<Id>> {
        if !self.many.matches_result(row) {
            return Ok(Vec::new());
        }
        if self.is_up_to_its_flow(row) {
            return Ok(Vec::new());
        }
        if is_flow(row.get(Results::HANDLER)) {
            return self.flow_units(row);
        }
        Ok(if self.can_go(row)? { vec![Results::id(row)] } else { Vec::new() })
    }

    fn now(&self, id: Id) -> Option<Row<Results>> {
        self.many.result(id)
    }

    fn act(&self, row: &Row<Results>, room: usize) -> Result<Step> {
        let (id, mut ids) = (Results::id(row), Vec::new());
        let note = |row: &Row<Results>| {
            if self.many.matches_result(row) {
                ids.push(Results::id(row));
            }
        };
        match row.get(Results::PARENT_ID).zip(self.flow_of(row)).filter(|_| !is_flow(row.get(Results::HANDLER))) {
            None => {
                self.again.noting(id, note)?;
                // A flow before what is in it.
                if let Some(place) = ids.iter().position(|other| *other == id) {
                    ids[..=place].rotate_right(1);
                }
            }
            Some((flow, options)) => {
                let mut wanted = HashSet::from([id]);
                for other in self.many.results_of(flow, &options) {
                    if wanted.len() >= room {
                        break;
                    }
                    let other_id = Results::id(&other);
                    let alone = other_id != id && !other.in_flux && !is_flow(other.get(Results::HANDLER));
                    if alone && !self.units(&other)?.is_empty() {
                        wanted.insert(other_id);
                    }
                }
                self.again.members(flow, &wanted, note)?;
            }
        }
        Ok(Step::Done(ids))
    }
}

struct Deleting<'m> {
    many: &'m Many,
}

impl Deed<Results> for Deleting<'_> {
    fn units(&self, row: &Row<Results>) -> Result<Vec<Id>> {
        let meant = self.many.matches_result(row) && !results::is_needed(&self.many.tasks, row);
        Ok(meant.then(|| Results::id(row)).into_iter().collect())
    }
    fn now(&self, id: Id) -> Option<Row<Results>> {
        self.many.result(id)
    }
    fn act(&self, row: &Row<Results>, _: usize) -> Result<Step> {
        let gone = remove::result(&self.many.tenant, &self.many.tasks, &self.many.results, row)? == Write::Done;
        Ok(Step::Done(gone.then(|| Results::id(row)).into_iter().collect()))
    }
}
