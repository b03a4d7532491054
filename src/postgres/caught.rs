//! Catching errors with everything they carry.
//!
//! pgrx turns an ERROR into a Rust panic but drops its CONTEXT, its place and every SQLSTATE it doesn't know. A handler's
//! error is what its owner debugs by, so `call_raw` sets its own jump point around the one call and copies the whole
//! ErrorData. Of all others that are raised in calls of ours, `kept` has the rest.

use crate::postgres::kept::{self, Place};
use crate::postgres::sqlstate::SqlState;
use pgrx::PgSqlErrorCode;
use pgrx::PgTryBuilder;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::CaughtError;
use std::ffi::CStr;
use std::panic::AssertUnwindSafe;

/// An error that was caught: what `GET STACKED DIAGNOSTICS` would say.
#[derive(Debug, Clone, Default)]
pub struct Failure {
    pub sqlstate: SqlState,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
    pub context: Option<Box<str>>,
    /// Of a worker's: the error's class, as its language has it.
    pub class: Option<Box<str>>,
    pub place: Option<Box<Place>>,
    /// What this code itself has to say with it.
    pub own: Option<Own>,
}

/// What is decided by. Only our own code says it, in a value that it returns: an ERROR that was caught has none, whatever
/// its SQLSTATE, which a tenant's code chooses as it likes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Own {
    /// The row that was to be completed has been changed or ended by others.
    Fenced,
    /// It isn't to be seen at all: it was ended by others, or the handler has deleted it.
    Gone,
    /// A listener said no to a task that was about to run.
    Skipped,
    /// A newcomer of the same unique_key does the work.
    Superseded,
    /// Somebody else was first: nothing was written, and it is to be looked at anew.
    Changed,
    /// The tenant isn't there, or not any more.
    NoTenant,
    /// What an attempt was picked by holds no more: it must not begin.
    Outdated,
    /// Another attempt could end no other way.
    InVain,
}

impl Failure {
    pub fn new(sqlstate: SqlState, message: impl Into<String>) -> Self {
        Failure { sqlstate, message: message.into(), ..Default::default() }
    }
    pub fn ours(own: Own, sqlstate: SqlState, message: impl Into<String>) -> Self {
        Failure { own: Some(own), ..Failure::new(sqlstate, message) }
    }
    pub fn is(&self, own: Own) -> bool {
        self.own == Some(own)
    }
}

impl From<crate::postgres::error::Error> for Failure {
    fn from(e: crate::postgres::error::Error) -> Self {
        Failure { sqlstate: e.sqlstate, message: e.message, detail: e.detail, hint: e.hint, place: e.place, ..Default::default() }
    }
}

/// Bytes of an error's text that are looked at: far more than are ever kept. A handler may raise one of any length.
const TEXT_MAX: usize = 64 * 1024;

/// A field of ErrorData.
pub(in crate::postgres) fn text(p: *const std::ffi::c_char) -> Option<String> {
    (!p.is_null()).then(|| {
        // SAFETY: a field of ErrorData that isn't NULL is a C string.
        let bytes = unsafe { CStr::from_ptr(p) }.to_bytes();
        String::from_utf8_lossy(&bytes[..bytes.len().min(TEXT_MAX)]).into_owned()
    })
}

/// Runs `f`, turning an ERROR raised under it into `Err`. The transaction is *not* rolled back:
/// that is the caller's duty (see transaction.rs).
pub fn catch<T>(f: impl FnOnce() -> T) -> Result<T, Failure> {
    let f = std::cell::Cell::new(Some(f));

    PgTryBuilder::new(AssertUnwindSafe(|| Ok((f.take().expect("called once"))())))
        .catch_others(|e| Err(failure_of(e)))
        .catch_rust_panic(|e| Err(failure_of(e)))
        .execute()
}

fn failure_of(error: CaughtError) -> Failure {
    let report = match error {
        CaughtError::PostgresError(e) | CaughtError::ErrorReport(e) => e,
        CaughtError::RustPanic { ereport, payload } => match payload.downcast::<crate::postgres::error::Error>() {
            Ok(error) => return (*error).into(),
            // A fault of ours: where it is, nobody but us wants to know.
            Err(_) => {
                let place = format!("a fault of the extension at {}:{}", ereport.file(), ereport.line_number());
                log_failure(&place, &Failure::new(SqlState::INTERNAL_ERROR, ereport.message()));
                ereport
            }
        },
    };
    let kept = kept::take(report.message());
    Failure {
        sqlstate: kept.as_ref().map_or_else(|| SqlState::unpack(report.sql_error_code() as i32), |k| k.sqlstate),
        message: report.message().to_string(),
        detail: report.detail().map(str::to_string),
        hint: report.hint().map(str::to_string),
        class: None,
        context: kept.as_ref().and_then(|k| k.context.clone()),
        place: kept.and_then(|k| k.place),
        own: None,
    }
}

/// Calls a C function of the handler's side; see the module's comment.
///
/// `f` must hold nothing with a destructor: an ERROR jumps out of it.
pub unsafe fn call_raw<T: Copy>(f: impl FnOnce() -> T) -> Result<T, Failure> {
    // SAFETY: the caller's promise, and an ErrorData that lives as long as the closure runs.
    unsafe {
        call_raw_with(f, |data| Failure {
            sqlstate: SqlState::unpack((*data).sqlerrcode),
            message: text((*data).message).unwrap_or_default(),
            detail: text((*data).detail),
            hint: text((*data).hint),
            context: text((*data).context).map(Into::into),
            place: Place::of(&*data),
            ..Default::default()
        })
    }
}

/// The message of a syntax error and the character (from 1) of the statement where it is; None: nowhere.
pub unsafe fn call_parser<T: Copy>(f: impl FnOnce() -> T) -> Result<T, (String, Option<usize>)> {
    // SAFETY: as in call_raw.
    unsafe {
        call_raw_with(f, |data| {
            let position = usize::try_from((*data).cursorpos).ok().filter(|p| *p > 0);
            (text((*data).message).unwrap_or_default(), position)
        })
    }
}

unsafe fn call_raw_with<T: Copy, E>(f: impl FnOnce() -> T, describe: impl FnOnce(*mut pg_sys::ErrorData) -> E) -> Result<T, E> {
    // SAFETY: the protocol of PG_TRY. The jump buffer lives in this frame and the previous stacks
    // are restored on both ways out; CopyErrorData allocates in the caller's memory context.
    unsafe {
        let context = pg_sys::CurrentMemoryContext;
        let prev_stack = pg_sys::PG_exception_stack;
        let prev_callbacks = pg_sys::error_context_stack;
        let mut result = std::mem::MaybeUninit::<T>::uninit();
        let jumped = cee_scape::call_with_sigsetjmp(false, |buffer| {
            pg_sys::PG_exception_stack = buffer as *const cee_scape::SigJmpBufFields as *mut _;
            result.write(f());
            0
        });
        pg_sys::PG_exception_stack = prev_stack;
        pg_sys::error_context_stack = prev_callbacks;
        if jumped == 0 {
            return Ok(result.assume_init());
        }
        pg_sys::CurrentMemoryContext = context;
        let data = pg_sys::CopyErrorData();
        pg_sys::FlushErrorState();
        let failure = describe(data);
        pg_sys::FreeErrorData(data);
        Err(failure)
    }
}

/// Logs `failure` as one line, under our name.
pub fn log_failure(what: &str, failure: &Failure) {
    pgrx::ereport!(
        pgrx::PgLogLevel::LOG,
        PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION,
        format!("tenant_q: {what}: {} ({})", one_line(&failure.message), failure.sqlstate)
    );
}

/// Control characters would let a tenant forge log lines.
pub fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(500).collect()
}
