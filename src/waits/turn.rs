//! Whose turn it is: where a tenant's due tasks are found, and in which order.
//!
//! Usually there is one place, the common order: priority, due time, id. A queue set up with
//! `pick => 'round_robin'` or `'random'` has an order of its own and takes turns with the common one
//! and with other such queues, so that nobody's urgent flood keeps it from running. Its rows are out
//! of the common run: state `t`, `waits_for` = the queue's key, by which an index that is there
//! anyway finds them in the same order.

use crate::postgres::error::{Error, Result};
use crate::postgres::relation::{Compare, Key, Row, Table, Value};
use crate::task::{self, PICK_INDEX, WAITS_INDEX, col, stored};
use crate::tenant::Tenant;
use crate::waits::gate;

/// How tasks of a queue are picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pick {
    /// In the tenant's common order.
    Priority,
    /// The queue takes turns, always after the same one.
    RoundRobin,
    /// The queue takes turns, and its place among them is drawn.
    Random,
}

impl Pick {
    pub fn parse(text: &str) -> Result<Pick> {
        Ok(match text {
            "priority" => Pick::Priority,
            "round_robin" => Pick::RoundRobin,
            "random" => Pick::Random,
            other => {
                return Err(Error::invalid(format!("pick is \"{other}\"")).hint("It is one of priority, round_robin, random."));
            }
        })
    }
    pub fn name(self) -> &'static str {
        match self {
            Pick::Priority => "priority",
            Pick::RoundRobin => "round_robin",
            Pick::Random => "random",
        }
    }
}

/// Where a row that could run belongs: its state and `waits_for`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub state: u8,
    pub waits_for: Option<u128>,
}

impl Place {
    /// Of a task of this queue.
    pub fn of(tenant: &Tenant, queue: Option<&str>) -> Place {
        match tenant.queue(queue) {
            Some(q) if matches!(q.pick, Some(Pick::RoundRobin | Pick::Random)) => {
                Place { state: stored::TURN, waits_for: Some(turn_id(&q.name)) }
            }
            _ => Place { state: stored::QUEUED, waits_for: None },
        }
    }
    /// Whether this row is where it belongs.
    pub fn has(self, row: &Row) -> bool {
        self == Place { state: row.char(col::STATE), waits_for: row.uuid(col::WAITS_FOR) }
    }
    /// The columns that put a row there.
    pub fn changes<'a>(self) -> [(usize, Value<'a>); 2] {
        [(col::STATE, Value::Char(self.state)), (col::WAITS_FOR, Value::uuid(self.waits_for))]
    }
}

fn turn_id(queue: &str) -> u128 {
    gate::gate_id("turn", queue)
}

/// One of the places where due tasks are found.
pub struct Source {
    /// None: the common order.
    queue: Option<u128>,
}

impl Source {
    pub const COMMON: Source = Source { queue: None };

    /// What shared memory names it by; 0 = the common order.
    pub fn mark(&self) -> u64 {
        self.queue.map_or(0, |key| key as u64 | 1)
    }
    /// The index that has its rows: behind the first column both have priority, due time and id.
    pub fn index(&self, table: &Table) -> usize {
        table.index_with(if self.queue.is_none() { &PICK_INDEX } else { &WAITS_INDEX })
    }
    /// The condition on the first column.
    pub fn is_its<'a>(&self) -> Key<'a> {
        let value = self.queue.map_or(Value::Char(stored::QUEUED), Value::Uuid);
        Key { column: 1, compare: Compare::Eq, value }
    }
    /// The highest priority present strictly between the two bounds.
    pub fn first_priority(&self, table: &Table, below: Option<i16>, above: Option<i16>) -> Option<i16> {
        let mut keys = vec![self.is_its()];
        keys.extend(below.map(|b| Key { column: 2, compare: Compare::Lt, value: Value::I16(b) }));
        keys.extend(above.map(|a| Key { column: 2, compare: Compare::Gt, value: Value::I16(a) }));
        let mut found = None;
        table.scan(self.index(table), &keys, None, false, |row| {
            found = row.i16(col::PRIORITY);
            false
        });
        found
    }
}

/// Whether any queue has an order of its own, or had and may still have rows there.
pub fn any(tenant: &Tenant) -> bool {
    tenant.queues.iter().any(|q| q.pick.is_some())
}

/// All places, in the order of their turns after `last`, the mark of the one served last.
pub fn sources(tenant: &Tenant, last: u64) -> Vec<Source> {
    if !any(tenant) {
        return vec![Source::COMMON];
    }
    let is = |drawn: bool| {
        // A queue that is picked by priority again is looked at for what is left of its own order.
        let queues = tenant.queues.iter().filter(move |q| q.pick.is_some_and(|p| (p == Pick::Random) == drawn));
        queues.map(|q| Source { queue: Some(turn_id(&q.name)) })
    };
    let mut order: Vec<Source> = std::iter::once(Source::COMMON).chain(is(false)).collect();
    let next = order.iter().position(|s| s.mark() == last).map_or(0, |n| n + 1);
    let count = order.len();
    order.rotate_left(next % count);
    for source in is(true) {
        order.insert(task::new_id() as usize % (order.len() + 1), source);
    }
    order
}

/// Whether serving this one moves the turn on: one whose place is drawn doesn't.
pub fn moves_on(tenant: &Tenant, source: &Source) -> bool {
    !tenant.queues.iter().any(|q| q.pick == Some(Pick::Random) && Some(turn_id(&q.name)) == source.queue)
}

/// One of each in turn, while there are any.
pub fn interleave<T>(groups: Vec<Vec<T>>) -> Vec<T> {
    let mut merged = Vec::with_capacity(groups.iter().map(Vec::len).sum());
    let mut groups: Vec<_> = groups.into_iter().map(Vec::into_iter).collect();
    loop {
        let before = merged.len();
        merged.extend(groups.iter_mut().filter_map(Iterator::next));
        if merged.len() == before {
            return merged;
        }
    }
}
