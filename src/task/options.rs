//! The rare parameters of a task, out of its row and into it.

pub use crate::pure::options::task::{Asked, Flow, Options};

use crate::postgres::column::{self, Column, Relation};
use crate::postgres::row::Row;
use crate::postgres::types::Jsonb;
use crate::pure::options::Document;
use crate::tenant::columns::{Results, Tasks};
use serde_json::Value as Json;

impl Options {
    /// Of a row of tq_task. Most have none: these pay for nothing more than this look.
    pub fn of(row: &Row<Tasks>) -> Options {
        Options::at(row, Tasks::OPTIONS)
    }

    /// Of a row of tq_result.
    pub fn of_result(row: &Row<Results>) -> Options {
        Options::at(row, Results::OPTIONS)
    }

    fn at<R: Relation>(row: &Row<R>, column: Column<R, column::Json>) -> Options {
        match row.get(column) {
            Some(Json::Object(document)) => Options::read(document),
            _ => Options::default(),
        }
    }

    /// As the column holds them.
    pub fn column(&self) -> Option<Jsonb> {
        self.document().map(Jsonb::from_value)
    }
}
