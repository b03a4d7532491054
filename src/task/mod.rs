//! What a task is: made, written, found, described and ended. No decisions about when it runs.

pub mod current;
pub mod document;
pub mod end;
pub mod event;
pub mod insert;
pub mod lookup;
pub mod new;
pub mod notes;
pub mod place;
pub mod queue;
pub mod rules;

use crate::postgres::relation::Row;
use crate::shared::counters::Counted;
use crate::tenant::columns;
/// What the counters want to know of the attempt that this row stands before.
pub fn counted(row: &Row) -> Counted<'_> {
    Counted {
        id: row.uuid(columns::col::ID).unwrap_or(0),
        handler: row.str(columns::col::HANDLER).unwrap_or(""),
        attempt: row.i32(columns::col::ATTEMPTS).unwrap_or(0) + 1,
        schedule: row.str(columns::col::SCHEDULE).unwrap_or(""),
        run_at: row.time(columns::col::RUN_AT),
    }
}
