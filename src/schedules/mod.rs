//! Making schedules: definitions, what follows from them, and planning ahead. What happens when one is due is in
//! work/tick.rs, the arithmetic in pure/schedule/.

pub mod define;
pub mod definition;
pub mod due;
pub mod follow;
pub mod last;
pub mod of_all;
pub mod options;
pub mod planning;
pub mod rezone;
pub mod row;
pub mod setback;
pub mod trouble;
pub mod zone;

use crate::postgres::error::{Error, Result};
use crate::postgres::sqlstate::SqlState;
use crate::postgres::{catalog, sandbox};
use crate::tenant::columns::Schedules;
use crate::tenant::rights::{self, Right, Wanted, require_owner};
use crate::tenant::{self, Tenant};
use std::rc::Rc;

/// The tenant that is meant, if the caller may make and change its schedules.
pub fn resolve_to_change(named: Option<&str>) -> Result<Rc<Tenant>> {
    let tenant = tenant::resolve_for(named, &Wanted::Rights(&[Right::Operate]))?;
    let user = sandbox::current_user();
    if sandbox::is_superuser(user) || catalog::may_insert(tenant.schedule, Schedules::NAME, user) {
        return Ok(tenant);
    }
    Err(Error::denied(format!("permission denied to schedule tasks of tenant \"{}\"", tenant.name))
        .detail("A schedule runs its handler for ever: that is its owner's to decide.")
        .hint(rights::ask_for(&tenant.name, user, &[Right::Operate])))
}

/// The tenant that is meant, if the caller may see its schedules.
pub fn resolve_to_read(named: Option<&str>) -> Result<Rc<Tenant>> {
    let tenant = tenant::resolve_for(named, &Wanted::Rights(&[Right::Read]))?;
    let user = sandbox::current_user();
    if sandbox::is_superuser(user) || catalog::may_select(tenant.schedule.oid(), user) {
        return Ok(tenant);
    }
    Err(Error::denied(format!("permission denied to read schedules of tenant \"{}\"", tenant.name)).hint(rights::ask_for(
        &tenant.name,
        user,
        &[Right::Read],
    )))
}

/// A condition is SQL of one's own, run as the role that the tasks run as: only who could run that anyway may give,
/// change or take away one. The right to operate chooses among registered handlers, and no further.
pub(crate) fn may_set_condition(tenant: &Tenant, old: Option<&str>, new: Option<&str>) -> Result<()> {
    if old == new {
        return Ok(());
    }
    require_owner(tenant.owner, &tenant.name).map_err(|e| {
        e.detail("only_if is SQL that runs as the tenant's own role: the right to operate doesn't reach that far.")
            .hint("Let the schema's owner set it, or ask in the handler.")
    })
}

pub fn contended(name: &str) -> Error {
    Error::new(SqlState::SERIALIZATION_FAILURE, format!("schedule \"{name}\" is being changed by others")).hint("Try again.")
}
