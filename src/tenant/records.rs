//! The extension's own tables: running SQL on them, declaring rows of them, and telling every session that they have changed.
//!
//! Applications declare what they need whenever a process of theirs starts, several at once. So a declaration that changes
//! nothing writes nothing and waits for nobody; those of one tenant that do take turns.

use crate::postgres::column::{Relation, TableId};
use crate::postgres::error::{Error, Result};
use crate::postgres::interval::Interval;
use crate::postgres::relation::{Access, Table};
use crate::postgres::sqlstate::SqlState;
use crate::postgres::{catalog, invalidation, sandbox, transaction};
use crate::pure::time::Span;
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

/// Whether the query finds a row: as things stand now, whatever the statement's snapshot. Writes nothing.
pub(crate) fn exists(sql: &str, args: &[DatumWithOid]) -> Result<bool> {
    let found = || Spi::connect(|c| c.select(sql, Some(1), args).map(|rows| !rows.is_empty()));
    transaction::with_latest_snapshot(|| sandbox::as_extension(found)).map_err(Error::from)
}

/// What a declaration says of one column.
pub(crate) struct Cell<'a> {
    column: &'static str,
    value: DatumWithOid<'a>,
    /// SQL that makes the column's type of the value's, with a `$` where that stands.
    sql: &'static str,
    says: Says,
    /// What is compared of the value and the column.
    alike: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Says {
    /// What is declared: where this is so already, nothing is written.
    Meant,
    /// What is noted with every change.
    Noted,
    /// What a new row begins with.
    Once,
}

/// The column is to have this value.
pub(crate) fn cell<'a>(column: &'static str, value: impl Into<DatumWithOid<'a>>) -> Cell<'a> {
    Cell { column, value: value.into(), sql: "$", says: Says::Meant, alike: "" }
}

/// The same of an interval.
pub(crate) fn interval_cell(column: &'static str, value: Option<Span>) -> Cell<'static> {
    Cell { column, value: value.map(Span::seconds).into(), sql: "pg_catalog.make_interval(secs => $)", says: Says::Meant, alike: "" }
}

/// The same with its months and days as they are, which are no others because they are as long.
pub(crate) fn period_cell(column: &'static str, value: Option<Interval>) -> Cell<'static> {
    Cell { alike: "::pg_catalog.text", ..cell(column, value) }
}

impl Cell<'_> {
    /// Written with every change, but no change by itself.
    pub(crate) fn noted(self) -> Self {
        Cell { says: Says::Noted, ..self }
    }
    /// Written when the row is made.
    pub(crate) fn once(self) -> Self {
        Cell { says: Says::Once, ..self }
    }
}

/// What became of a declaration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Declared {
    New,
    Changed,
    /// It was so already.
    Same,
}

/// Makes the row of this key what the cells say; columns without one stay as they are. `lock` keeps others who declare the
/// like from it meanwhile, and is taken only where something is to be written. 40001: somebody else has, in a transaction
/// that can't see it.
pub(crate) fn declare(
    table: &str,
    key: &[(&'static str, &str)],
    cells: Vec<Cell>,
    mut lock: impl FnMut() -> Result<()>,
) -> Result<Declared> {
    let of_key: Vec<String> = (1..).zip(key).map(|(n, (column, _))| format!("old.{column} OPERATOR(pg_catalog.=) ${n}")).collect();
    let value = |n: usize, cell: &Cell| cell.sql.replace('$', &format!("${}", key.len() + n + 1));
    let meant: Vec<String> = (cells.iter().enumerate().filter(|(_, c)| c.says == Says::Meant))
        .map(|(n, c)| format!("old.{}{alike} IS NOT DISTINCT FROM {}{alike}", c.column, value(n, c), alike = c.alike))
        .collect();
    let (of_key, meant) = (of_key.join(" AND "), if meant.is_empty() { "true".into() } else { meant.join(" AND ") });
    let columns: Vec<&str> = key.iter().map(|(column, _)| *column).chain(cells.iter().map(|c| c.column)).collect();
    let values: Vec<String> = (1..=key.len()).map(|n| format!("${n}")).chain(cells.iter().enumerate().map(|(n, c)| value(n, c))).collect();
    let set: Vec<String> = (cells.iter().filter(|c| c.says != Says::Once)).map(|c| format!("{0} = EXCLUDED.{0}", c.column)).collect();
    let known = format!("SELECT FROM tenant_q.{table} old WHERE {of_key}");
    let look = format!("{known} AND {meant}");
    let write = format!(
        "INSERT INTO tenant_q.{table} ({}) VALUES ({}) ON CONFLICT ({}) DO {}",
        columns.join(", "),
        values.join(", "),
        key.iter().map(|(column, _)| *column).collect::<Vec<_>>().join(", "),
        if set.is_empty() { "NOTHING".into() } else { format!("UPDATE SET {}", set.join(", ")) }
    );
    let keys: Vec<DatumWithOid> = key.iter().map(|(_, value)| (*value).into()).collect();
    let all: Vec<DatumWithOid> = key.iter().map(|(_, value)| (*value).into()).chain(cells.into_iter().map(|c| c.value)).collect();
    if exists(&look, &all)? {
        return Ok(Declared::Same);
    }
    lock()?;
    if exists(&look, &all)? {
        return Ok(Declared::Same);
    }
    let declared = if exists(&known, &keys)? { Declared::Changed } else { Declared::New };
    run(&write, &all)?;
    Ok(declared)
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
            "SELECT FROM tenant_q.{table} WHERE tenant OPERATOR(pg_catalog.=) $1
             HAVING pg_catalog.count(*) OPERATOR(pg_catalog.>=) {most} AND NOT pg_catalog.bool_or({alike} OPERATOR(pg_catalog.=) $2)"
        );
        match exists(&full, &[tenant.into(), key.into()])? {
            false => Ok(()),
            true => Err(Error::new(SqlState::PROGRAM_LIMIT_EXCEEDED, format!("tenant \"{tenant}\" has {most} {name}, as many as it may"))
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
