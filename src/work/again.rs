//! Finished and quarantined tasks that are to run again.

use crate::handler::{self, Handler};
use crate::postgres::error::{Error, Result};
use crate::postgres::relation::{Access, Table, Write};
use crate::postgres::row::Row;
use crate::postgres::sqlstate::SqlState;
use crate::postgres::types::Jsonb;
use crate::postgres::{clock, sandbox, transaction};
use crate::pure::ids::Id;
use crate::pure::state::{Ended, Stored};
use crate::pure::time::{At, Span};
use crate::shared::wake;
use crate::task::lookup::{self, Found};
use crate::task::notes;
use crate::task::options::Options;
use crate::task::place::{self, First, Place};
use crate::task::queue::{Queue, only_superuser};
use crate::task::rules;
use crate::tenant::columns::{Results, Tasks};
use crate::tenant::rights::{self, By, Caller};
use crate::tenant::{Tenant, lock};
use crate::waits::{depend, link, unique};
use crate::work::flow::again::FlowAgain;
use crate::work::{ask, complete};
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::rc::Rc;

/// Puts finished tasks of one tenant back among the unfinished, in the caller's transaction. The right to it is known.
pub struct Again {
    tenant: Rc<Tenant>,
    tasks: Table<Tasks>,
    results: Table<Results>,
    /// Who runs a task again answers for it: a superuser's task stays one only in a superuser's hands.
    room: Queue,
    now: At,
    run_at: At,
    /// In place of those that the tasks had.
    args: Option<Jsonb>,
    reset_attempts: bool,
    /// Of many a task stays whose unique key another one has.
    many: bool,
    /// Unique keys that are locked.
    locked: Cell<usize>,
}

/// So many unique keys are locked, so that whoever enqueues one of them just now is waited for. Locks are few: beyond that
/// the index alone keeps out who comes second.
const LOCKED: usize = 1000;

/// So many tasks that can't come back are named, each with the reason.
const NAMED: usize = 10;

impl Again {
    /// `run_at`: None = now.
    pub fn open(tenant: Rc<Tenant>, run_at: Option<At>, args: Option<Jsonb>, reset_attempts: bool) -> Result<Again> {
        if args.is_some() {
            // Other arguments need the right to enqueue.
            Caller::check(&tenant)?;
        }
        let now = clock::now();
        let tasks = tenant.open(tenant.task, Access::Write)?;
        let results = tenant.open(tenant.result, Access::Write)?;
        let room = Queue::of(tenant.clone(), tenant.open(tenant.task, Access::Write)?, rights::author(), By::Caller);
        let (many, locked) = (false, Cell::new(0));
        Ok(Again { tenant, tasks, results, room, now, run_at: run_at.unwrap_or(now), args, reset_attempts, many, locked })
    }

    /// The same for many tasks: one whose unique key another one has stays, and doesn't keep the others from going.
    pub fn leaving_taken_keys(self) -> Again {
        Again { many: true, ..self }
    }

    /// Of a flow what didn't end well; and with it those that were cancelled because of it. False: unfinished tasks run by
    /// themselves, unknown ones can't.
    pub fn task(&self, id: Id) -> Result<bool> {
        self.noting(id, |_| ())
    }

    /// The same, and says which results have gone back: a flow's own after those of its members.
    pub fn noting(&self, id: Id, gone: impl FnMut(&Row<Results>)) -> Result<bool> {
        let Found::Finished(row) = lookup::look_up(&self.tasks, &self.results, id) else { return Ok(false) };
        self.with(gone, |again| again.run(row))
    }

    /// These members of a flow, and in a chain what comes after them.
    pub fn members(&self, flow: Id, these: &HashSet<Id>, gone: impl FnMut(&Row<Results>)) -> Result<bool> {
        self.with(gone, |again| again.members(flow, &|member| these.contains(&member)))
    }

    fn with(&self, gone: impl FnMut(&Row<Results>), run: impl FnOnce(&FlowAgain) -> Result<bool>) -> Result<bool> {
        let (opened, gone) = (RefCell::new(Vec::new()), RefCell::new(gone));
        let found = run(&FlowAgain {
            tenant: &self.tenant,
            tasks: &self.tasks,
            results: &self.results,
            by: &self.room.caller,
            one: &|row, wait| self.one(row, wait, &mut opened.borrow_mut()),
            gone: &gone,
            opened: &opened,
        })?;
        self.bring_back(opened.take(), gone.into_inner())?;
        Ok(found)
    }

    /// A finished one goes back, to wait for `wait` first if there is one.
    fn one(&self, row: &Row<Results>, wait: Option<Id>, opened: &mut Vec<Id>) -> Result<bool> {
        let Some(handler) = self.admit(row, self.args.as_ref())? else { return Ok(false) };
        let id = row.get(Results::ID).unwrap_or_default();
        if !self.put_back(row, &handler, wait, self.args.as_ref(), self.run_at)? {
            return Ok(false);
        }
        if !Options::of_result(row).depends.is_empty() {
            // It runs whatever became of those.
            link::forget(&self.tasks, id, None);
        }
        opened.push(id);
        Ok(true)
    }

    /// Those that were cancelled because of one of these wait for it again, and so on.
    fn bring_back(&self, mut opened: Vec<Id>, mut gone: impl FnMut(&Row<Results>)) -> Result<()> {
        let (mut back, mut stay) = (0, 0);
        while let Some(of) = opened.pop() {
            for id in depend::dependents(&self.tasks, of) {
                let Some(row) = self.cancelled_dependent(id) else { continue };
                match self.admit(&row, None) {
                    Ok(None) => {}
                    Ok(Some(handler)) => {
                        let run_at = row.get(Results::RUN_AT).unwrap_or_default().max(self.now);
                        if self.put_back(&row, &handler, Some(of), None, run_at)? {
                            opened.push(id);
                            gone(&row);
                            back += 1;
                        }
                    }
                    // Of many nobody reads a notice each.
                    Err(_) if self.many => {}
                    Err(why) => {
                        stay += 1;
                        if stay <= NAMED {
                            let what = format!("task {id}, which was cancelled because of task {of}, stays cancelled: {}", why.message);
                            Error::new(SqlState::SUCCESSFUL_COMPLETION, what).notice();
                        }
                    }
                }
            }
        }
        if stay > NAMED {
            let others = stay - NAMED;
            Error::new(SqlState::SUCCESSFUL_COMPLETION, format!("{others} more that were cancelled because of it stay cancelled")).notice();
        }
        if back > 0 && !self.many {
            let what = if back == 1 {
                "1 task that was cancelled because of it comes".into()
            } else {
                format!("{back} tasks that were cancelled because of it come")
            };
            Error::new(SqlState::SUCCESSFUL_COMPLETION, format!("{what} back with it")).notice();
        }
        Ok(())
    }

    /// The result of a dependent that can come back. One that is unfinished still, as an executor may be about to cancel it,
    /// is to be looked at anew.
    fn cancelled_dependent(&self, id: Id) -> Option<Row<Results>> {
        loop {
            match lookup::look_up(&self.tasks, &self.results, id) {
                Found::Finished(row) => {
                    let unmet = row.letter(Results::STATE) == Ended::Cancelled && depend::is_unmet(row.get(Results::ERROR).as_ref());
                    return Some(row).filter(|row| unmet && depend::may_come_back(&self.tasks, &self.results, row));
                }
                Found::Unfinished(row) if row.letter(Tasks::STATE).is_runnable() && !Options::of(&row).any => {
                    let created_at = row.get(Tasks::CREATED_AT).unwrap_or_default();
                    if self.tasks.update(&row, &[Tasks::CREATED_AT.to(created_at + Span::MICROSECOND)]) == Write::Done {
                        return None;
                    }
                }
                _ => return None,
            }
        }
    }

    /// Whether the tenant has room for one more.
    pub fn check_room(&self) -> Result<()> {
        self.room.check_room()
    }

    /// Whether tasks of this handler can run again, and the caller may have them do so.
    pub fn check(&self, name: &str) -> Result<Rc<Handler>> {
        self.check_with(name, self.args.as_ref())
    }

    fn check_with(&self, name: &str, args: Option<&Jsonb>) -> Result<Rc<Handler>> {
        let handler = handler::require(&self.tenant, name)?;
        if let Some(given) = args {
            handler.check_args(Some(given), handler.code_at_enqueue(&self.tenant).as_ref())?;
        }
        if !self.room.caller.superuser && sandbox::is_superuser(pgrx::pg_sys::Oid::from(handler.run_as)) {
            return Err(only_superuser(name, "run its tasks again"));
        }
        Ok(handler)
    }

    /// Whether this very task may run again: its handler then. None: of many, its key is another one's.
    fn admit(&self, row: &Row<Results>, args: Option<&Jsonb>) -> Result<Option<Rc<Handler>>> {
        let handler = self.check_with(row.get(Results::HANDLER).unwrap_or(""), args)?;
        self.check_room()?;
        let id = row.get(Results::ID).unwrap_or_default();
        let key = row.text(Results::UNIQUE_KEY);
        if let Some(key) = &key {
            if self.locked.replace(self.locked.get() + 1) < LOCKED {
                lock::unique_key(&self.tenant, key)?;
            }
            if self.many && !unique::is_free(&self.tasks, key, id) {
                return Ok(None);
            }
        }
        if row.letter(Results::STATE) == Ended::Quarantined {
            transaction::with_latest_snapshot(|| notes::forget_note(&self.tasks, id));
        }
        if let Some(key) = &key {
            unique::check_free(&self.tasks, key, id)?;
        }
        Ok(Some(handler))
    }

    fn put_back(&self, row: &Row<Results>, handler: &Handler, wait: Option<Id>, args: Option<&Jsonb>, run_at: At) -> Result<bool> {
        if self.results.delete(row) == Write::Overtaken {
            return Ok(false);
        }
        let mut options = Options::of_result(row);
        crate::fanout::lines::reopened(&self.tenant, row.get(Results::ID).unwrap_or_default(), &options)?;
        if self.reset_attempts {
            options.snoozes = None;
        }
        let was_done = row.letter(Results::STATE) == Ended::Done;
        let expires = options.expires.or(handler.expires);
        let options = ask::options_again(&self.tenant, options, was_done, args.is_some())?;
        let created_at = row.get(Results::CREATED_AT).unwrap_or_default() + Span::MICROSECOND;
        let first = First::of(&self.tenant, handler, &options, created_at)?;
        let place = match wait {
            Some(on) => Place { state: Stored::Waiting, waits_for: Some(on) },
            None => Place::of(&self.tenant, row.get(Results::QUEUE), Some(handler), first),
        };
        let options = options.column();
        let mut columns = complete::unfinished_again(place, row);
        if self.reset_attempts {
            columns.push(Tasks::ATTEMPTS.to(0));
        }
        // Another incarnation, in its old place among those of its group.
        columns.push(Tasks::CREATED_AT.to(created_at));
        columns.push(Tasks::RUN_AT.to(run_at));
        let until = expires.map(|expires| rules::expires_at(&self.tenant, run_at.max(self.now), expires));
        if until.is_some() {
            columns.push(Tasks::EXPIRES_AT.to(until));
        }
        columns.push(Tasks::ENQUEUED_BY.to(self.room.caller.name.as_str()));
        columns.push(Tasks::BY_SUPERUSER.to(self.room.caller.superuser));
        if let Some(args) = args {
            columns.push(Tasks::ARGS.to(args));
        }
        columns.push(Tasks::OPTIONS.to(options.as_ref()));
        if wait.is_some() {
            columns.push(Tasks::WAITS.to(1));
        }
        self.tasks.insert(&columns);
        place::expires(&self.tenant, place.state, until)?;
        if let Some(entry) = self.tenant.entry(place::role(&self.tenant, place.state, Some(handler)))? {
            wake::added(entry, if wait.is_some() { At::NEVER } else { run_at }, place.handlers(Some(handler)));
        }
        Ok(true)
    }
}
