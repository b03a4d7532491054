//! Going through a table's rows one after the other: as they lie, or by an index.

use super::course::{Course, SearchKey};
use super::{Holding, Letters, Order, Searched};
use crate::postgres::column::{Column, Int2, Int4, Kept, Relation, Text, Time, Uuid, Value};
use crate::postgres::error::{Error, Result};
use crate::postgres::relation::Table;
use crate::postgres::row::Row;
use crate::postgres::sqlstate::SqlState;
use crate::postgres::{catalog, text};
use crate::pure::ids::Id;
use crate::pure::state::Letter;
use crate::pure::time::At;
use pgrx::pg_sys;
use std::marker::PhantomData;

/// The row that a walk stands on: what it holds is there until the walk goes on.
pub struct Passing<'w, R> {
    slot: *mut pg_sys::TupleTableSlot,
    walk: PhantomData<&'w ()>,
    of: PhantomData<fn() -> R>,
}

impl<R: Relation> Passing<'_, R> {
    /// # Safety
    /// The slot holds a row of an R.
    pub(super) unsafe fn on(slot: *mut pg_sys::TupleTableSlot) -> Self {
        Passing { slot, walk: PhantomData, of: PhantomData }
    }
    /// The datum of column `n`, from 1; None = NULL.
    pub(super) fn cell(&self, n: usize) -> Option<pg_sys::Datum> {
        // SAFETY: the slot holds a row that has that column; values are taken out of it as far as needed.
        unsafe {
            if ((*self.slot).tts_nvalid as usize) < n {
                pg_sys::slot_getsomeattrs_int(self.slot, n as i32);
            }
            (!*(*self.slot).tts_isnull.add(n - 1)).then(|| *(*self.slot).tts_values.add(n - 1))
        }
    }
    pub fn has<K>(&self, column: Column<R, K>) -> bool {
        self.cell(column.number()).is_some()
    }
    pub fn letter<E: Letter>(&self, column: Column<R, Kept<E>>) -> E {
        self.cell(column.number()).map_or_else(E::default, |datum| E::of_letter(datum.value() as u8))
    }
    pub fn int2(&self, column: Column<R, Int2>) -> Option<i16> {
        self.cell(column.number()).map(|datum| datum.value() as i16)
    }
    pub fn int4(&self, column: Column<R, Int4>) -> Option<i32> {
        self.cell(column.number()).map(|datum| datum.value() as i32)
    }
    pub fn time(&self, column: Column<R, Time>) -> Option<At> {
        self.cell(column.number()).map(|datum| At::of_micros(datum.value() as i64))
    }
    pub fn uuid(&self, column: Column<R, Uuid>) -> Option<Id> {
        // SAFETY: 16 bytes.
        self.cell(column.number()).map(|datum| Id::of_bytes(unsafe { *datum.cast_mut_ptr::<[u8; 16]>() }))
    }
    /// A copy.
    pub fn text(&self, column: Column<R, Text>) -> Option<String> {
        // SAFETY: a text.
        self.cell(column.number()).map(|datum| unsafe { text::of_datum(datum) })
    }
    /// A copy of the row without these columns, which are null in it. It can be read, not changed.
    pub fn copy_without(&self, columns: &[usize]) -> Row<R> {
        // SAFETY: a tuple is made of the slot's values and copied; what it was made of outlives that. Its header is a
        // composite's, and made that of a row that is there for good.
        unsafe {
            let desc = (*self.slot).tts_tupleDescriptor;
            let count = (*desc).natts as usize;
            let mut values: Vec<pg_sys::Datum> = Vec::with_capacity(count);
            let mut nulls: Vec<bool> = Vec::with_capacity(count);
            for n in 1..=count {
                let cell = if columns.contains(&n) { None } else { self.cell(n) };
                nulls.push(cell.is_none());
                values.push(cell.unwrap_or(pg_sys::Datum::from(0usize)));
            }
            let tuple = pg_sys::heap_form_tuple(desc, values.as_mut_ptr(), nulls.as_mut_ptr());
            (*(*tuple).t_data).t_infomask |= (pg_sys::HEAP_XMAX_INVALID | pg_sys::HEAP_XMIN_FROZEN) as u16;
            let row = Row::copy(tuple, desc, usize::MAX);
            pg_sys::heap_freetuple(tuple);
            row
        }
    }
}

enum Scan {
    Rows(pg_sys::TableScanDesc),
    Index(pg_sys::IndexScanDesc),
    /// No row can be meant.
    Nothing,
}

/// What a key is compared with, this time.
pub enum Sought {
    Null,
    One(pg_sys::Datum),
    /// Each once.
    Any(Vec<pg_sys::Datum>),
}

pub(super) struct Walk {
    scan: Option<Scan>,
    keys: Vec<pg_sys::ScanKeyData>,
    /// Which key has several values, and those that are still to be looked for.
    several: usize,
    left: Vec<pg_sys::Datum>,
    direction: pg_sys::ScanDirection::Type,
    slot: *mut pg_sys::TupleTableSlot,
    snapshot: pg_sys::Snapshot,
    ended: bool,
    /// Where a scan keeps what it needs from one row to the next.
    memory: pg_sys::MemoryContext,
}

impl Walk {
    /// # Safety
    /// The table, the snapshot and the current memory context outlive it.
    pub unsafe fn new<R>(table: &Table<R>, snapshot: pg_sys::Snapshot) -> Walk {
        // SAFETY: of an open table's descriptor.
        let slot = unsafe { pg_sys::MakeSingleTupleTableSlot((*table.relation()).rd_att, &raw const pg_sys::TTSOpsBufferHeapTuple) };
        let direction = pg_sys::ScanDirection::ForwardScanDirection;
        // SAFETY: reads a variable.
        let memory = unsafe { pg_sys::CurrentMemoryContext };
        Walk { scan: None, keys: Vec::new(), several: 0, left: Vec::new(), direction, slot, snapshot, ended: false, memory }
    }

    /// Whether it is under way.
    pub fn has_begun(&self) -> bool {
        self.scan.is_some()
    }

    /// Sets out.
    ///
    /// # Safety
    /// `sought`: a value for each key of the course, of its type, that lives until the walk ends.
    pub unsafe fn begin<R: Relation>(
        &mut self,
        table: &Table<R>,
        orders: &'static [Order<R>],
        course: &Course,
        sought: Vec<Sought>,
    ) -> Result<()> {
        // SAFETY: memory of the execution, which outlives every row's, where this is called.
        let before = unsafe { pg_sys::MemoryContextSwitchTo(self.memory) };
        // SAFETY: the caller's promise.
        let begun = unsafe { self.set_out(table, orders, course, sought) };
        // SAFETY: as it was.
        unsafe { pg_sys::MemoryContextSwitchTo(before) };
        begun
    }

    unsafe fn set_out<R: Relation>(
        &mut self,
        table: &Table<R>,
        orders: &'static [Order<R>],
        course: &Course,
        sought: Vec<Sought>,
    ) -> Result<()> {
        self.keys.clear();
        self.left.clear();
        self.ended = false;
        self.direction =
            if course.backward { pg_sys::ScanDirection::BackwardScanDirection } else { pg_sys::ScanDirection::ForwardScanDirection };
        if sought.iter().any(|s| matches!(s, Sought::Null) || matches!(s, Sought::Any(all) if all.is_empty())) {
            self.scan = Some(Scan::Nothing);
            return Ok(());
        }
        let rows = self.snapshot;
        let Some(mut order) = course.order.map(|n| &orders[n]) else {
            // SAFETY: an open heap.
            self.scan = Some(Scan::Rows(unsafe { by_position(table.relation(), rows) }));
            return Ok(());
        };
        // SAFETY: a value for each key.
        let mut keys = unsafe { of_index(order, course, &sought) };
        if let Holding::AllBut(letter, whole) = order.holds
            && keys.iter().any(|key| key.column == 0 && (key.vague || key.values.iter().any(|v| v.value() as u8 == letter)))
        {
            // Not all of those are here: they are elsewhere, in the same order behind the first column.
            order = &orders[whole];
            // SAFETY: as above.
            keys = unsafe { of_index(order, course, &sought) };
        }
        if keys.iter().any(|key| key.values.is_empty()) {
            self.scan = Some(Scan::Nothing);
            return Ok(());
        }
        let Some(index) = table.try_index(order.index.0.iter().map(|part| part.0)) else {
            if course.ordered {
                return Err(missing(table));
            }
            // SAFETY: an open heap.
            self.scan = Some(Scan::Rows(unsafe { by_position(table.relation(), rows) }));
            return Ok(());
        };
        // SAFETY: keys on columns of the open index, of the types that its family has with the columns'; they live as long
        // as the scan, which is ended before any of it goes.
        unsafe {
            for key in &keys {
                let mut entry = pg_sys::ScanKeyData::default();
                pg_sys::ScanKeyEntryInitialize(
                    &mut entry,
                    0,
                    key.column as i16 + 1,
                    key.of.strategy as u16,
                    key.of_type,
                    *(*index.rel).rd_indcollation.add(key.column),
                    key.function,
                    key.values[0],
                );
                self.keys.push(entry);
            }
            if let Some((n, several)) = keys.iter().enumerate().find(|(_, key)| key.values.len() > 1) {
                self.several = n;
                self.left = several.values[1..].to_vec();
            }
            let (heap, count) = (table.relation(), self.keys.len() as i32);
            #[cfg(not(feature = "pg18"))]
            let scan = pg_sys::index_beginscan(heap, index.rel, self.snapshot, count, 0);
            #[cfg(feature = "pg18")]
            let scan = pg_sys::index_beginscan(heap, index.rel, self.snapshot, std::ptr::null_mut(), count, 0);
            pg_sys::index_rescan(scan, self.keys.as_mut_ptr(), count, std::ptr::null_mut(), 0);
            self.scan = Some(Scan::Index(scan));
        }
        Ok(())
    }

    /// The slot with the next row.
    pub fn advance(&mut self) -> Option<*mut pg_sys::TupleTableSlot> {
        // Asked once more, an index would begin again.
        if self.ended {
            return None;
        }
        // SAFETY: see begin().
        let before = unsafe { pg_sys::MemoryContextSwitchTo(self.memory) };
        let found = self.next();
        self.ended = found.is_none();
        // SAFETY: as it was.
        unsafe { pg_sys::MemoryContextSwitchTo(before) };
        found
    }

    fn next(&mut self) -> Option<*mut pg_sys::TupleTableSlot> {
        // SAFETY: the scan is open.
        unsafe {
            match self.scan.as_ref()? {
                Scan::Nothing => None,
                Scan::Rows(scan) => pg_sys::heap_getnextslot(*scan, self.direction, self.slot).then_some(self.slot),
                Scan::Index(scan) => loop {
                    if pg_sys::index_getnext_slot(*scan, self.direction, self.slot) {
                        return Some(self.slot);
                    }
                    self.keys.get_mut(self.several)?.sk_argument = self.left.pop()?;
                    pg_sys::index_rescan(*scan, self.keys.as_mut_ptr(), self.keys.len() as i32, std::ptr::null_mut(), 0);
                },
            }
        }
    }

    /// Back to before it has set out.
    pub fn stop(&mut self) {
        // SAFETY: each scan is ended once; the slot lets go of its page.
        unsafe {
            clear(self.slot);
            match self.scan.take() {
                Some(Scan::Rows(scan)) => pg_sys::heap_endscan(scan),
                Some(Scan::Index(scan)) => pg_sys::index_endscan(scan),
                Some(Scan::Nothing) | None => {}
            }
        }
    }

    pub fn close(mut self) {
        self.stop();
        // SAFETY: made by new().
        unsafe { pg_sys::ExecDropSingleTupleTableSlot(self.slot) };
    }
}

/// Takes what it holds out of a slot.
///
/// # Safety
/// A live slot.
pub(super) unsafe fn clear(slot: *mut pg_sys::TupleTableSlot) {
    // SAFETY: each kind of slot has this function, which frees what it holds and raises nothing.
    unsafe { ((*(*slot).tts_ops).clear.expect("every slot can be cleared"))(slot) }
}

/// # Safety
/// An open heap; the snapshot outlives the scan.
unsafe fn by_position(heap: pg_sys::Relation, snapshot: pg_sys::Snapshot) -> pg_sys::TableScanDesc {
    use pg_sys::ScanOptions::*;
    let flags = SO_TYPE_SEQSCAN | SO_ALLOW_STRAT | SO_ALLOW_SYNC | SO_ALLOW_PAGEMODE;
    // SAFETY: see above.
    unsafe { pg_sys::heap_beginscan(heap, snapshot, 0, std::ptr::null_mut(), std::ptr::null_mut(), flags) }
}

/// A key on a column of an index.
struct IndexKey {
    /// From 0.
    column: usize,
    of: SearchKey,
    of_type: pg_sys::Oid,
    function: pg_sys::Oid,
    /// One of these; none: no row.
    values: Vec<pg_sys::Datum>,
    /// Or others, which nobody knows.
    vague: bool,
}

/// The course's keys on columns of this index.
///
/// # Safety
/// A value of its type for each key of the course.
unsafe fn of_index<R>(order: &Order<R>, course: &Course, sought: &[Sought]) -> Vec<IndexKey> {
    let mut keys = Vec::new();
    for (of, sought) in course.keys.iter().zip(sought) {
        let Some(column) = order.searched.iter().position(|s| s.place() == of.place) else { continue };
        let given: &[pg_sys::Datum] = match sought {
            Sought::Null => &[],
            Sought::One(value) => std::slice::from_ref(value),
            Sought::Any(values) => values,
        };
        keys.push(match order.searched[column] {
            Searched::As(_) => {
                let (of_type, function, values) = (of.of_type, of.function, given.to_vec());
                IndexKey { column, of: *of, of_type, function, values, vague: false }
            }
            Searched::Word(_, letters) => {
                // SAFETY: a text.
                let letters: Vec<Letters> = given.iter().map(|word| letters(&unsafe { text::of_datum(*word) })).collect();
                let one = |l: &Letters| if let Letters::One(letter) = l { Some(pg_sys::Datum::from(*letter)) } else { None };
                let (of_type, function) = (pg_sys::CHAROID, pg_sys::Oid::from(pg_sys::F_CHAREQ));
                let vague = letters.contains(&Letters::Several);
                IndexKey { column, of: *of, of_type, function, values: letters.iter().filter_map(one).collect(), vague }
            }
        });
    }
    keys
}

fn missing<R>(table: &Table<R>) -> Error {
    let name = catalog::qualified_name(table.oid());
    Error::new(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, format!("table {name} lacks an index that gives this order"))
        .detail("It was made by an older version of tenant_q.")
        .hint("SELECT fix FROM tq_problems; names the statement that makes it.")
}

impl<'w, R: Relation> Passing<'w, R> {
    /// A column of the row, as it is.
    pub fn own<K>(&self, column: Column<R, K>) -> Value<'w> {
        self.cell(column.number()).map_or(Value::Null, Value::Raw)
    }
}
