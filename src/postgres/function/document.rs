//! Looking into a jsonb document, and turning what is found into a value of a type.
//!
//! Nothing is parsed: PostgreSQL keeps an object's keys sorted, so that a parameter is found by a
//! binary search in the document's own bytes.

use crate::postgres::caught::{Failure, call_raw};
use crate::postgres::code::MayRunCode;
use crate::postgres::function::{catalog, is_built_in, raw};
use crate::postgres::sqlstate::SqlState;
use crate::postgres::types::Jsonb;
use pgrx::pg_sys::{self, JsonbIteratorToken, JsonbValue, jbvType};
use std::ffi::{CStr, CString};
use std::marker::PhantomData;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// So many keys.
    Object(usize),
    /// So many elements.
    Array(usize),
    Scalar,
}

/// A view into a document.
#[derive(Clone, Copy)]
pub struct Document<'a> {
    root: *mut pg_sys::JsonbContainer,
    jsonb: &'a Jsonb,
}

/// One value in a document.
#[derive(Clone, Copy)]
pub struct Item<'a> {
    value: JsonbValue,
    document: PhantomData<&'a Jsonb>,
}

impl<'a> Item<'a> {
    fn of(value: JsonbValue) -> Item<'a> {
        Item { value, document: PhantomData }
    }
    pub fn is_array(&self) -> bool {
        // SAFETY: jbvBinary says that `binary` is the field in use.
        self.value.type_ == jbvType::jbvBinary && unsafe { (*self.value.val.binary.data).header & pg_sys::JB_FARRAY != 0 }
    }
}

impl<'a> Document<'a> {
    pub fn of(jsonb: &'a Jsonb) -> Document<'a> {
        // SAFETY: a whole jsonb with a four-byte header, behind which the container begins.
        let root = unsafe { &raw mut (*jsonb.datum().cast_mut_ptr::<pg_sys::Jsonb>()).root };
        Document { root, jsonb }
    }
    fn header(&self) -> u32 {
        // SAFETY: points into the document that 'a keeps alive.
        unsafe { (*self.root).header }
    }
    pub fn shape(&self) -> Shape {
        let count = (self.header() & pg_sys::JB_CMASK) as usize;
        match self.header() {
            h if h & pg_sys::JB_FSCALAR != 0 => Shape::Scalar,
            h if h & pg_sys::JB_FOBJECT != 0 => Shape::Object(count),
            _ => Shape::Array(count),
        }
    }
    /// The value of a key, of an object.
    pub fn get(&self, key: &str) -> Option<Item<'a>> {
        debug_assert!(matches!(self.shape(), Shape::Object(_)));
        let mut value = JsonbValue::default();
        // SAFETY: a binary search that allocates nothing, since it is given where to put the value.
        let found = unsafe { pg_sys::getKeyJsonValueFromContainer(self.root, key.as_ptr().cast(), key.len() as i32, &mut value) };
        (!found.is_null()).then(|| Item::of(value))
    }
    /// An element of an array; of a scalar, itself at 0.
    pub fn at(&self, index: usize) -> Option<Item<'a>> {
        debug_assert!(!matches!(self.shape(), Shape::Object(_)));
        // SAFETY: NULL beyond the end, else a palloc'ed value that points into the document.
        unsafe {
            let found = pg_sys::getIthJsonbValueFromContainer(self.root, index as u32);
            if found.is_null() {
                return None;
            }
            let item = Item::of(*found);
            pg_sys::pfree(found.cast());
            Some(item)
        }
    }
    /// The document as one value.
    pub fn whole(&self) -> Item<'a> {
        if self.shape() == Shape::Scalar {
            return self.at(0).expect("a scalar is one element");
        }
        Item::of(binary(self.root, self.jsonb.size() - size_of::<i32>()))
    }
    pub fn is_null(&self) -> bool {
        self.shape() == Shape::Scalar && self.whole().value.type_ == jbvType::jbvNull
    }
    /// The keys of an object.
    pub fn keys(&self) -> Vec<String> {
        let mut keys = Vec::new();
        // SAFETY: the iterator's protocol; a key's text points into the document.
        unsafe {
            let mut iterator = pg_sys::JsonbIteratorInit(self.root);
            let mut value = JsonbValue::default();
            loop {
                match pg_sys::JsonbIteratorNext(&mut iterator, &mut value, true) {
                    JsonbIteratorToken::WJB_DONE => return keys,
                    JsonbIteratorToken::WJB_KEY => keys.push(String::from_utf8_lossy(text_of(&value)).into_owned()),
                    _ => {}
                }
            }
        }
    }
    /// The elements from `first` on, as an array of their own; a scalar is one element.
    pub fn rest(&self, first: usize) -> Result<Item<'static>, Failure> {
        debug_assert!(!matches!(self.shape(), Shape::Object(_)));
        array(self.root, first, (self.header() & pg_sys::JB_CMASK) as usize)
    }
}

/// An empty JSON array.
pub fn no_elements() -> Result<Item<'static>, Failure> {
    array(std::ptr::null_mut(), 0, 0)
}

fn array(source: *mut pg_sys::JsonbContainer, first: usize, end: usize) -> Result<Item<'static>, Failure> {
    // SAFETY: copies elements of a live container; the closure holds numbers and a pointer. The
    // copy lives in the current memory context, as datums do.
    unsafe {
        call_raw(|| {
            let mut state = std::ptr::null_mut();
            raw::pushJsonbValue(&mut state, JsonbIteratorToken::WJB_BEGIN_ARRAY, std::ptr::null_mut());
            for i in first..end {
                raw::pushJsonbValue(&mut state, JsonbIteratorToken::WJB_ELEM, raw::getIthJsonbValueFromContainer(source, i as u32));
            }
            let array = raw::pushJsonbValue(&mut state, JsonbIteratorToken::WJB_END_ARRAY, std::ptr::null_mut());
            let array = raw::JsonbValueToJsonb(array);
            Item::of(binary(&raw mut (*array).root, pgrx::varsize_any(array.cast()) - size_of::<i32>()))
        })
    }
}

fn binary(container: *mut pg_sys::JsonbContainer, length: usize) -> JsonbValue {
    let mut value = JsonbValue { type_: jbvType::jbvBinary, ..Default::default() };
    value.val.binary.len = length as i32;
    value.val.binary.data = container;
    value
}

/// The bytes of a jbvString.
unsafe fn text_of(value: &JsonbValue) -> &[u8] {
    // SAFETY: the caller has looked at the type; pointer and length belong together.
    unsafe { std::slice::from_raw_parts(value.val.string.val.cast(), value.val.string.len as usize) }
}

/// The whole document as jsonb or json: JSON null stays JSON null.
pub fn convert_whole(document: &Document, name: &str, type_oid: u32, code: Option<&MayRunCode>) -> Result<Option<pg_sys::Datum>, Failure> {
    let (original, size) = (document.jsonb.datum().cast_mut_ptr::<u8>(), document.jsonb.size());
    let root = document.root;
    // SAFETY: copies a whole varlena; json's text is made from a live container. The closures hold
    // pointers and a length.
    unsafe {
        match oid(type_oid) {
            pg_sys::JSONBOID => call_raw(|| {
                let copy = raw::palloc(size);
                std::ptr::copy_nonoverlapping(original, copy.cast(), size);
                Some(pg_sys::Datum::from(copy))
            }),
            pg_sys::JSONOID => call_raw(|| Some(json_text(root, size))),
            _ => convert(&document.whole(), name, type_oid, code),
        }
    }
}

/// `item` as a value of the type; None = SQL NULL. As jsonb_to_record has it, by shorter ways for
/// the types that arguments usually have. `name` is what PostgreSQL's hints call the value.
///
/// Of most types that aren't PostgreSQL's own this runs the code of whoever made them, as the current user: not without leave.
pub fn convert(item: &Item, name: &str, type_oid: u32, code: Option<&MayRunCode>) -> Result<Option<pg_sys::Datum>, Failure> {
    if !catalog::runs_nobodys_code(type_oid) {
        code.ok_or_else(|| Failure::new(SqlState::INTERNAL_ERROR, "a value of somebody's type is data here"))?.check()?;
    }
    let mut value = item.value;
    let type_oid = oid(type_oid);
    if value.type_ == jbvType::jbvNull && is_built_in(type_oid.to_u32()) && type_oid.to_u32() < pg_sys::FirstGenbkiObjectId {
        return Ok(None);
    }
    // SAFETY: value points into a live document; all that the closures hold is plain data, and what
    // they make is palloc'ed in the current memory context.
    unsafe {
        if let Some(datum) = call_raw(|| short_way(&mut value, type_oid))? {
            return Ok(Some(datum));
        }
        let column = CString::new(name).unwrap_or_default();
        let (key, key_length) = (column.as_ptr(), column.as_bytes().len());
        call_raw(|| through_record(&mut value, key, key_length, type_oid))
    }
}

fn oid(oid: u32) -> pg_sys::Oid {
    pg_sys::Oid::from(oid)
}

/// Called under call_raw: nothing with a destructor in here.
unsafe fn short_way(value: &mut JsonbValue, type_oid: pg_sys::Oid) -> Option<pg_sys::Datum> {
    // SAFETY: each arm reads the field that `type_` announces.
    unsafe {
        match (value.type_, type_oid) {
            (_, pg_sys::JSONBOID) => Some(pg_sys::Datum::from(raw::JsonbValueToJsonb(value))),
            (jbvType::jbvBinary, pg_sys::JSONOID) => Some(json_text(value.val.binary.data, value.val.binary.len as usize)),
            (_, pg_sys::JSONOID) => {
                let jsonb = raw::JsonbValueToJsonb(value);
                Some(json_text(&raw mut (*jsonb).root, pgrx::varsize_any(jsonb.cast())))
            }
            (jbvType::jbvBool, pg_sys::BOOLOID) => Some(pg_sys::Datum::from(value.val.boolean)),
            (jbvType::jbvNumeric, pg_sys::NUMERICOID) => Some(raw::datumCopy(pg_sys::Datum::from(value.val.numeric), false, -1)),
            (jbvType::jbvNumeric, pg_sys::INT2OID | pg_sys::INT4OID | pg_sys::INT8OID | pg_sys::FLOAT4OID | pg_sys::FLOAT8OID) => {
                let text = raw::DirectFunctionCall1Coll(Some(raw::numeric_out), pg_sys::InvalidOid, pg_sys::Datum::from(value.val.numeric));
                let text = text.cast_mut_ptr::<std::ffi::c_char>();
                // What doesn't fit is left to the type's own input function, for its own error.
                number(CStr::from_ptr(text), type_oid).or_else(|| Some(input(text, type_oid)))
            }
            (jbvType::jbvString, pg_sys::TEXTOID | pg_sys::VARCHAROID) => {
                Some(pg_sys::Datum::from(raw::cstring_to_text_with_len(value.val.string.val, value.val.string.len)))
            }
            (
                jbvType::jbvString,
                pg_sys::UUIDOID
                | pg_sys::TIMESTAMPTZOID
                | pg_sys::TIMESTAMPOID
                | pg_sys::DATEOID
                | pg_sys::TIMEOID
                | pg_sys::TIMETZOID
                | pg_sys::INTERVALOID
                | pg_sys::BOOLOID
                | pg_sys::INT2OID
                | pg_sys::INT4OID
                | pg_sys::INT8OID
                | pg_sys::FLOAT4OID
                | pg_sys::FLOAT8OID
                | pg_sys::NUMERICOID
                | pg_sys::BYTEAOID
                | pg_sys::NAMEOID
                | pg_sys::INETOID
                | pg_sys::CIDROID,
            ) => Some(input(raw::pnstrdup(value.val.string.val, value.val.string.len as usize), type_oid)),
            _ => None,
        }
    }
}

/// A JSON number as one of the five plain numeric types; None when it doesn't fit exactly.
fn number(text: &CStr, type_oid: pg_sys::Oid) -> Option<pg_sys::Datum> {
    let text = text.to_str().ok()?;
    // Overflow and underflow are errors to PostgreSQL and infinity or zero to Rust.
    let plausible = |v: f64| v.is_finite() && (v != 0.0 || !text.bytes().any(|b| (b'1'..=b'9').contains(&b)));
    match type_oid {
        pg_sys::INT2OID => text.parse::<i16>().ok().map(pg_sys::Datum::from),
        pg_sys::INT4OID => text.parse::<i32>().ok().map(pg_sys::Datum::from),
        pg_sys::INT8OID => text.parse::<i64>().ok().map(pg_sys::Datum::from),
        pg_sys::FLOAT4OID => text.parse::<f32>().ok().filter(|v| plausible(f64::from(*v))).map(|v| pg_sys::Datum::from(v.to_bits())),
        pg_sys::FLOAT8OID => text.parse::<f64>().ok().filter(|v| plausible(*v)).map(|v| pg_sys::Datum::from(v.to_bits())),
        _ => None,
    }
}

/// Called under call_raw.
unsafe fn input(text: *mut std::ffi::c_char, type_oid: pg_sys::Oid) -> pg_sys::Datum {
    let (mut function, mut io_param) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
    // SAFETY: a built-in type's input function, of a terminated string.
    unsafe {
        raw::getTypeInputInfo(type_oid, &mut function, &mut io_param);
        raw::OidInputFunctionCall(function, text, io_param, -1)
    }
}

/// Called under call_raw.
unsafe fn json_text(container: *mut pg_sys::JsonbContainer, length: usize) -> pg_sys::Datum {
    // SAFETY: a live container; the text is palloc'ed and terminated.
    unsafe {
        let text = raw::JsonbToCString(std::ptr::null_mut(), container, length as i32);
        pg_sys::Datum::from(raw::cstring_to_text_with_len(text, CStr::from_ptr(text).to_bytes().len() as i32))
    }
}

/// Through `jsonb_to_record('{"name": item}') AS (name type)`, which knows every type: domains,
/// arrays, composites, enums, ranges. The function behind the SQL is called by itself, with the
/// column list that the executor would hand it. Called under call_raw.
unsafe fn through_record(
    value: *mut JsonbValue,
    key: *const std::ffi::c_char,
    key_length: usize,
    type_oid: pg_sys::Oid,
) -> Option<pg_sys::Datum> {
    // SAFETY: the protocol of fmgr.h and funcapi.h: a live FmgrInfo, one argument, and a
    // ReturnSetInfo with the expected row type. The row is deformed by that same type.
    unsafe {
        let mut state = std::ptr::null_mut();
        let mut label = JsonbValue { type_: jbvType::jbvString, ..Default::default() };
        label.val.string.len = key_length as i32;
        label.val.string.val = key.cast_mut();
        raw::pushJsonbValue(&mut state, JsonbIteratorToken::WJB_BEGIN_OBJECT, std::ptr::null_mut());
        raw::pushJsonbValue(&mut state, JsonbIteratorToken::WJB_KEY, &mut label);
        raw::pushJsonbValue(&mut state, JsonbIteratorToken::WJB_VALUE, value);
        let object = raw::pushJsonbValue(&mut state, JsonbIteratorToken::WJB_END_OBJECT, std::ptr::null_mut());
        let object = raw::JsonbValueToJsonb(object);

        let row_type = raw::CreateTemplateTupleDesc(1);
        raw::TupleDescInitEntry(row_type, 1, key, type_oid, -1, 0);
        let mut expected = pg_sys::ReturnSetInfo { type_: pg_sys::NodeTag::T_ReturnSetInfo, expectedDesc: row_type, ..Default::default() };
        let mut function = pg_sys::FmgrInfo::default();
        raw::fmgr_info_cxt(oid(pg_sys::F_JSONB_TO_RECORD), &mut function, pg_sys::CurrentMemoryContext);
        let call = crate::postgres::function::execute::prepare(&mut function, 1, pg_sys::InvalidOid);
        (*call).resultinfo = (&raw mut expected).cast();
        crate::postgres::function::execute::put(call, 0, Some(pg_sys::Datum::from(object)));
        let row = function.fn_addr.expect("fmgr_info finds it")(call);

        let row = row.cast_mut_ptr::<pg_sys::HeapTupleHeaderData>();
        let mut tuple = pg_sys::HeapTupleData { t_len: pgrx::varsize_any(row.cast()) as u32, t_data: row, ..Default::default() };
        let (mut datum, mut is_null) = (pg_sys::Datum::null(), true);
        raw::heap_deform_tuple(&mut tuple, row_type, &mut datum, &mut is_null);
        (!is_null).then_some(datum)
    }
}
