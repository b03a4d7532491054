//! The hook around utility commands.

use pgrx::pg_sys;
use std::ffi::{CStr, c_char};
use std::sync::OnceLock;

/// A command that matters to us.
pub enum Command {
    /// DROP DATABASE; access_hook.rs tells when it is allowed.
    Drop,
    /// ALTER DATABASE … RENAME TO.
    Rename { database: String, to: String },
    /// ALTER DATABASE … SET TABLESPACE.
    Move { database: String, tablespace: String },
    /// CREATE DATABASE: a copy of its template.
    Copy { template: String, name: String },
    /// PREPARE TRANSACTION.
    Prepare(String),
    /// COMMIT PREPARED, or ROLLBACK PREPARED.
    Finish { gid: String, commit: bool },
    /// ALTER EXTENSION … UPDATE, of whichever; DROP EXTENSION of another one.
    Extension,
    /// DROP EXTENSION of ours.
    DropExtension,
    /// REASSIGN OWNED.
    Reassign,
}

/// Called with the command, and whether the client itself gave it, alone.
type Before = fn(&Command, bool);
type Calls = (Before, fn(&Command));

static mut PREVIOUS: pg_sys::ProcessUtility_hook_type = None;
static CALLS: OnceLock<Calls> = OnceLock::new();

/// Calls `before` (with whether the client itself gave it, alone) and, if it succeeded, `after` around such commands.
/// Once, while preloading.
pub fn hook(before: Before, after: fn(&Command)) {
    if CALLS.set((before, after)).is_ok() {
        // SAFETY: _PG_init.
        unsafe {
            PREVIOUS = pg_sys::ProcessUtility_hook;
            pg_sys::ProcessUtility_hook = Some(process);
        }
    }
}

fn text(p: *const c_char) -> String {
    // SAFETY: a name in a parse tree: NULL or a C string.
    if p.is_null() { String::new() } else { unsafe { CStr::from_ptr(p) }.to_string_lossy().into_owned() }
}

unsafe fn classify(statement: *mut pg_sys::Node) -> Option<Command> {
    // SAFETY: the tag says what the node is.
    unsafe {
        match (*statement).type_ {
            pg_sys::NodeTag::T_DropdbStmt => Some(Command::Drop),
            pg_sys::NodeTag::T_RenameStmt => {
                let s = statement as *mut pg_sys::RenameStmt;
                ((*s).renameType == pg_sys::ObjectType::OBJECT_DATABASE)
                    .then(|| Command::Rename { database: text((*s).subname), to: text((*s).newname) })
            }
            pg_sys::NodeTag::T_AlterDatabaseStmt => {
                let s = statement as *mut pg_sys::AlterDatabaseStmt;
                option(&(*s).options, c"tablespace").map(|tablespace| Command::Move { database: text((*s).dbname), tablespace })
            }
            pg_sys::NodeTag::T_CreatedbStmt => {
                let s = statement as *mut pg_sys::CreatedbStmt;
                let template = option(&(*s).options, c"template").unwrap_or_else(|| "template1".into());
                Some(Command::Copy { template, name: text((*s).dbname) })
            }
            pg_sys::NodeTag::T_DropStmt => {
                let s = statement as *mut pg_sys::DropStmt;
                ((*s).removeType == pg_sys::ObjectType::OBJECT_EXTENSION).then(|| match names(&(*s).objects, c"tenant_q") {
                    true => Command::DropExtension,
                    false => Command::Extension,
                })
            }
            pg_sys::NodeTag::T_AlterExtensionStmt => Some(Command::Extension),
            pg_sys::NodeTag::T_ReassignOwnedStmt => Some(Command::Reassign),
            pg_sys::NodeTag::T_TransactionStmt => {
                use pg_sys::TransactionStmtKind::*;
                let s = statement as *mut pg_sys::TransactionStmt;
                match (*s).kind {
                    TRANS_STMT_PREPARE => Some(Command::Prepare(text((*s).gid))),
                    TRANS_STMT_COMMIT_PREPARED => Some(Command::Finish { gid: text((*s).gid), commit: true }),
                    TRANS_STMT_ROLLBACK_PREPARED => Some(Command::Finish { gid: text((*s).gid), commit: false }),
                    _ => None,
                }
            }
            _ => None,
        }
    }
}

/// Whether a list of names has this one.
unsafe fn names(list: &*mut pg_sys::List, name: &CStr) -> bool {
    // SAFETY: a list of String nodes.
    unsafe {
        !list.is_null()
            && (0..(**list).length).any(|i| {
                let one = (*(**list).elements.add(i as usize)).ptr_value as *mut pg_sys::String;
                (*one).type_ == pg_sys::NodeTag::T_String && CStr::from_ptr((*one).sval) == name
            })
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

/// Not pg_guard'ed, and the raw symbols called: pgrx's wrappers would strip every error of every
/// utility command on the server of its context, constraint, position and unknown SQLSTATE.
#[allow(clippy::too_many_arguments)]
unsafe extern "C-unwind" fn process(
    pstmt: *mut pg_sys::PlannedStmt,
    query: *const c_char,
    read_only: bool,
    context: pg_sys::ProcessUtilityContext::Type,
    params: pg_sys::ParamListInfo,
    env: *mut pg_sys::QueryEnvironment,
    dest: *mut pg_sys::DestReceiver,
    qc: *mut pg_sys::QueryCompletion,
) {
    // SAFETY: a planned utility statement; hands the call on with the arguments it came with. An
    // ERROR jumps through this frame: what it holds by then is two words and an owned String at
    // most, for the rare commands that matter.
    unsafe {
        let next = PREVIOUS.unwrap_or(standard());
        if !matters((*pstmt).utilityStmt) {
            return next(pstmt, query, read_only, context, params, env, dest, qc);
        }
        announce_before((*pstmt).utilityStmt, context == pg_sys::ProcessUtilityContext::PROCESS_UTILITY_TOPLEVEL);
        next(pstmt, query, read_only, context, params, env, dest, qc);
        announce_after((*pstmt).utilityStmt);
    }
}

type Process = unsafe extern "C-unwind" fn(
    *mut pg_sys::PlannedStmt,
    *const c_char,
    bool,
    pg_sys::ProcessUtilityContext::Type,
    pg_sys::ParamListInfo,
    *mut pg_sys::QueryEnvironment,
    *mut pg_sys::DestReceiver,
    *mut pg_sys::QueryCompletion,
);

fn standard() -> Process {
    unsafe extern "C-unwind" {
        fn standard_ProcessUtility(
            pstmt: *mut pg_sys::PlannedStmt,
            query: *const c_char,
            read_only: bool,
            context: pg_sys::ProcessUtilityContext::Type,
            params: pg_sys::ParamListInfo,
            env: *mut pg_sys::QueryEnvironment,
            dest: *mut pg_sys::DestReceiver,
            qc: *mut pg_sys::QueryCompletion,
        );
    }
    standard_ProcessUtility
}

// Guarded: what they call may raise, and that must not unwind into C.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn announce_before(statement: *mut pg_sys::Node, is_top_level: bool) {
    // SAFETY: matters() said that it does.
    if let (Some(command), Some((before, _))) = (unsafe { classify(statement) }, CALLS.get()) {
        before(&command, is_top_level);
    }
}
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn announce_after(statement: *mut pg_sys::Node) {
    // SAFETY: as above.
    if let (Some(command), Some((_, after))) = (unsafe { classify(statement) }, CALLS.get()) {
        after(&command);
    }
}

/// Whether the statement's kind may matter: a look at numbers, so that it costs and holds nothing.
unsafe fn matters(statement: *mut pg_sys::Node) -> bool {
    // SAFETY: every node begins with its tag, which says what it is.
    let tag = unsafe { (*statement).type_ };
    if tag == pg_sys::NodeTag::T_TransactionStmt {
        use pg_sys::TransactionStmtKind::*;
        // SAFETY: as above. BEGIN and COMMIT are as many as transactions.
        let kind = unsafe { (*(statement as *mut pg_sys::TransactionStmt)).kind };
        return matches!(kind, TRANS_STMT_PREPARE | TRANS_STMT_COMMIT_PREPARED | TRANS_STMT_ROLLBACK_PREPARED);
    }
    matches!(
        tag,
        pg_sys::NodeTag::T_DropdbStmt
            | pg_sys::NodeTag::T_RenameStmt
            | pg_sys::NodeTag::T_AlterDatabaseStmt
            | pg_sys::NodeTag::T_CreatedbStmt
            | pg_sys::NodeTag::T_DropStmt
            | pg_sys::NodeTag::T_AlterExtensionStmt
            | pg_sys::NodeTag::T_ReassignOwnedStmt
    )
}
