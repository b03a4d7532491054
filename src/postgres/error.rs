//! Every error a user can cause, with its SQLSTATE, DETAIL (the facts) and HINT (the way out).
//!
//! One struct, one place of conversion to a PostgreSQL error. Messages are lower-case and end
//! without a full stop. `error!()` (XX000) is for bugs only.

use crate::postgres::caught::Failure;
use crate::postgres::kept::Place;
use crate::postgres::sqlstate::SqlState;
use crate::pure::choice::Unknown;
use pgrx::prelude::*;

/// A user-facing error; build it with one of the constructors below, return it as `Result<_, Error>`.
#[derive(Debug, Clone)]
pub struct Error {
    pub sqlstate: SqlState,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
    /// Where in SQL it was found, and what it is about, as PostgreSQL's own errors have it.
    pub place: Option<Box<Place>>,
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub fn new(sqlstate: SqlState, message: impl Into<String>) -> Self {
        Error { sqlstate, message: message.into(), detail: None, hint: None, place: None }
    }
    pub fn detail(mut self, text: impl Into<String>) -> Self {
        self.detail = Some(text.into());
        self
    }
    pub fn hint(mut self, text: impl Into<String>) -> Self {
        self.hint = Some(text.into());
        self
    }

    /// It is about a character (from 1) of a text that somebody has given.
    pub fn at(mut self, given: &str, character: usize) -> Self {
        let query = Some((given.to_string(), i32::try_from(character).unwrap_or(i32::MAX)));
        self.place = Some(Box::new(Place { query, ..Place::default() }));
        self
    }
    /// Where the statement was made of what somebody has given, the place is told in that.
    pub fn within(mut self, given: &str) -> Self {
        if let Some((query, position)) = self.place.as_mut().and_then(|place| place.query.as_mut())
            && let Some(start) = query.find(given)
        {
            let before = i32::try_from(query[..start].chars().count()).unwrap_or(i32::MAX);
            let length = i32::try_from(given.chars().count()).unwrap_or(i32::MAX);
            *position = position.saturating_sub(before).clamp(1, length.max(1));
            *query = given.to_string();
        }
        self
    }

    /// 22023: a value that makes no sense for the parameter it was given for.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(SqlState::INVALID_PARAMETER_VALUE, message)
    }
    /// 42501: the caller lacks a privilege.
    pub fn denied(message: impl Into<String>) -> Self {
        Self::new(SqlState::INSUFFICIENT_PRIVILEGE, message)
    }
    /// 42704: something that was named does not exist.
    pub fn undefined(message: impl Into<String>) -> Self {
        Self::new(SqlState::UNDEFINED_OBJECT, message)
    }
    /// 54000: a limit of size or number.
    pub fn limit(message: impl Into<String>) -> Self {
        Self::new(SqlState::PROGRAM_LIMIT_EXCEEDED, message)
    }
    /// XX000: a fault of ours.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(SqlState::INTERNAL_ERROR, message)
    }
    /// 55000: the object or the server isn't in the state that the call needs.
    pub fn state(message: impl Into<String>) -> Self {
        Self::new(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, message)
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

impl From<Failure> for Error {
    /// For callers outside the workers, where a failure is theirs to see.
    fn from(failure: Failure) -> Error {
        Error { sqlstate: failure.sqlstate, message: failure.message, detail: failure.detail, hint: failure.hint, place: failure.place }
    }
}

/// A parameter's value that is none of those it can have.
impl From<Unknown> for Error {
    fn from(unknown: Unknown) -> Error {
        Error::invalid(unknown.message).hint(unknown.hint)
    }
}

/// A statement of the engine's own that the server refused.
impl From<pgrx::spi::Error> for Error {
    fn from(error: pgrx::spi::Error) -> Error {
        Error::new(SqlState::INTERNAL_ERROR, error.to_string())
    }
}
