//! A small file of the data directory mapped into every process.
//!
//! A store into it costs no system call and no WAL, and it survives every crash but the machine's:
//! that is what makes "what ran when the server went down" free to know. It lives in pg_stat_tmp,
//! which base backups and pg_rewind leave out.

use super::shmem::Shareable;
use std::fs::OpenOptions;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

static BASE: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());
static SIZE: AtomicUsize = AtomicUsize::new(0);

/// Maps the file, made or resized where needed. In the postmaster, whose children inherit the
/// mapping; a second call (after a crash) finds it in place. False: no file, so private memory is
/// used, which survives a crash of a backend all the same.
pub fn open(size: usize) -> bool {
    if !BASE.load(Ordering::Relaxed).is_null() {
        return true;
    }
    let path = super::shmem::data_dir().join("pg_stat_tmp").join("tenant_q.slots");
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = file.and_then(|f| {
        if f.metadata()?.len() != size as u64 {
            f.set_len(0)?;
            f.set_len(size as u64)?;
        }
        Ok(f)
    });
    let (fd, flags) = match &file {
        Ok(f) => (f.as_raw_fd(), libc::MAP_SHARED),
        Err(_) => (-1, libc::MAP_SHARED | libc::MAP_ANONYMOUS),
    };
    // SAFETY: a fresh mapping of `size` bytes, never unmapped.
    let base = unsafe { libc::mmap(std::ptr::null_mut(), size, libc::PROT_READ | libc::PROT_WRITE, flags, fd, 0) };
    assert!(base != libc::MAP_FAILED, "could not map {} bytes", size);
    SIZE.store(size, Ordering::Relaxed);
    BASE.store(base as *mut u8, Ordering::Relaxed);
    file.is_ok()
}

/// `n` of `T` at `offset`.
pub fn slice<T: Shareable>(offset: usize, n: usize) -> &'static [T] {
    let base = BASE.load(Ordering::Relaxed);
    assert!(!base.is_null() && offset + std::mem::size_of::<T>() * n <= SIZE.load(Ordering::Relaxed) && offset.is_multiple_of(64));
    // SAFETY: inside the mapping (checked), page-aligned base and 64-aligned offset, atomics only.
    unsafe { std::slice::from_raw_parts(base.add(offset) as *const T, n) }
}

pub fn available() -> bool {
    !BASE.load(Ordering::Relaxed).is_null()
}

/// All zeros again.
pub fn clear() {
    let base = BASE.load(Ordering::Relaxed);
    // SAFETY: our mapping; only the postmaster calls this, before any child exists.
    unsafe { std::ptr::write_bytes(base, 0, SIZE.load(Ordering::Relaxed)) };
}
