//! The edge between SQL and Rust: arguments in, one value or an ERROR out.
//!
//! Declarations live in sql/*.sql; here is only the symbol behind each. Not pgrx's `pg_extern`:
//! that loses SQLSTATEs which PostgreSQL doesn't know (our class TQ), and parses every document.

use crate::postgres::error::Error;
use crate::postgres::interval::{self, Interval};
use crate::postgres::text;
use crate::postgres::types::{Documents, Jsonb};
use crate::pure::time::{At, Span};
use pgrx::pg_sys;
use pgrx::{FromDatum, IntoDatum, PgLogLevel, PgSqlErrorCode};
use std::panic::AssertUnwindSafe;

/// The arguments of one call, by position from 0. `None` = SQL NULL.
pub struct Args(pg_sys::FunctionCallInfo);

impl Args {
    fn get<T: FromDatum>(&self, n: usize) -> Option<T> {
        // SAFETY: PostgreSQL passes as many arguments as sql/*.sql declares, of the declared
        // types; the getters below are called accordingly.
        unsafe {
            assert!(n < (*self.0).nargs as usize, "argument {n} is declared");
            let argument = (*self.0).args.as_ptr().add(n);
            T::from_datum((*argument).value, (*argument).isnull)
        }
    }
    /// Whether the argument is not NULL.
    pub fn is_given(&self, n: usize) -> bool {
        self.datum(n).is_some()
    }
    /// Raises 54000 for more than anybody could mean: what is said of it would be as long.
    pub fn text(&self, n: usize) -> Option<String> {
        self.limit(n, TEXT_MAX);
        // SAFETY: as in get().
        self.datum(n).map(|datum| unsafe { text::of_datum(datum) })
    }
    /// The beginning of a text that is only shown.
    pub fn message(&self, n: usize) -> Option<String> {
        crate::postgres::memory::require(2 * self.size(n));
        // SAFETY: as in get().
        let mut text = self.datum(n).map(|datum| unsafe { text::of_datum(datum) })?;
        text.truncate(text.floor_char_boundary(MESSAGE));
        Some(text)
    }
    /// Bytes of an argument of a type of variable length, without unpacking it.
    fn size(&self, n: usize) -> usize {
        // SAFETY: a datum that isn't null; only its header is read.
        self.datum(n).map_or(0, |d| unsafe { pg_sys::toast_raw_datum_size(d) })
    }
    fn limit(&self, n: usize, most: usize) {
        let bytes = self.size(n);
        if bytes > most {
            Error::limit(format!("argument {} has {bytes} bytes, which is more than {most}", n + 1)).raise();
        }
    }
    pub fn bool(&self, n: usize) -> Option<bool> {
        self.get(n)
    }
    pub fn int(&self, n: usize) -> Option<i32> {
        self.get(n)
    }
    pub fn float(&self, n: usize) -> Option<f64> {
        self.get(n)
    }
    pub fn oid(&self, n: usize) -> Option<u32> {
        self.get::<pg_sys::Oid>(n).map(|o| o.to_u32())
    }
    pub fn uuid(&self, n: usize) -> Option<u128> {
        self.get::<pgrx::Uuid>(n).map(|u| u128::from_be_bytes(*u.as_bytes()))
    }
    pub fn time(&self, n: usize) -> Option<At> {
        self.get::<pgrx::datum::TimestampWithTimeZone>(n).map(|t| At::of_micros(t.into()))
    }
    /// How long an interval is; a month counts 30 days, as EXTRACT(epoch) has it.
    pub fn interval(&self, n: usize) -> Option<Span> {
        self.get::<Interval>(n).map(|i| interval::span_of(&i))
    }
    /// An interval as it is: months, days and microseconds apart.
    pub fn span(&self, n: usize) -> Option<Interval> {
        self.get(n)
    }
    pub fn intervals(&self, n: usize) -> Option<Vec<Span>> {
        self.get::<Vec<Option<Interval>>>(n).map(|v| v.into_iter().flatten().map(|i| interval::span_of(&i)).collect())
    }
    pub fn json(&self, n: usize) -> Option<Jsonb> {
        // SAFETY: as in get().
        self.datum(n).map(|datum| unsafe { Jsonb::from_datum(datum) })
    }
    /// A document that says how something is to be, not what is to be done: a small one.
    pub fn setting(&self, n: usize) -> Option<serde_json::Value> {
        self.limit(n, TEXT_MAX);
        self.json(n).map(|j| j.value())
    }
    pub fn texts(&self, n: usize) -> Option<Vec<String>> {
        self.limit(n, TEXT_MAX);
        // SAFETY: as in get().
        self.datum(n).map(|datum| unsafe { text::of_array(datum) })
    }
    pub fn uuids(&self, n: usize) -> Option<Vec<u128>> {
        self.limit(n, UUIDS_MAX);
        crate::postgres::memory::require(4 * self.size(n));
        self.get::<Vec<Option<pgrx::Uuid>>>(n).map(|v| v.into_iter().flatten().map(|u| u128::from_be_bytes(*u.as_bytes())).collect())
    }
    /// The documents of a jsonb[]: one by one they may be large.
    pub fn jsons(&self, n: usize) -> Option<Documents<'_>> {
        let datum = self.datum(n)?;
        let (mut values, mut nulls, mut count) = (std::ptr::null_mut(), std::ptr::null_mut(), 0);
        // SAFETY: a jsonb[], unpacked into memory of this call; its elements are of variable length and aligned as int.
        unsafe {
            let array = pg_sys::pg_detoast_datum(datum.cast_mut_ptr()).cast::<pg_sys::ArrayType>();
            pg_sys::deconstruct_array(
                array,
                pg_sys::JSONBOID,
                -1,
                false,
                pg_sys::TYPALIGN_INT as std::ffi::c_char,
                &mut values,
                &mut nulls,
                &mut count,
            );
            let count = count.max(0) as usize;
            crate::postgres::memory::require(count * size_of::<Option<pg_sys::Datum>>());
            Some(Documents::new((0..count).map(|i| (!*nulls.add(i)).then(|| *values.add(i))).collect()))
        }
    }
    /// Of a function that the trigger manager calls; None = somebody else does.
    pub fn trigger(&self) -> Option<crate::postgres::trigger::Fired> {
        // SAFETY: a live call; the context's tag says what it is.
        unsafe {
            let context = (*self.0).context;
            let fired = !context.is_null() && (*context).type_ == pg_sys::NodeTag::T_TriggerData;
            fired.then(|| crate::postgres::trigger::Fired::new(context.cast()))
        }
    }
    fn datum(&self, n: usize) -> Option<pg_sys::Datum> {
        // SAFETY: as in get().
        unsafe {
            assert!(n < (*self.0).nargs as usize, "argument {n} is declared");
            let argument = (*self.0).args.as_ptr().add(n);
            (!(*argument).isnull).then(|| (*argument).value)
        }
    }
}

/// Bytes of a text, or of texts in an array, that a call takes.
const TEXT_MAX: usize = 1 << 20;
/// Bytes of an array of ids that a call takes: half a million of them.
const UUIDS_MAX: usize = 8 << 20;
/// Bytes of a message that somebody is to see.
const MESSAGE: usize = 8 * 1024;

/// The one value that a call returns.
pub enum Ret {
    Null,
    Void,
    Bool(bool),
    Int(i32),
    Bigint(i64),
    Uuid(u128),
    Text(String),
    Json(serde_json::Value),
    Rows(crate::postgres::types::Rows),
    Document(Jsonb),
    Uuids(Vec<u128>),
    Times(Vec<At>),
}

pub fn uuid(id: u128) -> pgrx::Uuid {
    pgrx::Uuid::from_bytes(id.to_be_bytes())
}
pub fn timestamp(t: At) -> Option<pgrx::datum::TimestampWithTimeZone> {
    pgrx::datum::TimestampWithTimeZone::try_from(t.micros()).ok()
}

impl Ret {
    fn datum(self) -> Option<pg_sys::Datum> {
        match self {
            Ret::Null => None,
            Ret::Void => Some(pg_sys::Datum::from(0usize)),
            Ret::Bool(v) => v.into_datum(),
            Ret::Int(v) => v.into_datum(),
            Ret::Bigint(v) => v.into_datum(),
            Ret::Uuid(v) => uuid(v).into_datum(),
            Ret::Text(v) => v.into_datum(),
            Ret::Json(v) => Some(crate::postgres::types::document_datum(&v).unwrap_or_else(|error| error.raise())),
            Ret::Rows(v) => Some(v.array()),
            Ret::Document(v) => v.into_datum(),
            Ret::Uuids(v) => {
                crate::postgres::memory::require(v.len() * size_of::<pgrx::Uuid>());
                v.into_iter().map(uuid).collect::<Vec<_>>().into_datum()
            }
            Ret::Times(v) => v.into_iter().filter_map(timestamp).collect::<Vec<_>>().into_datum(),
        }
    }
}

/// Copies of an error's texts in PostgreSQL's memory: what survives the jump.
#[derive(Clone, Copy)]
struct Raised {
    code: i32,
    message: *const std::ffi::c_char,
    detail: *const std::ffi::c_char,
    hint: *const std::ffi::c_char,
}

fn c_text(text: &str) -> *const std::ffi::c_char {
    // What a caller passed may be megabytes: neither client nor log wants it back.
    const LONGEST: usize = 8 * 1024;
    let mut clean = text.replace('\0', "");
    if clean.len() > LONGEST {
        clean.truncate(clean.floor_char_boundary(LONGEST));
        clean.push('…');
    }
    // SAFETY: palloc'ed one byte longer than the text, terminated.
    unsafe {
        let p = pg_sys::palloc(clean.len() + 1) as *mut u8;
        std::ptr::copy_nonoverlapping(clean.as_ptr(), p, clean.len());
        *p.add(clean.len()) = 0;
        p as *const _
    }
}

fn raised(error: Error) -> Raised {
    let optional = |t: &Option<String>| t.as_deref().map_or(std::ptr::null(), c_text);
    Raised { code: error.sqlstate.pack(), message: c_text(&error.message), detail: optional(&error.detail), hint: optional(&error.hint) }
}

/// Emits a WARNING, NOTICE or LOG.
pub fn report(error: Error, level: PgLogLevel) {
    let code = PgSqlErrorCode::from(error.sqlstate.pack());
    let mut report = pg_sys::panic::ErrorReport::new(code, error.message, "tenant_q");
    if let Some(detail) = error.detail {
        report = report.set_detail(detail);
    }
    if let Some(hint) = error.hint {
        report = report.set_hint(hint);
    }
    report.report(level);
}

enum Outcome {
    Value(pg_sys::Datum, bool),
    Raise(Raised),
}

/// Runs the Rust behind a SQL function. Called by `sql_functions!` only.
pub fn enter(fcinfo: pg_sys::FunctionCallInfo, f: fn(&Args) -> Result<Ret, Error>) -> pg_sys::Datum {
    match guarded(fcinfo, f) {
        Outcome::Value(datum, is_null) => {
            // SAFETY: the call that is being answered.
            unsafe { (*fcinfo).isnull = is_null };
            datum
        }
        // Nothing with a destructor is alive in this frame or between it and PostgreSQL.
        // SAFETY: the jump leaves plain frames only.
        Outcome::Raise(r) => unsafe {
            raw::errstart(PgLogLevel::ERROR as i32, std::ptr::null());
            raw::errcode(r.code);
            raw::errmsg_internal(c"%s".as_ptr(), r.message);
            if !r.detail.is_null() {
                raw::errdetail_internal(c"%s".as_ptr(), r.detail);
            }
            if !r.hint.is_null() {
                raw::errhint(c"%s".as_ptr(), r.hint);
            }
            raw::errfinish(c"tenant_q".as_ptr(), 0, c"".as_ptr());
            unreachable!()
        },
    }
}

#[inline(never)]
fn guarded(fcinfo: pg_sys::FunctionCallInfo, f: fn(&Args) -> Result<Ret, Error>) -> Outcome {
    crate::postgres::memory::keep_reserve();
    let result = std::panic::catch_unwind(AssertUnwindSafe(|| {
        let datum = f(&Args(fcinfo))?.datum();
        // Where memory ran out on the way something may be half done.
        crate::postgres::memory::check()?;
        Ok(datum)
    }));
    match result {
        Ok(Ok(Some(datum))) => Outcome::Value(datum, false),
        Ok(Ok(None)) => Outcome::Value(pg_sys::Datum::from(0usize), true),
        Ok(Err(error)) => Outcome::Raise(raised(error)),
        Err(payload) => match payload.downcast::<Error>() {
            Ok(error) => Outcome::Raise(raised(*error)),
            // An ERROR of the server's on its way through: pg_guard sends it on.
            Err(payload) => std::panic::resume_unwind(payload),
        },
    }
}

/// Exports Rust functions `fn(&Args) -> Result<Ret, Error>` under the names that sql/*.sql uses.
#[macro_export]
macro_rules! sql_functions {
    ($($symbol:ident, $info:ident => $function:expr;)*) => {$(
        #[unsafe(no_mangle)]
        #[pgrx::pg_guard]
        pub extern "C-unwind" fn $symbol(fcinfo: pgrx::pg_sys::FunctionCallInfo) -> pgrx::pg_sys::Datum {
            $crate::postgres::call::enter(fcinfo, $function)
        }
        #[unsafe(no_mangle)]
        pub extern "C" fn $info() -> &'static pgrx::pg_sys::Pg_finfo_record {
            const V1: pgrx::pg_sys::Pg_finfo_record = pgrx::pg_sys::Pg_finfo_record { api_version: 1 };
            &V1
        }
    )*};
}

mod raw {
    use std::ffi::{c_char, c_int};
    unsafe extern "C-unwind" {
        pub fn errstart(level: c_int, domain: *const c_char) -> bool;
        pub fn errcode(code: c_int) -> c_int;
        pub fn errmsg_internal(format: *const c_char, ...) -> c_int;
        pub fn errdetail_internal(format: *const c_char, ...) -> c_int;
        pub fn errhint(format: *const c_char, ...) -> c_int;
        pub fn errfinish(file: *const c_char, line: c_int, function: *const c_char);
    }
}
