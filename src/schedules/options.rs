//! The rare parameters of a schedule, out of its row and into it.

pub use crate::pure::options::schedule::{OfAll, Options};

use crate::postgres::row::Row;
use crate::postgres::types::Jsonb;
use crate::pure::options::Document;
use crate::tenant::columns::Schedules;
use serde_json::Value as Json;

impl Options {
    /// What its owner has garbled is taken as not given.
    pub fn of(row: &Row<Schedules>) -> Options {
        Options::whole(row).unwrap_or_default()
    }

    /// None: the column holds something else than an object.
    pub fn whole(row: &Row<Schedules>) -> Option<Options> {
        if !row.has(Schedules::OPTIONS) {
            return Some(Options::default());
        }
        match row.get(Schedules::OPTIONS) {
            Some(Json::Null) => Some(Options::default()),
            Some(Json::Object(document)) => Some(Options::read(document)),
            _ => None,
        }
    }

    /// As the column holds them.
    pub fn column(&self) -> Option<Jsonb> {
        self.document().map(Jsonb::from_value)
    }
}
