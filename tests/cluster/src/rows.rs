//! Rows and errors as a test wants to compare them: text, SQLSTATE.

use std::fmt;

use postgres::{Client, SimpleQueryMessage};

/// One row, every value as PostgreSQL writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row(pub Vec<Option<String>>);

impl Row {
    /// A column's text; "" for null.
    pub fn get(&self, column: usize) -> &str {
        self.0[column].as_deref().unwrap_or("")
    }

    pub fn is_null(&self, column: usize) -> bool {
        self.0[column].is_none()
    }

    pub fn joined(&self, separator: &str) -> String {
        (0..self.0.len()).map(|column| self.get(column)).collect::<Vec<_>>().join(separator)
    }
}

/// An error of the server (or of the connection, without a code).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqlError {
    /// SQLSTATE; "" if the connection broke.
    pub code: String,
    pub message: String,
    pub detail: String,
    pub hint: String,
}

impl From<postgres::Error> for SqlError {
    fn from(error: postgres::Error) -> SqlError {
        match error.as_db_error() {
            Some(db) => SqlError {
                code: db.code().code().to_owned(),
                message: db.message().to_owned(),
                detail: db.detail().unwrap_or_default().to_owned(),
                hint: db.hint().unwrap_or_default().to_owned(),
            },
            None => SqlError { code: String::new(), message: error.to_string(), detail: String::new(), hint: String::new() },
        }
    }
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.message)?;
        for (name, text) in [("DETAIL", &self.detail), ("HINT", &self.hint)] {
            if !text.is_empty() {
                write!(f, "\n  {name}: {text}")?;
            }
        }
        Ok(())
    }
}

/// The rows of the last statement that has any.
pub fn query(client: &mut Client, sql: &str) -> Result<Vec<Row>, SqlError> {
    let mut rows = Vec::new();
    for message in client.simple_query(sql)? {
        match message {
            SimpleQueryMessage::RowDescription(_) => rows.clear(),
            SimpleQueryMessage::Row(row) => {
                rows.push(Row((0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect()));
            }
            _ => {}
        }
    }
    Ok(rows)
}

pub fn only_value(rows: &[Row], sql: &str) -> String {
    match rows {
        [row] if row.0.len() == 1 => row.get(0).to_owned(),
        _ => panic!("not one value but {} rows: {sql}\n{rows:?}", rows.len()),
    }
}
