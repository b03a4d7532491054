//! The end of a task: its row goes and its result comes, in one transaction.
//!
//! The fence: the very row that was run must still be there; otherwise nothing of the attempt stands.

use crate::postgres::caught::{Failure, Own};
use crate::postgres::clock;
use crate::postgres::relation::{Gone, Row, Table, Tid, Value};
use crate::postgres::sqlstate::SqlState;
use crate::postgres::types::Jsonb;
use crate::pure::state::AttemptEnd;
use crate::pure::time::Micros;
use crate::shared::slot::Item;
use crate::tenant::columns::col;
use serde_json::{Value as Json, json};

/// Longest text of an error that is kept.
const TEXT: usize = 8 * 1024;

/// Attempts that a task remembers.
pub const HISTORY: usize = 10;

/// Attempts of a task that were interrupted one after the other: the last of so many counts as a failed one.
pub const INTERRUPTIONS: i64 = 10;

/// Whether the row that was to be completed was not there.
pub fn is_fenced(failure: &Failure) -> bool {
    matches!(failure.own, Some(Own::Fenced | Own::Gone))
}

/// How a finished task is recorded.
#[derive(Default)]
pub struct End<'a> {
    pub state: u8,
    pub attempts: i32,
    /// None: as the row has it.
    pub crashes: Option<i32>,
    pub started_at: Option<Micros>,
    pub result: Option<&'a Jsonb>,
    pub error: Option<Json>,
    pub history: Option<Json>,
}

/// Deletes the very row, or fails: Fenced or Gone.
pub fn remove(table: &Table, item: &Item) -> Result<Row, Failure> {
    let is_it = |r: &Row| {
        r.uuid(col::ID) == Some(item.id) && r.time(col::CREATED_AT) == Some(item.stamp) && r.i32(col::ATTEMPTS) == Some(item.attempts)
    };
    let fenced = |how: Own| {
        let sqlstate = if how == Own::Gone { SqlState::GONE } else { SqlState::FENCED };
        Failure::ours(how, sqlstate, "the task was changed, cancelled or finished meanwhile")
    };
    // Usually it is where it was picked; after a rewrite of the table the index knows.
    let row = table
        .fetch(Tid(item.tid))
        .filter(|r| is_it(r))
        .or_else(|| table.find(&[col::ID as i16], Value::Uuid(item.id)).filter(|r| is_it(r)))
        .ok_or_else(|| fenced(Own::Gone))?;
    match table.delete(&row) {
        Gone::Done => Ok(row),
        Gone::Lost => Err(fenced(Own::Fenced)),
    }
}

/// Writes the finished task. A second result of one id raises 23505.
pub fn record(results: &Table, row: &Row, end: &End) {
    let error = end.error.clone().map(Jsonb::from_value);
    let history = end.history.clone().map(Jsonb::from_value);
    results.insert(&[
        row.value(col::ID),
        row.value(col::HANDLER),
        Value::Char(end.state),
        row.value(col::PRIORITY),
        Value::I32(end.attempts),
        end.crashes.map_or(row.value(col::CRASHES), Value::I32),
        row.value(col::CREATED_AT),
        row.value(col::RUN_AT),
        Value::time(end.started_at),
        Value::Time(clock::now()),
        row.value(col::ARGS),
        Value::json(end.result),
        Value::json(error.as_ref()),
        row.value(col::NAME),
        row.value(col::GROUP_ID),
        row.value(col::QUEUE),
        row.value(col::UNIQUE_KEY),
        row.value(col::LOCK_KEY),
        row.value(col::LIMIT_KEY),
        row.value(col::PARENT_ID),
        row.value(col::SCHEDULE),
        row.value(col::SCHEDULED_FOR),
        row.value(col::EXPIRES_AT),
        row.value(col::ENQUEUED_BY),
        row.value(col::BY_SUPERUSER),
        row.value(col::OPTIONS),
        row.value(col::META),
        history.as_ref().map_or(row.value(col::HISTORY), Value::Json),
    ]);
}

pub fn error_document(failure: &Failure) -> Json {
    let mut error = json!({ "sqlstate": failure.sqlstate, "message": cut(&failure.message) });
    for (key, text) in [("detail", failure.detail.as_deref()), ("hint", failure.hint.as_deref()), ("context", failure.context.as_deref())] {
        if let Some(t) = text {
            error[key] = cut(t).into();
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
pub fn attempt_document(attempt: i32, how: AttemptEnd, started_at: Micros, failure: &Failure) -> Json {
    json!({
        "attempt": attempt,
        "outcome": how.name(),
        "started_at": started_at,
        "duration": (clock::now() - started_at).max(0),
        "sqlstate": failure.sqlstate,
        "message": cut(&failure.message),
        "detail": failure.detail.as_deref().map(cut),
        "hint": failure.hint.as_deref().map(cut),
        "context": failure.context.as_deref().map(cut),
        "pid": std::process::id(),
    })
}
