//! Finding one task: waiting or kept.

use crate::handler;
use crate::postgres::error::Result;
use crate::postgres::relation::{Row, Table, Value};
use crate::postgres::transaction;
use crate::pure::state;
use crate::shared::entry;
use crate::shared::slot::{GATES, Item};
use crate::tenant::Tenant;
use crate::tenant::columns::{col, rcol};

pub fn item_of(row: &Row) -> Item {
    Item {
        id: row.uuid(col::ID).unwrap_or(0),
        tid: row.tid.0,
        stamp: row.time(col::CREATED_AT).unwrap_or(0),
        attempts: row.i32(col::ATTEMPTS).unwrap_or(0),
        gates: [0; GATES],
    }
}

/// The entry of the role that an unfinished task runs as.
pub(crate) fn entry_of(tenant: &Tenant, row: &Row) -> Result<Option<entry::EntryRef>> {
    let handler = handler::find(tenant, row.str(col::HANDLER).unwrap_or(""))?;
    tenant.entry(handler.map_or(tenant.owner, |h| h.run_as))
}

/// What is known of a task.
pub enum Found {
    Unfinished(Row),
    Finished(Row),
    Nothing,
}

pub fn look_up(tasks: &Table, results: &Table, id: u128) -> Found {
    transaction::with_latest_snapshot(|| {
        // Finished last: a task that ends between the two looks is found by the second.
        if let Some(row) = results.find(&[rcol::ID as i16], Value::Uuid(id)) {
            return Found::Finished(row);
        }
        match tasks.find(&[col::ID as i16], Value::Uuid(id)) {
            Some(row) if state::is_task(row.char(col::STATE)) => Found::Unfinished(row),
            _ => Found::Nothing,
        }
    })
}
