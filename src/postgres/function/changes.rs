//! Rows as documents, and documents of documents: numbers keep all their digits.

use crate::postgres::catalog::attribute;
use crate::postgres::caught::{Failure, call_raw};
use crate::postgres::function::{execute, is_built_in, raw};
use crate::postgres::sandbox;
use crate::postgres::trigger::RowChange;
use crate::postgres::types::Jsonb;
use pgrx::pg_sys::{self, Datum, JsonbIteratorToken, JsonbParseState, JsonbValue, TupleDesc, jbvType};

/// A row (a composite value of that descriptor) as to_jsonb has it.
///
/// Types that aren't PostgreSQL's own may bring a cast to json, which would run in the session of whoever changes the row:
/// where its function isn't a superuser's, the column is written as its text instead.
///
/// # Safety
/// It is one, and lives.
pub unsafe fn document_of(row: Datum, desc: TupleDesc) -> Result<Jsonb, Failure> {
    // SAFETY: see above; what as_text allocated is freed, the document is a copy.
    unsafe {
        match as_text(row, desc) {
            None => execute::record(row),
            Some(plain) => {
                let document = execute::record(plain);
                pg_sys::pfree(plain.cast_mut_ptr());
                document
            }
        }
    }
}

/// The row with such columns as text; None = it has none.
fn as_text(row: Datum, desc: TupleDesc) -> Option<Datum> {
    // SAFETY: the row is of that descriptor. The new descriptor has its live columns, and a value for each; it is
    // registered as a record type of this session, where equal ones are one.
    unsafe {
        let attributes: Vec<_> = (0..(*desc).natts).map(|i| &*attribute(desc, i)).collect();
        let foreign: Vec<bool> = attributes.iter().map(|a| !a.attisdropped && brings_foreign_cast(a.atttypid)).collect();
        if !foreign.contains(&true) {
            return None;
        }
        let header = row.cast_mut_ptr::<pg_sys::HeapTupleHeaderData>();
        let mut tuple = pg_sys::HeapTupleData { t_len: pgrx::varsize_any(row.cast_mut_ptr()) as u32, t_data: header, ..Default::default() };
        let (mut values, mut nulls) = (vec![Datum::null(); attributes.len()], vec![true; attributes.len()]);
        pg_sys::heap_deform_tuple(&mut tuple, desc, values.as_mut_ptr(), nulls.as_mut_ptr());
        let live: Vec<usize> = (0..attributes.len()).filter(|i| !attributes[*i].attisdropped).collect();
        let plain = pg_sys::CreateTemplateTupleDesc(live.len() as i32);
        let (mut new_values, mut new_nulls) = (Vec::new(), Vec::new());
        for (n, i) in live.into_iter().enumerate() {
            let a = attributes[i];
            let (type_oid, typmod) = if foreign[i] { (pg_sys::TEXTOID, -1) } else { (a.atttypid, a.atttypmod) };
            pg_sys::TupleDescInitEntry(plain, n as i16 + 1, a.attname.data.as_ptr(), type_oid, typmod, 0);
            new_values.push(if foreign[i] && !nulls[i] { text_of(a.atttypid, values[i]) } else { values[i] });
            new_nulls.push(nulls[i]);
        }
        let plain = pg_sys::BlessTupleDesc(plain);
        let tuple = pg_sys::heap_form_tuple(plain, new_values.as_mut_ptr(), new_nulls.as_mut_ptr());
        Some(pg_sys::heap_copy_tuple_as_datum(tuple, plain))
    }
}

/// pg_cast.castfunc, which pgrx doesn't name.
const CASTFUNC: i16 = 4;

/// By the type's output function, which for a type of an ordinary user is always one of PostgreSQL's own.
unsafe fn text_of(type_oid: pg_sys::Oid, value: Datum) -> Datum {
    // SAFETY: a value of that type.
    unsafe {
        let (mut output, mut is_varlena) = (pg_sys::InvalidOid, false);
        pg_sys::getTypeOutputInfo(type_oid, &mut output, &mut is_varlena);
        let text = pg_sys::OidOutputFunctionCall(output, value);
        Datum::from(pg_sys::cstring_to_text(text))
    }
}

/// Whether to_jsonb, given a value of that type, would call a cast to json whose function isn't a superuser's; also for what
/// the type is made of.
unsafe fn brings_foreign_cast(type_oid: pg_sys::Oid) -> bool {
    if is_built_in(type_oid.to_u32()) {
        return false;
    }
    // SAFETY: look-ups in the catalogs, each tuple released; a composite type contains itself nowhere.
    unsafe {
        let base = pg_sys::getBaseType(type_oid);
        if is_built_in(base.to_u32()) {
            return false;
        }
        let element = pg_sys::get_element_type(base);
        if element != pg_sys::InvalidOid {
            return brings_foreign_cast(element);
        }
        if pg_sys::get_typtype(base) as u8 == pg_sys::TYPTYPE_COMPOSITE {
            let desc = pg_sys::lookup_rowtype_tupdesc_copy(base, -1);
            let found = (0..(*desc).natts).map(|i| attribute(desc, i)).any(|a| !(*a).attisdropped && brings_foreign_cast((*a).atttypid));
            pg_sys::pfree(desc.cast());
            return found;
        }
        let cache = pg_sys::SysCacheIdentifier::CASTSOURCETARGET as i32;
        let tuple = pg_sys::SearchSysCache2(cache, Datum::from(base), Datum::from(pg_sys::JSONOID));
        if tuple.is_null() {
            return false;
        }
        let mut is_null = false;
        let function = pg_sys::SysCacheGetAttr(cache, tuple, CASTFUNC, &mut is_null);
        let function = pg_sys::Oid::from(function.value() as u32);
        pg_sys::ReleaseSysCache(tuple);
        if function == pg_sys::InvalidOid || is_built_in(function.to_u32()) {
            return false;
        }
        let tuple = pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::PROCOID as i32, Datum::from(function));
        if tuple.is_null() {
            return true;
        }
        let owner = (*(pg_sys::GETSTRUCT(tuple) as *const pg_sys::FormData_pg_proc)).proowner;
        pg_sys::ReleaseSysCache(tuple);
        !sandbox::is_superuser(owner)
    }
}

/// {"event": …, "table": …, "old": …, "new": …}, a row that there is none of being null.
pub fn one(event: &str, table: &str, change: &RowChange) -> Result<Jsonb, Failure> {
    // SAFETY: the state that build() has begun an object in.
    build(event, table, |state| unsafe { push_change(state, change) })
}

/// {"event": …, "table": …, "rows": [{"old": …, "new": …}, …]}
pub fn many(event: &str, table: &str, changes: &[RowChange]) -> Result<Jsonb, Failure> {
    // SAFETY: as in one().
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
    // SAFETY: JsonbValueToJsonb allocated it.
    unsafe {
        let document = Jsonb::from_datum(datum);
        pg_sys::pfree(datum.cast_mut_ptr());
        Ok(document)
    }
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

unsafe fn push_change(state: State, change: &RowChange) {
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
