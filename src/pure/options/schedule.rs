//! What a schedule's row keeps in its column `options`: a tenant's own, and one that is defined for all tenants.

use crate::pure::choice::{AfterOutcome, Said};
use crate::pure::ids::Id;
use crate::pure::options::{Document, id, or_default};
use crate::pure::time::Span;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Options {
    /// First, so that it never takes the place of a field.
    #[serde(flatten)]
    pub rest: Map<String, Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_hours: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub only_if: Option<String>,
    /// The schedules that it comes after.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after_outcome: Option<Said<AfterOutcome>>,
    /// It is one of all tenants.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub all: Option<OfAll>,
    /// Of a definition: the only tenants that it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenants: Option<Vec<String>>,
}

impl Document for Options {
    fn rest(&mut self) -> &mut Map<String, Json> {
        &mut self.rest
    }
}

/// What a tenant's row says of the definition that it was made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfAll {
    /// The definition.
    #[serde(with = "id")]
    pub id: Id,
    /// Its last change that has reached this tenant.
    #[serde(with = "id")]
    pub revision: Id,
    #[serde(default, deserialize_with = "or_default")]
    pub stagger: Span,
}

impl Options {
    /// A parameter whose value is of another type than it can have, and which that is.
    pub fn garbled(&self) -> Option<(&'static str, &'static str)> {
        const TYPES: [(&str, &str); 4] =
            [("after", "an array of names"), ("after_outcome", "a text"), ("active_hours", "a text"), ("only_if", "a text")];
        TYPES.into_iter().find(|(key, _)| self.rest.contains_key(*key))
    }
}
