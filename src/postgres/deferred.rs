//! Deferred triggers and constraints in the midst of somebody's transaction.
//!
//! At a worker's commit everything deferred is fired by `transaction::fire_deferred`. That empties
//! the transaction's list of events, which a savepoint may want back; here it is done as
//! SET CONSTRAINTS ALL IMMEDIATE does it, which knows savepoints.

use super::caught::{self, Failure};
use pgrx::{Spi, pg_sys};

/// How constraints are declared in this database, so that they can be put back to it.
pub struct Declared {
    /// Those that are deferrable but not deferred of themselves, as SET CONSTRAINTS names them.
    immediate: Option<String>,
}

impl Declared {
    pub fn read() -> Declared {
        // Names in schemas that the user may not use can't be set, and can't have been deferred by
        // name either.
        let immediate = super::sandbox::as_self(|| {
            Spi::get_one::<String>(
                "SELECT pg_catalog.string_agg(DISTINCT pg_catalog.format('%I.%I', n.nspname, c.conname), ', ')
                   FROM pg_catalog.pg_constraint c JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.connamespace
                  WHERE c.condeferrable AND NOT c.condeferred AND pg_catalog.has_schema_privilege(n.oid, 'USAGE')",
            )
        });
        Declared { immediate: immediate.ok().flatten() }
    }

    /// Fires everything that has been deferred in this transaction so far, until nothing is left.
    /// Afterwards constraints are as declared.
    pub fn fire(&self) -> Result<(), Failure> {
        fire()?;
        set_all(true)?;
        if let Some(names) = &self.immediate {
            caught::catch(|| Spi::run(&format!("SET CONSTRAINTS {names} IMMEDIATE")))?.map_err(|e| Failure::new("XX000", e.to_string()))?;
        }
        Ok(())
    }
}

/// The same where the transaction ends next: constraints stay immediate.
pub fn fire() -> Result<(), Failure> {
    set_all(false)
}

fn set_all(deferred: bool) -> Result<(), Failure> {
    let mut statement =
        pg_sys::ConstraintsSetStmt { type_: pg_sys::NodeTag::T_ConstraintsSetStmt, constraints: std::ptr::null_mut(), deferred };
    // SAFETY: the node that the parser makes of SET CONSTRAINTS ALL; it is only read.
    unsafe { caught::call_raw(|| raw::AfterTriggerSetState(&mut statement)) }
}

mod raw {
    use pgrx::pg_sys;
    unsafe extern "C-unwind" {
        pub fn AfterTriggerSetState(statement: *mut pg_sys::ConstraintsSetStmt);
    }
}
