//! The end of a task: its row goes and its result comes, in one transaction.
//!
//! The fence: the very row that was run must still be there; otherwise nothing of the attempt stands.

use crate::postgres::caught::{Failure, Own};
use crate::postgres::clock;
use crate::postgres::relation::{Table, Write};
use crate::postgres::row::Row;
use crate::postgres::sqlstate::SqlState;
use crate::postgres::types::Jsonb;
use crate::pure::state::{AttemptEnd, Ended};
use crate::pure::time::{At, Span};
use crate::shared::slot::Item;
use crate::task::lookup;
use crate::tenant::columns::{Results, Tasks};
use serde_json::{Value as Json, json};

/// Longest text of an error that is kept.
const TEXT: usize = 8 * 1024;

/// Attempts that a task remembers.
pub const HISTORY: usize = 10;

/// Attempts of a task that were interrupted one after the other: the last of so many counts as a failed one.
pub const INTERRUPTIONS: i64 = 10;

/// So often a handler can put a task off without an attempt.
pub const SNOOZES: u32 = 1000;

/// Whether the row that was to be completed was not there.
pub fn is_fenced(failure: &Failure) -> bool {
    matches!(failure.own, Some(Own::Fenced | Own::Gone))
}

/// How a finished task is recorded.
#[derive(Default)]
pub struct End<'a> {
    pub state: Ended,
    pub attempts: i32,
    /// None: as the row has it.
    pub crashes: Option<i32>,
    pub started_at: Option<At>,
    pub result: Option<&'a Jsonb>,
    pub error: Option<Json>,
    pub history: Option<Json>,
}

impl End<'_> {
    /// What its error says.
    pub fn message(&self) -> Option<&str> {
        self.error.as_ref().and_then(|error| error["message"].as_str())
    }
}

/// Deletes the very row, or fails: Fenced or Gone.
pub fn remove(table: &Table<Tasks>, item: &Item) -> Result<Row<Tasks>, Failure> {
    let fenced = |how: Own| {
        let sqlstate = if how == Own::Gone { SqlState::GONE } else { SqlState::FENCED };
        Failure::ours(how, sqlstate, "the task was changed, cancelled or finished meanwhile")
    };
    let row = lookup::find(table, item).ok_or_else(|| fenced(Own::Gone))?;
    match table.delete(&row) {
        Write::Done => Ok(row),
        Write::Overtaken => Err(fenced(Own::Fenced)),
    }
}

/// Writes the finished task. A second result of one id raises 23505.
pub fn record(results: &Table<Results>, row: &Row<Tasks>, end: &End) {
    let error = end.error.clone().map(Jsonb::from_value);
    let history = end.history.clone().map(Jsonb::from_value);
    results.insert(&[
        Results::ID.as_in(row, Tasks::ID),
        Results::HANDLER.as_in(row, Tasks::HANDLER),
        Results::STATE.to(end.state),
        Results::PRIORITY.as_in(row, Tasks::PRIORITY),
        Results::ATTEMPTS.to(end.attempts),
        Results::CRASHES.to(end.crashes.or(row.get(Tasks::CRASHES))),
        Results::CREATED_AT.as_in(row, Tasks::CREATED_AT),
        Results::RUN_AT.as_in(row, Tasks::RUN_AT),
        Results::STARTED_AT.to(end.started_at),
        Results::FINISHED_AT.to(clock::now()),
        Results::ARGS.as_in(row, Tasks::ARGS),
        Results::RESULT.to(end.result),
        Results::ERROR.to(error.as_ref()),
        Results::NAME.as_in(row, Tasks::NAME),
        Results::GROUP_ID.as_in(row, Tasks::GROUP_ID),
        Results::QUEUE.as_in(row, Tasks::QUEUE),
        Results::UNIQUE_KEY.as_in(row, Tasks::UNIQUE_KEY),
        Results::LOCK_KEY.as_in(row, Tasks::LOCK_KEY),
        Results::LIMIT_KEY.as_in(row, Tasks::LIMIT_KEY),
        Results::PARENT_ID.as_in(row, Tasks::PARENT_ID),
        Results::SCHEDULE.as_in(row, Tasks::SCHEDULE),
        Results::SCHEDULED_FOR.as_in(row, Tasks::SCHEDULED_FOR),
        Results::EXPIRES_AT.as_in(row, Tasks::EXPIRES_AT),
        Results::ENQUEUED_BY.as_in(row, Tasks::ENQUEUED_BY),
        Results::BY_SUPERUSER.as_in(row, Tasks::BY_SUPERUSER),
        Results::OPTIONS.as_in(row, Tasks::OPTIONS),
        Results::META.as_in(row, Tasks::META),
        history.as_ref().map_or(Results::HISTORY.as_in(row, Tasks::HISTORY), |history| Results::HISTORY.to(history)),
    ]);
}

pub fn error_document(failure: &Failure) -> Json {
    let mut error = json!({ "sqlstate": failure.sqlstate, "message": cut(&failure.message) });
    for (key, text) in [
        ("detail", failure.detail.as_deref()),
        ("hint", failure.hint.as_deref()),
        ("context", failure.context.as_deref()),
        ("class", failure.class.as_deref()),
    ] {
        if let Some(t) = text {
            error[key] = cut(t).into();
        }
    }
    error
}

/// The error of a task's last attempt, as its history has it.
pub fn last_error(history: Option<Json>, hint: &str) -> Json {
    let last = history.as_ref().and_then(|history| history.as_array()?.last());
    let mut error = json!({ "hint": hint });
    for key in ["sqlstate", "message", "detail", "context", "class"] {
        if let Some(value) = last.and_then(|last| last.get(key)).filter(|value| !value.is_null()) {
            error[key] = value.clone();
        }
    }
    error
}

fn cut(text: &str) -> String {
    // jsonb takes no NUL.
    let clean = text.replace('\0', "");
    if clean.len() <= TEXT {
        return clean;
    }
    let mut end = TEXT;
    while !clean.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &clean[..end])
}

/// One attempt as its task remembers it.
pub fn attempt_document(attempt: i32, how: AttemptEnd, started_at: At, failure: &Failure) -> Json {
    let mut document = json!({
        "attempt": attempt,
        "outcome": how.name(),
        "started_at": started_at,
        "duration": (clock::now() - started_at).max(Span::ZERO),
        "sqlstate": failure.sqlstate,
        "message": cut(&failure.message),
        "detail": failure.detail.as_deref().map(cut),
        "hint": failure.hint.as_deref().map(cut),
        "context": failure.context.as_deref().map(cut),
        "pid": std::process::id(),
    });
    if let Some(class) = &failure.class {
        document["class"] = cut(class).into();
    }
    document
}
