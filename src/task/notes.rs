//! Notes that stay in place of a row that is gone, so that its id isn't used again.

use crate::postgres::relation::{Gone, Row, Table, Value};
use crate::pure::state::{ended, stored};
use crate::tenant::columns::{col, rcol};

/// Whether a row of tq_task may have stayed behind for this finished task: it keeps its unique key, or says
/// that it is quarantined.
pub(crate) fn leaves_a_note(row: &Row) -> bool {
    row.raw(rcol::UNIQUE_KEY).is_some() || row.char(rcol::STATE) == ended::QUARANTINED
}

pub(crate) fn forget_note(tasks: &Table, id: u128) {
    let note = |r: &Row| matches!(r.char(col::STATE), stored::KEY | stored::QUARANTINED);
    if let Some(row) = tasks.find(&[col::ID as i16], Value::Uuid(id)).filter(note) {
        // Lost: somebody else has just done it.
        let _: Gone = tasks.delete(&row);
    }
}

/// Deletes a finished task, and the unique key that it may have kept.
pub(crate) fn delete_result(tasks: &Table, results: &Table, row: &Row) -> Gone {
    let gone = results.delete(row);
    if gone == Gone::Done && leaves_a_note(row) {
        forget_note(tasks, row.uuid(rcol::ID).unwrap_or(0));
    }
    gone
}
