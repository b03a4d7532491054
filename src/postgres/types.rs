//! Values of PostgreSQL's types, held by Rust.

use crate::error::Error;
use pgrx::pg_sys;
use pgrx::{IntoDatum, JsonB};

/// A jsonb document: as a parsed value, or as it came, not looked into.
#[derive(Clone, Debug)]
pub struct Jsonb(Box<[u64]>, usize);

impl Jsonb {
    /// Copies a jsonb datum.
    ///
    /// The datum must be one: callers pass what a jsonb column or parameter held.
    pub fn from_datum(datum: pg_sys::Datum) -> Jsonb {
        // SAFETY: see above; the copy is 8-aligned, whole, and has a four-byte header.
        unsafe {
            let original = datum.cast_mut_ptr::<pg_sys::varlena>();
            let plain = pg_sys::pg_detoast_datum(original);
            let length = pgrx::varsize_any(plain);
            let mut memory = vec![0u64; length.div_ceil(8)].into_boxed_slice();
            std::ptr::copy_nonoverlapping(plain as *const u8, memory.as_mut_ptr() as *mut u8, length);
            if plain != original {
                pg_sys::pfree(plain.cast());
            }
            Jsonb(memory, length)
        }
    }
    pub fn from_value(value: serde_json::Value) -> Jsonb {
        let datum = JsonB(value).into_datum().expect("a document is not null");
        let copy = Jsonb::from_datum(datum);
        // SAFETY: into_datum allocated it just now.
        unsafe { pg_sys::pfree(datum.cast_mut_ptr()) };
        copy
    }
    /// A document that is whole and valid, as text.
    pub fn from_text(text: &str) -> Jsonb {
        let text = std::ffi::CString::new(text).unwrap_or_default();
        // SAFETY: jsonb_in reads a C string, and returns a jsonb that it has allocated.
        unsafe {
            let datum: pg_sys::Datum =
                pg_sys::DirectFunctionCall1Coll(Some(raw::jsonb_in), pg_sys::InvalidOid, pg_sys::Datum::from(text.as_ptr()));
            let copy = Jsonb::from_datum(datum);
            pg_sys::pfree(datum.cast_mut_ptr());
            copy
        }
    }
    /// JSON null: the result of a handler that returns nothing.
    pub fn null() -> Jsonb {
        Self::from_value(serde_json::Value::Null)
    }
    /// Points into this value: use it while this lives.
    pub fn datum(&self) -> pg_sys::Datum {
        pg_sys::Datum::from(self.0.as_ptr())
    }
    /// Bytes that it takes.
    pub fn size(&self) -> usize {
        self.1
    }
    /// Raises 54000 for what a jsonb may hold and we can't look into.
    pub fn value(&self) -> serde_json::Value {
        self.parsed().unwrap_or_else(|| Error::limit("a document is nested more than 127 levels deep").raise())
    }
    /// As PostgreSQL writes it.
    pub fn text(&self) -> String {
        document_text(self.datum(), |text| String::from_utf8_lossy(text).into_owned())
    }
    /// None for what a jsonb may hold and serde_json can't.
    pub fn parsed(&self) -> Option<serde_json::Value> {
        parse_document(self.datum())
    }
}

impl IntoDatum for Jsonb {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        // SAFETY: copies a whole varlena into the current memory context.
        unsafe {
            let copy = pg_sys::palloc(self.1);
            std::ptr::copy_nonoverlapping(self.0.as_ptr() as *const u8, copy as *mut u8, self.1);
            Some(pg_sys::Datum::from(copy))
        }
    }
    fn type_oid() -> pg_sys::Oid {
        pg_sys::JSONBOID
    }
}

/// A jsonb datum as a value; None where serde_json can't hold it.
pub fn parse_document(datum: pg_sys::Datum) -> Option<serde_json::Value> {
    document_text(datum, |text| match super::text::is_utf8() {
        true => serde_json::from_slice(text).ok(),
        false => serde_json::from_str(&super::text::of_bytes(text)).ok(),
    })
}

fn document_text<T>(datum: pg_sys::Datum, f: impl FnOnce(&[u8]) -> T) -> T {
    // SAFETY: the caller's datum is a jsonb; the text is ours until it is freed.
    unsafe {
        let original = datum.cast_mut_ptr::<pg_sys::varlena>();
        let plain = pg_sys::pg_detoast_datum(original);
        let text = pg_sys::JsonbToCString(std::ptr::null_mut(), &raw mut (*plain.cast::<pg_sys::Jsonb>()).root, -1);
        let value = f(std::ffi::CStr::from_ptr(text).to_bytes());
        pg_sys::pfree(text.cast());
        if plain != original {
            pg_sys::pfree(plain.cast());
        }
        value
    }
}

/// An interval as PostgreSQL reads it, whole; None = it doesn't.
pub fn parse_span(text: &str) -> Option<pgrx::datum::Interval> {
    use std::str::FromStr;
    super::caught::catch(|| pgrx::datum::Interval::from_str(text).ok()).ok().flatten()
}

/// Microseconds of an interval as PostgreSQL reads it; None = it doesn't.
pub fn parse_interval(text: &str) -> Option<i64> {
    use std::str::FromStr;
    super::caught::catch(|| pgrx::datum::Interval::from_str(text).ok()).ok().flatten().map(|i| super::call::micros_of(&i))
}

/// A timestamptz as PostgreSQL reads it, in the session's TimeZone; None = it doesn't.
pub fn parse_time(text: &str) -> Option<i64> {
    use std::str::FromStr;
    super::caught::catch(|| pgrx::datum::TimestampWithTimeZone::from_str(text).ok()).ok().flatten().map(i64::from)
}

mod raw {
    use pgrx::pg_sys;
    unsafe extern "C-unwind" {
        pub fn jsonb_in(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum;
    }
}
