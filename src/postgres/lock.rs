//! A lock on a task's id until the end of the transaction: two sessions that enqueue the same id at
//! once are told apart, so that the second finds the first's task instead of failing.
//!
//! An advisory lock of a class that SQL can't name: nobody can take or drop it by hand.

use pgrx::pg_sys;

/// SQL's advisory locks are of class 1 and 2.
const CLASS: u16 = 7471;

pub fn task_id(database: u32, id: u128) {
    // The random bits of a UUID v7 are the low ones; a collision only makes somebody wait.
    acquire(database, (id as u64) ^ ((id >> 64) as u64), CLASS);
}

/// One pick at a time of a tenant whose tasks have limits.
pub fn gates(database: u32, tenant: u32) {
    acquire(database, tenant as u64, CLASS + 1);
}

fn acquire(database: u32, key: u64, class: u16) {
    let tag = pg_sys::LOCKTAG {
        locktag_field1: database,
        locktag_field2: (key >> 32) as u32,
        locktag_field3: key as u32,
        locktag_field4: class,
        locktag_type: pg_sys::LockTagType::LOCKTAG_ADVISORY as u8,
        locktag_lockmethodid: 2, // USER_LOCKMETHOD
    };
    // SAFETY: a transaction's lock, released with it; the tag is copied.
    unsafe { pg_sys::LockAcquire(&tag, pg_sys::ExclusiveLock as i32, false, false) };
}
