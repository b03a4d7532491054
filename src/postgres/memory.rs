//! Memory: how much this process has for itself, and what happens when there is no more.
//!
//! Rust ends the process where an allocation fails, and PostgreSQL takes a process that ends like that for a crash: all
//! sessions of the server go. So whoever is about to need much, as much as somebody else has written, asks for it first
//! ([`require`]), and an ERROR is all that comes of a "no". For the small rest a few megabytes of addresses are kept by
//! processes that have entered our code. The first allocation that fails gives them up and goes on; whatever loops looks
//! whether that has happened ([`check`]). If even that isn't enough, the process leaves in good order, alone.

use crate::postgres::error::Error;
use crate::postgres::sqlstate::SqlState;
use pgrx::pg_sys;
use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Read;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering::Relaxed};

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

/// Addresses that are kept: no page of them is ever touched. Enough for what happens between two looks.
const RESERVE: usize = 4 << 20;
/// What is smaller than this is taken without asking.
const SMALL: usize = 256 << 10;

static KEPT: AtomicPtr<libc::c_void> = AtomicPtr::new(std::ptr::null_mut());
static SHORT: AtomicBool = AtomicBool::new(false);
static LEAVING: AtomicBool = AtomicBool::new(false);

/// From here on this process keeps a reserve. Nothing, if it has one.
pub fn keep_reserve() {
    if !KEPT.load(Relaxed).is_null() {
        return;
    }
    // SAFETY: a mapping of its own, by nobody used.
    let reserve = unsafe {
        libc::mmap(std::ptr::null_mut(), RESERVE, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
    };
    if reserve != libc::MAP_FAILED {
        KEPT.store(reserve, Relaxed);
    }
}

/// Whether there was something to give up.
fn give_up_reserve() -> bool {
    let reserve = KEPT.swap(std::ptr::null_mut(), Relaxed);
    // SAFETY: mapped by keep_reserve, taken out of its place once.
    !reserve.is_null() && unsafe { libc::munmap(reserve, RESERVE) } == 0
}

fn out_of_memory(detail: String) -> Error {
    Error::new(SqlState::OUT_OF_MEMORY, "out of memory").detail(detail)
}

/// An error once the reserve is gone; it is kept anew for the next time. For loops, and before anything is committed.
pub fn check() -> Result<(), Error> {
    if SHORT.load(Relaxed) && SHORT.swap(false, Relaxed) {
        return Err(out_of_memory("The server has no more memory for this process.".into()));
    }
    Ok(())
}

/// Raises 53200 unless so many bytes are to be had: to be asked before anything as large as somebody else's data is made,
/// at once. `bytes` is what it takes at most.
pub fn require(bytes: usize) {
    if let Err(error) = check() {
        error.raise();
    }
    if bytes < SMALL {
        return;
    }
    // SAFETY: given back as it came, never looked into.
    let fits = unsafe {
        // The compiler knows malloc and free: what nobody sees it leaves out, and finds that it would have worked.
        let memory = std::hint::black_box(libc::malloc(bytes));
        libc::free(memory);
        !memory.is_null()
    };
    if !fits {
        out_of_memory(format!("Failed on request of size {bytes}.")).raise();
    }
}

/// PostgreSQL's memory for one of many things, emptied after each.
pub struct Scratch(pg_sys::MemoryContext);

impl Scratch {
    pub fn new() -> Scratch {
        // SAFETY: a child of the current context, which lives longer than this value.
        Scratch(unsafe {
            pg_sys::AllocSetContextCreateInternal(
                pg_sys::CurrentMemoryContext,
                c"tenant_q one of many".as_ptr(),
                pg_sys::ALLOCSET_DEFAULT_MINSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_INITSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
            )
        })
    }
    /// Nothing of PostgreSQL's that `f` has made is to be used afterwards: it hands out Rust's values only. An error leaves
    /// it to the end of the transaction.
    pub fn run<T>(&self, f: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        check()?;
        // SAFETY: entered and left in pairs where nothing fails.
        unsafe {
            let former = pg_sys::MemoryContextSwitchTo(self.0);
            let value = f()?;
            pg_sys::MemoryContextSwitchTo(former);
            pg_sys::MemoryContextReset(self.0);
            Ok(value)
        }
    }
}

/// The system's allocator, and the reserve behind it.
struct Reserving;

#[global_allocator]
static ALLOCATOR: Reserving = Reserving;

// SAFETY: memory is the system allocator's in every case; what it can't give is asked for once more, or the process ends.
unsafe impl GlobalAlloc for Reserving {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are handed on.
        let memory = unsafe { System.alloc(layout) };
        // SAFETY: as above.
        if memory.is_null() { again(layout.size(), || unsafe { System.alloc(layout) }) } else { memory }
    }
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        let memory = unsafe { System.alloc_zeroed(layout) };
        // SAFETY: as above.
        if memory.is_null() { again(layout.size(), || unsafe { System.alloc_zeroed(layout) }) } else { memory }
    }
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above; where it fails the old block is as it was.
        let moved = unsafe { System.realloc(memory, layout, size) };
        // SAFETY: as above.
        if moved.is_null() { again(size, || unsafe { System.realloc(memory, layout, size) }) } else { moved }
    }
}

#[cold]
fn again(size: usize, allocate: impl Fn() -> *mut u8) -> *mut u8 {
    if give_up_reserve() {
        SHORT.store(true, Relaxed);
        let memory = allocate();
        if !memory.is_null() {
            return memory;
        }
    }
    // SAFETY: reads variables of this process.
    let is_a_session = unsafe { pg_sys::IsUnderPostmaster && !pg_sys::MyProc.is_null() };
    if is_a_session && !LEAVING.swap(true, Relaxed) {
        leave(size);
    }
    // Nothing is left to try: the caller aborts.
    std::ptr::null_mut()
}

/// Ends this session as an administrator would, transaction and all: the others go on.
fn leave(size: usize) -> ! {
    // SAFETY: FATAL runs the exit callbacks and doesn't come back, so nothing is unwound and nobody sees the memory that
    // isn't there. The callbacks of who called us may want memory to say where they are.
    unsafe {
        pg_sys::error_context_stack = std::ptr::null_mut();
        raw::errstart(pgrx::PgLogLevel::FATAL as i32, std::ptr::null());
        raw::errcode(pgrx::PgSqlErrorCode::ERRCODE_OUT_OF_MEMORY as i32);
        raw::errmsg_internal(c"out of memory".as_ptr());
        raw::errdetail_internal(c"Failed on request of size %zu.".as_ptr(), size);
        raw::errfinish(c"tenant_q".as_ptr(), 0, c"".as_ptr());
    }
    std::process::abort()
}

mod raw {
    use std::ffi::{c_char, c_int};
    // Not pgrx's, whose guards would turn the one error into another's unwinding.
    unsafe extern "C-unwind" {
        pub fn errstart(level: c_int, domain: *const c_char) -> bool;
        pub fn errcode(code: c_int) -> c_int;
        pub fn errmsg_internal(format: *const c_char, ...) -> c_int;
        pub fn errdetail_internal(format: *const c_char, ...) -> c_int;
        pub fn errfinish(file: *const c_char, line: c_int, function: *const c_char);
    }
}
