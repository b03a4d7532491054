//! Tasks of which one stands for many: what changes a table enqueues one in each transaction, and the first that begins does
//! the work of all that are there by then.
//!
//! Nothing is decided where they are enqueued: whether another one will begin before or after this transaction commits,
//! nobody can know yet, and whoever wants to would have to wait for the other writers. So each leaves a row, as if it were
//! alone. What begins takes the others of its key away, in a transaction before its own: what it sees then has committed,
//! and its handler sees all that came with it. A row that commits later stays, and runs later. They share a lock, so two
//! of a key don't run at once.

use crate::handler;
use crate::postgres::caught::Failure;
use crate::postgres::relation::{Access, Write};
use crate::postgres::row::Row;
use crate::pure::ids::Id;
use crate::pure::state::Ended;
use crate::shared::{self, slot, waiters};
use crate::task::options::Options;
use crate::tenant::Tenant;
use crate::tenant::columns::Tasks;
use crate::waits::{depend, gate};

/// Rows of the group that are looked at in one transaction. They are young: what was before has gone with an earlier one.
const EXAMINED: usize = 1000;

/// Takes away what this task, which is about to begin, stands for. False: there may be more.
pub fn absorb(tenant: &Tenant, row: &Row<Tasks>, key: &str) -> Result<bool, Failure> {
    let Some(group) = row.get(Tasks::GROUP_ID) else { return Ok(true) };
    let tasks = tenant.open(tenant.task, Access::Write)?;
    let (mut examined, mut gone) = (0, Vec::new());
    for other in tasks.scan(&Tasks::BY_GROUP, &[Tasks::GROUP_ID.equals(group)]).take(EXAMINED) {
        examined += 1;
        if is_covered(tenant, row, &other, key) && tasks.try_delete(&other) == Some(Write::Done) {
            gone.push(other);
        }
    }
    // What they kept waiting goes on, when none of them is among it any more.
    let handler = handler::find(tenant, row.get(Tasks::HANDLER).unwrap_or(""))?;
    for other in &gone {
        let id = other.get(Tasks::ID).unwrap_or_default();
        waiters::ended(tenant.oid, id, other.get(Tasks::GROUP_ID));
        depend::ended(tenant, &tasks, id, Ended::Done, false)?;
        depend::forget_links(tenant, &tasks, other, false)?;
        gate::release(tenant, &tasks, other, handler.as_deref())?;
    }
    Ok(examined < EXAMINED || gone.is_empty())
}

fn is_covered(tenant: &Tenant, row: &Row<Tasks>, other: &Row<Tasks>, key: &str) -> bool {
    let id = |row: &Row<Tasks>| row.get(Tasks::ID).unwrap_or_default();
    !other.in_flux
        && id(other) != id(row)
        && other.get(Tasks::HANDLER) == row.get(Tasks::HANDLER)
        && other.letter(Tasks::STATE).is_task()
        && Options::of(other).stands_for.as_deref() == Some(key)
        && !is_running(tenant, id(other), other)
}

fn is_running(tenant: &Tenant, id: Id, row: &Row<Tasks>) -> bool {
    let created_at = row.get(Tasks::CREATED_AT).unwrap_or_default();
    shared::get().is_some_and(|s| slot::is_running(&s, tenant.oid, id, created_at))
}
