//! A part of a document that lies in it: looked into without being copied out, however deep it is and however much is below it.

use crate::postgres::error::Error;
use crate::postgres::types::{Jsonb, own_text, parse_container, scalar, too_deep};
use pgrx::pg_sys::{self, JsonbContainer, JsonbIteratorToken, JsonbValue, jbvType};
use serde_json::{Map, Value as Json};
use std::marker::PhantomData;
use std::ops::Range;

/// An object, an array or a scalar.
#[derive(Clone, Copy)]
pub struct Part<'a> {
    value: JsonbValue,
    of: PhantomData<&'a Jsonb>,
}

impl<'a> Part<'a> {
    /// The whole of it.
    pub fn of(document: &'a Jsonb) -> Part<'a> {
        // SAFETY: a whole jsonb with a four-byte header, behind which the container begins.
        unsafe {
            let root = &raw mut (*document.datum().cast_mut_ptr::<pg_sys::Jsonb>()).root;
            if (*root).header & pg_sys::JB_FSCALAR != 0 {
                return Part::ith(root, 0);
            }
            let mut value = JsonbValue { type_: jbvType::jbvBinary, ..Default::default() };
            value.val.binary.len = (document.size() - size_of::<i32>()) as i32;
            value.val.binary.data = root;
            Part { value, of: PhantomData }
        }
    }

    /// # Safety
    /// A live array's container, and a place in it.
    unsafe fn ith(container: *mut JsonbContainer, place: u32) -> Part<'a> {
        // SAFETY: see above; what is found points into the document, and is ours until it is freed.
        unsafe {
            let found = pg_sys::getIthJsonbValueFromContainer(container, place);
            let value = *found;
            pg_sys::pfree(found.cast());
            Part { value, of: PhantomData }
        }
    }

    /// With this flag in its header.
    fn container(&self, flag: u32) -> Option<*mut JsonbContainer> {
        // SAFETY: jbvBinary says that `binary` is the field in use; the container lives as long as the document.
        unsafe {
            let is_one = self.value.type_ == jbvType::jbvBinary && (*self.value.val.binary.data).header & flag != 0;
            is_one.then_some(self.value.val.binary.data)
        }
    }
    /// The elements' number; None: it isn't an array.
    pub fn len(&self) -> Option<usize> {
        // SAFETY: a live container.
        self.container(pg_sys::JB_FARRAY).map(|array| unsafe { (*array).header & pg_sys::JB_CMASK } as usize)
    }
    pub fn is_object(&self) -> bool {
        self.container(pg_sys::JB_FOBJECT).is_some()
    }
    pub fn is_null(&self) -> bool {
        self.value.type_ == jbvType::jbvNull
    }
    /// An element of an array that has so many.
    pub fn at(&self, nth: usize) -> Part<'a> {
        let array = self.container(pg_sys::JB_FARRAY).filter(|_| self.len().is_some_and(|len| nth < len));
        // SAFETY: a live array's container, and a place in it.
        unsafe { Part::ith(array.expect("an element"), nth as u32) }
    }
    /// What an object has under this key.
    pub fn get(&self, key: &str) -> Option<Part<'a>> {
        let mut value = JsonbValue::default();
        // SAFETY: a binary search in a live object that allocates nothing, since it is given where to put the value.
        let found = unsafe {
            pg_sys::getKeyJsonValueFromContainer(self.container(pg_sys::JB_FOBJECT)?, key.as_ptr().cast(), key.len() as i32, &mut value)
        };
        (!found.is_null()).then_some(Part { value, of: PhantomData })
    }
    /// Copied out. Raises 54000 for what can't be held.
    pub fn value(&self) -> Json {
        // SAFETY: what it points to lives.
        let value = unsafe {
            match self.value.type_ {
                jbvType::jbvBinary => parse_container(self.value.val.binary.data),
                _ => scalar(&self.value),
            }
        };
        value.unwrap_or_else(|| too_deep().raise())
    }
    /// An object without these keys, whose values aren't looked at.
    pub fn without(&self, keys: &[&str]) -> Map<String, Json> {
        let mut map = Map::new();
        let Some(object) = self.container(pg_sys::JB_FOBJECT) else { return map };
        // SAFETY: the iterator's protocol; keys and values point into the document.
        unsafe {
            let mut iterator = pg_sys::JsonbIteratorInit(object);
            let mut value = JsonbValue::default();
            let mut key = None;
            loop {
                match pg_sys::JsonbIteratorNext(&mut iterator, &mut value, true) {
                    JsonbIteratorToken::WJB_DONE => return map,
                    JsonbIteratorToken::WJB_KEY => key = own_text(&value).filter(|key| !keys.contains(&key.as_str())),
                    JsonbIteratorToken::WJB_VALUE => {
                        if let Some(key) = key.take() {
                            map.insert(key, Part { value, of: PhantomData::<&Jsonb> }.value());
                        }
                    }
                    _ => {}
                }
            }
        }
    }
    /// A document of its own.
    pub fn document(&self) -> Result<Jsonb, Error> {
        Jsonb::of_value(self.value)
    }
    /// Some of an array's elements, as a document of their own.
    pub fn documents(&self, range: Range<usize>) -> Result<Jsonb, Error> {
        Jsonb::of_values(&range.map(|nth| self.at(nth).value).collect::<Vec<_>>())
    }
}
