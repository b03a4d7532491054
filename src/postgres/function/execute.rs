//! The call itself: one value, a set of rows, a procedure; the result as jsonb.
//!
//! After an `Err` the transaction (or subtransaction) is unusable until the caller rolls it back,
//! which also frees what the failed call had allocated.

use crate::postgres::caught::{Failure, call_raw};
use crate::postgres::code::MayRunCode;
use crate::postgres::function::{Argument, Value, raw};
use crate::postgres::types::Jsonb;
use pgrx::pg_sys::{
    self, Datum, FmgrInfo, FunctionCallInfo, FunctionCallInfoBaseData, JsonbIteratorToken, JsonbValue, MemoryContext, jbvType,
};

/// One call of `function`, whose result is of type `result`.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    pub function: u32,
    pub result: u32,
    /// One for each parameter the caller gives, in order, of exactly the declared types.
    pub arguments: &'a [Argument],
    /// A result that is larger as jsonb is not returned.
    pub bytes_max: usize,
}

/// What came of a call.
pub enum Outcome {
    /// SQL NULL or void.
    Nothing,
    Document(Jsonb),
    TooLarge,
    /// The current user lacks EXECUTE.
    Denied,
    /// The function is gone, or a parameter's default is.
    Vanished,
}

/// The same with the document still in PostgreSQL's memory: what may cross `call_raw`.
#[derive(Clone, Copy)]
enum Raw {
    Nothing,
    Document(Datum),
    TooLarge,
    Denied,
    Vanished,
}

impl Raw {
    /// Copies the document out. It must be a jsonb that is neither compressed nor moved out of line.
    fn outcome(self) -> Outcome {
        match self {
            Raw::Nothing => Outcome::Nothing,
            // SAFETY: see above; it was made by the call that ends with this.
            Raw::Document(datum) => Outcome::Document(unsafe { Jsonb::from_datum(datum) }),
            Raw::TooLarge => Outcome::TooLarge,
            Raw::Denied => Outcome::Denied,
            Raw::Vanished => Outcome::Vanished,
        }
    }
}

fn oid(oid: u32) -> pg_sys::Oid {
    pg_sys::Oid::from(oid)
}

/// Runs `f` in memory of its own. On an error it is left to the end of the (sub)transaction:
/// something that the rollback still looks at may be in it.
fn in_own_memory(f: impl FnOnce(MemoryContext) -> Result<Raw, Failure>) -> Result<Outcome, Failure> {
    // SAFETY: the child of a context that lives as long as the (sub)transaction. It is deleted
    // only after its document has been copied out and the former context is current again.
    unsafe {
        let own = pg_sys::AllocSetContextCreateInternal(
            pg_sys::CurTransactionContext,
            c"tenant_q call".as_ptr(),
            pg_sys::ALLOCSET_DEFAULT_MINSIZE as usize,
            pg_sys::ALLOCSET_DEFAULT_INITSIZE as usize,
            pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
        );
        let former = pg_sys::MemoryContextSwitchTo(own);
        let result = f(own);
        pg_sys::MemoryContextSwitchTo(former);
        let outcome = result?.outcome();
        pg_sys::MemoryContextDelete(own);
        Ok(outcome)
    }
}

/// Calls a function that returns one value.
pub fn single(call: &Call, code: &MayRunCode) -> Result<Outcome, Failure> {
    code.check()?;
    let collation = input_collation(call.arguments);
    // SAFETY: the closure holds references to plain data.
    in_own_memory(|own| unsafe { call_raw(|| call_single(call, own, collation)) })
}

/// Called under call_raw: nothing with a destructor in here.
unsafe fn call_single(call: &Call, own: MemoryContext, collation: pg_sys::Oid) -> Raw {
    // SAFETY: the protocol of fmgr.h: argument values of the declared types, a live FmgrInfo, the
    // function's own strictness honoured.
    unsafe {
        if !may_execute(call.function) {
            return Raw::Denied;
        }
        let mut function = FmgrInfo::default();
        // New for every call, so that the next one after CREATE OR REPLACE runs the new code: C
        // functions don't look. It also brings SECURITY DEFINER and SET clauses into effect.
        raw::fmgr_info_cxt(oid(call.function), &mut function, own);
        let frame = prepare(&mut function, call.arguments.len(), collation);
        let Some(defaults) = Defaults::of(call) else { return Raw::Vanished };
        for (i, argument) in call.arguments.iter().enumerate() {
            let value = match argument.value {
                Value::Datum(datum) => Some(datum),
                Value::Null => None,
                Value::Default => defaults.value(i),
            };
            if value.is_none() && function.fn_strict {
                return Raw::Nothing;
            }
            put(frame, i, value);
        }
        let mut usage = pg_sys::PgStat_FunctionCallUsage::default();
        raw::pgstat_init_function_usage(frame, &mut usage);
        let value = function.fn_addr.expect("fmgr_info finds it")(frame);
        raw::pgstat_end_function_usage(&mut usage, true);
        if (*frame).isnull || oid(call.result) == pg_sys::VOIDOID {
            return Raw::Nothing;
        }
        limited(Converter::of(call.result, own).jsonb(value), call.bytes_max)
    }
}

/// Calls a set-returning function: an array of all its rows in order.
///
/// As a SELECT list would call it, a row at a time: what returns too much is stopped where it can be.
pub fn rows(call: &Call, code: &MayRunCode) -> Result<Outcome, Failure> {
    code.check()?;
    let collation = input_collation(call.arguments);
    // SAFETY: the closure holds references to plain data.
    in_own_memory(|own| unsafe { call_raw(|| call_rows(call, own, collation)) })
}

/// Called under call_raw.
unsafe fn call_rows(call: &Call, own: MemoryContext, collation: pg_sys::Oid) -> Raw {
    // SAFETY: the executor's own protocol, as ProjectSet has it: the rows' memory is reset between
    // rows, the arguments and the growing array live in `own`.
    unsafe {
        if !may_execute(call.function) {
            return Raw::Denied;
        }
        let state = raw::CreateExecutorState();
        let context = raw::MakePerTupleExprContext(state);
        let row_memory = (*context).ecxt_per_tuple_memory;
        let Some(defaults) = Defaults::of(call) else { return Raw::Vanished };
        let mut arguments = std::ptr::null_mut();
        for (i, argument) in call.arguments.iter().enumerate() {
            let value = match argument.value {
                Value::Datum(datum) => Some(datum),
                Value::Null => None,
                Value::Default => defaults.value(i),
            };
            arguments = raw::lappend(arguments, constant(argument.type_oid, value).cast());
        }
        let expression = call_expression(call, arguments, collation);
        (*expression).funcretset = true;
        let set = raw::ExecInitFunctionResultSet(expression.cast(), context, std::ptr::null_mut());
        let mut converter = Converter::of(call.result, own);
        let mut array = std::ptr::null_mut();
        let (mut bytes, mut too_large) = (0, false);
        raw::pushJsonbValue(&mut array, JsonbIteratorToken::WJB_BEGIN_ARRAY, std::ptr::null_mut());
        loop {
            let (mut is_null, mut done) = (false, pg_sys::ExprDoneCond::ExprSingleResult);
            pg_sys::CurrentMemoryContext = row_memory;
            let row = raw::ExecMakeFunctionResultSet(set, context, own, &mut is_null, &mut done);
            if done == pg_sys::ExprDoneCond::ExprEndResult {
                break;
            }
            let mut element = JsonbValue::default();
            if !is_null && oid(call.result) != pg_sys::VOIDOID {
                let jsonb = converter.jsonb(row).cast_mut_ptr::<pg_sys::Jsonb>();
                let size = pgrx::varsize_any(jsonb.cast());
                bytes += size;
                if bytes > call.bytes_max {
                    too_large = true;
                    break;
                }
                // The array keeps pointers into what it is given.
                pg_sys::CurrentMemoryContext = own;
                let copy = raw::palloc(size).cast::<pg_sys::Jsonb>();
                std::ptr::copy_nonoverlapping(jsonb.cast::<u8>(), copy.cast::<u8>(), size);
                element.type_ = jbvType::jbvBinary;
                element.val.binary.len = (size - size_of::<i32>()) as i32;
                element.val.binary.data = &raw mut (*copy).root;
            }
            pg_sys::CurrentMemoryContext = own;
            raw::pushJsonbValue(&mut array, JsonbIteratorToken::WJB_ELEM, &mut element);
            raw::MemoryContextReset(row_memory);
            if done == pg_sys::ExprDoneCond::ExprSingleResult {
                break;
            }
        }
        pg_sys::CurrentMemoryContext = own;
        let array = raw::pushJsonbValue(&mut array, JsonbIteratorToken::WJB_END_ARRAY, std::ptr::null_mut());
        let array = if too_large { std::ptr::null_mut() } else { raw::JsonbValueToJsonb(array) };
        // A function that was stopped midway gives back what it holds.
        raw::FreeExecutorState(state);
        match too_large {
            true => Raw::TooLarge,
            false => limited(Datum::from(array), call.bytes_max),
        }
    }
}

/// Calls a procedure in the transaction that is open; its COMMIT is an error (2D000).
pub fn procedure(call: &Call, code: &MayRunCode) -> Result<Outcome, Failure> {
    code.check()?;
    let collation = input_collation(call.arguments);
    // SAFETY: the closure holds references to plain data.
    in_own_memory(|own| unsafe { call_raw(|| call_procedure(call, own, collation, true)) })
}

/// Calls a procedure that may COMMIT and ROLLBACK, from a background worker that runs nothing else.
///
/// On `Ok` a transaction with an active snapshot is open, as `transaction::begin` leaves it, but
/// maybe another one than before. On `Err` too some transaction is open: the caller aborts it.
///
/// PostgreSQL ties the snapshot of a procedure to the portal of its CALL, so this makes one. All
/// that must outlive a COMMIT lives in the portal's memory.
pub fn procedure_with_transactions(call: &Call, code: &MayRunCode) -> Result<Outcome, Failure> {
    code.check()?;
    let collation = input_collation(call.arguments);
    // SAFETY: the order of things is PortalRun's and PortalRunUtility's. The globals are restored
    // on both ways out, before anything that could fail. An active portal survives COMMIT; one
    // that is marked as failed is dropped by the caller's abort.
    unsafe {
        let former = pg_sys::CurrentMemoryContext;
        let former_ends_with_transaction = is_within(former, pg_sys::TopTransactionContext);
        // At COMMIT, PostgreSQL takes down portals' snapshots and insists that there are no others.
        while pg_sys::ActiveSnapshotSet() {
            pg_sys::PopActiveSnapshot();
        }
        let portal = pg_sys::CreateNewPortal();
        (*portal).visible = false;
        (*portal).status = pg_sys::PortalStatus::PORTAL_READY;
        pg_sys::MarkPortalActive(portal);
        let (outer_portal, outer_context) = (pg_sys::ActivePortal, pg_sys::PortalContext);
        let memory = (*portal).portalContext;
        pg_sys::ActivePortal = portal;
        pg_sys::PortalContext = memory;
        pg_sys::CurrentMemoryContext = memory;
        let result = call_raw(|| {
            raw::EnsurePortalSnapshotExists();
            call_procedure(call, memory, collation, false)
        });
        let outcome = result.map(Raw::outcome);
        pg_sys::ActivePortal = outer_portal;
        pg_sys::PortalContext = outer_context;
        let transaction_memory = pg_sys::TopTransactionContext;
        pg_sys::CurrentMemoryContext = match former_ends_with_transaction {
            false => former,
            true if transaction_memory.is_null() => pg_sys::TopMemoryContext,
            true => transaction_memory,
        };
        if outcome.is_err() {
            pg_sys::MarkPortalFailed(portal);
            return outcome;
        }
        if !(*portal).portalSnapshot.is_null() && pg_sys::ActiveSnapshotSet() {
            pg_sys::PopActiveSnapshot();
            (*portal).portalSnapshot = std::ptr::null_mut();
        }
        pg_sys::MarkPortalDone(portal);
        pg_sys::PortalDrop(portal, false);
        pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        outcome
    }
}

fn is_within(mut context: MemoryContext, ancestor: MemoryContext) -> bool {
    while !context.is_null() {
        if context == ancestor {
            return true;
        }
        // SAFETY: a live context, whose ancestors are alive too.
        context = unsafe { pg_sys::MemoryContextGetParent(context) };
    }
    false
}

/// Called under call_raw, in `memory`, which outlives the call's transactions.
unsafe fn call_procedure(call: &Call, memory: MemoryContext, collation: pg_sys::Oid, atomic: bool) -> Raw {
    // SAFETY: the node that transformCallStmt makes: input arguments only, of the declared types.
    // ExecuteCallStmt checks EXECUTE, and makes SECURITY DEFINER and SET clauses atomic.
    unsafe {
        let Some(defaults) = Defaults::of(call) else { return Raw::Vanished };
        let mut arguments = std::ptr::null_mut();
        for (i, argument) in call.arguments.iter().enumerate() {
            let node = match argument.value {
                Value::Datum(datum) => constant(argument.type_oid, Some(datum)).cast(),
                Value::Null => constant(argument.type_oid, None).cast(),
                Value::Default => defaults.expression(i),
            };
            arguments = raw::lappend(arguments, node.cast());
        }
        let statement = raw::palloc0(size_of::<pg_sys::CallStmt>()).cast::<pg_sys::CallStmt>();
        (*statement).type_ = pg_sys::NodeTag::T_CallStmt;
        (*statement).funcexpr = call_expression(call, arguments, collation);
        let receiver = raw::palloc0(size_of::<Receiver>()).cast::<Receiver>();
        (*receiver).head.receiveSlot = Some(receive);
        (*receiver).head.rStartup = Some(start_receiving);
        (*receiver).head.rShutdown = Some(end_receiving);
        (*receiver).head.rDestroy = Some(end_receiving);
        (*receiver).head.mydest = pg_sys::CommandDest::DestNone;
        (*receiver).memory = memory;
        raw::ExecuteCallStmt(statement, std::ptr::null_mut(), atomic, receiver.cast());
        match (*receiver).received {
            true => limited((*receiver).document, call.bytes_max),
            false => Raw::Nothing,
        }
    }
}

/// Takes the one row of a procedure's OUT parameters.
#[repr(C)]
struct Receiver {
    head: pg_sys::DestReceiver,
    memory: MemoryContext,
    document: Datum,
    received: bool,
}

unsafe extern "C-unwind" fn start_receiving(_: *mut pg_sys::DestReceiver, _: std::ffi::c_int, _: pg_sys::TupleDesc) {}
unsafe extern "C-unwind" fn end_receiving(_: *mut pg_sys::DestReceiver) {}
/// Nothing with a destructor in here: an ERROR jumps through it.
unsafe extern "C-unwind" fn receive(slot: *mut pg_sys::TupleTableSlot, receiver: *mut pg_sys::DestReceiver) -> bool {
    // SAFETY: the receiver that call_procedure made, and a filled slot.
    unsafe {
        let receiver = receiver.cast::<Receiver>();
        let former = pg_sys::CurrentMemoryContext;
        pg_sys::CurrentMemoryContext = (*receiver).memory;
        let row = raw::ExecFetchSlotHeapTupleDatum(slot);
        (*receiver).document = Converter::of(pg_sys::RECORDOID.to_u32(), (*receiver).memory).jsonb(row);
        (*receiver).received = true;
        pg_sys::CurrentMemoryContext = former;
        true
    }
}

/// A composite value that knows its type, as to_jsonb has it.
///
/// # Safety
/// It is one, and lives.
pub unsafe fn record(row: Datum) -> Result<Jsonb, Failure> {
    // SAFETY: the closure holds plain data.
    let outcome = in_own_memory(|own| unsafe { call_raw(|| Raw::Document(Converter::of(pg_sys::RECORDOID.to_u32(), own).jsonb(row))) })?;
    match outcome {
        Outcome::Document(document) => Ok(document),
        _ => Ok(Jsonb::null()),
    }
}

/// Whether the current user may call it. Called under call_raw: an ERROR if there is no such function.
unsafe fn may_execute(function: u32) -> bool {
    // SAFETY: a catalog look-up, and the hook that the executor calls at this point as well.
    unsafe {
        let user = pg_sys::GetUserId();
        #[cfg(feature = "pg15")]
        let answer = raw::pg_proc_aclcheck(oid(function), user, pg_sys::ACL_EXECUTE as _);
        #[cfg(not(feature = "pg15"))]
        let answer = raw::object_aclcheck(pg_sys::ProcedureRelationId, oid(function), user, pg_sys::ACL_EXECUTE as _);
        let allowed = answer == pg_sys::AclResult::ACLCHECK_OK;
        let hook = pg_sys::object_access_hook;
        if allowed && hook.is_some() {
            raw::RunFunctionExecuteHook(oid(function));
        }
        allowed
    }
}

/// The collation that SQL would give to the call: of its arguments' types, any before the default
/// one, none where two differ.
fn input_collation(arguments: &[Argument]) -> pg_sys::Oid {
    let mut chosen = pg_sys::InvalidOid;
    for argument in arguments {
        let collation = match oid(argument.type_oid) {
            pg_sys::TEXTOID | pg_sys::VARCHAROID => pg_sys::DEFAULT_COLLATION_OID,
            pg_sys::INT4OID | pg_sys::INT8OID | pg_sys::BOOLOID | pg_sys::JSONBOID | pg_sys::UUIDOID => pg_sys::InvalidOid,
            // SAFETY: a catalog look-up.
            other => unsafe { pg_sys::get_typcollation(other) },
        };
        let default = pg_sys::DEFAULT_COLLATION_OID;
        if collation == pg_sys::InvalidOid || collation == chosen || (collation == default && chosen != pg_sys::InvalidOid) {
            continue;
        }
        if chosen != pg_sys::InvalidOid && chosen != default {
            return pg_sys::InvalidOid;
        }
        chosen = collation;
    }
    chosen
}

/// A call of `function` with room for so many arguments, in the current memory context. Called under call_raw.
pub unsafe fn prepare(function: *mut FmgrInfo, arguments: usize, collation: pg_sys::Oid) -> FunctionCallInfo {
    // SAFETY: as large as SizeForFunctionCallInfo says.
    unsafe {
        let size = size_of::<FunctionCallInfoBaseData>() + arguments * size_of::<pg_sys::NullableDatum>();
        let call = raw::palloc0(size).cast::<FunctionCallInfoBaseData>();
        (*call).flinfo = function;
        (*call).fncollation = collation;
        (*call).nargs = arguments as _;
        call
    }
}

/// Called under call_raw, for an argument that `prepare` made room for.
pub unsafe fn put(call: FunctionCallInfo, index: usize, value: Option<Datum>) {
    // SAFETY: below nargs, see above.
    unsafe {
        let argument = (*call).args.as_mut_ptr().add(index);
        (*argument).value = value.unwrap_or(Datum::null());
        (*argument).isnull = value.is_none();
    }
}

/// Called under call_raw.
unsafe fn constant(type_oid: u32, value: Option<Datum>) -> *mut pg_sys::Const {
    let (mut length, mut by_value) = (0, false);
    // SAFETY: a node around a value of that type.
    unsafe {
        raw::get_typlenbyval(oid(type_oid), &mut length, &mut by_value);
        // By reference: into this context, which may have to outlive the value's own.
        let value = value.map(|v| raw::datumCopy(v, by_value, i32::from(length)));
        let is_null = value.is_none();
        raw::makeConst(oid(type_oid), -1, pg_sys::InvalidOid, i32::from(length), value.unwrap_or(Datum::null()), is_null, by_value)
    }
}

/// Called under call_raw.
unsafe fn call_expression(call: &Call, arguments: *mut pg_sys::List, collation: pg_sys::Oid) -> *mut pg_sys::FuncExpr {
    // SAFETY: a node around live ones.
    unsafe {
        let format = pg_sys::CoercionForm::COERCE_EXPLICIT_CALL;
        raw::makeFuncExpr(oid(call.function), oid(call.result), arguments, pg_sys::InvalidOid, collation, format)
    }
}

/// The DEFAULT expressions of the function that is called, as it declares them now.
struct Defaults {
    expressions: *mut pg_sys::List,
    /// The parameter that the first of them belongs to.
    first: usize,
}

impl Defaults {
    /// Reads the catalog only if a default is needed; None if the function doesn't declare it.
    /// Called under call_raw.
    unsafe fn of(call: &Call) -> Option<Defaults> {
        let mut defaults = Defaults { expressions: std::ptr::null_mut(), first: 0 };
        let Some(first_needed) = call.arguments.iter().position(|a| matches!(a.value, Value::Default)) else { return Some(defaults) };
        // SAFETY: the tuple is pinned while its text is copied; PostgreSQL wrote the text itself.
        unsafe {
            let cache = pg_sys::SysCacheIdentifier::PROCOID as i32;
            let tuple = raw::SearchSysCache1(cache, oid(call.function).into());
            if tuple.is_null() {
                return None;
            }
            let form = pg_sys::GETSTRUCT(tuple) as *const pg_sys::FormData_pg_proc;
            defaults.first = ((*form).pronargs - (*form).pronargdefaults) as usize;
            let mut is_null = true;
            let text = raw::SysCacheGetAttr(cache, tuple, pg_sys::Anum_pg_proc_proargdefaults as pg_sys::AttrNumber, &mut is_null);
            if !is_null {
                defaults.expressions = raw::stringToNode(raw::text_to_cstring(text.cast_mut_ptr())).cast();
            }
            raw::ReleaseSysCache(tuple);
            // The defaults are those of the last parameters, up to the very last.
            let declared = defaults.expressions.as_ref().map_or(0, |list| list.length as usize);
            (first_needed >= defaults.first && call.arguments.len() == defaults.first + declared).then_some(defaults)
        }
    }
    /// Of a parameter whose argument is Value::Default: `of` has checked that it has one.
    unsafe fn expression(&self, parameter: usize) -> *mut pg_sys::Expr {
        // SAFETY: a live list, an index inside of it.
        unsafe { (*(*self.expressions).elements.add(parameter - self.first)).ptr_value.cast() }
    }
    /// Evaluated as the current user, as in any call that leaves the parameter out. Called under call_raw.
    unsafe fn value(&self, parameter: usize) -> Option<Datum> {
        // SAFETY: the executor's protocol for an expression of its own. Its state is freed with
        // the memory context: the value may point into it.
        unsafe {
            let state = raw::CreateExecutorState();
            let expression = raw::ExecPrepareExpr(self.expression(parameter), state);
            let context = raw::MakePerTupleExprContext(state);
            let mut is_null = true;
            let value = (*expression).evalfunc.expect("prepared")(expression, context, &mut is_null);
            (!is_null).then_some(value)
        }
    }
}

/// Values of one type to jsonb.
struct Converter {
    type_oid: pg_sys::Oid,
    memory: MemoryContext,
    /// to_jsonb told what it is given; made when first needed.
    function: *mut FmgrInfo,
}

impl Converter {
    fn of(type_oid: u32, memory: MemoryContext) -> Converter {
        Converter { type_oid: oid(type_oid), memory, function: std::ptr::null_mut() }
    }
    /// `value` as to_jsonb has it, neither compressed nor moved out of line. Called under call_raw.
    unsafe fn jsonb(&mut self, value: Datum) -> Datum {
        // SAFETY: each arm reads a value of its type; a function's result is not NULL here.
        unsafe {
            let mut json = JsonbValue::default();
            match self.type_oid {
                pg_sys::JSONBOID => return Datum::from(raw::pg_detoast_datum(value.cast_mut_ptr())),
                pg_sys::BOOLOID => {
                    json.type_ = jbvType::jbvBool;
                    json.val.boolean = value.value() as u8 != 0;
                }
                pg_sys::INT2OID | pg_sys::INT4OID | pg_sys::INT8OID => {
                    let number = match self.type_oid {
                        pg_sys::INT2OID => value.value() as i16 as i64,
                        pg_sys::INT4OID => value.value() as i32 as i64,
                        _ => value.value() as i64,
                    };
                    json.type_ = jbvType::jbvNumeric;
                    json.val.numeric = raw::int64_to_numeric(number);
                }
                pg_sys::TEXTOID | pg_sys::VARCHAROID => {
                    let text = raw::pg_detoast_datum_packed(value.cast_mut_ptr());
                    json.type_ = jbvType::jbvString;
                    json.val.string.len = pgrx::varsize_any_exhdr(text) as i32;
                    json.val.string.val = pgrx::vardata_any(text).cast_mut().cast();
                }
                _ => {
                    if self.function.is_null() {
                        self.function = to_jsonb_of(self.type_oid, self.memory);
                    }
                    return raw::FunctionCall1Coll(self.function, pg_sys::InvalidOid, value);
                }
            }
            Datum::from(raw::JsonbValueToJsonb(&mut json))
        }
    }
}

/// to_jsonb learns its argument's type from the expression that it is called in. Called under call_raw.
unsafe fn to_jsonb_of(type_oid: pg_sys::Oid, memory: MemoryContext) -> *mut FmgrInfo {
    // SAFETY: nodes and FmgrInfo live in `memory`, as long as the converter.
    unsafe {
        let former = pg_sys::CurrentMemoryContext;
        pg_sys::CurrentMemoryContext = memory;
        let function = raw::palloc0(size_of::<FmgrInfo>()).cast::<FmgrInfo>();
        let to_jsonb = oid(pg_sys::F_TO_JSONB);
        raw::fmgr_info_cxt(to_jsonb, function, memory);
        let argument = raw::makeConst(type_oid, -1, pg_sys::InvalidOid, -1, Datum::null(), true, false);
        let arguments = raw::lappend(std::ptr::null_mut(), argument.cast());
        let format = pg_sys::CoercionForm::COERCE_EXPLICIT_CALL;
        (*function).fn_expr =
            raw::makeFuncExpr(to_jsonb, pg_sys::JSONBOID, arguments, pg_sys::InvalidOid, pg_sys::InvalidOid, format).cast();
        pg_sys::CurrentMemoryContext = former;
        function
    }
}

unsafe fn limited(jsonb: Datum, bytes_max: usize) -> Raw {
    // SAFETY: a jsonb that Converter or JsonbValueToJsonb made.
    match unsafe { pgrx::varsize_any(jsonb.cast_mut_ptr::<pg_sys::varlena>()) } > bytes_max {
        true => Raw::TooLarge,
        false => Raw::Document(jsonb),
    }
}
