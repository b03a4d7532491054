//! Values of PostgreSQL's types, held by Rust.

use crate::postgres::error::Error;
use crate::postgres::memory;
use crate::pure::time::At;
use pgrx::IntoDatum;
use pgrx::pg_sys::{self, JsonbIteratorToken, jbvType};
use std::marker::PhantomData;

/// A jsonb document: as a parsed value, or as it came, not looked into.
#[derive(Clone, Debug)]
pub struct Jsonb(Box<[u64]>, usize);

impl Jsonb {
    /// Copies a jsonb datum.
    ///
    /// # Safety
    /// The datum is one, and what it points to lives.
    pub unsafe fn from_datum(datum: pg_sys::Datum) -> Jsonb {
        // SAFETY: see above; the copy is 8-aligned, whole, and has a four-byte header.
        unsafe {
            let original = datum.cast_mut_ptr::<pg_sys::varlena>();
            let plain = pg_sys::pg_detoast_datum(original);
            let length = pgrx::varsize_any(plain);
            memory::require(length);
            let mut memory = vec![0u64; length.div_ceil(8)].into_boxed_slice();
            std::ptr::copy_nonoverlapping(plain as *const u8, memory.as_mut_ptr() as *mut u8, length);
            if plain != original {
                pg_sys::pfree(plain.cast());
            }
            Jsonb(memory, length)
        }
    }
    pub fn from_value(value: serde_json::Value) -> Jsonb {
        Jsonb::of(&value)
    }
    /// Raises 54000 for what is larger than a jsonb may be.
    pub fn of(value: &serde_json::Value) -> Jsonb {
        Jsonb::made(|| document_datum(value)).unwrap_or_else(|error| error.raise())
    }
    /// An object of these keys, and of these whose values are taken as they are; `54000` for what is larger than a jsonb may be.
    pub fn object(keys: &serde_json::Map<String, serde_json::Value>, whole: &[(&str, &Jsonb)]) -> Result<Jsonb, Error> {
        Jsonb::made(|| object_datum(keys, whole))
    }
    /// An array of these; `54000` for what is larger than a jsonb may be.
    pub fn array(elements: &[Jsonb]) -> Result<Jsonb, Error> {
        let values: Vec<_> = elements.iter().map(|element| whole_value(element.datum())).collect();
        Jsonb::made(|| array_datum(&values))
    }
    /// What `make` makes, copied out.
    fn made(make: impl FnOnce() -> Result<pg_sys::Datum, Error>) -> Result<Jsonb, Error> {
        // SAFETY: a child of the current context, in which all that is made on the way is; it is deleted once the
        // document has been copied out. An ERROR leaves it to its parent.
        unsafe {
            let own = pg_sys::AllocSetContextCreateInternal(
                pg_sys::CurrentMemoryContext,
                c"tenant_q document".as_ptr(),
                pg_sys::ALLOCSET_DEFAULT_MINSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_INITSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
            );
            let former = pg_sys::MemoryContextSwitchTo(own);
            let made = make();
            pg_sys::MemoryContextSwitchTo(former);
            let copy = made.map(|datum| Jsonb::from_datum(datum));
            pg_sys::MemoryContextDelete(own);
            copy
        }
    }
    /// Of a value in another document.
    pub(in crate::postgres) fn of_value(value: pg_sys::JsonbValue) -> Result<Jsonb, Error> {
        let mut value = value;
        Jsonb::made(|| {
            // SAFETY: what the value points to lives; the closure holds plain data.
            let made = unsafe { crate::postgres::caught::call_raw(|| pg_sys::Datum::from(raw::JsonbValueToJsonb(&mut value))) };
            made.map_err(Error::from)
        })
    }
    /// Of values in other documents.
    pub(in crate::postgres) fn of_values(values: &[pg_sys::JsonbValue]) -> Result<Jsonb, Error> {
        Jsonb::made(|| array_datum(values))
    }
    /// The elements of an array, read one at a time; None = it isn't one.
    pub fn elements(&self) -> Option<Elements<'_>> {
        // SAFETY: a whole jsonb, whose container begins with its header.
        unsafe {
            let container = &raw mut (*self.datum().cast_mut_ptr::<pg_sys::Jsonb>()).root;
            let header = (*container).header;
            let is_array = header & pg_sys::JB_FARRAY != 0 && header & pg_sys::JB_FSCALAR == 0;
            is_array.then_some(Elements { container, next: 0, count: header & pg_sys::JB_CMASK, of: PhantomData })
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
        self.parsed().unwrap_or_else(|| too_deep().raise())
    }
    /// None for what a jsonb may hold and serde_json can't.
    pub fn parsed(&self) -> Option<serde_json::Value> {
        // SAFETY: its own.
        unsafe { parse_document(self.datum()) }
    }
}

/// Elements of an array of documents, in which they are.
pub struct Documents<'a>(Vec<Option<pg_sys::Datum>>, PhantomData<&'a ()>);

impl Documents<'_> {
    /// Each points to a jsonb in what the call was handed.
    pub(in crate::postgres) fn new(elements: Vec<Option<pg_sys::Datum>>) -> Self {
        Documents(elements, PhantomData)
    }
    pub fn len(&self) -> usize {
        self.0.len()
    }
    /// NULL is JSON's null.
    pub fn one(&self, n: usize) -> Jsonb {
        // SAFETY: see new().
        self.0[n].map_or_else(Jsonb::null, |element| unsafe { Jsonb::from_datum(element) })
    }
    /// Some of them as one array.
    pub fn array(&self, range: std::ops::Range<usize>) -> Jsonb {
        let null = Jsonb::null();
        let values: Vec<_> = self.0[range].iter().map(|element| whole_value(element.unwrap_or(null.datum()))).collect();
        Jsonb::of_values(&values).unwrap_or_else(|error| error.raise())
    }
}

/// See [`Jsonb::elements`]. An element that can't be held raises what `Jsonb::value` does.
pub struct Elements<'a> {
    container: *mut pg_sys::JsonbContainer,
    next: u32,
    count: u32,
    of: PhantomData<&'a Jsonb>,
}

impl Iterator for Elements<'_> {
    type Item = serde_json::Value;

    fn next(&mut self) -> Option<serde_json::Value> {
        if self.next >= self.count {
            return None;
        }
        // SAFETY: an index below the array's length, of a document that lives as long as this; the value points into it.
        let value = unsafe {
            let found = pg_sys::getIthJsonbValueFromContainer(self.container, self.next);
            let value = match (*found).type_ {
                jbvType::jbvBinary => parse_container((*found).val.binary.data),
                _ => scalar(&*found),
            };
            pg_sys::pfree(found.cast());
            value
        };
        self.next += 1;
        Some(value.unwrap_or_else(|| too_deep().raise()))
    }
    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = (self.count - self.next) as usize;
        (left, Some(left))
    }
}
impl ExactSizeIterator for Elements<'_> {}

pub(in crate::postgres) fn too_deep() -> Error {
    Error::limit("a document is nested more than 127 levels deep")
}

impl Jsonb {
    /// A copy of it in the current memory context.
    pub fn copied(&self) -> pg_sys::Datum {
        // SAFETY: copies a whole varlena.
        unsafe {
            let copy = pg_sys::palloc(self.1);
            std::ptr::copy_nonoverlapping(self.0.as_ptr() as *const u8, copy as *mut u8, self.1);
            pg_sys::Datum::from(copy)
        }
    }
}

impl IntoDatum for Jsonb {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        Some(self.copied())
    }
    fn type_oid() -> pg_sys::Oid {
        pg_sys::JSONBOID
    }
}

/// A jsonb datum as an element of another document; detoasted into the current memory context.
fn whole_value(datum: pg_sys::Datum) -> pg_sys::JsonbValue {
    let mut value = pg_sys::JsonbValue { type_: jbvType::jbvBinary, ..Default::default() };
    // SAFETY: a live jsonb.
    unsafe {
        let jsonb = pg_sys::pg_detoast_datum(datum.cast_mut_ptr()).cast::<pg_sys::Jsonb>();
        value.val.binary.len = (pgrx::varsize_any(jsonb.cast()) - size_of::<i32>()) as i32;
        value.val.binary.data = &raw mut (*jsonb).root;
    }
    value
}

/// An array in the current memory context.
fn array_datum(values: &[pg_sys::JsonbValue]) -> Result<pg_sys::Datum, Error> {
    // SAFETY: the values point into live documents; the closure holds a slice of plain data.
    let array = unsafe {
        crate::postgres::caught::call_raw(|| {
            let mut state = std::ptr::null_mut();
            raw::pushJsonbValue(&mut state, JsonbIteratorToken::WJB_BEGIN_ARRAY, std::ptr::null_mut());
            for value in values {
                let mut element = *value;
                raw::pushJsonbValue(&mut state, JsonbIteratorToken::WJB_ELEM, &mut element);
            }
            let array = raw::pushJsonbValue(&mut state, JsonbIteratorToken::WJB_END_ARRAY, std::ptr::null_mut());
            pg_sys::Datum::from(raw::JsonbValueToJsonb(array))
        })
    };
    array.map_err(Error::from)
}

/// An object in the current memory context.
fn object_datum(keys: &serde_json::Map<String, serde_json::Value>, whole: &[(&str, &Jsonb)]) -> Result<pg_sys::Datum, Error> {
    // SAFETY: the closure holds references to plain data; what it makes is palloc'ed.
    let object = unsafe {
        crate::postgres::caught::call_raw(|| {
            let mut state = std::ptr::null_mut();
            raw::pushJsonbValue(&mut state, JsonbIteratorToken::WJB_BEGIN_OBJECT, std::ptr::null_mut());
            for (key, value) in keys {
                raw::pushJsonbValue(&mut state, JsonbIteratorToken::WJB_KEY, &mut text_value(key));
                push(&mut state, JsonbIteratorToken::WJB_VALUE, value);
            }
            for (key, document) in whole {
                raw::pushJsonbValue(&mut state, JsonbIteratorToken::WJB_KEY, &mut text_value(key));
                raw::pushJsonbValue(&mut state, JsonbIteratorToken::WJB_VALUE, &mut whole_value(document.datum()));
            }
            let object = raw::pushJsonbValue(&mut state, JsonbIteratorToken::WJB_END_OBJECT, std::ptr::null_mut());
            pg_sys::Datum::from(raw::JsonbValueToJsonb(object))
        })
    };
    object.map_err(Error::from)
}

/// A document as a jsonb datum in the current memory context.
pub fn document_datum(value: &serde_json::Value) -> Result<pg_sys::Datum, Error> {
    // SAFETY: the closure holds references to plain data; what it makes is palloc'ed.
    let made = unsafe {
        crate::postgres::caught::call_raw(|| {
            let mut state = std::ptr::null_mut();
            let is_scalar = !value.is_array() && !value.is_object();
            if is_scalar {
                // As PostgreSQL keeps one: an array of it that says so.
                let mut array = pg_sys::JsonbValue { type_: jbvType::jbvArray, ..Default::default() };
                array.val.array.rawScalar = true;
                array.val.array.nElems = 1;
                raw::pushJsonbValue(&mut state, JsonbIteratorToken::WJB_BEGIN_ARRAY, &mut array);
            }
            let mut root = push(&mut state, JsonbIteratorToken::WJB_ELEM, value);
            if is_scalar {
                root = raw::pushJsonbValue(&mut state, JsonbIteratorToken::WJB_END_ARRAY, std::ptr::null_mut());
            }
            pg_sys::Datum::from(raw::JsonbValueToJsonb(root))
        })
    };
    made.map_err(Error::from)
}

/// Called under call_raw: nothing with a destructor in here. `as_what`: what a scalar is pushed as.
unsafe fn push(
    state: *mut *mut pg_sys::JsonbParseState,
    as_what: JsonbIteratorToken::Type,
    value: &serde_json::Value,
) -> *mut pg_sys::JsonbValue {
    use serde_json::Value as Json;
    let none = std::ptr::null_mut();
    // SAFETY: the protocol of pushJsonbValue; the texts outlive the document's making.
    unsafe {
        let mut scalar = pg_sys::JsonbValue { type_: jbvType::jbvNull, ..Default::default() };
        match value {
            Json::Null => {}
            Json::Bool(v) => {
                scalar.type_ = jbvType::jbvBool;
                scalar.val.boolean = *v;
            }
            Json::Number(n) => {
                scalar.type_ = jbvType::jbvNumeric;
                scalar.val.numeric = match n.as_i64() {
                    Some(n) => raw::int64_to_numeric(n),
                    None => {
                        // Numbers are kept as they were written, of any length.
                        let digits = n.as_str();
                        let text = raw::pnstrdup(digits.as_ptr().cast(), digits.len());
                        raw::OidInputFunctionCall(pg_sys::Oid::from(pg_sys::F_NUMERIC_IN), text, pg_sys::InvalidOid, -1).cast_mut_ptr()
                    }
                };
            }
            Json::String(t) => scalar = text_value(t),
            Json::Array(list) => {
                raw::pushJsonbValue(state, JsonbIteratorToken::WJB_BEGIN_ARRAY, none);
                for element in list {
                    push(state, JsonbIteratorToken::WJB_ELEM, element);
                }
                return raw::pushJsonbValue(state, JsonbIteratorToken::WJB_END_ARRAY, none);
            }
            Json::Object(map) => {
                raw::pushJsonbValue(state, JsonbIteratorToken::WJB_BEGIN_OBJECT, none);
                for (key, value) in map {
                    raw::pushJsonbValue(state, JsonbIteratorToken::WJB_KEY, &mut text_value(key));
                    push(state, JsonbIteratorToken::WJB_VALUE, value);
                }
                return raw::pushJsonbValue(state, JsonbIteratorToken::WJB_END_OBJECT, none);
            }
        }
        raw::pushJsonbValue(state, as_what, &mut scalar)
    }
}

/// Up to a null character, which no text of PostgreSQL's has.
fn text_value(text: &str) -> pg_sys::JsonbValue {
    let length = text.bytes().position(|b| b == 0).unwrap_or(text.len());
    let mut value = pg_sys::JsonbValue { type_: jbvType::jbvString, ..Default::default() };
    value.val.string.len = length as i32;
    value.val.string.val = text.as_ptr().cast_mut().cast();
    value
}

/// A jsonb datum as a value; None where serde_json can't hold it. Raises 53200 where memory can't.
///
/// # Safety
/// The datum is a jsonb, and what it points to lives.
pub unsafe fn parse_document(datum: pg_sys::Datum) -> Option<serde_json::Value> {
    // SAFETY: see above; the copy, if there has to be one, is ours until it is freed.
    unsafe {
        let original = datum.cast_mut_ptr::<pg_sys::varlena>();
        let plain = pg_sys::pg_detoast_datum(original);
        let value = parse_container(&raw mut (*plain.cast::<pg_sys::Jsonb>()).root);
        if plain != original {
            pg_sys::pfree(plain.cast());
        }
        value
    }
}

/// What is open while a document is read.
enum Open {
    Array(Vec<serde_json::Value>),
    Object(serde_json::Map<String, serde_json::Value>, String),
}

/// As deep as serde_json reads.
pub const DEPTH_MAX: usize = 127;

/// By PostgreSQL's own iterator, without a text in between, which would be larger than the document and of one piece.
///
/// # Safety
/// `container` is a live one.
pub(in crate::postgres) unsafe fn parse_container(container: *mut pg_sys::JsonbContainer) -> Option<serde_json::Value> {
    use serde_json::Value as Json;
    // SAFETY: the iterator's protocol: each token says which field of the value is meant, which points into the document.
    unsafe {
        let mut iterator = pg_sys::JsonbIteratorInit(container);
        let mut value = pg_sys::JsonbValue::default();
        let mut open: Vec<Open> = Vec::new();
        let mut raw_scalar = false;
        loop {
            let token = pg_sys::JsonbIteratorNext(&mut iterator, &mut value, false);
            let done = match token {
                JsonbIteratorToken::WJB_BEGIN_ARRAY => {
                    let count = value.val.array.nElems.max(0) as usize;
                    raw_scalar = value.val.array.rawScalar;
                    memory::require(count * size_of::<Json>());
                    open.push(Open::Array(Vec::with_capacity(count)));
                    if open.len() > DEPTH_MAX {
                        return None;
                    }
                    continue;
                }
                JsonbIteratorToken::WJB_BEGIN_OBJECT => {
                    open.push(Open::Object(serde_json::Map::new(), String::new()));
                    if open.len() > DEPTH_MAX {
                        return None;
                    }
                    continue;
                }
                JsonbIteratorToken::WJB_KEY => {
                    let text = own_text(&value)?;
                    if let Some(Open::Object(_, key)) = open.last_mut() {
                        *key = text;
                    }
                    continue;
                }
                JsonbIteratorToken::WJB_ELEM | JsonbIteratorToken::WJB_VALUE => scalar(&value)?,
                JsonbIteratorToken::WJB_END_ARRAY | JsonbIteratorToken::WJB_END_OBJECT => match open.pop()? {
                    Open::Array(mut list) if raw_scalar && open.is_empty() => list.pop()?,
                    Open::Array(list) => Json::Array(list),
                    Open::Object(map, _) => Json::Object(map),
                },
                _ => return None,
            };
            match open.last_mut() {
                Some(Open::Array(list)) => list.push(done),
                Some(Open::Object(map, key)) => drop(map.insert(std::mem::take(key), done)),
                None => return Some(done),
            }
        }
    }
}

/// # Safety
/// A string that points into a live document.
pub(in crate::postgres) unsafe fn own_text(value: &pg_sys::JsonbValue) -> Option<String> {
    // SAFETY: pointer and length belong together.
    let bytes = unsafe { std::slice::from_raw_parts(value.val.string.val.cast::<u8>(), value.val.string.len as usize) };
    memory::require(bytes.len());
    Some(crate::postgres::text::of_bytes(bytes).into_owned())
}

/// # Safety
/// A scalar that points into a live document.
pub(in crate::postgres) unsafe fn scalar(value: &pg_sys::JsonbValue) -> Option<serde_json::Value> {
    use serde_json::Value as Json;
    // SAFETY: each arm reads the field that `type_` announces; the number's text is ours until it is freed.
    unsafe {
        match value.type_ {
            jbvType::jbvNull => Some(Json::Null),
            jbvType::jbvBool => Some(Json::Bool(value.val.boolean)),
            jbvType::jbvString => own_text(value).map(Json::String),
            jbvType::jbvNumeric => {
                let text: pg_sys::Datum =
                    pg_sys::DirectFunctionCall1Coll(Some(raw::numeric_out), pg_sys::InvalidOid, pg_sys::Datum::from(value.val.numeric));
                let text = text.cast_mut_ptr::<std::ffi::c_char>();
                let number = serde_json::from_slice::<serde_json::Number>(std::ffi::CStr::from_ptr(text).to_bytes());
                pg_sys::pfree(text.cast());
                number.ok().map(Json::Number)
            }
            _ => None,
        }
    }
}

/// A timestamptz as PostgreSQL reads it, in the session's TimeZone; None = it doesn't.
pub fn parse_time(text: &str) -> Option<At> {
    use std::str::FromStr;
    crate::postgres::caught::catch(|| pgrx::datum::TimestampWithTimeZone::from_str(text).ok())
        .ok()
        .flatten()
        .map(|t| At::of_micros(t.into()))
}

mod raw {
    use pgrx::pg_sys::{self, JsonbIteratorToken};
    unsafe extern "C-unwind" {
        pub fn numeric_out(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum;
        pub fn pnstrdup(text: *const std::ffi::c_char, length: usize) -> *mut std::ffi::c_char;
        pub fn int64_to_numeric(value: i64) -> pg_sys::Numeric;
        pub fn OidInputFunctionCall(
            function: pg_sys::Oid,
            text: *mut std::ffi::c_char,
            io_param: pg_sys::Oid,
            typmod: i32,
        ) -> pg_sys::Datum;
        pub fn pushJsonbValue(
            state: *mut *mut pg_sys::JsonbParseState,
            token: JsonbIteratorToken::Type,
            value: *mut pg_sys::JsonbValue,
        ) -> *mut pg_sys::JsonbValue;
        pub fn JsonbValueToJsonb(value: *mut pg_sys::JsonbValue) -> *mut pg_sys::Jsonb;
    }
}
