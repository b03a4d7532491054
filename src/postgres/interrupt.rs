//! Signals that reach this process: whether somebody has cancelled what it does, and whether the postmaster is gone.
//!
//! That a query was cancelled can't be told by its error: whoever raises one chooses its SQLSTATE, and the
//! error of another server brings that server's. So the signals themselves are counted, in front of
//! PostgreSQL's own handlers, which do what they always do.

use pgrx::pg_sys;
use std::ffi::c_int;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::*};

/// Cancels of this process so far: SIGINT, and the timeout of an attempt.
static CAME: AtomicU32 = AtomicU32::new(0);
/// The handler of SIGINT that ours stands in front of; 0: ours isn't there.
static CANCEL: AtomicUsize = AtomicUsize::new(0);

/// The same of the kernel's word that the postmaster has died, and whether that came.
static DEATH: AtomicUsize = AtomicUsize::new(0);
static ORPHANED: AtomicBool = AtomicBool::new(false);

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
pub fn count() {
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

/// A worker doesn't outlive the postmaster: no new server starts beside it, and nobody looks after what it does. It learns
/// of the death at once, in the midst of a handler too, and ends as if it were terminated. Leaves if it is too late.
pub fn watch_postmaster() {
    let mut signal: c_int = 0;
    // SAFETY: fills the variable; PostgreSQL has asked for that signal when the process began.
    let asked = unsafe { libc::prctl(libc::PR_GET_PDEATHSIG, &raw mut signal) } == 0 && signal != 0;
    if asked && DEATH.load(Relaxed) == 0 {
        stand_before(signal, orphaned, &DEATH);
    }
    leave_orphaned();
}

extern "C" fn orphaned(signal: c_int) {
    pass_on(signal, &DEATH);
    // SAFETY: a system call and what die() does, which may be done in a signal handler. That the parent's end was meant is
    // asked because anybody may send a signal.
    unsafe {
        if libc::getppid() != pg_sys::PostmasterPid {
            ORPHANED.store(true, Relaxed);
            pg_sys::ProcDiePending = true as _;
            pg_sys::InterruptPending = true as _;
            raw::SetLatch(pg_sys::MyLatch);
        }
    }
}

/// Whether the postmaster is gone or going. Some system calls: its end is seen before the kernel's word of it is here, from
/// when its sockets are closed on.
pub fn is_orphaned() -> bool {
    // SAFETY: looks at the pipe that the postmaster holds.
    if !ORPHANED.load(Relaxed) && (is_exiting() || !unsafe { raw::PostmasterIsAliveInternal() }) {
        ORPHANED.store(true, Relaxed);
    }
    ORPHANED.load(Relaxed)
}

/// Whether the kernel is taking the postmaster apart. False where it doesn't tell.
fn is_exiting() -> bool {
    const PF_EXITING: u64 = 4;
    // SAFETY: reads a static.
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{}/stat", unsafe { pg_sys::PostmasterPid })) else { return false };
    // The name, in parentheses, may contain anything. Then come its state and, as the seventh, its flags.
    let mut fields = stat.rsplit(')').next().unwrap_or("").split(' ').filter(|field| !field.is_empty());
    let state = fields.next().unwrap_or("");
    matches!(state, "Z" | "X") || fields.nth(5).and_then(|flags| flags.parse::<u64>().ok()).is_some_and(|flags| flags & PF_EXITING != 0)
}

/// Leaves if the postmaster is gone.
pub fn leave_orphaned() {
    if is_orphaned() {
        crate::postgres::worker::exit(1);
    }
}

/// Between two pieces of work, outside of a transaction: leaves if it is told to or is orphaned. A cancel is for neither.
pub fn heed() {
    forget_cancel();
    pgrx::check_for_interrupts!();
    if ORPHANED.load(Relaxed) {
        crate::postgres::worker::exit(1);
    }
}

/// Puts `ours` in front of the handler that `signal` has at present; where it has none, nothing is changed.
pub fn stand_before(signal: c_int, ours: extern "C" fn(c_int), former: &AtomicUsize) {
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
pub fn pass_on(signal: c_int, former: &AtomicUsize) {
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
    use pgrx::pg_sys;
    unsafe extern "C-unwind" {
        // Unwrapped: it is called by a signal handler.
        pub fn SetLatch(latch: *mut pg_sys::Latch);
        pub fn PostmasterIsAliveInternal() -> bool;
        pub fn get_timeout_indicator(id: std::ffi::c_int, reset: bool) -> bool;
    }
}
