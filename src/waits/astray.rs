//! Rows whose wait nobody ends: what they wait for was deleted by hand, or is missing from a restored dump.
//!
//! Ends let go of what waits for them, so that is never the engine's doing. A sweep looks for such rows, and whoever works
//! for the tenant next puts them right (work/review.rs).

use crate::postgres::relation::Table;
use crate::postgres::row::Row;
use crate::postgres::transaction;
use crate::pure::choice::Settled;
use crate::pure::ids::Id;
use crate::pure::state::Stored;
use crate::task::options::Options;
use crate::tenant::columns::{Results, Tasks};
use crate::waits::{link, members};
use std::collections::HashMap;

/// Rows that a sweep reads of a tenant to find out; where there are more it is found out by reading all.
const LOOKS: usize = 1000;
/// Flows that are looked at at once.
const FLOWS: usize = 100_000;

fn is_unfinished(tasks: &Table<Tasks>, id: Id) -> bool {
    tasks.find(Tasks::ID.equals(id)).is_some_and(|row| row.letter(Tasks::STATE).is_task())
}

/// Neither unfinished nor kept: how it ended is not to be known any more.
pub fn is_gone(tasks: &Table<Tasks>, results: &Table<Results>, id: Id) -> bool {
    !is_unfinished(tasks, id) && results.find(Results::ID.equals(id)).is_none()
}

/// The first member of a flow of which nothing is left: its results can't be gathered again.
pub fn lost_member(tasks: &Table<Tasks>, results: &Table<Results>, flow: Id, options: &Options) -> Option<usize> {
    transaction::with_latest_snapshot(|| members::members_of(flow, options).position(|id| is_gone(tasks, results, id)))
}

/// Whether the row is a flow's own.
pub fn is_flow(row: &Row<Tasks>) -> bool {
    members::is_flow(row.get(Tasks::HANDLER).unwrap_or(""))
}

/// The first of the tasks that a waiting row waits for of which nothing is left.
pub fn gone(tasks: &Table<Tasks>, results: &Table<Results>, row: &Row<Tasks>) -> Option<Id> {
    let waits_for = row.get(Tasks::WAITS_FOR).into_iter();
    waits_for.chain(open_links(tasks, row).iter().filter_map(|link| link.get(Tasks::WAITS_FOR))).find(|id| is_gone(tasks, results, *id))
}

/// Links of a row whose tasks' ends are not noted yet.
fn open_links(tasks: &Table<Tasks>, row: &Row<Tasks>) -> Vec<Row<Tasks>> {
    let mut links = link::links_of(tasks, row.get(Tasks::ID).unwrap_or_default());
    links.retain(|link| link.has(Tasks::WAITS_FOR));
    links
}

/// Notes which of the tasks are gone that a waiting row waits for.
pub fn note_gone(tasks: &Table<Tasks>, results: &Table<Results>, row: &Row<Tasks>) {
    if let Some(on) = row.get(Tasks::WAITS_FOR).filter(|on| is_gone(tasks, results, *on)) {
        link::write_if_missing(tasks, row, on, Some(Settled::Gone));
    }
    for link in open_links(tasks, row) {
        if is_link_gone(tasks, results, &link) {
            link::settle(tasks, &link, Settled::Gone);
        }
    }
}

/// Whether a waiting row, though not a flow's for its members, waits for what isn't unfinished any more, or for what is gone.
pub fn is_over(tasks: &Table<Tasks>, results: &Table<Results>, row: &Row<Tasks>) -> bool {
    if is_flow(row) && !row.has(Tasks::WAITS_FOR) {
        return false;
    }
    let ended = row.get(Tasks::WAITS_FOR).is_some_and(|on| !is_unfinished(tasks, on));
    ended || Options::of(row).depends.len() > 1 && open_links(tasks, row).iter().any(|link| is_link_gone(tasks, results, link))
}

fn is_link_gone(tasks: &Table<Tasks>, results: &Table<Results>, link: &Row<Tasks>) -> bool {
    link.get(Tasks::WAITS_FOR).is_some_and(|of| is_gone(tasks, results, of))
}

/// How many members a flow waits for of which no row is left. `tasks`: as of one moment.
pub fn lost_members(tasks: &Table<Tasks>, flow: &Row<Tasks>, looks: &mut usize) -> usize {
    if !is_flow(flow) {
        return 0;
    }
    let mut awaited = flow.get(Tasks::WAITS).map_or(0, |waits| waits.max(0) as usize);
    for id in members::members_of(flow.get(Tasks::ID).unwrap_or_default(), &Options::of(flow)) {
        if awaited == 0 || *looks == 0 {
            break;
        }
        *looks -= 1;
        awaited -= usize::from(is_unfinished(tasks, id));
    }
    awaited
}

/// Flows that wait for more members than have a row. `tasks`: as of one moment.
pub fn lacking_members(tasks: &Table<Tasks>) -> Vec<Id> {
    let rows = |state| tasks.scan(&Tasks::PICK, &[Tasks::STATE.equals(state)]);
    let awaits = |row: Row<Tasks>| {
        let waits = row.get(Tasks::WAITS).filter(|waits| *waits > 0 && is_flow(&row))?;
        Some((row.get(Tasks::ID)?, waits))
    };
    let mut awaited: HashMap<Id, i32> = rows(Stored::Waiting).filter_map(awaits).take(FLOWS).collect();
    if awaited.is_empty() {
        return vec![];
    }
    for state in Stored::UNFINISHED {
        for (nth, row) in rows(state).enumerate() {
            if nth % 1000 == 0 {
                pgrx::check_for_interrupts!();
            }
            if let Some(members) = row.get(Tasks::PARENT_ID).and_then(|flow| awaited.get_mut(&flow)) {
                *members -= 1;
            }
        }
    }
    awaited.into_iter().filter(|(_, lost)| *lost > 0).map(|(flow, _)| flow).collect()
}

/// Whether some of a tenant's waiting rows may have gone astray.
pub fn may_be(tasks: &Table<Tasks>, results: &Table<Results>) -> bool {
    let mut looks = LOOKS;
    for row in tasks.scan(&Tasks::PICK, &[Tasks::STATE.equals(Stored::Waiting)]) {
        looks = looks.saturating_sub(1 + Options::of(&row).depends.len());
        let astray = lost_members(tasks, &row, &mut looks) > 0 || is_over(tasks, results, &row);
        if astray || looks == 0 {
            return true;
        }
    }
    false
}
