//! Shared memory of a fixed size, as slices of structs made of atomics only.
//!
//! Sizes come from settings, so it is requested raw, not by pgrx's compile-time macros. All zeros
//! must be a valid start value; `shared_struct!` lets nothing but atomics and arrays in.

use crate::postgres::error::Error;
use crate::postgres::sqlstate::SqlState;
use crate::pure::atomics;
use pgrx::pg_sys;
use std::sync::OnceLock;
use std::sync::atomic::*;

/// Zero-initialised memory that any number of processes may use at once.
///
/// # Safety
/// Only for types made of atomics: no pointer, no padding that matters, valid when all zero.
pub unsafe trait Shareable: 'static {}
macro_rules! shareable {
    ($($number:ident),*) => {$(
        // SAFETY: an atomic and nothing else, transparently.
        unsafe impl Shareable for atomics::$number {}
    )*};
}
// SAFETY: a handshake, transparently.
unsafe impl<T: atomics::Choice> Shareable for atomics::One<T> {}
shareable!(
    HandshakeU32,
    HandshakeI64,
    HandshakeU64,
    GaugeU8,
    GaugeI32,
    GaugeU32,
    GaugeI64,
    GaugeU64,
    HandshakeAt,
    GaugeAt,
    GaugeSpan,
    HandshakeId,
    GaugeId
);
// SAFETY: arrays of such.
unsafe impl<T: Shareable, const N: usize> Shareable for [T; N] {}

/// Declares a struct of atomics that may live in shared memory.
#[macro_export]
macro_rules! shared_struct {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$fmeta:meta])* pub $field:ident : $type:ty,)* }) => {
        $(#[$meta])*
        #[repr(C, align(64))]
        pub struct $name { $($(#[$fmeta])* pub $field: $type,)* }
        // SAFETY: every field is checked to be shareable.
        unsafe impl $crate::postgres::shmem::Shareable for $name where $($type: $crate::postgres::shmem::Shareable,)* {}
        impl $crate::pure::atomics::Reset for $name {
            /// Every field is as in new shared memory: no list of them that one could be missing from.
            fn reset(&self) {
                $($crate::pure::atomics::Reset::reset(&self.$field);)*
            }
        }
    };
}

/// Bytes for `n` of `T`, cache-line aligned.
pub const fn size_of<T>(n: usize) -> usize {
    (std::mem::size_of::<T>() * n).div_ceil(64) * 64
}

static BASE: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());
static SIZE: AtomicUsize = AtomicUsize::new(0);

/// Whether the library was preloaded, and with it shared memory exists.
pub fn available() -> bool {
    !BASE.load(Ordering::Relaxed).is_null()
}

/// `n` of `T` at `offset` of our area.
pub fn slice<T: Shareable>(offset: usize, n: usize) -> &'static [T] {
    let base = BASE.load(Ordering::Relaxed);
    assert!(!base.is_null() && offset + size_of::<T>(n) <= SIZE.load(Ordering::Relaxed) && offset.is_multiple_of(64));
    // SAFETY: inside the area (checked), aligned (checked), zeroed at start, atomics only; shared
    // memory stays mapped at this address for the life of the process.
    unsafe { std::slice::from_raw_parts(base.add(offset) as *const T, n) }
}

static INITIALISE: OnceLock<fn()> = OnceLock::new();
static mut PREV_REQUEST: pg_sys::shmem_request_hook_type = None;
static mut PREV_STARTUP: pg_sys::shmem_startup_hook_type = None;

/// Asks for `size` bytes at server start; `initialise` runs once each time shared memory is made
/// anew: at start, and after a crash.
pub fn request(size: usize, initialise: fn()) {
    SIZE.store(size, Ordering::Relaxed);
    let _ = INITIALISE.set(initialise);
    // SAFETY: _PG_init, in the postmaster, before it makes shared memory.
    unsafe {
        PREV_REQUEST = pg_sys::shmem_request_hook;
        pg_sys::shmem_request_hook = Some(on_request);
        PREV_STARTUP = pg_sys::shmem_startup_hook;
        pg_sys::shmem_startup_hook = Some(on_startup);
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn on_request() {
    // SAFETY: the hook's contract; the previous one is called first.
    unsafe {
        if let Some(previous) = PREV_REQUEST {
            previous();
        }
        pg_sys::RequestAddinShmemSpace(SIZE.load(Ordering::Relaxed) + 64);
        pg_sys::RequestNamedLWLockTranche(crate::postgres::lwlock::TRANCHE.as_ptr(), crate::postgres::lwlock::LOCKS);
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn on_startup() {
    // SAFETY: the hook's contract. ShmemInitStruct says whether the area is new.
    unsafe {
        if let Some(previous) = PREV_STARTUP {
            previous();
        }
        let size = SIZE.load(Ordering::Relaxed);
        let mut found = false;
        let raw = pg_sys::ShmemInitStruct(c"tenant_q".as_ptr(), size + 64, &mut found) as *mut u8;
        let base = raw.add(raw.align_offset(64));
        BASE.store(base, Ordering::Relaxed);
        if !found {
            std::ptr::write_bytes(base, 0, size);
            if let Some(initialise) = INITIALISE.get() {
                initialise();
            }
        }
    }
}

/// The server's identity: what a slot file must match to mean anything.
pub fn system_identifier() -> u64 {
    // SAFETY: reads pg_control's copy in shared memory.
    unsafe { pg_sys::GetSystemIdentifier() }
}

/// Whether pg_control says that the server went down without a shutdown checkpoint.
pub fn went_down_uncleanly() -> bool {
    // SAFETY: reads pg_control from the data directory; palloc'ed result.
    unsafe {
        let mut crc_ok = false;
        let control = pg_sys::get_controlfile(pg_sys::DataDir, &mut crc_ok);
        if control.is_null() || !crc_ok {
            return true;
        }
        let state = (*control).state;
        pg_sys::pfree(control.cast());
        !matches!(state, pg_sys::DBState::DB_SHUTDOWNED | pg_sys::DBState::DB_SHUTDOWNED_IN_RECOVERY | pg_sys::DBState::DB_STARTUP)
    }
}

pub fn is_binary_upgrade() -> bool {
    // SAFETY: reads a static.
    unsafe { pg_sys::IsBinaryUpgrade }
}
pub fn is_preloading() -> bool {
    // SAFETY: reads a static.
    unsafe { pg_sys::process_shared_preload_libraries_in_progress }
}
pub fn max_worker_processes() -> i32 {
    // SAFETY: reads a static.
    unsafe { pg_sys::max_worker_processes }
}
/// Sessions and workers that there can be: known as soon as the configuration has been read.
pub fn max_sessions() -> usize {
    // SAFETY: reads statics.
    unsafe { (pg_sys::MaxConnections + pg_sys::max_worker_processes) as usize }
}
/// As the server was started with.
pub fn max_prepared_transactions() -> usize {
    crate::postgres::session::show(c"max_prepared_transactions").parse().unwrap_or(0)
}
pub fn my_database() -> u32 {
    // SAFETY: reads a static.
    unsafe { pg_sys::MyDatabaseId.to_u32() }
}
pub fn my_pid() -> u32 {
    std::process::id()
}
pub fn data_dir() -> std::path::PathBuf {
    // SAFETY: set before any library is loaded.
    unsafe { std::path::PathBuf::from(std::ffi::CStr::from_ptr(pg_sys::DataDir).to_string_lossy().into_owned()) }
}
pub fn in_recovery() -> bool {
    // SAFETY: reads shared memory.
    unsafe { pg_sys::RecoveryInProgress() }
}

/// Free and all bytes of the file system of the data directory, as an ordinary user has them.
pub fn disk_of_data() -> Option<(u64, u64)> {
    // SAFETY: DataDir is a C string set at start; statvfs fills what it is given.
    unsafe {
        let mut found = std::mem::zeroed::<libc::statvfs>();
        (libc::statvfs(pg_sys::DataDir, &mut found) == 0).then(|| (found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize))
    }
}

/// Says once a session that nothing will run.
pub fn warn_not_preloaded() {
    thread_local! { static SAID: std::cell::Cell<bool> = const { std::cell::Cell::new(false) }; }
    if !SAID.replace(true) {
        Error::new(SqlState::WARNING, "the task is stored, but nothing will run it")
            .detail("tenant_q is not in shared_preload_libraries.")
            .hint("Add tenant_q to shared_preload_libraries and restart the server.")
            .warn();
    }
}
