//! Who may do what with a tenant's tasks, and who sees what.

use crate::postgres::error::{Error, Result};
use crate::postgres::relation::{Access, Table};
use crate::postgres::row::Row;
use crate::postgres::{catalog, sandbox};
use crate::tenant::columns::{Results, Tasks, Tenants};
use crate::tenant::{self, Tenant};
use pgrx::pg_sys;

/// The right to enqueue is INSERT on `args`: see rights.rs.
pub fn may_enqueue(tenant: &Tenant, user: pgrx::pg_sys::Oid) -> bool {
    catalog::may_insert(tenant.task, Tasks::ARGS, user)
}

/// Who enqueues, and what was checked of them.
pub struct Caller {
    pub name: String,
    pub superuser: bool,
}

impl Caller {
    /// The present user, if they may enqueue for this tenant.
    pub fn check(tenant: &Tenant) -> Result<Caller> {
        let user = sandbox::current_user();
        let superuser = sandbox::is_superuser(user);
        if !(superuser || may_enqueue(tenant, user)) {
            return Err(Error::denied(format!("permission denied to enqueue tasks of tenant \"{}\"", tenant.name)).hint(format!(
                "Its owner can run SELECT tq_grant('…', '{{enqueue}}', tenant => {}).",
                pgrx::spi::quote_literal(&tenant.name)
            )));
        }
        Ok(Caller { name: catalog::role_name(user.to_u32()).unwrap_or_default(), superuser })
    }
}

/// In whose doing a task is enqueued.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum By {
    /// Somebody's statement, in whose session code of their own may run.
    Caller,
    /// The engine: what it enqueues is data, whoever's session it is in.
    Engine,
}

pub(crate) fn sees_all() -> bool {
    let user = sandbox::current_user();
    sandbox::is_superuser(user) || catalog::role_oid("pg_monitor").is_some_and(|r| sandbox::has_privs_of(user, pg_sys::Oid::from(r)))
}

pub(crate) fn sees(owner: u32) -> bool {
    sandbox::has_privs_of(sandbox::current_user(), pg_sys::Oid::from(owner))
}

/// A tenant in the registry that the caller may see.
pub(crate) struct Visible {
    pub name: String,
    /// Its schema's, by the registry.
    pub oid: u32,
    /// The schema's owner; 0: there is no such schema.
    pub owner: u32,
    pub row: Row<Tenants>,
}

pub(crate) fn visible_tenants() -> Result<Vec<Visible>> {
    let registry = tenant::registry()?;
    let all = sees_all();
    let mut rows = Vec::new();
    if let Some(table) = Table::open(registry.tenant, Access::Read) {
        rows.extend(table.scan(&Tenants::BY_NAME, &[]));
    }
    Ok(rows
        .into_iter()
        .filter_map(|row| {
            let (name, oid) = (row.text(Tenants::NAME)?, row.get(Tenants::SCHEMA_OID)?);
            let owner = catalog::schema_owner(oid).unwrap_or(0);
            (all || (owner != 0 && sees(owner))).then_some(Visible { name, oid, owner, row })
        })
        .collect())
}

/// Whether the caller may decide about the schema: its owner's member, or a superuser.
pub fn require_owner(owner: u32, schema: &str) -> Result<()> {
    let user = sandbox::current_user();
    if sandbox::is_superuser(user) || sandbox::has_privs_of(user, pg_sys::Oid::from(owner)) {
        return Ok(());
    }
    Err(Error::denied(format!("must be owner of schema \"{schema}\""))
        .detail(format!("It belongs to role \"{}\".", catalog::role_name(owner).unwrap_or_default())))
}

/// What the caller needs in order to see results: SELECT on the table.
pub(crate) fn may_read(tenant: &Tenant) -> Result<()> {
    let user = sandbox::current_user();
    if sandbox::is_superuser(user) || catalog::may_select(tenant.result.oid(), user) && catalog::may_select(tenant.task.oid(), user) {
        return Ok(());
    }
    Err(Error::denied(format!("permission denied to read tasks of tenant \"{}\"", tenant.name))
        .hint(format!("Its owner can run GRANT SELECT ON {0}.tq_task, {0}.tq_result TO …", catalog::quote(&tenant.name))))
}

/// What the caller needs in order to change tasks: UPDATE and DELETE on the table.
pub(crate) fn may_operate(tenant: &Tenant) -> Result<()> {
    let user = sandbox::current_user();
    if sandbox::is_superuser(user) || catalog::may_delete(tenant.task.oid(), user) {
        return Ok(());
    }
    Err(Error::denied(format!("permission denied to operate on tasks of tenant \"{}\"", tenant.name))
        .hint(format!("Its owner can run GRANT DELETE ON {}.tq_task TO …", catalog::quote(&tenant.name))))
}

/// The present user, who answers for the schedules they make.
pub fn author() -> Caller {
    let user = sandbox::current_user();
    Caller { name: catalog::role_name(user.to_u32()).unwrap_or_default(), superuser: sandbox::is_superuser(user) }
}

/// Whether the caller may run the tenant's tasks in a session of their own.
pub fn may_work(tenant: &Tenant) -> Result<()> {
    let user = sandbox::current_user();
    if sandbox::is_superuser(user) || catalog::may_insert(tenant.result, Results::RESULT, user) {
        return Ok(());
    }
    Err(Error::denied(format!("permission denied to run tasks of tenant \"{}\"", tenant.name))
        .hint("Its owner can run SELECT tq_grant('…', '{work}')."))
}
