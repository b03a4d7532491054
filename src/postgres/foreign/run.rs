//! An execution: begins with the tenant of that moment, hands out row after row, ends.

use super::course::Course;
use super::walk::{Passing, Sought, Walk, clear};
use super::{Shown, Shows, Wanted, served};
use crate::postgres::call;
use crate::postgres::column::Value;
use crate::postgres::error::{Error, Result};
use crate::postgres::relation::Table;
use crate::postgres::text;
use crate::postgres::types::Jsonb;
use pgrx::{IntoDatum, pg_sys};
use std::ffi::{CString, c_int, c_void};

/// An execution of a query on a foreign table, whatever its rows are.
pub trait Scanning {
    /// Sets out with what is sought this time.
    ///
    /// # Safety
    /// See [`Walk::begin`].
    unsafe fn set_out(&mut self, course: &Course, sought: Vec<Sought>) -> Result<()>;
    fn has_set_out(&self) -> bool;
    /// Fills the slot's values with the next row's; false: there is none.
    ///
    /// # Safety
    /// The slot is of the foreign table's columns.
    unsafe fn next(&mut self, slot: *mut pg_sys::TupleTableSlot) -> bool;
    fn start_over(&mut self);
    fn close(self: Box<Self>);
    /// After an error: everything of PostgreSQL's has been given back already.
    fn abandon(self: Box<Self>);
}

pub(super) struct Running<T: Shown> {
    shown: T,
    table: Table<T::Rows>,
    walk: Walk,
    wanted: Wanted,
}

impl<T: Shown> Running<T> {
    pub fn new(shown: T, table: Table<T::Rows>, wanted: Wanted, snapshot: pg_sys::Snapshot) -> Running<T> {
        // SAFETY: the table stays as long as this, the snapshot as long as the execution.
        let walk = unsafe { Walk::new(&table, snapshot) };
        Running { shown, table, walk, wanted }
    }
}

impl<T: Shown> Scanning for Running<T> {
    unsafe fn set_out(&mut self, course: &Course, sought: Vec<Sought>) -> Result<()> {
        // SAFETY: the caller's promise.
        unsafe { self.walk.begin(&self.table, T::ORDERS, course, sought) }
    }
    fn has_set_out(&self) -> bool {
        self.walk.has_begun()
    }
    unsafe fn next(&mut self, slot: *mut pg_sys::TupleTableSlot) -> bool {
        while let Some(found) = self.walk.advance() {
            // SAFETY: a row of the table.
            let row = unsafe { Passing::<T::Rows>::on(found) };
            if let Some(seen) = self.shown.see(&row) {
                for (place, shows) in T::COLUMNS.iter().enumerate() {
                    let value = match (self.wanted.has(place), shows) {
                        (false, _) => None,
                        (true, Shows::Own(column, ..)) => row.cell(*column),
                        (true, Shows::Told(_)) => match self.shown.tell(&seen, &row, place) {
                            // What has been worked out goes before the row is looked at.
                            Value::Json(document) => Some(document.copied()),
                            value => value.datum(),
                        },
                    };
                    let value = value.map(|datum| readable(datum, shows.type_oid()));
                    // SAFETY: one value a column.
                    unsafe {
                        *(*slot).tts_isnull.add(place) = value.is_none();
                        *(*slot).tts_values.add(place) = value.unwrap_or(pg_sys::Datum::from(0usize));
                    }
                }
                return true;
            }
            pgrx::check_for_interrupts!();
        }
        false
    }
    fn start_over(&mut self) {
        self.walk.stop();
    }
    fn close(self: Box<Self>) {
        self.walk.close();
    }
    fn abandon(self: Box<Self>) {
        let Running { table, .. } = *self;
        table.abandon();
    }
}

/// A value as it is; but of a database in which any bytes can be stored as a text, with texts in it that are ones: no client
/// of another encoding could be sent it otherwise, and so would not see any row.
fn readable(datum: pg_sys::Datum, of: pg_sys::Oid) -> pg_sys::Datum {
    if !text::is_any_bytes() {
        return datum;
    }
    // SAFETY: values of those types, of the row that the walk stands on; the copies are in the row's memory.
    let copy = unsafe {
        match of {
            pg_sys::TEXTOID => text::of_datum(datum).into_datum(),
            pg_sys::TEXTARRAYOID => text::of_array(datum).into_datum(),
            pg_sys::JSONBOID => Jsonb::from_datum(datum).parsed().map(|value| Jsonb::from_value(value).copied()),
            _ => None,
        }
    };
    copy.unwrap_or(datum)
}

/// What an execution keeps in its node.
struct Execution {
    /// None once it has ended.
    scanning: Option<Box<dyn Scanning>>,
    course: Course,
    /// What the keys are compared with: ExprStates.
    with: *mut pg_sys::List,
    /// Where their values are, until the next time.
    memory: pg_sys::MemoryContext,
}

unsafe fn execution<'a>(node: *mut pg_sys::ForeignScanState) -> Option<&'a mut Execution> {
    // SAFETY: begin() has put it there, or nothing.
    unsafe { (*node).fdw_state.cast::<Execution>().as_mut() }
}

/// With the memory of the execution: if it has not ended by then, an error has ended it.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn forget(execution: *mut c_void) {
    // SAFETY: what begin() has made, once.
    let mut execution = unsafe { Box::from_raw(execution.cast::<Execution>()) };
    if let Some(scanning) = execution.scanning.take() {
        scanning.abandon();
    }
}

#[pgrx::pg_guard]
pub(super) unsafe extern "C-unwind" fn begin(node: *mut pg_sys::ForeignScanState, flags: c_int) {
    if flags as u32 & pg_sys::EXEC_FLAG_EXPLAIN_ONLY != 0 {
        return;
    }
    call::answer(|| {
        // SAFETY: a node that is being initialised, in the memory of its execution.
        unsafe {
            let relation = (*node).ss.ss_currentRelation;
            let plan = (*node).ss.ps.plan.cast::<pg_sys::ForeignScan>();
            let estate = (*node).ss.ps.state;
            let table = served((*relation).rd_id).ok_or_else(|| Error::internal("a foreign table that isn't ours"))?;
            require_columns(relation, &table.types())?;
            let (course, wanted) = Course::of((*(*(*plan).fdw_private).elements).ptr_value.cast());
            let scanning = table.begin(wanted, (*estate).es_snapshot)?;
            let with = pg_sys::ExecInitExprList((*plan).fdw_exprs, (&raw mut (*node).ss.ps).cast());
            let memory = pg_sys::AllocSetContextCreateInternal(
                (*estate).es_query_cxt,
                c"tenant_q keys".as_ptr(),
                pg_sys::ALLOCSET_SMALL_MINSIZE as usize,
                pg_sys::ALLOCSET_SMALL_INITSIZE as usize,
                pg_sys::ALLOCSET_SMALL_MAXSIZE as usize,
            );
            let execution = Box::into_raw(Box::new(Execution { scanning: Some(scanning), course, with, memory }));
            let callback = pg_sys::MemoryContextAllocZero((*estate).es_query_cxt, size_of::<pg_sys::MemoryContextCallback>())
                .cast::<pg_sys::MemoryContextCallback>();
            (*callback).func = Some(forget);
            (*callback).arg = execution.cast();
            pg_sys::MemoryContextRegisterResetCallback((*estate).es_query_cxt, callback);
            (*node).fdw_state = execution.cast();
        }
        Ok(())
    });
}

/// Whoever is a superuser can alter a foreign table, too.
unsafe fn require_columns(relation: pg_sys::Relation, types: &[pg_sys::Oid]) -> Result<()> {
    // SAFETY: an open relation's descriptor.
    let found: Vec<pg_sys::Oid> = unsafe {
        let desc = (*relation).rd_att;
        (0..(*desc).natts).map(|n| crate::postgres::catalog::attribute(desc, n)).map(|a| (*a).atttypid).collect()
    };
    if found == types {
        return Ok(());
    }
    Err(Error::state("the foreign tables of tenant_q are not as this library has them").hint("ALTER EXTENSION tenant_q UPDATE;"))
}

#[pgrx::pg_guard]
pub(super) unsafe extern "C-unwind" fn iterate(node: *mut pg_sys::ForeignScanState) -> *mut pg_sys::TupleTableSlot {
    call::answer(|| {
        // SAFETY: a node that was begun; its slot is of the foreign table's columns.
        unsafe {
            let slot = (*node).ss.ss_ScanTupleSlot;
            clear(slot);
            let Some(Execution { scanning: Some(scanning), course, with, memory }) = execution(node) else { return Ok(slot) };
            if !scanning.has_set_out() {
                let sought = sought(node, course, *with, *memory)?;
                scanning.set_out(course, sought)?;
            }
            if scanning.next(slot) {
                pg_sys::ExecStoreVirtualTuple(slot);
            }
            Ok(slot)
        }
    })
}

/// What the keys are compared with by now.
unsafe fn sought(
    node: *mut pg_sys::ForeignScanState,
    course: &Course,
    with: *mut pg_sys::List,
    memory: pg_sys::MemoryContext,
) -> Result<Vec<Sought>> {
    // SAFETY: expressions of this node, one for each key, evaluated where their values live until the next time.
    unsafe {
        pg_sys::MemoryContextReset(memory);
        let before = pg_sys::MemoryContextSwitchTo(memory);
        let mut found = Vec::with_capacity(course.keys.len());
        for (n, key) in course.keys.iter().enumerate() {
            let expression = (*(*with).elements.add(n)).ptr_value.cast::<pg_sys::ExprState>();
            let evaluate = (*expression).evalfunc.expect("a function that was made ready");
            let mut null = false;
            let context = (*node).ss.ps.ps_ExprContext;
            let value = pg_sys::ffi::pg_guard_ffi_boundary(|| evaluate(expression, context, &mut null));
            found.push(match (null, key.any) {
                (true, _) => Sought::Null,
                (false, false) => Sought::One(value),
                (false, true) => Sought::Any(distinct(value, key.of_type)),
            });
        }
        pg_sys::MemoryContextSwitchTo(before);
        Ok(found)
    }
}

/// The elements of an array that aren't null, each once.
unsafe fn distinct(array: pg_sys::Datum, of: pg_sys::Oid) -> Vec<pg_sys::Datum> {
    // SAFETY: an array of that type, unpacked into the current memory context; each value is read as its type is kept.
    unsafe {
        let (mut length, mut by_value, mut align) = (0, false, 0);
        pg_sys::get_typlenbyvalalign(of, &mut length, &mut by_value, &mut align);
        let (mut values, mut nulls, mut count) = (std::ptr::null_mut(), std::ptr::null_mut(), 0);
        let array = pg_sys::pg_detoast_datum(array.cast_mut_ptr()).cast::<pg_sys::ArrayType>();
        pg_sys::deconstruct_array(array, of, length.into(), by_value, align, &mut values, &mut nulls, &mut count);
        crate::postgres::memory::require(count.max(0) as usize * 64);
        let bytes = |value: pg_sys::Datum| match length {
            _ if by_value => value.value().to_ne_bytes().to_vec(),
            -1 => pgrx::varlena_to_byte_slice(value.cast_mut_ptr()).to_vec(),
            length => std::slice::from_raw_parts(value.cast_mut_ptr::<u8>(), length as usize).to_vec(),
        };
        let mut all: Vec<(Vec<u8>, pg_sys::Datum)> =
            (0..count.max(0) as usize).filter(|n| !*nulls.add(*n)).map(|n| *values.add(n)).map(|value| (bytes(value), value)).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all.dedup_by(|a, b| a.0 == b.0);
        all.into_iter().map(|(_, value)| value).collect()
    }
}

#[pgrx::pg_guard]
pub(super) unsafe extern "C-unwind" fn rescan(node: *mut pg_sys::ForeignScanState) {
    // SAFETY: a node that was begun.
    if let Some(Execution { scanning: Some(scanning), .. }) = unsafe { execution(node) } {
        scanning.start_over();
    }
}

#[pgrx::pg_guard]
pub(super) unsafe extern "C-unwind" fn end(node: *mut pg_sys::ForeignScanState) {
    // SAFETY: a node that was begun, or was only to be explained.
    if let Some(scanning) = unsafe { execution(node) }.and_then(|execution| execution.scanning.take()) {
        scanning.close();
    }
}

#[pgrx::pg_guard]
pub(super) unsafe extern "C-unwind" fn explain(node: *mut pg_sys::ForeignScanState, state: *mut pg_sys::ExplainState) {
    call::answer(|| {
        // SAFETY: a node with its plan; the texts outlive the call.
        unsafe {
            let plan = (*node).ss.ps.plan.cast::<pg_sys::ForeignScan>();
            let Some(table) = served((*(*node).ss.ss_currentRelation).rd_id) else { return Ok(()) };
            let (course, _) = Course::of((*(*(*plan).fdw_private).elements).ptr_value.cast());
            let name = |place: usize| {
                let attribute = pg_sys::get_attname((*(*node).ss.ss_currentRelation).rd_id, place as i16 + 1, true);
                if attribute.is_null() { String::new() } else { std::ffi::CStr::from_ptr(attribute).to_string_lossy().into_owned() }
            };
            let text = match course.order {
                None => "all rows, as they lie".to_string(),
                Some(n) => {
                    let orders = table.orders();
                    let columns: Vec<String> = orders[n].searched.iter().map(|s| name(s.place())).collect();
                    let mut keys: Vec<String> = course.keys.iter().map(|k| name(k.place)).collect();
                    keys.dedup();
                    let way = if course.backward { ", backward" } else { "" };
                    let by = if keys.is_empty() { String::new() } else { format!(", searched by {}", keys.join(", ")) };
                    format!("index on {}{way}{by}", columns.join(", "))
                }
            };
            if let Ok(text) = CString::new(text) {
                pg_sys::ExplainPropertyText(c"Rows".as_ptr(), text.as_ptr(), state);
            }
        }
        Ok(())
    });
}
