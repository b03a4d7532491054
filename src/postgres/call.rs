//! The edge between SQL and Rust: arguments in, one value or an ERROR out.
//!
//! Declarations live in sql/*.sql; here is only the symbol behind each. Not pgrx's `pg_extern`:
//! that loses SQLSTATEs which PostgreSQL doesn't know (our class TQ), and parses every document.

use crate::postgres::caught::catch;
use crate::postgres::error::Error;
use crate::postgres::interval::{self, Interval};
use crate::postgres::transaction::balanced;
use crate::postgres::types::{Documents, Jsonb};
use crate::postgres::{kept, rows, text};
use crate::pure::ids::Id;
use crate::pure::period::Period;
use crate::pure::time::{At, Span};
use pgrx::pg_sys;
use pgrx::{FromDatum, IntoDatum, PgLogLevel, PgSqlErrorCode};

/// The arguments of one call, by place from 0. `None` = SQL NULL.
///
/// Each getter asks whether the function is declared with a parameter of its type there: a place that is another's is an
/// internal error, not somebody else's bytes. Places of long lists have names: [`parameters!`].
pub struct Args(pg_sys::FunctionCallInfo);

/// What a function is declared with: beside its `FmgrInfo`, as long as that lives.
struct Declared {
    count: usize,
    types: *const pg_sys::Oid,
}

impl Args {
    /// Types of the parameters, looked up at the first call from each place.
    fn declared(&self) -> &[pg_sys::Oid] {
        // SAFETY: a call in progress, so its FmgrInfo is alive; fn_extra is the called function's to use, which is ours,
        // and what it points to lives in the FmgrInfo's own memory.
        unsafe {
            let function = (*self.0).flinfo;
            if function.is_null() {
                return &[];
            }
            if (*function).fn_extra.is_null() {
                let before = pg_sys::MemoryContextSwitchTo((*function).fn_mcxt);
                let (mut types, mut count) = (std::ptr::null_mut(), 0);
                pg_sys::get_func_signature((*function).fn_oid, &mut types, &mut count);
                let declared = pg_sys::palloc(size_of::<Declared>()).cast::<Declared>();
                declared.write(Declared { count: count.max(0) as usize, types });
                (*function).fn_extra = declared.cast();
                pg_sys::MemoryContextSwitchTo(before);
            }
            let declared = &*(*function).fn_extra.cast::<Declared>();
            if declared.count == 0 { &[] } else { std::slice::from_raw_parts(declared.types, declared.count) }
        }
    }
    /// An argument that is declared; None = NULL.
    fn given(&self, n: usize) -> Option<pg_sys::Datum> {
        // SAFETY: a live call; its arguments are nargs many.
        unsafe {
            if n >= (*self.0).nargs.max(0) as usize {
                Error::internal(format!("argument {} is not declared", n + 1)).raise();
            }
            let argument = (*self.0).args.as_ptr().add(n);
            (!(*argument).isnull).then(|| (*argument).value)
        }
    }
    /// An argument that is declared to be of this type.
    fn datum(&self, n: usize, of: pg_sys::Oid) -> Option<pg_sys::Datum> {
        let declared = self.declared().get(n);
        if declared != Some(&of) {
            let what = declared.map_or("not declared".into(), |oid| format!("of type {}", oid.to_u32()));
            Error::internal(format!("argument {} is {what}, not of type {}", n + 1, of.to_u32())).raise();
        }
        self.given(n)
    }
    fn get<T: FromDatum>(&self, n: usize, of: pg_sys::Oid) -> Option<T> {
        // SAFETY: the getters below name the type that T is in Rust; it is the declared one.
        self.datum(n, of).and_then(|datum| unsafe { T::from_datum(datum, false) })
    }
    /// Whether there is such an argument: the extension's objects may be of an older version than this library.
    pub fn declares(&self, n: usize) -> bool {
        self.declared().len() > n
    }
    /// Whether the argument is not NULL.
    pub fn is_given(&self, n: usize) -> bool {
        self.given(n).is_some()
    }
    /// Raises 54000 for more than anybody could mean: what is said of it would be as long.
    pub fn text(&self, n: usize) -> Option<String> {
        // SAFETY: a text.
        self.datum_of_at_most(n, pg_sys::TEXTOID, TEXT_MAX).map(|datum| unsafe { text::of_datum(datum) })
    }
    /// The beginning of a text that is only shown.
    pub fn message(&self, n: usize) -> Option<String> {
        let datum = self.datum(n, pg_sys::TEXTOID)?;
        crate::postgres::memory::require(2 * size(datum));
        // SAFETY: a text.
        let mut text = unsafe { text::of_datum(datum) };
        text.truncate(text.floor_char_boundary(MESSAGE));
        Some(text)
    }
    /// Of a type of variable length.
    fn datum_of_at_most(&self, n: usize, of: pg_sys::Oid, most: usize) -> Option<pg_sys::Datum> {
        let datum = self.datum(n, of)?;
        let bytes = size(datum);
        if bytes > most {
            Error::limit(format!("argument {} has {bytes} bytes, which is more than {most}", n + 1)).raise();
        }
        Some(datum)
    }
    pub fn bool(&self, n: usize) -> Option<bool> {
        self.get(n, pg_sys::BOOLOID)
    }
    pub fn int(&self, n: usize) -> Option<i32> {
        self.get(n, pg_sys::INT4OID)
    }
    pub fn float(&self, n: usize) -> Option<f64> {
        self.get(n, pg_sys::FLOAT8OID)
    }
    /// The relation that a regclass names.
    pub fn relation(&self, n: usize) -> Option<u32> {
        self.get::<pg_sys::Oid>(n, pg_sys::REGCLASSOID).map(|o| o.to_u32())
    }
    pub fn uuid(&self, n: usize) -> Option<Id> {
        self.get::<pgrx::Uuid>(n, pg_sys::UUIDOID).map(|u| Id::of_bytes(*u.as_bytes()))
    }
    pub fn time(&self, n: usize) -> Option<At> {
        self.get::<pgrx::datum::TimestampWithTimeZone>(n, pg_sys::TIMESTAMPTZOID).map(|t| At::of_micros(t.into()))
    }
    /// How long an interval is; a month counts 30 days, as EXTRACT(epoch) has it.
    pub fn interval(&self, n: usize) -> Option<Span> {
        self.interval_in_parts(n).map(|i| interval::span_of(&i))
    }
    /// An interval that is added to an instant.
    pub fn period(&self, n: usize) -> Option<Period> {
        self.interval_in_parts(n).map(|i| interval::period_of(&i))
    }
    /// An interval as it is: months, days and microseconds apart.
    pub fn interval_in_parts(&self, n: usize) -> Option<Interval> {
        self.get(n, pg_sys::INTERVALOID)
    }
    pub fn intervals(&self, n: usize) -> Option<Vec<Span>> {
        let all = self.get::<Vec<Option<Interval>>>(n, pg_sys::INTERVALARRAYOID);
        all.map(|v| v.into_iter().flatten().map(|i| interval::span_of(&i)).collect())
    }
    pub fn json(&self, n: usize) -> Option<Jsonb> {
        // SAFETY: a jsonb.
        self.datum(n, pg_sys::JSONBOID).map(|datum| unsafe { Jsonb::from_datum(datum) })
    }
    /// A document that says how something is to be, not what is to be done: a small one.
    pub fn setting(&self, n: usize) -> Option<serde_json::Value> {
        // SAFETY: a jsonb.
        self.datum_of_at_most(n, pg_sys::JSONBOID, TEXT_MAX).map(|datum| unsafe { Jsonb::from_datum(datum) }.value())
    }
    pub fn texts(&self, n: usize) -> Option<Vec<String>> {
        // SAFETY: a text[].
        self.datum_of_at_most(n, pg_sys::TEXTARRAYOID, TEXT_MAX).map(|datum| unsafe { text::of_array(datum) })
    }
    pub fn uuids(&self, n: usize) -> Option<Vec<Id>> {
        let datum = self.datum_of_at_most(n, pg_sys::UUIDARRAYOID, UUIDS_MAX)?;
        crate::postgres::memory::require(4 * size(datum));
        let all = self.get::<Vec<Option<pgrx::Uuid>>>(n, pg_sys::UUIDARRAYOID);
        all.map(|v| v.into_iter().flatten().map(|u| Id::of_bytes(*u.as_bytes())).collect())
    }
    /// The documents of a jsonb[]: one by one they may be large.
    pub fn jsons(&self, n: usize) -> Option<Documents<'_>> {
        let datum = self.datum(n, pg_sys::JSONBARRAYOID)?;
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
    /// Whether this is no procedure that the client itself has called, outside of a transaction block.
    pub fn is_atomic(&self) -> bool {
        // SAFETY: a live call; the context's tag says what it is.
        unsafe {
            let context = (*self.0).context;
            let call = !context.is_null() && (*context).type_ == pg_sys::NodeTag::T_CallContext;
            !call || (*context.cast::<pg_sys::CallContext>()).atomic
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
}

/// Bytes of a value of a type of variable length, without unpacking it.
fn size(datum: pg_sys::Datum) -> usize {
    // SAFETY: the argument of a call, of such a type; only its header is read.
    unsafe { pg_sys::toast_raw_datum_size(datum) }
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
    Uuid(Id),
    Text(String),
    Json(serde_json::Value),
    Document(Jsonb),
    Uuids(Vec<Id>),
    Times(Vec<At>),
    /// Of a function that returns a set of them.
    Rows(Vec<rows::Row>),
    /// The same, made one by one: there may be any number of them.
    Each(Box<dyn Iterator<Item = Result<rows::Row, Error>>>),
    /// What a foreign data wrapper's handler returns.
    Routine(crate::postgres::foreign::Routine),
}

pub fn uuid(id: Id) -> pgrx::Uuid {
    pgrx::Uuid::from_bytes(id.bytes())
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
            Ret::Document(v) => v.into_datum(),
            Ret::Uuids(v) => {
                crate::postgres::memory::require(v.len() * size_of::<pgrx::Uuid>());
                v.into_iter().map(uuid).collect::<Vec<_>>().into_datum()
            }
            Ret::Rows(_) | Ret::Each(_) => Error::internal("rows are handed over, not returned").raise(),
            Ret::Routine(routine) => Some(routine.0),
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
    context: *const std::ffi::c_char,
    query: *const std::ffi::c_char,
    position: i32,
    names: [*const std::ffi::c_char; 5],
}

/// What PostgreSQL calls the fields of `Place::names`.
const NAMES: [u32; 5] = [
    pg_sys::PG_DIAG_SCHEMA_NAME as u32,
    pg_sys::PG_DIAG_TABLE_NAME as u32,
    pg_sys::PG_DIAG_COLUMN_NAME as u32,
    pg_sys::PG_DIAG_DATATYPE_NAME as u32,
    pg_sys::PG_DIAG_CONSTRAINT_NAME as u32,
];

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

/// `context`: what PostgreSQL said of an ERROR of its own, as far as it was inside of the call.
fn raised(error: Error, context: Option<&str>) -> Raised {
    let optional = |t: Option<&str>| t.map_or(std::ptr::null(), c_text);
    let place = error.place.as_deref();
    let query = place.and_then(|p| p.query.as_ref());
    Raised {
        code: error.sqlstate.pack(),
        message: c_text(&error.message),
        detail: optional(error.detail.as_deref()),
        hint: optional(error.hint.as_deref()),
        context: optional(context),
        query: optional(query.map(|(text, _)| text.as_str())),
        position: query.map_or(0, |(_, position)| *position),
        names: std::array::from_fn(|n| optional(place.and_then(|p| p.names[n].as_deref()))),
    }
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

enum Answer<T> {
    Value(T),
    Raise(Raised),
}

/// Runs the Rust behind a SQL function. Called by `sql_functions!` only.
pub fn enter(fcinfo: pg_sys::FunctionCallInfo, f: fn(&Args) -> Result<Ret, Error>) -> pg_sys::Datum {
    let datum = answer(|| match f(&Args(fcinfo))? {
        // SAFETY: the call in progress.
        Ret::Rows(rows) => unsafe { rows::hand_over(fcinfo, rows.into_iter().map(Ok)) }.map(|()| None),
        // SAFETY: the same.
        Ret::Each(rows) => unsafe { rows::hand_over(fcinfo, rows) }.map(|()| None),
        value => Ok(value.datum()),
    });
    // SAFETY: the call that is being answered.
    unsafe { (*fcinfo).isnull = datum.is_none() };
    datum.unwrap_or(pg_sys::Datum::from(0usize))
}

/// What a document says of one parameter.
pub enum Given {
    Null,
    /// As the parameter's type reads it.
    Text(String),
    Texts(Vec<String>),
}

impl Given {
    pub fn of(value: serde_json::Value) -> Given {
        match value {
            serde_json::Value::Null => Given::Null,
            serde_json::Value::String(text) => Given::Text(text),
            serde_json::Value::Array(items) if items.iter().all(serde_json::Value::is_string) => {
                Given::Texts(items.into_iter().filter_map(|item| item.as_str().map(str::to_owned)).collect())
            }
            other => Given::Text(other.to_string()),
        }
    }

    /// As a value of this type, one of PostgreSQL's own.
    fn datum(&self, of: pg_sys::Oid) -> Result<Option<pg_sys::Datum>, Error> {
        let text = match self {
            Given::Null => return Ok(None),
            Given::Texts(items) if of == pg_sys::TEXTARRAYOID => return Ok(items.clone().into_datum()),
            Given::Texts(items) => serde_json::Value::from(items.clone()).to_string(),
            // A text that is a document.
            Given::Text(text) if of == pg_sys::JSONBOID && serde_json::from_str::<serde_json::Value>(text).is_err() => {
                serde_json::Value::from(text.as_str()).to_string()
            }
            Given::Text(text) => text.clone(),
        };
        let text = std::ffi::CString::new(text).map_err(|_| Error::invalid("a text contains a null character"))?;
        if !crate::postgres::function::is_built_in(of.to_u32()) {
            return Err(Error::internal("a parameter is of a type of somebody's making"));
        }
        // SAFETY: the input function of the type, which reads a C string.
        unsafe {
            let (mut input, mut io_param) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
            pg_sys::getTypeInputInfo(of, &mut input, &mut io_param);
            Ok(Some(pg_sys::OidInputFunctionCall(input, text.as_ptr().cast_mut(), io_param, -1)))
        }
    }
}

/// Calls what is behind a function of ours, whose OID this is, with these values of its parameters, all of them.
pub fn with_values(function: u32, f: fn(&Args) -> Result<Ret, Error>, given: &[Given]) -> Result<Ret, Error> {
    // SAFETY: both are zeroed, and as long as their parts; they live as long as the memory context of the call that this is in.
    let args = unsafe {
        let info = pg_sys::palloc0(size_of::<pg_sys::FmgrInfo>()).cast::<pg_sys::FmgrInfo>();
        (*info).fn_oid = pg_sys::Oid::from(function);
        (*info).fn_mcxt = pg_sys::CurrentMemoryContext;
        (*info).fn_nargs = given.len() as i16;
        let size = size_of::<pg_sys::FunctionCallInfoBaseData>() + given.len() * size_of::<pg_sys::NullableDatum>();
        let call = pg_sys::palloc0(size).cast::<pg_sys::FunctionCallInfoBaseData>();
        (*call).flinfo = info;
        (*call).nargs = given.len() as i16;
        Args(call)
    };
    if args.declared().len() != given.len() {
        return Err(Error::internal(format!("{} values for {} parameters", given.len(), args.declared().len())));
    }
    for (n, (given, of)) in given.iter().zip(args.declared()).enumerate() {
        let datum = given.datum(*of)?;
        // SAFETY: there is room for so many.
        unsafe {
            let place = (*args.0).args.as_mut_ptr().add(n);
            (*place).isnull = datum.is_none();
            (*place).value = datum.unwrap_or(pg_sys::Datum::from(0usize));
        }
    }
    f(&args)
}

/// Runs Rust that PostgreSQL calls: an error becomes an ERROR, with all that it carries.
pub(in crate::postgres) fn answer<T: Copy>(f: impl FnOnce() -> Result<T, Error>) -> T {
    match guarded(f) {
        Answer::Value(value) => value,
        // Nothing with a destructor is alive in this frame or between it and PostgreSQL.
        // SAFETY: the jump leaves plain frames only.
        Answer::Raise(r) => unsafe {
            raw::errstart(PgLogLevel::ERROR as i32, std::ptr::null());
            raw::errcode(r.code);
            raw::errmsg_internal(c"%s".as_ptr(), r.message);
            if !r.detail.is_null() {
                raw::errdetail_internal(c"%s".as_ptr(), r.detail);
            }
            if !r.hint.is_null() {
                raw::errhint(c"%s".as_ptr(), r.hint);
            }
            if !r.context.is_null() {
                raw::errcontext_msg(c"%s".as_ptr(), r.context);
            }
            if !r.query.is_null() {
                raw::internalerrquery(r.query);
                raw::internalerrposition(r.position);
            }
            for (field, name) in NAMES.into_iter().zip(r.names).filter(|(_, name)| !name.is_null()) {
                raw::err_generic_string(field as std::ffi::c_int, name);
            }
            raw::errfinish(c"tenant_q".as_ptr(), 0, c"".as_ptr());
            unreachable!()
        },
    }
}

#[inline(never)]
fn guarded<T: Copy>(f: impl FnOnce() -> Result<T, Error>) -> Answer<T> {
    crate::postgres::memory::keep_reserve();
    let work = || {
        let value = balanced(f)?;
        // Where memory ran out on the way something may be half done.
        crate::postgres::memory::check()?;
        Ok(value)
    };
    // Whatever comes is sent on from here: pg_guard would leave out what pgrx drops, and add where in our code it passed.
    match kept::watched(|| catch(work)) {
        Ok(Ok(value)) => Answer::Value(value),
        Ok(Err(error)) => Answer::Raise(raised(error, None)),
        Err(mut failure) => {
            let context = failure.context.take();
            Answer::Raise(raised(failure.into(), context.as_deref()))
        }
    }
}

/// Names the places of a SQL function's arguments, in the order of its declaration; `behind`: they follow those of another
/// list. `tests/pure` compares them with sql/*.sql, and asks for a list of each function that has more than seven.
macro_rules! parameters {
    ($($(#[$doc:meta])* $list:ident $(of $call:ident)? $(behind $first:ident)? { $($name:ident,)* })*) => {$(
        $(#[$doc])*
        pub enum $list {}
        const _: () = {
            #[allow(non_camel_case_types, clippy::upper_case_acronyms, reason = "the places, counted by the compiler")]
            enum At { $($name),* }
            const BEFORE: usize = 0 $(+ $first::NAMES.len())?;
            #[allow(dead_code, reason = "all parameters of a call stand here")]
            impl $list {
                $(pub const $name: usize = BEFORE + At::$name as usize;)*
                /// As SQL has them.
                pub const NAMES: &[&str] = &[$({
                    const LOWER: [u8; stringify!($name).len()] = $crate::postgres::call::lower_case(stringify!($name));
                    match std::str::from_utf8(&LOWER) {
                        Ok(name) => name,
                        Err(_) => unreachable!(),
                    }
                }),*];
            }
        };
    )*};
}
pub(crate) use parameters;

/// For [`parameters!`].
pub const fn lower_case<const LENGTH: usize>(text: &str) -> [u8; LENGTH] {
    let (mut lower, mut at) = ([0; LENGTH], 0);
    while at < LENGTH {
        lower[at] = text.as_bytes()[at].to_ascii_lowercase();
        at += 1;
    }
    lower
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
        pub fn errcontext_msg(format: *const c_char, ...) -> c_int;
        pub fn internalerrquery(query: *const c_char) -> c_int;
        pub fn internalerrposition(position: c_int) -> c_int;
        pub fn err_generic_string(field: c_int, text: *const c_char) -> c_int;
        pub fn errfinish(file: *const c_char, line: c_int, function: *const c_char);
    }
}
