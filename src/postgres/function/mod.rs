//! A PostgreSQL function as a thing to be called: what the catalogs say of it, JSON into values
//! of its parameters' types, and the call by OID.
//!
//! By OID all the way: no SQL text is made, so no overload, rename or search_path can put another
//! function into the place of the one that was registered.
//!
//! Everything that can raise an error of the tenant's is called through `caught::call_raw`, which
//! keeps CONTEXT and SQLSTATE. Inside of it only the plain C symbols of `raw` may be used: pgrx's
//! wrappers turn an ERROR into a Rust panic, which must not unwind through PostgreSQL's frames.

pub mod catalog;
pub mod changes;
pub mod document;
pub mod execute;

use pgrx::pg_sys;

/// What one parameter gets. A datum lives in the memory context that was current when it was made.
#[derive(Clone, Copy)]
pub enum Value {
    Null,
    Datum(pg_sys::Datum),
    /// Whatever the function declares as DEFAULT at the moment of the call.
    Default,
}

#[derive(Clone, Copy)]
pub struct Argument {
    pub type_oid: u32,
    pub value: Value,
}

/// PostgreSQL's own objects have lower OIDs: their code is the server's, not a user's.
pub fn is_built_in(oid: u32) -> bool {
    oid < pg_sys::FirstNormalObjectId
}

/// The C symbols themselves, to be called under `call_raw`: an ERROR jumps.
pub mod raw {
    use pgrx::pg_sys::*;
    use std::ffi::{c_char, c_int, c_void};
    unsafe extern "C-unwind" {
        #[cfg(feature = "pg15")]
        pub fn stringToQualifiedNameList(text: *const c_char) -> *mut List;
        #[cfg(not(feature = "pg15"))]
        pub fn stringToQualifiedNameList(text: *const c_char, soft: *mut Node) -> *mut List;
        #[cfg(feature = "pg15")]
        pub fn typeStringToTypeName(text: *const c_char) -> *mut TypeName;
        #[cfg(not(feature = "pg15"))]
        pub fn typeStringToTypeName(text: *const c_char, soft: *mut Node) -> *mut TypeName;
        pub fn DeconstructQualifiedName(names: *const List, schema: *mut *mut c_char, name: *mut *mut c_char);

        pub fn palloc(size: usize) -> *mut c_void;
        pub fn palloc0(size: usize) -> *mut c_void;
        pub fn pnstrdup(text: *const c_char, length: usize) -> *mut c_char;
        pub fn cstring_to_text_with_len(text: *const c_char, length: c_int) -> *mut text;
        pub fn datumCopy(value: Datum, by_value: bool, length: c_int) -> Datum;
        pub fn pg_detoast_datum(datum: *mut varlena) -> *mut varlena;
        pub fn pg_detoast_datum_packed(datum: *mut varlena) -> *mut varlena;
        pub fn MemoryContextReset(context: MemoryContext);

        pub fn numeric_out(call: FunctionCallInfo) -> Datum;
        pub fn int64_to_numeric(value: i64) -> Numeric;
        pub fn DirectFunctionCall1Coll(function: PGFunction, collation: Oid, argument: Datum) -> Datum;
        pub fn FunctionCall1Coll(function: *mut FmgrInfo, collation: Oid, argument: Datum) -> Datum;
        pub fn fmgr_info_cxt(function: Oid, info: *mut FmgrInfo, context: MemoryContext);
        pub fn getTypeInputInfo(type_: Oid, input: *mut Oid, io_param: *mut Oid);
        pub fn OidInputFunctionCall(function: Oid, text: *mut c_char, io_param: Oid, typmod: i32) -> Datum;
        pub fn get_typlenbyval(type_: Oid, length: *mut i16, by_value: *mut bool);

        pub fn pushJsonbValue(state: *mut *mut JsonbParseState, token: JsonbIteratorToken::Type, value: *mut JsonbValue)
        -> *mut JsonbValue;
        pub fn JsonbValueToJsonb(value: *mut JsonbValue) -> *mut Jsonb;
        pub fn JsonbToCString(out: StringInfo, container: *mut JsonbContainer, length: c_int) -> *mut c_char;
        pub fn getIthJsonbValueFromContainer(container: *mut JsonbContainer, index: u32) -> *mut JsonbValue;

        pub fn CreateTemplateTupleDesc(columns: c_int) -> TupleDesc;
        pub fn TupleDescInitEntry(desc: TupleDesc, column: AttrNumber, name: *const c_char, type_: Oid, typmod: i32, dimensions: c_int);
        pub fn heap_deform_tuple(tuple: HeapTuple, desc: TupleDesc, values: *mut Datum, nulls: *mut bool);

        #[cfg(feature = "pg15")]
        pub fn pg_proc_aclcheck(function: Oid, role: Oid, mode: AclMode) -> AclResult::Type;
        #[cfg(not(feature = "pg15"))]
        pub fn object_aclcheck(class: Oid, object: Oid, role: Oid, mode: AclMode) -> AclResult::Type;
        pub fn RunFunctionExecuteHook(function: Oid);
        pub fn pgstat_init_function_usage(call: FunctionCallInfo, usage: *mut PgStat_FunctionCallUsage);
        pub fn pgstat_end_function_usage(usage: *mut PgStat_FunctionCallUsage, finalize: bool);

        pub fn SearchSysCache1(cache: c_int, key: Datum) -> HeapTuple;
        pub fn SysCacheGetAttr(cache: c_int, tuple: HeapTuple, column: AttrNumber, is_null: *mut bool) -> Datum;
        pub fn ReleaseSysCache(tuple: HeapTuple);
        pub fn text_to_cstring(text: *const text) -> *mut c_char;
        pub fn stringToNode(text: *const c_char) -> *mut c_void;

        pub fn lappend(list: *mut List, datum: *mut c_void) -> *mut List;
        pub fn makeConst(type_: Oid, typmod: i32, collation: Oid, length: c_int, value: Datum, is_null: bool, by_value: bool)
        -> *mut Const;
        pub fn makeFuncExpr(
            function: Oid,
            result: Oid,
            arguments: *mut List,
            collation: Oid,
            input_collation: Oid,
            format: CoercionForm::Type,
        ) -> *mut FuncExpr;
        pub fn CreateExecutorState() -> *mut EState;
        pub fn FreeExecutorState(state: *mut EState);
        pub fn MakePerTupleExprContext(state: *mut EState) -> *mut ExprContext;
        pub fn ExecPrepareExpr(expression: *mut Expr, state: *mut EState) -> *mut ExprState;
        pub fn ExecInitFunctionResultSet(expression: *mut Expr, context: *mut ExprContext, parent: *mut PlanState) -> *mut SetExprState;
        pub fn ExecMakeFunctionResultSet(
            state: *mut SetExprState,
            context: *mut ExprContext,
            arguments: MemoryContext,
            is_null: *mut bool,
            done: *mut ExprDoneCond::Type,
        ) -> Datum;
        pub fn ExecFetchSlotHeapTupleDatum(slot: *mut TupleTableSlot) -> Datum;

        pub fn EnsurePortalSnapshotExists();
        pub fn ExecuteCallStmt(call: *mut CallStmt, parameters: ParamListInfo, atomic: bool, receiver: *mut DestReceiver);
    }
}
