//! A trigger's call: what fired it, and the rows it is about.

use crate::postgres::caught::Failure;
use crate::postgres::function::changes;
use crate::postgres::types::Jsonb;
use crate::pure::choice::choices;
use pgrx::pg_sys;

choices! {
    /// What changes a table.
    pub enum Operation {
        Insert = "insert",
        Update = "update",
        Delete = "delete",
        Truncate = "truncate",
    }
}

/// The rows of one change: before and after.
pub type RowChange = (Option<Jsonb>, Option<Jsonb>);

/// The trigger that is being fired; valid during its call.
pub struct Fired(*mut pg_sys::TriggerData);

impl Fired {
    /// `data`: the context of a call by the trigger manager.
    pub(super) fn new(data: *mut pg_sys::TriggerData) -> Fired {
        Fired(data)
    }
    fn data(&self) -> &pg_sys::TriggerData {
        // SAFETY: lives as long as the call.
        unsafe { &*self.0 }
    }
    pub fn operation(&self) -> Operation {
        match self.data().tg_event & pg_sys::TRIGGER_EVENT_OPMASK {
            pg_sys::TRIGGER_EVENT_INSERT => Operation::Insert,
            pg_sys::TRIGGER_EVENT_UPDATE => Operation::Update,
            pg_sys::TRIGGER_EVENT_DELETE => Operation::Delete,
            _ => Operation::Truncate,
        }
    }
    pub fn is_for_row(&self) -> bool {
        self.data().tg_event & pg_sys::TRIGGER_EVENT_ROW != 0
    }
    pub fn is_after(&self) -> bool {
        self.data().tg_event & pg_sys::TRIGGER_EVENT_TIMINGMASK == pg_sys::TRIGGER_EVENT_AFTER
    }
    /// The first argument it was created with.
    pub fn argument(&self) -> Option<String> {
        // SAFETY: as many C strings as tgnargs says.
        unsafe {
            let trigger = &*self.data().tg_trigger;
            (trigger.tgnargs > 0).then(|| std::ffi::CStr::from_ptr(*trigger.tgargs).to_string_lossy().into_owned())
        }
    }
    pub fn name(&self) -> String {
        // SAFETY: a trigger has a name.
        unsafe { std::ffi::CStr::from_ptr((*self.data().tg_trigger).tgname).to_string_lossy().into_owned() }
    }
    pub fn relation(&self) -> u32 {
        // SAFETY: an open relation.
        unsafe { (*self.data().tg_relation).rd_id.to_u32() }
    }
    /// Whether it has come from a trigger of the partitioned table above.
    pub fn is_clone(&self) -> bool {
        // SAFETY: a live trigger.
        unsafe { (*self.data().tg_trigger).tgisclone }
    }

    /// The row of a row-level trigger.
    pub fn row(&self) -> Result<RowChange, Failure> {
        let data = self.data();
        let one = |tuple: pg_sys::HeapTuple| -> Result<Option<Jsonb>, Failure> {
            if tuple.is_null() {
                return Ok(None);
            }
            // SAFETY: a row of the relation, whose descriptor is of its own row type.
            let row = unsafe { pg_sys::heap_copy_tuple_as_datum(tuple, (*data.tg_relation).rd_att) };
            // SAFETY: the copy made above, of an open relation's row.
            let document = unsafe { changes::document_of(row, (*data.tg_relation).rd_att) }?;
            // SAFETY: the copy made above; nothing points into it.
            unsafe { pg_sys::pfree(row.cast_mut_ptr()) };
            Ok(Some(document))
        };
        Ok(match self.operation() {
            Operation::Insert => (None, one(data.tg_trigtuple)?),
            Operation::Delete => (one(data.tg_trigtuple)?, None),
            _ => (one(data.tg_trigtuple)?, one(data.tg_newtuple)?),
        })
    }

    /// The rows of a statement-level trigger with transition tables, one after the other. Both
    /// tables are filled in the same order, row by row.
    pub fn rows(&self, mut f: impl FnMut(RowChange) -> crate::postgres::error::Result<()>) -> crate::postgres::error::Result<()> {
        let data = self.data();
        let old = Walk::of(data.tg_oldtable, data.tg_relation);
        let new = Walk::of(data.tg_newtable, data.tg_relation);
        loop {
            let change = (next(&old)?, next(&new)?);
            if change.0.is_none() && change.1.is_none() {
                return Ok(());
            }
            f(change)?;
            pgrx::check_for_interrupts!();
        }
    }
}

fn next(walk: &Option<Walk>) -> Result<Option<Jsonb>, Failure> {
    walk.as_ref().map_or(Ok(None), Walk::next)
}

/// A transition table being read, at a place of its own: other triggers read it too.
struct Walk {
    store: *mut pg_sys::Tuplestorestate,
    place: i32,
    slot: *mut pg_sys::TupleTableSlot,
}

impl Walk {
    fn of(store: *mut pg_sys::Tuplestorestate, relation: pg_sys::Relation) -> Option<Walk> {
        if store.is_null() {
            return None;
        }
        // SAFETY: a live tuplestore of rows of the relation; the new place starts at its beginning.
        unsafe {
            let place = pg_sys::tuplestore_alloc_read_pointer(store, pg_sys::EXEC_FLAG_REWIND as i32);
            pg_sys::tuplestore_select_read_pointer(store, place);
            pg_sys::tuplestore_rescan(store);
            let slot = pg_sys::MakeSingleTupleTableSlot((*relation).rd_att, &raw const pg_sys::TTSOpsMinimalTuple);
            Some(Walk { store, place, slot })
        }
    }
    fn next(&self) -> Result<Option<Jsonb>, Failure> {
        // SAFETY: as above; the slot's row is copied before the next one is fetched.
        unsafe {
            pg_sys::tuplestore_select_read_pointer(self.store, self.place);
            if !pg_sys::tuplestore_gettupleslot(self.store, true, false, self.slot) {
                return Ok(None);
            }
            let row = pg_sys::ExecFetchSlotHeapTupleDatum(self.slot);
            let document = changes::document_of(row, (*self.slot).tts_tupleDescriptor)?;
            pg_sys::pfree(row.cast_mut_ptr());
            Ok(Some(document))
        }
    }
}

impl Drop for Walk {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        // SAFETY: made in of(), dropped once; after an ERROR the abort frees its memory.
        unsafe { pg_sys::ExecDropSingleTupleTableSlot(self.slot) };
    }
}

/// The partitioned tables that the relation is a partition of, the nearest first.
pub fn ancestors(relation: u32) -> Vec<u32> {
    // SAFETY: a look-up; the list holds OIDs.
    unsafe {
        let relation = pg_sys::Oid::from(relation);
        let list = pg_sys::ffi::pg_guard_ffi_boundary(|| get_partition_ancestors(relation));
        let length = if list.is_null() { 0 } else { (*list).length };
        (0..length).map(|i| (*(*list).elements.add(i as usize)).oid_value.to_u32()).collect()
    }
}

/// pg_class.relkind of an open table.
pub fn kind<R>(table: &crate::postgres::relation::Table<R>) -> u8 {
    // SAFETY: an open relation.
    unsafe { (*(*table.relation()).rd_rel).relkind as u8 }
}

/// The schema of an open table.
pub fn schema<R>(table: &crate::postgres::relation::Table<R>) -> u32 {
    // SAFETY: an open relation.
    unsafe { (*(*table.relation()).rd_rel).relnamespace.to_u32() }
}

unsafe extern "C-unwind" {
    fn get_partition_ancestors(relation: pg_sys::Oid) -> *mut pg_sys::List;
}
