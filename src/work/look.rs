//! Who looks for tasks, for what, and what may be said of a row then: what a walk (scan.rs) is asked.

use crate::handler::Handler;
use crate::postgres::row::Row;
use crate::pure::ids::Id;
use crate::pure::time::At;
use crate::shared::Shared;
use crate::shared::entry::Entry;
use crate::shared::slot::Item;
use crate::tenant::Tenant;
use crate::tenant::columns::Tasks;
use crate::waits::depend;
use std::collections::HashMap;
use std::rc::Rc;

/// A row, and its handler if there is one.
pub type PickedRow = (Row<Tasks>, Option<Rc<Handler>>, Option<At>);

/// What a due row has to wait for.
pub enum Wait {
    Tasks(depend::Answer),
    /// At this gate, behind this task, if one that waits there has stayed in place; else behind what runs.
    Gate(Id, Option<Id>),
    /// For its queue's turn, or no longer: it is in the wrong run of rows.
    Turn,
}

/// What another executor's slot names, or a worker's claim, as a pick has found it.
#[derive(Clone, Copy)]
pub struct InSlot {
    /// None: a claim.
    pub slot: Option<usize>,
    pub item: Item,
}

/// What somebody looks for.
#[derive(Clone, Copy)]
pub enum Purpose<'a> {
    /// Tasks that this executor runs.
    Run,
    /// Tasks that a worker takes, of those that it offers to do.
    Take(&'a dyn Offers),
    /// What is to be done about workers' tasks that none of them can do: rows that wait, or have ended without running. Such are
    /// what is found then.
    Tidy,
}

/// What a worker takes.
pub trait Offers {
    /// Whether tasks of this handler, in this queue.
    fn has(&self, handler: &Handler, queue: Option<&str>) -> bool;
    /// In whose company this life of a task is taken, behind so many others.
    fn company(&self, id: Id, created_at: At, behind: usize) -> Company;
}

/// In whose company a worker may have a task.
pub enum Company {
    Any,
    /// Nobody's, now and until it is over.
    Alone,
    /// The same, and the worker has others: where it is noted.
    Others(u32),
}

/// Who looks, at what, as of when.
pub struct Look<'a> {
    pub purpose: Purpose<'a>,
    pub shared: &'a Shared,
    /// Of the own slot.
    pub place: usize,
    pub entry: &'a Entry,
    pub role: u32,
    pub tenant: &'a Rc<Tenant>,
    /// Tasks of the tenant that others' slots name.
    pub in_slots: &'a HashMap<Id, InSlot>,
    pub now: At,
    /// Somebody listens to tasks being enqueued.
    pub asks: bool,
}
