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

/// What the handler asked for before it raised TQ001 or TQ003.
#[derive(Clone, Default)]
pub struct Asked {
    pub call: Option<Call>,
    /// Another attempt could end no other way.
    pub in_vain: bool,
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

/// Whose statements an attempt runs at the moment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Ours, before anything of the tenant's.
    Preparing,
    /// The tenant's: conditions, listeners, the handler, what it has deferred.
    Handler,
    /// Ours again: what fails now is no attempt of the handler's.
    Completing,
}

thread_local! {
    static CURRENT: RefCell<Option<Current>> = const { RefCell::new(None) };
    pub static ASKED: RefCell<Asked> = RefCell::default();
    pub static STAGE: Cell<Stage> = const { Cell::new(Stage::Preparing) };
}

pub fn current() -> Option<Current> {
    CURRENT.with_borrow(|c| c.clone())
}

pub fn set_current(current: Option<Current>) {
    CURRENT.with_borrow_mut(|c| *c = current);
}

/// The handler calls this, whose error is about to be raised.
pub fn ask(call: Call) {
    ASKED.with_borrow_mut(|a| a.call = Some(call));
}

/// Puts `asked` in place of what the handler has asked for so far, and returns that.
pub fn replace_asked(asked: Asked) -> Asked {
    ASKED.replace(asked)
}
