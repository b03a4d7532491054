//! What another process is at: what it waits for, who blocks it, how old its snapshot is.

use pgrx::{FromDatum, IntoDatum, pg_sys};

/// What a process does at the moment.
#[derive(Default)]
pub struct Activity {
    /// None: it works.
    pub wait_event: Option<String>,
    /// Processes that hold, or wait before it for, the lock it waits for.
    pub blocked_by: Vec<i32>,
    /// Transactions since the oldest one it may still need to see.
    pub xmin_age: Option<i64>,
}

/// Of process `procno`, if it still is the one with this pid.
pub fn of(procno: u32, pid: u32) -> Activity {
    if !crate::postgres::latch::is_process(procno, pid) {
        return Activity::default();
    }
    // SAFETY: the bound is checked by is_process(); single words that their owner may change any
    // time are read once each, as pg_stat_activity does.
    let (info, xmin, next) = unsafe {
        let proc = (*pg_sys::ProcGlobal).allProcs.add(procno as usize);
        (
            std::ptr::read_volatile(&raw const (*proc).wait_event_info),
            std::ptr::read_volatile(&raw const (*proc).xmin),
            pg_sys::ReadNextFullTransactionId().value as u32,
        )
    };
    // SAFETY: returns static text, or text of shared memory that is never freed; NULL for none.
    let wait_event = unsafe {
        let text = pg_sys::pgstat_get_wait_event(info);
        (!text.is_null()).then(|| std::ffi::CStr::from_ptr(text).to_string_lossy().into_owned())
    };
    let waits_for_lock = info & 0xFF00_0000 == pg_sys::PG_WAIT_LOCK;
    Activity {
        wait_event,
        // Asking takes all partitions of the lock table: only of those who do wait.
        blocked_by: if waits_for_lock { blocking(pid as i32) } else { Vec::new() },
        xmin_age: (xmin != pg_sys::InvalidTransactionId).then(|| i64::from(next.wrapping_sub(xmin.into_inner()) as i32)),
    }
}

fn blocking(pid: i32) -> Vec<i32> {
    // SAFETY: pg_blocking_pids takes an int4 and returns an int4[] without NULLs.
    unsafe {
        let found = pgrx::direct_function_call_as_datum(pg_sys::pg_blocking_pids, &[pid.into_datum()]);
        found.and_then(|d| Vec::<i32>::from_datum(d, false)).unwrap_or_default()
    }
}
