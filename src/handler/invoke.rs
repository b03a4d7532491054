//! Running a handler: its result as jsonb, or its error whole.
//!
//! The function runs as the current user, whose right to it is checked first, in the transaction
//! that is open. After an `Err` the caller rolls back.

use crate::handler::arguments::Bound;
use crate::handler::signature::{Kind, Signature};
use crate::postgres::caught::Failure;
use crate::postgres::code::MayRunCode;
use crate::postgres::function::execute::{self, Call, Outcome};
use crate::postgres::sqlstate::SqlState;
use crate::postgres::types::Jsonb;
use crate::settings;

/// A result may be larger than arguments: it isn't copied about. Ten times.
const RESULT_FACTOR: usize = 10;

/// Calls the function in the transaction that is open. void and SQL NULL give JSON null, as does a
/// strict function that is given a NULL; a set gives the array of its rows. A procedure can be
/// called as well, but can't COMMIT.
pub fn call(sig: &Signature, bound: &Bound, code: &MayRunCode) -> Result<Jsonb, Failure> {
    let call = prepare(sig, bound);
    let outcome = match sig.kind {
        Kind::Procedure => execute::procedure(&call, code),
        Kind::Function if sig.returns_set => execute::rows(&call, code),
        Kind::Function => execute::single(&call, code),
    };
    result_of(sig, outcome?)
}

/// CALLs the procedure so that it may COMMIT. For a background worker's own transaction, outside
/// of any function or SPI. On return a transaction is open: on `Ok` one with a snapshot, maybe
/// another one than before; on `Err` the one to be aborted.
pub fn call_procedure(sig: &Signature, bound: &Bound, code: &MayRunCode) -> Result<Jsonb, Failure> {
    result_of(sig, execute::procedure_with_transactions(&prepare(sig, bound), code)?)
}

fn prepare<'a>(sig: &Signature, bound: &'a Bound) -> Call<'a> {
    assert_eq!(sig.oid, bound.function, "arguments are bound to the function that is called");
    Call {
        function: sig.oid,
        result: sig.result,
        arguments: &bound.arguments,
        bytes_max: settings::max_args_bytes().saturating_mul(RESULT_FACTOR),
    }
}

fn result_of(sig: &Signature, outcome: Outcome) -> Result<Jsonb, Failure> {
    match outcome {
        Outcome::Document(document) => Ok(document),
        Outcome::Nothing => Ok(json_null()),
        Outcome::TooLarge => Err(Failure {
            detail: Some(format!(
                "It takes more than {} bytes as jsonb, ten times tenant_q.max_args.",
                settings::max_args_bytes().saturating_mul(RESULT_FACTOR)
            )),
            hint: Some("Keep large results in a table and return where to find them.".into()),
            ..Failure::new(SqlState::PROGRAM_LIMIT_EXCEEDED, format!("the result of {} is too large", sig.identity))
        }),
        Outcome::Denied => {
            let what = if sig.kind == Kind::Procedure { "procedure" } else { "function" };
            Err(Failure::new(SqlState::INSUFFICIENT_PRIVILEGE, format!("permission denied for {what} {}", sig.identity)))
        }
        Outcome::Vanished => Err(Failure::new(SqlState::UNDEFINED_FUNCTION, format!("handler {} does not exist any more", sig.identity))),
    }
}

/// JSON null, made once: most handlers return it.
fn json_null() -> Jsonb {
    thread_local!(static NULL: Jsonb = Jsonb::null());
    NULL.with(Jsonb::clone)
}
