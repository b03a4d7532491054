//! Where a new row stands: due, or waiting for its queue's turn.

use crate::postgres::column::Set;
use crate::postgres::row::Row;
use crate::pure::ids::{self, Id};
use crate::pure::state::Stored;
use crate::tenant::Tenant;
use crate::tenant::columns::Tasks;
use crate::tenant::queue::Pick;

/// Where a row that could run belongs: its state and `waits_for`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub state: Stored,
    pub waits_for: Option<Id>,
}

impl Place {
    /// Of a task of this queue.
    pub fn of(tenant: &Tenant, queue: Option<&str>) -> Place {
        match tenant.queue(queue) {
            Some(q) if matches!(q.pick, Some(Pick::RoundRobin | Pick::Random)) => {
                Place { state: Stored::Turn, waits_for: Some(ids::turn_id(&q.name)) }
            }
            _ => Place { state: Stored::Queued, waits_for: None },
        }
    }
    /// Whether this row is where it belongs.
    pub fn has(self, row: &Row<Tasks>) -> bool {
        self == Place { state: row.letter(Tasks::STATE), waits_for: row.get(Tasks::WAITS_FOR) }
    }
    /// The columns that put a row there.
    pub fn changes<'a>(self) -> [Set<'a, Tasks>; 2] {
        [Tasks::STATE.to(self.state), Tasks::WAITS_FOR.to(self.waits_for)]
    }
}
