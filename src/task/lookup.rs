//! Finding one task: waiting or kept.

use crate::handler;
use crate::postgres::error::Result;
use crate::postgres::relation::Table;
use crate::postgres::row::{Row, Tid};
use crate::postgres::transaction;
use crate::pure::ids::Id;
use crate::shared::entry;
use crate::shared::slot::{GATES, Item};
use crate::task::place;
use crate::tenant::Tenant;
use crate::tenant::columns::{Results, Tasks};

pub fn item_of(row: &Row<Tasks>) -> Item {
    Item {
        id: row.get(Tasks::ID).unwrap_or_default(),
        tid: row.tid.word(),
        created_at: row.get(Tasks::CREATED_AT).unwrap_or_default(),
        attempts: row.get(Tasks::ATTEMPTS).unwrap_or(0),
        gates: [0; GATES],
    }
}

/// Whether the row is the very incarnation of the task that was picked.
pub fn is_it(row: &Row<Tasks>, item: &Item) -> bool {
    row.get(Tasks::ID) == Some(item.id)
        && row.get(Tasks::CREATED_AT) == Some(item.created_at)
        && row.get(Tasks::ATTEMPTS) == Some(item.attempts)
}

/// The row of a picked task, wherever it is now. None: it is gone, or another incarnation.
pub fn find(table: &Table<Tasks>, item: &Item) -> Option<Row<Tasks>> {
    let is_it = |row: &Row<Tasks>| is_it(row, item);
    // Usually it is where it was picked; after a rewrite of the table the index knows.
    table.fetch(Tid::of_word(item.tid)).filter(is_it).or_else(|| table.find(Tasks::ID.equals(item.id)).filter(is_it))
}

/// The entry of the role that an unfinished task runs as.
pub(crate) fn entry_of(tenant: &Tenant, row: &Row<Tasks>) -> Result<Option<entry::EntryRef>> {
    let handler = handler::find(tenant, row.get(Tasks::HANDLER).unwrap_or(""))?;
    tenant.entry(place::role(tenant, row.letter(Tasks::STATE), handler.as_deref()))
}

/// What is known of a task.
pub enum Found {
    Unfinished(Row<Tasks>),
    Finished(Row<Results>),
    Nothing,
}

pub fn look_up(tasks: &Table<Tasks>, results: &Table<Results>, id: Id) -> Found {
    transaction::with_latest_snapshot(|| {
        // Finished last: a task that ends between the two looks is found by the second.
        if let Some(row) = results.find(Results::ID.equals(id)) {
            return Found::Finished(row);
        }
        match tasks.find(Tasks::ID.equals(id)) {
            Some(row) if row.letter(Tasks::STATE).is_task() => Found::Unfinished(row),
            _ => Found::Nothing,
        }
    })
}
