//! A named lightweight lock in shared memory.
//!
//! While a guard is held: no SQL, no allocation in PostgreSQL's memory, no error. An ERROR that
//! strikes nevertheless releases all such locks at transaction abort, so the guard doesn't do it
//! a second time while unwinding.

use pgrx::pg_sys;

/// Tranche requested at start; one lock per variant.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Lock {
    /// Tables of entries, roles, databases: adding and evicting.
    Registry = 0,
    /// Ready heaps, pickers, executors' places.
    Ready = 1,
    /// Waiters for results and the ring of failures.
    Announce = 2,
    /// How much of each rate is used up.
    Rates = 3,
}

pub const TRANCHE: &std::ffi::CStr = c"tenant_q";
pub const LOCKS: i32 = 4;

pub struct Guard {
    lock: *mut pg_sys::LWLock,
}

impl Lock {
    fn pointer(self) -> *mut pg_sys::LWLock {
        // SAFETY: the tranche was requested with LOCKS locks in the shmem request hook.
        unsafe { &raw mut (*pg_sys::GetNamedLWLockTranche(TRANCHE.as_ptr()).add(self as usize)).lock }
    }
    pub fn shared(self) -> Guard {
        self.acquire(pg_sys::LWLockMode::LW_SHARED)
    }
    pub fn exclusive(self) -> Guard {
        self.acquire(pg_sys::LWLockMode::LW_EXCLUSIVE)
    }
    fn acquire(self, mode: pg_sys::LWLockMode::Type) -> Guard {
        let lock = self.pointer();
        // SAFETY: a lock of ours, see pointer().
        unsafe { pg_sys::LWLockAcquire(lock, mode) };
        Guard { lock }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // SAFETY: acquired in acquire() and released once; HeldByMe covers the error path, where
        // the server has released everything already.
        unsafe {
            if pg_sys::LWLockHeldByMe(self.lock) {
                pg_sys::LWLockRelease(self.lock);
            }
        }
    }
}
