//! Tasks that wait and are to be otherwise.

use crate::handler;
use crate::postgres::error::{Error, Result};
use crate::postgres::relation::{Access, Table, Write};
use crate::postgres::row::Row;
use crate::postgres::types::Jsonb;
use crate::postgres::{clock, sandbox};
use crate::pure::ids::Id;
use crate::pure::state::Stored;
use crate::pure::time::Span;
use crate::shared::{self, wake};
use crate::task::lookup::{self, Found};
use crate::task::new::NewTask;
use crate::task::options::Options;
use crate::task::place::{self, Place};
use crate::task::queue::only_superuser;
use crate::task::rules;
use crate::tenant::Tenant;
use crate::tenant::columns::{Results, Tasks};
use crate::tenant::rights::{self, Caller};
use crate::waits::{gate, members};
use crate::work::ask;
use crate::work::flow::whole;
use std::rc::Rc;

/// Changes waiting tasks of one tenant, in the caller's transaction. The right to it is known.
pub struct Change {
    tenant: Rc<Tenant>,
    tasks: Table<Tasks>,
    results: Table<Results>,
    /// What is given here takes the place of what they have.
    to: NewTask,
    meta: Option<Jsonb>,
    by: Caller,
}

/// What is changed, and so which of the changes concern it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Task,
    /// Of a flow that is to be otherwise.
    Member,
    /// That flow itself.
    Flow,
}

impl Change {
    /// `to` has been checked.
    pub fn open(tenant: Rc<Tenant>, to: NewTask) -> Result<Change> {
        if to.args.is_some() {
            // Who gives the arguments answers for them as whoever enqueues does.
            Caller::check(&tenant)?;
        }
        let tasks = tenant.open(tenant.task, Access::Write)?;
        let results = tenant.open(tenant.result, Access::Read)?;
        let meta = to.meta.clone().map(Jsonb::from_value);
        Ok(Change { tenant, tasks, results, to, meta, by: rights::author() })
    }

    /// Whether it runs, or is next in an executor's list.
    pub fn is_late(&self, id: Id) -> bool {
        shared::get().is_some_and(|s| gate::live_items(&s, usize::MAX, self.tenant.oid).any(|item| item.id == id))
    }

    /// Of a flow what waits of it: its members, however deep; only what it is about is its own. False: it is unknown,
    /// finished, running or about to run, or there is nothing to change.
    pub fn task(&self, id: Id) -> Result<bool> {
        let Found::Unfinished(row) = lookup::look_up(&self.tasks, &self.results, id) else { return Ok(false) };
        if !members::is_flow(row.get(Tasks::HANDLER).unwrap_or("")) {
            return self.one(row, Part::Task);
        }
        if self.to.args.is_some() {
            return Err(Error::invalid(format!("task {id} is a flow, which has no arguments"))
                .hint("Change those of its members: they are the rows of tq_tasks that have it as parent_id."));
        }
        let mut changed = false;
        whole::each(&self.tasks, row, None, |row| {
            let is_whole = row.get(Tasks::ID) == Some(id);
            let part = if is_whole { Part::Flow } else { Part::Member };
            if is_whole || !members::is_flow(row.get(Tasks::HANDLER).unwrap_or("")) {
                changed |= self.one(row, part)?;
            }
            Ok(())
        })?;
        Ok(changed)
    }

    fn one(&self, row: Row<Tasks>, part: Part) -> Result<bool> {
        let Change { tenant, tasks, meta, by, .. } = self;
        let to = if part == Part::Flow { &NewTask::default() } else { &self.to };
        let meta = meta.as_ref().filter(|_| part != Part::Member);
        // Whoever gives a task something to work on answers for it.
        let answers = to.args.is_some() || meta.is_some();
        let id = row.get(Tasks::ID).unwrap_or_default();
        if self.is_late(id) {
            return Ok(false);
        }
        let name = row.get(Tasks::HANDLER).unwrap_or("");
        let handler = handler::find(tenant, name)?;
        if let Some(handler) = &handler {
            if to.args.is_some() {
                handler.check_args(to.args.as_ref(), handler.code_at_enqueue(tenant).as_ref())?;
            }
            if answers && !by.superuser && sandbox::is_superuser(pgrx::pg_sys::Oid::from(handler.run_as)) {
                return Err(only_superuser(name, "change what its tasks are given"));
            }
        }
        let now = clock::now();
        let created_at = row.get(Tasks::CREATED_AT).unwrap_or(now);
        // Another incarnation, though hardly another time: an executor that has read the row before
        // must not end it with the old arguments.
        let mut changes = vec![Tasks::CREATED_AT.to(created_at + Span::MICROSECOND)];
        if let Some(at) = to.run_at {
            changes.push(Tasks::RUN_AT.to(at));
        }
        if let Some(queue) = &to.queue {
            changes.push(Tasks::QUEUE.to(queue.as_str()));
        }
        if let Some(priority) = to.priority {
            changes.push(Tasks::PRIORITY.to(priority as i16));
        }
        if let Some(args) = &to.args {
            changes.push(Tasks::ARGS.to(args));
        }
        let mut until = row.get(Tasks::EXPIRES_AT);
        if let Some(expires) = to.expires.or_else(|| to.run_at.and_then(|_| rules::expires(&row, handler.as_deref()))) {
            let since = to.run_at.or(row.get(Tasks::RUN_AT)).unwrap_or(now).max(now);
            until = Some(rules::expires_at(tenant, since, expires));
            changes.push(Tasks::EXPIRES_AT.to(until));
        }
        if let Some(meta) = meta {
            changes.push(Tasks::META.to(meta));
        }
        if answers {
            changes.push(Tasks::ENQUEUED_BY.to(by.name.as_str()));
            changes.push(Tasks::BY_SUPERUSER.to(by.superuser));
        }
        if changes.len() == 1 {
            return Ok(false);
        }
        let mut options = Options::of(&row);
        options.expires = to.expires.or(options.expires);
        if answers {
            options = ask::options_again(tenant, options, false, true)?;
        }
        let options = options.column();
        if (answers || to.expires.is_some()) && (options.is_some() || row.has(Tasks::OPTIONS)) {
            changes.push(Tasks::OPTIONS.to(options.as_ref()));
        }
        let place = Place::of_row(tenant, &row, to.queue.as_deref().or(row.get(Tasks::QUEUE)), handler.as_deref())?;
        let mut state = row.letter(Tasks::STATE);
        if matches!(row.letter(Tasks::STATE), Stored::Held | Stored::Gated) || row.letter(Tasks::STATE).is_runnable() && !place.has(&row) {
            // Whether what kept it still does is found out by the next pick.
            changes.extend(place.changes());
            state = place.state;
        }
        if tasks.update(&row, &changes) == Write::Overtaken {
            return Ok(false);
        }
        // It stood in place at its gates, perhaps for others who were put aside behind it.
        gate::release(tenant, tasks, &row, handler.as_deref())?;
        place::expires(tenant, state, until)?;
        if let Some(entry) = tenant.entry(place::role(tenant, state, handler.as_deref()))? {
            wake::changed_row(entry, to.run_at.or(row.get(Tasks::RUN_AT)).unwrap_or(now));
        }
        Ok(true)
    }
}
