//! tq_grant and tq_revoke: four levels, each a few of the owner's own GRANTs on the tenant's
//! tables. No roles are made, nothing is remembered: what was granted is in the catalogs, is dumped
//! with the schema, and can be given and taken by plain GRANT and REVOKE as well. tq_grant_all does the same in all tenants, and
//! in the template tables, from which those that are attached later take it.
//!
//! The privileges are marks that our functions ask for. By themselves they allow as little as can
//! be: column privileges that fill no row, and never UPDATE.

use crate::postgres::call::{Args, Ret};
use crate::postgres::error::{Error, Result};
use crate::postgres::relation::{Access, Table};
use crate::postgres::rows::row;
use crate::postgres::sqlstate::SqlState;
use crate::postgres::{catalog, latch, sandbox, shmem, transaction};
use crate::pure::word::SlotState;
use crate::shared::claims::told;
use crate::shared::wake;
use crate::tenant::columns::Tenants;
use crate::tenant::records::exists;
use crate::tenant::rights;
use crate::tenant::{self, lock, patience};
use crate::{shared, sql_functions};
use pgrx::{Spi, pg_sys};

/// A privilege of PostgreSQL's, and the tables it is on; '' is the schema.
type Privilege = (&'static str, &'static [&'static str]);

/// A level, and what it is in SQL: (privilege, tables).
///
/// To enqueue is INSERT on `args` and not on `handler`, without which no row can be inserted: whoever enqueues comes by
/// tq_async, and so by max_queued and by who listens.
const RIGHTS: [(&str, &[Privilege]); 4] = [
    ("enqueue", &[("INSERT (args)", &["tq_task"])]),
    ("read", &[("SELECT", &["tq_task", "tq_result", "tq_schedule"])]),
    ("operate", &[("DELETE", &["tq_task"]), ("INSERT (name)", &["tq_schedule"])]),
    ("work", &[("INSERT (result)", &["tq_result"])]),
];

/// What every level needs: on the schema itself.
const USAGE: Privilege = ("USAGE", &[""]);
/// The level enqueue as 0.1.0 granted it.
const ENQUEUE_OF_0_1_0: Privilege = ("INSERT (handler)", &["tq_task"]);

/// What somebody asks for: a role, and what it is to have or to lose.
struct Wanted {
    /// Bare.
    role: String,
    oid: u32,
    privileges: Vec<&'static Privilege>,
    grant: bool,
}

impl Wanted {
    /// The first two arguments of each of the four functions.
    fn of(args: &Args, grant: bool) -> Result<Wanted> {
        let role = args.text(0).ok_or_else(|| Error::new(SqlState::NULL_VALUE_NOT_ALLOWED, "role is null"))?;
        let names = args.texts(1).ok_or_else(|| Error::new(SqlState::NULL_VALUE_NOT_ALLOWED, "rights is null"))?;
        let Some(oid) = catalog::role_oid(&role) else {
            return Err(Error::undefined(format!("role \"{role}\" does not exist"))
                .hint("tq_grant makes no roles, and takes the bare name: not quoted, not folded to lower case. CREATE ROLE first."));
        };
        let mut privileges = Vec::new();
        for name in &names {
            let Some((_, of_it)) = RIGHTS.iter().find(|(right, _)| right == name) else {
                return Err(
                    Error::invalid(format!("rights names \"{name}\", which is none")).hint("They are enqueue, read, operate and work.")
                );
            };
            privileges.extend(of_it.iter());
        }
        if privileges.is_empty() {
            return Err(Error::invalid("rights is empty").hint("They are enqueue, read, operate and work."));
        }
        if !grant && names.iter().any(|n| n == "enqueue") {
            privileges.push(&ENQUEUE_OF_0_1_0);
        }
        Ok(Wanted { role, oid, privileges, grant })
    }

    /// Where it isn't so yet: (privilege, table).
    fn missing(&self, schema: &Schema) -> Result<Vec<(&'static str, &'static str)>> {
        let mut missing = Vec::new();
        // On the schema of the templates everybody has it.
        let usage = Some(&USAGE).filter(|_| self.grant && !schema.is_templates);
        for (privilege, tables) in self.privileges.iter().copied().chain(usage) {
            for table in *tables {
                if has(schema, table, privilege, self.oid)? != self.grant {
                    missing.push((*privilege, *table));
                }
            }
        }
        Ok(missing)
    }

    /// Gives or takes it, as the owner of the tables; `lock` keeps others who do the like from it meanwhile.
    fn carry_out(&self, schema: &Schema, lock: impl FnOnce() -> Result<()>) -> Result<()> {
        if self.missing(schema)?.is_empty() {
            return Ok(());
        }
        lock()?;
        let role = catalog::quote(&self.role);
        let statement = |(privilege, table): (&str, &str)| {
            let on = if table.is_empty() { format!("SCHEMA {}", schema.name) } else { format!("{}.{table}", schema.name) };
            if self.grant {
                format!("GRANT {privilege} ON {on} TO {role}")
            } else {
                format!("REVOKE {privilege} ON {on} FROM {role} CASCADE")
            }
        };
        let statements: Vec<String> = self.missing(schema)?.into_iter().map(statement).collect();
        sandbox::as_owner(pg_sys::Oid::from(schema.owner), || statements.iter().try_for_each(|sql| Spi::run(sql)).map_err(Error::from))?;
        if self.grant {
            wake::granted();
        }
        Ok(())
    }
}

fn change(args: &Args, grant: bool) -> Result<Ret> {
    let tenant = rights::resolve_owned(args.text(2).as_deref())?;
    let wanted = Wanted::of(args, grant)?;
    if wanted.oid == tenant.owner {
        let what = format!("role \"{}\" owns the schema and has all rights", wanted.role);
        Error::new(SqlState::SUCCESSFUL_COMPLETION, what).notice();
        return Ok(Ret::Void);
    }
    wanted.carry_out(&Schema::of(&tenant.name, tenant.owner), || lock::declarations(tenant.oid))?;
    Ok(Ret::Void)
}

/// What all tenants are to give stands as the same GRANTs on the template tables: dumped and restored with the extension, and
/// bound to the role whatever its name is. Nobody has rows there.
fn templates() -> Result<Schema> {
    let registry = tenant::registry()?;
    let owner = catalog::schema_owner(registry.schema).unwrap_or(0);
    Ok(Schema { oid: registry.schema, name: "tenant_q".into(), owner, is_templates: true })
}

/// Only who may call the procedure may do a part of it.
fn require_procedure(grant: bool) -> Result<()> {
    let name = if grant { "tq_grant_all" } else { "tq_revoke_all" };
    let sql = "SELECT FROM pg_catalog.pg_proc p
                WHERE p.proname OPERATOR(pg_catalog.=) $1 AND pg_catalog.has_function_privilege($2, p.oid, 'EXECUTE')
                  AND EXISTS (SELECT FROM pg_catalog.pg_depend d, pg_catalog.pg_extension e
                        WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid OPERATOR(pg_catalog.=) p.oid
                          AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass AND d.refobjid OPERATOR(pg_catalog.=) e.oid
                          AND d.deptype OPERATOR(pg_catalog.=) 'e' AND e.extname OPERATOR(pg_catalog.=) 'tenant_q')";
    if exists(sql, &[name.into(), sandbox::current_user().into()])? {
        return Ok(());
    }
    Err(Error::denied(format!("permission denied for procedure {name}")))
}

/// tenant_q.grant_all_step(role, rights, tenant, give): one transaction of tq_grant_all or tq_revoke_all; tenant NULL: what those
/// are to give that are attached from now on.
fn grant_all_step(args: &Args) -> Result<Ret> {
    let grant = args.bool(3).unwrap_or(true);
    require_procedure(grant)?;
    let wanted = Wanted::of(args, grant)?;
    let Some(name) = args.text(2) else {
        wanted.carry_out(&templates()?, || lock::declarations(0))?;
        return Ok(Ret::Void);
    };
    // Whoever may call this needs no right in the schema.
    let schema =
        catalog::schema_oid(&name).ok_or_else(|| Error::new(SqlState::INVALID_SCHEMA_NAME, format!("schema \"{name}\" does not exist")))?;
    let tenant = tenant::by_oid(schema)?;
    if wanted.oid != tenant.owner {
        wanted.carry_out(&Schema::of(&tenant.name, tenant.owner), || lock::declarations(tenant.oid))?;
    }
    Ok(Ret::Void)
}

/// tenant_q.all_tenants(give): the names of those that tq_grant_all, or tq_revoke_all, is about.
fn all_tenants(args: &Args) -> Result<Ret> {
    require_procedure(args.bool(0).unwrap_or(true))?;
    let table = Table::open(tenant::registry()?.tenant, Access::Read);
    let names = table.iter().flat_map(|table| table.scan(&Tenants::BY_NAME, &[])).filter_map(|row| row.text(Tenants::NAME));
    Ok(Ret::Rows(names.map(|name| row! { "tenant": name }).collect()))
}

/// A schema becomes a tenant: whom all tenants are to give rights has them here.
pub fn give_what_all_give(name: &str, owner: u32) -> Result<()> {
    let templates = templates()?;
    let here = Schema::of(name, owner);
    for role in grantees(&templates)? {
        let mut privileges: Vec<&'static Privilege> = Vec::new();
        for privilege in RIGHTS.iter().flat_map(|(_, privileges)| privileges.iter()) {
            let mut has_all = true;
            for table in privilege.1 {
                has_all &= has(&templates, table, privilege.0, role)?;
            }
            if has_all {
                privileges.push(privilege);
            }
        }
        let Some(name) = catalog::role_name(role).filter(|_| role != owner && !privileges.is_empty()) else { continue };
        Wanted { role: name, oid: role, privileges, grant: true }.carry_out(&here, || Ok(()))?;
    }
    Ok(())
}

/// Roles that have been given something on the template tables.
fn grantees(templates: &Schema) -> Result<Vec<u32>> {
    let sql = "SELECT DISTINCT x.grantee FROM (
                   SELECT a.grantee FROM pg_catalog.pg_class c, pg_catalog.aclexplode(c.relacl) a
                    WHERE c.relnamespace OPERATOR(pg_catalog.=) $1 AND c.relname OPERATOR(pg_catalog.=) ANY ('{tq_task,tq_result,tq_schedule}'::pg_catalog.name[])
                   UNION ALL
                   SELECT a.grantee FROM pg_catalog.pg_class c JOIN pg_catalog.pg_attribute t ON t.attrelid OPERATOR(pg_catalog.=) c.oid, pg_catalog.aclexplode(t.attacl) a
                    WHERE c.relnamespace OPERATOR(pg_catalog.=) $1 AND c.relname OPERATOR(pg_catalog.=) ANY ('{tq_task,tq_result,tq_schedule}'::pg_catalog.name[])) x
                WHERE x.grantee OPERATOR(pg_catalog.<>) 0 AND x.grantee OPERATOR(pg_catalog.<>) $2 ORDER BY 1";
    let args = [pg_sys::Oid::from(templates.oid).into(), pg_sys::Oid::from(templates.owner).into()];
    transaction::with_latest_snapshot(|| {
        sandbox::as_extension(|| {
            Spi::connect(|c| {
                let rows = c.select(sql, None, &args)?;
                Ok(rows.filter_map(|row| row.get::<pg_sys::Oid>(1).ok().flatten()).map(|role| role.to_u32()).collect())
            })
        })
    })
    .map_err(|e: pgrx::spi::Error| Error::from(e))
}

/// A schema that has the three tables.
struct Schema {
    oid: u32,
    /// As SQL has it.
    name: String,
    owner: u32,
    is_templates: bool,
}

impl Schema {
    fn of(tenant: &str, owner: u32) -> Schema {
        Schema { oid: catalog::schema_oid(tenant).unwrap_or(0), name: catalog::quote(tenant), owner, is_templates: false }
    }
}

/// Whether the role itself has been granted this, by whomever: on a table of the schema, or on the schema.
fn has(schema: &Schema, table: &str, privilege: &str, role: u32) -> Result<bool> {
    let (kind, column) = privilege.split_once(' ').map_or((privilege, ""), |(kind, column)| (kind, column.trim_matches(['(', ')'])));
    let acl = match (table, column) {
        ("", _) => "SELECT n.nspacl FROM pg_catalog.pg_namespace n WHERE n.oid OPERATOR(pg_catalog.=) $1 AND $2 OPERATOR(pg_catalog.=) $3",
        (_, "") => "SELECT c.relacl FROM pg_catalog.pg_class c WHERE c.relnamespace OPERATOR(pg_catalog.=) $1 AND c.relname OPERATOR(pg_catalog.=) $2 AND $3 OPERATOR(pg_catalog.=) ''",
        _ => {
            "SELECT a.attacl FROM pg_catalog.pg_class c JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) c.oid
              WHERE c.relnamespace OPERATOR(pg_catalog.=) $1 AND c.relname OPERATOR(pg_catalog.=) $2 AND a.attname OPERATOR(pg_catalog.=) $3"
        }
    };
    let sql = format!(
        "SELECT FROM ({acl}) x(acl), pg_catalog.aclexplode(x.acl) a WHERE a.grantee OPERATOR(pg_catalog.=) $4 AND a.privilege_type OPERATOR(pg_catalog.=) $5"
    );
    exists(&sql, &[pg_sys::Oid::from(schema.oid).into(), table.into(), column.into(), pg_sys::Oid::from(role).into(), kind.into()])
}

/// tq_grant(role, rights, tenant)
fn grant(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"tq_grant()");
    change(args, true)
}
/// tq_revoke(role, rights, tenant)
fn revoke(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"tq_revoke()");
    change(args, false)
}

/// tq_recycle(): this database's executors leave as soon as they can; how many. Workers are told, each of itself and of what it has.
fn recycle(_args: &Args) -> Result<Ret> {
    let Some(s) = shared::get() else { return Ok(Ret::Int(0)) };
    for claim in s.used_claims().iter().filter(|claim| claim.is_live() && claim.database.load() == shmem::my_database()) {
        claim.tell(&s, told::DRAIN);
    }
    for (place, taker) in s.used_takers().iter().enumerate() {
        if taker.pid.load() != 0 && taker.database.load() == shmem::my_database() {
            taker.recycled.store(1);
            s.tell_taker(place as u32);
        }
    }
    let mut leaving = 0;
    for slot in s.slots {
        // One that is starting has read its settings already, perhaps.
        if slot.state.load() != SlotState::Free && slot.database.load() == shmem::my_database() {
            slot.leave.store(1);
            if let Some(proc) = slot.proc.load().checked_sub(1) {
                latch::wake(proc);
            }
            leaving += 1;
        }
    }
    Ok(Ret::Int(leaving))
}

sql_functions! {
    tq_grant, pg_finfo_tq_grant => |args| patience::bounded("tq_grant()", || grant(args));
    tq_revoke, pg_finfo_tq_revoke => |args| patience::bounded("tq_revoke()", || revoke(args));
    tenant_q_grant_all_step, pg_finfo_tenant_q_grant_all_step => |args| patience::bounded("tq_grant_all()", || grant_all_step(args));
    tenant_q_all_tenants, pg_finfo_tenant_q_all_tenants => all_tenants;
    tq_recycle, pg_finfo_tq_recycle => recycle;
}
