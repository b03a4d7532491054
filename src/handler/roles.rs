//! Who is woken when what decides whether tasks may run has changed: every role that a tenant's handlers run as.

use crate::handler;
use crate::postgres::error::Result;
use crate::postgres::shmem;
use crate::pure::time::At;
use crate::shared::entry::EntryRef;
use crate::shared::{blocked, wake};
use crate::tenant::records::run;
use crate::tenant::{Tenant, registry};

/// Frees a handler of a tenant that was stopped for crashing the server: its own, or what a shared one is stopped for there.
/// True if there was any.
pub fn free(tenant: &str, name: &str) -> Result<bool> {
    let mut freed = 0;
    for table in ["handler", "handler_state"].iter().take(if registry()?.handler_state.is_none() { 1 } else { 2 }) {
        freed += run(
            &format!(
                "UPDATE tenant_q.{table} SET quarantined = NULL, crashes = NULL
                  WHERE tenant OPERATOR(pg_catalog.=) $1 AND name OPERATOR(pg_catalog.=) $2 AND quarantined IS NOT NULL RETURNING 1"
            ),
            &[tenant.into(), name.into()],
        )?;
    }
    Ok(freed > 0)
}

/// Frees a shared handler in all tenants.
pub fn free_for_all(name: &str) -> Result<()> {
    free("", name)?;
    if registry()?.handler_state.is_some() {
        run("UPDATE tenant_q.handler_state SET quarantined = NULL, crashes = NULL WHERE name OPERATOR(pg_catalog.=) $1", &[name.into()])?;
    }
    Ok(())
}

/// Everything of this tenant is to be looked at again.
pub fn wake_all(tenant: &Tenant) -> Result<()> {
    for_each_entry(tenant, wake::changed)
}

/// The same where a tenant is being set up.
pub fn wake_if_used(tenant: &Tenant) -> Result<()> {
    for_each_entry(tenant, wake::set_up)
}

/// For each of the tenant's entries, and whether it is the one under which its schedules are looked at.
pub fn for_each_entry(tenant: &Tenant, f: impl Fn(EntryRef, bool)) -> Result<()> {
    let mut roles = handler::roles(tenant)?;
    roles.push(tenant.owner);
    for role in roles {
        if let Some(entry) = tenant.entry(role)? {
            f(entry, role == tenant.owner);
        }
    }
    Ok(())
}

pub(crate) fn wake_every_tenant() -> Result<()> {
    // Those that were kept from running, or have work anyway, are woken; whatever else there may be
    // is found by a sweep, in transactions of its own. An idle tenant costs nothing here.
    if let Some(s) = crate::shared::get() {
        let database = shmem::my_database();
        for (i, e) in s.entries.iter().enumerate() {
            let kept =
                e.blocked_reason.load() != blocked::Reason::None || e.unpark_at.load() != At::UNSET || e.generation.load() != e.seen.load();
            if kept && e.in_use.load() == 1 && e.database.load() == database {
                wake::changed(EntryRef { index: i as u32, stamp: e.stamp.load() }, false);
            }
        }
        wake::sweep_database();
    }
    Ok(())
}
