//! What pgrx drops of an ERROR on its way through Rust: SQLSTATEs that PostgreSQL doesn't know, CONTEXT, the place in the
//! SQL, the object it is about.
//!
//! While PostgreSQL puts an ERROR together it asks those who are in the midst of something whether they have to add anything.
//! A call that is being watched takes the rest down there, and whoever catches the ERROR finds it here.

use crate::postgres::caught::text;
use crate::postgres::sqlstate::SqlState;
use pgrx::pg_sys;
use std::cell::RefCell;
use std::ffi::c_void;

/// Where in SQL an ERROR was found, and what it is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// The text that was being read, and the character (from 1) of it.
    pub query: Option<(String, i32)>,
    /// Schema, table, column, data type and constraint.
    pub names: [Option<String>; 5],
}

impl Place {
    pub(super) fn of(data: &pg_sys::ErrorData) -> Option<Box<Place>> {
        let query = text(data.internalquery).map(|query| (query, data.internalpos));
        let names = [data.schema_name, data.table_name, data.column_name, data.datatype_name, data.constraint_name];
        let place = Place { query, names: names.map(|name| text(name)) };
        (place != Place::default()).then(|| Box::new(place))
    }
}

/// The rest of an ERROR.
pub struct Kept {
    message: String,
    pub sqlstate: SqlState,
    pub context: Option<Box<str>>,
    pub place: Option<Box<Place>>,
}

thread_local! {
    /// The last one.
    static LAST: RefCell<Option<Kept>> = const { RefCell::new(None) };
}

/// Runs `f`, and keeps the rest of what is raised under it and caught in Rust.
pub fn watched<T>(f: impl FnOnce() -> T) -> T {
    /// Takes the note out of the chain again, on whichever way `f` ends.
    struct Watch(pg_sys::ErrorContextCallback);
    impl Drop for Watch {
        fn drop(&mut self) {
            // SAFETY: whoever catches an ERROR brings the chain back to what it was at the catch, which is above this.
            unsafe { pg_sys::error_context_stack = self.0.previous };
        }
    }
    // SAFETY: reads and writes statics of a process with one thread; the note lives until it is out of the chain.
    let mut watch = unsafe {
        Watch(pg_sys::ErrorContextCallback { previous: pg_sys::error_context_stack, callback: Some(note), arg: std::ptr::null_mut() })
    };
    // SAFETY: as above.
    unsafe { pg_sys::error_context_stack = &raw mut watch.0 };
    let value = f();
    drop(watch);
    value
}

/// The rest of the ERROR of this message, if it is the last one that was raised.
pub fn take(message: &str) -> Option<Kept> {
    LAST.take().filter(|kept| kept.message == message)
}

/// For the chain of PostgreSQL's context callbacks: called for every message, in the midst of its making.
unsafe extern "C-unwind" fn note(_: *mut c_void) {
    // SAFETY: a message is being made, in its own memory context; the copy is made, and freed, in another one. An ERROR
    // here is one of memory, and jumps over nothing that has a destructor. Where an ERROR would be a PANIC nothing is kept.
    unsafe {
        if pg_sys::CritSectionCount > 0 {
            return;
        }
        let own = pg_sys::MemoryContextSwitchTo(pg_sys::TopMemoryContext);
        let data = raw::CopyErrorData();
        if (*data).elevel >= pg_sys::PGERROR as i32 {
            keep(&*data);
        }
        raw::FreeErrorData(data);
        pg_sys::MemoryContextSwitchTo(own);
    }
}

fn keep(data: &pg_sys::ErrorData) {
    LAST.set(Some(Kept {
        message: text(data.message).unwrap_or_default(),
        sqlstate: SqlState::unpack(data.sqlerrcode),
        context: text(data.context).map(Into::into),
        place: Place::of(data),
    }));
}

mod raw {
    use pgrx::pg_sys;
    // Not pgrx's: an ERROR here belongs to whoever makes the message.
    unsafe extern "C-unwind" {
        pub fn CopyErrorData() -> *mut pg_sys::ErrorData;
        pub fn FreeErrorData(data: *mut pg_sys::ErrorData);
    }
}
