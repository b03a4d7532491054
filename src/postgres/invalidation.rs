//! Telling caches that a table or its registry has changed.

use pgrx::pg_sys;
use std::sync::atomic::{AtomicPtr, Ordering};

static CALLBACK: AtomicPtr<()> = AtomicPtr::new(std::ptr::null_mut());

/// Calls `changed(relation)` whenever a relation's definition changes; 0 = anything may have.
/// Once per process. The callback may only set flags.
pub fn on_relation_change(changed: fn(u32)) {
    if !CALLBACK.swap(changed as *mut (), Ordering::Relaxed).is_null() {
        return;
    }
    // SAFETY: registers a function that stays loaded.
    unsafe { pg_sys::CacheRegisterRelcacheCallback(Some(callback), pg_sys::Datum::from(0)) };
}

unsafe extern "C-unwind" fn callback(_arg: pg_sys::Datum, relation: pg_sys::Oid) {
    let changed = CALLBACK.load(Ordering::Relaxed);
    if !changed.is_null() {
        // SAFETY: only on_relation_change stores here.
        let changed: fn(u32) = unsafe { std::mem::transmute(changed) };
        changed(relation.to_u32());
    }
}

static PROC_CALLBACK: AtomicPtr<()> = AtomicPtr::new(std::ptr::null_mut());

/// Calls `changed()` whenever a function, a schema or a role changes.
pub fn on_catalog_change(changed: fn()) {
    if !PROC_CALLBACK.swap(changed as *mut (), Ordering::Relaxed).is_null() {
        return;
    }
    use pg_sys::SysCacheIdentifier::*;
    for cache in [PROCOID, NAMESPACEOID, AUTHOID, AUTHMEMMEMROLE, TYPEOID] {
        // SAFETY: registers a function that stays loaded.
        unsafe { pg_sys::CacheRegisterSyscacheCallback(cache as i32, Some(proc_callback), pg_sys::Datum::from(0)) };
    }
}

unsafe extern "C-unwind" fn proc_callback(_arg: pg_sys::Datum, _cache: i32, _hash: u32) {
    let changed = PROC_CALLBACK.load(Ordering::Relaxed);
    if !changed.is_null() {
        // SAFETY: only on_catalog_change stores here.
        let changed: fn() = unsafe { std::mem::transmute(changed) };
        changed();
    }
}

/// Tells every session, at commit, that `relation`'s contents matter to a cache of theirs.
pub fn announce(relation: pg_sys::Oid) {
    // SAFETY: queues a message in the current transaction.
    unsafe { pg_sys::CacheInvalidateRelcacheByRelid(relation) };
}

/// Takes in what other sessions have announced.
pub fn accept() {
    // SAFETY: inside a transaction or between two.
    unsafe { pg_sys::AcceptInvalidationMessages() };
}
