//! Signals that reach this process: whether somebody has cancelled what it does.
//!
//! That a query was cancelled can't be told by its error: whoever raises one chooses its SQLSTATE, and the
//! error of another server brings that server's. So the signals themselves are counted, in front of
//! PostgreSQL's own handlers, which do what they always do.

use pgrx::pg_sys;
use std::ffi::c_int;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::*};

/// Cancels of this process so far: SIGINT, and the timeout of an attempt.
static CAME: AtomicU32 = AtomicU32::new(0);
/// The handler of SIGINT that ours stands in front of; 0: ours isn't there.
static CANCEL: AtomicUsize = AtomicUsize::new(0);

/// `TimeoutId` of lock_timeout, the same in all versions.
const LOCK_TIMEOUT: c_int = 2;

/// A moment in the life of this process, to ask later what came since.
#[derive(Clone, Copy)]
pub struct Mark(u32);

impl Mark {
    pub fn now() -> Mark {
        Mark(CAME.load(Relaxed))
    }
    /// Whether somebody has cancelled this process since.
    pub fn has_passed(self) -> bool {
        CAME.load(Relaxed) != self.0
    }
}

/// Counts a cancel that comes without a signal. Callable in a signal handler.
pub(super) fn count() {
    CAME.fetch_add(1, Relaxed);
}

/// Counts cancels from here on; again and again is once.
pub fn watch() {
    if CANCEL.load(Relaxed) == 0 {
        stand_before(libc::SIGINT, cancelled, &CANCEL);
    }
}

extern "C" fn cancelled(signal: c_int) {
    // A lock that isn't to be had in time sends the process the same signal: that is its statement's own error.
    // SAFETY: reads a flag of the list of timeouts, which is there before any signal is let in.
    if !unsafe { raw::get_timeout_indicator(LOCK_TIMEOUT, false) } {
        count();
    }
    pass_on(signal, &CANCEL);
}

/// Puts `ours` in front of the handler that `signal` has at present; where it has none, nothing is changed.
pub(super) fn stand_before(signal: c_int, ours: extern "C" fn(c_int), former: &AtomicUsize) {
    // SAFETY: asks for a handler and replaces it, under the mask and flags that it had. `former` is written before
    // ours can run, and `ours` never unloads.
    unsafe {
        let mut action = std::mem::zeroed::<libc::sigaction>();
        if libc::sigaction(signal, std::ptr::null(), &mut action) != 0
            || action.sa_flags & libc::SA_SIGINFO != 0
            || matches!(action.sa_sigaction, libc::SIG_DFL | libc::SIG_IGN)
        {
            return;
        }
        former.store(action.sa_sigaction, SeqCst);
        action.sa_sigaction = ours as *const () as usize;
        libc::sigaction(signal, &action, std::ptr::null_mut());
    }
}

/// Calls the handler that stood there before.
pub(super) fn pass_on(signal: c_int, former: &AtomicUsize) {
    let handler = former.load(SeqCst);
    if handler != 0 {
        // SAFETY: stand_before stored what the kernel would have called, which takes the signal's number.
        unsafe { std::mem::transmute::<usize, extern "C-unwind" fn(c_int)>(handler)(signal) }
    }
}

/// Forgets a cancel that came too late for what it was meant for.
pub fn forget_cancel() {
    // SAFETY: a flag of this process; a lost wake-up can't come of it because the caller checks
    // the slot's cancel word again before the next attempt.
    unsafe {
        pg_sys::QueryCancelPending = false as _;
    }
}

mod raw {
    unsafe extern "C-unwind" {
        pub fn get_timeout_indicator(id: std::ffi::c_int, reset: bool) -> bool;
    }
}
