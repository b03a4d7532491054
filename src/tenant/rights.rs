//! Who may do what with a tenant's tasks, and who sees what.

use crate::postgres::error::{Error, Result};
use crate::postgres::relation::{Access, Table};
use crate::postgres::row::Row;
use crate::postgres::{catalog, sandbox};
use crate::tenant::columns::{Results, Tasks, Tenants};
use crate::tenant::{self, Tenant};
use pgrx::pg_sys;
use std::rc::Rc;

/// What tq_grant grants, level by level.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Right {
    Enqueue,
    Read,
    Operate,
    Work,
}

impl Right {
    /// As tq_grant takes it.
    pub const fn name(self) -> &'static str {
        match self {
            Right::Enqueue => "enqueue",
            Right::Read => "read",
            Right::Operate => "operate",
            Right::Work => "work",
        }
    }

    /// What somebody is refused who lacks it.
    const fn act(self) -> &'static str {
        match self {
            Right::Enqueue => "enqueue tasks",
            Right::Read => "read tasks",
            Right::Operate => "operate on tasks",
            Right::Work => "run tasks",
        }
    }

    /// Whether a role has the privilege of the tenant's tables that stands for it; calls/rights.rs grants it.
    fn is_held(self, tenant: &Tenant, user: pg_sys::Oid) -> bool {
        match self {
            Right::Enqueue => may_enqueue(tenant, user),
            Right::Read => catalog::may_select(tenant.result.oid(), user) && catalog::may_select(tenant.task.oid(), user),
            Right::Operate => catalog::may_delete(tenant.task.oid(), user),
            Right::Work => catalog::may_insert(tenant.result, Results::RESULT, user),
        }
    }
}

/// What somebody needs of a tenant whose schema they may perhaps not even use.
pub enum Wanted<'a> {
    Rights(&'a [Right]),
    Ownership,
}

impl Wanted<'_> {
    /// How they come by it, all at once.
    pub fn ask(&self, schema: &str, owner: u32, user: pg_sys::Oid) -> String {
        match self {
            Wanted::Rights([]) => {
                format!("Its owner can run GRANT USAGE ON SCHEMA {} TO {};", catalog::quote(schema), quoted_role(user.to_u32()))
            }
            Wanted::Rights(rights) => ask_for(schema, user, rights),
            Wanted::Ownership => ask_owner(owner),
        }
    }
}

fn quoted_role(role: u32) -> String {
    catalog::quote(&catalog::role_name(role).unwrap_or_default())
}

/// The one call that gives a role these rights, and USAGE on the schema.
pub fn ask_for(schema: &str, role: pg_sys::Oid, rights: &[Right]) -> String {
    let names: Vec<&str> = rights.iter().map(|right| right.name()).collect();
    let role = pgrx::spi::quote_literal(catalog::role_name(role.to_u32()).unwrap_or_default());
    format!("Its owner can run SELECT tq_grant({role}, '{{{}}}', tenant => {});", names.join(","), pgrx::spi::quote_literal(schema))
}

fn ask_owner(owner: u32) -> String {
    let user = quoted_role(sandbox::current_user().to_u32());
    format!("That role can do it, and whoever is a member of it: GRANT {} TO {user};", quoted_role(owner))
}

/// The tenant that is meant, if the caller has all of these rights on it.
pub fn resolve(named: Option<&str>, wanted: &[Right]) -> Result<Rc<Tenant>> {
    let tenant = tenant::resolve_for(named, &Wanted::Rights(wanted))?;
    require(&tenant, wanted)?;
    Ok(tenant)
}

/// The tenant that is meant, if it is the caller's.
pub fn resolve_owned(named: Option<&str>) -> Result<Rc<Tenant>> {
    let tenant = tenant::resolve_for(named, &Wanted::Ownership)?;
    require_owner(tenant.owner, &tenant.name)?;
    Ok(tenant)
}

/// The tenant that is meant, if the caller may stop its tasks from being started, and let them start again.
pub fn resolve_to_pause(named: Option<&str>) -> Result<Rc<Tenant>> {
    let tenant = tenant::resolve_for(named, &Wanted::Rights(&[Right::Operate]))?;
    let user = sandbox::current_user();
    if require(&tenant, &[Right::Operate]).is_ok() || sandbox::has_privs_of(user, pg_sys::Oid::from(tenant.owner)) {
        return Ok(tenant);
    }
    Err(Error::denied(format!("permission denied to pause tenant \"{}\"", tenant.name)).hint(ask_for(
        &tenant.name,
        user,
        &[Right::Operate],
    )))
}

/// What it takes to change a task, or to run it again: who gives it other arguments answers for them as whoever enqueues.
pub const fn to_change(with_args: bool) -> &'static [Right] {
    if with_args { &[Right::Operate, Right::Enqueue] } else { &[Right::Operate] }
}

/// Whether a role has this right.
pub fn has(tenant: &Tenant, role: pg_sys::Oid, right: Right) -> bool {
    sandbox::is_superuser(role) || right.is_held(tenant, role)
}

/// The caller has all of these rights.
pub fn require(tenant: &Tenant, wanted: &[Right]) -> Result<()> {
    let user = sandbox::current_user();
    if sandbox::is_superuser(user) {
        return Ok(());
    }
    let missing: Vec<Right> = wanted.iter().copied().filter(|right| !right.is_held(tenant, user)).collect();
    match missing.first() {
        None => Ok(()),
        Some(first) => Err(Error::denied(format!("permission denied to {} of tenant \"{}\"", first.act(), tenant.name)).hint(ask_for(
            &tenant.name,
            user,
            &missing,
        ))),
    }
}

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
        if !superuser {
            require(tenant, &[Right::Enqueue])?;
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
        .detail(format!("It belongs to role \"{}\".", catalog::role_name(owner).unwrap_or_default()))
        .hint(ask_owner(owner)))
}

/// The present user, who answers for the schedules they make.
pub fn author() -> Caller {
    let user = sandbox::current_user();
    Caller { name: catalog::role_name(user.to_u32()).unwrap_or_default(), superuser: sandbox::is_superuser(user) }
}
