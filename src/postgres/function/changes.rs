//! Rows as documents, and documents of documents: numbers keep all their digits.

use super::execute;
use super::raw;
use crate::postgres::caught::{Failure, call_raw};
use crate::postgres::trigger::Change;
use crate::postgres::types::Jsonb;
use pgrx::pg_sys::{self, Datum, JsonbIteratorToken, JsonbParseState, JsonbValue, jbvType};

/// A row (a composite value that knows its type) as to_jsonb has it.
///
/// Types that aren't PostgreSQL's own may bring a cast to json, which runs as the current user.
pub fn document_of(row: Datum) -> Result<Jsonb, Failure> {
    execute::record(row)
}

/// {"event": …, "table": …, "old": …, "new": …}, a row that there is none of being null.
pub fn one(event: &str, table: &str, change: &Change) -> Result<Jsonb, Failure> {
    build(event, table, |state| unsafe { push_change(state, change) })
}

/// {"event": …, "table": …, "rows": [{"old": …, "new": …}, …]}
pub fn many(event: &str, table: &str, changes: &[Change]) -> Result<Jsonb, Failure> {
    build(event, table, |state| unsafe {
        push_text(state, JsonbIteratorToken::WJB_KEY, "rows");
        push(state, JsonbIteratorToken::WJB_BEGIN_ARRAY);
        for change in changes {
            push(state, JsonbIteratorToken::WJB_BEGIN_OBJECT);
            push_change(state, change);
            push(state, JsonbIteratorToken::WJB_END_OBJECT);
        }
        push(state, JsonbIteratorToken::WJB_END_ARRAY);
    })
}

/// {"event": …, "table": …}
pub fn none(event: &str, table: &str) -> Result<Jsonb, Failure> {
    build(event, table, |_| ())
}

type State = *mut *mut JsonbParseState;

fn build(event: &str, table: &str, rest: impl Fn(State)) -> Result<Jsonb, Failure> {
    // SAFETY: the closure holds references to plain data; what is pushed outlives the document's
    // making, which copies it.
    let datum = unsafe {
        call_raw(|| {
            let mut state = std::ptr::null_mut();
            push(&mut state, JsonbIteratorToken::WJB_BEGIN_OBJECT);
            push_text(&mut state, JsonbIteratorToken::WJB_KEY, "event");
            push_text(&mut state, JsonbIteratorToken::WJB_VALUE, event);
            push_text(&mut state, JsonbIteratorToken::WJB_KEY, "table");
            push_text(&mut state, JsonbIteratorToken::WJB_VALUE, table);
            rest(&mut state);
            let object = raw::pushJsonbValue(&mut state, JsonbIteratorToken::WJB_END_OBJECT, std::ptr::null_mut());
            Datum::from(raw::JsonbValueToJsonb(object))
        })
    }?;
    let document = Jsonb::from_datum(datum);
    // SAFETY: JsonbValueToJsonb allocated it.
    unsafe { pg_sys::pfree(datum.cast_mut_ptr()) };
    Ok(document)
}

// Called under call_raw, all of them.

unsafe fn push(state: State, token: JsonbIteratorToken::Type) {
    // SAFETY: a token without a value.
    unsafe { raw::pushJsonbValue(state, token, std::ptr::null_mut()) };
}

unsafe fn push_text(state: State, token: JsonbIteratorToken::Type, text: &str) {
    // SAFETY: a value of that length, which outlives the document's making.
    unsafe {
        let mut value = JsonbValue { type_: jbvType::jbvString, ..Default::default() };
        value.val.string.len = text.len() as i32;
        value.val.string.val = text.as_ptr().cast_mut().cast();
        raw::pushJsonbValue(state, token, &mut value);
    }
}

unsafe fn push_change(state: State, change: &Change) {
    for (key, document) in [("old", &change.0), ("new", &change.1)] {
        // SAFETY: a whole jsonb with a four-byte header, which outlives the document's making.
        unsafe {
            push_text(state, JsonbIteratorToken::WJB_KEY, key);
            let mut value = JsonbValue::default();
            match document {
                None => value.type_ = jbvType::jbvNull,
                Some(document) => {
                    let jsonb = document.datum().cast_mut_ptr::<pg_sys::Jsonb>();
                    value.type_ = jbvType::jbvBinary;
                    value.val.binary.len = (document.size() - size_of::<i32>()) as i32;
                    value.val.binary.data = &raw mut (*jsonb).root;
                }
            }
            raw::pushJsonbValue(state, JsonbIteratorToken::WJB_VALUE, &mut value);
        }
    }
}
