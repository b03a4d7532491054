//! What the catalogs say of functions, and SQL's names for them.
//!
//! Nothing here asks for privileges: that a function exists is public in pg_proc, and whoever
//! resolves a name must get the same answer as the role that runs it. EXECUTE is checked by the call.

use crate::postgres::caught::{Failure, call_raw};
use crate::postgres::function::raw;
use crate::postgres::sqlstate::SqlState;
use crate::postgres::transaction;
use pgrx::{FromDatum, pg_sys};
use std::ffi::{CStr, CString, c_char};

/// One row of pg_proc.
pub struct Function {
    pub name: String,
    pub schema: u32,
    pub owner: u32,
    /// prokind: f, p, a or w.
    pub kind: u8,
    pub returns_set: bool,
    pub result: u32,
    pub inputs: Vec<Input>,
    /// `name=value`, as SET clauses left them.
    pub settings: Vec<String>,
}

/// A parameter that the caller gives: IN, INOUT or VARIADIC.
pub struct Input {
    pub name: Option<String>,
    pub type_oid: u32,
    pub has_default: bool,
    pub variadic: bool,
}

/// One function of a name.
#[derive(Clone)]
pub struct Candidate {
    pub oid: u32,
    pub schema: u32,
    pub kind: u8,
    pub argument_types: Vec<u32>,
}

fn oid(oid: u32) -> pg_sys::Oid {
    pg_sys::Oid::from(oid)
}

/// A copy of what PostgreSQL's C string says; "" for NULL.
fn owned(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: callers pass NULL or a terminated string that is alive.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// Text for C. A NUL can't come from SQL; it would end the text early.
fn c_string(text: &str) -> CString {
    let end = text.find('\0').unwrap_or(text.len());
    CString::new(&text[..end]).expect("cut before the first NUL")
}

/// The row of `function`; None when there is no such function (any more).
pub fn load(function: u32) -> Option<Function> {
    transaction::require();
    // SAFETY: a catalog look-up inside a transaction. Everything is copied before the tuple is
    // released; an ERROR (out of memory) leaves the release to the transaction's end.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::PROCOID as i32, oid(function).into());
        if tuple.is_null() {
            return None;
        }
        let form = &*(pg_sys::GETSTRUCT(tuple) as *const pg_sys::FormData_pg_proc);
        let inputs = parameters(tuple, form);
        let mut is_null = false;
        let settings = pg_sys::SysCacheGetAttr(
            pg_sys::SysCacheIdentifier::PROCOID as i32,
            tuple,
            pg_sys::Anum_pg_proc_proconfig as pg_sys::AttrNumber,
            &mut is_null,
        );
        let settings = if is_null { None } else { <Vec<Option<String>>>::from_datum(settings, false) };
        let loaded = Function {
            name: owned(form.proname.data.as_ptr()),
            schema: form.pronamespace.to_u32(),
            owner: form.proowner.to_u32(),
            kind: form.prokind as u8,
            returns_set: form.proretset,
            result: form.prorettype.to_u32(),
            inputs,
            settings: settings.into_iter().flatten().flatten().collect(),
        };
        pg_sys::ReleaseSysCache(tuple);
        Some(loaded)
    }
}

/// The parameters that a caller gives.
unsafe fn parameters(tuple: pg_sys::HeapTuple, form: &pg_sys::FormData_pg_proc) -> Vec<Input> {
    let (mut types, mut names, mut modes) = (std::ptr::null_mut(), std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: fills three arrays of `count` entries each; the last two may be NULL.
    let count = unsafe { pg_sys::get_func_arg_info(tuple, &mut types, &mut names, &mut modes) } as usize;
    let first_default = form.pronargs as usize - form.pronargdefaults as usize;
    let mut inputs = Vec::with_capacity(form.pronargs as usize);
    for i in 0..count {
        // SAFETY: below the arrays' length.
        let (type_oid, mode, name) = unsafe {
            (
                (*types.add(i)).to_u32(),
                if modes.is_null() { b'i' } else { *modes.add(i) as u8 },
                if names.is_null() { String::new() } else { owned(*names.add(i)) },
            )
        };
        if matches!(mode, b'i' | b'b' | b'v') {
            let has_default = inputs.len() >= first_default;
            inputs.push(Input { name: Some(name).filter(|n| !n.is_empty()), type_oid, has_default, variadic: mode == b'v' });
        }
    }
    inputs
}

/// All functions of that name, in whatever schema.
pub fn named(name: &str) -> Vec<Candidate> {
    transaction::require();
    let name = c_string(name);
    let mut found = Vec::new();
    // SAFETY: a catalog look-up inside a transaction; the list is pinned until it is released and
    // read in between only.
    unsafe {
        let list = pg_sys::SearchSysCacheList(
            pg_sys::SysCacheIdentifier::PROCNAMEARGSNSP as i32,
            1,
            name.as_ptr().into(),
            pg_sys::Datum::null(),
            pg_sys::Datum::null(),
        );
        for i in 0..(*list).n_members as usize {
            let member = *(*list).members.as_ptr().add(i);
            let form = &*(pg_sys::GETSTRUCT(&mut (*member).tuple) as *const pg_sys::FormData_pg_proc);
            let types = form.proargtypes.values.as_slice(form.pronargs as usize);
            found.push(Candidate {
                oid: form.oid.to_u32(),
                schema: form.pronamespace.to_u32(),
                kind: form.prokind as u8,
                argument_types: types.iter().map(|t| t.to_u32()).collect(),
            });
        }
        pg_sys::ReleaseCatCacheList(list);
    }
    found.sort_by_key(|c| c.oid);
    found
}

/// Names of functions and procedures in these schemas, for hints. Looks at `rows_max` rows of
/// pg_proc at most: no index leads from a schema to its functions.
pub fn names_in(schemas: &[u32], rows_max: usize) -> Vec<String> {
    transaction::require();
    let mut names = Vec::new();
    // SAFETY: a scan of a catalog as everywhere: opened, read and closed in this frame.
    unsafe {
        let catalog = pg_sys::table_open(pg_sys::ProcedureRelationId, pg_sys::AccessShareLock as i32);
        let scan = pg_sys::systable_beginscan(catalog, pg_sys::InvalidOid, false, std::ptr::null_mut(), 0, std::ptr::null_mut());
        for _ in 0..rows_max {
            let tuple = pg_sys::systable_getnext(scan);
            if tuple.is_null() {
                break;
            }
            let form = &*(pg_sys::GETSTRUCT(tuple) as *const pg_sys::FormData_pg_proc);
            if matches!(form.prokind as u8, b'f' | b'p') && schemas.contains(&form.pronamespace.to_u32()) {
                names.push(owned(form.proname.data.as_ptr()));
            }
        }
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(catalog, pg_sys::AccessShareLock as i32);
    }
    names
}

/// `a."B"` → ["a", "B"], as SQL reads it.
pub fn parse_name(text: &str) -> Result<Vec<String>, Failure> {
    let text = c_string(text);
    let c_text = text.as_ptr();
    // SAFETY: parses a C string that outlives the call; the closure holds pointers only.
    unsafe {
        #[cfg(feature = "pg15")]
        let list = call_raw(|| raw::stringToQualifiedNameList(c_text))?;
        #[cfg(not(feature = "pg15"))]
        let list = call_raw(|| raw::stringToQualifiedNameList(c_text, std::ptr::null_mut()))?;
        let mut parts = Vec::new();
        for i in 0..list.as_ref().map_or(0, |l| l.length as usize) {
            // The parser makes String nodes.
            let node = (*(*list).elements.add(i)).ptr_value as *const pg_sys::String;
            parts.push(owned((*node).sval));
        }
        Ok(parts)
    }
}

/// The type that SQL text names, looked for in pg_catalog and then in `path`. `Ok(None)`: there is
/// none. Always in this order: `type_name` leaves PostgreSQL's own types bare, and a look-alike
/// in a tenant's schema must not change what a registered signature means.
///
/// Only looks up: no type modifier's function is called, and no `search_path` read or set.
pub fn parse_type(text: &str, path: &[u32]) -> Result<Option<u32>, Failure> {
    transaction::require();
    let text = c_string(text);
    let c_text = text.as_ptr();
    let (mut schema, mut name) = (std::ptr::null_mut(), std::ptr::null_mut());
    let (schema_out, name_out): (*mut *mut c_char, *mut *mut c_char) = (&mut schema, &mut name);
    // SAFETY: parses a C string that outlives the call; the closure holds pointers only, and what
    // it returns is palloc'ed.
    let parsed = unsafe {
        call_raw(|| {
            #[cfg(feature = "pg15")]
            let parsed = raw::typeStringToTypeName(c_text);
            #[cfg(not(feature = "pg15"))]
            let parsed = raw::typeStringToTypeName(c_text, std::ptr::null_mut());
            if !(*parsed).names.is_null() && !(*parsed).pct_type {
                raw::DeconstructQualifiedName((*parsed).names, schema_out, name_out);
            }
            parsed
        })?
    };
    if name.is_null() {
        return Err(Failure::new(SqlState::SYNTAX_ERROR, "a type is expected, not a reference to a column"));
    }
    let schemas = if schema.is_null() {
        std::iter::once(pg_sys::PG_CATALOG_NAMESPACE).chain(path.iter().copied()).collect()
    } else {
        // SAFETY: missing_ok: InvalidOid for an unknown schema.
        match unsafe { pg_sys::get_namespace_oid(schema, true) }.to_u32() {
            0 => return Ok(None),
            schema => vec![schema],
        }
    };
    // SAFETY: catalog look-ups by a name that the parser palloc'ed.
    let found = schemas.into_iter().find_map(|schema| unsafe {
        let found = pg_sys::GetSysCacheOid(
            pg_sys::SysCacheIdentifier::TYPENAMENSP as i32,
            pg_sys::Anum_pg_type_oid as pg_sys::AttrNumber,
            name.into(),
            oid(schema).into(),
            pg_sys::Datum::null(),
            pg_sys::Datum::null(),
        );
        (found != pg_sys::InvalidOid).then_some(found)
    });
    // SAFETY: a node the parser made, and a catalog look-up.
    unsafe {
        let found = match found {
            Some(element) if !(*parsed).arrayBounds.is_null() => pg_sys::get_array_type(element),
            Some(found) => found,
            None => return Ok(None),
        };
        Ok((found != pg_sys::InvalidOid).then(|| found.to_u32()))
    }
}

/// The schema of that name; None when there is none.
pub fn schema_oid(name: &str) -> Option<u32> {
    transaction::require();
    let name = c_string(name);
    // SAFETY: a catalog look-up; missing_ok.
    let schema = unsafe { pg_sys::get_namespace_oid(name.as_ptr(), true) };
    (schema != pg_sys::InvalidOid).then(|| schema.to_u32())
}

pub fn schema_name(schema: u32) -> Option<String> {
    transaction::require();
    // SAFETY: a catalog look-up: NULL or a palloc'ed copy.
    let name = unsafe { pg_sys::get_namespace_name(oid(schema)) };
    (!name.is_null()).then(|| owned(name))
}

/// `name`, quoted where SQL needs it.
pub fn quote(name: &str) -> String {
    let name = c_string(name);
    // SAFETY: returns its argument or a palloc'ed copy.
    owned(unsafe { pg_sys::quote_identifier(name.as_ptr()) })
}

/// The type's name in SQL, qualified unless it is PostgreSQL's own: the same under every search_path.
pub fn type_name(type_oid: u32) -> String {
    transaction::require();
    // SAFETY: a catalog look-up; FORMAT_TYPE_ALLOW_INVALID: "???" for an unknown type.
    let name = owned(unsafe {
        pg_sys::format_type_extended(oid(type_oid), -1, (pg_sys::FORMAT_TYPE_FORCE_QUALIFY | pg_sys::FORMAT_TYPE_ALLOW_INVALID) as _)
    });
    match name.strip_prefix("pg_catalog.") {
        Some(bare) => bare.to_string(),
        None => name,
    }
}

/// Whether values of the type can't be stored in a column: any, anyelement, trigger, void, …
pub fn is_pseudo(type_oid: u32) -> bool {
    transaction::require();
    // SAFETY: a catalog look-up; NUL for an unknown type.
    unsafe { pg_sys::get_typtype(oid(type_oid)) as u8 == b'p' }
}

/// Whether values of the type are made without code of anybody's: PostgreSQL's own, enums, arrays of these. What such a
/// type is can't be changed; a composite's columns could be, just before a value is made.
pub fn runs_nobodys_code(type_oid: u32) -> bool {
    transaction::require();
    if crate::postgres::function::is_built_in(type_oid) {
        return true;
    }
    // SAFETY: catalog look-ups; NUL and InvalidOid for an unknown type.
    unsafe {
        let element = pg_sys::get_element_type(oid(type_oid)).to_u32();
        match pg_sys::get_typtype(oid(type_oid)) as u8 {
            b'e' => true,
            b'b' => element != 0 && runs_nobodys_code(element),
            _ => false,
        }
    }
}

/// The type below a domain, or the type itself.
pub fn base_type(type_oid: u32) -> u32 {
    transaction::require();
    if crate::postgres::function::is_built_in(type_oid) {
        return type_oid;
    }
    // SAFETY: a catalog look-up.
    unsafe { pg_sys::getBaseType(oid(type_oid)) }.to_u32()
}
