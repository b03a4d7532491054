//! tenant_q.all_schedule_rows(), behind tq_all_schedules: the schedules of all tenants that the caller may see.
//!
//! Read when somebody asks, tenant by tenant, some of one at a time, and handed on at once: however many there are, no more than
//! that is held. Each part is read in a subtransaction that is taken back, so that the locks on one tenant's tables are gone
//! before the next one's are taken.

use super::schedules::last_status;
use crate::postgres::caught::Failure;
use crate::postgres::error::{Error, Result};
use crate::postgres::relation::{Access, Table};
use crate::postgres::row::Row;
use crate::postgres::rows::{self, Cell, row};
use crate::postgres::sqlstate::SqlState;
use crate::postgres::subtransaction;
use crate::schedules::follow::LastEnds;
use crate::schedules::of_all;
use crate::schedules::row::ROW;
use crate::schedules::trouble;
use crate::tenant::columns::{Results, Schedules, Tasks};
use crate::tenant::{self, Tenant, rights};
use std::rc::Rc;

/// Schedules of one tenant that are read at a time.
const PART: usize = 200;
/// Results of a schedule that are looked at for its last success and its last failure; older ones are noted with the schedule.
const NEWEST: usize = 100;

pub fn rows() -> Result<impl Iterator<Item = Result<rows::Row>>> {
    let mut tenants = rights::visible_tenants()?.into_iter();
    let mut part = Vec::new().into_iter();
    // The tenant that is being read, and the last name.
    let mut reading: Option<(rights::Visible, String)> = None;
    Ok(std::iter::from_fn(move || {
        loop {
            if let Some(row) = part.next() {
                return Some(Ok(row));
            }
            let (tenant, behind) = match reading.take() {
                Some(reading) => reading,
                None => (tenants.next()?, String::new()),
            };
            pgrx::check_for_interrupts!();
            match read(&tenant, &behind) {
                Ok(Part { rows, last }) => {
                    part = rows.into_iter();
                    reading = last.map(|last| (tenant, last));
                }
                // Not silently short: a line that says so.
                Err(problem) => return Some(Ok(unreadable(&tenant.name, problem))),
            }
        }
    }))
}

struct Part {
    rows: Vec<rows::Row>,
    /// The last name, where there may be more behind it.
    last: Option<String>,
}

/// Err: why they can't be read.
fn read(tenant: &rights::Visible, behind: &str) -> std::result::Result<Part, String> {
    let mut read = Err("its schedules could not be read".to_string());
    let taken_back = subtransaction::run(|| {
        read = tenant::by_oid(tenant.oid).and_then(|tenant| part_of(&tenant, behind)).map_err(|error| error.message);
        Err::<(), _>(Failure::new(SqlState::SUCCESSFUL_COMPLETION, "read"))
    });
    match taken_back {
        Err(failure) if failure.sqlstate != SqlState::SUCCESSFUL_COMPLETION => Err(failure.message),
        _ => read,
    }
}

fn part_of(tenant: &Rc<Tenant>, behind: &str) -> Result<Part> {
    let locked = || Error::state("its tables are locked");
    let table = tenant.try_open(tenant.schedule, Access::Read)?.ok_or_else(locked)?.fetch_at_most(ROW);
    let tasks = tenant.try_open(tenant.task, Access::Read)?.ok_or_else(locked)?.fetch_at_most(0);
    let results = tenant.try_open(tenant.result, Access::Read)?.ok_or_else(locked)?.fetch_at_most(0);
    let found: Vec<Row<Schedules>> = table.scan(&Schedules::BY_NAME, &[Schedules::NAME.above(behind)]).take(PART).collect();
    let last = found.last().filter(|_| found.len() == PART).and_then(|row| row.text(Schedules::NAME));
    Ok(Part { rows: found.iter().map(|row| shown(tenant, row, &tasks, &results)).collect(), last })
}

fn shown(tenant: &Rc<Tenant>, row: &Row<Schedules>, tasks: &Table<Tasks>, results: &Table<Results>) -> rows::Row {
    let name = row.text(Schedules::NAME).unwrap_or_default();
    let last = LastEnds::among(results, &name, NEWEST).or_noted(row);
    row! {
        "tenant": &tenant.name,
        "name": name,
        "handler": row.text(Schedules::HANDLER),
        "rule": row.text(Schedules::RULE),
        "enabled": row.get(Schedules::ENABLED),
        "next_run": row.get(Schedules::NEXT_RUN),
        "last_run": row.get(Schedules::LAST_RUN),
        "last_status": last_status(tenant, row, tasks, results),
        "last_success": last.success,
        "last_failure": last.failure,
        "run_count": row.get(Schedules::RUN_COUNT),
        "fail_count": row.get(Schedules::FAIL_COUNT),
        "problem": trouble::trouble(tenant, row).map(|(what, _)| what),
        "of_all": of_all::is_of_all(row),
    }
}

fn unreadable(tenant: &str, problem: String) -> rows::Row {
    row! {
        "tenant": tenant,
        "name": Cell::Null,
        "handler": Cell::Null,
        "rule": Cell::Null,
        "enabled": Cell::Null,
        "next_run": Cell::Null,
        "last_run": Cell::Null,
        "last_status": Cell::Null,
        "last_success": Cell::Null,
        "last_failure": Cell::Null,
        "run_count": Cell::Null,
        "fail_count": Cell::Null,
        "problem": problem,
        "of_all": Cell::Null,
    }
}
