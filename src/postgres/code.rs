//! Code that isn't PostgreSQL's own, and where it may run.
//!
//! A handler, a listener and a condition are code, and so is a value of a type that somebody has made: a domain's CHECK,
//! a parameter's DEFAULT, a cast, a range's canonical function. In somebody else's session that code would read the
//! session's settings and pass its policies; where no timer runs it could hold the process for ever. So it runs only
//! - in an attempt: in an executor that is a session of the role, or where somebody has become the role, can't become
//!   anybody else meanwhile and asks for that very role's tasks (tq_drain, tq_run_pending, sync); the attempt's timer
//!   runs; or
//! - at an enqueue in a session of one's own: the current user, the session's user and who has connected are all the role.
//!
//! Whatever else writes down such values (ends of attempts by whomever, listeners' tasks, hooks, fan-outs, ticks, ends of
//! executors, sweeps, retention, views) has them as data. They become values when their own attempt begins.
//!
//! What runs such code asks for a `MayRunCode`, which nobody can make elsewhere. These are all the places that could
//! evaluate what somebody else has written; tests/attack/code.rs knows this list, and fails when it isn't true any more.
//!
//! | File | What | In whose session |
//! |---|---|---|
//! | src/work/run.rs | `MayRunCode::in_attempt` | the executor's, which is the listener's role, under its timer |
//! | src/work/attempt.rs | `MayRunCode::in_attempt` | an executor's or the caller's, who is the task's role, under its timer |
//! | src/handler/mod.rs | `MayRunCode::at_enqueue` | the caller's own, if the handler's role is the caller |
//! | src/work/ask.rs | `invoke::call(` | as attempt.rs and run.rs have it; at enqueue the caller's own |
//! | src/work/attempt.rs | `invoke::call(` | the attempt's |
//! | src/work/attempt.rs | `invoke::call_procedure(` | the attempt's |
//! | src/work/ask.rs | `arguments::bind(` | the attempt's; at enqueue the caller's own |
//! | src/work/attempt.rs | `arguments::bind(` | the attempt's |
//! | src/work/attempt.rs | `condition::is_true` | the attempt's |
//! | src/work/ask.rs | `condition::is_true` | an executor's of the schema's owner: of a task that a worker is to take |
//! | src/handler/arguments.rs | `document::convert` | with leave any type, without PostgreSQL's own |
//! | src/work/run.rs | `fire_deferred(` | the attempt's |
//! | src/work/own_session.rs | `deferred::fire(` | the attempt's |
//! | src/work/own_session.rs | `declared.fire(` | the attempt's |
//! | src/calls/own_session.rs | `declared.fire(` | before the first task, what the caller has deferred |
//! | src/handler/arguments.rs | `sandbox::as_owner(` | at enqueue the caller's own |
//! | src/work/ask.rs | `sandbox::as_owner(` | at enqueue the caller's own |
//! | src/calls/tenants.rs | `sandbox::as_owner(` | the caller's of tq_attach and tq_detach: our own DDL |
//! | src/calls/rights.rs | `sandbox::as_owner(` | the caller's of tq_grant: our own GRANT |
//! | src/calls/upgrade.rs | `sandbox::as_owner(` | the caller's of tq_upgrade: CREATE INDEX over our own columns |
//! | src/calls/tables.rs | `sandbox::as_owner(` | the caller's of tq_listen_table: CREATE TRIGGER evaluates nothing |
//! | src/calls/upgrade.rs | `sandbox::as_owner(` | the caller's of tq_upgrade: our own CREATE INDEX, of plain columns |

use crate::postgres::caught::Failure;
use crate::postgres::sqlstate::SqlState;
use crate::postgres::{sandbox, timeout, worker};
use std::marker::PhantomData;

/// Leave to run code as `role`, here and now. Looked at again whenever it is made use of: code that ran before may have
/// become somebody else.
pub struct MayRunCode {
    role: u32,
    place: Place,
    here: PhantomData<*const ()>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Attempt,
    Enqueue,
}

impl MayRunCode {
    /// In an attempt of a task that runs as `role`, while its timer runs.
    pub fn in_attempt(role: u32) -> Result<MayRunCode, Failure> {
        let leave = MayRunCode { role, place: Place::Attempt, here: PhantomData };
        leave.check().map(|()| leave)
    }

    /// Where somebody enqueues: None in any session but the role's own. A task that enqueues is one in its attempt.
    pub fn at_enqueue(role: u32) -> Option<MayRunCode> {
        let leave = MayRunCode { role, place: Place::Enqueue, here: PhantomData };
        leave.check().ok().map(|()| leave)
    }

    pub fn role(&self) -> u32 {
        self.role
    }

    /// Fails where the session is not, or no longer, one in which the role's code may run.
    pub fn check(&self) -> Result<(), Failure> {
        let own = sandbox::is_own_session();
        let may = sandbox::current_user().to_u32() == self.role
            && match self.place {
                _ if worker::is_ours() => own && timeout::is_armed(),
                Place::Attempt => timeout::is_armed() && (own || sandbox::is_role_kept()),
                Place::Enqueue => own,
            };
        if may { Ok(()) } else { Err(Failure::new(SqlState::INSUFFICIENT_PRIVILEGE, "the session is not the role whose code would run")) }
    }
}
