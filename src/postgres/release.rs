//! What happens at the ends of transactions and savepoints.
//!
//! XACT_EVENT_COMMIT is too early for a wake: another process could still see the old catalogs or
//! wait for the committer's locks. Resource release, phase AFTER_LOCKS, is behind both.

use crate::postgres::call;
use crate::postgres::error::Result;
use pgrx::pg_sys;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// How a top-level transaction ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    Committed,
    RolledBack,
    /// PREPARE TRANSACTION: it hasn't committed, and perhaps never will.
    Prepared,
}

/// None of them but the one that may refuse may fail: atomics and latches only.
pub struct Callbacks {
    /// It is about to commit, and nobody sees it yet.
    pub before_commit: fn(),
    /// PREPARE TRANSACTION was given: an error refuses it.
    pub before_prepare: fn() -> Result<()>,
    /// It has ended, and its locks are out.
    pub ended: fn(End),
    /// A subtransaction has become part of its parent.
    pub released: fn(subtransaction: u32, parent: u32),
    /// A subtransaction is rolled back: its id is less than those of all that were begun inside of it.
    pub rolled_back: fn(subtransaction: u32),
}

static CALLBACKS: OnceLock<Callbacks> = OnceLock::new();
/// The transaction ends with PREPARE.
static PREPARED: AtomicBool = AtomicBool::new(false);

/// Calls these from now on, in this process. The first call counts, the others cost nothing.
pub fn on_transaction_end(callbacks: fn() -> Callbacks) {
    if CALLBACKS.get().is_some() || CALLBACKS.set(callbacks()).is_err() {
        return;
    }
    // SAFETY: registers functions that stay loaded as long as the process lives.
    unsafe {
        pg_sys::RegisterResourceReleaseCallback(Some(release), std::ptr::null_mut());
        pg_sys::RegisterXactCallback(Some(transaction), std::ptr::null_mut());
        pg_sys::RegisterSubXactCallback(Some(subtransaction), std::ptr::null_mut());
    }
}

/// The subtransaction that is open.
pub fn subtransaction_id() -> u32 {
    // SAFETY: reads the transaction's state.
    unsafe { pg_sys::GetCurrentSubTransactionId() }
}

unsafe extern "C-unwind" fn transaction(event: pg_sys::XactEvent::Type, _arg: *mut std::ffi::c_void) {
    if event == pg_sys::XactEvent::XACT_EVENT_PRE_PREPARE
        && let Some(callbacks) = CALLBACKS.get()
    {
        call::answer(callbacks.before_prepare);
    }
    PREPARED.store(event == pg_sys::XactEvent::XACT_EVENT_PREPARE, Ordering::Relaxed);
    if event == pg_sys::XactEvent::XACT_EVENT_PRE_COMMIT
        && let Some(callbacks) = CALLBACKS.get()
    {
        (callbacks.before_commit)();
    }
}

unsafe extern "C-unwind" fn subtransaction(
    event: pg_sys::SubXactEvent::Type,
    id: pg_sys::SubTransactionId,
    parent: pg_sys::SubTransactionId,
    _arg: *mut std::ffi::c_void,
) {
    let Some(callbacks) = CALLBACKS.get() else { return };
    match event {
        pg_sys::SubXactEvent::SUBXACT_EVENT_COMMIT_SUB => (callbacks.released)(id, parent),
        pg_sys::SubXactEvent::SUBXACT_EVENT_ABORT_SUB => (callbacks.rolled_back)(id),
        _ => {}
    }
}

unsafe extern "C-unwind" fn release(phase: pg_sys::ResourceReleasePhase::Type, commit: bool, top_level: bool, _arg: *mut std::ffi::c_void) {
    if top_level
        && phase == pg_sys::ResourceReleasePhase::RESOURCE_RELEASE_AFTER_LOCKS
        && let Some(callbacks) = CALLBACKS.get()
    {
        (callbacks.ended)(match (commit, PREPARED.swap(false, Ordering::Relaxed)) {
            (false, _) => End::RolledBack,
            (true, true) => End::Prepared,
            (true, false) => End::Committed,
        });
    }
}
