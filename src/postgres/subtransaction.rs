//! A savepoint around a piece of Rust, in whatever transaction the caller is in: released on Ok,
//! rolled back on any error.

use crate::postgres::caught::{Failure, catch};
use crate::postgres::transaction::with_snapshot;
use pgrx::pg_sys;

/// Runs `f` in a subtransaction with a snapshot that sees all that this transaction has written.
///
/// What `f` allocates in PostgreSQL's memory is freed: it hands out Rust's values only.
pub fn run<T>(f: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    // SAFETY: the protocol of plpgsql's exception blocks: begun outside of the catch, ended once,
    // memory context and resource owner back to what they were on both ways out. `own` is a child
    // of the caller's context, not of the subtransaction's, so it lives until it is deleted here.
    unsafe {
        let context = pg_sys::CurrentMemoryContext;
        let owner = pg_sys::CurrentResourceOwner;
        let own = pg_sys::AllocSetContextCreateInternal(
            context,
            c"tenant_q subtransaction".as_ptr(),
            pg_sys::ALLOCSET_DEFAULT_MINSIZE as usize,
            pg_sys::ALLOCSET_DEFAULT_INITSIZE as usize,
            pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
        );
        pg_sys::BeginInternalSubTransaction(std::ptr::null());
        pg_sys::CurrentMemoryContext = own;
        let result = catch(|| with_snapshot(f)).and_then(|r| r);
        pg_sys::CurrentMemoryContext = context;
        match &result {
            Ok(_) => pg_sys::ReleaseCurrentSubTransaction(),
            Err(_) => pg_sys::RollbackAndReleaseCurrentSubTransaction(),
        }
        pg_sys::CurrentMemoryContext = context;
        pg_sys::CurrentResourceOwner = owner;
        pg_sys::MemoryContextDelete(own);
        result
    }
}
