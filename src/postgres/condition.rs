//! A condition in SQL: its syntax, and its truth.
//!
//! Reading it runs nobody's code: the grammar alone looks at it, no catalog, no planner. Asking it
//! does, so it is asked only in a session of the role that answers for it.

use crate::postgres::caught::{Failure, call_parser, call_raw};
use crate::postgres::code::MayRunCode;
use crate::postgres::sqlstate::SqlState;
use pgrx::pg_sys;
use std::ffi::CString;

const BEFORE: &str = "SELECT (";
/// On a line of its own: a comment at the expression's end must not swallow it.
const BEHIND: &str = "\n)::pg_catalog.bool";

fn statement(expression: &str) -> Result<CString, Failure> {
    CString::new(format!("{BEFORE}{expression}{BEHIND}"))
        .map_err(|_| Failure::new(SqlState::CHARACTER_NOT_IN_REPERTOIRE, "the expression contains a null byte"))
}

/// What is wrong with an expression, and the character of it (from 1) where that shows.
pub struct SyntaxFault {
    pub message: String,
    pub at: Option<usize>,
}

/// Whether the text is one SQL expression, by the grammar alone.
pub fn check_syntax(expression: &str) -> Result<(), SyntaxFault> {
    schemas_named(expression).map(|_| ())
}

/// Schemas that an expression names explicitly, in names of functions, operators, types and collations, by the
/// grammar alone: what lies in them is not looked at, nor is their existence.
pub fn schemas_named(expression: &str) -> Result<Vec<String>, SyntaxFault> {
    let whole = |message: &str| SyntaxFault { message: message.into(), at: None };
    if expression.trim().is_empty() {
        return Err(whole("it is empty"));
    }
    let sql = statement(expression).map_err(|f| SyntaxFault { message: f.message, at: None })?;
    let mut named: Vec<String> = Vec::new();
    let into = &raw mut named;
    // SAFETY: the grammar reads a C string that outlives it and allocates in the current context;
    // the nodes are looked at as their tags say; call_parser brings the callers' callbacks back too.
    let one_expression = unsafe {
        let callers = pg_sys::error_context_stack;
        call_parser(|| {
            // A caller that is a function itself would take the place of the error for its own.
            pg_sys::error_context_stack = std::ptr::null_mut();
            let statements = raw::raw_parser(sql.as_ptr(), pg_sys::RawParseMode::RAW_PARSE_DEFAULT);
            pg_sys::error_context_stack = callers;
            if statements.is_null() || (*statements).length != 1 {
                return false;
            }
            let statement = (*((*(*statements).elements).ptr_value as *mut pg_sys::RawStmt)).stmt;
            if (*statement).type_ != pg_sys::NodeTag::T_SelectStmt {
                return false;
            }
            let select = &*(statement as *mut pg_sys::SelectStmt);
            !select.targetList.is_null()
                && (*select.targetList).length == 1
                && select.op == pg_sys::SetOperation::SETOP_NONE
                && select.intoClause.is_null()
                && select.whereClause.is_null()
                && select.havingClause.is_null()
                && select.limitCount.is_null()
                && select.limitOffset.is_null()
                && select.withClause.is_null()
                && [
                    select.distinctClause,
                    select.fromClause,
                    select.groupClause,
                    select.windowClause,
                    select.valuesLists,
                    select.sortClause,
                    select.lockingClause,
                ]
                .iter()
                .all(|list| list.is_null())
                && {
                    note_schemas(statement, into.cast());
                    true
                }
        })
    };
    match one_expression {
        Ok(true) => {
            check_stands_alone(expression)?;
            Ok(named)
        }
        Ok(false) => Err(whole("it is not one expression")),
        Err((message, position)) => {
            let length = expression.chars().count();
            // What stands behind it is ours: then its end is where something is missing.
            let at = position.map(|p| p.saturating_sub(BEFORE.len()).clamp(1, length));
            Err(SyntaxFault { message, at })
        }
    }
}

/// That none of its brackets is closed by ours, as in `true) OR (true`: without them it is an expression too, or a query.
fn check_stands_alone(expression: &str) -> Result<(), SyntaxFault> {
    let Ok(text) = CString::new(expression) else { return Ok(()) };
    let reads_as = |mode| {
        // SAFETY: as in schemas_named; nothing is looked at.
        unsafe {
            let callers = pg_sys::error_context_stack;
            call_parser(|| {
                pg_sys::error_context_stack = std::ptr::null_mut();
                raw::raw_parser(text.as_ptr(), mode);
                pg_sys::error_context_stack = callers;
            })
        }
    };
    let Err((message, at)) = reads_as(pg_sys::RawParseMode::RAW_PARSE_PLPGSQL_EXPR) else { return Ok(()) };
    reads_as(pg_sys::RawParseMode::RAW_PARSE_DEFAULT).map_err(|_| SyntaxFault { message, at })
}

/// Adds to a `Vec<String>` the schemas that a node and those beneath it name. False: go on, as walkers have it.
unsafe extern "C-unwind" fn note_schemas(node: *mut pg_sys::Node, into: *mut std::ffi::c_void) -> bool {
    if node.is_null() {
        return false;
    }
    // SAFETY: called under call_parser on nodes that the grammar has just made, of the kinds that their tags say; `into` is
    // the vector of whoever walks. Nothing with a destructor is alive where the walker may raise an error.
    unsafe {
        let name = match (*node).type_ {
            pg_sys::NodeTag::T_FuncCall => (*(node as *mut pg_sys::FuncCall)).funcname,
            pg_sys::NodeTag::T_A_Expr => (*(node as *mut pg_sys::A_Expr)).name,
            pg_sys::NodeTag::T_TypeName => (*(node as *mut pg_sys::TypeName)).names,
            pg_sys::NodeTag::T_CollateClause => (*(node as *mut pg_sys::CollateClause)).collname,
            _ => std::ptr::null_mut(),
        };
        if !name.is_null() && (*name).length > 1 {
            let schema = (*(*name).elements.add((*name).length as usize - 2)).ptr_value as *mut pg_sys::String;
            if (*schema).type_ == pg_sys::NodeTag::T_String {
                let schema = std::ffi::CStr::from_ptr((*schema).sval).to_string_lossy().into_owned();
                (*into.cast::<Vec<String>>()).push(schema);
            }
        }
        raw::raw_expression_tree_walker(node, note_schemas, into)
    }
}

/// Whether the expression is true, asked in the transaction that is open, as the current user with
/// the session's search_path. False and NULL are no. After an `Err` the caller rolls back; it tells of the expression as
/// it was given, not of the statement that is made of it.
pub fn is_true(expression: &str, code: &MayRunCode) -> Result<bool, Failure> {
    code.check()?;
    let sql = statement(expression)?;
    let as_given = |failure: Failure| {
        let made = format!("SQL statement \"{}\"", sql.to_string_lossy());
        let context = failure.context.map(|context| context.replace(&made, &format!("condition \"{expression}\"")).into());
        Failure { context, ..failure }
    };
    // SAFETY: SPI's protocol; a C string that outlives the call. After an ERROR the rollback
    // closes what SPI had open.
    let answer = unsafe {
        call_raw(|| {
            raw::SPI_connect();
            let result = raw::SPI_execute(sql.as_ptr(), false, 0);
            let mut is_true = false;
            let table = pg_sys::SPI_tuptable;
            let one = result == pg_sys::SPI_OK_SELECT as i32 && pg_sys::SPI_processed == 1 && !table.is_null();
            if one {
                let mut is_null = false;
                let value = raw::SPI_getbinval(*(*table).vals, (*table).tupdesc, 1, &mut is_null);
                is_true = !is_null && value.value() & 0xFF != 0;
            }
            raw::SPI_finish();
            one.then_some(is_true)
        })
    }
    .map_err(as_given)?;
    answer.ok_or_else(|| Failure::new(SqlState::CARDINALITY_VIOLATION, "the condition did not give one value"))
}

mod raw {
    use pgrx::pg_sys;
    use std::ffi::{c_char, c_int, c_long, c_void};
    pub type Walker = unsafe extern "C-unwind" fn(*mut pg_sys::Node, *mut c_void) -> bool;
    // Not pgrx's, which turn an ERROR into a panic: call_raw wants the jump.
    unsafe extern "C-unwind" {
        pub fn raw_parser(text: *const c_char, mode: pg_sys::RawParseMode::Type) -> *mut pg_sys::List;
        #[cfg_attr(not(feature = "pg15"), link_name = "raw_expression_tree_walker_impl")]
        pub fn raw_expression_tree_walker(node: *mut pg_sys::Node, walker: Walker, context: *mut c_void) -> bool;
        pub fn SPI_connect() -> c_int;
        pub fn SPI_execute(sql: *const c_char, read_only: bool, count: c_long) -> c_int;
        pub fn SPI_finish() -> c_int;
        pub fn SPI_getbinval(row: pg_sys::HeapTuple, desc: pg_sys::TupleDesc, column: c_int, is_null: *mut bool) -> pg_sys::Datum;
    }
}
