//! Text of the database as Rust has it: always UTF-8, never a failure.
//!
//! In a database of encoding UTF8 PostgreSQL has checked it. In one of SQL_ASCII anybody may store any bytes, which must not
//! keep anybody else's row, view or task from going on: what isn't UTF-8 there reads as U+FFFD.

use pgrx::pg_sys;
use std::borrow::Cow;

/// Whether texts need no looking into: asked once, since it is told at every text of every row, and stays what it was when the
/// process connected.
pub fn is_utf8() -> bool {
    thread_local!(static IS: bool = encoding() == pg_sys::pg_enc::PG_UTF8 as i32);
    IS.with(|is| *is)
}

/// Whether anything can be stored as a text.
pub fn is_any_bytes() -> bool {
    !is_utf8() && encoding() == pg_sys::pg_enc::PG_SQL_ASCII as i32
}

fn encoding() -> i32 {
    // SAFETY: reads a static of this process's, which is connected to a database.
    unsafe { pg_sys::GetDatabaseEncoding() }
}

/// Bytes of the database's encoding.
pub fn of_bytes(bytes: &[u8]) -> Cow<'_, str> {
    if bytes.is_ascii() || is_utf8() {
        return String::from_utf8_lossy(bytes);
    }
    if is_any_bytes() {
        return String::from_utf8_lossy(bytes);
    }
    let converted = crate::postgres::caught::catch(|| {
        // SAFETY: reads `bytes` and returns them, or a palloc'ed C string; inside a transaction.
        unsafe {
            let text = pg_sys::pg_server_to_any(bytes.as_ptr().cast(), bytes.len() as i32, pg_sys::pg_enc::PG_UTF8 as i32);
            if std::ptr::eq(text.cast(), bytes.as_ptr()) {
                return String::from_utf8_lossy(bytes).into_owned();
            }
            let owned = std::ffi::CStr::from_ptr(text).to_string_lossy().into_owned();
            pg_sys::pfree(text.cast());
            owned
        }
    });
    converted.map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Owned)
}

/// The text of a text datum, a copy.
///
/// # Safety
/// The datum is one, and what it points to lives.
pub unsafe fn of_datum(datum: pg_sys::Datum) -> String {
    // SAFETY: see above; what was decompressed or fetched for it is freed.
    unsafe {
        let original = datum.cast_mut_ptr::<pg_sys::varlena>();
        let plain = pg_sys::pg_detoast_datum_packed(original);
        let text = of_bytes(pgrx::varlena_to_byte_slice(plain)).into_owned();
        if plain != original {
            pg_sys::pfree(plain.cast());
        }
        text
    }
}

/// The texts of a text[] datum that aren't null.
///
/// # Safety
/// The datum is one, and what it points to lives.
pub unsafe fn of_array(datum: pg_sys::Datum) -> Vec<String> {
    // SAFETY: see above; text is of variable length and int-aligned. The elements' datums point into the array.
    unsafe {
        let array = pg_sys::pg_detoast_datum(datum.cast_mut_ptr::<pg_sys::varlena>());
        let (mut elements, mut nulls, mut count) = (std::ptr::null_mut(), std::ptr::null_mut(), 0);
        pg_sys::deconstruct_array(array.cast(), pg_sys::TEXTOID, -1, false, b'i' as _, &mut elements, &mut nulls, &mut count);
        (0..count as usize).filter(|n| !*nulls.add(*n)).map(|n| of_datum(*elements.add(n))).collect()
    }
}
