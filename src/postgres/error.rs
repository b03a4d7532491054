//! Every error a user can cause, with its SQLSTATE, DETAIL (the facts) and HINT (the way out).
//!
//! One struct, one place of conversion to a PostgreSQL error. Messages are lower-case and end
//! without a full stop. `error!()` (XX000) is for bugs only.

use pgrx::prelude::*;

/// A user-facing error; build it with one of the constructors below, return it as `Result<_, Error>`.
#[derive(Debug, Clone)]
pub struct Error {
    pub sqlstate: &'static str,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub fn new(sqlstate: &'static str, message: impl Into<String>) -> Self {
        Error { sqlstate, message: message.into(), detail: None, hint: None }
    }
    pub fn detail(mut self, text: impl Into<String>) -> Self {
        self.detail = Some(text.into());
        self
    }
    pub fn hint(mut self, text: impl Into<String>) -> Self {
        self.hint = Some(text.into());
        self
    }

    /// 22023: a value that makes no sense for the parameter it was given for.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new("22023", message)
    }
    /// 0A000: a parameter that is part of the surface and not available yet.
    pub fn unsupported(what: &str) -> Self {
        Self::new("0A000", format!("{what} is not supported yet"))
    }
    /// 42501: the caller lacks a privilege.
    pub fn denied(message: impl Into<String>) -> Self {
        Self::new("42501", message)
    }
    /// 42704: something that was named does not exist.
    pub fn undefined(message: impl Into<String>) -> Self {
        Self::new("42704", message)
    }
    /// 54000: a limit of size or number.
    pub fn limit(message: impl Into<String>) -> Self {
        Self::new("54000", message)
    }
    /// 55000: the object or the server isn't in the state that the call needs.
    pub fn state(message: impl Into<String>) -> Self {
        Self::new("55000", message)
    }

    /// Raises this as an ERROR; doesn't return. The edge (postgres/call.rs) makes it one.
    pub fn raise(self) -> ! {
        std::panic::panic_any(self)
    }
    pub fn warn(self) {
        crate::postgres::call::report(self, PgLogLevel::WARNING);
    }
    pub fn notice(self) {
        crate::postgres::call::report(self, PgLogLevel::NOTICE);
    }
}

/// The one conversion of `Result` into a value or an ERROR; used at the edge, in SQL-callable functions.
pub trait OrRaise<T> {
    fn or_raise(self) -> T;
}
impl<T> OrRaise<T> for Result<T> {
    fn or_raise(self) -> T {
        match self {
            Ok(value) => value,
            Err(error) => error.raise(),
        }
    }
}

const INTERNED: usize = 1000;

/// A SQLSTATE as the static text that `Error` keeps; each distinct one is leaked once. Handlers make their own, as many
/// as they like: beyond so many it is an error of theirs like any other.
pub fn intern(sqlstate: &str) -> &'static str {
    thread_local! { static KNOWN: std::cell::RefCell<Vec<&'static str>> = const { std::cell::RefCell::new(Vec::new()) }; }
    KNOWN.with_borrow_mut(|known| match known.iter().find(|k| **k == sqlstate) {
        Some(k) => *k,
        None if known.len() >= INTERNED => "P0001",
        None => {
            let leaked: &'static str = Box::leak(sqlstate.to_string().into_boxed_str());
            known.push(leaked);
            leaked
        }
    })
}
