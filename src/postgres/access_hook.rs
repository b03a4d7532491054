//! The hook that PostgreSQL calls as objects are touched: after its own check of the right, before the deed.

use pgrx::pg_sys;
use std::sync::OnceLock;

static mut PREVIOUS: pg_sys::object_access_hook_type = None;
static DROPPED: OnceLock<fn(u32)> = OnceLock::new();

/// Calls `dropped` with each database that is about to be dropped, by somebody who may. Once, while preloading.
pub fn on_drop_database(dropped: fn(u32)) {
    if DROPPED.set(dropped).is_ok() {
        // SAFETY: _PG_init.
        unsafe {
            PREVIOUS = pg_sys::object_access_hook;
            pg_sys::object_access_hook = Some(access);
        }
    }
}

/// Not pg_guard'ed, as in utility.rs: other hooks' errors pass through as they are.
unsafe extern "C-unwind" fn access(
    access: pg_sys::ObjectAccessType::Type,
    class: pg_sys::Oid,
    object: pg_sys::Oid,
    sub: i32,
    argument: *mut std::ffi::c_void,
) {
    // SAFETY: the hook's contract; the previous one is called first, with the arguments it came with. Nothing
    // is held here that an ERROR would have to free.
    unsafe {
        if let Some(previous) = PREVIOUS {
            previous(access, class, object, sub, argument);
        }
        if access == pg_sys::ObjectAccessType::OAT_DROP && class == pg_sys::Oid::from(pg_sys::DatabaseRelationId.to_u32()) {
            announce(object.to_u32());
        }
    }
}

#[pgrx::pg_guard]
extern "C-unwind" fn announce(database: u32) {
    if let Some(dropped) = DROPPED.get() {
        dropped(database);
    }
}
