//! Functions that stand for ours in others' schemas.
//!
//! A dump of one schema has the triggers of its tables, and restores only where everything is that they call. So what they
//! call is a function of the same schema that does nothing. Where this library is loaded PostgreSQL asks it about each
//! function before it is called (fmgr_hook), and for one of these it names ours. They are known by how their name begins, by
//! their form and by their very text: whoever writes another text has a function of their own, which runs as any other does.
//!
//! Nothing is gained by making one: ours are asked by the trigger manager, and look at what has fired, or tell no more than
//! anybody may ask.

use pgrx::pg_sys;
use std::ffi::CStr;
use std::sync::OnceLock;

/// How their names begin.
pub const PREFIX: &str = "tq_listen_";

/// What they do where nobody listens: nothing. With the extension, but without this library, a change would be lost, so they
/// load it, by a call of any of its functions, and refuse this one statement.
macro_rules! text {
    ($value:literal) => {
        concat!(
            "BEGIN
    -- Where the extension tenant_q is, its library does this function's work. Where it isn't, there is nothing to do.
    IF EXISTS (SELECT FROM pg_catalog.pg_extension AS e WHERE e.extname OPERATOR(pg_catalog.=) 'tenant_q'::pg_catalog.name) THEN
        PERFORM tenant_q.tzdata_version();
        RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = 'the library of tenant_q was not loaded in this session, so nobody would have been told of the change',
            HINT = 'Now it is: run the statement again. With shared_preload_libraries = ''tenant_q'' it is in every session.';
    END IF;
    RETURN ",
            $value,
            ";
END"
        )
    };
}

/// Of a trigger's function.
pub const CHANGED: &str = text!("NULL");
/// Of what stands in front of a condition.
pub const TRUSTED: &str = text!("true");

type Called = unsafe extern "C-unwind" fn(pg_sys::FunctionCallInfo) -> pg_sys::Datum;

/// What is called instead of `CHANGED` and `TRUSTED`.
static OURS: OnceLock<[Called; 2]> = OnceLock::new();
static mut ASKED_BEFORE: pg_sys::needs_fmgr_hook_type = None;
static mut CALLED_BEFORE: pg_sys::fmgr_hook_type = None;

/// Hooks in, in _PG_init of every process.
pub fn register(changed: Called, trusted: Called) {
    if OURS.set([changed, trusted]).is_ok() {
        // SAFETY: _PG_init, once a process.
        unsafe {
            ASKED_BEFORE = pg_sys::needs_fmgr_hook;
            pg_sys::needs_fmgr_hook = Some(is_one);
            CALLED_BEFORE = pg_sys::fmgr_hook;
            pg_sys::fmgr_hook = Some(name_ours);
        }
    }
}

/// Whether a function is to be asked about at each call: asked once a statement for each function that isn't built in.
unsafe extern "C-unwind" fn is_one(function: pg_sys::Oid) -> bool {
    // SAFETY: the hook's contract.
    unsafe { ours(function).is_some() || ASKED_BEFORE.is_some_and(|before| before(function)) }
}

/// Before a call: what is to be called.
unsafe extern "C-unwind" fn name_ours(event: pg_sys::FmgrHookEventType::Type, function: *mut pg_sys::FmgrInfo, note: *mut pg_sys::Datum) {
    // SAFETY: the hook's contract; what is called next is what the function's look-up says.
    unsafe {
        if event == pg_sys::FmgrHookEventType::FHET_START
            && let Some(called) = ours((*function).fn_oid)
        {
            (*function).fn_addr = Some(called);
        }
        if let Some(before) = CALLED_BEFORE {
            before(event, function, note);
        }
    }
}

/// Whether a function is declared as ours is: somebody may give the text to one that returns another type.
fn is_of_form(function: &pg_sys::FormData_pg_proc, place: usize) -> bool {
    let plain = function.prokind as u8 == pg_sys::PROKIND_FUNCTION && !function.proretset;
    plain
        && match place {
            0 => function.prorettype == pg_sys::TRIGGEROID && function.pronargs == 0,
            _ => function.prorettype == pg_sys::BOOLOID && function.pronargs == 2,
        }
}

/// What a function stands for. Not through pgrx's guards: an ERROR jumps through these frames, which hold nothing.
unsafe fn ours(function: pg_sys::Oid) -> Option<Called> {
    // SAFETY: a look-up, which whoever calls a function has just done too; the row stays while it is read.
    unsafe {
        let cache = pg_sys::SysCacheIdentifier::PROCOID as i32;
        let row = raw::SearchSysCache1(cache, pg_sys::Datum::from(function));
        if row.is_null() {
            return None;
        }
        let form = pg_sys::GETSTRUCT(row) as *const pg_sys::FormData_pg_proc;
        let mut found = None;
        if CStr::from_ptr((*form).proname.data.as_ptr()).to_bytes().starts_with(PREFIX.as_bytes()) {
            let mut is_null = false;
            let source = raw::SysCacheGetAttr(cache, row, pg_sys::Anum_pg_proc_prosrc as pg_sys::AttrNumber, &mut is_null);
            let length = if is_null { 0 } else { raw::toast_raw_datum_size(source).saturating_sub(pg_sys::VARHDRSZ) };
            if [CHANGED, TRUSTED].iter().any(|known| known.len() == length) {
                let text = raw::text_to_cstring(source.cast_mut_ptr());
                let bytes = CStr::from_ptr(text).to_bytes();
                found = [CHANGED, TRUSTED].iter().position(|known| known.as_bytes() == bytes).filter(|place| is_of_form(&*form, *place));
                raw::pfree(text.cast());
            }
        }
        raw::ReleaseSysCache(row);
        found.and_then(|place| OURS.get().map(|ours| ours[place]))
    }
}

mod raw {
    use pgrx::pg_sys;
    use std::ffi::{c_char, c_int, c_void};
    unsafe extern "C-unwind" {
        pub fn SearchSysCache1(cache: c_int, key: pg_sys::Datum) -> pg_sys::HeapTuple;
        pub fn SysCacheGetAttr(cache: c_int, row: pg_sys::HeapTuple, column: pg_sys::AttrNumber, is_null: *mut bool) -> pg_sys::Datum;
        pub fn ReleaseSysCache(row: pg_sys::HeapTuple);
        pub fn toast_raw_datum_size(value: pg_sys::Datum) -> usize;
        pub fn text_to_cstring(text: *const pg_sys::varlena) -> *mut c_char;
        pub fn pfree(pointer: *mut c_void);
    }
}
