//! A small file of the data directory mapped into every process.
//!
//! A store into it costs no system call and no WAL, and it survives every crash but the machine's:
//! that is what makes "what ran when the server went down" free to know. It lives in pg_stat_tmp,
//! which base backups and pg_rewind leave out.

use crate::postgres::call;
use crate::postgres::error::Error;
use crate::postgres::shmem::Shareable;
use crate::postgres::sqlstate::SqlState;
use pgrx::PgLogLevel;
use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

static BASE: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());
static SIZE: AtomicUsize = AtomicUsize::new(0);

/// Maps the file, made or resized where needed. In the postmaster, whose children inherit the
/// mapping; a second call (after a crash) finds it in place. Where there can be no file, private memory is
/// used, which survives a crash of a backend all the same. Where there is no room for it the server doesn't start.
pub fn open(size: usize) {
    if !BASE.load(Ordering::Relaxed).is_null() {
        return;
    }
    let path = crate::postgres::shmem::data_dir().join("pg_stat_tmp").join("tenant_q.slots");
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = file.and_then(|f| {
        if f.metadata()?.len() != size as u64 {
            f.set_len(0)?;
            f.set_len(size as u64)?;
        }
        reserve(&f, size)?;
        Ok(f)
    });
    if let Err(error) = &file {
        let no_room = matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG));
        let message = format!("tenant_q: could not reserve {size} bytes for \"{}\": {error}", path.display());
        if no_room {
            return call::report(
                Error::new(SqlState::DISK_FULL, message).hint("Make room there, then start the server again."),
                PgLogLevel::FATAL,
            );
        }
        let consequence = "What runs is kept in memory only: if the postmaster ends with it, nobody knows afterwards.";
        call::report(Error::new(SqlState::IO_ERROR, message).detail(consequence), PgLogLevel::LOG);
    }
    let (fd, flags) = match &file {
        Ok(f) => (f.as_raw_fd(), libc::MAP_SHARED),
        Err(_) => (-1, libc::MAP_SHARED | libc::MAP_ANONYMOUS),
    };
    // SAFETY: a fresh mapping of `size` bytes, never unmapped.
    let base = unsafe { libc::mmap(std::ptr::null_mut(), size, libc::PROT_READ | libc::PROT_WRITE, flags, fd, 0) };
    assert!(base != libc::MAP_FAILED, "could not map {} bytes", size);
    SIZE.store(size, Ordering::Relaxed);
    BASE.store(base as *mut u8, Ordering::Relaxed);
}

/// Has the file system keep room for the whole file, with what is in it: a page that the disk had no room for would end
/// whoever stores into it by SIGBUS, and with it the server.
fn reserve(file: &File, size: usize) -> std::io::Result<()> {
    loop {
        // SAFETY: a file that is open for writing.
        match unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, size as libc::off_t) } {
            0 => return Ok(()),
            libc::EINTR => {}
            libc::EOPNOTSUPP | libc::EINVAL | libc::ENOSYS => {
                // A file system that can't: what is written has its place.
                let mut bytes = vec![0; size];
                file.read_exact_at(&mut bytes, 0)?;
                file.write_all_at(&bytes, 0)?;
                return file.sync_all();
            }
            errno => return Err(std::io::Error::from_raw_os_error(errno)),
        }
    }
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
