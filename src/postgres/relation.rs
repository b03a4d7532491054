//! Reading and writing our own tables by OID, as logical replication's apply does: no names, no
//! planner, no expression, trigger or privilege of anybody is evaluated. Whoever opens a tenant's
//! table checks its shape first (tenant/shape.rs): ordinary table, our columns, our indexes,
//! nothing attached to it. Then nothing that runs here can be the tenant's code.

use crate::postgres::text;
use crate::postgres::types::Jsonb;
use crate::pure::cache::Bounded;
use pgrx::pg_sys;
use pgrx::{FromDatum, IntoDatum};
use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;

/// A value for a column or an index key.
#[derive(Clone, Copy)]
pub enum Value<'a> {
    Null,
    Uuid(u128),
    Text(&'a str),
    Char(u8),
    I16(i16),
    I32(i32),
    I64(i64),
    Time(i64),
    Bool(bool),
    Json(&'a Jsonb),
    /// A datum of the right type, as read from a row that is still alive.
    Raw(Option<pg_sys::Datum>),
}

impl<'a> Value<'a> {
    pub fn text(t: Option<&'a str>) -> Value<'a> {
        t.map_or(Value::Null, Value::Text)
    }
    pub fn json(j: Option<&'a Jsonb>) -> Value<'a> {
        j.map_or(Value::Null, Value::Json)
    }
    pub fn time(t: Option<i64>) -> Value<'a> {
        t.map_or(Value::Null, Value::Time)
    }
    pub fn uuid(u: Option<u128>) -> Value<'a> {
        u.map_or(Value::Null, Value::Uuid)
    }

    /// Allocates in the current memory context.
    fn datum(&self) -> (pg_sys::Datum, bool) {
        match *self {
            Value::Null | Value::Raw(None) => (pg_sys::Datum::from(0usize), true),
            Value::Uuid(id) => {
                // SAFETY: 16 bytes from palloc, filled whole: the representation of uuid.
                let p = unsafe {
                    let p = pg_sys::palloc(16) as *mut u8;
                    std::ptr::copy_nonoverlapping(id.to_be_bytes().as_ptr(), p, 16);
                    p
                };
                (pg_sys::Datum::from(p), false)
            }
            Value::Text(t) => (t.into_datum().expect("text is not null"), false),
            Value::Char(c) => (pg_sys::Datum::from(c), false),
            Value::I16(v) => (pg_sys::Datum::from(v), false),
            Value::I32(v) => (pg_sys::Datum::from(v), false),
            Value::I64(v) | Value::Time(v) => (pg_sys::Datum::from(v), false),
            Value::Bool(v) => (pg_sys::Datum::from(v), false),
            Value::Json(j) => (j.datum(), false),
            Value::Raw(Some(d)) => (d, false),
        }
    }
}

/// A row's place in its table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tid(pub u64);

impl Tid {
    pub fn page(self) -> u64 {
        self.0 >> 16
    }
    fn of(p: &pg_sys::ItemPointerData) -> Tid {
        Tid(((p.ip_blkid.bi_hi as u64) << 32) | ((p.ip_blkid.bi_lo as u64) << 16) | p.ip_posid as u64)
    }
    fn pointer(self) -> pg_sys::ItemPointerData {
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

/// A row, copied out: owns its memory, lives as long as one likes.
pub struct Row {
    _memory: Box<[u64]>,
    values: Vec<pg_sys::Datum>,
    nulls: Vec<bool>,
    pub tid: Tid,
    /// A transaction has marked the row for deletion, update or lock and hadn't ended then; or it has
    /// deleted or updated it since the snapshot.
    pub in_flux: bool,
    /// This very transaction has inserted it.
    pub own: bool,
    /// Bytes of what is stored out of line, as it would be in memory.
    pub outside: usize,
    /// Texts that had to be converted to be read.
    converted: RefCell<Vec<Box<str>>>,
}

impl Row {
    /// What is stored out of line is fetched, unless it has more than `largest` bytes in all: then those
    /// values are pointers to it, as good as any other for being written back.
    fn copy(tuple: pg_sys::HeapTuple, desc: pg_sys::TupleDesc, largest: usize) -> Row {
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
            Row { _memory: memory, values, nulls, tid: Tid::of(&(*tuple).t_self), in_flux, own, outside, converted: RefCell::default() }
        }
    }

    /// The datum of column `n` (from 1), for handing on while this row lives.
    pub fn raw(&self, n: usize) -> Option<pg_sys::Datum> {
        (!self.nulls[n - 1]).then(|| self.values[n - 1])
    }
    pub fn value(&self, n: usize) -> Value<'_> {
        Value::Raw(self.raw(n))
    }
    fn get<T: FromDatum>(&self, n: usize) -> Option<T> {
        // SAFETY: the column's type is checked by whoever opened the table (tenant/shape.rs, or a table
        // of the extension's own).
        unsafe { T::from_datum(self.values[n - 1], self.nulls[n - 1]) }
    }
    pub fn uuid(&self, n: usize) -> Option<u128> {
        self.raw(n).map(|d| {
            // SAFETY: a uuid column: 16 bytes.
            let bytes = unsafe { *(d.cast_mut_ptr::<[u8; 16]>()) };
            u128::from_be_bytes(bytes)
        })
    }
    /// Whether the column, which is of a type of variable length, is here to be read. What was too large stays
    /// outside: to read it would fetch it after all.
    pub fn is_here(&self, n: usize) -> bool {
        // SAFETY: a datum that isn't null, of a type of variable length.
        self.raw(n).is_some_and(|d| !unsafe { pgrx::varatt_is_1b_e(d.cast_mut_ptr()) })
    }
    /// None also for what was not fetched; so do the other types of variable length.
    pub fn text(&self, n: usize) -> Option<String> {
        self.str(n).map(str::to_string)
    }
    /// Bytes of the column, which is of a type of variable length, as it would be in memory; without reading it.
    pub fn length(&self, n: usize) -> Option<usize> {
        // SAFETY: a datum that isn't null, of a type of variable length; its header says it, or the pointer's does.
        self.raw(n).map(|d| unsafe { pg_sys::toast_raw_datum_size(d) } - size_of::<i32>())
    }
    /// The column's text without a copy. None also for more than anybody could mean: a row's owner can write anything, and
    /// it would be unpacked for it.
    pub fn str(&self, n: usize) -> Option<&str> {
        let readable = self.is_here(n) && self.length(n)? <= TEXT_MAX;
        if text::is_utf8() {
            return readable.then(|| self.get::<&str>(n)).flatten();
        }
        let datum = self.raw(n).filter(|_| readable)?;
        let converted = text::of_datum(datum).into_boxed_str();
        let place: *const str = &*converted;
        self.converted.borrow_mut().push(converted);
        // SAFETY: the row keeps the box, whose content doesn't move with it, for as long as itself.
        Some(unsafe { &*place })
    }
    pub fn char(&self, n: usize) -> u8 {
        self.raw(n).map_or(0, |d| d.value() as u8)
    }
    pub fn i16(&self, n: usize) -> Option<i16> {
        self.raw(n).map(|d| d.value() as i16)
    }
    pub fn i32(&self, n: usize) -> Option<i32> {
        self.raw(n).map(|d| d.value() as i32)
    }
    pub fn i64(&self, n: usize) -> Option<i64> {
        self.raw(n).map(|d| d.value() as i64)
    }
    pub fn time(&self, n: usize) -> Option<i64> {
        self.i64(n)
    }
    pub fn bool(&self, n: usize) -> Option<bool> {
        self.raw(n).map(|d| d.value() & 0xFF != 0)
    }
    pub fn oid(&self, n: usize) -> Option<u32> {
        self.raw(n).map(|d| d.value() as u32)
    }
    /// None also for what a jsonb may hold and serde_json can't: numbers beyond a double, deep nesting.
    pub fn json(&self, n: usize) -> Option<serde_json::Value> {
        self.raw(n).filter(|_| self.is_here(n)).and_then(crate::postgres::types::parse_document)
    }
    pub fn interval(&self, n: usize) -> Option<pgrx::datum::Interval> {
        self.get(n)
    }
    pub fn texts(&self, n: usize) -> Option<Vec<String>> {
        let datum = self.raw(n).filter(|_| self.is_here(n))?;
        (self.length(n)? <= TEXT_MAX).then(|| text::of_array(datum))
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

/// One condition on an index column (from 1).
pub struct Key<'a> {
    pub column: i16,
    pub compare: Compare,
    pub value: Value<'a>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Compare {
    Lt = 1,
    Le = 2,
    Eq = 3,
    Ge = 4,
    Gt = 5,
}

/// `(run_at, id) >= (t, id)` on neighbouring index columns, the first being `column`.
pub struct RowKey {
    pub column: i16,
    pub time: i64,
    pub id: u128,
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

#[derive(PartialEq, Eq, Debug, Clone, Copy)]
pub enum Gone {
    /// Deleted or replaced now.
    Done,
    /// Somebody else's transaction has deleted or changed it.
    Lost,
}

/// What is known of an index without opening it.
///
/// Not only ours: whoever owns a table may have others (tenant/shape.rs), and while an index is built or built anew
/// concurrently there are copies that aren't valid yet or any more. All are written, ours are read.
#[derive(PartialEq)]
struct IndexShape {
    oid: pg_sys::Oid,
    /// Those of INCLUDE last.
    columns: Vec<i16>,
    keys: usize,
    unique: bool,
    /// Partial: holds rows where its first column isn't null (all our partial indexes are that).
    partial: bool,
    valid: bool,
    /// A valid btree that has all rows, in the usual order of its columns' types.
    readable: bool,
    /// By column.
    descending: Vec<bool>,
}

#[derive(Clone, Copy)]
struct Index {
    rel: pg_sys::Relation,
    info: *mut pg_sys::IndexInfo,
}

/// Relations whose indexes a process remembers, and the bytes that these may take.
const KEPT: usize = 65_536;
const KEPT_BYTES: usize = 16 << 20;

thread_local! {
    /// Indexes of the relations used lately: opening all of them for each use would cost more than
    /// the use.
    static SHAPES: RefCell<Bounded<u32, Rc<Vec<IndexShape>>>> = RefCell::new(Bounded::new(KEPT, KEPT_BYTES));
    static FORGET: Cell<bool> = const { Cell::new(false) };
}

/// What is read of a table's indexes, as of one moment. While one takes the place of another, a look at the one before and at
/// the other after that would find none of them valid: where there is any that isn't, it is looked at again until nothing
/// has changed.
pub fn settled<T: PartialEq>(read: impl Fn() -> Vec<T>, is_valid: impl Fn(&T) -> bool) -> Vec<T> {
    let mut found = read();
    for _ in 0..10 {
        if found.iter().all(&is_valid) {
            break;
        }
        crate::postgres::invalidation::accept();
        let again = read();
        if again == found {
            break;
        }
        found = again;
    }
    found
}

/// A relation's definition has changed (0: any may have). From the invalidation callback.
pub fn forget(relation: u32) {
    let known = SHAPES.with(|s| s.try_borrow().map_or(true, |s| relation == 0 || s.contains(&relation)));
    if known {
        FORGET.set(true);
    }
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
    /// What one of our own tuples says there; `otherwise` if it isn't told.
    fn in_values(&self, value: Option<&Value>, otherwise: u8) -> i64 {
        self.of(if let Some(Value::Char(c)) = value { *c } else { otherwise })
    }
}

/// An open table; its indexes are opened when they are needed. Closed on drop; the locks stay to
/// the end of the transaction.
pub struct Table {
    rel: pg_sys::Relation,
    /// Where what is opened later is kept: memory that lives as long as this.
    memory: pg_sys::MemoryContext,
    /// See Row::copy.
    largest: Cell<usize>,
    tally: Option<Tally>,
    shapes: OnceCell<Rc<Vec<IndexShape>>>,
    open: RefCell<Vec<Option<Index>>>,
}

impl Table {
    fn new(rel: pg_sys::Relation) -> Table {
        // SAFETY: reads a variable.
        let memory = unsafe { pg_sys::CurrentMemoryContext };
        Table { rel, memory, largest: Cell::new(usize::MAX), tally: None, shapes: OnceCell::new(), open: RefCell::default() }
    }

    /// Of rows that have more than this out of line, nothing of that is fetched.
    pub fn fetch_at_most(self, bytes: usize) -> Table {
        self.largest.set(bytes);
        self
    }

    /// What is written to it is counted.
    pub fn tallied(mut self, tally: Tally) -> Table {
        self.tally = Some(tally);
        self
    }
    fn count(&self, by: impl FnOnce(&Tally) -> i64) {
        if let Some(tally) = &self.tally {
            match by(tally) {
                0 => {}
                more => (tally.note)(tally.owner, more),
            }
        }
    }

    /// The same while `f` reads.
    pub fn fetching_at_most<T>(&self, bytes: usize, f: impl FnOnce() -> T) -> T {
        let usual = self.largest.replace(bytes);
        let value = f();
        self.largest.set(usual);
        value
    }

    /// Opens; waits for the lock. None: there is no such table (any more).
    pub fn open(oid: u32, access: Access) -> Option<Table> {
        // SAFETY: NULL when it doesn't exist.
        let rel = unsafe { pg_sys::try_relation_open(pg_sys::Oid::from(oid), access.mode()) };
        (!rel.is_null()).then(|| Table::new(rel))
    }

    /// Opens if the lock is to be had at once. `Err(())` = locked by somebody.
    pub fn try_open(oid: u32, access: Access) -> Result<Option<Table>, ()> {
        // SAFETY: the lock is taken before the open, as core does.
        unsafe {
            if !pg_sys::ConditionalLockRelationOid(pg_sys::Oid::from(oid), access.mode()) {
                return Err(());
            }
            pg_sys::AcceptInvalidationMessages();
            let rel = pg_sys::try_relation_open(pg_sys::Oid::from(oid), pg_sys::NoLock as i32);
            Ok((!rel.is_null()).then(|| Table::new(rel)))
        }
    }

    pub fn oid(&self) -> u32 {
        // SAFETY: an open relation.
        unsafe { (*self.rel).rd_id.to_u32() }
    }
    /// The relation itself, for catalog.rs.
    pub fn relation(&self) -> pg_sys::Relation {
        self.rel
    }
    fn desc(&self) -> pg_sys::TupleDesc {
        // SAFETY: an open relation.
        unsafe { (*self.rel).rd_att }
    }

    fn shapes(&self) -> &Rc<Vec<IndexShape>> {
        self.shapes.get_or_init(|| {
            if FORGET.replace(false) {
                SHAPES.with_borrow_mut(|s| s.clear());
            }
            if let Some(known) = SHAPES.with_borrow_mut(|s| s.get(&self.oid())) {
                return known;
            }
            let read = Rc::new(settled(|| self.read_shapes(), |index| index.valid));
            let bytes = read.iter().map(|shape| size_of::<IndexShape>() + 2 * shape.columns.len()).sum::<usize>() + 100;
            SHAPES.with_borrow_mut(|s| s.insert(self.oid(), read.clone(), bytes));
            read
        })
    }

    fn read_shapes(&self) -> Vec<IndexShape> {
        // SAFETY: walks the list of index OIDs of an open relation; each tuple is released.
        unsafe {
            let list = pg_sys::RelationGetIndexList(self.rel);
            let mut found = Vec::new();
            for i in 0..(if list.is_null() { 0 } else { (*list).length }) {
                let oid = (*(*list).elements.add(i as usize)).oid_value;
                let tuple = pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::INDEXRELID as i32, pg_sys::Datum::from(oid));
                if tuple.is_null() {
                    continue;
                }
                let form = pg_sys::GETSTRUCT(tuple) as *const pg_sys::FormData_pg_index;
                let (columns, keys) = ((*form).indnatts as usize, (*form).indnkeyatts as usize);
                let options = crate::postgres::catalog::index_options(tuple, keys);
                let classes = crate::postgres::catalog::index_classes(tuple, keys);
                found.push(IndexShape {
                    oid,
                    columns: (0..columns).map(|k| *(*form).indkey.values.as_ptr().add(k)).collect(),
                    keys,
                    unique: (*form).indisunique,
                    partial: !pg_sys::heap_attisnull(tuple, pg_sys::Anum_pg_index_indpred as i32, std::ptr::null_mut()),
                    valid: (*form).indisvalid,
                    readable: (*form).indisvalid
                        && keys == columns
                        && classes.iter().all(|class| crate::postgres::catalog::is_usual_btree_class(*class)),
                    descending: options.iter().map(|o| *o as u32 & pg_sys::INDOPTION_DESC != 0).collect(),
                });
                pg_sys::ReleaseSysCache(tuple);
            }
            found
        }
    }

    /// Runs `f` with index `n`, opened if it isn't yet.
    fn with_index<T>(&self, n: usize, f: impl FnOnce(&Index) -> T) -> T {
        let shapes = self.shapes();
        let mut open = self.open.borrow_mut();
        if open.is_empty() {
            open.resize_with(shapes.len(), || None);
        }
        let shape = &shapes[n];
        let index = open[n].get_or_insert_with(|| {
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
                Index { rel, info }
            }
        });
        // A copy: what `f` is handed rows by may look into the same table.
        let index = *index;
        drop(open);
        f(&index)
    }

    /// A row of these values; what its owner has added behind our columns is null.
    fn tuple(&self, values: &[Value]) -> pg_sys::HeapTuple {
        let (mut datums, mut nulls): (Vec<_>, Vec<_>) = values.iter().map(Value::datum).unzip();
        // SAFETY: one value a column, of the column's type; a dropped one has none.
        unsafe {
            let columns = (*self.desc()).natts as usize;
            assert!(values.len() <= columns, "no more values than columns");
            datums.resize(columns, pg_sys::Datum::from(0usize));
            nulls.resize(columns, true);
            for (i, null) in nulls.iter_mut().enumerate() {
                *null |= (*crate::postgres::catalog::attribute(self.desc(), i as i32)).attisdropped;
            }
            pg_sys::heap_form_tuple(self.desc(), datums.as_mut_ptr(), nulls.as_mut_ptr())
        }
    }

    fn index(&self, tuple: pg_sys::HeapTuple) {
        let desc = self.desc();
        // SAFETY: the tuple was just stored in this table.
        let (values, nulls) = unsafe {
            let columns = (*desc).natts as usize;
            let mut values = vec![pg_sys::Datum::from(0usize); columns];
            let mut nulls = vec![true; columns];
            pg_sys::heap_deform_tuple(tuple, desc, values.as_mut_ptr(), nulls.as_mut_ptr());
            (values, nulls)
        };
        for (n, shape) in self.shapes().iter().enumerate() {
            if shape.partial && nulls[shape.columns[0] as usize - 1] {
                continue;
            }
            let mut key_values = [pg_sys::Datum::from(0usize); pg_sys::INDEX_MAX_KEYS as usize];
            let mut key_nulls = [true; pg_sys::INDEX_MAX_KEYS as usize];
            for (k, column) in shape.columns.iter().enumerate() {
                key_values[k] = values[*column as usize - 1];
                key_nulls[k] = nulls[*column as usize - 1];
            }
            let check = if shape.unique { pg_sys::IndexUniqueCheck::UNIQUE_CHECK_YES } else { pg_sys::IndexUniqueCheck::UNIQUE_CHECK_NO };
            // SAFETY: indexes of plain columns; key arrays outlive the call.
            self.with_index(n, |index| unsafe {
                // Asked of the open index, as it is by now: one that is being built concurrently is to be written from a
                // moment on that the table's own definition doesn't tell of.
                if !(*(*index.rel).rd_index).indisready {
                    return;
                }
                pg_sys::index_insert(
                    index.rel,
                    key_values.as_mut_ptr(),
                    key_nulls.as_mut_ptr(),
                    &raw mut (*tuple).t_self,
                    self.rel,
                    check,
                    false,
                    index.info,
                );
            });
        }
    }

    /// Inserts a row. A duplicate key raises 23505.
    pub fn insert(&self, values: &[Value]) {
        let tuple = self.tuple(values);
        // SAFETY: a fresh tuple of this table's descriptor.
        unsafe { pg_sys::heap_insert(self.rel, tuple, pg_sys::GetCurrentCommandId(true), 0, std::ptr::null_mut()) };
        self.index(tuple);
        // SAFETY: made by heap_form_tuple above, not referenced any more.
        unsafe { pg_sys::heap_freetuple(tuple) };
        self.count(|t| t.in_values(values.get(t.column - 1), 0));
    }

    /// Deletes a row that was just read, waiting for whoever holds it.
    pub fn delete(&self, row: &Row) -> Gone {
        let mut pointer = row.tid.pointer();
        let mut failure = pg_sys::TM_FailureData::default();
        // SAFETY: heap_delete checks that the line pointer is a normal one only by assertion, so
        // callers come with a tid that fetch() or scan() has just returned in this transaction.
        let result = unsafe {
            pg_sys::heap_delete(self.rel, &mut pointer, pg_sys::GetCurrentCommandId(true), std::ptr::null_mut(), true, &mut failure, false)
        };
        if result != pg_sys::TM_Result::TM_Ok {
            return Gone::Lost;
        }
        self.count(|t| -t.of(row.char(t.column)));
        Gone::Done
    }

    /// Replaces columns of a row that was just read, waiting for whoever holds it: `changes` are
    /// (column from 1, value).
    #[must_use]
    pub fn update(&self, row: &Row, changes: &[(usize, Value)]) -> Gone {
        let mut values: Vec<Value> = (1..=row.values.len()).map(|n| row.value(n)).collect();
        for (column, value) in changes {
            values[column - 1] = *value;
        }
        let tuple = self.tuple(&values);
        let mut pointer = row.tid.pointer();
        let mut failure = pg_sys::TM_FailureData::default();
        let mut lock_mode = pg_sys::LockTupleMode::LockTupleExclusive;
        // SAFETY: a fresh tuple of this table's descriptor, the old one's place as read: see delete().
        unsafe {
            let command = pg_sys::GetCurrentCommandId(true);
            let none = std::ptr::null_mut();
            #[cfg(feature = "pg15")]
            let result = pg_sys::heap_update(self.rel, &mut pointer, tuple, command, none, true, &mut failure, &mut lock_mode);
            #[cfg(not(feature = "pg15"))]
            let result = {
                let mut which = pg_sys::TU_UpdateIndexes::TU_All;
                pg_sys::heap_update(self.rel, &mut pointer, tuple, command, none, true, &mut failure, &mut lock_mode, &mut which)
            };
            if result != pg_sys::TM_Result::TM_Ok {
                return Gone::Lost;
            }
            if (*(*tuple).t_data).t_infomask2 as u32 & pg_sys::HEAP_ONLY_TUPLE == 0 {
                self.index(tuple);
            }
        }
        self.count(|t| {
            let now = changes.iter().rev().find(|(column, _)| *column == t.column).map(|(_, value)| value);
            t.in_values(now, row.char(t.column)) - t.of(row.char(t.column))
        });
        Gone::Done
    }

    /// The row at `tid` as the active snapshot sees it.
    pub fn fetch(&self, tid: Tid) -> Option<Row> {
        // SAFETY: heap_fetch copes with any tid inside the relation: it returns false for what
        // isn't a visible tuple. Block numbers beyond the end are refused here.
        unsafe {
            let blocks = pg_sys::RelationGetNumberOfBlocksInFork(self.rel, pg_sys::ForkNumber::MAIN_FORKNUM);
            if (tid.0 >> 16) as u32 >= blocks {
                return None;
            }
            let mut tuple = pg_sys::HeapTupleData { t_self: tid.pointer(), ..Default::default() };
            let mut buffer = pg_sys::InvalidBuffer as pg_sys::Buffer;
            if !pg_sys::heap_fetch(self.rel, pg_sys::GetActiveSnapshot(), &mut tuple, &mut buffer, false) {
                return None;
            }
            let row = Row::copy(&mut tuple, self.desc(), self.largest.get());
            pg_sys::ReleaseBuffer(buffer);
            Some(row)
        }
    }

    /// Walks the rows that match, in the index's order, until `f` says false. The index is named
    /// by its place among this table's indexes as `index_with` finds it.
    pub fn scan(&self, index: usize, keys: &[Key], from: Option<&RowKey>, backward: bool, mut f: impl FnMut(Row) -> bool) {
        self.each(index, keys, from, backward, |slot| {
            let mut free = false;
            // SAFETY: the slot holds a row of this table, which is copied out while the slot pins it.
            unsafe {
                let tuple = pg_sys::ExecFetchSlotHeapTuple(slot, false, &mut free);
                f(Row::copy(tuple, self.desc(), self.largest.get()))
            }
        });
    }

    /// The same without reading them: `f` is called once for each.
    pub fn walk(&self, index: usize, keys: &[Key], mut f: impl FnMut() -> bool) {
        self.each(index, keys, None, false, |_| f());
    }

    fn each(
        &self,
        index: usize,
        keys: &[Key],
        from: Option<&RowKey>,
        backward: bool,
        mut f: impl FnMut(*mut pg_sys::TupleTableSlot) -> bool,
    ) {
        self.with_index(index, |index| {
            // SAFETY: scan keys live on this frame until index_endscan; nothing else ends the scan. An ERROR under `f` leaves the
            // scan to the transaction's resource owner.
            unsafe {
                let mut scan_keys: Vec<pg_sys::ScanKeyData> = keys.iter().map(|k| scan_key(index.rel, k)).collect();
                let mut members;
                if let Some(from) = from {
                    let mut header = pg_sys::ScanKeyData::default();
                    members = [
                        row_member(from.column, pg_sys::F_TIMESTAMPTZ_CMP, Value::Time(from.time), 0),
                        row_member(from.column + 1, pg_sys::F_UUID_CMP, Value::Uuid(from.id), pg_sys::SK_ROW_END),
                    ];
                    header.sk_flags = pg_sys::SK_ROW_HEADER as i32;
                    header.sk_attno = from.column;
                    header.sk_strategy = Compare::Ge as u16;
                    header.sk_argument = pg_sys::Datum::from(members.as_mut_ptr());
                    scan_keys.push(header);
                }
                let n = scan_keys.len() as i32;
                #[cfg(not(feature = "pg18"))]
                let scan = pg_sys::index_beginscan(self.rel, index.rel, pg_sys::GetActiveSnapshot(), n, 0);
                #[cfg(feature = "pg18")]
                let scan = pg_sys::index_beginscan(self.rel, index.rel, pg_sys::GetActiveSnapshot(), std::ptr::null_mut(), n, 0);
                pg_sys::index_rescan(scan, scan_keys.as_mut_ptr(), n, std::ptr::null_mut(), 0);
                let slot = pg_sys::MakeSingleTupleTableSlot(self.desc(), &raw const pg_sys::TTSOpsBufferHeapTuple);
                let direction =
                    if backward { pg_sys::ScanDirection::BackwardScanDirection } else { pg_sys::ScanDirection::ForwardScanDirection };
                while pg_sys::index_getnext_slot(scan, direction, slot) {
                    if !f(slot) {
                        break;
                    }
                }
                pg_sys::ExecDropSingleTupleTableSlot(slot);
                pg_sys::index_endscan(scan);
            }
        })
    }

    /// Which of this table's indexes has these columns (from 1; negative: descending) and can be read. Of several it is one of
    /// ours, or one that is the same: ours are partial or unique or have an order that is said here.
    pub fn index_with(&self, columns: &[i16]) -> usize {
        let is_it = |i: &IndexShape| {
            i.readable
                && i.keys == columns.len()
                && (0..i.keys).all(|k| i.columns[k] == columns[k].abs() && i.descending[k] == (columns[k] < 0))
        };
        let found = self.shapes().iter().enumerate().filter(|(_, i)| is_it(i));
        found.max_by_key(|(_, i)| (i.partial, i.unique)).map(|(n, _)| n).expect("the table's shape was checked")
    }

    /// The first row with `value` in the first column of the index over `columns`.
    pub fn find(&self, columns: &[i16], value: Value) -> Option<Row> {
        let mut found = None;
        self.scan(self.index_with(columns), &[Key { column: 1, compare: Compare::Eq, value }], None, false, |row| {
            found = Some(row);
            false
        });
        found
    }
}

/// The comparison function of `compare` for the value's type.
fn procedure(value: &Value, compare: Compare) -> u32 {
    use Compare::*;
    match (value, compare) {
        (Value::Uuid(_), Eq) => pg_sys::F_UUID_EQ,
        (Value::Uuid(_), Gt) => pg_sys::F_UUID_GT,
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

unsafe fn scan_key(index: pg_sys::Relation, key: &Key) -> pg_sys::ScanKeyData {
    let mut entry = pg_sys::ScanKeyData::default();
    // SAFETY: the index has that column (our own shape).
    unsafe {
        let collation = *(*index).rd_indcollation.add(key.column as usize - 1);
        pg_sys::ScanKeyEntryInitialize(
            &mut entry,
            0,
            key.column,
            key.compare as u16,
            pg_sys::InvalidOid,
            collation,
            pg_sys::Oid::from(procedure(&key.value, key.compare)),
            key.value.datum().0,
        );
    }
    entry
}

unsafe fn row_member(column: i16, cmp: u32, value: Value, flags: u32) -> pg_sys::ScanKeyData {
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
            value.datum().0,
        );
    }
    entry
}

impl Drop for Table {
    fn drop(&mut self) {
        // After an ERROR the transaction's abort closes everything; doing it here too would be a
        // second time.
        if std::thread::panicking() {
            return;
        }
        // SAFETY: opened by us, closed once; locks are kept.
        unsafe {
            for index in self.open.borrow_mut().drain(..).flatten() {
                pg_sys::index_close(index.rel, pg_sys::NoLock as i32);
            }
            pg_sys::relation_close(self.rel, pg_sys::NoLock as i32);
        }
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
