//! Where a new row stands: due, or waiting for its queue's turn.

use crate::postgres::relation::{Row, Value};
use crate::pure::ids;
use crate::pure::state::stored;
use crate::tenant::Tenant;
use crate::tenant::columns::col;
use crate::tenant::queue::Pick;

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
                Place { state: stored::TURN, waits_for: Some(ids::turn_id(&q.name)) }
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
