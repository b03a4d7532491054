//! Walking over rows by an index: an iterator that holds the scan, its snapshot and what it compares with.

use crate::postgres::column::{Column, Compare, Index, Key, Part, Relation, Time, Value};
use crate::postgres::relation::{OpenIndex, Table};
use crate::postgres::row::Row;
use crate::pure::ids::Id;
use crate::pure::time::At;
use pgrx::pg_sys;

/// `(time, id) >= (…, …)` on neighbouring columns of an index, of which `time` is the first.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct From {
    pub time: At,
    pub id: Id,
}

/// Rows that match, in the order of the index, as the snapshot saw them that was active when the walk began. See
/// [`Table::scan`].
pub struct Scan<'t, R: Relation> {
    table: &'t Table<R>,
    index: OpenIndex,
    parts: &'t [Part<R>],
    keys: Vec<pg_sys::ScanKeyData>,
    /// Members of a row comparison, which the last key points to.
    members: Option<Box<[pg_sys::ScanKeyData; 2]>>,
    direction: pg_sys::ScanDirection::Type,
    open: Option<Opened>,
    /// It has come to its end: asked once more, an index would begin again.
    ended: bool,
}

struct Opened {
    scan: pg_sys::IndexScanDesc,
    slot: *mut pg_sys::TupleTableSlot,
    snapshot: pg_sys::Snapshot,
}

impl<R: Relation> Table<R> {
    /// Rows for which all of `keys`, on columns of the index, hold.
    pub fn scan<'t>(&'t self, index: &'t Index<R>, keys: &[Key<R>]) -> Scan<'t, R> {
        let open = self.index(index.0.iter().map(|part| part.0));
        let keys = keys
            .iter()
            .map(|key| {
                let place = index.0.iter().position(|part| part.0.unsigned_abs() as usize == key.column);
                // SAFETY: the index has that column.
                unsafe { scan_key(open.rel, place.expect("a key is on a column of the index") + 1, key) }
            })
            .collect();
        let direction = pg_sys::ScanDirection::ForwardScanDirection;
        Scan { table: self, index: open, parts: index.0, keys, members: None, direction, open: None, ended: false }
    }

    /// The first row for which the key holds, by the index over its column alone.
    pub fn find(&self, key: Key<R>) -> Option<Row<R>> {
        let open = self.index(std::iter::once(key.column as i16));
        // SAFETY: the index's only column.
        let keys = vec![unsafe { scan_key(open.rel, 1, &key) }];
        let direction = pg_sys::ScanDirection::ForwardScanDirection;
        Scan { table: self, index: open, parts: &[], keys, members: None, direction, open: None, ended: false }.next()
    }
}

impl<R: Relation> Scan<'_, R> {
    /// Begins there, if it is said: `time` is a column of the index, behind which it has an id.
    pub fn from(mut self, time: Column<R, Time>, from: Option<&From>) -> Self {
        let Some(from) = from else { return self };
        let place =
            self.parts.iter().position(|part| part.0.unsigned_abs() as usize == time.number()).expect("a column of the index") as i16 + 1;
        let members = self.members.insert(Box::new([
            row_member(place, pg_sys::F_TIMESTAMPTZ_CMP, Value::Time(from.time), 0),
            row_member(place + 1, pg_sys::F_UUID_CMP, Value::Uuid(from.id), pg_sys::SK_ROW_END),
        ]));
        let header = pg_sys::ScanKeyData {
            sk_flags: pg_sys::SK_ROW_HEADER as i32,
            sk_attno: place,
            sk_strategy: Compare::Ge as u16,
            sk_argument: pg_sys::Datum::from(members.as_mut_ptr()),
            ..Default::default()
        };
        self.keys.push(header);
        self
    }

    pub fn backward(mut self) -> Self {
        self.direction = pg_sys::ScanDirection::BackwardScanDirection;
        self
    }

    /// The slot with the next row, if there is one.
    fn advance(&mut self) -> Option<*mut pg_sys::TupleTableSlot> {
        if self.ended {
            return None;
        }
        // SAFETY: keys and what they point to live as long as this, which ends the scan; nothing else does. An ERROR leaves it
        // to the transaction's resource owner. The snapshot is registered, so that it lives as long.
        unsafe {
            let Opened { scan, slot, .. } = *self.open.get_or_insert_with(|| {
                let snapshot = pg_sys::RegisterSnapshot(pg_sys::GetActiveSnapshot());
                let (heap, n) = (self.table.relation(), self.keys.len() as i32);
                #[cfg(not(feature = "pg18"))]
                let scan = pg_sys::index_beginscan(heap, self.index.rel, snapshot, n, 0);
                #[cfg(feature = "pg18")]
                let scan = pg_sys::index_beginscan(heap, self.index.rel, snapshot, std::ptr::null_mut(), n, 0);
                pg_sys::index_rescan(scan, self.keys.as_mut_ptr(), n, std::ptr::null_mut(), 0);
                let slot = pg_sys::MakeSingleTupleTableSlot((*heap).rd_att, &raw const pg_sys::TTSOpsBufferHeapTuple);
                Opened { scan, slot, snapshot }
            });
            self.ended = !pg_sys::index_getnext_slot(scan, self.direction, slot);
            (!self.ended).then_some(slot)
        }
    }

    /// Goes on without reading the row; false = there is none.
    pub fn pass(&mut self) -> bool {
        self.advance().is_some()
    }
}

impl<R: Relation> Iterator for Scan<'_, R> {
    type Item = Row<R>;

    fn next(&mut self) -> Option<Row<R>> {
        let slot = self.advance()?;
        let mut free = false;
        // SAFETY: the slot holds a row of this table, which is copied out while the slot pins it.
        unsafe {
            let tuple = pg_sys::ExecFetchSlotHeapTuple(slot, false, &mut free);
            Some(Row::copy(tuple, (*self.table.relation()).rd_att, self.table.fetches_at_most()))
        }
    }
}

impl<R: Relation> std::iter::FusedIterator for Scan<'_, R> {}

impl<R: Relation> Drop for Scan<'_, R> {
    fn drop(&mut self) {
        // After an ERROR the transaction's abort ends everything; see Table.
        if std::thread::panicking() {
            return;
        }
        if let Some(Opened { scan, slot, snapshot }) = self.open.take() {
            // SAFETY: begun by us, ended once.
            unsafe {
                pg_sys::ExecDropSingleTupleTableSlot(slot);
                pg_sys::index_endscan(scan);
                pg_sys::UnregisterSnapshot(snapshot);
            }
        }
    }
}

/// The comparison function of `compare` for the value's type.
fn procedure(value: &Value, compare: Compare) -> u32 {
    use Compare::*;
    match (value, compare) {
        (Value::Uuid(_), Eq) => pg_sys::F_UUID_EQ,
        (Value::Uuid(_), Gt) => pg_sys::F_UUID_GT,
        (Value::Uuid(_), Ge) => pg_sys::F_UUID_GE,
        (Value::Uuid(_), Le) => pg_sys::F_UUID_LE,
        (Value::Text(_), Eq) => pg_sys::F_TEXTEQ,
        (Value::Text(_), Gt) => pg_sys::F_TEXT_GT,
        (Value::Char(_), Eq) => pg_sys::F_CHAREQ,
        (Value::I16(_), Eq) => pg_sys::F_INT2EQ,
        (Value::I16(_), Lt) => pg_sys::F_INT2LT,
        (Value::I16(_), Le) => pg_sys::F_INT2LE,
        (Value::I16(_), Gt) => pg_sys::F_INT2GT,
        (Value::Time(_), Le) => pg_sys::F_TIMESTAMPTZ_LE,
        (Value::Time(_), Lt) => pg_sys::F_TIMESTAMPTZ_LT,
        (Value::Time(_), Ge) => pg_sys::F_TIMESTAMPTZ_GE,
        (Value::Time(_), Gt) => pg_sys::F_TIMESTAMPTZ_GT,
        _ => unreachable!("no index of ours is searched like that"),
    }
}

/// # Safety
/// `place` is of a column of the open index, from 1, and of the key's type.
unsafe fn scan_key<R>(index: pg_sys::Relation, place: usize, key: &Key<R>) -> pg_sys::ScanKeyData {
    let mut entry = pg_sys::ScanKeyData::default();
    // SAFETY: see above.
    unsafe {
        let collation = *(*index).rd_indcollation.add(place - 1);
        pg_sys::ScanKeyEntryInitialize(
            &mut entry,
            0,
            place as i16,
            key.compare as u16,
            pg_sys::InvalidOid,
            collation,
            pg_sys::Oid::from(procedure(&key.value, key.compare)),
            key.value.datum().expect("nothing is compared with NULL"),
        );
    }
    entry
}

fn row_member(column: i16, cmp: u32, value: Value, flags: u32) -> pg_sys::ScanKeyData {
    let mut entry = pg_sys::ScanKeyData::default();
    // SAFETY: the comparison function belongs to the column's type.
    unsafe {
        pg_sys::ScanKeyEntryInitialize(
            &mut entry,
            (pg_sys::SK_ROW_MEMBER | flags) as i32,
            column,
            Compare::Ge as u16,
            pg_sys::InvalidOid,
            pg_sys::InvalidOid,
            pg_sys::Oid::from(cmp),
            value.datum().expect("not NULL"),
        );
    }
    entry
}
