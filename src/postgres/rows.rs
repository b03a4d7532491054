//! Rows that a function returns, of the columns that it is declared with.

use crate::postgres::error::{Error, Result};
use crate::postgres::interval::Interval;
use crate::postgres::types::Jsonb;
use crate::postgres::{call, catalog, memory};
use crate::pure::ids::Id;
use crate::pure::time::{At, Span};
use pgrx::{IntoDatum, pg_sys};
use std::ffi::CStr;

/// A row: its columns by their names, in the order of the declaration. See [`row!`].
pub type Row = Vec<(&'static str, Cell)>;

/// A value of a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    Null,
    Bool(bool),
    /// Of any integer type.
    Int(i64),
    Float(f64),
    Text(String),
    Uuid(Id),
    Time(At),
    Span(Span),
    Json(serde_json::Value),
    Ints(Vec<i32>),
    Texts(Vec<String>),
}

macro_rules! cells {
    ($($from:ty => |$value:ident| $cell:expr;)*) => {$(
        impl From<$from> for Cell {
            fn from($value: $from) -> Cell {
                $cell
            }
        }
    )*};
}

cells! {
    bool => |v| Cell::Bool(v);
    i32 => |v| Cell::Int(v.into());
    u32 => |v| Cell::Int(v.into());
    i64 => |v| Cell::Int(v);
    u64 => |v| Cell::Int(v.min(i64::MAX as u64) as i64);
    usize => |v| Cell::Int(v.min(i64::MAX as usize) as i64);
    f64 => |v| Cell::Float(v);
    &str => |v| Cell::Text(v.into());
    &String => |v| Cell::Text(v.clone());
    String => |v| Cell::Text(v);
    Id => |v| Cell::Uuid(v);
    At => |v| Cell::Time(v);
    Span => |v| Cell::Span(v);
    serde_json::Value => |v| if v.is_null() { Cell::Null } else { Cell::Json(v) };
    Vec<i32> => |v| Cell::Ints(v);
    Vec<String> => |v| Cell::Texts(v);
}

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Cell {
        value.map_or(Cell::Null, Into::into)
    }
}

/// A row of columns `name: value`.
macro_rules! row {
    ($($name:literal: $value:expr),* $(,)?) => {
        vec![$(($name, $crate::postgres::rows::Cell::from($value))),*]
    };
}
pub(crate) use row;

impl Cell {
    /// None = NULL.
    fn datum(self, of: pg_sys::Oid) -> Result<Option<pg_sys::Datum>> {
        let made = match (self, of) {
            (Cell::Null, _) => return Ok(None),
            (Cell::Bool(v), pg_sys::BOOLOID) => v.into_datum(),
            (Cell::Int(v), pg_sys::INT8OID) => v.into_datum(),
            (Cell::Int(v), pg_sys::INT4OID) => i32::try_from(v).unwrap_or(i32::MAX).into_datum(),
            (Cell::Float(v), pg_sys::FLOAT8OID) => v.into_datum(),
            (Cell::Text(v), pg_sys::TEXTOID) => {
                memory::require(v.len());
                v.into_datum()
            }
            (Cell::Uuid(v), pg_sys::UUIDOID) => call::uuid(v).into_datum(),
            (Cell::Time(v), pg_sys::TIMESTAMPTZOID) => Some(pg_sys::Datum::from(v.micros())),
            (Cell::Span(v), pg_sys::INTERVALOID) => Interval::from_micros(v.micros()).into_datum(),
            (Cell::Json(v), pg_sys::JSONBOID) => Some(Jsonb::from_value(v).copied()),
            (Cell::Ints(v), pg_sys::INT4ARRAYOID) => v.into_datum(),
            (Cell::Texts(v), pg_sys::TEXTARRAYOID) => v.into_datum(),
            (cell, of) => return Err(Error::internal(format!("{cell:?} is not of type {}", catalog::type_name(of.to_u32())))),
        };
        Ok(made)
    }
}

/// Hands the rows over to whoever has called the function.
///
/// # Safety
/// A call in progress.
pub(super) unsafe fn hand_over(call: pg_sys::FunctionCallInfo, rows: impl Iterator<Item = Result<Row>>) -> Result<()> {
    // SAFETY: the store and its descriptor are made by the first call, and live as long as the query; a value a column.
    unsafe {
        // A set of one column is one of values to PostgreSQL, which tells their type and no name.
        pg_sys::InitMaterializedSRF(call, pg_sys::MAT_SRF_USE_EXPECTED_DESC as _);
        let result = (*call).resultinfo.cast::<pg_sys::ReturnSetInfo>();
        let (store, desc) = ((*result).setResult, (*result).setDesc);
        let columns: Vec<(&CStr, pg_sys::Oid)> = (0..(*desc).natts)
            .map(|n| catalog::attribute(desc, n))
            .map(|column| (CStr::from_ptr((*column).attname.data.as_ptr()), (*column).atttypid))
            .collect();
        for row in rows {
            let row = row?;
            if columns.len() > 1 && !row.iter().map(|(name, _)| name.as_bytes()).eq(columns.iter().map(|(name, _)| name.to_bytes())) {
                return Err(Error::internal(format!("the columns are not those that are declared: {row:?}")));
            }
            let made = row.into_iter().zip(&columns).map(|((_, cell), (_, of))| cell.datum(*of)).collect::<Result<Vec<_>>>()?;
            let mut nulls: Vec<bool> = made.iter().map(Option::is_none).collect();
            let mut values: Vec<pg_sys::Datum> = made.into_iter().map(|value| value.unwrap_or(pg_sys::Datum::from(0usize))).collect();
            pg_sys::tuplestore_putvalues(store, desc, values.as_mut_ptr(), nulls.as_mut_ptr());
        }
    }
    Ok(())
}
