//! The timeout of an attempt.
//!
//! Nothing arms statement_timeout in a background worker, and a handler may swallow a cancel. So
//! this is a timer of our own: it cancels, a second later cancels again, and then terminates,
//! which no handler can catch. Never SIGKILL: that restarts the whole server.
//!
//! Not one of PostgreSQL's timers: these compare the wall clock. Set back, it would stop the timeout for as long; set
//! forward, an attempt would be out of time with the next alarm for anything. This one counts CLOCK_MONOTONIC.
//!
//! Attempts follow each other closely, so the kernel is asked only for an earlier alarm than the one that it has ordered
//! already: an alarm that comes too early for the present attempt orders the next one. With one timeout for all tasks a
//! task costs no system call.

use crate::postgres::clock::monotonic_ns;
use crate::postgres::error::Error;
use crate::postgres::sqlstate::SqlState;
use pgrx::pg_sys;
use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering::*};
use std::time::Duration;

/// The kernel's timer of this process, if it is made: its number may be 0.
static MADE: AtomicBool = AtomicBool::new(false);
static TIMER: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());
/// When the attempt's time is up, in nanoseconds of the monotonic clock; 0: no attempt has a limit.
static DEADLINE: AtomicU64 = AtomicU64::new(0);
/// When the kernel's alarm comes; 0: none is ordered.
static ALARM: AtomicU64 = AtomicU64::new(0);
static FIRED: AtomicU32 = AtomicU32::new(0);
/// An attempt is under way, whether or not its timeout is 0.
static ARMED: AtomicBool = AtomicBool::new(false);
/// In somebody's own session: it is cancelled again and again, but never ended.
static CANCELS_ONLY: AtomicBool = AtomicBool::new(false);
/// Told when it has come to terminating: a `fn()` that may be called in a signal handler; null: nobody is.
static TOLD: AtomicPtr<()> = AtomicPtr::new(std::ptr::null_mut());
/// So often it cancels.
const CANCELS: u32 = 2;
/// From one cancel to the next, in nanoseconds.
const AGAIN: u64 = 1_000_000_000;
/// What neither PostgreSQL's sessions nor its workers have a use for: they ignore it.
const SIGNAL: c_int = libc::SIGUSR2;

mod raw {
    use pgrx::pg_sys;
    unsafe extern "C-unwind" {
        pub fn SetLatch(latch: *mut pg_sys::Latch);
    }
}

/// The kernel's alarm. Anybody's signal does no harm: the clock is asked.
extern "C" fn alarm(_signal: c_int) {
    // SAFETY: this thread's own variable, put back as the interrupted code has it.
    let errno = unsafe { *libc::__errno_location() };
    let (now, deadline) = (monotonic_ns(), DEADLINE.load(SeqCst));
    if deadline == 0 {
        ALARM.store(0, SeqCst);
    } else if now < deadline {
        order(deadline, now);
    } else {
        DEADLINE.store(now + AGAIN, SeqCst);
        order(now + AGAIN, now);
        expired();
    }
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

/// In a signal handler.
fn expired() {
    let fired = FIRED.fetch_add(1, Relaxed) + 1;
    crate::postgres::interrupt::count();
    // SAFETY: the flags that StatementCancelHandler and die set, in the context of a signal handler as they do. TOLD is what
    // on_termination stored, or null.
    unsafe {
        if fired <= CANCELS || CANCELS_ONLY.load(Relaxed) {
            pg_sys::QueryCancelPending = true as _;
        } else {
            pg_sys::ProcDiePending = true as _;
        }
        pg_sys::InterruptPending = true as _;
        raw::SetLatch(pg_sys::MyLatch);
        let told = TOLD.load(SeqCst);
        if has_terminated() && !CANCELS_ONLY.load(Relaxed) && !told.is_null() {
            std::mem::transmute::<*mut (), fn()>(told)();
        }
    }
}

/// Has `told` called whenever the timer terminates this process, each second from then on. In a signal handler: atomics and
/// latches only.
pub fn on_termination(told: fn()) {
    TOLD.store(told as *mut (), SeqCst);
}

/// Orders the alarm for that time.
fn order(at: u64, now: u64) {
    ALARM.store(at, SeqCst);
    // Never zero, which would take the order back.
    let rest = at.saturating_sub(now).max(1);
    let rest = libc::timespec { tv_sec: (rest / 1_000_000_000) as _, tv_nsec: (rest % 1_000_000_000) as _ };
    let once = libc::itimerspec { it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 }, it_value: rest };
    // SAFETY: our timer, made before anything is ordered; may be done in a signal handler.
    unsafe { libc::timer_settime(TIMER.load(SeqCst), 0, &once, std::ptr::null_mut()) };
}

/// Makes the timer, before the first attempt; again and again is once.
pub fn register() -> Result<(), Error> {
    if MADE.load(SeqCst) {
        return Ok(());
    }
    let mut timer = std::ptr::null_mut();
    // SAFETY: `alarm` does what a signal handler may, and never unloads. The signal is for the thread that runs the server's
    // code, whatever others an interpreter may have.
    let made = unsafe {
        let mut action = std::mem::zeroed::<libc::sigaction>();
        action.sa_sigaction = alarm as *const () as usize;
        action.sa_flags = libc::SA_RESTART;
        libc::sigemptyset(&mut action.sa_mask);
        let mut event = std::mem::zeroed::<libc::sigevent>();
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = SIGNAL;
        event.sigev_notify_thread_id = libc::gettid();
        libc::sigaction(SIGNAL, &action, std::ptr::null_mut()) == 0
            && libc::timer_create(libc::CLOCK_MONOTONIC, &mut event, &mut timer) == 0
    };
    if !made {
        // Rather no attempt than one without its timeout.
        return Err(Error::new(SqlState::INSUFFICIENT_RESOURCES, "the timer for timeouts could not be made")
            .detail(std::io::Error::last_os_error().to_string())
            .hint("The limit on pending signals of the server's user may be used up: raise it (ulimit -i)."));
    }
    TIMER.store(timer, SeqCst);
    MADE.store(true, SeqCst);
    Ok(())
}

/// Arms the timer: cancel after `millis`, again a second later, then terminate.
pub fn arm(millis: i64) {
    FIRED.store(0, Relaxed);
    ARMED.store(true, Relaxed);
    if millis <= 0 || !MADE.load(SeqCst) {
        return DEADLINE.store(0, SeqCst);
    }
    let now = monotonic_ns();
    let deadline = now.saturating_add((millis as u64).saturating_mul(1_000_000));
    DEADLINE.store(deadline, SeqCst);
    // In this order: an alarm meanwhile has either seen the deadline, or is seen here to be over.
    let alarm = ALARM.load(SeqCst);
    if alarm == 0 || alarm > deadline {
        order(deadline, now);
    }
}

/// The same in a session that isn't a worker's: only cancels. statement_timeout is another timer
/// and goes on beside it.
pub fn arm_cancels(millis: i64) {
    CANCELS_ONLY.store(true, Relaxed);
    arm(millis);
}

/// Disarms it and says whether it had fired.
pub fn disarm() -> bool {
    ARMED.store(false, Relaxed);
    DEADLINE.store(0, SeqCst);
    FIRED.load(Relaxed) > 0
}

/// Whether it has fired: the attempt that is under way is over its time, whatever it has made of being cancelled.
pub fn has_fired() -> bool {
    FIRED.load(Relaxed) > 0
}

/// Whether an attempt is under way here, from `arm` to `disarm`.
pub fn is_armed() -> bool {
    ARMED.load(Relaxed)
}

/// Whether it is this timer that terminates the process.
pub fn has_terminated() -> bool {
    FIRED.load(Relaxed) > CANCELS
}

// ---- locks

/// How long the session waits for a lock; None = without end.
pub fn lock_timeout() -> Option<Duration> {
    // SAFETY: this process's own variable.
    let millis = unsafe { pg_sys::LockTimeout };
    (millis > 0).then(|| Duration::from_millis(millis as u64))
}

/// Waits for locks end after this (lock_timeout); 0 = never. Directly, without the machinery of
/// settings: it is done for every task.
pub fn limit_locks(millis: i32) {
    // SAFETY: this process's own variable, read when a wait begins.
    unsafe { pg_sys::LockTimeout = millis }
}
