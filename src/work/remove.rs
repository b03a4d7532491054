//! Results that go: what goes with them, and what is kept of them elsewhere.

use crate::postgres::caught::Failure;
use crate::postgres::relation::{Table, Write};
use crate::postgres::row::Row;
use crate::schedules::last;
use crate::tenant::Tenant;
use crate::tenant::columns::{Results, Tasks};
use crate::waits::results;

/// Deletes a finished task's result: see waits/results.rs. Its schedule keeps how its last task ended.
pub fn result(tenant: &Tenant, tasks: &Table<Tasks>, results: &Table<Results>, row: &Row<Results>) -> Result<Write, Failure> {
    let gone = results::delete(tenant, tasks, results, row)?;
    if gone == Write::Done {
        last::keep(tenant, row)?;
    }
    Ok(gone)
}
