//! A schedule that all tenants have: what its row says of the definition it comes from.

use crate::postgres::error::{Error, Result};
use crate::postgres::relation::{Access, Table};
use crate::postgres::row::Row;
use crate::postgres::transaction;
use crate::pure::ids::{self, Id};
use crate::pure::schedule::spread;
use crate::pure::time::{At, Span};
use crate::schedules::follow;
use crate::schedules::options::{OfAll, Options};
use crate::tenant::Tenant;
use crate::tenant::columns::Schedules;
use crate::tenant::records::open;

impl OfAll {
    /// None: an ordinary schedule, the tenant's own.
    pub fn of_row(row: &Row<Schedules>) -> Option<OfAll> {
        Options::of(row).all
    }
    /// The line of tq_fanouts for one fire time.
    pub fn line(&self, fire_time: At) -> Id {
        ids::fire_id(self.id, fire_time)
    }
    /// How much later than its fire time it is to run in this tenant.
    pub fn stagger(&self, tenant: &Tenant) -> Span {
        stagger(&tenant.name, self.stagger)
    }
}

pub fn find(table: &Table<Schedules>, name: &str) -> Option<Row<Schedules>> {
    transaction::with_latest_snapshot(|| table.find(Schedules::NAME.equals(name)))
}

/// A tenant has made a schedule of its own: one of all tenants may have waited for it to come after.
pub fn followed(table: &Table<Schedules>, name: &str) -> Result<()> {
    for follower in follow::names_after(&open("schedule_all", Access::Read)?, name) {
        if find(table, &follower).is_some_and(|row| is_of_all(&row)) {
            follow::link_present(table, &follower, &[], &[name.to_string()])?;
        }
    }
    Ok(())
}

/// Whether there is a definition of this name.
pub fn is_defined(name: &str) -> Result<bool> {
    Ok(find(&open("schedule_all", Access::Read)?, name).is_some())
}

/// Whether a tenant's row was made from a definition for all tenants.
pub fn is_of_all(row: &Row<Schedules>) -> bool {
    OfAll::of_row(row).is_some()
}

/// A tenant's row of a schedule of all tenants is not the tenant's to change.
pub fn refuse(row: &Row<Schedules>) -> Result<()> {
    if !is_of_all(row) {
        return Ok(());
    }
    let name = row.get(Schedules::NAME).unwrap_or("");
    Err(Error::state(format!("schedule \"{name}\" is one of all tenants")).hint(format!(
        "An administrator changes it with tq_schedule_all, removes it with tq_unschedule_all({}), or leaves this tenant out with tq_set_quota(fan_out => false).",
        pgrx::spi::quote_literal(name)
    )))
}

/// A tenant's place within `stagger`: always the same.
pub fn stagger(tenant: &str, limit: Span) -> Span {
    let seed = ids::fan_id(Id::NIL, tenant).low();
    spread::stagger(seed, limit.max(Span::ZERO).into()).into()
}
