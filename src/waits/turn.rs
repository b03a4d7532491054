//! Whose turn it is: where a tenant's due tasks are found, and in which order.
//!
//! Usually there is one place, the common order: priority, due time, id. A queue set up with
//! `pick => 'round_robin'` or `'random'` has an order of its own and takes turns with the common one
//! and with other such queues, so that nobody's urgent flood keeps it from running. Its rows are out
//! of the common run: state `t`, `waits_for` = the queue's key, by which an index that is there
//! anyway finds them in the same order.

use crate::postgres::column::{Index, Key};
use crate::postgres::relation::Table;
use crate::pure::ids::{self, Id};
use crate::pure::state::Stored;
use crate::tenant::Tenant;
use crate::tenant::columns::Tasks;
use crate::tenant::queue::Pick;

/// One of the places where due tasks are found.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The common order.
    Common,
    /// The one of workers' tasks.
    External,
    /// That of a queue that takes turns: its key.
    Queue(Id),
}

impl Source {
    /// What shared memory names it by; 0 = the common order, of an entry's tasks.
    pub fn mark(&self) -> u64 {
        match self {
            Source::Common | Source::External => 0,
            Source::Queue(key) => key.low() | 1,
        }
    }
    /// The index that has its rows: behind the first column both have priority, due time and id.
    pub fn index(&self) -> &'static Index<Tasks> {
        if let Source::Queue(_) = self { &Tasks::WAITING } else { &Tasks::PICK }
    }
    /// The condition on the first column.
    pub fn is_its<'a>(&self) -> Key<'a, Tasks> {
        match self {
            Source::Common => Tasks::STATE.equals(Stored::Queued),
            Source::External => Tasks::STATE.equals(Stored::External),
            Source::Queue(queue) => Tasks::WAITS_FOR.equals(*queue),
        }
    }
    /// The highest priority present strictly between the two bounds.
    pub fn first_priority(&self, table: &Table<Tasks>, below: Option<i16>, above: Option<i16>) -> Option<i16> {
        let mut keys = vec![self.is_its()];
        keys.extend(below.map(|below| Tasks::PRIORITY.below(below)));
        keys.extend(above.map(|above| Tasks::PRIORITY.above(above)));
        table.scan(self.index(), &keys).next()?.get(Tasks::PRIORITY)
    }
}

/// Whether any queue has an order of its own, or had and may still have rows there.
pub fn any(tenant: &Tenant) -> bool {
    tenant.queues.iter().any(|q| q.pick.is_some())
}

/// All places, in the order of their turns after `last`, the mark of the one served last.
pub fn sources(tenant: &Tenant, last: u64) -> Vec<Source> {
    if !any(tenant) {
        return vec![Source::Common];
    }
    let is = |drawn: bool| {
        // A queue that is picked by priority again is looked at for what is left of its own order.
        let queues = tenant.queues.iter().filter(move |q| q.pick.is_some_and(|p| (p == Pick::Random) == drawn));
        queues.map(|q| Source::Queue(ids::turn_id(&q.name)))
    };
    let mut order: Vec<Source> = std::iter::once(Source::Common).chain(is(false)).collect();
    let next = order.iter().position(|s| s.mark() == last).map_or(0, |n| n + 1);
    let count = order.len();
    order.rotate_left(next % count);
    for source in is(true) {
        order.insert(Id::fresh().low() as usize % (order.len() + 1), source);
    }
    order
}

/// Whether serving this one moves the turn on: one whose place is drawn doesn't.
pub fn moves_on(tenant: &Tenant, source: &Source) -> bool {
    !tenant.queues.iter().any(|q| q.pick == Some(Pick::Random) && *source == Source::Queue(ids::turn_id(&q.name)))
}
