//! What time it is: the wall clock for what is due, the monotonic one for durations.

use crate::pure::time::At;
use pgrx::pg_sys;
use std::time::Instant;

/// Who waits for a time of the wall clock looks at it at least so often: it may be set meanwhile, and
/// waiting itself counts real time.
pub const LOOK: std::time::Duration = std::time::Duration::from_secs(2);

/// The wall clock.
pub fn now() -> At {
    // SAFETY: reads the clock, touches no server state.
    At::of_micros(unsafe { pg_sys::GetCurrentTimestamp() })
}

/// A monotonic instant for durations: wall clocks jump.
pub fn steady() -> Instant {
    Instant::now()
}

/// Monotonic nanoseconds that all processes of this machine share (CLOCK_MONOTONIC).
pub fn monotonic_ns() -> u64 {
    let mut ts = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: fills the struct on our stack.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut ts) };
    ts.tv_sec as u64 * 1_000_000_000 + ts.tv_nsec as u64
}
