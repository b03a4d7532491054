//! A transaction of a worker's own: committed on Ok, aborted on any error.
//!
//! pgrx's helper rethrows without aborting, which leaves the next one "in state STARTED".

use crate::postgres::caught::{Failure, catch};
use crate::postgres::worker::TurnMemory;
use crate::pure::time::At;
use pgrx::pg_sys;

/// Runs `f` in a transaction with a snapshot. An ERROR or an `Err` rolls it back.
pub fn run<T>(f: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    crate::postgres::memory::keep_reserve();
    begin();
    let result = catch(|| {
        let value = f()?;
        crate::postgres::memory::check()?;
        commit();
        Ok(value)
    })
    .and_then(|r| r);
    if result.is_err() {
        abort();
    }
    result
}

/// How long a worker waits for a lock on its own behalf, in milliseconds: for less long than anybody waits before looking
/// for a deadlock, so that of a circle with somebody's DROP EXTENSION or DROP SCHEMA the worker is the one that gives way.
fn lock_timeout() -> i32 {
    // SAFETY: reads a setting.
    let deadlock_timeout = unsafe { pg_sys::DeadlockTimeout };
    (deadlock_timeout / 2).clamp(1, 1000)
}

/// Starts a transaction and pushes its snapshot. Waits for locks are short until somebody says
/// otherwise (timeout::limit_locks): who holds one holds up a place that all tenants need.
pub fn begin() {
    crate::postgres::timeout::limit_locks(lock_timeout());
    // SAFETY: called by a worker between transactions.
    unsafe {
        pg_sys::SetCurrentStatementStartTimestamp();
        pg_sys::StartTransactionCommand();
        pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
    }
}

/// Replaces the active snapshot by a newer one, so that what follows sees what preceded.
pub fn refresh_snapshot() {
    // SAFETY: inside a transaction. begin() pushed one; a procedure that has committed may have left none.
    unsafe {
        pg_sys::CommandCounterIncrement();
        if pg_sys::ActiveSnapshotSet() {
            pg_sys::PopActiveSnapshot();
        }
        pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
    }
}

pub fn commit() {
    // SAFETY: begin() was called. Its snapshot may have others above it (see_own_writes).
    unsafe {
        while pg_sys::ActiveSnapshotSet() {
            pg_sys::PopActiveSnapshot();
        }
        pg_sys::CommitTransactionCommand();
    }
    TurnMemory::back();
}

/// Rolls back and leaves a clean session, whatever state the error found it in.
pub fn abort() {
    // SAFETY: AbortCurrentTransaction is legal in every transaction state.
    unsafe {
        pg_sys::AbortCurrentTransaction();
        pg_sys::FlushErrorState();
    }
    TurnMemory::back();
}

/// Makes every commit of this session so far durable.
pub fn flush_commits() {
    // SAFETY: XactLastCommitEnd is this backend's own; 0 when it has not committed anything.
    unsafe {
        if pg_sys::XactLastCommitEnd != 0 {
            pg_sys::XLogFlush(pg_sys::XactLastCommitEnd);
        }
    }
}

/// Flushes WAL up to what has been inserted so far by anyone.
pub fn flush_all() {
    // SAFETY: both are callable at any time outside recovery.
    unsafe {
        let inserted = pg_sys::GetXLogInsertRecPtr();
        // At the start of a page the position is already behind the page's header (24 bytes, 40 in
        // a file's first page), which nobody has written: there is nothing to flush beyond the page
        // before, and asking for more is an error. 40 elsewhere is the end of a record.
        let page = pg_sys::XLOG_BLCKSZ as u64;
        let header = if inserted % (pg_sys::wal_segment_size as u64) < page { 40 } else { 24 };
        let in_page = inserted % page;
        pg_sys::XLogFlush(if in_page == header { inserted - in_page } else { inserted });
    }
}

/// Runs deferred triggers and drops portals now, until nothing is left: at commit they would run
/// outside the tenant's search_path.
///
/// PostgreSQL's own loop goes on while triggers defer more, in the order of a commit. One that never stops is as a handler
/// that never returns: the attempt's timeout ends it. In somebody else's transaction, where none may be armed, rounds are
/// counted (deferred.rs).
pub fn fire_deferred() -> Result<(), Failure> {
    for _ in 0..crate::postgres::deferred::ROUNDS {
        // SAFETY: what CommitTransaction does, a little earlier; no query is running.
        unsafe {
            crate::postgres::caught::call_raw(|| raw::AfterTriggerFireDeferred())?;
            if !crate::postgres::caught::call_raw(|| raw::PreCommit_Portals(false))? {
                return Ok(());
            }
        }
    }
    Err(crate::postgres::deferred::without_end())
}

/// Advisory, listening, cursors, prepared statements, temp tables: nothing of a task stays.
/// At no cost when nothing was touched.
pub fn drop_session_state() {
    // SAFETY: what DISCARD ALL does, between transactions, less the plan cache, which is ours too.
    unsafe {
        pg_sys::PortalHashTableDeleteAll();
        pg_sys::DropAllPreparedStatements();
        raw::Async_UnlistenAll();
        pg_sys::LockReleaseAll(2 /* USER_LOCKMETHOD */, true);
        raw::ResetSequenceCaches();
    }
}

/// Drops the session's temporary tables; needs a transaction.
pub fn drop_temp_tables() {
    // SAFETY: called inside a transaction of the session's own role.
    unsafe { pg_sys::ResetTempTableNamespace() }
}

/// Whether this session has created a temporary namespace.
pub fn has_temp_tables() -> bool {
    let (mut ns, mut toast) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
    // SAFETY: fills two variables of ours.
    unsafe { pg_sys::GetTempNamespaceState(&mut ns, &mut toast) };
    ns != pg_sys::InvalidOid
}

mod raw {
    unsafe extern "C-unwind" {
        pub fn AfterTriggerFireDeferred();
        pub fn IsTransactionState() -> bool;
        pub fn PreCommit_Portals(is_prepare: bool) -> bool;
        pub fn Async_UnlistenAll();
        pub fn ResetSequenceCaches();
    }
}

/// Lets what follows see what this transaction has written, under the same snapshot otherwise: up to the end of the call,
/// [`balanced`], that this is in.
pub fn see_own_writes() {
    // SAFETY: inside a transaction. A snapshot that somebody else uses as well, a statement or a walk over rows, stays as it
    // is, or they would come upon what is written here: a copy takes its place.
    unsafe {
        pg_sys::CommandCounterIncrement();
        let Some(active) = active_snapshot().as_ref() else { return };
        if active.active_count != 1 || active.regd_count != 0 {
            pg_sys::PushCopiedSnapshot(pg_sys::GetActiveSnapshot());
        }
        pg_sys::UpdateActiveSnapshotCommandId();
    }
}

fn active_snapshot() -> pg_sys::Snapshot {
    // SAFETY: asked only where there is one.
    unsafe { if pg_sys::ActiveSnapshotSet() { pg_sys::GetActiveSnapshot() } else { std::ptr::null_mut() } }
}

/// Runs `f`, which is within one transaction; the snapshot that was active before is so again.
pub fn balanced<T>(f: impl FnOnce() -> T) -> T {
    let before = active_snapshot();
    let value = f();
    // After an ERROR this is left to abort.
    while !active_snapshot().is_null() && active_snapshot() != before {
        // SAFETY: there is one, which lies above `before`.
        unsafe { pg_sys::PopActiveSnapshot() };
    }
    value
}

/// Runs `f` under the newest snapshot, whatever the statement's own is; with what this transaction has
/// written itself.
pub fn with_latest_snapshot<T>(f: impl FnOnce() -> T) -> T {
    balanced(|| {
        // SAFETY: inside a transaction; see balanced.
        unsafe {
            pg_sys::CommandCounterIncrement();
            pg_sys::PushActiveSnapshot(pg_sys::GetLatestSnapshot());
        }
        f()
    })
}

/// Runs `f` under a snapshot that sees all that this transaction has written, as its next statement would.
pub fn with_snapshot<T>(f: impl FnOnce() -> T) -> T {
    balanced(|| {
        // SAFETY: inside a transaction; see balanced.
        unsafe {
            pg_sys::CommandCounterIncrement();
            pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        }
        f()
    })
}

/// Whether every statement of this transaction sees the same: waiting would be in vain.
pub fn has_frozen_snapshot() -> bool {
    // SAFETY: reads a static.
    unsafe { pg_sys::XactIsoLevel >= pg_sys::XACT_REPEATABLE_READ as i32 }
}

/// Refuses where the transaction may not write: with the error PostgreSQL itself has for it.
pub fn require_writable(what: &std::ffi::CStr) {
    // SAFETY: raises or returns.
    unsafe {
        pg_sys::PreventCommandIfReadOnly(what.as_ptr());
        pg_sys::PreventCommandDuringRecovery(what.as_ptr());
    }
}

/// The next transaction id that will be given out.
pub fn next_xid() -> u32 {
    // SAFETY: reads shared memory under a lock of PostgreSQL's own.
    unsafe { pg_sys::ReadNextFullTransactionId() }.value as u32
}

/// Whether this statement is refused where only one of its own transaction may be (DROP DATABASE and the like).
pub fn is_in_block(is_top_level: bool) -> bool {
    // SAFETY: reads the transaction's state.
    unsafe { pg_sys::IsInTransactionBlock(is_top_level) }
}

/// Whether the transaction has written anything, or locked a row.
pub fn has_xid() -> bool {
    // SAFETY: reads the transaction's state.
    unsafe { pg_sys::GetTopTransactionIdIfAny() != pg_sys::InvalidTransactionId }
}

/// Whether the transaction can write at all.
pub fn is_writable() -> bool {
    // SAFETY: reads the transaction's state.
    unsafe { !pg_sys::XactReadOnly && !pg_sys::RecoveryInProgress() && !pg_sys::IsInParallelMode() }
}

/// When the present transaction began: what now() says.
pub fn started_at() -> At {
    // SAFETY: reads a variable.
    At::of_micros(unsafe { pg_sys::GetCurrentTransactionStartTimestamp() })
}

/// Tells transactions of this process apart.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct LocalId(u32);

impl LocalId {
    /// Of the present one.
    pub fn now() -> LocalId {
        // SAFETY: every process of the server's has this, once it is connected to a database.
        unsafe {
            #[cfg(any(feature = "pg15", feature = "pg16"))]
            return LocalId((*pg_sys::MyProc).lxid);
            #[cfg(not(any(feature = "pg15", feature = "pg16")))]
            return LocalId((*pg_sys::MyProc).vxid.lxid);
        }
    }
}

/// Panics outside of a transaction, where neither a table nor a catalog can be read.
pub fn require() {
    // SAFETY: reads the transaction's state.
    assert!(unsafe { raw::IsTransactionState() }, "inside a transaction");
}
