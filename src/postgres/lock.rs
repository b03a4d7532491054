//! Heavyweight locks of classes that SQL can't name: nobody can take or drop one by hand. What they are of is
//! said in tenant/lock.rs.

use crate::postgres::transaction;
use pgrx::pg_sys;

/// Held until the end of the transaction, a prepared one too. False = somebody else has it and `wait` is false.
///
/// `class`: SQL's advisory locks are of class 1 and 2.
pub fn acquire(database: u32, class: u16, key: u64, wait: bool) -> bool {
    transaction::require();
    let tag = tag(database, class, key);
    // SAFETY: a transaction's lock, released with it; the tag is copied.
    let got = unsafe { pg_sys::LockAcquire(&tag, pg_sys::ExclusiveLock as i32, false, !wait) };
    got != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
}

/// Gives one back that this transaction has taken, before its end.
pub fn release(database: u32, class: u16, key: u64) {
    transaction::require();
    let tag = tag(database, class, key);
    // SAFETY: a transaction's lock; of one that isn't held PostgreSQL warns.
    unsafe { pg_sys::LockRelease(&tag, pg_sys::ExclusiveLock as i32, false) };
}

fn tag(database: u32, class: u16, key: u64) -> pg_sys::LOCKTAG {
    debug_assert!(class > 2);
    pg_sys::LOCKTAG {
        locktag_field1: database,
        locktag_field2: (key >> 32) as u32,
        locktag_field3: key as u32,
        locktag_field4: class,
        locktag_type: pg_sys::LockTagType::LOCKTAG_ADVISORY as u8,
        locktag_lockmethodid: 2, // USER_LOCKMETHOD
    }
}
