//! The timeout of an attempt.
//!
//! Nothing arms statement_timeout in a background worker, and a handler may swallow a cancel. So
//! this is a timer of our own: it cancels, a second later cancels again, and then terminates,
//! which no handler can catch. Never SIGKILL: that restarts the whole server.

use pgrx::pg_sys;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};

static ID: AtomicI32 = AtomicI32::new(-1);
static FIRED: AtomicU32 = AtomicU32::new(0);
/// An attempt is under way, whether or not its timeout is 0.
static ARMED: AtomicBool = AtomicBool::new(false);
/// In somebody's own session: it is cancelled again and again, but never ended.
static CANCELS_ONLY: AtomicBool = AtomicBool::new(false);
/// So often it cancels.
const CANCELS: u32 = 2;

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

unsafe extern "C-unwind" fn expired() {
    let fired = FIRED.fetch_add(1, Ordering::Relaxed) + 1;
    super::interrupt::count();
    // SAFETY: the flags that StatementCancelHandler and die set, in the context of a signal
    // handler, where timeouts are delivered.
    unsafe {
        if fired <= CANCELS || CANCELS_ONLY.load(Ordering::Relaxed) {
            pg_sys::QueryCancelPending = true as _;
        } else {
            pg_sys::ProcDiePending = true as _;
        }
        pg_sys::InterruptPending = true as _;
        libc::kill(libc::getpid(), 0);
        SetLatch(pg_sys::MyLatch);
    }
}
unsafe extern "C-unwind" {
    fn SetLatch(latch: *mut pg_sys::Latch);
}

/// Reserves the timer; once per worker, after it has connected.
pub fn register() {
    // SAFETY: the subsystem was initialised by the connection.
    ID.store(unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| raw::RegisterTimeout(USER_TIMEOUT, Some(expired))) }, Ordering::Relaxed);
}

/// Arms the timer: cancel after `millis`, again a second later, then terminate.
pub fn arm(millis: i64) {
    FIRED.store(0, Ordering::Relaxed);
    ARMED.store(true, Ordering::Relaxed);
    let id = ID.load(Ordering::Relaxed);
    if millis > 0 && id >= 0 {
        let at = super::clock::now() + millis * 1000;
        // SAFETY: a timer registered above.
        unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| raw::enable_timeout_every(id, at, 1000)) };
    }
}

/// The same in a session that isn't a worker's: only cancels. statement_timeout is another timer
/// and goes on beside it.
pub fn arm_cancels(millis: i64) {
    CANCELS_ONLY.store(true, Ordering::Relaxed);
    if ID.load(Ordering::Relaxed) < 0 {
        register();
    }
    arm(millis);
}

/// Disarms it and says whether it had fired.
pub fn disarm() -> bool {
    ARMED.store(false, Ordering::Relaxed);
    let id = ID.load(Ordering::Relaxed);
    if id >= 0 {
        // SAFETY: a timer registered above.
        unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| raw::disable_timeout(id, false)) };
    }
    FIRED.load(Ordering::Relaxed) > 0
}

/// Whether an attempt is under way here, from `arm` to `disarm`.
pub fn is_armed() -> bool {
    ARMED.load(Ordering::Relaxed)
}

/// Whether it is this timer that terminates the process.
pub fn has_terminated() -> bool {
    FIRED.load(Ordering::Relaxed) > CANCELS
}

// ---- locks

/// Waits for locks end after this (lock_timeout); 0 = never. Directly, without the machinery of
/// settings: it is done for every task.
pub fn limit_locks(millis: i32) {
    // SAFETY: this process's own variable, read when a wait begins.
    unsafe { pg_sys::LockTimeout = millis }
}
