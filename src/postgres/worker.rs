//! Background workers: registering, starting, signals.
//!
//! PostgreSQL's own signal handlers throughout: `die` for SIGTERM (so that a fast shutdown and
//! pg_terminate_backend interrupt a running handler), StatementCancelHandler for SIGINT.

use crate::postgres::transaction;
use pgrx::pg_sys;
#[cfg(not(feature = "pg18"))]
use pgrx::pg_sys::pqsignal;
#[cfg(feature = "pg18")]
use pgrx::pg_sys::pqsignal_be as pqsignal;
use std::ffi::CString;
use std::sync::OnceLock;

/// Exports the main functions of workers, `fn(u64)`, under the names that `start` is given.
#[macro_export]
macro_rules! worker_mains {
    ($($symbol:ident => $main:expr;)*) => {$(
        #[pgrx::pg_guard]
        #[unsafe(no_mangle)]
        pub extern "C-unwind" fn $symbol(argument: pgrx::pg_sys::Datum) {
            let main: fn(u64) = $main;
            $crate::postgres::memory::keep_reserve();
            main(argument.value() as u64);
        }
    )*};
}

mod raw {
    use std::ffi::c_int;
    unsafe extern "C-unwind" {
        pub fn die(signal: c_int);
        pub fn StatementCancelHandler(signal: c_int);
        pub fn SignalHandlerForConfigReload(signal: c_int);
    }
}

fn describe(name: &str, kind: &str, function: &str, argument: u64, flags: u32, restart: i32, notify: i32) -> pg_sys::BackgroundWorker {
    let mut worker = pg_sys::BackgroundWorker::default();
    fn put(target: &mut [std::ffi::c_char], text: &str) {
        // The fields are cut without a terminator: leave room for it.
        for (t, b) in target.iter_mut().zip(text.bytes().take(95)) {
            *t = b as std::ffi::c_char;
        }
    }
    put(&mut worker.bgw_name, name);
    put(&mut worker.bgw_type, kind);
    put(&mut worker.bgw_library_name, "tenant_q");
    put(&mut worker.bgw_function_name, function);
    worker.bgw_flags = flags as i32;
    worker.bgw_start_time = pg_sys::BgWorkerStartTime::BgWorkerStart_RecoveryFinished;
    worker.bgw_restart_time = restart;
    worker.bgw_main_arg = pg_sys::Datum::from(argument as usize);
    worker.bgw_notify_pid = notify;
    worker
}

const FLAGS: u32 = pg_sys::BGWORKER_SHMEM_ACCESS | pg_sys::BGWORKER_BACKEND_DATABASE_CONNECTION;

/// Registers a worker that the postmaster starts and restarts; from _PG_init only.
pub fn register_static(name: &str, kind: &str, function: &str, restart_seconds: i32) {
    let mut worker = describe(name, kind, function, 0, FLAGS, restart_seconds, 0);
    // SAFETY: called while preloading.
    unsafe { pg_sys::RegisterBackgroundWorker(&mut worker) };
}

/// A worker that was asked for.
#[derive(Clone, Copy)]
pub struct Handle(*mut pg_sys::BackgroundWorkerHandle);

#[derive(PartialEq, Eq, Clone, Copy, Debug)]
pub enum Life {
    Running,
    NotYet,
    Stopped,
}

impl Handle {
    pub fn life(&self) -> Life {
        let mut pid = 0;
        // SAFETY: a handle from start(), kept in memory that lives as long as the process.
        match unsafe { pg_sys::GetBackgroundWorkerPid(self.0, &mut pid) } {
            pg_sys::BgwHandleStatus::BGWH_STARTED => Life::Running,
            pg_sys::BgwHandleStatus::BGWH_NOT_YET_STARTED => Life::NotYet,
            _ => Life::Stopped,
        }
    }
    pub fn forget(self) {
        // SAFETY: palloc'ed by start(), forgotten once.
        unsafe { pg_sys::pfree(self.0.cast()) };
    }
}

/// Starts a worker that is never restarted. None: no free worker slot.
pub fn start(name: &str, kind: &str, function: &str, argument: u64) -> Option<Handle> {
    // SAFETY: fills a struct of ours; the handle is allocated in TopMemoryContext so that it
    // outlives transactions.
    unsafe {
        let mut worker = describe(name, kind, function, argument, FLAGS, pg_sys::BGW_NEVER_RESTART, libc::getpid());
        let old = pg_sys::MemoryContextSwitchTo(pg_sys::TopMemoryContext);
        let mut handle = std::ptr::null_mut();
        let started = pg_sys::RegisterDynamicBackgroundWorker(&mut worker, &mut handle);
        pg_sys::MemoryContextSwitchTo(old);
        (started && !handle.is_null()).then_some(Handle(handle))
    }
}

/// First thing in a worker's main: the signals.
pub fn set_up_signals() {
    // SAFETY: replaces handlers before signals are unblocked.
    unsafe {
        pqsignal(libc::SIGTERM, Some(raw::die));
        pqsignal(libc::SIGINT, Some(raw::StatementCancelHandler));
        pqsignal(libc::SIGHUP, Some(raw::SignalHandlerForConfigReload));
        crate::postgres::interrupt::watch();
        pg_sys::BackgroundWorkerUnblockSignals();
    }
    crate::postgres::interrupt::watch_postmaster();
}

static ON_QUIT: OnceLock<fn()> = OnceLock::new();

/// Before the process dies of somebody else's crash, `mark` is called: a store, nothing more.
pub fn on_quit(mark: fn()) {
    let _ = ON_QUIT.set(mark);
    // SAFETY: SIGQUIT's default in a child is _exit(2) as well.
    unsafe { pqsignal(libc::SIGQUIT, Some(quit)) };
}
unsafe extern "C-unwind" fn quit(_signal: i32) {
    // Set before the handler was: nothing is waited for here.
    if let Some(mark) = ON_QUIT.get() {
        mark();
    }
    // SAFETY: as PostgreSQL's own handler does.
    unsafe { libc::_exit(2) }
}

/// Connects to no database: shared catalogs only.
pub fn connect_to_none() {
    // SAFETY: once, first thing.
    unsafe { pg_sys::BackgroundWorkerInitializeConnection(std::ptr::null(), std::ptr::null(), 0) };
}

/// Connects; role 0 = the bootstrap superuser.
pub fn connect(database: u32, role: u32) {
    #[cfg(any(feature = "pg15", feature = "pg16"))]
    let flags = 0;
    #[cfg(any(feature = "pg17", feature = "pg18"))]
    let flags = 2; // BGWORKER_BYPASS_ROLELOGINCHECK
    // SAFETY: once, first thing. A missing database or role is FATAL: the process leaves.
    unsafe { pg_sys::BackgroundWorkerInitializeConnectionByOid(pg_sys::Oid::from(database), pg_sys::Oid::from(role), flags) };
}

/// Whether roles without LOGIN can have executors on this server version.
pub const NOLOGIN_WORKS: bool = cfg!(any(feature = "pg17", feature = "pg18"));

static ON_EXIT: OnceLock<fn()> = OnceLock::new();

/// Calls `last` when the process leaves, after its transaction has been aborted.
pub fn on_exit(last: fn()) {
    let _ = ON_EXIT.set(last);
    // SAFETY: registers a function that stays loaded.
    unsafe { pg_sys::on_shmem_exit(Some(exiting), pg_sys::Datum::from(0)) };
}
unsafe extern "C-unwind" fn exiting(_code: i32, _arg: pg_sys::Datum) {
    if let Some(last) = ON_EXIT.get() {
        last();
    }
}

/// Leaves: 0 = not to be started again, 1 = may be.
pub fn exit(code: i32) -> ! {
    // SAFETY: runs the exit callbacks.
    unsafe { pg_sys::proc_exit(code) };
    // Before 18 the bindings know that nothing comes back.
    #[allow(unreachable_code)]
    std::process::abort()
}

/// Re-reads postgresql.conf if SIGHUP said so; true if it did.
pub fn take_reload() -> bool {
    // SAFETY: flags of this process; between transactions.
    unsafe {
        if pg_sys::ConfigReloadPending != 0 {
            pg_sys::ConfigReloadPending = 0;
            pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP);
            return true;
        }
    }
    false
}

/// Sends a signal to one of our own workers.
pub fn signal(pid: u32, signal: i32) {
    if pid > 1 {
        // SAFETY: no memory involved; the pid comes from a live slot.
        unsafe { libc::kill(pid as i32, signal) };
    }
}

/// A memory context for what a worker does between transactions, emptied with every turn of its loop and with every
/// task. PostgreSQL leaves TopMemoryContext behind as the current one when a transaction ends, and what is allocated
/// there stays for ever: see [`TurnMemory::back`].
pub struct TurnMemory(pg_sys::MemoryContext);

thread_local! {
    static TURN: std::cell::Cell<pg_sys::MemoryContext> = const { std::cell::Cell::new(std::ptr::null_mut()) };
}

impl TurnMemory {
    pub fn new() -> Self {
        // SAFETY: a child of TopMemoryContext that lives as long as the process.
        let own = unsafe {
            pg_sys::AllocSetContextCreateInternal(pg_sys::TopMemoryContext, c"tenant_q turn".as_ptr(), 0, 8 * 1024, 8 * 1024 * 1024)
        };
        TURN.set(own);
        TurnMemory(own)
    }
    /// Outside of any transaction.
    pub fn enter(&self) {
        // SAFETY: our own context; nothing allocated in it is kept across turns.
        unsafe {
            pg_sys::MemoryContextReset(self.0);
            pg_sys::MemoryContextSwitchTo(self.0);
        }
    }
    /// A transaction is over: what comes next is allocated where it is given back.
    pub(super) fn back() {
        let own = TURN.get();
        if !own.is_null() {
            // SAFETY: see new().
            unsafe { pg_sys::MemoryContextSwitchTo(own) };
        }
    }
}

/// Rows of pg_database that workers could serve: (oid, name).
pub fn databases() -> Vec<(u32, String)> {
    transaction::require();
    let mut found = Vec::new();
    // SAFETY: a sequential scan of a shared catalog inside a transaction.
    unsafe {
        let rel = pg_sys::table_open(pg_sys::DatabaseRelationId, pg_sys::AccessShareLock as i32);
        let scan = pg_sys::systable_beginscan(rel, pg_sys::InvalidOid, false, std::ptr::null_mut(), 0, std::ptr::null_mut());
        loop {
            let tuple = pg_sys::systable_getnext(scan);
            if tuple.is_null() {
                break;
            }
            let form = &*((*tuple).t_data as *const u8).add((*(*tuple).t_data).t_hoff as usize).cast::<pg_sys::FormData_pg_database>();
            if form.datallowconn && !form.datistemplate && form.datconnlimit != -2 {
                found.push((form.oid.to_u32(), std::ffi::CStr::from_ptr(form.datname.data.as_ptr()).to_string_lossy().into_owned()));
            }
        }
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(rel, pg_sys::AccessShareLock as i32);
    }
    found
}

pub fn database_name(oid: u32) -> Option<String> {
    transaction::require();
    // SAFETY: a catalog look-up inside a transaction; palloc'ed copy or NULL.
    unsafe {
        let name = pg_sys::get_database_name(pg_sys::Oid::from(oid));
        (!name.is_null()).then(|| std::ffi::CStr::from_ptr(name).to_string_lossy().into_owned())
    }
}

/// CString for FFI, without the NULs that a name can't have.
pub fn c_string(text: &str) -> CString {
    CString::new(text.replace('\0', "")).expect("no NUL left")
}

/// Whether a language or library was loaded whose globals or connections outlive a task.
pub fn has_interpreter() -> bool {
    const SYMBOLS: [&std::ffi::CStr; 5] =
        [c"plperl_call_handler", c"plpython3_call_handler", c"pltcl_call_handler", c"dblink_connect", c"postgres_fdw_handler"];
    // SAFETY: looks names up among the loaded libraries; PostgreSQL loads them RTLD_GLOBAL.
    SYMBOLS.iter().any(|s| unsafe { !libc::dlsym(libc::RTLD_DEFAULT, s.as_ptr()).is_null() })
}

/// Whether there is such a process.
pub fn is_alive(pid: u32) -> bool {
    // SAFETY: signal 0 only asks.
    unsafe { libc::kill(pid as i32, 0) == 0 || *libc::__errno_location() == libc::EPERM }
}

/// Whether this process is a worker of ours.
pub fn is_ours() -> bool {
    // SAFETY: NULL in all but background workers, else this process's own entry.
    unsafe {
        !pg_sys::MyBgworkerEntry.is_null() && std::ffi::CStr::from_ptr((*pg_sys::MyBgworkerEntry).bgw_library_name.as_ptr()) == c"tenant_q"
    }
}

/// Whether this process is a scheduler of ours: a superuser's session that runs nobody's code.
pub fn is_scheduler() -> bool {
    // SAFETY: NULL in all but background workers, else this process's own entry.
    unsafe {
        !pg_sys::MyBgworkerEntry.is_null()
            && std::ffi::CStr::from_ptr((*pg_sys::MyBgworkerEntry).bgw_type.as_ptr()) == c"tenant_q scheduler"
    }
}
