//! In which order a queue's tasks are picked.

use crate::postgres::error::{Error, Result};

/// How tasks of a queue are picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pick {
    /// In the tenant's common order.
    Priority,
    /// The queue takes turns, always after the same one.
    RoundRobin,
    /// The queue takes turns, and its place among them is drawn.
    Random,
}

impl Pick {
    pub fn parse(text: &str) -> Result<Pick> {
        Ok(match text {
            "priority" => Pick::Priority,
            "round_robin" => Pick::RoundRobin,
            "random" => Pick::Random,
            other => {
                return Err(Error::invalid(format!("pick is \"{other}\"")).hint("It is one of priority, round_robin, random."));
            }
        })
    }
    pub fn name(self) -> &'static str {
        match self {
            Pick::Priority => "priority",
            Pick::RoundRobin => "round_robin",
            Pick::Random => "random",
        }
    }
}
