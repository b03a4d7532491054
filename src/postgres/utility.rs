//! The hook around utility commands.

use pgrx::pg_sys;
use std::ffi::CStr;
use std::sync::OnceLock;

/// A command that matters to us.
pub enum Command {
    /// DROP, RENAME, SET TABLESPACE or copying of a database of this name.
    Database(String),
    DropExtension,
}

static mut PREVIOUS: pg_sys::ProcessUtility_hook_type = None;
static CALLS: OnceLock<(fn(&Command), fn(&Command, bool))> = OnceLock::new();

/// Calls `before` and `after(command, succeeded)` around such commands. Once, while preloading.
pub fn hook(before: fn(&Command), after: fn(&Command, bool)) {
    if CALLS.set((before, after)).is_ok() {
        // SAFETY: _PG_init.
        unsafe {
            PREVIOUS = pg_sys::ProcessUtility_hook;
            pg_sys::ProcessUtility_hook = Some(process);
        }
    }
}

fn text(p: *const std::ffi::c_char) -> String {
    // SAFETY: a name in a parse tree: NULL or a C string.
    if p.is_null() { String::new() } else { unsafe { CStr::from_ptr(p) }.to_string_lossy().into_owned() }
}

unsafe fn classify(statement: *mut pg_sys::Node) -> Option<Command> {
    // SAFETY: the tag says what the node is.
    unsafe {
        match (*statement).type_ {
            pg_sys::NodeTag::T_DropdbStmt => Some(Command::Database(text((*(statement as *mut pg_sys::DropdbStmt)).dbname))),
            pg_sys::NodeTag::T_RenameStmt => {
                let s = statement as *mut pg_sys::RenameStmt;
                ((*s).renameType == pg_sys::ObjectType::OBJECT_DATABASE).then(|| Command::Database(text((*s).subname)))
            }
            pg_sys::NodeTag::T_AlterDatabaseStmt => {
                let s = statement as *mut pg_sys::AlterDatabaseStmt;
                option(&(*s).options, c"tablespace").map(|_| Command::Database(text((*s).dbname)))
            }
            pg_sys::NodeTag::T_CreatedbStmt => {
                let s = statement as *mut pg_sys::CreatedbStmt;
                option(&(*s).options, c"template").map(Command::Database)
            }
            pg_sys::NodeTag::T_DropStmt => {
                let s = statement as *mut pg_sys::DropStmt;
                ((*s).removeType == pg_sys::ObjectType::OBJECT_EXTENSION).then_some(Command::DropExtension)
            }
            _ => None,
        }
    }
}

unsafe fn option(list: &*mut pg_sys::List, name: &CStr) -> Option<String> {
    // SAFETY: a list of DefElem.
    unsafe {
        if list.is_null() {
            return None;
        }
        for i in 0..(**list).length {
            let element = (*(**list).elements.add(i as usize)).ptr_value as *mut pg_sys::DefElem;
            if CStr::from_ptr((*element).defname) == name && !(*element).arg.is_null() {
                return Some(text(pg_sys::defGetString(element)));
            }
        }
        None
    }
}

#[pgrx::pg_guard]
#[allow(clippy::too_many_arguments)]
unsafe extern "C-unwind" fn process(
    pstmt: *mut pg_sys::PlannedStmt, query: *const std::ffi::c_char, read_only: bool, context: pg_sys::ProcessUtilityContext::Type,
    params: pg_sys::ParamListInfo, env: *mut pg_sys::QueryEnvironment, dest: *mut pg_sys::DestReceiver, qc: *mut pg_sys::QueryCompletion,
) {
    // SAFETY: hands the call on with the arguments it came with.
    let run = || unsafe {
        match PREVIOUS {
            Some(previous) => previous(pstmt, query, read_only, context, params, env, dest, qc),
            None => pg_sys::standard_ProcessUtility(pstmt, query, read_only, context, params, env, dest, qc),
        }
    };
    // SAFETY: a planned utility statement.
    let command = unsafe { classify((*pstmt).utilityStmt) };
    let (Some(command), Some((before, after))) = (command, CALLS.get()) else { return run() };
    before(&command);
    let ok = pgrx::PgTryBuilder::new(std::panic::AssertUnwindSafe(|| {
        run();
        None
    }))
    .catch_others(Some)
    .execute();
    // A failed command leaves an aborted transaction: no look-ups then.
    match ok {
        None => after(&command, true),
        Some(error) => {
            if let Command::DropExtension = command {
                after(&command, false);
            }
            error.rethrow()
        }
    }
}
