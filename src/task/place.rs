//! Where a row that could run stands: among those that are due, among those of its queue, which takes turns, or in the run of its
//! handler, whose tasks workers outside of the server take.

use crate::handler::Handler;
use crate::handler::external::EXTERNAL;
use crate::handler::listeners::{self, Event, Listener};
use crate::postgres::column::Set;
use crate::postgres::error::Result;
use crate::postgres::row::Row;
use crate::pure::ids::{self, Id};
use crate::pure::state::Stored;
use crate::pure::time::At;
use crate::shared::{endings, takers};
use crate::task::options::Options;
use crate::tenant::Tenant;
use crate::tenant::columns::Tasks;
use crate::tenant::queue::Pick;
use std::rc::Rc;

/// Where a row that could run belongs: its state and `waits_for`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub state: Stored,
    pub waits_for: Option<Id>,
}

/// What of an external task runs in the server, before a worker may take it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum First {
    Nothing,
    /// Its condition, or listeners that are to be asked about it.
    Executor,
}

impl First {
    /// Of a task with these options, enqueued then.
    pub fn of(tenant: &Tenant, handler: &Handler, options: &Options, created_at: At) -> Result<First> {
        let looks = options.only_if.is_some() || !pending(tenant, &handler.name, options, created_at)?.is_empty();
        Ok(if looks { First::Executor } else { First::Nothing })
    }
}

/// A row in this state expires at `at`, whether or not a worker comes by then: an executor of the owner's is to see to it.
pub fn expires(tenant: &Tenant, state: Stored, at: Option<At>) -> Result<()> {
    if state == Stored::External
        && let Some(at) = at
        && let Some(entry) = tenant.entry(tenant.owner)?
    {
        endings::expires(entry, at);
    }
    Ok(())
}

/// Who is still to be asked about a task that is in the table. Not those who came to listen after it was enqueued.
pub fn pending(tenant: &Tenant, handler: &str, options: &Options, created_at: At) -> Result<Vec<Rc<Listener>>> {
    let mut listening = listeners::listeners(tenant)?.of(Event::Enqueue, handler);
    let was_asked = |name: &str| options.asked.as_ref().is_some_and(|asked| asked.contains(name));
    listening.retain(|l| l.created_at <= created_at && !was_asked(&l.handler));
    Ok(listening)
}

impl Place {
    /// Of a task of this queue and handler.
    pub fn of(tenant: &Tenant, queue: Option<&str>, handler: Option<&Handler>, first: First) -> Place {
        if let Some(handler) = handler.filter(|handler| handler.is_external() && first == First::Nothing) {
            return Place { state: Stored::External, waits_for: Some(ids::run_id(&handler.name, queue)) };
        }
        match tenant.queue(queue) {
            Some(q) if matches!(q.pick, Some(Pick::RoundRobin | Pick::Random)) => {
                Place { state: Stored::Turn, waits_for: Some(ids::turn_id(&q.name)) }
            }
            _ => Place { state: Stored::Queued, waits_for: None },
        }
    }
    /// Of a row, if its queue were this one.
    pub fn of_row(tenant: &Tenant, row: &Row<Tasks>, queue: Option<&str>, handler: Option<&Handler>) -> Result<Place> {
        let first = match handler.filter(|handler| handler.is_external()) {
            Some(handler) => First::of(tenant, handler, &Options::of(row), row.get(Tasks::CREATED_AT).unwrap_or_default())?,
            None => First::Nothing,
        };
        Ok(Place::of(tenant, queue, handler, first))
    }
    /// By what workers are called for a row that comes there: see shared/takers.rs.
    pub fn handlers(self, handler: Option<&Handler>) -> u64 {
        let bits =
            |handler: &Handler| handler.aliases.iter().fold(takers::bit_of(&handler.name), |bits, alias| bits | takers::bit_of(alias));
        handler.filter(|_| self.state == Stored::External).map_or(0, bits)
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

/// The role whose entry a row in this state is under.
pub fn role(tenant: &Tenant, state: Stored, handler: Option<&Handler>) -> u32 {
    match handler {
        // Whatever else is to be done about it, executors of the schema's owner do.
        Some(handler) if handler.run_as == EXTERNAL && state != Stored::External => tenant.owner,
        Some(handler) => handler.run_as,
        None => tenant.owner,
    }
}
