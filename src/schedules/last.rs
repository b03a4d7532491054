//! A schedule's last task: how it ended, when its result is gone; and what a fire time finds of it.

use crate::postgres::caught::{Failure, Own};
use crate::postgres::error::Result;
use crate::postgres::relation::{Access, Table, Write};
use crate::postgres::row::Row;
use crate::postgres::sqlstate::SqlState;
use crate::postgres::{clock, row_lock, transaction};
use crate::pure::choice::Named;
use crate::pure::ids::Id;
use crate::pure::schedule::catch_up::Overlap;
use crate::pure::state::Ended;
use crate::pure::time::At;
use crate::schedules::follow::{self, Gone, LastEnds, Notes, Rewrite};
use crate::task::options::Options;
use crate::tenant::Tenant;
use crate::tenant::columns::{Results, Schedules, Tasks};
use std::collections::HashMap;

fn gone(id: Id, ended: Ended) -> Option<Gone> {
    Some(Gone { task: id.to_string(), status: ended.seen().name().to_string() })
}

/// The result of a task goes, by somebody's call: its schedule keeps how its last task ended.
pub fn keep(tenant: &Tenant, row: &Row<Results>) -> Result<()> {
    let Some(name) = row.text(Results::SCHEDULE) else { return Ok(()) };
    let table = tenant.open(tenant.schedule, Access::Write)?;
    let id = row.get(Results::ID).unwrap_or_default();
    follow::change(&table, &name, |schedule| {
        let mut state = Notes::of(schedule);
        if schedule.get(Schedules::LAST_TASK) == Some(id) {
            state.gone = gone(id, row.letter(Results::STATE));
        }
        if row.letter(Results::STATE) == Ended::Done {
            state.succeeded = state.succeeded.max(row.get(Results::FINISHED_AT));
        }
        (state != Notes::of(schedule)).then_some(Rewrite { state, columns: vec![] })
    })?;
    Ok(())
}

/// The same for many results that go by the way: nobody's transaction is waited for.
pub struct LastTasks<'a> {
    tenant: &'a Tenant,
    table: Option<Table<Schedules>>,
    /// By schedule, as far as asked.
    known: HashMap<String, Known>,
}

/// What is not to be forgotten of a schedule's tasks.
#[derive(Clone, Copy, Default)]
struct Known {
    task: Option<Id>,
    /// The end of the newest one that ended well, where it is among the newest results; else one that is noted.
    success: Option<At>,
}

/// Results of a schedule that are looked at for one that ended well.
const NEWEST: usize = 100;

impl<'a> LastTasks<'a> {
    pub fn of(tenant: &'a Tenant) -> LastTasks<'a> {
        LastTasks { tenant, table: None, known: HashMap::new() }
    }

    /// False: somebody is changing the schedule, so that the result had better stay for now.
    pub fn keep(&mut self, row: &Row<Results>, results: &Table<Results>) -> Result<bool> {
        let Some(name) = row.text(Results::SCHEDULE) else { return Ok(true) };
        let id = row.get(Results::ID).unwrap_or_default();
        let ended = row.letter(Results::STATE);
        let success = row.get(Results::FINISHED_AT).filter(|_| ended == Ended::Done);
        // Of those that ended well only the newest one counts, and only where it goes.
        let is_old = |known: &Known| known.task != Some(id) && success.is_none_or(|at| known.success.is_some_and(|newest| at < newest));
        if self.known.get(&name).is_some_and(is_old) {
            return Ok(true);
        }
        if self.table.is_none() {
            self.table = self.tenant.try_open(self.tenant.schedule, Access::Write)?;
        }
        let Some(table) = &self.table else { return Ok(false) };
        let found = follow::find(table, &name);
        let newest = LastEnds::among(results, &name, NEWEST).success;
        let known = match &found {
            Some(schedule) => Known { task: schedule.get(Schedules::LAST_TASK), success: newest.or(Notes::of(schedule).succeeded) },
            None => Known { task: None, success: Some(At::NEVER) },
        };
        self.known.insert(name, known);
        Ok(is_old(&known) || found.is_none_or(|schedule| note(table, &schedule, id, ended, success)))
    }
}

/// A task has ended that leaves no result: its schedule has its outcome, unless somebody is just changing it.
pub fn unsaved(tenant: &Tenant, row: &Row<Tasks>, ended: Ended) -> std::result::Result<(), Failure> {
    let Some(name) = row.text(Tasks::SCHEDULE) else { return Ok(()) };
    let table = tenant.open(tenant.schedule, Access::Write)?;
    let id = row.get(Tasks::ID).unwrap_or_default();
    if let Some(schedule) = follow::find(&table, &name).filter(|schedule| schedule.get(Schedules::LAST_TASK) == Some(id)) {
        note(&table, &schedule, id, ended, Some(clock::now()).filter(|_| ended == Ended::Done));
    }
    Ok(())
}

fn note(table: &Table<Schedules>, schedule: &Row<Schedules>, id: Id, ended: Ended, success: Option<At>) -> bool {
    let mut notes = Notes::of(schedule);
    if schedule.get(Schedules::LAST_TASK) == Some(id) {
        notes.gone = gone(id, ended);
    }
    notes.succeeded = notes.succeeded.max(success);
    if notes == Notes::of(schedule) {
        return true;
    }
    let document = notes.document();
    let noted = row_lock::try_lock(table, schedule) && table.update(schedule, &[Schedules::STATE.to(document.as_ref())]) == Write::Done;
    transaction::see_own_writes();
    noted
}

/// What a row says of overlapping; None: what its catch_up implies.
fn overlap(schedule: &Row<Schedules>) -> Option<Overlap> {
    schedule.get(Schedules::OVERLAP).and_then(Overlap::of)
}

/// The schedule that this task of one is the last task of, unless its tasks may overlap.
fn schedule_of(tenant: &Tenant, row: &Row<Tasks>) -> Result<Option<(Table<Schedules>, Row<Schedules>)>> {
    let Some(name) = row.text(Tasks::SCHEDULE).filter(|_| Options::of(row).alone) else { return Ok(None) };
    let Some(table) = tenant.try_open(tenant.schedule, Access::Read)? else { return Ok(None) };
    let found = follow::find(&table, &name);
    Ok(found.map(|row| (table, row)))
}

/// An attempt has failed that is to be tried again: with overlap 'renew' it isn't, where a newer task of its schedule waits
/// already. Superseded then.
pub fn refuse_behind(tenant: &Tenant, tasks: &Table<Tasks>, row: &Row<Tasks>) -> std::result::Result<(), Failure> {
    let Some((_, schedule)) = schedule_of(tenant, row)? else { return Ok(()) };
    let last = schedule.get(Schedules::LAST_TASK).filter(|last| row.get(Tasks::ID) != Some(*last));
    let waits = |last: &Id| tasks.find(Tasks::ID.equals(*last)).is_some_and(|row| row.letter(Tasks::STATE).is_task());
    match last.filter(waits).filter(|_| overlap(&schedule) == Some(Overlap::Renew)) {
        None => Ok(()),
        Some(last) => Err(Failure::ours(Own::Superseded, SqlState::SUPERSEDED, format!("task {last} of the next fire time waits already"))),
    }
}

/// What a task that waits for its retry keeps its schedule from: for tq_why.
pub fn holds_back(tenant: &Tenant, row: &Row<Tasks>) -> Result<Option<String>> {
    let Some((_, schedule)) = schedule_of(tenant, row)? else { return Ok(None) };
    if schedule.get(Schedules::LAST_TASK) != row.get(Tasks::ID) || overlap(&schedule) == Some(Overlap::Renew) {
        return Ok(None);
    }
    Ok(schedule.text(Schedules::NAME))
}
