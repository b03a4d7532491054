//! tq_grant and tq_revoke: four levels, each a few of the owner's own GRANTs on the tenant's
//! tables. No roles are made, nothing is remembered: what was granted is in the catalogs, is dumped
//! with the schema, and can be given and taken by plain GRANT and REVOKE as well.
//!
//! The privileges are marks that our functions ask for. By themselves they allow as little as can
//! be: column privileges that fill no row, and never UPDATE.

use crate::postgres::call::{Args, Ret};
use crate::postgres::error::{Error, Result};
use crate::postgres::sqlstate::SqlState;
use crate::postgres::{catalog, latch, sandbox, shmem, transaction};
use crate::pure::word::SlotState;
use crate::tenant::rights::require_owner;
use crate::{shared, sql_functions, tenant};
use pgrx::{Spi, pg_sys};

/// A privilege of PostgreSQL's, and the tables it is on.
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

fn change(args: &Args, grant: bool) -> Result<Ret> {
    let role = args.text(0).ok_or_else(|| Error::new(SqlState::NULL_VALUE_NOT_ALLOWED, "role is null"))?;
    let names = args.texts(1).ok_or_else(|| Error::new(SqlState::NULL_VALUE_NOT_ALLOWED, "rights is null"))?;
    let tenant = tenant::resolve(args.text(2).as_deref())?;
    require_owner(tenant.owner, &tenant.name)?;
    let Some(oid) = catalog::role_oid(&role) else {
        return Err(Error::undefined(format!("role \"{role}\" does not exist"))
            .hint("tq_grant makes no roles, and takes the bare name: not quoted, not folded to lower case. CREATE ROLE first."));
    };
    let mut wanted = Vec::new();
    for name in &names {
        let Some((_, privileges)) = RIGHTS.iter().find(|(right, _)| right == name) else {
            return Err(Error::invalid(format!("rights names \"{name}\", which is none")).hint("They are enqueue, read, operate and work."));
        };
        wanted.extend(privileges.iter());
    }
    if wanted.is_empty() {
        return Err(Error::invalid("rights is empty").hint("They are enqueue, read, operate and work."));
    }
    if oid == tenant.owner {
        Error::new(SqlState::SUCCESSFUL_COMPLETION, format!("role \"{role}\" owns the schema and has all rights")).notice();
        return Ok(Ret::Void);
    }
    let (schema, role) = (catalog::quote(&tenant.name), catalog::quote(&role));
    let mut statements = Vec::new();
    if grant {
        statements.push(format!("GRANT USAGE ON SCHEMA {schema} TO {role}"));
    }
    for (privilege, tables) in wanted {
        let tables = tables.iter().map(|t| format!("{schema}.{t}")).collect::<Vec<_>>().join(", ");
        statements.push(if grant {
            format!("GRANT {privilege} ON {tables} TO {role}")
        } else {
            format!("REVOKE {privilege} ON {tables} FROM {role} CASCADE")
        });
    }
    if !grant && names.iter().any(|n| n == "enqueue") {
        // As 0.1.0 granted it.
        statements.push(format!("REVOKE INSERT (handler) ON {schema}.tq_task FROM {role} CASCADE"));
    }
    sandbox::as_owner(pg_sys::Oid::from(tenant.owner), || statements.iter().try_for_each(|sql| Spi::run(sql)).map_err(Error::from))?;
    Ok(Ret::Void)
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

/// tq_recycle(): this database's executors leave as soon as they can; how many.
fn recycle(_args: &Args) -> Result<Ret> {
    let Some(s) = shared::get() else { return Ok(Ret::Int(0)) };
    let mut told = 0;
    for slot in s.slots {
        if slot.state.load() == SlotState::Working && slot.database.load() == shmem::my_database() {
            slot.leave.store(1);
            if let Some(proc) = slot.proc.load().checked_sub(1) {
                latch::wake(proc);
            }
            told += 1;
        }
    }
    Ok(Ret::Int(told))
}

sql_functions! {
    tq_grant, pg_finfo_tq_grant => grant;
    tq_revoke, pg_finfo_tq_revoke => revoke;
    tq_recycle, pg_finfo_tq_recycle => recycle;
}
