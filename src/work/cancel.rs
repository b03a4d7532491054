//! Unfinished tasks that are to end now.

use crate::postgres::error::{Error, Result};
use crate::postgres::relation::{Access, Table, Write};
use crate::postgres::row::Row;
use crate::pure::ids::Id;
use crate::pure::state::Ended;
use crate::shared::{self, slot, wake};
use crate::task::current;
use crate::task::end::End;
use crate::tenant::Tenant;
use crate::tenant::columns::Tasks;
use crate::waits::members;
use crate::work::flow::whole;
use crate::work::{complete, tell};
use std::cell::Cell;
use std::rc::Rc;

/// Cancels tasks of one tenant, in the caller's transaction. The right to it is known.
pub struct Cancel {
    tenant: Rc<Tenant>,
    table: Table<Tasks>,
    even_running: bool,
    /// A row that another transaction is at is waited for.
    waits: bool,
    /// One was not.
    held: Cell<bool>,
}

impl Cancel {
    pub fn open(tenant: Rc<Tenant>, even_running: bool) -> Result<Cancel> {
        let table = tenant.open(tenant.task, Access::Write)?;
        Ok(Cancel { tenant, table, even_running, waits: true, held: Cell::new(false) })
    }

    /// The same, leaving those that another transaction is at, as a rule because they are just ending.
    pub fn without_waiting(self) -> Cancel {
        Cancel { waits: false, ..self }
    }

    /// Whether one was left since this was asked last.
    pub fn has_left(&self) -> bool {
        self.held.take()
    }

    /// The task's row as it is by now, if it has one.
    pub fn now(&self, id: Id) -> Option<Row<Tasks>> {
        whole::now(&self.table, id)
    }

    /// A task, and its members if it is a flow. False: there is nothing to cancel.
    pub fn task(&self, id: Id) -> Result<bool> {
        if current::current().map(|c| c.id) == Some(id) && self.now(id).is_some() {
            return Err(Error::state("a task cannot cancel itself").hint("tq_fail() ends it for good."));
        }
        self.with_members(id, |_| ())
    }

    /// The same, and says which have gone: all but the task in which this runs.
    pub fn with_members(&self, id: Id, mut cancelled: impl FnMut(Id)) -> Result<bool> {
        let Some(row) = self.now(id) else { return Ok(false) };
        // Who cancels from within, to stop the others, ends by itself.
        let own = current::current().map(|c| c.id);
        // All rows go before any end takes effect, so that the members' ends find no flow to count down and no next
        // step to let go.
        let mut gone = Vec::new();
        whole::each(&self.table, row, own, |row| {
            gone.extend(self.take_out(row));
            Ok(())
        })?;
        let all = gone.last().is_some_and(|row| row.get(Tasks::ID) == Some(id));
        for row in gone {
            let end = self.ended(&row);
            complete::end(&self.tenant, &self.table, &row, &end, true)?;
            cancelled(row.get(Tasks::ID).unwrap_or_default());
        }
        Ok(all)
    }

    /// Some members of a flow, which itself stays and is counted down; which of them have gone.
    pub fn members(&self, flow: Id, ids: &[Id]) -> Result<Vec<Id>> {
        // All rows before their flow's, as above; none of them is a flow.
        let gone: Vec<Row<Tasks>> = ids.iter().filter_map(|id| self.now(*id)).filter_map(|row| self.take_out(row)).collect();
        complete::end_members(&self.tenant, &self.table, flow, &gone, |row| self.ended(row))?;
        Ok(gone.iter().map(|row| row.get(Tasks::ID).unwrap_or_default()).collect())
    }

    /// Deletes an unfinished task's row, if it may be cancelled and nobody was first.
    fn take_out(&self, mut row: Row<Tasks>) -> Option<Row<Tasks>> {
        let (id, created_at) = (row.get(Tasks::ID).unwrap_or_default(), row.get(Tasks::CREATED_AT).unwrap_or_default());
        let runs = || shared::get().is_some_and(|s| slot::is_running(&s, self.tenant.oid, id, created_at));
        while row.letter(Tasks::STATE).is_task() && (self.even_running || !runs()) {
            match if self.waits { Some(self.table.delete(&row)) } else { self.table.try_delete(&row) } {
                Some(Write::Done) => return Some(row),
                Some(Write::Overtaken) => {}
                None => {
                    self.held.set(true);
                    return None;
                }
            }
            // Of a flow a member that ended meanwhile has counted it down: as it is now.
            row = self.now(id).filter(|row| members::is_flow(row.get(Tasks::HANDLER).unwrap_or("")))?;
        }
        None
    }

    /// Its row has gone: tells who listens, and how it has ended.
    fn ended(&self, row: &Row<Tasks>) -> End<'static> {
        let (id, created_at) = (row.get(Tasks::ID).unwrap_or_default(), row.get(Tasks::CREATED_AT).unwrap_or_default());
        tell::ended_unrun(&self.tenant, row, Ended::Cancelled, None);
        wake::cancelled(self.tenant.oid, id, created_at);
        End { state: Ended::Cancelled, attempts: row.get(Tasks::ATTEMPTS).unwrap_or(0), ..End::default() }
    }
}
