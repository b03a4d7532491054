//! What a process remembers of the tables that it uses, so that it needn't ask the catalogs at each use: the types of
//! their columns, and which indexes they have.

use crate::postgres::catalog;
use crate::pure::cache::Bounded;
use pgrx::pg_sys;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// What is known of an index without opening it.
///
/// Not only ours: whoever owns a table may have others (tenant/shape.rs), and while an index is built or built anew
/// concurrently there are copies that aren't valid yet or any more. All are written, ours are read.
#[derive(PartialEq)]
pub(in crate::postgres) struct IndexShape {
    pub oid: pg_sys::Oid,
    /// Those of INCLUDE last.
    pub columns: Vec<i16>,
    pub keys: usize,
    pub unique: bool,
    /// Which rows are in it.
    pub holds: Holds,
    pub valid: bool,
    /// A valid btree that has all rows, in the usual order of its columns' types.
    pub readable: bool,
    /// By column.
    pub descending: Vec<bool>,
}

/// Which rows an index holds. Partial ones are ours only (tenant/shape.rs), and ours have one of these conditions.
#[derive(PartialEq, Eq, Clone, Copy, Debug)]
pub(in crate::postgres) enum Holds {
    All,
    /// Those whose first key isn't null.
    WhereKeyed,
    /// Those whose first key, a "char", isn't this letter.
    AllBut(u8),
}

impl Holds {
    /// Whether a row is in it whose first key is this; None = NULL.
    pub fn has(self, first_key: Option<pg_sys::Datum>) -> bool {
        match self {
            Holds::All => true,
            Holds::WhereKeyed => first_key.is_some(),
            Holds::AllBut(letter) => first_key.is_some_and(|key| key.value() as u8 != letter),
        }
    }
}

/// What is known of a table, as it was last opened.
pub(in crate::postgres) struct TableShape {
    pub types: Vec<pg_sys::Oid>,
    pub indexes: Vec<IndexShape>,
}

/// Tables that a process remembers, and the bytes that these may take.
const KEPT: usize = 65_536;
const KEPT_BYTES: usize = 16 << 20;

thread_local! {
    static SHAPES: RefCell<Bounded<u32, Rc<TableShape>>> = RefCell::new(Bounded::new(KEPT, KEPT_BYTES));
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

/// # Safety
/// The relation is open, and locked.
pub(in crate::postgres) unsafe fn shape(rel: pg_sys::Relation) -> Rc<TableShape> {
    if FORGET.replace(false) {
        SHAPES.with_borrow_mut(|s| s.clear());
    }
    // SAFETY: an open relation.
    let (oid, desc) = unsafe { ((*rel).rd_id.to_u32(), (*rel).rd_att) };
    if let Some(known) = SHAPES.with_borrow_mut(|s| s.get(&oid)) {
        return known;
    }
    // SAFETY: its descriptor.
    let types = unsafe { (0..(*desc).natts).map(|n| (*catalog::attribute(desc, n)).atttypid).collect() };
    let indexes = settled(|| read(rel), |index| index.valid);
    let bytes = indexes.iter().map(|shape| size_of::<IndexShape>() + 2 * shape.columns.len()).sum::<usize>();
    let read = Rc::new(TableShape { types, indexes });
    SHAPES.with_borrow_mut(|s| s.insert(oid, read.clone(), bytes + 4 * read.types.len() + 150));
    read
}

fn read(rel: pg_sys::Relation) -> Vec<IndexShape> {
    // SAFETY: walks the list of index OIDs of an open relation; each tuple is released.
    unsafe {
        let list = pg_sys::RelationGetIndexList(rel);
        let mut found = Vec::new();
        for i in 0..(if list.is_null() { 0 } else { (*list).length }) {
            let oid = (*(*list).elements.add(i as usize)).oid_value;
            let tuple = pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::INDEXRELID as i32, pg_sys::Datum::from(oid));
            if tuple.is_null() {
                continue;
            }
            let form = pg_sys::GETSTRUCT(tuple) as *const pg_sys::FormData_pg_index;
            let (columns, keys) = ((*form).indnatts as usize, (*form).indnkeyatts as usize);
            let options = crate::postgres::definition::index_options(tuple, keys);
            let classes = crate::postgres::definition::index_classes(tuple, keys);
            found.push(IndexShape {
                oid,
                columns: (0..columns).map(|k| *(*form).indkey.values.as_ptr().add(k)).collect(),
                keys,
                unique: (*form).indisunique,
                holds: crate::postgres::definition::index_holds(tuple),
                valid: (*form).indisvalid,
                readable: (*form).indisvalid
                    && keys == columns
                    && classes.iter().all(|class| crate::postgres::definition::is_usual_btree_class(*class)),
                descending: options.iter().map(|o| *o as u32 & pg_sys::INDOPTION_DESC != 0).collect(),
            });
            pg_sys::ReleaseSysCache(tuple);
        }
        found
    }
}
