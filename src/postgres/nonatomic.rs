//! A procedure that the client has called, alone: it may end its transaction, and begin another.

use pgrx::pg_sys;

/// Commits, and runs `f` in a transaction that has no snapshot and no id: whatever is waited for there keeps nothing from anybody.
/// Only in a procedure whose call isn't atomic (`Args::is_atomic`).
pub fn between_transactions<T>(f: impl FnOnce() -> T) -> T {
    // SAFETY: SPI's protocol for procedures; an ERROR inside ends the transaction, and with it what SPI had open.
    unsafe {
        pg_sys::SPI_connect_ext(pg_sys::SPI_OPT_NONATOMIC as i32);
        pg_sys::SPI_commit();
        let value = f();
        // This transaction is as old as the wait: what others have committed meanwhile isn't to be read from old caches.
        pg_sys::AcceptInvalidationMessages();
        pg_sys::SPI_finish();
        value
    }
}
