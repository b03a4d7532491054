//! Who looks for tasks, for what, and what may be said of a row then: what a walk (scan.rs) is asked, and what it brings.

use crate::handler::Handler;
use crate::postgres::row::Row;
use crate::pure::ids::Id;
use crate::pure::time::At;
use crate::shared::Shared;
use crate::shared::entry::Entry;
use crate::shared::runs::Known;
use crate::shared::slot::{GATES, Item};
use crate::tenant::Tenant;
use crate::tenant::columns::Tasks;
use crate::waits::depend;
use crate::work::cursors::Moved;
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

/// A look that takes nothing, but passes by more rows than that, is in vain.
const UNTOUCHABLE: usize = 500;

/// What a walk brings.
pub struct Found {
    pub rows: Vec<PickedRow>,
    /// What each of `rows` has passed.
    pub gates: Vec<[u64; GATES]>,
    /// Where each source's rows end in `rows`.
    pub ends: Vec<usize>,
    /// Rows whose handler can't be called now.
    pub park: Vec<Item>,
    pub wait: Vec<(Row<Tasks>, Wait)>,
    /// When there is something to look for again.
    pub due: At,
    /// The same of rows that are due, and whose state is about to be another, whoever looks.
    pub again: At,
    /// Since when the first of the rows that are left could have been taken; UNSET: there is none.
    pub oldest: At,
    pub moved: Vec<Moved>,
    /// The same of runs that were walked along.
    pub runs: Vec<Known>,
    /// All sources were walked to their ends.
    pub exhausted: bool,
    /// A row waits for the end of another one: whoever ends it wakes the tenant.
    pub awaits_end: bool,
    /// Rows that were this role's until its right was taken away: the owner's entry is to look.
    pub homeless: bool,
    /// Roles whose executors ask about a row before it may run, and when the first of these came due.
    pub asking: HashMap<u32, At>,
    /// What slots name though the rows are others by now: their attempts are over, and their slots about to say so.
    pub outlived: Vec<InSlot>,
    /// Rows looked at that nobody can take now, whoever looks.
    pub(super) untouchable: usize,
    /// Since when the first row that other workers are to do could have been taken; and whether there are more of those than are
    /// passed by.
    pub foreign: Option<At>,
    pub crowded: bool,
    /// Tasks that this worker can't have beside its others, where each is noted: see shared/alone.rs.
    pub passed: Vec<u32>,
    /// Rows that have ended without running: an executor is to say so.
    pub doomed: bool,
}

impl Found {
    pub(super) fn nothing() -> Found {
        Found {
            rows: Vec::new(),
            gates: Vec::new(),
            ends: Vec::new(),
            park: Vec::new(),
            wait: Vec::new(),
            due: At::NEVER,
            again: At::NEVER,
            oldest: At::UNSET,
            moved: Vec::new(),
            runs: Vec::new(),
            exhausted: true,
            awaits_end: false,
            homeless: false,
            asking: HashMap::new(),
            outlived: Vec::new(),
            untouchable: 0,
            foreign: None,
            crowded: false,
            passed: Vec::new(),
            doomed: false,
        }
    }

    /// Looking again at once, by whomever, would find the same: `due` says when.
    pub fn is_in_vain(&self, entry: &Entry) -> bool {
        self.rows.is_empty() && self.untouchable > UNTOUCHABLE && self.moved.iter().all(|moved| moved.goes_nowhere(entry))
    }
}
