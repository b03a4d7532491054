//! What this session is running, for the calls that a handler may make about itself.

use crate::postgres::sqlstate::SqlState;
use crate::pure::ids::Id;
use crate::pure::period::Period;
use crate::pure::time::At;
use serde_json::Value as Json;
use std::cell::RefCell;

/// The task this session runs at the moment: what tq_current() tells.
#[derive(Clone)]
pub struct Current {
    pub id: Id,
    pub tenant: String,
    pub handler: String,
    pub attempt: i32,
    pub max_attempts: i32,
    pub schedule: Option<String>,
    pub scheduled_for: Option<At>,
    pub deadline: Option<At>,
    pub meta: Option<Json>,
    /// The step before, whose result is its last argument.
    pub pass: Option<Id>,
    /// Its args are many.
    pub each: bool,
}

/// Another attempt, as tq_retry asks for it.
#[derive(Clone)]
pub struct Another {
    /// None: as the policy says.
    pub delay: Option<Period>,
    /// This one counts.
    pub counts: bool,
    /// None: those that it has.
    pub args: Option<Json>,
}

/// A call by which a handler ends its attempt.
#[derive(Clone)]
pub enum Call {
    Retry(Another),
    /// tq_fail.
    Fail,
}

impl Call {
    /// What the call raises.
    pub fn sqlstate(&self) -> SqlState {
        match self {
            Call::Retry(_) => SqlState::RETRY,
            Call::Fail => SqlState::GIVE_UP,
        }
    }
}

thread_local! {
    static CURRENT: RefCell<Option<Current>> = const { RefCell::new(None) };
    /// Comes from below the handler, by SQL: nothing but the session reaches from there to whoever runs the attempt.
    static CALL: RefCell<Option<Call>> = const { RefCell::new(None) };
}

pub fn current() -> Option<Current> {
    CURRENT.with_borrow(|c| c.clone())
}

pub fn set_current(current: Option<Current>) {
    CURRENT.with_borrow_mut(|c| *c = current);
}

/// The handler calls this, whose error is about to be raised.
pub fn note_call(call: Call) {
    CALL.set(Some(call));
}

/// Puts `call` in place of what the handler has called so far, and returns that.
pub fn replace_call(call: Option<Call>) -> Option<Call> {
    CALL.replace(call)
}
