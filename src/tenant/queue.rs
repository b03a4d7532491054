//! In which order a queue's tasks are picked.

use crate::pure::choice::choices;

choices! {
    /// How tasks of a queue are picked.
    pub enum Pick {
        /// In the tenant's common order.
        Priority = "priority",
        /// The queue takes turns, always after the same one.
        RoundRobin = "round_robin",
        /// The queue takes turns, and its place among them is drawn.
        Random = "random",
    }
}
