//! Columns of our tables as types: a name says where a value stands and what it is in Rust, so that neither a column of
//! another table nor a value of another type can be meant. tenant/columns.rs names them.

use crate::postgres::interval;
use crate::postgres::row::Row;
use crate::postgres::types::Jsonb;
use crate::pure::ids::Id;
use crate::pure::state::Letter;
use crate::pure::time::At;
use pgrx::IntoDatum;
use pgrx::pg_sys;
use std::marker::PhantomData;

/// A table of ours, or several of one shape.
pub trait Relation: 'static {
    /// Types of its columns, in their order. Its owner may have more behind them.
    const TYPES: &'static [pg_sys::Oid];
}

/// Any table, of which nothing is read or written.
pub enum Any {}
impl Relation for Any {
    const TYPES: &'static [pg_sys::Oid] = &[];
}

/// An OID that is of such a table.
pub struct TableId<R>(u32, PhantomData<fn() -> R>);

impl<R> TableId<R> {
    pub const fn of(oid: u32) -> TableId<R> {
        TableId(oid, PhantomData)
    }
    pub const fn oid(self) -> u32 {
        self.0
    }
}
impl<R> Clone for TableId<R> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<R> Copy for TableId<R> {}
impl<R> Default for TableId<R> {
    fn default() -> Self {
        TableId::of(0)
    }
}

/// A column of `R` that holds a `K`.
pub struct Column<R, K>(usize, PhantomData<fn() -> (R, K)>);

impl<R, K> Clone for Column<R, K> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<R, K> Copy for Column<R, K> {}

impl<R, K> Column<R, K> {
    /// For [`tables!`].
    ///
    /// # Safety
    /// Column `number` of an R, from 1, is of the type of K, as R's types say.
    pub const unsafe fn new(number: usize) -> Column<R, K> {
        Column(number, PhantomData)
    }
    /// From 1.
    pub const fn number(self) -> usize {
        self.0
    }
    /// A part of an index, ascending.
    pub const fn up(self) -> Part<R> {
        Part(self.0 as i16, PhantomData)
    }
    /// A part of an index, descending.
    pub const fn down(self) -> Part<R> {
        Part(-(self.0 as i16), PhantomData)
    }
}

impl<R, K: Kind> Column<R, K> {
    /// The column with this value; None = NULL.
    pub fn to<'a>(self, value: impl Into<Option<K::Written<'a>>>) -> Set<'a, R> {
        Set::new(self.0, value.into().map_or(Value::Null, K::value))
    }
    pub fn null<'a>(self) -> Set<'a, R> {
        Set::new(self.0, Value::Null)
    }
    /// The column with what a row has in another one of the same kind.
    pub fn as_in<S>(self, row: &Row<S>, column: Column<S, K>) -> Set<'_, R> {
        Set::new(self.0, row.value(column.0))
    }
    fn compared(self, compare: Compare, value: K::Written<'_>) -> Key<'_, R> {
        Key { column: self.0, compare, value: K::value(value), of: PhantomData }
    }
    pub fn equals(self, value: K::Written<'_>) -> Key<'_, R> {
        self.compared(Compare::Eq, value)
    }
    pub fn below(self, value: K::Written<'_>) -> Key<'_, R> {
        self.compared(Compare::Lt, value)
    }
    pub fn at_most(self, value: K::Written<'_>) -> Key<'_, R> {
        self.compared(Compare::Le, value)
    }
    pub fn at_least(self, value: K::Written<'_>) -> Key<'_, R> {
        self.compared(Compare::Ge, value)
    }
    pub fn above(self, value: K::Written<'_>) -> Key<'_, R> {
        self.compared(Compare::Gt, value)
    }
}

/// A column and its value.
pub struct Set<'a, R> {
    pub(in crate::postgres) column: usize,
    pub(in crate::postgres) value: Value<'a>,
    of: PhantomData<fn() -> R>,
}

impl<'a, R> Set<'a, R> {
    /// The value is of that column's type.
    pub(in crate::postgres) fn new(column: usize, value: Value<'a>) -> Set<'a, R> {
        Set { column, value, of: PhantomData }
    }
}

impl<R> Clone for Set<'_, R> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<R> Copy for Set<'_, R> {}

/// A condition on a column of an index.
pub struct Key<'a, R> {
    pub(in crate::postgres) column: usize,
    pub(in crate::postgres) compare: Compare,
    pub(in crate::postgres) value: Value<'a>,
    of: PhantomData<fn() -> R>,
}

impl<R> Clone for Key<'_, R> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<R> Copy for Key<'_, R> {}

/// btree's strategies.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::postgres) enum Compare {
    Lt = 1,
    Le = 2,
    Eq = 3,
    Ge = 4,
    Gt = 5,
}

/// A column of an index, negative where it descends.
pub struct Part<R>(pub(in crate::postgres) i16, PhantomData<fn() -> R>);

/// An index of `R`, named by its columns.
pub struct Index<R: 'static>(pub &'static [Part<R>]);

/// What a column can hold.
pub trait Kind: 'static {
    const TYPE: pg_sys::Oid;
    /// None = NULL.
    type Read<'r>;
    type Written<'a>;
    /// # Safety
    /// Column `n` of the row is of this type.
    unsafe fn read<R>(row: &Row<R>, n: usize) -> Option<Self::Read<'_>>;
    fn value(written: Self::Written<'_>) -> Value<'_>;
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $oid:ident, $read:ty, $written:ty, |$row:ident, $n:ident| $get:expr, $value:expr;)*) => {$(
        $(#[$doc])*
        pub enum $kind {}
        impl Kind for $kind {
            const TYPE: pg_sys::Oid = pg_sys::$oid;
            type Read<'r> = $read;
            type Written<'r> = $written;
            #[allow(unused_unsafe, reason = "what is by value needs none")]
            unsafe fn read<R>($row: &Row<R>, $n: usize) -> Option<Self::Read<'_>> {
                // SAFETY: the column is of this type.
                unsafe { $get }
            }
            fn value(written: Self::Written<'_>) -> Value<'_> {
                $value(written)
            }
        }
    )*};
}

kinds! {
    Uuid = UUIDOID, Id, Id, |row, n| row.uuid(n), Value::Uuid;
    /// Read as None also where there is more of it than anybody could mean, and where it was not fetched. So are all
    /// of variable length.
    Text = TEXTOID, &'r str, &'r str, |row, n| row.str(n), Value::Text;
    Int2 = INT2OID, i16, i16, |row, n| row.datum(n).map(|d| d.value() as i16), Value::I16;
    Int4 = INT4OID, i32, i32, |row, n| row.datum(n).map(|d| d.value() as i32), Value::I32;
    Int8 = INT8OID, i64, i64, |row, n| row.datum(n).map(|d| d.value() as i64), Value::I64;
    /// timestamptz.
    Time = TIMESTAMPTZOID, At, At, |row, n| row.datum(n).map(|d| At::of_micros(d.value() as i64)), Value::Time;
    Bool = BOOLOID, bool, bool, |row, n| row.datum(n).map(|d| d.value() & 0xFF != 0), Value::Bool;
    Oid = OIDOID, u32, u32, |row, n| row.datum(n).map(|d| d.value() as u32), Value::Oid;
    /// jsonb. Read as None also where it holds what serde_json can't: numbers beyond a double, deep nesting.
    Json = JSONBOID, serde_json::Value, &'r Jsonb, |row, n| row.json(n), Value::Json;
    Interval = INTERVALOID, interval::Interval, interval::Interval, |row, n| row.interval(n), Value::Interval;
    Texts = TEXTARRAYOID, Vec<String>, &'r [String], |row, n| row.texts(n), Value::Texts;
}

/// One of a few, as one character: a "char".
pub struct Kept<E>(PhantomData<fn() -> E>);

impl<E: Letter> Kind for Kept<E> {
    const TYPE: pg_sys::Oid = pg_sys::CHAROID;
    type Read<'r> = E;
    type Written<'r> = E;
    unsafe fn read<R>(row: &Row<R>, n: usize) -> Option<E> {
        row.datum(n).map(|datum| E::of_letter(datum.value() as u8))
    }
    fn value<'a>(written: E) -> Value<'a> {
        Value::Char(written.letter())
    }
}

/// What is stored in as many bytes as it takes, perhaps out of line.
pub trait OfAnyLength: Kind {}
impl OfAnyLength for Text {}
impl OfAnyLength for Json {}
impl OfAnyLength for Texts {}

/// What is written to a column, or compared with one.
#[derive(Clone, Copy)]
pub enum Value<'a> {
    Null,
    Uuid(Id),
    Text(&'a str),
    Char(u8),
    I16(i16),
    I32(i32),
    I64(i64),
    Time(At),
    Bool(bool),
    Oid(u32),
    Json(&'a Jsonb),
    Interval(interval::Interval),
    Texts(&'a [String]),
    /// A datum of the right type, of a row that is still alive.
    Raw(pg_sys::Datum),
}

impl Value<'_> {
    /// Allocates in the current memory context. None = NULL.
    pub(in crate::postgres) fn datum(&self) -> Option<pg_sys::Datum> {
        Some(match *self {
            Value::Null => return None,
            Value::Uuid(id) => {
                // SAFETY: 16 bytes from palloc, filled whole: the representation of uuid.
                let p = unsafe {
                    let p = pg_sys::palloc(16) as *mut u8;
                    std::ptr::copy_nonoverlapping(id.bytes().as_ptr(), p, 16);
                    p
                };
                pg_sys::Datum::from(p)
            }
            Value::Text(t) => t.into_datum().expect("text is not null"),
            Value::Char(c) => pg_sys::Datum::from(c),
            Value::I16(v) => pg_sys::Datum::from(v),
            Value::I32(v) => pg_sys::Datum::from(v),
            Value::I64(v) => pg_sys::Datum::from(v),
            Value::Time(t) => pg_sys::Datum::from(t.micros()),
            Value::Bool(v) => pg_sys::Datum::from(v),
            Value::Oid(v) => pg_sys::Datum::from(v as usize),
            Value::Json(j) => j.datum(),
            Value::Interval(i) => i.into_datum().expect("an interval is not null"),
            Value::Texts(t) => t.to_vec().into_datum().expect("an array is not null"),
            Value::Raw(d) => d,
        })
    }
}

/// Declares tables: a type each, with a constant for each column, in their order.
macro_rules! tables {
    ($($(#[$doc:meta])* $table:ident { $($column:ident: $kind:ty,)* })*) => {$(
        $(#[$doc])*
        pub enum $table {}
        impl $crate::postgres::column::Relation for $table {
            const TYPES: &'static [pgrx::pg_sys::Oid] = &[$(<$kind as $crate::postgres::column::Kind>::TYPE),*];
        }
        const _: () = {
            #[allow(non_camel_case_types, clippy::upper_case_acronyms, reason = "the columns' places, counted by the compiler")]
            enum Place { $($column),* }
            #[allow(dead_code, reason = "all columns of a table stand here")]
            impl $table {
                $(pub const $column: $crate::postgres::column::Column<$table, $kind> =
                    // SAFETY: the table's types are made of the same list, in the same order.
                    unsafe { $crate::postgres::column::Column::new(Place::$column as usize + 1) };)*
            }
        };
    )*};
}
pub(crate) use tables;
