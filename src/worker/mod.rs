//! The three kinds of background worker.

pub mod executor;
pub mod launcher;
pub mod scheduler;
mod sweep;

use crate::{settings, tenant};

/// Settings that decide whether and when schedules fire: the schemas left out, and the zone of those without. Launcher and
/// schedulers hear of a change at different times; each compares.
fn what_plans_depend_on() -> (Vec<String>, String) {
    (settings::exclude_schemas(), tenant::default_zone())
}
