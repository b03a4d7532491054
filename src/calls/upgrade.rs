//! tq_upgrade: tables that an older version has made get what this one would give them.

use crate::postgres::call::{Args, Ret};
use crate::postgres::error::{Error, Result};
use crate::postgres::relation::{Access, Table};
use crate::postgres::{catalog, sandbox, transaction};
use crate::sql_functions;
use crate::tenant::{self, lock, patience, shape};
use pgrx::{Spi, pg_sys};

/// tenant_q.bring_up(schema_name): the statements that its tables lacked are run, as their owner; how many.
fn bring_up(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"tq_upgrade()");
    let name = args.text(0).unwrap_or_default();
    let oid = catalog::schema_oid(&name).ok_or_else(|| Error::undefined(format!("schema \"{name}\" does not exist")))?;
    lock::declarations(oid)?;
    let tenant = tenant::by_oid(oid)?;
    let missing = match Table::try_open_any(tenant.result.oid(), Access::Read) {
        Ok(Some(table)) => shape::missing(&tenant, &table)?,
        _ => Vec::new(),
    };
    sandbox::as_owner(pg_sys::Oid::from(tenant.owner), || missing.iter().try_for_each(|statement| Spi::run(statement)))?;
    Ok(Ret::Int(missing.len() as i32))
}

sql_functions! {
    tenant_q_bring_up, pg_finfo_tenant_q_bring_up => |args| patience::bounded("tq_upgrade()", || bring_up(args));
}
