//! Results that go, what still needs them, and what they make together.

use crate::postgres::caught::Failure;
use crate::postgres::error::{Error, Result as Answer};
use crate::postgres::relation::{Table, Write};
use crate::postgres::row::Row;
use crate::postgres::transaction;
use crate::postgres::types::Jsonb;
use crate::pure::state::Ended;
use crate::task::notes;
use crate::task::options::Options;
use crate::tenant::Tenant;
use crate::tenant::columns::{Results, Tasks};
use crate::waits::{depend, link};

/// Deletes a finished task's result, and what stands in its place: the unique key that it kept, what it knew of tasks that
/// it depended on. Whoever depends on it keeps how it ended.
pub fn delete(tenant: &Tenant, tasks: &Table<Tasks>, results: &Table<Results>, row: &Row<Results>) -> Result<Write, Failure> {
    let gone = results.delete(row);
    if gone != Write::Done {
        return Ok(gone);
    }
    let id = row.get(Results::ID).unwrap_or_default();
    if notes::leaves_a_note(row) {
        transaction::with_latest_snapshot(|| notes::forget_note(tasks, id));
    }
    if row.has(Results::OPTIONS) && !Options::of_result(row).depends.is_empty() {
        link::forget(tasks, id, None);
    }
    depend::forgotten(tenant, tasks, id, row.letter(Results::STATE).into())?;
    Ok(gone)
}

/// A flow that isn't final gathers its members' results at its end.
pub fn is_needed(tasks: &Table<Tasks>, row: &Row<Results>) -> bool {
    row.get(Results::PARENT_ID).is_some_and(|flow| tasks.find(Tasks::ID.equals(flow)).is_some())
}

/// The same, or its flow has not ended well: run again, it gathers what has.
pub fn may_be_needed(tasks: &Table<Tasks>, results: &Table<Results>, row: &Row<Results>) -> bool {
    let unwell = |flow| results.find(Results::ID.equals(flow)).is_some_and(|flow| flow.letter(Results::STATE) != Ended::Done);
    is_needed(tasks, row) || row.get(Results::PARENT_ID).is_some_and(unwell)
}

/// Somebody is just changing what is to be told of it: a deletion would wait for them.
pub fn is_busy(tasks: &Table<Tasks>, row: &Row<Results>) -> bool {
    row.get(Results::ID).is_some_and(|id| depend::waiting_for(tasks, id).any(|row| row.in_flux))
}

/// Results of several tasks, put together as they are kept, so that nothing of them is lost, however deep they are nested.
#[derive(Default)]
pub struct Together {
    elements: Vec<Jsonb>,
    bytes: usize,
}

/// Bytes of one document's elements.
const ELEMENTS_MAX: usize = 0x0FFF_FFFF;
/// At most so many of a document's bytes are not an element's where it is one.
const HEADER: usize = 16;

impl Together {
    pub fn push(&mut self, element: Jsonb) {
        self.bytes += element.size().saturating_sub(HEADER);
        if self.is_too_large() {
            // Nobody needs them any more.
            self.elements = Vec::new();
        } else {
            self.elements.push(element);
        }
    }
    fn is_too_large(&self) -> bool {
        self.bytes > ELEMENTS_MAX
    }
    /// 54000 for more than one document holds.
    pub fn array(&self) -> Answer<Jsonb> {
        match self.is_too_large() {
            true => Err(Error::limit("the results together are too large for one document")),
            false => Jsonb::array(&self.elements),
        }
    }
}
