//! The extension's own tables: running SQL on them, and telling every session that they have changed.

use crate::postgres::column::{Relation, TableId};
use crate::postgres::error::{Error, Result};
use crate::postgres::relation::{Access, Table};
use crate::postgres::sqlstate::SqlState;
use crate::postgres::{catalog, invalidation, sandbox};
use crate::tenant::{self, registry};
use pgrx::datum::DatumWithOid;
use pgrx::{Spi, pg_sys};

/// One of the extension's own tables.
pub fn open<R: Relation>(name: &str, access: Access) -> Result<Table<R>> {
    let gone = || Error::state(format!("table tenant_q.{name} is gone"));
    let oid = catalog::relation_oid(tenant::registry()?.schema, name).ok_or_else(gone)?;
    Table::open(TableId::of(oid), access).ok_or_else(gone)
}

/// Runs SQL on the extension's own tables.
pub(crate) fn run(sql: &str, args: &[DatumWithOid]) -> Result<u64> {
    sandbox::as_extension(|| Spi::connect_mut(|c| c.update(sql, None, args).map(|t| t.len() as u64)).map_err(Error::from))
}

/// What every session that works for a tenant reads whole, so that there must not be any number of them.
pub(crate) struct Few {
    pub table: &'static str,
    /// SQL over one row: what another row of the same definition has alike.
    pub key: &'static str,
    /// In an error.
    pub name: &'static str,
    pub most: i64,
    pub hint: &'static str,
}

impl Few {
    /// 54000 where a definition of this key would be one too many for the tenant.
    pub(crate) fn check_room(&self, tenant: &str, key: &str) -> Result<()> {
        let Few { table, key: alike, name, most, hint } = self;
        let full = format!(
            "SELECT 1 FROM tenant_q.{table} WHERE tenant OPERATOR(pg_catalog.=) $1
             HAVING pg_catalog.count(*) OPERATOR(pg_catalog.>=) {most} AND NOT pg_catalog.bool_or({alike} OPERATOR(pg_catalog.=) $2)"
        );
        match run(&full, &[tenant.into(), key.into()])? {
            0 => Ok(()),
            _ => Err(Error::new(SqlState::PROGRAM_LIMIT_EXCEEDED, format!("tenant \"{tenant}\" has {most} {name}, as many as it may"))
                .detail("Every process that works for the tenant keeps all of them in memory.")
                .hint(*hint)),
        }
    }
}

/// Tells every session that the registry has changed.
pub(crate) fn announce_registry() -> Result<()> {
    let r = registry()?;
    invalidation::announce(pg_sys::Oid::from(r.tenant.oid()));
    Ok(())
}
