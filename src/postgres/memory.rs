//! How much memory this process has for itself.

use std::io::Read;

/// Whether this process has more for itself than it may; None = it may.
pub fn exceeds(bound: Option<usize>) -> bool {
    bound.is_some_and(|bound| private_bytes().is_some_and(|held| held > bound))
}

/// Bytes that are neither shared memory nor a file's pages; None where the system doesn't tell. Three system calls.
fn private_bytes() -> Option<usize> {
    let mut text = [0u8; 128];
    let length = std::fs::File::open("/proc/self/statm").ok()?.read(&mut text).ok()?;
    let mut pages = std::str::from_utf8(&text[..length]).ok()?.split(' ').skip(1).map(str::parse::<usize>);
    let (resident, shared) = (pages.next()?.ok()?, pages.next()?.ok()?);
    // SAFETY: asks for a constant of the system.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).ok()?;
    Some(resident.saturating_sub(shared) * page)
}
