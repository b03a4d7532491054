//! The end of a client's session, before its transaction is rolled back and while shared memory is still there.

use pgrx::pg_sys;
use std::sync::OnceLock;

/// How a session ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// The client said so, or is gone.
    Client,
    /// Somebody has terminated it, or the server goes down.
    Terminated,
}

static LAST: OnceLock<fn(Ending)> = OnceLock::new();

/// Calls `last` when this session ends. Once per process; it may not fail: atomics, latches and short locks only.
pub fn on_session_end(last: fn(Ending)) {
    if LAST.set(last).is_ok() {
        // SAFETY: registers a function that stays loaded.
        unsafe { pg_sys::before_shmem_exit(Some(exiting), pg_sys::Datum::from(0)) };
    }
}

unsafe extern "C-unwind" fn exiting(code: i32, _arg: pg_sys::Datum) {
    if let Some(last) = LAST.get() {
        last(if code == 0 { Ending::Client } else { Ending::Terminated });
    }
}
