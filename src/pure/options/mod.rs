//! The rare parameters of a row, kept together in one jsonb document, its column `options`.
//!
//! The row is its owner's, who can write anything into it. What can't be understood stays in `rest`, as it is, and takes
//! nothing else with it: a field that is garbled is one that isn't given, and is still there when the rest of the
//! document has been changed.

pub mod schedule;
pub mod task;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value as Json};

/// A struct with a field for each key that means something.
pub trait Document: Serialize + DeserializeOwned + Default {
    /// What has no field, or not one of such a value.
    fn rest(&mut self) -> &mut Map<String, Json>;

    /// Usually it is whole; only where it isn't each key is tried by itself.
    fn read(document: Map<String, Json>) -> Self {
        let document = Json::Object(document);
        if let Ok(whole) = Self::deserialize(&document) {
            return whole;
        }
        let Json::Object(keys) = document else { return Self::default() };
        let (good, bad): (Map<_, _>, Map<_, _>) = keys.into_iter().partition(|(key, value)| {
            let one = Map::from_iter([(key.clone(), value.clone())]);
            Self::deserialize(&Json::Object(one)).is_ok()
        });
        let mut read = Self::deserialize(Json::Object(good)).unwrap_or_default();
        read.rest().extend(bad);
        read
    }

    /// None: nothing worth a column.
    fn document(&self) -> Option<Json> {
        let document = serde_json::to_value(self).expect("plain data");
        document.as_object().is_some_and(|keys| !keys.is_empty()).then_some(document)
    }
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// What isn't one is its default.
fn or_default<'de, D: Deserializer<'de>, T: DeserializeOwned + Default>(from: D) -> Result<T, D::Error> {
    Json::deserialize(from).map(|value| serde_json::from_value(value).unwrap_or_default())
}

/// Ids, which documents have as texts.
mod id {
    use crate::pure::ids::Id;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(id: &Id, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(id)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Id, D::Error> {
        Id::deserialize(from)
    }

    pub mod maybe {
        use super::*;

        pub fn serialize<S: Serializer>(id: &Option<Id>, to: S) -> Result<S::Ok, S::Error> {
            match id {
                Some(id) => super::serialize(id, to),
                None => to.serialize_none(),
            }
        }

        pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Id>, D::Error> {
            super::deserialize(from).map(Some)
        }
    }

    /// What is none is left out.
    pub mod list {
        use super::*;
        use serde_json::Value as Json;

        pub fn serialize<S: Serializer>(ids: &[Id], to: S) -> Result<S::Ok, S::Error> {
            to.collect_seq(ids)
        }

        pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Id>, D::Error> {
            let elements = Vec::<Json>::deserialize(from)?;
            Ok(elements.into_iter().filter_map(|element| super::deserialize(element).ok()).collect())
        }
    }
}
