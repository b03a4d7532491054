//! Foreign tables of our own: what a view shows of a tenant's rows, one after the other, as many as are asked for.
//!
//! A plain function would have to make all of its rows before the first is seen. A foreign scan is asked for one row at a
//! time, learns from the planner what is searched for and in which order (plan.rs), and goes by an index of the tenant's
//! table where that helps (walk.rs). Whatever it finds, the executor asks every condition of the query again: a course that
//! is chosen badly makes an answer slower, never wrong.
//!
//! Planning touches nothing of a tenant. Which tenant is meant, whether the caller may read it, and whether its table is
//! sound, is settled when an execution begins, by the search_path and the user of that moment, and holds as long as it lasts.
//!
//! [`Shown`] is all that a foreign table has to say of itself. Nothing is served but what [`serve`] was given.

mod course;
mod plan;
mod run;
mod walk;

pub use plan::{Routine, routine};
pub use walk::Passing;

use crate::postgres::column::{Column, Index, Kind, Relation, Value};
use crate::postgres::error::Result;
use crate::postgres::relation::Table;
use pgrx::pg_sys;
use run::{Running, Scanning};
use std::marker::PhantomData;
use std::sync::OnceLock;

/// The schema that our foreign tables are in.
const SCHEMA: &std::ffi::CStr = c"tenant_q";

/// A foreign table: rows of one table of the tenant who is current when an execution begins.
pub trait Shown: Sized + 'static {
    type Rows: Relation;
    /// What is worked out of a row, for the columns that are not the row's own.
    type Seen;
    /// Its name in schema `tenant_q`.
    const NAME: &'static str;
    /// Its columns, in their order.
    const COLUMNS: &'static [Shows<Self::Rows>];
    const ORDERS: &'static [Order<Self::Rows>];
    /// An execution begins: the tenant's table, opened by whoever may read it. `wanted`: the columns that are asked for.
    fn begin(wanted: Wanted) -> Result<(Self, Table<Self::Rows>)>;
    /// None: the row isn't shown.
    fn see(&self, row: &Passing<Self::Rows>) -> Option<Self::Seen>;
    /// The value of a column that is [`Shows::Told`], of that type.
    fn tell<'a>(&'a self, seen: &'a Self::Seen, row: &Passing<'a, Self::Rows>, place: usize) -> Value<'a>;
}

/// What a column of a foreign table shows.
pub enum Shows<R> {
    /// A column of the row, as it is: from 1.
    Own(usize, pg_sys::Oid, PhantomData<fn() -> R>),
    /// What [`Shown::tell`] says.
    Told(pg_sys::Oid),
}

impl<R> Shows<R> {
    pub const fn own<K: Kind>(column: Column<R, K>) -> Shows<R> {
        Shows::Own(column.number(), K::TYPE, PhantomData)
    }
    const fn type_oid(&self) -> pg_sys::Oid {
        match self {
            Shows::Own(_, oid, _) | Shows::Told(oid) => *oid,
        }
    }
}

pub const TEXT: pg_sys::Oid = pg_sys::TEXTOID;
pub const INT4: pg_sys::Oid = pg_sys::INT4OID;
pub const JSONB: pg_sys::Oid = pg_sys::JSONBOID;
pub const TIME: pg_sys::Oid = pg_sys::TIMESTAMPTZOID;
pub const BOOL: pg_sys::Oid = pg_sys::BOOLOID;
pub const TEXTS: pg_sys::Oid = pg_sys::TEXTARRAYOID;

/// An index that a foreign table's rows can be found by, and the order in which it has them.
pub struct Order<R: 'static> {
    pub index: &'static Index<R>,
    /// What its columns are shown as, as far as they are; none of the columns behind the first can be null.
    pub searched: &'static [Searched],
    pub holds: Holding,
}

/// Which rows an index has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Holding {
    /// Each one once, and none has the same first key as another.
    Unique,
    All,
    /// Those whose first key isn't null.
    Keyed,
    /// Those whose first key isn't this letter; which order has the others, by what follows the first key here.
    AllBut(u8, usize),
}

/// A column of a foreign table that an index has.
#[derive(Clone, Copy)]
pub enum Searched {
    /// Shown as it is kept.
    As(usize),
    /// Shown as a word and kept as a letter.
    Word(usize, fn(&str) -> Letters),
}

/// Which letters are shown as a word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Letters {
    /// None is.
    None,
    /// This one, and no other.
    One(u8),
    /// Several are, or it isn't known which.
    Several,
}

impl Searched {
    const fn place(self) -> usize {
        match self {
            Searched::As(place) | Searched::Word(place, _) => place,
        }
    }
}

/// The columns that a query asks for.
#[derive(Clone, Copy)]
pub struct Wanted(u32);

impl Wanted {
    /// Whether the column at this place is one.
    pub const fn has(self, place: usize) -> bool {
        self.0 & 1 << place != 0
    }
    pub fn any(self, places: &[usize]) -> bool {
        places.iter().any(|place| self.has(*place))
    }
}

/// A foreign table, whatever its rows are.
pub trait Served: Sync {
    fn name(&self) -> &'static str;
    /// Types of its columns.
    fn types(&self) -> Vec<pg_sys::Oid>;
    fn orders(&self) -> Vec<OrderShape>;
    fn begin(&self, wanted: u32, snapshot: pg_sys::Snapshot) -> Result<Box<dyn Scanning>>;
}

/// What the planner has to know of an [`Order`].
pub struct OrderShape {
    searched: &'static [Searched],
    descending: Vec<bool>,
    holds: Holding,
}

/// For [`serve`].
pub struct ServedAs<T>(PhantomData<fn() -> T>);

impl<T> ServedAs<T> {
    pub const fn new() -> ServedAs<T> {
        ServedAs(PhantomData)
    }
}

impl<T: Shown> Served for ServedAs<T> {
    fn name(&self) -> &'static str {
        T::NAME
    }
    fn types(&self) -> Vec<pg_sys::Oid> {
        T::COLUMNS.iter().map(Shows::type_oid).collect()
    }
    fn orders(&self) -> Vec<OrderShape> {
        T::ORDERS
            .iter()
            .map(|order| OrderShape {
                searched: order.searched,
                descending: order.index.0.iter().map(|part| part.0 < 0).collect(),
                holds: order.holds,
            })
            .collect()
    }
    fn begin(&self, wanted: u32, snapshot: pg_sys::Snapshot) -> Result<Box<dyn Scanning>> {
        let (shown, table) = T::begin(Wanted(wanted))?;
        Ok(Box::new(Running::new(shown, table, Wanted(wanted), snapshot)))
    }
}

static SERVED: OnceLock<&'static [&'static dyn Served]> = OnceLock::new();

/// These tables are ours to serve. Once, when the library is loaded.
pub fn serve(tables: &'static [&'static dyn Served]) {
    let _ = SERVED.set(tables);
}

/// Which of ours the foreign table is; None: none of them, whoever has made it.
///
/// # Safety
/// In a transaction.
unsafe fn served(relation: pg_sys::Oid) -> Option<&'static dyn Served> {
    // SAFETY: look-ups by OID and name; the name is palloc'ed, or NULL.
    unsafe {
        let schema = pg_sys::get_namespace_oid(SCHEMA.as_ptr(), true);
        let name = pg_sys::get_rel_name(relation);
        if name.is_null() || schema == pg_sys::InvalidOid || pg_sys::get_rel_namespace(relation) != schema {
            return None;
        }
        let name = std::ffi::CStr::from_ptr(name).to_str().ok()?;
        SERVED.get()?.iter().find(|table| table.name() == name).copied()
    }
}
