//! Telling caches that a table or its registry has changed.

use pgrx::pg_sys;
use std::sync::OnceLock;

static CALLBACK: OnceLock<fn(u32)> = OnceLock::new();

/// Calls `changed(relation)` whenever a relation's definition changes; 0 = anything may have.
/// Once per process. The callback may only set flags.
pub fn on_relation_change(changed: fn(u32)) {
    if CALLBACK.set(changed).is_err() {
        return;
    }
    // SAFETY: registers a function that stays loaded.
    unsafe { pg_sys::CacheRegisterRelcacheCallback(Some(callback), pg_sys::Datum::from(0)) };
}

unsafe extern "C-unwind" fn callback(_arg: pg_sys::Datum, relation: pg_sys::Oid) {
    if let Some(changed) = CALLBACK.get() {
        changed(relation.to_u32());
    }
}

static CATALOG_CALLBACK: OnceLock<fn()> = OnceLock::new();

/// Calls `changed()` whenever a function, a schema or a role changes.
pub fn on_catalog_change(changed: fn()) {
    if CATALOG_CALLBACK.set(changed).is_err() {
        return;
    }
    use pg_sys::SysCacheIdentifier::*;
    for cache in [PROCOID, NAMESPACEOID, AUTHOID, AUTHMEMMEMROLE, TYPEOID] {
        // SAFETY: registers a function that stays loaded.
        unsafe { pg_sys::CacheRegisterSyscacheCallback(cache as i32, Some(catalog_callback), pg_sys::Datum::from(0)) };
    }
}

unsafe extern "C-unwind" fn catalog_callback(_arg: pg_sys::Datum, _cache: i32, _hash: u32) {
    if let Some(changed) = CATALOG_CALLBACK.get() {
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
