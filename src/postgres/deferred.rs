//! Deferred triggers and constraints in the midst of somebody's transaction.
//!
//! At a worker's commit everything deferred is fired by `transaction::fire_deferred`. That empties
//! the transaction's list of events, which a savepoint may want back; here it is done as
//! SET CONSTRAINTS ALL IMMEDIATE does it, which knows savepoints.

use crate::postgres::caught::{self, Failure};
use crate::postgres::sqlstate::SqlState;
use pgrx::{Spi, pg_sys};
use std::ffi::c_char;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// What is fired may defer more: so often it is looked for again.
pub const ROUNDS: usize = 1000;

/// How constraints are declared in this database, so that they can be put back to it.
pub struct Declared {
    /// Those that are deferrable but not deferred of themselves, as SET CONSTRAINTS names them.
    immediate: Option<String>,
}

impl Declared {
    pub fn read() -> Declared {
        // Names in schemas that the user may not use can't be set, and can't have been deferred by
        // name either.
        let immediate = crate::postgres::sandbox::as_self(|| {
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
            caught::catch(|| Spi::run(&format!("SET CONSTRAINTS {names} IMMEDIATE")))?
                .map_err(|e| Failure::new(SqlState::INTERNAL_ERROR, e.to_string()))?;
        }
        Ok(())
    }
}

/// The same where the transaction ends next: constraints stay immediate.
pub fn fire() -> Result<(), Failure> {
    for _ in 0..ROUNDS {
        DEFERRED_AGAIN.store(false, Relaxed);
        set_all(false)?;
        // What is queued while all constraints are immediate is fired in the same round. Only a trigger that has
        // set some deferred again can have left anything, which would wait for a commit by somebody else.
        if !DEFERRED_AGAIN.load(Relaxed) {
            return Ok(());
        }
    }
    Err(without_end())
}

/// Deferred work that brings more of it, for ever.
pub fn without_end() -> Failure {
    let mut failure =
        Failure::new(SqlState::STATEMENT_TOO_COMPLEX, "deferred triggers or cursors have brought more of them again and again");
    failure.detail = Some(format!("After {ROUNDS} rounds there was still something left."));
    failure.hint = Some("Look for a deferred trigger that changes its own table.".into());
    failure
}

/// Some constraint has been set deferred by a statement of this session.
static DEFERRED_AGAIN: AtomicBool = AtomicBool::new(false);
static mut PREVIOUS: pg_sys::ProcessUtility_hook_type = None;

/// Hooks in; in _PG_init of every process, preloaded or not: tasks run in anybody's session.
pub fn register() {
    // SAFETY: _PG_init, once a process.
    unsafe {
        PREVIOUS = pg_sys::ProcessUtility_hook;
        pg_sys::ProcessUtility_hook = Some(process);
    }
}

/// Not pg_guard'ed, and the raw symbols called, as in utility.rs: an ERROR jumps through this frame, which holds nothing.
#[allow(clippy::too_many_arguments)]
unsafe extern "C-unwind" fn process(
    pstmt: *mut pg_sys::PlannedStmt,
    query: *const c_char,
    read_only: bool,
    context: pg_sys::ProcessUtilityContext::Type,
    params: pg_sys::ParamListInfo,
    env: *mut pg_sys::QueryEnvironment,
    dest: *mut pg_sys::DestReceiver,
    qc: *mut pg_sys::QueryCompletion,
) {
    // SAFETY: a planned utility statement, whose tag says what it is; the call is handed on with the arguments it came with.
    unsafe {
        let statement = (*pstmt).utilityStmt;
        if (*statement).type_ == pg_sys::NodeTag::T_ConstraintsSetStmt && (*(statement as *mut pg_sys::ConstraintsSetStmt)).deferred {
            DEFERRED_AGAIN.store(true, Relaxed);
        }
        match PREVIOUS {
            Some(next) => next(pstmt, query, read_only, context, params, env, dest, qc),
            None => raw::standard_ProcessUtility(pstmt, query, read_only, context, params, env, dest, qc),
        }
    }
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
        pub fn standard_ProcessUtility(
            pstmt: *mut pg_sys::PlannedStmt,
            query: *const std::ffi::c_char,
            read_only: bool,
            context: pg_sys::ProcessUtilityContext::Type,
            params: pg_sys::ParamListInfo,
            env: *mut pg_sys::QueryEnvironment,
            dest: *mut pg_sys::DestReceiver,
            qc: *mut pg_sys::QueryCompletion,
        );
        pub fn AfterTriggerSetState(statement: *mut pg_sys::ConstraintsSetStmt);
    }
}
