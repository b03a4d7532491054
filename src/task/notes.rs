//! Notes that stay in place of a row that is gone, so that its id isn't used again.

use crate::postgres::relation::{Table, Write};
use crate::postgres::row::Row;
use crate::pure::ids::Id;
use crate::pure::state::{Ended, Stored};
use crate::tenant::columns::{Results, Tasks};

/// Whether a row of tq_task may have stayed behind for this finished task: it keeps its unique key, or says
/// that it is quarantined.
pub(crate) fn leaves_a_note(row: &Row<Results>) -> bool {
    row.has(Results::UNIQUE_KEY) || row.letter(Results::STATE) == Ended::Quarantined
}

pub(crate) fn forget_note(tasks: &Table<Tasks>, id: Id) {
    let note = |r: &Row<Tasks>| matches!(r.letter(Tasks::STATE), Stored::Key | Stored::Quarantined);
    if let Some(row) = tasks.find(Tasks::ID.equals(id)).filter(note) {
        // Lost: somebody else has just done it.
        let _: Write = tasks.delete(&row);
    }
}
