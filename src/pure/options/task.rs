//! What a task's row keeps in its column `options`.

use crate::pure::choice::{Said, Settled, UniqueUntil};
use crate::pure::ids::{self, Id};
use crate::pure::options::{Document, id, is_false};
use crate::pure::period::Period;
use crate::pure::time::Span;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value as Json};

/// Most tasks have none of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Options {
    /// First, so that it never takes the place of a field.
    #[serde(flatten)]
    pub rest: Map<String, Json>,
    /// Not before so long after the end of what it waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay: Option<Period>,
    /// How long after it may run it must have started: of one that waits, for when that is isn't known before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<Period>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<i32>,
    /// As it was written: whoever reads it understands it or goes on without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub save: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result_ttl: Option<Period>,
    /// Not beside another task of its schedule.
    #[serde(skip_serializing_if = "is_false")]
    pub alone: bool,
    /// How often its handler has put it off without an attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snoozes: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unique_until: Option<Said<UniqueUntil>>,
    /// The key that it had until another task took it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_was: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_success: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hook: Option<String>,
    /// Tasks that it depends on.
    #[serde(skip_serializing_if = "Vec::is_empty", with = "id::list")]
    pub depends: Vec<Id>,
    /// One of them is enough.
    #[serde(skip_serializing_if = "is_false")]
    pub any: bool,
    /// However they end.
    #[serde(skip_serializing_if = "is_false")]
    pub allow_failure: bool,
    /// Of a link: how the task that it stands for has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<Said<Settled>>,
    /// The step before, whose result is the last argument.
    #[serde(skip_serializing_if = "Option::is_none", with = "id::maybe")]
    pub pass: Option<Id>,
    /// Its args are many: the handler is called once for each.
    #[serde(skip_serializing_if = "is_false")]
    pub each: bool,
    /// What must be true for it to run at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub only_if: Option<String>,
    /// The fan-out that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none", with = "id::maybe")]
    pub fanout: Option<Id>,
    /// It does the work of all of this key that are there when it begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stands_for: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked: Option<Asked>,
    /// It is a flow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow: Option<Flow>,
}

impl Options {
    /// Another word than those that are known means what no word does.
    pub fn unique_until(&self) -> UniqueUntil {
        self.unique_until.as_ref().and_then(Said::choice).unwrap_or_default()
    }
}

impl Document for Options {
    fn rest(&mut self) -> &mut Map<String, Json> {
        &mut self.rest
    }
}

/// What a flow's row says of its members.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Flow {
    pub members: u64,
    /// Each has several arguments, and a result for each of them.
    pub chunked: bool,
    /// It is a member of a flow itself.
    #[serde(skip_serializing_if = "is_false")]
    pub inner: bool,
}

impl Flow {
    /// The id of its nth member.
    pub fn member(self, flow: Id, nth: usize) -> Id {
        if self.inner { ids::inner_member_id(flow, nth) } else { ids::member_id(flow, nth) }
    }
}

/// Who, of those that listen to tasks being enqueued, has been asked about it; in the document true, or an array of names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    All,
    These(Vec<String>),
}

impl Asked {
    pub fn contains(&self, name: &str) -> bool {
        match self {
            Asked::All => true,
            Asked::These(names) => names.iter().any(|asked| asked == name),
        }
    }
}

impl Serialize for Asked {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Asked::All => to.serialize_bool(true),
            Asked::These(names) => names.serialize(to),
        }
    }
}

impl<'de> Deserialize<'de> for Asked {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Asked, D::Error> {
        match Json::deserialize(from)? {
            Json::Bool(true) => Ok(Asked::All),
            Json::Array(names) => Ok(Asked::These(names.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect())),
            _ => Err(D::Error::custom("neither true nor an array")),
        }
    }
}
