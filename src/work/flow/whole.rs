//! A flow as a whole: all of it that is not finished, to any depth.

use crate::postgres::error::Result;
use crate::postgres::relation::Table;
use crate::postgres::row::Row;
use crate::postgres::transaction;
use crate::pure::ids::Id;
use crate::task::options::Options;
use crate::tenant::columns::Tasks;
use crate::waits::members::{self, Visited};

/// The row as it is now.
pub fn now(tasks: &Table<Tasks>, id: Id) -> Option<Row<Tasks>> {
    transaction::with_latest_snapshot(|| tasks.find(Tasks::ID.equals(id)))
}

/// Hands over each unfinished task of a flow, members before the flow that they are of: the order in which ends lock rows. The
/// last one is `whole` itself, the only one where it isn't a flow. `but`: not this one.
pub fn each(tasks: &Table<Tasks>, whole: Row<Tasks>, but: Option<Id>, mut visit: impl FnMut(Row<Tasks>) -> Result<()>) -> Result<()> {
    let mut visited = Visited::default();
    let mut begun = |row: Row<Tasks>| {
        let (id, options) = (row.get(Tasks::ID).unwrap_or_default(), Options::of(&row));
        (members::number_of(&options) == 0 || visited.enter(id)).then(|| (row, members::members_of(id, &options)))
    };
    let mut open = Vec::from_iter(begun(whole));
    while let Some((_, members)) = open.last_mut() {
        pgrx::check_for_interrupts!();
        match members.next() {
            Some(id) if but == Some(id) => {}
            Some(id) => open.extend(now(tasks, id).and_then(&mut begun)),
            None => {
                if let Some((row, _)) = open.pop() {
                    visit(row)?;
                }
            }
        }
    }
    Ok(())
}
