//! Waking and waiting.
//!
//! A process is named by its number in the server's process array, never by a pointer: the array
//! lives as long as shared memory, so a stale number wakes a stranger in vain and harms nobody.

use pgrx::pg_sys;
use std::time::Duration;

/// What ended a wait.
#[derive(PartialEq, Eq, Debug, Clone, Copy)]
pub enum Woken {
    Latch,
    Timeout,
}

/// This process's number, for others to wake it by.
pub fn my_procno() -> u32 {
    // SAFETY: MyProc is set for every process that is attached to shared memory.
    unsafe {
        #[cfg(any(feature = "pg15", feature = "pg16"))]
        {
            (*pg_sys::MyProc).pgprocno as u32
        }
        #[cfg(any(feature = "pg17", feature = "pg18"))]
        {
            pg_sys::MyProcNumber as u32
        }
    }
}

/// Sets the latch of process `procno`. Can't fail; callable after commit.
pub fn wake(procno: u32) {
    // SAFETY: ProcGlobal is set up before any extension code runs and never moves; the bound is
    // checked; SetLatch only stores a flag and sends a signal.
    unsafe {
        if procno < (*pg_sys::ProcGlobal).allProcCount {
            let proc = (*pg_sys::ProcGlobal).allProcs.add(procno as usize);
            raw::SetLatch(&raw mut (*proc).procLatch);
        }
    }
}

/// Whether process `procno` is still the one of this pid.
pub fn is_process(procno: u32, pid: u32) -> bool {
    // SAFETY: as in wake(); reads one word.
    unsafe { procno < (*pg_sys::ProcGlobal).allProcCount && (*(*pg_sys::ProcGlobal).allProcs.add(procno as usize)).pid as u32 == pid }
}

/// Sleeps until the latch is set or `timeout` is over, takes interrupts before and after, and resets the latch.
/// Leaves the process if the postmaster died.
pub fn wait(timeout: Option<Duration>) -> Woken {
    let mut events = (pg_sys::WL_LATCH_SET | pg_sys::WL_EXIT_ON_PM_DEATH) as i32;
    let millis = match timeout {
        Some(t) => {
            events |= pg_sys::WL_TIMEOUT as i32;
            // Rounded up: waking a fraction early would spin until the time has come.
            t.as_micros().div_ceil(1000).min(i32::MAX as u128) as i64
        }
        None => -1,
    };
    // Whoever set a flag may have set the latch for something that has reset it since: a wait for a standby, say.
    pgrx::check_for_interrupts!();
    // SAFETY: MyLatch is this process's own latch.
    let rc = unsafe { pg_sys::WaitLatch(pg_sys::MyLatch, events, millis, pg_sys::PG_WAIT_EXTENSION) };
    let woken = if rc & pg_sys::WL_LATCH_SET as i32 != 0 {
        // SAFETY: as above.
        unsafe { pg_sys::ResetLatch(pg_sys::MyLatch) };
        Woken::Latch
    } else {
        Woken::Timeout
    };
    pgrx::check_for_interrupts!();
    woken
}

/// Sleeps, whoever calls meanwhile: what they call for is done together afterwards. Short: no interrupt ends it.
pub fn pause(length: Duration) {
    let events = (pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH) as i32;
    pgrx::check_for_interrupts!();
    // SAFETY: no latch is waited for.
    unsafe {
        pg_sys::WaitLatch(std::ptr::null_mut(), events, length.as_micros().div_ceil(1000).min(1000) as i64, pg_sys::PG_WAIT_EXTENSION)
    };
    pgrx::check_for_interrupts!();
}

mod raw {
    use pgrx::pg_sys;
    unsafe extern "C-unwind" {
        // Unwrapped: pgrx's wrapper sets up a jump buffer, which a commit callback doesn't need.
        pub fn SetLatch(latch: *mut pg_sys::Latch);
    }
}
