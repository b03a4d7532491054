//! Changes of the registry wait for other transactions that change the same: not for ever. A tenant can keep one open,
//! or prepared, for as long as it likes; an administrator is told who it is and goes on.

use crate::postgres::call::Ret;
use crate::postgres::caught::Failure;
use crate::postgres::error::{Error, Result};
use crate::postgres::lock_wait::{self, Lock};
use crate::postgres::sandbox;
use crate::postgres::sqlstate::SqlState;
use pgrx::Spi;

/// Long for whoever waits for somebody who works, short for whoever waits for somebody who has gone to lunch.
const PATIENCE_MS: i32 = 5000;

/// Runs a call that changes the registry. 55P03: somebody held what it needs.
pub fn bounded(call: &str, f: impl FnOnce() -> Result<Ret>) -> Result<Ret> {
    match lock_wait::bounded(PATIENCE_MS, || f().map_err(Failure::from)) {
        (Ok(value), _) => Ok(value),
        (Err(failure), Some(lock)) if failure.sqlstate == SqlState::LOCK_NOT_AVAILABLE => {
            Err(held(call, lock).unwrap_or_else(|| failure.into()))
        }
        (Err(failure), _) => Err(failure.into()),
    }
}

/// Who holds it, and how to be rid of them. None: they are gone meanwhile.
fn held(call: &str, lock: Lock) -> Option<Error> {
    let is_it = match lock {
        Lock::Transaction(xid) => {
            format!("l.locktype OPERATOR(pg_catalog.=) 'transactionid' AND l.transactionid OPERATOR(pg_catalog.=) '{xid}'::pg_catalog.xid")
        }
        Lock::Relation(relation) => {
            format!("l.locktype OPERATOR(pg_catalog.=) 'relation' AND l.relation OPERATOR(pg_catalog.=) '{relation}'::pg_catalog.oid")
        }
        Lock::Row { relation, page, line } => format!(
            "l.locktype OPERATOR(pg_catalog.=) 'tuple' AND l.relation OPERATOR(pg_catalog.=) '{relation}'::pg_catalog.oid
               AND l.page OPERATOR(pg_catalog.=) {page} AND l.tuple OPERATOR(pg_catalog.=) {line}::pg_catalog.int2"
        ),
        Lock::Ours { key: [high, low], class } => format!(
            "l.locktype OPERATOR(pg_catalog.=) 'advisory' AND l.classid OPERATOR(pg_catalog.=) '{high}'::pg_catalog.oid
               AND l.objid OPERATOR(pg_catalog.=) '{low}'::pg_catalog.oid AND l.objsubid OPERATOR(pg_catalog.=) {class}"
        ),
        Lock::Other => return None,
    };
    // A prepared transaction has no process, and a lock on its own transaction like any other.
    let sql = format!(
        "SELECT l.pid, p.gid, coalesce(a.usename::pg_catalog.text, p.owner::pg_catalog.text, '')
           FROM pg_catalog.pg_locks l
           LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid OPERATOR(pg_catalog.=) l.pid
           LEFT JOIN pg_catalog.pg_locks x ON l.pid IS NULL AND x.pid IS NULL AND x.locktype OPERATOR(pg_catalog.=) 'transactionid'
                AND x.virtualtransaction OPERATOR(pg_catalog.=) l.virtualtransaction
           LEFT JOIN pg_catalog.pg_prepared_xacts p ON p.transaction OPERATOR(pg_catalog.=) x.transactionid
          WHERE l.granted AND (l.pid IS NULL OR l.pid OPERATOR(pg_catalog.<>) pg_catalog.pg_backend_pid())
            AND (l.database IS NULL OR l.database OPERATOR(pg_catalog.=) (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()))
            AND {is_it} LIMIT 10"
    );
    let found: Vec<(Option<i32>, Option<String>, String)> = sandbox::as_extension(|| {
        Spi::connect(|c| {
            c.select(&sql, None, &[])?
                .map(|row| Ok((row.get::<i32>(1)?, row.get::<String>(2)?, row.get::<String>(3)?.unwrap_or_default())))
                .collect::<std::result::Result<Vec<_>, pgrx::spi::Error>>()
        })
    })
    .ok()?;
    let (mut who, mut how) = (Vec::new(), Vec::new());
    for (pid, gid, role) in found {
        if let Some(gid) = gid {
            who.push(format!("prepared transaction {} of role \"{role}\"", pgrx::spi::quote_literal(&gid)));
            how.push(format!("ROLLBACK PREPARED {}", pgrx::spi::quote_literal(&gid)));
        } else if let Some(pid) = pid {
            who.push(format!("process {pid} of role \"{role}\""));
            how.push(format!("SELECT pg_terminate_backend({pid})"));
        }
    }
    let error = Error::new(SqlState::LOCK_NOT_AVAILABLE, format!("{call} has waited in vain for another transaction"));
    (!who.is_empty()).then(|| error.detail(format!("Held by {}.", who.join(", "))).hint(format!("{}; then call it again.", how.join("; "))))
}
