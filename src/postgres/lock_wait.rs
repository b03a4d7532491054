//! A wait for locks that has an end, and says afterwards what it was for.
//!
//! PostgreSQL's lock_timeout raises an error that doesn't name the lock, and by then the process waits for none any
//! more. So a timer looks now and then what it waits for.

use crate::postgres::caught::Failure;
use crate::postgres::subtransaction;
use crate::pure::time::Span;
use pgrx::pg_sys;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering::*};

/// How often it looks.
const LOOK_MS: i32 = 100;

static ID: AtomicI32 = AtomicI32::new(-1);
static SEEN: AtomicBool = AtomicBool::new(false);
static KIND: AtomicU32 = AtomicU32::new(0);
static FIELDS: [AtomicU32; 4] = [const { AtomicU32::new(0) }; 4];

#[cfg(any(feature = "pg15", feature = "pg16"))]
const USER_TIMEOUT: i32 = 12;
#[cfg(any(feature = "pg17", feature = "pg18"))]
const USER_TIMEOUT: i32 = 13;

mod raw {
    unsafe extern "C-unwind" {
        pub fn RegisterTimeout(id: i32, handler: Option<unsafe extern "C-unwind" fn()>) -> i32;
        pub fn enable_timeout_every(id: i32, fin_time: i64, delay_ms: i32);
        pub fn disable_timeout(id: i32, keep_indicator: bool);
    }
}

/// What a process waited for: what pg_locks shows of it.
#[derive(Clone, Copy, Debug)]
pub enum Lock {
    Transaction(u32),
    Relation(u32),
    /// A row: somebody else is before us in the queue for it.
    Row {
        relation: u32,
        page: u32,
        line: u32,
    },
    /// One of our own classes (postgres/lock.rs).
    Ours {
        key: [u32; 2],
        class: u32,
    },
    Other,
}

unsafe extern "C-unwind" fn look() {
    // SAFETY: in a signal handler of this process, between instructions of its own: it alone sets and clears
    // what it waits for, and what that points to lives in shared memory for as long as it waits or holds it.
    unsafe {
        let me = pg_sys::MyProc;
        if me.is_null() || (*me).waitLock.is_null() {
            return;
        }
        let tag = (*(*me).waitLock).tag;
        KIND.store(tag.locktag_type.into(), Relaxed);
        for (field, value) in FIELDS.iter().zip([tag.locktag_field1, tag.locktag_field2, tag.locktag_field3, tag.locktag_field4.into()]) {
            field.store(value, Relaxed);
        }
        SEEN.store(true, Relaxed);
    }
}

fn seen() -> Option<Lock> {
    let field = |n: usize| FIELDS[n].load(Relaxed);
    SEEN.load(Relaxed).then(|| match KIND.load(Relaxed) {
        pg_sys::LockTagType::LOCKTAG_TRANSACTION => Lock::Transaction(field(0)),
        pg_sys::LockTagType::LOCKTAG_RELATION => Lock::Relation(field(1)),
        pg_sys::LockTagType::LOCKTAG_TUPLE => Lock::Row { relation: field(1), page: field(2), line: field(3) },
        pg_sys::LockTagType::LOCKTAG_ADVISORY => Lock::Ours { key: [field(1), field(2)], class: field(3) },
        _ => Lock::Other,
    })
}

/// Runs `f` in a savepoint, waiting for no lock longer than `millis`, or than lock_timeout if that is less. And the
/// lock that was waited for last, if one was for a noticeable time.
pub fn bounded<T>(millis: i32, f: impl FnOnce() -> Result<T, Failure>) -> (Result<T, Failure>, Option<Lock>) {
    // SAFETY: the subsystem was initialised by the connection; a timer is registered once a process. lock_timeout is
    // this process's own variable, read when a wait begins, and put back below: every error under `f` is caught.
    let before = unsafe {
        if ID.load(Relaxed) < 0 {
            ID.store(pg_sys::ffi::pg_guard_ffi_boundary(|| raw::RegisterTimeout(USER_TIMEOUT, Some(look))), Relaxed);
        }
        let before = pg_sys::LockTimeout;
        pg_sys::LockTimeout = if before > 0 { before.min(millis) } else { millis };
        before
    };
    SEEN.store(false, Relaxed);
    let id = ID.load(Relaxed);
    // SAFETY: a timer registered above, taken off below.
    unsafe {
        pg_sys::ffi::pg_guard_ffi_boundary(|| {
            let first = crate::postgres::clock::now() + Span::of_millis(LOOK_MS.into());
            raw::enable_timeout_every(id, first.micros(), LOOK_MS)
        })
    };
    let result = subtransaction::run(f);
    // SAFETY: as above.
    unsafe {
        pg_sys::ffi::pg_guard_ffi_boundary(|| raw::disable_timeout(id, false));
        pg_sys::LockTimeout = before;
    }
    (result, seen())
}
