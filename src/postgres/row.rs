//! A row, copied out of its table: what it holds, where it stood, and who was about to change it.

use crate::postgres::column::{self, Column, Json, Kept, Kind, OfAnyLength, Relation, Set, Text, Value};
use crate::postgres::interval::{self, Interval};
use crate::postgres::text;
use crate::postgres::transaction::LocalId;
use crate::postgres::types::{self, Jsonb};
use crate::pure::ids::Id;
use crate::pure::period::Period;
use crate::pure::state::Letter;
use crate::pure::time::Span;
use pgrx::{FromDatum, pg_sys};
use std::cell::RefCell;
use std::marker::PhantomData;

/// A row's place in its table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tid(u64);

impl Tid {
    /// As [`Tid::word`] has it. Any number will do: what isn't a row's place is found empty.
    pub fn of_word(word: u64) -> Tid {
        Tid(word)
    }
    pub fn word(self) -> u64 {
        self.0
    }
    pub fn page(self) -> u64 {
        self.0 >> 16
    }
    fn of(p: &pg_sys::ItemPointerData) -> Tid {
        Tid(((p.ip_blkid.bi_hi as u64) << 32) | ((p.ip_blkid.bi_lo as u64) << 16) | p.ip_posid as u64)
    }
    pub(in crate::postgres) fn pointer(self) -> pg_sys::ItemPointerData {
        pg_sys::ItemPointerData {
            ip_blkid: pg_sys::BlockIdData { bi_hi: (self.0 >> 32) as u16, bi_lo: (self.0 >> 16) as u16 },
            ip_posid: self.0 as u16,
        }
    }
}

/// See `Row::in_flux`. A multixact stays in the row for ever after its last member has ended, until VACUUM comes.
///
/// # Safety
/// `header` is of a pinned tuple.
unsafe fn is_in_flux(header: pg_sys::HeapTupleHeader) -> bool {
    // SAFETY: reads the header, and asks about transaction ids that the row has, which so are not too old.
    unsafe {
        let mask = (*header).t_infomask as u32;
        let xmax = (*header).t_choice.t_heap.t_xmax;
        if mask & pg_sys::HEAP_XMAX_INVALID != 0 || xmax == pg_sys::InvalidTransactionId {
            return false;
        }
        // As HEAP_XMAX_IS_LOCKED_ONLY has it.
        let locks = pg_sys::HEAP_XMAX_EXCL_LOCK;
        let only_locked = mask & pg_sys::HEAP_XMAX_LOCK_ONLY != 0 || mask & (pg_sys::HEAP_XMAX_IS_MULTI | pg_sys::HEAP_LOCK_MASK) == locks;
        let multi = mask & pg_sys::HEAP_XMAX_IS_MULTI != 0;
        match (only_locked, multi) {
            (true, true) => pg_sys::ffi::pg_guard_ffi_boundary(|| raw::MultiXactIdIsRunning(xmax, true)),
            (true, false) => raw::TransactionIdIsInProgress(xmax),
            (false, multi) => {
                let by = if multi { pg_sys::ffi::pg_guard_ffi_boundary(|| raw::HeapTupleGetUpdateXid(header)) } else { xmax };
                // Its own deletion is invisible to the snapshot that has found the row; a crash aborts.
                raw::TransactionIdIsInProgress(by) || pg_sys::ffi::pg_guard_ffi_boundary(|| raw::TransactionIdDidCommit(by))
            }
        }
    }
}

/// Bytes of a text, or of an array of texts, that a row is asked for.
const TEXT_MAX: usize = 1 << 20;

/// A row of an `R`, copied out: owns its memory, can be read for as long as one likes.
pub struct Row<R> {
    _memory: Box<[u64]>,
    values: Vec<pg_sys::Datum>,
    nulls: Vec<bool>,
    pub tid: Tid,
    /// A transaction has marked the row for deletion, update or lock and hadn't ended then; or it has
    /// deleted or updated it since the snapshot.
    pub in_flux: bool,
    /// This very transaction has inserted it.
    pub own: bool,
    /// Who has written it; 0 = so long ago that nobody can tell.
    written_by: u32,
    /// Bytes of what is stored out of line, as it would be in memory.
    pub outside: usize,
    /// Texts that had to be converted to be read.
    converted: RefCell<Vec<Box<str>>>,
    /// Where and when it was read: there and then only can it be changed.
    read: (u32, LocalId),
    of: PhantomData<fn() -> R>,
}

impl<R> Row<R> {
    /// What is stored out of line is fetched, unless it has more than `largest` bytes in all: then those
    /// values are pointers to it, as good as any other for being written back.
    ///
    /// # Safety
    /// `tuple` is a pinned one of an open table with these columns, which are an R's.
    pub(in crate::postgres) unsafe fn copy(tuple: pg_sys::HeapTuple, desc: pg_sys::TupleDesc, largest: usize) -> Row<R> {
        // SAFETY: `tuple` is a pinned tuple of a relation with this descriptor; the copy is
        // 8-aligned as tuples must be, and the datums made of it point into the copy, which the
        // returned Row keeps. Values stored out of line are fetched first.
        unsafe {
            let mut source = tuple;
            let outside = (*(*tuple).t_data).t_infomask & pg_sys::HEAP_HASEXTERNAL as u16 != 0;
            let outside = if outside { outside_bytes(tuple, desc) } else { 0 };
            let external = outside > 0 && outside <= largest;
            if external {
                source = pg_sys::ffi::pg_guard_ffi_boundary(|| raw::toast_flatten_tuple(tuple, desc));
            }
            let length = (*source).t_len as usize;
            crate::postgres::memory::require(length);
            let mut memory = vec![0u64; length.div_ceil(8)].into_boxed_slice();
            std::ptr::copy_nonoverlapping((*source).t_data as *const u8, memory.as_mut_ptr() as *mut u8, length);
            let mut header = pg_sys::HeapTupleData {
                t_len: length as u32,
                t_self: (*tuple).t_self,
                t_tableOid: (*tuple).t_tableOid,
                t_data: memory.as_mut_ptr() as *mut _,
            };
            let columns = (*desc).natts as usize;
            let mut values = vec![pg_sys::Datum::from(0usize); columns];
            let mut nulls = vec![true; columns];
            pg_sys::heap_deform_tuple(&mut header, desc, values.as_mut_ptr(), nulls.as_mut_ptr());
            let mask = (*(*tuple).t_data).t_infomask as u32;
            let in_flux = is_in_flux((*tuple).t_data);
            if external {
                pg_sys::pfree(source.cast());
            }
            let own = mask & pg_sys::HEAP_XMIN_COMMITTED == 0
                && raw::TransactionIdIsCurrentTransactionId((*(*tuple).t_data).t_choice.t_heap.t_xmin);
            Row {
                _memory: memory,
                values,
                nulls,
                tid: Tid::of(&(*tuple).t_self),
                in_flux,
                own,
                written_by: if mask & pg_sys::HEAP_XMIN_FROZEN == pg_sys::HEAP_XMIN_FROZEN {
                    0
                } else {
                    (*(*tuple).t_data).t_choice.t_heap.t_xmin.into_inner()
                },
                outside,
                converted: RefCell::default(),
                read: (header.t_tableOid.to_u32(), LocalId::now()),
                of: PhantomData,
            }
        }
    }

    /// Makes sure that what it says can't be undone by a crash: whoever wrote it may have committed without waiting for the disk.
    pub fn flush(&self) {
        if self.written_by >= pg_sys::FirstNormalTransactionId.into_inner() {
            // SAFETY: a transaction that has committed, for the row was seen; what knows how it ended is there while rows have its id.
            unsafe {
                let end = pg_sys::TransactionIdGetCommitLSN(pg_sys::TransactionId::from_inner(self.written_by));
                if end != 0 {
                    pg_sys::XLogFlush(end);
                }
            }
        }
    }

    /// Panics unless the row was read from this table in this transaction: what it saw then is nobody's to prune since.
    pub(in crate::postgres) fn require_fresh(&self, table: u32) {
        assert!(self.read == (table, LocalId::now()), "a row is changed in the transaction that has read it");
    }
    /// What the column holds; None = NULL.
    pub fn get<K: Kind>(&self, column: Column<R, K>) -> Option<K::Read<'_>> {
        // SAFETY: a row of an R is only read from a table that has its types (Table::of).
        unsafe { K::read(self, column.number()) }
    }
    /// Whether the column holds anything.
    pub fn has<K>(&self, column: Column<R, K>) -> bool {
        !self.nulls[column.number() - 1]
    }
    /// A copy of a text.
    pub fn text(&self, column: Column<R, Text>) -> Option<String> {
        self.get(column).map(str::to_string)
    }
    /// An interval that is added to an instant.
    pub fn period(&self, column: Column<R, column::Interval>) -> Option<Period> {
        self.get(column).map(|interval| interval::period_of(&interval))
    }
    /// How long an interval is; a month counts 30 days.
    pub fn span(&self, column: Column<R, column::Interval>) -> Option<Span> {
        self.get(column).map(|interval| interval::span_of(&interval))
    }
    /// One of a few, or what is none of them.
    pub fn letter<E: Letter>(&self, column: Column<R, Kept<E>>) -> E {
        self.get(column).unwrap_or_default()
    }
    /// A document as it is, not looked into.
    pub fn document(&self, column: Column<R, Json>) -> Option<Jsonb> {
        // SAFETY: a jsonb of this row.
        self.datum(column.number()).map(|d| unsafe { Jsonb::from_datum(d) })
    }
    /// Whether the column's value is here to be read. What was too large stays outside: to read it would fetch it after all.
    pub fn is_here<K: OfAnyLength>(&self, column: Column<R, K>) -> bool {
        self.is_inside(column.number())
    }
    /// Whether the column has a value that stands out of line and was not fetched.
    pub fn lacks<K: OfAnyLength>(&self, column: Column<R, K>) -> bool {
        self.has(column) && !self.is_here(column)
    }
    /// Bytes of the column's value as it would be in memory; without reading it.
    pub fn length<K: OfAnyLength>(&self, column: Column<R, K>) -> Option<usize> {
        self.size(column.number())
    }

    /// All its columns, for a row like this one.
    pub fn as_it_is(&self) -> Vec<Set<'_, R>>
    where
        R: Relation,
    {
        (1..=R::TYPES.len()).map(|n| Set::new(n, self.value(n))).collect()
    }

    pub(in crate::postgres) fn cells(&self) -> (&[pg_sys::Datum], &[bool]) {
        (&self.values, &self.nulls)
    }
    /// The datum of column `n` (from 1): not to be used after this row.
    pub(in crate::postgres) fn datum(&self, n: usize) -> Option<pg_sys::Datum> {
        (!self.nulls[n - 1]).then(|| self.values[n - 1])
    }
    pub(in crate::postgres) fn value(&self, n: usize) -> Value<'_> {
        self.datum(n).map_or(Value::Null, Value::Raw)
    }
    /// Of a column of a type of variable length.
    fn is_inside(&self, n: usize) -> bool {
        // SAFETY: a datum that isn't null, of a type of variable length.
        self.datum(n).is_some_and(|d| !unsafe { pgrx::varatt_is_1b_e(d.cast_mut_ptr()) })
    }
    /// Of a column of a type of variable length.
    fn size(&self, n: usize) -> Option<usize> {
        // SAFETY: a datum that isn't null, of a type of variable length; its header says it, or the pointer's does.
        self.datum(n).map(|d| unsafe { pg_sys::toast_raw_datum_size(d) } - size_of::<i32>())
    }
    /// # Safety
    /// The column is a uuid.
    pub(in crate::postgres) unsafe fn uuid(&self, n: usize) -> Option<Id> {
        // SAFETY: 16 bytes.
        self.datum(n).map(|d| Id::of_bytes(unsafe { *d.cast_mut_ptr::<[u8; 16]>() }))
    }
    /// # Safety
    /// The column is an interval.
    pub(in crate::postgres) unsafe fn interval(&self, n: usize) -> Option<Interval> {
        // SAFETY: see above.
        self.datum(n).and_then(|d| unsafe { Interval::from_datum(d, false) })
    }
    /// None for more than anybody could mean: a row's owner can write anything, and it would be unpacked for it.
    ///
    /// # Safety
    /// The column is a text.
    pub(in crate::postgres) unsafe fn str(&self, n: usize) -> Option<&str> {
        let datum = self.datum(n).filter(|_| self.is_inside(n) && self.size(n).is_some_and(|bytes| bytes <= TEXT_MAX))?;
        // SAFETY: a datum that isn't null.
        if text::is_utf8() && !unsafe { pgrx::varatt_is_4b_c(datum.cast_mut_ptr()) } {
            // SAFETY: see above; what isn't compressed is read where it is, in this row.
            return unsafe { <&str>::from_datum(datum, false) };
        }
        // SAFETY: see above.
        let converted = unsafe { text::of_datum(datum) }.into_boxed_str();
        let place: *const str = &*converted;
        self.converted.borrow_mut().push(converted);
        // SAFETY: the row keeps the box, whose content doesn't move with it, for as long as itself.
        Some(unsafe { &*place })
    }
    /// # Safety
    /// The column is a jsonb.
    pub(in crate::postgres) unsafe fn json(&self, n: usize) -> Option<serde_json::Value> {
        // SAFETY: see above.
        self.datum(n).filter(|_| self.is_inside(n)).and_then(|d| unsafe { types::parse_document(d) })
    }
    /// # Safety
    /// The column is an array of texts.
    pub(in crate::postgres) unsafe fn texts(&self, n: usize) -> Option<Vec<String>> {
        let datum = self.datum(n).filter(|_| self.is_inside(n))?;
        // SAFETY: see above.
        (self.size(n)? <= TEXT_MAX).then(|| unsafe { text::of_array(datum) })
    }
}

/// A row as it was read, or read again with all that stands out of line.
pub enum Whole<'r, R> {
    AsRead(&'r Row<R>),
    Again(Row<R>),
}

impl<R> std::ops::Deref for Whole<'_, R> {
    type Target = Row<R>;
    fn deref(&self) -> &Row<R> {
        match self {
            Whole::AsRead(row) => row,
            Whole::Again(row) => row,
        }
    }
}

/// Bytes that a tuple's values stored out of line take in memory, without fetching them.
unsafe fn outside_bytes(tuple: pg_sys::HeapTuple, desc: pg_sys::TupleDesc) -> usize {
    // SAFETY: a tuple of this descriptor; sizes are read from the pointers that it holds.
    unsafe {
        let columns = (*desc).natts as usize;
        let mut values = vec![pg_sys::Datum::from(0usize); columns];
        let mut nulls = vec![true; columns];
        pg_sys::heap_deform_tuple(tuple, desc, values.as_mut_ptr(), nulls.as_mut_ptr());
        (0..columns)
            .filter(|n| !nulls[*n] && (*crate::postgres::catalog::attribute(desc, *n as i32)).attlen == -1)
            .map(|n| values[n])
            .filter(|value| pgrx::varatt_is_1b_e(value.cast_mut_ptr()))
            .map(|value| pg_sys::toast_raw_datum_size(value))
            .sum()
    }
}

mod raw {
    use pgrx::pg_sys;
    unsafe extern "C-unwind" {
        pub fn toast_flatten_tuple(tuple: pg_sys::HeapTuple, desc: pg_sys::TupleDesc) -> pg_sys::HeapTuple;
        pub fn TransactionIdIsInProgress(xid: pg_sys::TransactionId) -> bool;
        pub fn TransactionIdDidCommit(xid: pg_sys::TransactionId) -> bool;
        pub fn MultiXactIdIsRunning(multi: pg_sys::TransactionId, locks_only: bool) -> bool;
        pub fn HeapTupleGetUpdateXid(header: pg_sys::HeapTupleHeader) -> pg_sys::TransactionId;
        pub fn TransactionIdIsCurrentTransactionId(xid: pg_sys::TransactionId) -> bool;
    }
}
