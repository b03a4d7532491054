//! Whether this database is the one it was set up as, or a copy of it.

use crate::postgres::error::{Error, Result};
use crate::postgres::{sandbox, shmem};
use pgrx::Spi;

pub fn own() -> (String, i64) {
    (shmem::system_identifier().to_string(), shmem::my_database() as i64)
}

/// Whether this database is known to be the one.
pub fn confirmed() -> Result<bool> {
    let (system, database) = own();
    sandbox::as_extension(|| {
        Spi::connect(|c| {
            let rows = c
                .select(
                    // A restore adds the original's row to the one that CREATE EXTENSION made.
                    "SELECT coalesce(pg_catalog.bool_and(system_identifier OPERATOR(pg_catalog.=) $1 AND database_oid::pg_catalog.int8 OPERATOR(pg_catalog.=) $2), false) FROM tenant_q.identity",
                    None,
                    &[system.into(), database.into()],
                )
                .map_err(Error::from)?;
            // No row: CREATE EXTENSION has always made one; without it nothing is confirmed.
            let confirmed = rows.into_iter().next().and_then(|r| r.get::<bool>(1).ok().flatten());
            Ok(confirmed.unwrap_or(false))
        })
    })
}
