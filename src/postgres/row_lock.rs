//! SELECT … FOR UPDATE, with or without SKIP LOCKED, or FOR KEY SHARE, of one row, by its place.

use crate::postgres::relation::Table;
use crate::postgres::row::Row;
use pgrx::pg_sys;

/// Locks the row as it was read until the (sub)transaction ends. False = somebody else's
/// transaction has it, or it is not the row that was read any more.
pub fn try_lock<R>(table: &Table<R>, row: &Row<R>) -> bool {
    lock(table, row, pg_sys::LockTupleMode::LockTupleExclusive, pg_sys::LockWaitPolicy::LockWaitSkip)
}

/// The same, when whoever has it is done with it. False = it is not the row that was read any more.
pub fn await_lock<R>(table: &Table<R>, row: &Row<R>) -> bool {
    lock(table, row, pg_sys::LockTupleMode::LockTupleExclusive, pg_sys::LockWaitPolicy::LockWaitBlock)
}

/// Until the (sub)transaction ends nobody deletes the row or changes its key. False = somebody is about to,
/// or has.
pub fn try_keep<R>(table: &Table<R>, row: &Row<R>) -> bool {
    lock(table, row, pg_sys::LockTupleMode::LockTupleKeyShare, pg_sys::LockWaitPolicy::LockWaitSkip)
}

fn lock<R>(table: &Table<R>, row: &Row<R>, mode: pg_sys::LockTupleMode::Type, wait: pg_sys::LockWaitPolicy::Type) -> bool {
    row.require_fresh(table.oid());
    let mut tuple = pg_sys::HeapTupleData { t_self: row.tid.pointer(), ..Default::default() };
    let mut buffer = pg_sys::InvalidBuffer as pg_sys::Buffer;
    let mut failure = pg_sys::TM_FailureData::default();
    // SAFETY: the row was read from this open table in this transaction; the buffer comes
    // back pinned and is released.
    unsafe {
        let result = pg_sys::heap_lock_tuple(
            table.relation(),
            &mut tuple,
            pg_sys::GetCurrentCommandId(true),
            mode,
            wait,
            false,
            &mut buffer,
            &mut failure,
        );
        if buffer != pg_sys::InvalidBuffer as pg_sys::Buffer {
            pg_sys::ReleaseBuffer(buffer);
        }
        result == pg_sys::TM_Result::TM_Ok
    }
}
