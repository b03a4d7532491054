//! A callback after the top-level transaction has released its locks.
//!
//! XACT_EVENT_COMMIT is too early for a wake: another process could still see the old catalogs or
//! wait for the committer's locks. Resource release, phase AFTER_LOCKS, is behind both.
//! The callback may not fail: atomics and latches only.

use pgrx::pg_sys;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

static CALLBACK: AtomicPtr<()> = AtomicPtr::new(std::ptr::null_mut());
static ROLLED_BACK: AtomicPtr<()> = AtomicPtr::new(std::ptr::null_mut());
/// The transaction ends with PREPARE: it hasn't committed, and perhaps never will.
static PREPARED: AtomicBool = AtomicBool::new(false);

/// Calls `after(committed)` at the end of every top-level transaction of this process, and
/// `rolled_back(id)` when a subtransaction is rolled back: with its id, which is less than those of all that
/// were begun inside of it. Once.
pub fn on_transaction_end(after: fn(bool), rolled_back: fn(u32)) {
    if !CALLBACK.swap(after as *mut (), Ordering::Relaxed).is_null() {
        return;
    }
    ROLLED_BACK.store(rolled_back as *mut (), Ordering::Relaxed);
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
    PREPARED.store(event == pg_sys::XactEvent::XACT_EVENT_PREPARE, Ordering::Relaxed);
}

unsafe extern "C-unwind" fn subtransaction(
    event: pg_sys::SubXactEvent::Type,
    id: pg_sys::SubTransactionId,
    _parent: pg_sys::SubTransactionId,
    _arg: *mut std::ffi::c_void,
) {
    let rolled_back = ROLLED_BACK.load(Ordering::Relaxed);
    if event == pg_sys::SubXactEvent::SUBXACT_EVENT_ABORT_SUB && !rolled_back.is_null() {
        // SAFETY: only on_transaction_end stores here, and it stores a `fn(u32)`.
        let rolled_back: fn(u32) = unsafe { std::mem::transmute(rolled_back) };
        rolled_back(id);
    }
}

unsafe extern "C-unwind" fn release(phase: pg_sys::ResourceReleasePhase::Type, commit: bool, top_level: bool, _arg: *mut std::ffi::c_void) {
    if top_level && phase == pg_sys::ResourceReleasePhase::RESOURCE_RELEASE_AFTER_LOCKS {
        let after = CALLBACK.load(Ordering::Relaxed);
        if !after.is_null() {
            // SAFETY: only on_transaction_end stores here, and it stores a `fn(bool)`.
            let after: fn(bool) = unsafe { std::mem::transmute(after) };
            after(commit && !PREPARED.swap(false, Ordering::Relaxed));
        }
    }
}
