//! What this session is running, for the calls that a handler may make about itself.

use crate::postgres::sqlstate::SqlState;
use crate::pure::ids::Id;
use crate::pure::time::{At, Span};
use std::cell::{Cell, RefCell};

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
    pub meta: Option<serde_json::Value>,
}

/// A call by which a handler ends its attempt.
#[derive(Clone, Copy)]
pub enum Call {
    /// tq_retry, with its delay.
    Retry(Option<Span>),
    /// tq_fail.
    Fail,
}

impl Call {
    /// What the call raises.
    pub fn sqlstate(self) -> SqlState {
        match self {
            Call::Retry(_) => SqlState::RETRY,
            Call::Fail => SqlState::GIVE_UP,
        }
    }
}

thread_local! {
    static CURRENT: RefCell<Option<Current>> = const { RefCell::new(None) };
    /// Comes from below the handler, by SQL: nothing but the session reaches from there to whoever runs the attempt.
    static CALL: Cell<Option<Call>> = const { Cell::new(None) };
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
