//! Finished flows and members that are to run again. What waited for them waits for them as before: the flows that they are
//! in, to any height, and in a chain what comes after them.

use crate::postgres::error::{Error, Result};
use crate::postgres::relation::{Table, Write};
use crate::postgres::row::Row;
use crate::postgres::sqlstate::SqlState;
use crate::postgres::{clock, transaction};
use crate::pure::ids::Id;
use crate::pure::state::{Ended, Stored};
use crate::pure::time::{At, Span};
use crate::shared::wake;
use crate::task::lookup::{self, Found};
use crate::task::options::Options;
use crate::task::place::{First, Place};
use crate::tenant::columns::{Results, Tasks};
use crate::tenant::rights::Caller;
use crate::tenant::{Tenant, lock};
use crate::waits::members::{self, Visited};
use crate::waits::{astray, unique};
use crate::work::complete;
use std::cell::RefCell;
use std::rc::Rc;

type One<'a> = dyn Fn(&Row<Results>, Option<Id>) -> Result<bool> + 'a;
type Gone<'a> = dyn FnMut(&Row<Results>) + 'a;

pub struct FlowAgain<'a> {
    pub tenant: &'a Rc<Tenant>,
    pub tasks: &'a Table<Tasks>,
    pub results: &'a Table<Results>,
    /// Whoever runs it again answers for the flow too: its hooks are enqueued in its name.
    pub by: &'a Caller,
    /// Puts a task that is no flow back, to wait for this one first; false: it stays.
    pub one: &'a One<'a>,
    /// Is told what has gone back: all but flows that only wait again for what is in them.
    pub gone: &'a RefCell<Gone<'a>>,
    /// Flows that are unfinished again.
    pub opened: &'a RefCell<Vec<Id>>,
}

/// A flow whose members are being gone through.
struct Open {
    row: Row<Results>,
    is_chain: bool,
    members: Box<dyn Iterator<Item = Id>>,
    /// What its first members wait for.
    wait: Option<Id>,
    /// The last member that came back.
    last: Option<Id>,
    came_back: i32,
}

impl FlowAgain<'_> {
    /// A task; of a flow what didn't end well. False: there is nothing to run again.
    pub fn run(&self, row: Row<Results>) -> Result<bool> {
        let id = row.get(Results::ID).unwrap_or_default();
        match row.get(Results::PARENT_ID) {
            Some(flow) if !matches!(lookup::look_up(self.tasks, self.results, flow), Found::Nothing) => {
                self.members(flow, &|member| member == id)
            }
            _ => self.bring_back(row, None),
        }
    }

    /// These members of a flow, however they ended; in a chain also what comes after one of them and did not end well.
    pub fn members(&self, flow: Id, these: &dyn Fn(Id) -> bool) -> Result<bool> {
        let mut came_back = self.of_one(flow, these, None)?;
        if came_back == 0 {
            return Ok(false);
        }
        let mut inner = flow;
        while let Some(flow) = self.wait_for_more(inner, came_back)? {
            came_back = self.of_one(flow, &|_| false, Some(inner))?;
            inner = flow;
        }
        Ok(true)
    }

    /// How many members of a flow come back, with the one that is back already.
    fn of_one(&self, flow: Id, these: &dyn Fn(Id) -> bool, back: Option<Id>) -> Result<i32> {
        let (options, is_chain) = match lookup::look_up(self.tasks, self.results, flow) {
            Found::Finished(row) => {
                let options = Options::of_result(&row);
                self.check_results(flow, &options)?;
                (options, row.get(Results::HANDLER) == Some(members::CHAIN))
            }
            Found::Unfinished(row) => (Options::of(&row), row.get(Tasks::HANDLER) == Some(members::CHAIN)),
            Found::Nothing => return Ok(0),
        };
        let mut came_back = 0;
        let mut last: Option<Id> = None;
        let mut follows = false;
        for member in members::members_of(flow, &options) {
            let is_back = back == Some(member);
            let named = these(member);
            if !(is_back || named || is_chain && follows) {
                continue;
            }
            let came = if is_back {
                follows = true;
                true
            } else {
                let row = if named { self.result(member) } else { self.not_well(member) };
                follows = row.is_some();
                row.map(|row| self.bring_back(row, last.filter(|_| is_chain))).transpose()?.unwrap_or(false)
            };
            if came {
                came_back += 1;
                last = Some(member);
            }
        }
        Ok(came_back)
    }

    /// A finished flow that is to run again gathers its members' results again: are they all there?
    fn check_results(&self, flow: Id, options: &Options) -> Result<()> {
        let Some(nth) = astray::lost_member(self.tasks, self.results, flow, options) else { return Ok(()) };
        Err(Error::state(format!("the result of member {} of flow {flow} is gone", nth + 1))
            .detail("The flow would gather it again at its end: its own result would be short.")
            .hint("Enqueue the flow anew. Delete the flow's own result to run single members again, each for itself."))
    }

    fn result(&self, id: Id) -> Option<Row<Results>> {
        transaction::with_latest_snapshot(|| self.results.find(Results::ID.equals(id)))
    }

    /// The result of a member that is finished and didn't end well.
    fn not_well(&self, member: Id) -> Option<Row<Results>> {
        self.result(member).filter(|row| row.letter(Results::STATE) != Ended::Done)
    }

    /// Puts a task back, or of a flow what didn't end well, with a list of the flows that are gone through in place of a
    /// call for each level.
    fn bring_back(&self, row: Row<Results>, wait: Option<Id>) -> Result<bool> {
        let mut open: Vec<Open> = Vec::new();
        let mut visited = Visited::default();
        let mut next = Some((row, wait));
        loop {
            let came = match next.take() {
                Some((row, wait)) => self.begin(row, wait, &mut open, &mut visited)?,
                None => match open.pop() {
                    Some(flow) if flow.came_back > 0 => {
                        let id = self.reopen(&flow.row, flow.came_back, None)?;
                        self.tell(&flow.row);
                        Some((id, true))
                    }
                    Some(flow) => flow.row.get(Results::ID).map(|id| (id, false)),
                    None => return Ok(false),
                },
            };
            match (came, open.last_mut()) {
                (Some((_, came)), None) => return Ok(came),
                (Some((id, true)), Some(flow)) => {
                    flow.came_back += 1;
                    flow.last = Some(id);
                }
                _ => {}
            }
            if let Some(flow) = open.last_mut() {
                let wait = flow.last.filter(|_| flow.is_chain).or(flow.wait);
                next = flow.members.find_map(|member| self.not_well(member)).map(|row| (row, wait));
            }
        }
    }

    /// None: it is a flow, whose members are to be gone through first.
    fn begin(&self, row: Row<Results>, wait: Option<Id>, open: &mut Vec<Open>, visited: &mut Visited) -> Result<Option<(Id, bool)>> {
        pgrx::check_for_interrupts!();
        let id = row.get(Results::ID).unwrap_or_default();
        let kind = row.get(Results::HANDLER).unwrap_or("");
        if !members::is_flow(kind) {
            let came = (self.one)(&row, wait)?;
            if came {
                self.tell(&row);
            }
            return Ok(Some((id, came)));
        }
        let options = Options::of_result(&row);
        if members::number_of(&options) == 0 {
            let id = self.reopen(&row, 0, wait)?;
            self.tell(&row);
            return Ok(Some((id, true)));
        }
        if !visited.enter(id) {
            return Ok(Some((id, false)));
        }
        self.check_results(id, &options)?;
        let (is_chain, members) = (kind == members::CHAIN, Box::new(members::members_of(id, &options)));
        open.push(Open { row, is_chain, members, wait, last: None, came_back: 0 });
        Ok(None)
    }

    fn tell(&self, gone: &Row<Results>) {
        (self.gone.borrow_mut())(gone);
    }

    /// A finished flow waits for so many members again; one without any, for `wait`. Its id.
    fn reopen(&self, row: &Row<Results>, members: i32, wait: Option<Id>) -> Result<Id> {
        let id = row.get(Results::ID).unwrap_or_default();
        if let Some(key) = row.text(Results::UNIQUE_KEY) {
            lock::unique_key(self.tenant, &key)?;
            unique::check_free(self.tasks, &key, id)?;
        }
        if self.results.delete(row) == Write::Overtaken {
            return Err(Error::new(SqlState::SERIALIZATION_FAILURE, "the flow was changed meanwhile").hint("Try again."));
        }
        self.opened.borrow_mut().push(id);
        let now = clock::now();
        let waits = members > 0 || wait.is_some();
        let mut columns = complete::unfinished_again(Place::of(self.tenant, row.get(Results::QUEUE), None, First::Nothing), row);
        columns.extend([
            // Another incarnation, in its old place.
            Tasks::CREATED_AT.to(row.get(Results::CREATED_AT).unwrap_or_default() + Span::MICROSECOND),
            Tasks::RUN_AT.to(now),
            Tasks::ENQUEUED_BY.to(self.by.name.as_str()),
            Tasks::BY_SUPERUSER.to(self.by.superuser),
        ]);
        if waits {
            columns.extend([Tasks::STATE.to(Stored::Waiting), Tasks::WAITS_FOR.to(wait), Tasks::WAITS.to(members)]);
        }
        self.tasks.insert(&columns);
        if let Some(entry) = self.tenant.entry(self.tenant.owner)? {
            wake::added(entry, if waits { At::NEVER } else { now }, 0);
        }
        Ok(id)
    }

    /// The flow waits for so many members more. The flow that it is in, if that one waits for it again.
    fn wait_for_more(&self, flow: Id, members: i32) -> Result<Option<Id>> {
        loop {
            match lookup::look_up(self.tasks, self.results, flow) {
                Found::Nothing => return Ok(None),
                Found::Finished(row) => {
                    self.reopen(&row, members, None)?;
                    return Ok(row.get(Results::PARENT_ID));
                }
                Found::Unfinished(row) => {
                    let changes = [
                        Tasks::WAITS.to(row.get(Tasks::WAITS).unwrap_or(0) + members),
                        Tasks::ENQUEUED_BY.to(self.by.name.as_str()),
                        Tasks::BY_SUPERUSER.to(self.by.superuser),
                    ];
                    // Else as it is by now.
                    if self.tasks.update(&row, &changes) == Write::Done {
                        return Ok(None);
                    }
                }
            }
        }
    }
}
