//! What a task is: made, written, found, described and ended. No decisions about when it runs.

pub mod current;
pub mod document;
pub mod end;
pub mod insert;
pub mod lookup;
pub mod new;
pub mod notes;
pub mod options;
pub mod place;
pub mod queue;
pub mod rules;

use crate::postgres::row::Row;
use crate::pure::time::At;
use crate::shared::counters::Counted;
use crate::tenant::columns::Tasks;
/// From when on it could run: a time of the past is what somebody has asked for, not what it has waited.
pub fn due(row: &Row<Tasks>) -> At {
    row.get(Tasks::RUN_AT).max(row.get(Tasks::CREATED_AT)).unwrap_or_default()
}

/// What the counters want to know of the attempt that this row stands before.
pub fn counted(row: &Row<Tasks>) -> Counted<'_> {
    Counted {
        id: row.get(Tasks::ID).unwrap_or_default(),
        handler: row.get(Tasks::HANDLER).unwrap_or(""),
        attempt: row.get(Tasks::ATTEMPTS).unwrap_or(0) + 1,
        schedule: row.get(Tasks::SCHEDULE).unwrap_or(""),
        due: Some(due(row)),
    }
}
