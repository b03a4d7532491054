//! A callback after the top-level transaction has released its locks.
//!
//! XACT_EVENT_COMMIT is too early for a wake: another process could still see the old catalogs or
//! wait for the committer's locks. Resource release, phase AFTER_LOCKS, is behind both.
//! The callback may not fail: atomics and latches only.

use pgrx::pg_sys;
use std::sync::atomic::{AtomicPtr, Ordering};

static CALLBACK: AtomicPtr<()> = AtomicPtr::new(std::ptr::null_mut());

/// Calls `after(committed)` at the end of every top-level transaction of this process. Once.
pub fn on_transaction_end(after: fn(bool)) {
    if !CALLBACK.swap(after as *mut (), Ordering::Relaxed).is_null() {
        return;
    }
    // SAFETY: registers a function that stays loaded as long as the process lives.
    unsafe { pg_sys::RegisterResourceReleaseCallback(Some(release), std::ptr::null_mut()) };
}

unsafe extern "C-unwind" fn release(phase: pg_sys::ResourceReleasePhase::Type, commit: bool, top_level: bool, _arg: *mut std::ffi::c_void) {
    if top_level && phase == pg_sys::ResourceReleasePhase::RESOURCE_RELEASE_AFTER_LOCKS {
        let after = CALLBACK.load(Ordering::Relaxed);
        if !after.is_null() {
            // SAFETY: only on_transaction_end stores here, and it stores a `fn(bool)`.
            let after: fn(bool) = unsafe { std::mem::transmute(after) };
            after(commit);
        }
    }
}
