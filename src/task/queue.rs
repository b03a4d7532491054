//! A tenant's table open for new tasks, and what must hold for each: rights, roles, room.

use crate::handler::Handler;
use crate::postgres::error::{Error, Result};
use crate::postgres::relation::{Access, Table};
use crate::postgres::sqlstate::SqlState;
use crate::postgres::{sandbox, worker};
use crate::pure::ids::Id;
use crate::settings;
use crate::tenant::columns::{Results, Tasks};
use crate::tenant::rights::{By, Caller, Right, Wanted};
use crate::tenant::{self, Tenant, gauge};
use std::cell::Cell;
use std::rc::Rc;

/// What somebody else wants to do with a handler that runs as a superuser.
pub fn only_superuser(handler: &str, what: &str) -> Error {
    Error::denied(format!("handler \"{handler}\" runs as a superuser, so only a superuser may {what}"))
        .hint("Let the schema belong to an ordinary role, or register the handler with run_as.")
}

/// A tenant's table, open for enqueuing.
pub struct Queue {
    pub tenant: Rc<Tenant>,
    pub table: Table<Tasks>,
    pub caller: Caller,
    pub by: By,
    /// So many more tasks it has room for.
    room: Cell<i64>,
}

impl Queue {
    /// Of the tenant that is meant.
    pub fn open(named: Option<&str>) -> Result<Queue> {
        let tenant = tenant::resolve_for(named, &Wanted::Rights(&[Right::Enqueue]))?;
        let caller = Caller::check(&tenant)?;
        let table = tenant.open(tenant.task, Access::Write)?;
        Ok(Queue { tenant, table, caller, by: By::Caller, room: Cell::new(0) })
    }

    /// The same for `caller`, whose right to it is known.
    pub fn of(tenant: Rc<Tenant>, table: Table<Tasks>, caller: Caller, by: By) -> Queue {
        Queue { tenant, table, caller, by, room: Cell::new(0) }
    }

    /// Whether a task of this id is here already: enqueuing an id twice is one task.
    pub(crate) fn known(&self, id: Id) -> Result<bool> {
        // Whoever enqueues the same id just now is waited for; then the newest snapshot tells. Not by the
        // scheduler: it enqueues hundreds at a time, each a lock, and the row of the schedule or fan-out
        // keeps a second one like it out.
        if !worker::is_scheduler() {
            crate::tenant::lock::task_id(&self.tenant, id)?;
        }
        crate::postgres::transaction::with_latest_snapshot(|| self.is_there(id))
    }

    fn is_there(&self, id: Id) -> Result<bool> {
        if self.table.find(Tasks::ID.equals(id)).is_some() {
            return Ok(true);
        }
        let results = self.tenant.open(self.tenant.result, Access::Read)?.fetch_at_most(0);
        Ok(results.find(Results::ID.equals(id)).is_some())
    }

    /// A task may run as a superuser only if a superuser owns the schema and enqueues it.
    pub(crate) fn check_superuser(&self, handler: &Handler) -> Result<()> {
        if !sandbox::is_superuser(pgrx::pg_sys::Oid::from(handler.run_as)) {
            return Ok(());
        }
        if !settings::allow_superuser() {
            return Err(Error::denied(format!("handler \"{}\" would run as a superuser", handler.name))
                .detail("tenant_q.allow_superuser is off.")
                .hint("Let the schema belong to an ordinary role, or register the handler with run_as."));
        }
        if let Some(why) = self.tenant.distrust() {
            return Err(Error::denied(format!("handler \"{}\" would run as a superuser", handler.name))
                .detail(format!("But {why}: what an owner before has written into its tables is not to be believed."))
                .hint(format!(
                    "Look at tq_handlers, then run SELECT tq_attach({}) as a superuser.",
                    pgrx::spi::quote_literal(&self.tenant.name)
                )));
        }
        if !self.caller.superuser {
            return Err(only_superuser(&handler.name, "enqueue for it"));
        }
        Ok(())
    }

    pub fn check_room(&self) -> Result<()> {
        let Some(limit) = self.tenant.max_queued else { return Ok(()) };
        if self.room.get() == 0 {
            // Whatever roles they run as: the quota is the tenant's.
            self.room.set(gauge::room(&self.tenant, &self.table, limit).map_err(|unfinished| {
                Error::new(
                    SqlState::CONFIGURATION_LIMIT_EXCEEDED,
                    format!("tenant \"{}\" has {unfinished} unfinished tasks", self.tenant.name),
                )
                .detail(format!("Its max_queued is {limit}."))
                .hint("Wait until some are done, or ask an administrator for tq_set_quota(max_queued => …).")
            })?);
        }
        self.room.set(self.room.get() - 1);
        Ok(())
    }
}
