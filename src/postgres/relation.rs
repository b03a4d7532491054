//! Reading and writing our own tables by OID, as logical replication's apply does: no names, no
//! planner, no expression, trigger or privilege of anybody is evaluated. Whoever opens a tenant's
//! table checks its shape first (tenant/shape.rs): ordinary table, our columns, our indexes,
//! nothing attached to it. Then nothing that runs here can be the tenant's code.

use crate::postgres::catalog;
use crate::postgres::column::{Any, Index, Relation, Set, TableId, Value};
use crate::postgres::error::{Error, Result};
use crate::postgres::index::{self, Holds, IndexShape, TableShape};
use crate::postgres::row::{Row, Tid, Whole};
use crate::postgres::sqlstate::SqlState;
use crate::postgres::transaction;
use pgrx::pg_sys;
use std::cell::{Cell, OnceCell, RefCell};
use std::ffi::CStr;
use std::marker::PhantomData;
use std::rc::Rc;

mod raw {
    use pgrx::pg_sys;
    unsafe extern "C-unwind" {
        pub fn datum_image_eq(a: pg_sys::Datum, b: pg_sys::Datum, by_value: bool, length: i32) -> bool;
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Read,
    Write,
    Exclusive,
}
impl Access {
    fn mode(self) -> i32 {
        match self {
            Access::Read => pg_sys::AccessShareLock as i32,
            Access::Write => pg_sys::RowExclusiveLock as i32,
            Access::Exclusive => pg_sys::ShareRowExclusiveLock as i32,
        }
    }
}

/// What became of a change to a row.
#[derive(PartialEq, Eq, Debug, Clone, Copy)]
#[must_use]
pub enum Write {
    Done,
    /// Somebody else's transaction has deleted or changed the row.
    Overtaken,
}

/// An index of an open table, open until that is closed.
#[derive(Clone, Copy)]
pub(in crate::postgres) struct OpenIndex {
    pub rel: pg_sys::Relation,
    info: *mut pg_sys::IndexInfo,
}

/// Rows that are counted as they are written: those of which `counts` is true, by their `column`.
#[derive(Clone, Copy)]
pub struct Tally {
    pub column: usize,
    pub counts: fn(u8) -> bool,
    /// Whose rows they are: handed to `note`, with how many more there are.
    pub owner: u32,
    pub note: fn(u32, i64),
}

impl Tally {
    fn of(&self, value: u8) -> i64 {
        i64::from((self.counts)(value))
    }
    fn in_row<R>(&self, row: &Row<R>) -> i64 {
        self.of(row.datum(self.column).map_or(0, |d| d.value() as u8))
    }
    /// What is written there; `otherwise` if it isn't told.
    fn in_values<R>(&self, values: &[Set<R>], otherwise: u8) -> i64 {
        let told = values.iter().rev().find(|set| set.column == self.column).map(|set| set.value);
        self.of(if let Some(Value::Char(c)) = told { c } else { otherwise })
    }
}

/// An open table; its indexes are opened when they are needed. Closed on drop; the locks stay to
/// the end of the transaction.
struct Open {
    rel: pg_sys::Relation,
    /// Where what is opened later is kept: memory that lives as long as this.
    memory: pg_sys::MemoryContext,
    /// See Row::copy.
    largest: Cell<usize>,
    tally: Option<Tally>,
    shape: OnceCell<Rc<TableShape>>,
    indexes: RefCell<Vec<Option<OpenIndex>>>,
}

/// An open table that has the columns of an `R`.
pub struct Table<R>(Open, PhantomData<fn() -> R>);

impl Table<Any> {
    /// Opens any table; waits for the lock. None: there is no such table (any more).
    pub fn open_any(oid: u32, access: Access) -> Option<Table<Any>> {
        transaction::require();
        // SAFETY: in a transaction; NULL when it doesn't exist.
        let rel = unsafe { pg_sys::try_relation_open(pg_sys::Oid::from(oid), access.mode()) };
        (!rel.is_null()).then(|| Table::new(rel))
    }

    /// Opens any table if the lock is to be had at once. `Err(Locked)` = somebody has it.
    pub fn try_open_any(oid: u32, access: Access) -> std::result::Result<Option<Table<Any>>, Locked> {
        transaction::require();
        // SAFETY: in a transaction; the lock is taken before the open, as core does.
        unsafe {
            if !pg_sys::ConditionalLockRelationOid(pg_sys::Oid::from(oid), access.mode()) {
                return Err(Locked);
            }
            pg_sys::AcceptInvalidationMessages();
            let rel = pg_sys::try_relation_open(pg_sys::Oid::from(oid), pg_sys::NoLock as i32);
            Ok((!rel.is_null()).then(|| Table::new(rel)))
        }
    }

    fn new(rel: pg_sys::Relation) -> Table<Any> {
        // SAFETY: reads a variable.
        let memory = unsafe { pg_sys::CurrentMemoryContext };
        let (largest, tally, shape, indexes) = (Cell::new(usize::MAX), None, OnceCell::new(), RefCell::default());
        Table(Open { rel, memory, largest, tally, shape, indexes }, PhantomData)
    }

    /// The same as a table that has the columns of an `R`. 55000: it hasn't.
    pub fn of<R: Relation>(self) -> Result<Table<R>> {
        let types = &self.0.shape().types;
        if types.starts_with(R::TYPES) {
            return Ok(Table(self.0, PhantomData));
        }
        let name = catalog::qualified_name(self.oid());
        let error =
            Error::new(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, format!("the columns of table {name} are not as they were made"));
        let Some((n, (found, made))) = types.iter().zip(R::TYPES).enumerate().find(|(_, (found, made))| found != made) else {
            return Err(error
                .detail(format!("It has {} of {} columns.", types.len(), R::TYPES.len()))
                .hint("Run ALTER EXTENSION tenant_q UPDATE."));
        };
        // SAFETY: an open relation, which has that column.
        let column = unsafe { CStr::from_ptr((*catalog::attribute(self.0.desc(), n as i32)).attname.data.as_ptr()) };
        let (column, made) = (catalog::quote(&column.to_string_lossy()), catalog::type_name(made.to_u32()));
        Err(error
            .detail(format!("Column {column} is of type {}, not {made}.", catalog::type_name(found.to_u32())))
            .hint(format!("ALTER TABLE {name} ALTER COLUMN {column} TYPE {made};")))
    }
}

/// Somebody has a lock.
pub struct Locked;

impl<R: Relation> Table<R> {
    /// Opens; waits for the lock. None: there is no such table (any more). Raises 55000 for one with other columns.
    pub fn open(id: TableId<R>, access: Access) -> Option<Table<R>> {
        Table::open_any(id.oid(), access).map(|table| table.of().unwrap_or_else(|error| error.raise()))
    }
}

impl<R> Table<R> {
    pub fn oid(&self) -> u32 {
        // SAFETY: an open relation.
        unsafe { (*self.0.rel).rd_id.to_u32() }
    }
    /// The relation itself.
    pub(in crate::postgres) fn relation(&self) -> pg_sys::Relation {
        self.0.rel
    }
    pub(in crate::postgres) fn fetches_at_most(&self) -> usize {
        self.0.largest.get()
    }
    /// The open index over these columns, from 1; negative: descending.
    pub(in crate::postgres) fn index(&self, columns: impl Iterator<Item = i16> + Clone) -> OpenIndex {
        self.try_index(columns).expect("the table's shape was checked")
    }
    /// The same of one that may be missing.
    pub(in crate::postgres) fn try_index(&self, columns: impl Iterator<Item = i16> + Clone) -> Option<OpenIndex> {
        self.0.index_over(columns).map(|n| self.0.open_index(n))
    }
}

impl<R: Relation> Table<R> {
    /// Forgets it, whose relations an error has closed already.
    pub(in crate::postgres) fn abandon(mut self) {
        self.0.indexes.get_mut().clear();
        self.0.rel = std::ptr::null_mut();
    }
    /// Whether it has such an index; those that every table has needn't be asked for.
    pub fn has(&self, index: &Index<R>) -> bool {
        self.0.index_over(index.0.iter().map(|part| part.0)).is_some()
    }
    /// Of rows that have more than this out of line, nothing of that is fetched.
    pub fn fetch_at_most(self, bytes: usize) -> Table<R> {
        self.0.largest.set(bytes);
        self
    }
    /// The same while `f` reads.
    pub fn fetching_at_most<T>(&self, bytes: usize, f: impl FnOnce() -> T) -> T {
        let usual = self.0.largest.replace(bytes);
        let value = f();
        self.0.largest.set(usual);
        value
    }
    /// What is written to it is counted.
    pub fn tallied(mut self, tally: Tally) -> Table<R> {
        self.0.tally = Some(tally);
        self
    }

    /// Inserts a row; columns that aren't named are NULL. A duplicate key raises 23505.
    pub fn insert(&self, values: &[Set<R>]) {
        let open = &self.0;
        let new = open.tuple(None, values);
        // SAFETY: a fresh tuple of this table's descriptor.
        unsafe { pg_sys::heap_insert(open.rel, new.tuple, pg_sys::GetCurrentCommandId(true), 0, std::ptr::null_mut()) };
        open.write_indexes(&new);
        // SAFETY: made by heap_form_tuple above, not referenced any more.
        unsafe { pg_sys::heap_freetuple(new.tuple) };
        open.count(|t| t.in_values(values, 0));
    }

    /// Deletes a row that was read in this transaction, waiting for whoever holds it.
    pub fn delete(&self, row: &Row<R>) -> Write {
        if self.delete_now(row, true) == pg_sys::TM_Result::TM_Ok { Write::Done } else { Write::Overtaken }
    }

    /// The same without waiting. None: another transaction is at the row.
    pub fn try_delete(&self, row: &Row<R>) -> Option<Write> {
        match self.delete_now(row, false) {
            pg_sys::TM_Result::TM_Ok => Some(Write::Done),
            pg_sys::TM_Result::TM_BeingModified => None,
            _ => Some(Write::Overtaken),
        }
    }

    fn delete_now(&self, row: &Row<R>, wait: bool) -> pg_sys::TM_Result::Type {
        row.require_fresh(self.oid());
        let mut pointer = row.tid.pointer();
        let mut failure = pg_sys::TM_FailureData::default();
        // SAFETY: heap_delete checks only by assertion that there is a row: one was when this transaction read it, and what
        // one has seen is pruned by nobody.
        let result = unsafe {
            pg_sys::heap_delete(
                self.0.rel,
                &mut pointer,
                pg_sys::GetCurrentCommandId(true),
                std::ptr::null_mut(),
                wait,
                &mut failure,
                false,
            )
        };
        if result == pg_sys::TM_Result::TM_Ok {
            self.0.count(|t| -t.in_row(row));
        }
        result
    }

    /// Whether the row has all this already, byte by byte; of what is set twice the last counts.
    pub fn is_so(&self, row: &Row<R>, values: &[Set<R>]) -> bool {
        values.iter().enumerate().all(|(n, set)| {
            let overridden = values[n + 1..].iter().any(|later| later.column == set.column);
            overridden
                || match (row.datum(set.column), set.value.datum()) {
                    (None, None) => true,
                    // SAFETY: two values of the column's type, as the open relation describes it.
                    (Some(has), Some(wanted)) => unsafe {
                        let attribute = catalog::attribute((*self.0.rel).rd_att, set.column as i32 - 1);
                        let (by_value, length) = ((*attribute).attbyval, (*attribute).attlen.into());
                        pg_sys::ffi::pg_guard_ffi_boundary(|| raw::datum_image_eq(has, wanted, by_value, length))
                    },
                    _ => false,
                }
        })
    }

    /// Replaces columns of a row that was read in this transaction, waiting for whoever holds it.
    pub fn update(&self, row: &Row<R>, changes: &[Set<R>]) -> Write {
        row.require_fresh(self.oid());
        let open = &self.0;
        let new = open.tuple(Some(row.cells()), changes);
        let tuple = new.tuple;
        let mut pointer = row.tid.pointer();
        let mut failure = pg_sys::TM_FailureData::default();
        let mut lock_mode = pg_sys::LockTupleMode::LockTupleExclusive;
        // SAFETY: a fresh tuple of this table's descriptor; the old one's place: see delete().
        unsafe {
            let command = pg_sys::GetCurrentCommandId(true);
            let none = std::ptr::null_mut();
            #[cfg(feature = "pg15")]
            let result = pg_sys::heap_update(open.rel, &mut pointer, tuple, command, none, true, &mut failure, &mut lock_mode);
            #[cfg(not(feature = "pg15"))]
            let result = {
                let mut which = pg_sys::TU_UpdateIndexes::TU_All;
                pg_sys::heap_update(open.rel, &mut pointer, tuple, command, none, true, &mut failure, &mut lock_mode, &mut which)
            };
            if result != pg_sys::TM_Result::TM_Ok {
                return Write::Overtaken;
            }
            if (*(*tuple).t_data).t_infomask2 as u32 & pg_sys::HEAP_ONLY_TUPLE == 0 {
                open.write_indexes(&new);
            }
        }
        open.count(|t| {
            let before = row.datum(t.column).map_or(0, |d| d.value() as u8);
            t.in_values(changes, before) - t.of(before)
        });
        Write::Done
    }

    /// The row, whose table may not fetch what stands out of line; with that where `lacks` says that it is wanted. As it
    /// was read if the active snapshot doesn't see it any more.
    pub fn whole<'r>(&self, row: &'r Row<R>, lacks: bool) -> Whole<'r, R> {
        let again = if lacks { self.fetching_at_most(usize::MAX, || self.fetch(row.tid)) } else { None };
        again.map_or(Whole::AsRead(row), Whole::Again)
    }

    /// The row at `tid` as the active snapshot sees it.
    pub fn fetch(&self, tid: Tid) -> Option<Row<R>> {
        // SAFETY: heap_fetch copes with any tid inside the relation: it returns false for what
        // isn't a visible tuple. Block numbers beyond the end are refused here.
        unsafe {
            let blocks = pg_sys::RelationGetNumberOfBlocksInFork(self.0.rel, pg_sys::ForkNumber::MAIN_FORKNUM);
            if tid.page() >= u64::from(blocks) {
                return None;
            }
            let mut tuple = pg_sys::HeapTupleData { t_self: tid.pointer(), ..Default::default() };
            let mut buffer = pg_sys::InvalidBuffer as pg_sys::Buffer;
            if !pg_sys::heap_fetch(self.0.rel, pg_sys::GetActiveSnapshot(), &mut tuple, &mut buffer, false) {
                return None;
            }
            let row = Row::copy(&mut tuple, self.0.desc(), self.fetches_at_most());
            pg_sys::ReleaseBuffer(buffer);
            Some(row)
        }
    }
}

/// A tuple, and the values that it was made of.
struct NewTuple {
    tuple: pg_sys::HeapTuple,
    values: Vec<pg_sys::Datum>,
    nulls: Vec<bool>,
}

impl Open {
    fn count(&self, by: impl FnOnce(&Tally) -> i64) {
        if let Some(tally) = &self.tally {
            match by(tally) {
                0 => {}
                more => (tally.note)(tally.owner, more),
            }
        }
    }
    fn desc(&self) -> pg_sys::TupleDesc {
        // SAFETY: an open relation.
        unsafe { (*self.rel).rd_att }
    }
    fn shape(&self) -> &TableShape {
        // SAFETY: an open relation.
        self.shape.get_or_init(|| unsafe { index::shape(self.rel) })
    }

    /// Which of this table's indexes has these columns and can be read. Of several it is one of
    /// ours, or one that is the same: ours are partial or unique or have an order that is said here.
    fn index_over(&self, columns: impl Iterator<Item = i16> + Clone) -> Option<usize> {
        let is_it = |i: &IndexShape| {
            let mut keys = i.columns[..i.keys].iter().zip(&i.descending).map(|(column, down)| if *down { -column } else { *column });
            i.readable && keys.by_ref().eq(columns.clone())
        };
        let found = self.shape().indexes.iter().enumerate().filter(|(_, i)| is_it(i));
        found.max_by_key(|(_, i)| (i.holds != Holds::All, i.unique)).map(|(n, _)| n)
    }

    /// Index `n`, opened if it isn't yet.
    fn open_index(&self, n: usize) -> OpenIndex {
        let shapes = &self.shape().indexes;
        let mut open = self.indexes.borrow_mut();
        if open.is_empty() {
            open.resize_with(shapes.len(), || None);
        }
        let shape = &shapes[n];
        *open[n].get_or_insert_with(|| {
            // The expression lists stay out: BuildIndexInfo would fold a predicate, and with it
            // run functions; our indexes have columns only.
            // SAFETY: opens with the lock that writers use; the info is zeroed and filled.
            unsafe {
                let rel = pg_sys::index_open(shape.oid, pg_sys::RowExclusiveLock as i32);
                let info = pg_sys::MemoryContextAllocZero(self.memory, std::mem::size_of::<pg_sys::IndexInfo>()) as *mut pg_sys::IndexInfo;
                (*info).type_ = pg_sys::NodeTag::T_IndexInfo;
                (*info).ii_NumIndexAttrs = shape.columns.len() as i32;
                (*info).ii_NumIndexKeyAttrs = shape.keys as i32;
                for (k, column) in shape.columns.iter().enumerate() {
                    (*info).ii_IndexAttrNumbers[k] = *column;
                }
                (*info).ii_Unique = shape.unique;
                (*info).ii_ReadyForInserts = true;
                (*info).ii_Am = (*(*rel).rd_rel).relam;
                (*info).ii_Context = self.memory;
                OpenIndex { rel, info }
            }
        })
    }

    /// A row of these values, the last one for a column counts. Columns that aren't named are as in `before`, or NULL.
    fn tuple<R>(&self, before: Option<(&[pg_sys::Datum], &[bool])>, values: &[Set<R>]) -> NewTuple {
        // SAFETY: an open relation.
        let columns = unsafe { (*self.desc()).natts as usize };
        let (mut datums, mut nulls) = match before {
            Some((datums, nulls)) => (datums.to_vec(), nulls.to_vec()),
            None => (vec![pg_sys::Datum::from(0usize); columns], vec![true; columns]),
        };
        for set in values {
            let datum = set.value.datum();
            nulls[set.column - 1] = datum.is_none();
            datums[set.column - 1] = datum.unwrap_or(pg_sys::Datum::from(0usize));
        }
        // SAFETY: one value a column, of the column's type, which Set and Table have in common; a dropped one has none.
        unsafe {
            assert!(datums.len() == columns, "a value a column");
            for (i, null) in nulls.iter_mut().enumerate() {
                *null |= (*catalog::attribute(self.desc(), i as i32)).attisdropped;
            }
            let tuple = pg_sys::heap_form_tuple(self.desc(), datums.as_mut_ptr(), nulls.as_mut_ptr());
            NewTuple { tuple, values: datums, nulls }
        }
    }

    /// Of a tuple that has just been stored in this table. Values that were moved out of line then are indexed as they
    /// were, which is what the executor does.
    fn write_indexes(&self, NewTuple { tuple, values, nulls }: &NewTuple) {
        for (n, shape) in self.shape().indexes.iter().enumerate() {
            let first = shape.columns[0] as usize - 1;
            if !shape.holds.has((!nulls[first]).then(|| values[first])) {
                continue;
            }
            let mut key_values = [pg_sys::Datum::from(0usize); pg_sys::INDEX_MAX_KEYS as usize];
            let mut key_nulls = [true; pg_sys::INDEX_MAX_KEYS as usize];
            for (k, column) in shape.columns.iter().enumerate() {
                key_values[k] = values[*column as usize - 1];
                key_nulls[k] = nulls[*column as usize - 1];
            }
            let check = if shape.unique { pg_sys::IndexUniqueCheck::UNIQUE_CHECK_YES } else { pg_sys::IndexUniqueCheck::UNIQUE_CHECK_NO };
            let index = self.open_index(n);
            // SAFETY: an index of plain columns; key arrays outlive the call.
            unsafe {
                // Asked of the open index, as it is by now: one that is being built concurrently is to be written from a
                // moment on that the table's own definition doesn't tell of.
                if !(*(*index.rel).rd_index).indisready {
                    continue;
                }
                pg_sys::index_insert(
                    index.rel,
                    key_values.as_mut_ptr(),
                    key_nulls.as_mut_ptr(),
                    &raw mut (**tuple).t_self,
                    self.rel,
                    check,
                    false,
                    index.info,
                );
            }
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // After an ERROR the transaction's abort closes everything; doing it here too would be a
        // second time.
        if std::thread::panicking() || self.rel.is_null() {
            return;
        }
        // SAFETY: opened by us, closed once; locks are kept.
        unsafe {
            for index in self.indexes.borrow_mut().drain(..).flatten() {
                pg_sys::index_close(index.rel, pg_sys::NoLock as i32);
            }
            pg_sys::relation_close(self.rel, pg_sys::NoLock as i32);
        }
    }
}
